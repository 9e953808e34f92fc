"""Kernel files: where they are, what they declare, and what each parameter takes.

Every kernel is a ``.cu`` file that stands on its own. What Python has to know about it is read from its declaration::

    extern "C" __global__ void __launch_bounds__(256)
        scale(float4* __restrict__ output, const float4* input, float* mask /* or null */, double factor)

A pointer takes an array of its element type, on the device where the kernel runs, contiguous, and aligned to the whole
type (16 bytes for ``float4``). ``/* or null */`` behind a pointer allows None. Anything else takes a Python or NumPy
scalar that its type can hold. ``/* needs sm_80 */`` before the name says that older GPUs do not have the kernel.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from gpunet.backend.kernel_constants import constants_in, evaluate, expand, macros_in

__all__ = [
    "KernelFile",
    "Parameter",
    "Signature",
    "kernel_file",
    "kernel_folder",
    "kernel_names",
    "kernel_source",
    "parse_signatures",
    "read_kernel_file",
]

# `char` and `long` are missing on purpose: their sign or size depends on the machine.
_SCALARS: Final[dict[str, str]] = {
    "bool": "bool",
    "signed char": "int8",
    "unsigned char": "uint8",
    "short": "int16",
    "unsigned short": "uint16",
    "int": "int32",
    "unsigned int": "uint32",
    "unsigned": "uint32",
    "long long": "int64",
    "unsigned long long": "uint64",
    "int8_t": "int8",
    "uint8_t": "uint8",
    "int16_t": "int16",
    "uint16_t": "uint16",
    "int32_t": "int32",
    "uint32_t": "uint32",
    "int64_t": "int64",
    "uint64_t": "uint64",
    "size_t": "uint64",
    "float": "float32",
    "double": "float64",
}
# Element type and alignment in bytes, which is also the size but for the three-element ones (not used here).
_VECTORS: Final[dict[str, tuple[str, int]]] = {
    "float2": ("float32", 8),
    "float4": ("float32", 16),
    "double2": ("float64", 16),
    "int2": ("int32", 8),
    "int4": ("int32", 16),
    "uint2": ("uint32", 8),
    "uint4": ("uint32", 16),
    "longlong2": ("int64", 16),
    "char4": ("int8", 4),
    "uchar4": ("uint8", 4),
    "__half": ("float16", 2),
    "__half2": ("float16", 4),
    "__nv_bfloat16": ("bfloat16", 2),
    "__nv_bfloat162": ("bfloat16", 4),
}

_BOUNDS = r"__launch_bounds__\s*\((?P<{}>(?:[^()]|\((?:[^()]|\([^()]*\))*\))*)\)"  # brackets within brackets
_DECLARATION = re.compile(
    rf'extern\s+"C"\s+__global__\s+(?:{_BOUNDS.format("early")}\s*)?void\b\s*(?:{_BOUNDS.format("late")}\s*)?'
    r"(?:@needs_(?P<needs>\d+)\s*)?(?P<name>(?!__\w+__\b)[A-Za-z_]\w*)\s*\((?P<parameters>[^)]*)\)"
)
_FORM = (
    'a kernel must be declared as extern "C" __global__ void name(...) { }, with __launch_bounds__(...) right before '
    "or behind the void and nothing else in between, so that Python can find and launch it by its name"
)
_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*(["<])([^">\n]+)[">]', re.MULTILINE)
_MARK = re.compile(r"\b(?:__global__|__launch_bounds__)\b")
_OR_NULL = "@or_null"
# Where a parameter ends in one of these it has no name.
_NO_NAMES = {word for name in _SCALARS for word in name.split()} | {"const", "__restrict__", "__restrict", *_VECTORS}
_MOST_THREADS = 1024  # of a block, whatever the kernel


@dataclass(frozen=True)
class Parameter:
    """One parameter of a kernel.

    Attributes:
        name: its name in the source.
        declared: its type as it is written, without ``__restrict__``.
        dtype: the name of the element type: ``"float32"`` for ``float``, ``float*`` and ``float4*`` alike.
        is_pointer: True if it takes an array, False if it takes a scalar.
        is_const: True if the kernel only reads what it points to.
        is_restrict: True if what it points to may not overlap what another parameter points to.
        nullable: True if None may be given.
        alignment: bytes the array's address must be a multiple of.
    """

    name: str
    declared: str
    dtype: str
    is_pointer: bool = False
    is_const: bool = False
    is_restrict: bool = False
    nullable: bool = False
    alignment: int = 1

    @cached_property
    def numpy_dtype(self) -> np.dtype[Any]:
        """The element type as a NumPy dtype; bfloat16 needs ml_dtypes."""
        if self.dtype == "bfloat16":
            import ml_dtypes

            return np.dtype(ml_dtypes.bfloat16)
        return np.dtype(self.dtype)


@dataclass(frozen=True)
class Signature:
    """The declaration of a ``__global__`` function.

    Attributes:
        name: the function's name.
        parameters: in order.
        max_threads: threads a block may have: those of its ``__launch_bounds__``, or 1024 where it has none.
        line: the line of the declaration.
        architecture: the oldest GPU that has the kernel, 80 for ``/* needs sm_80 */``; 0 if every GPU has it.
    """

    name: str
    parameters: tuple[Parameter, ...]
    max_threads: int
    line: int
    architecture: int = 0


@dataclass(frozen=True)
class KernelFile:
    """A ``.cu`` file and what it declares.

    Attributes:
        name: the file's name without its suffix.
        path: where it is.
        source: its text.
        headers: the text of each header that it includes, directly or not, by its path from the folder of the file or
            of the kernels, with slashes. Headers from elsewhere, the system's and CUDA's, are not among them.
        functions: its ``__global__`` functions, by name.
    """

    name: str
    path: Path
    source: str
    headers: Mapping[str, str]
    functions: Mapping[str, Signature]

    @cached_property
    def headers_hash(self) -> str:
        """A digest of the included headers: CuPy's cache of compiled kernels does not look into them."""
        import hashlib  # only a launch on a GPU needs it, and it is slow to import

        digest = hashlib.sha256()
        for name in sorted(self.headers):
            digest.update(f"{name}\0{self.headers[name]}\0".encode())
        return digest.hexdigest()[:16]


def kernel_folder() -> Path:
    """The folder of the kernels: the copy inside an installed package, or ``cuda_kernels/`` beside it in a checkout.

    Raises:
        FileNotFoundError: neither is there.
    """
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "_cuda_kernels", package.parent / "cuda_kernels"):
        if folder.is_dir():
            return folder
    raise FileNotFoundError(
        f"the CUDA kernels are missing: neither {package / '_cuda_kernels'} nor {package.parent / 'cuda_kernels'} is "
        "there; this installation of gpunet is incomplete"
    )


def kernel_names() -> tuple[str, ...]:
    """The names of all kernel files, sorted."""
    return tuple(sorted(path.stem for path in kernel_folder().glob("*.cu")))


def kernel_source(name: str) -> str:
    """The CUDA source of the kernel file ``name``.

    Raises:
        KeyError: there is no such file; the message lists the nearest names.
    """
    return kernel_file(name).source


@cache
def kernel_file(name: str) -> KernelFile:
    """The kernel file ``name``, read and parsed once.

    Raises:
        KeyError: there is no such file; the message lists the nearest names.
        ValueError: it declares something that cannot be launched.
    """
    names = kernel_names()
    if name not in names:
        import difflib

        near = difflib.get_close_matches(name, names) or list(names)
        raise KeyError(f"there is no kernel file {name!r}; did you mean {', '.join(near)}?")
    return read_kernel_file(kernel_folder() / f"{name}.cu")


def read_kernel_file(path: Path) -> KernelFile:
    """Read a kernel file from anywhere; headers that do not lie beside it are those of the kernel folder.

    Raises:
        OSError: it cannot be read.
        ValueError: it declares something that cannot be launched.
    """
    source = path.read_text(encoding="utf-8")
    headers = _included(source, (path.parent, kernel_folder()))
    signatures = parse_signatures(source, path.name, headers)
    return KernelFile(path.stem, path, source, MappingProxyType(headers), signatures)


def _included(source: str, folders: Sequence[Path]) -> dict[str, str]:
    """The headers that a source in the first of the folders includes, and those that they include, by their paths.

    As compilers do it: a name in quotes is looked for beside the file that includes it, then, like a name in angle
    brackets, in the folders.
    """
    found: dict[str, str] = {}
    seen: set[Path] = set()
    waiting = [(folders[0], "", source)]
    while waiting:
        root, beside, text = waiting.pop()
        for quote, name in _INCLUDE.findall(text):
            places = [(root, posixpath.join(beside, name))] if quote == '"' else []
            places += [(folder, name) for folder in folders]
            header = next(((folder, path) for folder, path in places if (folder / path).is_file()), None)
            if header is None:
                continue
            folder, path = header[0], posixpath.normpath(header[1])
            if folder / path in seen:
                continue
            seen.add(folder / path)
            content = (folder / path).read_text(encoding="utf-8")
            # Two headers may have the same path, in the one folder and in the other.
            found[path if path not in found else f"{path} in {folder}"] = content
            waiting.append((folder, posixpath.dirname(path), content))
    return dict(sorted(found.items()))


def parse_signatures(
    source: str, name: str = "kernel.cu", headers: Mapping[str, str] | None = None
) -> Mapping[str, Signature]:
    """Read the declarations of all ``__global__`` functions.

    A parameter list may name a macro without arguments, defined in the file or in a header, that stands for several
    parameters. Launch bounds may be an expression of integers, macros and constants.

    Args:
        source: the text of a kernel file.
        name: what to call it in errors.
        headers: the text of the headers that may define such macros and constants, by name.

    Raises:
        ValueError: a ``__global__`` function that Python could not launch: it is not written in the one form that is
            understood, is declared twice or without its body, has a parameter of an unknown type, or launch bounds that
            cannot be read. The message names the file and the line.
    """
    text = _COMMENT.sub(_blank_comment, source)
    texts = [*(_COMMENT.sub(_blank_comment, header) for header in (headers or {}).values()), text]
    macros, constants = macros_in(texts), constants_in(texts)
    signatures: dict[str, Signature] = {}
    read: set[int] = set()  # where what was understood stands
    for match in _DECLARATION.finditer(text):
        read.update(match.start() + at.start() for at in _MARK.finditer(match[0]))
        line = text.count("\n", 0, match.start()) + 1
        function = match["name"]
        if function in signatures:
            raise ValueError(f"{name}:{line}: {function} is declared twice")
        if not re.match(r"\s*\{", text[match.end() :]):
            raise ValueError(
                f"{name}:{line}: {function}: its body {{ ... }} must follow its parameters: nothing may stand in "
                "between, no parameter has brackets, and a kernel is not declared ahead"
            )
        try:
            written = expand(match["parameters"], macros)
            parts = [] if written.split() == ["void"] else written.split(",")
            parameters = tuple(_parse_parameter(part) for part in parts if part.strip())
            bounds = match["early"] or match["late"]
            max_threads = _MOST_THREADS if bounds is None else _threads_of_block(bounds, macros, constants)
        except ValueError as error:
            raise ValueError(f"{name}:{line}: {function}: {error}") from None
        signatures[function] = Signature(function, parameters, max_threads, line, int(match["needs"] or 0))
    # In macros __launch_bounds__ may stand anywhere, a kernel nowhere: lines of the preprocessor are left out for it.
    code = re.sub(r"^[ \t]*#(?:[^\n\\]|\\.)*", _blank, text, flags=re.MULTILINE | re.DOTALL)
    for marks in (_MARK.finditer(text), _MARK.finditer(code)):
        for mark in marks:
            if mark.start() not in read and (mark[0] == "__global__" or mark.string is code):
                line = text.count("\n", 0, mark.start())
                written = " ".join(text.split("\n")[line].split())
                raise ValueError(f"{name}:{line + 1}: cannot read the declaration {written!r}: {_FORM}")
    return MappingProxyType(signatures)


def _threads_of_block(bounds: str, macros: Mapping[str, str | None], constants: Mapping[str, str | None]) -> int:
    """The first number of ``__launch_bounds__``."""
    first = ""
    for part in expand(bounds, macros).split(","):  # a comma within brackets does not end it
        first += part
        if first.count("(") <= first.count(")"):
            break
        first += ","
    try:
        threads = evaluate(first, macros, constants)
    except ValueError as error:
        raise ValueError(f"__launch_bounds__({bounds.strip()}): {error}") from None
    if not 1 <= threads <= _MOST_THREADS:
        raise ValueError(
            f"__launch_bounds__({bounds.strip()}): a block has 1 to {_MOST_THREADS} threads, not {threads}"
        )
    return threads


def _blank(match: re.Match[str]) -> str:
    return re.sub(r"[^\n]", " ", match[0])


def _blank_comment(match: re.Match[str]) -> str:
    """Take a comment out but keep the lines, and the remarks that are part of a declaration."""
    text = match[0].strip("/* ")
    if text == "or null":
        return _OR_NULL
    if needs := re.fullmatch(r"needs sm_(\d+)", text):
        return f"@needs_{needs[1]}"
    return "\n" * match[0].count("\n") or " "


def _parse_parameter(text: str) -> Parameter:
    nullable = _OR_NULL in text
    text = " ".join(text.replace(_OR_NULL, " ").split())
    if array := re.fullmatch(r"([^\[\]]+)\b([A-Za-z_]\w*) ?\[[^\[\]]*\]", text):  # float x[] is float* x
        text = f"{array[1].strip()}* {array[2]}"
    match = re.fullmatch(r"(?P<element>[\w ]+)(?P<pointer>\*[\w *]*)?\b(?P<name>[A-Za-z_]\w*)", text)
    if match is None or not match["element"].strip() or match["name"] in _NO_NAMES:
        raise ValueError(
            f"cannot read the parameter {text!r}: it is a type, * and __restrict__ if it takes an array, and a name"
        )
    name, words = match["name"], match["element"].split()
    pointer = (match["pointer"] or "").replace("*", " * ").split()
    is_pointer = pointer[:1] == ["*"]
    is_restrict = "__restrict__" in pointer or "__restrict" in pointer
    is_const = "const" in words  # float const* is const float*
    element = " ".join(word for word in words if word != "const")
    declared = f"{'const ' if is_const else ''}{element}{'*' * pointer.count('*')}"
    # What is said of the pointer itself, which is the kernel's own copy, makes no difference to who launches it.
    if set(pointer[1:]) - {"const", "__restrict__", "__restrict"}:
        raise ValueError(f"{name} has the type {declared!r}, which gpunet cannot pass to a kernel")
    if nullable and not is_pointer:
        raise ValueError(f"{name} is no pointer, so it cannot be null")
    if element in _SCALARS:
        dtype = _SCALARS[element]
        alignment = np.dtype(dtype).itemsize
    elif is_pointer and element in _VECTORS:
        dtype, alignment = _VECTORS[element]
    else:
        raise ValueError(f"{name} has the type {declared!r}, which gpunet cannot pass to a kernel")
    return Parameter(name, declared, dtype, is_pointer, is_const and is_pointer, is_restrict, nullable, alignment)
