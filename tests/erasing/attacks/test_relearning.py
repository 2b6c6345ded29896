import gaussian_digits as g
import pytest
import torch

from pudm_lite.erasing.attacks.relearning import by_likeness, relearning

BUDGET = {"looks": (0, 20, 60), "batch_size": 16, "learning_rate": 0.02, "examples": 20}


def test_the_neighbour_is_the_concept_most_like_the_erased_one():
    target = g.target(g.HONEST)
    tokens = target.after.concepts.tokens.data
    tokens[2] += 0.5 * tokens[0]
    assert by_likeness(target) == [2, 1]
    tokens[2] -= 1.0 * tokens[0]
    assert by_likeness(target) == [1, 2]


@pytest.mark.parametrize("on", ["erased", "neighbour", "unrelated"])
def test_no_step_changes_nothing(on):
    weak = g.HONEST.clone()
    weak[:, 0] *= 0.5
    target = g.target(weak, n=40)
    plain = target.drawn(target.after.network, target.tokens)
    assert 0 < plain.sum() < 40
    assert torch.equal(relearning(target, on, **BUDGET | {"looks": (0,)}).hits, plain)


def test_images_of_the_erased_concept_bring_it_back_and_unrelated_ones_that_share_no_weight_do_not():
    """A column of W has a gradient only where the prompts have that direction."""
    found = relearning(g.target(g.destroyed()), "erased", **BUDGET)
    assert [at for at, _ in found.curve] == [0, 20, 60]
    assert found.curve[0][1].rate == 0
    assert found.curve[-1][1].rate == 1
    assert found.hits.all()
    target = g.target(g.destroyed())
    target.after.concepts.tokens.data[1] += 0.5 * target.tokens  # so 1 is the neighbour
    assert not relearning(target, "unrelated", **BUDGET).hits.any()
    assert relearning(target, "neighbour", **BUDGET).curve[0][1].rate == 0


def test_each_look_trains_on_from_the_last():
    """At a pace at which a few steps more or less would tell."""
    slow = {**BUDGET, "learning_rate": 0.008}
    looks = [relearning(g.target(g.destroyed()), "erased", **slow | {"looks": at}).curve for at in ((8, 20), (20,))]
    assert looks[0][-1] == looks[1][-1]
    assert 0 < looks[1][-1][1].rate < 1


def test_images_are_learned_with_their_own_concept():
    """Told of the erased one, what an honest model draws for that would become what the images show."""
    assert relearning(g.target(g.HONEST), "unrelated", **BUDGET).hits.all()
