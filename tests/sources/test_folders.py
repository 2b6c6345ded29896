"""A user's own folders: every kind of image file, odd ones, bad ones, and folders that cannot be used."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from pudm_lite.errors import UserError
from pudm_lite.sources.finding import LeftOut
from pudm_lite.sources.folders import folder_images, read_folder

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


# Three folders


@pytest.fixture
def three(tmp_path):
    rng = np.random.default_rng(1)
    for name, n in (("u", 5), ("s", 3), ("t", 2)):
        for k in range(n):
            put(tmp_path / name, rng.integers(0, 256, (8, 8), dtype=np.uint8), f"{k}.png")
    return tmp_path


def test_three_grey_folders(three):
    found = folder_images(three / "u", three / "s", three / "t")
    assert (found.channels, found.size, found.left_out, found.notes) == (1, 8, [], [])
    assert (found.u.shape, found.s.shape, found.test.shape) == ((5, 1, 8, 8), (3, 1, 8, 8), (2, 1, 8, 8))
    assert torch.equal(found.s, read_folder(three / "s")[0])


def test_without_a_test_folder(three):
    found = folder_images(three / "u", three / "s", size=4)
    assert (found.test.shape, found.size) == ((0, 1, 4, 4), 4)


@pytest.mark.parametrize("folder", ["u", "s", "t"])
def test_one_colour_image_makes_all_colour(three, folder):
    put(three / folder, COLOUR, "c.png")
    found = folder_images(three / "u", three / "s", three / "t")
    assert found.channels == found.u.shape[1] == found.s.shape[1] == found.test.shape[1] == 3
    assert torch.equal(found.u[0, 0], found.u[0, 2])


def test_sizes_that_differ_ask_for_one(three):
    put(three / "s", np.zeros((9, 9), dtype=np.uint8), "larger.png")
    with pytest.raises(UserError, match=r"not all squares of one size .*8 x 8, .*larger\.png has 9 x 9.*--image-size"):
        folder_images(three / "u", three / "s", three / "t")
    assert folder_images(three / "u", three / "s", three / "t", size=6).s.shape == (4, 1, 6, 6)


def test_one_oblong_size_asks_too(tmp_path):
    put(tmp_path, np.zeros((8, 6), dtype=np.uint8))
    with pytest.raises(UserError, match=r"a\.png has 6 x 8\): give their side with --image-size"):
        read_folder(tmp_path)
    with pytest.raises(UserError, match="at least 1 pixel; got 0"):
        read_folder(tmp_path, size=0)


def test_files_of_two_folders_are_counted(three):
    for k in (0, 2):
        (three / "u" / f"again{k}.png").write_bytes((three / "s" / f"{k}.png").read_bytes())
    (three / "t" / "again.png").write_bytes((three / "u" / "1.png").read_bytes())
    assert folder_images(three / "u", three / "s", three / "t").notes == [
        "2 of the 3 sensitive images are also among the unlabeled images",
        "1 of the 3 normal test images are also among the unlabeled images",
    ]


def test_bad_files_of_all_folders_are_named(three):
    bad = [three / "u" / "x.png", three / "t" / "y.png"]
    for path in bad:
        path.touch()
    found = folder_images(three / "u", three / "s", three / "t")
    assert (paths(found.left_out), len(found.u), len(found.test)) == (bad, 5, 2)
    with pytest.raises(UserError, match=r"image that opens \(1\): .*x\.png: it does not open"):
        folder_images(three / "u", three / "s", three / "t", strict=True)


@pytest.mark.parametrize("folder", ["u", "s", "t"])
@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("missing", "is not a folder: name one that holds image files"),
        ("empty", "holds no image files: put .png"),
        ("bad", "opens: look at 0.png"),
    ],
)
@pytest.mark.parametrize("size", [None, 8])
def test_a_folder_that_cannot_be_used(three, folder, state, said, size):
    for path in (three / folder).iterdir():
        path.write_text("no image") if state == "bad" else path.unlink()
    if state == "missing":
        (three / folder).rmdir()
    with pytest.raises(UserError) as error:
        folder_images(three / "u", three / "s", three / "t", size=size)
    assert said in str(error.value)
    assert str(three / folder) in str(error.value)


def test_what_lies_about_is_told_of_all_folders_and_strict_stops_at_it(three):
    (three / "s" / "IMG.HEIC").write_bytes(b"x")
    (three / "t" / "gone.png").symlink_to("nowhere")
    folders = three / "u", three / "s", three / "t"
    assert paths(folder_images(*folders).left_out) == [three / "s" / "IMG.HEIC", three / "t" / "gone.png"]
    with pytest.raises(UserError, match=r"gone\.png: a link that leads nowhere; .*IMG\.HEIC: \.heic needs converting"):
        folder_images(*folders, strict=True)
    with pytest.raises(UserError, match="gone"):
        read_folder(three / "t", strict=True)


@pytest.mark.parametrize("folder", ["u", "s", "t"])
def test_outputs_go_into_none_of_the_folders(three, folder):
    with pytest.raises(UserError, match="--out lies in"):
        folder_images(three / "u", three / "s", three / "t", out=three / folder / "outputs")
