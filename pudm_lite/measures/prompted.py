"""How well pictures fit their prompts (CLIP score), and how far two models' pictures of a prompt lie apart (LPIPS).

Both through torchmetrics, with networks that no package ships: give the path where theirs lie. Nothing is downloaded.
"""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import UserError

SD = "pip install 'pudm_lite[sd]'"


def clip_scores(images: Tensor, prompts: Sequence[str], model: Path) -> np.ndarray:
    """(n,): 100 times the cosine of image and prompt in the space of CLIP (Hessel et al. 2021), or 0 if that is less.

    images: (n, 3, H, W) uint8. prompts: n. model: the folder of a CLIPModel with its processor, as `save_pretrained`
    of Transformers writes it, such as clip-vit-large-patch14's. Raises UserError where it is none.
    """
    _require("torchmetrics", "transformers")
    from torchmetrics.multimodal.clip_score import CLIPScore

    metric = CLIPScore(lambda: _clip(model))
    with torch.no_grad():
        scores = [metric.forward(image, prompt) for image, prompt in zip(images, prompts, strict=True)]
    return np.array([float(score) for score in scores])


def lpips(a: Tensor, b: Tensor, backbone: Path, side: int | None = None) -> np.ndarray:
    """The distance LPIPS (Zhang et al. 2018) of pairs of images on AlexNet, with the published heads v0.1: (n,).

    a, b: (n, 3, H, W) uint8. side: the pixels a side that they are resized to before, as some tables do (64); None for
    their own. backbone: torchvision's AlexNet weights for ImageNet, alexnet-owt-7be5be79.pth. Raises UserError where
    the file holds none.
    """
    network = _lpips_network(backbone)
    with torch.no_grad():
        pairs = zip(a.split(16), b.split(16), strict=True)
        return torch.cat([network(_shown(x, side), _shown(y, side)).flatten() for x, y in pairs]).numpy()


class _Features(nn.Module):
    """A CLIPModel whose features are tensors, as torchmetrics takes them: Transformers 5 gives more beside them."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model, self.config = model, model.config

    def get_image_features(self, *inputs: Tensor) -> Tensor:
        return _tensor(self.model.get_image_features(*inputs))

    def get_text_features(self, *inputs: Tensor) -> Tensor:
        return _tensor(self.model.get_text_features(*inputs))


def _tensor(features: Any) -> Tensor:
    return features if isinstance(features, Tensor) else features.pooler_output


def _clip(folder: Path) -> tuple[Any, Any]:
    from transformers import CLIPModel, CLIPProcessor

    try:
        model = CLIPModel.from_pretrained(folder, use_safetensors=True, local_files_only=True)
        return _Features(model.eval()), CLIPProcessor.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, TypeError, KeyError) as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0].rstrip(".:")
        raise UserError(
            f"{folder} holds no CLIP model with its processor ({reason}): name a folder with one, in safetensors"
        ) from None


def _lpips_network(backbone: Path) -> nn.Module:
    """torchmetrics' own, whose public class would download the backbone whatever is given."""
    _require("torchmetrics")
    from torchmetrics.functional.image.lpips import _LPIPS
    from torchvision.models import alexnet

    network = _LPIPS(net="alex", pnet_rand=True)
    features = alexnet().features
    try:
        weights = torch.load(backbone, map_location="cpu", weights_only=True)
        features.load_state_dict(
            {name.removeprefix("features."): w for name, w in weights.items() if name.startswith("features.")}
        )
    except Exception as error:  # what torch raises depends on what is wrong with the file
        reason = f"{type(error).__name__}: {error}".splitlines()[0].rstrip(".:")
        raise UserError(
            f"{backbone} holds no weights of torchvision's AlexNet ({reason}): name alexnet-owt-7be5be79.pth"
        ) from None
    for part in network.net.children():
        for at, module in part.named_children():
            module.load_state_dict(features[int(at)].state_dict())
    return network


def _shown(images: Tensor, side: int | None) -> Tensor:
    """In [-1, 1], as the network takes them."""
    x = images.float() / 127.5 - 1
    return x if side is None else nn.functional.interpolate(x, (side, side), mode="bilinear", antialias=True)


def _require(*modules: str) -> None:
    if missing := [module for module in modules if find_spec(module) is None]:
        raise UserError(f"this measure needs {missing[0]}: {SD}")
