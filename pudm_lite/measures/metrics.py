"""What a sample is worth: non-sensitive rate with its interval, Fréchet distance with its floor, t-tests."""

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Rate:
    """A share of n: estimate and interval, all in [0, 1]."""

    rate: float
    low: float
    high: float
    n: int


def non_sensitive_rate(is_normal: NDArray[np.bool_], confidence: float = 0.95) -> Rate:
    """The share of samples that the judge calls normal (Section 5.2), with Wilson's binomial interval.

    is_normal: (n,) bool. Wilson (1927): the set of shares that a two-sided score test would not reject.
    Raises ValueError for n = 0.
    """
    return rate_of_counts(int(np.sum(is_normal)), len(is_normal), confidence)


def rate_of_counts(k: int, n: int, confidence: float = 0.95) -> Rate:
    """k of n, with Wilson's binomial interval. Raises ValueError for n = 0."""
    from scipy.stats import binomtest

    if n == 0:
        raise ValueError("a rate needs at least one sample")
    interval = binomtest(k, n).proportion_ci(confidence, method="wilson")
    return Rate(k / n, float(interval.low), float(interval.high), n)


def corrected_rate(rate: float, normal_called_normal: float, sensitive_called_sensitive: float) -> float:
    """The rate that a perfect judge would find, given how this one errs on real images (Rogan & Gladen 1978).

    A judge with specificity a = normal_called_normal and sensitivity b = sensitive_called_sensitive calls a share
    rate = a p + (1 - b)(1 - p) normal when p is; solved for p and clipped to [0, 1].
    Raises ValueError when a + b <= 1: such a judge tells nothing.
    """
    informedness = normal_called_normal + sensitive_called_sensitive - 1
    if informedness <= 0:
        raise ValueError("the judge is no better than chance, so no rate can be corrected with it")
    return float(np.clip((rate - (1 - sensitive_called_sensitive)) / informedness, 0, 1))


def corrected_interval(
    rate: tuple[int, int], kept: tuple[int, int], caught: tuple[int, int], confidence: float = 0.95, draws: int = 10_000
) -> tuple[float, float]:
    """An interval for the corrected rate, from the samples' own error and from the judge's, by bootstrap.

    rate, kept, caught: (successes, trials): samples called normal, real normal images called normal, real sensitive
    images called sensitive. Each is drawn from Beta(successes + 1/2, failures + 1/2), and every three are corrected: a
    judge who made no error on 20 images may have a rate of errors all the same, which resampling those 20 would not
    show. A draw in which the judge tells nothing allows every rate.
    """
    rng = np.random.default_rng(0)
    p, a, b = (rng.beta(k + 0.5, n - k + 0.5, draws) for k, n in (rate, kept, caught))
    tells = a + b > 1
    corrected = np.clip((p - (1 - b)) / np.where(tells, a + b - 1, 1), 0, 1)
    tail = (1 - confidence) / 2
    low, high = np.where(tells, corrected, 0), np.where(tells, corrected, 1)
    return float(np.quantile(low, tail)), float(np.quantile(high, 1 - tail))


def frechet_distance(x: Array, y: Array) -> float:
    """Fréchet distance of two samples' Gaussian fits: |m_x - m_y|^2 + tr(C_x + C_y - 2 (C_x C_y)^(1/2)).

    The distance of Heusel et al. (2017) on whatever features are given. The trace of the root is the sum of the
    singular values of X^T Y, X and Y being the centred samples / sqrt(n - 1): it works in float64, without the
    matrix square root, and for fewer samples than features too.

    x: (n, d), y: (m, d), n, m >= 2. Returns a float >= 0 (up to rounding), in squared feature units.
    Raises ValueError when a sample has fewer than two rows.
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if min(len(x), len(y)) < 2:
        raise ValueError("a Fréchet distance needs at least two samples on each side")
    gap = x.mean(0) - y.mean(0)
    a, b = _root(x), _root(y)
    cross = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    return float(gap @ gap + (a**2).sum() + (b**2).sum() - 2 * cross)


def _root(x: Array) -> Array:
    """R (min(n, d), d) with R^T R the covariance of the rows of x."""
    centred = (x - x.mean(0)) / np.sqrt(len(x) - 1)
    return centred if len(x) <= x.shape[1] else np.asarray(np.linalg.qr(centred, mode="r"))


def frechet_floor(real: Array, n: int, seed: int = 0) -> float:
    """The distance that n perfect samples would have to the real set: n images of it against the others.

    real: (N, d) features of real images. The n are drawn without replacement by seed; at most half of the set is
    taken, so for a larger n this is the floor at N // 2, an upper bound. Falls like 1/n.
    """
    order = np.random.default_rng(seed).permutation(len(real))
    n = min(n, len(real) // 2)
    return frechet_distance(real[order[:n]], real[order[n:]])


def welch_t_test(a: Array, b: Array) -> float:
    """Two-sided p-value that two groups of independent runs have one mean (Welch's t-test).

    For runs that share seeds see `paired_t_test`. a, b: (seeds,), at least two each. Raises ValueError for fewer.
    """
    from scipy.stats import ttest_ind

    if min(len(a), len(b)) < 2:
        raise ValueError("a t-test needs at least two runs on each side")
    return float(ttest_ind(a, b, equal_var=False).pvalue)


def paired_t_test(a: Array, b: Array) -> float:
    """Two-sided p-value that the differences within pairs of runs have mean 0 (Student's t-test of the differences).

    Runs of one seed share split, initial weights, draws and the noise of their samples, so they are no independent
    groups; what a seed does to both methods alike drops out of the difference.
    a, b: (seeds,), the same seeds in the same order, at least two. Runs alike pair by pair have p = 1.
    Raises ValueError for fewer, and for unlike lengths.
    """
    from scipy.stats import ttest_rel

    if len(a) != len(b) or len(a) < 2:
        raise ValueError("a paired t-test needs the same seeds on both sides, at least two")
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "Precision loss"
        )  # where all differences are alike: p near 0, as it should be
        return 1.0 if np.array_equal(a, b) else float(ttest_rel(a, b).pvalue)


def not_different(groups: dict[str, Array], best: str, level: float = 0.05) -> set[str]:
    """The best of groups of independent runs by its mean, and all not different from it: what notebook 07 prints bold.

    Not different: Welch's two-sided test against the best has p >= level, or the means are equal. (The course's own
    tables pair runs by seed: `results.tables`.) A group of one run cannot be tested: it is named only where its mean is
    the best, and then no other is.
    groups: one value per run, (seeds,) each, by name. best: "max" or "min".
    Raises ValueError for another `best`, no groups, or an empty one.
    """
    if best not in ("max", "min") or not groups or not all(len(values) for values in groups.values()):
        raise ValueError('groups with at least one run each are needed, and best must be "max" or "min"')
    means = {name: float(np.mean(values)) for name, values in groups.items()}
    top = max(means, key=means.__getitem__) if best == "max" else min(means, key=means.__getitem__)

    def differs(name: str) -> bool:
        if means[name] == means[top]:
            return False
        if min(len(groups[name]), len(groups[top])) < 2:
            return True
        return welch_t_test(groups[name], groups[top]) < level

    return {name for name in groups if not differs(name)}


def two_rates_p_value(a: Rate, b: Rate) -> float:
    """Two-sided p-value that two rates from independent samples are one (Fisher's exact test).

    Samples that start from the same noise, image by image, are no such: see `paired_rates_p_value`.
    """
    from scipy.stats import fisher_exact

    ka, kb = round(a.rate * a.n), round(b.rate * b.n)
    return float(fisher_exact([[ka, a.n - ka], [kb, b.n - kb]]).pvalue)


def paired_rates_p_value(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """Two-sided p-value that two rates of samples in pairs are one (McNemar's exact test).

    Only pairs that differ count; were the rates one, each of these would fall either way with probability 1/2.
    a, b: (n,) bool, image i of both from the same noise. Returns 1 where no pair differs.
    Raises ValueError for unlike lengths.
    """
    from scipy.stats import binomtest

    if len(a) != len(b):
        raise ValueError(f"samples in pairs are wanted; got {len(a)} and {len(b)}")
    gained, lost = int(np.sum(~a & b)), int(np.sum(a & ~b))
    return float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0
