"""The process that runs a submission, seen from the grader: started behind walls, watched, asked, and ended.

Nothing of a notebook is looked into on this side: it goes over as bytes, and what comes back is read by `messages`.
"""

import contextlib
import functools
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from typing import Any

from ..errors import UserError
from . import messages
from .checks.harness import WrongAnswer
from .messages import NoMessage
from .walls import KINDS, command

LOADING = 300.0
"""Seconds for what is not the student's: starting Python, reading a notebook, loading libraries, on a busy machine."""
PROCESSES = 32
"""At most, of one submission; no exercise needs a second one."""
BARE_MB = 1024
"""What Python with PyTorch may need before a submission's definitions run."""


class LateError(WrongAnswer):
    """No word from a process within its time."""


@functools.cache
def walls() -> str:
    """The best of KINDS that works here, tried once with all that a submission needs.

    Raises UserError where not even a bare process starts, and where one is late: a wall that may stand is not done
    without because the machine is slow.
    """
    for kind in KINDS:
        try:
            with Child(b'{"cells": []}', LOADING, 1024, kind) as child:
                child.start()
            return kind
        except LateError:
            late = f"no process for submissions is ready within {LOADING:g} seconds: this machine is too busy"
            raise UserError(late) from None
        except (WrongAnswer, OSError):
            continue
    raise UserError(f"no process for submissions can be started with {sys.executable}: does `import torch` work there?")


class Child:
    """A submission's process; started when first needed, and anew after it was stopped.

    notebook: the file's bytes. seconds: for the definitions, and for all calls of one exercise. memory_mb: for all its
    processes together, above a bare Python with PyTorch.
    """

    def __init__(self, notebook: bytes, seconds: float, memory_mb: int, kind: str | None = None) -> None:
        self.notebook, self.seconds, self.memory_mb, self.kind = notebook, seconds, memory_mb, kind
        self.left = seconds
        self.process: subprocess.Popen[bytes] | None = None
        self.broken = ""  # why it does not come as far as to answer, found once
        self.ready = False

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def definitions(self) -> dict[str, Any]:
        """What the notebook defines, before any of it has run: names, number, unread; or unreadable, and why.

        Raises WrongAnswer when it takes too long or too much.
        """
        self.stop()
        ours, theirs = socket.socketpair()
        child = [sys.executable, "-P", "-m", "pudm_lite.course.child"]
        with theirs:
            self.process = subprocess.Popen(
                command(walls() if self.kind is None else self.kind, child),
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd=tempfile.gettempdir(),
                start_new_session=True,
                env=environment(),
            )
        self.line = ours
        self.watch = Watch(self.process.pid, self.memory_mb)
        self._told(LOADING, "its process did not start")
        self._send(self.notebook, LOADING)
        return self._told(LOADING, "its cells could not be read")

    def start(self) -> None:
        """Run the definitions. Raises WrongAnswer when they do not end, now and whenever it is asked again."""
        if self.broken:
            raise WrongAnswer(self.broken)
        try:
            if self.process is None:
                self.definitions()
            self._send(json.dumps({"memory_mb": self.memory_mb}).encode(), self.seconds)
            self._told(LOADING, "what it imports was not loaded")
            self.watch.from_here()
            self._told(self.seconds, "the notebook's functions, classes and constants were not defined")
            self.ready = True
        except WrongAnswer as wrong:
            self.broken = str(wrong)
            raise

    def call(self, function: str, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """The submission's function at these arguments. Raises WrongAnswer, or NotImplementedError for a stub."""
        if not self.ready:
            self.start()
        asked = messages.pack({"function": function, "arguments": list(arguments), "named": named})
        began = time.monotonic()
        try:
            self._send(asked, self.left)
            data = self._receive(self.left, f"no answer within {self.seconds:g} seconds")
        finally:
            self.left = max(self.left - (time.monotonic() - began), 0.0)
        try:
            reply = messages.unpack(data, messages.leaves_of(arguments))
        except NoMessage as none:
            self.stop()
            raise WrongAnswer(str(none)) from None
        if isinstance(reply, dict) and "result" in reply:
            return reply["result"]
        if isinstance(reply, dict) and reply.get("stub"):
            raise NotImplementedError
        raise WrongAnswer(str(reply.get("error") if isinstance(reply, dict) else "no result came back")[:500])

    def _told(self, seconds: float, otherwise: str) -> dict[str, Any]:
        """What the process says of itself, within a time; `otherwise` is why not."""
        late = f"{otherwise} within {seconds:g} seconds"
        try:
            said = json.loads(self._receive(seconds, late, otherwise))
            if isinstance(said, dict):
                return said
        except (ValueError, RecursionError):
            pass
        self.stop()
        raise WrongAnswer(otherwise)

    def _send(self, data: bytes, seconds: float) -> None:
        try:
            messages.send(self.line, data, seconds)
        except (NoMessage, TimeoutError) as failed:
            why = self.watch.why or (str(failed) if isinstance(failed, NoMessage) else "it takes no question")
            self.stop()
            raise WrongAnswer(why) from None

    def _receive(self, seconds: float, late: str, before: str = "") -> bytes:
        try:
            return messages.receive(self.line, seconds)
        except TimeoutError:
            self.stop()
            raise LateError(late) from None
        except NoMessage as none:
            died = f"{none}: it crashed, or needed more than {self.memory_mb} MiB" if "died" in str(none) else str(none)
            why = self.watch.why or died
            self.stop()
            raise WrongAnswer(f"{before}: {why}" if before else why) from None

    def stop(self) -> None:
        """Kill it, with whatever it started."""
        if self.process is None:
            return
        self.watch.end()
        kill(self.process.pid)
        self.process.wait()
        self.process, self.ready = None, False
        self.line.close()


def environment() -> dict[str, str]:
    """What a submission may know of the grader's environment: where Python finds its modules."""
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH") if name in os.environ}
    modules = os.pathsep.join(path for path in sys.path if os.path.isabs(path))
    return kept | {"PYTHONPATH": modules, "OMP_NUM_THREADS": "1", "HOME": "/tmp", "LC_ALL": "C.UTF-8"}


def kill(process: int) -> None:
    """End a process that leads a session, with all of it; behind walls whatever it started ends as well."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process, signal.SIGKILL)


class Watch(threading.Thread):
    """Counts the memory and the number of all processes of a submission, and kills them when they are too many.

    No limit of the system's counts processes together without a privilege.
    """

    def __init__(self, process: int, memory_mb: int) -> None:
        super().__init__(daemon=True)
        self.leader, self.memory_mb, self.bare_mb, self.why = process, memory_mb, float(BARE_MB), ""
        self.over = threading.Event()
        self.start()

    def from_here(self) -> None:
        """What it uses now is a bare Python's."""
        self.bare_mb = sum(map(memory_of, family(self.leader)))

    def run(self) -> None:
        while not self.over.wait(0.1):
            members = family(self.leader)
            if len(members) > PROCESSES:
                self.why = f"it started more than {PROCESSES} processes"
            elif sum(map(memory_of, members)) > self.bare_mb + self.memory_mb:
                self.why = f"its processes together needed more than {self.memory_mb} MiB"
            if self.why:
                return kill(self.leader)

    def end(self) -> None:
        """Stop watching: after this the process's number may be another's."""
        self.over.set()
        self.join()


def family(process: int) -> list[Any]:
    """A process and all that it started, as psutil sees them; none when it has ended."""
    import psutil

    try:
        leader = psutil.Process(process)
        return [leader, *leader.children(recursive=True)]
    except psutil.Error:
        return []


def memory_of(process: Any) -> float:
    """MiB that a process alone uses, and its share of what it has in common with others; 0 when it has ended."""
    import psutil

    try:
        memory = process.memory_full_info()
        return getattr(memory, "pss", memory.uss) / 2**20
    except psutil.AccessDenied:
        return process.memory_info().rss / 2**20
    except (psutil.Error, OSError):
        return 0.0
