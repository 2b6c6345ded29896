"""Pixels and model space, MNIST, the data sets in their true formats, and what is said of a missing or damaged file."""

import pwd
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_sets import write_celeba, write_cifar10, write_stl10

import pudm_lite
from pudm_lite.datasets import (
    INKS,
    SHA256,
    cache_folder,
    checked_file,
    data_folder,
    fit,
    mnist,
    resize,
    source,
    to_model,
    to_pixels,
)
from pudm_lite.errors import UserError
from pudm_lite.splits import CLASSES

PIXELS = torch.arange(256, dtype=torch.uint8)


@pytest.fixture(scope="module")
def train_set():
    return mnist(train=True)


@pytest.fixture(scope="module")
def test_set():
    return mnist(train=False)


# The border between pixels and model space


def test_pixels_come_back():
    assert torch.equal(to_pixels(to_model(PIXELS)), PIXELS)


def test_model_space_is_minus_one_to_one():
    images = to_model(PIXELS)
    assert images.dtype == torch.float32
    assert (images[0], images[255]) == (-1, 1)
    torch.testing.assert_close(images, torch.linspace(-1, 1, 256))


def test_values_outside_are_clipped_and_between_are_rounded():
    step = 2 / 255
    images = torch.tensor([-5.0, -1.0, -1 + 0.4 * step, -1 + 0.6 * step, 1.0, 1.001, 7.0])
    pixels = to_pixels(images)
    assert pixels.dtype == torch.uint8
    assert pixels.tolist() == [0, 0, 0, 1, 255, 255, 255]


# MNIST


def test_mnist_has_its_shapes_and_counts(train_set, test_set):
    assert train_set.images.shape == (60_000, 1, 28, 28)
    assert test_set.images.shape == (10_000, 1, 28, 28)
    assert (len(train_set), len(test_set)) == (60_000, 10_000)
    for part in (train_set, test_set):
        assert (part.images.dtype, part.labels.dtype) == (torch.uint8, torch.int64)
        assert part.classes == tuple("0123456789")
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert torch.bincount(train_set.labels).tolist() == counts
    assert torch.bincount(test_set.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


def test_labels_belong_to_their_images(train_set, test_set):
    """The nearest class mean is right for about four test digits in five."""
    x, y = train_set.images[:10_000].flatten(1).float(), train_set.labels[:10_000]
    means = torch.stack([x[y == digit].mean(0) for digit in range(10)])
    nearest = torch.cdist(test_set.images.flatten(1).float(), means).argmin(1)
    assert (nearest == test_set.labels).float().mean() > 0.78


def test_digits_are_bright_on_a_dark_upright_canvas(train_set):
    """Corners are black, the centre is bright, and a one is taller than wide."""
    mean = train_set.images.float().mean((0, 1))
    assert mean[[0, 0, -1, -1], [0, -1, 0, -1]].max() < 1
    assert mean[14, 14] > 100
    ones = train_set.images[train_set.labels == 1].float().mean((0, 1))
    assert (ones.mean(1) > 5).sum() > (ones.mean(0) > 5).sum()


# The files of data/


def test_data_folder_is_the_variable_or_beside_the_package(monkeypatch, tmp_path):
    monkeypatch.setenv("PUDM_DATA", str(tmp_path))
    assert data_folder() == tmp_path
    for unset in (lambda: monkeypatch.setenv("PUDM_DATA", ""), lambda: monkeypatch.delenv("PUDM_DATA")):
        unset()
        assert data_folder() == Path(pudm_lite.__file__).resolve().parent.parent / "data"


def test_an_intact_file_is_found(monkeypatch, tmp_path):
    (tmp_path / "mnist.npz").write_bytes(b"abc")
    monkeypatch.setenv("PUDM_DATA", str(tmp_path))
    monkeypatch.setitem(SHA256, "mnist.npz", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
    assert checked_file("mnist.npz") == tmp_path / "mnist.npz"


@pytest.mark.parametrize("content", [None, b"", b"not an archive"], ids=["missing", "empty", "damaged"])
def test_a_missing_or_damaged_file_is_named_with_its_remedy(monkeypatch, tmp_path, content):
    monkeypatch.setenv("PUDM_DATA", str(tmp_path))
    if content is not None:
        (tmp_path / "mnist.npz").write_bytes(content)
    with pytest.raises(UserError) as error:
        mnist(train=False)
    message = str(error.value)
    assert "mnist.npz" in message
    assert str(tmp_path) in message
    assert "git checkout -- data" in message
    assert ("damaged" if content is not None else "is not in") in message
    assert "\n" not in message


# Fitting a network


def test_mnist_survives_32_pixels_and_three_channels(train_set):
    digits = train_set.images[:50]
    grown = fit(digits, 32, 3)
    assert grown.shape == (50, 3, 32, 32)
    assert grown.dtype == torch.uint8
    assert torch.equal(fit(grown, 28, 1), digits)
    assert torch.equal(grown[:, 0], grown[:, 2])
    assert torch.equal(fit(fit(digits, 28, 3), 28, 1), digits)
    assert torch.equal(fit(digits, 28, 1), digits)


def test_fitting_centres_on_black():
    image = torch.full((1, 1, 2, 2), 9, dtype=torch.uint8)
    grown = fit(image, 6, 1)
    assert torch.equal(grown[:, :, 2:4, 2:4], image)
    assert grown.sum() == image.sum()


def test_fitting_crops_at_the_centre():
    image = torch.arange(36, dtype=torch.uint8).view(1, 1, 6, 6)
    assert fit(image, 2, 1).flatten().tolist() == [14, 15, 20, 21]


def test_a_wide_image_becomes_a_square():
    image = torch.arange(24, dtype=torch.uint8).view(1, 1, 4, 6)
    assert fit(image, 2, 1).flatten().tolist() == [8, 9, 14, 15]
    assert torch.equal(fit(fit(image, 8, 1)[..., 1:-1], 6, 1)[:, :, 1:5], image)


def test_three_channels_become_their_mean():
    image = torch.tensor([10, 20, 60], dtype=torch.uint8).view(1, 3, 1, 1).expand(1, 3, 2, 2)
    assert (fit(image, 2, 1) == 30).all()
    assert torch.equal(fit(image, 2, 3), image)
    assert fit(torch.full((1, 3, 2, 2), 255, dtype=torch.uint8), 2, 1).unique().tolist() == [255]


def test_one_side_that_fits_is_not_enough():
    assert fit(torch.zeros(2, 1, 28, 20, dtype=torch.uint8), 28, 1).shape == (2, 1, 28, 28)
    assert fit(torch.zeros(2, 1, 20, 28, dtype=torch.uint8), 28, 1).shape == (2, 1, 28, 28)


# Other sizes


@pytest.mark.parametrize(("side", "size", "channels"), [(28, 32, 1), (178, 256, 3), (300, 64, 3), (96, 32, 3)])
def test_resizing_is_that_of_pillow(side, size, channels):
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, channels), dtype=np.uint8)
    theirs = np.array(Image.fromarray(pixels.squeeze()).resize((size, size), Image.BICUBIC)).reshape(size, size, -1)
    ours = resize(torch.from_numpy(pixels).permute(2, 0, 1)[None], size, channels)
    assert ours.dtype == torch.uint8
    assert np.abs(ours[0].permute(1, 2, 0).numpy().astype(int) - theirs.astype(int)).max() <= 2  # fixed point there


@pytest.mark.parametrize("sides", [(6, 10), (10, 6)])
def test_resizing_crops_the_square_at_the_centre(sides):
    image = torch.zeros(1, 1, *sides, dtype=torch.uint8)
    image[..., (sides[0] - 6) // 2 :, (sides[1] - 6) // 2 :][..., :6, :6] = 255
    assert (resize(image, 12, 1) == 255).all()
    assert torch.equal(resize(image, 6, 3), torch.full((1, 3, 6, 6), 255, dtype=torch.uint8))


def test_an_image_of_the_size_asked_for_is_untouched():
    images = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    assert torch.equal(resize(images, 32, 3), images)
    assert torch.equal(resize(images, 32, 1), fit(images, 32, 1))
    assert resize(images[:0], 64, 3).shape == (0, 3, 64, 64)


# The data sets by name


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("PUDM_CACHE", str(tmp_path))
    return tmp_path / "datasets"


def test_cache_is_the_variable_or_below_home(monkeypatch, tmp_path):
    monkeypatch.setenv("PUDM_CACHE", str(tmp_path / "here"))
    assert cache_folder() == tmp_path / "here"
    monkeypatch.delenv("PUDM_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "pudm_lite"


def test_without_a_home_the_variable_is_asked_for(monkeypatch):
    def unknown(user):
        raise KeyError("uid not found")

    monkeypatch.delenv("PUDM_CACHE", raising=False)
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    with pytest.raises(
        UserError, match="no home folder: let PUDM_CACHE name a folder for data sets and judges, or set"
    ):
        cache_folder()


def test_a_data_file_that_may_not_be_read_is_said(monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(UserError, match=r"data file .*mnist\.npz cannot be read \(Permission denied\)"):
        checked_file("mnist.npz")


def test_unknown_names_are_refused_with_the_known():
    with pytest.raises(UserError, match="unknown data set 'imagenet'; known: mnist, cifar10, stl10, celeba, standin"):
        source("imagenet", train=True)


@pytest.mark.parametrize("name", ["cifar10", "stl10", "celeba"])
def test_a_missing_set_is_named_with_its_remedy(cache, name):
    with pytest.raises(UserError) as error:
        source(name, train=True)
    for part in (name, str(cache), f"`pudm data download {name}`"):
        assert part in str(error.value)
    assert not cache.exists()


def test_mnist_by_name_is_padded_and_never_interpolated(test_set):
    digits = source("mnist", train=False)
    assert (len(digits), digits.classes) == (10_000, CLASSES["mnist"])
    assert torch.equal(digits.labels, test_set.labels)
    chosen = torch.tensor([7, 3, 9_999])
    assert torch.equal(digits.read(chosen, 32, 3), fit(test_set.images[chosen], 32, 3))


def test_cifar10_from_its_batches(cache, monkeypatch):
    images = write_cifar10(cache, monkeypatch)
    train, test = source("cifar10", train=True), source("cifar10", train=False)
    assert train.classes == test.classes == CLASSES["cifar10"]
    assert train.labels.dtype == torch.int64
    assert train.labels.tolist() == [(k + i) % 10 for k in range(5) for i in range(4)]
    assert test.labels.tolist() == [9, 0, 6, 3]
    everything = np.concatenate([images[f"data_batch_{k}"] for k in range(1, 6)])
    chosen = torch.tensor([19, 0, 6])
    assert torch.equal(train.read(chosen, 32, 3), torch.from_numpy(everything[chosen.numpy()]))
    assert torch.equal(test.read(torch.arange(4), 32, 3), torch.from_numpy(images["test_batch"]))
    assert train.read(chosen, 64, 1).shape == (3, 1, 64, 64)


def test_stl10_from_its_columns(cache, monkeypatch):
    images = write_stl10(cache, monkeypatch)
    for part, labels in (("train", [0, 2, 9, 7]), ("test", [1, 1, 8, 0])):
        found = source("stl10", train=part == "train")
        assert found.classes == CLASSES["stl10"]
        assert found.labels.tolist() == labels
        assert found.labels.dtype == torch.int64
        assert torch.equal(found.read(torch.tensor([2, 1]), 96, 3), torch.from_numpy(images[part][[2, 1]]))
        assert found.read(torch.tensor([3]), 32, 3).shape == (1, 3, 32, 32)


def test_celeba_from_its_files(cache, monkeypatch):
    pictures = write_celeba(cache, monkeypatch)
    for train, names in ((True, ["000001", "000003", "000006"]), (False, ["000002", "000005", "000008"])):
        found = source("celeba", train)
        assert found.classes == CLASSES["celeba"] == ("male", "female")
        assert [found.classes[label] == "male" for label in found.labels] == [pictures[f"{n}.jpg"][1] for n in names]
        read = found.read(torch.tensor([2, 0]), 256, 3)
        assert (read.shape, read.dtype) == ((2, 3, 256, 256), torch.uint8)
        for image, name in zip(read, (names[2], names[0]), strict=True):
            square = Image.fromarray(pictures[f"{name}.jpg"][0][20:198])  # 178 of 218 rows
            theirs = np.array(square.resize((256, 256), Image.BICUBIC)).astype(int)
            assert np.abs(image.permute(1, 2, 0).numpy().astype(int) - theirs).max() <= 2


def test_celeba_opens_only_what_is_asked_for(cache, monkeypatch):
    write_celeba(cache, monkeypatch)
    (cache / "celeba" / "img_align_celeba" / "000003.jpg").write_text("not a picture")
    (cache / "celeba" / "img_align_celeba" / "000006.jpg").unlink()
    found = source("celeba", train=True)
    assert found.read(torch.tensor([0]), 64, 1).shape == (1, 1, 64, 64)
    for place in (1, 2):
        with pytest.raises(UserError, match=r"00000[36]\.jpg is missing or does not open: `pudm data check celeba`"):
            found.read(torch.tensor([0, place]), 64, 3)


def test_a_damaged_set_is_refused(cache, monkeypatch):
    write_stl10(cache, monkeypatch)
    with (cache / "stl10_binary" / "train_X.bin").open("ab") as file:
        file.write(b"more")
    with pytest.raises(UserError, match="stl10 is missing or damaged"):
        source("stl10", train=True)


# The stand-in


def test_the_stand_in_is_the_digit_in_one_bright_colour(test_set):
    found = source("standin", train=False)
    assert (len(found), found.classes) == (10_000, CLASSES["standin"])
    assert torch.equal(found.labels, test_set.labels)
    chosen = torch.arange(300)
    read = found.read(chosen, 28, 3)
    assert torch.equal(read.amax(1), test_set.images[chosen, 0])  # the largest channel is the grey digit
    brightest = [image[:, image.amax(0) == 255] for image in read if image.max() == 255]
    assert all((pixels == pixels[:, :1]).all() for pixels in brightest)
    assert {tuple(pixels[:, 0].tolist()) for pixels in brightest} == {tuple(ink) for ink in INKS.tolist()}


def test_an_image_of_the_stand_in_has_one_colour_for_good():
    found, again = source("standin", train=False), source("standin", train=False)
    chosen = torch.tensor([9, 2])
    assert torch.equal(found.read(chosen, 96, 3), again.read(chosen.flip(0), 96, 3).flip(0))
    assert found.read(chosen, 96, 3).shape == (2, 3, 96, 96)
    assert found.read(chosen, 64, 1).shape == (2, 1, 64, 64)
