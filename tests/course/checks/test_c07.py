"""The checks of notebook 07 find typical mistakes and name them; right answers written differently pass."""

import math

import numpy as np
import pytest
import torch
from answers import is_named, passes, wrong
from scipy.stats import nct, t, ttest_ind

from pudm_lite.course.checks.c07 import _power, check_07_1, check_07_2, check_07_3, check_07_4
from pudm_lite.course.checks.harness import WrongAnswer
from pudm_lite.measures.metrics import welch_t_test


def right_07_1(samples, train):
    return (samples[:, None].float() - train.float()).square().mean((2, 3, 4)).sqrt().min(1).values


def cdist_07_1(samples, train):
    x, y = (images.flatten(1).double() for images in (samples, train))
    return torch.cdist(x, y).amin(1) / math.sqrt(x.shape[1])


def loop_07_1(samples, train):
    return [min(float(((s.int() - t.int()) ** 2).double().mean()) ** 0.5 for t in train) for s in samples]


def all_pairs(samples, train):
    return (samples[:, None].double() - train.double()).square().mean((2, 3, 4)).sqrt()


def in_uint8(samples, train):
    return (samples[:, None] - train).float().square().mean((2, 3, 4)).sqrt().min(1).values


def absolute(samples, train):
    return (samples[:, None].float() - train.float()).abs().mean((2, 3, 4)).min(1).values


def welch(error=lambda x: x.var() / len(x), below=lambda n: n - 1, sign=1):
    def answer(a, b):
        e_a, e_b = error(a), error(b)
        df = (e_a + e_b) ** 2 / (e_a**2 / below(len(a)) + e_b**2 / below(len(b)))
        return sign * (a.mean() - b.mean()) / (e_a + e_b).sqrt(), df

    return answer


def scipys_07_2(a, b):
    found = ttest_ind(a.numpy(), b.numpy(), equal_var=False)
    return float(found.statistic), float(found.df)


def loop_07_2(a, b):
    """Without a library: sums alone."""
    parts = []
    for values in (a.tolist(), b.tolist()):
        mean = sum(values) / len(values)
        parts.append((mean, sum((v - mean) ** 2 for v in values) / (len(values) - 1) / len(values), len(values)))
    (mean_a, e_a, n_a), (mean_b, e_b, n_b) = parts
    return [
        (mean_a - mean_b) / (e_a + e_b) ** 0.5,
        1 / ((e_a / (e_a + e_b)) ** 2 / (n_a - 1) + (e_b / (e_a + e_b)) ** 2 / (n_b - 1)),
    ]


def student(a, b):
    found = ttest_ind(a.numpy(), b.numpy())
    return torch.tensor([found.statistic, found.df], dtype=torch.float64)


def bold(compare=lambda p: p >= 0.05, best=None, itself=True, flipped=False):
    def answer(groups, higher):
        means = groups.mean(1)
        top = int(means.argmax() if higher != flipped else means.argmin()) if best is None else best
        p = [welch_t_test(group.numpy(), groups[top].numpy()) for group in groups]
        return torch.tensor([itself if i == top else compare(value) for i, value in enumerate(p)])

    return answer


def sorted_07_3(groups, higher):
    """Best first, then every other against it, with scipy."""
    order = sorted(range(len(groups)), key=lambda i: float(groups[i].mean()), reverse=higher)
    found = [False] * len(groups)
    for i in order:
        found[i] = i == order[0] or ttest_ind(groups[i], groups[order[0]], equal_var=False).pvalue >= 0.05
    return found


def chained(groups, higher):
    """Goes on from each bold group to those that are not different from it."""
    bold_ones = bold()(groups, higher)
    for i in torch.nonzero(bold_ones)[:, 0].tolist():
        bold_ones |= bold(best=i)(groups, higher)
    return bold_ones


def simulated(sd=lambda sd, n: sd, gap=lambda a, b: b, of=lambda p: (p < 0.05).mean()):
    def answer(mean_a, sd_a, mean_b, sd_b, seeds, repeats):
        rng = np.random.default_rng()
        a = rng.normal(mean_a, sd(sd_a, seeds), (repeats, seeds))
        b = rng.normal(gap(mean_a, mean_b), sd(sd_b, seeds), (repeats, seeds))
        return of(ttest_ind(a, b, axis=1, equal_var=False).pvalue)

    return answer


def by_hand_07_4(mean_a, sd_a, mean_b, sd_b, seeds, repeats):
    """The statistic of every repeat against the edge of its own t distribution."""
    a, b = (mean + sd * torch.randn(repeats, seeds).double() for mean, sd in ((mean_a, sd_a), (mean_b, sd_b)))
    e_a, e_b = a.var(1) / seeds, b.var(1) / seeds
    df = (seeds - 1) * (e_a + e_b) ** 2 / (e_a**2 + e_b**2)
    beyond = (a.mean(1) - b.mean(1)).abs() / (e_a + e_b).sqrt() > torch.from_numpy(t.ppf(0.975, df))
    return beyond.double().mean()


RIGHT = [
    *((check_07_1, answer) for answer in (right_07_1, cdist_07_1, loop_07_1)),
    *((check_07_2, answer) for answer in (welch(), scipys_07_2, loop_07_2)),
    *((check_07_3, answer) for answer in (bold(), sorted_07_3)),
    *((check_07_4, answer) for answer in (simulated(), by_hand_07_4)),
]

WRONG = [
    wrong(check_07_1, in_uint8, "3 - 5 became 254"),
    wrong(check_07_1, lambda x, y: all_pairs(x, y).min(0).values, "over the samples"),
    wrong(check_07_1, lambda x, y: all_pairs(x, y).argmin(1), "places of the nearest"),
    wrong(check_07_1, lambda x, y: all_pairs(x, y).max(1).values, "largest"),
    wrong(check_07_1, lambda x, y: all_pairs(x, y).mean(1), "mean distance to all"),
    wrong(check_07_1, lambda x, y: all_pairs(x, y).square().min(1).values, "root is missing"),
    wrong(
        check_07_1, lambda x, y: torch.cdist(x.flatten(1).double(), y.flatten(1).double()).amin(1), "mean over pixels"
    ),
    wrong(check_07_1, absolute, "mean absolute difference"),
    wrong(check_07_1, lambda x, y: all_pairs(x, y).diagonal(), "in the same place"),
    wrong(check_07_2, student, "Student's test"),
    wrong(check_07_2, lambda a, b: (welch()(a, b)[0], len(a) + len(b) - 2), "n_a . n_b - 2"),
    wrong(check_07_2, welch(lambda x: x.var(correction=0) / len(x)), "divided by n"),
    wrong(check_07_2, welch(lambda x: x.var()), "variance of a"),
    wrong(check_07_2, welch(sign=-1), "other way round"),
    wrong(check_07_2, welch(below=lambda n: n), "not by n - 1"),
    wrong(check_07_2, lambda a, b: welch()(a, b)[::-1], "wanted is t first"),
    wrong(check_07_3, bold(lambda p: False), "best alone"),
    wrong(check_07_3, bold(lambda p: p < 0.05, itself=False), "differs"),
    wrong(check_07_3, bold(itself=False), "the best itself"),
    wrong(check_07_3, bold(flipped=True), "wrong way round"),
    wrong(check_07_3, lambda groups, higher: torch.ones(4, dtype=torch.bool), "everything is bold"),
    wrong(check_07_4, simulated(of=lambda p: (p >= 0.05).mean()), "missed"),
    wrong(check_07_4, simulated(gap=lambda a, b: a), "two groups of one mean"),
    wrong(check_07_4, simulated(sd=lambda sd, n: sd / math.sqrt(n)), "divided by √seeds"),
    wrong(check_07_4, simulated(of=lambda p: (p < 0.05).sum()), "a share in .0, 1."),
    wrong(check_07_4, simulated(of=lambda p: 100 * (p < 0.05).mean()), "over all of them"),
]


@pytest.mark.parametrize(("check", "answer"), RIGHT)
def test_right_answers_pass(check, answer):
    passes(check, answer, repeats=3)


@pytest.mark.parametrize(("check", "answer", "message"), WRONG)
def test_wrong_answers_are_named(check, answer, message):
    is_named(check, answer, message, repeats=3)


@pytest.mark.parametrize("answer", [bold(best=0), bold(best=3), chained])
def test_a_comparison_with_another_than_the_best_does_not_pass(answer):
    """It may look like one mistake or another, or be right by chance for one of the two directions."""
    failed = 0
    for _ in range(10):
        try:
            check_07_3.examine(answer)
        except WrongAnswer:
            failed += 1
    assert failed >= 8


def test_the_power_of_the_check_is_that_of_the_noncentral_t():
    """With equal spread the statistic is noncentral t; Welch's degrees of freedom cost a little of it."""
    gap, sd, seeds = 2.0, 1.0, 5
    df, shift = 2 * seeds - 2, gap / (sd * math.sqrt(2 / seeds))
    edge = t.ppf(0.975, df)
    exact = 1 - nct.cdf(edge, df, shift) + nct.cdf(-edge, df, shift)
    assert exact - 0.03 < _power(gap, sd, sd, seeds) < exact + 0.01
