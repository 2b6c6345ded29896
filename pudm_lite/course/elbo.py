"""The variational bound of Eqs. 1, 2 and 7, with the weights that Eq. 8 drops.

The model is that of the sampler `ddpm`: a step back, p_theta(x_s | x_t), is the posterior q(x_s | x_t, x_0) with the
predicted x_0 in place of x_0 (Eq. 3 with the variance fixed). Over the steps t_1 > ... > t_K that a sampler visits
    -log p_theta(x_0) <= L_T + sum_k w_k ||eps - eps_theta(x_{t_k}, t_k)||^2 + L_0,
in nats (Ho et al. 2020, Eqs. 5 and 8; the weights as Kingma et al. 2021 write them). Fewer steps are another model with
another bound: that of the images which a sampler of so many steps draws. Pixels are 256 levels, evenly spaced over
[-1, 1], so the bound is one of a probability, and a number of bits.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..diffusion import Process, ell, eps_from_output, q_sample
from ..draws import generator
from ..sampling import predicted_x0

Network = Callable[[Tensor, Tensor], Tensor]
"""output(x_t (B, C, H, W), t (B,) int64) -> (B, C, H, W): whatever the process says it predicts."""

LEVELS = 256


@dataclass(frozen=True)
class Bound:
    """The three parts of the bound, in nats, and how many numbers an image has.

    prior: (B,), L_T. steps: (B, K - 1), the divergence of each step back but the last, noisiest first.
    decoder: (B,), L_0, the last step.
    """

    prior: Tensor
    steps: Tensor
    decoder: Tensor
    dimension: int

    @property
    def nats(self) -> Tensor:
        """An upper bound of -log p_theta(x_0) on average over draws: (B,)."""
        return self.prior + self.steps.sum(1) + self.decoder

    @property
    def bits(self) -> Tensor:
        """The same in bits for each pixel and channel: (B,)."""
        return self.nats / (self.dimension * math.log(2))


def step_weights(alpha_bar: Tensor) -> Tensor:
    """What a step's squared error in the noise is multiplied by in the bound: (SNR_s / SNR_t - 1) / 2.

    alpha_bar: (K,), in the order in which a sampler visits them: strictly increasing, inside (0, 1).
    Returns (K - 1,), > 0, for the steps from each to the next.
    """
    log_snr = torch.logit(alpha_bar)
    return torch.expm1(log_snr.diff()) / 2


def prior_nats(x0: Tensor, alpha_bar: float) -> Tensor:
    """L_T, the divergence of q(x_T | x_0) from the standard Gaussian that sampling starts from.

    x0: (B, C, H, W). alpha_bar: what is left of the signal at the noisiest step. Returns (B,), >= 0.
    """
    per_pixel = (alpha_bar * x0.double().square() - alpha_bar - math.log1p(-alpha_bar)) / 2
    return per_pixel.flatten(1).sum(1)


def decoder_nats(x0: Tensor, guess: Tensor, std: float) -> Tensor:
    """L_0: minus the log-probability of the pixels under Gaussians around a guess, each summed up over its level.

    The outermost levels reach to infinity, so that the probabilities of the 256 add up to 1 (Ho et al. 2020, Eq. 13).
    x0, guess: (B, C, H, W); x0 on the levels k / 127.5 - 1. std: of every pixel, > 0. Returns (B,), >= 0.
    """
    x0, guess = x0.double(), guess.double()
    half = 1 / (LEVELS - 1)
    low = torch.where(x0 < -1 + half, -torch.inf, (x0 - half - guess) / std)
    high = torch.where(x0 > 1 - half, torch.inf, (x0 + half - guess) / std)
    flip = low + high > 0  # in the lower tail the logarithm of the normal distribution keeps its digits
    low, high = torch.where(flip, -high, low), torch.where(flip, -low, high)
    upper = torch.special.log_ndtr(high)
    log_probability = upper + torch.log(-torch.expm1(torch.special.log_ndtr(low) - upper))
    return -log_probability.flatten(1).sum(1)


def _noise(x0: Tensor, seed: int, t: int) -> Tensor:
    return torch.randn(x0.shape, generator=generator(seed, t)).to(x0)


def _guess(network: Network, x0: Tensor, process: Process, t: int, seed: int) -> Tensor:
    """The picture predicted from x_t: (B, C, H, W), clipped to [-1, 1]."""
    steps = torch.full((len(x0),), t, device=x0.device)
    x_t = q_sample(x0, steps, _noise(x0, seed, t), process.alpha_bar)
    return predicted_x0(x_t, eps_from_output(network(x_t, steps), x_t, steps, process), process.alpha_bar[t])


@torch.no_grad()
def decoder_std(network: Network, x0: Tensor, process: Process, t: int, seed: int = 0) -> float:
    """The standard deviation of the last step, which goes from x_t to the pixels: how far its guesses are off.

    Eq. 3 leaves it to the model. The root mean squared error is its most likely value for a density; here on images x0
    (B, C, H, W), which should be training images: it is fitted.
    """
    return float((x0 - _guess(network, x0, _beside(x0, process), t, seed)).square().mean().sqrt())


@torch.no_grad()
def bound(network: Network, x0: Tensor, process: Process, grid: Tensor, std: float, seed: int = 0) -> Bound:
    """The bound of the model that samples over `grid`, for each image, with one draw of noise at each step.

    x0: (B, C, H, W), on the levels k / 127.5 - 1, where the network is. grid: (K,), decreasing, as
    `sampling.timestep_grid` makes it. std: of the last step, see `decoder_std`.
    The same seed gives every network the same draws. Returns a `Bound` on the CPU, in float64.
    """
    process = _beside(x0, process)
    visited = process.alpha_bar[grid.to(x0.device)].double().cpu()
    dimension = x0[0].numel()
    errors = [
        ell(network, x0, torch.full((len(x0),), t, device=x0.device), _noise(x0, seed, t), process, dimension)
        for t in grid.tolist()[:-1]
    ]
    guess = _guess(network, x0, process, int(grid[-1]), seed)
    return Bound(
        prior_nats(x0, float(visited[0])).cpu(),
        torch.stack([error.double().cpu() for error in errors], 1) * step_weights(visited),
        decoder_nats(x0.cpu(), guess.cpu(), std),
        dimension,
    )


def _beside(x0: Tensor, process: Process) -> Process:
    return Process(process.alpha_bar.to(x0.device), process.prediction)
