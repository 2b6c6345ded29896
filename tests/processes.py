"""Run by test_training: train a tiny model in this process of a group, and let the first save its weights and log."""

import sys
from dataclasses import replace

import torch
from test_training import CONFIG, make, weights

if __name__ == "__main__":
    torch.set_num_threads(1)
    trainer = make(replace(CONFIG, method=sys.argv[1], beta=0.7, steps=4))
    list(trainer)
    if trainer.accelerator.is_main_process:
        result = {
            "weights": weights(trainer.network),
            "log": trainer.log,
            "processes": trainer.accelerator.num_processes,
        }
        torch.save(result, sys.argv[2])
    torch.distributed.destroy_process_group()
