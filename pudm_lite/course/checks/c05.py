"""Checks of notebook 05: tail shares, the naive minimum, best-bin estimation, what a wrong beta does, an estimator."""

import math

import torch
from torch import Tensor

from ...priors import Tails, share_over
from .harness import Function, WrongAnswer, check, expect


@check("05.1", "tail_shares", points=2)
def check_05_1(tail_shares: Function) -> None:
    """Scores with ties, thresholds that are themselves scores: the shares with score >= c, for U and for S."""
    n_u, n_p = int(torch.randint(60, 90, ())), int(torch.randint(20, 50, ()))
    z_u = torch.randint(0, 17, (n_u,)).double() / 8  # in eighths, exact: many ties, and thresholds meet scores
    z_s = torch.randint(4, 25, (n_p,)).double() / 8
    c = torch.arange(0, 28, 3).double() / 8  # (10,): from below everything to above everything

    def shares(over_u: Tensor, over_s: Tensor) -> Tensor:
        return torch.stack([over_u.double().sum(0), over_s.double().sum(0)])

    u, s, sizes = z_u[:, None], z_s[:, None], torch.tensor([[n_u], [n_p]]).double()
    counts = shares(u >= c, s >= c)
    below, up_to = shares(u < c, s < c) / sizes, shares(u <= c, s <= c) / sizes
    want = torch.stack([share_over(z_u, c), share_over(z_s, c)])
    got = tail_shares(z_u, z_s, c)
    expect(
        torch.stack([torch.as_tensor(part) for part in got]) if isinstance(got, tuple | list) else got,
        want,
        {
            "a score that equals the threshold counts as well: write >=, not >": shares(u > c, s > c) / sizes,
            "these are the shares *below* the threshold; q counts the scores of c or more": below,
            "these are the shares up to the threshold; q counts the scores of c or more": up_to,
            "these are counts: divide each by the size of its own group": counts,
            "both counts are divided by the size of U: q_p is a share of S": counts / n_u,
            "both counts are divided by the size of S: q_u is a share of U": counts / n_p,
            "both counts are divided by the number of all scores: each group has its own size": counts / (n_u + n_p),
            "q_u and q_p are exchanged: the first row is U's": want.flip(0),
            "the result is (K, 2): put the two shares into rows, one row a group": want.T,
        },
    )


@check("05.2", "naive_minimum", points=1)
def check_05_2(naive_minimum: Function) -> None:
    """Scattered ratios, a threshold that no score reaches, where the ratio would be 0 / 0, and one that U's do not."""
    q_p = torch.logspace(0, -3, 40, dtype=torch.float64)
    ratio = 0.3 + 0.4 * torch.rand(40, dtype=torch.float64)
    ratio[-2] = 0.1 + 0.1 * torch.rand(())  # the minimum where q_p is small: it counts, only q_p = 0 is left out
    ratio[1] = 0.8  # the largest, so that no other mistake can give it
    ratio[-1] = 0.6 + 0.1 * torch.rand(())  # away from their mean
    nothing = torch.zeros(1, dtype=torch.float64)
    q_u, q_p = torch.cat([ratio * q_p, nothing]), torch.cat([q_p, nothing])
    expect(
        naive_minimum(q_u, q_p),
        ratio.min(),
        {
            "0 / 0 got in: leave out the thresholds that no score of S reaches (q_p = 0)": float("nan"),
            "0 / 0 was counted as 0: leave out the thresholds that no score of S reaches (q_p = 0)": 0.0,
            "that is the largest ratio; every ratio is at least beta, so take the smallest": ratio.max(),
            "the ratio is upside down: q_u over q_p": (1 / ratio).min(),
            "the ratio is upside down (you took 1 / the largest share): q_u over q_p": (1 / ratio).max(),
            "divide first, then take the minimum: both shares must belong to one threshold": (
                q_u[:-1].min() / q_p[:-1].min()
            ),
            "that is the mean of the ratios; every ratio is at least beta, so take the smallest": ratio.mean(),
            "that is the ratio at the highest threshold, not the smallest ratio": ratio[-1],
            "you left out thresholds with a small q_p as well: only q_p = 0 has no ratio": ratio[q_p[:-1] > 0.01].min(),
        },
    )
    q_u[int(torch.randint(20, 35, ()))] = 0
    expect(
        naive_minimum(q_u, q_p),
        0.0,
        {
            "a threshold that scores of S reach and none of U has the ratio 0, and it counts: leave out only those "
            "with q_p = 0": ratio.min(),
        },
    )


@check("05.3", "best_bin_estimate", points=3)
def check_05_3(best_bin_estimate: Function) -> None:
    """On the exact tails of a Gaussian mixture, finely enough that each part of the margin moves the estimate.

    delta, gamma and n_u / n_p lie where no two typical mistakes choose the same threshold.
    """
    n_p = int(torch.randint(400, 900, ()))
    n_u, delta, gamma = 9 * n_p, float(0.04 + 0.02 * torch.rand(())), float(0.5 + 0.2 * torch.rand(()))
    true, apart = float(0.1 + 0.3 * torch.rand(())), float(2 + torch.rand(()))
    c = torch.linspace(-1, 5, 4000, dtype=torch.float64)
    q_p = torch.special.ndtr(apart - c)  # P(N(apart, 1) >= c)
    t = Tails(c, true * q_p + (1 - true) * torch.special.ndtr(-c), q_p, n_u, n_p)
    ratio, log = t.ratio, math.log(4 / delta)
    error_u, error_p = math.sqrt(log / (2 * n_u)), math.sqrt(log / (2 * n_p))
    both, factor = error_u + error_p, 1 + gamma

    def at(error: float, over: Tensor = t.q_p) -> Tensor:
        return ratio[(ratio + error / over).argmin()]

    expect(
        best_bin_estimate(t.q_u, t.q_p, n_u, n_p, delta, gamma),
        ratio[(ratio + t.margin(delta, gamma)).argmin()],
        {
            "that is the smallest ratio plus margin; the estimate is the ratio alone at the threshold where the sum is "
            "smallest": (ratio + t.margin(delta, gamma)).min(),
            "that is the naive minimum: is the margin added, and divided by q_p? The same margin everywhere, or one "
            "that is subtracted, changes nothing": ratio.min(),
            "the factor (1 + gamma) is missing from the margin": at(both),
            "the margin is multiplied by gamma; it should be 1 + gamma": at(gamma * both),
            "the root is missing: sqrt(ln(4 / delta) / (2 n))": at(factor * (error_u**2 + error_p**2)),
            "the 2 below n is missing: sqrt(ln(4 / delta) / (2 n))": at(factor * both * math.sqrt(2)),
            "the 4 is missing: sqrt(ln(4 / delta) / (2 n))": at(factor * both * math.sqrt(-math.log(delta) / log)),
            "the margin holds U's part only; S's part is missing": at(factor * error_u),
            "the margin holds S's part only; U's share is estimated as well": at(factor * error_p),
            "the two parts are under one root; each share has its own": at(factor * math.hypot(error_u, error_p)),
            "the margin is divided by q_u; it is q_p, the denominator of the ratio": at(factor * both, t.q_u),
        },
        tolerance=1e-6,
    )


@check("05.4", "expected_normal_risk", points=2)
def check_05_4(expected_normal_risk: Function) -> None:
    """E[L_U - beta L_S] where beta is below U's true share, and where it is so far above it that this is negative."""
    for off, size in ((-0.05 - 0.05 * float(torch.rand(())), 4), (0.1 + 0.1 * float(torch.rand(())), 25)):
        true = float(0.15 + 0.2 * torch.rand(()))
        _expect_normal_risk(expected_normal_risk, true, true + off, size)


def _expect_normal_risk(expected_normal_risk: Function, true: float, beta: float, size: float) -> None:
    """05.4 at one pair of shares; size: of the errors of S, where those of U are 1 to 2."""
    l_n, l_s = 1 + torch.rand(int(torch.randint(20, 40, ()))).double(), size + torch.rand(7).double()
    n, s = l_n.mean(), l_s.mean()
    rest, turned = (true - beta) * s, (beta - true) * s
    expect(
        expected_normal_risk(l_n, l_s, true, beta),
        (1 - true) * n + rest,
        {
            "that is what remains when beta is right; here the true share and beta differ, so some of L_S stays": (
                (1 - true) * n
            ),
            "that is (1 - beta) L_N: how much normal data U holds is decided by the true share": (1 - beta) * n,
            "the sign of the rest is turned round: U brings its true share of L_S, and beta L_S is taken away": (
                (1 - true) * n + turned
            ),
            "U's normal part has weight 1 - true share, whatever is assumed": (1 - beta) * n + rest,
            "the true share and beta are exchanged: U is made with the true share": (1 - beta) * n + turned,
            "that is E[L_U]: beta L_S is still to be taken away": (1 - true) * n + true * s,
            "the weights of L_N and L_S are exchanged": (1 - true) * s + (true - beta) * n,
            "cut off at 0: the expectation may be negative, and that is where the clamp of Eq. 19 steps in": 0.0,
            "the expectation may be negative: no absolute value here": -(1 - true) * n - rest,
            "average the errors of each group; these are sums": (1 - true) * l_n.sum() + (true - beta) * l_s.sum(),
        },
    )


@check("05.5", "sensitive_left", points=2)
def check_05_5(sensitive_left: Function) -> None:
    """What a perfect learner of Eq. 14 keeps of the sensitive images, over a range of assumed shares."""
    true = float(0.1 + 0.3 * torch.rand(()))
    beta = torch.cat([torch.linspace(0, 1, 9)[:-1].double() * 2 * true, torch.tensor([true]).double()])
    want = ((true - beta) / (1 - beta)).clamp(min=0)
    expect(
        sensitive_left(true, beta),
        want,
        {
            "negative shares: past the true share nothing sensitive is left, so the share is 0 there": (true - beta)
            / (1 - beta),
            "what is left no longer sums to one: divide by its mass, 1 - beta": (true - beta).clamp(min=0),
            "both at once: divide by the mass 1 - beta, and let no share be negative": true - beta,
            "the mass that is left is 1 - beta, not 1 - true share": ((true - beta) / (1 - true)).clamp(min=0),
            "beta p_S is subtracted from p_U, it does not scale it": true * (1 - beta),
            "that is the normal share; the question is the sensitive one": 1 - want,
            "the difference is turned round: true share - beta": ((beta - true) / (1 - beta)).clamp(min=0),
            "take the size off below 0, do not turn it round: past the true share nothing sensitive is left": (
                (true - beta) / (1 - beta)
            ).abs(),
        },
    )


def _features(n_u: int, n_s: int, d: int, gap: float, share: float) -> tuple[Tensor, Tensor]:
    """U (n_u, d) with an exact share, and S (n_s, d): two round Gaussians `gap` apart, in a direction drawn anew."""
    way = torch.nn.functional.normalize(torch.randn(d), dim=0)
    x_u = torch.randn(n_u, d) + gap * way * (torch.arange(n_u) < round(share * n_u))[:, None]
    return x_u[torch.randperm(n_u)], torch.randn(n_s, d) + gap * way


@check("05.6", "estimate_share", points=3)
def check_05_6(estimate_share: Function) -> None:
    """estimate_share(x_u, x_s): judged by what it finds, so that any good estimator passes.

    On features where the two kinds lie apart; where they overlap; and where S is like U, in so many dimensions that a
    classifier knows its training half by heart. The limits are several standard deviations from what good ones do.
    """

    Sets = list[tuple[float, tuple[Tensor, Tensor]]]

    def sets(n_u: int, n_s: int, d: int, gap: float, shares: tuple[float, ...]) -> Sets:
        return [(share, _features(n_u, n_s, d, gap, share)) for share in shares]

    # All are drawn before any is shown: an answer that seeds torch would else decide what it is asked next.
    lie_apart = sets(1000, 400, 10, 4.0, (0.2, 0.3, 0.45))
    overlap = sets(1000, 1000, 3, 1.5, (0.4,) * 5)
    are_alike = sets(240, 240, 160, 0.0, (0.0,) * 3)  # every share is possible: all of U may be like S

    def errors(of: Sets) -> list[float]:
        found = []
        for share, features in of:
            got = estimate_share(*features)
            expect(got, 0.0, tolerance=1e9)  # a finite number, and only one
            found.append(float(torch.as_tensor(got).detach()) - share)
        return found

    apart = errors(lie_apart)
    off = sum(apart) / 3
    if off > 0.4:
        raise WrongAnswer(
            f"the two kinds lie well apart, and yet you are {off:.2f} too high: are the scores the wrong way round? "
            "Larger must mean more like S"
        )
    if off > 0.12:
        raise WrongAnswer(
            f"the two kinds lie well apart, and yet you are {off:.2f} too high: does your result hold the margin? It "
            "only chooses the threshold"
        )
    if off < -0.08:
        raise WrongAnswer(
            f"the two kinds lie well apart, and yet you are {-off:.2f} too low: so is the smallest ratio (the naive "
            "minimum), and so is the share of U that a classifier calls sensitive"
        )
    if max(map(abs, apart)) > 0.2:
        raise WrongAnswer("right on average and far off on single sets: does chance choose your threshold?")
    overlapping = errors(overlap)
    off = sum(overlapping) / 5
    if off < -0.02:
        raise WrongAnswer(
            f"where the piles overlap you are {-off:.2f} too low, as the naive minimum is: choose the threshold where "
            "the ratio *plus its margin* is smallest"
        )
    if off > 0.25:
        raise WrongAnswer(
            f"where the piles overlap you are {off:.2f} too high: an average over all scores counts the normal images "
            "that look sensitive; look at the tail"
        )
    alike = errors(are_alike)
    found = sum(alike) / 3
    if found < 0.35:
        raise WrongAnswer(
            f"here S is drawn just like U, so all of U may be sensitive, and you found {found:.2f}: your classifier "
            "knows S by heart; score the half that it was not trained on"
        )
    if found < 0.75:
        raise WrongAnswer(
            f"here S is drawn just like U: q_u / q_p is about 1 wherever it is well counted; you found {found:.2f}: "
            "has the classifier seen an image that you score?"
        )
