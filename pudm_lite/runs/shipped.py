"""Trained networks in data/models/, for readers who should not wait: written by `pudm ship`, opened by `trained`.

What the tests run never opens one in place of training: see `allowed`.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..conditional import Concepts, Conditional, load_conditional
from ..datasets import checked_file
from ..diffusion import Process
from ..errors import UserError
from ..files import read_json, write_whole
from ..networks import load_pipeline, named_network, open_network
from ..splits import named_configuration
from .experiments import Experiment
from .keeping import read_log
from .machine import mode
from .running import run

CURVES = ("value", "L_U_minus", "L_S_minus", "L_S_plus", "normal_risk")
POINTS = 200  # of each curve: steps are averaged in that many groups


@dataclass(frozen=True)
class Trained:
    """A trained network, its process and its row; curves: term of the risk -> (k, 2) training step and mean value."""

    network: nn.Module
    process: Process
    row: dict[str, Any]
    curves: dict[str, Tensor]


def allowed() -> bool:
    """Whether a shipped network may stand for a training: in lab mode, unless PUDM_NO_CHECKPOINTS=1.

    A shipped network hides a training path that no longer works; so what the tests run trains.
    """
    return mode() == "lab" and os.environ.get("PUDM_NO_CHECKPOINTS") != "1"


def file_name(row_or_experiment: dict[str, Any] | Experiment) -> str:
    """models/CONFIGURATION_METHOD_seedN.safetensors, inside data/; before the dot `_finetuned` after a fine-tuning, or
    `_conditional`."""
    if isinstance(row_or_experiment, Experiment):
        exp = row_or_experiment
        what, pretrained = (exp.configuration, exp.method, exp.train.seed), exp.pretrained
        conditional = bool(exp.train.conditional)
    else:
        row = row_or_experiment
        what, pretrained = (row["experiment"], row["method"], row["seed"]), row.get("pretrained", "")
        conditional = bool(row.get("conditional"))
    suffix = "_finetuned" if pretrained else "_conditional" if conditional else ""
    return "models/{}_{}_seed{}{}.safetensors".format(*what, suffix)


def thinned(log: dict[str, list[list[float]]]) -> dict[str, Tensor]:
    """The curves of a run's log, averaged in at most POINTS groups of equal length."""
    curves = {}
    for name in CURVES:
        if name in log:
            pairs = torch.tensor(log[name])
            size = -(-len(pairs) // POINTS)
            curves[name] = torch.stack([group.mean(0) for group in pairs.split(size)])
    return curves


def ship(out: Path, folder: Path) -> list[Path]:
    """Write the networks of the runs under `out` (of `pudm figure1` or `pudm train`) into `folder`, half precision.

    Each file holds beside the network its row, the command that trains it again, and its loss curves. Returns the
    paths. Raises UserError when `out` holds no finished training, or two of one data set, method and seed, or one whose
    network its row does not name.
    """
    from safetensors.torch import save

    rows = {path.parent: _row(path) for path in sorted(out.glob("runs/*/row.json"))}
    trained_rows = {run: row for run, row in rows.items() if row["steps"]}  # the others only drew from a given model
    if not trained_rows:
        raise UserError(f"{out} holds no finished run: name the --out folder of a `pudm figure1` or `pudm train`")
    paths = []
    for path, row in trained_rows.items():
        network, concepts = _checked_network(path, row)
        tensors = {f"network/{name}": value.half().contiguous() for name, value in network.state_dict().items()}
        tensors |= {"concepts/tokens": concepts.tokens.data} if concepts else {}
        tensors |= {f"curve/{n}": c for n, c in thinned(read_log(path)).items()}
        metadata = {"row": json.dumps(row), "command": _command(row)}
        target = folder / file_name(row)
        if target in paths:
            raise UserError(f"two runs under {out} would be {target.name}: keep one of a method and seed in the folder")
        target.parent.mkdir(parents=True, exist_ok=True)
        write_whole(target, lambda to, t=tensors, m=metadata: to.write_bytes(save(t, m)))  # type: ignore[misc]
        paths.append(target)
    return paths


def _row(path: Path) -> dict[str, Any]:
    row = read_json(path)
    if not isinstance(row, dict) or "steps" not in row:
        raise UserError(f"{path} is damaged: run the command that made it again, which makes it anew")
    return row


def _command(row: dict[str, Any]) -> str:
    command = "pudm train --experiment {experiment} --method {method} --beta {beta} --seed {seed} --steps {steps}"
    command += " --conditional" if row.get("conditional") else ""
    return command.format(**row) + (f" --pretrained {row['pretrained']}" if row.get("pretrained") else "")


def _checked_network(path: Path, row: dict[str, Any]) -> tuple[nn.Module, Concepts | None]:
    """The network of a run, if `open_network` will be able to rebuild it, and its process, from the row; and its table,
    if it is conditional."""
    concepts = None
    if row.get("conditional"):
        model = load_conditional(path / "pipeline")
        network, process, concepts = model.network, model.process, model.concepts
    else:
        network, process = load_pipeline(path / "pipeline")
    try:
        named, its_process = named_network(row)
        named.load_state_dict(network.state_dict())
        if process.prediction == its_process.prediction and torch.allclose(process.alpha_bar, its_process.alpha_bar):
            return network, concepts
    except (UserError, KeyError, RuntimeError):
        pass
    raise UserError(
        f"the network of {path} is not one that this package makes by name for a data set of its own: "
        "share the run's folder `pipeline` instead"
    )


def shipped(name: str) -> Trained:
    """A file of data/models/ by its name inside data/, such as `models/mnist-even_nnpu_seed0.safetensors`.

    Raises UserError where the file is missing or damaged.
    """
    from safetensors import safe_open

    path = checked_file(name)
    network, process = open_network(str(path))
    with safe_open(path, "pt") as file:
        row = json.loads(file.metadata()["row"])
        names = [name for name in file.keys() if name.startswith("curve/")]  # noqa: SIM118 (not a dict)
        curves = {name.removeprefix("curve/"): file.get_tensor(name) for name in names}
    return Trained(network, process, row, curves)


SHIPPED_DIGITS = "models/mnist-digits_unsupervised_seed0_conditional.safetensors"


def shipped_conditional(name: str = SHIPPED_DIGITS) -> Conditional:
    """A conditional model of data/models/, with its table of concepts; as it stands, the one of the ten digits.

    Raises UserError where the file is missing or damaged.
    """
    from safetensors import safe_open

    found = shipped(name)
    classes = named_configuration(found.row["experiment"]).normal  # of all digits: nothing there is sensitive
    concepts = Concepts(names=classes)
    with safe_open(checked_file(name), "pt") as file:
        concepts.tokens.data = file.get_tensor("concepts/tokens")
    return Conditional(found.network, found.process, concepts)


def is_of(row: dict[str, Any], exp: Experiment) -> bool:
    """Whether a row's training is the experiment's, by every setting that a row records."""
    recorded = {
        **exp.train.as_row(),
        "method": exp.method,
        "network": exp.network,
        "experiment": exp.configuration,
        "pretrained": exp.pretrained,
    }
    del recorded["labelled"]  # 0 means all; a shipped network has seen all
    row = {"pretrained": "", **row}  # rows from before fine-tuning
    return exp.train.labelled == 0 and all(row[key] == recorded[key] for key in recorded.keys() & row.keys())


def trained(exp: Experiment, folder: Path) -> Trained:
    """The shipped network of the experiment where one may be used; otherwise the experiment is run now, in `folder`.

    The network is on the GPU where there is one, ready to draw from: what is given to it has to go there, too.
    """
    found = _found(exp, folder)
    found.network.to("cuda" if torch.cuda.is_available() else "cpu")
    return found


def _found(exp: Experiment, folder: Path) -> Trained:
    from ..datasets import SHA256

    if allowed() and file_name(exp) in SHA256:
        found = shipped(file_name(exp))
        if is_of(found.row, exp):
            return found
    row = run(exp, folder / exp.name)
    network, process = load_pipeline(folder / exp.name / "pipeline")
    return Trained(network, process, row, thinned(read_log(folder / exp.name)))
