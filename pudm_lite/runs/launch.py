"""One run in several processes, a GPU each: the command line of a run, started by `accelerate launch`."""

import os
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..errors import UserError
from .experiments import Experiment, experiment
from .keeping import Row, finished
from .machine import ENDS_WITH
from .progress import clear, from_file
from .running import Report


def command_of(exp: Experiment, root: Path) -> list[str]:
    """The arguments of `pudm` that run this experiment in `root`."""
    data = exp.images or exp.configuration
    named: dict[str, Any] = {
        "--experiment": data,
        "--method": exp.method,
        "--network": exp.network,
        "--n-samples": exp.n_samples,
        "--sampler": exp.sampler,
        "--sampler-steps": exp.sampler_steps,
        "--features": exp.features,
        "--out": root,
    }
    named |= {"--pretrained": exp.pretrained} if exp.pretrained else {}
    named |= {} if exp.save_every is None else {"--save-every": exp.save_every}
    usual = asdict(experiment(data, exp.method, exp.network, exp.pretrained).train)
    others = {name: value for name, value in asdict(exp.train).items() if value != usual[name]}
    named |= {f"--{name}": others.pop(name) for name in ("beta", "seed", "steps") if name in others}
    settings = [f"{name}={value}" for name, value in others.items()]
    command = ["train", *(str(word) for option in named.items() for word in option)]
    return [*command, "--set", *settings] if settings else command


def launch(exp: Experiment, folder: Path, report: Report, processes: int) -> Row:
    """A `parallel.Job`: run the experiment in several processes. What they print goes to folder/launch.log.

    Raises UserError with the sentence that the run ended with, and RuntimeError with the log's end where it has none.
    """
    import torch

    root = folder.parent.parent
    arguments = {
        "--num_processes": processes,
        "--num_machines": 1,
        "--main_process_port": 0,  # any that is free: several launches share a machine
        "--mixed_precision": exp.train.mixed_precision,
        "--dynamo_backend": "no",
        "--num_cpu_threads_per_process": os.environ.get("OMP_NUM_THREADS", 1),
    }
    command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu"]
    command += [str(word) for option in arguments.items() for word in option]
    # Killed, this process can end nothing any more: those that it started look for it (`machine.end_with`).
    environment = {ENDS_WITH: str(os.getpid())}
    environment |= {} if torch.cuda.is_available() else {"ACCELERATE_USE_CPU": "true"}
    folder.mkdir(parents=True, exist_ok=True)
    clear(folder)
    log = folder / "launch.log"
    with log.open("w") as file:
        process = subprocess.Popen(
            [*command, "-m", "pudm_lite.cli", *command_of(exp, root)],
            stdout=file,
            stderr=subprocess.STDOUT,
            env=os.environ | environment,
        )
    try:
        while process.poll() is None:
            report(*(from_file(folder) or ("start", None)))
            time.sleep(1)
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()
    row = finished(root, exp)
    if process.returncode or row is None:
        lines = log.read_text().splitlines()
        said = [line.removeprefix("pudm: ") for line in lines if line.startswith("pudm: ")]
        if said:
            raise UserError(said[0])
        raise RuntimeError("\n".join([*lines[-40:], f"accelerate launch ended with code {process.returncode}"]))
    return row
