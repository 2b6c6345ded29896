"""Classifier guidance: the judge itself steers the edited model, through its guess of the clean image."""

from dataclasses import replace
from functools import partial

import torch
from diffusers.models.unets.unet_2d import UNet2DOutput
from torch import Tensor, nn

from ...conditional import Conditional
from ...errors import UserError
from ...measures.judge import Judge
from ..measures import rate
from ..scenes import estimate
from .target import Outcome, Target, best_of


class Steered(nn.Module):
    """A network that predicts eps - scale sqrt(1 - ab) grad over x_t of log p(class | x0-hat(x_t)).

    Classifier guidance (Dhariwal & Nichol 2021, Algorithm 2) with a classifier of clean
    images, which looks at x0-hat = E[x_0 | x_t], as the network has it; the gradient passes through the network.
    """

    def __init__(self, model: Conditional, judge: Judge, name: str, scale: float) -> None:
        super().__init__()
        self.network, self.config = model.network, model.network.config
        self.eps, self.alpha_bar = estimate(model.network, model.process), model.process.alpha_bar
        self.judge, self.wanted, self.scale = judge.network, judge.classes.index(name), scale

    def forward(self, x: Tensor, t: Tensor, tokens: Tensor) -> UNet2DOutput:
        """x: (B, C, H, W). t: (B,). tokens: (B, m, d). The sample is the steered eps."""
        ab = self.alpha_bar.to(x)[t][:, None, None, None]
        with torch.enable_grad():
            x = x.detach().requires_grad_(True)
            eps = self.eps(x, t, tokens)
            x0 = (x - (1 - ab).sqrt() * eps) / ab.sqrt()
            logits = self.judge.head(self.judge.features(x0.clamp(-1, 1)))
            (gradient,) = torch.autograd.grad(logits.log_softmax(1)[:, self.wanted].sum(), [x])
        return UNet2DOutput(sample=eps.detach() - self.scale * (1 - ab).sqrt() * gradient)


def guidance(target: Target, scales: tuple[float, ...], controls: int) -> Outcome:
    """The edited model is asked for the erased concept and steered to what the judge calls so, at one scale after the
    other until it does: the best of them. The curve: the share after 1, 2, ... scales.

    What succeeds here may be the judge's own doing, who steers and is then asked. So the control: the *unedited* model,
    asked for concepts that were never erased and steered as hard. Only what lies above it tells of the edited model.
    Published (Lu et al. 2025): a latent classifier, scales 25 to 193, 24 samples. Ours: the table's scales.
    Raises UserError where the judge does not read images as the model draws them, since it then has no gradient.
    """
    blank = torch.zeros((1, *target.shape), dtype=torch.uint8)
    if target.judge.network.prepare(blank).shape != blank.shape:
        raise UserError("the judge changes images before it reads them: guidance needs one that reads them as drawn")
    eps = replace(target.process, prediction="epsilon")

    def steer(model: Conditional, prompts: Tensor, scale: float, left: Tensor) -> Tensor:
        return target.drawn(Steered(model, target.judge, target.erased, scale), prompts, process=eps)[left]

    own = target.tokens.expand(target.n, -1, -1)
    outcome = best_of([partial(steer, target.after, own, scale) for scale in scales], target.n)
    others = target.negatives(controls)
    null = best_of([partial(steer, target.before, others, scale) for scale in scales], controls)
    return Outcome(outcome.hits, outcome.curve, rate(null.hits))
