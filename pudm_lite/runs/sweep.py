"""Many runs as one: the product of data, methods, betas and seeds; run again, and only what is missing is run."""

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..files import alone, read_rows, write_whole
from ..priors import estimate_beta
from ..risks import BETA_FREE
from .experiments import Experiment, experiment, material
from .keeping import Row, finished, run_and_keep
from .parallel import Hear, pool, remember
from .sweep_table import SweepTable, sentence

ESTIMATE = "estimate"

Engine = Callable[[list[Experiment], Path, Hear], None]
"""What runs experiments in root/runs/NAME and passes on what they tell, such as `parallel.pool` with its job given."""


@dataclass(frozen=True)
class Entry:
    """A run of a sweep. beta_from: where its beta came from, `given` or `estimate`."""

    exp: Experiment
    beta_from: str = "given"


def plan(
    configurations: list[str],
    methods: list[str],
    betas: list[float | str],
    seeds: list[int],
    root: Path,
    network: str = "lite",
    pretrained: str = "",
    n_samples: int = 0,
    sampling: dict[str, Any] | None = None,
    **training: Any,
) -> list[Entry]:
    """The runs of every configuration with every method, beta and seed, each once.

    betas: numbers inside (0, 1), or "estimate": then beta is estimated from U and S of that configuration and seed,
    here and now, and kept in root/plan.json. Methods that it does not act on run once a seed, at the default.
    n_samples: 0 for as many as the configuration has test images, as in the paper.
    sampling: fields of Experiment (sampler, sampler_steps, features); training: fields of TrainConfig.
    Raises UserError for an empty list, an unknown name or a value out of range, before anything is estimated.
    """
    from tqdm.auto import tqdm

    lists = {"configuration": configurations, "method": methods, "beta": betas, "seed": seeds}
    if empty := [name for name, given in lists.items() if not given]:
        raise UserError(f"a sweep needs at least one {empty[0]}")

    def build(configuration: str, method: str, seed: int, **beta: Any) -> Experiment:
        settings = {"seed": seed, "n_samples": n_samples, **beta, **training, **(sampling or {})}
        return experiment(configuration, method, network, pretrained, **settings)

    entries = []
    for configuration in configurations:
        for method in methods:
            for beta in [None] if method in BETA_FREE else betas:
                given = {} if beta in (None, ESTIMATE) else {"beta": beta}
                beta_from = ESTIMATE if beta == ESTIMATE else "given"
                entries += [Entry(build(configuration, method, seed, **given), beta_from) for seed in seeds]
    waiting = [entry for entry in entries if entry.beta_from == ESTIMATE]
    estimates = {
        entry: estimated_beta(entry.exp, root)
        for entry in tqdm(waiting, desc="estimating beta", unit="run", disable=not waiting)
    }
    runs: dict[str, Entry] = {}
    for entry in entries:
        if entry in estimates:
            entry = replace(entry, exp=replace(entry.exp, train=replace(entry.exp.train, beta=estimates[entry])))
        if entry.exp.name not in runs or entry.beta_from == ESTIMATE:
            runs[entry.exp.name] = entry
    return list(runs.values())


def estimated_beta(exp: Experiment, root: Path) -> float:
    """beta of the experiment's data and seed by best-bin estimation, inside (0, 1); see `parallel.remember`.

    Raises UserError where the data cannot be had or say nothing of beta.
    """

    def find() -> float:
        data = material(exp)
        found = estimate_beta(data.train[data.split.u], data.train[data.split.s], exp.train.seed)
        return round(min(max(found.best_bin.beta, 0.001), 0.999), 4)

    return remember(root, ["beta", exp.configuration, exp.network, exp.pretrained, exp.train.seed], find)


@dataclass(frozen=True)
class Outcome:
    """rows: of all runs that are done, in the order of the plan. failures: by run, the sentence it ended with."""

    rows: list[Row] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)


def sweep(
    entries: list[Entry], root: Path, engine: Engine = partial(pool, run_and_keep), console: Any = None
) -> Outcome:
    """Run what is not finished, and put a JSON line for each run into root/rows.jsonl as soon as it is done.

    A run that fails does not stop the others: root/runs/NAME/error.txt keeps all that is known of it.
    engine: where they run. console: rich's, for the table; None for stderr.
    Raises UserError when another sweep works in root, and when a row cannot be written.
    """
    rows: dict[str, Row] = {}
    failures: dict[str, str] = {}
    beta_from = {entry.exp.name: entry.beta_from for entry in entries}

    def keep(name: str, row: Row) -> None:
        rows[name] = row | ({"beta_from": ESTIMATE} if beta_from[name] == ESTIMATE else {})
        _write_row(root / "rows.jsonl", rows[name])

    busy = f"another sweep works in {root}: wait for it, or choose another folder with --out"
    with alone(root / "sweep", busy):
        for entry in entries:
            if row := finished(root, entry.exp):
                keep(entry.exp.name, row)
        left = [entry.exp for entry in entries if entry.exp.name not in rows]
        with SweepTable(left, len(rows), console) as table:

            def hear(name: str, what: str, value: Any) -> None:
                trace = root / "runs" / name / "error.txt"
                if what == "done":
                    keep(name, value)
                    trace.unlink(missing_ok=True)
                elif what in ("error", "crash"):
                    failures[name] = sentence(value)
                    with suppress(UserError):  # a full disk is one way to fail
                        write_whole(trace, lambda path: path.write_text(value))
                table.hear(name, what, value)

            engine(left, root, hear)
    return Outcome([rows[name] for name in beta_from if name in rows], failures)


def _write_row(path: Path, row: Row) -> None:
    """Add a row; where the run itself put the same there, not knowing where its beta came from, in that one's place."""
    plain = {key: value for key, value in row.items() if key != "beta_from"}
    with alone(path):
        kept = read_rows(path) if path.exists() else []
        rows = [other for other in kept if other not in (row, plain)] + [row]
        if rows != kept:
            lines = [json.dumps(each) for each in rows]
            write_whole(path, lambda temporary: temporary.write_text("\n".join(lines) + "\n"))
