"""Operations that rearrange elements: reshape, permute, expand, cat, stack, split and pad.

Those marked ``is_view`` share memory with their input wherever its strides allow it. ``reshape`` always speaks of the
logical order of elements, whatever the physical one is, and copies when it must.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from gpunet.backend.errors import ShapeError
from gpunet.backend.memory import empty
from gpunet.ops.base import Context, Inferred, Op, Sample, Spec, module_of, register
from gpunet.ops.dtypes import promote_types
from gpunet.ops.elementwise import unbroadcast
from gpunet.ops.reduce import normalize_axis

__all__ = ["infer_reshape"]

Shape = tuple[int, ...]


def infer_reshape(shape: Shape, wanted: Sequence[int]) -> Shape:
    """The full shape of a reshape with at most one -1.

    Raises:
        ShapeError: the sizes do not multiply to the number of elements.
    """
    size = math.prod(shape)
    target = tuple(wanted)
    unknown = [position for position, extent in enumerate(target) if extent == -1]
    known = math.prod(extent for extent in target if extent != -1)
    if len(unknown) > 1 or any(extent < -1 for extent in target):
        raise ShapeError(f"reshape: shape may hold one -1 and no other negative size, got {target}")
    if unknown:
        if known == 0 or size % known:
            raise ShapeError(f"reshape: {size} elements of shape {shape} cannot be arranged as {target}")
        target = (*target[: unknown[0]], size // known, *target[unknown[0] + 1 :])
    elif known != size:
        raise ShapeError(f"reshape: {size} elements of shape {shape} cannot be arranged as {target}")
    return target


def _draw(*shape: int) -> Any:
    return np.random.default_rng(31).standard_normal(shape)


def _channels_last() -> Any:
    return _draw(2, 4, 5, 3).transpose(0, 3, 1, 2)


class Reshape(Op):
    """The elements in logical (row-major) order under another shape."""

    name = "reshape"
    is_view = True

    def infer(self, *inputs: Any, shape: Shape) -> Inferred:
        (x,) = inputs
        return Inferred((Spec(infer_reshape(tuple(x.shape), shape), x.dtype),))

    def forward(self, ctx: Context, *inputs: Any, shape: Shape) -> Any:
        (x,) = inputs
        ctx.state = tuple(x.shape)
        return x.reshape(shape)

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        return (grad_outputs[0].reshape(ctx.state),)

    def samples(self) -> Iterator[Sample]:
        yield Sample("flatten", (_draw(2, 3, 4),), {"shape": (2, -1)})
        yield Sample("channels last", (_channels_last(),), {"shape": (2, -1)})
        yield Sample("add a dimension", (_draw(6),), {"shape": (1, 6, 1)})
        yield Sample("empty batch", (_draw(0, 4),), {"shape": (0, 2, 2)})


register(Reshape())


class Permute(Op):
    """y[i_p0, i_p1, ...] = x[i_0, i_1, ...]: dimension ``dims[k]`` of x becomes dimension k."""

    name = "permute"
    is_view = True

    def infer(self, *inputs: Any, dims: Shape) -> Inferred:
        (x,) = inputs
        if len(dims) != x.ndim:
            raise ShapeError(f"permute: dims must name all {x.ndim} dimensions, got {dims}")
        axes = [normalize_axis("permute", axis, x.ndim) for axis in dims]
        if len(set(axes)) != len(axes):
            raise ShapeError(f"permute: dims names a dimension twice: {dims}")
        return Inferred((Spec(tuple(x.shape[axis] for axis in axes), x.dtype),))

    def forward(self, ctx: Context, *inputs: Any, dims: Shape) -> Any:
        return inputs[0].transpose(dims)

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        dims = ctx.attributes["dims"]
        inverse = [0] * len(dims)
        for position, axis in enumerate(dims):
            inverse[axis] = position
        return (grad_outputs[0].transpose(inverse),)

    def samples(self) -> Iterator[Sample]:
        yield Sample("NCHW to NHWC", (_draw(2, 3, 4, 5),), {"dims": (0, 2, 3, 1)})
        yield Sample("negative", (_draw(2, 3, 4),), {"dims": (-1, 0, 1)})
        yield Sample("empty batch", (_draw(0, 3, 4),), {"dims": (1, 0, 2)})


register(Permute())


class Expand(Op):
    """Sizes of one stretched to ``shape`` without copying; -1 keeps a size."""

    name = "expand"
    is_view = True

    def infer(self, *inputs: Any, shape: Shape) -> Inferred:
        (x,) = inputs
        extra = len(shape) - x.ndim
        if extra < 0:
            raise ShapeError(
                f"expand: shape needs at least {x.ndim} sizes for an input of shape {tuple(x.shape)}, got {shape}"
            )
        result = []
        for position, extent in enumerate(shape):
            own = x.shape[position - extra] if position >= extra else None
            if extent == -1 and own is not None:
                extent = own
            if extent < 0 or (own is not None and own not in (1, extent)):
                raise ShapeError(
                    f"expand: an input of shape {tuple(x.shape)} cannot be expanded to {shape}: "
                    f"only sizes of 1 stretch, and -1 only keeps an existing size"
                )
            result.append(extent)
        return Inferred((Spec(tuple(result), x.dtype),))

    def forward(self, ctx: Context, *inputs: Any, shape: Shape) -> Any:
        (x,) = inputs
        ctx.state = Spec(tuple(x.shape), x.dtype)
        wanted = self.infer(x, shape=shape).outputs[0].shape
        extra = len(wanted) - x.ndim
        if wanted == (1,) * extra + tuple(x.shape):  # nothing stretches: the view can be written to
            return x[(*(None,) * extra, ...)]
        return module_of(x).broadcast_to(x, wanted)

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        return (unbroadcast(grad_outputs[0], ctx.state),)

    def samples(self) -> Iterator[Sample]:
        yield Sample("stretch", (_draw(3, 1),), {"shape": (3, 4)})
        yield Sample("new dimensions", (_draw(3, 1),), {"shape": (2, -1, 4)})
        yield Sample("nothing stretched", (_draw(3, 2),), {"shape": (1, 3, -1)})
        yield Sample("0-d", (_draw(),), {"shape": (2, 3)})
        yield Sample("empty batch", (_draw(0, 1),), {"shape": (-1, 4)})


register(Expand())


class Squeeze(Op):
    """Dimensions of size one removed: those named that have it, or all."""

    name = "squeeze"
    is_view = True

    def infer(self, *inputs: Any, dim: Shape | None) -> Inferred:
        (x,) = inputs
        gone = self._axes(x, dim)
        return Inferred((Spec(tuple(e for axis, e in enumerate(x.shape) if axis not in gone), x.dtype),))

    def _axes(self, x: Any, dim: Shape | None) -> Shape:
        named = range(x.ndim) if dim is None else [normalize_axis("squeeze", axis, x.ndim) for axis in dim]
        if len(set(named)) != len(named):
            raise ShapeError(f"squeeze: dim names a dimension twice: {dim}")
        return tuple(axis for axis in named if x.ndim and x.shape[axis] == 1)

    def forward(self, ctx: Context, *inputs: Any, dim: Shape | None) -> Any:
        (x,) = inputs
        ctx.state = tuple(x.shape)
        axes = self._axes(x, dim)
        # A view even when nothing is squeezed, so that the output is another array than the input.
        return x.squeeze(axes) if axes else x[...]

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        return (grad_outputs[0].reshape(ctx.state),)

    def samples(self) -> Iterator[Sample]:
        yield Sample("all", (_draw(1, 3, 1, 2),), {"dim": None})
        yield Sample("one", (_draw(1, 3, 1, 2),), {"dim": (-2,)})
        yield Sample("not of size one", (_draw(1, 3),), {"dim": (1,)})
        yield Sample("empty batch", (_draw(0, 1),), {"dim": (1,)})


register(Squeeze())


class Unsqueeze(Op):
    """A dimension of size one inserted before ``dim``."""

    name = "unsqueeze"
    is_view = True

    def infer(self, *inputs: Any, dim: int) -> Inferred:
        (x,) = inputs
        axis = normalize_axis("unsqueeze", dim, x.ndim + 1)
        shape = tuple(x.shape)
        return Inferred((Spec((*shape[:axis], 1, *shape[axis:]), x.dtype),))

    def forward(self, ctx: Context, *inputs: Any, dim: int) -> Any:
        (x,) = inputs
        axis = normalize_axis("unsqueeze", dim, x.ndim + 1)
        ctx.state = axis
        return module_of(x).expand_dims(x, axis)

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        return (grad_outputs[0].squeeze(ctx.state),)

    def samples(self) -> Iterator[Sample]:
        yield Sample("front", (_draw(3, 2),), {"dim": 0})
        yield Sample("back, channels last", (_channels_last(),), {"dim": -1})
        yield Sample("empty batch", (_draw(0, 2),), {"dim": 1})


register(Unsqueeze())


class ChannelRoom:
    """Memory for activations (N, C, H, W) that grow by channels: only what is new is copied when more is joined.

    What was joined earlier and what is joined to it share memory: neither is to be written to in place.

    Args:
        channels: how many there will be at last.
    """

    def __init__(self, channels: int) -> None:
        self.channels = channels
        self._pixels: Any = None  # (N, H, W, channels)
        self._last: Any = None  # what was joined last

    def __eq__(self, other: object) -> bool:
        # As an attribute of an operation it is its size: what lies in it changes no result.
        return isinstance(other, ChannelRoom) and other.channels == self.channels

    def __hash__(self) -> int:
        return hash(self.channels)

    def join(self, *arrays: Any) -> Any:
        """The arrays' channels one after the other, or None where there is no room for them."""
        first = arrays[0]
        if any(type(x) is not np.ndarray or x.ndim != 4 or x.dtype != first.dtype for x in arrays):
            return None
        if sum(x.shape[1] for x in arrays) > self.channels:
            return None
        filled = first.shape[1] if first is self._last else 0  # that lies here already, and nothing behind it
        if not filled:
            n, _, h, w = first.shape
            self._pixels = empty((n, h, w, self.channels), first.dtype)
        for x in arrays[1:] if filled else arrays:
            self._pixels[..., filled : filled + x.shape[1]] = x.transpose(0, 2, 3, 1)
            filled += x.shape[1]
        self._last = self._pixels[..., :filled].transpose(0, 3, 1, 2)
        return self._last


class Cat(Op):
    """Arrays joined along an existing dimension; dtypes promote. Inputs of shape (0,) are skipped, as in PyTorch.

    ``room`` says where to, if the inputs lie there partly.
    """

    name = "cat"

    def infer(self, *inputs: Any, dim: int, room: ChannelRoom | None = None) -> Inferred:
        if not inputs:
            raise ValueError("cat: tensors must hold at least one tensor")
        real = [x for x in inputs if tuple(x.shape) != (0,)] or list(inputs)
        dtype = inputs[0].dtype
        for x in inputs[1:]:
            dtype = promote_types(dtype, x.dtype)
        first = real[0]
        if first.ndim == 0:
            raise ShapeError("cat: 0-d tensors cannot be joined; use stack")
        axis = normalize_axis("cat", dim, first.ndim)
        shape = list(first.shape)
        shape[axis] = 0
        for x in real:
            if x.ndim != first.ndim or any(
                extent != first.shape[position] for position, extent in enumerate(x.shape) if position != axis
            ):
                raise ShapeError(
                    f"cat: shapes must agree except in dim {dim}, got {tuple(first.shape)} and {tuple(x.shape)}"
                )
            shape[axis] += x.shape[axis]
        return Inferred((Spec(tuple(shape), dtype),))

    def forward(self, ctx: Context, *inputs: Any, dim: int, room: ChannelRoom | None = None) -> Any:
        real = [x for x in inputs if tuple(x.shape) != (0,)] or list(inputs)
        axis = normalize_axis("cat", dim, real[0].ndim)
        dtype = self.infer(*inputs, dim=dim).outputs[0].dtype
        ctx.state = (axis, [Spec(tuple(x.shape), x.dtype) for x in inputs])
        if room is not None and axis == 1:
            y = room.join(*inputs)
            if y is not None:
                return y
        module = module_of(*inputs)
        y = module.concatenate([x if x.dtype == dtype else x.astype(dtype) for x in real], axis=axis)
        if y.ndim == 4 and all(x.transpose(0, 2, 3, 1).flags.c_contiguous for x in real):
            # Keep channels-last: NumPy does so for arrays, CuPy makes C order.
            y = y if y.transpose(0, 2, 3, 1).flags.c_contiguous else _to_nhwc(y, module)
        return y

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        (grad,) = grad_outputs
        axis, specs = ctx.state
        gradients: list[Any] = []
        start = 0
        for spec, needed in zip(specs, ctx.needs_grad, strict=True):
            if spec.shape == (0,) and grad.ndim != 1:
                gradients.append(module_of(grad).zeros((0,), spec.dtype) if needed else None)
                continue
            stop = start + spec.shape[axis]
            piece = grad[(slice(None),) * axis + (slice(start, stop),)]
            gradients.append(piece.astype(spec.dtype, copy=False) if needed else None)
            start = stop
        return tuple(gradients)

    def samples(self) -> Iterator[Sample]:
        yield Sample("rows", (_draw(2, 3), _draw(1, 3)), {"dim": 0})
        yield Sample("channels, channels last", (_channels_last(), _channels_last()[:, :2]), {"dim": 1})
        yield Sample("three, negative", (_draw(2, 1), _draw(2, 2), _draw(2, 3)), {"dim": -1})
        yield Sample("empty batch", (_draw(0, 2), _draw(0, 3)), {"dim": 1})


def _to_nhwc(x: Any, module: Any) -> Any:
    return module.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


register(Cat())


class Stack(Op):
    """Arrays of one shape joined along a new dimension."""

    name = "stack"

    def infer(self, *inputs: Any, dim: int) -> Inferred:
        if not inputs:
            raise ValueError("stack: tensors must hold at least one tensor")
        shape = tuple(inputs[0].shape)
        dtype = inputs[0].dtype
        for x in inputs[1:]:
            if tuple(x.shape) != shape:
                raise ShapeError(f"stack: tensors must have one shape, got {shape} and {tuple(x.shape)}")
            dtype = promote_types(dtype, x.dtype)
        axis = normalize_axis("stack", dim, len(shape) + 1)
        return Inferred((Spec((*shape[:axis], len(inputs), *shape[axis:]), dtype),))

    def forward(self, ctx: Context, *inputs: Any, dim: int) -> Any:
        dtype = self.infer(*inputs, dim=dim).outputs[0].dtype
        axis = normalize_axis("stack", dim, inputs[0].ndim + 1)
        ctx.state = (axis, [x.dtype for x in inputs])
        return module_of(*inputs).stack([x.astype(dtype, copy=False) for x in inputs], axis=axis)

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        (grad,) = grad_outputs
        axis, dtypes = ctx.state
        return tuple(
            grad[(slice(None),) * axis + (position,)].astype(dtype, copy=False) if needed else None
            for position, (dtype, needed) in enumerate(zip(dtypes, ctx.needs_grad, strict=True))
        )

    def samples(self) -> Iterator[Sample]:
        yield Sample("front", (_draw(2, 3), _draw(2, 3)), {"dim": 0})
        yield Sample("back", (_draw(2, 3), _draw(2, 3)), {"dim": -1})
        yield Sample("0-d", (_draw(), _draw()), {"dim": 0})


register(Stack())


class Split(Op):
    """Consecutive pieces of the given sizes along one dimension."""

    name = "split"
    is_view = True

    def infer(self, *inputs: Any, sizes: Shape, dim: int) -> Inferred:
        (x,) = inputs
        axis = normalize_axis("split", dim, x.ndim)
        if x.ndim == 0:
            raise ShapeError("split: a 0-d tensor cannot be split")
        if any(size < 0 for size in sizes) or sum(sizes) != x.shape[axis]:
            raise ShapeError(f"split: sizes must add up to {x.shape[axis]}, the size of dim {dim}, got {sizes}")
        shape = tuple(x.shape)
        return Inferred(tuple(Spec((*shape[:axis], size, *shape[axis + 1 :]), x.dtype) for size in sizes))

    def forward(self, ctx: Context, *inputs: Any, sizes: Shape, dim: int) -> Any:
        (x,) = inputs
        axis = normalize_axis("split", dim, x.ndim)
        ctx.state = (tuple(x.shape), axis, x.dtype)
        pieces, start = [], 0
        for size in sizes:
            pieces.append(x[(slice(None),) * axis + (slice(start, start + size),)])
            start += size
        return tuple(pieces)

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        shape, axis, dtype = ctx.state
        module = module_of(*grad_outputs)
        pieces = [
            module.zeros((*shape[:axis], size, *shape[axis + 1 :]), dtype) if grad is None else grad
            for grad, size in zip(grad_outputs, ctx.attributes["sizes"], strict=True)
        ]
        return (module.concatenate(pieces, axis=axis),)

    def samples(self) -> Iterator[Sample]:
        yield Sample("halves", (_draw(4, 3),), {"sizes": (2, 2), "dim": 0})
        yield Sample("uneven, channels last", (_channels_last(),), {"sizes": (1, 2), "dim": 1})
        yield Sample("empty batch", (_draw(0, 3),), {"sizes": (1, 2), "dim": -1})


register(Split())


class Pad(Op):
    """Constant padding. ``padding`` runs from the last dimension: (left, right, top, bottom, ...); negative crops."""

    name = "pad"

    def infer(self, *inputs: Any, padding: Shape, value: float) -> Inferred:
        (x,) = inputs
        if len(padding) % 2 or len(padding) > 2 * x.ndim:
            raise ShapeError(
                f"pad: pad must hold a pair for each of at most {x.ndim} dimensions, got {len(padding)} values"
            )
        shape = list(x.shape)
        for pair in range(len(padding) // 2):
            axis = x.ndim - 1 - pair
            before, after = padding[2 * pair], padding[2 * pair + 1]
            shape[axis] += before + after
            if max(-before, 0) + max(-after, 0) > x.shape[axis]:
                raise ShapeError(
                    f"pad: cropping by {before} and {after} leaves less than nothing of "
                    f"size {x.shape[axis]} in dimension {axis}"
                )
        return Inferred((Spec(tuple(shape), x.dtype),))

    def _regions(self, shape: Shape, padding: Shape) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
        """Where the surviving part lies in the input and in the output."""
        source, target = [], []
        for axis, extent in enumerate(shape):
            pair = len(shape) - 1 - axis
            before, after = padding[2 * pair : 2 * pair + 2] if 2 * pair < len(padding) else (0, 0)
            source.append(slice(max(-before, 0), max(extent + min(after, 0), max(-before, 0))))
            kept = source[-1].stop - source[-1].start
            target.append(slice(max(before, 0), max(before, 0) + kept))
        return tuple(source), tuple(target)

    def forward(self, ctx: Context, *inputs: Any, padding: Shape, value: float) -> Any:
        (x,) = inputs
        ctx.state = tuple(x.shape)
        module = module_of(x)
        shape = self.infer(x, padding=padding, value=value).outputs[0].shape
        source, target = self._regions(tuple(x.shape), padding)
        if x.ndim == 4 and x.transpose(0, 2, 3, 1).flags.c_contiguous:
            n, c, h, w = shape
            y = module.full((n, h, w, c), value, x.dtype).transpose(0, 3, 1, 2)
        else:
            y = module.full(shape, value, x.dtype)
        y[target] = x[source]
        return y

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        (grad,) = grad_outputs
        source, target = self._regions(ctx.state, ctx.attributes["padding"])
        if all(piece == slice(0, extent) for piece, extent in zip(source, ctx.state, strict=True)):
            return (grad[target],)
        dx = module_of(grad).zeros(ctx.state, grad.dtype)
        dx[source] = grad[target]
        return (dx,)

    def samples(self) -> Iterator[Sample]:
        yield Sample("image, channels last", (_channels_last(),), {"padding": (1, 2, 0, 1), "value": 0.0})
        yield Sample("value", (_draw(2, 3),), {"padding": (1, 1), "value": 2.5})
        yield Sample("crop", (_draw(4, 5),), {"padding": (-1, 2, 1, -2), "value": 0.0})
        yield Sample("channels", (_draw(2, 3, 2, 2),), {"padding": (0, 0, 0, 0, 1, 1), "value": 0.0})
        yield Sample("empty batch", (_draw(0, 3),), {"padding": (1, 1), "value": 0.0})


register(Pad())
