"""Table 1 of Takahashi et al. (ICLR 2025): unlabeled data U, labelled sensitive data S, a normal-only test set."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from .errors import UserError


@dataclass(frozen=True)
class Configuration:
    """One row of Table 1. Counts are numbers of images; `normal` and `sensitive` are class names."""

    dataset: str
    image_size: int
    normal: tuple[str, ...]
    sensitive: tuple[str, ...]
    u_normal: int
    u_sensitive: int
    s: int
    test: int
    channels: int = 3  # as in the paper, of whose data sets MNIST alone is grey (Section 5.1)
    title: str = ""  # of images of one's own: what their folder is called

    def swapped(self, test: int) -> "Configuration":
        """The same with normal and sensitive exchanged."""
        return replace(self, normal=self.sensitive, sensitive=self.normal, test=test)


CLASSES = {
    "mnist": tuple("0123456789"),
    "cifar10": ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    "stl10": ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"),
    "celeba": ("male", "female"),
    "standin": tuple("0123456789"),
}
"""The classes of each data set, in the order of their labels."""

DIGITS = ("mnist", "standin")
"""The data sets whose images must not be mirrored."""


def configuration(
    dataset: str,
    image_size: int,
    normal: tuple[str, ...],
    u_normal: int,
    u_sensitive: int,
    s: int,
    test: int,
) -> Configuration:
    """A configuration by its normal classes: every other class of the data set is sensitive.

    Raises UserError when a class is unknown, and when the normal classes are all or none.
    """
    if dataset not in CLASSES:
        raise UserError(f"unknown data set {dataset!r}; known: {', '.join(CLASSES)}")
    known = CLASSES[dataset]
    if unknown := [name for name in normal if name not in known]:
        raise UserError(f"{dataset} has no class {unknown[0]!r}; its classes are {', '.join(known)}")
    sensitive = tuple(name for name in known if name not in normal)
    if not normal or not sensitive:
        raise UserError(
            f"{'all' if normal else 'none'} of the classes of {dataset} are normal: "
            f"name some but not all of {', '.join(known)}"
        )
    return Configuration(dataset, image_size, normal, sensitive, u_normal, u_sensitive, s, test)


_EVEN_DIGITS = ("0", "2", "4", "6", "8")
_EVEN = configuration("mnist", 32, _EVEN_DIGITS, 25_000, 2_500, 2_500, test=4_926)
_CIFAR10 = configuration("cifar10", 32, ("airplane", "automobile", "ship", "truck"), 20_000, 2_000, 2_000, test=4_000)
_STL10 = configuration("stl10", 96, ("airplane", "car", "ship", "truck"), 2_000, 200, 200, test=3_200)
_CELEBA = configuration("celeba", 256, ("male",), 2_000, 200, 200, test=7_715)

TABLE_1 = {
    "mnist-even": _EVEN,
    "mnist-odd": _EVEN.swapped(test=5_074),
    "cifar10-vehicles": _CIFAR10,
    "cifar10-animals": _CIFAR10.swapped(test=6_000),
    "stl10-vehicles": _STL10,
    "stl10-animals": _STL10.swapped(test=4_800),
    "celeba-male": _CELEBA,
    "celeba-female": _CELEBA.swapped(test=12_247),
}
"""The eight configurations, by `dataset-normal class`."""

CONFIGURATIONS = {
    **TABLE_1,
    **{
        f"standin-{size}": configuration("standin", size, _EVEN_DIGITS, 2_000, 200, 200, test=1_000)
        for size in (32, 64, 96)
    },
    "mnist-digits": Configuration("mnist", 32, CLASSES["mnist"], (), 60_000, 0, 0, 10_000),
}
"""Table 1; the stand-in at the sizes of the colour data sets; and all digits, on which the model to be fine-tuned is
pre-trained: nothing there is sensitive, so only the method `unsupervised` can train on it."""


PER_CLASS = {"mnist": (5_000, 890), "cifar10": (5_000, 1_000), "stl10": (500, 800), "standin": (400, 200)}
"""Images of a class in U and in the test set where it is normal: Table 1's, divided by the number of classes there. (Of
some digits MNIST's test set holds fewer than of others; the rarest has 892.)"""


WITHOUT = "mnist-without-"
"""All digits but one: what a model that never saw it is trained on, the reference of concept erasing."""


def named_configuration(name: str) -> Configuration:
    """A row of CONFIGURATIONS; mnist-without-4 and its like, of which no image is sensitive; or one of
    `dataset-class,class`, such as mnist-3,5: these classes are normal, all others sensitive, and the sizes are Table
    1's for so many normal classes, with a tenth as many sensitive images in U and in S; or as large as the sensitive
    classes allow, where nearly all are normal.

    Raises UserError for any other name, an unknown class, and when the normal classes are all or none.
    """
    if name in CONFIGURATIONS:
        return CONFIGURATIONS[name]
    if name.startswith(WITHOUT) and (left_out := name.removeprefix(WITHOUT)) in CLASSES["mnist"]:
        kept = tuple(c for c in CLASSES["mnist"] if c != left_out)
        return Configuration("mnist", 32, kept, (), 53_000, 0, 0, 8_800)  # the commonest digit has 6,742 and 1,135
    dataset, dash, classes = name.partition("-")
    normal = tuple(dict.fromkeys(filter(None, classes.split(","))))
    if not dash or dataset not in PER_CLASS or not set(normal) <= set(CLASSES[dataset]):
        raise UserError(
            f"unknown configuration {name!r}; known: {', '.join(CONFIGURATIONS)}; or name a data set and its normal "
            f"classes, such as mnist-3,5, of {', '.join(PER_CLASS)}"
        )
    in_u, in_test = (count * len(normal) for count in PER_CLASS[dataset])
    in_u = min(in_u, 5 * PER_CLASS[dataset][0] * (len(CLASSES[dataset]) - len(normal)) or in_u)  # two tenths: U and S
    size = 96 if dataset == "stl10" else 32
    return configuration(dataset, size, normal, in_u, in_u // 10, in_u // 10, in_test)


@dataclass(frozen=True)
class Split:
    """Indices into a training set (u, s, n) and a test set.

    u: (N_u,) the unlabeled data U, shuffled. u_sensitive: (N_u,) bool, the truth that PU learning does not see.
    s: (M,) the labelled sensitive data S, disjoint from u.
    n: positions in u, as many as M, of normal images whose label is revealed: only the method `pnu` looks at them.
    test: (K,) normal images of the test set.
    """

    u: Tensor
    u_sensitive: Tensor
    s: Tensor
    n: Tensor
    test: Tensor

    @property
    def realised_share(self) -> float:
        """The true share of sensitive images in U (Table 1: 1/11), beside which beta is an assumption."""
        return float(self.u_sensitive.double().mean())


def positive_unlabeled_split(
    labels: Tensor, test_labels: Tensor, classes: tuple[str, ...], configuration: Configuration, seed: int
) -> Split:
    """Draw U, S and the test set of `configuration`: exact counts, without replacement, by seed.

    labels, test_labels: (N,) int64, indices into classes.
    Raises UserError when a group has too few images.
    """
    rng = np.random.default_rng([seed, 1])

    def members(labels: Tensor, group: tuple[str, ...], wanted: int, what: str) -> np.ndarray:
        ids = [classes.index(name) for name in group]
        found = np.flatnonzero(np.isin(labels.numpy(), ids))
        if len(found) < wanted:
            raise UserError(
                f"{configuration.dataset} has too few images, {what}: {wanted} of {', '.join(group)} asked, "
                f"{len(found)} there"
            )
        return found

    c = configuration
    normal = rng.permutation(members(labels, c.normal, c.u_normal, "U, normal"))[: c.u_normal]
    sensitive = rng.permutation(members(labels, c.sensitive, c.u_sensitive + c.s, "U and S, sensitive"))
    u = np.concatenate([normal, sensitive[: c.u_sensitive]])
    is_sensitive = np.arange(len(u)) >= c.u_normal
    order = rng.permutation(len(u))
    test = rng.permutation(members(test_labels, c.normal, c.test, "test, normal"))[: c.test]
    return Split(
        u=torch.from_numpy(u[order]),
        u_sensitive=torch.from_numpy(is_sensitive[order]),
        s=torch.from_numpy(sensitive[c.u_sensitive : c.u_sensitive + c.s]),
        n=torch.from_numpy(np.flatnonzero(~is_sensitive[order])[: c.s]),
        test=torch.from_numpy(np.sort(test)),
    )
