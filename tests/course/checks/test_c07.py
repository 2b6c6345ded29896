"""The checks of notebook 07 find typical mistakes and name them; right answers written differently pass."""

import math

import numpy as np
import pytest
import torch
from answers import is_named, passes, wrong
from scipy.stats import nct, norm, t, ttest_ind, ttest_rel

from pudm_lite.course.checks import c07
from pudm_lite.course.checks.c07 import check_07_1, check_07_2, check_07_3, check_07_4
from pudm_lite.measures.metrics import not_different, welch_t_test


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


def bold(compare=lambda p: p >= 0.05, best=None, itself=True, flipped=False, centre=lambda groups: groups.mean(1)):
    def answer(groups, higher):
        means = centre(groups)
        top = int(means.argmax() if higher != flipped else means.argmin()) if best is None else best
        p = [welch_t_test(group.numpy(), groups[top].numpy()) for group in groups]
        return torch.tensor([itself if i == top else compare(value) for i, value in enumerate(p)])

    return answer


def rule(told):
    """Bold by another rule: told(a, b) says whether b, the best, and a are told apart. Both are arrays."""

    def answer(groups, higher):
        groups = groups.numpy()
        top = groups[groups.mean(1).argmax() if higher else groups.mean(1).argmin()]
        return torch.tensor([bool((group == top).all() or not told(group, top)) for group in groups])

    return answer


def apart(length):
    """Error bars of `length` standard deviations do not overlap."""
    return lambda a, b: abs(a.mean() - b.mean()) > length * (a.std(ddof=1) + b.std(ddof=1))


WRONG_TESTS = [
    (lambda a, b: ttest_rel(a, b).pvalue < 0.05, "taken in pairs"),
    (lambda a, b: ttest_ind(a, b).pvalue < 0.05, "Student's test"),
    (lambda a, b: welch_t_test(a, b) / 2 < 0.05, "p lies between 5 and 10 %"),
    (lambda a, b: abs(welch()(torch.tensor(a), torch.tensor(b))[0]) > 1.96, "p lies between 5 and 10 %"),
    (lambda a, b: welch_t_test(a, b) < 0.05 / 10, "not corrected for their number"),
    (lambda a, b: welch_t_test(a, b) < 0.05 / 55, "not corrected for their number"),
    (lambda a, b: welch_t_test(a, b) < 0.01, "p lies between 1 and 5 %"),
    (apart(1), "error bars may overlap"),
    (apart(1 / math.sqrt(5)), "no comparison of error bars"),
    (apart(2.776 / math.sqrt(5)), "error bars may overlap"),
    (apart(1.96 / math.sqrt(5)), "error bars|a value is"),
]


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


def simulated(sd=lambda sd, n: sd, gap=lambda a, b: b, of=lambda p: (p < 0.05).mean(), test=None):
    def answer(mean_a, sd_a, mean_b, sd_b, seeds, repeats):
        rng = np.random.default_rng()
        a = rng.normal(mean_a, sd(sd_a, seeds), (repeats, seeds))
        b = rng.normal(gap(mean_a, mean_b), sd(sd_b, seeds), (repeats, seeds))
        return of(test(a, b) if test else ttest_ind(a, b, axis=1, equal_var=False).pvalue)

    return answer


def of_a_normal(a, b):
    return 2 * norm.sf(abs(ttest_ind(a, b, axis=1, equal_var=False).statistic))


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
    wrong(check_07_2, lambda a, b: [abs(x) for x in welch()(a, b)], "t has a sign"),
    wrong(check_07_2, lambda a, b: (welch()(a, b)[0], int(welch()(a, b)[1])), "do not cut them off"),
    wrong(check_07_2, welch(lambda x: x.std() / len(x)), "standard deviations are no variances"),
    wrong(check_07_3, bold(lambda p: False), "best alone"),
    wrong(check_07_3, bold(lambda p: p < 0.05, itself=False), "differs"),
    wrong(check_07_3, bold(itself=False), "the best itself"),
    wrong(check_07_3, bold(flipped=True), "wrong way round"),
    wrong(check_07_3, lambda groups, higher: torch.ones(11, dtype=torch.bool), "everything is bold"),
    *(wrong(check_07_3, rule(told), message) for told, message in WRONG_TESTS),
    wrong(check_07_3, bold(centre=lambda groups: groups.median(1).values), "by the median it is another"),
    wrong(check_07_3, bold(best=0), "compared with the first"),
    wrong(check_07_3, bold(best=10), "compared with the last"),
    wrong(check_07_3, chained, "the best alone decides"),
    wrong(check_07_3, lambda groups, higher: bold()(groups, higher).int(), "return True and False"),
    wrong(check_07_4, simulated(of=lambda p: (p >= 0.05).mean()), "missed"),
    wrong(check_07_4, simulated(gap=lambda a, b: a), "two groups of one mean"),
    wrong(check_07_4, simulated(sd=lambda sd, n: sd / math.sqrt(n)), "divided by √seeds"),
    wrong(check_07_4, simulated(test=lambda a, b: ttest_ind(a, b, axis=1).pvalue), "Student's test"),
    wrong(check_07_4, simulated(test=lambda a, b: ttest_rel(a, b, axis=1).pvalue), "no pairs"),
    wrong(check_07_4, simulated(of=lambda p: (p / 2 < 0.05).mean()), "one-sided"),
    wrong(check_07_4, simulated(test=of_a_normal), "nearly always"),
    wrong(check_07_4, lambda *a: simulated()(*a[:5], 200), "draw `repeats` experiments"),
    wrong(check_07_4, lambda ma, sa, mb, sb, n, k: simulated()(ma, sa, mb, sa, n, k), "its own sd"),
    wrong(check_07_4, lambda *a: None, "returned None"),
    wrong(check_07_4, simulated(of=lambda p: p < 0.05), "the shape is"),
    wrong(check_07_4, simulated(of=lambda p: (p < 0.05).sum()), "a share in .0, 1."),
    wrong(check_07_4, simulated(of=lambda p: 100 * (p < 0.05).mean()), "over all of them"),
]


@pytest.mark.parametrize(("check", "answer"), RIGHT)
def test_right_answers_pass(check, answer):
    passes(check, answer)


@pytest.mark.parametrize(("check", "answer", "message"), WRONG)
def test_wrong_answers_are_named(check, answer, message):
    is_named(check, answer, message, repeats=3)


def test_the_bold_of_the_check_is_the_packages():
    groups = c07._groups()
    want = not_different({str(i): group.numpy() for i, group in enumerate(groups)}, "max")
    assert want == {str(i) for i in range(6)}
    assert bold()(groups, True).nonzero()[:, 0].tolist() == list(range(6))


def test_the_power_of_the_check_is_that_of_welchs_edge(monkeypatch):
    """With equal spread and many runs the statistic is nearly noncentral t; Welch's edge costs a little of it."""
    gap, sd, seeds = 1.0, 1.0, 20
    for name, value in (("SEEDS", seeds), ("SD_A", sd), ("SD_B", sd)):
        monkeypatch.setattr(c07, name, value)
    df, shift = 2 * seeds - 2, gap / (sd * math.sqrt(2 / seeds))
    edge = t.ppf(0.975, df)
    exact = 1 - nct.cdf(edge, df, shift) + nct.cdf(-edge, df, shift)
    monkeypatch.setattr(c07, "GAP", gap)
    assert exact - 0.02 < c07._powers.__wrapped__(10_000)[0] < exact + 0.02
