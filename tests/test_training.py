"""The loop: its step, its checkpoints, its averages. Tiny networks on made-up images."""

import math
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DModel
from torch import nn

from pudm_lite import training
from pudm_lite.diffusion import Process, noise_schedule
from pudm_lite.errors import UserError
from pudm_lite.networks import make_network
from pudm_lite.risks import METHODS
from pudm_lite.settings import TrainConfig
from pudm_lite.splits import Split
from pudm_lite.training import SAVE_EVERY, SAVING_SHARE, SKIPPED_AT_MOST, Trainer, learning_rate_factor, place_for

CONFIG = TrainConfig(steps=12, batch_size=16, seed=5, warmup_steps=1, ell_scale=64.0)


class TinyNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.out = nn.Conv2d(16, 1, 1)

    def forward(self, x, t):
        h = torch.tanh(self.conv1(x) + t.view(-1, 1, 1, 1) / 1000)
        return self.out(torch.tanh(self.conv2(h)))


def make(config=CONFIG, folder=None, identity=None, save_every=None, network=TinyNet):
    g = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (60, 1, 8, 8), generator=g, dtype=torch.uint8)
    split = Split(torch.arange(40), torch.arange(40) >= 30, torch.arange(40, 60), torch.arange(10), torch.arange(5))
    torch.manual_seed(2)
    return Trainer(network(), Process(noise_schedule("cosine")), images, split, config, folder, identity, save_every)


def small_unet():
    """Of the kind that is fine-tuned, with attention."""
    return UNet2DModel(
        sample_size=8,
        in_channels=1,
        out_channels=1,
        layers_per_block=1,
        block_out_channels=(32, 32),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    )


def gradients(trainer):
    """Of the first step, as the optimisers would see them."""
    trainer._update = lambda numbers, sums: {}
    trainer._train_step()
    return torch.cat([p.grad.flatten() for p in trainer.network.parameters()])


def weights(network):
    return torch.cat([p.detach().flatten() for p in network.parameters()])


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_and_names_its_terms(method):
    trainer = make(replace(CONFIG, method=method))
    before = weights(trainer.network).clone()
    records = list(trainer)
    assert [r.step for r in records] == list(range(1, 13))
    assert not torch.equal(before, weights(trainer.network))
    assert records[-1].terms
    assert trainer.log["value"] == [[r.step, r.value] for r in records]


def test_few_labelled_images_are_the_first_of_s():
    few, all_of_them = make(replace(CONFIG, labelled=3)), make()
    assert torch.equal(few.x_s, all_of_them.x_s[:3])
    assert torch.equal(few.x_u, all_of_them.x_u)
    with pytest.raises(UserError, match=r"labelled must be 0 \(all\) or more; got -1"):
        replace(CONFIG, labelled=-1)


@pytest.mark.parametrize("optimiser", ["muon", "adamw"])
@pytest.mark.parametrize("stream", ["pooled", "two"])
def test_resumed_run_equals_unbroken_one(tmp_path, optimiser, stream):
    config = replace(CONFIG, optimiser=optimiser, stream=stream)
    unbroken = make(config)
    list(unbroken)
    broken = make(config, tmp_path, save_every=0.0)
    for record in broken:
        if record.step == 5:
            break
    resumed = make(config, tmp_path)
    assert resumed.step == 5
    list(resumed)
    assert torch.equal(weights(unbroken.network), weights(resumed.network))
    assert torch.equal(weights(unbroken.ema), weights(resumed.ema))
    assert unbroken.log == resumed.log
    assert list(make(config, tmp_path)) == []  # finished: nothing left to do


@pytest.mark.parametrize("stream", ["pooled", "two"])
def test_a_run_with_flips_resumes_exactly_and_in_pieces_too(tmp_path, stream):
    config = replace(CONFIG, flips=1, stream=stream)
    unbroken, broken = make(config), make(config, tmp_path, save_every=0.0)
    list(unbroken)
    for record in broken:
        if record.step == 5:
            break
    resumed = make(config, tmp_path)
    list(resumed)
    assert torch.equal(weights(unbroken.network), weights(resumed.network))
    assert not torch.equal(weights(unbroken.network), weights(make_and_train(stream).network))
    pieces = make(replace(config, pieces=3))
    list(pieces)
    torch.testing.assert_close(weights(unbroken.network), weights(pieces.network), atol=2e-4, rtol=1e-3)


def make_and_train(stream):
    trainer = make(replace(CONFIG, stream=stream))
    list(trainer)
    return trainer


def test_flips_mirror_about_half_of_the_images_by_seed_and_step_and_change_nothing_else(monkeypatch):
    seen = {}

    def spy(network, x0, t, eps, process, scale):
        seen.setdefault(key, (x0, t, eps))
        return real(network, x0, t, eps, process, scale)

    real = training.ell
    monkeypatch.setattr(training, "ell", spy)
    monkeypatch.setattr(training, "WATCH_S_EVERY", 10**9)
    for key in [(0, 3, 0), (1, 3, 0), (1, 3, 1), (1, 4, 0), (1, 3, 0, "again")]:
        flips, seed, step = key[:3]
        trainer = make(replace(CONFIG, flips=flips, seed=seed, batch_size=24))
        trainer.step = step
        trainer._train_step()
    plain, flipped, again = seen[0, 3, 0], seen[1, 3, 0], seen[1, 3, 0, "again"]
    assert all(torch.equal(a, b) for a, b in zip(flipped, again, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(plain[1:], flipped[1:], strict=True))  # the same t and noise
    mirrored = [torch.equal(b, a.flip(2)) and not torch.equal(a, b) for a, b in zip(plain[0], flipped[0], strict=True)]
    unchanged = [torch.equal(a, b) for a, b in zip(plain[0], flipped[0], strict=True)]
    assert all(m != u for m, u in zip(mirrored, unchanged, strict=True))
    assert 4 < sum(mirrored) < 20
    other_step = make(replace(CONFIG, flips=1, seed=3, batch_size=24))._draw(1)[0].flips.tolist()
    other_seed = make(replace(CONFIG, flips=1, seed=4, batch_size=24))._draw(0)[0].flips.tolist()
    assert len({str(mirrored), str(other_step), str(other_seed)}) == 3


def test_draws_without_their_addresses_would_be_seen_above(tmp_path, monkeypatch):
    """The control: noise that goes on from a state, as a global generator's does, makes another resumed run."""
    monkeypatch.setattr(training, "generator", lambda *address: torch.default_generator)
    unbroken, broken = make(), make(CONFIG, tmp_path, save_every=0.0)
    list(unbroken)
    for record in broken:
        if record.step == 5:
            break
    resumed = make(CONFIG, tmp_path)
    list(resumed)
    assert not torch.equal(weights(unbroken.network), weights(resumed.network))


def test_the_clock_goes_on_where_it_stood(tmp_path):
    broken = make(CONFIG, tmp_path, save_every=0.0)
    for record in broken:
        if record.step == 5:
            break
    resumed = make(CONFIG, tmp_path)
    assert resumed.seconds == record.seconds > 0
    seconds = [record.seconds, *(record.seconds for record in resumed)]
    assert len(seconds) == 8
    assert seconds == sorted(set(seconds))  # it adds up


def test_each_step_trains_on_the_draws_of_its_own_number(monkeypatch):
    seen, real = [], training.ell
    monkeypatch.setattr(
        training, "ell", lambda network, x, t, eps, *rest: seen.append(eps) or real(network, x, t, eps, *rest)
    )
    trainer = make(replace(CONFIG, steps=3))
    list(trainer)
    assert len(seen) == 3
    for step, eps in enumerate(seen):
        assert torch.equal(eps, trainer._draw(step)[2])


@pytest.mark.parametrize("timesteps", ["uniform", "stratified", "importance"])
@pytest.mark.parametrize("stream", ["pooled", "two"])
def test_batch_timesteps_and_noise_depend_on_seed_and_step(stream, timesteps):
    def drawn(seed, step):
        config = replace(CONFIG, stream=stream, timesteps=timesteps, seed=seed)
        batch, at, eps, _ = make(config)._draw(step)
        return [tuple(value.flatten().tolist()) for value in (batch.u, batch.s, at, eps)]

    addresses = [(seed, step) for seed in (5, 6) for step in (0, 1)]
    draws = [drawn(*address) for address in addresses]
    assert draws == [drawn(*address) for address in addresses]
    for what in zip(*draws, strict=True):
        assert len(set(what)) == len(addresses)


@pytest.mark.parametrize("method", METHODS)
def test_pieces_of_a_batch_train_like_the_whole(method):
    """Accumulated in three pieces, with the clamp decided for the whole batch (beta so large that it fires)."""
    config = replace(CONFIG, method=method, beta=0.7, steps=4)
    whole, pieces = make(config), make(replace(config, pieces=3))
    list(whole), list(pieces)
    torch.testing.assert_close(weights(whole.network), weights(pieces.network), atol=2e-4, rtol=1e-3)
    for name in set(whole.log) & set(pieces.log):
        a, b = (torch.tensor(t.log[name]) for t in (whole, pieces))
        torch.testing.assert_close(a, b, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("pieces", [1, 3])
def test_the_clamp_fires_in_the_test_above(pieces):
    trainer = make(replace(CONFIG, method="nnpu", beta=0.97, pieces=pieces))
    list(trainer)
    assert {value for _, value in trainer.log["clamped"]} == {0, 1}


def test_all_methods_see_the_same_unlabeled_draws(monkeypatch):
    seen = {}

    def spy(network, x0, t, eps, process, scale):
        seen.setdefault(method, []).append((x0, t, eps))
        return real(network, x0, t, eps, process, scale)

    real = training.ell
    monkeypatch.setattr(training, "ell", spy)
    monkeypatch.setattr(training, "WATCH_S_EVERY", 10**9)
    for method in ("unsupervised", "nnpu"):
        trainer = make(replace(CONFIG, method=method))
        trainer.step = 1  # step 0 also looks at S
        next(iter(trainer))
    (x_a, t_a, eps_a), (x_b, t_b, eps_b) = seen["unsupervised"][0], seen["nnpu"][0]
    n = len(x_a)
    assert n < len(x_b)
    assert torch.equal(x_a, x_b[:n])
    assert torch.equal(t_a, t_b[:n])
    assert torch.equal(eps_a, eps_b[:n])


def test_unsupervised_never_learns_from_s():
    a, b = make(replace(CONFIG, method="unsupervised")), make(replace(CONFIG, method="unsupervised"))
    b.x_s.zero_()
    list(a), list(b)
    assert torch.equal(weights(a.network), weights(b.network))


def test_moving_average_is_a_power_law():
    """The weight of the newest parameters at step t is power / (t - 1 + power), whatever came before."""
    trainer = make(replace(CONFIG, ema_power=4.0))
    average = None
    for record in trainer:
        now, t = weights(trainer.network), record.step
        share = 1.0 if t == 1 else 4.0 / (t - 1 + 4.0)
        average = now if average is None else average + share * (now - average)
    torch.testing.assert_close(weights(trainer.ema), average, atol=1e-5, rtol=1e-4)


def test_learning_rate_warms_up_then_falls_along_a_cosine():
    factors = [learning_rate_factor(step, 1000, 100) for step in range(1000)]
    assert factors[:3] == pytest.approx([0.01, 0.02, 0.03])
    assert max(factors) == pytest.approx(1.0)
    assert factors[550] == pytest.approx(0.5)
    assert factors[-1] == pytest.approx(0.5 * (1 + math.cos(math.pi * 899 / 900)))


@pytest.mark.parametrize("timesteps", ["uniform", "stratified", "importance"])
def test_timesteps_stand_at_their_quantiles_of_the_process(timesteps):
    """By importance too, until enough has been seen: then with weights, and these are ones."""
    t, w = make(replace(CONFIG, timesteps=timesteps))._timesteps(torch.tensor([0, 0.2505, 0.99999]).double())
    assert t.tolist() == [0, 250, 999]
    assert w is None if timesteps != "importance" else w.tolist() == pytest.approx([1, 1, 1])


@pytest.mark.parametrize("optimiser", ["muon", "adamw"])
def test_every_rate_is_its_own_times_the_factor_of_its_step(optimiser):
    """Also in the last steps, where a factor that compounds would be far off; a warm-up longer than half is cut."""
    config = replace(CONFIG, optimiser=optimiser, warmup_steps=100)
    trainer = make(config)
    for record in trainer:
        factor = learning_rate_factor(record.step - 1, config.steps, config.steps // 2)
        rates = [group["lr"] for each in trainer.optimisers for group in each.param_groups]
        own = {"muon": [config.kernel_learning_rate, config.learning_rate], "adamw": [config.learning_rate]}[optimiser]
        assert rates == pytest.approx([rate * factor for rate in own])


def followed(config, monkeypatch):
    """The gradient that the optimiser was given in the first step."""
    trainer, seen = make(replace(config, optimiser="adamw")), []
    (optimiser,) = trainer.optimisers
    step = optimiser.step
    monkeypatch.setattr(
        optimiser,
        "step",
        lambda: (seen.append(torch.cat([p.grad.flatten().clone() for p in trainer.network.parameters()])), step()),
    )
    next(iter(trainer))
    return seen[0]


def test_a_gradient_is_cut_to_its_largest_norm_and_keeps_its_direction(monkeypatch):
    whole = followed(CONFIG, monkeypatch)
    cut = followed(replace(CONFIG, grad_clip=float(whole.norm()) / 3), monkeypatch)
    torch.testing.assert_close(cut, whole / 3, rtol=1e-4, atol=0)
    assert torch.equal(followed(replace(CONFIG, grad_clip=float(whole.norm()) * 3), monkeypatch), whole)


def test_the_scale_of_l_is_the_one_asked_for():
    """On the risk of the first step, which is linear in it where nothing is pushed away."""
    once, thrice = (
        next(iter(make(replace(CONFIG, method="unsupervised", ell_scale=scale)))).value for scale in (64.0, 192.0)
    )
    assert thrice == pytest.approx(3 * once)


def test_what_is_sampled_from_is_the_average_and_not_the_newest_network():
    trainer = make()
    list(trainer)
    assert not torch.equal(weights(trainer.ema), weights(trainer.network))
    assert not trainer.ema.training


def test_a_diverging_loss_stops_with_one_sentence_and_keeps_the_checkpoint(tmp_path):
    trainer = make(CONFIG, tmp_path, save_every=0.0)
    steps = iter(trainer)
    next(steps)
    kept = (tmp_path / "checkpoint.pt").read_bytes()
    with torch.no_grad():
        trainer.network.out.bias.fill_(math.nan)
    said = rf"not a finite number at step {SKIPPED_AT_MOST + 2}, nor in the {SKIPPED_AT_MOST} before it: lower the"
    with pytest.raises(UserError, match=said):
        list(steps)
    assert (tmp_path / "checkpoint.pt").read_bytes() == kept


@pytest.mark.parametrize("optimiser", ["muon", "adamw"])
@pytest.mark.parametrize("where", ["loss", "a gradient that is no number", "a gradient without end"])
def test_a_step_that_is_not_finite_moves_nothing_and_the_next_goes_on(optimiser, where, monkeypatch):
    """One NaN or infinity, whatever it came from: no optimiser moves, none keeps it, and the run goes on."""
    trainer = make(replace(CONFIG, optimiser=optimiser, grad_clip=1.0))
    steps = iter(trainer)
    next(steps)
    before, averaged = weights(trainer.network).clone(), weights(trainer.ema).clone()
    with monkeypatch.context() as broken:
        if where == "loss":
            broken.setattr(training, "ell", lambda network, x, t, *_: network(x, t).flatten(1).sum(1) * math.inf)
        else:
            hook = trainer.network.conv2.weight.register_hook(lambda g: g * (math.inf if "end" in where else math.nan))
        record = next(steps)
        if where != "loss":
            hook.remove()
    assert math.isnan(record.value)
    assert trainer.log["skipped"] == [[2, 1.0]]
    assert torch.equal(weights(trainer.network), before)
    assert torch.equal(weights(trainer.ema), averaged)
    record = next(steps)
    assert math.isfinite(record.value)
    assert not torch.equal(weights(trainer.network), before)
    assert torch.isfinite(weights(trainer.network)).all()
    assert trainer.skipped_in_a_row == 0


def test_checkpoint_of_another_experiment_is_refused_and_kept(tmp_path):
    list(make(CONFIG, tmp_path, {"network": "a"}))
    kept = (tmp_path / "checkpoint.pt").read_bytes()
    with pytest.raises(UserError, match=r"belongs to another experiment: network = 'a' \(now 'b'\)"):
        make(CONFIG, tmp_path, {"network": "b"})
    with pytest.raises(UserError, match=r"beta = 0.1 \(now 0.2\)"):
        make(replace(CONFIG, beta=0.2), tmp_path, {"network": "a"})
    assert (tmp_path / "checkpoint.pt").read_bytes() == kept


def test_a_checkpoint_from_before_a_setting_existed_resumes(tmp_path):
    list(make(CONFIG, tmp_path))
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    del state["identity"]["gradient_checkpointing"]
    torch.save(state, tmp_path / "checkpoint.pt")
    assert make(CONFIG, tmp_path).step == CONFIG.steps
    with pytest.raises(UserError, match=r"gradient_checkpointing = 0 \(now 1\)"):
        make(replace(CONFIG, gradient_checkpointing=1), tmp_path, network=small_unet)


def test_saving_takes_a_small_share_of_the_time_and_says_so_once(tmp_path):
    trainer = make(CONFIG, tmp_path)
    assert trainer._pause(0.01) == SAVE_EVERY
    assert trainer.notes == []
    assert trainer._pause(3.0) == pytest.approx(3.0 / SAVING_SHARE)
    assert trainer._pause(6.0) == pytest.approx(6.0 / SAVING_SHARE)
    assert trainer.notes == ["a checkpoint takes 3.0 s to write here, so one is kept every 2.5 minutes"]
    assert make(CONFIG, tmp_path, save_every=7.0)._pause(3.0) == 7.0  # asked for


def test_warm_up_is_honoured_and_fits_into_half_of_a_short_run():
    assert replace(CONFIG, steps=3000, warmup_steps=500).warmup == 500
    assert replace(CONFIG, steps=60, warmup_steps=100).warmup == 30
    assert replace(CONFIG, steps=60, warmup_steps=100).as_row()["warmup_steps"] == 30


def test_an_average_that_looks_back_over_nothing_is_the_newest_network():
    trainer = make(replace(CONFIG, ema_power=math.inf))
    list(trainer)
    assert torch.equal(weights(trainer.ema), weights(trainer.network))
    assert trainer.config.as_row()["ema_power"] is None
    with pytest.raises(UserError, match="ema_power must be larger than 0"):
        replace(CONFIG, ema_power=0.0)


@pytest.mark.parametrize("settings", [{"timesteps": "importance"}, {"group_sizes": "expected"}])
@pytest.mark.parametrize("method", METHODS)
def test_the_other_estimators_train_resume_and_take_pieces_too(tmp_path, method, settings):
    config = replace(CONFIG, method=method, beta=0.7, steps=45 if "timesteps" in settings else 4, **settings)
    whole, pieces, broken = make(config), make(replace(config, pieces=3)), make(config, tmp_path, save_every=0.0)
    list(whole), list(pieces)
    torch.testing.assert_close(weights(whole.network), weights(pieces.network), atol=5e-3, rtol=1e-2)
    for record in broken:
        if record.step == config.steps - 2:
            break
    resumed = make(config, tmp_path)
    assert resumed.step == config.steps - 2
    list(resumed)
    assert torch.equal(weights(whole.network), weights(resumed.network))
    assert torch.equal(whole.importance.squares, resumed.importance.squares)
    assert (whole.importance.updates > 0) == ("timesteps" in settings)


def test_a_method_without_a_clamp_looks_at_each_image_once(monkeypatch):
    """And nnpu in one piece too: its branch is decided between forward and backward."""
    seen = []
    real = training.ell
    monkeypatch.setattr(training, "ell", lambda network, x, *rest: seen.append(len(x)) or real(network, x, *rest))
    for method, pieces, images in (("supervised", 2, 16), ("upu", 2, 16), ("nnpu", 1, 16), ("nnpu", 2, 32)):
        trainer = make(replace(CONFIG, method=method, pieces=pieces, steps=1))
        seen.clear()
        list(trainer)
        assert sum(seen) == images, method


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("beta", 0.0, r"inside \(0, 1\)"),
        ("beta", 1.0, r"inside \(0, 1\)"),
        ("beta", -0.1, r"inside \(0, 1\)"),
        ("method", "pu", "known: unsupervised, supervised, pn, upu, nnpu, abspu, pnu"),
        ("stream", "one", "known: pooled, two"),
        ("optimiser", "sgd", "known: adamw, muon"),
        ("steps", -1, r"steps must be 0 \(only draw from what is trained already\) or more; got -1"),
        ("learning_rate", 0.0, "larger than 0"),
        ("grad_clip", -1.0, "grad_clip must be larger than 0"),  # it would go uphill
        ("grad_clip", math.nan, "grad_clip must be larger than 0"),
        ("warmup_steps", -5, "warmup_steps must be 0 or more; got -5"),
        ("pieces", 17, "a batch of 16 cannot be cut into 17 pieces"),
        ("mixed_precision", "fp8", "known: no, bf16, fp16"),
        ("gradient_checkpointing", 2, "known: 0, 1"),
        ("s_per_batch", 16, r"between 0 and batch_size \(16\); got 16"),
    ],
)
def test_values_out_of_range_are_refused(field, value, says):
    with pytest.raises(UserError, match=says):
        replace(CONFIG, **{"stream": "two", field: value})


def test_too_few_images_for_a_batch():
    with pytest.raises(UserError, match="a batch of 64 needs as many images; U and S hold 60"):
        make(replace(CONFIG, batch_size=64))


def test_no_steps_leave_the_given_weights(tmp_path):
    trainer = make(replace(CONFIG, steps=0), tmp_path)
    assert list(trainer) == []
    assert torch.equal(weights(trainer.ema), weights(trainer.network))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("method", [m for m in METHODS if m != "unsupervised"])
def test_only_the_unsupervised_method_trains_without_s(method):
    trainer = make()
    split = replace(trainer.split, s=torch.zeros(0, dtype=torch.long))
    images = torch.zeros(60, 1, 8, 8, dtype=torch.uint8)

    def without_s(**settings):
        return Trainer(TinyNet(), trainer.process, images, split, replace(CONFIG, **settings))

    with pytest.raises(UserError, match="S is empty, and only the method unsupervised"):
        without_s(method=method)
    with pytest.raises(UserError, match="S is empty, and only the method unsupervised"):
        without_s(method="unsupervised", stream="two")
    assert len(list(without_s(method="unsupervised"))) == CONFIG.steps


# Memory: gradient checkpointing, accumulation, mixed precision


@pytest.mark.parametrize("precision", ["no", "bf16"])
@pytest.mark.parametrize("pieces", [1, 3])
def test_gradient_checkpointing_changes_no_gradient(precision, pieces):
    config = replace(CONFIG, mixed_precision=precision, pieces=pieces)
    plain = gradients(make(config, network=small_unet))
    trainer = make(replace(config, gradient_checkpointing=1), network=small_unet)
    assert trainer.network.is_gradient_checkpointing
    again = gradients(trainer)
    assert (plain - again).norm() <= 1e-6 * plain.norm()


def test_a_compiled_network_is_what_trains_and_changes_no_gradient(monkeypatch):
    """Traced, by a backend that needs no compiler; what is kept and averaged is the network itself."""
    compiled = []
    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda net: compiled.append(net) or real(net, backend="eager"))
    config = replace(CONFIG, steps=2)
    plain, traced = make(config), make(replace(config, compile=1))
    assert compiled == [traced.network]
    for one, other in zip(plain, traced, strict=True):
        assert other.value == pytest.approx(one.value, rel=1e-5)
    assert plain.network.state_dict().keys() == traced.network.state_dict().keys()
    for one, other in zip(plain.ema.parameters(), traced.ema.parameters(), strict=True):
        torch.testing.assert_close(other, one)


def test_a_network_without_gradient_checkpointing_is_named():
    with pytest.raises(UserError, match="LiteUNet has no gradient checkpointing"):
        make(replace(CONFIG, gradient_checkpointing=1), network=lambda: make_network("lite", 1, 8))


@pytest.mark.parametrize("method", ["nnpu", "unsupervised"])
def test_pieces_of_one_image_give_the_gradient_of_the_whole(method):
    """Some of these pieces hold no image of U. beta is so large that the clamp decides."""
    config = replace(CONFIG, method=method, beta=0.9)
    whole = gradients(make(config, network=small_unet))
    cut = gradients(make(replace(config, pieces=config.batch_size), network=small_unet))
    assert (whole - cut).norm() <= 1e-5 * whole.norm()


@pytest.mark.parametrize("method", ["nnpu", "supervised"])
def test_pieces_in_half_precision(method):
    """bfloat16 keeps 8 bits: the two agree to that, and the first step is the right one within it."""
    config = replace(CONFIG, method=method, beta=0.9, mixed_precision="bf16")
    exact = gradients(make(replace(config, mixed_precision="no"), network=small_unet))
    whole = gradients(make(config, network=small_unet))
    cut = gradients(make(replace(config, pieces=3), network=small_unet))
    assert 1e-4 * exact.norm() < (whole - exact).norm() < 0.05 * exact.norm()  # it was half precision, and no more
    assert (whole - cut).norm() < 0.05 * exact.norm()


def test_a_network_trained_in_half_precision_draws_in_full():
    trainer = make(replace(CONFIG, steps=1, mixed_precision="bf16"), network=small_unet)
    list(trainer)
    x, t = torch.randn(2, 1, 8, 8), torch.tensor([5, 900])
    plain = small_unet().eval()
    plain.load_state_dict(trainer.ema.state_dict())
    with torch.no_grad():
        drawn = trainer.ema(x, t).sample
        assert (drawn - plain(x, t).sample).norm() < 1e-5 * drawn.norm()  # half precision is a hundred times coarser


def test_fp16_needs_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="mixed_precision fp16 needs a GPU: take bf16 or no"):
        make(replace(CONFIG, mixed_precision="fp16"))


@pytest.mark.parametrize("optimiser", ["muon", "adamw"])
def test_a_scaled_loss_trains_like_the_loss(optimiser):
    """The scaler of fp16: every gradient is unscaled once, whatever the number of optimisers and the clipping."""
    config = replace(CONFIG, optimiser=optimiser, grad_clip=1.0, steps=4)
    plain, scaled = make(config), make(config)
    scaled.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=1)  # doubles every step
    list(plain), list(scaled)
    assert scaled.accelerator.scaler.get_scale() == 1024 * 2**4
    torch.testing.assert_close(weights(plain.network), weights(scaled.network), atol=1e-5, rtol=1e-5)


def test_images_lie_on_the_device_where_they_take_a_twentieth_of_its_free_memory(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (3000, 10_000))
    gpu, cpu = torch.device("cuda"), torch.device("cpu")
    assert (place_for(150, gpu), place_for(151, gpu), place_for(151, cpu)) == (gpu, cpu, cpu)


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    """What two real processes of one group wrote: a folder of result_METHOD_RANK.pt."""
    folder = tmp_path_factory.mktemp("processes")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    script = Path(__file__).parent / "processes.py"
    group = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true"}
    running = [
        subprocess.Popen(
            [sys.executable, str(script), str(folder), *SHARED],
            env=os.environ | group | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
        )
        for rank in range(2)
    ]
    outputs = [process.communicate(timeout=240)[1].decode() for process in running]
    assert [process.returncode for process in running] == [0, 0], outputs
    return folder


SHARED = ("nnpu", "supervised", "unsupervised")


def test_the_clamp_of_two_processes_would_fire_on_one_of_them_alone():
    """So it is a case for the test below: in some step L_U - beta L_S has another sign in one half of the batch."""
    trainer = make(replace(CONFIG, method="nnpu", beta=0.7, steps=4))
    apart = []
    while trainer.step < 4:
        batch, at, eps, _ = trainer.drawn(trainer.step)
        t, w = trainer._timesteps(at)
        halves = [torch.arange(rank, CONFIG.batch_size, 2) for rank in range(2)]
        with torch.no_grad():
            shares = [
                trainer._normal_risk(batch, rows, trainer._ell(batch, t, eps, rows), w, trainer.groups.sizes(batch))
                for rows in halves
            ]
        apart.append(bool((shares[0] < 0) != (shares[1] < 0)))
        next(iter(trainer))
    assert any(apart)


@pytest.mark.slow
@pytest.mark.parametrize("method", SHARED)
def test_two_processes_train_like_one(two_processes, method):
    """Algorithm 1's branch is decided for the batch of both, and the two shares of the gradient add up: in two pieces
    each, and though the run was broken off after two steps and resumed. Only the main process writes."""
    config = replace(CONFIG, method=method, beta=0.7, steps=4, pieces=2)
    first, one = gradients(make(config)), make(config)
    list(one)
    for rank in range(2):
        two = torch.load(two_processes / f"result_{method}_{rank}.pt", weights_only=True)
        assert (two["processes"], two["resumed_at"], two["writes"]) == (2, 2, rank == 0)
        assert (two["gradients"] - first).norm() < 1e-5 * first.norm()  # AdamW and Muon would forgive a factor
        torch.testing.assert_close(two["weights"], weights(one.network), atol=2e-4, rtol=1e-3)
        torch.testing.assert_close(two["ema"], weights(one.ema), atol=2e-4, rtol=1e-3)
        assert two["log"].keys() == one.log.keys()
        for name in one.log:
            ours, log = torch.tensor(one.log[name]), torch.tensor(two["log"][name])
            torch.testing.assert_close(log, ours, atol=1e-3, rtol=1e-3)


def test_a_run_goes_on_with_as_many_threads_as_it_began(tmp_path):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        list(make(CONFIG, tmp_path))
        torch.set_num_threads(1)
        trainer = make(CONFIG, tmp_path)
        assert torch.get_num_threads() == 2
        assert trainer.notes == ["training goes on with 2 CPU threads, as it began"]
    finally:
        torch.set_num_threads(before)
