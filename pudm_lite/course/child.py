"""The other side of `sandbox.py`: a process that runs a submission's definitions and answers calls about them.

    python -m pudm_lite.course.child FOLDER...

Its standard input is a socket to the grader. It says that it is up; takes a notebook and says what it defines; loads
PyTorch and whatever else is imported and says so; runs the definitions and says so; then answers calls. FOLDER: what
it is to see of the machine, where it has to shut itself in (see `walls.enclose`).
"""

import __future__

import ast
import contextlib
import json
import os
import resource
import socket
import sys
import types
from typing import Any

from .definitions import definitions
from .messages import leaves_of, pack, receive, send, unpack
from .walls import SCRATCH, enclose

FOREVER = 1e6
"""Seconds: it is the grader that loses patience, and then this process ends."""


def main() -> None:
    line = socket.socket(fileno=os.dup(0))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    if len(sys.argv) > 1:
        enclose(sys.argv[1:])
    _say(line, up=True)
    try:
        found = definitions(receive(line, FOREVER, largest=1 << 40))
    except ValueError as error:
        return _say(line, unreadable=str(error))
    _say(line, names=found.names, number=found.number, unread=found.unread)
    memory_mb = json.loads(receive(line, FOREVER))["memory_mb"]
    load(found.statements)
    limit(memory_mb)
    _say(line, loaded=True)
    namespace, broken = run(found.statements)
    _say(line, ready=True)
    while True:
        message = unpack(receive(line, FOREVER))
        name = message["function"]
        try:
            arguments = message["arguments"]
            reply = pack({"result": namespace[name](*arguments, **message["named"])}, leaves_of(arguments))
        except NotImplementedError:
            reply = pack({"stub": True})
        except BaseException as error:
            reply = pack({"error": f"`{name}` stopped with {named(error)}{broken}"})
        send(line, reply, FOREVER)


def _say(line: socket.socket, **said: Any) -> None:
    send(line, json.dumps(said).encode(), FOREVER)


def load(statements: list[ast.stmt]) -> None:
    """Load PyTorch and the libraries that the statements import: the time and memory of these are not the student's."""
    import safetensors.torch  # noqa: F401

    for node in statements:
        if isinstance(node, ast.Import | ast.ImportFrom):
            with contextlib.suppress(BaseException):  # `run` does it again, and keeps what went wrong
                exec(compile(ast.Module([node], []), "notebook", "exec"), {})


def named(error: BaseException) -> str:
    """An error's type and words, as far as it has any: a submission may bring errors of its own."""
    try:
        return f"{type(error).__name__}: {str(error)[:300]}"
    except BaseException:
        return "an error without words"


def limit(memory_mb: int) -> None:
    """From here on this process takes no more than memory_mb beside what it has, and writes no large file."""
    import psutil

    has = psutil.Process().memory_info()
    linux = sys.platform == "linux"
    kind, used = (resource.RLIMIT_DATA, has.data) if linux else (resource.RLIMIT_AS, has.vms)
    for which, most in ((kind, used + memory_mb * 2**20), (resource.RLIMIT_FSIZE, SCRATCH), (resource.RLIMIT_CORE, 0)):
        try:
            resource.setrlimit(which, (most, most))
        except (ValueError, OSError):
            continue  # macOS sets no limit on memory; the grader's own count of it holds


def run(statements: list[ast.stmt]) -> tuple[dict[str, Any], str]:
    """The names that the statements define, and what went wrong last among them, in words to be added to an error.

    Each runs by itself: one bad import must not cost every exercise.
    """
    module = types.ModuleType("__main__")  # as in a notebook: for `if __name__`, and for dataclasses
    sys.modules["__main__"] = module
    flags, broken = 0, ""
    for node in statements:
        try:
            if isinstance(node, ast.ImportFrom) and node.module == "__future__":  # in a notebook it holds from here on
                flags |= sum(getattr(__future__, name.name).compiler_flag for name in node.names)
            exec(compile(ast.Module([node], []), "notebook", "exec", flags, dont_inherit=True), module.__dict__)
        except BaseException as error:
            broken = f" (before it, line {node.lineno} of a cell failed: {named(error)})"
    return module.__dict__, broken


if __name__ == "__main__":
    main()
