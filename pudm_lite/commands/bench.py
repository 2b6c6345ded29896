"""`pudm bench`."""

import argparse

HELP = "This machine: matrix-multiply peak, training step by method and network, sampling."


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--threads", type=int, default=None, help="CPU threads (default: all cores)")
    parser.add_argument("--seconds", type=float, default=2.0, help="seconds a measurement")
    parser.add_argument("--network", nargs="+", default=["lite", "paper"], help="networks")


def run(options: argparse.Namespace) -> None:
    from ..runs.bench import bench

    bench(options.network, options.seconds, options.threads)
