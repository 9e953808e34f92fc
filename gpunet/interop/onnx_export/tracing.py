"""What a model computes, as a list of operations: the model run and watched, at several batch sizes.

The model runs on ``meta``, where operations give shapes and nothing is computed; its parameters are put there for as
long as that takes. Where its forward needs values (it makes a tensor of its own, or spreads over devices) it runs
where it is. Every size of every result is then expressed in the batch size, n: ``per_sample * n + fixed``. What does
not fit that, or changes with n in another way, is refused: a file that is right for one batch size only is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from gpunet.autograd import Tensor, no_grad
from gpunet.autograd.observer import observe
from gpunet.backend.devices import META, MetaArray, to_numpy, transfer
from gpunet.backend.errors import DeviceError
from gpunet.nn import Module
from gpunet.ops.base import Spec
from gpunet.ops.dtypes import is_floating

__all__ = ["ExportError", "Extent", "Inputs", "Reference", "Step", "Trace", "Value", "trace"]

# Sizes are fitted to the first two runs and must hold in the others: one sample, where squeeze() and broadcasting are
# special, and where it costs nothing, more samples than a program would name by accident.
FITTED = (2, 3)
CHECKED, CHECKED_ON_META = (1,), (1, 1009)

# Attributes that say what the shapes of the results say too, and those say it for every batch size.
SHAPES_ONLY = {("reshape", "shape"), ("expand", "shape")}

RANDOM = ("dropout", "alpha_dropout")


class ExportError(ValueError):
    """A model that cannot be written down as a graph; the message names the operation and the module it is in."""


class Extent(NamedTuple):
    """A size: ``per_sample`` times the batch size, plus ``fixed``."""

    per_sample: int
    fixed: int

    @property
    def is_fixed(self) -> bool:
        """Whether it is the same for every batch."""
        return self.per_sample == 0


@dataclass
class Value:
    """A tensor of the graph.

    Attributes:
        shape: its sizes.
        dtype: of its elements.
        source: ``"input"``, ``"state"`` (a parameter or buffer), ``"constant"`` or ``"step"``.
        name: of an input, or in the state dict.
        array: what a constant holds, on the CPU.
    """

    shape: tuple[Extent, ...]
    dtype: Any
    source: str
    name: str = ""
    array: Any = None

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)


class Reference(NamedTuple):
    """The number of a value, where an operation or a result names it."""

    number: int


@dataclass
class Step:
    """An operation: its name, its inputs (references, Python scalars, None), attributes, results, and its module."""

    op: str
    inputs: tuple[Any, ...]
    attributes: dict[str, Any]
    outputs: tuple[Reference, ...]
    path: str

    def __str__(self) -> str:
        return f"operation {self.op!r} in {f'module {self.path!r}' if self.path else 'the model itself'}"


@dataclass
class Trace:
    """A whole run: the values by number, the steps in order, and the model's result with references for Tensors."""

    values: list[Value] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    result: Any = None


class _NeedsValues(Exception):
    """A tensor was met on ``meta`` that no operation made: what it holds is only known where the model is."""


@dataclass
class _Group:
    """Tensors over the same elements, with the number of writes each had seen when it was met."""

    members: list[tuple[Tensor, int]] = field(default_factory=list)

    def is_as_met(self) -> bool:
        return all(tensor._counter[0] == version for tensor, version in self.members)


class _Recorder:
    """The observer: numbers the arrays that pass, and notes which operation made which of which."""

    def __init__(self, state: dict[int, str]) -> None:
        self.trace = Trace()
        self._state = state
        self._known: dict[int, tuple[Reference, _Group]] = {}
        # Arrays are known by their identity: none may go and leave it to another.
        self._kept: list[Any] = []

    def meet(self, tensor: Tensor, source: str, name: str = "", group: _Group | None = None) -> Reference:
        """Note a tensor that was not seen before."""
        array = tensor._array
        reference = Reference(len(self.trace.values))
        held = None
        if source == "constant":
            if tensor._device is META:
                raise _NeedsValues
            held = np.array(to_numpy(array))
        shape = tuple(Extent(0, extent) for extent in array.shape)
        self.trace.values.append(Value(shape, array.dtype, source, name, held))
        group = _Group() if group is None else group
        group.members.append((tensor, tensor._counter[0]))
        self._known[id(array)] = reference, group
        self._kept.append(array)
        return reference

    def find(self, tensor: Tensor, where: str) -> Reference:
        """The number of a tensor that is used."""
        found = self._known.get(id(tensor._array))
        if found is None:
            name = self._state.get(id(tensor._array))
            return self.meet(tensor, "constant" if name is None else "state", name or "")
        reference, group = found
        if not group.is_as_met():
            raise ExportError(
                f"export: {where} reads a tensor that was written to in place through a view, or by index assignment, "
                f"copy_ or a fill; write it with operations that make new tensors (cat, where, pad)"
            )
        return reference

    def __call__(
        self, op: Any, inputs: tuple[Any, ...], attributes: dict[str, Any], outputs: tuple[Any, ...], path: str
    ) -> None:
        step = Step(op.name, (), attributes, (), path)
        if op.name in RANDOM:
            raise ExportError(f"export: {step} draws random numbers although the model is in evaluation mode")
        if attributes.get("batch_sizes") is not None:
            raise ExportError(
                f"export: {step} takes a packed batch, which ONNX has no form of; export a model that takes padded ones"
            )
        step.inputs = tuple(self.find(value, str(step)) if isinstance(value, Tensor) else value for value in inputs)
        group = self._known[id(inputs[0]._array)][1] if op.is_view else None
        step.outputs = tuple(self.meet(tensor, "step", group=group) for tensor in outputs)
        self.trace.steps.append(step)

    def written(self, target: Tensor, result: Tensor) -> None:
        """A tensor is about to take over the value of a result: from now on its elements are that."""
        if target.dtype != result.dtype:
            raise ExportError(
                f"export: a result of {result.dtype.name} is written in place to a tensor of {target.dtype.name}; "
                "cast it, and make a new tensor"
            )
        if id(target._array) in self._state:
            name = self._state[id(target._array)]
            raise ExportError(f"export: the forward writes to {name!r} of the model, which a graph cannot")
        reference = self.find(result, "an operation in place")
        # The write counts once more, so that the other tensors over these elements are no longer as they were met.
        self._known[id(target._array)] = reference, _Group([(target, target._counter[0] + 1)])
        self._kept.append(target._array)


class Inputs:
    """What the model is run on: examples, which stand for batches of any size.

    Args:
        examples: arrays whose first dimension is the batch; those without dimensions are the same for every batch.
        names: of the inputs in the graph; None is ``input``, or ``input_0`` and so on where there are several.
    """

    def __init__(self, examples: Sequence[np.ndarray], names: Sequence[str] | None = None) -> None:
        self.examples = list(examples)
        several = len(self.examples) > 1
        self.names = [f"input_{n}" if several else "input" for n in range(len(self.examples))]
        if names is not None:
            self.names = list(names)

    @property
    def batch(self) -> int | None:
        """The examples' own batch size; None where there is none."""
        return next((len(each) for each in self.examples if each.ndim), None)

    def specs(self, size: int | None) -> list[Spec]:
        """Shapes and dtypes for a batch size; None is the examples' own."""
        return [
            Spec(each.shape if size is None or not each.ndim else (size, *each.shape[1:]), each.dtype)
            for each in self.examples
        ]

    def arrays(self, size: int | None, run: int) -> list[np.ndarray]:
        """Values for a batch size: the examples' rows again and again, different ones in every run."""
        made = []
        for each in self.examples:
            rows = each if size is None or not each.ndim else each[(np.arange(size) + run) % len(each)]
            made.append(rows * each.dtype.type(1 - run / 8) if is_floating(each.dtype) else rows)
        return made


def trace(model: Module, inputs: Inputs, dynamic: bool) -> Trace:
    """Run a model and note what it does.

    Args:
        model: in evaluation mode.
        inputs: to run it on.
        dynamic: whether the graph is for every batch size, or for the examples' own.

    Returns:
        The steps, with every size expressed in the batch size.

    Raises:
        ExportError: what the model does depends on the batch size or on its input in a way that no graph can say.
    """
    sizes: tuple[int | None, ...] = (*FITTED, *CHECKED_ON_META) if dynamic else (None,)
    try:
        runs = _runs(_run_on_meta, model, inputs, sizes)
    except _NeedsValues:
        sizes = (*FITTED, *CHECKED) if dynamic else (None,)
        runs = _runs(_run_where_it_is, model, inputs, sizes)
    return _merged(runs, sizes) if dynamic else runs[0]  # type: ignore[arg-type]


def _runs(
    run: Callable[[Module, Inputs, int | None, int], Trace],
    model: Module,
    inputs: Inputs,
    sizes: tuple[int | None, ...],
) -> list[Trace]:
    runs: list[Trace] = []
    for number, size in enumerate(sizes):
        try:
            runs.append(run(model, inputs, size, number))
        except (ValueError, IndexError, TypeError) as error:
            if isinstance(error, ExportError):
                raise
            taken = sizes[0] if number else _own_size(run, model, inputs, size)
            if taken is None:
                raise
            raise ExportError(
                f"export: the model takes a batch of {taken}, but not one of {size} ({error}); the batch is the first "
                "dimension of each input: where that is steps, make recurrent layers with batch_first=True; or export "
                "with dynamic_batch=False for a file with one batch size"
            ) from error
    return runs


def _own_size(
    run: Callable[[Module, Inputs, int | None, int], Trace], model: Module, inputs: Inputs, size: int | None
) -> int | None:
    """The examples' batch size, if it is another and the model takes it; None if it is the model that is at fault."""
    own = inputs.batch
    if size is None or own in (None, size):
        return None
    try:
        run(model, inputs, own, 0)
    except (ValueError, IndexError, TypeError):
        return None
    return own


def _tensors(model: Module) -> Iterator[tuple[str, Tensor]]:
    yield from model.named_parameters()
    yield from model.named_buffers()


def _run_on_meta(model: Module, inputs: Inputs, size: int | None, number: int) -> Trace:
    """Shapes alone. A model that mixes in tensors from elsewhere, or spreads over devices, is told by its error."""
    if len({tensor._device for _, tensor in _tensors(model)}) > 1:
        raise _NeedsValues
    with _on_meta(model):
        tensors = [Tensor._wrap(MetaArray(spec.shape, spec.dtype), META) for spec in inputs.specs(size)]
        try:
            return _run(model, tensors, inputs.names)
        except DeviceError as error:
            message, where = str(error).partition(";")[0], _where(model, error)
            if message.startswith("index: the result of a mask"):
                raise ExportError(
                    f"export: operation 'index' in {where} selects by a mask: how much it gives depends on values, and "
                    "there is no translation to ONNX; use where() or multiply by the mask"
                ) from error
            if "has no data" not in str(error):
                raise _NeedsValues from error
            raise ExportError(
                f"export: the model's forward takes a tensor's value as a number ({message.partition(':')[0]} in "
                f"{where}), so what it does depends on its input; a graph does the same for all"
            ) from error


def _where(model: Module, error: DeviceError) -> str:
    """The innermost module whose forward raised an error."""
    innermost, _ = error.__dict__.get("_raised_in", (model, ""))
    path = next((path for path, module in model.named_modules() if module is innermost), "")
    return f"module {path!r}" if path else "the model itself"


@contextmanager
def _on_meta(model: Module) -> Iterator[None]:
    """The model's tensors without their data, the same objects, for as long as the block takes."""
    before = [(tensor, tensor._array, tensor._device) for _, tensor in _tensors(model)]
    try:
        for tensor, array, _ in before:
            tensor._array, tensor._device = MetaArray(tuple(array.shape), array.dtype), META
        yield
    finally:
        for tensor, array, device in before:
            tensor._array, tensor._device = array, device


def _run_where_it_is(model: Module, inputs: Inputs, size: int | None, number: int) -> Trace:
    """The model as it is, where it is."""
    device = next((tensor._device for _, tensor in _tensors(model)), None)
    if device is None:
        device = Tensor(0.0).device
    arrays = inputs.arrays(size, number)
    return _run(model, [Tensor._wrap(transfer(array, device), device) for array in arrays], inputs.names)


def _run(model: Module, inputs: list[Tensor], names: Sequence[str]) -> Trace:
    state = {id(tensor._array): name for name, tensor in reversed(list(_tensors(model)))}
    recorder = _Recorder(state)
    for name, tensor in zip(names, inputs, strict=True):
        recorder.meet(tensor, "input", name)
    with no_grad(), observe(recorder):
        result = model(*inputs)
    recorder.trace.result = _with_references(result, recorder)
    return recorder.trace


def _with_references(result: Any, recorder: _Recorder) -> Any:
    if isinstance(result, Tensor):
        return recorder.find(result, "the model's result")
    if isinstance(result, dict):
        return {str(key): _with_references(value, recorder) for key, value in result.items()}
    if isinstance(result, (tuple, list)):
        return [_with_references(value, recorder) for value in result]
    if result is None:
        return None
    raise ExportError(f"export: the model must return Tensors, in tuples, lists or dicts, got {type(result).__name__}")


def _merged(runs: list[Trace], sizes: tuple[int, ...]) -> Trace:
    """One trace for all batch sizes, from one of each of several."""
    first = runs[0]
    for run, size in zip(runs[1:], sizes[1:], strict=True):
        _check_same_steps(first, run, sizes[0], size)
    made_by = {reference: step for step in first.steps for reference in step.outputs}
    for number, value in enumerate(first.values):
        seen = [run.values[number] for run in runs]
        step = made_by.get(Reference(number))
        where = str(step) if step is not None else "a tensor that the forward makes"
        shapes = [tuple(extent.fixed for extent in one.shape) for one in seen]
        for shape, size in zip(shapes, sizes, strict=True):
            if len(shape) != len(shapes[0]):
                raise ExportError(
                    f"export: the result of {where} has {len(shapes[0])} dimensions for a batch of {sizes[0]}, and "
                    f"{len(shape)} for a batch of {size}; name the dimensions to squeeze, or export with "
                    "dynamic_batch=False"
                )
        value.shape = tuple(_fit(extents, sizes, where) for extents in zip(*shapes, strict=True))
        if value.source == "constant":
            _merge_constant(value, [one.array for one in seen])
    return first


def _check_same_steps(a: Trace, b: Trace, size_a: int, size_b: int) -> None:
    which = f"for a batch of {size_a} and one of {size_b}"
    for one, other in zip(a.steps, b.steps, strict=False):
        if (one.op, one.path) != (other.op, other.path):
            raise ExportError(f"export: the model does not do the same {which}: {one}, then {other}")
        for name, value in one.attributes.items():
            if (one.op, name) not in SHAPES_ONLY and not _equal(value, other.attributes.get(name)):
                raise ExportError(
                    f"export: {one}: {name} is {value} {which} {other.attributes.get(name)}; it must not depend on "
                    "the batch; export with dynamic_batch=False for a file with one batch size"
                )
        if len(one.inputs) != len(other.inputs) or not all(map(_equal, one.inputs, other.inputs)):
            raise ExportError(
                f"export: {one} takes {_shown(one.inputs)} {which} {_shown(other.inputs)}; it must not depend on the "
                "batch or the input; export with dynamic_batch=False for a file with one batch size"
            )
    same = len(a.steps) == len(b.steps) and len(a.values) == len(b.values)
    if not same or a.result != b.result:
        raise ExportError(f"export: the model does not do the same {which}: {len(a.steps)} operations, {len(b.steps)}")


def _equal(a: Any, b: Any) -> bool:
    return type(a) is type(b) and (a is b or bool(np.all(a == b)) or repr(a) == repr(b))


def _shown(inputs: tuple[Any, ...]) -> str:
    return ", ".join("a tensor" if isinstance(value, Reference) else repr(value) for value in inputs)


def _fit(extents: Sequence[int], sizes: tuple[int, ...], where: str) -> Extent:
    """The size as a function of the batch size, found from two and checked with the others."""
    per_sample = (extents[1] - extents[0]) // (sizes[1] - sizes[0])
    found = Extent(per_sample, extents[0] - per_sample * sizes[0])
    for extent, size in zip(extents, sizes, strict=True):
        if found.per_sample * size + found.fixed != extent:
            raise ExportError(
                f"export: the result of {where} has sizes {list(extents)} for batches of {list(sizes)}, which is not "
                "so many for each sample; export with dynamic_batch=False for a file with one batch size"
            )
    return found


def _merge_constant(value: Value, arrays: list[Any]) -> None:
    """One array for all runs; of one that grows with the batch, the one number it is filled with."""
    if all(extent.is_fixed for extent in value.shape):
        if not all(np.array_equal(value.array, array, equal_nan=array.dtype.kind == "f") for array in arrays):
            raise ExportError(
                "export: the forward makes a tensor whose values depend on the input without gpunet's operations "
                "(numpy, random numbers), which no graph can say"
            )
        return
    fills = {element for array in arrays for element in np.unique(array).tolist()}
    if len(fills) != 1:
        raise ExportError(
            "export: the forward makes a tensor that grows with the batch and is not filled with one number; make it "
            "from the input with operations, or export with dynamic_batch=False"
        )
    value.array = np.array(fills.pop(), value.dtype)
