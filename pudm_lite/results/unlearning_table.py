"""Rows of `pudm unlearn` as a table: what is left of the digit, what it cost the others, and in seconds."""

from typing import Any

from ..errors import UserError

Row = dict[str, Any]

TITLE = {
    "unedited": "unedited",
    "retrained": "retrained without it",
    "unsupervised": "fine-tuning on U",
    "nnpu": "nnPU (proposed)",
    "abspu": "absolute-value PU",
    "naive": "naive deletion",
    "negative-gradient": "negative gradient",
    "erasediff": "EraseDiff",
    "siss": "SISS",
    "siss-u": "SISS on U",
}
"""The methods in the order of their lines."""


def unlearning_table(rows: list[Row]) -> str:
    """Markdown: a line for each digit, method and its settings; in a cell one value for each seed, in their order.

    Raises UserError for no rows, and for rows that are of something else.
    """
    if not rows:
        raise UserError("no rows to report: run an experiment first")
    if any("digit_share" not in row or row["method"] not in TITLE for row in rows):
        raise UserError("these are no rows of unlearning: name the rows.jsonl of a `pudm unlearn`")
    lines = [
        "| digit | method | learns from | share of the digit | to real kept digits | to the retrained model | steps "
        "| CPU s | seeds |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for group in _groups(rows):
        first = group[0]
        shares = [
            f"{row['digit_share']:.3f} [{row['digit_share_low']:.3f}, {row['digit_share_high']:.3f}]" for row in group
        ]
        cells = [
            str(first["digit"]),
            TITLE[first["method"]],
            first["told"],
            *map(" / ".join, (shares, *([f"{row[name]:.2f}" for row in group] for name in DISTANCES))),
            f"{first['steps']:,}",
            " / ".join(f"{row['train_cpu_seconds']:.0f}" for row in group),
            ", ".join(str(row["seed"]) for row in group),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


DISTANCES = ("kept_distance", "retrained_distance")


def _groups(rows: list[Row]) -> list[list[Row]]:
    """Rows that differ in their seed alone, in the order of TITLE."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    order = list(TITLE)
    for row in sorted(rows, key=lambda row: (row["digit"], order.index(row["method"]), row["seed"])):
        same = (
            "digit",
            "method",
            "pretrained",
            "steps",
            "reference_steps",
            "n_samples",
            "rate",
            "lam",
            "length",
            "eta",
        )
        groups.setdefault(tuple(row.get(name) for name in same), []).append(row)
    return list(groups.values())
