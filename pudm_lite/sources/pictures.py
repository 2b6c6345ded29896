"""One image file as pixels: upright, grey or RGB, of one size; or why it gives none."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..datasets import resize
from .finding import LeftOut, reason

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What brings an image upright, by the orientation (EXIF tag 0x0112) that the camera noted; 1 is upright already."""


@dataclass(frozen=True)
class Picture:
    """One file: its pixels, (1 or 3, size, size) uint8, and how many its shorter side has in the file."""

    pixels: Tensor
    side: int


SPARE = 2
"""A JPEG is decoded at a half, a quarter or an eighth of its size where that leaves so many times the pixels wanted."""


def read_picture(path: Path, size: int) -> Picture | LeftOut:
    """The image in a file: its centre square at `size` pixels a side; or why there is none."""
    try:
        image = Image.open(io.BytesIO(path.read_bytes()))
        side = min(image.size)
        image.draft(None, (SPARE * size, SPARE * size))  # of other kinds than JPEG nothing is left undecoded
        pixels = torch.from_numpy(_pixels(image)).permute(2, 0, 1)
        return Picture(resize(pixels[None], size, len(pixels))[0], side)
    except Exception as error:  # what a damaged file raises depends on its format
        return LeftOut(path, _why(error))


def size_of(path: Path) -> tuple[int, int] | None:
    """(width, height) by a file's header, as it is stored; None where it does not open."""
    try:
        with Image.open(path) as image:
            return image.size
    except Exception:  # `read_picture` says why
        return None


def _why(error: Exception) -> str:
    if isinstance(error, Image.DecompressionBombError):
        return f"too many pixels (more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,})"
    if isinstance(error, MemoryError):
        return "too large for the memory of this machine"
    if isinstance(error, UnknownRangeError):
        return str(error)
    if isinstance(error, OSError) and error.errno:  # the system's; Pillow raises its own without a number
        return reason(error)
    return "it does not open as an image"


class UnknownRangeError(ValueError):
    """The pixels are numbers of which nobody says what is white."""


def _pixels(image: Image.Image) -> np.ndarray:
    """(H, W, 1) for a grey image, otherwise (H, W, 3), uint8."""
    sixteen_bits = image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))
    image = _upright(image)
    if sixteen_bits:  # Pillow's own conversion would clip them at 255
        return (np.asarray(image) / 257).round().astype(np.uint8)[..., None]
    if image.mode in ("I", "F"):
        raise UnknownRangeError(
            "its pixels are 32-bit numbers, of which nobody says what is white: convert it to 8 bits"
        )
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("LA" if image.mode in ("1", "L", "LA") else "RGBA")
        image = Image.composite(image, Image.new(image.mode, image.size), image.getchannel("A"))
    grey = image.mode in ("1", "L", "LA")
    pixels = np.array(image.convert("L" if grey else "RGB"))
    return pixels[..., None] if grey else pixels


def _upright(image: Image.Image) -> Image.Image:
    """The pixels turned as the camera was held. Nothing else of the EXIF is read: other tags are often broken."""
    image.load()  # a TIFF turns itself here, and takes the mark away
    try:
        turn = TURNS.get(image.getexif().get(0x0112, 1))
    except Exception:  # EXIF that cannot be read says nothing of the camera
        return image
    return image if turn is None else image.transpose(turn)
