"""The toy, against autograd, finite differences, Monte Carlo and scipy: whatever it calls exact is exact."""

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from pudm_lite.course import toy
from pudm_lite.diffusion import ell, q_sample
from pudm_lite.draws import generator
from pudm_lite.errors import UserError
from pudm_lite.risks import METHODS, pnu, upu

PROCESS = toy.toy_process(50)


def doubles(p):
    return toy.Gaussians(p.weights.double() / p.weights.double().sum(), p.means.double(), p.stds.double())


P_N, P_S = doubles(toy.normal_toy()), doubles(toy.sensitive_toy())
P_U = toy.mixture(P_S, P_N, 0.2)
X = 0.7 * torch.randn(20, 2, generator=generator(1), dtype=torch.float64)


def pools(n=60_000):
    g = generator(2)
    l_u, l_s, l_n = (k * (0.05 + torch.rand(n, generator=g, dtype=torch.float64)) ** 2 for k in (1, 3, 1))
    return l_u, l_s, l_n


@pytest.mark.parametrize("alpha_bar", [1.0, 0.6, 0.01])
def test_log_density_is_that_of_scipy(alpha_bar):
    want = sum(
        w * stats.multivariate_normal(alpha_bar**0.5 * m, alpha_bar * s**2 + 1 - alpha_bar).pdf(X.numpy())
        for w, m, s in zip(P_U.weights.numpy(), P_U.means.numpy(), P_U.stds.numpy(), strict=True)
    )
    np.testing.assert_allclose(P_U.density(X, alpha_bar), want, rtol=1e-10)


@pytest.mark.parametrize("p", [P_N, P_S, P_U], ids=["p_N", "p_S", "p_U"])
def test_a_density_integrates_to_one(p):
    axis = torch.linspace(-2, 2, 801, dtype=torch.float64)
    values = p.density(torch.cartesian_prod(axis, axis))
    assert float(values.sum() * (axis[1] - axis[0]) ** 2) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("alpha_bar", [1.0, 0.7, 0.05])
def test_score_is_the_gradient_by_autograd_and_by_differences(alpha_bar):
    x = X.clone().requires_grad_()
    (by_autograd,) = torch.autograd.grad(P_U.log_density(x, alpha_bar).sum(), x)
    score = P_U.score(X, torch.full((len(X),), alpha_bar, dtype=torch.float64))
    torch.testing.assert_close(score, by_autograd)
    for k in range(2):
        step = torch.zeros(2, dtype=torch.float64)
        step[k] = 1e-6
        slope = (P_U.log_density(X + step, alpha_bar) - P_U.log_density(X - step, alpha_bar)) / 2e-6
        torch.testing.assert_close(score[:, k], slope, rtol=1e-5, atol=1e-5)


def test_samples_have_the_mean_and_the_spread():
    x = P_U.sample(100_000, generator(3))
    torch.testing.assert_close(x.mean(0), P_U.mean(), atol=0.01, rtol=0)
    torch.testing.assert_close((x - x.mean(0)).square().sum(1).mean(), P_U.spread(), rtol=0.01, atol=0)
    assert x.abs().max() < 1.3  # nearly all of it inside the range that the samplers clip to
    assert (x.abs() < 1).all(1).float().mean() > 0.995


def test_mixture_is_eq_13_and_14():
    torch.testing.assert_close(P_U.density(X), 0.2 * P_S.density(X) + 0.8 * P_N.density(X))
    torch.testing.assert_close(0.8 * P_N.density(X), P_U.density(X) - 0.2 * P_S.density(X))


@pytest.mark.parametrize("t", [2, 20, 45])
def test_exact_eps_is_the_mean_of_the_noise_given_x_t(t):
    """Bayes by Monte Carlo: E[eps | x_t], weighing draws of x_0 by q(x_t | x_0)."""
    ab = PROCESS.alpha_bar[t].double()
    x0 = P_U.sample(400_000, generator(4))
    network = toy.exact_eps(P_U, PROCESS.alpha_bar)
    for x_t in ab.sqrt() * torch.tensor([[0.4, 0.3], [-0.5, 0.1]], dtype=torch.float64):
        eps = (x_t - ab.sqrt() * x0) / (1 - ab).sqrt()
        weight = (-eps.square().sum(1) / 2).softmax(0)
        got = network(toy.as_images(x_t[None]), torch.tensor([t])).flatten()
        torch.testing.assert_close(got, weight @ eps, atol=0.03, rtol=0.03)


def test_exact_eps_has_the_least_error():
    x0 = toy.as_images(P_U.sample(40_000, generator(5)))
    t = torch.randint(50, (len(x0),), generator=generator(6))
    eps = torch.randn(x0.shape, generator=generator(7), dtype=torch.float64)
    best = toy.exact_eps(P_U, PROCESS.alpha_bar)
    error = ell(best, x0, t, eps, PROCESS, 2.0).mean()
    for other in (
        toy.exact_eps(P_N, PROCESS.alpha_bar),
        toy.exact_eps(P_S, PROCESS.alpha_bar),
        lambda x, t: 0.95 * best(x, t),
        lambda x, t: best(x, t) + 0.1,
    ):
        assert ell(other, x0, t, eps, PROCESS, 2.0).mean() > error


def test_sampling_with_exact_eps_gives_the_distribution():
    process = toy.toy_process()
    for p, share in ((toy.normal_toy(), 0.0), (toy.mixture(toy.sensitive_toy(), toy.normal_toy(), 0.2), 0.2)):
        x = toy.draw_samples(toy.exact_eps(p, process.alpha_bar), process, 1500, 50)
        assert x.shape == (1500, 2)
        assert toy.sensitive_share(x, toy.sensitive_toy(), toy.normal_toy()) == pytest.approx(share, abs=0.04)
        torch.testing.assert_close(x.mean(0), p.mean(), atol=0.06, rtol=0)


def test_the_judge_agrees_with_bayes_on_known_points():
    labelled = torch.cat([P_S.sample(2000, generator(8)), P_N.sample(2000, generator(9))])
    assert toy.sensitive_share(labelled[:2000], P_S, P_N) > 0.97
    assert toy.sensitive_share(labelled[2000:], P_S, P_N) < 0.03


def test_one_gaussian_error_is_the_expectation_of_ell():
    centre, std = torch.tensor([0.3, -0.2]).double(), 0.4
    x0 = torch.tensor([[0.1, 0.5], [-0.9, 0.0], [0.3, -0.2]]).double()
    one = toy.Gaussians(torch.ones(1).double(), centre[None], torch.tensor([std]).double())
    network = toy.exact_eps(one, PROCESS.alpha_bar)
    want = toy.one_gaussian_error(x0, centre, std, PROCESS.alpha_bar)
    assert want.shape == (3,)
    many = toy.as_images(x0.repeat_interleave(60_000, 0))
    t = torch.randint(50, (len(many),), generator=generator(10))
    eps = torch.randn(many.shape, generator=generator(11), dtype=torch.float64)
    got = ell(network, many, t, eps, PROCESS, 2.0).view(3, -1).mean(1)
    torch.testing.assert_close(got, want, rtol=0.03, atol=0)
    grid = toy.one_gaussian_error(x0, torch.stack([centre, -centre]), std, PROCESS.alpha_bar)
    torch.testing.assert_close(grid[0], want)
    assert grid.shape == (2, 3)


def test_errors_are_ell_with_the_same_draws_for_every_network():
    points = P_N.sample(30, generator(12)).float()
    zero = toy.errors(lambda x, t: torch.zeros_like(x), points, PROCESS, seed=3, draws=2)
    half = toy.errors(lambda x, t: torch.zeros_like(x), points, PROCESS, seed=3, draws=2, ell_scale=1.0)
    assert zero.shape == (60,)
    torch.testing.assert_close(zero, 2 * half)
    # a network that is told alpha_bar and x_0 finds eps: the error is 0
    x0 = toy.as_images(points.repeat(2, 1))

    def all_knowing(x_t, t):
        still = q_sample(x0, t, torch.zeros_like(x0), PROCESS.alpha_bar)
        return (x_t - still) / (1 - PROCESS.alpha_bar[t]).sqrt().view(-1, 1, 1, 1)

    assert toy.errors(all_knowing, points, PROCESS, seed=3, draws=2).max() < 1e-4


def test_split_holds_the_share():
    data = toy.toy_split(toy.sensitive_toy(), toy.normal_toy(), 0.2, 50, 7, 3, held=40)
    assert [len(x) for x in (data.u, data.s, data.n, data.held_u, data.held_s)] == [50, 7, 3, 40, 40]
    assert int(data.u_sensitive.sum()) == 10
    again = toy.toy_split(toy.sensitive_toy(), toy.normal_toy(), 0.2, 50, 7, 3, held=40)
    assert torch.equal(data.u, again.u)


@pytest.fixture(scope="module")
def data():
    return toy.toy_split(toy.sensitive_toy(), toy.normal_toy(), 0.2, 100, 8, 8, held=200)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_and_repeats_itself(data, method):
    first, second = (toy.train(data, method, 0.2, 4, PROCESS, width=16, size=16, every=2) for _ in range(2))
    assert first.log["step"].tolist() == [0, 2, 4]
    for name, values in first.log.items():
        assert torch.isfinite(values).all()
        assert torch.equal(values, second.log[name])
    torch.testing.assert_close(
        first.log["normal_risk"], first.log["L_U_minus"] - 0.2 * first.log["L_S_minus"], rtol=1e-5, atol=1e-6
    )


def test_training_leaves_the_global_generator_alone(data):
    before = torch.random.get_rng_state()
    toy.train(data, "nnpu", 0.2, 1, PROCESS, width=8, size=8)
    assert torch.equal(before, torch.random.get_rng_state())


def test_training_lowers_the_error_towards_the_exact_one(data):
    process = toy.toy_process()
    log = toy.train(data, "unsupervised", 0.2, 150, process, width=32, size=64, learning_rate=5e-3, every=150).log
    u = toy.mixture(toy.sensitive_toy(), toy.normal_toy(), 0.2)
    floor = toy.errors(toy.exact_eps(u, process.alpha_bar), u.sample(5000, generator(13)), process, 0).mean()
    assert floor < log["held_L_U_minus"][-1] < 0.6 * log["held_L_U_minus"][0]


def test_user_mistakes_get_a_sentence(data):
    empty = toy.Split(data.u, data.u_sensitive, data.s[:0], data.n, data.held_u, data.held_s)
    with pytest.raises(UserError, match="at least one"):
        toy.train(empty, "nnpu", 0.2, 1, PROCESS)
    with pytest.raises(UserError, match="no longer finite"):
        toy.train(data, "upu", 0.2, 60, PROCESS, width=16, size=16, learning_rate=1e12)
    with pytest.raises(ValueError, match="unknown method"):
        toy.train(data, "magic", 0.2, 1, PROCESS)
    with pytest.raises(ValueError, match="beta must lie"):
        toy.mixture(P_S, P_N, 1.2)
    with pytest.raises(ValueError, match="add up to 1"):
        toy.Gaussians(torch.tensor([0.5]), torch.zeros(1, 2), torch.ones(1))
    with pytest.raises(ValueError, match="need means"):
        toy.Gaussians(torch.ones(1), torch.zeros(2, 2), torch.ones(1))


def batches(l, n, draws=3000, address=0):
    return l[torch.randint(len(l), (draws, n), generator=generator(20, address))]


def test_upu_variance_is_that_of_many_batches():
    l_u, l_s, _ = pools()
    u, s = batches(l_u, 9, address=1), batches(l_s, 4, address=2)
    values = torch.stack([upu(a, b, 0.4).value for a, b in zip(u, s, strict=True)])
    torch.testing.assert_close(values.var(), toy.upu_variance(l_u, l_s, 0.4, 9, 4), rtol=0.12, atol=0)


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_pnu_variance_is_that_of_many_batches(eta):
    l_u, l_s, l_n = pools()
    l_u = l_u + 3  # far from the clamp: the formula is for the unclamped risk
    u, s, n = batches(l_u, 9, address=3), batches(l_s, 4, address=4), batches(l_n, 5, address=5)
    values = torch.stack([pnu(a, b, c, 0.4, eta).value for a, b, c in zip(u, s, n, strict=True)])
    want = toy.pnu_variance(l_u, l_s, l_n, 0.4, eta, 9, 4, 5)
    torch.testing.assert_close(values.var(), want, rtol=0.12, atol=0)


def test_clamp_bias_is_the_integral():
    for mean, std in ((0.0, 1.0), (0.5, 0.8), (2.0, 0.5), (-0.4, 1.1)):
        above, _ = integrate.quad(lambda z, m=mean, s=std: max(0, z) * stats.norm(m, s).pdf(z), -12, 12, points=[0])
        got = toy.clamp_bias(torch.tensor(mean).double(), torch.tensor(std).double())
        assert float(got) == pytest.approx(above - max(0.0, mean), abs=1e-7)
        if mean >= 0:
            absolute, _ = integrate.quad(lambda z, m=mean, s=std: abs(z) * stats.norm(m, s).pdf(z), -12, 12, points=[0])
            assert absolute - mean == pytest.approx(2 * float(got), abs=1e-7)
