"""Gradient clipping."""

from __future__ import annotations

import math

import numpy as np
import pytest

import gpunet as gn
from gpunet import nn
from gpunet.nn.utils import clip_grad_norm_, clip_grad_value_


def parameters(scale: float = 1.0) -> list[nn.Parameter]:
    rng = np.random.default_rng(0)
    made = []
    for shape in ((3, 4), (5,), (2, 3, 2, 2), ()):
        parameter = nn.Parameter(gn.zeros(shape))
        parameter.grad = gn.tensor((scale * rng.standard_normal(shape)).astype(np.float32))
        made.append(parameter)
    made.append(nn.Parameter(gn.zeros(3)))  # one without a gradient
    return made


@pytest.mark.parity
@pytest.mark.parametrize("norm_type", [2.0, 1.0, 3.0, math.inf, "inf", 0.5, 0.0])
@pytest.mark.parametrize("max_norm", [0.5, 1e6, 0.0])
def test_norm_clipping_agrees_with_pytorch(norm_type, max_norm):
    torch = pytest.importorskip("torch")
    ours = parameters()
    theirs = []
    for parameter in ours:
        theirs.append(torch.nn.Parameter(torch.zeros(parameter.shape)))
        if parameter.grad is not None:
            theirs[-1].grad = torch.tensor(parameter.grad.numpy().copy())
    total = clip_grad_norm_(ours, max_norm, norm_type)
    expected = torch.nn.utils.clip_grad_norm_(theirs, max_norm, float(norm_type))
    assert total.shape == ()
    assert total.item() == pytest.approx(expected.item(), rel=1e-5)
    for p, q in zip(ours, theirs, strict=True):
        if q.grad is not None:
            np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=1e-5, atol=1e-7)


def test_norm_clipping():
    ours = parameters(100.0)
    clip_grad_norm_(iter(ours), 1.0)
    total = math.sqrt(sum(float((p.grad.numpy() ** 2).sum()) for p in ours if p.grad is not None))
    assert total == pytest.approx(1.0, rel=1e-5)
    assert clip_grad_norm_([], 1.0).item() == 0
    assert clip_grad_norm_(nn.Parameter(gn.zeros(2)), 1.0).item() == 0


def test_norm_clipping_in_half_precision_does_not_overflow():
    parameter = nn.Parameter(gn.zeros(1000, dtype=gn.float16))
    parameter.grad = gn.full((1000,), 100.0, dtype=gn.float16)
    assert clip_grad_norm_(parameter, 1.0).item() == pytest.approx(100 * math.sqrt(1000), rel=1e-3)
    assert parameter.grad.dtype == np.float16
    np.testing.assert_allclose(parameter.grad.numpy(), 1 / math.sqrt(1000), rtol=2e-3)


def test_norms_of_several_devices_are_joined():
    a, b = nn.Parameter(gn.zeros(2)), nn.Parameter(gn.zeros(2, device="cpu:1"))
    a.grad, b.grad = gn.tensor([3.0, 0.0]), gn.tensor([0.0, 4.0], device="cpu:1")
    total = clip_grad_norm_([a, b], 1.0)
    assert total.item() == pytest.approx(5.0)
    assert str(total.device) == "cpu"
    assert b.grad.to("cpu").tolist() == pytest.approx([0.0, 0.8])
    assert str(b.grad.device) == "cpu:1"


def test_non_finite_norms():
    parameter = nn.Parameter(gn.zeros(2))
    parameter.grad = gn.tensor([math.inf, 1.0])
    with pytest.raises(RuntimeError, match=r"norm of order 2\.0 is inf"):
        clip_grad_norm_(parameter, 1.0, error_if_nonfinite=True)
    assert parameter.grad.tolist() == [math.inf, 1.0]
    clip_grad_norm_(parameter, 1.0)
    assert math.isnan(parameter.grad.tolist()[0])


def test_value_clipping():
    parameter = nn.Parameter(gn.zeros(3))
    parameter.grad = gn.tensor([-3.0, 0.2, 5.0])
    clip_grad_value_([parameter], 0.5)
    assert parameter.grad.tolist() == pytest.approx([-0.5, 0.2, 0.5])


@pytest.mark.parametrize("bad", [-1.0, math.nan])
def test_refusals(bad):
    with pytest.raises(ValueError, match="max_norm: must be a number of at least 0"):
        clip_grad_norm_(parameters(), bad)
    with pytest.raises(ValueError, match="clip_value: must be a number of at least 0"):
        clip_grad_value_(parameters(), bad)
    with pytest.raises(TypeError, match="parameters: expected Tensors, got int"):
        clip_grad_norm_([3], 1.0)  # type: ignore[list-item]
    with pytest.raises(ValueError, match="norm_type: must be a number of at least 0"):
        clip_grad_norm_(parameters(), 1.0, bad)
