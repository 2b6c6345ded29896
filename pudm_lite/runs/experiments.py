"""What a run is.

Names are resolved once, in `experiment`; what stands below it takes values.
"""

import hashlib
import json
import math
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..measures.inception import weights_are_there
from ..recipes import Recipe, recipe_for
from ..sampling import SAMPLERS
from ..settings import TrainConfig
from ..splits import DIGITS, Configuration, named_configuration
from .albums import FOLDERS, album_configuration, is_album
from .measuring import FEATURES

ESTIMATE = "estimate"
"""Stands where a beta would: `estimating.estimated` puts a number in its place."""


@dataclass(frozen=True)
class Experiment:
    """One run, every name in it resolved: data, a method and its training, a network, how samples are drawn and judged.

    configuration: what its data are called, and data: their sizes and classes.
    network: what its network is called, and recipe: image size, process and defaults for these data.
    train: every setting of the training.
    sampler, sampler_steps, sample_seed, n_samples: how samples are drawn, and how many.
    features: of the Fréchet distance, one of measuring.FEATURES.
    pretrained: what the training starts from: a folder or hub name of a Diffusers pipeline, or a file of `pudm ship`.
    guidance: how far samples of a conditional network go beyond their condition (`sampling.guided`).
    images: the file of an album (`albums.Album`): images of one's own.
    save_every: seconds between checkpoints, which shape no result; None for what `Trainer` finds.
    beta_interval: of a beta that was estimated, where it may as well lie.
    Raises UserError for unknown names and values out of range.
    """

    configuration: str
    data: Configuration
    network: str
    recipe: Recipe
    train: TrainConfig
    sampler: str
    sampler_steps: int
    sample_seed: int = 0
    n_samples: int = 2000
    features: str = "judge"
    pretrained: str = ""
    images: str = ""
    guidance: float = 1.0
    save_every: float | None = None
    beta_interval: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        for what, value, known in (("sampler", self.sampler, SAMPLERS), ("features", self.features, FEATURES)):
            if value not in known:
                raise UserError(f"unknown {what} {value!r}; known: {', '.join(known)}")
        if not 1 <= self.sampler_steps <= 1000:
            raise UserError(f"sampler steps must lie in 1..1000; got {self.sampler_steps}")
        if self.save_every is not None and not 0 <= self.save_every < math.inf:
            raise UserError(f"checkpoints are kept every 0 seconds or more; got {self.save_every}")
        if self.n_samples < 2:
            raise UserError(f"at least 2 samples are needed to measure anything; got {self.n_samples}")
        if self.train.steps == 0 and not self.pretrained:
            raise UserError("steps must be larger than 0, but where --pretrained names a model to draw from as it is")
        if self.train.conditional and (self.pretrained or self.images):
            raise UserError("a conditional network is trained from scratch, on a data set with classes")
        if not 0 <= self.guidance <= 100:
            raise UserError(f"guidance must lie in [0, 100]; got {self.guidance}")
        if self.train.flips and self.data.dataset in DIGITS:
            raise UserError("a mirrored digit is none: leave flips at 0")
        if self.data.dataset == FOLDERS and self.train.method in ("pn", "pnu"):
            raise UserError(
                f"{self.train.method} needs the true labels of U, which a folder does not give: name one of classes "
                "with --classes"
            )

    @property
    def method(self) -> str:
        """The method's name in a row: the training's, or `pretrained` where nothing is trained."""
        return self.train.method if self.train.steps else "pretrained"

    @property
    def sampling(self) -> dict[str, Any]:
        """How samples are drawn, as `sampling.draw` takes it."""
        how = {"sampler": self.sampler, "steps": self.sampler_steps, "seed": self.sample_seed}
        return how | ({"guidance": self.guidance} if self.train.conditional else {})

    @property
    def name(self) -> str:
        """A folder name: what the run is, and eight digits that depend on every setting that shapes its training.

        A setting at its default does not count, so that a setting added later renames no run.
        """
        plain = asdict(TrainConfig())
        settings = {name: value for name, value in asdict(self.train).items() if value != plain[name]}
        settings |= {"pretrained": self.pretrained} if self.pretrained else {}
        shaping = json.dumps([self.configuration, self.network, settings], sort_keys=True)
        digest = hashlib.sha256(shaping.encode()).hexdigest()[:8]
        return f"{self.configuration}_{self.method}_seed{self.train.seed}_{digest}"

    def as_row(self) -> dict[str, Any]:
        """What a row says was asked for: every setting of the training, and every other field that is a word or number.

        `experiment` and `method` are what readers look for; the values of `data` and `recipe` follow from the names,
        but for images of one's own: of those it says what they are called, and how many there are of each kind.
        """
        others = ["data", "recipe", "train", "images", "save_every", "beta_interval"]
        others += [] if self.train.conditional else ["guidance"]
        asked = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in others}
        row = {"experiment": asked.pop("configuration"), **self.train.as_row(), **asked, "method": self.method}
        return row | (self._own() if self.images else {})

    @property
    def beta_row(self) -> dict[str, Any]:
        """What a row says beside of a beta that was estimated. The run is that of the same beta, given."""
        if self.beta_interval is None:
            return {}
        return {"beta_from": "estimate", "beta_low": self.beta_interval[0], "beta_high": self.beta_interval[1]}

    def _own(self) -> dict[str, Any]:
        c = self.data
        named = {"images": c.title, "normal": ",".join(c.normal), "sensitive": ",".join(c.sensitive)}
        return {**named, "unlabeled": c.u_normal + c.u_sensitive, "image_size": c.image_size}


def experiment(
    configuration: str = "mnist-even",
    method: str = "nnpu",
    network: str = "lite",
    pretrained: str = "",
    **overrides: Any,
) -> Experiment:
    """The experiment with the recipe of its network and data: here, and nowhere else, names become values.

    configuration: a name that splits.named_configuration knows; or the file of an album (`albums.Album`).
    method: one of risks.METHODS; or `pretrained`, which trains nothing and draws from the model named so.
    overrides: any other field of TrainConfig, sampler, sampler_steps, features, guidance, and n_samples, which is 0 for
        as many as the configuration has test images. None stands for the recipe's.
    Distances are measured on the judge's features for digits and images of one's own, on Inception's for the others,
        where its weights are there.
    Raises UserError for unknown names and values out of range.
    """
    images = configuration if is_album(configuration) else ""
    data = album_configuration(Path(images)) if images else named_configuration(configuration)
    recipe = recipe_for(network, data, pretrained)
    given = {name: value for name, value in overrides.items() if value is not None}
    inception = not images and data.dataset not in DIGITS and weights_are_there()
    usual = {
        "sampler": recipe.sampler,
        "sampler_steps": recipe.sampler_steps,
        "n_samples": 2000,
        "features": "inception" if inception else "judge",
        "guidance": 1.0,
        "save_every": None,
    }
    sampling = {name: given.pop(name, value) for name, value in usual.items()}
    sampling["n_samples"] = sampling["n_samples"] or data.test
    if method == "pretrained":
        method, given = "unsupervised", {**given, "steps": 0}
    train = replace(TrainConfig(**recipe.train), **{"method": method, **given})
    return Experiment(
        Path(images).stem if images else configuration,
        data,
        network,
        recipe,
        train,
        **sampling,
        sample_seed=train.seed,
        pretrained=pretrained,
        images=images,
    )


def parse_settings(texts: list[str]) -> dict[str, Any]:
    """["ell_scale=100", "stream=two"] as fields of TrainConfig with their types.

    Raises UserError for an unknown field (the message lists the known) and for a value of another type.
    """
    known: dict[str, Any] = {f.name: type(f.default) for f in fields(TrainConfig)}
    settings = {}
    for text in texts:
        name, _, value = text.partition("=")
        if name not in known:
            raise UserError(f"unknown setting {text!r}; write NAME=VALUE with one of {', '.join(known)}")
        try:
            settings[name] = known[name](value)
        except ValueError:
            raise UserError(f"{name} takes a value of type {known[name].__name__}; got {value!r}") from None
    return settings


def settings_help() -> str:
    """A line for each field of TrainConfig: its name, its default, what it is."""
    lines = [f"{f.name} ({f.default}): {f.metadata['what']}" for f in fields(TrainConfig)]
    return "\n".join(["settings of --set, each with its default, which a network's recipe may replace:", *lines])
