"""`pudm report`."""

import argparse
from pathlib import Path

HELP = "Tables from rows, the paper's values in a column of their own."


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("rows", type=Path, nargs="+", help="files of JSON lines")


def run(options: argparse.Namespace) -> None:
    from ..files import read_rows
    from ..report import results_table

    print(results_table([row for path in options.rows for row in read_rows(path)]))
