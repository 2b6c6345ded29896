"""What the commands share: options of a run, the experiments that they name, and what is printed of their rows."""

import argparse
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
        type=float,
        default=DEFAULT_BETA,
        help="assumed sensitive share of the unlabeled data, inside (0, 1)",
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


def number_of_samples(text: str) -> int:
    """A number from 1 on, or 0 for `test`: as many as test images."""
    if text == "test":
        return 0
    try:
        return count(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error}; `test` takes as many as there are test images") from None


def settings_of(o: argparse.Namespace) -> dict[str, Any]:
    """What --set says, by the names of TrainConfig.

    Raises UserError for what is said twice, and for what has an option of its own.
    """
    from ..runs.experiments import parse_settings

    settings = parse_settings(o.set)
    if own := settings.keys() & {"method", "beta", "seed", "steps"}:
        raise UserError(f"--set takes no {min(own)}: that is --{min(own)}")
    if len(settings) < len(o.set):
        raise UserError(f"--set is given one setting twice in {' '.join(o.set)}: one would not be used")
    return settings


def refuse_idle(o: argparse.Namespace, methods: list[str], trained: list) -> None:
    """Raises UserError for what was given and is used by none of the runs.

    methods: their names. trained: the TrainConfig of each.
    """
    from ..networks import network_named
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
    if pretrained and network_named(pretrained) not in ("", o.network):
        refuse_unused(o, ["network"], f"{pretrained} is a {network_named(pretrained)} network")


NEEDS = {"s_per_batch": ("stream", "two"), "kernel_learning_rate": ("optimiser", "muon")}
"""Settings that act only beside a value of another."""


def _acts(name: str, config: "TrainConfig") -> bool:
    """Whether a setting acts on a run. Of one that trains nothing the size of a batch is looked at all the same."""
    if name in NEEDS and getattr(config, NEEDS[name][0]) != NEEDS[name][1]:
        return False
    return config.steps > 0 or name == "batch_size"


def experiments_of(
    o: argparse.Namespace, configuration: str, methods: list[str], pretrained: str = "", images: str = ""
) -> list:
    """The experiments that the options name, one a method. Raises UserError before any work for what cannot be."""
    from ..runs.experiments import experiment
    from ..runs.parallel import steps_for

    if o.minutes is not None and not 0 < o.minutes < 10**6:
        raise UserError(f"--minutes must be larger than 0 and less than a million; got {o.minutes:g}")
    words = ("n_samples", "sampler", "sampler_steps", "features", "save_every", "beta", "seed")
    named = {name: getattr(o, name) for name in words}
    named |= settings_of(o)

    def build(**length: int) -> list:
        settings = {**length, **named}
        return [experiment(configuration, m, o.network, pretrained, images, **settings) for m in dict.fromkeys(methods)]

    experiments = build() if o.steps is None else build(steps=o.steps)
    refuse_idle(o, methods, [exp.train for exp in experiments])
    holds_models(o.out)
    return experiments if o.minutes is None else build(steps=steps_for(o.minutes, experiments, o.out))


def holds_models(out: Path, is_file: bool = False) -> None:
    """Find out before any work that networks can be kept there: safetensors opens them under names in UTF-8 alone.

    out: the --out that was given, a folder, or a file. Raises UserError.
    """
    if not is_utf8(out):
        raise UserError(f"--out {str(out)!a} is no name in UTF-8, as networks are saved under: choose another")
    (writable_file if is_file else writable)(out)


def run_and_print(o: argparse.Namespace, experiments: list) -> list[dict]:
    from ..files import write_rows
    from ..runs.parallel import run_all

    rows = run_all(experiments, o.out)
    if rows:  # of several processes that share a run, the first alone has its row
        write_rows(o.out / "rows.jsonl", rows)
    for row in rows:
        print(_sentence(row))
    return rows


def _sentence(row: dict) -> str:
    what = f"{row['experiment']}, {row['method']}: "
    if "non_sensitive_rate" in row:
        what += (
            f"non-sensitive rate {row['non_sensitive_rate']:.3f} [{row['rate_low']:.3f}, {row['rate_high']:.3f}] "
            f"by a judge of {row['judge_accuracy']:.1%} accuracy, "
        )
    if "frechet_distance" in row:
        what += (
            f"Fréchet distance {row['frechet_distance']:.2f} ({row['frechet_features']}; "
            f"floor {row['frechet_floor']:.2f}), "
        )
    return what + f"n = {row['n_samples']}"
