"""Checks of notebook 04: the split of Table 1, intervals, a judge that errs, the Fréchet distance."""

import math
from itertools import pairwise
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
