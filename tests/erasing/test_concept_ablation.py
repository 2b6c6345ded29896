"""Concept ablation: its anchor, and where its gradient goes."""

import pytest
import torch
from tiny_concepts import NAMES, nudged, scene

from pudm_lite.erasing.concept_ablation import ablation, concept_ablation, nearest
from pudm_lite.errors import UserError


def test_the_target_is_a_constant_and_the_prior_holds_the_anchor():
    erased, anchor, frozen = torch.randn(3, 2, 1, 4, 4, generator=torch.Generator().manual_seed(0)).unbind()
    erased.requires_grad_(True), anchor.requires_grad_(True)
    loss = ablation(erased, anchor, frozen, prior=0.5)
    torch.testing.assert_close(loss, ((erased - anchor) ** 2 + 0.5 * (anchor - frozen) ** 2).mean((1, 2, 3)))
    of_erased, of_anchor = torch.autograd.grad(loss.sum(), [erased, anchor])
    torch.testing.assert_close(of_erased, (erased - anchor) / 8)  # 16 elements, the square's 2
    torch.testing.assert_close(of_anchor, 0.5 * (anchor - frozen) / 8)


def test_the_nearest_is_the_largest_cosine_of_all_kept_concepts():
    found = scene(erased=("b",))
    tokens = found.model.concepts.tokens.data.flatten(1)
    cosines = {n: float(tokens[1] @ tokens[i] / tokens[1].norm() / tokens[i].norm()) for i, n in enumerate(NAMES)}
    del cosines["b"]
    assert nearest(found, 1) == max(cosines, key=cosines.get)


def asked(found, **options):
    """The tokens that the student is asked with at a step: of the erased, and of their anchors."""
    seen, student = [], found.eps_student
    found.eps_student = lambda x, t, tokens: (seen.append((x, tokens)), student(x, t, tokens))[1]
    concept_ablation(found, **options)(0)
    x, tokens = seen[-1]
    assert torch.equal(*x.chunk(2))  # on the same images
    return tokens.chunk(2)


def test_each_erased_concept_is_compared_with_its_own_anchor():
    found = scene(erased=("a", "c"))
    erased, anchors = asked(found)
    tokens = found.model.concepts.tokens.data
    assert torch.equal(erased, tokens[[0, 2, 0, 2]])
    names = [nearest(found, row) for row in (0, 2)] * 2
    assert torch.equal(anchors, tokens[[NAMES.index(name) for name in names]])


@pytest.mark.parametrize("anchor", ["d", "null"])
def test_an_anchor_by_name(anchor):
    found = scene()
    _, anchors = asked(found, anchor=anchor)
    assert torch.equal(anchors, found.tokens(torch.tensor([found.model.concepts.index(anchor)] * 4)))


def test_the_prior_counts():
    found = nudged(scene())
    none, some, more = (concept_ablation(found, prior=prior)(0).item() for prior in (0.0, 1.0, 3.0))
    assert more - none == pytest.approx(3 * (some - none), rel=1e-4)
    assert some > none


@pytest.mark.parametrize("anchor", ["a", "b~c", "x"])
def test_an_anchor_that_is_erased_or_none_is_refused(anchor):
    with pytest.raises(UserError, match=f"unknown anchor '{anchor}'; known: nearest, b, c, d, null"):
        concept_ablation(scene(), anchor=anchor)


def test_the_nearest_is_a_concept_of_the_table_and_neither_null_nor_a_mixture():
    found = scene(erased=("b",))
    right = nearest(found, 1)
    for row, name in enumerate(found.space_names):
        if name not in NAMES:
            found.space[row] = found.tokens(torch.tensor([1]))[0]  # nothing is nearer than the concept itself
    assert nearest(found, 1) == right


def test_the_images_are_of_the_teachers_way_to_the_anchor_and_of_their_step():
    found, seen = scene(), []
    student = found.eps_student
    found.eps_student = lambda x, t, tokens: (seen.append((x[:4], t[:4])), student(x, t, tokens))[1]
    objective = concept_ablation(found, anchor="c")
    for step in (0, 3):
        objective(step)
        at = scene().of_kept(torch.tensor([1] * 4), step)  # the row of c where a is erased
        assert torch.equal(seen[-1][0], at.x)
        assert torch.equal(seen[-1][1], at.t)
