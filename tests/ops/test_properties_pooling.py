"""Pooling, padding and resampling with any shapes and options: PyTorch is the oracle, on cpu and meta.

Either both libraries raise, or both give the same values, gradients and shapes; meta gives cpu's shapes and errors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gpunet as gn
from gpunet.testing.compare import agreement_bound
from gpunet.testing.parity import attempt, compare_outcomes

hypothesis = pytest.importorskip("hypothesis")
torch = pytest.importorskip("torch")
from hypothesis import assume, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

pytestmark = pytest.mark.parity

EXAMPLES = settings(deadline=None, derandomize=True, max_examples=120, print_blob=False)


def check(run: Callable[..., Any], shape: tuple[int, ...], channels_last: bool) -> None:
    """Compare the libraries on one input, and meta with cpu."""
    x = np.random.default_rng(sum(shape)).standard_normal(shape)
    if channels_last:
        x = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
    ours, theirs = attempt(gn, run, [x]), attempt(torch, run, [x])
    problems = compare_outcomes(ours, theirs, agreement_bound(np.float64, 4096))
    assert not problems, problems
    nowhere = gn.zeros(shape, dtype=gn.float64, device="meta")
    if ours.error is not None:
        with pytest.raises(type(ours.error)) as caught:
            run(gn, nowhere)
        assert str(caught.value) == str(ours.error)
        return
    found = run(gn, nowhere)
    for a, b in zip(*(value if isinstance(value, tuple) else (value,) for value in (found, ours.values)), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)


def extents(dims: int, low: int, high: int) -> st.SearchStrategy[Any]:
    """An option: one integer, or one a dimension."""
    one = st.integers(low, high)
    return one | st.tuples(*[one] * dims)


@st.composite
def images(draw: Any, dims: int, longest: int) -> tuple[int, ...]:
    """A shape: batched mostly, without a batch sometimes, with nothing in it seldom."""
    lead = draw(st.sampled_from([(2, 3), (2, 3), (1, 1), (3,), (0, 2)]))
    return (*lead, *(draw(st.integers(1, longest)) for _ in range(dims)))


@EXAMPLES
@given(data=st.data(), dims=st.sampled_from([1, 2, 2, 3]), maximum=st.booleans(), last=st.booleans())
def test_sliding_windows(data: st.DataObject, dims: int, maximum: bool, last: bool) -> None:
    shape = data.draw(images(dims, 5 if dims == 3 else 9))
    kernel = data.draw(extents(dims, 1, 4))
    # PyTorch wants no more than half the kernel; a little more is drawn as well.
    padding = data.draw(extents(dims, 0, 2))
    options: dict[str, Any] = {
        "stride": data.draw(st.none() | extents(dims, 1, 4)),
        "padding": padding,
        "ceil_mode": data.draw(st.booleans()),
    }
    if maximum:
        options["dilation"] = data.draw(extents(dims, 1, 2))
        options["return_indices"] = data.draw(st.booleans())
    else:
        options["count_include_pad"] = data.draw(st.booleans())
        if dims > 1:
            options["divisor_override"] = data.draw(st.none() | st.integers(1, 5))
    name = f"{'max' if maximum else 'avg'}_pool{dims}d"
    if name == "avg_pool3d":  # PyTorch's does not count the padding when it asks whether a window fits: stated
        sizes = kernel if isinstance(kernel, tuple) else (kernel,) * 3
        assume(all(k <= extent for k, extent in zip(sizes, shape[-3:], strict=True)))
    check(lambda m, x: getattr(m.nn.functional, name)(x, kernel, **options), shape, last and len(shape) == dims + 2)


@EXAMPLES
@given(data=st.data(), dims=st.sampled_from([1, 2, 2, 3]), maximum=st.booleans(), last=st.booleans())
def test_adaptive_regions(data: st.DataObject, dims: int, maximum: bool, last: bool) -> None:
    shape = data.draw(images(dims, 5 if dims == 3 else 9))
    size = data.draw(extents(dims, 1, 7))
    indices = maximum and data.draw(st.booleans())
    name = f"adaptive_{'max' if maximum else 'avg'}_pool{dims}d"
    arguments = (size, indices) if maximum else (size,)
    check(lambda m, x: getattr(m.nn.functional, name)(x, *arguments), shape, last and len(shape) == dims + 2)


@EXAMPLES
@given(
    data=st.data(),
    dims=st.sampled_from([1, 2, 2, 3]),
    mode=st.sampled_from(["constant", "reflect", "replicate", "circular"]),
    last=st.booleans(),
)
def test_padding(data: st.DataObject, dims: int, mode: str, last: bool) -> None:
    shape = data.draw(images(dims, 5))
    sizes: list[int] = []
    for extent in shape[: -dims - 1 : -1]:
        # Cropping keeps a cell, and does not wrap around: what lies beyond that is a stated difference.
        crop = 0 if mode == "circular" else min(2, extent - 1)
        before = data.draw(st.integers(-crop, 5))
        sizes += before, data.draw(st.integers(-max(0, crop + min(before, 0)), 5))
    check(lambda m, x: m.nn.functional.pad(x, tuple(sizes), mode), shape, last and len(shape) == dims + 2)


MODES = {
    1: ["nearest", "nearest-exact", "area", "linear"],
    2: ["nearest", "nearest-exact", "area", "bilinear", "bicubic"],
    3: ["nearest", "nearest-exact", "area", "trilinear"],
}


@EXAMPLES
@given(data=st.data(), dims=st.sampled_from([1, 2, 2, 3]), last=st.booleans())
def test_resampling(data: st.DataObject, dims: int, last: bool) -> None:
    mode = data.draw(st.sampled_from(MODES[dims]))
    shape = (*data.draw(st.sampled_from([(2, 3), (1, 1), (3,)])), *(data.draw(st.integers(1, 7)) for _ in range(dims)))
    options: dict[str, Any] = {"mode": mode}
    if mode.endswith(("linear", "cubic")):
        options["align_corners"] = data.draw(st.none() | st.booleans())
    if data.draw(st.booleans()):
        options["size"] = data.draw(extents(dims, 1, 15))
    else:
        options["scale_factor"] = data.draw(st.sampled_from([0.3, 0.5, 0.7, 1.0, 1.3, 1.9, 2, 2.5, 3, 4]))
        # With a scale that stands PyTorch's gradient of "nearest" is that of another scale where sizes agree: stated.
        options["recompute_scale_factor"] = True if mode == "nearest" else data.draw(st.none() | st.booleans())
    check(lambda m, x: m.nn.functional.interpolate(x, **options), shape, last and len(shape) == dims + 2)
