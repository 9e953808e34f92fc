"""Receptive fields: which pixels of the input a value of a layer can see.

A layer's field is three numbers for each spatial dimension: its ``size`` in pixels, the ``jump`` from one output to
the next, and the ``start``, where the first output's field begins. A window of kernel k, stride s, padding p and
dilation d turns (size, jump, start) into

    size + d (k - 1) jump,    jump * s,    start - p * jump

(Araujo, Norris and Sim 2019, "Computing receptive fields of convolutional neural networks"). Branches that meet in a
sum or a concatenation see what any of them sees; fully connected layers and global pooling see all positions. It is
the field of the equations: it reaches into the padding, and past the image if the network's is larger. Normalisations
count as working pixel by pixel, though their statistics come from everywhere. Sequences of features, (N, steps,
features), have none: what recurrent layers, or a linear one of such an input, make of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

from gpunet.autograd import Tensor

__all__ = ["Fields", "ReceptiveField"]

Shape = tuple[int, ...]
Number = int | float


class ReceptiveField(NamedTuple):
    """What one value of a layer sees of the input; each entry has a number for each spatial dimension.

    Attributes:
        size: in pixels.
        jump: pixels from one output's field to the next one's.
        start: the first pixel of the first output's field; 0 is the image's first pixel, and negative ones are padding.
    """

    size: tuple[Number, ...]
    jump: tuple[Number, ...]
    start: tuple[Number, ...]

    @property
    def center(self) -> tuple[float, ...]:
        """The middle of the first output's field; 0 is the centre of the image's first pixel."""
        return tuple(start + (size - 1) / 2 for start, size in zip(self.start, self.size, strict=True))


class _Axis(NamedTuple):
    """The field along one of the image's dimensions, and the tensor's dimension that it has become, if it is left."""

    size: Any
    jump: Any
    start: Any
    place: int | None


# A tensor's field; None of one whose field is not known.
_Field = tuple[_Axis, ...] | None
_Rule = Callable[[list[tuple[_Field, Shape]], dict[str, Any], list[Shape]], list[_Field]]


class Fields:
    """The fields of the tensors of one run, found out operation by operation.

    A tensor that does not depend on the image, such as a parameter, has none.
    """

    def __init__(self) -> None:
        # By the identity of the arrays, which several Tensors may share; they are kept, so that none is used twice.
        self._known: dict[int, tuple[Any, int, _Field]] = {}

    def begin(self, image: Tensor) -> None:
        """Note an input of the network: (N, C, d1, ...)."""
        self._set(image, tuple(_Axis(1, 1, 0, place) for place in range(2, image.ndim)))

    def of(self, tensor: Tensor) -> ReceptiveField | None:
        """A tensor's field; None where it has none or it is not known."""
        found = self._get(tensor)
        if not found or found[0] is None or not found[0]:
            return None
        axes = found[0]
        return ReceptiveField(
            tuple(_plain(axis.size) for axis in axes),
            tuple(_plain(axis.jump) for axis in axes),
            tuple(_plain(axis.start) for axis in axes),
        )

    def step(self, op: Any, inputs: Sequence[Any], attributes: dict[str, Any], outputs: Sequence[Tensor]) -> None:
        """Note an operation: its outputs' fields follow from its inputs'."""
        seen: list[tuple[_Field, Shape]] = []
        for value in inputs:
            if isinstance(value, Tensor):
                found = self._get(value)
                if found is not None:
                    seen.append((found[0], tuple(value.shape)))
        if not seen:
            return
        if op.name.startswith("conv"):
            attributes = {**attributes, "kernel": tuple(inputs[1].shape)[2:]}
        shapes = [tuple(output.shape) for output in outputs]
        fields: list[_Field]
        if any(field is None for field, _ in seen):
            fields = [None] * len(shapes)
        else:
            fields = _rule_of(op.name, attributes)(seen, attributes, shapes)
        for output, field in zip(outputs, fields, strict=True):
            self._set(output, field)

    def written(self, target: Tensor, result: Tensor) -> None:
        """Note that a tensor is about to take over the value of a result."""
        found = self._get(result)
        if found is not None:
            self._set(target, found[0], target._counter[0] + 1)

    def _set(self, tensor: Tensor, field: _Field, version: int | None = None) -> None:
        self._known[id(tensor._array)] = (tensor._array, tensor._counter[0] if version is None else version, field)

    def _get(self, tensor: Tensor) -> tuple[_Field] | None:
        known = self._known.get(id(tensor._array))
        if known is None:
            return None
        _, version, field = known
        # What was written to part of it, through an index, is not known.
        return (field if tensor._counter[0] == version else None,)


def _plain(value: Any) -> Number:
    if isinstance(value, Fraction):
        return value.numerator if value.denominator == 1 else float(value)
    return int(value)


# Rules -------------------------------------------------------------------------------------------------------------


def _rule_of(name: str, attributes: dict[str, Any]) -> _Rule:
    if name in _RULES:
        return _RULES[name]
    if name.startswith("adaptive_"):
        return _adaptive
    if "kernel_size" in attributes and "pool" in name:
        return _pool
    if "dim" in attributes and "keepdim" in attributes:
        return _reduce
    return _pointwise


def _window(axis: _Axis, kernel: int, stride: Any, padding: int, dilation: int) -> _Axis:
    return _Axis(
        axis.size + dilation * (kernel - 1) * axis.jump,
        axis.jump * stride,
        axis.start - padding * axis.jump,
        axis.place,
    )


def _whole(axis: _Axis, shape: Shape) -> _Axis:
    """All positions together."""
    extent = 1 if axis.place is None else shape[axis.place]
    return _Axis(axis.size + (extent - 1) * axis.jump, axis.jump, axis.start, None)


def _windows(seen: list[tuple[_Field, Shape]], change: Callable[[_Axis, int, int], _Axis], dims: int) -> _Field:
    """Change the axes that lie along a window's dimensions, the last of the first input.

    Further inputs are what is added to the result, a fused residual.
    """
    field, shape = seen[0]
    assert field is not None
    result = []
    for axis in field:
        number = -1 if axis.place is None else axis.place - (len(shape) - dims)
        result.append(change(axis, number, 0 if axis.place is None else shape[axis.place]) if number >= 0 else axis)
    return tuple(result)


def _convolution(seen: list[tuple[_Field, Shape]], attributes: dict[str, Any], outputs: list[Shape]) -> list[_Field]:
    stride, padding, dilation = attributes["stride"], attributes["padding"], attributes["dilation"]
    kernel = attributes["kernel"]
    field = _windows(
        seen, lambda axis, d, _: _window(axis, kernel[d], stride[d], padding[d][0], dilation[d]), len(stride)
    )
    return [_merged([(field, outputs[0]), *seen[1:]], outputs[0])]


def _transposed(seen: list[tuple[_Field, Shape]], attributes: dict[str, Any], outputs: list[Shape]) -> list[_Field]:
    # Output o takes inputs i with o = i s - p + d t for a tap t: at most ceil(reach / s) neighbours.
    def change(axis: _Axis, d: int, _: int) -> _Axis:
        stride, padding = attributes["stride"][d], attributes["padding"][d][0]
        reach = attributes["dilation"][d] * (attributes["kernel"][d] - 1) + 1
        first = -((reach - 1 - padding) // stride)
        neighbours = -(-reach // stride)
        return _Axis(
            axis.size + (neighbours - 1) * axis.jump, Fraction(axis.jump) / stride, axis.start + first * axis.jump,
            axis.place,
        )  # fmt: skip

    return [_windows(seen, change, len(attributes["stride"]))]


def _pool(seen: list[tuple[_Field, Shape]], attributes: dict[str, Any], outputs: list[Shape]) -> list[_Field]:
    kernel, stride, padding = attributes["kernel_size"], attributes["stride"], attributes["padding"]
    dilation = attributes.get("dilation", (1,) * len(kernel))
    field = _windows(seen, lambda axis, d, _: _window(axis, kernel[d], stride[d], padding[d], dilation[d]), len(kernel))
    return [field] * len(outputs)


def _adaptive(seen: list[tuple[_Field, Shape]], attributes: dict[str, Any], outputs: list[Shape]) -> list[_Field]:
    sizes = attributes["output_size"]

    def change(axis: _Axis, d: int, extent: int) -> _Axis:
        count = sizes[d]
        longest = max(-(-(i + 1) * extent // count) - i * extent // count for i in range(count))
        return _window(axis, longest, Fraction(extent, count), 0, 1)

    return [_windows(seen, change, len(sizes))] * len(outputs)


def _resize(seen: list[tuple[_Field, Shape]], attributes: dict[str, Any], outputs: list[Shape]) -> list[_Field]:
    sizes = attributes["size"]
    reach = {"linear": 1, "bilinear": 1, "trilinear": 1, "cubic": 3, "bicubic": 3}.get(attributes["mode"], 0)

    def change(axis: _Axis, d: int, extent: int) -> _Axis:
        return _Axis(axis.size + reach * axis.jump, axis.jump * Fraction(extent, sizes[d]), axis.start, axis.place)

    return [_windows(seen, change, len(sizes))]


def _shuffle(seen: list[tuple[_Field, Shape]], attributes: dict[str, Any], outputs: list[Shape]) -> list[_Field]:
    """Pixels to channels and back: blocks of pixels become one, or one pixel becomes a block."""
    (field, shape) = seen[0]
    assert field is not None
    result = []
    for axis in field:
        if axis.place is None:
            result.append(axis)
            continue
        before, after = shape[axis.place], outputs[0][axis.place]
        block = max(1, before // max(1, after))
        result.append(axis._replace(size=axis.size + (block - 1) * axis.jump, jump=axis.jump * Fraction(before, after)))
    return [tuple(result)]


def _padded(seen: list[tuple[_Field, Shape]], attributes: dict[str, Any], outputs: list[Shape]) -> list[_Field]:
    field, shape = seen[0]
    assert field is not None
    before = attributes["padding"][::2]  # of the last dimension first
    result = []
    for axis in field:
        number = len(shape) if axis.place is None else len(shape) - 1 - axis.place
        result.append(_window(axis, 1, 1, before[number], 1) if number < len(before) else axis)
    return [tuple(result)]


def _linear(seen: list[tuple[_Field, Shape]], attributes: dict[str, Any], outputs: list[Shape]) -> list[_Field]:
    field, shape = seen[0]
    assert field is not None
    if field == (_Axis(1, 1, 0, len(shape) - 1),):  # an input (N, steps, features): a sequence, not an image of one row
        return [None]
    mixed = tuple(_whole(axis, shape) if axis.place == len(shape) - 1 else axis for axis in field)
    return [_merged([(mixed, outputs[0]), *seen[1:]], outputs[0])]


def _everywhere(seen: list[tuple[_Field, Shape]], attributes: dict[str, Any], outputs: list[Shape]) -> list[_Field]:
    """Any output may see all of every input."""
    whole = [(tuple(_whole(axis, shape) for axis in field or ()), shape) for field, shape in seen]
    return [_merged(whole, shape) for shape in outputs]


def _unknown(seen: list[tuple[_Field, Shape]], attributes: dict[str, Any], outputs: list[Shape]) -> list[_Field]:
    """Recurrent layers: what is seen grows from step to step, and the last dimension is no position."""
    return [None] * len(outputs)


def _softmax(seen: list[tuple[_Field, Shape]], attributes: dict[str, Any], outputs: list[Shape]) -> list[_Field]:
    field, shape = seen[0]
    assert field is not None
    dim = attributes["dim"] % len(shape)
    if not any(axis.place == dim for axis in field):
        return [field]
    everything = tuple(_whole(axis, shape) if axis.place == dim else axis for axis in field)
    return [_merged([(field, shape), (everything, shape)], shape)]


def _pointwise(seen: list[tuple[_Field, Shape]], attributes: dict[str, Any], outputs: list[Shape]) -> list[_Field]:
    shapes = [shape for _, shape in seen]
    if all(_broadcasts(shapes, output) for output in outputs):
        return [_merged(seen, output) for output in outputs]
    return _everywhere(seen, attributes, outputs)


def _broadcasts(shapes: list[Shape], output: Shape) -> bool:
    return all(
        len(shape) <= len(output) and all(a in (1, b) for a, b in zip(reversed(shape), reversed(output), strict=False))
        for shape in shapes
    )


def _joined(seen: list[tuple[_Field, Shape]], attributes: dict[str, Any], outputs: list[Shape]) -> list[_Field]:
    output = outputs[0]
    dim = attributes["dim"] % len(output)
    if any(axis.place == dim for field, _ in seen for axis in field or ()):
        return _everywhere(seen, attributes, outputs)
    return [_merged(seen, output)]


def _stacked(seen: list[tuple[_Field, Shape]], attributes: dict[str, Any], outputs: list[Shape]) -> list[_Field]:
    dim = attributes["dim"] % len(outputs[0])
    moved = [(_moved(field, lambda place: place + (place >= dim)), outputs[0]) for field, _ in seen]
    return [_merged(moved, outputs[0])]


def _split(seen: list[tuple[_Field, Shape]], attributes: dict[str, Any], outputs: list[Shape]) -> list[_Field]:
    field, shape = seen[0]
    assert field is not None
    dim, offset, result = attributes["dim"] % len(shape), 0, []
    for output in outputs:
        result.append(tuple(_window(axis, 1, 1, -offset, 1) if axis.place == dim else axis for axis in field))
        offset += output[dim]
    return list(result)


def _sliced(seen: list[tuple[_Field, Shape]], attributes: dict[str, Any], outputs: list[Shape]) -> list[_Field]:
    field, shape = seen[0]
    axes = {axis.place: axis for axis in field or ()}
    source = target = 0
    index = [entry for entry in attributes["index"] if entry is not Ellipsis]
    for entry in index:
        if entry is None:
            target += 1
            continue
        axis = axes.get(source)
        if isinstance(entry, slice):
            start, _, step = entry.indices(shape[source])
            if axis is not None:
                axes[source] = _Axis(axis.size, axis.jump * step, axis.start + start * axis.jump, target)
            target += 1
        elif axis is not None:
            axes[source] = axis._replace(start=axis.start + (entry % shape[source]) * axis.jump, place=None)
        source += 1
    shift = target - source
    done = source
    return [
        tuple(
            axis._replace(place=place + shift) if place is not None and place >= done else axis
            for place, axis in axes.items()
        )
    ]


def _reduce(seen: list[tuple[_Field, Shape]], attributes: dict[str, Any], outputs: list[Shape]) -> list[_Field]:
    field, shape = seen[0]
    dim = attributes["dim"]
    given = range(len(shape)) if dim is None or dim == () else [dim] if isinstance(dim, int) else dim
    gone = {entry % len(shape) for entry in given} if shape else set()

    def place_of(place: int) -> int:
        return place if attributes["keepdim"] else place - sum(axis < place for axis in gone)

    whole = tuple(_whole(axis, shape) if axis.place in gone else axis for axis in field or ())
    return [_moved(whole, place_of)] * len(outputs)


def _reshaped(seen: list[tuple[_Field, Shape]], attributes: dict[str, Any], outputs: list[Shape]) -> list[_Field]:
    field, shape = seen[0]
    kept = _kept_axes(shape, outputs[0])
    return [
        tuple(
            axis._replace(place=kept[axis.place]) if axis.place in kept else _whole(axis, shape) for axis in field or ()
        )
    ]


def _kept_axes(before: Shape, after: Shape) -> dict[int | None, int]:
    """The dimensions that a reshape leaves as they are, and where they come to lie; the others are merged or split."""
    kept: dict[int | None, int] = {}
    i = j = 0
    while i < len(before) and j < len(after):
        if before[i] != after[j] and 1 in (before[i], after[j]):  # a dimension of 1 that goes or comes
            i, j = i + (before[i] == 1), j + (after[j] == 1)
            continue
        first, target, a, b = i, j, before[i], after[j]
        while a != b:
            if a < b and i + 1 < len(before):
                i += 1
                a *= before[i]
            elif b < a and j + 1 < len(after):
                j += 1
                b *= after[j]
            else:
                return kept
        if i == first and j == target:
            kept[first] = target
        i, j = i + 1, j + 1
    return kept


def _permuted(seen: list[tuple[_Field, Shape]], attributes: dict[str, Any], outputs: list[Shape]) -> list[_Field]:
    field, shape = seen[0]
    order = [dim % len(shape) for dim in attributes["dims"]]
    return [_moved(field, order.index)]


def _moved(field: _Field, place_of: Callable[[int], int]) -> _Field:
    return tuple(axis if axis.place is None else axis._replace(place=place_of(axis.place)) for axis in field or ())


def _merged(operands: Sequence[tuple[_Field, Shape]], output: Shape) -> _Field:
    """What a value sees that several tensors, broadcast to a shape, go into; None if their positions do not fit."""
    fields = [(field, shape) for field, shape in operands if field]
    if not fields:
        return ()
    if len(fields) == 1 and fields[0][1] == output:
        return fields[0][0]
    if len({len(field) for field, _ in fields}) > 1:
        return None
    result = []
    for axes in zip(*(_aligned(field, shape, len(output)) for field, shape in fields), strict=True):
        merged = _merged_axis(list(axes), output)
        if merged is None:
            return None
        result.append(merged)
    return tuple(result)


def _aligned(field: tuple[_Axis, ...], shape: Shape, ndim: int) -> list[tuple[_Axis, int]]:
    """The axes as of the broadcast tensor, each with its extent."""
    extra = ndim - len(shape)
    return [
        (axis, 1) if axis.place is None else (axis._replace(place=axis.place + extra), shape[axis.place])
        for axis in field
    ]


def _merged_axis(axes: list[tuple[_Axis, int]], output: Shape) -> _Axis | None:
    places = {axis.place for axis, _ in axes} - {None}
    if len(places) > 1:
        return None
    place = places.pop() if places else None
    count = 1 if place is None else output[place]
    moving = [axis for axis, extent in axes if extent > 1]
    if len({axis.jump for axis in moving}) > 1:
        return None
    jump = moving[0].jump if moving else max(axis.jump for axis, _ in axes)
    begin = min(axis.start for axis, _ in axes)
    # The same for all positions, or travelling with them: the widest is at one of the two ends.
    size = max(
        max(axis.start + axis.size + (at if extent > 1 else 0) for axis, extent in axes)
        - min(axis.start + (at if extent > 1 else 0) for axis, extent in axes)
        for at in (0, (count - 1) * jump)
    )
    return _Axis(size, jump, begin, place)


_RULES: dict[str, _Rule] = {
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), _convolution),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), _transposed),
    **dict.fromkeys(("interpolate1d", "interpolate2d", "interpolate3d"), _resize),
    **dict.fromkeys(("pixel_shuffle", "pixel_unshuffle", "max_unpool1d", "max_unpool2d", "max_unpool3d"), _shuffle),
    **dict.fromkeys(("pad", "reflection_pad", "replication_pad", "circular_pad"), _padded),
    **dict.fromkeys(("softmax", "log_softmax"), _softmax),
    **dict.fromkeys(
        (
            "matmul", "einsum", "bilinear", "gather", "gather_index", "index_select", "index_add", "scatter",
            "scatter_add", "sort", "topk", "flip", "roll", "repeat", "cumsum", "cumprod", "logcumsumexp", "cummax",
            "cummin", "unfold", "fold", "grid_sample", "diagonal", "diag_embed", "set_index", "cdist",
        ),
        _everywhere,
    ),
    **dict.fromkeys(("rnn", "lstm", "gru"), _unknown),
    "linear": _linear,
    "cat": _joined,
    "stack": _stacked,
    "split": _split,
    "slice": _sliced,
    "reshape": _reshaped,
    "squeeze": _reshaped,
    "unsqueeze": _reshaped,
    "permute": _permuted,
}  # fmt: skip
