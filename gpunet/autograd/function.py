"""``apply``: the one way from Tensors to operations."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np

from gpunet.autograd.engine import Node
from gpunet.autograd.grad_mode import state as grad_state
from gpunet.autograd.observer import Computation, computing, module_path
from gpunet.autograd.observer import state as observer_state
from gpunet.autograd.tensor import Tensor
from gpunet.backend.devices import META, Device, MetaArray, cupy, on_device, transfer
from gpunet.backend.errors import DeviceError, ShapeError
from gpunet.backend.memory import empty
from gpunet.ops import REGISTRY
from gpunet.ops.base import NO_GRAD, Op
from gpunet.ops.dtypes import canonical_dtype, is_floating
from gpunet.ops.indexing import assign, is_logical_view

__all__ = ["ShapeError", "apply"]

SET_INDEX = REGISTRY["set_index"]


def apply(op: Op, *inputs: Any, output_device: Device | None = None, **attributes: Any) -> Any:
    """Run an operation on Tensors and record it if a gradient may be asked for.

    Checks devices, then shapes and dtypes (``op.infer``) before anything runs; on ``meta`` nothing else happens.

    Args:
        op: an operation of the registry.
        inputs: Tensors, Python scalars where the operation takes them, None for an input left out.
        output_device: where the result lives, if not where the inputs do.
        attributes: the operation's keyword arguments.

    Returns:
        a Tensor, or a tuple of them if the operation has several outputs.

    Raises:
        DeviceError: inputs on different devices.
        ShapeError, DTypeError, ValueError: what ``op.infer`` finds.
        TypeError: an input is an array or something else that is no Tensor.
    """
    device: Device | None = None
    needed = False
    arrays: list[Any] = []
    needs: list[bool] = []
    for value in inputs:
        if isinstance(value, Tensor):
            if device is None:
                device = value._device
            elif value._device is not device:
                raise DeviceError(
                    f"{op.name}: all tensors must be on one device, got {str(device)!r} and {str(value._device)!r}; "
                    f"move one with .to(...)"
                )
            arrays.append(value._array)
            if value._view is not None and value._counter[1] != value._stamp:
                value._refresh()
            wants = value._requires_grad
            needs.append(wants)
            needed = needed or wants
        elif value is None or isinstance(value, (int, float, np.generic)):
            arrays.append(value)
            needs.append(False)
        else:
            raise TypeError(f"{op.name}: inputs must be Tensors, got {type(value).__name__}")
    if device is None:
        raise TypeError(f"{op.name}: at least one input must be a Tensor, got {type(inputs[0]).__name__}")
    inferred = op.infer(*arrays, **attributes)
    target = device if output_device is None else output_device
    if device is META:
        specs = inferred.outputs
        made = tuple(Tensor._wrap(MetaArray(spec.shape, spec.dtype), target) for spec in specs)
        if observer_state.observers:
            _notify(op, inputs, attributes, made)
        return made if len(made) > 1 or op.name == "split" else made[0]
    recording = needed and grad_state.enabled and op.differentiable
    node = Node(op, tuple(needs), attributes, device) if recording else None
    observers = observer_state.observers
    with np.errstate(all="ignore"):  # PyTorch's arithmetic is silent about overflow and 0 / 0
        if observers:
            result = _watched(op, node or NO_GRAD, arrays, attributes, inferred.macs, device)
        elif device.type == "cuda":
            with cupy().cuda.Device(device.index):
                result = op.forward(node or NO_GRAD, *arrays, **attributes)
        else:
            result = op.forward(node or NO_GRAD, *arrays, **attributes)
    several = type(result) is tuple
    outputs = []
    for index, array in enumerate(result if several else (result,)):
        if isinstance(array, np.generic):  # NumPy turns 0-d results into scalars
            array = np.asarray(array)
        tensor = Tensor._wrap(array, target)
        if op.is_view:
            shared = shares(array, arrays[0])
            if shared or _is_copied_view(inputs[0], op, attributes):
                _make_view(tensor, inputs[0], op, attributes, index, not shared)
        if node is not None and is_floating(array.dtype):
            tensor._requires_grad = True
            tensor._node = node
            tensor._index = index
        outputs.append(tensor)
    if node is not None:
        connect(node, inputs, outputs)
    if observers:
        _notify(op, inputs, attributes, tuple(outputs))
    return tuple(outputs) if several else outputs[0]


def connect(node: Node, inputs: tuple[Any, ...], outputs: list[Tensor]) -> None:
    """Connect a node to its inputs, and note the versions of what it saved."""
    node.outputs = tuple((tensor._array.shape, tensor._array.dtype) for tensor in outputs)
    edges: list[Any] = []
    for value, wants in zip(inputs, node.needs_grad, strict=True):
        if not wants:
            edges.append(None)
        elif value._node is None:
            edges.append((value, 0))
        else:
            edges.append((value._node, value._index))
    node.edges = edges
    for position, array in enumerate(node.saved):
        if array is None:
            continue
        for tensor in (*inputs, *outputs):
            if isinstance(tensor, Tensor) and tensor._array is array:
                node.versions.append((tensor._counter, tensor._counter[0], position))
                break


def _make_view(tensor: Tensor, source: Tensor, op: Op, attributes: dict[str, Any], number: int, copied: bool) -> None:
    """Note what a tensor is a view of, and how it comes from there: what is written to one is seen in all.

    ``copied`` says that its elements had to be copied, though PyTorch's are the same memory: activations lie
    channels-last here. Such a tensor follows what is written to the others when it is next used, and hands on what is
    written to it; so do views of it.
    """
    counter = tensor._counter = source._counter
    root, steps, seen = (source, (), True) if source._view is None else source._view
    # A view that gradient mode did not see has no place in the graph.
    tensor._view = (root, (*steps, (op, attributes, number)), seen and grad_state.enabled)
    copied = copied or type(source._stamp) is tuple
    tensor._stamp = (counter[0], counter[1]) if copied else counter[1]


def _is_copied_view(source: Tensor, op: Op, attributes: dict[str, Any]) -> bool:
    """Whether PyTorch, whose elements lie in logical order, would not copy them."""
    root, steps = (source, ()) if source._view is None else source._view[:2]
    return is_logical_view(root.shape, (*steps, (op, attributes, 0)))


def note_copy(copy: Tensor, source: Any) -> None:
    """Note that a tensor is a copy where PyTorch's would be a view, so that no write is lost: in-place refuses both.

    It lasts for as long as both are in use.
    """
    root = source if source._view is None else source._view[0]
    others = [other for other in root._counter[2] or () if other() is not None]
    root._counter[2] = [*others, weakref.ref(copy)]
    copy._counter[2] = [weakref.ref(root)]


def shares(a: Any, b: Any) -> bool:
    """Whether two arrays may share memory (their extents overlap); of no elements they always do, views of nothing."""
    if not a.size or not b.size:
        return True
    if isinstance(a, np.ndarray):
        return bool(np.may_share_memory(a, b))
    return bool(cupy().may_share_memory(a, b))


def _watched(op: Op, context: Any, arrays: list[Any], attributes: dict[str, Any], macs: int, device: Device) -> Any:
    """The forward computation, with observers told when it begins and ends."""
    computation = Computation("forward", op, context, device, tuple(arrays), attributes, macs)
    with on_device(device), computing(computation):
        computation.results = op.forward(context, *arrays, **attributes)
    return computation.results


def _notify(op: Op, inputs: tuple[Any, ...], attributes: dict[str, Any], outputs: tuple[Tensor, ...]) -> None:
    path = module_path()
    for observer in list(observer_state.observers):
        observer(op, inputs, attributes, outputs, path)


def operand(tensor: Any, other: Any) -> Any:
    """The other side of an operator: a Tensor, a Python scalar, or NotImplemented."""
    if isinstance(other, np.generic):  # before float, which numpy.float64 is too
        return other.item()
    if isinstance(other, (Tensor, bool, int, float)):
        return other
    if isinstance(other, np.ndarray):
        return Tensor._wrap(to_device_array(other, tensor._device), tensor._device)
    return NotImplemented


def as_operand(value: Any, like: Any) -> Tensor:
    """A number as a 0-d Tensor of another's dtype and device."""
    return Tensor._wrap(full_array((), value, like.dtype, like._device), like._device)


def to_device_array(array: np.ndarray, device: Device) -> Any:
    """A NumPy array as the array of a device, of a dtype gpunet has."""
    dtype = canonical_dtype(array.dtype)
    return transfer(array if array.dtype == dtype else array.astype(dtype), device)


def full_array(shape: tuple[int, ...], value: Any, dtype: Any, device: Device) -> Any:
    """A new array of one value; None leaves it uninitialised."""
    if device is META:
        return MetaArray(tuple(shape), dtype)
    if device.type == "cpu":
        array = empty(tuple(shape), dtype)
        if value is not None:
            array[...] = value
        return array
    with cupy().cuda.Device(device.index):
        return cupy().empty(shape, dtype) if value is None else cupy().full(shape, value, dtype)


def write_index(array: Any, indices: list[Any], layout: tuple[Any, ...], value: Any) -> None:
    """Write to an index of an array, checked as reading is."""
    SET_INDEX.infer(array, value, *indices, layout=layout)
    if not isinstance(array, MetaArray):
        assign(array, value, indices, layout)


def check_index(array: Any, layout: tuple[Any, ...]) -> None:
    """Raise what a basic index that does not fit raises, before anything is done with it."""
    REGISTRY["slice"].infer(array, index=layout)


def address(array: Any) -> int:
    """Where an array's first element lies."""
    return int(array.__array_interface__["data"][0] if isinstance(array, np.ndarray) else array.data.ptr)


def wrap(array: Any, device: Device) -> Tensor:
    """A Tensor around an array, which it shares."""
    return Tensor._wrap(array, device)
