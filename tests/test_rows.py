"""The rows of the notes: a test cites each and asserts it, and docs/notes.md has each with a call that shows it."""

from __future__ import annotations

import ast
import builtins
import io
import re
import tokenize
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpunet as gn

TESTS = Path(__file__).parent
DOCS, EXAMPLES = TESTS.parent / "docs", TESTS.parent / "examples"
PAGE, KOREAN = DOCS / "notes.md", DOCS / "notes.ko.md"
if not PAGE.is_file():
    pytest.skip("the page is not beside the tests", allow_module_level=True)

ROWS = [f"B{number:02d}" for number in range(1, 93)]
# A quiz without its questions, a reading list, Python in general, and a claim that is no law.
NO_CODE = {"B13", "B15", "B16", "B66"}
NEEDS = {"B92": "matplotlib"}
FEATURES = {"B56", "B57"}


# Citations ---------------------------------------------------------------------------------------------------------


def rows_in(text: str) -> set[str]:
    """The rows that a text names, those between two of them too: "B54 to B58", "B77-B79"."""
    found = set(re.findall(r"\bB\d\d\b", text))
    for first, last in re.findall(r"\bB(\d\d)(?: to |-|–)B(\d\d)\b", text):
        found |= {f"B{number:02d}" for number in range(int(first), int(last) + 1)}
    return found


def cited(source: str) -> set[str]:
    """The rows that a module's tests cite, in their docstrings or in comments within them.

    A test that asserts nothing shows nothing, and one that is marked slow is not run by default: neither counts.
    """
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = [(token.start[0], token.string) for token in tokens if token.type == tokenize.COMMENT]
    found = set()
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.FunctionDef) or not node.name.startswith("test_") or not asserts(node):
            continue
        if any(ast.unparse(decorator) == "pytest.mark.slow" for decorator in node.decorator_list):
            continue
        # Decorators too: a comment there says what a parameter is.
        first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
        found |= rows_in(ast.get_docstring(node) or "")
        found |= set().union(*(rows_in(text) for line, text in comments if first <= line <= (node.end_lineno or first)))
    return found


def asserts(test: ast.FunctionDef) -> bool:
    """Whether a test can fail by what it finds: an assert, an expected error, or a call of what asserts or checks."""
    for node in ast.walk(test):
        if isinstance(node, ast.Assert):
            return True
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func).rpartition(".")[2]
            if name == "raises" or name.startswith(("assert_", "check")):
                return True
    return False


def test_citations_are_found() -> None:
    source = '''
"""B01"""
NAME = "B02"
# Row B03.
def helper():
    """B04"""
    assert True
@pytest.mark.parametrize("one", [
    1,  # Row B05.
])
def test_one(one):
    """Rows B06, B07 to B09 and B11-B12: XB13."""
    assert one  # B14
    # B15
def test_without_an_assertion_b16():
    """B16"""
    print("B17")
@pytest.mark.slow
def test_that_is_slow():
    """B18"""
    assert True
@pytest.mark.features
def test_an_error():
    """B19"""
    with pytest.raises(ValueError):
        helper()  # B20
def test_arrays():
    """B21"""
    np.testing.assert_allclose(1, 1)
'''
    asserted = {"B05", "B06", "B07", "B08", "B09", "B11", "B12", "B14"}
    assert cited(source) == asserted | {"B19", "B20", "B21"}


def test_every_row_is_cited_by_a_test() -> None:
    modules = [path for path in TESTS.rglob("test_*.py") if path != Path(__file__)]
    found = set().union(*(cited(path.read_text(encoding="utf-8")) for path in modules))
    missing = [row for row in ROWS if row not in found and row not in NO_CODE]
    assert missing == []


# The page ----------------------------------------------------------------------------------------------------------


def table(page: Path) -> dict[str, tuple[str, str, str]]:
    """Question, answer and call of each row, in the page's order."""
    text = page.read_text(encoding="utf-8")
    lines = re.findall(r"^\| (B\d\d) \| (.+) \| (.+) \| (.+) \|$", text, re.MULTILINE)
    assert len(lines) == len({row for row, *_ in lines}), "a row is there twice"
    assert len(lines) == text.count("\n| B"), "a row is not in four cells"
    return {row: (question, answer, call) for row, question, answer, call in lines}


ENGLISH = table(PAGE)


@pytest.mark.parametrize("page", [PAGE, KOREAN], ids=["en", "ko"])
def test_every_row_is_on_the_page(page: Path) -> None:
    rows = table(page)
    assert list(rows) == ROWS
    assert {row for row, (_, _, call) in rows.items() if call == "—"} == NO_CODE


def test_both_languages_have_the_same_calls() -> None:
    korean = table(KOREAN)
    for row, (question, answer, call) in ENGLISH.items():
        assert korean[row][2] == call, row
        assert korean[row][0] != question, row
        assert re.search("[가-힣]", korean[row][0]), row
        # Long numbers are the same, whatever is said around them.
        ours, theirs = ({*re.findall(r"\d[\d,.]{3,}\d", text)} for text in (answer, korean[row][1]))
        assert ours == theirs, row
    setups = [re.findall(r"^```python\n.*?^```$", page.read_text("utf-8"), re.M | re.S) for page in (PAGE, KOREAN)]
    assert len(setups[0]) == 1
    assert setups[0] == setups[1]


def plain(result: Any) -> Any:
    """Numbers in lists and tuples, of whatever holds them."""
    if isinstance(result, (gn.Tensor, np.ndarray, np.generic)):
        return (result.detach() if isinstance(result, gn.Tensor) else result).tolist()
    if isinstance(result, (list, tuple)):
        return [plain(one) for one in result]
    return result


def check(call: str, given: str, names: dict[str, Any]) -> None:
    """Evaluate a call, and compare it with what the page says that it gives, to the digits that stand there."""
    if given.endswith("Error"):
        kind = getattr(gn, given, None) or getattr(builtins, given)
        with pytest.raises(kind):
            eval(call, names)  # noqa: S307 (the page is ours)
        return
    result = eval(call, names)  # noqa: S307
    if not given:
        assert result is not None
        return
    expected = ast.literal_eval(given)
    if isinstance(expected, str):
        assert expected in str(result)
        return
    digits = max((len(found) for found in re.findall(r"\.(\d+)", given)), default=0)
    found, expected = np.asarray(plain(result)), np.asarray(expected)
    assert found.shape == expected.shape
    assert (found.dtype == bool) == (expected.dtype == bool)
    if digits:
        assert found == pytest.approx(expected, abs=0.51 * 10.0**-digits)
    else:
        assert found.tolist() == expected.tolist()


def names_of(page: Path) -> dict[str, Any]:
    """What the page imports and sets first."""
    (setup,) = re.findall(r"^```python\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(setup, names)  # noqa: S102 (the page is ours)
    return names


def marked(row: str) -> Any:
    return pytest.param(row, marks=pytest.mark.features) if row in FEATURES else row


@pytest.mark.parametrize("row", [marked(row) for row in ROWS if row not in NO_CODE])
def test_every_call_gives_what_the_page_says(row: str) -> None:
    if row in NEEDS:
        pytest.importorskip(NEEDS[row])
    cell = ENGLISH[row][2]
    found = re.fullmatch(r"`([^`]+)`(?: → `([^`]+)`)?", cell)
    assert found is not None, cell
    call, given = found[1], found[2] or ""
    if call.startswith("python "):
        example = call.removeprefix("python examples/")
        assert (EXAMPLES / example).is_file()
        assert f'run("{example}"' in (TESTS / "test_examples.py").read_text(encoding="utf-8"), "no test runs it"
        return
    check(call, given, names_of(PAGE))


def test_every_call_shows_its_answer() -> None:
    """A call that only runs shows nothing; examples print, and B92 is about drawing."""
    without = {row for row, (_, _, call) in ENGLISH.items() if "` → `" not in call and not call.startswith("`python ")}
    assert without == NO_CODE | {"B92"}


def test_inception_blocks_of_the_pages_have_their_5x5() -> None:
    """Row B81: by default a block has 3x3 kernels there, as torchvision's."""
    for page in (PAGE, KOREAN, DOCS / "plots.md"):
        blocks = re.findall(r"gn\.models\.Inception\([^)]*\)", page.read_text(encoding="utf-8"))
        assert blocks
        for block in blocks:
            layers = eval(block, {"gn": gn}).modules()  # noqa: S307 (the page is ours)
            kernels = {layer.kernel_size for layer in layers if isinstance(layer, gn.nn.Conv2d)}
            assert kernels == {(1, 1), (3, 3), (5, 5)}


@pytest.mark.parametrize(
    ("call", "given"),
    [
        ("1 + 1", "3"),
        ("1 + 1", "2.1"),
        ("[0.123, 0.5]", "[0.125, 0.500]"),
        ("gn.zeros(2)", "[0.0]"),
        ("True", "1"),
        ("(1, 2)", "(1, 3)"),
        ("'a = 1'", '"a = 2"'),
        ("None", ""),
    ],
)
def test_a_wrong_value_is_found(call: str, given: str) -> None:
    with pytest.raises(AssertionError):
        check(call, given, {"gn": gn})


def test_a_call_that_does_not_fail_is_found() -> None:
    with pytest.raises(pytest.fail.Exception):
        check("1", "ShapeError", {})
    with pytest.raises(NameError):
        check("no_such_name", "1", {})
