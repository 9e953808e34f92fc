"""Devices: names, logical CPU devices, meta, and mixing that is refused."""

from __future__ import annotations

import contextlib
import copy
import os
import pickle
import subprocess
import sys
import threading
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import gpunet as gn
import gpunet.nn.functional as F
from gpunet import DeviceError
from gpunet.autograd import apply
from gpunet.backend import devices
from gpunet.backend.devices import Device, MetaArray, array_module, is_cuda_available, transfer
from gpunet.ops import REGISTRY, Context, Inferred, Op, Spec


def test_names() -> None:
    assert str(gn.device("cpu")) == "cpu"
    assert str(gn.device("cpu:0")) == "cpu"
    assert str(gn.device("cpu:1")) == "cpu:1"
    assert str(gn.device("cpu", 2)) == "cpu:2"
    assert str(gn.device("meta")) == "meta"
    assert repr(gn.device("cpu:1")) == "device('cpu:1')"
    assert (gn.device("cpu:3").type, gn.device("cpu:3").index) == ("cpu", 3)


def test_equal_devices_are_one_object() -> None:
    assert gn.device("cpu:1") is gn.device("cpu", 1)
    assert gn.device(gn.device("cpu:1")) is gn.device("cpu:1")
    assert copy.deepcopy(gn.device("cpu:1")) is gn.device("cpu:1")
    assert pickle.loads(pickle.dumps(gn.device("cpu:1"))) is gn.device("cpu:1")  # noqa: S301
    assert gn.device("cpu") == "cpu"
    assert gn.device("cpu:1") == "cpu:1"
    assert gn.device("cpu:1") != "cpu"
    assert gn.device("cpu") != "auto"
    assert len({gn.device("cpu"), gn.device("cpu:0"), gn.device("cpu:1")}) == 2
    with pytest.raises(AttributeError, match="cannot be changed"):
        gn.device("cpu").index = 1


@pytest.mark.parametrize("spec", ["gpu", "", "cpu:", "cpu:-1", "cpu:a", "cuda:x", "CPU", "cpu:1:2", "tpu:0"])
def test_unknown_names(spec: str) -> None:
    with pytest.raises(DeviceError, match=f"^device: unknown device '{spec}'; use 'cpu', 'cpu:1', 'cuda'"):
        gn.device(spec)
    with pytest.raises(DeviceError, match="unknown device"):
        gn.zeros(1, device=spec)


@pytest.mark.parametrize("spec", [None, 1.5, True, b"cpu"])
def test_what_is_no_name(spec: Any) -> None:
    with pytest.raises(DeviceError, match=r"^device: expected a name"):
        gn.device(spec)


def test_a_negative_index() -> None:
    with pytest.raises(DeviceError, match="the index must not be negative, got -1"):
        gn.device("cpu", -1)
    with pytest.raises(DeviceError, match="unknown device"):
        gn.device("cpu:0", 1)


@pytest.mark.skipif(is_cuda_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there() -> None:
    for ask in (
        lambda: gn.device("cuda"),
        lambda: gn.device(0),
        lambda: gn.ones(1).cuda(),
        lambda: gn.zeros(1, device="cuda:0"),
    ):
        with pytest.raises(DeviceError, match=r"^device 'cuda' is not available: "):
            ask()
    assert gn.device("auto") is gn.device("cpu")


RUN = """
import os, sys
os.environ["GPUNET_DEVICE"] = {value!r}
import gpunet as gn
try:
    print(gn.device("auto"))
except gn.DeviceError as error:
    print("refused:", error)
try:
    gn.device("cuda")
except gn.DeviceError as error:
    print(error)
print("cupy" in sys.modules, [name for name in sys.modules if name.startswith("cupy")])
"""


def run_with(value: str) -> list[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", RUN.format(value=value)], capture_output=True, text=True, check=True, env=environment
    )
    return done.stdout.splitlines()


def test_the_environment_forces_the_cpu() -> None:
    auto, refused, imported = run_with("cpu")
    assert auto == "cpu"
    assert refused == "device 'cuda' is not available: GPUNET_DEVICE=cpu is set, so CuPy was not looked for"
    assert imported == "False []"


def test_the_environment_names_a_device_and_must_know_it() -> None:
    assert run_with("cpu:1")[0] == "cpu:1"
    assert run_with("gpu")[0].startswith("refused: device: unknown device 'gpu'")


def test_a_device_as_a_context_is_the_default_inside() -> None:
    with gn.device("meta") as inside:
        assert inside is gn.device("meta")
        assert gn.zeros(2).device.type == "meta"
        assert gn.nn.Linear(2, 3).weight.device.type == "meta"
        with gn.device("cpu:1"):
            assert str(gn.zeros(2).device) == "cpu:1"
        assert gn.get_default_device() is inside
    with pytest.raises(ZeroDivisionError), gn.device("meta"):
        raise ZeroDivisionError
    assert gn.get_default_device() is gn.device("cpu")


def test_the_default_device_belongs_to_a_thread() -> None:
    seen = []
    gn.set_default_device("cpu:1")
    try:
        assert gn.ones(1).device == "cpu:1"
        assert gn.tensor([1.0]).device == "cpu:1"
        assert gn.Tensor([1.0]).device == "cpu:1"
        assert gn.nn.Linear(2, 2).weight.device == "cpu:1"
        thread = threading.Thread(target=lambda: seen.append(gn.ones(1).device))
        thread.start()
        thread.join()
    finally:
        gn.set_default_device("cpu")
    assert seen == [gn.device("cpu")]
    assert gn.get_default_device() is gn.device("cpu")


MIXING: dict[str, Any] = {
    "add": lambda a, b: a + b,
    "matmul": lambda a, b: a @ b,
    "eq": lambda a, b: a == b,
    "where": lambda a, b: gn.where(a > 0, a, b),
    "cat": lambda a, b: gn.cat([a, b]),
    "stack": lambda a, b: gn.stack([a, b]),
    "linear": F.linear,
    "mse_loss": F.mse_loss,
    "maximum": gn.maximum,
    "mul": lambda a, b: a.mul_(b),
    "batch_norm": lambda a, b: F.batch_norm(a, None, None, b[0], training=True),
}


@pytest.mark.parametrize("other", ["cpu:1", "meta"])
@pytest.mark.parametrize("name", MIXING)
def test_mixing_devices_names_both(name: str, other: str) -> None:
    """As mixing two GPUs would: so that model-parallel code can be tested anywhere."""
    a, b = gn.ones(2, 2), gn.ones(2, 2, device=other)
    with pytest.raises(
        DeviceError, match=f"^{name}: all tensors must be on one device, got 'cpu' and '{other}'; move one"
    ):
        MIXING[name](a, b)
    with pytest.raises(DeviceError, match=f"got '{other}' and 'cpu'"):
        MIXING[name](b, a)


def test_mixing_in_index_assignment_and_gradients() -> None:
    a = gn.zeros(3)
    with pytest.raises(DeviceError, match="index assignment: the value must be on 'cpu', got 'cpu:1'"):
        a[1:] = gn.ones(2, device="cpu:1")
    a[0] = gn.tensor(4.0, device="cpu:1")  # one number crosses, as in PyTorch
    assert a.tolist() == [4, 0, 0]
    a.copy_(gn.ones(3, device="cpu:1"))  # copying is what copy_ is for
    assert a.tolist() == [1, 1, 1]


def test_moving_is_differentiable_and_copies() -> None:
    x = gn.tensor([1.0, 2.0], requires_grad=True)
    y = x.to("cpu:1")
    assert y.device == "cpu:1"
    assert not np.shares_memory(x.detach().numpy(), y.detach().numpy())
    w = gn.tensor([3.0, 4.0], device="cpu:1", requires_grad=True)
    z = (y * w).to("cpu")
    assert z.device == "cpu"
    z.sum().backward()
    assert x.grad is not None
    assert w.grad is not None
    assert (x.grad.device, w.grad.device) == ("cpu", "cpu:1")
    assert (x.grad.tolist(), w.grad.tolist()) == ([3, 4], [1, 2])
    assert x.to("cpu") is x


def test_a_model_over_two_devices() -> None:
    first, second = gn.nn.Linear(3, 4), gn.nn.Linear(4, 2).to("cpu:1")
    x = gn.ones(5, 3)
    with pytest.raises(DeviceError, match="got 'cpu' and 'cpu:1'"):
        second(first(x))
    second(first(x).to("cpu:1")).sum().backward()
    assert first.weight.grad is not None
    assert first.weight.grad.device == "cpu"


class _Watched(Op):
    name = "watched"

    def infer(self, *inputs: Any, **attributes: Any) -> Inferred:
        assert type(inputs[0]) is MetaArray
        return Inferred((Spec((7, *inputs[0].shape), inputs[0].dtype),))

    def forward(self, ctx: Context, *inputs: Any, **attributes: Any) -> Any:
        raise AssertionError("meta must not compute")


def test_meta_runs_infer_alone() -> None:
    made = apply(_Watched(), gn.empty(2, 3, device="meta"))
    assert made.shape == (7, 2, 3)
    assert made.device == "meta"


def test_meta_allocates_nothing_and_computes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for op in REGISTRY.values():
        monkeypatch.setattr(op, "forward", lambda *_, op=op, **__: pytest.fail(f"{op.name} computed on meta"))
    x = gn.empty(10**6, 3, 224, 224, device="meta")  # 600 GB
    weight = gn.empty(64, 3, 7, 7, device="meta")
    y = F.conv2d(x, weight, stride=2, padding=3)
    assert y.shape == (10**6, 64, 112, 112)
    y = F.max_pool2d(F.relu(y), 3, 2, 1).flatten(1).mean(0, keepdim=True)
    assert y.shape == (1, 64 * 56 * 56)
    assert F.cross_entropy(y, gn.empty(1, dtype=gn.int64, device="meta")).shape == ()
    y += 1
    y[0, 0] = 2.0
    y.zero_()
    assert (y.numel(), x.nbytes) == (64 * 56 * 56, 10**6 * 3 * 224 * 224 * 4)


def test_meta_gives_nothing_back() -> None:
    made = gn.ones(2, device="meta")
    with pytest.raises(DeviceError, match="no data to copy to 'cpu'"):
        made.to("cpu")
    assert gn.ones(2).to("meta").device == "meta"
    assert made.to("meta") is made


def test_whole_models_on_meta() -> None:
    model = gn.models.cifar_resnet20().to("meta")
    assert all(parameter.device == "meta" for parameter in model.parameters())
    assert model(gn.empty(2, 3, 32, 32, device="meta")).shape == (2, 10)


def test_transfer_keeps_the_physical_order_and_the_array() -> None:
    array = np.zeros((2, 4, 5, 3), np.float32).transpose(0, 3, 1, 2)
    assert transfer(array, gn.device("cpu")) is array
    moved = gn.from_numpy(array).to("cpu:1")
    assert moved._array.strides == array.strides


class GPUArray:
    """What ``transfer`` looks at in a CuPy array; the elements are a NumPy array's."""

    def __init__(self, values: np.ndarray, index: int) -> None:
        self.values, self.device = values, types.SimpleNamespace(id=index)
        self.shape, self.strides, self.ndim, self.flags = values.shape, values.strides, values.ndim, values.flags

    def transpose(self, axes: Any) -> GPUArray:
        return GPUArray(self.values.transpose(axes), self.device.id)


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """CuPy, as far as it copies: always in C order unless told otherwise."""
    current: list[int] = [0]

    @contextlib.contextmanager
    def use(index: int) -> Iterator[None]:
        current.append(index)
        yield
        current.pop()

    def array(source: Any, copy: bool = True, order: str = "K") -> GPUArray:
        contiguous = source.flags.c_contiguous or source.flags.f_contiguous
        if order == "K" and source.device.id != current[-1] and not contiguous:
            raise NotImplementedError("CuPy cannot copy non-contiguous array between devices.")
        return GPUArray(np.array(source.values, order=order), current[-1])  # type: ignore[call-overload]

    def ascontiguousarray(source: GPUArray) -> GPUArray:
        assert source.device.id == current[-1]
        return source if source.flags.c_contiguous else GPUArray(np.array(source.values, order="C"), current[-1])

    # Which stream waits for which is tested in tests/cuda/test_parcels.py.
    event = types.SimpleNamespace(record=lambda stream: None)
    stream = types.SimpleNamespace(wait_event=lambda event: None)
    fake = types.SimpleNamespace(
        ndarray=GPUArray, array=array, ascontiguousarray=ascontiguousarray,
        cuda=types.SimpleNamespace(
            Device=use, Event=lambda disable_timing: event, get_current_stream=lambda: stream,
        ),
        asarray=lambda values: GPUArray(np.array(values, order="C"), current[-1]),
        asnumpy=lambda array: np.array(array.values, order="C"),
    )  # fmt: skip
    monkeypatch.setattr(devices, "_cupy", fake)
    return fake


@pytest.mark.usefixtures("gpus")
@pytest.mark.parametrize("axes", [(0, 1, 2, 3), (0, 3, 1, 2), (3, 2, 0, 1), (3, 2, 1, 0), (1, 0, 2, 3)])
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 1, 4, 5), (3, 3, 16, 1)])
def test_transfers_keep_the_physical_order(axes: tuple[int, ...], shape: tuple[int, ...]) -> None:
    """Of activations (N, H, W, C) and weights (R, S, C, K), to a GPU, from it to another one, and back."""
    array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape).transpose(axes)
    moved = array
    for target, index in (("cuda", 0), ("cuda", 1), ("cpu", 0), ("cuda", 1)):
        moved = transfer(moved, Device(target, index))
        values = moved if target == "cpu" else moved.values
        np.testing.assert_array_equal(values, array)
        np.testing.assert_array_equal(values.ravel("K"), array.ravel("K"))
        assert values is not array


@pytest.mark.usefixtures("gpus")
def test_what_has_gaps_is_packed_in_its_order() -> None:
    array = np.arange(240, dtype=np.float32).reshape(2, 4, 5, 6)[..., :3].transpose(0, 3, 1, 2)
    there = transfer(transfer(array, Device("cuda", 0)), Device("cuda", 1))
    back = transfer(there, Device("cpu"))
    np.testing.assert_array_equal(back, array)
    assert back.transpose(0, 2, 3, 1).flags.c_contiguous
    repeated = np.broadcast_to(np.arange(3.0), (4, 3)).T
    np.testing.assert_array_equal(transfer(transfer(repeated, Device("cuda", 0)), Device("cpu")), repeated)


@pytest.mark.gpu
def test_a_model_comes_back_as_it_was() -> None:
    model = gn.nn.Conv2d(6, 10, 3)
    before = model.weight._array.strides
    x = gn.randn(2, 6, 9, 9).to("cuda")
    model.to("cuda")
    y = model(x)
    assert model.weight._array.strides == before
    assert y.cpu()._array.strides == y._array.strides
    assert model.to("cpu").weight._array.strides == before


def test_array_module() -> None:
    assert array_module(np.zeros(1)) is np
    with pytest.raises(DeviceError, match="expected a NumPy or CuPy array, got list"):
        array_module([1.0])
