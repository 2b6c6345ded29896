"""The table of grades: whole whatever its words are, words alone to a spreadsheet; and what is kept meanwhile."""

import csv
import os

import pytest

from pudm_lite.course.checks import all_checks
from pudm_lite.course.grades import Grade, Kept, Student, shown, write_grades


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("ann", "ann"),
        ("Zoë 王 - x", "Zoë 王 - x"),
        ("=1+2", "'=1+2"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@x", "'@x"),
        (" =1", "' =1"),
        ("＝1", "'＝1"),
        ("\t=1", r"\t=1"),
        ("\r\n=1", r"\r\n=1"),
        ("a;=1;b;-2", "a;'=1;b;'-2"),
        ("a\x00b\x1b[2J\x7f", r"a\x00b\x1b[2J\x7f"),
        ("a\u202eb\u2028c", r"a\u202eb\u2028c"),
        (os.fsdecode(b"Jos\x82"), r"Jos\x82"),
        ("\ud800", r"\ud800"),
        ("", ""),
    ],
)
def test_a_cell_holds_words_alone(text, want):
    assert shown(text) == want
    assert shown(text).isprintable()


def rows(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_table_has_a_row_a_student_with_points_by_exercise(tmp_path):
    ann = Student("ann", {"01.4": Grade("01.4", 2), "01.1": Grade("01.1", 0, "a sign")}, ["late", "=1"])
    bob = Student(os.fsdecode(b"b\xf6b"), {}, ["no notebook"])
    write_grades([ann, bob], tmp_path / "g.csv")
    one, two = rows(tmp_path / "g.csv")
    of = str(all_checks()["01.1"].points + all_checks()["01.4"].points)
    assert list(one) == ["student", "points", "of", "01.1", "01.1 why", "01.4", "01.4 why", "notes"]
    assert list(one.values()) == ["ann", "2", of, "0", "a sign", "2", "", "late;' =1"]
    assert list(two.values()) == [r"b\xf6b", "0", of, "0", "not handed in", "0", "not handed in", "no notebook"]


def test_a_reason_is_a_cell_as_well(tmp_path):
    write_grades([Student("=x", {"01.1": Grade("01.1", 0, "=cmd\n\udc82")}, ["@y"])], tmp_path / "g.csv")
    (row,) = rows(tmp_path / "g.csv")
    assert (row["student"], row["01.1 why"], row["notes"]) == ("'=x", r"'=cmd\n\x82", "'@y")


def test_what_was_graded_is_kept_until_the_table_is_written(tmp_path):
    student = Student(os.fsdecode(b"Jos\x82"), {"01.1": Grade("01.1", 0, "\udc82 why")}, ["a note"])
    other = Student("ann", {"01.4": Grade("01.4", 2)})
    kept = Kept(tmp_path / "g.csv")
    kept.put("key", student)
    kept.put("other", other)
    again = Kept(tmp_path / "g.csv")
    assert (again.get("key"), again.get("other"), again.get("third")) == (student, other, None)
    again.clear()
    again.clear()
    assert Kept(tmp_path / "g.csv").get("key") is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"5",
        b"[]",
        b'{"key": "other"}',
        b'{"key": "other", "name": "", "grades": [{}], "notes": []}',
        b'{"key": "other", "name": "", "grades": [5], "notes": []}',
        b'{"key": "other", "name": "xx", "grades": [], "notes": []}',
        b'{"key": [], "name": "", "grades": [], "notes": []}',
        b"\xff",
    ],
)
def test_what_is_kept_and_damaged_is_graded_again(tmp_path, line):
    kept = Kept(tmp_path / "g.csv")
    kept.put("key", Student("ann"))
    with (tmp_path / ".g.csv.jsonl").open("ab") as file:
        file.write(line + b"\n")
    again = Kept(tmp_path / "g.csv")
    assert again.get("other") is None
    again.put("other", Student("bob"))
    assert Kept(tmp_path / "g.csv").get("other") == Student("bob")
