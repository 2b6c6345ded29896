"""Inception FID: the real code path on a weights file of the true format, and a clear sentence where there is none."""

import sys

import numpy as np
import pytest
import scipy
import torch
from PIL import Image

from pudm_lite.errors import UserError
from pudm_lite.measures import inception
from pudm_lite.measures.metrics import frechet_distance, frechet_floor
from pudm_lite.sources import weights


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    monkeypatch.setenv("PUDM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


@pytest.fixture(scope="module")
def random_weights(tmp_path_factory):
    """A file of pytorch-fid's layout: its architecture, built by itself, with weights that keep a signal alive."""
    from pytorch_fid import inception as theirs

    captured = {}

    def keep(*_args, **_kwargs):
        network = sys._getframe(1).f_locals["inception"]
        for module in network.modules():
            if isinstance(module, torch.nn.Conv2d):
                torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        captured["weights"] = network.state_dict()
        return captured["weights"]

    path = tmp_path_factory.mktemp("weights") / "random.pth"
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng():
        torch.manual_seed(0)
        patch.setattr(theirs, "load_state_dict_from_url", keep)
        theirs.fid_inception_v3()
    torch.save(captured["weights"], path)
    return path


@pytest.fixture
def published(monkeypatch, random_weights):
    """Random weights under the name and in the place of the published ones."""
    monkeypatch.setattr(weights, "sha256_fits_name", lambda path: True)
    path = weights.INCEPTION.path
    path.parent.mkdir(parents=True)
    path.symlink_to(random_weights)


@pytest.fixture
def by_pixels(monkeypatch):
    """In place of the network: 4 features of an image, its pixels; counts the images looked at."""
    looked = []

    def features(images, batch_size=50, progress=lambda done, of: None):
        looked.append(len(images))
        progress(len(images), len(images))
        return images.flatten(1)[:, :4].float()

    monkeypatch.setattr(inception, "inception_features", features)
    return looked


def pictures(n: int, seed: int, channels: int = 3, size: int = 28) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (n, channels, size, size), generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize("content", [None, b"<html>over quota</html>"])
def test_missing_and_wrong_weights_are_named(content):
    if content:
        weights.INCEPTION.path.parent.mkdir(parents=True)
        weights.INCEPTION.path.write_bytes(content)
    for ask in (inception.require_weights, lambda: inception.inception_features(pictures(2, 0))):
        with pytest.raises(
            UserError, match=r"^FID needs .*pt_inception-2015-12-05-6726825d\.pth.*download inception`$"
        ):
            ask()


@pytest.mark.slow
def test_features_and_distance_are_pytorch_fids(published, tmp_path):
    """Against its own features of the same images, written as PNG files and read by its own loader.

    Four images against three: only the 7 directions that they span matter, and there its matrix root is quick.
    """
    from pytorch_fid.fid_score import calculate_frechet_distance, get_activations
    from pytorch_fid.inception import InceptionV3

    sets = pictures(4, 0), pictures(3, 1) // 2
    network, theirs = InceptionV3([3]), []
    for k, images in enumerate(sets):
        paths = [tmp_path / f"{k}_{i}.png" for i in range(len(images))]
        for path, image in zip(paths, images, strict=True):
            Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)
        theirs.append(get_activations(paths, network, batch_size=3, num_workers=0))
    ours = [inception.inception_features(images, batch_size=2).numpy() for images in sets]
    for x, y in zip(ours, theirs, strict=True):
        assert x.std() > 0.01  # there is something to compare
        np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-4)
    if int(scipy.__version__.split(".")[1]) < 18:  # later ones lack an argument that pytorch-fid 0.3.0 passes
        span = np.linalg.qr(np.concatenate(theirs).T)[0]
        statistics = [part for y in theirs for part in ((y @ span).mean(0), np.cov((y @ span).T))]
        assert frechet_distance(*ours) == pytest.approx(calculate_frechet_distance(*statistics), rel=1e-3)


def test_the_network_is_given_its_range_and_does_not_learn(monkeypatch):
    """[0, 1], as pytorch-fid's loader gives it, three channels, and no statistics of the batch."""
    seen = []

    class Looking(torch.nn.Module):
        def __init__(self, blocks):
            super().__init__()
            self.blocks, self.unused = blocks, torch.nn.Parameter(torch.zeros(1))

        def forward(self, x):
            seen.append((x, self.training, self.blocks))
            return [torch.zeros(len(x), 2048, 1, 1)]

    monkeypatch.setattr(inception, "require_weights", lambda: None)
    monkeypatch.setattr("pytorch_fid.inception.InceptionV3", Looking)
    grey = torch.tensor([0, 51, 255], dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 2, 2)
    assert inception.inception_features(grey, batch_size=2).shape == (3, 2048)
    x = torch.cat([x for x, _, _ in seen]).cpu()
    torch.testing.assert_close(x, torch.tensor([0, 0.2, 1])[:, None, None, None].expand(-1, 3, 2, 2))
    assert [(training, blocks) for _, training, blocks in seen] == [(False, [3])] * 2


@pytest.mark.slow
def test_grey_images_are_repeated(published):
    grey = pictures(2, 0, channels=1)
    done = []
    features = inception.inception_features(grey, batch_size=1, progress=lambda at, of: done.append((at, of)))
    torch.testing.assert_close(features, inception.inception_features(grey.expand(-1, 3, -1, -1)))
    assert done == [(1, 2), (2, 2)]


def test_fid_is_the_distance_of_the_features(by_pixels):
    samples, real = pictures(15, 0), pictures(50, 1)
    x, y = (images.flatten(1)[:, :4].numpy() for images in (samples, real))
    row = inception.fid(samples, real)
    assert row["frechet_features"] == "inception-2048"
    assert row["frechet_distance"] == pytest.approx(frechet_distance(x, y), abs=1e-5)
    assert row["frechet_floor"] == pytest.approx(frechet_floor(y, 15), abs=1e-5)


def test_features_of_a_real_set_are_made_once(by_pixels):
    real = pictures(20, 0)
    first = inception.real_features(real)
    again = inception.real_features(real.clone())
    assert by_pixels == [20]
    assert np.array_equal(first, again)
    assert inception.fid(pictures(7, 1), real) != inception.fid(pictures(9, 1), real)  # any n of samples
    assert by_pixels == [20, 7, 9]


def test_another_set_has_its_own(by_pixels):
    """One pixel, the order of the images, or the shape makes another set."""
    real = pictures(20, 0)
    other = real.clone()
    other[3, 1, 4, 5] ^= 1
    for images in (real, other, real.flip(0), real.reshape(20, 3, 14, 56)):
        inception.real_features(images)
    assert by_pixels == [20] * 4


def test_a_view_is_known_by_its_content(by_pixels):
    both = pictures(40, 0)
    inception.real_features(both[::2])
    inception.real_features(both[::2].clone())
    assert by_pixels == [20]


def test_a_damaged_cache_is_made_anew(by_pixels):
    real = pictures(20, 0)
    first = inception.real_features(real)
    (path,) = (inception.cache_folder() / "statistics").iterdir()
    whole = path.read_bytes()
    for content in (b"", whole[:100], b"<html>", whole[: len(whole) // 2]):
        path.write_bytes(content)
        assert np.array_equal(inception.real_features(real), first)
    assert by_pixels == [20] * 5
    assert path.read_bytes() == whole


def test_a_full_cache_loses_no_result(by_pixels, monkeypatch):
    def full(path, **arrays):
        raise UserError("the disk is full")

    monkeypatch.setattr(inception, "write_arrays", full)
    assert inception.fid(pictures(7, 1), pictures(9, 0))["frechet_distance"] > 0
