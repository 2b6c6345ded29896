"""U-Nets by the names of recipes.RECIPES.

Both are Diffusers models: a trained one is saved as a pipeline that `from_pretrained` opens, and what others trained
is opened to be fine-tuned.
"""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import (
    ConfigMixin,
    DDIMPipeline,
    DDIMScheduler,
    DiffusionPipeline,
    ModelMixin,
    SchedulerMixin,
    Transformer2DModel,
    UNet2DModel,
)
from diffusers.configuration_utils import register_to_config
from diffusers.models.unets.unet_2d import UNet2DOutput
from torch import Tensor, nn
from torch.nn import functional as F

from .diffusion import PREDICTIONS, Process, noise_schedule
from .errors import UserError
from .files import is_utf8, write_folder
from .recipes import RECIPES, Recipe, check_size, recipe_for
from .splits import named_configuration

TOKENS, TOKEN_DIM = 4, 64
"""How many tokens a concept has that a conditional network is told, and how many numbers a token."""


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


def _transformer(channels: int, cross_attention_dim: int) -> Transformer2DModel:
    """Self-attention, attention to the condition (`attn2`), a layer forward, each added to what it is given."""
    head = math.gcd(32, channels)
    return Transformer2DModel(
        channels // head, head, channels, cross_attention_dim=cross_attention_dim, norm_num_groups=math.gcd(8, channels)
    )


class LiteUNet(ModelMixin, ConfigMixin):
    """A U-Net for a CPU: its blocks work on 2 x 2 pixels folded into channels (space-to-depth).

    A 3 x 3 convolution stands before the fold and after the unfold, at full resolution, so that neighbouring folds
    overlap: without it the samples show a faint 2 x 2 grid.

    With `cross_attention_dim` it is told a condition: tokens that Diffusers' transformer blocks attend to, after each
    block of all levels but the finest. So its parameters have Stable Diffusion's names (`attn2.to_k`), and what edits
    the one edits the other. Nothing of the condition goes through the time embedding.
    """

    config_name = "config.json"

    @register_to_config
    def __init__(
        self,
        *,  # by name alone: Diffusers takes what is given by position for a default, and `from_config` leaves it out
        sample_size: int = 28,
        in_channels: int = 1,
        out_channels: int = 1,
        block_channels: tuple[int, ...] = (32, 64, 96),  # one level each
        stem_channels: int = 8,  # at full resolution
        time_dim: int = 128,
        cross_attention_dim: int | None = None,  # of a token; None: unconditional
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
        if cross_attention_dim:
            attended = (*block_channels[1:], last, *block_channels[:0:-1])  # in the order of `forward`
            self.attentions = nn.ModuleList(_transformer(c, cross_attention_dim) for c in attended)
        self.norm = nn.GroupNorm(1, first)
        self.unfold = nn.Conv2d(first, 4 * stem_channels, 3, padding=1)
        self.out = nn.Conv2d(2 * stem_channels, out_channels, 3, padding=1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor | float,
        encoder_hidden_states: Tensor | None = None,
        return_dict: bool = True,
    ) -> UNet2DOutput | tuple[Tensor]:
        """sample: (B, C, H, W). timestep: a number or (B,). encoder_hidden_states: the condition, (B, m, d) tokens.

        Returns an object whose `.sample` is like `sample`.
        """
        if (encoder_hidden_states is None) != (self.config.cross_attention_dim is None):
            raise ValueError("tokens belong to a network with cross_attention_dim, and to no other")
        attentions = iter(self.attentions if encoder_hidden_states is not None else ())

        def told(h: Tensor) -> Tensor:
            attention = next(attentions, None)
            return h if attention is None else attention(h, encoder_hidden_states, return_dict=False)[0]

        t = torch.as_tensor(timestep, device=sample.device).expand(len(sample))
        time = self.time(timestep_embedding(t, 64).to(sample.dtype))
        full = self.stem(sample)  # (B, stem, H, W)
        h = self.fold(F.pixel_unshuffle(full, 2).contiguous(memory_format=torch.channels_last))  # (B, first, H/2, W/2)
        skips = []
        for level, block in enumerate(self.down):
            h = block(self.coarser[level - 1](h) if level else h, time)
            skips.append(told(h) if level else h)
            h = skips[-1]
        h = told(self.middle(h, time))
        for level in reversed(range(len(self.up))):
            h = self.up[level](torch.cat([h, skips[level]], 1), time)
            if level:
                h = told(h)
                h = F.interpolate(self.finer[level - 1](h), size=skips[level - 1].shape[2:], mode="nearest")
        h = F.pixel_shuffle(self.unfold(F.silu(self.norm(h))), 2)  # (B, stem, H, W)
        out = self.out(torch.cat([F.silu(h), full], 1).contiguous(memory_format=torch.channels_last))
        return UNet2DOutput(sample=out) if return_dict else (out,)


def make_network(
    name: str, channels: int | None = None, size: int | None = None, cross_attention_dim: int | None = None
) -> nn.Module:
    """An untrained network for images (channels, size, size); draw its weights after torch.manual_seed.

    `paper`: the appendix of the paper that gives its architecture is not at hand. Taken are the sizes of Diffusers'
    unconditional training example, six levels of 128 to 512 channels with attention on the fifth, and for images of
    fewer than 64 pixels a side four of its levels, 128, 128, 256 and 256 channels, with attention on the third.
    channels, size: the recipe's where left out. cross_attention_dim: numbers in a token of its condition, if any.
    Raises ValueError for an unknown name, UserError for a size that the network cannot halve as often as it must, and
    for a condition of a network other than lite.
    """
    if name not in RECIPES:
        raise ValueError(f"unknown network {name!r}; known: {', '.join(RECIPES)}")
    channels, size = channels or RECIPES[name].channels, size or RECIPES[name].image_size
    check_size(name, size)
    if name == "lite":
        return LiteUNet(
            sample_size=size, in_channels=channels, out_channels=channels, cross_attention_dim=cross_attention_dim
        )
    if cross_attention_dim:
        raise UserError(f"the {name} network takes no condition: choose lite")
    widths, attention = ((128, 128, 256, 256), 2) if size < 64 else ((128, 128, 256, 256, 512, 512), 4)
    kinds = ["Attn" if level == attention else "" for level in range(len(widths))]
    return UNet2DModel(
        sample_size=size,
        in_channels=channels,
        out_channels=channels,
        layers_per_block=2,
        block_out_channels=widths,
        down_block_types=tuple(f"{kind}DownBlock2D" for kind in kinds),
        up_block_types=tuple(f"{kind}UpBlock2D" for kind in reversed(kinds)),
    )


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


def make_pipeline(network: nn.Module, process: Process) -> DDIMPipeline:
    """A network and its process as Diffusers knows them."""
    return DDIMPipeline(network, make_scheduler(process))


def save_pipeline(network: nn.Module, process: Process, folder: Path) -> None:
    """Save as a Diffusers pipeline: `DDIMPipeline.from_pretrained(folder)` draws from it, `load_pipeline` reads it."""
    write_folder(folder, make_pipeline(network, process).save_pretrained)


def load_pipeline(folder: Path) -> tuple[nn.Module, Process]:
    """Network and process of a pipeline that `save_pipeline` or Diffusers wrote.

    Raises UserError when the folder holds none, or one that `open_network` refuses.
    """
    if not (folder / "model_index.json").is_file():
        raise UserError(
            f"{folder} holds no trained model: name the folder `pipeline` of a run (it has a model_index.json)"
        )
    return _open_pipeline(str(folder))


def open_network(pretrained: str) -> tuple[nn.Module, Process]:
    """Network and process of a trained model: a Diffusers pipeline's folder or hub name, or a file of `pudm ship`.

    Raises UserError where there is none, and for a model that the course cannot train: of latents, with a condition, or
    with a scheduler that has no alpha_bar inside (0, 1).
    """
    if not is_utf8(pretrained):
        raise UserError(f"{pretrained!a} is no name that safetensors opens: rename what is not written in UTF-8")
    path = Path(pretrained)
    if path.suffix == ".safetensors":
        return _open_shipped(path)
    return load_pipeline(path) if path.exists() else _open_pipeline(pretrained)


UNETS = {"UNet2DModel": "diffusers", "LiteUNet": __name__}
"""The U-Nets that a pipeline may hold, and where each comes from."""


def network_named(pretrained: str) -> str:
    """What the network of a file of `pudm ship`, or of a pipeline's folder, is called in RECIPES; "" where it is no
    network of ours, such as one of Diffusers with sizes of its own."""
    from safetensors import SafetensorError, safe_open

    path = Path(pretrained)
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, "pt") as file:
                return str(json.loads(file.metadata()["row"])["network"])
        index = json.loads((path / "model_index.json").read_text(encoding="utf-8"))
        return "lite" if index["unet"][-1] == LiteUNet.__name__ else ""
    except (OSError, SafetensorError, TypeError, KeyError, IndexError, ValueError):
        return ""  # `open_network` says what is wrong


def _open_pipeline(name: str) -> tuple[nn.Module, Process]:
    """A pipeline through Diffusers' own loading, old layouts with all files in one folder included."""
    with opening(name):
        _check_index(name, DiffusionPipeline.load_config(name))  # before gigabytes are fetched, or anything is imported
        pipeline = DiffusionPipeline.from_pretrained(name)
    return pipeline.unet.eval(), _process_of(name, pipeline.unet, pipeline.scheduler)


@contextmanager
def opening(name: str) -> Iterator[None]:
    """Inside, Diffusers is silent, and whatever it raises is one sentence. name: of the pipeline that is opened."""
    verbosity = diffusers.utils.logging.get_verbosity()
    diffusers.utils.logging.set_verbosity_error()  # it warns of every U-Net class that is not its own
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # Diffusers and the hub raise many kinds
        reason = f"{type(error).__name__}: {error}".splitlines()[0].rstrip(".:")
        where = "a damaged folder" if Path(name).exists() else "no folder here, and the hub gave no such model"
        raise UserError(f"cannot open {name!r}, {where} ({reason}): name the folder of a Diffusers pipeline") from None
    finally:
        diffusers.utils.logging.set_verbosity(verbosity)


def _check_index(name: str, index: dict[str, Any]) -> None:
    """Raises UserError for a pipeline that is not a U-Net of pixels and a scheduler, by classes known here.

    An index names modules to import, and may name code beside it: how much of that Diffusers does depends on its
    version, so nothing is left to it.
    """
    parts = parts_of(index)
    if set(parts) != {"unet", "scheduler"}:
        raise UserError(
            f"{name} is made of {', '.join(sorted(parts)) or 'nothing'}: "
            "this version trains pixel models, whose pipelines hold a unet and a scheduler"
        )
    known = {
        "_class_name": _of_diffusers(index.get("_class_name"), DiffusionPipeline),
        "unet": parts["unet"] in [[module, kind] for kind, module in UNETS.items()],
        "scheduler": is_scheduler(parts["scheduler"]),
    }
    if others := [part for part, is_known in known.items() if not is_known]:
        raise UserError(
            f"{name} has {index.get(others[0])!r} as its {others[0].strip('_')}, which is not opened: "
            f"choose a pipeline of Diffusers whose unet is a {' or a '.join(UNETS)}"
        )


def parts_of(index: dict[str, Any]) -> dict[str, list[Any]]:
    """What a pipeline's index says it is made of: module and class of each part that is there."""
    return {part: source for part, source in index.items() if isinstance(source, list) and part[0] != "_" and source[0]}


def is_scheduler(source: list[Any]) -> bool:
    """Whether module and class of an index are a scheduler of Diffusers."""
    return source[:-1] == ["diffusers"] and _of_diffusers(source[-1], SchedulerMixin)


def _of_diffusers(name: Any, base: type) -> bool:
    found = getattr(diffusers, name, None) if isinstance(name, str) else None
    return isinstance(found, type) and issubclass(found, base)


def _process_of(name: str, network: nn.Module, scheduler: Any) -> Process:
    """The process that a pipeline's scheduler describes. Raises UserError where l(x) of Eq. 8 cannot be computed."""
    config = network.config
    reasons = {
        "its U-Net takes a class": config.get("num_class_embeds") or config.get("class_embed_type"),
        f"its U-Net does not say how large its images are (sample_size is {config.get('sample_size')!r})": not _sides(
            config.get("sample_size")
        ),
        f"its images have {config.in_channels} channels": config.in_channels not in (1, 3),
        "it learns a variance beside the noise": config.in_channels != config.out_channels,
    }
    found = [reason for reason, holds in reasons.items() if holds]
    process = process_of(scheduler)
    if found or isinstance(process, str):
        reason = found[0] if found else process
        raise UserError(f"{name} cannot be trained here, {reason}: choose an unconditional DDPM or DDIM pixel model")
    return process


def process_of(scheduler: Any) -> Process | str:
    """The process that a scheduler of Diffusers describes; or why l(x) of Eq. 8 cannot be computed in it."""
    kind, settings = type(scheduler).__name__, scheduler.config
    alpha_bar = getattr(scheduler, "alphas_cumprod", None)
    if settings.get("trained_betas") is not None:  # its own product is in float32: 1e-4 off at the far end
        alpha_bar = torch.cumprod(1 - torch.tensor(settings.trained_betas, dtype=torch.float64), 0)
    if alpha_bar is None or not 0 < float(alpha_bar.min()) < 1:
        return f"its {kind} has no alpha_bar inside (0, 1)"
    if (prediction := settings.get("prediction_type", "epsilon")) not in PREDICTIONS:
        return f"its {kind} predicts {prediction}"
    return Process(alpha_bar.float(), prediction)


def named_network(row: dict[str, Any]) -> tuple[nn.Module, Process]:
    """The untrained network of a run, rebuilt from the names in its row, and its process."""
    recipe = recipe_for(row["network"], named_configuration(row["experiment"]), row.get("pretrained", ""))
    told = TOKEN_DIM if row.get("conditional") else None
    return make_network(row["network"], recipe.channels, recipe.image_size, told), make_process(recipe)


def _open_shipped(path: Path) -> tuple[nn.Module, Process]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            network, process = named_network(json.loads(file.metadata()["row"]))
            names = [name for name in file.keys() if name.startswith("network/")]  # noqa: SIM118 (not a dict)
            weights = {name.removeprefix("network/"): file.get_tensor(name).float() for name in names}
            network.load_state_dict(weights)
    except (OSError, SafetensorError, TypeError, KeyError, RuntimeError, ValueError, AttributeError):
        raise UserError(f"{path} is no trained network: name a file that `pudm ship` wrote") from None
    return network.eval(), process


def image_shape(network: nn.Module) -> tuple[int, int, int]:
    """(C, H, W) of the images that a Diffusers U-Net makes. Raises UserError where its config does not say."""
    sides = _sides(network.config.sample_size)
    if not sides:
        raise UserError(
            f"the network's sample_size is {network.config.sample_size!r}: give its config the images' side"
        )
    return network.config.in_channels, *sides


def _sides(sample_size: Any) -> tuple[int, int] | None:
    """(H, W) of a config's sample_size, which may be one number for both; None where it is no size."""
    sides = tuple(sample_size) if isinstance(sample_size, (list, tuple)) else (sample_size, sample_size)
    return sides if len(sides) == 2 and all(type(side) is int and side > 0 for side in sides) else None
