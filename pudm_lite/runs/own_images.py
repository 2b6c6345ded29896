"""Images of one's own made ready for runs: packed into one file, with a judge beside it where one can be trained."""

import hashlib
from pathlib import Path

import numpy as np
from torch import Tensor

from ..errors import UserError
from ..files import read_arrays, write_arrays
from ..measures.judge import save_judge
from ..measures.judge_training import LEAST, train_two_class
from ..sources.finding import in_words
from ..sources.folders import FolderImages, folder_images


def prepare(
    unlabeled: Path, sensitive: Path, normal_test: Path | None, size: int | None, strict: bool, to: Path
) -> Path:
    """Read the folders and write to/own-DIGEST.npz, with the arrays u, s and test; the digest is of the pixels.

    The same images give the same file, so that a run goes on from its checkpoint; other images are another data set.
    With normal test images a judge is trained on them and on S, and kept beside the file; an existing one stays.
    What is there but damaged is made again.
    Returns the file. Raises UserError where a folder cannot be used (`folders.folder_images`), one that holds `to`
    among them.
    """
    images = folder_images(unlabeled, sensitive, normal_test, size, strict, to)
    for line in in_words(images.left_out):
        print(line)
    for note in images.notes:
        print(f"note: {note}")
    file = to / f"own-{_digest(images.u, images.s, images.test)}.npz"
    if not _holds(file, images):
        write_arrays(file, u=images.u.numpy(), s=images.s.numpy(), test=images.test.numpy())
    side = f"{images.size} x {images.size}, {images.channels} channel{'s' if images.channels > 1 else ''}"
    print(f"U {len(images.u):,} images, S {len(images.s):,}, normal test {len(images.test):,}; {side}")
    few = min(len(images.test), len(images.s)) < LEAST
    if normal_test and few:
        print(f"no judge: that takes {LEAST} sensitive and {LEAST} normal test images; samples are drawn only")
    elif normal_test:
        _judge(images.test, images.s, file.with_suffix(".safetensors"))
    else:
        print("no --normal-test: samples are drawn and not judged")
    return file


def _holds(file: Path, images: FolderImages) -> bool:
    """Whether the file is there and has these images; says so where it is there and has not."""
    if not file.exists():
        return False
    try:
        arrays = read_arrays(file, "u", "s", "test")
        if all(np.array_equal(array, getattr(images, name).numpy()) for name, array in arrays.items()):
            return True
    except UserError:
        pass
    print(f"{file} is damaged: it is written again")
    return False


def _digest(*groups: Tensor) -> str:
    digest = hashlib.sha256()
    for images in groups:
        digest.update(str(tuple(images.shape)).encode())
        digest.update(images.numpy().tobytes())
    return digest.hexdigest()[:8]


def _judge(normal: Tensor, sensitive: Tensor, file: Path) -> None:
    from tqdm.auto import tqdm

    from ..measures.judge import read_judge

    if file.exists():
        try:
            print(read_judge(file).sentence())
            return
        except UserError:
            print(f"{file} is damaged: the judge is trained again")
    bar = None
    for step, steps, judge in train_two_class(normal, sensitive):  # noqa: B007
        bar = bar or tqdm(total=steps, desc="judge", unit="step")
        bar.update()
    if bar:
        bar.close()
    save_judge(judge, file)
    print(judge.sentence())
