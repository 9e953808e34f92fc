"""Saving and loading a module's state."""

from __future__ import annotations

import numpy as np
import pytest

import gpunet as gn
from gpunet import nn


def make() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3))


def arrays(net: nn.Module) -> dict[str, np.ndarray]:
    return {key: value.numpy().copy() for key, value in net.state_dict().items()}


def test_state_is_detached_and_shares_memory():
    net = make()
    state = net.state_dict()
    assert type(state["0.weight"]) is gn.Tensor
    assert not state["0.weight"].requires_grad
    with gn.no_grad():
        net[0].weight.fill_(2.0)
    assert state["0.weight"].numpy().min() == 2.0
    assert net.state_dict(keep_vars=True)["0.weight"] is net[0].weight
    assert next(iter(net.state_dict(prefix="net."))) == "net.0.weight"
    there: dict[str, gn.Tensor] = {"other": gn.zeros(1)}
    assert net.state_dict(destination=there) is there
    assert len(there) == 10


@pytest.mark.parametrize("kind", ["tensors", "arrays", "float64", "fortran"])
def test_loading_copies_values(kind: str):
    source, target = make(), make()
    expected = arrays(source)
    weight, strides = target[0].weight, target[0].weight._array.strides
    state: dict[str, object] = dict(expected)
    if kind == "tensors":
        state = dict(source.state_dict())
    elif kind == "float64":
        state = {key: value.astype(np.float64) for key, value in expected.items()}
    elif kind == "fortran":
        state = {key: np.asarray(value, order="F") for key, value in expected.items()}
    result = target.load_state_dict(state)
    assert repr(result) == "<All keys matched successfully>"
    assert target[0].weight is weight
    assert weight._array.strides == strides
    for key, value in arrays(target).items():
        np.testing.assert_array_equal(value, expected[key])
        assert value.dtype == expected[key].dtype
    with gn.no_grad():
        source[0].weight.fill_(7.0)
    assert target[0].weight.detach().numpy().max() < 7.0


def test_one_report_for_everything_that_is_wrong_and_nothing_is_written():
    net = make()
    before = arrays(net)
    state: dict[str, object] = {key: value + 1 for key, value in before.items()}
    state["0.weigth"] = state.pop("0.weight")
    del state["3.bias"]
    state["1.running_mean"] = np.zeros(5)
    state["1.running_var"] = [1.0, 1.0]
    state["zzz"] = np.zeros(1)
    with pytest.raises(gn.CheckpointError) as caught:
        net.load_state_dict(state)
    assert str(caught.value).splitlines() == [
        "Sequential: the state dict does not fit (2 missing, 2 unexpected, 2 unfit); nothing was loaded",
        "  missing:    0.weight, (2, 1, 3, 3) float32",
        "  missing:    3.bias, (3,) float32",
        "  unexpected: 0.weigth; did you mean 0.weight?",
        "  unexpected: zzz",
        "  unfit:      1.running_mean: the model has (2,), the state dict (5,)",
        "  unfit:      1.running_var: expected a Tensor or an array, got list",
    ]
    for key, value in arrays(net).items():
        np.testing.assert_array_equal(value, before[key])


@pytest.mark.parity
def test_a_state_dict_of_pytorch_is_taken_as_it_is():
    torch = pytest.importorskip("torch")
    theirs = torch.nn.Sequential(torch.nn.LSTM(3, 4), torch.nn.BatchNorm1d(4))
    with torch.no_grad():
        theirs[1].running_mean.add_(3)
        theirs[1].num_batches_tracked.add_(5)
    mine = nn.Sequential(nn.LSTM(3, 4), nn.BatchNorm1d(4))
    for state in (theirs.state_dict(), dict(theirs.named_parameters()) | dict(theirs.named_buffers())):
        mine.load_state_dict(state)
        for key, value in theirs.state_dict().items():
            np.testing.assert_array_equal(mine.state_dict()[key].numpy(), value.numpy())
        before = theirs[0].weight_ih_l0.detach().clone()
        with gn.no_grad():
            mine[0].weight_ih_l0.fill_(0)  # a copy
        assert torch.equal(theirs[0].weight_ih_l0, before)
    for dtype in (torch.bfloat16, torch.complex64):
        with pytest.raises(gn.CheckpointError, match=f"unfit: *weight: .*{str(dtype).partition('.')[2]}"):
            nn.Linear(2, 2, bias=False).load_state_dict({"weight": torch.zeros(2, 2, dtype=dtype)})
    with pytest.raises(gn.CheckpointError, match=r"expected a Tensor or an array, got torch\.Size"):
        nn.Linear(2, 2, bias=False).load_state_dict({"weight": torch.Size([2, 2])})


def test_not_strict_passes_over_names_but_not_over_shapes():
    net = make()
    state: dict[str, object] = {"0.bias": np.full(2, 3.0), "other": np.zeros(1)}
    result = net.load_state_dict(state, strict=False)
    assert result.unexpected_keys == ["other"]
    assert "0.weight" in result.missing_keys
    assert "0.bias" not in result.missing_keys
    assert repr(result).startswith("IncompatibleKeys(missing_keys=[")
    assert net[0].bias.tolist() == [3.0, 3.0]
    state["0.weight"] = np.zeros(1)
    with pytest.raises(gn.CheckpointError, match=r"unfit:      0\.weight"):
        net.load_state_dict(state, strict=False)
    with pytest.raises(TypeError, match="state_dict: expected a dict, got list"):
        net.load_state_dict([])  # type: ignore[arg-type]


def test_the_counter_of_old_checkpoints_may_be_missing():
    net = make()
    state = arrays(net)
    del state["1.num_batches_tracked"]
    assert net.load_state_dict(state).missing_keys == []


def test_loading_makes_the_old_graph_unusable():
    net = nn.Linear(2, 2, bias=False)
    x = gn.ones(1, 2, requires_grad=True)
    out = net(x).sum()
    net.load_state_dict({"weight": np.zeros((2, 2))})
    with pytest.raises(RuntimeError):
        out.backward()


@pytest.mark.parity
def test_states_are_exchanged_with_pytorch():
    torch = pytest.importorskip("torch")
    theirs = torch.nn.Sequential(
        torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2), torch.nn.Flatten(), torch.nn.Linear(8, 3)
    )
    ours = make()
    ours.load_state_dict({key: value.numpy() for key, value in theirs.state_dict().items()})
    x = np.random.default_rng(0).standard_normal((4, 1, 4, 4)).astype(np.float32)
    np.testing.assert_allclose(
        ours(gn.tensor(x)).detach().numpy(), theirs(torch.tensor(x)).detach().numpy(), rtol=1e-5, atol=1e-6
    )
    back = {key: torch.tensor(value) for key, value in arrays(ours).items()}
    assert list(back) == list(theirs.state_dict())
    theirs.load_state_dict(back)
