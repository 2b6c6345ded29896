"""Pixels and model space, MNIST from data/, and what is said of a missing or damaged file."""

from pathlib import Path

import pytest
import torch

import pudm_lite
from pudm_lite.datasets import SHA256, checked_file, data_folder, fit, mnist, to_model, to_pixels
from pudm_lite.errors import UserError

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
