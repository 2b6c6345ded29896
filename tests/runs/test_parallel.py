"""Runs side by side: each is heard to its end, whatever that is, and none is left behind."""

import json
import multiprocessing
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from left import leave, row_of

from pudm_lite.errors import UserError
from pudm_lite.runs import parallel
from pudm_lite.runs.experiments import experiment
from pudm_lite.runs.keeping import finished
from pudm_lite.runs.machine import ENDS_WITH
from pudm_lite.runs.parallel import default_lanes, here, losses, pool, remember, run_all, steps_for
from pudm_lite.training import Record

FOUND_AT_IMPORT = os.environ.get("CUDA_VISIBLE_DEVICES")
"""A process that is started for a job imports this file to find it, as libraries that count devices are imported."""


def ends_as_its_seed_says(exp, folder, report):
    import torch

    report("step", Record(1, 2, 0.1, 3.0, {}))
    if exp.train.seed == 1:
        raise UserError("no data: get some")
    if exp.train.seed == 2:
        raise ValueError("it broke")
    if exp.train.seed == 3:
        os._exit(7)
    return str(folder), FOUND_AT_IMPORT, torch.get_num_threads()


def sleeps_beside_a_process(exp, folder, report):
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"]) as child:
        try:
            report("strip", child.pid)
            time.sleep(300)
        finally:
            child.terminate()


@pytest.mark.slow
def test_every_end_is_heard_and_each_run_has_devices_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(parallel, "gpus", lambda: ["4", "5", "6", "7"])
    monkeypatch.setattr(parallel, "cores", lambda: 12)
    monkeypatch.setattr(parallel, "threads_allowed", lambda: 12)
    experiments = [experiment(seed=seed) for seed in range(4)]
    names = [exp.name for exp in experiments]
    heard = {name: [] for name in names}
    pool(
        ends_as_its_seed_says,
        experiments,
        tmp_path,
        lambda name, what, value: heard[name].append((what, value)),
        lanes=2,
        processes=2,
    )
    for name, mail in heard.items():
        assert [what for what, _ in mail][:2] == ["start", "step"], name
        assert mail[1][1].value == 3.0
        assert len(mail) == 3
    folder, devices, threads = heard[names[0]][2][1]
    assert (folder, devices, threads) == (str(tmp_path / "runs" / names[0]), "4,5", 3)  # 12 cores, 2 lanes of 2
    assert heard[names[1]][2] == ("error", "no data: get some")
    what, trace = heard[names[2]][2]
    assert what == "crash"
    assert trace.startswith("Traceback")
    assert trace.endswith("ValueError: it broke\n")
    what, said = heard[names[3]][2]
    assert what == "error"
    assert "ended with code 7 (out of memory?)" in said
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == FOUND_AT_IMPORT  # this process keeps its own


def _threads_and_environment(exp, folder, report):
    import torch

    return torch.get_num_threads(), os.environ["OMP_NUM_THREADS"]


@pytest.mark.slow
@pytest.mark.parametrize(("given", "allowed", "used"), [(0, 1, 1), (0, 8, 4), (3, 1, 3)])
def test_a_run_has_the_threads_that_are_asked_for_or_left(tmp_path, monkeypatch, given, allowed, used):
    """Of eight cores two lanes leave each four; OMP_NUM_THREADS may say fewer, and --threads whatever it likes."""
    monkeypatch.setattr(parallel, "gpus", lambda: [])
    monkeypatch.setattr(parallel, "cores", lambda: 8)
    monkeypatch.setattr(parallel, "threads_allowed", lambda: allowed)
    heard = []
    pool(_threads_and_environment, [experiment()], tmp_path, lambda *word: heard.append(word), lanes=2, threads=given)
    assert heard[-1][1:] == ("done", (used, str(used)))


@pytest.mark.slow
def test_what_the_listener_raises_ends_every_process(tmp_path):
    before = psutil.Process().children()  # such as a server that another test forks from

    def hear(name, what, value):
        if what == "strip":
            seen.extend([psutil.Process(value), *psutil.Process().children()])
            raise UserError("the disk is full")

    seen = []
    with pytest.raises(UserError, match="the disk is full"):
        pool(sleeps_beside_a_process, [experiment()], tmp_path, hear)
    assert len(seen) >= 2
    started = [process for process in seen if process not in before and "resource_tracker" not in _command(process)]
    assert not [process for process in started if process.is_running()]


def says_nothing(exp, folder, report):
    (folder.parent / "pid").write_text(str(os.getpid()))
    time.sleep(300)


@pytest.mark.slow
def test_a_silent_job_ends_with_the_process_that_waits_for_it(tmp_path):
    """Killed, that one can end nothing; and the job, which has nothing to tell, would not notice by its pipe."""
    code = "import sys; from pathlib import Path; sys.path[:0] = sys.argv[2:]\n"
    code += "from test_parallel import experiment, pool, says_nothing\n"
    code += "if __name__ == '__main__': pool(says_nothing, [experiment()], Path(sys.argv[1]), lambda *_: None)\n"
    (tmp_path / "runs").mkdir()
    (tmp_path / "start.py").write_text(code)
    here = Path(__file__).parent
    starter = subprocess.Popen([sys.executable, tmp_path / "start.py", tmp_path, here, here.parent])
    word, until = tmp_path / "runs" / "pid", time.monotonic() + 120
    while not (word.exists() and word.read_text()) and time.monotonic() < until:
        time.sleep(0.1)
    worker = psutil.Process(int(word.read_text()))
    starter.kill()
    starter.wait()
    assert psutil.wait_procs([worker], timeout=30)[1] == []


def test_a_job_looks_for_the_process_that_waits_for_it(tmp_path, monkeypatch):
    """The same as above, by its two halves: who is named to the new process, and that this one looks for it."""
    told, looked = [], []

    class Started:
        def __init__(self, target, args, daemon): ...
        def start(self):
            told.append(os.environ.get(ENDS_WITH))
            raise UserError("started")

    context = type("Context", (), {"Pipe": multiprocessing.Pipe, "Process": Started})
    monkeypatch.setattr(parallel.multiprocessing, "get_context", lambda how: context)
    with pytest.raises(UserError, match="started"):
        pool(says_nothing, [experiment()], tmp_path, lambda *_: None)
    assert told == [str(os.getpid())]
    assert ENDS_WITH not in os.environ

    monkeypatch.setattr(parallel, "end_with", lambda: looked.append(1))
    monkeypatch.setattr(parallel.signal, "signal", lambda *_: None)
    ours, theirs = multiprocessing.Pipe(duplex=False)
    parallel._worker(lambda exp, folder, report: {"looked": len(looked)}, experiment(), tmp_path, 1, theirs)
    assert ours.recv() == ("done", {"looked": 1})


def _command(process):
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def test_lanes_go_by_gpus_or_else_by_cores(monkeypatch):
    monkeypatch.setattr(parallel, "cores", lambda: 6)
    monkeypatch.setattr(parallel, "gpus", lambda: [])
    assert [default_lanes(9), default_lanes(4), default_lanes(9, 2), default_lanes(9, 8)] == [6, 4, 3, 1]
    assert [default_lanes(9, threads=2), default_lanes(9, 3, 2), default_lanes(9, threads=7)] == [3, 1, 1]
    monkeypatch.setattr(parallel, "gpus", lambda: ["0", "1", "2", "3"])
    assert [default_lanes(9), default_lanes(9, 2), default_lanes(9, 8)] == [4, 2, 1]


def test_gpus_are_those_that_are_visible(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-a")
    assert parallel.gpus() == ["3", "GPU-a"]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert parallel.gpus() == ["0", "1"]


def test_what_is_found_once_is_remembered_with_the_rest(tmp_path):
    assert remember(tmp_path, ["beta", 0], lambda: 0.1) == 0.1
    assert remember(tmp_path, ["beta", 1], lambda: 0.2) == 0.2
    assert remember(tmp_path, ["beta", 0], lambda: pytest.fail("asked again")) == 0.1


def test_minutes_become_steps_by_the_slowest_of_the_rounds(tmp_path, monkeypatch):
    def timed(job, experiments, root, hear, threads):
        for i, exp in enumerate(experiments):
            hear(exp.name, "done", 0.5 + 0.5 * i)

    monkeypatch.setattr(parallel, "pool", timed)
    monkeypatch.setattr(parallel, "default_lanes", lambda jobs, threads: 2)
    experiments = [experiment(seed=seed) for seed in range(3)]
    assert steps_for(2, experiments, tmp_path) == 120 / 2 / 1.5  # two rounds
    monkeypatch.setattr(parallel, "pool", lambda *_, **__: pytest.fail("timed again"))
    assert steps_for(2, experiments, tmp_path) == 40


def test_too_few_minutes_say_how_many_are_enough(tmp_path, monkeypatch):
    monkeypatch.setattr(parallel, "pool", lambda job, exps, root, hear, threads: hear(exps[0].name, "done", 6.0))
    with pytest.raises(UserError, match=r"0.5 minutes are too few to train on this machine: give at least 1.0"):
        steps_for(0.5, [experiment()], tmp_path)


def test_the_first_failure_is_raised(tmp_path, monkeypatch):
    for end, error in ((("error", "no data: get some"), UserError), (("crash", "Traceback"), RuntimeError)):
        monkeypatch.setattr(parallel, "pool", lambda job, exps, root, hear, end=end, **_: hear(exps[0].name, *end))
        with pytest.raises(error, match=end[1]):
            run_all([experiment()], tmp_path, quiet=True)


def test_what_is_left_goes_on_with_the_lanes_and_threads_of_all(tmp_path, monkeypatch):
    """Of two runs one is finished: the other keeps to one thread of two, or its weights would be others."""
    asked = {}

    def pool(job, experiments, root, hear, lanes, threads):
        asked.update(lanes=lanes, left=len(experiments), threads=threads)
        hear(experiments[0].name, "done", {"run": "b"})

    monkeypatch.setattr(parallel, "cores", lambda: 2)
    monkeypatch.setattr(parallel, "gpus", lambda: [])
    monkeypatch.setattr(parallel, "pool", pool)
    monkeypatch.setattr(parallel, "finished", lambda root, exp: {"run": "a"} if exp.train.seed == 0 else None)
    assert run_all([experiment(seed=0), experiment(seed=1)], tmp_path, quiet=True) == [{"run": "a"}, {"run": "b"}]
    assert asked == {"lanes": 2, "left": 1, "threads": 0}
    run_all([experiment(seed=0), experiment(seed=1)], tmp_path, quiet=True, threads=2)
    assert asked == {"lanes": 1, "left": 1, "threads": 2}  # both cores for each, one after the other


def test_a_damaged_plan_is_made_again(tmp_path, capsys):
    assert remember(tmp_path, ["beta", 0], lambda: 0.3) == 0.3
    assert capsys.readouterr().out == ""
    for torn in ("", "[1]", '{"a": ', "[" * 99_999):
        (tmp_path / "plan.json").write_text(torn)
        assert remember(tmp_path, ["beta", 0], lambda: 0.1) == 0.1
        assert capsys.readouterr().out == f"{tmp_path}/plan.json is damaged: what it held is found again\n"
        assert json.loads((tmp_path / "plan.json").read_text()) == {'["beta", 0]': 0.1}


@pytest.mark.parametrize("rank", ["0", "1"])
def test_one_of_several_processes_runs_in_this_one_and_only_the_first_keeps_a_row(tmp_path, monkeypatch, capsys, rank):
    def run(exp, folder, report):
        report("step", Record(1, 2, 0.1, 3.0, {}))
        return {"run": exp.name} if rank == "0" else {}

    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setattr("pudm_lite.runs.keeping.run", run)
    exp = experiment()
    rows = run_all([exp], tmp_path)
    folder = tmp_path / "runs" / exp.name
    assert rows == ([{"run": exp.name}] if rank == "0" else [])
    assert folder.exists() == (rank == "0")
    if rank == "0":
        assert json.loads((folder / "row.json").read_text()) == rows[0]
        assert json.loads((folder / "progress.json").read_text())[0] == "step"
    assert ("step" in capsys.readouterr().err) == (rank == "0")  # the bar


def test_a_failure_in_this_process_is_raised_as_it_is(tmp_path, monkeypatch):
    def run(exp, folder, report):
        raise UserError("no data: get some")

    monkeypatch.setattr("pudm_lite.runs.keeping.run", run)
    with pytest.raises(UserError, match="no data"):
        here([experiment()], tmp_path, lambda *_: None)


def test_finished_runs_are_not_run_again(tmp_path, monkeypatch):
    exp = experiment()
    row = row_of(exp)
    leave(tmp_path, exp)
    monkeypatch.setattr(parallel, "pool", lambda job, exps, root, hear, **_: exps and pytest.fail("ran again"))
    assert run_all([exp], tmp_path, quiet=True) == [row]
    assert finished(tmp_path, replace(exp, n_samples=3)) is None
    assert finished(tmp_path, replace(exp, sampler="ddim")) is None


def test_losses_are_told_once_s_was_looked_at():
    assert losses({"L_U_minus": 2.0}) == ""
    assert losses({"L_U_minus": 2.04, "L_S_minus": 30.0}) == "loss U 2.0, S 30.0"
    assert losses({"L_N_minus": 1.0, "L_S_minus": 30.0}) == "loss U 1.0, S 30.0"
