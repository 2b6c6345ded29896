"""What this machine does with a network: its peak, training steps, samplers and start-up, each timed in several rounds.

One timing on a busy machine says nothing. So everything is timed in turn, again and again: what else the machine does
then falls on all alike, and the best of the rounds is near what a quiet machine would do. Whether to believe it is said
by how far the others lie from it, and by the CPU seconds beside those of the clock.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..datasets import to_pixels
from ..errors import UserError
from ..networks import image_shape, make_network
from ..risks import METHODS
from ..sampling import SAMPLERS, sample
from .experiments import experiment
from .machine import machine
from .measuring import measures
from .running import make_trainer, material
from .shipped import shipped

MATRICES = {"cpu": (512, 1024, 2048), "cuda": (2048, 4096, 8192)}
"""Sizes of the products that look for the peak: which one is fastest differs from machine to machine."""

DOUBT = 0.1
"""Rounds that differ by more than this are warned of."""

MODEL = "models/mnist-even_nnpu_seed0.safetensors"
"""The network of data/ that the samplers draw from."""

FORWARD = "(forward)"
"""Stands where a method would in the row of a forward pass without gradients, as samplers make it."""

START_UP = {
    "pudm --help": ["-m", "pudm_lite.cli", "--help"],
    "imports of a run": ["-c", "import pudm_lite.runs.running"],
    "a run to its first step": [
        "-c",
        "from pudm_lite.runs import experiments as e, running as r; x = e.experiment(); "
        "next(iter(r.make_trainer(x, r.material(x), None)))",
    ],
}
"""What a new Python is given to do."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Timing:
    """Seconds of one call, a number for each round: on the clock, and on all processors together."""

    wall: list[float]
    cpu: list[float]

    @property
    def spread(self) -> float:
        """By how much of the best round the slowest was slower: 0.1 is a tenth."""
        return max(self.wall) / min(self.wall) - 1

    def as_row(self) -> Row:
        """The best of the rounds, their spread, and every one of them."""
        return {
            "seconds": min(self.wall),
            "cpu_seconds": min(self.cpu),
            "spread": self.spread,
            "wall_rounds": self.wall,
            "cpu_rounds": self.cpu,
        }


@dataclass(frozen=True)
class Work:
    """Something to time. what: words of its row. call: does it once. gflop: billions of operations in a call, where
    they are counted."""

    what: Row
    call: Callable[[], object]
    gflop: float = 0.0


def _cpu_seconds() -> float:
    """Of this process, all its threads, and the processes that it started and waited for."""
    times = os.times()
    return time.process_time() + times.children_user + times.children_system


def _finish() -> None:
    """Wait for what a GPU still has to do."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def timed(call: Callable[[], object], seconds: float) -> tuple[float, float]:
    """Wall and CPU seconds of one call, the mean of as many as fit into `seconds`, of one at least."""
    _finish()
    calls, cpu, started = 0, _cpu_seconds(), time.perf_counter()
    while calls == 0 or time.perf_counter() - started < seconds:
        call()
        calls += 1
    _finish()
    return (time.perf_counter() - started) / calls, (_cpu_seconds() - cpu) / calls


def rounds_of(works: list[Work], rounds: int, seconds: float) -> list[Row]:
    """Time all in turn, `rounds` times over, after one call each to warm up. Returns a row for each, in order."""
    timings = [Timing([], []) for _ in works]
    for work in works:
        work.call()
    for _ in range(rounds):
        for work, timing in zip(works, timings, strict=True):
            wall, cpu = timed(work.call, seconds)
            timing.wall.append(wall)
            timing.cpu.append(cpu)
    return [
        {**work.what, **timing.as_row(), **({"gflops": work.gflop / min(timing.wall)} if work.gflop else {})}
        for work, timing in zip(works, timings, strict=True)
    ]


def matrix_products() -> list[Work]:
    """Float32 products of two n x n matrices, on the GPU where there is one."""
    device = "cuda" if torch.cuda.is_available() else "cpu"

    def product(n: int) -> Work:
        a, b = torch.randn(2, n, n, device=device)
        return Work({"n": n}, lambda: a @ b, 2 * n**3 / 1e9)

    return [product(n) for n in MATRICES[device]]


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


def training_steps(name: str) -> list[Work]:
    """A training step of every method, three forward passes on each image that it learns from; and a forward pass.

    Batches are of two streams: all hold as many images of S as pooled ones do on average, so that no round is lucky.
    All methods train one network, as they differ only in what they make of its errors.
    The paper's network needs a GPU: on a CPU a batch of 12 stands for its 128.
    Raises UserError for an unknown network.
    """
    small: Row = {"batch_size": 12} if name == "paper" and not torch.cuda.is_available() else {}
    exp = experiment(network=name, steps=10**6, **small)
    data, size = material(exp), exp.train.batch_size
    n_u, n_s = len(data.split.u), len(data.split.s)
    of_s = max(1, round(size * n_s / (n_u + n_s)))
    exp = replace(exp, train=replace(exp.train, stream="two", s_per_batch=of_s))
    trainer, gflop = make_trainer(exp, data, None), forward_gflop(name)
    steps, device = iter(trainer), trainer.accelerator.device
    x = torch.randn(size, exp.recipe.channels, exp.recipe.image_size, exp.recipe.image_size, device=device)
    x = x.contiguous(memory_format=torch.channels_last)

    def step(method: str) -> None:
        trainer.config = replace(trainer.config, method=method)
        next(steps)

    @torch.no_grad()
    def forward() -> None:
        trainer.network(x, torch.zeros(size, dtype=torch.long, device=device))

    def work(method: str, call: Callable[[], object], images: int, passes: int) -> Work:
        what = {"network": name, "method": method, "batch": size, "images": images}
        return Work(what, call, passes * gflop * images)

    learnt = {method: size - of_s if method == "unsupervised" else size for method in METHODS}  # Eq. 9 leaves S out
    trained = [work(method, partial(step, method), images, 3) for method, images in learnt.items()]
    return [*trained, work(FORWARD, forward, size, 1)]


def compared(products: list[Row], steps: list[Row]) -> tuple[float, list[Row]]:
    """The peak in GFLOP/s, and the rows of steps with their share of it and their cost over the unsupervised step's.

    The peak is the most that this machine did in any round: mostly in a matrix product, and where a step did more, in
    that. So no share is above 1.
    """
    peak = max(row["gflops"] for row in [*products, *steps])
    plain = {row["network"]: row["seconds"] for row in steps if row["method"] == "unsupervised"}
    shares = [
        {**row, "share_of_peak": row["gflops"] / peak, "over_unsupervised": row["seconds"] / plain[row["network"]]}
        for row in steps
    ]
    return peak, shares


def samplers(n: int, rounds: int) -> list[Row]:
    """What each sampler draws in a second, at the recipe's steps and at half of them, and how far that is from real.

    A round draws a batch, and so does the warm-up: at least n images in all, from which distance and rate are measured,
    as in the row of a run; `n_samples` says how many.
    """
    model = shipped(MODEL)
    data = material(experiment(model.row["experiment"]))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = model.network.to(device, memory_format=torch.channels_last)
    batch, shape = -(-n // (rounds + 1)), image_shape(network)

    def draw(sampler: str, steps: int, drawn: list[Tensor]) -> None:
        parts = sample(
            lambda x, t: network(x, t).sample,
            model.process,
            shape,
            batch,
            sampler,
            steps,
            first=batch * len(drawn),
            device=device,
        )
        drawn.append(to_pixels(torch.cat(list(parts))))

    recipe_steps = model.row["sampler_steps"]
    kinds: list[tuple[str, int]] = [(name, steps) for name in SAMPLERS for steps in (recipe_steps, recipe_steps // 2)]
    images: list[list[Tensor]] = [[] for _ in kinds]
    rows = rounds_of(
        [
            Work({"sampler": name, "steps": steps, "batch": batch}, partial(draw, name, steps, drawn))
            for (name, steps), drawn in zip(kinds, images, strict=True)
        ],
        rounds,
        seconds=0,
    )
    return [
        {
            **row,
            "model": MODEL,
            "images_per_second": batch / row["seconds"],
            **measures(torch.cat(drawn), data, "judge").row,
        }
        for row, drawn in zip(rows, images, strict=True)
    ]


def start_up(rounds: int) -> list[Row]:
    """What passes before the first step: each of START_UP in a new Python with as many threads as this one."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}

    def work(name: str, arguments: list[str]) -> Work:
        command = [sys.executable, *arguments]
        start = partial(subprocess.run, command, env=environment, check=True, capture_output=True)
        return Work({"start": name}, start)

    return rounds_of([work(name, arguments) for name, arguments in START_UP.items()], rounds, seconds=0)


def bench(networks: list[str], rounds: int = 5, seconds: float = 0.5, n_samples: int = 600) -> Row:
    """Everything that `report` prints, as JSON can hold it: every round, the machine, and how busy it was before.

    seconds: of each measurement in a round. n_samples: images a sampler draws at least.
    Raises UserError for an unknown network, fewer than two rounds or images, and negative seconds.
    """
    if rounds < 2:
        raise UserError(f"--rounds must be at least 2, or nothing is known of their spread; got {rounds}")
    if not seconds >= 0:
        raise UserError(f"--seconds must be 0 (one call a round) or more; got {seconds:g}")
    if n_samples < 2:
        raise UserError(f"--n-samples must be at least 2 to measure a distance; got {n_samples}")
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None  # Windows has none
    products = matrix_products()
    rows = rounds_of([*products, *(work for name in networks for work in training_steps(name))], rounds, seconds)
    peak, steps = compared(rows[: len(products)], rows[len(products) :])
    return {
        **machine(),
        "load_before": load,
        "rounds": rounds,
        "seconds": seconds,
        "peak_gflops": peak,
        "products": rows[: len(products)],
        "steps": steps,
        "samplers": samplers(n_samples, rounds),
        "start_up": start_up(rounds),
    }


def doubts(result: Row) -> list[str]:
    """A sentence for each part whose rounds differ by more than DOUBT, and one where others had the processors.

    The second can be true without the first: a neighbour that never rests slows every round alike. A matrix product
    keeps all threads at work, so on a quiet machine its CPU seconds are those of the clock, times the threads.
    """
    names = {
        "products": "matrix product of {n}",
        "steps": "{network} {method}",
        "samplers": "{sampler}, {steps} steps",
        "start_up": "{start}",
    }
    found = []
    for part, name in names.items():
        worst = max(result[part], key=lambda row: row["spread"])
        if worst["spread"] > DOUBT:
            apart = sum(row["spread"] > DOUBT for row in result[part])
            found.append(
                f"warning: the rounds of {apart} of {len(result[part])} {part.replace('_', '-')} differ by more than "
                f"{DOUBT:.0%} ({name.format(**worst)} by {worst['spread']:.0%}): measure again on a quiet machine"
            )
    waited = min(1 - row["cpu_seconds"] / result["threads"] / row["seconds"] for row in result["products"])
    if waited > DOUBT and result["device"].startswith("cpu"):
        found.append(
            f"warning: matrix products waited for a processor {waited:.0%} of their time, so others work here too: "
            "measure again on a quiet machine, or with fewer --threads"
        )
    return found


def report(result: Row) -> str:
    """The result of `bench` as tables for a terminal: the best of the rounds, and how far the slowest lay from it."""
    threads = f"{result['threads']} thread{'s' if result['threads'] > 1 else ''}"
    fastest = max(result["products"], key=lambda row: row["gflops"])
    lines = [
        f"{result['device']}, {threads}; best of {result['rounds']} rounds, all in turn",
        f"matrix multiply, float32: {fastest['gflops']:.0f} GFLOP/s at n = {fastest['n']} "
        f"(spread {fastest['spread']:.0%}); peak: {result['peak_gflops']:.0f} GFLOP/s",
        "",
        f"{'network':8s} {'method':13s} {'batch':>5s} {'ms/step':>8s} {'GFLOP/s':>8s} {'of peak':>8s} "
        f"{'of unsup.':>9s} {'CPU ms':>8s} {'spread':>7s}",
    ]
    lines += [
        f"{r['network']:8s} {r['method']:13s} {r['batch']:5d} {1e3 * r['seconds']:8.1f} {r['gflops']:8.1f} "
        f"{r['share_of_peak']:8.1%} {r['over_unsupervised']:9.2f} {1e3 * r['cpu_seconds']:8.1f} {r['spread']:7.0%}"
        for r in result["steps"]
    ]
    lines += [
        "",
        f"{'sampler':8s} {'steps':>5s} {'images/s':>9s} {'CPU ms/image':>13s} {'spread':>7s} {'distance':>9s} "
        f"{'floor':>6s} {'n':>6s}",
    ]
    lines += [
        f"{r['sampler']:8s} {r['steps']:5d} {r['images_per_second']:9.1f} {1e3 * r['cpu_seconds'] / r['batch']:13.1f} "
        f"{r['spread']:7.0%} {r['frechet_distance']:9.2f} {r['frechet_floor']:6.2f} {r['n_samples']:6d}"
        for r in result["samplers"]
    ]
    lines += [f"(data/{MODEL}, features {result['samplers'][0]['frechet_features']})"]
    lines += ["", f"{'start-up':24s} {'seconds':>8s} {'CPU s':>8s} {'spread':>7s}"]
    lines += [
        f"{r['start']:24s} {r['seconds']:8.2f} {r['cpu_seconds']:8.2f} {r['spread']:7.0%}" for r in result["start_up"]
    ]
    return "\n".join(lines)
