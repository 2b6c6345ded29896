"""Grade submitted notebooks: their functions answer from a process of their own, the checks stay in this one.

A submission is never run as a whole: its imports, definitions and literal constants are taken out of its cells and run
in a child process (see `child.py`) with limits on time and memory and, where the system allows it, no network. The
checks call across the border with tensors and numbers only, so nothing that a notebook does to `print`, to
`pudm_lite.course.checks` or to its own process reaches the verdict.
"""

import contextlib
import csv
import io
import json
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..files import write_whole
from .checks import all_checks
from .checks.harness import Check, WrongAnswer


@dataclass
class Grade:
    """One exercise of one student. points: earned. why: empty when all were."""

    exercise: str
    points: int
    why: str = ""


@dataclass
class Student:
    """name, and by exercise number the best grade over all notebooks handed in."""

    name: str
    grades: dict[str, Grade] = field(default_factory=dict)

    @property
    def points(self) -> int:
        return sum(grade.points for grade in self.grades.values())


class Child:
    """The process that runs a submission's definitions and answers calls. Started anew after it was stopped."""

    def __init__(self, notebook: Path, seconds: float, memory_mb: int) -> None:
        self.notebook, self.seconds, self.memory_mb = notebook, seconds, memory_mb
        self.process: subprocess.Popen[bytes] | None = None

    def _start(self) -> None:
        ask, self.write = os.pipe()
        self.read, answer = os.pipe()
        command = [sys.executable, "-P", "-m", "pudm_lite.course.child", str(self.notebook.resolve())]
        command += [str(ask), str(answer), str(self.memory_mb)]
        with tempfile.TemporaryFile() as nowhere:
            self.process = subprocess.Popen(
                command,
                pass_fds=(ask, answer),
                stdin=subprocess.DEVNULL,
                stdout=nowhere,
                stderr=nowhere,
                cwd=tempfile.gettempdir(),
                start_new_session=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
        os.close(ask)
        os.close(answer)
        self._receive(60 + self.seconds)  # it says that it is ready: torch takes seconds to load

    def _receive(self, seconds: float) -> dict[str, Any]:
        """The next message, or WrongAnswer where none comes."""
        import torch

        until, data = time.monotonic() + seconds, b""
        wanted = 8
        while len(data) < wanted:
            left = until - time.monotonic()
            if left <= 0 or not select.select([self.read], [], [], left)[0]:
                self.stop()
                raise WrongAnswer(f"no answer within {self.seconds:g} seconds")
            part = os.read(self.read, min(wanted - len(data), 1 << 20))
            if not part:
                self.stop()
                raise WrongAnswer(f"the process died: it crashed, or needed more than {self.memory_mb} MiB")
            data += part
            if len(data) == 8 and wanted == 8:
                wanted += min(int.from_bytes(data, "little"), 1 << 30)
        try:
            return torch.load(io.BytesIO(data[8:]), weights_only=True)  # a pickle from there must not run here
        except Exception:
            self.stop()
            raise WrongAnswer("the answer was no tensor, number or list of such") from None

    def call(self, function: str, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """The submission's function at these arguments. Raises WrongAnswer, or NotImplementedError for a stub."""
        from .child import pack

        if self.process is None:
            self._start()
        try:
            with os.fdopen(os.dup(self.write), "wb") as pipe:
                pipe.write(pack({"function": function, "arguments": list(arguments), "named": named}))
        except BrokenPipeError:
            self.stop()
            raise WrongAnswer("the process died before it was asked") from None
        reply = self._receive(self.seconds)
        if "result" in reply:
            return reply["result"]
        if reply.get("stub"):
            raise NotImplementedError
        raise WrongAnswer(str(reply.get("error", "no result came back"))[:300])

    def stop(self) -> None:
        """Kill it, with whatever it started."""
        if self.process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process = None
        for end in (self.write, self.read):
            os.close(end)


def grade_notebook(notebook: Path, seconds: float = 20.0, memory_mb: int = 2048) -> list[Grade]:
    """Every exercise whose function the notebook defines. seconds: for one call. memory_mb: above a bare Python's."""
    from .child import definitions

    try:
        defined, number = definitions(notebook)[1], notebook_number(notebook)
    except Exception:  # whatever a file holds, the next student is graded
        return [Grade("", 0, f"{notebook.name} is not a notebook that can be read")]
    chosen = [
        check
        for check in all_checks().values()
        if check.function in defined and (number is None or check.exercise.startswith(number))
    ]
    child = Child(notebook, seconds, memory_mb)
    try:
        return [_grade(check, child) for check in chosen]
    finally:
        child.stop()


def notebook_number(notebook: Path) -> str | None:
    """The number of the course's notebook that this is a copy of, by its metadata or its name; None when unknown."""
    number = json.loads(notebook.read_text(encoding="utf-8")).get("metadata", {}).get("pudm_lite", {}).get("notebook")
    named = re.search(r"(?<!\d)(0\d)(?=_)", notebook.stem)
    return number or (named[1] if named else None)


def _grade(check: Check, child: Child) -> Grade:
    def function(*arguments: Any, **named: Any) -> Any:
        return child.call(check.function, arguments, named)

    try:
        check.examine(function)
    except NotImplementedError:
        return Grade(check.exercise, 0, "not written")
    except WrongAnswer as wrong:
        return Grade(check.exercise, 0, str(wrong))
    return Grade(check.exercise, check.points)


def submissions(folder: Path) -> dict[str, list[Path]]:
    """Notebooks by student: folder/STUDENT/*.ipynb, or folder/STUDENT.ipynb.

    Raises UserError where there are none.
    """
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("**/*.ipynb")):
        inside = path.relative_to(folder).parts
        if ".ipynb_checkpoints" not in inside:
            found.setdefault(inside[0].removesuffix(".ipynb"), []).append(path)
    if not found:
        raise UserError(f"{folder} holds no notebooks: expected {folder}/STUDENT/*.ipynb or {folder}/STUDENT.ipynb")
    return found


def grade_student(name: str, notebooks: list[Path], seconds: float, memory_mb: int) -> Student:
    """The best grade of each exercise over the notebooks of one student."""
    student = Student(name)
    for notebook in notebooks:
        for grade in grade_notebook(notebook, seconds, memory_mb):
            best = student.grades.get(grade.exercise)
            if best is None or grade.points > best.points:
                student.grades[grade.exercise] = grade
    return student


def write_grades(students: list[Student], path: Path) -> None:
    """One row a student: total, then points by exercise and why they were lost."""
    exercises = sorted({e for student in students for e in student.grades if e})
    possible = {number: check.points for number, check in all_checks().items()}
    head = ["student", "points", "of", *(column for e in exercises for column in (e, f"{e} why")), "notes"]
    rows: list[list[Any]] = [head]
    for student in students:
        row: list[Any] = [student.name, student.points, sum(possible[e] for e in exercises)]
        for e in exercises:
            grade = student.grades.get(e)
            row += [grade.points, grade.why] if grade else [0, "not handed in"]
        rows.append([*row, student.grades[""].why if "" in student.grades else ""])

    def write(temporary: Path) -> None:
        with temporary.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(rows)

    write_whole(path, write)
