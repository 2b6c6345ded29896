"""The samples of a run: each process draws its share, and a batch that lies on disk is not drawn again."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..diffusion import Process
from ..files import write_arrays
from ..networks import image_shape
from ..sampling import draw, images_at_once


def draw_share(
    network: nn.Module,
    process: Process,
    n: int,
    folder: Path,
    rank: int,
    processes: int,
    progress: Callable[[int, int], None] = lambda done, of: None,
    **how: Any,
) -> list[Path]:
    """Draw those of the images 0 .. n - 1 that fall to this process and are not in `folder` yet, a file each batch.

    A batch is the same whoever draws it, so neither the number of processes nor a cut changes a picture. A cut loses
    the batch at work in each process.
    rank, processes: batches are dealt out in turn. how: sampler, steps and seed, as `draw` takes them; `folder` holds
    only what one network drew in one such way. progress: called with (images in the folder, n) after every batch.
    Returns the files of all the batches in their order, for `gather`, to be opened when every process is done.
    Raises ValueError as `draw` does, and UserError when the folder cannot be written.
    """
    size = images_at_once(image_shape(network))
    counts = {first: min(size, n - first) for first in range(0, n, size)}
    files = {first: folder / f"{first:06d}-{first + count:06d}.npz" for first, count in counts.items()}
    for first in list(files)[rank::processes]:
        if not files[first].exists():
            images = draw(network, process, counts[first], **how, first=first)
            write_arrays(files[first], images=images.numpy())
        progress(sum(counts[each] for each, file in files.items() if file.exists()), n)
    return list(files.values())


def gather(files: list[Path]) -> Tensor:
    """The images of `draw_share`'s files, (n, C, H, W) uint8."""
    parts = []
    for file in files:
        with np.load(file) as arrays:
            parts.append(torch.from_numpy(arrays["images"]))
    return torch.cat(parts)
