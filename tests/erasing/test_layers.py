"""Filters by name, on both kinds of network."""

import pytest
from tiny_concepts import lite, unet

from pudm_lite.erasing.layers import LAYERS, chosen, only
from pudm_lite.errors import UserError
from pudm_lite.networks import make_network

HEADS = {
    lite: ["time.0.weight", "time.2.bias", "norm.weight", "out.bias"],
    unet: ["time_embedding.linear_1.weight", "time_embedding.linear_2.bias", "conv_norm_out.bias", "conv_out.weight"],
}
KEPT = {
    lite: ["down.1.time.weight", "up.0.norm1.bias", "unfold.weight", "attentions.0.norm.weight"],
    unet: ["mid_block.resnets.0.time_emb_proj.weight", "conv_in.weight", "mid_block.resnets.0.norm1.weight"],
}


@pytest.mark.parametrize("make", [lite, unet])
def test_filters_take_what_their_names_say(make):
    network = make()
    everything = dict(network.named_parameters())
    attention, keys, others = (set(chosen(network, name)) for name in ("attn2", "attn2-kv", "not-attn2"))
    layers = {name.rsplit(".attn2.", 1)[0] for name in attention}
    parts = ("to_q.weight", "to_k.weight", "to_v.weight", "to_out.0.weight", "to_out.0.bias")
    assert attention == {f"{layer}.attn2.{part}" for layer in layers for part in parts}
    assert keys == {f"{layer}.attn2.{part}" for layer in layers for part in parts[1:3]}
    assert set(chosen(network, "all")) == set(everything)
    assert not attention & others
    left = set(everything) - attention - others
    assert set(HEADS[make]) <= left
    assert all(name.split(".")[0] in {head.split(".")[0] for head in HEADS[make]} for name in left)
    assert set(KEPT[make]) <= others


def test_on_the_kind_of_stable_diffusion_there_are_twenty_tensors_of_cross_attention():
    assert len(chosen(unet(), "attn2")) == 20


def test_only_those_have_gradients():
    network = lite()
    found = only(network, "attn2-kv")
    assert {id(p) for p in found} == {id(p) for p in network.parameters() if p.requires_grad}
    assert len(found) == 10
    only(network, "all")
    assert all(p.requires_grad for p in network.parameters())


def test_an_unknown_filter_and_a_network_without_a_condition_are_refused():
    with pytest.raises(UserError, match="unknown layers 'xattn'; known: attn2, attn2-kv, not-attn2, all"):
        chosen(lite(), "xattn")
    for layers in LAYERS:
        with pytest.raises(UserError, match="the network has no cross-attention"):
            chosen(make_network("lite"), layers)
