"""Every method of erasing by name, with its hyper-parameters, and the one loop that they share."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..conditional import Conditional
from ..errors import UserError
from .esd import esd
from .layers import only
from .preservation import adversarial
from .scenes import Scene
from .uce import uce


@dataclass(frozen=True)
class Recipe:
    """A method. objective: (scene, **options) -> the loss of each step; or, where steps is 0, what edits the student.

    layers: a filter of layers.LAYERS. source: where it is described.
    """

    objective: Callable[..., Any]
    source: str
    layers: str = "attn2"
    steps: int = 200
    batch_size: int = 32
    learning_rate: float = 1e-3
    options: dict[str, Any] = field(default_factory=dict, hash=False)
    real: bool = False


def _nothing(scene: Scene) -> None:
    """The student stays the teacher."""


ESD, UCE, AP = "Gandikota et al. 2023", "Gandikota et al. 2024", "Bui et al. 2024"

METHODS: dict[str, Recipe] = {
    "none": Recipe(_nothing, "the unedited model", steps=0),
    "esd-x": Recipe(esd, ESD),
    "esd-x-strict": Recipe(esd, ESD, layers="attn2-kv"),
    "esd-u": Recipe(esd, ESD, layers="not-attn2", learning_rate=1e-4),
    "uce": Recipe(uce, UCE, layers="attn2-kv", steps=0),
    "uce-alone": Recipe(uce, UCE, layers="attn2-kv", steps=0, options={"preserve": False}),
    "ap-exact": Recipe(adversarial, AP, options={"search": "exact"}),
    "ap-gumbel": Recipe(adversarial, AP, options={"search": "gumbel"}),
    "ap-pgd": Recipe(adversarial, AP, options={"search": "pgd"}),
    "ap-random": Recipe(adversarial, AP, options={"search": "random"}),
    "ap-neutral": Recipe(adversarial, AP, options={"search": "neutral"}),
}
"""The one table of methods and what each is trained with."""


@dataclass(frozen=True)
class Erased:
    """An edited model. changed: names of the parameters that differ from the teacher's. losses: one a step.

    seconds: of this process's CPU time, its threads together.
    """

    model: Conditional
    changed: dict[str, Tensor]
    losses: list[float]
    seconds: float
    settings: dict[str, Any]


Progress = Callable[[int, int, float], None]
"""Called with (steps done, steps, loss)."""


def erase(
    model: Conditional,
    erased: tuple[str, ...],
    method: str,
    seed: int = 0,
    images: Tensor | None = None,
    labels: Tensor | None = None,
    progress: Progress = lambda done, of, loss: None,
    **overrides: Any,
) -> Erased:
    """Edit a copy of the model until it does not draw the erased concepts; the model itself is left as it is.

    method: one of METHODS. images, labels: real images of the concepts, which some methods need, as `Scene` takes them.
    overrides: steps, batch_size, learning_rate, layers, and the method's own options.
    Raises UserError for an unknown method, concept, filter or option, and where nothing is left to preserve.
    """
    if method not in METHODS:
        raise UserError(f"unknown method {method!r}; known: {', '.join(METHODS)}")
    recipe = METHODS[method]
    given = {
        name: overrides.pop(name, getattr(recipe, name)) for name in ("steps", "batch_size", "learning_rate", "layers")
    }
    options = {**recipe.options, **overrides}
    if recipe.real and images is None:
        raise UserError(f"{method} needs real images of the concepts, and there are none")
    scene = Scene(model, erased, given["batch_size"], seed, *concept_space(model, erased), images, labels)
    started, losses = time.process_time(), []
    parameters = only(scene.student, given["layers"])
    if recipe.steps == 0:
        recipe.objective(scene, **options)
    else:
        objective = recipe.objective(scene, **options)
        optimiser = torch.optim.Adam(parameters, given["learning_rate"])
        for step in range(given["steps"]):
            loss = objective(step)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
            progress(step + 1, given["steps"], losses[-1])
    seconds = time.process_time() - started
    student = scene.student.requires_grad_(True)
    return Erased(
        replace(model, network=student),
        differences(model.network, student),
        losses,
        seconds,
        {"method": method, "erased": "+".join(erased), "seed": seed, **given, **options},
    )


def concept_space(model: Conditional, erased: tuple[str, ...]) -> tuple[Tensor, tuple[str, ...]]:
    """The concepts that may be preserved, (K, m, d), and their names: all but the erased ones; the null concept; and of
    every two of these without null the mean, named `a~b`, scaled to a token's variance. Of prompts no mean is taken: a
    text encoder does not speak half of one word and half of another.

    The erased ones are left out, and so is what is made of them: a search would find them first, and preserve what
    shall go. Raises UserError where nothing is left.
    """
    table = model.concepts
    for name in erased:
        table.index(name)
    names = [name for name in table.names if name not in erased]
    if model.latent:
        tokens = table.tokens.data[[*map(table.index, names), -1]]
        return tokens, (*names, "null")
    if not names:
        raise UserError(f"nothing is left to preserve of {', '.join(table.names)}: erase fewer concepts")
    single = table.tokens.data[[table.index(name) for name in names]]
    i, j = torch.triu_indices(len(names), len(names), 1)
    mixed = (single[i] + single[j]) / 2
    mixed = mixed * (single.std() / mixed.std((1, 2), keepdim=True))
    mixtures = [f"{names[a]}~{names[b]}" for a, b in zip(i.tolist(), j.tolist(), strict=True)]
    return torch.cat([single, table.null.data[None], mixed]), (*names, "null", *mixtures)


def differences(before: nn.Module, after: nn.Module) -> dict[str, Tensor]:
    """The tensors of `after` that are not bit for bit those of `before`, by name."""
    old = before.state_dict()
    return {name: value for name, value in after.state_dict().items() if not torch.equal(old[name], value)}
