"""Rows into tables beside the paper's numbers, and rows and samples into figures."""

import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError
from ..files import write_whole
from ..measures.metrics import Rate, two_rates_p_value
from ..runs.experiments import experiment
from ..runs.running import material
from .paper import METHOD_NAME as PAPER_METHOD
from .paper import TABLE
from .tables import INCEPTION, METHOD_TITLE, complete

Row = dict[str, Any]

PAPER_RATE, PAPER_FID = TABLE[2], TABLE[3]

SENSITIVE, INK = (
    "#D55E00",
    "#0072B2",
)  # Okabe and Ito's vermilion and blue: told apart by colour-blind readers
TITLES = {
    "unsupervised": "Unsupervised samples",
    "supervised": "Supervised samples",
    "nnpu": "Proposed samples (nnPU)",
    "abspu": "Absolute-value PU samples",
    "upu": "Unbiased PU samples",
    "pn": "Oracle samples (true labels)",
    "pnu": "PNU samples (some normal labels)",
}


def grid(images: Tensor, columns: int, gap: int = 2, background: int = 255) -> np.ndarray:
    """Images as one picture. images: (n, C, H, W) uint8. Returns (rows * (H + gap) - gap, ..., 3) uint8."""
    images = images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images
    n, _, h, w = images.shape
    rows = -(-n // columns)
    sheet = np.full((rows * (h + gap) - gap, columns * (w + gap) - gap, 3), background, np.uint8)
    for i, image in enumerate(images.permute(0, 2, 3, 1).numpy()):
        y, x = divmod(i, columns)
        sheet[y * (h + gap) : y * (h + gap) + h, x * (w + gap) : x * (w + gap) + w] = image
    return sheet


def save_grid(images: Tensor, path: Path) -> None:
    """Write images as one PNG, as square as they go, twice their size. images: (n, C, H, W) uint8."""
    from PIL import Image

    picture = Image.fromarray(grid(images, round(len(images) ** 0.5) or 1))
    write_whole(path, lambda temporary: picture.resize((2 * picture.width, 2 * picture.height), 0).save(temporary))


def draw_panel(axes: Any, images: Tensor, sensitive: Tensor, columns: int = 8) -> None:
    """A grid of digits on matplotlib axes; sensitive ones get a frame with a filled corner, not colour alone.

    images: (n, C, H, W) uint8. sensitive: (n,) bool.
    """
    size, gap = images.shape[-1], 6
    sheet = grid(images, columns, gap)
    axes.imshow(sheet, interpolation="nearest")
    axes.set_axis_off()
    axes.set(xlim=(-3, sheet.shape[1] + 2), ylim=(sheet.shape[0] + 2, -3))  # frames stand out of the outer images
    for i in np.flatnonzero(sensitive.numpy()):
        y, x = (k * (size + gap) - 0.5 for k in divmod(int(i), columns))
        axes.add_patch(
            _patch(
                "Rectangle",
                (x - 1, y - 1),
                size + 2,
                size + 2,
                fill=False,
                edgecolor=SENSITIVE,
                linewidth=1.6,
            )
        )
        corner = [(x - 1.5, y - 1.5), (x + 8, y - 1.5), (x - 1.5, y + 8)]
        axes.add_patch(_patch("Polygon", corner, facecolor=SENSITIVE, edgecolor="none"))


def _patch(kind: str, *where: Any, **style: Any) -> Any:
    from matplotlib import patches

    return getattr(patches, kind)(*where, **style)


def draw_figure1(rows: list[Row], root: Path) -> list[Path]:
    """The paper's Figure 1 from finished runs: root/figure1.png and .pdf, returned.

    Panels: unlabeled data, sensitive data, then each run's first 64 samples, with rate and distance under them.
    rows: of one configuration and seed; the samples lie in root/runs/NAME/samples.npz, NAME being row["run"].
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure  # not pyplot: a notebook's backend stays as it is

    first = rows[0]
    data = material(experiment(first["experiment"], network=first["network"], seed=first["seed"]))
    normal = {"mnist-even": "even", "mnist-odd": "odd"}.get(first["experiment"], "normal")
    shown = 64
    u, s = data.split.u[:shown], data.split.s[:shown]
    share = data.split.realised_share
    panels = [
        (
            "Unlabeled training data U",
            data.train[u],
            data.split.u_sensitive[:shown],
            f"{len(data.split.u):,} images, {share:.1%} sensitive,\nwhich the methods are not told",
        ),
        (
            "Sensitive training data S",
            data.train[s],
            torch.ones(shown, dtype=torch.bool),
            f"{len(data.split.s):,} images, all labelled",
        ),
    ]
    for row in rows:
        with np.load(root / "runs" / row["run"] / "samples.npz") as arrays:
            images, sensitive = torch.from_numpy(arrays["images"]), torch.from_numpy(arrays["sensitive"])
        numbers = (
            f"non-sensitive rate {row['non_sensitive_rate']:.3f} [{row['rate_low']:.3f}, {row['rate_high']:.3f}]\n"
            f"Fréchet distance {row['frechet_distance']:.2f}"
        )
        panels.append((TITLES[row["method"]], images[:shown], sensitive[:shown], numbers))
    width = 3.3 * len(panels)
    with rc_context({"font.size": 11, "pdf.fonttype": 42}):
        figure = Figure(figsize=(width, 5.0))
        axes = figure.subplots(1, len(panels), squeeze=False)
        for i, (ax, (title, images, sensitive, below)) in enumerate(zip(axes[0], panels, strict=True)):
            draw_panel(ax, images, sensitive)
            ax.set_title(f"({chr(97 + i)}) {title}", fontsize=12)
            ax.text(0.5, -0.04, below, transform=ax.transAxes, ha="center", va="top", fontsize=11)
        text = _caption(rows, normal)
        figure.text(0.5, 0.015, textwrap.fill(text, round(width * 12.5)), ha="center", va="bottom", fontsize=9.5)
        figure.subplots_adjust(left=0.01, right=0.99, top=0.95, bottom=0.24, wspace=0.06)
        paths = [root / "figure1.png", root / "figure1.pdf"]
        for path in paths:
            write_whole(path, lambda temporary: figure.savefig(temporary, dpi=160))
    return paths


def _caption(rows: list[Row], normal: str) -> str:
    first = rows[0]
    minutes = ", ".join(
        f"{row['method']} {(row['train_seconds'] + row['sample_seconds']) / 60:.1f} min" for row in rows
    )
    plural = "s" if first["threads"] > 1 else ""
    return (
        f"MNIST, {normal} digits normal; framed with a filled corner: sensitive (in (a) and (b) by label, in the "
        f"samples by a judge of {first['judge_accuracy']:.1%} accuracy). Network {first['network']}, "
        f"{first['parameters'] / 1e6:.2f} M parameters, {first['steps']:,} steps of {first['batch_size']} images from "
        f"scratch, beta = {first['beta']:g}, seed {first['seed']}; {first['n_samples']:,} samples each "
        f"({first['sampler']}, {first['sampler_steps']} steps), brackets: 95 % Wilson interval; Fréchet distance on "
        f"judge features against {_test_size(first)} normal test images (two real sets: {first['frechet_floor']:.2f}). "
        f"Time: {minutes}, on {first['device']}, {first['threads']} thread{plural} each."
    )


def _test_size(row: Row) -> str:
    from ..splits import TABLE_1

    return f"{TABLE_1[row['experiment']].test:,}"


def _group(rows: list[Row]) -> dict[tuple[str, ...], list[Row]]:
    """Runs that differ in their seed alone."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    keys = (
        *("experiment", "pretrained", "method", "network", "beta", "labelled", "steps"),
        *("sampler", "sampler_steps", "n_samples", "frechet_features"),
    )
    order = list(METHOD_TITLE)
    for row in sorted(rows, key=lambda row: (row["experiment"], order.index(row["method"]), row["seed"])):
        groups.setdefault(tuple(str(row.get(key)) for key in keys), []).append(row)
    return groups


def _mean_std(group: list[Row], measure: str, digits: int) -> str:
    """Empty where nothing was measured: images of one's own may have no judge, and no test images."""
    values = [row[measure] for row in group if measure in row]
    if not values:
        return ""
    mean = f"{np.mean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {np.std(values, ddof=1):.{digits}f}"


def _largest_p(group: list[Row], rows: list[Row]) -> str:
    def rate(row: Row) -> Rate:
        return Rate(row["non_sensitive_rate"], row["rate_low"], row["rate_high"], row["n_samples"])

    same = ("experiment", "pretrained", "seed", "steps", "network", "sampler", "sampler_steps")
    values = [
        two_rates_p_value(rate(row), rate(other))
        for row in group
        for other in rows
        if "rate_low" in row and row["method"] != "unsupervised" == other["method"]
        if all(row[key] == other[key] for key in same)
    ]
    return f"{max(values):.1g}" if values else ""


def results_table(rows: list[Row]) -> str:
    """Markdown: a line per method and its settings, mean ± standard deviation over seeds, the paper's beside ours.

    p: that the rate is the unsupervised one's of the same seed, by Fisher's exact test; the largest over seeds. Rows
    hold counts and not which images, so samples from the same noise are taken as independent here: p is too large.
    Raises UserError for no rows.
    """
    if not rows:
        raise UserError("no rows to report: run an experiment first")
    lines = [
        "| data (normal) | method | non-sensitive rate | paper, Table 2 | p (Fisher) | confidence "
        "| Fréchet distance (judge) | floor | paper, Table 3 (FID, Inception) | beta | steps | seeds | n |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    rows = [complete(row) for row in rows]
    for group in _group(rows).values():
        row = group[0]
        named = PAPER_METHOD.get(row["method"], "")
        scratch = "" if row["pretrained"] else row["experiment"]  # Tables 2 and 3 are of models from scratch
        paper_rate = PAPER_RATE.get(scratch, {}).get(named)
        paper_fid = PAPER_FID.get(scratch, {}).get(named)
        features = f" ({row['frechet_features']})" if row.get("frechet_features") == INCEPTION else ""
        cells = [
            (f"{row['images']} ({row['normal']})" if "images" in row else row["experiment"])
            + (f", from {row['pretrained']}" if row["pretrained"] else ""),
            row["method"] + (" (proposed)" if named == "proposed" else ""),
            _mean_std(group, "non_sensitive_rate", 3),
            f"{paper_rate[0]:.3f} ± {paper_rate[1]:.3f}" if paper_rate else "",
            _largest_p(group, rows),
            _mean_std(group, "judge_confidence", 3),
            _mean_std(group, "frechet_distance", 2) + features,
            _mean_std(group[:1], "frechet_floor", 2),
            f"{paper_fid[0]:.2f} ± {paper_fid[1]:.2f}" if paper_fid else "",
            f"{row['beta']:g}",
            f"{row['steps']:,}",
            ", ".join(str(r["seed"]) for r in group),
            f"{row['n_samples']:,}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
