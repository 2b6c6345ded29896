"""`pudm sweep`."""

import argparse
import sys
from pathlib import Path

from ..errors import UserError
from .ending import draw, say
from .folders import add_folders, album_of
from .given import count, refuse_unused, seed, steps
from .options import (
    DEFAULT_BETA,
    METHOD_NAMES,
    add_shared_options,
    begin,
    beta,
    refuse_idle,
    settings_of,
    tell_estimates,
    tell_lacks,
)

HELP = "Run every method on every configuration with every beta and seed; a JSON line each goes to OUT/rows.jsonl."


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--experiment",
        nargs="+",
        default=["mnist-even"],
        metavar="NAME",
        help="configurations of the paper's Table 1, or data sets with their normal classes (mnist-3,5)",
    )
    parser.add_argument(
        "--method",
        nargs="+",
        default=["unsupervised", "supervised", "nnpu"],
        metavar="METHOD",
        help=f"any of {METHOD_NAMES}; or pretrained, which draws from --pretrained as it is",
    )
    parser.add_argument(
        "--beta",
        nargs="+",
        type=beta,
        default=[DEFAULT_BETA],
        metavar="BETA",
        help="assumed sensitive shares, inside (0, 1); `estimate`: estimated from U and S before the runs start. "
        "Methods that beta does not act on run once a seed",
    )
    parser.add_argument("--seed", nargs="+", type=seed, default=[0, 1, 2, 3, 4], metavar="SEED", help="seeds")
    parser.add_argument("--steps", type=steps, default=None, help="training steps (default: the network's)")
    parser.add_argument(
        "--pretrained",
        default="",
        metavar="MODEL",
        help="what to fine-tune: a folder or hub name of a Diffusers pipeline, or a file of `pudm ship`",
    )
    parser.add_argument(
        "--lanes",
        type=count,
        default=None,
        help="runs side by side (default: one a GPU, or one a CPU core; with --slurm, as many as SLURM lets)",
    )
    parser.add_argument(
        "--processes", type=count, default=1, help="processes that share each run, a GPU each, by accelerate launch"
    )
    parser.add_argument(
        "--slurm",
        nargs="*",
        default=None,
        metavar="NAME=VALUE",
        help="a SLURM job for each run, through submitit, with these settings, such as partition=gpu timeout_min=600 "
        "account=me; cluster=local tries the jobs out on this machine",
    )
    add_folders(parser)
    add_shared_options(parser, "outputs/sweep", n_samples="test")


def run(options: argparse.Namespace) -> None:
    from functools import partial

    from ..runs.experiments import Experiment, experiment

    o = options
    training = settings_of(o) | ({} if o.steps is None else {"steps": o.steps})
    begin(o)
    album = album_of(o, o.out)
    data = [album] if album else o.experiment
    named = [experiment(c, m, o.network, o.pretrained, **training) for c in data for m in o.method]
    refuse_idle(o, o.method, [exp.train for exp in named])
    tell_lacks(o, named)
    # Only now, when nothing is left to refuse: these load Diffusers, which takes seconds.
    from ..runs.keeping import run_and_keep
    from ..runs.launch import launch
    from ..runs.logbook import beside
    from ..runs.parallel import Hear, pool
    from ..runs.sweep import Engine, plan, sweep

    job = run_and_keep if o.processes == 1 else partial(launch, processes=o.processes)
    engine: Engine = partial(pool, job, lanes=o.lanes or 0, processes=o.processes, threads=o.threads or 0)
    if o.slurm is not None:
        refuse_unused(o, ["threads"], "a job of SLURM has the cores that --slurm cpus_per_task=N gives it")
        from ..runs.cluster import executor, submit

        engine = partial(submit, job, executor=executor(o.out, o.slurm, o.lanes or 0, o.processes))
    sampling = {name: getattr(o, name) for name in ("sampler", "sampler_steps", "features", "save_every")}
    experiments = plan(
        data, o.method, o.beta, o.seed, o.out, o.network, o.pretrained, o.n_samples, sampling, **training
    )
    tell_estimates(experiments)

    def logged(experiments: list[Experiment], root: Path, hear: Hear) -> None:
        with beside(hear, o.log_to) as both:
            engine(experiments, root, both)

    outcome = sweep(experiments, o.out, logged)
    rows = o.out / "rows.jsonl"
    if outcome.rows:
        say(outcome.rows)
        draw(experiments, outcome.rows, o.out)
        print(f"{len(outcome.rows)} of {len(experiments)} runs are done; their tables: pudm report {rows}")
    if len({row["beta"] for row in outcome.rows}) > 1:
        print(f"beta's figure: pudm figure4 {rows} --out {o.out}")
    for name, sentence in outcome.failures.items():
        print(f"{name}: {sentence}", file=sys.stderr)
    if outcome.failures:
        raise UserError(
            f"{len(outcome.failures)} of {len(experiments)} runs failed ({o.out}/runs/NAME/error.txt has all of it): "
            "put it right, and run the same command again"
        )
