"""Checks of notebook 08: DDIM's steps, how fast a rate moves, bytes of training, and the clamp over pieces."""

import numpy as np
import torch
from torch import Tensor

from ...risks import Whole, nnpu
from ...sampling import timestep_grid
from .harness import Function, WrongAnswer, check, expect, slopes


def _total_and_steps() -> tuple[int, int]:
    """A T that the number of steps does not divide; an odd number, so that no step lies half-way.

    Drawn again where NumPy's arange, which Diffusers uses, is a step too long by rounding: that is no one's mistake.
    """
    while True:
        steps = 2 * int(torch.randint(4, 20, ())) + 1
        total = steps * int(torch.randint(5, 20, ())) + steps - 2  # so that rounding goes up as well as down
        if len(np.arange(total, 0, -total / steps)) == steps:
            return total, steps


@check("08.1", "ddim_timesteps", points=1)
def check_08_1(ddim_timesteps: Function) -> None:
    """Trailing spacing, at a T and a number of steps that are drawn; then where every other step lies half-way."""
    _expect_steps(ddim_timesteps, *_total_and_steps())
    steps = 2 * int(torch.randint(4, 12, ()))
    _expect_steps(ddim_timesteps, steps * int(torch.randint(5, 20, ())) + steps // 2, steps)


def _expect_steps(ddim_timesteps: Function, total: int, steps: int) -> None:
    k = torch.arange(steps, dtype=torch.float64)
    want = timestep_grid(total, steps)
    stride = total // steps
    exact = total - k * total / steps
    got = ddim_timesteps(total, steps)
    if isinstance(got, list | tuple):
        got = torch.tensor([float(step) if float(step) % 1 else int(step) for step in got])
    expect(
        got,
        want,
        {
            "every step is one too high: the code counts t from 0, so the last is T - 1": want + 1,
            "these go up; a sampler starts at T - 1, in pure noise, and comes down": want.flip(0),
            "that is leading spacing (0, T/S, 2T/S, ...): it never starts at T - 1, where the image is pure noise": (
                torch.arange(steps) * stride
            ).flip(0),
            "T/S was cut to a whole number before it was multiplied: the steps drift; round at the end": (
                total - torch.arange(steps) * stride - 1
            ),
            "that is torch.linspace from T - 1 to 0: the gaps are (T - 1)/(S - 1); trailing spacing has T/S": (
                torch.linspace(total - 1, 0, steps, dtype=torch.float64).round()
            ),
            "halves were all rounded up; round() takes them to the even number, and so do the steps of DDIM": (
                (exact + 0.5).floor() - 1
            ),
            "halves were all rounded down; round() takes them to the even number, and so do the steps of DDIM": (
                (exact - 0.5).ceil() - 1
            ),
            "the fractions were cut off: round, do not truncate": exact.floor() - 1,
            "every fraction was rounded up: round to the nearest": exact.ceil() - 1,
            "1 was subtracted before rounding, which takes halves the other way: round first": (exact - 1).round(),
            "there is one step too many: the last image is not another step": torch.cat([want, want.new_zeros(1)]),
            "there is one step too many: t = -1 does not exist": torch.cat([want, want.new_full((1,), -1)]),
        },
        tolerance=1e-9,
    )
    if torch.as_tensor(got).is_floating_point():
        raise WrongAnswer("the values are right, as fractions: steps are places in alpha_bar, so end with .long()")


@check("08.2", "half_way", points=2)
def check_08_2(half_way: Function) -> None:
    """A rising curve, measured at uneven steps, whose middle lies inside an interval, far from the median snapshot."""
    k = int(torch.randint(8, 11, ()))
    steps = torch.cat([torch.zeros(1), torch.randint(10, 60, (k - 1,)).double().cumsum(0)]).double()
    steps[-1] += 1 - steps[-1] % 2  # odd: half of it is no snapshot
    jumps = 0.5 + torch.rand(k - 1).double()
    jumps[(1, k - 3)[int(torch.randint(2, ()))]] += 1.2 * jumps.sum()  # there it passes the middle, early or late
    rise = jumps.cumsum(0)
    first, last = float(0.2 + 0.05 * torch.rand(())), float(0.9 + 0.08 * torch.rand(()))
    rates = torch.cat([torch.zeros(1).double(), rise / rise[-1]]) * (last - first) + first

    def crossing(target: float) -> Tensor:
        i = int((rates >= target).nonzero()[0, 0])
        if i == 0:
            return steps[0]
        share = (target - rates[i - 1]) / (rates[i] - rates[i - 1])
        return steps[i - 1] + share * (steps[i] - steps[i - 1])

    middle = (first + last) / 2
    others = (0.5, last / 2, middle, *(float(rate) for rate in (rates.median(), rates.quantile(0.5), rates.mean())))
    while min(abs(float(steps[-1] / 2 - crossing(rate))) for rate in others) < 1:
        steps[-1] += 2  # or half of the steps would be another mistake's answer by chance
    after = int((rates >= middle).nonzero()[0, 0])
    share = (middle - rates[after - 1]) / (rates[after] - rates[after - 1])
    expect(
        half_way(steps, rates),
        crossing(middle),
        {
            "that is where the rate is 0.5; half of its way lies midway between first and last rate": crossing(0.5),
            "that is where the rate is half of the last; half of its way lies midway between first and last": (
                crossing(last / 2)
            ),
            "half of the *change* is to be added to the first rate": crossing((last - first) / 2),
            "that is the snapshot in the middle, where the median of the rates is passed; half of the way lies midway "
            "between first and last rate": crossing(float(rates.median())),
            "that is where the median of the rates is passed; half of the way lies midway between first and last": (
                crossing(float(rates.quantile(0.5)))
            ),
            "that is where the mean of the rates is passed; half of the way lies midway between first and last": (
                crossing(float(rates.mean()))
            ),
            "that is the snapshot after the crossing: go a straight line from the one before": steps[after],
            "that is the snapshot before the crossing: go on in a straight line to the one after": steps[after - 1],
            "that is half of the steps; the question is when *the rate* is half-way": steps[-1] / 2,
            "that is the rate half-way; the question is the step at which it is reached": middle,
            "the share of the interval is counted from the wrong end": steps[after]
            - share * (steps[after] - steps[after - 1]),
            "the share of the interval has to be multiplied by the length of the interval": steps[after - 1] + share,
        },
        tolerance=1e-6,
    )


@check("08.3", "training_bytes", points=1)
def check_08_3(training_bytes: Function) -> None:
    """With frozen weights, so that forgetting one of the four parts shows; without and with a moving average."""
    n = int(torch.randint(1000, 100_000, ()))
    free = 2 * n // 5  # at n / 3 two mistakes would cost the same
    expect(
        training_bytes(n, free, False),
        4 * n + 12 * free,
        {
            "the weights themselves are missing: 4 bytes for every one, frozen or not": 12 * free,
            "4 bytes a trained weight are missing: its gradient, or one of AdamW's two moments": 4 * n + 8 * free,
            "AdamW's moments are missing: two numbers a trained weight": 4 * n + 4 * free,
            "frozen weights have no gradient and no moments": 16 * n,
            "the frozen weights lie in memory as well: 4 bytes each": 16 * free,
            "these are numbers, not bytes: float32 takes 4 bytes": n + 3 * free,
            "float32 takes 4 bytes; under autocast the weights, gradients and moments stay in float32": 2 * n
            + 6 * free,
            "these are bits: divide by 8": 32 * n + 96 * free,
            "without a moving average there is no second copy of the weights": 8 * n + 12 * free,
        },
        tolerance=1e-9,
    )
    expect(
        training_bytes(n, free, True),
        8 * n + 12 * free,
        {
            "the moving average is missing: a second copy of the weights": 4 * n + 12 * free,
            "the moving average is a copy of all weights, frozen or not": 4 * n + 16 * free,
        },
        tolerance=1e-9,
    )


@check("08.4", "whole_branch", points=2)
def check_08_4(whole_branch: Function) -> None:
    """Many small batches in pieces of unequal size, near the border of the clamp; some pieces hold nothing of S."""
    cases, beta = 240, float(0.25 + 0.15 * torch.rand(()))
    n_u, n_s = torch.randint(2, 12, (cases, 4)).double(), torch.randint(0, 4, (cases, 4)).double()
    n_s[:, 0] += 1  # somewhere there is one
    around = torch.exp(3.5 * torch.rand(cases, 1).double() - 0.7)  # 0.5 to 16: both sides of L_U and of L_U / beta
    sum_u = n_u * (1 + torch.rand(cases, 4).double())
    sum_s = n_s * around * (0.4 + 1.2 * torch.rand(cases, 4).double())
    own = sum_u / n_u - beta * (sum_s / n_s).nan_to_num(0)  # (cases, pieces)
    mean_u, mean_s = sum_u.sum(1) / n_u.sum(1), sum_s.sum(1) / n_s.sum(1)
    want = mean_u - beta * mean_s < 0

    def branch(sums_u: Tensor, sums_s: Tensor, counts_u: Tensor, counts_s: Tensor, beta: float) -> Tensor:
        return torch.as_tensor(whole_branch(sums_u, sums_s, counts_u, counts_s, beta)).to(torch.float64)

    got = torch.stack([branch(sum_u[i], sum_s[i], n_u[i], n_s[i], beta) for i in range(cases)])
    expect(
        got,
        want.double(),
        {
            "the answer is the wrong way round: True where the clamp is active, L_U - beta L_S < 0": (~want).double(),
            "one piece below 0 does not make the whole negative: add up first, decide once": (own < 0).any(1).double(),
            "the whole can be negative although a piece is not: add up first, decide once": (own < 0).all(1).double(),
            "that is the mean of the pieces' own risks: pieces differ in size, so add sums and counts, then divide": (
                (own.mean(1) < 0).double()
            ),
            "a mean of means: pieces differ in size, so add up sums and counts, then divide": (
                ((sum_u / n_u).mean(1) - beta * (sum_s / n_s).nan_to_num(0).mean(1) < 0).double()
            ),
            "pieces without an image of S give 0 / 0: add up sums and counts over the pieces, then divide": (
                (sum_u / n_u).mean(1) - beta * (sum_s / n_s).mean(1) < 0
            ).double(),
            "beta is missing in front of L_S": (mean_u - mean_s < 0).double(),
            "beta stands in front of L_S, not of L_U": (beta * mean_u - mean_s < 0).double(),
            "sums are compared: L_U and L_S are means, each over its own group": (
                (sum_u.sum(1) - beta * sum_s.sum(1) < 0).double()
            ),
            "only the first piece was asked: add up over all of them": (own[:, 0] < 0).double(),
        },
    )
    # binary fractions, so that L_U - beta L_S is exactly 0 in whatever order it is computed
    at_0 = torch.tensor([[2.0, 4.0], [3.0, 3.0], [4.0, 4.0], [1.0, 1.0]]).double()
    border = "at exactly 0 the clamp is not active: Algorithm 1 takes line 5 for L_U - beta L_S >= 0"
    expect(branch(at_0[0], at_0[1], at_0[2], at_0[3], 0.25), 0.0, {border: 1.0})


@check("08.5", "piece_share", points=2)
def check_08_5(piece_share: Function) -> None:
    """A batch in three pieces of unequal size: each share and its gradient, in both branches; then a tiny l.

    Together the shares are Algorithm 1's step.
    """
    beta = float(0.2 + 0.2 * torch.rand(()))
    l_u, l_s = 0.7 + torch.rand(9).double(), 0.5 + torch.rand(5).double()
    l_u[:2] -= 0.6
    l_s[0] += 6  # the first piece alone would be clamped
    n_u, n_s = len(l_u), len(l_s)
    for clamped in (False, True):
        whole = Whole(n_u, n_s, 0, -1.0 if clamped else 1.0)
        for u, s in ((l_u[:2], l_s[:1]), (l_u[2:5], l_s[1:4]), (l_u[5:], l_s[4:])):
            push, minus_u, minus_s = -torch.log(-torch.expm1(-s)), u.sum() / n_u, s.sum() / n_s
            normal, pushed = minus_u - beta * minus_s, push.sum() / n_s

            def step(normal: Tensor, pushed: Tensor, clamped: bool = clamped) -> Tensor:
                return -normal if clamped else pushed + normal

            common = {
                "the means are taken over the piece: divide by the sizes of the whole batch, n_u and n_s": step(
                    u.mean() - beta * s.mean(), beta * push.mean()
                ),
                "these are sums: divide by the sizes of the whole batch, n_u and n_s": step(
                    u.sum() - beta * s.sum(), beta * push.sum()
                ),
                "both sums are divided by n_u: L_S is a mean over S": step(
                    (u.sum() - beta * s.sum()) / n_u, beta * push.sum() / n_u
                ),
                "beta is missing in front of L_S^-": step(minus_u - minus_s, beta * pushed),
            }
            line_5 = {
                "beta is missing in front of the push": pushed + normal,
                "the push L_S^+ is missing: -log(1 - exp(-l)) of the images of S": normal,
                "the piece was clamped by itself; `clamped` has decided that for the whole batch": beta * pushed
                + normal.clamp(min=0),
                "the piece was clamped by itself; `clamped` alone says when line 7 counts": -normal,
            }
            line_7 = {
                "Algorithm 1, line 7: where the clamp is active the push is left out": beta * pushed - normal,
                "Algorithm 1, line 7: where the clamp is active the step climbs, it follows -(L_U - beta L_S)": normal,
                "that is Eq. 19's own value where the clamp is active; Algorithm 1 follows -(L_U - beta L_S) there": (
                    beta * pushed
                ),
                "that is the step of line 5; where the clamp is active line 7 counts, -(L_U - beta L_S)": (
                    beta * pushed + normal
                ),
            }
            leaves = u.clone().requires_grad_(), s.clone().requires_grad_()
            got, want = piece_share(*leaves, n_u, n_s, beta, clamped), nnpu(*leaves, beta, whole).objective
            expect(got, want.detach(), common | (line_7 if clamped else line_5), tolerance=1e-7)
            slope = slopes(want, *leaves)
            no_push = torch.cat([torch.ones_like(u) / n_u, -beta * torch.ones_like(s) / n_s])
            cut = "cut off from the gradient (by .detach(), .item() or torch.no_grad()); the number is right"
            expect(
                slopes(got, *leaves),
                slope,
                {
                    f"the push is {cut}": -no_push if clamped else no_push,
                    f"the errors of U are {cut}": torch.cat([0 * u, slope[len(u) :]]),
                    f"the errors of S are {cut}": torch.cat([slope[: len(u)], 0 * s]),
                },
                tolerance=1e-7,
            )
    l_u, l_s = torch.ones(4), torch.full((2,), 1e-7)
    digits = "right, but not for an l of 1e-7 in single precision: write the push with torch.expm1"
    try:
        got = piece_share(l_u, l_s, 8, 4, 0.5, False)
        expect(got, nnpu(l_u.double(), l_s.double(), 0.5, Whole(8, 4, 0, 1.0)).objective, tolerance=2e-3)
    except WrongAnswer as wrong:
        raise WrongAnswer(f"{digits} ({wrong})") from None
