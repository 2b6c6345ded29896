"""The judge: a classifier that tells normal from sensitive images, and how far it can be trusted."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from ..datasets import cache_folder, checked_file, fit, resize, source, to_model
from ..errors import UserError
from ..files import write_whole
from .resnet import ResNet34


class DigitNet(nn.Module):
    """A small convolutional network for MNIST (after LeCun et al. 1998): five convolutions, a mean over space."""

    title = "small convolutional network"

    def __init__(self, channels: int = 1, classes: int = 10) -> None:
        super().__init__()
        self.settings: dict[str, int] = {"channels": channels, "classes": classes}

        def layer(inputs: int, outputs: int, stride: int) -> nn.Sequential:
            convolution = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
            return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())

        self.body = nn.Sequential(
            layer(channels, 32, 1), layer(32, 32, 2), layer(32, 64, 1), layer(64, 64, 2), layer(64, 128, 1)
        )
        self.head = nn.Linear(128, classes)

    def prepare(self, images: Tensor) -> Tensor:
        """images: (B, C, H, W) uint8, cropped or padded to 28 x 28 grey. Returns (B, 1, 28, 28) in [-1, 1]."""
        return to_model(fit(images, 28, 1))

    def features(self, x: Tensor) -> Tensor:
        """x: (B, channels, S, S) in [-1, 1]. Returns (B, 128), >= 0."""
        return self.body(x).mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, channels, S, S) in [-1, 1]. Returns logits (B, classes)."""
        return self.head(self.features(x))


class InkNet(DigitNet):
    """The digit network for tinted and resized digits, the stand-in."""

    def prepare(self, images: Tensor) -> Tensor:
        """The largest channel, less its median, scaled so that the ink is white, at 28 x 28.

        So a tint, a size and a background that is not quite black, as in samples of a short training, leave no trace;
        without it the digit network calls every digit on faint noise an 8.
        An image whose ink is darker than mid-grey is brightened only twofold: faint noise is not made a digit.
        images: (B, C, H, W) uint8. Returns (B, 1, 28, 28) in [-1, 1].
        """
        grey = resize(images.amax(1, keepdim=True), 28, 1).float()
        grey = (grey - grey.flatten(1).median(1).values[:, None, None, None]).clamp(min=0)
        ink = grey.amax((1, 2, 3), keepdim=True).clamp(min=128)
        return grey / ink * 2 - 1


class SmallNet(DigitNet):
    """The digit network's body for images of any size: what a CPU can train on a person's own folders."""

    def __init__(self, channels: int, classes: int, size: int) -> None:
        super().__init__(channels, classes)
        self.settings["size"] = size

    def prepare(self, images: Tensor) -> Tensor:
        """images: (B, C, H, W) uint8, C = 1 or the network's channels. Returns (B, channels, size, size) in [-1, 1]."""
        size, channels = self.settings["size"], self.settings["channels"]
        grey = images.float().mean(1, keepdim=True) if channels == 1 else images.float().expand(-1, channels, -1, -1)
        return to_model(interpolate(grey, (size, size), mode="bilinear", antialias=True))


NETWORKS: dict[str, Callable[..., nn.Module]] = {"DigitNet": DigitNet, "SmallNet": SmallNet, "ResNet34": ResNet34}
"""The networks that a judge's file can name."""


@dataclass(frozen=True)
class Verdict:
    """What the judge says of n images. classes: (n,) int64. confidence: (n,) in (0, 1], the largest class
    probability. features: (n, d) float32, for the Fréchet distance."""

    classes: Tensor
    confidence: Tensor
    features: Tensor


@dataclass(frozen=True)
class Record:
    """How a judge did on real test images: of so many normal ones it kept (called normal) some, of so many sensitive
    ones it caught some. These two decide what a rate is worth: mistaking one normal class for another does not count.
    """

    kept: int
    normal: int
    caught: int
    sensitive: int

    @property
    def kept_share(self) -> float:
        """In [0, 1]; not a number where there was no normal image."""
        return self.kept / self.normal if self.normal else math.nan

    @property
    def caught_share(self) -> float:
        """In [0, 1]; not a number where there was no sensitive image."""
        return self.caught / self.sensitive if self.sensitive else math.nan

    def __str__(self) -> str:
        kept, caught = f"{self.kept_share:.1%} of {self.normal:,}", f"{self.caught_share:.1%} of {self.sensitive:,}"
        return f"keeps {kept} normal test images and catches {caught} sensitive ones"


@dataclass(frozen=True)
class Judge:
    """A trained classifier with its record on real test images.

    network: with `prepare` (uint8 images of any size to its input), `features`, `head`, `title` and `settings`.
    confusion: [true class][called class], counts on the test set.
    training: how it was trained: seed, epochs, what it started from.
    """

    network: nn.Module
    classes: tuple[str, ...]
    confusion: list[list[int]]
    name: str
    training: dict[str, Any] = field(default_factory=dict)

    @property
    def accuracy(self) -> float:
        """Share of real test images called by their class, in [0, 1]."""
        return sum(row[i] for i, row in enumerate(self.confusion)) / sum(map(sum, self.confusion))

    def sentence(self, normal: tuple[str, ...] = ()) -> str:
        """How far it can be trusted. normal: the classes that a rate counts as normal, where that is asked already:
        then what matters is which side an image is called to, not by which class."""
        called = f"judge {self.name} ({self.network.title})"
        if normal:
            return f"{called}: {self.record(normal)}"
        n = sum(map(sum, self.confusion))
        return f"{called}: {self.accuracy:.1%} of {n:,} real test images right"

    def errors(self, normal: tuple[str, ...]) -> tuple[float, float]:
        """(share of real normal images called normal, share of real sensitive images called sensitive)."""
        record = self.record(normal)
        return record.kept_share, record.caught_share

    def record(self, normal: tuple[str, ...]) -> "Record":
        """What it made of the real test images where these classes are normal."""
        counts = torch.tensor(self.confusion, dtype=torch.int64)
        is_normal = torch.tensor([name in normal for name in self.classes])
        of_normal, of_sensitive = counts[is_normal], counts[~is_normal]
        return Record(
            int(of_normal[:, is_normal].sum()),
            int(of_normal.sum()),
            int(of_sensitive[:, ~is_normal].sum()),
            int(of_sensitive.sum()),
        )

    def is_normal(self, verdict: Verdict, normal: tuple[str, ...]) -> Tensor:
        """(n,) bool: which images are called by a normal class."""
        return torch.isin(verdict.classes, torch.tensor([self.classes.index(name) for name in normal]))

    @torch.no_grad()
    def look(self, images: Tensor, batch_size: int = 125) -> Verdict:
        """images: (n, C, H, W) uint8 of any size, grey or RGB. Returns n verdicts, in the main memory."""
        self.network.eval()
        device = next(self.network.parameters()).device
        features = torch.cat(
            [self.network.features(self.network.prepare(part.to(device))) for part in images.split(batch_size)]
        )
        confidence, classes = self.network.head(features).softmax(1).max(1)
        return Verdict(classes.cpu(), confidence.cpu(), features.cpu())


def confusion_matrix(judge: Judge, labels: Tensor, read: Callable[[Tensor], Tensor]) -> list[list[int]]:
    """[true class][called class], counts of real images.

    labels: (N,) int64, indices into the judge's classes. read: indices (k,) -> images (k, C, H, W) uint8.
    """
    n = len(judge.classes)
    called = torch.cat([judge.look(read(part)).classes for part in torch.arange(len(labels)).split(1000)])
    return torch.bincount(labels * n + called, minlength=n * n).reshape(n, n).tolist()


def save_judge(judge: Judge, path: Path) -> None:
    """Weights and record into one safetensors file, whole or not at all."""
    from safetensors.torch import save

    record = {
        "classes": json.dumps(judge.classes),
        "confusion": json.dumps(judge.confusion),
        "name": judge.name,
        "network": type(judge.network).__name__,
        "settings": json.dumps(judge.network.settings),
        "training": json.dumps(judge.training),
    }
    weights = {name: value.contiguous() for name, value in judge.network.state_dict().items()}
    write_whole(path, lambda temporary: temporary.write_bytes(save(weights, record)))


def read_judge(path: Path) -> Judge:
    """A judge as `save_judge` wrote it; a ResNet-34 on the GPU where there is one.

    Raises UserError when the file is damaged or something else.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            record = file.metadata()
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        # the digit judge of data/ is older than the two entries
        network = NETWORKS[record.get("network", "DigitNet")](**json.loads(record.get("settings", "{}")))
        network.load_state_dict(weights)
        classes, confusion = tuple(json.loads(record["classes"])), json.loads(record["confusion"])
        judge = Judge(network, classes, confusion, record["name"], json.loads(record.get("training", "{}")))
    except (OSError, SafetensorError, AttributeError, KeyError, RuntimeError, TypeError, ValueError):
        raise UserError(f"{path} is not a judge's file, or is damaged: make it with `pudm judge train`") from None
    if isinstance(network, ResNet34) and torch.cuda.is_available():  # the small ones are quick anywhere
        network.cuda()
    network.eval()
    return judge


@cache
def mnist_judge() -> Judge:
    """The judge that data/ holds. Raises UserError when its file is missing or damaged."""
    return read_judge(checked_file("judge_mnist.safetensors"))


@cache
def standin_judge() -> Judge:
    """The MNIST judge on tinted digits; its confusion is measured on 2,000 stand-in test images of 32 x 32."""
    network = InkNet()
    network.load_state_dict(mnist_judge().network.state_dict())
    judge = replace(mnist_judge(), network=network.eval(), confusion=[], name="standin")
    test = source("standin", train=False)
    return replace(judge, confusion=confusion_matrix(judge, test.labels[:2000], lambda at: test.read(at, 32, 3)))


TRAINED = ("cifar10", "stl10", "celeba")
"""The data sets whose judge the user trains, with `pudm judge train NAME`."""


def judge_file(dataset: str) -> Path:
    """Where the judge of a data set is kept that the user trains."""
    return cache_folder() / "judges" / f"{dataset}.safetensors"


class NoJudge(UserError):
    """A judge is still to be trained: samples can be drawn, and are not judged."""


def judge_of(dataset: str) -> Judge:
    """The judge of a data set: mnist, standin, cifar10, stl10 or celeba.

    Raises NoJudge for one that is still to be trained, and UserError for another name.
    """
    if dataset == "mnist":
        return mnist_judge()
    if dataset == "standin":
        return standin_judge()
    if dataset not in TRAINED:
        raise UserError(f"there is no judge of {dataset!r}; there are judges of mnist, standin, {', '.join(TRAINED)}")
    if not judge_file(dataset).is_file():
        raise NoJudge(f"there is no judge of {dataset} yet: train it first with `pudm judge train {dataset}`")
    judge = read_judge(judge_file(dataset))
    if judge.name != dataset:
        raise UserError(
            f"{judge_file(dataset)} is a judge of {judge.name}: train the right one with `pudm judge train {dataset}`"
        )
    return judge
