"""PU fine-tuning of Stable Diffusion (Section 3.3): captions as condition, latents as images, the same trainer."""

import copy
import hashlib
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..conditional import Condition
from ..edits import save_edit
from ..erasing.layers import only
from ..erasing.methods import differences
from ..errors import UserError
from ..files import alone
from ..recipes import PAPER_EPOCHS
from ..settings import TrainConfig
from ..sources.captions import captions_of, pixels_of
from ..sources.finding import LeftOut, in_words, refuse
from ..splits import Split
from ..stable import encode, image_side, open_stable, prompt_error, stable_process, to_latents
from ..training import Record, Trainer
from .machine import is_main

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline

FILE = "edit.safetensors"
BATCH = 16
RECIPE: dict[str, Any] = {
    "batch_size": BATCH,
    "optimiser": "adamw",
    "learning_rate": 1e-5,
    "warmup_steps": 500,
    "timesteps": "uniform",
    "conditional": 1,
}
"""Section 5.3's fine-tuning of its largest images, at a learning rate usual for Stable Diffusion, of which the paper's
text says nothing. ell_scale is C*H*W of the latents, so that l is Eq. 20 itself: thousands, where the push of the BCE
term is gone and |L_U - beta L_S| alone acts."""


@dataclass(frozen=True)
class Captioned:
    """latents: (n, C, h, w) float32. captions: n of them."""

    latents: Tensor
    captions: list[str]


def read(
    pipeline: "StableDiffusionPipeline", captions: dict[Path, str], left: list[LeftOut], strict: bool
) -> Captioned:
    """The images as latents with their captions. Those that do not open join `left`.

    Raises UserError where none opens, and under strict where one does not.
    """
    opened: list[Path] = []
    latents = list(to_latents(pipeline, pixels_of(list(captions), image_side(pipeline), left, opened)))
    if strict:
        refuse(left)
    if not latents:
        raise UserError(f"none of the {len(captions)} image files opens: look at {next(iter(captions))}")
    return Captioned(torch.stack(latents), [captions[file] for file in opened])


def condition(pipeline: "StableDiffusionPipeline", captions: list[str]) -> Condition:
    """The condition of each image, its caption's tokens; those of no caption, last, for where the label is dropped."""
    distinct = sorted(set(captions))
    tokens = encode(pipeline, [*distinct, ""])
    return Condition(tokens.cpu(), torch.tensor([distinct.index(caption) for caption in captions]))


def settings_for(images: int, shape: torch.Size, settings: dict[str, Any]) -> TrainConfig:
    """The training of so many images, U and S together, with latents of a shape (C, h, w)."""
    batch = settings.get("batch_size", BATCH)
    steps = ceil(PAPER_EPOCHS["fine-tuning"] * images / batch)
    return TrainConfig(**{**RECIPE, "ell_scale": float(shape.numel()), "steps": steps, **settings})


def train_stable(
    name: str,
    unlabeled: Path,
    sensitive: Path,
    settings: dict[str, Any],
    out: Path,
    layers: str = "all",
    strict: bool = False,
    save_every: float | None = None,
) -> Iterator[Record]:
    """Fine-tune a pipeline's U-Net on two folders of captioned images; yields a record a step, and at last writes FILE.

    settings: fields of TrainConfig. layers: a filter of erasing.layers. Run again, it goes on from its checkpoint.
    Raises UserError as `captions_of`, `open_stable`, `only` and `Trainer` do.
    """
    folders = [captions_of(folder, out) for folder in (unlabeled, sensitive)]
    if strict:
        refuse([one for _, left in folders for one in left])
    pipeline = open_stable(name)
    only(pipeline.unet, layers)
    u, s = (read(pipeline, captions, left, strict) for captions, left in folders)
    captions = [*u.captions, *s.captions]
    if is_main():
        for line in _notes(pipeline, u, s, [one for _, left in folders for one in left]):
            print(line)
    images = torch.cat([u.latents, s.latents])
    config = settings_for(len(images), images.shape[1:], settings)
    told = condition(pipeline, captions)
    process, before = stable_process(pipeline), copy.deepcopy(pipeline.unet).cpu()
    digest = hashlib.sha256(images.numpy().tobytes() + "\n".join(captions).encode()).hexdigest()[:16]
    about = {"pipeline": name, "layers": layers, "images": digest}
    busy = f"another `pudm train-sd` is at work in {out}: wait for it, or choose another folder with --out"
    with alone(out / FILE, busy) if is_main() else nullcontext():
        trainer = Trainer(
            pipeline.unet, process, images, _split(len(u.captions), len(images)), config, out, about, save_every, told
        )
        _tell(trainer)
        for record in trainer:
            yield record
            _tell(trainer)
        if trainer.accelerator.is_main_process:
            changed = differences(before, trainer.ema.cpu())
            save_edit(out / FILE, before, changed, {**about, **config.as_row()})


def _tell(trainer: Trainer) -> None:
    while trainer.notes:
        note = trainer.notes.pop(0)
        if is_main():
            print(f"note: {note}")


def _split(u: int, images: int) -> Split:
    """U first, then S. Which of U are sensitive nobody knows."""
    none = torch.zeros(0, dtype=torch.long)
    return Split(torch.arange(u), torch.zeros(u, dtype=torch.bool), torch.arange(u, images), none, none)


def _notes(pipeline: "StableDiffusionPipeline", u: Captioned, s: Captioned, left: list[LeftOut]) -> Iterator[str]:
    yield from in_words(left)
    for name, group in (("U", u), ("S", s)):
        yield f"{name} {len(group.captions):,} images with {len(set(group.captions)):,} captions"
    odd = [why for caption in dict.fromkeys([*u.captions, *s.captions]) if (why := prompt_error(pipeline, caption))]
    if odd:
        yield f"note: {len(odd)} captions do not say what they seem to ({odd[0]})"
