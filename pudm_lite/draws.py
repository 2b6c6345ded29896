"""Every random draw has an address: a tuple of integers, such as (seed, step), seeds its own generator.

So a resumed run draws what the unbroken one would have, and no draw depends on the device or on what came before.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

STREAMS = ("pooled", "two")


def generator(*address: int) -> torch.Generator:
    """The CPU generator at an address of non-negative integers.

    The address is led by its length: a SeedSequence alone pads with zeros and would take (5, 3) for (5, 3, 0).
    """
    (word,) = np.random.SeedSequence((len(address), *address)).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(word >> np.uint64(1)))


@dataclass(frozen=True)
class Batch:
    """One mini-batch. u: positions in U. s: positions in S. Both int64.

    flips: (len(u) + len(s),) bool, which images are mirrored, U first; None where none is.
    """

    u: Tensor
    s: Tensor
    flips: Tensor | None = None


@lru_cache(maxsize=8)
def _permutation(seed: int, stream: int, epoch: int, n: int) -> Tensor:
    return torch.randperm(n, generator=generator(seed, stream, epoch))


def _positions(seed: int, stream: int, n: int, first: int, count: int) -> Tensor:
    """Draws first .. first + count - 1 of an endless sequence of shuffles of 0..n-1: every image once an epoch."""
    drawn = [torch.zeros(0, dtype=torch.int64)]
    while count:
        epoch, at = divmod(first, n)
        part = _permutation(seed, stream, epoch, n)[at : at + count]
        drawn.append(part)
        first, count = first + len(part), count - len(part)
    return torch.cat(drawn)


def draw_batch(stream: str, n_u: int, n_s: int, size: int, s_per_batch: int, seed: int, step: int) -> Batch:
    """The mini-batch of a step, B in Algorithm 1.

    stream: `pooled` draws from U and S together, as Algorithm 1 is written: the number of sensitive images varies from
        batch to batch around size * n_s / (n_u + n_s). `two` draws s_per_batch from S and the rest from U.
    Raises ValueError for an unknown stream.
    """
    if stream == "pooled":
        pool = _positions(seed, 0, n_u + n_s, step * size, size)
        return Batch(pool[pool < n_u], pool[pool >= n_u] - n_u)
    if stream == "two":
        u = _positions(seed, 1, n_u, step * (size - s_per_batch), size - s_per_batch)
        return Batch(u, _positions(seed, 2, n_s, step * s_per_batch, s_per_batch))
    raise ValueError(f"unknown way to draw batches {stream!r}; known: {', '.join(STREAMS)}")


class Ahead:
    """What a function makes of each step, made one step ahead in a thread, so that a GPU does not wait for its host.

    threaded: False makes it when it is asked for; the values are the same, as each has its address.
    """

    def __init__(self, make: Callable[[int], Any], threaded: bool) -> None:
        self.make = make
        self.thread = ThreadPoolExecutor(1) if threaded else None
        self.ahead: tuple[int, Future[Any]] | None = None

    def __call__(self, step: int) -> Any:
        if self.thread is None:
            return self.make(step)
        at, future = self.ahead or (-1, None)
        made = future.result() if future is not None and at == step else self.make(step)
        self.ahead = step + 1, self.thread.submit(self.make, step + 1)
        return made
