"""The bound is held to distributions whose likelihood is known, and its parts to closed forms of others."""

import math

import pytest
import torch
from scipy import stats
from torch import Tensor

from pudm_lite.course.elbo import LEVELS, Bound, bound, decoder_nats, decoder_std, prior_nats, step_weights
from pudm_lite.datasets import to_model
from pudm_lite.diffusion import Process
from pudm_lite.draws import generator
from pudm_lite.sampling import ddpm, timestep_grid

MEAN, STD = 0.1, 0.3


def levels() -> Tensor:
    return torch.arange(LEVELS, dtype=torch.float64) / 127.5 - 1


def gaussian_pixels(n: int) -> tuple[Tensor, Tensor]:
    """n images of four independent pixels, N(MEAN, STD^2) rounded to the levels; and -log of their probability."""
    x0 = MEAN + STD * torch.randn(n, 1, 2, 2, generator=generator(1), dtype=torch.float64)
    pixels = to_model((127.5 * (x0 + 1)).round().clamp(0, 255).to(torch.uint8)).double()
    edges = torch.cat([torch.tensor([-torch.inf]), levels()[:-1] + 1 / 255, torch.tensor([torch.inf])]).double()
    mass = torch.as_tensor(stats.norm.cdf(edges, MEAN, STD)).diff()
    index = (127.5 * (pixels + 1)).round().long()
    return pixels, -mass[index].log().flatten(1).sum(1)


def best_eps(alpha_bar: Tensor):
    """The exact E[eps | x_t] for pixels N(MEAN, STD^2)."""

    def network(x_t: Tensor, t: Tensor) -> Tensor:
        ab = alpha_bar[t].view(-1, 1, 1, 1).to(x_t)
        return (1 - ab).sqrt() * (x_t - ab.sqrt() * MEAN) / (ab * STD**2 + 1 - ab)

    return network


@pytest.fixture(scope="module")
def process() -> Process:
    """Even in log-SNR, so that each step costs about the same."""
    return Process(torch.sigmoid(torch.linspace(9, -9, 1000, dtype=torch.float64)))


def gaussian_gap(process: Process, steps: int, n: int = 4000) -> tuple[float, float]:
    """How much the bound of the best model lies above the truth, in nats an image, and the standard error of that."""
    x0, truth = gaussian_pixels(n)
    network, grid = best_eps(process.alpha_bar), timestep_grid(process.steps, steps)
    found = bound(network, x0, process, grid, decoder_std(network, x0, process, int(grid[-1])))
    gap = found.nats - truth
    return float(gap.mean()), float(gap.std()) / n**0.5


def test_of_the_best_model_it_lies_just_above_the_true_likelihood(process):
    """A bound below the truth, or far above it, has a wrong weight, a missing part or a wrong Gaussian."""
    gap, chance = gaussian_gap(process, 1000)
    assert -4 * chance < gap < 0.3 + 4 * chance, (gap, chance)  # of about 20 nats


def test_fewer_steps_bound_more_loosely(process):
    gaps = [gaussian_gap(process, steps, 1000)[0] for steps in (16, 64, 256)]
    assert gaps[0] > 2 * gaps[1] > 4 * gaps[2] > 0


def test_a_worse_model_has_a_larger_bound(process):
    x0, _ = gaussian_pixels(500)
    grid = timestep_grid(process.steps, 50)
    best = best_eps(process.alpha_bar)
    off = bound(lambda x, t: best(x, t) + 0.1, x0, process, grid, 0.02).nats
    assert off.mean() > bound(best, x0, process, grid, 0.02).nats.mean()


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_it_is_the_same_whatever_the_network_predicts(process, prediction):
    x0, _ = gaussian_pixels(20)
    grid, best = timestep_grid(process.steps, 10), best_eps(process.alpha_bar)

    def said(x_t: Tensor, t: Tensor) -> Tensor:
        ab, eps = process.alpha_bar[t].view(-1, 1, 1, 1).to(x_t), best(x_t, t)
        guess = (x_t - (1 - ab).sqrt() * eps) / ab.sqrt()
        return {"epsilon": eps, "v_prediction": ab.sqrt() * eps - (1 - ab).sqrt() * guess, "sample": guess}[prediction]

    one = bound(said, x0, Process(process.alpha_bar, prediction), grid, 0.1)
    torch.testing.assert_close(one.nats, bound(best, x0, process, grid, 0.1).nats)


def test_a_weight_is_the_divergence_of_two_posteriors():
    """torch's own divergence of Gaussians, between the posteriors at the true and at a wrong x_0."""
    ab_t, ab_s = torch.tensor([0.2, 0.55], dtype=torch.float64)
    eps, eps_hat, x0 = torch.randn(3, 50, generator=generator(2), dtype=torch.float64)
    x_t = ab_t.sqrt() * x0 + (1 - ab_t).sqrt() * eps
    guess = (x_t - (1 - ab_t).sqrt() * eps_hat) / ab_t.sqrt()
    alpha = ab_t / ab_s
    deviation = ((1 - ab_s) / (1 - ab_t) * (1 - alpha)).sqrt()

    def posterior(x: Tensor) -> torch.distributions.Normal:
        mean = (ab_s.sqrt() * (1 - alpha) * x + alpha.sqrt() * (1 - ab_s) * x_t) / (1 - ab_t)
        return torch.distributions.Normal(mean, deviation)

    divergence = torch.distributions.kl_divergence(posterior(x0), posterior(guess)).sum()
    (weight,) = step_weights(torch.stack([ab_t, ab_s]))
    torch.testing.assert_close(weight * (eps - eps_hat).square().sum(), divergence)


def test_those_posteriors_are_the_samplers():
    """One step of `ddpm` from x_t is the mean of the posterior plus its deviation times the noise."""
    alpha_bar = torch.tensor([0.55, 0.2], dtype=torch.float64)  # t = 0 and 1
    x_t = torch.rand(1, 1, 2, 2, generator=generator(3), dtype=torch.float64)
    zero = generator(4)
    noise = torch.randn(1, 2, 2, generator=generator(4))
    first = next(ddpm(lambda x, t: torch.zeros_like(x), x_t, alpha_bar, torch.tensor([1, 0]), [zero]))
    x0, alpha = (x_t / 0.2**0.5).clamp(-1, 1), 0.2 / 0.55
    mean = (0.55**0.5 * (1 - alpha) * x0 + alpha**0.5 * 0.45 * x_t) / 0.8
    torch.testing.assert_close(first, mean + (0.45 / 0.8 * (1 - alpha)) ** 0.5 * noise)


def test_weights_tend_to_half_the_step_in_log_snr():
    log_snr = torch.linspace(-9, 9, 2001, dtype=torch.float64)
    weights = step_weights(torch.sigmoid(log_snr))
    torch.testing.assert_close(weights, torch.full_like(weights, 0.0045), rtol=0.01, atol=0)


def test_the_prior_is_torchs_divergence():
    x0 = 2 * torch.rand(3, 1, 2, 2, generator=generator(5), dtype=torch.float64) - 1
    q = torch.distributions.Normal(0.3**0.5 * x0, 0.7**0.5)
    divergence = torch.distributions.kl_divergence(q, torch.distributions.Normal(0.0, 1.0)).flatten(1).sum(1)
    torch.testing.assert_close(prior_nats(x0, 0.3), divergence)
    assert (prior_nats(x0, 1e-9) < 1e-8).all()


@pytest.mark.parametrize("guess", [-1.0, -0.3, 0.999, 1.7])
@pytest.mark.parametrize("std", [0.003, 0.1, 5.0])
def test_the_probabilities_of_a_pixels_levels_add_up_to_one(guess, std):
    x0 = levels().view(-1, 1, 1, 1)
    nats = decoder_nats(x0, torch.full_like(x0, guess), std)
    assert torch.isfinite(nats).all()
    torch.testing.assert_close(torch.exp(-nats).sum(), torch.tensor(1.0, dtype=torch.float64))


def test_a_level_has_the_probability_of_its_interval():
    x0 = levels()[100].view(1, 1, 1, 1)
    low, high = (100 - 0.5) / 127.5 - 1, (100 + 0.5) / 127.5 - 1
    expected = -math.log(stats.norm.cdf(high, 0.2, 0.3) - stats.norm.cdf(low, 0.2, 0.3))
    assert math.isclose(float(decoder_nats(x0, torch.full_like(x0, 0.2), 0.3)), expected, rel_tol=1e-9)
    far = float(decoder_nats(x0, torch.full_like(x0, 1.0), 0.01))  # 120 deviations away: no logarithm of 0
    assert math.isclose(far, 0.5 * ((1 - high) / 0.01) ** 2, rel_tol=0.01)


def test_the_decoders_deviation_is_how_far_the_guesses_are_off(process):
    """For Gaussian pixels: the posterior's, STD^2 (1 - ab) / (ab STD^2 + 1 - ab)."""
    x0, _ = gaussian_pixels(4000)
    ab = float(process.alpha_bar[400])
    expected = (STD**2 * (1 - ab) / (ab * STD**2 + 1 - ab)) ** 0.5
    assert math.isclose(decoder_std(best_eps(process.alpha_bar), x0, process, 400), expected, rel_tol=0.03)


def test_bits_are_nats_for_each_number_of_an_image():
    one = torch.full((2,), math.log(2), dtype=torch.float64)
    found = Bound(one, torch.stack([one, 2 * one], 1), 4 * one, 16)
    torch.testing.assert_close(found.nats, 8 * one)
    torch.testing.assert_close(found.bits, torch.full_like(one, 0.5))


def test_two_networks_see_the_same_draws(process):
    x0, _ = gaussian_pixels(3)
    seen: list[list[Tensor]] = [[], []]
    for calls in seen:
        bound(
            lambda x, t, calls=calls: calls.append(x) or torch.zeros_like(x), x0, process, torch.tensor([900, 400]), 0.1
        )
    assert len(seen[0]) == 2
    assert all(map(torch.equal, *seen))


def test_an_error_is_weighed_by_the_step_that_starts_where_it_is_made(process):
    """A network that knows the images and errs by t / 1000 in each of an image's four numbers."""
    x0, _ = gaussian_pixels(3)

    def network(x_t: Tensor, t: Tensor) -> Tensor:
        ab = process.alpha_bar[t].view(-1, 1, 1, 1)
        return (x_t - ab.sqrt() * x0) / (1 - ab).sqrt() + t.view(-1, 1, 1, 1) / 1000

    found = bound(network, x0, process, torch.tensor([900, 500, 200]), 0.1)
    ratio = [float(torch.expm1(torch.logit(process.alpha_bar[[t, s]]).diff())) for t, s in ((900, 500), (500, 200))]
    expected = torch.tensor([[ratio[0] / 2 * 4 * 0.9**2, ratio[1] / 2 * 4 * 0.5**2]], dtype=torch.float64)
    torch.testing.assert_close(found.steps, expected.expand(3, 2))
    off = 0.2 * float(((1 - process.alpha_bar[200]) / process.alpha_bar[200]).sqrt())
    torch.testing.assert_close(found.decoder, decoder_nats(x0, (x0 - off).clamp(-1, 1), 0.1))
