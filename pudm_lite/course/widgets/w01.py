"""The widgets of notebook 01: one digit at any step of the forward process, and a seed's picture by every sampler."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ...diffusion import q_sample
from ...errors import UserError
from ...results import style

DASHES = ("-", "--", ":", "-.")


def noise_figure(x0: Tensor, eps: Tensor, schedules: Mapping[str, Tensor], name: str, t: int) -> Any:
    """A digit at step t of a schedule, and where that step lies on the schedules' log-SNR curves.

    x0, eps: (1, 1, H, W), an image in [-1, 1] and standard Gaussian noise. schedules: name -> alpha_bar (T,).
    t: in [0, T). Returns a matplotlib figure. What leaves [-1, 1] is drawn black or white.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.6, 2.7))
    figure.set_layout_engine("none")  # laying out takes as long as drawing
    picture = figure.add_axes((0.0, 0.04, 0.31, 0.84))
    curves = figure.add_axes((0.42, 0.2, 0.57, 0.68))
    ab = float(schedules[name][t])
    picture.imshow(q_sample(x0, torch.tensor([t]), eps, schedules[name])[0, 0], vmin=-1, vmax=1)
    picture.set_axis_off()
    picture.set_title(f"{ab**0.5:.2f} x₀ + {(1 - ab) ** 0.5:.2f} ε")  # mathtext would cost a tenth of the redraw
    for (label, alpha_bar), dash in zip(schedules.items(), DASHES, strict=False):
        log_snr = torch.logit(alpha_bar.double())
        chosen = label == name
        curves.plot(log_snr, dash, color=style.BLUE if chosen else "#888888", lw=2.2 if chosen else 1.2, label=label)
        if chosen:
            curves.plot([t], [float(log_snr[t])], "o", color=style.ORANGE, ms=9)
            curves.set_title(f"{name}, t = {t}: log-SNR {float(log_snr[t]):+.2f}")
    curves.set(xlabel="step t", ylabel="log-SNR")
    curves.locator_params(nbins=4)
    curves.legend()
    return figure


def widget01_noise(x0: Tensor, eps: Tensor, schedules: Mapping[str, Tensor]) -> Any:
    """A slider for t and a menu of schedules over `noise_figure`; nothing is computed but one mixture of two images.

    x0, eps: (1, 1, H, W). schedules: name -> alpha_bar (T,), all of one length; the first is shown first.
    Returns an ipywidgets VBox. Raises UserError without a schedule, or when lengths differ.
    """
    import ipywidgets

    lengths = {len(alpha_bar) for alpha_bar in schedules.values()}
    if len(lengths) != 1:
        raise UserError(f"schedules of one length are needed; got lengths {sorted(lengths)}")
    steps = lengths.pop()
    slider = ipywidgets.IntSlider(steps // 3, 0, steps - 1, description="step t")
    menu = ipywidgets.Dropdown(options=list(schedules), description="schedule")
    image = ipywidgets.Image(format="png")

    def draw(_: Any = None) -> None:
        image.value = style.png(noise_figure(x0, eps, schedules, menu.value, slider.value))

    slider.observe(draw, "value")
    menu.observe(draw, "value")
    draw()
    return ipywidgets.VBox([ipywidgets.HBox([slider, menu]), image])


def samples_figure(
    pictures: Mapping[str, Tensor], index: int, captions: Mapping[str, Sequence[str]] | None = None
) -> Any:
    """Image `index` of every sampler, side by side.

    pictures: sampler -> (n, 1, H, W) uint8. captions: sampler -> n texts. Returns a matplotlib figure.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.1 * len(pictures), 2.6))
    figure.set_layout_engine("none")
    for column, (name, images) in enumerate(pictures.items()):
        ax = figure.add_axes(((column + 0.04) / len(pictures), 0.03, 0.92 / len(pictures), 0.76))
        ax.imshow(images[index, 0], vmin=0, vmax=255)
        ax.set_axis_off()
        ax.set_title(f"{name}\n{captions[name][index]}" if captions else name)
    return figure


def widget01_samples(
    pictures: Mapping[int, Mapping[str, Tensor]], captions: Mapping[int, Mapping[str, Sequence[str]]] | None = None
) -> Any:
    """Browse samples: the image by its number of the seed, and how many steps the samplers took. Nothing is sampled.

    pictures: steps -> sampler -> (n, 1, H, W) uint8, n the same everywhere. captions: steps -> sampler -> n texts.
    Returns an ipywidgets VBox. Raises UserError without pictures, or when their numbers differ.
    """
    import ipywidgets

    counts = {len(images) for of_steps in pictures.values() for images in of_steps.values()}
    if len(counts) != 1:
        raise UserError(f"as many pictures of each sampler are needed; got {sorted(counts)}")
    slider = ipywidgets.IntSlider(0, 0, counts.pop() - 1, description="image")
    steps = ipywidgets.SelectionSlider(options=sorted(pictures), value=max(pictures), description="steps")
    image = ipywidgets.Image(format="png")

    def draw(_: Any = None) -> None:
        of_steps = captions[steps.value] if captions else None
        image.value = style.png(samples_figure(pictures[steps.value], slider.value, of_steps))

    slider.observe(draw, "value")
    steps.observe(draw, "value")
    draw()
    return ipywidgets.VBox([ipywidgets.HBox([slider, steps]), image])
