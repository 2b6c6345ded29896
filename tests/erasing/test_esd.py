"""ESD's target, and the gradient that follows from it."""

import pytest
import torch
from tiny_concepts import nudged, scene

from pudm_lite.erasing.esd import erasing_term, esd, esd_target
from pudm_lite.erasing.layers import only


def test_the_target_at_0_is_null_and_at_1_its_mirror_image():
    told, untold = torch.randn(2, 3, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(esd_target(told, untold, 0.0), untold)
    torch.testing.assert_close(esd_target(told, untold, 1.0), 2 * untold - told)
    # guidance of scale -eta, as classifier-free guidance is written
    torch.testing.assert_close(esd_target(told, untold, 2.5), 3.5 * untold - 2.5 * told)


def test_the_term_is_the_students_distance_from_the_teachers_target():
    found = nudged(scene())
    at, tokens = found.of_erased(3)
    with torch.no_grad():
        mine = found.eps_student(at.x, at.t, tokens)
        told = found.eps_teacher(at.x, at.t, tokens)
        untold = found.eps_teacher(at.x, at.t, found.null.expand(4, -1, -1))
        expected = (mine - 2 * untold + told).flatten(1).pow(2).mean(1)
        torch.testing.assert_close(erasing_term(found, 3, 1.0), expected)
        assert esd(found)(3).item() == pytest.approx(expected.mean().item(), rel=1e-5)


def test_an_unedited_student_is_eta_plus_one_differences_away():
    found = scene()
    naive, mirrored = (erasing_term(found, 0, eta).detach() for eta in (0.0, 1.0))
    torch.testing.assert_close(mirrored, 4 * naive)


@pytest.mark.parametrize("layers", ["attn2", "not-attn2"])
def test_the_gradient_is_the_slope_by_finite_differences(layers):
    found = nudged(scene())
    parameters, objective = only(found.student, layers), esd(found)
    gradients = torch.autograd.grad(objective(0), parameters)
    size = sum(g.square().sum() for g in gradients).sqrt()
    values = []
    for side in (1, -1):
        with torch.no_grad():
            for p, g in zip(parameters, gradients, strict=True):
                p += side * 2e-2 * g / size
            values.append(objective(0).item())
            for p, g in zip(parameters, gradients, strict=True):
                p -= side * 2e-2 * g / size
    assert (values[0] - values[1]) / 4e-2 == pytest.approx(size.item(), rel=0.02)
