"""What the package does on a GPU, shown on one that is made up: nothing is left on the wrong side, and who waits.

tests/make_believe.py says what that device refuses and counts.
"""

from dataclasses import replace

import matplotlib
import numpy as np
import pytest
import torch
from groups import together
from make_believe import GPU, OnDevice, device
from test_notebooks import MASTERS, build
from test_training import CONFIG, make
from torch import nn

from pudm_lite.course.labs import Lab, Plan
from pudm_lite.errors import UserError
from pudm_lite.measures.judge import mnist_judge
from pudm_lite.networks import make_network, make_process
from pudm_lite.recipes import RECIPES
from pudm_lite.risks import METHODS
from pudm_lite.runs import running
from pudm_lite.runs.experiments import experiment
from pudm_lite.runs.memory import HEADROOM
from pudm_lite.runs.running import run
from pudm_lite.runs.shipped import trained
from pudm_lite.sampling import SAMPLERS, draw, half_precision
from pudm_lite.training import place_for

HAND_OVER = [m for m in MASTERS if m.stem[:2] in ("02", "08")]  # two of those that hand tensors to networks
TINY = {"steps": 2, "batch_size": 8, "n_samples": 4, "sampler_steps": 2}


@pytest.fixture
def waits():
    with device() as waits:
        yield waits


# The device itself


@pytest.mark.parametrize(
    "mixed",
    [
        lambda here, there: here + there,
        lambda here, there: there * here,
        lambda here, there: torch.cat([there, here]),
        lambda here, there: nn.functional.linear(there, here),
        lambda here, there: torch.where(there > 0, there, here),
        lambda here, there: here[there > 0],
        lambda here, there: there.add_(here),
        lambda here, there: nn.Linear(3, 3).to(GPU)(here),
        lambda here, there: nn.Linear(3, 3)(there),
        lambda here, there: torch.randn(3, device=GPU, generator=torch.Generator()),
        lambda here, there: there.normal_(generator=torch.Generator()),
    ],
)
def test_it_refuses_to_mix_devices(waits, mixed):
    with pytest.raises(RuntimeError, match=r"same device|device type for generator"):
        mixed(torch.ones(3, 3), torch.ones(3, 3).to(GPU))


def test_numbers_may_mix_and_copies_cross(waits):
    x = torch.ones(2, 2).to("cuda")
    assert (x.device, x.is_cuda, (x * torch.tensor(3.0)).device) == (GPU, True, GPU)
    assert torch.zeros(3, device="cuda").device == torch.zeros_like(x).device == x[:, 0].device == GPU
    host = torch.zeros(2, 2)
    host[:] = x
    assert host.sum() == 4
    assert type(host) is type(x.cpu()) is torch.Tensor
    for convert in (np.asarray, OnDevice.numpy):
        with pytest.raises(TypeError, match="can't convert cuda"):
            convert(x)
    layer = nn.Linear(2, 2).to(GPU)
    layer(x).sum().backward()
    assert layer.weight.grad.device == GPU
    assert isinstance(next(layer.cpu().parameters()), nn.Parameter)
    assert next(layer.parameters()).device.type == "cpu"


def test_it_counts_who_waits(waits):
    x = torch.arange(4.0).to("cuda")
    assert dict(waits) == {"upload": 1}
    torch.arange(4.0).pin_memory().to("cuda", non_blocking=True)
    y = (x * 2 + 1).sqrt().sum()
    assert waits.total() == 1
    _ = y.item(), x.tolist(), float(y), bool(y > 0), x.cpu(), x[x > 1], x[torch.tensor([0])]
    assert waits.total() == 8


# What the package does on it


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_on_it(waits, method):
    trainer = make(replace(CONFIG, method=method, steps=2))
    assert len(list(trainer)) == 2
    assert {p.device for p in [*trainer.network.parameters(), *trainer.ema.parameters()]} == {GPU}


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_trains_on_it_and_resumes(waits, precision, tmp_path):
    config = replace(CONFIG, steps=4, mixed_precision=precision)
    for record in make(config, tmp_path, save_every=0.0):
        if record.step == 2:
            break
    resumed = make(config, tmp_path)
    assert resumed.step == 2
    assert [record.step for record in resumed] == [3, 4]


@pytest.fixture
def model():
    return make_network("lite", 1, 8).eval().to("cuda"), make_process(RECIPES["lite"])


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_sampler_waits_for_a_batch_and_for_no_step(waits, model, sampler):
    counts = []
    for steps in (3, 9):
        waits.clear()
        assert type(draw(*model, 4, sampler, steps)) is torch.Tensor
        counts.append(waits.total())
    assert counts[0] == counts[1] <= 4, dict(waits)


def test_pictures_are_those_of_the_cpu(waits, model):
    network, process = model
    torch.nn.init.normal_(network.out.weight, std=0.1)
    there = draw(network, process, 4, "ddpm", 5).float()
    here = draw(network.cpu(), process, 4, "ddpm", 5).float()
    assert (there - here).abs().mean() < 2  # of 255: bf16 keeps 8 bits
    assert not torch.equal(there, here)  # and it was bf16


def test_half_precision_is_what_the_device_is_quickest_in(waits, monkeypatch):
    assert half_precision(GPU) == "bf16"
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (7, 5))  # a T4
    assert half_precision(GPU) == "fp16"
    assert half_precision(torch.device("cpu")) == "no"


def test_a_judge_on_it_gives_its_verdicts_to_the_host(waits):
    judge = mnist_judge()
    images = torch.randint(0, 256, (6, 1, 28, 28), dtype=torch.uint8)
    here = judge.look(images)
    try:
        judge.network.to("cuda")
        there = judge.look(images)
    finally:
        judge.network.cpu()
    assert type(there.classes) is type(there.features) is torch.Tensor
    torch.testing.assert_close(there.features, here.features)
    assert judge.is_normal(there, ("0", "2")).shape == (6,)


@pytest.mark.slow
def test_a_whole_run_and_what_the_notebooks_do_with_it(waits, tmp_path, monkeypatch):
    """A run to its row; a lab's run; a trained network drawn from, as notebooks 00 and 04 do, of all kinds."""
    monkeypatch.setenv("PUDM_MODE", "fast")
    exp, forgot, strips = experiment(**TINY), [], []
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: forgot.append(1))
    monkeypatch.setattr(running, "write_strip", lambda images, path: strips.append(images))
    row = run(exp, tmp_path / "run")
    assert forgot == [1]  # or the peak would be that of a run before it
    assert len(strips) == 2
    assert (row["device"], row["sample_precision"], row["n_samples"]) == ("make-believe", "bf16", 4)
    found = trained(exp, tmp_path / "trained")
    assert next(found.network.parameters()).device == GPU
    assert draw(found.network, found.process, 3, **exp.sampling).shape == (3, 1, 28, 28)
    plan = Plan("standin-32", methods=("pnu",), training={"steps": 1, "batch_size": 8}, sampling={"n_samples": 4})
    done = Lab(replace(plan, sampling={"n_samples": 4, "sampler_steps": 2}), tmp_path, "", "fast").run("pnu")
    assert done.images.shape == (4, 3, 32, 32)
    monkeypatch.setenv("PUDM_MODE", "lab")
    shipped = trained(experiment("mnist-even", "nnpu"), tmp_path / "none")  # opened, not trained
    assert next(shipped.network.parameters()).device == GPU


@pytest.mark.slow
@pytest.mark.parametrize("master", HAND_OVER, ids=lambda m: m.stem)
def test_a_notebook_runs_on_it(waits, master, monkeypatch):
    """Those that hand tensors to networks themselves, in fast mode."""
    monkeypatch.setenv("PUDM_MODE", "fast")
    monkeypatch.chdir(master.parent.parent)
    names = {"__name__": "__main__"}
    with matplotlib.rc_context({"backend": "agg"}):
        for cell in build.notebook(master, student=False).cells:
            if cell.cell_type == "code" and "%pip" not in cell.source:
                lines = [line for line in cell.source.splitlines() if not line.startswith("%")]
                exec(compile("\n".join(lines), f"{master.stem}, {cell.id}", "exec"), names)


@pytest.mark.parametrize("where", ["training", "drawing"])
def test_memory_that_runs_out_is_a_sentence_that_helps(waits, tmp_path, monkeypatch, where):
    class Full:
        step, process = 0, None

        def __init__(self, *_):
            self.accelerator = type("", (), {"is_main_process": True, "process_index": 0, "num_processes": 1})
            self.ema, self.notes = make_network("lite"), []

        def __iter__(self):
            if where == "training":
                raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate")
            return iter(())

    def full(*_, **__):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate")

    monkeypatch.setattr(running, "make_trainer", Full)
    monkeypatch.setattr(running, "save_pipeline", lambda *_: None)
    monkeypatch.setattr(running, "draw_share", full)
    says = {
        "training": "ran out while training on 44 images a step in 2 pieces: --set a larger pieces, "
        "gradient_checkpointing=1 or a smaller batch_size",
        "drawing": "ran out while images were drawn: end what else holds some of it",
    }[where]
    with pytest.raises(UserError, match=says):
        run(experiment(pieces=2), tmp_path)


def test_images_on_it_fit_what_the_memory_arithmetic_leaves_them():
    """A third of HEADROOM, which is also for the context, workspaces and fragments."""
    with device(memory=15 * 2**30):
        room = int(HEADROOM / 3 * 15 * 2**30)
        assert (place_for(room, GPU), place_for(room + 1, GPU)) == (GPU, torch.device("cpu"))


@pytest.mark.parametrize("timesteps", ["stratified", "importance"])
@pytest.mark.parametrize("method", ["unsupervised", "nnpu", "pn"])
def test_a_step_waits_once_and_the_last_for_the_clock(waits, method, timesteps):
    trainer = make(replace(CONFIG, method=method, timesteps=timesteps, steps=5))
    waits.clear()
    list(trainer)
    assert waits == {"tolist": 5, "synchronize": 1}


# Several processes


@pytest.mark.slow
@pytest.mark.parametrize(
    "method",
    [
        "unsupervised",
        "nnpu",
    ],
)
def test_processes_reduce_nothing_that_lies_on_the_host(tmp_path, method):
    together("sharing.py", "make-believe", tmp_path, method)
    assert len(list(tmp_path.glob("runs/*/row.json"))) == 1
