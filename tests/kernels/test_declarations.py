"""Which declarations of kernels Python reads, and what it says of the others: the file, the line, and the form."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gpunet.backend.kernel_files import kernel_folder, parse_signatures, read_kernel_file
from gpunet.backend.kernels import get_kernel, launch
from gpunet.testing import cuda_on_cpu

FORM = r'a kernel must be declared as extern "C" __global__ void name\(...\) { }'


# The parameters as they are written, and each one's type, dtype, and whether it is only read.
READ: dict[str, list[tuple[str, str, bool]]] = {
    "": [],
    "void": [],
    "unsigned int n, unsigned k": [("unsigned int", "uint32", False), ("unsigned", "uint32", False)],
    "const int n, int const m": [("const int", "int32", False), ("const int", "int32", False)],
    "int const* x, const int *y": [("const int*", "int32", True), ("const int*", "int32", True)],
    "float const * const __restrict__ x": [("const float*", "float32", True)],
    "unsigned const char* x": [("const unsigned char*", "uint8", True)],
    "float x[], const float y[16]": [("float*", "float32", False), ("const float*", "float32", True)],
    "int const x [ N * 2 ]": [("const int*", "int32", True)],
    "float4* x, unsigned long long n": [("float4*", "float32", False), ("unsigned long long", "uint64", False)],
}


@pytest.mark.parametrize("written", READ)
def test_parameters_that_are_read(written: str) -> None:
    for body in ("{ }", "\n{\n}", " // remark\n { }"):
        (found,) = parse_signatures(f'extern "C" __global__ void f({written}) {body}').values()
        assert [(p.declared, p.dtype, p.is_const) for p in found.parameters] == READ[written]


def test_an_array_may_be_null() -> None:
    (found,) = parse_signatures('extern "C" __global__ void f(float x[] /* or null */) { }').values()
    assert found.parameters[0].nullable


@pytest.mark.parametrize(
    "written",
    [
        'extern "C" __global__ void f(int n) { }',
        'extern "C" __global__ void __launch_bounds__(64) f(int n) { }',
        'extern "C" __global__ __launch_bounds__(64) void f(int n) { }',
        'extern\n"C"\n__global__\nvoid\nf\n(\nint n\n)\n{ }',
        'namespace inner { extern "C" __global__ void f(int n) { } }',
        '// __global__ void g(int n);\nextern "C" __global__ void f(int n) { }',
    ],
)
def test_declarations_that_are_read(written: str) -> None:
    assert list(parse_signatures(written)) == ["f"]


@pytest.mark.parametrize(
    "written",
    [
        "__global__ void g(int n) { }",
        "static __global__ void g(int n) { }",
        'extern "C" static __global__ void g(int n) { }',
        'extern "C" inline __global__ void g(int n) { }',
        'extern "C" __global__ __forceinline__ void g(int n) { }',
        'extern "C" __global__ __attribute__((used)) void g(int n) { }',
        'extern "C" __global__ void __attribute__((noinline)) g(int n) { }',
        'extern "C" [[maybe_unused]] __global__ void g(int n) { }',
        'extern "C" __global__ void __cluster_dims__(2, 1, 1) g(int n) { }',
        'extern "C" __global__ void __maxnreg__(64) g(int n) { }',
        'extern "C" __global__ int g(int n) { }',
        'extern "C" void __global__ g(int n) { }',
        '__global__ extern "C" void g(int n) { }',
        "template <class T> __global__ void g(T n) { }",
        '#define KERNEL extern "C" __global__ void',
        'extern "C" __global__ void g(int n) __launch_bounds__(64) { }',
    ],
)
def test_a_form_that_is_not_read_is_named_with_its_line(written: str) -> None:
    before = 'extern "C" __global__ void f(int n) {\n  /* two\n     lines */\n}\n'
    for text in (before + written, "\n\n\n\n" + written + "\n" + before):
        with pytest.raises(ValueError, match=r"^scale\.cu:5: ") as caught:
            parse_signatures(text, "scale.cu")
        if not written.endswith("__launch_bounds__(64) { }"):
            assert str(caught.value).startswith(
                f"scale.cu:5: cannot read the declaration {written!r}: a kernel must be"
            )
    with pytest.raises(ValueError, match=r"^scale\.cu:2: .*" + FORM):
        parse_signatures(
            'extern "C" {\n__global__ void g(int n) { }\n}\nextern "C" __global__ void f() { }', "scale.cu"
        )


@pytest.mark.parametrize("behind", [";", " noexcept { }", ';\nextern "C" __global__ void f(int n) { }', " -> void { }"])
def test_the_body_stands_behind_the_parameters(behind: str) -> None:
    with pytest.raises(ValueError, match=r"^scale\.cu:2: f: its body { ... } must follow its parameters"):
        parse_signatures('\nextern "C" __global__ void f(int n)' + behind, "scale.cu")


@pytest.mark.parametrize(
    "written",
    [
        "float& x", "int x = 3", "int, float* y", "float x[][4]", "int n, ...", "std::size_t n", "SIZES",
    ],
)  # fmt: skip
def test_parameters_that_are_not_read(written: str) -> None:
    with pytest.raises(ValueError, match=r"^scale\.cu:2: f: cannot read the parameter '.*': it is a type, \* and"):
        parse_signatures(f'\nextern "C" __global__ void f({written}) {{ }}', "scale.cu")


@pytest.mark.parametrize(
    "written",
    [
        "float** x",
        "float* x[2]",
        "void* x",
        "struct S s",
        "float4 v",
        "char c",
        "long n",
        "volatile int* x",
        "int unsigned n",
    ],
)
def test_types_that_are_not_passed(written: str) -> None:
    with pytest.raises(ValueError, match=r"^scale\.cu:2: f: . has the type '.*', which gpunet cannot pass to a kernel"):
        parse_signatures(f'\nextern "C" __global__ void f({written}) {{ }}', "scale.cu")


def test_the_readme_says_which_forms_there_are() -> None:
    text = (kernel_folder() / "README.md").read_text(encoding="utf-8")
    for form in (
        "`float x[]`",
        "`float const*`",
        "`(void)`",
        "`static`",
        "`template`",
        "`__cluster_dims__`",
        "`int unsigned`",
    ):
        assert form in text


@pytest.mark.kernels
@pytest.mark.usefixtures("host")
def test_a_parameter_written_as_an_array_takes_one(tmp_path: Path) -> None:
    path = tmp_path / "twice.cu"
    path.write_text(
        'extern "C" __global__ void twice(float y[], float const x[4]) {\n  y[threadIdx.x] = 2 * x[threadIdx.x];\n}\n',
        encoding="utf-8",
    )
    file = read_kernel_file(path)
    x, y = np.float32([1, 2, 3, 4]), np.full(4, np.nan, np.float32)
    with cuda_on_cpu("both"):
        launch(get_kernel(file, "twice"), 1, 4, (y, x))
    np.testing.assert_array_equal(y, [2, 4, 6, 8])
