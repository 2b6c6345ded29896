"""The recipe that trains and samples each network, by name, and what becomes of it for a data set.

`lite` trains on two CPU cores in minutes; `paper` is for a GPU, with the training of Takahashi et al. (ICLR 2025).
No network is here, so that a name can be found wrong before Diffusers is loaded, which takes seconds.
"""

import math
from dataclasses import dataclass, field, replace
from typing import Any

from .errors import UserError
from .splits import DIGITS, Configuration


@dataclass(frozen=True)
class Recipe:
    """What belongs to a network: image size, channels, process, training defaults (fields of TrainConfig), sampler."""

    image_size: int
    channels: int
    schedule: str
    prediction: str
    sampler: str
    sampler_steps: int
    train: dict[str, Any] = field(default_factory=dict, hash=False)


RECIPES = {
    "lite": Recipe(
        28,
        1,
        "lite",
        "v_prediction",
        "ddpm",  # its noise heals what a short training left wrong; from 14 to 25 steps the distance hardly changes
        14,
        {
            "ell_scale": 28.0 * 28,
            "batch_size": 44,
            "stream": "two",  # of few labels most pooled batches hold none, which weakens S's part in the risk
            "s_per_batch": 4,
            "steps": 2200,
            "timesteps": "importance",
            "kernel_learning_rate": 0.014,
            "ema_power": 40.0,
        },
    ),
    # Section 5.3, on MNIST. The paper names neither the noise schedule nor what the network predicts: Diffusers'
    # defaults are taken.
    "paper": Recipe(
        32,
        3,
        "linear",
        "epsilon",
        "ddpm",
        1000,
        {
            "ell_scale": 3.0 * 32 * 32,
            "batch_size": 128,
            "steps": 23_438,  # 100 epochs of 30,000 images at batch 128
            "optimiser": "adamw",
            "learning_rate": 1e-4,
            "warmup_steps": 500,
            "timesteps": "uniform",
        },
    ),
}


PAPER_EPOCHS = {"from scratch": 100, "fine-tuning": 20}
LITE_FINE_TUNING = {"steps": 600, "warmup_steps": 30, "learning_rate": 1e-3, "kernel_learning_rate": 0.005}


def recipe_for(network: str, configuration: Configuration, pretrained: str = "") -> Recipe:
    """The recipe of a network for a configuration's images, from scratch or from a pre-trained model.

    ell_scale is C*H*W, so that l is Eq. 8 itself. `lite` takes MNIST as it is, 28 x 28 and grey, and flips photographs.
    `paper` is Section 5.3: batches of 128, 32 and 16 for images of up to 32, of up to 96 and of more pixels a side;
    100 epochs and DDPM's 1000 steps from scratch, 20 and DDIM's 50 for fine-tuning. An epoch is one pass over U and S;
    batches run across its end, so steps = epochs * (N_U + M) / batch, rounded up once.
    Raises UserError for an unknown network and a size that it cannot halve.
    """
    if network not in RECIPES:
        raise UserError(f"unknown network {network!r}; known: {', '.join(RECIPES)}")
    recipe, c = RECIPES[network], configuration
    if c.dataset != "mnist":
        recipe = replace(recipe, image_size=c.image_size, channels=c.channels)
    size = recipe.image_size
    if not pretrained:
        check_size(network, size)
    train = {**recipe.train, "ell_scale": float(recipe.channels * size * size)}
    if c.s == 0:  # a model of all classes, to be fine-tuned
        train["stream"] = "pooled"
    if network == "lite":
        if recipe.channels == 3 and c.dataset not in DIGITS:  # photographs; the paper names no flips
            train["flips"] = 1
        return replace(recipe, train={**train, **(LITE_FINE_TUNING if pretrained else {})})
    batch = 128 if size <= 32 else 32 if size <= 96 else 16
    epochs = PAPER_EPOCHS["fine-tuning" if pretrained else "from scratch"]
    images = c.u_normal + c.u_sensitive + c.s
    recipe = replace(recipe, train={**train, "batch_size": batch, "steps": math.ceil(epochs * images / batch)})
    return replace(recipe, sampler="ddim", sampler_steps=50) if pretrained else recipe


def check_size(network: str, size: int) -> None:
    """Raises UserError for an image size that the network cannot halve as often as it must."""
    halved = {"lite": 2, "paper": 8 if size < 64 else 32}[network]  # lite folds 2 x 2 pixels; its convolutions round up
    if size < 1 or size % halved:
        below = max(0, size) // halved * halved
        above = below + halved
        nearest = f"{below} and {above} work" if below else f"{above} works"
        raise UserError(f"the {network} network cannot halve images of {size} pixels as often as it must: {nearest}")
