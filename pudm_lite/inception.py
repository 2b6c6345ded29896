"""FID on the Inception network of the published scores (Heusel et al. 2017), through pytorch-fid."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .errors import UserError
from .metrics import frechet_distance, frechet_floor

WEIGHTS = "pt_inception-2015-12-05-6726825d.pth"


def weights_file() -> Path:
    """Where pytorch-fid looks for its weights: torch hub's checkpoint folder."""
    return Path(torch.hub.get_dir()) / "checkpoints" / WEIGHTS


@torch.no_grad()
def inception_features(images: Tensor, batch_size: int = 50) -> Tensor:
    """images: (n, C, H, W) uint8, grey repeated over three channels. Returns (n, 2048) float32.

    Raises UserError when the weights are not there; nothing is downloaded and no other features are used instead.
    """
    if not weights_file().is_file():
        raise UserError(
            f"FID needs the Inception weights {WEIGHTS} (91 MB, from the releases of pytorch-fid) "
            f"in {weights_file().parent}"
        )
    from pytorch_fid.inception import InceptionV3

    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = InceptionV3([3]).to(device).eval()
    parts = []
    for part in images.split(batch_size):
        x = part.expand(-1, 3, -1, -1).to(device).float() / 255
        parts.append(network(x)[0].flatten(1).cpu())
    return torch.cat(parts)


def fid(samples: Tensor, real: Tensor) -> dict[str, Any]:
    """FID of samples against real images, and the real-versus-real floor at the same n. Both (n, C, H, W) uint8."""
    x, y = inception_features(samples).numpy(), inception_features(real).numpy()
    return {
        "frechet_distance": round(frechet_distance(x, y), 5),
        "frechet_floor": round(frechet_floor(y, len(x)), 5),
        "frechet_features": "inception-2048",
    }
