"""Random small networks give the same numbers in onnxruntime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpunet as gn
from gpunet import nn

from .onnx_session import assert_same, export, settle

hypothesis = pytest.importorskip("hypothesis")
st = hypothesis.strategies

pytestmark = pytest.mark.onnx

ACTIVATIONS = (
    nn.ReLU,
    nn.Tanh,
    nn.SiLU,
    nn.ELU,
    nn.Hardswish,
    nn.Softplus,
    nn.LeakyReLU,
    lambda: nn.ReLU(inplace=True),
)


@st.composite
def networks(draw: Any) -> tuple[nn.Sequential, tuple[int, int, int]]:
    """A chain of layers that fit each other, and the size of its input."""
    channels = draw(st.integers(1, 3)) * 2
    height, width = draw(st.integers(7, 13)), draw(st.integers(7, 13))
    size = (channels, height, width)
    layers: list[nn.Module] = []
    for kind in draw(st.lists(st.sampled_from(("conv", "max", "avg", "norm", "activation", "lrn")), max_size=6)):
        room = min(height, width)
        if kind == "conv":
            out, groups = draw(st.integers(1, 4)) * 2, draw(st.sampled_from((1, 2)))
            kernel = draw(st.integers(1, min(3, room)))
            stride, padding = draw(st.integers(1, 2)), draw(st.integers(0, 2))
            bias = draw(st.booleans())
            layers.append(nn.Conv2d(channels, out, kernel, stride, padding, groups=groups, bias=bias))
            channels = out
        elif kind in ("max", "avg"):
            if room < 2:
                continue
            kernel = draw(st.integers(2, min(3, room)))
            stride, padding, ceil = draw(st.integers(1, 3)), draw(st.integers(0, kernel // 2)), draw(st.booleans())
            if kind == "max":
                layers.append(nn.MaxPool2d(kernel, stride, padding, ceil_mode=ceil))
            else:
                counted = draw(st.booleans())
                layers.append(nn.AvgPool2d(kernel, stride, padding, ceil_mode=ceil, count_include_pad=counted))
        elif kind == "norm":
            norm = draw(st.sampled_from((nn.BatchNorm2d, lambda c: nn.GroupNorm(2, c), lambda c: nn.GroupNorm(c, c))))
            layers.append(norm(channels))
        elif kind == "lrn":
            layers.append(nn.LocalResponseNorm(draw(st.integers(1, 6))))
        else:
            layers.append(draw(st.sampled_from(ACTIVATIONS))())
        shape = nn.Sequential(*layers).eval()(gn.zeros(1, *size)).shape
        height, width = shape[2:]
    pooled = draw(st.sampled_from((None, (1, 1), (2, 3), (3, None))))
    if pooled is not None:
        layers.append(draw(st.sampled_from((nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)))(pooled))
        height, width = pooled[0], pooled[1] or width
    layers += [nn.Flatten(), nn.Dropout(), nn.Linear(channels * height * width, draw(st.integers(1, 5)))]
    return nn.Sequential(*layers), size


@hypothesis.given(networks(), st.integers(1, 5))
@hypothesis.settings(max_examples=60, deadline=None, suppress_health_check=list(hypothesis.HealthCheck))
def test_random_networks(tmp_path_factory: pytest.TempPathFactory, network: Any, count: int) -> None:
    model, size = network
    rng = np.random.default_rng(5)
    settle(model, rng.standard_normal((6, *size), np.float32))
    exported = export(model, Path(tmp_path_factory.getbasetemp()), size)
    assert_same(model, exported, rng.standard_normal((count, *size), np.float32))
