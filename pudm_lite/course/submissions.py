"""Whose notebooks lie in a folder: by student, with what is to be said about each; and reading one without a risk."""

import os
import re
import stat
import unicodedata
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from ..errors import UserError

LARGEST = 64 << 20
"""Bytes of a notebook. Whoever needs more has pictures in it that grading does not."""
MOST = 40
"""Notebooks of one student; the course has eight with exercises."""
DEEPEST = 10
"""Folders inside each other."""


Entry: TypeAlias = "os.DirEntry[str]"


@dataclass
class Submission:
    """notebooks: of one student. notes: what was found beside them, and why something is left out."""

    notebooks: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def submissions(folder: Path) -> dict[str, Submission]:
    """By student: folder/STUDENT/*.ipynb, or folder/STUDENT.ipynb. Raises UserError where there are none.

    Links are not followed, as one may lead to another's work; what a Mac or Jupyter leaves behind is no work.
    """
    found: dict[str, Submission] = defaultdict(Submission)
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(f"{folder} cannot be read ({error.strerror}): name a folder of submissions") from None
    single = {entry.name[: -len(".ipynb")] for entry in entries if _is_notebook(entry)}
    for entry in entries:
        if _is_left_behind(entry):
            continue
        if entry.is_dir(follow_symlinks=False):
            one = found[entry.name]
            if entry.name in single:
                one.notes.append(f"{entry.name}/ and {entry.name}.ipynb are taken together, the best answers count")
            _collect(Path(entry.path), Path(entry.name), one, DEEPEST)
        elif _is_notebook(entry):
            _take(entry, Path(entry.name), found[entry.name[: -len(".ipynb")]])
        elif entry.is_symlink() and entry.is_dir():
            found[entry.name].notes.append(f"{entry.name} is a link, and links are not followed")
    if not any(one.notebooks or one.notes for one in found.values()):
        raise UserError(f"{folder} holds no notebooks: expected {folder}/STUDENT/*.ipynb or {folder}/STUDENT.ipynb")
    _say_who_may_be_one(found)
    for one in found.values():
        if len(one.notebooks) > MOST:
            one.notes.append(f"{len(one.notebooks)} notebooks: the first {MOST} are graded")
            del one.notebooks[MOST:]
        if not one.notebooks and not one.notes:
            one.notes.append("no notebook")
    return dict(found)


def _is_left_behind(entry: Entry) -> bool:
    """Shadows that a Mac makes, and hidden folders: of checkpoints, of git."""
    if entry.is_dir(follow_symlinks=False):
        return entry.name.startswith((".", "__MACOSX"))
    return entry.name.startswith("._")


def _is_notebook(entry: Entry) -> bool:
    return entry.name.lower().endswith(".ipynb") and not entry.is_dir(follow_symlinks=False)


def _collect(folder: Path, shown: Path, one: Submission, deeper: int) -> None:
    """Take the notebooks in a folder and in those inside it. shown: its path inside the folder of all submissions."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        one.notes.append(f"{shown} cannot be read ({error.strerror})")
        return
    for entry in entries:
        if _is_left_behind(entry):
            continue
        if entry.is_dir(follow_symlinks=False):
            if deeper:
                _collect(Path(entry.path), shown / entry.name, one, deeper - 1)
            else:
                one.notes.append(f"{shown} holds folders too deep inside each other")
        elif _is_notebook(entry) or (entry.is_symlink() and entry.is_dir()):
            _take(entry, shown / entry.name, one)


def _take(entry: Entry, shown: Path, one: Submission) -> None:
    if entry.is_symlink():
        one.notes.append(f"{shown} is a link, and links are not followed")
    elif not entry.is_file(follow_symlinks=False):
        one.notes.append(f"{shown} is no regular file")
    else:
        one.notebooks.append(Path(entry.path))


def _say_who_may_be_one(found: dict[str, Submission]) -> None:
    """Names that differ only in case, in how an accent is written, or by a copy's number may be one student's."""
    alike: dict[str, list[str]] = defaultdict(list)
    for name in found:
        plain = unicodedata.normalize("NFKC", re.sub(r"( \(\d+\)| - copy| copy)$", "", name, flags=re.IGNORECASE))
        alike[plain.casefold().strip()].append(name)
    for names in alike.values():
        for name in names:
            if others := [other for other in names if other != name]:
                found[name].notes.append(f"perhaps the same student as {', '.join(others)}")


def read_notebook(path: Path) -> bytes:
    """The bytes of a regular file of at most LARGEST bytes. Raises OSError, or ValueError for anything else.

    It never waits: a pipe in the place of a notebook has no writer.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    with open(handle, "rb") as file:
        about = os.fstat(handle)
        if not stat.S_ISREG(about.st_mode):
            raise ValueError("no regular file")
        if about.st_size > LARGEST:
            raise ValueError(f"larger than {LARGEST >> 20} MiB")
        return file.read(LARGEST)
