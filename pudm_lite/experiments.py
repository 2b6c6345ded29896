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

from . import __version__
from .datasets import ImageSet, fit, mnist, to_pixels
from .diffusion import Process
from .errors import UserError
from .files import write_arrays, write_whole
from .judge import Judge, Verdict, mnist_judge
from .metrics import corrected_rate, frechet_distance, frechet_floor, non_sensitive_rate
from .networks import RECIPES, Recipe, make_network, make_process, save_pipeline
from .sampling import SAMPLERS, sample
from .splits import TABLE_1, Configuration, Split, positive_unlabeled_split
from .training import TrainConfig, Trainer, peak_memory_mb

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
    """One run: a configuration of Table 1, a method and its training, a network, and how its samples are drawn."""

    configuration: str = "mnist-even"
    network: str = "lite"
    train: TrainConfig = field(default_factory=TrainConfig)
    sampler: str = "ddpm"
    sampler_steps: int = 25
    n_samples: int = 2000
    sample_seed: int = 0

    def __post_init__(self) -> None:
        for what, value, known in (
            ("configuration", self.configuration, TABLE_1),
            ("network", self.network, RECIPES),
            ("sampler", self.sampler, SAMPLERS),
        ):
            if value not in known:
                raise UserError(f"unknown {what} {value!r}; known: {', '.join(known)}")
        if not 1 <= self.sampler_steps <= 1000:
            raise UserError(f"sampler steps must lie in 1..1000; got {self.sampler_steps}")
        if self.n_samples < 2:
            raise UserError(f"at least 2 samples are needed to measure anything; got {self.n_samples}")

    @property
    def name(self) -> str:
        """A folder name: what the run is, and eight digits that depend on every setting that shapes its training.

        A setting at its default does not count, so that a setting added later renames no run.
        """
        plain = asdict(TrainConfig())
        settings = {name: value for name, value in asdict(self.train).items() if value != plain[name]}
        shaping = json.dumps([self.configuration, self.network, settings], sort_keys=True)
        digest = hashlib.sha256(shaping.encode()).hexdigest()[:8]
        return f"{self.configuration}_{self.train.method}_seed{self.train.seed}_{digest}"


def experiment(
    configuration: str = "mnist-even",
    method: str = "nnpu",
    network: str = "lite",
    **overrides: Any,
) -> Experiment:
    """The experiment with the recipe of its network; any field of TrainConfig can be given as a keyword.

    Raises UserError for unknown names and values out of range.
    """
    if network not in RECIPES:
        raise UserError(f"unknown network {network!r}; known: {', '.join(RECIPES)}")
    recipe = RECIPES[network]
    train = replace(TrainConfig(**recipe.train), **{"method": method, **overrides})
    return Experiment(configuration, network, train, recipe.sampler, recipe.sampler_steps, sample_seed=train.seed)


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


@dataclass(frozen=True)
class Material:
    """The images that an experiment works on, of its network's size, and the judge of its data set.

    train, test: (N, C, H, W) uint8; test holds only the normal test images of the split.
    """

    configuration: Configuration
    split: Split
    train: Tensor
    test: Tensor
    judge: Judge


def material(configuration: str, recipe: Recipe, seed: int) -> Material:
    """Load, split by seed, and bring to size. Raises UserError where a data set cannot be had."""
    c = TABLE_1[configuration]
    if c.dataset != "mnist":
        raise UserError(
            f"{c.dataset} is not read by this version; the configurations that run are mnist-even and mnist-odd"
        )
    train: ImageSet = mnist(train=True)
    test: ImageSet = mnist(train=False)
    split = positive_unlabeled_split(train.labels, test.labels, train.classes, c, seed)
    size, channels = recipe.image_size, recipe.channels
    return Material(
        c,
        split,
        fit(train.images, size, channels),
        fit(test.images[split.test], size, channels),
        mnist_judge(),
    )


def start_network(exp: Experiment) -> tuple[nn.Module, Process]:
    """The untrained network, the same for every method of a seed, and its process."""
    with torch.random.fork_rng():
        torch.manual_seed(exp.train.seed)
        network = make_network(exp.network)
    return network, make_process(RECIPES[exp.network])


def make_trainer(exp: Experiment, data: Material, folder: Path | None) -> Trainer:
    """A trainer for the experiment, resuming what `folder` holds."""
    network, process = start_network(exp)
    identity = {"configuration": exp.configuration, "network": exp.network}
    return Trainer(network, process, data.train, data.split, exp.train, folder, identity, save_every=30)


def draw(
    network: Callable[..., Any], exp: Experiment, n: int, progress: Callable[[int, int], None] | None = None
) -> Tensor:
    """n sample images of the experiment's sampler and seed, (n, C, H, W) uint8."""
    recipe = RECIPES[exp.network]

    def output(x: Tensor, t: Tensor) -> Tensor:
        return network(x, t).sample

    device = "cuda" if torch.cuda.is_available() else "cpu"
    parts: list[Tensor] = []
    for part in sample(
        output,
        make_process(recipe),
        (recipe.channels, recipe.image_size, recipe.image_size),
        n,
        exp.sampler,
        exp.sampler_steps,
        exp.sample_seed,
        device=device,
    ):
        parts.append(to_pixels(part))
        if progress:
            progress(sum(map(len, parts)), n)
    return torch.cat(parts)


def measure(verdict: Verdict, data: Material) -> dict[str, Any]:
    """The measures of a row, from what the judge says of the samples."""
    judge, normal = data.judge, data.configuration.normal
    rate = non_sensitive_rate(judge.is_normal(verdict, normal).numpy())
    real = judge.look(data.test).features.numpy()
    kept, caught = judge.errors(normal)
    return {
        "n_samples": rate.n,
        "non_sensitive_rate": round(rate.rate, 5),
        "rate_low": round(rate.low, 5),
        "rate_high": round(rate.high, 5),
        "rate_corrected": round(corrected_rate(rate.rate, kept, caught), 5),
        "judge_accuracy": round(judge.accuracy, 5),
        "judge_confidence": round(float(verdict.confidence.mean()), 5),
        "frechet_distance": round(frechet_distance(verdict.features.numpy(), real), 5),
        "frechet_floor": round(frechet_floor(real, rate.n), 5),
        "frechet_features": f"judge-{judge.name}-{real.shape[1]}",
    }


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

    Raises UserError where the user can help.
    """
    data = material(exp.configuration, RECIPES[exp.network], exp.train.seed)
    trainer = make_trainer(exp, data, folder)
    strips = {max(1, round(exp.train.steps * share)) for share in (0.1, 0.25, 0.5, 0.75)}
    for record in trainer:
        report("step", record)
        if record.step in strips:
            path = folder / f"strip_{record.step:06d}.png"
            write_strip(draw(trainer.ema, exp, 10), path)
            report("strip", path)
    network = trainer.ema
    save_pipeline(network, RECIPES[exp.network], folder / "pipeline")
    started = time.monotonic()
    samples = draw(network, exp, exp.n_samples, lambda done, of: report("sample", (done, of)))
    sample_seconds = time.monotonic() - started
    verdict = data.judge.look(samples)
    sensitive = ~data.judge.is_normal(verdict, data.configuration.normal)
    write_arrays(folder / "samples.npz", images=samples.numpy(), sensitive=sensitive.numpy())
    write_whole(folder / "log.json", lambda path: path.write_text(json.dumps(trainer.log)))
    c = exp.train
    return {
        "run": exp.name,
        "experiment": exp.configuration,
        "method": c.method,
        "beta": c.beta,
        "realised_share": round(data.split.realised_share, 5),
        "labelled": len(trainer.split.s),
        "ell_scale": c.ell_scale,
        "network": exp.network,
        "parameters": sum(p.numel() for p in network.parameters()),
        "mode": mode(),
        "seed": c.seed,
        "steps": c.steps,
        "batch_size": c.batch_size,
        "images_seen": c.steps * c.batch_size,
        "stream": c.stream,
        "timesteps": c.timesteps,
        "schedule": RECIPES[exp.network].schedule,
        "prediction": RECIPES[exp.network].prediction,
        "optimiser": c.optimiser,
        "sampler": exp.sampler,
        "sampler_steps": exp.sampler_steps,
        "sample_seed": exp.sample_seed,
        **measure(verdict, data),
        "clamped_share": round(sum(value for _, value in trainer.log.get("clamped", [])) / c.steps, 4),
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
