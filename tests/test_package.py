"""What imports what, and how light the package itself is."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import pudm_lite

FOLDER = Path(pudm_lite.__file__).parent
ALONE = ("datasets", "splits", "diffusion", "risks", "metrics")
HEAVY = {"torch", "diffusers", "numpy", "matplotlib", "scipy"}


def own_imports(source: str) -> set[str]:
    """The modules of the package that a module imports, at its top or inside a function."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.level == 1 and node.module:
            found.add(node.module)
        elif isinstance(node, ast.ImportFrom) and (node.level == 1 or node.module == "pudm_lite"):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pudm_lite."):
            found.add(node.module.removeprefix("pudm_lite."))
        elif isinstance(node, ast.Import):
            found |= {alias.name.removeprefix("pudm_lite.") for alias in node.names if "pudm_lite" in alias.name}
    return found


def test_imports_are_found_in_every_form():
    source = "from .a import x\nfrom . import b\nimport pudm_lite.c\nfrom pudm_lite.d import y\nimport torch\n"
    source += "def f():\n    from pudm_lite import e\n    from .g.h import z\n    from torch import nn\n"
    assert own_imports(source) == {"a", "b", "c", "d", "e", "g.h"}
    assert "risks" in own_imports((FOLDER / "training.py").read_text())


@pytest.mark.parametrize("module", ALONE)
def test_the_core_imports_nothing_else_of_the_package(module):
    assert own_imports((FOLDER / f"{module}.py").read_text()) <= {"errors"}


def test_importing_the_package_loads_no_heavy_library():
    code = "import sys, pudm_lite; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=FOLDER.parent)
    loaded = set(done.stdout.split())
    assert "pudm_lite" in loaded
    assert not loaded & HEAVY
