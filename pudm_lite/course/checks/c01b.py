"""The checks of notebook 01b, `elbo_and_score`: the parts of the bound, the score, three predictions, a minimiser."""

import math

import torch
from torch import Tensor

from .. import elbo, toy
from .harness import Function, WrongAnswer, check, expect


def _levels(alpha_bar_max: float = 0.97, steps: int = 6) -> Tensor:
    """A fresh alpha_bar for t = 0..steps - 1, strictly decreasing."""
    parts = torch.rand(steps, dtype=torch.float64) + 0.3
    return alpha_bar_max - (alpha_bar_max - 0.05) * (parts.cumsum(0) - parts[0]) / parts.sum()


def _pixels(*shape: int) -> Tensor:
    """Values on the levels k / 127.5 - 1, in float64; among them a black and a white one in each image."""
    k = torch.randint(1, 255, shape)
    k[..., 0], k[..., -1] = 0, 255
    return k.double() / 127.5 - 1


def _normal(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64)


def _mass(x0: Tensor, guess: Tensor, std: float, half: float) -> Tensor:
    """The probability of every pixel's level, `half` to either side, the outermost open. Like x0."""
    normal = torch.distributions.Normal(guess, std)
    above = torch.where(x0 > 1 - 1e-6, 1.0, normal.cdf(x0 + half))
    return above - torch.where(x0 < -1 + 1e-6, 0.0, normal.cdf(x0 - half))


@check("01b.1", "step_weight")
def check_01b_1(step_weight: Function) -> None:
    """The weight of a step's squared error in the noise, in the bound."""
    for _ in range(3):
        ab_t, ab_s = _levels(steps=2).flip(0).unbind()
        snr_t, snr_s = ab_t / (1 - ab_t), ab_s / (1 - ab_s)
        (right,) = elbo.step_weights(torch.stack([ab_t, ab_s]))
        alpha = ab_t / ab_s
        expect(
            step_weight(ab_t, ab_s),
            right,
            {
                "the half is missing: the divergence of two Gaussians of one variance is the squared gap of the means "
                "over *twice* the variance": 2 * right,
                "that is the weight of the error in x_0, (SNR_s - SNR_t) / 2: in the noise it is divided by SNR_t": (
                    snr_s - snr_t
                )
                / 2,
                "the ratio is upside down: s is the cleaner step, so SNR_s / SNR_t is above 1": (snr_t / snr_s - 1) / 2,
                "the 1 is missing: the weight is 0 where s = t": snr_s / snr_t / 2,
                "that is negative: s is the cleaner step, so it is SNR_s - SNR_t and not the other way round": -right,
                "you multiplied by SNR_t: an error in x_0 is one in the noise *divided* by the root of SNR_t": right
                * snr_t.square(),
                "you divided by SNR_s: the network errs at t, so it is SNR_t that turns its noise into a picture": right
                * snr_t
                / snr_s,
                "that is half the step in log-SNR, which the weight tends to where steps are small; here it is exact": (
                    snr_s / snr_t
                ).log()
                / 2,
                "you divided by twice 1 - alpha, the variance of the step forward; the posterior's is smaller": right
                * (1 - ab_s)
                / (1 - ab_t),
                "you took the signal's share alpha_bar for the signal-to-noise ratio alpha_bar / (1 - alpha_bar)": (
                    1 / alpha - 1
                )
                / 2,
                "that is the squared gap of the means alone: divide it by twice the posterior's variance": (
                    (1 - alpha) ** 2 / (alpha * (1 - ab_t))
                ),
            },
        )


@check("01b.2", "pixel_nats")
def check_01b_2(pixel_nats: Function) -> None:
    """L_0: minus the log-probability of pixels whose outermost levels reach to infinity, for images of any shape."""
    for shape, std in (((3, 1, 2, 4), _wide()), ((2, 3, 2, 3), _wide()), ((3, 1, 2, 4), _wide() / 20)):
        x0 = _pixels(*shape)
        guess = (x0 + 0.5 * std * _normal(*shape)).clamp(-1, 1)
        expect(pixel_nats(x0, guess, std), elbo.decoder_nats(x0, guess, std), _pixel_mistakes(x0, guess, std))
    x0, std = _pixels(2, 1, 28, 28), _wide()
    guess = (x0 + 0.5 * std * _normal(*x0.shape)).clamp(-1, 1)
    underflow = "the product of 784 probabilities is 0 in floating point: take their logarithms first, then add up"
    right = elbo.decoder_nats(x0, guess, std)
    expect(pixel_nats(x0, guess, std), right, {underflow: torch.full_like(right, torch.inf)})
    _expect_no_floor(pixel_nats)
    _expect_flat(pixel_nats, x0.flatten(1), guess.flatten(1), std, right)


def _wide() -> float:
    """A standard deviation many levels wide."""
    return float(0.15 + 0.3 * torch.rand(()))


def _pixel_mistakes(x0: Tensor, guess: Tensor, std: float) -> dict[str, Tensor]:
    """What typical wrong answers to 01b.2 give. Under a wide Gaussian an area is height times width, and no mistake."""
    normal, half = torch.distributions.Normal(guess, std), 1 / 255
    right = elbo.decoder_nats(x0, guess, std)
    height = normal.log_prob(x0).exp()
    black, white = x0 < -1 + 1e-6, x0 > 1 - 1e-6
    above, below = normal.cdf(x0 + half), normal.cdf(x0 - half)

    def summed(probability: Tensor) -> Tensor:
        return -probability.log().flatten(1).sum(1)

    return {
        "the outermost levels reach to infinity: black is everything below -1 + 1/255, white all above 1 - 1/255": (
            summed(above - below)
        ),
        "black and white are swapped: below the level of *black* there is nothing to take away, and above that of "
        "*white* the area goes on to 1": summed(above.masked_fill(black, 1) - below.masked_fill(white, 0)),
        "that is a density, which may be above 1: integrate it over the level, from x - 1/255 to x + 1/255": (
            summed(height)
        ),
        "the density in the middle times 2/255 is the area only where the Gaussian is many levels wide: take the "
        "difference of the cdf at both ends": summed(
            (2 * half * height).where(~(black | white), _mass(x0, guess, std, half))
        ),
        "a level reaches 1/255 to either side: neighbours are 2/255 apart, and levels must not overlap": summed(
            _mass(x0, guess, std, 2 * half)
        ),
        "a level reaches 1/255 to either side and not 1/256: between 256 levels there are 255 gaps": summed(
            _mass(x0, guess, std, 1 / 256)
        ),
        "that is the log-probability: L_0 is minus it": -right,
        "these are bits: the natural logarithm was asked for": right / math.log(2),
        "you added up the whole batch; each image keeps its own number": right.sum(),
        "you averaged over the batch; each image keeps its own number": right.mean(),
        "you averaged over the pixels: the probabilities of independent pixels multiply, so their logarithms add up": (
            right / x0[0].numel()
        ),
        "you used the variance where the standard deviation belongs": summed(_mass(x0, guess, std**2, half)),
    }


def _expect_no_floor(pixel_nats: Function) -> None:
    """A pixel five deviations off, where the difference of two cdf still has nine digits in float64."""
    std = float(0.15 + 0.05 * torch.rand(()))
    x0 = _pixels(3, 1, 2, 4)
    guess = x0.clone()
    guess[:, 0, 0, 1] = x0[:, 0, 0, 1] - 5 * std * x0[:, 0, 0, 1].sign()
    try:
        expect(pixel_nats(x0, guess, std), elbo.decoder_nats(x0, guess, std))
    except WrongAnswer as wrong:
        raise WrongAnswer(
            "right, but for pixels five deviations off the guess: is there a floor under the probability, a clamp or a "
            f"small number added? ({wrong})"
        ) from None


def _expect_flat(pixel_nats: Function, x0: Tensor, guess: Tensor, std: float, right: Tensor) -> None:
    """The same for flat images (B, D), which 01b.3 has."""
    try:
        expect(pixel_nats(x0, guess, std), right)
    except NotImplementedError:
        raise
    except Exception:  # an axis that is not there, or one left over
        raise WrongAnswer(
            "right for images (B, C, H, W), but not for flat ones (B, D), which the next exercise has: "
            ".flatten(1).sum(1) takes both"
        ) from None


@check("01b.3", "negative_elbo", points=3)
def check_01b_3(negative_elbo: Function) -> None:
    """The whole bound from given draws and guesses; at t = 0 some guesses of x_0 leave [-1, 1]."""
    for _ in range(2):
        alpha_bar = _levels(steps=5)
        x0 = _pixels(3, 8)
        eps = _normal(5, 3, 8)
        eps_hat = eps + 0.3 * _normal(5, 3, 8)
        guess = x0 + 0.1 * _normal(3, 8)
        guess[:, 0], guess[:, -1] = -1.1 - 0.2 * torch.rand(3), 1.1 + 0.2 * torch.rand(3)  # at a black, a white pixel
        x_t = alpha_bar[0].sqrt() * x0 + (1 - alpha_bar[0]).sqrt() * eps[0]
        eps_hat[0] = (x_t - alpha_bar[0].sqrt() * guess) / (1 - alpha_bar[0]).sqrt()
        std = float(0.2 + 0.2 * torch.rand(()))
        errors = (eps - eps_hat).square().sum(2)  # (5, 3)
        weights = elbo.step_weights(alpha_bar.flip(0)).flip(0)  # of t = 1..4
        prior = elbo.prior_nats(x0.view(3, 1, 1, 8), float(alpha_bar[-1]))
        decoder = elbo.decoder_nats(x0.view(3, 1, 1, 8), guess.view(3, 1, 1, 8), std)
        upside_down = torch.expm1(torch.logit(alpha_bar).diff()) / 2
        steps = (weights[:, None] * errors[1:]).sum(0)
        total = prior + steps + decoder
        first = (weights[:, None] * errors[:-1]).sum(0)
        snr = alpha_bar / (1 - alpha_bar)
        got = negative_elbo(x0, eps, eps_hat, alpha_bar, std)
        expect(
            got,
            total,
            {
                "L_T is missing: the divergence of q(x_T | x_0) from the standard Gaussian": total - prior,
                "L_0 is missing: the last step, from x_t at t = 0 to the pixels": total - decoder,
                "the steps between are missing": prior + decoder,
                "that is Eq. 8, a plain mean over t: the bound weighs each step, and has two more parts": errors.mean(
                    0
                ),
                "that is Eq. 8 as a sum over t: the bound weighs each step, and has two more parts": errors.sum(0),
                "the errors have no weights, as in Eq. 8: that of step t is multiplied by "
                "step_weight(alpha_bar[t], alpha_bar[t - 1])": prior + errors[1:].sum(0) + decoder,
                "that weight belongs to the error in x_0: in the noise it is divided by SNR_t": prior
                + (weights[:, None] * snr[1:, None] * errors[1:]).sum(0)
                + decoder,
                "the step from t = 1 to t = 0 is missing: its error is at index 1": total - weights[0] * errors[1],
                "the noisiest step is missing: the last error is at index T - 1": total - weights[-1] * errors[-1],
                "you averaged the squared error over the pixels: the norm in Eq. 8 is a sum": prior
                + steps / x0.shape[1]
                + decoder,
                "do not clip the guess of x_0: the Gaussian stands where the network puts it": total
                - decoder
                + elbo.decoder_nats(x0.view(3, 1, 1, 8), guess.clamp(-1, 1).view(3, 1, 1, 8), std),
                "these are bits: nats were asked for": total / math.log(2),
                "the weights are one step off: the error at t belongs to the step from t to t - 1": prior
                + first
                + decoder,
                "you averaged over the steps: Eq. 2 is a product over t, so its logarithm is a sum": prior
                + steps / len(weights)
                + decoder,
                "the half is missing in the weights": total + steps,
                "that is the ELBO itself: its negative was asked for": -total,
                "you added up the whole batch; each image keeps its own bound": total.sum(),
                "L_T is the divergence at the noisiest step, alpha_bar[-1]; you took alpha_bar[0]": total
                - prior
                + elbo.prior_nats(x0.view(3, 1, 1, 8), float(alpha_bar[0])),
                "alpha_bar falls with t: the step from t to t - 1 goes to the *larger* alpha_bar[t - 1]": prior
                + (upside_down[:, None] * errors[1:]).sum(0)
                + decoder,
                "L_0 takes the picture guessed at t = 0, Eq. 6 solved for x_0 with eps_hat[0]; you took x_t itself": (
                    total - decoder + elbo.decoder_nats(x0.view(3, 1, 1, 8), x_t.view(3, 1, 1, 8), std)
                ),
            },
        )


@check("01b.4", "denoised")
def check_01b_4(denoised: Function) -> None:
    """Tweedie: the mean of x_0 given x_t from the score of a mixture, where both are closed forms."""
    for _ in range(3):
        ab = 0.2 + 0.6 * torch.rand((), dtype=torch.float64)
        p = toy.Gaussians(
            torch.tensor([0.3, 0.7], dtype=torch.float64),
            2 * torch.rand(2, 2, dtype=torch.float64) - 1,
            torch.rand(2, dtype=torch.float64) / 2 + 0.1,
        )
        x_t = _normal(5, 2)
        score = p.score(x_t, ab.expand(5))
        # by Bayes: of each blob the mean of x_0 given x_t, weighed by what x_t says of the blob
        variance = ab * p.stds.square() + 1 - ab  # (2,)
        gap = x_t[:, None] - ab.sqrt() * p.means  # (5, 2 blobs, 2)
        logs = p.weights.log() - gap.square().sum(-1) / (2 * variance) - variance.log()
        of_each = p.means + (ab.sqrt() * p.stds.square() / variance)[:, None] * gap
        right = (logs.softmax(1)[..., None] * of_each).sum(1)
        root, rest = ab.sqrt(), 1 - ab
        expect(
            denoised(x_t, score, ab),
            right,
            {
                "a sign: the score points to where x_t is likelier, and that is the way to the picture": (
                    x_t - rest * score
                )
                / root,
                "that is the mean of sqrt(alpha_bar) x_0: divide by the root": x_t + rest * score,
                "the score is multiplied by the variance 1 - alpha_bar, not by its root": (x_t + rest.sqrt() * score)
                / root,
                "the score is not the noise: E[eps | x_t] is -sqrt(1 - alpha_bar) times the score": (
                    x_t - rest.sqrt() * score
                )
                / root,
                "the score is not the noise, E[eps | x_t] is -sqrt(1 - alpha_bar) times it; and the root of alpha_bar "
                "divides the difference": x_t - rest.sqrt() * score,
                "the root of alpha_bar divides both terms: mind the brackets": x_t / root + rest * score,
                "that is Tweedie's eps, -sqrt(1 - alpha_bar) times the score; x_0 was asked for": -rest.sqrt() * score,
                "divide by the *root* of alpha_bar, as Eq. 6 has it": (x_t + rest * score) / ab,
                "you shrank by sqrt(alpha_bar) once more: solving Eq. 6 divides by it": root * (x_t + rest * score),
                "the noise still to be removed has variance 1 - alpha_bar, not alpha_bar": (x_t + ab * score) / root,
            },
        )


@check("01b.5", "error_in_x0_and_v")
def check_01b_5(error_in_x0_and_v: Function) -> None:
    """One network's squared error, measured in the noise, in the picture and in v."""
    for _ in range(3):
        ab = _levels(steps=4)
        x0, eps, off = _normal(4, 7), _normal(4, 7), 0.3 * _normal(4, 7)
        wide = ab[:, None]
        x_t = wide.sqrt() * x0 + (1 - wide).sqrt() * eps
        x0_hat = (x_t - (1 - wide).sqrt() * (eps + off)) / wide.sqrt()
        v = wide.sqrt() * eps - (1 - wide).sqrt() * x0
        v_hat = wide.sqrt() * (eps + off) - (1 - wide).sqrt() * x0_hat
        e = off.square().sum(1)
        right_x0, right_v = (x0 - x0_hat).square().sum(1), (v - v_hat).square().sum(1)
        got = error_in_x0_and_v(e, ab)
        if isinstance(got, Tensor) and got.ndim == 2:
            got = tuple(got)
        if not isinstance(got, tuple | list) or len(got) != 2:
            raise WrongAnswer("return two things, the squared error in x_0 and that in v: `return in_x0, in_v`")
        expect(
            got[0],
            right_x0,
            {
                "x_0: upside down; at a clean step even a bad guess of the noise gives a good picture": e
                * ab
                / (1 - ab),
                "x_0: errors are squared, so the factor of the error is squared too": e * ((1 - ab) / ab).sqrt(),
                "that is the error in v: return x_0 first": right_v,
                "x_0: sqrt(alpha_bar) divides as well: solve Eq. 6 for x_0": e * (1 - ab),
            },
        )
        expect(
            got[1],
            right_v,
            {
                "v: that counts the error in eps alone, or is upside down; the x_0 of the same network errs with it": (
                    e * ab
                ),
                "v: a wrong eps makes x_0 wrong as well, in the opposite direction: both terms of v err": e
                * (ab - (1 - ab)).square()
                / ab,
                "v: errors are squared, so the factor of the error is squared too": e / ab.sqrt(),
                "v: the two errors are not independent: add them up first, then square": e * (ab + (1 - ab) ** 2 / ab),
                "v: that is the error in x_0": right_x0,
            },
        )


@check("01b.6", "signed_eps", points=2)
def check_01b_6(signed_eps: Function) -> None:
    """The minimiser of E_U[l] - weight E_S[l] at a point; where the signed density is not positive there is none."""
    for _ in range(3):
        eps_u, eps_s = _normal(6, 2), _normal(6, 2)
        p_s = torch.rand(6, dtype=torch.float64) + 0.2
        weight = float(0.1 + 0.3 * torch.rand(()))
        p_u = p_s * (1.2 + torch.rand(6, dtype=torch.float64))
        p_u[3:] *= weight  # where S is denser than U, and yet not weight times as dense
        u, s = p_u[:, None], p_s[:, None]
        got = signed_eps(eps_u, eps_s, p_u, p_s, weight)
        expect(
            got,
            (u * eps_u - weight * s * eps_s) / (u - weight * s),
            {
                "a plus in numerator and denominator: that is the guess for a mixture; S is taken away": (
                    u * eps_u + weight * s * eps_s
                )
                / (u + weight * s),
                "the densities are missing: at each point a distribution counts as much as it puts there": (
                    eps_u - weight * eps_s
                )
                / (1 - weight),
                "you divided by 1 - weight: what is left *at this point* is p_u - weight p_s": (
                    u * eps_u - weight * s * eps_s
                )
                / (1 - weight),
                "that is the gradient's constant part: divide by p_u - weight p_s, which multiplies eps": u * eps_u
                - weight * s * eps_s,
                "the weight is missing in front of p_s": (u * eps_u - s * eps_s) / (u - s),
                "the weight is missing in front of p_s (so you see no minimum where p_u < p_s)": torch.where(
                    u > s, (u * eps_u - s * eps_s) / (u - s), torch.nan
                ),
                "nan at every point: your condition is turned round, there is a minimum where p_u - weight p_s > 0": (
                    eps_u * torch.nan
                ),
                "you divided by p_u alone: the errors on S are taken away as well": (u * eps_u - weight * s * eps_s)
                / u,
                "that is the guess for U: the part of S is still in it": eps_u,
                "U and S are swapped": (s * eps_s - weight * u * eps_u) / (s - weight * u),
            },
        )
    p_u[1:3] = weight * p_s[1:3] * 0.8
    want = (p_u[:, None] * eps_u - weight * p_s[:, None] * eps_s) / (p_u - weight * p_s)[:, None]
    formula = want.clone()
    want[1:3] = torch.nan
    expect(
        signed_eps(eps_u, eps_s, p_u, p_s, weight),
        want,
        {
            "where p_u < weight p_s the parabola opens downwards, and your formula gives its *highest* point: "
            "return nan there, as there is no minimum": formula,
            "where p_u < weight p_s there is no minimum at all: return nan, not zero": want.nan_to_num(0.0),
        },
    )
    p_s, p_u = torch.full((6,), 0.5, dtype=torch.float64), torch.full((6,), 0.125, dtype=torch.float64)
    try:
        expect(signed_eps(eps_u, eps_s, p_u, p_s, 0.25), eps_u * torch.nan)
    except WrongAnswer:
        raise WrongAnswer(
            "right, but for p_u = weight p_s exactly, where the parabola is a straight line: it has no lowest point "
            "either, return nan"
        ) from None
