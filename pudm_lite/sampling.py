"""Samplers by name over any noise estimate: `ddpm`, `ddim`, and `dpmpp`, a few-step solver.

A sampler is a function of eps(x_t, t), of the schedule alpha_bar and of the steps to visit. One generator an image
supplies all of its noise, so a picture depends on its seed and not on its neighbours in the batch. Written out here
because a reader should see them; tests hold them to Diffusers' DDPMScheduler, DDIMScheduler and
DPMSolverMultistepScheduler.

The schedule's numbers are Python floats, so that a GPU is given a whole picture's work without the host waiting for it.
"""

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from .datasets import to_pixels
from .diffusion import Process, eps_from_output
from .draws import generator

Eps = Callable[[Tensor, Tensor], Tensor]
"""eps(x_t (B, C, H, W), t (B,) int64) -> (B, C, H, W)."""
Told = Callable[[Tensor, Tensor, Tensor], Tensor]
"""network(x_t (B, C, H, W), t (B,), tokens (B, m, d)) -> (B, C, H, W)."""


def image_generators(seed: int, first: int, count: int) -> list[torch.Generator]:
    """One generator for each of the images first .. first + count - 1 of a seed."""
    return [generator(seed, index) for index in range(first, first + count)]


def _normal(shape: tuple[int, ...], generators: list[torch.Generator]) -> Tensor:
    return torch.stack([torch.randn(shape, generator=g) for g in generators])


def _noises(x: Tensor, generators: list[torch.Generator], count: int) -> Iterator[Tensor]:
    """`count` noises like x. While a GPU is at work with one, a thread draws the next."""
    shape = tuple(x.shape[1:])
    if x.device.type == "cpu":
        for _ in range(count):
            yield _normal(shape, generators).to(x)
        return
    with ThreadPoolExecutor(1) as thread:
        coming = [thread.submit(_normal, shape, generators)] if count else []
        for left in reversed(range(count)):
            noise = coming.pop().result()
            if left:
                coming.append(thread.submit(_normal, shape, generators))
            yield noise.pin_memory().to(x, non_blocking=True)


def timestep_grid(total: int, steps: int) -> Tensor:
    """The steps t that a sampler visits, from T - 1 down, evenly spaced (Diffusers: timestep_spacing="trailing").

    Trailing spacing starts at T - 1, where the image is pure noise, as the sampler's first x is (Lin et al. 2024).
    Returns (steps,) int64, decreasing. Raises ValueError unless 1 <= steps <= total.
    """
    if not 1 <= steps <= total:
        raise ValueError(f"sampler steps must lie in 1..{total}, got {steps}")
    return (torch.arange(total, 0, -total / steps, dtype=torch.float64).round().long() - 1)[:steps]


def _previous(grid: Tensor, alpha_bar: Tensor) -> Iterator[tuple[int, float, float]]:
    """(t, alpha_bar at t, alpha_bar at the next step of the grid; 1 after the last)."""
    visited = alpha_bar.cpu()[grid.cpu()].tolist()
    return zip(grid.tolist(), visited, [*visited[1:], 1.0], strict=True)


def predicted_x0(x: Tensor, eps: Tensor, ab: Tensor | float, clip: bool = True) -> Tensor:
    """x_0 as Eq. 6 gives it from x_t and eps. clip: to the range of images; latents have none."""
    x0 = (x - (1 - ab) ** 0.5 * eps) / ab**0.5
    return x0.clamp(-1, 1) if clip else x0


def ddpm(eps: Eps, x: Tensor, alpha_bar: Tensor, grid: Tensor, generators: list[torch.Generator]) -> Iterator[Tensor]:
    """Ancestral sampling (Ho et al. 2020): the posterior q(x_s | x_t, x_0) at the predicted x_0, its mean plus noise.

    No noise is added at the last step. Yields x after every step.
    """
    noises = _noises(x, generators, len(grid) - 1)
    for t, ab, ab_next in _previous(grid, alpha_bar):
        x0 = predicted_x0(x, eps(x, torch.full((len(x),), t, device=x.device)), ab)
        alpha = ab / ab_next  # of the step taken, t -> next
        mean = ab_next**0.5 * (1 - alpha) / (1 - ab) * x0 + alpha**0.5 * (1 - ab_next) / (1 - ab) * x
        variance = (1 - ab_next) / (1 - ab) * (1 - alpha)
        x = mean + variance**0.5 * next(noises) if ab_next < 1 else mean
        yield x


def ddim(eps: Eps, x: Tensor, alpha_bar: Tensor, grid: Tensor, generators: list[torch.Generator]) -> Iterator[Tensor]:
    """The deterministic sampler of Song et al. (2020a), eta = 0: keep the direction, shrink the noise.

    eps is recomputed from the clipped x_0, so that the two describe one x_t. Yields x after every step.
    """
    for t, ab, ab_next in _previous(grid, alpha_bar):
        x0 = predicted_x0(x, eps(x, torch.full((len(x),), t, device=x.device)), ab)
        direction = (x - ab**0.5 * x0) / (1 - ab) ** 0.5
        x = ab_next**0.5 * x0 + (1 - ab_next) ** 0.5 * direction
        yield x


def dpmpp(eps: Eps, x: Tensor, alpha_bar: Tensor, grid: Tensor, generators: list[torch.Generator]) -> Iterator[Tensor]:
    """DPM-Solver++(2M) (Lu et al. 2022): a two-step solver in half log-SNR; the first and last step are DDIM's.

    A dozen steps give what DDIM needs several dozen for. Yields x after every step.
    """
    last_x0, last_h = None, 0.0
    for t, ab, ab_next in _previous(grid, alpha_bar):
        x0 = predicted_x0(x, eps(x, torch.full((len(x),), t, device=x.device)), ab)
        if ab_next == 1:  # to sigma = 0: the step lands on x_0
            x = x0
            yield x
            return
        h = 0.5 * (math.log(ab_next / (1 - ab_next)) - math.log(ab / (1 - ab)))
        target = x0
        if last_x0 is not None:
            r = last_h / h
            target = x0 + (x0 - last_x0) / (2 * r)
        x = ((1 - ab_next) / (1 - ab)) ** 0.5 * x - ab_next**0.5 * math.expm1(-h) * target
        last_x0, last_h = x0, h
        yield x


SAMPLERS = {"ddpm": ddpm, "ddim": ddim, "dpmpp": dpmpp}


def guided(network: Told, null: Tensor, scale: float) -> Told:
    """Classifier-free guidance (Ho & Salimans 2022): eps(null) + scale (eps(c) - eps(null)).

    At each step it is the score of p_t(x) p_t(c | x)^scale: scale 1 is the model's own conditional, 0 forgets the
    condition, more than 1 sharpens it, and what is drawn then has no such simple density (notebook 09). Whatever the
    network predicts is affine in eps at a given x_t, so outputs may stand for eps. null: (m, d). At scale 1 the network
    is asked once, else twice.
    """
    if scale == 1:
        return network

    def output(x: Tensor, t: Tensor, tokens: Tensor) -> Tensor:
        both = torch.cat([tokens, null.to(tokens).expand_as(tokens)])
        told, untold = network(torch.cat([x, x]), torch.cat([t, t]), both).chunk(2)
        return untold + scale * (told - untold)

    return output


def images_at_once(shape: tuple[int, int, int]) -> int:
    """How many images (C, H, W) are drawn in a batch: 250, or as many as have 2^20 pixels, for a GPU's memory."""
    return min(250, max(1, 2**20 // (shape[1] * shape[2])))


@torch.no_grad()
def sample(
    network: Callable[..., Tensor],
    process: Process,
    shape: tuple[int, int, int],
    n: int,
    sampler: str = "ddim",
    steps: int = 50,
    seed: int = 0,
    batch_size: int = 0,
    first: int = 0,
    device: torch.device | str = "cpu",
    prompts: Tensor | None = None,
) -> Iterator[Tensor]:
    """Draw images first .. first + n - 1 of a seed, a batch at a time.

    network: maps x_t (B, C, H, W), t (B,) to what `process` says it predicts. shape: (C, H, W).
    batch_size: 0 for `images_at_once`.
    prompts: (first + n or more, m, d), the condition of each image of the seed, which the network is given as its third
        argument; None for a network without.
    Yields (b, C, H, W) float32 on the CPU, in [-1, 1]. The same picture whatever the batch size (up to float rounding).
    Raises ValueError for an unknown sampler (the message lists the known) and for steps outside 1..T.
    """
    if sampler not in SAMPLERS:
        raise ValueError(f"unknown sampler {sampler!r}; known: {', '.join(SAMPLERS)}")
    batch_size = batch_size or images_at_once(shape)
    on_device = Process(process.alpha_bar.to(device), process.prediction)
    grid = timestep_grid(process.steps, steps)

    def eps(x: Tensor, t: Tensor) -> Tensor:
        output = network(x, t) if tokens is None else network(x, t, tokens)
        return eps_from_output(output, x, t, on_device)

    for start in range(first, first + n, batch_size):
        tokens = None if prompts is None else prompts[start : min(start + batch_size, first + n)].to(device)
        generators = image_generators(seed, start, min(batch_size, first + n - start))
        x = _normal(shape, generators).to(device, memory_format=torch.channels_last)
        for x in SAMPLERS[sampler](eps, x, process.alpha_bar, grid, generators):  # noqa: B007, B020
            pass
        yield x.float().cpu().contiguous()


HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""The half precisions by Accelerate's names."""


def half_precision(device: torch.device) -> str:
    """The mixed precision that a device is quickest in: `no` on a CPU, bf16 on a GPU that has it, else fp16."""
    if device.type != "cuda":
        return "no"
    return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp16"  # before, it is emulated


def _autocast(device: torch.device) -> AbstractContextManager[object]:
    precision = half_precision(device)
    return nullcontext() if precision == "no" else torch.autocast(device.type, HALF[precision])


def draw(
    network: nn.Module,
    process: Process,
    n: int,
    sampler: str = "ddpm",
    steps: int = 25,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    first: int = 0,
    prompts: Tensor | None = None,
    null: Tensor | None = None,
    guidance: float = 1.0,
) -> Tensor:
    """Images first .. first + n - 1 of a seed from a Diffusers U-Net, as pixels.

    It happens on the device of the network's parameters, in that device's `half_precision`.
    progress: called with (images drawn, n) after every batch.
    prompts: (first + n or more, m, d), what a conditional network is told of each image. null: (m, d), the tokens of no
        condition, and guidance: how far to go beyond it (`guided`).
    Returns (n, C, H, W) uint8 on the CPU. Raises ValueError as `sample` does.
    """
    device = next(network.parameters()).device

    def output(x: Tensor, t: Tensor, *tokens: Tensor) -> Tensor:
        with _autocast(device):
            return network(x, t, *tokens).sample.float()

    told = output if null is None else guided(output, null, guidance)
    parts: list[Tensor] = []
    from .networks import image_shape  # Diffusers, which loads for seconds, and a sampler needs none of it

    shape = image_shape(network)
    for part in sample(told, process, shape, n, sampler, steps, seed, first=first, device=device, prompts=prompts):
        parts.append(to_pixels(part))
        if progress:
            progress(sum(map(len, parts)), n)
    return torch.cat(parts)
