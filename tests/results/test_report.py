"""Rows into a table, rows and samples into Figure 1."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Polygon, Rectangle
from scipy.stats import fisher_exact

from pudm_lite.errors import UserError
from pudm_lite.files import write_arrays
from pudm_lite.results import report
from pudm_lite.results.report import draw_figure1, draw_panel, results_table
from pudm_lite.splits import Split


def row(method, seed, called_normal, n=1000, **more):
    rate = called_normal / n
    return {
        "experiment": "mnist-even",
        "method": method,
        "network": "lite",
        "beta": 0.1,
        "steps": 100,
        "sampler": "ddpm",
        "sampler_steps": 25,
        "n_samples": n,
        "seed": seed,
        "non_sensitive_rate": rate,
        "rate_low": rate - 0.01,
        "rate_high": rate + 0.01,
        "judge_confidence": 0.9,
        "frechet_distance": 2.0 + seed,
        "frechet_floor": 0.1,
    } | more


def cells(rows):
    head, _, *lines = [[c.strip() for c in line.strip("|").split("|")] for line in results_table(rows).splitlines()]
    return [dict(zip(head, line, strict=True)) for line in lines]


def test_mean_deviation_and_the_largest_p_over_seeds():
    rows = [row("unsupervised", 0, 900), row("unsupervised", 1, 910), row("nnpu", 0, 940), row("nnpu", 1, 930)]
    unsupervised, nnpu = cells(rows)
    assert nnpu["non-sensitive rate"] == "0.935 ± 0.007"
    assert nnpu["Fréchet distance (judge)"] == "2.50 ± 0.71"
    assert nnpu["seeds"] == "0, 1"
    assert nnpu["method"] == "nnpu (proposed)"
    assert unsupervised["p (Fisher)"] == ""
    # seed 1 is the weaker one: 910 of 1,000 against 930
    assert nnpu["p (Fisher)"] == f"{fisher_exact([[930, 70], [910, 90]]).pvalue:.1g}"


@pytest.mark.parametrize(
    "other",
    [
        *({"experiment": "mnist-odd"}, {"pretrained": "digits"}, {"network": "paper"}, {"beta": 0.2}, {"labelled": 50}),
        *({"steps": 200}, {"sampler": "ddim"}, {"sampler_steps": 50}, {"n_samples": 500}),
        {"frechet_features": "inception-2048"},
    ],
    ids=str,
)
def test_only_runs_that_differ_in_their_seed_alone_are_averaged(other):
    found = cells([row("nnpu", 0, 900), row("nnpu", 1, 950) | other])
    assert [line["non-sensitive rate"] for line in found] == ["0.900", "0.950"]
    assert [line["seeds"] for line in found] == ["0", "1"]


@pytest.mark.parametrize(
    "other",
    [
        *({"experiment": "mnist-odd"}, {"pretrained": "digits"}, {"seed": 1}, {"steps": 200}, {"network": "paper"}),
        *({"sampler": "ddim"}, {"sampler_steps": 50}),
    ],
    ids=str,
)
def test_p_is_of_two_runs_that_differ_in_their_method_alone(other):
    same, apart = (
        next(
            line["p (Fisher)"]
            for line in cells([row("unsupervised", 0, 900) | more, row("nnpu", 0, 990)])
            if "nnpu" in line["method"]
        )
        for more in ({}, other)
    )
    assert float(same) < 1e-6
    assert apart == ""


def test_distance_and_floor_stand_in_their_own_columns():
    (line,) = cells([row("nnpu", 0, 900, frechet_distance=2.5, frechet_floor=0.125)])
    assert line["Fréchet distance (judge)"] == "2.50"
    assert line["floor"] == "0.12"
    assert line["confidence"] == "0.900"


# Figure 1


def test_a_frame_lies_around_its_image_and_around_no_other():
    images = torch.arange(1, 13, dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 5, 5)
    axes = Figure().subplots()
    framed = [0, 6, 11]
    draw_panel(axes, images, torch.isin(torch.arange(12), torch.tensor(framed)), columns=4)
    sheet = axes.images[0].get_array()
    frames = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    corners = [patch for patch in axes.patches if isinstance(patch, Polygon)]
    inside = []
    for frame in frames:
        (x, y), wide, tall = frame.get_xy(), frame.get_width(), frame.get_height()
        assert (wide, tall) == (7, 7)  # a pixel more on each side
        part = sheet[round(y + 1.5) : round(y + tall - 0.5), round(x + 1.5) : round(x + wide - 0.5)]
        inside += np.unique(part).tolist()
    assert inside == [index + 1 for index in framed]
    assert [tuple(corner.get_xy()[0] + 0.5) for corner in corners] == [frame.get_xy() for frame in frames]


def test_figure_1_shows_each_run_with_its_own_samples_frames_and_numbers(tmp_path, monkeypatch):
    """Panels of U, of S and of each run; made-up images say by their grey where they come from."""
    asked, panels, below = [], [], []
    u_sensitive = torch.arange(100) % 3 == 0
    split = Split(torch.arange(100), u_sensitive, torch.arange(100, 190), torch.arange(5), torch.arange(5))
    train = torch.arange(190, dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 4, 4)
    data = SimpleNamespace(split=split, train=train)
    monkeypatch.setattr(report, "material", lambda exp: asked.append(exp) or data)
    monkeypatch.setattr(
        report,
        "draw_panel",
        lambda axes, images, sensitive: panels.append((images[:, 0, 0, 0].tolist(), sensitive.tolist())),
    )
    rows, kept = [], {}
    for i, method in enumerate(("unsupervised", "nnpu")):
        images = torch.arange(70, dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 4, 4) + 100 * i
        kept[method] = images, torch.arange(70) % (i + 4) == 0
        write_arrays(
            tmp_path / "runs" / method / "samples.npz", images=images.numpy(), sensitive=kept[method][1].numpy()
        )
        rows.append(row(method, 7, 900 + i, run=method, threads=1, judge_accuracy=0.99, parameters=10, batch_size=8))
        rows[i] |= {"train_seconds": 60, "sample_seconds": 60, "device": "cpu", "frechet_distance": 2.0 + i}
    text = Axes.text
    monkeypatch.setattr(
        Axes, "text", lambda self, x, y, said, **how: below.append(said) or text(self, x, y, said, **how)
    )
    for path in draw_figure1(rows, tmp_path):
        assert path.stat().st_size > 1000
    assert (asked[0].configuration, asked[0].train.seed) == ("mnist-even", 7)
    assert panels[0] == ([*range(64)], u_sensitive[:64].tolist())
    assert panels[1] == ([*range(100, 164)], [True] * 64)
    for panel, (images, sensitive) in zip(panels[2:], kept.values(), strict=True):
        assert panel == (images[:64, 0, 0, 0].tolist(), sensitive[:64].tolist())
    assert below[0].startswith("100 images, 34.0% sensitive")
    assert below[2:] == [
        "non-sensitive rate 0.900 [0.890, 0.910]\nFréchet distance 2.00",
        "non-sensitive rate 0.901 [0.891, 0.911]\nFréchet distance 3.00",
    ]


def test_runs_of_unlike_length_stay_apart():
    short, long = cells([row("nnpu", 0, 900, steps=100), row("nnpu", 1, 950, steps=200)])
    assert (short["steps"], long["steps"]) == ("100", "200")


def test_methods_stand_in_the_papers_order_and_the_papers_values_beside():
    lines = cells([row("nnpu", 0, 970), row("abspu", 0, 970), row("unsupervised", 0, 900)])
    assert [line["method"] for line in lines] == ["unsupervised", "nnpu (proposed)", "abspu"]
    assert [line["paper, Table 2"] for line in lines] == ["0.904 ± 0.003", "0.978 ± 0.003", ""]


def test_no_rows_are_refused():
    with pytest.raises(UserError, match="no rows"):
        results_table([])


def test_fine_tuned_rows_stand_apart_and_have_no_value_of_tables_2_and_3():
    scratch, tuned = cells([row("nnpu", 0, 900), row("nnpu", 1, 950, pretrained="digits")])
    assert (scratch["data (normal)"], tuned["data (normal)"]) == ("mnist-even", "mnist-even, from digits")
    assert (tuned["paper, Table 2"], tuned["paper, Table 3 (FID, Inception)"]) == ("", "")
    (alone,) = cells([row("pretrained", 0, 500, pretrained="digits")])
    assert alone["non-sensitive rate"] == "0.500"


def test_distances_on_inception_features_stand_apart_and_say_so():
    judge, inception = cells([row("nnpu", 0, 900), row("nnpu", 1, 900, frechet_features="inception-2048")])
    assert judge["Fréchet distance (judge)"] == "2.00"
    assert inception["Fréchet distance (judge)"] == "3.00 (inception-2048)"


def test_p_compares_runs_of_the_same_sampler():
    (_, p), (_, none) = (
        [line["p (Fisher)"] for line in cells([row("unsupervised", 0, 900, sampler_steps=steps), row("nnpu", 0, 990)])]
        for steps in (25, 50)
    )
    assert float(p) < 1e-6
    assert none == ""


def test_what_was_not_measured_is_left_blank():
    unmeasured = row("nnpu", 0, 900, experiment="folders of my own")
    for name in ("non_sensitive_rate", "rate_low", "rate_high", "judge_confidence", "frechet_distance"):
        del unmeasured[name]
    del unmeasured["frechet_floor"]
    _, line = cells([unmeasured, row("unsupervised", 0, 900, experiment="folders of my own")])
    assert line["p (Fisher)"] == ""
    assert line["non-sensitive rate"] == line["Fréchet distance (judge)"] == line["floor"] == ""
