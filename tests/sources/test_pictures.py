"""One image file as pixels: every kind that Pillow writes, turned upright, and why some give none."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from pudm_lite.sources import pictures
from pudm_lite.sources.finding import LeftOut, image_files
from pudm_lite.sources.pictures import Picture, read_picture

LOW, HIGH = np.meshgrid(np.linspace(20, 230, 16), np.linspace(10, 250, 16))
COLOUR = np.dstack([LOW, HIGH, 255 - LOW]).astype(np.uint8)
"""A smooth picture, so that kinds that lose something lose little. No edge of it is black."""
FEW = Image.fromarray(COLOUR).quantize(16)
"""The same in sixteen colours."""


def drawn(mode: str) -> Image.Image:
    if mode == "I;16":
        return Image.fromarray(np.asarray(drawn("L")).astype(np.uint16) * 257)
    if mode == "P":
        return FEW
    image = Image.fromarray(COLOUR)
    return image.convert("L").convert("LA") if mode == "LA" else image.convert(mode)


def several() -> dict:
    """For a file of two pictures, of which the first counts."""
    return {"save_all": True, "append_images": [drawn("L").convert("RGB")]}


KINDS = [
    # name, mode of the picture, how it is saved, how far a pixel may be off
    *[("a.png", mode, {}, 0) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")],
    ("a.PNG", "RGB", {"optimize": True}, 0),
    ("a.apng", "RGB", {"format": "PNG", **several()}, 0),
    *[("a.jpg", mode, {"quality": 95, "subsampling": 0}, 12) for mode in ("L", "RGB")],
    ("a.jpg", "CMYK", {"quality": 95}, 16),
    ("a.jpeg", "RGB", {"quality": 95, "progressive": True}, 12),
    ("a.JPG", "RGB", {"quality": 95, "comment": "held \x82"}, 12),
    ("a.jfif", "RGB", {"quality": 95}, 12),
    ("a.jpe", "L", {"quality": 95}, 12),
    ("a.mpo", "RGB", {"quality": 95}, 12),
    ("a.MPO", "RGB", {"quality": 95, **several()}, 12),
    ("really_a_png.jpg", "RGB", {"format": "PNG"}, 0),
    *[("a.bmp", mode, {}, 0) for mode in ("1", "L", "P", "RGB")],
    ("a.dib", "RGB", {}, 0),
    ("a.gif", "P", {}, 0),
    ("moving.gif", "P", several(), 0),
    *[("a.tif", mode, {}, 0) for mode in ("1", "L", "P", "RGB", "I;16")],
    ("a.tif", "CMYK", {}, 2),
    *[("a.tiff", "RGB", {"compression": how}, 0) for how in ("tiff_lzw", "tiff_adobe_deflate", "packbits")],
    ("pages.tif", "RGB", several(), 0),
    ("a.webp", "RGB", {"lossless": True}, 0),
    ("a.webp", "RGBA", {"lossless": True}, 0),
    ("lossy.webp", "RGB", {"quality": 95}, 24),
    ("a.avif", "RGB", {"quality": 95}, 24),
    ("a.pbm", "1", {}, 0),
    ("a.pgm", "L", {}, 0),
    ("deep.pgm", "I;16", {}, 0),
    ("a.ppm", "RGB", {}, 0),
    ("a.pnm", "RGB", {}, 0),
    *[("a.tga", mode, {}, 0) for mode in ("L", "RGB", "RGBA")],
    ("a.tga", "P", {"compression": "tga_rle"}, 0),
    ("a.pcx", "L", {}, 0),
    ("a.pcx", "RGB", {}, 0),
    ("a.sgi", "RGB", {}, 0),
    ("a.bw", "L", {}, 0),
    ("a.im", "RGB", {}, 0),
    ("a.msp", "1", {}, 0),
    ("a.xbm", "1", {}, 255),
    ("a.ico", "RGB", {}, 0),
    ("a.icns", "RGBA", {}, 2),
    ("a.dds", "RGB", {}, 0),
    ("a.jp2", "RGB", {}, 0),
    ("a.j2k", "L", {}, 0),
    ("a.qoi", "RGB", {}, 0),
]
assert len(KINDS) >= 40


@pytest.mark.parametrize(
    ("name", "mode", "how", "off"), KINDS, ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_kind_of_image_gives_its_picture(tmp_path, name, mode, how, off):
    for suffix, codec in ((".avif", "avif"), (".webp", "webp"), (".jp2", "jpg_2000"), (".j2k", "jpg_2000")):
        if name.endswith(suffix) and not features.check(codec):
            pytest.skip(f"this Pillow is built without {codec}")
    image, path = drawn(mode), tmp_path / name
    image.save(path, **({"sizes": [(16, 16)]} if name.endswith((".ico", ".icns")) else {}), **how)
    assert image_files(tmp_path) == ([path], [])  # it is found
    picture = read_picture(path, 16)
    assert isinstance(picture, Picture), picture
    grey = mode in ("1", "L", "LA", "I;16")
    wanted = np.asarray(drawn("L") if mode == "I;16" else image.convert("L" if grey else "RGB"))
    assert len(picture.pixels) == (1 if grey else 3), "grey stays grey"
    got = picture.pixels.permute(1, 2, 0).squeeze(-1).numpy()
    assert np.abs(got.astype(int) - wanted.astype(int)).max() <= off


def test_what_is_transparent_is_black(tmp_path):
    opaque = np.full((16, 16), 255, np.uint8)
    opaque[3, 4] = 0
    Image.fromarray(np.dstack([COLOUR, opaque])).save(tmp_path / "a.png")
    picture = read_picture(tmp_path / "a.png", 16)
    assert isinstance(picture, Picture)
    expected = COLOUR.copy()
    expected[3, 4] = 0
    assert (picture.pixels.permute(1, 2, 0).numpy() == expected).all()


# Upright

QUARTERS = np.zeros((16, 16), np.uint8)
QUARTERS[:8, :8], QUARTERS[:8, 8:], QUARTERS[8:, :8] = 80, 160, 240


def exif(orientation: int, broken: bool) -> bytes:
    """A JPEG's EXIF with an orientation and, where broken, a tag that says it is of another type than it is."""
    entries = struct.pack("<HHI4s", 0x112, 3, 1, bytes([orientation, 0, 0, 0]))
    if broken:
        entries += struct.pack("<HHI4s", 0x11A, 2, 4, b"72\0\0")
    tiff = b"II*\0" + struct.pack("<IH", 8, len(entries) // 12) + entries + bytes(4)
    return b"\xff\xe1" + struct.pack(">H", len(tiff) + 8) + b"Exif\0\0" + tiff


@pytest.mark.parametrize("broken", [False, True])
@pytest.mark.parametrize(
    ("orientation", "held"),
    [
        (1, QUARTERS),
        (2, QUARTERS[:, ::-1]),
        (3, QUARTERS[::-1, ::-1]),
        (4, QUARTERS[::-1]),
        (5, QUARTERS.T),
        (6, np.rot90(QUARTERS, -1)),
        (7, QUARTERS[::-1, ::-1].T),
        (8, np.rot90(QUARTERS)),
        (9, QUARTERS),
    ],
)
def test_a_picture_is_turned_as_the_camera_was_held(tmp_path, orientation, held, broken):
    out = io.BytesIO()
    Image.fromarray(QUARTERS).save(out, "JPEG", quality=95)
    path = tmp_path / "a.jpg"
    path.write_bytes(out.getvalue()[:2] + exif(orientation, broken) + out.getvalue()[2:])
    picture = read_picture(path, 16)
    assert isinstance(picture, Picture), picture
    assert np.abs(picture.pixels[0].numpy().astype(int) - held).max() < 10


def test_a_tiff_is_turned_once(tmp_path):
    Image.fromarray(QUARTERS).save(tmp_path / "a.tif", tiffinfo={0x112: 6})
    picture = read_picture(tmp_path / "a.tif", 16)
    assert (picture.pixels[0].numpy() == np.rot90(QUARTERS, -1)).all()


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_exif_that_is_no_exif_costs_no_picture(tmp_path):
    out = io.BytesIO()
    Image.fromarray(QUARTERS).save(out, "JPEG", quality=95)
    junk = b"\xff\xe1" + struct.pack(">H", 20) + b"Exif\0\0" + b"II*\0\xff\xff\xff\xff1234"
    (tmp_path / "a.jpg").write_bytes(out.getvalue()[:2] + junk + out.getvalue()[2:])
    assert isinstance(read_picture(tmp_path / "a.jpg", 16), Picture)


# Reasons


def why(path: Path) -> str:
    left = read_picture(path, 16)
    assert isinstance(left, LeftOut)
    assert left.path == path
    return left.why


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", bytes(100)], ids=["empty", "page", "zeros"])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".gif", ".webp", ".bmp", ".mpg", ".eps"])
def test_what_is_something_else_does_not_open(tmp_path, content, suffix):
    (tmp_path / f"a{suffix}").write_bytes(content)
    assert why(tmp_path / f"a{suffix}") == "it does not open as an image"


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".gif", ".webp", ".bmp", ".ppm", ".tga"])
def test_what_is_cut_short_does_not_open(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:600])
    assert why(path) == "it does not open as an image"


def test_pixels_without_a_range_say_so(tmp_path):
    Image.fromarray(LOW.astype(np.float32)).save(tmp_path / "a.tif")
    assert why(tmp_path / "a.tif").startswith("its pixels are 32-bit numbers")


def test_too_many_pixels_say_so(tmp_path, monkeypatch):
    Image.fromarray(COLOUR).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert why(tmp_path / "a.png") == "too many pixels (more than 200)"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PermissionError(13, "Permission denied"), "no permission to read it"),
        (OSError(5, "Input/output error"), "not readable (Input/output error)"),
        (MemoryError(), "too large for the memory of this machine"),
    ],
)
def test_what_the_system_refuses_is_said_in_its_words(tmp_path, monkeypatch, error, said):
    def refuse(path: Path) -> bytes:
        raise error

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert why(tmp_path / "a.png") == said


# Photographs


def test_a_phones_picture_opens_with_the_extra(tmp_path):
    heif = pytest.importorskip("pillow_heif")
    path = tmp_path / "IMG_1.HEIC"
    try:
        heif.from_pillow(Image.fromarray(COLOUR).resize((64, 64))).save(path, quality=95)
    except RuntimeError:
        pytest.skip("this pillow-heif writes nothing")
    picture = read_picture(path, 16)
    assert isinstance(picture, Picture), picture
    assert (picture.pixels.permute(1, 2, 0).numpy().astype(int) - COLOUR).std() < 12


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_a_large_jpeg_is_decoded_small_and_gives_nearly_the_same(tmp_path, monkeypatch, mode):
    large = Image.fromarray(COLOUR).resize((640, 480), Image.Resampling.BICUBIC).convert(mode)
    large.save(tmp_path / "a.jpg", quality=95)
    decoded = []
    upright = pictures._upright
    monkeypatch.setattr(pictures, "_upright", lambda image: decoded.append(image.size) or upright(image))
    found = read_picture(tmp_path / "a.jpg", 16)
    monkeypatch.setattr(pictures, "SPARE", 1000)
    whole = read_picture(tmp_path / "a.jpg", 16)
    assert decoded == [(80, 60), (640, 480)]  # an eighth, the least that JPEG knows
    assert found.side == whole.side == 480
    assert (found.pixels.int() - whole.pixels.int()).abs().max() <= 4


def test_no_jpeg_is_decoded_smaller_than_it_is_wanted(tmp_path):
    """Of 100 x 40 pixels a square of 40 is left, which is enlarged: it says so itself."""
    Image.fromarray(COLOUR).resize((100, 40)).save(tmp_path / "a.jpg", quality=95)
    for size in (8, 16, 40, 64):
        found = read_picture(tmp_path / "a.jpg", size)
        assert (found.pixels.shape, found.side) == ((3, size, size), 40)
