"""What erasing from Stable Diffusion 1.4, or training it, would take: memory and operations, counted without it.

    python -m pudm_lite.runs.stable_costs

prints the table of the README. Nothing of it was measured on a GPU.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from ..erasing.layers import only
from .memory import Memory, erasing_evaluations, erasing_memory, flops, training_memory

SHAPE, TOLD = (4, 64, 64), (77, 768)
"""Of a latent, and of a prompt's tokens."""
ASSUMED_TFLOPS = 10.0
"""10^12 operations a second: an assumption, about half of what the data sheet of an A100 says of float32."""
STEPS = 1000
NEAREST = 100
"""So many concepts an exact search looks at in each step, on one latent, by the student and by the teacher."""
GIB = 2**30


def stable_diffusion() -> dict[str, nn.Module]:
    """The networks of Stable Diffusion 1.4 on the `meta` device: shapes without weights. Needs Transformers."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    text = CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12)
    with torch.device("meta"):
        return {
            "unet": UNet2DConditionModel(sample_size=64, cross_attention_dim=768),
            "text_encoder": CLIPTextModel(text),
            "vae": AutoencoderKL(
                down_block_types=("DownEncoderBlock2D",) * 4,
                up_block_types=("UpDecoderBlock2D",) * 4,
                block_out_channels=(128, 256, 512, 512),
                layers_per_block=2,
            ),
        }


@dataclass(frozen=True)
class Task:
    """layers: a filter of erasing.layers. batch: latents in a step. evaluations: of the U-Net in a step, one with
    gradients counted as three. estimates: with gradients that a step of erasing keeps; 0: `pudm train-sd`."""

    name: str
    layers: str
    batch: int
    evaluations: int
    estimates: int = 0
    precision: str = "no"
    checkpointing: bool = False


TASKS = (
    Task("esd-x-strict", "attn2-kv", 1, erasing_evaluations(), 1),
    Task("esd-x", "attn2", 1, erasing_evaluations(), 1),
    Task("esd-u", "not-attn2", 1, erasing_evaluations(), 1),
    Task("ap-gumbel", "attn2", 1, erasing_evaluations(search=2 * 3), 2),
    Task(f"ap-exact, --nearest {NEAREST}", "attn2", 1, erasing_evaluations(search=2 * NEAREST), 2),
    Task("train-sd, attn2", "attn2", 16, 3 * 16),
    Task("train-sd", "all", 16, 3 * 16),
    Task("train-sd, fp16 and checkpointing", "all", 16, 4 * 16, precision="fp16", checkpointing=True),
)


@dataclass(frozen=True)
class Cost:
    """trained: parameters. others: bytes of the text encoder and the autoencoder. tflop: of a step."""

    task: Task
    trained: int
    memory: Memory
    others: int
    tflop: float

    @property
    def gib(self) -> float:
        return (self.memory.total + self.others) / GIB

    @property
    def minutes(self) -> float:
        """Of STEPS steps at the assumed speed."""
        return STEPS * self.tflop / ASSUMED_TFLOPS / 60


def costs(
    networks: dict[str, nn.Module],
    tasks: tuple[Task, ...] = TASKS,
    shape: tuple[int, int, int] = SHAPE,
    told: tuple[int, int] = TOLD,
) -> Iterator[Cost]:
    """What each task takes with these networks, in float32 unless it says otherwise. Their data are never looked at."""
    unet = networks["unet"]
    others = 4 * sum(p.numel() for name in ("text_encoder", "vae") for p in networks[name].parameters())
    each = flops(unet, shape, told) / 1e12
    for task in tasks:
        trained = sum(p.numel() for p in only(unet, task.layers))
        if task.estimates:
            memory = erasing_memory(unet, shape, task.batch, told, task.estimates)
        else:
            memory = training_memory(unet, shape, task.batch, task.precision, task.checkpointing, told)
        yield Cost(task, trained, memory, others, task.evaluations * each)


def table(found: list[Cost]) -> str:
    """The costs in Markdown."""
    heads = ("trained, M", "held, GiB", "activations, GiB", "together, GiB", "evaluations a step", "TFLOP a step")
    lines = ["| | " + " | ".join((*heads, "1,000 steps")) + " |", "|---|" + "---:|" * (len(heads) + 1)]
    for cost in found:
        m = cost.memory
        held = (m.total - m.activations + cost.others) / GIB
        minutes = f"{cost.minutes:.0f} min" if cost.minutes < 100 else f"{cost.minutes / 60:.1f} h"
        numbers = [f"{one:.1f}" for one in (cost.trained / 1e6, held, m.activations / GIB, cost.gib)]
        cells = [f"`{cost.task.name}`", *numbers, str(cost.task.evaluations), f"{cost.tflop:.1f}", minutes]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    print(table(list(costs(stable_diffusion()))))


if __name__ == "__main__":
    main()
