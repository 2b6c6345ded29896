"""What a run is, how it goes, what it leaves.

Names are resolved once, in `experiment`; what stands below it takes values.
"""

import hashlib
import json
import math
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..conditional import Condition, Conditional, save_conditional
from ..diffusion import Process
from ..errors import UserError
from ..files import write_arrays, write_whole
from ..measures.inception import require_weights, weights_are_there
from ..networks import (
    TOKEN_DIM,
    Recipe,
    image_shape,
    make_network,
    make_process,
    open_network,
    recipe_for,
    save_pipeline,
)
from ..sampling import SAMPLERS, draw, half_precision
from ..settings import TrainConfig
from ..splits import DIGITS, Configuration, named_configuration
from ..training import Record, Trainer
from .albums import FOLDERS, album_configuration, album_material, is_album
from .drawing import draw_share, gather
from .machine import fitting, forget_peak_memory, machine, mode, peak_memory_mb
from .materials import Material, read_material
from .measuring import FEATURES, measures, not_measured


@dataclass(frozen=True)
class Experiment:
    """One run, every name in it resolved: data, a method and its training, a network, how samples are drawn and judged.

    configuration: what its data are called, and data: their sizes and classes.
    network: what its network is called, and recipe: image size, process and defaults for these data.
    train: every setting of the training.
    sampler, sampler_steps, sample_seed, n_samples: how samples are drawn, and how many.
    features: of the Fréchet distance, one of measuring.FEATURES.
    pretrained: what the training starts from: a folder or hub name of a Diffusers pipeline, or a file of `pudm ship`.
    guidance: how far samples of a conditional network go beyond their condition (`conditional.guided`).
    images: the file of an album (`albums.Album`): images of one's own.
    save_every: seconds between checkpoints, which shape no result; None for what `Trainer` finds.
    beta_interval: of a beta that was estimated, where it may as well lie.
    Raises UserError for unknown names and values out of range.
    """

    configuration: str
    data: Configuration
    network: str
    recipe: Recipe
    train: TrainConfig
    sampler: str
    sampler_steps: int
    sample_seed: int = 0
    n_samples: int = 2000
    features: str = "judge"
    pretrained: str = ""
    images: str = ""
    guidance: float = 1.0
    save_every: float | None = None
    beta_interval: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        for what, value, known in (("sampler", self.sampler, SAMPLERS), ("features", self.features, FEATURES)):
            if value not in known:
                raise UserError(f"unknown {what} {value!r}; known: {', '.join(known)}")
        if not 1 <= self.sampler_steps <= 1000:
            raise UserError(f"sampler steps must lie in 1..1000; got {self.sampler_steps}")
        if self.save_every is not None and not 0 <= self.save_every < math.inf:
            raise UserError(f"checkpoints are kept every 0 seconds or more; got {self.save_every}")
        if self.n_samples < 2:
            raise UserError(f"at least 2 samples are needed to measure anything; got {self.n_samples}")
        if self.train.steps == 0 and not self.pretrained:
            raise UserError("steps must be larger than 0, but where --pretrained names a model to draw from as it is")
        if self.train.conditional and (self.pretrained or self.images):
            raise UserError("a conditional network is trained from scratch, on a data set with classes")
        if not 0 <= self.guidance <= 100:
            raise UserError(f"guidance must lie in [0, 100]; got {self.guidance}")
        if self.train.flips and self.data.dataset in DIGITS:
            raise UserError("a mirrored digit is none: leave flips at 0")
        if self.data.dataset == FOLDERS and self.train.method in ("pn", "pnu"):
            raise UserError(
                f"{self.train.method} needs the true labels of U, which a folder does not give: name one of classes "
                "with --classes"
            )

    @property
    def method(self) -> str:
        """The method's name in a row: the training's, or `pretrained` where nothing is trained."""
        return self.train.method if self.train.steps else "pretrained"

    @property
    def sampling(self) -> dict[str, Any]:
        """How samples are drawn, as `sampling.draw` takes it."""
        how = {"sampler": self.sampler, "steps": self.sampler_steps, "seed": self.sample_seed}
        return how | ({"guidance": self.guidance} if self.train.conditional else {})

    @property
    def name(self) -> str:
        """A folder name: what the run is, and eight digits that depend on every setting that shapes its training.

        A setting at its default does not count, so that a setting added later renames no run.
        """
        plain = asdict(TrainConfig())
        settings = {name: value for name, value in asdict(self.train).items() if value != plain[name]}
        settings |= {"pretrained": self.pretrained} if self.pretrained else {}
        shaping = json.dumps([self.configuration, self.network, settings], sort_keys=True)
        digest = hashlib.sha256(shaping.encode()).hexdigest()[:8]
        return f"{self.configuration}_{self.method}_seed{self.train.seed}_{digest}"

    def as_row(self) -> dict[str, Any]:
        """What a row says was asked for: every setting of the training, and every other field that is a word or number.

        `experiment` and `method` are what readers look for; the values of `data` and `recipe` follow from the names,
        but for images of one's own: of those it says what they are called, and how many there are of each kind.
        """
        others = ["data", "recipe", "train", "images", "save_every", "beta_interval"]
        others += [] if self.train.conditional else ["guidance"]
        asked = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in others}
        row = {"experiment": asked.pop("configuration"), **self.train.as_row(), **asked, "method": self.method}
        return row | (self._own() if self.images else {})

    @property
    def beta_row(self) -> dict[str, Any]:
        """What a row says beside of a beta that was estimated. The run is that of the same beta, given."""
        if self.beta_interval is None:
            return {}
        return {"beta_from": "estimate", "beta_low": self.beta_interval[0], "beta_high": self.beta_interval[1]}

    def _own(self) -> dict[str, Any]:
        c = self.data
        named = {"images": c.title, "normal": ",".join(c.normal), "sensitive": ",".join(c.sensitive)}
        return {**named, "unlabeled": c.u_normal + c.u_sensitive, "image_size": c.image_size}


def experiment(
    configuration: str = "mnist-even",
    method: str = "nnpu",
    network: str = "lite",
    pretrained: str = "",
    **overrides: Any,
) -> Experiment:
    """The experiment with the recipe of its network and data: here, and nowhere else, names become values.

    configuration: a name that splits.named_configuration knows; or the file of an album (`albums.Album`).
    method: one of risks.METHODS; or `pretrained`, which trains nothing and draws from the model named so.
    overrides: any other field of TrainConfig, sampler, sampler_steps, features, guidance, and n_samples, which is 0 for
        as many as the configuration has test images. None stands for the recipe's.
    Distances are measured on the judge's features for digits and images of one's own, on Inception's for the others,
        where its weights are there.
    Raises UserError for unknown names and values out of range.
    """
    images = configuration if is_album(configuration) else ""
    data = album_configuration(Path(images)) if images else named_configuration(configuration)
    recipe = recipe_for(network, data, pretrained)
    given = {name: value for name, value in overrides.items() if value is not None}
    inception = not images and data.dataset not in DIGITS and weights_are_there()
    usual = {
        "sampler": recipe.sampler,
        "sampler_steps": recipe.sampler_steps,
        "n_samples": 2000,
        "features": "inception" if inception else "judge",
        "guidance": 1.0,
        "save_every": None,
    }
    sampling = {name: given.pop(name, value) for name, value in usual.items()}
    sampling["n_samples"] = sampling["n_samples"] or data.test
    if method == "pretrained":
        method, given = "unsupervised", {**given, "steps": 0}
    train = replace(TrainConfig(**recipe.train), **{"method": method, **given})
    return Experiment(
        Path(images).stem if images else configuration,
        data,
        network,
        recipe,
        train,
        **sampling,
        sample_seed=train.seed,
        pretrained=pretrained,
        images=images,
    )


def parse_settings(texts: list[str]) -> dict[str, Any]:
    """["ell_scale=100", "stream=two"] as fields of TrainConfig with their types.

    Raises UserError for an unknown field (the message lists the known) and for a value of another type.
    """
    known: dict[str, Any] = {f.name: type(f.default) for f in fields(TrainConfig)}
    settings = {}
    for text in texts:
        name, _, value = text.partition("=")
        if name not in known:
            raise UserError(f"unknown setting {text!r}; write NAME=VALUE with one of {', '.join(known)}")
        try:
            settings[name] = known[name](value)
        except ValueError:
            raise UserError(f"{name} takes a value of type {known[name].__name__}; got {value!r}") from None
    return settings


def settings_help() -> str:
    """A line for each field of TrainConfig: its name, its default, what it is."""
    lines = [f"{f.name} ({f.default}): {f.metadata['what']}" for f in fields(TrainConfig)]
    return "\n".join(["settings of --set, each with its default, which a network's recipe may replace:", *lines])


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
