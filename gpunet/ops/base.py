"""What an operation is: the contract every file of this package fills in, and the registry the tests walk.

An operation takes arrays and gives arrays; it knows nothing of Tensors. ``gpunet.autograd.apply`` is the one way a
Tensor reaches it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import numpy as np

from gpunet.backend.devices import array_module
from gpunet.backend.errors import DTypeError
from gpunet.ops.dtypes import DType, is_floating

__all__ = ["NO_GRAD", "REGISTRY", "Context", "Inferred", "Op", "Sample", "Spec", "register", "use_path"]

Shape = tuple[int, ...]
OpType = TypeVar("OpType", bound="Op")


class Spec(NamedTuple):
    """Shape and dtype of an array that need not exist. Arrays themselves serve wherever a Spec does."""

    shape: Shape
    dtype: DType

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)


class Inferred(NamedTuple):
    """What ``infer`` finds out: the outputs, and the multiply-adds it takes to compute them."""

    outputs: tuple[Spec, ...]
    macs: int = 0


@dataclass(frozen=True)
class Sample:
    """One case that every implementation of an operation is held to.

    Attributes:
        label: what is special about it.
        inputs: arrays (float64), Python scalars or None, in the operation's order.
        attributes: its keyword arguments.
        differentiable: False where the gradient does not exist at this point.
    """

    label: str
    inputs: tuple[Any, ...]
    attributes: dict[str, Any] = field(default_factory=dict)
    differentiable: bool = True


class Context:
    """What a forward pass leaves for its backward pass.

    Attributes:
        needs_grad: for each input, whether its gradient will be asked for.
        attributes: the keyword arguments of the call.
        saved: the arrays passed to ``save``.
        state: anything else the operation wants to keep.
    """

    __slots__ = ("attributes", "needs_grad", "saved", "state")

    def __init__(self, needs_grad: Any = (), attributes: dict[str, Any] | None = None) -> None:
        self.needs_grad = needs_grad
        self.attributes: dict[str, Any] = attributes or {}
        self.saved: tuple[Any, ...] = ()
        self.state: Any = None

    def save(self, *arrays: Any) -> None:
        """Keep arrays for backward.

        Pass inputs and outputs as they are (not copies or views of them): the version check recognises them by
        identity.
        """
        self.saved = arrays


class _Never:
    def __getitem__(self, index: int) -> bool:
        return False


class _NoGrad(Context):
    """The context of a call whose gradient nobody will ask for: it keeps nothing."""

    __slots__ = ()

    def save(self, *arrays: Any) -> None:
        pass

    def __setattr__(self, name: str, value: Any) -> None:
        # One object serves all threads: `state` and `saved` written by a forward pass must not stick.
        if name in ("needs_grad", "attributes"):
            super().__setattr__(name, value)


NO_GRAD = _NoGrad(_Never())


class Op:
    """An operation. Subclasses define ``infer``, ``forward`` and, if differentiable, ``backward``.

    Attributes:
        name: its name in the registry, and what ONNX export and the profiler see.
        differentiable: False for comparisons, argmax and the like.
        is_view: True if the output may share the first input's memory.
        autocast: what ``autocast`` does to floating inputs: ``"lower"`` (half precision), ``"float32"``, or
            ``"promote"`` (leave them).
        epilogue: which of ``"bias"``, ``"activation"``, ``"residual"`` can be fused into it.
        parts_with_output: True if it saves its first output, after its inputs, and copies that where somebody is about
            to write to it in place; otherwise such a write is an error in backward.
    """

    name: str = ""
    differentiable: bool = True
    is_view: bool = False
    autocast: str = "promote"
    epilogue: tuple[str, ...] = ()
    parts_with_output: bool = False

    def infer(self, *inputs: Any, **attributes: Any) -> Inferred:
        """Shapes, dtypes and multiply-adds from shapes alone; the place of all validation. Touches no data."""
        raise NotImplementedError

    def forward(self, ctx: Context, *inputs: Any, **attributes: Any) -> Any:
        """The outputs: one array, or a tuple of them."""
        raise NotImplementedError

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        """The gradient of each input, None where ``ctx.needs_grad`` is false."""
        raise NotImplementedError

    def part_with_output(self, ctx: Context) -> None:
        """Keep a copy of the first output from now on: it is about to be written to."""
        raise NotImplementedError

    def reference(self, *inputs: Any, **attributes: Any) -> Any:
        """The equations in plain NumPy. For plain operations the one line of array-module code is that already."""
        return self.forward(NO_GRAD, *inputs, **attributes)

    def reference_backward(self, grad_outputs: tuple[Any, ...], inputs: tuple[Any, ...], **attributes: Any) -> Any:
        """The gradients' equations in plain NumPy, for operations that have a fast backward to compare with."""
        ctx = Context(tuple(is_differentiable_input(value) for value in inputs), attributes)
        self.forward(ctx, *inputs, **attributes)
        return self.backward(ctx, *grad_outputs)

    def supports(self, *inputs: Any, **attributes: Any) -> tuple[str, str]:
        """Which implementation runs, and why: a pure function of shapes, strides, dtypes and device."""
        return "array", "array-module operations are all it needs"

    def samples(self) -> Iterator[Sample]:
        """The cases every implementation is held to."""
        raise NotImplementedError

    def path(self, *inputs: Any, **attributes: Any) -> str:
        """The implementation to run: what ``supports`` says, unless a test forces another."""
        if _forced is not None:
            return _forced
        path, reason = self.supports(*inputs, **attributes)
        if _EXPLAIN:
            shapes = ", ".join(str(getattr(value, "shape", value)) for value in inputs if value is not None)
            line = f"gpunet: {self.name}({shapes}) -> {path}: {reason}"
            if line not in _explained:
                _explained.add(line)
                print(line, file=sys.stderr)
        return path

    def __repr__(self) -> str:
        return f"<op {self.name}>"


_EXPLAIN = os.environ.get("GPUNET_EXPLAIN", "") not in ("", "0")
_explained: set[str] = set()
_forced: str | None = None


@contextmanager
def use_path(path: str) -> Iterator[None]:
    """Make every operation take one implementation, for tests that compare them: one of the names of ``supports``."""
    global _forced
    before, _forced = _forced, path
    try:
        yield
    finally:
        _forced = before


REGISTRY: dict[str, Op] = {}


def register(op: OpType) -> OpType:
    """Add an operation to the registry.

    Raises:
        ValueError: the name is taken.
    """
    if op.name in REGISTRY:
        raise ValueError(f"an operation named {op.name!r} is registered already")
    REGISTRY[op.name] = op
    return op


def is_differentiable_input(value: Any) -> bool:
    """True for floating arrays."""
    dtype = getattr(value, "dtype", None)
    return dtype is not None and is_floating(dtype)


def module_of(*inputs: Any) -> Any:
    """The array module of the first array among the inputs."""
    for value in inputs:
        if type(value) is np.ndarray:
            return np
        if hasattr(value, "dtype"):
            return array_module(value)
    return np


def require_floating(op: str, name: str, value: Any) -> None:
    """Raise unless the argument is floating.

    Raises:
        DTypeError: naming the argument.
    """
    if not is_floating(value.dtype):
        raise DTypeError(f"{op}: {name} must be floating point, got {value.dtype.name}")


def require_same_dtype(op: str, **arguments: Any) -> None:
    """Raise unless all arguments that are given share one dtype.

    Raises:
        DTypeError: naming two that differ.
    """
    first: tuple[str, Any] | None = None
    for name, value in arguments.items():
        if value is None:
            continue
        if first is None:
            first = (name, value.dtype)
        elif value.dtype != first[1]:
            raise DTypeError(
                f"{op}: {name} has dtype {value.dtype.name}, but {first[0]} has {first[1].name}; they must be the same"
            )
