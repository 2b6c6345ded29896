"""Images of one's own made ready for runs: packed into one file, with a judge beside it where one can be trained."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from ..datasets import cache_folder
from ..errors import UserError
from ..measures.judge import read_judge, save_judge
from ..measures.judge_training import LEAST, train_two_class
from ..sources.class_trees import class_folders
from ..sources.finding import in_words
from ..sources.folders import three_folders
from ..sources.packs import Pack, pack, unpack
from .albums import ROLES, Album, by_role

HIDDEN_SHARE = 1 / 11
"""Table 1's share of sensitive images in U."""


def album_folder() -> Path:
    """Where packed images, their judges and albums are kept, for every command that names the same images."""
    return cache_folder() / "own"


@contextmanager
def _in_the_cache() -> Iterator[None]:
    """While entered, what cannot be written is no matter of --out."""
    try:
        yield
    except UserError as error:
        said = str(error).replace("choose another folder with --out", "let PUDM_CACHE name another folder")
        raise UserError(said) from None


@_in_the_cache()
def prepare(
    unlabeled: Path,
    sensitive: Path,
    normal_test: Path | None,
    size: int | None,
    strict: bool,
    to: Path,
    out: Path | None = None,
) -> Path:
    """Pack three folders into `to`, and write an album of them there; the same images give the same album.

    With normal test images a judge is trained on them and on S, and kept beside; an existing one stays. What is there
    but damaged is made again. out: where runs will write: in none of the folders.
    Returns the album's file. Raises UserError where a folder cannot be used (`folders.three_folders`).
    """
    words = {"u": "unlabeled", "s": "sensitive", "test": "normal test"}
    packed = pack(three_folders(unlabeled, sensitive, normal_test, out or to), size, strict, to, words)
    _tell(packed)
    u, s, test = (packed.shapes[name][0] for name in words)
    print(f"U {u:,} images, S {s:,}, normal test {test:,}; {_side(packed)}")
    album = Album(unlabeled.resolve().name, packed.file.name)
    if normal_test and min(test, s) < LEAST:
        print(f"no judge: that takes {LEAST} sensitive and {LEAST} normal test images; samples are drawn only")
    elif normal_test:
        album = replace(album, judge=_judge_name(packed))
        images = unpack(packed.file, "test", "s")
        _judge(to / album.judge, images["test"], images["s"])
    else:
        print("no --normal-test: samples are drawn and not judged")
    return album.write(to)


@_in_the_cache()
def prepare_classes(
    root: Path,
    normal: Sequence[str],
    sensitive: Sequence[str],
    hidden_share: float | None,
    s: int | None,
    size: int | None,
    strict: bool,
    to: Path,
    out: Path | None = None,
) -> Path:
    """Pack a folder of class folders into `to`, and write an album of it there. See `prepare` and `class_folders`.

    hidden_share: of U, that is sensitive; s: images of S. None takes Table 1's share of all normal training images,
    and as many for S, or of both as many as there are sensitive images for.
    The judge is trained on the training images of all these classes, and measured on their test images.
    """
    found = class_folders(root, normal, sensitive, out or to)
    packed = pack(found, size, strict, to)
    _tell(packed)
    count = {name: packed.shapes[name][0] for name in found.groups}
    normal = tuple(dict.fromkeys(normal))
    sensitive = tuple(name.removeprefix("train/") for name in found.groups if name.startswith("train/"))[len(normal) :]
    there, tests = ([sum(count[f"{p}/{c}"] for c in names) for names in (normal, sensitive)] for p in ("train", "test"))
    hidden, of_s = sizes(there[0], there[1], hidden_share, s)
    album = Album(root.resolve().name, packed.file.name, "", normal, sensitive, there[0], hidden, of_s)
    print(
        f"normal: {', '.join(normal)}; sensitive: {', '.join(sensitive)}. U {there[0] + hidden:,} images, {hidden:,} "
        f"of them sensitive ({hidden / (there[0] + hidden):.1%}), S {of_s:,}, normal test {tests[0]:,}; {_side(packed)}"
    )
    if min(*there, *tests) < LEAST:
        print(
            f"no judge: that takes {LEAST} images of each kind to learn from and to test with; samples are drawn only"
        )
    else:
        album = replace(album, judge=_judge_name(packed, normal, sensitive))
        train, labels = by_role(packed.file, "train", album)
        test, test_labels = by_role(packed.file, "test", album)
        held_out = (test[test_labels == 0], test[test_labels == 1])
        _judge(to / album.judge, train[labels == 0], train[labels == 1], held_out)
    return album.write(to)


def sizes(normal: int, sensitive: int, hidden_share: float | None, s: int | None) -> tuple[int, int]:
    """(sensitive images in U, images of S), of so many training images. Raises UserError where they do not suffice."""
    share = HIDDEN_SHARE if hidden_share is None else hidden_share
    hidden = max(1, round(normal * share / (1 - share)))
    if hidden_share is None:
        hidden = min(hidden, sensitive // 2 if s is None else sensitive - s)
    of_s = min(hidden, sensitive - hidden) if s is None else s
    if hidden < 1 or of_s < 1 or hidden + of_s > sensitive:
        raise UserError(
            f"{sensitive} sensitive images are too few: with {normal} normal ones in U a share of {share:.3g} takes "
            f"{max(1, round(normal * share / (1 - share)))}, and S takes {'at least 1' if s is None else s}: name "
            "less with --hidden-share or --n-sensitive"
        )
    return hidden, of_s


def _tell(packed: Pack) -> None:
    for line in in_words(packed.left_out):
        print(line)
    for note in packed.notes:
        print(f"note: {note}")


def _side(packed: Pack) -> str:
    channels, size = next(iter(packed.shapes.values()))[1:3]
    return f"{size} x {size}, {channels} channel{'s' if channels > 1 else ''}"


def _judge_name(packed: Pack, *roles: Sequence[str]) -> str:
    digest = hashlib.sha256(json.dumps([packed.key, *map(list, roles)]).encode()).hexdigest()[:8]
    return f"judge-{digest}.safetensors"


def _judge(file: Path, normal: Tensor, sensitive: Tensor, held_out: tuple[Tensor, Tensor] | None = None) -> None:
    """Train the judge where `file` does not hold it, and say how far it can be trusted."""
    from tqdm.auto import tqdm

    if file.exists():
        try:
            print(read_judge(file).sentence(ROLES[:1]))
            return
        except UserError:
            print(f"{file} is damaged: the judge is trained again")
    bar = None
    for step, steps, judge in train_two_class(normal, sensitive, held_out=held_out):  # noqa: B007
        bar = bar or tqdm(total=steps, desc="judge", unit="step")
        bar.update()
    if bar:
        bar.close()
    save_judge(judge, file)
    print(judge.sentence(ROLES[:1]))
