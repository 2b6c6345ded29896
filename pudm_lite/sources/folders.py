"""A user's own image folders: any image files, brought to one size; what is left out has its reason."""

import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from tqdm.auto import tqdm

from ..datasets import fit
from ..errors import UserError
from .finding import LeftOut, image_files, refuse
from .pictures import Picture, read_picture, size_of


@dataclass(frozen=True)
class FolderImages:
    """u, s, test: (N, channels, size, size) uint8, the unlabeled, the sensitive and the normal test images.

    test has N = 0 where no folder was given. left_out: what gives no image. notes: what the user should know.
    """

    u: Tensor
    s: Tensor
    test: Tensor
    channels: int
    size: int
    left_out: list[LeftOut]
    notes: list[str]


def folder_images(
    unlabeled: Path,
    sensitive: Path,
    normal_test: Path | None = None,
    size: int | None = None,
    strict: bool = False,
    out: Path | None = None,
) -> FolderImages:
    """U, S and the normal test images from three folders, of one size and one number of channels.

    size: their common side in pixels; None takes the side that all images have.
    out: where something is to be written: nowhere in these folders.
    They are grey (1 channel) only when all are. A file in two folders (by content) makes a note.
    Raises UserError when a folder is missing or holds no image that opens, when size is None and sizes differ, when
    `out` lies in one of the folders, and under strict when anything is left out.
    """
    folders = {"unlabeled": unlabeled, "sensitive": sensitive, "normal test": normal_test}
    files, pictures, left_out = {}, {}, []
    for name, folder in folders.items():
        if folder is not None:
            files[name], others = image_files(folder, out)
            left_out += others
    if strict:
        refuse(left_out)
    side = _side(size, [path for of_one in files.values() for path in of_one])
    for name, of_one in files.items():
        pictures[name], others = _read(of_one, folders[name], side, strict)
        left_out += others
    channels = max(len(picture.pixels) for of_one in pictures.values() for picture in of_one)
    digests = {name: {picture.digest for picture in of_one} for name, of_one in pictures.items()}
    names = list(digests)
    notes = [
        f"{shared} of the {len(digests[other])} {other} images are also among the {one} images"
        for k, one in enumerate(names)
        for other in names[k + 1 :]
        if (shared := len(digests[one] & digests[other]))
    ]
    u, s, test = (_stacked(pictures.get(name, []), side, channels) for name in folders)
    return FolderImages(u, s, test, channels, side, left_out, notes)


def read_folder(
    folder: Path,
    size: int | None = None,
    channels: int | None = None,
    strict: bool = False,
    out: Path | None = None,
) -> tuple[Tensor, list[LeftOut]]:
    """All images of a folder and its subfolders, in the order of their paths, and what else lies there.

    size: the side in pixels of what is returned: the centre square of each image is interpolated; None takes the
    side that all have. channels: 1 or 3; None is 1 when all images are grey, otherwise 3.
    out: where something is to be written: not below this folder.
    Cameras' orientation marks (EXIF) are followed; what is transparent becomes black; of a film the first frame counts.
    Returns (N, channels, size, size) uint8, N >= 1, and what is left out. Raises UserError as `folder_images` does.
    """
    files, others = image_files(folder, out)
    if strict:
        refuse(others)
    side = _side(size, files)
    pictures, unread = _read(files, folder, side, strict)
    images = _stacked(pictures, side, channels or max(len(picture.pixels) for picture in pictures))
    return images, others + unread


def _side(size: int | None, files: Sequence[Path]) -> int:
    """`size`, or the side of the square that all images are by their headers; files that do not open do not count.

    Raises UserError when they differ or are not square: then the user has to say.
    """
    if size is not None:
        if size < 1:
            raise UserError(f"the image size must be at least 1 pixel; got {size}")
        return size
    sizes: dict[tuple[int, int], Path] = {}
    with _without_warnings():
        for path in files:
            if found := size_of(path):
                sizes.setdefault(found, path)
    if not sizes:
        raise _none_opens(files, files[0].parent, "")
    if len(sizes) > 1 or any(width != height for width, height in sizes):
        shown = ", ".join(f"{path} has {w} x {h}" for (w, h), path in list(sizes.items())[:2])
        raise UserError(f"the images are not all squares of one size ({shown}): give their side with --image-size")
    return next(iter(sizes))[0]


def _read(files: list[Path], folder: Path | None, size: int, strict: bool) -> tuple[list[Picture], list[LeftOut]]:
    """The pictures that open, in the order of `files`, and those that do not."""
    with _without_warnings(), ThreadPoolExecutor(4) as pool:  # Pillow lets go of the lock while it decodes
        work = pool.map(partial(read_picture, size=size), files)
        read = list(tqdm(work, str(folder), len(files), unit="image", delay=1))
    left = [one for one in read if isinstance(one, LeftOut)]
    if len(left) == len(files):
        raise _none_opens(files, folder, f" ({left[0].why})")
    if strict:
        refuse(left)
    return [one for one in read if isinstance(one, Picture)], left


def _without_warnings() -> warnings.catch_warnings:
    """Without what Pillow says of large images and odd tags: a file opens, or is left out with its reason."""
    return warnings.catch_warnings(action="ignore")


def _none_opens(files: Sequence[Path], folder: Path | None, why: str) -> UserError:
    return UserError(f"none of the {len(files)} image files in {folder} opens: look at {files[0].name}{why}")


def _stacked(pictures: list[Picture], size: int, channels: int) -> Tensor:
    """(N, channels, size, size) uint8; N may be 0."""
    images = torch.empty(len(pictures), channels, size, size, dtype=torch.uint8)
    for place, picture in enumerate(pictures):
        images[place] = fit(picture.pixels[None], size, channels)[0]
    return images
