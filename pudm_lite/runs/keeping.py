"""What a finished run leaves in its folder, and whether it is whole: then it is opened, else it is made again."""

import json
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import UserError
from ..files import alone, array_shapes, clear_torn, read_arrays, read_json, write_whole
from ..measures.judge import judge_of
from ..settings import TrainConfig
from .experiments import Experiment
from .machine import is_launched, is_main
from .running import Report, run

Row = dict[str, Any]
Log = dict[str, list[list[float]]]


@dataclass(frozen=True)
class Kept:
    """What a finished run left. images: its samples, (n, C, S, S) uint8. sensitive: (n,) bool, by the judge.

    log: term of the risk -> (k, 2) training step and value.
    """

    row: Row
    images: Tensor
    sensitive: Tensor
    log: dict[str, Tensor]
    folder: Path


def finished(root: Path, exp: Experiment) -> Row | None:
    """The row of a run that is done, if it is of this training, and its samples and measures are those now asked for.

    None also where one of the files is missing or damaged: they are made again from the run's checkpoint.
    """
    folder = root / "runs" / exp.name
    row = read_json(folder / "row.json")
    if not isinstance(row, dict) or not _is_of(row, exp):
        return None
    try:
        shapes = array_shapes(folder / "samples.npz", whole=True)
    except UserError:
        return None
    if row.get("not_measured") and _could_be_measured(exp):
        return None
    drawn = [shapes.get(name, ())[:1] for name in ("images", "sensitive")]
    whole = all(of_one == (row["n_samples"],) for of_one in drawn)
    return row if whole and isinstance(read_json(folder / "log.json"), dict) else None


def _could_be_measured(exp: Experiment) -> bool:
    """Whether the judge is there by now of a data set whose samples were drawn without."""
    try:
        return not exp.images and bool(judge_of(exp.data.dataset))
    except UserError:
        return False


def _is_of(row: Row, exp: Experiment) -> bool:
    asked = exp.as_row()
    usual = TrainConfig().as_row()  # of a setting that is younger than the row
    del asked["labelled"], asked["features"]  # a row says how many images of S there were, and with which features
    measured = row.get("frechet_features", exp.features).startswith(exp.features)
    return measured and all(row.get(name, usual.get(name)) == value for name, value in asked.items())


def run_and_keep(exp: Experiment, folder: Path, report: Report) -> Row:
    """`running.run`, and its row in folder/row.json. Where the run is finished already, its row.

    Two that are asked for one run do not both do it. Raises UserError when another process works on it.
    """
    busy = f"another process works on the run {folder}: wait for it, or choose another folder with --out"
    with alone(folder / "run", busy) if is_main() else nullcontext():
        if is_main():
            clear_torn(folder)
            if not is_launched() and (row := finished(folder.parent.parent, exp)):
                return row
            if (folder / "row.json").exists():
                report("note", f"{folder} holds a row that is damaged or of another experiment: it is made again")
        row = run(exp, folder, report)
        if row:  # only the main process of several has one
            write_whole(folder / "row.json", lambda path: path.write_text(json.dumps(row, indent=1)))
    return row


def kept(root: Path, exp: Experiment) -> Kept:
    """What a finished run left. Raises UserError where a file is missing or damaged."""
    folder = root / "runs" / exp.name
    row = finished(root, exp)
    if row is None:
        raise UserError(f"{folder} holds no finished run of {exp.name}: run it again")
    arrays = read_arrays(folder / "samples.npz", "images", "sensitive")
    log = {name: torch.tensor(pairs) for name, pairs in read_log(folder).items()}
    return Kept(row, torch.from_numpy(arrays["images"]), torch.from_numpy(arrays["sensitive"]), log, folder)


def read_log(folder: Path) -> Log:
    """A run's loss curves: term of the risk -> [[step, value], ...]. Raises UserError where they are damaged."""
    log = read_json(folder / "log.json")
    if not isinstance(log, dict):
        raise UserError(f"{folder / 'log.json'} is missing or damaged: remove row.json beside it, and run again")
    return log
