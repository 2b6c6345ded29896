"""uint8 images with class labels, which classes are normal, and the border between pixels and model space."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .errors import UserError

SHA256 = {
    "mnist.npz": "39b9b1ffaa0ba4d8995a616551f0966941fe02a3fe79ba4a9db7373db16d53ad",
    "judge_mnist.safetensors": "593243a4b80d6c921fabed9969848a88bbdeebf2b79e35c5c69d075ad62efd54",
    "models/mnist-even_nnpu_seed0.safetensors": ("5d92dce33283ebb00899043813a923b027b19062eab55e9e3764dce36d2a49aa"),
    "models/mnist-even_supervised_seed0.safetensors": (
        "b3a6a437f1d21b6c37a0981d1d59c8561814e7b34d529b1b170a0bc6001a60a3"
    ),
    "models/mnist-even_unsupervised_seed0.safetensors": (
        "1c298aa1d3768fd752bd2cd94b303dc613698c360430bee6f3a87bde033c251b"
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
    if hashlib.sha256(path.read_bytes()).hexdigest() != SHA256[name]:
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
