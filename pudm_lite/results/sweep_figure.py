"""The paper's Figure 4 from our rows: what the assumed share beta does to the rate and to the Fréchet distance."""

from collections import defaultdict
from typing import Any

import numpy as np

from ..errors import UserError
from . import style
from .tables import complete, lack

Row = dict[str, Any]

MARKS = {"nnpu": ("o", "-"), "abspu": ("s", "--"), "upu": ("^", "-."), "pn": ("D", "-.")}
"""Marker and dash of each method that beta acts on."""


DRAWN = ("realised_share", "non_sensitive_rate", "rate_low", "rate_high", "frechet_distance")
"""What of a row is drawn; images of one's own have no share that is known, and perhaps no judge."""

LEVEL = {"unsupervised": "--", "supervised": ":", "pretrained": "-."}
"""Dash of each method that beta does not act on: drawn as a level line."""


def draw_beta_sweep(rows: list[Row]) -> Any:
    """Non-sensitive rate and Fréchet distance over the assumed share beta; a row of two panels for each experiment.

    A line a method: the mean over seeds, bars of one standard deviation over seeds, a small dot for every run; where
    a point is a single run, the rate's bar is the judge's binomial interval. Methods that beta does not act on are
    level lines; the true share of U is a vertical one. Runs whose beta was estimated are stars, each where it fell.
    rows: as running.run and `pudm sweep` write them; of one experiment all of one network, length of training,
    number of samples and features.
    Returns a matplotlib figure. Raises UserError for no rows, what is none, and rows that cannot share a picture.
    """
    from matplotlib.figure import Figure

    if not rows:
        raise UserError("no rows to draw: run the sweep first")
    rows = [complete(row) for row in rows]
    for row in rows:
        lack(row, DRAWN)
    by_experiment: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_experiment[row["experiment"]].append(row)
    for some in by_experiment.values():
        for key in ("network", "pretrained", "steps", "n_samples", "frechet_features"):
            found = sorted({row.get(key, "") for row in some if row["method"] != "pretrained"})
            if len(found) > 1:
                values = ", ".join(str(value) or "none" for value in found)
                raise UserError(f"rows of one {key} belong in one figure; these have {values}")
    figure = Figure(figsize=(9.6, 3.7 * len(by_experiment)), layout="constrained")
    parts = figure.subfigures(len(by_experiment), 1, squeeze=False)[:, 0]
    for part, some in zip(parts, by_experiment.values(), strict=True):
        _draw_experiment(part, some)
    return figure


def _draw_experiment(figure: Any, rows: list[Row]) -> None:
    first = next((row for row in rows if row["method"] != "pretrained"), rows[0])
    share = float(np.mean([row["realised_share"] for row in rows]))
    features = "Inception" if first.get("frechet_features", "").startswith("inception") else "judge"
    panels = (
        ("non_sensitive_rate", "non-sensitive rate (share of samples)"),
        ("frechet_distance", f"Fréchet distance ({features} features)"),
    )
    for ax, (key, label) in zip(figure.subplots(1, 2), panels, strict=True):
        for method in dict.fromkeys(row["method"] for row in rows):
            some = [row for row in rows if row["method"] == method]
            if method in LEVEL:
                _level(ax, some, key, method)
                continue
            given = [row for row in some if row.get("beta_from") != "estimate"]
            if given:
                _line(ax, given, key, method)
            if len(given) < len(some):
                _stars(ax, [row for row in some if row not in given], key, method)
        ax.axvline(share, color="#777777", linestyle=(0, (1, 1.5)), label=f"true share {share:.3f}")
        if key == "frechet_distance" and all("frechet_floor" in row for row in rows):
            floor = np.mean([row["frechet_floor"] for row in rows])
            ax.axhline(floor, color="#777777", linewidth=1, label=f"two real sets ({floor:.2f})")
        if key == "frechet_distance":  # a beta far too large is tens of times worse, and the dip must still be seen
            ax.set_yscale("log")
            ax.yaxis.set_major_formatter("{x:g}")
            ax.yaxis.set_minor_formatter("")
        ax.set(xlabel="assumed share β", ylabel=label)
        ax.set_xlim(0, 1.08 * max(row["beta"] for row in rows))
    figure.suptitle(
        f"{first['experiment']}, {first['steps']:,} training steps, {first['n_samples']:,} samples a run", fontsize=11
    )
    for ax in figure.axes:
        ax.legend(fontsize=9, frameon=True, framealpha=0.9, edgecolor="none")


def _level(ax: Any, rows: list[Row], key: str, method: str) -> None:
    values = [row[key] for row in rows]
    mean, spread = np.mean(values), np.std(values, ddof=1) if len(values) > 1 else 0.0
    colour = style.COLOUR.get(method, style.PINK)
    ax.axhline(mean, color=colour, linestyle=LEVEL[method], label=f"{method} ({_runs(values)})")
    ax.axhspan(mean - spread, mean + spread, color=colour, alpha=0.1, linewidth=0)


def _stars(ax: Any, rows: list[Row], key: str, method: str) -> None:
    betas, values = [row["beta"] for row in rows], [row[key] for row in rows]
    colour = style.COLOUR.get(method, style.GREEN)
    label = f"{method}, β estimated ({_runs(values)})"
    ax.plot(betas, values, "*", color=colour, markersize=11, markeredgecolor="white", zorder=3, label=label)


def _line(ax: Any, rows: list[Row], key: str, method: str) -> None:
    at = defaultdict(list)
    for row in rows:
        at[row["beta"]].append(row)
    betas = sorted(at)
    groups = [[row[key] for row in at[beta]] for beta in betas]
    means = [float(np.mean(group)) for group in groups]
    bars = np.zeros((2, len(betas)))
    for i, group in enumerate(groups):
        if len(group) > 1:
            bars[:, i] = np.std(group, ddof=1)
        elif key == "non_sensitive_rate":
            (row,) = at[betas[i]]
            bars[:, i] = row[key] - row["rate_low"], row["rate_high"] - row[key]
    marker, dash = MARKS.get(method, ("x", "-"))
    colour = style.COLOUR.get(method, style.GREEN)
    counts = sorted({len(group) for group in groups})
    label = f"{method} ({'-'.join(map(str, counts[:: max(1, len(counts) - 1)]))} run{'s' if counts[-1] > 1 else ''})"
    ax.errorbar(betas, means, bars, color=colour, marker=marker, linestyle=dash, capsize=3, label=label)
    for beta, group in zip(betas, groups, strict=True):
        ax.plot([beta] * len(group), group, ".", color=colour, alpha=0.45, markersize=4)


def _runs(values: list[float]) -> str:
    return f"{len(values)} run{'s' if len(values) > 1 else ''}"
