"""Inception FID: the real code path on a weights file of the true format, and a clear sentence where there is none."""

import sys

import pytest
import torch

from pudm_lite import inception
from pudm_lite.errors import UserError


def test_missing_weights_are_named(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(UserError, match=r"FID needs the Inception weights pt_inception-2015-12-05-6726825d\.pth"):
        inception.inception_features(torch.zeros(2, 1, 28, 28, dtype=torch.uint8))


@pytest.mark.slow
def test_features_through_pytorch_fid(monkeypatch, tmp_path):
    """Random weights in the file that pytorch-fid reads: 2,048 features an image, and FID of a set with itself is 0."""
    from pytorch_fid import inception as theirs

    torch.manual_seed(0)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    captured = {}
    with monkeypatch.context() as inner:  # let pytorch-fid build its architecture, and keep the random weights

        def random_weights(*_args, **_kwargs):
            frame = sys._getframe(1)
            captured["weights"] = frame.f_locals["inception"].state_dict()
            return captured["weights"]

        inner.setattr(theirs, "load_state_dict_from_url", random_weights)
        theirs.fid_inception_v3()
    inception.weights_file().parent.mkdir(parents=True)
    torch.save(captured["weights"], inception.weights_file())
    images = torch.randint(0, 256, (6, 1, 28, 28), dtype=torch.uint8)
    assert inception.inception_features(images, batch_size=4).shape == (6, 2048)
    row = inception.fid(images, images)
    assert row["frechet_features"] == "inception-2048"
    assert row["frechet_distance"] == pytest.approx(0, abs=1e-3)
