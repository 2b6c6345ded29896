"""A user's own image folders: any image files, brought to one size, bad ones named."""

import hashlib
import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from tqdm.auto import tqdm

from ..datasets import fit, resize
from ..errors import UserError


@dataclass(frozen=True)
class FolderImages:
    """u, s, test: (N, channels, size, size) uint8, the unlabeled, the sensitive and the normal test images.

    test has N = 0 where no folder was given. skipped: files that did not open. notes: what the user should know.
    """

    u: Tensor
    s: Tensor
    test: Tensor
    channels: int
    size: int
    skipped: list[Path]
    notes: list[str]


@dataclass(frozen=True)
class _Picture:
    """One file: its pixels, (1 or 3, size, size) uint8, and the sha256 of its content."""

    pixels: Tensor
    digest: str


def folder_images(
    unlabeled: Path, sensitive: Path, normal_test: Path | None = None, size: int | None = None, strict: bool = False
) -> FolderImages:
    """U, S and the normal test images from three folders, of one size and one number of channels.

    size: their common side in pixels; None takes the side that all images have.
    They are grey (1 channel) only when all are. A file in two folders (by content) makes a note.
    Raises UserError when a folder is missing or holds no image that opens, when size is None and sizes differ, and
    under strict when any file does not open.
    """
    folders = {"unlabeled": unlabeled, "sensitive": sensitive, "normal test": normal_test}
    files = {name: image_files(folder) for name, folder in folders.items() if folder is not None}
    side = _side(size, [path for of_one in files.values() for path in of_one])
    pictures, skipped = {}, []
    for name, of_one in files.items():
        pictures[name], bad = _read(of_one, folders[name], side, strict)
        skipped += bad
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
    return FolderImages(u, s, test, channels, side, skipped, notes)


def read_folder(
    folder: Path, size: int | None = None, channels: int | None = None, strict: bool = False
) -> tuple[Tensor, list[Path]]:
    """All images of a folder and its subfolders, in the order of their paths, and the files that did not open.

    size: the side in pixels of what is returned: the centre square of each image is interpolated; None takes the
    side that all have. channels: 1 or 3; None is 1 when all images are grey, otherwise 3.
    Cameras' orientation marks (EXIF) are followed; what is transparent becomes black; of a film the first frame counts.
    Returns ((N, channels, size, size) uint8, N >= 1; paths). Raises UserError as `folder_images` does.
    """
    files = image_files(folder)
    side = _side(size, files)
    pictures, skipped = _read(files, folder, side, strict)
    return _stacked(pictures, side, channels or max(len(picture.pixels) for picture in pictures)), skipped


def image_files(folder: Path) -> list[Path]:
    """Files below `folder` with an extension that Pillow reads, sorted; hidden files and folders are left out.

    Raises UserError when the folder is missing or holds none.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder: name one that holds image files")
    known = {extension for extension, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    found = [
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in known
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    if not found:
        raise UserError(f"{folder} holds no image files: put .png, .jpg or others that Pillow reads there")
    return found


def _side(size: int | None, files: Sequence[Path]) -> int:
    """`size`, or the side of the square that all images are by their headers; files that do not open do not count.

    Raises UserError when they differ or are not square: then the user has to say.
    """
    if size is not None:
        if size < 1:
            raise UserError(f"the image size must be at least 1 pixel; got {size}")
        return size
    sizes: dict[tuple[int, int], Path] = {}
    for path in files:
        try:
            with Image.open(path) as image:
                sizes.setdefault(image.size, path)
        except Exception:  # `_read` names the file
            continue
    if not sizes:
        raise UserError(f"none of the {len(files)} image files in {files[0].parent} opens: look at {files[0].name}")
    if len(sizes) > 1 or any(width != height for width, height in sizes):
        shown = ", ".join(f"{path} has {w} x {h}" for (w, h), path in list(sizes.items())[:2])
        raise UserError(f"the images are not all squares of one size ({shown}): give their side with --image-size")
    return next(iter(sizes))[0]


def _read(files: list[Path], folder: Path | None, size: int, strict: bool) -> tuple[list[_Picture], list[Path]]:
    """The pictures that open, in the order of `files`, and the paths of those that do not."""

    def attempt(path: Path) -> _Picture | None:
        try:
            content = path.read_bytes()
            pixels = torch.from_numpy(_pixels(Image.open(io.BytesIO(content)))).permute(2, 0, 1)
        except Exception:  # what a damaged file raises depends on its format
            return None
        return _Picture(resize(pixels[None], size, len(pixels))[0], hashlib.sha256(content).hexdigest())

    with ThreadPoolExecutor(4) as pool:  # Pillow lets go of the lock while it decodes
        read = list(tqdm(pool.map(attempt, files), str(folder), len(files), unit="image", delay=1))
    skipped = [path for path, picture in zip(files, read, strict=True) if picture is None]
    if len(skipped) == len(files):
        raise UserError(f"none of the {len(files)} image files in {folder} opens: look at {skipped[0].name}")
    if skipped and strict:
        names = ", ".join(str(path) for path in skipped[:5]) + (", ..." if len(skipped) > 5 else "")
        raise UserError(f"image files that do not open ({len(skipped)}): {names}; remove them, or leave out --strict")
    return [picture for picture in read if picture is not None], skipped


def _pixels(image: Image.Image) -> np.ndarray:
    """(H, W, 1) for a grey image, otherwise (H, W, 3), uint8."""
    sixteen_bits = image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))
    image = ImageOps.exif_transpose(image)
    if sixteen_bits:  # Pillow's own conversion would clip them at 255
        return (np.asarray(image) / 257).round().astype(np.uint8)[..., None]
    if image.mode in ("I", "F"):
        raise ValueError("the range of such pixels is not known")
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("LA" if image.mode in ("1", "L", "LA") else "RGBA")
        image = Image.composite(image, Image.new(image.mode, image.size), image.getchannel("A"))
    grey = image.mode in ("1", "L", "LA")
    pixels = np.array(image.convert("L" if grey else "RGB"))
    return pixels[..., None] if grey else pixels


def _stacked(pictures: list[_Picture], size: int, channels: int) -> Tensor:
    """(N, channels, size, size) uint8; N may be 0."""
    images = torch.empty(len(pictures), channels, size, size, dtype=torch.uint8)
    for place, picture in enumerate(pictures):
        images[place] = fit(picture.pixels[None], size, channels)[0]
    return images
