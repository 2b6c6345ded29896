"""What a network costs, counted."""

import pytest
import torch
from torch import nn

from pudm_lite.networks import make_network
from pudm_lite.runs.bench import forward_gflop


def test_flops_are_those_of_its_convolutions_and_linear_layers():
    """By hand, from the shapes that pass: 2 * inputs of an output * outputs."""
    network, counted = make_network("lite", 3, 32), []

    def count(layer, _, output):
        counted.append(2 * layer.weight[0].numel() * output.numel())

    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(count)
    with torch.no_grad():
        network(torch.zeros(1, 3, 32, 32), 0)
    assert forward_gflop("lite", "standin-32") == pytest.approx(sum(counted) / 1e9)


def test_nine_times_the_pixels_cost_nine_times_the_work():
    small, large = (forward_gflop("lite", f"standin-{size}") for size in (32, 96))
    assert large == pytest.approx(9 * small, rel=0.01)  # but for the few layers that see the time alone
