"""The doctor: a line for each thing, what to do where it is not right, and an exit that says whether it must be."""

import builtins
import os
import shutil
import subprocess
import sys
from collections import namedtuple
from importlib import metadata
from pathlib import Path

import pytest

from pudm_lite import cli
from pudm_lite.errors import UserError
from pudm_lite.runs import checkup
from pudm_lite.runs.checkup import PYTHONS, Line
from pudm_lite.sources import doctor
from pudm_lite.sources.doctor import NAMES, Finding, Looked

MACHINE = ["python", "versions", "torch", "mode", "memory", "disk", "sandbox"]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Data are right, unless a test says something else: what is said of them is tested elsewhere."""
    monkeypatch.setattr(doctor, "look", lambda name: Finding(name, (), "remedy"))


def test_everything_has_one_line(capsys):
    assert cli.main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == [*MACHINE, *NAMES]
    assert lines[0].startswith(f"python: {sys.version.split()[0]} on ")
    assert "mnist: right" in lines


def test_what_lies_in_data_is_needed_and_the_rest_is_not(monkeypatch, capsys):
    missing = (Looked(Path("x"), "sha256", "0", ""),)
    monkeypatch.setattr(doctor, "look", lambda name: Finding(name, missing if name == "cifar10" else (), "fetch it"))
    assert cli.main(["doctor"]) == 0
    assert "cifar10: missing; to do: where you want it, fetch it" in capsys.readouterr().out.splitlines()
    monkeypatch.setattr(doctor, "look", lambda name: Finding(name, missing if name == "mnist" else (), "fetch it"))
    assert cli.main(["doctor"]) == 2
    said = capsys.readouterr()
    assert "mnist: missing; to do: fetch it" in said.out.splitlines()
    assert said.err == "pudm: not everything that is needed is right (mnist): do what stands after `to do`\n"


@pytest.mark.parametrize(
    ("version", "to_do", "needed"),
    [
        ((3, 10), "take Python 3.11 to 3.13", True),
        ((3, 11), "", False),
        ((3, 13), "", False),
        ((3, 14), "take Python 3.11 to 3.13", False),
    ],
)
def test_pythons(monkeypatch, version, to_do, needed):
    monkeypatch.setattr(sys, "version_info", version)
    line = checkup._python()
    assert (line.to_do, line.needed) == (to_do, needed)


def test_the_supported_pythons_are_those_of_the_readme():
    oldest, newest = (".".join(map(str, version)) for version in PYTHONS)
    assert f"Python {oldest} to {newest}" in (Path(cli.__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_versions_are_compared_with_what_is_asked(monkeypatch):
    assert checkup._versions().to_do == ""
    asked = [
        "torch>=2.10",
        "diffusers<0.1",
        "no-such-library>=2",
        'pytest<1; extra == "dev"',
        "numpy<1; python_version<'3'",
    ]
    monkeypatch.setattr(checkup, "_requirements", lambda: asked)
    line = checkup._versions()
    assert line.found == f"diffusers is {metadata.version('diffusers')}, not <0.1; no-such-library is missing"
    assert (line.to_do != "", line.needed) == (True, True)


def test_what_is_asked_is_what_pyproject_asks():
    assert any(text.startswith("diffusers>=") for text in checkup._requirements())


def test_a_torch_that_does_not_load_is_a_line(monkeypatch, capsys):
    load = builtins.__import__

    def broken(name, *rest, **more):
        if name.split(".")[0] == "torch" or "sources.doctor" in name:
            raise ImportError("libcudart.so: cannot open\nmore")
        return load(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", broken)
    line = checkup._attempt("torch", checkup._torch)
    assert line.found == "cannot be looked at (ImportError: libcudart.so: cannot open)"
    assert (line.to_do != "", line.needed) == (True, True)
    assert [line.name for line in checkup.checkup()] == MACHINE  # and the others are looked at all the same


@pytest.mark.parametrize(("free", "enough"), [(2.9, False), (3.1, True)])
def test_memory(monkeypatch, free, enough):
    monkeypatch.setattr(checkup, "_memory_gib", lambda: (free, 16.0))
    line = checkup._memory()
    assert line.found == f"{free} of 16.0 GiB are free"
    assert (line.to_do == "", line.needed) == (enough, False)


def test_free_memory_is_no_more_than_there_is():
    free, total = checkup._memory_gib()
    assert 0 < free <= total


@pytest.mark.parametrize(("free", "to_do", "needed"), [(50, False, False), (1, True, False), (0.1, True, True)])
def test_disk(monkeypatch, free, to_do, needed):
    usage = namedtuple("usage", "free")(free * 2**30)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    line = checkup._disk()
    assert f"{free:.1f} GiB are free" in line.found
    assert (line.to_do != "", line.needed) == (to_do, needed)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert "takes no files" in checkup._disk().found


@pytest.mark.parametrize(
    ("there", "works", "found"),
    [
        ({"bwrap", "unshare"}, {"bwrap", "unshare"}, "bubblewrap works"),
        ({"bwrap", "unshare"}, {"unshare"}, "unshare works"),
        ({"unshare"}, {"bwrap", "unshare"}, "unshare works"),
        ({"bwrap"}, set(), "none works here"),
        (set(), set(), "none works here"),
    ],
)
def test_a_sandbox_is_tried_out(monkeypatch, there, works, found):
    def run(command, **settings):
        assert command[0] in there
        if command[0] not in works:
            raise subprocess.TimeoutExpired(command, 10)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(shutil, "which", lambda name: name if name in there else None)
    monkeypatch.setattr(subprocess, "run", run)
    line = checkup._sandbox()
    assert line.found == found
    assert (line.to_do == "", line.needed) == ("none" not in found, False)


def test_a_sentence_for_the_user_becomes_a_line():
    def check() -> Line:
        raise UserError("this user has no home folder: set HOME")

    for needed in (True, False):
        line = checkup._attempt("cifar10", check, needed)
        assert str(line) == "cifar10: this user has no home folder; to do: set HOME"
        assert line.needed is needed
