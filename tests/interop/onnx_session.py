"""Exporting and running again by another program, for the tests of ``export_onnx``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpunet as gn
from gpunet import nn
from gpunet.interop.onnx_export import export_onnx

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
onnxruntime.set_default_logger_severity(4)


class Exported:
    """A file, run by onnxruntime on one thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def __call__(self, *arrays: np.ndarray) -> list[np.ndarray]:
        feeds = {declared.name: array for declared, array in zip(self.session.get_inputs(), arrays, strict=True)}
        return self.session.run(None, feeds)


def export(model: nn.Module, folder: Path, *args: Any, check: bool = True, **kwargs: Any) -> Exported:
    """Export a model, have onnx check the file (once more: exporting does), and open it with onnxruntime."""
    path = folder / "model.onnx"
    export_onnx(model, path, *args, **kwargs)
    if check:
        onnx.checker.check_model(str(path), full_check=True)
    return Exported(path)


def settle(model: nn.Module, images: np.ndarray) -> None:
    """Give normalisation layers statistics and weights that are not their first ones, and that fit each other.

    Without statistics that fit, hundreds of layers make infinities of random images; and the more layers there are, the
    smaller the weights, or else they make other images of two that differ by rounding.
    """
    rng = np.random.default_rng(7)
    norms = [module for module in model.modules() if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d))]
    scale = min(1.0, 16 / max(len(norms), 1))
    for norm in norms:
        norm.momentum = 1.0
        for parameter, low, high in ((norm.weight, 0.6, 1.4), (norm.bias, -0.3, 0.3)):
            if parameter is not None:
                values = rng.uniform(low * scale, high * scale, parameter.shape)
                parameter.data = gn.tensor(values.astype(np.float32))
    model.eval()
    for norm in norms:
        norm.train()
    with gn.no_grad():
        model(gn.tensor(images))
    model.eval()
    for norm in norms:  # a channel that happened to be still would be made a thousand times louder
        if norm.running_var is not None:
            variance = norm.running_var.numpy()
            variance[...] = np.maximum(variance, 0.3 * variance.mean())


def assert_same(model: nn.Module, exported: Exported, *arrays: np.ndarray, tolerance: float = 1e-4) -> np.ndarray:
    """Assert that onnxruntime's output is the model's, within 1e-4 of a value around 1. Gives it."""
    model.eval()
    with gn.no_grad():
        wanted = model(*(gn.tensor(array) for array in arrays))
    (found,) = exported(*arrays)
    assert found.shape == tuple(wanted.shape)
    assert found.dtype == wanted.dtype
    np.testing.assert_allclose(found, wanted.numpy(), rtol=tolerance, atol=tolerance)
    return found


def assert_as_exact(model: nn.Module, exported: Exported, images: np.ndarray) -> np.ndarray:
    """Assert that onnxruntime's output is the model's within 1e-4 of its largest value. Gives it.

    Hundreds of layers of random weights make more of float32's rounding than that: there onnxruntime's output must be
    as near to the model's in float64 as the model's own is. The model is in float64 afterwards where that was needed.
    """
    model.eval()
    with gn.no_grad():
        wanted = model(gn.tensor(images)).numpy()
        (found,) = exported(images)
        assert found.shape == wanted.shape
        largest = abs(wanted).max()
        assert np.isfinite(largest)
        bound = 1e-4 * max(1.0, largest)
        if abs(found - wanted).max() > bound:
            exact = model.double()(gn.tensor(images.astype(np.float64))).numpy()
            rounding = abs(wanted - exact).max()
            assert bound / 4 < rounding < 100 * bound  # or else it is something other than rounding
            assert abs(found - exact).max() <= max(bound, 2 * rounding)
    return found
