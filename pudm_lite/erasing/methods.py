"""Every method of erasing by name, with its hyper-parameters, and the one loop that they share."""

import inspect
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..conditional import Conditional
from ..errors import UserError
from .age import age
from .concept_ablation import concept_ablation
from .esd import esd
from .forget_me_not import forget_me_not
from .layers import only
from .preservation import SEARCHES, adversarial
from .pu import pu
from .safe_guidance import safe_guidance
from .salun import salun
from .scenes import Scene
from .selective_amnesia import selective_amnesia
from .uce import uce


@dataclass(frozen=True)
class Recipe:
    """A method. objective: (scene, **options) -> the loss of each step.

    Where steps is 0 nothing trains: the objective edits the student itself, or returns a module to answer in its place.
    layers: a filter of layers.LAYERS. source: where it is described. real: whether it needs real images.
    """

    objective: Callable[..., Any]
    source: str
    layers: str = "attn2"
    steps: int = 100
    batch_size: int = 32
    learning_rate: float = 1e-3
    options: dict[str, Any] = field(default_factory=dict, hash=False)
    real: bool = False


def _nothing(scene: Scene) -> None:
    """The student stays the teacher."""


ESD, UCE, CA, AP = "Gandikota et al. 2023", "Gandikota et al. 2024", "Kumari et al. 2023", "Bui et al. 2024"

METHODS: dict[str, Recipe] = {
    "none": Recipe(_nothing, "the unedited model", steps=0),
    "esd-x": Recipe(esd, ESD),
    "esd-x-strict": Recipe(esd, ESD, layers="attn2-kv"),
    "esd-u": Recipe(esd, ESD, layers="not-attn2", learning_rate=1e-4),
    "uce": Recipe(uce, UCE, layers="attn2-kv", steps=0),
    "uce-alone": Recipe(uce, UCE, layers="attn2-kv", steps=0, options={"preserve": False}),
    "ca": Recipe(concept_ablation, CA, layers="attn2-kv"),
    "ca-null": Recipe(concept_ablation, CA, layers="attn2-kv", options={"anchor": "null"}),
    "sa": Recipe(selective_amnesia, "Heng & Soh 2023", layers="all", real=True),
    "salun": Recipe(salun, "Fan et al. 2024", layers="all", real=True),
    "sld": Recipe(safe_guidance, "Schramowski et al. 2023", steps=0),
    "fmn": Recipe(forget_me_not, "Zhang et al. 2024", steps=35),
    "ap-exact": Recipe(adversarial, AP, options={"search": "exact"}),
    "ap-gumbel": Recipe(adversarial, AP, options={"search": "gumbel"}),
    "ap-pgd": Recipe(adversarial, AP, options={"search": "pgd"}),
    "ap-random": Recipe(adversarial, AP, options={"search": "random"}),
    "ap-neutral": Recipe(adversarial, AP, options={"search": "neutral"}),
    "age": Recipe(age, "Bui et al. 2025"),
    "pu": Recipe(pu, "Takahashi et al. 2025", layers="all", options={"ell_scale": 20.0}, real=True),
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
    given, options = _settings(method, overrides)
    if recipe.real and (images is None or labels is None):
        raise UserError(f"{method} needs real images of the concepts with their labels, and there are none")
    scene = Scene(model, erased, given["batch_size"], seed, *concept_space(model, erased), images, labels)
    started, losses, answering = time.process_time(), [], scene.student
    with scene.undo:
        if recipe.steps == 0:
            answering = recipe.objective(scene, **options) or answering
        else:
            optimiser = torch.optim.Adam(only(scene.student, given["layers"]), given["learning_rate"])
            objective = recipe.objective(scene, **options)
            for step in range(given["steps"]):
                loss = objective(step)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                losses.append(loss.item())
                progress(step + 1, given["steps"], losses[-1])
    seconds = time.process_time() - started
    scene.student.requires_grad_(True)
    return Erased(
        replace(model, network=answering),
        differences(model.network, scene.student),
        losses,
        seconds,
        {"method": method, "erased": "+".join(erased), "seed": seed, **given, **options},
    )


def _settings(method: str, overrides: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Of the training, and the method's own options, which those of its search belong to.

    Raises UserError for one that the method does not have, listing those it has, and for values out of range.
    """
    recipe = METHODS[method]
    training = ("steps", "batch_size", "learning_rate", "layers")
    options = {**recipe.options, **{name: value for name, value in overrides.items() if name not in training}}
    functions = [recipe.objective]
    if "search" in recipe.options:
        if options["search"] not in SEARCHES:
            raise UserError(f"unknown search {options['search']!r}; known: {', '.join(SEARCHES)}")
        functions.append(SEARCHES[options["search"]])
    own = [p for function in functions for p in inspect.signature(function).parameters.values()]
    known = [*(training if recipe.steps else ()), *(p.name for p in own if p.default is not p.empty)]
    for name in overrides:
        if name not in known:
            raise UserError(f"{method} has no option {name!r}; known: {', '.join(known) or 'none'}")
    given = {name: overrides.get(name, getattr(recipe, name)) for name in training}
    for name in training[:3]:
        if recipe.steps and not given[name] > 0:
            raise UserError(f"{name} must be larger than 0; got {given[name]}")
    return given, options


def concept_space(model: Conditional, erased: tuple[str, ...]) -> tuple[Tensor, tuple[str, ...]]:
    """The concepts that may be preserved, (K, m, d), and their names: all but the erased ones; the null concept; and of
    every two of these without null the mean, named `a~b`, scaled to a token's variance. Of prompts no mean is taken: a
    text encoder does not speak half of one word and half of another.

    The erased ones are left out, and so is what is made of them: a search would find them first, and preserve what
    shall go. Raises UserError for an unknown one, and where nothing is left.
    """
    table = model.concepts
    if not erased or (unknown := [name for name in erased if name not in table.names]):
        what = f"unknown concept {unknown[0]!r}" if erased else "no concept to erase is named"
        raise UserError(f"{what}; known: {', '.join(table.names)}")
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
