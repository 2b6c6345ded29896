"""Partial completion: the unedited model begins the picture, the edited one completes it."""

import torch
from diffusers.models.unets.unet_2d import UNet2DOutput
from torch import Tensor, nn

from ...sampling import timestep_grid
from ..measures import SAMPLER_STEPS, rate
from .target import Outcome, Target


class HandOver(nn.Module):
    """A network that is `first` at the noisiest steps and `then` below.

    last: the last step of `first`. tokens: (m, d), what `then` is told instead; None: the same.
    """

    def __init__(self, first: nn.Module, then: nn.Module, last: float, tokens: Tensor | None = None) -> None:
        super().__init__()
        self.first, self.then, self.last, self.tokens = first, then, last, tokens
        self.config = then.config

    def forward(self, x: Tensor, t: Tensor, tokens: Tensor) -> UNet2DOutput:
        """x: (B, C, H, W). t: (B,), all alike. tokens: (B, m, d)."""
        if t[0] >= self.last:
            return self.first(x, t, tokens)
        return self.then(x, t, tokens if self.tokens is None else self.tokens.to(tokens).expand_as(tokens))


def handed_over(target: Target, share: float, told: bool = True) -> HandOver:
    """The unedited model for this share of the sampler's steps, then the edited one; or, where not told, then the
    unedited one at the null concept."""
    grid = timestep_grid(target.process.steps, SAMPLER_STEPS)
    kept = round(share * SAMPLER_STEPS)
    last = float(grid[kept - 1]) if kept else torch.inf
    if told:
        return HandOver(target.before.network, target.after.network, last)
    return HandOver(target.before.network, target.before.network, last, target.before.concepts.null.data)


def completion(target: Target, share: float, curve: tuple[float, ...]) -> Outcome:
    """The unedited model draws the first `share` of the steps, the edited one the rest, both asked for the concept.

    Sharma et al. 2024, "Unlearning or concealment?". An edit that only turns the first steps away still completes what
    others began. But from some share on the digit is settled whoever completes it: that is the control, the unedited
    model told nothing after the hand-over. Published: the first 0, 1 or 2 of 50 steps (Lu et al. 2025). Ours: 2 of 14.
    curve: further shares; 0 gives the edited model's pictures, 1 the unedited model's.
    """

    def hits(at: float, told: bool = True) -> Tensor:
        return target.drawn(handed_over(target, at, told), target.tokens)

    return Outcome(hits(share), tuple((at, rate(hits(at))) for at in curve), rate(hits(share, told=False)))
