"""What the launcher lets through, how it casts, and what it refuses before anything runs."""

import threading
import types

import numpy as np
import pytest

from gpunet.backend import devices, kernels
from gpunet.backend.errors import DeviceError, DTypeError, OutOfMemoryError, ShapeError
from gpunet.backend.kernel_files import KernelFile, parse_signatures
from gpunet.backend.kernels import (
    Kernel,
    KernelCompileError,
    blocks_for,
    explain_compile_log,
    get_kernel,
    is_aligned,
    launch,
    on_host,
    uses_kernels,
)

SOURCE = """
extern "C" __global__ void __launch_bounds__(256)
    work(float4* __restrict__ output, const float* input, const int* labels /* or null */, double factor, float bias,
         int count, unsigned char mode, long long large, bool flag) {}
extern "C" __global__ void scalars_only(int n) {}
extern "C" __global__ void /* needs sm_80 */ newer(float* output) {}
"""


def make_kernel(tmp_path, name="work"):
    file = KernelFile("test", tmp_path / "test.cu", SOURCE, {}, parse_signatures(SOURCE))
    return get_kernel(file, name)


@pytest.fixture
def kernel(tmp_path):
    return make_kernel(tmp_path)


def aligned(count, dtype=np.float32, offset=0):
    itemsize = np.dtype(dtype).itemsize
    buffer = np.zeros(count + 64 + offset, dtype)
    start = -buffer.ctypes.data // itemsize % (64 // itemsize) + offset
    return buffer[start : start + count]


def read_only(array):
    array.flags.writeable = False
    return array


def arguments(**changes):
    values = {
        "output": aligned(8),
        "input": np.zeros((2, 3), np.float32),
        "labels": None,
        "factor": 0.5,
        "bias": 1,
        "count": 6,
        "mode": 255,
        "large": 2**40,
        "flag": True,
    }
    return tuple((values | changes).values())


@pytest.fixture
def run(kernel):
    """Launch on a host executor that only notes what it is given."""
    calls = []

    def run(grid=1, block=32, shared_memory=0, args=None, **changes):
        with on_host(lambda *call: calls.append(call)):
            launch(kernel, grid, block, arguments(**changes) if args is None else args, shared_memory)
        return calls[-1]

    run.calls = calls
    return run


def test_what_the_executor_gets(run, kernel):
    output = aligned(8)
    got_kernel, grid, block, values, shared_memory, cooperative = run((2, 3), 64, 100, output=output)
    assert got_kernel is kernel
    assert (grid, block, shared_memory, cooperative) == ((2, 3, 1), (64, 1, 1), 100, False)
    assert values[0] is output
    assert values[2] is None
    types_of = [type(value) for value in values[3:]]
    assert types_of == [np.float64, np.float32, np.int32, np.uint8, np.int64, np.bool_]
    assert [value.item() for value in values[3:]] == [0.5, 1.0, 6, 255, 2**40, True]


def test_numpy_scalars_are_cast(run):
    values = run(factor=np.float32(0.5), count=np.int64(3), large=np.uint8(7), flag=np.bool_(False))[3]
    assert [type(value) for value in (values[3], values[5], values[7], values[8])] == [
        np.float64,
        np.int32,
        np.int64,
        np.bool_,
    ]


def test_infinity_and_nan_pass(run):
    assert np.isinf(run(bias=np.inf)[3][4])
    assert np.isnan(run(bias=float("nan"))[3][4])


@pytest.mark.parametrize(
    "change, error, message",
    [
        ({"count": 2**31}, DTypeError, r"count: int holds -2147483648..2147483647, got 2147483648"),
        ({"mode": 256}, DTypeError, "mode: unsigned char holds 0..255, got 256"),
        ({"mode": -1}, DTypeError, "mode: unsigned char holds 0..255, got -1"),
        ({"count": 1.0}, DTypeError, "count: int needs an integer, got 1.0"),
        ({"count": True}, DTypeError, "count: int needs a number, got True"),
        ({"count": None}, DTypeError, "count: int needs a number, got NoneType"),
        ({"count": np.array(3)}, DTypeError, "count: int needs a number, got ndarray"),
        ({"bias": 1e39}, DTypeError, r"bias: 1e\+39 is too large for float"),
        ({"factor": "0.5"}, DTypeError, "factor: double needs a number, got str"),
        ({"flag": 1}, DTypeError, "flag: bool needs True or False, got 1"),
        ({"input": None}, DTypeError, "input: needs an array, got None"),
        ({"input": 3.0}, DTypeError, r"input: const float\* needs an array, got float; .* array of shape \(\)"),
        ({"input": np.float32(3)}, DTypeError, r"input: .* needs an array, got float32"),
        ({"input": np.zeros(6)}, DTypeError, r"input: const float\* needs dtype float32, got float64"),
        (
            {"input": np.zeros(6, np.dtype(np.float32).newbyteorder())},
            DTypeError,
            r"input: const float\* needs dtype float32, got float32 with its bytes in the other order",
        ),
        ({"labels": np.zeros(6, np.int64)}, DTypeError, r"labels: const int\* needs dtype int32, got int64"),
        (
            {"input": np.zeros((4, 4), np.float32)[:, ::2]},
            ShapeError,
            r"input: the array must be contiguous, got shape \(4, 2\) with strides \(16, 8\)",
        ),
        ({"input": np.zeros((4, 4), np.float32).T}, ShapeError, "input: the array must be contiguous"),
        (
            {"output": aligned(8, offset=1)},
            ShapeError,
            r"output: float4\* needs an address that is a multiple of 16 bytes, got one that is 4 past it",
        ),
        (
            {"input": np.zeros(25, np.uint8)[1:].view(np.float32)},
            ShapeError,
            "input: .* multiple of 4 bytes, got one that is 1 past it",
        ),
        ({"output": read_only(aligned(8))}, ValueError, r"output: the kernel writes .* read-only"),
    ],
)
def test_refused_arguments(run, kernel, change, error, message):
    with pytest.raises(error, match=message) as caught:
        run(**change)
    assert str(caught.value).startswith(f"{kernel}: ")
    assert not run.calls


@pytest.mark.parametrize("grid", [0, -1, (1, 65536), (1, 1, 65536), 2**31, (1, 2, 3, 4), ()])
def test_refused_grids(run, grid):
    with pytest.raises(ShapeError, match=r"test\.cu: work: grid: "):
        run(grid)


@pytest.mark.parametrize("block", [0, (1, 1, 65), 1025, (1, 1, 1, 1)])
def test_refused_blocks(run, block):
    with pytest.raises(ShapeError, match=r"test\.cu: work: block: "):
        run(1, block)


@pytest.mark.parametrize(
    "bad", [1.5, 1.0, None, "a", "1", True, np.bool_(True), np.float32(1), (1.5, 1), (1, None), [[1]]]
)
@pytest.mark.parametrize("name", ["grid", "block", "shared_memory"])
def test_refused_types_of_extents(run, name, bad):
    with pytest.raises(DTypeError, match=rf"^test\.cu: work: {name}: expected integers, got "):
        run(**{name: bad})
    assert not run.calls


def test_numpys_integers_are_extents(run):
    _, grid, block, _, shared_memory, _ = run(np.int64(2), (np.uint8(16), 2), np.int32(64))
    assert (grid, block, shared_memory) == ((2, 1, 1), (16, 2, 1), 64)
    assert {type(number) for number in (*grid, *block, shared_memory)} == {int}
    assert run([3, np.int16(4)])[1] == (3, 4, 1)


def test_launch_bounds(run):
    run(1, (16, 16))
    with pytest.raises(ShapeError, match=r"block: \(16, 17, 1\) has 272 threads, the kernel allows 256"):
        run(1, (16, 17))


def test_number_of_arguments(run):
    with pytest.raises(DTypeError, match=r"expected 9 arguments \(output, input, .*\), got 8"):
        run(args=arguments()[:-1])


def test_negative_shared_memory(run):
    with pytest.raises(ShapeError, match="shared_memory must not be negative"):
        run(shared_memory=-1)


def test_no_array_at_all(tmp_path):
    with pytest.raises(DTypeError, match="at least one argument must be an array"):
        launch(make_kernel(tmp_path, "scalars_only"), 1, 1, (1,))


def test_numpy_arrays_need_an_executor(kernel):
    with pytest.raises(DeviceError, match=r"output is a NumPy array; .* inside gpunet.testing.cuda_on_cpu"):
        launch(kernel, 1, 1, arguments())


def test_empty_arrays_pass(run):
    run(output=np.zeros(0, np.float32), input=np.zeros((0, 3), np.float32))


def test_neither_tensors_nor_meta_arrays(run):
    with pytest.raises((DeviceError, DTypeError), match="input"):
        run(input=devices.MetaArray((2, 3), np.dtype(np.float32)))


def test_blocks_for():
    assert [blocks_for(count, 256) for count in (0, 1, 256, 257, 10**9)] == [1, 1, 1, 2, 65535]


def test_is_aligned():
    assert is_aligned(16, aligned(4), None, aligned(4, offset=4))
    assert not is_aligned(16, aligned(4), aligned(4, offset=1))


# On a GPU, with CuPy's part played -----------------------------------------------------------------------------------


class FakeArray:
    """What the launcher looks at in a CuPy array."""

    def __init__(self, shape=(8,), dtype=np.float32, device=0, address=512, contiguous=True):
        self.shape, self.dtype, self.size = shape, np.dtype(dtype), int(np.prod(shape))
        self.strides = ()
        self.flags = types.SimpleNamespace(c_contiguous=contiguous)
        self.data = types.SimpleNamespace(ptr=address, device_id=device)
        self.device = types.SimpleNamespace(id=device)


class CompileException(Exception):
    pass


@pytest.fixture
def cupy(monkeypatch):
    """A module that notes what is asked of it."""
    fake = types.SimpleNamespace(log=[], current=0, ndarray=FakeArray, compile_error=None, launch_error=None)
    fake.compute_capability, fake.has_cooperative_launch = "75", True

    class Device:
        def __init__(self, index):
            self.index = index
            self.attributes = {
                "MaxSharedMemoryPerBlockOptin": 100_000,
                "MultiProcessorCount": 10,
                "CooperativeLaunch": int(fake.has_cooperative_launch),
            }
            self.compute_capability = fake.compute_capability

        def __enter__(self):
            self.before, fake.current = fake.current, self.index
            return self

        def __exit__(self, *error):
            fake.current = self.before

    class Function:
        def __init__(self, name):
            self.name, self.max_dynamic_shared_size_bytes = name, 0
            self.kernel = CompiledFunction(name)

        def __call__(self, grid, block, args, *, shared_mem):
            if fake.launch_error is not None:
                raise fake.launch_error
            fake.log.append(
                (self.name, fake.current, grid, block, args, shared_mem, self.max_dynamic_shared_size_bytes)
            )

    class CompiledFunction:
        """cupy.cuda.Function, which a RawKernel keeps as its attribute kernel."""

        ptr = 1234

        def __init__(self, name):
            self.name = name

        def __call__(self, grid, block, args, shared_mem=0, stream=None, enable_cooperative_groups=False):
            fake.log.append((self.name, fake.current, grid, block, args, shared_mem, enable_cooperative_groups))

    class RawModule:
        def __init__(self, *, code, options):
            self.code, self.options = code, options
            signatures = parse_signatures(code)
            self.functions = [
                name for name in signatures if signatures[name].architecture <= int(fake.compute_capability)
            ]

        def compile(self):
            if isinstance(fake.compile_error, Exception):
                raise fake.compile_error
            if fake.compile_error is not None:
                raise CompileException(fake.compile_error)
            fake.log.append(("compile", fake.current, self.options))

        def get_function(self, name):
            assert name in self.functions, f"{name} is not in the compiled file"
            return Function(name)

    fake.RawModule = RawModule
    compiler = types.SimpleNamespace(CompileException=CompileException)
    runtime = types.SimpleNamespace(getDeviceCount=lambda: 2, getDevice=lambda: fake.current)

    def occupancy(function, threads, shared_memory):
        assert function == CompiledFunction.ptr
        return 2048 // threads if shared_memory < 50_000 else 1

    driver = types.SimpleNamespace(occupancyMaxActiveBlocksPerMultiprocessor=occupancy)
    nvrtc = types.SimpleNamespace(getVersion=lambda: (13, 0))
    fake.cuda = types.SimpleNamespace(Device=Device, compiler=compiler, runtime=runtime, driver=driver, nvrtc=nvrtc)
    monkeypatch.setattr(devices, "_cupy", fake)
    monkeypatch.setattr(kernels, "_functions", {})
    return fake


def gpu_arguments(device=0, **changes):
    return arguments(**({"output": FakeArray(device=device), "input": FakeArray((2, 3), device=device)} | changes))


def test_launch_on_a_gpu(cupy, kernel):
    args = gpu_arguments(device=1)
    launch(kernel, 4, (16, 2), args, 64)
    launch(kernel, 4, (16, 2), args, 60_000)
    compiled, small, large = cupy.log
    assert compiled[:2] == ("compile", 1)
    options = compiled[2]
    assert "-std=c++17" in options
    assert f"-I{kernel.file.path.parent}" in options
    assert any(kernel.file.headers_hash in option for option in options)
    name, current, grid, block, values, shared_memory, largest = small
    assert (name, current, grid, block, shared_memory, largest) == ("work", 1, (4, 1, 1), (16, 2, 1), 64, 0)
    assert values[0] is args[0]
    assert values[2].dtype == np.uintp
    assert values[2] == 0
    assert [type(value) for value in values[3:]] == [
        np.float64,
        np.float32,
        np.int32,
        np.uint8,
        np.int64,
        np.bool_,
    ]
    assert large[5:] == (60_000, 60_000)


def test_each_device_compiles_once(cupy, kernel):
    for device in (0, 1, 0, 1):
        launch(kernel, 1, 32, gpu_arguments(device=device))
    first_time = [("compile", 0), ("work", 0), ("compile", 1), ("work", 1)]
    assert [entry[:2] for entry in cupy.log] == [*first_time, ("work", 0), ("work", 1)]


def test_stream(cupy, kernel):
    entered = []

    class Stream:
        def __enter__(self):
            entered.append(len(cupy.log))

        def __exit__(self, *error):
            entered.append(len(cupy.log))

    launch(kernel, 1, 32, gpu_arguments(), stream=Stream())
    assert entered == [1, 2]


def test_cooperative_launch(cupy, kernel):
    launch(kernel, (80, 1), 256, gpu_arguments(), 64, cooperative=True)
    launch(kernel, 80, 256, gpu_arguments(), 64)
    _, together, apart = cupy.log
    assert together[:3] == ("work", 0, (80, 1, 1))
    assert together[5:] == (64, True)
    assert apart[-1] == 0, "launched as any other kernel is"


@pytest.mark.parametrize("shared_memory, limit", [(0, 80), (60_000, 10)])
def test_more_cooperative_blocks_than_fit(cupy, kernel, shared_memory, limit):
    """2048 threads on each of 10 multiprocessors, in blocks of 256, or one block where it fills the shared memory."""
    launch(kernel, limit, 256, gpu_arguments(), shared_memory, cooperative=True)
    with pytest.raises(
        ShapeError,
        match=rf"grid: \({limit + 1}, 1, 1\) has {limit + 1} blocks .* 'cuda:0' holds at most {limit} of 256 threads "
        rf"and {shared_memory} bytes",
    ):
        launch(kernel, limit + 1, 256, gpu_arguments(), shared_memory, cooperative=True)
    launch(kernel, limit + 1, 256, gpu_arguments(), shared_memory)
    assert [entry[0] for entry in cupy.log] == ["compile", "work", "work"]


def test_gpu_without_cooperative_launches(cupy, kernel):
    cupy.has_cooperative_launch = False
    with pytest.raises(DeviceError, match="'cuda:0' has no cooperative launches"):
        launch(kernel, 1, 256, gpu_arguments(), cooperative=True)


def test_the_host_hears_of_a_cooperative_launch(kernel):
    calls = []
    with on_host(lambda *call: calls.append(call)):
        launch(kernel, 1, 32, arguments(), cooperative=True)
    assert calls[0][-1] is True


def test_kernel_that_needs_a_newer_gpu(cupy, kernel, tmp_path):
    newer = make_kernel(tmp_path, "newer")
    with pytest.raises(
        DeviceError, match=r"newer: needs a GPU of compute capability 8\.0 or later, but 'cuda:0' has 7\.5"
    ):
        launch(newer, 1, 32, (FakeArray(),))
    assert not cupy.log
    launch(kernel, 1, 32, gpu_arguments())
    cupy.compute_capability = "120"
    kernels._functions.clear()
    launch(newer, 1, 32, (FakeArray(),))
    assert [entry[0] for entry in cupy.log] == ["compile", "work", "compile", "newer"]


def test_arrays_on_different_gpus(cupy, kernel):
    with pytest.raises(DeviceError, match="input is on 'cuda:1', but output is on 'cuda:0'"):
        launch(kernel, 1, 32, gpu_arguments(input=FakeArray((2, 3), device=1)))
    assert not cupy.log


def test_a_numpy_array_among_gpu_arrays(cupy, kernel):
    with pytest.raises(DeviceError, match="input is on 'cpu', but output is on 'cuda:0'"):
        launch(kernel, 1, 32, gpu_arguments(input=np.zeros((2, 3), np.float32)))


def test_gpu_arrays_are_held_to_the_same_rules(cupy, kernel):
    with pytest.raises(ShapeError, match=r"output: .* multiple of 16 bytes, got one that is 4 past it"):
        launch(kernel, 1, 32, gpu_arguments(output=FakeArray(address=516)))
    with pytest.raises(ShapeError, match="input: the array must be contiguous"):
        launch(kernel, 1, 32, gpu_arguments(input=FakeArray(contiguous=False)))
    with pytest.raises(DTypeError, match=r"input: .* got float16"):
        launch(kernel, 1, 32, gpu_arguments(input=FakeArray(dtype=np.float16)))
    assert not cupy.log


def test_more_shared_memory_than_the_gpu_has(cupy, kernel):
    with pytest.raises(
        ShapeError, match="shared_memory: 200000 bytes, but a block on 'cuda:0' can have at most 100000"
    ):
        launch(kernel, 1, 32, gpu_arguments(), 200_000)


def test_gpu_arrays_use_kernels(cupy):
    assert uses_kernels(FakeArray())
    assert not uses_kernels(np.zeros(1))


def test_compile_error_on_a_gpu(cupy, kernel):
    cupy.compile_error = '/some/folder/0123.cubin.cu(3): error: identifier "y" is undefined\n\n1 error detected.\n'
    with pytest.raises(KernelCompileError) as caught:
        launch(kernel, 1, 32, gpu_arguments())
    assert str(caught.value).startswith("test.cu does not compile:\ntest.cu(3): error: identifier")
    assert SOURCE.splitlines()[2].strip() in str(caught.value)


def test_no_compiler(cupy, kernel):
    def missing():
        raise RuntimeError('Failure finding "libnvrtc.so.13"')

    cupy.cuda.nvrtc.getVersion = missing
    cupy.compile_error = RuntimeError('Failure finding "libnvrtc.so.13":\n No such file')
    with pytest.raises(DeviceError) as caught:
        launch(kernel, 1, 32, gpu_arguments())
    assert str(caught.value) == (
        "test.cu cannot be used: NVRTC was not found; pip install 'gpunet[cuda13]' (or 'gpunet[cuda12]') brings it "
        '(Failure finding "libnvrtc.so.13": No such file)'
    )


def test_a_compiler_newer_than_the_driver(cupy, kernel, monkeypatch):
    cupy.compile_error = type("CUDADriverError", (RuntimeError,), {"status": 222})("CUDA_ERROR_UNSUPPORTED_PTX_VERSION")
    monkeypatch.setattr(kernels, "driver_cuda_version", lambda: (12, 4))
    with pytest.raises(
        DeviceError, match=r"NVRTC, is of CUDA 13\.0, newer than the NVIDIA driver, which supports 12\.4"
    ):
        launch(kernel, 1, 32, gpu_arguments())
    monkeypatch.setattr(kernels, "driver_cuda_version", lambda: (13, 0))
    with pytest.raises(DeviceError, match=r"test.cu cannot be used: CUDA_ERROR_UNSUPPORTED_PTX_VERSION; `gpunet info`"):
        launch(kernel, 1, 32, gpu_arguments())


@pytest.mark.parametrize(
    "when, purpose", [("compile_error", "to load test.cu"), ("launch_error", "to run test.cu: work")]
)
def test_no_memory_left_for_a_kernel(cupy, kernel, when, purpose):
    error = type("CUDADriverError", (RuntimeError,), {"status": 2})("CUDA_ERROR_OUT_OF_MEMORY")
    setattr(cupy, when, error)
    with pytest.raises(OutOfMemoryError, match=f"^CUDA out of memory on 'cuda:1': there is not enough {purpose}; "):
        launch(kernel, 1, 32, gpu_arguments(device=1))
    setattr(cupy, when, None)
    launch(kernel, 1, 32, gpu_arguments(device=1))  # and on it goes


def test_other_errors_of_a_launch_pass(cupy, kernel):
    cupy.launch_error = RuntimeError("too many resources requested for launch")
    with pytest.raises(RuntimeError, match=r"^too many resources"):
        launch(kernel, 1, 32, gpu_arguments())


def test_the_current_gpu_stays_what_it_was(cupy, kernel):
    cupy.current = 1
    launch(kernel, 1, 32, gpu_arguments(device=0))
    launch(kernel, 1, 32, gpu_arguments(device=1))
    assert [entry[1] for entry in cupy.log if entry[0] == "work"] == [0, 1]
    assert cupy.current == 1


def test_shared_memory_is_asked_for_once(cupy, kernel):
    for size in (60_000, 70_000, 50_000, 100):
        launch(kernel, 1, 32, gpu_arguments(), size)
    launched = [entry[5:] for entry in cupy.log if entry[0] == "work"]
    assert launched == [(60_000, 60_000), (70_000, 70_000), (50_000, 70_000), (100, 70_000)]


def test_threads_compile_a_file_once(cupy, kernel):
    barrier = threading.Barrier(8)
    failed = []

    def work():
        barrier.wait()
        try:
            launch(kernel, 1, 32, gpu_arguments())
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    names = [entry[0] for entry in cupy.log]
    assert (names.count("compile"), names.count("work")) == (1, 8)


def test_kernels_are_looked_up_once():
    assert get_kernel("sgd", "sgd_update_float32") is get_kernel("sgd", "sgd_update_float32")


def test_log_of_a_compiler_that_shows_the_line_itself(tmp_path):
    file = KernelFile("a", tmp_path / "a.cu", "one\n  two\nthree\n", {"h.cuh": "first\nsecond\n"}, {})
    assert explain_compile_log("a.cu(2): error: bad\n  two\n  ^\n", file) == "a.cu(2): error: bad\n  two\n  ^"
    assert explain_compile_log("a.cu:2:7: error: bad\n", file) == "a.cu(2): error: bad\n    two"
    assert explain_compile_log("/x/h.cuh(2): error: bad", file) == "h.cuh(2): error: bad\n  second"
    assert explain_compile_log("nothing to show", file) == "nothing to show"


def test_kernels_are_named_in_full(kernel):
    assert str(kernel) == "test.cu: work"
    assert kernel == Kernel(kernel.file, kernel.signature)
    assert hash(kernel) == hash(Kernel(kernel.file, kernel.signature))
