"""The data doctor: what it says of whole, missing, damaged and refused files, and the command around it."""

import argparse
import hashlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tiny_sets import write_celeba, write_cifar10, write_stl10
from torchvision.datasets import CIFAR10, STL10

from pudm_lite.commands import data
from pudm_lite.datasets import SHA256
from pudm_lite.errors import UserError
from pudm_lite.sources import doctor
from pudm_lite.sources.doctor import NAMES, look
from pudm_lite.sources.weights import PUBLISHED, Published

PAGE = "<!DOCTYPE html><html>quota</html>"


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("PUDM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    return tmp_path / "cache"


def pudm(*arguments: str) -> None:
    parser = argparse.ArgumentParser()
    data.add(parser)
    data.run(parser.parse_args(["check", *arguments]))


@pytest.mark.parametrize("name", ["cifar10", "stl10", "celeba", "resnet34", "inception", "judge-cifar10"])
def test_what_is_missing_is_said_with_its_place(cache, name):
    finding = look(name)
    assert (finding.right, finding.state) == (False, "missing")
    assert all(str(one).startswith(f"missing: {cache.parent}") for one in finding.looked)
    assert name.removeprefix("judge-") in finding.remedy
    assert not cache.exists()


def test_files_of_data_are_compared_with_their_sums(cache, monkeypatch, tmp_path):
    assert look("mnist").right
    assert look("judge-mnist").right
    assert [one.wanted for one in look("models").looked] == [v for k, v in SHA256.items() if k.startswith("models/")]
    monkeypatch.setenv("PUDM_DATA", str(tmp_path))
    (tmp_path / "mnist.npz").write_bytes(b"abc")
    finding = look("mnist")
    assert (finding.state, finding.remedy) == ("incomplete or damaged", "restore data/ with `git checkout -- data`")
    assert str(finding.looked[0]) == (
        f"wrong: {tmp_path}/mnist.npz: sha256 wanted {SHA256['mnist.npz']}, got "
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )


@pytest.mark.parametrize(("name", "write", "files"), [("cifar10", write_cifar10, 7), ("stl10", write_stl10, 5)])
def test_every_file_of_a_set_is_looked_at(cache, monkeypatch, name, write, files):
    write(cache / "datasets", monkeypatch)
    finding = look(name)
    assert finding.right
    assert len(finding.looked) == files
    assert all(str(one).startswith(f"right: {one.path}: md5 {one.wanted}") for one in finding.looked)
    for k, path in enumerate(one.path for one in finding.looked):
        whole = path.read_bytes()
        path.write_bytes(whole[:-1])
        cut = look(name)
        assert cut.state == "incomplete or damaged"
        assert [one.right for one in cut.looked] == [j != k for j in range(files)]
        path.write_bytes(whole)


def test_a_missing_file_among_others_makes_a_set_incomplete(cache, monkeypatch):
    write_cifar10(cache / "datasets", monkeypatch)
    path = cache / "datasets" / CIFAR10.base_folder / "data_batch_3"
    path.unlink()
    finding = look("cifar10")
    assert (finding.state, finding.remedy) == ("incomplete or damaged", "`pudm data download cifar10`")
    assert f"missing: {path}: md5 wanted {CIFAR10.train_list[2][1]}" in map(str, finding.looked)


def test_celeba_is_its_texts_and_the_number_of_its_images(cache, monkeypatch):
    write_celeba(cache / "datasets", monkeypatch)
    folder = cache / "datasets" / "celeba"
    finding = look("celeba")
    assert finding.state == "incomplete or damaged"
    assert [str(one) for one in finding.looked if not one.right] == [
        f"wrong: {folder}/img_align_celeba: number of .jpg files wanted 202599, got 8"
    ]
    assert "put img_align_celeba.zip, list_attr_celeba.txt, identity_CelebA.txt, list_bbox_celeba.txt, " in (
        finding.remedy
    )
    monkeypatch.setattr(doctor, "CELEBA_IMAGES", 8)
    assert look("celeba").right


def test_a_page_from_google_drive_is_recognised(cache, monkeypatch):
    write_celeba(cache / "datasets", monkeypatch)
    for name in ("img_align_celeba.zip", "list_eval_partition.txt"):
        (cache / "datasets" / "celeba" / name).write_text(PAGE)
    wrong = [one for one in look("celeba").looked if not one.right]
    assert [one.path.name for one in wrong] == ["img_align_celeba.zip", "list_eval_partition.txt", "img_align_celeba"]
    assert all("an HTML page, such as a server sends" in one.got for one in wrong[:2])


def test_weights_are_compared_with_the_digits_in_their_names(cache, monkeypatch):
    content = b"weights"
    digits = hashlib.sha256(content).hexdigest()[:8]
    monkeypatch.setitem(PUBLISHED, "resnet34", Published(f"resnet34-{digits}.pth", 0, "weights", "resnet34"))
    path = cache.parent / "hub" / "checkpoints" / f"resnet34-{digits}.pth"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    assert look("resnet34").right
    path.write_bytes(content[:-1])
    assert f"sha256 wanted {digits}, got " in str(look("resnet34").looked[0])


def test_a_judge_must_open(cache):
    path = cache / "judges" / "stl10.safetensors"
    path.parent.mkdir(parents=True)
    save_file({"w": torch.zeros(2)}, path)
    assert look("judge-stl10").right
    path.write_bytes(path.read_bytes()[:20])
    finding = look("judge-stl10")
    assert (finding.state, finding.remedy) == ("incomplete or damaged", "`pudm judge train stl10`")


# The command


def test_without_a_name_all_is_told_and_nothing_refused(cache, capsys):
    pudm()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines if not line.startswith(" ")] == list(NAMES)
    assert "mnist: right" in lines
    at = lines.index("stl10: missing")
    place = cache / "datasets" / "stl10_binary" / "train_X.bin"
    assert lines[at + 1] == f"  missing: {place}: md5 wanted {STL10.train_list[0][1]}"
    assert lines[at + 6] == "  to do: `pudm data download stl10`"


def test_a_name_that_is_not_right_is_refused(cache, capsys):
    pudm("mnist")
    with pytest.raises(UserError, match=r"^cifar10 is missing: `pudm data download cifar10`$"):
        pudm("cifar10")
    assert "missing: " in capsys.readouterr().out
    with pytest.raises(UserError, match="unknown data set or weights 'cifar'; known: mnist, cifar10, stl10"):
        pudm("cifar")


def test_download_fetches_only_what_is_not_right(cache, monkeypatch, capsys):
    fetched = []

    def download(name: str) -> None:
        fetched.append(name)
        write_cifar10(cache / "datasets", monkeypatch)

    monkeypatch.setattr("pudm_lite.sources.downloads.download", download)
    for _ in range(2):
        data.run(argparse.Namespace(action="download", name="cifar10"))
    assert fetched == ["cifar10"]
    assert "cifar10: right" in capsys.readouterr().out


def test_the_help_names_every_download():
    from pudm_lite.sources.downloads import DOWNLOADS

    assert all(name in Path(data.__file__).read_text() for name in DOWNLOADS)
