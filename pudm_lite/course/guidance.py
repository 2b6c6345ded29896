"""Classifier-free guidance where everything is known: concepts that are Gaussians on a line.

Noising a Gaussian gives another (Eq. 5), so the noisy density of every concept, the posterior p_t(c | x), the score
and the best answers to a prompt and to null are closed forms. What a sampler makes of guided scores can be followed
without a random number: its path is deterministic, and on a line no two paths cross.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import pi

import torch
from torch import Tensor

Score = Callable[[Tensor, float], Tensor]
"""score(x (n,), alpha_bar) -> (n,)."""


@dataclass(frozen=True)
class Line:
    """K concepts on a line, and no condition: their mixture.

    shares: (K,), how frequent each is, adding up to 1. means, stds: (K,), of its Gaussian.
    alpha_bar below is the signal share of Eq. 5; 1 where there is no noise.
    """

    shares: Tensor
    means: Tensor
    stds: Tensor

    def log_densities(self, x: Tensor, alpha_bar: float = 1.0) -> Tensor:
        """log p_t(x | c) for every concept. x: (n,). Returns (n, K)."""
        variance = alpha_bar * self.stds.square() + 1 - alpha_bar
        gap = x[:, None] - alpha_bar**0.5 * self.means
        return -(gap.square() / variance + torch.log(2 * pi * variance)) / 2

    def log_density(self, x: Tensor, alpha_bar: float = 1.0) -> Tensor:
        """log p_t(x), of the mixture. x: (n,). Returns (n,)."""
        return (self.shares.log() + self.log_densities(x, alpha_bar)).logsumexp(1)

    def posterior(self, x: Tensor, alpha_bar: float = 1.0) -> Tensor:
        """p_t(c | x) by Bayes' rule. x: (n,). Returns (n, K), rows adding up to 1."""
        return (self.shares.log() + self.log_densities(x, alpha_bar)).softmax(1)

    def scores(self, x: Tensor, alpha_bar: float = 1.0) -> Tensor:
        """d/dx log p_t(x | c) for every concept. x: (n,). Returns (n, K)."""
        variance = alpha_bar * self.stds.square() + 1 - alpha_bar
        return (alpha_bar**0.5 * self.means - x[:, None]) / variance

    def guided_score(self, x: Tensor, concept: int, scale: float, alpha_bar: float = 1.0) -> Tensor:
        """What guidance follows: the score of the mixture, plus `scale` times its gap to the concept's. x: (n,).

        It is d/dx of `log_named` at the same alpha_bar. Returns (n,).
        """
        scores = self.scores(x, alpha_bar)
        null = (self.posterior(x, alpha_bar) * scores).sum(1)
        return null + scale * (scores[:, concept] - null)

    def log_named(self, x: Tensor, concept: int, scale: float, alpha_bar: float = 1.0) -> Tensor:
        """log p_t(x) + scale log p_t(c | x), the density that guidance names, without its constant. x: (n,)."""
        log_posterior = (self.shares.log() + self.log_densities(x, alpha_bar)).log_softmax(1)[:, concept]
        return self.log_density(x, alpha_bar) + scale * log_posterior


def normalised(log_density: Tensor, x: Tensor) -> Tensor:
    """The density on an even grid whose logarithm is known up to a constant. log_density, x: (n,). Returns (n,)."""
    density = (log_density - log_density.max()).exp()
    return density / torch.trapezoid(density, x)


def noised(density: Tensor, x: Tensor, alpha_bar: float) -> Tensor:
    """The density of x_t, Eq. 5, where that of x_0 is given on an even grid. density, x: (n,). Returns (n,)."""
    kernel = (-(x[:, None] - alpha_bar**0.5 * x).square() / (2 * (1 - alpha_bar))).exp()
    kernel = kernel / (2 * pi * (1 - alpha_bar)) ** 0.5
    return torch.trapezoid(kernel * density, x, dim=1)


def flow(score: Score, z: Tensor, steps: int = 600, log_snr: float = 12.0) -> Tensor:
    """Where DDIM's path ends that begins at the noise z. z: (n,). Returns (n,).

    steps: of the path, even in log-SNR from -log_snr to log_snr, and one more to the clean end. With the score of a
    density at every noise level the ends of standard normal z have that density, up to the length of a step.
    """
    alpha_bar = torch.sigmoid(torch.linspace(-log_snr, log_snr, steps, dtype=torch.float64)).tolist()
    x = z.double()
    for ab, ab_next in zip(alpha_bar, [*alpha_bar[1:], 1.0], strict=True):
        slope = score(x, ab)
        x0 = (x + (1 - ab) * slope) / ab**0.5
        x = ab_next**0.5 * x0 - ((1 - ab_next) * (1 - ab)) ** 0.5 * slope
    return x


def quantile_noise(n: int) -> Tensor:
    """n noises that stand for the standard Gaussian: its quantiles, evenly spaced. Returns (n,) float64, increasing."""
    return torch.special.ndtri((torch.arange(n, dtype=torch.float64) + 0.5) / n)


def flow_density(z: Tensor, ends: Tensor) -> Tensor:
    """The density of the ends of paths: that of z, divided by how much the paths spread. z, ends: (n,), increasing."""
    return (-z.square() / 2).exp() / (2 * pi) ** 0.5 / torch.gradient(ends, spacing=(z,))[0]
