"""Training a judge: it learns, from what it may learn from, and is measured on the rest."""

from functools import cache

import pytest
import torch
from PIL import Image
from tiny_sets import write_cifar10
from torchvision.models import resnet34

from pudm_lite import cli
from pudm_lite.datasets import ImageSet, cache_folder, mnist, source
from pudm_lite.errors import UserError
from pudm_lite.measures import judge_training
from pudm_lite.measures.judge import TRAINED, judge_file, judge_of, mnist_judge, read_judge
from pudm_lite.measures.judge_training import PLANS, Plan, flipped, shifted, train_judge, train_two_class
from pudm_lite.sources import weights
from pudm_lite.sources.weights import RESNET34


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    monkeypatch.setenv("PUDM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


@pytest.fixture
def cifar10(monkeypatch):
    """CIFAR10 in its true format: 20 training and 4 test images; a ResNet-34 that looks at 32 pixels."""
    write_cifar10(cache_folder() / "datasets", monkeypatch)
    monkeypatch.setitem(PLANS, "cifar10", Plan(read_size=32, size=32, epochs=2, batch_size=8))


@pytest.fixture
def imagenet(monkeypatch):
    """Random weights in the file of torchvision's."""
    monkeypatch.setattr(weights, "sha256_fits_name", lambda path: True)
    torch.manual_seed(99)
    RESNET34.path.parent.mkdir(parents=True)
    torch.save(resnet34().state_dict(), RESNET34.path)


@cache
def digits(train: bool, n: int) -> ImageSet:
    images = mnist(train)
    return ImageSet(images.images[:n], images.labels[:n], images.classes)


def pictures(n: int, level: int, seed: int = 0) -> torch.Tensor:
    """Noise around a level of brightness, (n, 3, 20, 20)."""
    noise = torch.randint(-40, 41, (n, 3, 20, 20), generator=torch.Generator().manual_seed(seed))
    return (noise + level).byte()


# The MNIST judge


@pytest.mark.slow
def test_a_new_judge_learns():
    """The shipped weights must not hide a broken training path: 80 steps on 2,560 digits beat chance by far."""
    run = [*train_judge(digits(True, 2560), digits(False, 300), epochs=2, batch_size=64)]
    assert [step for step, _, _ in run] == [*range(1, 81)]
    assert {steps for _, steps, _ in run} == {80}
    assert all(judge.confusion == [] for _, _, judge in run[:-1])
    judge = run[-1][2]
    assert sum(map(sum, judge.confusion)) == 300
    assert judge.accuracy > 0.6
    assert judge.training == {"start": "scratch", "seed": 0, "epochs": 2}


def test_one_seed_is_one_judge():
    def head(seed):
        return [*train_judge(digits(True, 64), digits(False, 8), seed, epochs=1, batch_size=16)][-1][
            2
        ].network.head.weight

    assert torch.equal(head(1), head(1))
    assert not torch.equal(head(1), head(2))


# What a batch becomes


def test_half_of_the_images_are_mirrored():
    images = torch.randint(0, 256, (400, 1, 2, 3), dtype=torch.uint8)
    seen = flipped(images, torch.Generator().manual_seed(0))
    same = (seen == images).all((1, 2, 3))
    mirrored = (seen == images[..., [2, 1, 0]]).all((1, 2, 3))
    assert (same | mirrored).all()
    assert 160 < mirrored.sum() < 240


def test_a_batch_is_moved_by_two_pixels_at_most():
    images = torch.zeros(2, 1, 9, 9, dtype=torch.uint8)
    images[:, :, 4, 4] = 1
    generator = torch.Generator().manual_seed(0)
    places = {tuple(shifted(images, generator)[0, 0].nonzero()[0].tolist()) for _ in range(300)}
    assert places == {(row, column) for row in range(2, 7) for column in range(2, 7)}


# ResNet-34


def test_every_trained_judge_has_a_plan():
    assert tuple(PLANS) == TRAINED


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["--from-scratch", "--epochs", "1", "--batch-size", "10"]])
def test_a_judge_of_cifar10(cifar10, imagenet, options, capsys):
    assert cli.main(["judge", "train", "cifar10", "--seed", "4", *options]) == 0
    judge = judge_of("cifar10")
    test = source("cifar10", train=False)
    called = judge.look(test.read(torch.arange(4), 32, 3)).classes
    for true, guess in zip(test.labels, called, strict=True):
        assert judge.confusion[true][guess] >= 1
    assert sum(map(sum, judge.confusion)) == 4
    assert judge.classes == test.classes
    assert judge.training == {
        "start": "scratch" if options else "IMAGENET1K_V1",
        "seed": 4,
        "epochs": 1 if options else 2,
    }
    assert judge.sentence() in capsys.readouterr().out


@pytest.mark.slow
def test_training_begins_at_the_published_weights(cifar10, imagenet, monkeypatch):
    begun = {}

    def spy(judge, *_, **settings):
        begun.update(weights=judge.network.body.state_dict(), **settings)
        return iter(())

    monkeypatch.setattr(judge_training, "_train", spy)
    published = torch.load(RESNET34.path)
    [*judge_training.train_resnet_judge("cifar10")]
    assert all(torch.equal(value, published[name]) for name, value in begun["weights"].items())
    assert (begun["epochs"], begun["rate"]) == (2, 3e-4)
    [*judge_training.train_resnet_judge("cifar10", from_scratch=True)]
    assert not torch.equal(begun["weights"]["conv1.weight"], published["conv1.weight"])
    assert (begun["epochs"], begun["rate"]) == (12, 1e-3)


def refused(capsys, *arguments: object) -> str:
    assert cli.main(["judge", "train", *map(str, arguments)]) == 2
    message = capsys.readouterr().err.strip().splitlines()
    assert len(message) == 1
    return message[0]


def test_without_the_weights_there_is_a_way(cifar10, capsys):
    message = refused(capsys, "cifar10")
    assert "resnet34-b627a593.pth" in message
    assert "`pudm data download resnet34`" in message
    assert "--from-scratch" in message
    assert not judge_file("cifar10").exists()


def test_without_the_data_the_command_is_named(capsys):
    assert "`pudm data download cifar10`" in refused(capsys, "cifar10", "--from-scratch")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["mnist", "--epochs", 0], "--epochs: it takes a whole number from 1"),
        (["mnist", "--batch-size", -3], "--batch-size: it takes a whole number from 1"),
        (["folders", "--normal", "a"], "needs --normal DIR, --sensitive DIR and --out FILE"),
        (["stl10", "--normal", "a"], "belongs to `pudm judge train folders`"),
    ],
)
def test_other_refusals(capsys, arguments, said):
    assert said in refused(capsys, *arguments)


# Images of one's own


@pytest.mark.slow
def test_a_judge_of_two_classes_learns():
    run = [*train_two_class(pictures(60, 80), pictures(30, 170), epochs=8)]
    judge = run[-1][2]
    assert judge.classes == ("normal", "sensitive")
    assert judge.confusion == [[12, 0], [0, 6]]
    assert judge.errors(("normal",)) == (1, 1)
    new = torch.cat([pictures(5, 80, seed=7), pictures(5, 170, seed=8)])
    assert judge.is_normal(judge.look(new), ("normal",)).tolist() == [True] * 5 + [False] * 5
    assert run[0][1] == len(run)


def test_both_classes_weigh_the_same_however_many_images_they_have(monkeypatch):
    """Four in five of 20 and of 60 images are learned from: each class weighs as half of these 64."""
    seen, cross_entropy = [], torch.nn.functional.cross_entropy
    monkeypatch.setattr(torch.nn.functional, "cross_entropy", lambda *a: seen.append(a[2]) or cross_entropy(*a))
    next(train_two_class(pictures(20, 60), pictures(60, 180), batch_size=8, epochs=1, from_scratch=True))
    assert seen[0].tolist() == pytest.approx([32 / 16, 32 / 48])


def test_what_it_is_measured_on_it_has_not_seen(monkeypatch):
    """Every image has its own level: four in five of each class are learned from, the others measured on."""
    used = {}

    def spy(judge, train, test, augment, **settings):
        for name, part in (("train", train), ("test", test)):
            used[name] = (part.read(torch.arange(len(part.labels)))[:, 0, 0, 0], part.labels)
        used["weight"] = settings["class_weight"]
        return iter(())

    monkeypatch.setattr(judge_training, "_train", spy)
    levels = torch.arange(150, dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 8, 8)
    train_two_class(levels[:100], levels[100:], seed=0)
    (seen, labels), (held_out, truth) = used["train"], used["test"]
    assert sorted([*seen.tolist(), *held_out.tolist()]) == [*range(150)]
    assert torch.equal(labels, (seen >= 100).long())
    assert torch.equal(truth, (held_out >= 100).long())
    assert (torch.bincount(labels).tolist(), torch.bincount(truth).tolist()) == ([80, 40], [20, 10])
    assert held_out[:20].tolist() != [*range(20)]  # drawn, not the first
    assert (used["weight"] * torch.bincount(labels)).tolist() == pytest.approx([60, 60])  # the classes weigh the same
    train_two_class(levels[:100], levels[100:], seed=1)
    assert not torch.equal(used["test"][0], held_out)


@pytest.mark.parametrize(("n", "m"), [(9, 40), (40, 9), (0, 0)])
def test_too_few_images_make_no_judge(n, m):
    with pytest.raises(UserError, match=f"at least 10 normal and 10 sensitive images; got {n} and {m}"):
        train_two_class(pictures(n, 80), pictures(m, 170))


@pytest.mark.slow
def test_folders_through_the_command(tmp_path, capsys):

    for name, level in (("good", 80), ("bad", 170)):
        (tmp_path / name).mkdir()
        for k, picture in enumerate(pictures(15, level)):
            Image.fromarray(picture.permute(1, 2, 0).numpy()).save(tmp_path / name / f"{k}.png")
    (tmp_path / "bad" / "broken.png").write_bytes(b"no picture")
    out = tmp_path / "judge.safetensors"
    options = ["--normal", tmp_path / "good", "--sensitive", tmp_path / "bad", "--out", out, "--epochs", 3]
    assert cli.main(["judge", "train", "folders", *map(str, options)]) == 0
    printed = capsys.readouterr().out
    judge = read_judge(out)
    assert sum(map(sum, judge.confusion)) == 6
    assert judge.sentence() in printed
    assert "broken.png" in printed


# `pudm judge train folders`: what is read, what is left out, and where the judge may not be written.


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Two folders of one picture each, the current one between them; a judge is had at once, and says what it saw."""
    seen = []

    def train(normal, sensitive, **how):
        seen.append((normal.shape, sensitive.shape, how))
        yield 1, 1, mnist_judge()

    monkeypatch.setattr(judge_training, "train_two_class", train)
    for name in "ns":
        (tmp_path / name).mkdir()
        Image.new("RGB", (20, 30)).save(tmp_path / name / "a.png")
    monkeypatch.chdir(tmp_path)
    return seen


def train_on_folders(*more):
    return cli.main(["judge", "train", "folders", "--normal", "n", "--sensitive", "s", *more])


def test_a_judge_is_trained_on_both_folders_and_written(folders, tmp_path, capsys):
    (tmp_path / "s" / "notes.txt").write_text("mine")
    assert train_on_folders("--out", "new/judge.safetensors", "--epochs", "3", "--from-scratch") == 0
    assert folders == [
        ((1, 3, 128, 128), (1, 3, 128, 128), {"from_scratch": True, "seed": 0, "epochs": 3, "batch_size": None})
    ]
    said = capsys.readouterr().out
    assert "left out s/notes.txt: .txt is no kind of image that Pillow reads\n" in said
    assert "wrote new/judge.safetensors\n" in said
    assert read_judge(tmp_path / "new/judge.safetensors").sentence() == mnist_judge().sentence()


@pytest.mark.parametrize("spoiled", ["n/torn.png", "s/torn.png", "n/notes.txt", "s/notes.txt"])
def test_strict_stops_at_whatever_is_left_out(folders, tmp_path, capsys, spoiled):
    (tmp_path / spoiled).write_text("no image")
    assert train_on_folders("--out", "new/judge.safetensors", "--strict") == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(f"pudm: not everything is an image that opens (1): {spoiled}: ")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("n/judge.safetensors", "--out lies in n, whose files are read as images"),
        ("s/new/judge.safetensors", "--out lies in s, whose files are read as images"),
        ("s", "s is a folder: name a file"),
        ("n/a.png/judge.safetensors", "cannot write to n/a.png"),
    ],
)
def test_a_place_where_it_may_not_be_is_said_and_nothing_left_there(folders, tmp_path, capsys, out, said):
    before = sorted(tmp_path.rglob("*"))
    assert train_on_folders("--out", out) == 2
    (sentence,) = capsys.readouterr().err.splitlines()
    assert sentence.startswith(f"pudm: {said}")
    assert sorted(tmp_path.rglob("*")) == before
    assert not folders


@pytest.mark.parametrize("missing", ["--normal", "--sensitive", "--out"])
def test_it_needs_both_folders_and_a_file(folders, capsys, missing):
    words = {"--normal": "n", "--sensitive": "s", "--out": "j.safetensors"}
    words.pop(missing)
    assert cli.main(["judge", "train", "folders", *(word for pair in words.items() for word in pair)]) == 2
    assert "needs --normal DIR, --sensitive DIR and --out FILE" in capsys.readouterr().err
