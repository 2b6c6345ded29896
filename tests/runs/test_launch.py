"""A run as a command line, and one run in several processes."""

import os
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from left import leave, row_of

from pudm_lite import cli
from pudm_lite.commands.options import experiments_of
from pudm_lite.errors import UserError
from pudm_lite.files import read_rows
from pudm_lite.runs import launch as launch_module
from pudm_lite.runs.experiments import experiment
from pudm_lite.runs.launch import command_of, launch
from pudm_lite.runs.machine import ENDS_WITH
from pudm_lite.runs.parallel import pool
from pudm_lite.runs.progress import clear, from_file, to_file
from pudm_lite.runs.sweep import sweep
from pudm_lite.training import Record


@pytest.mark.parametrize(
    "exp",
    [
        experiment(),
        experiment("mnist-odd", "supervised", seed=3, steps=7),
        experiment(beta=0.1234567890123, ell_scale=1 / 3, stream="two", s_per_batch=4, grad_clip=2.5, labelled=100),
        experiment("cifar10-animals", "abspu", "paper", beta=0.2, grad_clip=float("inf"), mixed_precision="bf16"),
        experiment("mnist-even", "nnpu", pretrained="folder/model"),
        experiment("mnist-even", "pretrained", pretrained="folder/model", seed=1),
    ],
    ids=lambda exp: f"{exp.configuration}-{exp.method}-{exp.network}",
)
def test_the_command_of_a_run_is_that_run(tmp_path, exp, monkeypatch):
    monkeypatch.setattr("pudm_lite.commands.options.tell_lacks", lambda *a: None)  # weights and data are not looked for
    exp = replace(exp, n_samples=123, sampler="ddim", sampler_steps=7, features="inception")
    options = cli._parser().parse_args(command_of(exp, tmp_path))
    assert options.out == tmp_path
    assert experiments_of(options, options.experiment, options.method, options.pretrained) == [exp]


def test_progress_comes_back_as_it_was_told(tmp_path):
    assert from_file(tmp_path) is None
    report = to_file(tmp_path, every=0)
    record = Record(3, 10, 1.5, 2.0, {"L_S_minus": 4.0})
    report("step", record)
    report("strip", Path("x.png"))  # not kept
    assert from_file(tmp_path) == ("step", record)
    report("sample", (3, 8))
    assert from_file(tmp_path) == ("sample", (3, 8))
    clear(tmp_path)
    assert from_file(tmp_path) is None


def test_progress_is_written_now_and_then_only(tmp_path):
    report = to_file(tmp_path, every=60)
    for done in (1, 2):
        report("sample", (done, 8))
    assert from_file(tmp_path) == ("sample", (1, 8))


class Process:
    """Stands for `accelerate launch`: prints, leaves what a run leaves, and ends."""

    def __init__(self, says, code, run=None):
        self.says, self.code, self.run, self.polls = says, code, run, 0

    def __call__(self, command, stdout, stderr, env):
        self.command, self.env = command, env
        stdout.write(self.says)
        return self

    def poll(self):
        self.polls += 1
        if self.polls < 3:
            return None
        if self.run:
            leave(*self.run)
        return self.code

    @property
    def returncode(self):
        return self.code


def launched(monkeypatch, process, folder, exp):
    monkeypatch.setattr(launch_module.subprocess, "Popen", process)
    monkeypatch.setattr(launch_module.time, "sleep", lambda seconds: None)
    heard = []
    return launch(exp, folder, lambda *word: heard.append(word), 4), heard


def test_a_launch_passes_the_run_on_and_returns_its_row(tmp_path, monkeypatch):
    exp = experiment()
    folder = tmp_path / "runs" / exp.name
    process = Process("", 0, (tmp_path, exp))
    assert launched(monkeypatch, process, folder, exp) == (row_of(exp), [("start", None)] * 2)
    words = process.command
    assert words[words.index("--num_processes") + 1] == "4"
    assert process.env[ENDS_WITH] == str(os.getpid())  # killed, this process can end nothing any more
    assert words[words.index("pudm_lite.cli") + 1 :] == command_of(exp, tmp_path)


def test_a_launch_that_fails_says_what_the_run_said(tmp_path, monkeypatch):
    exp = experiment()
    folder = tmp_path / "runs" / exp.name
    with pytest.raises(UserError, match=r"^no data: get some$"):
        launched(monkeypatch, Process("noise\npudm: no data: get some\npudm: no data: get some\n", 1), folder, exp)
    with pytest.raises(RuntimeError, match="segmentation\naccelerate launch ended with code 139"):
        launched(monkeypatch, Process("segmentation\n", 139), folder, exp)
    with pytest.raises(RuntimeError, match="ended with code 0"):  # and without a row
        launched(monkeypatch, Process("", 0), folder, exp)


def test_what_was_launched_ends_when_its_listener_stops(tmp_path, monkeypatch):
    ended = []
    process = Process("", None)
    process.terminate, process.wait = (lambda: ended.append("terminate")), (lambda: ended.append("wait"))
    monkeypatch.setattr(launch_module.subprocess, "Popen", process)

    def stop(what, value):
        raise KeyboardInterrupt

    exp = experiment()
    with pytest.raises(KeyboardInterrupt):
        launch(exp, tmp_path / "runs" / exp.name, stop, 2)
    assert ended == ["terminate", "wait"]


@pytest.mark.slow
def test_two_processes_share_a_run_of_a_sweep(tmp_path):
    """Through `accelerate launch` on CPU cores; the row is in the file once, with where its beta came from."""
    exp = experiment("mnist-even", "nnpu", beta=0.2, steps=2, batch_size=8)
    exp = replace(exp, n_samples=4, sampler_steps=2)
    engine = partial(pool, partial(launch, processes=2), processes=2)
    outcome = sweep([replace(exp, beta_interval=(0.1, 0.3))], tmp_path, engine)
    assert outcome.failures == {}
    (row,) = outcome.rows
    assert read_rows(tmp_path / "rows.jsonl") == [row]
    assert (row["run"], row["beta_from"], row["n_samples"], row["steps"]) == (exp.name, "estimate", 4, 2)
    log = (tmp_path / "runs" / exp.name / "launch.log").read_text()
    assert log.count("non-sensitive rate") == 1  # one of the two speaks
