"""Submissions that are right, wrong, unwilling and hostile. Exercise 01.1, `forward`, stands for all."""

import csv
import sys

import nbformat
import pytest
import torch
from nbformat.v4 import new_code_cell, new_notebook

from pudm_lite.cli import main
from pudm_lite.course.checks import WrongAnswer, all_checks
from pudm_lite.course.child import definitions
from pudm_lite.course.grading import Child, grade_notebook

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="grading needs POSIX limits")]

RIGHT = """
def forward(x0, t, eps, alpha_bar):
    a = alpha_bar[t].reshape(-1, 1, 1, 1)
    return a ** 0.5 * x0 + (1 - a) ** 0.5 * eps
"""


def submission(path, *cells):
    path.parent.mkdir(parents=True, exist_ok=True)
    notebook = new_notebook(cells=[new_code_cell(cell) for cell in cells])
    notebook.metadata["pudm_lite"] = {"notebook": "01", "kind": "student"}
    nbformat.write(notebook, path)
    return path


def graded(path, **limits):
    return {grade.exercise: grade for grade in grade_notebook(path, **limits)}


def test_a_right_answer_earns_its_points(tmp_path):
    path = submission(tmp_path / "a.ipynb", "import torch", "%pip install x\n!ls", "1 +", RIGHT)
    assert graded(path)["01.1"].points == all_checks()["01.1"].points > 0


def test_only_what_the_notebook_defines_is_graded_and_nothing_else_of_it_runs(tmp_path):
    path = submission(tmp_path / "a.ipynb", RIGHT, "while True:\n    pass", "open('ran', 'w')", "x = 5", "y = f(x)")
    assert set(graded(path)) == {"01.1"}
    source, names = definitions(path)
    assert names == {"forward"}
    assert "x = 5" in source
    assert not any(part in source for part in ("while", "open", "f(x)"))


@pytest.mark.parametrize("text", ["not json", "[]", "{}", '{"cells": [], "metadata": []}', '{"cells": [{}]}'])
def test_a_file_that_is_no_notebook_is_said_to_be_none(tmp_path, text):
    (tmp_path / "01_a.ipynb").write_text(text)
    (grade,) = grade_notebook(tmp_path / "01_a.ipynb")
    assert (grade.points, grade.why) == (0, "01_a.ipynb is not a notebook that can be read")


def test_odd_cells_do_not_hide_the_others(tmp_path):
    cells = ["a = {[]: 1}", "b = '\0'", "c = " + "(" * 5000, RIGHT]
    assert definitions(submission(tmp_path / "a.ipynb", *cells))[1] == {"forward"}


def function(body):
    return f"import os, time, torch\ndef forward(x0, t, eps, alpha_bar):\n    {body}"


FAILS = {  # what a function does: why it earns nothing
    "raise SystemExit": "stopped with SystemExit",
    "return lambda: 1": "stopped with|no tensor",
    "return undefined_name": "NameError",
    "return os.system": "stopped with|no tensor",
    "x = [bytearray(2**28) for _ in range(8)]": "MemoryError",
    "while True: pass": "no answer within 6 seconds",
    "time.sleep(100)": "no answer within 6 seconds",
    "os._exit(0)": "the process died",
    "os.abort()": "the process died",
}


def test_a_function_that_fails_gets_a_reason_and_the_next_is_asked_all_the_same(tmp_path):
    bodies = "\n".join(f"def f{i}():\n    {body}" for i, body in enumerate(FAILS))
    child = Child(submission(tmp_path / "a.ipynb", f"import os, time\n{bodies}\ndef good():\n    return 7"), 6, 600)
    for i, why in enumerate(FAILS.values()):
        with pytest.raises(WrongAnswer, match=why):
            child.call(f"f{i}", (), {})
    assert child.call("good", (), {}) == 7
    child.stop()


def test_a_stub_and_a_typical_mistake_are_told_apart(tmp_path):
    stub = submission(tmp_path / "a.ipynb", function("raise NotImplementedError"))
    assert graded(stub)["01.1"].why == "not written"
    wrong = "return alpha_bar[t].sqrt().view(-1,1,1,1)*x0 + (1-alpha_bar[t]).view(-1,1,1,1)*eps"
    assert "multiplied by its root" in graded(submission(tmp_path / "a.ipynb", function(wrong)))["01.1"].why


def test_a_hang_in_one_function_does_not_cost_the_others(tmp_path):
    other = all_checks()["01.2"].function
    path = submission(tmp_path / "a.ipynb", f"def {other}(*a, **k):\n    while True: pass", RIGHT)
    grades = graded(path, seconds=2)
    assert (grades["01.1"].points, grades["01.2"].points) == (1, 0)


def test_replacing_print_or_the_checks_scores_nothing(tmp_path):
    cheat = """
import pudm_lite.course.checks.harness, pudm_lite.diffusion, torch, builtins
class Cheat:
    builtins.print = lambda *a, **k: None
    pudm_lite.course.checks.harness.expect = lambda *a, **k: None
    pudm_lite.course.checks.harness.Check.examine = lambda self, f: None
    pudm_lite.diffusion.q_sample = lambda x0, t, eps, alpha_bar: x0
    torch.allclose = lambda *a, **k: True
def print(*a): pass
def forward(x0, t, eps, alpha_bar): return x0
"""
    assert graded(submission(tmp_path / "a.ipynb", cheat))["01.1"].points == 0


def test_an_answer_cannot_run_code_in_the_grader(tmp_path):
    body = """
class Bomb:
    def __reduce__(self):
        return (open, ("exploded", "w"))
def forward(x0, t, eps, alpha_bar):
    return Bomb()
"""
    path = submission(tmp_path / "a.ipynb", body)
    assert graded(path)["01.1"].points == 0
    assert not (tmp_path / "exploded").exists()
    child = Child(path, 10, 500)
    with pytest.raises(WrongAnswer, match="no tensor"):
        child.call("forward", (1, 2, 3, 4), {})
    child.stop()


def test_a_submission_has_no_network_where_the_system_allows_it(tmp_path):
    ask = "import socket\ndef forward():\n    return [name for _, name in socket.if_nameindex()]"
    child = Child(submission(tmp_path / "a.ipynb", ask), 10, 500)
    seen = child.call("forward", (), {})
    child.stop()
    if seen != ["lo"]:
        pytest.skip("this system lets no process give up its network")


def test_tensors_cross_the_border_unchanged(tmp_path):
    child = Child(submission(tmp_path / "a.ipynb", "def forward(x, **more):\n    return [x, more]"), 10, 500)
    x = torch.randn(3, 4, dtype=torch.float64)
    back, more = child.call("forward", (x,), {"beta": 0.1, "names": ["a", "b"]})
    child.stop()
    assert torch.equal(back, x)
    assert more == {"beta": 0.1, "names": ["a", "b"]}


def test_the_command_writes_one_row_a_student(tmp_path, capsys):
    submission(tmp_path / "in" / "ann" / "01_x.ipynb", RIGHT)
    submission(tmp_path / "in" / "ann" / "01_old.ipynb", function("return x0"))  # the best one counts
    submission(tmp_path / "in" / "bob.ipynb", function("return x0 + eps"))
    (tmp_path / "in" / "cyd.ipynb").write_text("not json")
    out = tmp_path / "grades.csv"
    assert main(["grade", str(tmp_path / "in"), "--out", str(out)]) == 0
    ann, bob, cyd = csv.DictReader(out.open())
    assert (ann["student"], ann["points"], ann["of"], ann["01.1"], ann["01.1 why"]) == ("ann", "1", "1", "1", "")
    assert (bob["student"], bob["points"], bob["01.1"]) == ("bob", "0", "0")
    assert bob["01.1 why"]
    assert (cyd["student"], cyd["points"]) == ("cyd", "0")
    assert "not a notebook" in cyd["notes"]
    assert "ann: 1 points" in capsys.readouterr().out


def test_an_empty_folder_is_refused(tmp_path, capsys):
    assert main(["grade", str(tmp_path), "--out", str(tmp_path / "g.csv")]) == 2
    assert "holds no notebooks" in capsys.readouterr().err
