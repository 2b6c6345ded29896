"""What a run drew, beside what it was trained on: the picture that every run ends with."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..files import array_shapes, read_arrays, write_whole
from ..runs.experiments import Experiment
from ..runs.measuring import worth_judging
from ..runs.running import material
from .report import SENSITIVE, draw_panel
from .tables import METHOD_TITLE

Row = dict[str, Any]

SHOWN = 64
COLUMNS = 8


def draw_samples(exp: Experiment, rows: list[Row], root: Path, path: Path) -> None:
    """Unlabeled and sensitive training images, then the first samples of each run, with rate and distance below.

    Framed are sensitive ones: among the samples those that the judge calls so, with its confidence; in U those that
    are, where that is known. exp: one of the runs, whose data are those of all. rows: of these runs, of root/runs.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure  # not pyplot: a notebook's backend stays as it is

    data = material(exp)
    u, s = data.split.u[:SHOWN], data.split.s[: exp.train.labelled or None][:SHOWN]
    known = "" if data.split.u_sensitive.any() else ",\nof which nobody says what is sensitive"
    panels: list[tuple[str, Tensor, Tensor, Tensor | None, str]] = [
        ("Unlabeled images U", data.train[u], data.split.u_sensitive[:SHOWN], None, f"{len(data.split.u):,}{known}"),
        ("Sensitive images S", data.train[s], torch.ones(len(s), dtype=torch.bool), None, f"{len(data.split.s):,}"),
    ]
    for row in rows:
        file = root / "runs" / row["run"] / "samples.npz"
        there = {"images", "sensitive", "confidence"} & array_shapes(file).keys()  # older runs kept no confidence
        found = {name: torch.from_numpy(array)[:SHOWN] for name, array in read_arrays(file, *there).items()}
        title = f"Samples: {METHOD_TITLE[row['method']]}"
        panels.append((title, found["images"], found["sensitive"], found.get("confidence"), _below(row)))
    with rc_context({"font.size": 10}):
        figure = Figure(figsize=(3.3 * len(panels), 4.3))
        axes = figure.subplots(1, len(panels), squeeze=False)[0]
        for ax, (title, images, sensitive, confidence, below) in zip(axes, panels, strict=True):
            draw_panel(ax, images, sensitive, COLUMNS)
            if confidence is not None:
                _write_confidence(ax, images.shape[-1], sensitive, confidence)
            ax.set_title(title, fontsize=11)
            ax.text(0.5, -0.03, below, transform=ax.transAxes, ha="center", va="top", fontsize=9)
        figure.subplots_adjust(left=0.01, right=0.99, top=0.92, bottom=0.2, wspace=0.06)
        write_whole(path, lambda temporary: figure.savefig(temporary, dpi=160))


def _write_confidence(axes: Any, size: int, sensitive: Tensor, confidence: Tensor) -> None:
    """The judge's confidence in the corner of each framed image of a `draw_panel`."""
    for at in sensitive.nonzero().flatten().tolist():
        y, x = ((size + 6) * k for k in divmod(at, COLUMNS))  # the gap of draw_panel
        box = {"boxstyle": "square,pad=0.1", "facecolor": SENSITIVE, "edgecolor": "none"}
        corner = (x + size, y + size)
        axes.text(*corner, f"{confidence[at]:.2f}", fontsize=5, color="white", ha="right", va="bottom", bbox=box)


def _below(row: Row) -> str:
    if "non_sensitive_rate" not in row:
        return "no judge: nothing is framed, nothing measured"
    rate = f"non-sensitive rate {row['non_sensitive_rate']:.3f} [{row['rate_low']:.3f}, {row['rate_high']:.3f}]"
    distance = f"Fréchet distance {row['frechet_distance']:.2f} (floor {row['frechet_floor']:.2f})"
    return f"{rate}\n{distance}" + ("" if worth_judging(row) else "\nnot yet worth judging")
