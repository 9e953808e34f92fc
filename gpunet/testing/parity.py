"""Comparing gpunet with PyTorch: one case is one line that both libraries run.

A case is written against a module ``m`` that is ``torch`` once and ``gpunet`` once. Outputs, gradients, dtypes, shapes
and whether it raises at all must agree, in float64 and float32, for inputs in row-major and in reversed physical order.
Where gpunet differs on purpose, the case's label stands in the table of ``differences`` with the reason, and the
comparison insists that the difference is there.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

import gpunet
from gpunet.testing.compare import agreement_bound, relative_error
from gpunet.testing.differences import stated_difference

__all__ = [
    "Case",
    "Outcome",
    "assert_as_stated",
    "attempt",
    "case",
    "check_case",
    "compare_outcomes",
    "from_torch",
    "to_torch",
]


# What a result's own dtype allows, whatever it was computed in: a rounding more or less of the half types.
_PRECISION = {"float64": 1e-10, "float32": 1e-5, "float16": 2e-3, "bfloat16": 1.6e-2}


@dataclass(frozen=True)
class Case:
    """One line to run with both libraries.

    Attributes:
        label: what is special about it; unique, since it names a stated difference.
        run: takes the module and the inputs.
        inputs: NumPy arrays (floating ones take both precisions and require grad), or tuples: shapes of unit normal
            numbers.
        terms: the number of values summed to one element of the result.
        looser: how many times the usual bound is allowed; every use says why.
        at_least: a relative bound that neither precision goes below, where values pass through a half type.
        reversed_order: also run with the inputs' physical order reversed.
    """

    label: str
    run: Callable[..., Any]
    inputs: tuple[Any, ...]
    terms: int = 1
    looser: float = 1.0
    at_least: float = 0.0
    reversed_order: bool = True

    def __repr__(self) -> str:
        return self.label


def case(
    label: str,
    run: Callable[..., Any],
    *inputs: Any,
    terms: int = 1,
    looser: float = 1.0,
    at_least: float = 0.0,
    reversed_order: bool = True,
) -> Case:
    """A case; see its attributes."""
    return Case(label, run, inputs, terms, looser, at_least, reversed_order)


@dataclass
class Outcome:
    """What a library made of a case: an error, or values, and gradients of the floating inputs."""

    error: Exception | None = None
    values: Any = None
    gradients: tuple[Any, ...] = ()


def to_torch(array: np.ndarray) -> Any:
    """The array as a PyTorch tensor that shares its memory, bfloat16 included."""
    import torch

    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def from_torch(tensor: Any) -> np.ndarray:
    """A PyTorch tensor's elements; bfloat16 as float32, which holds it exactly."""
    detached = tensor.detach()
    return np.asarray((detached.float() if str(detached.dtype) == "torch.bfloat16" else detached).numpy())


def _elements(tensor: Any) -> np.ndarray:
    if not isinstance(tensor, gpunet.Tensor):
        return from_torch(tensor)
    array = tensor.detach().numpy()
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


def _dtype_name(tensor: Any) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _is_tensor(value: Any) -> bool:
    return hasattr(value, "requires_grad")


def _tensors(value: Any) -> list[Any]:
    if _is_tensor(value):
        return [value]
    return [tensor for part in value for tensor in _tensors(part)] if isinstance(value, (tuple, list)) else []


def _draw(inputs: tuple[Any, ...], dtype: Any, reversed_order: bool) -> list[Any]:
    """Fresh copies of a case's inputs."""
    rng = np.random.default_rng(20_13)
    drawn: list[Any] = []
    for value in inputs:
        array = rng.standard_normal(value) if isinstance(value, tuple) else value
        if isinstance(array, np.ndarray):
            array = array.astype(dtype if array.dtype.kind == "f" else array.dtype)
            array = np.asarray(array, order="F") if reversed_order else np.ascontiguousarray(array).reshape(array.shape)
        drawn.append(array)
    return drawn


def attempt(module: ModuleType, run: Callable[..., Any], arrays: list[Any], grad: bool = True) -> Outcome:
    """Run a line with one library on fresh tensors of the arrays, then backward from every floating result.

    Args:
        module: ``torch`` or ``gpunet``.
        run: the line.
        arrays: its inputs; NumPy arrays become tensors that share their memory.
        grad: ask for the gradients of floating inputs.
    """
    own = module is gpunet
    tensors = []
    for array in arrays:
        tensor = array
        if isinstance(array, np.ndarray):
            tensor = gpunet.from_numpy(array) if own else to_torch(array)
            if grad and array.dtype.kind == "f":
                tensor.requires_grad_()
        tensors.append(tensor)
    with warnings.catch_warnings():
        if not own:
            warnings.simplefilter("ignore")
        try:
            values = run(module, *tensors)
            roots = [tensor for tensor in _tensors(values) if tensor.requires_grad]
            if roots:
                rng = np.random.default_rng(7)
                seeds = [np.asarray(rng.standard_normal(tuple(r.shape))).astype(_dtype_name(r)) for r in roots]
                module.autograd.backward(roots, [gpunet.from_numpy(seed) if own else to_torch(seed) for seed in seeds])
        except (ValueError, TypeError, RuntimeError, IndexError, ArithmeticError) as error:
            return Outcome(error)
    leaves = [tensor for tensor in tensors if _is_tensor(tensor) and tensor.is_leaf]
    return Outcome(None, values, tuple(tensor.grad for tensor in leaves))


def _compare(ours: Any, theirs: Any, bound: float, what: str) -> list[str]:
    """Everything in which two results differ."""
    if _is_tensor(ours) and _is_tensor(theirs):
        if tuple(ours.shape) != tuple(theirs.shape):
            return [f"{what}: shape {tuple(ours.shape)}, PyTorch's is {tuple(theirs.shape)}"]
        if _dtype_name(ours) != _dtype_name(theirs):
            return [f"{what}: dtype {_dtype_name(ours)}, PyTorch's is {_dtype_name(theirs)}"]
        if ours.requires_grad != theirs.requires_grad:
            return [f"{what}: requires_grad is {ours.requires_grad}, PyTorch's is {theirs.requires_grad}"]
        a, b = _elements(ours), _elements(theirs)
        if a.dtype.kind != "f":
            return [] if np.array_equal(a, b) else [f"{what}: {a.tolist()}, PyTorch's is {b.tolist()}"]
        allowed, error = max(bound, _PRECISION[_dtype_name(ours)]), relative_error(a, b)
        shown = f": {a.tolist()}, PyTorch's is {b.tolist()}" if a.size <= 12 else ""
        return [] if error <= allowed else [f"{what}: relative error {error:.3g}, allowed {allowed:.3g}{shown}"]
    if isinstance(ours, (tuple, list)) and isinstance(theirs, (tuple, list)):
        if len(ours) != len(theirs):
            return [f"{what}: {len(ours)} results, PyTorch has {len(theirs)}"]
        return [
            problem
            for position, (a, b) in enumerate(zip(ours, theirs, strict=True))
            for problem in _compare(a, b, bound, f"{what}[{position}]")
        ]
    if isinstance(ours, float) and isinstance(theirs, float):
        return [] if relative_error(ours, theirs) <= bound else [f"{what}: {ours}, PyTorch's is {theirs}"]
    same = type(ours) is type(theirs) and ours == theirs
    return [] if same else [f"{what}: {ours!r}, PyTorch's is {theirs!r}"]


def compare_outcomes(ours: Outcome, theirs: Outcome, bound: float) -> list[str]:
    """Everything in which two outcomes differ; one error is as good as another of its kind."""
    if ours.error is not None and theirs.error is not None:
        return []
    if ours.error is not None:
        return [f"gpunet raises {type(ours.error).__name__}: {ours.error}; PyTorch does not"]
    if theirs.error is not None:
        return [f"PyTorch raises {type(theirs.error).__name__}: {theirs.error}; gpunet does not"]
    return [
        *_compare(ours.values, theirs.values, bound, "result"),
        *_compare(ours.gradients, theirs.gradients, bound, "gradients"),
    ]


def check_case(checked: Case) -> None:
    """Compare a case in both precisions and physical orders.

    Raises:
        AssertionError: the libraries differ where no difference is stated, or agree where one is.
    """
    import torch

    problems = []
    for dtype, reverse in ((np.float64, False), (np.float32, False), (np.float32, True)):
        if reverse and not checked.reversed_order:
            continue
        bound = max(agreement_bound(dtype, checked.terms) * checked.looser, checked.at_least)
        ours, theirs = (
            attempt(module, checked.run, _draw(checked.inputs, dtype, reverse)) for module in (gpunet, torch)
        )
        found = compare_outcomes(ours, theirs, bound)
        problems += [f"{np.dtype(dtype).name}{', reversed order' if reverse else ''}: {text}" for text in found]
    assert_as_stated(checked.label, problems)


def assert_as_stated(label: str, problems: list[str]) -> None:
    """Hold a case's problems against the table of stated differences.

    Raises:
        AssertionError: there are problems that no difference explains, or a difference that is not there.
    """
    if stated_difference(label) is not None:
        assert problems, f"{label}: the stated difference is gone; take it out of the table"
    else:
        more = f"\nand {len(problems) - 15} more" if len(problems) > 15 else ""
        assert not problems, "\n".join(problems[:15]) + more
