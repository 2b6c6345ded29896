"""What of a notebook is run: every way to write a function that Jupyter takes, and nothing that trains or draws."""

import ast
import json
import sys

import pytest

from pudm_lite.course.definitions import definitions

RIGHT = "def forward(x):\n    return x"


def notebook(*cells, **metadata) -> bytes:
    code = [{"cell_type": "code", "source": cell} for cell in cells]
    return json.dumps({"cells": [{"cell_type": "markdown", "source": "text"}, *code], "metadata": metadata}).encode()


def source(*cells) -> str:
    return "\n".join(map(ast.unparse, definitions(notebook(*cells)).statements))


@pytest.mark.parametrize(
    "cell",
    [
        RIGHT,
        "def forward(x):\n    return (x\n      % 7)",
        RIGHT + "\nok = (1\n      != 2)",
        RIGHT + "\nforward?",
        "?forward\n" + RIGHT,
        "files = !ls\n" + RIGHT,
        "!ls\n%matplotlib inline\n" + RIGHT,
        "%%time\n" + RIGHT,
        "\n%%capture out\nfiles = !ls\n" + RIGHT,
        "await ready()\n" + RIGHT,
        "forward = lambda x: x",
        "def mine(x):\n    return x\nforward = mine",
        "forward: object = lambda x: x",
        "if True:\n    " + RIGHT.replace("\n", "\n    "),
        "if slow():\n    pass\nelse:\n    forward = lambda x: x",
        "try:\n    import fast\nexcept ImportError:\n    " + RIGHT.replace("\n", "\n    "),
        "try:\n    train()\nfinally:\n    forward = lambda x: x",
        "try:\n    forward = lambda x: x\nfinally:\n    print()",
        ["def forward(x):\n", "    return x"],
    ],
)
def test_whatever_jupyter_takes_for_a_function_is_found(cell):
    found = definitions(notebook(cell))
    assert "forward" in found.names
    assert found.unread == []
    namespace = {"slow": lambda: False}
    for node in found.statements:
        exec(compile(ast.Module([node], []), "cell", "exec"), namespace)
    assert namespace["forward"](5) == 5


def test_a_line_that_starts_with_a_percent_sign_stays_in_its_expression():
    assert "x % 7" in source("def f(x):\n    return (x\n% 7)")


def test_what_is_python_already_is_not_transformed(monkeypatch):
    monkeypatch.setitem(sys.modules, "IPython.core.inputtransformer2", None)  # so that it cannot be imported
    assert definitions(notebook(RIGHT)).names == ["forward"]


def test_what_computes_trains_or_acts_is_left_out():
    kept = source(
        *(
            "while True:\n    pass",
            "open('ran', 'w')",
            "y = f(x)",
            "if train():\n    y = f(x)",
            "with open('x'):\n    a = 1",
        ),
        *("x: int", "x += 1", "z = [f(1)]", "for i in x:\n    def g(): pass", "!rm", "%%bash\ndef h(): pass"),
    )
    assert kept == ""


def test_constants_stay():
    cells = "SIZE = 2 * 28\nNAMES = ['a', ('b', -1)]\ntable = {1: None}\nkind = torch.float64"
    assert source(cells) == "SIZE = 2 * 28\nNAMES = ['a', ('b', -1)]\ntable = {1: None}\nkind = torch.float64"


def test_a_name_that_is_imported_or_a_number_is_no_function_of_the_notebook():
    assert definitions(notebook("from torch import forward\nclass Net: pass\nrate = 0.5")).names == []


UNREADABLE = {
    "half": "1 +",
    "zero": "b = '\0'",
    "brackets": "(" * 5000,
    "sum": "f(" + "1 + " * 50_000 + "1)",
    "signs": "-" * 50_000 + "1",
    "number": 5,
    "none": None,
}


@pytest.mark.parametrize("cell", UNREADABLE.values(), ids=UNREADABLE)
def test_a_cell_that_cannot_be_read_is_named_and_costs_itself_alone(cell):
    found = definitions(notebook("a = 1", cell, RIGHT))
    assert found.names == ["forward"]
    (why,) = found.unread
    assert why.startswith("code cell 2 (")


@pytest.mark.parametrize(
    "text",
    [
        *(
            b"",
            b"not json",
            b"[]",
            b"{}",
            b'{"cells": 5}',
            b'{"cells": [{}]}',
            b'{"cells": [5]}',
            b"\xff\xfe",
            b"\0" * 9,
        ),
        *(b"[" * 100_000, b'{"cells": ' + b"9" * 10_000 + b"}", '{"cells": []}'.encode("utf-16")),
    ],
)
def test_a_file_that_is_no_notebook_is_said_to_be_none(text):
    with pytest.raises(ValueError, match="not a notebook"):
        definitions(text)


def test_a_byte_that_is_no_utf8_costs_nothing():
    assert definitions(notebook(RIGHT + "  # caf-").replace(b"caf-", b"caf\xe9")).names == ["forward"]


@pytest.mark.parametrize(
    ("metadata", "number"),
    [
        ({"pudm_lite": {"notebook": "03"}}, "03"),
        ({"pudm_lite": {"notebook": "01b"}}, "01b"),
        ({"pudm_lite": {"notebook": "0"}}, None),
        ({"pudm_lite": {"notebook": "01bc"}}, None),
        ({"pudm_lite": {"notebook": 5}}, None),
        ({"pudm_lite": {"notebook": ["03"]}}, None),
        ({"pudm_lite": []}, None),
        ({"pudm_lite": None}, None),
        ({}, None),
    ],
)
def test_the_number_of_the_notebook_is_two_digits_and_a_letter_at_most_or_none(metadata, number):
    assert definitions(notebook(**metadata)).number == number
    assert definitions(b'{"cells": [], "metadata": null}').number is None
    assert definitions(b'{"cells": []}').number is None
