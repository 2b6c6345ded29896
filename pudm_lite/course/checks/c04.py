"""Checks of notebook 04: the split of Table 1, intervals, a judge that errs, the Fréchet distance, pooled batches."""

import math
from itertools import combinations, combinations_with_replacement, pairwise
from typing import Any

import torch
from torch import Tensor

from .harness import Function, WrongAnswer, check, expect


def _positions(answer: Any) -> tuple[Tensor, Tensor]:
    """(u, s), int64, from what a student returned."""
    if answer is None:
        raise WrongAnswer("your function returned None: is there a `return` on every path?")
    if not isinstance(answer, tuple | list) or len(answer) != 2:
        raise WrongAnswer("return two tensors of positions, u and s: `return u, s`")
    u, s = (torch.as_tensor(part) for part in answer)
    for name, part in (("u", u), ("s", s)):
        if part.ndim != 1 or part.dtype.is_floating_point or part.dtype == torch.bool:
            raise WrongAnswer(f"{name} is {part.dtype} of shape {tuple(part.shape)}; positions are a row of integers")
    return u.long(), s.long()


@check("04.1", "split_u_s", points=3)
def check_04_1(split_u_s: Function) -> None:
    """The split of Table 1 on made-up labels: counts, disjointness, order, and what the seed decides."""
    groups = torch.randperm(10)[:6].tolist()
    normal, sensitive = groups[:3], groups[3:]  # four classes are in neither group's images
    labels = torch.tensor(groups).repeat(60)[torch.randperm(360)]  # 180 normal images, 180 sensitive
    u_normal, u_sensitive, n_s = (int(torch.randint(low, low + 20, ())) for low in (100, 40, 60))
    seed = int(torch.randint(1, 1000, ()))

    def called(seed: int) -> tuple[Tensor, Tensor]:
        return _positions(split_u_s(labels, normal, u_normal, u_sensitive, n_s, seed))

    u, s = called(seed)
    for name, part, wanted in (("u", u, u_normal + u_sensitive), ("s", s, n_s)):
        if len(part) != wanted:
            raise WrongAnswer(f"{name} holds {len(part)} images; Table 1 asks for {wanted} here")
        if int(part.min()) < 0 or int(part.max()) >= len(labels):
            raise WrongAnswer(f"{name} holds positions outside the data: they count images of `labels`")
        if len(part.unique()) < len(part):
            raise WrongAnswer(f"{name} holds an image twice: draw without replacement (torch.randperm)")
    if torch.isin(u, s).any():
        raise WrongAnswer(
            "U and S share images: shuffle the sensitive images once, give the first to U and the next ones to S"
        )
    is_sensitive = torch.isin(labels, torch.tensor(sensitive))
    if not is_sensitive[s].all():
        some = "holds normal images" if is_sensitive[s].any() else "holds normal images only: look at which group is in"
        raise WrongAnswer(f"S {some}; every image of S is sensitive")
    in_u = int(is_sensitive[u].sum())
    if in_u != u_sensitive:
        swapped = " (the two counts are exchanged)" if in_u == u_normal else ""
        raise WrongAnswer(f"U holds {in_u} sensitive images; exactly {u_sensitive} were asked{swapped}")
    flags = is_sensitive[u].int()
    if int((flags.diff() != 0).sum()) <= 1:
        raise WrongAnswer("U is in two blocks, normal and sensitive: shuffle it, or its order gives the labels away")
    if torch.equal(u, u.sort().values):
        raise WrongAnswer("U is sorted by position, not shuffled: a draw has no order")
    again, other = called(seed), called(seed + 1)
    if not all(map(torch.equal, again, (u, s))):
        raise WrongAnswer(
            "the same seed gave another split: seed a generator of your own, torch.Generator().manual_seed(seed), "
            "and pass it to every torch.randperm"
        )
    drawn = {"normal images of U": (u, False), "sensitive images of U": (u, True), "images of S": (s, True)}
    for (name, (part, flag)), of_other in zip(drawn.items(), (other[0], other[0], other[1]), strict=True):
        first, second = (set(one[is_sensitive[one] == flag].tolist()) for one in (part, of_other))
        if first == second:
            raise WrongAnswer(f"another seed gave the same images ({name}): draw them at random, do not take the first")


def _wilson(p: float, n: float, z: float) -> tuple[float, float]:
    """The two shares q that the score test does not tell from p: the roots of (p - q)^2 = z^2 q (1 - q) / n."""
    a, b, c = 1 + z**2 / n, -(2 * p + z**2 / n), p**2
    root = math.sqrt(max(b**2 - 4 * a * c, 0))
    return (-b - root) / (2 * a), (-b + root) / (2 * a)


@check("04.2", "wilson", points=2)
def check_04_2(wilson: Function) -> None:
    """Against the roots of the score equation, at random counts and at none and all of n."""
    n = int(torch.randint(20, 60, ()))
    z = float(torch.empty(()).uniform_(1.2, 1.7))  # far enough from 1.96 to tell
    for k in (n - 1, n, 0, int(torch.randint(2, n // 3, ()))):  # first where the typical mistakes lie apart
        p = k / n
        low, high = _wilson(p, n, z)
        wald = z * math.sqrt(p * (1 - p) / n)
        score = z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
        scale = 1 + z**2 / n
        centre = (p + z**2 / (2 * n)) / scale
        few = z * math.sqrt(p * (1 - p) / n) / scale
        mistakes = {
            "that is p ± z √(p(1−p)/n), the interval of textbooks, which leaves [0, 1] near 1: Wilson's centre and "
            "width have z²/n terms": (p - wald, p + wald),
            "that is p ± z √(p(1−p)/n) cut at 0 and 1: Wilson's centre and width have z²/n terms": (
                max(p - wald, 0),
                min(p + wald, 1),
            ),
            "the centre is still p: Wilson's is (p + z²/(2n)) / (1 + z²/n)": (p - score / scale, p + score / scale),
            "your result lacks the division by 1 + z²/n": (
                p + z**2 / (2 * n) - score,
                p + z**2 / (2 * n) + score,
            ),
            "the width lacks the division by 1 + z²/n; the centre has it": (centre - score, centre + score),
            "the root lacks z²/(4n²)": (centre - few, centre + few),
            "low and high are exchanged": (high, low),
            "that is z = 1.96 whatever z is: use the argument": _wilson(p, n, 1.959964),
        }
        got = wilson(k, n, z)
        expect(got, torch.tensor([low, high], dtype=torch.float64), {m: torch.tensor(v) for m, v in mistakes.items()})


@check("04.3", "samples_needed", points=2)
def check_04_3(samples_needed: Function) -> None:
    """The smallest n, from the quadratic that Wilson's width gives: often, or rounding p n would be right by luck."""
    for _ in range(5):
        _expect_number(samples_needed)


def _expect_number(samples_needed: Function) -> None:
    exact = wald = 0.0
    while not 0.1 < exact % 1 < 0.9 or abs(exact - wald) < 3:  # rounding decides nothing; the textbook's n differs
        p = float(torch.empty(()).uniform_(0.85, 0.99))
        width = float(torch.empty(()).uniform_(0.03, 0.08))
        z = float(torch.empty(()).uniform_(1.5, 2.2))
        exact = _exact_n(p, width, z)
        wald = (2 * z / width) ** 2 * p * (1 - p)
    got = samples_needed(p, width, z)
    value = float(torch.as_tensor(got, dtype=torch.float64)) if got is not None else math.nan
    if value == math.floor(exact):
        raise WrongAnswer("one too few: with that many the interval is still wider than asked")
    expect(
        got,
        float(math.ceil(exact)),
        {
            "that is for low to p; the width is the whole interval, high − low": float(
                math.ceil(_exact_n(p, 2 * width, z))
            ),
            "that is for twice the precision: the width is the whole interval, high − low, not half of it": float(
                math.ceil(_exact_n(p, width / 2, z))
            ),
            "that is the n of p ± z √(p(1−p)/n); Wilson's interval has another width near 0 and 1": float(
                math.ceil(wald)
            ),
            "one too many: with one fewer the interval is already narrow enough": float(math.ceil(exact)) + 1,
            "not a whole number of samples: round up": exact,
        },
        tolerance=1e-6,
    )


def _exact_n(p: float, width: float, z: float) -> float:
    """The real n at which Wilson's interval around p is `width` wide: (w (n + z^2))^2 = 4 z^2 p (1 - p) n + z^4."""
    a = width**2
    b = 2 * width**2 * z**2 - 4 * z**2 * p * (1 - p)
    c = width**2 * z**4 - z**4
    return (-b + math.sqrt(b**2 - 4 * a * c)) / (2 * a)


def _spd(d: int) -> Tensor:
    """A random covariance, (d, d) float64, eigenvalues away from 0."""
    a = torch.randn(d, d, dtype=torch.float64)
    return a @ a.T / d + 0.3 * torch.eye(d, dtype=torch.float64)


@check("04.4", "frechet", points=3)
def check_04_4(frechet: Function) -> None:
    """Against Gaussians whose distance is known: the optimal map between them is x -> A x, A symmetric."""
    d = 4
    mean_x, gap = torch.randn(2, d, dtype=torch.float64)
    gap = gap / gap.norm() * (1.5 + float(torch.rand(())))  # not near 1, whose square is itself
    mean_y = mean_x - gap
    for commuting in (True, False):
        if commuting:
            cov_x, move = (torch.diag(torch.rand(d, dtype=torch.float64) + 0.3) for _ in range(2))
        else:
            cov_x, move = _spd(d), _spd(d)
        cov_y = move @ cov_x @ move
        traces = cov_x.trace() + cov_y.trace()
        square, cross = gap @ gap, (cov_x @ move).trace()
        want = square + traces - 2 * cross
        product = cov_x @ cov_y
        mistakes = {
            "the means enter squared: |m_x − m_y|², not its root": square.sqrt() + traces - 2 * cross,
            "the means are missing": traces - 2 * cross,
            "the root of the product counts twice: −2 tr": square + traces - cross,
            "the sign of the root's trace is wrong: it is subtracted": square + traces + 2 * cross,
            "that is the trace of C_x C_y; its *root* is wanted: the roots of its eigenvalues, added up": square
            + traces
            - 2 * product.trace(),
            "that is the root of the trace; wanted is the trace of the root: first the roots of the eigenvalues, "
            "then their sum": square + traces - 2 * product.trace().sqrt(),
            "you took the root of every entry; a matrix's root has the roots of its *eigenvalues*": square
            + traces
            - 2 * product.diagonal().clamp(min=0).sqrt().sum(),
            "you multiplied the roots of the two matrices' eigenvalues; wanted are the eigenvalues of the product "
            "C_x C_y": square + traces - 2 * (torch.linalg.eigvalsh(cov_x) * torch.linalg.eigvalsh(cov_y)).sqrt().sum(),
            "you took the eigenvalues of the product as they are; their roots are wanted": square
            + traces
            - 2 * torch.linalg.eigvals(product).real.sum(),
        }
        expect(frechet(mean_x, cov_x, mean_y, cov_y), want, mistakes)
    expect(
        frechet(mean_x, cov_x, mean_x, cov_x),
        0.0,
        {"from itself a Gaussian is at distance 0; yours is not": cov_x.trace() * 2},
        tolerance=1e-5,
    )


@check("04.5", "true_rate", points=2)
def check_04_5(true_rate: Function) -> None:
    """The judge's errors are put in and must come out, and a rate stays a rate."""
    while True:
        kept, caught = (0.8 + 0.19 * torch.rand(2, dtype=torch.float64)).tolist()
        p = float(torch.empty(()).uniform_(0.3, 0.7))
        seen = kept * p + (1 - caught) * (1 - p)
        slope = kept + caught - 1
        mistakes = {
            "kept and caught are exchanged: normal images that the judge loses are 1 − kept": (seen - (1 - kept))
            / slope,
            "the division by kept + caught − 1 is missing": seen - (1 - caught),
            "that divides by kept alone: sensitive images pass for normal as well, a share 1 − caught of them": (
                seen / kept
            ),
            "you subtracted nothing for the sensitive images that pass for normal: 1 − caught of them": seen / slope,
            "you subtracted `caught`: those that pass for normal are 1 − caught": (seen - caught) / slope,
            "that is the equation forwards, what the judge would see; it is to be solved for p": (
                kept * seen + (1 - caught) * (1 - seen)
            ),
            "that is the rate as it came in": seen,
        }
        told_apart = sorted([p, *mistakes.values()])
        if min(b - a for a, b in pairwise(told_apart)) > 0.003:  # or one would look like another
            break
    expect(true_rate(seen, kept, caught), p, mistakes)
    above, below = min(kept + 0.005, 1.0), (1 - caught) / 2
    for raw, want in ((above, 1.0), (below, 0.0)):
        expect(
            true_rate(raw, kept, caught),
            want,
            {"a rate outside 0..1 came out: chance can push it there; cut it off": (raw - (1 - caught)) / slope},
        )


Batch = tuple[list[float], list[float]]
"""The errors of the images of U and of S in one batch."""


def _mean(errors: list[float]) -> float:
    return sum(errors) / len(errors) if errors else 0.0


def _normal(batch: Batch, beta: float) -> float:
    return _mean(batch[0]) - beta * _mean(batch[1])


@check("04.6", "pooled_batches", points=3)
def check_04_6(pooled_batches: Function) -> None:
    """Against all batches: of a set where no step is turned round, of one where some are, of one with few images of U.

    l are multiples of 1/8, and beta of 1/16, so that no sum is rounded at the border of the clamp.
    """
    for n_u, n_s, size, least, turns in ((6, 2, 3, 4, False), (5, 2, 3, 48, True), (3, 3, 2, 32, True)):
        while True:
            l_u = (torch.randint(8, 24, (n_u,)) / 8).double()
            l_s = (torch.randint(least, least + 24, (n_s,)) / 8).double()
            beta = float(torch.randint(3, 6, ())) / 16
            with_s = [_normal(batch, beta) < 0 for batch in _every(l_u, l_s, size) if batch[0] and batch[1]]
            if any(with_s) == turns and not all(with_s):
                break
        _expect_batches(pooled_batches, l_u, l_s, beta, size)


def _every(l_u: Tensor, l_s: Tensor, size: int, again: bool = False) -> list[Batch]:
    """All pooled batches of a size. again: with those that hold an image twice."""
    both = [(l, False) for l in l_u.tolist()] + [(l, True) for l in l_s.tolist()]
    chosen = (combinations_with_replacement if again else combinations)(both, size)
    return [([l for l, is_s in b if not is_s], [l for l, is_s in b if is_s]) for b in chosen]


def _expect_batches(pooled_batches: Function, l_u: Tensor, l_s: Tensor, beta: float, size: int) -> None:
    n_u, n_s, n = len(l_u), len(l_s), len(l_u) + len(l_s)
    answer = pooled_batches(l_u, l_s, beta, size)
    if not isinstance(answer, tuple | list) or len(answer) != 3:
        raise WrongAnswer("return three numbers: `return derived, counted, stepped`")

    def without(k: int) -> float:
        """The share of batches that hold none of k given images."""
        return math.comb(n - k, size) / math.comb(n, size)

    u, s = float(l_u.mean()), float(l_s.mean())
    some_u, some_s = 1 - without(n_u), 1 - without(n_s)
    expect(
        answer[0],
        some_u * u - beta * some_s * s,
        {
            "derived: that is what it should be, without the bias: a batch without an image of S takes nothing away": u
            - beta * s,
            "derived: a batch may also be without an image of U, and then has L_U = 0": u - beta * some_s * s,
            "derived: that is the share of batches *without* an image of S": some_u * u - beta * without(n_s) * s,
            "derived: an image is in a batch once at most, so the shares are quotients of binomial coefficients; yours "
            "are those of draws with replacement": (1 - (n_s / n) ** size) * u - beta * (1 - (n_u / n) ** size) * s,
            "derived: the mean over a batch's images of S counts fully whether there are one or two; you weighed it by "
            "their share of the batch": n_u / n * u - beta * n_s / n * s,
            "derived: that is the number of images of S that a batch holds on average; what counts is whether it holds "
            "one at all": some_u * u - beta * size * n_s / n * s,
            "derived: beta is missing": some_u * u - some_s * s,
            "derived: L_S is taken away": some_u * u + beta * some_s * s,
        },
        tolerance=1e-6,
    )
    every = _every(l_u, l_s, size)
    risks = [_normal(batch, beta) for batch in every]
    of_s = [risk for risk, batch in zip(risks, every, strict=True) if batch[1]]
    expected_u, expected_s = size * n_u / n, size * n_s / n
    expect(
        answer[1],
        _mean(risks),
        {
            "counted: batches without an image of S count as well": _mean(of_s),
            "counted: that is the mean of max{0, L_U - beta L_S}: the maximum is another question": _mean(
                [max(0.0, risk) for risk in risks]
            ),
            "counted: those are sums divided by the sizes that are *expected*; here each group is divided by what the "
            "batch holds of it": _mean([sum(a) / expected_u - beta * sum(b) / expected_s for a, b in every]),
            "counted: a batch holds no image twice (itertools.combinations)": _mean(
                [_normal(batch, beta) for batch in _every(l_u, l_s, size, again=True)]
            ),
            "counted: divide by the number of batches": sum(risks),
            "counted: L_U and L_S are means over the batch's own images, not sums": _mean(
                [sum(a) - beta * sum(b) for a, b in every]
            ),
        },
        tolerance=1e-6,
    )
    alone = "a batch without an image of S counts, and counts 0: it has no L_S to put a factor in front of"
    turned = [(-1 if risk >= 0 else 1) * beta * bool(batch[1]) for risk, batch in zip(risks, every, strict=True)]
    expect(
        answer[2],
        _mean(turned),
        {
            "stepped: the sign is turned: line 5 has -beta in front of L_S, line 7 +beta": -_mean(turned),
            "stepped: where L_U - beta L_S < 0 the step is turned round (line 7); yours is line 5's in every batch": (
                -beta * some_s
            ),
            "stepped: a batch whose step is turned round counts +beta, not 0": -beta
            * _mean([risk >= 0 for risk in of_s])
            * some_s,
            f"stepped: {alone}": _mean([(-1 if risk >= 0 else 1) * beta for risk in risks]),
            f"stepped: {alone} ": _mean(turned) / some_s,
            "stepped: that is the sum; divide by the number of batches": sum(turned),
            "stepped: that is in units of beta: the factor is -beta or +beta": _mean(turned) / beta,
        },
        tolerance=1e-6,
    )
