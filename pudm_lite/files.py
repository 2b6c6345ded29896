"""Files are written whole or not at all: a temporary file beside the target, then os.replace."""

import json
import os
import re
import secrets
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from .errors import UserError


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file and move it to `path` in one step.

    Raises UserError when the folder cannot be written or the disk is full; what was at `path` stays as it was.
    """
    temporary = path.with_name(f".{secrets.token_hex(8)}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch(exist_ok=False)  # with the permissions of the user's umask, which tempfile does not ask for
    except OSError as error:
        raise _closed(path.parent, error) from None
    try:
        write(temporary)
        _to_disk(temporary)
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        raise _refused(path, error) from None
    finally:
        temporary.unlink(missing_ok=True)


def _to_disk(path: Path) -> None:
    """Before a file is moved: or a power cut could leave the new name with half its content."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _refused(path: Path, error: OSError | SafetensorError) -> UserError:
    """For what was not written: safetensors has an error of its own for a full disk."""
    why = getattr(error, "strerror", None) or str(error)
    return UserError(f"cannot write {path} ({why}): make room, or choose another folder with --out")


def _closed(folder: Path, error: OSError) -> UserError:
    return UserError(f"cannot write to {folder} ({error.strerror}): choose another folder with --out")


def writable(folder: Path) -> None:
    """Find out before any work that a folder takes files, and leave nothing: the work may be refused all the same.

    One that is not there yet is tried out inside the nearest that is. Raises UserError.
    """
    there = next((one for one in (folder, *folder.parents) if os.path.lexists(one)), folder)
    try:
        with tempfile.TemporaryDirectory(dir=there, prefix=".tmp") as name:
            probe = Path(name) / folder.relative_to(there)
            probe.mkdir(parents=True, exist_ok=True)
            (probe / "probe").touch()
    except OSError as error:
        raise _closed(folder, error) from None


def writable_file(path: Path) -> None:
    """The same for a file. Raises UserError, also where a folder stands at its place."""
    if path.is_dir():
        raise UserError(f"{path} is a folder: name a file, in it or elsewhere")
    writable(path.parent)


def is_utf8(name: str | Path) -> bool:
    """Whether the bytes of a name are UTF-8: safetensors opens no others, where the system takes any."""
    try:
        str(name).encode()
    except UnicodeEncodeError:
        return False
    return True


def write_folder(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a new folder and move it to `path`, in the place of what was there.

    Raises UserError when the disk is full; what was at `path` stays as it was.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".tmp") as name:
            new, old = Path(name) / "new", Path(name) / "old"
            write(new)
            for one in new.rglob("*"):
                if one.is_file():
                    _to_disk(one)
            if path.exists():
                os.replace(path, old)  # os.replace takes the place of empty folders only
            try:
                os.replace(new, path)
            except OSError:
                if old.exists():
                    os.replace(old, path)
                raise
    except (OSError, SafetensorError) as error:
        raise _refused(path, error) from None


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


def read_arrays(path: Path, *names: str) -> dict[str, Any]:
    """These NumPy arrays of an .npz file. Raises UserError for any other file, and where one of them is missing."""
    import numpy as np

    try:
        with np.load(path) as archive:
            return {name: archive[name] for name in names}
    except (*_NO_ARRAYS, AttributeError, TypeError):  # the last two: a single array, which is no archive
        wanted = ", ".join(f"`{name}`" for name in names)
        raise UserError(f"{path} is not an .npz file with {wanted}, or is damaged") from None


_TORN = re.compile(r"\.[0-9a-f]{16}(\.\w+)?|\.tmp\w{8}")


def clear_torn(folder: Path) -> None:
    """Take away what writers that were killed left in a folder, where nobody else writes now."""
    for path in folder.glob(".*"):
        if _TORN.fullmatch(path.name):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def array_shapes(path: Path, whole: bool = False) -> dict[str, tuple[int, ...]]:
    """The shapes of the arrays in an .npz file, read from their headers. Raises UserError for any other file.

    whole: also hold everything in it to its checksum, which takes as long as reading it.
    """
    from numpy.lib import format as npy

    try:
        shapes = {}
        with zipfile.ZipFile(path) as archive:
            if whole and archive.testzip():
                raise zipfile.BadZipFile
            for name in archive.namelist():
                with archive.open(name) as file:
                    npy.read_magic(file)
                    shapes[name.removesuffix(".npy")] = npy.read_array_header_1_0(file)[0]
        return shapes
    except _NO_ARRAYS:
        raise UserError(
            f"{path} is not an .npz file of arrays: remove it, and run the command that wrote it again"
        ) from None


_NO_ARRAYS = (OSError, ValueError, KeyError, EOFError, MemoryError, NotImplementedError, zipfile.BadZipFile, zlib.error)
"""What is raised by files that are no .npz files or damaged ones."""


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
        raise _closed(path.parent, error) from None
    try:
        yield
    finally:
        lock.release()


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """Put rows, one JSON line each, into `path`: a run with its samples once, the later row counts."""
    with alone(path):
        kept = read_rows(path) if path.exists() else []
        lines = [json.dumps(row) for row in _once([*kept, *rows])]
        write_whole(path, lambda temporary: temporary.write_text("\n".join(lines) + "\n", encoding="utf-8"))


def read_json(path: Path) -> Any:
    """What a file of JSON holds; None where it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSON-lines file, each run with its samples once: the later line counts.

    Raises UserError when the file is missing or a line is no JSON object.
    """
    if not path.is_file():
        raise UserError(f"no rows at {path}: run an experiment first, or name the rows.jsonl of one")
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        if other := [row for row in rows if not isinstance(row, dict)]:
            raise ValueError(f"{str(other[0])[:40]!r} is no row")
        return _once(rows)
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is not a file of JSON lines ({error}): name the rows.jsonl of an experiment") from None


def _once(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return list({_run_of(row): row for row in rows}.values())


def _run_of(row: dict[str, Any]) -> str:
    """What two rows of one run have in common: its name, and how its samples were drawn and measured."""
    names = ("run", "n_samples", "sampler", "sampler_steps", "sample_seed", "frechet_features", "beta_from")
    return json.dumps([row.get(name) for name in names] if "run" in row else row, sort_keys=True)
