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
        lambda: cuda.mem_get_info(0),
    ],
)
def test_what_needs_a_gpu_says_why_there_is_none(call):
    with pytest.raises(DeviceError, match="device 'cuda' is not available: CuPy is not installed"):
        call()


MEMORY = [
    cuda.memory_allocated, cuda.max_memory_allocated, cuda.memory_reserved, cuda.max_memory_reserved,
    cuda.reset_peak_memory_stats, cuda.memory_stats, cuda.memory_summary,
]  # fmt: skip


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize("call", MEMORY)
def test_without_a_gpu_no_memory_is_used_whichever_is_named(call):
    nothing = call()
    for name in (0, 1, "cuda", "cuda:1", Device("cuda", 0), None):
        assert call(name) == call(device=name) == nothing
    assert nothing in (0, None, {}, "no GPU is used")
    for name, text in (
        ("cpu", "expected a CUDA device, got 'cpu'"),
        (Device("cpu", 0), "expected a CUDA device, got 'cpu'"),
        ("cuda:x", "unknown device 'cuda:x'"),
        (-1, "the index must not be negative, got -1"),
        (True, "expected a name such as 'cpu' or 'cuda:0', got bool"),
        (1.5, "expected a name such as 'cpu' or 'cuda:0', got float"),
    ):
        with pytest.raises(DeviceError, match=text):
            call(name)


@pytest.mark.parity
@pytest.mark.parametrize("name", ["memory_allocated", "max_memory_allocated", "memory_reserved", "max_memory_reserved"])
@pytest.mark.usefixtures("no_gpu")
def test_without_a_gpu_pytorch_counts_nothing_either(name):
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("PyTorch has a GPU")
    for index in (None, 0, "cuda", "cuda:1"):
        assert getattr(cuda, name)(index) == getattr(torch.cuda, name)(index)


@pytest.mark.parametrize(
    "call",
    [
        *MEMORY, cuda.mem_get_info, cuda.synchronize, cuda.get_device_name, cuda.get_device_properties,
        cuda.get_device_capability, cuda.set_device, cuda.device, cuda.current_stream, cuda.default_stream, cuda.Stream,
    ],
)  # fmt: skip
def test_a_gpu_is_named_in_every_way(two_gpus, call):
    for name in (1, "cuda:1", Device("cuda", 1), None, 0, "cuda", "cuda:0"):
        call(name)
        call(device=name)


def test_the_namespace_is_what_is_listed():
    assert [name for name in dir(cuda) if not name.startswith("_")] == sorted(cuda.__all__)
    for name in ("Device", "Generator", "is_cuda_in_use", "is_cuda_available", "cuda_runtime", "gpu_memory"):
        assert not hasattr(cuda, name)
    with pytest.raises(
        AttributeError, match=r"no attribute 'Device': gn.cuda.device\(0\) is a block .* gn.device\('cuda:0'\)"
    ):
        cuda.Device(0)


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
