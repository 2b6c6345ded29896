"""Adversarial preservation (Bui et al. 2024): keep the concept that the erasing would harm most, found anew each step.

min over theta', max over c_a:  L_1 + lam L_2,  L_1 = |eps'(c_e) - target|^2,  L_2 = |eps'(c_a) - eps(c_a)|^2
(Eqs. 6-8, Algorithms 1 and 2). Three ways to search the maximum of L_2, and, to compare with, two that do not search.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from ..draws import generator
from .esd import erasing_term
from .scenes import Noisy, Scene, distance

Search = Callable[[int], tuple[Tensor, Tensor]]
"""At a step: the tokens (m, d) to preserve, and the row of `space` (a number) whose noisy images they are compared on;
-1: the erased concept's."""

AT_ONCE = 64
"""So many concepts are looked at in a batch, for a GPU's memory."""


def preserving_term(scene: Scene, tokens: Tensor, row: Tensor, step: int) -> Tensor:
    """L_2 on a batch: (B,), how far the student is from the teacher at the concept c_a. tokens: (m, d)."""
    n = scene.batch_size
    at = scene.of_erased(step)[0] if row < 0 else scene.of_kept(row.expand(n), step)
    many = tokens.expand(n, -1, -1)
    return distance(scene.eps_student(at.x, at.t, many), scene.eps_teacher(at.x, at.t, many))


def adversarial(
    scene: Scene, search: str = "exact", lam: float = 1.0, eta: float = 1.0, **how: float
) -> Callable[[int], Tensor]:
    """The objective of Algorithm 2, a number for each step. search: one of SEARCHES; how: its own settings.

    eta: of the erasing term, `esd.esd_target`; the slides' Eq. 6 is eta = 0, their code takes 1.
    """
    find = SEARCHES[search](scene, **how)

    def objective(step: int) -> Tensor:
        tokens, row = find(step)
        return erasing_term(scene, step, eta).mean() + lam * preserving_term(scene, tokens, row, step).mean()

    return objective


def exact(scene: Scene, looks: int = 1) -> Search:
    """The maximum itself: L_2 of every concept of the list, on `looks` noisy images each. What any search aims at."""
    rows = torch.arange(len(scene.space))

    def between(at: Noisy) -> Tensor:
        tokens = scene.space[at.row]
        return distance(scene.eps_student(at.x, at.t, tokens), scene.eps_teacher(at.x, at.t, tokens))

    def find(step: int) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            at = scene.of_kept(rows.repeat_interleave(looks), step)
            harm = torch.cat([between(at[some]) for some in torch.arange(len(at.t)).split(AT_ONCE)])
            best = harm.view(-1, looks).mean(1).argmax()
        return scene.space[best], best

    return find


def choice(logits: Tensor, temperature: float, draws: torch.Generator) -> Tensor:
    """A hard Gumbel-softmax draw: one-hot forward, the soft weights' gradient backward (straight-through).

    P(i) = softmax(logits)_i whatever the temperature, which scales only the gradient: so logits that rise by small
    steps are hardly ever followed. logits: (K,). Returns (K,), one-hot.
    """
    noise = -torch.empty_like(logits).exponential_(generator=draws).log()
    soft = F.softmax((logits + noise) / temperature, 0)
    hard = F.one_hot(soft.argmax(), len(logits)).to(soft)
    return hard + (soft - soft.detach())  # in this order exactly one-hot: tokens chosen so are a concept's own


Gain = Callable[[Scene, Tensor, Tensor, int], Tensor]
"""(scene, tokens (m, d), row of `space`, step) -> (B,): what a search raises, as `preserving_term`."""


def ascent(scene: Scene, gain: Gain, rate: float, temperature: float, inner: int) -> Search:
    """A search by ascent on the logits of a Gumbel-softmax choice among the concepts, after which it draws once more.

    gain: what shall be large. rate: Adam's. inner: steps of ascent for each of descent.
    """
    logits = torch.zeros(len(scene.space), requires_grad=True)
    optimiser = torch.optim.Adam([logits], rate)

    def find(step: int) -> tuple[Tensor, Tensor]:
        draws = generator(scene.seed, 4, step)
        for _ in range(inner):
            weights = choice(logits, temperature, draws)
            tokens = torch.einsum("k,kmd->md", weights.to(scene.space), scene.space)
            loss = -gain(scene, tokens, weights.argmax(), step).mean()
            (logits.grad,) = torch.autograd.grad(loss, [logits])
            optimiser.step()
        with torch.no_grad():
            best = choice(logits, temperature, draws).argmax()
        return scene.space[best], best

    return find


def gumbel(scene: Scene, rate: float = 0.1, temperature: float = 2.0, inner: int = 1) -> Search:
    """Algorithm 1 with Eq. 8: `ascent` on L_2.

    rate: the published 0.01 moves a logit by at most 2 in 200 steps, which hardly changes what is chosen: see `choice`.
    """
    return ascent(scene, preserving_term, rate, temperature, inner)


def pgd(scene: Scene, rate: float = 0.5, inner: int = 3) -> Search:
    """Eq. 7: ascent in the continuous space of tokens, from the erased concept on. It leaves the concepts for noise.

    rate: the length of a step, in units of a token's standard deviation. inner: steps of ascent for each of descent.
    """
    tokens = scene.tokens(torch.tensor(scene.rows[:1]))[0].clone()

    def find(step: int) -> tuple[Tensor, Tensor]:
        nonlocal tokens
        row = torch.tensor(-1)
        for _ in range(inner):
            tokens = tokens.detach().requires_grad_(True)
            (gradient,) = torch.autograd.grad(preserving_term(scene, tokens, row, step).mean(), [tokens])
            tokens = tokens + rate * gradient / (gradient.square().mean().sqrt() + 1e-12)
        tokens = tokens.detach()
        return tokens, row

    return find


def random(scene: Scene) -> Search:
    """No search: a concept of the list at random. What a search has to beat."""

    def find(step: int) -> tuple[Tensor, Tensor]:
        row = torch.randint(len(scene.space), (), generator=generator(scene.seed, 4, step))
        return scene.space[row], row

    return find


def neutral(scene: Scene) -> Search:
    """No search: always the null concept, the poor choice that the slides warn of. It must be in the list."""
    row = torch.tensor(scene.space_names.index("null"))
    return lambda step: (scene.space[row], row)


SEARCHES: dict[str, Callable[..., Search]] = {
    "exact": exact,
    "gumbel": gumbel,
    "pgd": pgd,
    "random": random,
    "neutral": neutral,
}
