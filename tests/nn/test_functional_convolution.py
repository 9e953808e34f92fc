"""Convolutions of one and three dimensions, transposed ones, unfold and fold against PyTorch.

``test_functional.py`` has the table of two dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gpunet as gn
import gpunet.nn.functional as F
from gpunet.testing.parity import Case, attempt, case, check_case, compare_outcomes

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity

Shape = tuple[int, ...]
Table = list[tuple[str, Shape, Shape, dict[str, Any]]]


def on(label: str, run: Callable[..., Any], *inputs: Any, **bounds: Any) -> Case:
    """A case of the functions alone: ``run`` takes ``nn.functional`` and the inputs."""
    return case(label, lambda m, *tensors: run(m.nn.functional, *tensors), *inputs, **bounds)


# label, input, weight, arguments; the bias is there in every second case.
SEQUENCES: Table = [
    ("plain", (2, 3, 9), (4, 3, 3), {}),
    ("padded", (2, 3, 9), (4, 3, 3), {"padding": 2}),
    ("padding larger than the kernel", (1, 2, 4), (3, 2, 2), {"padding": 3}),
    ("strided", (2, 3, 9), (4, 3, 3), {"stride": 2, "padding": 1}),
    ("stride larger than the kernel", (2, 3, 13), (4, 3, 2), {"stride": 4}),
    ("dilated", (2, 3, 12), (4, 3, 4), {"dilation": 3}),
    ("dilated strided", (2, 3, 14), (4, 3, 3), {"dilation": 2, "stride": 3, "padding": 2}),
    ("groups", (2, 4, 9), (6, 2, 3), {"groups": 2}),
    ("depthwise", (2, 5, 9), (5, 1, 3), {"groups": 5, "padding": 1}),
    ("depthwise strided dilated", (2, 3, 15), (6, 1, 3), {"groups": 3, "stride": 2, "dilation": 3}),
    ("pointwise", (2, 5, 9), (4, 5, 1), {}),
    ("same", (2, 3, 9), (4, 3, 3), {"padding": "same"}),
    ("same even dilated", (2, 3, 9), (4, 3, 4), {"padding": "same", "dilation": 2}),
    ("valid", (2, 3, 9), (4, 3, 3), {"padding": "valid", "stride": 2}),
    ("tuples", (2, 3, 9), (4, 3, 3), {"padding": (1,), "stride": [2], "dilation": (1,)}),
    ("long", (2, 8, 5000), (4, 8, 5), {"padding": 2}),
    ("unbatched", (3, 9), (4, 3, 3), {}),
    ("empty batch", (0, 3, 9), (4, 3, 3), {}),
    # refused
    ("wrong channels", (2, 2, 9), (4, 3, 3), {}),
    ("wrong rank", (9,), (4, 3, 3), {}),
    ("4-d input", (1, 2, 3, 9), (4, 3, 3), {}),
    ("weight of wrong rank", (2, 3, 9), (4, 3), {}),
    ("kernel too large", (2, 3, 4), (4, 3, 5), {}),
    ("stride zero", (2, 3, 9), (4, 3, 3), {"stride": 0}),
    ("padding negative", (2, 3, 9), (4, 3, 3), {"padding": -1}),
    ("dilation zero", (2, 3, 9), (4, 3, 3), {"dilation": 0}),
    ("groups zero", (2, 3, 9), (4, 3, 3), {"groups": 0}),
    ("groups do not divide", (2, 4, 9), (3, 2, 3), {"groups": 2}),
    ("two strides", (2, 3, 9), (4, 3, 3), {"stride": (1, 1)}),
    ("float stride", (2, 3, 9), (4, 3, 3), {"stride": 1.5}),
    ("same with stride", (2, 3, 9), (4, 3, 3), {"padding": "same", "stride": 2}),
    ("unknown padding", (2, 3, 9), (4, 3, 3), {"padding": "full"}),
]

VOLUMES: Table = [
    ("plain", (2, 3, 4, 5, 6), (4, 3, 3, 3, 3), {}),
    ("padded", (2, 3, 4, 5, 6), (4, 3, 3, 2, 3), {"padding": (1, 0, 2)}),
    ("strided", (1, 3, 5, 6, 7), (4, 3, 2, 3, 3), {"stride": (2, 1, 3), "padding": 1}),
    ("dilated", (1, 2, 6, 7, 8), (3, 2, 2, 3, 2), {"dilation": (3, 1, 2), "stride": 2}),
    ("groups", (2, 4, 3, 4, 5), (6, 2, 2, 2, 2), {"groups": 2}),
    ("depthwise", (2, 3, 4, 5, 5), (3, 1, 3, 3, 3), {"groups": 3, "padding": 1}),
    ("depthwise strided", (1, 3, 5, 5, 5), (6, 1, 3, 2, 3), {"groups": 3, "stride": 2}),
    ("pointwise", (2, 5, 2, 3, 4), (4, 5, 1, 1, 1), {}),
    ("flat kernel", (2, 3, 4, 5, 6), (2, 3, 1, 3, 3), {"padding": (0, 1, 1)}),
    ("same", (1, 2, 4, 5, 6), (3, 2, 3, 2, 3), {"padding": "same"}),
    ("valid", (1, 2, 4, 5, 6), (3, 2, 3, 2, 3), {"padding": "valid"}),
    ("unbatched", (3, 4, 5, 6), (4, 3, 3, 3, 3), {}),
    ("empty batch", (0, 3, 4, 5, 6), (4, 3, 3, 3, 3), {}),
    ("many blocks", (2, 8, 7, 20, 21), (4, 8, 3, 3, 3), {"padding": 1}),
    ("one-element sequences", (1, 2, 4, 5, 6), (3, 2, 2, 2, 2), {"padding": [1], "stride": (2,)}),
    # refused
    ("wrong channels", (2, 2, 4, 5, 6), (4, 3, 3, 3, 3), {}),
    ("wrong rank", (4, 5, 6), (4, 3, 3, 3, 3), {}),
    ("6-d input", (1, 1, 3, 4, 5, 6), (4, 3, 3, 3, 3), {}),
    ("kernel too large", (2, 3, 2, 5, 6), (4, 3, 3, 3, 3), {}),
    ("two strides", (2, 3, 4, 5, 6), (4, 3, 3, 3, 3), {"stride": (1, 2)}),
    ("padding negative", (2, 3, 4, 5, 6), (4, 3, 3, 3, 3), {"padding": (0, 0, -1)}),
]

# The weight is (C, K / groups, ...).
TRANSPOSED: Table = [
    ("plain", (2, 3, 5, 6), (3, 4, 3, 3), {}),
    ("padded", (2, 3, 5, 6), (3, 4, 3, 2), {"padding": (1, 0)}),
    ("strided", (2, 3, 4, 5), (3, 4, 4, 4), {"stride": 2, "padding": 1}),
    ("tiles", (2, 3, 4, 5), (3, 4, 2, 2), {"stride": 2}),
    ("stride larger than the kernel", (1, 2, 3, 4), (2, 3, 2, 1), {"stride": (4, 3)}),
    ("output padding", (2, 3, 4, 5), (3, 2, 3, 3), {"stride": (2, 3), "padding": 1, "output_padding": (1, 2)}),
    ("output padding below dilation", (1, 2, 4, 5), (2, 2, 2, 3), {"dilation": 3, "output_padding": 2}),
    ("output padding of both", (1, 2, 3, 4), (2, 2, 3, 2), {"dilation": 2, "stride": 3, "output_padding": (2, 1)}),
    ("dilated", (2, 3, 5, 4), (3, 4, 3, 3), {"dilation": (2, 3)}),
    ("dilated strided padded", (2, 3, 4, 4), (3, 4, 3, 3), {"dilation": 2, "stride": 2, "padding": 3}),
    ("groups", (2, 4, 4, 4), (4, 3, 3, 3), {"groups": 2, "stride": 2}),
    ("depthwise", (2, 5, 4, 5), (5, 1, 3, 3), {"groups": 5, "padding": 1}),
    ("depthwise strided", (2, 3, 4, 5), (3, 2, 3, 3), {"groups": 3, "stride": 2, "output_padding": 1}),
    ("pointwise", (2, 5, 4, 4), (5, 3, 1, 1), {}),
    ("one pixel", (2, 5, 1, 1), (5, 3, 4, 4), {}),
    ("many blocks", (3, 16, 25, 31), (16, 8, 4, 4), {"stride": 2, "padding": 1}),
    ("unbatched", (3, 4, 5), (3, 4, 3, 3), {"stride": 2}),
    ("empty batch", (0, 3, 4, 5), (3, 4, 3, 3), {}),
    # refused
    ("wrong channels", (2, 2, 5, 6), (3, 4, 3, 3), {}),
    ("wrong rank", (5, 6), (3, 4, 3, 3), {}),
    ("weight of wrong rank", (2, 3, 5, 6), (3, 4, 3), {}),
    ("output padding too large", (2, 3, 5, 6), (3, 4, 3, 3), {"output_padding": 1}),
    ("output padding as large as the stride", (2, 3, 5, 6), (3, 4, 3, 3), {"stride": 2, "output_padding": (0, 2)}),
    ("output padding negative", (2, 3, 5, 6), (3, 4, 3, 3), {"stride": 2, "output_padding": -1}),
    ("padding leaves nothing", (2, 3, 2, 2), (3, 4, 2, 2), {"padding": 2}),
    ("padding negative", (2, 3, 5, 6), (3, 4, 3, 3), {"padding": -1}),
    ("stride zero", (2, 3, 5, 6), (3, 4, 3, 3), {"stride": 0}),
    ("dilation zero", (2, 3, 5, 6), (3, 4, 3, 3), {"dilation": 0}),
    ("groups do not divide", (2, 3, 5, 6), (3, 4, 3, 3), {"groups": 2}),
    ("groups zero", (2, 3, 5, 6), (3, 4, 3, 3), {"groups": 0}),
    ("named padding", (2, 3, 5, 6), (3, 4, 3, 3), {"padding": "same"}),
    ("three strides", (2, 3, 5, 6), (3, 4, 3, 3), {"stride": (1, 1, 1)}),
]


def _call(name: str, kw: dict[str, Any]) -> Callable[..., Any]:
    return lambda m, x, w, *b: getattr(m.nn.functional, name)(x, w, *b, **kw)


def _cases(name: str, table: Table, channels: Callable[[Shape, dict[str, Any]], int]) -> list[Case]:
    return [
        case(
            f"{name} {label}",
            _call(name, kw),
            x,
            w,
            *([(channels(w, kw),)] if number % 2 else []),
            terms=math.prod(x),
        )
        for number, (label, x, w, kw) in enumerate(table)
    ]


def _narrowed(table: Table) -> Table:
    """The table of two dimensions in one: the last dimension alone."""

    def last(value: Any) -> Any:
        return value[-1:] if isinstance(value, tuple) and len(value) == 2 else value

    return [
        (label, (*x[:-2], x[-1]), (*w[:-2], w[-1]) if len(w) == 4 else w[:2], {k: last(v) for k, v in kw.items()})
        for label, x, w, kw in table
        if label != "many blocks"
    ]


def _deepened(table: Table) -> Table:
    """The table of two dimensions in three: another in front."""

    def deeper(value: Any) -> Any:
        return (value[0], *value) if isinstance(value, tuple) else value

    return [
        (label, (*x[:-2], 2, *x[-2:]), (*w[:2], 2, *w[2:]), {k: deeper(v) for k, v in kw.items()})
        for label, x, w, kw in table
        if label != "many blocks"
    ]


CONVOLUTIONS = [
    *_cases("conv1d", SEQUENCES, lambda w, kw: w[0]),
    *_cases("conv3d", VOLUMES, lambda w, kw: w[0]),
    *_cases("conv_transpose2d", TRANSPOSED, lambda w, kw: w[1] * kw.get("groups", 1)),
    *_cases("conv_transpose1d", _narrowed(TRANSPOSED), lambda w, kw: w[1] * kw.get("groups", 1)),
    *_cases("conv_transpose3d", _deepened(TRANSPOSED), lambda w, kw: w[1] * kw.get("groups", 1)),
    on("conv1d positional", lambda f, x, w, b: f.conv1d(x, w, b, 2, 1, 1, 1), (2, 3, 8), (4, 3, 3), (4,)),
    on("conv3d positional", lambda f, x, w, b: f.conv3d(x, w, b, 2, 1, 1, 1), (2, 3, 5, 4, 4), (4, 3, 3, 3, 3), (4,)),
    on("conv_transpose1d positional", lambda f, x, w, b: f.conv_transpose1d(x, w, b, 2, 1, 1, 3, 1),
       (2, 3, 8), (3, 2, 3), (6,)),
    on("conv_transpose2d positional", lambda f, x, w, b: f.conv_transpose2d(x, w, b, 2, 1, 1, 3, 1),
       (2, 3, 4, 5), (3, 2, 3, 3), (6,)),
    on("conv_transpose3d positional", lambda f, x, w, b: f.conv_transpose3d(x, w, b, 2, 1, 1, 3, 1),
       (1, 3, 2, 4, 3), (3, 2, 3, 3, 3), (6,)),
    on("conv1d of a transposed input", lambda f, x, w: f.conv1d(x.transpose(1, 2), w), (2, 9, 3), (4, 3, 3)),
    on("conv1d of every second value", lambda f, x, w: f.conv1d(x[:, ::2, ::2], w), (2, 5, 18), (4, 3, 3)),
    on("conv1d of an expanded input", lambda f, x, w: f.conv1d(x.expand(2, 3, 9), w), (2, 1, 9), (4, 3, 3)),
    on("conv1d twice", lambda f, x, w: f.conv1d(f.conv1d(x, w).relu(), w), (2, 3, 9), (3, 3, 3), terms=81),
    on("conv3d of a permuted input", lambda f, x, w: f.conv3d(x.permute(0, 4, 1, 2, 3), w),
       (2, 4, 5, 6, 3), (4, 3, 3, 3, 3), terms=81),
    on("conv_transpose2d of a sliced input", lambda f, x, w: f.conv_transpose2d(x[:, 1:, ::2], w),
       (2, 4, 6, 5), (3, 4, 3, 3)),
    on("conv_transpose2d frozen weight", lambda f, x, w: f.conv_transpose2d(x, w.detach()), (2, 3, 5, 5), (3, 4, 3, 3)),
    on("conv_transpose2d frozen input", lambda f, x, w: f.conv_transpose2d(x.detach(), w), (2, 3, 5, 5), (3, 4, 3, 3),
       terms=200),
    on("conv_transpose2d expanded gradient", lambda f, x, w: f.conv_transpose2d(x, w).sum(), (2, 3, 5, 5), (3, 4, 3, 3),
       terms=2000),
    on("conv_transpose2d empty batch, output padding too large",
       lambda f, x, w: f.conv_transpose2d(x, w, output_padding=1), (0, 3, 4, 4), (3, 4, 3, 3)),
    on("conv1d wrong bias", lambda f, x, w, b: f.conv1d(x, w, b), (2, 3, 9), (4, 3, 3), (3,)),
    on("conv_transpose2d wrong bias", lambda f, x, w, b: f.conv_transpose2d(x, w, b), (2, 3, 4, 4), (3, 4, 3, 3), (3,)),
    on("conv1d mixed dtypes", lambda f, x, w: f.conv1d(x.float(), w.double()), (1, 2, 4), (2, 2, 3)),
    on("conv_transpose2d mixed dtypes", lambda f, x, w: f.conv_transpose2d(x.float(), w.double()),
       (1, 2, 4, 4), (2, 2, 3, 3)),
]  # fmt: skip

PATCHES = [
    on("unfold", lambda f, x: f.unfold(x, 3), (2, 3, 5, 6)),
    on("unfold pair", lambda f, x: f.unfold(x, (2, 3), (2, 1), (1, 0), (1, 2)), (2, 3, 7, 6)),
    on("unfold keywords", lambda f, x: f.unfold(x, kernel_size=2, stride=2, padding=1, dilation=2), (2, 3, 5, 6)),
    on("unfold overlapping tiles", lambda f, x: f.unfold(x, 4, stride=3), (1, 2, 10, 13)),
    on("unfold stride larger than the kernel", lambda f, x: f.unfold(x, 2, stride=4), (1, 2, 10, 13)),
    on("unfold unbatched", lambda f, x: f.unfold(x, 3), (3, 5, 6)),
    on("unfold empty batch", lambda f, x: f.unfold(x, 3), (0, 3, 5, 6)),
    on("unfold one-element sequences", lambda f, x: f.unfold(x, [3], (1,), [1], (2,)), (2, 3, 5, 6)),
    on("unfold times a weight is conv2d", lambda f, x, w: w.reshape(4, -1) @ f.unfold(x, 3, padding=1),
       (2, 3, 5, 6), (4, 3, 3, 3), terms=27),
    on("unfold permuted", lambda f, x: f.unfold(x.permute(0, 3, 1, 2), 2), (2, 5, 6, 3)),
    on("unfold large", lambda f, x: f.unfold(x, 3, padding=1), (5, 8, 20, 20)),
    on("unfold kernel too large", lambda f, x: f.unfold(x, 6), (2, 3, 5, 6)),
    on("unfold 2-d", lambda f, x: f.unfold(x, 3), (5, 6)),
    on("unfold 5-d", lambda f, x: f.unfold(x, 3), (1, 1, 3, 5, 6)),
    on("unfold stride zero", lambda f, x: f.unfold(x, 3, stride=0), (2, 3, 5, 6)),
    on("unfold padding negative", lambda f, x: f.unfold(x, 3, padding=-1), (2, 3, 5, 6)),
    on("unfold dilation zero", lambda f, x: f.unfold(x, 3, dilation=0), (2, 3, 5, 6)),
    on("unfold kernel zero", lambda f, x: f.unfold(x, 0), (2, 3, 5, 6)),
    on("unfold three sizes", lambda f, x: f.unfold(x, (1, 2, 3)), (2, 3, 5, 6)),
    on("fold", lambda f, x: f.fold(x, (5, 6), 3), (2, 27, 12)),
    on("fold pair", lambda f, x: f.fold(x, (7, 6), (2, 3), (2, 1), (1, 0), (1, 2)), (2, 18, 14)),
    on("fold keywords", lambda f, x: f.fold(x, output_size=6, kernel_size=2, stride=2), (2, 12, 9)),
    on("fold unbatched", lambda f, x: f.fold(x, (5, 6), 3), (27, 12)),
    on("fold empty batch", lambda f, x: f.fold(x, (5, 6), 3), (0, 27, 12)),
    on("fold of unfold", lambda f, x: f.fold(f.unfold(x, 3, padding=1), (5, 6), 3, padding=1), (2, 3, 5, 6)),
    on("fold gaps", lambda f, x: f.fold(x, (7, 7), 2, stride=4), (1, 8, 4)),
    on("fold wrong columns", lambda f, x: f.fold(x, (5, 6), 3), (2, 27, 11)),
    on("fold wrong rows", lambda f, x: f.fold(x, (5, 6), 3), (2, 26, 12)),
    on("fold 1-d", lambda f, x: f.fold(x, (5, 6), 3), (27,)),
    on("fold 4-d", lambda f, x: f.fold(x, (5, 6), 3), (1, 2, 27, 12)),
    on("fold kernel too large", lambda f, x: f.fold(x, (2, 2), 3), (2, 27, 1)),
    on("fold stride zero", lambda f, x: f.fold(x, (5, 6), 3, stride=0), (2, 27, 12)),
    on("fold size zero", lambda f, x: f.fold(x, (0, 6), 3), (2, 27, 12)),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("checked", CONVOLUTIONS + PATCHES, ids=repr)
def test_case(checked: Case) -> None:
    check_case(checked)


# Inputs are drawn in float32 and cast to the half type.
HALVES: dict[str, tuple[Any, ...]] = {
    "conv1d": (lambda f, x, w, b: f.conv1d(x, w, b, padding=1), (2, 3, 9), (4, 3, 3), (4,)),
    "conv3d": (lambda f, x, w, b: f.conv3d(x, w, b, padding=1), (2, 3, 3, 4, 4), (4, 3, 3, 3, 3), (4,)),
    "conv_transpose2d": (lambda f, x, w, b: f.conv_transpose2d(x, w, b, stride=2), (2, 3, 4, 4), (3, 4, 3, 3), (4,)),
    "conv_transpose2d depthwise": (lambda f, x, w: f.conv_transpose2d(x, w, groups=3), (2, 3, 4, 4), (3, 1, 3, 3)),
    "unfold": (lambda f, x: f.unfold(x, 3, padding=1), (2, 3, 4, 5)),
    "fold": (lambda f, x: f.fold(x, (4, 5), 3, padding=1), (2, 27, 20)),
}


@pytest.mark.parametrize("dtype, bound", [("float16", 4e-3), ("bfloat16", 3e-2)])
@pytest.mark.parametrize("label", HALVES)
def test_half(label: str, dtype: str, bound: float) -> None:
    run, *shapes = HALVES[label]
    arrays = [np.random.default_rng(5).standard_normal(shape).astype(np.float32) for shape in shapes]

    def cast(m: Any, *tensors: Any) -> Any:
        return run(m.nn.functional, *(tensor.to(getattr(m, dtype)) for tensor in tensors))

    ours, theirs = (attempt(module, cast, [array.copy() for array in arrays]) for module in (gn, torch))
    assert not (problems := compare_outcomes(ours, theirs, bound)), "\n".join(problems)


@pytest.mark.parametrize(
    "name, x, w",
    [
        ("conv1d", (2, 3, 9), (4, 3, 3)),
        ("conv3d", (2, 3, 4, 5, 6), (4, 3, 3, 3, 3)),
        ("conv_transpose1d", (2, 3, 9), (3, 4, 3)),
        ("conv_transpose2d", (2, 3, 5, 6), (3, 4, 3, 3)),
        ("conv_transpose3d", (2, 3, 4, 5, 6), (3, 4, 3, 3, 3)),
    ],
)
def test_results_are_channels_last_in_memory(name: str, x: Shape, w: Shape) -> None:
    y = getattr(F, name)(gn.ones(x), gn.ones(w))
    order = (0, *range(2, y.ndim), 1)
    assert y.permute(*order).is_contiguous()


class TestOutputSize:
    """``conv_output_size`` says what PyTorch's layers do."""

    @pytest.mark.parametrize("ceil_mode", [False, True])
    def test_every_small_pooling(self, ceil_mode: bool) -> None:
        for size in range(1, 12):
            x = torch.zeros(1, 1, size)
            for kernel in range(1, 5):
                for stride in range(1, 4):
                    for padding in range(kernel // 2 + 1):
                        arguments = (kernel, stride, padding, 1, ceil_mode)
                        try:
                            expected = torch.nn.functional.max_pool1d(x, *arguments).shape[2]
                        except RuntimeError:
                            continue
                        assert F.conv_output_size(size, *arguments) == expected

    def test_a_convolution(self) -> None:
        w = torch.zeros(1, 1, 3, 2)
        y = torch.nn.functional.conv2d(torch.zeros(1, 1, 20, 17), w, None, (3, 2), (2, 1), (2, 4))
        assert F.conv_output_size((20, 17), (3, 2), (3, 2), (2, 1), (2, 4)) == tuple(y.shape[2:])

    @pytest.mark.parametrize(
        "arguments, error, text",
        [
            ((4, 5), ValueError, "conv_output_size: kernel 5 is larger than the padded input of size 4"),
            ((4, 0), ValueError, "conv_output_size: kernel must be at least 1, got 0"),
            ((4, 2, 0), ValueError, "conv_output_size: stride must be at least 1, got 0"),
            ((4, 2, 1, -1), ValueError, "conv_output_size: padding must be at least 0, got -1"),
            ((4, 1.5), TypeError, "conv_output_size: kernel must be an integer or a sequence of 1, got 1.5"),
        ],
    )
    def test_bad_arguments(self, arguments: Any, error: type[Exception], text: str) -> None:
        with pytest.raises(error) as caught:
            F.conv_output_size(*arguments)
        assert str(caught.value) == text
