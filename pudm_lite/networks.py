"""U-Nets by name, each with the recipe that trains and samples it.

`lite` trains on two CPU cores in minutes; `paper` is the size of Takahashi et al. (ICLR 2025), for a GPU.
Both are Diffusers models: a trained one is saved as a pipeline that `from_pretrained` opens.
"""

import math
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import ConfigMixin, DDIMPipeline, DDIMScheduler, DiffusionPipeline, ModelMixin, UNet2DModel
from diffusers.configuration_utils import register_to_config
from diffusers.models.unets.unet_2d import UNet2DOutput
from torch import Tensor, nn
from torch.nn import functional as F

from .diffusion import Process, noise_schedule
from .errors import UserError


@dataclass(frozen=True)
class Recipe:
    """What belongs to a network: image size, channels, process, training defaults (fields of TrainConfig), sampler."""

    image_size: int
    channels: int
    schedule: str
    prediction: str
    sampler: str
    sampler_steps: int
    train: dict[str, Any] = field(default_factory=dict)


RECIPES = {
    "lite": Recipe(
        28,
        1,
        "lite",
        "v_prediction",
        "ddpm",  # its noise heals what a short training left wrong: from 16 steps on it beat dpmpp
        25,
        {"ell_scale": 28.0 * 28, "steps": 2200, "kernel_learning_rate": 0.014, "ema_power": 40.0},
    ),
    # Section 5.3. 100 epochs of 30,000 images at batch 128 are 23,437 steps. The paper names neither the noise schedule
    # nor what the network predicts: Diffusers' defaults are taken.
    "paper": Recipe(
        32,
        3,
        "linear",
        "epsilon",
        "ddpm",
        1000,
        {
            "ell_scale": 3.0 * 32 * 32,
            "batch_size": 128,
            "steps": 23_437,
            "optimiser": "adamw",
            "learning_rate": 1e-4,
            "warmup_steps": 500,
            "timesteps": "uniform",
            "grad_clip": 1.0,
        },
    ),
}


def timestep_embedding(t: Tensor, dim: int) -> Tensor:
    """Sines and cosines of t at dim // 2 frequencies from 1 to 1/10,000 (Vaswani et al. 2017). (B,) to (B, dim)."""
    frequencies = torch.exp(-math.log(10_000) * torch.arange(dim // 2, device=t.device) / (dim // 2))
    angles = t[:, None].float() * frequencies
    return torch.cat([angles.sin(), angles.cos()], 1)


class Block(nn.Module):
    """A residual block told the step: norm, convolve, scale and shift by t, convolve. It starts as its skip.

    The norms take all channels as one group: measured against groups of eight, samples improved and steps got faster.
    """

    def __init__(self, inputs: int, outputs: int, time: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(1, inputs), nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm2, self.conv2 = nn.GroupNorm(1, outputs), nn.Conv2d(outputs, outputs, 3, padding=1)
        self.time = nn.Linear(time, 2 * outputs)
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        scale, shift = self.time(time)[:, :, None, None].chunk(2, 1)
        h = torch.addcmul(shift, self.norm2(h), 1 + scale)
        return self.skip(x) + self.conv2(F.silu(h))


class LiteUNet(ModelMixin, ConfigMixin):
    """A U-Net for a CPU: its blocks work on 2 x 2 pixels folded into channels (space-to-depth).

    A 3 x 3 convolution stands before the fold and after the unfold, at full resolution, so that neighbouring folds
    overlap: without it the samples show a faint 2 x 2 grid.
    """

    config_name = "config.json"

    @register_to_config
    def __init__(
        self,
        sample_size: int = 28,
        in_channels: int = 1,
        out_channels: int = 1,
        block_channels: tuple[int, ...] = (32, 64, 128),  # one level each
        stem_channels: int = 8,  # at full resolution
        time_dim: int = 128,
    ) -> None:
        super().__init__()
        first, last = block_channels[0], block_channels[-1]
        steps = list(pairwise(block_channels))  # from each level to the next coarser one
        self.time = nn.Sequential(nn.Linear(64, time_dim), nn.SiLU(), nn.Linear(time_dim, time_dim), nn.SiLU())
        self.stem = nn.Conv2d(in_channels, stem_channels, 3, padding=1)
        self.fold = nn.Conv2d(4 * stem_channels, first, 3, padding=1)
        self.down = nn.ModuleList(Block(c, c, time_dim) for c in block_channels)
        self.coarser = nn.ModuleList(nn.Conv2d(fine, coarse, 3, 2, 1) for fine, coarse in steps)
        self.middle = Block(last, last, time_dim)
        self.up = nn.ModuleList(Block(2 * c, c, time_dim) for c in block_channels)
        self.finer = nn.ModuleList(nn.Conv2d(coarse, fine, 1) for fine, coarse in steps)
        self.norm = nn.GroupNorm(1, first)
        self.unfold = nn.Conv2d(first, 4 * stem_channels, 3, padding=1)
        self.out = nn.Conv2d(2 * stem_channels, out_channels, 3, padding=1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(
        self, sample: Tensor, timestep: Tensor | float, return_dict: bool = True
    ) -> UNet2DOutput | tuple[Tensor]:
        """sample: (B, C, H, W). timestep: a number or (B,). Returns an object whose `.sample` is like `sample`."""
        t = torch.as_tensor(timestep, device=sample.device).expand(len(sample))
        time = self.time(timestep_embedding(t, 64).to(sample.dtype))
        full = self.stem(sample)  # (B, stem, H, W)
        h = self.fold(F.pixel_unshuffle(full, 2).contiguous(memory_format=torch.channels_last))  # (B, first, H/2, W/2)
        skips = []
        for level, block in enumerate(self.down):
            h = block(self.coarser[level - 1](h) if level else h, time)
            skips.append(h)
        h = self.middle(h, time)
        for level in reversed(range(len(self.up))):
            h = self.up[level](torch.cat([h, skips[level]], 1), time)
            if level:
                h = F.interpolate(self.finer[level - 1](h), size=skips[level - 1].shape[2:], mode="nearest")
        h = F.pixel_shuffle(self.unfold(F.silu(self.norm(h))), 2)  # (B, stem, H, W)
        out = self.out(torch.cat([F.silu(h), full], 1).contiguous(memory_format=torch.channels_last))
        return UNet2DOutput(sample=out) if return_dict else (out,)


def make_network(name: str) -> nn.Module:
    """An untrained network; draw its weights after torch.manual_seed.

    `paper`: where Section 5.3 leaves the architecture to an appendix, the sizes of Diffusers' unconditional training
    example for small images are taken (four levels of 128 to 512 channels, attention at 8 x 8).
    Raises ValueError for an unknown name.
    """
    if name == "lite":
        return LiteUNet()
    if name == "paper":
        return UNet2DModel(
            sample_size=32,
            in_channels=3,
            out_channels=3,
            layers_per_block=2,
            block_out_channels=(128, 128, 256, 256),
            down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        )
    raise ValueError(f"unknown network {name!r}; known: {', '.join(RECIPES)}")


def make_process(recipe: Recipe) -> Process:
    """The forward process of a recipe."""
    return Process(noise_schedule(recipe.schedule).float(), recipe.prediction)


def make_scheduler(process: Process) -> DDIMScheduler:
    """Diffusers' scheduler for a process. Its settings serve the others too: `DDPMScheduler.from_config`."""
    alpha_bar = process.alpha_bar.double().cpu()
    alpha = alpha_bar / torch.cat([alpha_bar.new_ones(1), alpha_bar[:-1]])
    return DDIMScheduler(
        num_train_timesteps=process.steps,
        trained_betas=(1 - alpha).tolist(),
        prediction_type=process.prediction,
        timestep_spacing="trailing",
        set_alpha_to_one=True,
        clip_sample=True,
    )


def save_pipeline(network: nn.Module, recipe: Recipe, folder: Path) -> None:
    """Save as a Diffusers pipeline: `DDIMPipeline.from_pretrained(folder)` draws from it, `load_pipeline` reads it."""
    DDIMPipeline(network, make_scheduler(make_process(recipe))).save_pretrained(folder)


def load_pipeline(folder: Path) -> tuple[nn.Module, Process]:
    """Network and process of a pipeline that `save_pipeline` or Diffusers wrote.

    Raises UserError when the folder holds none.
    """
    if not (folder / "model_index.json").is_file():
        raise UserError(
            f"{folder} holds no trained model: name the folder `pipeline` of a run (it has a model_index.json)"
        )
    verbosity = diffusers.utils.logging.get_verbosity()
    diffusers.utils.logging.set_verbosity_error()  # it warns of every U-Net class that is not its own
    try:
        pipeline = DiffusionPipeline.from_pretrained(folder)
    finally:
        diffusers.utils.logging.set_verbosity(verbosity)
    scheduler = pipeline.scheduler
    alpha_bar = scheduler.alphas_cumprod
    if (betas := scheduler.config.trained_betas) is not None:  # its own product is in float32: 1e-4 off at the far end
        alpha_bar = torch.cumprod(1 - torch.tensor(betas, dtype=torch.float64), 0)
    return pipeline.unet.eval(), Process(alpha_bar.float(), scheduler.config.prediction_type)


def image_shape(network: nn.Module) -> tuple[int, int, int]:
    """(C, H, W) of the images that a Diffusers U-Net makes."""
    size = network.config.sample_size
    height, width = (size, size) if isinstance(size, int) else size
    return network.config.in_channels, height, width
