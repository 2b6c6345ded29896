"""The judge: a classifier that tells normal from sensitive images, and how far it can be trusted."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from .datasets import ImageSet, checked_file, fit, to_model
from .files import write_whole


class DigitNet(nn.Module):
    """A small convolutional network for MNIST (after LeCun et al. 1998): five convolutions, a mean over space."""

    def __init__(self) -> None:
        super().__init__()

        def layer(inputs: int, outputs: int, stride: int) -> nn.Sequential:
            convolution = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
            return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())

        self.body = nn.Sequential(
            layer(1, 32, 1), layer(32, 32, 2), layer(32, 64, 1), layer(64, 64, 2), layer(64, 128, 1)
        )
        self.head = nn.Linear(128, 10)

    def features(self, x: Tensor) -> Tensor:
        """x: (B, 1, 28, 28) in [-1, 1]. Returns (B, 128), >= 0."""
        return self.body(x).mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, 1, 28, 28) in [-1, 1]. Returns logits (B, 10)."""
        return self.head(self.features(x))


@dataclass(frozen=True)
class Verdict:
    """What the judge says of n images. classes: (n,) int64. confidence: (n,) in (0, 1], the largest class
    probability. features: (n, d) float32, for the Fréchet distance."""

    classes: Tensor
    confidence: Tensor
    features: Tensor


@dataclass(frozen=True)
class Judge:
    """A trained classifier with its record on real test images.

    confusion: [true class][called class], counts on the test set.
    """

    network: DigitNet
    classes: tuple[str, ...]
    confusion: list[list[int]]
    name: str

    @property
    def accuracy(self) -> float:
        """Share of real test images called by their class, in [0, 1]."""
        return sum(row[i] for i, row in enumerate(self.confusion)) / sum(map(sum, self.confusion))

    def errors(self, normal: tuple[str, ...]) -> tuple[float, float]:
        """(share of real normal images called normal, share of real sensitive images called sensitive)."""
        counts = torch.tensor(self.confusion, dtype=torch.float64)
        is_normal = torch.tensor([name in normal for name in self.classes])
        kept = counts[is_normal][:, is_normal].sum() / counts[is_normal].sum()
        caught = counts[~is_normal][:, ~is_normal].sum() / counts[~is_normal].sum()
        return float(kept), float(caught)

    def is_normal(self, verdict: Verdict, normal: tuple[str, ...]) -> Tensor:
        """(n,) bool: which images are called by a normal class."""
        return torch.isin(verdict.classes, torch.tensor([self.classes.index(name) for name in normal]))

    @torch.no_grad()
    def look(self, images: Tensor, batch_size: int = 125) -> Verdict:
        """images: (n, C, H, W) uint8, brought to the judge's 28 x 28 grey. Returns n verdicts."""
        self.network.eval()
        features = torch.cat([self.network.features(to_model(fit(part, 28, 1))) for part in images.split(batch_size)])
        confidence, classes = self.network.head(features).softmax(1).max(1)
        return Verdict(classes, confidence, features)


def confusion_matrix(judge: Judge, test: ImageSet) -> list[list[int]]:
    """[true class][called class], counts of `test`."""
    n = len(test.classes)
    pairs = test.labels * n + judge.look(test.images).classes
    return torch.bincount(pairs, minlength=n * n).reshape(n, n).tolist()


def train_judge(
    train: ImageSet, seed: int = 0, epochs: int = 4, batch_size: int = 128
) -> Iterator[tuple[int, int, Judge]]:
    """Train the MNIST judge: AdamW, one-cycle schedule to 5e-3, shifts of up to 2 pixels. Yields (step, steps, judge).

    Four epochs take about three minutes on one CPU core. The confusion of the yielded judge is empty: measure it.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = DigitNet().to(memory_format=torch.channels_last)
    steps = epochs * (len(train) // batch_size)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, total_steps=steps)
    judge = Judge(network, train.classes, [], "mnist")
    for step in range(steps):
        at = step % (len(train) // batch_size) * batch_size
        if at == 0:
            order = torch.randperm(len(train), generator=generator)
        chosen = order[at : at + batch_size]
        shift = torch.randint(-2, 3, (2,), generator=generator).tolist()
        x = to_model(torch.roll(train.images[chosen], shift, (2, 3))).contiguous(memory_format=torch.channels_last)
        network.train()
        loss = nn.functional.cross_entropy(network(x), train.labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        yield step + 1, steps, judge


def save_judge(judge: Judge, path: Path) -> None:
    """Weights and record into one safetensors file."""
    from safetensors.torch import save_file

    record = {
        "classes": json.dumps(judge.classes),
        "confusion": json.dumps(judge.confusion),
        "name": judge.name,
    }
    weights = {name: value.contiguous() for name, value in judge.network.state_dict().items()}
    write_whole(path, lambda temporary: save_file(weights, temporary, metadata=record))


def read_judge(path: Path) -> Judge:
    """A judge as `save_judge` wrote it."""
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        record = file.metadata()
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    network = DigitNet()
    network.load_state_dict(weights)
    network.eval()
    return Judge(network, tuple(json.loads(record["classes"])), json.loads(record["confusion"]), record["name"])


@cache
def mnist_judge() -> Judge:
    """The judge that data/ holds. Raises UserError when its file is missing or damaged."""
    return read_judge(checked_file("judge_mnist.safetensors"))
