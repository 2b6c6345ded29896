"""Run by test_training: train tiny models in this process of a group, break off, resume, and note how it went."""

import sys
from dataclasses import replace
from pathlib import Path

import torch
from test_training import CONFIG, gradients, make, weights

from pudm_lite import checkpoints


def train(method: str, folder: Path) -> None:
    written, write_tensors = [], checkpoints.write_tensors
    checkpoints.write_tensors = lambda path, state: (written.append(path), write_tensors(path, state))
    config = replace(CONFIG, method=method, beta=0.7, steps=4, pieces=2)
    broken = make(config, folder / method, save_every=0.0)
    for record in broken:
        if record.step == 2:
            break
    broken.accelerator.wait_for_everyone()  # a new launch comes after the last process has ended
    resumed = make(config, folder / method)
    resumed_at = resumed.step
    list(resumed)
    checkpoints.write_tensors = write_tensors
    result = {
        "gradients": gradients(make(config)),
        "weights": weights(resumed.network),
        "ema": weights(resumed.ema),
        "log": resumed.log,
        "processes": resumed.accelerator.num_processes,
        "resumed_at": resumed_at,
        "writes": bool(written),
    }
    torch.save(result, folder / f"result_{method}_{resumed.accelerator.process_index}.pt")


if __name__ == "__main__":
    torch.set_num_threads(1)
    for method in sys.argv[2:]:
        train(method, Path(sys.argv[1]))
    torch.distributed.destroy_process_group()
