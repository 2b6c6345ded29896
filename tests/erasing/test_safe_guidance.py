"""Safe latent diffusion: its term by hand, its no-op, its memory of a walk."""

import pytest
import torch
from tiny_concepts import conditional

from pudm_lite.diffusion import eps_from_output
from pudm_lite.erasing.methods import erase
from pudm_lite.erasing.safe_guidance import safety_term
from pudm_lite.sampling import draw


def test_the_term_element_by_element():
    told, unsafe, untold = torch.randn(3, 2, 1, 3, 3, generator=torch.Generator().manual_seed(0)).unbind()
    found = safety_term(told, unsafe, untold, scale=0.7, threshold=0.3).flatten().tolist()
    for p, s, n, term in zip(*(v.flatten().tolist() for v in (told, unsafe, untold)), found, strict=True):
        mu = min(1.0, 0.7 * abs(p - s)) if p - s < 0.3 else 0.0
        assert term == pytest.approx(mu * (s - n), abs=1e-6)


def noisy(n=2):
    x = torch.randn(n, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    return x, torch.full((n,), 600)


def test_asked_for_the_safety_concept_itself_it_answers_as_the_network_does():
    model = conditional()
    found = erase(model, ("b",), "sld")
    x, t = noisy()
    tokens = model.concepts.tokens.data[[1, 1]]
    with torch.no_grad():
        assert torch.equal(found.model.network(x, t, tokens).sample, model.network(x, t, tokens).sample)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_the_noise_estimate_is_the_networks_less_the_term(prediction):
    model = conditional(prediction=prediction)
    safe = erase(model, ("b",), "sld", scale=3.0, threshold=0.5).model.network
    x, t = noisy()
    tokens = model.concepts.tokens.data

    def eps(network, row):
        return eps_from_output(network(x, t, tokens[[row, row]]).sample, x, t, model.process)

    with torch.no_grad():
        told, unsafe, untold = (eps(model.network, row) for row in (0, 1, -1))
        expected = told - safety_term(told, unsafe, untold, 3.0, 0.5)
        torch.testing.assert_close(eps(safe, 0), expected, atol=1e-4, rtol=1e-3)
        assert not torch.allclose(expected, told)


def test_down_a_walk_the_terms_are_remembered_and_at_a_new_one_forgotten():
    model = conditional(prediction="epsilon")
    safe = erase(model, ("b",), "sld", scale=3.0, threshold=0.5, momentum=0.5, decay=0.8).model.network
    x, _ = noisy()
    tokens = model.concepts.tokens.data

    def term(t):
        t = torch.full((2,), t)
        told, unsafe, untold = (model.network(x, t, tokens[[row, row]]).sample for row in (0, 1, -1))
        return safety_term(told, unsafe, untold, 3.0, 0.5), told - safe(x, t, tokens[[0, 0]]).sample

    with torch.no_grad():
        (first, taken), (second, then), (third, last) = term(900), term(500), term(100)
        torch.testing.assert_close(taken, first)
        nu = 0.2 * first
        torch.testing.assert_close(then, second + 0.5 * nu)
        nu = 0.8 * nu + 0.2 * (second + 0.5 * nu)
        torch.testing.assert_close(last, third + 0.5 * nu)
        for _ in range(2):  # and not a step down either
            fresh, again = term(900)
            torch.testing.assert_close(again, fresh)


def test_nothing_trains_and_it_is_drawn_from_like_a_network():
    model = conditional()
    found = erase(model, ("b",), "sld")
    assert (found.changed, found.losses) == ({}, [])
    table = model.concepts
    prompts = table.null.data.expand(3, -1, -1)
    safe, plain = (
        draw(network, model.process, 3, "ddpm", 3, prompts=prompts, null=table.null.data, guidance=1.0)
        for network in (found.model.network, model.network)
    )
    assert safe.shape == plain.shape == (3, 1, 8, 8)
    assert not torch.equal(safe, plain)
    again = draw(found.model.network, model.process, 3, "ddpm", 3, prompts=prompts)
    assert torch.equal(safe, again)  # nothing is left over from the walk before


def test_a_batch_of_another_size_is_another_walk():
    model = conditional()
    one, fresh = (erase(model, ("b",), "sld", scale=3.0, threshold=0.5).model.network for _ in range(2))
    (x, _), tokens = noisy(3), model.concepts.tokens.data[[0] * 3]
    with torch.no_grad():
        one(x[:2], torch.full((2,), 900), tokens[:2])
        found, expected = (safe(x, torch.full((3,), 500), tokens).sample for safe in (one, fresh))
    assert torch.equal(found, expected)


def test_several_safety_concepts_are_the_words_of_one_prompt():
    model = conditional()
    safe = erase(model, ("a", "c"), "sld").model.network
    assert torch.equal(safe.unsafe, model.concepts.tokens.data[[0, 2]].flatten(0, 1))
