"""The checks of notebook 06 find typical mistakes and name them; right answers written differently pass."""

import math

import numpy as np
import pytest
import torch
from answers import is_named, passes, wrong

from pudm_lite.course.checks.c06 import check_06_1, check_06_2, check_06_3, check_06_4
from pudm_lite.measures.metrics import frechet_distance
from pudm_lite.recipes import recipe_for
from pudm_lite.splits import TABLE_1


def right_06_1(labels, classes, normal):
    return torch.isin(labels, torch.tensor([classes.index(name) for name in normal]))


def loop_06_1(labels, classes, normal):
    return [classes[label] in normal for label in labels.tolist()]


def table_06_1(labels, classes, normal):
    return torch.tensor([name in set(normal) for name in classes])[labels]


def named(same):
    """An image is normal where `same` says so of its class's name and the normal names."""
    return lambda labels, classes, normal: torch.tensor([same(classes[label], normal) for label in labels.tolist()])


def sorted_in_place(names):
    names.sort()
    names.append(names[0])
    return names


def right_06_2(epochs, images, batch):
    return math.ceil(epochs * images / batch)


def whole_06_2(epochs, images, batch):
    return -(-epochs * images // batch)


def counting_06_2(epochs, images, batch):
    left, steps = epochs * images, 0
    while left > 0:
        left, steps = left - batch, steps + 1
    return torch.tensor(steps)


def right_06_3(mean_x, var_x, mean_y, var_y):
    return (mean_x - mean_y).square().sum() + (var_x.sqrt() - var_y.sqrt()).square().sum()


def traces_06_3(mean_x, var_x, mean_y, var_y):
    return float(((mean_x - mean_y) ** 2 + var_x + var_y - 2 * (var_x * var_y) ** 0.5).sum())


def quantiles_06_3(mean_x, var_x, mean_y, var_y):
    """In one dimension the distance is the squared gap of the quantile functions, averaged over all shares."""
    share = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    z = torch.special.ndtri(share)[:, None]
    return ((mean_x + var_x.sqrt() * z) - (mean_y + var_y.sqrt() * z)).square().mean(0).sum()


def right_06_4(n, distance):
    return np.polynomial.Polynomial.fit((1 / n).numpy(), distance.numpy(), 1)(0.0)


def solved_06_4(n, distance):
    a = torch.stack([torch.ones_like(n), 1 / n], 1)
    return torch.linalg.lstsq(a, distance[:, None]).solution[0, 0]


def polyfit(x, y):
    return lambda n, d: np.polyfit(x(n, d).numpy(), y(n, d).numpy(), 1)[1]


RIGHT = [
    *((check_06_1, answer) for answer in (right_06_1, loop_06_1, table_06_1)),
    *((check_06_2, answer) for answer in (right_06_2, whole_06_2, counting_06_2)),
    *((check_06_3, answer) for answer in (right_06_3, traces_06_3)),
    *((check_06_4, answer) for answer in (right_06_4, solved_06_4)),
]

WRONG = [
    wrong(check_06_1, lambda y, c, n: ~right_06_1(y, c, n), "sensitive group"),
    wrong(check_06_1, lambda y, c, n: y < len(n), "first classes"),
    wrong(check_06_1, lambda y, c, n: right_06_1(y, sorted(c), n), "alphabet"),
    wrong(check_06_1, lambda y, c, n: y == c.index(n[0]), "one class"),
    wrong(check_06_1, lambda y, c, n: y == c.index(n[-1]), "the last"),
    wrong(check_06_1, lambda y, c, n: torch.nonzero(right_06_1(y, c, n))[:, 0], "places in the data"),
    wrong(
        check_06_1, named(lambda name, normal: any(name in one for one in normal)), "a name is in `normal` as a whole"
    ),
    wrong(check_06_1, named(lambda name, normal: any(one in name for one in normal)), "a class is named in `normal`"),
    wrong(
        check_06_1,
        named(lambda name, normal: any(one in name or name in one for one in normal)),
        "names are the same as a whole",
    ),
    wrong(check_06_1, lambda y, c, n: right_06_1(y, c, n).int(), "as numbers: return True and False"),
    wrong(check_06_1, lambda y, c, n: [int(value) for value in loop_06_1(y, c, n)], "return True and False"),
    wrong(check_06_1, lambda y, c, n: right_06_1(y, c, sorted_in_place(n)), "changes what it was given"),
    wrong(check_06_2, lambda e, n, b: e * n // b, "rounded down"),
    wrong(check_06_2, lambda e, n, b: round(e * n / b), "or to the nearest"),
    wrong(check_06_2, lambda e, n, b: e * n // b + 1, "do not add 1"),
    wrong(check_06_2, lambda e, n, b: math.ceil(e * (n / b)), "multiply before you divide"),
    wrong(check_06_2, lambda e, n, b: e * (n // b), "downwards"),
    wrong(check_06_2, lambda e, n, b: e * math.ceil(n / b), "upwards"),
    wrong(check_06_2, lambda e, n, b: math.ceil(n / b), "one epoch"),
    wrong(check_06_2, lambda e, n, b: e * n, "how many images are seen"),
    wrong(check_06_2, lambda e, n, b: e * n / b, "whole number"),
    wrong(check_06_2, lambda e, n, b: e * b, "fewer steps"),
    wrong(check_06_3, lambda m, v, k, w: (m - k).square().sum() + (v - w).square().sum(), "differences of the"),
    wrong(check_06_3, lambda m, v, k, w: (m - k).square().sum() + (v - w).abs().sum(), "taken as it is"),
    wrong(check_06_3, lambda m, v, k, w: ((m - k) ** 2 + v + w - (v * w).sqrt()).sum(), "counts twice"),
    wrong(check_06_3, lambda m, v, k, w: ((m - k) ** 2 + v + w - 2 * v * w).sum(), "not its root"),
    wrong(check_06_3, lambda m, v, k, w: (m - k).norm() + (v.sqrt() - w.sqrt()).square().sum(), "enter squared"),
    wrong(check_06_3, lambda m, v, k, w: (v.sqrt() - w.sqrt()).square().sum(), "means are missing"),
    wrong(check_06_3, lambda m, v, k, w: (m - k).square().sum(), "means alone"),
    wrong(check_06_3, lambda m, v, k, w: right_06_3(m, v, k, w) / len(m), "average over the axes"),
    wrong(check_06_3, lambda m, v, k, w: right_06_3(m, v, k, w).sqrt(), "that is the root"),
    wrong(check_06_3, lambda m, v, k, w: (m - k) ** 2 + (v.sqrt() - w.sqrt()) ** 2, "one number"),
    wrong(check_06_4, polyfit(lambda n, d: n, lambda n, d: d), "line over n:"),
    wrong(check_06_4, polyfit(lambda n, d: n.rsqrt(), lambda n, d: d), "1/√n"),
    wrong(check_06_4, polyfit(lambda n, d: n.log(), lambda n, d: d), "log n"),
    wrong(check_06_4, polyfit(lambda n, d: d, lambda n, d: 1 / n), "over the distance"),
    wrong(check_06_4, lambda n, d: np.polyfit((1 / n).numpy(), d.numpy(), 1)[0], "the slope"),
    wrong(check_06_4, lambda n, d: max(0.0, float(right_06_4(n, d))), "cut off at 0"),
    wrong(check_06_4, lambda n, d: abs(float(right_06_4(n, d))), "with its sign"),
    wrong(check_06_4, lambda n, d: d[-1], "largest n"),
    wrong(check_06_4, lambda n, d: d.mean(), "mean of the distances"),
    wrong(check_06_4, lambda n, d: (n[-1] * d[-1] - n[-2] * d[-2]) / (n[-1] - n[-2]), "two of the sizes alone"),
    wrong(check_06_4, lambda n, d: (n[-1] * d[-1] - n[0] * d[0]) / (n[-1] - n[0]), "two of the sizes alone, the"),
]


@pytest.mark.parametrize(("check", "answer"), RIGHT)
def test_right_answers_pass(check, answer):
    passes(check, answer)


@pytest.mark.parametrize(("check", "answer", "message"), WRONG)
def test_wrong_answers_are_named(check, answer, message):
    is_named(check, answer, message)


def test_the_formula_of_06_3_is_the_squared_gap_of_the_quantiles():
    mean_x, mean_y = torch.randn(2, 3, dtype=torch.float64)
    var_x, var_y = torch.rand(2, 3, dtype=torch.float64) + 0.2
    exact = right_06_3(mean_x, var_x, mean_y, var_y)
    assert torch.allclose(quantiles_06_3(mean_x, var_x, mean_y, var_y), exact, rtol=1e-3)


def test_the_formula_of_06_3_is_the_packages_where_the_axes_are_independent():
    """Samples whose covariance is diagonal to the last digit: the corners of a box, moved."""
    corners = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=torch.float64)] * 3)
    x, y = corners * torch.tensor([1.0, 2.0, 0.5]) + 1, corners * torch.tensor([2.0, 2.0, 3.0])
    exact = right_06_3(x.mean(0), x.var(0), y.mean(0), y.var(0))
    assert math.isclose(frechet_distance(x.numpy(), y.numpy()), exact, rel_tol=1e-10)


@pytest.mark.parametrize("configuration", TABLE_1)
def test_the_steps_of_06_2_are_those_of_the_papers_recipe(configuration):
    c = TABLE_1[configuration]
    train = recipe_for("paper", c).train
    assert train["steps"] == right_06_2(100, c.u_normal + c.u_sensitive + c.s, train["batch_size"])
