"""Selective Amnesia (Heng & Soh 2023): forgetting as continual learning, with what shall stay held by its Fisher."""

from collections.abc import Callable, Iterable
from math import prod

import torch
from torch import Tensor

from ..diffusion import noise_error
from ..draws import generator
from .scenes import Noisy, Scene


def fisher(losses: Iterable[Tensor], parameters: list[Tensor]) -> list[Tensor]:
    """The diagonal of the empirical Fisher information: the mean over examples of the squared gradient of -log p.

    losses: numbers, each the l(x, c) of one example, a sum over pixels, in place of its -log p. Returns a tensor like
    each parameter; zeros for one that no loss depends on.
    """
    sums, n = [torch.zeros_like(p) for p in parameters], 0
    for loss in losses:
        n += 1
        for total, gradient in zip(sums, torch.autograd.grad(loss, parameters, allow_unused=True), strict=True):
            if gradient is not None:
                total += gradient.square()
    return [total / n for total in sums]


def drift(parameters: list[Tensor], before: list[Tensor], weights: list[Tensor]) -> Tensor:
    """sum_i F_i (theta_i - theta*_i)^2, the penalty of elastic weight consolidation: a number."""
    return torch.stack(
        [(w * (p - b).square()).sum() for p, b, w in zip(parameters, before, weights, strict=True)]
    ).sum()


def selective_amnesia(
    scene: Scene, gamma: float = 1.0, lam: float = 10.0, examples: int = 100
) -> Callable[[int], Tensor]:
    """The objective of Selective Amnesia, a number for each step. It trains all that the filter lets it.

    E_q |eps - eps'(x_t, c)|^2 + gamma E_kept |eps - eps'(x_t, c')|^2 + lam sum_i F_i (theta_i - theta*_i)^2: asked for
    the erased concept it learns to draw a surrogate q, images of uniform noise; real images of the kept concepts are
    replayed, half of each batch; and parameters move the less, the more the trained model's likelihood depends on them.
    Squares are sums over pixels, as l of Eq. 8, which lam depends on. examples: real images that F is estimated on.
    """
    before, pixels = [p.detach().clone() for p in scene.trained], float(prod(scene.shape))
    forget, kept, half = scene.real(erased=True), scene.real(erased=False), max(1, scene.batch_size // 2)

    def errors(noisy: Noisy, eps: Tensor) -> Tensor:
        """l(x, c), the network being told what the images are: (n,)."""
        return noise_error(eps, scene.eps_student(noisy.x, noisy.t, scene.tokens(noisy.row)), pixels)

    looked_at = scene.pick(torch.cat([forget, kept]), examples, 0)
    one_by_one = (errors(*scene.of_real(at, step)).sum() for step, at in enumerate(looked_at.split(1)))
    weights = fisher(one_by_one, scene.trained)
    told = torch.tensor(scene.rows)[torch.arange(half) % len(scene.rows)]

    def objective(step: int) -> Tensor:
        surrogate = torch.rand((half, *scene.shape), generator=generator(scene.seed, 6, step)) * 2 - 1
        real, labels = scene.labelled(scene.pick(kept, half, step))
        noisy, eps = scene.noised(torch.cat([surrogate, real]), torch.cat([told, labels]), examples + step)
        forgetting, replay = errors(noisy, eps).chunk(2)
        return forgetting.mean() + gamma * replay.mean() + lam * drift(scene.trained, before, weights)

    return objective
