"""`pudm grade`."""

import argparse
import sys
from pathlib import Path

from ..errors import UserError
from .options import writable

HELP = "Grade submitted notebooks: points by exercise, and why, one row a student."


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("submissions", type=Path, help="a folder of STUDENT/*.ipynb or STUDENT.ipynb")
    parser.add_argument("--out", type=Path, default=Path("grades.csv"), help="file of comma-separated values")
    parser.add_argument("--seconds", type=float, default=20.0, help="time limit of one call of a student's function")
    parser.add_argument("--memory", type=int, default=2048, help="memory limit of a student's process, MiB")


def run(options: argparse.Namespace) -> None:
    from tqdm.auto import tqdm

    from ..course.grading import grade_student, submissions, write_grades

    if sys.platform == "win32":
        raise UserError("`pudm grade` needs Linux or macOS, for its limits on time and memory; WSL will do")
    if options.seconds <= 0 or options.memory <= 0:
        raise UserError("--seconds and --memory must be larger than 0")
    found = submissions(options.submissions)
    writable(options.out.parent)
    students = [
        grade_student(name, paths, options.seconds, options.memory)
        for name, paths in tqdm(found.items(), unit="student")
    ]
    write_grades(students, options.out)
    for student in students:
        print(f"{student.name}: {student.points} points")
    print(f"wrote {options.out}")
