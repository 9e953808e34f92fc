"""Finding kernel files and reading their declarations."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import gpunet.backend.kernel_files as kernel_files
from gpunet.backend.kernel_files import (
    kernel_file,
    kernel_folder,
    kernel_names,
    kernel_source,
    parse_signatures,
    read_kernel_file,
)
from gpunet.backend.kernels import all_kernels, get_kernel


def only(source):
    (signature,) = parse_signatures(source).values()
    return signature


def test_every_file_is_found_and_read():
    names = kernel_names()
    assert "sgd" in names
    for name in names:
        assert kernel_file(name).functions, f"{name}.cu has no kernel"
        assert kernel_source(name) == (kernel_folder() / f"{name}.cu").read_text(encoding="utf-8")


def test_every_kernel_name_is_there_once():
    names = [kernel.name for kernel in all_kernels()]
    assert len(names) == len(set(names))


def test_every_file_opens_with_its_contract():
    for name in kernel_names():
        opening = kernel_source(name).split("\n\n#", 1)[0]
        for heading in (f"// {name}.cu: ", "// Contract", "// Parallelisation", "// Determinism"):
            assert heading in opening, f"{name}.cu does not say {heading!r}"


def test_unknown_file():
    with pytest.raises(KeyError, match=r"no kernel file 'sdg'; did you mean sgd"):
        kernel_source("sdg")


def test_unknown_function():
    with pytest.raises(KeyError, match=r"sgd.cu has no kernel 'sgd_float32'; did you mean .*sgd_update_float32"):
        get_kernel("sgd", "sgd_float32")


def test_a_path_is_no_name():
    with pytest.raises(KeyError):
        kernel_source("../cuda_kernels/sgd")


def test_packaged_copy_comes_first(tmp_path, monkeypatch):
    package = tmp_path / "gpunet"
    for folder in (package / "backend", package / "_cuda_kernels", tmp_path / "cuda_kernels"):
        folder.mkdir(parents=True)
    monkeypatch.setattr(kernel_files, "__file__", str(package / "backend" / "kernel_files.py"))
    assert kernel_folder() == package / "_cuda_kernels"
    (package / "_cuda_kernels").rmdir()
    assert kernel_folder() == tmp_path / "cuda_kernels"
    (tmp_path / "cuda_kernels").rmdir()
    with pytest.raises(FileNotFoundError, match="installation of gpunet is incomplete"):
        kernel_folder()


def test_looking_for_kernels_does_not_import_cupy():
    code = (
        "import sys; from gpunet.backend.kernels import kernel_source; kernel_source('sgd'); "
        "sys.exit('cupy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


def test_declaration():
    signature = only(
        "// a comment with __global__ in it\n"
        "/* and\n another */\n"
        'extern "C" __global__ void __launch_bounds__(128, 2)\n'
        "    scale(float4* __restrict__ output, const float *input, const unsigned long long * seed /* or null */,\n"
        "          double factor, unsigned char mode, // the mode\n"
        "          bool flag, size_t count) {\n  output[0] = input[0];\n}\n"
    )
    assert (signature.name, signature.max_threads, signature.line) == ("scale", 128, 4)
    rows = [
        (p.name, p.declared, p.dtype, p.is_pointer, p.is_const, p.is_restrict, p.nullable, p.alignment)
        for p in signature.parameters
    ]
    assert rows == [
        ("output", "float4*", "float32", True, False, True, False, 16),
        ("input", "const float*", "float32", True, True, False, False, 4),
        ("seed", "const unsigned long long*", "uint64", True, True, False, True, 8),
        ("factor", "double", "float64", False, False, False, False, 8),
        ("mode", "unsigned char", "uint8", False, False, False, False, 1),
        ("flag", "bool", "bool", False, False, False, False, 1),
        ("count", "size_t", "uint64", False, False, False, False, 8),
    ]


def test_launch_bounds_by_name():
    assert (
        only(
            'constexpr int THREADS = 64;\nextern "C" __global__ void __launch_bounds__(THREADS) f(int* x) {}'
        ).max_threads
        == 64
    )
    assert only('extern "C" __global__ void f(int* x) {}').max_threads == 1024


@pytest.mark.parametrize(
    "before, bounds, threads",
    [
        ("", "2 * 64", 128),
        ("", "(1 << 8) / 2 + 96 % 64", 160),
        ("", "0x80u, 4", 128),
        ("#define THREADS 128\n", "THREADS", 128),
        ("#define WARPS (2 + 2) // of 32\n#define THREADS WARPS * 32\n", "THREADS, 2", 128),
        ("#define PAIR 64 + 32\n", "2 * PAIR", 160),  # text, as C puts it in
        ("#define BOUNDS 256, 2\n", "BOUNDS", 256),
        ("constexpr int WARPS = 4;\nconstexpr unsigned int THREADS = 32 * WARPS;\n", "THREADS", 128),
        ("static constexpr int threads = 96;\n", "(threads), (2)", 96),
    ],
)
def test_launch_bounds_are_worked_out(before, bounds, threads):
    kernel = f'{before}extern "C" __global__ void __launch_bounds__({bounds}) f(int* x) {{}}'
    assert only(kernel).max_threads == threads
    function = f'extern "C" __global__ void __launch_bounds__({bounds}) f(int* x) {{}}'
    assert parse_signatures(function, headers={"sizes.cuh": before})["f"].max_threads == threads


@pytest.mark.parametrize(
    "before, bounds, message",
    [
        ("", "THREADS", "THREADS is no number"),
        ("#if A\n#define THREADS 128\n#else\n#define THREADS 256\n#endif\n", "THREADS", "THREADS is no number"),
        ("#define THREADS 128\n#undef THREADS\n", "THREADS", "THREADS is no number"),
        ("#define HALF(x) x / 2\n", "HALF(256)", "HALF\\(256\\) is no number"),
        ("#define A B\n#define B A\n", "A", "A is no number"),
        ("constexpr int A = B;\nconstexpr int B = A;\n", "A", "B is no number|A is no number"),
        ("", "Tile::threads", "'Tile::threads' is no number"),
        ("", "sizeof(float4) * 8", "is no number"),
        ("", "1.5", "1.5 is no number"),
        ("", "128 / 0", "is no number"),
        ("", "1 << 99", "is no number"),
        ("", "0100", "is no number"),
        ("", "__import__('os')", "is no number"),
        ("", "2048", "a block has 1 to 1024 threads, not 2048"),
        ("", "0", "a block has 1 to 1024 threads, not 0"),
        ("", "", "is no number"),
    ],
)
def test_launch_bounds_that_cannot_be_read(before, bounds, message):
    """A bound that is overlooked would be a launch that the GPU refuses."""
    source = f'{before}extern "C" __global__ void __launch_bounds__({bounds}) f(int* x) {{}}'
    with pytest.raises(ValueError, match=rf"kernel\.cu:\d+: f: __launch_bounds__\(.*{message}"):
        parse_signatures(source)


def test_launch_bounds_at_another_place():
    before = 'extern "C" __global__ __launch_bounds__(32 * 2) void f(int* x) {}'
    assert only(before).max_threads == 64
    for source in (
        'extern "C" __global__ void f(int* x) __launch_bounds__(64);',
        'extern "C" __global__ void __launch_bounds__(((((64))))) f(int* x) {}',
        '#define BOUNDS __launch_bounds__(64)\nextern "C" __global__ void BOUNDS f(int* x) {}',
    ):
        with pytest.raises(ValueError, match="must "):
            parse_signatures(source)


@pytest.mark.parametrize(
    "written, declared, is_const, is_restrict",
    [
        ("float const* x", "const float*", True, False),
        ("const float* const x", "const float*", True, False),
        ("float *const __restrict x", "float*", False, True),
        ("unsigned int const * __restrict__ const x", "const unsigned int*", True, True),
    ],
)
def test_other_ways_to_write_a_pointer(written, declared, is_const, is_restrict):
    (parameter,) = only(f'extern "C" __global__ void f({written}) {{}}').parameters
    assert (parameter.name, parameter.declared, parameter.is_pointer) == ("x", declared, True)
    assert (parameter.is_const, parameter.is_restrict) == (is_const, is_restrict)


def test_a_macro_that_stands_for_a_macro():
    source = '#define real_t float\n#define OUTPUT real_t* y\nextern "C" __global__ void f(OUTPUT, const real_t a) {}'
    assert [p.declared for p in only(source).parameters] == ["float*", "const float"]


def test_what_a_kernel_needs():
    source = (
        "// a kernel that needs sm_90\n"
        'extern "C" __global__ void __launch_bounds__(128) /* needs sm_80 */ first(int* x) {}\n'
        'extern "C" __global__ void /* needs sm_100 */ second(int* x) {}\n'
        'extern "C" __global__ void third(int* x) {}\n'
    )
    signatures = parse_signatures(source)
    assert [signatures[name].architecture for name in ("first", "second", "third")] == [80, 100, 0]
    assert signatures["first"].max_threads == 128


def test_only_included_headers_count(tmp_path):
    """Directly or not, from beside the file or from the folder of the kernels."""
    (tmp_path / "user.cu").write_text('#include "a.cuh"\n  #  include "epilogue.cuh"\n')
    for name, text in (("a", '#include "b.cuh"\n'), ("b", '#include "a.cuh"\n#include "absent.cuh"\n'), ("c", "")):
        (tmp_path / f"{name}.cuh").write_text(text)
    assert list(read_kernel_file(tmp_path / "user.cu").headers) == ["a.cuh", "b.cuh", "epilogue.cuh"]


def test_half_types():
    pytest.importorskip("ml_dtypes")
    first, second = only('extern "C" __global__ void f(const __half2* x, __nv_bfloat16* y) {}').parameters
    assert (first.numpy_dtype, first.alignment) == (np.float16, 4)
    assert (second.numpy_dtype.name, second.alignment) == ("bfloat16", 2)


@pytest.mark.parametrize(
    "source, message",
    [
        ("template <typename T> __global__ void f(T* x) {}", "must be declared as extern"),
        ('extern "C" __global__ int f(int* x) {}', "must be declared as extern"),
        ('extern "C" __global__ void f(long n) {}', "f: n has the type 'long'"),
        ('extern "C" __global__ void f(char c) {}', "f: c has the type 'char'"),
        ('extern "C" __global__ void f(float4 v) {}', "f: v has the type 'float4'"),
        ('extern "C" __global__ void f(float** v) {}', r"f: v has the type 'float\*\*'"),
        ('extern "C" __global__ void f(Plan* plan) {}', r"f: plan has the type 'Plan\*'"),
        ('extern "C" __global__ void f(int n /* or null */) {}', "n is no pointer, so it cannot be null"),
        ('extern "C" __global__ void f(float*) {}', "cannot read the parameter|has the type"),
        ('extern "C" __global__ void f(unsigned int) {}', "cannot read the parameter 'unsigned int'"),
        ('extern "C" __global__ void f(float a[][4]) {}', r"cannot read the parameter 'float a\[\]\[4\]'"),
        ('extern "C" __global__ void f(float& a) {}', "cannot read the parameter 'float& a'"),
        ('extern "C" __global__ void f(volatile float* a) {}', r"a has the type 'volatile float\*'"),
        ('extern "C" {\n__global__ void f(float* a) {}\n}', "must be declared as extern"),
        (
            'extern "C" __global__ void f(int* x);\nextern "C" __global__ void f(int* x) {}',
            r"kernel.cu:1: f: its body \{ ... \} must follow",
        ),
        (
            'extern "C" __global__ void f(int* x) {}\nextern "C" __global__ void f(int* y) {}',
            "kernel.cu:2: f is declared twice",
        ),
    ],
)
def test_what_cannot_be_launched_is_refused(source, message):
    with pytest.raises(ValueError, match=message):
        parse_signatures(source)


def test_headers_change_the_hash(tmp_path):
    source = tmp_path / "a.cu"
    source.write_text('#include "part.cuh"\nextern "C" __global__ void f(int* x) {}')
    hashes = [read_kernel_file(source).headers_hash]
    for text in ("one", "two"):
        (tmp_path / "part.cuh").write_text(text)
        hashes.append(read_kernel_file(source).headers_hash)
    assert len(set(hashes)) == 3


def test_signatures_match_what_the_tests_rely_on():
    folder = Path(__file__).parent
    assert len(read_kernel_file(folder / "machinery.cu").functions) == 16
    assert len(read_kernel_file(folder / "faults.cu").functions) == 46


def test_a_macro_stands_for_several_parameters():
    header = "#define SIZES \\\n  int rows, int columns /* of all */, \\\n      long long pitch\n#define CALL(x) x\n"
    source = '#define MORE bool flag\nextern "C" __global__ void f(float* output, SIZES, MORE) {}\n'
    parameters = parse_signatures(source, headers={"sizes.cuh": header})["f"].parameters
    assert [(p.name, p.dtype) for p in parameters] == [
        ("output", "float32"), ("rows", "int32"), ("columns", "int32"), ("pitch", "int64"), ("flag", "bool")
    ]  # fmt: skip
    with pytest.raises(ValueError, match="SIZES"):
        parse_signatures(source)
