"""The forward process and l(x), against moments, Monte Carlo, Diffusers and scipy."""

import pytest
import torch
from diffusers import DDPMScheduler
from scipy import stats

from pudm_lite.diffusion import (
    PREDICTIONS,
    SCHEDULES,
    TIMESTEPS,
    Process,
    draw_timesteps,
    ell,
    eps_from_output,
    noise_error,
    noise_schedule,
    q_sample,
    shifted_cosine,
)

SHAPE = (3, 4, 4)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def gaussian(seed: int, n: int = 8) -> torch.Tensor:
    return torch.randn(n, *SHAPE, generator=seeded(seed), dtype=torch.float64)


def mean_and_variance(alpha_bar: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Of x_t given x_0 = 1 at every t, read off q_sample by giving it no noise, and nothing but noise."""
    t = torch.arange(len(alpha_bar))
    one = torch.ones(len(t), 1, 1, 1, dtype=torch.float64)
    signal, noise = q_sample(one, t, 0 * one, alpha_bar), q_sample(0 * one, t, one, alpha_bar)
    return signal.flatten(), noise.flatten() ** 2


# The forward process


@pytest.mark.parametrize("name", SCHEDULES)
def test_closed_form_has_the_moments_of_iterating_eq_4(name):
    alpha_bar = noise_schedule(name, 200)
    alphas = alpha_bar / torch.cat([torch.ones(1, dtype=torch.float64), alpha_bar[:-1]])
    m, v, expected = 1.0, 0.0, []
    for alpha in alphas.tolist():
        m, v = alpha**0.5 * m, alpha * v + (1 - alpha)
        expected.append((m, v))
    actual = torch.stack(mean_and_variance(alpha_bar), 1)
    torch.testing.assert_close(actual, torch.tensor(expected, dtype=torch.float64), rtol=1e-10, atol=0)


def test_linear_schedule_is_the_product_of_one_minus_beta():
    m, moments = 1.0, []
    for k in range(1000):
        m *= (1 - (1e-4 + (0.02 - 1e-4) * k / 999)) ** 0.5
        moments.append(m)
    torch.testing.assert_close(
        mean_and_variance(noise_schedule("linear"))[0], torch.tensor(moments, dtype=torch.float64)
    )


def test_closed_form_agrees_with_a_simulated_chain():
    n, x0 = 40_000, 0.7
    alpha_bar = noise_schedule("cosine", 10)
    noise = seeded(0)
    x, before = torch.full((n,), x0, dtype=torch.float64), 1.0
    for t, ab in enumerate(alpha_bar.tolist()):
        alpha = ab / before
        x = alpha**0.5 * x + (1 - alpha) ** 0.5 * torch.randn(n, generator=noise, dtype=torch.float64)
        before = ab
        if t in (3, 6, 9):
            eps = torch.randn(n, 1, 1, 1, generator=noise, dtype=torch.float64)
            direct = q_sample(torch.full_like(eps, x0), torch.full((n,), t), eps, alpha_bar).flatten()
            assert abs(x.mean() - ab**0.5 * x0) < 4 * ((1 - ab) / n) ** 0.5
            assert abs(x.var() / (1 - ab) - 1) < 4 * (2 / n) ** 0.5
            assert stats.ks_2samp(x.numpy(), direct.numpy()).pvalue > 0.01


def test_linear_schedule_is_that_of_diffusers():
    theirs = DDPMScheduler(beta_schedule="linear").alphas_cumprod
    torch.testing.assert_close(noise_schedule("linear").float(), theirs, rtol=1e-4, atol=0)


def test_cosine_schedule_is_near_that_of_diffusers():
    """Nichol and Dhariwal's offset and cut differ from ours in how they treat the two ends only."""
    theirs = DDPMScheduler(beta_schedule="squaredcos_cap_v2").alphas_cumprod
    assert (noise_schedule("cosine").float() - theirs).abs().max() < 0.02


def test_q_sample_is_add_noise_of_diffusers():
    scheduler = DDPMScheduler(beta_schedule="linear")
    x0, eps = gaussian(0), gaussian(1)
    t = torch.tensor([0, 1, 10, 100, 300, 500, 998, 999])
    torch.testing.assert_close(
        q_sample(x0, t, eps, scheduler.alphas_cumprod), scheduler.add_noise(x0, eps, t), rtol=1e-12, atol=0
    )


def test_q_sample_keeps_the_images_dtype():
    x0 = torch.zeros(2, *SHAPE)
    assert q_sample(x0, torch.tensor([0, 5]), x0, noise_schedule("lite", 10)).dtype == torch.float32


def test_cosine_schedule_is_a_squared_cosine():
    """log-SNR -2 log tan(pi u / 2) is alpha_bar = cos^2(pi u / 2), from log-SNR 9 to -9."""
    first, last = (2 / torch.pi * torch.atan(torch.exp(torch.tensor(s, dtype=torch.float64))) for s in (-4.5, 4.5))
    u = first + (last - first) * torch.arange(500, dtype=torch.float64) / 499
    torch.testing.assert_close(noise_schedule("cosine", 500), torch.cos(torch.pi * u / 2) ** 2)


@pytest.mark.parametrize(
    ("name", "shift", "top"), [("cosine", 0.0, 9.0), ("lite", -1.5, 1.0), (None, -3.0, 9.0), (None, 1.0, 9.0)]
)
def test_shift_moves_the_log_snr_by_itself(name, shift, top):
    """Solved for u, log-SNR = -2 log tan(pi u / 2) + shift gives evenly spaced u, from log-SNR `top` to -9."""
    alpha_bar = shifted_cosine(300, shift) if name is None else noise_schedule(name, 300)
    log_snr = torch.log(alpha_bar / (1 - alpha_bar))
    u = 2 / torch.pi * torch.atan(torch.exp((shift - log_snr) / 2))
    gaps = u.diff()
    torch.testing.assert_close(gaps, gaps.mean().expand_as(gaps), rtol=1e-8, atol=0)
    torch.testing.assert_close(log_snr[[0, -1]], torch.tensor([top, -9.0], dtype=torch.float64))


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("steps", [2, 50, 1000])
def test_schedules_decrease_inside_zero_one(name, steps):
    alpha_bar = noise_schedule(name, steps)
    assert alpha_bar.shape == (steps,)
    assert alpha_bar.dtype == torch.float64
    assert (alpha_bar.diff() < 0).all()
    assert 0 < alpha_bar[-1] < alpha_bar[0] < 1


def test_lite_is_noisier_than_cosine_in_between():
    assert (noise_schedule("lite")[1:-1] < noise_schedule("cosine")[1:-1]).all()


# The noise estimate


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_eps_comes_back_from_what_the_network_should_predict(prediction):
    scheduler = DDPMScheduler(beta_schedule="linear", prediction_type=prediction)
    x0, eps, t = gaussian(0), gaussian(1), torch.tensor([0, 1, 10, 100, 300, 500, 998, 999])
    target = {"epsilon": eps, "v_prediction": scheduler.get_velocity(x0, eps, t), "sample": x0}[prediction]
    process = Process(scheduler.alphas_cumprod, prediction)
    x_t = scheduler.add_noise(x0, eps, t)
    torch.testing.assert_close(eps_from_output(target, x_t, t, process), eps, rtol=1e-9, atol=1e-9)


def test_process_counts_its_steps():
    assert Process(noise_schedule("lite", 37)).steps == 37


# The noise error


def test_noise_error_at_scale_chw_is_the_squared_norm():
    """Eq. 8, one number per example; halves of integers, so that the sums are exact."""
    eps = torch.randint(-8, 8, (5, 2, 4, 4), generator=seeded(0)) / 2
    eps_hat = torch.randint(-8, 8, (5, 2, 4, 4), generator=seeded(1)) / 2
    error = noise_error(eps, eps_hat, 2 * 4 * 4)
    assert error.shape == (5,)
    assert error.tolist() == [float(((a - b) ** 2).sum()) for a, b in zip(eps, eps_hat, strict=True)]


def test_an_example_has_no_part_in_the_error_of_another():
    eps, eps_hat = gaussian(0), gaussian(1).requires_grad_()
    noise_error(eps, eps_hat, 48.0)[2].backward()
    assert (eps_hat.grad.flatten(1).abs().sum(1) > 0).tolist() == [i == 2 for i in range(8)]


def test_scale_multiplies_the_mean_squared_error():
    eps, eps_hat = gaussian(0), gaussian(1)
    mean = torch.stack([(a - b).pow(2).mean() for a, b in zip(eps, eps_hat, strict=True)])
    torch.testing.assert_close(noise_error(eps, eps_hat, 0.3), 0.3 * mean)


def test_knowing_nothing_costs_chw_on_average():
    """|eps|^2 is chi-square with C*H*W degrees of freedom."""
    d, n = 48, 4000
    eps = gaussian(3, n)
    errors = noise_error(eps, torch.zeros_like(eps), d)
    assert abs(errors.mean() - d) < 4 * (2 * d / n) ** 0.5
    assert stats.kstest(errors.numpy(), stats.chi2(d).cdf).pvalue > 0.01


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_ell_is_zero_for_the_true_noise_and_known_for_a_known_miss(prediction):
    """The network is handed x_t and t; what it predicts is off by 0.1 in eps everywhere."""
    process = Process(noise_schedule("cosine", 100), prediction)
    x0, eps, t = gaussian(0), gaussian(1), torch.arange(10, 90, 10)

    def network_that_misses_by(miss):
        def network(x_t, seen_t):
            assert torch.equal(seen_t, t)
            ab = process.alpha_bar[seen_t].view(-1, 1, 1, 1)
            guess = (x_t - ab.sqrt() * x0) / (1 - ab).sqrt() + miss
            clean = (x_t - (1 - ab).sqrt() * guess) / ab.sqrt()
            return {
                "epsilon": guess,
                "sample": clean,
                "v_prediction": ab.sqrt() * guess - (1 - ab).sqrt() * clean,
            }[prediction]

        return network

    torch.testing.assert_close(
        ell(network_that_misses_by(0.0), x0, t, eps, process, 48), torch.zeros(8, dtype=torch.float64)
    )
    torch.testing.assert_close(
        ell(network_that_misses_by(0.1), x0, t, eps, process, 48), torch.full((8,), 0.48, dtype=torch.float64)
    )


# The draws of t


@pytest.mark.parametrize(("how", "n"), [("uniform", 1), ("uniform", 6), ("stratified", 1), ("stratified", 6)])
def test_each_t_is_uniform(how, n):
    noise = seeded(0)
    draws = torch.stack([draw_timesteps(n, 20, how, noise) for _ in range(4000)])
    for column in draws.unbind(1):
        assert stats.chisquare(torch.bincount(column, minlength=20).numpy()).pvalue > 0.001


@pytest.mark.parametrize("n", [1, 8, 40, 125, 1000])
def test_stratified_draws_one_from_each_slice(n):
    for seed in range(20):
        t = draw_timesteps(n, 1000, "stratified", seeded(seed))
        assert sorted((t * n // 1000).tolist()) == list(range(n))


def test_stratified_draws_are_spread_evenly_whatever_their_number():
    for n, steps in [(7, 100), (64, 1000), (30, 7)]:
        counts = torch.bincount(draw_timesteps(n, steps, "stratified", seeded(n)), minlength=steps)
        ahead = counts.cumsum(0) - n / steps * torch.arange(1, steps + 1)
        assert ahead.abs().max() <= 1 + 1e-9


def test_stratified_order_is_random():
    first = torch.stack([draw_timesteps(4, 4, "stratified", seeded(seed)) for seed in range(200)])
    assert len({tuple(row) for row in first.tolist()}) == 24


def test_stratified_means_vary_less_around_the_same_mean():
    noise = seeded(1)
    exact = (torch.arange(100.0) ** 2).mean()
    means = {
        how: torch.stack([(draw_timesteps(16, 100, how, noise).float() ** 2).mean() for _ in range(2000)])
        for how in TIMESTEPS
    }
    for values in means.values():
        assert abs(values.mean() - exact) < 4 * values.std() / 2000**0.5
    assert (
        means["stratified"].var() < means["uniform"].var() / 10
    )  # (the range of t^2 / 16)^2 / 12 against its variance / 16: 1/17


@pytest.mark.parametrize("how", TIMESTEPS)
def test_draws_stay_in_range_and_follow_their_generator(how):
    t = draw_timesteps(5000, 7, how, seeded(2))
    assert t.dtype == torch.int64
    assert set(t.tolist()) == set(range(7))
    assert torch.equal(t, draw_timesteps(5000, 7, how, seeded(2)))
    assert len(draw_timesteps(0, 7, how, seeded(2))) == 0


# What is unknown is refused


@pytest.mark.parametrize(
    ("call", "known"),
    [
        (lambda: noise_schedule("quadratic"), SCHEDULES),
        (lambda: Process(noise_schedule("lite", 10), "score"), PREDICTIONS),
        (lambda: draw_timesteps(4, 10, "sobol", seeded(0)), TIMESTEPS),
    ],
    ids=["schedule", "prediction", "timesteps"],
)
def test_unknown_names_are_refused_with_the_known_ones(call, known):
    with pytest.raises(ValueError, match="unknown") as error:
        call()
    assert all(name in str(error.value) for name in known)
