"""Stable Diffusion opened: only known classes, no pickles, no code; prompts as tokens, images as latents."""

import json
import shutil

import pytest
import torch
from tiny_pipelines import saved, tiny_pipeline

from pudm_lite import stable
from pudm_lite.datasets import to_model
from pudm_lite.errors import UserError
from pudm_lite.stable import encode, image_side, open_stable, prompt_error, stable_process, to_latents, token_ids


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("stable"))


@pytest.fixture(scope="module")
def pipeline(folder):
    return open_stable(str(folder))


@pytest.fixture
def copy(folder, tmp_path):
    """A copy that may be spoilt, and how to change one of its JSON files."""
    shutil.copytree(folder, tmp_path / "copy")

    def change(file="model_index.json", **values):
        path = tmp_path / "copy" / file
        path.write_text(json.dumps(json.loads(path.read_text()) | values))
        return str(tmp_path / "copy")

    return change


def test_a_pipeline_opens_and_draws_as_it_does_through_diffusers(folder, pipeline):
    from diffusers import StableDiffusionPipeline

    theirs = StableDiffusionPipeline.from_pretrained(folder)

    def drawn(made):
        return made("a dog", num_inference_steps=2, output_type="np", generator=torch.Generator().manual_seed(0)).images

    assert (drawn(pipeline) == drawn(theirs)).all()
    assert not any(p.requires_grad for part in (pipeline.vae, pipeline.text_encoder) for p in part.parameters())
    assert all(p.requires_grad for p in pipeline.unet.parameters())
    process = stable_process(pipeline)
    assert process.prediction == "epsilon"
    torch.testing.assert_close(process.alpha_bar, theirs.scheduler.alphas_cumprod)


def test_prompts_are_what_the_text_encoder_says(pipeline):
    prompts = ["a photo of a dog", "church", ""]
    found = encode(pipeline, prompts)
    assert found.shape == (3, 77, 8)
    ids = pipeline.tokenizer(prompts, padding="max_length", max_length=77, return_tensors="pt").input_ids
    with torch.no_grad():
        torch.testing.assert_close(found, pipeline.text_encoder(ids)[0])


def test_many_prompts_are_encoded_in_parts(pipeline, monkeypatch):
    prompts = ["dog", "cat", "tree", "river", ""]
    whole = encode(pipeline, prompts)
    monkeypatch.setattr(stable, "PROMPTS_AT_ONCE", 2)
    torch.testing.assert_close(encode(pipeline, prompts), whole)


def test_what_the_tokenizer_leaves_of_a_prompt(pipeline):
    assert len(token_ids(pipeline, "a dog")) == 2
    assert token_ids(pipeline, "DOG") == token_ids(pipeline, "dog")
    assert prompt_error(pipeline, "a dog") is None
    for nothing in ("", "  ", "中国"):  # what is no letter, the tiny tokenizer does not know
        assert prompt_error(pipeline, nothing) == f"of {nothing!r} the tokenizer leaves nothing"
    assert prompt_error(pipeline, "dog " * 75) is None
    assert "has 76 tokens, and the model reads 75" in prompt_error(pipeline, "dog " * 76)


def test_latents_are_the_encoders_mean_scaled(pipeline):
    images = torch.randint(0, 256, (5, 3, 64, 64), dtype=torch.uint8)
    assert image_side(pipeline) == 64
    found = torch.stack(list(to_latents(pipeline, iter(images))))
    with torch.no_grad():
        moments = pipeline.vae.quant_conv(pipeline.vae.encoder(to_model(images)))
    torch.testing.assert_close(found, 0.18215 * moments[:, :4], rtol=1e-4, atol=1e-5)


def test_the_shift_of_an_autoencoder_is_taken_off_its_latents(folder):
    made = open_stable(str(folder))
    images = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    (plain,) = to_latents(made, iter(images))
    made.vae.register_to_config(shift_factor=0.5)
    (shifted,) = to_latents(made, iter(images))
    torch.testing.assert_close(shifted, plain - 0.5 * 0.18215)


def test_a_v_prediction_pipeline_says_so(tmp_path):
    assert stable_process(open_stable(str(saved(tmp_path, prediction="v_prediction")))).prediction == "v_prediction"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"_class_name": "DDPMPipeline"}, "is a 'DDPMPipeline', which is not opened here"),
        ({"_class_name": ["evil", "StableDiffusionPipeline"]}, "is a ['evil', 'StableDiffusionPipeline']"),
        ({"unet": ["evil", "UNet2DConditionModel"]}, "has ['evil', 'UNet2DConditionModel'] as its unet"),
        ({"text_encoder": ["evil", "CLIPTextModel"]}, "as its text_encoder, which is not opened"),
        ({"tokenizer": ["transformers", "AutoTokenizer"]}, "as its tokenizer, which is not opened"),
        ({"scheduler": ["evil", "DDIMScheduler"]}, "as its scheduler, which is not opened"),
        ({"safety_checker": ["evil", "Checker"]}, "as its safety_checker, which is not opened"),
        ({"extra": ["evil", "Part"]}, "as its extra, which is not opened"),
        ({"vae": [None, None]}, "has no vae"),
    ],
)
def test_other_pipelines_and_code_beside_them_are_refused_unrun(copy, values, said):
    name = copy(**values)
    for path in (f"{name}/evil.py", f"{name}/unet/evil.py"):
        with open(path, "w") as file:
            file.write("raise SystemExit('code of the pipeline ran')")
    with pytest.raises(UserError) as caught:
        open_stable(name)
    assert said in str(caught.value)
    assert "choose a StableDiffusionPipeline" in str(caught.value)


def test_parts_that_are_not_used_are_not_opened(copy):
    """They are named in the index, and need not even be there."""
    name = copy(
        safety_checker=["stable_diffusion", "StableDiffusionSafetyChecker"],
        feature_extractor=["transformers", "CLIPImageProcessor"],
    )
    assert open_stable(name).safety_checker is None


@pytest.mark.parametrize("part", stable.WEIGHTS)
def test_pickles_are_not_opened(copy, part):
    from pathlib import Path

    name = copy()
    (weights,) = (Path(name) / part).glob("*.safetensors")
    weights.unlink()
    weights.with_suffix(".bin").write_bytes(b"cos\nabort\n(tR.")
    with pytest.raises(UserError, match=f"has the weights of its {part} as a pickle only, which may run code"):
        open_stable(name)


@pytest.mark.parametrize(
    ("file", "values", "said"),
    [
        ("scheduler/scheduler_config.json", {"prediction_type": "flow"}, "its DDIMScheduler predicts flow"),
        ("scheduler/scheduler_config.json", {"beta_start": 0.0, "beta_end": 0.0}, "has no alpha_bar inside"),
        ("vae/config.json", {"latent_channels": "four"}, "a damaged folder"),
        ("unet/config.json", {"sample_size": 32, "num_class_embeds": 3}, "cannot be trained here, its U-Net takes a"),
    ],
)
def test_what_cannot_be_trained(copy, file, values, said):
    with pytest.raises(UserError) as caught:
        open_stable(copy(file, **values))
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("part", "values", "said"),
    [
        ("unet", {"out_channels": 8}, "its U-Net takes 4 channels and gives 8"),
        ("unet", {"class_embed_type": "timestep"}, "its U-Net takes a class beside the prompt"),
        ("unet", {"addition_embed_type": "text"}, "its U-Net takes more than a prompt"),
        ("unet", {"encoder_hid_dim_type": "text_proj"}, "its U-Net takes more than a prompt"),
        ("unet", {"cross_attention_dim": 16}, "its U-Net and its text encoder have tokens of other lengths"),
        ("vae", {"latent_channels": 8}, "its U-Net and its autoencoder have other channels"),
    ],
)
def test_parts_that_do_not_belong_together(folder, part, values, said):
    made = open_stable(str(folder))
    getattr(made, part).register_to_config(**values)
    with pytest.raises(UserError, match=f"it cannot be trained here, {said}"):
        stable._check_network("it", made)


def test_a_network_that_is_told_no_prompt(tmp_path):
    with pytest.raises(UserError, match="has no cross-attention, so it cannot be told a prompt"):
        open_stable(str(saved(tmp_path, cross=False)))


def test_no_folder_and_no_transformers(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="cannot open"):
        open_stable(str(tmp_path))
    with pytest.raises(UserError, match="is no name that safetensors opens"):
        open_stable("Jos\udc82")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'pudm_lite\[sd\]'"):
        open_stable(str(tmp_path))


def test_the_real_tokenizer_reads_what_the_tiny_one_stands_for(tmp_path):
    """CLIP's own vocabulary comes with open_clip; above a tiny one shows the same without it."""
    open_clip = pytest.importorskip("open_clip")
    pytest.importorskip("transformers")
    from transformers import CLIPTokenizer

    theirs = open_clip.tokenizer.SimpleTokenizer()
    (tmp_path / "vocab.json").write_text(json.dumps(theirs.encoder | clip_marks(theirs)))
    merges = sorted(theirs.bpe_ranks, key=theirs.bpe_ranks.get)
    (tmp_path / "merges.txt").write_text("#version: 0.2\n" + "\n".join(map(" ".join, merges)) + "\n")
    made = tiny_pipeline(tmp_path / "tiny")
    made.tokenizer = CLIPTokenizer(str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt"), model_max_length=77)
    for prompt in ("garbage truck", "a photo of the Church", "naïve café"):
        assert token_ids(made, prompt) == theirs.encode(prompt)
    assert "leaves nothing" in prompt_error(made, " \n ")
    assert prompt_error(made, "中国") is None


def clip_marks(theirs):
    return {"<|startoftext|>": theirs.sot_token_id, "<|endoftext|>": theirs.eot_token_id}
