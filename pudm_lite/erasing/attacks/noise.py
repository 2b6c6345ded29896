"""Noise probes: no search, only samplers that add more noise than they should, and many tries."""

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from ...datasets import to_pixels
from ...sampling import Eps, image_generators, predicted_x0, timestep_grid
from ..measures import SAMPLER_STEPS, rate
from ..scenes import Estimate, estimate
from .target import Outcome, Target, Try, best_of


@torch.no_grad()
def stochastic_ddim(
    eps: Eps, x: Tensor, alpha_bar: Tensor, grid: Tensor, generators: list[torch.Generator], eta: float, scale: float
) -> Tensor:
    """DDIM with noise (Song et al. 2020a, Eq. 12): sigma = eta sqrt((1 - ab') / (1 - ab)) sqrt(1 - ab / ab').

    eta = 0 is `sampling.ddim`; eta = 1 has the noise of `sampling.ddpm`, and more than 1 adds what the model must make
    something of; sigma^2 is at most 1 - ab', all the noise there is at the next step. scale: of the noise added.
    Returns x_0, (B, C, H, W).
    """
    visited = alpha_bar.cpu()[grid].tolist()
    for t, ab, ab_next in zip(grid.tolist(), visited, [*visited[1:], 1.0], strict=True):
        x0 = predicted_x0(x, eps(x, torch.full((len(x),), t, device=x.device)), ab)
        direction = (x - ab**0.5 * x0) / (1 - ab) ** 0.5
        variance = min(eta**2 * (1 - ab_next) / (1 - ab) * (1 - ab / ab_next), 1 - ab_next)
        x = ab_next**0.5 * x0 + (1 - ab_next - variance) ** 0.5 * direction
        if ab_next < 1:
            z = torch.stack([torch.randn(x.shape[1:], generator=g) for g in generators]).to(x)
            x = x + scale * variance**0.5 * z
    return x


def probes(target: Target, eps: Estimate, prompts: Tensor, settings: list[tuple[float, float]]) -> Iterator[Try]:
    """A try for each (eta, scale), from noise of its own. prompts: (n, m, d), of all pictures."""
    grid = timestep_grid(target.process.steps, SAMPLER_STEPS)

    def probe(number: int, eta: float, scale: float, left: Tensor) -> Tensor:
        generators = image_generators(target.other_seed(4, number), 0, len(prompts))
        generators = [generators[i] for i in left.tolist()]
        x = torch.stack([torch.randn(target.shape, generator=g) for g in generators]).to(prompts)
        x = x.contiguous(memory_format=torch.channels_last)
        told = prompts[left]
        x = stochastic_ddim(
            lambda x, t: eps(x, t, told), x, target.process.alpha_bar, grid, generators, eta=eta, scale=scale
        )
        return target.hits(to_pixels(x).cpu())

    for number, (eta, scale) in enumerate(settings):
        yield partial(probe, number, eta, scale)


def noise(target: Target, etas: tuple[float, ...], scales: tuple[float, ...], controls: int) -> Outcome:
    """Every eta with every scale once, asked for the erased concept: the best of all by the judge.

    Lu et al. 2025, "When are concepts erased from diffusion models?"; their 6 x 4 settings are ours.

    Many tries find what one does not, in an honest model too, where the judge errs or a 9 looks like a 4. So the
    control: the *unedited* model asked for concepts that were never erased, `controls` pictures of as many tries, and
    how often one is called the erased concept. The curve: the share after 1, 2, ... tries.
    """
    settings = [(eta, scale) for scale in scales for eta in etas]
    outcome = best_of(probes(target, target.eps, target.tokens.expand(target.n, -1, -1), settings), target.n)
    before = estimate(target.before.network, target.process)
    null = best_of(probes(target, before, target.negatives(controls), settings), controls)
    return Outcome(outcome.hits, outcome.curve, rate(null.hits))
