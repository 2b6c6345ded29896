"""FID on the Inception network of the published scores (Heusel et al. 2017), through pytorch-fid."""

import contextlib
import hashlib
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..datasets import cache_folder
from ..errors import UserError
from ..files import write_arrays
from ..sources.weights import INCEPTION
from .metrics import Array, frechet_distance, frechet_floor

FEATURES = "inception-2048"
Progress = Callable[[int, int], None]
"""Called with (done, of), in images."""


def weights_are_there() -> bool:
    """Whether there is a file of the weights, right or wrong."""
    try:
        return INCEPTION.path.is_file()
    except UserError:
        return False


def require_weights() -> None:
    """Raises UserError when FID cannot be computed here: to be called before anything is trained for it."""
    INCEPTION.require("FID")


@torch.no_grad()
def inception_features(images: Tensor, batch_size: int = 50, progress: Progress = lambda done, of: None) -> Tensor:
    """images: (n, C, H, W) uint8, grey repeated over three channels. Returns (n, 2048) float32.

    pytorch-fid's network takes [0, 1] and resizes to 299 x 299 itself.
    Raises UserError when the weights are not there; nothing is downloaded and no other features are used instead.
    """
    require_weights()
    from pytorch_fid.inception import InceptionV3

    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = InceptionV3([3]).to(device).eval()
    features = torch.empty(len(images), 2048)
    for at in range(0, len(images), batch_size):
        part = images[at : at + batch_size]
        x = part.to(device).expand(-1, 3, -1, -1).float() / 255
        features[at : at + len(part)] = network(x)[0].flatten(1)
        progress(at + len(part), len(images))
    return features


def real_features(images: Tensor, progress: Progress = lambda done, of: None) -> Array:
    """`inception_features` of a set of real images, kept on disk under the sha256 of its content.

    The features themselves are kept, not their mean and covariance: for a few thousand images they are no larger,
    and the floor needs other subsets of them for every n. images: (n, C, H, W) uint8. Returns (n, 2048).
    """
    path = _statistics_file(images)
    try:
        with np.load(path) as arrays:
            return arrays["features"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        pass  # not there, or not readable: made anew
    features = inception_features(images, progress=progress).numpy()
    with contextlib.suppress(UserError):  # samples that are ready to be measured must not be lost for a full cache
        write_arrays(path, features=features)
    return features


def _statistics_file(images: Tensor) -> Path:
    digest = hashlib.sha256(f"{FEATURES} {tuple(images.shape)}".encode())
    digest.update(images.contiguous().numpy().data)
    return cache_folder() / "statistics" / f"{digest.hexdigest()}.npz"


def fid(samples: Tensor, real: Tensor, progress: Progress = lambda done, of: None) -> dict[str, Any]:
    """FID of samples against real images, and the real-versus-real floor at the same n, as fields of a row.

    samples, real: (n, C, H, W) and (m, C, H, W) uint8, n, m >= 2. Raises UserError when the weights are not there.
    """
    y = real_features(real, progress)
    x = inception_features(samples, progress=progress).numpy()
    return {
        "frechet_distance": round(frechet_distance(x, y), 5),
        "frechet_floor": round(frechet_floor(y, len(x)), 5),
        "frechet_features": FEATURES,
    }
