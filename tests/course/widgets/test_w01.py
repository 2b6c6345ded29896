"""The widgets of notebook 01: what a slider does to the picture, and how long a redraw takes."""

import time

import pytest
import torch

from pudm_lite.course.widgets.w01 import noise_figure, samples_figure, widget01_noise, widget01_samples
from pudm_lite.diffusion import noise_schedule
from pudm_lite.errors import UserError

PNG = b"\x89PNG"


@pytest.fixture(scope="module")
def noise():
    generator = torch.Generator().manual_seed(0)
    x0, eps = torch.zeros(1, 1, 28, 28), torch.randn(1, 1, 28, 28, generator=generator)
    return x0, eps, {name: noise_schedule(name, 100) for name in ("cosine", "linear")}


@pytest.fixture(scope="module")
def pictures():
    generator = torch.Generator().manual_seed(0)
    return {
        steps: {
            name: torch.randint(256, (5, 1, 28, 28), generator=generator, dtype=torch.uint8) for name in ("one", "two")
        }
        for steps in (4, 8)
    }


def parts(widget):
    (left, right), image = widget.children[0].children, widget.children[1]
    return left, right, image


def seconds(move) -> float:
    """Of this process, so that a busy machine does not fail the test."""
    started = time.process_time()
    move()
    return time.process_time() - started


def test_the_step_and_the_schedule_change_the_digit(noise):
    slider, menu, image = parts(widget01_noise(*noise))
    assert (slider.min, slider.max, menu.options) == (0, 99, ("cosine", "linear"))
    seen = [bytes(image.value)]
    for move in (
        lambda: setattr(slider, "value", 0),
        lambda: setattr(slider, "value", 99),
        lambda: setattr(menu, "value", "linear"),
    ):
        move()
        seen.append(bytes(image.value))
    assert all(value.startswith(PNG) for value in seen)
    assert len(set(seen)) == len(seen)


def test_the_digit_drawn_is_the_mixture_of_eq_6(noise):
    x0, eps, schedules = noise
    for t in (0, 40, 99):
        ab = schedules["cosine"][t]
        picture, curves = noise_figure(*noise, "cosine", t).axes
        shown = torch.as_tensor(picture.images[0].get_array())
        torch.testing.assert_close(shown, (ab.sqrt() * x0 + (1 - ab).sqrt() * eps)[0, 0].float())
        assert f"{float(torch.log(ab / (1 - ab))):+.2f}" in curves.get_title()


def test_the_browser_shows_another_picture_for_another_image_or_number_of_steps(pictures):
    captions = {steps: {name: [f"a {i}" for i in range(5)] for name in of} for steps, of in pictures.items()}
    slider, steps, image = parts(widget01_samples(pictures, captions))
    assert (slider.max, steps.options, steps.value) == (4, (4, 8), 8)
    seen = [bytes(image.value)]
    for move in (lambda: setattr(slider, "value", 3), lambda: setattr(steps, "value", 4)):
        move()
        seen.append(bytes(image.value))
    assert all(value.startswith(PNG) for value in seen)
    assert len(set(seen)) == len(seen)


def test_the_browser_draws_the_image_asked_for(pictures):
    figure = samples_figure(pictures[4], 2, {"one": list("abcde"), "two": list("fghij")})
    assert [ax.get_title() for ax in figure.axes] == ["one\nc", "two\nh"]
    for ax, images in zip(figure.axes, pictures[4].values(), strict=True):
        assert (torch.as_tensor(ax.images[0].get_array()) == images[2, 0]).all()


def test_a_redraw_takes_less_than_a_fifth_of_a_second(noise, pictures):
    for widget in (widget01_noise(*noise), widget01_samples(pictures)):
        slider = parts(widget)[0]
        times = [seconds(lambda to=to, slider=slider: setattr(slider, "value", to)) for to in (1, 2, 3)]
        assert min(times) < 0.2


def test_what_does_not_fit_together_is_refused(noise, pictures):
    x0, eps, schedules = noise
    with pytest.raises(UserError, match=r"lengths \[50, 100\]"):
        widget01_noise(x0, eps, {**schedules, "short": noise_schedule("cosine", 50)})
    with pytest.raises(UserError, match="one length"):
        widget01_noise(x0, eps, {})
    with pytest.raises(UserError, match=r"got \[3, 5\]"):
        widget01_samples({4: {"one": pictures[4]["one"], "two": pictures[4]["two"][:3]}})
