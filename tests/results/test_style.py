"""The mode is written under every figure, and covers nothing of it."""

from io import BytesIO

import numpy as np
import pytest

from pudm_lite.results import style


def pixels(png: bytes) -> np.ndarray:
    """(height, width, 3) in 0..1."""
    from matplotlib.image import imread

    return imread(BytesIO(png))[:, :, :3]


@pytest.mark.parametrize("size", [(4.0, 1.0), (2.0, 5.0)])
def test_the_mode_stands_below_an_image_that_fills_its_figure(size, monkeypatch):
    from matplotlib.figure import Figure

    monkeypatch.setenv("PUDM_MODE", "fast")
    figure = Figure(figsize=size, dpi=80)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.imshow(np.zeros((2, 2)), cmap="gray", aspect="auto")
    found = pixels(style.png(figure))
    black = (found == 0).all(2)
    height, width = round(80 * size[1]), round(80 * size[0])
    rows, columns = np.flatnonzero(black.any(1)), np.flatnonzero(black.any(0))
    # the image is whole: nothing inside its rectangle has another colour
    assert abs(rows[-1] - rows[0] + 1 - height) <= 1
    assert abs(columns[-1] - columns[0] + 1 - width) <= 1
    assert black[rows[0] : rows[-1], columns[0] : columns[-1]].all()
    below = found[rows[-1] + 1 :, columns[0] : columns[-1]]
    assert below.min() < 0.6  # and the mode is legible below it


def test_a_short_logarithmic_axis_has_ticks_in_plain_numbers():
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    axes.plot([0, 1, 2], [0.4, 3.0, 13.0])
    style.plain_log(axes)
    assert axes.get_yscale() == "log"
    assert [label.get_text() for label in axes.get_yticklabels()] == ["0.5", "1", "2", "5", "10"]
    assert list(axes.get_yticks(minor=True)) == []
