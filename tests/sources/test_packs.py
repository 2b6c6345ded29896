"""Images packed once, under their content: what a pack holds, what it says of them, and when it is read anew."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from pudm_lite.errors import UserError
from pudm_lite.sources import packs
from pudm_lite.sources.folders import read_folder, three_folders
from pudm_lite.sources.packs import pack, unpack

WORDS = {"u": "unlabeled", "s": "sensitive", "test": "normal test"}
COLOUR = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)


def folder_images(u, s, t=None, size=None, strict=False, out=None):
    """What a pack of three folders holds, opened. It lies beside the first."""
    packed = pack(three_folders(u, s, t, out), size, strict, u.parent / "packs", WORDS)
    groups = unpack(packed.file, *WORDS)
    return SimpleNamespace(
        **groups,
        channels=groups["u"].shape[1],
        size=groups["u"].shape[-1],
        left_out=packed.left_out,
        notes=packed.notes,
        file=packed.file,
    )


def put(folder: Path, pixels: np.ndarray, name: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(folder / name)


def paths(left_out) -> list[Path]:
    return [one.path for one in left_out]


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
    with pytest.raises(UserError, match=r"image that opens \(2\): .*x\.png: it does not open"):
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
    (three / "s" / "IMG.JXL").write_bytes(b"x")
    (three / "t" / "gone.png").symlink_to("nowhere")
    folders = three / "u", three / "s", three / "t"
    assert paths(folder_images(*folders).left_out) == [three / "s" / "IMG.JXL", three / "t" / "gone.png"]
    with pytest.raises(UserError, match=r"gone\.png: a link that leads nowhere; .*IMG\.JXL: \.jxl needs converting"):
        folder_images(*folders, strict=True)
    with pytest.raises(UserError, match="gone"):
        read_folder(three / "t", strict=True)


@pytest.mark.parametrize("folder", ["u", "s", "t"])
def test_outputs_go_into_none_of_the_folders(three, folder):
    with pytest.raises(UserError, match="--out lies in"):
        folder_images(three / "u", three / "s", three / "t", out=three / folder / "outputs")


# Once


@pytest.fixture
def opened(monkeypatch):
    """The names of the files that are decoded."""
    seen = []
    read = packs.read_images
    monkeypatch.setattr(
        packs,
        "read_images",
        lambda groups, size: seen.extend(p.name for g in groups.values() for p in g) or read(groups, size),
    )
    return seen


def test_images_are_decoded_once_wherever_they_lie_and_whatever_they_are_called(three, opened):
    (three / "u" / "torn.png").write_bytes(b"no image")
    first = folder_images(three / "u", three / "s", three / "t", size=8)
    assert len(opened) == 11
    for folder in "ust":
        (three / folder).rename(three / f"{folder}_moved")
    again = folder_images(three / "u_moved", three / "s_moved", three / "t_moved", size=8)
    assert len(opened) == 11
    assert (again.file, again.notes) == (first.file, first.notes)
    assert paths(again.left_out) == [three / "u_moved" / "torn.png"]  # said each time, by the name it has
    assert all(torch.equal(getattr(again, name), getattr(first, name)) for name in WORDS)


@pytest.mark.parametrize("change", ["content", "group", "order", "size", "reader"])
def test_what_gives_other_pixels_is_packed_anew(three, opened, monkeypatch, change):
    before = folder_images(three / "u", three / "s", three / "t", size=8)
    opened.clear()
    if change == "content":
        put(three / "s", np.full((8, 8), 9, np.uint8), "1.png")
    elif change == "group":
        (three / "u" / "4.png").rename(three / "s" / "4.png")
    elif change == "order":
        (three / "u" / "0.png").rename(three / "u" / "9.png")
    elif change == "reader":
        monkeypatch.setattr(packs, "READER", packs.READER + 1)
    after = folder_images(three / "u", three / "s", three / "t", size=4 if change == "size" else 8)
    assert after.file != before.file
    assert len(opened) == 10


def one_byte(whole: bytes) -> bytes:
    """Another among the pixels of U, which lie before the array of S."""
    at = whole.index(b"s.npy") - 60
    return whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :]


@pytest.mark.parametrize(
    "damage", [lambda whole: whole[:-50], lambda whole: b"", lambda whole: b"PK" + whole[:99], one_byte]
)
def test_a_damaged_pack_is_written_again(three, opened, capsys, damage):
    found = folder_images(three / "u", three / "s", size=64)  # more than is read with a header
    found.file.write_bytes(damage(found.file.read_bytes()))
    opened.clear()
    again = folder_images(three / "u", three / "s", size=64)
    assert f"{found.file} is damaged: it is written again" in capsys.readouterr().out
    assert torch.equal(again.u, found.u)
    assert opened


def test_an_archive_of_other_things_is_no_pack(three, capsys):
    found = folder_images(three / "u", three / "s")
    np.savez(found.file, about=np.frombuffer(b"[]", np.uint8))
    assert torch.equal(folder_images(three / "u", three / "s").u, found.u)
    assert "is damaged" in capsys.readouterr().out


def test_a_file_that_may_not_be_read_is_left_out_with_its_reason(three, monkeypatch):
    read_bytes, opened = Path.read_bytes, Path.open

    def refusing(path, *mode, **more):
        if path.name == "4.png" and path.parent.name == "u":
            raise PermissionError(13, "Permission denied")
        return opened(path, *mode, **more)

    def refusing_bytes(path):
        return read_bytes(path) if path != three / "u" / "4.png" else refusing(path)

    monkeypatch.setattr(Path, "open", refusing)
    monkeypatch.setattr(Path, "read_bytes", refusing_bytes)
    found = folder_images(three / "u", three / "s", size=8)
    assert [(one.path.name, one.why) for one in found.left_out] == [("4.png", "no permission to read it")]
    assert len(found.u) == 4


def test_images_that_are_enlarged_are_counted(three):
    put(three / "t", np.zeros((20, 30), np.uint8), "large.png")
    notes = folder_images(three / "u", three / "s", three / "t", size=16).notes
    assert notes == [
        f"10 of 11 images have fewer than 16 pixels a side and are enlarged, such as {three / 'u' / '0.png'}"
    ]
    assert folder_images(three / "u", three / "s", three / "t", size=8).notes == []
