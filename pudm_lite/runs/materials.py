"""The images of an experiment: loaded, split, brought to the network's size, with the judge of their data set."""

from contextlib import suppress
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..datasets import source
from ..measures.judge import Judge, NoJudge, judge_of
from ..networks import Recipe
from ..splits import Configuration, Split, positive_unlabeled_split


@dataclass(frozen=True)
class Material:
    """The images that an experiment works on, of its network's size, and the judge of its data set.

    train, test: (N, C, H, W) uint8; the split's u and s point into train; test holds only the normal test images.
    judge: None for images of one's own without a normal test set, and where it is still to be trained: then nobody can
        tell normal from sensitive.
    """

    configuration: Configuration
    split: Split
    train: Tensor
    test: Tensor
    judge: Judge | None


HELD_WHOLE = 2**29
"""A data set of more bytes of pixels than this is not held whole: only the images of the split are read."""


def read_material(c: Configuration, recipe: Recipe, seed: int) -> Material:
    """Load, split by seed, and bring to size. Raises UserError where a data set lacks, or its judge is damaged."""
    train, test = source(c.dataset, train=True), source(c.dataset, train=False)
    judge = None
    with suppress(NoJudge):  # who starts a run is told before (`needs.unmeasured`)
        judge = judge_of(c.dataset)
    split = positive_unlabeled_split(train.labels, test.labels, train.classes, c, seed)
    size, channels = recipe.image_size, recipe.channels
    wanted = torch.arange(len(train.labels))
    if len(train.labels) * channels * size**2 > HELD_WHOLE:
        wanted = torch.cat([split.u, split.s])
        split = replace(split, u=torch.arange(len(split.u)), s=len(split.u) + torch.arange(len(split.s)))
    return Material(c, split, train.read(wanted, size, channels), test.read(split.test, size, channels), judge)
