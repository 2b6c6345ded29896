"""Output that cannot be printed, and variables of a cluster: what a command does about its surroundings."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pudm_lite import cli
from pudm_lite.commands.surroundings import LAUNCH, MPI, Patient, leave_clusters_aside
from pudm_lite.errors import UserError

STRANGE = "é ± Jos\udc82 →"


def child(code: str, **settings) -> subprocess.Popen:
    """A process in which `work` is what a command does; light, as the package loads nothing heavy for it."""
    source = f"""import sys
from pathlib import Path
from types import SimpleNamespace
from pudm_lite import cli
def work(options):
{code}
cli._parser = lambda: SimpleNamespace(parse_args=lambda arguments: SimpleNamespace(run=work))
sys.exit(cli.main([]))"""
    return subprocess.Popen([sys.executable, "-c", source], stderr=subprocess.PIPE, **settings)


@pytest.mark.parametrize("encoding", ["ascii", "utf-8", "latin-1"])
def test_every_character_can_be_printed_somehow(encoding):
    environment = os.environ | {"PYTHONIOENCODING": encoding, "LC_ALL": "C", "PYTHONUTF8": "0"}
    process = child(
        f"    print({STRANGE!a}); print({STRANGE!a}, file=sys.stderr)", env=environment, stdout=subprocess.PIPE
    )
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert out == err == STRANGE.encode(encoding, "backslashreplace") + b"\n"


@pytest.mark.parametrize("amount", [10, 100_000])
def test_a_closed_pipe_costs_nothing_that_is_computed(tmp_path, amount):
    """`pudm ... | head`: what comes after the last line that was read is done all the same."""
    done = tmp_path / "done"
    process = child(
        f"""    print("first", flush=True)
    sys.stdin.readline()
    for k in range({amount}): print(k)
    print("into the pipe", flush=True)
    Path({str(done)!r}).write_text("done")
    print("more")""",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout.readline() == b"first\n"
    process.stdout.close()
    process.stdin.write(b"go\n")
    process.stdin.close()
    assert process.stderr.read() == b""
    assert process.wait(60) == 0
    assert done.read_text() == "done"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_under_the_output_is_said(tmp_path):
    done = tmp_path / "done"
    with open("/dev/full", "w") as full:
        process = child(f"    print('x', flush=True)\n    Path({str(done)!r}).touch()", stdout=full)
        assert (
            process.stderr.read()
            == b"pudm: not all could be printed (No space left on device): make room, and run it again\n"
        )
    assert process.wait(60) == 2
    assert done.exists()


def test_output_that_was_closed_from_the_start_is_none(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    assert cli.main(["report", "nowhere.jsonl"]) == 2


def test_a_stream_that_is_no_file_is_left_as_it_is():
    stream = io.StringIO()  # as Jupyter's
    patient = Patient(stream)
    print(STRANGE, file=patient, flush=True)
    assert stream.getvalue() == STRANGE + "\n"
    assert (patient.isatty(), patient.failure) == (False, "")


def test_streams_come_back(capsys):
    before = sys.stdout, sys.stderr
    cli.main(["report", "nowhere.jsonl"])
    assert (sys.stdout, sys.stderr) == before


# Threads


def test_threads_that_wait_are_let_sleep_before_pytorch_loads():
    code = "    import os; print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules)"
    plain = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    for given, found in (({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")):
        process = child(code, env=plain | given, stdout=subprocess.PIPE)
        assert process.communicate(timeout=60)[0].decode().split() == [found, "False"]


# Clusters


@pytest.fixture
def environment(monkeypatch):
    for name in (*LAUNCH, *MPI):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch.setenv


def left() -> set[str]:
    return {name for name in (*LAUNCH, *MPI) if name in os.environ}


@pytest.mark.parametrize("name", ["WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE"])
def test_one_of_several_processes_is_refused(environment, capsys, name):
    environment(name, "4")
    assert cli.main(["report", "nowhere.jsonl"]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(
        f"pudm: {name} is 4, as if this were one of 4 processes, which pudm does not share its work with"
    )


@pytest.mark.parametrize("value", ["", "0", "1", "-1", "x", "1e3", "²"])
@pytest.mark.parametrize("name", [*LAUNCH, *MPI])
def test_what_says_nothing_of_others_is_left_aside(environment, name, value):
    environment(name, value)
    leave_clusters_aside()
    assert left() == set()


def test_a_launch_keeps_its_own_and_loses_those_of_mpi(environment):
    """Accelerate would believe MPI first."""
    told = {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1", "MASTER_ADDR": "here", "MASTER_PORT": "1"}
    for name, value in {**told, **dict.fromkeys(MPI, "7")}.items():
        environment(name, value)
    leave_clusters_aside()
    assert left() == set(LAUNCH)
    for name in LAUNCH[1:]:  # half a launch is none
        environment("WORLD_SIZE", "2")
        environment(name, "")
        with pytest.raises(UserError, match="WORLD_SIZE is 2"):
            leave_clusters_aside()
        environment(name, told[name])
