"""The command on a user's own folders: real PNG files in, samples and a row out; what is wrong is said before work."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from pudm_lite import cli
from pudm_lite.datasets import source
from pudm_lite.measures.judge import mnist_judge
from pudm_lite.runs import own_images
from pudm_lite.runs.own_images import prepare


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Digits as files: zeros are normal, ones sensitive; U holds both."""
    root = tmp_path_factory.mktemp("digits")
    digits = source("mnist", train=True)
    zeros, ones = ((digits.labels == d).nonzero().flatten() for d in (0, 1))
    groups = {"u": torch.cat([zeros[:40], ones[:4]]), "s": ones[10:40], "test": zeros[50:90]}
    for name, indices in groups.items():
        (root / name).mkdir()
        for i, pixels in zip(indices.tolist(), digits.read(indices, 28, 1), strict=True):
            Image.fromarray(pixels[0].numpy()).save(root / name / f"{i}.png")
    (root / "u" / "torn.png").write_bytes(b"no image")
    (root / "empty").mkdir()
    return root


def train(folders, out, *more):
    own = ["--unlabeled", folders / "u", "--sensitive", folders / "s"]
    small = ["--steps", 2, "--n-samples", 4, "--sampler-steps", 2, "--set", "batch_size=8"]
    return cli.main([str(a) for a in ["train", *own, "--out", out, *more, *small]])


@pytest.mark.slow
def test_folders_are_trained_on_judged_and_kept(folders, tmp_path, capsys):
    assert train(folders, tmp_path, "--normal-test", folders / "test") == 0
    text = capsys.readouterr().out
    assert "torn.png: it does not open" in text
    assert "U 44 images, S 30, normal test 40; 28 x 28, 1 channel" in text
    row = json.loads((tmp_path / "rows.jsonl").read_text())
    assert row["n_samples"] == 4
    assert row["judge_accuracy"] > 0.8  # zeros and ones are easy
    assert row["realised_share"] is None  # nobody knows it
    # Once more: what is there is used, nothing is trained again.
    files = {path: path.stat().st_mtime_ns for path in tmp_path.glob("own-*")}
    assert len(files) == 2
    assert train(folders, tmp_path, "--normal-test", folders / "test") == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("own-*")} == files
    assert len((tmp_path / "rows.jsonl").read_text().splitlines()) == 1


def test_other_images_are_another_data_set(folders, tmp_path):
    one = prepare(folders / "u", folders / "s", None, None, False, tmp_path)
    same = prepare(folders / "u", folders / "s", None, None, False, tmp_path)
    other = prepare(folders / "u", folders / "test", None, None, False, tmp_path)
    smaller = prepare(folders / "u", folders / "s", None, 16, False, tmp_path)
    assert one == same
    assert len({one, other, smaller}) == 3
    with np.load(one) as arrays:
        assert arrays["u"].shape == (44, 1, 28, 28)
        assert len(arrays["test"]) == 0


def test_a_damaged_file_of_images_is_written_again(folders, tmp_path, capsys):
    file = prepare(folders / "u", folders / "s", None, None, False, tmp_path)
    whole = file.read_bytes()
    for damaged in (whole[:-50], b""):
        capsys.readouterr()
        file.write_bytes(damaged)
        assert prepare(folders / "u", folders / "s", None, None, False, tmp_path) == file
        assert f"{file} is damaged: it is written again" in capsys.readouterr().out
        assert np.load(file)["u"].shape == (44, 1, 28, 28)
    with np.load(file) as arrays:
        others = dict(arrays)
    others["u"][0] += 1
    np.savez_compressed(file, **others)  # a whole file of other pixels
    prepare(folders / "u", folders / "s", None, None, False, tmp_path)
    assert "is damaged" in capsys.readouterr().out
    prepare(folders / "u", folders / "s", None, None, False, tmp_path)
    assert "is damaged" not in capsys.readouterr().out


def test_a_damaged_judge_is_trained_again(folders, tmp_path, capsys, monkeypatch):
    trained = []

    def train(normal, sensitive):
        trained.append(len(normal))
        yield 1, 1, mnist_judge()

    monkeypatch.setattr(own_images, "train_two_class", train)
    for content in (None, b"half", None):
        file = prepare(folders / "u", folders / "s", folders / "test", None, False, tmp_path)
        if content is not None:
            file.with_suffix(".safetensors").write_bytes(content)
    assert trained == [40, 40]
    said = capsys.readouterr().out
    assert said.count("is damaged: the judge is trained again") == 1
    assert said.count(mnist_judge().sentence()) == 3


def test_outputs_stay_out_of_the_images_and_nothing_is_written(folders, capsys):
    before = sorted(folders.rglob("*"))
    assert train(folders, folders / "u" / "outputs") == 2
    assert "pudm: --out lies in" in capsys.readouterr().err
    assert sorted(folders.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--strict"], "torn.png"),
        (["--sensitive", "empty"], "no image files"),
        (["--sensitive", "nowhere"], "is not a folder"),
        (["--image-size", "27"], "27 pixels"),
        (["--method", "pn"], "true labels"),
        (["--set", "batch_size=500"], "a batch of 500"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(folders, tmp_path, capsys, arguments, sentence):
    arguments = [str(folders / a) if a in ("empty", "nowhere") else a for a in arguments]
    own = ["--unlabeled", str(folders / "u")]
    own += [] if "--sensitive" in arguments else ["--sensitive", str(folders / "s")]
    code = cli.main(["train", *own, "--out", str(tmp_path), "--steps", "2", *arguments])
    assert code == 2
    assert sentence in capsys.readouterr().err.strip().splitlines()[-1]


def test_too_few_sensitive_images_for_a_judge_are_no_reason_to_stop(folders, tmp_path, capsys):
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted((folders / "s").iterdir())[:4]:
        (few / path.name).write_bytes(path.read_bytes())
    file = prepare(folders / "u", few, folders / "test", None, False, tmp_path)
    assert "no judge: that takes 10 sensitive" in capsys.readouterr().out
    assert not file.with_suffix(".safetensors").exists()


def test_one_folder_is_not_enough(folders, tmp_path, capsys):
    assert cli.main(["train", "--unlabeled", str(folders / "u"), "--out", str(tmp_path)]) == 2
    assert "both --unlabeled DIR and --sensitive DIR" in capsys.readouterr().err
