"""The risks, against decimal arithmetic, finite differences, limits and each other."""

import math
from decimal import Decimal, getcontext

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pudm_lite.risks import (
    ELL_FLOOR,
    METHODS,
    Whole,
    abspu,
    bce_normal,
    bce_sensitive,
    nnpu,
    pn,
    pnu,
    risk,
    supervised,
    unsupervised,
    upu,
)

getcontext().prec = 60
BETA = 0.3
CLAMPING = ("nnpu", "abspu", "pnu")  # the methods whose step depends on the sign of L_U - beta L_S
EMPTY = torch.zeros(0, dtype=torch.float64)


def exact_push(l: float) -> float:
    """-log(1 - exp(-l)) to sixty digits."""
    return float(-(1 - (-Decimal(l)).exp()).ln())


def doubles(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def errors(seed: int, n: int, size: float = 1.0) -> torch.Tensor:
    return size * (0.05 + torch.rand(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))


def groups(clamped: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """l_u, l_s, l_n for which L_U - beta L_S is negative, or not."""
    return errors(0, 7, 0.2 if clamped else 2.0), errors(1, 4, 4.0), errors(2, 3)


def mean(values: list[float]) -> float:
    return math.fsum(values) / len(values)


def expected_value(method: str, l_u: list[float], l_s: list[float], l_n: list[float], beta: float) -> float:
    """The paper's formulas, in Python's floats."""
    push, normal = mean([exact_push(l) for l in l_s]), mean(l_u) - beta * mean(l_s)
    oracle, nn = beta * push + (1 - beta) * mean(l_n), beta * push + max(0.0, normal)
    return {
        "unsupervised": mean(l_u),
        "supervised": mean(l_u) + push,
        "pn": oracle,
        "upu": beta * push + normal,
        "nnpu": nn,
        "abspu": beta * push + abs(normal),
        "pnu": (oracle + nn) / 2,
    }[method]


def gradients(method, l_u, l_s, l_n, beta=BETA, whole=Whole()) -> torch.Tensor:
    """Of the objective, in all three groups, one after the other."""
    leaves = [l.clone().requires_grad_() for l in (l_u, l_s, l_n)]
    objective = risk(method, *leaves, beta, whole).objective
    grads = torch.autograd.grad(objective, leaves, allow_unused=True)
    return torch.cat([torch.zeros_like(l) if g is None else g for g, l in zip(grads, leaves, strict=True)])


# The two cross entropies, Eq. 11


def test_normal_cross_entropy_is_the_noise_error():
    l = errors(0, 5)
    assert torch.equal(bce_normal(l), l)


def test_push_is_exact_in_double_precision():
    l = torch.logspace(-8, 1, 300, dtype=torch.float64)[1:]
    expected = doubles(*[exact_push(x) for x in l.tolist()])
    torch.testing.assert_close(bce_sensitive(l), expected, rtol=1e-11, atol=1e-15)


def test_push_and_its_gradient_are_exact_in_single_precision():
    """To the last digits where l is small and the push large; to one rounding of 1 - exp(-l) elsewhere."""
    l = torch.logspace(-7.9, 2, 300, requires_grad=True)
    push = bce_sensitive(l)
    push.sum().backward()
    expected = torch.tensor([exact_push(x) for x in l.tolist()])
    slope = torch.tensor([float(-1 / (Decimal(x).exp() - 1)) for x in l.tolist()])
    torch.testing.assert_close(push.detach(), expected, rtol=1e-6, atol=6e-8)
    torch.testing.assert_close(l.grad, slope, rtol=1e-6, atol=6e-8)


def test_the_two_probabilities_of_eq_10_sum_to_one():
    l = errors(0, 100, 5.0)
    torch.testing.assert_close(torch.exp(-bce_normal(l)) + torch.exp(-bce_sensitive(l)), torch.ones_like(l))


def test_below_the_floor_the_push_is_that_of_the_floor_without_a_gradient():
    l = torch.tensor([0.0, 1e-12, 0.9 * ELL_FLOOR], requires_grad=True)
    push = bce_sensitive(l)
    push.sum().backward()
    torch.testing.assert_close(push.detach(), torch.full((3,), exact_push(ELL_FLOOR)))
    assert l.grad.tolist() == [0, 0, 0]


@pytest.mark.parametrize("method", METHODS)
def test_values_and_gradients_are_finite_in_single_precision(method):
    sizes = torch.cat([torch.zeros(1), torch.logspace(-8, 6, 29)])
    for size_u in sizes[::4]:
        for size_s in sizes:
            groups = [torch.full((3,), float(size)) for size in (size_u, size_s, size_u)]
            assert torch.isfinite(risk(method, *groups, BETA).value)
            assert torch.isfinite(gradients(method, *groups)).all()


def test_past_twenty_the_push_is_over():
    l = torch.tensor([20.0, 100.0, 1e6], requires_grad=True)
    push = bce_sensitive(l)
    push.sum().backward()
    assert push.abs().max() < 1e-7
    assert l.grad.abs().max() < 1e-7


# Values, Eqs. 9, 12, 15, 18, 19


@pytest.mark.parametrize("clamped", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_value_is_the_formula(method, clamped):
    vectors = groups(clamped)
    expected = expected_value(method, *[v.tolist() for v in vectors], BETA)
    assert float(risk(method, *vectors, BETA).value) == pytest.approx(expected, rel=1e-12)


def test_at_l_equal_to_log_2_every_share_is_log_2():
    """exp(-log 2) = 1/2: normal and sensitive are equally probable, and both cross entropies are log 2."""
    l = doubles(math.log(2))
    for method in METHODS:
        expected = 2 * math.log(2) if method == "supervised" else math.log(2)
        assert float(risk(method, l, l, l, BETA).value) == pytest.approx(expected)


def test_terms_are_the_named_parts():
    l_u, l_s, l_n = groups(clamped=True)
    push = mean([exact_push(l) for l in l_s.tolist()])
    expected = {
        "L_S_plus": push,
        "L_U_minus": mean(l_u.tolist()),
        "L_S_minus": mean(l_s.tolist()),
        "normal_risk": mean(l_u.tolist()) - BETA * mean(l_s.tolist()),
        "L_N_minus": mean(l_n.tolist()),
        "clamped": 1.0,
    }
    named = {
        "unsupervised": ["L_U_minus"],
        "supervised": ["L_U_minus", "L_S_plus", "L_S_minus"],
        "pn": ["L_S_plus", "L_N_minus"],
        "upu": ["L_S_plus", "L_U_minus", "L_S_minus", "normal_risk"],
        "nnpu": ["L_S_plus", "L_U_minus", "L_S_minus", "normal_risk", "clamped"],
        "abspu": ["L_S_plus", "L_U_minus", "L_S_minus", "normal_risk", "clamped"],
        "pnu": list(expected),
    }
    for method in METHODS:
        terms = risk(method, l_u, l_s, l_n, BETA).terms
        assert sorted(terms) == sorted(named[method])
        assert {n: float(t) for n, t in terms.items()} == pytest.approx({n: expected[n] for n in terms})


def test_only_the_objective_carries_a_graph():
    leaves = [l.requires_grad_() for l in groups(clamped=False)]
    for method in METHODS:
        result = risk(method, *leaves, BETA)
        assert result.objective.requires_grad
        assert not result.value.requires_grad
        assert not any(term.requires_grad for term in result.terms.values())


def test_risk_calls_the_function_of_that_name():
    l_u, l_s, l_n = groups(clamped=True)
    direct = {
        "unsupervised": unsupervised(l_u),
        "supervised": supervised(l_u, l_s),
        "pn": pn(l_n, l_s, BETA),
        "upu": upu(l_u, l_s, BETA),
        "nnpu": nnpu(l_u, l_s, BETA),
        "abspu": abspu(l_u, l_s, BETA),
        "pnu": pnu(l_u, l_s, l_n, BETA, eta=0.5),
    }
    assert tuple(direct) == METHODS
    for method, result in direct.items():
        named = risk(method, l_u, l_s, l_n, BETA)
        assert (named.objective, named.value) == (result.objective, result.value)


def test_an_absent_group_contributes_nothing():
    l_u, l_s, l_n = groups(clamped=False)
    push = BETA * mean([exact_push(l) for l in l_s.tolist()])
    assert float(upu(l_u, EMPTY, BETA).value) == pytest.approx(mean(l_u.tolist()))
    assert float(supervised(EMPTY, l_s).value) == pytest.approx(push / BETA)
    assert float(pn(EMPTY, l_s, BETA).value) == pytest.approx(push)
    assert float(nnpu(EMPTY, l_s, BETA).value) == pytest.approx(push)
    for method in METHODS:
        assert float(risk(method, EMPTY, EMPTY, EMPTY, BETA).value) == 0
        assert torch.isfinite(gradients(method, l_u, EMPTY, l_n)).all()


# Gradients


@pytest.mark.parametrize("clamped", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_gradient_of_the_objective_by_finite_differences(method, clamped):
    leaves = [l.requires_grad_() for l in groups(clamped)]
    assert torch.autograd.gradcheck(lambda *l: risk(method, *l, BETA).objective, leaves)


@pytest.mark.parametrize("method", [m for m in METHODS if m not in ("nnpu", "pnu")])
@pytest.mark.parametrize("clamped", [False, True])
def test_objective_is_the_value_except_in_algorithm_1(method, clamped):
    result = risk(method, *groups(clamped), BETA)
    assert torch.equal(result.objective.detach(), result.value)


def slopes(l_s: torch.Tensor) -> torch.Tensor:
    """d/dl of -log(1 - exp(-l))."""
    return doubles(*[float(-1 / (Decimal(l).exp() - 1)) for l in l_s.tolist()])


def test_algorithm_1_follows_eq_18_where_the_normal_risk_is_not_negative():
    l_u, l_s, l_n = groups(clamped=False)
    result = nnpu(l_u, l_s, BETA)
    assert float(result.terms["clamped"]) == 0
    assert torch.equal(result.objective, result.value)
    expected = torch.cat([torch.full((7,), 1 / 7.0).double(), (BETA * slopes(l_s) - BETA) / 4, torch.zeros(3)])
    torch.testing.assert_close(gradients("nnpu", l_u, l_s, l_n), expected, rtol=1e-7, atol=1e-8)


def test_algorithm_1_climbs_the_normal_risk_alone_where_it_is_negative():
    """The value is still Eq. 19: beta L_S^+ and nothing else, though no gradient of L_S^+ is followed."""
    l_u, l_s, l_n = groups(clamped=True)
    result = nnpu(l_u, l_s, BETA)
    assert float(result.terms["normal_risk"]) < 0
    assert float(result.terms["clamped"]) == 1
    assert float(result.value) == pytest.approx(BETA * mean([exact_push(l) for l in l_s.tolist()]))
    expected = torch.cat([torch.full((7,), -1 / 7.0).double(), torch.full((4,), BETA / 4), torch.zeros(3)])
    torch.testing.assert_close(gradients("nnpu", l_u, l_s, l_n), expected, rtol=1e-7, atol=1e-8)


def test_a_normal_risk_of_exactly_zero_is_not_clamped():
    l_u, l_s = doubles(0.25), doubles(0.5)
    result = nnpu(l_u, l_s, 0.5)
    assert float(result.terms["normal_risk"]) == 0
    assert float(result.terms["clamped"]) == 0
    assert gradients("nnpu", l_u, l_s, EMPTY, 0.5)[0] == 1


@pytest.mark.parametrize("sign", [1, -1])
def test_absolute_value_keeps_the_push_and_turns_the_normal_risk_over(sign):
    l_u, l_s, l_n = groups(clamped=sign < 0)
    result = abspu(l_u, l_s, BETA)
    assert float(result.terms["clamped"]) == (sign < 0)
    expected = torch.cat(
        [torch.full((7,), sign / 7.0).double(), (BETA * slopes(l_s) - sign * BETA) / 4, torch.zeros(3)]
    )
    torch.testing.assert_close(gradients("abspu", l_u, l_s, l_n), expected, rtol=1e-7, atol=1e-8)


# How the methods meet


def test_upu_is_the_oracle_when_u_is_an_exact_mixture():
    """Eq. 17: U = S (3 images) and N (9), beta = 3/12; the gradients in a shared parameter agree too."""
    l_s, l_n = errors(0, 3, 3.0), errors(1, 9)
    theta = doubles(1.3).requires_grad_()
    found = []
    for result in (
        upu(torch.cat([l_s, l_n]) * theta, l_s * theta, 0.25),
        pn(l_n * theta, l_s * theta, 0.25),
    ):
        (gradient,) = torch.autograd.grad(result.objective, theta)
        found.append((float(result.value), float(gradient)))
    assert found[0] == pytest.approx(found[1], rel=1e-12)


@pytest.mark.parametrize("method", ["upu", "nnpu", "abspu"])
@pytest.mark.parametrize("beta", [1e-2, 1e-4, 1e-6])
def test_without_sensitive_data_the_risk_is_unsupervised(method, beta):
    """At first order in beta, and exactly so: risk = Eq. 9 + beta (L_S^+ - L_S^-) while L_U > beta L_S."""
    l_u, l_s, l_n = groups(clamped=False)
    slope = mean([exact_push(l) - l for l in l_s.tolist()])
    excess = risk(method, l_u, l_s, l_n, beta).value - unsupervised(l_u).value
    assert float(excess) == pytest.approx(beta * slope, rel=1e-8)
    towards = gradients(method, l_u, l_s, l_n, beta) - gradients("unsupervised", l_u, l_s, l_n, beta)
    assert towards.abs().max() < 10 * beta


@pytest.mark.parametrize("clamped", [False, True])
@pytest.mark.parametrize("eta", [0.0, 0.25, 1.0])
def test_pnu_lies_between_the_oracle_and_nnpu(eta, clamped):
    leaves = [l.requires_grad_() for l in groups(clamped)]
    l_u, l_s, l_n = leaves
    mixed, oracle, pu = pnu(l_u, l_s, l_n, BETA, eta), pn(l_n, l_s, BETA), nnpu(l_u, l_s, BETA)
    assert float(mixed.value) == pytest.approx((1 - eta) * float(oracle.value) + eta * float(pu.value))
    grads = [
        torch.cat(
            [
                torch.zeros_like(l) if g is None else g
                for g, l in zip(torch.autograd.grad(r.objective, leaves, allow_unused=True), leaves, strict=True)
            ]
        )
        for r in (mixed, oracle, pu)
    ]
    torch.testing.assert_close(grads[0], (1 - eta) * grads[1] + eta * grads[2])


noise_errors = st.lists(st.floats(0, 1e4, width=32), min_size=1, max_size=8)
shares = st.floats(0.01, 0.99)
repeatable = settings(derandomize=True, deadline=None, max_examples=150)


@repeatable
@given(noise_errors, noise_errors, shares)
def test_absolute_over_clamped_over_unbiased(l_u, l_s, beta):
    l_u, l_s = doubles(*l_u), doubles(*l_s)
    absolute, clamped, unbiased = (float(method(l_u, l_s, beta).value) for method in (abspu, nnpu, upu))
    push = beta * float(bce_sensitive(l_s).mean())
    tolerance = 1e-12 * (1 + abs(unbiased) + push)
    assert absolute >= clamped - tolerance
    assert clamped >= unbiased - tolerance
    assert clamped >= push - tolerance
    assert clamped >= 0


@repeatable
@given(noise_errors, noise_errors, noise_errors, shares, st.randoms(use_true_random=False))
def test_the_order_of_images_does_not_matter(l_u, l_s, l_n, beta, random):
    vectors = [doubles(*l) for l in (l_u, l_s, l_n)]
    shuffled = [doubles(*random.sample(l, len(l))) for l in (l_u, l_s, l_n)]
    for method in METHODS:
        before, after = (float(risk(method, *v, beta).value) for v in (vectors, shuffled))
        assert after == pytest.approx(before, rel=1e-9, abs=1e-9)


# Pieces of a batch


def whole_of(l_u, l_s, l_n, beta=BETA) -> Whole:
    normal = sum(l_u.tolist()) / max(len(l_u), 1) - beta * sum(l_s.tolist()) / max(len(l_s), 1)
    return Whole(len(l_u), len(l_s), len(l_n), normal)


def cut(vectors, k: int, seed: int) -> list[list[torch.Tensor]]:
    """Masks of k pieces of each vector: every image falls into one at random, so some pieces lack a group."""
    draw = torch.Generator().manual_seed(seed)
    owners = [torch.randint(k, (len(v),), generator=draw) for v in vectors]
    return [[owner == piece for owner in owners] for piece in range(k)]


@pytest.mark.parametrize("clamped", [False, True])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("k", [1, 2, 3, 6])
def test_pieces_add_up_to_the_whole(method, clamped, k):
    vectors = groups(clamped)
    whole, together = whole_of(*vectors), risk(method, *vectors, BETA)
    for seed in range(8):
        pieces = cut(vectors, k, seed)
        results = [risk(method, *(v[m] for v, m in zip(vectors, masks, strict=True)), BETA, whole) for masks in pieces]
        for name in ("objective", "value"):
            total = sum(getattr(r, name) for r in results)
            torch.testing.assert_close(total, getattr(together, name), msg=f"{name}, seed {seed}")
        for name, term in together.terms.items():
            if name == "clamped":
                assert {float(r.terms[name]) for r in results} == {float(term)}
            else:
                torch.testing.assert_close(sum(r.terms[name] for r in results), term)
        scattered = [torch.zeros_like(v) for v in vectors]
        for masks in pieces:
            parts = [v[m] for v, m in zip(vectors, masks, strict=True)]
            part_gradients = gradients(method, *parts, whole=whole).split([len(p) for p in parts])
            for into, mask, gradient in zip(scattered, masks, part_gradients, strict=True):
                into[mask] = gradient
        torch.testing.assert_close(torch.cat(scattered), gradients(method, *vectors))


@pytest.mark.parametrize("method", CLAMPING)
@pytest.mark.parametrize(("l_u", "whole_clamps"), [((0.1, 0.1, 2.0, 0.2), False), ((0.1, 0.1, 1.2, 0.2), True)])
def test_the_clamp_is_decided_by_the_whole_batch(method, l_u, whole_clamps):
    """Of two pieces one alone would clamp and one would not; both do what the whole does."""
    l_u, l_s, l_n = doubles(*l_u), doubles(2.0, 1.8), doubles(0.3, 0.2)
    whole = whole_of(l_u, l_s, l_n)
    halves = [(l_u[:2], l_s[:1], l_n[:1]), (l_u[2:], l_s[1:], l_n[1:])]
    assert (whole.normal_risk < 0) == whole_clamps
    assert [whole_of(*half).normal_risk < 0 for half in halves] == [True, False]

    together = risk(method, l_u, l_s, l_n, BETA)
    results = [risk(method, *half, BETA, whole) for half in halves]
    assert float(together.terms["clamped"]) == whole_clamps
    torch.testing.assert_close(sum(r.objective for r in results), together.objective)
    torch.testing.assert_close(sum(r.value for r in results), together.value)
    pieces = [gradients(method, *half, whole=whole).split([2, 1, 1]) for half in halves]
    joined = torch.cat([torch.cat(group) for group in zip(*pieces, strict=True)])
    torch.testing.assert_close(joined, gradients(method, l_u, l_s, l_n))


# What is wrong is refused


def test_unknown_method_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="unknown method 'npu'") as error:
        risk("npu", EMPTY, EMPTY, EMPTY, 0.1)
    assert all(method in str(error.value) for method in METHODS)


@pytest.mark.parametrize("beta", [0, 1, -0.1, 1.5, float("nan")])
@pytest.mark.parametrize("method", METHODS)
def test_beta_outside_zero_one_is_refused(method, beta):
    with pytest.raises(ValueError, match=r"beta must lie inside \(0, 1\).*got " + str(beta)):
        risk(method, *groups(clamped=False), beta)
