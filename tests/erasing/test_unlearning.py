"""Objectives of unlearning against quantiles, densities, a solver and limits; the loop on a tiny network."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.stats import norm
from torch import nn

from pudm_lite.diffusion import Process, noise_schedule
from pudm_lite.draws import generator
from pudm_lite.erasing.unlearning import (
    METHODS,
    Terms,
    ascent,
    constrained,
    descent,
    erasediff,
    follow,
    gradients,
    importance_weights,
    mean_error,
    naive,
    negative_gradient,
    scaled_ascent,
    siss,
    siss_terms,
    uniform_target,
    unlearn,
)
from pudm_lite.errors import UserError

PROCESS = Process(noise_schedule("cosine", 50).float())


def points(values):
    """Numbers as images of one pixel."""
    return torch.as_tensor(np.asarray(values), dtype=torch.float64).view(-1, 1, 1, 1)


def guess(m):
    """An estimate that is good for nothing, so that no term is small by chance."""
    return torch.sin(2 * m) + 0.3 * m**2


@pytest.mark.parametrize("lam", [0.2, 0.5, 0.75])
def test_both_terms_of_siss_are_without_bias(lam):
    """All of the mixture of two Gaussians, by its quantiles, against each Gaussian alone."""
    x, a, ab, n = -0.6, 0.8, 0.4, 100_000
    z_x, z_a = (norm.ppf((np.arange(k) + 0.5) / k) for k in (round((1 - lam) * n), round(lam * n)))
    of_x, of_a = ab**0.5 * x + (1 - ab) ** 0.5 * z_x, ab**0.5 * a + (1 - ab) ** 0.5 * z_a
    m = points(np.concatenate([of_x, of_a]))
    terms = siss_terms(guess(m), m, points([x] * n), points([a] * n), torch.full((n,), ab).double(), lam)
    for term, at, z in ((terms.kept, of_x, z_x), (terms.forgotten, of_a, z_a)):
        alone = float(((guess(points(at)).flatten().numpy() - z) ** 2).mean())
        assert float(term) == pytest.approx(alone, rel=2e-3)


@pytest.mark.parametrize("lam", [0.0, 0.3, 1.0])
def test_weights_are_ratios_of_densities(lam):
    x, a = torch.randn(2, 6, 1, 2, 2, generator=generator(0), dtype=torch.float64)
    ab = torch.linspace(0.2, 0.8, 6, dtype=torch.float64)
    m = x + 0.5
    q_x, q_a = (
        norm.pdf(m, ab.sqrt().view(-1, 1, 1, 1) * v, (1 - ab).sqrt().view(-1, 1, 1, 1)).prod((1, 2, 3)) for v in (x, a)
    )
    w_x, w_a = importance_weights(m, x, a, ab, lam)
    mixture = (1 - lam) * q_x + lam * q_a
    np.testing.assert_allclose(w_x, q_x / mixture, rtol=1e-9)
    np.testing.assert_allclose(w_a, q_a / mixture, rtol=1e-9)
    if lam == 0:
        assert w_x.eq(1).all()  # m is drawn from x: the kept term is naive deletion's
    if lam == 1:
        assert w_a.eq(1).all()


def test_weights_stay_finite_where_the_noise_is_weak():
    x, a = torch.full((2, 1, 28, 28), -1.0), torch.full((2, 1, 28, 28), 1.0)
    ab = torch.full((2,), 0.9999)
    m = ab[0].sqrt() * torch.cat([x[:1], a[:1]])
    w_x, w_a = importance_weights(m, x, a, ab, 0.25)
    torch.testing.assert_close(w_x, torch.tensor([1 / 0.75, 0]))
    torch.testing.assert_close(w_a, torch.tensor([0, 1 / 0.25]))


def knows(x, process=PROCESS):
    """The estimate that knows the image without noise."""

    def eps(x_t, t):
        ab = process.alpha_bar[t].view(-1, 1, 1, 1)
        return (x_t - ab.sqrt() * x) / (1 - ab).sqrt()

    return eps


X, A = torch.rand(2, 200, 1, 4, 4, generator=generator(7)) * 2 - 1


def test_naive_deletion_looks_at_kept_images_alone_and_negative_gradient_at_the_others():
    kept = naive(knows(X), PROCESS, X, A[:0], generator(1))
    assert float(kept.kept) == pytest.approx(0, abs=1e-6)
    assert kept.forgotten is None
    gone = negative_gradient(knows(A), PROCESS, X[:0], A, generator(1))
    assert float(gone.forgotten) == pytest.approx(0, abs=1e-6)
    assert gone.kept is None
    assert float(naive(lambda x, t: 0 * x, PROCESS, X, A, generator(1)).kept) == pytest.approx(1, abs=0.05)


def test_siss_draws_from_each_image_as_often_as_lam_says_and_knows_the_noise_of_both():
    quiet = Process(torch.linspace(0.9999, 0.999, 50))
    seen = []

    def eps(m, t):
        seen.append(m)
        return knows(A, quiet)(m, t)

    terms = siss(eps, quiet, X, A, generator(2), lam=0.25)
    (m,) = seen  # one look for both terms
    nearer_to_a = (m - A).flatten(1).norm(dim=1) < (m - X).flatten(1).norm(dim=1)
    assert float(nearer_to_a.double().mean()) == pytest.approx(0.25, abs=0.1)
    assert float(terms.forgotten) == pytest.approx(0, abs=1e-6)
    assert float(terms.kept) > 1


def test_erasediff_teaches_forgotten_images_a_noise_that_is_uniform():
    target = uniform_target(torch.zeros(50, 1, 28, 28), generator(3))
    assert 0 <= float(target.min()) < 1e-3 < 0.999 < float(target.max()) < 1
    assert float(target.mean()) == pytest.approx(0.5, abs=0.01)
    answer = torch.full((), 0.5, requires_grad=True)
    terms = erasediff(lambda m, t: answer.expand_as(m), PROCESS, X, A, generator(3))
    assert float(terms.forgotten.detach()) == pytest.approx(1 / 12, abs=0.005)  # the variance of a uniform number
    (slope,) = torch.autograd.grad(terms.forgotten, [answer])
    assert float(slope) == pytest.approx(0, abs=0.05)
    assert float(erasediff(knows(torch.cat([X, A])), PROCESS, X, A, generator(3)).kept) == pytest.approx(0, abs=1e-6)


KEPT, FORGOTTEN = torch.randn(2, 5, generator=generator(4), dtype=torch.float64)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("eta", [0.0, 0.1, 2.0])
def test_erasediffs_step_is_the_nearest_that_forgets_enough(sign, eta):
    forgotten = sign * FORGOTTEN
    least = eta * float(forgotten @ forgotten)
    solved = minimize(
        lambda d: ((d - KEPT.numpy()) ** 2).sum(),
        np.zeros(5),
        constraints={"type": "ineq", "fun": lambda d: d @ forgotten.numpy() - least},
        tol=1e-12,
    )
    np.testing.assert_allclose(constrained(KEPT, forgotten, eta), solved.x, atol=1e-4)


def test_sisss_ascent_has_its_share_of_the_descents_length():
    step = scaled_ascent(KEPT, FORGOTTEN, length=0.1)
    pushed = step - KEPT
    assert float(pushed.norm()) == pytest.approx(0.1 * float(KEPT.norm()))
    assert float(pushed @ FORGOTTEN) == pytest.approx(-float(pushed.norm() * FORGOTTEN.norm()))  # straight against it
    torch.testing.assert_close(scaled_ascent(KEPT, 0 * FORGOTTEN, length=0.1), KEPT)


def test_the_two_plain_directions():
    assert torch.equal(descent(KEPT, FORGOTTEN), KEPT)
    assert torch.equal(ascent(KEPT, FORGOTTEN), -FORGOTTEN)


class Small(nn.Module):
    """One convolution, which learns in a few steps what the mean of its images tells of the noise."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3, padding=1)
        nn.init.zeros_(self.conv.weight)
        nn.init.zeros_(self.conv.bias)

    def forward(self, x, t):
        return SimpleNamespace(sample=self.conv(x))


LIGHT = torch.full((40, 1, 8, 8), 230, dtype=torch.uint8)
DARK = torch.full((40, 1, 8, 8), 25, dtype=torch.uint8)


def trained(name, network=None, **settings):
    method = replace(METHODS[name], steps=60, rate=20.0, **settings)
    return unlearn(network or Small(), PROCESS, LIGHT, DARK, method, seed=3)


def ends(found, term):
    """The term's mean over the first and the last ten steps."""
    values = [float(getattr(terms, term)) for terms in found.terms]
    return np.mean(values[:10]), np.mean(values[-10:])


@pytest.mark.parametrize(
    ("name", "term", "falls"),
    [
        ("naive", "kept", True),
        ("negative-gradient", "forgotten", False),
        ("erasediff", "kept", True),
        ("siss", "kept", True),
    ],
)
def test_each_method_moves_its_terms_where_it_should(name, term, falls):
    before, after = ends(trained(name), term)
    assert after < 0.8 * before if falls else after > 1.2 * before


def test_a_stronger_push_forgets_more():
    weak, strong = (ends(trained("siss", push={"length": length}), "forgotten")[1] for length in (0.0, 0.9))
    assert strong > weak + 0.02
    weak, strong = (ends(trained("erasediff", push={"eta": eta}), "forgotten")[1] for eta in (0.0, 5.0))
    assert strong < weak - 0.02


def test_a_seed_repeats_its_run_and_every_step_is_told():
    told = []
    first, again, other = (
        unlearn(Small(), PROCESS, LIGHT, DARK, replace(METHODS["siss"], steps=4), seed, lambda *at: told.append(at))
        for seed in (0, 0, 1)
    )
    assert torch.equal(first.network.conv.weight, again.network.conv.weight)
    assert not torch.equal(first.network.conv.weight, other.network.conv.weight)
    assert told[:4] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert not first.network.training
    assert first.seconds > 0


def test_a_gradient_reaches_its_parameter_as_backward_brings_it():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 3)).to(memory_format=torch.channels_last)
    x = torch.randn(2, 3, 8, 8, generator=generator(5))
    parameters = list(net.parameters())
    kept, forgotten = gradients(Terms(net(x).square().mean(), mean_error(net(x), torch.ones(2, 2, 4, 4))), parameters)
    follow(parameters, 2 * kept - forgotten)
    found = [p.grad.clone() for p in parameters]
    net.zero_grad()
    (2 * net(x).square().mean() - (net(x) - 1).square().mean()).backward()
    for p, grad in zip(parameters, found, strict=True):
        torch.testing.assert_close(grad, p.grad)
    assert gradients(Terms(kept=net(x).mean()), parameters)[1].eq(0).all()


def test_an_error_that_is_no_number_ends_the_run_with_a_sentence():
    network = Small()
    network.conv.bias.data.fill_(float("nan"))
    with pytest.raises(UserError, match="the error is not a finite number any more at step 1: take fewer steps"):
        trained("naive", network)


@pytest.mark.parametrize("name", METHODS)
def test_a_method_records_every_setting(name):
    method = METHODS[name]
    row = method.as_row()
    assert row["kept_per_batch"] == method.kept
    assert {*method.options, *method.push} <= row.keys()
    assert row["batch_size"] == 44


@pytest.mark.parametrize("name", METHODS)
def test_every_method_sends_as_many_images_through_the_network(name):
    seen = []

    class Counting(Small):
        def forward(self, x, t):
            seen.append(len(x))
            return super().forward(x, t)

    trained(name, Counting())
    assert seen == [44] * 60
