"""A Stable Diffusion pipeline so small that it is made, trained, saved and drawn from in seconds: random weights.

Every class and every parameter's name is that of the real one; what it draws is noise.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline

WORDS = ("church", "tower", "bell", "dog", "cat", "tree", "river", "bread", "a", "photo", "of", "garbage", "truck")
"""What its tokenizer knows as one token each; other words are letters, and other signs nothing at all."""


def tokenizer(folder: Path) -> Any:
    """CLIP's tokenizer over a vocabulary of our own, written to the folder: the words above, and letters."""
    from transformers import CLIPTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    letters = "abcdefghijklmnopqrstuvwxyz"
    merges, known = [], [*letters, *(letter + "</w>" for letter in letters)]
    for word in WORDS:  # from the left, letter by letter; the last letter carries the end of the word
        parts = [*word[:-1], word[-1] + "</w>"]
        while len(parts) > 1:
            merges.append(f"{parts[0]} {parts[1]}")
            parts[:2] = ["".join(parts[:2])]
            known.append(parts[0])
    known = [*dict.fromkeys(known), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: row for row, word in enumerate(known)}))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(dict.fromkeys(merges)) + "\n")
    return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=77)


def tiny_pipeline(
    folder: Path, cross: bool = True, prediction: str = "epsilon", heed: float = 1.0
) -> "StableDiffusionPipeline":
    """A StableDiffusionPipeline of 32 x 32 latents in 4 channels. folder: where its vocabulary is written.

    cross: whether its U-Net attends to the prompt. prediction: what it predicts. heed: times the values and the output
    of that attention, as a random network hardly heeds a prompt.
    """
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    words = tokenizer(folder)
    kind = "CrossAttn" if cross else ""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        unet = UNet2DConditionModel(
            sample_size=32,
            block_out_channels=(4, 8),
            layers_per_block=1,
            down_block_types=("DownBlock2D", f"{kind}DownBlock2D"),
            mid_block_type="UNetMidBlock2DCrossAttn" if cross else "UNetMidBlock2D",
            up_block_types=(f"{kind}UpBlock2D", "UpBlock2D"),
            cross_attention_dim=8,
            attention_head_dim=2,
            norm_num_groups=2,
        )
        vae = AutoencoderKL(
            block_out_channels=[4, 8],
            down_block_types=["DownEncoderBlock2D"] * 2,
            up_block_types=["UpDecoderBlock2D"] * 2,
            latent_channels=4,
            norm_num_groups=2,
        )
        text = CLIPTextModel(
            CLIPTextConfig(
                hidden_size=8,
                intermediate_size=16,
                num_attention_heads=2,
                num_hidden_layers=2,
                vocab_size=1000,
                bos_token_id=words.bos_token_id,
                eos_token_id=words.eos_token_id,
                pad_token_id=words.pad_token_id,
            )
        )
    with torch.no_grad():
        for name, parameter in unet.named_parameters():
            if "attn2.to_v" in name or "attn2.to_out.0.weight" in name:
                parameter.mul_(heed)
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type=prediction,
    )
    return StableDiffusionPipeline(
        vae, text.eval(), words, unet.eval(), scheduler, None, None, requires_safety_checker=False
    )


def saved(folder: Path, **settings: Any) -> Path:
    """The same, saved as `from_pretrained` opens it. Returns the folder's own `pipeline`."""
    tiny_pipeline(folder / "words", **settings).save_pretrained(folder / "pipeline")
    return folder / "pipeline"
