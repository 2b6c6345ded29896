"""Albums: what a run finds in one, how it is split, and files that are none."""

import json

import pytest
import torch
from albums import classes_album, folders_album, pixels

from pudm_lite.errors import UserError
from pudm_lite.runs.albums import Album, album_configuration, album_material, read_album


def test_folders_are_split_as_they_were_given(tmp_path):
    path = folders_album(tmp_path, channels=3)
    c = album_configuration(path)
    assert (c.dataset, c.image_size, c.channels, c.title) == ("folders", 16, 3, "holiday")
    assert (c.u_normal + c.u_sensitive, c.s, c.test) == (12, 4, 3)
    data = album_material(path, c, seed=5)
    assert torch.equal(data.train[data.split.u], pixels(12, 1, 3))
    assert torch.equal(data.train[data.split.s], pixels(4, 2, 3))
    assert torch.equal(data.test, pixels(3, 3, 3))
    assert data.judge is None


def test_classes_are_split_by_seed_with_the_sizes_of_the_album(tmp_path):
    path = classes_album(tmp_path)
    c = album_configuration(path)
    assert (c.dataset, c.normal, c.sensitive) == ("classes", ("cat", "car"), ("dog",))
    assert (c.u_normal, c.u_sensitive, c.s, c.test) == (16, 4, 5, 6)
    one, same, other = (album_material(path, c, seed) for seed in (0, 0, 1))
    assert torch.equal(one.train, torch.cat([pixels(10, 0), pixels(6, 1), pixels(12, 2)]))
    dogs = torch.arange(len(one.train)) >= 16
    assert torch.equal(dogs[one.split.u], one.split.u_sensitive)
    assert one.split.realised_share == 0.2
    assert dogs[one.split.s].all()
    assert not set(one.split.u.tolist()) & set(one.split.s.tolist())
    assert torch.equal(one.split.u, same.split.u)
    assert not torch.equal(one.split.u, other.split.u)
    assert torch.equal(one.test, torch.cat([pixels(3, 10), pixels(3, 11)]))  # the normal ones alone, whatever the seed
    assert (one.configuration.normal, one.configuration.sensitive) == (("normal",), ("sensitive",))  # the judge's


def test_the_name_is_that_of_images_roles_and_sizes_and_not_of_the_judge(tmp_path):
    album = Album("pets", "images-c.npz", "judge-a", ("cat",), ("dog",), 10, 2, 3)
    others = [
        Album("cats", "images-c.npz", "judge-a", ("cat",), ("dog",), 10, 2, 3),
        Album("pets", "images-d.npz", "judge-a", ("cat",), ("dog",), 10, 2, 3),
        Album("pets", "images-c.npz", "judge-a", ("dog",), ("cat",), 10, 2, 3),
        Album("pets", "images-c.npz", "judge-a", ("cat",), ("dog",), 10, 3, 3),
    ]
    assert len({each.name for each in [album, *others]}) == 5
    assert Album("pets", "images-c.npz", "", ("cat",), ("dog",), 10, 2, 3).name == album.name
    assert read_album(album.write(tmp_path)) == album


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"title": 3, "shape": 4}', "no"])
def test_what_is_no_album(tmp_path, content):
    (tmp_path / "own.json").write_text(content)
    with pytest.raises(UserError, match=r"own\.json is missing, or no album of images"):
        album_configuration(tmp_path / "own.json")
    with pytest.raises(UserError, match="is missing, or no album"):
        album_configuration(tmp_path / "other.json")


def test_an_album_that_was_changed_is_refused(tmp_path):
    path = classes_album(tmp_path)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"s": 6}))
    with pytest.raises(UserError, match="was changed, or renamed"):
        read_album(path)


def test_an_album_whose_images_are_gone(tmp_path):
    path = folders_album(tmp_path)
    (tmp_path / "images-f.npz").unlink()
    with pytest.raises(UserError, match=r"images-f\.npz is not an \.npz file of arrays"):
        album_configuration(path)
