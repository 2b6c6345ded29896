"""`pudm doctor`."""

import argparse

from ..errors import UserError

HELP = "Look this machine over: Python, libraries, device, memory, disk, sandbox, data, weights; and say what to do."


def add(parser: argparse.ArgumentParser) -> None:
    pass  # it looks at everything


def run(options: argparse.Namespace) -> None:
    from ..runs.checkup import checkup

    needed = []
    for line in checkup():
        print(line, flush=True)
        if line.to_do and line.needed:
            needed.append(line.name)
    if needed:
        raise UserError(f"not everything that is needed is right ({', '.join(needed)}): do what stands after `to do`")
