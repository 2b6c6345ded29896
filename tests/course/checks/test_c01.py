"""The checks of notebook 01: right answers pass however they are written, typical wrong ones get the sentence meant."""

import math
from itertools import pairwise

import pytest
import torch
from answers import passes
from torch import Tensor

from pudm_lite.course.checks.c01 import check_01_1, check_01_2, check_01_3, check_01_4, check_01_5, check_01_6
from pudm_lite.course.checks.harness import WrongAnswer
from pudm_lite.draws import generator
from pudm_lite.sampling import ddpm, timestep_grid


def wide(ab: Tensor) -> Tensor:
    return ab.view(-1, 1, 1, 1)


def forward(x0, t, eps, ab):
    return wide(ab[t]).sqrt() * x0 + (1 - wide(ab[t])).sqrt() * eps


def forward_by_loop(x0, t, eps, ab):
    return torch.stack(
        [math.sqrt(ab[i]) * x + math.sqrt(1 - ab[i]) * e for x, i, e in zip(x0, t.tolist(), eps, strict=True)]
    )


def error(eps, eps_hat, scale):
    return scale * ((eps - eps_hat) ** 2).mean(dim=(1, 2, 3))


def error_by_sum(eps, eps_hat, scale):
    gap = (eps_hat - eps).reshape(len(eps), -1)
    return torch.stack([row @ row for row in gap]) * scale / gap.shape[1]


def eps_from_v(v, x_t, t, ab):
    return wide(ab[t]).sqrt() * v + (1 - wide(ab[t])).sqrt() * x_t


def eps_through_x0(v, x_t, t, ab):
    a = ab[t][:, None, None, None]
    x0 = a.sqrt() * x_t - (1 - a).sqrt() * v
    return (x_t - a.sqrt() * x0) / (1 - a).sqrt()


def posterior(x0, x_t, ab_t, ab_s):
    alpha = ab_t / ab_s
    mean = ab_s.sqrt() * (1 - alpha) / (1 - ab_t) * x0 + alpha.sqrt() * (1 - ab_s) / (1 - ab_t) * x_t
    return mean, (1 - ab_s) / (1 - ab_t) * (1 - alpha)


def posterior_as_a_correction(x0, x_t, ab_t, ab_s):
    """What is left of the noise shrinks by a factor; the mean is Eq. 6 with it. Numbers instead of tensors."""
    ab_t, ab_s = float(ab_t), float(ab_s)
    beta = 1 - ab_t / ab_s
    left = (1 - ab_s) / (1 - ab_t)
    mean = math.sqrt(ab_s) * x0 + math.sqrt(ab_t / ab_s) * left * (x_t - math.sqrt(ab_t) * x0)
    return [mean, beta * left]


def posterior_by_bayes(x0, x_t, ab_t, ab_s):
    """Right but for the last step, where it is nan."""
    alpha = ab_t / ab_s
    variance = 1 / (1 / (1 - ab_s) + alpha / (1 - alpha))
    return variance * (ab_s.sqrt() * x0 / (1 - ab_s) + alpha.sqrt() * x_t / (1 - alpha)), variance


def ddim(x_t, eps, ab_t, ab_next):
    x0 = (x_t - (1 - ab_t).sqrt() * eps) / ab_t.sqrt()
    return ab_next.sqrt() * x0 + (1 - ab_next).sqrt() * eps


def ddim_clipped(x_t, eps, ab_t, ab_next):
    x0 = ((x_t - (1 - ab_t).sqrt() * eps) / ab_t.sqrt()).clamp(-1, 1)
    eps = (x_t - ab_t.sqrt() * x0) / (1 - ab_t).sqrt()
    return ab_next.sqrt() * x0 + (1 - ab_next).sqrt() * eps


def ddim_in_one_line(x_t, eps, ab_t, ab_next):
    a, b = float(ab_t), float(ab_next)
    return (b / a) ** 0.5 * x_t + ((1 - b) ** 0.5 - (b * (1 - a) / a) ** 0.5) * eps


def ancestral(
    x,
    noise,
    grid,
    alpha_bar,
    slope,
    shift,
    step=posterior,
    weight=lambda variance, k: variance.sqrt(),
    after=lambda grid, ab, k: ab[grid[k + 1]] if k + 1 < len(grid) else torch.ones_like(ab[0]),
    asked=lambda grid, k: grid[k],
    x0=lambda x, eps, ab: (x - (1 - ab).sqrt() * eps) / ab.sqrt(),
):
    """The sampler of 01.6; whatever is given by name replaces a part of it."""
    for k, t in enumerate(grid):
        t_asked = asked(grid, k)
        eps = slope[t_asked] * x + shift[t_asked]
        mean, variance = step(x0(x, eps, alpha_bar[t]), x, alpha_bar[t], after(grid, alpha_bar, k))
        x = mean + weight(variance, k) * noise[k]
    return x


def ancestral_in_floats(x, noise, grid, alpha_bar, slope, shift):
    """Numbers, a queue of steps, and what is left of the noise instead of the posterior's formula."""
    visits = [(t, float(alpha_bar[t])) for t in grid.tolist()]
    for k, (t, here) in enumerate(visits):
        there = visits[k + 1][1] if k < len(visits) - 1 else 1.0
        eps = slope[t] * x + shift[t]
        x0 = x / math.sqrt(here) - math.sqrt(1 / here - 1) * eps
        mean, variance = posterior_as_a_correction(x0, x, here, there)
        x = mean if there == 1 else mean + math.sqrt(variance) * noise[k]
    return x


def ancestral_backwards(x, noise, grid, *rest):
    return ancestral(x, noise, grid.flip(0), *rest)


def ancestral_with_ddim(x, noise, grid, alpha_bar, slope, shift):
    ends = [*alpha_bar[grid[1:]], torch.ones_like(alpha_bar[0])]
    for t, ab_next in zip(grid, ends, strict=True):
        x = ddim(x, slope[t] * x + shift[t], alpha_bar[t], ab_next)
    return x


def ancestral_that_stops_early(x, noise, grid, alpha_bar, slope, shift):
    for k, (t, s) in enumerate(pairwise(grid)):
        x0 = (x - (1 - alpha_bar[t]).sqrt() * (slope[t] * x + shift[t])) / alpha_bar[t].sqrt()
        mean, variance = posterior(x0, x, alpha_bar[t], alpha_bar[s])
        x = mean + variance.sqrt() * noise[k]
    return x


def ancestral_by(**parts):
    return lambda *given: ancestral(*given, **parts)


def ancestral_noising_anew(x, noise, grid, alpha_bar, slope, shift):
    ends = [*alpha_bar[grid[1:]], torch.ones_like(alpha_bar[0])]
    for t, ab_s, fresh in zip(grid, ends, noise, strict=True):
        x0 = (x - (1 - alpha_bar[t]).sqrt() * (slope[t] * x + shift[t])) / alpha_bar[t].sqrt()
        x = ab_s.sqrt() * x0 + (1 - ab_s).sqrt() * fresh
    return x


def level_before(grid, ab, k):
    return ab[grid[k] - 1]


def level_before_but_at_the_end(grid, ab, k):
    return ab[grid[k] - 1] if k + 1 < len(grid) else torch.ones_like(ab[0])


def one_noise(x, noise, *rest):
    return ancestral(x, noise[:1].expand_as(noise), *rest)


def forward_variance(x0, x_t, ab_t, ab_s):
    return posterior(x0, x_t, ab_t, ab_s)[0], 1 - ab_t / ab_s


def forward_variance_but_at_the_end(x0, x_t, ab_t, ab_s):
    return posterior(x0, x_t, ab_t, ab_s)[0], (1 - ab_t / ab_s) * (ab_s < 1)


def alpha_of_one_step(x, noise, grid, alpha_bar, slope, shift):
    def step(x0, x_t, ab_t, ab_s):
        alpha = ab_t / alpha_bar[int((alpha_bar == ab_t).nonzero()) - 1]
        mean = ab_s.sqrt() * (1 - alpha) / (1 - ab_t) * x0 + alpha.sqrt() * (1 - ab_s) / (1 - ab_t) * x_t
        return mean, (1 - ab_s) / (1 - ab_t) * (1 - alpha)

    return ancestral(x, noise, grid, alpha_bar, slope, shift, step=step)


def alpha_bar_for_alpha(x0, x_t, ab_t, ab_s):
    mean = (ab_s.sqrt() * (1 - ab_t) * x0 + ab_t.sqrt() * (1 - ab_s) * x_t) / (1 - ab_t)
    return mean, 1 - ab_s


RIGHT = [
    (check_01_1, forward),
    (check_01_1, forward_by_loop),
    (check_01_1, lambda x0, t, eps, ab: forward(x0.float(), t, eps.float(), ab.float())),
    (check_01_2, error),
    (check_01_2, error_by_sum),
    (check_01_3, eps_from_v),
    (check_01_3, eps_through_x0),
    (check_01_4, posterior),
    (check_01_4, posterior_as_a_correction),
    (check_01_5, ddim),
    (check_01_5, ddim_clipped),
    (check_01_5, ddim_in_one_line),
    (check_01_6, ancestral),
    (check_01_6, ancestral_in_floats),
]


@pytest.mark.parametrize(("check", "answer"), RIGHT)
def test_right_answers_pass(check, answer):
    passes(check, answer)


def broken_posterior(mean=None, variance=None):
    """The right posterior with one half replaced. Both are functions of x0, x_t, ab_t, ab_s, alpha."""

    def answer(x0, x_t, ab_t, ab_s):
        right_mean, right_variance = posterior(x0, x_t, ab_t, ab_s)
        parts = (x0, x_t, ab_t, ab_s, ab_t / ab_s)
        return mean(*parts) if mean else right_mean, variance(*parts) if variance else right_variance

    return answer


def noisy_step(x_t, eps, ab_t, ab_next):
    return ddim(x_t, eps, ab_t, ab_next) + 0.1 * torch.randn_like(x_t)


WRONG = [
    (check_01_1, lambda x0, t, eps, ab: forward(eps, t, x0, ab), "weights are swapped"),
    (check_01_1, lambda x0, t, eps, ab: wide(ab[t]) * x0 + (1 - wide(ab[t])) * eps, "square roots"),
    (check_01_1, lambda x0, t, eps, ab: wide(ab[t]).sqrt() * x0 + (1 - wide(ab[t])) * eps, "variance of the noise"),
    (check_01_1, lambda x0, t, eps, ab: wide(ab[t]).sqrt() * x0 + (1 - wide(ab[t]).sqrt()) * eps, "brackets"),
    (check_01_1, lambda x0, t, eps, ab: forward(x0, t, -eps, ab), "wrong sign"),
    (check_01_1, lambda x0, t, eps, ab: forward(x0, t - 1, eps, ab), "one step off"),
    (check_01_1, lambda x0, t, eps, ab: forward(x0, t, eps, torch.cat([ab[:1], ab[1:] / ab[:-1]])), "single step"),
    (check_01_1, lambda x0, t, eps, ab: forward(x0, t[:1], eps, ab), "its own t"),
    (check_01_1, lambda x0, t, eps, ab: ab[t].sqrt() * x0 + (1 - ab[t]).sqrt() * eps, "lined up with the width"),
    (check_01_1, lambda x0, t, eps, ab: forward(x0, t, torch.rand_like(eps), ab), "the largest difference"),
    (check_01_1, lambda x0, t, eps, ab: forward(x0, t, torch.randn_like(eps), ab), "the largest difference"),
    (check_01_2, lambda e, h, s: error(e, h, s).mean(), "averaged over the batch"),
    (check_01_2, lambda e, h, s: error(e, h, s).sum(), "adds up the whole batch"),
    (check_01_2, lambda e, h, s: (e - h).square().flatten(1).sum(1), "right only for scale"),
    (check_01_2, lambda e, h, s: (e - h).square().flatten(1).mean(1), "still has to be multiplied"),
    (check_01_2, lambda e, h, s: s * (e - h).square().flatten(1).sum(1), "you multiplied the sum"),
    (check_01_2, lambda e, h, s: s * (e - h).square().flatten(1).mean(1).sqrt(), "do not take the root"),
    (check_01_2, lambda e, h, s: (e - h).flatten(1).norm(dim=1), "Eq. 8 squares it"),
    (check_01_2, lambda e, h, s: s * (e - h).abs().flatten(1).mean(1), "absolute error"),
    (check_01_2, lambda e, h, s: s * (e - h).flatten(1).mean(1) ** 2, "square first"),
    (check_01_2, lambda e, h, s: s * (e - h).square().mean(1), "the shape is"),
    (check_01_3, lambda v, x, t, ab: eps_from_v(v, -x, t, ab), "a sign"),
    (check_01_3, lambda v, x, t, ab: wide(ab[t]).sqrt() * x - (1 - wide(ab[t])).sqrt() * v, "that is x_0"),
    (check_01_3, lambda v, x, t, ab: eps_from_v(x, v, t, ab), "weights are swapped"),
    (check_01_3, lambda v, x, t, ab: wide(ab[t]) * v + (1 - wide(ab[t])) * x, "square roots"),
    (check_01_3, lambda v, x, t, ab: v, "v itself"),
    (check_01_3, lambda v, x, t, ab: ab[t].sqrt() * v + (1 - ab[t]).sqrt() * x, "lined up with the width"),
    (
        check_01_4,
        broken_posterior(
            lambda x0, x, t, s, a: a.sqrt() * (1 - s) / (1 - t) * x0 + s.sqrt() * (1 - a) / (1 - t) * x,
        ),
        "coefficients are swapped",
    ),
    (
        check_01_4,
        broken_posterior(lambda x0, x, t, s, a: (s.sqrt() * (1 - a) * x0 + t.sqrt() * (1 - s) * x) / (1 - t)),
        r"not with sqrt\(ab_t\)",
    ),
    (
        check_01_4,
        broken_posterior(lambda x0, x, t, s, a: (s * (1 - a) * x0 + a.sqrt() * (1 - s) * x) / (1 - t)),
        "root of ab_s",
    ),
    (
        check_01_4,
        broken_posterior(lambda x0, x, t, s, a: (s.sqrt() * (1 - a) * x0 + a * (1 - s) * x) / (1 - t)),
        "root of alpha",
    ),
    (
        check_01_4,
        broken_posterior(lambda x0, x, t, s, a: (t.sqrt() * (1 - a) * x0 + a.sqrt() * (1 - s) * x) / (1 - t)),
        r"left \*after\* the step",
    ),
    (
        check_01_4,
        broken_posterior(lambda x0, x, t, s, a: (s.sqrt() * (1 - t) * x0 + t.sqrt() * (1 - s) * x) / (1 - t)),
        "you took ab_t",
    ),
    (check_01_4, broken_posterior(lambda x0, x, t, s, a: s.sqrt() * x0), "forgets x_t"),
    (check_01_4, broken_posterior(variance=lambda x0, x, t, s, a: 1 - a), "knowing x_0 makes it smaller"),
    (
        check_01_4,
        broken_posterior(variance=lambda x0, x, t, s, a: ((1 - s) / (1 - t) * (1 - a)).sqrt()),
        "standard deviation",
    ),
    (check_01_4, broken_posterior(variance=lambda x0, x, t, s, a: 1 - s), "knowing x_t as well"),
    (check_01_4, broken_posterior(variance=lambda x0, x, t, s, a: (1 - t) / (1 - s) * (1 - a)), "upside down"),
    (check_01_4, broken_posterior(variance=lambda x0, x, t, s, a: (1 - s) / (1 - t)), "left out the factor"),
    (check_01_4, posterior_by_bayes, "divides by 1 - ab_s"),
    (check_01_4, lambda x0, x_t, ab_t, ab_s: posterior(x0, x_t, ab_t, ab_s)[0], "return two things"),
    (
        check_01_4,
        broken_posterior(variance=lambda x0, x, t, s, a: (1 - s) / (1 - t) * (1 - a) if s < 1 else 1 - t),
        "nothing is left to vary",
    ),
    (check_01_5, lambda x, e, t, n: (x - (1 - t).sqrt() * e) / t.sqrt(), "predicted x_0"),
    (check_01_5, lambda x, e, t, n: n.sqrt() * (x - (1 - t).sqrt() * e) / t.sqrt(), "left the noise out"),
    (check_01_5, lambda x, e, t, n: ddim(x, e, t, t), "that is x_t again"),
    (
        check_01_5,
        lambda x, e, t, n: n.sqrt() * e + (1 - n).sqrt() * (x - (1 - t).sqrt() * e) / t.sqrt(),
        "weights are swapped",
    ),
    (check_01_5, lambda x, e, t, n: n * (x - (1 - t).sqrt() * e) / t.sqrt() + (1 - n) * e, "square roots"),
    (
        check_01_5,
        lambda x, e, t, n: n.sqrt() * (x - (1 - t).sqrt() * e) / t.sqrt() + (1 - n) * e,
        "weighed with",
    ),
    (check_01_5, lambda x, e, t, n: n.sqrt() * (x - (1 - t).sqrt() * e) + (1 - n).sqrt() * e, "divide by"),
    (
        check_01_5,
        lambda x, e, t, n: n.sqrt() * (x - (1 - t).sqrt() * e) / t.sqrt() + (1 - t).sqrt() * e,
        "has ab_next, not ab_t",
    ),
    (
        check_01_5,
        lambda x, e, t, n: n.sqrt() * (x + (1 - t).sqrt() * e) / t.sqrt() + (1 - n).sqrt() * e,
        "a sign",
    ),
    (check_01_5, noisy_step, "draws no noise"),
    (check_01_5, lambda x, e, t, n: ddim(x, e, n, t), "the largest difference"),
    (check_01_6, ancestral_that_stops_early, "stops at the last step of the grid"),
    (
        check_01_6,
        ancestral_by(after=lambda grid, ab, k: ab[grid[k + 1]] if k + 1 < len(grid) else ab[0]),
        r"alpha_bar\[0\] is what is left",
    ),
    (check_01_6, ancestral_by(step=forward_variance), "your last step adds noise"),
    (check_01_6, ancestral_by(step=forward_variance_but_at_the_end), "Ho et al.'s other choice"),
    (check_01_6, ancestral_by(weight=lambda variance, k: variance), r"the \*root\* of the variance"),
    (check_01_6, ancestral_by(weight=lambda variance, k: 0), "no noise at all"),
    (check_01_6, ancestral_with_ddim, "that is DDIM"),
    (check_01_6, one_noise, "noise of its own"),
    (check_01_6, ancestral_noising_anew, "noises the guessed picture anew"),
    (check_01_6, ancestral_by(after=level_before_but_at_the_end), r"you took alpha_bar\[t - 1\]$"),
    (check_01_6, ancestral_by(after=level_before), r"you took alpha_bar\[t - 1\], and after the last"),
    (check_01_6, ancestral_by(step=lambda x0, x_t, *ab: posterior(x_t, x0, *ab)), "x_0 and x_t are swapped"),
    (check_01_6, lambda *given: ancestral(*given[:-1], 0 * given[-1]), "the shift is missing"),
    (check_01_6, alpha_of_one_step, r"next of the grid\*, not t - 1"),
    (check_01_6, ancestral_by(step=alpha_bar_for_alpha), r"you took alpha_bar\[t\]"),
    (check_01_6, ancestral_by(asked=lambda grid, k: [*grid[1:], 0][k]), "where x is, at t"),
    (check_01_6, ancestral_by(asked=lambda grid, k: k), "the number of the visit"),
    (check_01_6, ancestral_by(x0=lambda x, eps, ab: eps), "first x_0 from the guessed noise"),
    (check_01_6, ancestral_by(x0=lambda x, eps, ab: x - (1 - ab).sqrt() * eps), "divide by sqrt"),
    (
        check_01_6,
        ancestral_by(x0=lambda x, eps, ab: ((x - (1 - ab).sqrt() * eps) / ab.sqrt()).clamp(-1, 1)),
        "do not clip",
    ),
    (check_01_6, ancestral_by(step=posterior_by_bayes), "your result is nan"),
    (check_01_6, ancestral_backwards, "your result is nan"),
    (check_01_6, lambda *given: [ancestral(*given)] * 4, "returned a list"),
    (check_01_6, lambda x, *rest: x, "the largest difference"),
]


@pytest.mark.parametrize(("check", "answer", "message"), WRONG)
def test_wrong_answers_get_the_sentence_meant(check, answer, message):
    with pytest.raises(WrongAnswer, match=message):
        check.examine(answer)


def test_the_right_answers_of_this_file_agree_with_one_another():
    """The oracle of 01.4 is Bayes' rule; the closed form of the notebook is another way to it."""
    x0, x_t = torch.rand(2, 1, 3, 3, dtype=torch.float64), torch.randn(2, 1, 3, 3, dtype=torch.float64)
    ab_t, ab_s = torch.tensor(0.2, dtype=torch.float64), torch.tensor(0.6, dtype=torch.float64)
    for one, other in zip(posterior(x0, x_t, ab_t, ab_s), posterior_by_bayes(x0, x_t, ab_t, ab_s), strict=True):
        torch.testing.assert_close(one, other)


def test_of_the_best_guess_for_gaussian_pixels_the_sampler_draws_nearly_those_pixels():
    """Notebook 01, Section 6: the mean comes out at any number of steps, the spread falls short with few of them."""
    mean, sd, n = torch.tensor([-0.5, 0.3]).double(), torch.tensor([0.1, 0.4]).double(), 20_000
    alpha_bar = torch.sigmoid(torch.linspace(9, -9, 500, dtype=torch.float64))
    slope = (1 - alpha_bar).sqrt()[:, None] / (alpha_bar[:, None] * sd**2 + 1 - alpha_bar[:, None])
    shift = -slope * alpha_bar.sqrt()[:, None] * mean
    draws, spread = generator(1, 60), []
    for steps in (5, 50, 500):
        x, noise = torch.randn(n, 2, generator=draws).double(), torch.randn(steps, n, 2, generator=draws).double()
        drawn = ancestral(x, noise, timestep_grid(500, steps), alpha_bar, slope, shift)
        assert (drawn.mean(0) - mean).abs().max() < 0.02
        spread.append((drawn.std(0) / sd).tolist())
    assert all(few < more < many for few, more, many in zip(*spread, strict=True))
    assert all(0.97 < last < 1.02 for last in spread[-1])


def test_it_is_the_packages_sampler_where_nothing_is_clipped():
    grid, alpha_bar = timestep_grid(15, 4), torch.linspace(0.95, 0.05, 15).double()
    x, slope = 0.1 * torch.randn(3, 1, 1, 1).double(), torch.linspace(0.9, 1, 15).double()[:, None]
    noises = [generator(1, i) for i in range(3)]
    noise = torch.stack([torch.stack([torch.randn(1, 1, 1, generator=g) for _ in grid]) for g in noises], 1).double()
    *_, last = ddpm(
        lambda x, t: slope[t].view(-1, 1, 1, 1) * x, x, alpha_bar, grid, [generator(1, i) for i in range(3)]
    )
    own = ancestral(x.flatten(1), noise.flatten(2), grid, alpha_bar, slope, 0 * slope)
    torch.testing.assert_close(last.flatten(1), own)
