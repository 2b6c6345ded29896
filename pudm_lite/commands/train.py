"""`pudm train`."""

import argparse

from .options import METHOD_NAMES, add_options, experiments_of, run_and_print

HELP = "Train one model, sample and judge it; one JSON line goes to OUT/rows.jsonl."


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--experiment", default="mnist-even", help="a configuration of the paper's Table 1: dataset-normal"
    )
    parser.add_argument("--method", default="nnpu", metavar="METHOD", help=f"one of {METHOD_NAMES}")
    add_options(parser, "outputs/train")


def run(options: argparse.Namespace) -> None:
    run_and_print(options, experiments_of(options, options.experiment, [options.method]))
