import gaussian_digits as g
import torch

from pudm_lite.erasing.attacks.closed_form import closed_form
from pudm_lite.erasing.uce import keys_and_values, recovered


def test_it_finds_the_concept_that_a_swap_answers_as_the_erased_one():
    target = g.target(g.swapped())
    old, new = keys_and_values(target.before.network), keys_and_values(target.after.network)
    assert torch.allclose(recovered(old, new, target.tokens, 1e-9), target.after.concepts.tokens.data[1], atol=1e-4)
    assert closed_form(target, lam=0.1).hits.all()


def test_what_is_lost_cannot_be_recovered():
    assert not closed_form(g.target(g.destroyed()), lam=0.1).hits.any()
