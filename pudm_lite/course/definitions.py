"""What of a notebook is run to grade it: imports, definitions and constants, out of all cells that can be read.

What trains, draws or calls a check is left out, so grading takes seconds and a notebook cannot act on its grade.
"""

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

PYTHON_CELLS = ("%%time", "%%capture", "%%prun", "%%timeit")
"""Cell magics below which stands Python."""
UNREADABLE = (SyntaxError, ValueError, MemoryError, RecursionError, OverflowError)
"""All that a parser makes of text that is not Python, or too much of it."""


@dataclass
class Definitions:
    """statements: what is run, in order. names: the functions among it. number: of the notebook, by its metadata.

    unread: the code cells that are no Python and no IPython, by number and reason.
    """

    statements: list[ast.stmt]
    names: list[str]
    number: str | None
    unread: list[str]


def definitions(notebook: bytes) -> Definitions:
    """The definitions in a notebook file. Raises ValueError when it is none."""
    try:
        content = json.loads(notebook.decode("utf-8-sig", "replace"))
        cells = [cell["source"] for cell in content["cells"] if cell["cell_type"] == "code"]
    except (*UNREADABLE, KeyError, TypeError, AttributeError):
        raise ValueError("not a notebook that can be read") from None
    found = Definitions([], [], _number(content), [])
    for i, source in enumerate(cells, 1):
        try:
            statements = _parsed(source if isinstance(source, str) else "".join(source))
            kept = [node for node in map(_kept, statements) if node]
        except (*UNREADABLE, TypeError) as error:
            why = error.msg if isinstance(error, SyntaxError) else "too deeply nested, or no text"
            found.unread.append(f"code cell {i} ({why})")
            continue
        found.statements += kept
        found.names += [name for node in kept for name in _functions(node)]
    return found


def _number(content: dict[str, Any]) -> str | None:
    """The number of the course's notebook that this is a copy of; None where its metadata give none."""
    try:
        number = content["metadata"]["pudm_lite"]["notebook"]
        return number if re.fullmatch(r"\d\d[a-z]?", number) else None
    except (KeyError, TypeError):
        return None


def _parsed(source: str) -> list[ast.stmt]:
    """A cell's statements. What is Python already is not transformed: a line of it may well start with % or !."""
    first, _, rest = source.lstrip().partition("\n")
    if first.split(" ")[0].strip() in PYTHON_CELLS:
        return _parsed(rest)
    try:
        return ast.parse(source).body
    except SyntaxError:
        from IPython.core.inputtransformer2 import TransformerManager

        return ast.parse(TransformerManager().transform_cell(source)).body


def _kept(node: ast.stmt) -> ast.stmt | None:
    """The statement as it is run; None where it is left out."""
    if isinstance(node, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef):
        return node
    if isinstance(node, ast.Assign | ast.AnnAssign):
        return node if node.value and _is_constant(node.value) else None
    if isinstance(node, ast.If | ast.Try):
        blocks = [node.body, node.orelse]
        if isinstance(node, ast.Try):
            blocks += [node.finalbody, *(handler.body for handler in node.handlers)]
        kept = [[inner for inner in map(_kept, block) if inner] for block in blocks]
        for block, inner in zip(blocks, kept, strict=True):
            block[:] = inner or [ast.Pass(lineno=node.lineno, col_offset=0)] * bool(block)
        return node if any(kept) else None
    return None


def _is_constant(node: ast.expr) -> bool:
    """Whether an expression calls nothing: literals, names, arithmetic of them; a lambda, whatever it would do."""
    if isinstance(node, ast.Lambda):
        return True
    calls_nothing = (
        *(ast.Constant, ast.Name, ast.Attribute, ast.UnaryOp, ast.BinOp, ast.operator, ast.unaryop),
        *(ast.Tuple, ast.List, ast.Set, ast.Dict, ast.expr_context),
    )
    return isinstance(node, calls_nothing) and all(map(_is_constant, ast.iter_child_nodes(node)))  # type: ignore[arg-type]


def _functions(node: ast.stmt) -> Iterator[str]:
    """The names that a kept statement may bind to a function of the notebook's own."""
    if isinstance(node, ast.FunctionDef):
        yield node.name
    elif isinstance(node, ast.Assign | ast.AnnAssign):
        if isinstance(node.value, ast.Lambda | ast.Name | ast.Attribute):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (target.id for target in targets if isinstance(target, ast.Name))
    elif isinstance(node, ast.If | ast.Try):
        for inner in ast.iter_child_nodes(node):
            for one in inner.body if isinstance(inner, ast.ExceptHandler) else [inner]:
                if isinstance(one, ast.stmt):
                    yield from _functions(one)
