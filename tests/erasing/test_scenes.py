"""What methods work with: trajectories, batches of the erased, of the kept, of real images."""

import pytest
import torch
from tiny_concepts import NAMES, conditional, nudged, real, scene

from pudm_lite.diffusion import q_sample
from pudm_lite.draws import generator
from pudm_lite.erasing.scenes import GRID, GUIDANCE, Scene, distance, estimate, trajectories
from pudm_lite.errors import UserError
from pudm_lite.sampling import ddim, guided, timestep_grid


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_trajectories_are_those_of_ddim_on_the_guided_estimate(prediction):
    model = conditional(prediction=prediction)
    table, eps = model.concepts, estimate(model.network, model.process)
    tokens = table.tokens.data[[2, 0, 1]]
    found = trajectories(eps, model.process, (1, 8, 8), tokens, table.null.data, generator(5))
    told, grid = guided(eps, table.null.data, GUIDANCE), timestep_grid(1000, GRID)
    x = torch.randn((3, 1, 8, 8), generator=generator(5))
    with torch.no_grad():
        walk = [x, *ddim(lambda x, t: told(x, t, tokens), x, model.process.alpha_bar, grid, [])]
    torch.testing.assert_close(found.x, torch.cat(walk[:-1]), atol=1e-4, rtol=1e-4)
    assert found.t.tolist() == [t for t in grid.tolist() for _ in range(3)]
    assert found.row.tolist() == [0, 1, 2] * GRID


def test_a_batch_of_the_erased_is_of_the_students_own_way_and_each_point_comes_once():
    found = nudged(scene(erased=("b", "d")))
    batches = [found.of_erased(step) for step in range(GRID)]
    rows = torch.tensor([1, 3, 1, 3])
    tokens = found.model.concepts.tokens.data
    expected = trajectories(
        found.eps_student, found.model.process, (1, 8, 8), tokens[rows], found.null, generator(0, 0, 0)
    )
    seen = torch.cat([batch.x for batch, _ in batches]).flatten(1)
    assert torch.equal(seen.sum(1).sort().values, expected.x.flatten(1).sum(1).sort().values)
    for batch, told in batches:
        assert torch.equal(told, tokens[batch.row])
        assert set(batch.row.tolist()) <= {1, 3}
    assert len({tuple(batch.t.tolist()) for batch, _ in batches}) > 1  # in random order
    nudged(found)
    assert torch.equal(found.of_erased(GRID - 1)[0].x, batches[-1][0].x)  # drawn once, and kept
    changed, still = found.of_erased(GRID)[0].x, nudged(scene(erased=("b", "d"))).of_erased(GRID)[0].x
    assert not torch.equal(changed, still)  # the next are drawn by the student as it is then


def test_a_batch_of_the_kept_is_of_the_teachers_way_whatever_was_asked_before():
    one, other = scene(), nudged(scene())
    other.of_kept(torch.tensor([5, 3]), 7)
    rows = torch.tensor([3, 0, 3])
    a, b = one.of_kept(rows, 2), other.of_kept(rows, 2)
    assert torch.equal(a.x, b.x)
    assert torch.equal(a.t, b.t)
    assert torch.equal(a.row, rows)
    tokens = one.space[3].expand(min(8, one.batch_size), -1, -1)
    walk = trajectories(one.eps_teacher, one.model.process, (1, 8, 8), tokens, one.null, generator(0, 1, 3))
    for i in (0, 2):
        (at,) = (walk.x == a.x[i]).flatten(1).all(1).nonzero()
        assert walk.t[at] == a.t[i]
    assert not torch.equal(one.of_kept(rows, 3).t, a.t)
    assert not torch.equal(scene(seed=1).of_kept(rows, 2).x, a.x)


def test_real_images_get_noise_of_their_step():
    found = scene()
    images, labels = real()
    at = torch.tensor([7, 0, 9])
    noisy, eps = found.of_real(at, 4)
    assert torch.equal(noisy.x, q_sample(images[at], noisy.t, eps, found.model.process.alpha_bar))
    assert torch.equal(noisy.row, labels[at])
    again, other = found.of_real(at, 4), found.of_real(at, 5)
    assert torch.equal(again[1], eps)
    assert not torch.equal(other[1], eps)
    many, _ = found.of_real(torch.zeros(2000, dtype=torch.long), 0)
    assert many.t.double().mean() == pytest.approx(499.5, abs=30)
    assert (many.t.min() < 20, many.t.max() > 980) == (True, True)


def test_real_images_are_told_apart_by_whether_they_are_erased():
    found = scene(erased=("a", "c"))
    assert set(real()[1][found.real(erased=True)].tolist()) == {0, 2}
    assert set(real()[1][found.real(erased=False)].tolist()) == {1, 3}
    picked = found.pick(found.real(erased=True), 300, 0)
    assert set(picked.tolist()) == set(found.real(erased=True).tolist())
    assert not torch.equal(picked, found.pick(found.real(erased=True), 300, 1))
    assert not torch.equal(picked, scene(erased=("a", "c"), seed=1).pick(found.real(erased=True), 300, 0))
    found.labels = torch.full((40,), 1)
    with pytest.raises(UserError, match="needs real images of a, c, and there are none"):
        found.real(erased=True)
    found.labels = torch.full((40,), 2)
    with pytest.raises(UserError, match="needs real images of the other concepts"):
        found.real(erased=False)


def test_the_student_is_a_copy_and_the_teacher_stays():
    model = conditional()
    before = {name: value.clone() for name, value in model.network.state_dict().items()}
    found = Scene(model, ("a",), 4, 0, model.concepts.tokens.data[1:], (*NAMES[1:], "null"))
    nudged(found)
    assert all(torch.equal(before[name], value) for name, value in model.network.state_dict().items())
    assert not any(p.requires_grad for p in model.network.parameters())
    assert not found.teacher(torch.zeros(1, 1, 8, 8), torch.tensor([3]), found.nulls(1)).requires_grad


def test_distance_is_a_mean_square_for_each_image():
    a, b = torch.zeros(2, 1, 2, 2), torch.tensor([1.0, 3.0]).view(2, 1, 1, 1).expand(2, 1, 2, 2)
    assert distance(a, b).tolist() == [1, 9]
