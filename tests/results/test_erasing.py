"""The erasing bench's table and figure, from rows made by hand."""

import numpy as np
import pytest

from pudm_lite.results.erasing import concept_graph, draw_figure, pooled, save_figure, sections, table


def row(method="esd-x", concept="4", seed=0, esr=0.9, psr=0.8, n=10, **more):
    return {
        "method": method,
        "concept": concept,
        "seed": seed,
        "esr_1": [esr, 0.5, 1.0, n],
        "psr_1": [psr, 0.5, 1.0, 9 * n],
        "worst_kept_rate": [psr - 0.3, 0, 1, n],
        "frechet_kept": 1.5,
        "null_share": [0.1, 0, 1, 5 * n],
        "edit_seconds": 12.3,
        "changed_parameters": 1234,
        "harm": [float(k) for k in range(10)],
    } | more


WIDE = [row(concept=d, seed=s) for d in "0123" for s in (0, 1)]
CLOSE = [row("ap-gumbel", concept=d, psr=0.7) for d in "12"]


def test_methods_are_compared_over_the_digits_that_they_share():
    found = sections(WIDE + CLOSE)
    assert list(found) == ["erased, one at a time: 0, 1, 2, 3; seeds 0, 1", "erased, one at a time: 1, 2; seed 0"]
    all_digits, two = found.values()
    assert {r["method"] for r in all_digits} == {"esd-x"}
    assert len(all_digits) == 8
    assert [(r["method"], r["concept"]) for r in two] == [
        ("esd-x", "1"),
        ("esd-x", "2"),
        ("ap-gumbel", "1"),
        ("ap-gumbel", "2"),
    ]


def test_rates_are_pooled_by_their_counts():
    rate = pooled([row(esr=1.0, n=10), row(esr=0.5, n=30)], "esr_1")
    assert (rate.rate, rate.n) == (25 / 40, 40)
    assert rate.low < rate.rate < rate.high


def test_the_table_has_a_line_a_method_and_says_of_how_many_edits():
    text = table(WIDE + CLOSE)
    assert "| `esd-x` | 8 | 0.900 [" in text
    assert "| `ap-gumbel` | 2 |" in text
    assert "no attack" not in text
    worst = text.split("`ap-gumbel`")[1].split("|")[4].strip()
    assert worst == "0.40"


def test_attacks_stand_beside_what_the_plain_prompt_gives():
    attacked = row(attacks={"noise": {"asr": [0.75, 0, 1, 4], "control": [0.5, 0, 1, 4]}})
    text = table([attacked, row("uce", attacks={"noise": {"asr": [0.25, 0, 1, 4], "control": [0, 0, 1, 4]}})])
    assert "| method | no attack | noise |" in text
    assert "| `esd-x` | 0.10 | 0.75 |" in text
    assert "| `uce` | 0.10 | 0.25 |" in text
    assert text.endswith("| control |  | 0.25 |\n")
    assert "control" not in table([row(attacks={"noise": {"asr": [0.25, 0, 1, 4], "control": None}})])


def test_the_concept_graph_is_a_row_an_erased_digit_and_a_mean_over_seeds():
    rows = [row(concept="7", harm=[1.0] * 10), row(concept="7", seed=1, harm=[3.0] * 10), row(concept="2")]
    digits, graph = concept_graph(rows, "esd-x")
    assert digits == ["2", "7"]
    np.testing.assert_array_equal(graph[1], 2.0)


@pytest.mark.parametrize("rows", [WIDE + CLOSE, CLOSE])
def test_the_figure_names_its_axes_and_every_method(rows, tmp_path):
    figure = draw_figure(rows)
    left = figure.axes[0]
    assert [label.get_text() for label in left.get_yticklabels()] == list(dict.fromkeys(r["method"] for r in rows))
    assert left.get_xlabel() == "share of images"
    save_figure(rows, tmp_path / "e.png")
    assert (tmp_path / "e.png").read_bytes()[:4] == b"\x89PNG"
