"""The widget of notebook 02: what its sliders do to the picture, and the slope that it draws."""

import math
import time

import pytest
import torch

from pudm_lite.course.widgets.w02 import push_figure, push_slope, widget02_push
from pudm_lite.errors import UserError
from pudm_lite.risks import bce_sensitive

TYPICAL = (0.002, 0.2)


def parts(widget):
    (scales, errors), image = widget.children[0].children, widget.children[1]
    return scales, errors, image


def test_both_sliders_change_the_picture():
    scales, errors, image = parts(widget02_push(TYPICAL, 1 / 11))
    seen = [image.value]
    for slider, value in ((scales, 1.0), (scales, 30.0), (errors, 0.5), (errors, 1e-3)):
        slider.value = value
        seen.append(image.value)
    assert all(bytes(value).startswith(b"\x89PNG") for value in seen)
    assert len(set(map(bytes, seen))) == len(seen)


@pytest.mark.parametrize("given", [{}, {"error": 0.0141}, {"error": 1e-4}, {"error": 1.0}])
def test_the_error_stands_on_a_value_that_the_slider_can_hold(given):
    _, errors, _ = parts(widget02_push(TYPICAL, 0.1, **given))
    steps = (math.log10(errors.value) - errors.min) / errors.step
    assert steps == pytest.approx(round(steps), abs=1e-9)
    assert errors.value == pytest.approx(given.get("error", 0.0316), rel=0.06)  # half a step is 6 %


def test_a_redraw_is_quick():
    scales, _, _ = parts(widget02_push(TYPICAL, 0.1))
    fastest = float("inf")
    for scale in (1.0, 30.0, 784.0):
        started = time.process_time()  # of this process, so that a busy machine does not fail the test
        scales.value = scale
        fastest = min(fastest, time.process_time() - started)
    assert fastest < 1.0  # 0.15 s alone on a core, several times that on a crowded one


def test_the_slope_is_the_gradient_of_the_push():
    l = torch.logspace(-5, 1.3, 200, dtype=torch.float64).requires_grad_()
    bce_sensitive(l).sum().backward()
    torch.testing.assert_close(push_slope(l.detach()), l.grad)


def test_the_slope_meets_the_limits_of_the_text():
    """-1/l near 0, -exp(-l) far out."""
    near, far = torch.tensor([1e-6, 1e-4]).double(), torch.tensor([12.0, 20.0]).double()
    torch.testing.assert_close(push_slope(near), -1 / near, rtol=1e-4, atol=0)
    torch.testing.assert_close(push_slope(far), -torch.exp(-far), rtol=1e-5, atol=0)


def test_the_figure_says_where_the_dot_is():
    value, slope = push_figure(10.0, 0.1, TYPICAL, 0.1).axes
    assert "scale 10" in value.get_title()
    assert "= 1 at the dot" in value.get_title()
    assert "0.58" in slope.get_title()  # 1 / (e - 1)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"scale": 5.0}, "the scale must be one of"),
        ({"error": 2.0}, "error per pixel"),
        ({"typical": (0, 1)}, "two pos"),
    ],
)
def test_values_out_of_range_are_refused(wrong, message):
    with pytest.raises(UserError, match=message):
        widget02_push(**{"typical": TYPICAL, "share": 0.1, **wrong})
