"""Estimating beta, the sensitive share of the unlabeled data, from U and S alone (Section 3.2 leaves it to the user).

A score z orders images by how much they look like S; only the order matters. Over a threshold c lie the share q_u(c)
of U and q_p(c) of S. By Eq. 13, q_u = beta q_p + (1 - beta) q_n, so q_u / q_p >= beta at every c, with equality where
no normal image scores c or more. Best-bin estimation (Garg, Wu, Smola, Balakrishnan and Lipton 2021) looks for such a
c without trusting thresholds that few images of S reach.
"""

import math
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from .datasets import to_model
from .draws import draw_batch, generator
from .errors import UserError


@dataclass(frozen=True)
class Tails:
    """Shares over every threshold that counts.

    c: (K,) thresholds, ascending: the distinct scores of U that at least one score of S reaches. q_u, q_p: (K,)
    float64 in (0, 1], the shares of U and of S with score >= c. n_u, n_p: how many scores they are shares of.
    """

    c: Tensor
    q_u: Tensor
    q_p: Tensor
    n_u: int
    n_p: int

    @property
    def ratio(self) -> Tensor:
        """(K,), q_u / q_p: an estimate of a number that is at least beta."""
        return self.q_u / self.q_p

    def margin(self, delta: float, gamma: float) -> Tensor:
        """(K,), what best-bin estimation adds to the ratio: (1 + gamma) / q_p times the two shares' errors.

        Each share is off by more than sqrt(ln(4 / delta) / (2 n)) with probability delta / 2 at most (Dvoretzky,
        Kiefer and Wolfowitz), whatever the threshold; 1 / q_p carries that over to the ratio.
        """
        log = math.log(4 / delta)
        return (1 + gamma) / self.q_p * (math.sqrt(log / (2 * self.n_u)) + math.sqrt(log / (2 * self.n_p)))


def share_over(z: Tensor, c: Tensor) -> Tensor:
    """The share of scores z (n,) that are c or more, for each threshold in c (K,). Returns (K,) float64."""
    below = torch.searchsorted(z.sort().values, c.to(z.dtype))  # (K,) scores < c
    return (len(z) - below).double() / len(z)


def tails(z_u: Tensor, z_s: Tensor) -> Tails:
    """Tail shares at the distinct scores of U; thresholds that no score of S reaches are left out.

    z_u: (n_u,), z_s: (n_p,) scores, larger = more like S, of images that the scorer was not trained on.
    Only U's scores are thresholds: at a score of S above all of U the ratio is 0, which says nothing of beta.
    Raises ValueError when a group is empty, or S lies below all of U.
    """
    if min(len(z_u), len(z_s)) == 0:
        raise ValueError("scores of U and of S are needed, at least one each")
    z_u, z_s = z_u.double(), z_s.double()
    c = z_u.unique()  # sorted
    q_u, q_p = share_over(z_u, c), share_over(z_s, c)
    reached = q_p > 0
    if not reached.any():
        raise ValueError("every score of S lies below every score of U: larger scores must mean more like S")
    return Tails(c[reached], q_u[reached], q_p[reached], len(z_u), len(z_s))


@dataclass(frozen=True)
class Bin:
    """An estimate of beta and where it was read off: the ratio q_u / q_p over the threshold c."""

    beta: float
    c: float
    q_u: float
    q_p: float


def _bin(t: Tails, at: Tensor) -> Bin:
    i = int(at)
    return Bin(min(1.0, float(t.ratio[i])), float(t.c[i]), float(t.q_u[i]), float(t.q_p[i]))


def best_bin(z_u: Tensor, z_s: Tensor, delta: float = 0.1, gamma: float = 0.01) -> Bin:
    """Best-bin estimation (Garg et al. 2021): the ratio where the ratio plus its margin (`Tails.margin`) is smallest.

    z_u: (n_u,), z_s: (n_p,) held-out scores, larger = more like S. delta in (0, 1): the margin's error probability.
    gamma >= 0. It leans high while normal images reach every threshold that S reaches often.
    Raises ValueError for delta or gamma out of range, and as `tails`.
    """
    if not 0 < delta < 1 or gamma < 0:
        raise ValueError(f"delta must lie inside (0, 1) and gamma be at least 0; got {delta} and {gamma}")
    t = tails(z_u, z_s)
    return _bin(t, (t.ratio + t.margin(delta, gamma)).argmin())


def naive_min_ratio(z_u: Tensor, z_s: Tensor) -> Bin:
    """The smallest ratio q_u / q_p. With scores that never tie it stays too low however many there are: the smallest
    of many noisy ratios is one that chance made small, and far up there are always few images.

    Arguments and errors as `tails`.
    """
    t = tails(z_u, z_s)
    return _bin(t, t.ratio.argmin())


class Scorer(nn.Module):
    """A small convolutional network that tells S from U. Its logit is the score: unlike a probability in float32, it
    does not tie at 1."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, 16, 5, 2, 2),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, 2, 1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(7),
            nn.Flatten(),
            nn.Linear(32 * 49, 64),
            nn.ReLU(),
        )
        self.head = nn.Linear(64, 1)

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, C, H, W) in [-1, 1]. Returns logits (B,)."""
        return self.head(self.body(x)).squeeze(1)


@torch.no_grad()
def score(scorer: nn.Module, images: Tensor, batch_size: int = 500) -> Tensor:
    """images: (n, C, H, W) uint8. Returns (n,) logits, larger = more like S."""
    return torch.cat([scorer(to_model(part)) for part in images.split(batch_size)])


def _train(
    scorer: nn.Module, optimiser: torch.optim.Optimizer, u: Tensor, s: Tensor, seed: int, first: int, steps: int
) -> None:
    """Logistic loss, U and S weighted alike; batches first .. first + steps - 1 of the seed, 96 of U and 32 of S."""
    for step in range(first, first + steps):
        batch = draw_batch("two", len(u), len(s), 128, 32, seed, step)
        z_u, z_s = scorer(to_model(torch.cat([u[batch.u], s[batch.s]]))).split([96, 32])
        loss = nn.functional.softplus(z_u).mean() + nn.functional.softplus(-z_s).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


@dataclass(frozen=True)
class BetaEstimate:
    """What `estimate_beta` found.

    best_bin, naive: the two readings of the same held-out scores. z_u: (n_u,), z_s: (n_p,) those scores. held_u:
    (n_u,) positions in U of the held-out half. rounds: best-bin estimates after each round of (TED)^n.
    """

    best_bin: Bin
    naive: Bin
    z_u: Tensor
    z_s: Tensor
    held_u: Tensor
    rounds: tuple[float, ...] = ()


def estimate_beta(images_u: Tensor, images_s: Tensor, seed: int, steps: int = 400, rounds: int = 0) -> BetaEstimate:
    """beta from images: train S against U on one half of each, score the other half, read beta off the scores.

    images_u: (N, C, H, W), images_s: (M, C, H, W) uint8, N, M >= 2. seed: of halves, initial weights and batches.
    steps: of training, 128 images each.
    rounds: of (TED)^n (Garg et al. 2021): the share of the training half of U that the last estimate calls sensitive,
        highest scores first, is set aside; training goes on for steps / 2 without it; beta is estimated again.
    Raises UserError when U or S has fewer than two images, and where no score of S reaches those of U.
    """
    if min(len(images_u), len(images_s)) < 2:
        raise UserError("beta is estimated from halves of U and S: at least two images of each are needed")
    order_u = torch.randperm(len(images_u), generator=generator(seed, 0))
    order_s = torch.randperm(len(images_s), generator=generator(seed, 1))
    train_u, held_u = order_u[len(order_u) // 2 :], order_u[: len(order_u) // 2]
    train_s, held_s = order_s[len(order_s) // 2 :], order_s[: len(order_s) // 2]
    u, s = images_u[train_u], images_s[train_s]
    with torch.random.fork_rng():
        torch.manual_seed(generator(seed, 2).initial_seed())
        scorer = Scorer(images_u.shape[1])
    optimiser = torch.optim.AdamW(scorer.parameters(), 1e-3, weight_decay=0.01)
    _train(scorer, optimiser, u, s, seed, 0, steps)

    def held_out() -> tuple[Tensor, Tensor]:
        return score(scorer, images_u[held_u]), score(scorer, images_s[held_s])

    z_u, z_s = held_out()
    try:
        found = best_bin(z_u, z_s)
        betas = []
        for i in range(rounds):
            kept = score(scorer, u).argsort()[: max(1, len(u) - round(found.beta * len(u)))]
            _train(scorer, optimiser, u[kept], s, seed, steps + i * (steps // 2), steps // 2)
            z_u, z_s = held_out()
            found = best_bin(z_u, z_s)
            betas.append(found.beta)
    except ValueError as error:
        raise UserError(f"beta cannot be estimated from these images: {error}") from None
    return BetaEstimate(found, naive_min_ratio(z_u, z_s), z_u, z_s, held_u, tuple(betas))


def beta_interval(
    z_u: Tensor, z_s: Tensor, seed: int, confidence: float = 0.95, resamples: int = 200
) -> tuple[float, float]:
    """An interval for best-bin estimation, by bootstrap over the held-out images: percentiles of its resamples.

    z_u: (n_u,), z_s: (n_p,) held-out scores. It tells how far chance in these images moves the estimate. How far the
    scorer's confusion of normal with sensitive images does, which moves it up alone, it cannot tell.
    Raises ValueError as `tails`.
    """
    best_bin(z_u, z_s)  # raises where there is no estimate at all
    draws = generator(seed, 4)
    found = []
    for _ in range(resamples):
        u, s = (z[torch.randint(len(z), (len(z),), generator=draws)] for z in (z_u, z_s))
        with suppress(ValueError):  # a resample of few scores of S may lie below all of U
            found.append(best_bin(u, s).beta)
    tail = (1 - confidence) / 2
    low, high = np.quantile(found, [tail, 1 - tail])
    return float(low), float(high)


def principal_components(images_u: Tensor, images_s: Tensor, d: int = 20) -> tuple[Tensor, Tensor]:
    """Pixels of U and S on the d directions in which the two together vary most.

    images_u: (N, C, H, W), images_s: (M, C, H, W) uint8. Returns (N, d), (M, d) float32.
    """
    x_u, x_s = to_model(images_u).flatten(1), to_model(images_s).flatten(1)
    both = torch.cat([x_u, x_s])
    centred = both - both.mean(0)
    _, vectors = torch.linalg.eigh(centred.T @ centred)  # ascending
    turned = centred @ vectors[:, -d:].flip(1)
    return turned[: len(x_u)], turned[len(x_u) :]


def km2(features_u: Tensor, features_s: Tensor, seed: int, most: int = 800) -> float:
    """beta by KM2 (Ramaswamy, Scott and Tewari 2016), from pu-toolbox (MIT): how far S's mean can be taken out of U's
    in a kernel space before what is left stops being a distribution.

    features_u: (N, d), features_s: (M, d). most: images of each group that are used, drawn by seed; time grows
    faster than their square. Needs no classifier, but the features and the kernel's width decide what it sees.
    """
    from pu_toolbox.prior.kernel_mean import KernelMeanPriorEstimator

    x = torch.cat([features_u, features_s]).double().numpy()
    is_s = np.arange(len(x)) >= len(features_u)
    estimator = KernelMeanPriorEstimator(
        variant="km2", width_selection="mmd_grid", max_samples_per_group=most, random_state=seed
    )
    return float(estimator.fit(x, is_s.astype(int)).estimate())


def share_left(true_share: float, beta: float) -> float:
    """The sensitive share of p_U - beta p_S (Eq. 14 with the assumed beta), cut off at 0 and scaled to mass one.

    What a learner that fits Eq. 14 exactly would still draw, where normal and sensitive images do not overlap:
    max(0, (true_share - beta) / (1 - beta)). true_share in [0, 1], beta in [0, 1). Raises ValueError outside.
    """
    if not 0 <= true_share <= 1 or not 0 <= beta < 1:
        raise ValueError(f"true_share must lie in [0, 1] and beta in [0, 1); got {true_share} and {beta}")
    return max(0.0, (true_share - beta) / (1 - beta))
