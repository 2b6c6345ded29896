"""What lies in a folder: image files by all ways that lead to them, and a word for everything else."""

import os
from pathlib import Path

import pytest

from pudm_lite.errors import UserError
from pudm_lite.sources import finding
from pudm_lite.sources.finding import image_files, in_words, refuse


def fill(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def found(folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in image_files(folder)[0]]


def test_files_below_the_folder_are_found_in_order(tmp_path):
    fill(tmp_path, "b.png", "sub/deep/c.JPG", "a.png", "x.MPO", "folder.png/d.gif")
    assert found(tmp_path) == ["a.png", "b.png", "folder.png/d.gif", "sub/deep/c.JPG", "x.MPO"]


def test_what_a_system_hides_is_no_part_of_it(tmp_path):
    fill(tmp_path, "a.png", "._a.png", ".hidden/b.png", "__MACOSX/c.png", ".DS_Store")
    assert image_files(tmp_path) == ([tmp_path / "a.png"], [])


def test_links_are_followed_and_each_folder_is_read_once(tmp_path):
    fill(tmp_path, "u/a.png", "u/z/y.png", "elsewhere/cat.png", "single.png")
    (tmp_path / "u" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "u")  # for ever round
    (tmp_path / "u" / "self").symlink_to(".")
    (tmp_path / "u" / "again").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "u" / "one.png").symlink_to(tmp_path / "single.png")
    assert found(tmp_path / "u") == ["a.png", "again/cat.png", "one.png", "z/y.png"]
    assert image_files(tmp_path / "u")[1] == []


def test_everything_that_is_no_image_has_its_reason(tmp_path):
    fill(tmp_path, "a.png", "notes.txt", "IMG_1.JXL", "IMG_2.jxl", "raw/x.CR2", "noname")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "round.png").symlink_to("round.png")
    os.mkfifo(tmp_path / "pipe.png")
    files, left = image_files(tmp_path)
    assert files == [tmp_path / "a.png"]
    assert in_words(left) == [
        f"left out {tmp_path}/gone.png: a link that leads nowhere",
        f"left out {tmp_path}/pipe.png: no regular file",
        f"left out {tmp_path}/round.png: a link that leads nowhere",
        f"left out 2 .jxl files, such as {tmp_path}/IMG_1.JXL: .jxl needs converting, to .jpg or .png",
        f"left out {tmp_path}/noname: it has no extension: give it its own, such as .jpg",
        f"left out {tmp_path}/notes.txt: .txt is no kind of image that Pillow reads",
        f"left out {tmp_path}/raw/x.CR2: .cr2 needs converting, to .jpg or .png",
    ]
    with pytest.raises(
        UserError, match=r"^not everything is an image that opens \(8\): .*gone\.png: a link that leads"
    ):
        refuse(left)
    with pytest.raises(UserError, match=r"opens \(1\): "):
        refuse(left[:1])
    refuse([])


def test_a_folder_or_file_that_may_not_be_read_is_said(tmp_path, monkeypatch):
    fill(tmp_path, "a.png", "locked/b.png", "odd/c.png", "d.png")
    listdir, state = os.listdir, Path.stat

    def refusing(path):
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied")
        if Path(path).name == "odd":
            raise OSError(5, "Input/output error")
        return listdir(path)

    def refusing_stat(path, **options):
        if path.name == "d.png":
            raise PermissionError(13, "Permission denied")
        return state(path, **options)

    monkeypatch.setattr(os, "listdir", refusing)
    monkeypatch.setattr(Path, "stat", refusing_stat)
    files, left = image_files(tmp_path)
    assert files == [tmp_path / "a.png"]
    assert [(one.path.name, one.why) for one in left] == [
        ("d.png", "no permission to read it"),
        ("locked", "no permission to read it"),
        ("odd", "not readable (Input/output error)"),
    ]


@pytest.mark.parametrize("out", [".", "new", "sub/new/deeper", ".hidden", "linked/new", "../elsewhere/new"])
def test_nothing_is_written_among_the_images(tmp_path, out):
    fill(tmp_path, "u/a.png", "u/sub/b.png", "elsewhere/c.png")
    (tmp_path / "u" / "linked").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"^--out lies in .*: choose a place outside with --out$"):
        image_files(tmp_path / "u", tmp_path / "u" / out)


@pytest.mark.parametrize("out", ["out", "u2", "."])
def test_what_is_written_beside_the_images_is_welcome(tmp_path, out):
    fill(tmp_path, "u/a.png")
    assert len(image_files(tmp_path / "u", tmp_path / out)[0]) == 1


def test_a_folder_without_images_says_what_it_holds(tmp_path):
    fill(tmp_path, "a.jxl", "b.jxl")
    with pytest.raises(UserError, match=r"holds no image files \(left out 2 \.jxl files, .*needs converting"):
        image_files(tmp_path)


def test_a_name_that_is_no_utf8_is_found(tmp_path):
    path = os.fsencode(tmp_path) + b"/Jos\x82.png"
    try:
        with open(path, "wb"):
            pass
    except OSError:
        pytest.skip("this file system takes UTF-8 names alone")
    assert [os.fsencode(file) for file in image_files(tmp_path)[0]] == [path]


def test_what_phones_write_is_found_with_the_extra_and_named_without(tmp_path, monkeypatch):
    fill(tmp_path, "a.png", "IMG_1.HEIC", "b.avif")
    monkeypatch.setattr(finding, "_known", lambda: {".png", ".avif"})
    files, left = image_files(tmp_path)
    assert files == [tmp_path / "a.png", tmp_path / "b.avif"]
    assert in_words(left) == [
        f"left out {tmp_path}/IMG_1.HEIC: .heic needs pip install 'pudm_lite[photos]', or converting to .jpg"
    ]
    monkeypatch.undo()
    pytest.importorskip("pillow_heif")
    assert found(tmp_path) == ["IMG_1.HEIC", "a.png", "b.avif"]
