"""One look for every figure of the course, and `show`, which puts a figure with its alt text into a notebook."""

from io import BytesIO
from typing import Any

from ..runs.machine import mode

BLUE, ORANGE, GREEN, PINK, SKY, YELLOW, BLACK, GREY = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#E69F00",
    "#000000",
    "#777777",
)
"""Okabe and Ito's colours, told apart by colour-blind readers; give lines unlike dashes as well."""

COLOUR = {
    "unsupervised": BLACK,
    "supervised": GREEN,
    "pn": SKY,
    "upu": YELLOW,
    "nnpu": BLUE,
    "abspu": PINK,
    "pnu": GREY,
}
"""One colour a method, in every figure. U is BLUE and S is ORANGE where no methods are compared."""

SETTINGS: dict[Any, Any] = {
    "figure.dpi": 80,
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.wspace": 0.05,
    "font.size": 11,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "lines.linewidth": 1.8,
    "legend.frameon": False,
    "image.cmap": "gray",
    "image.interpolation": "nearest",
}


def use() -> None:
    """Make this the style of every figure drawn from here on."""
    import matplotlib.pyplot as plt

    plt.rcParams.update(SETTINGS)


def plain_log(ax: Any) -> None:
    """Make the y axis of what is drawn in `ax` logarithmic, with ticks at 1, 2 and 5 times powers of ten, in plain
    numbers. An axis that spans less than a power of ten would else be labelled 2 x 10^1, or not at all.
    """
    ax.set_yscale("log")
    low, high = ax.get_ylim()
    ticks = [m * 10.0**k for k in range(-4, 6) for m in (1, 2, 5) if low <= m * 10.0**k <= high]
    ax.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.minorticks_off()


def png(figure: Any) -> bytes:
    """A matplotlib figure as PNG, with its mode below the lower right corner, where it covers nothing."""
    figure.text(0.995, -0.01, f"{mode()} mode", ha="right", va="top", fontsize=7, color="#555555")
    buffer = BytesIO()
    figure.savefig(buffer, format="png", bbox_inches="tight", pad_inches=0.08)
    return buffer.getvalue()


def show(figure: Any, alt: str) -> None:
    """Display a figure in a notebook and close it. alt: one sentence for those who cannot see it."""
    import matplotlib.pyplot as plt
    from IPython.display import Image, display

    display(Image(png(figure), alt=alt))
    plt.close(figure)
