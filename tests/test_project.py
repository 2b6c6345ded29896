"""The files around the package agree with one another."""

import ast
import hashlib
import re
import sys
import tomllib
from itertools import chain
from pathlib import Path

import pytest
import yaml

from pudm_lite.cli import main
from pudm_lite.datasets import SHA256

ROOT = Path(__file__).parent.parent


def test_environment_yml_holds_what_pyproject_holds():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {*project["dependencies"], *project["optional-dependencies"]["dev"]}
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    (pip,) = (entry["pip"] for entry in environment if isinstance(entry, dict))
    assert set(pip) - {"-e ."} == wanted
    assert f"python{project['requires-python']}" in environment


def test_lower_bounds_only():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for requirement in chain(project["dependencies"], *project["optional-dependencies"].values()):
        assert re.fullmatch(r"[\w-]+>=[\d.]+", requirement)


def test_the_extra_bench_brings_what_the_benchmark_imports():
    """No more and no less, beside what the package itself needs."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    nodes = list(ast.walk(ast.parse((ROOT / "benchmarks" / "peers.py").read_text())))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    imported = {name.split(".")[0] for name in names} - set(sys.stdlib_module_names) - {"pudm_lite"}
    needed, extra = (
        {requirement.split(">=")[0].replace("-", "_") for requirement in requirements}
        for requirements in (project["dependencies"], project["optional-dependencies"]["bench"])
    )
    assert imported - needed == extra


@pytest.mark.parametrize("name", SHA256)
def test_data_files_have_their_recorded_sums(name):
    digest = hashlib.sha256((ROOT / "data" / name).read_bytes()).hexdigest()
    assert digest == SHA256[name]
    assert f"{digest}  {name}" in (ROOT / "data" / "README.md").read_text()


def test_every_test_that_is_named_in_reliability_md_exists():
    text = (ROOT / "RELIABILITY.md").read_text()
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text)
    assert len(named) == len(set(named)) == text.count("::") > 30
    for file, test in named:
        functions = [n.name for n in ast.walk(ast.parse((ROOT / file).read_text())) if isinstance(n, ast.FunctionDef)]
        assert test in functions, f"{file} holds no {test}"
    promises = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    assert all("::" in promise for promise in promises)


def test_readme_tables_are_what_the_committed_rows_give(monkeypatch, capsys):
    text = (ROOT / "README.md").read_text()
    tables = re.findall(r"<!-- pudm (report [^>]*) -->\n(.*?)<!-- end -->", text, re.DOTALL)
    assert len(tables) == 4
    monkeypatch.chdir(ROOT)
    for command, shown in tables:
        assert main(command.split()) == 0
        assert shown == capsys.readouterr().out, f"pudm {command} prints something else"
