"""The images of an experiment: loaded, split, brought to the network's size, with the judge of their data set."""

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..datasets import source
from ..errors import UserError
from ..measures.judge import Judge, NoJudge, judge_of
from ..recipes import Recipe
from ..splits import Configuration, Split, positive_unlabeled_split

if TYPE_CHECKING:
    from ..conditional import Concepts


@dataclass(frozen=True)
class Material:
    """The images that an experiment works on, of its network's size, and the judge of its data set.

    train, test: (N, C, H, W) uint8; the split's u and s point into train; test holds only the normal test images.
    judge: None for images of one's own without a normal test set, and where it is still to be trained: then nobody can
        tell normal from sensitive.
    labels: (N,) int64, the class of each image of train; None for images of one's own. classes: their names.
    """

    configuration: Configuration
    split: Split
    train: Tensor
    test: Tensor
    judge: Judge | None
    labels: Tensor | None = None
    classes: tuple[str, ...] = ()

    def concepts(self) -> "Concepts":
        """The table that a conditional network is told its images' classes by: alike as the classes' means are.

        The same for every seed and split of a data set, up to the rounding of the means.
        Raises UserError for images without classes.
        """
        if self.labels is None:
            raise UserError("a conditional network is told each image's class, which images of your own do not have")
        from ..conditional import concept_table, likeness

        return concept_table(self.classes, likeness(self.train, self.labels, len(self.classes)))

    def prompted(self, n: int) -> Tensor:
        """The classes that n samples of a conditional model are prompted with, as frequent as they are in U. (n,)."""
        assert self.labels is not None
        labels = self.labels[self.split.u].sort().values
        at = ((torch.arange(n, dtype=torch.float64) + 0.5) / n * len(labels)).long()
        return labels[at]


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
    images, held_out = train.read(wanted, size, channels), test.read(split.test, size, channels)
    return Material(c, split, images, held_out, judge, train.labels[wanted], train.classes)
