"""An edit of a pipeline's network as a small file: the tensors that it changes, and what it was made of.

A file fits the network that it was made from, in whatever precision that is opened, and no other.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .errors import UserError
from .files import write_whole

PRECISIONS = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
LOOKED_AT = 64
"""So many numbers of each tensor are looked at to tell one network from another."""


def fingerprint(network: nn.Module, dtype: torch.dtype) -> str:
    """A digest of every tensor's name and shape and of its first numbers, rounded to a precision."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        some = tensor.detach().flatten()[:LOOKED_AT].to(dtype)
        digest.update(some.float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Edit:
    """changed: tensors by their names in the network. about: pipeline, concept, method, settings."""

    changed: dict[str, Tensor]
    about: dict[str, Any]
    fits: dict[str, str]


def save_edit(path: Path, before: nn.Module, changed: dict[str, Tensor], about: dict[str, Any]) -> None:
    """Write what `apply_edit` reads. before: the network that the edit was made from."""
    from safetensors.torch import save_file

    fits = {name: fingerprint(before, dtype) for name, dtype in PRECISIONS.items()}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in changed.items()}
    metadata = {"edit": json.dumps({"about": about, "fits": fits})}
    write_whole(path, lambda temporary: save_file(tensors, temporary, metadata))


def read_edit(path: Path) -> Edit:
    """What `save_edit` wrote. Raises UserError for any other file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            kept = json.loads(file.metadata()["edit"])
            names = list(file.keys())
            return Edit({name: file.get_tensor(name) for name in names}, kept["about"], kept["fits"])
    except (OSError, SafetensorError, TypeError, KeyError, ValueError):
        raise UserError(f"{path} is no edit: name a file that `pudm erase` or `pudm train-sd` wrote") from None


@torch.no_grad()
def apply_edit(pipeline: Any, path: str | Path) -> dict[str, Any]:
    """Put an edit into a pipeline's U-Net, in its precision; returns what the file says of itself.

    Raises UserError for a file that is no edit, or one of another network; then nothing is changed.
    """
    edit, network = read_edit(Path(path)), pipeline.unet
    own = network.state_dict()
    precision = str(next(network.parameters()).dtype).removeprefix("torch.")
    fits = edit.fits.get(precision) == fingerprint(network, PRECISIONS.get(precision, torch.float32))
    shapes = all(name in own and own[name].shape == tensor.shape for name, tensor in edit.changed.items())
    if not fits or not shapes:
        raise UserError(
            f"{path} was made from another network, {edit.about.get('pipeline')!r} as it was then: "
            "open that one anew, without another edit in it, and apply the file to it"
        )
    for name, tensor in edit.changed.items():
        own[name].copy_(tensor)
    return edit.about
