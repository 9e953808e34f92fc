"""Kernel files as libraries: the compiler that is found, its complaints, and what the cache of libraries holds."""

import shutil

import numpy as np
import pytest

from gpunet import DTypeError
from gpunet.backend.kernels import KernelCompileError, get_kernel, launch, read_kernel_file
from gpunet.testing import KernelFault, cuda_on_cpu, host_compiler, host_compiler_missing, host_library

pytestmark = [pytest.mark.kernels, pytest.mark.usefixtures("host")]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache of its own, and no memory of what this process has loaded."""
    monkeypatch.setenv("GPUNET_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(host_library, "_libraries", {})
    return tmp_path / "cache" / "cuda_on_cpu"


def answer(path):
    """What a kernel `answer` writes."""
    output = np.full(1, np.nan, np.float32)
    with cuda_on_cpu():
        launch(get_kernel(read_kernel_file(path), "answer"), 1, 1, (output,))
    return output[0]


KERNEL = 'extern "C" __global__ void answer(float* output) { output[0] = VALUE; }\n'


def test_compile_error_shows_the_line(tmp_path):
    path = tmp_path / "broken.cu"
    path.write_text('extern "C" __global__ void broken(float* output) {\n  output[0] = undeclared;\n}\n')
    with cuda_on_cpu(), pytest.raises(KernelCompileError) as caught:
        launch(get_kernel(read_kernel_file(path), "broken"), 1, 1, (np.zeros(1, np.float32),))
    assert "broken.cu:2" in str(caught.value)
    assert "output[0] = undeclared;" in str(caught.value)


def test_compile_error_in_a_header_of_a_folder(tmp_path):
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "value.cuh").write_text("// two lines\nconstexpr float VALUE = undeclared;\n")
    (tmp_path / "user.cu").write_text('#include "parts/value.cuh"\n' + KERNEL)
    with pytest.raises(KernelCompileError, match=r"parts/value.cuh:2:.*\n.*constexpr float VALUE = undeclared;"):
        answer(tmp_path / "user.cu")


def test_kernels_without_parameters_stand_beside_others(tmp_path):
    path = tmp_path / "user.cu"
    path.write_text('extern "C" __global__ void idle() {}\n' + KERNEL.replace("VALUE", "5.0f"))
    assert answer(path) == 5
    with pytest.raises(DTypeError, match=r"user\.cu: idle: at least one argument must be an array"), cuda_on_cpu():
        launch(get_kernel(read_kernel_file(path), "idle"), 1, 1, ())


@pytest.mark.parametrize("header", ["<assert.h>", "<cassert>"])
def test_assertions_of_the_standard_headers(tmp_path, header):
    """Before them they are there as well, as in CUDA; NDEBUG takes them out."""
    path = tmp_path / "user.cu"
    path.write_text(f"#define VALUE 6.0f\n#include {header}\n" + KERNEL.replace("{", "{ assert(output[0] > 1);"))
    with pytest.raises(
        KernelFault, match=r"block \(0, 0, 0\), thread \(0, 0, 0\): assert\(output\[0\] > 1\) failed at"
    ):
        answer(path)
    path.write_text("#define NDEBUG\n" + path.read_text())
    assert answer(path) == 6


# Headers --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "include, header, through",
    [
        ('"value.cuh"', "value.cuh", {}),
        ("<value.cuh>", "value.cuh", {}),
        ('"parts/value.cuh"', "parts/value.cuh", {}),
        ("<parts/value.cuh>", "parts/value.cuh", {}),
        ('"parts/all.cuh"', "parts/value.cuh", {"parts/all.cuh": '#include "value.cuh"'}),
        ('"parts/all.cuh"', "value.cuh", {"parts/all.cuh": "#include <value.cuh>"}),
        ('"parts/all.cuh"', "value.cuh", {"parts/all.cuh": '#include "../value.cuh"'}),
        # Of two with one name, the one beside the file that includes it.
        ('"parts/all.cuh"', "parts/value.cuh", {"parts/all.cuh": '#include "value.cuh"', "value.cuh": "#error no"}),
    ],
)
def test_a_changed_header_is_seen(tmp_path, include, header, through):
    (tmp_path / "parts").mkdir()
    for name, text in through.items():
        (tmp_path / name).write_text(text + "\n")
    (tmp_path / "user.cu").write_text(f"#include {include}\n" + KERNEL)
    for value in (1, 2):
        (tmp_path / header).write_text(f"#define VALUE {value}.0f\n")
        assert answer(tmp_path / "user.cu") == value


# The cache ------------------------------------------------------------------------------------------------------------


def cut_short(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def overwrite(path):
    path.write_bytes(b"no library")


def empty(path):
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [cut_short, overwrite, empty])
def test_a_damaged_library_is_built_again(tmp_path, cache, monkeypatch, damage):
    (tmp_path / "user.cu").write_text("#define VALUE 3.0f\n" + KERNEL)
    assert answer(tmp_path / "user.cu") == 3
    [library] = cache.iterdir()
    content = library.with_suffix(".old")
    library.rename(content)  # it is loaded, and goes on to be what it is
    shutil.copy(content, library)
    content.unlink()
    damage(library)
    monkeypatch.setattr(host_library, "_libraries", {})
    assert answer(tmp_path / "user.cu") == 3
    [rebuilt] = cache.iterdir()
    assert rebuilt.stat().st_size > 5000


def test_a_library_is_built_once(tmp_path, cache, monkeypatch):
    (tmp_path / "user.cu").write_text("#define VALUE 4.0f\n" + KERNEL)
    assert answer(tmp_path / "user.cu") == 4
    monkeypatch.setattr(host_library, "_libraries", {})
    monkeypatch.setattr(host_library, "_build", lambda *_: pytest.fail("it is in the cache"))
    assert answer(tmp_path / "user.cu") == 4


# The compiler ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder_with_blanks(tmp_path):
    """A compiler in a folder with blanks in its name."""
    folder = tmp_path / "my compilers"
    folder.mkdir()
    script = folder / "g++"
    script.write_text(f'#!/bin/sh\nexec {host_compiler()} "$@"\n')
    script.chmod(0o755)
    return folder


@pytest.mark.parametrize("form", ["env {plain}", "{plain} -O1", "'{path}'", '"{path}" -O1', "{path}"])
def test_compilers_with_arguments_and_blanks(tmp_path, cache, monkeypatch, folder_with_blanks, form):
    plain = host_compiler()
    monkeypatch.setenv("CXX", form.format(plain=plain, path=folder_with_blanks / "g++"))
    (tmp_path / "user.cu").write_text("#define VALUE 5.0f\n" + KERNEL)
    assert answer(tmp_path / "user.cu") == 5


@pytest.mark.parametrize("command", ["'g++", "no-such-compiler -O2", "''", "false"])
def test_no_compiler(monkeypatch, command):
    monkeypatch.setenv("CXX", command)
    assert host_compiler() is None
    assert host_compiler_missing() == (f"no C++20 compiler to run CUDA kernels on the CPU with (tried CXX={command})")
    with pytest.raises(RuntimeError, match="no C\\+\\+20 compiler"), cuda_on_cpu():
        pass


def test_a_blank_name_is_none(monkeypatch):
    before = host_compiler()
    monkeypatch.setenv("CXX", "  ")
    assert host_compiler() == before
