"""What the commands share: options of a run, the experiments that they name, and what is printed of their rows."""

import argparse
from pathlib import Path

from ..errors import UserError

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
    p.add_argument("--seed", type=int, default=0, help="seed of split, initialisation, draws and samples")
    length = p.add_mutually_exclusive_group()
    length.add_argument(
        "--minutes",
        type=float,
        default=None,
        help="training time in minutes, turned into steps by timing a few (default: the network's steps)",
    )
    length.add_argument("--steps", type=int, default=None, help="training steps (default: the network's)")
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
        type=int,
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
        "--out",
        type=Path,
        default=Path(out),
        help="folder for everything written; run the same command again to resume",
    )


def number_of_samples(text: str) -> int:
    """A number, or 0 for `test`: as many as test images."""
    return 0 if text == "test" else int(text)


def experiments_of(
    o: argparse.Namespace, configuration: str, methods: list[str], pretrained: str = "", images: str = ""
) -> list:
    """The experiments that the options name, one a method. Raises UserError before any work for what cannot be."""
    from ..runs.experiments import experiment, parse_settings
    from ..runs.parallel import steps_for

    if o.minutes is not None and o.minutes <= 0:
        raise UserError(f"--minutes must be larger than 0; got {o.minutes:g}")
    writable(o.out)

    named = {name: getattr(o, name) for name in ("n_samples", "sampler", "sampler_steps", "features", "beta", "seed")}
    named |= parse_settings(o.set)

    def build(**length: int) -> list:
        settings = {**length, **named}
        return [experiment(configuration, m, o.network, pretrained, images, **settings) for m in dict.fromkeys(methods)]

    if o.steps is not None:
        return build(steps=o.steps)
    if o.minutes is not None:
        return build(steps=steps_for(o.minutes, build(), o.out))
    return build()


def writable(folder: Path) -> None:
    """Find out before any work that a folder takes files."""
    from ..files import write_whole

    probe = folder / ".probe"
    write_whole(probe, lambda path: path.write_text(""))
    probe.unlink(missing_ok=True)  # another process of the same run may have been faster


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
