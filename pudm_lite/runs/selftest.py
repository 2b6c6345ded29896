"""Whether this machine computes what it should: short trainings on made-up images, sampling, judging, memory, speed.

A check returns what it found, or raises `Wrong` where that is not as it should be and `NotHere` where the machine
cannot do it. `run_check` makes a finding of either.
"""

import json
import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ..files import write_whole
from ..measures.judge import mnist_judge
from ..networks import make_network, make_process
from ..recipes import RECIPES
from ..risks import METHODS
from ..sampling import draw, half_precision
from ..settings import PRECISIONS, TrainConfig
from ..splits import Split
from ..training import Trainer
from .experiments import experiment
from .machine import forget_peak_memory, machine, peak_memory_mb
from .memory import training_memory

CONFIG = TrainConfig(steps=5, batch_size=16, warmup_steps=1, beta=0.7)
"""Of the short trainings. beta is so large that the clamp of Algorithm 1 has something to decide."""


class Wrong(Exception):
    """What a check found, where it should have found something else."""


class NotHere(Exception):
    """Why this machine cannot do a check."""


def gpu() -> torch.device:
    """The GPU. Raises NotHere where there is none."""
    if not torch.cuda.is_available():
        raise NotHere("no GPU")
    return torch.device("cuda", torch.cuda.current_device())


def trainer(config: TrainConfig, network: str = "lite", size: int = 16, folder: Path | None = None) -> Trainer:
    """A training on made-up images, the same in every call."""
    recipe = RECIPES[network]
    shape = (recipe.channels, size, size)
    draws = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (4 * config.batch_size, *shape), generator=draws, dtype=torch.uint8)
    u = torch.arange(3 * config.batch_size)
    s = torch.arange(len(u), len(images))
    split = Split(u, torch.arange(len(u)) % 8 == 0, s, torch.arange(1, 8), torch.arange(2))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = make_network(network, recipe.channels, size)
    return Trainer(
        made, make_process(recipe), images, split, replace(config, ell_scale=float(math.prod(shape))), folder
    )


def values(run: Trainer) -> list[float]:
    """The risk of every step. Raises Wrong where one is not a finite number."""
    found = [record.value for record in run]
    if not all(map(math.isfinite, found)):
        raise Wrong(f"risks {found}")
    return found


def agree(what: str, ours: list[float], theirs: list[float], within: float) -> str:
    """How far two lists of numbers are apart, relative to the second. Raises Wrong where that is more than `within`."""
    apart = max(abs(a - b) / max(abs(b), 1e-12) for a, b in zip(ours, theirs, strict=True))
    says = f"{what}: {apart:.1e} apart"
    if not apart <= within:
        raise Wrong(f"{says}; at most {within:.0e}")
    return says


def methods_train(precision: str) -> str:
    """Five steps of every method."""
    if precision == "fp16":
        gpu()
    for method in METHODS:
        try:
            values(trainer(replace(CONFIG, method=method, mixed_precision=precision)))
        except Exception as error:
            raise Wrong(f"{method}: {error}") from error
    return f"{CONFIG.steps} steps of {', '.join(METHODS)}"


def resuming_changes_nothing() -> str:
    """A training that is broken off and gone on with, beside an unbroken one."""
    whole = values(trainer(CONFIG))
    with tempfile.TemporaryDirectory() as folder:
        first = trainer(CONFIG, folder=Path(folder))
        first.save_every = 0.0
        for record in first:
            if record.step == 2:
                break
        rest = trainer(CONFIG, folder=Path(folder))
        if rest.step != 2:
            raise Wrong(f"it went on from step {rest.step}, not 2")
        return agree("risks after resuming", values(rest), whole[2:], 1e-3)


def pieces_change_nothing() -> str:
    """A batch in three pieces, beside the whole: the later risks see the gradients of the earlier steps."""
    whole, cut = (values(trainer(replace(CONFIG, pieces=pieces))) for pieces in (1, 3))
    return agree("risks in three pieces", cut, whole, 1e-2)


def two_gpus_train_like_one() -> str:
    """A run by `accelerate launch`, beside one process."""
    from .launch import launch
    from .parallel import run_and_keep

    gpu()
    if torch.cuda.device_count() < 2:
        raise NotHere("one GPU")
    exp = experiment("mnist-even", steps=5, n_samples=8, sampler_steps=2)
    logs = []
    for job in (partial(launch, processes=2), run_and_keep):
        with tempfile.TemporaryDirectory() as root:
            folder = Path(root) / "runs" / exp.name
            job(exp, folder, lambda what, value: None)
            logs.append([value for _, value in json.loads((folder / "log.json").read_text())["value"]])
    two, one = logs
    return agree("risks of two GPUs", two, one, 1e-2)


def pictures_are_the_cpus() -> str:
    """The same images drawn on the GPU and, in float32, on the CPU."""
    gpu()
    network, process = trainer(CONFIG).ema, make_process(RECIPES["lite"])
    torch.nn.init.normal_(network.out.weight, std=0.05)
    precision = half_precision(next(network.parameters()).device)
    here = draw(network, process, 8, "ddpm", 10).float()
    there = draw(network.cpu(), process, 8, "ddpm", 10).float()
    apart = float((here - there).abs().mean())
    if not apart < 4:
        raise Wrong(f"pixels {apart:.1f} of 255 apart on average; at most 4")
    return f"precision {precision}: pixels {apart:.2f} of 255 apart"


def the_judge_sees_digits() -> str:
    """The digit judge on 500 real test images, on the device."""
    from ..datasets import source

    judge = mnist_judge()
    test = source("mnist", train=False)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    judge.network.to(device)
    try:
        called = judge.look(test.read(torch.arange(500), 28, 1)).classes
    finally:
        judge.network.cpu()
    right = float((called == test.labels[:500]).double().mean())
    if right < 0.97:
        raise Wrong(f"{right:.1%} of 500 digits right")
    return f"{right:.1%} of 500 digits right"


def memory_is_as_counted() -> str:
    """The peak of a training of the paper's network at CIFAR10's size, beside `training_memory`."""
    gpu()
    config = replace(CONFIG, batch_size=64, optimiser="adamw")
    run = trainer(config, "paper", 32)
    forget_peak_memory()
    values(run)
    counted = training_memory(make_network("paper", 3, 32), (3, 32, 32), 64).total / 2**20
    says = f"{peak_memory_mb():,.0f} MiB; counted {counted:,.0f}"
    if not 0.75 < peak_memory_mb() / counted < 1.25:
        raise Wrong(f"{says}: more than a quarter apart")
    return says


def speed() -> str:
    """Images a second in training, and on a GPU the share of the time in which it waits for the host.

    The paper's network at CIFAR10's size on a GPU, in its half precision; the lite one on a CPU.
    """
    on_gpu = torch.cuda.is_available()
    device = torch.device("cuda" if on_gpu else "cpu")
    config = replace(CONFIG, steps=40 if on_gpu else 12, batch_size=128 if on_gpu else 64)
    config = replace(config, mixed_precision=half_precision(device))
    steps = iter(trainer(config, "paper" if on_gpu else "lite", 32 if on_gpu else 28))
    for _ in range(3):  # to warm up
        next(steps)
    if not on_gpu:
        started = time.perf_counter()
        images = sum(config.batch_size for _ in steps)
        return f"lite, 28 x 28: {images / (time.perf_counter() - started):,.0f} images/s"
    from torch.profiler import ProfilerActivity, profile

    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        started = time.perf_counter()
        images = sum(config.batch_size for _ in steps)
        torch.cuda.synchronize()
        spent = time.perf_counter() - started
    busy = sum(event.self_device_time_total for event in profiler.key_averages()) / 1e6
    waiting = max(0.0, 1 - busy / spent)
    return f"paper, 32 x 32, {config.mixed_precision}: {images / spent:,.0f} images/s; waits {waiting:.1%} for the host"


def sampling_speed() -> str:
    """Images a second and step of DDPM, by the network that `speed` trains."""
    on_gpu = torch.cuda.is_available()
    name, size, n = ("paper", 32, 250) if on_gpu else ("lite", 28, 64)
    network = make_network(name, RECIPES[name].channels, size).eval().to("cuda" if on_gpu else "cpu")
    process = make_process(RECIPES[name])
    draw(network, process, n, "ddpm", 2)
    started = time.perf_counter()
    draw(network, process, n, "ddpm", 10)
    rate = 10 * n / (time.perf_counter() - started)
    return f"{name}, {size} x {size}: {rate:,.0f} image steps/s; {rate / 1000:,.2f} images/s in 1,000 steps"


CHECKS: dict[str, Callable[[], str]] = {
    **{f"training, {precision}": partial(methods_train, precision) for precision in PRECISIONS},
    "resuming": resuming_changes_nothing,
    "pieces": pieces_change_nothing,
    "two GPUs": two_gpus_train_like_one,
    "sampling": pictures_are_the_cpus,
    "judge": the_judge_sees_digits,
    "memory": memory_is_as_counted,
    "training speed": speed,
    "sampling speed": sampling_speed,
}


@dataclass(frozen=True)
class Finding:
    """What became of a check. result: `ok`, `wrong` or `not here`; says: one line."""

    check: str
    result: str
    says: str
    seconds: float


def run_check(name: str, check: Callable[[], str]) -> Finding:
    """Do a check. Whatever becomes of it is a finding: a check is there to find what nobody thought of."""
    started = time.monotonic()
    try:
        result, says = "ok", check()
    except NotHere as why:
        result, says = "not here", str(why)
    except Wrong as why:
        result, says = "wrong", str(why)
    except Exception as error:
        result, says = "wrong", f"{type(error).__name__}: {error}"
    return Finding(name, result, (says.splitlines() or [""])[0][:300], round(time.monotonic() - started, 1))


def table(findings: list[Finding]) -> str:
    """The device and its findings as Markdown, to be pasted."""
    here = machine()
    versions = ", ".join(f"{name} {version}" for name, version in here["versions"].items())
    head = [f"**{here['device']}**, {here['threads']} threads; {versions}", ""]
    rows = [("check", "result", "found", "seconds"), ("---",) * 4]
    rows += [(f.check, f.result, f.says.replace("|", "\\|"), f"{f.seconds:.1f}") for f in findings]
    return "\n".join([*head, *("| " + " | ".join(row) + " |" for row in rows)])


def write_findings(findings: list[Finding], path: Path) -> None:
    """The device and its findings as JSON."""
    state: dict[str, Any] = {**machine(), "checks": [asdict(finding) for finding in findings]}
    write_whole(path, lambda temporary: temporary.write_text(json.dumps(state, indent=1) + "\n"))
