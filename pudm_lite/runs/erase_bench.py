"""The bench of concept erasing: an edit, its measures and its attacks, a row each; resumed, side by side."""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..conditional import Conditional, load_conditional
from ..datasets import source, to_model
from ..draws import generator
from ..erasing.attacks.table import ATTACKS, Attacked, attack
from ..erasing.measures import (
    SAMPLER,
    SAMPLER_STEPS,
    Drawn,
    draw_prompted,
    drawn,
    erasing_success,
    harm,
    kept_distance,
    preservation_success,
    probabilities,
    rate,
)
from ..erasing.methods import METHODS, Erased, erase
from ..errors import UserError
from ..files import read_arrays, read_json, write_arrays, write_rows, write_whole
from ..measures.judge import Judge, mnist_judge
from ..measures.metrics import Rate, frechet_distance
from ..splits import CLASSES
from .erasing_samples import pack_samples
from .machine import machine
from .parallel import pool, raise_failure
from .running import Report
from .shipped import SHIPPED_DIGITS, shipped_conditional

RETRAINED = "retrained"
"""Not an edit but the reference: the same network trained anew on all concepts but the erased."""
WIDELY = ("none", "esd-x", "uce", "ca", "ap-exact", RETRAINED)
"""The methods that are measured on every digit."""
CLOSELY = ("4", "7")
"""The digits that every method is measured on: both are neighbours of 9."""
REAL_EACH = {"train": 500, "test": 200}
"""Real images of each digit: of the training set that methods may use, of the test set that distances are taken to."""


@dataclass(frozen=True)
class Job:
    """One row to be made.

    model: a folder of `save_conditional`, or "" for the shipped one. retrained: the folder of the model trained without
    the concept, or "". each: images drawn for each concept, and for null. attacks: their names.
    """

    method: str
    concept: str
    seed: int
    each: int = 100
    guidance: float = 1.0
    attacks: tuple[str, ...] = ()
    model: str = ""
    retrained: str = ""

    @property
    def name(self) -> str:
        """A folder name; jobs of one folder that differ in what it does not say are told apart by `asked`."""
        return f"{self.method}_{self.concept}_seed{self.seed}"

    def asked(self) -> dict[str, Any]:
        """What a row says of what was asked for."""
        return {
            "method": self.method,
            "concept": self.concept,
            "seed": self.seed,
            "each": self.each,
            "guidance": self.guidance,
            "sampler": SAMPLER,
            "sampler_steps": SAMPLER_STEPS,
            "model": self.model or SHIPPED_DIGITS,
            "retrained": Path(self.retrained).parent.name,  # the name of its run
        }


def planned(
    methods: list[str],
    digits: list[str],
    seeds: list[int],
    retrained: Path | None,
    attacks: list[str] | None,
    **how: Any,
) -> list[Job]:
    """The jobs that these names stand for, the unedited model first; without names, the whole bench.

    retrained: the --out folder of a sweep over mnist-without-DIGIT, or None: then the whole bench goes without the
    method `retrained`. attacks: names, None for all; made on the edits of WIDELY, the digits of CLOSELY and the first
    seed alone. how: other fields of `Job`.
    Raises UserError for unknown names, and where `retrained` is asked for by name and there is no such model.
    """
    known = (*METHODS, RETRAINED)
    for method in methods:
        if method not in known:
            raise UserError(f"unknown method {method!r}; known: {', '.join(known)}")
    for name in attacks or ():
        if name not in ATTACKS:
            raise UserError(f"unknown attack {name!r}; known: {', '.join(ATTACKS)}")
    for digit in digits:
        if digit not in CLASSES["mnist"]:
            raise UserError(f"unknown digit {digit!r}; known: {', '.join(CLASSES['mnist'])}")
    jobs = []
    for seed in dict.fromkeys(seeds):
        for method in sorted(methods or known, key=known.index):
            usual = CLASSES["mnist"] if method in WIDELY else CLOSELY
            for digit in dict.fromkeys(digits or usual):
                reference = _reference(retrained, digit)
                if method == RETRAINED and not reference:
                    if not methods:
                        continue
                    raise UserError(
                        f"there is no model retrained without {digit}: train it with `pudm sweep --experiment "
                        f"mnist-without-{digit} --method unsupervised --set conditional=1 --out DIR`, and give "
                        "--retrained DIR"
                    )
                attacked = digit in CLOSELY and method in WIDELY[1:] and seed == seeds[0]
                some = tuple(ATTACKS if attacks is None else attacks) if attacked else ()
                jobs.append(Job(method, digit, seed, retrained=reference, attacks=some, **how))
    return jobs


def _reference(retrained: Path | None, digit: str) -> str:
    found = sorted(retrained.glob(f"runs/mnist-without-{digit}_*/pipeline")) if retrained else []
    return str(found[0]) if found else ""


@cache
def _model(folder: str) -> Conditional:
    return load_conditional(Path(folder)) if folder else shipped_conditional()


@cache
def _real(size: int, part: str) -> tuple[Tensor, Tensor]:
    """REAL_EACH images of each digit, uint8 of that size, and their labels; the first in an order that is drawn."""
    digits = source("mnist", train=part == "train")
    order = torch.randperm(len(digits), generator=generator(0))
    chosen = torch.cat([order[digits.labels[order] == k][: REAL_EACH[part]] for k in range(len(digits.classes))])
    return digits.read(chosen, size, 1), digits.labels[chosen]


def make_row(job: Job, folder: Path, report: Report) -> dict[str, Any]:
    """Edit, draw, judge, attack. Writes folder/row.json and folder/samples.npz; where they are finished, returns them.

    report: called with ("edit", (steps done, steps)), ("draw", None), ("attack", name).
    """
    if row := finished(folder, job):
        return row
    model, judge = _model(job.model), mnist_judge()
    images, labels = _real(model.network.config.sample_size, "train")
    before, before_null = _before(job, folder.parent, model, judge)
    erased_row = [model.concepts.index(job.concept)]
    if job.method == RETRAINED:
        found = Erased(load_conditional(Path(job.retrained)), {}, [], 0.0, {"steps": 0})
    else:
        found = erase(
            model,
            (job.concept,),
            job.method,
            job.seed,
            to_model(images),
            labels,
            lambda done, of, loss: report("edit", (done, of)),
        )
    report("draw", None)
    after, null = before, before_null
    if job.method != "none":  # whose pictures are the unedited model's, as tests/erasing shows
        after = drawn(found.model.network, model, judge, job.each, job.seed, job.guidance)
        null = _unprompted(found.model.network, model, judge, job)
    row = {
        "run": job.name,
        **job.asked(),
        **{name: value for name, value in found.settings.items() if name not in ("method", "erased", "seed")},
        **measured(before, after, _retrained(job, folder.parent, model, judge), erased_row, model, judge),
        "null_share": _numbers(rate(null == erased_row[0])),
        "edit_seconds": round(found.seconds, 1),
        "changed_parameters": sum(value.numel() for value in found.changed.values()),
        "changed_tensors": len(found.changed),
        **machine(),
    }
    if job.attacks:
        row["attacks"] = {}
        test_images, test_labels = _real(model.network.config.sample_size, "test")  # which no model was trained on
        for name in job.attacks:
            report("attack", name)
            row["attacks"][name] = _attacked(
                attack(name, model, found.model, job.concept, judge, job.seed, to_model(test_images), test_labels)
            )
    write_arrays(folder / "samples.npz", images=after.images.numpy(), rows=after.rows.numpy())
    write_whole(folder / "row.json", lambda path: path.write_text(json.dumps(row, indent=1)))
    return row


def measured(
    before: Drawn, after: Drawn, reference: Drawn | None, erased: list[int], model: Conditional, judge: Judge
) -> dict[str, Any]:
    """The measures of a row. Rates come with Wilson's interval at 95 %, as [rate, low, high, n]."""
    matrix = after.matrix()
    test_images, test_labels = _real(model.network.config.sample_size, "test")
    kept = [k for k in range(len(matrix)) if k not in erased]
    rates = {k: rate(after.hit(1)[after.rows == k]) for k in kept}
    worst = min(kept, key=lambda k: rates[k].rate)
    gone = torch.isin(after.rows, torch.tensor(erased))
    row: dict[str, Any] = {
        **{f"esr_{k}": _numbers(erasing_success(after, erased, k)) for k in (1, 2)},
        **{f"psr_{k}": _numbers(preservation_success(after, erased, k)) for k in (1, 2)},
        "worst_kept": model.concepts.names[worst],
        "worst_kept_rate": _numbers(rates[worst]),
        "matrix": matrix.tolist(),
        "harm": [round(value, 4) for value in harm(before, after).tolist()],
        "frechet_kept": round(kept_distance(after, judge.look(test_images).features, test_labels, erased), 4),
        "frechet_features": f"judge-{judge.name}-{after.features.shape[1]}",
    }
    if reference is not None:
        row["frechet_retrained"] = round(
            frechet_distance(after.features[~gone].numpy(), reference.features[~gone].numpy()), 4
        )
    return row


def _attacked(found: Attacked) -> dict[str, Any]:
    """What a row keeps of an attack: success before and after, its control and curve, its whole budget, its cost."""
    budget = {name: value for name, value in found.settings.items() if name not in ("attack", "erased", "seed")}
    return {
        "pre_asr": _numbers(found.pre_asr),
        "asr": _numbers(found.asr),
        "control": _numbers(found.control) if found.control else None,
        "curve": [[at, *_numbers(each)] for at, each in found.curve],
        "seconds": round(found.seconds, 1),
        "budget": budget,
    }


def _numbers(found: Rate) -> list[float]:
    return [round(found.rate, 5), round(found.low, 5), round(found.high, 5), found.n]


def _unprompted(network: nn.Module, model: Conditional, judge: Judge, job: Job) -> Tensor:
    """What the judge calls 5 * each images that are asked for nothing, (n,) int64: their share of the erased concept
    tells avoiding it from destroying it."""
    nulls = torch.full((5 * job.each,), -1)
    return probabilities(judge, draw_prompted(network, model, nulls, job.seed))[0].argmax(1)


def _kept(
    file: Path, network: nn.Module, model: Conditional, judge: Judge, job: Job, seed: int
) -> tuple[Drawn, Tensor]:
    """What a network draws from a seed's noise, prompted, and what the judge calls its images that are asked for
    nothing: drawn once for all jobs, kept in a file."""
    if not file.exists():
        found = drawn(network, model, judge, job.each, seed, job.guidance)
        called = _unprompted(network, model, judge, job)
        write_arrays(file, images=found.images.numpy(), rows=found.rows.numpy(), called=called.numpy())
    arrays = {name: torch.from_numpy(array) for name, array in read_arrays(file, "images", "rows", "called").items()}
    return Drawn(arrays["rows"], *probabilities(judge, arrays["images"]), arrays["images"]), arrays["called"]


def _before(job: Job, root: Path, model: Conditional, judge: Judge) -> tuple[Drawn, Tensor]:
    """What the unedited model draws from the same noise, prompted and not."""
    file = root / f"unedited_seed{job.seed}_{job.each}_{job.guidance:g}.npz"
    return _kept(file, model.network, model, judge, job, job.seed)


def _retrained(job: Job, root: Path, model: Conditional, judge: Judge) -> Drawn | None:
    """What the model retrained without the concept draws, from noise of its own; None where there is none."""
    if not job.retrained or job.method == RETRAINED:
        return None
    network = load_conditional(Path(job.retrained)).network
    file = root / f"retrained_{job.concept}_seed{job.seed}_{job.each}_{job.guidance:g}.npz"
    return _kept(file, network, model, judge, job, 1000 + job.seed)[0]


def finished(folder: Path, job: Job) -> dict[str, Any] | None:
    """The row of a job that is done, if it is of what is now asked for; None else."""
    row = read_json(folder / "row.json")
    if not isinstance(row, dict) or not job.asked().items() <= row.items():
        return None
    return row if set(job.attacks) <= set(row.get("attacks", {})) else None


def make_rows(jobs: list[Job], out: Path, lanes: int = 0) -> list[dict[str, Any]]:
    """Make the rows of these jobs, several at a time, with a line of progress; rows go to out/rows.jsonl as they come,
    and in the end a few samples of every row there to out/samples.npz.

    Returns them in order. Rows that are finished are not made again. Raises UserError with the first failure.
    """
    from tqdm.auto import tqdm

    rows = {job.name: row for job in jobs if (row := finished(out / "runs" / job.name, job))}
    left = [job for job in jobs if job.name not in rows]
    with tqdm(total=len(jobs), initial=len(rows), unit="row") as bar:

        def hear(name: str, what: str, value: Any) -> None:
            raise_failure(name, what, value)
            if what == "done":
                rows[name] = value
                write_rows(out / "rows.jsonl", [rows[job.name] for job in jobs if job.name in rows])
                bar.update()
            elif what in ("start", "attack"):
                bar.set_postfix_str(f"{name} {value or ''}".strip())

        pool(make_row, left, out, hear, lanes)  # type: ignore[arg-type]
    write_rows(out / "rows.jsonl", [rows[job.name] for job in jobs])
    pack_samples(out, out / "samples.npz", jobs[0].asked()["model"])
    return [rows[job.name] for job in jobs]
