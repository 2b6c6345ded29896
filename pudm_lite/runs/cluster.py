"""Runs as jobs on a SLURM cluster, through submitit: a job a run, heard through the files that it leaves."""

import time
from pathlib import Path
from typing import Any

from ..errors import UserError
from .experiments import Experiment
from .parallel import Hear, Job, attempt
from .progress import clear, from_file, to_file

ANYWHERE = (
    "name",
    "timeout_min",
    "mem_gb",
    "nodes",
    "cpus_per_task",
    "gpus_per_node",
    "tasks_per_node",
    "stderr_to_stdout",
)
"""Settings that submitit knows on every cluster; the others it wants with the cluster's name before theirs."""


class ClusterJob:
    """A `parallel.Job` of one experiment, to be called where the cluster says; returns how it ended (`attempt`)."""

    def __init__(self, job: Job, exp: Experiment, folder: Path) -> None:
        self.job, self.exp, self.folder = job, exp, folder

    def __call__(self) -> tuple[str, Any]:
        return attempt(self.job, self.exp, self.folder, to_file(self.folder))

    def checkpoint(self) -> Any:
        """Out of time, or pushed aside: submitit queues the same again, which goes on from the run's checkpoint."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def parameters(settings: list[str], lanes: int, processes: int) -> tuple[str, dict[str, Any]]:
    """["partition=gpu", "timeout_min=600"] as the name of a cluster and what submitit's AutoExecutor calls them.

    lanes: jobs at a time, 0 for as many as the cluster lets. processes: GPUs of a job, where the settings say nothing.
    Raises UserError for what is not NAME=VALUE.
    """
    given: dict[str, Any] = {}
    for text in settings:
        name, _, value = text.partition("=")
        if not (name and value):
            raise UserError(f"--slurm takes NAME=VALUE, such as partition=gpu timeout_min=600; got {text!r}")
        given[name] = int(value) if value.isdecimal() else value
    cluster = given.pop("cluster", "slurm")
    usual: dict[str, Any] = {"name": "pudm", "timeout_min": 720}
    if cluster == "slurm":
        usual["gpus_per_node"] = processes
    if lanes:
        usual["slurm_array_parallelism"] = lanes
    return cluster, usual | {name if name in ANYWHERE else f"slurm_{name}": value for name, value in given.items()}


def executor(root: Path, settings: list[str], lanes: int, processes: int) -> Any:
    """submitit's executor with the `parameters`; `cluster=local` runs jobs on this machine.

    Raises UserError where there is no SLURM, submitit is not installed, or it knows no such setting.
    """
    try:
        from submitit import AutoExecutor
    except ImportError:
        raise UserError("runs on SLURM go through submitit: install it with pip install 'pudm_lite[slurm]'") from None

    cluster, named = parameters(settings, lanes, processes)
    try:
        found = AutoExecutor(folder=root / "submitit", cluster=cluster)
        found.update_parameters(**named)
    except RuntimeError:
        raise UserError(
            "there is no SLURM on this machine: start the sweep where sbatch is, or leave --slurm"
        ) from None
    except (AssertionError, NameError, TypeError, ValueError) as error:
        raise UserError(f"--slurm: {str(error).splitlines()[0]}") from None
    return found


def submit(job: Job, experiments: list[Experiment], root: Path, hear: Hear, executor: Any, every: float = 2.0) -> None:
    """Submit a job for each experiment, wait for them, and pass on what they tell. See `parallel.pool`.

    What `hear` raises, or Ctrl-C, cancels them all; their checkpoints stay.
    """
    if not experiments:
        return
    for exp in experiments:
        clear(root / "runs" / exp.name)
    with executor.batch():
        jobs = [executor.submit(ClusterJob(job, exp, root / "runs" / exp.name)) for exp in experiments]
    running = dict(zip([exp.name for exp in experiments], jobs, strict=True))
    try:
        while running:
            for name, submitted in list(running.items()):
                if submitted.done():
                    del running[name]
                    hear(name, *_end(name, submitted))
                elif word := from_file(root / "runs" / name):
                    hear(name, *word)
            time.sleep(every if running else 0)
    finally:
        for submitted in running.values():
            submitted.cancel(check=False)


def _end(name: str, submitted: Any) -> tuple[str, Any]:
    if submitted.exception() is None:
        return submitted.result()
    return "error", (
        f"the job {submitted.job_id} of {name} ended without a result (out of memory or time?): "
        f"read {submitted.paths.stderr}, and run the same command again to go on from its checkpoint"
    )
