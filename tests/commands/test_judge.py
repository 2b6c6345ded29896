"""`pudm judge train folders`: what is read, what is left out, and where the judge may not be written."""

import pytest
from PIL import Image

from pudm_lite import cli
from pudm_lite.measures import judge_training
from pudm_lite.measures.judge import mnist_judge, read_judge


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Two folders of one picture each, the current one between them; a judge is had at once, and says what it saw."""
    seen = []

    def train(normal, sensitive, **how):
        seen.append((normal.shape, sensitive.shape, how))
        yield 1, 1, mnist_judge()

    monkeypatch.setattr(judge_training, "train_two_class", train)
    for name in "ns":
        (tmp_path / name).mkdir()
        Image.new("RGB", (20, 30)).save(tmp_path / name / "a.png")
    monkeypatch.chdir(tmp_path)
    return seen


def judge(*more):
    return cli.main(["judge", "train", "folders", "--normal", "n", "--sensitive", "s", *more])


def test_a_judge_is_trained_on_both_folders_and_written(folders, tmp_path, capsys):
    (tmp_path / "s" / "notes.txt").write_text("mine")
    assert judge("--out", "new/judge.safetensors", "--epochs", "3", "--from-scratch") == 0
    assert folders == [
        ((1, 3, 128, 128), (1, 3, 128, 128), {"from_scratch": True, "seed": 0, "epochs": 3, "batch_size": None})
    ]
    said = capsys.readouterr().out
    assert "left out s/notes.txt: .txt is no kind of image that Pillow reads\n" in said
    assert "wrote new/judge.safetensors\n" in said
    assert read_judge(tmp_path / "new/judge.safetensors").sentence() == mnist_judge().sentence()


@pytest.mark.parametrize("spoiled", ["n/torn.png", "s/torn.png", "n/notes.txt", "s/notes.txt"])
def test_strict_stops_at_whatever_is_left_out(folders, tmp_path, capsys, spoiled):
    (tmp_path / spoiled).write_text("no image")
    assert judge("--out", "new/judge.safetensors", "--strict") == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(f"pudm: not everything is an image that opens (1): {spoiled}: ")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("n/judge.safetensors", "--out lies in n, whose files are read as images"),
        ("s/new/judge.safetensors", "--out lies in s, whose files are read as images"),
        ("s", "s is a folder: name a file"),
        ("n/a.png/judge.safetensors", "cannot write to n/a.png"),
    ],
)
def test_a_place_where_it_may_not_be_is_said_and_nothing_left_there(folders, tmp_path, capsys, out, said):
    before = sorted(tmp_path.rglob("*"))
    assert judge("--out", out) == 2
    (sentence,) = capsys.readouterr().err.splitlines()
    assert sentence.startswith(f"pudm: {said}")
    assert sorted(tmp_path.rglob("*")) == before
    assert not folders


@pytest.mark.parametrize("missing", ["--normal", "--sensitive", "--out"])
def test_it_needs_both_folders_and_a_file(folders, capsys, missing):
    words = {"--normal": "n", "--sensitive": "s", "--out": "j.safetensors"}
    words.pop(missing)
    assert cli.main(["judge", "train", "folders", *(word for pair in words.items() for word in pair)]) == 2
    assert "needs --normal DIR, --sensitive DIR and --out FILE" in capsys.readouterr().err
