"""Finite differences in float64 for every differentiable public name of ``nn.functional`` and ``Tensor``.

Inputs keep clear of the points where there is no derivative: no two elements are equal or closer than 0.05, and none is
closer than 0.02 to zero or to the kinks at halves and whole numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gpunet as gn
import gpunet.nn.functional as F
from gpunet import nn
from gpunet.autograd import gradcheck
from gpunet.testing.compatibility import public_names


def spread(*shape: int, seed: int = 0, low: float | None = None) -> gn.Tensor:
    """Distinct numbers about 0.1 apart in random order, off multiples of a half: around zero, or above ``low``."""
    count = int(np.prod(shape, dtype=int))
    step = 0.107 if count < 40 else 0.053
    values = step * (np.arange(count) + 0.5) + (-step * count / 2 if low is None else low)
    near = np.abs(values * 2 - np.round(values * 2)) < 0.04
    values = np.where(near, values + 0.023, values)
    order = np.random.default_rng(seed).permutation(count)
    return gn.from_numpy(values[order].reshape(shape))


def positive(*shape: int, seed: int = 0) -> gn.Tensor:
    """Distinct numbers above 0.3."""
    return spread(*shape, seed=seed, low=0.3)


def unit(*shape: int, seed: int = 0) -> gn.Tensor:
    """Distinct numbers inside 0..1."""
    count = int(np.prod(shape, dtype=int))
    values = (np.arange(count) + 0.77) / (count + 1)
    return gn.from_numpy(np.random.default_rng(seed).permutation(values).reshape(shape))


def small(*shape: int, seed: int = 0) -> gn.Tensor:
    """Distinct numbers inside -1..1."""
    return unit(*shape, seed=seed) * 1.9 - 0.95


INDEX = gn.tensor([2, 0, 1, 0])
LABELS = gn.tensor([1, 0, 3])
MASK = gn.tensor([[True, False, True, True], [False, True, False, True], [True, True, False, False]])

# name: (function, its inputs). Floating inputs are checked.
FUNCTIONAL: dict[str, list[tuple[Callable[..., Any], tuple[gn.Tensor, ...]]]] = {
    "linear": [(F.linear, (spread(2, 3), spread(4, 3), spread(4)))],
    "bilinear": [(F.bilinear, (spread(2, 3), spread(2, 2), spread(4, 3, 2), spread(4)))],
    "embedding": [(lambda w: F.embedding(INDEX, w), (spread(3, 4),))],
    "conv1d": [(lambda x, w, b: F.conv1d(x, w, b, 2, 1), (spread(2, 3, 7), spread(4, 3, 3), spread(4)))],
    "conv2d": [
        (lambda x, w, b: F.conv2d(x, w, b, 2, 1), (spread(2, 2, 5, 6), spread(3, 2, 3, 3), spread(3))),
        (lambda x, w: F.conv2d(x, w, dilation=2, groups=2), (spread(1, 4, 5, 5), spread(4, 2, 2, 3))),
    ],
    "conv3d": [
        (lambda x, w, b: F.conv3d(x, w, b, padding=1), (spread(1, 2, 3, 4, 3), spread(2, 2, 2, 3, 2), spread(2)))
    ],
    "conv_transpose1d": [
        (lambda x, w, b: F.conv_transpose1d(x, w, b, 2, 1), (spread(2, 3, 4), spread(3, 2, 3), spread(2)))
    ],
    "conv_transpose2d": [
        (lambda x, w, b: F.conv_transpose2d(x, w, b, 2, 1, 1), (spread(1, 2, 3, 3), spread(2, 2, 3, 3), spread(2))),
    ],
    "conv_transpose3d": [
        (lambda x, w: F.conv_transpose3d(x, w, stride=2), (spread(1, 2, 2, 2, 2), spread(2, 1, 2, 2, 2)))
    ],
    "affine_grid": [(lambda t: F.affine_grid(t, (2, 1, 3, 4), False), (spread(2, 2, 3),))],
    "grid_sample": [
        (
            lambda x, g, padding=padding: F.grid_sample(x, g, "bilinear", padding, False),
            (spread(1, 2, 4, 5), spread(1, 3, 3, 2) * 0.97),
        )
        for padding in ("zeros", "border", "reflection")
    ],
    "unfold": [(lambda x: F.unfold(x, 2, padding=1, stride=2), (spread(1, 2, 4, 5),))],
    "fold": [(lambda x: F.fold(x, (4, 5), 2), (spread(1, 8, 12),))],
    "max_pool1d": [(lambda x: F.max_pool1d(x, 3, 2, 1), (spread(2, 2, 7),))],
    "max_pool2d": [(lambda x: F.max_pool2d(x, 3, 2, 1), (spread(1, 2, 5, 6),))],
    "max_pool3d": [(lambda x: F.max_pool3d(x, 2), (spread(1, 2, 4, 4, 2),))],
    "avg_pool1d": [(lambda x: F.avg_pool1d(x, 3, 2, 1), (spread(2, 2, 7),))],
    "avg_pool2d": [(lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False), (spread(1, 2, 5, 6),))],
    "avg_pool3d": [(lambda x: F.avg_pool3d(x, 2), (spread(1, 2, 4, 4, 2),))],
    "lp_pool1d": [(lambda x: F.lp_pool1d(x, 3, 2), (positive(2, 2, 6),))],
    "lp_pool2d": [(lambda x: F.lp_pool2d(x, 2, 2), (spread(1, 2, 4, 4),))],
    "lp_pool3d": [(lambda x: F.lp_pool3d(x, 2, 2), (spread(1, 1, 2, 4, 4),))],
    "adaptive_avg_pool1d": [(lambda x: F.adaptive_avg_pool1d(x, 3), (spread(2, 2, 7),))],
    "adaptive_avg_pool2d": [(lambda x: F.adaptive_avg_pool2d(x, (2, 3)), (spread(1, 2, 5, 5),))],
    "adaptive_avg_pool3d": [(lambda x: F.adaptive_avg_pool3d(x, 2), (spread(1, 1, 3, 4, 2),))],
    "adaptive_max_pool1d": [(lambda x: F.adaptive_max_pool1d(x, 3), (spread(2, 2, 7),))],
    "adaptive_max_pool2d": [(lambda x: F.adaptive_max_pool2d(x, (2, 3)), (spread(1, 2, 5, 5),))],
    "adaptive_max_pool3d": [(lambda x: F.adaptive_max_pool3d(x, 2), (spread(1, 1, 3, 4, 2),))],
    "max_unpool1d": [(lambda x: F.max_unpool1d(x, gn.tensor([[[0, 3]]]), 2), (spread(1, 1, 2),))],
    "max_unpool3d": [(lambda x: F.max_unpool3d(x, gn.tensor([[[[[0, 3]]]]]), (1, 1, 2)), (spread(1, 1, 1, 1, 2),))],
    "max_unpool2d": [
        (lambda x: F.max_unpool2d(x, gn.tensor([[[[0, 3], [8, 15]]]]), 2), (spread(1, 1, 2, 2),)),
    ],
    "batch_norm": [
        (lambda x, w, b: F.batch_norm(x, None, None, w, b, True), (spread(4, 3, 2), spread(3), spread(3))),
        (
            lambda x, w, b: F.batch_norm(x, gn.ones(3).double(), gn.ones(3).double(), w, b),
            (spread(4, 3), spread(3), spread(3)),
        ),
    ],
    "layer_norm": [(lambda x, w, b: F.layer_norm(x, (4,), w, b), (spread(3, 4), spread(4), spread(4)))],
    "group_norm": [(lambda x, w, b: F.group_norm(x, 2, w, b), (spread(2, 4, 3), spread(4), spread(4)))],
    "instance_norm": [(lambda x, w, b: F.instance_norm(x, weight=w, bias=b), (spread(2, 3, 4), spread(3), spread(3)))],
    "rms_norm": [(lambda x, w: F.rms_norm(x, (4,), w), (spread(3, 4), spread(4)))],
    "local_response_norm": [
        (lambda x: F.local_response_norm(x, 3, 0.5), (spread(2, 5, 3),)),
        (lambda x: F.local_response_norm(x, 2, 0.5, k=2.0), (spread(2, 5, 3, 2),)),
    ],
    "normalize": [(lambda x: F.normalize(x), (spread(3, 4),)), (lambda x: F.normalize(x, 1, 0), (spread(3, 4),))],
    "dropout": [(lambda x: F.dropout(x, 0.4, generator=gn.Generator().manual_seed(1)), (spread(3, 4),))],
    "relu": [(F.relu, (spread(3, 4),))],
    "relu6": [(lambda x: F.relu6(x * 5), (spread(3, 4),))],
    "leaky_relu": [(lambda x: F.leaky_relu(x, 0.1), (spread(3, 4),))],
    "prelu": [(F.prelu, (spread(2, 3, 4), spread(3)))],
    "rrelu": [(F.rrelu, (spread(3, 4),))],
    "elu": [(lambda x: F.elu(x, 1.3), (spread(3, 4),))],
    "selu": [(F.selu, (spread(3, 4),))],
    "celu": [(lambda x: F.celu(x, 1.3), (spread(3, 4),))],
    "gelu": [(F.gelu, (spread(3, 4),)), (lambda x: F.gelu(x, approximate="tanh"), (spread(3, 4),))],
    "silu": [(F.silu, (spread(3, 4),))],
    "mish": [(F.mish, (spread(3, 4),))],
    "hardswish": [(lambda x: F.hardswish(x * 2), (spread(3, 4),))],
    "hardsigmoid": [(lambda x: F.hardsigmoid(x * 2), (spread(3, 4),))],
    "hardtanh": [(lambda x: F.hardtanh(x, -0.5, 0.5), (spread(3, 4),))],
    "sigmoid": [(F.sigmoid, (spread(3, 4),))],
    "logsigmoid": [(F.logsigmoid, (spread(3, 4),))],
    "tanh": [(F.tanh, (spread(3, 4),))],
    "tanhshrink": [(F.tanhshrink, (spread(3, 4),))],
    "softplus": [(lambda x: F.softplus(x, 2.0, 1.0), (spread(3, 4),))],
    "softsign": [(F.softsign, (spread(3, 4),))],
    "softshrink": [(F.softshrink, (spread(3, 4),))],
    "hardshrink": [(F.hardshrink, (spread(3, 4),))],
    "threshold": [(lambda x: F.threshold(x, 0.5, 2.0), (spread(3, 4),))],
    "glu": [(lambda x: F.glu(x, 1), (spread(3, 4),))],
    "softmax": [(lambda x: F.softmax(x, 1), (spread(3, 4),))],
    "softmin": [(lambda x: F.softmin(x, 1), (spread(3, 4),))],
    "log_softmax": [(lambda x: F.log_softmax(x, 0), (spread(3, 4),))],
    "cross_entropy": [
        (lambda x: F.cross_entropy(x, LABELS, positive(4), label_smoothing=0.1), (spread(3, 4),)),
        (lambda x, t: F.cross_entropy(x, t), (spread(3, 4), unit(3, 4))),
        (lambda x: F.cross_entropy(x, gn.tensor([[1, 0], [2, -100]])), (spread(2, 3, 2),)),
    ],
    "nll_loss": [(lambda x: F.nll_loss(x, LABELS), (spread(3, 4),))],
    "mse_loss": [(F.mse_loss, (spread(3, 4), spread(3, 4, seed=1)))],
    "l1_loss": [(F.l1_loss, (spread(3, 4), positive(3, 4) + 2))],
    "smooth_l1_loss": [(lambda x, y: F.smooth_l1_loss(x, y, beta=0.7), (spread(3, 4), spread(3, 4, seed=1) + 0.011))],
    "huber_loss": [(lambda x, y: F.huber_loss(x, y, delta=0.7), (spread(3, 4), spread(3, 4, seed=1) + 0.011))],
    "binary_cross_entropy": [(F.binary_cross_entropy, (unit(3, 4), unit(3, 4, seed=1)))],
    "binary_cross_entropy_with_logits": [
        (F.binary_cross_entropy_with_logits, (spread(3, 4), unit(3, 4))),
        (lambda x: F.binary_cross_entropy_with_logits(x, MASK.double(), pos_weight=positive(4)), (spread(3, 4),)),
    ],
    "multi_margin_loss": [(lambda x: F.multi_margin_loss(x, LABELS, p=2), (spread(3, 4),))],
    "multilabel_margin_loss": [
        (
            lambda x: F.multilabel_margin_loss(x, gn.tensor([[1, 0, -1, -1], [2, -1, 0, 1], [3, 1, -1, 0]])),
            (spread(3, 4),),
        ),
    ],
    "multilabel_soft_margin_loss": [(lambda x: F.multilabel_soft_margin_loss(x, MASK.double()), (spread(3, 4),))],
    "hinge_embedding_loss": [(lambda x: F.hinge_embedding_loss(x, MASK.double() * 2 - 1), (spread(3, 4),))],
    "soft_margin_loss": [(lambda x: F.soft_margin_loss(x, MASK.double() * 2 - 1), (spread(3, 4),))],
    "kl_div": [
        (lambda x, t: F.kl_div(x, t, reduction="batchmean"), (spread(3, 4), unit(3, 4))),
        (lambda x, t: F.kl_div(x, t, reduction="sum", log_target=True), (spread(3, 4), spread(3, 4, seed=1))),
    ],
    "cosine_embedding_loss": [
        (
            lambda x, y: F.cosine_embedding_loss(x, y, gn.tensor([1.0, -1.0, 1.0]).double(), margin=-0.9),
            (spread(3, 4), spread(3, 4, seed=1)),
        ),
    ],
    "triplet_margin_loss": [
        (F.triplet_margin_loss, (spread(3, 4), spread(3, 4, seed=1), spread(3, 4, seed=2))),
        (
            lambda a, p, n: F.triplet_margin_loss(a, p, n, margin=5.0, swap=True),
            (spread(3, 4), spread(3, 4, seed=1) + 0.011, spread(3, 4, seed=2) + 0.023),
        ),
    ],
    "triplet_margin_with_distance_loss": [
        (F.triplet_margin_with_distance_loss, (spread(3, 4), spread(3, 4, seed=1), spread(3, 4, seed=2))),
    ],
    "margin_ranking_loss": [
        (
            lambda x, y: F.margin_ranking_loss(x, y, gn.tensor([1.0, -1.0, 1.0]).double(), 0.5),
            (spread(3), spread(3, seed=3) + 0.011),
        ),
    ],
    "poisson_nll_loss": [(F.poisson_nll_loss, (spread(3, 4), positive(3, 4)))],
    "gaussian_nll_loss": [(F.gaussian_nll_loss, (spread(3, 4), spread(3, 4, seed=1), positive(3, 4)))],
    "cosine_similarity": [(F.cosine_similarity, (spread(3, 4), spread(3, 4, seed=1)))],
    "pairwise_distance": [(F.pairwise_distance, (spread(3, 4), spread(3, 4, seed=1)))],
    "pad": [
        (lambda x: F.pad(x, (1, 2, 0, -1)), (spread(3, 4),)),
        (lambda x: F.pad(x, (1, 2, 1, 0), "reflect"), (spread(1, 2, 3, 4),)),
        (lambda x: F.pad(x, (1, 2, 1, 0), "replicate"), (spread(1, 2, 3, 4),)),
        (lambda x: F.pad(x, (1, 2, 1, 0), "circular"), (spread(1, 2, 3, 4),)),
    ],
    "interpolate": [
        (lambda x: F.interpolate(x, scale_factor=2), (spread(1, 2, 3, 3),)),
        (lambda x: F.interpolate(x, size=(5, 4), mode="bilinear"), (spread(1, 2, 3, 3),)),
        (lambda x: F.interpolate(x, size=(5, 4), mode="bilinear", align_corners=True), (spread(1, 2, 3, 3),)),
    ],
    "pixel_shuffle": [(lambda x: F.pixel_shuffle(x, 2), (spread(1, 4, 2, 2),))],
    "pixel_unshuffle": [(lambda x: F.pixel_unshuffle(x, 2), (spread(1, 1, 4, 4),))],
    "channel_shuffle": [(lambda x: F.channel_shuffle(x, 2), (spread(1, 4, 2, 2),))],
    "scaled_dot_product_attention": [
        (
            lambda q, k, v: F.scaled_dot_product_attention(q, k, v, MASK),
            (spread(2, 3, 2), spread(2, 4, 2, seed=1), spread(2, 4, 3, seed=2)),
        ),
        (
            lambda q, k, v, mask: F.scaled_dot_product_attention(q, k, v, mask, scale=0.5, enable_gqa=True),
            (spread(4, 3, 2), spread(2, 4, 2, seed=1), spread(2, 4, 3, seed=2), spread(3, 4, seed=3)),
        ),
        (
            lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True),
            (spread(3, 2), spread(4, 2, seed=1), spread(4, 3, seed=2)),
        ),
    ],
    "multi_head_attention_forward": [
        (
            lambda q, k, v, w, b, out, c: F.multi_head_attention_forward(
                q, k, v, 4, 2, w, b, None, None, False, 0.0, out, c
            ),
            (
                *(spread(length, 2, 4, seed=length) for length in (3, 5)),
                spread(5, 2, 4),
                spread(12, 4),
                spread(12),
                spread(4, 4),
                spread(4),
            ),
        ),
    ],
    "mdn_loss": [
        (
            lambda log_pi, mu, sigma, target: F.mdn_loss(log_pi.log_softmax(-1), mu, sigma, target),
            (spread(3, 2), spread(3, 2, 4), positive(3, 2, 4), spread(3, 4, seed=1)),
        ),
    ],
}

# Tensor methods; functions of the same names at the top call them.
X, Y, SQUARE = spread(3, 4), spread(3, 4, seed=1), spread(4, 4)
PICK = gn.tensor([[0, 2, 1, 1], [2, 0, 0, 1]])
TENSOR: dict[str, list[tuple[Callable[..., Any], tuple[gn.Tensor, ...]]]] = {
    "abs": [(lambda x: x.abs(), (X,))],
    "absolute": [(lambda x: x.absolute(), (X,))],
    "acos": [(lambda x: x.acos(), (small(3, 4),))],
    "acosh": [(lambda x: x.acosh(), (positive(3, 4) + 1,))],
    "add": [(lambda x, y: x.add(y, alpha=2), (X, spread(4)))],
    "addbmm": [(lambda x, a, b: x.addbmm(a, b), (spread(2, 3), spread(2, 2, 4), spread(2, 4, 3)))],
    "addcdiv": [(lambda x, y, z: x.addcdiv(y, z, value=0.5), (X, Y, positive(3, 4)))],
    "addcmul": [(lambda x, y, z: x.addcmul(y, z, value=0.5), (X, Y, positive(3, 4)))],
    "addmm": [(lambda x, a, b: x.addmm(a, b, beta=0.5, alpha=2), (spread(3), spread(2, 4), spread(4, 3)))],
    "addmv": [(lambda x, a, b: x.addmv(a, b), (spread(2), spread(2, 4), spread(4)))],
    "addr": [(lambda x, a, b: x.addr(a, b), (X, spread(3), spread(4)))],
    "arccosh": [(lambda x: x.arccosh(), (positive(3, 4) + 1,))],
    "arcsinh": [(lambda x: x.arcsinh(), (X,))],
    "arctanh": [(lambda x: x.arctanh(), (small(3, 4),))],
    "cdist": [(lambda x, y: x.cdist(y), (X, spread(2, 4, seed=3)))],
    "cross": [(lambda x, y: x.cross(y, 1), (spread(2, 3), spread(2, 3, seed=1)))],
    "deg2rad": [(lambda x: x.deg2rad(), (X,))],
    "kron": [(lambda x, y: x.kron(y), (spread(2, 3), spread(3, 2)))],
    "msort": [(lambda x: x.msort(), (X,))],
    "nanmedian": [(lambda x: x.nanmedian(), (X,))],
    "positive": [(lambda x: x.positive() * 1, (X,))],
    "quantile": [(lambda x: x.quantile(0.3, dim=1), (X,))],
    "rad2deg": [(lambda x: x.rad2deg(), (X,))],
    "std_mean": [(lambda x: x.std_mean(1), (X,))],
    "tensordot": [(lambda x, y: x.tensordot(y, 1), (X, SQUARE))],
    "var_mean": [(lambda x: x.var_mean(1), (X,))],
    "adjoint": [(lambda x: x.adjoint(), (X,))],
    "amax": [(lambda x: x.amax(1), (X,))],
    "amin": [(lambda x: x.amin(0), (X,))],
    "aminmax": [(lambda x: tuple(x.aminmax(dim=0)), (X,))],
    "arccos": [(lambda x: x.arccos(), (small(3, 4),))],
    "arcsin": [(lambda x: x.arcsin(), (small(3, 4),))],
    "arctan": [(lambda x: x.arctan(), (X,))],
    "arctan2": [(lambda x, y: x.arctan2(y), (X, positive(3, 4)))],
    "asin": [(lambda x: x.asin(), (small(3, 4),))],
    "asinh": [(lambda x: x.asinh(), (X,))],
    "atan": [(lambda x: x.atan(), (X,))],
    "atan2": [(lambda x, y: x.atan2(y), (X, positive(3, 4)))],
    "atanh": [(lambda x: x.atanh(), (small(3, 4),))],
    "baddbmm": [(lambda x, a, b: x.baddbmm(a, b), (spread(2, 2, 3), spread(2, 2, 4), spread(2, 4, 3)))],
    "bmm": [(lambda a, b: a.bmm(b), (spread(2, 2, 4), spread(2, 4, 3)))],
    "broadcast_to": [(lambda x: x.broadcast_to(2, 3, 4), (X,))],
    "chunk": [(lambda x: x.chunk(2, 1), (X,))],
    "clamp": [(lambda x: x.clamp(-0.27, 0.25), (X,))],
    "clamp_max": [(lambda x: x.clamp_max(0.25), (X,))],
    "clamp_min": [(lambda x: x.clamp_min(0.25), (X,))],
    "clip": [(lambda x: x.clip(-0.27, 0.25), (X,))],
    "clone": [(lambda x: x.clone(), (X,))],
    "contiguous": [(lambda x: x.t().contiguous(), (X,))],
    "cos": [(lambda x: x.cos(), (X,))],
    "cosh": [(lambda x: x.cosh(), (X,))],
    "cumprod": [(lambda x: x.cumprod(1), (X,))],
    "cumsum": [(lambda x: x.cumsum(0), (X,))],
    "cummax": [(lambda x: next(iter(x.cummax(1))), (X,))],
    "cummin": [(lambda x: next(iter(x.cummin(1))), (X,))],
    "diag": [(lambda x: x.diag(1), (SQUARE,))],
    "diag_embed": [(lambda x: x.diag_embed(), (X,))],
    "diagonal": [(lambda x: x.diagonal(), (SQUARE,))],
    "diff": [(lambda x: x.diff(dim=1), (X,))],
    "dist": [(lambda x, y: x.dist(y), (X, Y))],
    "div": [(lambda x, y: x.div(y), (X, positive(3, 4)))],
    "divide": [(lambda x, y: x.divide(y), (X, positive(3, 4)))],
    "dot": [(lambda x, y: x.dot(y), (spread(4), spread(4, seed=1)))],
    "double": [(lambda x: x.double() * 1, (X,))],
    "erf": [(lambda x: x.erf(), (X,))],
    "erfc": [(lambda x: x.erfc(), (X,))],
    "erfinv": [(lambda x: x.erfinv(), (small(3, 4),))],
    "exp": [(lambda x: x.exp(), (X,))],
    "exp2": [(lambda x: x.exp2(), (X,))],
    "expand": [(lambda x: x.expand(2, 3, 4), (X,))],
    "expand_as": [(lambda x: x.expand_as(gn.zeros(2, 3, 4)), (X,))],
    "expm1": [(lambda x: x.expm1(), (X,))],
    "flatten": [(lambda x: x.flatten(), (X,))],
    "flip": [(lambda x: x.flip(0, 1), (X,))],
    "fliplr": [(lambda x: x.fliplr(), (X,))],
    "flipud": [(lambda x: x.flipud(), (X,))],
    "fmax": [(lambda x, y: x.fmax(y), (X, Y + 0.011))],
    "fmin": [(lambda x, y: x.fmin(y), (X, Y + 0.011))],
    "fmod": [(lambda x, y: x.fmod(y), (X, positive(3, 4) + 2))],
    "frac": [(lambda x: x.frac(), (X,))],
    "gather": [(lambda x: x.gather(0, PICK), (X,))],
    "ger": [(lambda x, y: x.ger(y), (spread(3), spread(4)))],
    "hsplit": [(lambda x: x.hsplit(2), (X,))],
    "hypot": [(lambda x, y: x.hypot(y), (X, Y))],
    "index_add": [(lambda x, y: x.index_add(0, INDEX, y), (X, spread(4, 4)))],
    "index_copy": [(lambda x, y: x.index_copy(0, gn.tensor([2, 0]), y), (X, spread(2, 4)))],
    "index_fill": [(lambda x: x.index_fill(1, gn.tensor([0, 2]), 3.0), (X,))],
    "index_put": [(lambda x, y: x.index_put((INDEX,), y, True), (X, spread(4, 4)))],
    "select": [(lambda x: x.select(1, 2), (X,))],
    "index_select": [(lambda x: x.index_select(0, INDEX), (X,))],
    "inner": [(lambda x, y: x.inner(y), (X, spread(2, 4)))],
    "kthvalue": [(lambda x: next(iter(x.kthvalue(2, 1))), (X,))],
    "lerp": [(lambda x, y, w: x.lerp(y, w), (X, Y, unit(3, 4)))],
    "log": [(lambda x: x.log(), (positive(3, 4),))],
    "log10": [(lambda x: x.log10(), (positive(3, 4),))],
    "log1p": [(lambda x: x.log1p(), (positive(3, 4),))],
    "log2": [(lambda x: x.log2(), (positive(3, 4),))],
    "log_softmax": [(lambda x: x.log_softmax(1), (X,))],
    "logaddexp": [(lambda x, y: x.logaddexp(y), (X, Y))],
    "logcumsumexp": [(lambda x: x.logcumsumexp(1), (X,))],
    "logit": [(lambda x: x.logit(), (unit(3, 4),))],
    "logsumexp": [(lambda x: x.logsumexp(1), (X,))],
    "masked_fill": [(lambda x, v: x.masked_fill(MASK, v), (X, spread()))],
    "masked_scatter": [(lambda x, y: x.masked_scatter(MASK, y), (X, Y))],
    "masked_select": [(lambda x: x.masked_select(MASK), (X,))],
    "matmul": [(lambda x, y: x.matmul(y), (X, SQUARE))],
    "max": [(lambda x: (x.max(), x.max(1)[0]), (X,)), (lambda x, y: x.max(y), (X, Y + 0.011))],
    "maximum": [(lambda x, y: x.maximum(y), (X, Y + 0.011))],
    "mean": [(lambda x: x.mean(1), (X,))],
    "median": [(lambda x: (x.median(), x.median(1)[0]), (X,))],
    "min": [(lambda x: (x.min(), x.min(1)[0]), (X,)), (lambda x, y: x.min(y), (X, Y + 0.011))],
    "minimum": [(lambda x, y: x.minimum(y), (X, Y + 0.011))],
    "mm": [(lambda x, y: x.mm(y), (X, SQUARE))],
    "moveaxis": [(lambda x: x.moveaxis(0, 1), (X,))],
    "movedim": [(lambda x: x.movedim(0, 1), (X,))],
    "mul": [(lambda x, y: x.mul(y), (X, Y))],
    "multiply": [(lambda x, y: x.multiply(y), (X, Y))],
    "mv": [(lambda x, y: x.mv(y), (X, spread(4)))],
    "nan_to_num": [(lambda x: x.nan_to_num(), (X,))],
    "nanmean": [(lambda x: x.nanmean(), (X,))],
    "nansum": [(lambda x: x.nansum(), (X,))],
    "narrow": [(lambda x: x.narrow(1, 1, 2), (X,))],
    "neg": [(lambda x: x.neg(), (X,))],
    "negative": [(lambda x: x.negative(), (X,))],
    "norm": [(lambda x: (x.norm(), x.norm(1), x.norm(3, 1), x.norm(float("inf"), 0)), (X,))],
    "outer": [(lambda x, y: x.outer(y), (spread(3), spread(4)))],
    "permute": [(lambda x: x.permute(1, 0), (X,))],
    "pow": [(lambda x, y: x.pow(y), (positive(3, 4), Y))],
    "prod": [(lambda x: (x.prod(), x.prod(1)), (X,))],
    "ravel": [(lambda x: x.ravel(), (X,))],
    "reciprocal": [(lambda x: x.reciprocal(), (positive(3, 4),))],
    "relu": [(lambda x: x.relu(), (X,))],
    "remainder": [(lambda x, y: x.remainder(y), (X, positive(3, 4) + 2))],
    "repeat": [(lambda x: x.repeat(2, 3), (X,))],
    "repeat_interleave": [(lambda x: x.repeat_interleave(2, 1), (X,))],
    "reshape": [(lambda x: x.reshape(2, 6), (X,))],
    "reshape_as": [(lambda x: x.reshape_as(gn.zeros(2, 6)), (X,))],
    "roll": [(lambda x: x.roll(1, 0), (X,))],
    "rot90": [(lambda x: x.rot90(), (X,))],
    "rsqrt": [(lambda x: x.rsqrt(), (positive(3, 4),))],
    "scatter": [(lambda x, y: x.scatter(0, gn.tensor([[0, 2, 1, 1]]), y), (X, spread(1, 4)))],
    "scatter_add": [(lambda x, y: x.scatter_add(0, PICK, y), (X, spread(2, 4)))],
    "sigmoid": [(lambda x: x.sigmoid(), (X,))],
    "sin": [(lambda x: x.sin(), (X,))],
    "sinh": [(lambda x: x.sinh(), (X,))],
    "softmax": [(lambda x: x.softmax(1), (X,))],
    "sort": [(lambda x: next(iter(x.sort(1, True))), (X,))],
    "split": [(lambda x: x.split([1, 3], 1), (X,))],
    "sqrt": [(lambda x: x.sqrt(), (positive(3, 4),))],
    "square": [(lambda x: x.square(), (X,))],
    "squeeze": [(lambda x: x.squeeze(0), (spread(1, 4),))],
    "std": [(lambda x: (x.std(), x.std(1)), (X,))],
    "sub": [(lambda x, y: x.sub(y, alpha=2), (X, Y))],
    "subtract": [(lambda x, y: x.subtract(y), (X, Y))],
    "sum": [(lambda x: x.sum(1), (X,))],
    "swapaxes": [(lambda x: x.swapaxes(0, 1), (X,))],
    "swapdims": [(lambda x: x.swapdims(0, 1), (X,))],
    "T": [(lambda x: x.T, (X,))],
    "mT": [(lambda x: x.mT, (X,))],
    "t": [(lambda x: x.t(), (X,))],
    "take": [(lambda x: x.take(gn.tensor([0, 5, 5, -1])), (X,))],
    "take_along_dim": [(lambda x: x.take_along_dim(PICK, 0), (X,))],
    "tan": [(lambda x: x.tan(), (X,))],
    "tanh": [(lambda x: x.tanh(), (X,))],
    "tensor_split": [(lambda x: x.tensor_split(3, 1), (X,))],
    "tile": [(lambda x: x.tile(2), (X,))],
    "to": [(lambda x: x.to("cpu:1").to("cpu"), (X,))],
    "topk": [(lambda x: next(iter(x.topk(2, 1))), (X,))],
    "trace": [(lambda x: x.trace(), (SQUARE,))],
    "transpose": [(lambda x: x.transpose(0, 1), (X,))],
    "tril": [(lambda x: x.tril(-1), (SQUARE,))],
    "triu": [(lambda x: x.triu(1), (SQUARE,))],
    "true_divide": [(lambda x, y: x.true_divide(y), (X, positive(3, 4)))],
    "unbind": [(lambda x: x.unbind(1), (X,))],
    "unflatten": [(lambda x: x.unflatten(1, (2, 2)), (X,))],
    "unfold": [(lambda x: x.unfold(1, 3, 1), (X,))],
    "unsqueeze": [(lambda x: x.unsqueeze(1), (X,))],
    "var": [(lambda x: (x.var(), x.var(1, correction=0)), (X,))],
    "vdot": [(lambda x, y: x.vdot(y), (spread(4), spread(4, seed=1)))],
    "view": [(lambda x: x.view(4, 3), (X,))],
    "view_as": [(lambda x: x.view_as(gn.zeros(4, 3)), (X,))],
    "vsplit": [(lambda x: x.vsplit(3), (X,))],
    "where": [(lambda x, y: x.where(MASK, y), (X, Y))],
    "xlogy": [(lambda x, y: x.xlogy(y), (X, positive(3, 4)))],
}

# Methods that give no floating-point function of the elements: properties, places, integers, bools, other devices.
NOT_DIFFERENTIABLE = {
    "all",
    "any",
    "argmax",
    "argmin",
    "argsort",
    "argwhere",
    "as_strided",
    "backward",
    "bernoulli",
    "bfloat16",
    "bincount",
    "bitwise_and",
    "bitwise_left_shift",
    "bitwise_not",
    "bitwise_right_shift",
    "bitwise_or",
    "bitwise_xor",
    "bool",
    "byte",
    "ceil",
    "char",
    "count_nonzero",
    "cpu",
    "cuda",
    "data",
    "data_ptr",
    "detach",
    "device",
    "dim",
    "dtype",
    "element_size",
    "eq",
    "equal",
    "allclose",
    "isclose",
    "float",
    "floor",
    "floor_divide",
    "ge",
    "get_device",
    "grad",
    "grad_fn",
    "greater",
    "greater_equal",
    "gt",
    "half",
    "histc",
    "int",
    "is_contiguous",
    "is_complex",
    "is_signed",
    "is_cuda",
    "is_floating_point",
    "is_leaf",
    "is_meta",
    "isfinite",
    "isinf",
    "isnan",
    "isneginf",
    "isposinf",
    "item",
    "itemsize",
    "le",
    "less",
    "less_equal",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "long",
    "lt",
    "mode",
    "multinomial",
    "nbytes",
    "ndim",
    "ndimension",
    "ne",
    "nelement",
    "new",
    "new_empty",
    "new_full",
    "new_ones",
    "new_tensor",
    "new_zeros",
    "nonzero",
    "not_equal",
    "numel",
    "numpy",
    "register_hook",
    "register_post_accumulate_grad_hook",
    "requires_grad",
    "retain_grad",
    "round",
    "searchsorted",
    "sgn",
    "shape",
    "short",
    "sign",
    "signbit",
    "size",
    "stride",
    "tolist",
    "trunc",
    "type",
    "type_as",
    "unique",
    "unique_consecutive",
    "bucketize",
    "fix",
}

# Functions whose derivative does not exist or is another name's.
NOT_CHECKED = {
    "one_hot": "gives integers",
    "conv_output_size": "gives integers",
    "dropout1d": "random; one mask with dropout",
    "dropout2d": "random",
    "dropout3d": "random",
    "alpha_dropout": "random; checked below",
    "feature_alpha_dropout": "random; checked below",
    "gumbel_softmax": "random",
    "embedding_bag": "checked below",
    "mdn_sample": "random, without gradient",
}

LAYERS: dict[str, tuple[Callable[[], Any], tuple[gn.Tensor, ...]]] = {
    "Conv2d": (lambda: nn.Conv2d(2, 4, 3, padding=1, padding_mode="reflect"), (spread(1, 2, 4, 4),)),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(2, 2, 3, 2), (spread(1, 2, 3, 3),)),
    "BatchNorm2d": (lambda: nn.BatchNorm2d(2), (spread(2, 2, 3, 3),)),
    "LayerNorm": (lambda: nn.LayerNorm((2, 3)), (spread(4, 2, 3),)),
    "GroupNorm": (lambda: nn.GroupNorm(2, 4), (spread(2, 4, 3),)),
    "InstanceNorm2d": (lambda: nn.InstanceNorm2d(2, affine=True), (spread(2, 2, 3, 3),)),
    "PReLU": (lambda: nn.PReLU(3), (spread(2, 3, 4),)),
    "Bilinear": (lambda: nn.Bilinear(3, 2, 4), (spread(2, 3), spread(2, 2))),
}


CASES = [
    pytest.param(function, inputs, id=f"{name}-{number}")
    for name, entries in (FUNCTIONAL | {f"Tensor.{name}": entries for name, entries in TENSOR.items()}).items()
    if hasattr(F if name in FUNCTIONAL else gn.Tensor, name.removeprefix("Tensor."))
    for number, (function, inputs) in enumerate(entries)
]


@pytest.mark.parametrize(("function", "inputs"), CASES)
def test_functional(function: Callable[..., Any], inputs: tuple[gn.Tensor, ...]) -> None:
    leaves = tuple(tensor.clone().requires_grad_() for tensor in inputs)
    assert gradcheck(function, leaves)
    total = sum((part * part * 1.3).sum() for part in _listed(function(*leaves)))
    total.backward()
    assert all(leaf.grad is not None for leaf in leaves if leaf is leaves[0])
    assert bool((leaves[0].grad != 0).any()), "a gradient that is zero everywhere proves nothing"


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, tuple) else [value]


@pytest.mark.parametrize("name", LAYERS)
def test_layer(name: str) -> None:
    make, inputs = LAYERS[name]
    layer = make().double()
    leaves = tuple(tensor.clone().requires_grad_() for tensor in inputs)
    assert gradcheck(layer, leaves, parameters=list(layer.parameters()))


def test_every_functional_name_is_checked() -> None:
    names = {name.rpartition(".")[2] for name in public_names() if name.startswith("gpunet.nn.functional.")}
    names = {name for name in names if not name.endswith("_")}  # what writes in place computes the same
    assert sorted(names - FUNCTIONAL.keys() - NOT_CHECKED.keys()) == []


def test_every_tensor_method_is_checked_or_has_no_derivative() -> None:
    names = {name.rpartition(".")[2] for name in public_names() if name.startswith("gpunet.Tensor.")}
    names = {name for name in names if not name.endswith("_")}
    assert sorted(names - TENSOR.keys() - NOT_DIFFERENTIABLE) == []
