"""`pudm judge`."""

import argparse
from pathlib import Path

from .options import writable

HELP = "The classifier that tells normal from sensitive."


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("train",), help="train it and record its confusion on the test set")
    parser.add_argument("dataset", choices=("mnist",), help="data set")
    parser.add_argument("--seed", type=int, default=0, help="seed")
    parser.add_argument("--out", type=Path, default=Path("outputs/judge_mnist.safetensors"), help="file")


def run(options: argparse.Namespace) -> None:
    from dataclasses import replace

    from tqdm.auto import tqdm

    from ..datasets import mnist
    from ..judge import confusion_matrix, save_judge, train_judge

    writable(options.out.parent)
    bar = None
    for step, steps, judge in train_judge(mnist(train=True), options.seed):  # noqa: B007
        bar = bar or tqdm(total=steps, unit="step")
        bar.update()
    judge = replace(judge, confusion=confusion_matrix(judge, mnist(train=False)))
    save_judge(judge, options.out)
    print(f"\nwrote {options.out}: accuracy {judge.accuracy:.4f} on the 10,000 test images")
