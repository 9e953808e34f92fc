"""The arrays of a safetensors file: a length, a JSON header, and the data, all of it checked before it is used."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np

from gpunet.backend.errors import CheckpointError, DTypeError
from gpunet.interop._source import Source
from gpunet.ops.dtypes import bfloat16

__all__ = ["NUMPY_NAMES", "Malformed", "in_words", "parse_json", "read_safetensors"]

MAX_HEADER = 100_000_000  # the format's own limit, in bytes
MAX_DIMS = 64  # NumPy's
# The format's names for the types that NumPy and ml_dtypes have.
NUMPY_NAMES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "BOOL": "bool"} | {
    f"{letter}{bits}": f"{kind}{bits}" for letter, kind in (("I", "int"), ("U", "uint")) for bits in (8, 16, 32, 64)
}


class Malformed(ValueError):
    """What is wrong with a file, in words for whoever has it."""


def read_safetensors(source: Source) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays by name, in the header's order, and the metadata.

    Raises:
        CheckpointError: the file is damaged, cut short, or of another kind; the message says which file and why.
    """
    _refuse_visibly_wrong(source)
    size = int.from_bytes(source.read(0, 8), "little")
    try:
        header = parse_json(_text(source.read(8, size)), "its header", object_pairs_hook=_once)
        metadata = header.pop("__metadata__", {})
        if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
            raise Malformed("its metadata are not strings")
        entries = {key: _entry(key, entry) for key, entry in header.items()}
        _check_places([place for _, _, place in entries.values()], source.size - 8 - size)
        return {
            key: _array(source, key, dtype, shape, 8 + size + begin, end - begin)
            for key, (dtype, shape, (begin, end)) in entries.items()
        }, metadata
    except DTypeError as error:
        raise CheckpointError(f"{source.name}: {error}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{source.name}: damaged or cut short ({in_words(error)})") from error


def _refuse_visibly_wrong(source: Source) -> None:
    """Refuse what the first 16 bytes show not to be a safetensors file."""
    name, start, size = source.name, source.read(0, min(source.size, 16)), source.size
    if start[:2] == b"PK":
        raise CheckpointError(f"{name}: a zip archive, as torch.save writes, not a safetensors file")
    if size < 10 or start[8:9] != b"{":
        if start[:1] == b"\x80":
            raise CheckpointError(f"{name}: a pickle, which gpunet never loads, not a safetensors file")
        raise CheckpointError(f"{name}: neither a safetensors file nor one that torch.save wrote")
    header_size = int.from_bytes(start[:8], "little")
    if header_size > size - 8:
        raise CheckpointError(
            f"{name}: cut short: the header alone takes {header_size + 8:,} bytes, the file has {size:,}"
        )
    if header_size > MAX_HEADER:
        raise CheckpointError(f"{name}: its header takes {header_size:,} bytes, at most {MAX_HEADER:,} are read")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Malformed("its header has a key twice")
    return found


def _entry(key: str, entry: Any) -> tuple[np.dtype[Any], tuple[int, ...], tuple[int, int]]:
    """Dtype, shape and place of a tensor, whose number of bytes fits them."""
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise Malformed("its header describes a tensor in an unknown way")
    dtype, shape, place = _dtype(key, entry["dtype"]), entry["shape"], entry["data_offsets"]
    if not _sizes(shape) or not _sizes(place) or len(shape) > MAX_DIMS or len(place) != 2:
        raise Malformed("its header holds a shape or an offset that is no size")
    begin, end = place
    if math.prod(size for size in shape if size) * dtype.itemsize >= 2**62:
        raise Malformed("its header holds an impossible shape")
    if end - begin != math.prod(shape) * dtype.itemsize:
        raise Malformed("its header gives a tensor another number of bytes than its shape takes")
    return dtype, tuple(shape), (begin, end)


def _sizes(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int and 0 <= value < 2**62 for value in values)


def _check_places(places: list[tuple[int, int]], size: int) -> None:
    """All bytes belong to one tensor each, as the format has it."""
    position = 0
    for begin, end in sorted(places):
        if begin != position:
            raise Malformed("its tensors overlap" if begin < position else "there is a gap between its tensors")
        position = end
    if position != size:
        raise Malformed(f"its tensors take {position:,} bytes, and {size:,} are there")


def _array(
    source: Source, key: str, dtype: np.dtype[Any], shape: tuple[int, ...], offset: int, count: int
) -> np.ndarray:
    data = source.array(offset, count)
    if count and data.__array_interface__["data"][0] % dtype.itemsize:  # in a mapped file that was not padded
        data = data.copy()
    if dtype.kind == "b" and count and int(data.max()) > 1:
        raise Malformed("it holds a bool that is neither true nor false")
    return data.view(dtype).reshape(shape)


def _dtype(key: str, name: Any) -> np.dtype[Any]:
    found = NUMPY_NAMES.get(name) if isinstance(name, str) else None
    if found is None:
        shown = ascii(name)[1:-1] if isinstance(name, str) else "no name"
        raise DTypeError(f"{key[:100]!a} is of type {shown[:100]}, which NumPy does not have")
    return bfloat16() if found == "bfloat16" else np.dtype(found)


def _text(content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise Malformed("its header is not text in UTF-8") from None


def parse_json(text: str, what: str, **options: Any) -> Any:
    """What a JSON text says; ``what`` it is begins the message.

    Raises:
        Malformed: it is no JSON, or has numbers or levels beyond reason.
    """
    try:
        return json.loads(text, **options)
    except (Malformed, json.JSONDecodeError) as error:
        raise (error if isinstance(error, Malformed) else Malformed(f"{what} is not JSON")) from None
    except RecursionError:
        raise Malformed(f"{what} is nested too deeply") from None
    except ValueError:  # Python's limit of digits
        raise Malformed(f"{what} holds a number of thousands of digits") from None


def in_words(error: Exception) -> str:
    """What is wrong, without Python's own way to put it."""
    if isinstance(error, Malformed):
        return str(error)
    return "nested too deeply" if isinstance(error, RecursionError) else "it holds a value where another kind belongs"
