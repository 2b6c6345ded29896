import gaussian_digits as g
import pytest
import torch
from scipy.optimize import minimize

from pudm_lite.erasing.attacks.token_search import one_hot_draw, onto_simplex, token_search, vocabulary

BUDGET = {"extra": 4, "rounds": 4, "iterations": 15, "learning_rate": 0.1, "weight_decay": 0.1, "examples": 20}


def test_the_projection_is_the_solution_of_the_quadratic_programme():
    draws = torch.Generator().manual_seed(0)
    for v in torch.randn(12, 7, generator=draws, dtype=torch.float64) * 2:
        solved = minimize(
            lambda w, v=v: ((w - v.numpy()) ** 2).sum(),
            torch.full((7,), 1 / 7).numpy(),
            jac=lambda w, v=v: 2 * (w - v.numpy()),
            bounds=[(0, None)] * 7,
            constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": lambda w: w * 0 + 1},
            options={"ftol": 1e-14, "maxiter": 500},
        )
        assert torch.allclose(onto_simplex(v), torch.tensor(solved.x), atol=1e-6)


def test_the_projection_leaves_the_simplex_as_it_is_and_takes_any_shape():
    w = torch.rand(3, 4, 5, generator=torch.Generator().manual_seed(0)).softmax(-1)
    assert torch.allclose(onto_simplex(w), w, atol=1e-6)
    assert torch.allclose(onto_simplex(w + 7.0), w, atol=1e-5)  # along (1, ..., 1) nothing changes
    assert onto_simplex(torch.tensor([5.0, 0.0, 1.0])).tolist() == [1, 0, 0]
    assert onto_simplex(torch.tensor([[0.7, 0.7, -1.0]])).tolist() == [[0.5, 0.5, 0]]


def test_tokens_are_drawn_by_their_weights_and_the_gradient_passes_to_the_weights():
    weights = torch.tensor([[0.6, 0.3, 0.1], [0.0, 1.0, 0.0]]).expand(4000, 2, 3).clone().requires_grad_(True)
    drawn = one_hot_draw(weights, torch.Generator().manual_seed(0))
    assert torch.allclose(drawn.max(-1).values, torch.ones(4000, 2))
    assert torch.allclose(drawn.mean(0), weights[0], atol=0.03)
    slope = torch.randn(3)
    (gradient,) = torch.autograd.grad((drawn * slope).sum(), [weights])
    assert torch.allclose(gradient, slope.expand_as(gradient))


def test_the_words_are_the_tokens_of_all_concepts_without_null_and_random_ones():
    words = vocabulary(g.target(g.HONEST), 5)
    assert words.shape == (3 * g.TOKENS + 5, g.DIM)
    assert torch.equal(words[: 3 * g.TOKENS], torch.eye(g.DIM)[:3].repeat_interleave(g.TOKENS, 0))
    assert torch.equal(words, vocabulary(g.target(g.HONEST), 5))


def test_it_finds_the_words_that_outweigh_a_swapped_concept():
    """A prefix of eight tokens of 1 before the two of 0: their mean is nearest to what is drawn as a 0."""
    target = g.target(g.swapped())
    found = token_search(target, prefix=8, **BUDGET)
    assert found.hits.float().mean() > 0.8
    shares = [rate.rate for _, rate in found.curve]
    assert shares == sorted(shares)
    assert len(shares) == 4
    assert not token_search(g.target(g.destroyed()), prefix=8, **BUDGET).hits.any()


def test_too_few_words_before_it_cannot_outweigh_a_concept():
    """Random directions aside, one token of ten before two: the mean stays nearer to what the two stand for."""
    found = token_search(g.target(g.swapped()), prefix=1, **BUDGET | {"extra": 0})
    assert not found.hits.any()


@pytest.mark.parametrize("n", [5, 23])
def test_each_picture_has_a_real_image_of_its_own_in_turn(n):
    assert len(token_search(g.target(g.HONEST, n=n), prefix=1, **BUDGET | {"rounds": 1}).hits) == n
