"""Attention, the transformer's encoder and mixture density networks as ONNX files: onnxruntime's outputs are ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpunet as gn
from gpunet import nn

from .onnx_session import assert_same, export

pytestmark = pytest.mark.onnx

SIZE, LENGTH, HEADS = 8, 5, 2


class Attention(nn.Module):
    """Self-attention under a causal mask, if asked for: its output, or its weights."""

    def __init__(self, causal: bool, of_weights: bool, **options: Any) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(SIZE, HEADS, batch_first=True, **options)
        self.of_weights = of_weights
        self.register_buffer("mask", gn.ones(LENGTH, LENGTH, dtype=gn.bool).triu(1) if causal else None)

    def forward(self, x: gn.Tensor) -> gn.Tensor:
        output, weights = self.attention(x, x, x, attn_mask=self.mask, need_weights=self.of_weights)
        return weights if self.of_weights else output


class Padded(nn.Module):
    """An encoder whose second input is above 0.5 where a position is padding."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(SIZE, HEADS, 16, batch_first=True, **options)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.register_buffer("mask", gn.ones(LENGTH, LENGTH, dtype=gn.bool).triu(1))

    def forward(self, x: gn.Tensor, padding: gn.Tensor) -> gn.Tensor:
        return self.encoder(x, self.mask, padding > 0.5)


def stir(model: nn.Module) -> nn.Module:
    """No parameter zero or one."""
    rng = np.random.default_rng(5)
    for parameter in model.parameters():
        parameter.data.copy_(parameter.data + gn.tensor(0.2 * rng.standard_normal(parameter.shape)).float())
    return model.eval()


def batch(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape, np.float32)


@pytest.mark.parametrize("of_weights", [False, True], ids=["output", "weights"])
@pytest.mark.parametrize("causal", [False, True], ids=["", "causal"])
@pytest.mark.parametrize(
    "options", [{}, {"bias": False}, {"add_bias_kv": True, "add_zero_attn": True}, {"dropout": 0.5}], ids=str
)
def test_attention(options: dict[str, Any], causal: bool, of_weights: bool, tmp_path: Path) -> None:
    model = stir(Attention(causal, of_weights, **options))
    exported = export(model, tmp_path, (LENGTH, SIZE))
    for count in (3, 1):  # the same file for another batch
        found = assert_same(model, exported, batch(count, LENGTH, SIZE))
        assert found.std() > 1e-3


@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("norm_first", [False, True], ids=["post-norm", "pre-norm"])
@pytest.mark.parametrize("batch_first", [False, True], ids=["length first", "batch first"])
def test_encoder(batch_first: bool, norm_first: bool, activation: str, tmp_path: Path) -> None:
    layer = nn.TransformerEncoderLayer(
        SIZE, HEADS, 16, activation=activation, norm_first=norm_first, batch_first=batch_first
    )
    model = stir(nn.TransformerEncoder(layer, 2, nn.LayerNorm(SIZE)))
    exported = export(model, tmp_path, (LENGTH, SIZE))
    for count in (3, 1):
        assert_same(model, exported, batch(count, LENGTH, SIZE))


@pytest.mark.parametrize("norm_first", [False, True], ids=["post-norm", "pre-norm"])
def test_padding_is_an_input(norm_first: bool, tmp_path: Path) -> None:
    model = stir(Padded(norm_first=norm_first))
    x = batch(3, LENGTH, SIZE)
    padding = (np.arange(LENGTH) >= np.array([[5], [4], [2]])).astype(np.float32)
    exported = export(model, tmp_path, example_inputs=(gn.tensor(x), gn.tensor(padding)))
    found = assert_same(model, exported, x, padding)
    assert_same(model, exported, x[2:], padding[2:])
    (other,) = exported(x, np.zeros_like(padding))
    assert abs(other[2, 2:] - found[2, 2:]).max() > 1e-3


def test_mixture_density_network(tmp_path: Path) -> None:
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.hidden, self.mixture = nn.Linear(2, 8), nn.MDN(8, 2, 3)

        def forward(self, x: gn.Tensor) -> gn.Tensor:
            log_pi, mu, sigma = self.mixture(self.hidden(x).tanh())
            return gn.cat([log_pi, mu.flatten(1), sigma.flatten(1)], 1)

    model = stir(Network())
    assert_same(model, export(model, tmp_path, (2,)), batch(4, 2))
