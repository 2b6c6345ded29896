"""Stable Diffusion through Diffusers: a pipeline opened without running its code, prompts as tokens, images as latents.

What the U-Net is told of a prompt are the text encoder's tokens; what it works on are the latents of an autoencoder,
scaled to about unit variance, and not pixels: nothing holds them in [-1, 1].
"""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .datasets import to_model
from .diffusion import Process
from .errors import UserError
from .files import is_utf8
from .networks import is_scheduler, opening, parts_of, process_of

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline

KNOWN = {
    "unet": [["diffusers", "UNet2DConditionModel"]],
    "vae": [["diffusers", "AutoencoderKL"]],
    "text_encoder": [["transformers", "CLIPTextModel"]],
    "tokenizer": [["transformers", "CLIPTokenizer"], ["transformers", "CLIPTokenizerFast"]],
}
"""The classes that a pipeline's parts may have; the scheduler may be any of Diffusers'."""
UNUSED = {
    "safety_checker": [["stable_diffusion", "StableDiffusionSafetyChecker"]],
    "feature_extractor": [["transformers", "CLIPFeatureExtractor"], ["transformers", "CLIPImageProcessor"]],
    "image_encoder": [["transformers", "CLIPVisionModelWithProjection"]],
}
"""Parts that may be there and are not opened: they look at pictures that are drawn already."""
WEIGHTS = ("unet", "vae", "text_encoder")
PROMPTS_AT_ONCE, IMAGES_AT_ONCE = 64, 4


def open_stable(name: str) -> "StableDiffusionPipeline":
    """A `StableDiffusionPipeline` by its folder or hub name, on the GPU if there is one, in float32.

    Raises UserError for any other pipeline, before anything is imported that its index names; for one with weights as
    pickles only, which may run code; and for a U-Net that is told no prompt, or more than a prompt.
    """
    from importlib.util import find_spec

    if find_spec("transformers") is None:
        raise UserError("Stable Diffusion needs Transformers: pip install 'pudm_lite[sd]'")
    from diffusers import StableDiffusionPipeline

    if not is_utf8(name):
        raise UserError(f"{name!a} is no name that safetensors opens: rename what is not written in UTF-8")
    with opening(name):
        _check_index(name, StableDiffusionPipeline.load_config(name))
        _check_files(Path(name))
        pipeline = StableDiffusionPipeline.from_pretrained(
            name, use_safetensors=True, requires_safety_checker=False, **dict.fromkeys(UNUSED)
        )
    _check_network(name, pipeline)
    for part in WEIGHTS:
        getattr(pipeline, part).eval().requires_grad_(False)
    pipeline.unet.requires_grad_(True)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to("cuda" if torch.cuda.is_available() else "cpu")


def _check_index(name: str, index: dict[str, Any]) -> None:
    """Raises UserError unless the pipeline is made of classes known here: an index may name code beside it."""
    parts = parts_of(index)
    wanted = "choose a StableDiffusionPipeline of Diffusers, such as Stable Diffusion 1.4 or 2.1"
    if index.get("_class_name") != "StableDiffusionPipeline":
        raise UserError(f"{name} is a {index.get('_class_name')!r}, which is not opened here: {wanted}")
    if missing := sorted({*KNOWN, "scheduler"} - parts.keys()):
        raise UserError(f"{name} has no {missing[0]}: {wanted}")
    for part, source in parts.items():
        known = is_scheduler(source) if part == "scheduler" else source in {**KNOWN, **UNUSED}.get(part, [])
        if not known:
            raise UserError(f"{name} has {source!r} as its {part}, which is not opened: {wanted}")


def _check_files(folder: Path) -> None:
    """Raises UserError for a folder that holds the weights of a part as pickles only; a hub's are asked for later."""
    for part in WEIGHTS:
        files = list((folder / part).glob("*")) if folder.is_dir() else []
        if any(file.suffix in (".bin", ".pt", ".ckpt") for file in files) and not any(
            file.suffix == ".safetensors" for file in files
        ):
            raise UserError(
                f"{folder} has the weights of its {part} as a pickle only, which may run code when it is opened: "
                "have whoever made it save it with safe_serialization=True"
            )


def _check_network(name: str, pipeline: "StableDiffusionPipeline") -> None:
    config = pipeline.unet.config
    process = process_of(pipeline.scheduler)
    attends = any(".attn2." in parameter for parameter, _ in pipeline.unet.named_parameters())
    reasons = {
        "its U-Net has no cross-attention, so it cannot be told a prompt": not attends,
        f"its U-Net takes {config.in_channels} channels and gives {config.out_channels}": config.in_channels
        != config.out_channels,
        "its U-Net takes a class beside the prompt": config.class_embed_type or config.num_class_embeds,
        "its U-Net takes more than a prompt": config.addition_embed_type or config.encoder_hid_dim_type,
        "its U-Net and its autoencoder have other channels": config.in_channels != pipeline.vae.config.latent_channels,
        "its U-Net and its text encoder have tokens of other lengths": attends
        and config.cross_attention_dim != pipeline.text_encoder.config.hidden_size,
        str(process): isinstance(process, str),
    }
    if found := [reason for reason, holds in reasons.items() if holds]:
        raise UserError(f"{name} cannot be trained here, {found[0]}: choose one such as Stable Diffusion 1.4 or 2.1")


def stable_process(pipeline: "StableDiffusionPipeline") -> Process:
    """The process that the U-Net was trained in, on its device."""
    process = process_of(pipeline.scheduler)
    assert isinstance(process, Process)  # `open_stable` has looked
    return Process(process.alpha_bar.to(pipeline.device), process.prediction)


def token_ids(pipeline: "StableDiffusionPipeline", prompt: str) -> list[int]:
    """What the tokenizer makes of a prompt, without the marks of start and end and without what it does not know."""
    tokenizer = pipeline.tokenizer
    ids = tokenizer(prompt, add_special_tokens=False).input_ids
    return [number for number in ids if number not in tokenizer.all_special_ids]


def prompt_error(pipeline: "StableDiffusionPipeline", prompt: str) -> str | None:
    """Why a prompt says to the model something else than it says to us, if so: cut to nothing, or cut short."""
    length, room = len(token_ids(pipeline, prompt)), pipeline.tokenizer.model_max_length - 2
    if not length:
        return f"of {prompt!r} the tokenizer leaves nothing"
    if length > room:
        return f"{prompt[:40]!r} has {length} tokens, and the model reads {room}"
    return None


@torch.no_grad()
def encode(pipeline: "StableDiffusionPipeline", prompts: list[str]) -> Tensor:
    """(n, m, d) float32, on the pipeline's device: what the U-Net is told of each prompt. The empty one: of none."""
    parts = [prompts[at : at + PROMPTS_AT_ONCE] for at in range(0, len(prompts), PROMPTS_AT_ONCE)]
    return torch.cat([pipeline.encode_prompt(part, pipeline.device, 1, False)[0].float() for part in parts])


def image_side(pipeline: "StableDiffusionPipeline") -> int:
    """Pixels a side of the images that the pipeline draws unless it is told otherwise."""
    return int(pipeline.unet.config.sample_size) * int(pipeline.vae_scale_factor)


@torch.no_grad()
def to_latents(pipeline: "StableDiffusionPipeline", images: Iterator[Tensor]) -> Iterator[Tensor]:
    """(C, h, w) float32 on the CPU for each image, (3, H, W) uint8.

    The mean of the autoencoder's posterior, scaled: its own noise is a hundredth of that.
    """
    vae = pipeline.vae
    scale, shift = vae.config.scaling_factor, vae.config.get("shift_factor") or 0.0
    while batch := list(islice(images, IMAGES_AT_ONCE)):
        mean = vae.encode(to_model(torch.stack(batch).to(vae.device))).latent_dist.mode()
        yield from ((mean - shift) * scale).float().cpu()
