"""Losses of each element by distances and margins, averaged or summed in the same pass over the data.

    l1_loss              |x - t|                            mse_loss        w (x - t)^2
    smooth_l1_loss       (x - t)^2 / (2 beta) up to |x - t| = beta, then |x - t| - beta / 2
    huber_loss           (x - t)^2 / 2 up to |x - t| = delta, then delta (|x - t| - delta / 2)
    soft_margin_loss     log(1 + exp(-t x))
    hinge_embedding_loss x where t = 1, max(0, margin - x) where t = -1
    margin_ranking_loss  max(0, margin - t (x - y))

PyTorch's definitions. Inputs broadcast. Backward computes from the inputs anew; nothing else is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from gpunet.backend.errors import DTypeError, ShapeError
from gpunet.ops.base import Context, Inferred, Op, Sample, Spec, module_of, register
from gpunet.ops.chunked import Layout, Work, map_chunks, select, sum_chunks
from gpunet.ops.dtypes import BOOL, compute_dtype, is_floating, result_type
from gpunet.ops.elementwise import broadcast_shapes, unbroadcast
from gpunet.ops.smooth_activations import log1p_exp_negative, sigmoid_of

__all__ = ["PAIR", "REDUCTIONS", "ElementwiseLoss", "check_reduction", "negated", "weighted", "weighted_draw"]

REDUCTIONS = ("none", "mean", "sum")

PAIR = ("input", "target")

# value(work, *inputs, out, **attributes); one slope(work, *inputs, out, **attributes) for each input that has one.
Function = Callable[..., None]


def check_reduction(op: str, reduction: Any) -> None:
    """Raise unless the reduction is one there is."""
    if reduction not in REDUCTIONS:
        raise ValueError(f"{op}: reduction must be one of {', '.join(map(repr, REDUCTIONS))}, got {reduction!r}")


class ElementwiseLoss(Op):
    """A loss of each element of several arrays that broadcast.

    Args:
        name: the operation's name.
        names: of the inputs; those after the second may be left out.
        value: writes the loss.
        slopes: for each input what writes the derivative, None where there is none.
        same_shape: of the second input, that it must have the first one's shape.
        samples: attributes of its samples.
        draw: makes the inputs of a sample from (rng, shape).
        check: raises for attributes that make no sense.
        guard: raises for values that do, before anything else runs.
    """

    autocast = "float32"

    def __init__(
        self,
        name: str,
        names: tuple[str, ...],
        value: Function,
        slopes: tuple[Function | None, ...],
        *,
        same_shape: bool = False,
        samples: tuple[dict[str, Any], ...] = ({},),
        draw: Callable[[Any, tuple[int, ...]], tuple[Any, ...]] | None = None,
        check: Callable[..., None] | None = None,
        guard: Callable[..., None] | None = None,
    ) -> None:
        self.name = name
        self.names = names
        self.value = value
        self.slopes = slopes
        self.same_shape = same_shape
        self.cases = samples
        self.draw = draw
        self.check = check
        self.guard = guard

    def infer(self, *inputs: Any, reduction: str, **attributes: Any) -> Inferred:
        check_reduction(self.name, reduction)
        if self.check is not None:
            self.check(**attributes)
        given = [array for array in inputs if array is not None]
        if self.same_shape and tuple(inputs[0].shape) != tuple(inputs[1].shape):
            raise ShapeError(
                f"{self.name}: {self.names[1]} must have the input's shape {tuple(inputs[0].shape)}, "
                f"got {tuple(inputs[1].shape)}"
            )
        shape = broadcast_shapes(self.name, *(tuple(array.shape) for array in given))
        dtype = result_type(*given)
        if not is_floating(dtype):
            raise DTypeError(
                f"{self.name}: {self.names[0]} and {self.names[1]} must be floating point, got {dtype.name}"
            )
        return Inferred((Spec(shape if reduction == "none" else (), dtype),))

    def _prepare(self, inputs: tuple[Any, ...]) -> tuple[Layout, list[Any], Any]:
        """The layout, the inputs that are given, and the dtype of the result."""
        given = [array for array in inputs if array is not None]
        shape = broadcast_shapes(self.name, *(tuple(array.shape) for array in given))
        return Layout(shape, *given), given, result_type(*given)

    def forward(self, ctx: Context, *inputs: Any, reduction: str, **attributes: Any) -> Any:
        layout, given, dtype = self._prepare(inputs)
        carry = compute_dtype(dtype)
        if self.guard is not None:
            self.guard(module_of(*given), *inputs)
        ctx.save(*inputs)

        def body(work: Work, *arrays: Any) -> None:
            self.value(work, *_spread(inputs, arrays[:-1]), arrays[-1], **attributes)

        if reduction == "none":
            (losses,) = map_chunks(layout, given, (dtype,), body)
            return losses
        total = sum_chunks(layout, given, carry, body)
        if reduction == "mean":
            total = total / carry.type(layout.size)
        return total.astype(dtype)

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        (grad,) = grad_outputs
        inputs = ctx.saved
        attributes = {name: value for name, value in ctx.attributes.items() if name != "reduction"}
        layout, given, dtype = self._prepare(inputs)
        carry = compute_dtype(dtype)
        scale = grad.astype(carry, copy=False)
        if ctx.attributes["reduction"] == "mean":
            scale = scale / carry.type(max(layout.size, 1))
        wanted = [
            position for position, slope in enumerate(self.slopes) if slope is not None and ctx.needs_grad[position]
        ]

        def body(work: Work, *arrays: Any) -> None:
            values = _spread(inputs, arrays[: len(given)])
            for position, out in zip(wanted, arrays[len(given) + 1 :], strict=True):
                slope = self.slopes[position]
                assert slope is not None
                slope(work, *values, out, **attributes)
                work.module.multiply(out, arrays[len(given)], out=out)

        made = map_chunks(
            layout, (*given, module_of(grad).asarray(scale)), [inputs[p].dtype for p in wanted], body, carry
        )
        gradients: list[Any] = [None] * len(inputs)
        for position, gradient in zip(wanted, made, strict=True):
            gradients[position] = unbroadcast(gradient, inputs[position])
        return tuple(gradients)

    def _drawn(self, rng: Any, shape: tuple[int, ...]) -> tuple[Any, ...]:
        if self.draw is not None:
            return self.draw(rng, shape)
        return tuple(rng.standard_normal(shape) for _ in self.names)

    def samples(self) -> Iterator[Sample]:
        rng = np.random.default_rng(53)
        first = self.cases[0]
        for reduction in REDUCTIONS:
            for attributes in self.cases:
                label = " ".join(f"{name} {value}" for name, value in attributes.items())
                yield Sample(
                    f"{reduction} {label}".strip(), self._drawn(rng, (3, 4)), {"reduction": reduction, **attributes}
                )
        plain = {"reduction": "mean", **first}
        if len(self.names) > 2:
            inputs = self._drawn(rng, (3, 4))
            bare = (*inputs[:2], *([None] * (len(inputs) - 2)))
            if self.name not in ("gaussian_nll_loss", "margin_ranking_loss"):
                yield Sample("two inputs", bare, plain)
        image = self._drawn(rng, (2, 3, 4, 5))
        yield Sample("channels last", tuple(array.transpose(0, 3, 1, 2) for array in image), plain)
        yield Sample("mixed order", (image[0], *(np.asfortranarray(array) for array in image[1:])), plain)
        yield Sample("several chunks", self._drawn(rng, (3, 200, 100)), plain)
        if not self.same_shape:
            inputs = self._drawn(rng, (3, 4))
            yield Sample("broadcast", (inputs[0], inputs[1][0], *(array[:, :1] for array in inputs[2:])), plain)
        yield Sample("empty batch", self._drawn(rng, (0, 4)), {**plain, "reduction": "sum"})


def _spread(inputs: tuple[Any, ...], arrays: tuple[Any, ...]) -> list[Any]:
    """The chunks in the inputs' places, None where an input was left out."""
    rest = iter(arrays)
    return [None if value is None else next(rest) for value in inputs]


def negated(slope: Function) -> Function:
    """The slope of the other of two inputs that count only by their difference."""

    def negated(work: Work, *arrays: Any, **attributes: Any) -> None:
        slope(work, *arrays, **attributes)
        work.module.negative(arrays[-1], out=arrays[-1])

    return negated


def weighted(work: Work, out: Any, weight: Any) -> None:
    """Multiply by the weight, if there is one."""
    if weight is not None:
        work.module.multiply(out, weight, out=out)


def _l1(work: Work, x: Any, t: Any, out: Any) -> None:
    m = work.module
    m.subtract(x, t, out=out)
    m.abs(out, out=out)


def _l1_slope(work: Work, x: Any, t: Any, out: Any) -> None:
    m = work.module
    m.subtract(x, t, out=out)
    m.sign(out, out=out)


def _mse(work: Work, x: Any, t: Any, w: Any, out: Any) -> None:
    m = work.module
    m.subtract(x, t, out=out)
    m.multiply(out, out, out=out)
    weighted(work, out, w)


def _mse_slope(work: Work, x: Any, t: Any, w: Any, out: Any) -> None:
    m = work.module
    m.subtract(x, t, out=out)
    m.multiply(out, 2.0, out=out)
    weighted(work, out, w)


def _mse_weight_slope(work: Work, x: Any, t: Any, w: Any, out: Any) -> None:
    _mse(work, x, t, None, out)


def _huber(work: Work, x: Any, t: Any, out: Any, *, delta: float) -> None:
    m = work.module
    near = work("a")
    _l1(work, x, t, out)
    m.minimum(out, delta, out=near)  # near (d - near / 2) is both branches
    m.multiply(near, 0.5, out=work("b"))
    m.subtract(out, work("b"), out=out)
    m.multiply(out, near, out=out)


def _huber_slope(work: Work, x: Any, t: Any, out: Any, *, delta: float) -> None:
    m = work.module
    m.subtract(x, t, out=out)
    m.maximum(out, -delta, out=out)
    m.minimum(out, delta, out=out)


def _smooth_l1(work: Work, x: Any, t: Any, out: Any, *, beta: float) -> None:
    if beta == 0:
        _l1(work, x, t, out)
    else:
        _huber(work, x, t, out, delta=beta)
        work.module.multiply(out, 1.0 / beta, out=out)


def _smooth_l1_slope(work: Work, x: Any, t: Any, out: Any, *, beta: float) -> None:
    if beta == 0:
        _l1_slope(work, x, t, out)
    else:
        _huber_slope(work, x, t, out, delta=beta)
        work.module.multiply(out, 1.0 / beta, out=out)


def _check_beta(beta: float) -> None:
    if beta < 0:
        raise ValueError(f"smooth_l1_loss: beta must not be negative, got {beta}")


def _check_delta(delta: float) -> None:
    if not delta > 0:
        raise ValueError(f"huber_loss: delta must be positive, got {delta}")


def _soft_margin(work: Work, x: Any, t: Any, out: Any) -> None:
    m = work.module
    product = m.multiply(t, x, out=work("a"))
    log1p_exp_negative(work, product, out)
    m.minimum(product, 0.0, out=product)
    m.subtract(out, product, out=out)


def _soft_margin_slope(work: Work, x: Any, t: Any, out: Any) -> None:
    m = work.module
    product = m.multiply(t, x, out=work("a"))
    m.negative(product, out=product)
    sigmoid_of(work, product, out)
    m.multiply(out, t, out=out)
    m.negative(out, out=out)


def _soft_margin_target_slope(work: Work, x: Any, t: Any, out: Any) -> None:
    _soft_margin_slope(work, t, x, out)


def _hinge(work: Work, x: Any, t: Any, out: Any, *, margin: float) -> None:
    m = work.module
    part = work("a")
    mask = m.not_equal(t, -1, out=work("mask", BOOL))
    select(x, mask, out, work)
    m.not_equal(t, 1, out=mask)
    m.subtract(margin, x, out=part)
    m.maximum(part, 0, out=part)
    m.add(out, select(part, mask, part, work), out=out)


def _hinge_slope(work: Work, x: Any, t: Any, out: Any, *, margin: float) -> None:
    m = work.module
    mask, near = m.not_equal(t, 1, out=work("mask", BOOL)), work("near", BOOL)
    m.less_equal(x, margin, out=near)
    m.logical_and(mask, near, out=mask)
    part = work("a")
    part[...] = mask
    m.not_equal(t, -1, out=mask)
    out[...] = mask
    m.subtract(out, part, out=out)


def _ranking(work: Work, x: Any, y: Any, t: Any, out: Any, *, margin: float) -> None:
    m = work.module
    m.subtract(y, x, out=out)
    m.multiply(out, t, out=out)
    m.add(out, margin, out=out)
    m.maximum(out, 0, out=out)


def _ranking_active(work: Work, x: Any, y: Any, t: Any, values: Any, out: Any, margin: float) -> None:
    """``values`` where the hinge is not below 0."""
    m = work.module
    hinge = m.subtract(y, x, out=work("a"))
    m.multiply(hinge, t, out=hinge)
    m.add(hinge, margin, out=hinge)
    select(values, m.greater_equal(hinge, 0, out=work("mask", BOOL)), out, work)


def _ranking_slope(work: Work, x: Any, y: Any, t: Any, out: Any, *, margin: float) -> None:
    work.module.negative(t, out=out)
    _ranking_active(work, x, y, t, out, out, margin)


def _ranking_target_slope(work: Work, x: Any, y: Any, t: Any, out: Any, *, margin: float) -> None:
    work.module.subtract(y, x, out=out)
    _ranking_active(work, x, y, t, out, out, margin)


def _apart(rng: Any, shape: tuple[int, ...]) -> tuple[Any, ...]:
    """Inputs and targets whose difference is no kink: not 0, 0.5, 1, or 1.5."""
    gaps = rng.choice(np.array([-2.2, -1.2, -0.7, -0.3, 0.2, 0.8, 1.3, 1.9]), shape)
    target = rng.standard_normal(shape)
    return target + gaps + rng.random(shape) * 0.1, target


def weighted_draw(rng: Any, shape: tuple[int, ...]) -> tuple[Any, ...]:
    """Two arrays of a sample, and a positive one."""
    return rng.standard_normal(shape), rng.standard_normal(shape), rng.random(shape) + 0.2


def _signs(rng: Any, shape: tuple[int, ...]) -> tuple[Any, ...]:
    x, _ = _apart(rng, shape)
    return np.where(np.abs(x - 1) < 0.05, 2.0, x), np.where(rng.random(shape) < 0.5, -1, 1)


def _ranked(rng: Any, shape: tuple[int, ...]) -> tuple[Any, ...]:
    return (*_apart(rng, shape), np.where(rng.random(shape) < 0.5, -1.0, 1.0))


register(ElementwiseLoss("l1_loss", PAIR, _l1, (_l1_slope, negated(_l1_slope)), draw=_apart))
register(
    ElementwiseLoss(
        "mse_loss", (*PAIR, "weight"), _mse, (_mse_slope, negated(_mse_slope), _mse_weight_slope), draw=weighted_draw
    )
)
register(
    ElementwiseLoss(
        "smooth_l1_loss",
        PAIR,
        _smooth_l1,
        (_smooth_l1_slope, negated(_smooth_l1_slope)),
        samples=({"beta": 1.0}, {"beta": 0.5}, {"beta": 0.0}),
        draw=_apart,
        check=_check_beta,
    )
)
register(
    ElementwiseLoss(
        "huber_loss",
        PAIR,
        _huber,
        (_huber_slope, negated(_huber_slope)),
        samples=({"delta": 1.0}, {"delta": 0.5}),
        draw=_apart,
        check=_check_delta,
    )
)
register(ElementwiseLoss("soft_margin_loss", PAIR, _soft_margin, (_soft_margin_slope, _soft_margin_target_slope)))
register(
    ElementwiseLoss("hinge_embedding_loss", PAIR, _hinge, (_hinge_slope, None), samples=({"margin": 1.0},), draw=_signs)
)
register(
    ElementwiseLoss(
        "margin_ranking_loss",
        ("input1", "input2", "target"),
        _ranking,
        (_ranking_slope, negated(_ranking_slope), _ranking_target_slope),
        samples=({"margin": 0.0}, {"margin": 0.5}),
        draw=_ranked,
    )
)
