"""The checks of notebook 09: right answers pass however written, typical wrong ones get the sentence meant."""

import pytest
import torch
from answers import is_named, passes, wrong
from torch.nn.functional import one_hot

from pudm_lite.course.checks.c09 import check_09_1, check_09_2, check_09_3, check_09_4, check_09_5
from pudm_lite.sampling import guided


def norm(e):
    return e.square().flatten(1).sum(1)


def told_error(eps, eps_c, eps_null, u, drop):
    guess = torch.where((u < drop)[:, None, None, None], eps_null, eps_c)
    return norm(eps - guess)


def told_error_by_loop(eps, eps_c, eps_null, u, drop):
    pairs = zip(eps, eps_c, eps_null, u.tolist(), strict=True)
    return torch.stack([(e - (null if v < drop else told)).pow(2).sum() for e, told, null, v in pairs])


def told_error_by_mask(eps, eps_c, eps_null, u, drop):
    mask = (u < drop).double()
    return mask * norm(eps - eps_null) + (1 - mask) * norm(eps - eps_c)


def null_eps(eps_c, density, shares):
    weights = shares[:, None] * density
    return ((weights / weights.sum(0))[..., None] * eps_c).sum(0)


def null_eps_by_softmax(eps_c, density, shares):
    return torch.einsum("kn,knd->nd", (shares.log()[:, None] + density.log()).softmax(0), eps_c)


def null_eps_by_loop(eps_c, density, shares):
    total = sum(s * d for s, d in zip(shares, density, strict=True))
    return sum(s * d[:, None] * e for s, d, e in zip(shares, density, eps_c, strict=True)) / total[:, None]


def guided_eps(eps_c, eps_null, scale):
    return (1 - scale) * eps_null + scale * eps_c


def guided_eps_by_the_package(eps_c, eps_null, scale):
    """sampling.guided on a network that answers with what it is told."""
    told = guided(lambda x, t, tokens: tokens, eps_null[0, 0], scale)
    row = eps_c[:, 0]
    if scale == 1:
        return told(row, row, row)[:, None]
    one = [
        guided(lambda x, t, tokens: tokens, null[0], scale)(e, e, e) for e, null in zip(eps_c, eps_null, strict=True)
    ]
    return torch.stack(one)


def scores(x, means, stds, ab, shrink=None, variance=None):
    variance = ab * stds**2 + 1 - ab if variance is None else variance
    centres = (ab**0.5 if shrink is None else shrink) * means
    return (centres - x[:, None]) / variance, -((centres - x[:, None]) ** 2) / (2 * variance) - variance.log() / 2


def guided_score(x, shares, means, stds, concept, scale, ab, **how):
    slopes, logs = scores(x, means, stds, ab, **how)
    null = ((logs + shares.log()).softmax(1) * slopes).sum(1)
    return guided_eps(slopes[:, concept], null, scale)


def guided_score_by_densities(x, shares, means, stds, concept, scale, ab):
    variance = ab * stds**2 + (1 - ab)
    parts = torch.distributions.Normal(ab**0.5 * means, variance**0.5)
    density = shares * parts.log_prob(x[:, None]).exp()
    slopes = -(x[:, None] - ab**0.5 * means) / variance
    untold = (density * slopes).sum(1) / density.sum(1)
    return untold + scale * (slopes[:, concept] - untold)


def guided_score_by_autograd(x, shares, means, stds, concept, scale, ab):
    x = x.clone().requires_grad_()
    logs = torch.distributions.Normal(ab**0.5 * means, (ab * stds**2 + 1 - ab) ** 0.5).log_prob(x[:, None])
    joint = logs + shares.log()
    named = joint.logsumexp(1) + scale * joint.log_softmax(1)[:, concept]
    return torch.autograd.grad(named.sum(), x)[0]


def concept_score(x, shares, means, stds, concept, scale, ab):
    return scores(x, means, stds, ab)[0][:, concept]


def null_score(x, shares, means, stds, concept, scale, ab):
    return guided_score(x, shares, means, stds, concept, 0.0, ab)


def weight_of_each(labels_u, labels_s, beta, k):
    return torch.bincount(labels_u, minlength=k) / len(labels_u) - beta * torch.bincount(labels_s, minlength=k) / len(
        labels_s
    )


def weight_of_each_by_means(labels_u, labels_s, beta, k):
    return one_hot(labels_u, k).double().mean(0) - beta * one_hot(labels_s, k).double().mean(0)


def weight_of_each_by_loop(labels_u, labels_s, beta, k):
    return [float((labels_u == c).double().mean() - beta * (labels_s == c).double().mean()) for c in range(k)]


RIGHT = [
    (check_09_1, told_error),
    (check_09_1, told_error_by_loop),
    (check_09_1, told_error_by_mask),
    (check_09_2, null_eps),
    (check_09_2, null_eps_by_softmax),
    (check_09_2, null_eps_by_loop),
    (check_09_3, guided_eps),
    (check_09_3, guided_eps_by_the_package),
    (check_09_4, guided_score),
    (check_09_4, guided_score_by_densities),
    (check_09_4, guided_score_by_autograd),
    (check_09_5, weight_of_each),
    (check_09_5, weight_of_each_by_means),
    (check_09_5, weight_of_each_by_loop),
]


@pytest.mark.parametrize(("check", "answer"), RIGHT)
def test_right_answers_pass(check, answer):
    passes(check, answer)


def weighed(weights):
    """An answer to 09.2 with other weights: (density, shares) -> (K, n)."""
    return lambda eps_c, density, shares: torch.einsum("kn,knd->nd", weights(density, shares), eps_c)


def shares_of(labels, k):
    return torch.bincount(labels, minlength=k) / len(labels)


WRONG = [
    wrong(check_09_1, lambda e, c, n, u, d: told_error(e, n, c, u, d), "other way round"),
    wrong(check_09_1, lambda e, c, n, u, d: told_error(e, c, n, 1 - u, d), "u > 1 - drop"),
    wrong(check_09_1, lambda e, c, n, u, d: (1 - d) * norm(e - c) + d * norm(e - n), "average over the coin"),
    wrong(check_09_1, lambda e, c, n, u, d: norm(e - (1 - d) * c - d * n), "mixed the two guesses"),
    wrong(check_09_1, lambda e, c, n, u, d: norm(e - c), "nothing is dropped"),
    wrong(check_09_1, lambda *a: told_error(*a) / 6, "not their mean"),
    wrong(check_09_1, lambda *a: told_error(*a).sqrt(), "no root"),
    wrong(check_09_1, lambda *a: told_error(*a).sum(), "added up the whole batch"),
    wrong(check_09_1, lambda *a: told_error(*a).mean(), "averaged over the batch"),
    wrong(check_09_2, weighed(lambda d, s: s[:, None].expand_as(d)), "by its share alone"),
    wrong(check_09_2, weighed(lambda d, s: d / d.sum(0)), "the shares are missing"),
    wrong(check_09_2, weighed(lambda d, s: s[:, None] * d), "must add up to 1"),
    wrong(check_09_2, weighed(lambda d, s: (s[:, None] * d).softmax(0)), "softmax would exponentiate"),
    wrong(check_09_2, lambda e, d, s: e.mean(0), "plain mean over the concepts"),
    wrong(check_09_2, weighed(lambda d, s: s[:, None] * d / (s[:, None] * d).sum(1, True)), "over the points"),
    wrong(
        check_09_2,
        lambda e, d, s: torch.stack([e[int(k), i] for i, k in enumerate((s[:, None] * d).argmax(0))]),
        "null stands for all of them",
    ),
    wrong(check_09_3, lambda c, n, w: guided_eps(n, c, w), "swapped"),
    wrong(check_09_3, lambda c, n, w: (1 + w) * c - w * n, "Ho and Salimans"),
    wrong(check_09_3, lambda c, n, w: w * c, "the gap is missing"),
    wrong(check_09_3, lambda c, n, w: n + w * c, "once too often"),
    wrong(check_09_3, lambda c, n, w: n - w * (c - n), "a sign"),
    wrong(check_09_3, lambda c, n, w: w * (c - n), "the gap alone"),
    wrong(check_09_4, concept_score, "without guidance"),
    wrong(check_09_4, null_score, "score of the mixture: how far"),
    wrong(check_09_4, lambda *a: a[5] * concept_score(*a), "what p.x. adds is missing"),
    wrong(check_09_4, lambda *a: guided_eps(null_score(*a), concept_score(*a), a[5]), "two scores are swapped"),
    wrong(check_09_4, lambda *a: -guided_score(*a), "points from x to the means"),
    wrong(check_09_4, lambda *a: guided_score(*a, variance=a[3] ** 2), "its variance is ab"),
    wrong(check_09_4, lambda *a: guided_score(*a, shrink=1.0), "shrunk by sqrt"),
    wrong(check_09_4, lambda *a: guided_score(*a, shrink=a[6]), r"the \*root\* of ab"),
    wrong(check_09_4, lambda *a: guided_score(*a[:6], 1.0), "without noise"),
    wrong(check_09_4, lambda x, s, *a: guided_score(x, torch.full_like(s, 1 / 3), *a), "the shares are missing"),
    wrong(
        check_09_4,
        lambda *a: guided_eps(concept_score(*a), scores(a[0], a[2], a[3], a[6])[0] @ a[1], a[5]),
        "which depends on x",
    ),
    wrong(check_09_4, lambda *a: -((1 - a[6]) ** 0.5) * guided_score(*a), "that is eps"),
    wrong(check_09_4, lambda *a: a[5] * (concept_score(*a) - null_score(*a)), "the slope of log p.x. is missing"),
    wrong(check_09_5, lambda u, s, b, k: torch.bincount(u, minlength=k) - b * torch.bincount(s, minlength=k), "counts"),
    wrong(
        check_09_5,
        lambda u, s, b, k: shares_of(u, k) - b * torch.bincount(s, minlength=k) / len(u),
        "divided by the size of S",
    ),
    wrong(check_09_5, lambda u, s, b, k: weight_of_each(u, s, 1.0, k), "beta is missing"),
    wrong(check_09_5, lambda u, s, b, k: weight_of_each(u, s, -b, k), "a plus"),
    wrong(check_09_5, lambda u, s, b, k: weight_of_each(u, s, b, k) / (1 - b), "that is p_N"),
    wrong(check_09_5, lambda u, s, b, k: torch.bincount(u) / len(u) - b * torch.bincount(s) / len(s), "size of tensor"),
    wrong(check_09_5, lambda *a: weight_of_each(*a).clamp(min=0), "do not cut it off"),
    wrong(check_09_5, lambda u, s, b, k: shares_of(u, k), "nothing is taken away"),
    wrong(check_09_5, lambda u, s, b, k: (1 - b) * shares_of(u, k) - b * shares_of(s, k), "the mixture already"),
]


@pytest.mark.parametrize(("check", "answer", "message"), WRONG)
def test_wrong_answers_get_the_sentence_meant(check, answer, message):
    is_named(check, answer, message)
