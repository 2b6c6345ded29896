"""Rows into a table."""

import pytest
from scipy.stats import fisher_exact

from pudm_lite.errors import UserError
from pudm_lite.results.report import results_table


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
