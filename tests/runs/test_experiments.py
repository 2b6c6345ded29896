"""What an experiment is: its name, its recipe, its row."""

from dataclasses import fields, replace

import pytest

from pudm_lite.errors import UserError
from pudm_lite.runs import experiments
from pudm_lite.runs.experiments import Experiment, experiment, parse_settings
from pudm_lite.settings import TrainConfig
from pudm_lite.splits import TABLE_1


def test_a_name_holds_what_shapes_the_training_and_nothing_else():
    exp = experiment("mnist-even", "nnpu")
    assert exp.name == "mnist-even_nnpu_seed0_9fd33327"  # rows and checkpoints are found by it: it must not change
    assert replace(exp, n_samples=7, sampler="ddim", features="inception").name == exp.name
    others = [
        experiment("mnist-odd", "nnpu"),
        experiment("mnist-even", "pn"),
        experiment("mnist-even", "nnpu", seed=1),
        experiment("mnist-even", "nnpu", beta=0.2),
        replace(exp, pretrained="digits"),
        replace(exp, network="paper"),
    ]
    assert len({e.name for e in [exp, *others]}) == 7


def test_a_setting_at_its_default_renames_no_run(monkeypatch):
    before = experiment("mnist-even", "nnpu").name
    plain = TrainConfig(seed=5)  # whatever the default is: what equals it does not count
    exp = experiment()
    assert replace(exp, train=plain).name != replace(exp, train=TrainConfig()).name
    assert experiment("mnist-even", "nnpu", mixed_precision="no").name == before


@pytest.mark.parametrize("configuration", TABLE_1)
def test_each_configuration_of_table_1_has_the_papers_setting(configuration, monkeypatch):
    monkeypatch.setattr(experiments, "weights_are_there", lambda: True)
    exp = experiment(configuration, "nnpu", "paper")
    c = TABLE_1[configuration]
    assert exp.train.ell_scale == 3 * c.image_size**2  # Eq. 8 is a sum over pixels
    assert (exp.sampler, exp.sampler_steps, exp.train.beta) == ("ddpm", 1000, 0.1)
    assert exp.train.batch_size == {"mnist": 128, "cifar10": 128, "stl10": 32, "celeba": 16}[c.dataset]
    assert exp.features == ("judge" if c.dataset == "mnist" else "inception")


def test_what_a_row_says_was_asked_for_is_every_field_that_is_a_word_or_number():
    exp = experiment("mnist-odd", "pn", n_samples=7, sampler="ddim", sampler_steps=3, features="inception", beta=0.3)
    row = exp.as_row()
    assert row.keys() >= {f.name for f in fields(TrainConfig)}
    asked = {f.name for f in fields(Experiment)} - {"configuration", "data", "recipe", "train", "images", "save_every"}
    asked -= {"beta_interval", "guidance"}  # guidance: of a conditional network alone
    assert all(row[name] == getattr(exp, name) for name in asked)
    assert (row["experiment"], row["method"], row["beta"], row["n_samples"]) == ("mnist-odd", "pn", 0.3, 7)


def test_no_samples_asked_for_stands_for_as_many_as_test_images():
    assert experiment("mnist-odd", n_samples=0).n_samples == TABLE_1["mnist-odd"].test
    assert experiment("mnist-odd", n_samples=None, sampler=None).n_samples == 2000


def test_where_nothing_is_trained_the_method_is_called_so():
    exp = experiment("mnist-even", "pretrained", pretrained="digits")
    assert (exp.method, exp.as_row()["method"], exp.train.steps) == ("pretrained", "pretrained", 0)


def test_refusals():
    with pytest.raises(UserError, match="--pretrained names a model"):
        experiment("mnist-even", "pretrained")
    for data in ("mnist-odd", "standin-32"):
        with pytest.raises(UserError, match="a mirrored digit is none: leave flips at 0"):
            experiment(data, flips=1)
    with pytest.raises(UserError, match="unknown flips 2"):
        experiment("cifar10-cat", flips=2)
    with pytest.raises(UserError, match="unknown features"):
        experiment(features="pixels")
    with pytest.raises(UserError, match="unknown configuration"):
        experiment("mnist-prime")


def test_settings_are_read_with_their_types():
    assert parse_settings(["ell_scale=100", "stream=two", "pieces=4"]) == {
        "ell_scale": 100.0,
        "stream": "two",
        "pieces": 4,
    }
