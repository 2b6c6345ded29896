"""Orthogonalised updates, against the singular value decomposition and torch.optim.Muon."""

import pytest
import torch
from torch import nn
from torch.optim._muon import _zeropower_via_newtonschulz

from pudm_lite.optimisers import OPTIMISERS, Muon, make_optimisers, orthogonalise

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
SHAPES = [(16, 16), (16, 144), (144, 16), (64, 288)]


def gaussian(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def mapped_singular_values(matrix: torch.Tensor) -> torch.Tensor:
    """Newton-Schulz by its effect: singular vectors stay, s becomes a s + b s^3 + c s^5, five times."""
    u, s, vt = torch.linalg.svd(matrix.double(), full_matrices=False)
    s = s / s.norm()
    for _ in range(5):
        s = sum(c * s**power for c, power in zip(COEFFICIENTS, (1, 3, 5), strict=True))
    return (u * s @ vt).float()


def relative_error(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm() / b.norm())


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 32, 3)
        self.kernel = nn.Conv2d(32, 16, 3)
        self.norm = nn.GroupNorm(4, 16)
        self.narrow = nn.Conv2d(16, 15, 1)
        self.linear = nn.Linear(15, 20)


@pytest.mark.parametrize("shape", SHAPES)
def test_singular_values_come_close_to_one(shape):
    s = torch.linalg.svdvals(orthogonalise(gaussian(0, *shape)))
    if shape != (16, 16):  # a square matrix has singular values too small for five steps
        assert s.min() > 0.6
    assert s.max() < 1.3


@pytest.mark.parametrize("shape", SHAPES)
def test_only_singular_values_change_as_the_polynomial_says(shape):
    matrix = gaussian(1, *shape)
    assert relative_error(orthogonalise(matrix), mapped_singular_values(matrix)) < 1e-4


@pytest.mark.parametrize("shape", SHAPES)
def test_it_is_torchs_up_to_bfloat16(shape):
    matrix = gaussian(2, *shape)
    theirs = _zeropower_via_newtonschulz(matrix, COEFFICIENTS, 5, 1e-7).float()
    assert relative_error(orthogonalise(matrix), theirs) < 0.03


@pytest.mark.parametrize("scale", [1e-4, 1e4])
def test_the_size_of_a_gradient_does_not_matter(scale):
    matrix = gaussian(3, 16, 144)
    assert relative_error(orthogonalise(scale * matrix), orthogonalise(matrix)) < 1e-3


def test_degenerate_gradients_stay_finite():
    rank_one = gaussian(4, 32, 1) @ gaussian(5, 1, 64)
    assert relative_error(orthogonalise(rank_one), mapped_singular_values(rank_one)) < 1e-2
    assert torch.equal(orthogonalise(torch.zeros(16, 32)), torch.zeros(16, 32))


@pytest.mark.parametrize("shape", [(16, 16, 3, 3), (64, 16, 1, 1)])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_steps_are_those_of_torchs_muon_on_the_flattened_kernel(shape, memory_format):
    """Three steps, so that momentum counts; torch rounds to bfloat16."""
    start = gaussian(0, *shape)
    ours = nn.Parameter(start.clone().to(memory_format=memory_format))
    theirs = nn.Parameter(start.flatten(1).clone())
    optimiser = Muon([ours], lr=0.1, momentum=0.8)
    torchs = torch.optim.Muon([theirs], lr=0.1, momentum=0.8, weight_decay=0.0)
    for step in range(3):
        gradient = gaussian(10 + step, *shape)
        ours.grad, theirs.grad = gradient.to(memory_format=memory_format), gradient.flatten(1)
        optimiser.step()
        torchs.step()
        moved = (ours.detach() - start).flatten(1)
        assert relative_error(moved, (theirs.detach() - start.flatten(1))) < 0.03


def test_momentum_is_nesterovs_average():
    """In double precision by hand: m <- 0.9 m + 0.1 g, and the update looks 0.9 m + 0.1 g ahead."""
    parameter, m, expected = nn.Parameter(torch.zeros(16, 16, 1, 1)), 0.0, 0.0
    optimiser = Muon([parameter], lr=0.5, momentum=0.9)
    for step in range(4):
        g = gaussian(step, 16, 16)
        parameter.grad = g[:, :, None, None]
        optimiser.step()
        m = 0.9 * m + 0.1 * g
        expected = expected - 0.5 * mapped_singular_values(0.9 * m + 0.1 * g)
    assert relative_error(parameter.detach()[:, :, 0, 0], expected) < 1e-3


def test_learning_rate_is_about_the_spectral_norm_of_a_step():
    parameter = nn.Parameter(torch.zeros(16, 32, 3, 3))
    parameter.grad = gaussian(0, 16, 32, 3, 3)
    Muon([parameter], lr=0.02).step()
    assert 0.6 * 0.02 < torch.linalg.matrix_norm(parameter.detach().flatten(1), 2) < 1.3 * 0.02


def test_a_parameter_without_a_gradient_stays():
    parameter = nn.Parameter(torch.ones(16, 16, 1, 1))
    Muon([parameter]).step()
    assert (parameter == 1).all()


@pytest.mark.parametrize("name", OPTIMISERS)
def test_every_parameter_is_in_exactly_one_optimiser(name):
    network = Network()
    optimisers = make_optimisers(name, network, 1e-3, 0.02)
    owned = [id(p) for o in optimisers for group in o.param_groups for p in group["params"]]
    assert sorted(owned) == sorted(id(p) for p in network.parameters())


def test_muon_takes_the_wide_kernels_and_adamw_the_rest():
    network = Network()
    muon, adamw = make_optimisers("muon", network, 1e-3, 0.02)
    assert isinstance(muon, Muon)
    assert isinstance(adamw, torch.optim.AdamW)
    assert [id(p) for p in muon.param_groups[0]["params"]] == [id(network.kernel.weight)]
    assert (muon.param_groups[0]["lr"], adamw.param_groups[0]["lr"]) == (0.02, 1e-3)


@pytest.mark.parametrize("network", [Network(), nn.Linear(2, 2)])
def test_adamw_stands_alone_without_muon_or_without_kernels(network):
    name = "adamw" if isinstance(network, Network) else "muon"
    (adamw,) = make_optimisers(name, network, 1e-3, 0.02)
    assert isinstance(adamw, torch.optim.AdamW)
    assert adamw.param_groups[0]["lr"] == 1e-3


def test_adamw_is_torchs_as_it_comes():
    """Which is what the paper trains with; beside Muon its second moment forgets sooner."""
    network = Network()
    (adamw,) = make_optimisers("adamw", network, 1e-3, 0.02)
    assert adamw.defaults == torch.optim.AdamW(network.parameters(), 1e-3).defaults
    _, beside_muon = make_optimisers("muon", network, 1e-3, 0.02)
    assert beside_muon.defaults == adamw.defaults | {"betas": (0.9, 0.99)}


def test_unknown_optimiser_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="unknown optimiser 'sgd'") as error:
        make_optimisers("sgd", Network(), 1e-3, 0.02)
    assert all(name in str(error.value) for name in OPTIMISERS)


@pytest.mark.parametrize("name", OPTIMISERS)
def test_what_is_frozen_is_in_no_optimiser(name):
    network = nn.Sequential(nn.Conv2d(16, 16, 3), nn.Conv2d(16, 16, 3))
    network[0].requires_grad_(False)
    held = [p for o in make_optimisers(name, network, 1e-3, 1e-2) for group in o.param_groups for p in group["params"]]
    assert {id(p) for p in held} == {id(p) for p in network[1].parameters()}
