"""Closed forms against least-squares solvers."""

import pytest
import torch
from tiny_concepts import conditional, scene

from pudm_lite.erasing.uce import edited, keys_and_values, recovered, uce


def drawn(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape))).double()


@pytest.mark.parametrize("lam", [0.5, 3.0])
@pytest.mark.parametrize("kept", [0, 5])
def test_the_edit_is_the_least_squares_solution(lam, kept):
    """Each row of W' answers its own problem: tokens as rows, and sqrt(lam) of the old row for the ridge."""
    w, c, v, k = drawn(6, 8), drawn(4, 8), drawn(4, 8) + 1, drawn(kept, 8)
    left = torch.cat([c, k, lam**0.5 * torch.eye(8).double()])
    right = torch.cat([v @ w.T, k @ w.T, lam**0.5 * w.T])
    torch.testing.assert_close(edited(w, c, v, k, lam), torch.linalg.lstsq(left, right).solution.T)


def test_an_edit_of_what_already_holds_changes_nothing():
    w, c, k = drawn(6, 8), drawn(4, 8), drawn(5, 8)
    torch.testing.assert_close(edited(w, c, c, k), w)


def test_recovered_tokens_are_the_least_squares_solution():
    before, after, tokens = [drawn(6, 8), drawn(5, 8)], [drawn(6, 8) + 1, drawn(5, 8) - 1], drawn(4, 8)
    left = torch.cat([*after, 0.1**0.5 * torch.eye(8).double()])
    right = torch.cat([*(w @ tokens.T for w in before), torch.zeros(8, 4).double()])
    torch.testing.assert_close(recovered(before, after, tokens), torch.linalg.lstsq(left, right).solution.T)


def test_recovered_tokens_of_an_invertible_edit_are_answered_as_before():
    before, after, tokens = [drawn(12, 8)], [drawn(12, 8) @ drawn(8, 8)], drawn(4, 8)
    found = recovered(before, after, tokens, lam=1e-9)
    torch.testing.assert_close(found @ after[0].T, tokens @ before[0].T, atol=1e-5, rtol=1e-5)


def outputs(network, tokens):
    return torch.cat([tokens @ weight.T for weight in keys_and_values(network)], -1)


def test_erased_concepts_are_answered_as_null_and_the_others_as_before():
    """Of one token each, so that there is room for an exact edit."""
    found = scene(conditional(per_concept=1), erased=("b",))
    before = outputs(found.student, found.model.concepts.tokens.data)
    uce(found, lam=1e-7)
    after = outputs(found.student, found.model.concepts.tokens.data)
    torch.testing.assert_close(after[1], before[-1], atol=1e-3, rtol=1e-3)
    rows = [0, 2, 3, 4]
    torch.testing.assert_close(after[rows], before[rows], atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(outputs(found.model.network, found.model.concepts.tokens.data), before)


def test_with_nothing_preserved_neighbours_change():
    found = scene(conditional(per_concept=1), erased=("b",))
    before = outputs(found.student, found.model.concepts.tokens.data)
    uce(found, preserve=False, lam=1e-7)
    after = outputs(found.student, found.model.concepts.tokens.data)
    torch.testing.assert_close(after[1], before[-1], atol=1e-3, rtol=1e-3)
    assert (after[0] - before[0]).abs().max() > 0.01


def test_a_ridge_as_large_as_a_token_leaves_much_in_place():
    w, c = drawn(6, 8), torch.nn.functional.normalize(drawn(1, 8))
    left = edited(w, c, torch.zeros(1, 8), c[:0], lam=0.5) @ c[0]
    torch.testing.assert_close(left, w @ c[0] / 3)  # lam / (lam + 1)
