"""The images of an experiment: what the split points into, read whole or by need."""

from types import SimpleNamespace

import torch

from pudm_lite.datasets import source
from pudm_lite.recipes import RECIPES, recipe_for
from pudm_lite.runs import materials
from pudm_lite.runs.materials import read_material
from pudm_lite.splits import CONFIGURATIONS


def test_a_large_data_set_is_read_by_need_and_gives_the_same_images(monkeypatch):
    recipe = recipe_for("lite", CONFIGURATIONS["standin-32"])
    whole = read_material(CONFIGURATIONS["standin-32"], recipe, seed=3)
    monkeypatch.setattr(materials, "HELD_WHOLE", 1000)
    some = read_material(CONFIGURATIONS["standin-32"], recipe, seed=3)
    assert len(some.train) == len(some.split.u) + len(some.split.s) < len(whole.train)
    for group in ("u", "s"):
        ours, theirs = (m.train[getattr(m.split, group)[:50]] for m in (some, whole))
        assert torch.equal(ours, theirs)
    assert torch.equal(some.split.u_sensitive, whole.split.u_sensitive)
    assert torch.equal(some.test, whole.test)


def test_the_split_is_drawn_by_the_seed_of_the_run(monkeypatch):
    def of(seed):
        return read_material(CONFIGURATIONS["standin-32"], recipe, seed).split

    recipe = recipe_for("lite", CONFIGURATIONS["standin-32"])
    parts = {train: source("standin", train=train) for train in (True, False)}
    monkeypatch.setattr(materials, "judge_of", lambda name: None)
    monkeypatch.setattr(
        materials,
        "source",
        lambda name, train: SimpleNamespace(
            labels=parts[train].labels, classes=parts[train].classes, read=lambda at, size, channels: at
        ),
    )
    assert torch.equal(of(3).u, of(3).u)
    for group in ("u", "s", "n"):
        assert not torch.equal(getattr(of(3), group), getattr(of(4), group))


def test_mnist_is_its_own_pixels():
    data = read_material(CONFIGURATIONS["mnist-even"], RECIPES["lite"], seed=0)
    train = source("mnist", train=True)
    assert torch.equal(data.train[data.split.s[:9]], train.read(data.split.s[:9], 28, 1))
    assert (train.labels[data.split.s] % 2 == 1).all()
    assert len(data.test) == 4926
    assert torch.equal(data.test[:9], source("mnist", train=False).read(data.split.test[:9], 28, 1))
