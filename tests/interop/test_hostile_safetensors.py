"""safetensors files that somebody made to harm: nothing runs, memory stays bounded, each is one CheckpointError."""

from __future__ import annotations

import io
import json
import struct
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gpunet as gn
from gpunet.interop import load_safetensors

from .watching import refused


def with_header(header: Any, data: bytes = b"", size: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if size is None else size) + text + data


def entry(dtype: Any, shape: Any, place: Any) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": place}


def refused_safetensors(content: bytes, text: str = "damaged or cut short", megabytes: float | None = 8) -> None:
    refused(content, text, megabytes, readers=(load_safetensors, gn.load))


@pytest.mark.parametrize(
    "entries, text",
    [
        ({"a": entry("F32", [1], [0, 4]), "b": entry("F32", [1], [0, 4])}, "its tensors overlap"),
        ({"a": entry("F32", [1], [0, 4]), "b": entry("F32", [1], [2, 6])}, "its tensors overlap"),
        ({"a": entry("F32", [1], [4, 8])}, "there is a gap between its tensors"),
        ({"a": entry("F32", [1], [0, 4])}, "its tensors take 4 bytes, and 8 are there"),
        ({"a": entry("F32", [3], [0, 12])}, "its tensors take 12 bytes, and 8 are there"),
        ({"a": entry("F32", [2], [-8, 0])}, "no size"),
        ({"a": entry("F32", [2], [8, 0])}, "another number of bytes"),
        ({"a": entry("F32", [2], [0, 2**70])}, "no size"),
        ({"a": entry("F32", [-2], [0, 8])}, "no size"),
        ({"a": entry("F32", [2.0], [0, 8])}, "no size"),
        ({"a": entry("F32", [True, 2], [0, 8])}, "no size"),
        ({"a": entry("F32", ["2"], [0, 8])}, "no size"),
        ({"a": entry("F32", [1] * 65 + [2], [0, 8])}, "no size"),
        ({"a": entry("F32", 2, [0, 8])}, "no size"),
        ({"a": entry("F32", [2], [0, 8, 8])}, "no size"),
        ({"a": entry("F32", [2], {"begin": 0})}, "no size"),
        ({"a": entry("F32", [2**40, 2**40], [0, 8])}, "impossible shape"),
        ({"a": entry("F32", [0, 2**40, 2**40], [0, 0]), "b": entry("F32", [2], [0, 8])}, "impossible shape"),
        ({"a": entry("F32", [2**31, 2], [0, 8])}, "another number of bytes"),
        ({"a": entry("F64", [2], [0, 8])}, "another number of bytes"),
        ({"a": entry("O", [2], [0, 8])}, "'a' is of type O, which NumPy does not have"),
        ({"a": entry(3, [2], [0, 8])}, "'a' is of type no name"),
        ({"a": entry("F" * 10**4, [2], [0, 8])}, "'a' is of type FFFF"),
        ({"a": entry("F32", [2], [0, 8]) | {"code": "os.system"}}, "in an unknown way"),
        ({"a": {"dtype": "F32"}}, "in an unknown way"),
        ({"a": 3}, "in an unknown way"),
        ({"a": 1.5}, "in an unknown way"),
        ({"a": None}, "in an unknown way"),
        ({"a": [1]}, "in an unknown way"),
        ({"__metadata__": 3, "a": entry("F32", [2], [0, 8])}, "metadata are not strings"),
        ({"__metadata__": {"a": 3}, "a": entry("F32", [2], [0, 8])}, "metadata are not strings"),
    ],
)
def test_headers_that_lie(entries, text):
    refused_safetensors(with_header(entries, bytes(8)), text)


def test_bools_that_are_neither():
    # NumPy counts on 0 and 1, and may write beyond an array where it meets a 2.
    refused_safetensors(with_header({"a": entry("BOOL", [2], [0, 2])}, b"\x01\xff"), "neither true nor false")


def test_headers_that_are_no_headers():
    place = b'{"dtype":"F32","shape":[2],"data_offsets":[0,8]}'
    refused_safetensors(with_header(b'{"a":' + place + b',"a":' + place + b"}", bytes(8)), "has a key twice")
    refused_safetensors(with_header(b'{"a":' * 100_000), "its header is nested too deeply", megabytes=None)
    refused_safetensors(with_header(b'{"a":' + b"[" * 100_000), "its header is nested too deeply", megabytes=None)
    refused_safetensors(with_header(b'{"a":' + b"9" * 10_000 + b"}"), "a number of thousands of digits")
    refused_safetensors(with_header(b'{"\xff":1}'), "is not text in UTF-8")
    refused_safetensors(with_header(b'{"a":NaN}'), "in an unknown way")
    refused_safetensors(with_header(b"{" + b" " * 20 + b"]"), "its header is not JSON")
    for size in (2**63, 2**64 - 1, 2**40, 10**9):
        refused_safetensors(with_header({}, size=size), "the header alone takes")


@pytest.mark.parametrize(
    "structure, text",
    [
        ("9" * 10_000, "a number of thousands of digits"),
        ("{", "it is not JSON"),
        ('{"list":[' * 100_000, "nested too deeply"),
        ('{"tensor":[]}', "a value where another kind belongs"),
        ('{"float":[]}', "a value where another kind belongs"),
        ('{"dict":1.5}', "a value where another kind belongs"),
        ('{"dict":[[{"list":[]},1]]}', "a value where another kind belongs"),
        ('{"\\n":1}', r"unknown kind '\\n'"),
    ],
)
def test_structures_that_are_no_structures(structure, text):
    content = with_header({"__metadata__": {"gpunet.format": "1", "gpunet.structure": structure}})
    refused(content, f"contents is damaged .*{text}", None, readers=(gn.load,))


def test_a_header_that_is_too_long(tmp_path):
    # 100 MB and a bit, of which nothing is read: the file has a hole.
    path = tmp_path / "x"
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", 100_000_001) + b"{")
        file.truncate(100_000_100)
    tracemalloc.start()
    with pytest.raises(gn.CheckpointError, match=r"its header takes 100,000,001 bytes, at most 100,000,000 are read"):
        gn.load(path)
    assert tracemalloc.get_traced_memory()[1] < 1e6
    tracemalloc.stop()


@settings(max_examples=300, deadline=5000)
@given(st.data())
def test_random_changes_of_a_safetensors_file(data):
    good = with_header(
        {"a": entry("F32", [2], [0, 8]), "b": entry("BOOL", [2], [8, 10]), "c": entry("I64", [], [10, 18])}, bytes(18)
    )
    content = bytearray(good)
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = load_safetensors(io.BytesIO(bytes(content)))
    except gn.CheckpointError:
        return
    assert sum(array.nbytes for array in found.values()) == 18
    assert all(isinstance(array, np.ndarray) for array in found.values())
