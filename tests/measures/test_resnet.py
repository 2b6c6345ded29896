"""ResNet-34 as a judge: torchvision's network and preparation, ImageNet weights through their real loader."""

import pytest
import torch
from torchvision.models import ResNet34_Weights, resnet34
from torchvision.transforms.v2 import functional

from pudm_lite.errors import UserError
from pudm_lite.measures.resnet import MEAN, STD, ResNet34
from pudm_lite.sources import weights
from pudm_lite.sources.weights import RESNET34


@pytest.fixture
def published(monkeypatch, tmp_path):
    """A random network of the true layout, under the name and in the place of torchvision's weights."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(weights, "sha256_fits_name", lambda path: True)
    torch.manual_seed(99)
    network = resnet34().eval()
    RESNET34.path.parent.mkdir(parents=True)
    torch.save(network.state_dict(), RESNET34.path)
    return network


def test_pixels_are_what_the_imagenet_weights_were_trained_with():
    theirs = ResNet34_Weights.IMAGENET1K_V1.transforms()
    assert ([*MEAN], [*STD]) == (theirs.mean, theirs.std)


@pytest.mark.parametrize(("given", "size"), [(32, 48), (96, 40), (40, 40)])
def test_preparation_is_torchvisions(given, size):
    images = torch.randint(0, 256, (2, 3, given, given), dtype=torch.uint8)
    resized = functional.resize(images.float() / 255, [size, size], antialias=True)  # bilinear
    torch.testing.assert_close(ResNet34(2, size).prepare(images), functional.normalize(resized, [*MEAN], [*STD]))


def test_grey_is_repeated():
    images = torch.randint(0, 256, (2, 1, 28, 28), dtype=torch.uint8)
    network = ResNet34(2, 32)
    torch.testing.assert_close(network.prepare(images), network.prepare(images.expand(-1, 3, -1, -1)))


def test_it_starts_from_the_published_weights(published):
    """With torchvision's own last layer for a head, it is torchvision's network."""
    network = ResNet34(1000, 32).eval()
    network.load_imagenet()
    network.head = published.fc
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(network(x), published(x))
        assert network.features(x).shape == (2, 512)


def test_weights_that_are_not_there_are_named(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(UserError, match=r"resnet34-b627a593\.pth .* `pudm data download resnet34`"):
        ResNet34(2, 32).load_imagenet()


def test_weights_of_another_sum_are_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    RESNET34.path.parent.mkdir(parents=True)
    RESNET34.path.write_bytes(b"<html>")
    with pytest.raises(UserError, match="damaged or another file"):
        ResNet34(2, 32).load_imagenet()
