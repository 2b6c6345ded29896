"""A training survives a kill at any moment: no step that was saved is lost, and the end is that of an unbroken run."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from killing import IN_A_SAVE

from pudm_lite.checkpoints import NEWEST

KILLS = int(os.environ.get("PUDM_KILLS", "50"))
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a system that forks and kills"),
]


def killed(root: Path, kills: int, how: str) -> dict[str, dict]:
    script = Path(__file__).with_name("killing.py")
    subprocess.run([sys.executable, str(script), str(root), str(kills), how], check=True)
    return json.loads((root / "chains.json").read_text())


def lost(chain: dict) -> list[str]:
    """What a chain of kills cost: steps that were saved and had to be made again, and what the user was told."""
    found, saved = [], 0
    for word in chain["words"]:
        if word.get("started", saved) < saved:
            found.append(f"step {saved} was saved, and training went on from {word['started']}")
        found += word.get("notes", [])
        saved = word.get("saved", word.get("started"))
    return found


def at_the_end(folder: Path) -> dict:
    state = torch.load(folder / NEWEST, weights_only=True)
    del state["seconds"]
    return state


def assert_equal(ours: object, theirs: object) -> None:
    if isinstance(ours, dict):
        assert ours.keys() == theirs.keys()
        ours, theirs = list(ours.values()), list(theirs.values())
    if isinstance(ours, list | tuple):
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            assert_equal(one, other)
    elif isinstance(ours, torch.Tensor):
        assert torch.equal(ours, theirs)
    else:
        assert ours == theirs


def test_kills_at_any_moment_lose_nothing_and_change_nothing(tmp_path):
    """Weights, average, optimisers and log to the last bit. Half of the kills and more fall inside a save."""
    chains = killed(tmp_path, KILLS, "as it is")
    places = [place for chain in chains.values() for place in chain["kills"]]
    assert len(places) >= KILLS
    assert {"by the clock", *IN_A_SAVE} <= set(places)
    unbroken = at_the_end(tmp_path / "unbroken")
    for name, chain in chains.items():
        assert lost(chain) == []
        assert_equal(at_the_end(tmp_path / name), unbroken)
        assert len(list((tmp_path / name).iterdir())) == 3  # two checkpoints and what was told: no half files


def test_checkpoints_written_in_place_would_not_survive_them(tmp_path):
    """The control: the same kills on a file that is written where it stands."""
    assert any(lost(chain) for chain in killed(tmp_path, 10, "in place").values())
