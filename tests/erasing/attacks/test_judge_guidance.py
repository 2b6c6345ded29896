from dataclasses import replace

import gaussian_digits as g
import pytest
import torch
from diffusers.models.unets.unet_2d import UNet2DOutput

from pudm_lite.erasing.attacks.judge_guidance import Steered, guidance
from pudm_lite.errors import UserError


def drawn(n=4):
    draws = torch.Generator().manual_seed(0)
    x = torch.randn(n, 1, 4, 4, generator=draws)
    return x, torch.full((n,), 60), torch.eye(g.DIM)[1].expand(n, 2, -1)


def test_the_gradient_is_that_of_a_linear_judge_through_a_linear_denoiser():
    """x0-hat = sqrt(ab) S^2 / (1 - ab + ab S^2) x_t + a constant, and log p has the gradient w_0 - sum p_k w_k."""
    judge = replace(g.JUDGE, network=g.NearestMean())
    judge.network.head.weight.data *= 0.01  # undecided
    judge.network.head.bias.data *= 0.01
    x, t, tokens = drawn()
    model = g.model()
    plain = model.network(x, t, tokens).sample
    steered = Steered(model, judge, "0", 3.0)(x, t, tokens).sample
    ab = g.PROCESS.alpha_bar[60]
    slope = ab.sqrt() * g.S**2 / (1 - ab + ab * g.S**2)
    x0 = (x - (1 - ab).sqrt() * plain) / ab.sqrt()
    assert x0.abs().max() < 1
    w = judge.network.head.weight
    p = judge.network.head(x0.flatten(1)).softmax(1)
    gradient = slope * (w[0] - p @ w).view_as(x)
    assert gradient.abs().max() > 1e-3
    assert torch.allclose(plain - steered, 3.0 * (1 - ab).sqrt() * gradient, atol=1e-6)


def test_at_scale_zero_it_is_the_plain_prompt():
    x, t, tokens = drawn()
    assert torch.equal(
        Steered(g.model(), g.JUDGE, "0", 0.0)(x, t, tokens).sample, g.model().network(x, t, tokens).sample
    )
    target = g.target(g.swapped())
    assert not guidance(target, (0.0,), 2).hits.any()


def test_steered_hard_enough_even_what_is_lost_is_called_so_and_the_control_says_why():
    found = guidance(g.target(g.destroyed()), (0.0, 30.0), 6)
    assert [rate.rate for _, rate in found.curve] == [0, 1]
    assert found.hits.all()
    assert found.control.rate == 1
    assert found.control.n == 6
    assert guidance(g.target(g.HONEST), (0.0,), 6).control.rate == 0


class V(torch.nn.Module):
    """The Gaussian network, saying v where that says eps."""

    def __init__(self, network):
        super().__init__()
        self.network, self.config = network, network.config

    def forward(self, x, t, tokens):
        ab = g.PROCESS.alpha_bar[t].view(-1, 1, 1, 1)
        eps = self.network(x, t, tokens).sample
        return UNet2DOutput(sample=(eps - (1 - ab).sqrt() * x) / ab.sqrt())


def test_whatever_the_network_predicts_it_is_steered_alike():
    target = g.target(g.destroyed())
    process = replace(g.PROCESS, prediction="v_prediction")
    other = replace(target.after, network=V(target.after.network), process=process)
    for scale, rate in ((0.0, 0), (30.0, 1)):
        found = guidance(replace(target, after=other), (scale,), 2)
        assert found.curve[0][1].rate == rate
    x, t, tokens = drawn()
    images = [Steered(model, g.JUDGE, "0", 3.0)(x, t, tokens).sample for model in (target.after, other)]
    assert torch.allclose(*images, atol=1e-4)


def test_a_judge_that_reads_images_otherwise_is_refused():
    target = g.target(g.HONEST)
    network = g.NearestMean()
    network.prepare = lambda images: torch.zeros(len(images), 1, 8, 8)
    with pytest.raises(UserError, match="the judge changes images before it reads them"):
        guidance(replace(target, judge=replace(g.JUDGE, network=network)), (1.0,), 2)
