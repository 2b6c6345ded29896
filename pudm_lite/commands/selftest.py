"""`pudm selftest`."""

import argparse
from pathlib import Path

from ..errors import UserError
from ..files import writable

HELP = "Whether this machine, its GPUs above all, computes what it should: a table to paste, and OUT/selftest.json."


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, default=Path("outputs/selftest"), help="folder for selftest.json")


def run(options: argparse.Namespace) -> None:
    from tqdm.auto import tqdm

    from ..runs.selftest import CHECKS, run_check, table, write_findings

    writable(options.out)
    findings = []
    with tqdm(CHECKS.items(), unit="check") as bar:
        for name, check in bar:
            bar.set_description(name)
            findings.append(run_check(name, check))
    print(table(findings))
    path = options.out / "selftest.json"
    write_findings(findings, path)
    print(f"\nwrote {path}")
    if wrong := [finding.check for finding in findings if finding.result == "wrong"]:
        raise UserError(
            f"{len(wrong)} of {len(findings)} checks went wrong ({', '.join(wrong)}): report the table above"
        )
