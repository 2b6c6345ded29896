"""Conditional PU fine-tuning: which images, told what, in which risk."""

import pytest
import torch
from tiny_concepts import nudged, scene

from pudm_lite.erasing import pu as module
from pudm_lite.erasing.pu import pu
from pudm_lite.errors import UserError
from pudm_lite.risks import nnpu


def watched(monkeypatch, found):
    risks, asked, student = [], [], found.eps_student
    monkeypatch.setattr(module, "nnpu", lambda *given: risks.append(given) or nnpu(*given))
    found.eps_student = lambda x, t, tokens: asked.append((x, t, tokens)) or student(x, t, tokens)
    return risks, asked, student


def test_the_risk_is_of_both_streams_with_the_realised_share(monkeypatch):
    found = nudged(scene(erased=("c",), batch_size=16))
    risks, asked, student = watched(monkeypatch, found)
    value = pu(found, label_drop=0.0)(5)
    ((l_u, l_s, beta),), ((x, t, tokens),) = risks, asked
    assert (len(l_u), len(l_s), beta) == (14, 2, 0.25)
    assert torch.equal(tokens[14:], found.tokens(torch.tensor([2, 2])))
    at = torch.cat(
        [found.pick(torch.cat([found.real(True), found.real(False)]), 14, 10), found.pick(found.real(True), 2, 11)]
    )
    noisy, eps = found.of_real(at, 5)
    assert torch.equal(x, noisy.x)
    with torch.no_grad():
        sums = (student(x, t, tokens) - eps).square().sum((1, 2, 3))
    torch.testing.assert_close(torch.cat([l_u, l_s]).detach(), sums)
    assert value.item() == nnpu(l_u, l_s, 0.25).objective.item()


def test_u_holds_all_concepts_and_labels_are_dropped_in_both(monkeypatch):
    found = scene(batch_size=16)
    _, asked, _ = watched(monkeypatch, found)
    objective = pu(found, label_drop=0.3)
    for step in range(20):
        with torch.no_grad():
            objective(step)
    tokens = found.model.concepts.tokens.data
    told = torch.stack([(tokens == each).flatten(1).all(1).nonzero()[0, 0] for _, _, t in asked for each in t])
    told = told.view(20, 16)
    assert (told == 4).double().mean() == pytest.approx(0.3, abs=0.08)
    assert len({tuple(dropped) for dropped in (told == 4).tolist()}) > 10  # others at each step
    assert set(told[:, 14:].flatten().tolist()) == {0, 4}
    assert torch.bincount(told[:, :14].flatten(), minlength=5)[:4].min() > 30


def test_beta_is_what_is_given_and_lies_inside_0_and_1(monkeypatch):
    found = scene()
    risks, _, _ = watched(monkeypatch, found)
    pu(found, beta=0.4)(0)
    assert risks[0][2] == 0.4
    with pytest.raises(UserError, match=r"beta must lie inside \(0, 1\), the share of the erased concepts in U; got 1"):
        pu(found, beta=1.0)


@pytest.mark.parametrize(("ell_scale", "risk"), [(4.0, 0.75 + 0.25 * 0.4586751), (0.0, 12.0)])
def test_l_is_ell_scale_times_the_mean_squared_error(ell_scale, risk):
    """By hand, with an estimate that is off by 1/2 at every pixel and a quarter of the images erased: l = 4 / 4 = 1 of
    each image, L_U - L_S / 4 = 3/4, and the push on S is -log(1 - 1/e) / 4. Of 64 pixels, Eq. 8's l is 16."""
    found = scene()
    of_real = found.of_real
    found.of_real = lambda *given: (of_real(*given)[0], torch.zeros(4, 1, 8, 8))
    found.eps_student = lambda x, t, tokens: torch.full_like(x, 0.5)
    assert pu(found, ell_scale=ell_scale)(0).item() == pytest.approx(risk, abs=1e-5)
