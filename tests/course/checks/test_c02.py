"""The checks of notebook 02 say what is wrong; and what they hold answers to agrees with independent arithmetic."""

import pytest
import torch
from answers import passes
from scipy.optimize import minimize_scalar
from torch.nn import functional as F

from pudm_lite.course.checks.c02 import (
    best_ell,
    check_02_1,
    check_02_2,
    check_02_3,
    check_02_4,
    check_02_5,
    check_02_6,
)
from pudm_lite.course.checks.harness import WrongAnswer
from pudm_lite.diffusion import noise_error
from pudm_lite.risks import bce_sensitive, risk, supervised


def push(ell):
    return -torch.log(-torch.expm1(-ell.clamp(min=1e-8)))


def slope(ell):
    return -1 / torch.expm1(ell)


def ell_of(eps, eps_hat, reduction):
    off = (eps - eps_hat).square().flatten(1)
    return off.sum(1) if reduction == "sum" else off.mean(1)


def ell_and_slope(eps, eps_hat, reduction):
    l = ell_of(eps, eps_hat, reduction)
    return l, slope(l)


def push_in_two_pieces(ell):
    ell = torch.maximum(ell, torch.tensor(1e-8))
    return torch.where(ell < 0.7, -torch.log(-torch.expm1(-ell)), -torch.log1p(-torch.exp(-ell)))


def push_in_doubles(ell):
    return -(1 - torch.exp(-ell.double().clamp(min=1e-8))).log()


def slope_from_the_other_side(ell):
    return torch.exp(-ell) / torch.expm1(-ell)


def risk_by_cross_entropy(l_u, l_s):
    """Eq. 12 is a binary cross entropy of the probability exp(-l)."""
    l_s = l_s.double().clamp(min=1e-8)
    return F.binary_cross_entropy(-torch.expm1(-l_s), torch.ones_like(l_s)) + l_u.sum() / l_u.numel()


def ell_by_einsum(eps, eps_hat, reduction):
    off = eps_hat - eps
    l = torch.einsum("bchw,bchw->b", off, off)
    if reduction == "mean":
        l = l / off[0].numel()
    return [l, 1 - 1 / (1 - torch.exp(-l))]


def loop(
    x_u,
    x_s,
    t,
    eps,
    alpha_bar,
    learning_rate,
    l_of=lambda off: off.square().flatten(1).mean(1),
    risk_of=lambda l_u, l_s: l_u.mean() + push(l_s).mean(),
):
    """The notebook's loop, mended; `l_of` and `risk_of` put something else in the place of two of its lines."""
    gain = torch.zeros(x_u.shape[2:], dtype=eps.dtype, requires_grad=True)
    shift = torch.zeros_like(gain, requires_grad=True)
    log = []
    for k in range(len(t)):
        x = torch.cat([x_u[k], x_s[k]])
        ab = alpha_bar[t[k]].view(-1, 1, 1, 1)
        x_t = ab.sqrt() * x + (1 - ab).sqrt() * eps[k]
        l = l_of(eps[k] - (gain * x_t + shift))
        l_u, l_s = l[: x_u.shape[1]], l[x_u.shape[1] :]
        by_gain, by_shift = torch.autograd.grad(risk_of(l_u, l_s), (gain, shift))
        with torch.no_grad():
            gain -= learning_rate * by_gain
            shift -= learning_rate * by_shift
        log.append(torch.stack([l_u.mean(), l_s.mean()]).detach())
    return torch.stack(log)


def planted(off):
    return off.square().reshape(-1, len(off)).mean(0)


def loop_by(**lines):
    return lambda *given: loop(*given, **lines)


def loop_of_the_package(x_u, x_s, t, eps, alpha_bar, learning_rate):
    """An optimiser, the package's l and risk, and lists of numbers."""
    network = torch.nn.ParameterList([torch.zeros_like(x_u[0, :1]) for _ in range(2)])
    optimiser, log = torch.optim.SGD(network, learning_rate), []
    for u, s, steps, noise in zip(x_u, x_s, t, eps, strict=True):
        ab = alpha_bar[steps][:, None, None, None]
        x_t = ab.sqrt() * torch.cat([u, s]) + (1 - ab).sqrt() * noise
        l_u, l_s = noise_error(noise, network[0] * x_t + network[1], 1.0).split([len(u), len(s)])
        optimiser.zero_grad()
        supervised(l_u, l_s).objective.backward()
        optimiser.step()
        log.append([l_u.mean().item(), l_s.mean().item()])
    return log


def loop_image_by_image(*given):
    return loop(*given, l_of=lambda off: torch.stack([(one * one).sum() / one.numel() for one in off]))


@pytest.mark.parametrize(
    ("check", "answer"),
    [
        (check_02_1, push),
        (check_02_1, push_in_two_pieces),
        (check_02_1, push_in_doubles),
        (check_02_2, slope),
        (check_02_2, slope_from_the_other_side),
        (check_02_3, lambda l_u, l_s: l_u.mean() + push(l_s).mean()),
        (check_02_3, risk_by_cross_entropy),
        (check_02_4, ell_and_slope),
        (check_02_4, ell_by_einsum),
        (check_02_5, best_ell),
        (check_02_5, lambda p_u, p_s: -(p_u / (p_u + p_s)).log()),
        (check_02_5, lambda p_u, p_s: (p_u + p_s).log() - p_u.log()),
        (check_02_6, loop),
        (check_02_6, loop_of_the_package),
        (check_02_6, loop_image_by_image),
    ],
)
def test_right_answers_pass(check, answer):
    passes(check, answer)


WRONG = [
    (check_02_1, lambda l: -push(l), "minus.* a logarithm"),
    (check_02_1, lambda l: torch.log1p(torch.exp(-l)), "sign inside the logarithm"),
    (check_02_1, lambda l: l, "cost of y = 0"),
    (check_02_1, lambda l: 1 - torch.exp(-l), "minus its logarithm"),
    (check_02_1, lambda l: push(l).mean(), "is a mean"),
    (check_02_1, lambda l: push(l).sum(), "is a sum"),
    (check_02_1, lambda l: -torch.log(1 - torch.exp(-l.clamp(min=1e-8))), "torch.expm1 keeps them"),
    (check_02_1, lambda l: -torch.log1p(-torch.exp(-l.clamp(min=1e-8))), "torch.expm1 keeps them"),
    (check_02_1, lambda l: -torch.log(1 - torch.exp(-l) + 1e-8), "torch.expm1 keeps them"),
    (check_02_1, lambda l: -torch.log(-torch.expm1(-l) + 1e-8), "you added 1e-08 to what the logarithm takes"),
    (check_02_1, lambda l: -torch.log(-torch.expm1(-l) + 1e-6), "you added 1e-06 to what the logarithm takes"),
    (check_02_1, lambda l: push(l.clamp(min=1e-6)), "you raise every l to 1e-06"),
    (check_02_1, lambda l: push(l.clamp(min=1e-4)), "you raise every l to 0.0001"),
    (check_02_1, lambda l: -torch.log(-torch.expm1(-l.clamp(min=1e-12))), "at l = 0, which counts as l = 1e-8"),
    (check_02_1, lambda l: -torch.log(-torch.expm1(-l) + 1e-12), "at l = 0, which counts as l = 1e-8"),
    (check_02_1, lambda l: -torch.log(-torch.expm1(-l)), "at l = 0 your push is infinite"),
    (check_02_1, lambda l: push(l.clamp(max=20)).add(l.gt(20) * 0.1), "the largest difference"),
    (check_02_1, lambda l: push(l.clamp_(min=1e-8)), "changes what it was given"),
    (check_02_2, lambda l: -slope(l), "sign is turned"),
    (check_02_2, lambda l: -1 / (1 - torch.exp(-l)), "inner derivative exp"),
    (check_02_2, lambda l: 1 / (1 - torch.exp(-l)), "the minus in front"),
    (check_02_2, lambda l: -1 / (torch.exp(l) + 1), "look at the sign"),
    (check_02_2, lambda l: -torch.exp(-l), "right only for large l"),
    (check_02_2, push, "not its slope"),
    (check_02_2, lambda l: -1 / (torch.exp(l) - 1), "torch.expm1 keeps them"),
    (check_02_2, lambda l: -torch.exp(l) / torch.expm1(l) / torch.exp(l), "slope is nan"),
    (check_02_3, lambda l_u, l_s: l_u.sum() + push(l_s).sum(), "you summed"),
    (check_02_3, lambda l_u, l_s: torch.cat([l_u, push(l_s)]).mean(), "one mean over all"),
    (check_02_3, lambda l_u, l_s: l_u.mean() - push(l_s).mean(), "the push has the wrong sign"),
    (check_02_3, lambda l_u, l_s: l_u.mean() - l_s.mean(), "no lower bound"),
    (check_02_3, lambda l_u, l_s: l_u.mean() + l_s.mean(), "treats S like U"),
    (check_02_3, lambda l_u, l_s: push(l_u).mean() + l_s.mean(), "roles are swapped"),
    (check_02_3, lambda l_u, l_s: push(l_u).mean() + push(l_s).mean(), "pushed U as well"),
    (check_02_3, lambda l_u, l_s: l_u.mean() + push(l_s.mean()), "push of the mean error"),
    (check_02_3, lambda l_u, l_s: l_u.mean() - torch.log((1 - torch.exp(-l_s)).mean()), "mean inside the logarithm"),
    (check_02_3, lambda l_u, l_s: push(l_s).mean(), "over U, is missing"),
    (check_02_3, lambda l_u, l_s: l_u.mean(), "over S, is missing"),
    (check_02_3, lambda l_u, l_s: l_u.mean() - torch.log(1 - torch.exp(-l_s)).mean(), "the stable push of 02.1"),
    (check_02_4, lambda e, h, r: ell_and_slope(e, h, "mean" if r == "sum" else "sum"), "other reduction"),
    (check_02_4, lambda e, h, r: ell_and_slope(e, h, "sum"), "for `mean` you returned the other reduction"),
    (check_02_4, lambda e, h, r: [v.mean() for v in ell_and_slope(e, h, r)], "over the images as well"),
    (check_02_4, lambda e, h, r: [v.sum() for v in ell_and_slope(e, h, r)], "over the images as well"),
    (check_02_4, lambda e, h, r: 2 * [getattr((e - h).square(), r)(0)], "kept the pixels"),
    (check_02_4, lambda e, h, r: 2 * [getattr((e - h).abs().flatten(1), r)(1)], "square is missing"),
    (check_02_4, lambda e, h, r: 2 * [(e - h).flatten(1).norm(dim=1)], "that is the norm"),
    (check_02_4, lambda e, h, r: (ell_of(e, h, r), -slope(ell_of(e, h, r))), "slope has the wrong sign"),
    (check_02_4, lambda e, h, r: (ell_of(e, h, r), slope(ell_of(e, h, "mean"))), "slope at the other reduction"),
    (check_02_4, lambda e, h, r: (ell_of(e, h, r), push(ell_of(e, h, r))), "its slope was asked"),
    (check_02_4, lambda e, h, r: (ell_of(e, h, r), 32 * slope(ell_of(e, h, r))), "chain rule"),
    (check_02_4, lambda e, h, r: ell_of(e, h, r), "return two tensors"),
    (check_02_4, lambda e, h, r: None, "returned None"),
    (check_02_5, lambda p_u, p_s: torch.log1p(p_u / p_s), "upside down"),
    (check_02_5, lambda p_u, p_s: p_u / (p_u + p_s), "the probability of normal"),
    (check_02_5, lambda p_u, p_s: p_s / (p_u + p_s), "the probability of sensitive"),
    (check_02_5, lambda p_u, p_s: 1 + p_s / p_u, "take the logarithm"),
    (check_02_5, lambda p_u, p_s: torch.log(p_s / p_u), "its 1 was lost"),
    (check_02_5, lambda p_u, p_s: torch.log(p_u / (p_u + p_s)), "your l is negative"),
    (check_02_6, loop_by(l_of=planted), "the colleague's loop still"),
    (check_02_6, loop_by(l_of=lambda off: off.square().flatten().view(-1, len(off)).mean(0)), "colleague's loop"),
    (check_02_6, loop_by(l_of=lambda off: off.square().reshape(len(off), -1).sum(1)), "changed the scale"),
    (check_02_6, loop_by(risk_of=lambda u, s: u.mean()), "the push has gone"),
    (check_02_6, loop_by(risk_of=lambda u, s: u.mean() + s.mean()), "learns S like U"),
    (check_02_6, loop_by(risk_of=lambda u, s: u.mean() - push(s).mean()), "wrong sign now"),
    (check_02_6, loop_by(risk_of=lambda u, s: u.mean() - s.mean()), "no floor"),
    (check_02_6, loop_by(risk_of=lambda u, s: u.mean() + push(s.mean())), "push of the mean error"),
    (check_02_6, loop_by(risk_of=lambda u, s: torch.cat([u, push(s)]).mean()), "by their sizes"),
    (check_02_6, loop_by(risk_of=lambda u, s: push(u).mean() + s.mean()), "are exchanged"),
    (check_02_6, lambda x_u, x_s, t, *rest: loop(x_u, x_s, t - 1, *rest), "t counts from 0"),
    (check_02_6, lambda *given: loop(*given).flip(1), "in this order"),
    (check_02_6, lambda *given: loop(*given).T, "one row a step"),
    (check_02_6, loop_by(l_of=lambda off: off.square().flatten(1).mean(0)), "stopped with|the shape is|largest"),
    (check_02_6, loop_by(l_of=lambda off: off.square().mean().expand(len(off))), "largest difference"),
]


@pytest.mark.parametrize(("check", "answer", "message"), WRONG)
def test_wrong_answers_are_named(check, answer, message):
    with pytest.raises(WrongAnswer, match=message):
        check(answer)


# The formulas of the notebook that no function of the package holds


@pytest.mark.parametrize("p_u", [0.02, 0.5, 3.0])
@pytest.mark.parametrize("p_s", [0.02, 0.5, 3.0])
def test_best_ell_minimises_eq_12_at_a_point(p_u, p_s):
    def cost(l: float) -> float:
        return p_u * l + p_s * float(bce_sensitive(torch.tensor(l, dtype=torch.float64)))

    found = minimize_scalar(cost, bounds=(1e-6, 20), method="bounded", options={"xatol": 1e-9})
    assert float(best_ell(torch.tensor(p_u), torch.tensor(p_s))) == pytest.approx(found.x, abs=1e-5)


@pytest.mark.parametrize("share", [0.01, 1 / 11, 0.4])
def test_where_no_normal_image_is_eq_12_stops_at_log_1_plus_1_over_beta(share):
    """There U's density is that of its hidden sensitive images, share * p_S, and the net slope of Eq. 12 is 0."""
    ceiling = torch.tensor(1 + 1 / share, dtype=torch.float64).log().requires_grad_()
    p_s = torch.tensor(0.7, dtype=torch.float64)
    assert float(best_ell(share * p_s, p_s)) == pytest.approx(float(ceiling.detach()))
    (share * ceiling + bce_sensitive(ceiling)).backward()
    assert float(ceiling.grad) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("share", [0.05, 1 / 11, 0.3])
def test_with_eq_15_exp_of_minus_the_best_l_is_the_share_of_normal_images(share):
    """Bayes' rule on (1 - share) p_N and share p_S: here p_N takes the place of p_U in Eq. 12."""
    p_n, p_s = torch.rand(50, dtype=torch.float64) + 0.01, torch.rand(50, dtype=torch.float64) + 0.01
    posterior = (1 - share) * p_n / ((1 - share) * p_n + share * p_s)
    torch.testing.assert_close(torch.exp(-best_ell((1 - share) * p_n, share * p_s)), posterior)


@pytest.mark.parametrize("weight", [0.1, 10.0, 1000.0])
def test_the_best_l_of_the_reciprocal_is_a_square_root(weight):
    """p_u l + w p_s / l is smallest at sqrt(w p_s / p_u)."""
    p_u, p_s = 0.3, 0.8
    found = minimize_scalar(
        lambda l: p_u * l + weight * p_s / l, bounds=(1e-3, 1e3), method="bounded", options={"xatol": 1e-9}
    )
    assert (weight * p_s / p_u) ** 0.5 == pytest.approx(found.x, rel=1e-5)


def test_the_push_of_a_mean_is_at_most_the_mean_of_the_push():
    """Jensen: the push is convex, so single draws of t push more than the expectation of Eq. 8 would."""
    l = 5 * torch.rand(200, 16, dtype=torch.float64) ** 3
    assert (bce_sensitive(l.mean(1)) <= bce_sensitive(l).mean(1)).all()


@pytest.mark.parametrize(
    ("method", "want"),
    [
        ("unsupervised", lambda beta, l: beta + 0 * l),
        ("supervised", lambda beta, l: beta - 1 / torch.expm1(l)),
        ("upu", lambda beta, l: -beta / torch.expm1(l)),
    ],
)
def test_the_net_slope_on_a_sensitive_image_is_that_of_the_three_risks(method, want):
    """Ten normal images and a sensitive one in U, the same sensitive image in S: one l for both of its places."""
    beta = 1 / 11
    for l in torch.tensor([0.05, 0.7, 2.5, 20.0], dtype=torch.float64):
        l = l.clone().requires_grad_()
        l_u = torch.cat([torch.full((10,), 0.3, dtype=torch.float64), l[None]])
        risk(method, l_u, l[None], l_u[:0], beta).objective.backward()
        torch.testing.assert_close(l.grad, want(beta, l.detach()), rtol=1e-9, atol=1e-12)


def test_the_planted_bug_has_the_right_total_and_with_eq_9_the_right_slope():
    """Why nobody noticed: whatever adds all l up is right."""
    off = torch.randn(5, 1, 4, 3, dtype=torch.float64, requires_grad=True)
    right = off.square().flatten(1).mean(1)
    torch.testing.assert_close(planted(off).mean(), right.mean())
    slopes = [torch.autograd.grad(l.mean(), off)[0] for l in (planted(off), right)]
    torch.testing.assert_close(*slopes)
    assert not torch.allclose(planted(off), right)
