"""AGE: the searched target, and which terms move the search."""

import pytest
import torch
from tiny_concepts import nudged, scene

from pudm_lite.erasing import age as module
from pudm_lite.erasing.age import age, targeted_term
from pudm_lite.erasing.esd import erasing_term
from pudm_lite.erasing.preservation import preserving_term


def test_with_null_for_its_target_it_is_esd():
    found = nudged(scene())
    torch.testing.assert_close(targeted_term(found, found.null, 2, 0.7), erasing_term(found, 2, 0.7))


def test_the_target_is_pushed_away_from_the_erased():
    found = nudged(scene())
    at, told = found.of_erased(1)
    with torch.no_grad():
        aim = found.eps_teacher(at.x, at.t, found.space[1].expand(4, -1, -1))
        gap = found.eps_student(at.x, at.t, told) - (2 * aim - found.eps_teacher(at.x, at.t, told))
    torch.testing.assert_close(targeted_term(found, found.space[1], 1, 1.0).detach(), gap.square().mean((1, 2, 3)))


def test_the_gradient_reaches_the_target_through_the_teacher():
    """By finite differences, along the gradient itself."""
    found = nudged(scene())
    tokens = found.space[1].clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(targeted_term(found, tokens, 0, 1.0).mean(), [tokens])
    size = gradient.norm()
    with torch.no_grad():
        up, down = (targeted_term(found, tokens + h * gradient / size, 0, 1.0).mean() for h in (0.05, -0.05))
    assert ((up - down) / 0.1).item() == pytest.approx(size.item(), rel=0.02)


@pytest.mark.parametrize("cut", [False, True])
def test_the_search_rises_on_both_terms_and_cut_on_the_second_alone(cut, monkeypatch):
    found, given = nudged(scene()), []
    monkeypatch.setattr(module, "ascent", lambda scene, gain, *how: given.append((gain, how)))
    age(found, lam=0.5, rate=0.2, temperature=0.3, inner=4, cut=cut)
    ((gain, how),) = given
    assert how == (0.2, 0.3, 4)
    row = torch.tensor(1)
    expected = 0.5 * preserving_term(found, found.space[1], row, 0)
    if not cut:
        expected = expected + targeted_term(found, found.space[1], 0, 1.0)
    torch.testing.assert_close(gain(found, found.space[1], row, 0), expected)


def test_the_objective_descends_on_what_was_found(monkeypatch):
    found = nudged(scene())
    monkeypatch.setattr(module, "ascent", lambda *a: lambda step: (found.space[2], torch.tensor(2)))
    expected = targeted_term(found, found.space[2], 3, 1.0).mean()
    expected = expected + 2 * preserving_term(found, found.space[2], torch.tensor(2), 3).mean()
    torch.testing.assert_close(age(found, lam=2.0)(3), expected)
