"""What every exercise check is made of: a result is compared with the right one and with typical wrong ones."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Function = Callable[..., Any]


class WrongAnswer(AssertionError):
    """An answer that is not right, and one sentence that helps. Jupyter shows the sentence without a traceback."""

    def _render_traceback_(self) -> list[str]:
        return [f"✗ {self}"]


CHECKS: dict[str, "Check"] = {}
"""Every check by the number of its exercise, such as 03.2."""


@dataclass(frozen=True)
class Check:
    """The check of one exercise; call it with your function.

    exercise: its number, such as 03.2. function: the name that the exercise gives the function. points: what it is
    worth. body: raises WrongAnswer; only calls the function with tensors and numbers, so that it can live in
    another process (`pudm grade`).
    """

    exercise: str
    function: str
    points: int
    body: Callable[[Function], None]

    def __call__(self, function: Function) -> None:
        """Print one line when the answer is right or not yet there; raise WrongAnswer when it is wrong."""
        try:
            self.examine(function)
        except NotImplementedError:
            print(f"… exercise {self.exercise}: `{self.function}` is not written yet")
        else:
            print(f"✓ exercise {self.exercise}: `{self.function}` is right")

    def examine(self, function: Function) -> None:
        """Raises WrongAnswer, or NotImplementedError for a stub. An error inside the function is a wrong answer."""
        try:
            self.body(_leaving_arguments_alone(function))
        except (WrongAnswer, NotImplementedError):
            raise
        except Exception as error:
            raise WrongAnswer(
                f"exercise {self.exercise}: `{self.function}` stopped with {type(error).__name__}: {error}"
            ) from None


def _leaving_arguments_alone(function: Function) -> Function:
    """The function, whose calls raise WrongAnswer where they change a tensor or a list that they were given."""

    def called(*arguments: Any, **named: Any) -> Any:
        given = [one for one in (*arguments, *named.values()) if isinstance(one, Tensor | list)]
        before = [one.detach().clone() if isinstance(one, Tensor) else list(one) for one in given]
        result = function(*arguments, **named)
        for one, was in zip(given, before, strict=True):
            if not (torch.equal(one, was) if isinstance(was, Tensor) else one == was):
                raise WrongAnswer(
                    "your function changes what it was given (an in-place operation such as x += 1, x.clamp_() or "
                    "names.sort()): whoever called it still needs that; make a new value"
                )
        return result

    return called


def check(exercise: str, function: str, points: int = 1) -> Callable[[Callable[[Function], None]], Check]:
    """Decorator: a function that examines a student's function becomes the `Check` of an exercise."""

    def made(body: Callable[[Function], None]) -> Check:
        CHECKS[exercise] = Check(exercise, function, points, body)
        return CHECKS[exercise]

    return made


def expect(
    got: Any, want: Tensor | float, mistakes: Mapping[str, Tensor | float] | None = None, tolerance: float = 1e-4
) -> None:
    """Raise WrongAnswer unless `got` is `want`.

    mistakes: sentence -> what a typical wrong answer gives here. The first one that `got` equals is the hint; only
        those that differ from `want` count. tolerance: relative, and absolute for values near 0.
    """
    if got is None:
        raise WrongAnswer("your function returned None: is there a `return` on every path?")
    try:
        given = torch.as_tensor(got).detach()
    except (TypeError, ValueError, RuntimeError):
        raise WrongAnswer(f"your function returned a {type(got).__name__}; a tensor or a number was expected") from None
    right, *wrong = (torch.as_tensor(one, dtype=torch.float64) for one in (want, *(mistakes or {}).values()))
    if all(given.shape != one.shape for one in (right, *wrong)):  # before a tensor of any size is made dense
        raise WrongAnswer(f"the shape is {tuple(given.shape)}; it should be {tuple(right.shape)}")
    value = given.to(torch.complex128 if given.is_complex() else torch.float64).to_dense()

    def equal(other: Tensor, value: Tensor = value) -> bool:
        same = value.shape == other.shape
        return same and torch.allclose(value, other.to(value.dtype), tolerance, tolerance, equal_nan=True)

    if equal(right):
        return
    for sentence, other in zip(mistakes or {}, wrong, strict=True):
        if equal(other) and not equal(other, right):
            raise WrongAnswer(sentence)
    if value.shape != right.shape:
        raise WrongAnswer(f"the shape is {tuple(value.shape)}; it should be {tuple(right.shape)}")
    if not torch.isfinite(value).all() and torch.isfinite(right).all():
        raise WrongAnswer("your result holds inf or nan where the right one is finite")
    off = (value - right).abs().flatten()
    worst = int(off.nan_to_num(nan=torch.inf).argmax())
    raise WrongAnswer(
        f"a value is {value.flatten()[worst]:.6g}; it should be {right.flatten()[worst]:.6g} (the largest difference)"
    )


def expect_bool(got: Any) -> None:
    """Raise WrongAnswer unless `got`, whose values are right, is of bool: 0 and 1 would pick places, not mask them."""
    if torch.as_tensor(got).dtype != torch.bool:
        raise WrongAnswer(
            "the values are right, as numbers: return True and False (bool); as an index 0 and 1 are places"
        )


def slopes(got: Any, *leaves: Tensor) -> Tensor:
    """The gradient of a scalar `got` by each element of the leaves, in a row. Raises WrongAnswer when it has none."""
    if not isinstance(got, Tensor) or not got.requires_grad:
        raise WrongAnswer(
            "backward() finds nothing in what you return: it is a plain number, or was cut off by .item(), float() or "
            ".detach(); keep tensors to the end"
        )
    if got.ndim:
        raise WrongAnswer(f"backward() starts from one number; yours has shape {tuple(got.shape)}")
    found = torch.autograd.grad(got, leaves, allow_unused=True)
    parts = (torch.zeros_like(leaf) if one is None else one for leaf, one in zip(leaves, found, strict=True))
    return torch.cat([part.flatten() for part in parts])
