"""benchmarks/peers.py: budgets kept, lines not run twice, the table; the peers themselves where they are installed."""

import importlib.util
import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

SPEC = importlib.util.spec_from_file_location("peers", Path(__file__).parent.parent / "benchmarks" / "peers.py")
peers = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(peers)


@pytest.fixture
def pass_time(monkeypatch):
    """A processor on which time passes only where it is told to, and a clock on which twice as much does."""
    now = [0.0]
    monkeypatch.setattr(peers.time, "process_time", lambda: now[0])
    monkeypatch.setattr(peers.time, "perf_counter", lambda: 2 * now[0])

    def work(seconds=1.0):
        now[0] += seconds

    return work


def test_a_budget_is_looked_at_between_steps(pass_time):
    pass_time(100)  # what came before is not counted
    budget = peers.Budget(3.5)
    for _ in budget.steps():
        pass_time()
    assert (budget.taken, budget.spent, budget.wall) == (4, 4, 8)


def test_a_budget_that_is_left_over_is_not_spent(pass_time):
    budget = peers.Budget(3.5)
    for _ in budget.steps(at_most=2):
        pass_time()
    assert (budget.taken, budget.spent) == (2, 2)


def test_a_step_that_is_left_unfinished_is_not_counted(pass_time):
    """As smalldiffusion's loop is used: it yields inside a step, and goes on when it is asked again."""

    def loop():
        while True:
            yield
            pass_time()

    budget = peers.Budget(3)
    for _ in zip(loop(), budget.steps(), strict=False):
        pass
    assert (budget.taken, budget.spent) == (3, 3)


def test_steps_that_fit_are_counted_without_the_slow_first_ones(pass_time):
    calls = iter([50, 50, *[2] * 5])
    assert peers.Budget(37).fitting(lambda: pass_time(next(calls))) == 18
    assert peers.Budget(1).fitting(lambda: pass_time(2)) == 1  # one at least


@pytest.fixture
def made_up(monkeypatch):
    """Contenders that train nothing, with what was asked of them in a list."""
    asked = []

    def contender(name):
        def train(data, budget, wanted):
            rate = wanted.learning_rate_asked
            asked.append((name, budget.seconds, wanted.batch_asked, rate))
            for _ in budget.steps(at_most=3):
                pass
            words = {"learning_rate": rate or 1e-4, "sampler": "ddim", "sampler_steps": 50}
            return peers.Trained(nn.Linear(2, 3), lambda n: torch.zeros(n, 1, 28, 28, dtype=torch.uint8), words)

        return train

    names = (peers.OURS, "diffusers")
    monkeypatch.setattr(peers, "CONTENDERS", {name: contender(name) for name in names})
    measured = {"frechet_distance": 5.0}
    monkeypatch.setattr(
        peers, "measures", lambda images, *_: SimpleNamespace(row={"n_samples": len(images), **measured})
    )
    monkeypatch.setattr(peers.torch, "set_num_threads", lambda n: None)  # of this process, which runs other tests
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    return asked


def lines(file):
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_a_finished_line_is_not_run_again(made_up, tmp_path, capsys):
    command = ["--seconds", "9", "--ours", "1", "2", "--n-samples", "105", "--out", str(tmp_path / "p.jsonl")]
    assert peers.main(command) == 0
    assert made_up == [("pudm_lite", 1, None, None), ("pudm_lite", 2, None, None), ("diffusers", 9, 64, None)]
    first = lines(tmp_path / "p.jsonl")
    assert [(row["contender"], row["budget_cpu_seconds"], row["steps"]) for row in first] == [
        ("pudm_lite", 1, 3),
        ("pudm_lite", 2, 3),
        ("diffusers", 9, 3),
    ]
    assert {row["n_samples"] for row in first} == {105}  # 100 and 5 of a peer, 105 of ours
    assert {"versions", "device", "threads", "train_cpu_seconds", "sample_cpu_ms", "parameters"} <= first[2].keys()
    assert "diffusers, 0.0 CPU s, 3 steps: distance 5.0" in capsys.readouterr().out
    del made_up[:]
    assert peers.main(command) == 0
    assert not made_up
    assert lines(tmp_path / "p.jsonl") == first
    assert peers.main([*command, "--learning-rate", "0.01"]) == 0  # for the peers alone
    assert peers.main([*command, "--batch-size", "16"]) == 0
    assert made_up == [("diffusers", 9, 64, 0.01), ("diffusers", 9, 16, None)]
    assert len(lines(tmp_path / "p.jsonl")) == 5


def made_row(contender, seconds, distance, rate=1e-3):
    return {
        "contender": contender,
        "version": "1.2",
        "budget_cpu_seconds": seconds,
        "train_cpu_seconds": seconds + 0.04,
        "steps": 1234,
        "batch": 64,
        "learning_rate": rate,
        "parameters": 1_600_000,
        "frechet_distance": distance,
        "frechet_floor": 0.18,
        "frechet_features": "judge-mnist-128",
        "sampler": "ddim",
        "sampler_steps": 50,
        "sample_cpu_ms": 97.4,
        "n_samples": 1000,
        "device": "cpu (one)",
    }


def test_the_table_has_its_command_above_and_says_how_far_ahead_ours_is(tmp_path, capsys):
    """Ours is compared with the best of the others, from the smallest budget at which it is closer than that."""
    file = tmp_path / "p.jsonl"
    rows = [
        made_row("smalldiffusion", 390, 400),
        made_row("diffusers", 390, 300),
        made_row("diffusers", 390, 200, 1e-2),
        made_row("pudm_lite", 37, 20),
        made_row("pudm_lite", 8, 250),
        made_row("pudm_lite", 17, 199),
    ]
    file.write_text("\n".join(map(json.dumps, rows)))
    assert peers.main(["--table", "--out", str(file)]) == 0
    text = capsys.readouterr().out.splitlines()
    assert text[0] == f"<!-- python benchmarks/peers.py --table --out {file} -->"
    assert text[-1] == "<!-- end -->"
    table = [line.split(" | ") for line in text if line.startswith("|")]
    assert len({len(line) for line in table}) == 1
    assert [(line[0], line[1], line[3]) for line in table[2:]] == [
        ("| pudm_lite 1.2", "8.0", "0.001"),
        ("| pudm_lite 1.2", "17.0", "0.001"),
        ("| pudm_lite 1.2", "37.0", "0.001"),
        ("| diffusers 1.2", "390.0", "0.001"),
        ("| diffusers 1.2", "390.0", "0.01"),
        ("| smalldiffusion 1.2", "390.0", "0.001"),
    ]
    assert table[3][2:] == ["1,234 x 64", "0.001", "1.6 M", "199.0", "ddim, 50 steps", "97 |"]
    (ahead,) = [line for line in text if "sooner" in line]
    assert ahead == (
        "- pudm_lite is closer at 17.0 CPU seconds than the best of the others, diffusers at 390.0 CPU seconds: "
        "23 times sooner, or more."
    )
    assert "n = 1,000, features judge-mnist-128; of as many real images: 0.18." in text[-3]


def test_the_table_does_not_boast():
    assert "nowhere closer" in peers.table([made_row("pudm_lite", 8, 250), made_row("diffusers", 390, 249)])
    alone = peers.table([made_row("diffusers", 390, 249)])
    assert "closer" not in alone


@pytest.mark.parametrize(("name", "other"), [("n_samples", 20), ("device", "cpu (another)")])
def test_lines_that_do_not_compare_are_in_no_table(capsys, tmp_path, name, other):
    rows = [made_row("pudm_lite", 8, 250), made_row("diffusers", 390, 249) | {name: other}]
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert peers.main(["--table", "--out", str(tmp_path / "p.jsonl")]) == 2
    assert capsys.readouterr().err.startswith(f"peers: the lines differ in {name} (")


def test_a_folder_that_takes_no_file_is_found_out_before_anything_is_trained(made_up, capsys, tmp_path):
    (tmp_path / "taken").write_text("mine")
    assert peers.main(["--out", str(tmp_path / "taken" / "p.jsonl")]) == 2
    assert "choose another folder with --out" in capsys.readouterr().err
    assert not made_up


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (("--seconds", "0"), "--seconds must be larger than 0; got 0"),
        (("--seconds", "nan"), "--seconds must be larger than 0; got nan"),
        (("--ours", "8", "-1"), "--ours must be larger than 0; got -1"),
        (("--learning-rate", "0"), "--learning-rate must be larger than 0; got 0"),
        (("--batch-size", "0"), "--batch-size must be at least 1; got 0"),
        (("--n-samples", "1"), "--n-samples must be at least 2 to measure a distance; got 1"),
        (("--table",), "no rows at nothing.jsonl: run an experiment first, or name the rows.jsonl of one"),
    ],
)
def test_options_out_of_range(capsys, tmp_path, monkeypatch, option, said):
    monkeypatch.chdir(tmp_path)
    assert peers.main([*option, "--out", "nothing.jsonl"]) == 2
    assert capsys.readouterr().err == f"peers: {said}\n"


def test_a_peer_that_is_not_installed(made_up, capsys, tmp_path, monkeypatch):
    monkeypatch.setitem(peers.CONTENDERS, "absent-peer", lambda *_: None)
    assert peers.main(["--contender", "absent-peer", "--out", str(tmp_path / "p.jsonl")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("peers: absent-peer or what it needs is not installed (")
    assert said.endswith("): pip install 'pudm_lite[bench]'\n")


@pytest.mark.slow
@pytest.mark.parametrize("name", peers.CONTENDERS)
def test_each_trains_and_draws(name):
    """A few steps on batches of 4: it runs, the budget ends it, and what it draws is measured."""
    pytest.importorskip(name.replace("-", "_"))
    row = peers.run(peers.Asked(name, budget_cpu_seconds=0.2, n_samples=2, batch_asked=4, learning_rate_asked=None))
    assert row["steps"] >= 1
    assert 0 < row["train_cpu_seconds"] < 20  # of a machine that may be busy
    assert row["n_samples"] == 2
    assert math.isfinite(row["frechet_distance"])
    assert row["frechet_features"] == "judge-mnist-128"
    assert row["sample_cpu_ms"] > 0
