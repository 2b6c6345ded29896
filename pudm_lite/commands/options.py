"""What the commands share: options of a run, the experiments that they name, and what is printed of their rows."""

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UserError
from ..files import is_utf8, writable, writable_file
from .given import count, refuse_unused, seed, steps

if TYPE_CHECKING:
    from ..training import TrainConfig

METHOD_NAMES = "unsupervised, supervised, pn, upu, nnpu, abspu, pnu"
DEFAULT_BETA = 0.1


def add_options(p: argparse.ArgumentParser, out: str) -> None:
    """What `figure1` and `train` share."""
    p.add_argument(
        "--beta",
        type=beta,
        default=DEFAULT_BETA,
        help="assumed sensitive share of the unlabeled data, inside (0, 1); `estimate`: estimated from U and S first",
    )
    p.add_argument("--seed", type=seed, default=0, help="seed of split, initialisation, draws and samples")
    length = p.add_mutually_exclusive_group()
    length.add_argument(
        "--minutes",
        type=float,
        default=None,
        help="training time in minutes, turned into steps by timing a few (default: the network's steps)",
    )
    length.add_argument("--steps", type=steps, default=None, help="training steps (default: the network's)")
    add_shared_options(p, out, n_samples=2000)


def add_shared_options(p: argparse.ArgumentParser, out: str, n_samples: int | str) -> None:
    """What `sweep` shares with them: all but what it takes several of, and the length of the training."""
    p.add_argument("--network", default="lite", help="lite (CPU) or paper (GPU)")
    p.add_argument(
        "--n-samples",
        type=number_of_samples,
        default=n_samples,
        metavar="N",
        help="images to draw from each model and judge; `test`: as many as there are test images, as in the paper",
    )
    p.add_argument("--sampler", default=None, help="ddpm, ddim or dpmpp, a few-step solver (default: the network's)")
    p.add_argument(
        "--sampler-steps",
        type=count,
        default=None,
        help="network evaluations per image, 1 to 1000 (default: the network's)",
    )
    p.add_argument(
        "--features",
        choices=("judge", "inception"),
        default=None,
        help="features of the Fréchet distance; inception gives FID (default: inception for CIFAR10, STL10, CelebA)",
    )
    p.add_argument(
        "--set",
        nargs="+",
        default=[],
        metavar="NAME=VALUE",
        help="any other setting of the training, such as ell_scale=100 stream=two optimiser=adamw: see below",
    )
    p.add_argument(
        "--threads",
        type=count,
        default=None,
        help="CPU threads of each run (default: the cores that runs beside it leave, or what OMP_NUM_THREADS says)",
    )
    p.add_argument(
        "--log-to",
        type=Path,
        default=None,
        metavar="DIR",
        help="write curves and samples for TensorBoard there (pip install 'pudm_lite[log]')",
    )
    p.add_argument(
        "--save-every",
        type=float,
        default=None,
        metavar="SECONDS",
        help="time between checkpoints (default: 30, or so long that writing them takes 2 %% of the time)",
    )
    p.add_argument(
        "--out",
        type=Path,
        default=Path(out),
        help="folder for everything written; run the same command again to resume",
    )


def beta(text: str) -> float | str:
    """A number, or `estimate`."""
    try:
        return text if text == "estimate" else float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number inside (0, 1) nor `estimate`") from None


def number_of_samples(text: str) -> int:
    """A number from 1 on, or 0 for `test`: as many as test images."""
    if text == "test":
        return 0
    try:
        return count(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error}; `test` takes as many as there are test images") from None


def begin(o: argparse.Namespace) -> None:
    """Find out whether --out and --log-to can be used, and let this process itself, which trains judges and estimates
    beta, use as many threads as its runs would. Raises UserError."""
    import torch

    from ..cores import threads_allowed

    holds_models(o.out)
    if o.log_to is not None:
        from ..runs.logbook import writer_class

        writer_class()
        writable(o.log_to)
    torch.set_num_threads(o.threads or threads_allowed())


def settings_of(o: argparse.Namespace) -> dict[str, Any]:
    """What --set says, by the names of TrainConfig.

    Raises UserError for what is said twice, and for what has an option of its own.
    """
    from ..runs.experiments import parse_settings

    settings = parse_settings(o.set)
    if own := settings.keys() & {"method", "beta", "seed", "steps", *({"conditional"} & vars(o).keys())}:
        raise UserError(f"--set takes no {min(own)}: that is --{min(own)}")
    if len(settings) < len(o.set):
        raise UserError(f"--set is given one setting twice in {' '.join(o.set)}: one would not be used")
    return settings


def refuse_idle(o: argparse.Namespace, methods: list[str], trained: list) -> None:
    """Raises UserError for what was given and is used by none of the runs.

    methods: their names. trained: the TrainConfig of each.
    """
    from ..risks import BETA_FREE

    if set(methods) <= set(BETA_FREE):
        refuse_unused(o, ["beta"], f"it does not act on {' or '.join(dict.fromkeys(methods))}")
    if set(methods) == {"pretrained"}:
        refuse_unused(
            o,
            ["steps", "minutes", "save_every"],
            "--method pretrained draws from the model as it is, and trains nothing",
        )
    for name in settings_of(o):
        if not any(_acts(name, config) for config in trained):
            why = "it belongs to {}={}".format(*NEEDS[name]) if name in NEEDS else "nothing is trained"
            raise UserError(f"{name} of --set would not be used: {why}")
    pretrained = vars(o).get("pretrained")  # `figure1` has none
    if pretrained:
        from ..networks import network_named

        if network_named(pretrained) not in ("", o.network):
            refuse_unused(o, ["network"], f"{pretrained} is a {network_named(pretrained)} network")


NEEDS = {
    "s_per_batch": ("stream", "two"),
    "kernel_learning_rate": ("optimiser", "muon"),
    "label_drop": ("conditional", 1),
}
"""Settings that act only beside a value of another."""


def _acts(name: str, config: "TrainConfig") -> bool:
    """Whether a setting acts on a run. Of one that trains nothing the size of a batch is looked at all the same."""
    if name in NEEDS and getattr(config, NEEDS[name][0]) != NEEDS[name][1]:
        return False
    return config.steps > 0 or name == "batch_size"


def experiments_of(o: argparse.Namespace, configuration: str, methods: list[str], pretrained: str = "") -> list:
    """The experiments that the options name, one a method. Raises UserError before any work for what cannot be."""
    from ..runs.experiments import ESTIMATE, experiment

    if o.minutes is not None and not 0 < o.minutes < 10**6:
        raise UserError(f"--minutes must be larger than 0 and less than a million; got {o.minutes:g}")
    words = ("n_samples", "sampler", "sampler_steps", "features", "save_every", "beta", "seed")
    named = {name: getattr(o, name) for name in words}
    named |= settings_of(o)
    if vars(o).get("conditional"):  # `train` alone has the option
        named |= {"conditional": 1, "guidance": o.guidance}
    else:
        refuse_unused(o, ["guidance"], "it belongs to --conditional")
    if o.beta == ESTIMATE:
        del named["beta"]

    def build(**length: int) -> list:
        settings = {**length, **named}
        return [experiment(configuration, m, o.network, pretrained, **settings) for m in dict.fromkeys(methods)]

    experiments = build() if o.steps is None else build(steps=o.steps)
    refuse_idle(o, methods, [exp.train for exp in experiments])
    tell_lacks(o, experiments)
    if o.minutes is not None:
        from ..runs.parallel import steps_for

        experiments = build(steps=steps_for(o.minutes, experiments, o.out, o.threads or 0))
    if o.beta == ESTIMATE:
        from ..runs.estimating import estimated

        experiments = estimated(experiments, o.out)
        tell_estimates(experiments)
    return experiments


def tell_lacks(o: argparse.Namespace, experiments: list) -> None:
    """Say all that lacks before anything slow starts. Raises UserError where it would stop the runs."""
    from ..runs.needs import unmeasured

    for lack in unmeasured(experiments, o.features):
        print(f"not measured: {lack}")


def tell_estimates(experiments: list) -> None:
    """Print each beta that was estimated, with its interval."""
    from ..runs.estimating import sentence

    for line in dict.fromkeys(sentence(exp) for exp in experiments if exp.beta_interval):
        print(line)


def holds_models(out: Path, is_file: bool = False) -> None:
    """Find out before any work that networks can be kept there: safetensors opens them under names in UTF-8 alone.

    out: the --out that was given, a folder, or a file. Raises UserError.
    """
    if not is_utf8(out):
        raise UserError(f"--out {str(out)!a} is no name in UTF-8, as networks are saved under: choose another")
    (writable_file if is_file else writable)(out)


def run_and_print(o: argparse.Namespace, experiments: list) -> list[dict]:
    from ..files import write_rows
    from ..runs.logbook import beside
    from ..runs.parallel import run_all
    from .ending import draw, say

    named = {exp.name: exp for exp in experiments}
    log = partial(beside, folder=o.log_to)
    found = run_all(experiments, o.out, threads=o.threads or 0, log=log)
    rows = [row | named[row["run"]].beta_row for row in found]
    if rows:  # of several processes that share a run, the first alone has its row
        write_rows(o.out / "rows.jsonl", rows)
        say(rows)
        draw(experiments, rows, o.out)
    return rows
