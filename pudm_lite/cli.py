"""The command `pudm`. Heavy libraries load only when a command runs."""

import argparse
import sys
from pathlib import Path

from .errors import UserError

METHOD_NAMES = "unsupervised, supervised, pn, upu, nnpu, abspu, pnu"
DEFAULT_BETA = 0.1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pudm",
        description="Positive-unlabeled diffusion models (Takahashi et al., ICLR 2025), small: train, draw, measure.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, text: str) -> argparse.ArgumentParser:
        return commands.add_parser(
            name, help=text, description=text, formatter_class=argparse.ArgumentDefaultsHelpFormatter
        )

    def options(p: argparse.ArgumentParser, out: str) -> None:
        p.add_argument(
            "--beta",
            type=float,
            default=DEFAULT_BETA,
            help="assumed sensitive share of the unlabeled data, inside (0, 1)",
        )
        p.add_argument("--seed", type=int, default=0, help="seed of split, initialisation, draws and samples")
        p.add_argument("--network", default="lite", help="lite (CPU) or paper (GPU)")
        length = p.add_mutually_exclusive_group()
        length.add_argument(
            "--minutes",
            type=float,
            default=None,
            help="training time in minutes, turned into steps by timing a few (default: the network's steps)",
        )
        length.add_argument("--steps", type=int, default=None, help="training steps (default: the network's)")
        p.add_argument("--n-samples", type=int, default=2000, help="images to draw from each model and judge")
        p.add_argument(
            "--sampler", default=None, help="ddpm, ddim or dpmpp, a few-step solver (default: the network's)"
        )
        p.add_argument(
            "--sampler-steps",
            type=int,
            default=None,
            help="network evaluations per image, 1 to 1000 (default: the network's)",
        )
        p.add_argument(
            "--set",
            nargs="+",
            default=[],
            metavar="NAME=VALUE",
            help="any other field of training.TrainConfig, such as ell_scale=100 stream=two optimiser=adamw",
        )
        p.add_argument(
            "--out",
            type=Path,
            default=Path(out),
            help="folder for everything written; run the same command again to resume",
        )

    p = command(
        "figure1",
        "Train on MNIST from scratch, sample, judge, and draw the paper's Figure 1 with measured numbers.",
    )
    p.add_argument("--normal", choices=("even", "odd"), default="even", help="which digits are normal")
    p.add_argument(
        "--method",
        nargs="+",
        default=["unsupervised", "nnpu"],
        metavar="METHOD",
        help=f"any of {METHOD_NAMES}",
    )
    options(p, "outputs/figure1")

    p = command("train", "Train one model, sample and judge it; one JSON line goes to OUT/rows.jsonl.")
    p.add_argument("--experiment", default="mnist-even", help="a configuration of the paper's Table 1: dataset-normal")
    p.add_argument("--method", default="nnpu", metavar="METHOD", help=f"one of {METHOD_NAMES}")
    options(p, "outputs/train")

    p = command("sample", "Draw images from a trained model.")
    p.add_argument(
        "model",
        type=Path,
        help="the folder `pipeline` of a run, or any unconditional Diffusers pipeline folder",
    )
    p.add_argument("--n-samples", type=int, default=64, help="images")
    p.add_argument("--sampler", default="ddpm", help="ddpm, ddim or dpmpp")
    p.add_argument("--sampler-steps", type=int, default=25, help="network evaluations per image, 1 to 1000")
    p.add_argument("--seed", type=int, default=0, help="seed; one seed and one image number give one picture")
    p.add_argument(
        "--out",
        type=Path,
        default=Path("outputs/samples.npz"),
        help="file: .npz (array `images`, n x C x H x W, uint8) or .png (a grid)",
    )

    p = command("evaluate", "Judge images: non-sensitive rate with interval, Fréchet distance with its floor.")
    p.add_argument("images", type=Path, help="a .npz file as `pudm sample` writes it")
    p.add_argument("--experiment", default="mnist-even", help="a configuration of the paper's Table 1")
    p.add_argument(
        "--features",
        choices=("judge", "inception"),
        default="judge",
        help="features of the Fréchet distance; inception gives FID",
    )

    p = command("report", "Tables from rows, the paper's values in a column of their own.")
    p.add_argument("rows", type=Path, nargs="+", help="files of JSON lines")

    p = command("ship", "Write the trained networks of a folder as small files, for notebooks to open.")
    p.add_argument("runs", type=Path, help="the --out folder of a finished `pudm figure1` or `pudm train`")
    p.add_argument("--out", type=Path, default=Path("data"), help="folder; files go to OUT/models")

    p = command("grade", "Grade submitted notebooks: points by exercise, and why, one row a student.")
    p.add_argument("submissions", type=Path, help="a folder of STUDENT/*.ipynb or STUDENT.ipynb")
    p.add_argument("--out", type=Path, default=Path("grades.csv"), help="file of comma-separated values")
    p.add_argument("--seconds", type=float, default=20.0, help="time limit of one call of a student's function")
    p.add_argument("--memory", type=int, default=2048, help="memory limit of a student's process, MiB")

    p = command("bench", "This machine: matrix-multiply peak, training step by method and network, sampling.")
    p.add_argument("--threads", type=int, default=None, help="CPU threads (default: all cores)")
    p.add_argument("--seconds", type=float, default=2.0, help="seconds a measurement")
    p.add_argument("--network", nargs="+", default=["lite", "paper"], help="networks")

    p = command("judge", "The classifier that tells normal from sensitive.")
    p.add_argument("action", choices=("train",), help="train it and record its confusion on the test set")
    p.add_argument("dataset", choices=("mnist",), help="data set")
    p.add_argument("--seed", type=int, default=0, help="seed")
    p.add_argument("--out", type=Path, default=Path("outputs/judge_mnist.safetensors"), help="file")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns the exit code: 0, 2 for something the user can put right, 130 when interrupted."""
    options = _parser().parse_args(arguments)
    try:
        globals()[f"_{options.command}"](options)
    except UserError as error:
        print(f"pudm: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("pudm: stopped; run the same command again to go on", file=sys.stderr)
        return 130
    return 0


def _experiments(o: argparse.Namespace, configuration: str, methods: list[str]) -> list:
    from dataclasses import replace

    from .experiments import experiment, parse_settings
    from .parallel import steps_for

    if o.minutes is not None and o.minutes <= 0:
        raise UserError(f"--minutes must be larger than 0; got {o.minutes:g}")
    _writable(o.out)

    sampling = {
        name: value
        for name, value in (("n_samples", o.n_samples), ("sampler", o.sampler), ("sampler_steps", o.sampler_steps))
        if value is not None
    }
    settings = parse_settings(o.set)

    def build(**length: int) -> list:
        training = {"beta": o.beta, "seed": o.seed, **length, **settings}
        return [
            replace(experiment(configuration, method, o.network, **training), **sampling)
            for method in dict.fromkeys(methods)
        ]

    if o.steps is not None:
        return build(steps=o.steps)
    if o.minutes is not None:
        return build(steps=steps_for(o.minutes, build(), o.out))
    return build()


def _writable(folder: Path) -> None:
    """Find out before any work that a folder takes files."""
    from .files import write_whole

    probe = folder / ".probe"
    write_whole(probe, lambda path: path.write_text(""))
    probe.unlink()


def _run(o: argparse.Namespace, experiments: list) -> list[dict]:
    from .files import write_rows
    from .parallel import run_all

    rows = run_all(experiments, o.out)
    write_rows(o.out / "rows.jsonl", rows)
    for row in rows:
        print(_sentence(row))
    return rows


def _sentence(row: dict) -> str:
    return (
        f"{row['experiment']}, {row['method']}: non-sensitive rate {row['non_sensitive_rate']:.3f} "
        f"[{row['rate_low']:.3f}, {row['rate_high']:.3f}], Fréchet distance {row['frechet_distance']:.2f} "
        f"({row['frechet_features']}; floor {row['frechet_floor']:.2f}), n = {row['n_samples']}"
    )


def _figure1(o: argparse.Namespace) -> None:
    import time

    from .report import draw_figure1
    from .training import peak_memory_mb

    started = time.monotonic()
    rows = _run(o, _experiments(o, f"mnist-{o.normal}", o.method))
    memory = peak_memory_mb() + sum(row["peak_memory_mb"] for row in rows)  # the drawing below comes after theirs
    for path in draw_figure1(rows, o.out):
        print(f"wrote {path}")
    print(f"{(time.monotonic() - started) / 60:.1f} minutes; the processes' peaks add up to {memory:.0f} MiB of memory")


def _train(o: argparse.Namespace) -> None:
    _run(o, _experiments(o, o.experiment, [o.method]))


def _sample(o: argparse.Namespace) -> None:
    import torch
    from tqdm.auto import tqdm

    from .datasets import to_pixels
    from .files import write_arrays
    from .networks import image_shape, load_pipeline
    from .report import save_grid
    from .sampling import SAMPLERS, sample

    if o.sampler not in SAMPLERS:
        raise UserError(f"unknown sampler {o.sampler!r}; known: {', '.join(SAMPLERS)}")
    if o.n_samples < 1:
        raise UserError(f"--n-samples must be at least 1; got {o.n_samples}")
    if o.out.suffix not in (".npz", ".png"):
        raise UserError(f"--out must end in .npz or .png; got {o.out}")
    network, process = load_pipeline(o.model)
    if not 1 <= o.sampler_steps <= process.steps:
        raise UserError(f"--sampler-steps must lie in 1..{process.steps}; got {o.sampler_steps}")
    _writable(o.out.parent)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network.to(device)
    parts = []
    with tqdm(total=o.n_samples, unit="image") as bar:
        for part in sample(
            lambda x, t: network(x, t).sample,
            process,
            image_shape(network),
            o.n_samples,
            o.sampler,
            o.sampler_steps,
            o.seed,
            device=device,
        ):
            parts.append(to_pixels(part))
            bar.update(len(part))
    images = torch.cat(parts)
    if o.out.suffix == ".png":
        save_grid(images, o.out)
    else:
        write_arrays(o.out, images=images.numpy())
    print(f"wrote {o.out}")


def _evaluate(o: argparse.Namespace) -> None:
    import json

    import numpy as np
    import torch

    from .experiments import material, measure
    from .inception import fid
    from .networks import RECIPES
    from .splits import TABLE_1

    if o.experiment not in TABLE_1:
        raise UserError(f"unknown configuration {o.experiment!r}; known: {', '.join(TABLE_1)}")
    try:
        with np.load(o.images) as arrays:
            images = torch.from_numpy(arrays["images"])
    except (OSError, ValueError, KeyError):
        raise UserError(
            f"{o.images} is not an .npz file with an array `images`: write one with `pudm sample`"
        ) from None
    if len(images) < 2:
        raise UserError(f"{o.images} holds {len(images)} images; at least 2 are needed to measure anything")
    data = material(o.experiment, RECIPES["lite"], seed=0)
    row = measure(data.judge.look(images), data)
    if o.features == "inception":
        row |= fid(images, data.test)
    print(json.dumps(row, indent=1))


def _report(o: argparse.Namespace) -> None:
    from .files import read_rows
    from .report import results_table

    print(results_table([row for path in o.rows for row in read_rows(path)]))


def _ship(o: argparse.Namespace) -> None:
    import hashlib

    from .shipped import ship

    _writable(o.out)
    for path in ship(o.runs, o.out):
        print(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(o.out)}")


def _grade(o: argparse.Namespace) -> None:
    from tqdm.auto import tqdm

    from .grading import grade_student, submissions, write_grades

    if sys.platform == "win32":
        raise UserError("`pudm grade` needs Linux or macOS, for its limits on time and memory; WSL will do")
    if o.seconds <= 0 or o.memory <= 0:
        raise UserError("--seconds and --memory must be larger than 0")
    found = submissions(o.submissions)
    _writable(o.out.parent)
    students = [grade_student(name, paths, o.seconds, o.memory) for name, paths in tqdm(found.items(), unit="student")]
    write_grades(students, o.out)
    for student in students:
        print(f"{student.name}: {student.points} points")
    print(f"wrote {o.out}")


def _bench(o: argparse.Namespace) -> None:
    from .bench import bench

    bench(o.network, o.seconds, o.threads)


def _judge(o: argparse.Namespace) -> None:
    from dataclasses import replace

    from tqdm.auto import tqdm

    from .datasets import mnist
    from .judge import confusion_matrix, save_judge, train_judge

    _writable(o.out.parent)
    bar = None
    for step, steps, judge in train_judge(mnist(train=True), o.seed):  # noqa: B007
        bar = bar or tqdm(total=steps, unit="step")
        bar.update()
    judge = replace(judge, confusion=confusion_matrix(judge, mnist(train=False)))
    save_judge(judge, o.out)
    print(f"\nwrote {o.out}: accuracy {judge.accuracy:.4f} on the 10,000 test images")


if __name__ == "__main__":
    sys.exit(main())
