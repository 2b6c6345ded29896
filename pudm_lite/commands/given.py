"""What a user typed: given once, told apart from a default, refused where it would not be used; numbers with bounds.

A command that uses an option only sometimes says so with `refuse_unused`, where it decides.
"""

import argparse
from collections.abc import Callable, Iterable
from typing import Any

from ..errors import UserError


class Once(argparse.Action):
    """Keeps a value, and that it was given. A second one is refused: it would replace the first without a word."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        if option is not None:
            if self.dest in given(namespace):
                raise argparse.ArgumentError(self, "it is given twice, and one would not be used")
            namespace.given = given(namespace) | {self.dest}
        setattr(namespace, self.dest, self.const if self.nargs == 0 else values)


class Flag(Once):
    """An option without a value."""

    def __init__(self, option_strings: list[str], dest: str, help: str) -> None:
        super().__init__(option_strings, dest, nargs=0, const=True, default=False, help=help)


def given(options: argparse.Namespace) -> set[str]:
    """The options that were typed, by their names in `options`."""
    return getattr(options, "given", set())


def refuse_unused(options: argparse.Namespace, names: Iterable[str], why: str) -> None:
    """Raises UserError when any of these options was given. why: the rest of the sentence, why it is not used here."""
    if unused := sorted(given(options) & set(names)):
        raise UserError(f"{', '.join('--' + name.replace('_', '-') for name in unused)} would not be used: {why}")


def whole(least: int, most: int) -> Callable[[str], int]:
    """The type of an option that takes a whole number from `least` to `most`."""

    def read(text: str) -> int:
        try:
            if least <= (number := int(text)) <= most:
                return number
        except ValueError:
            pass
        raise argparse.ArgumentTypeError(f"it takes a whole number from {least} to {most}; got {text!r}")

    return read


def share(text: str) -> float:
    """The type of an option that takes a share inside (0, 1)."""
    try:
        if 0 < (number := float(text)) < 1:
            return number
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"it takes a number inside (0, 1); got {text!r}")


count = whole(1, 10**9)
"""Of images, passes, processes and so on."""

steps = whole(0, 10**9)
"""0 is a number of steps where a model is drawn from as it is."""

seed = whole(0, 2**63 - 1)
"""What PyTorch and NumPy both take."""
