"""The command `pudm`: one file per command in commands/. Heavy libraries load only when a command runs."""

import argparse
import importlib
import os
import sys
from typing import Any, NoReturn

from .commands.given import Flag, Once
from .commands.surroundings import leave_clusters_aside, let_threads_sleep, patient_output
from .errors import UserError

COMMANDS = (
    "figure1",
    "train",
    "train-sd",
    "sweep",
    "unlearn",
    "sample",
    "erase",
    "evaluate",
    "report",
    "figure4",
    "ship",
    "grade",
    "erase-bench",
    "bench",
    "selftest",
    "judge",
    "data",
    "doctor",
)


class Help(argparse.HelpFormatter):
    """Names the default of an option where there is one and its explanation does not; keeps the lines of an epilog."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        silent = action.default in (None, False, "", argparse.SUPPRESS) or action.default == []
        if silent or not action.option_strings or "(default" in (action.help or ""):
            return action.help
        return f"{action.help} (default: {_shown(action.default)})".replace("%", "%%")

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n".join(super(Help, self)._fill_text(line, width, indent) for line in text.splitlines())


class Parser(argparse.ArgumentParser):
    """Knows what was given (`commands.given`), says what is wrong in one sentence, and lists what --set takes.

    That list stands below the options of a command that has --set: only there, as it loads PyTorch.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for name, action in ((None, Once), ("store", Once), ("store_true", Flag)):
            self.register("action", name, action)

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (`{self.prog} --help` says what there is)")

    def format_help(self) -> str:
        if any(action.dest == "set" for action in self._actions):
            from .runs.experiments import settings_help

            self.epilog = settings_help()
        return super().format_help()


def _shown(default: object) -> str:
    return " ".join(map(str, default)) if isinstance(default, list) else str(default)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="pudm",
        description="Positive-unlabeled diffusion models (Takahashi et al., ICLR 2025), small: train, draw, measure.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in COMMANDS:
        module = importlib.import_module(f".commands.{name.replace('-', '_')}", __package__)
        of_one = commands.add_parser(
            name,
            help=module.HELP,
            description=module.HELP,
            formatter_class=Help,
        )
        module.add(of_one)
        of_one.set_defaults(run=module.run)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns the exit code: 0, 2 for something the user can put right, 130 when interrupted."""
    with patient_output() as streams:
        code = _attempt(arguments)
        for stream in streams:
            stream.flush()
            if stream.failure and not code:
                print(
                    f"pudm: not all could be printed ({stream.failure}): make room, and run it again", file=sys.stderr
                )
                code = 2
    return code


def _attempt(arguments: list[str] | None) -> int:
    try:
        options = _parser().parse_args(arguments)
        leave_clusters_aside()
        let_threads_sleep()
        if os.environ.get("PUDM_ENDS_WITH"):
            from .runs.machine import end_with

            end_with()
        options.run(options)
    except UserError as error:
        print(f"pudm: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("pudm: stopped; run the same command again to go on", file=sys.stderr)
        return 130
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":  # PyTorch's, by its name: without it commands start faster
            raise
        print("pudm: the GPU's memory ran out: end what else holds some of it (nvidia-smi names it)", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
