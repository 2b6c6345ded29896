"""What TensorBoard is given of runs, read back as it reads it; and runs that nobody logs."""

import sys

import numpy as np
import pytest
from PIL import Image

from pudm_lite import cli
from pudm_lite.errors import UserError
from pudm_lite.runs.logbook import beside, writer_class
from pudm_lite.training import Record


def step(at, value, **terms):
    return "step", Record(at, 9, 1.0, value, terms)


def test_without_a_folder_nothing_stands_between():
    def hear(*word):
        pass

    with beside(hear, None) as same:
        assert same is hear


def test_curves_samples_and_measures_are_where_tensorboard_looks(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    Image.fromarray(np.full((8, 12), 90, np.uint8)).save(tmp_path / "strip_000002.png")
    heard = []
    words = [
        ("a", "start", None),
        ("a", *step(1, 5.0, L_U_minus=3.0)),
        ("a", *step(2, 4.0, L_U_minus=2.0)),
        ("a", "strip", tmp_path / "strip_000002.png"),
        ("b", *step(1, 7.0)),
        ("a", "done", {"steps": 9, "non_sensitive_rate": 0.75}),
        ("b", "error", "no data"),
    ]
    with beside(lambda *word: heard.append(word), tmp_path / "log") as hear:
        for word in words:
            hear(*word)
    assert heard == words
    events = EventAccumulator(str(tmp_path / "log" / "a")).Reload()
    assert [(e.step, e.value) for e in events.Scalars("training/risk")] == [(1, 5.0), (2, 4.0)]
    assert [(e.step, e.value) for e in events.Scalars("training/L_U_minus")] == [(1, 3.0), (2, 2.0)]
    assert [(e.step, e.value) for e in events.Scalars("samples/non_sensitive_rate")] == [(9, 0.75)]
    (image,) = events.Images("samples")
    assert (image.step, image.width, image.height) == (2, 12, 8)
    assert [e.step for e in EventAccumulator(str(tmp_path / "log" / "b")).Reload().Scalars("training/risk")] == [1]


def test_a_run_that_was_cut_off_goes_on_from_its_checkpoint(tmp_path):
    """Steps 3 and 4 came after the checkpoint: they are made again, and count once."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for values in ([(1, 5.0), (2, 4.0), (3, 3.0), (4, 2.0)], [(3, 3.5), (4, 2.5)]):
        with beside(lambda *word: None, tmp_path) as hear:
            for at, value in values:
                hear("a", *step(at, value))
    scalars = EventAccumulator(str(tmp_path / "a")).Reload().Scalars("training/risk")
    assert [(e.step, e.value) for e in scalars] == [(1, 5.0), (2, 4.0), (3, 3.5), (4, 2.5)]


def test_what_lacks_is_said_before_any_work(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UserError, match=r"pip install 'pudm_lite\[log\]'"):
        writer_class()
    monkeypatch.setattr("pudm_lite.runs.parallel.pool", lambda *a, **k: pytest.fail("work began"))
    for command in ("train", "sweep", "figure1"):
        assert cli.main([command, "--out", str(tmp_path), "--log-to", str(tmp_path / "log")]) == 2
        assert "--log-to needs tensorboard" in capsys.readouterr().err
