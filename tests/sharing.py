"""Run by tests in each process of a group: runs one after the other, on the CPU or the make-believe GPU.

They note what this process drew.
"""

import json
import os
import sys
from pathlib import Path

import torch
from make_believe import device

from pudm_lite.runs import drawing
from pudm_lite.runs.experiments import experiment
from pudm_lite.runs.parallel import here

EXPERIMENTS = [
    experiment("mnist-even", method, steps=1, batch_size=8, n_samples=5, sampler_steps=2)
    for method in ("unsupervised", "nnpu")
]


def main(root: Path, methods: list[str]) -> None:
    drawn = []
    draw = drawing.draw

    def noted(network, process, n, **how):
        drawn.append(how["first"])
        return draw(network, process, n, **how)

    drawing.draw, drawing.images_at_once = noted, lambda shape: 2
    here([exp for exp in EXPERIMENTS if exp.method in methods], root, lambda *_: None)
    (root / f"drawn_{os.environ.get('RANK', 0)}.json").write_text(json.dumps(drawn))


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[1] == "cpu":
        main(Path(sys.argv[2]), sys.argv[3:])
    else:
        with device(shared=True):
            main(Path(sys.argv[2]), sys.argv[3:])
    torch.distributed.destroy_process_group()
