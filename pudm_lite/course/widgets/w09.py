"""The widget of notebook 09: what guidance names and what it draws, for concepts on a line."""

from typing import Any

import torch

from ...results import style
from ..guidance import Line, flow, flow_density, noised, normalised, quantile_noise

PATHS, STEPS, HALFWAY = 301, 300, 0.5


def guidance_figure(line: Line, concept: int, scale: float, edge: float = 6.0) -> Any:
    """Left: the mixture, the concept, the density that guidance names, and the one that its paths end in. Right: at
    alpha_bar = HALFWAY, the density whose score guidance follows, and the named one with noise.

    edge: the axis goes over [-edge, edge]. Returns a matplotlib figure.
    """
    from matplotlib.figure import Figure

    x = torch.linspace(-edge - 3, edge + 3, 1201, dtype=torch.float64)
    z = quantile_noise(PATHS)
    ends = flow(lambda at, ab: line.guided_score(at, concept, scale, ab), z, STEPS)
    named = normalised(line.log_named(x, concept, scale), x)
    figure = Figure(figsize=(9.6, 3.6), layout="none")  # type: ignore[arg-type]  # fixed margins: a redraw has 0.2 s
    figure.subplots_adjust(left=0.07, right=0.99, bottom=0.15, top=0.88, wspace=0.16)
    left, right = figure.subplots(1, 2)
    left.fill_between(x, line.log_density(x).exp(), color=style.GREY, alpha=0.3, lw=0, label="$p(x)$: null, $w=0$")
    own = line.log_densities(x)[:, concept].exp()
    left.plot(x, own, ":", color=style.BLUE, label=r"$p(x\,|\,c)$: $w=1$")
    left.plot(x, named, "--", color=style.ORANGE, label=r"named: $p(x)\,p(c\,|\,x)^w$")
    left.plot(ends, flow_density(z, ends), color=style.BLACK, label="drawn")
    left.set(title="the clean end", ylabel="density")
    followed = normalised(line.log_named(x, concept, scale, HALFWAY), x)
    right.plot(x, noised(named, x, HALFWAY), "--", color=style.ORANGE, label="the named one, noised")
    right.plot(x, followed, color=style.GREEN, label=r"followed: $p_t(x)\,p_t(c\,|\,x)^w$")
    right.set(title=r"halfway: $\bar\alpha_t$ = 0.5")
    for ax in (left, right):
        ax.set(xlim=(-edge, edge), ylim=(0, None), xlabel="$x$")
        ax.legend(fontsize=9, loc="upper left")
    figure.suptitle(
        f"asked for the concept around {float(line.means[concept]):g}, guidance $w$ = {scale:g}", fontsize=11
    )
    return figure


def widget09_guidance(line: Line, concept: int = 2, scale: float = 2.0) -> Any:
    """A slider for the guidance w and a menu of concepts over `guidance_figure`. Returns an ipywidgets VBox."""
    import ipywidgets

    slider = ipywidgets.FloatSlider(scale, min=0.0, max=5.0, step=0.25, description="guidance w")
    centres = {f"around {mean:g}": k for k, mean in enumerate(line.means.tolist())}
    menu = ipywidgets.Dropdown(options=centres, value=concept, description="concept")
    image = ipywidgets.Image(format="png")

    def draw(_: Any = None) -> None:
        image.value = style.png(guidance_figure(line, menu.value, slider.value))

    for control in (slider, menu):
        control.observe(draw, "value")
    draw()
    return ipywidgets.VBox([ipywidgets.HBox([slider, menu]), image])
