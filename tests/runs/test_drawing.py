"""A run's samples: shared by processes, kept batch by batch, and the same pictures whoever draws them."""

import json
from functools import partial

import numpy as np
import pytest
import torch
from groups import together
from sharing import EXPERIMENTS

from pudm_lite.networks import make_network, make_process
from pudm_lite.recipes import RECIPES
from pudm_lite.runs import drawing
from pudm_lite.runs.drawing import draw_share, gather
from pudm_lite.runs.running import run
from pudm_lite.sampling import draw

HOW = {"sampler": "ddpm", "steps": 2, "seed": 3}


@pytest.fixture(scope="module")
def model():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = make_network("lite", 1, 8).eval()
        torch.nn.init.normal_(network.out.weight)
    return network, make_process(RECIPES["lite"])


@pytest.fixture
def drawn(monkeypatch):
    """Batches of two; which were drawn, by their first image."""
    drawn = []

    def noted(network, process, n, **how):
        drawn.append(how["first"])
        return draw(network, process, n, **how)

    monkeypatch.setattr(drawing, "images_at_once", lambda shape: 2)
    monkeypatch.setattr(drawing, "draw", noted)
    return drawn


def test_shares_add_up_to_what_one_process_draws(model, drawn, tmp_path):
    alone = gather(draw_share(*model, 7, tmp_path / "alone", 0, 1, **HOW))
    assert drawn == [0, 2, 4, 6]
    for processes in (2, 3, 5):
        drawn.clear()
        folder = tmp_path / str(processes)
        shares = []
        for rank in range(processes):
            drawn.clear()
            files = draw_share(*model, 7, folder, rank, processes, **HOW)
            shares.append(list(drawn))
        assert sorted([first for share in shares for first in share]) == [0, 2, 4, 6]
        assert max(map(len, shares)) - min(map(len, shares)) <= 1
        assert torch.equal(gather(files), alone)
    assert (alone.int() - draw(*model, 7, **HOW).int()).abs().max() <= 1  # in one batch, up to rounding
    assert len({tuple(image.flatten().tolist()) for image in alone}) == 7


def test_a_cut_loses_the_batch_at_work_and_nothing_is_drawn_twice(model, drawn, tmp_path):
    def cut(done, of):
        if done >= 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        draw_share(*model, 7, tmp_path, 0, 1, cut, **HOW)
    assert drawn == [0, 2]
    heard = []
    files = draw_share(*model, 7, tmp_path, 0, 1, lambda done, of: heard.append((done, of)), **HOW)
    assert drawn == [0, 2, 4, 6]
    assert heard[-1] == (7, 7)
    assert [done for done, _ in heard] == sorted(done for done, _ in heard)
    assert len(gather(files)) == 7
    longer = partial(draw_share, *model, 9, tmp_path, 0, 1, **HOW)
    assert len(gather(longer())) == 9
    assert drawn == [0, 2, 4, 6, 6, 8]  # the last batch had been shorter


@pytest.mark.slow
def test_a_cut_run_goes_on_drawing_and_another_training_draws_anew(drawn, tmp_path):
    exp = EXPERIMENTS[0]

    def cut(what, value):
        if what == "sample" and value[0] >= 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(exp, tmp_path, cut)
    assert run(exp, tmp_path)["n_samples"] == 5
    assert drawn == [0, 2, 4]
    assert not (tmp_path / "batches").exists()
    with pytest.raises(KeyboardInterrupt):
        run(exp, tmp_path, cut)
    (tmp_path / "checkpoint.pt").unlink()
    drawn.clear()
    run(exp, tmp_path)
    assert drawn == [0, 2, 4]


@pytest.mark.slow
def test_two_processes_share_several_runs(drawn, tmp_path):
    """One run after the other in one launch, and the pictures are those of one process."""
    together("sharing.py", "cpu", tmp_path, "unsupervised", "nnpu")
    shares = [json.loads((tmp_path / f"drawn_{rank}.json").read_text()) for rank in range(2)]
    assert shares == [[0, 4] * 2, [2] * 2]
    for exp in EXPERIMENTS:
        folder = tmp_path / "runs" / exp.name
        assert json.loads((folder / "row.json").read_text())["n_samples"] == 5
        run(exp, tmp_path / exp.method)
        ours, theirs = (np.load(path / "samples.npz")["images"] for path in (tmp_path / exp.method, folder))
        assert np.abs(ours.astype(int) - theirs).max() <= 2  # their gradient is a sum of two
