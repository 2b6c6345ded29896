"""Adaptive guided erasure (Bui et al. 2025, "Fantastic targets"): the target of erasing is searched, too."""

from collections.abc import Callable

from torch import Tensor

from .esd import esd_target
from .preservation import ascent, preserving_term
from .scenes import Scene, distance


def targeted_term(scene: Scene, tokens: Tensor, step: int, eta: float) -> Tensor:
    """|eps'(c_e) - [eps(c_t) - eta (eps(c_e) - eps(c_t))]|^2 on a batch: (B,), the erased concept's distance from a
    target c_t in the place that the null concept has in `esd.esd_target`. tokens: (m, d), those of c_t, which the
    gradient reaches through the teacher."""
    at, told = scene.of_erased(step)
    aim = scene.eps_teacher(at.x, at.t, tokens.expand(len(at.t), -1, -1))
    target = esd_target(scene.teacher(at.x, at.t, told), aim, eta)
    return distance(scene.eps_student(at.x, at.t, told), target)


def age(
    scene: Scene,
    lam: float = 1.0,
    eta: float = 1.0,
    rate: float = 0.1,
    temperature: float = 0.1,
    inner: int = 1,
    cut: bool = False,
) -> Callable[[int], Tensor]:
    """The objective of AGE, a number for each step: min over theta', max over c_t of

    `targeted_term` + lam |eps'(c_t) - eps(c_t)|^2, the target being preserved as well. It trains what ESD trains. The
    maximum is searched by `preservation.ascent`, over both terms, as the paper writes it.

    cut: as published instead, where the target is cut off from the gradient of the first term, so that the second alone
    moves the logits, and the search is that of adversarial preservation. rate, temperature, inner: of the search.
    """

    def gain(scene: Scene, tokens: Tensor, row: Tensor, step: int) -> Tensor:
        preserved = lam * preserving_term(scene, tokens, row, step)
        return preserved if cut else targeted_term(scene, tokens, step, eta) + preserved

    find = ascent(scene, gain, rate, temperature, inner)

    def objective(step: int) -> Tensor:
        tokens, row = find(step)
        first = targeted_term(scene, tokens, step, eta)
        return first.mean() + lam * preserving_term(scene, tokens, row, step).mean()

    return objective
