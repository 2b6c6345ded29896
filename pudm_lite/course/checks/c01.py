"""The checks of notebook 01, `ddpm_basics`."""

import torch
from torch import Tensor

from ...diffusion import Process, eps_from_output, noise_error, q_sample
from .harness import Function, WrongAnswer, check, expect


def _schedule(steps: int) -> Tensor:
    """A fresh alpha_bar inside (0.05, 0.95), strictly decreasing, so that no typical mistake hides at an end."""
    weights = torch.rand(steps + 1, dtype=torch.float64) + 0.2
    return 0.95 - 0.9 * (weights.cumsum(0) / weights.sum())[:steps]


def _images(*shape: int) -> Tensor:
    return torch.rand(shape, dtype=torch.float64) * 1.8 - 0.9


def _normal(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64)


def _mixed(ab: Tensor, x0: Tensor, eps: Tensor) -> Tensor:
    return ab.sqrt() * x0 + (1 - ab).sqrt() * eps


@check("01.1", "forward")
def check_01_1(forward: Function) -> None:
    """Eq. 6 at a different t for each example."""
    alpha_bar = _schedule(12)
    alpha = alpha_bar / torch.cat([torch.ones(1, dtype=torch.float64), alpha_bar[:-1]])
    for shape in ((6, 2, 5, 6), (3, 1, 4, 7)):  # in the first, B = W: (B,) times (B, C, H, W) fails without a word
        x0, eps = _images(*shape), _normal(*shape)
        t = torch.cat([torch.tensor([0, 11]), torch.randint(12, (shape[0] - 2,))])
        ab = alpha_bar[t].view(-1, 1, 1, 1)
        mistakes = {
            "the two weights are swapped: in Eq. 6 sqrt(alpha_bar_t) goes with x_0": _mixed(ab, eps, x0),
            "Eq. 6 mixes with square roots; without them the variance of x_t is not 1 - alpha_bar_t": ab * x0
            + (1 - ab) * eps,
            "1 - alpha_bar_t is the variance of the noise in Eq. 5; in Eq. 6 eps is multiplied by its root": ab.sqrt()
            * x0
            + (1 - ab) * eps,
            "sqrt(1 - alpha_bar_t) is not 1 - sqrt(alpha_bar_t): look at the brackets": ab.sqrt() * x0
            + (1 - ab.sqrt()) * eps,
            "the noise has the wrong sign: Eq. 6 adds it": _mixed(ab, x0, -eps),
            "that is one step off: the code counts t = 0..T-1, so step t is alpha_bar[t]": _mixed(
                alpha_bar[t - 1].view(-1, 1, 1, 1), x0, eps
            ),
            "that is a single step of Eq. 4 (alpha_t); Eq. 6 takes all t steps at once (alpha_bar_t)": _mixed(
                alpha[t].view(-1, 1, 1, 1), x0, eps
            ),
            "every example has its own t; you used the first one for all": _mixed(alpha_bar[t[0]], x0, eps),
        }
        if shape[0] == shape[3]:
            mistakes["alpha_bar[t] has shape (B,) and was lined up with the width; give it shape (B, 1, 1, 1)"] = (
                _mixed(alpha_bar[t], x0, eps)
            )
        expect(forward(x0, t, eps, alpha_bar), q_sample(x0, t, eps, alpha_bar), mistakes)


@check("01.2", "error_per_example")
def check_01_2(error_per_example: Function) -> None:
    """Eq. 8 for one draw, as the package scales it: one number per example."""
    eps, eps_hat = _normal(4, 2, 5, 3), _normal(4, 2, 5, 3)
    gap = (eps - eps_hat).flatten(1)
    for scale in (float(torch.rand(()) * 5 + 2), 2.0 * 5 * 3):
        right = noise_error(eps, eps_hat, scale)
        expect(
            error_per_example(eps, eps_hat, scale),
            right,
            {
                "you averaged over the batch as well; a risk does that later, here each example keeps its number": (
                    right.mean()
                ),
                "that adds up the whole batch; each example keeps its own number": right.sum(),
                "you left `scale` out and took the sum: that is right only for scale = C*H*W": gap.square().sum(1),
                "you left `scale` out: the mean over pixels still has to be multiplied by it": gap.square().mean(1),
                "`scale` multiplies the *mean* over pixels; you multiplied the sum": scale * gap.square().sum(1),
                "Eq. 8 is a squared norm: do not take the root": scale * gap.square().mean(1).sqrt(),
                "that is the norm; Eq. 8 squares it": gap.norm(dim=1),
                "that is the absolute error; Eq. 8 squares it": scale * gap.abs().mean(1),
                "square first, then average: positive and negative differences cancel otherwise": scale
                * gap.mean(1).square(),
            },
        )


@check("01.3", "eps_from_v")
def check_01_3(eps_from_v: Function) -> None:
    """eps from a v-prediction, by solving v = sqrt(ab) eps - sqrt(1 - ab) x_0 with Eq. 6."""
    alpha_bar = _schedule(12)
    for shape in ((6, 2, 5, 6), (3, 1, 4, 7)):
        x0, eps = _images(*shape), _normal(*shape)
        t = torch.cat([torch.tensor([0, 11]), torch.randint(12, (shape[0] - 2,))])
        ab = alpha_bar[t].view(-1, 1, 1, 1)
        x_t = q_sample(x0, t, eps, alpha_bar)
        v = ab.sqrt() * eps - (1 - ab).sqrt() * x0
        v = v + 0.3 * _normal(*shape)  # a network's v is never exact; any x_t and v have an eps
        mistakes = {
            "a sign: put v = sqrt(ab) eps - sqrt(1 - ab) x_0 and Eq. 6 together so that x_0 cancels": ab.sqrt() * v
            - (1 - ab).sqrt() * x_t,
            "that is x_0, which the same two equations give; eps was asked for": ab.sqrt() * x_t - (1 - ab).sqrt() * v,
            "the two weights are swapped: near t = 0, where alpha_bar is about 1, v is about eps": (1 - ab).sqrt() * v
            + ab.sqrt() * x_t,
            "the weights are square roots, so that their squares add up to 1": ab * v + (1 - ab) * x_t,
            "that is v itself: it equals eps only where alpha_bar is 1": v,
        }
        if shape[0] == shape[3]:
            wide = alpha_bar[t]
            mistakes["alpha_bar[t] has shape (B,) and was lined up with the width; give it shape (B, 1, 1, 1)"] = (
                wide.sqrt() * v + (1 - wide).sqrt() * x_t
            )
        expect(
            eps_from_v(v, x_t, t, alpha_bar), eps_from_output(v, x_t, t, Process(alpha_bar, "v_prediction")), mistakes
        )


def _pair(result: object) -> tuple[object, object]:
    if not isinstance(result, tuple | list) or len(result) != 2:
        raise WrongAnswer("return two things, the mean and the variance: `return mean, variance`")
    return result[0], result[1]


@check("01.4", "posterior", points=2)
def check_01_4(posterior: Function) -> None:
    """Mean and variance of q(x_s | x_t, x_0), held to Bayes' rule, and at the last step, where alpha_bar_s is 1."""
    for _ in range(3):
        ab_t, ab_s = _schedule(2).flip(0).unbind()
        x0, x_t = _images(2, 1, 3, 4), _normal(2, 1, 3, 4)
        a = ab_t / ab_s
        # Bayes: q(x_s | x_0) times q(x_t | x_s), so precisions add up and means are weighed by them
        variance = 1 / (1 / (1 - ab_s) + a / (1 - a))
        mean = variance * (ab_s.sqrt() * x0 / (1 - ab_s) + a.sqrt() * x_t / (1 - a))
        on_x0 = ab_s.sqrt() * (1 - a) / (1 - ab_t)
        on_xt = a.sqrt() * (1 - ab_s) / (1 - ab_t)
        got_mean, got_variance = _pair(posterior(x0, x_t, ab_t, ab_s))
        expect(
            got_mean,
            mean,
            {
                "mean: the two coefficients are swapped; the closer s is to 0, the more x_0 counts": on_xt * x0
                + on_x0 * x_t,
                "mean: x_t is weighed with sqrt(alpha), alpha = ab_t / ab_s, not with sqrt(ab_t)": on_x0 * x0
                + ab_t.sqrt() * (1 - ab_s) / (1 - ab_t) * x_t,
                "mean: x_0 is weighed with the root of ab_s": ab_s * (1 - a) / (1 - ab_t) * x0 + on_xt * x_t,
                "mean: x_t is weighed with the root of alpha = ab_t / ab_s": on_x0 * x0
                + a * (1 - ab_s) / (1 - ab_t) * x_t,
                "mean: that is q(x_s | x_0), which forgets x_t": ab_s.sqrt() * x0,
                "mean: x_0 is weighed with ab_s, the share of signal left *after* the step": ab_t.sqrt()
                * (1 - a)
                / (1 - ab_t)
                * x0
                + on_xt * x_t,
                "alpha of the step t -> s is ab_t / ab_s; you took ab_t": ab_s.sqrt() * x0
                + ab_t.sqrt() * (1 - ab_s) / (1 - ab_t) * x_t,
            },
        )
        expect(
            got_variance,
            variance,
            {
                "variance: 1 - alpha is the variance of q(x_t | x_s), the step forward; knowing x_0 makes it smaller": 1
                - a,
                "that is the standard deviation; the variance was asked for": variance.sqrt(),
                "variance: 1 - ab_s is the variance of q(x_s | x_0); knowing x_t as well makes it smaller": 1 - ab_s,
                "variance: the fraction is upside down, (1 - ab_s) / (1 - ab_t) is below 1": (1 - ab_t)
                / (1 - ab_s)
                * (1 - a),
                "variance: you left out the factor (1 - alpha), alpha = ab_t / ab_s": (1 - ab_s) / (1 - ab_t),
            },
        )
    last = "at the last step ab_s = 1 and x_s is x_0: "
    got_mean, got_variance = _pair(posterior(x0, x_t, ab_t, torch.ones_like(ab_t)))
    nan = torch.full_like(x0, torch.nan)
    by_zero = last + "your formula divides by 1 - ab_s, which is 0 there; bring it to a form that does not"
    expect(got_mean, x0, {by_zero: nan})
    zero = torch.zeros_like(ab_t)
    expect(got_variance, zero, {by_zero: nan[0, 0, 0, 0], last + "nothing is left to vary": 1 - ab_t})


@check("01.5", "ddim_step", points=2)
def check_01_5(ddim_step: Function) -> None:
    """One DDIM step with eta = 0, where no predicted x_0 leaves [-1, 1]: clipping it or not makes no difference."""
    for _ in range(3):
        ab_t, ab_next = _schedule(2).flip(0).unbind()
        for after in (ab_next, torch.ones_like(ab_next)):
            x0, eps = _images(2, 1, 3, 4), _normal(2, 1, 3, 4)
            x_t = _mixed(ab_t, x0, eps)
            got = ddim_step(x_t, eps, ab_t, after)
            if isinstance(got, Tensor) and not torch.equal(got, ddim_step(x_t, eps, ab_t, after)):
                raise WrongAnswer("two calls gave two results: DDIM with eta = 0 draws no noise of its own")
            expect(
                got,
                _mixed(after, x0, eps),
                {
                    "that is the predicted x_0: it still has to be brought to the noise level of the next step": x0,
                    "you shrank the signal and left the noise out: add sqrt(1 - ab_next) eps_hat": after.sqrt() * x0,
                    "that is x_t again: mix x_0 and eps_hat with ab_next, not with ab_t": x_t,
                    "the two weights are swapped: sqrt(ab_next) goes with x_0": _mixed(after, eps, x0),
                    "Eq. 6 mixes with square roots: sqrt(ab_next) and sqrt(1 - ab_next)": after * x0
                    + (1 - after) * eps,
                    "the noise is weighed with sqrt(1 - ab_next), as in Eq. 6 at the next step": after.sqrt() * x0
                    + (1 - after) * eps,
                    "x_0 comes from Eq. 6 solved for it: divide by sqrt(ab_t)": _mixed(
                        after, x_t - (1 - ab_t).sqrt() * eps, eps
                    ),
                    "the noise at the next step has ab_next, not ab_t": after.sqrt() * x0 + (1 - ab_t).sqrt() * eps,
                    "x_0 = (x_t - sqrt(1 - ab_t) eps_hat) / sqrt(ab_t): a sign": _mixed(
                        after, (x_t + (1 - ab_t).sqrt() * eps) / ab_t.sqrt(), eps
                    ),
                },
            )
