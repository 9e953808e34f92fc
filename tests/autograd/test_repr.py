"""How tensors print: PyTorch's text, but for the names of dtypes and of operations."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

import gpunet as gn
from gpunet.autograd.printing import get_printoptions, printoptions

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity

RNG = np.random.default_rng(3)

ARRAYS = {
    "whole": np.array([1.0, 2.0, -3.0]),
    "fractions": np.array([[1.0, 2.5], [-3.25, 100.0]]),
    "zeros": np.zeros((2, 3)),
    "minus zero": np.array([-0.0, 1.5]),
    "large": np.array([1e9, 1.0]),
    "whole and large": np.array([1e5, 1.0, 20000.0]),
    "spread": np.array([0.001, 1.5, 999.9]),
    "very spread": np.array([0.001, 1.5, 1000.9]),
    "small": np.array([1e-5, 2e-5]),
    "specials": np.array([np.nan, np.inf, -np.inf, 1.0]),
    "specials and fractions": np.array([np.nan, np.inf, -np.inf, 1.5]),
    "only NaN": np.array([np.nan, np.nan]),
    "scalar": np.array(3.14159),
    "whole scalar": np.array(3.0),
    "integers": np.array([[1, -20], [300, 4]]),
    "bytes": np.array([1, 255], np.uint8),
    "bools": np.array([True, False]),
    "half": np.array([1.0, 0.1], np.float16),
    "int32": np.array([7], np.int32),
    "empty": np.zeros(0),
    "empty matrix": np.zeros((0, 3)),
    "empty integers": np.zeros((2, 0), np.int64),
    "long line": RNG.standard_normal(50),
    "wide": RNG.standard_normal((3, 30)),
    "3-d": RNG.standard_normal((2, 3, 2)),
    "4-d": np.arange(24.0).reshape(2, 3, 2, 2),
    "summarised": np.arange(1001.0),
    "not summarised": np.arange(1000),
    "summarised matrix": RNG.standard_normal((40, 50)),
    "summarised tall": RNG.standard_normal((500, 3)),
    "summarised 3-d": RNG.standard_normal((9, 11, 13)),
    "summarised integers": np.arange(5000).reshape(50, 100),
    "transposed": RNG.standard_normal((3, 4)).T,
}


def theirs(array: np.ndarray, change: Any = lambda x: x) -> str:
    return repr(change(torch.from_numpy(array.copy()))).replace("torch.", "")


def on_one_line(text: str) -> str:
    """The text with the dtype not on a line of its own: "torch." makes PyTorch break the line earlier."""
    return re.sub(r",\s+dtype=", ", dtype=", text)


@pytest.mark.parametrize("dtype", ["own", "float32", "float16"])
@pytest.mark.parametrize("name", ARRAYS)
def test_text_is_pytorchs(name: str, dtype: str) -> None:
    array = ARRAYS[name]
    if dtype != "own" and array.dtype.kind == "f":
        with np.errstate(over="ignore"):
            array = array.astype(dtype)
    assert on_one_line(repr(gn.from_numpy(array.copy()))) == on_one_line(theirs(array))


@pytest.mark.parametrize(
    "options",
    [{"precision": 2}, {"sci_mode": True}, {"sci_mode": False}, {"threshold": 5}, {"threshold": 5, "edgeitems": 1},
     {"linewidth": 40}, {"profile": "full"}, {"profile": "short"}],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("name", ["fractions", "small", "whole", "long line", "wide", "summarised matrix", "3-d"])
def test_print_options(options: dict[str, Any], name: str) -> None:
    gn.set_printoptions(**options)
    torch.set_printoptions(**options)
    try:
        assert on_one_line(repr(gn.from_numpy(ARRAYS[name].copy()))) == on_one_line(theirs(ARRAYS[name]))
    finally:
        gn.set_printoptions(profile="default")
        torch.set_printoptions(profile="default")


def test_print_options_return() -> None:
    before = get_printoptions()
    with printoptions(precision=1):
        assert repr(gn.tensor([0.25])) == "tensor([0.2])"
    assert get_printoptions() == before


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"profile": "tiny"}, "set_printoptions: profile must be 'default', 'short' or 'full', got 'tiny'"),
        ({"precision": -1}, "set_printoptions: precision must not be negative, got -1"),
    ],
)
def test_bad_print_options(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=r"^set_printoptions: ") as caught:
        gn.set_printoptions(**options)
    assert str(caught.value) == text


def test_requires_grad_and_line_breaks() -> None:
    for array in (np.array([1.5]), RNG.standard_normal(9), RNG.standard_normal(8), RNG.standard_normal((2, 5))):
        ours = repr(gn.from_numpy(array.copy()).requires_grad_())
        assert ours == theirs(array, lambda x: x.requires_grad_())


def test_the_dtype_goes_to_a_line_of_its_own_where_it_does_not_fit() -> None:
    text = repr(gn.full((8,), 1.5, dtype=gn.float16))
    assert text.splitlines()[-1] == "       dtype=float16)"


def test_operations_are_named() -> None:
    x = gn.ones(2, requires_grad=True)
    assert repr(x + 1) == "tensor([2., 2.], grad_fn=<add>)"
    assert repr(x.exp().detach()) == "tensor([2.7183, 2.7183])"


def test_devices() -> None:
    assert repr(gn.ones(2, device="cpu:1")) == "tensor([1., 1.], device='cpu:1')"
    meta = torch.zeros(2, 3, dtype=torch.int64, device="meta")
    assert repr(gn.zeros(2, 3, dtype=gn.int64, device="meta")) == repr(meta).replace("torch.", "")


def test_the_default_dtype_is_not_shown() -> None:
    gn.set_default_dtype(gn.float64)
    try:
        assert repr(gn.tensor([1.5])) == "tensor([1.5000])"
        assert repr(gn.tensor([1.5], dtype=gn.float32)) == "tensor([1.5000], dtype=float32)"
    finally:
        gn.set_default_dtype(gn.float32)


def test_parameters() -> None:
    parameter = gn.nn.Parameter(gn.tensor([1.0]))
    assert repr(parameter) == repr(torch.nn.Parameter(torch.tensor([1.0])))
