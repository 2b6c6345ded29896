"""Unified concept editing (Gandikota et al. 2024): keys and values of cross-attention rewritten in closed form."""

import torch
from torch import Tensor, nn

from .layers import chosen
from .scenes import Scene


def edited(weight: Tensor, sources: Tensor, targets: Tensor, kept: Tensor, lam: float = 0.5) -> Tensor:
    """The weight W' nearest to W that gives each source its target's output and keeps the outputs of `kept`:

    argmin sum |W' c - W v|^2 + sum |W' k - W k|^2 + lam |W' - W|^2, which is
    (lam W + sum W v c^T + sum W k k^T) (lam I + sum c c^T + sum k k^T)^-1.

    weight: (out, d). sources, targets: (n, d), tokens c and v. kept: (m, d), tokens k. lam > 0 must be small against a
    token's squared length: against one of unit length 0.5 would leave a third of the concept in place.
    Returns (out, d), computed in float64.
    """
    w, c, v, k = (x.double() for x in (weight, sources, targets, kept))
    identity = torch.eye(w.shape[1], dtype=torch.float64, device=w.device)
    left = lam * w + w @ v.T @ c + w @ k.T @ k
    right = lam * identity + c.T @ c + k.T @ k
    return torch.linalg.solve(right, left.T).T.to(weight.dtype)  # the right matrix is symmetric


@torch.no_grad()
def uce(scene: Scene, preserve: bool = True, lam: float = 0.5) -> None:
    """Edit the student: the erased concepts' tokens are answered as the null concept's.

    preserve: whether the outputs of all the other concepts of the table are kept, the null concept's too.
    """
    table = scene.model.concepts
    others = [row for row in range(len(table.tokens)) if row not in scene.rows]
    sources = scene.tokens(torch.tensor(scene.rows)).flatten(0, 1)
    targets = scene.nulls(len(scene.rows)).flatten(0, 1)
    kept = scene.tokens(torch.tensor(others)).flatten(0, 1) if preserve else sources[:0]
    for weight in chosen(scene.student, "attn2-kv").values():
        weight.copy_(edited(weight, sources, targets, kept, lam))


def recovered(before: list[Tensor], after: list[Tensor], tokens: Tensor, lam: float = 0.1) -> Tensor:
    """The tokens that the edited weights answer as the unedited ones answered `tokens` (RECE, Gong et al. 2024):

    argmin over c' of sum |W' c' - W c|^2 + lam |c'|^2 = (lam I + sum W'^T W')^-1 sum W'^T W c, the strongest attack on
    an edit in closed form. before, after: weights (out, d) of keys and values. tokens: (m, d). Returns (m, d).
    """
    d = tokens.shape[1]
    left = lam * torch.eye(d, dtype=torch.float64, device=tokens.device)
    right = torch.zeros(d, len(tokens), dtype=torch.float64, device=tokens.device)
    for w, new in zip(before, after, strict=True):
        left = left + new.double().T @ new.double()
        right = right + new.double().T @ w.double() @ tokens.double().T
    return torch.linalg.solve(left, right).T.to(tokens.dtype)


def keys_and_values(network: nn.Module) -> list[Tensor]:
    """The weights of keys and values of cross-attention, in the network's order."""
    return [weight.detach() for weight in chosen(network, "attn2-kv").values()]
