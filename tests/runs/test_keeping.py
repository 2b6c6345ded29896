"""What counts as finished: the run that was asked for, with every file whole. Anything else is made again."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from left import leave, row_of

from pudm_lite.errors import UserError
from pudm_lite.files import alone, clear_torn, read_rows, write_arrays
from pudm_lite.runs import keeping
from pudm_lite.runs.experiments import experiment
from pudm_lite.runs.keeping import finished, kept, run_and_keep
from pudm_lite.runs.machine import ENDS_WITH

EXP = experiment("mnist-even", "nnpu", n_samples=3, steps=5)


def test_a_whole_run_is_opened(tmp_path):
    folder = leave(tmp_path, EXP)
    found = kept(tmp_path, EXP)
    assert found.row["run"] == EXP.name
    assert (len(found.images), found.sensitive.tolist(), found.folder) == (3, [False] * 3, folder)
    assert found.log["value"].tolist() == [[1, 2.0]]


@pytest.mark.parametrize(
    "fields",
    [
        {"method": "pn"},
        {"steps": 6},
        {"beta": 0.2},
        {"seed": 1},
        {"experiment": "mnist-odd"},
        {"network": "paper"},
        {"learning_rate": 1.0},
        {"group_sizes": "another"},
        {"n_samples": 4},
        {"sampler_steps": 3},
        {"sample_seed": 9},
        {"frechet_features": "inception-2048"},
    ],
    ids=str,
)
def test_the_row_of_another_run_is_not_this_one(tmp_path, fields):
    leave(tmp_path, EXP, row_of(EXP) | fields)
    assert finished(tmp_path, EXP) is None


def test_a_row_from_before_a_setting_existed_stands_at_its_default(tmp_path):
    folder = leave(tmp_path, EXP)
    row = json.loads((folder / "row.json").read_text())
    del row["gradient_checkpointing"]
    (folder / "row.json").write_text(json.dumps(row))
    assert finished(tmp_path, EXP) == row


def test_samples_that_are_too_few_are_not_finished(tmp_path):
    """As of a run that was cut off while it drew: the file opens, and holds fewer than its row says."""
    folder = leave(tmp_path, EXP)
    write_arrays(folder / "samples.npz", images=np.zeros((2, 1, 4, 4), np.uint8), sensitive=np.zeros(2, bool))
    assert finished(tmp_path, EXP) is None
    write_arrays(folder / "samples.npz", sensitive=np.zeros(3, bool))
    assert finished(tmp_path, EXP) is None
    write_arrays(folder / "samples.npz", images=np.zeros((3, 1, 4, 4), np.uint8), sensitive=np.zeros(2, bool))
    assert finished(tmp_path, EXP) is None


@pytest.mark.parametrize("name", ["row.json", "samples.npz", "log.json"])
@pytest.mark.parametrize("fault", ["missing", "empty", "torn", "flipped", "other", "deep"])
def test_a_damaged_file_is_made_again(tmp_path, monkeypatch, name, fault):
    path = leave(tmp_path, EXP) / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    contents = {"empty": b"", "torn": path.read_bytes()[: len(data) // 2], "flipped": bytes(data), "other": b"[1]"}
    contents["deep"] = b"[" * 99_999
    path.unlink() if fault == "missing" else path.write_bytes(contents[fault])
    assert finished(tmp_path, EXP) is None
    with pytest.raises(UserError, match="holds no finished run"):
        kept(tmp_path, EXP)
    said = []
    monkeypatch.setattr(keeping, "run", lambda exp, folder, report: row_of(exp) | {"again": True})
    assert run_and_keep(EXP, path.parent, lambda *word: said.append(word))["again"]
    assert bool(said) == ((name, fault) != ("row.json", "missing"))
    assert all("is made again" in value for _, value in said)


def test_a_flipped_bit_of_the_samples_is_noticed_or_changes_nothing(tmp_path):
    path = leave(tmp_path, EXP) / "samples.npz"
    whole, noticed = path.read_bytes(), 0
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 16]) + whole[at + 1 :])
        if finished(tmp_path, EXP) is None:
            noticed += 1
        else:
            assert not kept(tmp_path, EXP).images.any()
    assert noticed > len(whole) / 2


def test_a_run_begins_by_taking_away_what_a_killed_one_left(tmp_path, monkeypatch):
    folder = leave(tmp_path, EXP)
    (folder / "row.json").unlink()
    torn = folder / ".0123456789abcdef.pt"
    torn.touch()
    monkeypatch.setattr(keeping, "run", lambda exp, folder, report: {"torn": torn.exists()})
    assert run_and_keep(EXP, folder, lambda *_: None) == {"torn": False}


def test_two_do_not_do_one_run(tmp_path, monkeypatch):
    folder = leave(tmp_path, EXP)
    (folder / "row.json").unlink()
    with alone(folder / "run"), pytest.raises(UserError, match="another process works on the run"):
        run_and_keep(EXP, folder, lambda *_: None)
    leave(tmp_path, EXP)
    monkeypatch.setattr(keeping, "run", lambda *_: pytest.fail("run again"))
    assert run_and_keep(EXP, folder, lambda *_: None)["run"] == EXP.name


def test_a_run_counts_once_in_its_rows(tmp_path):
    other = replace(EXP, n_samples=7)
    rows = [row_of(EXP) | {"train_seconds": 1}, row_of(other), row_of(EXP) | {"train_seconds": 2}, {"any": 1}]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert [(row.get("n_samples"), row.get("train_seconds")) for row in read_rows(tmp_path / "rows.jsonl")] == [
        (3, 2),
        (7, None),
        (None, None),
    ]


def test_what_a_killed_writer_left_is_taken_away_and_nothing_else(tmp_path):
    script = "import os, sys, pathlib; from pudm_lite.files import write_whole, write_folder\n"
    script += "write_whole(pathlib.Path(sys.argv[1]) / 'a.pt', lambda path: os._exit(1))"
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    script = script.replace("write_whole(", "write_folder(").replace("a.pt", "b")
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    assert len(list(tmp_path.iterdir())) == 2
    for name in (".run.lock", "checkpoint.pt", ".hidden"):
        (tmp_path / name).touch()
    clear_torn(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {".run.lock", "checkpoint.pt", ".hidden"}


def test_a_process_ends_with_the_one_that_started_it(tmp_path):
    """As after a kill of `pudm sweep`: what it started asks for it by number, however many processes lie between."""
    code = "from pudm_lite.runs.machine import end_with; import time; end_with(0.1); print('on', flush=True); "
    starter = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    started = subprocess.Popen(
        [sys.executable, "-c", code + "time.sleep(60)"],
        env=os.environ | {ENDS_WITH: str(starter.pid)},
        stdout=subprocess.PIPE,
    )
    assert started.stdout.readline() == b"on\n"
    time.sleep(0.5)
    assert started.poll() is None
    starter.send_signal(signal.SIGKILL)
    starter.wait()
    assert started.wait(timeout=20) == 1
