"""Running a model on shapes alone, and writing down what its modules do.

The run is on the ``meta`` device, on a twin of the model: the same modules without the values. The model itself is
only read, so its parameters, running statistics, hooks and mode stay as they are, whatever device it is on and
whatever another thread does with it.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gpunet.autograd import Tensor, empty, no_grad, observer
from gpunet.backend.devices import META, device
from gpunet.backend.errors import DeviceError
from gpunet.backend.random import fork_rng
from gpunet.inspect.flow import Flow
from gpunet.inspect.receptive_field import Fields, ReceptiveField
from gpunet.models import get_model
from gpunet.nn import Module, Parameter
from gpunet.nn.init import skip_draws
from gpunet.nn.input_shape import default_sequence_length
from gpunet.nn.uninitialized import is_lazy
from gpunet.ops.base import Spec
from gpunet.ops.dtypes import INT64, get_default_dtype, is_floating

__all__ = ["Step", "Trace", "input_dtype", "meta_model", "trace"]

Shape = tuple[int, ...]

# What holds values that backward needs, besides the image: the layers that lecture notes count (row B18).
_STORED = ("conv", "linear")


@dataclass(slots=True)
class Step:
    """A module that was called, or an operation that ran in a module that has modules below it.

    Attributes:
        name: the module's dotted path; of an operation, that of the module it ran in and ``(operation)``.
        kind: the module's class, or the operation's name.
        depth: how many modules it is in.
        module: the module's twin; None of an operation.
        input_shape, output_shape: of the first input and output; None where there is no tensor.
        outputs: shapes of all outputs, in the order of a tuple's or dict's entries.
        macs: multiply-adds of everything in it.
        written: bytes of the operations' results in it, those of views left out.
        stored: numbers in the results of convolutions, poolings and linear layers in it.
        field: receptive field of the first output.
        flattened: for a linear layer, the shape (C, H, W) that its input was before it was flattened.
    """

    name: str
    kind: str
    depth: int
    module: Module | None = None
    input_shape: Shape | None = None
    output_shape: Shape | None = None
    outputs: tuple[Shape, ...] = ()
    macs: int = 0
    written: int = 0
    stored: int = 0
    field: ReceptiveField | None = None
    flattened: Shape | None = None


@dataclass
class Trace:
    """A run: the model's twin and the steps, each in front of those inside it.

    Attributes:
        model: the twin, on ``meta``.
        steps: in the order in which they began; the first is the model itself.
        inputs: shapes of the inputs, with the batch.
        input_bytes: of the inputs.
        dtype: of the inputs.
        specs: shapes and types of all inputs.
        batch_axis: the dimension of the inputs that is the batch: 1 where steps are first.
    """

    model: Module
    steps: list[Step] = field(default_factory=list)
    inputs: tuple[Shape, ...] = ()
    input_bytes: int = 0
    dtype: Any = None
    specs: tuple[Spec, ...] = ()
    batch_axis: int = 0


def meta_model(model: Module | str, **kwargs: Any) -> Module:
    """A model of that name made without memory, or the twin of one that exists."""
    if isinstance(model, str):
        with device("meta"), skip_draws():
            return get_model(model, **kwargs)
    if not isinstance(model, Module):
        raise TypeError(f"model: must be a Module or the name of one, got {type(model).__name__}")
    if kwargs:
        raise TypeError(f"{min(kwargs)}: only goes with a model's name; the model is made already")
    return _twin(model)


def trace(
    twin: Module,
    inputs: Sequence[Spec],
    *,
    training: bool = False,
    flow: Flow | None = None,
) -> Trace:
    """Run a model that is on ``meta``.

    Args:
        twin: as ``meta_model`` makes it; it is changed.
        inputs: their shapes with the batch, and their types.
        training: run in training mode.
        flow: notes who reads what.

    Raises:
        ShapeError: the input does not fit; it names the module.
        DeviceError: the model asks for values; it names the module.
    """
    with device("meta"), no_grad(), fork_rng(enabled=training):
        twin.train(training)
        images = [empty(spec.shape, dtype=spec.dtype) for spec in inputs]
        recorder = _Recorder(
            Trace(twin, [], tuple(tuple(one.shape) for one in images), _bytes(images), inputs[0].dtype, tuple(inputs)),
            flow,
        )
        for number, one in enumerate(images):
            recorder.fields.begin(one)
            if flow is not None:
                flow.made(one, number)
        with observer.observe(recorder), recorder.watching(twin):
            try:
                twin(*images)
            except DeviceError as error:
                error.args = (
                    f"{error}: the model runs on shapes alone, on 'meta', and what its forward decides by values "
                    "cannot be followed",
                )
                raise
    return recorder.trace


def input_dtype(model: Module) -> Any:
    """The type of a model's input: of images, that of its first floating parameter; of sequences of numbers, int64."""
    if default_sequence_length(model) is not None:
        return INT64
    return next((p.dtype for p in model.parameters() if is_floating(p.dtype)), get_default_dtype())


class _Recorder:
    """Observer of the operations, and hooks around the modules."""

    def __init__(self, trace: Trace, flow: Flow | None) -> None:
        self.trace = trace
        self.fields = Fields()
        self.flow = flow
        self._renaming = False
        self._open: list[Step] = []
        # Flattened arrays by identity, with the shape they had; kept, so that no identity is used twice.
        self._flat: dict[int, tuple[Any, Shape]] = {}

    @contextlib.contextmanager
    def watching(self, model: Module) -> Iterator[None]:
        """Note the calls of a model and all modules below it."""
        handles = []
        for module in model.modules():
            handles.append(module.register_forward_pre_hook(self._enter, prepend=True))
            handles.append(module.register_forward_hook(self._leave))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, module: Module, args: Any) -> None:
        first = next(iter(_tensors(args)), None)
        step = Step(observer.module_path(), type(module).__name__, len(self._open), module)
        if first is not None:
            step.input_shape = tuple(first.shape)
            known = self._flat.get(id(first._array))
            step.flattened = None if known is None else known[1]
        self.trace.steps.append(step)
        self._open.append(step)

    def _leave(self, module: Module, args: Any, output: Any) -> Tensor | None:
        step = self._open.pop()
        tensors = list(_tensors(output))
        step.outputs = tuple(tuple(tensor.shape) for tensor in tensors)
        if tensors:
            step.output_shape = step.outputs[0]
            step.field = self.fields.of(tensors[0])
            known = self._flat.get(id(args[0]._array)) if args and isinstance(args[0], Tensor) else None
            if known is not None and args[0].shape == tensors[0].shape:  # as dropout leaves it
                self._flat[id(tensors[0]._array)] = (tensors[0]._array, known[1])
        if self.flow is None or module._modules or not isinstance(output, Tensor):
            return None
        makers = self.flow.makers(output)
        if any(maker is step for maker in makers):
            return None
        # What the module hands on as it is, such as dropout in evaluation, gets an identity of its own.
        self.flow.read(step, makers)
        self._renaming = True
        renamed = output.reshape(output.shape)
        self._renaming = False
        if id(output._array) in self._flat:
            self._flat[id(renamed._array)] = (renamed._array, self._flat[id(output._array)][1])
        self.flow.made(renamed, step)
        return renamed

    def written(self, target: Tensor, result: Tensor) -> None:
        """A tensor is written in place."""
        self.fields.written(target, result)
        if self.flow is not None:
            self.flow.written(target, result)

    def __call__(
        self, op: Any, inputs: tuple[Any, ...], attributes: dict[str, Any], outputs: tuple[Any, ...], path: str
    ) -> None:
        self.fields.step(op, inputs, attributes, outputs)
        if self._renaming:
            return
        arrays = tuple(value._array if isinstance(value, Tensor) else value for value in inputs)
        macs = op.infer(*arrays, **attributes).macs
        written = 0 if op.is_view else _bytes(outputs)
        first, shape = inputs[0], tuple(outputs[0].shape)
        pool = "pool" in op.name and "unpool" not in op.name and shape != tuple(first.shape)
        stored = outputs[0].numel() if pool or op.name.startswith(_STORED) else 0
        if op.name == "reshape" and first.ndim > 2 == outputs[0].ndim and first.shape[0] == shape[0]:
            self._flat[id(outputs[0]._array)] = (outputs[0]._array, tuple(first.shape[1:]))
        if op.name == "cat" and len(shape) == 2:  # the towers' halves
            parts = [self._flat.get(id(array)) for array in arrays]
            known = [part[1] for part in parts if part is not None]
            if len(known) == len(parts) and len({one[1:] for one in known}) == 1:
                self._flat[id(outputs[0]._array)] = (outputs[0]._array, (sum(one[0] for one in known), *known[0][1:]))
        for running in self._open:
            running.macs += macs
            running.written += written
            running.stored += stored
        inside = self._open[-1] if self._open else None
        step = inside
        if inside is not None and inside.module and inside.module._modules:
            step = None
            if op.is_view and op.name != "reshape":
                inside = None
        if inside is not None and step is None:
            name = f"{inside.name}.({op.name})" if inside.name else f"({op.name})"
            step = Step(
                name, op.name, len(self._open), None, tuple(getattr(first, "shape", ())), shape,
                tuple(tuple(output.shape) for output in outputs), macs, written, stored, self.fields.of(outputs[0]),
            )  # fmt: skip
            self.trace.steps.append(step)
        if self.flow is not None:
            between = step is not None and step.module is None and op.name == "reshape"
            self.flow.step(op, inputs, attributes, outputs, None if between else step)


def _tensors(value: Any) -> Iterator[Tensor]:
    """The tensors of what a module takes or returns."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for entry in value.values():
            yield from _tensors(entry)
    elif isinstance(value, (list, tuple)):
        for entry in value:
            yield from _tensors(entry)


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(int(tensor.numel() * np.dtype(tensor.dtype).itemsize) for tensor in tensors)


# Twins -------------------------------------------------------------------------------------------------------------


def _twin(model: Module) -> Module:
    """The same modules, with parameters and buffers on ``meta`` and without the hooks of others."""
    memo: dict[int, Any] = {}
    _note_tensors(model, memo, set())
    twins: dict[int, Module] = {}
    for module in model.modules():
        twins[id(module)] = memo[id(module)] = type(module).__new__(type(module))
    for module in model.modules():
        attributes = {name: _copied(value, memo) for name, value in vars(module).items()}
        for name in ("_forward_hooks", "_forward_pre_hooks"):
            attributes[name] = {key: hook for key, hook in attributes[name].items() if _is_ours(hook.call)}
        attributes.update(_backward_hooks={}, _backward_pre_hooks={})
        twins[id(module)].__dict__.update(attributes)
    return twins[id(model)]


def _note_tensors(value: Any, memo: dict[int, Any], seen: set[int]) -> None:
    """Enter the twins of tensors, and ``meta`` for their devices, where a deep copy looks them up.

    Also those of modules that a model keeps in a plain list, and so does not know as its own.
    """
    if isinstance(value, Tensor):
        memo.setdefault(id(value.device), META)
        if id(value) not in memo:
            memo[id(value)] = _tensor_twin(value)
        return
    inside: Iterable[Any] = ()
    if isinstance(value, Module):
        inside = vars(value).values()
    elif isinstance(value, dict):
        inside = value.values()
    elif isinstance(value, (list, tuple, set)):
        inside = value
    if inside and id(value) not in seen:
        seen.add(id(value))
        for entry in list(inside):
            _note_tensors(entry, memo, seen)


def _tensor_twin(tensor: Tensor) -> Tensor:
    if is_lazy(tensor):
        return tensor.to("meta")
    twin = empty(tuple(tensor.shape), dtype=tensor.dtype, device="meta")
    return Parameter(twin, tensor.requires_grad) if isinstance(tensor, Parameter) else twin


def _copied(value: Any, memo: dict[int, Any]) -> Any:
    try:
        return copy.deepcopy(value, memo)
    except Exception:  # a lock, an open file: what cannot be copied cannot be part of the arithmetic
        return value


def _is_ours(call: Callable[..., Any]) -> bool:
    """Whether a hook is part of a layer, as those that compute a weight from others are."""
    owner = getattr(call, "__module__", None) or type(call).__module__
    return str(owner).startswith("gpunet.")
