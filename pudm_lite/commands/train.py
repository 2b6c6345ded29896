"""`pudm train`."""

import argparse

from .folders import add_folders, album_of
from .options import METHOD_NAMES, add_options, experiments_of, holds_models, run_and_print, use_threads

HELP = "Train one or several models on the same data, sample and judge them; a JSON line each goes to OUT/rows.jsonl."


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--experiment",
        default="mnist-even",
        help="a configuration of the paper's Table 1, dataset-normal; or a data set and its normal classes: mnist-3,5",
    )
    parser.add_argument(
        "--method",
        nargs="+",
        default=["nnpu"],
        metavar="METHOD",
        help=f"any of {METHOD_NAMES}; or pretrained, which draws from --pretrained as it is",
    )
    parser.add_argument(
        "--pretrained",
        default="",
        metavar="MODEL",
        help="what to fine-tune: a folder or hub name of a Diffusers pipeline, or a file of `pudm ship`",
    )
    parser.add_argument(
        "--conditional",
        action="store_true",
        help="tell the network each image's class (Eq. 20): it draws what it is asked for",
    )
    parser.add_argument(
        "--guidance", type=float, default=1.0, help="classifier-free guidance of a conditional model's samples"
    )
    add_folders(parser)
    add_options(parser, "outputs/train")


def run(options: argparse.Namespace) -> None:
    o = options
    holds_models(o.out)
    use_threads(o)
    data = album_of(o, o.out) or o.experiment
    run_and_print(o, experiments_of(o, data, o.method, o.pretrained))
