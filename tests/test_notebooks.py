"""What is committed under notebooks/ is what the masters generate, and can be read by everybody."""

import importlib.util
import json
import re
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parent.parent
NOTEBOOKS = ROOT / "notebooks"
spec = importlib.util.spec_from_file_location("build", NOTEBOOKS / "build.py")
build = importlib.util.module_from_spec(spec)
spec.loader.exec_module(build)

MASTERS = sorted((NOTEBOOKS / "src").glob("*.py"))
COMMITTED = sorted(NOTEBOOKS.glob("*.ipynb"))
STUDENT = sorted((NOTEBOOKS / "student").glob("*.ipynb"))
names = [path.stem for path in MASTERS]


def test_every_notebook_has_a_master_and_the_other_way_round():
    assert [path.stem for path in COMMITTED] == names
    assert [path.stem for path in STUDENT] == [m.stem for m in MASTERS if build.has_exercises(build.notebook(m, False))]


@pytest.mark.parametrize("master", MASTERS, ids=names)
@pytest.mark.parametrize("student", [False, True])
def test_committed_notebooks_are_what_the_masters_generate(master, student):
    made = build.notebook(master, student)
    if student and not build.has_exercises(made):
        return
    committed = NOTEBOOKS / ("student" if student else "") / f"{master.stem}.ipynb"
    assert build.without_outputs(nbformat.read(committed, 4)) == made, "run: python notebooks/build.py --keep-outputs"


@pytest.mark.parametrize("path", COMMITTED + STUDENT, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_a_notebook_is_small_and_its_pictures_have_alt_text(path):
    assert path.stat().st_size < 1_500_000
    for cell in nbformat.read(path, 4).cells:
        assert not cell.get("outputs") or cell.execution_count  # nbval fails a cell with outputs that was never run
        for output in cell.get("outputs", []):
            assert output["output_type"] != "error"
            if "image/png" in output.get("data", {}):
                assert len(output["metadata"].get("image/png", {}).get("alt", "")) > 10, cell.source


@pytest.mark.parametrize("path", COMMITTED, ids=lambda p: p.stem)
def test_solutions_are_committed_executed_in_lab_mode(path):
    cells = [cell for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in cells)
    printed = "".join(output.get("text", "") for cell in cells for output in cell.outputs)
    assert re.search(r"\blab\b", printed)


@pytest.mark.parametrize("path", COMMITTED + STUDENT, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_the_first_cell_leads_to_the_page_of_letters_and_words(path):
    (link,) = re.findall(r"\(([^)]*NOTATION\.md)\)", nbformat.read(path, 4).cells[0].source)
    assert (path.parent / link).resolve() == NOTEBOOKS / "NOTATION.md"


def test_every_risk_stands_on_the_card_of_the_page_of_letters_and_words():
    from pudm_lite.risks import METHODS

    card = (NOTEBOOKS / "NOTATION.md").read_text().split("## Every risk on one card")[1].split("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)`", card, re.MULTILINE)) == {*METHODS, "pretrained"}


@pytest.mark.parametrize("master", MASTERS, ids=names)
def test_closing_headings_are_alike(master):
    """The last section of each says what to take along, in these words (00 closes with the map)."""
    headings = re.findall(r"^# ## (?:\d+\. )?(What to take .*)$", master.read_text(), re.MULTILINE)
    assert headings == ([] if master.stem.startswith("00") else ["What to take along"])


@pytest.mark.parametrize("master", MASTERS, ids=names)
def test_only_magics_that_nbval_would_notice(master):
    for line in master.read_text().splitlines():
        if re.match(r"\s*(# )?[%!]\w", line) and not line.startswith("# %%"):
            assert re.match(r"\s*(# )?%(pip|matplotlib inline)", line), line


@pytest.mark.parametrize("path", STUDENT, ids=lambda p: p.stem)
def test_a_student_notebook_holds_no_solution(path):
    solution = nbformat.read(NOTEBOOKS / path.name, 4)
    student = nbformat.read(path, 4)
    assert len(solution.cells) == len(student.cells)
    exercises = 0
    for theirs, ours in list(zip(student.cells, solution.cells, strict=True))[1:]:  # without the badge
        tags = ours.metadata.get("tags", [])
        if "exercise" in tags:
            exercises += 1
            assert 'raise NotImplementedError("your turn")' in theirs.source
            assert theirs.source != ours.source
        elif "answer" in tags:
            assert theirs.source != ours.source
        else:
            assert theirs.source == ours.source
    assert 3 <= exercises <= 7
    assert 30 <= len(student.cells) <= 66  # sixty for an evening, and the few of a starred exercise on top
    assert "BEGIN SOLUTION" not in path.read_text()


def test_the_repositorys_address_stands_in_one_place():
    address = build.repository()
    assert address.startswith("https://github.com/")
    for path in COMMITTED + STUDENT:
        cells = json.loads(path.read_text())["cells"]
        where = path.relative_to(ROOT).as_posix()
        assert f"{address.removeprefix('https://github.com/')}/blob/main/{where}" in "".join(cells[0]["source"])
        assert f"git+{address}" in "".join(cells[1]["source"])
    others = [*(ROOT / "pudm_lite").rglob("*.py"), *(NOTEBOOKS / "src").glob("*.py"), NOTEBOOKS / "build.py"]
    assert not any(address in path.read_text() for path in others)


def test_every_exercise_has_a_check_and_every_check_an_exercise():
    from pudm_lite.course.checks import all_checks

    used = set()
    for master in MASTERS:
        text = master.read_text()
        used |= {f"{a}.{b}" for a, b in re.findall(r"^check_(\d\d[a-z]?)_(\d)\(", text, re.MULTILINE)}
        for check in all_checks().values():
            if check.exercise.split(".")[0] == build.number_of(master):
                assert f"def {check.function}(" in text
    assert used == set(all_checks())


@pytest.mark.parametrize("master", MASTERS, ids=names)
def test_points_and_minutes_stand_at_every_exercise(master):
    """In its heading, the points that its check gives; and each of 01 to 05 has one with a *, which is longer."""
    from pudm_lite.course.checks import all_checks

    number = build.number_of(master)
    heading = re.compile(r"^# ### Exercise (\d\d[a-z]?\.\d)(\*?): .+ \((\d) points?, (\d+) minutes\)$", re.MULTILINE)
    found = {
        name: (star, int(points), int(minutes)) for name, star, points, minutes in heading.findall(master.read_text())
    }
    points = {name: check.points for name, check in all_checks().items() if name.split(".")[0] == number}
    assert {name: points for name, (_, points, _) in found.items()} == points
    starred = [minutes for star, _, minutes in found.values() if star]
    plain = [minutes for star, _, minutes in found.values() if not star]
    assert bool(starred) == (number in ("01", "01b", "02", "03", "04", "05", "09", "10", "11"))
    assert not starred or min(starred) > max(plain)


def test_equations_md_names_functions_and_tests_that_exist():
    """In its tables `::test_x` stands for a test of the file named before it in the same row."""
    named_tests = named_functions = 0
    for line in (NOTEBOOKS / "EQUATIONS.md").read_text().splitlines():
        file = ""
        for given, test in re.findall(r"(tests/[\w/]+\.py)?(?:::(test_\w+))?", line):
            file = given or file
            if given:
                assert (ROOT / file).exists(), file
            if test:
                named_tests += 1
                assert re.search(rf"^def {test}\(", (ROOT / file).read_text(), re.MULTILINE), f"{file}::{test}"
        for dotted in re.findall(r"`pudm_lite\.([\w.]+)", line):
            named_functions += 1
            parts = dotted.split(".")
            depth = 1
            while (ROOT / "pudm_lite" / "/".join(parts[:depth])).is_dir():
                depth += 1
            module = ROOT / "pudm_lite" / ("/".join(parts[:depth]) + ".py")
            assert module.exists(), dotted
            for name in parts[depth:]:
                assert re.search(rf"^ *(def|class) {name}\b|^ *{name}\b", module.read_text(), re.MULTILINE), dotted
    assert named_tests > 60
    assert named_functions > 40
