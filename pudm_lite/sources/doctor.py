"""The data doctor: what is there of each data set and weight file, whether it is right, and what to do."""

import os
from dataclasses import dataclass
from pathlib import Path

from ..datasets import SHA256, cache_folder, data_folder
from ..errors import UserError
from .downloads import CELEBA_BY_HAND, CELEBA_IMAGES, celeba_images, checksum, is_page
from .weights import PUBLISHED

SETS = ("mnist", "cifar10", "stl10", "celeba")
WEIGHTS = ("judge-mnist", "judge-cifar10", "judge-stl10", "judge-celeba", "models", *PUBLISHED)
NAMES = SETS + WEIGHTS
IN_DATA = {"mnist": "mnist.npz", "judge-mnist": "judge_mnist.safetensors", "models": "models/"}
"""What the repository brings along, and how its files in data/ begin."""


@dataclass(frozen=True)
class Looked:
    """One file or folder. kind: what is compared. wanted, got: its values; got is "" where nothing is there.

    wanted may be only the first digits of a sum.
    """

    path: Path
    kind: str
    wanted: str
    got: str

    @property
    def right(self) -> bool:
        return bool(self.got) and self.got.startswith(self.wanted)

    def __str__(self) -> str:
        if not self.got:
            return f"missing: {self.path}: {self.kind} wanted {self.wanted}"
        state = f"{self.kind} {self.got}" if self.right else f"{self.kind} wanted {self.wanted}, got {self.got}"
        return f"{'right' if self.right else 'wrong'}: {self.path}: {state}"


@dataclass(frozen=True)
class Finding:
    """What was found of one data set or weight file. remedy: what to do when it is not right."""

    name: str
    looked: tuple[Looked, ...]
    remedy: str

    @property
    def right(self) -> bool:
        return all(one.right for one in self.looked)

    @property
    def state(self) -> str:
        """ "right", "missing" (nothing is there) or "incomplete or damaged"."""
        if self.right:
            return "right"
        return "incomplete or damaged" if any(one.got for one in self.looked) else "missing"


def look(name: str) -> Finding:
    """Look for one of NAMES; reads every byte of it. Raises UserError for another name."""
    if name not in NAMES:
        raise UserError(f"unknown data set or weights {name!r}; known: {', '.join(NAMES)}")
    if name in IN_DATA:
        files = [(file, wanted) for file, wanted in SHA256.items() if file.startswith(IN_DATA[name])]
        looked = [_file(data_folder() / file, "sha256", wanted) for file, wanted in files]
        return Finding(name, tuple(looked), "restore data/ with `git checkout -- data`")
    if name.startswith("judge-"):
        of = name.removeprefix("judge-")
        return Finding(name, (_judge(cache_folder() / "judges" / f"{of}.safetensors"),), f"`pudm judge train {of}`")
    if weights := PUBLISHED.get(name):
        found = _file(weights.path, "sha256", weights.digits)
        return Finding(name, (found,), f"`pudm data download {name}`, or put the file there")
    root = cache_folder() / "datasets"
    if name == "celeba":
        return _celeba(root)
    from torchvision.datasets import CIFAR10, STL10

    parts: list[list[str]]
    if name == "cifar10":
        folder, parts = root / CIFAR10.base_folder, [*CIFAR10.train_list, *CIFAR10.test_list]
        parts.append([CIFAR10.meta["filename"], CIFAR10.meta["md5"]])
    else:
        folder, parts = root / STL10.base_folder, [*STL10.train_list, *STL10.test_list]
    return Finding(
        name, tuple(_file(folder / file, "md5", wanted) for file, wanted in parts), f"`pudm data download {name}`"
    )


def _file(path: Path, kind: str, wanted: str) -> Looked:
    if not path.is_file():
        return Looked(path, kind, wanted, "")
    if is_page(path):
        return Looked(path, kind, wanted, "an HTML page, such as a server sends in place of a file that it refuses")
    return Looked(path, kind, wanted, checksum(path, kind))


def _judge(path: Path) -> Looked:
    """A judge that the user trained: no sum of it is recorded, but it must open."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        return Looked(path, "content", "safetensors", "")
    try:
        with safe_open(path, "pt"):
            return Looked(path, "content", "safetensors", "safetensors")
    except (SafetensorError, OSError):
        return Looked(path, "content", "safetensors", "something else")


def _celeba(root: Path) -> Finding:
    """The archive of images counts only where it is not unpacked; of the images their number is compared."""
    from torchvision.datasets import CelebA

    folder = root / CelebA.base_folder
    unpacked = celeba_images(folder / "img_align_celeba")
    images = Looked(folder / "img_align_celeba", "number of .jpg files", str(CELEBA_IMAGES), str(unpacked or ""))
    looked = [
        _file(folder / name, "md5", md5)
        for _, md5, name in CelebA.file_list
        if not name.endswith(".zip") or (not images.right and os.path.exists(folder / name))
    ]
    names = ", ".join(name for _, _, name in CelebA.file_list)
    remedy = f"`pudm data download celeba`; or by hand: {CELEBA_BY_HAND.format(names=names, folder=folder)}"
    return Finding("celeba", (*looked, images), remedy)
