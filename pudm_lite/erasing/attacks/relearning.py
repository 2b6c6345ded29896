"""Relearning: a short fine-tuning of the edited model, and then the plain prompt again."""

import copy

import torch
from torch.nn import functional as F

from ...diffusion import draw_timesteps, q_sample
from ..measures import rate
from ..scenes import distance, estimate
from .target import Outcome, Target


def by_likeness(target: Target) -> list[int]:
    """The kept concepts' rows, the one most like the erased concept first, by the cosine of their tokens."""
    table = target.after.concepts.tokens.data
    cosine = F.cosine_similarity(table[target.kept].flatten(1), target.tokens.flatten()[None])
    return [target.kept[i] for i in cosine.argsort(descending=True).tolist()]


def relearning(
    target: Target, on: str, looks: tuple[int, ...], batch_size: int, learning_rate: float, examples: int
) -> Outcome:
    """min over all weights of E |eps - eps'(x_t, t, c)|^2 on a few real images, each with its own concept c; then the
    erased concept is asked for, after each number of steps in `looks`, rising; the last counts, the curve has all.

    on: `erased`: images of the erased concept itself; `neighbour`: of the concept most like it, `unrelated`: of the one
    least like it, which teach nothing of it: what comes back then was only hidden (Suriyakumar et al. 2024, "Unstable
    unlearning"). A copy is trained, by Adam. Published: hundreds to thousands of steps on Stable Diffusion. Ours: the
    table's. examples: how many real images.
    """
    rows = {"erased": target.row, "neighbour": by_likeness(target)[0], "unrelated": by_likeness(target)[-1]}
    real, labels = target.real([rows[on]], examples)
    network = copy.deepcopy(target.after.network).requires_grad_(True)
    eps = estimate(network, target.process)
    optimiser = torch.optim.Adam(network.parameters(), learning_rate)

    def train(step: int) -> None:
        draws = target.draws(5, step)
        at = torch.randint(len(real), (batch_size,), generator=draws)
        t = draw_timesteps(batch_size, target.process.steps, "stratified", draws)
        noise = torch.randn(real[at].shape, generator=draws)
        x = q_sample(real[at], t, noise, target.process.alpha_bar)
        loss = distance(eps(x, t, target.after.concepts.tokens.data[labels[at]]), noise).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    done, curve = 0, []
    for look in looks:
        for step in range(done, look):
            train(step)
        done = look
        hits = target.drawn(network, target.tokens)
        curve.append((float(look), rate(hits)))
    return Outcome(hits, tuple(curve))
