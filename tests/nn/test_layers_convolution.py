"""Convolution layers: PyTorch's outputs, gradients, initial values, text, state and refusals."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import numpy as np
import pytest

import gpunet as gn
from gpunet import nn
from gpunet.testing.compare import relative_error
from gpunet.testing.parity import attempt, compare_outcomes

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity

Shape = tuple[int, ...]

# A line that makes the layer with either library, the input's shape, and more arguments of the call.
LAYERS: list[tuple[Any, Shape, dict[str, Any]]] = [
    (lambda m: m.nn.Conv1d(3, 4, 3), (2, 3, 9), {}),
    (lambda m: m.nn.Conv1d(4, 6, (3,), 2, 1, 2, 2, False), (2, 4, 12), {}),
    (lambda m: m.nn.Conv1d(3, 3, 4, padding="same", groups=3), (2, 3, 9), {}),
    (lambda m: m.nn.Conv1d(3, 4, 3, padding="valid"), (3, 9), {}),
    (lambda m: m.nn.Conv1d(3, 4, 3, padding=2, padding_mode="reflect"), (2, 3, 9), {}),
    (lambda m: m.nn.Conv1d(3, 4, 3, padding=2, padding_mode="replicate"), (2, 3, 9), {}),
    (lambda m: m.nn.Conv1d(3, 4, 3, padding=2, padding_mode="circular"), (3, 9), {}),
    (lambda m: m.nn.Conv2d(3, 4, 3, padding=(1, 2), padding_mode="reflect"), (2, 3, 6, 7), {}),
    (lambda m: m.nn.Conv2d(3, 4, 3, padding=(1, 2), padding_mode="replicate", stride=2), (2, 3, 6, 7), {}),
    (lambda m: m.nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular", bias=False), (2, 3, 6, 7), {}),
    (lambda m: m.nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular", groups=4), (4, 6, 7), {}),
    (lambda m: m.nn.Conv2d(3, 4, (3, 4), padding="same", padding_mode="reflect"), (2, 3, 6, 7), {}),
    (lambda m: m.nn.Conv2d(3, 4, 3, padding="valid", padding_mode="circular"), (2, 3, 6, 7), {}),
    (lambda m: m.nn.Conv3d(3, 4, 3, padding=1), (2, 3, 4, 5, 6), {}),
    (lambda m: m.nn.Conv3d(4, 6, (1, 2, 3), (2, 1, 1), (0, 1, 1), 1, 2, False), (1, 4, 5, 4, 5), {}),
    (lambda m: m.nn.Conv3d(2, 2, 3, padding=1, padding_mode="replicate"), (1, 2, 3, 4, 4), {}),
    (lambda m: m.nn.Conv3d(2, 2, 2, padding="same"), (2, 3, 4, 4), {}),
    (lambda m: m.nn.ConvTranspose1d(3, 4, 3), (2, 3, 6), {}),
    (lambda m: m.nn.ConvTranspose1d(4, 6, 3, 2, 1, 1, 2, False, 2), (2, 4, 6), {}),
    (lambda m: m.nn.ConvTranspose1d(3, 4, 3, stride=3), (2, 3, 6), {"output_size": [20]}),
    (lambda m: m.nn.ConvTranspose2d(3, 4, 3), (2, 3, 5, 6), {}),
    (lambda m: m.nn.ConvTranspose2d(3, 4, (4, 2), 2, (1, 0)), (2, 3, 5, 6), {}),
    (lambda m: m.nn.ConvTranspose2d(4, 6, 3, 2, 1, 1, 2, False, 2), (4, 5, 6), {}),
    (lambda m: m.nn.ConvTranspose2d(3, 3, 3, stride=2, output_padding=(1, 0), groups=3), (2, 3, 5, 6), {}),
    (lambda m: m.nn.ConvTranspose2d(3, 4, 3, stride=2, padding=1), (2, 3, 5, 6), {"output_size": (10, 11)}),
    (lambda m: m.nn.ConvTranspose2d(3, 4, 3, stride=2, padding=1), (2, 3, 5, 6), {"output_size": [2, 4, 9, 12]}),
    (lambda m: m.nn.ConvTranspose2d(3, 4, 3, stride=2, padding=1), (3, 5, 6), {"output_size": (4, 10, 11)}),
    (lambda m: m.nn.ConvTranspose2d(3, 4, 3, stride=2, padding=1), (2, 3, 5, 6), {"output_size": (8, 11)}),
    (lambda m: m.nn.ConvTranspose2d(3, 4, 3, stride=2, padding=1), (2, 3, 5, 6), {"output_size": (10, 13)}),
    (lambda m: m.nn.ConvTranspose2d(3, 4, 3, stride=2, padding=1), (2, 3, 5, 6), {"output_size": (10,)}),
    (lambda m: m.nn.ConvTranspose3d(3, 2, 2, 2), (1, 3, 2, 3, 4), {}),
    (lambda m: m.nn.ConvTranspose3d(2, 4, 3, (2, 1, 2), 1, (1, 0, 1), 2), (1, 2, 2, 3, 2), {}),
    (lambda m: m.nn.ConvTranspose3d(2, 4, 3, 2), (1, 2, 2, 3, 2), {"output_size": (6, 7, 5)}),
    (lambda m: m.nn.Unfold(3), (2, 3, 5, 6), {}),
    (lambda m: m.nn.Unfold((2, 3), (2, 1), (1, 0), (1, 2)), (3, 7, 6), {}),
    (lambda m: m.nn.Fold((5, 6), 3), (2, 27, 12), {}),
    (lambda m: m.nn.Fold((7, 6), (2, 3), (2, 1), (1, 0), (1, 2)), (18, 14), {}),
    # refused in the call
    (lambda m: m.nn.Conv1d(3, 4, 3), (2, 4, 9), {}),
    (lambda m: m.nn.Conv2d(3, 4, 3, padding=7, padding_mode="reflect"), (2, 3, 6, 7), {}),
    (lambda m: m.nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular"), (6, 7), {}),
    (lambda m: m.nn.Conv3d(3, 4, 3), (2, 3, 9, 9), {}),
    (lambda m: m.nn.ConvTranspose2d(3, 4, 3, output_padding=1), (2, 3, 5, 6), {}),
    # refused when made
    (lambda m: m.nn.Conv1d(3, 4, 3, groups=2), (2, 3, 9), {}),
    (lambda m: m.nn.Conv1d(3, 4, 3, stride=2, padding="same"), (2, 3, 9), {}),
    (lambda m: m.nn.Conv2d(3, 4, 3, padding_mode="mirror"), (2, 3, 9, 9), {}),
    (lambda m: m.nn.ConvTranspose2d(3, 4, 3, groups=3), (2, 3, 5, 6), {}),
    (lambda m: m.nn.ConvTranspose2d(3, 4, 3, padding_mode="reflect"), (2, 3, 5, 6), {}),
]  # fmt: skip


def _line(make: Any, state: dict[str, np.ndarray], kw: dict[str, Any], out: list[Any]) -> Any:
    """Make the layer, give it the state and call it; the results are y and the parameters' gradients."""

    def run(m: Any, x: Any) -> Any:
        layer = make(m).to(x.dtype)
        layer.load_state_dict({key: m.tensor(value) for key, value in state.items()})
        out.append(layer)
        y = layer(x, **kw)
        rng = np.random.default_rng(7)
        y.backward(m.tensor(rng.standard_normal(tuple(y.shape)), dtype=x.dtype), retain_graph=True)
        return y, *(parameter.grad.detach() for parameter in layer.parameters())

    return run


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("dtype, bound", [(np.float32, 2e-5), (np.float64, 1e-10)], ids=["float32", "float64"])
@pytest.mark.parametrize("number", range(len(LAYERS)))
def test_layer(number: int, dtype: Any, bound: float) -> None:
    make, shape, kw = LAYERS[number]
    state: dict[str, np.ndarray] = {}
    try:
        state = {key: value.numpy().astype(dtype) for key, value in make(torch).state_dict().items()}
    except ValueError:
        with pytest.raises(ValueError, match=r"must be|needs"):
            make(gn)
        return
    x = np.random.default_rng(3).standard_normal(shape).astype(dtype)
    layers: list[Any] = []
    ours, theirs = (attempt(m, _line(make, state, kw, layers), [x.copy()]) for m in (gn, torch))
    problems = compare_outcomes(ours, theirs, bound)
    assert not problems, "\n".join(problems)
    mine, other = layers
    assert repr(mine) == repr(other)
    assert {k: tuple(v.shape) for k, v in mine.state_dict().items()} == {
        k: tuple(v.shape) for k, v in other.state_dict().items()
    }
    names = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "transposed", "groups")
    for name in (*names, "output_padding", "padding_mode", "output_size"):
        assert getattr(mine, name, None) == getattr(other, name, None), name
    copied = copy.deepcopy(mine)
    with gn.no_grad():
        meta = mine.to("meta")(gn.ones(shape, dtype=dtype, device="meta"), **kw) if ours.error is None else None
        if meta is not None:
            assert meta.shape == ours.values[0].shape
            np.testing.assert_array_equal(copied(gn.tensor(x), **kw).numpy(), ours.values[0].detach().numpy())


LAYER_NAMES = ["Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d", "Unfold", "Fold"]


@pytest.mark.parametrize("name", LAYER_NAMES)
def test_signature(name: str) -> None:
    ours, theirs = (inspect.signature(getattr(m.nn, name).__init__).parameters.values() for m in (gn, torch))
    assert [(p.name, p.default, p.kind) for p in ours] == [(p.name, p.default, p.kind) for p in theirs]


@pytest.mark.parametrize(
    "make",
    [
        lambda m: m.nn.Conv1d(30, 40, 5),
        lambda m: m.nn.Conv3d(12, 24, (2, 3, 4), groups=3),
        lambda m: m.nn.ConvTranspose1d(30, 40, 5),
        lambda m: m.nn.ConvTranspose2d(24, 32, (3, 5), groups=4),
        lambda m: m.nn.ConvTranspose3d(12, 24, 3),
    ],
)
def test_initial_values_have_pytorchs_bounds(make: Any) -> None:
    gn.manual_seed(1)
    torch.manual_seed(1)
    for ours, theirs in zip(make(gn).parameters(), make(torch).parameters(), strict=True):
        a, b = np.abs(ours.detach().numpy()), np.abs(theirs.detach().numpy())
        assert a.shape == b.shape
        # The largest of n uniform values lies within a few n-ths of the bound, and the mean is half of it.
        slack = 12 / a.size
        assert a.max() <= b.max() * (1 + slack)
        assert b.max() <= a.max() * (1 + slack)
        assert relative_error(a.mean(), b.mean()) < 4 / a.size**0.5


def test_factory_arguments() -> None:
    for name in LAYER_NAMES[:6]:
        layer = getattr(nn, name)(2, 4, 3, device="meta", dtype=gn.float64)
        assert {(str(p.device), p.dtype) for p in layer.parameters()} == {("meta", np.dtype(np.float64))}


def test_weights_gradient_lies_as_the_weight_does() -> None:
    """An optimizer's update then runs through memory in order."""
    for layer, shape in ((nn.Conv3d(3, 4, 2), (1, 3, 4, 4, 4)), (nn.ConvTranspose2d(3, 4, 2), (1, 3, 4, 4))):
        layer(gn.ones(shape)).sum().backward()
        assert layer.weight.grad is not None
        assert layer.weight.grad.numpy().strides == layer.weight.detach().numpy().strides
