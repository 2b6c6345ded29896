"""The widget of notebook 03: its landscape against direct averages and the formula, and what its controls change."""

import pytest
import torch

from pudm_lite.course import toy
from pudm_lite.course.widgets.w03 import RISKS, landscape, landscape_figure, mixed, widget03_landscape
from pudm_lite.draws import generator
from pudm_lite.errors import UserError
from pudm_lite.risks import abspu, nnpu, upu

PROCESS = toy.toy_process(50)
P_N = toy.Gaussians(torch.ones(1), torch.tensor([[-0.3, 0.0]]), torch.tensor([0.22]))
P_S = toy.Gaussians(torch.ones(1), torch.tensor([[0.5, 0.2]]), torch.tensor([0.16]))


@pytest.fixture(scope="module")
def land():
    return landscape(P_S, P_N, PROCESS, std=0.22, cells=27)


@pytest.mark.parametrize("method", RISKS)
def test_a_cell_is_the_risk_of_the_model_at_that_centre(land, method):
    """Against the package's risk of l at many points. beta is so large that the clamp is at work in places."""
    n, s = P_N.sample(40_000, generator(1)), P_S.sample(20_000, generator(2))
    u = torch.cat([s[:10_000], n[:30_000]])  # a quarter sensitive
    total, normal = mixed(land, 0.5, 0.25, method)
    function = {"upu": upu, "nnpu": nnpu, "abspu": abspu}[method]
    seen = set()
    for row, column in ((13, 10), (13, 2), (4, 20)):
        centre = torch.stack([land.centres[column], land.centres[row]])
        l_u, l_s = (toy.one_gaussian_error(x, centre, 0.22, PROCESS.alpha_bar) for x in (u, s))
        assert float(total[row, column]) == pytest.approx(float(function(l_u, l_s, 0.5).value), abs=0.04)
        seen.add(bool(normal[row, column] < 0))
    assert seen == {True, False}


@pytest.mark.parametrize(("beta", "share"), [(0.2, 0.2), (0.4, 0.2), (0.1, 0.3)])
def test_the_normal_part_is_lowest_where_the_formula_says(land, beta, share):
    _, normal = mixed(land, beta, share, "upu")
    row, column = divmod(int(normal.argmin()), len(land.centres))
    formula = ((1 - share) * P_N.mean() + (share - beta) * P_S.mean()) / (1 - beta)
    found = torch.stack([land.centres[column], land.centres[row]])
    assert (found - formula).abs().max() <= 0.051  # half a cell


def test_every_control_changes_the_picture(land):
    widget = widget03_landscape(land, beta=0.4)
    (betas, shares, menu), image = widget.children[0].children, widget.children[1]
    seen = [bytes(image.value)]
    for control, value in ((betas, 0.5), (shares, 0.1), (menu, "upu"), (menu, "abspu")):
        control.value = value
        seen.append(bytes(image.value))
    assert all(value.startswith(b"\x89PNG") for value in seen)
    assert len(set(seen)) == len(seen)


def test_the_figure_says_what_is_assumed(land):
    plane, cut = landscape_figure(land, 0.4, 0.1, "nnpu").axes
    assert "assumed beta 0.40, true share 0.10" in plane.get_title()
    assert len(cut.lines) == 5


def test_values_out_of_range_are_refused(land):
    with pytest.raises(UserError, match=r"0\.02\.\.0\.6"):
        widget03_landscape(land, beta=0.9)
    with pytest.raises(UserError, match="the risk must be one of"):
        widget03_landscape(land, method="pn")
