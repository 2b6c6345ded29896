"""What a teacher asks when something does not run on a student's machine, one line each, with what to do.

Libraries load inside the checks: that one does not load is what a line may have to say.
"""

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..errors import UserError

PYTHONS = ((3, 11), (3, 13))
"""The oldest and the newest Python that the tests run on."""
MEMORY, DISK = 3.0, 2.0
"""GiB that `pudm figure1` asks for: its processes' peaks add up to 2.8, as it prints; its files take a tenth of one."""
SANDBOXES = {
    "bubblewrap": ["bwrap", "--unshare-all", "--ro-bind", "/", "/", "true"],
    "unshare": ["unshare", "--user", "--map-root-user", "--pid", "--net", "--mount", "--fork", "true"],
}
"""What shuts a submission in while it is graded, by the command that shows whether it works here."""


@dataclass(frozen=True)
class Line:
    """name: what was looked at. found: what is there. to_do: what the user has to do; "" where all is well.

    needed: whether nothing runs until that is done; otherwise some things do.
    """

    name: str
    found: str
    to_do: str = ""
    needed: bool = False

    def __str__(self) -> str:
        return f"{self.name}: {self.found}" + (f"; to do: {self.to_do}" if self.to_do else "")


def checkup() -> Iterator[Line]:
    """A line for each thing, as it is looked at. A check that fails is a line too."""
    checks = (_python, _versions, _torch, _mode, _memory, _disk, _sandbox)
    for check in checks:
        yield _attempt(check.__name__.strip("_"), check)
    try:
        from ..sources.doctor import IN_DATA, NAMES
    except Exception:  # it takes PyTorch, whose line has said what is wrong
        return
    for name in NAMES:
        yield _attempt(name, partial(_data, name), name in IN_DATA)


def _attempt(name: str, check: Callable[[], Line], needed: bool = True) -> Line:
    try:
        return check()
    except UserError as error:
        found, _, to_do = str(error).partition(": ")
        return Line(name, found, to_do, needed)
    except Exception as error:  # a broken installation has many ways to fail
        said = f"{type(error).__name__}: {error}".splitlines()[0]
        return Line(name, f"cannot be looked at ({said})", "make .venv anew, or install the package again", needed)


def _python() -> Line:
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    oldest, newest = (".".join(map(str, version)) for version in PYTHONS)
    if PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]:
        return Line("python", found)
    return Line("python", found, f"take Python {oldest} to {newest}", needed=sys.version_info[:2] < PYTHONS[0])


def _versions() -> Line:
    """The libraries against what pyproject.toml, or the installed package, asks for."""
    from importlib import metadata

    from packaging.requirements import Requirement

    wrong = []
    for one in map(Requirement, _requirements()):
        if one.marker is not None and not one.marker.evaluate({"extra": ""}):
            continue
        try:
            if not one.specifier.contains(version := metadata.version(one.name), prereleases=True):
                wrong.append(f"{one.name} is {version}, not {one.specifier}")
        except metadata.PackageNotFoundError:
            wrong.append(f"{one.name} is missing")
    if wrong:
        return Line("versions", "; ".join(wrong), "make .venv anew, or `pip install -U` these", needed=True)
    shown = ("torch", "diffusers", "accelerate", "numpy", "pillow")
    return Line("versions", ", ".join(f"{name} {metadata.version(name)}" for name in shown))


def _requirements() -> list[str]:
    import tomllib
    from importlib import metadata

    project = Path(__file__).parents[2] / "pyproject.toml"
    if project.is_file():
        return tomllib.loads(project.read_text(encoding="utf-8"))["project"]["dependencies"]
    return metadata.requires("pudm_lite") or []


def _torch() -> Line:
    import torch

    from .machine import machine
    from .parallel import cores

    torch.ones(2, 2) @ torch.ones(2, 2)
    found = f"{torch.__version__} on {machine()['device']}, {cores()} cores"
    if torch.cuda.is_available():
        free, total = (n / 2**30 for n in torch.cuda.mem_get_info())
        found += f"; {free:.1f} of {total:.1f} GiB of GPU memory are free"
    return Line("torch", found)


def _mode() -> Line:
    from .machine import mode

    return Line("mode", mode())


def _memory() -> Line:
    free, total = _memory_gib()
    found = f"{free:.1f} of {total:.1f} GiB are free"
    if free >= MEMORY:
        return Line("memory", found)
    return Line("memory", found, f"close other programs: `pudm figure1` takes {MEMORY:.0f} GiB, a single training half")


def _memory_gib() -> tuple[float, float]:
    """(free, total) main memory, GiB: of the machine or, where it is smaller, of the container."""
    total = float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    free = total
    meminfo = Path("/proc/meminfo")
    if meminfo.is_file():
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
        free = float(lines["MemAvailable"].split()[0]) * 1024
    group = Path("/sys/fs/cgroup")
    for most, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        try:
            limit = float((group / most).read_text())
            total, free = min(total, limit), min(free, limit - float((group / used).read_text()))
        except (OSError, ValueError):  # no such file, or no limit: "max"
            continue
    return free / 2**30, total / 2**30


def _disk() -> Line:
    here = Path.cwd()
    free = shutil.disk_usage(here).free / 2**30
    found = f"{free:.1f} GiB are free in {here}"
    if not os.access(here, os.W_OK):
        return Line("disk", found + ", which takes no files", "work in a folder of your own, or name one with --out")
    return Line("disk", found, "" if free >= DISK else f"make room: {DISK:.0f} GiB are enough", needed=free < DISK / 10)


def _sandbox() -> Line:
    for name, command in SANDBOXES.items():
        if shutil.which(command[0]) is None:
            continue
        try:
            if subprocess.run(command, capture_output=True, timeout=10).returncode == 0:
                return Line("sandbox", f"{name} works")
        except (OSError, subprocess.TimeoutExpired):
            continue
    return Line("sandbox", "none works here", "to grade others' notebooks safely, install bubblewrap (Linux)")


def _data(name: str) -> Line:
    """Only what lies in data/ is needed; the rest is for the experiments that name it."""
    from ..sources.doctor import IN_DATA, look

    finding, needed = look(name), name in IN_DATA
    remedy = finding.remedy if needed else f"where you want it, {finding.remedy}"
    return Line(name, finding.state, "" if finding.right else remedy, needed)
