"""The widget of notebook 05: a threshold over the scores of U and S, and what it says of beta."""

from typing import Any

import torch
from torch import Tensor

from ...errors import UserError
from ...priors import best_bin, naive_min_ratio, share_over, tails
from ...results import style

DELTA, GAMMA = 0.1, 0.01
BINS, POINTS = 40, 300


def threshold_figure(z_u: Tensor, z_s: Tensor, c: float, true_share: float | None = None) -> Any:
    """Left: both groups' scores, the part over the threshold c filled. Right: q_u / q_p and the same plus its margin,
    over all thresholds, with the best bin, the smallest ratio and c marked.

    z_u: (n_u,), z_s: (n_p,) held-out scores, larger = more like S. true_share: drawn where it is known.
    Returns a matplotlib figure.
    """
    from matplotlib.figure import Figure

    z_u, z_s = z_u.double(), z_s.double()
    t = tails(z_u, z_s)
    bound, best = t.ratio + t.margin(DELTA, GAMMA), best_bin(z_u, z_s, DELTA, GAMMA)
    low, high = float(torch.minimum(z_u.min(), z_s.min())), float(torch.maximum(z_u.max(), z_s.max()))
    figure = Figure(figsize=(9.6, 3.5))
    figure.set_layout_engine("none")  # fixed margins: a redraw has 0.2 s
    figure.subplots_adjust(left=0.075, right=0.99, bottom=0.15, top=0.88, wspace=0.2)
    left, right = figure.subplots(1, 2)

    edges = torch.linspace(low, high, BINS + 1, dtype=torch.float64)
    for z, colour, dash, label in ((z_u, style.BLUE, "-", "U"), (z_s, style.ORANGE, "--", "S")):
        share = torch.histogram(z, edges).hist / len(z)
        left.stairs(share, edges, color=colour, linestyle=dash, linewidth=1.8, label=label)
        left.stairs(share * (edges[:-1] >= c), edges, color=colour, alpha=0.3, fill=True)
    left.axvline(c, color=style.BLACK, linewidth=1)
    left.set(xlabel="score z (logit, larger: more like S)", ylabel="share of the group", xlim=(low, high))
    left.legend(loc="upper center")

    shown = torch.linspace(0, len(t.c) - 1, min(POINTS, len(t.c))).long()
    shown = torch.cat([shown, torch.arange(max(0, len(t.c) - POINTS), len(t.c))]).unique()  # every one far up
    right.plot(t.c[shown], t.ratio[shown], color=style.BLACK, label="ratio q_u / q_p")
    right.plot(t.c[shown], bound[shown], "--", color=style.PINK, label="ratio + margin")
    right.plot(best.c, best.beta, "*", color=style.GREEN, markersize=15, label=f"best bin: {best.beta:.3f}")
    naive = naive_min_ratio(z_u, z_s)
    right.plot(naive.c, naive.beta, "v", color=style.ORANGE, markersize=8, label=f"smallest ratio: {naive.beta:.3f}")
    if true_share is not None:
        right.axhline(true_share, color="#777777", linestyle=":", label=f"true share {true_share:.3f}")
    right.axvline(c, color=style.BLACK, linewidth=1)
    right.set(
        xlabel="threshold c", ylabel="estimate of β", xlim=(low, high), ylim=(0, min(1.05, 3.5 * best.beta + 0.1))
    )
    right.legend(loc="upper left", fontsize=9)

    figure.suptitle(_readout(t, z_u, z_s, c), fontsize=11)
    return figure


def _readout(t: Any, z_u: Tensor, z_s: Tensor, c: float) -> str:
    at = torch.tensor([c], dtype=torch.float64)
    q_u, q_p = share_over(z_u, at), share_over(z_s, at)
    text = f"c = {c:.2f}: q_u = {float(q_u):.4f}, q_p = {float(q_p):.4f}, "
    if not q_p:
        return text + "no ratio: no score of S reaches c"
    margin = type(t)(at, q_u, q_p, t.n_u, t.n_p).margin(DELTA, GAMMA)
    return text + f"ratio {float(q_u / q_p):.3f} + margin {float(margin):.3f} = {float(q_u / q_p + margin):.3f}"


def widget05_threshold(z_u: Tensor, z_s: Tensor, true_share: float | None = None) -> Any:
    """A slider for the threshold c over `threshold_figure`; it starts at the best bin.

    Arguments as `threshold_figure`. Returns an ipywidgets VBox. Raises UserError for an empty group.
    """
    import ipywidgets

    if min(len(z_u), len(z_s)) == 0:
        raise UserError("scores of U and of S are needed, at least one each")
    low, high = float(min(z_u.min(), z_s.min())), float(max(z_u.max(), z_s.max()))
    slider = ipywidgets.FloatSlider(
        best_bin(z_u, z_s, DELTA, GAMMA).c,
        min=low,
        max=high,
        step=(high - low) / 200,
        description="threshold c",
        readout_format=".2f",
        layout=ipywidgets.Layout(width="60%"),
    )
    image = ipywidgets.Image(format="png")

    def draw(_: Any = None) -> None:
        image.value = style.png(threshold_figure(z_u, z_s, slider.value, true_share))

    slider.observe(draw, "value")
    draw()
    return ipywidgets.VBox([slider, image])
