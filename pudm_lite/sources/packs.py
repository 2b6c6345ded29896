"""Images read once: packed into one file under the content of theirs, and opened from there by whoever needs them."""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from ..cores import cores
from ..errors import UserError
from ..files import array_shapes, read_arrays, write_arrays
from .finding import LeftOut, refuse
from .folders import Found, common_side, read_images
from .near import shared

READER = 1
"""To be counted up where the same files would give other pixels: what was packed before is not opened then."""


@dataclass(frozen=True)
class Pack:
    """A packed file. shapes: (N, C, S, S) of each group. left_out: what gives no image. notes: what a user should know.

    key: eight digits of the content of all files, their groups and order, and the size.
    """

    file: Path
    key: str
    shapes: dict[str, tuple[int, ...]]
    left_out: list[LeftOut]
    notes: list[str]


def pack(found: Found, size: int | None, strict: bool, to: Path, words: dict[str, str] | None = None) -> Pack:
    """The images of `found` in to/images-KEY.npz, an array for each group; read only where it is not there already.

    size: their common side in pixels; None takes the side that all images have. words: what a group is called in notes.
    Raises UserError when nothing opens, when size is None and sizes differ, and under strict when anything is left out.
    """
    if strict:
        refuse(found.left_out)
    files = [path for of_one in found.groups.values() for path in of_one]
    side = common_side(size, files)
    digests = _contents(files)
    content = {name: [digests[path] for path in of_one] for name, of_one in found.groups.items()}
    key = hashlib.sha256(json.dumps([READER, side, content]).encode()).hexdigest()[:8]
    file = to / f"images-{key}.npz"
    about = _about(file) or _write(file, found, side, digests, words or {})
    left_out = [LeftOut(found.groups[name][at], why) for name, at, why in about["left_out"]]
    if strict:
        refuse(left_out)
    shapes = {name: shape for name, shape in array_shapes(file).items() if name != "about"}
    return Pack(file, key, shapes, found.left_out + left_out, about["notes"])


def unpack(file: Path, *groups: str) -> dict[str, Tensor]:
    """These groups of a packed file, (N, C, S, S) uint8 each. Raises UserError where it is missing or damaged."""
    return {name: torch.from_numpy(array) for name, array in read_arrays(file, *groups).items()}


def _contents(files: list[Path]) -> dict[Path, str]:
    """The sha256 of each file's content; of one that cannot be read, "": reading it says why."""

    def of(path: Path) -> str:
        try:
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:
            return ""

    with ThreadPoolExecutor(cores()) as pool:
        return dict(zip(files, tqdm(pool.map(of, files), "comparing", len(files), delay=1, leave=False), strict=True))


def _about(file: Path) -> dict[str, Any] | None:
    """What was noted when the file was packed; None where it is not there or damaged."""
    if not file.exists():
        return None
    try:
        array_shapes(file, whole=True)
        about = json.loads(read_arrays(file, "about")["about"].tobytes())
        return about if {"left_out", "notes"} <= about.keys() else None
    except (UserError, ValueError, AttributeError):
        print(f"{file} is damaged: it is written again")
        return None


def _write(file: Path, found: Found, size: int, digests: dict[Path, str], words: dict[str, str]) -> dict[str, Any]:
    images = read_images(found.groups, size)
    called = {name: words.get(name, name) for name in found.groups}
    notes = shared(images.pixels, images.files, digests, called)
    if images.enlarged:
        count = f"{len(images.enlarged)} of {sum(map(len, images.files.values()))} images have"
        notes.append(f"{count} fewer than {size} pixels a side and are enlarged, such as {images.enlarged[0]}")
    why = {one.path: one.why for one in images.left_out}
    left_out = [
        (name, at, why[path]) for name, of_one in found.groups.items() for at, path in enumerate(of_one) if path in why
    ]
    about = {"left_out": left_out, "notes": notes}
    text = np.frombuffer(json.dumps(about).encode(), np.uint8)
    write_arrays(file, about=text, **{name: pixels.numpy() for name, pixels in images.pixels.items()})
    return about
