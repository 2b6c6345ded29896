"""`pudm push`: what reaches the hub, by a hub that is made up; no network."""

import json

import pytest
import torch
from diffusers import DDIMPipeline
from diffusers.utils import hub_utils
from huggingface_hub import ModelCard, repocard

from pudm_lite import cli
from pudm_lite.networks import make_network, make_process, open_network, save_pipeline
from pudm_lite.recipes import RECIPES
from pudm_lite.runs.experiments import experiment

MEASURED = {
    **{"non_sensitive_rate": 0.95, "rate_low": 0.93, "rate_high": 0.97, "judge_kept": 0.97, "judge_caught": 0.9},
    **{"frechet_distance": 1.5, "frechet_floor": 0.1, "frechet_features": "judge-folders-128"},
}


@pytest.fixture
def finished(tmp_path):
    """The folder of a run, as far as `push` reads it."""
    save_pipeline(make_network("lite"), make_process(RECIPES["lite"]), tmp_path / "run" / "pipeline")
    row = experiment("mnist-even", "nnpu").as_row() | MEASURED
    row |= {"labelled": 2500, "realised_share": 0.0909, "parameters": 1_093_203}
    (tmp_path / "run" / "row.json").write_text(json.dumps(row))
    return tmp_path / "run"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A folder that takes what the hub would; and what was asked of it."""
    asked = []

    class Repo:
        repo_id = "me/model"

    def create_repo(repo_id, private, **_):
        asked.append(("create", repo_id, private))
        return Repo

    def upload_folder(repo_id, folder_path, **_):
        asked.append(("folder", repo_id))
        for path in sorted(p for p in folder_path_of(folder_path).rglob("*") if p.is_file()):
            target = tmp_path / "hub" / path.relative_to(folder_path)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())

    def folder_path_of(path):
        return type(tmp_path)(path)

    def upload_file(path_or_fileobj, path_in_repo, repo_id, **_):
        asked.append(("file", repo_id, path_in_repo))
        (tmp_path / "hub" / path_in_repo).write_bytes(folder_path_of(path_or_fileobj).read_bytes())

    monkeypatch.setattr(hub_utils, "create_repo", create_repo)
    monkeypatch.setattr(hub_utils, "upload_folder", upload_folder)
    monkeypatch.setattr(hub_utils, "load_or_create_model_card", lambda *a, **k: ModelCard("---\ntags: [a]\n---\n"))
    monkeypatch.setattr(repocard, "upload_file", upload_file)
    monkeypatch.setattr(ModelCard, "validate", lambda self, **_: None)
    return tmp_path / "hub", asked


@pytest.mark.parametrize("private", [False, True])
def test_pipeline_and_card_reach_the_hub(finished, hub, capsys, private):
    folder, asked = hub
    assert cli.main(["push", str(finished), "me/model", *(["--private"] if private else [])]) == 0
    assert capsys.readouterr().out == "https://huggingface.co/me/model\n"
    assert asked == [("create", "me/model", private or None), ("folder", "me/model"), ("file", "me/model", "README.md")]
    network, _ = open_network(str(folder))
    same, _ = open_network(str(finished / "pipeline"))
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), same.parameters(), strict=True))
    assert isinstance(DDIMPipeline.from_pretrained(folder), DDIMPipeline)
    card = ModelCard.load(folder / "README.md")
    assert card.data.library_name == "diffusers"
    for part in (
        *("# mnist-even, Proposed", "Assumed sensitive share: 0.1.", "9.1% hidden in U", "1,093,203 parameters"),
        *("non-sensitive rate 0.950 [0.930, 0.970] by a judge that keeps 97.0% of the normal", "It is no promise"),
        *('DDIMPipeline.from_pretrained("me/model")', "import pudm_lite.networks"),
    ):
        assert part in card.text
    assert json.loads(card.text.partition("```json")[2].partition("```")[0]) == json.loads(
        (finished / "row.json").read_text()
    )


def test_a_hub_that_refuses_costs_one_sentence(finished, hub, capsys, monkeypatch):
    def refuse(*_, **__):
        raise OSError("401 Client Error: Unauthorized\nmore of it")

    monkeypatch.setattr(hub_utils, "create_repo", refuse)
    assert cli.main(["push", str(finished), "me/model"]) == 2
    said = capsys.readouterr().err.splitlines()[-1]  # the libraries may warn before
    assert said == (
        "pudm: the hub took no me/model (OSError: 401 Client Error: Unauthorized): "
        "log in with `hf auth login`, then try again"
    )


@pytest.mark.parametrize("row", [None, "no json", "[]", "{}"])
def test_a_folder_without_a_finished_run(tmp_path, hub, capsys, row):
    if row is not None:
        (tmp_path / "row.json").write_text(row)
    assert cli.main(["push", str(tmp_path), "me/model"]) == 2
    assert "holds no finished run: name a folder OUT/runs/NAME" in capsys.readouterr().err
    assert hub[1] == []
