"""The erasing bench: what a row says, pairs from the same noise, going on, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pudm_lite.conditional import Conditional, concept_table, load_conditional, save_conditional
from pudm_lite.datasets import to_model
from pudm_lite.diffusion import noise_schedule
from pudm_lite.erasing import methods
from pudm_lite.erasing.attacks.table import Attacked
from pudm_lite.erasing.measures import Drawn
from pudm_lite.errors import UserError
from pudm_lite.files import read_arrays
from pudm_lite.measures.judge import mnist_judge
from pudm_lite.measures.metrics import frechet_distance
from pudm_lite.networks import LiteUNet, Process
from pudm_lite.runs import erase_bench
from pudm_lite.runs.erase_bench import CLOSELY, Job, make_row, make_rows, planned
from pudm_lite.runs.erasing_samples import read_samples


def silent(what, value):
    pass


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A small untrained network whose pictures depend on what it is told."""
    torch.manual_seed(0)
    network = LiteUNet(block_channels=(8, 16, 16), stem_channels=4, time_dim=16, cross_attention_dim=64).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    table = concept_table(tuple("0123456789"), torch.nn.functional.normalize(torch.randn(10, 12), dim=1))
    folder = tmp_path_factory.mktemp("model")
    save_conditional(Conditional(network, Process(noise_schedule("lite").float(), "v_prediction"), table), folder / "p")
    return str(folder / "p")


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """Real images, too."""
    monkeypatch.setattr(erase_bench, "REAL_EACH", {"train": 3, "test": 20})
    erase_bench._real.cache_clear()


@pytest.fixture
def short(monkeypatch):
    """Methods of two steps of two images."""
    for name, recipe in methods.METHODS.items():
        monkeypatch.setitem(methods.METHODS, name, replace(recipe, steps=min(recipe.steps, 2), batch_size=2))


def job(model, method="none", **more):
    return Job(**{"method": method, "concept": "4", "seed": 0, "each": 2, "model": model} | more)


def test_the_unedited_model_is_the_first_row_and_does_no_harm(model, tmp_path):
    row = make_row(job(model), tmp_path / "runs" / "a", silent)
    assert row["harm"] == [0.0] * 10
    assert row["changed_tensors"] == row["changed_parameters"] == 0
    before = read_arrays(tmp_path / "runs" / "unedited_seed0_2_1.npz", "images", "rows")
    after = read_arrays(tmp_path / "runs" / "a" / "samples.npz", "images", "rows")
    assert (before["images"] == after["images"]).all()
    assert after["rows"].tolist() == sorted([*range(10)] * 2)
    assert sum(map(sum, row["matrix"])) == 20
    assert [sum(line) for line in row["matrix"]] == [2] * 10


def test_rates_follow_from_the_matrix(model, tmp_path):
    row = make_row(job(model), tmp_path / "runs" / "a", silent)
    matrix, erased = row["matrix"], 4
    assert row["esr_1"][0] == 1 - matrix[erased][erased] / 2
    hits = sum(matrix[k][k] for k in range(10) if k != erased)
    assert (row["psr_1"][0], row["psr_1"][3]) == (pytest.approx(hits / 18, abs=1e-5), 18)
    rates = {str(k): matrix[k][k] / 2 for k in range(10) if k != erased}
    assert row["worst_kept_rate"][0] == rates[row["worst_kept"]] == min(rates.values())
    called = read_arrays(tmp_path / "runs" / "unedited_seed0_2_1.npz", "called")["called"]
    assert row["null_share"][::3] == [(called == erased).mean(), 10]
    assert "frechet_retrained" not in row


def test_an_edit_is_measured_on_the_edited_model(model, tmp_path, short):
    row = make_row(job(model, "uce"), tmp_path / "runs" / "a", silent)
    assert row["changed_tensors"] == 10
    before = read_arrays(tmp_path / "runs" / "unedited_seed0_2_1.npz", "images")
    after = read_arrays(tmp_path / "runs" / "a" / "samples.npz", "images")
    assert (before["images"] != after["images"]).any()
    assert row["layers"] == "attn2-kv"


def test_an_edit_is_made_drawn_and_attacked_as_the_job_says(model, tmp_path, short, monkeypatch):
    """With the seed and the guidance of the job, on the network that it says; real images of the training set for the
    edit, of the test set for attacks; and the retrained model from noise of its own."""
    drawn, asked, edits, attacks = [], [], [], []
    success, failure = torch.tensor([True] * 4), torch.tensor([True, False, False, False])

    def attack(name, before, after, erased, judge, seed, images, labels):
        attacks.append((name, after, erased, seed, images))
        return Attacked(failure, success, (), None, 1.0, {"attack": name, "erased": erased, "seed": seed, "n": 4})

    def watch(name, seen):
        real = getattr(erase_bench, name)
        monkeypatch.setattr(erase_bench, name, lambda *given: (seen.append(given), real(*given))[1])

    for name, seen in (("drawn", drawn), ("_unprompted", asked), ("erase", edits)):
        watch(name, seen)
    monkeypatch.setattr(erase_bench, "attack", attack)
    wanted = job(model, "uce", seed=3, guidance=2.0, attacks=("noise",), retrained=model)
    row = make_row(wanted, tmp_path / "runs" / "a", silent)
    ((_, concept, method, seed, images, labels, _),) = edits
    assert (concept, method, seed, len(images)) == (("4",), "uce", 3, 30)
    assert torch.equal(images, to_model(erase_bench._real(28, "train")[0]))
    assert torch.equal(labels, torch.arange(10).repeat_interleave(3))
    unedited = erase_bench._model(model).network
    ((name, attacked, erased, seed, images),) = attacks
    assert (name, erased, seed, len(images)) == ("noise", "4", 3, 200)
    assert [given[0] for given in drawn[:2]] == [given[0] for given in asked[:2]] == [unedited, attacked.network]
    assert attacked.network is not unedited
    assert [given[3:] for given in drawn] == [(2, 3, 2.0), (2, 3, 2.0), (2, 1003, 2.0)]
    assert (row["attacks"]["noise"]["pre_asr"][0], row["attacks"]["noise"]["asr"][0]) == (0.25, 1.0)
    assert row["attacks"]["noise"]["budget"] == {"n": 4}


def verdict(wrong, features):
    """Two images of each digit, judged to be what they should be but for those in `wrong`, which pass for the next."""
    rows = torch.arange(10).repeat_interleave(2)
    seen = rows + torch.isin(torch.arange(20), torch.tensor(wrong, dtype=torch.long))
    probability = torch.full((20, 10), 0.01).scatter(1, (seen % 10)[:, None], 0.91)
    return Drawn(rows, probability, features, torch.zeros(20, 1, 28, 28, dtype=torch.uint8))


def test_what_is_measured_is_the_edit_against_the_unedited_and_the_retrained(model):
    judge = mnist_judge()
    size = judge.look(torch.zeros(1, 1, 28, 28, dtype=torch.uint8)).features.shape[1]
    before, after, reference = torch.randn(3, 20, size, generator=torch.Generator().manual_seed(0)) + torch.tensor(
        [0.0, 1.0, 2.0]
    ).view(3, 1, 1)
    found = verdict([8, 9, 14], after)  # both fours, and a seven
    kept = found.rows != 4
    row = erase_bench.measured(
        verdict([], before), found, verdict([], reference), [4], erase_bench._model(model), judge
    )
    assert (row["esr_1"][0], row["esr_1"][3]) == (1.0, 2)
    assert (row["psr_1"][0], row["psr_1"][3]) == (pytest.approx(17 / 18, abs=1e-5), 18)
    assert row["psr_1"][1] < row["psr_1"][0] < row["psr_1"][2]
    assert (row["worst_kept"], row["worst_kept_rate"][0]) == ("7", 0.5)
    drop = torch.tensor(0.91 / 0.01).log().item()
    assert row["harm"] == pytest.approx([0, 0, 0, 0, drop, 0, 0, drop / 2, 0, 0], abs=1e-4)
    distance = frechet_distance(after[kept].numpy(), reference[kept].numpy())
    assert row["frechet_retrained"] == pytest.approx(distance, abs=1e-4)


def test_a_row_is_written_whole_or_not_at_all(model, tmp_path, monkeypatch):
    def torn(path, text, **how):
        path.write_bytes(text[:20].encode())
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", torn)
    with pytest.raises(UserError, match="No space left on device"):
        make_row(job(model), tmp_path / "runs" / "a", silent)
    assert not (tmp_path / "runs" / "a" / "row.json").exists()


def test_a_retrained_model_is_drawn_from_and_is_no_edit(model, tmp_path):
    other = load_conditional(model)
    torch.nn.init.normal_(other.network.out.weight)
    save_conditional(other, tmp_path / "r")
    row = make_row(job(model, "retrained", retrained=str(tmp_path / "r")), tmp_path / "runs" / "a", silent)
    assert row["steps"] == 0
    before = read_arrays(tmp_path / "runs" / "unedited_seed0_2_1.npz", "images")
    assert (before["images"] != read_arrays(tmp_path / "runs" / "a" / "samples.npz", "images")["images"]).any()
    with_reference = make_row(job(model, retrained=str(tmp_path / "r")), tmp_path / "runs" / "b", silent)
    assert with_reference["frechet_retrained"] > 0


def test_a_finished_row_is_not_made_again_and_another_is(model, tmp_path, monkeypatch):
    first = make_row(job(model), tmp_path / "runs" / "a", silent)
    monkeypatch.setattr(erase_bench, "drawn", lambda *a: pytest.fail("drawn again"))
    assert make_row(job(model), tmp_path / "runs" / "a", silent) == first
    assert erase_bench.finished(tmp_path / "runs" / "a", job(model, each=3)) is None
    assert erase_bench.finished(tmp_path / "runs" / "a", job(model, seed=1)) is None
    assert erase_bench.finished(tmp_path / "runs" / "a", job(model, attacks=("noise",))) is None
    (tmp_path / "runs" / "a" / "row.json").write_text("{")
    assert erase_bench.finished(tmp_path / "runs" / "a", job(model)) is None


def test_rows_are_made_side_by_side_and_written(model, tmp_path):
    jobs = [job(model), job(model, concept="7")]
    rows = make_rows(jobs, tmp_path, lanes=2)
    assert [row["concept"] for row in rows] == ["4", "7"]
    written = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert sorted(written, key=lambda row: row["concept"]) == rows  # in the file as they came
    assert set(read_samples(tmp_path / "samples.npz")) == {("none", "4"), ("none", "7")}


def test_the_whole_bench_is_planned_widely_and_closely():
    jobs = planned([], [], [0, 1], None, [])
    digits = {name: {j.concept for j in jobs if j.method == name} for name in methods.METHODS}
    assert len(digits["esd-x"]) == len(digits["uce"]) == len(digits["none"]) == 10
    assert digits["ap-gumbel"] == set(CLOSELY)
    assert {j.seed for j in jobs} == {0, 1}
    assert not [j for j in jobs if j.method == "retrained"]  # there is none to draw from
    assert len({(j.name) for j in jobs}) == len(jobs)


def test_attacks_are_made_on_the_widely_measured_edits_of_two_digits_with_the_first_seed():
    jobs = planned(["none", "esd-x", "ap-gumbel"], ["1", "4"], [5, 6], None, ["noise"])
    assert {(j.method, j.concept, j.seed) for j in jobs if j.attacks} == {("esd-x", "4", 5)}


@pytest.mark.parametrize(
    ("methods_", "digits", "said"),
    [
        (["esdx"], [], "unknown method 'esdx'; known: none, esd-x"),
        ([], ["11"], "unknown digit '11'; known: 0, 1"),
        (["retrained"], ["4"], "no model retrained without 4.*mnist-without-4"),
    ],
)
def test_unknown_names_are_refused_in_one_sentence(methods_, digits, said, tmp_path):
    with pytest.raises(UserError, match=said):
        planned(methods_, digits, [0], tmp_path, [])
