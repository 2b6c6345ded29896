"""Checks of notebook 06: groups of classes, epochs and steps, the Fréchet distance axis by axis and its limit."""

import math
from collections.abc import Iterable

import torch

from .harness import Function, check, expect, expect_bool

NORMAL = ["car", "caterpillar", "deer"]
SENSITIVE = ["airplane", "carriage", "cat", "dog", "ship"]
"""One name holds a normal name, and a normal name holds one: whoever looks for parts of names is wrong both ways."""


@check("06.1", "is_normal", points=1)
def check_06_1(is_normal: Function) -> None:
    """Classes in a random order, so that neither their names' order nor their number in `normal` can be guessed."""
    names = NORMAL + SENSITIVE
    alphabet = {sorted(names).index(name) for name in NORMAL}
    places = alphabet
    while places in (alphabet, {0, 1, 2}):  # or a mistake would be right by chance
        classes = [names[i] for i in torch.randperm(8).tolist()]
        normal = [NORMAL[i] for i in torch.randperm(3).tolist()]
        places = {classes.index(name) for name in normal}
    labels = torch.cat([torch.arange(8), torch.randint(0, 8, (24,))])[torch.randperm(32)]

    def of(chosen: Iterable[str]) -> torch.Tensor:
        return torch.isin(labels, torch.tensor([classes.index(name) for name in chosen]))

    want, parts = of(normal), "that goes by parts of names: a cat is no caterpillar, a carriage no car"
    got = is_normal(labels, classes, normal)
    expect(
        got,
        want,
        {
            "that is the sensitive group: normal is True where the class's name is in `normal`": ~want,
            "that takes the first classes for the normal ones: look up where each name stands in `classes`": (
                of(classes[:3])
            ),
            "that takes the classes in the order of the alphabet: a label is a place in `classes` as it is given": (
                torch.isin(labels, torch.tensor(list(alphabet)))
            ),
            "that is one class of the group alone: an image is normal if its class is any of `normal`": of(normal[:1]),
            "that is one class of the group alone, the last: an image is normal if its class is any of `normal`": (
                of(normal[-1:])
            ),
            f"{parts}; a name is in `normal` as a whole or not at all": of([*normal, "cat"]),
            f"{parts}; a class is named in `normal` as a whole or not at all": of([*normal, "carriage"]),
            f"{parts}; names are the same as a whole or not at all": of([*normal, "cat", "carriage"]),
            "these are places in the data; wanted is True or False for every image": torch.nonzero(want)[:, 0],
        },
    )
    expect_bool(got)


@check("06.2", "steps_of", points=1)
def check_06_2(steps_of: Function) -> None:
    """Sizes that do not divide: where rounding happens decides by dozens of steps. And sizes that do."""
    epochs, batch, images = 0, 1, 0
    while not 0 < epochs * images % batch < batch // 2:  # else rounding to the nearest would be rounding up
        epochs = int(torch.randint(20, 60, ()))
        batch = 2 * int(torch.randint(16, 60, ()))
        images = batch * int(torch.randint(5, 9, ())) + batch // 2 - 1  # an epoch's last batch is not quite half full
    want = math.ceil(epochs * images / batch)
    expect(
        steps_of(epochs, images, batch),
        float(want),
        {
            "rounded down, or to the nearest: the last images would not be seen; round up": float(want - 1),
            "rounded in every epoch, downwards: batches run across the end of an epoch, so round once, at the end": (
                float(epochs * (images // batch))
            ),
            "rounded in every epoch, upwards: batches run across the end of an epoch, so round once, at the end": (
                float(epochs * math.ceil(images / batch))
            ),
            "that is one epoch": float(math.ceil(images / batch)),
            "that is one epoch, not rounded": images / batch,
            "that is how many images are seen: a step sees a whole batch of them": float(epochs * images),
            "a step is a whole number: round up": epochs * images / batch,
            "that is epochs times batch: a larger batch makes fewer steps": float(epochs * batch),
        },
        tolerance=1e-6,
    )
    while epochs * images % batch or math.ceil(epochs * (images / batch)) == epochs * images // batch:
        epochs, images, batch = (int(torch.randint(low, 2 * low, ())) for low in (20, 500, 30))
    want = epochs * images // batch
    expect(
        steps_of(epochs, images, batch),
        float(want),
        {
            f"one too many where nothing is left over ({epochs} · {images} images are {want} batches of {batch}): "
            "round up, do not add 1, and multiply before you divide: images / batch is not exact": want + 1.0,
        },
        tolerance=1e-9,
    )


@check("06.3", "frechet_axes", points=2)
def check_06_3(frechet_axes: Function) -> None:
    """Against the squared gap of the quantile functions, which is the distance in one dimension, axis by axis."""
    d = 5
    mean_x, gap = torch.randn(2, d, dtype=torch.float64)
    gap = gap / gap.norm() * (1.5 + float(torch.rand(())))  # not near 1, whose square is itself
    mean_y = mean_x + gap
    sd_x, sd_y = 0.3 + 2 * torch.rand(2, d, dtype=torch.float64)
    var_x, var_y = sd_x.square(), sd_y.square()
    square, spread = gap @ gap, (sd_x - sd_y).square().sum()
    want = square + spread
    expect(
        frechet_axes(mean_x, var_x, mean_y, var_y),
        want,
        {
            "the differences of the *variances* are squared: take their roots, the standard deviations, first": (
                square + (var_x - var_y).square().sum()
            ),
            "the difference of the variances is taken as it is: the trace is of C_x + C_y - 2 (C_x C_y)^(1/2)": (
                square + (var_x - var_y).abs().sum()
            ),
            "the root of the product counts twice: -2 σ_x σ_y on every axis": (
                square + (var_x + var_y - sd_x * sd_y).sum()
            ),
            "you subtracted the product of the variances, not its root": square
            + (var_x + var_y - 2 * var_x * var_y).sum(),
            "the means enter squared: |m_x - m_y|², not its root": square.sqrt() + spread,
            "the means are missing": spread,
            "that is the distance of the means alone": square,
            "that is the average over the axes; the distance adds them up": want / d,
            "that is the root: the distance of this course, and FID, is the squared one": want.sqrt(),
            "one number is wanted: add up over the axes": gap.square() + (sd_x - sd_y).square(),
        },
    )


@check("06.4", "at_infinity", points=2)
def check_06_4(at_infinity: Function) -> None:
    """Distances that are a limit plus a slope over n, and off that by turns, so that only least squares fits.

    The second time the line ends below 0.
    """
    _expect_limit(at_infinity, limit=2 + float(torch.rand(())), slope=150 + 100 * float(torch.rand(())))
    _expect_limit(at_infinity, limit=-0.5 - 0.2 * float(torch.rand(())), slope=800 + 100 * float(torch.rand(())))


def _expect_limit(at_infinity: Function, limit: float, slope: float) -> None:
    n = torch.tensor([100.0, 160.0, 250.0, 400.0, 800.0], dtype=torch.float64)
    off = torch.tensor([-0.1, 0.12, -0.12, 0.14, -0.1], dtype=torch.float64) + 0.01 * torch.randn(5).double()
    distance = limit + slope / n + off

    def line(x: torch.Tensor, y: torch.Tensor) -> tuple[float, float]:
        """Intercept and slope, least squares."""
        a = ((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum()
        return float(y.mean() - a * x.mean()), float(a)

    want, rise = line(1 / n, distance)
    two = (n[-1] * distance[-1] - n[-2] * distance[-2]) / (n[-1] - n[-2])
    expect(
        at_infinity(n, distance),
        want,
        {
            "that is a line over n: draw the distances over 1/n, where they lie on a line": line(n, distance)[0],
            "that is a line over 1/√n: the bias falls like 1/n": line(n.rsqrt(), distance)[0],
            "that is a line over log n: the bias falls like 1/n": line(n.log(), distance)[0],
            "that is the slope, how fast the bias falls; wanted is the value at 1/n = 0": rise,
            "that is the distance at the largest n: it still has its bias": distance[-1],
            "that is the mean of the distances: every one of them has its bias": distance.mean(),
            "that takes two of the sizes alone, the last ones: fit the line to all of them (least squares)": two,
            "that takes two of the sizes alone, the first and the last: fit the line to all of them (least squares)": (
                (n[-1] * distance[-1] - n[0] * distance[0]) / (n[-1] - n[0])
            ),
            "cut off at 0: the value of the line was asked for; that it lies below 0 says how unsure it is": 0.0,
            "the line ends below 0: its value was asked for, with its sign": -want,
            "that is 1/n over the distance: the distance is what is predicted, 1/n what it is predicted from": (
                line(distance, 1 / n)[0]
            ),
        },
        tolerance=1e-3,
    )
