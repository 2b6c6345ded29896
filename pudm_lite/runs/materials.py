"""The images of an experiment: loaded, split, brought to the network's size, with the judge of their data set."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from ..datasets import source
from ..files import array_shapes, read_arrays
from ..measures.judge import Judge, judge_of, read_judge
from ..networks import Recipe
from ..splits import Configuration, Split, positive_unlabeled_split


@dataclass(frozen=True)
class Material:
    """The images that an experiment works on, of its network's size, and the judge of its data set.

    train, test: (N, C, H, W) uint8; the split's u and s point into train; test holds only the normal test images.
    judge: None for images of one's own without a normal test set: then nobody can tell normal from sensitive.
    """

    configuration: Configuration
    split: Split
    train: Tensor
    test: Tensor
    judge: Judge | None


HELD_WHOLE = 2**29
"""A data set of more bytes of pixels than this is not held whole: only the images of the split are read."""


def read_material(c: Configuration, recipe: Recipe, seed: int) -> Material:
    """Load, split by seed, and bring to size. Raises UserError where a data set or its judge cannot be had."""
    train, test = source(c.dataset, train=True), source(c.dataset, train=False)
    judge = judge_of(c.dataset)
    split = positive_unlabeled_split(train.labels, test.labels, train.classes, c, seed)
    size, channels = recipe.image_size, recipe.channels
    wanted = torch.arange(len(train.labels))
    if len(train.labels) * channels * size**2 > HELD_WHOLE:
        wanted = torch.cat([split.u, split.s])
        split = replace(split, u=torch.arange(len(split.u)), s=len(split.u) + torch.arange(len(split.s)))
    return Material(c, split, train.read(wanted, size, channels), test.read(split.test, size, channels), judge)


def own_configuration(path: Path) -> Configuration:
    """Sizes of one's own images. All of U count as normal: nobody knows better."""
    shapes = array_shapes(path)
    u, s, test = (shapes[name][0] for name in ("u", "s", "test"))
    return Configuration("folders", shapes["u"][-1], ("normal",), ("sensitive",), u, 0, s, test, shapes["u"][1])


def own_material(path: Path) -> Material:
    """Images of one's own, as `folders.pack` wrote them, and the judge beside them where there is one."""
    arrays = read_arrays(path, "u", "s", "test")
    u, s, test = (torch.from_numpy(arrays[name]) for name in ("u", "s", "test"))
    split = Split(
        u=torch.arange(len(u)),
        u_sensitive=torch.zeros(len(u), dtype=torch.bool),
        s=len(u) + torch.arange(len(s)),
        n=torch.zeros(0, dtype=torch.long),
        test=torch.arange(len(test)),
    )
    judge = path.with_suffix(".safetensors")
    images = torch.cat([u, s])
    return Material(own_configuration(path), split, images, test, read_judge(judge) if judge.exists() else None)
