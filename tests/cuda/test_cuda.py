"""gpunet.cuda on a machine without a GPU, on one that is played, and on a real one."""

from __future__ import annotations

import inspect
import threading

import pytest

from gpunet import accelerator, cuda
from gpunet.backend.devices import Device, device
from gpunet.backend.errors import DeviceError


@pytest.mark.usefixtures("no_gpu")
def test_without_a_gpu():
    assert cuda.is_available() is False
    assert cuda.is_initialized() is False
    assert cuda.device_count() == 0
    assert cuda.memory_allocated() == cuda.memory_reserved() == 0
    assert cuda.max_memory_allocated() == cuda.max_memory_reserved() == 0
    assert cuda.memory_stats() == {}
    assert cuda.memory_summary() == "no GPU is used"
    cuda.reset_peak_memory_stats()
    cuda.empty_cache()
    cuda.set_device(-1)
    with cuda.device(-1), cuda.device(None), cuda.stream(None):
        cuda.set_stream(None)


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize(
    "call",
    [
        cuda.synchronize,
        cuda.current_device,
        cuda.get_device_name,
        cuda.get_device_properties,
        cuda.get_device_capability,
        cuda.mem_get_info,
        cuda.init,
        cuda.Stream,
        cuda.Event,
        cuda.current_stream,
        cuda.default_stream,
        lambda: cuda.set_device(0),
        lambda: cuda.device(0),
        lambda: cuda.get_device_name(0),
        lambda: cuda.memory_allocated("cuda:1"),
        lambda: cuda.max_memory_allocated("cuda:1"),
        lambda: cuda.memory_reserved(0),
        lambda: cuda.reset_peak_memory_stats(0),
        lambda: cuda.memory_stats(0),
        lambda: cuda.memory_summary(0),
    ],
)
def test_what_needs_a_gpu_says_why_there_is_none(call):
    with pytest.raises(DeviceError, match="device 'cuda' is not available: CuPy is not installed"):
        call()


def test_with_two_gpus(two_gpus):
    assert not cuda.is_initialized()
    assert cuda.is_available() is True
    assert cuda.is_initialized()
    assert cuda.device_count() == accelerator.device_count() == 2
    assert cuda.current_device() == 0
    assert cuda.get_device_name() == "GPU 0"
    assert cuda.get_device_name("cuda:1") == cuda.get_device_name(1) == "GPU 1"
    assert cuda.get_device_capability(1) == (9, 1)
    found = cuda.get_device_properties("cuda:1")
    assert (found.name, found.major, found.minor, found.multi_processor_count) == ("GPU 1", 9, 1, 101)
    assert (found.total_memory, found.warp_size, found.L2_cache_size) == (64 * 512, 32, 0)
    cuda.synchronize(1)
    cuda.empty_cache()
    assert two_gpus.log == ["synchronize 1", "free 0", "free 1", "free pinned"]


@pytest.mark.usefixtures("two_gpus")
def test_init_makes_the_gpu_ready():
    cuda.init()
    assert cuda.is_initialized()


@pytest.mark.usefixtures("two_gpus")
def test_the_current_device():
    with cuda.device(1):
        assert cuda.current_device() == 1
        assert device("cuda") is Device("cuda", 1)
        with cuda.device("cuda:0"):
            assert cuda.current_device() == 0
        with cuda.device(None), cuda.device(-1):
            assert cuda.current_device() == 1
    assert cuda.current_device() == 0
    cuda.set_device(Device("cuda", 1))
    assert cuda.current_device() == 1
    cuda.set_device(None)
    cuda.set_device(-1)
    assert cuda.current_device() == 1
    seen = []
    thread = threading.Thread(target=lambda: seen.append(cuda.current_device()))
    thread.start()
    thread.join()
    assert seen == [0]  # each thread has its own


@pytest.mark.usefixtures("two_gpus")
def test_the_block_ends_after_an_error():
    block = cuda.device(1)
    with pytest.raises(KeyError), block:
        raise KeyError
    assert cuda.current_device() == 0
    with block, block:  # as often as wanted
        assert cuda.current_device() == 1
    assert cuda.current_device() == 0


@pytest.mark.usefixtures("two_gpus")
def test_devices_that_are_not_there():
    for call in (cuda.get_device_name, cuda.set_device, cuda.device, cuda.memory_allocated, cuda.Stream):
        with pytest.raises(DeviceError, match="'cuda:2' does not exist"):
            call(2)
    with pytest.raises(DeviceError, match="'cuda:2' does not exist; this machine has 2"):
        cuda.get_device_name(Device("cuda", 2))
    with pytest.raises(DeviceError, match="expected a CUDA device, got 'cpu'"):
        cuda.synchronize("cpu")


@pytest.mark.parametrize(
    "driver, hint",
    [
        (
            12040,
            " (the driver is of CUDA 12, CuPy of CUDA 13: update the driver or pip install 'gpunet[cuda12]' instead)",
        ),
        (11080, " (the driver is of CUDA 11, CuPy of CUDA 13: update the driver)"),
        (13000, ""),
        (0, ""),
        (None, ""),
    ],
)
def test_cupy_of_another_cuda_than_the_driver(two_gpus, monkeypatch, driver, hint):
    def refused():
        raise RuntimeError("cudaErrorInsufficientDriver")

    monkeypatch.setattr(two_gpus.cuda.runtime, "getDeviceCount", refused)
    if driver is not None:
        two_gpus.cuda.runtime.driverGetVersion = lambda: driver
    with pytest.raises(DeviceError) as caught:
        cuda.init()
    assert str(caught.value) == (
        "device 'cuda' is not available: CuPy is installed but finds no usable CUDA driver: "
        f"cudaErrorInsufficientDriver{hint}"
    )
    assert two_gpus.compute_types == []  # nothing was prepared


# Arguments of PyTorch's that gpunet has no meaning for.
NOT_HAD = {"Event": {"external"}, "Stream": {"kwargs"}}


@pytest.mark.parity
@pytest.mark.parametrize("name", [name for name in cuda.__all__ if name != "DeviceProperties"])
def test_signatures_are_pytorchs(name):
    torch = pytest.importorskip("torch")
    theirs = getattr(torch.cuda, name)
    if name == "OutOfMemoryError":
        assert issubclass(cuda.OutOfMemoryError, theirs.__base__)
        assert theirs.__base__ is RuntimeError
        return
    ours = {
        key: value.default for key, value in inspect.signature(getattr(cuda, name)).parameters.items() if key != "self"
    }
    expected = {key: value.default for key, value in inspect.signature(theirs).parameters.items()}
    assert ours == {key: value for key, value in expected.items() if key not in NOT_HAD.get(name, ())}


@pytest.mark.parity
@pytest.mark.parametrize("name", ["Event", "Stream"])
def test_methods_are_pytorchs(name):
    torch = pytest.importorskip("torch")
    not_had = {"from_ipc_handle", "ipc_handle"}  # events of other processes
    theirs = {key for key in vars(getattr(torch.cuda, name)) if not key.startswith("_")} - not_had
    for key in sorted(theirs):
        ours = list(inspect.signature(getattr(getattr(cuda, name), key)).parameters)
        assert ours == list(inspect.signature(getattr(getattr(torch.cuda, name), key)).parameters), key


@pytest.mark.parity
def test_answers_without_a_gpu_are_pytorchs(no_gpu):
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("PyTorch sees a GPU")
    for name in (
        "is_available", "device_count", "is_initialized", "memory_allocated", "memory_reserved",
        "max_memory_allocated", "max_memory_reserved", "memory_stats", "empty_cache",
    ):  # fmt: skip
        assert getattr(cuda, name)() == getattr(torch.cuda, name)(), name


@pytest.mark.gpu
def test_a_real_gpu():
    import gpunet as gn

    index = cuda.current_device()
    found = cuda.get_device_properties(index)
    assert found.name == cuda.get_device_name(index) != ""
    assert (found.major, found.minor) == cuda.get_device_capability()
    assert found.multi_processor_count > 0
    assert found.warp_size == 32
    assert found.shared_memory_per_block_optin >= found.shared_memory_per_block >= 48 << 10
    free, total = cuda.mem_get_info()
    assert 0 < free <= total == found.total_memory
    with cuda.device(index):
        assert gn.ones(2, device="cuda").device == f"cuda:{index}"
    cuda.set_device(index)
    cuda.synchronize()
    assert cuda.is_initialized()
