"""Rows of the erasing bench as a table and a figure."""

from pathlib import Path
from typing import Any

import numpy as np

from ..files import write_whole
from ..measures.metrics import Rate, rate_of_counts
from . import style

Row = dict[str, Any]


def pooled(rows: list[Row], name: str) -> Rate:
    """A rate of several rows together, with Wilson's interval: the sum of hits over the sum of images."""
    hits = sum(round(row[name][0] * row[name][3]) for row in rows)
    return rate_of_counts(hits, sum(row[name][3] for row in rows))


def sections(rows: list[Row]) -> dict[str, list[Row]]:
    """Rows that may be compared, by what they have in common: every method of a section has the same edits.

    The first: the methods that were measured on every digit. The second: all methods, over what all were measured on.
    """
    edits = {method: {_edit(row) for row in mine} for method, mine in _by_method(rows).items()}
    digits = {row["concept"] for row in rows}
    widely = {method: of for method, of in edits.items() if {digit for digit, _ in of} == digits}
    found = {}
    for some in (widely, edits):
        shared = set.intersection(*some.values()) if some else set()
        if shared:
            found[_title(shared)] = [row for row in rows if row["method"] in some and _edit(row) in shared]
    return found


def _edit(row: Row) -> tuple[str, int]:
    return row["concept"], row["seed"]


def _title(edits: set[tuple[str, int]]) -> str:
    digits, seeds = (sorted({str(edit[part]) for edit in edits}) for part in (0, 1))
    return f"erased, one at a time: {', '.join(digits)}; seed{'s' * (len(seeds) > 1)} {', '.join(seeds)}"


def _by_method(rows: list[Row]) -> dict[str, list[Row]]:
    return {m: [row for row in rows if row["method"] == m] for m in dict.fromkeys(row["method"] for row in rows)}


def _mean(rows: list[Row], name: str, digits: int) -> str:
    values = [row[name] for row in rows if row.get(name) is not None]
    return f"{np.mean(values):.{digits}f}" if values else ""


def table(rows: list[Row]) -> str:
    """Markdown: for each section a line a method. Rates are of all images of the line together, with Wilson's interval
    at 95 % (images of one edit are no independent draws of the method: seeds and digits stand in the title's columns).
    """
    parts = []
    for title, some in sections(rows).items():
        attacks = list(dict.fromkeys(name for row in some for name in row.get("attacks", {})))
        head = [
            "method",
            "edits",
            "ESR-1",
            "PSR-1",
            "worst kept",
            "Fréchet, kept",
            "Fréchet to retrained",
            "null share",
        ]
        head += ["CPU s", "changed"]
        lines = [f"**{title}**", "", _line(head), _line(["---"] * len(head))]
        for method, mine in _by_method(some).items():
            lines.append(
                _line(
                    [
                        f"`{method}`",
                        str(len(mine)),
                        _interval(pooled(mine, "esr_1")),
                        _interval(pooled(mine, "psr_1")),
                        f"{np.mean([r['worst_kept_rate'][0] for r in mine]):.2f}",
                        _mean(mine, "frechet_kept", 2),
                        _mean(mine, "frechet_retrained", 2),
                        f"{pooled(mine, 'null_share').rate:.3f}",
                        _mean(mine, "edit_seconds", 0),
                        f"{np.mean([r['changed_parameters'] for r in mine]):,.0f}",
                    ]
                )
            )
        parts.append("\n".join(lines))
        if attacks:
            parts.append(_attacks(some, attacks))
    return "\n\n".join(parts) + "\n"


def _attacks(rows: list[Row], attacks: list[str]) -> str:
    """Success rates, ASR = (pre + new successes) / N, after the share without attack; and what the same attack finds
    where there is nothing to be found, if it has such a control: what does not lie well above that says nothing."""
    attacked = [row for row in rows if row.get("attacks")]
    lines = [_line(["method", "no attack", *attacks]), _line(["---"] * (len(attacks) + 2))]
    for method, mine in _by_method(attacked).items():
        plain = 1 - pooled(mine, "esr_1").rate
        lines.append(_line([f"`{method}`", f"{plain:.2f}", *(_asr(mine, name, "asr") for name in attacks)]))
    controls = [_asr(attacked, name, "control") for name in attacks]
    if any(controls):
        lines.append(_line(["control", "", *controls]))
    return "\n".join(lines)


def _asr(rows: list[Row], attack: str, which: str) -> str:
    found = [row["attacks"][attack].get(which) for row in rows if attack in row["attacks"]]
    return f"{np.mean([rate[0] for rate in found]):.2f}" if all(found) and found else ""


def _interval(rate: Rate) -> str:
    return f"{rate.rate:.3f} [{rate.low:.3f}, {rate.high:.3f}]"


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def concept_graph(rows: list[Row], method: str) -> tuple[list[str], np.ndarray]:
    """What erasing each digit (a row) does to each (a column): the slides' delta, a mean over seeds, in nats.

    Returns the erased digits and an array (erased, 10).
    """
    mine = [row for row in rows if row["method"] == method]
    digits = sorted({row["concept"] for row in mine})
    return digits, np.array([np.mean([r["harm"] for r in mine if r["concept"] == d], 0) for d in digits])


def draw_figure(rows: list[Row], graphs: tuple[str, str] = ("esd-x", "ap-exact")) -> Any:
    """Left: how surely each method erases, and what is left of the others. Right: the concept graphs of two methods."""
    from matplotlib.figure import Figure

    shared = list(sections(rows).values())[-1]
    methods = _by_method(shared)
    figure = Figure(figsize=(11.5, 0.3 * len(methods) + 2.0), layout="constrained")
    graphs = tuple(m for m in graphs if any(row["method"] == m for row in rows))  # type: ignore[assignment]
    axes = figure.subplots(1, 1 + len(graphs), width_ratios=[1.3] + [1] * len(graphs), squeeze=False)[0]
    for y, mine in enumerate(methods.values()):
        for key, colour, mark, shift in (("esr_1", style.ORANGE, "o", -0.12), ("psr_1", style.BLUE, "s", 0.12)):
            rate = pooled(mine, key)
            axes[0].plot([rate.low, rate.high], [y + shift] * 2, color=colour)
            axes[0].plot(rate.rate, y + shift, mark, color=colour, label=None if y else _NAMES[key])
        worst = np.mean([row["worst_kept_rate"][0] for row in mine])
        axes[0].plot(worst, y, "|", color=style.BLACK, ms=12, mew=2, label=None if y else "worst kept digit")
    axes[0].set(yticks=range(len(methods)), yticklabels=list(methods), xlim=(0, 1.02), xlabel="share of images")
    axes[0].invert_yaxis()
    figure.legend(loc="outside lower left", ncols=3, fontsize=9)
    largest = max([concept_graph(rows, m)[1].max() for m in graphs], default=1.0)
    for ax, method in zip(axes[1:], graphs, strict=True):
        digits, graph = concept_graph(rows, method)
        own = np.array([[str(k) == d for k in range(10)] for d in digits])
        shown = ax.imshow(np.ma.masked_where(own, graph), vmin=0, vmax=min(largest, 3), cmap="cividis", aspect="auto")
        ax.set(
            title=f"{method}: drop in log-probability",
            xticks=range(10),
            yticks=range(len(digits)),
            yticklabels=digits,
            xlabel="digit asked for",
            ylabel="digit erased",
        )
        ax.grid(False)
        ax.set_facecolor("#dddddd")
    if graphs:
        figure.colorbar(shown, ax=axes[-1], label="nats (the erased digit itself: grey)")
    return figure


_NAMES = {"esr_1": "erased (ESR-1)", "psr_1": "kept (PSR-1)"}


def save_figure(rows: list[Row], path: Path) -> None:
    """The figure of `draw_figure` as a PNG."""
    import matplotlib as mpl

    with mpl.rc_context(style.SETTINGS):
        image = style.png(draw_figure(rows))
    write_whole(path, lambda to: to.write_bytes(image))
