"""Optimisers by name: `adamw` (the paper's), and `muon`: orthogonalised updates of kernels, AdamW beside."""

import torch
from torch import Tensor, nn

OPTIMISERS = ("adamw", "muon")
MOMENTS = {"AdamW": ("step", "exp_avg", "exp_avg_sq"), "Muon": ("momentum",)}
"""What each class keeps of every parameter from its first step on."""


def orthogonalise(matrix: Tensor, steps: int = 5) -> Tensor:
    """The nearest semi-orthogonal matrix, roughly: singular values moved into about [0.7, 1.2] (Jordan et al. 2024).

    Newton-Schulz with the coefficients of torch.optim.Muon. Torch's works in bfloat16 on the whole matrix, which a CPU
    does slowly; here everything happens in float32 on the small side's Gram matrix R = X X^T: each step multiplies X
    from the left by a polynomial in R, and polynomials in one matrix commute.

    matrix: (m, n) float32. Returns (m, n).
    """
    if matrix.shape[0] > matrix.shape[1]:
        return orthogonalise(matrix.T, steps).T
    x = matrix / (matrix.norm() + 1e-7)
    gram = x @ x.T  # (m, m)
    product = None
    for _ in range(steps):
        factor = torch.addmm(gram, gram, gram, beta=-4.7750, alpha=2.0315)
        factor.diagonal().add_(3.4445)
        product = factor if product is None else factor @ product
        gram = factor @ gram @ factor
    return product @ x


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised (Jordan et al. 2024): torch.optim.Muon for kernels (out, in, h, w) as (out, in*h*w).

    lr: the spectral norm of one step, about. momentum: Nesterov's.
    """

    def __init__(self, params: list[nn.Parameter], lr: float = 0.02, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["momentum"] = torch.zeros_like(parameter)
                momentum = state["momentum"].lerp_(parameter.grad, 1 - group["momentum"])
                update = parameter.grad.lerp(momentum, group["momentum"])
                out, _, height, width = update.shape
                matrix = update.permute(0, 2, 3, 1).flatten(1)  # no copy where kernels lie channels last
                step = orthogonalise(matrix).view(out, height, width, -1).permute(0, 3, 1, 2)
                parameter.sub_(step, alpha=group["lr"] * max(1, out / matrix.shape[1]) ** 0.5)


def make_optimisers(
    name: str, network: nn.Module, learning_rate: float, kernel_learning_rate: float
) -> list[torch.optim.Optimizer]:
    """The optimisers of a run, each for its share of the parameters that have gradients.

    name: `adamw`, or `muon`: Muon at kernel_learning_rate for kernels with 16 channels or more on both sides, AdamW at
        learning_rate for the rest.
    Raises ValueError for an unknown name.
    """
    if name not in OPTIMISERS:
        raise ValueError(f"unknown optimiser {name!r}; known: {', '.join(OPTIMISERS)}")
    trained = [p for p in network.parameters() if p.requires_grad]
    kernels = [p for p in trained if name == "muon" and p.ndim == 4 and min(p.shape[:2]) >= 16]
    chosen = {id(p) for p in kernels}
    rest = [p for p in trained if id(p) not in chosen]
    betas = (0.9, 0.999) if name == "adamw" else (0.9, 0.99)
    adamw = torch.optim.AdamW(rest, learning_rate, betas=betas, weight_decay=0.01)
    return [Muon(kernels, kernel_learning_rate), adamw] if kernels else [adamw]
