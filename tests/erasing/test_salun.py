"""SalUn: its mask, and what moves under it."""

import numpy as np
import pytest
import torch
from tiny_concepts import conditional, real, scene

from pudm_lite.erasing.layers import only
from pudm_lite.erasing.methods import erase
from pudm_lite.erasing.salun import relabelling, saliency, salun
from pudm_lite.erasing.scenes import distance
from pudm_lite.errors import UserError


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_the_mask_takes_the_largest_of_all_tensors_together(share):
    gradients = list(torch.randn(100, generator=torch.Generator().manual_seed(0)).split([10, 60, 30]))
    gradients[0] = gradients[0] * 1e-3  # a tensor with hardly any
    found = torch.cat(saliency(gradients, share)).numpy()
    sizes = np.abs(torch.cat(gradients).numpy())
    expected = np.zeros(100)
    expected[np.argsort(sizes)[::-1][: round(share * 100)]] = 1
    assert (found == expected).all()


def test_the_wrong_label_is_a_target_without_a_gradient():
    mine, other = torch.ones(2, 1, 2, 2, requires_grad=True), torch.zeros(2, 1, 2, 2, requires_grad=True)
    loss = relabelling(mine, other)
    assert loss.tolist() == [1, 1]
    assert torch.autograd.grad(loss.sum(), [other], allow_unused=True) == (None,)


def test_each_batch_is_images_to_forget_with_wrong_labels_and_kept_ones_with_theirs():
    found, seen = scene(erased=("b",), batch_size=8), []
    only(found.student, "all")
    student = found.eps_student
    found.eps_student = lambda x, t, tokens: (seen.append((x, t, tokens)), student(x, t, tokens))[1]
    objective = salun(found, alpha=2.0, looks=6)
    assert torch.equal(seen[0][2], found.tokens(torch.tensor([1] * 6)))  # the mask: of images to forget, as they are
    value = objective(3)
    (x_wrong, _, wrong), (x, t, told) = seen[1:]
    assert torch.equal(x_wrong, x[:4])
    table = found.model.concepts.tokens.data
    assert torch.equal(told[:4], table[[1] * 4])
    for tokens in (*wrong, *told[4:]):
        (row,) = (table == tokens).flatten(1).all(1).nonzero()
        assert row in (0, 2, 3)
    noisy, eps = found.of_real(torch.zeros(8, dtype=torch.long), 9)  # the noise of the step
    assert torch.equal(noisy.t, t)
    with torch.no_grad():
        forgetting = (student(x[:4], t[:4], told[:4]) - student(x[:4], t[:4], wrong)).square().mean()
        replay = (student(x, t, told) - eps)[4:].square().mean()
    torch.testing.assert_close(value.detach(), forgetting + 2 * replay)


def test_only_the_masked_half_moves_and_the_mask_goes_with_the_edit():
    model = conditional()
    found = erase(model, ("a",), "salun", images=real()[0], labels=real()[1], steps=2, batch_size=4, looks=4)
    before = dict(model.network.named_parameters())
    after = dict(found.model.network.named_parameters())
    moved = sum(int((after[name] != before[name]).sum()) for name in before)
    everything = sum(p.numel() for p in before.values())
    assert 0.4 < moved / everything <= 0.5 + 1e-6
    assert not any(p._backward_hooks for p in after.values())


def test_a_share_out_of_range_is_refused():
    with pytest.raises(UserError, match=r"share must lie in \(0, 1\], of the parameters; got 0"):
        salun(scene(), share=0)


@pytest.mark.parametrize("share", [0.25, 0.5])
def test_what_moves_is_that_share_where_the_forgetting_loss_has_its_largest_gradients(share):
    found = scene()
    only(found.student, "all")
    noisy, eps = found.of_real(found.pick(found.real(erased=True), 4, 0), 0)
    loss = distance(found.eps_student(noisy.x, noisy.t, found.tokens(noisy.row)), eps).mean()
    sizes = torch.cat([g.abs().flatten() for g in torch.autograd.grad(loss, found.trained, materialize_grads=True)])
    salun(found, share=share, looks=4)(0).backward()
    moved = torch.cat([p.grad.flatten() for p in found.trained]) != 0
    assert moved.double().mean() == pytest.approx(share, abs=0.01)
    assert sizes[moved].min() >= sizes[~moved].max()


def test_wrong_labels_are_never_the_erased_and_are_drawn_anew_each_step_as_the_images_are():
    found, told, picked = scene(erased=("b",), batch_size=8), [], []
    only(found.student, "attn2")
    objective = salun(found, looks=4)
    student, of_real, table = found.eps_student, found.of_real, found.model.concepts.tokens.data
    found.eps_student = lambda x, t, tokens: (told.append(tokens), student(x, t, tokens))[1]
    found.of_real = lambda at, step: (picked.append(tuple(at[:4].tolist())), of_real(at, step))[1]
    with torch.no_grad():
        for step in range(12):
            objective(step)
    wrong = [tuple(int((table == each).flatten(1).all(1).nonzero()) for each in tokens) for tokens in told[::2]]
    assert {row for rows in wrong for row in rows} == {0, 2, 3}
    assert len(set(wrong)) > 6
    assert len(set(picked)) > 6
