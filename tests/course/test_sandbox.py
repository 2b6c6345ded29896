"""The process of a submission: started once, limited as a whole, ended with all that it started."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress

import psutil
import pytest
import torch

from pudm_lite.course import messages, sandbox
from pudm_lite.course.checks.harness import WrongAnswer
from pudm_lite.course.sandbox import PROCESSES, Child, LateError, Watch, environment, family, walls
from pudm_lite.course.walls import KINDS
from pudm_lite.errors import UserError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="grading needs POSIX limits")


def notebook(*cells: str) -> bytes:
    return json.dumps({"cells": [{"cell_type": "code", "source": cell} for cell in cells]}).encode()


def wait_until(true, seconds=20.0):
    until = time.monotonic() + seconds
    while not true() and time.monotonic() < until:
        time.sleep(0.02)
    assert true()


@pytest.mark.slow
def test_a_process_lives_through_errors_and_is_started_anew_after_its_end():
    cells = """
import os, time
class Count:
    made = 0
def gone(): os._exit(0)
def stub(): raise NotImplementedError
def error(): return 1 / 0
def ends(): raise SystemExit
def slow(seconds):
    time.sleep(seconds)
    return seconds
def count(*more, **named):
    Count.made += 1
    return [Count.made, list(more), named]
"""
    with Child(notebook("import nothing_of_this_name", cells), 5, 600) as child:
        assert child.definitions()["names"] == ["gone", "stub", "error", "ends", "slow", "count"]
        with pytest.raises(NotImplementedError):
            child.call("stub", (), {})
        with pytest.raises(WrongAnswer, match=r"ZeroDivisionError.*before it, line 1 of a cell failed: ModuleNotFound"):
            child.call("error", (), {})
        with pytest.raises(WrongAnswer, match="SystemExit"):
            child.call("ends", (), {})
        x = torch.randn(3, 4, dtype=torch.float64)
        made, (back,), named = child.call("count", (x,), {"beta": 0.1, "names": ["a"]})
        assert made == 1
        assert torch.equal(back, x)
        assert named == {"beta": 0.1, "names": ["a"]}
        child.left = 1.0  # what is left to an exercise is for all of its calls
        assert child.call("slow", (0.6,), {}) == 0.6
        with pytest.raises(WrongAnswer, match="no answer within 5 seconds"):
            child.call("slow", (0.6,), {})
        child.left = 5.0
        assert child.call("count", (), {})[0] == 1  # another process
        with pytest.raises(WrongAnswer, match="the process died"):
            child.call("gone", (), {})


@pytest.mark.slow
def test_definitions_that_do_not_end_are_tried_once():
    with Child(notebook("def f(): pass\nclass Slow:\n    while True: pass"), 1, 600) as child:
        with pytest.raises(WrongAnswer, match="not defined within 1 seconds"):
            child.call("f", (), {})
        start = time.monotonic()
        with pytest.raises(WrongAnswer, match="not defined within 1 seconds"):
            child.call("f", (), {})
        assert time.monotonic() - start < 0.5
        assert child.process is None


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["best", ""])
def test_what_a_submission_started_ends_with_it(kind):
    cells = "import os, time\ndef f():\n    if os.fork() == 0:\n        time.sleep(600)\n    return 7"
    with Child(notebook(cells), 20, 600, walls() if kind == "best" else "") as child:
        assert child.call("f", (), {}) == 7
        members = family(child.process.pid)
        assert len(members) >= 2
    assert psutil.wait_procs(members, timeout=10)[1] == []


@pytest.mark.slow
def test_a_submission_ends_with_the_grader():
    if not walls():
        pytest.skip("neither bubblewrap nor unshare works on this system")
    code = """
import time
from pudm_lite.course.sandbox import Child
child = Child(b'{"cells": []}', 20, 600)
child.definitions()
print(child.process.pid, flush=True)
time.sleep(600)
"""
    grader = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    members = family(int(grader.stdout.readline()))
    assert len(members) >= 2
    grader.kill()
    grader.wait()
    assert psutil.wait_procs(members, timeout=20)[1] == []


def test_modules_in_the_current_folder_are_not_taken_for_libraries(tmp_path, monkeypatch):
    (tmp_path / "json.py").write_text("raise SystemExit")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with Child(notebook("def f(): return 7"), 20, 600, "") as child:
        assert child.definitions()["names"] == ["f"]


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="reads /proc")
def test_a_submission_has_no_terminal_and_nothing_of_the_graders_but_the_line(monkeypatch):
    """What it prints goes nowhere; a session of its own, so that all it starts can be ended together."""
    monkeypatch.setenv("SECRET_TOKEN", "x")
    with open("/dev/null") as ours, Child(notebook("x = 1"), 20, 600, "") as child:
        os.set_inheritable(ours.fileno(), True)
        child.definitions()
        process = psutil.Process(child.process.pid)
        handles = {
            name: os.readlink(f"/proc/{process.pid}/fd/{name}") for name in os.listdir(f"/proc/{process.pid}/fd")
        }
        assert {handles.pop(name) for name in "012"} == {"/dev/null"}
        assert {target.split(":")[0] for target in handles.values()} <= {"socket", "/dev/null"}
        assert len([target for target in handles.values() if target.startswith("socket")]) == 1
        assert str(ours.fileno()) not in handles
        assert "SECRET_TOKEN" not in process.environ()
        assert os.getsid(process.pid) == process.pid


class Line:
    """In the place of a process: it answers every call after a while."""

    def __init__(self, child: Child, after: float) -> None:
        self.after = after
        child.line, self.end = socket.socketpair()
        child.ready, child.watch = True, type("Calm", (), {"why": ""})()
        threading.Thread(target=self.answer, daemon=True).start()

    def answer(self) -> None:
        with suppress(messages.NoMessage), self.end:
            while True:
                messages.receive(self.end, 60)
                time.sleep(self.after)
                messages.send(self.end, messages.pack({"result": 1}), 60)


def test_the_time_of_an_exercise_is_for_all_of_its_calls():
    child = Child(b"", 5, 600)
    Line(child, 0.2)
    child.left = 1.0
    assert child.call("f", (), {}) == 1
    assert child.left <= 0.8
    child.left = 0.1
    with pytest.raises(LateError, match="no answer within 5 seconds"):
        child.call("f", (), {})
    assert child.left == 0


def test_what_failed_before_it_answered_is_not_tried_again(monkeypatch):
    tried = []

    def definitions(self):
        tried.append(1)
        raise WrongAnswer("its cells could not be read")

    monkeypatch.setattr(Child, "definitions", definitions)
    child = Child(b"", 5, 600)
    for _ in range(3):
        with pytest.raises(WrongAnswer, match="its cells could not be read"):
            child.call("f", (), {})
    assert tried == [1]


def started(code: str) -> subprocess.Popen:
    line = [sys.executable, "-c", f"import os, time\n{code}\ntime.sleep(600)"]
    return subprocess.Popen(line, start_new_session=True)


def test_processes_together_are_held_to_one_limit_of_memory(monkeypatch):
    monkeypatch.setattr(sandbox, "BARE_MB", 60)
    one = started("[os.fork() for _ in range(3)]\nx = os.urandom(1 << 20) * 20")
    watch = Watch(one.pid, 60)
    wait_until(lambda: watch.why)
    assert watch.why == "its processes together needed more than 60 MiB"
    assert one.wait() == -signal.SIGKILL
    watch.end()


def test_a_process_within_its_limits_is_left_alone():
    one = started("x = os.urandom(1 << 20) * 20")
    watch = Watch(one.pid, 60)
    watch.from_here()
    assert 0 < watch.bare_mb < 200  # its own, and no more what PyTorch may need
    time.sleep(0.5)
    watch.end()
    assert watch.why == ""
    assert one.poll() is None
    sandbox.kill(one.pid)
    assert one.wait() == -signal.SIGKILL


def test_too_many_processes_are_ended():
    one = started(f"for _ in range({PROCESSES} + 1): os.fork() == 0 and time.sleep(600)")
    watch = Watch(one.pid, 10_000)
    wait_until(lambda: watch.why)
    assert watch.why == f"it started more than {PROCESSES} processes"
    one.wait()
    wait_until(lambda: not [p for p in psutil.process_iter(["cmdline"]) if p.info["cmdline"] == one.args])
    watch.end()


def test_what_has_ended_has_no_family():
    one = subprocess.Popen(["true"])
    one.wait()
    assert family(one.pid) == []


def test_the_graders_environment_stays_with_the_grader(monkeypatch):
    monkeypatch.setenv("SECRET_TOKEN", "x")
    told = environment()
    assert "SECRET_TOKEN" not in told
    assert all(os.path.isabs(path) for path in told["PYTHONPATH"].split(os.pathsep))


def test_the_best_wall_that_works_is_taken(monkeypatch):
    tried = []

    def start(self):
        tried.append(self.kind)
        if self.kind != works:
            raise WrongAnswer("no")

    monkeypatch.setattr(Child, "start", start)
    for works, kinds in (("bwrap", ["bwrap"]), ("unshare", ["bwrap", "unshare"]), ("", ["bwrap", "unshare", ""])):
        tried.clear()
        assert walls.__wrapped__() == works
        assert tried == kinds
    works = "none"
    with pytest.raises(UserError, match="no process for submissions can be started"):
        walls.__wrapped__()


@pytest.mark.parametrize("late", KINDS)
def test_a_wall_that_is_slow_is_not_done_without(monkeypatch, late):
    """Submissions would run unprotected because the machine was busy for a while."""

    def start(self):
        raise LateError("late") if self.kind == late else WrongAnswer("no")

    monkeypatch.setattr(Child, "start", start)
    with pytest.raises(UserError, match="is ready within 300 seconds: this machine is too busy"):
        walls.__wrapped__()


def test_a_wall_that_is_not_installed_is_none(monkeypatch):
    monkeypatch.setattr(sandbox, "command", lambda kind, child: ["/nowhere/bwrap"])
    with pytest.raises(UserError, match="no process"):
        walls.__wrapped__()
