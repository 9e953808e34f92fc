"""Reductions, scans and sorting of any shape, layout and dtype, over any dimensions: PyTorch is the oracle."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gpunet.testing.properties import LAYOUTS, assert_agreement_with_torch, laid_out, numbers

hypothesis = pytest.importorskip("hypothesis")
torch = pytest.importorskip("torch")
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

pytestmark = pytest.mark.parity

# Reductions by how they take dimensions: several, none or one, or exactly one.
SEVERAL = ("sum", "mean", "var", "std", "amax", "amin", "any", "all", "logsumexp", "norm", "nansum", "nanmean")
ONE_OR_NONE = ("prod", "max", "min", "argmax", "argmin", "median", "nanmedian")
ONE = (
    "cumsum",
    "cumprod",
    "cummax",
    "cummin",
    "logcumsumexp",
    "sort",
    "argsort",
    "topk",
    "kthvalue",
    "mode",
    "softmax",
)
# What also tells where; what PyTorch checks no dimension of if it is given nothing.
PLACES = ("median", "nanmedian", "mode", "kthvalue", "sort", "argsort", "topk")
UNCHECKED = ("cummax", "cummin")
ORDERS = (2, 1, 0, 3, 0.5, float("inf"), float("-inf"), "fro")


@st.composite
def reductions(draw: Any, ndim: int) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
    name = draw(st.sampled_from([*SEVERAL, *ONE_OR_NONE, *ONE]))
    dim = st.integers(-ndim, ndim - 1) if ndim else st.integers(-1, 0)
    if draw(st.integers(0, 14)) == 0:
        dim = st.just(ndim + 1)
    options: dict[str, Any] = {"keepdim": draw(st.booleans())}
    if name in SEVERAL:
        several = st.lists(dim, min_size=1, max_size=3).map(tuple)
        chosen = draw(dim | several if name == "logsumexp" else st.none() | dim | several)
        if name in ("var", "std"):
            options["correction"] = draw(st.integers(0, 1))
        if name == "norm":
            options["p"] = draw(st.sampled_from(ORDERS))
        if chosen is None:
            if name not in ("norm", "var", "std"):
                options = {}
            return name, (), options
        options["dim"] = chosen
        return name, (), options
    if name in ONE_OR_NONE:
        if draw(st.booleans()):
            return name, (), {}
        return name, (draw(dim),), options
    if name in ("topk", "kthvalue"):
        options = {"largest": draw(st.booleans())} if name == "topk" else options
        return name, (draw(st.integers(0, 4)), draw(dim)), options
    if name in ("sort", "argsort"):
        return name, (draw(dim), draw(st.booleans())), {}
    return name, (draw(dim),), options if name == "mode" else {}


def distinct(shape: tuple[int, ...], dtype: str, seed: int) -> np.ndarray:
    """Numbers of which no two are equal, where the dtype has as many: which of equals is found is not defined."""
    count = int(np.prod(shape))
    drawn = (np.random.default_rng(seed).permutation(count) - count // 3).reshape(shape)
    return np.asarray(drawn + 0.37 if dtype.startswith("float") else drawn).astype(dtype)


@settings(deadline=None, derandomize=True, max_examples=600, print_blob=False)
@given(
    data=st.data(),
    layout=st.sampled_from(LAYOUTS),
    dtype=st.sampled_from(["float64", "float64", "float32", "int64", "int32", "uint8", "bool", "int8"]),
)
def test_reductions(data: st.DataObject, layout: str, dtype: str) -> None:
    shape = tuple(data.draw(st.lists(st.sampled_from([1, 2, 3, 4, 5, 0]), max_size=4)))
    x = numbers(shape, dtype) if dtype == "bool" else distinct(shape, dtype, len(shape))
    if data.draw(st.integers(0, 9)) == 0 and x.dtype.kind == "f" and x.size:
        x.reshape(-1)[0] = np.nan
    seen = tuple(laid_out(torch.empty(shape), layout).shape)
    name, arguments, options = data.draw(reductions(len(seen)))
    integral = x.dtype.kind != "f"
    # Stated differences: bytes in any and all, NaNs in amax and amin, argmax of bools.
    hypothesis.assume(not (dtype == "uint8" and name in ("any", "all")))
    hypothesis.assume(not (name in ("amax", "amin") and not integral and np.isnan(x).any()))
    hypothesis.assume(not (name in ("argmax", "argmin") and dtype == "bool"))
    # Which of equals is found is not defined.
    hypothesis.assume(not (name in PLACES and (dtype == "bool" or layout == "expanded")))
    # Of NaNs: which value is the mode, and the gradient of a product, by division here.
    hypothesis.assume(not (name in ("mode", "softmax", "cumprod", "prod") and not integral and np.isnan(x).any()))
    hypothesis.assume(not (name in ("var", "std") and layout == "expanded"))  # equals: zero but for rounding
    # PyTorch checks nothing, or otherwise, where there is nothing.
    hypothesis.assume(
        0 not in seen or not (name in UNCHECKED or (integral and name in ("softmax", "median", "nanmedian")))
    )
    chosen = options.get("dim")
    count = np.prod(
        [seen[d] if -len(seen) <= d < len(seen) else 1 for d in np.atleast_1d(chosen)] if chosen is not None else seen
    )
    grad = count > options.get("correction", 0)  # an infinite one has a sign: stated

    def run(m: Any, x: Any) -> Any:
        found = getattr(laid_out(x, layout), name)(*arguments, **options)
        return tuple(found) if isinstance(found, tuple) else found

    assert_agreement_with_torch(run, [x], grad=bool(grad))
