"""A folder of image folders, one a class: DIR/CLASS/*.jpg, or DIR/train/CLASS and DIR/test/CLASS."""

from collections.abc import Sequence
from pathlib import Path

from ..errors import UserError
from ..files import is_utf8
from .finding import LeftOut, image_files
from .folders import Found

HELD_OUT = 5
"""Without a folder `test` every fifth image of a class, in the order of their paths, is held out for testing."""


def class_folders(root: Path, normal: Sequence[str], sensitive: Sequence[str] = (), out: Path | None = None) -> Found:
    """The files of these classes, groups `train/CLASS` and `test/CLASS`.

    normal, sensitive: names of folders; no sensitive ones stands for all that are not normal.
    out: where something is to be written: nowhere in these folders.
    Raises UserError for a folder or class that is not there, for classes that are both or none, and as `image_files`.
    """
    if not root.is_dir():
        raise UserError(f"{root} is not a folder: name one that holds a folder of images for each class")
    parts = {part: root / part for part in ("train", "test")}
    divided = all(folder.is_dir() for folder in parts.values())
    top = parts["train"] if divided else root
    known = sorted(path.name for path in top.iterdir() if path.is_dir() and _counts(path))
    chosen = list(dict.fromkeys(sensitive)) or [name for name in known if name not in normal]
    for name in (*normal, *chosen):
        if name not in known:
            raise UserError(f"{top} has no folder of a class {name!r}; it has {', '.join(known) or 'none'}")
        if not is_utf8(name):
            raise UserError(
                f"the class {name!a} is no name in UTF-8, as images are packed under: call its folder otherwise"
            )
    if both := sorted(set(normal) & set(chosen)):
        raise UserError(f"{both[0]} cannot be both normal and sensitive")
    if not normal or not chosen:
        raise UserError(
            f"no class is {'sensitive' if normal else 'normal'}: name some but not all of {', '.join(known)}"
        )
    found = Found({}, [LeftOut(path, "it lies in no class's folder") for path in sorted(top.iterdir()) if _stray(path)])
    for name in (*dict.fromkeys(normal), *chosen):
        files, others = image_files(top / name, out)
        found.left_out.extend(others)
        if divided:
            found.groups[f"train/{name}"] = files
            found.groups[f"test/{name}"], others = image_files(parts["test"] / name, out)
            found.left_out.extend(others)
        else:
            found.groups[f"train/{name}"] = [path for k, path in enumerate(files, 1) if k % HELD_OUT]
            found.groups[f"test/{name}"] = files[HELD_OUT - 1 :: HELD_OUT]
    if out is not None:
        _stays_outside(root, out)
    return found


def _counts(path: Path) -> bool:
    return not path.name.startswith(".") and path.name != "__MACOSX"


def _stray(path: Path) -> bool:
    return path.is_file() and _counts(path)


def _stays_outside(root: Path, out: Path) -> None:
    """Raises UserError where `out` would be a class of its own the next time."""
    if root.resolve() in (out.resolve(), *out.resolve().parents):
        raise UserError(f"--out lies in {root}, whose folders are read as classes: choose a folder outside with --out")
