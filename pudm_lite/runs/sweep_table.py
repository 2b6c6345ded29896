"""What a sweep shows while it runs: a table refreshed in place in a terminal, a line a minute in a log."""

import time
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Any

from .experiments import Experiment
from .parallel import losses

STATES = ("done", "running", "left", "failed")


@dataclass
class Going:
    """How far a run is. first, now: its work when it was first heard of and last, and `since` when that was."""

    terms: dict[str, float]
    at: str = "starting"
    first: float | None = None
    now: float = 0.0
    since: float = 0.0


def work(exp: Experiment, steps: int, drawn: int) -> float:
    """Training and sampling in one unit, so that one pace says how long both take: an image once through the network,
    which the backward pass costs twice more."""
    return 3.0 * exp.train.batch_size * steps + exp.sampler_steps * drawn


def to_go(seconds: float | None) -> str:
    """Seconds as "h:mm:ss to go", empty for None."""
    return "" if seconds is None else f"{timedelta(seconds=round(seconds))} to go"


class SweepTable:
    """`with SweepTable(experiments, done) as table:` shows what `table.hear` is told (a `parallel.Hear`).

    experiments: those still to run. done: how many were finished before. console: rich's, where it is shown.
    """

    def __init__(self, experiments: list[Experiment], done: int = 0, console: Any = None) -> None:
        from rich.console import Console
        from rich.live import Live

        self.experiments = {exp.name: exp for exp in experiments}
        self.state = dict.fromkeys(self.experiments, "left")
        self.going = {name: Going({}) for name in self.experiments}
        self.done_before = done
        self.console = console or Console(stderr=True)
        self.live = Live(self.table(), console=self.console, auto_refresh=False)
        self.shown = self.started = time.monotonic()

    def __enter__(self) -> "SweepTable":
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.show(at_once=True)
        if self.console.is_terminal:
            self.live.stop()

    def hear(self, name: str, what: str, value: Any) -> None:
        exp, going = self.experiments[name], self.going[name]
        if what == "step":
            going.terms.update(value.terms)
            going.at = f"step {value.step:,}/{value.steps:,}"
            self._note(going, work(exp, value.step, 0))
        elif what == "sample":
            drawn, of = value
            going.at = f"sample {drawn:,}/{of:,}"
            self._note(going, work(exp, exp.train.steps, drawn))
        self.state[name] = {"done": "done", "error": "failed", "crash": "failed"}.get(what, "running")
        if what == "done":
            self._note(going, work(exp, exp.train.steps, exp.n_samples))
        if what == "note":
            self.console.print(f"{name}: {value}", markup=False, highlight=False, soft_wrap=True)
        if what == "error" or what == "crash":
            self.console.print(f"{name} failed: {sentence(value)}", markup=False, highlight=False, soft_wrap=True)
        self.show()

    @staticmethod
    def _note(going: Going, done: float) -> None:
        if going.first is None:  # what an earlier session did says nothing of today's pace
            going.first, going.since = done, time.monotonic()
        going.now = done

    def show(self, at_once: bool = False) -> None:
        """Refresh: twice a second in a terminal, once a minute elsewhere."""
        if not at_once and time.monotonic() - self.shown < (0.5 if self.console.is_terminal else 60):
            return
        self.shown = time.monotonic()
        if self.console.is_terminal:
            self.live.update(self.table(), refresh=True)
        else:
            self.console.print(self.line(), markup=False, highlight=False, soft_wrap=True)

    def counts(self) -> str:
        """How many runs are in each state, and the time left."""
        found = Counter(self.state.values())
        found["done"] += self.done_before
        counts = ", ".join(f"{found[state]} {state}" for state in STATES)
        return "; ".join(filter(None, [counts, to_go(self.time_left())]))

    def time_left(self) -> float | None:
        """Seconds until all is done, at the pace of all runs of this session together; None before the first word."""
        paced = [(going.now - going.first) for going in self.going.values() if going.first is not None]
        open_runs = [name for name, state in self.state.items() if state in ("running", "left")]
        if sum(paced) <= 0 or not open_runs:
            return None
        left = sum(self._work_left(name) for name in open_runs)
        return left * (time.monotonic() - self.started) / sum(paced)

    def _work_left(self, name: str) -> float:
        exp = self.experiments[name]
        return work(exp, exp.train.steps, exp.n_samples) - self.going[name].now

    def run_time_left(self, name: str) -> float | None:
        """Seconds until a run is done, at its own pace."""
        going = self.going[name]
        if going.first is None or going.now <= going.first:
            return None
        return self._work_left(name) * (time.monotonic() - going.since) / (going.now - going.first)

    def _running(self) -> list[tuple[str, str, str, str]]:
        going = [(name, self.going[name]) for name, state in self.state.items() if state == "running"]
        return [(name, run.at, losses(run.terms), to_go(self.run_time_left(name))) for name, run in going]

    def table(self) -> Any:
        """The counts as title over a line for each run that is going on."""
        from rich.table import Table

        table = Table("running", "at", "errors", "time", title=self.counts(), title_justify="left")
        for row in self._running():
            table.add_row(*row)
        return table

    def line(self) -> str:
        """The same in one line."""
        return "; ".join([self.counts(), *(", ".join(filter(None, row)) for row in self._running())])


def sentence(failure: str) -> str:
    """The last line of what a run ended with: of a traceback, the error and its message."""
    return failure.strip().splitlines()[-1]
