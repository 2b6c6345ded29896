"""What a sweep shows: how many runs are where, and how long is left at the pace so far."""

import io

import pytest
from rich.console import Console

from pudm_lite.runs import sweep_table
from pudm_lite.runs.experiments import experiment
from pudm_lite.runs.sweep_table import SweepTable, sentence, work
from pudm_lite.training import Record

EXPERIMENTS = [experiment(seed=seed, steps=100, batch_size=10, n_samples=40, sampler_steps=25) for seed in range(4)]
A, B, C, D = (exp.name for exp in EXPERIMENTS)  # each: 3,000 for training, 1,000 for 40 samples at 25 steps


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(sweep_table.time, "monotonic", lambda: now[0])
    return now


def step(i, **terms):
    return Record(i, 100, 1.0, 0.0, terms)


def table(terminal=False, done=0):
    return SweepTable(EXPERIMENTS, done, Console(file=io.StringIO(), force_terminal=terminal, width=200))


def shown(t):
    return t.console.file.getvalue()


def test_a_run_costs_three_passes_a_trained_image_and_one_a_sampling_step():
    assert work(EXPERIMENTS[0], 100, 40) == 3 * 10 * 100 + 25 * 40


def test_counts_and_time_left(clock):
    t = table(done=2)
    assert t.counts() == "2 done, 0 running, 4 left, 0 failed"
    t.hear(A, "start", None)
    clock[0] = 5
    t.hear(A, "step", step(20))  # the first word; an earlier session did these: no pace yet
    assert t.counts() == "2 done, 1 running, 3 left, 0 failed"
    clock[0] = 15
    t.hear(A, "step", step(70))  # 1,500 in 10 s of this run, in 15 s of the sweep
    assert t.run_time_left(A) == pytest.approx((4000 - 2100) / 150)
    assert t.time_left() == pytest.approx((4 * 4000 - 2100) / 100)
    clock[0] = 25
    t.hear(A, "sample", (10, 40))
    assert t.run_time_left(A) == pytest.approx(750 / ((3250 - 600) / 20))
    clock[0] = 30
    t.hear(A, "done", {})
    t.hear(B, "error", "no data: get some")
    t.hear(C, "crash", "Traceback\nValueError: it broke\n")
    assert t.time_left() == pytest.approx(4000 / ((4000 - 600) / 30))  # D
    assert t.counts() == "3 done, 0 running, 1 left, 2 failed; 0:00:35 to go"
    t.hear(D, "done", {})
    assert t.counts() == "4 done, 0 running, 0 left, 2 failed"


def test_failures_are_told_at_once():
    t = table()
    t.hear(A, "crash", "Traceback\nValueError: it [broke]\n")
    assert shown(t) == f"{A} failed: ValueError: it [broke]\n"
    assert sentence("one\ntwo: three\n\n") == "two: three"


def test_a_log_gets_a_line_a_minute(clock):
    t = table()
    with t:
        for second in range(0, 121, 10):
            clock[0] = second
            t.hear(A, "step", step(1 + second // 10, L_U_minus=3.0, L_S_minus=40.0))
        t.hear(A, "step", step(14, L_U_minus=2.0))
    lines = shown(t).splitlines()
    assert len(lines) == 3  # after 60, 120 seconds, and at the end
    assert lines[0].startswith("0 done, 1 running, 3 left, 0 failed; ")
    assert f"{A}, step 7/100, loss U 3.0, S 40.0, 0:" in lines[0]
    assert "step 14/100, loss U 2.0, S 40.0" in lines[2]  # S is looked at now and then only


def test_a_terminal_gets_a_table_in_place(clock):
    t = table(terminal=True)
    with t:
        t.hear(A, "start", None)
        clock[0] = 1
        t.hear(B, "sample", (10, 40))
    text = shown(t)
    assert "0 done, 2 running, 2 left, 0 failed" in text
    assert f"{A} │ starting" in text
    assert f"{B} │ sample 10/40" in text
    assert "\x1b[1A" in text  # the cursor goes back up
