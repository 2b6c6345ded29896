"""The checks of notebook 08 find typical mistakes and name them; right answers written differently pass."""

import math

import numpy as np
import pytest
import torch
from answers import is_named, passes, wrong
from diffusers import DDIMScheduler

from pudm_lite.course.checks.c08 import check_08_1, check_08_2, check_08_3, check_08_4, check_08_5


def right_08_1(total, steps):
    return (total - torch.arange(steps, dtype=torch.float64) * total / steps).round().long() - 1


def loop_08_1(total, steps):
    return [round(total * (steps - k) / steps) - 1 for k in range(steps)]


def of_diffusers_08_1(total, steps):
    scheduler = DDIMScheduler(total, timestep_spacing="trailing")
    scheduler.set_timesteps(steps)
    return scheduler.timesteps


def leading(total, steps):
    return (torch.arange(steps) * (total // steps)).flip(0)


def whole_stride(total, steps):
    return torch.arange(total, 0, -(total // steps))[:steps] - 1


def ends_at_zero(total, steps):
    return torch.linspace(total - 1, 0, steps, dtype=torch.float64).round().long()


def truncated(total, steps):
    return torch.tensor([total * (steps - k) // steps - 1 for k in range(steps)])


def places(total, steps):
    return [total * (steps - k) / steps for k in range(steps)]


def half_up(total, steps):
    return [int(x + 0.5) - 1 for x in places(total, steps)]


def right_08_2(steps, rates):
    target = (rates[0] + rates[-1]) / 2
    i = int((rates >= target).nonzero()[0, 0])
    share = (target - rates[i - 1]) / (rates[i] - rates[i - 1])
    return steps[i - 1] + share * (steps[i] - steps[i - 1])


def numpy_08_2(steps, rates):
    return np.interp(float(rates[0] + rates[-1]) / 2, rates.numpy(), steps.numpy())


def crossing_of(target):
    return lambda steps, rates: np.interp(target(rates.tolist()), rates.numpy(), steps.numpy())


def snapshot(shift):
    def half_way(steps, rates):
        return steps[int((rates >= (rates[0] + rates[-1]) / 2).nonzero()[0, 0]) + shift]

    return half_way


def from_the_wrong_end(steps, rates):
    i = int((rates >= (rates[0] + rates[-1]) / 2).nonzero()[0, 0])
    share = ((rates[0] + rates[-1]) / 2 - rates[i - 1]) / (rates[i] - rates[i - 1])
    return steps[i] - share * (steps[i] - steps[i - 1])


def right_08_3(parameters, trained, ema):
    return 4 * parameters + 4 * trained + 8 * trained + (4 * parameters if ema else 0)


def with_numpy_08_3(parameters, trained, ema):
    numbers = np.float32(0).nbytes * np.array([parameters, trained, 2 * trained, parameters * ema])
    return float(numbers.sum())


def right_08_4(sums_u, sums_s, counts_u, counts_s, beta):
    return bool(sums_u.sum() / counts_u.sum() - beta * sums_s.sum() / counts_s.sum() < 0)


def loop_08_4(sums_u, sums_s, counts_u, counts_s, beta):
    u = s = n = m = 0.0
    for a, b, c, d in zip(sums_u.tolist(), sums_s.tolist(), counts_u.tolist(), counts_s.tolist(), strict=True):
        u, s, n, m = u + a, s + b, n + c, m + d
    return int(u * m < beta * s * n)


def tensor_08_4(sums_u, sums_s, counts_u, counts_s, beta):
    return torch.lt(sums_u.sum() * counts_s.sum(), beta * sums_s.sum() * counts_u.sum())


def at_or_below_0(sums_u, sums_s, counts_u, counts_s, beta):
    return bool(sums_u.sum() / counts_u.sum() - beta * sums_s.sum() / counts_s.sum() <= 0)


def own(sums_u, sums_s, counts_u, counts_s, beta):
    return sums_u / counts_u - beta * (sums_s / counts_s).nan_to_num(0)


def share(l_u, l_s, n_u, n_s, beta, clamped, push=lambda l: -torch.log(-torch.expm1(-l)), push_weight=None):
    normal = l_u.sum() / n_u - beta * l_s.sum() / n_s
    pushed = (beta if push_weight is None else push_weight) * push(l_s).sum() / n_s
    return -normal if clamped else pushed + normal


def straight_08_5(l_u, l_s, n_u, n_s, beta, clamped):
    """One sum over the images of each group, each with all that it costs."""
    if clamped:
        return (beta / n_s * l_s).sum() - (l_u / n_u).sum()
    return sum(l / n_u for l in l_u) + sum((-torch.log(-torch.expm1(-l)) - l) * beta / n_s for l in l_s)


def in_numbers_08_5(l_u, l_s, n_u, n_s, beta, clamped):
    total = sum(l / n_u for l in l_u.tolist()) - sum(beta * l / n_s for l in l_s.tolist())
    if clamped:
        return -total
    return total + sum(-beta * math.log1p(-math.exp(-l)) / n_s for l in l_s.tolist())


def of_the_piece(l_u, l_s, n_u, n_s, beta, clamped):
    return share(l_u, l_s, len(l_u), len(l_s), beta, clamped)


def keeps_the_push(l_u, l_s, n_u, n_s, beta, clamped):
    pushed = share(l_u, l_s, n_u, n_s, beta, False) + share(l_u, l_s, n_u, n_s, beta, True)
    return share(l_u, l_s, n_u, n_s, beta, clamped) + (pushed if clamped else 0)


def eq_19(l_u, l_s, n_u, n_s, beta, clamped):
    normal = l_u.sum() / n_u - beta * l_s.sum() / n_s
    return share(l_u, l_s, n_u, n_s, beta, False) - (normal if clamped else 0)


def by_itself(l_u, l_s, n_u, n_s, beta, clamped):
    if clamped:
        return share(l_u, l_s, n_u, n_s, beta, True)
    normal = l_u.sum() / n_u - beta * l_s.sum() / n_s
    return share(l_u, l_s, n_u, n_s, beta, False) - normal + normal.clamp(min=0)


def decides_by_itself(l_u, l_s, n_u, n_s, beta, clamped):
    return share(l_u, l_s, n_u, n_s, beta, bool(l_u.sum() / n_u < beta * l_s.sum() / n_s))


RIGHT = [
    (check_08_1, right_08_1),
    (check_08_1, loop_08_1),
    (check_08_1, of_diffusers_08_1),
    (check_08_2, right_08_2),
    (check_08_2, numpy_08_2),
    (check_08_3, right_08_3),
    (check_08_3, with_numpy_08_3),
    (check_08_4, right_08_4),
    (check_08_4, loop_08_4),
    (check_08_4, tensor_08_4),
    (check_08_5, share),
    (check_08_5, straight_08_5),
]

WRONG = [
    wrong(check_08_1, lambda total, steps: right_08_1(total, steps) + 1, "one too high"),
    wrong(check_08_1, lambda total, steps: right_08_1(total, steps).flip(0), "these go up"),
    wrong(check_08_1, leading, "leading spacing"),
    wrong(check_08_1, whole_stride, "the steps drift"),
    wrong(check_08_1, ends_at_zero, "torch.linspace"),
    wrong(check_08_1, truncated, "round, do not truncate"),
    wrong(check_08_1, lambda total, steps: [*loop_08_1(total, steps), 0], "the last image is not another step"),
    wrong(check_08_1, lambda total, steps: [*loop_08_1(total, steps), -1], "t = -1 does not exist"),
    wrong(check_08_2, crossing_of(lambda rates: 0.5), "where the rate is 0.5"),
    wrong(check_08_2, crossing_of(lambda rates: rates[-1] / 2), "half of the last"),
    wrong(check_08_2, snapshot(0), "snapshot after"),
    wrong(check_08_2, snapshot(-1), "snapshot before"),
    wrong(check_08_2, lambda steps, rates: steps[-1] / 2, "half of the steps"),
    wrong(check_08_2, lambda steps, rates: (rates[0] + rates[-1]) / 2, "the question is the step"),
    wrong(check_08_2, from_the_wrong_end, "wrong end"),
    wrong(check_08_3, lambda n, free, ema: 12 * free + 4 * n * ema, "weights themselves are missing"),
    wrong(check_08_3, lambda n, free, ema: 4 * n + 8 * free + 4 * n * ema, "its gradient, or one of"),
    wrong(check_08_3, lambda n, free, ema: 4 * n + 4 * free + 4 * n * ema, "AdamW's moments are missing"),
    wrong(check_08_3, lambda n, free, ema: 16 * n + 4 * n * ema, "no gradient and no moments"),
    wrong(check_08_3, lambda n, free, ema: 16 * free + 4 * free * ema, "frozen weights lie in memory"),
    wrong(check_08_3, lambda n, free, ema: right_08_3(n, free, ema) // 4, "numbers, not bytes"),
    wrong(check_08_3, lambda n, free, ema: right_08_3(n, free, ema) // 2, "stay in float32"),
    wrong(check_08_3, lambda n, free, ema: right_08_3(n, free, True), "without a moving average"),
    wrong(check_08_3, lambda n, free, ema: right_08_3(n, free, False), "the moving average is missing"),
    wrong(check_08_3, lambda n, free, ema: 4 * n + 12 * free + 4 * free * ema, "a copy of all weights"),
    wrong(check_08_4, lambda *a: not right_08_4(*a), "wrong way round"),
    wrong(check_08_4, lambda *a: bool((own(*a) < 0).any()), "one piece below 0"),
    wrong(check_08_4, lambda *a: bool((own(*a) < 0).all()), "although a piece is not"),
    wrong(check_08_4, lambda *a: bool(own(*a).mean() < 0), "mean of the pieces' own risks"),
    wrong(check_08_4, lambda u, s, n, m, beta: (u / n).mean() - beta * (s / m).mean() < 0, "give 0 / 0"),
    wrong(check_08_4, lambda u, s, n, m, beta: right_08_4(u, s, n, m, 1.0), "beta is missing"),
    wrong(check_08_4, lambda u, s, n, m, beta: right_08_4(beta * u, s, n, m, 1.0), "not of L_U"),
    wrong(check_08_4, lambda u, s, n, m, beta: u.sum() < beta * s.sum(), "sums are compared"),
    wrong(check_08_4, lambda *a: bool(own(*a)[0] < 0), "only the first piece"),
    wrong(check_08_1, half_up, "halves were all rounded up"),
    wrong(check_08_1, lambda total, steps: [math.ceil(x - 0.5) - 1 for x in places(total, steps)], "all rounded down"),
    wrong(check_08_1, lambda total, steps: [math.ceil(x) - 1 for x in places(total, steps)], "every fraction was"),
    wrong(check_08_1, lambda total, steps: right_08_1(total, steps).double(), "end with .long"),
    wrong(check_08_1, lambda total, steps: [x - 1 for x in places(total, steps)], "the largest difference"),
    wrong(check_08_2, crossing_of(lambda rates: np.sort(rates)[(len(rates) - 1) // 2]), "median of the rates"),
    wrong(check_08_2, crossing_of(np.median), "median of the rates"),
    wrong(check_08_2, crossing_of(np.mean), "mean of the rates"),
    wrong(check_08_2, crossing_of(lambda rates: (rates[-1] - rates[0]) / 2), "to be added to the first rate"),
    wrong(check_08_2, lambda steps, rates: steps.median(), "snapshot in the middle"),
    wrong(check_08_4, lambda *a: at_or_below_0(*a), "at exactly 0 the clamp is not active"),
    wrong(check_08_5, in_numbers_08_5, r"backward\(\) finds nothing"),
    wrong(check_08_5, lambda *a: share(*a).detach(), r"backward\(\) finds nothing"),
    wrong(
        check_08_5, lambda *a: share(*a, push=lambda l: -torch.log(-torch.expm1(-l.detach()))), "the push is cut off"
    ),
    wrong(check_08_5, lambda u, *rest: share(u.detach(), *rest), "the errors of U are cut off"),
    wrong(check_08_5, lambda u, s, *rest: share(u, s.detach(), *rest), "the errors of S are cut off"),
    wrong(
        check_08_5,
        lambda *a: share(*a, push=lambda l: -torch.log(1 - torch.exp(-l))),
        "write the push with torch.expm1",
    ),
    wrong(check_08_5, of_the_piece, "sizes of the whole batch"),
    wrong(check_08_5, keeps_the_push, "line 7: where the clamp is active the push is left out"),
    wrong(check_08_5, lambda u, s, n, m, beta, c: share(u, s, n, m, beta, c) * (-1 if c else 1), "the step climbs"),
    wrong(check_08_5, eq_19, "that is Eq. 19's own value"),
    wrong(check_08_5, lambda u, s, n, m, beta, c: share(u, s, n, m, beta, False), "the step of line 5"),
    wrong(check_08_5, lambda u, s, n, m, beta, c: share(u, s, n, m, beta, not c), "alone says when line 7 counts"),
    wrong(check_08_5, by_itself, "the piece was clamped by itself; `clamped` has"),
    wrong(check_08_5, decides_by_itself, "alone says when line 7 counts"),
    wrong(check_08_5, lambda *a: share(*a, push_weight=1), "beta is missing in front of the push"),
    wrong(check_08_5, lambda *a: share(*a, push=lambda l: 0 * l), "the push L_S.. is missing"),
    wrong(check_08_5, lambda u, s, n, m, beta, c: share(u, s, 1, 1, beta, c), "these are sums"),
    wrong(check_08_5, lambda u, s, n, m, beta, c: share(u, s, n, n, beta, c), "L_S is a mean over S"),
]


@pytest.mark.parametrize(("check", "answer"), RIGHT)
def test_right_answers_pass(check, answer):
    passes(check, answer)


@pytest.mark.parametrize(("check", "answer", "message"), WRONG)
def test_wrong_answers_are_named(check, answer, message):
    is_named(check, answer, message)
