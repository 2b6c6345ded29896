"""What the tests of checks share: a wrong answer with the sentence that it must get, and how answers are tried."""

import pytest

from pudm_lite.course.checks.harness import WrongAnswer


def wrong(check, answer, message):
    return pytest.param(check, answer, message, id=f"{check.exercise} {message[:40]}")


def passes(check, answer, repeats=20):
    """The values are drawn fresh each time: a right answer must not fail once."""
    for _ in range(repeats):
        check.examine(answer)


def is_named(check, answer, message, repeats=5):
    for _ in range(repeats):
        with pytest.raises(WrongAnswer, match=message):
            check.examine(answer)
