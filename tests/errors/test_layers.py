"""Bad input to layers, and to functions in place: the function that refuses it is named."""

from __future__ import annotations

import numpy as np
import pytest

import gpunet as gn
import gpunet.nn.functional as F
from gpunet import DTypeError, ShapeError, nn
from gpunet.optim import lr_scheduler
from gpunet.testing.bad_input import DEVICES, BadInput

CATALOGUE = [
    BadInput(
        "BCELoss",
        lambda z, on: on(nn.BCELoss())(z(3, 4), z(3)),
        ShapeError,
        "binary_cross_entropy: target must have the input's shape (3, 4), got (3,)",
    ),
    BadInput(
        "BCEWithLogitsLoss",
        lambda z, on: on(nn.BCEWithLogitsLoss())(z(3, 4), z(4, 3)),
        ShapeError,
        "binary_cross_entropy_with_logits: target must have the input's shape (3, 4), got (4, 3)",
    ),
    BadInput(
        "BatchNorm1d",
        lambda z, on: on(nn.BatchNorm1d(3))(z(2, 3, 4, 4)),
        ShapeError,
        "BatchNorm1d: input must have 2 or 3 dimensions, got shape (2, 3, 4, 4)",
    ),
    BadInput(
        "BatchNorm1d 2",
        lambda z, on: on(nn.BatchNorm1d(0))(z(2, 3)),
        ValueError,
        "BatchNorm1d: num_features must be at least 1, got 0",
    ),
    BadInput(
        "CosineEmbeddingLoss",
        lambda z, on: on(nn.CosineEmbeddingLoss())(z(3, 4), z(3, 5), z(3)),
        ShapeError,
        "cosine_embedding_loss: shapes (3, 4) and (3, 5) do not broadcast: sizes 4 and 5 at "
        "dimension -1 differ and neither is 1",
    ),
    BadInput(
        "CosineSimilarity",
        lambda z, on: on(nn.CosineSimilarity(2))(z(3, 4), z(3, 4)),
        ShapeError,
        "cosine_similarity: dim must lie in -2..1 for a 2-d tensor, got 2",
    ),
    BadInput(
        "ELU",
        lambda z, on: on(nn.ELU())(z(3, dtype=gn.int64)),
        DTypeError,
        "elu: input must be floating point, got int64",
    ),
    BadInput("CELU", lambda z, on: on(nn.CELU(0.0))(z(3)), ValueError, "celu: alpha must not be zero"),
    BadInput(
        "GELU",
        lambda z, on: on(nn.GELU("erf"))(z(3)),
        ValueError,
        "gelu: approximate must be 'none' or 'tanh', got 'erf'",
    ),
    BadInput("GLU", lambda z, on: on(nn.GLU())(z(2, 3)), ShapeError, "glu: dimension -1 must have an even size, got 3"),
    BadInput(
        "GaussianNLLLoss",
        lambda z, on: on(nn.GaussianNLLLoss())(z(3), z(3), z(2)),
        ShapeError,
        "gaussian_nll_loss: var must have the input's shape (3,), or lack its last dimension, got (2,)",
    ),
    BadInput(
        "Hardshrink",
        lambda z, on: on(nn.Hardshrink())(z(3, dtype=gn.int64)),
        DTypeError,
        "hardshrink: input must be floating point, got int64",
    ),
    BadInput(
        "Hardsigmoid",
        lambda z, on: on(nn.Hardsigmoid())(z(3, dtype=gn.int64)),
        DTypeError,
        "hardsigmoid: input must be floating point, got int64",
    ),
    BadInput(
        "Hardswish",
        lambda z, on: on(nn.Hardswish())(z(3, dtype=gn.int64)),
        DTypeError,
        "hardswish: input must be floating point, got int64",
    ),
    BadInput(
        "HingeEmbeddingLoss",
        lambda z, on: on(nn.HingeEmbeddingLoss())(z(3), z(2)),
        ShapeError,
        "hinge_embedding_loss: shapes (3,) and (2,) do not broadcast: sizes 3 and 2 at dimension "
        "-1 differ and neither is 1",
    ),
    BadInput(
        "HuberLoss",
        lambda z, on: on(nn.HuberLoss(delta=0.0))(z(3), z(3)),
        ValueError,
        "huber_loss: delta must be positive, got 0.0",
    ),
    BadInput(
        "HuberLoss 2",
        lambda z, on: on(nn.HuberLoss())(z(3), z(2)),
        ShapeError,
        "huber_loss: shapes (3,) and (2,) do not broadcast: sizes 3 and 2 at dimension -1 differ and neither is 1",
    ),
    BadInput(
        "KLDivLoss",
        lambda z, on: on(nn.KLDivLoss())(z(3), z(2)),
        ShapeError,
        "kl_div: shapes (3,) and (2,) do not broadcast: sizes 3 and 2 at dimension -1 differ and neither is 1",
    ),
    BadInput(
        "KLDivLoss 2",
        lambda z, on: on(nn.KLDivLoss(reduction="batch"))(z(3), z(3)),
        ValueError,
        "KLDivLoss: reduction must be 'none', 'mean', 'sum' or 'batchmean', got 'batch'",
    ),
    BadInput(
        "L1Loss",
        lambda z, on: on(nn.L1Loss())(z(3), z(2)),
        ShapeError,
        "l1_loss: shapes (3,) and (2,) do not broadcast: sizes 3 and 2 at dimension -1 differ and neither is 1",
    ),
    BadInput(
        "LazyBatchNorm2d",
        lambda z, on: on(nn.LazyBatchNorm2d())(z(2, 3)),
        ShapeError,
        "BatchNorm2d: input must have 4 dimensions, got shape (2, 3)",
    ),
    BadInput(
        "LazyBatchNorm3d",
        lambda z, on: on(nn.LazyBatchNorm3d())(z(2, 3)),
        ShapeError,
        "BatchNorm3d: input must have 5 dimensions, got shape (2, 3)",
    ),
    BadInput(
        "LeakyReLU",
        lambda z, on: on(nn.LeakyReLU())(z(3, dtype=gn.int64)),
        DTypeError,
        "leaky_relu: input must be floating point, got int64",
    ),
    BadInput(
        "LogSigmoid",
        lambda z, on: on(nn.LogSigmoid())(z(3, dtype=gn.int64)),
        DTypeError,
        "logsigmoid: input must be floating point, got int64",
    ),
    BadInput(
        "LogSoftmax",
        lambda z, on: on(nn.LogSoftmax(2))(z(2, 3)),
        ShapeError,
        "log_softmax: dim must lie in -2..1 for a 2-d tensor, got 2",
    ),
    BadInput(
        "MSELoss",
        lambda z, on: on(nn.MSELoss())(z(3), z(2)),
        ShapeError,
        "mse_loss: shapes (3,) and (2,) do not broadcast: sizes 3 and 2 at dimension -1 differ and neither is 1",
    ),
    BadInput(
        "MarginRankingLoss",
        lambda z, on: on(nn.MarginRankingLoss())(z(3), z(2), z(3)),
        ShapeError,
        "margin_ranking_loss: shapes (3,) and (2,) and (3,) do not broadcast: sizes 3 and 2 at "
        "dimension -1 differ and neither is 1",
    ),
    BadInput(
        "Mish",
        lambda z, on: on(nn.Mish())(z(3, dtype=gn.int64)),
        DTypeError,
        "mish: input must be floating point, got int64",
    ),
    BadInput(
        "MultiLabelSoftMarginLoss",
        lambda z, on: on(nn.MultiLabelSoftMarginLoss())(z(2, 3), z(2, 4)),
        ShapeError,
        "multilabel_soft_margin_loss: target must have the input's shape (2, 3), got (2, 4)",
    ),
    BadInput(
        "MultiMarginLoss",
        lambda z, on: on(nn.MultiMarginLoss())(z(2, 3), z(3, dtype=gn.int64)),
        ShapeError,
        "multi_margin_loss: target must have shape (2,) for an input of shape (2, 3), got (3,)",
    ),
    BadInput(
        "MultiMarginLoss 2",
        lambda z, on: on(nn.MultiMarginLoss(p=3))(z(2, 3), z(2, dtype=gn.int64)),
        ValueError,
        "multi_margin_loss: p must be 1 or 2, got 3",
    ),
    BadInput(
        "NLLLoss",
        lambda z, on: on(nn.NLLLoss())(z(2, 3), z(3, dtype=gn.int64)),
        ShapeError,
        "nll_loss: target must have shape (2,) for an input of shape (2, 3), got (3,)",
    ),
    BadInput(
        "PairwiseDistance",
        lambda z, on: on(nn.PairwiseDistance())(z(2, 3), z(2, 4)),
        ShapeError,
        "pairwise_distance: shapes (2, 3) and (2, 4) do not broadcast: sizes 3 and 4 at dimension "
        "-1 differ and neither is 1",
    ),
    BadInput(
        "PoissonNLLLoss",
        lambda z, on: on(nn.PoissonNLLLoss())(z(3), z(2)),
        ShapeError,
        "poisson_nll_loss: shapes (3,) and (2,) do not broadcast: sizes 3 and 2 at dimension -1 "
        "differ and neither is 1",
    ),
    BadInput(
        "RReLU",
        lambda z, on: on(nn.RReLU(0.5, 0.1))(z(3)),
        ValueError,
        "rrelu: lower must not be greater than upper, got 0.5 and 0.1",
    ),
    BadInput("ReLU6", lambda z, on: on(nn.ReLU6())(z(3, dtype=gn.bool)), DTypeError, "relu6: not defined for bool"),
    BadInput(
        "SELU",
        lambda z, on: on(nn.SELU())(z(3, dtype=gn.int64)),
        DTypeError,
        "selu: input must be floating point, got int64",
    ),
    BadInput(
        "SiLU",
        lambda z, on: on(nn.SiLU())(z(3, dtype=gn.int64)),
        DTypeError,
        "silu: input must be floating point, got int64",
    ),
    BadInput("Sigmoid", lambda z, on: nn.Sigmoid()("x"), TypeError, "sigmoid: input must be a Tensor, got str"),
    BadInput(
        "SmoothL1Loss",
        lambda z, on: on(nn.SmoothL1Loss(beta=-1.0))(z(3), z(3)),
        ValueError,
        "smooth_l1_loss: beta must not be negative, got -1.0",
    ),
    BadInput(
        "SoftMarginLoss",
        lambda z, on: on(nn.SoftMarginLoss())(z(3), z(2)),
        ShapeError,
        "soft_margin_loss: shapes (3,) and (2,) do not broadcast: sizes 3 and 2 at dimension -1 "
        "differ and neither is 1",
    ),
    BadInput(
        "Softmax",
        lambda z, on: on(nn.Softmax(2))(z(2, 3)),
        ShapeError,
        "softmax: dim must lie in -2..1 for a 2-d tensor, got 2",
    ),
    BadInput(
        "Softmin",
        lambda z, on: on(nn.Softmin(2))(z(2, 3)),
        ShapeError,
        "softmin: dim must lie in -2..1 for a 2-d tensor, got 2",
    ),
    BadInput(
        "Softplus",
        lambda z, on: on(nn.Softplus())(z(3, dtype=gn.int64)),
        DTypeError,
        "softplus: input must be floating point, got int64",
    ),
    BadInput(
        "Softshrink",
        lambda z, on: on(nn.Softshrink(-1.0))(z(3)),
        ValueError,
        "softshrink: lambd must not be negative, got -1.0",
    ),
    BadInput(
        "Softsign", lambda z, on: on(nn.Softsign())(z(3, dtype=gn.bool)), DTypeError, "softsign: not defined for bool"
    ),
    BadInput("Tanh", lambda z, on: nn.Tanh()("x"), TypeError, "tanh: input must be a Tensor, got str"),
    BadInput(
        "Tanhshrink",
        lambda z, on: on(nn.Tanhshrink())(z(3, dtype=gn.bool)),
        DTypeError,
        "tanhshrink: not defined for bool",
    ),
    BadInput(
        "Threshold",
        lambda z, on: on(nn.Threshold(0.0, 1.0))(z(3, dtype=gn.bool)),
        DTypeError,
        "threshold: not defined for bool",
    ),
    BadInput(
        "TripletMarginLoss",
        lambda z, on: on(nn.TripletMarginLoss())(z(2, 3), z(2, 3), z(2, 4)),
        ShapeError,
        "pairwise_distance: shapes (2, 3) and (2, 4) do not broadcast: sizes 3 and 4 at dimension "
        "-1 differ and neither is 1",
    ),
    BadInput(
        "TripletMarginLoss 2",
        lambda z, on: on(nn.TripletMarginLoss(margin=0.0))(z(2, 3), z(2, 3), z(2, 3)),
        ValueError,
        "triplet_margin_loss: margin must be greater than 0, got 0.0",
    ),
    BadInput(
        "TripletMarginWithDistanceLoss",
        lambda z, on: on(nn.TripletMarginWithDistanceLoss(margin=-1.0))(z(2, 3), z(2, 3), z(2, 3)),
        ValueError,
        "triplet_margin_with_distance_loss: margin must be greater than 0, got -1.0",
    ),
    BadInput(
        "triplet_margin_with_distance_loss",
        lambda z, on: F.triplet_margin_with_distance_loss(z(2, 3), z(2, 3), z(2, 3), margin=-1.0),
        ValueError,
        "triplet_margin_with_distance_loss: margin must be greater than 0, got -1.0",
    ),
    BadInput("celu_", lambda z, on: F.celu_(z(3), 0.0), ValueError, "celu: alpha must not be zero"),
    BadInput(
        "elu_", lambda z, on: F.elu_(z(3, dtype=gn.int64)), DTypeError, "elu: input must be floating point, got int64"
    ),
    BadInput(
        "hardtanh_",
        lambda z, on: F.hardtanh_(z(3), 1.0, -1.0),
        ValueError,
        "hardtanh: min_val must not be greater than max_val, got 1.0 and -1.0",
    ),
    BadInput(
        "leaky_relu_",
        lambda z, on: F.leaky_relu_(z(3, dtype=gn.int64)),
        DTypeError,
        "leaky_relu: input must be floating point, got int64",
    ),
    BadInput("relu6", lambda z, on: F.relu6(z(3, dtype=gn.bool)), DTypeError, "relu6: not defined for bool"),
    BadInput("relu_", lambda z, on: F.relu_(z(3, dtype=gn.bool)), DTypeError, "relu: not defined for bool"),
    BadInput(
        "selu_",
        lambda z, on: F.selu_(z(3, dtype=gn.int64)),
        DTypeError,
        "selu: input must be floating point, got int64",
    ),
    BadInput("sigmoid", lambda z, on: F.sigmoid([1.0]), TypeError, "sigmoid: input must be a Tensor, got list"),
    BadInput("tanh", lambda z, on: F.tanh([1.0]), TypeError, "tanh: input must be a Tensor, got list"),
    BadInput(
        "threshold",
        lambda z, on: F.threshold(z(3, dtype=gn.bool), 0.0, 1.0),
        DTypeError,
        "threshold: not defined for bool",
    ),
    BadInput(
        "threshold_",
        lambda z, on: F.threshold_(z(3, dtype=gn.bool), 0.0, 1.0),
        DTypeError,
        "threshold: not defined for bool",
    ),
    BadInput(
        "conv_output_size",
        lambda z, on: F.conv_output_size(3, 5),
        ValueError,
        "conv_output_size: kernel 5 is larger than the padded input of size 3",
    ),
    BadInput(
        "conv_output_size 2",
        lambda z, on: F.conv_output_size(3, 0),
        ValueError,
        "conv_output_size: kernel must be at least 1, got 0",
    ),
    BadInput(
        "UninitializedParameter",
        lambda z, on: nn.UninitializedParameter().shape,
        RuntimeError,
        "a lazy layer's parameter has no shape and no values before the first input: call the "
        "model once (a dry run) first",
    ),
    BadInput(
        "ExponentialLR",
        lambda z, on: lr_scheduler.ExponentialLR(None, 0.9),
        TypeError,
        "optimizer: expected an Optimizer, got NoneType",
    ),
    BadInput(
        "conv2d", lambda z, on: F.conv2d([[1.0]], z(4, 3, 3, 3)), TypeError, "conv2d: input must be a Tensor, got list"
    ),
    BadInput(
        "linear",
        lambda z, on: F.linear(np.ones((2, 3), np.float32), z(4, 3)),
        TypeError,
        "linear: input must be a Tensor, got ndarray",
    ),
    BadInput(
        "Conv2d",
        lambda z, on: on(nn.Conv2d(3, 4, 3))(np.ones((1, 3, 8, 8))),
        TypeError,
        "conv2d: input must be a Tensor, got ndarray",
    ),
    BadInput(
        "max_pool2d", lambda z, on: F.max_pool2d(None, 2), TypeError, "max_pool2d: input must be a Tensor, got NoneType"
    ),
    BadInput(
        "cross_entropy",
        lambda z, on: F.cross_entropy(z(2, 3), [0, 1]),
        TypeError,
        "cross_entropy: target must be a Tensor, got list",
    ),
    BadInput(
        "batch_norm",
        lambda z, on: F.batch_norm(np.ones((2, 3)), None, None, training=True),
        TypeError,
        "batch_norm: input must be a Tensor, got ndarray",
    ),
    BadInput("relu", lambda z, on: F.relu(3.0), TypeError, "relu: input must be a Tensor, got float"),
    BadInput(
        "MultiLabelMarginLoss",
        lambda z, on: on(nn.MultiLabelMarginLoss())(z(2, 3), z(2, 4, dtype=gn.int64)),
        ShapeError,
        "multilabel_margin_loss: target must have the input's shape (2, 3), got (2, 4)",
    ),
    BadInput(
        "MultiLabelMarginLoss 2",
        lambda z, on: on(nn.MultiLabelMarginLoss())(z(2, 3), z(2, 3)),
        DTypeError,
        "multilabel_margin_loss: target must hold int64 class indices, got float32",
    ),
    BadInput(
        "multilabel_margin_loss",
        lambda z, on: F.multilabel_margin_loss(z(2, 3, 4), z(2, 3, 4, dtype=gn.int64)),
        ShapeError,
        "multilabel_margin_loss: input must be (C,) or (N, C) with classes, got (2, 3, 4)",
    ),
    BadInput(
        "Unflatten",
        lambda z, on: on(nn.Unflatten(1, (2, 2)))(z(2, 3)),
        ShapeError,
        "unflatten: sizes must multiply to 3, the size of dim 1, got (2, 2)",
    ),
    BadInput(
        "Unflatten 2",
        lambda z, on: on(nn.Unflatten(3, (2, 2)))(z(2, 4)),
        ShapeError,
        "unflatten: dim must lie in -2..1 for a 2-d tensor, got 3",
    ),
    BadInput(
        "affine_grid",
        lambda z, on: F.affine_grid(z(2, 3, 3), (2, 3, 4, 4)),
        ShapeError,
        "affine_grid: theta must be (N, 2, 3) for a size (N, C, H, W) or (N, 3, 4) for (N, C, D, "
        "H, W), got shape (2, 3, 3) and size (2, 3, 4, 4)",
    ),
    BadInput(
        "affine_grid 2",
        lambda z, on: F.affine_grid(z(2, 2, 3, dtype=gn.int64), (2, 3, 4, 4)),
        DTypeError,
        "affine_grid: theta must be floating point, got int64",
    ),
    BadInput(
        "grid_sample",
        lambda z, on: F.grid_sample(z(2, 3, 4, 4), z(2, 5, 5, 3)),
        ShapeError,
        "grid_sample: input must be (N, C, H, W) and grid (N, H_out, W_out, 2), got shapes (2, 3, "
        "4, 4) and (2, 5, 5, 3)",
    ),
    BadInput(
        "grid_sample 2",
        lambda z, on: F.grid_sample(z(2, 3, 4), z(2, 5, 5, 2)),
        ShapeError,
        "grid_sample: input must be (N, C, H, W) and grid (N, H_out, W_out, 2), got shapes (2, 3, 4) and (2, 5, 5, 2)",
    ),
    BadInput(
        "grid_sample 3",
        lambda z, on: F.grid_sample(z(2, 3, 4, 4), z(2, 5, 5, 2), mode="cubic"),
        ValueError,
        "grid_sample: mode must be one of 'bilinear', 'nearest', got 'cubic'",
    ),
    BadInput(
        "grid_sample 4",
        lambda z, on: F.grid_sample(z(2, 3, 4, 4, dtype=gn.int64), z(2, 5, 5, 2, dtype=gn.int64)),
        DTypeError,
        "grid_sample: input must be floating point, got int64",
    ),
    BadInput(
        "rrelu_",
        lambda z, on: F.rrelu_(z(3), 0.5, 0.1),
        ValueError,
        "rrelu: lower must not be greater than upper, got 0.5 and 0.1",
    ),
]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("entry", CATALOGUE, ids=repr)
def test_bad_input(entry: BadInput, device: str) -> None:
    entry.check(device)


def test_labels_are_unique() -> None:
    labels = [entry.label for entry in CATALOGUE]
    assert len(labels) == len(set(labels))
