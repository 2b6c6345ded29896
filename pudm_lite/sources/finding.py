"""The image files below a folder, linked folders included, and a reason for everything else that lies there."""

import errno
import os
import stat
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from ..errors import UserError

with suppress(ImportError):  # the extra `photos`: with it Pillow opens what phones write
    from pillow_heif import register_heif_opener

    register_heif_opener()

HEIF = (".heic", ".heif")
PHOTOS = (
    *(".avif", ".avifs", ".jxl", ".svg", ".xcf"),
    *(".3fr", ".arw", ".cr2", ".cr3", ".dng", ".nef", ".orf", ".pef", ".raf", ".rw2", ".srw"),
)
"""Pictures of phones and cameras that Pillow may not read: a user has to convert them."""


@dataclass(frozen=True)
class LeftOut:
    """A file or folder that gives no image. why: the reason, as it ends the sentence "left out PATH: ...".

    kind: the extension where every file of that kind is left out, so that their number says enough; else "".
    """

    path: Path
    why: str
    kind: str = ""


def in_words(left: Sequence[LeftOut]) -> list[str]:
    """A line for each thing left out; files that are left out for their kind are counted, with one of them named."""
    kinds = Counter(one.kind for one in left if one.kind)
    lines = [f"left out {one.path}: {one.why}" for one in left if not one.kind]
    for kind, count in kinds.items():
        first = next(one for one in left if one.kind == kind)
        files = f"{count} {kind} files, such as {first.path}" if count > 1 else str(first.path)
        lines.append(f"left out {files}: {first.why}")
    return lines


def refuse(left: Sequence[LeftOut]) -> None:
    """Raises UserError, which names what is left out and why, unless nothing is: what --strict asks for."""
    if left:
        lines = in_words(left)
        shown = "; ".join(line.removeprefix("left out ") for line in lines[:5]) + ("; ..." if len(lines) > 5 else "")
        raise UserError(
            f"not everything is an image that opens ({len(left)}): {shown}: remove it, or do without --strict"
        )


def image_files(folder: Path, out: Path | None = None) -> tuple[list[Path], list[LeftOut]]:
    """The files below `folder` of a kind that Pillow reads, in the order of their paths, and what else lies there.

    Links are followed, and each folder is read once, by whichever way it is reached first: so no loop is endless.
    Hidden files and folders (.name), and the __MACOSX of an archive, hold notes of a system and count as nothing.
    out: a folder or file that something is to be written to.
    Raises UserError when `folder` is missing or holds no image file, and when `out` lies in a folder that is read:
    what is written there would be among the images next time.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder: name one that holds image files")
    found: list[Path] = []
    left: list[LeftOut] = []
    _walk(folder, [] if out is None else [out.resolve(), *out.resolve().parents], set(), found, left)
    if not found:
        also = f" ({in_words(left)[0]})" if left else ""
        raise UserError(f"{folder} holds no image files{also}: put .png, .jpg or others that Pillow reads there")
    return sorted(found), sorted(left, key=lambda one: one.path)


def reason(error: OSError) -> str:
    """Why a file or folder cannot be read, in the words of this module."""
    return (
        "no permission to read it"
        if isinstance(error, PermissionError)
        else f"not readable ({error.strerror or error})"
    )


def _walk(folder: Path, outputs: list[Path], seen: set[Path], found: list[Path], left: list[LeftOut]) -> None:
    real = folder.resolve()
    if real in seen:
        return
    seen.add(real)
    if real in outputs:
        raise UserError(
            f"--out lies in {folder}, whose files are read as images, and what is written there would be among them: "
            "choose a place outside with --out"
        )
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        left.append(LeftOut(folder, reason(error)))
        return
    for path in (folder / name for name in names if not name.startswith(".") and name != "__MACOSX"):
        try:
            mode = path.stat().st_mode
        except OSError as error:
            nowhere = error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
            left.append(LeftOut(path, "a link that leads nowhere" if nowhere else reason(error)))
            continue
        if stat.S_ISDIR(mode):
            _walk(path, outputs, seen, found, left)
        elif not stat.S_ISREG(mode):
            left.append(LeftOut(path, "no regular file"))
        elif path.suffix.lower() in _known():
            found.append(path)
        else:
            left.append(_of_other_kind(path))


def _of_other_kind(path: Path) -> LeftOut:
    kind = path.suffix.lower()
    if not kind:
        return LeftOut(path, "it has no extension: give it its own, such as .jpg", "extensionless")
    if kind in HEIF:
        return LeftOut(path, f"{kind} needs pip install 'pudm_lite[photos]', or converting to .jpg", kind)
    if kind in PHOTOS:
        return LeftOut(path, f"{kind} needs converting, to .jpg or .png", kind)
    return LeftOut(path, f"{kind} is no kind of image that Pillow reads", kind)


def _known() -> set[str]:
    """The extensions that Pillow reads; .mpo, which stereo cameras and phones write, it opens as a JPEG."""
    known = {extension for extension, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    return known | {".mpo"}
