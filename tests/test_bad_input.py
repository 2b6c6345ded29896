"""What cannot be, by the command that a user would type: one clear sentence, a non-zero exit, nothing lost.

Each test runs `pudm` in this process and compares every file of the output folder before and after. A run trains in a
process of its own; where the fault must happen inside it, the process is given its fault through the options.
"""

import errno
import io
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pudm_lite import cli

TINY = ["--steps", 2, "--n-samples", 2, "--sampler-steps", 2, "--set", "batch_size=8"]


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"}


def refused(capsys, out: Path, *arguments: object) -> str:
    """`pudm train`, which must fail; returns its sentence."""
    capsys.readouterr()
    before = contents(out)
    code = cli.main(["train", *map(str, arguments), "--out", str(out)])
    after = contents(out)
    assert code == 2
    lost = {path for path, content in before.items() if after.get(path) != content}
    assert not lost
    assert not [path for path in after if path.name.startswith(".") and path not in before]  # no half files
    (sentence,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("pudm: ")]
    assert "Traceback" not in sentence
    return sentence


@pytest.fixture
def out(tmp_path):
    """An output folder with something of the user's in it."""
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "mine.txt").write_text("results of last week")
    return folder


@pytest.fixture
def images(tmp_path, monkeypatch):
    """12 small images in u, 4 in s, none in empty, one in torn that does not open."""
    monkeypatch.setenv("PUDM_CACHE", str(tmp_path / "cache"))
    pixels = np.random.default_rng(0).integers(0, 256, (16, 28, 28), dtype=np.uint8)
    for name, some in {"u": pixels[:12], "s": pixels[12:], "empty": [], "torn": []}.items():
        (tmp_path / name).mkdir()
        for i, image in enumerate(some):
            Image.fromarray(image).save(tmp_path / name / f"{i}.png")
    (tmp_path / "torn" / "cat.png").write_bytes(b"no image")
    return tmp_path


def own(images: Path, sensitive: str = "s") -> list[object]:
    return ["--unlabeled", images / "u", "--sensitive", images / sensitive]


@pytest.mark.parametrize("beta", [0, 1, -0.1, 1.5, "nan"])
def test_beta_outside_its_range(capsys, out, beta):
    said = refused(capsys, out, "--beta", beta)
    assert said.startswith("pudm: beta must lie inside (0, 1), the sensitive share of the unlabeled data; got ")


def test_no_file_in_s(capsys, out, images):
    said = refused(capsys, out, *own(images, "empty"), *TINY)
    assert f"{images / 'empty'} holds no image files" in said


def test_no_file_in_s_that_opens(capsys, out, images):
    said = refused(capsys, out, *own(images, "torn"), *TINY)
    assert str(images / "torn") in said
    assert "open" in said


def test_u_smaller_than_a_batch(capsys, out, images):
    said = refused(capsys, out, *own(images), *TINY[:-1], "batch_size=17")
    assert said == "pudm: a batch of 17 needs as many images; U and S hold 16"


@pytest.mark.parametrize(("classes", "which"), [("0,1,2,3,4,5,6,7,8,9", "all"), ("", "none")])
def test_normal_classes_that_are_all_or_none(capsys, out, classes, which):
    said = refused(capsys, out, "--experiment", f"mnist-{classes}")
    assert said.startswith(f"pudm: {which} of the classes of mnist are normal: name some but not all of 0, 1, 2")


def test_image_size_that_the_network_cannot_halve(capsys, out, images):
    said = refused(capsys, out, *own(images), "--image-size", 27, *TINY)
    assert said.startswith(
        "pudm: the lite network cannot halve images of 27 pixels as often as it must: 26 and 28 work"
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("other", "differs"),
    [
        (["--experiment", "mnist-odd"], "configuration = 'mnist-odd' (now 'mnist-even')"),
        (["--network", "paper"], "network = 'paper' (now 'lite')"),
    ],
)
def test_checkpoint_of_another_data_set_or_network(capsys, out, tmp_path, other, differs):
    """A checkpoint put where another run's belongs. (By themselves, runs keep theirs apart.)"""
    small = [*TINY, "optimiser=adamw"]
    assert cli.main(["train", *map(str, small), "--out", str(out)]) == 0
    (run,) = (out / "runs").iterdir()
    (run / "row.json").unlink()  # not finished, so that its checkpoint is opened
    state = torch.load(run / "checkpoint.pt", weights_only=True)
    name = {"--experiment": "configuration", "--network": "network"}[other[0]]
    state["identity"][name] = other[1]
    torch.save(state, run / "checkpoint.pt")
    said = refused(capsys, out, *small)
    assert "checkpoint.pt belongs to another experiment: " in said
    assert differs in said


def test_a_full_disk(capsys, out, images, monkeypatch):
    """The disk fills up while the images are packed: the old file stands, and no half file lies about."""
    save = np.savez_compressed

    def fill_up(file, **arrays):
        save(file, **{name: array[:1] for name, array in arrays.items()})  # some of it fits
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(np, "savez_compressed", fill_up)
    before = contents(out)
    said = refused(capsys, out, *own(images), *TINY)
    assert f"cannot write {out.parent / 'cache' / 'own'}" in said
    assert "(No space left on device): make room, or let PUDM_CACHE name another folder" in said
    assert contents(out) == before
    assert list(contents(out.parent / "cache")) == []


@pytest.fixture
def small_files():
    """No process may write a file of more than a hundred thousand bytes: what a full disk does, done by the kernel."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))

    yield limit
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.slow
def test_a_full_disk_at_the_next_checkpoint(capsys, out, images, small_files):
    """A run is gone on with, and its checkpoint finds no room: the one before it stands."""
    arguments = [*own(images), *TINY]
    assert cli.main(["train", *map(str, arguments), "--out", str(out)]) == 0
    (run,) = (out / "runs").iterdir()
    (run / "row.json").unlink()
    state = torch.load(run / "checkpoint.pt", weights_only=True)
    torch.save(state | {"step": 1}, run / "checkpoint.pt")
    small_files()
    said = refused(capsys, out, *arguments)
    assert f"cannot write {run / 'checkpoint.pt'} (File too large): make room, or choose another folder" in said
    assert torch.load(run / "checkpoint.pt", weights_only=True)["step"] == 1


@pytest.mark.slow
def test_a_full_disk_where_the_pipeline_goes(capsys, out, images, small_files):
    """The training is done, and its pipeline finds no room: the one that stood there is whole."""
    arguments = [*own(images), *TINY]
    assert cli.main(["train", *map(str, arguments), "--out", str(out)]) == 0
    (run,) = (out / "runs").iterdir()
    (run / "row.json").unlink()
    small_files()
    said = refused(capsys, out, *arguments)
    assert f"cannot write {run / 'pipeline'} (" in said
    assert "File too large" in said


@pytest.mark.slow
def test_a_loss_that_is_no_number(capsys, out, images):
    said = refused(capsys, out, *own(images), *TINY[2:-1], "batch_size=8", "learning_rate=1e30", "--steps", 30)
    assert "the loss or its gradient is not a finite number at step" in said
    assert "lower the learning rate" in said


def test_outputs_among_the_images(capsys, images, monkeypatch):
    """The folder is where the command is typed, and --out is left out: its default would lie in it."""
    monkeypatch.chdir(images / "u")
    before = sorted(images.rglob("*"))
    assert cli.main(["train", "--unlabeled", ".", "--sensitive", "../s", *map(str, TINY)]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith("pudm: --out lies in ., whose files are read as images")
    assert sorted(images.rglob("*")) == before


@pytest.mark.parametrize("spoil", ["link", "kind", "torn"])
def test_strict_stops_at_whatever_is_left_out(capsys, out, images, spoil):
    path = images / "u" / {"link": "gone.png", "kind": "IMG_1.JXL", "torn": "torn.png"}[spoil]
    path.symlink_to("nowhere") if spoil == "link" else path.write_bytes(b"x")
    said = refused(capsys, out, *own(images), "--strict", *TINY)
    assert said.startswith("pudm: not everything is an image that opens (1): ")
    assert str(path) in said
    assert not list((images / "cache").rglob("own-*"))


@pytest.mark.parametrize("name", ["Jos\udc82.png", "José.png", "new\nline.png"])
def test_a_name_that_cannot_be_printed_stops_nothing(out, images, name, monkeypatch):
    """A torn file of such a name is left out, and what is right is read; the terminal takes ASCII alone."""
    path = images / "u" / name
    try:
        path.write_bytes(b"torn")
    except OSError:
        pytest.skip("this file system takes UTF-8 names alone")
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True)
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr("pudm_lite.runs.parallel.run_all", lambda *_, **__: [])
    code = cli.main(["train", *map(str, [*own(images), *TINY]), "--out", str(out)])
    said = terminal.buffer.getvalue()
    assert code == 0
    assert b"left out " in said
    assert b"U 12 images" in said
