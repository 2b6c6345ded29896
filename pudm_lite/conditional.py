"""The condition c of Eq. 20: a frozen table of concepts, and a pipeline that keeps the table.

A concept is to the network what a prompt's embedding is to Stable Diffusion: a few tokens that its cross-attention
reads. The last row of a table is the *null* concept, which stands for no condition.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import ConfigMixin, DDIMScheduler, DiffusionPipeline, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.pipelines.pipeline_utils import ImagePipelineOutput
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from .datasets import to_model
from .diffusion import Process
from .draws import generator
from .errors import UserError
from .files import write_folder
from .networks import TOKEN_DIM, TOKENS, LiteUNet, make_scheduler
from .sampling import guided

NULL = "null"


class Concepts(ModelMixin, ConfigMixin):
    """A frozen table of concepts by name. tokens: (K + 1, m, d), the last row that of the null concept.

    With one token a concept the softmax of cross-attention is constant, and `to_q` and `to_k` would get no gradient;
    a table that trains would let every way to erase a concept copy the null row into it.
    """

    config_name = "config.json"

    @register_to_config
    def __init__(self, *, names: tuple[str, ...], per_concept: int = TOKENS, dim: int = TOKEN_DIM) -> None:
        super().__init__()
        self.names = tuple(names)
        self.tokens = nn.Parameter(torch.zeros(len(names) + 1, per_concept, dim), requires_grad=False)

    @property
    def null(self) -> Tensor:
        """(m, d): the tokens of no condition."""
        return self.tokens[-1]

    def index(self, name: str) -> int:
        """The row of a concept, `null` included. Raises UserError for an unknown name, listing the known."""
        known = (*self.names, NULL)
        if name not in known:
            raise UserError(f"unknown concept {name!r}; known: {', '.join(known)}")
        return known.index(name)


def concept_table(names: tuple[str, ...], likeness: Tensor, shared: float = 0.85, seed: int = 0) -> Concepts:
    """A table whose concepts lie as their directions do: the expected cosine of two rows is `shared` times theirs.

    Independent random tokens (shared = 0) make concepts orthogonal: then nobody is anybody's neighbour, and a concept
    is erased at no cost to the others. So a token is sqrt(shared) of a random projection of the concept's direction,
    the same projection for all, and sqrt(1 - shared) of a random part of its own. Entries have unit variance.

    likeness: (K, p), one direction a concept, of unit length. shared: in [0, 1].
    """
    table = Concepts(names=names)
    _, tokens, dim = table.tokens.shape
    draws = generator(seed, 0)
    projections = torch.randn(tokens, likeness.shape[1], dim, generator=draws)
    own = torch.randn(table.tokens.shape, generator=draws)
    common = torch.einsum("kp,mpd->kmd", likeness, projections)
    table.tokens.data[:-1] = shared**0.5 * common + (1 - shared) ** 0.5 * own[:-1]
    table.tokens.data[-1] = own[-1]
    return table


def likeness(images: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Directions in which classes differ: the means of their images at half size, centred, of unit length.

    images: (N, C, H, W) uint8. labels: (N,) int64, each class at least once. Returns (classes, C * H/2 * W/2).
    """
    means = torch.stack([to_model(images[labels == k]).mean(0) for k in range(classes)])
    small = avg_pool2d(means, 2).flatten(1)
    return nn.functional.normalize(small - small.mean(0), dim=1)


@dataclass(frozen=True)
class Condition:
    """What a training tells its network of each image. tokens: (K + 1, m, d), a table's. labels: (N,) int64, rows."""

    tokens: Tensor
    labels: Tensor


class ConceptPipeline(DiffusionPipeline):
    """A conditional model as Diffusers keeps it: U-Net, scheduler, and its table of concepts.

    `ConceptPipeline.from_pretrained(folder)(["4", "9"])` draws.
    """

    def __init__(self, unet: nn.Module, scheduler: DDIMScheduler, concepts: Concepts) -> None:
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler, concepts=concepts)

    @torch.no_grad()
    def __call__(
        self,
        prompt: list[str],
        guidance_scale: float = 1.0,
        num_inference_steps: int = 25,
        generator: torch.Generator | None = None,
        output_type: str = "pil",
    ) -> ImagePipelineOutput:
        """An image for each name. output_type: `pil`, or `np` for (n, H, W, C) in [0, 1]. Raises UserError for a name
        that the table lacks."""
        tokens = self.concepts.tokens[[self.concepts.index(name) for name in prompt]]
        config = self.unet.config
        shape = (len(prompt), config.in_channels, config.sample_size, config.sample_size)
        x = torch.randn(shape, generator=generator).to(tokens)
        network = guided(lambda x, t, c: self.unet(x, t, c).sample, self.concepts.null, guidance_scale)
        self.scheduler.set_timesteps(num_inference_steps)
        for t in self.progress_bar(self.scheduler.timesteps):
            output = network(x, t.expand(len(x)), tokens)
            x = self.scheduler.step(output, t, x, use_clipped_model_output=True).prev_sample  # as `sampling.ddim`
        images = (x / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).cpu().numpy()
        return ImagePipelineOutput(images=images if output_type == "np" else self.numpy_to_pil(images))


@dataclass(frozen=True)
class Conditional:
    """A conditional model: network(x_t, t, tokens), its process, its table.

    latent: whether it draws latents, which lie in no range, for prompts; else images in [-1, 1].
    """

    network: nn.Module
    process: Process
    concepts: Concepts
    latent: bool = False


def save_conditional(model: Conditional, folder: Path) -> None:
    """Save as a pipeline that `ConceptPipeline.from_pretrained` and `load_conditional` open."""
    pipeline = ConceptPipeline(model.network, make_scheduler(model.process), model.concepts)
    write_folder(folder, pipeline.save_pretrained)


def load_conditional(folder: Path) -> Conditional:
    """What `save_conditional` wrote. Raises UserError where the folder holds no conditional model.

    Nothing that the folder's index names beside the three parts is imported, and weights are safetensors.
    """
    what = f"{folder} holds no conditional model: name a pipeline of `pudm train --conditional`"
    try:
        index: dict[str, Any] = ConceptPipeline.load_config(folder)
        parts = {
            "unet": [LiteUNet.__module__, "LiteUNet"],
            "scheduler": ["diffusers", "DDIMScheduler"],
            "concepts": [__name__, "Concepts"],
        }
        if {part: kind for part, kind in index.items() if part[0] != "_"} != parts:
            raise UserError(what)
        bars = diffusers.utils.logging.is_progress_bar_enabled()
        diffusers.utils.logging.disable_progress_bar()
        pipeline = ConceptPipeline.from_pretrained(folder, use_safetensors=True)
        if bars:
            diffusers.utils.logging.enable_progress_bar()
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise UserError(what) from None
    scheduler = pipeline.scheduler
    alpha_bar = torch.cumprod(1 - torch.tensor(scheduler.config.trained_betas, dtype=torch.float64), 0)
    return Conditional(
        pipeline.unet.eval(), Process(alpha_bar.float(), scheduler.config.prediction_type), pipeline.concepts
    )
