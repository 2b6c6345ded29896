"""The list of faults does not rot: each can still be put in, one place at a time, and somebody is to notice it."""

import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import mutants
import pytest
from faults import FAULTS, Fault

from pudm_lite import errors

PACKAGE, TESTS = Path(errors.__file__).parent, Path(__file__).parent


@pytest.mark.parametrize("file", sorted({fault.file for fault in FAULTS}))
def test_every_fault_can_be_put_into_its_file(file):
    """Its text stands there exactly once, and what comes in its place is another text and still Python."""
    whole = (PACKAGE / file).read_text(encoding="utf-8")
    for fault in (fault for fault in FAULTS if fault.file == file):
        assert whole.count(fault.old) == 1, f"{fault.old!r} stands {whole.count(fault.old)} times in {file}"
        assert fault.new != fault.old
        compile(whole.replace(fault.old, fault.new), file, "exec")
        assert all((TESTS / name).is_file() for name in fault.tests)


def test_there_are_many_and_none_twice():
    assert len(FAULTS) >= 150
    assert Counter(FAULTS).most_common(1)[0][1] == 1


def test_faults_are_chosen_by_a_word_of_their_file_text_or_tests():
    assert mutants.chosen([]) == FAULTS
    assert {fault.file for fault in mutants.chosen(["priors"])} == {"priors.py"}
    assert [fault.old for fault in mutants.chosen(["trainer.ema\n"])] == ["    network = trainer.ema\n"]


def test_the_shortest_tests_of_a_file_run_first(tmp_path):
    (tmp_path / "seconds.json").write_text(json.dumps({"a::slow": 3.0, "a::quick": 0.1, "b::x": 9.0}))
    names = ["b::x", "a::slow", "a::quick", "a::new"]
    items = [SimpleNamespace(path=name[0], nodeid=name) for name in names]
    order = mutants.ShortestFirst(tmp_path / "seconds.json")
    order.pytest_collection_modifyitems(items)
    assert [item.nodeid for item in items] == ["b::x", "a::new", "a::quick", "a::slow"]
    for passed, seconds in ((True, 0.5), (True, 2.0), (False, 7.0)):
        order.pytest_runtest_logreport(SimpleNamespace(nodeid="a::new", passed=passed, duration=seconds))
    order.pytest_sessionfinish(0)
    assert mutants.ShortestFirst(tmp_path / "seconds.json").seconds["a::new"] == 2.5


SUM = "def add(a, b):\n    return a + b\n"
TEST = "from pudm_lite.sum import add\n\ndef test_add():\n    assert add(2, 2) == 4\n"


@pytest.mark.slow
def test_a_fault_that_is_noticed_is_killed_and_another_survives(tmp_path, monkeypatch, capsys):
    """On a package of one function, whose test does not tell a sum from a product."""
    for name, text in {"pudm_lite/sum.py": SUM, "pudm_lite/__init__.py": "", "tests/test_sum.py": TEST}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "pyproject.toml").write_text("[tool.pytest.ini_options]\nmarkers = ['slow: slow']\n")
    monkeypatch.setattr(mutants, "ROOT", tmp_path)
    monkeypatch.setattr(mutants, "HEAVY", [])
    both = [Fault("sum.py", ("test_sum.py",), "a + b", "a - b"), Fault("sum.py", ("test_sum.py",), "a + b", "a * b")]
    monkeypatch.setattr(mutants, "FAULTS", both)
    assert mutants.main(["a - b"]) == 0
    assert mutants.main([]) == 1
    said = capsys.readouterr().out
    assert "killed  sum.py: 'a + b' -> 'a - b'" in said
    assert "SURVIVED  sum.py: 'a + b' -> 'a * b'" in said
    assert said.endswith("1 killed, 1 survived\n")
    (tmp_path / "tests" / "test_sum.py").write_text(TEST.replace("4", "5"))
    assert mutants.main([]) == 2
    assert "fails without a fault" in capsys.readouterr().out
    assert (tmp_path / "pudm_lite" / "sum.py").read_text() == SUM
