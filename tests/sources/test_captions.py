"""Captions: from a metadata.csv, or from the names of files."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from pudm_lite.errors import UserError
from pudm_lite.sources.captions import captions_of, from_name, pixels_of


@pytest.fixture
def folder(tmp_path):
    for name in ("a_dog_01.png", "sub/A-red_church.png", "017.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        Image.new("L", (8, 6), 77).save(path)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "caption"),
    [
        ("a_photo_of-a-dog_012.jpg", "a photo of a dog"),
        ("dog.png", "dog"),
        ("dog (2).png", "dog"),
        ("dog2.png", "dog"),
        ("route 66 sign.png", "route 66 sign"),
        ("0012.png", ""),
        ("Église_3.png", "Église"),
        ("__.png", ""),
    ],
)
def test_a_name_as_words(name, caption):
    assert from_name(Path(name)) == caption


def test_captions_by_names(folder):
    captions, left = captions_of(folder)
    assert {path.relative_to(folder).as_posix(): caption for path, caption in captions.items()} == {
        "017.png": "",
        "a_dog_01.png": "a dog",
        "sub/A-red_church.png": "A red church",
    }
    assert not left


def test_captions_by_a_table(folder):
    table = 'file_name,extra,text\n017.png,1,"a cat, asleep"\na_dog_01.png,2,\nsub/A-red_church.png,3,a church\n'
    (folder / "metadata.csv").write_text("\ufeff" + table, encoding="utf-8")
    (folder / "notes.txt").write_text("")
    captions, left = captions_of(folder)
    assert list(captions.values()) == ["a cat, asleep", "", "a church"]
    assert [one.path.name for one in left] == ["notes.txt"]  # the table itself is none of it


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("file_name,text\n017.png,x\n", "has no caption for 2 of 3 images, such as a_dog_01.png"),
        ("file,text\n017.png,x\n", "has no column 'file_name': its first line must name file_name and text"),
        ("", "has no column 'file_name'"),
        (b"file_name,text\n\xff,x\n", "is not a CSV file in UTF-8"),
        ('file_name,text\n"017.png"x,x\n', "is not a CSV file in UTF-8"),
    ],
)
def test_tables_that_do_not_do(folder, content, said):
    (folder / "metadata.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError) as caught:
        captions_of(folder)
    assert said in str(caught.value)


def test_pixels_of_those_that_open(folder):
    (folder / "b.png").write_text("no image")
    left, opened = [], []
    images = list(pixels_of(list(captions_of(folder)[0]), 4, left, opened))
    assert [image.shape for image in images] == [(3, 4, 4)] * 3
    assert all(image.dtype == torch.uint8 and (image == 77).all() for image in images)
    assert [path.name for path in opened] == ["017.png", "a_dog_01.png", "A-red_church.png"]
    assert [one.path.name for one in left] == ["b.png"]
