"""Three 'digits' that are Gaussians, a network that denoises them in closed form, and a judge that parts them: what an
attack must find is known exactly.

Digit k is the image mu_k, 0.6 on a block of its own, plus noise of standard deviation S. A network draws as digit k
whose mean its tokens name: the columns of W are what each direction of token space stands for.
"""

from types import SimpleNamespace

import torch
from diffusers.models.unets.unet_2d import UNet2DOutput
from torch import Tensor, nn

from pudm_lite.conditional import Concepts, Conditional
from pudm_lite.datasets import to_model
from pudm_lite.diffusion import Process, noise_schedule
from pudm_lite.erasing.attacks.target import Target
from pudm_lite.measures.judge import Judge

S, SIDE, DIM, TOKENS = 0.1, 4, 6, 2
NAMES = ("0", "1", "2")
PROCESS = Process(noise_schedule("lite", 100).float())
MEANS = torch.zeros(3, SIDE * SIDE)
for _k in range(3):
    MEANS[_k, 4 * _k : 4 * _k + 4] = 0.6
HONEST = torch.zeros(SIDE * SIDE, DIM)
"""W: direction k stands for digit k, direction 3, null's, for a blank image, and the others for faint patterns."""
HONEST[:, :3] = MEANS.T
HONEST[12:, 3:] = 0.1 * torch.eye(4)[:, :3]


class GaussianNet(nn.Module):
    """eps*(x_t, t, c) = sqrt(1 - ab) (x_t - sqrt(ab) mu) / (1 - ab + ab S^2), mu = W times the mean token."""

    def __init__(self, w: Tensor) -> None:
        super().__init__()
        self.config = SimpleNamespace(in_channels=1, sample_size=SIDE)
        self.block = nn.Module()
        self.block.attn2 = nn.Module()
        for name in ("to_k", "to_v"):  # either half of W, so that an edit can be told by both
            linear = nn.Linear(DIM, SIDE * SIDE, bias=False)
            linear.weight.data = w / 2
            setattr(self.block.attn2, name, linear)

    def forward(self, x: Tensor, t: Tensor, tokens: Tensor) -> UNet2DOutput:
        attn2 = self.block.attn2
        mean = (attn2.to_k(tokens) + attn2.to_v(tokens)).mean(1).view_as(x)
        ab = PROCESS.alpha_bar[t].view(-1, 1, 1, 1)
        return UNet2DOutput(sample=(1 - ab).sqrt() * (x - ab.sqrt() * mean) / (1 - ab + ab * S**2))


class NearestMean(nn.Module):
    """The judge's network: the digit whose mean is nearest, or a blank image. `head` is linear in pixels."""

    title = "nearest mean"

    def __init__(self) -> None:
        super().__init__()
        means = torch.cat([MEANS, torch.zeros(1, SIDE * SIDE)])
        self.head = nn.Linear(SIDE * SIDE, 4)
        self.head.weight.data, self.head.bias.data = means / S**2, -means.square().sum(1) / (2 * S**2)

    def prepare(self, images: Tensor) -> Tensor:
        return to_model(images)

    def features(self, x: Tensor) -> Tensor:
        return x.flatten(1)


JUDGE = Judge(NearestMean(), (*NAMES, "blank"), [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], "nearest")


def model(w: Tensor = HONEST) -> Conditional:
    """A model with these columns; both tokens of concept k are its direction, those of null the fourth."""
    table = Concepts(names=NAMES, per_concept=TOKENS, dim=DIM)
    table.tokens.data = torch.eye(DIM)[:4, None].repeat(1, TOKENS, 1)
    return Conditional(GaussianNet(w.clone()), PROCESS, table)


def swapped() -> Tensor:
    """An edit that answers 0 as 1 and 1 as 0: nothing is lost, and whoever asks for 1 gets the 0."""
    return HONEST[:, [1, 0, 2, 3, 4, 5]]


def destroyed() -> Tensor:
    """An edit after which no tokens stand for a 0: its mean is orthogonal to all columns."""
    w = HONEST.clone()
    w[:, 0] = 0
    return w


def real_images(each: int = 20, seed: int = 0, strength: float = 1.0) -> tuple[Tensor, Tensor]:
    """`each` images of every digit, its mean times `strength` plus noise; and their rows."""
    labels = torch.arange(3).repeat_interleave(each)
    noise = S * torch.randn(3 * each, SIDE * SIDE, generator=torch.Generator().manual_seed(seed))
    return (strength * MEANS[labels] + noise).view(-1, 1, SIDE, SIDE), labels


def target(w: Tensor, n: int = 20, seed: int = 0, before: Tensor = HONEST, strength: float = 1.0) -> Target:
    """An attack on 0, as an edit left it."""
    images, labels = real_images(strength=strength)
    return Target(model(before), model(w), "0", JUDGE, n, seed, images, labels)
