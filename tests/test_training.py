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
from torch import nn

from pudm_lite import training
from pudm_lite.diffusion import Process, noise_schedule
from pudm_lite.errors import UserError
from pudm_lite.risks import METHODS
from pudm_lite.splits import Split
from pudm_lite.training import TrainConfig, Trainer, learning_rate_factor

CONFIG = TrainConfig(steps=12, batch_size=16, seed=5, warmup_steps=1, ell_scale=64.0)


class TinyNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.out = nn.Conv2d(16, 1, 1)

    def forward(self, x, t):
        h = torch.tanh(self.conv1(x) + t.view(-1, 1, 1, 1) / 1000)
        return self.out(torch.tanh(self.conv2(h)))


def make(config=CONFIG, folder=None, identity=None, save_every=60.0):
    g = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (60, 1, 8, 8), generator=g, dtype=torch.uint8)
    split = Split(torch.arange(40), torch.arange(40) >= 30, torch.arange(40, 60), torch.arange(10), torch.arange(5))
    torch.manual_seed(2)
    network = TinyNet()
    return Trainer(network, Process(noise_schedule("cosine")), images, split, config, folder, identity, save_every)


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


def test_the_clamp_fires_in_the_test_above():
    trainer = make(replace(CONFIG, method="nnpu", beta=0.97))
    list(trainer)
    assert any(value for _, value in trainer.log["clamped"])


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


def test_a_diverging_loss_stops_with_one_sentence_and_keeps_the_checkpoint(tmp_path):
    trainer = make(CONFIG, tmp_path, save_every=0.0)
    steps = iter(trainer)
    next(steps)
    kept = trainer.checkpoint.read_bytes()
    with torch.no_grad():
        trainer.network.out.bias.fill_(math.nan)
    with pytest.raises(UserError, match=r"not a finite number at step 2: lower the learning rate"):
        next(steps)
    assert trainer.checkpoint.read_bytes() == kept


def test_checkpoint_of_another_experiment_is_refused_and_kept(tmp_path):
    list(make(CONFIG, tmp_path, {"network": "a"}))
    kept = (tmp_path / "checkpoint.pt").read_bytes()
    with pytest.raises(UserError, match=r"belongs to another experiment: network = 'a' \(now 'b'\)"):
        make(CONFIG, tmp_path, {"network": "b"})
    with pytest.raises(UserError, match=r"beta = 0.1 \(now 0.2\)"):
        make(replace(CONFIG, beta=0.2), tmp_path, {"network": "a"})
    assert (tmp_path / "checkpoint.pt").read_bytes() == kept


def test_unreadable_checkpoint_is_named(tmp_path):
    (tmp_path / "checkpoint.pt").write_bytes(b"no checkpoint")
    with pytest.raises(UserError, match="not a readable checkpoint"):
        make(CONFIG, tmp_path)


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("beta", 0.0, r"inside \(0, 1\)"),
        ("beta", 1.0, r"inside \(0, 1\)"),
        ("beta", -0.1, r"inside \(0, 1\)"),
        ("method", "pu", "known: unsupervised, supervised, pn, upu, nnpu, abspu, pnu"),
        ("stream", "one", "known: pooled, two"),
        ("optimiser", "sgd", "known: adamw, muon"),
        ("steps", 0, "larger than 0"),
        ("s_per_batch", 16, r"between 0 and batch_size \(16\); got 16"),
    ],
)
def test_values_out_of_range_are_refused(field, value, says):
    with pytest.raises(UserError, match=says):
        replace(CONFIG, **{"stream": "two", field: value})


def test_too_few_images_for_a_batch():
    with pytest.raises(UserError, match="a batch of 64 needs as many images; U and S hold 60"):
        make(replace(CONFIG, batch_size=64))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["nnpu", "supervised"])
def test_two_processes_train_like_one(tmp_path, method):
    """Algorithm 1's branch is decided for the batch of both, and the two shares of the gradient add up."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    script = Path(__file__).parent / "processes.py"
    group = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true"}
    running = [
        subprocess.Popen(
            [sys.executable, str(script), method, str(tmp_path / "result.pt")],
            env=os.environ | group | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
        )
        for rank in range(2)
    ]
    outputs = [process.communicate(timeout=120)[1].decode() for process in running]
    assert [process.returncode for process in running] == [0, 0], outputs
    two = torch.load(tmp_path / "result.pt", weights_only=True)
    assert two["processes"] == 2
    one = make(replace(CONFIG, method=method, beta=0.7, steps=4))
    list(one)
    torch.testing.assert_close(two["weights"], weights(one.network), atol=2e-4, rtol=1e-3)
    for name in one.log:
        torch.testing.assert_close(torch.tensor(two["log"][name]), torch.tensor(one.log[name]), atol=1e-3, rtol=1e-3)
