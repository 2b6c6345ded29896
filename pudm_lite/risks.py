"""The objectives of the paper as pure functions of vectors of noise errors.

Equation numbers are those of Takahashi et al. (ICLR 2025). Throughout
    l_u (B_u,)  noise errors l(x) of Eq. 8 of unlabeled images,
    l_s (B_s,)  of labelled sensitive images (y = 1),
    l_n (B_n,)  of images known to be normal (y = 0),
    w_u, w_s, w_n  what each example's cost is multiplied by, like the vector; None for ones. Where timesteps are drawn
                unevenly (importance.py) these undo it. A weight multiplies the cost, never l inside it:
                w l and -w log(1 - exp(-l)), as -log(1 - exp(-w l)) would be another push,
    beta        the share of sensitive images in the unlabeled data, inside (0, 1).
An absent group (an empty vector) contributes 0.

A vector may be one *piece* of a batch that is spread over processes or accumulated in parts. Whether Algorithm 1
clamps is a statement about the whole batch, so a piece is given `whole` (see `Whole`); the objectives of the pieces
then add up to the objective of the whole, and so do their gradients.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

ELL_FLOOR = 1e-8
"""Below this l the push -log(1 - exp(-l)) is taken at this l: 18.4 instead of infinity, and no gradient."""


@dataclass(frozen=True)
class Whole:
    """What a group of errors must know of its whole batch.

    n_u, n_s, n_n: what each group's sum is divided by. 0: the vector's own length.
        The *realised* size of the group makes the mean of Eqs. 16 and 18. A pooled batch without an image of S then
        says nothing of L_S, so that the expected weight on S is beta P(n_s >= 1) and not beta. The *expected* size of
        the group is unbiased: E[sum / E[n]] is the mean over the data.
    normal_risk: L_U - beta L_S of the whole batch, a number without a graph. None: these vectors are the whole batch.
    """

    n_u: float = 0
    n_s: float = 0
    n_n: float = 0
    normal_risk: Tensor | float | None = None


@dataclass(frozen=True)
class Risk:
    """objective: what backward() is called on. value: the risk itself. terms: its named parts, detached.

    The two differ in one place, Algorithm 1's branch: see `nnpu`.
    """

    objective: Tensor
    value: Tensor
    terms: dict[str, Tensor] = field(default_factory=dict)


def bce_normal(ell: Tensor) -> Tensor:
    """l_BCE(x, 0) = l(x), Eq. 11. ell: (B,). Returns (B,)."""
    return ell


def bce_sensitive(ell: Tensor) -> Tensor:
    """l_BCE(x, 1) = -log(1 - exp(-l(x))), Eq. 11: the push that raises l where it is small and fades where it is large.

    Written with expm1, which keeps the digits that 1 - exp(-l) loses for small l (its gradient is -1/(exp(l) - 1)).
    Past l of about 17 value and gradient are 0 in float32: the push is over.

    ell: (B,), >= 0. Returns (B,), in [0, 18.43].
    """
    return -torch.log(-torch.expm1(-ell.clamp(min=ELL_FLOOR)))


def _mean(costs: Tensor, weights: Tensor | None, count: float) -> Tensor:
    total = costs.sum() if weights is None else (weights * costs).sum()
    return total / (count or max(len(costs), 1))


def _risk(value: Tensor, objective: Tensor | None = None, **terms: Tensor) -> Risk:
    detached = {name: term.detach() for name, term in terms.items()}
    return Risk(value if objective is None else objective, value.detach(), detached)


def _pu_terms(
    l_u: Tensor, l_s: Tensor, beta: float, whole: Whole, w_u: Tensor | None, w_s: Tensor | None
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """beta L_S^+ and L_U^- - beta L_S^- of Eq. 18, and the named terms."""
    L_S_plus = _mean(bce_sensitive(l_s), w_s, whole.n_s)
    L_U_minus = _mean(bce_normal(l_u), w_u, whole.n_u)
    L_S_minus = _mean(bce_normal(l_s), w_s, whole.n_s)
    normal = L_U_minus - beta * L_S_minus
    terms = {"L_S_plus": L_S_plus, "L_U_minus": L_U_minus, "L_S_minus": L_S_minus, "normal_risk": normal}
    return beta * L_S_plus, normal, terms


def unsupervised(l_u: Tensor, whole: Whole = Whole(), w_u: Tensor | None = None) -> Risk:
    """Eq. 9: every unlabeled image is taken for normal. Returns the mean of l_u."""
    value = _mean(l_u, w_u, whole.n_u)
    return _risk(value, L_U_minus=value)


def supervised(
    l_u: Tensor, l_s: Tensor, whole: Whole = Whole(), w_u: Tensor | None = None, w_s: Tensor | None = None
) -> Risk:
    """Eq. 12: U is taken for normal, S for sensitive, each averaged and weighted alike."""
    L_U_minus = _mean(bce_normal(l_u), w_u, whole.n_u)
    L_S_plus = _mean(bce_sensitive(l_s), w_s, whole.n_s)
    L_S_minus = _mean(bce_normal(l_s), w_s, whole.n_s)  # no part of Eq. 12: to watch
    return _risk(L_U_minus + L_S_plus, L_U_minus=L_U_minus, L_S_plus=L_S_plus, L_S_minus=L_S_minus)


def pn(
    l_n: Tensor, l_s: Tensor, beta: float, whole: Whole = Whole(), w_n: Tensor | None = None, w_s: Tensor | None = None
) -> Risk:
    """Eq. 15, with true labels: the oracle that PU learning tries to match."""
    L_S_plus, L_N_minus = _mean(bce_sensitive(l_s), w_s, whole.n_s), _mean(bce_normal(l_n), w_n, whole.n_n)
    return _risk(beta * L_S_plus + (1 - beta) * L_N_minus, L_S_plus=L_S_plus, L_N_minus=L_N_minus)


def upu(
    l_u: Tensor,
    l_s: Tensor,
    beta: float,
    whole: Whole = Whole(),
    w_u: Tensor | None = None,
    w_s: Tensor | None = None,
) -> Risk:
    """Eq. 18, the unbiased estimator of Eq. 15 from U and S. Unbounded below in l_s: it can over-fit."""
    push, normal, terms = _pu_terms(l_u, l_s, beta, whole, w_u, w_s)
    return _risk(push + normal, **terms)


def nnpu(
    l_u: Tensor,
    l_s: Tensor,
    beta: float,
    whole: Whole = Whole(),
    w_u: Tensor | None = None,
    w_s: Tensor | None = None,
) -> Risk:
    """Eq. 19, the non-negative risk, with the step of Algorithm 1.

    The *value* is beta L_S^+ + max(0, L_U^- - beta L_S^-). The *gradient* is that of Eq. 18 while
    L_U^- - beta L_S^- >= 0; where it is negative, Algorithm 1 follows -(L_U^- - beta L_S^-) alone, without
    beta L_S^+, until it is non-negative again. `objective` carries that gradient, `value` is Eq. 19, and
    terms["clamped"] is 1 where they part. The branch is taken on the device: nothing waits for it.
    """
    push, normal, terms = _pu_terms(l_u, l_s, beta, whole, w_u, w_s)
    negative = _of_batch(normal, whole) < 0
    terms["clamped"] = negative.to(normal)
    value = torch.where(negative, push, push + normal)
    return _risk(value, torch.where(negative, -normal, push + normal), **terms)


def abspu(
    l_u: Tensor,
    l_s: Tensor,
    beta: float,
    whole: Whole = Whole(),
    w_u: Tensor | None = None,
    w_s: Tensor | None = None,
) -> Risk:
    """Section 3.2, after Eq. 19: |L_U^- - beta L_S^-| instead of the maximum (Hammoudeh & Lowd 2020)."""
    push, normal, terms = _pu_terms(l_u, l_s, beta, whole, w_u, w_s)
    negative = _of_batch(normal, whole) < 0
    terms["clamped"] = negative.to(normal)
    return _risk(push + torch.where(negative, -normal, normal), **terms)


def _of_batch(normal: Tensor, whole: Whole) -> Tensor:
    return normal.detach() if whole.normal_risk is None else torch.as_tensor(whole.normal_risk, device=normal.device)


def pnu(
    l_u: Tensor,
    l_s: Tensor,
    l_n: Tensor,
    beta: float,
    eta: float = 0.5,
    whole: Whole = Whole(),
    w_u: Tensor | None = None,
    w_s: Tensor | None = None,
    w_n: Tensor | None = None,
) -> Risk:
    """Positive-negative-unlabeled: (1 - eta) Eq. 15 + eta Eq. 19, for a few labelled normal images (Sakai et al. 2017).

    eta in [0, 1]: 0 trusts the labelled normal images alone, 1 is `nnpu`. With realised sizes (`Whole`) a batch
    without labelled normal images lacks Eq. 15's normal part, so on average that part is scaled by the share of
    batches that hold one.
    """
    pu = nnpu(l_u, l_s, beta, whole, w_u, w_s)
    oracle = pn(l_n, l_s, beta, whole, w_n, w_s)
    terms = pu.terms | oracle.terms
    return Risk((1 - eta) * oracle.objective + eta * pu.objective, (1 - eta) * oracle.value + eta * pu.value, terms)


METHODS = ("unsupervised", "supervised", "pn", "upu", "nnpu", "abspu", "pnu")

BETA_FREE = ("pretrained", "unsupervised", "supervised")
"""Methods that beta does not act on: Eqs. 9 and 12 do not hold it, and a pre-trained model is not trained."""


CLAMPED = ("nnpu", "abspu", "pnu")
"""Methods whose step depends on the sign of L_U - beta L_S of the whole batch."""

Groups = tuple[Tensor, Tensor, Tensor]
"""One vector each of U, S and known normal images."""


def risk(
    method: str,
    l_u: Tensor,
    l_s: Tensor,
    l_n: Tensor,
    beta: float,
    whole: Whole = Whole(),
    weights: Groups | tuple[None, None, None] = (None, None, None),
) -> Risk:
    """The risk called `method`, given the three vectors and their weights; it takes those it needs.

    Raises ValueError for an unknown method (the message lists the known) and for beta outside (0, 1).
    """
    if not 0 < beta < 1:
        raise ValueError(f"beta must lie inside (0, 1), the sensitive share of the unlabeled data; got {beta}")
    w_u, w_s, w_n = weights
    match method:
        case "unsupervised":
            return unsupervised(l_u, whole, w_u)
        case "supervised":
            return supervised(l_u, l_s, whole, w_u, w_s)
        case "pn":
            return pn(l_n, l_s, beta, whole, w_n, w_s)
        case "upu":
            return upu(l_u, l_s, beta, whole, w_u, w_s)
        case "nnpu":
            return nnpu(l_u, l_s, beta, whole, w_u, w_s)
        case "abspu":
            return abspu(l_u, l_s, beta, whole, w_u, w_s)
        case "pnu":
            return pnu(l_u, l_s, l_n, beta, whole=whole, w_u=w_u, w_s=w_s, w_n=w_n)
    raise ValueError(f"unknown method {method!r}; known: {', '.join(METHODS)}")
