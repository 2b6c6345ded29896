"""Removing a class from a model without a condition: naive deletion, negative gradient, EraseDiff and SISS.

Each has two terms, means of squared errors of noise estimates: one of images to be *kept*, x, one of images to be
*forgotten*, a. How the gradients of the two become one step is the other half of a method.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..datasets import to_model
from ..diffusion import Process, draw_timesteps, eps_from_output, noise_error, q_sample
from ..draws import draw_batch, generator
from ..errors import UserError
from ..optimisers import make_optimisers
from ..recipes import LITE_FINE_TUNING
from ..training import learning_rate_factor

Estimate = Callable[[Tensor, Tensor], Tensor]
"""eps(x_t (B, C, H, W), t (B,)) -> (B, C, H, W)."""


@dataclass(frozen=True)
class Terms:
    """What a method compares on a batch. kept, forgotten: numbers with their graph; None where it has no such term."""

    kept: Tensor | None = None
    forgotten: Tensor | None = None


def mean_error(eps_hat: Tensor, eps: Tensor) -> Tensor:
    """The mean over images and pixels of (eps - eps_hat)^2: l(x) of Eq. 8 by the pixel. Both (B, C, H, W)."""
    return noise_error(eps, eps_hat, 1.0).mean()


def uniform_target(like: Tensor, draws: torch.Generator) -> Tensor:
    """EraseDiff's false noise: uniform on [0, 1], independent of the image's. The best answer is 1/2 everywhere, off
    by the variance 1/12. Returns a tensor as large as `like`."""
    return torch.rand(like.shape, generator=draws).to(like)


def importance_weights(m: Tensor, x: Tensor, a: Tensor, alpha_bar: Tensor, lam: float) -> tuple[Tensor, Tensor]:
    """w_x = q(m|x) / q(m) and w_a = q(m|a) / q(m), where q(m) = (1 - lam) q(m|x) + lam q(m|a) is what m was drawn from.

    With r = q(m|a) / q(m|x): w_x = 1 / ((1 - lam) + lam r), w_a = r w_x. By logarithms, as r leaves the range of floats
    wherever the noise is weak. The weights lie in [0, 1 / (1 - lam)] and [0, 1 / lam].
    m, x, a: (B, C, H, W). alpha_bar: (B,), at each image's step. lam in [0, 1]. Returns two (B,).
    """
    ab = alpha_bar.double().view(-1, 1, 1, 1)
    far_x, far_a = ((m.double() - ab.sqrt() * v.double()).square().flatten(1).sum(1) for v in (x, a))
    log_r = (far_x - far_a) / (2 * (1 - ab.flatten()))
    stay, move = (torch.tensor(v, dtype=torch.float64, device=m.device).log() for v in (1 - lam, lam))
    log_w_x = -torch.logaddexp(stay.expand_as(log_r), move + log_r)
    return log_w_x.exp().to(m), (log_r + log_w_x).exp().to(m)


def siss_terms(eps_hat: Tensor, m: Tensor, x: Tensor, a: Tensor, alpha_bar: Tensor, lam: float) -> Terms:
    """Both errors of SISS from one look at the mixture: w_x |eps_hat - eps_x|^2 and w_a |eps_hat - eps_a|^2.

    eps_x = (m - sqrt(ab) x) / sqrt(1 - ab) is the noise that would have led from x to m. On average over m the terms
    are those of m ~ q(.|x) and of m ~ q(.|a), whatever lam is. eps_hat: the estimate at m; the rest as above.
    """
    ab = alpha_bar.view(-1, 1, 1, 1)
    w_x, w_a = importance_weights(m, x, a, alpha_bar, lam)
    of_x, of_a = (noise_error((m - ab.sqrt() * v) / (1 - ab).sqrt(), eps_hat, 1.0) for v in (x, a))
    return Terms((w_x * of_x).mean(), (w_a * of_a).mean())


def _noised(x: Tensor, process: Process, draws: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """x with noise, its steps, and the noise."""
    t = draw_timesteps(len(x), process.steps, "stratified", draws).to(x.device)
    eps = torch.randn(x.shape, generator=draws).to(x)
    return q_sample(x, t, eps, process.alpha_bar), t, eps


def naive(eps: Estimate, process: Process, x: Tensor, a: Tensor, draws: torch.Generator) -> Terms:
    """Fine-tuning on the kept images: E |eps - eps(x_t)|^2, the simplest deletion."""
    x_t, t, noise = _noised(x, process, draws)
    return Terms(kept=mean_error(eps(x_t, t), noise))


def negative_gradient(eps: Estimate, process: Process, x: Tensor, a: Tensor, draws: torch.Generator) -> Terms:
    """The same error on the forgotten images, to be raised (Golatkar et al. 2020). Nothing holds it back."""
    a_t, t, noise = _noised(a, process, draws)
    return Terms(forgotten=mean_error(eps(a_t, t), noise))


def erasediff(eps: Estimate, process: Process, x: Tensor, a: Tensor, draws: torch.Generator) -> Terms:
    """The kept images' error, and the forgotten ones' distance from `uniform_target`; both to be lowered."""
    m, t, noise = _noised(torch.cat([x, a]), process, draws)
    eps_x, eps_a = eps(m, t).split([len(x), len(a)])
    return Terms(mean_error(eps_x, noise[: len(x)]), mean_error(eps_a, uniform_target(eps_a, draws)))


def siss(eps: Estimate, process: Process, x: Tensor, a: Tensor, draws: torch.Generator, lam: float) -> Terms:
    """`siss_terms` at m drawn from the mixture: from a with probability lam, else from x. As many x as a."""
    from_a = torch.rand(len(x), generator=draws).to(x.device) < lam
    m, t, _ = _noised(torch.where(from_a.view(-1, 1, 1, 1), a, x), process, draws)
    return siss_terms(eps(m, t), m, x, a, process.alpha_bar[t], lam)


def descent(kept: Tensor, forgotten: Tensor) -> Tensor:
    """Lower the kept images' error. kept, forgotten, here and below: the terms' gradients, (P,). Returns (P,), the
    vector that a step goes against."""
    return kept


def ascent(kept: Tensor, forgotten: Tensor) -> Tensor:
    """Raise the forgotten images' error."""
    return -forgotten


def scaled_ascent(kept: Tensor, forgotten: Tensor, length: float) -> Tensor:
    """SISS: lower the one and raise the other, the latter's gradient scaled to `length`, in lengths of the former.

    (Published: to a length of 5, which was about a tenth; a ratio does not depend on how errors are averaged.)
    """
    return kept - length * kept.norm() / forgotten.norm().clamp(min=1e-12) * forgotten


def constrained(kept: Tensor, forgotten: Tensor, eta: float) -> Tensor:
    """EraseDiff: the vector nearest to `kept` that lowers the forgetting term too: kept + s forgotten with
    s = max(0, eta - <kept, forgotten> / |forgotten|^2), so that <result, forgotten> >= eta |forgotten|^2."""
    length = (forgotten @ forgotten).clamp(min=1e-12)
    return kept + (eta - kept @ forgotten / length).clamp(min=0) * forgotten


BATCH = 44
"""Images that go through the network in a step, by every method as in the lite network's own recipe."""


@dataclass(frozen=True)
class Method:
    """terms: what is compared. direction: how its gradients become a step. source, published: where it is described,
    and its settings there, for a larger network and Adam.

    Ours: kept, forgotten: images of each that a step draws (SISS mixes pairs into one). rate: times the learning rates
    of the lite network's fine-tuning, which fall along half a cosine. options, push: settings of terms and direction.
    """

    terms: Callable[..., Terms]
    direction: Callable[..., Tensor]
    source: str
    published: str
    kept: int = BATCH
    forgotten: int = BATCH
    steps: int = 200
    rate: float = 1.0
    options: dict[str, float] = field(default_factory=dict, hash=False)
    push: dict[str, float] = field(default_factory=dict, hash=False)

    def as_row(self) -> dict[str, Any]:
        """Every setting, as a row keeps it."""
        counts = {"batch_size": BATCH, "kept_per_batch": self.kept, "forgotten_per_batch": self.forgotten}
        return {"steps": self.steps, **counts, "rate": self.rate, **self.options, **self.push}


IN_SISS = "as a baseline of SISS: 5e-5, batch 64, 300 steps"

METHODS: dict[str, Method] = {
    "naive": Method(naive, descent, "Alberti et al. 2025", IN_SISS, forgotten=0),
    "negative-gradient": Method(negative_gradient, ascent, "Golatkar et al. 2020", IN_SISS, kept=0, steps=60, rate=0.1),
    "erasediff": Method(
        erasediff,
        constrained,
        "Wu et al. 2025",
        IN_SISS + ", eta 1e-3",
        kept=BATCH // 2,
        forgotten=BATCH // 2,
        push={"eta": 1e-2},
    ),
    "siss": Method(
        siss,
        scaled_ascent,
        "Alberti et al. 2025",
        "5e-5, batch 64, 300 steps, lambda 0.5, ascent scaled to a length of 5",
        options={"lam": 0.5},
        push={"length": 0.1},
    ),
}
"""The one table of methods and what each is trained with. Tried on digit 7 alone, with one seed and 150 to 300 images:
in 80 steps EraseDiff's published eta leaves the digit where it was, and ten times ours leaves nothing; a whole learning
rate of the negative gradient spoils every digit in five steps."""


@dataclass(frozen=True)
class Unlearned:
    """A changed network, ready to draw from. terms: of each step. seconds: this process's CPU time, its threads
    together."""

    network: nn.Module
    terms: list[Terms]
    seconds: float


def unlearn(
    network: nn.Module,
    process: Process,
    kept: Tensor,
    forgotten: Tensor,
    method: Method,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> Unlearned:
    """Train `network`, in place, by a method of METHODS until it does not draw what is forgotten.

    kept, forgotten: (N, C, H, W) uint8 of the network's size. progress: called with (steps done, steps).
    Raises UserError where a term is not a finite number any more.
    """
    started, found = time.process_time(), []
    device = next(network.parameters()).device
    process = Process(process.alpha_bar.to(device), process.prediction)
    network.train().to(memory_format=torch.channels_last)
    parameters = [p for p in network.parameters() if p.requires_grad]
    rates = [LITE_FINE_TUNING[name] * method.rate for name in ("learning_rate", "kernel_learning_rate")]
    optimisers = make_optimisers("muon", network, *rates)
    base = [[group["lr"] for group in optimiser.param_groups] for optimiser in optimisers]

    def eps(x_t: Tensor, t: Tensor) -> Tensor:
        x_t = x_t.contiguous(memory_format=torch.channels_last)
        return eps_from_output(network(x_t, t).sample, x_t, t, process)

    for step in range(method.steps):
        size = method.kept + method.forgotten
        batch = draw_batch("two", len(kept), len(forgotten), size, method.forgotten, seed, step)
        x, a = to_model(kept[batch.u]).to(device), to_model(forgotten[batch.s]).to(device)
        terms = method.terms(eps, process, x, a, generator(seed, 3, step), **method.options)
        follow(parameters, method.direction(*gradients(terms, parameters), **method.push))
        factor = learning_rate_factor(step, method.steps, 0)
        for optimiser, own in zip(optimisers, base, strict=True):
            for group, rate in zip(optimiser.param_groups, own, strict=True):
                group["lr"] = rate * factor
            optimiser.step()
        found.append(Terms(*(None if term is None else term.detach() for term in (terms.kept, terms.forgotten))))
        if not all(term is None or term.isfinite() for term in (terms.kept, terms.forgotten)):
            raise UserError(f"the error is not a finite number any more at step {step + 1}: take fewer steps")
        progress(step + 1, method.steps)
    return Unlearned(network.eval(), found, time.process_time() - started)


def gradients(terms: Terms, parameters: list[nn.Parameter]) -> tuple[Tensor, Tensor]:
    """The gradients of both terms, (P,) each; zeros of one that is not there."""
    present = [term for term in (terms.kept, terms.forgotten) if term is not None]
    found = []
    for term in (terms.kept, terms.forgotten):
        if term is None:
            found.append(torch.zeros(sum(p.numel() for p in parameters), device=parameters[0].device))
        else:
            parts = torch.autograd.grad(term, parameters, retain_graph=term is not present[-1])
            found.append(torch.cat([part.reshape(-1) for part in parts]))
    return found[0], found[1]


def follow(parameters: list[nn.Parameter], direction: Tensor) -> None:
    """Give each parameter its part of a vector as its gradient. direction: (P,)."""
    assert len(direction) == sum(p.numel() for p in parameters)
    for p, part in zip(parameters, direction.split([p.numel() for p in parameters]), strict=True):
        p.grad = part.view(p.shape).contiguous(
            memory_format=torch.channels_last if p.ndim == 4 else torch.contiguous_format
        )
