"""uint8 images with class labels, which classes are normal, and the border between pixels and model space."""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .errors import UserError

SHA256 = {
    "mnist.npz": "39b9b1ffaa0ba4d8995a616551f0966941fe02a3fe79ba4a9db7373db16d53ad",
    "judge_mnist.safetensors": "593243a4b80d6c921fabed9969848a88bbdeebf2b79e35c5c69d075ad62efd54",
    "models/mnist-digits_unsupervised_seed0.safetensors": (
        "2e2eae4165ccc0cb2e3b67488b544b756d0a7ebf2c0e13dd3ad6091f2a7f37dc"
    ),
    "models/mnist-digits_unsupervised_seed0_conditional.safetensors": (
        "da3ce626d9d8f41407d9d9371aa95e51812d72e452b6d92691062ac0cb50475f"
    ),
    "models/mnist-even_nnpu_seed0.safetensors": ("e76c615cf2769151134c7497ba3df3048985635479ccc4d60cc3a8a82da7bd0d"),
    "models/mnist-even_supervised_seed0.safetensors": (
        "34dcdbfb8a31a6d63592f26d29aad02dfdc26fbbaa513c441235134eae539a3e"
    ),
    "models/mnist-even_unsupervised_seed0.safetensors": (
        "7957060d8fbad9e03dfc6e4fe61b9ecb61ba27ed1490718901dbe2a0ffbed5ec"
    ),
}
"""The files of data/ and their sums; data/README.md gives origin and licence of each."""


@dataclass(frozen=True)
class ImageSet:
    """images: (N, C, H, W) uint8. labels: (N,) int64, indices into classes."""

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class Source:
    """A data set whose images are brought to size as they are asked for.

    labels: (N,) int64, indices into classes.
    read: (indices (k,) int64, size, channels) -> (k, channels, size, size) uint8.
    """

    labels: Tensor
    classes: tuple[str, ...]
    read: Callable[[Tensor, int, int], Tensor]

    def __len__(self) -> int:
        return len(self.labels)


def to_model(pixels: Tensor) -> Tensor:
    """Pixels (uint8, 0..255) to model space: float32 in [-1, 1], same shape."""
    return pixels.float() / 127.5 - 1


def to_pixels(images: Tensor) -> Tensor:
    """Model space to pixels: values are clipped to [-1, 1] and rounded. Returns uint8, same shape."""
    return ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def data_folder() -> Path:
    """$PUDM_DATA, or the data/ folder beside the package, or where the package is installed: the one inside it."""
    if given := os.environ.get("PUDM_DATA"):
        return Path(given)
    package = Path(__file__).resolve().parent
    beside = package.parent / "data"
    return beside if (beside / "mnist.npz").exists() else package / "data"


def cache_folder() -> Path:
    """$PUDM_CACHE, or ~/.cache/pudm_lite: downloaded data sets, judges that a user trains, statistics of real sets.

    Raises UserError where there is no home folder: no HOME, and a user whom the system does not know.
    """
    if given := os.environ.get("PUDM_CACHE"):
        return Path(given)
    try:
        return Path.home() / ".cache" / "pudm_lite"
    except RuntimeError:
        raise UserError(
            "this user has no home folder: let PUDM_CACHE name a folder for data sets and judges, or set HOME"
        ) from None


def checked_file(name: str) -> Path:
    """The path of a file of data/, after comparing its sha256 with the one recorded here.

    Raises UserError when the file is missing or differs.
    """
    path = data_folder() / name
    if not path.is_file():
        raise UserError(
            f"data file {name} is not in {data_folder()}: get it with `git checkout -- data`, "
            "or let PUDM_DATA name the folder that holds it"
        )
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise UserError(f"data file {path} cannot be read ({error.strerror}): see who may read it") from None
    if digest != SHA256[name]:
        raise UserError(
            f"data file {path} is damaged (its sha256 is not the recorded one): restore it with `git checkout -- data`"
        )
    return path


def mnist(train: bool) -> ImageSet:
    """MNIST from data/, offline: 60,000 training or 10,000 test images, (N, 1, 28, 28) uint8.

    Raises UserError when the file is missing or damaged.
    """
    part = "train" if train else "test"
    with np.load(checked_file("mnist.npz")) as arrays:
        images, labels = arrays[f"{part}_images"], arrays[f"{part}_labels"]
    return ImageSet(torch.from_numpy(images)[:, None], torch.from_numpy(labels).long(), tuple("0123456789"))


def fit(images: Tensor, size: int, channels: int) -> Tensor:
    """Images brought to what a network takes: centred on a zero (black) canvas or cropped at the centre, grey repeated.

    Nothing is interpolated, so MNIST goes 28 -> 32 -> 28 without a change. Three channels become one by their mean.
    images: (N, C, H, W) uint8. Returns (N, channels, size, size) uint8.
    """
    if images.shape[1] != channels:
        images = (
            images.expand(-1, channels, -1, -1) if images.shape[1] == 1 else images.float().mean(1, True).round().byte()
        )
    tall, wide = size - images.shape[-2], size - images.shape[-1]  # negative: crop
    if tall == wide == 0:
        return images  # no copy: a data set can be large
    return torch.nn.functional.pad(images, (wide // 2, wide - wide // 2, tall // 2, tall - tall // 2))


def resize(images: Tensor, size: int, channels: int) -> Tensor:
    """Images cropped at the centre to a square and interpolated: bicubic, antialiased, as Pillow does it.

    images: (N, C, H, W) uint8. Returns (N, channels, size, size) uint8.
    """
    square = fit(images, min(images.shape[-2:]), channels)
    if square.shape[-1] == size:
        return square
    parts = [
        torch.nn.functional.interpolate(part, (size, size), mode="bicubic", antialias=True)
        for part in square.split(1000)  # a bound on the memory between
    ]
    return torch.cat(parts) if parts else square.new_empty(0, channels, size, size)


def source(name: str, train: bool) -> Source:
    """A data set by its name: mnist, cifar10, stl10, celeba (classes male and female), or standin.

    Nothing is downloaded. Raises UserError for another name, and where the data set is missing or damaged.
    """
    if name not in _READERS:
        raise UserError(f"unknown data set {name!r}; known: {', '.join(_READERS)}")
    return _READERS[name](train)


def _mnist(train: bool) -> Source:
    """MNIST: centred on black or cropped, never interpolated."""
    digits = mnist(train)
    return Source(digits.labels, digits.classes, lambda at, size, channels: fit(digits.images[at], size, channels))


INKS = torch.tensor(
    [(255, 96, 96), (96, 255, 96), (112, 144, 255), (255, 224, 64), (255, 112, 255), (64, 255, 240)], dtype=torch.uint8
)
"""The colours of the stand-in. The largest channel of each is 255, so that it alone is the grey digit."""


def _standin(train: bool) -> Source:
    """The stand-in: MNIST digits in a bright colour on black, interpolated to any size; no data set of the paper.

    It takes the place of a colour data set where none can be downloaded. An image has one colour for good.
    """
    digits = mnist(train)
    ink = torch.from_numpy(np.random.default_rng([0, train]).integers(0, len(INKS), len(digits)))

    def read(indices: Tensor, size: int, channels: int) -> Tensor:
        grey = resize(digits.images[indices], size, 1)
        tinted = (grey * (INKS[ink[indices], :, None, None] / 255)).round_().byte()
        return fit(tinted, size, channels)

    return Source(digits.labels, digits.classes, read)


def _held(images: np.ndarray, labels: object, classes: tuple[str, ...]) -> Source:
    """A data set that memory holds whole. images: (N, 3, H, W) uint8."""
    pixels = torch.from_numpy(np.ascontiguousarray(images))
    return Source(
        torch.as_tensor(labels).long(), classes, lambda at, size, channels: resize(pixels[at], size, channels)
    )


def _cifar10(train: bool) -> Source:
    """CIFAR10 (Krizhevsky 2009): 50,000 training and 10,000 test images of 32 x 32."""
    from torchvision.datasets import CIFAR10

    found = _opened("cifar10", lambda root: CIFAR10(root, train))
    return _held(found.data.transpose(0, 3, 1, 2), found.targets, tuple(found.classes))


def _stl10(train: bool) -> Source:
    """STL10 (Coates et al. 2011): 5,000 training and 8,000 test images of 96 x 96; its unlabeled part is not used."""
    from torchvision.datasets import STL10

    found = _opened("stl10", lambda root: STL10(root, "train" if train else "test"))
    return _held(found.data, found.labels, tuple(found.classes))


def _celeba(train: bool) -> Source:
    """CelebA (Liu et al. 2015), aligned: 162,770 training and 19,962 test images; the attribute Male gives the class.

    The paper says only "converted to 256 x 256": here the square of 178 x 178 pixels at the centre, interpolated.
    A file is opened when its image is asked for: as pixels of 256 x 256 the whole set would take 40 GB.
    """
    from torchvision.datasets import CelebA

    found = _opened("celeba", lambda root: CelebA(root, "train" if train else "test"))
    male = found.attr[:, found.attr_names.index("Male")]
    folder = Path(found.root) / found.base_folder / "img_align_celeba"

    def read(indices: Tensor, size: int, channels: int) -> Tensor:
        from concurrent.futures import ThreadPoolExecutor

        from PIL import Image
        from tqdm.auto import tqdm

        images = torch.empty(len(indices), channels, size, size, dtype=torch.uint8)

        def fill(place: int) -> None:
            path = folder / found.filename[int(indices[place])]
            try:
                pixels = np.array(Image.open(path).convert("RGB"))
            except OSError:
                raise UserError(
                    f"{path} is missing or does not open: `pudm data check celeba` says what to do"
                ) from None
            images[place] = resize(torch.from_numpy(pixels).permute(2, 0, 1)[None], size, channels)[0]

        with ThreadPoolExecutor(4) as pool:  # Pillow lets go of the lock while it decodes
            list(tqdm(pool.map(fill, range(len(indices))), "CelebA", len(indices), leave=False, delay=1))
        return images

    return Source((1 - male).long(), ("male", "female"), read)


def _opened(name: str, open_set: Callable[[Path], Any]) -> Any:
    """The torchvision data set of `name`. Raises UserError where torchvision finds it missing or damaged."""
    root = cache_folder() / "datasets"
    try:
        return open_set(root)
    except (RuntimeError, OSError):
        raise UserError(
            f"{name} is missing or damaged in {root}: get it with `pudm data download {name}` "
            f"(`pudm data check {name}` says what was found)"
        ) from None


_READERS = {"mnist": _mnist, "cifar10": _cifar10, "stl10": _stl10, "celeba": _celeba, "standin": _standin}
