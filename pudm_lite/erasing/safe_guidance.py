"""Safe latent diffusion (Schramowski et al. 2023): no parameter changes; estimates are guided away."""

from typing import Any

import torch
from diffusers.models.unets.unet_2d import UNet2DOutput
from torch import Tensor, nn

from ..diffusion import Process, eps_from_output
from .scenes import Scene


def safety_term(told: Tensor, unsafe: Tensor, untold: Tensor, scale: float, threshold: float) -> Tensor:
    """mu (eps(c_S) - eps(null)), what is taken from the estimate of a prompt c: (B, C, H, W), all of them.

    mu = min(1, scale |eps(c) - eps(c_S)|) element by element where eps(c) - eps(c_S) < threshold, else 0: a prompt far
    from the safety concept c_S is left alone. Nothing is taken where the prompt *is* the safety concept, as mu is 0.
    (The paper prints max(1, .); its published implementations take the minimum, and so does this.)
    """
    gap = told - unsafe
    mu = torch.where(gap < threshold, (scale * gap.abs()).clamp(max=1), 0)
    return mu * (unsafe - untold)


class SafeNetwork(nn.Module):
    """A network that is asked as before, and steers away from safety concepts as it answers; nothing trains.

    unsafe: (m, d), the safety concepts' tokens one after another, as the words of one prompt. null: (m', d).
    momentum, decay: each step also takes `momentum` times a running mean of the terms of the steps before, which
    forgets by `decay`, while a sampler walks one batch down from noise; other calls do without.
    """

    def __init__(
        self, network: nn.Module, process: Process, unsafe: Tensor, null: Tensor, scale: float, threshold: float,
        momentum: float, decay: float,
    ) -> None:  # fmt: skip
        super().__init__()
        self.network, self.config, self.process = network, network.config, process
        self.unsafe, self.null = unsafe, null
        self.scale, self.threshold, self.momentum, self.decay = scale, threshold, momentum, decay
        self.last: tuple[Tensor, Tensor] | None = None  # the steps t of the last call, and the running mean

    def forward(self, sample: Tensor, timestep: Tensor, encoder_hidden_states: Tensor) -> UNet2DOutput:
        """As the network's own: an object whose `.sample` is like `sample`."""
        t = torch.as_tensor(timestep, device=sample.device).expand(len(sample))
        process = Process(self.process.alpha_bar.to(sample.device), self.process.prediction)
        output = self.network(sample, t, encoder_hidden_states).sample

        def eps(output: Tensor) -> Tensor:
            return eps_from_output(output, sample, t, process)

        def of(tokens: Tensor) -> Tensor:
            return eps(self.network(sample, t, tokens.to(sample).expand(len(sample), -1, -1)).sample)

        term = safety_term(eps(output), of(self.unsafe), of(self.null), self.scale, self.threshold)
        before = self._walking(t, term)
        term = term + self.momentum * before
        self.last = t, (self.decay * before + (1 - self.decay) * term).detach()
        slope = eps_from_output(torch.ones_like(output), torch.zeros_like(output), t, process)  # eps is affine in it
        return UNet2DOutput(sample=output - term / slope)

    def _walking(self, t: Tensor, term: Tensor) -> Tensor:
        """The running mean, where this call is a later step of the walk of the last; else zeros."""
        if self.last is None or self.last[1].shape != term.shape or not bool((t < self.last[0]).all()):
            return torch.zeros_like(term)
        return self.last[1]


def safe_guidance(
    scene: Scene, scale: float = 2000.0, threshold: float = 0.025, momentum: float = 0.5, decay: float = 0.7
) -> nn.Module:
    """What answers in the student's place: `SafeNetwork` with the erased concepts for safety concepts.

    It trains nothing. The settings are the source's "strong" ones, but for its warm-up, which is left out. Asked for
    the safety concept itself it answers as the network does: it is meant for prompts that do not name what they draw,
    such as null.
    """
    unsafe = scene.tokens(torch.tensor(scene.rows)).flatten(0, 1)
    settings: dict[str, Any] = {"scale": scale, "threshold": threshold, "momentum": momentum, "decay": decay}
    return SafeNetwork(scene.student, scene.model.process, unsafe, scene.null, **settings)
