"""The other side of `grading.py`: a process that runs a submission's definitions and answers calls about them.

    python -m pudm_lite.course.child NOTEBOOK READ_FD WRITE_FD MEMORY_MB

A message is eight bytes of length and then torch.save's bytes; both sides read with weights_only=True.
"""

import ast
import ctypes
import io
import json
import os
import resource
import sys
from pathlib import Path
from typing import Any


def definitions(notebook: Path) -> tuple[str, set[str]]:
    """(Python source, names of its functions): the imports, definitions and literal constants of all code cells.

    What trains, draws or calls a check is left out, so grading takes seconds and a notebook cannot act on its grade. A
    cell that is no Python is skipped; lines of IPython magic are dropped first.
    """
    kept: list[ast.stmt] = []
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] != "code":
            continue
        lines = "".join(cell["source"]).splitlines()
        source = "\n".join("pass" if line.lstrip()[:1] in ("%", "!") else line for line in lines)
        try:
            kept += [node for node in ast.parse(source).body if _is_definition(node)]
        except (SyntaxError, ValueError, MemoryError, RecursionError):
            continue
    names = {node.name for node in kept if isinstance(node, ast.FunctionDef)}
    return "\n".join(map(ast.unparse, kept)), names


def _is_definition(node: ast.stmt) -> bool:
    if isinstance(node, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef):
        return True
    if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
        try:
            ast.literal_eval(node.value)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):  # all that it is documented to raise
            return False
        return True
    return False


def pack(message: dict[str, Any]) -> bytes:
    """A message as bytes: its length, eight bytes, then torch.save's."""
    import torch

    buffer = io.BytesIO()
    torch.save(message, buffer)
    return len(buffer.getvalue()).to_bytes(8, "little") + buffer.getvalue()


def confine(memory_mb: int) -> None:
    """No network and little memory from here on, as far as the system allows."""
    CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if libc.unshare(CLONE_NEWNET) != 0:  # needs a privilege, or a user namespace to have it in
            libc.unshare(CLONE_NEWUSER | CLONE_NEWNET)
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    limit = resource.RLIMIT_DATA if sys.platform == "linux" else resource.RLIMIT_AS
    try:
        resource.setrlimit(limit, (used + memory_mb * 2**20,) * 2)
    except (ValueError, OSError):
        print("the memory limit could not be set", file=sys.stderr)


def main() -> None:
    import torch

    notebook, ask, answer, memory_mb = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    source, _ = definitions(notebook)
    requests, replies = os.fdopen(ask, "rb"), os.fdopen(answer, "wb")
    confine(memory_mb)
    namespace: dict[str, Any] = {"__name__": "submission"}
    broken = ""
    for node in ast.parse(source).body:
        try:
            exec(compile(ast.Module([node], []), str(notebook.name), "exec"), namespace)
        except BaseException as error:  # one bad import must not cost every exercise
            broken = f" (before it, `{ast.unparse(node).splitlines()[0]}` failed: {type(error).__name__}: {error})"

    def reply(message: dict[str, Any]) -> None:
        replies.write(pack(message))
        replies.flush()

    reply({"ready": True})
    while header := requests.read(8):
        message = torch.load(io.BytesIO(requests.read(int.from_bytes(header, "little"))), weights_only=True)
        try:
            result = namespace[message["function"]](*message["arguments"], **message["named"])
            reply({"result": result})
        except NotImplementedError:
            reply({"stub": True})
        except BaseException as error:
            reply({"error": f"`{message['function']}` stopped with {type(error).__name__}: {error}{broken}"})


if __name__ == "__main__":
    main()
