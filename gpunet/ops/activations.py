"""Activations made of straight lines, and what all activations are made of.

    relu         max(x, 0)                             hardtanh     min(max(x, low), high); relu6 from 0 to 6
    leaky_relu   x > 0: x, else a x                    threshold    x where x > t, else v
    hardswish    x relu6(x + 3) / 6                    hardsigmoid  relu6(x + 3) / 6
    softshrink   x - l, 0 or x + l                     hardshrink   x where |x| > l, else 0

Where there is no derivative it has PyTorch's value: that of the flat side. Only the input or the output is kept for
backward, whichever the derivative needs; the output where both serve, since the next layer keeps it as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from gpunet.backend.errors import DTypeError
from gpunet.ops.base import Context, Inferred, Op, Sample, Spec, register
from gpunet.ops.chunked import Layout, Work, map_chunks, select
from gpunet.ops.dtypes import BOOL, compute_dtype, is_floating, to_float

__all__ = ["Activation", "one_or"]

# value(work, x, y, **attributes) writes y; slope(work, grad, kept, dx, **attributes) writes dx. None may write another.
Function = Callable[..., None]


class Activation(Op):
    """y = f(x), element by element, in chunks.

    Args:
        name: the operation's name.
        value: writes y from x.
        slope: writes dx from dy and what is kept.
        keep: ``"x"`` or ``"y"``: what is kept; or a function of the attributes that says which.
        integers: ``"no"``, ``"same"`` where they stay integers, ``"float"`` where they become float32,
            ``"numbers"`` where they do and bools are refused.
        samples: attributes of its samples.
        kinks: where it has no derivative.
        check: raises for attributes that make no sense.
        autocast: what autocast does to its input.
    """

    def __init__(
        self,
        name: str,
        value: Function,
        slope: Function,
        *,
        keep: str | Callable[..., str] = "x",
        integers: str = "no",
        samples: tuple[dict[str, Any], ...] = ({},),
        kinks: tuple[float, ...] = (),
        check: Callable[..., None] | None = None,
        autocast: str = "promote",
    ) -> None:
        self.name = name
        self.value = value
        self.slope = slope
        self.keep = keep
        self.integers = integers
        self.cases = samples
        self.kinks = kinks
        self.check = check
        self.autocast = autocast

    def _dtype(self, x: Any) -> Any:
        if is_floating(x.dtype):
            return x.dtype
        if self.integers == "no":
            raise DTypeError(f"{self.name}: input must be floating point, got {x.dtype.name}")
        if self.integers in ("same", "numbers") and x.dtype == BOOL:
            raise DTypeError(f"{self.name}: not defined for bool")
        return x.dtype if self.integers == "same" else to_float(x.dtype)

    def infer(self, *inputs: Any, **attributes: Any) -> Inferred:
        (x,) = inputs
        dtype = self._dtype(x)
        if self.check is not None:
            self.check(**attributes)
        return Inferred((Spec(tuple(x.shape), dtype),))

    def forward(self, ctx: Context, *inputs: Any, **attributes: Any) -> Any:
        (x,) = inputs
        dtype = self._dtype(x)

        def body(work: Work, given: Any, out: Any) -> None:
            self.value(work, given, out, **attributes)

        (y,) = map_chunks(Layout(tuple(x.shape), x), (x,), (dtype,), body, compute_dtype(dtype))
        keep = self.keep if isinstance(self.keep, str) else self.keep(**attributes)
        ctx.save(x if keep == "x" else y)
        return y

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        (grad,) = grad_outputs
        (kept,) = ctx.saved

        def body(work: Work, dy: Any, given: Any, out: Any) -> None:
            self.slope(work, dy, given, out, **ctx.attributes)

        layout = Layout(tuple(kept.shape), kept, grad)
        return map_chunks(layout, (grad, kept), (grad.dtype,), body, compute_dtype(grad.dtype))

    def samples(self) -> Iterator[Sample]:
        rng = np.random.default_rng(11)

        def draw(*shape: int, scale: float = 2.0) -> Any:
            values = rng.standard_normal(shape) * scale
            for kink in self.kinks:  # stay away from where there is no derivative
                values = np.where(np.abs(values - kink) < 0.05, kink + 0.1, values)
            return values

        for attributes in self.cases:
            label = ", ".join(f"{name} {value}" for name, value in attributes.items())
            yield Sample(f"matrix {label}".strip(), (draw(3, 5),), attributes)
        attributes = self.cases[0]
        yield Sample("0-d", (np.asarray(0.7),), attributes)
        yield Sample("large", (draw(4, 6, scale=30.0),), attributes)
        yield Sample("channels last", (draw(2, 4, 3, 3).transpose(0, 3, 1, 2),), attributes)
        yield Sample("strided", (draw(4, 6)[::2, 1::2],), attributes)
        yield Sample("several chunks", (draw(3, 190, 100),), attributes)
        yield Sample("empty batch", (draw(0, 4),), attributes)


def _pass_where(work: Work, grad: Any, comparison: Any, kept: Any, bound: float, dx: Any) -> None:
    """dx = dy except where the comparison holds, there 0. NaN compares false: its gradient passes."""
    mask = comparison(kept, bound, out=work("mask", BOOL))
    work.module.logical_not(mask, out=mask)
    select(grad, mask, dx, work)


def _relu(work: Work, x: Any, y: Any) -> None:
    work.module.maximum(x, 0, out=y)


def _relu_slope(work: Work, grad: Any, y: Any, dx: Any) -> None:
    _pass_where(work, grad, work.module.less_equal, y, 0.0, dx)


def _hardtanh(work: Work, x: Any, y: Any, *, low: float, high: float) -> None:
    m = work.module
    if y.dtype.kind == "i" or y.dtype.kind == "u":
        low, high = y.dtype.type(int(low)), y.dtype.type(int(high))
    m.maximum(x, low, out=y)
    m.minimum(y, high, out=y)


def _hardtanh_slope(work: Work, grad: Any, y: Any, dx: Any, *, low: float, high: float) -> None:
    m = work.module
    mask, other = work("mask", BOOL), work("other mask", BOOL)
    m.less_equal(y, low, out=mask)
    m.greater_equal(y, high, out=other)
    m.logical_or(mask, other, out=mask)
    m.logical_not(mask, out=mask)
    select(grad, mask, dx, work)


def _exact(bound: float) -> bool:
    """Whether every floating type has this number, so that an output at the bound can be told."""
    return abs(bound) <= 256 and bound == int(bound)


def _check_hardtanh(low: float, high: float) -> None:
    if low > high:
        raise ValueError(f"hardtanh: min_val must not be greater than max_val, got {low} and {high}")


def _leaky_relu(work: Work, x: Any, y: Any, *, slope: float) -> None:
    m = work.module
    if 0 < slope <= 1:
        m.multiply(x, slope, out=y)
        m.maximum(x, y, out=y)
        return
    part = work("a")
    m.minimum(x, 0, out=part)
    m.multiply(part, slope, out=part)
    m.maximum(x, 0, out=y)
    m.add(y, part, out=y)


def _leaky_relu_slope(work: Work, grad: Any, kept: Any, dx: Any, *, slope: float) -> None:
    one_or(work, kept, slope, dx)
    work.module.multiply(dx, grad, out=dx)


def one_or(work: Work, kept: Any, other: float, out: Any) -> None:
    """1 where ``kept`` is above 0, ``other`` elsewhere: exactly, and without the slow ``where``."""
    m = work.module
    mask = m.greater(kept, 0, out=work("mask", BOOL))
    out[...] = mask
    if 0 <= other <= 1:
        m.maximum(out, other, out=out)
    else:
        rest = work("rest")
        m.subtract(1.0, out, out=rest)
        m.multiply(rest, other, out=rest)
        m.add(out, rest, out=out)


def _hardsigmoid(work: Work, x: Any, y: Any) -> None:
    m = work.module
    m.add(x, 3.0, out=y)
    m.maximum(y, 0.0, out=y)
    m.minimum(y, 6.0, out=y)
    m.multiply(y, 1 / 6, out=y)


def _hardsigmoid_slope(work: Work, grad: Any, x: Any, dx: Any) -> None:
    m = work.module
    mask, size = work("mask", BOOL), work("a")
    m.abs(x, out=size)
    m.less(size, 3.0, out=mask)
    m.multiply(grad, 1 / 6, out=dx)
    select(dx, mask, dx, work)


def _hardswish(work: Work, x: Any, y: Any) -> None:
    _hardsigmoid(work, x, y)
    work.module.multiply(y, x, out=y)


def _hardswish_slope(work: Work, grad: Any, x: Any, dx: Any) -> None:
    m = work.module
    mask = work("mask", BOOL)
    m.multiply(x, 1 / 3, out=dx)
    m.add(dx, 0.5, out=dx)
    m.copyto(dx, 0.0, where=m.less_equal(x, -3.0, out=mask))
    m.copyto(dx, 1.0, where=m.greater_equal(x, 3.0, out=mask))
    m.multiply(dx, grad, out=dx)


def _softshrink(work: Work, x: Any, y: Any, *, lambd: float) -> None:
    m = work.module
    m.maximum(x, -lambd, out=y)
    m.minimum(y, lambd, out=y)
    m.subtract(x, y, out=y)


def _softshrink_slope(work: Work, grad: Any, y: Any, dx: Any, *, lambd: float) -> None:
    _pass_where(work, grad, work.module.equal, y, 0.0, dx)


def _check_softshrink(lambd: float) -> None:
    if lambd < 0:
        raise ValueError(f"softshrink: lambd must not be negative, got {lambd}")


def _hardshrink(work: Work, x: Any, y: Any, *, lambd: float) -> None:
    _hardshrink_slope(work, x, x, y, lambd=lambd)


def _hardshrink_slope(work: Work, grad: Any, x: Any, dx: Any, *, lambd: float) -> None:
    _pass_where(work, grad, work.module.less_equal, work.module.abs(x, out=work("a")), lambd, dx)


def _threshold(work: Work, x: Any, y: Any, *, threshold: float, value: float) -> None:
    m = work.module
    mask = m.less_equal(x, threshold, out=work("mask", BOOL))
    if x.dtype.kind != "f":
        y[...] = m.where(mask, y.dtype.type(int(value)), x)
        return
    m.logical_not(mask, out=mask)
    select(x, mask, y, work)
    if value:
        part = work("a")
        m.logical_not(mask, out=mask)
        part[...] = mask
        m.multiply(part, value, out=part)
        m.add(y, part, out=y)


def _threshold_slope(work: Work, grad: Any, x: Any, dx: Any, *, threshold: float, value: float) -> None:
    _pass_where(work, grad, work.module.less_equal, x, threshold, dx)


register(Activation("relu", _relu, _relu_slope, keep="y", integers="same", kinks=(0.0,)))
register(
    Activation(
        "hardtanh",
        _hardtanh,
        _hardtanh_slope,
        keep=lambda low, high: "y" if _exact(low) and _exact(high) else "x",
        integers="same",
        samples=({"low": -1.0, "high": 1.0}, {"low": 0.0, "high": 6.0}, {"low": -0.5, "high": 2.5}),
        kinks=(-1.0, 1.0, 0.0, 6.0, -0.5, 2.5),
        check=_check_hardtanh,
    )
)
register(
    Activation(
        "leaky_relu",
        _leaky_relu,
        _leaky_relu_slope,
        keep=lambda slope: "y" if slope > 0 else "x",
        samples=({"slope": 0.01}, {"slope": -0.5}, {"slope": 2.5}, {"slope": 0.0}),
        kinks=(0.0,),
    )
)
register(Activation("hardswish", _hardswish, _hardswish_slope, kinks=(-3.0, 3.0)))
register(Activation("hardsigmoid", _hardsigmoid, _hardsigmoid_slope, kinks=(-3.0, 3.0)))
register(
    Activation(
        "softshrink",
        _softshrink,
        _softshrink_slope,
        keep="y",
        samples=({"lambd": 0.5}, {"lambd": 1.5}),
        kinks=(-0.5, 0.5, -1.5, 1.5),
        check=_check_softshrink,
    )
)
register(
    Activation(
        "hardshrink",
        _hardshrink,
        _hardshrink_slope,
        samples=({"lambd": 0.5}, {"lambd": 1.5}),
        kinks=(-0.5, 0.5, -1.5, 1.5),
    )
)
register(
    Activation(
        "threshold",
        _threshold,
        _threshold_slope,
        integers="same",
        samples=({"threshold": 0.1, "value": 20.0}, {"threshold": -0.5, "value": 0.0}),
        kinks=(0.1, -0.5),
    )
)
