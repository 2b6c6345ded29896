"""The checks of notebook 03: the mixture, the risks of Eqs. 18 and 19, Algorithm 1, |.|, a variance, and a loop."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ... import risks
from ...diffusion import Process, ell
from .. import toy
from .harness import Function, WrongAnswer, check, expect, slopes


def _errors(n: int, low: float, high: float) -> Tensor:
    """n noise errors, evenly drawn from [low, high), float64."""
    return low + (high - low) * torch.rand(n, dtype=torch.float64)


def _groups(negative: bool) -> tuple[Tensor, Tensor, float]:
    """l_u (12,), l_s (5,) and beta, drawn fresh, with L_U - beta L_S clearly negative, or clearly not."""
    beta = float(0.15 + 0.25 * torch.rand(()))
    l_s = _errors(5, 1.5, 3.5)
    center = beta * l_s.mean() * (0.4 if negative else 2.5)
    return center * _errors(12, 0.7, 1.3), l_s, beta


def _terms(l_u: Tensor, l_s: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """L_S^+, L_U^-, L_S^- of Eq. 18."""
    return risks.bce_sensitive(l_s).mean(), l_u.mean(), l_s.mean()


def _risk_mistakes(l_u: Tensor, l_s: Tensor, beta: float, part: Callable[[Tensor], Tensor]) -> dict[str, Any]:
    """What typical wrong answers give for beta L_S^+ + part(L_U^- - beta L_S^-)."""
    push, u, s = _terms(l_u, l_s)
    normal = u - beta * s
    return {
        "your normal part is L_U^- + beta L_S^-: look at the sign in Eq. 16": beta * push + part(u + beta * s),
        "beta is missing in front of L_S^-: by Eq. 14 U holds only a share beta of S": beta * push + part(u - s),
        "beta is missing in front of L_S^+: look at the first term of Eq. 18": push + part(normal),
        "the push beta L_S^+ is missing: that is the normal part of Eq. 18 alone": part(normal),
        "the push has the wrong sign: -log(1 - exp(-l)) is positive": -beta * push + part(normal),
        "beta and 1 - beta are swapped: beta is the share of *sensitive* points": (1 - beta) * push
        + part(u - (1 - beta) * s),
        "you divided the normal part by 1 - beta: Eq. 16 keeps that factor on the left": beta * push
        + part(normal) / (1 - beta),
        "you weighted L_U^- by 1 - beta: in Eq. 16 U counts fully, the factor has gone": beta * push
        + part((1 - beta) * u - beta * s),
        "you summed over the examples: each term of Eq. 18 is a mean": len(l_s) * beta * push
        + part(len(l_u) * u - len(l_s) * beta * s),
        "in your push the term is log(1 + exp(-l)) or its like: look at Eq. 11 with y = 1": beta
        * torch.log1p(torch.exp(-l_s)).mean()
        + part(normal),
        "your push takes l_u: S is what it pushes away (Eq. 18)": beta * risks.bce_sensitive(l_u).mean() + part(normal),
    }


def _expect_of_means(function: Function, right: Function, part: Callable[[Tensor], Tensor], word: str) -> None:
    """U and S of one size, where taking `part` example by example runs without an error and gives another number."""
    l_u, l_s, beta = torch.tensor([0.05, 3.0]).double(), torch.tensor([2.0, 6.0]).double(), 0.3
    push, _, s = _terms(l_u, l_s)
    hint = f"your {word} acts example by example: it is a statement about the means of the whole batch"
    mistakes = {
        hint: beta * push + part(l_u - beta * s).mean(),
        f"{hint} ": beta * push + part(l_u - beta * l_s).mean(),
    }
    expect(function(l_u, l_s, beta), right(l_u, l_s, beta).value, mistakes)


def _expect_digits(function: Function, right: Function) -> None:
    """An l of 1e-7 in single precision, where 1 - exp(-l) has no digits left. The function returns the risk's value."""
    l_u, l_s = torch.ones(4), torch.full((3,), 1e-7)
    want = right(l_u.double(), l_s.double(), 0.5).value
    try:
        expect(function(l_u, l_s, 0.5), want, tolerance=2e-3)
    except WrongAnswer as wrong:
        raise WrongAnswer(
            f"right, but not for an l of 1e-7 in single precision: write the push with torch.expm1 ({wrong})"
        ) from None


@check("03.1", "normal_mean")
def check_03_1(normal_mean: Function) -> None:
    """normal_mean(f_u, f_s, beta): E_N[f] from values of f on U and on S."""
    for shape_u, shape_s in (((9,), (4,)), ((7, 3), (5, 3))):
        f_u, f_s = torch.randn(shape_u, dtype=torch.float64) + 3, torch.randn(shape_s, dtype=torch.float64) - 2
        beta = float(0.1 + 0.3 * torch.rand(()))
        u, s = f_u.mean(0), f_s.mean(0)
        expect(
            normal_mean(f_u, f_s, beta),
            (u - beta * s) / (1 - beta),
            {
                "that is (1 - beta) E_N[f]: divide by 1 - beta (the left side of Eq. 14)": u - beta * s,
                "beta and 1 - beta are swapped: beta is the share of *sensitive* points": (u - (1 - beta) * s) / beta,
                "you added beta E_S: Eq. 14 takes it away": (u + beta * s) / (1 - beta),
                "beta is missing in front of E_S: U holds only a share beta of S": (u - s) / (1 - beta),
                "that is E_U[f]: U still holds the sensitive points": u,
                "you mixed U and S as Eq. 13 does with S and N: solve Eq. 13 for p_N first": beta * s + (1 - beta) * u,
                "you divided by beta: the factor on the left of Eq. 14 is 1 - beta": (u - beta * s) / beta,
                "you averaged over all dimensions: average over the points (the first dimension) only": (
                    f_u.mean() - beta * f_s.mean()
                )
                / (1 - beta),
                "you summed: E is a mean over the points, and U and S have different sizes": (
                    f_u.sum(0) - beta * f_s.sum(0)
                )
                / (1 - beta),
            },
        )


@check("03.2", "unbiased_risk")
def check_03_2(unbiased_risk: Function) -> None:
    """unbiased_risk(l_u, l_s, beta): Eq. 18."""
    for negative in (False, True):
        l_u, l_s, beta = _groups(negative)
        right = risks.upu(l_u, l_s, beta).value
        mistakes = _risk_mistakes(l_u, l_s, beta, lambda normal: normal)
        if negative:
            mistakes = {
                "that is Eq. 19: Eq. 18 has no maximum": risks.nnpu(l_u, l_s, beta).value,
                "that has an absolute value: Eq. 18 has none, it may be negative": risks.abspu(l_u, l_s, beta).value,
            } | mistakes
        expect(unbiased_risk(l_u, l_s, beta), right, mistakes)
    _expect_digits(unbiased_risk, risks.upu)


@check("03.3", "nonnegative_risk")
def check_03_3(nonnegative_risk: Function) -> None:
    """nonnegative_risk(l_u, l_s, beta): the value of Eq. 19."""
    for negative in (False, True):
        l_u, l_s, beta = _groups(negative)
        push, u, s = _terms(l_u, l_s)
        normal = u - beta * s
        special = {
            "that is Eq. 18: the maximum of Eq. 19 is missing": beta * push + normal,
            "your maximum goes around the whole risk: in Eq. 19 it holds the normal part only": torch.relu(
                beta * push + normal
            ),
            "you return 0 where the normal part is negative: the push stays, it is outside the maximum": torch.where(
                normal < 0, 0 * push, beta * push + normal
            ),
            "that is a *minimum*: look at Eq. 19": beta * push + normal.clamp(max=0),
            "that is the absolute value, the variant after Eq. 19: here the maximum is asked for": beta * push
            + normal.abs(),
            "that is the *objective* of Algorithm 1, whose number is not Eq. 19": torch.where(
                normal < 0, -normal, beta * push + normal
            ),
            "your maximum acts example by example: it is a statement about the means of the whole batch": beta * push
            + torch.relu(l_u - beta * s).mean(),
        }
        expect(
            nonnegative_risk(l_u, l_s, beta),
            risks.nnpu(l_u, l_s, beta).value,
            special | _risk_mistakes(l_u, l_s, beta, torch.relu),
        )
    _expect_of_means(nonnegative_risk, risks.nnpu, torch.relu, "maximum")
    _expect_digits(nonnegative_risk, risks.nnpu)


def _at_the_border() -> tuple[Tensor, Tensor, float]:
    """l_u (4,), l_s (2,) and beta with L_U - beta L_S exactly 0, in any order of the sums: all are binary fractions."""
    half = 0.5 * int(torch.randint(1, 4, ()))
    return torch.tensor([0.25, 0.75, 0.5, 0.5]).double() * half, torch.tensor([1.5, 2.5]).double() * half, 0.25


@check("03.4", "algorithm_1", points=2)
def check_03_4(algorithm_1: Function) -> None:
    """algorithm_1(l_u, l_s, beta): (value of Eq. 19, objective to differentiate, whether the two have parted)."""
    for l_u, l_s, beta in (_groups(False), _groups(True), _at_the_border()):
        _expect_step(algorithm_1, l_u.requires_grad_(), l_s.requires_grad_(), beta)
    _expect_digits(lambda *batch: algorithm_1(*batch)[0], risks.nnpu)


def _expect_step(algorithm_1: Function, l_u: Tensor, l_s: Tensor, beta: float) -> None:
    """03.4 on one batch, two leaves: the value, the branch, and the gradient of the objective."""
    answer = algorithm_1(l_u, l_s, beta)
    if not isinstance(answer, tuple | list) or len(answer) != 3:
        raise WrongAnswer("return three things: value, objective, clamped")
    value, objective, clamped = answer
    right = risks.nnpu(l_u, l_s, beta)
    push, u, s = (term.detach() for term in _terms(l_u, l_s))
    normal = u - beta * s
    negative = bool(normal < 0)
    special = {
        "your value is that of Eq. 18: the value to report is Eq. 19, with its maximum": beta * push + normal,
        "your value is the objective: where L_U^- - beta L_S^- < 0 Eq. 19 is another number": -normal,
        "your value has the sign of the branch turned": beta * push - normal,
    }
    usual = _risk_mistakes(l_u.detach(), l_s.detach(), beta, torch.relu)
    expect(value, right.value, special | usual)
    if bool(clamped) != negative:
        at_0 = " (at exactly 0 line 5 holds)" if normal == 0 else ""
        raise WrongAnswer(
            f"`clamped` is turned around or tests the wrong number: it is True where L_U^- - beta L_S^- < 0{at_0}"
        )

    def slope_of(normal_sign: float, push_weight: float) -> Tensor:
        push_slope = -1 / torch.expm1(l_s.detach())
        ones_u, ones_s = torch.ones_like(l_u) / len(l_u), torch.ones_like(l_s) / len(l_s)
        return torch.cat([normal_sign * ones_u, beta * ones_s * (push_weight * push_slope - normal_sign)]).detach()

    hints = {
        "where the normal part is negative your objective keeps beta L_S^+: line 7 leaves it out": (-1, 1),
        "where the normal part is negative your objective has Eq. 19's own gradient, that of beta L_S^+ alone: "
        "line 7 of Algorithm 1 climbs back instead": (0, 1),
        "your objective still lowers L_U^- - beta L_S^- where it is negative: line 7 has a minus in front": (1, 0),
        "your objective is Eq. 18 in both branches: line 7 of Algorithm 1 is another": (1, 1),
        "your branches are exchanged: line 5 holds where L_U^- - beta L_S^- >= 0": (-1, 0),
        "your objective does not depend on l_u and l_s here: nothing would be learned": (0, 0),
    }
    if negative:
        hints["your branches are exchanged: line 5 holds where L_U^- - beta L_S^- >= 0"] = (1, 1)
    else:
        hints = {
            "your objective does not feel the push: line 5 has beta L_S^+, and its gradient (no .detach())": (1, 0),
            "your objective feels the push alone: line 5 has L_U^- - beta L_S^- as well (no .detach())": (0, 1),
        } | hints
    mistakes = {sentence: slope_of(*weights) for sentence, weights in hints.items()}
    expect(slopes(objective, l_u, l_s), slope_of(-1, 0) if negative else slope_of(1, 1), mistakes, tolerance=1e-5)


@check("03.5", "absolute_risk")
def check_03_5(absolute_risk: Function) -> None:
    """absolute_risk(l_u, l_s, beta): beta L_S^+ + |L_U^- - beta L_S^-|."""
    for negative in (False, True):
        l_u, l_s, beta = _groups(negative)
        push, u, s = _terms(l_u, l_s)
        normal = u - beta * s
        special = {
            "that is Eq. 18: the absolute value is missing": beta * push + normal,
            "that is Eq. 19, with the maximum: here the absolute value stands in its place": beta * push
            + torch.relu(normal),
            "your absolute value goes around the whole risk: it holds the normal part only": (
                beta * push + normal
            ).abs(),
            "the push is missing: unlike Algorithm 1's line 7, the absolute value keeps beta L_S^+": normal.abs(),
            "the push is missing where the normal part is negative: unlike Algorithm 1's line 7, the absolute value "
            "keeps beta L_S^+": torch.where(normal < 0, -normal, beta * push + normal),
            "your absolute value acts example by example: it is a statement about the means of the whole batch": beta
            * push
            + (l_u - beta * s).abs().mean(),
        }
        expect(
            absolute_risk(l_u, l_s, beta),
            risks.abspu(l_u, l_s, beta).value,
            special | _risk_mistakes(l_u, l_s, beta, torch.abs),
        )
    _expect_of_means(absolute_risk, risks.abspu, torch.abs, "absolute value")
    _expect_digits(absolute_risk, risks.abspu)


@check("03.6", "risk_variance", points=2)
def check_03_6(risk_variance: Function) -> None:
    """risk_variance(l_u, l_s, beta, n_u, n_s): the variance of Eq. 18 over batches drawn from large pools."""
    l_u, l_s = _errors(5000, 0.1, 2.0), _errors(4000, 0.05, 4.0)
    beta, n_u, n_s = float(0.44 + 0.02 * torch.rand(())), 6, 2  # where no two typical mistakes nearly meet
    push = risks.bce_sensitive(l_s)
    u = l_u.var() / n_u
    once = beta**2 * (push - l_s).var() / n_s
    apart = beta**2 * (push.var() + l_s.var()) / n_s
    want = toy.upu_variance(l_u, l_s, beta, n_u, n_s)
    expect(
        risk_variance(l_u, l_s, beta, n_u, n_s),
        want,
        {
            "you added Var(push) and Var(l) as if they were independent: one sensitive point enters both, so take "
            "Var(push - l)": u + apart,
            "beta stands there once: a factor beta comes out of a variance as beta squared": u
            + (push - l_s).var() / n_s * beta,
            "beta is missing: L_S^+ and L_S^- have it in front": u + (push - l_s).var() / n_s,
            "you took the difference of variances: independent terms *add* their variances": u - once,
            "the push is missing: the S part of Eq. 18 is beta (L_S^+ - L_S^-)": u + beta**2 * l_s.var() / n_s,
            "l_s itself is missing: the S part of Eq. 18 is beta (L_S^+ - L_S^-), and you took L_S^+ alone": u
            + beta**2 * push.var() / n_s,
            "you took Var(push + l): in Eq. 18 the two have opposite signs": u + beta**2 * (push + l_s).var() / n_s,
            "n_u and n_s are swapped": l_u.var() / n_s + beta**2 * (push - l_s).var() / n_u,
            "that is a standard deviation: the variance is asked for": want.sqrt(),
            "that is the variance for one example: a mean of n has the n-th part of it": l_u.var()
            + beta**2 * (push - l_s).var(),
            "you divided by n squared: the variance of a mean is Var / n": l_u.var() / n_u**2
            + beta**2 * (push - l_s).var() / n_s**2,
            "you divided by the sizes of the pools: the batches have n_u and n_s examples": l_u.var() / len(l_u)
            + beta**2 * (push - l_s).var() / len(l_s),
            "the part of U is missing": once,
            "the part of S is missing": u,
            "U has the factor (1 - beta) squared in front: in Eq. 18 it counts fully": (1 - beta) ** 2 * u + once,
        },
        tolerance=1e-3,
    )


Objective = Callable[[Tensor, Tensor, float], Tensor]
Given = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, float, Tensor, float, float]


def _train(
    x_u: Tensor,
    x_s: Tensor,
    t: Tensor,
    eps: Tensor,
    alpha_bar: Tensor,
    std: float,
    centre: Tensor,
    beta: float,
    learning_rate: float,
    objective: Objective = lambda l_u, l_s, beta: risks.nnpu(l_u, l_s, beta).objective,
    scale: float = 2.0,
    kept: bool = False,
    s_first: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """The loop of 03.7. objective: what is differentiated, from l_u, l_s and beta. scale: that of l.

    kept: whether gradients of earlier steps are kept and added. s_first: whether the draws of S are taken for U's.
    Returns the centres after the steps (K, 2), whether line 7 was taken (K,), and L_U - beta L_S at each step (K,).
    """
    process, n_u = Process(alpha_bar), x_u.shape[1]
    before = torch.zeros_like(centre)
    centres, normals = [], []
    for u, s, steps, noise in zip(x_u, x_s, t, eps, strict=True):
        leaf = centre.detach().requires_grad_()

        def guess(x_t: Tensor, t: Tensor, leaf: Tensor = leaf) -> Tensor:
            ab = alpha_bar[t][:, None]
            slope = (1 - ab).sqrt() / (ab * std**2 + 1 - ab)
            return toy.as_images(slope * (x_t.flatten(1) - ab.sqrt() * leaf))

        if s_first:
            steps, noise = steps.roll(n_u, 0), noise.roll(n_u, 0)
        l = ell(guess, toy.as_images(torch.cat([u, s])), steps, toy.as_images(noise), process, scale)
        l_u, l_s = l[:n_u], l[n_u:]
        (slope,) = torch.autograd.grad(objective(l_u, l_s, beta), leaf)
        before = before + slope if kept else slope
        centre = (leaf - learning_rate * before).detach()
        centres.append(centre)
        normals.append((l_u.mean() - beta * l_s.mean()).detach())
    return torch.stack(centres), torch.stack(normals) < 0, torch.stack(normals)


def _batches() -> Given:
    """What 03.7 is given, drawn fresh: a few steps, some of which take line 7, and none of which is near the border.

    The first does not: whoever forgets the minus of line 7 and whoever climbs at every step would go the same way.
    """
    while True:
        n_u, n_s, steps = 6, 3, 8
        alpha_bar = torch.sigmoid(torch.linspace(4, -4, 20, dtype=torch.float64))
        x_u = 0.3 * torch.randn(steps, n_u, 2, dtype=torch.float64)
        x_s = 0.3 * torch.randn(steps, n_s, 2, dtype=torch.float64) + torch.tensor([0.9, 0.2], dtype=torch.float64)
        t = torch.randint(1, 20, (steps, n_u + n_s))
        eps = torch.randn(steps, n_u + n_s, 2, dtype=torch.float64)
        centre = 0.3 * torch.randn(2, dtype=torch.float64)
        given: Given = (x_u, x_s, t, eps, alpha_bar, 0.3, centre, float(0.5 + 0.2 * torch.rand(())), 0.1)
        centres, clamped, normals = _train(*given)
        if (
            not clamped[0]
            and 2 <= clamped.sum() <= steps - 2
            and normals.abs().min() > 0.02
            and centres.abs().max() < 5
        ):
            return given


@check("03.7", "train_centre", points=3)
def check_03_7(train_centre: Function) -> None:
    """train_centre(...): Algorithm 1 from batches to the centre of the model, by plain gradient descent."""
    for _ in range(2):
        given = _batches()
        centre, rate = given[6], given[8]
        answer = train_centre(*given)
        if not isinstance(answer, tuple | list) or len(answer) != 2:
            raise WrongAnswer(
                "return two things: the centres after each step (K, 2), and whether line 7 was taken (K,)"
            )
        right, clamped, _ = _train(*given)

        def by(objective: Objective, given: Given = given) -> Tensor:
            return _train(*given, objective=objective)[0]

        def normal(l_u: Tensor, l_s: Tensor, beta: float) -> Tensor:
            return l_u.mean() - beta * l_s.mean()

        def push(l_s: Tensor) -> Tensor:
            return risks.bce_sensitive(l_s).mean()

        started = torch.cat([centre[None], right[:-1]])
        expect(
            answer[0],
            right,
            {
                "that is where each step started: return the centre *after* it": started,
                "the centre has not moved: is the new one kept for the next step?": centre.expand_as(right),
                "the gradients of earlier steps are added up: each step follows its own (zero_grad)": _train(
                    *given, kept=True
                )[0],
                "that climbs: a step goes *against* the gradient": _train(*given[:-1], -rate)[0],
                "you followed Eq. 18 all the way: line 7 is missing": by(lambda u, s, b: b * push(s) + normal(u, s, b)),
                "you differentiated Eq. 19 itself: where the normal part is negative Algorithm 1 does not stand still "
                "but climbs back (line 7)": by(lambda u, s, b: b * push(s) + normal(u, s, b).clamp(min=0)),
                "in line 7 the push is left out; you kept it": by(lambda u, s, b: b * push(s) + normal(u, s, b).abs()),
                "you lower L_U - beta L_S where it is negative: line 7 has a minus in front": by(
                    lambda u, s, b: normal(u, s, b) + (b * push(s) if normal(u, s, b) >= 0 else 0 * push(s))
                ),
                "in line 7 the push is left out; you turned it round with the rest": by(
                    lambda u, s, b: (b * push(s) + normal(u, s, b)) * (1 if normal(u, s, b) >= 0 else -1)
                ),
                "the push beta L_S^+ is missing in line 5": by(lambda u, s, b: normal(u, s, b).abs()),
                "beta is missing in front of the push": by(
                    lambda u, s, b: push(s) + normal(u, s, b) if normal(u, s, b) >= 0 else -normal(u, s, b)
                ),
                "beta is missing in front of L_S^-": by(
                    lambda u, s, b: b * push(s) + normal(u, s, 1) if normal(u, s, 1) >= 0 else -normal(u, s, 1)
                ),
                "that is Eq. 9: S is not used": by(lambda u, s, b: u.mean()),
                "that is Eq. 12: it takes all of U for normal": by(lambda u, s, b: u.mean() + push(s)),
                "l is the *sum* over the two coordinates (Eq. 8); you averaged them": _train(*given, scale=1.0)[0],
                "t and eps hold the draws of U first, then those of S": _train(*given, s_first=True)[0],
                "the first step alone was taken; there are K": right[:1],
                "every row is the last centre: .detach() is a view of the parameter, which an optimiser changes in "
                "place; keep .detach().clone()": right[-1:].expand_as(right),
                "that is the last centre alone: return the centre after each step, (K, 2)": right[-1],
            },
            tolerance=1e-5,
        )
        expect(
            answer[1],
            clamped.double(),
            {
                "`clamped` is turned around: it is True where L_U - beta L_S < 0": (~clamped).double(),
                "`clamped`: one number was expected for each step": clamped.double().mean(),
            },
        )
