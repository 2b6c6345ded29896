"""What stands between a submission and the machine: bubblewrap where it works, else unshare, else nothing.

Behind either a process has no network, sees no other process, and of the file system only what Python needs, to read,
with a small /tmp of its own; all that it starts ends with it, and it ends with the grader.
"""

import ctypes
import os
import sys
from collections.abc import Iterable
from pathlib import Path

KINDS = ("bwrap", "unshare", "")
"""The best first. The empty one is no wall."""
SCRATCH = 64 << 20
"""Bytes that fit into the /tmp of a submission, and into one file."""
UNPROTECTED = (
    "neither bubblewrap (`bwrap`) nor `unshare` works here, so a submission can read and change your files, use the "
    "network and leave processes behind: install bubblewrap, or grade strangers' work in a virtual machine"
)
SYSTEM = ("/usr", "/bin", "/lib", "/lib32", "/lib64", "/etc/ld.so.cache", "/etc/alternatives", "/nix/store")
CPU = "/sys/devices/system/cpu"  # PyTorch asks it what the machine can do
DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random")


def visible() -> list[str]:
    """The folders and files that Python, its libraries and this package are made of; no two inside each other."""
    libraries = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    own = [sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix, str(Path(__file__).parents[1])]
    places = sorted({os.path.abspath(path) for path in (*SYSTEM, CPU, *own, *libraries)}, key=len)
    kept: list[str] = []
    for path in places:
        if os.path.exists(path) and not any(Path(path).is_relative_to(other) for other in kept):
            kept.append(path)
    return kept


def command(kind: str, child: list[str]) -> list[str]:
    """The command line that runs `child` behind a wall of this kind; behind `unshare` it has to call `enclose`."""
    if kind == "bwrap":
        line = ["bwrap", "--unshare-user", "--unshare-all", "--die-with-parent", "--cap-drop", "ALL"]
        line += ["--proc", "/proc", "--dev", "/dev", "--remount-ro", "/dev"]
        line += ["--size", str(SCRATCH), "--tmpfs", "/tmp"]
        for path in visible():
            line += ["--ro-bind", path, path]
        return [*line, "--remount-ro", "/", "--chdir", "/tmp", "--", *child]
    if kind == "unshare":
        line = ["setpriv", "--pdeathsig", "KILL", "--no-new-privs", "unshare", "--user", "--map-root-user", "--mount"]
        return [*line, "--net", "--ipc", "--uts", "--pid", "--fork", "--kill-child", "--", *child, *visible()]
    return child


MS_BIND, MS_MOVE, MS_REC = 0x1000, 0x2000, 0x4000
CLONE_NEWUSER, AT_FDCWD, AT_RECURSIVE, MOUNT_ATTR_RDONLY, SYS_MOUNT_SETATTR = 0x10000000, -100, 0x8000, 1, 442


def enclose(folders: Iterable[str]) -> None:
    """Within new namespaces: make `folders` all there is, to read only, beside /proc and a small /tmp, for good.

    Raises OSError where the system does not let it.
    """
    libc = ctypes.CDLL(None, use_errno=True)

    def done(result: int) -> None:
        if result != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    def mount(what: str, where: str, kind: str | None, flags: int, options: str | None = None) -> None:
        words = [word.encode() if word is not None else None for word in (what, where, kind, options)]
        done(libc.mount(*words[:3], ctypes.c_ulong(flags), words[3]))

    new = "/proc"  # a folder that is there and holds none of the others
    size = f"size={SCRATCH},mode=1777"
    mount("tmpfs", new, "tmpfs", 0, size)
    for name in ("proc", "tmp"):
        Path(new, name).mkdir()
    mount("tmpfs", f"{new}/tmp", "tmpfs", 0, size)
    mount("proc", f"{new}/proc", "proc", 0)
    for path in (*folders, *DEVICES):
        place = Path(new + path)
        if os.path.isdir(path):
            place.mkdir(parents=True, exist_ok=True)
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.touch()
        mount(path, str(place), None, MS_BIND | MS_REC)
    os.chdir(new)
    mount(".", "/", None, MS_MOVE)
    os.chroot(".")
    for where, flags, change in (("/", AT_RECURSIVE, (MOUNT_ATTR_RDONLY, 0)), ("/tmp", 0, (0, MOUNT_ATTR_RDONLY))):
        attributes = (ctypes.c_uint64 * 4)(*change, 0, 0)  # to set, to clear, propagation, a user namespace
        size_of = ctypes.sizeof(attributes)
        done(libc.syscall(SYS_MOUNT_SETATTR, AT_FDCWD, where.encode(), flags, ctypes.byref(attributes), size_of))
    os.chdir("/tmp")
    done(libc.unshare(CLONE_NEWUSER))  # so that no one in here has a say over these mounts
