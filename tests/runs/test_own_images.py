"""A user's own folders made ready: real PNG files in, an album out; what is wrong is said before work."""

import json

import pytest
from albums import digit_files

from pudm_lite import cli
from pudm_lite.errors import UserError
from pudm_lite.measures.judge import mnist_judge
from pudm_lite.runs import own_images
from pudm_lite.runs.albums import album_configuration, album_material, read_album
from pudm_lite.runs.own_images import prepare, prepare_classes, sizes


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = digit_files(tmp_path_factory.mktemp("digits"))
    (root / "u" / "torn.png").write_bytes(b"no image")
    (root / "empty").mkdir()
    return root


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PUDM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "own"


@pytest.fixture
def trained(monkeypatch):
    """Stands in for the training of judges; returns how many images of each kind it was given."""
    seen = []

    def train(normal, sensitive, held_out):
        seen.append([len(normal), len(sensitive), *map(len, held_out or ())])
        yield 1, 1, mnist_judge()

    monkeypatch.setattr(own_images, "train_two_class", train)
    return seen


def train(folders, out, *more):
    small = ["--steps", 2, "--n-samples", 4, "--sampler-steps", 2, "--set", "batch_size=8"]
    return cli.main([str(a) for a in ["train", *more, "--out", out, *small]])


def three(folders):
    return ["--unlabeled", folders / "u", "--sensitive", folders / "s", "--normal-test", folders / "test"]


@pytest.mark.slow
def test_folders_are_trained_on_judged_and_kept(folders, cache, tmp_path, capsys):
    """Two methods and an estimate of beta; once more, and nothing is done a second time."""
    arguments = [*three(folders), "--method", "unsupervised", "nnpu", "--beta", "estimate"]
    out = tmp_path / "out"
    assert train(folders, out, *arguments) == 0
    text = capsys.readouterr().out
    assert "torn.png: it does not open" in text
    assert "U 44 images, S 30, normal test 40; 28 x 28, 1 channel" in text
    assert "beta of u, seed 0: estimated as" in text
    *_, last = text.splitlines()
    assert last == f"samples beside training images: {out / 'samples.png'}"
    rows = [json.loads(line) for line in (out / "rows.jsonl").read_text().splitlines()]
    assert [row["method"] for row in rows] == ["unsupervised", "nnpu"]
    assert rows[1]["beta_from"] == "estimate"
    assert rows[1]["beta_low"] <= rows[1]["beta"] <= rows[1]["beta_high"]
    for row in rows:
        assert row["judge_kept"] > 0.8  # zeros and ones are easy
        assert row["judge_caught"] > 0.8
        assert row["realised_share"] is None  # nobody knows it
        assert (out / "runs" / row["run"] / "samples.png").stat().st_size > 10_000
    files = {path: path.stat().st_mtime_ns for path in [*cache.glob("*"), *out.rglob("*.p[tn]*")]}
    assert train(folders, out, *arguments) == 0
    changed = {path.name for path, was in files.items() if path.stat().st_mtime_ns != was}
    assert changed <= {"samples.png", next(cache.glob("own-*.json")).name}
    assert len((out / "rows.jsonl").read_text().splitlines()) == 2


@pytest.mark.slow
def test_classes_are_swept_evaluated_and_reported(folders, tmp_path, capsys):
    tree = ["--classes", folders / "tree", "--normal", "zero", "--n-sensitive", 4]
    small = ["--steps", 2, "--n-samples", 4, "--sampler-steps", 2, "--set", "batch_size=8", "--lanes", 1]
    command = ["sweep", *tree, "--method", "pn", "nnpu", "--seed", 0, 1, "--out", tmp_path / "out", *small]
    assert cli.main([str(word) for word in command]) == 0
    text = capsys.readouterr().out
    assert "normal: zero; sensitive: one. U 53 images, 5 of them sensitive (9.4%), S 4, normal test 12" in text
    rows = [json.loads(line) for line in (tmp_path / "out" / "rows.jsonl").read_text().splitlines()]
    assert {(row["images"], row["normal"], row["sensitive"], row["unlabeled"], row["labelled"]) for row in rows} == {
        ("tree", "zero", "one", 53, 4)
    }
    assert {row["realised_share"] for row in rows} == {round(5 / 53, 5)}
    samples = next((tmp_path / "out").glob("runs/*/samples.npz"))
    assert cli.main([str(word) for word in ["evaluate", samples, *tree]]) == 0
    measured = json.loads(capsys.readouterr().out.partition("\n{")[2].join("{ "))
    row = next(row for row in rows if row["run"] == samples.parent.name)
    assert measured["non_sensitive_rate"] == row["non_sensitive_rate"]
    assert cli.main(["report", str(tmp_path / "out" / "rows.jsonl"), "--table", "2"]) == 0
    assert "tree (zero)" in capsys.readouterr().out


def test_the_same_images_are_one_album_and_others_another(folders, tmp_path):
    one = prepare(folders / "u", folders / "s", None, None, False, tmp_path)
    same = prepare(folders / "u", folders / "s", None, None, False, tmp_path)
    other = prepare(folders / "u", folders / "test", None, None, False, tmp_path)
    smaller = prepare(folders / "u", folders / "s", None, 16, False, tmp_path)
    assert one == same
    assert len({one, other, smaller}) == 3
    c = album_configuration(one)
    assert (c.u_normal, c.s, c.test, c.image_size, c.channels) == (44, 30, 0, 28, 1)
    assert read_album(one).judge == ""


def test_the_judge_of_folders_learns_from_the_test_images_and_from_s(folders, tmp_path, trained):
    path = prepare(folders / "u", folders / "s", folders / "test", None, False, tmp_path)
    assert trained == [[40, 30]]
    assert album_material(path, album_configuration(path), 0).judge.name == "mnist"


def test_the_judge_of_classes_learns_from_the_training_images_and_is_measured_on_the_others(folders, tmp_path, trained):
    one = prepare_classes(folders / "tree", ["zero"], [], None, None, None, False, tmp_path)
    assert trained == [[48, 48, 12, 12]]  # every fifth of sixty is held out
    other = prepare_classes(folders / "tree", ["zero"], [], 0.3, 9, None, False, tmp_path)
    assert len(trained) == 1  # whatever the sizes of U and S
    assert read_album(one).judge == read_album(other).judge
    assert one != other
    prepare_classes(folders / "tree", ["one"], [], None, None, None, False, tmp_path)
    assert len(trained) == 2


def test_a_damaged_judge_is_trained_again(folders, tmp_path, capsys, trained):
    for content in (None, b"half", None):
        path = prepare(folders / "u", folders / "s", folders / "test", None, False, tmp_path)
        if content is not None:
            (tmp_path / read_album(path).judge).write_bytes(content)
    assert len(trained) == 2
    said = capsys.readouterr().out
    assert said.count("is damaged: the judge is trained again") == 1
    assert said.count("keeps ") == 3


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ((100, 100, None, None), (10, 10)),  # Table 1's share: one in eleven
        ((100, 12, None, None), (6, 6)),  # too few for that: half of what there is
        ((100, 12, None, 9), (3, 9)),
        ((100, 12, 0.05, None), (5, 5)),
        ((90, 100, 0.1, 25), (10, 25)),
        ((5, 2, None, None), (1, 1)),
    ],
)
def test_sizes_follow_what_is_asked_and_there(asked, found):
    assert sizes(*asked) == found


@pytest.mark.parametrize("asked", [(100, 12, 0.1, 5), (100, 12, 0.2, None), (100, 12, None, 12), (100, 1, None, None)])
def test_sizes_that_cannot_be(asked):
    with pytest.raises(UserError, match=r"sensitive images are too few: .*--hidden-share or --n-sensitive"):
        sizes(*asked)


def test_outputs_stay_out_of_the_images_and_nothing_is_written(folders, capsys):
    before = sorted(folders.rglob("*"))
    assert train(folders, folders / "u" / "outputs", *three(folders)) == 2
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


def test_too_few_images_for_a_judge_are_no_reason_to_stop(folders, tmp_path, capsys, trained):
    few = tmp_path / "few" / "two"
    few.mkdir(parents=True)
    for path in sorted((folders / "s").iterdir())[:9]:
        (few / path.name).write_bytes(path.read_bytes())
    (tmp_path / "few" / "zero").symlink_to(folders / "tree" / "zero")
    path = prepare(folders / "u", few, folders / "test", None, False, tmp_path)
    assert "no judge: that takes 10 sensitive" in capsys.readouterr().out
    assert read_album(path).judge == ""
    (tmp_path / "untested").mkdir()
    for name, images in (("zero", folders / "tree" / "zero"), ("two", folders / "s")):  # 30 twos: 6 to test with
        (tmp_path / "untested" / name).symlink_to(images)
    for tree in ("few", "untested"):
        path = prepare_classes(tmp_path / tree, ["zero"], [], None, None, None, False, tmp_path)
        assert "no judge: that takes 10 images of each kind" in capsys.readouterr().out
        assert read_album(path).judge == ""
    assert trained == []
