"""Images of one's own, in place of a named experiment: the options of every command that takes them, and the album."""

import argparse
from pathlib import Path

from ..errors import UserError
from .given import count, refuse_unused, share, whole

FOLDERS = ("unlabeled", "sensitive", "normal_test")
CLASSES = ("normal", "sensitive_classes", "hidden_share", "n_sensitive")
OWN = ("normal_test", *CLASSES, "image_size", "strict")


def add_folders(parser: argparse.ArgumentParser) -> None:
    own = parser.add_argument_group("your own images, in place of --experiment: folders by what is known of them")
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
    by_class = parser.add_argument_group("or a folder for each class, of which U, S and a test set are drawn by seed")
    by_class.add_argument(
        "--classes",
        type=Path,
        default=None,
        metavar="DIR",
        help="DIR/CLASS/*.jpg, or DIR/train/CLASS and DIR/test/CLASS",
    )
    by_class.add_argument("--normal", type=_names, default=None, metavar="A,B", help="the normal classes")
    by_class.add_argument(
        "--sensitive-classes", type=_names, default=None, metavar="C,D", help="the sensitive ones (default: all others)"
    )
    by_class.add_argument(
        "--hidden-share",
        type=share,
        default=None,
        metavar="SHARE",
        help="sensitive share of the unlabeled images (default: 1/11, as in the paper's Table 1)",
    )
    by_class.add_argument(
        "--n-sensitive", type=count, default=None, metavar="N", help="images of S (default: as many as are hidden)"
    )
    both = parser.add_argument_group("of both")
    both.add_argument(
        "--image-size", type=whole(1, 4096), default=None, metavar="N", help="pixels a side (default: the files' own)"
    )
    both.add_argument("--strict", action="store_true", help="stop at a file that is no image, rather than leave it out")


def _names(text: str) -> tuple[str, ...]:
    return tuple(filter(None, text.split(",")))


def album_of(o: argparse.Namespace, out: Path | None = None) -> str:
    """The album of the images that the options name, to be used as an experiment's name; "" where they name none.

    out: where something will be written: in none of the folders. Raises UserError before any image is read for options
    that do not go together, and for folders that cannot be used.
    """
    if not (o.unlabeled or o.sensitive or o.classes):
        named = "--unlabeled DIR and --sensitive DIR, or --classes DIR"
        refuse_unused(o, OWN, f"it belongs to images of your own, which need {named}")
        return ""
    refuse_unused(o, ["experiment"], "the images are those of your own folders")
    if o.classes:
        refuse_unused(o, FOLDERS, "with --classes all groups are drawn from its folders")
        if not o.normal:
            raise UserError("--classes DIR needs --normal A,B: the classes that are normal")
    else:
        refuse_unused(o, CLASSES, "it belongs to --classes DIR")
        if not (o.unlabeled and o.sensitive):
            raise UserError("images of your own need both --unlabeled DIR and --sensitive DIR")
        if not o.normal_test:
            refuse_unused(o, ["features"], "samples are not measured without --normal-test DIR")
    from ..runs.own_images import album_folder, prepare, prepare_classes

    to = album_folder()
    if not o.classes:
        path = prepare(o.unlabeled, o.sensitive, o.normal_test, o.image_size, o.strict, to, out)
    else:
        roles = o.normal, o.sensitive_classes or (), o.hidden_share, o.n_sensitive
        path = prepare_classes(o.classes, *roles, o.image_size, o.strict, to, out)
    return str(path)
