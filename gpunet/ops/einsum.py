"""Sums over products of indexed arrays in Einstein's notation: matrix products, diagonals, traces, outer products.

z[o] = sum over all labels not in o of x[a] y[b]        for label lists a, b and o

Labels shared by x, y and z are batches, those shared by x and y alone are contracted: a product of stacked matrices,
for BLAS. A label that stands twice in one list means its diagonal; a dimension of size one stretches.
dx[a] = the einsum of dz and y onto a, stretched along labels of x that are nowhere else, written to the diagonal.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from gpunet.backend.errors import DTypeError, ShapeError
from gpunet.ops.base import Context, Inferred, Op, Sample, Spec, module_of, register, require_same_dtype
from gpunet.ops.dtypes import BOOL, compute_dtype
from gpunet.ops.gemm import matrix_product

__all__ = ["EINSUM", "label_sizes", "parse_equation"]

Labels = tuple[str, ...]


def parse_equation(equation: str, shapes: Sequence[tuple[int, ...]]) -> tuple[tuple[Labels, ...], Labels]:
    """The labels of each operand and of the result. Dimensions of an ellipsis are labelled by numbers from the right.

    Raises:
        ValueError: not an equation.
        ShapeError: it does not fit the operands.
    """
    text = equation.replace(" ", "")
    left, arrow, right = text.partition("->")
    terms = left.split(",")
    if len(terms) != len(shapes):
        raise ValueError(f"einsum: equation {equation!r} names {len(terms)} operands, got {len(shapes)}")
    operands = []
    stretched = 0
    for position, (term, shape) in enumerate(zip(terms, shapes, strict=True)):
        before, dots, after = _split_ellipsis(equation, term)
        extra = len(shape) - len(before) - len(after)
        if extra < 0 or (extra and not dots):
            raise ShapeError(
                f"einsum: operand {position} has {len(shape)} dimensions, but its subscripts {term!r} name "
                f"{len(before) + len(after)}"
            )
        stretched = max(stretched, extra)
        operands.append((*before, *_numbered(extra), *after))
    ellipsis = _numbered(stretched)
    named = [label for labels in operands for label in labels if not label.isdecimal()]
    if not arrow:
        return tuple(operands), (*ellipsis, *sorted(label for label in set(named) if named.count(label) == 1))
    before, dots, after = _split_ellipsis(equation, right)
    output = (*before, *(ellipsis if dots else ()), *after)
    for label in (*before, *after):
        if label not in named:
            raise ValueError(f"einsum: output subscript {label!r} of {equation!r} is in no operand")
    if len(set(output)) != len(output):
        raise ValueError(f"einsum: an output subscript of {equation!r} stands twice")
    return tuple(operands), output


def _numbered(count: int) -> Labels:
    return tuple(str(number) for number in range(count - 1, -1, -1))


def _split_ellipsis(equation: str, term: str) -> tuple[str, str, str]:
    before, dots, after = term.partition("...")
    for label in before + after:
        if not (label.isascii() and label.isalpha()):
            raise ValueError(f"einsum: subscripts must be letters or one ellipsis (...), got {label!r} in {equation!r}")
    return before, dots, after


def label_sizes(operands: Sequence[Labels], shapes: Sequence[tuple[int, ...]]) -> dict[str, int]:
    """The size of each label.

    Raises:
        ShapeError: two sizes differ and neither is one.
    """
    sizes: dict[str, int] = {}
    for position, (labels, shape) in enumerate(zip(operands, shapes, strict=True)):
        own: dict[str, int] = {}
        for label, extent in zip(labels, shape, strict=True):
            known = own.setdefault(label, extent)
            if known != extent:
                raise ShapeError(
                    f"einsum: subscript {label!r} stands twice in operand {position}, for sizes {known} and {extent}"
                )
            if sizes.get(label, 1) == 1:
                sizes[label] = extent
            elif extent not in (1, sizes[label]):
                name = "the ellipsis" if label.isdecimal() else f"subscript {label!r}"
                raise ShapeError(f"einsum: {name} has size {extent} in operand {position}, but {sizes[label]} before")
    return sizes


def _arranged(module: Any, x: Any, labels: Labels, order: Sequence[str]) -> Any:
    """x with its dimensions in another order, and of size one where it has none."""
    kept = [label for label in order if label in labels]
    x = x.transpose([labels.index(label) for label in kept])
    return x.reshape([x.shape[kept.index(label)] if label in labels else 1 for label in order])


def _diagonal(module: Any, x: Any, labels: Labels) -> tuple[Any, Labels]:
    """A view with every label once."""
    while len(set(labels)) < len(labels):
        label = next(each for each in labels if labels.count(each) > 1)
        first = labels.index(label)
        second = labels.index(label, first + 1)
        x = module.diagonal(x, 0, first, second)
        labels = (*(each for axis, each in enumerate(labels) if axis not in (first, second)), label)
    return x, labels


def _simplified(module: Any, x: Any, labels: Labels, sizes: dict[str, int]) -> tuple[Any, Labels]:
    """Without dimensions that only stretch, and with every label once."""
    kept = [axis for axis, label in enumerate(labels) if x.shape[axis] == sizes[label]]
    if len(kept) < len(labels):
        x = x.reshape([x.shape[axis] for axis in kept])
        labels = tuple(labels[axis] for axis in kept)
    return _diagonal(module, x, labels)


def _summed(x: Any, labels: Labels, wanted: set[str]) -> tuple[Any, Labels]:
    """Sums over the labels that nobody else wants."""
    axes = tuple(axis for axis, label in enumerate(labels) if label not in wanted)
    if axes:
        x = x.sum(axis=axes, dtype=compute_dtype(x.dtype)).astype(x.dtype, copy=False)
        labels = tuple(label for label in labels if label in wanted)
    return x, labels


def _contract(module: Any, x: Any, a: Labels, y: Any, b: Labels, output: Labels, sizes: dict[str, int]) -> Any:
    """The einsum of two operands whose labels stand once each, onto labels that they have."""
    x, a = _summed(x, a, {*b, *output})
    y, b = _summed(y, b, {*a, *output})
    shared = [label for label in a if label in b]
    inner = [label for label in shared if label not in output]
    if not inner:
        return _arranged(module, x, a, output) * _arranged(module, y, b, output)
    batch = [label for label in output if label in shared]
    rows = [label for label in output if label in a and label not in b]
    columns = [label for label in output if label in b and label not in a]
    stack = tuple(sizes[label] for label in batch)
    m, k, n = (math.prod(sizes[label] for label in group) for group in (rows, inner, columns))
    left = _arranged(module, x, a, [*batch, *rows, *inner]).reshape((*((math.prod(stack),) if batch else ()), m, k))
    right = _arranged(module, y, b, [*batch, *inner, *columns]).reshape((*((math.prod(stack),) if batch else ()), k, n))
    product = module.matmul(left, right) if x.dtype.kind in "iu" else matrix_product(left, right)
    made = [*batch, *rows, *columns]
    product = product.reshape([sizes[label] for label in made])
    return product.transpose([made.index(label) for label in output])


class Einsum(Op):
    """The einsum of one or two arrays.

    Args:
        inputs: x, or x and y.
        operands: the labels of each.
        output: those of the result.
    """

    name = "einsum"
    autocast = "lower"

    def infer(self, *inputs: Any, operands: tuple[Labels, ...], output: Labels) -> Inferred:
        names = {f"operand {position}": value for position, value in enumerate(inputs)}
        require_same_dtype("einsum", **names)
        if inputs[0].dtype == BOOL:
            raise DTypeError("einsum: not defined for bool; cast the operands first")
        sizes = label_sizes(operands, [tuple(value.shape) for value in inputs])
        return Inferred((Spec(tuple(sizes[label] for label in output), inputs[0].dtype),), math.prod(sizes.values()))

    def forward(self, ctx: Context, *inputs: Any, operands: tuple[Labels, ...], output: Labels) -> Any:
        module = module_of(*inputs)
        sizes = label_sizes(operands, [tuple(value.shape) for value in inputs])
        ctx.state = sizes, tuple(tuple(value.shape) for value in inputs)
        if len(inputs) == 1:
            x, labels = _simplified(module, inputs[0], operands[0], sizes)
            x, labels = _summed(x, labels, set(output))
            x = x.transpose([labels.index(label) for label in output])
            return x.copy() if x.base is not None or x is inputs[0] else x
        ctx.save(*(value if ctx.needs_grad[1 - position] else None for position, value in enumerate(inputs)))
        x, a = _simplified(module, inputs[0], operands[0], sizes)
        y, b = _simplified(module, inputs[1], operands[1], sizes)
        return _contract(module, x, a, y, b, output, sizes)

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        (grad,) = grad_outputs
        sizes, shapes = ctx.state
        operands, output = ctx.attributes["operands"], ctx.attributes["output"]
        module = module_of(grad)
        result: list[Any] = []
        for position, (labels, shape) in enumerate(zip(operands, shapes, strict=True)):
            if not ctx.needs_grad[position]:
                result.append(None)
                continue
            dx = module.zeros(shape, grad.dtype)
            into, own = _simplified(module, dx, labels, sizes)
            other: Any = None
            there: Labels = ()
            if len(operands) > 1:
                other, there = _simplified(module, ctx.saved[1 - position], operands[1 - position], sizes)
            reached = tuple(label for label in own if label in output or label in there)
            if other is None:
                part, left = _summed(grad, output, set(reached))
                part = part.transpose([left.index(label) for label in reached])
            else:
                part = _contract(module, grad, output, other, there, reached, sizes)
            part = _arranged(module, part, reached, own)
            if into is not dx and not (module is np and into.flags.writeable):
                into = _writable(module, into)
            if into is dx and part.shape == dx.shape:
                dx = part
            else:
                into[...] = part
            result.append(dx)
        return tuple(result)

    def samples(self) -> Iterator[Sample]:
        rng = np.random.default_rng(91)
        for equation, *shapes in (
            ("ij->ji", (3, 4)),
            ("ijk->k", (2, 3, 4)),
            ("ii->", (4, 4)),
            ("ii->i", (4, 4)),
            ("iji->ij", (3, 2, 3)),
            ("...i->...", (2, 3, 4)),
            ("ij,jk->ik", (3, 4), (4, 5)),
            ("ij,kj->ki", (3, 4), (5, 4)),
            ("bij,bjk->bik", (2, 3, 4), (2, 4, 5)),
            ("bhid,bhjd->bhij", (2, 3, 4, 5), (2, 3, 6, 5)),
            ("i,j->ij", (3,), (4,)),
            ("i,i->", (5,), (5,)),
            ("ij,ij->ij", (3, 4), (3, 4)),
            ("...ij,...jk->...ik", (2, 3, 4), (4, 5)),
            ("ij,jk->k", (3, 4), (4, 5)),
            ("ii,ij->j", (3, 3), (3, 4)),
            ("ij,ij->i", (3, 1), (3, 4)),
            ("ij,jk->ik", (0, 4), (4, 5)),
        ):
            operands, output = parse_equation(equation, shapes)
            label = "empty batch" if 0 in shapes[0] else f"{equation} {shapes[0]}"
            inputs = tuple(rng.standard_normal(shape) for shape in shapes)
            yield Sample(label, inputs, {"operands": operands, "output": output})
        yield Sample("transposed", (rng.standard_normal((4, 3)).T, rng.standard_normal((5, 4)).T),
                     {"operands": (("i", "j"), ("j", "k")), "output": ("i", "k")})  # fmt: skip


def _writable(module: Any, view: Any) -> Any:
    """NumPy's diagonals are read-only until told otherwise."""
    if module is np:
        view.flags.writeable = True
    return view


EINSUM = register(Einsum())
