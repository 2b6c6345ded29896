"""ResNet-34 (He et al. 2016) as the body of a judge: torchvision's network with another last layer."""

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from ..sources.weights import RESNET34

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's pixels in [0, 1], red, green, blue: what torchvision's weights were trained with."""


class ResNet34(nn.Module):
    """Images are resized to size x size first: the ImageNet weights know things at 224 pixels, not at 32."""

    title = "ResNet-34"

    def __init__(self, classes: int, size: int) -> None:
        from torchvision.models import resnet34

        super().__init__()
        self.settings = {"classes": classes, "size": size}
        self.body = resnet34()
        self.body.fc = nn.Identity()
        self.head = nn.Linear(512, classes)
        self.register_buffer("mean", torch.tensor(MEAN).reshape(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).reshape(3, 1, 1), persistent=False)

    def load_imagenet(self) -> None:
        """Start from torchvision's IMAGENET1K_V1 weights, all but the last layer.

        Raises UserError when their file is not there; nothing is downloaded.
        """
        from torchvision.models import ResNet34_Weights

        RESNET34.require("a judge that starts from ImageNet", otherwise=", or train it --from-scratch")
        weights = ResNet34_Weights.IMAGENET1K_V1.get_state_dict(progress=False)
        self.body.load_state_dict({name: value for name, value in weights.items() if not name.startswith("fc.")})

    def prepare(self, images: Tensor) -> Tensor:
        """images: (n, 1 or 3, H, W) uint8. Returns (n, 3, size, size), about zero mean and unit variance."""
        size = self.settings["size"]
        x = interpolate(images.float() / 255, (size, size), mode="bilinear", antialias=True)
        return (x - self.mean) / self.std

    def features(self, x: Tensor) -> Tensor:
        """x: as `prepare` returns it. Returns (n, 512), >= 0: the mean over space of the last block."""
        return self.body(x)

    def forward(self, x: Tensor) -> Tensor:
        """x: as `prepare` returns it. Returns logits (n, classes)."""
        return self.head(self.features(x))
