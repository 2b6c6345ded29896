"""A folder of class folders: what is a class, what is held out, and trees that cannot be used."""

from pathlib import Path

import pytest

from pudm_lite.errors import UserError
from pudm_lite.sources.class_trees import class_folders


def fill(root: Path, **classes: int) -> Path:
    for name, n in classes.items():
        folder = root.joinpath(*name.split("__"))
        folder.mkdir(parents=True)
        for k in range(n):
            (folder / f"{k:02d}.jpg").touch()
    return root


def names(found) -> dict[str, list[str]]:
    return {group: [path.name[:2] for path in files] for group, files in found.groups.items()}


@pytest.fixture
def divided(tmp_path):
    return fill(tmp_path, train__cat=3, train__dog=2, train__car=4, test__cat=1, test__dog=2, test__car=1)


def test_a_tree_with_train_and_test_is_taken_as_it_is_divided(divided):
    found = class_folders(divided, ["cat"])
    assert {name: len(files) for name, files in found.groups.items()} == {
        **{"train/cat": 3, "test/cat": 1},
        **{"train/car": 4, "test/car": 1},  # all that is not normal is sensitive
        **{"train/dog": 2, "test/dog": 2},
    }
    assert found.groups["test/dog"] == [divided / "test" / "dog" / f"0{k}.jpg" for k in range(2)]
    assert found.left_out == []


def test_sensitive_classes_leave_the_others_out(divided):
    assert list(class_folders(divided, ["cat"], ["dog"]).groups) == ["train/cat", "test/cat", "train/dog", "test/dog"]


def test_without_a_test_folder_every_fifth_image_is_held_out(tmp_path):
    fill(tmp_path, cat=11, dog=4)
    found = names(class_folders(tmp_path, ["cat"]))
    assert found["test/cat"] == ["04", "09"]
    assert found["train/cat"] == ["00", "01", "02", "03", "05", "06", "07", "08", "10"]
    assert (len(found["train/dog"]), found["test/dog"]) == (4, [])


def test_hidden_folders_are_no_classes_and_stray_files_are_named(divided):
    for name in (".thumbs", "__MACOSX"):
        (divided / "train" / name).mkdir()
    (divided / "train" / "readme.txt").touch()
    (divided / "train" / ".DS_Store").touch()
    (divided / "train" / "cat" / "notes.txt").touch()
    found = class_folders(divided, ["cat"])
    assert {group.partition("/")[2] for group in found.groups} == {"cat", "dog", "car"}
    assert [(one.path.name, one.why[:20]) for one in found.left_out] == [
        ("readme.txt", "it lies in no class'"),
        ("notes.txt", ".txt is no kind of i"),
    ]


@pytest.mark.parametrize(
    ("normal", "sensitive", "said"),
    [
        (["cat", "cow"], [], "no folder of a class 'cow'; it has car, cat, dog"),
        (["cat"], ["bird"], "no folder of a class 'bird'"),
        (["cat"], ["cat", "dog"], "cat cannot be both normal and sensitive"),
        (["cat", "dog", "car"], [], "no class is sensitive: name some but not all of car, cat, dog"),
    ],
)
def test_classes_that_cannot_be(divided, normal, sensitive, said):
    with pytest.raises(UserError, match=said):
        class_folders(divided, normal, sensitive)


def test_a_class_that_the_test_folder_lacks(divided):
    (divided / "test" / "dog").rename(divided / "test" / "wolf")
    with pytest.raises(UserError, match="dog is not a folder"):
        class_folders(divided, ["cat"])
    with pytest.raises(UserError, match="nowhere is not a folder: name one that holds a folder of images for each"):
        class_folders(divided / "nowhere", ["cat"])


@pytest.mark.parametrize("out", [".", "new", "train/cat/new"])
def test_nothing_is_written_among_the_classes(divided, out):
    with pytest.raises(UserError, match="--out lies in"):
        class_folders(divided, ["cat"], out=divided / out)
    class_folders(divided, ["cat"], out=divided.parent / "beside")


def test_a_class_whose_name_is_no_utf8_is_refused(tmp_path):
    try:
        fill(tmp_path, cat=1, **{"do\udc82g": 1})
    except OSError:
        pytest.skip("this file system takes UTF-8 names alone")
    with pytest.raises(UserError, match="no name in UTF-8"):
        class_folders(tmp_path, ["cat"])
