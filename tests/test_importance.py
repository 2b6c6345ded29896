"""Uneven draws of t, undone by weights: means are kept, their variance falls, nothing is lost on the way."""

import pytest
import torch

from pudm_lite.diffusion import quantiles
from pudm_lite.importance import BINS, KEEP, UNIFORM_SHARE, UNIFORM_STEPS, Importance


def learned(errors, steps=1000, updates=300, seed=0):
    """An estimate that has seen l = errors[t], at t drawn as it says itself."""
    found, g = Importance(steps), torch.Generator().manual_seed(seed)
    for _ in range(updates):
        t, _ = found.draw(quantiles(64, "stratified", g))
        found.update(found.sums(t, errors[t]))
    return found


def falling(steps=1000):
    return torch.logspace(2, -2, steps, dtype=torch.float64)


@pytest.mark.parametrize("steps", [1000, 50, 130, 20])
def test_weighted_means_are_those_of_uniform_draws(steps):
    """Every quantile of a fine grid at once: the mean of w f(t) is the mean of f, exactly up to the grid."""
    found = learned(falling(steps), steps)
    t, w = found.draw((torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000)
    assert 0 <= int(t.min()) <= int(t.max()) == steps - 1
    f = torch.randn(steps, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert float((w.double() * f[t]).mean()) == pytest.approx(float(f.mean()), abs=2e-3)
    assert float(w.double().mean()) == pytest.approx(1, abs=1e-3)
    assert float(w.max()) <= 1 / UNIFORM_SHARE + 1e-4


def test_parts_are_drawn_by_the_root_of_their_mean_square():
    found = learned(falling())
    roots = falling().view(BINS, -1).square().mean(1).sqrt()
    wanted = (1 - UNIFORM_SHARE) * roots / roots.sum() + UNIFORM_SHARE / BINS
    torch.testing.assert_close(found.shares(), wanted, rtol=0.1, atol=1e-4)


def test_the_variance_of_the_mean_error_falls():
    errors, g = falling(), torch.Generator().manual_seed(3)
    found = learned(errors)

    def spread(importance):
        means = []
        for _ in range(400):
            t, w = importance.draw(torch.rand(16, generator=g, dtype=torch.float64))
            means.append(float((w * errors[t]).mean()))
        return torch.tensor(means).std(), torch.tensor(means).mean()

    (uneven, mean), (even, _) = spread(found), spread(Importance(1000))
    assert uneven < even / 3
    assert float(mean) == pytest.approx(float(errors.mean()), rel=0.05)


def test_it_starts_uniform_and_says_weight_one():
    found = Importance(1000)
    for _ in range(UNIFORM_STEPS):
        at = torch.rand(9, dtype=torch.float64)
        t, w = found.draw(at)
        assert torch.equal(t, (at * 1000).long())
        torch.testing.assert_close(w, torch.ones(9))
        found.update(found.sums(t, falling()[t]))
    assert float(found.draw(torch.zeros(1, dtype=torch.float64))[1]) != 1


def test_a_running_mean_by_hand():
    found = Importance(100)
    found.updates = 1000
    found.squares[:] = 4.0
    found.update(found.sums(torch.tensor([0, 1, 2]), torch.tensor([1.0, 3.0, 7.0])))  # two in part 0, one in part 1
    assert float(found.squares[0]) == pytest.approx(KEEP**2 * 4 + (1 - KEEP**2) * (1 + 9) / 2)
    assert float(found.squares[1]) == pytest.approx(KEEP * 4 + (1 - KEEP) * 49)
    assert (found.squares[2:] == 4).all()


def test_sums_of_pieces_add_up_and_the_state_comes_back():
    found, g = learned(falling(), updates=30), torch.Generator().manual_seed(4)
    t = torch.randint(1000, (40,), generator=g)
    whole = found.sums(t, falling()[t])
    torch.testing.assert_close(whole, found.sums(t[:7], falling()[t[:7]]) + found.sums(t[7:], falling()[t[7:]]))
    other = Importance(1000)
    other.load_state_dict(found.state_dict())
    at = torch.rand(50, dtype=torch.float64, generator=g)
    assert all(torch.equal(a, b) for a, b in zip(found.draw(at), other.draw(at), strict=True))
