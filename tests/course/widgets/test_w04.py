"""The sample browser: what it shows follows the slider and the menu."""

from dataclasses import replace

import pytest
import torch

from pudm_lite.course.widgets.w04 import Samples, draw_side_by_side, which, widget04_browser
from pudm_lite.measures.judge import DigitNet, Judge, Verdict


@pytest.fixture
def samples():
    g = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (5, 1, 28, 28), dtype=torch.uint8, generator=g)
    first = Samples(
        "unsupervised",
        images,
        ("4", "9", "2", "7", "0"),
        torch.tensor([True, False, True, False, True]),
        torch.linspace(0.5, 0.9, 5),
    )
    return [first, replace(first, title="nnpu", normal=torch.tensor([True, True, False, False, True]))]


def test_the_slider_changes_the_picture(samples):
    _, slider, picture = widget04_browser(samples).children
    before = bytes(picture.value)
    assert before.startswith(b"\x89PNG")
    slider.value = 3
    assert bytes(picture.value) != before
    slider.value = 0
    assert len(bytes(picture.value)) == len(before)


def test_the_menu_fills_the_slider(samples):
    menu, slider, picture = widget04_browser(samples).children
    before = bytes(picture.value)
    menu.value = "unsupervised normal, nnpu sensitive"
    assert slider.options == (2,)
    assert bytes(picture.value) != before


def test_kinds_of_image(samples):
    kinds = which(samples)
    assert kinds == {
        "all images": [0, 1, 2, 3, 4],
        "unsupervised sensitive, nnpu normal": [1],
        "unsupervised normal, nnpu sensitive": [2],
        "sensitive in both": [3],
    }
    assert sum(map(len, list(kinds.values())[1:])) == int((~samples[0].normal | ~samples[1].normal).sum())
    same = [samples[0], samples[0]]
    assert list(which(same)) == ["all images", "sensitive in both"]


def test_a_picture_says_what_the_judge_says(samples):
    figure = draw_side_by_side(samples, 1)
    assert [ax.get_title() for ax in figure.axes] == ["unsupervised", "nnpu"]
    assert figure.axes[0].get_xlabel() == "judge: 9, SENSITIVE\nconfidence 0.60"
    assert figure.axes[1].get_xlabel() == "judge: 9, normal\nconfidence 0.60"
    left, right = (ax.spines["left"].get_linewidth() for ax in figure.axes)
    assert left > right


def test_samples_from_a_verdict():
    judge = Judge(DigitNet(), tuple("0123456789"), [], "test")
    images = torch.zeros(3, 1, 28, 28, dtype=torch.uint8)
    verdict = Verdict(torch.tensor([3, 8, 0]), torch.tensor([0.5, 0.6, 1.0]), torch.zeros(3, 2))
    made = Samples.judged("x", images, verdict, judge, ("0", "2", "4", "6", "8"))
    assert made.called == ("3", "8", "0")
    assert made.normal.tolist() == [False, True, True]
