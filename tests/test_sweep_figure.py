"""The beta sweep's figure holds what its rows hold."""

import numpy as np
import pytest

from pudm_lite.errors import UserError
from pudm_lite.style import png
from pudm_lite.sweep_figure import draw_beta_sweep


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


def test_it_becomes_a_picture():
    assert png(draw_beta_sweep(ROWS)).startswith(b"\x89PNG")


def test_no_rows_and_unlike_rows_are_refused():
    with pytest.raises(UserError, match="run the sweep first"):
        draw_beta_sweep([])
    with pytest.raises(UserError, match="one steps belong in one figure; these have 100, 200"):
        draw_beta_sweep([*ROWS, row("nnpu", 0.1, 0, 0.9, 2.0, steps=200)])
