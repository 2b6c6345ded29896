"""The checks of notebook 05 find typical mistakes and name them; right answers written differently pass."""

import math

import pytest
import torch
from answers import is_named, passes, wrong

from pudm_lite.course.checks.c05 import check_05_1, check_05_2, check_05_3, check_05_4, check_05_5, check_05_6
from pudm_lite.priors import best_bin


def shares(compare, size_u=len, size_s=len):
    def tail_shares(z_u, z_s, c):
        over = [compare(z[:, None], c).double().sum(0) for z in (z_u, z_s)]
        return torch.stack([over[0] / size_u(z_u), over[1] / size_s(z_s)])

    return tail_shares


right_05_1 = shares(torch.ge)


def loop_05_1(z_u, z_s, c):
    rows = []
    for z in (z_u.tolist(), z_s.tolist()):
        rows.append([sum(value >= threshold for value in z) / len(z) for threshold in c.tolist()])
    return rows[0], rows[1]


def loop_05_1_tensors(z_u, z_s, c):
    return [torch.stack([(z >= x).float().mean() for x in c]) for z in (z_u, z_s)]


def right_05_2(q_u, q_p):
    kept = q_p > 0
    return (q_u[kept] / q_p[kept]).min()


def loop_05_2(q_u, q_p):
    best = math.inf
    for u, p in zip(q_u.tolist(), q_p.tolist(), strict=True):
        if p:
            best = min(best, u / p)
    return best


def where_05_2(q_u, q_p):
    return torch.where(q_p == 0, torch.inf, q_u / q_p).min().item()


def bbe(n_root=lambda n, d: math.sqrt(math.log(4 / d) / (2 * n)), sign=1, factor=lambda g: 1 + g, divide=True):
    def best_bin_estimate(q_u, q_p, n_u, n_p, delta, gamma):
        margin = factor(gamma) * (n_root(n_u, delta) + n_root(n_p, delta))
        bound = q_u / q_p + sign * (margin / q_p if divide else margin)
        i = bound.argmin()
        return q_u[i] / q_p[i]

    return best_bin_estimate


def loop_05_3(q_u, q_p, n_u, n_p, delta, gamma):
    found = []
    for u, p in zip(q_u.tolist(), q_p.tolist(), strict=True):
        error = math.sqrt(0.5 / n_u * math.log(4 / delta)) + math.sqrt(0.5 / n_p * math.log(4 / delta))
        found.append(((u + (1 + gamma) * error) / p, u / p))
    return min(found)[1]


def value_of_bound(q_u, q_p, n_u, n_p, delta, gamma):
    log = math.log(4 / delta)
    return ((q_u + (1 + gamma) * (math.sqrt(log / 2 / n_u) + math.sqrt(log / 2 / n_p))) / q_p).min()


def only(group):
    def best_bin_estimate(q_u, q_p, n_u, n_p, delta, gamma):
        n = n_u if group == "u" else n_p
        bound = q_u / q_p + (1 + gamma) / q_p * math.sqrt(math.log(4 / delta) / (2 * n))
        return (q_u / q_p)[bound.argmin()]

    return best_bin_estimate


def one_root(q_u, q_p, n_u, n_p, delta, gamma):
    margin = (1 + gamma) / q_p * math.sqrt(math.log(4 / delta) * (0.5 / n_u + 0.5 / n_p))
    return (q_u / q_p)[(q_u / q_p + margin).argmin()]


def over_q_u(q_u, q_p, n_u, n_p, delta, gamma):
    log = math.log(4 / delta)
    bound = q_u / q_p + (1 + gamma) / q_u * (math.sqrt(log / 2 / n_u) + math.sqrt(log / 2 / n_p))
    return (q_u / q_p)[bound.argmin()]


def right_05_4(l_n, l_s, true_share, beta):
    return (1 - true_share) * l_n.mean() + (true_share - beta) * l_s.mean()


def in_two_steps_05_4(l_n, l_s, true_share, beta):
    in_u = true_share * l_s.sum() / len(l_s) + (1 - true_share) * l_n.sum() / len(l_n)
    return float(in_u - beta * l_s.mean())


def right_05_5(true_share, beta):
    return ((true_share - beta) / (1 - beta)).clamp(min=0)


def through_the_normal_share_05_5(true_share, beta):
    return 1 - ((1 - true_share) / (1 - beta)).clamp(max=1)


def loop_05_5(true_share, beta):
    return [max(0.0, (true_share - b) / (1 - b)) for b in beta.tolist()]


def discriminant(x_u, x_s):
    """The log-odds of S against U by Fisher's linear discriminant: a closed form."""
    both = (torch.cov(x_u.T) + torch.cov(x_s.T)) / 2 + 1e-3 * torch.eye(x_u.shape[1])
    way = torch.linalg.solve(both, x_s.mean(0) - x_u.mean(0))
    middle = (x_s.mean(0) + x_u.mean(0)) @ way / 2 - math.log(len(x_s) / len(x_u))
    return lambda x: x @ way - middle


def small_network(x_u, x_s, steps=50):
    network = torch.nn.Sequential(torch.nn.Linear(x_u.shape[1], 24), torch.nn.ReLU(), torch.nn.Linear(24, 1))
    x, y = torch.cat([x_u, x_s]), torch.cat([torch.zeros(len(x_u)), torch.ones(len(x_s))])
    optimiser = torch.optim.AdamW(network.parameters(), 1e-2)
    for _ in range(steps):
        optimiser.zero_grad()
        torch.nn.functional.binary_cross_entropy_with_logits(network(x)[:, 0], y).backward()
        optimiser.step()
    return lambda x: network(x)[:, 0].detach()


def tail(z_u, z_s, choose=lambda ratio, margin: ratio[(ratio + margin).argmin()]):
    c = z_u.sort().values
    q_u, q_p = right_05_1(z_u, z_s, c)
    q_u, q_p = q_u[q_p > 0], q_p[q_p > 0]
    error = sum(math.sqrt(math.log(40) / (2 * len(z))) for z in (z_u, z_s))
    return choose(q_u / q_p, 1.01 * error / q_p)


def estimator(fit=discriminant, read=tail, halves=True, sign=1):
    def estimate_share(x_u, x_s):
        (a, b), (c, d) = ((x[torch.randperm(len(x))].chunk(2) if halves else (x, x)) for x in (x_u, x_s))
        score = fit(a, c)
        return read(sign * score(b), sign * score(d))

    return estimate_share


def both_halves(x_u, x_s):
    """Each half is scored by the classifier of the other, as a number; the package's best bin."""
    (a, b), (c, d) = x_u.chunk(2), x_s.chunk(2)
    first, second = small_network(a, c), small_network(b, d)
    return (best_bin(first(b), first(d)).beta + best_bin(second(a), second(c)).beta) / 2


def half_of_u_alone(x_u, x_s):
    """S is scored by a classifier that was trained on it."""
    a, b = x_u[torch.randperm(len(x_u))].chunk(2)
    score = discriminant(a, x_s)
    return tail(score(b), score(x_s))


def seeded(x_u, x_s):
    torch.manual_seed(36)
    return estimator()(x_u, x_s)


def means_of_probabilities(z_u, z_s):
    """Elkan and Noto's: right where nothing normal looks sensitive."""
    return z_u.sigmoid().mean() / z_s.sigmoid().mean()


def a_coin(x_u, x_s):
    return estimator()(x_u, x_s) + (0.3 if torch.rand(()) < 0.5 else -0.3)


RIGHT = [
    (check_05_1, right_05_1),
    (check_05_1, loop_05_1),
    (check_05_1, loop_05_1_tensors),
    (check_05_2, right_05_2),
    (check_05_2, loop_05_2),
    (check_05_2, where_05_2),
    (check_05_3, bbe()),
    (check_05_3, loop_05_3),
    (check_05_4, right_05_4),
    (check_05_4, in_two_steps_05_4),
    (check_05_5, right_05_5),
    (check_05_5, through_the_normal_share_05_5),
    (check_05_5, loop_05_5),
    (check_05_6, estimator()),
    (check_05_6, seeded),
    (check_05_6, lambda x_u, x_s: float(estimator(read=lambda u, s: best_bin(u, s).beta)(x_u, x_s))),
]

WRONG = [
    wrong(check_05_1, shares(torch.gt), "equals the threshold counts as well"),
    wrong(check_05_1, shares(torch.lt), "below"),
    wrong(check_05_1, shares(torch.le), "up to the threshold"),
    wrong(check_05_1, shares(torch.ge, lambda z: 1, lambda z: 1), "these are counts"),
    wrong(check_05_1, lambda z_u, z_s, c: right_05_1(z_u, z_s, c).flip(0), "exchanged"),
    wrong(check_05_1, lambda z_u, z_s, c: right_05_1(z_u, z_s, c).T, "into rows"),
    wrong(
        check_05_1,
        lambda z_u, z_s, c: torch.stack([(z[:, None] >= c).sum(0) / len(z_u) for z in (z_u, z_s)]),
        "divided by the size of U",
    ),
    wrong(check_05_2, lambda q_u, q_p: (q_u / q_p).min(), "0 / 0 got in"),
    wrong(check_05_2, lambda q_u, q_p: (q_u / q_p).nan_to_num(0).min(), "counted as 0"),
    wrong(check_05_2, lambda q_u, q_p: (q_u / q_p)[q_p > 0].max(), "largest ratio"),
    wrong(check_05_2, lambda q_u, q_p: (q_p / q_u)[q_p > 0].min(), "upside down"),
    wrong(check_05_2, lambda q_u, q_p: q_u[q_p > 0].min() / q_p[q_p > 0].min(), "divide first"),
    wrong(check_05_2, lambda q_u, q_p: (q_u / q_p)[q_p > 0].mean(), "mean of the ratios"),
    wrong(check_05_2, lambda q_u, q_p: (q_u / q_p)[(q_p > 0) & (q_u > 0)].min(), "scores of S reach and none of U"),
    wrong(check_05_2, lambda q_u, q_p: (q_u / q_p)[q_p > 0.01].min(), "only q_p = 0 has no ratio"),
    wrong(check_05_2, lambda q_u, q_p: (q_u / q_p)[q_p > 0][-1], "at the highest threshold"),
    wrong(check_05_3, value_of_bound, "smallest ratio plus margin"),
    wrong(check_05_3, bbe(divide=False), "naive minimum"),
    wrong(check_05_3, bbe(factor=lambda g: 1), "factor .1 . gamma. is missing"),
    wrong(check_05_3, bbe(factor=lambda g: g), "multiplied by gamma"),
    wrong(check_05_3, bbe(sign=-1), "subtracted, changes nothing"),
    wrong(check_05_3, bbe(lambda n, d: math.log(4 / d) / (2 * n)), "root is missing"),
    wrong(check_05_3, bbe(lambda n, d: math.sqrt(math.log(4 / d) / n)), "2 below n is missing"),
    wrong(check_05_3, bbe(lambda n, d: math.sqrt(math.log(1 / d) / (2 * n))), "4 is missing"),
    wrong(check_05_3, only("u"), "U's part only"),
    wrong(check_05_3, only("p"), "S's part only"),
    wrong(check_05_3, one_root, "under one root"),
    wrong(check_05_3, over_q_u, "divided by q_u"),
    wrong(check_05_4, lambda n, s, true, beta: (1 - true) * n.mean(), "beta is right"),
    wrong(check_05_4, lambda n, s, true, beta: (1 - beta) * n.mean(), "decided by the true share"),
    wrong(check_05_4, lambda n, s, true, beta: (1 - true) * n.mean() + (beta - true) * s.mean(), "sign of the rest"),
    wrong(
        check_05_4, lambda n, s, true, beta: (1 - beta) * n.mean() + (beta - true) * s.mean(), "exchanged: U is made"
    ),
    wrong(check_05_4, lambda n, s, true, beta: (1 - true) * n.mean() + true * s.mean(), "still to be taken away"),
    wrong(check_05_4, lambda n, s, true, beta: (1 - true) * n.sum() + (true - beta) * s.sum(), "these are sums"),
    wrong(check_05_4, lambda *a: right_05_4(*a).clamp(min=0), "cut off at 0"),
    wrong(check_05_4, lambda *a: right_05_4(*a).abs(), "no absolute value"),
    wrong(check_05_4, lambda n, s, true, beta: (1 - true) * n.mean() + abs(true - beta) * s.mean(), "sign of the rest"),
    wrong(check_05_5, lambda true, beta: (true - beta) / (1 - beta), "negative shares"),
    wrong(check_05_5, lambda true, beta: (true - beta).clamp(min=0), "sums to one"),
    wrong(check_05_5, lambda true, beta: true - beta, "both at once"),
    wrong(check_05_5, lambda true, beta: ((true - beta) / (1 - true)).clamp(min=0), "1 - beta, not 1 - true"),
    wrong(check_05_5, lambda true, beta: true * (1 - beta), "does not scale"),
    wrong(check_05_5, lambda true, beta: ((true - beta) / (1 - beta)).abs(), "do not turn it round"),
    wrong(check_05_6, estimator(sign=-1), "the wrong way round"),
    wrong(
        check_05_6,
        estimator(read=lambda u, s: tail(u, s, lambda ratio, margin: (ratio + margin).min())),
        "hold the margin",
    ),
    wrong(
        check_05_6, estimator(read=lambda u, s: tail(u, s, lambda ratio, margin: ratio.min())), "naive minimum|far off"
    ),
    wrong(check_05_6, estimator(read=lambda u, s: (u > 0).float().mean()), "calls sensitive"),
    wrong(check_05_6, estimator(read=means_of_probabilities), "an average over all scores"),
    wrong(check_05_6, estimator(halves=False), "knows S by heart"),
    wrong(check_05_6, half_of_u_alone, "has the classifier seen"),
    wrong(check_05_6, lambda x_u, x_s: min(0.5, float(estimator()(x_u, x_s))), "wherever it is well counted"),
    wrong(check_05_6, lambda x_u, x_s: 0.3, "where the piles overlap you are 0.10 too low|too low"),
    wrong(check_05_6, lambda x_u, x_s: math.nan, "inf or nan"),
    wrong(check_05_6, lambda x_u, x_s: x_u.mean(0), "the shape is"),
    wrong(check_05_6, a_coin, "far off on single sets|too low|too high"),
]


@pytest.mark.parametrize(("check", "answer"), RIGHT)
def test_right_answers_pass(check, answer):
    passes(check, answer)


def test_an_estimator_with_a_network_and_both_halves_passes():
    passes(check_05_6, both_halves, repeats=1)


@pytest.mark.parametrize(("check", "answer", "message"), WRONG)
def test_wrong_answers_are_named(check, answer, message):
    is_named(check, answer, message)
