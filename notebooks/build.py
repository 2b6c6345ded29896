"""From each master in notebooks/src/ to the notebook with solutions and the notebook for students.

    python notebooks/build.py                  # all of them, executed in the mode PUDM_MODE says (default: lab)
    python notebooks/build.py 02 03            # only these
    python notebooks/build.py --keep-outputs   # execute nothing: outputs of unchanged cells stay

A master is a jupytext `py:percent` file. Cells tagged `exercise` hold a solution between `# BEGIN SOLUTION` and
`# END SOLUTION`; markdown cells tagged `answer` hold a model answer; the student notebook gets neither. Outputs go
into the notebook with solutions; a student keeps those of cells tagged `expected`, the pictures to compare with.
"""

import argparse
import os
import re
import sys
import time
import tomllib
from pathlib import Path

import jupytext
import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell

HERE = Path(__file__).resolve().parent
SOLUTION = re.compile(r"^( *)# BEGIN SOLUTION\n(.*?)^ *# END SOLUTION\n?", re.DOTALL | re.MULTILINE)
MOST_BYTES = 1_500_000
PEAK = "import resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"


def repository() -> str:
    """The project's address, which stands in pyproject.toml alone."""
    return tomllib.loads((HERE.parent / "pyproject.toml").read_text())["project"]["urls"]["Repository"]


def number_of(master: Path) -> str:
    """Such as 01 or 01b: what stands before the first underscore of its name."""
    return master.stem.split("_")[0]


def badge(path: str) -> str:
    """What opens the notebook in Colab; generated, as the address stands in one place."""
    place = repository().removeprefix("https://github.com/")
    image = "https://colab.research.google.com/assets/colab-badge.svg"
    return f"[![Open in Colab]({image})](https://colab.research.google.com/github/{place}/blob/main/{path})"


def notation(student: bool) -> str:
    """The link to the page of letters and words, from where the notebook lies."""
    return f"Letters and words, on one page: [`NOTATION.md`]({'../' if student else ''}NOTATION.md)."


def install() -> NotebookNode:
    """The cell that makes Colab ready: the same in every notebook, so it is generated."""
    return new_code_cell(
        "# Installs the package only where it is missing (on Colab, say); torch and numpy stay as they are.\n"
        "import importlib.util\n\n"
        'if importlib.util.find_spec("pudm_lite") is None:\n'
        f'    %pip install --quiet "git+{repository()}"'
    )


def solved(source: str) -> str:
    """A cell with its solution in place, without the markers."""
    return SOLUTION.sub(lambda found: found[2], source).rstrip("\n")


def stub(source: str) -> str:
    """A cell with every solution replaced by a line that raises NotImplementedError."""
    return SOLUTION.sub(lambda found: f'{found[1]}raise NotImplementedError("your turn")\n', source).rstrip("\n")


def notebook(master: Path, student: bool) -> NotebookNode:
    """The notebook, without outputs, that a master stands for."""
    made = jupytext.read(master)
    path = f"notebooks/{'student/' if student else ''}{master.stem}.ipynb"
    title = made.cells[0]
    title.source = f"{badge(path)}\n\n{title.source}\n\n{notation(student)}"
    made.cells.insert(1, install())
    for place, cell in enumerate(made.cells):
        cell.id = f"{number_of(master)}-{place:03d}"
        tags = cell.metadata.get("tags", [])
        cell.metadata = nbformat.from_dict({"tags": tags} if tags else {})
        if cell.cell_type == "code":
            cell.source = stub(cell.source) if student else solved(cell.source)
        elif student and "answer" in tags:
            cell.source = "*Your answer, in two or three sentences:*"
    made.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
            "pudm_lite": {"notebook": number_of(master), "kind": "student" if student else "solution"},
        }
    )
    made.nbformat, made.nbformat_minor = 4, 5
    return made


def execute(made: NotebookNode) -> str:
    """Run it in notebooks/, in place. Returns what that took, for the notebook's first cell to say."""
    from nbclient import NotebookClient

    made.cells.append(new_code_cell(PEAK))
    start = time.perf_counter()
    NotebookClient(made, timeout=3600, kernel_name="python3", resources={"metadata": {"path": str(HERE)}}).execute()
    minutes = (time.perf_counter() - start) / 60
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes there, in KiB elsewhere
    peak = int(made.cells.pop().outputs[0].text) * unit / 2**30
    for cell in made.cells:
        cell.metadata.pop("execution", None)  # wall-clock times: noise in a diff
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    return f"{minutes:.1f} minutes, {peak:.1f} GiB of memory at most"


def take_outputs(made: NotebookNode, source: NotebookNode) -> None:
    """Copy the outputs of cells whose source is the same, and the state of the sliders."""
    if "widgets" in source.metadata:
        made.metadata["widgets"] = source.metadata["widgets"]
    known = {cell.source: cell for cell in source.cells if cell.cell_type == "code"}
    for cell in made.cells:
        if cell.cell_type == "code" and cell.source in known:
            cell.outputs = known[cell.source].outputs
            cell.execution_count = known[cell.source].execution_count


def without_outputs(made: NotebookNode) -> NotebookNode:
    """What the test compares: sources and metadata, no outputs."""
    for cell in made.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    made.metadata.pop("widgets", None)
    made.metadata["language_info"] = {"name": "python"}
    return made


def write(made: NotebookNode, path: Path) -> None:
    from pudm_lite.files import write_whole

    made.metadata["language_info"] = {"name": "python"}
    nbformat.validate(made)
    text = nbformat.writes(made) + "\n"
    if len(text) > MOST_BYTES:
        raise SystemExit(f"{path} would have {len(text):,} bytes; at most {MOST_BYTES:,}: draw smaller figures")
    path.parent.mkdir(exist_ok=True)
    write_whole(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    print(f"wrote {path.relative_to(HERE.parent)} ({len(text):,} bytes)", flush=True)


def has_exercises(made: NotebookNode) -> bool:
    return any("exercise" in cell.metadata.get("tags", []) for cell in made.cells)


def build(master: Path, keep_outputs: bool) -> None:
    target = HERE / f"{master.stem}.ipynb"
    made = notebook(master, student=False)
    if not keep_outputs:
        print(f"{master.stem}: {execute(made)}", flush=True)
    elif target.exists():
        take_outputs(made, nbformat.read(target, 4))
    write(made, target)
    if has_exercises(made):
        for_student = notebook(master, student=True)
        for cell, with_output in zip(for_student.cells, made.cells, strict=True):
            if "expected" in cell.metadata.get("tags", []) and cell.source == with_output.source:
                cell.outputs, cell.execution_count = with_output.outputs, with_output.execution_count
        write(for_student, HERE / "student" / target.name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("numbers", nargs="*", help="such as 02 or 01b; all when none is given")
    parser.add_argument("--keep-outputs", action="store_true", help="execute nothing")
    arguments = parser.parse_args()
    masters = sorted((HERE / "src").glob("[0-9][0-9]*_*.py"))
    chosen = [m for m in masters if not arguments.numbers or number_of(m) in arguments.numbers]
    if not chosen:
        raise SystemExit(f"no master {' '.join(arguments.numbers)}; there are {', '.join(m.stem for m in masters)}")
    os.environ.setdefault("PUDM_MODE", "lab")
    for master in chosen:
        build(master, arguments.keep_outputs)


if __name__ == "__main__":
    main()
