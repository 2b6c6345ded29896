"""The judge: its shipped weights keep what their record claims; what it sees of an image; its files."""

import dataclasses

import pytest
import torch

from pudm_lite.datasets import fit, mnist, source
from pudm_lite.errors import UserError
from pudm_lite.measures import judge as module
from pudm_lite.measures.judge import (
    DigitNet,
    InkNet,
    Judge,
    SmallNet,
    confusion_matrix,
    judge_file,
    judge_of,
    mnist_judge,
    read_judge,
    save_judge,
    standin_judge,
)
from pudm_lite.measures.resnet import ResNet34

EVEN = ("0", "2", "4", "6", "8")


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("PUDM_CACHE", str(tmp_path / "cache"))


# The shipped judge


@pytest.mark.slow
def test_shipped_judge_has_the_confusion_it_records():
    judge, test = mnist_judge(), mnist(train=False)
    assert confusion_matrix(judge, test.labels, test.images.__getitem__) == judge.confusion


def test_shipped_judge_is_accurate_and_knows_its_errors():
    judge = mnist_judge()
    assert judge.accuracy >= 0.99  # the paper's: 0.9846
    kept, caught = judge.errors(EVEN)
    confusion = torch.tensor(judge.confusion)
    assert confusion.sum() == 10_000
    assert kept == pytest.approx(float(confusion[::2, ::2].sum() / confusion[::2].sum()))
    assert caught == pytest.approx(float(confusion[1::2, 1::2].sum() / confusion[1::2].sum()))


def test_it_says_how_far_it_can_be_trusted():
    judge = Judge(DigitNet(classes=2), ("a", "b"), [[1000, 24], [0, 1024]], "this")
    assert judge.sentence() == "judge this (small convolutional network): 98.8% of 2,048 real test images right"


# What it sees


def test_the_digit_judge_sees_digits_as_they_are():
    digits = mnist(train=False).images[:5]
    for images in (digits, fit(digits, 32, 3)):
        torch.testing.assert_close(DigitNet().prepare(images), digits / 127.5 - 1)


def test_a_tint_leaves_no_trace():
    digits = mnist(train=False).images[:5]
    whitest = digits.amax((1, 2, 3), keepdim=True)
    tints = torch.tensor([(255, 96, 96), (64, 240, 128), (0, 0, 160), (200, 200, 200), (10, 140, 10)])
    tinted = (digits * tints[:, :, None, None] / 255).round().byte()
    expected = digits.float() / whitest * 2 - 1
    torch.testing.assert_close(InkNet().prepare(tinted), expected, atol=0.02, rtol=0)  # pixels were rounded


def test_faint_noise_is_not_made_a_digit():
    faint = torch.zeros(1, 3, 28, 28, dtype=torch.uint8)
    faint[:, :, 4:9] = 16
    assert InkNet().prepare(faint).max() == pytest.approx(2 * 16 / 128 - 1)
    for flat in (0, 16, 200):
        assert InkNet().prepare(torch.full_like(faint, flat)).max() == -1


def test_a_background_that_is_not_quite_black_leaves_no_trace():
    """As samples of a short training have it: half of the noise is cut off at black, in each colour by itself."""
    test = source("standin", train=False)
    clean = test.read(torch.arange(300), 32, 3)
    noise = 20 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    noisy = (clean + noise).round().clamp(0, 255).byte()
    judge = module.standin_judge()
    called, wanted = judge.look(noisy).classes, test.labels[:300]
    assert (called == wanted).float().mean() > 0.95
    assert torch.bincount(called, minlength=10).max() < 60


@pytest.mark.parametrize("size", [32, 64, 96])
def test_a_size_leaves_no_trace(size):
    test = source("standin", train=False)
    few = torch.arange(20)
    gap = InkNet().prepare(test.read(few, size, 3)) - mnist(train=False).images[:20] / 127.5 + 1
    assert gap.abs().mean() < 0.05


@pytest.mark.parametrize("size", [32, 64, 96])
def test_the_judge_of_the_standin_is_as_good_on_tinted_digits(size):
    judge, test = standin_judge(), source("standin", train=False)
    assert sum(map(sum, judge.confusion)) == 2000
    assert judge.accuracy > 0.97
    assert judge.confusion != mnist_judge().confusion
    last = torch.arange(9800, 10_000)
    assert (judge.look(test.read(last, size, 3)).classes == test.labels[last]).double().mean() > 0.97


@pytest.mark.parametrize("channels", [1, 3])
def test_a_small_judge_takes_grey_and_colour(channels):
    """A picture of one colour is the same at every size; RGB becomes grey by its mean, grey becomes RGB."""
    network = SmallNet(channels, 2, 32)
    images = torch.tensor([30, 60, 120], dtype=torch.uint8)[None, :, None, None].expand(1, 3, 50, 50)
    colours = torch.tensor([70.0]) if channels == 1 else torch.tensor([30.0, 60, 120])
    torch.testing.assert_close(
        network.prepare(images), (colours / 127.5 - 1)[None, :, None, None].expand(1, channels, 32, 32)
    )
    assert network.prepare(images[:, :1]).shape == (1, channels, 32, 32)


# Its files


@pytest.mark.parametrize(("kind", "settings"), [(DigitNet, ()), (SmallNet, (3, 4, 40)), (ResNet34, (4, 32))])
def test_verdicts_and_round_trip(tmp_path, kind, settings):
    torch.manual_seed(0)
    network = kind(*settings)
    classes = tuple("0123456789"[: network.settings["classes"]])
    judge = Judge(network.eval(), classes, [[1] * len(classes)] * len(classes), "test", {"seed": 3, "start": "scratch"})
    images = torch.randint(0, 256, (7, 3, 32, 32), dtype=torch.uint8)  # the paper's size is brought to the judge's
    save_judge(judge, tmp_path / "judge.safetensors")
    again = read_judge(tmp_path / "judge.safetensors")
    assert type(again.network) is kind
    for name in ("classes", "confusion", "name", "training"):
        assert getattr(again, name) == getattr(judge, name)
    a, b = judge.look(images), again.look(images, batch_size=2)
    torch.testing.assert_close(a.features, b.features, rtol=1e-3, atol=1e-4)  # batches of another size
    assert torch.equal(a.classes, b.classes)
    logits = judge.network.head(a.features)
    torch.testing.assert_close(a.confidence, logits.softmax(1).max(1).values)
    normal = tuple(name for name in EVEN if name in classes)
    assert torch.equal(judge.is_normal(a, normal), a.classes % 2 == 0)


def test_looking_teaches_nothing():
    """A network that was left in training looks through its kept statistics, not through those of the batch."""
    torch.manual_seed(0)
    network = DigitNet()
    judge = Judge(network.train(), tuple("0123456789"), [], "test")
    images = torch.randint(0, 256, (6, 1, 28, 28), dtype=torch.uint8)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    together = judge.look(images).features
    network.train()
    one_by_one = torch.cat([judge.look(image[None]).features for image in images])
    torch.testing.assert_close(together, one_by_one, rtol=1e-3, atol=1e-4)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_confusion_counts_true_classes_by_row(monkeypatch):
    """A judge that calls an image by its brightest corner, over more images than are read at once."""
    labels = torch.randint(0, 3, (2500,), generator=torch.Generator().manual_seed(0))
    called = torch.where(labels == 2, 0, labels)  # what is 2 is called 0
    judge = Judge(DigitNet(classes=3), tuple("abc"), [], "test")
    monkeypatch.setattr(
        Judge, "look", lambda self, images: module.Verdict(images[:, 0, 0, 0].long(), torch.ones(1), torch.ones(1))
    )
    matrix = confusion_matrix(judge, labels, lambda at: called[at].byte()[:, None, None, None])
    n = torch.bincount(labels).tolist()
    assert matrix == [[n[0], 0, 0], [0, n[1], 0], [n[2], 0, 0]]


# The judge of a data set


def test_every_data_set_has_its_judge():
    assert judge_of("mnist") is mnist_judge()
    assert judge_of("standin").name == "standin"
    with pytest.raises(UserError, match="there are judges of mnist, standin, cifar10, stl10, celeba"):
        judge_of("imagenet")


@pytest.mark.parametrize("name", ["cifar10", "stl10", "celeba"])
def test_a_judge_still_to_be_trained_names_the_command(name):
    with pytest.raises(UserError, match=f"`pudm judge train {name}`"):
        judge_of(name)


def test_a_trained_judge_is_found(tmp_path):
    judge = Judge(SmallNet(3, 2, 32), ("male", "female"), [[9, 1], [2, 8]], "celeba")
    save_judge(judge, judge_file("celeba"))
    assert judge_file("celeba") == tmp_path / "cache" / "judges" / "celeba.safetensors"
    assert judge_of("celeba").accuracy == 0.85
    save_judge(dataclasses.replace(judge, name="folders"), judge_file("celeba"))
    with pytest.raises(UserError, match="is a judge of folders"):
        judge_of("celeba")


@pytest.mark.parametrize("content", [b"", b"<html>over quota</html>", b"\x10" * 200])
def test_a_damaged_file_is_said_to_be_one(content):
    judge_file("stl10").parent.mkdir(parents=True)
    judge_file("stl10").write_bytes(content)
    with pytest.raises(UserError, match=r"is not a judge's file, or is damaged"):
        judge_of("stl10")


def test_weights_without_a_record_are_no_judge(tmp_path):
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(2)}, tmp_path / "x.safetensors")
    with pytest.raises(UserError, match="is not a judge's file"):
        read_judge(tmp_path / "x.safetensors")
