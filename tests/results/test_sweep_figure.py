"""The beta sweep's figure holds what its rows hold."""

import numpy as np
import pytest

from pudm_lite import cli
from pudm_lite.errors import UserError
from pudm_lite.files import write_rows
from pudm_lite.results.style import png
from pudm_lite.results.sweep_figure import draw_beta_sweep


def row(method, beta, seed, rate, distance, **other):
    return {
        "method": method,
        "beta": beta,
        "seed": seed,
        "experiment": "mnist-even",
        "non_sensitive_rate": rate,
        "rate_low": rate - 0.02,
        "rate_high": rate + 0.01,
        "frechet_distance": distance,
        "judge_confidence": 0.9,
        "network": "lite",
        "sampler": "ddpm",
        "sampler_steps": 14,
        "steps": 100,
        "realised_share": 0.09091,
        "n_samples": 500,
        **other,
    }


ROWS = [
    row("unsupervised", 0.1, 0, 0.90, 2.0),
    row("unsupervised", 0.1, 1, 0.92, 2.4),
    row("nnpu", 0.2, 0, 0.97, 1.8),
    row("nnpu", 0.05, 0, 0.94, 1.9),
    row("nnpu", 0.05, 1, 0.96, 1.5),
]


def lines(ax):
    return {line.get_label().split(" (")[0]: line for line in ax.lines}


def test_means_stand_at_their_betas_and_reference_lines_at_their_values():
    left, right = draw_beta_sweep(ROWS).axes
    assert left.containers[0].get_label() == "nnpu (1-2 runs)"
    for ax, means, across in ((left, [0.95, 0.97], 0.91), (right, [1.7, 1.8], 2.2)):
        line = ax.containers[0].lines[0]
        assert line.get_xdata() == pytest.approx([0.05, 0.2])
        assert line.get_ydata() == pytest.approx(means)
        assert lines(ax)["unsupervised"].get_ydata() == pytest.approx([across] * 2)
        assert lines(ax)["true share 0.091"].get_xdata() == pytest.approx([0.09091] * 2)


def test_bars_are_the_spread_over_seeds_or_the_judges_interval():
    left, right = draw_beta_sweep(ROWS).axes

    def ends(ax):
        return [segment[:, 1] for segment in ax.containers[0].lines[2][0].get_segments()]

    std = np.std([0.94, 0.96], ddof=1)
    assert ends(left)[0] == pytest.approx([0.95 - std, 0.95 + std])
    assert ends(left)[1] == pytest.approx([0.95, 0.98])  # one run: rate_low, rate_high
    assert ends(right)[1] == pytest.approx([1.8, 1.8])


def test_the_floor_is_drawn_where_rows_have_one():
    figure = draw_beta_sweep([row("nnpu", 0.1, 0, 0.97, 1.5, frechet_floor=0.08)])
    assert lines(figure.axes[1])["two real sets"].get_ydata() == pytest.approx([0.08, 0.08])


def test_methods_without_a_beta_are_level_lines_on_both_panels():
    rows = [
        *ROWS,
        row("supervised", 0.1, 0, 0.91, 2.1),
        row("pretrained", 0.1, 0, 0.5, 3.0, steps=0, pretrained="model", n_samples=9),
    ]
    left, right = draw_beta_sweep(rows).axes
    for ax, supervised, pretrained in ((left, 0.91, 0.5), (right, 2.1, 3.0)):
        assert len(ax.containers) == 1  # nnpu alone goes with beta
        assert lines(ax)["supervised"].get_ydata() == pytest.approx([supervised] * 2)
        assert lines(ax)["pretrained"].get_ydata() == pytest.approx([pretrained] * 2)


def test_estimated_betas_are_stars_where_they_fell_and_not_on_the_line():
    estimated = [
        row("nnpu", 0.12, 0, 0.95, 1.6, beta_from="estimate"),
        row("nnpu", 0.11, 1, 0.93, 1.7, beta_from="estimate"),
    ]
    left, right = draw_beta_sweep([*ROWS, *estimated]).axes
    for ax, values in ((left, [0.95, 0.93]), (right, [1.6, 1.7])):
        assert ax.containers[0].lines[0].get_xdata() == pytest.approx([0.05, 0.2])
        (stars,) = (line for line in ax.lines if line.get_label() == "nnpu, β estimated (2 runs)")
        assert stars.get_marker() == "*"
        assert stars.get_xdata() == pytest.approx([0.12, 0.11])
        assert stars.get_ydata() == pytest.approx(values)
    assert not draw_beta_sweep(estimated).axes[0].containers  # and alone


def test_each_experiment_has_a_row_of_panels_with_its_own_share_and_floor():
    other = [
        row("nnpu", beta, 0, 0.8, 9.0, experiment="mnist-odd", realised_share=0.2, n_samples=50, frechet_floor=0.5)
        for beta in (0.1, 0.4)
    ]
    axes = draw_beta_sweep([*ROWS, *other]).axes
    assert len(axes) == 4
    shares = [next(float(line.get_xdata()[0]) for line in ax.lines if "true share" in line.get_label()) for ax in axes]
    assert shares == pytest.approx([0.09091, 0.09091, 0.2, 0.2])
    assert axes[2].containers[0].lines[0].get_ydata() == pytest.approx([0.8, 0.8])
    assert ["two real sets" in lines(ax) for ax in axes] == [False, False, False, True]
    assert [ax.figure._suptitle.get_text().split(",")[0] for ax in axes[::2]] == ["mnist-even", "mnist-odd"]


def test_the_distance_says_of_which_features_it_is():
    def label(features):
        return draw_beta_sweep([row("nnpu", 0.1, 0, 0.9, 2.0, frechet_features=features)]).axes[1].get_ylabel()

    assert label("judge-mnist-128") == "Fréchet distance (judge features)"
    assert label("inception-2048") == "Fréchet distance (Inception features)"


def test_the_command_draws_the_rows_of_its_files(tmp_path):
    for i, part in enumerate((ROWS[:2], ROWS[2:])):
        write_rows(tmp_path / f"{i}.jsonl", part)
    assert (
        cli.main(["figure4", str(tmp_path / "0.jsonl"), str(tmp_path / "1.jsonl"), "--out", str(tmp_path / "f")]) == 0
    )
    assert (tmp_path / "f" / "figure4.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "f" / "figure4.pdf").read_bytes().startswith(b"%PDF")


def test_the_command_refuses_a_file_without_rows(tmp_path, capsys):
    assert cli.main(["figure4", str(tmp_path / "none.jsonl"), "--out", str(tmp_path / "f")]) == 2
    assert "no rows at" in capsys.readouterr().err
    assert not (tmp_path / "f").exists()


def test_it_becomes_a_picture():
    assert png(draw_beta_sweep(ROWS)).startswith(b"\x89PNG")


def test_no_rows_and_unlike_rows_are_refused():
    with pytest.raises(UserError, match="run the sweep first"):
        draw_beta_sweep([])
    with pytest.raises(UserError, match="one steps belong in one figure; these have 100, 200"):
        draw_beta_sweep([*ROWS, row("nnpu", 0.1, 0, 0.9, 2.0, steps=200)])
    with pytest.raises(UserError, match="one pretrained belong in one figure; these have none, model"):
        draw_beta_sweep([*ROWS, row("nnpu", 0.1, 0, 0.9, 2.0, pretrained="model")])
    with pytest.raises(UserError, match="one frechet_features belong"):
        draw_beta_sweep([row("nnpu", 0.1, 0, 0.9, 2.0, frechet_features=f) for f in ("judge-mnist-128", "inception")])
