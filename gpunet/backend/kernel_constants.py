"""Numbers and macros in CUDA source, as far as a kernel's declaration uses them.

Just enough to know what ``__launch_bounds__(2 * WARPS * 32)`` means without a compiler: macros without arguments,
constants, and integer arithmetic. Whatever is beyond that is refused, never guessed.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

__all__ = ["constants_in", "evaluate", "expand", "macros_in"]

_DEFINE: Final = re.compile(r"^[ \t]*#[ \t]*(define|undef)[ \t]+([A-Za-z_]\w*)(?:[ \t]+(\S.*))?[ \t]*$", re.MULTILINE)
_CONSTANT: Final = re.compile(
    r"\b(?:constexpr|const)\s+(?:int|unsigned|unsigned\s+int|long\s+long|size_t|auto)\s+([A-Za-z_]\w*)\s*=\s*([^;{]*);"
)
_WORD: Final = re.compile(r"\b[A-Za-z_]\w*\b")
_NUMBER: Final = re.compile(r"\b(0[xX][0-9a-fA-F']+|[0-9][0-9']*)[uUlL]*\b")
_MOST: Final = 2**31 - 1  # beyond it C's int overflows
_LONGEST: Final = 100_000  # characters: macros that double each other would never end
_OPERATORS: Final[dict[type[ast.operator], Callable[[int, int], int]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.floordiv,  # of numbers that are not negative, as C's
    ast.Mod: operator.mod,
    ast.LShift: operator.lshift,
    ast.RShift: operator.rshift,
}


def macros_in(texts: Iterable[str]) -> dict[str, str | None]:
    """What the macros without arguments stand for, by name; None for one with two meanings, as behind ``#if``.

    Args:
        texts: sources without their comments.
    """
    found: dict[str, str | None] = {}
    for text in texts:
        for match in _DEFINE.finditer(text.replace("\\\n", " ")):
            name, meaning = match[2], (match[3] or "").strip() if match[1] == "define" else None
            found[name] = meaning if name not in found or found[name] == meaning else None
    return found


def constants_in(texts: Iterable[str]) -> dict[str, str | None]:
    """The expressions that integer constants are set to, by name; None for a name that is set twice.

    Args:
        texts: sources without their comments.
    """
    found: dict[str, str | None] = {}
    for text in texts:
        for match in _CONSTANT.finditer(text):
            found[match[1]] = match[2] if match[1] not in found or found[match[1]] == match[2] else None
    return found


def expand(text: str, macros: Mapping[str, str | None], within: frozenset[str] = frozenset()) -> str:
    """The text with macros put in, and those in them; as in C, a macro is not put into itself.

    Raises:
        ValueError: it grows without end.
    """

    def put_in(word: re.Match[str]) -> str:
        meaning = None if word[0] in within else macros.get(word[0])
        return word[0] if meaning is None else expand(meaning, macros, within | {word[0]})

    expanded = _WORD.sub(put_in, text)
    if len(expanded) > _LONGEST:
        raise ValueError("the macros in it stand for too much text")
    return expanded


def evaluate(text: str, macros: Mapping[str, str | None], constants: Mapping[str, str | None]) -> int:
    """The value of an integer expression: numbers, macros, constants, ``+ - * / % << >>`` and brackets.

    Raises:
        ValueError: it is more than that, or not an int's value.
    """
    return _evaluate(text, macros, constants, frozenset())


def _evaluate(
    text: str, macros: Mapping[str, str | None], constants: Mapping[str, str | None], within: frozenset[str]
) -> int:
    written = " ".join(expand(text, macros).split())

    def value(node: ast.AST) -> int:
        found: Any = None
        if isinstance(node, ast.Constant) and type(node.value) is int:
            found = node.value
        elif isinstance(node, ast.Name) and node.id not in within:
            meaning = constants.get(node.id)
            if meaning is not None:
                found = _evaluate(meaning, macros, constants, within | {node.id})
        elif isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
            left, right = value(node.left), value(node.right)
            is_shift = isinstance(node.op, (ast.LShift, ast.RShift))
            is_division = isinstance(node.op, (ast.Div, ast.Mod))
            if not ((is_shift and not 0 <= right < 32) or (is_division and right == 0)):
                found = _OPERATORS[type(node.op)](left, right)
        if found is None or not 0 <= found <= _MOST:
            raise ValueError(f"{ast.unparse(node)} is no number that can be read from the source")
        return int(found)

    try:
        # C's operators are Python's here, in the same order of precedence; nothing of it is run as Python.
        tree = ast.parse(_NUMBER.sub(lambda number: number[1].replace("'", ""), written), mode="eval")
    except (SyntaxError, ValueError, RecursionError):
        raise ValueError(f"{written!r} is no number that can be read from the source") from None
    return value(tree.body)
