"""Run by test_kills: a tiny training that saves at every step, killed again and again, and started again each time.

A start is a fork of this process, which has imported everything and trained nothing: it takes no time, and is as good
as a new process.
"""

import io
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from test_training import CONFIG, make

from pudm_lite import checkpoints
from pudm_lite.checkpoints import BEFORE, NEWEST
from pudm_lite.files import clear_torn

IN_A_SAVE = ("while it is written", "before it is on the disk", "before the old one moves", "before the new one moves")
"""The places in a save at which a training is killed; by the clock it is killed anywhere."""


def kill_in_a_save(place: str, saves: int, share: float) -> None:
    """Let this process be killed at a place of its save number `saves`; in writing, after a share of the bytes."""
    left = saves

    def here(*_: object) -> None:
        nonlocal left
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)

    def before(call: Callable, when: Callable[..., bool]) -> Callable:
        return lambda *a: (here() if when(*a) else None, call(*a))[1]

    save = torch.save
    if place == "while it is written":

        def half(state: dict, file: io.BufferedWriter) -> None:
            whole = io.BytesIO()
            save(state, whole)
            at = int(share * len(whole.getvalue()))
            file.write(whole.getvalue()[:at])
            file.flush()
            here()
            file.write(whole.getvalue()[at:])

        torch.save = half
    elif place == "before it is on the disk":
        os.fsync = before(os.fsync, lambda file: True)
    else:
        name = BEFORE if place == "before the old one moves" else NEWEST
        os.replace = before(os.replace, lambda source, target: Path(target).name == name)


def in_place(path: Path, state: dict) -> None:
    """The control: a file that is written where it stands, and no other is kept."""
    (path.parent / BEFORE).unlink(missing_ok=True)
    with path.open("wb") as file:
        torch.save(state, file)


def train(folder: Path, word: Path, blow: tuple[str, int, float] | None) -> None:
    """Go on with the training of the folder. Leaves in `word` where it started, what was said, and what was saved."""
    clear_torn(folder)
    trainer = make(CONFIG, folder, save_every=0.0)
    if blow:
        kill_in_a_save(*blow)
    with word.open("a") as file:
        for line in [{"started": trainer.step, "notes": trainer.notes}, *({"saved": r.step} for r in trainer)]:
            file.write(json.dumps(line) + "\n")
            file.flush()


def start(folder: Path, word: Path, blow: tuple[str, int, float] | None = None, seconds: float = 0.0) -> bool:
    """Start a training, and kill it where or when it is said. Returns whether it was killed before its end."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            train(folder, word, blow)
            status = 0
        finally:
            os._exit(status)
    if seconds:
        time.sleep(seconds)
        os.kill(pid, signal.SIGKILL)
    ended = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert ended in (0, -signal.SIGKILL), "the training failed"
    return ended != 0


def chain(folder: Path, draw: random.Random, whole: float) -> dict:
    """One training to its end, through as many kills as it takes. whole: seconds of an unbroken one."""
    folder.mkdir()
    word, kills = folder / "word.jsonl", []
    word.touch()
    while True:
        place = draw.choice(["by the clock", *IN_A_SAVE])
        if place == "by the clock":
            killed = start(folder, word, seconds=draw.uniform(0, whole))
        else:
            killed = start(folder, word, (place, draw.randint(1, 5), draw.random()))
        if not killed:
            return {"kills": kills, "words": [json.loads(line) for line in word.read_text().splitlines()]}
        kills.append(place)


def main(root: Path, wanted: int, how: str) -> None:
    torch.set_num_threads(1)
    if how == "in place":
        checkpoints.write_tensors = in_place
    draw = random.Random(wanted)
    (root / "unbroken").mkdir()
    started = time.monotonic()
    start(root / "unbroken", root / "unbroken" / "word.jsonl")
    whole = time.monotonic() - started
    chains: dict[str, dict] = {}
    while sum(len(each["kills"]) for each in chains.values()) < wanted:
        chains[f"chain{len(chains)}"] = chain(root / f"chain{len(chains)}", draw, whole)
    (root / "chains.json").write_text(json.dumps(chains))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
