"""Bad input to normalisations, dropouts, embeddings, initialisers and utilities: one clear line, on every device."""

from __future__ import annotations

import pytest

import gpunet as gn
import gpunet.nn.functional as F
from gpunet import DTypeError, ShapeError, nn
from gpunet.testing.bad_input import DEVICES, BadInput

CATALOGUE = [
    BadInput("layer_norm shape", lambda z, on: F.layer_norm(z(4, 7), (6,)), ShapeError,
             "layer_norm: the last dimensions of input must be normalized_shape (6,), got an input of shape (4, 7)"),
    BadInput("layer_norm rank", lambda z, on: F.layer_norm(z(7), (4, 7)), ShapeError,
             "layer_norm: the last dimensions of input must be normalized_shape (4, 7), got an input of shape (7,)"),
    BadInput("layer_norm no dimensions", lambda z, on: F.layer_norm(z(7), ()), ShapeError,
             "layer_norm: normalized_shape must name at least one dimension, got ()"),
    BadInput("layer_norm shape type", lambda z, on: F.layer_norm(z(7), (7.0,)), TypeError,
             "layer_norm: normalized_shape must be an integer, got 7.0"),
    BadInput("layer_norm shape text", lambda z, on: F.layer_norm(z(7), "7"), TypeError,
             "layer_norm: normalized_shape must be an integer or a sequence of integers, got '7'"),
    BadInput("layer_norm integers", lambda z, on: F.layer_norm(z(4, 7, dtype=gn.int64), (7,)), DTypeError,
             "layer_norm: input must be floating point, got int64"),
    BadInput("layer_norm weight", lambda z, on: F.layer_norm(z(4, 7), (7,), z(4)), ShapeError,
             "layer_norm: weight must have shape (7,), as normalized_shape says, got (4,)"),
    BadInput("layer_norm bias dtype", lambda z, on: F.layer_norm(z(4, 7), (7,), None, z(7, dtype=gn.float64)),
             DTypeError, "layer_norm: bias must be float32, as the input, got float64"),
    BadInput("layer_norm half", lambda z, on: F.layer_norm(z(4, 7, dtype=gn.float16), (7,), z(7, dtype=gn.float64)),
             DTypeError, "layer_norm: weight must be float16 or float32, as the input, got float64"),
    BadInput("LayerNorm shape", lambda z, on: on(nn.LayerNorm(6))(z(4, 7)), ShapeError,
             "layer_norm: the last dimensions of input must be normalized_shape (6,), got an input of shape (4, 7)"),
    BadInput("LayerNorm made of text", lambda z, on: nn.LayerNorm("7"), TypeError,
             "LayerNorm: normalized_shape must be an integer, got '7'"),
    BadInput("LayerNorm of nothing", lambda z, on: nn.LayerNorm(()), ShapeError,
             "LayerNorm: normalized_shape must name at least one dimension, got ()"),
    BadInput("LayerNorm negative", lambda z, on: nn.LayerNorm(-1), ValueError,
             "LayerNorm: normalized_shape must be at least 0, got -1"),
    BadInput("LayerNorm eps", lambda z, on: nn.LayerNorm(3, eps=-1.0), ValueError,
             "LayerNorm: eps must not be negative, got -1.0"),
    BadInput("rms_norm shape", lambda z, on: F.rms_norm(z(4, 7), (6,)), ShapeError,
             "rms_norm: the last dimensions of input must be normalized_shape (6,), got an input of shape (4, 7)"),
    BadInput("rms_norm weight", lambda z, on: F.rms_norm(z(4, 7), 7, z(1, 7)), ShapeError,
             "rms_norm: weight must have shape (7,), as normalized_shape says, got (1, 7)"),
    BadInput("rms_norm integers", lambda z, on: F.rms_norm(z(4, 7, dtype=gn.int64), 7), DTypeError,
             "rms_norm: input must be floating point, got int64"),
    BadInput("RMSNorm shape", lambda z, on: on(nn.RMSNorm((2, 7)))(z(4, 7)), ShapeError,
             "rms_norm: the last dimensions of input must be normalized_shape (2, 7), got an input of shape (4, 7)"),
    BadInput("LayerNorm eps of text", lambda z, on: nn.LayerNorm(3, eps="a"), TypeError,  # type: ignore[arg-type]
             "LayerNorm: eps must be a number, got 'a'"),
    BadInput("BatchNorm eps of text", lambda z, on: nn.BatchNorm2d(3, eps="a"), TypeError,  # type: ignore[arg-type]
             "BatchNorm2d: eps must be a number, got 'a'"),
    BadInput("BatchNorm momentum of text", lambda z, on: nn.BatchNorm2d(3, momentum="a"),  # type: ignore[arg-type]
             TypeError, "BatchNorm2d: momentum must be a number, got 'a'"),
    BadInput("Dropout of text", lambda z, on: nn.Dropout("a"), TypeError,  # type: ignore[arg-type]
             "Dropout: p must be a number, got 'a'"),
    BadInput("RMSNorm eps", lambda z, on: nn.RMSNorm(3, -1.0), ValueError,
             "RMSNorm: eps must not be negative, got -1.0"),
    BadInput("group_norm groups", lambda z, on: F.group_norm(z(2, 6, 3), 4), ShapeError,
             "group_norm: num_groups must divide the number of channels, got 4 groups and 6 channels"),
    BadInput("group_norm no groups", lambda z, on: F.group_norm(z(2, 6, 3), 0), ValueError,
             "group_norm: num_groups must be at least 1, got 0"),
    BadInput("group_norm float groups", lambda z, on: F.group_norm(z(2, 6, 3), 2.0), TypeError,
             "group_norm: num_groups must be an integer, got 2.0"),
    BadInput("group_norm rank", lambda z, on: F.group_norm(z(6), 2), ShapeError,
             "group_norm: input must have at least 2 dimensions (N, C, ...), got shape (6,)"),
    BadInput("group_norm weight", lambda z, on: F.group_norm(z(2, 6, 3), 2, z(2)), ShapeError,
             "group_norm: weight must have shape (6,) for an input of shape (2, 6, 3), got (2,)"),
    BadInput("group_norm integers", lambda z, on: F.group_norm(z(2, 6, dtype=gn.int64), 2), DTypeError,
             "group_norm: input must be floating point, got int64"),
    BadInput("group_norm one value", lambda z, on: F.group_norm(z(1, 4, 1, 1), 4), ShapeError,
             "group_norm: the input must have more than one value for each group, got an input of shape "
             "(1, 4, 1, 1) and 4 groups"),
    BadInput("GroupNorm channels", lambda z, on: on(nn.GroupNorm(2, 4))(z(2, 6, 3)), ShapeError,
             "group_norm: weight must have shape (6,) for an input of shape (2, 6, 3), got (4,)"),
    BadInput("GroupNorm groups", lambda z, on: nn.GroupNorm(4, 6), ValueError,
             "GroupNorm: num_channels must be divisible by num_groups, got 6 and 4"),
    BadInput("GroupNorm no groups", lambda z, on: nn.GroupNorm(0, 6), ValueError,
             "GroupNorm: num_groups must be at least 1, got 0"),
    BadInput("instance_norm rank", lambda z, on: F.instance_norm(z(2, 6)), ShapeError,
             "instance_norm: input must have at least 3 dimensions (N, C, L, ...), got shape (2, 6)"),
    BadInput("instance_norm one pixel", lambda z, on: F.instance_norm(z(2, 6, 1, 1)), ShapeError,
             "instance_norm: the input must have more than one value for each channel of a sample, got an input of "
             "shape (2, 6, 1, 1)"),
    BadInput("instance_norm statistics", lambda z, on: F.instance_norm(z(2, 6, 3), use_input_stats=False), ValueError,
             "instance_norm: running_mean and running_var must be given when use_input_stats is False"),
    BadInput("instance_norm one statistic", lambda z, on: F.instance_norm(z(2, 6, 3), z(6)), ValueError,
             "instance_norm: running_mean and running_var must be given together"),
    BadInput("instance_norm weight", lambda z, on: F.instance_norm(z(2, 6, 3), weight=z(5)), ShapeError,
             "instance_norm: weight must have shape (6,) for an input of shape (2, 6, 3), got (5,)"),
    BadInput("instance_norm integers", lambda z, on: F.instance_norm(z(2, 6, 3, dtype=gn.int64)), DTypeError,
             "instance_norm: input must be floating point, got int64"),
    BadInput("InstanceNorm1d rank", lambda z, on: on(nn.InstanceNorm1d(6))(z(2, 6, 3, 3)), ShapeError,
             "InstanceNorm1d: input must have 2 or 3 dimensions, got shape (2, 6, 3, 3)"),
    BadInput("InstanceNorm2d channels", lambda z, on: on(nn.InstanceNorm2d(5, affine=True))(z(2, 6, 3, 3)), ShapeError,
             "InstanceNorm2d: input must have 5 channels, got shape (2, 6, 3, 3)"),
    BadInput("InstanceNorm3d rank", lambda z, on: on(nn.InstanceNorm3d(6))(z(2, 6, 3)), ShapeError,
             "InstanceNorm3d: input must have 4 or 5 dimensions, got shape (2, 6, 3)"),
    BadInput("InstanceNorm2d features", lambda z, on: nn.InstanceNorm2d(0), ValueError,
             "InstanceNorm2d: num_features must be at least 1, got 0"),
    BadInput("BatchNorm3d rank", lambda z, on: on(nn.BatchNorm3d(6))(z(2, 6, 3, 3)), ShapeError,
             "BatchNorm3d: input must have 5 dimensions, got shape (2, 6, 3, 3)"),
    BadInput("BatchNorm3d momentum", lambda z, on: nn.BatchNorm3d(6, momentum=2), ValueError,
             "BatchNorm3d: momentum must be between 0 and 1, or None, got 2"),
    BadInput("local_response_norm rank", lambda z, on: F.local_response_norm(z(2, 6), 5), ShapeError,
             "local_response_norm: input must have at least 3 dimensions (N, C, ...), got shape (2, 6)"),
    BadInput("local_response_norm size", lambda z, on: F.local_response_norm(z(2, 6, 3), 0), ValueError,
             "local_response_norm: size must be at least 1, got 0"),
    BadInput("local_response_norm float size", lambda z, on: F.local_response_norm(z(2, 6, 3), 5.0), TypeError,
             "local_response_norm: size must be an integer, got 5.0"),
    BadInput("local_response_norm integers", lambda z, on: F.local_response_norm(z(2, 6, 3, dtype=gn.int64), 5),
             DTypeError, "local_response_norm: input must be floating point, got int64"),
    BadInput("LocalResponseNorm size", lambda z, on: nn.LocalResponseNorm(0), ValueError,
             "LocalResponseNorm: size must be at least 1, got 0"),
    BadInput("LocalResponseNorm rank", lambda z, on: on(nn.LocalResponseNorm(5))(z(2, 6)), ShapeError,
             "local_response_norm: input must have at least 3 dimensions (N, C, ...), got shape (2, 6)"),
    BadInput("normalize dim", lambda z, on: F.normalize(z(2, 6), dim=2), ShapeError,
             "normalize: dim must lie in -2..1 for a 2-d tensor, got 2"),
    BadInput("normalize integers", lambda z, on: F.normalize(z(2, 6, dtype=gn.int64)), DTypeError,
             "normalize: input must be floating point, got int64"),
    *(BadInput(f"{drop.__name__} p", lambda z, on, drop=drop: drop(z(2, 6, 3), 1.5, True), ValueError,
               f"{drop.__name__}: p must lie in 0..1, got 1.5")
      for drop in (F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout)),
    *(BadInput(f"{drop.__name__} integers", lambda z, on, drop=drop: drop(z(2, 6, 3, dtype=gn.int64), 0.5, True),
               DTypeError, f"{drop.__name__}: input must be floating point, got int64")
      for drop in (F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout)),
    *(BadInput(f"{drop.__name__} rank", lambda z, on, drop=drop: drop(z(6), 0.5, True), ShapeError,
               f"{drop.__name__}: input must have at least 2 dimensions (N, C, ...), got shape (6,)")
      for drop in (F.dropout2d, F.dropout3d, F.feature_alpha_dropout)),
    BadInput("dropout1d rank", lambda z, on: F.dropout1d(z(6), 0.5), ShapeError,
             "dropout1d: input must have 2 or 3 dimensions, got shape (6,)"),
    *(BadInput(f"{layer.__name__} p", lambda z, on, layer=layer: layer(-0.5), ValueError,
               f"{layer.__name__}: p must be between 0 and 1, got -0.5")
      for layer in (nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)),
    BadInput("embedding float index", lambda z, on: F.embedding(z(3), z(7, 5)), DTypeError,
             "embedding: input must be int64 or int32, got float32"),
    BadInput("embedding table rank", lambda z, on: F.embedding(z(3, dtype=gn.int64), z(7)), ShapeError,
             "embedding: weight must have 2 dimensions (num_embeddings, embedding_dim), got shape (7,)"),
    BadInput("embedding padding", lambda z, on: F.embedding(z(3, dtype=gn.int64), z(7, 5), 7), ValueError,
             "embedding: padding_idx must lie in -7..6 for a weight of 7 rows, got 7"),
    BadInput("embedding sparse", lambda z, on: F.embedding(z(3, dtype=gn.int64), z(7, 5), sparse=True), ValueError,
             "embedding: sparse gradients are not supported; use sparse=False"),
    BadInput("embedding list", lambda z, on: F.embedding([1, 2], z(7, 5)), TypeError,
             "embedding: input must be a Tensor, got list"),
    BadInput("Embedding float index", lambda z, on: on(nn.Embedding(7, 5))(z(3)), DTypeError,
             "embedding: input must be int64 or int32, got float32"),
    BadInput("Embedding size", lambda z, on: nn.Embedding(-1, 5), ValueError,
             "Embedding: num_embeddings must be at least 0, got -1"),
    BadInput("Embedding padding", lambda z, on: nn.Embedding(7, 5, 7), ValueError,
             "Embedding: padding_idx must be below num_embeddings, got 7"),
    BadInput("Embedding padding below", lambda z, on: nn.Embedding(7, 5, -8), ValueError,
             "Embedding: padding_idx must be at least -7, got -8"),
    BadInput("Embedding sparse", lambda z, on: nn.Embedding(7, 5, sparse=True), ValueError,
             "Embedding: sparse gradients are not supported; use sparse=False"),
    BadInput("Embedding weight", lambda z, on: nn.Embedding(7, 5, _weight=z(5, 7)), ShapeError,
             "Embedding: the given weight must have shape (7, 5), got (5, 7)"),
    BadInput("Embedding pretrained", lambda z, on: nn.Embedding.from_pretrained(z(7)), ShapeError,
             "Embedding.from_pretrained: embeddings must have 2 dimensions (num_embeddings, embedding_dim), got shape "
             "(7,)"),
    BadInput("embedding_bag mode", lambda z, on: F.embedding_bag(z(3, 2, dtype=gn.int64), z(7, 5), mode="median"),
             ValueError, "embedding_bag: mode must be 'sum', 'mean' or 'max', got 'median'"),
    BadInput("embedding_bag rank",
             lambda z, on: F.embedding_bag(z(3, 2, 2, dtype=gn.int64), z(7, 5), z(1, dtype=gn.int64)),
             ShapeError, "embedding_bag: input and offsets must have 1 dimension, got shapes (3, 2, 2) and (1,)"),
    BadInput("embedding_bag offsets", lambda z, on: F.embedding_bag(z(3, dtype=gn.int64), z(7, 5)), ValueError,
             "embedding_bag: offsets must be given with an input of 1 dimension"),
    BadInput("embedding_bag float offsets", lambda z, on: F.embedding_bag(z(3, dtype=gn.int64), z(7, 5), z(1)),
             DTypeError, "embedding_bag: offsets must be int64 or int32, got float32"),
    BadInput("embedding_bag offsets of a batch",
             lambda z, on: F.embedding_bag(z(3, 2, dtype=gn.int64), z(7, 5), z(1, dtype=gn.int64)), ValueError,
             "embedding_bag: offsets must not be given with an input of 2 dimensions"),
    BadInput("embedding_bag weights",
             lambda z, on: F.embedding_bag(z(3, 2, dtype=gn.int64), z(7, 5), mode="sum", per_sample_weights=z(3)),
             ShapeError, "embedding_bag: per_sample_weights must have the input's shape (6,), got (3,)"),
    BadInput("EmbeddingBag mode", lambda z, on: nn.EmbeddingBag(7, 5, mode="median"), ValueError,
             "EmbeddingBag: mode must be 'sum', 'mean' or 'max', got 'median'"),
    BadInput("EmbeddingBag sparse", lambda z, on: nn.EmbeddingBag(7, 5, sparse=True), ValueError,
             "EmbeddingBag: sparse gradients are not supported; use sparse=False"),
]  # fmt: skip


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("entry", CATALOGUE, ids=repr)
def test_bad_input(entry: BadInput, device: str) -> None:
    entry.check(device)


def test_every_label_is_unique() -> None:
    labels = [entry.label for entry in CATALOGUE]
    assert len(labels) == len(set(labels))


@pytest.mark.parametrize(
    ("index", "text"),
    [
        ([0, 7, 9], "embedding: indices must lie in 0..num_embeddings-1; got 7 with 7 rows"),
        ([[-1]], "embedding: indices must lie in 0..num_embeddings-1; got -1 with 7 rows"),
    ],
)
def test_indices_out_of_range(index: list[object], text: str) -> None:
    """Values, which meta cannot see; nothing is written before the error."""
    table = gn.ones(7, 5)
    offsets = gn.tensor([0])
    for call in (
        lambda i: F.embedding(i, table),
        lambda i: F.embedding(i, table, max_norm=0.1),
        lambda i: F.embedding_bag(i.reshape(-1), table, offsets),
        lambda i: nn.Embedding(7, 5)(i),
    ):
        with pytest.raises(IndexError) as caught:
            call(gn.tensor(index))
        assert str(caught.value) == text
    assert table.tolist() == [[1] * 5] * 7


def test_failed_calls_change_no_statistics_and_draw_nothing() -> None:
    mean, var = gn.zeros(3), gn.ones(3)
    with pytest.raises(ShapeError):
        F.instance_norm(gn.ones(4, 3, 2, 2), mean, var, gn.ones(2))
    assert (mean.tolist(), var.tolist(), mean._version) == ([0, 0, 0], [1, 1, 1], 0)
    state = gn.get_rng_state()
    for call in (
        lambda: F.dropout2d(gn.ones(3), 0.5),
        lambda: F.alpha_dropout(gn.ones(3, dtype=gn.int64), 0.5, True),
        lambda: F.dropout1d(gn.ones(3, 2), -1.0),
    ):
        with pytest.raises((ValueError, TypeError)):
            call()
    assert gn.get_rng_state() == state
