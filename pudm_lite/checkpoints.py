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
    like: what it must fit: `network`, a state dict; `parameters`, what is averaged; `optimisers`; `steps` of the run.
    A checkpoint that is torn, of other shapes, or holds a number that is not finite is renamed and not used.
    Raises UserError when a good one belongs to another experiment.
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
        with zipfile.ZipFile(path) as archive:
            if torn := archive.testzip():
                raise _Damaged(f"the checksum of {torn} is wrong")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except _Damaged:
        raise
    except Exception:
        raise _Damaged("it does not open") from None
    wanted = {"identity", "step", "seconds", "log", "network", "ema", "optimisers", "scaler"}
    if not isinstance(state, dict) or not wanted <= state.keys() or not isinstance(state["identity"], dict):
        raise _Damaged("it is no checkpoint of a training")
    return state


def _identity(state: dict[str, Any], identity: dict[str, Any]) -> str:
    was = {**asdict(TrainConfig()), **state["identity"]}  # a setting added since was at its default
    differ = sorted(k for k in was.keys() | identity.keys() if was.get(k) != identity.get(k))
    return ", ".join(f"{k} = {was.get(k)!r} (now {identity.get(k)!r})" for k in differ)


def _checked(state: dict[str, Any], like: dict[str, Any]) -> None:
    """Raises _Damaged unless steps, shapes and numbers are those of the run."""
    step, seconds = state["step"], state["seconds"]
    if type(step) is not int or not 0 < step <= like["steps"]:
        raise _Damaged(f"its step is {step!r}, of {like['steps']}")
    if not isinstance(seconds, int | float) or not 0 <= seconds < math.inf:
        raise _Damaged(f"its training time is {seconds!r}")
    if not isinstance(state["log"], dict) or not all(isinstance(curve, list) for curve in state["log"].values()):
        raise _Damaged("its log is unreadable")
    _alike("the network", state["network"], like["network"])
    shadow = state["ema"].get("shadow_params") if isinstance(state["ema"], dict) else None
    if not isinstance(shadow, list) or [value.shape for value in shadow] != [p.shape for p in like["parameters"]]:
        raise _Damaged("the average is missing, or has other shapes")
    _finite("the average", shadow)
    if not isinstance(state["optimisers"], list) or len(state["optimisers"]) != len(like["optimisers"]):
        raise _Damaged("its optimisers are others")
    moved = len(state["log"].get("skipped", [])) < step  # else no optimiser has made a step yet
    for saved, optimiser in zip(state["optimisers"], like["optimisers"], strict=True):
        parameters = [p for group in optimiser.param_groups for p in group["params"]]
        moments = saved.get("state", {})
        if len(moments) != moved * len(parameters):
            raise _Damaged("the state of an optimiser is missing")
        for at, of_one in moments.items():
            if any(value.ndim and value.shape != parameters[at].shape for value in of_one.values()):
                raise _Damaged("the state of an optimiser has other shapes")
        _finite("the state of an optimiser", moments)
    _finite("the importance of timesteps", state.get("importance", {}))


def _alike(what: str, saved: Any, wanted: dict[str, Tensor]) -> None:
    if not isinstance(saved, dict) or saved.keys() != wanted.keys():
        raise _Damaged(f"{what} has other parameters")
    for name, value in saved.items():
        if not isinstance(value, Tensor) or value.shape != wanted[name].shape:
            raise _Damaged(f"{what} has another shape at {name}")
    _finite(what, saved)


def _finite(what: str, value: Any) -> None:
    if isinstance(value, dict | list):
        parts = value.values() if isinstance(value, dict) else value
        for part in parts:
            _finite(what, part)
    elif isinstance(value, Tensor) and not torch.isfinite(value).all():
        raise _Damaged(f"{what} holds a number that is not finite")
