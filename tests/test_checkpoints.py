"""A checkpoint is whole or it is not used: torn files, flipped bits, foreign shapes, numbers that are none."""

import errno
import io
import math
import os
import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_training import CONFIG, make, weights

from pudm_lite.checkpoints import BEFORE, DAMAGED, NEWEST, write_checkpoint
from pudm_lite.errors import UserError


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The bytes of the two newest checkpoints of a run, and its weights at the end."""
    folder = tmp_path_factory.mktemp("run")
    trainer = make(CONFIG, folder, save_every=0.0)
    list(trainer)
    return (folder / NEWEST).read_bytes(), (folder / BEFORE).read_bytes(), weights(trainer.network)


@pytest.fixture
def folder(tmp_path, saved):
    (tmp_path / NEWEST).write_bytes(saved[0])
    (tmp_path / BEFORE).write_bytes(saved[1])
    return tmp_path


def change(folder, name=NEWEST, **fields):
    state = torch.load(folder / name, weights_only=True)
    torch.save(state | fields, folder / name)


def test_the_last_two_are_kept(folder):
    assert [torch.load(folder / name, weights_only=True)["step"] for name in (NEWEST, BEFORE)] == [12, 11]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=["full", "stop"])
def test_while_one_is_written_the_last_stands(folder, saved, monkeypatch, error):
    """Nothing is written in its place: half a checkpoint, then the end."""

    def half(state, file):
        file.write(saved[0][: len(saved[0]) // 2])
        raise error

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises((UserError, KeyboardInterrupt)):
        write_checkpoint(folder, {"step": 13})
    assert (folder / NEWEST).read_bytes() == saved[0]
    assert (folder / BEFORE).read_bytes() == saved[0]


def assert_goes_on(folder, saved):
    """From the checkpoint before, to the same end; the damaged one lies aside, and the user is told."""
    trainer = make(CONFIG, folder)
    assert trainer.step == 11
    assert (folder / DAMAGED).exists()
    assert "set aside as checkpoint.damaged.pt" in trainer.notes[0]
    assert trainer.notes[1] == "training goes on from checkpoint.before.pt, at step 11"
    list(trainer)
    assert torch.equal(weights(trainer.network), saved[2])


@pytest.mark.parametrize("seed", range(30))
def test_a_flipped_bit_is_noticed_or_changes_nothing(folder, saved, seed):
    data, draw = bytearray(saved[0]), random.Random(seed)
    data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    (folder / NEWEST).write_bytes(data)
    trainer = make(CONFIG, folder)
    if trainer.step == CONFIG.steps:  # it hit what no reader uses, such as padding
        assert torch.equal(weights(trainer.network), saved[2])
    else:
        assert trainer.step == 11
        assert "is damaged" in trainer.notes[0]


def test_a_flipped_bit_of_the_weights_is_noticed(folder, saved):
    data = bytearray(saved[0])
    state = torch.load(folder / NEWEST, weights_only=True)
    at = data.find(state["network"]["conv1.bias"].numpy().tobytes())
    assert at > 0
    data[at + 11] ^= 16
    (folder / NEWEST).write_bytes(data)
    assert_goes_on(folder, saved)


@pytest.mark.parametrize("length", [0, 1, 100, 3000, -1, -200])
def test_a_torn_file(folder, saved, length):
    (folder / NEWEST).write_bytes(saved[0][:length])
    assert_goes_on(folder, saved)


class Harmful:
    def __reduce__(self):
        return print, ("unpickled",)


@pytest.mark.parametrize(
    "fields",
    [
        {"step": -1},
        {"step": 0},
        {"step": 13},
        {"step": 2.0},
        {"step": True},
        {"step": "4"},
        {"seconds": math.nan},
        {"seconds": "long"},
        {"log": [1, 2]},
        {"log": {"value": 3}},
        {"log": {"value": [3]}},
        {"log": {"value": [[1, "x"]]}},
        {"identity": {1: 2, "seed": 5}},
        {"threads": 0},
        {"threads": "two"},
        {"scaler": {"scale": 2.0}},
        {"scaler": None},
        {"network": {}},
        {"network": [1]},
        {"ema": {}},
        {"ema": None},
        {"optimisers": []},
        {"optimisers": [{"state": {}, "param_groups": []}]},
        {"importance": {"squares": torch.tensor([math.inf]), "updates": 1}},
    ],
    ids=str,
)
def test_a_checkpoint_of_another_structure(folder, saved, fields):
    change(folder, **fields)
    assert_goes_on(folder, saved)


def places(state, *path):
    """The keys that lead to each part of a checkpoint: dicts, lists, tensors, numbers; of a long list the first two."""
    parts = state.items() if isinstance(state, dict) else enumerate(state[:2]) if isinstance(state, list) else ()
    for name, part in parts:
        yield (*path, name)
        yield from places(part, *path, name)


def changed(state, path, how):
    """The state with one part taken out, or something else in its place."""
    *above, name = path
    for one in above:
        state = state[one]
    if how == "gone":
        del state[name]
    else:
        state[name] = {"none": None, "text": "x", "tensor": torch.ones(2, 3, 5)}[how]


def test_whatever_is_not_as_it_was_is_noticed_or_changes_nothing(tmp_path):
    """Every part of a checkpoint in turn; the identity apart, which says what the run is, and the log."""
    config = replace(CONFIG, timesteps="importance", steps=3)
    first = next(iter(make(config, tmp_path, save_every=0.0)))
    whole, unbroken = (tmp_path / NEWEST).read_bytes(), make(config)
    list(unbroken)
    state = torch.load(tmp_path / NEWEST, weights_only=True)
    assert state["step"] == first.step == 1
    noticed = []
    for path in [path for path in places(state) if path[0] not in ("identity", "log", "seconds")]:
        for how in ("gone", "none", "text", "tensor"):
            state = torch.load(io.BytesIO(whole), weights_only=True)
            changed(state, path, how)
            torch.save(state, tmp_path / NEWEST)
            trainer = make(config, tmp_path)
            assert trainer.step in (0, 1)
            noticed.append(trainer.step == 0)
            if trainer.step:
                list(trainer)
                assert torch.equal(weights(trainer.network), weights(unbroken.network)), (path, how)
            for name in (DAMAGED, BEFORE):
                (tmp_path / name).unlink(missing_ok=True)
    assert len(noticed) > 200
    assert sum(noticed) > 0.9 * len(noticed)


def test_what_the_system_does_not_let_be_read_is_not_set_aside(folder, saved, monkeypatch):
    """It may be as good as ever, and training would start over."""

    def refuse(path, *_, **__):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", refuse)
        with pytest.raises(UserError, match=r"checkpoint\.pt cannot be read \(Permission denied\)"):
            make(CONFIG, folder)
    with monkeypatch.context() as patched:
        patched.setattr(torch, "load", lambda *_, **__: bytearray(1 << 62))
        with pytest.raises(UserError, match=r"checkpoint\.pt does not fit into the memory"):
            make(CONFIG, folder)
    assert (folder / NEWEST).read_bytes() == saved[0]


@pytest.mark.parametrize("step", [-1, 0])
def test_a_step_that_no_run_saves(folder, saved, step):
    """Also where the rest agrees with it: before its first step no optimiser has moments."""
    state = torch.load(folder / NEWEST, weights_only=True)
    optimisers = [optimiser | {"state": {}} for optimiser in state["optimisers"]]
    torch.save(state | {"step": step, "optimisers": optimisers}, folder / NEWEST)
    assert_goes_on(folder, saved)


@pytest.mark.parametrize("part", ["network", "average", "optimiser"])
@pytest.mark.parametrize("fault", ["nan", "shape"])
def test_a_tensor_of_another_shape_or_without_numbers(folder, saved, part, fault):
    state = torch.load(folder / NEWEST, weights_only=True)

    def broken(tensor):
        return tensor * math.nan if fault == "nan" else tensor[:1].clone()

    if part == "network":
        state["network"]["conv2.weight"] = broken(state["network"]["conv2.weight"])
    elif part == "average":
        state["ema"]["shadow_params"][2] = broken(state["ema"]["shadow_params"][2])
    else:
        moments = state["optimisers"][0]["state"][0]
        moments["momentum"] = broken(moments["momentum"])
    torch.save(state, folder / NEWEST)
    assert_goes_on(folder, saved)


def test_no_pickle_runs(folder, saved, capsys):
    torch.save({"identity": {}, "step": Harmful()}, folder / NEWEST)
    assert_goes_on(folder, saved)
    assert "unpickled" not in capsys.readouterr().out


def test_where_none_is_good_training_starts_over_and_says_so(folder, saved):
    for name in (NEWEST, BEFORE):
        (folder / name).write_bytes(b"no checkpoint")
    trainer = make(CONFIG, folder)
    assert trainer.step == 0
    assert trainer.notes[-1] == "no good checkpoint is left: training starts over"
    list(trainer)
    assert torch.equal(weights(trainer.network), saved[2])


def test_a_good_one_of_another_experiment_is_refused_and_stays(folder, saved):
    with pytest.raises(UserError, match="belongs to another experiment"):
        make(CONFIG, folder, {"network": "other"})
    assert (folder / NEWEST).read_bytes() == saved[0]


def test_a_stop_between_two_moves_loses_nothing(folder, saved):
    """The newest has moved to the place of the one before, and its successor did not come."""
    (folder / BEFORE).write_bytes(saved[0])
    (folder / NEWEST).unlink()
    trainer = make(CONFIG, folder)
    assert trainer.step == CONFIG.steps
    assert torch.equal(weights(trainer.network), saved[2])


def test_a_stop_between_two_moves_leaves_no_third_name(folder, saved):
    """After it the two names are of one file, and a move between such names does nothing."""
    (folder / BEFORE).unlink()
    (folder / BEFORE).hardlink_to(folder / NEWEST)
    write_checkpoint(folder, {"step": 13})
    assert {path.name for path in folder.iterdir()} == {NEWEST, BEFORE}
    assert (folder / BEFORE).read_bytes() == saved[0]
