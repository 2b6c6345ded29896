"""What a command that runs experiments ends with: a sentence or a table of its rows, and pictures."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..runs.experiments import Experiment


def say(rows: list[dict[str, Any]]) -> None:
    """Print a sentence for each run, and of several a table."""
    from ..results.summary import sentence, summary

    for row in rows:
        print(sentence(row))
    if len(rows) > 1:
        print(f"\n{summary(rows)}\n")


def draw(experiments: "list[Experiment]", rows: list[dict[str, Any]], out: Path) -> None:
    """Draw out/runs/NAME/samples.png of each run, where it is not there yet, and out/samples.png of all runs of a data
    set and its first seed. Say where."""
    from ..results.samples_figure import draw_samples

    named = {exp.name: exp for exp in experiments}
    pictures = []
    for row in rows:
        folder = out / "runs" / row["run"]
        picture = folder / "samples.png"
        if not picture.exists() or picture.stat().st_mtime < (folder / "samples.npz").stat().st_mtime:
            draw_samples(named[row["run"]], [row], out, picture)
        pictures.append(picture)
    data_sets = list(dict.fromkeys(row["experiment"] for row in rows))
    for name in data_sets if len(rows) > 1 else []:
        of_one = [row for row in rows if row["experiment"] == name]
        together = [row for row in of_one if row["seed"] == of_one[0]["seed"]]
        if len(together) > 1:
            picture = out / ("samples.png" if len(data_sets) == 1 else f"samples_{name}.png")
            draw_samples(named[together[0]["run"]], together[:MOST], out, picture)
            pictures.append(picture)
    if len(pictures) > 1:
        print(f"a picture of each run: {out}/runs/NAME/samples.png")
    print(f"samples beside training images: {pictures[-1]}")


MOST = 6
"""Runs beside each other in a picture."""
