"""`pudm evaluate`."""

import argparse
from pathlib import Path

from ..errors import UserError

HELP = "Judge images: non-sensitive rate with interval, Fréchet distance with its floor."


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("images", type=Path, help="a .npz file as `pudm sample` writes it")
    parser.add_argument("--experiment", default="mnist-even", help="a configuration of the paper's Table 1")
    parser.add_argument(
        "--features",
        choices=("judge", "inception"),
        default="judge",
        help="features of the Fréchet distance; inception gives FID",
    )


def run(options: argparse.Namespace) -> None:
    import json

    import numpy as np
    import torch

    from ..runs.experiments import experiment, material
    from ..runs.measuring import measures

    exp = experiment(options.experiment)
    try:
        with np.load(options.images) as arrays:
            images = torch.from_numpy(arrays["images"])
    except (OSError, ValueError, KeyError):
        raise UserError(
            f"{options.images} is not an .npz file with an array `images`: write one with `pudm sample`"
        ) from None
    if len(images) < 2:
        raise UserError(f"{options.images} holds {len(images)} images; at least 2 are needed to measure anything")
    row, _ = measures(images, material(exp), options.features)
    print(json.dumps(row, indent=1))
