"""The ONNX graph as it grows: names, constants, and the table of translations that the other files fill in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from gpunet.interop.onnx_export.tracing import ExportError, Extent, Reference, Step, Trace, Value

__all__ = ["TRANSLATIONS", "Call", "Graph", "translates"]


class Call:
    """An operation that is being translated.

    Attributes:
        op: its name.
        inputs: names of values in the graph, Python scalars, or None.
        values: what is known of the inputs that are tensors; None for the others.
        outputs: what is known of the results.
        attributes: its keyword arguments.
        step: where it stands, for messages.
    """

    def __init__(self, step: Step, trace: Trace, names: dict[Reference, str]) -> None:
        self.op, self.attributes, self.step = step.op, step.attributes, step
        self.values: list[Any] = [trace.values[i.number] if isinstance(i, Reference) else None for i in step.inputs]
        self.inputs: list[Any] = [names.get(i) if isinstance(i, Reference) else i for i in step.inputs]
        self.outputs = [trace.values[reference.number] for reference in step.outputs]
        for reference in step.inputs:
            if isinstance(reference, Reference) and names.get(reference) is None:
                raise ExportError(
                    f"export: {step} needs a result, such as the places of maxima, that ONNX does not give"
                )

    @property
    def shape(self) -> tuple[Extent, ...]:
        """Of the first input."""
        shape: tuple[Extent, ...] = self.values[0].shape
        return shape

    @property
    def ndim(self) -> int:
        """Dimensions of the first input."""
        return len(self.shape)

    def fixed(self, axes: Iterable[int]) -> tuple[int, ...]:
        """Sizes of dimensions of the first input.

        Raises:
            ExportError: one depends on the batch.
        """
        extents = [self.shape[axis] for axis in axes]
        if not all(extent.is_fixed for extent in extents):
            raise self.refusal("a size that it depends on grows with the batch")
        return tuple(extent.fixed for extent in extents)

    def require_dimensions(self) -> None:
        """Refuse a number by itself, which ONNX's operators over a dimension do not take.

        Raises:
            ExportError: the first input has no dimensions.
        """
        if not self.ndim:
            raise self.refusal("its input has no dimensions")

    def refusal(self, reason: str) -> ExportError:
        """The error for something that has no translation."""
        return ExportError(f"export: {self.step} cannot be written as ONNX: {reason}")


Translation = Callable[["Graph", Call], Any]

# By operation. Given the graph and the call it adds nodes, and gives the name of the result, or a tuple of them, with
# None for what ONNX does not give.
TRANSLATIONS: dict[str, Translation] = {}


def translates(*ops: str) -> Callable[[Translation], Translation]:
    """Make a function the translation of operations."""

    def note(function: Translation) -> Translation:
        for op in ops:
            TRANSLATIONS[op] = function
        return function

    return note


class Graph:
    """Nodes and initializers.

    Args:
        opset: version of ONNX's operators.

    Attributes:
        batch_of: name of an input whose first dimension is the batch; None where all sizes are fixed.
        initializers: arrays by name.
        path, op: of the operation that is being translated; new names begin with them.
    """

    def __init__(self, opset: int) -> None:
        import onnx

        self.onnx = onnx
        self.opset = opset
        self.nodes: list[Any] = []
        self.initializers: dict[str, np.ndarray] = {}
        self.path, self.op = "", ""
        self.batch_of: str | None = None
        self._batch: str | None = None
        self._taken: set[str] = set()
        self._constants: dict[tuple[Any, ...], str] = {}

    # Names ---------------------------------------------------------------------------------------------------------

    def name(self, wanted: str) -> str:
        """A name that nothing else has: the one wanted, or with a number behind it."""
        free, number = wanted, 1
        while free in self._taken:
            number += 1
            free = f"{wanted}_{number}"
        self._taken.add(free)
        return free

    def _here(self, what: str) -> str:
        return f"{self.path}/{what}" if self.path else what

    # Nodes ---------------------------------------------------------------------------------------------------------

    def add(self, kind: str, *inputs: str | None, **attributes: Any) -> str:
        """Add a node with one result; None for an input left out. Gives the result's name."""
        return self.add_several(kind, 1, *inputs, **attributes)[0]

    def add_several(self, kind: str, count: int, *inputs: str | None, **attributes: Any) -> list[str]:
        """Add a node with several results."""
        given = ["" if name is None else name for name in inputs]
        while given and not given[-1]:
            given.pop()
        outputs = [self.name(self._here(f"{self.op}.{kind}")) for _ in range(count)]
        node = self.onnx.helper.make_node(kind, given, outputs, name=outputs[0], **attributes)
        self.nodes.append(node)
        return outputs

    def deliver(self, name: str, result: str) -> None:
        """Give a value the name of a result."""
        self.nodes.append(self.onnx.helper.make_node("Identity", [name], [result], name=f"{result}.Identity"))

    def drop_unused(self, results: Iterable[str]) -> None:
        """Take out the nodes that no result depends on, such as those of a layer's last state, and their constants."""
        needed, kept = set(results), []
        for node in reversed(self.nodes):
            if needed.intersection(node.output):
                kept.append(node)
                needed.update(node.input)
        self.nodes = kept[::-1]
        self.initializers = {name: array for name, array in self.initializers.items() if name in needed}

    def constant(self, value: Any, dtype: Any) -> str:
        """The name of an array that stands in the file; equal small ones stand there once."""
        array = np.ascontiguousarray(np.asarray(value, dtype))
        array = array.reshape(np.shape(value))  # ascontiguousarray makes 0-d arrays 1-d
        key = (array.dtype.name, array.shape, array.tobytes()) if array.size <= 64 else (object(),)
        if key not in self._constants:
            name = self.name(self._here(f"{self.op}.constant"))
            self.initializers[name] = array
            self._constants[key] = name
        return self._constants[key]

    def integers(self, values: Iterable[int]) -> str:
        """A list of int64, as axes and shapes are given."""
        return self.constant(list(values), np.int64)

    def cast(self, name: str, have: Any, want: Any) -> str:
        """A value in another dtype."""
        return name if have == want else self.add("Cast", name, to=self.type_of(want))

    def type_of(self, dtype: Any) -> int:
        """ONNX's number of a dtype."""
        return int(self.onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def operand(self, call: Call, index: int, dtype: Any) -> str:
        """An input as a tensor of a dtype: a scalar becomes a constant, another dtype is cast."""
        value: Value | None = call.values[index]
        if value is None:
            return self.constant(call.inputs[index], dtype)
        return self.cast(call.inputs[index], value.dtype, dtype)

    # Shapes --------------------------------------------------------------------------------------------------------

    def shape(self, extents: Sequence[Extent]) -> str:
        """A shape as a value of the graph; sizes that depend on the batch are computed from an input's."""
        if all(extent.is_fixed for extent in extents):
            return self.integers(extent.fixed for extent in extents)
        parts = []
        for extent in extents:
            if extent.is_fixed:
                parts.append(self.integers([extent.fixed]))
                continue
            size = self._batch_size()
            if extent.per_sample != 1:
                size = self.add("Mul", size, self.integers([extent.per_sample]))
            if extent.fixed:
                size = self.add("Add", size, self.integers([extent.fixed]))
            parts.append(size)
        return parts[0] if len(parts) == 1 else self.add("Concat", *parts, axis=0)

    def _batch_size(self) -> str:
        if self._batch is None:
            whole = self.add("Shape", self.batch_of)
            self._batch = self.add("Gather", whole, self.integers([0]), axis=0)
        return self._batch

    def reshape(self, name: str, before: Sequence[Extent], after: Sequence[Extent]) -> str:
        """The elements under another shape: 0 keeps a size, -1 is what remains, as far as these can say it."""
        if any(extent == Extent(0, 0) for extent in after):
            return self.add("Reshape", name, self.shape(after), allowzero=1)
        sizes: list[int] = []
        for axis, extent in enumerate(after):
            if extent.is_fixed:
                sizes.append(extent.fixed)
            else:
                sizes.append(0 if axis < len(before) and before[axis] == extent else -1)
        target = self.shape(after) if sizes.count(-1) > 1 else self.integers(sizes)
        return self.add("Reshape", name, target)
