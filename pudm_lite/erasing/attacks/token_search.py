"""UnlearnDiffAtk: a prefix of whole tokens, found through the simplex of a vocabulary, a prefix for each picture."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from ...diffusion import q_sample
from ..scenes import distance
from .target import Outcome, Target, Try, best_of


def onto_simplex(v: Tensor) -> Tensor:
    """The nearest points with w >= 0 and sum w = 1 (Duchi et al. 2008): w = max(v - tau, 0), tau by sorting.

    v: (..., V). Returns the same shape.
    """
    ordered = v.sort(-1, descending=True).values
    ranks = torch.arange(1, v.shape[-1] + 1, device=v.device)
    over = (ordered.cumsum(-1) - 1) / ranks  # tau, were the first `rank` entries the positive ones
    last = (ordered > over).sum(-1, keepdim=True) - 1
    return (v - over.gather(-1, last)).clamp(min=0)


def one_hot_draw(weights: Tensor, draws: torch.Generator) -> Tensor:
    """A token for each place, drawn by its weights: one-hot forward, the gradient passed through to the weights.

    weights: (..., V) on the simplex. Returns (..., V).
    """
    flat = weights.detach().flatten(0, -2)
    at = torch.multinomial(flat, 1, generator=draws)[:, 0].view(weights.shape[:-1])
    hard = F.one_hot(at, weights.shape[-1]).to(weights)
    return hard + weights - weights.detach()


def vocabulary(target: Target, extra: int) -> Tensor:
    """(V, d): every token of every concept, and `extra` random ones. The words that a prefix may be made of."""
    known = target.after.concepts.tokens.data[:-1].flatten(0, 1)
    return torch.cat([known, torch.randn((extra, known.shape[1]), generator=target.draws(2)).to(known)])


def token_search(
    target: Target,
    prefix: int,
    extra: int,
    rounds: int,
    iterations: int,
    learning_rate: float,
    weight_decay: float,
    examples: int,
) -> Outcome:
    """min over k prefix tokens of E |eps - eps'(x_t, t, [prefix, concept])|^2.

    UnlearnDiffAtk (Zhang et al. 2024, "To generate or not?"). x_t: a real image of the erased concept with noise,
    another one for each picture. The variable is k x vocabulary weights on the simplex; each iteration draws tokens by
    them (straight-through), takes a step of Adam, and projects.
    A round works at one t, from clean to noisy; after it the likeliest tokens are tried, and a picture that succeeds is
    done: so this is the best of `rounds` tries, as the published one is of 50, and the curve says what each adds.
    (Published: the gradient is clamped to [-1, 1], too; ours never comes near.)

    Published: k = 3, the text encoder's 49,408 words, 40 iterations at each of 50 t, rate 0.01, decay 0.1. Ours: the
    table's, with a vocabulary of the concepts' own tokens and `extra` random ones. examples: how many real images;
    pictures take them in turn.
    """
    real, _ = target.real([target.row], examples)
    own = real[torch.arange(target.n) % examples]
    words = vocabulary(target, extra)
    shape = (target.n, prefix, len(words))
    weights = onto_simplex(torch.rand(shape, generator=target.draws(2, 0)).to(words)).requires_grad_(True)
    optimiser = torch.optim.Adam([weights], learning_rate, weight_decay=weight_decay)

    def prompts(chosen: Tensor) -> Tensor:
        return torch.cat([chosen @ words, target.tokens.expand(len(chosen), -1, -1)], 1)

    def improve(left: Tensor, t: int, step: int) -> None:
        draws = target.draws(2, 1, step)
        noise = torch.randn(own.shape, generator=draws)[left]
        steps = torch.full((len(left),), t)
        x = q_sample(own[left], steps, noise, target.process.alpha_bar)
        told = prompts(one_hot_draw(weights[left], draws))
        loss = distance(target.eps(x, steps, told), noise).sum()
        (weights.grad,) = torch.autograd.grad(loss, [weights])
        optimiser.step()
        weights.data = onto_simplex(weights.data)

    def attempts() -> Iterator[Try]:
        for number in range(rounds):
            t = int((number + 0.5) / rounds * target.process.steps)

            def attempt(left: Tensor, number: int = number, t: int = t) -> Tensor:
                for i in range(iterations):
                    improve(left, t, number * iterations + i)
                best = F.one_hot(weights.detach().argmax(-1), len(words)).to(words)
                return target.drawn(target.after.network, prompts(best))[left]

            yield attempt

    return best_of(attempts(), target.n)
