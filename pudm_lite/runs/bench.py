"""What this machine does with the lite and the paper's network, as shares of its matrix-multiply peak."""

import time
from collections.abc import Callable
from typing import Any

import torch

from ..networks import RECIPES, make_network
from ..risks import METHODS
from ..sampling import images_at_once, sample
from .experiments import experiment, make_trainer, material, start_network


def _time(action: Callable[[], object], seconds: float) -> float:
    """Seconds of one call, after one to warm up."""

    def finish() -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    action()
    finish()
    calls, started = 0, time.perf_counter()
    while calls < 2 or time.perf_counter() - started < seconds:
        action()
        calls += 1
    finish()
    return (time.perf_counter() - started) / calls


def matmul_peak(seconds: float, n: int = 1024) -> float:
    """GFLOP/s of a float32 matrix product of n x n, on the GPU where there is one."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    a, b = torch.randn(2, n, n, device=device)
    return 2 * n**3 / _time(lambda: a @ b, seconds) / 1e9


def forward_gflop(name: str, configuration: str = "mnist-even") -> float:
    """GFLOP of one forward pass on one image of a configuration, a multiplication and an addition counting two.

    Counted on shapes alone: nothing is computed. Raises UserError for unknown names.
    """
    from torch.utils.flop_counter import FlopCounterMode

    recipe = experiment(configuration, network=name).recipe
    with torch.device("meta"), FlopCounterMode(display=False) as counter, torch.no_grad():
        network = make_network(name, recipe.channels, recipe.image_size)
        network(torch.zeros(1, recipe.channels, recipe.image_size, recipe.image_size), torch.zeros(1, dtype=torch.long))
    return counter.get_total_flops() / 1e9


def training_step(name: str, method: str, seconds: float) -> tuple[int, float, float]:
    """Batch size, seconds and GFLOP/s of a training step, which counts as three forward passes.

    The paper's network needs a GPU: on a CPU a batch of 4 stands for its 128.
    """
    small: dict[str, Any] = {"batch_size": 4} if name == "paper" and not torch.cuda.is_available() else {}
    exp = experiment(method=method, network=name, steps=10**6, **small)
    steps = iter(make_trainer(exp, material(exp), None))
    spent = _time(lambda: next(steps), seconds)
    images = exp.train.batch_size * (27_500 / 30_000 if method == "unsupervised" else 1)  # it skips those of S
    return exp.train.batch_size, spent, 3 * forward_gflop(name) * images / spent


def images_per_second(name: str, seconds: float) -> float:
    """Images drawn in a second with the network's own sampler and number of steps."""
    recipe = RECIPES[name]
    network, process = start_network(experiment(network=name))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network.to(device, memory_format=torch.channels_last).eval()
    shape = (recipe.channels, recipe.image_size, recipe.image_size)
    n = 4 if name == "paper" and device == "cpu" else images_at_once(shape)
    steps = 2  # one step costs what another does

    def draw() -> None:
        list(sample(lambda x, t: network(x, t).sample, process, shape, n, "ddim", steps, device=device))

    return n / (_time(draw, seconds) / steps * recipe.sampler_steps)


def bench(networks: list[str], seconds: float = 2.0, threads: int | None = None) -> None:
    """Print peak, training step of each method and network, and sampling speed.

    Raises UserError for an unknown network.
    """
    if threads:
        torch.set_num_threads(threads)
    peak = matmul_peak(seconds)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"cpu, {torch.get_num_threads()} threads"
    print(f"{device}; matrix multiply, float32: {peak:.0f} GFLOP/s\n")
    print(f"{'network':8s} {'method':13s} {'batch':>5s} {'ms/step':>8s} {'GFLOP/s':>8s} {'of peak':>8s}")
    for name in networks:
        for method in METHODS:
            batch, spent, speed = training_step(name, method, seconds)
            print(f"{name:8s} {method:13s} {batch:5d} {1e3 * spent:8.1f} {speed:8.1f} {speed / peak:8.1%}")
    print(f"\n{'network':8s} {'sampler':8s} {'steps':>5s} {'images/s':>9s}")
    for name in networks:
        recipe, speed = RECIPES[name], images_per_second(name, seconds)
        print(f"{name:8s} {recipe.sampler:8s} {recipe.sampler_steps:5d} {speed:9.2f}")
