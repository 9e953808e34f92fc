"""gpunet.cuda on a machine without a GPU, on one that is played, and on a real one."""

import types

import pytest

from gpunet import cuda
from gpunet.backend import devices
from gpunet.backend.errors import DeviceError


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(devices, "_cupy", None)
    monkeypatch.setattr(devices, "_cupy_reason", "CuPy is not installed")


@pytest.mark.usefixtures("no_gpu")
def test_without_a_gpu():
    assert cuda.is_available() is False
    assert cuda.device_count() == 0
    assert cuda.memory_allocated() == cuda.memory_reserved() == 0
    cuda.empty_cache()


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize(
    "call",
    [
        cuda.synchronize,
        cuda.current_device,
        cuda.get_device_name,
        lambda: cuda.get_device_name(0),
        lambda: cuda.memory_allocated("cuda:1"),
        lambda: cuda.memory_reserved(0),
    ],
)
def test_what_needs_a_gpu_says_why_there_is_none(call):
    with pytest.raises(DeviceError, match="device 'cuda' is not available: CuPy is not installed"):
        call()


@pytest.fixture
def two_gpus(monkeypatch):
    log = []
    current = [0]

    class Device:
        def __init__(self, index):
            self.index = index

        def __enter__(self):
            self.before, current[0] = current[0], self.index
            return self

        def __exit__(self, *error):
            current[0] = self.before

        def synchronize(self):
            log.append(f"synchronize {self.index}")

    pool = types.SimpleNamespace(
        used_bytes=lambda: 100 + current[0],
        total_bytes=lambda: 200 + current[0],
        free_all_blocks=lambda: log.append(f"free {current[0]}"),
    )
    pinned = types.SimpleNamespace(free_all_blocks=lambda: log.append("free pinned"))
    runtime = types.SimpleNamespace(
        getDeviceCount=lambda: 2,
        getDevice=lambda: current[0],
        getDeviceProperties=lambda index: {"name": f"GPU {index}".encode()},
    )
    fake = types.SimpleNamespace(
        cuda=types.SimpleNamespace(Device=Device, runtime=runtime),
        get_default_memory_pool=lambda: pool,
        get_default_pinned_memory_pool=lambda: pinned,
        ndarray=type(None),
    )
    monkeypatch.setattr(devices, "_cupy", fake)
    return log


def test_with_two_gpus(two_gpus):
    assert cuda.is_available() is True
    assert cuda.device_count() == 2
    assert cuda.current_device() == 0
    assert cuda.get_device_name() == "GPU 0"
    assert cuda.get_device_name("cuda:1") == cuda.get_device_name(1) == "GPU 1"
    assert (cuda.memory_allocated(), cuda.memory_allocated(1)) == (100, 101)
    assert (cuda.memory_reserved(), cuda.memory_reserved("cuda:1")) == (200, 201)
    cuda.synchronize(1)
    cuda.empty_cache()
    assert two_gpus == ["synchronize 1", "free 0", "free 1", "free pinned"]


@pytest.mark.usefixtures("two_gpus")
def test_devices_that_are_not_there():
    with pytest.raises(DeviceError, match="'cuda:2' does not exist"):
        cuda.get_device_name(2)
    with pytest.raises(DeviceError, match="expected a CUDA device, got 'cpu'"):
        cuda.synchronize("cpu")


@pytest.mark.gpu
def test_on_a_real_gpu():
    from gpunet.backend.devices import cupy

    before = cuda.memory_allocated()
    array = cupy().zeros(1 << 20, "float32")
    assert cuda.memory_allocated() - before == array.nbytes
    assert cuda.memory_reserved() >= cuda.memory_allocated()
    assert cuda.get_device_name()
    cuda.synchronize()
    del array
    assert cuda.memory_allocated() == before
    cuda.empty_cache()
