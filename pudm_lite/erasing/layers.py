"""Which parameters an edit may change: filters by the names that Stable Diffusion's U-Net and `LiteUNet` share."""

import re
from collections.abc import Callable

from torch import nn

from ..errors import UserError

HEADS = re.compile(r"^(time_embedding|conv_norm_out|conv_out|time|norm|out)\.")
"""The time embedding and the output head, which no filter but `all` takes."""

LAYERS: dict[str, Callable[[str], bool]] = {
    "attn2": lambda name: ".attn2." in name,
    "attn2-kv": lambda name: ".attn2.to_k." in name or ".attn2.to_v." in name,
    "not-attn2": lambda name: ".attn2." not in name and not HEADS.match(name),
    "all": lambda name: True,
}
"""`attn2`: attention to the condition (ESD-x). `attn2-kv`: its keys and values (ESD-x-strict, UCE, concept ablation).
`not-attn2`: all others but time embedding and output head (ESD-u)."""


def chosen(network: nn.Module, layers: str) -> dict[str, nn.Parameter]:
    """The parameters that a filter takes, by name. Raises UserError for an unknown filter, listing the known, and for a
    network in which it finds none: one without attention to a condition."""
    if layers not in LAYERS:
        raise UserError(f"unknown layers {layers!r}; known: {', '.join(LAYERS)}")
    found = {name: p for name, p in network.named_parameters() if LAYERS[layers](name)}
    if not any(map(LAYERS["attn2"], dict(network.named_parameters()))):
        raise UserError(
            "the network has no cross-attention, so no concept can be erased from it: name a conditional one"
        )
    return found


def only(network: nn.Module, layers: str) -> list[nn.Parameter]:
    """Let these parameters alone have gradients; returns them."""
    network.requires_grad_(False)
    parameters = list(chosen(network, layers).values())
    for parameter in parameters:
        parameter.requires_grad_(True)
    return parameters
