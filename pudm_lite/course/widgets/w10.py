"""The widget of notebook 10: what an edited model draws and what the judge sees, for each digit and method."""

from typing import Any

import numpy as np
import torch

from ...results import style
from ...results.report import draw_panel
from ...runs.erasing_samples import Few

Row = dict[str, Any]


def edit_figure(row: Row, few: Few | None) -> Any:
    """Left: asked for by judged, in shares of each row, the erased digit's row framed. Right: samples of each digit, a
    line each, framed where the judge sees the erased digit; left out where there are none. row: of `pudm erase-bench`.

    Returns a matplotlib figure.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    counts = np.array(row["matrix"])
    shares, erased, k = counts / counts.sum(1, keepdims=True), int(row["concept"]), len(counts)
    each = few.images.shape[1] if few else 0
    figure = Figure(figsize=(4.7 + 0.42 * each, 4.6), layout="constrained")
    axes = figure.subplots(1, 2 if few else 1, width_ratios=[10, each] if few else [1], squeeze=False)[0]
    axes[0].imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for i, j in zip(*np.nonzero(counts), strict=True):
        ink = "white" if shares[i, j] > 0.5 else "black"
        axes[0].text(j, i, f"{100 * shares[i, j]:.0f}", ha="center", va="center", fontsize=8, color=ink)
    axes[0].add_patch(Rectangle((-0.5, erased - 0.5), k, 1, fill=False, edgecolor=style.ORANGE, lw=2.5))
    axes[0].set(
        xticks=range(k), yticks=range(k), xlabel="the judge sees", ylabel="asked for", title="of 100 images: how many"
    )
    axes[0].grid(False)
    if few:
        images = torch.from_numpy(few.images.reshape(-1, 1, *few.images.shape[2:]))
        draw_panel(axes[1], images, torch.from_numpy(few.called.flatten() == erased), columns=each)
        axes[1].set_title(f"framed: a {erased}")
    gone, kept = row["esr_1"], row["psr_1"]
    figure.suptitle(
        f"{row['method']}, digit {erased} erased, seed {row['seed']}: ESR-1 {gone[0]:.2f} "
        f"[{gone[1]:.2f}, {gone[2]:.2f}], PSR-1 {kept[0]:.2f} [{kept[1]:.2f}, {kept[2]:.2f}]",
        fontsize=11,
    )
    return figure


def widget10_edits(
    rows: list[Row], samples: dict[tuple[str, str], Few], digit: str = "4", method: str = "esd-x"
) -> Any:
    """Menus of digits and, for each, of its methods over `edit_figure`; of an edit's rows that of the first seed.

    What is not there is not offered: digit and method stand for themselves where rows have them. Returns an ipywidgets
    VBox.
    """
    import ipywidgets

    edits: dict[str, dict[str, Row]] = {}
    for row in sorted(rows, key=lambda row: row["seed"]):
        edits.setdefault(row["concept"], {}).setdefault(row["method"], row)
    digits = sorted(edits)
    of_digit = ipywidgets.Dropdown(options=digits, value=digit if digit in edits else digits[0], description="erased")
    of_method = ipywidgets.Dropdown(description="method")
    image = ipywidgets.Image(format="png")

    def draw(_: Any = None) -> None:
        row = edits[of_digit.value].get(of_method.value)
        if row:  # while the menu is filled anew it may hold nothing, or the other digit's
            image.value = style.png(edit_figure(row, samples.get((of_method.value, of_digit.value))))

    def refill(_: Any = None) -> None:
        known, wanted = list(edits[of_digit.value]), of_method.value or method
        of_method.options = known
        of_method.value = wanted if wanted in known else known[0]
        draw()

    of_method.observe(draw, "value")
    of_digit.observe(refill, "value")
    refill()
    return ipywidgets.VBox([ipywidgets.HBox([of_digit, of_method]), image])
