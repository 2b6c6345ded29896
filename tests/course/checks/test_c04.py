"""Mutation tests of the checks of notebook 04: typical wrong answers fail with the sentence that helps."""

import math
from itertools import combinations, combinations_with_replacement

import numpy as np
import pytest
import torch
from answers import passes
from scipy.linalg import sqrtm
from scipy.stats import binomtest, hypergeom

from pudm_lite.course.checks.c04 import (
    _exact_n,
    _wilson,
    check_04_1,
    check_04_2,
    check_04_3,
    check_04_4,
    check_04_5,
    check_04_6,
)
from pudm_lite.course.checks.harness import WrongAnswer
from pudm_lite.measures.metrics import corrected_rate, frechet_distance, non_sensitive_rate

# 04.1: the split


def split(labels, normal, u_normal, u_sensitive, s, seed):
    g = torch.Generator().manual_seed(seed)
    is_normal = torch.isin(labels, torch.tensor(normal))
    good, bad = is_normal.nonzero()[:, 0], (~is_normal).nonzero()[:, 0]
    good = good[torch.randperm(len(good), generator=g)]
    bad = bad[torch.randperm(len(bad), generator=g)]
    u = torch.cat([good[:u_normal], bad[:u_sensitive]])
    return u[torch.randperm(len(u), generator=g)], bad[u_sensitive : u_sensitive + s]


def split_with_numpy(labels, normal, u_normal, u_sensitive, s, seed):
    rng = np.random.default_rng(seed)
    is_normal = np.isin(labels.numpy(), normal)
    bad = rng.choice(np.flatnonzero(~is_normal), u_sensitive + s, replace=False)
    good = rng.choice(np.flatnonzero(is_normal), u_normal, replace=False)
    return torch.from_numpy(rng.permutation(np.append(good, bad[s:]))), torch.from_numpy(bad[:s])


def overlapping(labels, normal, u_normal, u_sensitive, s, seed):
    u, _ = split(labels, normal, u_normal, u_sensitive, s, seed)
    bad = (~torch.isin(labels, torch.tensor(normal))).nonzero()[:, 0]
    return u, bad[torch.randperm(len(bad), generator=torch.Generator().manual_seed(seed + 5))][:s]


def with_replacement(labels, normal, u_normal, u_sensitive, s, seed):
    rng = np.random.default_rng(seed)
    is_normal = np.isin(labels.numpy(), normal)
    good, bad = rng.choice(np.flatnonzero(is_normal), u_normal), rng.choice(np.flatnonzero(~is_normal), u_sensitive)
    return torch.from_numpy(rng.permutation(np.append(good, bad))), torch.from_numpy(np.flatnonzero(~is_normal)[:s])


def in_blocks(labels, normal, u_normal, u_sensitive, s, seed):
    u, chosen = split(labels, normal, u_normal, u_sensitive, s, seed)
    return u[torch.isin(labels[u], torch.tensor(normal)).int().argsort(descending=True, stable=True)], chosen


def in_order(labels, normal, u_normal, u_sensitive, s, seed):
    u, chosen = split(labels, normal, u_normal, u_sensitive, s, seed)
    return u.sort().values, chosen


def groups_exchanged(labels, normal, u_normal, u_sensitive, s, seed):
    others = [c for c in range(10) if c not in normal]
    return split(labels, others, u_normal, u_sensitive, s, seed)


def counts_exchanged(labels, normal, u_normal, u_sensitive, s, seed):
    return split(labels, normal, u_sensitive, u_normal, s, seed)


def unseeded(labels, normal, u_normal, u_sensitive, s, seed):
    return split(labels, normal, u_normal, u_sensitive, s, int(torch.randint(10**9, ())))


def first_ones(labels, normal, u_normal, u_sensitive, s, seed):
    is_normal = torch.isin(labels, torch.tensor(normal))
    good, bad = is_normal.nonzero()[:, 0], (~is_normal).nonzero()[:, 0]
    u = torch.cat([good[:u_normal], bad[:u_sensitive]])
    order = torch.randperm(len(u), generator=torch.Generator().manual_seed(seed))
    return u[order], bad[u_sensitive : u_sensitive + s]


def partly_drawn(labels, normal, u_normal, u_sensitive, s, seed):
    """U's sensitive images are always the first ones; everything else is drawn."""
    bad = (~torch.isin(labels, torch.tensor(normal))).nonzero()[:, 0]
    rest = bad[u_sensitive:][torch.randperm(len(bad) - u_sensitive, generator=torch.Generator().manual_seed(seed))]
    u, _ = split(labels, normal, u_normal, 0, s, seed)
    u = torch.cat([u, bad[:u_sensitive]])
    return u[torch.randperm(len(u), generator=torch.Generator().manual_seed(seed))], rest[:s]


@pytest.mark.parametrize("right", [split, split_with_numpy])
def test_right_splits_pass(right):
    passes(check_04_1, right)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (overlapping, "share images"),
        (with_replacement, "an image twice"),
        (in_blocks, "two blocks"),
        (in_order, "sorted by position"),
        (groups_exchanged, "normal images only"),
        (counts_exchanged, "two counts are exchanged|S holds|s holds"),
        (unseeded, "the same seed gave another split"),
        (first_ones, "another seed gave the same images"),
        (partly_drawn, "the same images .sensitive images of U"),
        (lambda *a: (split(*a)[0][:-1], split(*a)[1]), "u holds .* asks for"),
        (lambda *a: split(*a)[0], "return two tensors"),
        (lambda *a: None, "returned None"),
        (lambda *a: (split(*a)[0].float(), split(*a)[1]), "a row of integers"),
        (lambda *a: (split(*a)[0] + 1000, split(*a)[1]), "outside the data"),
    ],
)
def test_wrong_splits_fail(wrong, message):
    with pytest.raises(WrongAnswer, match=message):
        check_04_1.examine(wrong)


# 04.2: Wilson's interval


def wilson(k, n, z):
    p = k / n
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    return centre - half, centre + half


def with_tensors(k, n, z):
    roots = torch.tensor([-1.0, 1.0], dtype=torch.float64) * z * math.sqrt(k * (n - k) / n + z**2 / 4)
    return (k + z**2 / 2 + roots) / (n + z**2)


def wald(k, n, z):
    half = z * math.sqrt(k / n * (1 - k / n) / n)
    return k / n - half, k / n + half


def parts(centre=lambda p, n, z: (p + z**2 / (2 * n)) / (1 + z**2 / n), extra=1, scale=True):
    def answer(k, n, z):
        p = k / n
        half = z * math.sqrt(p * (1 - p) / n + extra * z**2 / (4 * n**2)) / ((1 + z**2 / n) if scale else 1)
        return centre(p, n, z) - half, centre(p, n, z) + half

    return answer


@pytest.mark.parametrize("right", [wilson, with_tensors, lambda *a: torch.tensor(wilson(*a)), parts()])
def test_right_intervals_pass(right):
    passes(check_04_2, right)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (wald, "interval of textbooks"),
        (lambda *a: (max(wald(*a)[0], 0.0), min(wald(*a)[1], 1.0)), "interval of textbooks|cut at 0 and 1"),
        (parts(centre=lambda p, n, z: p), "the centre is still p"),
        (parts(centre=lambda p, n, z: p + z**2 / (2 * n), scale=False), "lacks the division"),
        (parts(scale=False), "the width lacks the division"),
        (parts(extra=0), r"the root lacks z²/\(4n²\)"),
        (lambda *a: wilson(*a)[::-1], "exchanged"),
        (lambda k, n, z: wilson(k, n, 1.959964), "use the argument"),
        (lambda *a: wilson(*a)[0], "the shape is"),
    ],
)
def test_wrong_intervals_fail(wrong, message):
    with pytest.raises(WrongAnswer, match=message):
        check_04_2.examine(wrong)


@pytest.mark.parametrize(("k", "n"), [(0, 7), (30, 31), (31, 31), (120, 400)])
def test_the_checks_interval_is_scipys(k, n):
    want = binomtest(k, n).proportion_ci(0.95, method="wilson")
    assert _wilson(k / n, n, 1.959963984540054) == pytest.approx((want.low, want.high), abs=1e-9)
    rate = non_sensitive_rate(np.arange(n) < k)
    assert (rate.low, rate.high) == pytest.approx(_wilson(k / n, n, 1.959963984540054), abs=1e-9)


# 04.3: how many samples


def width_of(p, n, z):
    low, high = _wilson(p, n, z)
    return high - low


def counted(p, width, z):
    n = 1
    while width_of(p, n, z) > width:
        n += 1
    return n


def bisected(p, width, z):
    low, high = 0, 10**6
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if width_of(p, middle, z) <= width else (middle, high)
    return torch.tensor(high)


@pytest.mark.parametrize("right", [counted, bisected, lambda *a: math.ceil(_exact_n(*a))])
def test_right_numbers_of_samples_pass(right):
    passes(check_04_3, right)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda p, w, z: counted(p, 2 * w, z), "low to p"),
        (lambda p, w, z: bisected(p, w / 2, z), "twice the precision"),
        (lambda p, w, z: counted(p, w, z) - 1, "one too few"),
        (lambda p, w, z: counted(p, w, z) + 1, "one too many"),
        (lambda p, w, z: _exact_n(p, w, z), "round up"),
        (lambda p, w, z: math.ceil((2 * z / w) ** 2 * p * (1 - p)), "Wilson's interval has another width"),
        (lambda p, w, z: 3, "it should be"),
        (lambda p, w, z: next(n for n in range(1, 10**6) if width_of(round(p * n) / n, n, z) <= w), "."),
        (lambda p, w, z: None, "returned None"),
    ],
)
def test_wrong_numbers_of_samples_fail(wrong, message):
    with pytest.raises(WrongAnswer, match=message):
        check_04_3.examine(wrong)


# 04.4: the Fréchet distance of two Gaussians


def frechet(mx, cx, my, cy):
    root = torch.linalg.eigvals(cx @ cy).real.clamp(min=0).sqrt().sum()
    return (mx - my).square().sum() + cx.trace() + cy.trace() - 2 * root


def with_scipy(mx, cx, my, cy):
    root = np.real(np.trace(sqrtm((cx @ cy).numpy())))
    return float((mx - my) @ (mx - my) + torch.trace(cx + cy)) - 2 * float(root)


def with_singular_values(mx, cx, my, cy):
    a, b = torch.linalg.cholesky(cx), torch.linalg.cholesky(cy)
    return ((mx - my) ** 2).sum() + (a**2).sum() + (b**2).sum() - 2 * torch.linalg.svdvals(a.T @ b).sum()


def other(root, gap=lambda v: v @ v, factor=2):
    def answer(mx, cx, my, cy):
        return gap(mx - my) + cx.trace() + cy.trace() - factor * root(cx, cy)

    return answer


def true_root(cx, cy):
    return torch.linalg.eigvals(cx @ cy).real.clamp(min=0).sqrt().sum()


@pytest.mark.parametrize("right", [frechet, with_scipy, with_singular_values, other(true_root)])
def test_right_distances_pass(right):
    passes(check_04_4, right)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (other(true_root, gap=lambda v: v.norm()), "the means enter squared"),
        (other(true_root, gap=lambda v: 0), "the means are missing"),
        (other(true_root, factor=1), "counts twice"),
        (other(true_root, factor=-2), "subtracted"),
        (other(lambda a, b: (a @ b).trace()), "its \\*root\\* is wanted"),
        (other(lambda a, b: torch.linalg.eigvals(a @ b).real.sum()), "root"),
        (other(lambda a, b: (a @ b).trace().sqrt()), "root of the trace"),
        (other(lambda a, b: (a @ b).diagonal().clamp(min=0).sqrt().sum()), "root of every entry"),
        (
            other(lambda a, b: (torch.linalg.eigvalsh(a) * torch.linalg.eigvalsh(b)).sqrt().sum()),
            "eigenvalues of the product",
        ),
    ],
)
def test_wrong_distances_fail(wrong, message):
    with pytest.raises(WrongAnswer, match=message):
        check_04_4.examine(wrong)


def test_the_checks_closed_form_is_the_packages_distance():
    """Samples with exactly these moments: y = A x with A symmetric, the map that the check builds on."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 3)) @ rng.normal(size=(3, 3))
    a = rng.normal(size=(3, 3))
    move = a @ a.T + np.eye(3)
    cov = np.cov(x.T)
    y = x @ move + 1
    gap = x.mean(0) - y.mean(0)
    want = gap @ gap + np.trace(cov) + np.trace(move @ cov @ move) - 2 * np.trace(cov @ move)
    assert frechet_distance(x, y) == pytest.approx(want)
    moments = (torch.from_numpy(v) for v in (x.mean(0), cov, y.mean(0), np.cov(y.T)))
    assert float(frechet(*moments)) == pytest.approx(want)


# 04.5: the rate behind a judge that errs


def rogan_gladen(rate, kept, caught):
    return min(max((rate + caught - 1) / (kept + caught - 1), 0), 1)


def by_solving(rate, kept, caught):
    matrix = torch.tensor([[kept, 1 - caught], [1.0, 1.0]], dtype=torch.float64)
    return torch.linalg.solve(matrix, torch.tensor([rate, 1.0], dtype=torch.float64))[0].clamp(0, 1)


@pytest.mark.parametrize("right", [rogan_gladen, by_solving, corrected_rate])
def test_right_corrections_pass(right):
    passes(check_04_5, right)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda r, a, b: (r - 1 + b) / (a + b - 1), "outside 0..1"),
        (lambda r, a, b: rogan_gladen(r, b, a), "exchanged"),
        (lambda r, a, b: r - (1 - b), "division by kept"),
        (lambda r, a, b: r / a, "kept alone"),
        (lambda r, a, b: r / (a + b - 1), "subtracted nothing"),
        (lambda r, a, b: (r - b) / (a + b - 1), "subtracted `caught`"),
        (lambda r, a, b: a * r + (1 - b) * (1 - r), "forwards"),
        (lambda r, a, b: r, "as it came in"),
    ],
)
def test_wrong_corrections_fail(wrong, message):
    with pytest.raises(WrongAnswer, match=message):
        check_04_5.examine(wrong)


# 04.6: pooled batches


def in_a_batch(k, n, size):
    """P(a batch of `size` from n holds at least one of k given ones), factor by factor."""
    none = 1.0
    for i in range(size):
        none *= max(n - k - i, 0) / (n - i)
    return 1 - none


def pooled_batches(
    l_u,
    l_s,
    beta,
    size,
    derived=None,
    counted=lambda u, s, beta: (u.mean() if len(u) else 0) - beta * (s.mean() if len(s) else 0),
    stepped=lambda risk, beta, held: held * (beta if risk < 0 else -beta),
    taken=lambda u, s: True,
    choose=combinations,
):
    """The answer of 04.6; what is given by name replaces a part of it."""
    n_u, n = len(l_u), len(l_u) + len(l_s)
    both = torch.cat([l_u, l_s])
    normals, factors = [], []
    for chosen in choose(range(n), size):
        chosen = torch.tensor(chosen)
        u, s = both[chosen[chosen < n_u]], both[chosen[chosen >= n_u]]
        if taken(u, s):
            risk = (u.mean() if len(u) else 0) - beta * (s.mean() if len(s) else 0)
            normals.append(float(counted(u, s, beta)))
            factors.append(float(stepped(risk, beta, len(s) > 0)))
    some_u, some_s = in_a_batch(n_u, n, size), in_a_batch(len(l_s), n, size)
    closed = some_u * l_u.mean() - beta * some_s * l_s.mean()
    closed = derived(l_u.mean(), l_s.mean(), some_u, some_s, beta) if derived else closed
    return closed, sum(normals) / len(normals), sum(factors) / len(factors)


def pooled_by_counting_subsets(l_u, l_s, beta, size):
    """hypergeometric shares, bits for batches, and numbers."""
    l, n_u = [*l_u.tolist(), *l_s.tolist()], len(l_u)
    n = len(l)
    total = factor = batches = 0.0
    for bits in range(1 << n):
        if bits.bit_count() != size:
            continue
        u = [l[i] for i in range(n_u) if bits >> i & 1]
        s = [l[i] for i in range(n_u, n) if bits >> i & 1]
        risk = sum(u) / max(len(u), 1) - beta * sum(s) / max(len(s), 1)
        batches, total = batches + 1, total + risk
        factor += 0 if not s else beta if risk < 0 else -beta
    some_u, some_s = (1 - hypergeom(n, k, size).pmf(0) for k in (n_u, n - n_u))
    return [some_u * sum(l[:n_u]) / n_u - beta * some_s * sum(l[n_u:]) / (n - n_u), total / batches, factor / batches]


def pooled_by(**parts):
    return lambda *given: pooled_batches(*given, **parts)


def third_of(change):
    def answer(*given):
        derived, counted, stepped = pooled_batches(*given)
        return derived, counted, change(stepped, *given)

    return answer


@pytest.mark.parametrize("right", [pooled_batches, pooled_by_counting_subsets])
def test_right_enumerations_pass(right):
    passes(check_04_6, right)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (pooled_by(derived=lambda u, s, a, b, beta: u - beta * s), "without the bias"),
        (pooled_by(derived=lambda u, s, a, b, beta: u - beta * b * s), "without an image of U"),
        (pooled_by(derived=lambda u, s, a, b, beta: a * u - beta * (1 - b) * s), r"\*without\* an image of S"),
        (pooled_by(derived=lambda u, s, a, b, beta: a * u - b * s), "beta is missing"),
        (pooled_by(derived=lambda u, s, a, b, beta: a * u + beta * b * s), "L_S is taken away"),
        (
            lambda u, s, beta, size: (
                pooled_with_replacement(u, s, beta, size),
                *pooled_batches(u, s, beta, size)[1:],
            ),
            "draws with replacement",
        ),
        (
            lambda u, s, beta, size: (
                (len(u) * u.mean() - beta * len(s) * s.mean()) / (len(u) + len(s)),
                *pooled_batches(u, s, beta, size)[1:],
            ),
            "you weighed it by their share",
        ),
        (pooled_by(taken=lambda u, s: len(s) > 0), "counted: batches without an image of S count"),
        (pooled_by(counted=lambda u, s, beta: max(0.0, float(normal_of(u, s, beta)))), "the maximum is another"),
        (pooled_by(counted=lambda u, s, beta: u.sum() - beta * s.sum()), "means over the batch's own images"),
        (
            lambda u, s, beta, size: (
                pooled_batches(u, s, beta, size)[0],
                pooled_batches(u, s, beta, size)[1] * math.comb(len(u) + len(s), size),
                0.0,
            ),
            "divide by the number of batches",
        ),
        (pooled_by(choose=combinations_with_replacement), "no image twice"),
        (third_of(lambda x, *_: -x), "the sign is turned"),
        (pooled_by(stepped=lambda risk, beta, held: -beta * held), "line 5's in every batch"),
        (pooled_by(stepped=lambda risk, beta, held: -beta * held * (risk >= 0)), r"counts \+beta, not 0"),
        (pooled_by(stepped=lambda risk, beta, held: beta if risk < 0 else -beta), "and counts 0"),
        (third_of(lambda x, u, s, beta, size: x / in_a_batch(len(s), len(u) + len(s), size)), "and counts 0"),
        (third_of(lambda x, u, s, beta, size: x * math.comb(len(u) + len(s), size)), "that is the sum"),
        (third_of(lambda x, u, s, beta, size: x / beta), "in units of beta"),
        (lambda *given: pooled_batches(*given)[:2], "return three numbers"),
        (lambda *given: None, "return three numbers"),
    ],
)
def test_wrong_enumerations_fail(wrong, message):
    for _ in range(3):
        with pytest.raises(WrongAnswer, match=message):
            check_04_6.examine(wrong)


def normal_of(u, s, beta):
    return (u.mean() if len(u) else torch.zeros(())) - beta * (s.mean() if len(s) else 0)


def pooled_with_replacement(u, s, beta, size):
    n = len(u) + len(s)
    return (1 - (len(s) / n) ** size) * u.mean() - beta * (1 - (len(u) / n) ** size) * s.mean()
