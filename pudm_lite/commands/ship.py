"""`pudm ship`."""

import argparse
from pathlib import Path

from ..files import writable

HELP = "Write the trained networks of a folder as small files, for notebooks to open."


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", type=Path, help="the --out folder of a finished `pudm figure1` or `pudm train`")
    parser.add_argument("--out", type=Path, default=Path("data"), help="folder; files go to OUT/models")


def run(options: argparse.Namespace) -> None:
    import hashlib

    from ..runs.shipped import ship

    writable(options.out)
    for path in ship(options.runs, options.out):
        print(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(options.out)}")
