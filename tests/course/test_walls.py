"""What a submission sees of the machine. Each kind is tried wherever the system has it, found out independently."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pudm_lite.course import walls

LOOK = """
import ctypes, os, socket, sys
from pudm_lite.course.walls import enclose
if sys.argv[1:]:
    enclose(sys.argv[1:])
print(sorted(os.listdir("/")), os.getcwd(), os.listdir("/tmp"))
print([name for _, name in socket.if_nameindex()], len([name for name in os.listdir("/proc") if name.isdigit()]) < 5)
def can(what):
    try:
        what()
        return "can"
    except OSError:
        return "cannot"
print(can(lambda: open("/tmp/x", "w").write("x")), can(lambda: open("/x", "w")), can(lambda: open(os.__file__, "a")))
package = sys.path[0] + "/pudm_lite"
print(can(lambda: open(package + "/new", "w")), can(lambda: open("/dev/null", "w").write("x")), os.path.exists(%r))
big = open("/tmp/big", "wb")
print(can(lambda: [big.write(bytes(2**20)) for _ in range(80)]))
libc = ctypes.CDLL(None, use_errno=True)
def mount(*what):
    if libc.mount(*what) != 0:
        raise OSError(ctypes.get_errno(), "mount")
print(can(lambda: mount(None, b"/", None, ctypes.c_ulong(0x20 | 0x1000), None)),  # read-only no more
      can(lambda: mount(b"tmpfs", b"/tmp", b"tmpfs", ctypes.c_ulong(0), None)),
      can(lambda: os.setuid(0) or os.mknod("/tmp/disk", 0o60666, os.makedev(8, 0))))
"""
INDEPENDENT = {
    "bwrap": ["bwrap", "--ro-bind", "/", "/", "--unshare-all", "--proc", "/proc", "--dev", "/dev", "true"],
    "unshare": ["unshare", "--user", "--map-root-user", "--net", "--pid", "--fork", "--mount-proc", "true"],
}


def works(kind: str) -> bool:
    try:
        return subprocess.run(INDEPENDENT[kind], capture_output=True, timeout=20).returncode == 0
    except OSError:
        return False


@pytest.mark.parametrize("kind", [kind for kind in walls.KINDS if kind])
def test_a_process_behind_walls_sees_python_and_a_scratch_folder_alone(tmp_path, kind):
    if not works(kind):
        pytest.skip(f"{kind} does not work on this system")
    secret = tmp_path / "secret"
    secret.write_text("x")
    line = walls.command(kind, [sys.executable, "-P", "-c", LOOK % str(secret)])
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(walls.__file__).parents[2])}
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 0, done.stderr
    root, net, writes, more, big, mounts = done.stdout.splitlines()
    tops = {Path(path).parts[1] for path in walls.visible()} | {"proc", "tmp", "dev"}
    in_tmp = sorted(
        {Path(path).parts[2] for path in walls.visible() if path.startswith("/tmp/")}
    )  # a clone may lie there
    assert root == f"{sorted(tops)} /tmp {in_tmp}"
    assert net == "['lo'] True"
    assert writes == "can cannot cannot"
    assert more == "cannot can False"
    assert big == "cannot"  # no more than SCRATCH
    assert mounts == "cannot cannot cannot"


def test_bubblewrap_is_asked_for_everything():
    """Also where it is not installed, and the test above skips it."""
    line = walls.command("bwrap", ["python", "-m", "x"])
    alone, child = line[: line.index("--")], line[line.index("--") + 1 :]
    assert child == ["python", "-m", "x"]
    assert {"--unshare-user", "--unshare-all", "--die-with-parent"} <= set(alone)
    assert {"--share-net", "--bind", "--dev-bind", "--cap-add"}.isdisjoint(alone)
    assert " ".join(alone).count("--cap-drop ALL") == 1
    assert " ".join(alone).endswith("--remount-ro / --chdir /tmp")
    assert [alone[i + 1] for i, word in enumerate(alone) if word == "--ro-bind"] == walls.visible()


def test_no_wall_is_the_bare_process():
    assert walls.command("", ["python"]) == ["python"]


def test_nothing_is_visible_but_what_python_is_made_of():
    seen = [Path(path) for path in walls.visible()]
    own = Path(walls.__file__).parents[1]
    assert any(own.is_relative_to(path) for path in seen)
    assert any(Path(sys.executable).is_relative_to(path) for path in seen)
    assert not any(one != two and one.is_relative_to(two) for one in seen for two in seen)
    assert not any(Path.home().is_relative_to(path) or Path.cwd() == path for path in seen)
