"""The checks of notebook 03 accept right answers, however written, and say what is wrong with wrong ones."""

import pytest
import torch
from answers import passes
from torch.nn import functional as F

from pudm_lite.course import toy
from pudm_lite.course.checks.c03 import (
    check_03_1,
    check_03_2,
    check_03_3,
    check_03_4,
    check_03_5,
    check_03_6,
    check_03_7,
)
from pudm_lite.course.checks.harness import WrongAnswer
from pudm_lite.draws import generator
from pudm_lite.risks import abspu, bce_sensitive, nnpu, upu


def push(l):
    return -torch.log(-torch.expm1(-l.clamp(min=1e-8)))


def normal_mean(f_u, f_s, beta):
    return (f_u.mean(0) - beta * f_s.mean(0)) / (1 - beta)


def normal_mean_by_odds(f_u, f_s, beta):
    odds = beta / (1 - beta)
    return (1 + odds) * f_u.sum(0) / len(f_u) - odds * f_s.sum(0) / f_s.shape[0]


def unbiased_in_one_mean(l_u, l_s, beta):
    return l_u.mean() + (beta * (push(l_s) - l_s)).sum() / l_s.numel()


def nonnegative_by_relu(l_u, l_s, beta):
    return F.relu(l_u.mean() - beta * l_s.mean()) + beta * push(l_s).mean()


def nonnegative_by_if(l_u, l_s, beta):
    normal = l_u.mean() - beta * l_s.mean()
    return float(beta * push(l_s).mean() + normal) if normal > 0 else float(beta * push(l_s).mean())


def algorithm_by_package(l_u, l_s, beta):
    risk = nnpu(l_u, l_s, beta)
    return risk.value, risk.objective, bool(risk.terms["clamped"])


def algorithm_with_another_constant(l_u, l_s, beta):
    """The gradient decides: a constant in the objective is no mistake."""
    value = nonnegative_by_relu(l_u, l_s, beta)
    normal = l_u.mean() - beta * l_s.mean()
    return (value, 7 + beta * push(l_s).mean() + normal, 0) if normal >= 0 else [value, 3 - normal, torch.tensor(1)]


def algorithm_straight_through(l_u, l_s, beta):
    """The number is that of Eq. 19, the gradient that of Algorithm 1: the gradient decides."""
    value, objective, clamped = algorithm_by_package(l_u, l_s, beta)
    return value, value + (objective - objective.detach()), clamped


def algorithm_cut(what):
    """Algorithm 1 with part of its objective cut off from the graph."""

    def answer(l_u, l_s, beta):
        value, _, clamped = algorithm_by_package(l_u, l_s, beta)
        plus, normal = beta * push(l_s).mean(), l_u.mean() - beta * l_s.mean()
        if what == "push":
            plus = plus.detach()
        elif what == "normal":
            normal = normal.detach()
        objective = -normal if clamped else plus + normal
        return value, float(objective.detach()) if what == "all" else objective, clamped

    return answer


def algorithm_above_0(l_u, l_s, beta):
    value, objective, _ = algorithm_by_package(l_u, l_s, beta)
    normal = l_u.mean() - beta * l_s.mean()
    return value, objective if normal > 0 else -normal, bool(normal <= 0)


def absolute_by_max(l_u, l_s, beta):
    normal = l_u.mean() - beta * l_s.mean()
    return beta * push(l_s).mean() + torch.maximum(normal, -normal)


def naive_push(l):
    return -torch.log(1 - torch.exp(-l))


def algorithm_naively(l_u, l_s, beta):
    value, objective, clamped = algorithm_by_package(l_u, l_s, beta)
    return value + beta * (naive_push(l_s) - push(l_s)).mean(), objective, clamped


def variance(l_u, l_s, beta, n_u, n_s):
    return l_u.var() / n_u + beta**2 * (bce_sensitive(l_s) - l_s).var() / n_s


def variance_with_covariance(l_u, l_s, beta, n_u, n_s):
    p = push(l_s)
    cov = ((p - p.mean()) * (l_s - l_s.mean())).mean()
    return float(l_u.var(correction=0) / n_u + beta**2 * (p.var() + l_s.var() - 2 * cov) / n_s)


def one_gaussian(x_t, t, centre, std, alpha_bar):
    ab = alpha_bar[t][:, None]
    return (1 - ab).sqrt() * (x_t - ab.sqrt() * centre) / (ab * std**2 + 1 - ab)


def line_5_or_7(l_u, l_s, beta):
    _, objective, clamped = algorithm_by_package(l_u, l_s, beta)
    return objective, clamped


def train_centre(
    x_u,
    x_s,
    t,
    eps,
    alpha_bar,
    std,
    centre,
    beta,
    learning_rate,
    step=line_5_or_7,
    reduce=lambda off: off.square().sum(1),
    result=lambda before, after: after,
    gradient=lambda new, before: new,
):
    """The loop of 03.7; what is given by name replaces a part of it."""
    n_u, centres, clamped, total = x_u.shape[1], [], [], torch.zeros_like(centre)
    for k in range(len(t)):
        centre = centre.detach().clone().requires_grad_()
        x = torch.cat([x_u[k], x_s[k]])
        ab = alpha_bar[t[k]][:, None]
        x_t = ab.sqrt() * x + (1 - ab).sqrt() * eps[k]
        l = reduce(eps[k] - one_gaussian(x_t, t[k], centre, std, alpha_bar))
        objective, seven = step(l[:n_u], l[n_u:], beta)
        objective.backward()
        total = gradient(centre.grad, total)
        after = centre.detach() - learning_rate * total
        centres.append(result(centre.detach(), after))
        clamped.append(bool(seven))
        centre = after
    return torch.stack(centres), torch.tensor(clamped)


def train_with_an_optimiser(x_u, x_s, t, eps, alpha_bar, std, centre, beta, learning_rate):
    """torch.optim, an objective made of detached parts, and Python numbers in what is returned."""
    parameter = torch.nn.Parameter(centre.clone())
    optimiser, path = torch.optim.SGD([parameter], lr=learning_rate), []
    for u, s, steps, noise in zip(x_u, x_s, t, eps, strict=True):
        ab = alpha_bar[steps].view(-1, 1)
        off = noise - one_gaussian(
            ab**0.5 * torch.cat([u, s]) + (1 - ab) ** 0.5 * noise, steps, parameter, std, alpha_bar
        )
        l_u, l_s = (off * off).sum(-1).split([len(u), len(s)])
        normal = l_u.mean() - beta * l_s.mean()
        optimiser.zero_grad()
        (-normal if normal < 0 else beta * push(l_s).mean() + normal).backward()
        optimiser.step()
        path.append((parameter.tolist(), int(normal < 0)))
    return [one for one, _ in path], [seven for _, seven in path]


def train_by_hand(x_u, x_s, t, eps, alpha_bar, std, centre, beta, learning_rate):
    """Without autograd: eps - guess is linear in the centre."""
    centres, clamped, n_u = [], [], x_u.shape[1]
    for u, s, steps, noise in zip(x_u, x_s, t, eps, strict=True):
        ab = alpha_bar[steps][:, None]
        a = (1 - ab).sqrt() / (ab * std**2 + 1 - ab)
        off = noise - a * (ab.sqrt() * (torch.cat([u, s]) - centre) + (1 - ab).sqrt() * noise)
        l, slope = off.square().sum(1), 2 * a * ab.sqrt() * off  # the slope of each l by the centre
        of_u, of_s = slope[:n_u].mean(0), slope[n_u:].mean(0)
        of_push = (-slope[n_u:] / torch.expm1(l[n_u:])[:, None]).mean(0)
        negative = bool(l[:n_u].mean() < beta * l[n_u:].mean())
        step = -(of_u - beta * of_s) if negative else beta * of_push + of_u - beta * of_s
        centre = centre - learning_rate * step
        centres.append(centre)
        clamped.append(negative)
    return torch.stack(centres), clamped


def train_by(**parts):
    return lambda *given: train_centre(*given, **parts)


def stepping(objective):
    """A step on another objective, of the parts of Eq. 18: beta L_S^+ and L_U^- - beta L_S^-."""

    def step(l_u, l_s, beta):
        plus, normal = beta * push(l_s).mean(), l_u.mean() - beta * l_s.mean()
        return objective(plus, normal), normal < 0

    return train_by(step=step)


def without_beta(l_u, l_s, beta):
    normal = l_u.mean() - l_s.mean()
    return (beta * push(l_s).mean() + normal if normal >= 0 else -normal), normal < 0


def train_with_s_first(x_u, x_s, t, eps, *rest):
    n_u = x_u.shape[1]
    return train_centre(x_u, x_s, t.roll(n_u, 1), eps.roll(n_u, 1), *rest)


def train_without_clone(*given):
    path, clamped = train_centre(*given)
    return path[-1:].expand_as(path), clamped


def train_in_place(x_u, x_s, t, eps, alpha_bar, std, centre, *rest):
    path, clamped = train_centre(x_u, x_s, t, eps, alpha_bar, std, centre, *rest)
    centre.copy_(path[-1])
    return path, clamped


@pytest.mark.parametrize(
    ("check", "answer"),
    [
        (check_03_1, normal_mean),
        (check_03_1, normal_mean_by_odds),
        (check_03_2, lambda u, s, b: upu(u, s, b).value),
        (check_03_2, unbiased_in_one_mean),
        (check_03_3, lambda u, s, b: nnpu(u, s, b).value),
        (check_03_3, nonnegative_by_relu),
        (check_03_3, nonnegative_by_if),
        (check_03_4, algorithm_by_package),
        (check_03_4, algorithm_with_another_constant),
        (check_03_4, algorithm_straight_through),
        (check_03_5, lambda u, s, b: abspu(u, s, b).value),
        (check_03_5, absolute_by_max),
        (check_03_6, variance),
        (check_03_6, variance_with_covariance),
        (check_03_7, train_centre),
        (check_03_7, train_with_an_optimiser),
        (check_03_7, train_by_hand),
    ],
)
def test_right_answers_pass(check, answer):
    passes(check, answer)


def wrong_algorithm(negative_objective, value=None):
    """Algorithm 1 with another objective where the normal part is negative, and perhaps another value."""

    def answer(l_u, l_s, beta):
        plus, normal = beta * push(l_s).mean(), l_u.mean() - beta * l_s.mean()
        objective = plus + normal if normal >= 0 else negative_objective(plus, normal)
        return (value(plus, normal) if value else plus + normal.clamp(min=0)), objective, bool(normal < 0)

    return answer


def exchanged(l_u, l_s, beta):
    value, _, clamped = algorithm_by_package(l_u, l_s, beta)
    plus, normal = beta * push(l_s).mean(), l_u.mean() - beta * l_s.mean()
    return value, (plus + normal if clamped else -normal), clamped


WRONG = [
    # 03.1
    (check_03_1, lambda u, s, b: u.mean(0) - b * s.mean(0), "divide by 1 - beta"),
    (check_03_1, lambda u, s, b: (u.mean(0) - (1 - b) * s.mean(0)) / b, "are swapped"),
    (check_03_1, lambda u, s, b: (u.mean(0) + b * s.mean(0)) / (1 - b), "takes it away"),
    (check_03_1, lambda u, s, b: (u.mean(0) - s.mean(0)) / (1 - b), "beta is missing"),
    (check_03_1, lambda u, s, b: (u.mean() - b * s.mean()) / (1 - b), "first dimension"),
    (check_03_1, lambda u, s, b: (u.sum(0) - b * s.sum(0)) / (1 - b), "you summed"),
    (check_03_1, lambda u, s, b: u.mean(0), "still holds"),
    # 03.2
    (check_03_2, lambda u, s, b: b * push(s).mean() + u.mean() + b * s.mean(), "look at the sign in Eq. 16"),
    (check_03_2, lambda u, s, b: push(s).mean() + u.mean() - b * s.mean(), r"missing in front of L_S\^\+"),
    (check_03_2, lambda u, s, b: b * push(s).mean() + u.mean() - s.mean(), "missing in front of L_S\\^-"),
    (check_03_2, lambda u, s, b: (1 - b) * push(s).mean() + u.mean() - (1 - b) * s.mean(), "are swapped"),
    (check_03_2, lambda u, s, b: b * push(s).sum() + u.sum() - b * s.sum(), "you summed"),
    (check_03_2, lambda u, s, b: u.mean() - b * s.mean(), "push beta L_S"),
    (check_03_2, lambda u, s, b: -b * push(s).mean() + u.mean() - b * s.mean(), "wrong sign"),
    (check_03_2, nonnegative_by_relu, "no maximum"),
    (check_03_2, absolute_by_max, "absolute value: Eq. 18 has none"),
    (check_03_2, lambda u, s, b: b * naive_push(s).mean() + u.mean() - b * s.mean(), "torch.expm1"),
    # 03.3
    (check_03_3, unbiased_in_one_mean, "maximum of Eq. 19 is missing"),
    (check_03_3, lambda u, s, b: F.relu(unbiased_in_one_mean(u, s, b)), "whole risk|maximum of Eq. 19 is missing"),
    (check_03_3, absolute_by_max, "that is the absolute value"),
    (check_03_3, lambda u, s, b: b * push(s).mean() + F.relu(u - b * s.mean()).mean(), "example by example"),
    (check_03_3, lambda u, s, b: algorithm_by_package(u, s, b)[1], "objective.*of Algorithm 1"),
    (check_03_3, lambda u, s, b: b * push(s).mean() + (u.mean() - b * s.mean()).clamp(max=0), "minimum"),
    (check_03_3, lambda u, s, b: b * push(s).mean() + F.relu(u.mean() + b * s.mean()), "look at the sign in Eq. 16"),
    (check_03_3, lambda u, s, b: F.relu(u.mean() - b * s.mean()), "push beta L_S"),
    (check_03_3, lambda u, s, b: b * naive_push(s).mean() + F.relu(u.mean() - b * s.mean()), "torch.expm1"),
    # 03.4
    (check_03_4, wrong_algorithm(lambda plus, normal: plus - normal), "line 7 leaves it out"),
    (check_03_4, wrong_algorithm(lambda plus, normal: plus), "Eq. 19's own gradient"),
    (check_03_4, wrong_algorithm(lambda plus, normal: normal), "minus in front"),
    (check_03_4, wrong_algorithm(lambda plus, normal: plus + normal), "Eq. 18 in both branches"),
    (check_03_4, wrong_algorithm(lambda plus, normal: 0 * normal), "nothing would be learned"),
    (check_03_4, wrong_algorithm(lambda p, n: -n, lambda p, n: p + n), "your value is that of Eq. 18"),
    (check_03_4, wrong_algorithm(lambda p, n: -n, lambda p, n: p + n if n >= 0 else -n), "your value is the objective"),
    (check_03_4, exchanged, "branches are exchanged"),
    (
        check_03_4,
        lambda u, s, b: (*algorithm_by_package(u, s, b)[:2], not algorithm_by_package(u, s, b)[2]),
        "turned around",
    ),
    (check_03_4, lambda u, s, b: algorithm_by_package(u, s, b)[0], "return three things"),
    (check_03_4, algorithm_naively, "torch.expm1"),
    (check_03_4, algorithm_cut("push"), "does not feel the push"),
    (check_03_4, algorithm_cut("normal"), "feels the push alone"),
    (check_03_4, algorithm_cut("all"), r"backward\(\) finds nothing"),
    (check_03_4, algorithm_above_0, "at exactly 0 line 5 holds"),
    # 03.5
    (check_03_5, unbiased_in_one_mean, "absolute value is missing"),
    (check_03_5, nonnegative_by_relu, "with the maximum"),
    (check_03_5, lambda u, s, b: algorithm_by_package(u, s, b)[1], "keeps beta L_S"),
    (check_03_5, lambda u, s, b: (u.mean() - b * s.mean()).abs(), "keeps beta L_S"),
    (check_03_5, lambda u, s, b: b * push(s).mean() + (u - b * s.mean()).abs().mean(), "example by example"),
    (check_03_5, lambda u, s, b: b * naive_push(s).mean() + (u.mean() - b * s.mean()).abs(), "torch.expm1"),
    # 03.6
    (
        check_03_6,
        lambda u, s, b, n, m: u.var() / n + b**2 * (push(s).var() + s.var()) / m,
        "as if they were independent",
    ),
    (check_03_6, lambda u, s, b, n, m: u.var() / n + b * (push(s) - s).var() / m, "beta squared"),
    (check_03_6, lambda u, s, b, n, m: u.var() / n - b**2 * (push(s) - s).var() / m, r"\*add\* their variances"),
    (check_03_6, lambda u, s, b, n, m: u.var() / n + b**2 * s.var() / m, "push is missing"),
    (check_03_6, lambda u, s, b, n, m: u.var() / n + b**2 * push(s).var() / m, "l_s itself is missing"),
    (check_03_6, lambda u, s, b, n, m: u.var() + b**2 * (push(s) - s).var(), "for one example"),
    (check_03_6, lambda u, s, b, n, m: variance(u, s, b, n, m).sqrt(), "standard deviation"),
    (check_03_6, lambda u, s, b, n, m: variance(u, s, b, m, n), "swapped"),
    (check_03_6, lambda u, s, b, n, m: u.var() / n + b**2 * (push(s) + s).var() / m, "opposite signs"),
    # 03.7
    (check_03_7, lambda *given: train_centre(*given)[0], "return two things"),
    (check_03_7, train_by(result=lambda before, after: before), r"the centre \*after\* it"),
    (check_03_7, train_by(gradient=lambda new, before: 0 * new), "has not moved"),
    (check_03_7, train_by(gradient=lambda new, before: new + before), "zero_grad"),
    (check_03_7, train_by(gradient=lambda new, before: -new), r"goes \*against\* the gradient"),
    (check_03_7, stepping(lambda plus, normal: plus + normal), "line 7 is missing"),
    (check_03_7, stepping(lambda plus, normal: plus + normal.clamp(min=0)), "you differentiated Eq. 19 itself"),
    (check_03_7, stepping(lambda plus, normal: plus + normal.abs()), "the push is left out; you kept it"),
    (check_03_7, stepping(lambda plus, normal: plus + normal if normal >= 0 else normal), "a minus in front"),
    (
        check_03_7,
        stepping(lambda plus, normal: (plus + normal) * (1 if normal >= 0 else -1)),
        "you turned it round with the rest",
    ),
    (check_03_7, stepping(lambda plus, normal: normal.abs()), "missing in line 5"),
    (check_03_7, train_without_clone, r"keep .detach\(\).clone\(\)"),
    (
        check_03_7,
        train_by(
            step=lambda u, s, b: (line_5_or_7(u, s, b)[0] + (1 - b) * push(s).mean() * (u.mean() >= b * s.mean()), 0)
        ),
        "beta is missing in front of the push",
    ),
    (check_03_7, train_by(step=without_beta), r"beta is missing in front of L_S\^-"),
    (check_03_7, train_by(step=lambda u, s, b: (u.mean(), 0)), "S is not used"),
    (check_03_7, train_by(step=lambda u, s, b: (u.mean() + push(s).mean(), 0)), "that is Eq. 12"),
    (check_03_7, train_by(reduce=lambda off: off.square().mean(1)), "you averaged them"),
    (check_03_7, train_with_s_first, "U first, then those of S"),
    (check_03_7, lambda *given: [part[-1] for part in train_centre(*given)], "the last centre alone"),
    (check_03_7, lambda *given: (train_centre(*given)[0], ~train_centre(*given)[1]), "turned around"),
    (check_03_7, train_in_place, "changes what it was given"),
    (check_03_7, train_by(step=lambda u, s, b: line_5_or_7(u.detach(), s.detach(), b)), "stopped with RuntimeError"),
]


@pytest.mark.parametrize(("check", "answer", "message"), WRONG)
def test_wrong_answers_get_a_sentence_that_fits(check, answer, message):
    with pytest.raises(WrongAnswer, match=message):
        check(answer)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (stepping(lambda plus, normal: plus + normal if normal >= 0 else normal), "a minus in front"),
        (train_by(gradient=lambda new, before: -new), r"goes \*against\* the gradient"),
    ],
)
def test_a_forgotten_minus_is_not_taken_for_climbing(answer, message):
    """They go the same way where every step takes line 7, so the first does not. A few tries: the draws are fresh."""
    for _ in range(8):
        with pytest.raises(WrongAnswer, match=message):
            check_03_7(answer)


def test_with_many_steps_the_centre_goes_where_the_landscape_is_lowest():
    """Notebook 03, Section 8: with the true share the normal part is lowest at the mean of the normal points."""
    p_n = toy.Gaussians(torch.ones(1), torch.tensor([[-0.3, 0.0]]), torch.tensor([0.22]))
    p_s = toy.Gaussians(torch.ones(1), torch.tensor([[0.5, 0.0]]), torch.tensor([0.16]))
    p_u, alpha_bar, draws, steps = toy.mixture(p_s, p_n, 0.2), toy.toy_process().alpha_bar, generator(3, 70), 400
    x_u, x_s = (p.sample(steps * n, draws).view(steps, n, 2) for p, n in ((p_u, 32), (p_s, 8)))
    t, eps = torch.randint(200, (steps, 40), generator=draws), torch.randn(steps, 40, 2, generator=draws)
    path, _ = train_centre(x_u, x_s, t, eps, alpha_bar, 0.22, torch.tensor([0.1, 0.4]), 0.2, 0.02)
    end = path[-100:].mean(0)
    assert (end - p_n.mean()).norm() < 0.12  # the push takes it a little farther from S
    assert end[0] < 0
