"""Whether a concept is gone, and what went with it: rates by the judge, the concept graph, the null prompt's share."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ..conditional import Conditional
from ..measures.judge import Judge
from ..measures.metrics import Rate, frechet_distance, non_sensitive_rate
from ..sampling import draw

SAMPLER, SAMPLER_STEPS = "ddpm", 14


def probabilities(judge: Judge, images: Tensor) -> tuple[Tensor, Tensor]:
    """What the judge says of n images: (n, classes) probabilities, and (n, d) features."""
    features = judge.look(images).features
    with torch.no_grad():
        return judge.network.head(features).softmax(1), features


def draw_prompted(
    network: nn.Module, model: Conditional, rows: Tensor, seed: int, guidance: float = 1.0, steps: int = SAMPLER_STEPS
) -> Tensor:
    """An image for each row of the table, (n, C, H, W) uint8. Image i of a seed starts from the same noise for every
    network, so pictures of two networks are pairs. rows: (n,) int64."""
    table = model.concepts
    return draw(
        network,
        model.process,
        len(rows),
        SAMPLER,
        steps,
        seed,
        prompts=table.tokens.data[rows],
        null=table.null.data,
        guidance=guidance,
    )


@dataclass(frozen=True)
class Drawn:
    """Images that a model drew for each concept of its table, and the judge's word on them.

    rows: (n,) int64, what each was asked for. probability: (n, K). features: (n, d). images: (n, C, H, W) uint8.
    """

    rows: Tensor
    probability: Tensor
    features: Tensor
    images: Tensor

    def matrix(self) -> Tensor:
        """(K, K) counts: asked for by judged."""
        k = self.probability.shape[1]
        return torch.bincount(self.rows * k + self.probability.argmax(1), minlength=k * k).reshape(k, k)

    def hit(self, k: int) -> Tensor:
        """(n,) bool: whether what was asked for is among the judge's k likeliest classes."""
        return (self.probability.topk(k, 1).indices == self.rows[:, None]).any(1)


def drawn(network: nn.Module, model: Conditional, judge: Judge, each: int, seed: int, guidance: float = 1.0) -> Drawn:
    """`each` images for every concept of the table but null."""
    rows = torch.arange(len(model.concepts.names)).repeat_interleave(each)
    images = draw_prompted(network, model, rows, seed, guidance)
    return Drawn(rows, *probabilities(judge, images), images)


def rate(hits: Tensor) -> Rate:
    """The share of True, with Wilson's interval at 95 %. hits: (n,) bool."""
    return non_sensitive_rate(hits.numpy())


def erasing_success(found: Drawn, erased: list[int], k: int = 1) -> Rate:
    """ESR-k: the share of the images asked for as an erased concept that are *not* judged so, not even as k-th best."""
    return rate(~found.hit(k)[torch.isin(found.rows, torch.tensor(erased))])


def preservation_success(found: Drawn, erased: list[int], k: int = 1) -> Rate:
    """PSR-k: the share of the images asked for as another concept that *are* judged so, at least as k-th best."""
    return rate(found.hit(k)[~torch.isin(found.rows, torch.tensor(erased))])


def harm(before: Drawn, after: Drawn) -> Tensor:
    """The slides' delta, here by the judge: the mean drop in the log-probability of what was asked for, by concept.

    Of pairs from the same noise. Probabilities below 1e-6 count as 1e-6: below that the judge is not calibrated, and
    one image would rule a mean. Returns (K,), positive where the edit did harm. Of all erased concepts, a row each,
    it is the *concept graph*.
    """
    k = after.probability.shape[1]
    own = torch.arange(len(before.rows)), before.rows
    drop = before.probability[own].clamp(min=1e-6).log() - after.probability[own].clamp(min=1e-6).log()
    return torch.stack([drop[before.rows == row].mean() for row in range(k)])


def kept_distance(found: Drawn, real: Tensor, labels: Tensor, erased: list[int]) -> float:
    """The Fréchet distance between what was drawn for the kept concepts and real images of them, on `real`'s features.

    real: (N, d) features. labels: (N,) their classes.
    """
    gone = torch.tensor(erased)
    mine = found.features[~torch.isin(found.rows, gone)].numpy()
    return frechet_distance(mine, real[~torch.isin(labels, gone)].numpy())


def spectrum(
    before: Conditional, after: nn.Module, a: Tensor, b: Tensor, points: int, judge: Judge, seed: int, n: int
) -> list[np.ndarray]:
    """Along the line from concept a to concept b, what a judge calls the images of both models.

    a, b: (m, d) tokens, mixed in `points` equal steps and scaled to a's variance. n: images at each. Returns two
    (points, K) arrays of shares, before and after.
    """
    shares = torch.linspace(0, 1, points)
    mixed = (1 - shares)[:, None, None] * a + shares[:, None, None] * b
    mixed = mixed * (a.std() / mixed.std((1, 2), keepdim=True))
    prompts = mixed.repeat_interleave(n, 0)
    found = []
    for network in (before.network, after):
        images = draw(network, before.process, points * n, SAMPLER, SAMPLER_STEPS, seed, prompts=prompts)
        called = probabilities(judge, images)[0].argmax(1).view(points, n)
        found.append(np.stack([torch.bincount(row, minlength=len(judge.classes)).numpy() / n for row in called]))
    return found
