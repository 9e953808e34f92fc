"""Activation layers, Bilinear and the distances: PyTorch's outputs, gradients, arguments, text and refusals."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

import gpunet as gn
from gpunet.testing.parity import Case, case, check_case

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity

SHAPE = (2, 4, 3, 5)
MADE: dict[str, Any] = {
    "ReLU": lambda m: m.nn.ReLU(), "ReLU inplace": lambda m: m.nn.ReLU(inplace=True),
    "ReLU6": lambda m: m.nn.ReLU6(), "ReLU6 inplace": lambda m: m.nn.ReLU6(True),
    "LeakyReLU": lambda m: m.nn.LeakyReLU(), "LeakyReLU slope": lambda m: m.nn.LeakyReLU(0.2, inplace=True),
    "PReLU": lambda m: m.nn.PReLU().double(), "PReLU channels": lambda m: m.nn.PReLU(4, init=0.1).double(),
    "RReLU": lambda m: m.nn.RReLU().eval(), "RReLU bounds": lambda m: m.nn.RReLU(0.1, 0.2, inplace=True).eval(),
    "ELU": lambda m: m.nn.ELU(), "ELU alpha": lambda m: m.nn.ELU(0.5, inplace=True),
    "SELU": lambda m: m.nn.SELU(), "SELU inplace": lambda m: m.nn.SELU(inplace=True),
    "CELU": lambda m: m.nn.CELU(), "CELU alpha": lambda m: m.nn.CELU(2.0, True),
    "GELU": lambda m: m.nn.GELU(), "GELU tanh": lambda m: m.nn.GELU(approximate="tanh"),
    "SiLU": lambda m: m.nn.SiLU(), "SiLU inplace": lambda m: m.nn.SiLU(True),
    "Mish": lambda m: m.nn.Mish(), "Mish inplace": lambda m: m.nn.Mish(inplace=True),
    "Hardswish": lambda m: m.nn.Hardswish(), "Hardswish inplace": lambda m: m.nn.Hardswish(inplace=True),
    "Hardsigmoid": lambda m: m.nn.Hardsigmoid(), "Hardsigmoid inplace": lambda m: m.nn.Hardsigmoid(True),
    "Hardtanh": lambda m: m.nn.Hardtanh(), "Hardtanh bounds": lambda m: m.nn.Hardtanh(-0.5, 2.0, inplace=True),
    "Sigmoid": lambda m: m.nn.Sigmoid(), "LogSigmoid": lambda m: m.nn.LogSigmoid(),
    "Tanh": lambda m: m.nn.Tanh(), "Tanhshrink": lambda m: m.nn.Tanhshrink(),
    "Softplus": lambda m: m.nn.Softplus(), "Softplus beta": lambda m: m.nn.Softplus(beta=2.0, threshold=3.0),
    "Softsign": lambda m: m.nn.Softsign(),
    "Softshrink": lambda m: m.nn.Softshrink(), "Softshrink lambd": lambda m: m.nn.Softshrink(1.0),
    "Hardshrink": lambda m: m.nn.Hardshrink(), "Hardshrink lambd": lambda m: m.nn.Hardshrink(lambd=1.0),
    "Threshold": lambda m: m.nn.Threshold(0.1, 20.0),
    "Threshold inplace": lambda m: m.nn.Threshold(0.1, -1, inplace=True),
    "GLU": lambda m: m.nn.GLU(1), "Softmax": lambda m: m.nn.Softmax(dim=1), "Softmin": lambda m: m.nn.Softmin(dim=1),
    "LogSoftmax": lambda m: m.nn.LogSoftmax(dim=-1), "Softmax2d": lambda m: m.nn.Softmax2d(),
    "Identity": lambda m: m.nn.Identity(54, unused=True), "Flatten": lambda m: m.nn.Flatten(2),
    "CosineSimilarity": lambda m: m.nn.CosineSimilarity(),
    "CosineSimilarity dim": lambda m: m.nn.CosineSimilarity(0, 0.1),
    "PairwiseDistance": lambda m: m.nn.PairwiseDistance(),
    "PairwiseDistance p": lambda m: m.nn.PairwiseDistance(1.0, eps=1e-3, keepdim=True),
}  # fmt: skip


def _run(m: Any, make: Any, x: Any) -> Any:
    layer = make(m)
    for parameter in layer.parameters():
        assert parameter.requires_grad
    layer = layer.to(x.dtype)
    # A leaf may not be written to by inplace=True; the distances take two inputs.
    y = x * 1
    result = layer(y, x.flip(0) * 2) if "Similarity" in repr(layer) or "Distance" in repr(layer) else layer(y)
    return result, repr(layer)


CASES = [
    case(label, lambda m, x, make=make: _run(m, make, x), SHAPE,
         at_least=1e-7 if label.startswith("Hardsigmoid") else 0.0)  # PyTorch's 1 / 6 is float32's
    for label, make in MADE.items()
] + [
    case("PReLU gradient", lambda m, x: _prelu(m, x), SHAPE, terms=120),
    case("Bilinear layer", lambda m, x, z: _bilinear(m, x, z, True), (4, 3), (4, 5)),
    case("Bilinear layer no bias", lambda m, x, z: _bilinear(m, x, z, False), (2, 4, 3), (2, 4, 5)),
    case("Softmax2d single", lambda m, x: m.nn.Softmax2d()(x), (3, 4, 5)),
    case("Softmax2d matrix", lambda m, x: m.nn.Softmax2d()(x), (4, 5)),
    case("Linear positional", lambda m, x: _linear(m, x), (4, 3)),
]  # fmt: skip


def _prelu(m: Any, x: Any) -> Any:
    layer = m.nn.PReLU(4, dtype=x.dtype)
    layer(x).sum().backward()
    return layer.weight.grad, tuple(layer.weight.shape)


def _filled(m: Any, layer: Any) -> Any:
    for parameter in layer.parameters():
        count = parameter.numel()
        parameter.data.copy_(m.linspace(-1, 1, count, dtype=parameter.dtype).reshape(tuple(parameter.shape)))
    return layer


def _bilinear(m: Any, x: Any, z: Any, bias: bool) -> Any:
    layer = _filled(m, m.nn.Bilinear(3, 5, 2, bias, dtype=x.dtype))
    result = layer(x, z)
    result.sum().backward(retain_graph=True)
    return result, tuple(parameter.grad for parameter in layer.parameters()), repr(layer)


def _linear(m: Any, x: Any) -> Any:
    layer = _filled(m, m.nn.Linear(3, 2, False, "cpu", x.dtype))
    return layer(x), repr(layer)


@pytest.mark.parametrize("checked", CASES, ids=repr)
def test_case(checked: Case) -> None:
    check_case(checked)


@pytest.mark.parametrize("name", sorted({label.split()[0] for label in MADE} | {"Bilinear", "Linear"}))
def test_signature_is_pytorchs(name: str) -> None:
    ours, theirs = (
        [(p.name, p.default) for p in inspect.signature(getattr(m.nn, name).__init__).parameters.values()]
        for m in (gn, torch)
    )
    if name in ("Softmax", "Softmin", "LogSoftmax"):  # there None is a deprecated guess
        ours, theirs = ([entry[0] for entry in table] for table in (ours, theirs))
    assert ours == theirs


def test_bilinear_is_drawn_from_its_range() -> None:
    """U(-k, k) with k = 1 / sqrt(in1_features), both for the weight and the bias (PyTorch's documentation)."""
    gn.manual_seed(1)
    layer = gn.nn.Bilinear(16, 30, 50)
    for values in (layer.weight.detach().numpy(), layer.bias.detach().numpy()):
        assert 0.2 < np.abs(values).max() <= 0.25
    assert abs(layer.weight.detach().numpy().std() - 0.25 / np.sqrt(3)) < 0.005
