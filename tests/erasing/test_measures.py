"""Rates, harm and the matrix, on verdicts made by hand."""

import math

import pytest
import torch
from tiny_concepts import conditional, lite

from pudm_lite.conditional import Conditional
from pudm_lite.erasing import measures
from pudm_lite.erasing.measures import (
    Drawn,
    draw_prompted,
    drawn,
    erasing_success,
    harm,
    kept_distance,
    preservation_success,
    probabilities,
    spectrum,
)
from pudm_lite.measures.judge import DigitNet, Judge

ROWS = torch.tensor([0, 0, 1, 1, 2, 2])
SAID = torch.tensor(
    [[0.7, 0.2, 0.1], [0.3, 0.6, 0.1], [0.5, 0.3, 0.2], [0.1, 0.8, 0.1], [0.6, 0.3, 0.1], [0, 0.1, 0.9]]
)


def found(probability=SAID, features=None):
    features = torch.zeros(6, 2) if features is None else features
    return Drawn(ROWS, probability, features, torch.zeros(6, 1, 2, 2, dtype=torch.uint8))


def test_the_matrix_counts_what_was_asked_by_what_was_seen():
    assert found().matrix().tolist() == [[1, 1, 0], [1, 1, 0], [1, 0, 1]]


def test_hits_are_among_the_k_likeliest():
    assert found().hit(1).tolist() == [True, False, False, True, False, True]
    assert found().hit(2).tolist() == [True, True, True, True, False, True]


@pytest.mark.parametrize(
    ("erased", "k", "esr", "psr"),
    [([2], 1, 1 / 2, 2 / 4), ([2], 2, 1 / 2, 1.0), ([0], 1, 0.5, 0.5), ([0], 2, 0.0, 0.75), ([0, 2], 1, 0.5, 0.5)],
)
def test_success_of_erasing_and_of_preserving(erased, k, esr, psr):
    gone, kept = erasing_success(found(), erased, k), preservation_success(found(), erased, k)
    assert (gone.rate, kept.rate) == (esr, psr)
    assert (gone.n, kept.n) == (2 * len(erased), 6 - 2 * len(erased))
    assert gone.low <= gone.rate <= gone.high
    # Wilson's interval by its formula
    n, z = kept.n, 1.959964
    middle, half = (psr + z**2 / 2 / n), z * math.sqrt(psr * (1 - psr) / n + z**2 / 4 / n**2)
    assert kept.low == pytest.approx((middle - half) / (1 + z**2 / n), abs=1e-6)


def test_harm_is_the_drop_in_log_probability_of_what_was_asked_for():
    after = SAID.clone()
    after[0] = torch.tensor([0.0, 0.5, 0.5])  # below one in a million counts as that
    after[4] = torch.tensor([0.1, 0.7, 0.2])
    drop = harm(found(), found(after))
    assert drop[0].item() == pytest.approx((math.log(0.7) - math.log(1e-6)) / 2, rel=1e-5)
    assert drop[1].item() == 0
    assert drop[2].item() == pytest.approx((math.log(0.1) - math.log(0.2)) / 2, rel=1e-5)  # it got better


def test_the_distance_leaves_the_erased_out_on_both_sides():
    features = torch.randn(6, 2, generator=torch.Generator().manual_seed(0))
    real, labels = features.clone(), ROWS.clone()
    real[4:] += 100  # of the erased
    assert kept_distance(found(features=features), real, labels, [2]) == pytest.approx(0, abs=1e-6)
    assert kept_distance(found(features=features), real, labels, [0]) > 1000


@pytest.fixture(scope="module")
def judge():
    torch.manual_seed(0)
    return Judge(DigitNet(classes=4).eval(), ("a", "b", "c", "d"), [[1] * 4] * 4, "digits")


@pytest.fixture(scope="module")
def model() -> Conditional:
    return conditional()


def test_probabilities_are_those_of_the_judges_verdict(judge):
    images = torch.randint(0, 256, (5, 1, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    found, features = probabilities(judge, images)
    verdict = judge.look(images)
    torch.testing.assert_close(found.sum(1), torch.ones(5))
    assert torch.equal(found.argmax(1), verdict.classes)
    torch.testing.assert_close(found.max(1).values, verdict.confidence)
    assert torch.equal(features, verdict.features)


def test_pictures_of_a_seed_are_pairs_and_each_follows_its_prompt(judge, model):
    seen = drawn(model.network, model, judge, 2, seed=3)
    assert seen.rows.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert torch.equal(seen.images, draw_prompted(model.network, model, seen.rows, 3))
    alone = draw_prompted(model.network, model, torch.tensor([0, 0, 3]), 3)
    assert (alone[:2].int() - seen.images[:2].int()).abs().max() <= 1
    assert not torch.equal(alone[2], seen.images[2])  # the same noise, another prompt


def test_the_ends_of_a_spectrum_are_the_concepts_themselves(judge, model):
    a, b = model.concepts.tokens.data[:2]
    before, after = spectrum(model, model.network, a, a, 2, judge, seed=1, n=3)
    assert before.shape == (2, 4)
    assert (before == after).all()
    assert before.sum(1).tolist() == pytest.approx([1, 1])
    (both, _) = spectrum(model, model.network, a, b, 2, judge, seed=1, n=3)
    assert (both[0] == before[0]).all()


def test_seed_and_guidance_count(judge, model):
    rows = torch.arange(4)
    plain, guided = (draw_prompted(model.network, model, rows, 3, guidance) for guidance in (1.0, 3.0))
    assert not torch.equal(plain, guided)
    assert not torch.equal(plain, draw_prompted(model.network, model, rows, 4))
    assert torch.equal(drawn(model.network, model, judge, 1, 3, 3.0).images, guided)


def test_a_spectrum_is_of_both_networks_along_the_line_at_one_spread(judge, model, monkeypatch):
    asked, after = [], lite(seed=1)

    def draw(network, process, n, *how, prompts):
        asked.append((network, prompts))
        return torch.zeros(n, 1, 28, 28, dtype=torch.uint8)

    monkeypatch.setattr(measures, "draw", draw)
    a, b = model.concepts.tokens.data[:2]
    spectrum(model, after, a, b, 3, judge, seed=1, n=2)
    assert [network for network, _ in asked] == [model.network, after]
    middle = (a + b) / 2
    expected = torch.stack([a, middle * a.std() / middle.std(), b * a.std() / b.std()]).repeat_interleave(2, 0)
    for _, prompts in asked:
        torch.testing.assert_close(prompts, expected)
