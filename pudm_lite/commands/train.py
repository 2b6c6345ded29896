"""`pudm train`."""

import argparse
from pathlib import Path

from ..errors import UserError
from .given import refuse_unused, whole
from .options import METHOD_NAMES, add_options, experiments_of, holds_models, run_and_print

HELP = "Train one model, sample and judge it; one JSON line goes to OUT/rows.jsonl."


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--experiment",
        default="mnist-even",
        help="a configuration of the paper's Table 1, dataset-normal; or a data set and its normal classes: mnist-3,5",
    )
    parser.add_argument(
        "--method",
        default="nnpu",
        metavar="METHOD",
        help=f"one of {METHOD_NAMES}; or pretrained, which draws from --pretrained as it is",
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
    own = parser.add_argument_group("your own images, in place of --experiment")
    own.add_argument(
        "--unlabeled", type=Path, default=None, metavar="DIR", help="folder of images, sensitive ones among them"
    )
    own.add_argument("--sensitive", type=Path, default=None, metavar="DIR", help="folder of sensitive images")
    own.add_argument(
        "--normal-test",
        type=Path,
        default=None,
        metavar="DIR",
        help="folder of normal images that are not in --unlabeled: they train a judge, and samples are measured",
    )
    own.add_argument(
        "--image-size", type=whole(1, 4096), default=None, metavar="N", help="pixels a side (default: the files' own)"
    )
    own.add_argument("--strict", action="store_true", help="stop at a file that is no image, rather than leave it out")
    add_options(parser, "outputs/train")


def run(options: argparse.Namespace) -> None:
    o = options
    configuration, images = o.experiment, ""
    if o.unlabeled or o.sensitive:
        from ..runs.own_images import prepare

        if not (o.unlabeled and o.sensitive):
            raise UserError("images of your own need both --unlabeled DIR and --sensitive DIR")
        refuse_unused(o, ["experiment"], "the images are those of --unlabeled and --sensitive")
        if not o.normal_test:
            refuse_unused(o, ["features"], "samples are not measured without --normal-test DIR")
        holds_models(o.out)
        path = prepare(o.unlabeled, o.sensitive, o.normal_test, o.image_size, o.strict, o.out)
        configuration, images = path.stem, str(path)
    else:
        own = ["normal_test", "image_size", "strict"]
        refuse_unused(o, own, "it belongs to images of your own, which need --unlabeled DIR and --sensitive DIR")
    run_and_print(o, experiments_of(o, configuration, [o.method], o.pretrained, images))
