"""`pudm grade`."""

import argparse
import sys
from pathlib import Path

from ..errors import UserError
from ..files import writable_file

HELP = "Grade submitted notebooks: points by exercise, and why, one row a student."


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("submissions", type=Path, help="a folder of STUDENT/*.ipynb or STUDENT.ipynb")
    parser.add_argument("--out", type=Path, default=Path("grades.csv"), help="file of comma-separated values")
    parser.add_argument("--seconds", type=float, default=20.0, help="time limit of one exercise of one student")
    parser.add_argument("--memory", type=int, default=2048, help="memory limit of a student's processes together, MiB")


def run(options: argparse.Namespace) -> None:
    from tqdm.auto import tqdm

    from ..course.grades import Kept, shown, write_grades
    from ..course.grading import graded
    from ..course.sandbox import walls
    from ..course.submissions import submissions
    from ..course.walls import UNPROTECTED

    if sys.platform == "win32":
        raise UserError("`pudm grade` needs Linux or macOS, for its limits on time and memory; WSL will do")
    if not options.seconds > 0 or options.memory <= 0:
        raise UserError("--seconds and --memory must be larger than 0")
    found = submissions(options.submissions)
    writable_file(options.out)
    if options.out.suffix.lower() == ".ipynb":
        raise UserError(f"--out is {options.out}, a notebook's name: name the file of the table, such as grades.csv")
    if not walls():
        print(f"pudm: {UNPROTECTED}", file=sys.stderr)
    kept = Kept(options.out)
    students = [
        graded(name, handed_in, options.seconds, options.memory, kept)
        for name, handed_in in tqdm(found.items(), unit="student")
    ]
    write_grades(students, options.out)
    kept.clear()
    for student in students:
        print(f"{shown(student.name)}: {student.points} points")
    print(f"wrote {options.out}")
