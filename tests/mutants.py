"""Put small faults into a copy of the package, one at a time, and see whether the tests notice.

    python tests/mutants.py                   all of tests/faults.py: two hours of a quiet core
    python tests/mutants.py priors seconds    those whose file, text or tests hold one of the words

Prints killed or survived for each, and exits 1 where one survived. On demand, and no part of `make test`.
"""

import json
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from faults import FAULTS, Fault

ROOT = Path(__file__).parent.parent
HEAVY = [
    "torch",
    "diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion",
    "accelerate",
    "torchvision",
    "scipy.stats",
    "matplotlib.figure",
    "hypothesis",
    "pytest",
]
"""Imported once, in the process that every test process is forked from: an import takes longer than most tests."""
PATIENCE = 600
"""Seconds for the tests of one fault, or ten times what they take without: one that makes them hang is noticed, too."""


def chosen(words: list[str]) -> list[Fault]:
    """The faults whose file, texts or tests hold one of the words; all without a word."""
    return [f for f in FAULTS if not words or any(w in " ".join((f.file, *f.tests, f.old, f.new)) for w in words)]


def copied(folder: Path) -> None:
    """The repository in a folder: package and tests are copied, all else is linked."""
    for path in ROOT.iterdir():
        if path.name in ("pudm_lite", "tests"):
            shutil.copytree(path, folder / path.name, ignore=shutil.ignore_patterns("__pycache__"))
        elif not path.name.startswith("."):
            (folder / path.name).symlink_to(path)


class ShortestFirst:
    """Orders the tests of a file by what each took without a fault: most faults are noticed by a quick one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seconds: dict[str, float] = json.loads(path.read_text()) if path.exists() else {}

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        files = list(dict.fromkeys(item.path for item in items))
        items.sort(key=lambda item: (files.index(item.path), self.seconds.get(item.nodeid, 0.0)))

    def pytest_runtest_logreport(self, report: Any) -> None:
        self.seconds.setdefault(report.nodeid, 0.0)
        if report.passed:
            self.seconds[report.nodeid] += report.duration

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        if exitstatus == 0:
            self.path.write_text(json.dumps(self.seconds))


def run_tests(folder: Path, tests: tuple[str, ...]) -> None:
    """In a process of its own: the quick tests of these files, until the first fails. Exits with pytest's code."""
    import pytest

    sys.dont_write_bytecode = True  # a file changed twice in a second would be taken for unchanged
    os.environ |= {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1", "PUDM_MODE": "fast"}
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # nbval's imports alone take longer than most tests
    sys.path.insert(0, str(folder))
    os.chdir(folder)
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    names = [f"tests/{name}" for name in tests]
    order = ShortestFirst(folder / "seconds.json")
    sys.exit(int(pytest.main(["-x", "-q", "-m", "not slow", "-p", "no:cacheprovider", *names], plugins=[order])))


def noticed(folder: Path, tests: tuple[str, ...], patience: float) -> bool:
    """Whether a test fails, or one of their files cannot be imported any more, or they do not end within `patience`."""
    process = multiprocessing.get_context("forkserver").Process(target=run_tests, args=(folder, tests))
    process.start()
    process.join(patience)
    if process.exitcode is None:
        process.kill()
        process.join()
    if process.exitcode in (4, 5):  # pytest: called wrongly, no test found
        raise SystemExit(f"no tests were run of {', '.join(tests)}: name files of tests/ in tests/faults.py")
    return process.exitcode != 0


def noticed_fault(folder: Path, fault: Fault, patience: float) -> bool:
    path = folder / "pudm_lite" / fault.file
    whole = path.read_text(encoding="utf-8")
    path.write_text(whole.replace(fault.old, fault.new), encoding="utf-8")
    try:
        return noticed(folder, fault.tests, patience)
    finally:
        path.write_text(whole, encoding="utf-8")


def main(words: list[str]) -> int:
    multiprocessing.get_context("forkserver").set_forkserver_preload(HEAVY)
    faults = chosen(words)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        copied(folder)
        seconds = {}
        for file in sorted({file for fault in faults for file in fault.tests}):
            started = time.monotonic()
            if noticed(folder, (file,), 10 * PATIENCE):  # the control: else every fault would count as noticed
                print(f"tests/{file} fails without a fault: put that right first")
                return 2
            seconds[file] = time.monotonic() - started
        survived = 0
        for fault in faults:
            found = noticed_fault(folder, fault, max(PATIENCE, 10 * sum(seconds[file] for file in fault.tests)))
            survived += not found
            print(f"{'killed' if found else 'SURVIVED'}  {fault.file}: {fault.old!r} -> {fault.new!r}", flush=True)
    print(f"{len(faults) - survived} killed, {survived} survived")
    return int(survived > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
