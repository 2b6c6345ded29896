"""Time to quality: what this package and three others make of the same images in the same CPU seconds, on one thread.

    pip install 'pudm_lite[bench]'
    python benchmarks/peers.py              runs what --out lacks, a JSON line a run; stopped, run it again
    python benchmarks/peers.py --table      its lines as a table

All learn U of MNIST (mnist-even, seed 0) without labels. The peers are used as their documentation shows, with the
moving average and the fast sampler that each offers; what it leaves open is chosen for 28 x 28 pixels on a CPU. Their
batch and their learning rate are options: what is documented is often meant for days of training.

The budget is looked at between steps, and counts training alone: not loading and building, nor finding out how many
steps will fit, where the learning rate needs to know.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from pudm_lite import __version__
from pudm_lite.commands.options import writable
from pudm_lite.datasets import to_model, to_pixels
from pudm_lite.errors import UserError
from pudm_lite.files import read_rows, write_rows
from pudm_lite.runs.experiments import experiment
from pudm_lite.runs.machine import machine
from pudm_lite.runs.materials import Material
from pudm_lite.runs.measuring import measures
from pudm_lite.runs.running import make_trainer, material
from pudm_lite.sampling import draw

AT_ONCE = 100  # images that a peer draws in a batch
OURS = "pudm_lite"
Row = dict[str, Any]


@dataclass(frozen=True)
class Asked:
    """What a run is known by. learning_rate_asked: None for the documented one. Ours has its own, and its own batch."""

    contender: str
    budget_cpu_seconds: float
    n_samples: int
    batch_asked: int | None
    learning_rate_asked: float | None


class Budget:
    """CPU seconds of training: `for _ in budget.steps():` takes steps until they are spent.

    spent, wall: CPU seconds and seconds of the clock so far. taken: steps so far.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds, self.spent, self.wall, self.taken = seconds, 0.0, 0.0, 0

    def steps(self, at_most: int | None = None) -> Iterator[None]:
        """Yields before each step, while there is budget left and `at_most` is not reached."""
        cpu, wall = time.process_time(), time.perf_counter()
        while self.spent < self.seconds and self.taken != at_most:
            yield
            self.taken += 1
            self.spent, self.wall = time.process_time() - cpu, time.perf_counter() - wall

    def fitting(self, step: Callable[[], object], timed: int = 5) -> int:
        """How many steps fit, for what must know before it trains: some are timed, after two to warm up."""
        for _ in range(2):
            step()
        started = time.process_time()
        for _ in range(timed):
            step()
        return max(1, int(self.seconds * timed / (time.process_time() - started)))


@dataclass(frozen=True)
class Trained:
    """What a contender made. draw: n -> (n, 1, 28, 28) uint8. words: what its row says of how it was made."""

    network: nn.Module
    draw: Callable[[int], Tensor]
    words: Row


def batches(images: Tensor, size: int | None) -> Iterator[Tensor]:
    """Endless shuffled batches. images: (N, 1, 28, 28)."""
    return chain.from_iterable(repeat(DataLoader(images, size, shuffle=True, drop_last=True)))


def ours(data: Material, budget: Budget, asked: Asked) -> Trained:
    """This package: the recipe, its steps scaled to the budget. It is asked for nothing else."""
    exp = experiment("mnist-even", "unsupervised")

    def build(steps: int) -> Any:
        return make_trainer(replace(exp, train=replace(exp.train, steps=steps)), data, None)

    steps = budget.fitting(partial(next, iter(build(exp.train.steps))))
    trainer = build(steps)
    step = partial(next, iter(trainer))
    for _ in budget.steps(at_most=steps):
        step()
    network = trainer.ema
    words = {"batch": exp.train.batch_size, "learning_rate": exp.train.learning_rate, "sampler": exp.sampler}
    return Trained(
        network,
        lambda n: draw(network, trainer.process, n, **exp.sampling),
        {**words, "sampler_steps": exp.sampler_steps, "average": "power-law EMA"},
    )


def denoising_diffusion_pytorch(data: Material, budget: Budget, asked: Asked) -> Trained:
    """The loop of its README, with the optimiser, clipping and moving average of its Trainer; DDIM.

    Its Trainer itself reads a folder of files in worker processes and cannot be stopped by time. The README's U-Net has
    dim = 64 and four levels, for 128 x 128 pixels: half of that here, and three levels, as 28 halves twice.
    """
    from denoising_diffusion_pytorch import GaussianDiffusion, Unet
    from ema_pytorch import EMA

    rate = asked.learning_rate_asked or 8e-5
    model = Unet(dim=32, dim_mults=(1, 2, 4), channels=1)
    diffusion = GaussianDiffusion(model, image_size=28, timesteps=1000, sampling_timesteps=50)
    optimiser = torch.optim.Adam(diffusion.parameters(), lr=rate, betas=(0.9, 0.99))
    ema = EMA(diffusion, beta=0.995, update_every=10)
    images = batches(data.train[data.split.u] / 255, asked.batch_asked)  # it takes [0, 1]
    for _ in budget.steps():
        diffusion(next(images)).backward()
        nn.utils.clip_grad_norm_(diffusion.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        ema.update()
    average = ema.ema_model.eval()
    words = {"learning_rate": rate, "sampler": "ddim", "sampler_steps": 50, "average": "EMA 0.995"}
    return Trained(model, lambda n: to_pixels(2 * average.sample(batch_size=n) - 1), words)


def diffusers_loop(data: Material, budget: Budget, asked: Asked) -> Trained:
    """The loop of Diffusers' tutorial "Train a diffusion model", with the U-Net and the learning rate that its course
    takes for MNIST (unit 1), and the moving average of its unconditional training example; DDIM.

    The tutorial's 500 steps of warm-up would be most of a short training: a tenth of it here.
    """
    from diffusers import DDIMPipeline, DDIMScheduler, DDPMScheduler, UNet2DModel
    from diffusers.optimization import get_cosine_schedule_with_warmup
    from diffusers.training_utils import EMAModel

    rate = asked.learning_rate_asked or 1e-3
    noise_scheduler = DDPMScheduler(num_train_timesteps=1000)
    images = batches(to_model(data.train[data.split.u]), asked.batch_asked)

    def build(steps: int) -> tuple[UNet2DModel, EMAModel, Callable[[], None]]:
        model = UNet2DModel(
            sample_size=28,
            in_channels=1,
            out_channels=1,
            layers_per_block=2,
            block_out_channels=(32, 64, 64),
            down_block_types=("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        )
        optimiser = torch.optim.AdamW(model.parameters(), lr=rate)
        schedule = get_cosine_schedule_with_warmup(optimiser, num_warmup_steps=steps // 10, num_training_steps=steps)
        ema = EMAModel(model.parameters(), decay=0.9999, use_ema_warmup=True, inv_gamma=1.0, power=0.75)

        def step() -> None:
            clean = next(images)
            noise = torch.randn_like(clean)
            t = torch.randint(0, noise_scheduler.config.num_train_timesteps, (len(clean),))
            predicted = model(noise_scheduler.add_noise(clean, noise, t), t, return_dict=False)[0]
            nn.functional.mse_loss(predicted, noise).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            optimiser.zero_grad()
            ema.step(model.parameters())

        return model, ema, step

    _, _, step = build(1000)
    steps = budget.fitting(step)
    model, ema, step = build(steps)
    for _ in budget.steps(at_most=steps):
        step()
    ema.copy_to(model.parameters())
    pipeline = DDIMPipeline(model.eval(), DDIMScheduler.from_config(noise_scheduler.config))
    pipeline.set_progress_bar_config(disable=True)

    def drawn(n: int) -> Tensor:
        pixels = pipeline(batch_size=n, num_inference_steps=50, output_type="np").images  # (n, 28, 28, 1) in [0, 1]
        return to_pixels(2 * torch.from_numpy(pixels).permute(0, 3, 1, 2) - 1)

    words = {"learning_rate": rate, "sampler": "ddim", "sampler_steps": 50, "average": "EMA, warmed up, power 3/4"}
    return Trained(model, drawn, words)


def smalldiffusion(data: Material, budget: Budget, asked: Asked) -> Trained:
    """Its example for Fashion-MNIST with a U-Net, all but the batch of 1,024 and the flips; its accelerated DDIM."""
    from accelerate import Accelerator
    from smalldiffusion import Scaled, ScheduleLogLinear, Unet, samples, training_loop
    from torch_ema import ExponentialMovingAverage

    rate = asked.learning_rate_asked or 7e-4
    loader = DataLoader(to_model(data.train[data.split.u]), asked.batch_asked, shuffle=True)
    schedule = ScheduleLogLinear(sigma_min=0.01, sigma_max=20, N=800)
    model = Scaled(Unet)(28, 1, 1, ch=64, ch_mult=(1, 1, 2), attn_resolutions=(14,))
    ema = ExponentialMovingAverage(model.parameters(), decay=0.999)
    accelerator = Accelerator(cpu=True)
    loop = training_loop(loader, model, schedule, accelerator=accelerator, lr=rate)  # 10,000 epochs: until stopped
    for _ in zip(loop, budget.steps(), strict=False):  # in this order: it asks for budget when a step is whole
        ema.update()

    def drawn(n: int) -> Tensor:
        with ema.average_parameters():
            *_, x = samples(model, schedule.sample_sigmas(20), gam=1.6, batchsize=n, accelerator=accelerator)
        return to_pixels(x)

    words = {"learning_rate": rate, "sampler": "ddim, gam 1.6", "sampler_steps": 20, "average": "EMA 0.999"}
    return Trained(model, drawn, words)


CONTENDERS: dict[str, Callable[[Material, Budget, Asked], Trained]] = {
    OURS: ours,
    "denoising-diffusion-pytorch": denoising_diffusion_pytorch,
    "diffusers": diffusers_loop,
    "smalldiffusion": smalldiffusion,
}
"""By the names that pip knows them by."""


def run(asked: Asked) -> Row:
    """Train a contender for its CPU seconds, draw, measure. Returns the row.

    Raises UserError for a package that is not installed.
    """
    name, n = asked.contender, asked.n_samples
    data = material(experiment("mnist-even", "unsupervised"))
    budget = Budget(asked.budget_cpu_seconds)
    torch.manual_seed(0)
    try:
        its_version = __version__ if name == OURS else version(name)
        trained = CONTENDERS[name](data, budget, asked)
    except (ModuleNotFoundError, PackageNotFoundError) as error:
        raise UserError(f"{name} or what it needs is not installed ({error}): pip install 'pudm_lite[bench]'") from None
    cpu, wall = time.process_time(), time.perf_counter()
    sizes = [n] if name == OURS else [AT_ONCE] * (n // AT_ONCE) + [n % AT_ONCE] * (n % AT_ONCE > 0)
    images = torch.cat([trained.draw(size) for size in sizes])
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return {
        **asdict(asked),
        "version": its_version,
        "train_cpu_seconds": round(budget.spent, 2),
        "train_seconds": round(budget.wall, 2),
        "steps": budget.taken,
        "batch": asked.batch_asked,
        **trained.words,
        "parameters": sum(p.numel() for p in trained.network.parameters()),
        "sample_cpu_ms": round(1e3 * cpu / n, 2),
        "sample_ms": round(1e3 * wall / n, 2),
        **measures(images, data, "judge").row,
        **machine(),
    }


def table(rows: list[Row]) -> str:
    """Lines as a table in markdown, the packages in the order of CONTENDERS, and what it says in a sentence.

    Raises UserError for lines that do not compare: of another n or another machine.
    """
    for name in ("n_samples", "device"):
        if len(several := {row[name] for row in rows}) > 1:
            raise UserError(
                f"the lines differ in {name} ({', '.join(sorted(map(str, several)))}), so that they do not compare: "
                "keep each in a file of its own with --out"
            )
    order = list(CONTENDERS)
    lines = [
        "| trained with | CPU seconds | steps x batch | rate | parameters | Fréchet distance | sampler | CPU ms |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for r in sorted(rows, key=lambda r: (order.index(r["contender"]), r["budget_cpu_seconds"], r["learning_rate"])):
        lines.append(
            f"| {r['contender']} {r['version']} | {r['train_cpu_seconds']:,.1f} | {r['steps']:,} x {r['batch']} | "
            f"{r['learning_rate']:g} | {r['parameters'] / 1e6:.1f} M | {r['frechet_distance']:.1f} | "
            f"{r['sampler']}, {r['sampler_steps']} steps | {r['sample_cpu_ms']:.0f} |"
        )
    lines.append("")
    lines += [f"- {sentence}" for sentence in said(rows)]
    return "\n".join(lines)


def said(rows: list[Row]) -> list[str]:
    """How far ahead ours is, and what the numbers stand on."""

    mine = [row for row in rows if row["contender"] == OURS]
    others = [row for row in rows if row["contender"] != OURS]
    sentences = []
    if mine and others:
        best = min(others, key=lambda row: row["frechet_distance"])
        closer = [row for row in mine if row["frechet_distance"] < best["frechet_distance"]]
        what = f"the best of the others, {best['contender']} at {best['train_cpu_seconds']:,.1f} CPU seconds"
        if closer:
            first = min(closer, key=lambda row: row["train_cpu_seconds"])
            times = best["train_cpu_seconds"] / first["train_cpu_seconds"]
            sentences.append(
                f"{OURS} is closer at {first['train_cpu_seconds']:,.1f} CPU seconds than {what}: "
                f"{times:.{0 if times >= 10 else 1}f} times sooner, or more."
            )
        else:
            sentences.append(f"{OURS} is nowhere closer than {what}.")
    one = rows[0]
    sentences += [
        f"Distance to the normal test images, n = {one['n_samples']:,}, features {one['frechet_features']}; "
        f"of as many real images: {one['frechet_floor']:.2f}.",
        f"One thread each: {one['device']}. Rate: AdamW's or Adam's. CPU ms: of an image drawn.",
    ]
    return sentences


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--contender", nargs="+", choices=CONTENDERS, default=list(CONTENDERS), help="who takes part")
    parser.add_argument("--seconds", type=float, default=390.0, help="CPU seconds of training for a peer (390)")
    parser.add_argument(
        "--ours",
        nargs="+",
        type=float,
        default=[7.8, 17.0, 37.0, 265.0],
        metavar="SECONDS",
        help="CPU seconds of training for this package, a run each (7.8, a fiftieth of 390; 17 37 265)",
    )
    parser.add_argument("--n-samples", type=int, default=1000, metavar="N", help="images that each draws (1000)")
    parser.add_argument("--batch-size", type=int, default=64, help="for the peers (64)")
    parser.add_argument(
        "--learning-rate", type=float, default=None, help="for the peers, in place of the rates of their documentation"
    )
    parser.add_argument("--out", type=Path, default=Path("outputs/peers.jsonl"), help="the file of lines")
    parser.add_argument("--table", action="store_true", help="run nothing: print the table of --out")
    try:
        compete(parser.parse_args(arguments))
    except UserError as error:
        print(f"peers: {error}", file=sys.stderr)
        return 2
    return 0


def compete(o: argparse.Namespace) -> None:
    """Run what is missing, or print the table. Raises UserError for values out of range and what is not installed."""
    if o.table:
        print(f"<!-- python benchmarks/peers.py --table --out {o.out} -->\n{table(read_rows(o.out))}\n<!-- end -->")
        return
    for option, values in (("--seconds", [o.seconds]), ("--ours", o.ours), ("--learning-rate", [o.learning_rate])):
        for value in values:
            if value is not None and not 0 < value < float("inf"):
                raise UserError(f"{option} must be larger than 0; got {value:g}")
    if o.batch_size < 1:
        raise UserError(f"--batch-size must be at least 1; got {o.batch_size}")
    if o.n_samples < 2:
        raise UserError(f"--n-samples must be at least 2 to measure a distance; got {o.n_samples}")
    writable(o.out.parent)
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # CPU seconds are compared
    torch.set_num_threads(1)
    done = read_rows(o.out) if o.out.exists() else []
    peers = [name for name in o.contender if name != OURS]
    runs = [Asked(OURS, seconds, o.n_samples, None, None) for seconds in o.ours if OURS in o.contender]
    runs += [Asked(name, o.seconds, o.n_samples, o.batch_size, o.learning_rate) for name in peers]
    for asked in runs:
        if not any(asdict(asked).items() <= row.items() for row in done):
            row = run(asked)
            write_rows(o.out, [row])
            print(
                f"{asked.contender}, {row['train_cpu_seconds']:.1f} CPU s, {row['steps']:,} steps: distance "
                f"{row['frechet_distance']:.1f}, {row['sample_cpu_ms']:.0f} CPU ms an image",
                flush=True,
            )


if __name__ == "__main__":
    sys.exit(main())
