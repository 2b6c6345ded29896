"""A user's own folders: every kind of image file, odd ones, bad ones, and folders that cannot be used."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from pudm_lite.errors import UserError
from pudm_lite.sources.finding import LeftOut
from pudm_lite.sources.folders import read_folder

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (8, 8, 3), dtype=np.uint8)
GREY = RNG.integers(0, 256, (8, 8), dtype=np.uint8)


def put(folder: Path, pixels: np.ndarray | Image.Image, name: str = "a.png", **options) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(folder / name, **options)
    return folder


def tensor(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(pixels.reshape(*pixels.shape[:2], -1)).permute(2, 0, 1)


def only(folder: Path, **options) -> Tensor:
    images, skipped = read_folder(folder, **options)
    assert (len(images), skipped) == (1, [])
    return images[0]


# Pixels


@pytest.mark.parametrize("name", ["a.png", "a.BMP", "a.tif", "a.webp", "a.ppm"])
def test_colour_files_come_back(tmp_path, name):
    options = {"lossless": True} if name.endswith("webp") else {}
    assert torch.equal(only(put(tmp_path, COLOUR, name, **options)), tensor(COLOUR))


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tiff", "a.pgm"])
def test_grey_files_stay_grey(tmp_path, name):
    assert torch.equal(only(put(tmp_path, GREY, name)), tensor(GREY))


def test_a_jpeg_is_nearly_its_picture(tmp_path):
    smooth = np.linspace(0, 255, 64, dtype=np.uint8).repeat(64).reshape(64, 64)
    read = only(put(tmp_path, smooth, "a.jpg", quality=95))
    assert (read.int() - tensor(smooth).int()).abs().max() <= 4


def test_palettes_are_colours_and_black_and_white_is_grey(tmp_path):
    flat = np.zeros((8, 8, 3), dtype=np.uint8)
    flat[:4], flat[4:] = (10, 20, 30), (200, 100, 0)
    assert torch.equal(only(put(tmp_path / "p", Image.fromarray(flat).quantize(2))), tensor(flat))
    bits = Image.fromarray(GREY).convert("1")
    assert only(put(tmp_path / "b", bits)).unique().tolist() == [0, 255]


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.pgm"])
def test_sixteen_bits_keep_their_range(tmp_path, name):
    deep = np.array([[0, 257], [32_896, 65_535]], dtype=np.uint16)
    assert only(put(tmp_path, deep, name)).flatten().tolist() == [0, 1, 128, 255]


def test_transparent_pixels_are_black(tmp_path):
    clear = np.dstack([COLOUR, np.full((8, 8), 255, dtype=np.uint8)])
    clear[2, 3, 3], clear[4, 5, 3] = 0, 128
    read = only(put(tmp_path / "rgba", clear))
    expected = COLOUR.copy()
    expected[2, 3], expected[4, 5] = 0, (COLOUR[4, 5] * (128 / 255)).round()
    assert (read.int() - tensor(expected).int()).abs().max() <= 1
    grey = Image.fromarray(np.array([[7, 9], [9, 9]], dtype=np.uint8))
    assert only(put(tmp_path / "key", grey, transparency=7)).flatten().tolist() == [0, 9, 9, 9]


def test_the_camera_is_held_upright(tmp_path):
    marked = Image.new("L", (8, 8)).getexif()
    marked[0x0112] = 6  # to be turned by 90 degrees, clockwise
    read = only(put(tmp_path, GREY, exif=marked))
    assert torch.equal(read, tensor(np.rot90(GREY, -1).copy()))


def test_sizes_are_cut_to_the_centre_square_and_interpolated(tmp_path):
    wide = np.zeros((10, 30), dtype=np.uint8)
    wide[:, 10:20] = 200
    put(tmp_path, wide)
    put(tmp_path, np.full((25, 25, 3), 200, dtype=np.uint8), "b.png")
    images, _ = read_folder(tmp_path, size=16)
    assert images.shape == (2, 3, 16, 16)
    assert (images == 200).all()
    assert read_folder(tmp_path, size=16, channels=1)[0].shape == (2, 1, 16, 16)


# Files


def spoil(folder: Path) -> list[Path]:
    """Three files that do not open: empty, no image, cut short."""
    put(folder, COLOUR, "whole.png")
    bad = [folder / "cut.png", folder / "empty.jpg", folder / "text.png"]
    bad[0].write_bytes((folder / "whole.png").read_bytes()[:150])
    bad[1].touch()
    bad[2].write_text("<html>not found</html>")
    return bad


def paths(left_out: list[LeftOut]) -> list[Path]:
    return [one.path for one in left_out]


@pytest.mark.parametrize("size", [None, 4])
def test_bad_files_are_named_and_skipped(tmp_path, size):
    bad = spoil(tmp_path)
    images, skipped = read_folder(tmp_path, size=size)
    assert (len(images), paths(skipped)) == (1, bad)


def test_strict_refuses_bad_files(tmp_path):
    bad = spoil(tmp_path)
    with pytest.raises(UserError) as error:
        read_folder(tmp_path, strict=True)
    assert str(error.value).startswith("not everything is an image that opens (3): ")
    assert all(str(path) in str(error.value) for path in bad)
    (tmp_path / "whole.png").rename(tmp_path / ".hidden.txt")
    for path in bad:
        path.unlink()
    put(tmp_path, COLOUR)
    assert len(read_folder(tmp_path, strict=True)[0]) == 1


def test_floating_point_pixels_are_a_bad_file(tmp_path):
    put(tmp_path, GREY)
    put(tmp_path, Image.fromarray(GREY.astype(np.float32)), "f.tif")
    assert paths(read_folder(tmp_path)[1]) == [tmp_path / "f.tif"]


def test_one_oblong_size_asks_for_a_side(tmp_path):
    put(tmp_path, np.zeros((8, 6), dtype=np.uint8))
    with pytest.raises(UserError, match=r"a\.png has 6 x 8\): give their side with --image-size"):
        read_folder(tmp_path)
    with pytest.raises(UserError, match="at least 1 pixel; got 0"):
        read_folder(tmp_path, size=0)
