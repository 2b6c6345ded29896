"""How many CPU cores and threads this process may use: what `taskset`, a cluster's job or OMP_NUM_THREADS leave it."""

import os


def cores() -> int:
    """The CPU cores that this process may run on: all, or those that `taskset` or a cluster's job left it."""
    if hasattr(os, "process_cpu_count"):  # Python 3.13: PYTHON_CPU_COUNT too
        return os.process_cpu_count() or 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads_allowed() -> int:
    """The threads that one process of ours may use: its cores, or fewer where $OMP_NUM_THREADS says so."""
    given = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]  # OpenMP's form has a number for each nested level
    return min(cores(), max(1, int(given))) if given.isdecimal() else cores()
