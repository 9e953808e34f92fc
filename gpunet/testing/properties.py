"""Holding drawn programs to PyTorch: what the property tests of operations share.

Either both libraries raise, or both give the same values, dtypes, shapes and gradients; and the meta device gives the
CPU's shapes, dtypes and errors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import gpunet
from gpunet.testing.compare import agreement_bound
from gpunet.testing.parity import Outcome, attempt, compare_outcomes

__all__ = ["assert_agreement_with_torch", "laid_out", "numbers"]

LAYOUTS = ("plain", "transposed", "sliced", "expanded", "offset")

# Errors that elements alone can show.
_UNSEEN = ("indices must lie", "divided by zero", "negative integer powers")


def numbers(shape: Sequence[int], dtype: Any, seed: int = 0) -> np.ndarray:
    """Numbers of a dtype: normal ones, integers in -4..4 (0..4 without a sign), or bools."""
    kind = np.dtype(dtype)
    drawn = np.asarray(np.random.default_rng(seed + 11 * sum(shape)).standard_normal(tuple(shape)))
    if kind.kind == "b":
        return np.asarray(drawn > 0)
    if kind.kind in "iu":
        whole = np.clip(np.rint(drawn * 2), -4, 4)
        drawn = np.abs(whole) if kind.kind == "u" else whole
    return np.asarray(drawn.astype(kind))


def laid_out(tensor: Any, layout: str) -> Any:
    """A tensor's elements, or some of them, as the layout in memory has it.

    Args:
        tensor: of either library.
        layout: one of ``LAYOUTS``.
    """
    if tensor.ndim == 0 or layout == "plain":
        return tensor
    if layout == "transposed":
        return tensor.transpose(0, -1)
    if layout == "sliced":
        return tensor[..., ::2]
    if layout == "offset":
        return tensor[1:]
    return tensor[:1].expand(3 * min(1, len(tensor)), *tensor.shape[1:])


def assert_agreement_with_torch(
    run: Callable[..., Any], arrays: Sequence[Any], *, meta: bool = True, terms: int = 64, grad: bool = True
) -> None:
    """Compare the libraries on a program, and meta with the CPU.

    Args:
        run: takes the module and the inputs.
        arrays: its inputs; NumPy arrays become tensors, floating ones with gradient.
        meta: compare with the meta device too.
        terms: the number of values summed to one element of the result.
        grad: ask for gradients.

    Raises:
        AssertionError: they differ.
    """
    import torch

    ours, theirs = (attempt(module, run, [_copied(array) for array in arrays], grad) for module in (gpunet, torch))
    single = any(getattr(array, "dtype", None) == np.float32 for array in arrays)
    problems = compare_outcomes(ours, theirs, agreement_bound(np.float32 if single else np.float64, terms))
    assert not problems, "\n".join(problems)
    if meta:
        _compare_meta(run, arrays, ours)


def _copied(array: Any) -> Any:
    return array.copy() if isinstance(array, np.ndarray) else array


def _compare_meta(run: Callable[..., Any], arrays: Sequence[Any], ours: Outcome) -> None:
    nowhere = [
        gpunet.empty(array.shape, dtype=array.dtype, device="meta") if isinstance(array, np.ndarray) else array
        for array in arrays
    ]
    found: Any = None
    raised: Exception | None = None
    try:
        found = run(gpunet, *nowhere)
    except Exception as error:  # whatever it is, it is compared
        raised = error
    if raised is None and (isinstance(ours.error, gpunet.GradientError) or any(s in str(ours.error) for s in _UNSEEN)):
        return  # meta has no graph, and no elements to look at
    told = f"meta raises {raised!r}, cpu {ours.error!r}"
    assert (type(raised), str(raised)) == (type(ours.error), str(ours.error)), told
    if raised is None:
        assert _described(found) == _described(ours.values)


def _described(value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return [_described(part) for part in value]
    return (tuple(value.shape), value.dtype.name) if isinstance(value, gpunet.Tensor) else value
