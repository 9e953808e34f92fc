"""The error catalogue: bad inputs, and the one clear error each gives, with the same class and text on every device.

Every text names the argument (or the operation) and the rule. On the path of a GPU, which is run on the CPU here,
errors about shapes are these too, since ``infer`` raises them before anything runs; errors about values are raised at
the next synchronisation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gpunet as gn
import gpunet.nn.functional as F
from gpunet import DTypeError, GradientError, ShapeError, nn
from gpunet.testing.bad_input import CUDA_ON_CPU, DEVICES, BadInput, device_for_tensors

# What is bad, how it is done, and the error. z(*size, dtype=float32) makes zeros on the device; on(module) moves a
# layer there.
CATALOGUE: list[tuple[str, Callable[[Any, Any], Any], type[Exception], str]] = [
    ("conv2d rank", lambda z, on: F.conv2d(z(8, 9), z(4, 3, 3, 3)),
     ShapeError, "conv2d: input must be 4-d (N, C, H, W), got shape (8, 9)"),
    ("conv2d five dimensions", lambda z, on: F.conv2d(z(1, 2, 3, 8, 9), z(4, 3, 3, 3)),
     ShapeError, "conv2d: input must be 4-d (N, C, H, W), got shape (1, 2, 3, 8, 9)"),
    ("conv2d weight rank", lambda z, on: F.conv2d(z(2, 3, 8, 9), z(4, 3, 3)),
     ShapeError, "conv2d: weight must be 4-d (K, C/groups, R, S), got shape (4, 3, 3)"),
    ("conv2d channels", lambda z, on: F.conv2d(z(2, 5, 8, 9), z(4, 3, 3, 3)),
     ShapeError, "conv2d: input must have 3 channels (weight has shape (4, 3, 3, 3) and groups is 1), got 5 "
                 "in shape (2, 5, 8, 9)"),
    ("conv2d channels with groups", lambda z, on: F.conv2d(z(2, 5, 8, 9), z(4, 2, 3, 3), groups=2),
     ShapeError, "conv2d: input must have 4 channels (weight has shape (4, 2, 3, 3) and groups is 2), got 5 "
                 "in shape (2, 5, 8, 9)"),
    ("conv2d bias", lambda z, on: F.conv2d(z(2, 3, 8, 9), z(4, 3, 3, 3), z(3)),
     ShapeError, "conv2d: bias must have shape (4,), got (3,)"),
    ("conv2d kernel too large", lambda z, on: F.conv2d(z(2, 3, 4, 9), z(4, 3, 7, 3), padding=1),
     ShapeError, "conv2d: kernel_size (7, 3) with dilation (1, 1) covers 7 pixels, more than the padded "
                 "input has (6); input shape (2, 3, 4, 9), padding ((1, 1), (1, 1))"),
    ("conv2d dilated kernel too large", lambda z, on: F.conv2d(z(2, 3, 4, 9), z(4, 3, 3, 3), dilation=2),
     ShapeError, "conv2d: kernel_size (3, 3) with dilation (2, 2) covers 5 pixels, more than the padded "
                 "input has (4); input shape (2, 3, 4, 9), padding ((0, 0), (0, 0))"),
    ("conv2d stride zero", lambda z, on: F.conv2d(z(2, 3, 8, 9), z(4, 3, 3, 3), stride=0),
     ShapeError, "conv2d: stride must be at least 1, got (0, 0)"),
    ("conv2d stride negative", lambda z, on: F.conv2d(z(2, 3, 8, 9), z(4, 3, 3, 3), stride=(1, -2)),
     ShapeError, "conv2d: stride must be at least 1, got (1, -2)"),
    ("conv2d dilation zero", lambda z, on: F.conv2d(z(2, 3, 8, 9), z(4, 3, 3, 3), dilation=0),
     ShapeError, "conv2d: dilation must be at least 1, got (0, 0)"),
    ("conv2d padding negative", lambda z, on: F.conv2d(z(2, 3, 8, 9), z(4, 3, 3, 3), padding=-1),
     ShapeError, "conv2d: padding must not be negative, got ((-1, -1), (-1, -1))"),
    ("conv2d groups zero", lambda z, on: F.conv2d(z(2, 3, 8, 9), z(4, 3, 3, 3), groups=0),
     ShapeError, "conv2d: groups must be at least 1, got 0"),
    ("conv2d groups negative", lambda z, on: F.conv2d(z(2, 3, 8, 9), z(4, 3, 3, 3), groups=-3),
     ShapeError, "conv2d: groups must be at least 1, got -3"),
    ("conv2d groups not dividing", lambda z, on: F.conv2d(z(2, 4, 8, 9), z(3, 2, 3, 3), groups=2),
     ShapeError, "conv2d: groups must divide the 3 output channels, got 2"),
    ("conv2d same with stride", lambda z, on: F.conv2d(z(2, 3, 8, 9), z(4, 3, 3, 3), padding="same", stride=2),
     ValueError, "conv2d: padding 'same' needs a stride of 1, got (2, 2)"),
    ("conv2d unknown padding", lambda z, on: F.conv2d(z(2, 3, 8, 9), z(4, 3, 3, 3), padding="full"),
     ValueError, "conv2d: padding must be integers, 'valid' or 'same', got 'full'"),
    ("conv2d stride of three", lambda z, on: F.conv2d(z(2, 3, 8, 9), z(4, 3, 3, 3), stride=(1, 1, 1)),
     TypeError, "conv2d: stride must be an integer or 2 of them, got (1, 1, 1)"),
    ("conv2d float stride", lambda z, on: F.conv2d(z(2, 3, 8, 9), z(4, 3, 3, 3), stride=1.5),
     TypeError, "conv2d: stride must be an integer or 2 of them, got 1.5"),
    ("conv2d empty image", lambda z, on: F.conv2d(z(2, 3, 0, 9), z(4, 3, 3, 3), padding=3),
     ShapeError, "conv2d: input must not be empty except in its batch, got shape (2, 3, 0, 9)"),
    ("conv2d integers", lambda z, on: F.conv2d(z(2, 3, 8, 9, dtype=gn.int64), z(4, 3, 3, 3, dtype=gn.int64)),
     DTypeError, "conv2d: input must be floating point, got int64"),
    ("conv2d mixed dtypes", lambda z, on: F.conv2d(z(2, 3, 8, 9), z(4, 3, 3, 3, dtype=gn.float64)),
     DTypeError, "conv2d: weight has dtype float64, but input has float32; they must be the same"),
    ("conv2d layer", lambda z, on: on(nn.Conv2d(3, 4, 3))(z(2, 1, 8, 8)),
     ShapeError, "conv2d: input must have 3 channels (weight has shape (4, 3, 3, 3) and groups is 1), got 1 "
                 "in shape (2, 1, 8, 8)"),
    ("linear features", lambda z, on: F.linear(z(2, 5), z(3, 4)),
     ShapeError, "linear: input must have 4 features in its last dimension (weight has shape (3, 4)), got "
                 "shape (2, 5)"),
    ("linear 0-d", lambda z, on: F.linear(z(), z(3, 4)),
     ShapeError, "linear: input must have 4 features in its last dimension (weight has shape (3, 4)), got shape ()"),
    ("linear weight rank", lambda z, on: F.linear(z(2, 4), z(4)),
     ShapeError, "linear: weight must be 2-d (out_features, in_features), got shape (4,)"),
    ("linear bias", lambda z, on: F.linear(z(2, 4), z(3, 4), z(4)),
     ShapeError, "linear: bias must have shape (3,), got (4,)"),
    ("linear mixed dtypes", lambda z, on: F.linear(z(2, 4), z(3, 4, dtype=gn.float64)),
     DTypeError, "linear: weight has dtype float64, but input has float32; they must be the same"),
    ("linear layer on images", lambda z, on: on(nn.Linear(100, 10))(z(2, 1, 8, 8)),
     ShapeError, "linear: input must have 100 features in its last dimension (weight has shape (10, 100)), "
                 "got shape (2, 1, 8, 8)"),
    ("batch_norm 1-d", lambda z, on: F.batch_norm(z(4), None, None, training=True),
     ShapeError, "batch_norm: input must have at least 2 dimensions (N, C, ...), got shape (4,)"),
    ("batch_norm weight", lambda z, on: F.batch_norm(z(4, 3), None, None, z(4), training=True),
     ShapeError, "batch_norm: weight must have shape (3,) for an input of shape (4, 3), got (4,)"),
    ("batch_norm statistics", lambda z, on: F.batch_norm(z(4, 3), z(2), z(2)),
     ShapeError, "batch_norm: running_mean must have shape (3,) for an input of shape (4, 3), got (2,)"),
    ("batch_norm eval without statistics", lambda z, on: F.batch_norm(z(4, 3), None, None),
     ValueError, "batch_norm: running_mean and running_var must be given when training is False"),
    ("batch_norm one value", lambda z, on: F.batch_norm(z(1, 3, 1, 1), None, None, training=True),
     ShapeError, "batch_norm: training needs more than one value for each channel, got an input of shape "
                 "(1, 3, 1, 1)"),
    ("batch_norm residual", lambda z, on: F.batch_norm(z(4, 3), None, None, training=True, residual=z(4, 2)),
     ShapeError, "batch_norm: residual must have the input's shape (4, 3) and dtype float32, got (4, 2) and "
                 "float32"),
    ("batch_norm activation", lambda z, on: F.batch_norm(z(4, 3), None, None, training=True, activation="gelu"),
     ValueError, "batch_norm: activation must be None or 'relu', got 'gelu'"),
    ("batch_norm eps", lambda z, on: F.batch_norm(z(4, 3), None, None, training=True, eps=-1),
     ValueError, "batch_norm: eps must not be negative, got -1.0"),
    ("batch_norm integers", lambda z, on: F.batch_norm(z(4, 3, dtype=gn.int64), None, None, training=True),
     DTypeError, "batch_norm: input must be floating point, got int64"),
    ("batch_norm layer", lambda z, on: on(nn.BatchNorm2d(3))(z(4, 2, 5, 5)),
     ShapeError, "batch_norm: weight must have shape (2,) for an input of shape (4, 2, 5, 5), got (3,)"),
    ("batch_norm layer rank", lambda z, on: on(nn.BatchNorm2d(3))(z(4, 3)),
     ShapeError, "BatchNorm2d: input must have 4 dimensions, got shape (4, 3)"),
    ("dropout integers", lambda z, on: F.dropout(z(3, dtype=gn.int64), 0.5),
     DTypeError, "dropout: input must be floating point, got int64"),
    ("cross_entropy target shape", lambda z, on: F.cross_entropy(z(5, 4), z(4, dtype=gn.int64)),
     ShapeError, "cross_entropy: target must have shape (5,) for an input of shape (5, 4), got (4,)"),
    ("cross_entropy target dtype", lambda z, on: F.cross_entropy(z(5, 4), z(5, dtype=gn.int32)),
     DTypeError, "cross_entropy: target must hold int64 class indices or floating-point probabilities, got int32"),
    ("cross_entropy target of bools", lambda z, on: F.cross_entropy(z(5, 4), z(5, dtype=gn.bool)),
     DTypeError, "cross_entropy: target must hold int64 class indices or floating-point probabilities, got bool"),
    ("cross_entropy probabilities", lambda z, on: F.cross_entropy(z(5, 4), z(5, 3)),
     ShapeError, "cross_entropy: target of probabilities must have the input's shape (5, 4), got (5, 3)"),
    ("cross_entropy weight", lambda z, on: F.cross_entropy(z(5, 4), z(5, dtype=gn.int64), z(3)),
     ShapeError, "cross_entropy: weight must have shape (4,), got (3,)"),
    ("cross_entropy 0-d", lambda z, on: F.cross_entropy(z(), z(dtype=gn.int64)),
     ShapeError, "cross_entropy: input must have a class dimension, got a 0-d tensor"),
    ("cross_entropy integers", lambda z, on: F.cross_entropy(z(5, 4, dtype=gn.int64), z(5, dtype=gn.int64)),
     DTypeError, "cross_entropy: input must be floating point, got int64"),
    ("cross_entropy reduction", lambda z, on: F.cross_entropy(z(5, 4), z(5, dtype=gn.int64), reduction="average"),
     ValueError, "cross_entropy: reduction must be one of 'none', 'mean', 'sum', got 'average'"),
    ("cross_entropy smoothing", lambda z, on: F.cross_entropy(z(5, 4), z(5, dtype=gn.int64), label_smoothing=2),
     ValueError, "cross_entropy: label_smoothing must lie in 0..1, got 2.0"),
    ("nll_loss probabilities", lambda z, on: F.nll_loss(z(5, 4), z(5, 4)),
     DTypeError, "nll_loss: target must hold int64 class indices, got float32"),
    ("nll_loss target shape", lambda z, on: F.nll_loss(z(5, 4), z(5, 4, dtype=gn.int64)),
     ShapeError, "nll_loss: target must have shape (5,) for an input of shape (5, 4), got (5, 4)"),
    ("mse_loss shapes", lambda z, on: F.mse_loss(z(3, 4), z(3)),
     ShapeError, "mse_loss: shapes (3, 4) and (3,) do not broadcast: sizes 4 and 3 at dimension -1 differ "
                 "and neither is 1"),
    ("mse_loss integers", lambda z, on: F.mse_loss(z(3, dtype=gn.int64), z(3, dtype=gn.int64)),
     DTypeError, "mse_loss: input and target must be floating point, got int64"),
    ("mse_loss reduction", lambda z, on: F.mse_loss(z(3), z(3), reduction="max"),
     ValueError, "mse_loss: reduction must be one of 'none', 'mean', 'sum', got 'max'"),
    ("softmax dim", lambda z, on: F.softmax(z(3, 4), 2),
     ShapeError, "softmax: dim must lie in -2..1 for a 2-d tensor, got 2"),
    ("softmax integers", lambda z, on: F.softmax(z(3, 4, dtype=gn.int64), 1),
     DTypeError, "softmax: input must be floating point, got int64"),
    ("one_hot floats", lambda z, on: F.one_hot(z(3)),
     DTypeError, "one_hot: input must be int64, got float32"),
    ("one_hot empty", lambda z, on: F.one_hot(z(0, dtype=gn.int64)),
     ShapeError, "one_hot: num_classes must be given for an empty tensor"),
    ("add shapes", lambda z, on: z(3, 4) + z(3),
     ShapeError, "add: shapes (3, 4) and (3,) do not broadcast: sizes 4 and 3 at dimension -1 differ and "
                 "neither is 1"),
    ("sub bools", lambda z, on: z(3, dtype=gn.bool) - z(3, dtype=gn.bool),
     DTypeError, "sub: not defined for bool; cast one operand, or use a logical operation"),
    ("invert floats", lambda z, on: ~z(3),
     DTypeError, "~: defined for bool and integers, got float32"),
    ("and floats", lambda z, on: z(3) & z(3),
     DTypeError, "bitwise_and: defined for bool and integers, got float32"),
    ("matmul inner", lambda z, on: z(3, 4) @ z(3, 4),
     ShapeError, "matmul: inner sizes must agree, got 4 and 3 of shapes (3, 4) and (3, 4)"),
    ("matmul 0-d", lambda z, on: z() @ z(3),
     ShapeError, "matmul: operands must have at least one dimension, got 0-d and 1-d"),
    ("matmul dtypes", lambda z, on: z(3, 3) @ z(3, 3, dtype=gn.float64),
     DTypeError, "matmul: other has dtype float64, but input has float32; they must be the same"),
    ("matmul batches", lambda z, on: z(2, 3, 4) @ z(3, 4, 5),
     ShapeError, "matmul: shapes (2,) and (3,) do not broadcast: sizes 2 and 3 at dimension -1 differ and "
                 "neither is 1"),
    ("mm ranks", lambda z, on: z(3).mm(z(3, 3)),
     ShapeError, "mm: operands must be 2-d and 2-d, got 1-d and 2-d"),
    ("where condition", lambda z, on: gn.where(z(3), z(3), z(3)),
     DTypeError, "where: condition must be bool, got float32"),
    ("clamp neither", lambda z, on: z(3).clamp(),
     ValueError, "clamp: at least one of min and max must be given"),
    ("sum dim", lambda z, on: z(3, 4).sum(2),
     ShapeError, "sum: dim must lie in -2..1 for a 2-d tensor, got 2"),
    ("sum dim twice", lambda z, on: z(3, 4).sum((0, -2)),
     ShapeError, "sum: dim names a dimension twice: (0, -2)"),
    ("sum float dim", lambda z, on: z(3, 4).sum(1.0),
     TypeError, "sum: dim must be an integer, got float"),
    ("mean integers", lambda z, on: z(3, dtype=gn.int64).mean(),
     DTypeError, "mean: input must be floating point, got int64; cast it or pass dtype="),
    ("var integers", lambda z, on: z(3, dtype=gn.int64).var(),
     DTypeError, "var: input must be floating point, got int64"),
    ("max of nothing", lambda z, on: z(0, 3).max(),
     ShapeError, "max: input has no elements along dim, got shape (0, 3)"),
    ("max of an empty dim", lambda z, on: z(0, 3).max(0),
     ShapeError, "max: input has no elements along dim 0, got shape (0, 3)"),
    ("argmax of nothing", lambda z, on: z(0).argmax(),
     ShapeError, "argmax: input has no elements along dim, got shape (0,)"),
    ("reshape", lambda z, on: z(2, 3).reshape(4, -1),
     ShapeError, "reshape: 6 elements of shape (2, 3) cannot be arranged as (4, -1)"),
    ("reshape two unknown", lambda z, on: z(2, 3).reshape(-1, -1),
     ShapeError, "reshape: shape may hold one -1 and no other negative size, got (-1, -1)"),
    ("view", lambda z, on: z(2, 3).view(7),
     ShapeError, "reshape: 6 elements of shape (2, 3) cannot be arranged as (7,)"),
    ("permute", lambda z, on: z(2, 3, 4).permute(0, 1),
     ShapeError, "permute: dims must name all 3 dimensions, got (0, 1)"),
    ("permute twice", lambda z, on: z(2, 3).permute(0, 0),
     ShapeError, "permute: dims names a dimension twice: (0, 0)"),
    ("transpose", lambda z, on: z(2, 3).transpose(0, 2),
     ShapeError, "transpose: dim must lie in -2..1 for a 2-d tensor, got 2"),
    ("t", lambda z, on: z(2, 3, 4).t(),
     ShapeError, "t: input must have at most 2 dimensions, got 3"),
    ("unsqueeze", lambda z, on: z(2).unsqueeze(3),
     ShapeError, "unsqueeze: dim must lie in -2..1 for a 2-d tensor, got 3"),
    ("expand", lambda z, on: z(3, 2).expand(3, 4),
     ShapeError, "expand: an input of shape (3, 2) cannot be expanded to (3, 4): only sizes of 1 stretch, "
                 "and -1 only keeps an existing size"),
    ("expand too few", lambda z, on: z(3, 2).expand(3),
     ShapeError, "expand: shape needs at least 2 sizes for an input of shape (3, 2), got (3,)"),
    ("flatten", lambda z, on: z(2, 3).flatten(1, 0),
     ShapeError, "flatten: start_dim must not come after end_dim, got 1 and 0"),
    ("cat none", lambda z, on: gn.cat([]),
     ValueError, "cat: tensors must hold at least one tensor"),
    ("cat shapes", lambda z, on: gn.cat([z(2, 3), z(2, 4)]),
     ShapeError, "cat: shapes must agree except in dim 0, got (2, 3) and (2, 4)"),
    ("cat 0-d", lambda z, on: gn.cat([z(), z()]),
     ShapeError, "cat: 0-d tensors cannot be joined; use stack"),
    ("stack shapes", lambda z, on: gn.stack([z(2), z(3)]),
     ShapeError, "stack: tensors must have one shape, got (2,) and (3,)"),
    ("split sizes", lambda z, on: z(5).split([1, 3]),
     ShapeError, "split: sizes must add up to 5, the size of dim 0, got (1, 3)"),
    ("split zero", lambda z, on: z(5).split(0),
     ValueError, "split: split_size must be positive, got 0"),
    ("chunk zero", lambda z, on: z(5).chunk(0),
     ValueError, "chunk: chunks must be at least 1, got 0"),
    ("narrow", lambda z, on: z(5).narrow(0, 3, 3),
     ShapeError, "narrow: start 3 and length 3 exceed dimension 0 of size 5"),
    ("index out of range", lambda z, on: z(3, 4)[3],
     IndexError, "index: 3 is out of range for dimension 0 of size 3"),
    ("index too many", lambda z, on: z(3, 4)[0, 0, 0],
     IndexError, "index: too many indices (3) for a 2-d tensor"),
    ("index negative step", lambda z, on: z(3)[::-1],
     ValueError, "index: the step of a slice must be positive, got -1"),
    ("index two ellipses", lambda z, on: z(3)[..., ...],
     IndexError, "index: an index can only have one Ellipsis (...)"),
    ("index float array", lambda z, on: z(3)[z(2)],
     DTypeError, "index: indices must be integers or bools, got float32"),
    ("index uint8", lambda z, on: z(3)[z(2, dtype=gn.uint8)],
     DTypeError, "index: uint8 could mean a mask or indices; cast it to bool or int64"),
    ("index bare bool", lambda z, on: z(3)[True],
     TypeError, "index: a bare True or False is not supported; use a mask tensor, or None for a new dimension"),
    ("index mismatched", lambda z, on: z(3, 4)[z(2, dtype=gn.int64), z(3, dtype=gn.int64)],
     IndexError, "index: shapes (2,) and (3,) do not broadcast: sizes 2 and 3 at dimension -1 differ and "
                 "neither is 1"),
    ("mask shape", lambda z, on: z(3, 4)[z(4, dtype=gn.bool)],
     IndexError, "index: a mask of shape (4,) does not fit the dimensions (3,) it selects from"),
    ("assignment shape", lambda z, on: z(3, 4).__setitem__(0, z(3)),
     ShapeError, "index assignment: shapes (3,) and (4,) do not broadcast: sizes 3 and 4 at dimension -1 "
                 "differ and neither is 1"),
    ("copy_ shape", lambda z, on: z(3).copy_(z(4)),
     ShapeError, "copy_: shapes (4,) and (3,) do not broadcast: sizes 4 and 3 at dimension -1 differ and "
                 "neither is 1"),
    ("in-place shape", lambda z, on: z(3).add_(z(4, 3)),
     ShapeError, "in-place: a result of shape (4, 3) does not fit a tensor of shape (3,)"),
    ("in-place dtype", lambda z, on: z(3, dtype=gn.int64).add_(1.5),
     DTypeError, "in-place: a float32 result cannot be stored in a int64 tensor"),
    ("truth", lambda z, on: bool(z(2)),
     ShapeError, "bool: the truth of a tensor of shape (2,) is ambiguous; use .any() or .all()"),
    ("requires_grad of integers", lambda z, on: z(2, dtype=gn.int64).requires_grad_(),
     DTypeError, "requires_grad: only floating-point tensors can require grad, got int64"),
    ("backward without grad", lambda z, on: z(1).backward(),
     GradientError, "backward: the tensor does not require grad, and was computed from none that does"),
    ("unknown dtype", lambda z, on: z(2).to("float12"),
     DTypeError, "dtype: 'float12' is not a data type"),
    ("sequential", lambda z, on: on(nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(10, 2)))(z(2, 1, 8, 8)),
     ShapeError, "linear: input must have 10 features in its last dimension (weight has shape (2, 10)), got "
                 "shape (2, 144); in layer 2 (Linear)"),
    ("meta mask assignment shape", lambda z, on: z(3, 4).__setitem__(z(3, dtype=gn.int64), z(2, 4)),
     ShapeError, "index assignment: shapes (2, 4) and (3, 4) do not broadcast: sizes 2 and 3 at dimension "
                 "-2 differ and neither is 1"),
]  # fmt: skip

# Errors about values, which meta cannot see, and about arguments, which have no device.
VALUES: list[tuple[str, Callable[[], Any], type[Exception], str]] = [
    ("cross_entropy label too large", lambda: F.cross_entropy(gn.zeros(3, 4), gn.tensor([0, 4, 1])),
     IndexError, "target: class indices must lie in 0..C-1 (or be ignore_index); got 4 with C = 4"),
    ("cross_entropy label negative", lambda: F.cross_entropy(gn.zeros(3, 4), gn.tensor([0, -1, 1])),
     IndexError, "target: class indices must lie in 0..C-1 (or be ignore_index); got -1 with C = 4"),
    ("nll_loss label", lambda: F.nll_loss(gn.zeros(3, 4), gn.tensor([0, 7, 1])),
     IndexError, "target: class indices must lie in 0..C-1 (or be ignore_index); got 7 with C = 4"),
    ("one_hot too large", lambda: F.one_hot(gn.tensor([0, 3]), 3),
     IndexError, "one_hot: indices must lie in 0..2"),
    ("one_hot negative", lambda: F.one_hot(gn.tensor([-1]), 3),
     IndexError, "one_hot: indices must lie in 0..2"),
    ("index out of range", lambda: gn.zeros(3, 4)[gn.tensor([0, 3])],
     IndexError, "index: indices must lie in -size..size-1; dimension 0 has size 3, got 3"),
    ("index out of range below", lambda: gn.zeros(3, 4)[:, [-5]],
     IndexError, "index: indices must lie in -size..size-1; dimension 1 has size 4, got -5"),
    ("assignment out of range", lambda: gn.zeros(3).__setitem__([0, 9], 1.0),
     IndexError, "index: indices must lie in -size..size-1; dimension 0 has size 3, got 9"),
    ("division by zero", lambda: gn.tensor([1, 2]) // 0,
     ZeroDivisionError, "divisor: integers cannot be divided by zero"),
    ("remainder of zero", lambda: gn.tensor([1, 2]) % gn.tensor([1, 0]),
     ZeroDivisionError, "divisor: integers cannot be divided by zero"),
    ("negative power", lambda: gn.tensor([1, 2]) ** -1,
     ValueError, "pow: integers cannot be raised to negative integer powers; cast to float first"),
    ("inverted range", lambda: gn.randint(5, 5, (2,)),
     ValueError, "randint: high must be greater than low, got 5 and 5"),
    ("negative size", lambda: gn.zeros(-1, 2),
     ShapeError, "zeros: sizes must not be negative, got (-1, 2)"),
    ("arange", lambda: gn.arange(3, 1),
     ValueError, "arange: step 1 does not lead from 3 to 1"),
    ("arange step", lambda: gn.arange(0, 3, 0),
     ValueError, "arange: step must not be zero"),
    ("randperm", lambda: gn.randperm(-1),
     ValueError, "randperm: n must not be negative, got -1"),
    ("rand dtype", lambda: gn.rand(2, dtype=gn.int64),
     DTypeError, "rand: dtype must be floating point, got int64"),
    ("ragged", lambda: gn.tensor([[1], [2, 3]]),
     ValueError, "data: sequences must be nested evenly and hold numbers"),
    ("from_numpy", lambda: gn.from_numpy([1.0]),
     TypeError, "from_numpy: expected a NumPy array, got list"),
    ("from_numpy dtype", lambda: gn.from_numpy(np.zeros(2, "complex64")),
     DTypeError, "dtype: complex64 is not supported; use one of float32, float64, float16, int8, int16, "
                 "int32, int64, uint8, bool, bfloat16"),
    ("conv2d channels", lambda: nn.Conv2d(0, 4, 3),
     ValueError, "Conv2d: in_channels must be at least 1, got 0"),
    ("conv2d kernel", lambda: nn.Conv2d(3, 4, 0),
     ValueError, "Conv2d: kernel_size must be at least 1, got 0"),
    ("conv2d stride", lambda: nn.Conv2d(3, 4, 3, stride=0),
     ValueError, "Conv2d: stride must be at least 1, got 0"),
    ("conv2d stride negative", lambda: nn.Conv2d(3, 4, 3, stride=-1),
     ValueError, "Conv2d: stride must be at least 1, got -1"),
    ("conv2d padding", lambda: nn.Conv2d(3, 4, 3, padding=-1),
     ValueError, "Conv2d: padding must be at least 0, got -1"),
    ("conv2d padding name", lambda: nn.Conv2d(3, 4, 3, padding="full"),
     ValueError, "Conv2d: padding must be 'same', 'valid' or integers, got 'full'"),
    ("conv2d same", lambda: nn.Conv2d(3, 4, 3, padding="same", stride=2),
     ValueError, "Conv2d: padding='same' needs stride 1, got (2, 2)"),
    ("conv2d dilation", lambda: nn.Conv2d(3, 4, 3, dilation=0),
     ValueError, "Conv2d: dilation must be at least 1, got 0"),
    ("conv2d groups zero", lambda: nn.Conv2d(3, 4, 3, groups=0),
     ValueError, "Conv2d: groups must be at least 1, got 0"),
    ("conv2d groups of the inputs", lambda: nn.Conv2d(3, 4, 3, groups=2),
     ValueError, "Conv2d: in_channels must be divisible by groups, got 3 and 2"),
    ("conv2d groups of the outputs", lambda: nn.Conv2d(4, 3, 3, groups=2),
     ValueError, "Conv2d: out_channels must be divisible by groups, got 3 and 2"),
    ("linear", lambda: nn.Linear(-1, 3),
     ValueError, "Linear: in_features must be at least 1, got -1"),
    ("dropout", lambda: nn.Dropout(1.5),
     ValueError, "Dropout: p must be between 0 and 1, got 1.5"),
    ("batch_norm", lambda: nn.BatchNorm2d(0),
     ValueError, "BatchNorm2d: num_features must be at least 1, got 0"),
    ("batch_norm3", lambda: nn.BatchNorm2d(-3),
     ValueError, "BatchNorm2d: num_features must be at least 1, got -3"),
    ("cross entropy layer", lambda: nn.CrossEntropyLoss(reduction="average"),
     ValueError, "CrossEntropyLoss: reduction must be 'none', 'mean' or 'sum', got 'average'"),
    ("cross entropy smoothing", lambda: nn.CrossEntropyLoss(label_smoothing=3),
     ValueError, "CrossEntropyLoss: label_smoothing must be between 0 and 1, got 3"),
    ("flatten", lambda: nn.Flatten(2, 1)(gn.zeros(2, 3, 4)),
     ShapeError, "flatten: start_dim must not come after end_dim, got 2 and 1"),
    ("sequential", lambda: nn.Sequential(nn.Linear(2, 3), gn.zeros(2)),
     TypeError, "Sequential: holds Modules, got Tensor"),
]  # fmt: skip


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("entry", [BadInput(*entry) for entry in CATALOGUE], ids=repr)
def test_bad_input(entry: BadInput, device: str) -> None:
    entry.check(device)


@pytest.mark.parametrize("device", ["cpu", CUDA_ON_CPU])
@pytest.mark.parametrize(("act", "error", "text"), [entry[1:] for entry in VALUES], ids=[entry[0] for entry in VALUES])
def test_bad_value(act: Callable[[], Any], error: type[Exception], text: str, device: str) -> None:
    with device_for_tensors(device), pytest.raises(error) as caught:
        act()
    assert type(caught.value) is error
    assert str(caught.value) == text


def test_every_label_is_unique() -> None:
    for table in (CATALOGUE, VALUES):
        labels = [entry[0] for entry in table]
        assert len(labels) == len(set(labels))


def test_the_classes_are_the_built_in_ones_too() -> None:
    assert issubclass(gn.ShapeError, ValueError)
    assert issubclass(gn.DTypeError, TypeError)
    for error in (gn.DeviceError, gn.GradientError, gn.CheckpointError):
        assert issubclass(error, RuntimeError)


def test_a_failed_operation_changes_nothing() -> None:
    """Errors about shapes come before anything runs: statistics, versions and modes stay as they were."""
    mean, var = gn.zeros(3), gn.ones(3)
    with pytest.raises(ShapeError):
        F.batch_norm(gn.ones(4, 3, 2, 2), mean, var, gn.ones(2), training=True)
    assert (mean.tolist(), var.tolist(), mean._version) == ([0, 0, 0], [1, 1, 1], 0)
    x = gn.zeros(3)
    with pytest.raises(ShapeError):
        x += gn.ones(2, 3)
    with pytest.raises(ShapeError):
        x[:2] = gn.ones(3)
    with pytest.raises(IndexError):
        x[[0, 5]] = 1.0
    assert (x.tolist(), x._version) == ([0, 0, 0], 0)
    state = gn.get_rng_state()
    for call in (lambda: F.dropout(gn.ones(3), 2.0), lambda: F.dropout(gn.ones(3, dtype=gn.int64), 0.5)):
        with pytest.raises((ValueError, TypeError)):
            call()
    assert gn.get_rng_state() == state
