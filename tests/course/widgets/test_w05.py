"""The threshold slider of notebook 05 redraws, and its numbers are those of priors.py."""

import pytest
import torch

from pudm_lite.course.widgets.w05 import threshold_figure, widget05_threshold
from pudm_lite.errors import UserError
from pudm_lite.priors import best_bin, naive_min_ratio

Z_U = torch.cat([torch.linspace(-3, 1, 90), torch.linspace(1, 4, 10)])
Z_S = torch.linspace(1, 4, 50)


def test_moving_the_slider_changes_the_picture():
    widget = widget05_threshold(Z_U, Z_S)
    slider, image = widget.children
    assert slider.value == pytest.approx(best_bin(Z_U, Z_S).c)
    first = bytes(image.value)
    slider.value = -1.0
    second = bytes(image.value)
    slider.value = 3.0
    assert first.startswith(b"\x89PNG")
    assert len({first, second, bytes(image.value)}) == 3


def test_the_readout_is_the_shares_over_the_threshold():
    title = threshold_figure(Z_U, Z_S, 2.49)._suptitle.get_text()
    over_u, over_s = int((Z_U >= 2.49).sum()) / 100, int((Z_S >= 2.49).sum()) / 50
    assert f"q_u = {over_u:.4f}, q_p = {over_s:.4f}, ratio {over_u / over_s:.3f}" in title


def test_a_threshold_that_S_does_not_reach_has_no_ratio():
    assert "no ratio" in threshold_figure(torch.cat([Z_U, torch.tensor([9.0])]), Z_S, 8.0)._suptitle.get_text()


def test_the_best_bin_the_smallest_ratio_and_a_known_share_are_marked():
    _, right = threshold_figure(Z_U, Z_S, 2.0, true_share=0.1).axes
    found = {line.get_label(): line for line in right.lines}
    best = best_bin(Z_U, Z_S)
    star = found[f"best bin: {best.beta:.3f}"]
    assert (star.get_xdata()[0], star.get_ydata()[0]) == pytest.approx((best.c, best.beta))
    naive = naive_min_ratio(Z_U, Z_S)
    low = found[f"smallest ratio: {naive.beta:.3f}"]
    assert (low.get_xdata()[0], low.get_ydata()[0]) == pytest.approx((naive.c, naive.beta))
    assert naive.beta in found["ratio q_u / q_p"].get_ydata()
    assert found["true share 0.100"].get_ydata() == pytest.approx([0.1, 0.1])


def test_an_empty_group_is_refused():
    with pytest.raises(UserError, match="at least one each"):
        widget05_threshold(Z_U, Z_S[:0])
