"""The guidance slider of notebook 09 redraws, and its lines are the densities that they are called."""

import pytest
import torch

from pudm_lite.course.guidance import Line, normalised
from pudm_lite.course.widgets.w09 import guidance_figure, widget09_guidance

LINE = Line(
    torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64),
    torch.tensor([-2.0, 0.0, 1.6], dtype=torch.float64),
    torch.tensor([0.7, 0.6, 0.9], dtype=torch.float64),
)


def lines(concept, scale):
    left, right = guidance_figure(LINE, concept, scale).axes
    return {line.get_label(): torch.as_tensor(line.get_xydata()) for ax in (left, right) for line in ax.lines}


def drawn_and(name, found):
    """Both curves at the points where paths end, but the outermost."""
    end, other = found["drawn"][5:-5], found[name]
    at = torch.searchsorted(other[:, 0].contiguous(), end[:, 0].contiguous())
    return end[:, 1], other[at, 1]


@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_at_scales_0_and_1_what_is_drawn_is_what_is_named_with_noise_too(scale):
    found = lines(2, scale)
    torch.testing.assert_close(*drawn_and(r"named: $p(x)\,p(c\,|\,x)^w$", found), atol=0.02, rtol=0)
    followed, noisy = found[r"followed: $p_t(x)\,p_t(c\,|\,x)^w$"], found["the named one, noised"]
    torch.testing.assert_close(followed, noisy, atol=1e-4, rtol=0)


def test_beyond_1_they_part():
    found = lines(2, 3.0)
    drawn, named = drawn_and(r"named: $p(x)\,p(c\,|\,x)^w$", found)
    assert float((drawn - named).abs().max()) > 0.2
    followed, noisy = found[r"followed: $p_t(x)\,p_t(c\,|\,x)^w$"], found["the named one, noised"]
    assert float((followed - noisy).abs().max()) > 0.1
    x = followed[:, 0]
    torch.testing.assert_close(followed[:, 1], normalised(LINE.log_named(x, 2, 3.0, 0.5), x))


def test_moving_slider_and_menu_changes_the_picture():
    widget = widget09_guidance(LINE)
    (slider, menu), image = widget.children[0].children, widget.children[1]
    seen = {bytes(image.value)}
    slider.value = 4.0
    seen.add(bytes(image.value))
    menu.value = 0
    seen.add(bytes(image.value))
    assert len(seen) == 3
    assert all(png.startswith(b"\x89PNG") for png in seen)
