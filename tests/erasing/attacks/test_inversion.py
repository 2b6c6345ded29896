import gaussian_digits as g
import torch

from pudm_lite.erasing.attacks.inversion import inversion, inverted

BUDGET = {"steps": 150, "batch_size": 16, "learning_rate": 0.05, "examples": 20}


def test_the_tokens_found_stand_for_the_mean_of_the_real_images():
    """The loss is a square of mu's distance at every t, so its minimum is the least-squares solution whatever t is."""
    target = g.target(g.swapped())
    tokens = inverted(target, **BUDGET)
    images = target.images[target.labels == 0]
    best = torch.linalg.lstsq(g.swapped(), images.mean(0).flatten()[:, None]).solution[:, 0]
    found = g.swapped() @ tokens.mean(0)
    assert torch.allclose(found, g.swapped() @ best, atol=0.05)
    assert tokens.mean(0).argmax() == 1  # the concept that the edit answers as 0


def test_it_undoes_an_edit_that_swaps_two_concepts_and_no_edit_that_loses_one():
    swapped = g.target(g.swapped())
    assert not swapped.drawn(swapped.after.network, swapped.tokens).any()
    assert inversion(swapped, **BUDGET).hits.all()
    assert not inversion(g.target(g.destroyed()), **BUDGET).hits.any()


def test_without_a_step_it_is_the_plain_prompt():
    target = g.target(g.HONEST)
    assert torch.equal(inverted(target, **BUDGET | {"steps": 0}), target.tokens)
