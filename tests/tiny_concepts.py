"""A conditional model small enough to edit in a test: four concepts, images of 8 x 8, weights at random."""

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from pudm_lite.conditional import Concepts, Conditional
from pudm_lite.diffusion import Process, noise_schedule
from pudm_lite.erasing.methods import concept_space
from pudm_lite.erasing.scenes import Scene
from pudm_lite.networks import LiteUNet

NAMES = ("a", "b", "c", "d")


def lite(seed: int = 0, size: int = 8) -> LiteUNet:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = LiteUNet(
            sample_size=size, block_channels=(8, 16, 16), stem_channels=4, time_dim=16, cross_attention_dim=8
        )
        return shaken(network)


def unet() -> UNet2DConditionModel:
    """Stable Diffusion's kind of network."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = UNet2DConditionModel(
            sample_size=8,
            in_channels=1,
            out_channels=1,
            block_out_channels=(4, 8),
            layers_per_block=1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=8,
            norm_num_groups=2,
            attention_head_dim=2,
        )
        return shaken(network)


def shaken(network: nn.Module) -> nn.Module:
    """No layer at zero, where some start: then everything has a gradient."""
    for parameter in network.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return network.eval()


def table(per_concept: int = 4, names: tuple[str, ...] = NAMES) -> Concepts:
    concepts = Concepts(names=names, per_concept=per_concept, dim=8)
    draws = torch.Generator().manual_seed(1)
    concepts.tokens.data = torch.randn(concepts.tokens.shape, generator=draws)
    return concepts


def conditional(
    network: nn.Module | None = None, prediction: str = "v_prediction", per_concept: int = 4
) -> Conditional:
    process = Process(noise_schedule("lite").float(), prediction)
    return Conditional(network or lite(), process, table(per_concept))


def real(n: int = 40) -> tuple[Tensor, Tensor]:
    """Images in [-1, 1], each class a stripe of its own, and their rows of the table."""
    labels = torch.arange(n) % len(NAMES)
    images = -torch.ones(n, 1, 8, 8)
    images[torch.arange(n), 0, 2 * labels] = 1
    return images, labels


def scene(
    model: Conditional | None = None, erased: tuple[str, ...] = ("a",), batch_size: int = 4, seed: int = 0
) -> Scene:
    model = model or conditional()
    return Scene(model, erased, batch_size, seed, *concept_space(model, erased), *real())


def nudged(found: Scene, by: float = 0.05) -> Scene:
    """With a student that differs from its teacher, as one does after some steps."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        for parameter in found.student.parameters():
            parameter.data += by * torch.randn_like(parameter)
    return found
