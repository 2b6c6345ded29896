"""How a run goes, and what it leaves: data, network, training, samples, measures, row."""

import json
import shutil
import time
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..conditional import Condition, Conditional, save_conditional
from ..diffusion import Process
from ..errors import UserError
from ..files import write_arrays, write_whole
from ..measures.inception import require_weights
from ..networks import TOKEN_DIM, image_shape, make_network, make_process, open_network, save_pipeline
from ..sampling import draw, half_precision
from ..training import Record, Trainer
from .albums import FOLDERS, album_material
from .drawing import draw_share, gather
from .experiments import Experiment
from .machine import fitting, forget_peak_memory, machine, mode, peak_memory_mb
from .materials import Material, read_material
from .measuring import measures, not_measured


def material(exp: Experiment) -> Material:
    """The experiment's images, split by its seed. Raises UserError where a data set or its judge cannot be had."""
    if exp.images:
        return album_material(Path(exp.images), exp.data, exp.train.seed)
    return read_material(exp.data, exp.recipe, exp.train.seed)


def start_network(exp: Experiment) -> tuple[nn.Module, Process]:
    """The network before training, the same for every method of a seed, and its process.

    Raises UserError when a pre-trained network makes images of another size than the experiment's.
    """
    recipe = exp.recipe
    if exp.pretrained:
        network, process = open_network(exp.pretrained)
        wanted = (recipe.channels, recipe.image_size, recipe.image_size)
        if image_shape(network) != wanted:
            raise UserError(
                f"{exp.pretrained} makes images of {_shape(image_shape(network))}, and {exp.configuration} is learned "
                f"at {_shape(wanted)}: choose a model of that size"
            )
        return network, process
    with torch.random.fork_rng():
        torch.manual_seed(exp.train.seed)
        told = TOKEN_DIM if exp.train.conditional else None
        network = make_network(exp.network, recipe.channels, recipe.image_size, told)
    return network, make_process(recipe)


def _shape(shape: tuple[int, int, int]) -> str:
    channels, height, width = shape
    return f"{height} x {width} with {channels} channel{'s' if channels > 1 else ''}"


def make_trainer(exp: Experiment, data: Material, folder: Path | None) -> Trainer:
    """A trainer for the experiment, resuming what `folder` holds."""
    network, process = start_network(exp)
    identity = {"configuration": exp.configuration, "network": exp.network}
    identity |= {"pretrained": exp.pretrained} if exp.pretrained else {}
    condition = None
    if exp.train.conditional and data.labels is not None:
        condition = Condition(data.concepts().tokens.data, data.labels)
    return Trainer(network, process, data.train, data.split, exp.train, folder, identity, exp.save_every, condition)


Report = Callable[[str, Any], None]
"""Called with ("step", Record), ("sample", (done, of)), ("strip", path) or ("note", sentence) while a run goes on."""


def run(exp: Experiment, folder: Path, report: Report = lambda what, value: None) -> dict[str, Any]:
    """Train (or go on training), sample, judge. Returns the row; `folder` keeps checkpoint, pipeline and samples.

    Under `accelerate launch` every process trains and draws its share; the main one alone judges and writes the row,
    the others return {}.
    Raises UserError where the user can help.
    """
    if exp.features == "inception":
        require_weights()  # before hours of training, not after
    forget_peak_memory()
    data = material(exp)
    trainer = make_trainer(exp, data, folder)
    main = trainer.accelerator.is_main_process
    batches = folder / "batches"
    if main and trainer.step < exp.train.steps:
        shutil.rmtree(batches, ignore_errors=True)  # what another training drew
    strips = {max(1, round(exp.train.steps * share)) for share in (0.1, 0.25, 0.5, 0.75)}
    with fitting(_training(exp), "--set a larger pieces, gradient_checkpointing=1 or a smaller batch_size"):
        steps = chain([trainer.step], (_reported(record, report) for record in trainer))  # 0, or where it was cut off
        for step in steps:
            while main and trainer.notes:
                report("note", trainer.notes.pop(0))
            path = folder / f"strip_{step:06d}.png"
            if main and step in strips and not path.exists():
                write_strip(draw(trainer.ema, trainer.process, 10, **_quick(exp), **_told(exp, data, 10)), path)
                report("strip", path)
    network = trainer.ema
    if main and exp.train.conditional:
        save_conditional(Conditional(network, trainer.process, data.concepts()), folder / "pipeline")
    elif main:
        save_pipeline(network, trainer.process, folder / "pipeline")
    started = time.monotonic()
    with fitting("while images were drawn", "end what else holds some of it (nvidia-smi names it), and go on"):
        files = draw_share(
            network,
            trainer.process,
            exp.n_samples,
            batches / "_".join(map(str, exp.sampling.values())),
            trainer.accelerator.process_index,
            trainer.accelerator.num_processes,
            lambda done, of: report("sample", (done, of)),
            **exp.sampling,
            **_told(exp, data),
        )
    trainer.accelerator.wait_for_everyone()  # until every share is drawn
    if not main:
        return {}
    samples = gather(files)
    sample_seconds = time.monotonic() - started
    prompted = data.prompted(exp.n_samples) if exp.train.conditional else None
    measured = measures(samples, data, exp.features, prompted)
    arrays = {"images": samples, "sensitive": measured.sensitive, "confidence": measured.confidence}
    write_arrays(folder / "samples.npz", **{name: array.numpy() for name, array in arrays.items()})
    write_whole(folder / "log.json", lambda path: path.write_text(json.dumps(trainer.log)))
    shutil.rmtree(batches)
    lacks = not_measured(data, exp.features)
    return {
        "run": exp.name,
        **exp.as_row(),
        "realised_share": None if exp.data.dataset == FOLDERS else round(data.split.realised_share, 5),
        "labelled": len(trainer.split.s),
        "parameters": sum(p.numel() for p in network.parameters()),
        "mode": mode(),
        "images_seen": exp.train.steps * exp.train.batch_size,
        "schedule": "its own" if exp.pretrained else exp.recipe.schedule,
        "prediction": trainer.process.prediction,
        "sample_precision": half_precision(trainer.accelerator.device),
        **measured.row,
        **({"not_measured": lacks} if lacks else {}),
        "clamped_share": round(sum(value for _, value in trainer.log.get("clamped", [])) / max(1, exp.train.steps), 4),
        "train_seconds": round(trainer.seconds, 1),
        "sample_seconds": round(sample_seconds, 1),
        "peak_memory_mb": round(peak_memory_mb()),
        **machine(),
    }


def _told(exp: Experiment, data: Material, n: int = 0) -> dict[str, Any]:
    """What a conditional network is told of each of n samples, exp.n_samples where left out, as `draw` takes it."""
    if not exp.train.conditional:
        return {}
    concepts = data.concepts()
    return {"prompts": concepts.tokens.data[data.prompted(n or exp.n_samples)], "null": concepts.null.data}


def _reported(record: Record, report: Report) -> int:
    report("step", record)
    return record.step


def _training(exp: Experiment) -> str:
    c = exp.train
    return f"while training on {c.batch_size} images a step in {c.pieces} piece{'s' if c.pieces > 1 else ''}"


def _quick(exp: Experiment) -> dict[str, Any]:
    """How a strip is drawn: it shows how a run goes on, and DDIM shows that in few steps."""
    return {**exp.sampling, "sampler": "ddim", "steps": min(exp.sampler_steps, 25)}


def write_strip(images: Tensor, path: Path) -> None:
    """Images side by side, three times their size, as a PNG. images: (n, C, H, W) uint8."""
    from PIL import Image

    pixels = torch.cat(list(images), 2).permute(1, 2, 0).squeeze(-1).numpy()
    picture = Image.fromarray(pixels)
    write_whole(path, lambda temporary: picture.resize((picture.width * 3, picture.height * 3), 0).save(temporary))
