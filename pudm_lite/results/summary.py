"""What a command says of its runs when they are done: a sentence each, and a table."""

from typing import Any

from ..risks import BETA_FREE
from ..runs.measuring import worth_judging
from .tables import METHOD_TITLE

Row = dict[str, Any]

NOT_YET = "these images are not yet worth judging"
UNMEASURED = "not measured"


def sentence(row: Row) -> str:
    """What a run gave, in words: the rate with its interval, beside what makes it worth something."""
    what = f"{row.get('images') or row['experiment']}, {row['method']}: "
    if "non_sensitive_rate" in row:
        what += f"non-sensitive rate {_interval(row, 'non_sensitive_rate', 'rate')} by a judge that {trust(row)}, "
        if row.get("rate_corrected") is not None:
            what += f"corrected for that {_interval(row, 'rate_corrected', 'rate_corrected')}, "
    if "frechet_distance" in row:
        what += (
            f"Fréchet distance {row['frechet_distance']:.2f} ({row['frechet_features']}; "
            f"floor {row['frechet_floor']:.2f}), "
        )
    what += f"n = {row['n_samples']}"
    if row.get("not_measured"):
        what += f"; {UNMEASURED}: {row['not_measured']}"
    if not worth_judging(row):
        what += f"; {NOT_YET}: those called normal are {row['frechet_normal'] / row['judge_floor']:.0f} floors away"
    return what


def trust(row: Row) -> str:
    """How far the judge of a row can be trusted; rows from before say only how often it names the class."""
    if row.get("judge_kept") is None or row.get("judge_caught") is None:
        return f"calls {row['judge_accuracy']:.1%} of real test images right"
    return f"keeps {row['judge_kept']:.1%} of the normal and catches {row['judge_caught']:.1%} of the sensitive ones"


def _interval(row: Row, value: str, ends: str) -> str:
    if f"{ends}_low" not in row:
        return f"{row[value]:.3f}"
    return f"{row[value]:.3f} [{row[f'{ends}_low']:.3f}, {row[f'{ends}_high']:.3f}]"


HEAD = ("method", "seed", "beta", "non-sensitive rate", "corrected", "Fréchet distance (floor)", "")


def summary(rows: list[Row]) -> str:
    """A line for each run, in columns: Markdown that reads as it stands."""
    lines = [HEAD, tuple("---" for _ in HEAD)]
    for row in rows:
        measured = "non_sensitive_rate" in row
        corrected = measured and row.get("rate_corrected") is not None
        distance = "frechet_distance" in row
        lines.append(
            (
                METHOD_TITLE[row["method"]],
                str(row["seed"]),
                _beta(row),
                _interval(row, "non_sensitive_rate", "rate") if measured else UNMEASURED,
                _interval(row, "rate_corrected", "rate_corrected") if corrected else "",
                f"{row['frechet_distance']:.2f} ({row['frechet_floor']:.2f})" if distance else UNMEASURED,
                "" if worth_judging(row) else "not yet worth judging",
            )
        )
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = [
        [cell.ljust(width, "-" if set(cell) == {"-"} else " ") for cell, width in zip(line, widths, strict=True)]
        for line in lines
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in padded)


def _beta(row: Row) -> str:
    if row["method"] in BETA_FREE:
        return ""
    if "beta_low" in row:
        return f"{row['beta']:.3f} [{row['beta_low']:.3f}, {row['beta_high']:.3f}]"
    return f"{row['beta']:g}"
