"""Every function of the array module that the operations use exists in CuPy, and takes the keywords it is given.

CuPy's names lie beside this file, so that the test runs where CuPy is not installed; where it is, they are compared.
``python tests/kernels/test_array_names.py`` writes them anew.
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest

import gpunet.ops

NAMES = Path(__file__).parent / "cupy_14_names.txt"
PACKAGE = Path(gpunet.ops.__path__[0]).parent

# Functions that return NumPy or CuPy, and what the operations call the parameters that hold one of them. A variable
# that is assigned what such a function returns counts too.
FUNCTIONS = {"array_module", "module_of", "cupy"}
PARAMETERS = {"xp", "module", "m"}
# A ufunc's own keywords; CuPy's take no where=.
UFUNC = "out, dtype, casting"


def cupy_names() -> list[str]:
    """One line for each public name of CuPy: the name, and its parameters if it is a function."""
    import cupy

    lines = []
    for name in sorted(dir(cupy)):
        value = getattr(cupy, name)
        if name.startswith("_"):
            continue
        if isinstance(value, cupy.ufunc):
            lines.append(f"{name}({UFUNC})")
            continue
        try:
            parameters = inspect.signature(value).parameters if inspect.isfunction(value) else None
        except ValueError:
            parameters = None
        lines.append(name if parameters is None else f"{name}({', '.join(parameters)})")
    return lines


def known() -> dict[str, set[str] | None]:
    """Name to its parameters, or None where they are not known."""
    table: dict[str, set[str] | None] = {}
    for line in NAMES.read_text(encoding="utf-8").splitlines():
        name, bracket, rest = line.partition("(")
        table[name] = {word.strip() for word in rest.rstrip(")").split(",")} if bracket else None
    return table


def uses(source: str, variables: set[str]) -> Iterator[tuple[int, str, list[str]]]:
    """Line, name and keywords of each use of the array module."""

    def gives_module(node: ast.expr) -> bool:
        function = getattr(node, "func", None)
        return getattr(function, "attr", getattr(function, "id", "")) in FUNCTIONS

    tree = ast.parse(source)
    assigned = {
        target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and gives_module(node.value)
        for target in node.targets
        if isinstance(target, ast.Name)
    }

    def is_module(node: ast.expr) -> bool:
        return gives_module(node) or (isinstance(node, ast.Name) and node.id in variables | assigned)

    called = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_module(node.value) and not node.attr.startswith("_"):
            call = called.get(id(node))
            keywords = [keyword.arg for keyword in call.keywords if keyword.arg] if call else []
            yield node.lineno, node.attr, keywords


def problems(source: str, where: str, variables: set[str] = PARAMETERS) -> list[str]:
    table = known()
    found = []
    for line, name, keywords in uses(source, variables):
        if name not in table:
            found.append(f"{where}:{line}: CuPy has no {name}")
            continue
        parameters = table[name]
        for keyword in keywords:
            if parameters is not None and keyword not in parameters and "kwargs" not in parameters:
                found.append(f"{where}:{line}: CuPy's {name} takes no {keyword}=")
    return found


@pytest.mark.parametrize("room, variables", [("ops", PARAMETERS), ("autograd", {"xp"})])
def test_everything_used_is_in_cupy(room, variables):
    sources = {
        path.relative_to(PACKAGE).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted((PACKAGE / room).rglob("*.py"))
    }
    assert [line for name, source in sources.items() for line in problems(source, name, variables)] == []
    if room == "ops":
        used = {name for source in sources.values() for _, name, _ in uses(source, variables)}
        assert {"multiply", "zeros", "where"} <= used, "the test no longer sees what the operations use"


@pytest.mark.parametrize(
    "source, finding",
    [
        ("array = module_of(x)\narray.nested_iters(x)", "2: CuPy has no nested_iters"),
        ("array_module(x).nonesuch(x)", "1: CuPy has no nonesuch"),
        ("f = lambda m, x: m.nonesuch(x)", "1: CuPy has no nonesuch"),
        ("xp.add(x, y, where=mask)", "1: CuPy's add takes no where="),
        ("xp.zeros(3, device='cpu')", "1: CuPy's zeros takes no device="),
    ],
)
def test_planted_fault_is_found(source, finding):
    assert any(finding in line for line in problems(source, "op.py"))


def test_what_exists_is_not_reported():
    assert (
        problems("module.add(x, y, out=z)\nxp.sum(x, axis=0, keepdims=True)\nxp.float32\nx.nonesuch()", "op.py") == []
    )


@pytest.mark.kernels
def test_the_list_is_cupys():
    if importlib.util.find_spec("cupy") is None:
        pytest.skip("CuPy is not installed")
    import cupy

    if not cupy.__version__.startswith("14."):
        pytest.skip(f"the list is of CuPy 14, this is {cupy.__version__}")
    theirs = {line.partition("(")[0] for line in cupy_names()}
    assert known().keys() <= theirs, "CuPy dropped names; write the list anew"


if __name__ == "__main__":
    NAMES.write_text("\n".join(cupy_names()) + "\n", encoding="utf-8")
