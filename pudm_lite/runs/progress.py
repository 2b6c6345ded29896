"""How a run goes on, told through a file in its folder: for runs in processes that nobody listens to directly."""

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..files import read_json, write_whole
from ..training import Record
from .running import Report

FILE = "progress.json"


def to_file(folder: Path, every: float = 2.0) -> Report:
    """A report that keeps the newest word in folder/progress.json, written once in `every` seconds at most."""
    written = -every

    def report(what: str, value: Any) -> None:
        nonlocal written
        if what not in ("step", "sample") or time.monotonic() - written < every:
            return
        written = time.monotonic()
        word = [what, asdict(value) if what == "step" else value]
        write_whole(folder / FILE, lambda path: path.write_text(json.dumps(word)))

    return report


def from_file(folder: Path) -> tuple[str, Any] | None:
    """The newest word that a run left in its folder, as its report had it; None before the first."""
    if (word := read_json(folder / FILE)) is None:
        return None
    what, value = word
    return what, Record(**value) if what == "step" else tuple(value)


def clear(folder: Path) -> None:
    """Take away what an earlier session left."""
    (folder / FILE).unlink(missing_ok=True)
