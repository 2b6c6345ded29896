"""The memory arithmetic: held to hand counts, to a real forward pass, and to torch's own memory tracker."""

from functools import partial

import pytest
import torch
from diffusers import UNet2DConditionModel, UNet2DModel
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from pudm_lite.errors import UserError
from pudm_lite.networks import make_network
from pudm_lite.runs import memory
from pudm_lite.runs.memory import HEADROOM, erasing_evaluations, erasing_memory, flops, pieces_for, training_memory


class TwoLayers(nn.Module):
    """Kept for the backward pass: x, the first layer's output (tanh's is its own), and what the loss squares."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 10, 3, padding=1), nn.Conv2d(10, 3, 3, padding=1)

    def forward(self, x, t):
        return self.conv2(torch.tanh(self.conv1(x)))


def unet(size=32):
    with torch.device("meta"):
        return UNet2DModel(
            sample_size=size,
            layers_per_block=1,
            block_out_channels=(32, 64),
            down_block_types=("DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        )


def test_by_hand():
    network, pixels = TwoLayers(), 5 * 16 * 16
    parameters = (3 * 9 + 1) * 10 + (10 * 9 + 1) * 3
    found = training_memory(network, (3, 16, 16), 5)
    assert (found.weights, found.gradients, found.optimiser, found.ema) == tuple(parameters * n for n in (4, 4, 8, 4))
    assert found.activations == 4 * pixels * (3 + 10 + 3)
    assert found.total == 20 * parameters + found.activations


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_by_hand_in_half_precision(precision):
    """x, the layer's output and both kernels in two bytes; the loss squares in four. No autocast is left on."""
    kernels = 2 * 3 * 9 * 10
    found = training_memory(TwoLayers(), (3, 16, 16), 5, precision).activations
    assert found == 5 * 16 * 16 * (2 * 3 + 2 * 10 + 4 * 3) + 2 * kernels
    assert not torch.is_autocast_enabled("cuda")


def test_a_real_forward_pass_keeps_as_much():
    """On the CPU, with data."""
    torch.manual_seed(0)
    network = make_network("lite", 3, 32)
    own = {p.untyped_storage().data_ptr() for p in network.parameters()}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = network(torch.randn(8, 3, 32, 32), torch.arange(8)).sample.square().mean()
    assert training_memory(network, (3, 32, 32), 8).activations == pytest.approx(sum(kept.values()), rel=0.02)
    del loss


@pytest.mark.slow
@pytest.mark.parametrize("checkpointing", [False, True])
def test_torch_tracks_the_same_peak(checkpointing):
    """torch's tracker follows a whole step, backward pass and recomputation included; gradients on their way through
    the network come on top of what we count."""
    from torch.distributed._tools.mem_tracker import MemTracker

    network = unet()
    with FakeTensorMode():
        same = UNet2DModel.from_config(network.config)
        if checkpointing:
            same.enable_gradient_checkpointing()
        tracker = MemTracker()
        tracker.track_external(same)
        with tracker:
            loss = same(torch.randn(8, 3, 32, 32), torch.zeros(8)).sample.square().sum()
            loss.backward()
    peak = {str(kind): size for kind, size in tracker.get_tracker_snapshot("peak")[torch.device("cpu")].items()}
    ours = training_memory(network, (3, 32, 32), 8, "no", checkpointing).activations
    tracked = peak["Total"] - peak["_MemRefType.PARAM"] - peak["_MemRefType.GRAD"]
    assert ours == pytest.approx(tracked, rel=0.05)


@pytest.mark.parametrize("precision", ["no", "fp16"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_activations_grow_by_the_image(precision, checkpointing):
    few, some, many = (training_memory(unet(), (3, 32, 32), n, precision, checkpointing).activations for n in (2, 4, 8))
    assert many - some == pytest.approx(2 * (some - few), rel=0.01)
    assert some > 1.5 * few


def test_a_freed_storage_does_not_hide_one_at_its_address(monkeypatch):
    """Under autocast a block's input may be freed before the next one is made; both would be kept on a GPU."""
    count = partial(training_memory, unet(), (3, 32, 32), 4, "fp16", True)
    alive, keep = [], memory._Kept.keep
    with monkeypatch.context() as patch:
        patch.setattr(memory._Kept, "keep", lambda self, tensor: alive.append(tensor) or keep(self, tensor))
        held = count()
    assert alive
    alive.clear()
    assert count() == held


def test_checkpointing_lowers_it_and_leaves_the_network_as_it_was():
    network = unet()
    plain, less = (training_memory(network, (3, 32, 32), 4, "no", way) for way in (False, True))
    assert less.activations < 0.7 * plain.activations
    assert (less.weights, less.optimiser) == (plain.weights, plain.optimiser)
    assert not network.is_gradient_checkpointing
    network.enable_gradient_checkpointing()
    assert training_memory(network, (3, 32, 32), 4) == plain
    assert network.is_gradient_checkpointing


def test_half_precision_halves_much_less_than_half():
    """Group norms run in float32 under autocast: what a U-Net keeps falls by little."""
    plain, half = (training_memory(unet(), (3, 32, 32), 8, p).activations for p in ("no", "fp16"))
    assert 0.7 * plain < half < plain


@pytest.mark.parametrize("pieces", [1, 3, 8])
def test_the_fewest_pieces_that_fit(pieces):
    """15 images in 3 pieces are 5 each, in 8 pieces 2 at most."""
    network, shape, batch = TwoLayers(), (3, 32, 32), 15
    needed = training_memory(network, shape, -(-batch // pieces)).total / (1 - HEADROOM)
    assert pieces_for(int(needed) + 1, network, shape, batch) == pieces
    assert pieces_for(int(needed) - 1, network, shape, batch) > pieces


def test_a_network_that_does_not_fit():
    with pytest.raises(UserError, match="one image of 3 x 32 x 32 at a time does not fit 0 GiB"):
        pieces_for(1024, TwoLayers(), (3, 32, 32), 16)


@pytest.mark.slow
def test_fine_tuning_celeba_on_15_gib():
    """google/ddpm-celebahq-256 has this layout. In batches of 16, half precision and checkpointing fit undivided."""
    with torch.device("meta"):
        network = make_network("paper", 3, 256)
    assert training_memory(network, (3, 256, 256), 16).total > 30 * 2**30
    assert pieces_for(15 * 2**30, network, (3, 256, 256), 16, "fp16", checkpointing=True) == 1
    assert pieces_for(15 * 2**30, network, (3, 256, 256), 16, "fp16") == 4


@pytest.fixture(scope="module")
def stable():
    """Stable Diffusion 1.4's U-Net, without its weights: the class's defaults, and longer tokens."""
    with torch.device("meta"):
        return UNet2DConditionModel(sample_size=64, cross_attention_dim=768)


def test_stable_diffusions_parameters_are_the_published_ones(stable):
    from pudm_lite.erasing.layers import chosen

    millions = {
        name: sum(p.numel() for p in chosen(stable, name).values()) / 1e6 for name in ("all", "attn2", "attn2-kv")
    }
    assert {name: round(number, 1) for name, number in millions.items()} == {
        "all": 859.5,
        "attn2": 44.0,
        "attn2-kv": 19.2,
    }


def test_only_what_is_trained_has_gradients_and_moments(stable):
    from pudm_lite.erasing.layers import only

    for layers in ("attn2", "all"):
        trained = sum(p.numel() for p in only(stable, layers))
        found = erasing_memory(stable, (4, 64, 64), 1, (77, 768))
        assert (found.gradients, found.optimiser) == (4 * trained, 8 * trained)
        assert found.weights == found.ema == 4 * sum(p.numel() for p in stable.parameters())
        assert 1 < found.activations / 2**30 < 12
    assert found.activations == training_memory(stable, (4, 64, 64), 2, told=(77, 768)).activations
    one = erasing_memory(stable, (4, 64, 64), 2, (77, 768), estimates=1)
    assert one.activations == found.activations


def test_blocks_with_attention_are_checkpointed_too(stable):
    """Diffusers hands them masks that are None."""
    plain, less = (training_memory(stable, (4, 32, 32), 1, "no", way, (77, 768)) for way in (False, True))
    assert 0 < less.activations < 0.8 * plain.activations


def test_operations_by_hand():
    """Two a multiplication and addition, at each pixel."""
    assert flops(TwoLayers(), (3, 16, 16)) == 2 * 16 * 16 * (3 * 9 * 10 + 10 * 9 * 3)


def test_stable_diffusions_operations_are_about_the_published_ones(stable):
    """0.68 to 0.8 TFLOP for one latent of 64 x 64: 339 to 400 G multiplications with additions."""
    assert 0.6e12 < flops(stable, (4, 64, 64), (77, 768)) < 0.9e12


def test_evaluations_of_a_step():
    assert erasing_evaluations() == 7
    assert erasing_evaluations(search=4, batch=2) == 14 + 8 + 4
