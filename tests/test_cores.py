"""The cores and threads that this process is left: by the system, by `taskset`, by OMP_NUM_THREADS."""

import os
import subprocess
import sys

import pytest

from pudm_lite import cores as module
from pudm_lite.cores import cores, threads_allowed


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity here")
def test_cores_are_those_that_a_process_may_run_on():
    """As `taskset` leaves them: in a process of its own."""
    code = """import os; from pudm_lite.cores import cores
one = min(os.sched_getaffinity(0)); os.sched_setaffinity(0, {one}); print(cores())"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "1"
    assert cores() == len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("said", "allowed"),
    [("", 6), ("1", 1), ("4", 4), ("64", 6), ("2,3", 2), ("0", 1), ("many", 6), ("-1", 6)],
)
def test_omp_num_threads_says_how_many_of_them(monkeypatch, said, allowed):
    monkeypatch.setattr(module, "cores", lambda: 6)
    monkeypatch.setenv("OMP_NUM_THREADS", said)
    assert threads_allowed() == allowed
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert threads_allowed() == 6
