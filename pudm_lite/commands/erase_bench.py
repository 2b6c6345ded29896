"""`pudm erase-bench`."""

import argparse
from pathlib import Path

from .given import count, seed, whole
from .options import writable

HELP = "Erase digits from a conditional model by every method, measure and attack; a row each, a table and a figure."


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--method",
        nargs="+",
        default=[],
        metavar="METHOD",
        help="names of erasing methods, none (the unedited model) and retrained among them (default: all)",
    )
    parser.add_argument(
        "--digit",
        nargs="+",
        default=[],
        metavar="DIGIT",
        help="digits to erase, one at a time (default: all ten for the main methods, two for the others)",
    )
    parser.add_argument("--seed", nargs="+", type=seed, default=[0, 1], help="seeds of edits and samples")
    parser.add_argument("--each", type=whole(2, 10**5), default=100, metavar="N", help="images drawn for each digit")
    parser.add_argument(
        "--attack",
        nargs="*",
        default=None,
        metavar="ATTACK",
        help="attacks on the two digits (default: all; none: no names)",
    )
    parser.add_argument(
        "--model",
        type=Path,
        default=None,
        metavar="DIR",
        help="a pipeline of `pudm train --conditional` (default: the shipped one)",
    )
    parser.add_argument(
        "--retrained",
        type=Path,
        default=None,
        metavar="DIR",
        help="the --out of a sweep over mnist-without-DIGIT with --set conditional=1: the reference",
    )
    parser.add_argument("--lanes", type=count, default=None, help="rows made at a time (default: one a CPU core)")
    parser.add_argument(
        "--out", type=Path, default=Path("outputs/erasing"), help="folder for everything written; run again to go on"
    )


def run(options: argparse.Namespace) -> None:
    from ..results.erasing import save_figure, table
    from ..runs.erase_bench import make_rows, planned

    o = options
    jobs = planned(o.method, o.digit, o.seed, o.retrained, o.attack, each=o.each, model=str(o.model or ""))
    writable(o.out)
    rows = make_rows(jobs, o.out, o.lanes or 0)
    print(table(rows))
    save_figure(rows, o.out / "erasing.png")
    print(f"wrote {o.out / 'rows.jsonl'}, {o.out / 'samples.npz'} and {o.out / 'erasing.png'}")
