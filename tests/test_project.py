"""The files around the package agree with one another."""

import hashlib
import re
import tomllib
from pathlib import Path

import pytest
import yaml

from pudm_lite.datasets import SHA256
from pudm_lite.files import read_rows
from pudm_lite.report import results_table

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
    for requirement in [*project["dependencies"], *project["optional-dependencies"]["dev"]]:
        assert re.fullmatch(r"[\w-]+>=[\d.]+", requirement)


@pytest.mark.parametrize("name", SHA256)
def test_data_files_have_their_recorded_sums(name):
    digest = hashlib.sha256((ROOT / "data" / name).read_bytes()).hexdigest()
    assert digest == SHA256[name]
    assert f"{digest}  {name}" in (ROOT / "data" / "README.md").read_text()


def test_readme_table_is_what_the_committed_rows_give():
    rows = read_rows(ROOT / "data" / "results" / "figure1.jsonl")
    text = (ROOT / "README.md").read_text()
    table = re.search(r"<!-- pudm report data/results/figure1\.jsonl -->\n(.*?)\n\n", text, re.DOTALL)
    assert table is not None
    assert table.group(1) == results_table(rows)
