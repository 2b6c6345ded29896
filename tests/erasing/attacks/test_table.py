import itertools
from dataclasses import replace

import gaussian_digits as g
import pytest
import torch
from scipy.stats import binomtest

from pudm_lite.erasing.attacks.table import ATTACKS, Attacked, attack
from pudm_lite.errors import UserError

SMALL = {
    "inversion": {"steps": 5, "examples": 20, "batch_size": 8},
    "tokens": {"rounds": 2, "iterations": 3, "examples": 20},
    "interpolation": {"looks": 2},
    "noise": {"etas": (1.0, 1.5), "scales": (1.0,), "controls": 4},
    "guidance": {"scales": (0.01, 0.1), "controls": 4},
    **{f"relearn-{on}": {"looks": (0, 3), "examples": 20} for on in ("erased", "neighbour", "unrelated")},
}
"""Budgets for a test."""


def launch(name, after, before=g.HONEST, strength=1.0, n=8, seed=0, **budget):
    images, labels = g.real_images(strength=strength)
    budget = {"n": n, **SMALL.get(name, {}), **budget}
    return attack(name, g.model(before), g.model(after), "0", g.JUDGE, seed, images, labels, **budget)


def test_asr_is_what_succeeds_without_attack_and_what_is_new_over_n():
    for plain, attacked in itertools.product(itertools.product((0, 1), repeat=3), repeat=2):
        found = Attacked(torch.tensor(plain).bool(), torch.tensor(attacked).bool(), (), None, 0.0, {})
        new = sum(1 for p, a in zip(plain, attacked, strict=True) if a and not p)
        assert found.pre_asr.rate == sum(plain) / 3
        assert found.asr.rate == (sum(plain) + new) / 3
        assert found.asr.n == found.n == 3
        wilson = binomtest(sum(plain) + new, 3).proportion_ci(0.95, method="wilson")
        assert (found.asr.low, found.asr.high) == (wilson.low, wilson.high)


@pytest.mark.parametrize("name", ATTACKS)
def test_on_the_unedited_model_every_attack_draws_what_the_plain_prompt_does(name):
    found = launch(name, g.HONEST)
    assert found.plain.all()
    assert found.attacked.all()
    assert found.asr.rate == found.pre_asr.rate == 1


def test_where_the_plain_prompt_succeeds_half_the_time_so_do_the_attacks_that_only_ask_otherwise():
    weak = g.HONEST.clone()
    weak[:, 0] *= 0.5  # between a 0 and a blank image
    plain = launch("closed-form", weak, weak, n=100, lam=1e-6).plain
    assert 30 < plain.sum() < 70
    for name, budget in {
        "closed-form": {"lam": 1e-6},
        "inversion": {"steps": 30, "learning_rate": 1e-3},
        "completion": {},
        "relearn-unrelated": {},
    }.items():
        found = launch(name, weak, weak, strength=0.5, n=100, **budget)
        assert torch.equal(found.plain, plain)
        assert (found.attacked ^ plain).float().mean() < 0.15, name


@pytest.mark.parametrize("name", ATTACKS)
def test_a_seed_gives_one_outcome_and_the_models_are_left_as_they_are(name):
    blurred = g.swapped()
    blurred[:, 1] *= 0.5  # succeeds now and then
    before, after = g.model(), g.model(blurred)
    images, labels = g.real_images()

    def once(seed):
        budget = {"n": 16, **SMALL.get(name, {})}
        return attack(name, before, after, "0", g.JUDGE, seed, images, labels, **budget)

    one, two, other = once(0), once(0), once(1)
    assert torch.equal(one.plain, two.plain)
    assert torch.equal(one.attacked, two.attacked)
    assert (one.curve, one.control) == (two.curve, two.control)
    assert one.settings != other.settings
    for model, w in ((before, g.HONEST), (after, blurred)):
        for parameter in model.network.parameters():
            assert torch.equal(parameter, w / 2)
            assert parameter.requires_grad
            assert parameter.grad is None


@pytest.mark.parametrize("name", ATTACKS)
def test_the_whole_budget_is_recorded(name):
    found = launch(name, g.HONEST, n=3, seed=5)
    wanted = {"attack": name, "erased": "0", "seed": 5, **ATTACKS[name].options, **SMALL.get(name, {}), "n": 3}
    assert found.settings == wanted
    assert found.n == 3
    assert found.seconds > 0


def test_default_budgets_draw_fifty_pictures_or_more():
    assert all(50 <= chosen.n <= 100 for chosen in ATTACKS.values())


def test_an_unknown_attack_and_an_unknown_option_are_refused_with_the_known():
    with pytest.raises(UserError, match="unknown attack 'invertion'; known: inversion, closed-form, tokens"):
        launch("invertion", g.HONEST)
    with pytest.raises(UserError, match="inversion has no option 'lam'; it has: n, steps, batch_size"):
        launch("inversion", g.HONEST, lam=1)
    with pytest.raises(UserError, match="at least one picture, not 0"):
        launch("closed-form", g.HONEST, n=0)


def test_what_no_success_can_be_seen_of_is_refused():
    args = ("closed-form", g.model(), g.model())
    with pytest.raises(UserError, match="unknown concept '7'; known: 0, 1, 2, null"):
        attack(*args, "7", g.JUDGE)
    with pytest.raises(UserError, match="the judge knows no 'null'"):
        attack(*args, "null", g.JUDGE)
    with pytest.raises(UserError, match="the judge knows no '0', so it sees no success; it knows: a, b, c, d"):
        attack(*args, "0", replace(g.JUDGE, classes=("a", "b", "c", "d")))


@pytest.mark.parametrize("name", [name for name, chosen in ATTACKS.items() if chosen.real])
def test_attacks_that_need_real_images_say_so(name):
    with pytest.raises(UserError, match=f"{name} needs real images"):
        attack(name, g.model(), g.model(), "0", g.JUDGE)
