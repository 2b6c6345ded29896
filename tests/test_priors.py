"""Estimates of beta, against brute force, closed forms, other people's numbers and data whose share is known."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq, minimize_scalar
from scipy.stats import kstwo, norm

from pudm_lite import priors
from pudm_lite.errors import UserError
from pudm_lite.priors import (
    Tails,
    best_bin,
    beta_interval,
    estimate_beta,
    km2,
    naive_min_ratio,
    principal_components,
    score,
    share_left,
    tails,
)


def gaussian_scores(seed: int, n_u: int, n_p: int, share: float, separation: float) -> tuple[torch.Tensor, ...]:
    """U: a mixture of unit Gaussians at 0 (normal) and `separation` (sensitive). S: the second alone."""
    rng = np.random.default_rng(seed)
    centre = separation * (rng.random(n_u) < share)
    return torch.from_numpy(centre + rng.normal(size=n_u)), torch.from_numpy(separation + rng.normal(size=n_p))


def gaussian_quantiles(n_u: int, n_p: int, share: float, separation: float) -> tuple[torch.Tensor, ...]:
    """The same without chance: scores at the mid-quantiles of each part."""

    def at(n: int, centre: float) -> np.ndarray:
        return norm.ppf((np.arange(n) + 0.5) / n) + centre

    k = round(n_u * share)
    return torch.from_numpy(np.r_[at(n_u - k, 0), at(k, separation)]), torch.from_numpy(at(n_p, separation))


def population_ratio(c, share, separation):
    """beta + (1 - beta) q_n / q_p at threshold c."""
    return share + (1 - share) * norm.sf(c) / norm.sf(c - separation)


# Tail shares and the margin

scores = st.lists(st.integers(-4, 4), min_size=1, max_size=30).map(lambda values: torch.tensor(values) / 2)


@given(scores, scores)
@settings(deadline=None, max_examples=60)
def test_shares_and_estimates_are_those_of_plain_counting(z_u, z_s):
    log = math.log(40)
    bounds, ratios = {}, {}
    for c in z_u.unique().tolist():
        over_u, over_s = sum(z >= c for z in z_u.tolist()), sum(z >= c for z in z_s.tolist())
        if over_s:
            q_u, q_p = over_u / len(z_u), over_s / len(z_s)
            ratios[c] = q_u / q_p
            error = math.sqrt(log / (2 * len(z_u))) + math.sqrt(log / (2 * len(z_s)))
            bounds[c] = q_u / q_p + 1.01 / q_p * error
    if not ratios:
        with pytest.raises(ValueError, match="every score of S lies below"):
            tails(z_u, z_s)
        return
    t = tails(z_u, z_s)
    assert t.c.tolist() == list(ratios)
    assert t.ratio.tolist() == pytest.approx(list(ratios.values()))
    assert (t.ratio + t.margin(0.1, 0.01)).tolist() == pytest.approx(list(bounds.values()))
    found, naive = best_bin(z_u, z_s), naive_min_ratio(z_u, z_s)
    assert bounds[found.c] == pytest.approx(min(bounds.values()))
    assert found.beta == pytest.approx(min(1, ratios[found.c]))
    assert found.beta == pytest.approx(min(1, found.q_u / found.q_p))
    assert naive.beta == pytest.approx(min(1, *ratios.values(), 1))


def test_thresholds_that_no_score_of_S_reaches_are_left_out():
    t = tails(torch.tensor([0.0, 1.0, 1.0, 9.0]), torch.tensor([0.5, 1.0]))
    assert t.c.tolist() == [0.0, 1.0]
    assert t.q_u.tolist() == [1.0, 0.75]
    assert t.q_p.tolist() == [1.0, 0.5]


def test_all_scores_tied_says_that_everything_may_be_sensitive():
    assert best_bin(torch.zeros(5), torch.zeros(3)).beta == 1.0
    assert naive_min_ratio(torch.zeros(5), torch.zeros(3)).beta == 1.0


def test_empty_groups_and_options_out_of_range_are_refused():
    z = torch.tensor([0.0, 1.0])
    for u, s in ((z[:0], z), (z, z[:0])):
        with pytest.raises(ValueError, match="at least one each"):
            best_bin(u, s)
    for delta, gamma in ((0.0, 0.01), (1.0, 0.01), (0.1, -0.1)):
        with pytest.raises(ValueError, match="delta must lie inside"):
            best_bin(z, z, delta, gamma)


@pytest.mark.parametrize("n", [50, 500, 5000])
@pytest.mark.parametrize("delta", [0.1, 0.01])
def test_the_margin_is_what_the_shares_may_be_off_by(n, delta):
    """Each part of the margin against the exact law of sup |F_n - F| (Kolmogorov): exceeded with <= delta / 2."""
    one = torch.ones(1, dtype=torch.float64)
    both = float(Tails(one, one, one, n, n).margin(delta, 0))
    assert float(Tails(one, one, one / 2, n, n).margin(delta, 0.5)) == pytest.approx(3 * both)
    assert 2 * math.exp(-2 * n * (both / 2) ** 2) == pytest.approx(delta / 2)
    assert 0.3 * delta < kstwo.sf(both / 2, n) <= delta / 2


# Best-bin estimation where the right threshold is known


@pytest.mark.parametrize(("share", "separation"), [(0.1, 2.0), (0.3, 3.0), (0.5, 4.0)])
def test_best_bin_finds_the_minimum_of_the_closed_form(share, separation):
    n_u, n_p = 40_000, 10_000
    errors = math.sqrt(math.log(40) / (2 * n_u)) + math.sqrt(math.log(40) / (2 * n_p))

    def bound(c: float) -> float:
        return population_ratio(c, share, separation) + 1.01 * errors / norm.sf(c - separation)

    best = minimize_scalar(bound, bounds=(-1, separation + 2), method="bounded").x
    found = best_bin(*gaussian_quantiles(n_u, n_p, share, separation))
    assert found.c == pytest.approx(best, abs=0.03)
    assert found.beta == pytest.approx(population_ratio(best, share, separation), abs=0.002)
    assert found.q_p == pytest.approx(norm.sf(best - separation), abs=0.01)


def test_the_ratio_is_beta_plus_what_normal_images_add():
    """q_u / q_p = beta + (1 - beta) q_n / q_p, so it never falls below beta, and falls with c on this toy."""
    z_u, z_s = gaussian_quantiles(50_000, 50_000, 0.2, 2.5)
    t = tails(z_u, z_s)
    inside = t.q_p > 0.01
    assert t.ratio[inside].numpy() == pytest.approx(population_ratio(t.c[inside].numpy(), 0.2, 2.5), abs=0.005)
    assert float(t.ratio[inside].min()) > 0.2


@pytest.mark.parametrize(
    ("separation", "share", "bbe", "naive"),
    [(4, 0.1, 0.104, 0.069), (4, 0.3, 0.299, 0.198), (4, 0.5, 0.495, 0.301), (2, 0.1, 0.146, None)],
)
def test_published_behaviour_on_gaussians(separation, share, bbe, naive):
    """2,500 + 2,500 scores, halved for the classifier: means over 40 draws, within four standard errors."""
    draws = [gaussian_scores(seed, 1250, 1250, share, separation) for seed in range(40)]
    for estimate, want in ((best_bin, bbe), (naive_min_ratio, naive)):
        if want is not None:
            found = [estimate(*draw).beta for draw in draws]
            assert np.mean(found) == pytest.approx(want, abs=4 * np.std(found) / math.sqrt(40) + 0.001)


def test_best_bin_nears_the_truth_as_scores_grow_many():
    off = [abs(best_bin(*gaussian_scores(1, n, n, 0.1, 3.0)).beta - 0.1) for n in (500, 20_000, 800_000)]
    assert off[0] > off[1] > off[2]
    assert off[2] < 0.004


def coin_flips(seed: int, share: float, n: int) -> float:
    """The law of the naive minimum far up the scores, by another road: there U's images are S-like with density
    `share` of S's, so going down the ranks each image is U's with probability share / (1 + share)."""
    is_u = np.random.default_rng(seed).random(n) < share / (1 + share)
    u, s = np.cumsum(is_u), np.cumsum(~is_u)
    at = is_u & (s > 0)
    return float((u[at] / s[at]).min())


def test_the_naive_minimum_does_not_near_the_truth_however_many_scores():
    few, many = (
        np.mean([naive_min_ratio(*gaussian_scores(seed, n, n, 0.1, 4.0)).beta for seed in range(80)])
        for n in (500, 16_000)
    )
    flips = np.mean([coin_flips(seed, 0.1, 3000) for seed in range(2000)])
    assert few == pytest.approx(flips, abs=0.009)
    assert many == pytest.approx(flips, abs=0.009)
    assert flips < 0.08


def test_with_a_few_distinct_scores_the_naive_minimum_nears_the_truth():
    """Three scores: normal images have 0 or 1, sensitive ones 1 or 2. Over c = 2 there are only sensitive ones."""

    def draw(n: int) -> tuple[torch.Tensor, torch.Tensor]:
        rng = np.random.default_rng(n)
        sensitive = rng.random(n) < 0.2
        return torch.from_numpy(rng.integers(0, 2, n) + sensitive), torch.from_numpy(rng.integers(1, 3, n))

    assert naive_min_ratio(*draw(2_000_000)).beta == pytest.approx(0.2, abs=0.002)
    assert best_bin(*draw(2_000_000)).beta == pytest.approx(0.2, abs=0.002)


@pytest.mark.parametrize("bend", [torch.exp, torch.sigmoid, lambda z: z**3, lambda z: 7 * z - 2])
def test_only_the_order_of_scores_matters(bend):
    z_u, z_s = gaussian_scores(3, 800, 400, 0.2, 3.0)
    for estimate in (best_bin, naive_min_ratio):
        plain, bent = estimate(z_u, z_s), estimate(bend(z_u), bend(z_s))
        assert (plain.beta, plain.q_u, plain.q_p) == (bent.beta, bent.q_u, bent.q_p)
        assert bent.c == pytest.approx(float(bend(torch.tensor(plain.c, dtype=torch.float64))))


# From images


def toy_images(seed: int, n: int, share: float) -> tuple[torch.Tensor, torch.Tensor]:
    """8 x 8 noise; sensitive images have a bright square somewhere. Returns images and which are sensitive."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 90, (n, 1, 8, 8))
    sensitive = np.arange(n) < round(n * share)
    for i in np.flatnonzero(sensitive):
        y, x = rng.integers(0, 6, 2)
        images[i, 0, y : y + 3, x : x + 3] += 150
    order = rng.permutation(n)
    return torch.from_numpy(images[order].astype(np.uint8)), torch.from_numpy(sensitive[order])


U, U_SENSITIVE = toy_images(0, 2000, 0.2)
S, _ = toy_images(1, 600, 1.0)


def test_beta_from_images_whose_share_is_known():
    found = estimate_beta(U, S, seed=0, steps=60, rounds=1)
    true = float(U_SENSITIVE[found.held_u].double().mean())
    assert found.best_bin.beta == pytest.approx(true, abs=0.06)
    assert found.best_bin == best_bin(found.z_u, found.z_s)
    assert found.naive == naive_min_ratio(found.z_u, found.z_s)
    assert found.rounds == (found.best_bin.beta,)
    assert (len(found.z_u), len(found.z_s)) == (1000, 300)
    assert len(found.held_u.unique()) == 1000
    sensitive = U_SENSITIVE[found.held_u]
    assert found.z_u[sensitive].median() > found.z_u[~sensitive].median() + 2


def test_the_seed_decides_everything_and_the_global_generator_nothing():
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    first = estimate_beta(U[:200], S[:100], seed=3, steps=4)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(6)
    assert torch.equal(first.z_u, estimate_beta(U[:200], S[:100], seed=3, steps=4).z_u)
    other = estimate_beta(U[:200], S[:100], seed=4, steps=4)
    assert not torch.equal(first.held_u, other.held_u)
    assert not torch.equal(first.z_u, other.z_u)


def test_the_scorer_starts_from_weights_of_its_seed(monkeypatch):
    starts = []
    monkeypatch.setattr(priors, "_train", lambda scorer, *_: starts.append(scorer.head.weight.tolist()))
    for seed in (3, 4, 3):
        estimate_beta(U[:40], S[:40], seed=seed, steps=0)
    assert starts[0] == starts[2] != starts[1]


def test_the_scored_half_is_not_trained_on(monkeypatch):
    seen = []
    train = priors._train

    def watch(scorer, optimiser, u, s, *rest):
        seen.append((u, s))
        train(scorer, optimiser, u, s, *rest)

    monkeypatch.setattr(priors, "_train", watch)
    marked_u = torch.arange(40, dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 8, 8)
    marked_s = 100 + torch.arange(21, dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 8, 8)
    found = estimate_beta(marked_u, marked_s, seed=0, steps=2, rounds=1)
    (u, s), (kept, again) = seen
    trained = set(u[:, 0, 0, 0].tolist())
    assert trained | set(found.held_u.tolist()) == set(range(40))
    assert len(trained) == 20
    assert len(s) + len(found.z_s) == 21
    assert torch.equal(s, again)
    assert set(kept[:, 0, 0, 0].tolist()) <= trained


def test_a_round_sets_the_likeliest_sensitive_images_aside(monkeypatch):
    given, scores = [], []  # what each training is given; how the scorer then orders what the first one was given
    train = priors._train

    def watch(scorer, optimiser, u, *rest):
        given.append(u)
        scores.append(score(scorer, given[0]))
        train(scorer, optimiser, u, *rest)

    plain = estimate_beta(U, S, seed=0, steps=40)
    monkeypatch.setattr(priors, "_train", watch)
    estimate_beta(U, S, seed=0, steps=40, rounds=1)
    first, left = given
    dropped = len(first) - len(left)
    assert dropped == round(plain.best_bin.beta * 1000)
    assert dropped > 0
    assert torch.equal(left, first[scores[1].argsort()[:-dropped]])


def test_no_batch_of_a_round_is_one_of_an_earlier(monkeypatch):
    asked = []
    draw = priors.draw_batch
    monkeypatch.setattr(priors, "draw_batch", lambda *a: asked.append(a[-2:]) or draw(*a))
    estimate_beta(U[:200], S[:100], seed=3, steps=4, rounds=2)
    assert asked == [(3, step) for step in range(4 + 2 + 2)]


def test_u_and_s_weigh_the_same_though_a_batch_holds_three_times_as_many_of_u():
    """One step of plain gradient descent on a scorer of one number, against the sum of two means by hand."""

    class Brightness(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.slope = torch.nn.Parameter(torch.tensor(0.5))

        def forward(self, x):
            return self.slope * x.mean((1, 2, 3))

    scorer = Brightness()
    priors._train(scorer, torch.optim.SGD(scorer.parameters(), 1.0), U, S, seed=4, first=7, steps=1)
    batch = priors.draw_batch("two", len(U), len(S), 128, 32, 4, 7)
    x_u, x_s = ((images.float() / 127.5 - 1).mean((1, 2, 3)) for images in (U[batch.u], S[batch.s]))
    slope = (torch.sigmoid(0.5 * x_u) * x_u).mean() - (torch.sigmoid(-0.5 * x_s) * x_s).mean()
    assert float(scorer.slope) == pytest.approx(0.5 - float(slope), abs=1e-5)


def test_too_few_images_are_a_sentence():
    with pytest.raises(UserError, match="at least two images of each"):
        estimate_beta(U, S[:1], seed=0)


def test_principal_components_are_scikit_learns():
    from sklearn.decomposition import PCA

    got = torch.cat(principal_components(U[:300], S[:100], 5)).numpy()
    pixels = torch.cat([U[:300], S[:100]]).flatten(1).numpy() / 127.5 - 1
    want = PCA(5, svd_solver="full").fit_transform(pixels)
    assert np.abs(got) == pytest.approx(np.abs(want), abs=2e-3)


def test_km2_is_near_the_share_of_separate_gaussians():
    rng = np.random.default_rng(0)
    centre = 4.0 * (np.arange(400) < 120)[:, None]
    u, s = torch.from_numpy(centre + rng.normal(size=(400, 2))), torch.from_numpy(4 + rng.normal(size=(300, 2)))
    found = km2(u, s, seed=0, most=150)
    assert found == pytest.approx(0.3, abs=0.1)
    assert found == km2(u, s, seed=0, most=150)


def test_the_module_stays_light_and_among_its_own():
    """Of the package it imports draws, datasets and the error type; pu-toolbox waits until it is asked for."""
    code = "import sys, pudm_lite.priors; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = done.stdout.split()
    assert not {"pu_toolbox", "sklearn", "diffusers", "matplotlib"} & set(loaded)
    own = {name.removeprefix("pudm_lite.") for name in loaded if name.startswith("pudm_lite.")}
    assert own == {"priors", "draws", "datasets", "errors"}


# What a wrong beta costs: the closed forms of the notebook


def test_a_wrong_beta_leaves_its_difference_in_the_risk():
    """L_U - b L_S on a U made of exact copies: (1 - share) mean(l_n) + (share - b) mean(l_s)."""
    from pudm_lite.risks import nnpu

    torch.manual_seed(0)
    l_n, l_s = torch.rand(30).double() + 1, torch.rand(10).double() + 3
    l_u = torch.cat([l_n, l_s])  # share 1 / 4
    for b in (0.05, 0.25, 0.6):
        want = 0.75 * l_n.mean() + (0.25 - b) * l_s.mean()
        assert nnpu(l_u, l_s, b).terms["normal_risk"] == pytest.approx(float(want))


@pytest.mark.parametrize("b", [0.0, 0.1, 0.25, 0.4])
def test_the_sensitive_share_that_remains_is_the_mass_that_remains(b):
    """(p_U - b p_S)_+ on the line, integrated: sensitive mass max(0, (share - b) / (1 - b)) where classes are apart."""
    x = np.linspace(-8, 48, 200_001)
    p_n, p_s = norm.pdf(x), norm.pdf(x, 40)
    left = np.maximum(0, 0.75 * p_n + (0.25 - b) * p_s)
    sensitive = np.where(x > 20, left, 0).sum() / left.sum()
    assert sensitive == pytest.approx(share_left(0.25, b), abs=1e-6)


def test_a_perfect_beta_leaves_nothing_and_beta_one_is_refused():
    assert share_left(0.2, 0.2) == 0
    assert share_left(0.2, 0.0) == 0.2
    for true_share, beta in ((0.2, 1.0), (0.2, -0.1), (1.2, 0.1)):
        with pytest.raises(ValueError, match="must lie"):
            share_left(true_share, beta)


def test_past_the_true_share_the_hole_reaches_normal_data_where_they_overlap():
    """(1 - share) p_n + (share - b) p_s < 0 where p_n / p_s < (b - share) / (1 - share): beyond one x on this toy."""
    share, b, d = 0.1, 0.3, 2.0
    edge = brentq(lambda x: (1 - share) * norm.pdf(x) + (share - b) * norm.pdf(x, d), -5, 10)
    want = d / 2 + math.log((1 - share) / (b - share)) / d
    assert edge == pytest.approx(want)


# Its interval


def test_the_interval_is_where_new_images_would_bring_the_estimate():
    """Scores drawn again and again from the toy: as wide as the middle 95 % of their estimates, and around them."""
    share, separation, draws = 0.2, 3.0, torch.Generator().manual_seed(0)

    def scores():
        z_s = torch.randn(300, generator=draws) + separation
        sensitive = torch.rand(1500, generator=draws) < share
        return torch.randn(1500, generator=draws) + separation * sensitive, z_s

    estimates = sorted(best_bin(*scores()).beta for _ in range(200))
    spread = estimates[194] - estimates[5]
    intervals = [beta_interval(*scores(), seed, resamples=100) for seed in range(10)]
    assert np.mean([high - low for low, high in intervals]) == pytest.approx(spread, rel=0.4)
    assert sum(low <= estimates[100] <= high for low, high in intervals) >= 7


def test_the_interval_is_the_seeds_and_refuses_what_the_estimate_does():
    z_u, z_s = gaussian_quantiles(200, 50, 0.2, 2.0)
    assert beta_interval(z_u, z_s, 3) == beta_interval(z_u, z_s, 3) != beta_interval(z_u, z_s, 4)
    assert beta_interval(z_u, z_s, 3, confidence=0.5)[1] < beta_interval(z_u, z_s, 3)[1]
    with pytest.raises(ValueError, match="lies below"):
        beta_interval(torch.ones(5), torch.zeros(5), 0)
    few = beta_interval(torch.arange(40.0), torch.tensor([0.0, 45.0]), 0)  # half of the resamples lie below all of U
    assert 0 <= few[0] <= few[1] <= 1
