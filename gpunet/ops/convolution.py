"""Convolution (cross-correlation, as every framework calls it) of sequences, images and volumes.

    y[n,k,p,q]  = b[k] + sum_{c,r,s} x[n, c, p·sh + r·dh - top, q·sw + s·dw - left] w[k,c,r,s]
    dx[n,c,h,w] = sum over all k,p,q,r,s that read x[n,c,h,w] of dy[n,k,p,q] w[k,c,r,s]
    dw[k,c,r,s] = sum_{n,p,q} dy[n,k,p,q] x[n, c, p·sh + r·dh - top, q·sw + s·dw - left]
    db[k]       = sum_{n,p,q} dy[n,k,p,q]

in two dimensions; in one there is no w, q and s, in three there is another of each. x (N, C, H, W), w (K, C/G, R, S),
b (K,), y (N, K, P, Q), all of one floating dtype; x outside its bounds is 0.
P = floor((H + top + bottom - dh (R-1) - 1) / sh) + 1, and Q likewise. With G groups, output channels
k·G/K = g read input channels c·G/C = g only. Source: Dumoulin and Visin 2016, "A guide to convolution arithmetic".

Memory order: activations are logically NCHW and physically NHWC; the output is. The CPU's implementation is
``convolution_cpu``; the transposed convolution, which is the gradient dx made an operation, is in ``conv_transpose``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from gpunet.backend.errors import ShapeError
from gpunet.ops.base import Context, Inferred, Op, Sample, Spec, register, require_floating, require_same_dtype
from gpunet.ops.channels import channel_sums
from gpunet.ops.convolution_array import convolve_array, input_gradient_array, weight_gradient_array
from gpunet.ops.convolution_cpu import convolve, input_gradient, weight_gradient
from gpunet.ops.convolution_window import Geometry, Padding, Sizes, check_window, tap_slices
from gpunet.ops.dtypes import compute_dtype
from gpunet.ops.windows import LAYOUTS, channels_first, channels_last

__all__ = ["ConvolutionBase", "carried", "conv_sample", "reference_gather", "reference_scatter", "reference_weight"]

_WEIGHT_AXES = {1: "R", 2: "R, S", 3: "T, R, S"}


def _grouped(x: Any, groups: int) -> Any:
    return x.reshape(x.shape[0], groups, x.shape[1] // groups, *x.shape[2:])


def _padded(x: Any, geometry: Geometry) -> Any:
    return np.pad(x, ((0, 0), (0, 0), *geometry.padding))


def reference_gather(x: Any, weight: Any, geometry: Geometry, size: Sizes) -> Any:
    """The equation of y, tap by tap."""
    groups, k = geometry.groups, weight.shape[0]
    grouped = _grouped(_padded(x, geometry), groups)
    w = weight.reshape(groups, k // groups, *weight.shape[1:])
    y = np.zeros((x.shape[0], groups, k // groups, *size), x.dtype)
    for tap, seen in tap_slices(weight.shape[2:], size, geometry.stride, geometry.dilation):
        y += np.einsum("ngc...,gkc->ngk...", grouped[(..., *seen)], w[(..., *tap)])
    return y.reshape(x.shape[0], k, *size)


def reference_scatter(dy: Any, weight: Any, geometry: Geometry, shape: Sizes) -> Any:
    """The equation of dx, tap by tap."""
    groups, k = geometry.groups, weight.shape[0]
    w = weight.reshape(groups, k // groups, *weight.shape[1:])
    extents = [extent + sum(pad) for extent, pad in zip(shape[2:], geometry.padding, strict=True)]
    dx: Any = np.zeros((shape[0], groups, shape[1] // groups, *extents), dy.dtype)
    for tap, seen in tap_slices(weight.shape[2:], dy.shape[2:], geometry.stride, geometry.dilation):
        dx[(..., *seen)] += np.einsum("ngk...,gkc->ngc...", _grouped(dy, groups), w[(..., *tap)])
    inside = [slice(pad[0], pad[0] + extent) for pad, extent in zip(geometry.padding, shape[2:], strict=True)]
    return dx.reshape(shape[0], shape[1], *extents)[(..., *inside)]


def reference_weight(dy: Any, x: Any, geometry: Geometry, shape: Sizes) -> Any:
    """The equation of dw, tap by tap."""
    groups = geometry.groups
    dw: Any = np.zeros((groups, shape[0] // groups, *shape[1:]), x.dtype)
    grouped = _grouped(_padded(x, geometry), groups)
    pixels = "xyz"[: dy.ndim - 2]
    for tap, seen in tap_slices(shape[2:], dy.shape[2:], geometry.stride, geometry.dilation):
        dw[(..., *tap)] = np.einsum(f"ngk{pixels},ngc{pixels}->gkc", _grouped(dy, groups), grouped[(..., *seen)])
    return dw.reshape(shape)


class ConvolutionBase(Op):
    """What convolutions and transposed ones share: the choice of implementation, and half types carried in float32.

    Attributes:
        rank: the number of spatial dimensions.
    """

    autocast = "lower"
    epilogue = ("bias",)
    rank: int

    def __init__(self, rank: int) -> None:
        self.rank = rank

    def check_inputs(self, x: Any, weight: Any, weight_axes: str) -> None:
        """Refuse inputs of a wrong rank.

        Raises:
            ShapeError: naming it.
        """
        dims = self.rank + 2
        if x.ndim != dims:
            raise ShapeError(f"{self.name}: input must be {dims}-d {LAYOUTS[self.rank]}, got shape {tuple(x.shape)}")
        if weight.ndim != dims:
            taps = _WEIGHT_AXES[self.rank]
            raise ShapeError(
                f"{self.name}: weight must be {dims}-d ({weight_axes}, {taps}), got shape {tuple(weight.shape)}"
            )

    def check_rest(self, x: Any, weight: Any, bias: Any, channels: int) -> None:
        """Refuse a bias that does not fit ``channels``, and dtypes that do not fit each other.

        Raises:
            ShapeError, DTypeError: naming it.
        """
        if bias is not None and tuple(bias.shape) != (channels,):
            raise ShapeError(f"{self.name}: bias must have shape ({channels},), got {tuple(bias.shape)}")
        require_floating(self.name, "input", x)
        require_same_dtype(self.name, input=x, weight=weight, bias=bias)

    def supports(self, *inputs: Any, **attributes: Any) -> tuple[str, str]:
        if isinstance(inputs[0], np.ndarray):
            return "cpu", "patches in blocks that fit the cache"
        return "array", "no hand-written kernel yet: patches and a matrix product"

    def _run(self, path: str, x: Any, weight: Any, bias: Any, attributes: dict[str, Any], size: Sizes) -> Any:
        raise NotImplementedError

    def _gradients(self, path: str, grad: Any, ctx: Context, carry: Any) -> tuple[Any, Any]:
        raise NotImplementedError

    def forward(self, ctx: Context, *inputs: Any, **attributes: Any) -> Any:
        x, weight, bias = inputs
        ctx.save(x if ctx.needs_grad[1] else None, weight if ctx.needs_grad[0] else None)
        ctx.state = tuple(x.shape), tuple(weight.shape), x.dtype
        path = self.path(*inputs)
        if path == "reference":
            return self.reference(*inputs, **attributes)
        size = self.infer(*inputs, **attributes).outputs[0].shape
        result, carry = x.dtype, compute_dtype(x.dtype)
        if carry != result:
            x, weight, bias = (value if value is None else value.astype(carry) for value in inputs)
        return self._run(path, x, weight, bias, attributes, size).astype(result, copy=False)

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        (grad,) = grad_outputs
        dtype = ctx.state[2]
        carry = compute_dtype(dtype)
        grad = grad.astype(carry, copy=False)
        path = self.path(grad)
        if path != "array" and grad.ndim > 2 and (ctx.needs_grad[0] or ctx.needs_grad[1]):
            # Once, rather than in each of the gradients.
            grad = channels_first(channels_last(grad))
        dx, dweight = self._gradients(path, grad, ctx, carry)
        dbias = channel_sums(grad) if ctx.needs_grad[2] else None
        return tuple(v if v is None else v.astype(dtype, copy=False) for v in (dx, dweight, dbias))


def carried(ctx: Context, carry: Any) -> list[Any]:
    """The saved arrays in the dtype that the sums are carried in."""
    return [value if value is None else value.astype(carry, copy=False) for value in ctx.saved]


class Convolution(ConvolutionBase):
    """Convolution of 1, 2 or 3 dimensions, its implementations and its gradients."""

    def __init__(self, rank: int) -> None:
        super().__init__(rank)
        self.name = f"conv{rank}d"

    def infer(self, *inputs: Any, stride: Sizes, padding: Padding, dilation: Sizes, groups: int) -> Inferred:
        x, weight, bias = inputs
        self.check_inputs(x, weight, "K, C/groups")
        n, c = x.shape[:2]
        k, per_group, *kernel = weight.shape
        if groups < 1:
            raise ShapeError(f"{self.name}: groups must be at least 1, got {groups}")
        if k % groups:
            raise ShapeError(f"{self.name}: groups must divide the {k} output channels, got {groups}")
        if c != per_group * groups:
            raise ShapeError(
                f"{self.name}: input must have {per_group * groups} channels (weight has shape {tuple(weight.shape)} "
                f"and groups is {groups}), got {c} in shape {tuple(x.shape)}"
            )
        self.check_rest(x, weight, bias, k)
        size = check_window(self.name, tuple(x.shape), tuple(kernel), stride, padding, dilation)
        shape = (n, k, *size)
        return Inferred((Spec(shape, x.dtype),), math.prod(shape) * per_group * math.prod(kernel))

    def reference(self, *inputs: Any, **attributes: Any) -> Any:
        x, weight, bias = inputs
        size = self.infer(*inputs, **attributes).outputs[0].shape[2:]
        y = reference_gather(x, weight, Geometry(**attributes), size)
        return y if bias is None else y + bias.reshape(-1, *(1,) * self.rank)

    def reference_backward(self, grad_outputs: tuple[Any, ...], inputs: tuple[Any, ...], **attributes: Any) -> Any:
        (dy,) = grad_outputs
        x, weight, bias = inputs
        geometry = Geometry(**attributes)
        dx = reference_scatter(dy, weight, geometry, x.shape)
        dw = reference_weight(dy, x, geometry, weight.shape)
        return dx, dw, None if bias is None else dy.sum(axis=(0, *range(2, dy.ndim)))

    def _run(self, path: str, x: Any, weight: Any, bias: Any, attributes: dict[str, Any], size: Sizes) -> Any:
        run = convolve if path == "cpu" else convolve_array
        return run(x, weight, bias, Geometry(**attributes), size[2:])

    def _gradients(self, path: str, grad: Any, ctx: Context, carry: Any) -> tuple[Any, Any]:
        x, weight = carried(ctx, carry)
        geometry = Geometry(**ctx.attributes)
        for_input = input_gradient_array if path == "array" else input_gradient
        for_weight = weight_gradient_array if path == "array" else weight_gradient
        dx = for_input(grad, weight, None, geometry, ctx.state[0]) if ctx.needs_grad[0] else None
        dweight = for_weight(grad, x, ctx.state[1], geometry) if ctx.needs_grad[1] else None
        return dx, dweight

    def samples(self) -> Iterator[Sample]:
        yield from {1: _sequences, 2: _images, 3: _volumes}[self.rank]()


def conv_sample(
    label: str,
    x: Sizes,
    w: Sizes,
    bias: int | None = None,
    nhwc: bool = True,
    **attributes: Any,
) -> Sample:
    """A sample of a convolution, or of a transposed one; everything not given is PyTorch's default."""
    rng = np.random.default_rng(61)
    rank = len(x) - 2
    image = rng.standard_normal(x)
    if nhwc:
        image = channels_first(np.ascontiguousarray(channels_last(image)))
    base: dict[str, Any] = {"stride": (1,) * rank, "padding": ((0, 0),) * rank, "dilation": (1,) * rank, "groups": 1}
    shift = None if bias is None else rng.standard_normal(bias)
    return Sample(label, (image, rng.standard_normal(w), shift), {**base, **attributes})


def _case(label: str, x: Sizes, w: Sizes, bias: bool = True, **rest: Any) -> Sample:
    return conv_sample(label, x, w, w[0] if bias else None, **rest)


def _images() -> Iterator[Sample]:
    case, rng = _case, np.random.default_rng(61)
    one = ((1, 1), (1, 1))
    yield case("3x3 padded", (2, 3, 5, 6), (4, 3, 3, 3), padding=one)
    yield case("batch 1, NCHW, no bias", (1, 3, 5, 5), (2, 3, 3, 3), bias=False, nhwc=False)
    yield case("1x1", (2, 4, 5, 3), (3, 4, 1, 1))
    yield case("1x1 stride 2", (2, 4, 5, 6), (3, 4, 1, 1), stride=(2, 2))
    yield case("1x1 padded", (1, 2, 3, 3), (3, 2, 1, 1), padding=one)
    yield case("stride 2", (2, 3, 7, 8), (4, 3, 3, 3), stride=(2, 2), padding=one)
    yield case("stride 3, 2, uneven pads", (2, 2, 9, 8), (3, 2, 3, 2), stride=(3, 2), padding=((2, 1), (0, 1)))
    yield case("stride larger than the kernel", (1, 2, 9, 9), (2, 2, 2, 2), stride=(4, 3))
    yield case("dilation", (2, 2, 8, 9), (3, 2, 3, 3), padding=((2, 2), (1, 1)), dilation=(2, 3))
    yield case("dilation 2, stride 2", (1, 2, 9, 10), (3, 2, 3, 3), stride=(2, 2), padding=one, dilation=(2, 2))
    yield case("dilation 2, stride 3", (1, 2, 11, 10), (2, 2, 3, 2), stride=(3, 3), padding=one, dilation=(2, 2))
    yield case("groups", (2, 4, 5, 5), (6, 2, 3, 3), padding=one, groups=2)
    yield case("groups of 3 and 5", (2, 12, 5, 4), (20, 3, 3, 2), padding=one, groups=4)
    yield case("wide groups", (2, 32, 4, 4), (48, 16, 2, 2), groups=2)
    yield case("joined groups", (1, 24, 4, 4), (48, 4, 2, 2), groups=6, stride=(1, 2))
    yield case("depthwise", (2, 3, 6, 5), (3, 1, 3, 3), padding=one, groups=3)
    yield case("depthwise 1x1", (2, 3, 6, 5), (3, 1, 1, 1), groups=3)
    yield case("depthwise stride 2", (2, 3, 7, 6), (3, 1, 3, 3), stride=(2, 2), padding=one, groups=3)
    yield case("depthwise dilation 2, stride 3", (1, 3, 9, 11), (3, 1, 3, 4), stride=(1, 3), dilation=(2, 2), groups=3)
    yield case("depthwise, long rows", (1, 5, 3, 1000), (5, 1, 3, 3), padding=one, groups=5)
    yield case("channel multiplier", (2, 3, 5, 5), (6, 1, 3, 3), padding=one, groups=3)
    yield case("pairs of channels", (2, 6, 5, 5), (9, 2, 3, 3), padding=one, groups=3, stride=(1, 2))
    yield case("one channel", (2, 1, 6, 6), (1, 1, 3, 3), padding=one)
    yield case("kernel covers the input", (2, 2, 3, 4), (3, 2, 3, 4))
    yield case("more padding than kernel", (1, 2, 3, 3), (2, 2, 2, 2), padding=((3, 3), (3, 3)))
    yield case("5x5", (1, 2, 7, 7), (2, 2, 5, 5), padding=((2, 2), (2, 2)))
    yield case("empty batch", (0, 3, 5, 5), (2, 3, 3, 3), padding=one)
    yield case("empty batch, depthwise", (0, 3, 5, 5), (3, 1, 3, 3), padding=one, groups=3)
    yield case("several blocks", (3, 16, 40, 33), (8, 16, 3, 3), padding=one)
    yield case("several blocks, depthwise", (2, 64, 70, 65), (64, 1, 3, 3), padding=one, groups=64)
    strided = case("strided input", (2, 3, 5, 12), (2, 3, 3, 3), nhwc=False)
    yield Sample("non-contiguous", (strided.inputs[0][..., ::2], *strided.inputs[1:]), strided.attributes)
    pitched = rng.standard_normal((2, 5, 5, 7)).transpose(0, 3, 1, 2)[:, 2:5]
    yield Sample("pixel pitch", (pitched, *strided.inputs[1:]), {**strided.attributes, "padding": one})
    single = rng.standard_normal((3, 1, 3, 3))
    attributes = {**strided.attributes, "padding": ((0, 0), (0, 0)), "groups": 3}
    yield Sample("pixel pitch, depthwise", (pitched, single, None), attributes)


def _sequences() -> Iterator[Sample]:
    case = _case
    yield case("3 padded", (2, 3, 7), (4, 3, 3), padding=((1, 1),))
    yield case("one tap", (2, 3, 7), (4, 3, 1), bias=False, nhwc=False)
    yield case("stride 2, dilation 3", (2, 3, 14), (4, 3, 4), stride=(2,), dilation=(3,), padding=((2, 1),))
    yield case("stride larger than the kernel", (1, 2, 11), (3, 2, 2), stride=(4,))
    yield case("groups", (2, 4, 7), (6, 2, 3), groups=2)
    yield case("depthwise", (2, 3, 8), (3, 1, 3), padding=((1, 1),), groups=3)
    yield case("depthwise stride 2", (2, 3, 9), (6, 1, 3), stride=(2,), groups=3)
    yield case("several blocks", (2, 16, 9000), (4, 16, 3), padding=((1, 1),))
    yield case("several blocks, depthwise", (2, 16, 9000), (16, 1, 3), padding=((1, 1),), groups=16)
    yield case("empty batch", (0, 3, 7), (4, 3, 3))


def _volumes() -> Iterator[Sample]:
    case = _case
    one = ((1, 1), (1, 1), (1, 1))
    yield case("3x3x3 padded", (2, 3, 4, 5, 6), (4, 3, 3, 3, 3), padding=one)
    yield case("one tap", (1, 3, 2, 3, 4), (2, 3, 1, 1, 1), bias=False, nhwc=False)
    yield case("as deep as the input", (2, 2, 3, 5, 4), (3, 2, 3, 2, 2))
    yield case("strides", (1, 2, 5, 6, 7), (3, 2, 2, 3, 3), stride=(2, 1, 3), padding=((1, 0), (1, 1), (2, 1)))
    yield case("dilations", (1, 2, 6, 5, 7), (2, 2, 2, 2, 3), dilation=(3, 2, 2), stride=(1, 2, 1), padding=one)
    yield case("groups", (1, 4, 3, 4, 4), (6, 2, 2, 3, 2), groups=2, padding=one)
    yield case("depthwise", (2, 3, 4, 4, 5), (3, 1, 3, 3, 3), groups=3, padding=one)
    yield case("depthwise stride 2", (1, 3, 4, 5, 5), (6, 1, 3, 2, 3), groups=3, padding=one, stride=(2, 2, 2))
    yield case("several blocks", (2, 8, 5, 30, 31), (4, 8, 3, 3, 3), padding=one)
    yield case("blocks of planes", (1, 8, 24, 9, 9), (4, 8, 3, 3, 3), padding=one)
    yield case("empty batch", (0, 3, 4, 5, 5), (2, 3, 3, 3, 3), padding=one)


for _rank in (1, 2, 3):
    register(Convolution(_rank))
