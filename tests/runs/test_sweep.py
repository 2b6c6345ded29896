"""A sweep is the product of its lists, each run once, whatever fails; its rows are on disk at once."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from filelock import FileLock
from left import leave, row_of
from rich.console import Console

from pudm_lite import cli, files
from pudm_lite.errors import UserError
from pudm_lite.files import read_rows
from pudm_lite.risks import BETA_FREE, METHODS, risk
from pudm_lite.runs import sweep as sweep_module
from pudm_lite.runs.experiments import experiment
from pudm_lite.runs.sweep import plan, sweep
from pudm_lite.splits import TABLE_1


class Engine:
    """Ends each run as `ends` says, "done" where it says nothing, and keeps what it was asked to run."""

    def __init__(self, ends=None):
        self.ends, self.asked, self.lines = ends or {}, [], []

    def __call__(self, experiments, root, hear):
        for exp in experiments:
            self.asked.append(exp.name)
            hear(exp.name, "start", None)
            what, value = self.ends.get(exp.train.method, ("done", row_of(exp)))
            if what == "done":
                leave(root, exp, value)
            hear(exp.name, what, value)
            path = root / "rows.jsonl"
            self.lines.append(len(path.read_text().splitlines()) if path.exists() else 0)


def quiet():
    return Console(quiet=True)


def small(root, methods=("unsupervised", "nnpu"), betas=(0.1, 0.3), seeds=(0,), **other):
    return plan(["mnist-even"], list(methods), list(betas), list(seeds), root, n_samples=8, **other)


def what(entries):
    return [(e.configuration, e.train.method, e.train.beta, e.train.seed) for e in entries]


def test_the_plan_is_the_product_and_beta_free_methods_run_once_a_seed(tmp_path):
    entries = plan(
        ["mnist-even", "mnist-odd"], ["supervised", "nnpu", "nnpu"], [0.1, 0.3, 0.1], [0, 1], tmp_path, steps=7
    )
    assert sorted(what(entries)) == sorted(
        (configuration, method, beta, seed)
        for configuration in ("mnist-even", "mnist-odd")
        for method, beta in (("supervised", 0.1), ("nnpu", 0.1), ("nnpu", 0.3))
        for seed in (0, 1)
    )
    assert {e.train.steps for e in entries} == {7}
    assert [e.n_samples for e in entries if e.configuration == "mnist-odd"] == [TABLE_1["mnist-odd"].test] * 6
    assert all(e.sample_seed == e.train.seed for e in entries)


def test_a_run_is_the_one_that_train_makes(tmp_path):
    (one,) = plan(["mnist-odd"], ["nnpu"], [0.3], [2], tmp_path, steps=9, ell_scale=50.0)
    assert one.name == experiment("mnist-odd", "nnpu", beta=0.3, seed=2, steps=9, ell_scale=50.0).name


def test_beta_free_methods_are_those_whose_risk_does_not_change_with_beta():
    l_u, l_s, l_n = torch.tensor([1.0, 2.0]), torch.tensor([0.5]), torch.tensor([3.0])
    same = {m for m in METHODS if risk(m, l_u, l_s, l_n, 0.1).value == risk(m, l_u, l_s, l_n, 0.6).value}
    assert same == set(BETA_FREE) - {"pretrained"}


@pytest.mark.parametrize("name", ["configuration", "method", "beta", "seed"])
def test_an_empty_list_is_refused(tmp_path, name):
    lists = {"configuration": ["mnist-even"], "method": ["nnpu"], "beta": [0.1], "seed": [0]} | {name: []}
    with pytest.raises(UserError, match=f"at least one {name}"):
        plan(*lists.values(), tmp_path)


@pytest.mark.parametrize(
    ("lists", "says"),
    [
        ((["mnist"], ["nnpu"], [0.1], [0]), "unknown configuration 'mnist'"),
        ((["mnist-even"], ["nnpu", "npu"], [0.1], [0]), "unknown method 'npu'"),
        ((["mnist-even"], ["nnpu"], [0.1, 1], [0]), r"beta must lie inside \(0, 1\).*got 1"),
        ((["mnist-even"], ["pretrained"], [0.1], [0]), "--pretrained"),
    ],
)
def test_what_cannot_be_is_refused_before_beta_is_estimated(tmp_path, monkeypatch, lists, says):
    monkeypatch.setattr(sweep_module, "estimated", lambda *_: pytest.fail("estimated"))
    configurations, methods, betas, seeds = lists
    with pytest.raises(UserError, match=says):
        plan(configurations, methods, ["estimate", *betas], seeds, tmp_path)


@pytest.fixture
def found(monkeypatch):
    """Stands in for the estimate, which is 0.1235 plus a tenth of the seed; returns the experiments that were asked."""
    asked = []

    def estimated(experiments, root):
        asked.extend(experiments)
        return [
            replace(exp, train=replace(exp.train, beta=0.1235 + exp.train.seed / 10), beta_interval=(0.1, 0.2))
            for exp in experiments
        ]

    monkeypatch.setattr(sweep_module, "estimated", estimated)
    return asked


def test_beta_is_estimated_where_it_was_asked_for_and_acts(tmp_path, found):
    entries = small(tmp_path, ["unsupervised", "nnpu", "abspu"], ["estimate", 0.3], [0, 1])
    assert {(e.method, e.train.seed) for e in found} == {(m, seed) for m in ("nnpu", "abspu") for seed in (0, 1)}
    betas = {(e.method, e.train.seed, e.train.beta): e.beta_interval for e in entries}
    wanted = {(method, seed, 0.1235 + seed / 10): (0.1, 0.2) for method in ("nnpu", "abspu") for seed in (0, 1)}
    wanted |= {(method, seed, 0.3): None for method in ("nnpu", "abspu") for seed in (0, 1)}
    assert betas == wanted | {("unsupervised", seed, 0.1): None for seed in (0, 1)}


def test_a_beta_that_is_given_and_estimated_is_one_run_marked_as_estimated(tmp_path, found):
    for betas in ([0.1235, "estimate"], ["estimate", 0.1235]):
        entries = small(tmp_path, ["nnpu"], betas)
        assert [(e.train.beta, e.beta_interval) for e in entries] == [(0.1235, (0.1, 0.2))]


def test_rows_are_written_as_soon_as_a_run_is_done_and_nothing_runs_twice(tmp_path):
    first, second = Engine(), Engine()
    outcome = sweep(small(tmp_path), tmp_path, first, quiet())
    assert first.lines == [1, 2, 3]
    assert read_rows(tmp_path / "rows.jsonl") == outcome.rows
    again = sweep(small(tmp_path, betas=[0.1, 0.2, 0.3]), tmp_path, second, quiet())
    assert [read_rows(tmp_path / "rows.jsonl")[-1]["run"]] == second.asked  # beta 0.2, and that alone
    assert [row["beta"] for row in again.rows] == [0.1, 0.1, 0.2, 0.3]
    assert len(read_rows(tmp_path / "rows.jsonl")) == 4


def test_a_run_of_train_is_adopted_unless_its_samples_are_others(tmp_path):
    one, other = small(tmp_path, ["nnpu"])
    leave(tmp_path, one)
    leave(tmp_path, other, row_of(other) | {"n_samples": 9})
    engine = Engine()
    outcome = sweep(small(tmp_path, ["nnpu"]), tmp_path, engine, quiet())
    assert engine.asked == [other.name]
    assert read_rows(tmp_path / "rows.jsonl") == outcome.rows == [row_of(one), row_of(other)]


def test_distances_on_other_features_are_other_runs(tmp_path):
    sweep(small(tmp_path, ["nnpu"], [0.1]), tmp_path, Engine(), quiet())
    entries = small(tmp_path, ["nnpu"], [0.1], sampling={"features": "inception"})
    engine = Engine()
    sweep(entries, tmp_path, engine, quiet())
    assert engine.asked == [entries[0].name]


def test_a_failure_does_not_stop_the_rest_and_is_forgotten_once_put_right(tmp_path):
    trace = "Traceback (most recent call last):\n  File x\nValueError: it broke\n"
    ends = {"unsupervised": ("error", "no data: get some"), "nnpu": ("crash", trace)}
    entries = small(tmp_path, ["unsupervised", "nnpu", "abspu"], [0.1])
    outcome = sweep(entries, tmp_path, Engine(ends), quiet())
    names = [e.name for e in entries]
    assert outcome.failures == {names[0]: "no data: get some", names[1]: "ValueError: it broke"}
    assert [row["run"] for row in outcome.rows] == names[2:]
    assert (tmp_path / "runs" / names[1] / "error.txt").read_text() == trace
    engine = Engine()
    assert sweep(entries, tmp_path, engine, quiet()).failures == {}
    assert engine.asked == names[:2]
    assert not list(tmp_path.glob("runs/*/error.txt"))


def test_a_full_disk_does_not_stop_the_rest_either(tmp_path, monkeypatch):
    def full(path, write):
        raise UserError("no room")

    def engine(experiments, root, hear):
        monkeypatch.setattr(sweep_module, "write_whole", full)
        hear(experiments[0].name, "error", "cannot write the checkpoint: make room")
        monkeypatch.undo()
        Engine()(experiments[1:], root, hear)

    outcome = sweep(small(tmp_path), tmp_path, engine, quiet())
    assert list(outcome.failures.values()) == ["cannot write the checkpoint: make room"]
    assert len(outcome.rows) == 2


def test_an_estimated_beta_is_said_in_the_row_that_a_launched_run_left(tmp_path):
    entries = [replace(experiment(beta=0.12), n_samples=8, beta_interval=(0.1, 0.2))]
    (tmp_path / "rows.jsonl").write_text(json.dumps(row_of(entries[0])) + "\n")
    outcome = sweep(entries, tmp_path, Engine(), quiet())
    assert read_rows(tmp_path / "rows.jsonl") == outcome.rows == [row_of(entries[0]) | entries[0].beta_row]
    assert entries[0].beta_row == {"beta_from": "estimate", "beta_low": 0.1, "beta_high": 0.2}
    assert json.loads(next(tmp_path.glob("runs/*/row.json")).read_text()) == row_of(entries[0])
    assert sweep(entries, tmp_path, Engine(), quiet()).rows == outcome.rows


def test_two_sweeps_in_one_folder_are_refused(tmp_path):
    with FileLock(tmp_path / ".sweep.lock"), pytest.raises(UserError, match="another sweep works in"):
        sweep(small(tmp_path), tmp_path, Engine(), quiet())
    sweep(small(tmp_path), tmp_path, Engine(), quiet())


def test_rows_of_two_writers_at_once_are_both_kept(tmp_path, monkeypatch):
    def slow(path):
        rows = read_rows(path)
        time.sleep(0.2)
        return rows

    path = tmp_path / "rows.jsonl"
    files.write_rows(path, [{"run": "a"}])
    monkeypatch.setattr(files, "read_rows", slow)
    monkeypatch.setattr(sweep_module, "read_rows", slow)
    with ThreadPoolExecutor() as threads:
        writers = [
            threads.submit(files.write_rows, path, [{"run": "b"}]),
            threads.submit(sweep_module._write_row, path, {"run": "c"}),
        ]
    assert [writer.result() for writer in writers] == [None, None]
    assert sorted(row["run"] for row in read_rows(path)) == ["a", "b", "c"]


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(UserError, match="cannot write to"):
        sweep([], tmp_path / "taken" / "out", Engine(), quiet())


def command(monkeypatch, tmp_path, engine, *arguments):
    monkeypatch.setattr("pudm_lite.runs.parallel.pool", lambda job, exps, root, hear, **lanes: engine(exps, root, hear))
    fixed = ["sweep", "--out", tmp_path, "--n-samples", 8, "--seed", 0]
    return cli.main([str(word) for word in [*fixed, *arguments]])


def test_the_command_reports_failures_and_ends_with_them(monkeypatch, tmp_path, capsys):
    engine = Engine({"supervised": ("error", "no data: get some")})
    assert command(monkeypatch, tmp_path, engine, "--beta", 0.1, 0.3) == 2
    out, err = capsys.readouterr()
    assert f"pudm report {tmp_path}/rows.jsonl" in out
    assert f"pudm figure4 {tmp_path}/rows.jsonl" in out
    *_, failure, last = err.splitlines()
    assert failure.startswith("mnist-even_supervised_seed0_")
    assert failure.endswith(": no data: get some")
    assert last.startswith("pudm: 1 of 4 runs failed")
    assert command(monkeypatch, tmp_path, Engine(), "--beta", 0.1, 0.3) == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--lanes", 0], "--lanes: it takes a whole number from 1"),
        (["--processes", 0], "--processes: it takes a whole number from 1"),
        (["--set", "beta=0.3"], "--set takes no beta: that is --beta"),
        (["--beta", 1.5], "beta must lie inside (0, 1)"),
        (["--slurm", "partition"], "--slurm takes NAME=VALUE"),
    ],
)
def test_what_the_command_refuses(monkeypatch, tmp_path, capsys, arguments, says):
    assert command(monkeypatch, tmp_path, pytest.fail, *arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line


def test_a_beta_that_is_no_number(monkeypatch, tmp_path, capsys):
    assert command(monkeypatch, tmp_path, pytest.fail, "--beta", "guess") == 2
    assert "'guess' is neither a number inside (0, 1) nor `estimate`" in capsys.readouterr().err
