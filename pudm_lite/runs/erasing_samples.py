"""A few samples of every edit of the erasing bench in one small file, for the course's slider and for a look."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import UserError
from ..files import read_arrays, read_rows, write_arrays
from ..measures.judge import mnist_judge
from .shipped import SHIPPED_DIGITS

EACH = 4
"""Images of each concept. Image i starts from the same noise in every edit of a seed."""
LEVELS = 16
"""Of grey that are kept, which takes a third of the room of 256: enough to look at, not to measure."""


@dataclass(frozen=True)
class Few:
    """What one edited model drew. images: (K, n, H, W) uint8, by the concept asked for. called: (K, n) uint8, what the
    judge sees in each, a row of its classes."""

    images: np.ndarray
    called: np.ndarray


def pack_samples(out: Path, to: Path, model: str = SHIPPED_DIGITS) -> None:
    """The first EACH images of each concept of every edit of `model` in out/rows.jsonl, those of its first seed. The
    judge looks before the levels of grey are thinned.

    Raises UserError where no run under `out` has kept its samples.
    """
    edits: dict[tuple[str, str], Path] = {}
    for row in sorted(read_rows(out / "rows.jsonl"), key=lambda row: row["seed"]):
        file = out / "runs" / row["run"] / "samples.npz"
        if row["model"] == model and file.exists():
            edits.setdefault((row["method"], row["concept"]), file)
    if not edits:
        raise UserError(f"no run under {out / 'runs'} has a samples.npz: make rows with `pudm erase-bench --out {out}`")
    found = [read_arrays(file, "images", "rows") for file in edits.values()]
    each = min(EACH, *(int(np.bincount(one["rows"]).min()) for one in found))
    concepts = range(int(found[0]["rows"].max()) + 1)
    images = np.stack([np.stack([one["images"][one["rows"] == k][:each, 0] for k in concepts]) for one in found])
    flat = images.reshape(-1, 1, *images.shape[-2:])
    write_arrays(
        to,
        method=np.array([method for method, _ in edits]),
        concept=np.array([concept for _, concept in edits]),
        images=images // (256 // LEVELS) * (255 // (LEVELS - 1)),
        called=_called(flat).reshape(images.shape[:3]),
    )


def _called(images: np.ndarray) -> np.ndarray:
    import torch

    return mnist_judge().look(torch.from_numpy(images)).classes.numpy().astype(np.uint8)


def read_samples(path: Path) -> dict[tuple[str, str], Few]:
    """What `pack_samples` wrote, by method and erased concept. Raises UserError for any other file."""
    arrays = read_arrays(path, "method", "concept", "images", "called")
    names = zip(arrays["method"].tolist(), arrays["concept"].tolist(), strict=True)
    return {name: Few(*pair) for name, *pair in zip(names, arrays["images"], arrays["called"], strict=True)}
