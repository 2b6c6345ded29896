"""The self-test: what each check says of a machine that is right, and of one that is wrong. On a GPU: all of them."""

import json
from dataclasses import replace
from functools import partial

import pytest
import torch
from make_believe import device

from pudm_lite import cli
from pudm_lite.runs import selftest
from pudm_lite.runs.selftest import CHECKS, Finding, NotHere, Wrong, agree, run_check, table, write_findings


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("name", CHECKS)
def test_on_a_gpu(name):
    try:
        CHECKS[name]()
    except NotHere as why:
        pytest.skip(str(why))


def test_every_end_of_a_check_is_a_finding():
    def breaks():
        raise RuntimeError("no kernel image\nis available")

    def ends(error):
        raise error

    found = [
        run_check("a", lambda: "fine"),
        run_check("b", partial(ends, Wrong("off by 2"))),
        run_check("c", partial(ends, NotHere("no GPU"))),
        run_check("d", breaks),
    ]
    assert [(f.result, f.says) for f in found] == [
        ("ok", "fine"),
        ("wrong", "off by 2"),
        ("not here", "no GPU"),
        ("wrong", "RuntimeError: no kernel image"),
    ]


def test_numbers_that_are_apart_are_wrong():
    assert agree("risks", [1.0, 2.0], [1.0, 2.002], 1e-2) == "risks: 1.0e-03 apart"
    with pytest.raises(Wrong, match=r"risks: 1.0e-01 apart; at most 1e-02"):
        agree("risks", [1.1], [1.0], 1e-2)
    with pytest.raises(Wrong):
        agree("risks", [float("nan")], [1.0], 1e-2)


def test_the_table_names_the_device_and_the_file_holds_the_same(tmp_path):
    findings = [Finding("training, no", "ok", "a | b", 1.25), Finding("two GPUs", "not here", "one GPU", 0.0)]
    with device():
        head, _, *lines = table(findings).splitlines()
        write_findings(findings, tmp_path / "selftest.json")
    assert head.startswith("**make-believe**, ")
    assert "torch " in head
    assert lines[2:] == ["| training, no | ok | a \\| b | 1.2 |", "| two GPUs | not here | one GPU | 0.0 |"]
    kept = json.loads((tmp_path / "selftest.json").read_text())
    assert (kept["device"], [check["result"] for check in kept["checks"]]) == ("make-believe", ["ok", "not here"])


def test_the_command_ends_with_2_where_a_check_went_wrong(tmp_path, monkeypatch, capsys):
    def wrong():
        raise Wrong("off by 2")

    monkeypatch.setattr(selftest, "CHECKS", {"judge": lambda: "fine", "pieces": wrong})
    assert cli.main(["selftest", "--out", str(tmp_path)]) == 2
    said = capsys.readouterr()
    assert "| pieces | wrong | off by 2 |" in said.out
    assert "1 of 2 checks went wrong (pieces)" in said.err
    assert len(json.loads((tmp_path / "selftest.json").read_text())["checks"]) == 2


def test_what_needs_a_gpu_is_not_here_without_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for name in ("training, fp16", "two GPUs", "sampling", "memory"):
        with pytest.raises(NotHere, match="no GPU"):
            CHECKS[name]()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["training, bf16", "training, fp16", "resuming", "pieces", "sampling", "judge"])
def test_what_needs_no_clock_passes_on_a_make_believe_gpu(name):
    with device():
        CHECKS[name]()


@pytest.mark.slow
def test_a_training_that_goes_wrong_is_named(monkeypatch):
    """A machine on which the pieces of a batch are another batch, and one whose risks are no numbers."""
    monkeypatch.setattr(selftest, "METHODS", ("nnpu",))
    real = selftest.trainer
    with monkeypatch.context() as m:
        m.setattr(selftest, "trainer", lambda config: real(replace(config, beta=0.1 if config.pieces > 1 else 0.7)))
        with pytest.raises(Wrong, match="risks in three pieces"):
            selftest.pieces_change_nothing()
    broken = real(selftest.CONFIG)
    with torch.no_grad():
        broken.network.out.bias.fill_(torch.nan)
    monkeypatch.setattr(selftest, "trainer", lambda *_, **__: broken)
    with pytest.raises(Wrong, match=r"nnpu: risks .*nan"):
        selftest.methods_train("no")
