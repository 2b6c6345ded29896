"""Checks of notebook 07: nearest training image, Welch's test, the bold of a table, the power of five seeds."""

import math

import torch
from torch import Tensor

from ...measures.metrics import not_different, welch_t_test
from .harness import Function, WrongAnswer, check, expect


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
    """Groups of unlike size and spread, where Welch's test and Student's differ most."""
    n_a, n_b = 4 + int(torch.randint(0, 2, ())), 8 + int(torch.randint(0, 3, ()))
    a = 1.5 * torch.randn(n_a, dtype=torch.float64) + 2
    b = 0.5 * torch.randn(n_b, dtype=torch.float64)
    gap = a.mean() - b.mean()

    def answer(e_a: Tensor, e_b: Tensor, gap: Tensor = gap) -> Tensor:
        """t and degrees of freedom from the two squared standard errors."""
        df = (e_a + e_b) ** 2 / (e_a**2 / (n_a - 1) + e_b**2 / (n_b - 1))
        return torch.stack([gap / (e_a + e_b).sqrt(), df])

    e_a, e_b = a.var() / n_a, b.var() / n_b
    want = answer(e_a, e_b)
    pooled = ((n_a - 1) * a.var() + (n_b - 1) * b.var()) / (n_a + n_b - 2)
    student = torch.stack([gap / (pooled * (1 / n_a + 1 / n_b)).sqrt(), torch.tensor(n_a + n_b - 2.0).double()])
    expect(
        welch(a, b),
        want,
        {
            "that is Student's test, with one variance for both groups: Welch gives each its own": student,
            "t is right; the degrees of freedom are Student's, n_a + n_b - 2: Welch's depend on the variances": (
                torch.stack([want[0], student[1]])
            ),
            "the variances are divided by n: of a sample it is n - 1 (torch's and scipy's default)": (
                answer(a.var(correction=0) / n_a, b.var(correction=0) / n_b)
            ),
            "the variance of a *mean* is the variance over n": answer(a.var(), b.var()),
            "b is subtracted from a, not the other way round": answer(e_a, e_b, -gap),
            "t is the difference over its standard error: the root is missing": (
                torch.stack([gap / (e_a + e_b), want[1]])
            ),
            "t is the difference over the root of the sum of the *squared* errors, not over the sum of the errors": (
                torch.stack([gap / (e_a.sqrt() + e_b.sqrt()), want[1]])
            ),
            "t is right; in the degrees of freedom the squares below are divided by n, not by n - 1": torch.stack(
                [want[0], (e_a + e_b) ** 2 / (e_a**2 / n_a + e_b**2 / n_b)]
            ),
            "t is right; in the degrees of freedom the errors below are to be squared": torch.stack(
                [want[0], (e_a + e_b) ** 2 / (e_a / (n_a - 1) + e_b / (n_b - 1))]
            ),
            "the result is (degrees of freedom, t); wanted is t first": want.flip(0),
        },
    )


def _groups(level: float) -> Tensor:
    """Four groups, (4, 5): the best, one not different from it, one that is between the two, one that is far off.

    None of p lies near `level`, so that rounding decides nothing.
    """
    while True:
        noise = torch.randn(4, 5, dtype=torch.float64)
        noise = noise - noise.mean(1, keepdim=True)
        noise = noise / noise.std(1, keepdim=True)
        spread = torch.tensor([0.5, 2.0, 0.4, 1.0], dtype=torch.float64)
        groups = torch.tensor([10.0, 9.1, 8.6, 3.0], dtype=torch.float64)[:, None] + spread[:, None] * noise
        p = [welch_t_test(groups[0].numpy(), group.numpy()) for group in groups[1:]]
        if p[0] > 2 * level and p[1] < level / 2 and p[2] < level / 10:
            return groups


@check("07.3", "bold", points=2)
def check_07_3(bold: Function) -> None:
    """Rates and distances: the best is the highest of the one and the lowest of the other; the order is drawn."""
    level = 0.05
    for higher in (True, False):
        ranked = _groups(level) if higher else -_groups(level)
        order = torch.randperm(4)
        while order.tolist().index(0) in (0, 3):  # else "compared with the first", or the last, would be right
            order = torch.randperm(4)
        groups = ranked[order]
        named = {str(i): group.numpy() for i, group in enumerate(groups)}

        def rule(best: int, groups: Tensor = groups) -> Tensor:
            """True where a group is not different from number `best`."""
            p = [1.0 if i == best else welch_t_test(groups[i].numpy(), groups[best].numpy()) for i in range(4)]
            return torch.tensor(p) >= level

        means = groups.mean(1)
        best = int(means.argmax() if higher else means.argmin())
        other = int(means.argmin() if higher else means.argmax())
        chosen = not_different(named, "max" if higher else "min", level)
        want = torch.tensor([str(i) in chosen for i in range(4)])
        alone = torch.arange(4) == best
        second = int(order.tolist().index(1))
        chained = want | rule(second)
        expect(
            bold(groups, higher),
            want,
            {
                "that is the best alone: those that the test does not tell from it are bold as well": alone,
                "that is what *differs* from the best; bold is the best and what does not differ from it": ~want,
                "bold is also the best itself": want & ~alone,
                "`higher` is the wrong way round: the best is the highest mean where higher is True": rule(other),
                "each is compared with the first group: compare with the best one": rule(0),
                "each is compared with the last group: compare with the best one": rule(3),
                "the best alone decides: what is not different from another bold one is not bold for that": chained,
                "everything is bold: where p is below 5 % it is different": torch.ones(4, dtype=torch.bool),
            },
        )


@check("07.4", "power", points=3)
def check_07_4(power: Function) -> None:
    """Against a simulation of this check's own, at a size of effect where typical mistakes lie far apart."""
    seeds, repeats = 4 + int(torch.randint(0, 2, ())), 2000
    gap, sd_a, sd_b = 2.5 + 0.2 * float(torch.rand(())), 1.0, 1.4
    mean_a = float(torch.randn(()))
    want = _power(gap, sd_a, sd_b, seeds)
    got = power(mean_a, sd_a, mean_a + gap, sd_b, seeds, repeats)
    if got is not None and float(torch.as_tensor(got).double().max()) > 1:
        raise WrongAnswer(
            "a power is a share in [0, 1]: of the repeats, how many found the difference, over all of them"
        )
    expect(
        got,
        want,
        {
            "that is how often the difference is *missed*: power is the share of repeats with p below 5 %": 1 - want,
            "that is the share for two groups of one mean, 5 %: b is to be drawn around its own mean": (
                _power(0.0, sd_a, sd_b, seeds)
            ),
            "that is the power with standard deviations divided by √seeds: single runs scatter by sd, not by less": (
                _power(gap, sd_a / math.sqrt(seeds), sd_b / math.sqrt(seeds), seeds)
            ),
        },
        tolerance=0.04,
    )


def _power(gap: float, sd_a: float, sd_b: float, seeds: int, repeats: int = 20_000) -> float:
    """Share of repeats in which Welch's test of `seeds` runs each has p < 5 %."""
    from scipy.stats import ttest_ind

    a = sd_a * torch.randn(repeats, seeds, dtype=torch.float64)
    b = gap + sd_b * torch.randn(repeats, seeds, dtype=torch.float64)
    return float((ttest_ind(a.numpy(), b.numpy(), axis=1, equal_var=False).pvalue < 0.05).mean())
