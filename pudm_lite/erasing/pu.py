"""Conditional PU fine-tuning: the first paper's risk (Takahashi et al. 2025, Eqs. 19 and 20) as a way to erase."""

from collections.abc import Callable
from math import prod

import torch
from torch import Tensor

from ..diffusion import noise_error
from ..draws import generator
from ..errors import UserError
from ..risks import nnpu
from .scenes import Scene


def pu(
    scene: Scene, beta: float | None = None, ell_scale: float = 0.0, label_drop: float = 0.1
) -> Callable[[int], Tensor]:
    """The objective of Algorithm 1 on l(x, c), a number for each step. It trains all that the filter lets it.

    U is the real images of all concepts, with their labels; S those of the erased ones, an eighth of each batch, from a
    stream of its own. beta: the share of S's concepts in U, the one realised in the images where it is None.
    ell_scale: times the mean squared error; 0: C*H*W, which gives Eq. 8. At that scale the push on S is over before it
    begins, and with the true beta the erased concept's own prompt has no weight at all: U's images of it and S cancel.
    label_drop: the share of images of both that the network is told null of, so that null forgets as well.
    """
    sensitive, kept = scene.real(erased=True), scene.real(erased=False)
    unlabeled, scale = torch.cat([sensitive, kept]), ell_scale or float(prod(scene.shape))
    share = len(sensitive) / len(unlabeled) if beta is None else beta
    if not 0 < share < 1:
        raise UserError(f"beta must lie inside (0, 1), the share of the erased concepts in U; got {share}")
    of_s = max(1, scene.batch_size // 8)
    of_u = max(1, scene.batch_size - of_s)

    def objective(step: int) -> Tensor:
        at = torch.cat([scene.pick(unlabeled, of_u, 2 * step), scene.pick(sensitive, of_s, 2 * step + 1)])
        noisy, eps = scene.of_real(at, step)
        dropped = torch.rand(len(at), generator=generator(scene.seed, 6, step)) < label_drop
        told = torch.where(dropped, -1, noisy.row)  # -1: the null concept
        errors = noise_error(eps, scene.eps_student(noisy.x, noisy.t, scene.tokens(told)), scale)
        return nnpu(errors[:of_u], errors[of_u:], share).objective

    return objective
