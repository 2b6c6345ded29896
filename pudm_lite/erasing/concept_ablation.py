"""Concept ablation (Kumari et al. 2023): the erased concept is answered as an anchor concept is."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import UserError
from .scenes import Scene, distance


def ablation(erased: Tensor, anchor: Tensor, frozen: Tensor, prior: float) -> Tensor:
    """|eps'(x_t, c) - sg eps'(x_t, c')|^2 + prior |eps'(x_t, c') - eps(x_t, c')|^2: (B,).

    x_t are images of the anchor c'. The student's own answer to the anchor is the target, without a gradient (sg);
    the second term keeps that answer where the frozen teacher's is, as the source's prior loss does.
    erased, anchor: (B, C, H, W), the student's estimates at c and c'. frozen: the teacher's at c'.
    """
    return distance(erased, anchor.detach()) + prior * distance(anchor, frozen)


def nearest(scene: Scene, row: int) -> str:
    """The kept concept whose tokens have the largest cosine with those of a row of the table."""
    singles = [i for i, name in enumerate(scene.space_names) if name in scene.model.concepts.names]
    likeness = F.cosine_similarity(scene.space[singles].flatten(1), scene.tokens(torch.tensor([row])).flatten(1))
    return scene.space_names[singles[int(likeness.argmax())]]


def concept_ablation(scene: Scene, anchor: str = "nearest", prior: float = 1.0) -> Callable[[int], Tensor]:
    """The objective of concept ablation, a number for each step. It trains the keys and values of cross-attention.

    anchor: a kept concept's name, or `null`, or `nearest`: each erased concept's own by cosine of tokens. Its noisy
    images are those that the teacher passes through while it draws it. Raises UserError for another anchor.
    """
    singles = [name for name in scene.space_names if name in (*scene.model.concepts.names, "null")]
    if anchor not in ("nearest", *singles):
        raise UserError(f"unknown anchor {anchor!r}; known: nearest, {', '.join(singles)}")
    names = [nearest(scene, row) if anchor == "nearest" else anchor for row in scene.rows]
    anchors = torch.tensor([scene.space_names.index(name) for name in names])  # of `space`, one an erased concept
    which = torch.arange(scene.batch_size) % len(names)
    erased, told = scene.tokens(torch.tensor(scene.rows)[which]), scene.space[anchors[which]]

    def objective(step: int) -> Tensor:
        at = scene.of_kept(anchors[which], step)
        x, t = torch.cat([at.x, at.x]), torch.cat([at.t, at.t])
        mine, anchored = scene.eps_student(x, t, torch.cat([erased, told])).chunk(2)
        return ablation(mine, anchored, scene.teacher(at.x, at.t, told), prior).mean()

    return objective
