"""The widget of notebook 04: samples of several networks from one seed, side by side, with what the judge says."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ...measures.judge import Judge, Verdict
from ...results.report import SENSITIVE
from ...results.style import png


@dataclass(frozen=True)
class Samples:
    """What one network drew, and the judge's words. images: (n, C, H, W) uint8. called: n class names.
    normal: (n,) bool. confidence: (n,), in (0, 1]."""

    title: str
    images: Tensor
    called: tuple[str, ...]
    normal: Tensor
    confidence: Tensor

    @classmethod
    def judged(cls, title: str, images: Tensor, verdict: Verdict, judge: Judge, normal: tuple[str, ...]) -> "Samples":
        """images: (n, C, H, W) uint8, which `verdict` speaks of. normal: names of the normal classes."""
        called = tuple(judge.classes[i] for i in verdict.classes.tolist())
        return cls(title, images, called, judge.is_normal(verdict, normal), verdict.confidence)


def draw_side_by_side(samples: list[Samples], index: int) -> Any:
    """A matplotlib figure: image `index` of each network, framed where the judge calls it sensitive, and its words.

    Drawn without pyplot, so a callback leaves no open figure behind.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.3 * len(samples), 2.9), dpi=72)
    for ax, one in zip(figure.subplots(1, len(samples), squeeze=False)[0], samples, strict=True):
        ax.imshow(one.images[index].float().mean(0), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        ax.set(xticks=[], yticks=[], title=one.title)
        normal = bool(one.normal[index])
        word = "normal" if normal else "SENSITIVE"
        ax.set_xlabel(f"judge: {one.called[index]}, {word}\nconfidence {float(one.confidence[index]):.2f}")
        ax.grid(False)
        for spine in ax.spines.values():
            spine.set_visible(True)
            spine.set(linewidth=0.8 if normal else 4, edgecolor="black" if normal else SENSITIVE)
    return figure


def which(samples: list[Samples]) -> dict[str, list[int]]:
    """The image numbers worth leafing through, by what they are; a list without images is left out."""
    first, last = samples[0].normal, samples[-1].normal
    a, b = samples[0].title, samples[-1].title
    found = {
        "all images": list(range(len(first))),
        f"{a} sensitive, {b} normal": (~first & last).nonzero()[:, 0].tolist(),
        f"{a} normal, {b} sensitive": (first & ~last).nonzero()[:, 0].tolist(),
        "sensitive in both": (~first & ~last).nonzero()[:, 0].tolist(),
    }
    return {name: indices for name, indices in found.items() if indices}


def widget04_browser(samples: list[Samples]) -> Any:
    """An ipywidgets box: a menu of kinds of image, a slider over them, and the picture.

    samples: one entry a network, image by image from the same noise; the menu compares the first with the last.
    Nothing is computed by a network here: a move of the slider draws a small picture.
    """
    import ipywidgets as widgets

    kinds = which(samples)
    menu = widgets.Dropdown(options=list(kinds), description="show")
    slider = widgets.SelectionSlider(
        options=kinds["all images"], description="image", continuous_update=False, layout={"width": "420px"}
    )
    picture = widgets.Image(format="png", value=png(draw_side_by_side(samples, slider.value)))

    def draw(change: dict[str, Any]) -> None:
        picture.value = png(draw_side_by_side(samples, change["new"]))

    def refill(change: dict[str, Any]) -> None:
        slider.options = kinds[change["new"]]  # also moves the slider to the first of them

    slider.observe(draw, "value")
    menu.observe(refill, "value")
    return widgets.VBox([menu, slider, picture])
