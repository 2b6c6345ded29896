"""Grade submitted notebooks: their functions answer from a process of their own, the checks stay in this one.

A submission is never run as a whole: its imports, definitions and constants (`definitions`) run in a child process
behind walls (`walls`, `sandbox`). The checks call across the border with tensors and numbers only, so nothing that a
notebook does to `print`, to `pudm_lite.course.checks` or to its own process reaches the verdict. Each student is a case
of his own: whatever his files do is a line in his row.
"""

import hashlib
import re
import time
from pathlib import Path
from typing import Any

from .checks import all_checks
from .checks.harness import Check, WrongAnswer
from .grades import Grade, Kept, Outcome, Student
from .sandbox import Child
from .submissions import Submission, read_notebook

LONGEST = 1800.0
"""Seconds that one student may take; a notebook that has been begun is graded to its end."""


def grade_notebook(notebook: Path, seconds: float = 20.0, memory_mb: int = 2048) -> Outcome:
    """Every exercise whose function the notebook defines, and what of it could not be read.

    seconds: for all calls of one exercise. memory_mb: for all processes of the notebook, above a bare Python's.
    """
    try:
        with Child(read_notebook(notebook), seconds, memory_mb) as child:
            found = child.definitions()
            if "unreadable" in found:
                raise ValueError(found["unreadable"])
            number = found["number"] or number_in(notebook.name)
            chosen = [
                check
                for check in all_checks().values()
                if check.function in found["names"] and (number is None or check.exercise.startswith(f"{number}."))
            ]
            unread = [f"{notebook.name}: {', '.join(found['unread'][:5])} cannot be read"] if found["unread"] else []
            return Outcome([_grade(check, child) for check in chosen], unread)
    except OSError as error:
        return Outcome(notes=[f"{notebook.name} cannot be opened ({error.strerror})"])
    except (ValueError, WrongAnswer) as error:
        return Outcome(notes=[f"{notebook.name}: {error}"])


def number_in(name: str) -> str | None:
    """The number of the course's notebook in a file's name; None when there is none."""
    found = re.search(r"(?<!\d)(0\d[a-z]?)(?=_)", name)
    return found[1] if found else None


def _grade(check: Check, child: Child) -> Grade:
    def function(*arguments: Any, **named: Any) -> Any:
        return child.call(check.function, arguments, named)

    child.left = child.seconds
    try:
        check.examine(function)
    except NotImplementedError:
        return Grade(check.exercise, 0, "not written")
    except WrongAnswer as wrong:
        return Grade(check.exercise, 0, str(wrong))
    return Grade(check.exercise, check.points)


def grade_student(name: str, handed_in: Submission, seconds: float, memory_mb: int) -> Student:
    """The best grade of each exercise over the notebooks of one student. Whatever goes wrong is a note."""
    student = Student(name, notes=list(handed_in.notes))
    until = time.monotonic() + LONGEST
    for i, notebook in enumerate(handed_in.notebooks):
        if time.monotonic() > until:
            left = len(handed_in.notebooks) - i
            student.notes.append(f"{LONGEST / 60:g} minutes were over, and {left} notebooks are not graded")
            break
        try:
            outcome = grade_notebook(notebook, seconds, memory_mb)
        except Exception as error:  # of this student's files: the next one is graded all the same
            why = f"{type(error).__name__}: {str(error)[:200]}"
            outcome = Outcome(notes=[f"{notebook.name} could not be graded ({why})"])
        student.notes += outcome.notes
        for grade in outcome.grades:
            best = student.grades.get(grade.exercise)
            if best is None or grade.points > best.points:
                student.grades[grade.exercise] = grade
    return student


def graded(name: str, handed_in: Submission, seconds: float, memory_mb: int, kept: Kept) -> Student:
    """`grade_student`, or what was kept of it when the same files were graded under the same limits before."""
    key = hashlib.sha256(repr((name, handed_in, seconds, memory_mb)).encode("utf-8", "surrogateescape"))
    for notebook in handed_in.notebooks:
        try:
            key.update(hashlib.sha256(read_notebook(notebook)).digest())
        except (OSError, ValueError):
            key.update(b"cannot be read")
    student = kept.get(key.hexdigest())
    if student is None:
        student = grade_student(name, handed_in, seconds, memory_mb)
        kept.put(key.hexdigest(), student)
    return student
