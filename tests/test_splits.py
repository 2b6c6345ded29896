"""The splits of Table 1, on labels made up for every data set and on MNIST's own."""

import dataclasses

import numpy as np
import pytest
import torch

from pudm_lite.datasets import checked_file
from pudm_lite.errors import UserError
from pudm_lite.splits import (
    CLASSES,
    CONFIGURATIONS,
    TABLE_1,
    configuration,
    named_configuration,
    positive_unlabeled_split,
)

# Name: image size, U (normal), U (sensitive), S, test; as printed.
PAPER = {
    "mnist-even": (32, 25_000, 2_500, 2_500, 4_926),
    "mnist-odd": (32, 25_000, 2_500, 2_500, 5_074),
    "cifar10-vehicles": (32, 20_000, 2_000, 2_000, 4_000),
    "cifar10-animals": (32, 20_000, 2_000, 2_000, 6_000),
    "stl10-vehicles": (96, 2_000, 200, 200, 3_200),
    "stl10-animals": (96, 2_000, 200, 200, 4_800),
    "celeba-male": (256, 2_000, 200, 200, 7_715),
    "celeba-female": (256, 2_000, 200, 200, 12_247),
}

# Classes of each data set, and its images of each class: training, test (CelebA: about as many to train on).
DATASETS = {
    "mnist": (tuple("0123456789"), [5_500] * 10, [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]),
    "cifar10": (
        ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
        [5_000] * 10,
        [1_000] * 10,
    ),
    "stl10": (
        ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"),
        [500] * 10,
        [800] * 10,
    ),
    "celeba": (("female", "male"), [9_000, 7_000], [12_247, 7_715]),
}
VEHICLES = {"airplane", "automobile", "car", "ship", "truck"}


def is_normal(name: str, label: str) -> bool:
    group = name.split("-")[1]
    return {
        "even": label in "02468",
        "odd": label in "13579",
        "vehicles": label in VEHICLES,
        "animals": label not in VEHICLES,
    }.get(group, label == group)


def shuffled_labels(counts: list[int], seed: int) -> torch.Tensor:
    labels = np.repeat(np.arange(len(counts)), counts)
    return torch.from_numpy(np.random.default_rng(seed).permutation(labels))


def made_up(name: str) -> tuple[torch.Tensor, torch.Tensor, tuple[str, ...]]:
    classes, train, test = DATASETS[name.split("-")[0]]
    return shuffled_labels(train, 0), shuffled_labels(test, 1), classes


@pytest.fixture(scope="module")
def mnist_labels():
    with np.load(checked_file("mnist.npz")) as arrays:
        return torch.from_numpy(arrays["train_labels"]).long(), torch.from_numpy(arrays["test_labels"]).long()


def assert_is_the_split(name: str, labels: torch.Tensor, test_labels: torch.Tensor, classes: tuple[str, ...]) -> None:
    _, u_normal, u_sensitive, n_s, n_test = PAPER[name]
    split = positive_unlabeled_split(labels, test_labels, classes, TABLE_1[name], seed=3)
    normal = torch.tensor([is_normal(name, c) for c in classes])

    assert (len(split.u), len(split.s), len(split.test)) == (u_normal + u_sensitive, n_s, n_test)
    assert len(split.u.unique()) == len(split.u)
    assert len(split.s.unique()) == n_s
    assert len(split.test.unique()) == n_test
    assert not set(split.u.tolist()) & set(split.s.tolist())
    assert torch.equal(split.u_sensitive, ~normal[labels[split.u]])
    assert int(split.u_sensitive.sum()) == u_sensitive
    assert split.realised_share == pytest.approx(1 / 11)
    assert not normal[labels[split.s]].any()
    assert normal[test_labels[split.test]].all()
    assert len(split.n.unique()) == n_s
    assert normal[labels[split.u[split.n]]].all()


@pytest.mark.parametrize("name", PAPER)
def test_table_1_is_that_of_the_paper(name):
    c = TABLE_1[name]
    assert (c.image_size, c.u_normal, c.u_sensitive, c.s, c.test) == PAPER[name]
    assert c.dataset == name.split("-")[0]
    classes = DATASETS[c.dataset][0]
    assert sorted(c.normal + c.sensitive) == sorted(classes)
    assert set(c.normal) == {label for label in classes if is_normal(name, label)}


def test_table_1_has_no_other_row():
    assert set(TABLE_1) == set(PAPER)
    assert TABLE_1.items() <= CONFIGURATIONS.items()


# Configurations beside the paper's


@pytest.mark.parametrize("size", [32, 64, 96])
def test_stand_ins_have_even_digits_as_normal(size):
    c = CONFIGURATIONS[f"standin-{size}"]
    assert (c.dataset, c.image_size) == ("standin", size)
    assert (c.u_normal, c.u_sensitive, c.s, c.test) == (2_000, 200, 200, 1_000)
    assert (c.normal, c.sensitive) == (tuple("02468"), tuple("13579"))


def test_digits_to_pre_train_on_are_all_of_mnist(mnist_labels):
    split = positive_unlabeled_split(*mnist_labels, tuple("0123456789"), CONFIGURATIONS["mnist-digits"], seed=0)
    assert torch.equal(split.u.sort().values, torch.arange(60_000))
    assert torch.equal(split.test, torch.arange(10_000))
    assert len(split.s) == len(split.n) == 0
    assert split.realised_share == 0


def test_classes_that_are_not_normal_are_sensitive():
    c = configuration("stl10", 64, ("monkey", "dog"), 10, 2, 3, 4)
    assert (c.dataset, c.image_size, c.normal) == ("stl10", 64, ("monkey", "dog"))
    assert (c.u_normal, c.u_sensitive, c.s, c.test) == (10, 2, 3, 4)
    assert c.sensitive == ("airplane", "bird", "car", "cat", "deer", "horse", "ship", "truck")


@pytest.mark.parametrize(
    ("dataset", "normal", "said"),
    [
        ("mnist", CLASSES["mnist"], "all of the classes of mnist are normal: name some but not all of 0, 1, 2"),
        ("celeba", (), "none of the classes of celeba are normal: name some but not all of male, female"),
        ("stl10", ("automobile",), "stl10 has no class 'automobile'; its classes are airplane, bird, car"),
        ("imagenet", ("dog",), "unknown data set 'imagenet'; known: mnist, cifar10, stl10, celeba, standin"),
    ],
)
def test_normal_classes_that_make_no_sense(dataset, normal, said):
    with pytest.raises(UserError) as error:
        configuration(dataset, 32, normal, 10, 1, 1, 1)
    assert str(error.value).startswith(said)


@pytest.mark.parametrize("name", ["cifar10-vehicles", "stl10-vehicles"])
def test_a_row_of_table_1_by_its_classes(name):
    row = named_configuration(name)
    assert row is TABLE_1[name]
    assert named_configuration(f"{row.dataset}-{','.join(row.normal)}") == row


@pytest.mark.parametrize("digit", "0123456789")
def test_one_digit_can_be_the_sensitive_one(digit, mnist_labels):
    """No digit has 9,000 images, a tenth of nine digits' for U and one for S: then the sizes are Table 1's own."""
    c = named_configuration("mnist-" + ",".join(set("0123456789") - {digit}))
    assert (c.u_normal, c.u_sensitive, c.s, c.sensitive) == (25_000, 2_500, 2_500, (digit,))
    split = positive_unlabeled_split(*mnist_labels, tuple("0123456789"), c, seed=0)
    assert split.realised_share == pytest.approx(1 / 11)


@pytest.mark.parametrize("normal", [*"0123456789", "3,5", "5,3,5", "0,1,2,3,4,5,6,7"])
def test_any_digits_can_be_normal(normal, mnist_labels):
    c = named_configuration(f"mnist-{normal}")
    wanted = set(normal.split(","))
    split = positive_unlabeled_split(*mnist_labels, tuple("0123456789"), c, seed=0)
    train, test = mnist_labels
    assert {str(d) for d in train[split.u[~split.u_sensitive]].unique().tolist()} == wanted
    assert {str(d) for d in test[split.test].unique().tolist()} == wanted
    assert not {str(d) for d in train[split.s].unique().tolist()} & wanted
    assert len(split.u) == 5_500 * len(wanted)
    assert len(split.s) == 500 * len(wanted)
    assert split.realised_share == pytest.approx(1 / 11, abs=1e-4)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mnist", "unknown configuration 'mnist'; known: mnist-even, mnist-odd"),
        ("celeba-tall", "unknown configuration 'celeba-tall'; known: mnist-even"),
        ("mnist-evn", "unknown configuration 'mnist-evn'; known: mnist-even"),
        ("stl10-", "none of the classes of stl10 are normal"),
    ],
)
def test_names_that_are_no_configuration(name, said):
    with pytest.raises(UserError) as error:
        named_configuration(name)
    assert str(error.value).startswith(said)


@pytest.mark.parametrize("name", PAPER)
def test_split_of_made_up_labels(name):
    assert_is_the_split(name, *made_up(name))


@pytest.mark.parametrize("name", ["mnist-even", "mnist-odd"])
def test_split_of_mnist(name, mnist_labels):
    assert_is_the_split(name, *mnist_labels, tuple("0123456789"))


def test_seed_decides_the_draw():
    def draw(seed):
        s = positive_unlabeled_split(*made_up("stl10-vehicles"), TABLE_1["stl10-vehicles"], seed)
        return tuple(tuple(x.tolist()) for x in (s.u, s.s, s.n))

    assert draw(0) == draw(0)
    for one, other in zip(draw(0), draw(1), strict=True):
        assert one != other


def test_every_sensitive_image_is_as_likely_in_u_as_in_s():
    """Over seeds each of 24 sensitive images falls 1/3 into U, 1/6 into S and 1/2 nowhere."""
    labels, seeds = torch.tensor([0, 1] * 24), 600
    c = dataclasses.replace(TABLE_1["celeba-female"], u_normal=12, u_sensitive=8, s=4, test=1)
    in_u, in_s, normal_in_u = torch.zeros(48), torch.zeros(48), torch.zeros(48)
    for seed in range(seeds):
        split = positive_unlabeled_split(labels, labels, ("female", "male"), c, seed)
        in_u[split.u[split.u_sensitive]] += 1
        in_s[split.s] += 1
        assert len(split.test) == 1
        normal_in_u[split.u[~split.u_sensitive]] += 1
    for counts, share, ids in ((in_u, 1 / 3, 1), (in_s, 1 / 6, 1), (normal_in_u, 1 / 2, 0)):
        spread = (share * (1 - share) / seeds) ** 0.5
        assert (counts[ids::2] / seeds - share).abs().max() < 4 * spread
        assert (counts[1 - ids :: 2] == 0).all()


def test_u_is_shuffled():
    split = positive_unlabeled_split(*made_up("cifar10-animals"), TABLE_1["cifar10-animals"], 0)
    n = len(split.u)
    places = split.u_sensitive.nonzero().double()
    assert abs(places.mean() / n - 0.5) < 4 * (1 / 12 / len(places)) ** 0.5


@pytest.mark.parametrize(
    ("train", "test", "what"),
    [
        ((19, 30), (5, 0), "U, normal: 20"),
        ((20, 14), (5, 0), "U and S, sensitive: 15"),
        ((20, 15), (4, 9), "test, normal: 5"),
    ],
)
def test_too_few_images_are_named(train, test, what):
    c = dataclasses.replace(TABLE_1["celeba-female"], u_normal=20, u_sensitive=10, s=5, test=5)
    enough = positive_unlabeled_split(shuffled_labels([20, 15], 0), shuffled_labels([5], 0), ("female", "male"), c, 0)
    assert (len(enough.u), len(enough.s), len(enough.test)) == (30, 5, 5)
    with pytest.raises(UserError, match=f"^celeba has too few images, {what} of .* asked, [0-9]+ there$"):
        positive_unlabeled_split(shuffled_labels([*train], 0), shuffled_labels([*test], 0), ("female", "male"), c, 0)
