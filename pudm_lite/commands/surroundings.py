"""What surrounds a command: a terminal or pipe that may take no letters, or be closed; variables of a cluster."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from ..errors import UserError

LAUNCH = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
"""What `accelerate launch` tells each of its processes, all of it."""
MPI = tuple(
    f"{of}_{name}"
    for of, names in {
        "PMI": ("SIZE", "RANK"),
        "OMPI_COMM_WORLD": ("SIZE", "RANK", "LOCAL_SIZE", "LOCAL_RANK"),
        "MV2_COMM_WORLD": ("SIZE", "RANK", "LOCAL_SIZE", "LOCAL_RANK"),
        "MPI": ("LOCALNRANKS", "LOCALRANKID"),
    }.items()
    for name in names
)
"""What MPI tells its processes, and Accelerate would believe before what it told itself."""


class Patient:
    """A stream that takes every character, and goes on when nobody reads it any more (`| head`).

    So nothing that was computed is lost because it could not be printed. `failure`: what else kept it from printing.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.failure = ""
        if hasattr(stream, "reconfigure"):  # Jupyter's has not, and takes every character
            stream.reconfigure(errors="backslashreplace")

    def write(self, text: str) -> int:
        self._attempt(lambda: self.stream.write(text))
        return len(text)

    def flush(self) -> None:
        self._attempt(self.stream.flush)

    def _attempt(self, act: Any) -> None:
        try:
            act()
        except OSError as error:
            if not isinstance(error, BrokenPipeError):
                self.failure = error.strerror or str(error)
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.stream.fileno())  # what is buffered, and what comes, goes there
            os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextmanager
def patient_output() -> Iterator[list[Patient]]:
    """Inside, what is printed cannot fail; gives the streams that take it."""
    before = sys.stdout, sys.stderr
    streams = [stream and Patient(stream) for stream in before]  # None where it was closed from the start
    sys.stdout, sys.stderr = streams
    try:
        yield [stream for stream in streams if stream]
    finally:
        for stream in streams:
            if stream:
                stream.flush()
        sys.stdout, sys.stderr = before


def let_threads_sleep() -> None:
    """Have threads that wait for one another sleep, where nobody said otherwise: to be called before PyTorch loads.

    OpenMP's threads spin while they wait. On a core that they share with other work that keeps from its core the very
    thread that they wait for: under load two threads trained at a twentieth of the speed of one, and asleep, at two
    thirds of it.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def leave_clusters_aside() -> None:
    """Takes out of the environment what would have Accelerate wait for processes that never come.

    Raises UserError where this process is one of several that something else than `accelerate launch` started: each
    would do the same work, in the same folder.
    """
    environ = os.environ
    launched = all(environ.get(name) for name in LAUNCH)
    for name in ("WORLD_SIZE", *(name for name in MPI if name.endswith("_SIZE") and "LOCAL" not in name)):
        size = environ.get(name, "")
        if size.isascii() and size.isdigit() and int(size) > 1 and not launched:
            raise UserError(
                f"{name} is {size}, as if this were one of {size} processes, which pudm does not share its work with: "
                f"unset {name}, and let `pudm sweep --processes {size}` start them"
            )
    for name in MPI if launched else (*LAUNCH, *MPI):
        environ.pop(name, None)
