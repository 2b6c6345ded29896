"""Rates, distances and tests, against their formulas, scipy and Gaussians with known distances."""

import math

import numpy as np
import pytest
import scipy
from scipy import stats
from scipy.linalg import sqrtm
from sklearn.metrics import confusion_matrix

from pudm_lite.measures.metrics import (
    Rate,
    corrected_interval,
    corrected_rate,
    frechet_distance,
    frechet_floor,
    non_sensitive_rate,
    not_different,
    paired_rates_p_value,
    paired_t_test,
    two_rates_p_value,
    welch_t_test,
)


def gaussian(seed: int, n: int, d: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d))


def sample_with(mean: np.ndarray, root: np.ndarray, n: int, seed: int) -> np.ndarray:
    """n rows whose sample mean is `mean` and whose sample covariance is root^T root, both exactly."""
    z = gaussian(seed, n, len(mean))
    z -= z.mean(0)
    white = z @ np.linalg.inv(np.linalg.cholesky(np.cov(z.T)).T)
    return white @ root + mean


def formula(x: np.ndarray, y: np.ndarray) -> float:
    """The definition, with scipy's matrix square root."""
    cx, cy = np.cov(x.T), np.cov(y.T)
    return float(np.sum((x.mean(0) - y.mean(0)) ** 2) + np.trace(cx + cy - 2 * np.real(sqrtm(cx @ cy))))


# The non-sensitive rate


@pytest.mark.parametrize(("k", "n"), [(0, 20), (1, 20), (10, 20), (978, 1000), (1000, 1000), (1, 1)])
@pytest.mark.parametrize("confidence", [0.95, 0.68])
def test_interval_is_wilsons(k, n, confidence):
    z = stats.norm.ppf(0.5 + confidence / 2)
    p = k / n
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    rate = non_sensitive_rate(np.arange(n) < k, confidence)
    assert (rate.rate, rate.n) == (p, n)
    assert rate.low == pytest.approx(centre - half, abs=1e-12)
    assert rate.high == pytest.approx(centre + half, abs=1e-12)
    assert 0 <= rate.low <= rate.rate <= rate.high <= 1


def test_interval_holds_the_true_rate_about_as_often_as_it_says():
    """The coverage at a true rate is a sum over all counts; averaged over rates near 0.95 it is near 95 %."""
    n = 100
    intervals = [non_sensitive_rate(np.arange(n) < k) for k in range(n + 1)]
    coverage = [
        sum(stats.binom.pmf(k, n, p) for k, i in enumerate(intervals) if i.low <= p <= i.high)
        for p in np.linspace(0.85, 0.99, 57)
    ]
    assert np.mean(coverage) == pytest.approx(0.95, abs=0.01)
    assert min(coverage) > 0.85


def test_a_rate_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one sample"):
        non_sensitive_rate(np.zeros(0, bool))


@pytest.mark.parametrize("p", [0.0, 0.3, 0.9, 1.0])
@pytest.mark.parametrize(("a", "b"), [(1.0, 1.0), (0.98, 0.9), (0.6, 0.7), (0.9, 0.15)])
def test_correction_undoes_a_judge_that_errs(p, a, b):
    assert corrected_rate(a * p + (1 - b) * (1 - p), a, b) == pytest.approx(p)


def test_correction_finds_the_truth_of_a_simulated_judge():
    """The judge's errors are measured on real images, its rate on others; the raw rate is 4 points off."""
    rng = np.random.default_rng(0)

    def judge(normal):
        return np.where(normal, rng.random(len(normal)) < 0.95, rng.random(len(normal)) < 0.2)

    real = rng.random(200_000) < 0.5
    share = confusion_matrix(real, judge(real), normalize="true")
    made = rng.random(200_000) < 0.93
    raw = judge(made).mean()
    assert abs(raw - made.mean()) > 0.03
    assert corrected_rate(raw, share[1, 1], share[0, 0]) == pytest.approx(made.mean(), abs=0.005)


def test_the_corrected_interval_holds_the_truth_about_as_often_as_it_says():
    """Judges and samples drawn again and again, of a true rate, with errors known from few images."""
    rng = np.random.default_rng(0)
    truth, kept, caught, n, m = 0.9, 0.92, 0.85, 500, 80
    inside, widths = 0, []
    for _ in range(300):
        normal = rng.binomial(n, truth)
        called = rng.binomial(normal, kept) + rng.binomial(n - normal, 1 - caught)
        low, high = corrected_interval(
            (called, n), (rng.binomial(m, kept), m), (rng.binomial(m, caught), m), draws=1000
        )
        inside += low <= truth <= high
        widths.append(high - low)
    assert 0.92 < inside / 300 < 0.99
    alone = non_sensitive_rate(np.arange(n) < n * truth)
    assert np.mean(widths) > 1.5 * (alone.high - alone.low)  # the judge's own uncertainty counts


def test_a_judge_without_errors_on_few_images_is_not_taken_for_perfect():
    few, many = (corrected_interval((900, 1000), (n, n), (n, n)) for n in (20, 20_000))
    assert many == pytest.approx((non_sensitive_rate(np.arange(1000) < 900).low, 0.918), abs=0.003)
    assert few[1] - few[0] > 2 * (many[1] - many[0])


def test_a_judge_that_may_tell_nothing_allows_every_rate():
    assert corrected_interval((60, 100), (11, 20), (11, 20)) == (0, 1)
    assert corrected_interval((1, 100), (10, 20), (10, 20)) == (0, 1)


def test_correction_stays_a_share():
    assert corrected_rate(0.99, 0.95, 0.95) == 1
    assert corrected_rate(0.01, 0.95, 0.95) == 0


@pytest.mark.parametrize(("a", "b"), [(0.5, 0.5), (0.2, 0.3)])
def test_a_judge_by_chance_corrects_nothing(a, b):
    with pytest.raises(ValueError, match="no better than chance"):
        corrected_rate(0.9, a, b)


# The Fréchet distance


@pytest.mark.parametrize(("n", "d"), [(50, 6), (6, 50)])
def test_a_sample_is_at_distance_zero_from_itself(n, d):
    x = gaussian(0, n, d)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-10)
    assert frechet_distance(x, x[::-1]) == pytest.approx(0, abs=1e-10)


@pytest.mark.parametrize(("n", "d"), [(50, 6), (6, 50)])
def test_with_equal_covariances_it_is_the_squared_gap_of_the_means(n, d):
    x, shift = gaussian(0, n, d) * 3, np.linspace(-1, 2, d)
    assert frechet_distance(x, x + shift) == pytest.approx(np.sum(shift**2))


def test_of_diagonal_gaussians_it_is_known():
    sx, sy = np.array([1.0, 2.0, 0.5]), np.array([3.0, 0.1, 0.5])
    x = sample_with(np.zeros(3), np.diag(sx), 40, 0)
    y = sample_with(np.array([1.0, 0, 2]), np.diag(sy), 70, 1)
    assert frechet_distance(x, y) == pytest.approx(5 + np.sum((sx - sy) ** 2))


def test_of_numbers_it_is_the_gap_of_means_and_deviations():
    x, y = gaussian(0, 30, 1), 2 * gaussian(1, 25, 1) + 3
    expected = (x.mean() - y.mean()) ** 2 + (x.std(ddof=1) - y.std(ddof=1)) ** 2
    assert frechet_distance(x, y) == pytest.approx(expected)


def test_of_gaussians_on_crossed_lines_nothing_cancels():
    """Samples on two perpendicular lines have covariances whose product is 0: the traces add up."""
    z = stats.zscore(gaussian(0, 20, 1), ddof=1)
    x, y = np.hstack([2 * z, 0 * z]), np.hstack([0 * z, 3 * z])
    assert frechet_distance(x, y) == pytest.approx(4 + 9)


@pytest.mark.parametrize("seed", range(3))
def test_it_is_the_definition(seed):
    mix = gaussian(seed + 10, 8, 8)
    x, y = gaussian(seed, 60, 8) @ mix, gaussian(seed + 20, 90, 8) + 0.3
    assert frechet_distance(x, y) == pytest.approx(formula(x, y), rel=1e-6)


@pytest.mark.parametrize(("n", "m"), [(12, 40), (12, 9), (40, 9)])
def test_with_fewer_rows_than_features_it_is_the_definition_still(n, m):
    """All rows lie on a 6-dimensional plane in 20 features; in its 6 coordinates the ranks are full."""
    plane = np.linalg.qr(gaussian(0, 20, 6))[0].T
    x, y = gaussian(1, n, 6), 2 * gaussian(2, m, 6) + 1
    assert frechet_distance(x @ plane, y @ plane) == pytest.approx(formula(x, y), rel=1e-6)


@pytest.mark.skipif(int(scipy.__version__.split(".")[1]) >= 18, reason="pytorch-fid 0.3.0 needs an older scipy")
@pytest.mark.parametrize(("n", "m", "d"), [(60, 90, 12), (200, 40, 30)])
def test_it_is_pytorch_fids(n, m, d):
    from pytorch_fid.fid_score import calculate_frechet_distance

    x, y = gaussian(0, n, d) @ gaussian(1, d, d), 3 * gaussian(2, m, d) + 1
    theirs = calculate_frechet_distance(x.mean(0), np.cov(x.T), y.mean(0), np.cov(y.T))
    assert frechet_distance(x, y) == pytest.approx(theirs, rel=1e-8)


@pytest.mark.parametrize(("n", "m", "d"), [(30, 50, 5), (4, 50, 9), (4, 6, 9)])
def test_it_is_symmetric_and_blind_to_rotation(n, m, d):
    x, y = gaussian(0, n, d), 2 * gaussian(1, m, d) + 1
    turn = np.linalg.qr(gaussian(2, d, d))[0]
    assert frechet_distance(x, y) == pytest.approx(frechet_distance(y, x), rel=1e-10)
    assert frechet_distance(x @ turn, y @ turn) == pytest.approx(frechet_distance(x, y), rel=1e-10)


def test_it_is_in_squared_units_and_computed_in_double_precision():
    x, y = gaussian(0, 30, 5), 2 * gaussian(1, 40, 5)
    assert frechet_distance(7 * x, 7 * y) == pytest.approx(49 * frechet_distance(x, y))
    x32, y32 = x.astype(np.float32), y.astype(np.float32)
    assert frechet_distance(x32, y32) == frechet_distance(x32.astype(np.float64), y32.astype(np.float64))


@pytest.mark.parametrize(("n", "m"), [(1, 5), (5, 1), (0, 5)])
def test_too_few_rows_are_refused(n, m):
    with pytest.raises(ValueError, match="at least two samples"):
        frechet_distance(gaussian(0, n, 3), gaussian(1, m, 3))


# The floor


def test_floor_falls_like_one_over_n():
    real = gaussian(0, 12_000, 8)
    floors = {n: np.mean([frechet_floor(real, n, seed) for seed in range(12)]) for n in (50, 200, 800)}
    assert 3 < floors[50] / floors[200] < 5
    assert 3 < floors[200] / floors[800] < 5


def test_floor_is_the_distance_of_two_disjoint_parts():
    real = gaussian(0, 60, 3)
    order = np.random.default_rng(5).permutation(60)
    assert frechet_floor(real, 20, seed=5) == pytest.approx(formula(real[order[:20]], real[order[20:]]))
    assert frechet_floor(real, 20, seed=5) != frechet_floor(real, 20, seed=6)


def test_floor_takes_at_most_half():
    real = gaussian(0, 101, 3)
    assert frechet_floor(real, 10**6) == frechet_floor(real, 50)
    assert frechet_floor(real, 50) != frechet_floor(real, 49)


# The tests


def test_t_test_is_welchs_formula():
    """Unlike sizes and spreads, where Student's pooled test would say something else."""
    a, b = np.array([0.904, 0.901, 0.907, 0.900, 0.909]), np.array([0.978, 0.90, 0.985])
    va, vb = a.var(ddof=1) / len(a), b.var(ddof=1) / len(b)
    t = (a.mean() - b.mean()) / math.sqrt(va + vb)
    df = (va + vb) ** 2 / (va**2 / (len(a) - 1) + vb**2 / (len(b) - 1))
    assert welch_t_test(a, b) == pytest.approx(2 * stats.t.sf(abs(t), df))
    assert welch_t_test(b, a) == pytest.approx(welch_t_test(a, b))


@pytest.mark.parametrize(("a", "b"), [([1.0], [1.0, 2.0]), ([1.0, 2.0], [1.0])])
def test_t_test_of_one_run_is_refused(a, b):
    with pytest.raises(ValueError, match="at least two runs"):
        welch_t_test(np.array(a), np.array(b))


def test_paired_t_test_is_students_of_the_differences():
    a, b = np.array([0.904, 0.941, 0.907, 0.930]), np.array([0.978, 0.990, 0.985, 0.979])
    gap = b - a
    t = gap.mean() / (gap.std(ddof=1) / 2)
    assert paired_t_test(a, b) == pytest.approx(2 * stats.t.sf(abs(t), 3))
    assert paired_t_test(b, a) == pytest.approx(paired_t_test(a, b))
    assert paired_t_test(a, a) == 1


@pytest.mark.parametrize(("a", "b"), [([1.0], [2.0]), ([1.0, 2.0], [1.0, 2.0, 3.0])])
def test_a_paired_test_needs_pairs(a, b):
    with pytest.raises(ValueError, match="the same seeds on both sides, at least two"):
        paired_t_test(np.array(a), np.array(b))


@pytest.mark.parametrize(("gained", "lost", "p"), [(5, 0, 2 / 2**5), (3, 1, 10 / 2**4), (2, 2, 1), (0, 0, 1)])
def test_p_value_of_pairs_is_a_coins(gained, lost, p):
    """As many heads or tails, or more unequal ones, of so many tosses; pairs that agree do not count."""
    a = np.array([False] * gained + [True] * lost + [True] * 30 + [False] * 20)
    b = np.array([True] * gained + [False] * lost + [True] * 30 + [False] * 20)
    assert paired_rates_p_value(a, b) == pytest.approx(p)
    with pytest.raises(ValueError, match="samples in pairs"):
        paired_rates_p_value(a, b[1:])


@pytest.mark.parametrize(("ka", "na", "kb", "nb"), [(90, 100, 98, 100), (3, 7, 5, 9), (5, 10, 10, 20), (0, 4, 4, 4)])
def test_p_value_of_two_rates_is_fishers(ka, na, kb, nb):
    """Of all tables with these margins, the probability of those no likelier than this one."""
    total = ka + kb

    def probability(i):
        return math.comb(na, i) * math.comb(nb, total - i) / math.comb(na + nb, total)

    tables = [probability(i) for i in range(max(0, total - nb), min(na, total) + 1)]
    expected = sum(p for p in tables if p <= probability(ka) * (1 + 1e-9))
    a, b = Rate(ka / na, 0, 1, na), Rate(kb / nb, 0, 1, nb)
    assert two_rates_p_value(a, b) == pytest.approx(expected)


# The best and what is not different from it


def runs(mean: float, spread: float, n: int = 5) -> np.ndarray:
    """n runs with exactly this mean and standard deviation."""
    return mean + spread * stats.zscore(np.arange(float(n)) ** 2, ddof=1)


def test_not_different_is_what_scipys_test_does_not_reject():
    groups = {"a": runs(0.90, 0.01), "b": runs(0.978, 0.02), "c": runs(0.96, 0.03), "d": runs(0.95, 0.002, 3)}
    p = {name: stats.ttest_ind(groups[name], groups["b"], equal_var=False).pvalue for name in groups}
    assert p["a"] < 0.05 < p["c"]
    assert p["d"] < 0.05
    assert not_different(groups, "max") == {"b", "c"}
    assert not_different(groups, "max", level=p["d"] * 0.99) == {"b", "c", "d"}
    assert not_different(groups, "max", level=p["c"] * 1.01) == {"b"}


def test_the_best_is_the_highest_or_the_lowest():
    groups = {"a": runs(3.0, 0.1), "b": runs(2.0, 0.1), "c": runs(2.01, 0.1)}
    assert not_different(groups, "max") == {"a"}
    assert not_different(groups, "min") == {"b", "c"}


def test_one_run_is_never_tested():
    one, five = np.array([0.9]), runs(0.9001, 0.1)
    assert not_different({"one": one, "five": five}, "max") == {"five"}
    assert not_different({"one": one, "five": five - 1}, "max") == {"one"}
    assert not_different({"one": one, "other": np.array([0.89])}, "max") == {"one"}
    assert not_different({"one": one, "same": one.copy()}, "max") == {"one", "same"}


@pytest.mark.filterwarnings("ignore:Precision loss")
def test_groups_without_spread():
    still = np.array([0.5, 0.5, 0.5])
    assert not_different({"a": still, "b": still.copy()}, "max") == {"a", "b"}
    assert not_different({"a": still, "b": still - 0.1}, "max") == {"a"}


@pytest.mark.parametrize(
    ("groups", "best"), [({}, "max"), ({"a": np.array([])}, "max"), ({"a": np.array([1.0])}, "largest")]
)
def test_what_cannot_be_compared_is_refused(groups, best):
    with pytest.raises(ValueError, match="groups with at least one run each"):
        not_different(groups, best)
