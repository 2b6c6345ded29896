"""Interpolated embeddings: ask for a concept between the erased one and another."""

import torch

from ..measures import rate
from .target import Outcome, Target


def interpolation(target: Target, shares: tuple[float, ...], looks: int) -> Outcome:
    """The best point of all lines from a kept concept, or null, to the erased one.

    It is found on `looks` pictures a point, and then asked for n times from other noise, so that the best of many is
    not mistaken for a success.

    Tokens are scaled to the erased concept's variance. shares: of the erased concept, in (0, 1). The curve: at each
    share, the hits of the search over all lines. Ours; `measures.spectrum` draws such a line.
    """
    table = target.after.concepts.tokens.data
    ends = table[[*target.kept, len(table) - 1]]
    share = torch.tensor(shares).to(table)[:, None, None, None]
    mixed = (1 - share) * ends + share * target.tokens  # (shares, ends, m, d)
    mixed = mixed * (target.tokens.std() / mixed.std((2, 3), keepdim=True))
    prompts = mixed.flatten(0, 1).repeat_interleave(looks, 0)
    found = target.drawn(target.after.network, prompts, target.other_seed(3)).view(len(shares), len(ends), looks)
    best = mixed.flatten(0, 1)[found.float().mean(2).flatten().argmax()]
    curve = tuple((at, rate(row.flatten())) for at, row in zip(shares, found, strict=True))
    return Outcome(target.drawn(target.after.network, best), curve)
