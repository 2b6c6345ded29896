"""Training judges. Every function here yields (step, steps, judge); the last judge carries its confusion."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ..datasets import ImageSet, source
from ..errors import UserError
from ..sources.weights import RESNET34
from .judge import DigitNet, Judge, SmallNet, confusion_matrix
from .resnet import ResNet34

Progress = Iterator[tuple[int, int, Judge]]
Augment = Callable[[Tensor, torch.Generator], Tensor]


@dataclass(frozen=True)
class Labelled:
    """What a judge learns from, or is measured on. labels: (N,) int64. read: indices (k,) -> images uint8."""

    labels: Tensor
    read: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Plan:
    """How a ResNet-34 is fine-tuned. read_size: of the images as they are read; size: as the network takes them."""

    read_size: int
    size: int
    epochs: int
    batch_size: int


PLANS = {
    "cifar10": Plan(read_size=32, size=128, epochs=5, batch_size=128),
    "stl10": Plan(read_size=96, size=224, epochs=10, batch_size=64),
    "celeba": Plan(read_size=128, size=128, epochs=2, batch_size=128),
}
"""Small images are enlarged, the usual way to fine-tune ImageNet weights on them: 4 x 4 pixels stand for each of
CIFAR10's, and STL10, with 5,000 labelled images, affords ImageNet's own 224. Faces are told apart at 128."""


def train_judge(
    train: ImageSet, test: ImageSet, seed: int = 0, epochs: int | None = None, batch_size: int | None = None
) -> Progress:
    """Train the MNIST judge: AdamW, one-cycle schedule to 5e-3, shifts of up to 2 pixels.

    Four epochs of batches of 128, where nothing else is asked, take about three minutes on one CPU core.
    """
    network = _seeded(lambda: DigitNet(classes=len(train.classes)), seed)
    return _train(
        Judge(network, train.classes, [], "mnist", {"start": "scratch"}),
        Labelled(train.labels, train.images.__getitem__),
        Labelled(test.labels, test.images.__getitem__),
        shifted,
        seed=seed,
        epochs=epochs or 4,
        batch_size=batch_size or 128,
        rate=5e-3,
    )


def train_resnet_judge(
    dataset: str,
    seed: int = 0,
    epochs: int | None = None,
    batch_size: int | None = None,
    from_scratch: bool = False,
) -> Progress:
    """Fine-tune a ResNet-34 on cifar10, stl10 or celeba, as Section 5.2 of Takahashi et al. (2025) does.

    AdamW, one-cycle schedule to 3e-4 (1e-3 from scratch, for six times the epochs), flips; mixed precision on a GPU.
    Measured on the whole test set. Raises UserError when the data set, or the ImageNet weights, are not there.
    """
    plan = PLANS[dataset]
    train, test = source(dataset, train=True), source(dataset, train=False)
    network = _seeded(lambda: ResNet34(len(train.classes), plan.size), seed)
    if not from_scratch:
        network.load_imagenet()
    return _train(
        Judge(network, train.classes, [], dataset, {"start": "scratch" if from_scratch else "IMAGENET1K_V1"}),
        Labelled(train.labels, lambda at: train.read(at, plan.read_size, 3)),
        Labelled(test.labels, lambda at: test.read(at, plan.read_size, 3)),
        flipped,
        seed=seed,
        epochs=epochs or plan.epochs * (6 if from_scratch else 1),
        batch_size=batch_size or plan.batch_size,
        rate=1e-3 if from_scratch else 3e-4,
    )


LEAST = 10
"""Images of each kind that a judge of two classes needs: eight to learn from, two to be measured on."""


def train_two_class(
    normal: Tensor,
    sensitive: Tensor,
    seed: int = 0,
    epochs: int | None = None,
    batch_size: int | None = None,
    from_scratch: bool = False,
    held_out: tuple[Tensor, Tensor] | None = None,
) -> Progress:
    """A judge of two classes, `normal` and `sensitive`, from images of one's own.

    It is measured on `held_out`, normal and sensitive images; without them on one in five, drawn by seed within each
    class, and learns from the others. Both classes weigh the same, however many images they have. The network is a
    ResNet-34 that starts from ImageNet where its weights and a GPU are there and `from_scratch` is not asked; otherwise
    a small one that a CPU can train, at 64 x 64 pixels at the most. Colour images are mirrored at random too.
    normal, sensitive: (n, C, S, S) and (m, C, S, S) uint8. Raises UserError for fewer than 10 images of a kind.
    """
    if min(len(normal), len(sensitive)) < LEAST:
        raise UserError(
            f"a judge needs at least {LEAST} normal and {LEAST} sensitive images; "
            f"got {len(normal)} and {len(sensitive)}"
        )
    kept = [normal, sensitive]
    if held_out is None:
        generator = torch.Generator().manual_seed(seed)
        order = [torch.randperm(len(part), generator=generator) for part in kept]
        held_out = (normal[order[0][: len(normal) // 5]], sensitive[order[1][: len(sensitive) // 5]])
        kept = [part[at[len(part) // 5 :]] for part, at in zip(kept, order, strict=True)]
    (images, labels), (test, test_labels) = _together(*kept), _together(*held_out)
    channels, size = images.shape[1], images.shape[-1]
    large = not from_scratch and torch.cuda.is_available() and RESNET34.path.is_file()
    if large:
        network = _seeded(lambda: ResNet34(2, 128), seed)
        network.load_imagenet()
    else:
        network = _seeded(lambda: SmallNet(channels, 2, min(size, 64)), seed)
    batch_size = batch_size or 64
    passes = -(-300 * min(batch_size, len(images)) // len(images))  # about 300 steps, of many images four passes
    return _train(
        Judge(network, ("normal", "sensitive"), [], "folders", {"start": "IMAGENET1K_V1" if large else "scratch"}),
        Labelled(labels, images.__getitem__),
        Labelled(test_labels, test.__getitem__),
        shifted if channels == 1 else lambda part, generator: flipped(shifted(part, generator), generator),
        seed=seed,
        epochs=epochs or max(passes, 4),
        batch_size=batch_size,
        rate=3e-4 if large else 5e-3,
        class_weight=len(labels) / (2 * torch.bincount(labels)),
    )


def _together(normal: Tensor, sensitive: Tensor) -> tuple[Tensor, Tensor]:
    """The images of both, and their labels: 0 for normal, 1 for sensitive."""
    return torch.cat([normal, sensitive]), (torch.arange(len(normal) + len(sensitive)) >= len(normal)).long()


def shifted(images: Tensor, generator: torch.Generator) -> Tensor:
    """The batch moved by up to 2 pixels each way, around the edge."""
    return torch.roll(images, torch.randint(-2, 3, (2,), generator=generator).tolist(), (2, 3))


def flipped(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each image mirrored left to right, or not, at even odds."""
    flip = torch.rand(len(images), generator=generator) < 0.5
    return images.flip(3).where(flip[:, None, None, None], images)


def _seeded(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build()


def _train(
    judge: Judge,
    train: Labelled,
    test: Labelled,
    augment: Augment,
    *,
    seed: int,
    epochs: int,
    batch_size: int,
    rate: float,
    class_weight: Tensor | None = None,
) -> Progress:
    """AdamW (weight decay 0.01) with a one-cycle schedule to `rate`; cross-entropy; float16 under scaling on a GPU."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = judge.network.to(device, memory_format=torch.channels_last)
    generator = torch.Generator().manual_seed(seed)
    n, batch_size = len(train.labels), min(batch_size, len(train.labels))
    a_pass = n // batch_size  # batches; the odd images left over come in another pass's order
    steps = epochs * a_pass
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    scaler = torch.amp.GradScaler(device.type, enabled=device.type == "cuda")
    weight = None if class_weight is None else class_weight.to(device)
    judge = replace(judge, training=judge.training | {"seed": seed, "epochs": epochs})
    for step in range(steps):
        at = step % a_pass * batch_size
        if at == 0:
            order = torch.randperm(n, generator=generator)
        chosen = order[at : at + batch_size]
        images = augment(train.read(chosen), generator).to(device)
        x = network.prepare(images).contiguous(memory_format=torch.channels_last)
        network.train()
        with torch.autocast(device.type, torch.float16, enabled=device.type == "cuda"):
            loss = nn.functional.cross_entropy(network(x), train.labels[chosen].to(device), weight)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        schedule.step()
        if step + 1 < steps:
            yield step + 1, steps, judge
    yield steps, steps, replace(judge, confusion=confusion_matrix(judge, test.labels, test.read))
