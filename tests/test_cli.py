"""The command: help, refusals, and one miniature of everything it does."""

import json
import re
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from pudm_lite import cli
from pudm_lite.commands.options import METHOD_NAMES
from pudm_lite.recipes import RECIPES
from pudm_lite.risks import METHODS
from pudm_lite.runs.experiments import parse_settings
from pudm_lite.settings import TrainConfig

MUST_HOLD = """experiment, method, beta, realised_share, ell_scale, network, mode, seed, steps, n_samples, sampler,
sampler_steps, non_sensitive_rate, rate_low, rate_high, rate_corrected, frechet_distance, frechet_floor,
frechet_features, train_seconds, sample_seconds, peak_memory_mb, device, threads, versions""".replace(",", " ").split()


def pudm(*arguments: object, **kwargs) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "pudm_lite.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=280, **kwargs)


def refused(capsys, *arguments: object) -> str:
    """Run in this process; returns the one sentence on stderr."""
    assert cli.main([str(a) for a in arguments]) == 2
    message = capsys.readouterr().err.strip().splitlines()
    assert len(message) == 1
    assert message[0].startswith("pudm: ")
    return message[0]


def test_help_is_light_and_names_every_option(capsys):
    started = """import sys; from pudm_lite import cli; cli._parser()
print(sorted({"torch", "numpy", "diffusers"} & set(sys.modules)))"""
    assert subprocess.run([sys.executable, "-c", started], capture_output=True, text=True).stdout.strip() == "[]"
    with pytest.raises(SystemExit) as stop:
        cli.main(["figure1", "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for option in ["normal", "method", "beta", "seed", "network", "minutes", "steps", "n-samples", "out"]:
        assert f"--{option}" in text


def test_help_names_each_default_once_and_every_setting(capsys):
    for command in cli.COMMANDS:
        with pytest.raises(SystemExit):
            cli.main([command, "--help"])
        text = " ".join(capsys.readouterr().out.split())
        assert "(default: None)" not in text
        assert "(default: )" not in text
        assert "(default: [])" not in text
        assert not re.search(r"\(default[^()]*\) \(default", text)
        if "--set NAME=VALUE" in text:
            for setting in fields(TrainConfig):
                assert f"{setting.name} ({setting.default}): {setting.metadata['what']}" in text


def test_names_in_the_help_are_the_names_there_are():
    assert tuple(METHOD_NAMES.split(", ")) == METHODS
    assert set(RECIPES) == {"lite", "paper"}


@pytest.mark.parametrize("beta", [0, 1, -0.1, 1.5])
def test_beta_outside_its_range(capsys, tmp_path, beta):
    assert "beta must lie inside (0, 1)" in refused(capsys, "figure1", "--beta", beta, "--out", tmp_path)


def test_unknown_method_lists_the_known(capsys, tmp_path):
    message = refused(capsys, "figure1", "--method", "unsupervised", "npu", "--out", tmp_path)
    assert all(method in message for method in METHODS)


def test_unknown_network_lists_the_known(capsys, tmp_path):
    assert "known: lite, paper" in refused(capsys, "figure1", "--network", "tiny", "--out", tmp_path)


def test_unknown_configuration_lists_the_known(capsys, tmp_path):
    assert "known: mnist-even, mnist-odd" in refused(capsys, "train", "--experiment", "mnist", "--out", tmp_path)


@pytest.mark.parametrize("minutes", [0, -3])
def test_no_time_to_train(capsys, tmp_path, minutes):
    assert "--minutes must be larger than 0" in refused(capsys, "figure1", "--minutes", minutes, "--out", tmp_path)


def test_no_steps_to_train(capsys, tmp_path):
    assert "steps must be larger than 0" in refused(capsys, "figure1", "--steps", 0, "--out", tmp_path)


def test_too_few_samples_asked(capsys, tmp_path):
    assert "at least 2 samples" in refused(capsys, "figure1", "--n-samples", 1, "--out", tmp_path)


def test_other_settings_by_name(capsys, tmp_path):
    assert "one of method, beta, seed" in refused(capsys, "train", "--set", "scale=3", "--out", tmp_path)
    assert "ell_scale takes a value of type float; got 'x'" in refused(
        capsys, "train", "--set", "ell_scale=x", "--out", tmp_path
    )
    assert "known: pooled, two" in refused(capsys, "train", "--set", "stream=three", "--out", tmp_path)
    assert parse_settings(["ell_scale=100", "stream=two", "steps=7"]) == {
        "ell_scale": 100.0,
        "stream": "two",
        "steps": 7,
    }


@pytest.mark.parametrize("option", [("--sampler", "euler"), ("--sampler-steps", 0)])
def test_samplers_that_are_not_there(capsys, tmp_path, option):
    said = refused(capsys, "train", *option, "--out", tmp_path)
    assert "known: ddpm, ddim, dpmpp" in said or "argument --sampler-steps: it takes a whole number from 1" in said


def test_no_write_permission(capsys, tmp_path):
    """A file where the folder should be: refused for every user, root included."""
    (tmp_path / "taken").write_text("mine")
    assert "cannot write to" in refused(capsys, "figure1", "--out", tmp_path / "taken" / "out")
    assert (tmp_path / "taken").read_text() == "mine"


def test_fewer_images_than_needed(capsys, tmp_path):
    np.savez(tmp_path / "one.npz", images=np.zeros((1, 1, 28, 28), np.uint8))
    assert "holds 1 images; at least 2 are needed" in refused(capsys, "evaluate", tmp_path / "one.npz")


def test_evaluate_something_that_is_no_image_file(capsys, tmp_path):
    (tmp_path / "x.npz").write_text("no")
    assert "not an .npz file with an array `images`" in refused(capsys, "evaluate", tmp_path / "x.npz")


def test_sample_from_nothing(capsys, tmp_path):
    assert "holds no trained model" in refused(capsys, "sample", tmp_path)


def test_a_gpu_whose_memory_runs_out(capsys, monkeypatch):
    def full(options):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    monkeypatch.setattr("pudm_lite.commands.sample.run", full)
    assert refused(capsys, "sample", "model").startswith("pudm: the GPU's memory ran out: ")

    def broken(options):
        raise RuntimeError("it broke")

    monkeypatch.setattr("pudm_lite.commands.sample.run", broken)
    with pytest.raises(RuntimeError, match="it broke"):
        cli.main(["sample", "model"])


def test_report_on_nothing(capsys, tmp_path):
    assert "no rows at" in refused(capsys, "report", tmp_path / "rows.jsonl")


def test_damaged_data_file(tmp_path):
    (tmp_path / "mnist.npz").write_bytes(b"damaged")
    environment = {"PUDM_DATA": str(tmp_path), "PATH": "/usr/bin:/bin"}
    result = pudm("train", "--steps", 2, "--out", tmp_path / "out", env=environment)
    assert result.returncode == 2
    assert "is damaged (its sha256 is not the recorded one)" in result.stderr


@pytest.mark.slow
def test_figure1_end_to_end(tmp_path):
    """A miniature of `pudm figure1`: train both from scratch, be stopped, go on, judge, draw, and read it back."""
    command = ["figure1", "--steps", 60, "--n-samples", 64, "--out", tmp_path / "f"]
    process = subprocess.Popen(
        [sys.executable, "-m", "pudm_lite.cli", *map(str, command)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not list((tmp_path / "f").glob("runs/*/strip_*.png")):  # it trains, and shows what it has
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.2)
    workers = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    assert psutil.wait_procs(workers, timeout=30)[1] == []  # they notice, and do not train on for nobody
    result = pudm(*command)
    assert result.returncode == 0, result.stderr
    folder = tmp_path / "f"
    for name in ("figure1.png", "figure1.pdf"):
        assert (folder / name).stat().st_size > 20_000
    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    assert [row["method"] for row in rows] == ["unsupervised", "nnpu"]
    for row in rows:
        assert set(MUST_HOLD) <= set(row)
        assert row["realised_share"] == pytest.approx(1 / 11, abs=1e-4)
        assert 0 <= row["rate_low"] <= row["non_sensitive_rate"] <= row["rate_high"] <= 1
        assert row["frechet_distance"] > row["frechet_floor"] > 0
        log = json.loads((folder / "runs" / row["run"] / "log.json").read_text())
        assert log["value"][0][0] == 1
        assert len(log["value"]) == 60
        assert np.mean([v for _, v in log["L_U_minus"][-10:]]) < 0.7 * log["L_U_minus"][0][1]  # it learned

    again = pudm(*command)  # finished: nothing is trained a second time, and no row is doubled
    assert again.returncode == 0
    assert len((folder / "rows.jsonl").read_text().splitlines()) == 2

    model = folder / "runs" / rows[0]["run"] / "pipeline"
    drawn = pudm("sample", model, "--n-samples", 6, "--out", tmp_path / "six.npz")
    assert drawn.returncode == 0, drawn.stderr
    first = np.load(folder / "runs" / rows[0]["run"] / "samples.npz")["images"][:6].astype(int)
    assert np.abs(np.load(tmp_path / "six.npz")["images"].astype(int) - first).max() <= 2  # one seed, one picture
    judged = pudm("evaluate", tmp_path / "six.npz")
    assert json.loads(judged.stdout)["n_samples"] == 6
    assert re.search(r"\| mnist-even \| nnpu \(proposed\) \|", pudm("report", "--runs", folder / "rows.jsonl").stdout)


@pytest.mark.slow
def test_minutes_become_steps_once(tmp_path):
    result = pudm("train", "--minutes", 0.3, "--n-samples", 8, "--out", tmp_path)
    assert result.returncode == 0, result.stderr
    (plan,) = json.loads((tmp_path / "plan.json").read_text()).values()
    row = json.loads((tmp_path / "rows.jsonl").read_text())
    assert row["steps"] == plan
    assert row["train_seconds"] < 150  # eighteen asked, of a machine that may be busy


def test_readme_and_contributing_name_no_command_that_is_not_there():
    text = (Path(__file__).parent.parent / "README.md").read_text()
    commands = set(re.findall(r"pudm (\w+)", text))
    assert commands
    assert commands <= set(cli.COMMANDS)
