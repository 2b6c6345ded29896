"""Published weights: found where their library looks, and held to the sum in their name."""

import hashlib

import pytest
import torch

from pudm_lite.errors import UserError
from pudm_lite.sources.weights import INCEPTION, RESNET34, Published, sha256_fits_name


@pytest.fixture(autouse=True)
def torch_home(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))


def test_they_lie_where_torch_hub_keeps_them(tmp_path):
    from torchvision.models import ResNet34_Weights

    assert RESNET34.path == tmp_path / "hub" / "checkpoints" / ResNet34_Weights.IMAGENET1K_V1.url.rpartition("/")[2]
    assert INCEPTION.path.parent.parent == type(tmp_path)(torch.hub.get_dir())


def test_the_inception_file_is_pytorch_fids():
    from pytorch_fid.inception import FID_WEIGHTS_URL

    assert FID_WEIGHTS_URL.endswith(f"/{INCEPTION.file}")


def test_a_file_is_held_to_its_name(tmp_path):
    digest = hashlib.sha256(b"weights").hexdigest()
    good, bad = tmp_path / f"net-2015-{digest[:8]}.pth", tmp_path / f"net-2015-{digest[1:9]}.pth"
    for path in (good, bad):
        path.write_bytes(b"weights")
    assert sha256_fits_name(good)
    assert not sha256_fits_name(bad)
    good.write_bytes(b"weight")  # truncated
    assert not sha256_fits_name(good)


def test_missing_damaged_and_right_ones():
    digest = hashlib.sha256(b"weights").hexdigest()
    weights = Published(f"net-{digest[:8]}.pth", 7, "the weights of a net", "net")
    with pytest.raises(UserError, match=rf"^A judge needs the weights of a net {weights.file} \(7 MB\) in .*checkpoi"):
        weights.require("A judge")
    weights.path.parent.mkdir(parents=True)
    weights.path.write_bytes(b"<html>")
    with pytest.raises(UserError, match=r"damaged or another file .* with `pudm data download net`$"):
        weights.require("A judge")
    weights.path.write_bytes(b"weights")
    weights.require("A judge")


def test_without_a_home_the_variable_is_asked_for(monkeypatch):
    """torch.hub would make a folder called ~ where the command was typed."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: "~/.cache/torch/hub")
    with pytest.raises(UserError, match="no home folder: let TORCH_HOME name a folder for weights, or set HOME"):
        _ = RESNET34.path
