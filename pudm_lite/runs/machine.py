"""Where a run happened, and how large it was meant to be: device, versions, memory, mode."""

import os
import platform
from pathlib import Path
from typing import Any

import numpy as np
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


def peak_memory_mb() -> float:
    """The most memory this process has held, in MiB (resident; on CUDA: allocated on the device)."""
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
