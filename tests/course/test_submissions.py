"""Whose notebooks there are: the layouts that come out of an upload, and what must not be opened."""

import os
import socket
import tempfile
from pathlib import Path

import pytest

from pudm_lite.course import submissions as room
from pudm_lite.course.submissions import read_notebook, submissions
from pudm_lite.errors import UserError


def put(path: Path, data: bytes = b"{}") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def notes(folder: Path, student: str) -> str:
    return "; ".join(submissions(folder)[student].notes)


def test_a_student_is_a_folder_or_a_notebook(tmp_path):
    one, two = put(tmp_path / "ann" / "week 1" / "01_a.ipynb"), put(tmp_path / "ann" / "02_a.IPYNB")
    three = put(tmp_path / "bob.ipynb")
    put(tmp_path / "roster.csv")
    put(tmp_path / "ann" / "notes.txt")
    found = submissions(tmp_path)
    assert {name: sorted(one.notebooks) for name, one in found.items()} == {"ann": sorted([one, two]), "bob": [three]}
    assert not any(one.notes for one in found.values())


def test_what_a_mac_jupyter_or_git_leaves_behind_is_no_work(tmp_path):
    kept = put(tmp_path / "ann" / "01.ipynb")
    for left in (
        "__MACOSX/ann/01.ipynb",
        "._bob.ipynb",
        "ann/._01.ipynb",
        "ann/.ipynb_checkpoints/01-checkpoint.ipynb",
    ):
        put(tmp_path / left)
    put(tmp_path / ".git" / "x.ipynb")
    assert {name: one.notebooks for name, one in submissions(tmp_path).items()} == {"ann": [kept]}


def test_links_are_not_followed_and_said(tmp_path):
    solved = put(tmp_path / "solved.ipynb")
    inbox = tmp_path / "in"
    put(inbox / "ann" / "01.ipynb")
    for name in ("bob", "cyd", "dan"):
        (inbox / name).mkdir()
    (inbox / "bob" / "01.ipynb").symlink_to(solved)
    (inbox / "cyd" / "work").symlink_to(inbox / "ann", target_is_directory=True)
    (inbox / "dan" / "01.ipynb").symlink_to("/nowhere")
    (inbox / "eve").symlink_to(inbox / "ann", target_is_directory=True)
    (inbox / "fay.ipynb").symlink_to(solved)
    found = submissions(inbox)
    assert [name for name, one in found.items() if one.notebooks] == ["ann"]
    for student, link in {
        "bob": "01.ipynb",
        "cyd": "work",
        "dan": "01.ipynb",
        "eve": "eve",
        "fay": "fay.ipynb",
    }.items():
        assert f"{link} is a link" in notes(inbox, student)


def test_only_regular_files_are_taken(tmp_path):
    (tmp_path / "ann").mkdir()
    os.mkfifo(tmp_path / "ann" / "01.ipynb")
    (tmp_path / "bob").mkdir()
    with socket.socket(socket.AF_UNIX) as door, tempfile.TemporaryDirectory(prefix="s") as short:
        door.bind(f"{short}/s")
        os.rename(f"{short}/s", tmp_path / "bob" / "01.ipynb")
    for student in ("ann", "bob"):
        assert "no regular file" in notes(tmp_path, student)
        assert not submissions(tmp_path)[student].notebooks


def test_a_student_found_twice_is_said(tmp_path):
    put(tmp_path / "bob" / "01.ipynb")
    put(tmp_path / "bob.ipynb")
    for name in ("Ann", "ann (1)", "Zoë", "Zoe\u0308", "s_1", "s_2"):
        put(tmp_path / name / "01.ipynb")
    assert len(submissions(tmp_path)["bob"].notebooks) == 2
    assert "bob/ and bob.ipynb are taken together" in notes(tmp_path, "bob")
    assert "perhaps the same student as ann (1)" in notes(tmp_path, "Ann")
    assert "perhaps the same student as Ann" in notes(tmp_path, "ann (1)")
    assert "perhaps the same student" in notes(tmp_path, "Zoë")
    assert notes(tmp_path, "s_1") == ""


def test_an_empty_hand_is_a_row_and_an_empty_folder_is_refused(tmp_path):
    (tmp_path / "ann").mkdir()
    with pytest.raises(UserError, match="holds no notebooks"):
        submissions(tmp_path)
    put(tmp_path / "bob.ipynb")
    assert notes(tmp_path, "ann") == "no notebook"
    with pytest.raises(UserError, match="cannot be read"):
        submissions(tmp_path / "nowhere")


def test_too_many_and_too_deep_is_cut_off_and_said(tmp_path, monkeypatch):
    monkeypatch.setattr(room, "MOST", 3)
    for i in range(5):
        put(tmp_path / "ann" / f"{i}.ipynb")
    put(tmp_path / "bob" / "/".join("d" * 30) / "01.ipynb")
    assert [path.name for path in submissions(tmp_path)["ann"].notebooks] == ["0.ipynb", "1.ipynb", "2.ipynb"]
    assert "5 notebooks: the first 3 are graded" in notes(tmp_path, "ann")
    assert not submissions(tmp_path)["bob"].notebooks
    assert "too deep" in notes(tmp_path, "bob")


def test_a_notebook_is_read_whole_and_nothing_else_is_opened(tmp_path, monkeypatch):
    monkeypatch.setattr(room, "LARGEST", 10)
    assert read_notebook(put(tmp_path / "a.ipynb", b"0123456789")) == b"0123456789"
    with pytest.raises(ValueError, match="larger than"):
        read_notebook(put(tmp_path / "b.ipynb", b"0" * 11))
    os.mkfifo(tmp_path / "c.ipynb")
    with pytest.raises(ValueError, match="no regular file"):  # and at once: nobody writes to it
        read_notebook(tmp_path / "c.ipynb")
    (tmp_path / "d.ipynb").symlink_to(tmp_path / "a.ipynb")
    with pytest.raises(OSError, match="symbolic links"):
        read_notebook(tmp_path / "d.ipynb")


def test_what_may_not_be_read_is_said():
    """As another user: root may read everything."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        put(folder / "ann" / "01.ipynb").chmod(0)
        put(folder / "bob" / "01.ipynb")
        (folder / "bob").chmod(0)
        folder.chmod(0o755)
        root = os.geteuid() == 0
        if root:
            os.seteuid(65534)
        try:
            assert "bob cannot be read (Permission denied)" in notes(folder, "bob")
            with pytest.raises(PermissionError):
                read_notebook(folder / "ann" / "01.ipynb")
        finally:
            if root:
                os.seteuid(0)
            (folder / "bob").chmod(0o700)
