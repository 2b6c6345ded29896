"""The table of unlearning: a line for a method, a value for a seed."""

import pytest

from pudm_lite.errors import UserError
from pudm_lite.results.unlearning_table import TITLE, unlearning_table
from pudm_lite.runs.unlearning_bench import METHODS


def row(method, seed=0, share=0.01, **more):
    numbers = {"digit_share": share, "digit_share_low": share / 2, "digit_share_high": 2 * share}
    numbers |= {"kept_distance": 1.25, "retrained_distance": 2.5, "train_cpu_seconds": 31.4}
    settings = {"digit": 4, "method": method, "seed": seed, "steps": 300, "told": "U and S", "n_samples": 1000}
    return numbers | settings | more


def test_every_method_of_the_bench_has_a_title():
    assert set(TITLE) == set(METHODS)


def test_a_line_for_each_method_and_a_value_for_each_seed():
    rows = [row("siss", 1, 0.02), row("nnpu"), row("siss", 0), row("nnpu", digit=7)]
    _, _, *lines = unlearning_table(rows).splitlines()
    assert lines == [
        "| 4 | nnPU (proposed) | U and S | 0.010 [0.005, 0.020] | 1.25 | 2.50 | 300 | 31 | 0 |",
        "| 4 | SISS | U and S | 0.010 [0.005, 0.020] / 0.020 [0.010, 0.040] | 1.25 / 1.25 | 2.50 / 2.50 | 300 "
        "| 31 / 31 | 0, 1 |",
        "| 7 | nnPU (proposed) | U and S | 0.010 [0.005, 0.020] | 1.25 | 2.50 | 300 | 31 | 0 |",
    ]


def test_other_settings_are_another_line():
    assert len(unlearning_table([row("siss"), row("siss", 1, steps=50)]).splitlines()) == 4


@pytest.mark.parametrize("rows", [[{"method": "nnpu", "seed": 0}], [row("esd-x")]])
def test_rows_of_something_else_are_refused(rows):
    with pytest.raises(UserError, match="these are no rows of unlearning"):
        unlearning_table(rows)


def test_no_rows():
    with pytest.raises(UserError, match="no rows to report"):
        unlearning_table([])
