"""What imports what: the rooms and their order, for every file; and how light the package itself is."""

import ast
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest

import pudm_lite

FOLDER = Path(pudm_lite.__file__).parent
HEAVY = {"torch", "diffusers", "numpy", "matplotlib", "scipy"}
ROOMS = ("sources", "measures", "erasing", "runs", "results", "course", "commands")
"""In their order. The files on top stand before them all, `cli` after."""
ALONE = ("errors", "datasets", "splits", "diffusion", "risks", "measures.metrics")
"""Formulas and images, which import nothing else of the package but the error type."""


def modules() -> dict[str, Path]:
    """Every file of the package by its dotted name inside it; a room's __init__ by the room's."""
    found = {}
    for path in sorted(FOLDER.rglob("*.py")):
        name = ".".join(path.relative_to(FOLDER).with_suffix("").parts).removesuffix("__init__").rstrip(".")
        found[name] = path
    return found


MODULES = modules()


def own_imports(source: str, inside: str = "") -> set[str]:
    """The modules of the package that a file imports, at its top or in a function, by their dotted names inside it.

    inside: the dotted name of the package that the file lies in, which relative imports start from.
    """
    found = set()
    parts = inside.split(".") if inside else []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {a.name.removeprefix("pudm_lite").lstrip(".") for a in node.names if a.name[:9] == "pudm_lite"}
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                base = parts[: len(parts) - node.level + 1] + (node.module or "").split(".")
            elif (node.module or "").split(".")[0] == "pudm_lite":
                base = node.module.split(".")[1:]
            else:
                continue
            start = ".".join(part for part in base if part)
            for alias in node.names:  # a module of the package, or a name out of one
                whole = f"{start}.{alias.name}".lstrip(".")
                found.add(whole if whole in MODULES else start)
    return found - {""}


@cache
def imports_of(name: str) -> set[str]:
    path = MODULES[name]
    return own_imports(path.read_text(), ".".join(path.relative_to(FOLDER).parent.parts))


def floor(name: str) -> int:
    """0 for the files on top, then the rooms in their order, and `cli` last."""
    room = name.split(".")[0]
    return len(ROOMS) + 1 if room == "cli" else ROOMS.index(room) + 1 if room in ROOMS else 0


def out_of_order(name: str, imports: set[str]) -> list[str]:
    """A sentence for each import that runs against the order of the rooms."""
    rule = "each room imports only from those before it: the top files, " + ", ".join(ROOMS) + ", cli"
    return [f"{name} imports {other}, but {rule}" for other in sorted(imports) if floor(other) > floor(name)]


def test_imports_are_found_in_every_form():
    source = "from ..files import x\nfrom . import judge\nimport pudm_lite.risks\nfrom pudm_lite.runs.bench import y\n"
    source += "def f():\n    from pudm_lite import splits\n    from ..runs import sweep, nothing\n    import torch\n"
    found = own_imports(source, "measures")
    assert found == {"files", "measures.judge", "risks", "runs.bench", "splits", "runs.sweep", "runs"}
    assert own_imports("from ... import risks\nfrom .. import toy", "course.checks") == {"risks", "course.toy"}
    assert "risks" in imports_of("training")
    assert "results.style" in imports_of("course.widgets.w01")


@pytest.mark.parametrize("name", [name for name in MODULES if name])
def test_each_room_imports_only_from_those_before_it(name):
    wrong = out_of_order(name, imports_of(name))
    assert not wrong, "\n".join(wrong)


def test_an_import_the_wrong_way_is_said_with_file_import_and_rule():
    (said,) = out_of_order("runs.sweep", {"risks", "measures.judge", "results.tables"})
    assert said.startswith("runs.sweep imports results.tables, but each room imports only from those before it")
    assert out_of_order("training", {"sources.folders"})
    assert not out_of_order("course.labs", {"runs.bench", "results.style", "draws"})


def test_no_import_leads_back_to_its_file():
    done = set()

    def reaches(name: str, seen: tuple[str, ...] = ()) -> None:
        assert name not in seen, f"a circle of imports: {' -> '.join([*seen, name])}"
        for other in imports_of(name) - {name} - done:
            if MODULES[other].name != "__init__.py":
                reaches(other, (*seen, name))
        done.add(name)

    for name in ("cli", *(f"commands.{path.stem}" for path in (FOLDER / "commands").glob("[a-z]*.py"))):
        reaches(name)


@pytest.mark.parametrize("name", ALONE)
def test_the_core_imports_nothing_else_of_the_package(name):
    assert imports_of(name) <= {"errors"}


def test_every_folder_is_a_room_that_says_what_it_is_for_and_every_one_is_installed():
    folders = sorted({path.parent for path in FOLDER.rglob("*.py")} - {FOLDER})
    assert {folder.relative_to(FOLDER).parts[0] for folder in folders} <= set(ROOMS)
    for folder in folders:
        if folder.parent == FOLDER:  # checks and widgets lie in a room
            text = ast.parse((folder / "__init__.py").read_text())
            assert len(ast.get_docstring(text) or "") > 100, f"{folder.name}/__init__.py says too little"
            assert len(text.body) == 1, f"{folder.name}/__init__.py does more than say what the room is for"
    installed = tomllib.loads((FOLDER.parent / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    named = {f"pudm_lite.{'.'.join(folder.relative_to(FOLDER).parts)}" for folder in folders}
    assert set(installed) == named | {"pudm_lite", "pudm_lite.data"}


def test_the_tests_mirror_the_rooms():
    here = Path(__file__).parent
    for path in here.rglob("test_*.py"):
        name = ".".join(path.relative_to(here).with_suffix("").parts).replace("test_", "")
        if path.parent != here:
            assert name in MODULES, f"tests/{path.relative_to(here)} stands where no file of the package does"


def test_importing_the_package_loads_no_heavy_library():
    code = "import sys, pudm_lite; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=FOLDER.parent)
    loaded = set(done.stdout.split())
    assert "pudm_lite" in loaded
    assert not loaded & HEAVY


REFUSED = (
    "train --method nope",
    "train --set nope=1",
    "train --unlabeled nope --sensitive nope",
    "train --classes nope --normal cat",
    "sweep --experiment nope",
    "figure1 --beta 2",
    "evaluate nope.npz",
)


def test_what_is_refused_by_name_is_refused_before_diffusers_is_loaded(tmp_path):
    code = f"import sys; from pudm_lite.cli import main; print([main(line.split()) for line in {REFUSED}])"
    code += "; print('diffusers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.splitlines() == [str([2] * len(REFUSED)), "False"], done.stdout + done.stderr
