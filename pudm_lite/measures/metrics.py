"""What a sample is worth: non-sensitive rate with its interval, Fréchet distance with its floor, t-tests."""

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
    from scipy.stats import binomtest

    n = len(is_normal)
    if n == 0:
        raise ValueError("a rate needs at least one sample")
    k = int(np.sum(is_normal))
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
    """Two-sided p-value that two groups of runs have one mean (Welch's t-test; the paper's tables use 5 %).

    a, b: (seeds,), at least two each. Raises ValueError for fewer.
    """
    from scipy.stats import ttest_ind

    if min(len(a), len(b)) < 2:
        raise ValueError("a t-test needs at least two runs on each side")
    return float(ttest_ind(a, b, equal_var=False).pvalue)


def not_different(groups: dict[str, Array], best: str, level: float = 0.05) -> set[str]:
    """What the paper's tables print in bold: the best group by its mean, and all not different from it.

    Not different: Welch's two-sided test against the best has p >= level, or the means are equal. The paper says
    "pair-wise t-test" without saying whether pairs share a seed: runs are taken as independent here. A group of one
    run cannot be tested: it is named only where its mean is the best, and then no other is.
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
    """Two-sided p-value that two rates from independent samples are one (Fisher's exact test)."""
    from scipy.stats import fisher_exact

    ka, kb = round(a.rate * a.n), round(b.rate * b.n)
    return float(fisher_exact([[ka, a.n - ka], [kb, b.n - kb]]).pvalue)
