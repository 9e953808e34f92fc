"""Weight and spectral normalisation, parametrizations, and parameters as a vector, against PyTorch."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gpunet as gn
from gpunet import nn
from gpunet.nn.utils import parametrizations, parametrize
from gpunet.testing.compare import assert_agreement
from gpunet.testing.parity import Case, case, check_case

LAYERS: list[tuple[Callable[[Any], Any], tuple[int, ...]]] = [
    (lambda m: m.nn.Linear(5, 3), (4, 5)),
    (lambda m: m.nn.Conv2d(3, 4, 3), (2, 3, 6, 6)),
    (lambda m: m.nn.Conv2d(4, 4, 3, groups=2, bias=False), (2, 4, 6, 6)),
]
FORMS: list[tuple[str, Callable[[Any, Any], Any]]] = [
    ("weight_norm", lambda m, layer: m.nn.utils.weight_norm(layer)),
    ("weight_norm of columns", lambda m, layer: m.nn.utils.weight_norm(layer, "weight", 1)),
    ("weight_norm of everything", lambda m, layer: m.nn.utils.weight_norm(layer, dim=None)),
    ("weight_norm of the last", lambda m, layer: m.nn.utils.weight_norm(layer, dim=-2)),
    ("spectral_norm", lambda m, layer: m.nn.utils.spectral_norm(layer)),
    ("spectral_norm thrice", lambda m, layer: m.nn.utils.spectral_norm(layer, "weight", 3, 1e-8)),
    ("spectral_norm of columns", lambda m, layer: m.nn.utils.spectral_norm(layer, dim=1)),
    ("weight_norm parametrization", lambda m, layer: m.nn.utils.parametrizations.weight_norm(layer)),
    ("weight_norm parametrization of all", lambda m, layer: m.nn.utils.parametrizations.weight_norm(layer, dim=None)),
    ("spectral_norm parametrization", lambda m, layer: m.nn.utils.parametrizations.spectral_norm(layer)),
    ("spectral_norm parametrization twice", lambda m, layer: m.nn.utils.parametrizations.spectral_norm(
        layer, n_power_iterations=2, dim=1)),
]  # fmt: skip


def same_state(ours: nn.Module, theirs: Any) -> None:
    found, expected = ours.state_dict(), theirs.state_dict()
    assert list(found) == list(expected)
    for key, value in expected.items():
        assert_agreement(found[key].numpy(), value.numpy(), np.float64, label=key)


@pytest.mark.parity
@pytest.mark.parametrize(("make", "shape"), LAYERS, ids=["linear", "conv", "groups"])
@pytest.mark.parametrize("form", [form for _, form in FORMS], ids=[label for label, _ in FORMS])
def test_training_step_by_step(form: Callable[..., Any], make: Callable[..., Any], shape: tuple[int, ...]) -> None:
    """The same outputs, gradients, state and keys over training steps, then in evaluation, with one state to begin."""
    torch = pytest.importorskip("torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch has deprecated its first form
        theirs = form(torch, make(torch).double())
    ours = form(gn, make(gn).double())
    ours.load_state_dict({key: value.numpy() for key, value in theirs.state_dict().items()})
    optimizers = gn.optim.SGD(ours.parameters(), lr=0.1), torch.optim.SGD(theirs.parameters(), lr=0.1)
    rng = np.random.default_rng(0)
    for step in range(6):
        if step == 4:
            ours.eval(), theirs.eval()
        x = rng.standard_normal(shape)
        y, z = ours(gn.from_numpy(x)), theirs(torch.from_numpy(x))
        assert_agreement(y.detach().numpy(), z.detach().numpy(), np.float64)
        for optimizer, result in zip(optimizers, (y, z), strict=True):
            optimizer.zero_grad()
            (result * result).sum().backward()
        for (name, p), (other, q) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
            assert name == other
            assert p.grad is not None
            assert_agreement(p.grad.numpy(), q.grad.numpy(), np.float64, label=name)
        for optimizer in optimizers:
            optimizer.step()
        same_state(ours, theirs)
    assert repr(ours) == repr(theirs)


REMOVALS: list[tuple[Callable[[Any, Any], Any], Callable[[Any, Any], Any]]] = [
    (FORMS[0][1], lambda m, layer: m.nn.utils.remove_weight_norm(layer)),
    (FORMS[4][1], lambda m, layer: m.nn.utils.remove_spectral_norm(layer)),
    (FORMS[7][1], lambda m, layer: m.nn.utils.parametrize.remove_parametrizations(layer, "weight")),
    (FORMS[9][1], lambda m, layer: m.nn.utils.parametrize.remove_parametrizations(layer.eval(), "weight")),
    (FORMS[9][1], lambda m, layer: m.nn.utils.parametrize.remove_parametrizations(layer, "weight", False)),
]


@pytest.mark.parity
@pytest.mark.parametrize(("form", "remove"), REMOVALS)
def test_removal(form: Callable[..., Any], remove: Callable[..., Any]) -> None:
    """What is left is the plain layer with the weight it used last."""
    torch = pytest.importorskip("torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = form(torch, torch.nn.Linear(4, 3).double())
    ours = form(gn, nn.Linear(4, 3).double())
    ours.load_state_dict({key: value.numpy() for key, value in theirs.state_dict().items()})
    assert remove(gn, ours) is ours
    remove(torch, theirs)
    same_state(ours, theirs)
    assert repr(ours) == repr(theirs) == "Linear(in_features=4, out_features=3, bias=True)"
    assert type(ours) is nn.Linear
    assert isinstance(ours.weight, nn.Parameter)
    assert not ours._forward_pre_hooks
    with pytest.raises(ValueError, match="is not"):
        remove(gn, ours)


def test_the_largest_singular_value_becomes_one() -> None:
    """Miyato et al. 2018: after enough iterations the weight's spectral norm is 1."""
    for form in (nn.utils.spectral_norm, parametrizations.spectral_norm):
        layer = form(nn.Linear(20, 10).double(), n_power_iterations=200)
        layer(gn.zeros(1, 20, dtype=gn.float64))
        assert np.linalg.norm(layer.weight.detach().numpy(), 2) == pytest.approx(1, rel=1e-9)


def test_evaluation_leaves_the_estimate() -> None:
    for form, key in (
        (nn.utils.spectral_norm, "weight_u"),
        (parametrizations.spectral_norm, "parametrizations.weight.0._u"),
    ):
        layer = form(nn.Linear(40, 30).double()).eval()
        before = layer.state_dict()[key].numpy().copy()
        layer(gn.ones(1, 40).double())
        np.testing.assert_array_equal(layer.state_dict()[key].numpy(), before)
        layer.train()(gn.ones(1, 40).double())
        assert not np.array_equal(layer.state_dict()[key].numpy(), before)


def test_two_passes_before_one_backward() -> None:
    """As a discriminator is used: each pass moves the estimate, and backward still has its own."""
    for form in (nn.utils.spectral_norm, parametrizations.spectral_norm):
        layer = form(nn.Linear(4, 3))
        (layer(gn.ones(2, 4)).sum() - layer(gn.zeros(2, 4)).sum()).backward()
        assert all(parameter.grad is not None for parameter in layer.parameters())


class Doubled(nn.Module):
    def forward(self, value: gn.Tensor) -> gn.Tensor:
        return value * 2

    def right_inverse(self, value: gn.Tensor) -> gn.Tensor:
        return value / 2


class Shifted(nn.Module):
    def forward(self, value: gn.Tensor) -> gn.Tensor:
        return value + 1


class Cut(nn.Module):
    def forward(self, value: gn.Tensor) -> gn.Tensor:
        return value[:1]


def test_parametrizations_of_ones_own() -> None:
    layer = nn.Linear(3, 2)
    weight, before = layer.weight, layer.weight.detach().numpy().copy()
    assert parametrize.register_parametrization(layer, "weight", Doubled()) is layer
    assert parametrize.is_parametrized(layer)
    assert parametrize.is_parametrized(layer, "weight")
    assert not parametrize.is_parametrized(layer, "bias")
    assert isinstance(layer, nn.Linear)
    assert layer.parametrizations.weight.original is weight, "an optimizer that holds it stays right"
    np.testing.assert_allclose(layer.weight.detach().numpy(), before, rtol=1e-6)
    layer.weight = gn.ones(2, 3)
    np.testing.assert_array_equal(weight.detach().numpy(), np.full((2, 3), 0.5))
    parametrize.register_parametrization(layer, "weight", Shifted())
    np.testing.assert_array_equal(layer.weight.detach().numpy(), np.full((2, 3), 2.0))
    assert len(layer.parametrizations.weight) == 2
    with pytest.raises(RuntimeError, match="Shifted has no right_inverse"):
        layer.weight = gn.ones(2, 3)
    twin = copy.deepcopy(layer)
    np.testing.assert_array_equal(twin.weight.detach().numpy(), layer.weight.detach().numpy())
    parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)
    assert layer.weight is weight
    assert (type(layer), parametrize.is_parametrized(layer)) == (nn.Linear, False)
    assert parametrize.is_parametrized(twin), "a copy has its own"
    norm = nn.BatchNorm1d(3)
    parametrize.register_parametrization(norm, "running_var", Shifted())
    assert "running_var" not in norm._buffers
    np.testing.assert_array_equal(norm.running_var.numpy(), [2, 2, 2])
    parametrize.remove_parametrizations(norm, "running_var")
    np.testing.assert_array_equal(norm._buffers["running_var"].numpy(), [2, 2, 2])


def test_one_layers_parametrization_is_not_anothers() -> None:
    first, second = (parametrizations.weight_norm(nn.Linear(3, 2)) for _ in range(2))
    assert type(first) is not type(second)
    parametrize.remove_parametrizations(first, "weight")
    assert second(gn.ones(1, 3)).shape == (1, 2)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: nn.utils.weight_norm(nn.Linear(2, 2), "scale"), ValueError,
         "weight_norm: Linear has no parameter 'scale'"),
        (lambda: nn.utils.weight_norm(nn.Linear(2, 2), dim=2), gn.ShapeError,
         r"weight_norm: dim must lie in -2\.\.1 for a 2-d tensor, got 2"),
        (lambda: nn.utils.weight_norm(nn.utils.weight_norm(nn.Linear(2, 2))), RuntimeError,
         "weight_norm: 'weight' is normalised already"),
        (lambda: nn.utils.remove_weight_norm(nn.Linear(2, 2)), ValueError,
         "weight_norm: 'weight' of Linear is not normalised"),
        (lambda: nn.utils.spectral_norm(nn.Linear(2, 2), "scale"), ValueError,
         "spectral_norm: Linear has no parameter 'scale'"),
        (lambda: nn.utils.spectral_norm(nn.Linear(2, 2), n_power_iterations=0), ValueError,
         "spectral_norm: n_power_iterations must be at least 1, got 0"),
        (lambda: nn.utils.spectral_norm(nn.utils.spectral_norm(nn.Linear(2, 2))), RuntimeError,
         "spectral_norm: 'weight' is normalised already"),
        (lambda: nn.utils.remove_spectral_norm(nn.Linear(2, 2)), ValueError,
         "spectral_norm: 'weight' of Linear is not normalised"),
        (lambda: parametrizations.spectral_norm(nn.Linear(2, 2), "scale"), ValueError,
         "spectral_norm: Linear has no parameter or buffer 'scale'"),
        (lambda: parametrizations.spectral_norm(nn.Linear(2, 2), n_power_iterations=0), ValueError,
         "spectral_norm: n_power_iterations must be at least 1, got 0"),
        (lambda: parametrizations.weight_norm(nn.Linear(2, 2), "scale"), ValueError,
         "register_parametrization: Linear has no parameter or buffer 'scale'"),
        (lambda: parametrize.register_parametrization(nn.Linear(2, 2), "weight", Cut()), gn.ShapeError,
         r"weight must keep shape \(2, 2\) and dtype float32, got \(1, 2\) and float32"),
        (lambda: parametrize.remove_parametrizations(nn.Linear(2, 2), "weight"), ValueError,
         "remove_parametrizations: 'weight' of Linear is not parametrized"),
        (lambda: parametrize.remove_parametrizations(parametrizations.weight_norm(nn.Linear(2, 2)), "weight", False),
         ValueError, "is computed from 2 tensors and has no original value"),
        (lambda: nn.utils.parameters_to_vector([]), ValueError, "parameters: expected at least one Tensor, got none"),
        (lambda: nn.utils.parameters_to_vector([3]), TypeError, "parameters: expected Tensors, got int"),
        (lambda: nn.utils.parameters_to_vector([gn.zeros(2), gn.zeros(2, device="cpu:1")]), gn.DeviceError,
         "parameters: must be on one device, got 'cpu' and 'cpu:1'"),
        (lambda: nn.utils.vector_to_parameters([1.0], [gn.zeros(1)]), TypeError, "vec: expected a Tensor, got list"),
        (lambda: nn.utils.vector_to_parameters(gn.zeros(3), [gn.zeros(2, 2)]), gn.ShapeError,
         r"vec: must be a vector of at least 4 elements, got shape \(3,\)"),
        (lambda: nn.utils.vector_to_parameters(gn.zeros(2, 2), [gn.zeros(2, 2)]), gn.ShapeError,
         r"vec: must be a vector of at least 4 elements, got shape \(2, 2\)"),
    ],
)  # fmt: skip
def test_refusals(call: Callable[[], Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text) as caught:
        call()
    assert type(caught.value) is error


def test_a_failed_normalisation_changes_nothing() -> None:
    layer = nn.Linear(2, 2)
    keys = list(layer.state_dict())
    for call in (
        lambda: nn.utils.weight_norm(layer, dim=5),
        lambda: nn.utils.spectral_norm(layer, dim=5),
        lambda: parametrizations.spectral_norm(layer, dim=5),
        lambda: parametrize.register_parametrization(layer, "weight", Cut()),
    ):
        with pytest.raises(ValueError, match=r"dim must lie|must keep shape"):
            call()
        assert list(layer.state_dict()) == keys
        assert type(layer) is nn.Linear
        assert not layer._forward_pre_hooks


def _round_trip(m: Any, v: Any) -> Any:
    layer = m.nn.Conv2d(2, 3, 2)
    m.nn.utils.vector_to_parameters(v.detach().float(), layer.parameters())
    vector = m.nn.utils.parameters_to_vector(layer.parameters())
    (vector * vector).sum().backward()
    return vector.detach(), layer.weight.grad, layer.bias.grad


def _clipped(m: Any, *tensors: Any) -> Any:
    parameters = [m.nn.Parameter(tensor.detach() * 0) for tensor in tensors]
    for parameter, tensor in zip(parameters, tensors, strict=True):
        parameter.grad = tensor.detach().clone()
    total = m.nn.utils.get_total_norm([p.grad for p in parameters], 3.0, foreach=False)
    m.nn.utils.clip_grads_with_norm_(parameters, 0.5, total, foreach=True)
    second = m.nn.utils.clip_grad_norm_(parameters, 0.3, error_if_nonfinite=True, foreach=False)
    m.nn.utils.clip_grad_value_(parameters, 0.1, foreach=None)
    return total, second, [p.grad for p in parameters]


CASES = [
    case("vector_to_parameters and back", _round_trip, (27,)),
    case("vector_to_parameters with elements left over", _round_trip, (30,)),
    case("vector_to_parameters too short", _round_trip, (26,)),
    case("parameters_to_vector of products", lambda m, x, y: m.nn.utils.parameters_to_vector([x * 2, y, x.sum()]),
         (2, 3), (4,), reversed_order=False),  # PyTorch takes parameters that lie in order alone
    case("get_total_norm, clip_grads_with_norm_ and foreach", _clipped, (3, 4), (5,)),
    case("get_total_norm", lambda m, x, y: m.nn.utils.get_total_norm([x.detach(), y.detach()]), (3, 4), (5,)),
    case("get_total_norm infinite order",
         lambda m, x, y: m.nn.utils.get_total_norm([x.detach(), y.detach()], float("inf")), (3, 4), (5,)),
    case("get_total_norm of nothing", lambda m: m.nn.utils.get_total_norm([])),
    case("get_total_norm not finite",
         lambda m, x: m.nn.utils.get_total_norm([x.detach() / 0], error_if_nonfinite=True), (3,)),
]  # fmt: skip


@pytest.mark.parity
@pytest.mark.parametrize("checked", CASES, ids=repr)
def test_case(checked: Case) -> None:
    pytest.importorskip("torch")
    check_case(checked)


def test_parameters_keep_their_memory_order() -> None:
    layer = nn.Conv2d(2, 3, 2)
    strides, array = layer.weight.stride(), layer.weight._array
    nn.utils.vector_to_parameters(gn.arange(27.0), layer.parameters())
    assert (layer.weight.stride(), layer.weight._array is array) == (strides, True)
    np.testing.assert_array_equal(layer.weight.detach().numpy().ravel(), np.arange(24))
