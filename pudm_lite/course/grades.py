"""Grades as they are kept: a line a student while grading goes on, and a table for a spreadsheet in the end."""

import csv
import dataclasses
import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..files import write_whole
from .checks import all_checks


@dataclass
class Grade:
    """One exercise of one student. points: earned. why: empty when all were."""

    exercise: str
    points: int
    why: str = ""


@dataclass
class Outcome:
    """Of one notebook: grades, and what could not be read or graded, each a sentence."""

    grades: list[Grade] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass
class Student:
    """name, by exercise number the best grade over all notebooks handed in, and what else is to be said."""

    name: str
    grades: dict[str, Grade] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def points(self) -> int:
        return sum(grade.points for grade in self.grades.values())


def shown(text: str) -> str:
    """Text as a cell of a table, or a line on a screen: no control characters, and no formula for a spreadsheet.

    Bytes of a file name that are no UTF-8 become \\x82, other unprintable characters their escapes.
    """
    text = re.sub(r"[\udc80-\udcff]", lambda byte: f"\\x{ord(byte[0]) - 0xDC00:x}", text)
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return re.sub(r"(^|;)(?=\s*[=+\-@＝＋－＠])", r"\1'", text)  # some spreadsheets begin a cell at a semicolon


def write_grades(students: list[Student], path: Path) -> None:
    """One row a student: total, then points by exercise and why they were lost, then notes."""
    exercises = sorted({e for student in students for e in student.grades})
    possible = {number: check.points for number, check in all_checks().items()}
    head = ["student", "points", "of", *(column for e in exercises for column in (e, f"{e} why")), "notes"]
    rows: list[list[Any]] = [head]
    for student in students:
        row: list[Any] = [shown(student.name), student.points, sum(possible[e] for e in exercises)]
        for e in exercises:
            grade = student.grades.get(e)
            row += [grade.points, shown(grade.why)] if grade else [0, "not handed in"]
        rows.append([*row, shown("; ".join(student.notes))])

    def write(temporary: Path) -> None:
        with temporary.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(rows)

    write_whole(path, write)


class Kept:
    """Students graded so far, beside the table that is to be written: the same command goes on where it was stopped.

    Each stands under a key, which is another when what he handed in is.
    """

    def __init__(self, table: Path) -> None:
        self.path = table.with_name(f".{table.name}.jsonl")
        self.students: dict[str, Student] = {}
        try:
            for line in self.path.read_text(encoding="utf-8").splitlines():
                row = json.loads(line)
                grades = [Grade(**grade) for grade in row["grades"]]
                name = os.fsdecode(bytes.fromhex(row["name"]))
                self.students[row["key"]] = Student(name, {grade.exercise: grade for grade in grades}, row["notes"])
        except (OSError, ValueError, KeyError, TypeError):
            pass  # nothing kept, or nothing that can be used: they are graded again

    def get(self, key: str) -> Student | None:
        """The student under this key; None when not graded yet."""
        return self.students.get(key)

    def put(self, key: str, student: Student) -> None:
        """Keep a student."""
        self.students[key] = student
        lines = []
        for its_key, one in self.students.items():
            grades = [dataclasses.asdict(grade) for grade in one.grades.values()]
            row = {"key": its_key, "name": os.fsencode(one.name).hex(), "grades": grades, "notes": one.notes}
            lines.append(json.dumps(row) + "\n")
        write_whole(self.path, lambda temporary: temporary.write_text("".join(lines), encoding="utf-8"))

    def clear(self) -> None:
        """The table is written: nothing is kept beside it."""
        self.path.unlink(missing_ok=True)
