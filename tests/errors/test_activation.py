"""The error catalogue of the activations."""

from __future__ import annotations

import pytest

import gpunet as gn
import gpunet.nn.functional as F
from gpunet import DTypeError, ShapeError, nn
from gpunet.testing.bad_input import DEVICES, BadInput

FLOATING = ("leaky_relu", "elu", "selu", "celu", "gelu", "silu", "mish", "hardswish", "hardsigmoid", "logsigmoid",
            "softplus", "softshrink", "hardshrink", "glu")  # fmt: skip

CATALOGUE = [
    *(BadInput(f"{name} integers", lambda z, on, name=name: getattr(F, name)(z(4, dtype=gn.int64)), DTypeError,
               f"{name}: input must be floating point, got int64")
      for name in FLOATING),
    *(BadInput(f"{name} bools", lambda z, on, name=name: getattr(F, name)(z(4, dtype=gn.bool)), DTypeError,
               f"{name}: not defined for bool")
      for name in ("relu", "hardtanh", "tanhshrink", "softsign")),
    *(BadInput(f"{name} dim", lambda z, on, name=name: getattr(F, name)(z(2, 3), 2), ShapeError,
               f"{name}: dim must lie in -2..1 for a 2-d tensor, got 2")
      for name in ("softmax", "softmin", "log_softmax", "glu")),
    BadInput("gelu approximate", lambda z, on: F.gelu(z(2), approximate="erf"), ValueError,
             "gelu: approximate must be 'none' or 'tanh', got 'erf'"),
    BadInput("celu alpha", lambda z, on: F.celu(z(2), 0.0), ValueError, "celu: alpha must not be zero"),
    BadInput("softplus beta", lambda z, on: F.softplus(z(2), 0.0), ValueError, "softplus: beta must not be zero"),
    BadInput("softshrink lambd", lambda z, on: F.softshrink(z(2), -1), ValueError,
             "softshrink: lambd must not be negative, got -1.0"),
    BadInput("hardtanh bounds", lambda z, on: F.hardtanh(z(2), 1, -1), ValueError,
             "hardtanh: min_val must not be greater than max_val, got 1.0 and -1.0"),
    BadInput("Hardtanh bounds", lambda z, on: nn.Hardtanh(1, -1), ValueError,
             "Hardtanh: max_val must be greater than min_val, got -1 and 1"),
    BadInput("Hardtanh old names", lambda z, on: nn.Hardtanh(min_value=-1), ValueError,
             "Hardtanh: min_value and max_value are no longer taken; use min_val and max_val"),
    BadInput("rrelu bounds", lambda z, on: F.rrelu(z(2), 0.5, 0.1), ValueError,
             "rrelu: lower must not be greater than upper, got 0.5 and 0.1"),
    BadInput("rrelu integers", lambda z, on: F.rrelu(z(2, dtype=gn.int64), training=True), DTypeError,
             "rrelu: input must be floating point, got int64"),
    BadInput("gumbel_softmax integers", lambda z, on: F.gumbel_softmax(z(2, dtype=gn.int64)), DTypeError,
             "gumbel_softmax: logits must be floating point, got int64"),
    BadInput("prelu count", lambda z, on: on(nn.PReLU(3))(z(2, 4, 5)), ShapeError,
             "prelu: weight must have 1 element, or one for each of 4 channels, got 3"),
    BadInput("prelu rank", lambda z, on: F.prelu(z(2, 4), z(1, 4)), ShapeError,
             "prelu: weight must be a vector, got shape (1, 4)"),
    BadInput("prelu dtype", lambda z, on: F.prelu(z(2, 4), z(4, dtype=gn.float64)), DTypeError,
             "prelu: weight has dtype float64, but input has float32; they must be the same"),
    BadInput("PReLU size", lambda z, on: nn.PReLU(0), ValueError, "PReLU: num_parameters must be at least 1, got 0"),
    BadInput("glu odd", lambda z, on: F.glu(z(2, 3)), ShapeError, "glu: dimension -1 must have an even size, got 3"),
    BadInput("glu 0-d", lambda z, on: F.glu(z()), ShapeError,
             "glu: input must have at least one dimension, got a 0-d tensor"),
    BadInput("Softmax2d rank", lambda z, on: nn.Softmax2d()(z(2, 3)), ShapeError,
             "Softmax2d: input must be (N, C, H, W) or (C, H, W), got shape (2, 3)"),
]  # fmt: skip


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("entry", CATALOGUE, ids=repr)
def test_bad_input(entry: BadInput, device: str) -> None:
    entry.check(device)
