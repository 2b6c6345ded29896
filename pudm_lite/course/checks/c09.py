"""The checks of notebook 09: Eq. 20 with drop, the answer to null, guidance, its score, and what is left of a concept.

Scores are those of autograd, answers to null those of a mixture's closed form: neither is the formula asked for.
"""

import torch
from torch import Tensor

from .. import toy
from ..guidance import Line
from .harness import Function, check, expect


def _normal(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64)


def _uniform(*shape: int) -> Tensor:
    return torch.rand(shape, dtype=torch.float64)


def _shares(k: int) -> Tensor:
    parts = 0.3 + _uniform(k)
    return parts / parts.sum()


@check("09.1", "told_error")
def check_09_1(told_error: Function) -> None:
    """Eq. 20 at one draw for each image, some of which the network is told nothing of."""
    for _ in range(3):
        eps, eps_c, eps_null = _normal(6, 1, 3, 2), _normal(6, 1, 3, 2), _normal(6, 1, 3, 2)
        drop = float(0.1 + 0.2 * _uniform())
        u = drop + (1 - 2 * drop) * _uniform(6)  # neither below drop nor above 1 - drop
        u[1], u[4] = drop * _uniform(2)
        u[2] = 1 - drop * _uniform()
        l_c, l_null = ((eps - guess).square().flatten(1).sum(1) for guess in (eps_c, eps_null))
        right = torch.where(u < drop, l_null, l_c)
        mixed = (eps - (1 - drop) * eps_c - drop * eps_null).square().flatten(1).sum(1)
        expect(
            told_error(eps, eps_c, eps_null, u, drop),
            right,
            {
                "the other way round: an image is told nothing where u < drop, one in ten or so": torch.where(
                    u < drop, l_c, l_null
                ),
                "an image is told nothing where u < drop: you took u > 1 - drop, as frequent, but not what was asked": (
                    torch.where(u > 1 - drop, l_null, l_c)
                ),
                "that is the average over the coin; a step tosses it: each image is told its concept, or nothing": (
                    1 - drop
                )
                * l_c
                + drop * l_null,
                "you mixed the two guesses; the network is asked once for an image, with one condition": mixed,
                "nothing is dropped: where u < drop the network is told null": l_c,
                "Eq. 20 is the squared norm, a sum over pixels, not their mean": right / 6,
                "the squared norm was asked for: no root": right.sqrt(),
                "you added up the whole batch; each image keeps its own error": right.sum(),
                "you averaged over the batch; each image keeps its own error": right.mean(),
            },
        )


@check("09.2", "null_eps")
def check_09_2(null_eps: Function) -> None:
    """The best answer to null from those to three concepts, against the closed form of their mixture."""
    for _ in range(3):
        shares = _shares(3)
        p = toy.Gaussians(shares, 2 * _uniform(3, 2) - 1, 0.2 + 0.3 * _uniform(3))
        alpha_bar = 0.3 + 0.5 * _uniform(1)
        x, t = _normal(5, 2), torch.zeros(5, dtype=torch.long)
        parts = [toy.Gaussians(torch.ones(1).double(), p.means[k : k + 1], p.stds[k : k + 1]) for k in range(3)]
        density = torch.stack([part.density(x, float(alpha_bar)) for part in parts])  # (3, 5)

        def best(q: toy.Gaussians, x: Tensor = x, t: Tensor = t, alpha_bar: Tensor = alpha_bar) -> Tensor:
            return toy.exact_eps(q, alpha_bar)(toy.as_images(x), t).flatten(1)

        eps_c = torch.stack([best(part) for part in parts])  # (3, 5, 2)
        wide = shares[:, None] * density
        expect(
            null_eps(eps_c, density, shares),
            best(p),
            {
                "each concept counts by its share alone; at x_t its density there counts too, p_t(x_t | c)": (
                    torch.einsum("k,knd->nd", shares, eps_c)
                ),
                "the shares are missing: a frequent concept counts for more": torch.einsum(
                    "kn,knd->nd", density / density.sum(0), eps_c
                ),
                "the weights must add up to 1 at each point: divide by p_t(x_t), the sum of shares times densities": (
                    torch.einsum("kn,knd->nd", wide, eps_c)
                ),
                "these are weights already: a softmax would exponentiate densities": torch.einsum(
                    "kn,knd->nd", wide.softmax(0), eps_c
                ),
                "that is a plain mean over the concepts, the same weight everywhere": eps_c.mean(0),
                "you divided over the points; the weights of one point, over the concepts, add up to 1": torch.einsum(
                    "kn,knd->nd", wide / wide.sum(1, keepdim=True), eps_c
                ),
                "you took the likeliest concept's answer alone; null stands for all of them": eps_c[
                    wide.argmax(0), torch.arange(5)
                ],
            },
        )


@check("09.3", "guided_eps")
def check_09_3(guided_eps: Function) -> None:
    """Guidance at scales below and above 1, and at 0 and 1."""
    for scale in (float(1.5 + 3 * _uniform()), float(0.2 + 0.5 * _uniform()), 1.0, 0.0):
        eps_c, eps_null = _normal(3, 1, 2, 2), _normal(3, 1, 2, 2)
        expect(
            guided_eps(eps_c, eps_null, scale),
            eps_null + scale * (eps_c - eps_null),
            {
                "the two are swapped: scale 1 should give eps_c, scale 0 eps_null": eps_c + scale * (eps_null - eps_c),
                "that is Ho and Salimans' own way to count, in which 0 is the conditional model; here it is scale 1": (
                    eps_c + scale * (eps_c - eps_null)
                ),
                "the gap is missing: start from eps_null, and go `scale` times the way to eps_c": scale * eps_c,
                "eps_null is counted once too often: the weights of the two add up to 1": eps_null + scale * eps_c,
                "a sign: go from eps_null towards eps_c": eps_null - scale * (eps_c - eps_null),
                "that is the gap alone: it is added to eps_null": scale * (eps_c - eps_null),
            },
        )


@check("09.4", "guided_score", points=2)
def check_09_4(guided_score: Function) -> None:
    """The slope of log p_t(x) + scale log p_t(c | x) for concepts on a line, against autograd."""
    for _ in range(3):
        line = Line(_shares(3), torch.tensor([-1.0, 0.2, 1.3]).double() + 0.3 * _normal(3), 0.4 + 0.5 * _uniform(3))
        x, concept = _normal(7), int(torch.randint(3, ()))
        scale, ab = float(1.5 + 2 * _uniform()), float(0.3 + 0.4 * _uniform())
        at = x.clone().requires_grad_()
        (right,) = torch.autograd.grad(line.log_named(at, concept, scale, ab).sum(), at)

        def formula(
            means: Tensor, variance: Tensor, shares: Tensor, x: Tensor = x, concept: int = concept
        ) -> tuple[Tensor, Tensor]:
            """The concept's score and that of the mixture."""
            scores = (means - x[:, None]) / variance
            logs = -(means - x[:, None]).square() / (2 * variance) - variance.log() / 2 + shares.log()
            return scores[:, concept], (logs.softmax(1) * scores).sum(1)

        def guided(told: Tensor, untold: Tensor, scale: float = scale) -> Tensor:
            return untold + scale * (told - untold)

        means, stds, shares = line.means, line.stds, line.shares
        variance = ab * stds.square() + 1 - ab
        told, untold = formula(ab**0.5 * means, variance, shares)
        equal = torch.full_like(shares, 1 / 3)
        expect(
            guided_score(x, shares, means, stds, concept, scale, ab),
            right,
            {
                "that is the concept's score, without guidance": told,
                "that is the score of the mixture: how far to go to the concept's is missing": untold,
                "the concept's score times the scale is the score of p(x|c)^scale; what p(x) adds is missing": scale
                * told,
                "the two scores are swapped: scale 1 should give the concept's": guided(untold, told),
                "a sign: the score points from x to the means": -right,
                "x_t is noisy: its variance is ab std^2 + 1 - ab": guided(
                    *formula(ab**0.5 * means, stds.square(), shares)
                ),
                "the means of x_t are shrunk by sqrt(ab), Eq. 5": guided(*formula(means, variance, shares)),
                "the means are shrunk by the *root* of ab, Eq. 5": guided(*formula(ab * means, variance, shares)),
                "without noise, at t = 0: there the score is another": guided(*formula(means, stds.square(), shares)),
                "the shares are missing in p_t(c | x)": guided(*formula(ab**0.5 * means, variance, equal)),
                "the mixture's score weighs each concept's by p_t(c | x), which depends on x, not by its share": guided(
                    told, ((ab**0.5 * means - x[:, None]) / variance) @ shares
                ),
                "that is eps, -sqrt(1 - ab) times the score; the score was asked for": -((1 - ab) ** 0.5) * right,
                "the slope of log p(c|x) alone, times the scale: the slope of log p(x) is missing": scale
                * (told - untold),
            },
        )


@check("09.5", "weight_of_each")
def check_09_5(weight_of_each: Function) -> None:
    """p_U(c) - beta p_S(c) by counting; two of the concepts are sensitive and have less left than nothing."""
    for _ in range(3):
        k, beta = 5, float(0.15 + 0.1 * _uniform())
        labels_s = torch.cat([torch.tensor([1, 3, 3]), torch.randint(0, 2, (8,)) * 2 + 1])
        n_n = int(torch.randint(60, 90, ()))
        normal = torch.tensor([0, 2, 4])[torch.randint(3, (n_n,))]  # S lacks the last concept, too
        labels_u = torch.cat([normal, torch.tensor([0, 2, 3, 1, 4]), torch.tensor([1, 3]).repeat(2)])
        labels_u = labels_u[torch.randperm(len(labels_u))]
        of_u, of_s = (torch.bincount(labels, minlength=k).double() for labels in (labels_u, labels_s))
        p_u, p_s = of_u / len(labels_u), of_s / len(labels_s)
        right = p_u - beta * p_s
        expect(
            weight_of_each(labels_u, labels_s, beta, k),
            right,
            {
                "these are counts: p_U(c) and p_S(c) are shares, each of its own set": of_u - beta * of_s,
                "the counts of S are divided by the size of S": p_u - beta * of_s / len(labels_u),
                "beta is missing in front of p_S": p_u - p_s,
                "a plus: S is taken away from U": p_u + beta * p_s,
                "that is p_N(c), divided by 1 - beta: the weight itself was asked for": right / (1 - beta),
                "a weight below 0 is what the clamp cannot see; do not cut it off": right.clamp(min=0),
                "that is p_U(c): nothing is taken away": p_u,
                "beta weighs the share of S, and 1 - beta is not in front of p_U: U is the mixture already": (1 - beta)
                * p_u
                - beta * p_s,
            },
        )
