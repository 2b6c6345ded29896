"""The far side, taken apart: how definitions are run, and what is made of errors."""

import ast
import subprocess
import sys

import pytest

from pudm_lite.course.child import named, run


@pytest.fixture(autouse=True)
def main_of_the_tests(monkeypatch):
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])


def test_each_statement_runs_by_itself_and_the_last_failure_is_told():
    source = "import nothing_of_this_name\ndef f(): return 7\nclass Gone:\n    raise SystemExit(3)\nx = f"
    names, broken = run(ast.parse(source).body)
    assert (names["f"](), names["x"]()) == (7, 7)
    assert broken == " (before it, line 3 of a cell failed: SystemExit: 3)"
    assert run(ast.parse("x = 5").body)[1] == ""


def test_it_runs_as_in_a_notebook():
    source = "from __future__ import annotations\nfrom __future__ import division\nfrom dataclasses import dataclass\n"
    source += "import __main__\nmain = __name__ == '__main__'\nitself = __main__.main\n"
    source += "@dataclass\nclass Tails:\n    x: NotDefined = 5\ndef f(x: NotDefined): return Tails().x"
    names, broken = run(ast.parse(source).body)
    assert broken == ""
    assert names["main"] is names["itself"] is True
    assert names["f"](1) == 5
    assert "AttributeError" in run(ast.parse("from __future__ import nothing").body)[1]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the grader's own count holds memory")
@pytest.mark.parametrize(
    ("act", "ends"),
    [
        ("x = bytearray(40 << 20)", "fits"),
        ("x = bytearray(200 << 20)", "MemoryError"),
        ("open(sys.argv[1], 'wb').write(bytes(SCRATCH))", "fits"),
        ("[open(sys.argv[1], 'ab').write(bytes(1 << 20)) for _ in range((SCRATCH >> 20) + 1)]", "OSError"),
    ],
)
def test_a_process_takes_only_so_much_memory_and_writes_no_larger_file(tmp_path, act, ends):
    code = "import signal, sys\nfrom pudm_lite.course.child import SCRATCH, limit\n"
    code += "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\nlimit(100)\n"
    code += f"try:\n    {act}\n    print('fits')\nexcept Exception as error: print(type(error).__name__)"
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "file")], capture_output=True, text=True)
    assert done.stdout.strip() == ends, done.stderr


@pytest.mark.parametrize("text", ["raise", "return 5"])
def test_an_error_that_cannot_be_told_is_an_error_all_the_same(text):
    class Odd(Exception):
        def __str__(self):
            if text == "raise":
                raise KeyboardInterrupt
            return 5

    assert named(Odd()) == "an error without words"
    assert named(ValueError("x" * 1000)) == "ValueError: " + "x" * 300
