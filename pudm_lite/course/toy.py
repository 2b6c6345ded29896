"""A toy in the plane where everything is known: p_N, p_S, their noised densities, and the best noise estimate.

Points are handled as images of 2 channels and 1 x 1 pixels, so that `diffusion`, `risks` and `sampling` work on them
unchanged. All mixtures are of round Gaussians; noising one (Eq. 5) gives another, so the density of x_t, its score and
the eps_theta that minimises E[l] are closed forms. Equation numbers are those of Takahashi et al. (ICLR 2025).
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from math import pi

import torch
from torch import Tensor, nn

from ..diffusion import Process, ell, noise_schedule
from ..draws import generator
from ..errors import UserError
from ..risks import bce_sensitive, risk
from ..sampling import sample

Network = Callable[[Tensor, Tensor], Tensor]
"""eps(x_t (B, 2, 1, 1), t (B,) int64) -> (B, 2, 1, 1)."""

ELL_SCALE = 2.0
"""A point has two numbers: at this scale `diffusion.ell` is Eq. 8 exactly."""


def toy_process(steps: int = 200) -> Process:
    """The forward process of the toy: the cosine schedule with few steps, which a plane does not need more of."""
    return Process(noise_schedule("cosine", steps).float())


@dataclass(frozen=True)
class Gaussians:
    """A mixture of K round Gaussians in the plane.

    weights: (K,), >= 0, adding up to 1. means: (K, 2). stds: (K,), > 0, one standard deviation for both directions.
    """

    weights: Tensor
    means: Tensor
    stds: Tensor

    def __post_init__(self) -> None:
        k = len(self.weights)
        if self.means.shape != (k, 2) or self.stds.shape != (k,):
            raise ValueError(
                f"{k} weights need means ({k}, 2) and stds ({k},); got {self.means.shape}, {self.stds.shape}"
            )
        if (self.weights < 0).any() or not torch.isclose(self.weights.sum(), torch.ones_like(self.weights[0])):
            raise ValueError("the weights of a mixture are >= 0 and add up to 1")

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """n points. Returns (n, 2)."""
        k = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        noise = torch.randn(n, 2, generator=generator, dtype=self.means.dtype)
        return self.means[k] + self.stds[k, None] * noise

    def _log_parts(self, x: Tensor, ab: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """log(w_k N(x; sqrt(ab) mu_k, v_k I)), x's distance to each centre, and v_k = ab std_k^2 + 1 - ab.

        x: (n, 2). ab: (n, 1), alpha_bar of each point. Returns (n, K), (n, K, 2), (n, K).
        """
        variance = ab * self.stds.square() + 1 - ab  # (n, K)
        offset = ab.sqrt()[..., None] * self.means - x[:, None]  # (n, K, 2)
        logs = self.weights.log() - offset.square().sum(-1) / (2 * variance) - torch.log(2 * pi * variance)
        return logs, offset, variance

    def log_density(self, x: Tensor, alpha_bar: float = 1.0) -> Tensor:
        """log p(x), or the log density of x_t where the signal share (Eq. 5) is alpha_bar. x: (n, 2). Returns (n,)."""
        return self._log_parts(x, x.new_full((len(x), 1), alpha_bar))[0].logsumexp(1)

    def density(self, x: Tensor, alpha_bar: float = 1.0) -> Tensor:
        """exp of `log_density`. x: (n, 2). Returns (n,)."""
        return self.log_density(x, alpha_bar).exp()

    def score(self, x: Tensor, alpha_bar: Tensor) -> Tensor:
        """grad_x log p_t(x), the score of the noised density. x: (n, 2). alpha_bar: (n,). Returns (n, 2)."""
        logs, offset, variance = self._log_parts(x, alpha_bar[:, None])
        return (logs.softmax(1) / variance)[..., None].mul(offset).sum(1)

    def mean(self) -> Tensor:
        """E[x]. Returns (2,)."""
        return self.weights @ self.means

    def spread(self) -> Tensor:
        """E|x - E[x]|^2, the trace of the covariance. Returns ()."""
        return self.weights @ (2 * self.stds.square() + (self.means - self.mean()).square().sum(1))


def mixture(p_s: Gaussians, p_n: Gaussians, beta: float) -> Gaussians:
    """p_U = beta p_S + (1 - beta) p_N, Eq. 13. Raises ValueError for beta outside [0, 1]."""
    if not 0 <= beta <= 1:
        raise ValueError(f"beta must lie in [0, 1]; got {beta}")
    return Gaussians(
        torch.cat([beta * p_s.weights, (1 - beta) * p_n.weights]),
        torch.cat([p_s.means, p_n.means]),
        torch.cat([p_s.stds, p_n.stds]),
    )


def normal_toy() -> Gaussians:
    """p_N: five blobs on three quarters of a ring, inside [-1, 1]^2."""
    angle = torch.arange(5) * pi / 3 + pi / 3
    centres = 0.62 * torch.stack([angle.cos(), angle.sin()], 1)
    return Gaussians(torch.full((5,), 0.2), centres, torch.full((5,), 0.09))


def sensitive_toy() -> Gaussians:
    """p_S: a wide blob where the ring of `normal_toy` is open; it reaches into its neighbours."""
    return Gaussians(torch.ones(1), torch.tensor([[0.55, 0.0]]), torch.tensor([0.13]))


def sensitive_share(points: Tensor, p_s: Gaussians, p_n: Gaussians) -> float:
    """The share of points that are likelier under p_S than under p_N: the exact judge of the toy. points: (n, 2)."""
    return (p_s.log_density(points) > p_n.log_density(points)).float().mean().item()


def as_images(points: Tensor) -> Tensor:
    """(n, 2) -> (n, 2, 1, 1)."""
    return points[:, :, None, None]


def exact_eps(p: Gaussians, alpha_bar: Tensor) -> Network:
    """The eps_theta that minimises E_p[l] (Eq. 8): E[eps | x_t] = -sqrt(1 - alpha_bar_t) grad log p_t(x_t).

    (Tweedie's formula.) alpha_bar: (T,). Returns a network on (B, 2, 1, 1) and t (B,).
    """

    def network(x_t: Tensor, t: Tensor) -> Tensor:
        ab = alpha_bar[t].to(x_t.dtype)
        return as_images(-(1 - ab).sqrt()[:, None] * p.score(x_t.flatten(1), ab))

    return network


def one_gaussian_error(x0: Tensor, centre: Tensor, std: float, alpha_bar: Tensor) -> Tensor:
    """E_{t, eps}[l(x_0)], Eq. 8, of the model "one round Gaussian at `centre`": A + B |x_0 - centre|^2.

    Its eps_theta is a_t (x_t - sqrt(ab) centre) with a_t = sqrt(1 - ab) / (ab std^2 + 1 - ab), so that
    A = mean_t 2 (1 - a_t sqrt(1 - ab))^2 and B = mean_t a_t^2 ab.
    x0: (n, 2). centre: (..., 2). alpha_bar: (T,). Returns (..., n).
    """
    a, b = one_gaussian_coefficients(std, alpha_bar)
    return a + b * (x0 - centre[..., None, :]).square().sum(-1)


def one_gaussian_coefficients(std: float, alpha_bar: Tensor) -> tuple[float, float]:
    """A and B of `one_gaussian_error`."""
    ab = alpha_bar.double()
    slope = (1 - ab).sqrt() / (ab * std**2 + 1 - ab)
    return float(2 * (1 - slope * (1 - ab).sqrt()).square().mean()), float((slope.square() * ab).mean())


class EpsNet(nn.Module):
    """A small network eps_theta(x_t, t): sines of the point and of t in, three hidden layers, two numbers out."""

    frequency: Tensor

    def __init__(self, steps: int, width: int = 96, waves: int = 3):
        super().__init__()
        self.steps = steps
        self.register_buffer("frequency", pi * 2.0 ** torch.arange(waves))
        sizes = [2 + 6 * waves, width, width, width]
        layers = [m for a, b in pairwise(sizes) for m in (nn.Linear(a, b), nn.SiLU())]
        self.layers = nn.Sequential(*layers, nn.Linear(width, 2))

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        """x_t: (B, 2, 1, 1). t: (B,). Returns (B, 2, 1, 1)."""
        x = x_t.flatten(1)
        place = torch.cat([x, (t[:, None] + 0.5) / self.steps], 1)  # (B, 3)
        phase = (place[:, :, None] * self.frequency).flatten(1)  # (B, 3 * waves)
        return as_images(self.layers(torch.cat([x, phase.sin(), phase.cos()], 1)))


@dataclass(frozen=True)
class Split:
    """What a run of the toy knows, and what only we know.

    u: (n_u, 2) unlabeled; u_sensitive: (n_u,) bool, what nobody told. s: (n_s, 2) labelled sensitive.
    n: (n_n, 2) labelled normal. held_u, held_s: fresh points that no run trains on.
    """

    u: Tensor
    u_sensitive: Tensor
    s: Tensor
    n: Tensor
    held_u: Tensor
    held_s: Tensor


def toy_split(
    p_s: Gaussians, p_n: Gaussians, beta: float, n_u: int, n_s: int, n_n: int, held: int = 2000, seed: int = 0
) -> Split:
    """Draw a `Split`. beta: the share of sensitive points in U, exact up to rounding, inside [0, 1]."""
    draw = generator(seed, 0)

    def unlabeled(n: int) -> tuple[Tensor, Tensor]:
        k = round(beta * n)
        return torch.cat([p_s.sample(k, draw), p_n.sample(n - k, draw)]), torch.arange(n) < k

    u, u_sensitive = unlabeled(n_u)
    s, n = p_s.sample(n_s, draw), p_n.sample(n_n, draw)
    return Split(u, u_sensitive, s, n, unlabeled(held)[0], p_s.sample(held, draw))


@dataclass(frozen=True)
class Run:
    """A trained network and its log: name -> (records,) numbers, with `step` among them."""

    network: EpsNet
    log: dict[str, Tensor]


def errors(
    network: Network, points: Tensor, process: Process, seed: int, draws: int = 1, ell_scale: float = ELL_SCALE
) -> Tensor:
    """l(x), Eq. 8, with `draws` draws of (t, eps) a point. points: (n, 2). Returns (draws * n,): all points, again and
    again. The same seed gives every network the same draws.
    """
    draw = generator(seed, 2)
    x0 = as_images(points.repeat(draws, 1))
    t = torch.randint(process.steps, (len(x0),), generator=draw)
    eps = torch.randn(x0.shape, generator=draw)
    return ell(network, x0, t, eps, process, ell_scale)


def train(
    data: Split,
    method: str,
    beta: float,
    steps: int,
    process: Process,
    width: int = 96,
    learning_rate: float = 2e-3,
    size: int = 256,
    seed: int = 0,
    every: int = 25,
    ell_scale: float = ELL_SCALE,
) -> Run:
    """Train an `EpsNet` with AdamW and one of `risks.METHODS`.

    Every step takes `size` points of U, of S and of labelled N, with replacement, each with its own t and eps. So S
    may be tiny: what repeats is the point, not its noise. `pn` is given U's hidden normal points as N, as the oracle
    it is; `pnu` gets data.n. All methods of a seed start from one network and see the same draws.

    Every `every` steps the log takes the risk's terms on all of the training data and on held-out data, with the same
    (t, eps) at each record: `normal_risk` is L_U - beta L_S, `held_normal_risk` the same on fresh points.
    `clamped_share` is the share of steps since the last record whose batch had a negative normal part (for nnpu, abspu
    and pnu; else 0).
    Raises UserError for data without unlabeled or without sensitive points, and when a number is no longer finite.
    """
    if len(data.u) == 0 or len(data.s) == 0:
        raise UserError("the toy needs at least one unlabeled and one sensitive point")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = EpsNet(process.steps, width)
    optimiser = torch.optim.AdamW(network.parameters(), lr=learning_rate)
    nothing = data.u[:0]
    used = (
        nothing if method == "pn" else data.u,
        nothing if method == "unsupervised" else data.s,
        {"pn": data.u[~data.u_sensitive], "pnu": data.n}.get(method, nothing),
    )
    records: list[dict[str, float]] = []
    clamped: list[float] = []

    def record(step: int) -> None:
        with torch.no_grad():
            copies = max(1, len(data.held_s) // len(data.s))  # few points: more draws of (t, eps) for each
            groups = ((data.u, 4), (data.s, copies), (data.held_u, 1), (data.held_s, 1))
            l_u, l_s, h_u, h_s = (
                errors(network, points, process, seed + k, draws, ell_scale) for k, (points, draws) in enumerate(groups)
            )
        row = {"step": float(step), "L_U_minus": l_u.mean().item(), "L_S_minus": l_s.mean().item()}
        row |= {"held_L_U_minus": h_u.mean().item(), "held_L_S_minus": h_s.mean().item()}
        row["clamped_share"] = sum(clamped) / max(len(clamped), 1)
        clamped.clear()
        row["normal_risk"] = row["L_U_minus"] - beta * row["L_S_minus"]
        row["held_normal_risk"] = row["held_L_U_minus"] - beta * row["held_L_S_minus"]
        records.append(row)

    for step in range(steps):
        if step % every == 0:
            record(step)
        parts = []
        for number, points in enumerate(used):
            draw = generator(seed, 1, step, number)
            take = size if len(points) else 0
            x0 = as_images(points[torch.randint(max(len(points), 1), (take,), generator=draw)])
            t = torch.randint(process.steps, (take,), generator=draw)
            parts.append((x0, t, torch.randn(x0.shape, generator=draw)))
        x0, t, eps = (torch.cat(column) for column in zip(*parts, strict=True))
        l = ell(network, x0, t, eps, process, ell_scale)
        l_u, l_s, l_n = l.split([len(p[1]) for p in parts])
        result = risk(method, l_u, l_s, l_n, beta)
        clamped.append(float(result.terms.get("clamped", 0)))
        optimiser.zero_grad()
        result.objective.backward()
        if not torch.isfinite(result.value):
            raise UserError(
                f"the toy's risk is no longer finite at step {step}: fewer steps, or a smaller learning_rate"
            )
        for group in optimiser.param_groups:
            group["lr"] = learning_rate * (1 - step / steps) ** 0.5
        optimiser.step()
    record(steps)
    return Run(network, {name: torch.tensor([row[name] for row in records]) for name in records[0]})


def upu_variance(l_u: Tensor, l_s: Tensor, beta: float, n_u: int, n_s: int) -> Tensor:
    """The variance of Eq. 18 over draws of n_u unlabeled and n_s sensitive points.

    Var(l_u) / n_u + beta^2 Var(push(l_s) - l_s) / n_s: a sensitive point enters L_S^+ and L_S^- at once, so the two
    are no independent terms. l_u, l_s: large pools, whose own variance is taken. Returns ().
    """
    once = bce_sensitive(l_s) - l_s
    return l_u.var(correction=0) / n_u + beta**2 * once.var(correction=0) / n_s


def pnu_variance(
    l_u: Tensor, l_s: Tensor, l_n: Tensor, beta: float, eta: float, n_u: int, n_s: int, n_n: int
) -> Tensor:
    """The variance of (1 - eta) Eq. 15 + eta Eq. 18 over draws of n_u, n_s and n_n points: see `risks.pnu`.

    Each group enters on its own: U with weight eta, N with (1 - eta)(1 - beta), and a sensitive point with
    beta (push - eta l). At eta = 1 it is `upu_variance`. Returns ().
    """
    once = bce_sensitive(l_s) - eta * l_s
    return (
        eta**2 * l_u.var(correction=0) / n_u
        + ((1 - eta) * (1 - beta)) ** 2 * l_n.var(correction=0) / n_n
        + beta**2 * once.var(correction=0) / n_s
    )


def clamp_bias(mean: Tensor, std: Tensor) -> Tensor:
    """E[max(0, Z)] - max(0, mean) for a normal Z: what the maximum of Eq. 19 adds on average. Any shape, std > 0.

    std phi(mean / std) - |mean| Phi(-|mean| / std). The absolute value adds twice as much where mean >= 0:
    |z| = 2 max(0, z) - z.
    """
    z = mean.abs() / std
    unit = torch.distributions.Normal(torch.zeros_like(z), torch.ones_like(z))
    return std * unit.log_prob(z).exp() - mean.abs() * unit.cdf(-z)


def draw_samples(network: Network, process: Process, n: int, steps: int = 50, seed: int = 0) -> Tensor:
    """n points from a model with DDIM. `sampling` clips to [-1, 1], so the toy lies inside. Returns (n, 2)."""
    return torch.cat(list(sample(network, process, (2, 1, 1), n, "ddim", steps, seed, 5000))).flatten(1)
