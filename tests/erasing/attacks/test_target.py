import gaussian_digits as g
import pytest
import torch

from pudm_lite.draws import generator
from pudm_lite.erasing.attacks.target import best_of
from pudm_lite.erasing.measures import draw_prompted
from pudm_lite.errors import UserError


def test_a_picture_starts_from_the_noise_that_the_measures_give_it():
    target = g.target(g.HONEST, n=6, seed=3)
    rows = torch.zeros(6, dtype=torch.int64)
    images = draw_prompted(target.after.network, target.after, rows, 3)
    seen = []
    object.__setattr__(target, "judge", g.JUDGE)
    looked = type(target).hits
    hits = target.drawn(target.after.network, target.tokens)
    assert torch.equal(hits, looked(target, images))
    assert hits.all()
    assert not seen


def test_a_hit_is_what_the_judge_calls_the_erased_concept():
    target = g.target(g.HONEST, n=4)
    assert not target.drawn(target.after.network, target.after.concepts.tokens.data[1]).any()
    mixed = target.after.concepts.tokens.data[[0, 1, 0, 2]]
    assert target.drawn(target.after.network, mixed).tolist() == [True, False, True, False]


def test_best_of_counts_a_picture_once_and_asks_for_the_others_alone():
    answers = [[0, 1, 0, 0], [1, 0, 0], [0, 0], [0, 1]]  # of those left
    asked = []

    def attempt(number):
        def of(left):
            asked.append(left.tolist())
            return torch.tensor(answers[number], dtype=torch.bool)

        return of

    found = best_of([attempt(i) for i in range(4)], 4)
    assert asked == [[0, 1, 2, 3], [0, 2, 3], [2, 3], [2, 3]]
    assert found.hits.tolist() == [True, True, False, True]
    assert [(at, rate.rate) for at, rate in found.curve] == [(1, 0.25), (2, 0.5), (3, 0.5), (4, 0.75)]


def test_nobody_is_asked_once_all_have_succeeded():
    found = best_of([lambda left: torch.ones(len(left), dtype=torch.bool), pytest.fail], 3)
    assert found.hits.all()
    assert [rate.rate for _, rate in found.curve] == [1, 1]


def test_controls_ask_for_every_kept_concept_in_turn_and_never_for_the_erased_one():
    target = g.target(g.HONEST)
    told = target.negatives(5).mean(1).argmax(1)
    assert told.tolist() == [1, 2, 1, 2, 1]


def test_real_images_are_of_the_concept_asked_for_and_too_few_are_refused():
    target = g.target(g.HONEST)
    images, labels = target.real([2], 20)
    assert labels.tolist() == [2] * 20
    assert torch.equal(images, g.real_images()[0][40:])
    with pytest.raises(UserError, match="takes 21 real images of 2, and 20 are given"):
        target.real([2], 21)


def test_an_attacks_own_draws_are_of_its_seed_and_of_no_picture():
    a, b = g.target(g.HONEST, seed=0), g.target(g.HONEST, seed=1)
    own = {a.draws(1, 0).initial_seed(), a.draws(1, 1).initial_seed(), a.draws(2, 0).initial_seed()}
    pictures = {generator(0, i).initial_seed() for i in range(50)}
    assert len(own) == 3
    assert not own & pictures
    assert a.draws(1, 0).initial_seed() != b.draws(1, 0).initial_seed()
    assert a.other_seed(4, 0) != a.other_seed(4, 1)
