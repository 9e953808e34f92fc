"""Module: attributes, walking, modes, hooks, text, copies."""

from __future__ import annotations

import copy
import gc
import multiprocessing
import pickle

import numpy as np
import pytest

import gpunet as gn
from gpunet import nn
from gpunet.ops.updates import memory_order


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)
        self.bn = nn.BatchNorm2d(2)
        self.fc = nn.Linear(8, 3)
        self.scale = nn.Parameter(gn.ones(1))
        self.register_buffer("offset", gn.zeros(3))
        self.register_buffer("cache", gn.zeros(2), persistent=False)

    def forward(self, x: gn.Tensor) -> gn.Tensor:
        x = self.bn(self.conv(x))
        return self.fc(x.view(x.shape[0], -1)) * self.scale + self.offset


def in_memory(tensor: gn.Tensor) -> tuple[int, ...] | None:
    return memory_order(tensor.shape, tensor._array.strides, tensor._array.itemsize)


def test_names_come_in_pytorchs_order():
    net = Net()
    assert [name for name, _ in net.named_parameters()] == [
        "scale",
        "conv.weight",
        "conv.bias",
        "bn.weight",
        "bn.bias",
        "fc.weight",
        "fc.bias",
    ]
    assert [name for name, _ in net.named_buffers()] == [
        "offset",
        "cache",
        "bn.running_mean",
        "bn.running_var",
        "bn.num_batches_tracked",
    ]
    assert [name for name, _ in net.named_modules()] == ["", "conv", "bn", "fc"]
    assert [name for name, _ in net.named_children()] == ["conv", "bn", "fc"]
    assert list(net.state_dict()) == [
        "scale",
        "offset",
        "conv.weight",
        "conv.bias",
        "bn.weight",
        "bn.bias",
        "bn.running_mean",
        "bn.running_var",
        "bn.num_batches_tracked",
        "fc.weight",
        "fc.bias",
    ]


@pytest.mark.parity
def test_names_are_pytorchs():
    torch = pytest.importorskip("torch")

    class TorchNet(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(1, 2, 3)
            self.bn = torch.nn.BatchNorm2d(2)
            self.fc = torch.nn.Linear(8, 3)
            self.scale = torch.nn.Parameter(torch.ones(1))
            self.register_buffer("offset", torch.zeros(3))
            self.register_buffer("cache", torch.zeros(2), persistent=False)

    ours, theirs = Net(), TorchNet()
    for listing in ("named_parameters", "named_buffers", "named_modules", "named_children"):
        assert [n for n, _ in getattr(ours, listing)()] == [n for n, _ in getattr(theirs, listing)()]
    assert [(k, tuple(v.shape)) for k, v in ours.state_dict().items()] == [
        (k, tuple(v.shape)) for k, v in theirs.state_dict().items()
    ]
    assert repr(ours) == repr(theirs).replace("TorchNet", "Net")


def test_a_tied_parameter_is_listed_once_and_saved_under_both_names():
    net = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    net[1].weight = net[0].weight
    assert [name for name, _ in net.named_parameters()] == ["0.weight"]
    assert [name for name, _ in net.named_parameters(remove_duplicate=False)] == ["0.weight", "1.weight"]
    assert list(net.state_dict()) == ["0.weight", "1.weight"]
    clone = copy.deepcopy(net)
    assert clone[0].weight is clone[1].weight
    assert clone[0].weight is not net[0].weight


def test_a_module_used_twice_is_listed_once_and_saved_under_both_names():
    layer = nn.Linear(2, 2)
    net = nn.Sequential(layer, nn.ReLU(), layer)
    assert len(list(net.modules())) == 3
    assert len(list(net.children())) == 2
    assert len(list(net.parameters())) == 2
    assert list(net.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]


def test_assignments_replace_one_another():
    net = nn.Module()
    net.a = 1
    net.a = nn.Linear(1, 1)
    assert "a" not in net.__dict__
    net.a = nn.Parameter(gn.zeros(2))
    assert not list(net.children())
    net.register_buffer("b", gn.zeros(1))
    net.b = gn.ones(1)
    assert net.b.item() == 1
    net.b = nn.Parameter(gn.zeros(1))
    assert "b" not in dict(net.named_buffers())
    del net.a
    assert not hasattr(net, "a")
    net.b = None
    assert net.b is None
    assert list(net.parameters()) == []


def test_clear_errors_of_assignments():
    class Forgetful(nn.Module):
        def __init__(self, what: str) -> None:
            if what == "parameter":
                self.weight = nn.Parameter(gn.zeros(1))
            elif what == "module":
                self.layer = nn.Linear(1, 1)
            else:
                self.register_buffer("state", gn.zeros(1))

    for what in ("parameter", "module", "buffer"):
        with pytest.raises(AttributeError, match=r"Forgetful: cannot .* before super\(\).__init__\(\) is called"):
            Forgetful(what)
    net = Net()
    with pytest.raises(TypeError, match="cannot assign a Tensor as parameter 'scale'"):
        net.scale = gn.ones(1)
    with pytest.raises(TypeError, match="cannot assign a int as module 'fc'"):
        net.fc = 3
    with pytest.raises(TypeError, match="cannot assign a ndarray as buffer 'offset'"):
        net.offset = np.zeros(3)
    with pytest.raises(AttributeError, match="'Net' object has no attribute 'nothing'"):
        _ = net.nothing
    with pytest.raises(AttributeError):
        del net.nothing
    with pytest.raises(KeyError, match="must not be empty or hold a dot"):
        net.register_buffer("a.b", gn.zeros(1))
    with pytest.raises(KeyError, match="has an attribute 'forward' already"):
        net.add_module("forward", nn.ReLU())
    with pytest.raises(TypeError, match="expected a Module or None, got int"):
        net.add_module("layer", 3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="expected a Tensor or None, got ndarray"):
        net.register_buffer("array", np.zeros(2))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="expected a Parameter or None, got Tensor"):
        net.register_parameter("p", gn.zeros(2))  # type: ignore[arg-type]
    with pytest.raises(NotImplementedError, match=r"Module defines no forward\(\)"):
        nn.Module()(gn.zeros(1))


def test_a_parameter_of_a_forgotten_init_names_the_cause():
    class Forgetful(nn.Module):
        def __init__(self) -> None:
            pass

    with pytest.raises(AttributeError, match=r"super\(\).__init__\(\)"):
        Forgetful()(gn.zeros(1))
    with pytest.raises(AttributeError, match=r"super\(\).__init__\(\)"):
        _ = Forgetful().weight


def test_getters():
    net = nn.Sequential(Net())
    assert net.get_submodule("0.conv") is net[0].conv
    assert net.get_submodule("") is net
    assert net.get_parameter("0.fc.weight") is net[0].fc.weight
    assert net.get_buffer("0.offset") is net[0].offset
    with pytest.raises(AttributeError, match="Net has no module 'nope'"):
        net.get_submodule("0.nope")
    with pytest.raises(AttributeError, match="Linear has no parameter 'nope'"):
        net.get_parameter("0.fc.nope")
    with pytest.raises(AttributeError, match="Net has no buffer 'nope'"):
        net.get_buffer("0.nope")


def test_train_eval_and_an_overriding_child():
    class Frozen(nn.BatchNorm2d):
        def train(self, mode: bool = True) -> Frozen:
            return super().train(False)

    net = nn.Sequential(nn.Linear(1, 1), Frozen(2))
    assert net.eval() is net
    assert not any(module.training for module in net.modules())
    net.train()
    assert [module.training for module in net.modules()] == [True, True, False]
    with pytest.raises(ValueError, match="mode"):
        net.train("yes")  # type: ignore[arg-type]


def test_requires_grad_zero_grad_and_apply():
    net = nn.Linear(2, 2)
    net(gn.ones(1, 2)).sum().backward()
    assert net.weight.grad is not None
    net.zero_grad()
    assert net.weight.grad is None
    net(gn.ones(1, 2)).sum().backward()
    np.testing.assert_array_equal(net.weight.grad.numpy(), np.ones((2, 2)))
    net.zero_grad(set_to_none=False)
    np.testing.assert_array_equal(net.weight.grad.numpy(), np.zeros((2, 2)))
    net.requires_grad_(False)
    assert not net(gn.ones(1, 2)).requires_grad
    seen: list[str] = []
    outer = nn.Sequential(net, nn.ReLU())
    assert outer.apply(lambda module: seen.append(type(module).__name__)) is outer
    assert seen == ["Linear", "ReLU", "Sequential"]


def test_forward_hooks():
    net = nn.Linear(2, 2, bias=False)
    nn.init.ones_(net.weight)
    calls: list[str] = []
    pre = net.register_forward_pre_hook(lambda module, args: (args[0] * 2,))
    post = net.register_forward_hook(lambda module, args, output: output + 1)
    first = net.register_forward_hook(lambda module, args, output: calls.append("first"), prepend=True)
    assert net(gn.ones(1, 2)).tolist() == [[5.0, 5.0]]
    assert calls == ["first"]
    pre.remove()
    assert net(gn.ones(1, 2)).tolist() == [[3.0, 3.0]]
    with post:
        pass
    first.remove()
    first.remove()
    assert net(gn.ones(1, 2)).tolist() == [[2.0, 2.0]]


def test_hooks_with_kwargs_and_always_call():
    class Scale(nn.Module):
        def forward(self, x: gn.Tensor, factor: float = 1.0) -> gn.Tensor:
            if factor < 0:
                raise ValueError("factor")
            return x * factor

    net = Scale()
    seen = []
    net.register_forward_pre_hook(lambda m, args, kwargs: (args, {"factor": kwargs["factor"] * 2}), with_kwargs=True)
    net.register_forward_hook(
        lambda m, args, kwargs, out: seen.append((kwargs, out)), with_kwargs=True, always_call=True
    )
    assert net(gn.ones(1), factor=3.0).item() == 6.0
    assert seen[-1][0] == {"factor": 6.0}
    with pytest.raises(ValueError, match="factor"):
        net(gn.ones(1), factor=-1.0)
    assert seen[-1] == ({"factor": -2.0}, None)
    net.register_forward_pre_hook(lambda m, args, kwargs: 3, with_kwargs=True)
    with pytest.raises(RuntimeError, match="None or a pair"):
        net(gn.ones(1), factor=1.0)


def test_to_dtype_moves_floats_and_keeps_parameters_the_same_objects():
    net = Net()
    weight = net.conv.weight
    order = in_memory(weight)
    net(gn.ones(2, 1, 4, 4)).sum().backward()
    assert net.double() is net
    assert net.conv.weight is weight
    assert weight.dtype == np.float64
    assert weight.grad is not None
    assert weight.grad.dtype == np.float64
    assert in_memory(weight) == order
    assert net.bn.running_mean.dtype == np.float64
    assert net.bn.num_batches_tracked.dtype == np.int64
    assert net(gn.ones(2, 1, 4, 4, dtype=gn.float64)).dtype == np.float64
    assert net.float().conv.weight.dtype == np.float32
    assert net.half().conv.weight.dtype == np.float16
    net.to(gn.zeros(1, dtype=gn.float64))
    assert weight.dtype == np.float64
    with pytest.raises(gn.DTypeError, match="floating point, got int64"):
        net.to(gn.int64)
    with pytest.raises(TypeError, match="unexpected argument 'devise'"):
        net.to(devise="cpu")


def test_to_device_moves_everything():
    net = Net().to("cpu:1")
    assert {str(tensor.device) for tensor in [*net.parameters(), *net.buffers()]} == {"cpu:1"}
    assert str(net(gn.ones(2, 1, 4, 4, device="cpu:1")).device) == "cpu:1"
    with pytest.raises(gn.DeviceError):
        net(gn.ones(2, 1, 4, 4))
    net.to("cpu", gn.float64)
    assert net.scale.dtype == np.float64
    assert str(net.cpu().scale.device) == "cpu"
    assert str(Net().to("meta").scale.device) == "meta"


class TwoDevices(nn.Module):
    _device_span = 2

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(2, 2)
        self.second = nn.Linear(2, 2)

    def _to_devices(self, devices: tuple[gn.Device, ...]) -> None:
        self.first.to(devices[0])
        self.second.to(devices[1])

    def forward(self, x: gn.Tensor) -> gn.Tensor:
        return self.second(self.first(x).to(self.second.weight.device))


def test_a_model_on_two_devices_takes_a_pair_and_refuses_one():
    net = TwoDevices().to(("cpu", "cpu:1"))
    out = net(gn.ones(1, 2))
    assert str(out.device) == "cpu:1"
    out.sum().backward()
    assert str(net.first.weight.grad.device) == "cpu"
    with pytest.raises(gn.DeviceError, match=r"TwoDevices spreads over 2 devices.*\.to\(\(d0, d1\)\)"):
        net.to("cpu")
    with pytest.raises(gn.DeviceError, match="TwoDevices spreads over 2 devices"):
        nn.Sequential(net).to("cpu")
    with pytest.raises(gn.DeviceError, match=r"Net.to\(\(cpu, cpu:1\)\): this model lives on one device"):
        Net().to(("cpu", "cpu:1"))
    assert net.double().first.weight.dtype == np.float64


def test_a_part_on_two_devices_takes_its_pair_through_the_whole():
    part = TwoDevices()
    net = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.ReLU(), part), nn.BatchNorm1d(2))
    net.register_parameter("scale", nn.Parameter(gn.ones(1)))
    assert net.to(("cpu:1", "cpu:2")) is net
    assert {name: str(p.device) for name, p in net.named_parameters()} == {
        "scale": "cpu:1",
        "0.weight": "cpu:1",
        "0.bias": "cpu:1",
        "1.1.first.weight": "cpu:1",
        "1.1.first.bias": "cpu:1",
        "1.1.second.weight": "cpu:2",
        "1.1.second.bias": "cpu:2",
        "2.weight": "cpu:1",
        "2.bias": "cpu:1",
    }
    assert {str(buffer.device) for buffer in net.buffers()} == {"cpu:1"}
    with pytest.raises(gn.DeviceError, match=r"TwoDevices spreads over 2 devices.*\.to\(\(d0, d1\)\)"):
        net.to("cpu")
    assert str(net[0].weight.device) == "cpu:1"
    net.to(("cpu", "cpu:1"), gn.float64)
    assert str(net[0].weight.device) == "cpu"
    assert part.second.weight.dtype == np.float64
    with pytest.raises(gn.DeviceError, match=r"Sequential.to\(\(cpu, cpu:1\)\): this model lives on one device"):
        nn.Sequential(nn.Linear(2, 2)).to(("cpu", "cpu:1"))


def test_repr():
    assert repr(nn.Sequential()) == "Sequential()"
    assert repr(nn.Linear(2, 3)) == "Linear(in_features=2, out_features=3, bias=True)"
    net = nn.Sequential(nn.ReLU(), nn.Sequential(nn.Identity()))
    assert repr(net) == "Sequential(\n  (0): ReLU()\n  (1): Sequential(\n    (0): Identity()\n  )\n)"


def test_deepcopy_is_independent_and_keeps_memory_order():
    net = Net()
    net(gn.ones(2, 1, 4, 4)).sum().backward()
    clone = copy.deepcopy(net)
    assert isinstance(clone.conv.weight, nn.Parameter)
    assert in_memory(clone.conv.weight) == in_memory(net.conv.weight)
    np.testing.assert_array_equal(clone.conv.weight.detach().numpy(), net.conv.weight.detach().numpy())
    nn.init.zeros_(clone.conv.weight)
    assert np.abs(net.conv.weight.detach().numpy()).max() > 0
    assert clone.fc.weight.requires_grad


def test_live_modules_pickle_as_arrays():
    net = Net()
    clone = pickle.loads(pickle.dumps(net))  # noqa: S301
    assert isinstance(clone.conv.weight, nn.Parameter)
    assert clone.conv.weight.requires_grad
    assert in_memory(clone.conv.weight) == in_memory(net.conv.weight)
    x = gn.randn(2, 1, 4, 4)
    np.testing.assert_array_equal(net(x).detach().numpy(), clone(x).detach().numpy())
    tied = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    tied[1].weight = tied[0].weight
    clone = pickle.loads(pickle.dumps(tied))  # noqa: S301
    assert clone[0].weight is clone[1].weight


def test_a_module_crosses_to_a_spawned_process():
    # The module itself is what runs there: a function of this file could not be imported in the other process.
    net = nn.Linear(3, 2).requires_grad_(False)
    x = gn.ones(1, 3)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        there = pool.apply(net, (x,))
    np.testing.assert_array_equal(there.numpy(), net(x).numpy())


def test_modules_are_freed_without_the_cycle_collector():
    import weakref

    gc.disable()
    try:
        net = Net()
        seen = weakref.ref(net)
        del net
        assert seen() is None
    finally:
        gc.enable()


def test_parameter():
    array = np.arange(3, dtype=np.float32)
    parameter = nn.Parameter(gn.from_numpy(array))
    assert parameter.requires_grad
    assert parameter.is_leaf
    assert isinstance(parameter, gn.Tensor)
    parameter._array[0] = 5
    assert array[0] == 5  # shares the memory, as PyTorch's does
    assert not nn.Parameter(gn.zeros(2), requires_grad=False).requires_grad
    assert repr(parameter).startswith("Parameter containing:\n")
    assert type(parameter * 2) is gn.Tensor
    assert type(parameter.detach()) is gn.Tensor
    with pytest.raises(TypeError, match="data"):
        nn.Parameter([1.0, 2.0])  # type: ignore[arg-type]
    with pytest.raises((TypeError, RuntimeError), match="float"):
        nn.Parameter(gn.zeros(2, dtype=gn.int64))


def test_observers_see_module_paths():
    net = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.ReLU()))
    seen = []
    with gn.autograd.observe(lambda op, inputs, attributes, outputs, path: seen.append((op.name, path))):
        net(gn.ones(1, 2))
    assert seen == [("linear", "0"), ("relu", "1.0")]
