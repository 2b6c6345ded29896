"""`pudm bench`."""

import argparse
import json
import sys
from pathlib import Path

from ..errors import UserError

HELP = (
    "This machine: matrix-multiply peak, training step by method and network, samplers with their distance, start-up."
)


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--network", nargs="+", default=["lite"], help="networks whose training step is timed")
    parser.add_argument("--rounds", type=int, default=5, help="rounds, each of which times everything once")
    parser.add_argument("--seconds", type=float, default=0.5, help="seconds of a measurement in a round")
    parser.add_argument(
        "--n-samples", type=int, default=600, metavar="N", help="images that each sampler draws, at least"
    )
    parser.add_argument(
        "--threads", type=int, default=None, help="CPU threads (default: OMP_NUM_THREADS, or one a core)"
    )
    parser.add_argument(
        "--json", type=Path, default=None, metavar="FILE", help="also write all of it, every round, to a file"
    )


def run(options: argparse.Namespace) -> None:
    import torch

    from ..files import writable_file, write_whole
    from ..runs.bench import bench, doubts, report

    o = options
    if o.threads is not None:
        if o.threads < 1:
            raise UserError(f"--threads must be at least 1; got {o.threads}")
        torch.set_num_threads(o.threads)
    if o.json is not None:
        try:
            writable_file(o.json)
        except UserError:
            raise UserError(f"cannot write {o.json}: name a file elsewhere with --json") from None
    result = bench(o.network, o.rounds, o.seconds, o.n_samples)
    print(report(result))
    for doubt in doubts(result):
        print(doubt, file=sys.stderr)
    if o.json is not None:
        write_whole(o.json, lambda path: path.write_text(json.dumps(result, indent=1)))
        print(f"wrote {o.json}")
