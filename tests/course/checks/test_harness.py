"""The harness of the exercise checks."""

import pytest
import torch

from pudm_lite.course.checks import all_checks
from pudm_lite.course.checks.harness import CHECKS, WrongAnswer, check, expect, expect_bool, slopes


@pytest.fixture
def doubling():
    @check("99.1", "double", points=3)
    def examine(double):
        x = torch.rand(5)
        expect(double(x), 2 * x, {"that is the square": x**2, "that is the half": x / 2})

    yield examine
    del CHECKS["99.1"]


def test_a_right_answer_prints_one_line(doubling, capsys):
    doubling(lambda x: x + x)
    assert capsys.readouterr().out == "✓ exercise 99.1: `double` is right\n"


@pytest.mark.parametrize("number", all_checks())
def test_a_stub_is_not_an_error(number, capsys):
    def stub(*arguments, **named):
        raise NotImplementedError("your turn")

    check = all_checks()[number]
    check(stub)
    assert "not written yet" in capsys.readouterr().out
    with pytest.raises(NotImplementedError):
        check.examine(stub)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda x: x**2, "that is the square"),
        (lambda x: x / 2, "that is the half"),
        (lambda x: None, "returned None"),
        (lambda x: "two", "returned a str"),
        (lambda x: (2 * x).sum(), r"the shape is \(\); it should be \(5,\)"),
        (lambda x: 2 * x + float("nan"), "inf or nan"),
        (lambda x: 2 * x + 1, "the largest difference"),
        (lambda x: x.nothing, "stopped with AttributeError"),
    ],
)
def test_a_wrong_answer_gets_a_sentence_that_helps(doubling, answer, message):
    with pytest.raises(WrongAnswer, match=message):
        doubling(answer)


def test_a_mistake_that_equals_the_right_answer_is_no_hint():
    expect(1.0, 1.0, {"never": 1.0})
    with pytest.raises(WrongAnswer, match="it should be 1"):
        expect(2.0, 1.0, {"never": 1.0})
    with pytest.raises(WrongAnswer, match="it should be 1"):  # nor one that a little less exactness would call right
        expect(1.0003, 1.0, {"never": 1.00015})


@pytest.mark.parametrize("wrong", [1j, torch.tensor([1, 1 + 0.1j]), torch.tensor([complex(1, float("nan"))] * 2)])
def test_an_imaginary_part_that_is_not_0_is_wrong(wrong):
    with pytest.raises(WrongAnswer):
        expect(wrong, torch.ones(torch.as_tensor(wrong).shape))
    expect(torch.tensor([1 + 0j, 1]), torch.ones(2), {"never": torch.zeros(2)})
    with pytest.raises(WrongAnswer, match="the square"):
        expect(torch.tensor([4 + 0j]), torch.tensor([2.0]), {"the square": torch.tensor([4.0])})


@pytest.mark.parametrize(
    "answer",
    [lambda x: x.mul_(2), lambda x: torch.add(x, x, out=x), lambda x: torch.from_numpy(x.numpy().__imul__(2))],
)
def test_an_answer_that_changes_what_it_was_given_is_wrong(answer):
    @check("99.2", "double")
    def examine(double):
        x = torch.rand(5)
        expect(double(x), 2 * x if float(x.sum()) < 0 else x)  # sees the changed x

    try:
        with pytest.raises(WrongAnswer, match="changes what it was given"):
            examine(answer)
    finally:
        del CHECKS["99.2"]


def test_values_that_are_no_bool_are_told_from_those_that_are():
    for right in (torch.tensor([True, False]), [True, False], torch.tensor([1]) > 0):
        expect_bool(right)
    for numbers in (torch.tensor([1, 0]), [1.0, 0.0]):
        with pytest.raises(WrongAnswer, match="as numbers"):
            expect_bool(numbers)


def test_slopes_are_those_of_autograd_and_their_absence_is_said():
    a, b = torch.tensor([1.0, 2.0], requires_grad=True), torch.tensor(3.0, requires_grad=True)
    assert slopes((a**2).sum() * b, a, b).tolist() == [6.0, 12.0, 5.0]
    assert slopes(a.sum(), a, b).tolist() == [1.0, 1.0, 0.0]
    for none in (3.0, None, a.sum().item(), a.sum().detach()):
        with pytest.raises(WrongAnswer, match="finds nothing"):
            slopes(none, a)
    with pytest.raises(WrongAnswer, match="one number"):
        slopes(2 * a, a)


def test_shapes_are_compared_before_a_tensor_is_made_dense():
    large = torch.ones(1).expand(10**15), torch.sparse_coo_tensor([[0], [0]], [1.0], (10**9, 10**9))
    for got in large:  # neither would fit into memory
        with pytest.raises(WrongAnswer, match="the shape is"):
            expect(got, torch.ones(3), {"another": torch.ones(2)})
    expect(torch.eye(3).to_sparse(), torch.eye(3))


def test_jupyter_shows_the_sentence_alone():
    assert WrongAnswer("look at the sign")._render_traceback_() == ["✗ look at the sign"]
