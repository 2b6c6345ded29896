"""Runs as jobs: through submitit's local executor, which does on this machine what SLURM does on a cluster."""

import os
import time
from pathlib import Path

import pytest
import submitit

from pudm_lite.errors import UserError
from pudm_lite.runs.cluster import ANYWHERE, ClusterJob, executor, parameters, submit
from pudm_lite.runs.experiments import experiment
from pudm_lite.training import Record


def ends_as_its_seed_says(exp, folder, report):
    report("step", Record(1, 2, 0.1, 3.0, {}))
    if exp.train.seed == 1:
        raise UserError("no data: get some")
    if exp.train.seed == 2:
        os._exit(7)
    while not (folder / "heard").exists():  # a job that ends at once may end before it is looked at
        time.sleep(0.1)
    return str(folder)


def waits(exp, folder, report):
    report("step", Record(1, 2, 0.1, 3.0, {}))
    time.sleep(300)


@pytest.fixture
def tests_importable(monkeypatch):
    """A job unpickles its function by the name of this module."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))


@pytest.mark.slow
@pytest.mark.usefixtures("tests_importable")
def test_every_end_of_a_job_is_heard(tmp_path):
    experiments = [experiment(seed=seed) for seed in (0, 2)]
    names = [exp.name for exp in experiments]
    heard = {name: [] for name in names}

    def hear(name, *word):
        heard[name].append(word)
        (tmp_path / "runs" / name / "heard").touch()

    local = executor(tmp_path, ["cluster=local", "timeout_min=5"], 0, 1)
    submit(ends_as_its_seed_says, experiments, tmp_path, hear, local, every=0.1)
    assert heard[names[0]][0] == ("step", Record(1, 2, 0.1, 3.0, {}))
    assert heard[names[0]][-1] == ("done", str(tmp_path / "runs" / names[0]))
    what, said = heard[names[1]][-1]
    assert what == "error"
    assert "ended without a result (out of memory or time?)" in said
    assert str(tmp_path / "submitit") in said


@pytest.mark.slow
@pytest.mark.usefixtures("tests_importable")
def test_what_the_listener_raises_cancels_the_jobs(tmp_path):
    jobs = []
    local = executor(tmp_path, ["cluster=local"], 0, 1)

    class Watched:
        """Keeps the jobs that are submitted."""

        batch = local.batch

        def submit(self, *call):
            jobs.append(local.submit(*call))
            return jobs[-1]

    def hear(name, *word):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        submit(waits, [experiment()], tmp_path, hear, Watched(), every=0.1)
    deadline = time.monotonic() + 120
    while not jobs[0].done():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_job_pushed_aside_is_queued_again_as_it_was(tmp_path):
    job = ClusterJob(ends_as_its_seed_says, experiment(seed=1), tmp_path)
    again = job.checkpoint()
    assert again.function is job
    assert again.function() == ("error", "no data: get some")


def test_settings_are_submitits_or_slurms():
    assert set(ANYWHERE) == set(submitit.AutoExecutor._typed_parameters())
    assert parameters(["partition=gpu", "timeout_min=60", "gres=gpu:2"], lanes=3, processes=2) == (
        "slurm",
        {
            "name": "pudm",
            "timeout_min": 60,
            "gpus_per_node": 2,
            "slurm_array_parallelism": 3,
            "slurm_partition": "gpu",
            "slurm_gres": "gpu:2",
        },
    )


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (["partition"], "--slurm takes NAME=VALUE"),
        (["cluster=local", "partitions=gpu"], "partitions"),
        (["cluster=local", "timeout_min=long"], "timeout_min"),
        (["cluster=moon"], "moon"),
        (["partition=gpu"], "there is no SLURM on this machine"),
    ],
)
def test_settings_that_nobody_knows(tmp_path, monkeypatch, settings, says):
    monkeypatch.setenv("PATH", str(tmp_path))  # no srun
    with pytest.raises(UserError, match=says) as caught:
        executor(tmp_path, settings, 0, 1)
    assert "\n" not in str(caught.value)


def test_nothing_to_run_submits_nothing(tmp_path):
    submit(waits, [], tmp_path, pytest.fail, None)
