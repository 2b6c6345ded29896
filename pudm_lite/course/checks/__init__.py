"""The checks of the exercises: `from pudm_lite.course.checks import check_01_1`, then `check_01_1(my_function)`.

The same code runs in Jupyter, on Colab, under pytest and in `pudm grade`. Values are drawn fresh at every call and
compared with closed forms and with the package's own tested functions.
"""

import importlib
from typing import Any

from .harness import CHECKS, Check, WrongAnswer

NOTEBOOKS = ("01", "01b", "02", "03", "04", "05", "06", "07", "08", "09", "10", "11")

__all__ = ["CHECKS", "Check", "WrongAnswer", "all_checks"]


def all_checks() -> dict[str, Check]:
    """Every check of the course by the number of its exercise, in order."""
    for number in NOTEBOOKS:
        importlib.import_module(f".c{number}", __name__)
    return dict(sorted(CHECKS.items()))


def __getattr__(name: str) -> Any:
    """check_NN_k, from the module of its notebook."""
    if name.startswith("check_") and (number := name.split("_")[1]) in NOTEBOOKS:
        return getattr(importlib.import_module(f".c{number}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
