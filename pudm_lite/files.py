"""Files are written whole or not at all: a temporary file beside the target, then os.replace."""

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import UserError


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file and move it to `path` in one step.

    Raises UserError when the folder cannot be written or the disk is full; what was at `path` stays as it was.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=path.suffix)
        os.close(handle)
    except OSError as error:
        raise UserError(f"cannot write to {path.parent} ({error.strerror}): choose another folder with --out") from None
    temporary = Path(name)
    try:
        write(temporary)
        temporary.chmod(0o644)
        os.replace(temporary, path)
    except OSError as error:
        raise _refused(path, error.strerror) from None
    finally:
        temporary.unlink(missing_ok=True)


def _refused(path: Path, why: str | None) -> UserError:
    return UserError(f"cannot write {path} ({why}): make room, or choose another folder with --out")


def write_folder(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a new folder and move it to `path`, in the place of what was there.

    Raises UserError when the disk is full; what was at `path` stays as it was.
    """
    from safetensors import SafetensorError

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".") as name:
            new, old = Path(name) / "new", Path(name) / "old"
            write(new)
            if path.exists():
                os.replace(path, old)  # os.replace takes the place of empty folders only
            try:
                os.replace(new, path)
            except OSError:
                if old.exists():
                    os.replace(old, path)
                raise
    except (OSError, SafetensorError) as error:
        raise _refused(path, getattr(error, "strerror", None) or str(error)) from None


def write_tensors(path: Path, state: Any) -> None:
    """What torch.save can write, whole or not at all; see `write_whole`."""
    import torch

    def save(temporary: Path) -> None:
        with temporary.open("wb") as file:
            try:
                torch.save(state, file)
            except RuntimeError as error:  # of a write that failed torch says everything but why
                raise error.__context__ or error from None

    write_whole(path, save)


def write_arrays(path: Path, **arrays: Any) -> None:
    """Named NumPy arrays into a compressed .npz file."""
    import numpy as np

    def save(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.savez_compressed(file, **arrays)

    write_whole(path, save)


def array_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of the arrays in an .npz file, read from their headers. Raises UserError for any other file."""
    import zipfile

    from numpy.lib import format as npy

    try:
        shapes = {}
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                with archive.open(name) as file:
                    npy.read_magic(file)
                    shapes[name.removesuffix(".npy")] = npy.read_array_header_1_0(file)[0]
        return shapes
    except (OSError, ValueError, zipfile.BadZipFile):
        raise UserError(f"{path} is not an .npz file of arrays: run the command that wrote it again") from None


@contextmanager
def alone(path: Path, busy: str = "") -> Iterator[None]:
    """Hold a lock beside `path`, which processes that read, change and write it back take in turns.

    busy: what to say, as a UserError, rather than wait for another that holds it.
    Raises UserError when the folder cannot be written.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(path.with_name(f".{path.name}.lock"))
    try:
        lock.acquire(timeout=0 if busy else -1)
    except Timeout:
        raise UserError(busy) from None
    except OSError as error:
        raise UserError(f"cannot write to {path.parent} ({error.strerror}): choose another folder with --out") from None
    try:
        yield
    finally:
        lock.release()


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """Put rows, one JSON line each, into `path`; a row that is there already is not written twice."""
    with alone(path):
        kept = read_rows(path) if path.exists() else []
        lines = [json.dumps(row) for row in [*kept, *(row for row in rows if row not in kept)]]
        write_whole(path, lambda temporary: temporary.write_text("\n".join(lines) + "\n"))


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSON-lines file. Raises UserError when it is missing or a line is not JSON."""
    if not path.is_file():
        raise UserError(f"no rows at {path}: run an experiment first, or name the rows.jsonl of one")
    try:
        return [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not a file of JSON lines ({error}): name the rows.jsonl of an experiment") from None
