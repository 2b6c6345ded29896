"""Selective Amnesia: its Fisher information, its penalty, its surrogate."""

import pytest
import torch
from tiny_concepts import nudged, scene

from pudm_lite.erasing.layers import only
from pudm_lite.erasing.selective_amnesia import drift, fisher, selective_amnesia


def test_fisher_is_the_mean_of_squared_gradients_of_single_examples():
    """Of a regression with noise of unit variance, whose l is half a square: the gradient is (x w + b - y) x."""
    draws = torch.Generator().manual_seed(0)
    x, y = torch.randn(50, 3, generator=draws), torch.randn(50, generator=draws)
    w, b, unused = (torch.randn(size, generator=draws, requires_grad=True) for size in (3, 1, 2))
    losses = (0.5 * (x[i] @ w + b - y[i]).square().sum() for i in range(50))
    of_w, of_b, of_unused = fisher(losses, [w, b, unused])
    gap = (x @ w + b - y).detach()
    torch.testing.assert_close(of_w, (gap[:, None] * x).square().mean(0))
    torch.testing.assert_close(of_b, gap.square().mean(0, keepdim=True))
    assert of_unused.tolist() == [0, 0]


def test_fisher_at_the_truth_is_the_information_of_a_gaussian():
    """E (d l / d mean)^2 = 1 / variance, for l = (x - mean)^2 / (2 variance)."""
    x = 2 * torch.randn(1500, generator=torch.Generator().manual_seed(1)) + 5
    mean = torch.tensor(5.0, requires_grad=True)
    (information,) = fisher(((value - mean).square() / 8 for value in x), [mean])
    assert information.item() == pytest.approx(1 / 4, rel=0.12)


def test_drift_is_a_weighted_square():
    now, before = [torch.tensor([1.0, 2.0]), torch.tensor([[3.0]])], [torch.tensor([0.0, 4.0]), torch.tensor([[1.0]])]
    assert drift(now, before, [torch.tensor([1.0, 0.5]), torch.tensor([[10.0]])]).item() == 1 + 2 + 40


def test_the_objective_is_forgetting_plus_replay_plus_drift(monkeypatch):
    found, seen = scene(), []
    only(found.student, "all")
    student = found.eps_student
    found.eps_student = lambda x, t, tokens: (seen.append((x, t, tokens)), student(x, t, tokens))[1]
    objective = selective_amnesia(found, gamma=2.0, lam=0.0, examples=3)
    assert [len(x) for x, _, _ in seen] == [1, 1, 1]
    noised, drawn = found.noised, []
    monkeypatch.setattr(found, "noised", lambda *given: drawn.append((given[0], *noised(*given))) or drawn[-1][1:])
    value = objective(0)
    ((x0, noisy, eps),) = drawn
    x, t, tokens = seen[-1]
    assert torch.equal(x, noisy.x)
    assert torch.equal(tokens[:2], found.tokens(torch.tensor([0, 0])))  # surrogate images are told the erased concept
    assert not (noisy.row[2:] == 0).any()  # and what is replayed is of the others
    assert torch.equal(tokens[2:], found.tokens(noisy.row[2:]))
    assert (x0[:2].abs() <= 1).all()
    assert len(x0[:2].unique()) == 128  # noise, and no picture of two values
    assert x0[:2].min() < -0.5 < 0.5 < x0[:2].max()
    assert set(x0[2:].unique().tolist()) == {-1, 1}
    with torch.no_grad():
        sums = (student(x, t, tokens) - eps).square().sum((1, 2, 3))
    torch.testing.assert_close(value.detach(), sums[:2].mean() + 2 * sums[2:].mean())


def test_the_penalty_is_what_lam_adds_and_is_nothing_at_the_start():
    found = scene()
    only(found.student, "attn2")
    free, held = (selective_amnesia(found, lam=lam, examples=3) for lam in (0.0, 5.0))
    assert free(0).item() == held(0).item()
    before = [p.detach().clone() for p in found.trained]
    weights = fisher((objective_of(found, step) for step in range(3)), found.trained)
    nudged(found)
    moved = [p.detach() for p in found.trained]
    expected = 5 * sum((w * (p - b) ** 2).sum().item() for w, p, b in zip(weights, moved, before, strict=True))
    assert held(0).item() - free(0).item() == pytest.approx(expected, rel=2e-3)


def objective_of(found, step):
    """l(x, c) of the example that the Fisher information takes at a step."""
    everything = torch.cat([found.real(erased=True), found.real(erased=False)])
    noisy, eps = found.of_real(found.pick(everything, 3, 0)[step : step + 1], step)
    return (found.eps_student(noisy.x, noisy.t, found.tokens(noisy.row)) - eps).square().sum()


def test_surrogate_and_noise_are_drawn_by_seed_and_step():
    def drawn(seed, step):
        found, seen = scene(seed=seed), []
        only(found.student, "attn2")
        objective, noised = selective_amnesia(found, examples=1), found.noised
        found.noised = lambda *given: (seen.append((given[0][:2], noised(*given)[1])), noised(*given))[1]
        objective(step)
        return seen[0]

    one, again, later, other = drawn(0, 0), drawn(0, 0), drawn(0, 1), drawn(1, 0)
    for part in (0, 1):
        assert torch.equal(one[part], again[part])
        assert not torch.equal(one[part], later[part])
        assert not torch.equal(one[part], other[part])
