"""The searches, each against an oracle."""

import pytest
import torch
from tiny_concepts import nudged, scene

from pudm_lite.draws import generator
from pudm_lite.erasing.esd import erasing_term
from pudm_lite.erasing.preservation import SEARCHES, adversarial, ascent, choice, exact, gumbel, pgd, preserving_term
from pudm_lite.erasing.scenes import Scene


def stand_in(found: Scene) -> torch.Tensor:
    """Give the scene a student whose harm to a concept is known: the square of a sum over its tokens, plus 9.

    Returns it for each concept of the list.
    """
    weights = torch.linspace(0.1, 1, 32).view(4, 8)

    def student(x, t, tokens):
        return ((tokens * weights).sum((1, 2)) + 9)[:, None, None, None].expand(x.shape)

    found.eps_student, found.eps_teacher = student, lambda x, t, tokens: torch.zeros_like(x)
    return ((found.space * weights).sum((1, 2)) + 9).square()


@pytest.mark.parametrize("temperature", [0.1, 2.0])
def test_a_choice_follows_the_softmax_of_the_logits_whatever_the_temperature(temperature):
    logits, draws, n = torch.tensor([0.0, 2.0, 1.0, -1.0, 0.5]), generator(1), 1500
    found = torch.stack([choice(logits, temperature, draws) for _ in range(n)])
    assert torch.equal(found.sum(1), torch.ones(n))
    assert set(found.unique().tolist()) == {0, 1}
    expected = logits.softmax(0)
    assert ((found.mean(0) - expected).abs() < 4 * (expected * (1 - expected) / n).sqrt()).all()


def test_the_same_noise_chooses_the_same_at_every_temperature_and_the_gradient_is_the_soft_ones():
    logits = torch.tensor([0.0, 1.0, 0.5], requires_grad=True)
    values, chosen = torch.tensor([3.0, -1.0, 2.0]), set()
    for temperature in (0.1, 0.5, 2.0):
        one_hot = choice(logits, temperature, generator(7))
        chosen.add(int(one_hot.argmax()))
        (gradient,) = torch.autograd.grad((one_hot * values).sum(), [logits])
        noise = -torch.empty(3).exponential_(generator=generator(7)).log()
        soft = ((logits + noise) / temperature).softmax(0).detach()
        torch.testing.assert_close(gradient, soft * (values - (soft * values).sum()) / temperature)
    assert len(chosen) == 1


def test_the_exact_search_finds_the_largest_harm():
    found = scene()
    harm = stand_in(found)
    tokens, row = exact(found)(0)
    assert row == harm.argmax()
    assert torch.equal(tokens, found.space[row])


def test_the_exact_search_is_the_maximum_over_a_loop_of_the_networks_own():
    found = nudged(scene())
    found.space, found.space_names = found.space[:3], found.space_names[:3]
    at = found.of_kept(torch.tensor([0, 0, 1, 1, 2, 2]), 4)
    with torch.no_grad():
        gaps = found.eps_student(at.x, at.t, found.space[at.row]) - found.eps_teacher(at.x, at.t, found.space[at.row])
    harm = [gaps[2 * k : 2 * k + 2].square().mean().item() for k in range(3)]
    assert exact(found, looks=2)(4)[1] == max(range(3), key=harm.__getitem__)


def test_many_steps_of_ascent_end_at_the_exact_maximum():
    found = scene()
    harm = stand_in(found)
    kept = scene().of_kept(torch.tensor([0] * 4), 0)
    found.of_kept = lambda rows, step: kept  # the stand-in asks nothing of images
    search = gumbel(found, rate=0.3, inner=60)
    rows = [int(search(step)[1]) for step in range(6)]
    assert rows[1:] == [int(harm.argmax())] * 5


def test_as_many_small_steps_do_not_find_it():
    """Adam moves a logit by about its rate: a hundred steps of 0.01 leave the choice nearly uniform."""
    found = scene()
    harm = stand_in(found)
    seen = []

    def gain(scene, tokens, row, step):
        seen.append(int(row))
        return preserving_term(scene, tokens, row, step)

    kept = scene().of_kept(torch.tensor([0] * 4), 0)
    found.of_kept = lambda rows, step: kept
    ascent(found, gain, rate=0.01, temperature=2.0, inner=100)(0)
    share = seen.count(int(harm.argmax())) / len(seen)
    assert share < 0.5
    assert len(set(seen)) == len(found.space)


def test_ascent_in_the_space_of_tokens_raises_the_harm_and_leaves_the_concepts():
    found = nudged(scene())
    start, row = found.tokens(torch.tensor([0]))[0], torch.tensor(-1)
    before = preserving_term(found, start, row, 0).mean()
    tokens, where = pgd(found, inner=6)(0)
    assert where == -1
    assert not tokens.requires_grad
    assert preserving_term(found, tokens, row, 0).mean() > 1.2 * before
    assert (tokens - start).pow(2).mean().sqrt() > 0.5
    assert (tokens - found.space).flatten(1).norm(dim=1).min() > 1


def test_what_does_not_search():
    found = scene()
    random = SEARCHES["random"](found)
    rows = [int(random(step)[1]) for step in range(60)]
    assert rows == [int(random(step)[1]) for step in range(60)]
    assert set(rows) == set(range(len(found.space)))
    tokens, row = SEARCHES["neutral"](found)(0)
    assert found.space_names[row] == "null"
    assert torch.equal(tokens, found.null)


def test_the_objective_is_erasing_plus_lam_times_preserving():
    found = nudged(scene())
    tokens, row = SEARCHES["random"](found)(2)
    parts = erasing_term(found, 2, 0.5).mean(), preserving_term(found, tokens, row, 2).mean()
    objective = adversarial(found, "random", lam=3.0, eta=0.5)
    torch.testing.assert_close(objective(2), parts[0] + 3 * parts[1])


def test_an_unedited_student_does_no_harm():
    found = scene()
    assert preserving_term(found, found.space[1], torch.tensor(1), 0).tolist() == [0] * 4


def test_the_harm_has_its_gradient_to_the_tokens_through_both_networks():
    """By finite differences, along the gradient itself."""
    found, row = nudged(scene(), by=0.2), torch.tensor(1)
    tokens = found.space[1].clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(preserving_term(found, tokens, row, 0).mean(), [tokens])
    size = gradient.norm()
    with torch.no_grad():
        up, down = (preserving_term(found, tokens + h * gradient / size, row, 0).mean() for h in (0.05, -0.05))
    assert ((up - down) / 0.1).item() == pytest.approx(size.item(), rel=0.05)


@pytest.mark.parametrize(("search", "how"), [("gumbel", {"rate": 1e-3}), ("random", {})])
def test_what_is_chosen_is_drawn_by_seed_and_step(search, how):
    def rows(seed):
        found = scene(seed=seed)
        stand_in(found)
        find = SEARCHES[search](found, **how)
        return [int(find(step)[1]) for step in range(12)]

    assert rows(0) == rows(0)
    assert rows(0) != rows(1)
    assert len(set(rows(0))) > 2
