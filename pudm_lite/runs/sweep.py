"""Many runs as one: the product of data, methods, betas and seeds; run again, and only what is missing is run."""

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..files import alone, read_rows, write_whole
from ..risks import BETA_FREE
from .estimating import estimated
from .experiments import ESTIMATE, Experiment, experiment
from .keeping import Row, finished, run_and_keep
from .parallel import Hear, pool
from .sweep_table import SweepTable, sentence

Engine = Callable[[list[Experiment], Path, Hear], None]
"""What runs experiments in root/runs/NAME and passes on what they tell, such as `parallel.pool` with its job given."""


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
) -> list[Experiment]:
    """The runs of every configuration with every method, beta and seed, each once.

    betas: numbers inside (0, 1), or "estimate": then beta is estimated from U and S of that configuration and seed,
    here and now, and kept in root/plan.json. Methods that it does not act on run once a seed, at the default.
    n_samples: 0 for as many as the configuration has test images, as in the paper.
    sampling: fields of Experiment (sampler, sampler_steps, features); training: fields of TrainConfig.
    Raises UserError for an empty list, an unknown name or a value out of range, before anything is estimated.
    """
    lists = {"configuration": configurations, "method": methods, "beta": betas, "seed": seeds}
    if empty := [name for name, given in lists.items() if not given]:
        raise UserError(f"a sweep needs at least one {empty[0]}")

    def build(configuration: str, method: str, seed: int, **beta: Any) -> Experiment:
        settings = {"seed": seed, "n_samples": n_samples, **beta, **training, **(sampling or {})}
        return experiment(configuration, method, network, pretrained, **settings)

    named: list[tuple[bool, Experiment]] = []  # whether its beta is still to be estimated
    for configuration in configurations:
        for method in methods:
            for beta in [None] if method in BETA_FREE else betas:
                given = {} if beta in (None, ESTIMATE) else {"beta": beta}
                named += [(beta == ESTIMATE, build(configuration, method, seed, **given)) for seed in seeds]
    found = iter(estimated([exp for waiting, exp in named if waiting], root))
    runs: dict[str, Experiment] = {}
    for waiting, exp in named:
        exp = next(found) if waiting else exp
        if exp.name not in runs or waiting:
            runs[exp.name] = exp
    return list(runs.values())


@dataclass(frozen=True)
class Outcome:
    """rows: of all runs that are done, in the order of the plan. failures: by run, the sentence it ended with."""

    rows: list[Row] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)


def sweep(
    experiments: list[Experiment], root: Path, engine: Engine = partial(pool, run_and_keep), console: Any = None
) -> Outcome:
    """Run what is not finished, and put a JSON line for each run into root/rows.jsonl as soon as it is done.

    A run that fails does not stop the others: root/runs/NAME/error.txt keeps all that is known of it.
    engine: where they run. console: rich's, for the table; None for stderr.
    Raises UserError when another sweep works in root, and when a row cannot be written.
    """
    rows: dict[str, Row] = {}
    failures: dict[str, str] = {}
    named = {exp.name: exp for exp in experiments}

    def keep(name: str, row: Row) -> None:
        rows[name] = row | named[name].beta_row
        _write_row(root / "rows.jsonl", rows[name])

    busy = f"another sweep works in {root}: wait for it, or choose another folder with --out"
    with alone(root / "sweep", busy):
        for exp in experiments:
            if row := finished(root, exp):
                keep(exp.name, row)
        left = [exp for exp in experiments if exp.name not in rows]
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
    return Outcome([rows[name] for name in named if name in rows], failures)


def _write_row(path: Path, row: Row) -> None:
    """Add a row; where the run itself put the same there, not knowing where its beta came from, in that one's place."""
    plain = {key: value for key, value in row.items() if key not in ("beta_from", "beta_low", "beta_high")}
    with alone(path):
        kept = read_rows(path) if path.exists() else []
        rows = [other for other in kept if other not in (row, plain)] + [row]
        if rows != kept:
            lines = [json.dumps(each) for each in rows]
            write_whole(path, lambda temporary: temporary.write_text("\n".join(lines) + "\n"))
