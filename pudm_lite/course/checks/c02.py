"""The checks of notebook 02: the push of Eq. 11, its slope, the risk of Eq. 12, the scale of l, the best l; a bug."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ... import risks
from .harness import Function, WrongAnswer, check, expect


def _between(low: float, high: float, n: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """n numbers between low and high, evenly spread over orders of magnitude, drawn fresh."""
    ends = torch.tensor([low, high], dtype=torch.float64).log10()
    return (10 ** (ends[0] + (ends[1] - ends[0]) * torch.rand(n, dtype=torch.float64))).to(dtype)


def _push(l: Tensor) -> Tensor:
    """-log(1 - exp(-l)) in float64, whatever the precision of l (B,)."""
    return risks.bce_sensitive(l.double())


def _slope(l: Tensor) -> Tensor:
    """-1/(exp(l) - 1) in float64, whatever the precision of l (B,)."""
    return -1 / torch.expm1(l.double())


def best_ell(p_u: Tensor, p_s: Tensor) -> Tensor:
    """The l that minimises p_u l - p_s log(1 - exp(-l)), Eq. 12 at one point x: exp(-l) = p_u / (p_u + p_s).

    p_u, p_s: densities of U and of S at x, > 0, of any one shape. Returns a tensor of that shape.
    """
    return torch.log1p(p_s / p_u)


@check("02.1", "push")
def check_02_1(push: Function) -> None:
    """push(ell): -log(1 - exp(-l)), in single precision down to l = 0."""
    l = _between(0.2, 4, 6)
    expect(
        push(l),
        _push(l),
        {
            "your push is negative: the cross entropy of Eq. 11 is *minus* a logarithm": -_push(l),
            "that is log(1 + exp(-l)): look at the sign inside the logarithm of Eq. 11": (-l.double()).exp().log1p(),
            "that is l, the cost of y = 0: for y = 1 take the other probability of Eq. 10": l,
            "that is the probability 1 - exp(-l) itself: Eq. 11 takes minus its logarithm": 1 - (-l.double()).exp(),
            "your result is a mean: return one number for each l": _push(l).mean(),
            "your result is a sum: return one number for each l": _push(l).sum(),
        },
    )
    l = _between(1e-7, 1e-6, 6)
    x, near = l.double(), f"right for l near 1, but not for l near {float(l[0]):.0e}"
    added = {
        f"{near}: you added {a:g} to what the logarithm takes, which moves every small l; "
        "raise l itself, ell.clamp(min=1e-8)": -torch.log(-torch.expm1(-x) + a)
        for a in (1e-9, 1e-8, 1e-7, 1e-6)
    }
    raised = {
        f"{near}: you raise every l to {least:g} at least; only l below 1e-8 counts as 1e-8": _push(x.clamp(min=least))
        for least in (1e-6, 1e-5, 1e-4, 1e-3)
    }
    try:
        expect(push(l), _push(l), added | raised)
    except WrongAnswer as wrong:
        if str(wrong) in added | raised:
            raise
        digits = "1 - exp(-l) loses its digits there, torch.expm1 keeps them"
        raise WrongAnswer(f"{near}: {digits} ({wrong})") from None
    l = torch.zeros(2)
    infinite = "at l = 0 your push is infinite, and so is the loss: raise l to 1e-8 before you start"
    try:
        expect(push(l), _push(l), {infinite: l + torch.inf})
    except WrongAnswer as wrong:
        if str(wrong) == infinite:
            raise
        raise WrongAnswer(f"right, but not at l = 0, which counts as l = 1e-8: use ell.clamp ({wrong})") from None
    l = _between(30, 1e4, 4)
    expect(push(l), _push(l))


@check("02.2", "slope")
def check_02_2(slope: Function) -> None:
    """slope(ell): -1/(exp(l) - 1), in single precision."""
    l = _between(0.2, 4, 6)
    x = l.double()
    expect(
        slope(l),
        _slope(l),
        {
            "the sign is turned: the push *falls* as l grows, so its slope is negative": -_slope(l),
            "that is -1/(1 - exp(-l)): the inner derivative exp(-l) is missing (chain rule)": 1 / torch.expm1(-x),
            "that is 1/(1 - exp(-l)): the minus in front and the inner derivative are missing": -1 / torch.expm1(-x),
            "that is -1/(exp(l) + 1), the slope of log(1 + exp(-l)): look at the sign": -torch.sigmoid(-x),
            "that is -exp(-l), right only for large l: the 1 - exp(-l) below the line is missing": -(-x).exp(),
            "that is the push itself, not its slope": _push(l),
        },
    )
    l = _between(1e-6, 1e-5, 6)
    try:
        expect(slope(l), _slope(l))
    except WrongAnswer as wrong:
        message = f"right for l near 1, but not for l near {float(l[0]):.0e}: exp(l) - 1 loses its digits there"
        raise WrongAnswer(f"{message}, torch.expm1 keeps them ({wrong})") from None
    l = _between(100, 1e4, 4)
    not_a_number = "for large l your slope is nan: exp(l) overflows above the line; divide it away"
    expect(slope(l), _slope(l), {not_a_number: l * torch.nan})


@check("02.3", "supervised_risk")
def check_02_3(supervised_risk: Function) -> None:
    """supervised_risk(l_u, l_s): Eq. 12."""
    n_u, n_s = 5 + int(torch.randint(6, ())), 2 + int(torch.randint(3, ()))
    l_u = 0.5 + 3 * torch.rand(n_u, dtype=torch.float64)
    l_s = torch.linspace(0.1, 1.5, n_s) * (0.8 + 0.4 * torch.rand(n_s, dtype=torch.float64))  # far apart: means tell
    push = _push(l_s)
    expect(
        supervised_risk(l_u, l_s),
        risks.supervised(l_u, l_s).value,
        {
            "you summed: Eq. 12 divides each sum by the number of its own images": l_u.sum() + push.sum(),
            "you took one mean over all images: Eq. 12 divides by N and by M, each group by its own number": (
                (l_u.sum() + push.sum()) / (n_u + n_s)
            ),
            "the push has the wrong sign: Eq. 12 adds -log(1 - exp(-l)), which is positive": l_u.mean() - push.mean(),
            "that is mean(l_u) - mean(l_s), which has no lower bound: use the push of Eq. 11": l_u.mean() - l_s.mean(),
            "that treats S like U: for y = 1 Eq. 11 takes the other branch": l_u.mean() + l_s.mean(),
            "the roles are swapped: U is taken for normal (y = 0), S for sensitive (y = 1)": (
                _push(l_u).mean() + l_s.mean()
            ),
            "you pushed U as well: Eq. 12 takes every image of U for normal": _push(l_u).mean() + push.mean(),
            "you took the push of the mean error: Eq. 12 takes the push of each image of S, then the mean": (
                l_u.mean() + _push(l_s.mean())
            ),
            "you took the mean inside the logarithm: in Eq. 12 each image of S has its own logarithm": (
                l_u.mean() - (1 - (-l_s).exp()).mean().log()
            ),
            "only the push is there: the first sum of Eq. 12, over U, is missing": push.mean(),
            "only the part of U is there: the second sum of Eq. 12, over S, is missing": l_u.mean(),
        },
        tolerance=1e-5,  # so that two mistakes hardly ever meet by chance
    )
    l_u, l_s = torch.rand(4), torch.cat([_between(1e-7, 1e-6, 2), torch.zeros(1)])
    try:
        expect(supervised_risk(l_u, l_s), risks.supervised(l_u.double(), l_s.double()).value)
    except WrongAnswer as wrong:
        raise WrongAnswer(f"right, but not for l_s near 0: use the stable push of 02.1 ({wrong})") from None


def _two(answer: Any) -> tuple[Any, Any]:
    if answer is None:
        raise WrongAnswer("your function returned None: is there a `return` on every path?")
    if not isinstance(answer, tuple | list) or len(answer) != 2:
        raise WrongAnswer("return two tensors: l and the slope of the push at l")
    return answer[0], answer[1]


@check("02.4", "ell_and_slope")
def check_02_4(ell_and_slope: Function) -> None:
    """ell_and_slope(eps, eps_hat, reduction): l of Eq. 8 by `sum` or `mean` over pixels, and the push's slope there."""
    eps = torch.randn(3, 2, 4, 4, dtype=torch.float64)
    eps_hat = eps + 0.2 * torch.randn_like(eps) + 0.1
    off = (eps - eps_hat).flatten(1)
    for reduction, want, other in (
        ("sum", off.square().sum(1), off.square().mean(1)),
        ("mean", off.square().mean(1), off.square().sum(1)),
    ):
        l, slope = _two(ell_and_slope(eps, eps_hat, reduction))
        expect(
            l,
            want,
            {
                f"for `{reduction}` you returned the other reduction: is the `if` the right way round?": other,
                "you reduced over the images as well: l is one number for each image": want.mean(),
                "you summed over the images as well: l is one number for each image": want.sum(),
                "you reduced over the images and kept the pixels: dimension 0 counts the images": (
                    (eps - eps_hat).square().sum(0) if reduction == "sum" else (eps - eps_hat).square().mean(0)
                ),
                "the square is missing: Eq. 8 is a squared norm": (
                    off.abs().sum(1) if reduction == "sum" else off.abs().mean(1)
                ),
                "that is the norm: Eq. 8 squares it": off.norm(dim=1),
            },
        )
        expect(
            slope,
            _slope(want),
            {
                "the slope has the wrong sign: the push falls as l grows": -_slope(want),
                "that is the slope at the other reduction: take it at your own l": _slope(other),
                "that is the push at l; its slope was asked": _push(want),
                "that is the slope by the error per pixel (chain rule); the slope by l was asked": (
                    off.shape[1] * _slope(want)
                ),
            },
        )


@check("02.5", "best_ell")
def check_02_5(best: Function) -> None:
    """best_ell(p_u, p_s): where p_u l - p_s log(1 - exp(-l)) is smallest."""
    p_u, p_s = _between(0.05, 5, 6, torch.float64), _between(0.05, 5, 6, torch.float64)
    want = best_ell(p_u, p_s)
    expect(
        best(p_u, p_s),
        want,
        {
            "your l is *small* where p_s is large: the ratio inside is upside down": torch.log1p(p_u / p_s),
            "that is exp(-l), the probability of normal: solve it for l": p_u / (p_u + p_s),
            "that is 1 - exp(-l), the probability of sensitive: solve it for l": p_s / (p_u + p_s),
            "that is exp(l): take the logarithm": 1 + p_s / p_u,
            "that is log(p_s / p_u), which turns negative: the slope is -1/(exp(l) - 1), and its 1 was lost": (
                torch.log(p_s / p_u)
            ),
            "your l is negative: exp(-l) = p_u / (p_u + p_s) has a minus in it": -want,
        },
    )


def _of_each_image(off: Tensor) -> Tensor:
    return off.square().flatten(1).mean(1)


def _of_nobody(off: Tensor) -> Tensor:
    """The bug that notebook 02 plants: the right total, cut up so that each number mixes pixels of all images."""
    return off.square().reshape(-1, len(off)).mean(0)


def _eq_12(l_u: Tensor, l_s: Tensor) -> Tensor:
    return l_u.mean() + risks.bce_sensitive(l_s).mean()


def _loop(
    x_u: Tensor,
    x_s: Tensor,
    t: Tensor,
    eps: Tensor,
    alpha_bar: Tensor,
    learning_rate: float,
    errors: Callable[[Tensor], Tensor] = _of_each_image,
    risk: Callable[[Tensor, Tensor], Tensor] = _eq_12,
    late: bool = False,
) -> Tensor:
    """The loop of 02.6. errors: l (B,) from how far each guess is off (B, C, H, W). risk: from l of U and of S.

    late: whether l is recorded after the step. Returns (K, 2), the mean l of U and of S at each step.
    """
    n_u = x_u.shape[1]
    parameters = [torch.zeros(x_u.shape[2:], dtype=eps.dtype) for _ in range(2)]
    log = []
    for u, s, steps, noise in zip(x_u, x_s, t, eps, strict=True):
        gain, shift = (one.requires_grad_() for one in parameters)
        ab = alpha_bar[steps].view(-1, 1, 1, 1)
        x_t = ab.sqrt() * torch.cat([u, s]) + (1 - ab).sqrt() * noise
        l = errors(noise - gain * x_t - shift)
        found = torch.autograd.grad(risk(l[:n_u], l[n_u:]), (gain, shift))
        parameters = [(one - learning_rate * slope).detach() for one, slope in zip((gain, shift), found, strict=True)]
        if late:
            l = errors(noise - parameters[0] * x_t - parameters[1])
        log.append(torch.stack([l[:n_u].mean(), l[n_u:].mean()]).detach())
    return torch.stack(log)


@check("02.6", "mended_loop", points=3)
def check_02_6(mended_loop: Function) -> None:
    """mended_loop(...): the loop without the planted bug, on images of other shapes than the notebook's."""
    for n_u, n_s, shape in ((5, 3, (1, 4, 3)), (4, 4, (2, 3, 4))):
        steps, n = 5, n_u + n_s
        x_u, x_s = (2 * torch.rand(steps, k, *shape, dtype=torch.float64) - 1 for k in (n_u, n_s))
        x_s = x_s.abs()  # unlike those of U
        t, eps = torch.randint(1, 8, (steps, n)), torch.randn(steps, n, *shape, dtype=torch.float64)
        alpha_bar = torch.linspace(0.9, 0.1, 8, dtype=torch.float64)
        given = (x_u, x_s, t, eps, alpha_bar, float(3 + torch.rand(())))
        right = _loop(*given)
        expect(
            mended_loop(*given),
            right,
            {
                "that is the colleague's loop still. Its total is right, the numbers in it are not: ask which entries "
                "of `off` end up in l[0]": _loop(*given, errors=_of_nobody),
                "you changed the scale: the mean over pixels was no mistake (it is what makes the push awake)": _loop(
                    *given, errors=lambda off: off.square().flatten(1).sum(1)
                ),
                "the push has gone: that is Eq. 9, with S as a watcher": _loop(*given, risk=lambda u, s: u.mean()),
                "that learns S like U: for y = 1 Eq. 11 has the push": _loop(
                    *given, risk=lambda u, s: u.mean() + s.mean()
                ),
                "the push has the wrong sign now; it had the right one": _loop(
                    *given, risk=lambda u, s: u.mean() - risks.bce_sensitive(s).mean()
                ),
                "that maximises l on S, which has no floor (Section 2); the push was right": _loop(
                    *given, risk=lambda u, s: u.mean() - s.mean()
                ),
                "you took the push of the mean error; each image of S has its own, and so it was": _loop(
                    *given, risk=lambda u, s: u.mean() + risks.bce_sensitive(s.mean())
                ),
                "you weighed the groups by their sizes: Eq. 12 takes two means, and so did the loop": _loop(
                    *given, risk=lambda u, s: torch.cat([u, risks.bce_sensitive(s)]).mean()
                ),
                "U and S are exchanged: those of U come first": _loop(*given, risk=lambda u, s: _eq_12(s, u)),
                "the log is of l before the step, as the loop has it; yours is of l after it": _loop(*given, late=True),
                "t counts from 0, so alpha_bar[t] was right": _loop(x_u, x_s, t - 1, *given[3:]),
                "the columns are U and S, in this order": right.flip(1),
                "one row a step, the columns are U and S": right.T,
            },
        )
