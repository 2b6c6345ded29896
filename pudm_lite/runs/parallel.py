"""Several experiments on one machine: side by side, one process each, on CPU cores; on GPUs one after the other each.

On a CPU two small models train faster in two processes of one thread each than one after the other with two threads.
"""

import json
import math
import multiprocessing
import os
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import replace
from functools import partial
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from ..cores import cores, threads_allowed
from ..errors import UserError
from ..files import read_json, write_whole
from .experiments import Experiment
from .keeping import Row, finished, run_and_keep
from .machine import ENDS_WITH, end_with, is_launched, is_main
from .progress import to_file
from .running import Report, make_trainer, material

Job = Callable[[Experiment, Path, Report], Any]
"""What is done with an experiment: called with it, its folder, and what takes word of how it goes on."""

Hear = Callable[[str, str, Any], None]
"""Takes word of a run: its name, then what a `Report` says, or one of the ENDS with what belongs to it."""

Log = Callable[[Hear], AbstractContextManager[Hear]]
"""Puts itself between runs and what hears of them, as `logbook.beside` does."""

ENDS = ("done", "error", "crash")
"""How a run ends: with what its job returned, with a sentence for the user, or with a traceback."""


def gpus() -> list[str]:
    """The GPUs this process may use, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    count = torch.cuda.device_count()
    return visible[:count] if visible != [""] else [str(i) for i in range(count)]


def default_lanes(jobs: int, processes: int = 1, threads: int = 0) -> int:
    """How many runs go side by side where nobody says: one a GPU, or a CPU core, or `processes` of them.

    threads: of each process, where these are given: so many cores.
    """
    return max(1, min(jobs, (len(gpus()) or cores() // max(1, threads)) // processes))


def attempt(job: Job, exp: Experiment, folder: Path, report: Report) -> tuple[str, Any]:
    """Do a job. Returns how it ended, one of ENDS, and what belongs to that."""
    try:
        return "done", job(exp, folder, report)
    except UserError as error:
        return "error", str(error)
    except Exception:
        return "crash", traceback.format_exc()


def _stop(*_: Any) -> None:
    raise KeyboardInterrupt


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    """While entered, what a new process finds in its environment."""
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _worker(job: Job, exp: Experiment, folder: Path, threads: int, mail: Connection) -> None:
    import torch

    signal.signal(signal.SIGTERM, _stop)  # so that a job can end what it started
    end_with()  # the one who listens, however long there is nothing to tell
    torch.set_num_threads(threads)

    def tell(what: str, value: Any) -> None:
        try:
            mail.send((what, value))
        except OSError:  # the one who listened was killed: do not train on for nobody
            raise KeyboardInterrupt from None

    with suppress(KeyboardInterrupt):
        tell(*attempt(job, exp, folder, tell))


def pool(
    job: Job,
    experiments: list[Experiment],
    root: Path,
    hear: Hear,
    lanes: int = 0,
    processes: int = 1,
    threads: int = 0,
) -> None:
    """Do a job with each experiment, in a process of its own in root/runs/NAME, and pass on what they tell.

    lanes: how many at a time; 0 for `default_lanes`. processes: how many CPU cores or GPUs a job is given.
    threads: of each; 0 for those cores that the lanes leave it, or fewer where OMP_NUM_THREADS says so.
    What `hear` raises stops all that run; their checkpoints stay. A process that dies is heard of as an error.
    """
    if not experiments:
        return
    context = multiprocessing.get_context("spawn")  # fork does not go with threads
    devices = gpus()
    lanes = lanes or default_lanes(len(experiments), processes, threads)
    threads = threads or max(1, min(threads_allowed(), cores() // (lanes * processes)))
    free = list(range(lanes))
    waiting = list(experiments)
    running: dict[Any, tuple[str, Any, int]] = {}  # by the end of the pipe that a process tells through
    try:
        while waiting or running:
            while waiting and free:
                exp, lane = waiting.pop(0), free.pop(0)
                mine = [devices[(lane * processes + i) % len(devices)] for i in range(processes)] if devices else []
                ours, theirs = context.Pipe(duplex=False)
                process = context.Process(
                    target=_worker, args=(job, exp, root / "runs" / exp.name, threads, theirs), daemon=True
                )
                own = {ENDS_WITH: str(os.getpid())} | ({"CUDA_VISIBLE_DEVICES": ",".join(mine)} if mine else {})
                # Set here: in the process itself libraries count the devices before its first line runs.
                with _environment(OMP_NUM_THREADS=str(threads), **own):
                    process.start()
                theirs.close()  # or the end of the process would not be the end of the pipe
                running[ours] = exp.name, process, lane
                hear(exp.name, "start", None)
            ready: list[Any] = wait(list(running))
            for mail in ready:
                name, process, lane = running[mail]
                try:
                    what, value = mail.recv()
                except (EOFError, OSError):
                    process.join()
                    what, value = (
                        "error",
                        f"the process of {name} ended with code {process.exitcode} (out of memory?): "
                        "run the same command again to go on from its checkpoint",
                    )
                if what in ENDS:
                    del running[mail]
                    process.join()
                    free.append(lane)
                hear(name, what, value)
    finally:
        for _, process, _ in running.values():
            process.terminate()
        for _, process, _ in running.values():
            process.join(30)
            process.kill()


def here(experiments: list[Experiment], root: Path, hear: Hear) -> None:
    """Run experiments in this process, one of several that `accelerate launch` started to share each run.

    How they go on is kept in their folders too, for the one who launched this.
    """
    for exp in experiments:
        folder = root / "runs" / exp.name
        keep = to_file(folder) if is_main() else lambda what, value: None

        def report(what: str, value: Any, name: str = exp.name, keep: Report = keep) -> None:
            keep(what, value)
            hear(name, what, value)

        hear(exp.name, "done", run_and_keep(exp, folder, report))


def _seconds_per_step(exp: Experiment, folder: Path, report: Report, steps: int = 12) -> float:
    """The training time of a step, after the first three."""
    trainer = make_trainer(replace(exp, train=replace(exp.train, steps=steps + 3)), material(exp), None)
    records = list(trainer)
    return (records[-1].seconds - records[2].seconds) / steps


def raise_failure(name: str, what: str, value: Any) -> None:
    if what == "error":
        raise UserError(value)
    if what == "crash":
        raise RuntimeError(f"{name} failed:\n{value}")


def remember(root: Path, key: list[Any], find: Callable[[], Any]) -> Any:
    """What `find` returns, kept in root/plan.json under `key`, so that the same command, run again, has the same."""
    plan = root / "plan.json"
    name = json.dumps(key)
    kept = read_json(plan)
    if not isinstance(kept, dict):
        if plan.exists():
            print(f"{plan} is damaged: what it held is found again")
        kept = {}
    if name not in kept:
        kept[name] = find()
        write_whole(plan, lambda path: path.write_text(json.dumps(kept, indent=1)))
    return kept[name]


def steps_for(minutes: float, experiments: list[Experiment], root: Path, threads: int = 0) -> int:
    """How many training steps fit into `minutes`, timed on the spot with all lanes busy; see `remember`.

    Raises UserError when not even ten steps fit.
    """

    def find() -> int:
        times = []

        def hear(name: str, what: str, value: Any) -> None:
            raise_failure(name, what, value)
            if what == "done":
                times.append(value)

        pool(_seconds_per_step, experiments, root, hear, threads=threads)
        rounds = -(-len(experiments) // default_lanes(len(experiments), threads=threads))
        steps = int(60 * minutes / rounds / max(times))
        if steps < 10:
            needed = 10 * rounds * max(times) / 60
            least = math.ceil(100 * needed) / 100
            raise UserError(f"{minutes:g} minutes are too few to train on this machine: give at least {least}")
        return steps

    return remember(root, [minutes, sorted(exp.name for exp in experiments)], find)


def losses(terms: dict[str, float]) -> str:
    """The errors of U and S among the terms of a training step, in words; empty where S was not looked at yet."""
    if (loss_s := terms.get("L_S_minus")) is None:
        return ""
    loss_u = terms.get("L_U_minus", terms.get("L_N_minus", float("nan")))
    return f"loss U {loss_u:.1f}, S {loss_s:.1f}"


def run_all(
    experiments: list[Experiment], root: Path, quiet: bool = False, threads: int = 0, log: Log = nullcontext
) -> list[Row]:
    """Run experiments with a progress bar each: steps, time left, loss of U and of S. Returns their rows, in order.

    Every run keeps its files in root/runs/NAME; a finished one is not run again. threads: see `pool`. log: given what
    hears of the runs, a context whose value hears of them in its place.
    Under `accelerate launch` the experiments run in this process, and only the main process shows bars and returns
    rows.
    Raises UserError with the first failure; checkpoints stay, and the same command goes on from them.
    """
    from tqdm.auto import tqdm

    quiet = quiet or not is_main()
    rows = {exp.name: row for exp in experiments if (row := finished(root, exp)) is not None}
    open_runs = [exp for exp in experiments if exp.name not in rows]
    bars = {
        exp.name: tqdm(total=exp.train.steps, desc=f"{exp.method:12s}", unit="step", disable=quiet, position=i)
        for i, exp in enumerate(open_runs)
    }
    last: dict[str, dict[str, float]] = {exp.name: {} for exp in open_runs}

    def show(name: str, what: str, value: Any) -> None:
        raise_failure(name, what, value)
        if what == "done":
            rows[name] = value
        if quiet or what == "done":
            return
        bar = bars[name]
        if what == "step":
            if not last[name]:
                bar.initial = value.step - 1  # a resumed run: time left from this session's pace
                bar.last_print_n = bar.n = value.step - 1
                bar.start_t = time.time()
            last[name].update(value.terms, value=value.value)
            bar.set_postfix_str(losses(last[name]), refresh=False)
            bar.update(value.step - bar.n)
        elif what == "note":
            bar.write(f"{bar.desc.strip()}: {value}")
        elif what == "strip":
            bar.write(f"{bar.desc.strip()}: ten samples so far in {value}")
        elif what == "sample":
            done, of = value
            if bar.unit == "step":
                bar.reset(total=of)
                bar.unit = "image"
                bar.set_postfix_str("sampling", refresh=False)
            bar.update(done - bar.n)

    # As many lanes and threads as all runs were asked for with: what is left of them goes on as it began.
    lanes = default_lanes(len(experiments), threads=threads)
    engine = here if is_launched() else partial(pool, run_and_keep, lanes=lanes, threads=threads)
    try:
        with log(show) as hear:
            engine(open_runs, root, hear)
    finally:
        for bar in bars.values():
            bar.close()
    return [rows[exp.name] for exp in experiments if rows[exp.name]]
