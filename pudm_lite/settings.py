"""Every setting of a training, one line each: what a row records, a run's name and the help follow from these."""

import math
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from .diffusion import TIMESTEPS
from .draws import STREAMS
from .errors import UserError
from .optimisers import OPTIMISERS
from .risks import METHODS

PRECISIONS = ("no", "bf16", "fp16")  # Accelerate's names
GROUP_SIZES = ("realised", "expected")


def setting(default: Any, what: str, compared: bool = True) -> Any:
    """A field of `TrainConfig`. From these alone follow what a row records, a run's name and digits, and the help.

    what: a few words for the help. compared: whether runs that differ in it may not be averaged or compared.
    """
    return field(default=default, metadata={"what": what, "compared": compared})


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a run besides its network, process and data."""

    method: str = setting("nnpu", "one of risks.METHODS", compared=False)
    beta: float = setting(0.1, "assumed sensitive share of U", compared=False)
    seed: int = setting(0, "of split, initialisation and draws", compared=False)
    steps: int = setting(1000, "training steps")
    batch_size: int = setting(64, "images of U and S together")
    stream: str = setting("pooled", "draw batches from U and S together, or `two`: from each its share")
    s_per_batch: int = setting(6, "images of S in a batch of two streams")
    labelled: int = setting(0, "how many images of S are used; 0: all", compared=False)
    ell_scale: float = setting(784.0, "times the mean squared error; C*H*W gives Eq. 8")
    flips: int = setting(0, "1: each image is mirrored left to right, or not, at even odds each time it is drawn")
    timesteps: str = setting("stratified", "how t is drawn: `uniform`, `stratified`, or by `importance`")
    group_sizes: str = setting("realised", "what a group's sum is divided by in a risk, or `expected`: without bias")
    optimiser: str = setting("muon", "or `adamw`")
    learning_rate: float = setting(3e-3, "AdamW's")
    kernel_learning_rate: float = setting(0.02, "Muon's")
    warmup_steps: int = setting(100, "over which learning rates rise from 0")
    ema_power: float = setting(16.0, "the average looks back over about steps / ema_power; inf: no average")
    grad_clip: float = setting(math.inf, "largest norm of the whole gradient")
    pieces: int = setting(1, "a batch is accumulated in so many pieces", compared=False)
    conditional: int = setting(0, "1: the network is told each image's class, Eq. 20")
    label_drop: float = setting(0.1, "share of images whose class a conditional network is not told")
    mixed_precision: str = setting("no", "or `bf16`, or on a GPU `fp16`")
    gradient_checkpointing: int = setting(
        0, "1: the backward pass computes activations again instead of keeping them", compared=False
    )
    compile: int = setting(0, "1: torch.compile the network, which pays in long runs on a large GPU", compared=False)

    def __post_init__(self) -> None:
        for name, known in (
            ("method", METHODS),
            ("stream", STREAMS),
            ("timesteps", (*TIMESTEPS, "importance")),
            ("group_sizes", GROUP_SIZES),
            ("flips", (0, 1)),
            ("optimiser", OPTIMISERS),
            ("mixed_precision", PRECISIONS),
            ("conditional", (0, 1)),
            ("gradient_checkpointing", (0, 1)),
            ("compile", (0, 1)),
        ):
            if getattr(self, name) not in known:
                raise UserError(f"unknown {name} {getattr(self, name)!r}; known: {', '.join(map(str, known))}")
        if not 0 < self.beta < 1:
            raise UserError(f"beta must lie inside (0, 1), the sensitive share of the unlabeled data; got {self.beta}")
        if self.stream == "two" and not 0 < self.s_per_batch < self.batch_size:
            raise UserError(
                f"s_per_batch must lie between 0 and batch_size ({self.batch_size}); got {self.s_per_batch}"
            )
        if not 0 <= self.label_drop < 1:
            raise UserError(f"label_drop must lie in [0, 1); got {self.label_drop}")
        if self.labelled < 0:
            raise UserError(f"labelled must be 0 (all) or more; got {self.labelled}")
        if self.steps < 0:
            raise UserError(f"steps must be 0 (only draw from what is trained already) or more; got {self.steps}")
        if self.warmup_steps < 0:
            raise UserError(f"warmup_steps must be 0 or more; got {self.warmup_steps}")
        sizes = ("batch_size", "ell_scale", "learning_rate", "kernel_learning_rate", "ema_power", "grad_clip", "pieces")
        for name in sizes:
            if not getattr(self, name) > 0:
                raise UserError(f"{name} must be larger than 0; got {getattr(self, name)}")
        if self.pieces > self.batch_size:
            raise UserError(f"a batch of {self.batch_size} cannot be cut into {self.pieces} pieces")

    @property
    def warmup(self) -> int:
        """Steps of warm-up: those asked for, or half of a run that is too short for them."""
        return min(self.warmup_steps, self.steps // 2)

    def as_row(self) -> dict[str, Any]:
        """Every setting as a row keeps it: infinite is None, as JSON has no infinity; warm-up as it was done."""
        settings = {**asdict(self), "warmup_steps": self.warmup}
        return {name: None if value == math.inf else value for name, value in settings.items()}


COMPARED = tuple(f.name for f in fields(TrainConfig) if f.metadata["compared"])
"""The settings in which runs must agree before they are averaged or compared."""
