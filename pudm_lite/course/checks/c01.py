"""The checks of notebook 01, `ddpm_basics`."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...diffusion import Process, eps_from_output, noise_error, q_sample
from ...sampling import timestep_grid
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


def _posterior_variance(ab_t: Tensor, ab_s: Tensor) -> Tensor:
    return (1 - ab_s) / (1 - ab_t) * (1 - ab_t / ab_s)


@dataclass(frozen=True)
class _Walk:
    """What 01.6 is given, and where it ends: `end()` is right, its arguments make the typical mistakes."""

    x: Tensor
    noise: Tensor
    grid: Tensor
    alpha_bar: Tensor
    slope: Tensor
    shift: Tensor

    def end(
        self,
        ends: Tensor | None = None,
        asked: Tensor | None = None,
        drawn: Tensor | None = None,
        alpha: Callable[[Tensor, Tensor], Tensor] = lambda ab_t, ab_s: ab_t / ab_s,
        weight: Callable[[Tensor, Tensor], Tensor] = lambda ab_t, ab_s: _posterior_variance(ab_t, ab_s).sqrt(),
        guess: Callable[[Tensor, Tensor, Tensor], Tensor] = lambda x, eps, ab: (x - (1 - ab).sqrt() * eps) / ab.sqrt(),
        swapped: bool = False,
    ) -> Tensor:
        """ends: alpha_bar where each step ends; with fewer of them the walk stops early. asked: the network's t at
        each step. drawn: which noise each step takes. alpha, weight (of the noise): from alpha_bar before and after a
        step. guess: x_0 from x, the network's guess and alpha_bar. swapped: whether the posterior takes one of x_0 and
        x_t for the other. Returns (B, D).
        """
        starts, one = self.alpha_bar[self.grid], torch.ones(1, dtype=torch.float64)
        ends = torch.cat([starts[1:], one]) if ends is None else ends
        asked = self.grid if asked is None else asked
        noise = self.noise if drawn is None else self.noise[drawn]
        x = self.x
        for k, (ab_t, ab_s) in enumerate(zip(starts, ends, strict=False)):
            eps = self.slope[asked[k]] * x + self.shift[asked[k]]
            a = alpha(ab_t, ab_s)
            on_x0, on_x = ab_s.sqrt() * (1 - a) / (1 - ab_t), a.sqrt() * (1 - ab_s) / (1 - ab_t)
            x0 = guess(x, eps, ab_t)
            mean = on_x0 * x + on_x * x0 if swapped else on_x0 * x0 + on_x * x
            x = mean + weight(ab_t, ab_s) * noise[k]
        return x

    def mixed(self, fresh: bool) -> Tensor:
        """Each step by Eq. 6, with the noise of the visit (fresh), or with the guessed noise, which is DDIM."""
        x = self.x
        for k, t in enumerate(self.grid):
            ab_t = self.alpha_bar[t]
            ab_s = self.alpha_bar[self.grid[k + 1]] if k + 1 < len(self.grid) else torch.ones_like(ab_t)
            eps = self.slope[t] * x + self.shift[t]
            x = _mixed(ab_s, (x - (1 - ab_t).sqrt() * eps) / ab_t.sqrt(), self.noise[k] if fresh else eps)
        return x


@check("01.6", "ancestral", points=3)
def check_01_6(ancestral: Function) -> None:
    """A sampler made of posteriors over a few of T steps, with a network that guesses along a line, pixel by pixel."""
    steps, few, pixels = 15, 4, 5
    for _ in range(2):
        alpha_bar, grid = _schedule(steps), timestep_grid(steps, few)
        walk = _Walk(
            _normal(3, pixels),
            _normal(few, 3, pixels),
            grid,
            alpha_bar,
            0.5 + torch.rand(steps, pixels, dtype=torch.float64),
            0.5 * _normal(steps, pixels),
        )
        one, early = torch.ones(1, dtype=torch.float64), alpha_bar[grid[1:]]
        before = "the next level is that of the next *of the grid*, alpha_bar[grid[k + 1]]; you took alpha_bar[t - 1]"

        def alone(ab_t: Tensor, ab_s: Tensor, alpha_bar: Tensor = alpha_bar) -> Tensor:
            """alpha of the one step from t to t - 1."""
            return ab_t / alpha_bar[int((alpha_bar == ab_t).nonzero()) - 1]

        expect(
            ancestral(walk.x, walk.noise, grid, alpha_bar, walk.slope, walk.shift),
            walk.end(),
            {
                "the walk stops at the last step of the grid, where the picture is still noisy: one step is left, from "
                "there to alpha_bar = 1": walk.end(early),
                "the last step goes to the clean picture, where alpha_bar is 1; alpha_bar[0] is what is left after the "
                "first step of noise": walk.end(torch.cat([early, alpha_bar[:1]])),
                "your last step adds noise, which nothing takes away any more: at alpha_bar = 1 the posterior has no "
                "variance": walk.end(weight=lambda ab_t, ab_s: (1 - ab_t / ab_s).sqrt()),
                "1 - alpha is the variance of the step forward (Ho et al.'s other choice); the posterior's was asked "
                "for": walk.end(weight=lambda ab_t, ab_s: (1 - ab_t / ab_s).sqrt() * (ab_s < 1)),
                "the noise is multiplied by the *root* of the variance": walk.end(weight=_posterior_variance),
                "you added no noise at all: x_s is drawn from the posterior, its mean is not enough": walk.end(
                    weight=lambda ab_t, ab_s: 0 * ab_t
                ),
                "that is DDIM, which keeps the guessed noise; here x_s is drawn from the posterior": walk.mixed(
                    fresh=False
                ),
                "that noises the guessed picture anew (Eq. 6) and forgets x_t: the posterior takes both": walk.mixed(
                    fresh=True
                ),
                before: walk.end(torch.cat([alpha_bar[grid[:-1] - 1], one])),
                f"{before}, and after the last step there is no noise at all": walk.end(alpha_bar[grid - 1]),
                "x_0 and x_t are swapped where you ask the posterior: the guessed picture comes first": walk.end(
                    swapped=True
                ),
                "the shift is missing in the network's guess": replace(walk, shift=0 * walk.shift).end(),
                "each step takes noise of its own: noise[k], not the same one again and again": walk.end(
                    drawn=torch.zeros_like(grid)
                ),
                "the grid leaves steps out, so alpha of a step is alpha_bar[t] / alpha_bar[s], with s the *next of the "
                "grid*, not t - 1": walk.end(
                    alpha=alone, weight=lambda ab_t, ab_s: ((1 - ab_s) / (1 - ab_t) * (1 - alone(ab_t, ab_s))).sqrt()
                ),
                "alpha of a step is alpha_bar[t] / alpha_bar[s]; you took alpha_bar[t]": walk.end(
                    alpha=lambda ab_t, ab_s: ab_t,
                    weight=lambda ab_t, ab_s: (1 - ab_s).sqrt(),
                ),
                "ask the network where x is, at t; you asked at the step it goes to": walk.end(
                    asked=torch.cat([grid[1:], torch.zeros(1, dtype=torch.int64)])
                ),
                "slope and shift are counted by t, as alpha_bar is; you took row k, the number of the visit": walk.end(
                    asked=torch.arange(few)
                ),
                "the posterior takes a picture: first x_0 from the guessed noise (Eq. 6 solved for it); you put the "
                "noise in its place": walk.end(guess=lambda x, eps, ab: eps),
                "x_0 from Eq. 6: divide by sqrt(alpha_bar[t])": walk.end(
                    guess=lambda x, eps, ab: x - (1 - ab).sqrt() * eps
                ),
                "do not clip the predicted x_0 here: this data need not lie in [-1, 1]": walk.end(
                    guess=lambda x, eps, ab: ((x - (1 - ab).sqrt() * eps) / ab.sqrt()).clamp(-1, 1)
                ),
                "your result is nan: either your posterior divides by 1 - alpha_bar[s], which is 0 at the last step "
                "(01.4), or you go through the grid from its end, where a variance would be negative": (
                    walk.x * torch.nan
                ),
            },
        )
