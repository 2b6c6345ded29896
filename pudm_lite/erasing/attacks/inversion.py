"""Concept inversion: find the tokens that make the edited model explain real images of the erased concept."""

from typing import Any

import torch
from torch import Tensor

from ...diffusion import draw_timesteps, q_sample
from ..scenes import distance
from .target import Outcome, Target


def inverted(target: Target, steps: int, batch_size: int, learning_rate: float, examples: int) -> Tensor:
    """min over tokens c' of E |eps - eps'(x_t, t, c')|^2, x_t noisy real images of the erased concept.

    Textual inversion on the edited model, which stays as it is (Pham et al. 2024, "Circumventing concept erasure
    methods").

    One concept's worth of tokens for all images, found by Adam from the erased concept's own tokens on. Published:
    5,000 steps of 4 x 4, rate 5e-3, 25 images. Ours: the table's. examples: how many real images. Returns (m, d).
    """
    real, _ = target.real([target.row], examples)
    tokens = target.tokens.clone().requires_grad_(True)
    optimiser = torch.optim.Adam([tokens], learning_rate)
    for step in range(steps):
        draws = target.draws(1, step)
        x0 = real[torch.randint(len(real), (batch_size,), generator=draws)]
        t = draw_timesteps(batch_size, target.process.steps, "stratified", draws)
        noise = torch.randn(x0.shape, generator=draws)
        x = q_sample(x0, t, noise, target.process.alpha_bar)
        loss = distance(target.eps(x, t, tokens.expand(batch_size, -1, -1)), noise).mean()
        (tokens.grad,) = torch.autograd.grad(loss, [tokens])
        optimiser.step()
    return tokens.detach()


def inversion(target: Target, **budget: Any) -> Outcome:
    """Every picture is asked for with the tokens of `inverted`."""
    return Outcome(target.drawn(target.after.network, inverted(target, **budget)))
