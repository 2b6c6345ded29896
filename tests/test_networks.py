"""Networks: shapes, and the round trip through Diffusers' format and pipelines."""

import pytest
import torch
from diffusers import DDIMPipeline, DDPMScheduler

from pudm_lite.datasets import to_pixels
from pudm_lite.errors import UserError
from pudm_lite.networks import (
    RECIPES,
    LiteUNet,
    image_shape,
    load_pipeline,
    make_network,
    make_process,
    make_scheduler,
    save_pipeline,
    timestep_embedding,
)
from pudm_lite.sampling import image_generators, sample


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
    save_pipeline(lite, RECIPES["lite"], tmp_path / "pipeline")
    network, process = load_pipeline(tmp_path / "pipeline")
    x, t = torch.randn(3, 1, 28, 28), torch.tensor([0, 500, 999])
    torch.testing.assert_close(network(x, t).sample, lite(x, t).sample)
    torch.testing.assert_close(process.alpha_bar, make_process(RECIPES["lite"]).alpha_bar, atol=0, rtol=1e-6)
    assert process.prediction == "v_prediction"


def test_diffusers_own_pipeline_draws_the_pictures_that_our_sampler_draws(lite, tmp_path):
    save_pipeline(lite, RECIPES["lite"], tmp_path / "pipeline")
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
