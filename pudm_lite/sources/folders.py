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

from ..cores import cores
from ..datasets import fit
from ..errors import UserError
from .finding import LeftOut, image_files, refuse
from .pictures import Picture, read_picture, size_of


@dataclass(frozen=True)
class Found:
    """Image files by their group, in order, before any is opened; and what else lies in their folders."""

    groups: dict[str, list[Path]]
    left_out: list[LeftOut]


@dataclass(frozen=True)
class Images:
    """The images that opened, by their group. pixels: (N, C, S, S) uint8, one C and S for all; N may be 0.

    files: (N,) where each comes from. enlarged: those whose shorter side had fewer than S pixels.
    left_out: the files that do not open.
    """

    pixels: dict[str, Tensor]
    files: dict[str, list[Path]]
    enlarged: list[Path]
    left_out: list[LeftOut]


def three_folders(unlabeled: Path, sensitive: Path, normal_test: Path | None = None, out: Path | None = None) -> Found:
    """The files of U, S and the normal test images, groups `u`, `s` and `test`, which is empty without a folder.

    out: where something is to be written: nowhere in these folders.
    Raises UserError when a folder is missing or holds no image file, and when `out` lies in one.
    """
    found = Found({}, [])
    for name, folder in {"u": unlabeled, "s": sensitive, "test": normal_test}.items():
        found.groups[name], others = ([], []) if folder is None else image_files(folder, out)
        found.left_out.extend(others)
    return found


def read_images(groups: dict[str, list[Path]], size: int) -> Images:
    """Every file that opens, at `size` pixels a side. They are grey (C = 1) only when all are.

    Raises UserError where none of a group opens.
    """
    pictures: dict[str, list[tuple[Path, Picture]]] = {}
    left_out = []
    for name, files in groups.items():
        pictures[name], others = _read(files, size) if files else ([], [])
        left_out += others
    channels = max(len(picture.pixels) for of_one in pictures.values() for _, picture in of_one)
    return Images(
        {name: _stacked([picture for _, picture in of_one], size, channels) for name, of_one in pictures.items()},
        {name: [path for path, _ in of_one] for name, of_one in pictures.items()},
        [path for of_one in pictures.values() for path, picture in of_one if picture.side < size],
        left_out,
    )


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
    Returns (N, channels, size, size) uint8, N >= 1, and what is left out. Raises UserError as `three_folders` does,
    and under strict when anything is left out.
    """
    files, others = image_files(folder, out)
    if strict:
        refuse(others)
    images = read_images({"all": files}, common_side(size, files))
    if strict:
        refuse(images.left_out)
    pixels = images.pixels["all"]
    return fit(pixels, pixels.shape[-1], channels or pixels.shape[1]), others + images.left_out


def common_side(size: int | None, files: Sequence[Path]) -> int:
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
        raise _none_opens(files, "")
    if len(sizes) > 1 or any(width != height for width, height in sizes):
        shown = ", ".join(f"{path} has {w} x {h}" for (w, h), path in list(sizes.items())[:2])
        raise UserError(f"the images are not all squares of one size ({shown}): give their side with --image-size")
    return next(iter(sizes))[0]


def _read(files: list[Path], size: int) -> tuple[list[tuple[Path, Picture]], list[LeftOut]]:
    """The pictures that open, in the order of `files`, and those that do not."""
    with _without_warnings(), ThreadPoolExecutor(cores()) as pool:  # Pillow lets go of the lock while it decodes
        work = pool.map(partial(read_picture, size=size), files)
        read = list(tqdm(work, str(files[0].parent), len(files), unit="image", delay=1))
    left = [one for one in read if isinstance(one, LeftOut)]
    if len(left) == len(files):
        raise _none_opens(files, f" ({left[0].why})")
    return [(path, one) for path, one in zip(files, read, strict=True) if isinstance(one, Picture)], left


def _without_warnings() -> warnings.catch_warnings:
    """Without what Pillow says of large images and odd tags: a file opens, or is left out with its reason."""
    return warnings.catch_warnings(action="ignore")


def _none_opens(files: Sequence[Path], why: str) -> UserError:
    return UserError(f"none of the {len(files)} image files in {files[0].parent} opens: look at {files[0].name}{why}")


def _stacked(pictures: list[Picture], size: int, channels: int) -> Tensor:
    """(N, channels, size, size) uint8; N may be 0."""
    images = torch.empty(len(pictures), channels, size, size, dtype=torch.uint8)
    for place, picture in enumerate(pictures):
        images[place] = fit(picture.pixels[None], size, channels)[0]
    return images
