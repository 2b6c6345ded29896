"""How a run goes, and what it leaves."""

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from albums import classes_album, folders_album

from pudm_lite.diffusion import Process, noise_schedule
from pudm_lite.errors import UserError
from pudm_lite.files import read_arrays
from pudm_lite.measures.judge import Record, Verdict
from pudm_lite.networks import make_network, make_process, save_pipeline
from pudm_lite.recipes import RECIPES
from pudm_lite.runs import running
from pudm_lite.runs.albums import album_configuration, album_material
from pudm_lite.runs.experiments import Experiment, experiment
from pudm_lite.runs.materials import Material
from pudm_lite.runs.measuring import Measured, measures
from pudm_lite.runs.running import material, run, start_network
from pudm_lite.splits import TABLE_1, Split
from pudm_lite.training import Trainer

TINY = {"steps": 2, "batch_size": 8}


@pytest.mark.slow
def test_names_are_resolved_at_the_door_and_nowhere_below_it(tmp_path, monkeypatch):
    """A run of an experiment that is resolved asks for no configuration and no recipe by name."""
    exp = experiment("mnist-even", "nnpu", n_samples=4, sampler_steps=2, **TINY)

    def asked(*_, **__):
        raise AssertionError("a name was asked for below the door")

    for module in [m for name, m in sys.modules.items() if name.startswith("pudm_lite.")]:
        for name in ("named_configuration", "recipe_for", "album_configuration"):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, asked)
    assert run(exp, tmp_path)["n_samples"] == 4
    with pytest.raises(AssertionError, match="a name was asked for"):
        experiment("mnist-even")


@dataclass
class Spied:
    """A run of four steps on made-up digits, done twice, and what was given on the way.

    row, again: what the first and the second time gave. kept: the files of drawn batches that each found.
    """

    exp: Experiment
    data: Material
    folder: Path
    row: dict
    again: dict
    trainer: Trainer
    drawn_from: dict
    strips_from: list
    measured: list
    kept: list


@pytest.fixture(scope="module")
def spied(tmp_path_factory):
    draws = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (60, 1, 28, 28), generator=draws, dtype=torch.uint8)
    truth = torch.arange(40) % 4 == 0
    split = Split(torch.arange(40), truth, torch.arange(40, 60), torch.tensor([1, 2]), torch.arange(6))
    data = Material(TABLE_1["mnist-even"], split, images, images[:6].flip(3), None)
    exp = experiment(
        *("mnist-even", "nnpu"),
        **{"steps": 4, "batch_size": 12, "s_per_batch": 5, "labelled": 7, "beta": 0.98, "seed": 3},
        **{"n_samples": 3, "sampler_steps": 2, "sampler": "ddpm"},
    )
    folder = tmp_path_factory.mktemp("run")
    trainers, drawn_from, strips_from, measured, kept = [], {}, [], [], []
    make, share, draw = running.make_trainer, running.draw_share, running.draw
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "material", lambda exp: data)
        patch.setattr(running, "make_trainer", lambda *a: trainers.append(make(*a)) or trainers[-1])

        def share_noted(network, process, n, *rest, **how):
            kept.append([path.name for path in (folder / "batches").glob("*")])
            drawn_from.setdefault(len(kept), {"network": network, "process": process, "n": n, "how": how})
            return share(network, process, n, *rest, **how)

        def strip_noted(network, *rest, **how):
            strips_from.append((weights(network), weights(trainers[0].network), weights(trainers[0].ema)))
            return draw(network, *rest, **how)

        def measured_noted(samples, data, features, prompted):
            measured.append((samples, data, features))
            return Measured(
                {"n_samples": len(samples)}, torch.tensor([True, False, True]), torch.tensor([0.9, 0.8, 0.7])
            )

        patch.setattr(running, "draw_share", share_noted)
        patch.setattr(running, "draw", strip_noted)
        patch.setattr(running, "measures", measured_noted)
        (folder / "batches" / "of another training").mkdir(parents=True)
        row = run(exp, folder)
        (folder / "batches" / "of this one").mkdir(parents=True)
        again = run(exp, folder)
    return Spied(exp, data, folder, row, again, trainers[0], drawn_from[1], strips_from, measured, kept)


def weights(network):
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


def test_samples_are_drawn_from_the_average_and_not_from_the_newest_network(spied):
    average, newest = weights(spied.trainer.ema), weights(spied.trainer.network)
    assert not torch.equal(average, newest)
    assert torch.equal(weights(spied.drawn_from["network"]), average)
    assert all(torch.equal(drawn, average) for drawn, _, average in spied.strips_from)
    assert not torch.equal(*spied.strips_from[-1][:2])  # after the first step alone the two are one
    assert len(spied.strips_from) == len(list(spied.folder.glob("strip_*.png"))) == 3
    saved, _ = running.open_network(str(spied.folder / "pipeline"))
    assert torch.equal(weights(saved), weights(spied.trainer.ema))


def test_samples_are_drawn_as_was_asked_and_kept_as_they_were_judged(spied):
    assert spied.drawn_from["n"] == 3
    assert spied.drawn_from["process"] is spied.trainer.process
    assert spied.drawn_from["how"] == {"sampler": "ddpm", "steps": 2, "seed": 3}
    (samples, data, features), second = spied.measured
    assert torch.equal(samples, second[0])
    kept = read_arrays(spied.folder / "samples.npz", "images", "sensitive", "confidence")
    assert torch.equal(torch.from_numpy(kept["images"]), samples)
    assert kept["sensitive"].tolist() == [True, False, True]
    assert kept["confidence"].tolist() == pytest.approx([0.9, 0.8, 0.7])
    assert (data, features) == (spied.data, "judge")


def test_a_row_says_what_was_seen_and_how_often_the_clamp_fired(spied):
    row, log = spied.row, json.loads((spied.folder / "log.json").read_text())
    assert row["labelled"] == 7
    assert row["images_seen"] == 4 * 12
    assert row["realised_share"] == 0.25
    assert row["parameters"] == sum(p.numel() for p in spied.trainer.network.parameters())
    assert [step for step, _ in log["clamped"]] == [1, 2, 3, 4]
    fired = sum(value for _, value in log["clamped"])
    assert fired > 0
    assert row["clamped_share"] == fired / 4
    assert log == spied.trainer.log
    assert row["train_seconds"] == round(spied.trainer.seconds, 1)
    assert (row["run"], row["schedule"], row["prediction"]) == (spied.exp.name, "lite", "v_prediction")


def test_batches_that_were_drawn_are_kept_for_the_training_that_drew_them_alone(spied):
    assert spied.kept == [[], ["of this one"]]
    assert not (spied.folder / "batches").exists()


def test_a_run_that_is_trained_gives_the_same_row_again(spied):
    measured_anew = {"sample_seconds", "peak_memory_mb"}
    assert {k: v for k, v in spied.row.items() if k not in measured_anew} == {
        k: v for k, v in spied.again.items() if k not in measured_anew
    }


def test_the_seed_decides_network_split_and_samples(monkeypatch):
    def first(seed):
        return weights(start_network(experiment(seed=seed, **TINY))[0])

    state = torch.get_rng_state()
    assert torch.equal(first(0), first(0))
    assert not torch.equal(first(0), first(1))
    assert torch.equal(torch.get_rng_state(), state)
    exp = experiment(seed=7, **TINY)
    assert exp.sampling["seed"] == 7
    asked = []
    monkeypatch.setattr(running, "read_material", lambda *a: asked.append(a))
    material(exp)
    assert asked == [(exp.data, exp.recipe, 7)]


def test_a_checkpoint_knows_data_network_and_what_it_was_started_from(monkeypatch):
    given = []
    monkeypatch.setattr(running, "Trainer", lambda *a: given.append(a))
    monkeypatch.setattr(running, "start_network", lambda exp: (None, None))
    data = SimpleNamespace(train=None, split=None)
    scratch = experiment("mnist-odd", "nnpu", **TINY)
    for exp in (scratch, replace(scratch, pretrained="digits")):
        running.make_trainer(exp, data, None)
    assert [a[6] for a in given] == [
        {"configuration": "mnist-odd", "network": "lite"},
        {"configuration": "mnist-odd", "network": "lite", "pretrained": "digits"},
    ]


def test_a_pretrained_network_keeps_its_process(tmp_path):
    """Not the recipe's: what a network learned to predict, and from which noise, is its own."""
    own = Process(noise_schedule("linear").float(), "epsilon")
    save_pipeline(make_network("lite"), own, tmp_path)
    _, process = start_network(experiment("mnist-even", "nnpu", pretrained=str(tmp_path), **TINY))
    assert process.prediction == "epsilon"
    torch.testing.assert_close(process.alpha_bar, own.alpha_bar, atol=0, rtol=1e-5)


def test_a_strip_is_drawn_by_ddim_in_few_steps():
    """The paper's 1,000 steps of DDPM would take a minute and more for each of the four."""
    exp = experiment("mnist-even", "nnpu", "paper")
    assert running._quick(exp) == {"sampler": "ddim", "steps": 25, "seed": 0}
    assert running._quick(replace(exp, sampler_steps=2))["steps"] == 2


def test_a_pretrained_network_of_another_size_is_refused(tmp_path):
    save_pipeline(make_network("lite", 3, 32), make_process(RECIPES["lite"]), tmp_path)
    with pytest.raises(UserError, match="32 x 32 with 3 channels, and mnist-even is learned at 28 x 28 with 1 channel"):
        start_network(experiment("mnist-even", "nnpu", pretrained=str(tmp_path), **TINY))


def test_a_pretrained_network_is_where_fine_tuning_starts(tmp_path):
    torch.manual_seed(1)
    network = make_network("lite")
    save_pipeline(network, make_process(RECIPES["lite"]), tmp_path)
    started, process = start_network(experiment("mnist-even", "nnpu", pretrained=str(tmp_path), **TINY))
    for ours, theirs in zip(started.parameters(), network.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    torch.testing.assert_close(process.alpha_bar, make_process(RECIPES["lite"]).alpha_bar, atol=0, rtol=1e-6)


@pytest.mark.slow
def test_a_pretrained_model_is_sampled_as_it_is(tmp_path):
    torch.manual_seed(1)
    save_pipeline(make_network("lite"), make_process(RECIPES["lite"]), tmp_path / "before")
    exp = experiment("mnist-even", "pretrained", pretrained=str(tmp_path / "before"))
    row = run(replace(exp, n_samples=4, sampler_steps=2), tmp_path / "run")
    assert (row["method"], row["steps"], row["pretrained"]) == ("pretrained", 0, str(tmp_path / "before"))
    before, after = (running.open_network(str(tmp_path / p))[0] for p in ("before", "run/pipeline"))
    for old, new in zip(before.parameters(), after.parameters(), strict=True):
        assert torch.equal(old, new)


@pytest.mark.slow
def test_own_images_without_a_judge_are_trained_on_and_not_measured(tmp_path):
    album = folders_album(tmp_path)
    exp = experiment(str(album), "nnpu", **TINY)
    assert (exp.configuration, exp.images) == (album.stem, str(album))
    assert (exp.recipe.image_size, exp.recipe.channels, exp.train.ell_scale) == (16, 1, 256)
    row = run(replace(exp, n_samples=4, sampler_steps=2), tmp_path / "run")
    assert exp.train.as_row().items() - {("labelled", 0)} <= row.items()  # every setting; labelled as it came out
    assert row["grad_clip"] is None
    json.dumps(row, allow_nan=False)
    assert row["realised_share"] is None
    assert row["n_samples"] == 4
    assert "non_sensitive_rate" not in row
    assert (tmp_path / "run" / "samples.npz").exists()
    assert (row["images"], row["unlabeled"], row["image_size"]) == ("holiday", 12, 16)
    with pytest.raises(UserError, match="true labels of U, which a folder does not give: name one of classes"):
        experiment(str(album), "pn", **TINY)


@pytest.mark.slow
def test_images_by_class_are_trained_on_by_every_method_and_their_share_is_known(tmp_path):
    exp = experiment(str(classes_album(tmp_path)), "pn", **TINY)
    row = run(replace(exp, n_samples=4, sampler_steps=2), tmp_path / "run")
    assert (row["images"], row["normal"], row["sensitive"]) == ("pets", "cat,car", "dog")
    assert (row["unlabeled"], row["labelled"], row["realised_share"]) == (20, 5, 0.2)
    assert experiment(str(classes_album(tmp_path, s=4)), "pn", **TINY).name != exp.name


def test_measures_name_who_is_sensitive(tmp_path):
    album = folders_album(tmp_path, test=6)

    class Always:
        name, accuracy = "made-up", 1.0

        def look(self, images):
            return Verdict(torch.arange(len(images)) % 2, torch.ones(len(images)), images.flatten(1).float())

        def record(self, normal):
            return Record(10, 10, 10, 10)

        def is_normal(self, verdict, normal):
            return verdict.classes == 0

    data = replace(album_material(album, album_configuration(album), 0), judge=Always())
    measured = measures(data.test[:4], data, "judge")
    assert measured.sensitive.tolist() == [False, True, False, True]
    assert measured.confidence.tolist() == [1, 1, 1, 1]
    assert measured.row["non_sensitive_rate"] == 0.5
