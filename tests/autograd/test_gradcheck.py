"""``gradcheck`` finds wrong gradients, says where, and is not fooled by NaN.

CS231n: a centred difference takes 2 D evaluations, has an error of order h^2, and in float64 agrees with the analytic
gradient to a relative 1e-6.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

import gpunet as gn
import gpunet.nn.functional as F
from gpunet import DTypeError, GradientError, Tensor
from gpunet.autograd import GradcheckError, apply, gradcheck
from gpunet.ops import REGISTRY


def double(*shape: int, seed: int = 0) -> Tensor:
    return gn.tensor(np.random.default_rng(seed).standard_normal(shape), requires_grad=True)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.exp() * x,
        lambda x: (x @ x.t()).tanh(),
        lambda x: x.softmax(1).log(),
        lambda x: x.var(0),
        lambda x: x[[0, 0, 2], 1:],
        lambda x: gn.cat([x, x * 2], 1).max(1).values,
        lambda x: (x.sum(), x.mean(0)),
        lambda x: F.cross_entropy(x, gn.tensor([0, 2, 1]), label_smoothing=0.1),
    ],
)
def test_right_gradients_pass(function: Any) -> None:
    assert gradcheck(function, double(3, 3))
    assert gradcheck(function, double(3, 3), fast_mode=True)


def test_agreement_is_far_better_than_the_tolerance() -> None:
    assert gradcheck(
        lambda x, w: F.conv2d(x, w, padding=1), [double(1, 2, 4, 4), double(3, 2, 3, 3)], rtol=1e-6, atol=1e-7
    )


def test_a_planted_wrong_gradient_is_found_and_located(monkeypatch: pytest.MonkeyPatch) -> None:
    op = REGISTRY["tanh"]
    right = op.backward

    def wrong(ctx: Any, *grad_outputs: Any) -> Any:
        (dx,) = right(ctx, *grad_outputs)
        dx = dx.copy()
        dx[1, 2] *= 1.01  # a per cent in one element
        return (dx,)

    monkeypatch.setattr(op, "backward", wrong)
    x = double(2, 3)
    with pytest.raises(GradcheckError, match="1 gradients differ") as caught:
        gradcheck(lambda x: apply(op, x), x)
    line = str(caught.value).splitlines()[1]
    found = re.match(r"  tensor 0 \[1, 2\]: backward (\S+), differences (\S+), relative (\S+)$", line)
    assert found is not None, line
    analytic, numeric, relative = map(float, found.groups())
    assert analytic == pytest.approx(1.01 * numeric, rel=1e-6)
    assert relative == pytest.approx(0.01 / 1.01, rel=1e-3)
    assert not gradcheck(lambda x: apply(op, x), x, raise_exception=False)
    assert not gradcheck(lambda x: apply(op, x), x, raise_exception=False, fast_mode=True, rtol=1e-5, atol=1e-7)


def test_the_report_is_sorted_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    op = REGISTRY["exp"]
    monkeypatch.setattr(op, "backward", lambda ctx, grad: (grad * ctx.saved[0] * 2,))
    with pytest.raises(GradcheckError, match="and 15 more") as caught:
        gradcheck(lambda x: x.exp(), double(5, 5))
    assert len(str(caught.value).splitlines()) == 12


def test_a_gradient_of_zero_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    op = REGISTRY["exp"]
    monkeypatch.setattr(op, "backward", lambda ctx, grad: (grad * 0,))
    with pytest.raises(GradcheckError):
        gradcheck(lambda x: x.exp(), double(3))
    with pytest.raises(GradcheckError):
        gradcheck(lambda x: x.exp(), double(3), fast_mode=True)


def test_a_missing_gradient_is_found() -> None:
    with pytest.raises(GradcheckError):
        gradcheck(lambda x: x + x.detach().exp(), double(3))


def test_nan_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    op = REGISTRY["exp"]
    monkeypatch.setattr(op, "backward", lambda ctx, grad: (grad * np.nan,))
    for fast_mode in (False, True):
        with pytest.raises(GradcheckError, match="nan"):
            gradcheck(lambda x: x.exp(), double(3), fast_mode=fast_mode)
        # The function itself is NaN: differences are too.
        with pytest.raises(GradcheckError, match="nan"):
            gradcheck(lambda x: x.log(), gn.tensor([-1.0], dtype=gn.float64, requires_grad=True), fast_mode=fast_mode)


def test_a_whole_network_along_a_random_direction() -> None:
    gn.manual_seed(0)
    net = gn.nn.Sequential(
        gn.nn.Conv2d(1, 4, 3, padding=1), gn.nn.BatchNorm2d(4), gn.nn.ReLU(), gn.nn.MaxPool2d(2),
        gn.nn.Flatten(), gn.nn.Linear(4 * 16, 3),
    ).double()  # fmt: skip
    x, labels = double(5, 1, 8, 8), gn.tensor([0, 1, 2, 1, 0])
    parameters = list(net.parameters())

    def loss(x: Tensor) -> Tensor:
        return F.cross_entropy(net(x), labels)

    assert gradcheck(loss, x, parameters=parameters, fast_mode=True)
    assert gradcheck(loss, x, parameters=parameters, max_elements=3)
    weight = parameters[0]
    right = weight.register_hook(lambda grad: grad * 1.05)
    assert not gradcheck(loss, x, parameters=parameters, fast_mode=True, raise_exception=False)
    right.remove()


def test_inputs_are_left_as_they_were() -> None:
    x = double(3, 3)
    before = x.detach().numpy().copy()
    gradcheck(lambda x: x.exp(), x)
    gradcheck(lambda x: x.exp(), x, fast_mode=True)
    np.testing.assert_array_equal(x.detach().numpy(), before)
    assert x.grad is None


def test_inputs_are_restored_when_the_function_fails() -> None:
    calls = []

    def fails_later(x: Tensor) -> Tensor:
        calls.append(1)
        if len(calls) == 3:
            raise ZeroDivisionError
        return x * 2

    for fast_mode in (False, True):
        calls.clear()
        x = double(2)
        before = x.detach().numpy().copy()
        with pytest.raises(ZeroDivisionError):
            gradcheck(fails_later, x, fast_mode=fast_mode)
        np.testing.assert_array_equal(x.detach().numpy(), before)


def test_what_it_takes() -> None:
    with pytest.raises(DTypeError, match="gradcheck needs float64, tensor 0 is float32"):
        gradcheck(lambda x: x, gn.ones(2, requires_grad=True))
    with pytest.raises(ValueError, match="at least one tensor must require grad"):
        gradcheck(lambda x: x, gn.ones(2, dtype=gn.float64))
    with pytest.raises(GradientError, match="no output requires grad"):
        gradcheck(lambda x: x.detach(), double(2))
    assert gradcheck(lambda x, n, y: x * n + y, [double(2), 3, gn.ones(2)])


def test_a_function_that_draws_random_numbers_is_reported_as_such() -> None:
    x = gn.ones(5, dtype=gn.float64, requires_grad=True)
    with pytest.raises(GradcheckError, match="different outputs for the same inputs"):
        gradcheck(lambda value: F.dropout(value), x)
