"""The command `pudm`: one file per command in commands/. Heavy libraries load only when a command runs."""

import argparse
import importlib
import sys

from .errors import UserError

COMMANDS = (
    "figure1",
    "train",
    "sweep",
    "sample",
    "evaluate",
    "report",
    "figure4",
    "ship",
    "grade",
    "bench",
    "judge",
    "data",
)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pudm",
        description="Positive-unlabeled diffusion models (Takahashi et al., ICLR 2025), small: train, draw, measure.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in COMMANDS:
        module = importlib.import_module(f".commands.{name}", __package__)
        of_one = commands.add_parser(
            name,
            help=module.HELP,
            description=module.HELP,
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        )
        module.add(of_one)
        of_one.set_defaults(run=module.run)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns the exit code: 0, 2 for something the user can put right, 130 when interrupted."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except UserError as error:
        print(f"pudm: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("pudm: stopped; run the same command again to go on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
