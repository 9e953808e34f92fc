"""Every kernel compiles to machine code for the GPUs it is meant for, on a machine that has none."""

import contextlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gpunet.backend.kernels import KernelCompileError, kernel_file, kernel_names, read_kernel_file
from gpunet.testing import ARCHITECTURES, compile_for_gpu, gpu_compiler_missing, unsupported

pytestmark = pytest.mark.kernels

_table: list[str] = []

# Bytes of stack, and of spills each way. With NVRTC's options and 32 registers, ptxas keeps two words of the naive step
# of SGD in memory by its own choice; that kernel is there to be read.
EXPLAINED_SPILLS = {
    ("sm_100", "sgd_update_naive_float32"): 8,
}


@pytest.fixture(params=["nvcc", "nvrtc"])
def compiler(request):
    missing = gpu_compiler_missing(request.param)
    if missing is not None:
        pytest.skip(missing)
    return request.param


@pytest.fixture(params=ARCHITECTURES)
def architecture(request, compiler):
    missing = gpu_compiler_missing(compiler, request.param)
    if missing is not None:
        pytest.skip(missing)
    return request.param


@pytest.fixture(scope="module", autouse=True)
def table(request):
    """Print what the kernels cost, once they are all compiled."""
    yield
    if _table:
        heading = f"{'kernel':40} {'compiler':8} {'GPU':6} registers  stack  spills  shared"
        with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
            print("", heading, *sorted(_table), sep="\n")


@pytest.fixture(scope="module")
def all_compiled():
    """Compile everything on all cores; what fails is reported by the test that asks for it."""

    def attempt(case):
        with contextlib.suppress(KernelCompileError):
            compile_for_gpu(*case)

    cases = [
        (kernel_file(name), architecture, compiler)
        for compiler in ("nvcc", "nvrtc")
        for name in kernel_names()
        for architecture in ARCHITECTURES
        if gpu_compiler_missing(compiler) is None and gpu_compiler_missing(compiler, architecture) is None
    ]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(attempt, cases))


# The first one waits for all.
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("all_compiled")
@pytest.mark.parametrize("name", kernel_names())
def test_kernel_file_compiles(compiler, architecture, name):
    file = kernel_file(name)
    kernels = compile_for_gpu(file, architecture, compiler)
    left_out = unsupported(file, architecture)
    assert kernels.keys() == file.functions.keys() - set(left_out)
    _table.extend(f"{name + ': ' + kernel:40} {compiler:8} {architecture:6}       n/a" for kernel in left_out)
    for kernel in kernels.values():
        _table.append(
            f"{name + ': ' + kernel.name:40} {compiler:8} {architecture:6} {kernel.registers:9} {kernel.stack_bytes:6} "
            f"{kernel.spill_bytes:7} {kernel.shared_bytes:7}"
        )
        explained = EXPLAINED_SPILLS.get((architecture, kernel.name), 0)
        assert kernel.stack_bytes <= explained
        assert kernel.spill_bytes <= 2 * explained


@pytest.mark.parametrize("name", ["cooperation", "machinery", "tensor_cores"])
def test_what_the_cpu_layer_is_tried_with_is_cuda(compiler, architecture, name):
    kernels = compile_for_gpu(read_kernel_file(Path(__file__).parent / f"{name}.cu"), architecture, compiler)
    if name == "machinery":
        assert kernels["reverse_float64"].shared_bytes == 64 * 8
        assert ("warp_reductions" in kernels) == (architecture != "sm_75")
    if name == "tensor_cores":
        assert ("gemm_tiled_tf32" in kernels) == (architecture != "sm_75")
        assert kernels["gemm_fp16"].code_bytes


def test_planted_faults_are_cuda(compiler):
    """For one GPU only: what a compiler makes of a wrong kernel may be next to nothing."""
    compile_for_gpu(read_kernel_file(Path(__file__).parent / "faults.cu"), "sm_80", compiler)


def test_cudas_own_headers(architecture, compiler):
    """NVRTC would have to be told where they are."""
    if compiler == "nvcc":
        compile_for_gpu(read_kernel_file(Path(__file__).parent / "small_floats.cu"), architecture, compiler)


def write(folder, text, **headers):
    for name, content in headers.items():
        (folder / f"{name}.cuh").write_text(content)
    (folder / "planted.cu").write_text(text)
    return read_kernel_file(folder / "planted.cu")


def test_an_empty_body_is_refused(compiler, tmp_path):
    file = write(
        tmp_path,
        'extern "C" __global__ void fill(float* output) {\n'
        "#if __CUDA_ARCH__ >= 900\n  output[threadIdx.x] = 1.0f;\n#endif\n}\n",
    )
    assert compile_for_gpu(file, "sm_90", compiler)["fill"].registers > 0
    with pytest.raises(KernelCompileError, match="fill is empty for sm_80"):
        compile_for_gpu(file, "sm_80", compiler)


def test_what_an_architecture_does_not_have_is_not_built(compiler, tmp_path):
    body = "#if __CUDA_ARCH__ >= 900\n{}\n#endif\n"
    kernel = 'extern "C" __global__ void /* needs sm_90 */ fill(float* output) {{ {} }}'
    other = 'extern "C" __global__ void other(float* output) { for (int i = 0; i < 9; ++i) output[i] += i; }\n'
    file = write(tmp_path, other + body.format(kernel.format("output[threadIdx.y] = 1.0f;")))
    assert unsupported(file, "sm_80") == ("fill",)
    assert unsupported(file, "sm_90") == unsupported(file, "sm_100") == ()
    assert compile_for_gpu(file, "sm_80", compiler).keys() == {"other"}
    assert compile_for_gpu(file, "sm_90", compiler).keys() == {"other", "fill"}
    empty = write(tmp_path, other + body.format(kernel.format("")))
    with pytest.raises(KernelCompileError, match="fill is empty for sm_90"):
        compile_for_gpu(empty, "sm_90", compiler)
    silent = write(
        tmp_path, other + body.format(kernel.format("output[threadIdx.y] = 1.0f;")).replace("/* needs sm_90 */", "")
    )
    with pytest.raises(KernelCompileError, match="fill was not compiled for sm_80"):
        compile_for_gpu(silent, "sm_80", compiler)


def test_architectures_a_compiler_does_not_know(compiler):
    assert gpu_compiler_missing(compiler, "sm_80") is None
    assert gpu_compiler_missing(compiler, "sm_20") == f"this {compiler} does not compile for sm_20"


def test_an_error_shows_the_line(compiler, tmp_path):
    file = write(tmp_path, 'extern "C" __global__ void fill(float* output) {\n  output[0] = undeclared;\n}\n')
    with pytest.raises(KernelCompileError) as caught:
        compile_for_gpu(file, "sm_80", compiler)
    assert 'planted.cu(2): error: identifier "undeclared" is undefined' in str(caught.value)
    assert str(caught.value).count("  output[0] = undeclared;") == 1


def test_an_error_in_a_header_shows_the_header(compiler, tmp_path):
    file = write(
        tmp_path,
        '#include "part.cuh"\nextern "C" __global__ void fill(float* output) { output[0] = part(); }\n',
        part="__device__ float part() {\n  return missing;\n}\n",
    )
    with pytest.raises(KernelCompileError) as caught:
        compile_for_gpu(file, "sm_80", compiler)
    assert "part.cuh(2): error" in str(caught.value)
    assert str(caught.value).count("  return missing;") == 1


def test_stack_frames_are_seen(compiler, tmp_path):
    """An array indexed by what is only known at run time has to lie in local memory."""
    file = write(
        tmp_path,
        'extern "C" __global__ void pick(float* output, const int* which) {\n  float local[256];\n'
        "  for (int i = 0; i < 256; ++i) local[i] = output[i];\n"
        "  for (int i = 0; i < 256; ++i) local[which[i]] += local[which[i + 1]];\n"
        "  for (int i = 0; i < 256; ++i) output[i] = local[i];\n}\n",
    )
    assert compile_for_gpu(file, "sm_80", compiler)["pick"].stack_bytes >= 256 * 4
