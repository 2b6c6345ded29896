"""`pudm evaluate`."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UserError
from .folders import add_folders, album_of

if TYPE_CHECKING:
    import numpy as np

    from ..runs.experiments import Experiment

HELP = "Judge images: non-sensitive rate with interval, Fréchet distance with its floor."


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("images", type=Path, help="a .npz file as `pudm sample` writes it")
    parser.add_argument(
        "--experiment", default="mnist-even", help="a configuration of the paper's Table 1, or mnist-3,5"
    )
    parser.add_argument(
        "--features",
        choices=("judge", "inception"),
        default="judge",
        help="features of the Fréchet distance; inception gives FID",
    )
    add_folders(parser)


def run(options: argparse.Namespace) -> None:
    import json

    import torch

    from ..files import read_arrays
    from ..runs.experiments import experiment

    try:
        images = read_arrays(options.images, "images")["images"]
    except UserError:
        raise UserError(
            f"{options.images} is not an .npz file with an array `images`: write one with `pudm sample`"
        ) from None
    exp = experiment(album_of(options) or options.experiment)
    _check(images, options.images, exp)
    # Only now, when nothing is left to refuse: these load Diffusers, which takes seconds.
    from ..runs.measuring import measures
    from ..runs.needs import unmeasured
    from ..runs.running import material

    data = material(exp)
    if data.judge is None and options.features == "judge":
        why = unmeasured([exp], options.features) or ["images of your own without --normal-test have no judge"]
        raise UserError(f"nothing can be measured: {why[0]}")
    measured = measures(torch.from_numpy(images), data, options.features)
    print(json.dumps(measured.row, indent=1))


def _check(images: "np.ndarray", path: Path, exp: "Experiment") -> None:
    """Raises UserError for what is no array of pictures that the experiment's judge was made for.

    Those are as large as the networks draw them: other sizes it would crop or interpolate, and misread.
    """
    from ..recipes import RECIPES, recipe_for

    sides = [exp.data.image_size] if exp.images else sorted({recipe_for(n, exp.data).image_size for n in RECIPES})
    wanted = f"uint8 of shape (n, 1 or 3, S, S), S = {' or '.join(map(str, sides))}, as `pudm sample` writes them"
    fits = images.ndim == 4 and images.shape[1] in (1, 3) and images.shape[2:] in [(side, side) for side in sides]
    if images.dtype != "uint8" or not fits:
        raise UserError(
            f"the images of {path} are {images.dtype} of shape {images.shape}; "
            f"{exp.configuration} is judged on {wanted}"
        )
    if len(images) < 2:
        raise UserError(f"{path} holds {len(images)} images; at least 2 are needed to measure anything")
