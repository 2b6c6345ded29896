"""The menus of notebook 10 offer what the rows hold, and the picture is of the row chosen."""

import numpy as np
import pytest

from pudm_lite.course.widgets import w10
from pudm_lite.course.widgets.w10 import edit_figure, widget10_edits
from pudm_lite.runs.erasing_samples import Few


def row(method, concept, seed=0, hits=0):
    matrix = np.diag([20] * 10)
    erased = int(concept)
    matrix[erased, erased], matrix[erased, 9 - erased] = hits, 20 - hits
    rates = {"esr_1": [1 - hits / 20, 0.1, 0.9, 20], "psr_1": [1.0, 0.9, 1.0, 180]}
    return {"method": method, "concept": concept, "seed": seed, "matrix": matrix.tolist(), **rates}


def few(called=0):
    return Few(np.zeros((10, 2, 4, 4), np.uint8), np.full((10, 2), called, np.uint8))


ROWS = [row("uce", "4", seed=1, hits=3), row("uce", "4"), row("esd-x", "4", hits=5), row("ca", "7")]


def frames(figure):
    """How many samples are framed: a frame is a rectangle and a corner."""
    return len(figure.axes[1].patches) // 2


def test_the_matrix_is_in_shares_with_the_erased_row_framed():
    ax = edit_figure(row("esd-x", "4", hits=5), None).axes[0]
    assert np.asarray(ax.images[0].get_array())[4].tolist() == [0, 0, 0, 0, 0.25, 0.75, 0, 0, 0, 0]
    assert {"25", "75", "100"} == {text.get_text() for text in ax.texts}
    (frame,) = ax.patches
    assert (frame.get_y(), frame.get_height()) == (3.5, 1)


def test_samples_are_framed_where_the_judge_sees_the_erased_digit():
    assert frames(edit_figure(row("uce", "4"), few(called=4))) == 20
    assert not frames(edit_figure(row("uce", "4"), few(called=9)))


def test_menus_offer_what_is_there_and_redraw(monkeypatch):
    seen = []
    monkeypatch.setattr(w10, "edit_figure", lambda row, few: seen.append((row, few)) or edit_figure(row, None))
    widget = widget10_edits(ROWS, {("uce", "4"): "samples"}, method="uce")
    digits, methods = widget.children[0].children
    assert digits.options == ("4", "7")
    assert methods.options == ("uce", "esd-x")
    assert {(id(row), few) for row, few in seen} == {(id(ROWS[1]), "samples")}  # the first seed's
    before = bytes(widget.children[1].value)
    methods.value = "esd-x"
    assert seen[-1] == (ROWS[2], None)
    assert bytes(widget.children[1].value) != before
    digits.value = "7"
    assert methods.options == ("ca",)
    assert seen[-1] == (ROWS[3], None)
    digits.value = "4"
    assert methods.value == "uce"


@pytest.mark.parametrize(("digit", "method"), [("0", "nothing"), ("7", "uce")])
def test_what_is_not_there_is_not_asked_for(digit, method):
    digits, methods = widget10_edits(ROWS, {}, digit, method).children[0].children
    assert digits.value in ("4", "7")
    assert methods.value in methods.options
