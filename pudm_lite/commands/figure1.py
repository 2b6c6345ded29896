"""`pudm figure1`."""

import argparse

from .options import METHOD_NAMES, add_options, begin, experiments_of, run_and_print

HELP = "Train on MNIST from scratch, sample, judge, and draw the paper's Figure 1 with measured numbers."


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--normal", choices=("even", "odd"), default="even", help="which digits are normal")
    parser.add_argument(
        "--method",
        nargs="+",
        default=["unsupervised", "nnpu"],
        metavar="METHOD",
        help=f"any of {METHOD_NAMES}",
    )
    add_options(parser, "outputs/figure1")


def run(options: argparse.Namespace) -> None:
    import time

    begin(options)
    started = time.monotonic()
    rows = run_and_print(options, experiments_of(options, f"mnist-{options.normal}", options.method))
    if not rows:  # a helping process of `accelerate launch`
        return
    from ..results.report import draw_figure1
    from ..runs.machine import peak_memory_mb

    memory = peak_memory_mb() + sum(row["peak_memory_mb"] for row in rows)  # the drawing below comes after theirs
    for path in draw_figure1(rows, options.out):
        print(f"wrote {path}")
    print(f"{(time.monotonic() - started) / 60:.1f} minutes; the processes' peaks add up to {memory:.0f} MiB of memory")
