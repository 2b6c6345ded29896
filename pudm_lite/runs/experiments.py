"""The experiments as data, and one function that runs one and returns its row."""

import hashlib
import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .. import __version__
from ..datasets import to_pixels
from ..diffusion import Process
from ..errors import UserError
from ..files import write_arrays, write_whole
from ..measures.inception import fid, require_weights
from ..measures.judge import Verdict
from ..measures.metrics import corrected_rate, frechet_distance, frechet_floor, non_sensitive_rate
from ..networks import (
    RECIPES,
    Recipe,
    image_shape,
    make_network,
    make_process,
    open_network,
    recipe_for,
    save_pipeline,
)
from ..sampling import SAMPLERS, sample
from ..splits import Configuration, named_configuration
from ..training import TrainConfig, Trainer, peak_memory_mb
from .materials import Material, material, own_configuration, own_material

MODES = ("fast", "lab", "full")


def mode() -> str:
    """$PUDM_MODE: `fast` (what the tests run), `lab` (the default) or `full` (the paper's settings).

    Raises UserError for anything else.
    """
    value = os.environ.get("PUDM_MODE", "lab")
    if value not in MODES:
        raise UserError(f"PUDM_MODE is {value!r}; it can be {', '.join(MODES)}")
    return value


@dataclass(frozen=True)
class Experiment:
    """One run: data, a method and its training, a network, and how its samples are drawn and measured.

    configuration: a name that splits.named_configuration knows; or, for images of one's own, any name, with `images`.
    pretrained: what the training starts from: a folder or hub name of a Diffusers pipeline, or a file of `pudm ship`.
    features: of the Fréchet distance, the judge's or Inception's.
    images: an .npz file with arrays u, s and test, (N, C, S, S) uint8: images of one's own (`folders.pack`).
    """

    configuration: str = "mnist-even"
    network: str = "lite"
    train: TrainConfig = field(default_factory=TrainConfig)
    sampler: str = "ddpm"
    sampler_steps: int = 25
    n_samples: int = 2000
    sample_seed: int = 0
    pretrained: str = ""
    features: str = "judge"
    images: str = ""

    def __post_init__(self) -> None:
        if not self.images:
            named_configuration(self.configuration)
        for what, value, known in (
            ("network", self.network, RECIPES),
            ("sampler", self.sampler, SAMPLERS),
            ("features", self.features, FEATURES),
        ):
            if value not in known:
                raise UserError(f"unknown {what} {value!r}; known: {', '.join(known)}")
        if not 1 <= self.sampler_steps <= 1000:
            raise UserError(f"sampler steps must lie in 1..1000; got {self.sampler_steps}")
        if self.n_samples < 2:
            raise UserError(f"at least 2 samples are needed to measure anything; got {self.n_samples}")
        if self.train.steps == 0 and not self.pretrained:
            raise UserError("steps must be larger than 0, but where --pretrained names a model to draw from as it is")
        if self.images and self.train.method in ("pn", "pnu"):
            raise UserError(f"{self.train.method} needs the true labels of U, which images of your own do not have")

    @property
    def method(self) -> str:
        """The method's name in a row: the training's, or `pretrained` where nothing is trained."""
        return self.train.method if self.train.steps else "pretrained"

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


FEATURES = ("judge", "inception")


def experiment(
    configuration: str = "mnist-even",
    method: str = "nnpu",
    network: str = "lite",
    pretrained: str = "",
    images: str = "",
    **overrides: Any,
) -> Experiment:
    """The experiment with the recipe of its network and data; any field of TrainConfig can be given as a keyword.

    method: one of risks.METHODS; or `pretrained`, which trains nothing and draws from the model named so.
    Distances are measured on the judge's features for digits and images of one's own, on Inception's for the others.
    Raises UserError for unknown names and values out of range.
    """
    bare = Experiment(configuration, network, pretrained=pretrained, images=images)  # checks the names
    recipe = recipe_of(bare)
    if method == "pretrained":
        method, overrides = "unsupervised", {**overrides, "steps": 0}
    train = replace(TrainConfig(**recipe.train), **{"method": method, **overrides})
    digits = images or named_configuration(configuration).dataset in ("mnist", "standin")
    return replace(
        bare,
        train=train,
        sampler=recipe.sampler,
        sampler_steps=recipe.sampler_steps,
        sample_seed=train.seed,
        features="judge" if digits else "inception",
    )


def configuration_of(exp: Experiment) -> Configuration:
    """Sizes and classes of the experiment's data."""
    return own_configuration(Path(exp.images)) if exp.images else named_configuration(exp.configuration)


def recipe_of(exp: Experiment) -> Recipe:
    """The recipe of the experiment's network for its data."""
    return recipe_for(exp.network, configuration_of(exp), exp.pretrained)


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


def material_of(exp: Experiment) -> Material:
    """The experiment's images, split by its seed."""
    if exp.images:
        return own_material(Path(exp.images))
    return material(exp.configuration, recipe_of(exp), exp.train.seed)


def start_network(exp: Experiment) -> tuple[nn.Module, Process]:
    """The network before training, the same for every method of a seed, and its process.

    Raises UserError when a pre-trained network makes images of another size than the experiment's.
    """
    recipe = recipe_of(exp)
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
        network = make_network(exp.network, recipe.channels, recipe.image_size)
    return network, make_process(recipe)


def _shape(shape: tuple[int, int, int]) -> str:
    channels, height, width = shape
    return f"{height} x {width} with {channels} channel{'s' if channels > 1 else ''}"


def make_trainer(exp: Experiment, data: Material, folder: Path | None) -> Trainer:
    """A trainer for the experiment, resuming what `folder` holds."""
    network, process = start_network(exp)
    identity = {"configuration": exp.configuration, "network": exp.network}
    identity |= {"pretrained": exp.pretrained} if exp.pretrained else {}
    return Trainer(network, process, data.train, data.split, exp.train, folder, identity, save_every=30)


def draw(
    network: Callable[..., Any],
    exp: Experiment,
    n: int,
    progress: Callable[[int, int], None] | None = None,
    process: Process | None = None,
) -> Tensor:
    """n sample images of the experiment's sampler and seed, (n, C, H, W) uint8.

    process: the network's, where it is not its recipe's (a pre-trained network brings its own).
    """
    recipe = recipe_of(exp)

    def output(x: Tensor, t: Tensor) -> Tensor:
        return network(x, t).sample

    device = "cuda" if torch.cuda.is_available() else "cpu"
    parts: list[Tensor] = []
    for part in sample(
        output,
        process or make_process(recipe),
        (recipe.channels, recipe.image_size, recipe.image_size),
        n,
        exp.sampler,
        exp.sampler_steps,
        exp.sample_seed,
        batch_size=min(250, max(1, 2**20 // recipe.image_size**2)),  # 16 of 256 x 256: else a GPU's memory ends
        device=device,
    ):
        parts.append(to_pixels(part))
        if progress:
            progress(sum(map(len, parts)), n)
    return torch.cat(parts)


def measure(verdict: Verdict, data: Material) -> dict[str, Any]:
    """The measures of a row, from what the judge says of the samples; the Fréchet distance is on the judge's features.

    Raises UserError where the data have no judge.
    """
    judge, normal = data.judge, data.configuration.normal
    if judge is None:
        raise UserError("without normal test images there is no judge: name some with --normal-test")
    rate = non_sensitive_rate(judge.is_normal(verdict, normal).numpy())
    real = judge.look(data.test).features.numpy()
    kept, caught = judge.errors(normal)
    return {
        "n_samples": rate.n,
        "non_sensitive_rate": round(rate.rate, 5),
        "rate_low": round(rate.low, 5),
        "rate_high": round(rate.high, 5),
        "rate_corrected": round(corrected_rate(rate.rate, kept, caught), 5) if data.configuration.sensitive else None,
        "judge_accuracy": round(judge.accuracy, 5),
        "judge_confidence": round(float(verdict.confidence.mean()), 5),
        "frechet_distance": round(frechet_distance(verdict.features.numpy(), real), 5),
        "frechet_floor": round(frechet_floor(real, rate.n), 5),
        "frechet_features": f"judge-{judge.name}-{real.shape[1]}",
    }


def measures(samples: Tensor, exp: Experiment, data: Material) -> tuple[dict[str, Any], Tensor]:
    """The measures of a row, and which samples the judge calls sensitive, (n,) bool.

    Of images that have no judge nothing is measured but, with Inception's features, FID; none of them counts as
    sensitive then.
    """
    row: dict[str, Any] = {"n_samples": len(samples)}
    sensitive = torch.zeros(len(samples), dtype=torch.bool)
    if data.judge is not None:
        verdict = data.judge.look(samples)
        sensitive = ~data.judge.is_normal(verdict, data.configuration.normal)
        row = measure(verdict, data)
    if exp.features == "inception" and len(data.test) > 1:
        row |= fid(samples, data.test)
    return row, sensitive


def machine() -> dict[str, Any]:
    """Device, threads and versions of this process."""
    import diffusers

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"cpu ({_cpu_name()})"
    versions = {
        "pudm_lite": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "numpy": np.__version__,
    }
    return {"device": device, "threads": torch.get_num_threads(), "versions": versions}


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


Report = Callable[[str, Any], None]
"""Called with ("step", Record), ("sample", (done, of)) or ("strip", path) while a run goes on."""


def run(exp: Experiment, folder: Path, report: Report = lambda what, value: None) -> dict[str, Any]:
    """Train (or go on training), sample, judge. Returns the row; `folder` keeps checkpoint, pipeline and samples.

    Under `accelerate launch` every process trains; the main one alone samples and writes, the others return {}.
    Raises UserError where the user can help.
    """
    if exp.features == "inception":
        require_weights()  # before hours of training, not after
    data = material_of(exp)
    trainer = make_trainer(exp, data, folder)
    process, main = trainer.process, trainer.accelerator.is_main_process
    strips = {max(1, round(exp.train.steps * share)) for share in (0.1, 0.25, 0.5, 0.75)}
    for record in trainer:
        report("step", record)
        if main and record.step in strips:
            path = folder / f"strip_{record.step:06d}.png"
            write_strip(draw(trainer.ema, exp, 10, process=process), path)
            report("strip", path)
    if not main:
        return {}
    network = trainer.ema
    save_pipeline(network, process, folder / "pipeline")
    started = time.monotonic()
    samples = draw(network, exp, exp.n_samples, lambda done, of: report("sample", (done, of)), process)
    sample_seconds = time.monotonic() - started
    measured, sensitive = measures(samples, exp, data)
    write_arrays(folder / "samples.npz", images=samples.numpy(), sensitive=sensitive.numpy())
    write_whole(folder / "log.json", lambda path: path.write_text(json.dumps(trainer.log)))
    c, recipe = exp.train, recipe_of(exp)
    return {
        "run": exp.name,
        "experiment": exp.configuration,
        **c.as_row(),
        "method": exp.method,
        "pretrained": exp.pretrained,
        "realised_share": None if exp.images else round(data.split.realised_share, 5),
        "labelled": len(trainer.split.s),
        "network": exp.network,
        "parameters": sum(p.numel() for p in network.parameters()),
        "mode": mode(),
        "images_seen": c.steps * c.batch_size,
        "schedule": "its own" if exp.pretrained else recipe.schedule,
        "prediction": process.prediction,
        "sampler": exp.sampler,
        "sampler_steps": exp.sampler_steps,
        "sample_seed": exp.sample_seed,
        **measured,
        "clamped_share": round(sum(value for _, value in trainer.log.get("clamped", [])) / max(1, c.steps), 4),
        "train_seconds": round(trainer.seconds, 1),
        "sample_seconds": round(sample_seconds, 1),
        "peak_memory_mb": round(peak_memory_mb()),
        **machine(),
    }


def write_strip(images: Tensor, path: Path) -> None:
    """Images side by side, three times their size, as a PNG. images: (n, C, H, W) uint8."""
    from PIL import Image

    pixels = torch.cat(list(images), 2).permute(1, 2, 0).squeeze(-1).numpy()
    picture = Image.fromarray(pixels)
    write_whole(path, lambda temporary: picture.resize((picture.width * 3, picture.height * 3), 0).save(temporary))
