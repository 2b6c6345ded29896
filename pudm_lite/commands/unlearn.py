"""`pudm unlearn`."""

import argparse
from pathlib import Path

from .given import count, seed, whole

HELP = (
    "Remove a digit from a model without a condition, by PU fine-tuning and its rivals, and measure what is left; "
    "a JSON line each goes to OUT/rows.jsonl."
)


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--digit", nargs="+", type=whole(0, 9), default=[4], metavar="DIGIT", help="digits, one a row")
    parser.add_argument("--seed", nargs="+", type=seed, default=[0, 1], metavar="SEED", help="seeds")
    parser.add_argument(
        "--method",
        nargs="+",
        default=None,
        metavar="METHOD",
        help="unedited, unsupervised, nnpu, abspu, naive, negative-gradient, erasediff, siss, siss-u (default: all); "
        "retrained, which the others are measured by, is always among them",
    )
    parser.add_argument("--steps", type=count, default=None, help="of every fine-tuning (default: each method's own)")
    parser.add_argument(
        "--reference-steps", type=count, default=2200, help="of the model that is trained without the digit"
    )
    parser.add_argument(
        "--n-samples", type=whole(2, 10**9), default=1000, metavar="N", help="images drawn for each row"
    )
    parser.add_argument(
        "--pretrained",
        default="",
        metavar="MODEL",
        help="what to remove the digit from: the folder of a Diffusers pipeline, or a file of `pudm ship` (default: "
        "the network of data/models/ that draws all digits)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("outputs/unlearning"),
        help="folder for everything written; run the same command again to resume",
    )


def run(options: argparse.Namespace) -> None:
    from ..results.unlearning_table import unlearning_table
    from ..runs.running import start_network
    from ..runs.unlearning_bench import METHODS, bench, plan
    from .options import writable

    o = options
    entries = plan(
        o.digit,
        o.seed,
        o.method or list(METHODS),
        n_samples=o.n_samples,
        steps=o.steps,
        reference_steps=o.reference_steps,
        pretrained=o.pretrained,
    )
    start_network(entries[0].fine_tuning)  # what cannot be opened or does not fit is said now
    writable(o.out)
    rows = bench(entries, o.out)
    path = o.out / "rows.jsonl"
    print(unlearning_table(rows))
    print(f"{len(rows)} rows are in {path}; this table again: pudm report {path} --unlearning")
