"""Convolution (cross-correlation, as every framework calls it) of sequences, images and volumes.

    z[n,k,p,q]  = b[k] + sum_{c,r,s} x[n, c, p·sh + r·dh - top, q·sw + s·dw - left] w[k,c,r,s]
    y           = activation(z + residual)                  the epilogue, where one is asked for: ``epilogue``
    dx[n,c,h,w] = sum over all k,p,q,r,s that read x[n,c,h,w] of dz[n,k,p,q] w[k,c,r,s]
    dw[k,c,r,s] = sum_{n,p,q} dz[n,k,p,q] x[n, c, p·sh + r·dh - top, q·sw + s·dw - left]
    db[k]       = sum_{n,p,q} dz[n,k,p,q]

in two dimensions; in one there is no w, q and s, in three there is another of each. x (N, C, H, W), w (K, C/G, R, S),
b (K,), residual and y (N, K, P, Q), all of one floating dtype; x outside its bounds is 0.
P = floor((H + top + bottom - dh (R-1) - 1) / sh) + 1, and Q likewise. With G groups, output channels
k·G/K = g read input channels c·G/C = g only. Source: Dumoulin and Visin 2016, "A guide to convolution arithmetic".

Memory order: activations are logically NCHW and physically NHWC; the output is. The CPU's implementation is
``convolution_cpu``, a GPU's ``convolution_cuda``, that of any array module ``convolution_array``; the transposed
convolution, which is the gradient dx made an operation, is in ``conv_transpose``. For backward are kept x and w, as far
as gradients need them, and y where there is an activation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import numpy as np

from gpunet.backend.errors import ShapeError
from gpunet.backend.kernels import uses_kernels
from gpunet.ops import convolution_cuda
from gpunet.ops.base import Context, Inferred, Op, Sample, Spec, register, require_floating, require_same_dtype
from gpunet.ops.channels import channel_sums
from gpunet.ops.convolution_array import convolve_array, input_gradient_array, weight_gradient_array
from gpunet.ops.convolution_cpu import convolve, input_gradient, weight_gradient
from gpunet.ops.convolution_cuda import bias_gradient_cuda, convolve_cuda, input_gradient_cuda, weight_gradient_cuda
from gpunet.ops.convolution_samples import image_samples, sequence_samples, volume_samples
from gpunet.ops.convolution_window import Geometry, Padding, Sizes, check_window, tap_slices
from gpunet.ops.dtypes import compute_dtype
from gpunet.ops.epilogue import check_epilogue, masked_gradient, reference_epilogue
from gpunet.ops.windows import LAYOUTS, channels_first, channels_last

__all__ = ["ConvolutionBase", "Implementation", "carried", "reference_gather", "reference_scatter", "reference_weight"]

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


class Implementation(NamedTuple):
    """The four functions that make a convolution and its gradients, and a transposed one and its.

    Attributes:
        convolve: (x, w, b, geometry, size, residual, activation) to y; ``size`` is y's.
        input_gradient: (dy, w, b, geometry, shape) to dx, plus b if there is one; ``shape`` is dx's.
        weight_gradient: (dy, x, shape, geometry) to dw; ``shape`` is dw's.
        bias_gradient: (dy) to db.
    """

    convolve: Callable[..., Any]
    input_gradient: Callable[..., Any]
    weight_gradient: Callable[..., Any]
    bias_gradient: Callable[..., Any]


_IMPLEMENTATIONS: Final = {
    "cpu": Implementation(convolve, input_gradient, weight_gradient, channel_sums),
    "cuda": Implementation(convolve_cuda, input_gradient_cuda, weight_gradient_cuda, bias_gradient_cuda),
    "array": Implementation(convolve_array, input_gradient_array, weight_gradient_array, channel_sums),
}


class ConvolutionBase(Op):
    """What convolutions and transposed ones share: the choice of implementation, and half types carried in float32.

    Attributes:
        rank: the number of spatial dimensions.
    """

    autocast = "lower"
    epilogue: tuple[str, ...] = ("bias",)
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

    def check_rest(self, x: Any, weight: Any, bias: Any, channels: int, residual: Any = None) -> None:
        """Refuse a bias that does not fit ``channels``, and dtypes that do not fit each other.

        Raises:
            ShapeError, DTypeError: naming it.
        """
        if bias is not None and tuple(bias.shape) != (channels,):
            raise ShapeError(f"{self.name}: bias must have shape ({channels},), got {tuple(bias.shape)}")
        require_floating(self.name, "input", x)
        require_same_dtype(self.name, input=x, weight=weight, bias=bias, residual=residual)

    def image_shape(self, *inputs: Any, **attributes: Any) -> Sizes:
        """The shape of what is convolved: the input; of a transposed convolution, the output."""
        return tuple(inputs[0].shape)

    def supports(self, *inputs: Any, **attributes: Any) -> tuple[str, str]:
        x, weight = inputs[:2]
        if not uses_kernels(x):
            return "cpu", "patches in blocks that fit the cache"
        if self.rank > 2:
            return "array", "no kernel has three dimensions: patches and a matrix product"
        shape = self.image_shape(*inputs, **attributes)
        return convolution_cuda.supports(shape, tuple(weight.shape), Geometry.of(attributes), compute_dtype(x.dtype))

    def _run(self, by: Implementation, inputs: tuple[Any, ...], attributes: dict[str, Any], shape: Sizes) -> Any:
        """The output, of ``shape``, in the inputs' dtype."""
        raise NotImplementedError

    def _gradients(self, by: Implementation, grad: Any, ctx: Context, carry: Any) -> tuple[Any, Any]:
        """The gradients of the input and the weight."""
        raise NotImplementedError

    def forward(self, ctx: Context, *inputs: Any, **attributes: Any) -> Any:
        x, weight = inputs[:2]
        # Once for both directions: backward sees neither the shapes nor, in a test, what forward was made to take.
        path = self.path(*inputs, **attributes)
        if path == "reference":
            y = self.reference(*inputs, **attributes)
        else:
            shape = self.infer(*inputs, **attributes).outputs[0].shape
            carry = compute_dtype(x.dtype)
            given = inputs
            if carry != x.dtype:
                given = tuple(value if value is None else value.astype(carry) for value in inputs)
            y = self._run(_IMPLEMENTATIONS[path], given, attributes, shape).astype(x.dtype, copy=False)
        activated = attributes.get("activation") is not None
        ctx.save(x if ctx.needs_grad[1] else None, weight if ctx.needs_grad[0] else None, y if activated else None)
        ctx.state = path, tuple(x.shape), tuple(weight.shape), x.dtype
        return y

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        (grad,) = grad_outputs
        path, _, _, dtype = ctx.state
        carry = compute_dtype(dtype)
        grad = grad.astype(carry, copy=False)
        if path != "array" and (ctx.needs_grad[0] or ctx.needs_grad[1]):
            # Once, rather than in each of the gradients.
            grad = channels_first(channels_last(grad))
        by = _IMPLEMENTATIONS["cpu" if path == "reference" else path]
        dx, dweight = self._gradients(by, grad, ctx, carry)
        dbias = by.bias_gradient(grad) if ctx.needs_grad[2] else None
        return tuple(v if v is None else v.astype(dtype, copy=False) for v in (dx, dweight, dbias))


def carried(ctx: Context, carry: Any) -> list[Any]:
    """The saved input and weight in the dtype that the sums are carried in."""
    return [value if value is None else value.astype(carry, copy=False) for value in ctx.saved[:2]]


class Convolution(ConvolutionBase):
    """Convolution of 1, 2 or 3 dimensions with its epilogue, its implementations and its gradients."""

    epilogue = ("bias", "residual", "activation")

    def __init__(self, rank: int) -> None:
        super().__init__(rank)
        self.name = f"conv{rank}d"

    def infer(
        self,
        *inputs: Any,
        stride: Sizes,
        padding: Padding,
        dilation: Sizes,
        groups: int,
        activation: str | None = None,
    ) -> Inferred:
        x, weight, bias, residual = inputs
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
        self.check_rest(x, weight, bias, k, residual)
        size = check_window(self.name, tuple(x.shape), tuple(kernel), stride, padding, dilation)
        shape = (n, k, *size)
        check_epilogue(self.name, shape, residual, activation)
        return Inferred((Spec(shape, x.dtype),), math.prod(shape) * per_group * math.prod(kernel))

    def reference(self, *inputs: Any, **attributes: Any) -> Any:
        x, weight, bias, residual = inputs
        size = self.infer(*inputs, **attributes).outputs[0].shape[2:]
        z = reference_gather(x, weight, Geometry.of(attributes), size)
        z = z if bias is None else z + bias.reshape(-1, *(1,) * self.rank)
        return reference_epilogue(z, residual, attributes.get("activation"))

    def reference_backward(self, grad_outputs: tuple[Any, ...], inputs: tuple[Any, ...], **attributes: Any) -> Any:
        (dz,) = grad_outputs
        x, weight, bias, residual = inputs
        if attributes.get("activation") == "relu":
            dz = np.where(self.reference(*inputs, **attributes) > 0, dz, 0)
        geometry = Geometry.of(attributes)
        dx = reference_scatter(dz, weight, geometry, x.shape)
        dw = reference_weight(dz, x, geometry, weight.shape)
        dbias = None if bias is None else dz.sum(axis=(0, *range(2, dz.ndim)))
        return dx, dw, dbias, None if residual is None else dz

    def _run(self, by: Implementation, inputs: tuple[Any, ...], attributes: dict[str, Any], shape: Sizes) -> Any:
        x, weight, bias, residual = inputs
        last = attributes.get("activation")
        return by.convolve(x, weight, bias, Geometry.of(attributes), shape[2:], residual, last)

    def _gradients(self, by: Implementation, grad: Any, ctx: Context, carry: Any) -> tuple[Any, Any]:
        x, weight = carried(ctx, carry)
        geometry = Geometry.of(ctx.attributes)
        dx = by.input_gradient(grad, weight, None, geometry, ctx.state[1]) if ctx.needs_grad[0] else None
        dweight = by.weight_gradient(grad, x, ctx.state[2], geometry) if ctx.needs_grad[1] else None
        return dx, dweight

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        (grad,) = grad_outputs
        y = ctx.saved[2]
        if y is not None:
            grad = masked_gradient(grad, y)
        return *super().backward(ctx, grad), grad if ctx.needs_grad[3] else None

    def samples(self) -> Iterator[Sample]:
        return {1: sequence_samples, 2: image_samples, 3: volume_samples}[self.rank]()


for _rank in (1, 2, 3):
    register(Convolution(_rank))
