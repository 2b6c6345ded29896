"""Timesteps drawn by how much their errors vary, and weights that undo it (Nichol & Dhariwal 2021, Section 3.3).

Eq. 8 draws t uniformly. Drawn with probability P(t) and multiplied by 1 / (T P(t)), the mean of l is the same, and its
variance is least where P(t) is proportional to the root of E[l_t^2]: l spans three orders of magnitude over t, so a
uniform draw spends most of a batch where there is nothing to learn. A weight multiplies an example's *cost*
(`risks.py`), never the l inside it.
"""

from typing import Any

import torch
from torch import Tensor

BINS = 50
"""Into so many equal parts is 0..T-1 cut; within a part t is uniform."""
UNIFORM_SHARE = 0.05
"""This share of the draws stays uniform, so that no weight is larger than 1 / UNIFORM_SHARE."""
UNIFORM_STEPS = 20
"""For so many training steps all draws are uniform, until each part has been seen."""
KEEP = 0.98
"""A new l^2 moves the running mean of its part by 1 - KEEP; see `Importance.update`."""


class Importance:
    """Running means of l^2 over the parts of 0..T-1, and draws of t by their roots.

    steps: T. device: where l comes from; the means stay there, so that no step waits for them.
    """

    def __init__(self, steps: int, device: torch.device | str = "cpu") -> None:
        self.steps = steps
        self.squares = torch.ones(BINS, dtype=torch.float64, device=device)
        self.updates = 0

    def shares(self) -> Tensor:
        """How often each part is drawn: (BINS,) float64, positive, sum 1."""
        if self.updates < UNIFORM_STEPS:
            return torch.full_like(self.squares, 1 / BINS)
        roots = self.squares.sqrt()
        return (1 - UNIFORM_SHARE) * roots / roots.sum() + UNIFORM_SHARE / BINS

    def draw(self, quantiles: Tensor) -> tuple[Tensor, Tensor]:
        """Timesteps at quantiles of their distribution, and the weights that make up for it.

        quantiles: (n,) float64 in [0, 1), such as `diffusion.quantiles` draws; even ones give even draws.
        Returns t (n,) int64 in [0, T), and 1 / (T P(t)), (n,) float32, at most 1 / UNIFORM_SHARE.
        """
        shares = self.shares()
        upper = torch.cumsum(shares, 0)
        part = torch.searchsorted(upper, quantiles, right=True).clamp_(max=BINS - 1)
        inside = ((quantiles - (upper - shares)[part]) / shares[part]).clamp_(0, 1)
        t = ((part + inside) * (self.steps / BINS)).long()
        return t.clamp_(max=self.steps - 1), (1 / (BINS * shares[part])).float()

    def sums(self, t: Tensor, ell: Tensor) -> Tensor:
        """What `update` needs of errors, which adds up over pieces and processes. t, ell: (n,). Returns (2, BINS)."""
        part = self._part(t)
        counts = torch.zeros_like(self.squares).index_add_(0, part, torch.ones_like(ell, dtype=torch.float64))
        return torch.stack([counts, torch.zeros_like(counts).index_add_(0, part, ell.detach().double().square())])

    def update(self, sums: Tensor) -> None:
        """Move the means of l^2 towards those of a batch: by 1 - KEEP for each of its errors, faster at the start."""
        counts, squares = sums
        keep = 0.7 if self.updates < 2 * UNIFORM_STEPS else KEEP
        mean = squares / counts.clamp(min=1)
        self.squares = torch.where(counts > 0, torch.lerp(mean, self.squares, keep**counts), self.squares)
        self.updates += 1

    def _part(self, t: Tensor) -> Tensor:
        return (t * BINS).div(self.steps, rounding_mode="floor")

    def state_dict(self) -> dict[str, Any]:
        return {"squares": self.squares, "updates": self.updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.squares = state["squares"].to(self.squares)
        self.updates = state["updates"]
