"""Each translation against onnxruntime, on the samples that every implementation of the operation is held to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpunet as gn
from gpunet import nn
from gpunet.autograd.function import apply
from gpunet.interop import ExportError
from gpunet.interop.onnx_export.graph import TRANSLATIONS
from gpunet.ops import REGISTRY

from .onnx_session import export

pytestmark = pytest.mark.onnx

# What is translated in part: the samples that are refused, and a word of the reason.
REFUSED = {
    ("adaptive_max_pool1d", "indices"): "does not give",
    ("adaptive_max_pool2d", "indices"): "does not give",
    ("adaptive_max_pool3d", "indices"): "does not give",
    ("circular_pad", "crop"): "negative",
    ("conv_transpose2d", "dilation 3, stride 2"): "output_padding 2 is neither",
    ("cumsum", "0-d"): "no dimensions",
    ("gather", "0-d"): "no dimensions",
    ("gather_index", "pairs"): "one array of integers",
    ("gather_index", "apart"): "one array of integers",
    ("gather_index", "mask"): "mask",
    ("index_select", "0-d"): "no dimensions",
    ("interpolate2d", "linear, scale"): "single precision",
    ("interpolate3d", "linear, scale"): "single precision",
    ("log_softmax", "0-d"): "no dimensions",
    ("reflection_pad", "crop"): "negative",
    ("replication_pad", "crop"): "negative",
    ("round", "1 decimals"): "decimals",
    ("round", "-1 decimals"): "decimals",
    ("softmax", "0-d"): "no dimensions",
    **{
        (name, f"{kind}packed{more}"): "takes a packed batch"
        for name, kinds in (("rnn", ("", "relu, ")), ("gru", ("",)), ("lstm", ("",)))
        for kind in kinds
        for more in ("", ", reverse", ", equal lengths")
    },
}
# onnxruntime itself refuses to run it, or aborts the process.
NOT_RUN = {
    ("circular_pad", "empty batch"),
    ("gru", "empty batch"),
    ("lstm", "empty batch"),
    ("rnn", "empty batch"),
    ("rnn", "relu, empty batch"),
}


class Applied(nn.Module):
    """One operation; its array inputs are the module's, what else it takes is fixed."""

    def __init__(self, op: str, inputs: tuple[Any, ...], attributes: dict[str, Any]) -> None:
        super().__init__()
        self.op, self.inputs, self.attributes = op, inputs, attributes

    def forward(self, *tensors: gn.Tensor) -> Any:
        left = list(tensors)
        inputs = [left.pop(0) if isinstance(value, np.ndarray) else value for value in self.inputs]
        return apply(REGISTRY[self.op], *inputs, **self.attributes)


def as_float32(value: Any) -> Any:
    if isinstance(value, np.floating):
        value = np.asarray(value)
    return value.astype(np.float32) if isinstance(value, np.ndarray) and value.dtype.kind == "f" else value


# The exchange of halves between two devices has no samples, and is held in test_onnx_models.py.
@pytest.mark.parametrize("name", sorted(TRANSLATIONS.keys() - {"exchange"}))
def test_samples(name: str, tmp_path: Path) -> None:
    for sample in REGISTRY[name].samples():
        attributes = dict(sample.attributes)
        if "dtype" in attributes and attributes["dtype"] is not None:
            attributes["dtype"] = np.dtype(np.float64)
        inputs = tuple(as_float32(value) for value in sample.inputs)
        model = Applied(name, inputs, attributes)
        arrays = [np.ascontiguousarray(v).reshape(v.shape) for v in inputs if isinstance(v, np.ndarray)]
        refusal = REFUSED.get((name, sample.label))
        options = {"example_inputs": arrays, "dynamic_batch": False, "opset": 19 if name == "circular_pad" else 18}
        if refusal is not None:
            with pytest.raises((ExportError, gn.ShapeError), match=refusal):
                export(model, tmp_path, **options)
            continue
        if (name, sample.label) in NOT_RUN:
            export(model, tmp_path, **options)
            continue
        with gn.no_grad():
            wanted = model(*(gn.tensor(array) for array in arrays))
        found = export(model, tmp_path, **options)(*arrays)
        for mine, theirs in zip(wanted if isinstance(wanted, tuple) else (wanted,), found, strict=True):
            assert (theirs.shape, theirs.dtype) == (tuple(mine.shape), mine.dtype), sample.label
            np.testing.assert_allclose(theirs, mine.numpy(), rtol=1e-4, atol=1e-5, err_msg=sample.label)
