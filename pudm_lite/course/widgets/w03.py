"""The widget of notebook 03: the risk of a model with two parameters, drawn over the plane as beta and U change.

The model is one round Gaussian whose centre is all it can learn. Its l(x), with the expectation of Eq. 8, is
A + B |x - centre|^2 (`toy.one_gaussian_error`), so the risks over all centres are known from a few averages and only
have to be mixed when a slider moves.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...diffusion import Process
from ...draws import generator
from ...errors import UserError
from ...results import style
from ...risks import bce_sensitive
from ..toy import Gaussians, one_gaussian_coefficients, one_gaussian_error

RISKS = ("upu", "nnpu", "abspu")
EDGE = 1.3
"""The centre goes over [-EDGE, EDGE]^2: farther than the points, because a risk may push it past them."""


@dataclass(frozen=True)
class Landscape:
    """What `landscape` has averaged: everything that no slider changes.

    centres: (G,), the grid along one axis. l_n, l_s: (G, G), E_N[l] and E_S[l] of the model whose centre is
    (centres[column], centres[row]). push: (G, G), E_S[-log(1 - exp(-l))]. p_n, p_s: the distributions.
    points_n, points_s, rank: points to draw U from; point i of U is sensitive where rank[i] < the true share.
    """

    centres: Tensor
    l_n: Tensor
    l_s: Tensor
    push: Tensor
    p_n: Gaussians
    p_s: Gaussians
    points_n: Tensor
    points_s: Tensor
    rank: Tensor


def landscape(p_s: Gaussians, p_n: Gaussians, process: Process, std: float, cells: int = 53) -> Landscape:
    """Average once. std: of the model's Gaussian; that of p_n, if it is one blob, makes the model able to be p_n.
    cells: G.

    E_N[l] and E_S[l] are exact: A + B (|centre - E[x]|^2 + trace of the covariance). The push is not linear in l; its
    mean is taken over 400 points of p_S.
    """
    centres = torch.linspace(-EDGE, EDGE, cells)
    grid = torch.cartesian_prod(centres, centres).flip(1)  # (G * G, 2), x fastest
    a, b = one_gaussian_coefficients(std, process.alpha_bar)

    def expected(p: Gaussians) -> Tensor:
        return (a + b * ((grid - p.mean()).square().sum(1) + p.spread())).view(cells, cells)

    many = p_s.sample(400, generator(3, 1))
    push = bce_sensitive(one_gaussian_error(many, grid, std, process.alpha_bar)).mean(1).view(cells, cells)
    n, s = p_n.sample(300, generator(3, 2)), p_s.sample(300, generator(3, 3))
    rank = torch.rand(300, generator=generator(3, 4))
    return Landscape(centres, expected(p_n), expected(p_s), push, p_n, p_s, n, s, rank)


def mixed(land: Landscape, beta: float, share: float, method: str) -> tuple[Tensor, Tensor]:
    """The risk over all centres, and its normal part E_U[l] - beta E_S[l]. beta: assumed. share: true.

    method: one of RISKS. Returns (G, G), (G, G).
    """
    normal = share * land.l_s + (1 - share) * land.l_n - beta * land.l_s
    kept = {"upu": normal, "nnpu": normal.clamp(min=0), "abspu": normal.abs()}[method]
    return beta * land.push + kept, normal


def landscape_figure(land: Landscape, beta: float, share: float, method: str = "nnpu") -> Any:
    """Left: the risk over the centre, with U, the true normal mean and the best centre. Right: a cut along y = 0.

    Returns a matplotlib figure.
    """
    from matplotlib.figure import Figure

    total, normal = mixed(land, beta, share, method)
    x = land.centres
    figure = Figure(figsize=(9.6, 4.1))
    plane, cut = figure.subplots(1, 2, width_ratios=(1, 1.05))
    low, high = float(total.min()), float(total.max())
    levels = low + (high - low) * torch.linspace(0, 1, 13).square()  # denser near the minimum
    plane.contourf(x, x, total, levels=levels.tolist(), cmap="Blues", alpha=0.8)
    if (normal < 0).any():
        plane.contourf(x, x, normal, levels=[float(normal.min()) - 1, 0], colors="none", hatches=["///"])
        plane.contour(x, x, normal, levels=[0], colors=style.BLACK, linestyles="--", linewidths=1)
    u = torch.where((land.rank < share)[:, None], land.points_s, land.points_n)
    plane.plot(*u.T, ".", ms=2.5, color="#555555", label="U")
    plane.plot(*land.p_n.mean(), "P", ms=10, color=style.GREEN, mec="white", label="mean of the normal points")
    row, column = divmod(int(total.argmin()), len(x))
    plane.plot(x[column], x[row], "*", ms=15, color=style.ORANGE, mec="white", clip_on=False, label="lowest risk")
    plane.set(aspect="equal", title=f"{method}: assumed beta {beta:.2f}, true share {share:.2f}")
    plane.set(xlabel="centre of the model, first coordinate", ylabel="second coordinate")
    plane.legend(loc="lower left", fontsize=8, frameon=True)

    middle = len(x) // 2  # y = 0
    cut.axhline(0, color=style.BLACK, lw=0.8)
    truth = (1 - share) * land.l_n[middle]
    cut.plot(x, truth, color=style.GREEN, ls=":", lw=3, label="$(1-\\pi)\\,E_N[\\ell]$, the truth ($\\pi$: true share)")
    cut.plot(x, normal[middle], color=style.BLUE, label="$E_U[\\ell] - \\beta\\,E_S[\\ell]$, Eq. 16")
    cut.plot(x, beta * land.push[middle], color=style.ORANGE, ls="-.", label="the push $\\beta\\,L_S^+$")
    cut.plot(x, total[middle], color=style.BLACK, ls="--", label=f"the risk of {method}")
    cut.set(xlabel="first coordinate of the centre (second: 0)", ylabel="risk", title="a cut through the middle")
    cut.set_ylim(-0.75, 3.0)
    cut.legend(fontsize=8, loc="upper left")
    return figure


def widget03_landscape(land: Landscape, beta: float = 0.2, share: float = 0.2, method: str = "nnpu") -> Any:
    """Sliders for the assumed beta and the true share of sensitive points in U, and a menu of risks.

    beta, share: inside [0.02, 0.6]. method: one of RISKS. Returns an ipywidgets VBox.
    Raises UserError for values out of range.
    """
    import ipywidgets

    if not (0.02 <= beta <= 0.6 and 0.02 <= share <= 0.6):
        raise UserError(f"beta and the share must lie in 0.02..0.6; got {beta:g} and {share:g}")
    if method not in RISKS:
        raise UserError(f"the risk must be one of {', '.join(RISKS)}; got {method!r}")

    def slider(value: float, name: str) -> Any:
        return ipywidgets.FloatSlider(value=value, min=0.02, max=0.6, step=0.02, description=name)

    betas, shares = slider(beta, "beta"), slider(share, "true share")
    menu = ipywidgets.Dropdown(options=RISKS, value=method, description="risk")
    image = ipywidgets.Image(format="png")

    def draw(_: Any = None) -> None:
        image.value = style.png(landscape_figure(land, betas.value, shares.value, menu.value))

    for control in (betas, shares, menu):
        control.observe(draw, "value")
    draw()
    return ipywidgets.VBox([ipywidgets.HBox([betas, shares, menu]), image])
