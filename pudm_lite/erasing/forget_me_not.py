"""Forget-Me-Not (Zhang et al. 2024): attention is taken off the erased concept's tokens."""

from collections.abc import Callable
from typing import Any

import torch
from diffusers.models.attention_processor import Attention
from torch import Tensor

from .scenes import Scene


def attention_at(probabilities: Tensor, at: Tensor) -> Tensor:
    """The squared norm of the attention to some tokens, a mean over heads and places: a number.

    probabilities: (n, places, tokens), each row a softmax. at: (tokens,) bool, the concept's.
    """
    return probabilities[..., at].square().sum(-1).mean()


class Watched:
    """A Diffusers attention processor that keeps the attention probabilities, and leaves the answer to another."""

    def __init__(self, usual: Any, seen: list[Tensor]) -> None:
        self.usual, self.seen = usual, seen

    def __call__(
        self, attn: Attention, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, *rest: Any,
        **others: Any,
    ) -> Tensor:  # fmt: skip
        told = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query, key = (attn.head_to_batch_dim(h) for h in (attn.to_q(hidden_states), attn.to_k(told)))
        self.seen.append(attn.get_attention_scores(query, key))
        return self.usual(attn, hidden_states, encoder_hidden_states, *rest, **others)


def forget_me_not(scene: Scene) -> Callable[[int], Tensor]:
    """The objective of Forget-Me-Not, a number for each step: `attention_at` the concept's tokens, over all layers.

    It trains cross-attention: queries, keys, and what comes before the last attention; the last one's values and
    output are never seen by it. The concept's tokens are those that the null prompt does not have in their place: all
    but the first of a prompt of Stable Diffusion, and all of a concept of the table, so that there attention cannot
    leave them, and is only spread evenly. A concept of one token would be attended to with certainty, whatever is done.
    """
    seen: list[Tensor] = []
    for name, module in scene.student.named_modules():
        if name.endswith(".attn2"):
            usual = module.processor
            module.set_processor(Watched(usual, seen))
            scene.undo.callback(module.set_processor, usual)
    erased = scene.tokens(torch.tensor(scene.rows))  # (k, m, d)
    own = (erased != scene.null).any(2).any(0)  # (m,)

    def objective(step: int) -> Tensor:
        at, tokens = scene.of_erased(step)
        seen.clear()  # of the trajectories that the student drew on the way
        scene.eps_student(at.x, at.t, tokens)
        return torch.stack([attention_at(probabilities, own) for probabilities in seen]).sum()

    return objective
