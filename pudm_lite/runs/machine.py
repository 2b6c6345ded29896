"""Where a run happened, and how large it was meant to be: device, versions, memory, mode."""

import os
import platform
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from .. import __version__
from ..errors import UserError

MODES = ("fast", "lab", "full")


def mode() -> str:
    """$PUDM_MODE: `fast` (what the tests run), `lab` (the default) or `full` (the paper's settings).

    Raises UserError for anything else.
    """
    value = os.environ.get("PUDM_MODE", "lab")
    if value not in MODES:
        raise UserError(f"PUDM_MODE is {value!r}; it can be {', '.join(MODES)}")
    return value


@contextmanager
def fitting(what: str, advice: str) -> Iterator[None]:
    """While entered, a GPU's memory that runs out is a UserError: at what it happened, and what helps."""
    try:
        yield
    except torch.cuda.OutOfMemoryError:
        raise UserError(f"the GPU's memory ran out {what}: {advice}") from None


ENDS_WITH = "PUDM_ENDS_WITH"
"""The variable that holds the number of the process which started this one."""


def end_with(every: float = 1.0) -> None:
    """Let this process end when the one that $PUDM_ENDS_WITH names is gone; without effect where it names none."""
    if not (number := os.environ.get(ENDS_WITH, "")).isdecimal():
        return

    def watch() -> None:
        while True:
            if not psutil.pid_exists(int(number)):
                os._exit(1)
            time.sleep(every)

    threading.Thread(target=watch, daemon=True).start()


def is_launched() -> bool:
    """Whether `accelerate launch` started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def is_main() -> bool:
    """Whether this process is the first of those that `accelerate launch` started, or the only one."""
    return os.environ.get("RANK", "0") == "0"


def forget_peak_memory() -> None:
    """Let `peak_memory_mb` count from here, on CUDA; elsewhere it counts from the start of the process."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def peak_memory_mb() -> float:
    """The most memory this process has held, in MiB (resident; on CUDA: allocated on the device, see above)."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    import resource
    import sys

    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / 2**20 if sys.platform == "darwin" else used / 2**10


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
