"""The widget of notebook 02: the push -log(1 - exp(-l)) and its slope as the scale of l changes."""

import math
from typing import Any

import torch
from torch import Tensor

from ...errors import UserError
from ...results import style
from ...risks import bce_sensitive

SCALES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 784.0)
"""What the error per pixel is multiplied by: 1 is the mean over pixels, 784 the sum over 28 x 28 of them (Eq. 8)."""


def push_slope(ell: Tensor) -> Tensor:
    """The derivative of `bce_sensitive`: -1/(exp(l) - 1). ell: any shape, > 0. Returns that shape, < 0 or -0."""
    return -1 / torch.expm1(ell)


def push_figure(scale: float, error: float, typical: tuple[float, float], share: float) -> Any:
    """The push and its slope against the error per pixel, at one scale, with a point and the range of real errors.

    scale: l = scale * error. error: the mean squared error per pixel at the point, > 0. typical: errors between which
    those of a trained model lie. share: of sensitive images in U; drawn as the pull that they exert.
    Returns a matplotlib figure.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.2, 3.7), layout="constrained")
    value, slope = figure.subplots(1, 2)
    errors = torch.logspace(-4.5, 0.3, 300, dtype=torch.float64)
    at = torch.tensor(error, dtype=torch.float64)
    l = float(scale * at)
    for ax, curve in ((value, bce_sensitive), (slope, lambda ell: -push_slope(ell))):
        ax.axvspan(*typical, color=style.SKY, alpha=0.3, lw=0, label="a trained model's errors")
        ax.plot(errors, curve(scale * errors), color=style.ORANGE, label="push on an image of S")
        ax.set(xscale="log", xlim=(float(errors[0]), float(errors[-1])), xlabel="error per pixel")
    slope.axhline(share, ls="--", color=style.BLUE, label=f"pull of those hidden in U ({share:.2f})")
    value.set(ylim=(0, 10), ylabel="$-\\log(1 - e^{-\\ell})$", title=f"scale {scale:g}: $\\ell$ = {l:.3g} at the dot")
    slope.set(yscale="log", ylim=(1e-6, 1e4), ylabel="$1/(e^{\\ell} - 1)$")
    for ax, y in ((value, float(bce_sensitive(scale * at))), (slope, float(-push_slope(scale * at)))):
        low, high = ax.get_ylim()  # a dot outside becomes a triangle at the edge
        ax.plot([error], [min(max(y, low), high)], "v" if y < low else "o", color=style.BLACK, ms=8, clip_on=False)
    slope.set_title(f"strength of the push at the dot: {float(-push_slope(scale * at)):.2g}")
    figure.legend(*slope.get_legend_handles_labels(), fontsize=9, loc="outside lower center", ncols=3)
    return figure


def widget02_push(typical: tuple[float, float], share: float, scale: float = 784.0, error: float = 10**-1.5) -> Any:
    """Sliders for the scale of l and for the error per pixel over `push_figure`.

    typical, share: see `push_figure`. scale: one of SCALES. error: in [1e-4, 1]; the slider stands at the
    nearest of its values, 20 to each power of ten.
    Returns an ipywidgets VBox. Raises UserError for values out of range.
    """
    import ipywidgets

    if scale not in SCALES:
        raise UserError(f"the scale must be one of {', '.join(f'{s:g}' for s in SCALES)}; got {scale:g}")
    if not 0 < typical[0] < typical[1]:
        raise UserError(f"typical errors must be two positive numbers, the smaller first; got {typical}")
    if not 1e-4 <= error <= 1:
        raise UserError(f"the error per pixel must lie in 1e-4..1; got {error:g}")
    options = [(f"{s:g}", s) for s in SCALES]
    scales = ipywidgets.SelectionSlider(options=options, value=scale, description="scale")
    errors = ipywidgets.FloatLogSlider(
        value=10 ** (round(20 * math.log10(error)) / 20),  # a value that the slider can hold, so that the title agrees
        min=-4,
        max=0,
        step=0.05,
        description="error",
        readout_format=".2g",
    )
    image = ipywidgets.Image(format="png")

    def draw(_: Any = None) -> None:
        image.value = style.png(push_figure(scales.value, errors.value, typical, share))

    scales.observe(draw, "value")
    errors.observe(draw, "value")
    draw()
    return ipywidgets.VBox([ipywidgets.HBox([scales, errors]), image])
