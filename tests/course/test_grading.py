"""A class of hostile students, graded in one run beside three good ones, whose points must not suffer; then each rule.

Nothing in here would hurt if the walls fell: the victims are a process that sleeps, a file, and a socket of the test's.
"""

import csv
import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from pudm_lite.cli import main
from pudm_lite.course import grading
from pudm_lite.course.checks import all_checks
from pudm_lite.course.checks.harness import WrongAnswer
from pudm_lite.course.grades import Grade, Kept, Outcome
from pudm_lite.course.grading import grade_notebook, grade_student, number_in
from pudm_lite.course.submissions import Submission

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="grading needs POSIX limits")

RIGHT = """
def forward(x0, t, eps, alpha_bar):
    a = alpha_bar[t].reshape(-1, 1, 1, 1)
    return a ** 0.5 * x0 + (1 - a) ** 0.5 * eps
"""
POSTERIOR = """
def posterior(x0, x_t, ab_t, ab_s):
    a = ab_t / ab_s
    mean = ab_s ** 0.5 * (1 - a) / (1 - ab_t) * x0 + a ** 0.5 * (1 - ab_s) / (1 - ab_t) * x_t
    return mean, (1 - ab_s) / (1 - ab_t) * (1 - a)
"""
SECONDS, MEMORY = 4, 600
GOOD = ("aa", "mm", "zz")


def notebook(path: Path, *cells: str, **metadata: object) -> Path:
    """A notebook of these cells, with the metadata of the course's first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    code = [{"cell_type": "code", "source": cell} for cell in cells]
    path.write_text(json.dumps({"cells": code, "metadata": {"pudm_lite": {"notebook": "01"}} | metadata}))
    return path


def function(*body: str, name: str = "forward") -> str:
    lines = "\n    ".join(body)
    return f"import os, sys, time, socket, torch\ndef {name}(*given, **named):\n    {lines}\n"


FILES = {  # student: what is handed in, where no function ever runs. The row: points, and what is said
    "binary": (bytes(range(256)), "not a notebook"),
    "empty": (b"", "not a notebook"),
    "text": (b"not json", "not a notebook"),
    "list": (b"[]", "not a notebook"),
    "no_cells": (b"{}", "not a notebook"),
    "odd_cells": (b'{"cells": [5, {}]}', "not a notebook"),
    "deep": (b"[" * 200_000, "not a notebook"),
    "digits": (b'{"cells": ' + b"9" * 100_000 + b"}", "not a notebook"),
    "utf16": ('{"cells": []}'.encode("utf-16"), "not a notebook"),
    "all_prose": (b'{"cells": [{"cell_type": "code", "source": "My answer is below."}]}', r"code cell 1 \("),
    "brackets": (json.dumps({"cells": [{"cell_type": "code", "source": "(" * 10_000}]}).encode(), r"code cell 1 \("),
    "many_names": (
        json.dumps(
            {"cells": [{"cell_type": "code", "source": f"def f{i}_{'x' * 9000}(): 0"} for i in range(1000)]}
        ).encode(),
        "too large",
    ),
}
NAMES = {"=1+2": "'=1+2", "@SUM(A1)": "'@SUM(A1)", "-1": "'-1", "+1": "'+1", "tab\t\n\x1b[31m": r"tab\t\n\x1b[31m"}
FATAL = {  # student: a cell after which the process is gone, or hangs, or is stopped; and what is said
    "exits": (function("os._exit(0)"), "the process died"),
    "aborts": (function("os.abort()"), "the process died"),
    "hangs": (function("while True: pass"), "no answer within 4 seconds"),
    "loop_in_a_class": (RIGHT + POSTERIOR + "class Slow:\n    while True: pass", "not defined within 4 seconds"),
    "exit_in_a_class": ("import os\nclass Gone:\n    os._exit(0)\n" + RIGHT, "not defined: the process died"),
    "forks": (
        function("for _ in range(100):", "    if os.fork() == 0:", "        time.sleep(60)", "time.sleep(60)"),
        "more than 32 processes|no answer",  # on a slow machine time runs out first
    ),
    "memory_in_parts": (
        function("for _ in range(4):", "    if os.fork() == 0:", "        x = bytearray(os.urandom(1 << 20)) * 200")
        + "        time.sleep(60)\n    time.sleep(60)\n",
        "together needed more than 600 MiB|no answer",  # on a slow machine time runs out first
    ),
    "never_reads": (
        "import socket, time\nclass Line:\n    for handle in range(3, 32):\n"
        "        try: line = socket.socket(fileno=handle)\n        except OSError: continue\n"
        "        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)\n"
        "        line.sendall((15).to_bytes(8, 'little') + b'{\"ready\": true}')\n        time.sleep(1000)\n" + RIGHT,
        "no answer within 4 seconds",
    ),
    "lies_about_length": (
        function("for handle in range(3, 32):", "    try: os.write(handle, b'\\xff' * 8)", "    except OSError: pass")
        + "    time.sleep(1000)\n",
        "too large",
    ),
    "nested": (
        function("x = [0.0]", "for _ in range(40): x = [x] * 40", "return x"),
        "no answer|died|needed more|MemoryError|too large",
    ),
}
HARMLESS = [  # a function that stays alive, and what is said of its answer: all in one notebook, one an exercise
    (["raise SystemExit"], "stopped with SystemExit"),
    (["raise KeyboardInterrupt"], "stopped with KeyboardInterrupt"),
    (["raise ValueError('\\udc82 \\x1b[31m \\0')"], r"ValueError: \\x82 \\x1b\[31m \\x00"),
    (["raise ValueError(';=1+2')"], "ValueError: ;'=1\\+2"),
    (["raise type('E', (Exception,), {'__str__': lambda self: 1})"], "stopped with an error without words"),
    (["return lambda: 1"], "a function is no tensor, number or list"),
    (["return os.system"], "is no tensor, number or list"),
    (
        ["class Bomb:", "    def __reduce__(self): return (os.system, ('touch /tmp/bomb',))", "return Bomb()"],
        "is no tensor",
    ),
    (["return torch.ones(1).expand(4 * 10**8)"], "too large"),
    (["return torch.sparse_coo_tensor([[0], [0]], [1.0], (10**7, 10**7))"], "too large"),
    (["return ['x' * 1000] * 10**5"], "too large"),
    (["return 10**400"], "a tensor or a number was expected|stopped with"),
    (["return {'result': 1}"], "a tensor or a number was expected|stopped with|return "),
    (["x = bytearray(2**31)"], "MemoryError"),
    (["return forwards"], "NameError"),
    (["def again(n): return again(n + 1)", "return again(0)"], "RecursionError"),
    (["for i in range(9): open(f'/tmp/{i}', 'wb').write(bytes(2**25))"], "OSError|MemoryError"),
    (
        ["os.write(1, bytes(2**20) * 1500) and os.write(2, bytes(2**20))", "raise ValueError('wrote')"],
        "wrote|MemoryError",
    ),
    (["print('stdout of a student')", "raise ValueError('printed')"], "printed"),
]
FORBIDDEN = [  # what only walls prevent: each raises "did it" when it could
    ["os.kill({victim}, 9)"],
    ["os.kill({victim}, 19)"],
    ["assert b'hidden' in open('/proc/{victim}/environ', 'rb').read()"],
    ["open('/proc/{victim}/mem', 'rb')"],
    ["assert open({secret!r}).read()"],
    ["open({secret!r}, 'a').write('changed')"],
    ["os.chmod({secret!r}, 0)"],
    ["os.rename({neighbour!r}, {neighbour!r} + '.gone')"],
    ["exec(__import__('json').load(open({neighbour!r}))['cells'][0]['source'])"],
    ["socket.create_connection(('127.0.0.1', {port}), 1)"],
    ["assert any(name != 'lo' for _, name in socket.if_nameindex())"],
    ["assert len([name for name in os.listdir('/proc') if name.isdigit()]) > 12"],
    ["open(torch.__file__, 'a')"],
    ["open(sys.modules['pudm_lite'].__file__, 'a')"],
]
DAEMON = function(
    "if os.fork() == 0:",
    "    os.setsid()",
    "    if os.fork() == 0:",
    "        for _ in range(600):",
    "            time.sleep(0.1)",
    "            for path in ({out!r}, {neighbour!r}):",
    "                try: open(path, 'a').write('forged')",
    "                except OSError: pass",
    "    os._exit(0)",
    "raise ValueError('daemon started')",
)


def walls_can_stand() -> bool:
    """Found out without the code under test."""
    for line in (
        ["bwrap", "--ro-bind", "/", "/", "--unshare-user", "--unshare-all", "--proc", "/proc", "--dev", "/dev", "true"],
        ["unshare", "--user", "--map-root-user", "--net", "--pid", "--fork", "--mount-proc", "true"],
    ):
        try:
            if subprocess.run(line, capture_output=True, timeout=20).returncode == 0:
                return True
        except OSError:
            continue
    return False


needs_walls = pytest.mark.skipif(not walls_can_stand(), reason="neither bubblewrap nor unshare works on this system")


class Class:
    """What the one grading run left: rows by student, what was printed, and the victims."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.out = folder / "in", folder / "grades.csv"
        self.secret = folder / "secret"
        self.secret.write_text("of the grader")
        self.door = socket.create_server(("127.0.0.1", 0))
        self.victim = subprocess.Popen(["sleep", "600"], env={"hidden": "1", "PATH": os.environ["PATH"]})
        self.neighbour = notebook(self.folder / "mm" / "01_x.ipynb", RIGHT, POSTERIOR)
        self.hand_in()
        self.code = main(
            ["grade", str(self.folder), "--out", str(self.out), "--seconds", f"{SECONDS}", "--memory", f"{MEMORY}"]
        )
        self.written = self.out.read_bytes()
        with self.out.open(encoding="utf-8", newline="") as file:
            self.rows = {row["student"]: row for row in csv.DictReader(file)}

    def hand_in(self) -> None:
        put = self.folder
        for name in GOOD:
            notebook(put / name / "01_x.ipynb", RIGHT, POSTERIOR)
        for name, (data, _) in FILES.items():
            (put / name).mkdir()
            (put / name / "01_x.ipynb").write_bytes(data)
        for name in NAMES:
            notebook(put / name / "01_x.ipynb", "1")
        bytes_name = Path(os.fsdecode(os.fsencode(put) + b"/Jos\x82"))
        notebook(bytes_name / "01_x.ipynb", RIGHT)
        notebook(put / "number_5" / "01_x.ipynb", RIGHT, pudm_lite={"notebook": 5})
        (put / "pipe").mkdir()
        os.mkfifo(put / "pipe" / "01_x.ipynb")
        for name, target in {
            "link": self.neighbour,
            "loop": put / "loop" / "01_x.ipynb",
            "zero": Path("/dev/zero"),
        }.items():
            (put / name).mkdir()
            (put / name / "01_x.ipynb").symlink_to(target)
        (put / "neighbour").symlink_to(put / "mm", target_is_directory=True)
        (put / "huge").mkdir()
        with (put / "huge" / "01_x.ipynb").open("wb") as file:
            file.truncate(1 << 40)  # takes no room on the disk
        notebook(put / "__MACOSX" / "ann" / "._01_x.ipynb", "junk")
        notebook(put / "checkpoint" / "01_x.ipynb", function("return given[0]"))
        notebook(put / "checkpoint" / ".ipynb_checkpoints" / "01_x-checkpoint.ipynb", RIGHT)
        long = f"def error_per_example(a, b, c):\n    return {'1 + ' * 90_000}1"
        notebook(put / "long" / "01_x.ipynb", RIGHT, long)
        for name, (cell, _) in FATAL.items():
            notebook(put / name / "01_x.ipynb", cell)
        self.notebook_of_many(put / "harmless", [body for body, _ in HARMLESS])
        facts = {"victim": self.victim.pid, "secret": str(self.secret), "neighbour": str(self.neighbour)}
        facts |= {"port": self.door.getsockname()[1], "out": str(self.out)}
        self.notebook_of_many(
            put / "forbidden",
            [[line.format(**facts) for line in body] + ["raise ValueError('did it')"] for body in FORBIDDEN],
        )
        notebook(put / "daemon" / "01_x.ipynb", DAEMON.format(**facts))

    def notebook_of_many(self, folder: Path, bodies: list[list[str]]) -> None:
        names = [check.function for check in all_checks().values()]
        cells = [function(*body, name=name) for name, body in zip(names, bodies, strict=False)]
        notebook(folder / "work.ipynb", *cells, pudm_lite=None)


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    done = Class(tmp_path_factory.mktemp("class"))
    yield done
    done.victim.kill()
    done.victim.wait()
    done.door.close()


def why(row: dict[str, str]) -> str:
    return row["01.1 why"] + row["notes"]


@pytest.mark.slow
def test_the_table_is_written_and_the_good_ones_have_their_points(graded):
    assert graded.code == 0
    for name in GOOD:
        row = graded.rows[name]
        assert (row["points"], row["01.1"], row["01.4"], row["notes"]) == ("3", "1", "2", ""), row
        assert row["01.2 why"] == "not handed in"
    assert len(graded.rows) >= 43
    assert not list(graded.out.parent.glob(".*"))  # and nothing is left beside it


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_a_file_that_cannot_be_read_is_a_line_in_its_row(graded, name):
    row = graded.rows[name]
    assert row["points"] == "0"
    assert_says(row["notes"], FILES[name][1])


def assert_says(text: str, pattern: str) -> None:
    assert re.search(pattern, text), f"{text!r} does not say {pattern!r}"


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_no_formula_and_moves_no_cursor(graded, name):
    assert NAMES[name] in graded.rows


@pytest.mark.parametrize(
    ("name", "points", "said"),
    [
        (r"Jos\x82", "1", "^$"),
        ("number_5", "1", "^$"),
        ("pipe", "0", "no regular file"),
        ("link", "0", "is a link"),
        ("loop", "0", "is a link"),
        ("zero", "0", "is a link"),
        ("neighbour", "0", "is a link"),
        ("huge", "0", "larger than 64 MiB"),
        ("checkpoint", "0", "a value is|shape|forgot|x_0|noise|signal"),
        ("long", "1", "code cell 2"),
    ],
)
@pytest.mark.slow
def test_files_that_are_traps_and_one_that_only_looks_odd(graded, name, points, said):
    assert graded.rows[name]["points"] == points
    assert_says(why(graded.rows[name]), said)


@pytest.mark.slow
def test_what_a_mac_leaves_is_no_student(graded):
    assert "__MACOSX" not in graded.rows


@pytest.mark.slow
@pytest.mark.parametrize("name", FATAL)
def test_a_process_that_dies_or_hangs_costs_its_exercise(graded, name):
    assert graded.rows[name]["points"] == "0"
    assert_says(graded.rows[name]["01.1 why"], FATAL[name][1])


@pytest.mark.slow
@pytest.mark.parametrize("index", range(len(HARMLESS)), ids=[body[-1][:30] for body, _ in HARMLESS])
def test_an_answer_that_is_none_earns_nothing(graded, index):
    exercise = list(all_checks())[index]
    row = graded.rows["harmless"]
    assert row[exercise] == "0"
    assert_says(row[f"{exercise} why"], HARMLESS[index][1])


@pytest.mark.slow
@needs_walls
@pytest.mark.parametrize("index", range(len(FORBIDDEN)), ids=[body[-1][:40] for body in FORBIDDEN])
def test_what_is_none_of_a_students_business_is_out_of_reach(graded, index):
    exercise = list(all_checks())[index]
    said = graded.rows["forbidden"][f"{exercise} why"]
    assert_says(said, "stopped with")
    assert "did it" not in said


@pytest.mark.slow
@needs_walls
def test_the_victims_are_alive_and_the_files_as_they_were(graded):
    assert graded.victim.poll() is None
    assert psutil.Process(graded.victim.pid).status() == psutil.STATUS_SLEEPING
    assert graded.secret.read_text() == "of the grader"
    assert json.loads(graded.neighbour.read_text())


@pytest.mark.slow
@needs_walls
def test_a_daemon_does_not_outlive_the_grading(graded):
    assert_says(graded.rows["daemon"]["01.1 why"], "daemon started")
    time.sleep(0.5)
    assert graded.out.read_bytes() == graded.written
    assert b"forged" not in graded.neighbour.read_bytes()


@pytest.mark.slow
def test_nothing_of_a_submission_runs_any_more(graded):
    alive = [process.info["cmdline"] for process in psutil.process_iter(["cmdline", "ppid"]) if of_mine(process)]
    assert alive == []


def of_mine(process: psutil.Process) -> bool:
    """Whether it runs a submission of this test's process, not of another's at the same time."""
    try:
        above = [parent.pid for parent in process.parents()]
        return "pudm_lite.course.child" in (process.info["cmdline"] or []) and (os.getpid() in above or 1 in above[:1])
    except psutil.Error:
        return False


# What decides over points, without a process.


@pytest.fixture
def outcomes(monkeypatch):
    """grade_notebook replaced: the grades that each notebook is to have, by name."""
    made: dict[str, Outcome | Exception] = {}

    def one(path, seconds, memory_mb):
        if isinstance(made[path.name], Exception):
            raise made[path.name]
        return made[path.name]

    monkeypatch.setattr(grading, "grade_notebook", one)
    return made


@pytest.mark.parametrize("order", [("best", "worst"), ("worst", "best")])
def test_the_best_of_several_notebooks_counts_whatever_their_order(outcomes, order):
    outcomes |= {"best": Outcome([Grade("01.1", 2)]), "worst": Outcome([Grade("01.1", 0, "wrong"), Grade("01.2", 1)])}
    student = grade_student("ann", Submission([Path(name) for name in order], ["late"]), 1, 1)
    assert student.grades == {"01.1": Grade("01.1", 2), "01.2": Grade("01.2", 1)}
    assert student.points == 3
    assert student.notes == ["late"]


def test_what_no_one_foresaw_is_a_note_and_the_other_notebook_counts(outcomes):
    outcomes |= {"bad": RuntimeError("\udc82"), "good": Outcome([Grade("01.1", 1)])}
    student = grade_student("ann", Submission([Path("bad"), Path("good")]), 1, 1)
    assert student.points == 1
    assert "bad could not be graded (RuntimeError" in student.notes[0]


def test_a_student_does_not_keep_the_class_waiting(outcomes, monkeypatch):
    outcomes |= {"good": Outcome([Grade("01.1", 1)])}
    monkeypatch.setattr(grading, "LONGEST", -60.0)
    student = grade_student("ann", Submission([Path("good")] * 3), 1, 1)
    assert student.points == 0
    assert "3 notebooks are not graded" in student.notes[0]


def test_a_notebook_number_is_found_in_a_name():
    names = ("01_x.ipynb", "01b_x.ipynb", "ann_03_pu.ipynb", "2012_x.ipynb", "x.ipynb", "01bc_x.ipynb")
    assert [number_in(name) for name in names] == ["01", "01b", "03", None, None, None]


class Answers:
    """In the place of a submission's process: it defines some names and answers every call alike."""

    names, number, seconds, left = ["forward", "push", "posterior"], None, 1.0, 1.0

    def __init__(self, *_): ...
    def __enter__(self):
        return self

    def __exit__(self, *_): ...
    def definitions(self):
        return {"names": self.names, "number": self.number, "unread": ["code cell 2 (x)"]}


@pytest.mark.parametrize(
    ("raised", "points", "why"),
    [
        (None, [1, 2, 1], ""),
        (NotImplementedError(), [0] * 3, "not written"),
        (WrongAnswer("a sign"), [0] * 3, "a sign"),
    ],
)
def test_points_are_for_answers_that_the_check_lets_pass(tmp_path, monkeypatch, raised, points, why):
    given = []

    def examine(self, function):
        if raised:
            raise raised

    monkeypatch.setattr(grading, "Child", type("Child", (Answers,), {"__init__": lambda self, *a: given.append(a)}))
    monkeypatch.setattr("pudm_lite.course.checks.harness.Check.examine", examine)
    path = notebook(tmp_path / "x.ipynb")
    grades = grade_notebook(path, 7.0, 99).grades
    assert [(grade.points, grade.why) for grade in grades] == [(one, why) for one in points]
    assert given == [(path.read_bytes(), 7.0, 99)]


def test_each_exercise_has_the_whole_time(tmp_path, monkeypatch):
    class Slow(Answers):
        seconds, left = 5.0, 1.0

        def call(self, function, arguments, named):
            left.append(self.left)
            self.left = 0.0

    left = []
    monkeypatch.setattr(grading, "Child", Slow)
    monkeypatch.setattr("pudm_lite.course.checks.harness.Check.examine", lambda self, function: function())
    assert len(grade_notebook(notebook(tmp_path / "x.ipynb")).grades) == 3
    assert left == [5.0] * 3


@pytest.mark.parametrize(
    ("name", "number", "exercises"),
    [
        ("x.ipynb", None, {"01.1", "01.4", "02.1"}),
        ("02_x.ipynb", None, {"02.1"}),
        ("02_x.ipynb", "01", {"01.1", "01.4"}),
    ],
)
def test_only_the_exercises_of_the_notebooks_own_number_are_graded(tmp_path, monkeypatch, name, number, exercises):
    monkeypatch.setattr(grading, "Child", type("Child", (Answers,), {"number": number}))
    monkeypatch.setattr("pudm_lite.course.checks.harness.Check.examine", lambda self, function: None)
    outcome = grade_notebook(notebook(tmp_path / name))
    possible = {number: check.points for number, check in all_checks().items()}
    assert {grade.exercise: grade.points for grade in outcome.grades} == {e: possible[e] for e in exercises}
    assert outcome.notes == [f"{name}: code cell 2 (x) cannot be read"]
    assert len({possible[e] for e in ("01.1", "01.4")}) == 2  # not every exercise is worth the same


# The command.


def grade(tmp_path: Path, *more: str) -> list[dict[str, str]]:
    out = tmp_path / "grades.csv"
    assert main(["grade", str(tmp_path / "in"), "--out", str(out), *more]) == 0
    with out.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_grading_that_was_stopped_goes_on_with_the_next_student(tmp_path, monkeypatch):
    for name in ("ann", "bob", "cyd"):
        notebook(tmp_path / "in" / name / "01_x.ipynb", name)
    asked = []

    def stopped(name, handed_in, seconds, memory_mb):
        asked.append(name)
        if name == "bob" and len(asked) == 2:
            raise KeyboardInterrupt
        return grading.Student(name, {"01.1": Grade("01.1", 1)})

    monkeypatch.setattr(grading, "grade_student", stopped)
    assert main(["grade", str(tmp_path / "in"), "--out", str(tmp_path / "grades.csv")]) == 130
    assert not (tmp_path / "grades.csv").exists()
    notebook(tmp_path / "in" / "dan.ipynb", "dan")
    assert [row["points"] for row in grade(tmp_path)] == ["1"] * 4
    assert asked == ["ann", "bob", "bob", "cyd", "dan"]
    grade(tmp_path)  # it was finished: now it begins anew
    assert len(asked) == 9


def test_a_notebook_that_was_changed_meanwhile_is_graded_again(tmp_path, monkeypatch):
    path = notebook(tmp_path / "in" / "ann" / "01_x.ipynb", "one")
    asked = []
    monkeypatch.setattr(grading, "grade_student", lambda name, *_: asked.append(name) or grading.Student(name))
    for seconds in (1, 1, 2):
        grading.graded("ann", Submission([path]), seconds, 1, Kept(tmp_path / "g.csv"))
    assert len(asked) == 2
    notebook(path, "two")
    grading.graded("ann", Submission([path]), 1, 1, Kept(tmp_path / "g.csv"))
    assert len(asked) == 3


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["in", "--seconds", "0"], "must be larger than 0"),
        (["in", "--seconds", "nan"], "must be larger than 0"),
        (["in", "--memory", "-1"], "must be larger than 0"),
        (["empty"], "holds no notebooks"),
        (["nowhere"], "cannot be read"),
        (["in", "--out", "empty"], "is a folder"),
        (["in", "--out", "in/ann.ipynb"], "a notebook's name: name the file of the table"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(tmp_path, monkeypatch, capsys, arguments, sentence):
    notebook(tmp_path / "in" / "ann.ipynb", "1")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    assert main(["grade", *arguments]) == 2
    (said,) = capsys.readouterr().err.strip().splitlines()
    assert sentence in said
    assert (tmp_path / "in" / "ann.ipynb").read_bytes().startswith(b'{"cells"')


@pytest.mark.slow
def test_where_there_are_no_walls_it_is_said(tmp_path, monkeypatch, capsys):
    notebook(tmp_path / "in" / "ann.ipynb", "1")
    monkeypatch.setattr("pudm_lite.course.sandbox.walls", lambda: "")
    (row,) = grade(tmp_path)
    assert "neither bubblewrap" in capsys.readouterr().err
    assert row["student"] == "ann"
