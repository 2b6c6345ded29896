"""Checks of notebook 07: nearest training image, Welch's test, the bold of a table, the power of five seeds."""

import math
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from .harness import Function, WrongAnswer, check, expect, expect_bool


@check("07.1", "nearest", points=2)
def check_07_1(nearest: Function) -> None:
    """Bright images against dark ones, so that a difference in uint8 wraps around."""
    n, m = 5, 7
    samples = torch.randint(0, 256, (n, 3, 4, 4), dtype=torch.uint8)
    train = torch.randint(0, 256, (m, 3, 4, 4), dtype=torch.uint8)
    gaps = samples.double()[:, None] - train.double()  # (n, m, 3, 4, 4)
    rms = gaps.square().mean((2, 3, 4)).sqrt()
    wrapped = (samples[:, None] - train).double().square().mean((2, 3, 4)).sqrt()
    want = rms.min(1).values
    expect(
        nearest(samples, train),
        want,
        {
            "uint8 has no negative numbers, so 3 - 5 became 254: make the images .float() before you subtract": (
                wrapped.min(1).values
            ),
            "uint8 wrapped around in the square as well: make the images .float() before you subtract": (
                (samples[:, None] - train).square().double().mean((2, 3, 4)).sqrt().min(1).values
            ),
            "the minimum is over the samples: for each *sample*, look through all training images": rms.min(0).values,
            "those are the places of the nearest images; wanted are their distances": rms.argmin(1).double(),
            "that is the largest distance": rms.max(1).values,
            "that is the mean distance to all training images, not that to the nearest": rms.mean(1),
            "the root is missing": want.square(),
            "the mean over pixels is missing: a sum grows with the image's size": want * math.sqrt(48),
            "the sum of squares is wanted as the root of a mean: divide by the number of pixels, and take the root": (
                want.square() * 48
            ),
            "that is the mean absolute difference; wanted is the root of the mean *square*": (
                gaps.abs().mean((2, 3, 4)).min(1).values
            ),
            "that is each sample against the image in the same place": rms.diagonal(),
        },
    )


@check("07.2", "welch", points=2)
def check_07_2(welch: Function) -> None:
    """Groups of unlike size and spread, where Welch's test and Student's differ most; t is positive, then negative."""
    for sign in (1, -1):
        n_a, n_b = 4 + int(torch.randint(0, 2, ())), 8 + int(torch.randint(0, 3, ()))
        a = 1.5 * torch.randn(n_a, dtype=torch.float64)
        b = 0.5 * torch.randn(n_b, dtype=torch.float64)
        a = a - a.mean() + b.mean() + sign * (1.5 + torch.rand(()))
        negative = {"t has a sign, that of mean a - mean b: no absolute value": _welch(a, b).abs()} if sign < 0 else {}
        expect(welch(a, b), _welch(a, b), negative | _welch_mistakes(a, b))


def _welch(a: Tensor, b: Tensor, correction: int = 1) -> Tensor:
    """t and degrees of freedom."""
    e_a, e_b = a.var(correction=correction) / len(a), b.var(correction=correction) / len(b)
    return _of_errors(a, b, e_a, e_b)


def _of_errors(a: Tensor, b: Tensor, e_a: Tensor, e_b: Tensor) -> Tensor:
    """t and degrees of freedom from the two squared standard errors."""
    df = (e_a + e_b) ** 2 / (e_a**2 / (len(a) - 1) + e_b**2 / (len(b) - 1))
    return torch.stack([(a.mean() - b.mean()) / (e_a + e_b).sqrt(), df])


def _welch_mistakes(a: Tensor, b: Tensor) -> dict[str, Tensor]:
    n_a, n_b, gap = len(a), len(b), a.mean() - b.mean()
    e_a, e_b = a.var() / n_a, b.var() / n_b
    want = _welch(a, b)
    pooled = ((n_a - 1) * a.var() + (n_b - 1) * b.var()) / (n_a + n_b - 2)
    student = torch.stack([gap / (pooled * (1 / n_a + 1 / n_b)).sqrt(), torch.tensor(n_a + n_b - 2.0).double()])
    return {
        "that is Student's test, with one variance for both groups: Welch gives each its own": student,
        "t is right; the degrees of freedom are Student's, n_a + n_b - 2: Welch's depend on the variances": (
            torch.stack([want[0], student[1]])
        ),
        "the variances are divided by n: of a sample it is n - 1 (torch's and scipy's default)": _welch(a, b, 0),
        "the variance of a *mean* is the variance over n": _of_errors(a, b, a.var(), b.var()),
        "standard deviations are no variances: e is the *squared* spread over n": (
            _of_errors(a, b, a.std() / n_a, b.std() / n_b)
        ),
        "b is subtracted from a, not the other way round": torch.stack([-want[0], want[1]]),
        "t is the difference over its standard error: the root is missing": (torch.stack([gap / (e_a + e_b), want[1]])),
        "t is the difference over the root of the sum of the *squared* errors, not over the sum of the errors": (
            torch.stack([gap / (e_a.sqrt() + e_b.sqrt()), want[1]])
        ),
        "t is right; in the degrees of freedom the squares below are divided by n, not by n - 1": torch.stack(
            [want[0], (e_a + e_b) ** 2 / (e_a**2 / n_a + e_b**2 / n_b)]
        ),
        "t is right; in the degrees of freedom the errors below are to be squared": torch.stack(
            [want[0], (e_a + e_b) ** 2 / (e_a / (n_a - 1) + e_b / (n_b - 1))]
        ),
        "t is right; the degrees of freedom are a real number: do not cut them off": torch.stack(
            [want[0], want[1].floor()]
        ),
        "the result is (degrees of freedom, t); wanted is t first": want.flip(0),
    }


def _noise(like: Tensor | None = None) -> Tensor:
    """Five numbers of mean 0 and variance 1, one far above the others; or some that go with `like` nearly in step."""
    x = torch.rand(5, dtype=torch.float64) if like is None else like + 0.15 * torch.randn(5, dtype=torch.float64)
    if like is None:
        x[int(torch.randint(5, ()))] += 4
    x = x - x.mean()
    return x / x.std()


def _groups() -> Tensor:
    """Eleven methods, (11, 5), on which each wrong rule for the bold is wrong. The best has the highest mean.

    Spread s and distance to the best in units of its standard error, t, decide p; no p lies near 5 % or 1 %.
    """
    best = _noise()
    rows = [
        (1.0, 0.0, best),
        (1.0, 0.35, -_noise()),  # nearly as good, and better by its median
        (1.0, 0.7, _noise(best)),  # not different, but paired with the best it would be
        (1.0, 2.1, _noise()),  # p of 6 to 8 %: not different, but half of that is
        (4.0, 2.5, _noise()),  # p of 6 to 7 %, but below 5 % with Student's degrees of freedom
        (0.05, 2.5, _noise()),  # likewise, though its error bar does not reach the best's
        (1.0, 2.5, _noise()),  # p of 3 to 4 %: different, though error bars overlap
        (1.0, 2.95, _noise()),  # p of 2 %: different, from the best by the median as well
        (0.2, 3.4, _noise()),  # p of 2 to 3 %: different, though not when divided by the number of tests
        (1.0, 9.0, _noise()),  # far off, and yet not different from the widely scattered one
        (1.0, 25.0, _noise()),  # far off
    ]
    groups = []
    for s, t, noise in rows:
        t = t + 0.12 * (float(torch.rand(())) - 0.5) * (t > 0)
        groups.append(s * noise - t * math.sqrt((1 + s**2) / 5))
    return torch.randn(()) + (0.5 + torch.rand(())) * torch.stack(groups)


def _not_told(groups: Tensor, best: int, test: Callable[..., Any], level: float = 0.05) -> Tensor:
    """True for the best and where the test of a group against it has p of `level` or more. test: one of scipy's."""
    p = torch.from_numpy(test(groups.numpy(), groups[best].expand_as(groups).numpy(), axis=1).pvalue)
    return (p >= level) | (torch.arange(len(groups)) == best)


def _bold_mistakes(groups: Tensor, want: Tensor, higher: bool) -> dict[str, Tensor]:
    from scipy.stats import ttest_ind, ttest_rel

    def best_by(centre: Tensor, higher: bool = higher) -> int:
        return int(centre.argmax() if higher else centre.argmin())

    means, sd = groups.mean(1), groups.std(1)
    best = best_by(means)
    alone = torch.arange(len(groups)) == best
    welch = partial(ttest_ind, equal_var=False)

    def bars(length: float) -> Tensor:
        return (means - means[best]).abs() <= length * (sd + sd[best])

    def against(other: int) -> Tensor:
        return _not_told(groups, other, welch)

    overlap = "error bars may overlap where a difference is sure; bold is what Welch's test does not tell from the best"
    return {
        "that is the best alone: those that the test does not tell from it are bold as well": alone,
        "that is what *differs* from the best; bold is the best and what does not differ from it": ~want,
        "bold is also the best itself": want & ~alone,
        "`higher` is the wrong way round: the best is the highest mean where higher is True": (
            against(best_by(means, not higher))
        ),
        "the best is the one with the best *mean*; by the median it is another": (
            against(best_by(groups.median(1).values))
        ),
        "each is compared with the first group: compare with the best one": against(0),
        "each is compared with the last group: compare with the best one": against(len(groups) - 1),
        "the best alone decides: what is not different from another bold one is not bold for that": (
            torch.stack([against(int(i)) for i in want.nonzero()]).any(0)
        ),
        "everything is bold: where p is below 5 % it is different": torch.ones_like(want),
        "the runs are taken in pairs: run 1 of one method has nothing to do with run 1 of another; use welch_t_test": (
            _not_told(groups, best, ttest_rel)
        ),
        "that is Student's test, one variance for both methods: Welch's, welch_t_test, gives each its own": (
            _not_told(groups, best, ttest_ind)
        ),
        "a method whose p lies between 5 and 10 % is missing: the test is two-sided, at 5 %, with the edge of "
        "Student's distribution (and no comparison of error bars)": _not_told(groups, best, welch, 0.1),
        "methods whose p lies between 1 and 5 % are bold in yours: each test stands for itself, at 5 %, and is not "
        "corrected for their number": _not_told(groups, best, welch, 0.01),
        f"{overlap} (one standard deviation each)": bars(1),
        f"{overlap} (twice the standard error each)": bars(2 / math.sqrt(5)),
        f"{overlap} (intervals of 95 % each)": bars(2.776 / math.sqrt(5)),
    }


@check("07.3", "bold", points=2)
def check_07_3(bold: Function) -> None:
    """Rates and distances: the best is the highest of the one and the lowest of the other; the order is drawn."""
    from scipy.stats import ttest_ind

    for higher in (True, False):
        ranked = _groups() if higher else -_groups()
        order = torch.randperm(len(ranked))
        while not {int(order[0]), int(order[-1])} <= {6, 7, 8}:  # to compare with one of these looks like nothing else
            order = torch.randperm(len(ranked))
        groups = ranked[order]
        want = _not_told(groups, order.tolist().index(0), partial(ttest_ind, equal_var=False))
        got = bold(groups, higher)
        try:
            expect(got, want)
        except WrongAnswer:  # a hundred tests: only where they are needed
            expect(got, want, _bold_mistakes(groups, want, higher))
        expect_bool(got)


@check("07.4", "power", points=3)
def check_07_4(power: Function) -> None:
    """Against a simulation of this check's own, where typical mistakes lie far apart; unit and zero are drawn."""
    mean_a, unit = float(torch.randn(())), float(0.5 + torch.rand(()))
    few, many = 7, 2000

    def asked(repeats: int) -> float:
        got = power(mean_a, unit * SD_A, mean_a + unit * GAP, unit * SD_B, SEEDS, repeats)
        if got is not None and float(torch.as_tensor(got).double().max()) > 1:
            raise WrongAnswer(
                "a power is a share in [0, 1]: of the repeats, how many found the difference, over all of them"
            )
        if got is None or torch.as_tensor(got).ndim:
            expect(got, 0.0)  # says so
        return float(torch.as_tensor(got))

    rest = asked(few) * few % 1
    if not min(rest, 1 - rest) < 1e-3:
        raise WrongAnswer(
            f"the share of {few} repeats is a multiple of 1/{few}; yours is not: draw `repeats` experiments"
        )
    got, (want, mistakes) = asked(many), _powers()
    if abs(got - want) <= 0.05:  # five standard errors of the student's share
        return
    nearest = min(mistakes, key=lambda mistake: abs(got - mistake[0]))
    if abs(got - nearest[0]) <= 0.04:
        raise WrongAnswer(nearest[1])
    raise WrongAnswer(f"the power is {got:.3f}; it should be about {want:.3f}")


SEEDS, GAP, SD_A, SD_B = 3, 3.6, 1.4, 1.0


@cache
def _powers(repeats: int = 40_000) -> tuple[float, list[tuple[float, str]]]:
    """The power at SEEDS, GAP, SD_A, SD_B; and what typical wrong answers find in its place, with a sentence."""
    from scipy.stats import norm, ttest_ind, ttest_rel

    def found(p: Any) -> float:
        return float((p < 0.05).mean())

    def drawn(gap: float = GAP, sd_a: float = SD_A, sd_b: float = SD_B) -> tuple[Any, Any]:
        a, b = torch.randn(2, repeats, SEEDS, dtype=torch.float64).numpy()
        return sd_a * a, gap + sd_b * b

    def welch(a: Any, b: Any) -> Any:
        return ttest_ind(a, b, axis=1, equal_var=False)

    a, b = drawn()
    right, root = welch(a, b), math.sqrt(SEEDS)
    want = found(right.pvalue)
    too_rare = "that finds too few: the runs of two methods are no pairs, and each method scatters by its own sd"
    too_often = (
        "that finds it nearly always: are the standard deviations divided by √seeds (single runs scatter by sd), "
        "or is the edge 1.96 (with so few runs Student's is further out)?"
    )
    return want, [
        (1 - want, "that is how often the difference is *missed*: power is the share of repeats with p below 5 %"),
        (
            found(welch(*drawn(gap=0.0)).pvalue),
            "that is the share for two groups of one mean, 5 %: b is to be drawn around its own mean",
        ),
        (
            found(ttest_ind(a, b, axis=1).pvalue),
            "that is the power of Student's test, with one variance for both methods: Welch's has equal_var=False",
        ),
        (found(right.pvalue / 2), "that is the power of a one-sided test: p is two-sided here"),
        (found(ttest_rel(a, b, axis=1).pvalue), too_rare),
        (found(welch(*drawn(sd_b=SD_A)).pvalue), too_rare),
        (found(2 * norm.sf(abs(right.statistic))), too_often),
        (found(welch(*drawn(sd_a=SD_A / root, sd_b=SD_B / root)).pvalue), too_often),
    ]
