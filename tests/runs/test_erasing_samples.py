"""The small file of samples: which images of which edits it holds, and what the judge says of them."""

import json

import numpy as np
import pytest

from pudm_lite.errors import UserError
from pudm_lite.files import write_arrays
from pudm_lite.runs import erasing_samples
from pudm_lite.runs.erasing_samples import EACH, pack_samples, read_samples


@pytest.fixture(autouse=True)
def judged(monkeypatch):
    """In place of the judge's word: the brightest value of an image, modulo ten."""
    monkeypatch.setattr(erasing_samples, "_called", lambda images: images.max((1, 2, 3)) % 10)


def make(out, method, concept, seed, model="m", each=6, base=0):
    """A run's folder and its row. Image i of concept k is all of one grey, base + 10 k + i."""
    run = f"{method}_{concept}_seed{seed}"
    rows = np.repeat(np.arange(3), each)
    greys = base + 10 * rows + np.tile(np.arange(each), 3)
    images = np.broadcast_to(greys[:, None, None, None], (len(rows), 1, 2, 2)).astype(np.uint8)
    shuffled = np.argsort(rows % 2, kind="stable")  # concepts 0, 2, 1
    write_arrays(out / "runs" / run / "samples.npz", images=images[shuffled], rows=rows[shuffled])
    row = {"run": run, "method": method, "concept": concept, "seed": seed, "model": model}
    with (out / "rows.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")


def test_it_holds_the_first_images_of_each_concept_in_few_greys_and_the_judges_word(tmp_path):
    make(tmp_path, "uce", "4", 0, base=200)
    pack_samples(tmp_path, tmp_path / "samples.npz", "m")
    (few,) = read_samples(tmp_path / "samples.npz").values()
    assert few.images.shape == (3, EACH, 2, 2)
    exact = 200 + 10 * np.arange(3)[:, None] + np.arange(EACH)
    assert (few.called == exact % 10).all()  # of the images as they were
    assert set(np.unique(few.images)) <= {17 * k for k in range(16)}
    assert np.abs(few.images[..., 0, 0].astype(int) - exact).max() <= 15
    assert set(np.unique(few.images[0])) == {204}


def test_of_an_edit_the_first_seed_counts_and_of_another_model_nothing(tmp_path):
    make(tmp_path, "uce", "4", 1, base=100)
    make(tmp_path, "uce", "4", 0, base=0)
    make(tmp_path, "ca", "7", 0, model="another")
    make(tmp_path, "esd-x", "4", 0, each=2)
    pack_samples(tmp_path, tmp_path / "samples.npz", "m")
    found = read_samples(tmp_path / "samples.npz")
    assert set(found) == {("uce", "4"), ("esd-x", "4")}
    assert found["uce", "4"].images.max() < 100
    assert found["uce", "4"].images.shape[1] == 2  # as many as every edit has


def test_without_samples_it_is_refused(tmp_path):
    make(tmp_path, "uce", "4", 0)
    (tmp_path / "runs" / "uce_4_seed0" / "samples.npz").unlink()
    with pytest.raises(UserError, match=r"no run under .* has a samples.npz"):
        pack_samples(tmp_path, tmp_path / "samples.npz", "m")
