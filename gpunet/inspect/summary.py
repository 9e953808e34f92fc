"""What a network is made of: for each layer its output, parameters, multiply-adds, memory and receptive field.

    print(gn.inspect.summary("resnet50"))                        # by name: no weight is allocated
    result = gn.inspect.summary(model, input_size=(1, 28, 28))   # a model as it is, on any device
    result["layer4.2.conv3"].receptive_field.size                # (427, 427)

The model runs once on shapes alone; nothing of it changes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from gpunet.autograd import Tensor
from gpunet.backend.errors import DTypeError, ShapeError
from gpunet.inspect.batch_axes import BatchAxes, batch_axes, input_axis
from gpunet.inspect.flow import Flow
from gpunet.inspect.receptive_field import ReceptiveField
from gpunet.inspect.summary_text import html_table, text_table
from gpunet.inspect.trace import Step, Trace, input_dtype, meta_model, trace
from gpunet.nn import Conv1d, Conv2d, Conv3d, Linear, Module
from gpunet.nn.input_shape import default_input_shape
from gpunet.ops.base import Spec
from gpunet.ops.dtypes import canonical_dtype

__all__ = ["LayerSummary", "Share", "Summary", "count_params", "receptive_field", "run_on_meta", "summary"]

Shape = tuple[int, ...]

# Sizes that networks are made for, tried in turn where none is given and the model does not say: ImageNet, the AlexNet
# of 2012, CIFAR, digits.
_USUAL_SIZES = (224, 227, 32, 28)
_CIFAR_SIZES = (32,)


@dataclass(frozen=True, slots=True)
class LayerSummary:
    """One call of a module, or an operation in the ``forward`` of a module that holds others.

    Attributes:
        name: the module's dotted path, empty for the model; an operation's is that of the module it ran in and
            ``(operation)``.
        type: the module's class, or the operation's name.
        depth: how many modules it is in.
        input_shape, output_shape: of the first input and output, with the batch; None where there is no tensor.
        outputs: shapes of all outputs.
        params: parameters of the module and all below it, each counted once.
        own_params: those directly in it.
        macs: multiply-adds of convolutions, linear layers and matrix products in it. Biases, normalisations,
            poolings and elementwise operations count none.
        activation_bytes: of everything that operations in it compute.
        activation_floats: how many numbers its convolutions, poolings and linear layers give.
        receptive_field: of the first output; None where it depends on no image, or positions do not fit together.
        leaf: whether no module is below it.
        operation: whether it is an operation and no module.
        again: whether the module was called before, so that its parameters are counted in another row.
        flattened: the shape (C, H, W) that the input was before it was flattened, for a linear layer.
        batch_axes: for each of the outputs the dimension that is the batch; None where none is. It is 1 of layers
            that take steps first, and of a recurrent layer's states.
    """

    name: str
    type: str
    depth: int
    input_shape: Shape | None
    output_shape: Shape | None
    outputs: tuple[Shape, ...]
    params: int
    own_params: int
    macs: int
    activation_bytes: int
    activation_floats: int
    receptive_field: ReceptiveField | None
    leaf: bool
    operation: bool
    again: bool
    flattened: Shape | None = None
    batch_axes: BatchAxes = ()

    @property
    def batch_axis(self) -> int | None:
        """The dimension of the first output that is the batch; None where none is."""
        return self.batch_axes[0] if self.batch_axes else 0

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        field = self.receptive_field
        return {
            "name": self.name,
            "type": self.type,
            "depth": self.depth,
            "input_shape": None if self.input_shape is None else list(self.input_shape),
            "output_shape": None if self.output_shape is None else list(self.output_shape),
            "outputs": [list(shape) for shape in self.outputs],
            "params": self.params,
            "own_params": self.own_params,
            "macs": self.macs,
            "activation_bytes": self.activation_bytes,
            "activation_floats": self.activation_floats,
            "receptive_field": None if field is None else {key: list(value) for key, value in field._asdict().items()},
            "operation": self.operation,
            "again": self.again,
        }


@dataclass(frozen=True, slots=True)
class Share:
    """What all layers of one type have together.

    Attributes:
        type: the modules' class.
        count: how many modules.
        params, macs: of all of them.
        params_share, macs_share: of the whole model's, from 0 to 1.
    """

    type: str
    count: int
    params: int
    macs: int
    params_share: float
    macs_share: float


@dataclass(frozen=True)
class Summary:
    """A model's layers in the order in which they ran, and what they come to.

    ``str()`` gives a table, a notebook shows it as HTML, and ``summary["layer1.0.conv2"]`` is one layer.

    Attributes:
        model: the model's class.
        name: the name by which it was made; empty for a model that was there.
        input_shapes: with the batch.
        layers: modules and operations, each in front of those inside it; the first is the model.
        total_params: of the whole model, also of what did not run; each parameter counted once.
        trainable_params: those that require grad.
        param_bytes, buffer_bytes: memory.
        total_macs: multiply-adds of the run.
        activation_bytes: of everything that operations compute, views left out; the input is not among it.
        activation_floats: numbers in the input and in what convolutions, poolings and linear layers give: what
            lecture notes count as a network's memory. A pooling that leaves the size as it is gives nothing new.
        training: whether it ran in training mode.
        shares: by type of layer, the largest share of the parameters first.
        uncalled: modules with parameters that did not run, such as auxiliary classifiers in evaluation.
        uncalled_params: theirs, which are among the total's.
        depth: down to where the tables show layers; None is all.
    """

    model: str
    name: str
    input_shapes: tuple[Shape, ...]
    layers: tuple[LayerSummary, ...]
    total_params: int
    trainable_params: int
    param_bytes: int
    buffer_bytes: int
    total_macs: int
    activation_bytes: int
    activation_floats: int
    training: bool
    shares: tuple[Share, ...]
    uncalled: tuple[str, ...] = ()
    uncalled_params: int = 0
    depth: int | None = None

    def __getitem__(self, name: str) -> LayerSummary:
        """The layer of a name, at its first call."""
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise KeyError(f"{self.model} has run no layer {name!r}")

    def __iter__(self) -> Iterator[LayerSummary]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    @property
    def output_shape(self) -> Shape | None:
        """Of the model's first output, with the batch."""
        return self.layers[0].output_shape

    def share(self, type: str) -> Share:
        """What the layers of a type have together, such as ``share("Linear").params_share``; nothing if none has."""
        for entry in self.shares:
            if entry.type == type:
                return entry
        return Share(type, 0, 0, 0, 0.0, 0.0)

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON; shapes are lists with the batch, in front or where the layer has it."""
        return {
            "model": self.model,
            "name": self.name,
            "input_shapes": [list(shape) for shape in self.input_shapes],
            "output_shape": None if self.output_shape is None else list(self.output_shape),
            "training": self.training,
            "total_params": self.total_params,
            "trainable_params": self.trainable_params,
            "param_bytes": self.param_bytes,
            "buffer_bytes": self.buffer_bytes,
            "total_macs": self.total_macs,
            "activation_bytes": self.activation_bytes,
            "activation_floats": self.activation_floats,
            "uncalled": list(self.uncalled),
            "uncalled_params": self.uncalled_params,
            "shares": [{name: getattr(entry, name) for name in Share.__dataclass_fields__} for entry in self.shares],
            "layers": [layer.to_dict() for layer in self.layers],
        }

    def to_json(self, indent: int | None = None) -> str:
        """The same as a JSON text."""
        return json.dumps(self.to_dict(), indent=indent, allow_nan=False)

    def to_html(self) -> str:
        """A table in HTML, without scripts or styles from elsewhere."""
        return html_table(self)

    def _repr_html_(self) -> str:
        return self.to_html()

    def __str__(self) -> str:
        return text_table(self)


def summary(
    model: Module | str,
    input_size: Sequence[Any] | None = None,
    batch: int = 1,
    *,
    depth: int | None = None,
    training: bool = False,
    dtype: Any = None,
    example_inputs: Any = None,
    **kwargs: Any,
) -> Summary:
    """Run a model once on shapes alone, and tell what each layer gives and takes.

    The run is on the ``meta`` device: no weight is allocated for a model given by name, and a model that exists is only
    read, whatever device it is on. Its hooks are not called. What ``forward`` decides by values cannot be followed.

    Args:
        model: a model, or the name of one (``gn.models.list_models()``).
        input_size: of one sample, (C, H, W) without the batch; a list of them for a model with several inputs. The
            batch goes in front, or in dimension 1 of a model that takes steps first, as ``nn.LSTM`` does where it is
            not ``batch_first``: (T, I) becomes (T, batch, I). None:
            as many channels as the first convolution takes, and the size that the model is made for, which is the
            ``default_image_size`` of it or of the first module in it that has one. Without any, the first of the
            usual sizes that fits: 32x32 for classes with CIFAR in their name, else 224, 227, 32 or 28; the features
            of a model that starts with a linear layer.
        batch: number of samples; output shapes, multiply-adds and activations are those of the whole batch.
        depth: show layers down to this depth in tables; the model's direct children have depth 1.
        training: run in training mode, where auxiliary classifiers run too. Dropout draws nothing.
        dtype: of the input, such as ``gn.int64`` for a model that starts with an embedding; that of the parameters if
            None.
        example_inputs: instead of ``input_size``, ``batch`` and ``dtype``, the model's arguments: a Tensor or an array,
            or several in a tuple or list, the batch where the model has it. Only their shapes and types are read.
        kwargs: for the function that makes a model of that name, such as ``num_classes``.

    Raises:
        UnknownModelError: no model has that name.
        ShapeError: the input does not fit, for example because it is too small; the error names the layer.
        DeviceError: ``forward`` asks for a value; the error names the layer.
        TypeError, ValueError: a bad argument.
    """
    if depth is not None and (isinstance(depth, bool) or not isinstance(depth, int) or depth < 0):
        raise ValueError(f"depth: must be a whole number of at least 0 or None, got {depth!r}")
    run = run_on_meta(model, input_size, batch, training=training, dtype=dtype, example_inputs=example_inputs, **kwargs)
    return _summed(run, model if isinstance(model, str) else "", training, depth)


def receptive_field(
    model: Module | str, input_size: Sequence[Any] | None = None, **kwargs: Any
) -> dict[str, ReceptiveField]:
    """The receptive field of every layer that has one, by its name, in the order in which the layers ran.

    Args:
        model: a model, or the name of one.
        input_size: (C, H, W); as ``summary``.
        kwargs: as ``summary``.
    """
    fields: dict[str, ReceptiveField] = {}
    for step in run_on_meta(model, input_size, **kwargs).steps:
        if step.field is not None:
            fields.setdefault(step.name, step.field)
    return fields


def count_params(model: Module | str, trainable: bool = False, **kwargs: Any) -> int:
    """How many numbers a model's parameters hold; one that is used in several places counts once.

    Args:
        model: a model, or the name of one, which is then made without memory.
        trainable: only those that require grad.
        kwargs: for the function that makes a model of that name.
    """
    counted = meta_model(model, **kwargs) if isinstance(model, str) else model
    if not isinstance(counted, Module):
        raise TypeError(f"model: must be a Module or the name of one, got {type(model).__name__}")
    return sum(int(p.numel()) for p in counted.parameters() if p.requires_grad or not trainable)


def run_on_meta(
    model: Module | str,
    input_size: Sequence[Any] | None = None,
    batch: int = 1,
    *,
    training: bool = False,
    dtype: Any = None,
    example_inputs: Any = None,
    flow: Flow | None = None,
    **kwargs: Any,
) -> Trace:
    """Run a model on shapes alone; arguments and errors are ``summary``'s, and ``flow`` notes who reads what."""
    if isinstance(batch, bool) or not isinstance(batch, int) or batch < 1:
        several = isinstance(batch, (tuple, list)) and isinstance(input_size, (tuple, list))
        hint = f"; sizes of several inputs go in one list, [{input_size!r}, {batch!r}]" if several else ""
        raise ValueError(f"batch: must be a whole number of at least 1, got {batch!r}{hint}")
    make = partial(meta_model, model, **kwargs)
    if example_inputs is not None:
        if input_size is not None or batch != 1 or dtype is not None:
            raise ValueError("example_inputs: goes without input_size, batch and dtype, which it has itself")
        examples = _example_specs(example_inputs)
        return _run(meta_model(model, **kwargs), make, (examples, examples), training, flow)
    if input_size is not None:
        shapes = _input_shapes(input_size)
        twin = meta_model(model, **kwargs)
        with _hint_at_types(dtype):
            return _run(twin, make, _specs(twin, shapes, batch, dtype), training, flow)
    name = model if isinstance(model, str) else f"{type(model).__module__}.{type(model).__name__}"
    twin = meta_model(model, **kwargs)
    first: ShapeError | None = None
    for candidate in _usual_inputs(twin, name):
        try:
            with _hint_at_types(dtype):
                return _run(twin, make, _specs(twin, [candidate], batch, dtype), training, flow)
        except ShapeError as error:
            first = first or error
            if flow is not None:
                flow.clear()
            twin = meta_model(model, **kwargs)  # a lazy layer may have taken a shape
    assert first is not None
    raise first


def _run(
    twin: Module, make: Callable[[], Module], choices: Sequence[list[Spec]], training: bool, flow: Flow | None
) -> Trace:
    """Run a twin on the one of its inputs, by the dimension that is the batch, that has the batch where it reads it."""
    axis = input_axis(make, choices, training)
    run = trace(twin, choices[axis], training=training, flow=flow)
    run.batch_axis = axis
    return run


@contextmanager
def _hint_at_types(dtype: Any) -> Iterator[None]:
    """Where no type was given and the model wants another one, say how to give it."""
    try:
        yield
    except DTypeError as error:
        if dtype is None:
            error.args = (
                f"{error}; give dtype=, such as gpunet.int64 with the input_size of token ids, or example_inputs=",
            )
        raise


def _specs(model: Module, shapes: Sequence[Shape], batch: int, dtype: Any) -> tuple[list[Spec], list[Spec]]:
    """Inputs of these shapes with the batch in front, and in dimension 1; of the model's type if ``dtype`` is None."""
    chosen = input_dtype(model) if dtype is None else canonical_dtype(dtype)
    first = [Spec((batch, *shape), chosen) for shape in shapes]
    return first, [Spec((*shape[:1], batch, *shape[1:]), chosen) for shape in shapes]


def _example_specs(examples: Any) -> list[Spec]:
    several = list(examples) if isinstance(examples, (tuple, list)) else [examples]
    for one in several:
        if not isinstance(one, (Tensor, np.ndarray)):
            raise TypeError(f"example_inputs: expected Tensors or arrays, got {type(one).__name__}")
    if not several:
        raise ValueError("example_inputs: must hold at least one Tensor")
    return [Spec(tuple(one.shape), canonical_dtype(one.dtype)) for one in several]


def _input_shapes(input_size: Any) -> list[Shape]:
    given = input_size if isinstance(input_size, (list, tuple)) else [input_size]
    if any(isinstance(one, (Tensor, np.ndarray)) for one in given):
        raise TypeError("input_size: must be sizes, got Tensors or arrays; give those as example_inputs=")
    several = isinstance(input_size, (list, tuple)) and any(isinstance(one, (list, tuple)) for one in input_size)
    result = []
    for size in input_size if several else [input_size]:
        whole = isinstance(size, (list, tuple)) and all(isinstance(n, int) and not isinstance(n, bool) for n in size)
        if not whole or min(size, default=1) < 1:
            raise ValueError(
                f"input_size: must be whole numbers of at least 1 such as (3, 224, 224), without the batch, "
                f"got {input_size!r}"
            )
        result.append(tuple(size))
    return result


def _usual_inputs(model: Module, name: str) -> list[Shape]:
    """What a model is made for, if it says so, then what it is likely made for, the likeliest first."""
    known = default_input_shape(model)
    guesses = _guessed_inputs(model, name)
    return guesses if known is None else [known, *(guess for guess in guesses if guess != known)]


def _guessed_inputs(model: Module, name: str) -> list[Shape]:
    for module in model.modules():
        if isinstance(module, (Conv1d, Conv2d, Conv3d)):
            sizes = _CIFAR_SIZES if "cifar" in name.lower() else _USUAL_SIZES
            channels = module.in_channels or 3  # a lazy one takes what comes
            return [(channels, *[size] * len(module.kernel_size)) for size in sizes]
        if isinstance(module, Linear):
            return [(module.in_features,)]
    return [(3, size, size) for size in _USUAL_SIZES]


def _summed(run: Trace, name: str, training: bool, depth: int | None) -> Summary:
    model, top = run.model, run.steps[0]
    parameters = list(model.parameters())
    seen: set[int] = set()
    layers = tuple(_layer(step, axes, seen) for step, axes in zip(run.steps, batch_axes(run, training), strict=True))
    total = sum(int(p.numel()) for p in parameters)
    uncalled = _uncalled(model, seen)
    return Summary(
        model=type(model).__name__,
        name=name,
        input_shapes=run.inputs,
        layers=layers,
        total_params=total,
        trainable_params=sum(int(p.numel()) for p in parameters if p.requires_grad),
        param_bytes=_memory(parameters),
        buffer_bytes=_memory(model.buffers()),
        total_macs=top.macs,
        activation_bytes=top.written,
        activation_floats=top.stored + sum(_numbers(shape) for shape in run.inputs),
        training=training,
        shares=_shares(model, layers, total, top.macs),
        uncalled=tuple(uncalled),
        uncalled_params=sum(uncalled.values()),
        depth=depth,
    )


def _layer(step: Step, axes: BatchAxes, seen: set[int]) -> LayerSummary:
    module = step.module
    again = module is not None and id(module) in seen
    params = own = 0
    if module is not None:
        seen.add(id(module))
        params = sum(int(p.numel()) for p in module.parameters())
        own = sum(int(p.numel()) for p in module.parameters(recurse=False))
    return LayerSummary(
        step.name, step.kind, step.depth, step.input_shape, step.output_shape, step.outputs, params, own, step.macs,
        step.written, step.stored, step.field, module is None or not module._modules, module is None, again,
        step.flattened, axes,
    )  # fmt: skip


def _shares(model: Module, layers: Sequence[LayerSummary], params: int, macs: int) -> tuple[Share, ...]:
    """By type: parameters of all modules, of which a shared one counts where it is found first; multiply-adds run."""
    counts: dict[str, list[int]] = {}
    counted: set[int] = set()
    for module in model.modules():
        own = [p for p in module.parameters(recurse=False) if id(p) not in counted]
        counted.update(map(id, own))
        if own:
            entry = counts.setdefault(type(module).__name__, [0, 0, 0])
            entry[0] += 1
            entry[1] += sum(int(p.numel()) for p in own)
    for layer in layers:
        if layer.leaf and layer.macs:
            counts.setdefault(layer.type, [0, 0, 0])[2] += layer.macs
    result = [
        Share(kind, count, p, m, p / params if params else 0.0, m / macs if macs else 0.0)
        for kind, (count, p, m) in counts.items()
    ]
    return tuple(sorted(result, key=lambda share: (-share.params, -share.macs, share.type)))


def _uncalled(model: Module, called: set[int]) -> dict[str, int]:
    """The outermost modules of which nothing was called, with their parameters."""
    found: dict[str, int] = {}
    above = ""
    for path, module in model.named_modules():
        if above and path.startswith(above):
            continue
        count = sum(int(p.numel()) for p in module.parameters())
        if path and count and not any(id(below) in called for below in module.modules()):
            found[path] = count
            above = f"{path}."
    return found


def _memory(tensors: Iterator[Tensor] | Sequence[Tensor]) -> int:
    return sum(int(tensor._array.nbytes) for tensor in tensors)


def _numbers(shape: Shape) -> int:
    product = 1
    for extent in shape:
        product *= extent
    return product
