"""Transposed convolution of sequences, images and volumes: the gradient of a convolution, made an operation.

    y[n,c,h,w] = b[c] + sum of x[n,k,p,q] w[k,c,r,s] over all k, p, q, r, s with
                 h = p·sh + r·dh - top and w = q·sw + s·dw - left

x (N, K, P, Q), w (K, C/G, R, S), b (C,), y (N, C, H, W); H = (P-1) sh - top - bottom + dh (R-1) + o + 1, where o is the
output padding, which only chooses among the sizes that a convolution with stride would have made P of. It is the
convolution's dx with x for dy; so its own dx is a convolution of dy, and its dw the convolution's with the two
exchanged. Source: Dumoulin and Visin 2016, "A guide to convolution arithmetic", chapter 4.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from gpunet.backend.errors import ShapeError
from gpunet.ops.base import Context, Inferred, Sample, Spec, register
from gpunet.ops.convolution import (
    ConvolutionBase,
    Implementation,
    carried,
    reference_gather,
    reference_scatter,
    reference_weight,
)
from gpunet.ops.convolution_samples import conv_sample
from gpunet.ops.convolution_window import Geometry, Padding, Sizes

__all__: list[str] = []


class ConvTranspose(ConvolutionBase):
    """Transposed convolution of 1, 2 or 3 dimensions, its implementations and its gradients."""

    def __init__(self, rank: int) -> None:
        super().__init__(rank)
        self.name = f"conv_transpose{rank}d"

    def infer(
        self, *inputs: Any, stride: Sizes, padding: Padding, output_padding: Sizes, dilation: Sizes, groups: int
    ) -> Inferred:
        x, weight, bias = inputs
        self.check_inputs(x, weight, "C, K/groups")
        n, c = x.shape[:2]
        inner, per_group, *kernel = weight.shape
        if groups < 1:
            raise ShapeError(f"{self.name}: groups must be at least 1, got {groups}")
        if c != inner:
            raise ShapeError(
                f"{self.name}: input must have {inner} channels (weight has shape {tuple(weight.shape)}), got {c} in "
                f"shape {tuple(x.shape)}"
            )
        if c % groups:
            raise ShapeError(f"{self.name}: groups must divide the {c} input channels, got {groups}")
        self.check_rest(x, weight, bias, per_group * groups)
        for name, values in (("kernel_size", tuple(kernel)), ("stride", stride), ("dilation", dilation)):
            if min(values) < 1:
                raise ShapeError(f"{self.name}: {name} must be at least 1, got {values}")
        for name, values in (("padding", tuple(pad[0] for pad in padding)), ("output_padding", output_padding)):
            if min(values) < 0:
                raise ShapeError(f"{self.name}: {name} must not be negative, got {values}")
        if any(o >= max(s, d) for o, s, d in zip(output_padding, stride, dilation, strict=True)):
            raise ShapeError(
                f"{self.name}: output_padding must be smaller than stride {stride} or dilation {dilation}, "
                f"got {output_padding}"
            )
        if min(x.shape[1:]) == 0 or per_group == 0:
            raise ShapeError(
                f"{self.name}: input must not be empty except in its batch, got shape {tuple(x.shape)} and weight "
                f"{tuple(weight.shape)}"
            )
        size = tuple(
            (extent - 1) * s - sum(pads) + d * (k - 1) + o + 1
            for extent, s, pads, d, k, o in zip(
                x.shape[2:], stride, padding, dilation, kernel, output_padding, strict=True
            )
        )
        if min(size) < 1:
            raise ShapeError(
                f"{self.name}: padding {tuple(pad[0] for pad in padding)} leaves nothing of an input of shape "
                f"{tuple(x.shape)}: the output's size would be {size}"
            )
        shape = (n, per_group * groups, *size)
        return Inferred((Spec(shape, x.dtype),), math.prod(x.shape) * per_group * math.prod(kernel))

    def image_shape(self, *inputs: Any, **attributes: Any) -> Sizes:
        return self.infer(*inputs, **attributes).outputs[0].shape

    def reference(self, *inputs: Any, **attributes: Any) -> Any:
        x, weight, bias = inputs
        shape = self.infer(*inputs, **attributes).outputs[0].shape
        y = reference_scatter(x, weight, Geometry.of(attributes), shape)
        return y if bias is None else y + bias.reshape(-1, *(1,) * self.rank)

    def reference_backward(self, grad_outputs: tuple[Any, ...], inputs: tuple[Any, ...], **attributes: Any) -> Any:
        (dy,) = grad_outputs
        x, weight, bias = inputs
        geometry = Geometry.of(attributes)
        dx = reference_gather(dy, weight, geometry, x.shape[2:])
        dw = reference_weight(x, dy, geometry, weight.shape)
        return dx, dw, None if bias is None else dy.sum(axis=(0, *range(2, dy.ndim)))

    def _run(self, by: Implementation, inputs: tuple[Any, ...], attributes: dict[str, Any], shape: Sizes) -> Any:
        x, weight, bias = inputs
        return by.input_gradient(x, weight, bias, Geometry.of(attributes), shape)

    def _gradients(self, by: Implementation, grad: Any, ctx: Context, carry: Any) -> tuple[Any, Any]:
        x, weight = carried(ctx, carry)
        geometry = Geometry.of(ctx.attributes)
        dx = by.convolve(grad, weight, None, geometry, ctx.state[1][2:]) if ctx.needs_grad[0] else None
        dweight = by.weight_gradient(x, grad, ctx.state[2], geometry) if ctx.needs_grad[1] else None
        return dx, dweight

    def samples(self) -> Iterator[Sample]:
        yield from {1: _sequences, 2: _images, 3: _volumes}[self.rank]()


def _case(label: str, x: Sizes, w: Sizes, bias: bool = True, groups: int = 1, **rest: Any) -> Sample:
    rest.setdefault("output_padding", (0,) * (len(x) - 2))
    return conv_sample(label, x, w, w[1] * groups if bias else None, groups=groups, **rest)


def _images() -> Iterator[Sample]:
    case = _case
    one = ((1, 1), (1, 1))
    yield case("3x3", (2, 3, 4, 5), (3, 4, 3, 3))
    yield case("3x3 padded, NCHW, no bias", (1, 3, 4, 5), (3, 2, 3, 3), bias=False, nhwc=False, padding=one)
    yield case("2x2 stride 2", (2, 3, 3, 4), (3, 2, 2, 2), stride=(2, 2))
    yield case("4x4 stride 2 padded", (2, 3, 3, 4), (3, 2, 4, 4), stride=(2, 2), padding=one)
    yield case("output padding", (2, 2, 3, 4), (2, 3, 3, 3), stride=(2, 3), padding=one, output_padding=(1, 2))
    yield case("stride larger than the kernel", (1, 2, 3, 2), (2, 2, 2, 1), stride=(4, 3), output_padding=(3, 0))
    yield case("dilation", (1, 2, 4, 5), (2, 3, 3, 2), dilation=(2, 3), padding=one)
    yield case(
        "dilation 3, stride 2", (1, 2, 4, 3), (2, 2, 2, 3), dilation=(3, 2), stride=(2, 2), output_padding=(2, 1)
    )
    yield case("groups", (2, 4, 3, 3), (4, 3, 3, 3), groups=2, stride=(2, 2))
    yield case("depthwise", (2, 3, 4, 5), (3, 1, 3, 3), groups=3, padding=one)
    yield case("depthwise stride 2", (2, 3, 4, 5), (3, 1, 3, 3), groups=3, padding=one, stride=(2, 2))
    yield case("channel multiplier", (2, 3, 4, 3), (3, 2, 3, 3), groups=3)
    yield case("1x1", (2, 3, 4, 5), (3, 4, 1, 1))
    yield case("one pixel", (2, 3, 1, 1), (3, 2, 3, 3), padding=one)
    yield case("several blocks", (3, 16, 30, 33), (16, 4, 3, 3), padding=one)
    yield case("empty batch", (0, 3, 4, 5), (3, 4, 3, 3))


def _sequences() -> Iterator[Sample]:
    case = _case
    yield case("3", (2, 3, 5), (3, 4, 3))
    yield case("stride 3, output padding", (2, 3, 5), (3, 2, 4), stride=(3,), padding=((1, 1),), output_padding=(2,))
    yield case("dilation", (1, 2, 5), (2, 2, 3), dilation=(2,), bias=False, nhwc=False)
    yield case("depthwise", (2, 3, 5), (3, 1, 3), groups=3, stride=(2,))
    yield case("empty batch", (0, 3, 5), (3, 4, 3))


def _volumes() -> Iterator[Sample]:
    case = _case
    one = ((1, 1), (1, 1), (1, 1))
    yield case("3x3x3 padded", (1, 3, 3, 4, 2), (3, 2, 3, 3, 3), padding=one)
    yield case("2x2x2 stride 2", (2, 2, 2, 3, 3), (2, 3, 2, 2, 2), stride=(2, 2, 2))
    yield case(
        "output padding", (1, 2, 2, 2, 3), (2, 2, 3, 2, 3), stride=(2, 3, 2), output_padding=(1, 2, 0), padding=one
    )
    yield case("groups", (1, 4, 2, 3, 3), (4, 1, 2, 2, 2), groups=2, bias=False)
    yield case("empty batch", (0, 3, 2, 3, 3), (3, 2, 2, 2, 2))


for _rank in (1, 2, 3):
    register(ConvTranspose(_rank))
