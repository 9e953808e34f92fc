"""Lazy layers: shapes from the first input, as PyTorch takes them, and everything that can be done before that."""

from __future__ import annotations

import copy
import inspect
import pickle
from typing import Any

import numpy as np
import pytest

import gpunet as gn
from gpunet import nn
from gpunet.testing.parity import attempt, compare_outcomes

# A lazy layer, the same layer told its input's size, and the input's shape.
LAYERS: dict[str, tuple[Any, Any, tuple[int, ...]]] = {
    "LazyLinear": (lambda m: m.nn.LazyLinear(4), lambda m: m.nn.Linear(5, 4), (3, 5)),
    "LazyLinear of one": (lambda m: m.nn.LazyLinear(4, bias=False), lambda m: m.nn.Linear(5, 4, bias=False), (5,)),
    "LazyConv1d": (lambda m: m.nn.LazyConv1d(4, 3, padding=1), lambda m: m.nn.Conv1d(3, 4, 3, padding=1), (2, 3, 8)),
    "LazyConv2d": (
        lambda m: m.nn.LazyConv2d(6, 3, 2, groups=2, bias=False),
        lambda m: m.nn.Conv2d(4, 6, 3, 2, groups=2, bias=False),
        (2, 4, 7, 8),
    ),
    "LazyConv2d unbatched": (lambda m: m.nn.LazyConv2d(6, 3), lambda m: m.nn.Conv2d(4, 6, 3), (4, 7, 8)),
    "LazyConv3d": (lambda m: m.nn.LazyConv3d(2, 2), lambda m: m.nn.Conv3d(3, 2, 2), (1, 3, 3, 4, 4)),
    "LazyConvTranspose1d": (
        lambda m: m.nn.LazyConvTranspose1d(4, 3, 2),
        lambda m: m.nn.ConvTranspose1d(3, 4, 3, 2),
        (2, 3, 5),
    ),
    "LazyConvTranspose2d": (
        lambda m: m.nn.LazyConvTranspose2d(4, 3, 2, 1, 1, 2),
        lambda m: m.nn.ConvTranspose2d(6, 4, 3, 2, 1, 1, 2),
        (2, 6, 4, 5),
    ),
    "LazyConvTranspose3d": (
        lambda m: m.nn.LazyConvTranspose3d(2, 2),
        lambda m: m.nn.ConvTranspose3d(3, 2, 2),
        (1, 3, 2, 3, 3),
    ),
    "LazyBatchNorm1d": (lambda m: m.nn.LazyBatchNorm1d(), lambda m: m.nn.BatchNorm1d(5), (6, 5)),
    "LazyBatchNorm2d": (
        lambda m: m.nn.LazyBatchNorm2d(1e-3, 0.2),
        lambda m: m.nn.BatchNorm2d(3, 1e-3, 0.2),
        (4, 3, 5, 6),
    ),
    "LazyBatchNorm3d": (
        lambda m: m.nn.LazyBatchNorm3d(affine=False),
        lambda m: m.nn.BatchNorm3d(3, affine=False),
        (4, 3, 2, 3, 3),
    ),
    "LazyBatchNorm1d without statistics": (
        lambda m: m.nn.LazyBatchNorm1d(track_running_stats=False, bias=False),
        lambda m: m.nn.BatchNorm1d(5, track_running_stats=False, bias=False),
        (6, 5),
    ),
}
NAMES = sorted({label.split()[0] for label in LAYERS})


def image(label: str, dtype: Any = np.float32) -> np.ndarray:
    return np.random.default_rng(3).standard_normal(LAYERS[label][2]).astype(dtype)


@pytest.mark.parity
@pytest.mark.parametrize("label", LAYERS)
def test_outputs_gradients_state_and_text_are_pytorchs(label: str) -> None:
    torch = pytest.importorskip("torch")
    lazy, plain, _ = LAYERS[label]
    state = {key: value.numpy() for key, value in plain(torch).state_dict().items()}
    found: list[Any] = []

    def run(m: Any, x: Any) -> Any:
        layer = lazy(m)
        texts = [repr(layer), list(layer.state_dict()), layer.has_uninitialized_params()]
        layer(x)
        texts += [repr(layer), type(layer).__name__, {k: tuple(v.shape) for k, v in layer.state_dict().items()}]
        layer.load_state_dict({key: m.tensor(value) for key, value in state.items()})
        found.append((texts, hasattr(layer, "has_uninitialized_params")))
        return layer(x)

    x = image(label)
    ours, theirs = (attempt(m, run, [x.copy()]) for m in (gn, torch))
    assert not (problems := compare_outcomes(ours, theirs, 2e-5)), "\n".join(problems)
    assert found[0] == found[1]


@pytest.mark.parity
@pytest.mark.parametrize("name", NAMES)
def test_signature_is_pytorchs(name: str) -> None:
    torch = pytest.importorskip("torch")
    ours, theirs = (inspect.signature(getattr(m.nn, name).__init__).parameters.values() for m in (gn, torch))
    assert [(p.name, p.default, p.kind) for p in ours] == [(p.name, p.default, p.kind) for p in theirs]


@pytest.mark.parametrize("label", LAYERS)
def test_it_becomes_the_plain_layer(label: str) -> None:
    """With the same seed it has the same values, and lies in memory in the same order."""
    lazy, plain, _ = LAYERS[label]
    layer = lazy(gn)
    state_before = gn.get_rng_state()
    gn.manual_seed(4)
    layer(gn.tensor(image(label)))
    gn.manual_seed(4)
    told = plain(gn)
    assert type(layer) is type(told)
    for ours, theirs in zip(layer.parameters(), told.parameters(), strict=True):
        assert type(ours) is nn.Parameter
        np.testing.assert_array_equal(ours.detach().numpy(), theirs.detach().numpy())
        assert ours.detach().numpy().strides == theirs.detach().numpy().strides
    assert state_before != gn.get_rng_state() or not list(told.parameters()) or "Norm" in label
    assert not layer._forward_pre_hooks


@pytest.mark.parametrize("label", LAYERS)
def test_making_it_draws_nothing(label: str) -> None:
    before = gn.get_rng_state()
    LAYERS[label][0](gn)
    assert gn.get_rng_state() == before


@pytest.mark.parametrize("label", LAYERS)
def test_meta(label: str) -> None:
    lazy, plain, shape = LAYERS[label]
    layer = lazy(gn).to("meta")
    y = layer(gn.ones(shape, device="meta"))
    assert y.shape == plain(gn)(gn.ones(shape)).shape
    assert {str(p.device) for p in layer.parameters()} <= {"meta"}


@pytest.mark.parametrize("label", LAYERS)
def test_moved_and_cast_before_the_first_input(label: str) -> None:
    lazy, _, _ = LAYERS[label]
    layer = lazy(gn).double().to("cpu:1")
    parameters = list(layer.parameters())
    x = gn.tensor(image(label, np.float64), device="cpu:1")
    assert (layer(x).dtype, str(layer(x).device)) == (np.float64, "cpu:1")
    assert [id(p) for p in layer.parameters()] == [id(p) for p in parameters]
    for tensor in layer.state_dict().values():
        assert (tensor.dtype, str(tensor.device)) in ((np.float64, "cpu:1"), (np.int64, "cpu:1"))


@pytest.mark.parametrize("label", LAYERS)
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])  # noqa: S301
def test_copies_are_lazy_too(label: str, copied: Any) -> None:
    lazy, plain, _ = LAYERS[label]
    first = lazy(gn)
    second = copied(first)
    second(gn.tensor(image(label)))
    assert type(second) is type(plain(gn))
    assert first.has_uninitialized_params() == lazy(gn).has_uninitialized_params()
    first(gn.tensor(image(label)))


@pytest.mark.parametrize("label", LAYERS)
def test_a_state_dict_gives_the_shapes(label: str) -> None:
    lazy, plain, _ = LAYERS[label]
    told = plain(gn)
    layer = lazy(gn)
    told(gn.tensor(image(label)))
    layer.load_state_dict({key: value.numpy() for key, value in told.state_dict().items()})
    assert not layer.has_uninitialized_params()
    x = gn.tensor(image(label))
    np.testing.assert_array_equal(layer(x).detach().numpy(), told(x).detach().numpy())
    assert repr(layer) == repr(told)


def test_a_lazy_state_dict_fits_lazy_layers_alone() -> None:
    layer = nn.LazyLinear(4)
    assert nn.LazyLinear(4).load_state_dict(layer.state_dict()) == ([], [])
    assert layer.has_uninitialized_params()
    with pytest.raises(gn.CheckpointError, match=r"weight: the model has \(4, 3\), the state dict a tensor without a"):
        nn.Linear(3, 4).load_state_dict(layer.state_dict())
    with pytest.raises(gn.CheckpointError, match="missing:    weight, any shape float32"):
        layer.load_state_dict({})


def test_an_optimizer_made_before_the_first_input_trains_it() -> None:
    """As in PyTorch: the parameters stay the same objects."""
    model = nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2))
    optimizer = gn.optim.SGD(model.parameters(), lr=0.01)
    optimizer.step()  # no gradients yet: nothing happens
    x = gn.tensor(np.random.default_rng(0).standard_normal((4, 3, 5, 5)).astype(np.float32))
    losses = []
    for _ in range(5):
        loss = (model(x) ** 2).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
    assert [type(layer).__name__ for layer in model] == ["Conv2d", "BatchNorm2d", "ReLU", "Flatten", "Linear"]


def test_freezing_before_the_first_input() -> None:
    layer = nn.LazyLinear(4).requires_grad_(False)
    layer(gn.ones(2, 3))
    assert not any(parameter.requires_grad for parameter in layer.parameters())


def test_hooks_of_others_stay() -> None:
    layer = nn.LazyLinear(4)
    seen: list[str] = []
    layer.register_forward_pre_hook(lambda module, args: seen.append(type(module).__name__))
    layer(gn.ones(2, 3))
    layer(gn.ones(2, 3))
    assert seen == ["Linear", "Linear"]


def test_a_failed_first_call_leaves_it_lazy() -> None:
    layer = nn.LazyConv2d(4, 3, groups=2)
    with pytest.raises(ValueError, match="in_channels must be divisible by groups, got 3 and 2"):
        layer(gn.ones(1, 3, 5, 5))
    assert layer.has_uninitialized_params()
    assert layer(gn.ones(1, 4, 5, 5)).shape == (1, 4, 3, 3)


@pytest.mark.parity
@pytest.mark.parametrize(
    "use",
    [
        lambda m, p: p.shape,
        lambda m, p: p + 1,
        lambda m, p: p.numel(),
        lambda m, p: p.sum(),
        lambda m, p: m.nn.init.normal_(p),
        lambda m, p: m.nn.functional.linear(m.ones(2, 3), p),
    ],
)
def test_what_needs_a_shape_is_refused(use: Any) -> None:
    torch = pytest.importorskip("torch")
    for m, parameter in ((gn, nn.UninitializedParameter()), (torch, torch.nn.UninitializedParameter())):
        with pytest.raises((RuntimeError, ValueError), match=r"Call|call the model once"):
            use(m, parameter)


@pytest.mark.parity
def test_uninitialized_parameters_and_buffers_by_hand() -> None:
    torch = pytest.importorskip("torch")
    for m in (gn, torch):
        parameter = m.nn.UninitializedParameter(requires_grad=False, dtype=m.float64)
        assert repr(parameter) == "<UninitializedParameter>"
        parameter.materialize((2, 3))
        assert (type(parameter).__name__, tuple(parameter.shape)) == ("Parameter", (2, 3))
        assert (parameter.dtype, parameter.requires_grad) == (m.float64, False)
        buffer = m.nn.UninitializedBuffer()
        buffer.materialize((4,), dtype=m.float64)
        assert (type(buffer), tuple(buffer.shape), buffer.dtype) == (m.Tensor, (4,), m.float64)


@pytest.mark.parity
def test_a_lazy_layer_of_ones_own() -> None:
    torch = pytest.importorskip("torch")
    _check_own_layer(gn, nn.LazyModuleMixin)
    _check_own_layer(torch, torch.nn.modules.lazy.LazyModuleMixin)


def _check_own_layer(m: Any, mixin: Any) -> None:
    class Scale(mixin, m.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.scale = m.nn.UninitializedParameter()

        def initialize_parameters(self, input: Any) -> None:
            if self.has_uninitialized_params():
                with m.no_grad():
                    self.scale.materialize(tuple(input.shape[1:]))
                    self.scale.fill_(2.0)

        def forward(self, input: Any) -> Any:
            return input * self.scale

    layer = Scale()
    assert layer(m.ones(2, 3)).tolist() == [[2.0] * 3] * 2
    assert type(layer) is Scale


def test_initialize_parameters_must_be_complete() -> None:
    class Forgetful(nn.LazyLinear):
        def initialize_parameters(self, input: Any) -> None:
            pass

    with pytest.raises(RuntimeError, match="initialize_parameters left a parameter without a shape"):
        Forgetful(3)(gn.ones(2, 3))
