import gaussian_digits as g
import pytest
import torch

from pudm_lite.erasing.attacks.completion import completion, handed_over
from pudm_lite.erasing.measures import SAMPLER_STEPS, draw_prompted
from pudm_lite.sampling import timestep_grid

ROWS = torch.zeros(6, dtype=torch.int64)


def test_at_the_ends_it_draws_the_pictures_of_either_model_bit_for_bit():
    target = g.target(g.swapped())
    for share, model in ((0.0, target.after), (1.0, target.before)):
        own = draw_prompted(model.network, model, ROWS, 0)
        assert torch.equal(draw_prompted(handed_over(target, share), model, ROWS, 0), own)
    half = draw_prompted(handed_over(target, 0.5), target.after, ROWS, 0)
    assert not torch.equal(half, draw_prompted(target.after.network, target.after, ROWS, 0))
    assert not torch.equal(half, draw_prompted(target.before.network, target.before, ROWS, 0))


@pytest.mark.parametrize("share", [0, 1 / SAMPLER_STEPS, 0.15, 0.5, 1])
def test_the_unedited_model_draws_that_share_of_the_steps_the_noisiest(share):
    target = g.target(g.swapped())
    visited = timestep_grid(target.process.steps, SAMPLER_STEPS)
    last = handed_over(target, share).last
    assert (visited >= last).sum() == round(share * SAMPLER_STEPS)


def test_the_control_tells_the_unedited_model_nothing_after_the_hand_over():
    target = g.target(g.destroyed())
    blank = draw_prompted(handed_over(target, 0.0, told=False), target.before, ROWS, 0)
    assert torch.equal(blank, draw_prompted(target.before.network, target.before, ROWS + 3, 0))
    whole = draw_prompted(handed_over(target, 1.0, told=False), target.before, ROWS, 0)
    assert torch.equal(whole, draw_prompted(target.before.network, target.before, ROWS, 0))


def test_the_curve_rises_from_the_edited_model_to_the_unedited_one():
    found = completion(g.target(g.destroyed()), 0.15, (0.0, 0.5, 1.0))
    assert [at for at, _ in found.curve] == [0, 0.5, 1]
    assert found.curve[0][1].rate == 0
    assert found.curve[2][1].rate == 1
    assert found.control.rate == 0
    assert completion(g.target(g.destroyed()), 1.0, ()).control.rate == 1
