"""SalUn (Fan et al. 2024): forgetting by wrong labels, in the parameters that matter to the forgotten alone."""

from collections.abc import Callable

import torch
from torch import Tensor

from ..draws import generator
from ..errors import UserError
from .scenes import Scene, distance


def saliency(gradients: list[Tensor], share: float = 0.5) -> list[Tensor]:
    """1 where a gradient is among the largest `share` of all of them by size, 0 elsewhere: tensors like those given.

    One threshold for all tensors together. share: in (0, 1].
    """
    sizes = torch.cat([g.abs().flatten() for g in gradients])
    threshold = sizes.kthvalue(len(sizes) - round(share * len(sizes)) + 1).values
    return [(g.abs() >= threshold).to(g) for g in gradients]


def relabelling(forget: Tensor, other: Tensor) -> Tensor:
    """|eps'(x_t, c) - sg eps'(x_t, c')|^2: (B,). x_t are images of the erased c; c' is another concept.

    forget, other: (B, C, H, W), the student's estimates at c and at c', which stays without a gradient.
    """
    return distance(forget, other.detach())


def salun(scene: Scene, alpha: float = 1.0, share: float = 0.5, looks: int = 100) -> Callable[[int], Tensor]:
    """The objective of SalUn, a number for each step: `relabelling` + alpha E_kept |eps - eps'(x_t, c')|^2.

    It trains the half of the parameters whose gradient of the forgetting loss is largest in the trained model, that
    loss being the noise error of the real images to forget; a mask on the gradients keeps the others as they are.
    Half of each batch is images to forget, each told a kept concept at random for its target; half is kept images.
    share: of the parameters, in (0, 1]. looks: images that the mask is made of.
    """
    if not 0 < share <= 1:
        raise UserError(f"share must lie in (0, 1], of the parameters; got {share}")
    forget, kept, half = scene.real(erased=True), scene.real(erased=False), max(1, scene.batch_size // 2)
    others = torch.tensor([row for row in range(len(scene.model.concepts.names)) if row not in scene.rows])

    noisy, eps = scene.of_real(scene.pick(forget, looks, 0), 0)
    forgetting = distance(scene.eps_student(noisy.x, noisy.t, scene.tokens(noisy.row)), eps).mean()
    gradients = torch.autograd.grad(forgetting, scene.trained, materialize_grads=True)
    for parameter, mask in zip(scene.trained, saliency(list(gradients), share), strict=True):
        handle = parameter.register_hook(lambda gradient, mask=mask: gradient * mask)
        scene.undo.callback(handle.remove)

    def objective(step: int) -> Tensor:
        at = torch.cat([scene.pick(forget, half, 2 * step), scene.pick(kept, half, 2 * step + 1)])
        noisy, eps = scene.of_real(at, looks + step)
        wrong = others[torch.randint(len(others), (half,), generator=generator(scene.seed, 6, step))]
        with torch.no_grad():
            other = scene.eps_student(noisy.x[:half], noisy.t[:half], scene.tokens(wrong))
        mine = scene.eps_student(noisy.x, noisy.t, scene.tokens(noisy.row))
        return relabelling(mine[:half], other).mean() + alpha * distance(mine[half:], eps[half:]).mean()

    return objective
