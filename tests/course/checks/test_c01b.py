"""The checks of notebook 01b: right answers pass however written, typical wrong ones get the sentence meant."""

import math

import pytest
import torch
from answers import is_named, passes, wrong
from torch import Tensor

from pudm_lite.course import toy
from pudm_lite.course.checks.c01b import (
    check_01b_1,
    check_01b_2,
    check_01b_3,
    check_01b_4,
    check_01b_5,
    check_01b_6,
)
from pudm_lite.draws import generator


def snr(ab):
    return ab / (1 - ab)


def step_weight(ab_t, ab_s):
    return (snr(ab_s) / snr(ab_t) - 1) / 2


def step_weight_by_divergence(ab_t, ab_s):
    alpha = ab_t / ab_s
    variance = (1 - ab_s) / (1 - ab_t) * (1 - alpha)
    gap = ab_s.sqrt() * (1 - alpha) / (1 - ab_t) * ((1 - ab_t) / ab_t).sqrt()
    return gap**2 / (2 * variance)


def pixel_nats(x0, guess, std):
    normal = torch.distributions.Normal(guess, std)
    above = torch.where(x0 > 0.999, torch.ones_like(x0), normal.cdf(x0 + 1 / 255))
    below = torch.where(x0 < -0.999, torch.zeros_like(x0), normal.cdf(x0 - 1 / 255))
    return -(above - below).log().flatten(1).sum(1)


def pixel_nats_with(half=1 / 255, ends=True):
    def answer(x0, guess, std):
        normal = torch.distributions.Normal(guess, std)
        above, below = normal.cdf(x0 + half), normal.cdf(x0 - half)
        if ends:
            above, below = above.masked_fill(x0 > 0.999, 1), below.masked_fill(x0 < -0.999, 0)
        return -(above - below).log().flatten(1).sum(1)

    return answer


def density(x0, guess, std, width=1.0):
    return -(torch.distributions.Normal(guess, std).log_prob(x0).exp() * width).log().flatten(1).sum(1)


def probability(x0, guess, std, black=-1, white=1):
    """Of each level; with black and white exchanged the wrong ends reach to infinity."""
    normal = torch.distributions.Normal(guess, std)
    above = normal.cdf(x0 + 1 / 255).masked_fill((x0 - white).abs() < 0.001, 1)
    return above - normal.cdf(x0 - 1 / 255).masked_fill((x0 - black).abs() < 0.001, 0)


def height_times_width(x0, guess, std):
    """Of each level by the density in its middle, but for black and white, which are right."""
    middle = torch.distributions.Normal(guess, std).log_prob(x0).exp() * 2 / 255
    return torch.where(x0.abs() > 0.999, probability(x0, guess, std), middle)


def nats_of(probability, reduce=lambda logs: logs.flatten(1).sum(1)):
    return lambda x0, guess, std: -reduce(probability(x0, guess, std).log())


def denoised(x_t, score, ab):
    return (x_t + (1 - ab) * score) / ab.sqrt()


def denoised_through_eps(x_t, score, ab):
    eps = -math.sqrt(1 - float(ab)) * score
    return (x_t - math.sqrt(1 - float(ab)) * eps) / math.sqrt(float(ab))


def in_x0_and_v(e, ab):
    return e * (1 - ab) / ab, e / ab


def in_x0_and_v_by_snr(e, ab):
    in_x0 = e / snr(ab)
    return [in_x0, in_x0 / (1 - ab)]


def negative_elbo(x0, eps, eps_hat, alpha_bar, std, parts=("prior", "steps", "decoder"), clip=False):
    total = torch.zeros(len(x0), dtype=x0.dtype)
    ab = alpha_bar[-1]
    if "prior" in parts:
        total = total + (ab * x0**2 - ab - (1 - ab).log()).sum(1) / 2
    if "steps" in parts:
        for t in range(1, len(alpha_bar)):
            total = total + step_weight(alpha_bar[t], alpha_bar[t - 1]) * (eps[t] - eps_hat[t]).square().sum(1)
    if "decoder" in parts:
        guess = x0 + ((1 - alpha_bar[0]) / alpha_bar[0]).sqrt() * (eps[0] - eps_hat[0])
        total = total + pixel_nats(x0, guess.clamp(-1, 1) if clip else guess, std)
    return total


def steps_with(weights, errors=lambda e: e[1:]):
    """The right bound with the sum over its steps replaced."""

    def answer(x0, eps, eps_hat, ab, std):
        others = negative_elbo(x0, eps, eps_hat, ab, std, ("prior", "decoder"))
        return others + (weights(ab)[:, None] * errors((eps - eps_hat).square().sum(2))).sum(0)

    return answer


def right_weights(ab):
    return step_weight(ab[1:], ab[:-1])


def signed_eps(eps_u, eps_s, p_u, p_s, weight, nothing=torch.nan):
    left = (p_u - weight * p_s)[:, None]
    return torch.where(left > 0, (p_u[:, None] * eps_u - weight * p_s[:, None] * eps_s) / left, nothing)


def where_left(condition, eps_u, eps_s, p_u, p_s, weight, least=-torch.inf):
    """signed_eps with another condition on the curvature, which is at least `least` where it divides."""
    left = (p_u - weight * p_s)[:, None]
    lowest = (p_u[:, None] * eps_u - weight * p_s[:, None] * eps_s) / left.clamp(min=least)
    return torch.where(condition(left), lowest, torch.nan)


def signed_eps_by_loop(eps_u, eps_s, p_u, p_s, weight):
    rows = []
    for a, b, u, s in zip(eps_u, eps_s, p_u.tolist(), p_s.tolist(), strict=True):
        share = weight * s / u
        rows.append((a - share * b) / (1 - share) if share < 1 else torch.full_like(a, float("nan")))
    return torch.stack(rows)


RIGHT = [
    (check_01b_1, step_weight),
    (check_01b_1, step_weight_by_divergence),
    (check_01b_1, lambda t, s: float(torch.expm1(torch.logit(s) - torch.logit(t))) / 2),
    (check_01b_2, pixel_nats),
    (check_01b_2, pixel_nats_with()),
    (check_01b_2, nats_of(probability, lambda logs: torch.stack([one.sum() for one in logs]))),
    (check_01b_2, nats_of(lambda *given: probability(*given).clamp(min=1e-12))),
    (check_01b_4, denoised),
    (check_01b_4, denoised_through_eps),
    (check_01b_5, in_x0_and_v),
    (check_01b_5, in_x0_and_v_by_snr),
    (check_01b_5, lambda e, ab: torch.stack(in_x0_and_v(e, ab))),
    (check_01b_3, negative_elbo),
    (check_01b_3, steps_with(right_weights)),
    (check_01b_6, signed_eps),
    (check_01b_6, signed_eps_by_loop),
]


@pytest.mark.parametrize(("check", "answer"), RIGHT)
def test_right_answers_pass(check, answer):
    passes(check, answer)


WRONG = [
    wrong(check_01b_1, lambda t, s: snr(s) / snr(t) - 1, "the half is missing"),
    wrong(check_01b_1, lambda t, s: (snr(s) - snr(t)) / 2, "the error in x_0"),
    wrong(check_01b_1, lambda t, s: (snr(t) / snr(s) - 1) / 2, "upside down"),
    wrong(check_01b_1, lambda t, s: snr(s) / snr(t) / 2, "the 1 is missing"),
    wrong(check_01b_1, lambda t, s: (torch.logit(s) - torch.logit(t)) / 2, "half the step in log-SNR"),
    wrong(check_01b_1, lambda t, s: step_weight(t, s) * (1 - s) / (1 - t), "the variance of the step forward"),
    wrong(check_01b_1, lambda t, s: (s / t - 1) / 2, "signal's share"),
    wrong(check_01b_1, lambda t, s: (1 - t / s) ** 2 / (t / s * (1 - t)), "squared gap of the means alone"),
    wrong(check_01b_1, lambda t, s: 1.0 + 0 * t, "it should be"),  # Eq. 8
    wrong(check_01b_1, lambda t, s: (1 - snr(s) / snr(t)) / 2, "that is negative"),
    wrong(check_01b_1, lambda t, s: (snr(s) - snr(t)) / 2 * snr(t), "you multiplied by SNR_t"),
    wrong(check_01b_1, lambda t, s: (1 - snr(t) / snr(s)) / 2, "you divided by SNR_s"),
    wrong(check_01b_2, pixel_nats_with(ends=False), "reach to infinity: black"),
    wrong(check_01b_2, density, "that is a density"),
    wrong(check_01b_2, lambda x, g, s: density(x, g, s, 2 / 255), "reach to infinity: black"),
    wrong(check_01b_2, pixel_nats_with(2 / 255), "must not overlap"),
    wrong(check_01b_2, lambda x, g, s: -pixel_nats(x, g, s), "minus it"),
    wrong(check_01b_2, lambda x, g, s: pixel_nats(x, g, s) / math.log(2), "these are bits"),
    wrong(check_01b_2, lambda x, g, s: pixel_nats(x, g, s).sum(), "added up the whole batch"),
    wrong(check_01b_2, lambda x, g, s: pixel_nats(x, g, s).mean(), "averaged over the batch"),
    wrong(check_01b_2, lambda x, g, s: pixel_nats(x, g, s) / 8, "averaged over the pixels"),
    wrong(check_01b_2, lambda x, g, s: pixel_nats(x, g, s**2), "standard deviation"),
    wrong(check_01b_2, nats_of(height_times_width), "the density in the middle times 2/255"),
    wrong(check_01b_2, nats_of(lambda *given: probability(*given, black=1, white=-1)), "black and white are swapped"),
    wrong(check_01b_2, pixel_nats_with(1 / 256), "and not 1/256"),
    wrong(check_01b_2, lambda *given: -probability(*given).flatten(1).prod(1).log(), "the product of 784"),
    wrong(check_01b_2, nats_of(lambda *given: probability(*given).clamp(min=1e-6)), "is there a floor"),
    wrong(check_01b_2, nats_of(lambda *given: probability(*given) + 1e-8), "is there a floor"),
    wrong(check_01b_2, nats_of(probability, lambda logs: logs.sum((1, 2, 3))), "not for flat ones"),
    wrong(check_01b_4, lambda x, s, ab: (x - (1 - ab) * s) / ab.sqrt(), "a sign"),
    wrong(check_01b_4, lambda x, s, ab: (x - (1 - ab).sqrt() * s) / ab.sqrt(), r"score is not the noise: E\["),
    wrong(check_01b_4, lambda x, s, ab: x - (1 - ab).sqrt() * s, "the root of alpha_bar divides the difference"),
    wrong(check_01b_4, lambda x, s, ab: x / ab.sqrt() + (1 - ab) * s, "mind the brackets"),
    wrong(check_01b_4, lambda x, s, ab: x + (1 - ab) * s, "divide by the root"),
    wrong(check_01b_4, lambda x, s, ab: (x + (1 - ab).sqrt() * s) / ab.sqrt(), "not by its root"),
    wrong(check_01b_4, lambda x, s, ab: -(1 - ab).sqrt() * s, "Tweedie's eps"),
    wrong(check_01b_4, lambda x, s, ab: (x + (1 - ab) * s) / ab, r"the \*root\* of alpha_bar"),
    wrong(check_01b_4, lambda x, s, ab: (x + (1 - ab) * s) * ab.sqrt(), "once more"),
    wrong(check_01b_4, lambda x, s, ab: (x + ab * s) / ab.sqrt(), "not alpha_bar"),
    wrong(check_01b_5, lambda e, ab: (e * ab / (1 - ab), e / ab), "x_0: upside down"),
    wrong(check_01b_5, lambda e, ab: (e * ((1 - ab) / ab).sqrt(), e / ab), "x_0: errors are squared"),
    wrong(check_01b_5, lambda e, ab: (e / ab, e * (1 - ab) / ab), "return x_0 first"),
    wrong(check_01b_5, lambda e, ab: (e * (1 - ab), e / ab), r"sqrt\(alpha_bar\) divides as well"),
    wrong(check_01b_5, lambda e, ab: (e * (1 - ab) / ab, e * ab), "the error in eps alone"),
    wrong(check_01b_5, lambda e, ab: (e * (1 - ab) / ab, e * (2 * ab - 1) ** 2 / ab), "opposite direction"),
    wrong(check_01b_5, lambda e, ab: (e * (1 - ab) / ab, e / ab.sqrt()), "v: errors are squared"),
    wrong(check_01b_5, lambda e, ab: (e * (1 - ab) / ab, e * (ab + (1 - ab) ** 2 / ab)), "not independent"),
    wrong(check_01b_5, lambda e, ab: (e * (1 - ab) / ab,) * 2, "v: that is the error in x_0"),
    wrong(check_01b_5, lambda e, ab: e / ab, "return two things"),
    wrong(check_01b_3, lambda *a: negative_elbo(*a, parts=("steps", "decoder")), "L_T is missing"),
    wrong(check_01b_3, lambda *a: negative_elbo(*a, parts=("prior", "steps")), "L_0 is missing"),
    wrong(check_01b_3, lambda *a: negative_elbo(*a, parts=("prior", "decoder")), "steps between are missing"),
    wrong(check_01b_3, lambda x, e, h, ab, s: (e - h).square().sum(2).mean(0), "that is Eq. 8"),
    wrong(check_01b_3, steps_with(right_weights, lambda e: e[:-1]), "one step off"),
    wrong(check_01b_3, steps_with(lambda ab: right_weights(ab) / 4), "averaged over the steps"),
    wrong(check_01b_3, steps_with(lambda ab: 2 * right_weights(ab)), "the half is missing"),
    wrong(check_01b_3, lambda x, e, h, ab, s: (e - h).square().sum((0, 2)), "Eq. 8 as a sum over t"),
    wrong(check_01b_3, steps_with(lambda ab: torch.ones_like(ab[1:])), "the errors have no weights"),
    wrong(check_01b_3, steps_with(lambda ab: -snr(ab).diff() / 2), "belongs to the error in x_0"),
    wrong(check_01b_3, steps_with(lambda ab: right_weights(ab)[1:], lambda e: e[2:]), "from t = 1 to t = 0 is missing"),
    wrong(check_01b_3, steps_with(lambda ab: right_weights(ab)[:-1], lambda e: e[1:-1]), "noisiest step is missing"),
    wrong(check_01b_3, steps_with(lambda ab: right_weights(ab) / 8), "averaged the squared error over the pixels"),
    wrong(check_01b_3, lambda *a: negative_elbo(*a, clip=True), "do not clip the guess"),
    wrong(check_01b_3, lambda *a: negative_elbo(*a) / math.log(2), "these are bits"),
    wrong(check_01b_3, steps_with(lambda ab: step_weight(ab[:-1], ab[1:])), "alpha_bar falls with t"),
    wrong(check_01b_3, lambda *a: -negative_elbo(*a), "the ELBO itself"),
    wrong(check_01b_3, lambda *a: negative_elbo(*a).sum(), "its own bound"),
    wrong(
        check_01b_3,
        lambda x, e, h, ab, s: (
            negative_elbo(x, e, h, ab, s, ("steps", "decoder")) + (ab[0] * x**2 - ab[0] - (1 - ab[0]).log()).sum(1) / 2
        ),
        "at the noisiest step",
    ),
    wrong(
        check_01b_3,
        lambda x, e, h, ab, s: (
            negative_elbo(x, e, h, ab, s, ("prior", "steps"))
            + pixel_nats(x, ab[0].sqrt() * x + (1 - ab[0]).sqrt() * e[0], s)
        ),
        "you took x_t itself",
    ),
    wrong(check_01b_6, lambda a, b, u, s, w: signed_eps(a, b, u, -s, w) + 0 * a, "a plus in numerator"),
    wrong(check_01b_6, lambda a, b, u, s, w: (a - w * b) / (1 - w), "the densities are missing"),
    wrong(
        check_01b_6,
        lambda a, b, u, s, w: (u[:, None] * a - w * s[:, None] * b) / (1 - w),
        "what is left",
    ),
    wrong(check_01b_6, lambda a, b, u, s, w: u[:, None] * a - w * s[:, None] * b, "constant part"),
    wrong(
        check_01b_6,
        lambda a, b, u, s, w: (u[:, None] * a - s[:, None] * b) / (u - s)[:, None],
        "the weight is missing",
    ),
    wrong(
        check_01b_6,
        lambda a, b, u, s, w: (u[:, None] * a - w * s[:, None] * b) / u[:, None],
        "divided by p_u alone",
    ),
    wrong(check_01b_6, lambda a, b, u, s, w: a, "still in it"),
    wrong(check_01b_6, lambda a, b, u, s, w: signed_eps(b, a, s, u, w, torch.inf), "inf or nan|swapped"),
    wrong(
        check_01b_6,
        lambda a, b, u, s, w: (u[:, None] * a - w * s[:, None] * b) / (u - w * s)[:, None],
        r"its \*highest\* point",
    ),
    wrong(check_01b_6, lambda a, b, u, s, w: signed_eps(a, b, u, s, w, 0.0), "not zero"),
    wrong(check_01b_6, lambda a, b, u, s, w: signed_eps(a, b, u, s, 1.0), "so you see no minimum where p_u < p_s"),
    wrong(check_01b_6, lambda a, b, u, s, w: where_left(lambda c: c < 0, a, b, u, s, w), "your condition is turned"),
    wrong(check_01b_6, lambda a, b, u, s, w: where_left(lambda c: c >= 0, a, b, u, s, w), "is a straight line"),
    wrong(check_01b_6, lambda *a: where_left(lambda c: c >= 0, *a, least=1e-6), "is a straight line"),
]


@pytest.mark.parametrize(("check", "answer", "message"), WRONG)
def test_wrong_answers_get_the_sentence_meant(check, answer, message):
    is_named(check, answer, message)


def test_taking_s_away_from_u_leaves_the_best_guess_for_normal_points():
    """Eq. 14 holds at every noise level: with the true share the minimiser of Eq. 18's normal part is that of p_N."""
    p_n, p_s = toy.normal_toy(), toy.sensitive_toy()
    p_u = toy.mixture(p_s, p_n, 0.2)
    alpha_bar = toy.toy_process().alpha_bar
    x = torch.randn(50, 2, generator=generator(1)) * 0.6
    for t in (20, 80, 150):
        u, s, n = (
            toy.exact_eps(p, alpha_bar)(toy.as_images(x), torch.full((50,), t)).flatten(1) for p in (p_u, p_s, p_n)
        )
        densities: list[Tensor] = [p.density(x, float(alpha_bar[t])) for p in (p_u, p_s)]
        found = signed_eps(u, s, *densities, 0.2)
        seen = p_n.density(x, float(alpha_bar[t])) > 1e-3  # where nothing normal is, the difference has no digits left
        torch.testing.assert_close(found[seen], n[seen], rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("ell", [2.0, 3.0, 8.0])
def test_where_the_parabola_of_eq_12_is_lowest_s_keeps_a_share(ell):
    """U less r S is a mixture with the share (beta - r) / (1 - r) of S; so its best guess is that mixture's."""
    beta, r = 0.2, 1 / math.expm1(ell)
    p_n, p_s = toy.normal_toy(), toy.sensitive_toy()
    p_u, p_left = toy.mixture(p_s, p_n, beta), toy.mixture(p_s, p_n, (beta - r) / (1 - r))
    alpha_bar, t = toy.toy_process().alpha_bar, torch.full((50,), 80)
    x = torch.randn(50, 2, generator=generator(2)) * 0.6
    u, s, left = (toy.exact_eps(p, alpha_bar)(toy.as_images(x), t).flatten(1) for p in (p_u, p_s, p_left))
    found = signed_eps(u, s, *(p.density(x, float(alpha_bar[80])) for p in (p_u, p_s)), r)
    torch.testing.assert_close(found, left, rtol=1e-3, atol=1e-3)
