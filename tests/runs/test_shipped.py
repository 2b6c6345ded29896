"""Shipped networks: written and opened again, never in place of a training in fast mode, and as good as they claim."""

import hashlib
import json
import shutil
from dataclasses import replace

import pytest
import torch

from pudm_lite import datasets
from pudm_lite.cli import main
from pudm_lite.errors import UserError
from pudm_lite.networks import load_pipeline, make_network, make_process, open_network, save_pipeline
from pudm_lite.recipes import recipe_for
from pudm_lite.runs import shipped
from pudm_lite.runs.experiments import experiment
from pudm_lite.runs.measuring import measure
from pudm_lite.runs.running import material, run
from pudm_lite.runs.shipped import allowed, file_name, thinned, trained
from pudm_lite.sampling import draw
from pudm_lite.splits import CONFIGURATIONS

FILES = sorted(name for name in datasets.SHA256 if name.startswith("models/"))
TINY = replace(experiment("mnist-even", "nnpu", steps=3, batch_size=16), n_samples=4, sampler_steps=2)


@pytest.mark.parametrize(
    ("mode", "switch", "may"), [("fast", "0", False), ("lab", "0", True), ("lab", "1", False), ("full", "0", False)]
)
def test_where_a_shipped_network_may_stand_for_a_training(monkeypatch, mode, switch, may):
    monkeypatch.setenv("PUDM_MODE", mode)
    monkeypatch.setenv("PUDM_NO_CHECKPOINTS", switch)
    assert allowed() is may


def test_curves_are_averaged_in_groups():
    log = {"value": [[i + 1, float(i % 2)] for i in range(1000)], "unknown": [[1, 2.0]]}
    curves = thinned(log)
    assert set(curves) == {"value"}
    assert curves["value"].shape == (shipped.POINTS, 2)
    assert curves["value"][0].tolist() == pytest.approx([3.0, 0.4])


@pytest.mark.slow
def test_ship_and_open_again(monkeypatch, tmp_path, capsys):
    row = run(TINY, tmp_path / "out" / "runs" / TINY.name)
    (tmp_path / "out" / "runs" / TINY.name / "row.json").write_text(json.dumps(row))
    assert main(["ship", str(tmp_path / "out"), "--out", str(tmp_path / "data")]) == 0
    name = file_name(row)
    digest = hashlib.sha256((tmp_path / "data" / name).read_bytes()).hexdigest()
    assert f"{digest}  {name}" in capsys.readouterr().out
    shutil.copytree(tmp_path / "out" / "runs" / TINY.name, tmp_path / "out" / "runs" / "again")
    with pytest.raises(UserError, match="two runs under"):
        shipped.ship(tmp_path / "out", tmp_path / "elsewhere")
    shutil.rmtree(tmp_path / "out" / "runs" / "again")
    monkeypatch.setenv("PUDM_DATA", str(tmp_path / "data"))
    monkeypatch.setitem(datasets.SHA256, name, digest)
    monkeypatch.setenv("PUDM_MODE", "lab")
    opened = trained(TINY, tmp_path / "never")
    assert not (tmp_path / "never").exists()
    assert opened.row == row
    assert opened.curves["value"][:, 0].tolist() == [1, 2, 3]
    network, _ = load_pipeline(tmp_path / "out" / "runs" / TINY.name / "pipeline")
    for a, b in zip(opened.network.parameters(), network.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-6)


@pytest.mark.skipif(not FILES, reason="no network is shipped")
@pytest.mark.parametrize("other", [{"beta": 0.3}, {"steps": 100}, {"labelled": 50}, {"batch_size": 32}, {"seed": 1}])
def test_a_shipped_network_stands_only_for_its_own_settings(other):
    row = shipped.shipped("models/mnist-even_nnpu_seed0.safetensors").row
    assert shipped.is_of(row, experiment("mnist-even", "nnpu"))
    assert not shipped.is_of(row, experiment("mnist-even", "nnpu", **other))
    assert not shipped.is_of(row, experiment("mnist-odd", "nnpu"))


def finished_run(out, name="run", **settings):
    """A folder as a run leaves it, with an untrained network."""
    row = {"experiment": "standin-32", "method": "nnpu", "network": "lite", "pretrained": "", "beta": 0.1, "seed": 0}
    row = {**row, "steps": 3, **settings}
    folder = out / "runs" / name
    recipe = recipe_for("lite", CONFIGURATIONS["standin-32"])
    torch.manual_seed(1)
    network = make_network("lite", recipe.channels, recipe.image_size)
    torch.nn.init.normal_(network.out.weight)
    save_pipeline(network, make_process(recipe), folder / "pipeline")
    (folder / "row.json").write_text(json.dumps(row))
    (folder / "log.json").write_text(json.dumps({"value": [[1, 2.0], [2, 1.0]]}))
    return network, recipe


@torch.no_grad()
def test_fine_tuned_colour_networks_are_shipped_and_opened_by_path(tmp_path):
    finished_run(tmp_path / "out", "scratch")
    network, recipe = finished_run(tmp_path / "out", "tuned", pretrained="before.safetensors")
    finished_run(tmp_path / "out", "given", pretrained="before.safetensors", method="pretrained", steps=0)
    paths = shipped.ship(tmp_path / "out", tmp_path / "data")  # the third trained nothing
    assert [path.name for path in paths] == [
        "standin-32_nnpu_seed0.safetensors",
        "standin-32_nnpu_seed0_finetuned.safetensors",
    ]
    found, process = open_network(str(paths[1]))
    x, t = torch.randn(2, 3, 32, 32), torch.tensor([1, 500])
    kept = network.half().float()  # files hold half precision
    torch.testing.assert_close(found(x, t).sample, kept(x, t).sample)
    torch.testing.assert_close(process.alpha_bar, make_process(recipe).alpha_bar)
    assert (process.prediction, found.training) == ("v_prediction", False)


def test_the_name_of_a_fine_tuned_run_is_that_of_its_experiment():
    exp = experiment("mnist-odd", "supervised", pretrained="before.safetensors")
    assert file_name(exp) == "models/mnist-odd_supervised_seed0_finetuned.safetensors"
    row = {"experiment": "mnist-odd", "method": "supervised", "seed": 0, "pretrained": "before.safetensors"}
    assert file_name(row) == file_name(exp)
    assert file_name(experiment("mnist-odd", "supervised")) == "models/mnist-odd_supervised_seed0.safetensors"


def test_a_fine_tuned_network_does_not_stand_for_one_from_scratch():
    exp = experiment("mnist-even", "nnpu", pretrained="before.safetensors")
    row = {"experiment": "mnist-even", "method": "nnpu", "network": "lite", "steps": exp.train.steps}
    assert shipped.is_of({**row, "pretrained": "before.safetensors"}, exp)
    assert not shipped.is_of({**row, "pretrained": "another.safetensors"}, exp)
    assert not shipped.is_of(row, exp)  # a row from before fine-tuning


@pytest.mark.parametrize(
    "settings", [{"network": "paper"}, {"experiment": "mnist-even"}, {"experiment": "my pictures"}]
)
def test_a_network_that_its_row_does_not_name_is_not_shipped(tmp_path, settings):
    finished_run(tmp_path, **settings)
    with pytest.raises(UserError, match="share the run's folder `pipeline` instead"):
        shipped.ship(tmp_path, tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_a_process_that_its_row_does_not_name_is_not_shipped(tmp_path):
    network, recipe = finished_run(tmp_path)
    save_pipeline(network, make_process(replace(recipe, schedule="linear")), tmp_path / "runs" / "run" / "pipeline")
    with pytest.raises(UserError, match="share the run's folder `pipeline` instead"):
        shipped.ship(tmp_path, tmp_path / "data")


@pytest.mark.slow
def test_fast_mode_trains(monkeypatch, tmp_path):
    monkeypatch.setenv("PUDM_MODE", "fast")
    monkeypatch.setattr(shipped, "shipped", lambda name: pytest.fail("opened a shipped network"))
    assert trained(TINY, tmp_path).row["steps"] == 3


def test_a_folder_without_runs_is_refused(tmp_path):
    with pytest.raises(UserError, match="holds no finished run"):
        shipped.ship(tmp_path, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_a_shipped_network_is_what_its_row_claims(name):
    """500 new images: the rate within four standard errors, confidence and distance near the row's."""
    found = shipped.shipped(name)
    row, n = found.row, 500
    conditional = row.get("conditional", 0)
    exp = experiment(row["experiment"], row["method"], seed=row["seed"], steps=row["steps"], conditional=conditional)
    exp = replace(exp, sample_seed=99)
    assert (row["sampler"], row["sampler_steps"]) == (exp.sampler, exp.sampler_steps)
    data = material(exp)
    told = {}
    if conditional:
        concepts = shipped.shipped_conditional(name).concepts
        told = {"prompts": concepts.tokens.data[data.prompted(n)], "null": concepts.null.data}
    verdict = data.judge.look(draw(found.network, found.process, n, **exp.sampling, **told))
    again = measure(verdict, data)
    if conditional:
        assert float((verdict.classes == data.prompted(n)).double().mean()) > row["prompted_rate"] - 0.03
    rate = row["non_sensitive_rate"]
    assert abs(again["non_sensitive_rate"] - rate) <= 4 * (rate * (1 - rate) * (1 / n + 1 / row["n_samples"])) ** 0.5
    assert again["judge_confidence"] == pytest.approx(row["judge_confidence"], abs=0.02)
    assert again["frechet_distance"] < row["frechet_distance"] + 1.0  # grows as n falls


def test_every_shipped_network_names_its_command():
    from safetensors import safe_open

    for name in FILES:
        with safe_open(datasets.checked_file(name), "pt") as file:
            row = json.loads(file.metadata()["row"])
            assert file.metadata()["command"].startswith(f"pudm train --experiment {row['experiment']} --method")
