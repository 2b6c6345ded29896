"""Erased Stable Diffusion (Gandikota et al. 2023): the model learns to steer away from what it knows of the concept."""

from collections.abc import Callable

from torch import Tensor

from .scenes import Scene, distance


def esd_target(told: Tensor, untold: Tensor, eta: float) -> Tensor:
    """What the student shall say when asked for the erased concept: eps(null) - eta (eps(c) - eps(null)).

    eta = 0 is the slides' naive objective (Eq. 5): answer as if nobody had asked. eta > 0 pushes beyond, as guidance of
    negative scale does. All (B, C, H, W), the frozen teacher's.
    """
    return untold - eta * (told - untold)


def erasing_term(scene: Scene, step: int, eta: float) -> Tensor:
    """L_1 of Eqs. 5 and 6 on a batch: (B,), the student's squared distance from `esd_target`."""
    at, tokens = scene.of_erased(step)
    target = esd_target(scene.teacher(at.x, at.t, tokens), scene.teacher(at.x, at.t, scene.nulls(len(at.t))), eta)
    return distance(scene.eps_student(at.x, at.t, tokens), target)


def esd(scene: Scene, eta: float = 1.0) -> Callable[[int], Tensor]:
    """The objective of ESD, a number for each step. eta: the strength of negative guidance."""
    return lambda step: erasing_term(scene, step, eta).mean()
