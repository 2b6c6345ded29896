"""`pudm figure4`."""

import argparse
from pathlib import Path

HELP = "Draw the paper's Figure 4 from rows: non-sensitive rate and Fréchet distance over beta, the true share marked."


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("rows", type=Path, nargs="+", help="files of JSON lines, as `pudm sweep` writes them")
    parser.add_argument("--out", type=Path, default=Path("outputs"), help="folder for figure4.png and figure4.pdf")


def run(options: argparse.Namespace) -> None:
    from ..files import read_rows, write_whole
    from ..results.sweep_figure import draw_beta_sweep

    figure = draw_beta_sweep([row for path in options.rows for row in read_rows(path)])
    for path in (options.out / "figure4.png", options.out / "figure4.pdf"):
        write_whole(path, lambda temporary: figure.savefig(temporary, dpi=160))
        print(f"wrote {path}")
