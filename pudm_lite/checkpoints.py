"""Checkpoints of a run: the last two are kept, each is checked whole before it is used, a damaged one is set aside."""

import math
import os
import zipfile
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .errors import UserError
from .files import write_tensors
from .optimisers import MOMENTS
from .settings import TrainConfig

NEWEST, BEFORE, DAMAGED = "checkpoint.pt", "checkpoint.before.pt", "checkpoint.damaged.pt"


def write_checkpoint(folder: Path, state: dict[str, Any]) -> None:
    """Write folder/checkpoint.pt; the one that was there stays beside it. Raises UserError on a full disk, all kept."""
    newest = folder / NEWEST
    if newest.exists():
        second_name = folder / f".{BEFORE}"
        second_name.unlink(missing_ok=True)
        with suppress(OSError):  # a drive without hard links keeps one checkpoint
            second_name.hardlink_to(newest)
            os.replace(second_name, folder / BEFORE)
        second_name.unlink(missing_ok=True)  # a move between two names of one file, as a kill may leave, does nothing
    write_tensors(newest, state)


def read_checkpoint(
    folder: Path, identity: dict[str, Any], like: dict[str, Any]
) -> tuple[dict[str, Any] | None, list[str]]:
    """The newest good checkpoint of a folder, None where there is none, and what to tell the user of the others.

    identity: what the run is, which the checkpoint must agree with.
    like: what it must fit: state dicts of `network`, `ema`, `scaler`, `importance`; `optimisers`; `steps` of the run.
    A checkpoint that is torn, of other shapes, or holds a number that is not finite is renamed and not used.
    Raises UserError when a good one belongs to another experiment, and for one that the system does not let be read.
    """
    notes: list[str] = []
    for path in (folder / NEWEST, folder / BEFORE):
        if not path.exists():
            continue
        try:
            state = _opened(path)
            if fault := _identity(state, identity):
                raise UserError(f"{path} belongs to another experiment: {fault}; to resume, give the same options")
            _checked(state, like)
            if notes:
                notes.append(f"training goes on from {path.name}, at step {state['step']}")
            return state, notes
        except _Damaged as fault:
            aside = folder / DAMAGED
            os.replace(path, aside)
            notes.append(f"{path} is damaged ({fault}): it was set aside as {aside.name}")
    if notes:
        notes.append("no good checkpoint is left: training starts over")
    return None, notes


class _Damaged(Exception):
    pass


def _opened(path: Path) -> dict[str, Any]:
    """What torch.save wrote, every record of the archive held to its checksum; nothing but plain data is unpickled."""
    try:
        path.open("rb").close()
    except OSError as error:  # it may be as good as ever
        raise UserError(f"{path} cannot be read ({error.strerror}), and training would start over without it") from None
    try:
        with zipfile.ZipFile(path) as archive:
            if torn := archive.testzip():
                raise _Damaged(f"the checksum of {torn} is wrong")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except _Damaged:
        raise
    except MemoryError:
        raise UserError(f"{path} does not fit into the memory of this machine: close other programs") from None
    except Exception:
        raise _Damaged("it does not open") from None
    wanted = {"identity", "step", "seconds", "log", "network", "ema", "optimisers", "scaler"}
    if not isinstance(state, dict) or not wanted <= state.keys() or not _names(state["identity"]):
        raise _Damaged("it is no checkpoint of a training")
    return state


def _names(identity: Any) -> bool:
    return isinstance(identity, dict) and all(isinstance(name, str) for name in identity)


def _identity(state: dict[str, Any], identity: dict[str, Any]) -> str:
    was = {**asdict(TrainConfig()), **state["identity"]}  # a setting added since was at its default
    differ = sorted(k for k in was.keys() | identity.keys() if was.get(k) != identity.get(k))
    return ", ".join(f"{k} = {was.get(k)!r} (now {identity.get(k)!r})" for k in differ)


def _checked(state: dict[str, Any], like: dict[str, Any]) -> None:
    """Raises _Damaged unless steps, structure, shapes and numbers are those of the run."""
    step, seconds, threads = state["step"], state["seconds"], state.get("threads", 1)
    if type(step) is not int or not 0 < step <= like["steps"]:
        raise _Damaged(f"its step is {step!r}, of {like['steps']}")
    if not isinstance(seconds, int | float) or not 0 <= seconds < math.inf:
        raise _Damaged(f"its training time is {seconds!r}")
    if type(threads) is not int or threads < 1:
        raise _Damaged(f"its number of threads is {threads!r}")
    if not isinstance(state["log"], dict) or not all(map(_is_curve, state["log"].values())):
        raise _Damaged("its log is unreadable")
    _alike("the network", state["network"], like["network"])
    _alike("the average", state["ema"], like["ema"])
    if state["scaler"] != {}:  # without half precision there is none
        _alike("the scaler", state["scaler"], like["scaler"])
    if "importance" in state:  # it is younger than some checkpoints
        _alike("the importance of timesteps", state["importance"], like["importance"])
    if not isinstance(state["optimisers"], list) or len(state["optimisers"]) != len(like["optimisers"]):
        raise _Damaged("its optimisers are others")
    moved = len(state["log"].get("skipped", [])) < step  # else no optimiser has made a step yet
    for saved, optimiser in zip(state["optimisers"], like["optimisers"], strict=True):
        _check_optimiser(saved, optimiser, moved)


def _is_curve(curve: Any) -> bool:
    """[[step, value], ...]"""
    return isinstance(curve, list) and all(
        isinstance(pair, list) and len(pair) == 2 and all(isinstance(number, int | float) for number in pair)
        for pair in curve
    )


def _check_optimiser(saved: Any, optimiser: torch.optim.Optimizer, moved: bool) -> None:
    """Raises _Damaged unless `saved` fits the optimiser. moved: whether it has made a step, and so has moments."""
    if not isinstance(saved, dict) or not {"state", "param_groups"} <= saved.keys():
        raise _Damaged("the state of an optimiser is missing")
    groups, wanted = saved["param_groups"], optimiser.state_dict()["param_groups"]
    if not isinstance(groups, list) or len(groups) != len(wanted):
        raise _Damaged("an optimiser has other groups")
    for group, its in zip(groups, wanted, strict=True):
        if not isinstance(group, dict):
            raise _Damaged("an optimiser has other groups")
        # Which flags a group has depends on PyTorch's version; rates and the like it has in all.
        known = {name: value for name, value in its.items() if name in group or not isinstance(value, bool | None)}
        _alike("a group of an optimiser", {name: group.get(name) for name in known}, known)
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    moments = saved["state"]
    if not isinstance(moments, dict) or moments.keys() != set(range(len(parameters)) if moved else ()):
        raise _Damaged("the state of an optimiser is missing")
    for at, of_one in moments.items():
        names = MOMENTS[type(optimiser).__name__]
        like = {name: torch.zeros(()) if name == "step" else parameters[at] for name in names}
        _alike("the state of an optimiser", of_one, like)


def _alike(what: str, saved: Any, wanted: Any) -> None:
    """Raises _Damaged unless `saved` is built as `wanted`: keys, lengths, shapes and types; and its numbers finite."""
    if isinstance(wanted, dict):
        if not isinstance(saved, dict) or saved.keys() != wanted.keys():
            raise _Damaged(f"{what} has other parts, or is missing")
        for name in wanted:
            _alike(what, saved[name], wanted[name])
    elif isinstance(wanted, list | tuple):
        if type(saved) is not type(wanted) or len(saved) != len(wanted):
            raise _Damaged(f"{what} has other parts, or is missing")
        for one, other in zip(saved, wanted, strict=True):
            _alike(what, one, other)
    elif isinstance(wanted, Tensor):
        if not isinstance(saved, Tensor) or saved.shape != wanted.shape or saved.is_complex():
            raise _Damaged(f"{what} has another shape")
        if not torch.isfinite(saved).all():
            raise _Damaged(f"{what} holds a number that is not finite")
    elif type(saved) is not type(wanted):
        raise _Damaged(f"{what} holds {saved!r} in the place of {wanted!r}")
