"""Files are whole or not there, and rows come back."""

import errno
import json
import os
import stat
import zipfile
from pathlib import Path

import numpy as np
import pytest

from pudm_lite.errors import UserError
from pudm_lite.files import (
    array_shapes,
    read_arrays,
    read_json,
    read_rows,
    writable,
    writable_file,
    write_arrays,
    write_folder,
    write_rows,
    write_tensors,
    write_whole,
)
from pudm_lite.runs.sweep import _write_row

ROWS = [{"name": "mnist-even", "beta": 0.1, "seeds": [0, 1]}, {"name": "é", "rate": None, "ok": True}]


def raising(error):
    def write(temporary):
        temporary.write_text("half of")
        raise error

    return write


def test_a_file_is_written_into_folders_that_are_made(tmp_path):
    path = tmp_path / "a" / "b" / "weights.bin"
    write_whole(path, lambda temporary: temporary.write_bytes(b"123"))
    assert path.read_bytes() == b"123"
    assert [p.name for p in path.parent.iterdir()] == ["weights.bin"]


def test_a_file_is_replaced(tmp_path):
    path = tmp_path / "notes.txt"
    for text in ("old", "new"):
        write_whole(path, lambda temporary, text=text: temporary.write_text(text))
    assert path.read_text() == "new"


@pytest.mark.parametrize("folder", [".", "there", "there/new", "new/a/b", "link/new", "new/../other"])
def test_a_folder_is_tried_out_and_nothing_left_there(tmp_path, monkeypatch, folder):
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("there")
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    for path in (Path(folder), tmp_path / folder):
        writable(path)
        writable_file(path / "file.npz")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("folder", "why"),
    [
        ("taken", "Not a directory"),
        ("taken/new", "Not a directory"),
        ("gone/new", "No such file or directory"),
        (f"new/{'x' * 300}", "File name too long"),
    ],
)
def test_a_folder_that_takes_no_files_is_said(tmp_path, folder, why):
    (tmp_path / "taken").write_text("mine")
    (tmp_path / "gone").symlink_to("nowhere")
    before = sorted(tmp_path.rglob("*"))
    for try_out in (lambda: writable(tmp_path / folder), lambda: writable_file(tmp_path / folder / "file.npz")):
        with pytest.raises(UserError, match=rf"^cannot write to {tmp_path / folder} \({why}\): choose another"):
            try_out()
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_that_may_not_be_written_is_said(tmp_path, monkeypatch):
    """Whoever the user is: root may write everywhere."""

    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr("tempfile.mkdtemp", refuse)
    with pytest.raises(
        UserError, match=r"^cannot write to .* \(Permission denied\): choose another folder with --out$"
    ):
        writable(tmp_path)


def test_a_folder_is_no_place_for_a_file(tmp_path):
    with pytest.raises(UserError, match=r"^/.* is a folder: name a file, in it or elsewhere$"):
        writable_file(tmp_path)


@pytest.mark.parametrize("umask", [0o002, 0o022, 0o027, 0o077])
def test_what_is_written_follows_the_umask_of_the_user(tmp_path, umask):
    before = os.umask(umask)
    try:
        write_whole(tmp_path / "made" / "notes.txt", lambda temporary: temporary.write_text("x"))
        write_arrays(tmp_path / "arrays.npz", x=np.zeros(2))
        write_tensors(tmp_path / "tensors.pt", {"x": 1})
        write_rows(tmp_path / "rows.jsonl", ROWS)
        write_folder(tmp_path / "pipeline", lambda new: write_whole(new / "config.json", lambda path: path.touch()))
    finally:
        os.umask(before)
    for path in tmp_path.rglob("*"):
        whole = 0o777 if path.is_dir() else 0o666
        assert stat.S_IMODE(path.stat().st_mode) == whole & ~umask, path


def test_what_is_moved_in_has_reached_the_disk_before(tmp_path, monkeypatch):
    order, fsync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: (order.append("fsync"), fsync(file)))
    monkeypatch.setattr(os, "replace", lambda *paths: (order.append("replace"), replace(*paths)))
    write_whole(tmp_path / "notes.txt", lambda temporary: temporary.write_text("x"))
    assert order == ["fsync", "replace"]
    order.clear()
    write_folder(tmp_path / "pipeline", lambda new: [write_into(new / name) for name in ("unet/a", "unet/b", "c")])
    assert order == ["fsync"] * 3 + ["replace"]


def write_into(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("x")


@pytest.mark.parametrize("content", [b"", b'{"a": ', b"\xff", b"[" * 99999, None])
def test_json_that_is_missing_or_damaged_is_none(tmp_path, content):
    path = tmp_path / "a.json"
    path.write_text('{"a": [1]}')
    assert read_json(path) == {"a": [1]}
    path.unlink() if content is None else path.write_bytes(content)
    assert read_json(path) is None


def test_until_it_is_whole_the_old_file_stands(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("old")

    def write(temporary):
        temporary.write_text("half of")
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".txt"
        assert path.read_text() == "old"

    write_whole(path, write)
    assert path.read_text() == "half of"


@pytest.mark.parametrize(
    ("error", "raised", "says"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), UserError, "No space left on device"),
        (RuntimeError("interrupted"), RuntimeError, "interrupted"),
        (KeyboardInterrupt("stop"), KeyboardInterrupt, "stop"),
    ],
    ids=["disk full", "a bug", "ctrl-c"],
)
def test_a_writer_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, error, raised, says):
    path = tmp_path / "notes.txt"
    path.write_text("old")
    with pytest.raises(raised, match=says):
        write_whole(path, raising(error))
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_writer_that_fails_makes_no_file(tmp_path):
    with pytest.raises(RuntimeError):
        write_whole(tmp_path / "notes.txt", raising(RuntimeError()))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    folder, replace = tmp_path / "pipeline", os.replace

    def holding(*names):
        def write(new):
            new.mkdir()
            for name in names:
                (new / name).write_text(name)

        return write

    write_folder(folder, holding("a", "b"))
    write_folder(folder, holding("c"))
    assert [path.name for path in folder.iterdir()] == ["c"]

    def last_move_fails(source, target):
        if Path(source).name == "new":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, target)

    monkeypatch.setattr(os, "replace", last_move_fails)
    with pytest.raises(UserError, match="No space left on device"):
        write_folder(folder, holding("d"))
    assert [path.name for path in folder.iterdir()] == ["c"]
    assert [path.name for path in tmp_path.iterdir()] == ["pipeline"]


@pytest.mark.parametrize("below", ["rows.jsonl", "deeper/rows.jsonl"])
def test_a_folder_that_cannot_be_is_named_with_its_remedy(tmp_path, below):
    (tmp_path / "file").write_text("no folder")
    path = tmp_path / "file" / below
    with pytest.raises(UserError, match="cannot write to") as error:
        write_rows(path, ROWS)
    message = str(error.value)
    assert str(path.parent) in message
    assert "--out" in message
    assert "\n" not in message


def test_a_folder_in_the_files_place_is_named_with_its_remedy(tmp_path):
    (tmp_path / "rows.jsonl").mkdir()
    with pytest.raises(UserError, match=r"cannot write .*rows\.jsonl .*--out"):
        write_whole(tmp_path / "rows.jsonl", lambda temporary: temporary.write_text("x"))
    assert [p.name for p in tmp_path.iterdir()] == ["rows.jsonl"]


def test_rows_come_back_one_json_line_each(tmp_path):
    path = tmp_path / "rows.jsonl"
    write_rows(path, ROWS)
    assert read_rows(path) == ROWS
    assert [json.loads(line) for line in path.read_text().splitlines()] == ROWS


def test_rows_are_added_once_behind_the_old(tmp_path):
    path = tmp_path / "rows.jsonl"
    write_rows(path, ROWS[:1])
    write_rows(path, [*ROWS, {"name": "third"}])
    write_rows(path, ROWS)
    assert [json.loads(line) for line in path.read_text().splitlines()] == [*ROWS, {"name": "third"}]


def test_a_run_has_one_row_and_the_later_counts(tmp_path):
    path = tmp_path / "rows.jsonl"
    first, again, longer = ({"run": "a", "seconds": k, "n_samples": n} for k, n in ((1, 10), (2, 10), (1, 20)))
    write_rows(path, [first, {"run": "b"}, longer])
    write_rows(path, [again])
    assert [json.loads(line) for line in path.read_text().splitlines()] == [again, {"run": "b"}, longer]


@pytest.mark.parametrize("write", [write_rows, lambda path, rows: _write_row(path, rows[0])], ids=["rows", "sweep"])
def test_until_new_rows_are_whole_the_old_file_stands(tmp_path, monkeypatch, write):
    path = tmp_path / "rows.jsonl"
    write(path, ROWS)
    before = path.read_bytes()

    def stopped(source, target):
        assert path.read_bytes() == before
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", stopped)
    with pytest.raises(KeyboardInterrupt):
        write(path, [{"run": "another"}])
    assert path.read_bytes() == before


def test_rows_without_a_last_newline_are_added_to_and_empty_lines_skipped(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"name": "first"}\n\n{"name": "second"}')
    write_rows(path, [{"name": "third"}])
    assert [row["name"] for row in read_rows(path)] == ["first", "second", "third"]


def test_arrays_come_back_by_name_and_type(tmp_path):
    path = tmp_path / "pictures.npz"
    pictures, labels = np.arange(12, dtype=np.uint8).reshape(3, 2, 2), np.array([0.5, 1.5, 2.5], np.float32)
    write_arrays(path, pictures=pictures, labels=labels)
    assert list(tmp_path.iterdir()) == [path]
    with np.load(path) as arrays:
        assert sorted(arrays) == ["labels", "pictures"]
        for name, expected in (("pictures", pictures), ("labels", labels)):
            assert arrays[name].dtype == expected.dtype
            assert np.array_equal(arrays[name], expected)


@pytest.mark.parametrize(
    "content",
    [b"", b"no archive", b"PK\x05\x06" + bytes(18), "cut", "spoiled", "single", "objects", "vast"],
    ids=lambda content: content if isinstance(content, str) else content[:6].hex() or "empty",
)
def test_what_is_no_archive_of_arrays_is_refused(tmp_path, content):
    path = tmp_path / "pictures.npz"
    write_arrays(path, u=np.arange(9999) % 251)
    whole = path.read_bytes()
    if content == "cut":
        path.write_bytes(whole[:-100])
    elif content == "spoiled":
        path.write_bytes(whole[:200] + bytes(100) + whole[300:])
    elif content == "single":
        with path.open("wb") as file:
            np.save(file, np.zeros(3))
    elif content == "objects":  # pickled: not opened
        np.savez(path, u=np.array([{}, {}], dtype=object))
    elif content == "vast":  # a header that announces more than any memory holds
        with zipfile.ZipFile(path, "w") as archive, archive.open("u.npy", "w") as file:
            np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (1 << 60,)})
    else:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"pictures\.npz is not an \.npz file with `u`, or is damaged"):
        read_arrays(path, "u")
    if content not in ("spoiled", "objects", "vast"):  # their headers are whole
        with pytest.raises((UserError, KeyError)):
            array_shapes(path)["u"]


def test_arrays_that_are_missing_are_named(tmp_path):
    write_arrays(tmp_path / "a.npz", u=np.zeros(3))
    assert list(read_arrays(tmp_path / "a.npz", "u")) == ["u"]
    with pytest.raises(UserError, match=r"is not an \.npz file with `u`, `s`"):
        read_arrays(tmp_path / "a.npz", "u", "s")


def test_missing_rows_are_named_with_their_remedy(tmp_path):
    with pytest.raises(UserError, match=r"no rows at .*rows\.jsonl: run an experiment first"):
        read_rows(tmp_path / "rows.jsonl")
    with pytest.raises(UserError, match="no rows at"):
        read_rows(tmp_path)


@pytest.mark.parametrize("content", [b'{"name": 1}\nnot json\n', b"5\n", b"[1, 2]\n", b"\xff\xfe\n", b"[" * 99999])
def test_what_is_no_row_is_named_and_left_alone(tmp_path, content):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    for action in (lambda: read_rows(path), lambda: write_rows(path, ROWS)):
        with pytest.raises(UserError, match="is not a file of JSON lines") as error:
            action()
        assert str(path) in str(error.value)
        assert "\n" not in str(error.value)
    assert path.read_bytes() == content
