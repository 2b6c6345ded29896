"""`pudm judge`."""

import argparse
from collections.abc import Iterator
from pathlib import Path

from ..errors import UserError
from .given import count, refuse_unused, seed
from .options import holds_models

HELP = "The classifier that tells normal from sensitive: train it, and measure it on real test images."
DATASETS = ("mnist", "cifar10", "stl10", "celeba", "folders")


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("train",), help="train it and record its confusion on the test set")
    parser.add_argument(
        "dataset",
        choices=DATASETS,
        help="mnist (a small network), cifar10, stl10, celeba (ResNet-34), or folders: images of your own",
    )
    parser.add_argument("--normal", type=Path, default=None, help="folders: normal images")
    parser.add_argument("--sensitive", type=Path, default=None, help="folders: sensitive images")
    parser.add_argument(
        "--strict", action="store_true", help="folders: stop at a file that is no image, rather than leave it out"
    )
    parser.add_argument("--seed", type=seed, default=0, help="seed")
    parser.add_argument(
        "--epochs", type=count, default=None, help="passes over the training set (default: the data set's)"
    )
    parser.add_argument("--batch-size", type=count, default=None, help="images a step (default: the data set's)")
    parser.add_argument(
        "--from-scratch", action="store_true", help="do without ImageNet weights (mnist always does); takes longer"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=None,
        help="file (default: where `pudm train` looks for it; mnist: outputs/judge_mnist.safetensors)",
    )


def run(options: argparse.Namespace) -> None:
    from tqdm.auto import tqdm

    from ..measures.judge import save_judge

    o = options
    own = o.dataset == "folders"
    if own and not (o.normal and o.sensitive and o.out):
        raise UserError("a judge of your own images needs --normal DIR, --sensitive DIR and --out FILE")
    if not own:
        refuse_unused(o, ["normal", "sensitive", "strict"], "it belongs to `pudm judge train folders`")
    if o.dataset == "mnist":
        refuse_unused(o, ["from_scratch"], "the judge of mnist always starts from scratch")
    out = o.out or _place(o.dataset)
    holds_models(out, is_file=True)
    bar = None
    for step, steps, judge in _training(o):  # noqa: B007
        bar = bar or tqdm(total=steps, unit="step")
        bar.update()
    if bar:
        bar.close()
    save_judge(judge, out)
    print(f"wrote {out}\n{judge.sentence()}")


def _place(dataset: str) -> Path:
    from ..measures.judge import judge_file

    return Path("outputs/judge_mnist.safetensors") if dataset == "mnist" else judge_file(dataset)


def _training(o: argparse.Namespace) -> Iterator[tuple]:
    from ..datasets import mnist
    from ..measures.judge_training import train_judge, train_resnet_judge, train_two_class

    length = {"seed": o.seed, "epochs": o.epochs, "batch_size": o.batch_size}
    if o.dataset == "mnist":
        return train_judge(mnist(train=True), mnist(train=False), **length)
    if o.dataset == "folders":
        from ..sources.finding import in_words
        from ..sources.folders import read_folder

        normal, skipped = read_folder(o.normal, 128, 3, o.strict, o.out)
        sensitive, others = read_folder(o.sensitive, 128, 3, o.strict, o.out)
        for line in in_words(skipped + others):
            print(line)
        return train_two_class(normal, sensitive, from_scratch=o.from_scratch, **length)
    return train_resnet_judge(o.dataset, from_scratch=o.from_scratch, **length)
