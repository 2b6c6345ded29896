"""Several experiments on one machine: side by side, one process each, on CPU cores; one after the other on a GPU.

On a CPU two small models train faster in two processes of one thread each than one after the other with two threads.
"""

import json
import multiprocessing
import os
import queue
import time
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

from .errors import UserError
from .experiments import Experiment, make_trainer, material, run
from .files import write_whole
from .networks import RECIPES


def cores() -> int:
    """How many CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _lanes(jobs: int) -> int:
    import torch

    return 1 if torch.cuda.is_available() else max(1, min(jobs, cores()))


def _worker(job: str, exp: Experiment, folder: Path, threads: int, mail: Any) -> None:
    import torch

    torch.set_num_threads(threads)
    parent = multiprocessing.parent_process()

    def tell(what: str, value: Any) -> None:
        if parent is not None and not parent.is_alive():  # killed: do not train on for nobody
            mail.cancel_join_thread()
            raise KeyboardInterrupt
        mail.put((exp.name, what, value))

    try:
        tell("done", _seconds_per_step(exp) if job == "time" else run(exp, folder, tell))
    except KeyboardInterrupt:
        pass
    except UserError as error:
        tell("error", str(error))
    except Exception:
        tell("crash", traceback.format_exc())


def _seconds_per_step(exp: Experiment, steps: int = 12) -> float:
    """The training time of a step, after the first three."""
    trainer = make_trainer(
        replace(exp, train=replace(exp.train, steps=steps + 3)),
        material(exp.configuration, RECIPES[exp.network], exp.train.seed),
        None,
    )
    records = list(trainer)
    return (records[-1].seconds - records[2].seconds) / steps


def _all(job: str, experiments: list[Experiment], root: Path, on_mail: Any) -> dict[str, Any]:
    """Run one job per experiment, as many at a time as there are lanes; returns what each sent at its end.

    Raises UserError with the first failure; the others are stopped, and their checkpoints stay.
    """
    context = multiprocessing.get_context("spawn")  # fork does not go with threads
    mail = context.Queue()
    lanes = _lanes(len(experiments))
    threads = max(1, cores() // lanes)
    waiting = list(experiments)
    running: dict[str, Any] = {}
    done: dict[str, Any] = {}
    try:
        while len(done) < len(experiments):
            while waiting and len(running) < lanes:
                exp = waiting.pop(0)
                process = context.Process(
                    target=_worker, args=(job, exp, root / "runs" / exp.name, threads, mail), daemon=True
                )
                process.start()
                running[exp.name] = process
            try:
                name, what, value = mail.get(timeout=1)
            except queue.Empty:
                for name, process in running.items():
                    if process.exitcode not in (None, 0):
                        raise UserError(
                            f"the process of {name} ended with code {process.exitcode} (out of memory?): "
                            "run the same command again to go on from its checkpoint"
                        ) from None
                continue
            if what == "done":
                done[name] = value
                running.pop(name).join()
            elif what == "error":
                raise UserError(value)
            elif what == "crash":
                raise RuntimeError(f"{name} failed:\n{value}")
            on_mail(name, what, value)
    finally:
        for process in running.values():
            process.terminate()
            process.join()
    return done


def steps_for(minutes: float, experiments: list[Experiment], root: Path) -> int:
    """How many training steps fit into `minutes`, timed on the spot with all lanes busy.

    Kept in root/plan.json, so that the same command, run again, goes on with the same number.
    Raises UserError when not even ten steps fit.
    """
    plan = root / "plan.json"
    key = json.dumps([minutes, sorted(exp.name for exp in experiments)])
    kept = json.loads(plan.read_text()) if plan.exists() else {}
    if key not in kept:
        times = _all("time", experiments, root, lambda *mail: None)
        rounds = -(-len(experiments) // _lanes(len(experiments)))
        steps = int(60 * minutes / rounds / max(times.values()))
        if steps < 10:
            needed = 10 * rounds * max(times.values()) / 60
            raise UserError(f"{minutes} minutes are too few to train on this machine: give at least {needed:.1f}")
        kept[key] = steps
        write_whole(plan, lambda path: path.write_text(json.dumps(kept)))
    return kept[key]


def run_all(experiments: list[Experiment], root: Path, quiet: bool = False) -> list[dict[str, Any]]:
    """Run experiments with a progress bar each: steps, time left, loss of U and of S. Returns their rows, in order.

    Every run keeps its files in root/runs/NAME; a finished one is not run again.
    Raises UserError with the first failure; checkpoints stay, and the same command goes on from them.
    """
    from tqdm.auto import tqdm

    rows = {exp.name: row for exp in experiments if (row := _finished(root, exp)) is not None}
    open_runs = [exp for exp in experiments if exp.name not in rows]
    bars = {
        exp.name: tqdm(total=exp.train.steps, desc=f"{exp.train.method:12s}", unit="step", disable=quiet, position=i)
        for i, exp in enumerate(open_runs)
    }
    last: dict[str, dict[str, float]] = {exp.name: {} for exp in open_runs}

    def show(name: str, what: str, value: Any) -> None:
        if what == "done":
            write_whole(_row_file(root, name), lambda path: path.write_text(json.dumps(value, indent=1)))
        if quiet or what == "done":
            return
        bar = bars[name]
        if what == "step":
            if not last[name]:
                bar.initial = value.step - 1  # a resumed run: time left from this session's pace
                bar.last_print_n = bar.n = value.step - 1
                bar.start_t = time.time()
            last[name].update(value.terms, value=value.value)
            if (loss_s := last[name].get("L_S_minus")) is not None:
                loss_u = last[name].get("L_U_minus", last[name].get("L_N_minus", float("nan")))
                bar.set_postfix_str(f"loss U {loss_u:.1f}, S {loss_s:.1f}", refresh=False)
            bar.update(value.step - bar.n)
        elif what == "strip":
            bar.write(f"{bar.desc.strip()}: ten samples so far in {value}")
        elif what == "sample":
            done, of = value
            if bar.unit == "step":
                bar.reset(total=of)
                bar.unit = "image"
                bar.set_postfix_str("sampling", refresh=False)
            bar.update(done - bar.n)

    try:
        rows |= _all("run", open_runs, root, show) if open_runs else {}
    finally:
        for bar in bars.values():
            bar.close()
    return [rows[exp.name] for exp in experiments]


def _row_file(root: Path, name: str) -> Path:
    return root / "runs" / name / "row.json"


def _finished(root: Path, exp: Experiment) -> dict[str, Any] | None:
    """The row of a run that is done, if its samples are those now asked for."""
    path = _row_file(root, exp.name)
    if not path.exists():
        return None
    row = json.loads(path.read_text())
    asked = {
        "n_samples": exp.n_samples,
        "sampler": exp.sampler,
        "sampler_steps": exp.sampler_steps,
        "sample_seed": exp.sample_seed,
    }
    return row if all(row[key] == value for key, value in asked.items()) else None
