"""Sampling at grids, the multi-label hinge loss, Unflatten and rrelu_ against PyTorch."""

from __future__ import annotations

import numpy as np
import pytest

import gpunet as gn
import gpunet.nn.functional as F
from gpunet import DTypeError, ShapeError, nn
from gpunet.testing.bad_input import DEVICES, BadInput
from gpunet.testing.parity import Case, case, check_case

GRID = np.random.default_rng(7).uniform(-1.6, 1.6, (2, 4, 3, 2))
IMAGE = (2, 3, 5, 6)
LABELS = np.array([[1, 0, -1, 2, 3], [4, -1, 0, 1, -1], [3, 1, 2, 0, 4], [-1, 0, 0, 0, 0]])

CASES: list[Case] = [
    *(
        case(
            f"grid_sample {mode} {padding} {corners} {label}",
            lambda m, x, g, o=(mode, padding, corners): m.nn.functional.grid_sample(x, g, *o), shape, grid, terms=8)
        for mode in ("bilinear", "nearest")
        for padding in ("zeros", "border", "reflection")
        for corners in (True, False)
        for label, shape, grid in (
            ("", IMAGE, GRID), ("far", IMAGE, GRID * 5.3), ("one pixel", (2, 3, 1, 1), GRID),
            ("flat", (2, 1, 1, 4), GRID),
            ("empty", (0, 3, 5, 6), GRID[:0]), ("no points", IMAGE, GRID[:, :0]), ("no channels", (2, 0, 5, 6), GRID),
        )
    ),
    *(
        case(f"grid_sample {label}", lambda m, x, g, kw=kw: m.nn.functional.grid_sample(x, g, align_corners=False,
                                                                                              **kw), shape, grid)
        for label, shape, grid, kw in (
            ("batch", (3, 3, 5, 6), GRID, {}), ("rank", (3, 5, 6), GRID, {}), ("last", IMAGE, GRID[..., :1], {}),
            ("mode", IMAGE, GRID, {"mode": "cubic"}), ("padding", IMAGE, GRID, {"padding_mode": "wrap"}),
            ("no pixels", (2, 3, 0, 6), GRID, {}),
        )
    ),
    *(
        case(f"affine_grid {size} {corners}", lambda m, t, s=size, c=corners: m.nn.functional.affine_grid(t, s, c),
             shape, terms=4)
        for shape, size in (
            ((2, 2, 3), (2, 3, 4, 5)), ((2, 2, 3), (2, 3, 1, 4)), ((1, 3, 4), (1, 2, 3, 4, 5)),
            ((2, 2, 3), (3, 3, 4, 5)),
            ((2, 2, 3), (2, 3, 4)), ((2, 2, 3), (2, 3, 0, 4)), ((2, 3, 3), (2, 3, 4, 5)), ((2, 3), (2, 3, 4, 5)),
        )
        for corners in (True, False)
    ),
    *(
        case(f"multilabel_margin_loss {reduction} {label}",
             lambda m, x, t, r=reduction: m.nn.functional.multilabel_margin_loss(x, t, reduction=r), shape, labels,
             terms=20)
        for reduction in ("none", "mean", "sum")
        for label, shape, labels in (
            ("", (4, 5), LABELS), ("1-d", (5,), LABELS[0]), ("twice", (1, 5), np.array([[1, 1, 3, -1, 0]])),
            ("too large", (4, 5), LABELS + 1), ("too small", (4, 5), LABELS - 1), ("shape", (4, 5), LABELS[:3]),
            ("rank", (2, 2, 5), LABELS.reshape(2, 2, 5)), ("floats", (4, 5), (4, 5)),
        )
    ),
    case("MultiLabelMarginLoss", lambda m, x, t: m.nn.MultiLabelMarginLoss()(x, t), (4, 5), LABELS, terms=20),
    case("MultiLabelMarginLoss sum", lambda m, x, t: m.nn.MultiLabelMarginLoss(reduction="sum")(x, t), (4, 5), LABELS,
         terms=20),
    *(
        case(f"Unflatten {dim} {sizes}", lambda m, x, d=dim, s=sizes: m.nn.Unflatten(d, s)(x), (3, 6, 4))
        for dim, sizes in ((1, (2, 3)), (1, (2, -1)), (-1, [2, 2]), (0, (3, 1)), (1, (4, 2)), (3, (2, 3)),
                           (1, (2.0, 3)),
                           ("a", (2, 3)), (1, 6))
    ),
    case("rrelu_", lambda m, x: m.nn.functional.rrelu_(x * 1, 0.1, 0.3), (3, 4)),
    case("rrelu_ same slopes", lambda m, x: m.nn.functional.rrelu_(x * 1, 0.2, 0.2, True), (3, 4)),
    case("rrelu_ bounds", lambda m, x: m.nn.functional.rrelu_(x * 1, 0.3, 0.1, True), (3, 4)),
]  # fmt: skip


@pytest.mark.parity
@pytest.mark.parametrize("entry", CASES, ids=repr)
def test_parity(entry: Case) -> None:
    check_case(entry)


CATALOGUE = [
    BadInput("grid_sample grid", lambda z, on: F.grid_sample(z(2, 3, 4, 5), z(1, 4, 4, 2)), ShapeError,
             "grid_sample: input must be (N, C, H, W) and grid (N, H_out, W_out, 2), "
             "got shapes (2, 3, 4, 5) and (1, 4, 4, 2)"),
    BadInput("grid_sample dtypes", lambda z, on: F.grid_sample(z(1, 3, 4, 5), z(1, 4, 4, 2, dtype=gn.float64)),
             DTypeError,
             "grid_sample: grid has dtype float64, but input has float32; they must be the same"),
    BadInput("grid_sample mode", lambda z, on: F.grid_sample(z(1, 3, 4, 5), z(1, 4, 4, 2), "bicubic"), ValueError,
             "grid_sample: mode must be one of 'bilinear', 'nearest', got 'bicubic'"),
    BadInput("affine_grid theta", lambda z, on: F.affine_grid(z(2, 3, 3), (2, 1, 4, 5)), ShapeError,
             "affine_grid: theta must be (N, 2, 3) for a size (N, C, H, W) or (N, 3, 4) for (N, C, D, H, W), "
             "got shape (2, 3, 3) and size (2, 1, 4, 5)"),
    BadInput("affine_grid size", lambda z, on: F.affine_grid(z(2, 2, 3), (2, 1, 0, 5)), ShapeError,
             "affine_grid: size must be positive, got (2, 1, 0, 5)"),
    BadInput("multilabel_margin_loss dtype", lambda z, on: F.multilabel_margin_loss(z(2, 3), z(2, 3)), DTypeError,
             "multilabel_margin_loss: target must hold int64 class indices, got float32"),
    BadInput("multilabel_margin_loss shape",
             lambda z, on: nn.MultiLabelMarginLoss()(z(2, 3), z(2, 4, dtype=gn.int64)), ShapeError,
             "multilabel_margin_loss: target must have the input's shape (2, 3), got (2, 4)"),
    BadInput("Unflatten sizes", lambda z, on: nn.Unflatten(1, (4, 2))(z(3, 6)), ShapeError,
             "unflatten: sizes must multiply to 6, the size of dim 1, got (4, 2)"),
    BadInput("rrelu_ bounds", lambda z, on: F.rrelu_(z(3), 0.4, 0.2), ValueError,
             "rrelu: lower must not be greater than upper, got 0.4 and 0.2"),
]  # fmt: skip


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("entry", CATALOGUE, ids=repr)
def test_bad_input(entry: BadInput, device: str) -> None:
    entry.check(device)
