"""The error catalogue of the losses and distances."""

from __future__ import annotations

from typing import Any

import pytest

import gpunet as gn
import gpunet.nn.functional as F
from gpunet import DTypeError, ShapeError, nn
from gpunet.testing.bad_input import DEVICES, BadInput


def _integers(z: Any, *size: int) -> Any:
    return z(*size, dtype=gn.int64)


SHAPE_RULE = "shapes (4, 5) and (4, 3) do not broadcast: sizes 5 and 3 at dimension -1 differ and neither is 1"
ELEMENTWISE = ("l1_loss", "mse_loss", "smooth_l1_loss", "huber_loss", "soft_margin_loss", "kl_div", "poisson_nll_loss",
               "hinge_embedding_loss")  # fmt: skip
SAME = ("binary_cross_entropy", "binary_cross_entropy_with_logits")
REDUCTION = "reduction must be one of 'none', 'mean', 'sum', got 'average'"

CATALOGUE = [
    *(BadInput(f"{name} shapes", lambda z, on, name=name: getattr(F, name)(z(4, 5), z(4, 3)), ShapeError,
               f"{name}: {SHAPE_RULE}")
      for name in ELEMENTWISE),
    *(BadInput(f"{name} integers", lambda z, on, name=name: getattr(F, name)(_integers(z, 3), _integers(z, 3)),
               DTypeError,
               f"{name}: input and target must be floating point, got int64")
      for name in (*ELEMENTWISE, *SAME)),
    *(BadInput(f"{name} reduction", lambda z, on, name=name: getattr(F, name)(z(3), z(3), reduction="average"),
               ValueError,
               f"{name}: {REDUCTION}")
      for name in (*ELEMENTWISE, *SAME)),
    *(BadInput(f"{name} shapes", lambda z, on, name=name: getattr(F, name)(z(4, 5), z(5)), ShapeError,
               f"{name}: target must have the input's shape (4, 5), got (5,)")
      for name in SAME),
    *(BadInput(f"{name} size_average", lambda z, on, name=name: getattr(F, name)(z(3), z(3), size_average=True),
               ValueError,
               f"{name}: size_average and reduce are no longer taken; use reduction='mean', 'sum' or 'none'")
      for name in (*(n for n in ELEMENTWISE if n != "huber_loss"), *SAME)),
    BadInput("smooth_l1_loss beta", lambda z, on: F.smooth_l1_loss(z(3), z(3), beta=-1), ValueError,
             "smooth_l1_loss: beta must not be negative, got -1.0"),
    BadInput("huber_loss delta", lambda z, on: F.huber_loss(z(3), z(3), delta=0), ValueError,
             "huber_loss: delta must be positive, got 0.0"),
    BadInput("gaussian_nll_loss var", lambda z, on: F.gaussian_nll_loss(z(4, 5), z(4, 5), z(3)), ShapeError,
             "gaussian_nll_loss: var must have the input's shape (4, 5), or lack its last dimension, got (3,)"),
    BadInput("gaussian_nll_loss eps", lambda z, on: F.gaussian_nll_loss(z(3), z(3), z(3), eps=-1.0), ValueError,
             "gaussian_nll_loss: eps must not be negative, got -1.0"),
    BadInput("margin_ranking_loss ranks", lambda z, on: F.margin_ranking_loss(z(3), z(3), z(2, 3)), ShapeError,
             "margin_ranking_loss: input1, input2 and target must have as many dimensions, got shapes (3,), (3,) and "
             "(2, 3)"),
    BadInput("multi_margin_loss p", lambda z, on: F.multi_margin_loss(z(2, 3), _integers(z, 2), p=3), ValueError,
             "multi_margin_loss: p must be 1 or 2, got 3"),
    BadInput("multi_margin_loss rank", lambda z, on: F.multi_margin_loss(z(2, 3, 4), _integers(z, 2, 4)), ShapeError,
             "multi_margin_loss: input must be (C,) or (N, C) with classes, got (2, 3, 4)"),
    BadInput("multi_margin_loss dtype", lambda z, on: F.multi_margin_loss(z(2, 3), z(2)), DTypeError,
             "multi_margin_loss: target must hold int64 class indices, got float32"),
    BadInput("multi_margin_loss target", lambda z, on: F.multi_margin_loss(z(2, 3), _integers(z, 4)), ShapeError,
             "multi_margin_loss: target must have shape (2,) for an input of shape (2, 3), got (4,)"),
    BadInput("multilabel_soft_margin_loss 0-d", lambda z, on: F.multilabel_soft_margin_loss(z(), z()), ShapeError,
             "multilabel_soft_margin_loss: input must have a class dimension, got a 0-d tensor"),
    BadInput("cosine_embedding_loss target", lambda z, on: F.cosine_embedding_loss(z(2, 3), z(2, 3), z(2, 3)),
             ShapeError, "cosine_embedding_loss: inputs must be (N, D) for a target (N,), or (D,) for (), got shapes "
             "(2, 3), (2, 3) and (2, 3)"),
    BadInput("triplet_margin_loss margin", lambda z, on: F.triplet_margin_loss(z(2, 3), z(2, 3), z(2, 3), margin=0),
             ValueError, "triplet_margin_loss: margin must be greater than 0, got 0"),
    BadInput("triplet_margin_loss ranks", lambda z, on: F.triplet_margin_loss(z(2, 3), z(2, 3), z(3)), ShapeError,
             "triplet_margin_loss: anchor, positive and negative must have as many dimensions, got shapes (2, 3), "
             "(2, 3) and (3,)"),
    BadInput("cosine_similarity shapes", lambda z, on: F.cosine_similarity(z(4, 5), z(4, 3)), ShapeError,
             f"cosine_similarity: {SHAPE_RULE}"),
    BadInput("cosine_similarity dim", lambda z, on: F.cosine_similarity(z(5), z(5)), ShapeError,
             "cosine_similarity: dim must lie in -1..0 for a 1-d tensor, got 1"),
    BadInput("cosine_similarity dtype", lambda z, on: F.cosine_similarity(_integers(z, 2, 2), _integers(z, 2, 2)),
             DTypeError, "cosine_similarity: inputs must be floating point, got int64"),
    BadInput("pairwise_distance shapes", lambda z, on: F.pairwise_distance(z(4, 5), z(4, 3)), ShapeError,
             f"pairwise_distance: {SHAPE_RULE}"),
    BadInput("bilinear features", lambda z, on: on(nn.Bilinear(3, 5, 2))(z(4, 3), z(4, 4)), ShapeError,
             "bilinear: input2 must have 5 features in its last dimension (weight has shape (2, 3, 5)), got shape "
             "(4, 4)"),
    BadInput("bilinear rows", lambda z, on: F.bilinear(z(4, 3), z(3, 5), z(2, 3, 5)), ShapeError,
             "bilinear: input1 and input2 must agree but for their last dimension, got shapes (4, 3) and (3, 5)"),
    BadInput("bilinear weight", lambda z, on: F.bilinear(z(4, 3), z(4, 5), z(3, 5)), ShapeError,
             "bilinear: weight must be 3-d (out_features, in1_features, in2_features), got (3, 5)"),
    BadInput("bilinear bias", lambda z, on: F.bilinear(z(4, 3), z(4, 5), z(2, 3, 5), z(3)), ShapeError,
             "bilinear: bias must have shape (2,), got (3,)"),
    BadInput("bilinear dtype", lambda z, on: F.bilinear(z(4, 3), z(4, 5), z(2, 3, 5, dtype=gn.float64)), DTypeError,
             "bilinear: weight has dtype float64, but input1 has float32; they must be the same"),
    BadInput("bilinear size", lambda z, on: nn.Bilinear(0, 3, 4), ValueError,
             "Bilinear: in1_features must be at least 1, got 0"),
]  # fmt: skip


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("entry", CATALOGUE, ids=repr)
def test_bad_input(entry: BadInput, device: str) -> None:
    entry.check(device)


VALUES: list[tuple[str, Any, type[Exception], str]] = [
    ("probability", lambda: F.binary_cross_entropy(gn.tensor([1.5]), gn.tensor([1.0])), ValueError,
     "input: probabilities must lie in 0..1; got 1.5"),
    ("target", lambda: F.binary_cross_entropy(gn.tensor([0.5]), gn.tensor([-1.0])), ValueError,
     "target: probabilities must lie in 0..1; got -1"),
    ("variance", lambda: F.gaussian_nll_loss(gn.zeros(2), gn.zeros(2), gn.tensor([1.0, -1.0])), ValueError,
     "var: variances must not be negative"),
    ("label", lambda: F.multi_margin_loss(gn.zeros(2, 3), gn.tensor([0, 3])), IndexError,
     "target: class indices must lie in 0..C-1 (or be ignore_index); got 3 with C = 3"),
    ("deviation", lambda: F.mdn_loss(gn.zeros(2, 1), gn.zeros(2, 1, 1), gn.zeros(2, 1, 1), gn.zeros(2, 1)), ValueError,
     "sigma: standard deviations must be positive; got 0"),
    ("mixture", lambda: F.mdn_loss(gn.full((2, 2), 0.5), gn.zeros(2, 2, 1), gn.ones(2, 2, 1), gn.zeros(2, 1)),
     ValueError, "log_pi: must be logarithms of probabilities that sum to 1, as log_softmax gives; got a sum of "
     "3.29744"),
]  # fmt: skip


@pytest.mark.parametrize(("act", "error", "text"), [entry[1:] for entry in VALUES], ids=[entry[0] for entry in VALUES])
def test_bad_value(act: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error) as caught:
        act()
    assert str(caught.value) == text
