"""A script in several real processes of one group, which talk through gloo."""

import os
import socket
import subprocess
import sys
from pathlib import Path


def together(script: str, *arguments: object, processes: int = 2) -> list[str]:
    """Run tests/SCRIPT in each process, and return what each wrote to stderr. Fails where one of them does."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    group = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    group |= {"ACCELERATE_USE_CPU": "true"}
    running = [
        subprocess.Popen(
            [sys.executable, str(Path(__file__).parent / script), *map(str, arguments)],
            env=os.environ | group | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(processes)
    ]
    try:
        said = [process.communicate(timeout=240)[1] for process in running]
    finally:
        for process in running:
            process.kill()
    assert [process.returncode for process in running] == [0] * processes, said
    return said
