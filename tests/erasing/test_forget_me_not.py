"""Forget-Me-Not: what it sees of the attention, and that it leaves nothing behind."""

import pytest
import torch
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from tiny_concepts import conditional, lite, scene, unet

from pudm_lite.erasing.forget_me_not import Watched, attention_at, forget_me_not
from pudm_lite.erasing.layers import only
from pudm_lite.erasing.methods import erase


def test_the_norm_is_a_mean_over_places_and_smallest_where_attention_is_even():
    certain, even = torch.eye(4).expand(2, 4, 4), torch.full((2, 4, 4), 0.25)
    every, two = torch.ones(4, dtype=torch.bool), torch.tensor([True, True, False, False])
    assert attention_at(certain, every) == 1
    assert attention_at(even, every) == 0.25
    assert attention_at(certain, two) == 0.5
    assert attention_at(even, two) == 0.125


def test_what_is_seen_is_the_softmax_of_queries_and_keys_and_the_answer_is_the_usual():
    torch.manual_seed(0)
    layer, seen = Attention(16, cross_attention_dim=8, heads=2, dim_head=8), []
    places, tokens = torch.randn(3, 5, 16), torch.randn(3, 4, 8)
    plain = layer(places, tokens)
    layer.set_processor(Watched(layer.processor, seen))
    assert torch.equal(layer(places, tokens), plain)
    q, k = layer.to_q(places).view(3, 5, 2, 8), layer.to_k(tokens).view(3, 4, 2, 8)
    expected = (torch.einsum("bphd,bthd->bhpt", q, k) / 8**0.5).softmax(-1)
    torch.testing.assert_close(seen[0].view(3, 2, 5, 4), expected)


@pytest.mark.parametrize(("erased", "first"), [(("a",), 1), (("a", "c"), 0)])
def test_every_layer_counts_at_the_tokens_that_null_does_not_share(erased, first):
    model = conditional()
    model.concepts.tokens.data[0, 0] = model.concepts.tokens.data[-1, 0]  # a's, as prompts share their first token
    found = scene(model, erased)
    only(found.student, "attn2")
    value = forget_me_not(found)(3)
    at, tokens = found.of_erased(3)
    found.undo.close()
    seen, layers = [], [m for n, m in found.student.named_modules() if n.endswith(".attn2")]
    for layer in layers:
        assert isinstance(layer.processor, AttnProcessor2_0)
        layer.set_processor(Watched(layer.processor, seen))
    found.student(at.x, at.t, tokens)
    assert len(seen) == len(layers) == 5
    torch.testing.assert_close(value, sum(p[..., first:].square().sum(-1).mean() for p in seen))


def test_the_usual_attention_is_back_after_the_edit():
    for network in (lite(), unet()):
        model = conditional(network)
        found = erase(model, ("a",), "fmn", steps=1, batch_size=2).model.network
        kinds = {type(m.processor) for m in found.modules() if isinstance(m, Attention)}
        assert kinds == {AttnProcessor2_0}
