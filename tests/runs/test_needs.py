"""What lacks is said all at once, before anything slow; what would stop a run stops it here."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from albums import folders_album
from tiny_sets import write_cifar10

from pudm_lite import cli
from pudm_lite.errors import UserError
from pudm_lite.measures.judge import DigitNet, Judge, judge_file, save_judge
from pudm_lite.runs.experiments import experiment
from pudm_lite.runs.keeping import run_and_keep
from pudm_lite.runs.needs import unmeasured
from pudm_lite.runs.running import material, run
from pudm_lite.splits import CLASSES, CONFIGURATIONS


@pytest.fixture(autouse=True)
def nothing_there(tmp_path, monkeypatch):
    monkeypatch.setenv("PUDM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


@pytest.fixture
def cifar10(tmp_path, monkeypatch):
    """Twenty images; U, S and the test set take a few of them."""
    write_cifar10(tmp_path / "cache" / "datasets", monkeypatch)
    few = replace(CONFIGURATIONS["cifar10-vehicles"], u_normal=2, u_sensitive=2, s=2, test=2)
    monkeypatch.setitem(CONFIGURATIONS, "cifar10-vehicles", few)


def a_judge() -> None:
    classes = CLASSES["cifar10"]
    save_judge(Judge(DigitNet(), classes, torch.eye(10).long().tolist(), "cifar10"), judge_file("cifar10"))


def few(**more):
    return experiment("cifar10-vehicles", steps=1, batch_size=4, s_per_batch=2, n_samples=3, sampler_steps=2, **more)


def test_all_that_lacks_is_one_sentence(capsys, tmp_path):
    arguments = ["--experiment", "cifar10-vehicles", "--out", str(tmp_path / "out")]
    for command in ("train", "sweep"):
        assert cli.main([command, *arguments]) == 2
        (said,) = capsys.readouterr().err.splitlines()
        for word in ("data download cifar10", "judge train cifar10", "data download inception"):
            assert f"`pudm {word}`" in said


def test_digits_and_own_images_lack_nothing(tmp_path):
    assert (
        unmeasured([experiment("mnist-even"), experiment("standin-32"), experiment(str(folders_album(tmp_path)))]) == []
    )


def test_a_judge_and_inception_may_lack_and_it_is_said_what_is_not_measured(cifar10):
    rate, distance = unmeasured([few()])
    assert rate.startswith("the non-sensitive rate: there is no judge of cifar10 yet: train it first with `pudm judge")
    assert distance.startswith("FID: FID needs the Inception weights")
    assert few().features == "judge"
    with pytest.raises(UserError, match=r"FID needs the Inception weights .*; without it is not measured the non-sens"):
        unmeasured([few(features="inception")], "inception")
    assert unmeasured([few(features="judge")], "judge") == [rate]
    a_judge()
    assert unmeasured([few()], "judge") == []


def test_a_damaged_judge_stops_a_run(cifar10):
    a_judge()
    judge_file("cifar10").write_bytes(b"half")
    with pytest.raises(UserError, match="is not a judge's file"):
        unmeasured([few()], "judge")


@pytest.mark.slow
def test_without_a_judge_samples_are_drawn_and_measured_once_there_is_one(cifar10, tmp_path, monkeypatch):
    monkeypatch.setattr("pudm_lite.runs.measuring.frechet_floor", lambda *_: 0.1)  # two test images have none

    def row():
        return run_and_keep(few(), tmp_path / "out" / "runs" / few().name, lambda *_: None)

    drawn = row()
    assert drawn["not_measured"] == "non-sensitive rate and Fréchet distance (no judge)"
    assert "non_sensitive_rate" not in drawn
    assert material(few()).judge is None
    before = (tmp_path / "out" / "runs" / few().name / "row.json").stat().st_mtime_ns
    assert row() == drawn
    assert (tmp_path / "out" / "runs" / few().name / "row.json").stat().st_mtime_ns == before
    a_judge()
    measured = row()
    assert "not_measured" not in measured
    assert 0 <= measured["non_sensitive_rate"] <= 1
    assert json.loads((tmp_path / "out" / "runs" / few().name / "row.json").read_text()) == measured


def test_a_run_asks_for_weights_that_were_named(cifar10, tmp_path):
    with pytest.raises(UserError, match="FID needs the Inception weights"):
        run(few(features="inception"), tmp_path)


def test_evaluate_without_a_judge_says_how_to_get_one(cifar10, tmp_path, capsys):
    np.savez(tmp_path / "a.npz", images=np.zeros((2, 3, 32, 32), np.uint8))
    assert cli.main(["evaluate", str(tmp_path / "a.npz"), "--experiment", "cifar10-vehicles"]) == 2
    assert "nothing can be measured: the non-sensitive rate: there is no judge of cifar10" in capsys.readouterr().err
