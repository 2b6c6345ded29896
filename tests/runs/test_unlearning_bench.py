"""Unlearning, row by row: what each method is given, what is measured, what is kept; on sixty images and one step."""

import json
import math
from dataclasses import replace

import pytest
import torch
from filelock import FileLock
from safetensors import safe_open

from pudm_lite import cli
from pudm_lite.datasets import checked_file, fit, mnist
from pudm_lite.draws import generator
from pudm_lite.errors import UserError
from pudm_lite.files import read_rows
from pudm_lite.measures.judge import mnist_judge
from pudm_lite.measures.metrics import frechet_floor
from pudm_lite.networks import load_pipeline, make_network, make_process, save_pipeline
from pudm_lite.recipes import recipe_for
from pudm_lite.runs import unlearning_bench
from pudm_lite.runs.materials import Material
from pudm_lite.runs.running import start_network
from pudm_lite.runs.unlearning_bench import METHODS, SHIPPED, WITH_U, Entry, Ground, bench, changed, measured, plan
from pudm_lite.sampling import draw
from pudm_lite.splits import CONFIGURATIONS, Split, positive_unlabeled_split

EMPTY = torch.zeros(0, dtype=torch.long)


def few(exp):
    """Sixty images: forty of U, four of them of the digit, and twenty of S; to train anew on, the fifty-six."""
    images = torch.randint(0, 256, (60, 1, 28, 28), dtype=torch.uint8, generator=generator(0))
    u, s = (torch.arange(40), torch.arange(40, 60)) if exp.data.s else (torch.arange(56), EMPTY)
    split = Split(u, torch.arange(len(u)) < (4 if exp.data.s else 0), s, EMPTY, torch.arange(12))
    return Material(exp.data, split, images, images[:12], mnist_judge())


@pytest.fixture
def model(tmp_path, monkeypatch):
    """A network that learned nothing, as the model to remove a digit from; and few images."""
    recipe = recipe_for("lite", CONFIGURATIONS["mnist-digits"])
    torch.manual_seed(0)
    network = make_network("lite", recipe.channels, recipe.image_size)
    torch.nn.init.normal_(network.out.weight, std=0.1)
    save_pipeline(network, make_process(recipe), tmp_path / "model")
    monkeypatch.setattr(unlearning_bench, "material", few)
    unlearning_bench.ground.cache_clear()
    yield str(tmp_path / "model")
    unlearning_bench.ground.cache_clear()


def small(model, methods, seeds=(0,), **more):
    settings = {"n_samples": 3, "steps": 1, "reference_steps": 1, "pretrained": model}
    return plan([4], list(seeds), list(methods), **settings | more)


def test_a_row_for_every_method_and_none_is_made_twice(model, tmp_path, monkeypatch):
    out = tmp_path / "out"
    rows = bench(small(model, METHODS), out)
    assert [row["method"] for row in rows] == list(METHODS)
    assert rows == read_rows(out / "rows.jsonl")
    for row in rows:
        assert row["digit_share_low"] <= row["digit_share"] <= row["digit_share_high"]
        assert row["retrained_distance"] > 0  # of the retrained model, too: the reference is of other noise
        assert row["steps"] == (row["method"] != "unedited")
        assert (row["train_cpu_seconds"] > 0) == (row["method"] != "unedited")
        assert row["pretrained"] == model
    monkeypatch.setattr(unlearning_bench, "make", lambda *_: pytest.fail("made again"))
    assert bench(small(model, METHODS), out) == rows


def test_only_what_is_missing_is_made(model, tmp_path, monkeypatch):
    monkeypatch.setattr(unlearning_bench, "changed", lambda e, *_: (*start_network(e.fine_tuning), 0.0))  # quick
    made, make = [], unlearning_bench.make
    monkeypatch.setattr(unlearning_bench, "make", lambda e, *a: (made.append((e.method, e.seed)), make(e, *a))[1])
    bench(small(model, ["unedited"]), tmp_path)
    bench(small(model, ["unedited"], seeds=[0, 1]), tmp_path)
    assert made == [("retrained", 0), ("unedited", 0), ("retrained", 1), ("unedited", 1)]
    made.clear()
    for path in (tmp_path / "references").iterdir():
        path.write_text("torn")
    bench(small(model, ["unedited"]), tmp_path)
    assert made == [("retrained", 0)]  # without its reference nothing new can be measured
    bench(small(model, ["unedited"], n_samples=4), tmp_path)
    assert made == [("retrained", 0)] * 2 + [("unedited", 0)]


def test_the_unedited_model_draws_its_own_pictures_bit_for_bit(model):
    (_, entry) = small(model, ["unedited"])
    network, process, seconds = changed(entry, few(entry.fine_tuning), lambda images: None)
    assert seconds == 0
    ours = draw(network, process, 2, **entry.fine_tuning.sampling)
    assert torch.equal(ours, draw(*load_pipeline(unlearning_bench.Path(model)), 2, "ddpm", 14, 0))


@pytest.mark.parametrize("method", ["naive", "siss", "siss-u"])
def test_what_a_rival_is_told(model, monkeypatch, method):
    """The images known to be kept; or with U all of it, the digit's among them. S is what is forgotten."""
    given = {}

    def unlearn(network, process, kept, forgotten, method, seed, progress):
        given.update(kept=kept, forgotten=forgotten, seed=seed)
        raise UserError("seen")

    monkeypatch.setattr(unlearning_bench, "unlearn", unlearn)
    (_, entry) = small(model, [method], seeds=[3])
    data = few(entry.fine_tuning)
    with pytest.raises(UserError, match="seen"):
        changed(entry, data, lambda images: None)
    assert torch.equal(given["kept"], data.train[:40] if method in WITH_U else data.train[4:40])
    assert torch.equal(given["forgotten"], data.train[40:])
    assert given["seed"] == 3


def test_what_a_method_of_the_first_paper_leaves_is_the_average_of_its_weights(model, monkeypatch):
    made, make = [], unlearning_bench.make_trainer
    monkeypatch.setattr(unlearning_bench, "make_trainer", lambda *given: (made.append(make(*given)), made[0])[1])
    (_, entry) = small(model, ["nnpu"], steps=4)
    network, _, _ = changed(entry, few(entry.fine_tuning), lambda images: None)
    (trainer,) = made
    average, last = (n.state_dict() for n in (trainer.ema, trainer.network))
    assert all(torch.equal(value, average[name]) for name, value in network.state_dict().items())
    assert not all(torch.equal(average[name], last[name]) for name in average)


def test_the_seed_of_a_row_is_that_of_its_split_training_and_drawing():
    entry = Entry("nnpu", 4, 3)
    assert entry.fine_tuning.train.seed == entry.fine_tuning.sampling["seed"] == entry.retraining.train.seed == 3


def test_a_row_says_what_its_method_was_told():
    assert {method: Entry(method, 4, 0).told for method in METHODS} == {
        "retrained": "all kept images",
        "unedited": "",
        "unsupervised": "U",
        "nnpu": "U and S",
        "abspu": "U and S",
        "naive": "kept",
        "negative-gradient": "S",
        "erasediff": "kept and S",
        "siss": "kept and S",
        "siss-u": "U and S",
    }


def test_images_are_counted_as_they_go_through_the_network(model, tmp_path):
    for entry in small(model, ["nnpu", "erasediff", "siss"], steps=2):
        counted = []
        unlearning_bench.make(entry, tmp_path, counted.append)
        assert sum(counted) == unlearning_bench._work(entry)


def test_the_digit_alone_is_sensitive_in_a_fine_tuning_and_absent_from_the_retraining():
    train, test = mnist(train=True), mnist(train=False)
    entry = Entry("retrained", 4, 0)
    assert entry.fine_tuning.data.sensitive == ("4",)
    exp = entry.retraining
    split = positive_unlabeled_split(train.labels, test.labels, train.classes, exp.data, 0)
    assert len(split.u) == int((train.labels != 4).sum())
    assert not (train.labels[split.u] == 4).any()
    assert len(split.s) == 0


def test_the_retrained_model_has_the_shipped_ones_recipe():
    with safe_open(checked_file(SHIPPED), "pt") as file:
        row = json.loads(file.metadata()["row"])
    ours = Entry("retrained", 4, 0).retraining.train.as_row()
    assert {name: row[name] for name in ours.keys() & row.keys()} == {
        name: ours[name] for name in ours.keys() & row.keys()
    }
    assert row["steps"] == ours["steps"] == 2200


def test_real_digits_are_measured_as_what_they_are():
    test = mnist(train=False)
    fours, ones = (fit(test.images[test.labels == digit][:60], 28, 1) for digit in (4, 1))
    judge = mnist_judge()
    real = judge.look(ones).features.numpy()
    at = Ground(replace(few(Entry("nnpu", 4, 0).fine_tuning), judge=judge), real)
    row = measured(torch.cat([fours[:12], ones[:48]]), ones, 4, at)
    assert row["digit_share"] == pytest.approx(0.2, abs=0.02)
    assert row["digit_share_low"] == pytest.approx(0.118, abs=0.01)  # Wilson's for 12 of 60
    clean = measured(ones, ones, 4, at)
    assert clean["retrained_distance"] == pytest.approx(0, abs=1e-4)
    assert clean["kept_distance"] == pytest.approx(0, abs=1e-4)
    mixed = measured(ones, torch.cat([fours[:30], ones[:30]]), 4, at)
    assert mixed["kept_distance"] == pytest.approx(0, abs=1e-4)
    assert mixed["retrained_distance"] > 1
    assert row["kept_distance"] > 1
    assert row["kept_floor"] == pytest.approx(frechet_floor(real, 60), abs=1e-5)
    assert row["kept_distance"] == pytest.approx(row["retrained_distance"], rel=1e-3)


def test_two_in_one_folder_are_refused(model, tmp_path):
    with FileLock(tmp_path / ".unlearn.lock"), pytest.raises(UserError, match="another process works in"):
        bench(small(model, ["unedited"]), tmp_path)


def test_the_command_says_what_it_found_and_where(model, tmp_path, capsys):
    line = ["unlearn", "--method", "unedited", "nnpu", "--seed", "0", "--steps", "1", "--reference-steps", "1"]
    line += ["--n-samples", "3", "--pretrained", model, "--out", str(tmp_path / "out")]
    assert cli.main(line) == 0
    said = capsys.readouterr().out
    path = tmp_path / "out" / "rows.jsonl"
    assert f"3 rows are in {path}" in said
    assert "| 4 | nnPU (proposed) | U and S |" in said
    assert cli.main(["report", str(path), "--unlearning"]) == 0
    assert capsys.readouterr().out.strip() in said
    assert cli.main(line) == 0
    assert capsys.readouterr().out == said


def test_a_model_that_cannot_be_opened_is_refused_before_any_work(model, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(unlearning_bench, "bench", lambda *_: pytest.fail("work began"))
    assert cli.main(["unlearn", "--pretrained", "nothing.safetensors", "--out", str(tmp_path / "out")]) == 2
    assert "nothing.safetensors is no trained network" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_name_of_a_row_tells_its_settings_apart():
    entry = Entry("siss", 4, 0)
    others = [replace(entry, steps=5), replace(entry, n_samples=7), replace(entry, digit=7), replace(entry, seed=1)]
    assert len({e.name for e in [entry, *others]}) == 5
    assert math.isfinite(entry.asked["lam"])
