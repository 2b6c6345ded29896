"""One digit removed from a model without a condition: by PU fine-tuning, by its rivals, by training anew without it.

A row is of one method, digit and seed. Rows of a seed draw from the same noise; the reference that distances are
measured to is the retrained model drawing from other noise, so that nothing is near to it for sharing noise alone.
"""

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..datasets import checked_file, mnist
from ..diffusion import Process
from ..erasing.unlearning import BATCH, Method, unlearn
from ..erasing.unlearning import METHODS as RIVALS
from ..errors import UserError
from ..files import alone, array_shapes, read_arrays, read_rows, write_arrays, write_rows
from ..measures.metrics import frechet_distance, frechet_floor, non_sensitive_rate
from ..sampling import draw
from .experiments import Experiment, experiment
from .machine import machine, mode
from .materials import Material
from .running import make_trainer, material, start_network

Row = dict[str, Any]
Tick = Callable[[int], Any]
"""Called with how many images went through a network since the last call, a trained one counted TRAINED times."""

SHIPPED = "models/mnist-digits_unsupervised_seed0.safetensors"
DIGITS = "0123456789"
PU = ("unsupervised", "nnpu", "abspu")
"""Methods of the first paper, which see U and S and no other label; `unsupervised` is naive deletion with U alone."""
WITH_U = {"siss-u": "siss"}
"""Rivals that take all of U for images to be kept: they are told what the PU methods are told, and no more."""
METHODS = ("retrained", "unedited", *PU, *RIVALS, *WITH_U)
"""In the order of their rows: what others are measured against comes first."""
STEPS, REFERENCE_STEPS = 200, 2200
"""Of a PU fine-tuning; and of the retrained model, as many as the shipped one had."""
TRAINED = 2


@dataclass(frozen=True)
class Entry:
    """A row to be made.

    steps: of every fine-tuning; None for STEPS and each rival's own. reference_steps: of the retrained model.
    pretrained: the model to remove the digit from, as `open_network` takes it; "" for SHIPPED.
    Raises UserError for an unknown method.
    """

    method: str
    digit: int
    seed: int
    n_samples: int = 1000
    steps: int | None = None
    reference_steps: int = REFERENCE_STEPS
    pretrained: str = ""

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise UserError(f"unknown method {self.method!r}; known: {', '.join(METHODS)}")

    @property
    def fine_tuning(self) -> Experiment:
        """The digit sensitive, all others normal, U and S as large as Table 1's: a row's data, and its run if it is
        of a PU method."""
        normal = ",".join(name for name in DIGITS if name != str(self.digit))
        return experiment(
            f"mnist-{normal}",
            self.method if self.method in PU else "nnpu",
            pretrained=self.pretrained or str(checked_file(SHIPPED)),
            seed=self.seed,
            steps=STEPS if self.steps is None else self.steps,
        )

    @property
    def retraining(self) -> Experiment:
        """The recipe of the shipped model, on all training images but the digit's."""
        exp = experiment("mnist-digits", "unsupervised", seed=self.seed, steps=self.reference_steps)
        data = replace(self.fine_tuning.data, u_normal=_others(self.digit), u_sensitive=0, s=0)
        return replace(exp, configuration=f"mnist-without-{self.digit}", data=data)

    @property
    def rival(self) -> Method:
        """The method of erasing.unlearning, with the steps asked for."""
        method = RIVALS[WITH_U.get(self.method, self.method)]
        return method if self.steps is None else replace(method, steps=self.steps)

    @property
    def told(self) -> str:
        """What the method learns from."""
        known = {
            "retrained": "all kept images",
            "unedited": "",
            "unsupervised": "U",
            "naive": "kept",
            "negative-gradient": "S",
        }
        both = "U and S" if self.method in (*PU, *WITH_U) else "kept and S"
        return known.get(self.method, both)

    @property
    def trained_images(self) -> int:
        """How many images go through the network in its training, each step's counted."""
        if self.method == "unedited":
            return 0
        if self.method in (*PU, "retrained"):
            train = (self.retraining if self.method == "retrained" else self.fine_tuning).train
            return train.steps * train.batch_size
        return self.rival.steps * BATCH

    @property
    def asked(self) -> Row:
        """Every setting that shapes the row."""
        exp = self.fine_tuning
        if self.method == "unedited":
            own: Row = {"steps": 0}
        elif self.method in (*PU, "retrained"):
            own = (self.retraining if self.method == "retrained" else exp).train.as_row()
        else:
            own = self.rival.as_row()
        return {
            **own,
            "experiment": exp.configuration,
            "method": self.method,
            "digit": self.digit,
            "seed": self.seed,
            "told": self.told,
            "pretrained": self.pretrained or SHIPPED,
            "reference_steps": self.reference_steps,
            "n_samples": self.n_samples,
            "sampler": exp.sampler,
            "sampler_steps": exp.sampler_steps,
        }

    @property
    def name(self) -> str:
        digest = hashlib.sha256(json.dumps(self.asked, sort_keys=True).encode()).hexdigest()[:8]
        return f"{self.method}_{self.digit}_seed{self.seed}_{digest}"

    @property
    def reference(self) -> "Entry":
        """The retrained model of this row."""
        return replace(self, method="retrained")


@cache
def _others(digit: int) -> int:
    """How many training images are of other digits."""
    return int((mnist(train=True).labels != digit).sum())


def plan(digits: list[int], seeds: list[int], methods: list[str], **settings: Any) -> list[Entry]:
    """The rows of every digit, seed and method, each once; the retrained model first, as all are measured by it.

    settings: the other fields of Entry. Raises UserError for an unknown method.
    """
    wanted = dict.fromkeys(["retrained", *methods])
    return list(dict.fromkeys(Entry(m, d, s, **settings) for d in digits for s in seeds for m in wanted))


def bench(entries: list[Entry], root: Path) -> list[Row]:
    """Make the rows that are not in root/rows.jsonl yet, each written there as soon as it is done; returns them all.

    Raises UserError when another process works in root, when a file cannot be written, and where a method fails.
    """
    from tqdm.auto import tqdm

    busy = f"another process works in {root}: wait for it, or choose another folder with --out"
    with alone(root / "unlearn", busy):
        rows = {entry: row for entry in entries if (row := finished(root, entry))}
        left = [entry for entry in entries if entry not in rows]
        with tqdm(total=sum(map(_work, left)), unit="image", unit_scale=True, disable=not left) as bar:
            for entry in left:
                bar.set_description(f"{entry.method}, digit {entry.digit}, seed {entry.seed}")
                rows[entry] = make(entry, root, bar.update)
                write_rows(root / "rows.jsonl", [rows[entry]])
    return [rows[entry] for entry in entries]


def _work(entry: Entry) -> int:
    drawn = entry.n_samples * entry.fine_tuning.sampler_steps
    return TRAINED * entry.trained_images + (2 * drawn if entry.method == "retrained" else drawn)


def finished(root: Path, entry: Entry) -> Row | None:
    """The row of this entry, where it is there; of the retrained model only if its reference is there as well."""
    path = root / "rows.jsonl"
    found = [row for row in read_rows(path) if row.get("run") == entry.name] if path.exists() else []
    if entry.method == "retrained":
        try:
            array_shapes(_reference(root, entry), whole=True)
        except UserError:
            return None
    return found[0] if found else None


def _reference(root: Path, entry: Entry) -> Path:
    return root / "references" / f"{entry.reference.name}.npz"


@dataclass(frozen=True)
class Ground:
    """What the rows of a digit and seed share. real: (N, d) features of the real kept test images."""

    data: Material
    real: np.ndarray


@lru_cache(maxsize=1)
def ground(exp: Experiment) -> Ground:
    data = material(exp)
    assert data.judge is not None
    return Ground(data, data.judge.look(data.test).features.numpy())


def make(entry: Entry, root: Path, tick: Tick = lambda images: None) -> Row:
    """Train, draw, measure. Of the retrained model the reference is left in `root`, which the others read."""
    at = ground(replace(entry, method="nnpu").fine_tuning)
    network, process, seconds = changed(entry, at.data, tick)
    started = time.process_time()
    samples = _drawn(network, process, entry, tick)
    drawing = time.process_time() - started
    if entry.method == "retrained":
        write_arrays(_reference(root, entry), images=_drawn(network, process, entry, tick, entry.n_samples).numpy())
    reference = torch.from_numpy(read_arrays(_reference(root, entry), "images")["images"])
    return {
        "run": entry.name,
        **entry.asked,
        "mode": mode(),
        "parameters": sum(p.numel() for p in network.parameters()),
        "trained_images": entry.trained_images,
        **measured(samples, reference, entry.digit, at),
        "train_cpu_seconds": round(seconds, 1),
        "sample_cpu_seconds": round(drawing, 1),
        **machine(),
    }


def changed(entry: Entry, data: Material, tick: Tick) -> tuple[nn.Module, Process, float]:
    """The network without the digit, its process, and the CPU seconds that the change took, all threads together."""
    if entry.method in (*PU, "retrained"):
        exp = entry.fine_tuning
        if entry.method == "retrained":
            exp = entry.retraining
            data = material(exp)
        trainer = make_trainer(exp, data, None)
        started = time.process_time()
        for _ in trainer:
            tick(TRAINED * exp.train.batch_size)
        return trainer.ema, trainer.process, time.process_time() - started
    network, process = start_network(entry.fine_tuning)
    network.to("cuda" if torch.cuda.is_available() else "cpu")
    if entry.method == "unedited":
        return network, process, 0.0
    split = data.split
    kept = data.train[split.u if entry.method in WITH_U else split.u[~split.u_sensitive]]
    forgotten = data.train[split.s]
    found = unlearn(network, process, kept, forgotten, entry.rival, entry.seed, lambda *_: tick(TRAINED * BATCH))
    return found.network, process, found.seconds


def _drawn(network: nn.Module, process: Process, entry: Entry, tick: Tick, first: int = 0) -> Tensor:
    """The row's images, or those that follow on them."""
    exp, before = entry.fine_tuning, 0

    def progress(done: int, of: int) -> None:
        nonlocal before
        tick((done - before) * exp.sampler_steps)
        before = done

    return draw(network, process, entry.n_samples, **exp.sampling, progress=progress, first=first)


def measured(samples: Tensor, reference: Tensor, digit: int, at: Ground) -> Row:
    """How often the digit is drawn, with Wilson's interval at 95 %, and how far the samples are from real kept digits
    and from the retrained model's; distances are Fréchet's on the judge's features, all samples counted.

    samples, reference: (n, C, H, W) uint8, as many of each. kept_floor: the distance of as many real images.
    """
    judge = at.data.judge
    assert judge is not None
    verdict = judge.look(samples)
    features, target = verdict.features.numpy(), judge.look(reference).features.numpy()
    share = non_sensitive_rate((verdict.classes == judge.classes.index(str(digit))).numpy())
    return {
        "digit_share": round(share.rate, 5),
        "digit_share_low": round(share.low, 5),
        "digit_share_high": round(share.high, 5),
        "kept_distance": round(frechet_distance(features, at.real), 5),
        "kept_floor": round(frechet_floor(at.real, share.n), 5),
        "retrained_distance": round(frechet_distance(features, target), 5),
        "frechet_features": f"judge-{judge.name}-{features.shape[1]}",
        "judge_accuracy": round(judge.accuracy, 5),
        "judge_confidence": round(float(verdict.confidence.mean()), 5),
    }
