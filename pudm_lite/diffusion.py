"""The forward process (Eqs. 4-6) and the noise error l(x) (Eq. 8), one number per example.

Equation numbers are those of Takahashi et al., "Positive-Unlabeled Diffusion Models" (ICLR 2025).
The paper counts steps t = 1..T; the code counts t = 0..T-1, as Diffusers does.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import pi

import torch
from torch import Tensor

SCHEDULES = ("linear", "cosine", "lite")
PREDICTIONS = ("epsilon", "v_prediction", "sample")  # Diffusers' names
TIMESTEPS = ("uniform", "stratified")


def noise_schedule(name: str, steps: int = 1000) -> Tensor:
    """The cumulative signal share alpha_bar_t of Eq. 5.

    name: `linear` (Ho et al. 2020: beta from 1e-4 to 0.02), `cosine` (Nichol & Dhariwal 2021) or
        `lite` (`cosine` moved to noisier images and ended at log-SNR 1, see `shifted_cosine`).
    steps: T.
    Returns (T,) float64, strictly decreasing, inside (0, 1).
    Raises ValueError for an unknown name.
    """
    if name == "linear":
        return torch.cumprod(1 - torch.linspace(1e-4, 0.02, steps, dtype=torch.float64), 0)
    if name == "cosine":
        return shifted_cosine(steps, shift=0.0)
    if name == "lite":
        return shifted_cosine(steps, shift=-1.5, log_snr_max=1.0)
    raise ValueError(f"unknown noise schedule {name!r}; known: {', '.join(SCHEDULES)}")


def shifted_cosine(steps: int, shift: float, log_snr_max: float = 9.0, log_snr_min: float = -9.0) -> Tensor:
    """The cosine schedule with its log signal-to-noise ratio moved by `shift`.

    Eq. 8 weighs every *step* alike, so the schedule decides how much each *noise level* counts. Under the
    plain cosine schedule half of all steps are above log-SNR 0, where the digit is already plain to see; what
    decides its class is settled below. A negative shift moves the uniform draws of t there and leaves Eq. 8
    itself untouched. (Moving the schedule and weighting the loss are two views of one thing: Kingma & Gao 2023.)

    The two limits cut off the ends of the schedule. A digit at log-SNR 1 is settled: a sampler may step from there to
    the predicted x_0 at once, so a short training need not spend steps on images cleaner than that.

    steps: T. shift: added to log(alpha_bar / (1 - alpha_bar)). log_snr_max, log_snr_min: of the first and last step.
    Returns (T,) float64, strictly decreasing.
    """

    def quantile(log_snr: float) -> float:  # the inverse of log_snr(u) = -2 log tan(pi u / 2) + shift
        return 2 / pi * float(torch.atan(torch.exp(torch.tensor((shift - log_snr) / 2, dtype=torch.float64))))

    u = torch.linspace(quantile(log_snr_max), quantile(log_snr_min), steps, dtype=torch.float64)
    return torch.sigmoid(-2 * torch.log(torch.tan(pi * u / 2)) + shift)


@dataclass(frozen=True)
class Process:
    """A forward process: how much signal is left at each step, and what the network predicts there.

    alpha_bar: (T,) float32, from `noise_schedule`.
    prediction: `epsilon`, `v_prediction` (v = sqrt(ab) eps - sqrt(1 - ab) x0, Salimans & Ho 2022) or `sample` (x0).
        Whatever the network predicts, l(x) is computed on eps, as Eq. 8 wants.
    """

    alpha_bar: Tensor
    prediction: str = "epsilon"

    def __post_init__(self) -> None:
        if self.prediction not in PREDICTIONS:
            raise ValueError(f"unknown prediction {self.prediction!r}; known: {', '.join(PREDICTIONS)}")

    @property
    def steps(self) -> int:
        return len(self.alpha_bar)


def q_sample(x0: Tensor, t: Tensor, eps: Tensor, alpha_bar: Tensor) -> Tensor:
    """Noisy images x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps, Eq. 6.

    x0, eps: (B, C, H, W), images in [-1, 1] and standard Gaussian noise. t: (B,) int in [0, T).
    Returns (B, C, H, W).
    """
    ab = alpha_bar[t].to(x0.dtype).view(-1, 1, 1, 1)
    return ab.sqrt() * x0 + (1 - ab).sqrt() * eps


def eps_from_output(output: Tensor, x_t: Tensor, t: Tensor, process: Process) -> Tensor:
    """The noise estimate eps_theta(x_t, t) of Eq. 8 from whatever the network predicts.

    output, x_t: (B, C, H, W). t: (B,) int in [0, T). Returns (B, C, H, W).
    """
    if process.prediction == "epsilon":
        return output
    ab = process.alpha_bar[t].to(x_t.dtype).view(-1, 1, 1, 1)
    if process.prediction == "v_prediction":
        return ab.sqrt() * output + (1 - ab).sqrt() * x_t
    return (x_t - ab.sqrt() * output) / (1 - ab).sqrt()


def noise_error(eps: Tensor, eps_hat: Tensor, scale: float) -> Tensor:
    """Noise error l(x), Eq. 8, one draw of (t, eps) per example.

    eps, eps_hat: (B, C, H, W), unit-variance noise and its estimate.
    scale: what the mean squared error per element is multiplied by; C*H*W gives Eq. 8.
    Returns (B,), >= 0.
    """
    return scale * (eps - eps_hat).square().flatten(1).mean(1)


def ell(
    network: Callable[[Tensor, Tensor], Tensor],
    x0: Tensor,
    t: Tensor,
    eps: Tensor,
    process: Process,
    scale: float,
) -> Tensor:
    """l(x_0) of Eq. 8 at given t and eps: noise the images, let the network look, compare.

    network: maps x_t (B, C, H, W) and t (B,) to a tensor like x_t. Returns (B,), >= 0.
    """
    x_t = q_sample(x0, t, eps, process.alpha_bar)
    return noise_error(eps, eps_from_output(network(x_t, t), x_t, t, process), scale)


def quantiles(n: int, how: str, generator: torch.Generator) -> Tensor:
    """n numbers, each uniform over [0, 1): where in its distribution each timestep is drawn.

    how: `uniform` draws them independently; `stratified` takes one from each of n equal slices, in random order
        (Kingma et al. 2021): each stays uniform, so an estimator stays unbiased; its variance falls.
    Returns (n,) float64 on the CPU. Raises ValueError for an unknown `how`.
    """
    if how not in TIMESTEPS:
        raise ValueError(f"unknown way to draw timesteps {how!r}; known: {', '.join(TIMESTEPS)}")
    if how == "uniform":
        return torch.rand(n, generator=generator, dtype=torch.float64)
    u = torch.rand(1, generator=generator, dtype=torch.float64)
    slices = (u + torch.arange(n, dtype=torch.float64) / max(n, 1)) % 1
    return slices[torch.randperm(n, generator=generator)]


def draw_timesteps(n: int, steps: int, how: str, generator: torch.Generator) -> Tensor:
    """n steps t, each uniform over 0..T-1, as u(t) of Eq. 8 asks; see `quantiles`. Returns (n,) int64 on the CPU."""
    return (quantiles(n, how, generator) * steps).long().clamp_(max=steps - 1)
