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
    assert len(read_kernel_file(folder / "machinery.cu").functions) == 14
    assert len(read_kernel_file(folder / "faults.cu").functions) == 33


def test_a_macro_stands_for_several_parameters():
    header = "#define SIZES \\\n  int rows, int columns /* of all */, \\\n      long long pitch\n#define CALL(x) x\n"
    source = '#define MORE bool flag\nextern "C" __global__ void f(float* output, SIZES, MORE) {}\n'
    parameters = parse_signatures(source, headers={"sizes.cuh": header})["f"].parameters
    assert [(p.name, p.dtype) for p in parameters] == [
        ("output", "float32"), ("rows", "int32"), ("columns", "int32"), ("pitch", "int64"), ("flag", "bool")
    ]  # fmt: skip
    with pytest.raises(ValueError, match="SIZES"):
        parse_signatures(source)
