"""Networks: shapes and recipes, the round trip through Diffusers' format, and models that others trained."""

import json
import pathlib
import shutil
from dataclasses import replace

import huggingface_hub
import pytest
import torch
from diffusers import (
    DDIMPipeline,
    DDIMScheduler,
    DDPMPipeline,
    DDPMScheduler,
    DiffusionPipeline,
    EDMDPMSolverMultistepScheduler,
    LDMPipeline,
    UNet2DConditionModel,
    UNet2DModel,
    VQModel,
)

from pudm_lite.datasets import to_pixels
from pudm_lite.errors import UserError
from pudm_lite.networks import (
    LiteUNet,
    image_shape,
    load_pipeline,
    make_network,
    make_process,
    make_scheduler,
    open_network,
    save_pipeline,
    timestep_embedding,
)
from pudm_lite.recipes import RECIPES, recipe_for
from pudm_lite.sampling import image_generators, sample
from pudm_lite.settings import TrainConfig
from pudm_lite.splits import CONFIGURATIONS, TABLE_1, Split
from pudm_lite.training import Trainer


@pytest.fixture(scope="module")
def lite() -> LiteUNet:
    torch.manual_seed(0)
    network = make_network("lite")
    for p in network.parameters():  # the output starts at zero: give it something to say
        torch.nn.init.normal_(p, std=0.05)
    return network.eval()


@pytest.mark.parametrize("name", RECIPES)
@torch.no_grad()
def test_output_is_like_its_input_and_depends_on_the_step(name):
    torch.manual_seed(0)
    network, recipe = make_network(name).eval(), RECIPES[name]
    for p in network.parameters():
        torch.nn.init.normal_(p, std=0.05)
    assert image_shape(network) == (recipe.channels, recipe.image_size, recipe.image_size)
    x = torch.randn(2, *image_shape(network))
    early, late = (network(x, torch.full((2,), t)).sample for t in (10, 900))
    assert early.shape == x.shape
    assert not torch.allclose(early, late)


def test_lite_starts_by_predicting_zero():
    """Its last convolution starts at zero, so training starts from a known loss."""
    assert make_network("lite")(torch.randn(2, 1, 28, 28), 5).sample.abs().max() == 0


@torch.no_grad()
def test_pipeline_round_trip(lite, tmp_path):
    save_pipeline(lite, make_process(RECIPES["lite"]), tmp_path / "pipeline")
    network, process = load_pipeline(tmp_path / "pipeline")
    x, t = torch.randn(3, 1, 28, 28), torch.tensor([0, 500, 999])
    torch.testing.assert_close(network(x, t).sample, lite(x, t).sample)
    torch.testing.assert_close(process.alpha_bar, make_process(RECIPES["lite"]).alpha_bar, atol=0, rtol=1e-6)
    assert process.prediction == "v_prediction"


def test_diffusers_own_pipeline_draws_the_pictures_that_our_sampler_draws(lite, tmp_path):
    save_pipeline(lite, make_process(RECIPES["lite"]), tmp_path / "pipeline")
    pipeline = DDIMPipeline.from_pretrained(tmp_path / "pipeline")
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(
        4, image_generators(7, 0, 4), num_inference_steps=5, output_type="np", use_clipped_model_output=True
    )
    network, process = load_pipeline(tmp_path / "pipeline")
    ours = torch.cat(list(sample(lambda x, t: network(x, t).sample, process, (1, 28, 28), 4, "ddim", 5, seed=7)))
    theirs = torch.from_numpy(theirs.images).permute(0, 3, 1, 2) * 2 - 1
    torch.testing.assert_close(ours, theirs, atol=2e-3, rtol=0)
    assert to_pixels(ours).float().std() > 1  # not a blank page


def test_scheduler_carries_the_process():
    process = make_process(RECIPES["lite"])
    ddpm = DDPMScheduler.from_config(make_scheduler(process).config)
    torch.testing.assert_close(ddpm.alphas_cumprod, process.alpha_bar, atol=1e-6, rtol=1e-4)
    assert ddpm.config.prediction_type == "v_prediction"


def test_timestep_embedding_is_sines_and_cosines():
    e = timestep_embedding(torch.tensor([3]), 8)[0]
    expected = torch.tensor([3.0, 0.3, 0.03, 0.003])
    torch.testing.assert_close(e, torch.cat([expected.sin(), expected.cos()]))


def test_no_model_in_folder(tmp_path):
    with pytest.raises(UserError, match="holds no trained model"):
        load_pipeline(tmp_path)


def test_unknown_network_lists_the_known():
    with pytest.raises(ValueError, match="known: lite, paper"):
        make_network("large")


# Recipes


@pytest.mark.parametrize("name", RECIPES)
def test_the_recipe_of_mnist_is_the_recipe_of_the_network(name):
    assert recipe_for(name, TABLE_1["mnist-even"]) == RECIPES[name]
    assert recipe_for(name, TABLE_1["mnist-odd"]) == RECIPES[name]


@pytest.mark.parametrize(
    ("configuration", "pretrained", "batch", "epochs", "sampler", "sampler_steps"),
    [
        ("mnist-even", "", 128, 100, "ddpm", 1000),
        ("cifar10-vehicles", "", 128, 100, "ddpm", 1000),
        ("stl10-animals", "", 32, 100, "ddpm", 1000),
        ("cifar10-animals", "google/ddpm-cifar10-32", 128, 20, "ddim", 50),
        ("celeba-male", "google/ddpm-celebahq-256", 16, 20, "ddim", 50),
    ],
)
def test_section_5_3(configuration, pretrained, batch, epochs, sampler, sampler_steps):
    """Each image is seen as often as there are epochs, and the last batch is no batch too many."""
    c = TABLE_1[configuration]
    recipe = recipe_for("paper", c, pretrained)
    train = TrainConfig(**recipe.train)
    assert (train.batch_size, recipe.sampler, recipe.sampler_steps) == (batch, sampler, sampler_steps)
    seen = epochs * (c.u_normal + c.u_sensitive + c.s)
    assert 0 <= train.steps * batch - seen < batch
    assert (train.optimiser, train.learning_rate, train.warmup_steps) == ("adamw", 1e-4, 500)
    assert (recipe.image_size, recipe.channels) == (c.image_size, 3)
    assert train.ell_scale == 3 * c.image_size**2
    assert make_process(recipe).steps == 1000


def test_lite_takes_size_and_channels_from_the_configuration():
    base, c = RECIPES["lite"], CONFIGURATIONS["standin-64"]
    colour, grey = recipe_for("lite", c), recipe_for("lite", replace(c, channels=1, image_size=30))
    assert (colour.image_size, colour.channels, colour.train["ell_scale"]) == (64, 3, 3 * 64 * 64)
    assert (grey.image_size, grey.channels, grey.train["ell_scale"]) == (30, 1, 30 * 30)
    assert {**colour.train, "ell_scale": 784.0} == base.train


def test_photographs_are_mirrored_by_lite_and_digits_and_the_papers_runs_never():
    mirrored = {name for name, c in CONFIGURATIONS.items() if recipe_for("lite", c).train.get("flips")}
    assert mirrored == {name for name, c in CONFIGURATIONS.items() if c.dataset in ("cifar10", "stl10", "celeba")}
    assert not any(recipe_for("paper", c).train.get("flips") for c in CONFIGURATIONS.values())
    own = replace(CONFIGURATIONS["cifar10-vehicles"], dataset="folders")
    assert recipe_for("lite", own).train["flips"] == recipe_for("lite", own, "a model").train["flips"] == 1
    assert "flips" not in recipe_for("lite", replace(own, channels=1)).train


def test_fine_tuning_lite_is_shorter_and_slower():
    scratch, tuned = (TrainConfig(**recipe_for("lite", TABLE_1["mnist-even"], p).train) for p in ("", "a folder"))
    assert tuned.steps < scratch.steps / 3
    assert tuned.learning_rate < scratch.learning_rate / 2
    assert tuned.kernel_learning_rate < scratch.kernel_learning_rate / 2


@pytest.mark.parametrize(
    ("name", "size", "says"),
    [
        ("lite", 29, "28 and 30 work"),
        ("lite", 1, "2 works"),
        ("paper", 50, "48 and 56 work"),
        ("paper", 100, "96 and 128 work"),
    ],
)
def test_a_size_that_cannot_be_halved_is_refused(name, size, says):
    for refuse in (
        lambda: make_network(name, 3, size),
        lambda: recipe_for(name, replace(CONFIGURATIONS["standin-32"], image_size=size)),
    ):
        with pytest.raises(UserError, match=f"{name} network cannot halve images of {size} pixels .*: {says}"):
            refuse()


@pytest.mark.parametrize(
    ("name", "sizes"), [("lite", (2, 14, 28, 30, 96)), ("paper", (8, 24, 56)), ("paper", (64, 96, 256))]
)
def test_a_size_that_is_let_through_can_be_halved(name, sizes):
    """On the `meta` device, which follows shapes alone."""
    with torch.device("meta"):
        for size in sizes:
            network = make_network(name, 3, size)
            assert image_shape(network) == (3, size, size)
            assert network(torch.empty(1, 3, size, size), torch.zeros(1)).sample.shape == (1, 3, size, size)


@pytest.mark.parametrize("size", [28, 100])
def test_a_size_that_is_refused_would_fail(size):
    """Diffusers' own error, at the sizes nearest to those that work, is what the refusal spares."""
    with torch.device("meta"):
        network = make_network("paper", 3, 32 if size < 64 else 96)
        with pytest.raises(RuntimeError):
            network(torch.empty(1, 3, size, size), torch.zeros(1))


def test_the_paper_networks_are_diffusers_example_sizes():
    with torch.device("meta"):
        small, large = make_network("paper", 3, 32), make_network("paper", 3, 96)
    assert small.config.block_out_channels == (128, 128, 256, 256)
    assert large.config.block_out_channels == (128, 128, 256, 256, 512, 512)
    assert [kind.startswith("Attn") for kind in large.config.down_block_types] == [False] * 4 + [True, False]
    assert [kind.startswith("Attn") for kind in large.config.up_block_types] == [False, True] + [False] * 4
    assert sum(p.numel() for p in large.parameters()) == 113_673_219  # of google/ddpm-celebahq-256, the same layout


# Models that others trained


def tiny_unet(**settings):
    torch.manual_seed(0)
    sizes = {
        "sample_size": 16,
        "block_out_channels": (32, 32),
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
        "layers_per_block": 1,
    }
    return UNet2DModel(**{**sizes, **settings})


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """A small pipeline of the layout of google/ddpm-cifar10-32, written by Diffusers."""
    folder = tmp_path_factory.mktemp("pretrained") / "ddpm"
    DDPMPipeline(tiny_unet(), DDPMScheduler()).save_pretrained(folder)
    return folder


def old_layout(folder, target, pickled):
    """All files side by side, as in the first releases of Diffusers."""
    target.mkdir()
    shutil.copy(folder / "model_index.json", target)
    shutil.copy(folder / "scheduler" / "scheduler_config.json", target)
    shutil.copy(folder / "unet" / "config.json", target)
    if pickled:
        torch.save(UNet2DModel.from_pretrained(folder / "unet").state_dict(), target / "diffusion_pytorch_model.bin")
    else:
        shutil.copy(folder / "unet" / "diffusion_pytorch_model.safetensors", target)
    return target


@pytest.mark.parametrize("layout", ["folders", "flat", "flat, pickled"])
@torch.no_grad()
def test_a_diffusers_pipeline_is_opened(pretrained, tmp_path, layout):
    folder = pretrained if layout == "folders" else old_layout(pretrained, tmp_path / "old", layout == "flat, pickled")
    network, process = open_network(str(folder))
    x, t = torch.randn(2, 3, 16, 16), torch.tensor([3, 900])
    torch.testing.assert_close(network(x, t).sample, tiny_unet().eval()(x, t).sample)
    torch.testing.assert_close(process.alpha_bar, DDPMScheduler().alphas_cumprod)
    assert (process.prediction, network.training) == ("epsilon", False)


@pytest.mark.parametrize("prediction", ["v_prediction", "sample"])
def test_the_process_is_the_schedulers(tmp_path, prediction):
    scheduler = DDIMScheduler(beta_schedule="squaredcos_cap_v2", prediction_type=prediction, num_train_timesteps=100)
    DDIMPipeline(tiny_unet(), scheduler).save_pretrained(tmp_path)
    _, process = open_network(str(tmp_path))
    assert process.prediction == prediction
    torch.testing.assert_close(process.alpha_bar, scheduler.alphas_cumprod)


def test_fine_tuned_saved_and_opened_by_diffusers(pretrained, tmp_path):
    """Two steps from a pre-trained model; then Diffusers' pipeline draws the pictures that our sampler draws."""
    network, process = open_network(str(pretrained))
    images = torch.randint(0, 256, (12, 3, 16, 16), dtype=torch.uint8)
    split = Split(torch.arange(8), torch.arange(8) > 5, torch.arange(8, 12), torch.arange(2), torch.arange(2))
    config = TrainConfig(steps=2, batch_size=4, optimiser="adamw", learning_rate=1e-3, ell_scale=768.0, pieces=2)
    before = network.conv_out.weight.detach().clone()
    trainer = Trainer(network, process, images, split, config)
    list(trainer)
    assert not torch.equal(trainer.ema.conv_out.weight, before)
    save_pipeline(trainer.ema, trainer.process, tmp_path / "tuned")

    pipeline = DiffusionPipeline.from_pretrained(tmp_path / "tuned")
    assert isinstance(pipeline, DDIMPipeline)
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(
        2, image_generators(7, 0, 2), num_inference_steps=3, output_type="np", use_clipped_model_output=True
    ).images
    again, process = open_network(str(tmp_path / "tuned"))
    torch.testing.assert_close(again.conv_out.weight, trainer.ema.conv_out.weight)
    torch.testing.assert_close(process.alpha_bar, DDPMScheduler().alphas_cumprod, rtol=1e-4, atol=1e-7)
    ours = torch.cat(list(sample(lambda x, t: again(x, t).sample, process, (3, 16, 16), 2, "ddim", 3, seed=7)))
    theirs = torch.from_numpy(theirs).permute(0, 3, 1, 2) * 2 - 1
    torch.testing.assert_close(ours, theirs, atol=8e-3, rtol=0)  # a pixel; their alpha_bar is a product in float32


def test_a_hub_name_that_cannot_be_fetched(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"cannot open 'google/no-such-model', no folder here, and the hub") as refused:
        open_network("google/no-such-model")
    assert "\n" not in str(refused.value)


def test_a_folder_without_a_model(tmp_path):
    with pytest.raises(UserError, match="holds no trained model"):
        open_network(str(tmp_path))


def test_a_damaged_pipeline_is_named(pretrained, tmp_path):
    shutil.copytree(pretrained, tmp_path / "damaged")
    (tmp_path / "damaged" / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"half")
    with pytest.raises(
        UserError, match=r"cannot open .*, a damaged folder .*: name the folder of a Diffusers pipeline"
    ):
        open_network(str(tmp_path / "damaged"))


def test_latent_models_are_refused_before_anything_large_is_read(tmp_path, monkeypatch):
    vq = VQModel(block_out_channels=(32,), norm_num_groups=32)
    LDMPipeline(vq, tiny_unet(), DDIMScheduler()).save_pretrained(tmp_path)
    monkeypatch.setattr(DiffusionPipeline, "from_pretrained", lambda *a, **k: pytest.fail("read"))
    with pytest.raises(UserError, match="made of scheduler, unet, vqvae: this version trains pixel models"):
        open_network(str(tmp_path))


@pytest.mark.parametrize(
    ("unet", "scheduler", "says"),
    [
        ({"num_class_embeds": 10}, {}, "its U-Net takes a class"),
        ({"out_channels": 6}, {}, "it learns a variance"),
        ({}, {"rescale_betas_zero_snr": True}, "has no alpha_bar inside"),
    ],
)
def test_models_that_eq_8_does_not_fit_are_refused(tmp_path, unet, scheduler, says):
    DDPMPipeline(tiny_unet(**unet), DDPMScheduler(**scheduler)).save_pretrained(tmp_path)
    with pytest.raises(UserError, match=f"cannot be trained here, .*{says}"):
        open_network(str(tmp_path))


def test_a_scheduler_without_alpha_bar_is_refused(tmp_path):
    DDPMPipeline(tiny_unet(), EDMDPMSolverMultistepScheduler()).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="EDMDPMSolverMultistepScheduler has no alpha_bar"):
        open_network(str(tmp_path))


def test_a_prediction_that_the_course_does_not_know_is_refused(pretrained, tmp_path):
    shutil.copytree(pretrained, tmp_path / "other")
    path = tmp_path / "other" / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "prediction_type": "flow_prediction"}))
    with pytest.raises(UserError, match="predicts flow_prediction"):
        open_network(str(tmp_path / "other"))


@pytest.mark.parametrize("content", [None, b"no tensors"])
def test_a_file_that_ship_did_not_write(tmp_path, content):
    path = tmp_path / "network.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match="is no trained network: name a file that `pudm ship` wrote"):
        open_network(str(path))


def test_a_network_is_made_again_from_its_config():
    """Every setting that is not the default's: Diffusers leaves out of a config what was given by position."""
    for network in (make_network("lite", 3, 32), LiteUNet(block_channels=(8, 16), stem_channels=4, time_dim=16)):
        again = type(network).from_config(network.config)
        assert {n: p.shape for n, p in again.named_parameters()} == {n: p.shape for n, p in network.named_parameters()}
    with pytest.raises(TypeError):
        LiteUNet(32, 3, 3)


@pytest.mark.parametrize("size", [None, 0, -16, 16.0, "16", [16], [16, None]])
def test_a_network_that_does_not_say_its_size_is_refused(pretrained, tmp_path, size):
    _edit(pretrained, tmp_path / "other", "unet/config.json", sample_size=size)
    with pytest.raises(UserError, match="cannot be trained here, its U-Net does not say how large its images are"):
        open_network(str(tmp_path / "other"))


def test_a_network_of_oblong_images_is_opened(pretrained, tmp_path):
    _edit(pretrained, tmp_path / "other", "unet/config.json", sample_size=[16, 32])
    assert image_shape(open_network(str(tmp_path / "other"))[0]) == (3, 16, 32)


def test_a_conditional_network_is_refused(tmp_path):
    unet = UNet2DConditionModel(
        block_out_channels=(8, 8), norm_num_groups=4, cross_attention_dim=8, attention_head_dim=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    DDPMPipeline(unet, DDPMScheduler()).save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"has .*UNet2DConditionModel.* as its unet, which is not opened: choose"):
        open_network(str(tmp_path))


def _edit(folder, target, file, **values):
    """A copy of a pipeline with other values in one of its JSON files."""
    shutil.copytree(folder, target)
    path = target / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


CODE = "import pathlib; pathlib.Path({mark!r}).touch()\nclass LiteUNet: pass\nclass DDPMPipeline: pass\n"


@pytest.mark.parametrize(
    "index",
    [
        {"_class_name": ["pipeline", "DDPMPipeline"]},
        {"_class_name": "pipeline"},
        {"_class_name": None},
        {"_class_name": "UNet2DModel"},
        {"unet": ["unet", "LiteUNet"]},
        {"unet": ["my_unet", "LiteUNet"]},
        {"unet": ["pudm_lite.sources", "LiteUNet"]},
        {"unet": ["diffusers", "LiteUNet"]},
        {"unet": ["diffusers", "VQModel"]},
        {"unet": ["diffusers", "UNet2DModel", "more"]},
        {"scheduler": ["scheduler", "DDPMScheduler"]},
        {"scheduler": ["my_scheduler", "DDPMScheduler"]},
        {"scheduler": ["diffusers", "UNet2DModel"]},
        {"scheduler": ["diffusers", None]},
        {"scheduler": ["diffusers"]},
    ],
    ids=str,
)
def test_only_classes_of_diffusers_and_of_this_package_are_opened(pretrained, tmp_path, monkeypatch, index):
    """Code beside the index, and modules that can be imported, under every name that the index gives them."""
    folder, mark = tmp_path / "other", tmp_path / "it_ran"
    _edit(pretrained, folder, "model_index.json", **index)
    for at in ("", "unet", "scheduler"):
        for name in ("pipeline", "unet", "scheduler", "my_unet", "my_scheduler"):
            (folder / at / f"{name}.py").write_text(CODE.format(mark=str(mark)))
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr(DiffusionPipeline, "from_pretrained", lambda *a, **k: pytest.fail("it was opened"))
    with pytest.raises(
        UserError, match="which is not opened: choose a pipeline of Diffusers whose unet is a UNet2DMod"
    ):
        open_network(str(folder))
    assert not mark.exists()


class Bomb:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return pathlib.Path.touch, (self.mark,)


def test_no_pickled_code_runs(pretrained, tmp_path):
    folder, mark = old_layout(pretrained, tmp_path / "old", pickled=True), tmp_path / "it_ran"
    torch.save({"conv_in.weight": Bomb(mark)}, folder / "diffusion_pytorch_model.bin")
    with pytest.raises(UserError, match="cannot open"):
        open_network(str(folder))
    assert not mark.exists()


@pytest.mark.parametrize("name", ["Jos\udc82", "Jos\udc82.safetensors"])
def test_a_name_that_is_no_utf8_is_said(name):
    with pytest.raises(UserError, match=r"^'Jos\\udc82.*' is no name that safetensors opens: rename"):
        open_network(name)
