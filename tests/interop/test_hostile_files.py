"""``.pth`` files made to harm: nothing in them runs, memory stays bounded, and each is one CheckpointError."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import struct
import subprocess
import sys
import time
import tracemalloc
import zipfile
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gpunet as gn
from gpunet.interop import load_pth
from gpunet.interop import pth_pickle as limits

from .pth_writer import (
    MAGIC,
    ORDERED_DICT,
    PROTO,
    REBUILD,
    STOP,
    SYSTEM,
    VERSION,
    floats,
    legacy,
    program,
    storage,
    tensor,
    value,
    zipped,
)
from .watching import FILES, nothing_runs, refused

ONE = {"0": floats(1.0)}


def test_what_is_run_would_be_seen():
    for harm in (lambda: os.system("true"), lambda: pickle.loads(b"cos\nsystem\n."), lambda: eval("1")):  # noqa: S301, S307
        with pytest.raises(AssertionError), nothing_runs():
            harm()


def both(thing: Any, storages: dict[str, bytes] | None = None) -> list[bytes]:
    """The same pickle in both formats, for one that has no storages."""
    return [zipped(program(thing), storages or {}), legacy(program(thing), {})]


# Programs ----------------------------------------------------------------------------------------------------------

NAMES = [
    b"os\nsystem", b"posix\nsystem", b"nt\nsystem", b"builtins\neval", b"builtins\nexec", b"__builtin__\neval",
    b"builtins\ngetattr", b"builtins\n__import__", b"subprocess\nPopen", b"torch\nload", b"torch\nos.system",
    b"torch._utils\n_rebuild_tensor_v2.__globals__", b"torch.serialization\nos", b"collections\nOrderedDict.fromkeys",
    b"numpy.core.multiarray\n_reconstruct", b"numpy\nload", b"gpunet\nload", b"pickle\nloads", b"antigravity\n__doc__",
    b"torch._utils\n_rebuild_sparse_tensor", b"torch.hub\nload", b"runpy\nrun_path", b"os.path\n..system", b"\n",
    b"\xff\xfe\n\x00\x1b[31m",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_names_that_no_state_dict_has(name):
    arguments = value(("touch gpunet-was-here",))
    module, _, attribute = name.partition(b"\n")
    short = lambda text: b"\x8c" + bytes([len(text)]) + text  # noqa: E731
    forms = [b"c" + name + b"\n" + arguments + b"R", b"c" + name + b"\n"]
    with contextlib.suppress(UnicodeDecodeError):
        module.decode(), attribute.decode()
        forms.append(short(module) + short(attribute) + b"\x93" + arguments + b"R")
    for form in forms:
        for content in both({"a": form}):
            assert "nothing was run" in refused(content, "its pickle names ")


@pytest.mark.parametrize(
    "thing",
    [
        b"ctorch\nFloatStorage\n" + value((3,)) + b"R",
        b"ctorch\nfloat32\n)R",
        value(("a", "b")) + b")R",
        ORDERED_DICT + value([]) + b"R",
        ORDERED_DICT + value((1, 2, 3)) + b"R",
        ORDERED_DICT + value(([1, 2],)) + b"R",
        ORDERED_DICT + value((([("a", 1)],), 2)) + b"R",
        ORDERED_DICT + value(([((1, 2), 3)],)) + b"R",
        b"ctorch\nSize\n" + value(((1, "x"),)) + b"R",
        b"ctorch\ndevice\n" + value(("cpu", "x")) + b"R",
        b"ctorch\ndevice\n)R",
        REBUILD + b")R",
        REBUILD + value((1, 2, 3)) + b"R",
        REBUILD + value((1, 0, (1,), (1,), False, None)) + b"R",
        b"ctorch._utils\n_rebuild_parameter\n" + value((1, True, None)) + b"R",
        b"ctorch._utils\n_rebuild_tensor_v3\n" + value((1, 0, (1,), (1,), False, None, "x")) + b"R",
        b"ctorch._tensor\n_rebuild_from_type_v2\n" + value((b"ctorch\nSize\n", b"ctorch\nTensor\n", (), {})) + b"R",
        b"c_codecs\nencode\n" + value(("x", "rot13")) + b"R",
        b"c_codecs\nencode\n" + value(("x", "\u1234")) + b"R",
        b"cbuiltins\nset\n" + value(([[1]],)) + b"R",
        b"cbuiltins\nset\n" + value(([((), ())],)) + b"R",
        b"cbuiltins\nbytes\n" + value((10**15,)) + b"R",
        b"cnumpy\ndtype\n" + value(("O8",)) + b"R",
        b"cnumpy\ndtype\n)R",
        ORDERED_DICT,
        b"ctorch\nFloatStorage\n",
        ORDERED_DICT + b")R" + value(5) + b"b",
        value([1]) + value({"__class__": 1}) + b"b",
        value(1) + value({"x": 1}) + b"b",
        value("not a storage") + b"Q",
        value(("storage", "FloatStorage", "0", "cpu", 1)) + b"Q",
        value(("storage", b"ctorch\nfloat32\n", "0", "cpu", 1)) + b"Q",
        value(("storage", b"ctorch\nFloatStorage\n", 0, "cpu", 1)) + b"Q",
        value(("storage", b"ctorch\nFloatStorage\n", "0", "cpu", "1")) + b"Q",
        value(("storage", b"ctorch\nFloatStorage\n", "0", "cpu", -1)) + b"Q",
        value(("storage", b"ctorch\nFloatStorage\n", "0", "cpu", 2**70)) + b"Q",
        value(((),)) + b"Q",
        b")Q",
    ],
)  # fmt: skip
def test_calls_and_states_that_make_no_sense(thing):
    for content in both({"a": thing}, ONE):
        refused(content, "^the file: ")


@pytest.mark.parametrize(
    "code",
    [
        b"i", b"o", b"\x81", b"\x92", b"\x82", b"\x83", b"\x84", b"P", b"I", b"L", b"F", b"S", b"V", b"p", b"g", b"d",
        b"l", b"0", b"1", b"2", b"\x90", b"\x91", b"\x8f", b"\x96", b"\x97", b"\x98", b"\x00", b"\xff", b"\n",
    ],
)  # fmt: skip
def test_opcodes_that_no_state_dict_needs(code):
    for content in both({"a": code + b"os\nsystem\n"}):
        refused(content, "uses opcode 0x[0-9a-f]{2}, which no state dict needs")


@pytest.mark.parametrize(
    "code",
    [b"a", b"e", b"s", b"u", b"t", b"\x85", b"\x86", b"\x87", b"R", b"b", b"Q", b"q\x00", b"\x94", b"h\x09",
     b"j\x00\x00\x00\x00", b"\x93", b"(", b"}K\x01K\x02a", b"](K\x01u", b"}(K\x01u"],
)  # fmt: skip
def test_machines_that_run_dry(code):
    pickle_ = PROTO + code + STOP
    for content in (zipped(pickle_, {}), legacy(pickle_, {}), MAGIC + VERSION + pickle_, MAGIC + pickle_, pickle_):
        refused(content, "its pickle|that torch.save wrote")


def test_keys_that_cannot_be_hashed_in_time():
    # Each tuple holds the one before it twice: hashing the last would take 2^100 steps.
    nested = b")" + b"q\x00h\x00\x86" * 100
    for key in (nested, value([]), value({}), tensor(), value((1, 2))):
        refused(zipped(PROTO + b"}" + key + b"K\x01s" + STOP, ONE), "a dict with a key of type")
    same_hash = {(2**61 - 1) * i: 1 for i in range(2**10, 2**11)}
    refused(zipped(program(same_hash), {}), "a dict with a key of type int")


def test_what_holds_itself():
    for thing in (b"]q\x00h\x00a", b"}q\x00" + value("a") + b"h\x00s", b"]q\x00h\x00\x85q\x01a"):
        for content in both(thing):
            refused(content, "holds a (list|dict|tuple) that holds itself")


@pytest.mark.parametrize(
    "bomb",
    [b"]" * 100_000 + b"a" * 99_999, b")" + b"\x85" * 100_000, b"}" + b"K\x00}" * 100_000 + b"s" * 100_000,
     b"(" * 100_000 + b"t" * 100_000],
    ids=["lists", "tuples", "dicts", "marks"],
)  # fmt: skip
def test_values_nested_100000_deep(bomb):
    for content in both(bomb):
        refused(content, "nested too deeply", megabytes=None, readers=(load_pth,))


def test_values_that_double_at_every_level_stay_shared():
    # A tree of 2^40 leaves if it were copied.
    thing = value([1]) + b"q\x00" + b"](h\x00h\x00eq\x00" * 40
    start = time.perf_counter()
    found = load_pth(io.BytesIO(zipped(PROTO + b"](" + thing + b"e" + STOP, {})))
    assert time.perf_counter() - start < 5
    for _ in range(40):
        found = found[-1]
        assert found[0] is found[-1]


def test_programs_that_fill_the_memory(monkeypatch):
    monkeypatch.setattr(limits, "MAX_CONTAINERS", 10_000)
    monkeypatch.setattr(limits, "MAX_MEMO", 10_000)
    for filler in (b"}", b"]", b"(", b")\x85", b"]]\x86"):
        for content in both(filler * 20_000):
            refused(content, "makes more than 10,000 containers")
    for content in both(b"N" + b"\x94" * 20_000):
        refused(content, "remembers more than 10,000 values")
    for content in both(b"\x8b" + struct.pack("<I", 300) + bytes(300)):
        refused(content, "an integer of 300 bytes")


@pytest.mark.parametrize("filler", [b"}", b"(", b"N\x94", b"K\x01", b"]", b"U\x02\xc4\x80", b")\x85"])
def test_memory_is_a_multiple_of_the_files_size(filler):
    # Full of the cheapest opcodes: what they make is bounded by the bytes they took.
    size = 2**16
    content = PROTO + filler * (size // len(filler)) + STOP
    refused(zipped(content, {}), "leaves values", megabytes=200 * size / 1e6, readers=(load_pth,))


def test_lengths_that_are_not_there():
    full = b"\xff" * 8
    for code in (
        b"X" + full[:4], b"\x8d" + full, b"B\xff\xff\xff\x7f", b"\x8e" + full, b"T" + full[:4], b"\x8b" + full[:4],
        b"\x95" + full, b"X", b"J\x00", b"G\x00", b"c" + b"x" * 1000,
    ):  # fmt: skip
        for content in both(code):
            refused(content, "has no end|integer of|leaves values|without an end|names ")
    long = zipped(program("x" * 2000), {})
    long = long.replace(b"X" + struct.pack("<I", 2000), b"X" + struct.pack("<I", 2**31))
    refused(long, "CRC-32 of its member archive/data.pkl")


def test_a_pickle_that_is_too_long(monkeypatch):
    from gpunet.interop import pth

    monkeypatch.setattr(pth, "MAX_PICKLE", 2**12)
    monkeypatch.setattr(pth, "_FIRST_READ", 2**10)
    refused(zipped(program("x" * 2**13), {}), "its pickle is of 8,2.. bytes; at most 4,096 are read")
    refused(legacy(program("x" * 2**13), {}), "its pickle is longer than the 4,096 bytes")


# Tensors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "which",
    [
        {"shape": (5,)}, {"shape": (4,), "offset": 1}, {"offset": 4}, {"offset": 2**61}, {"offset": 2**64},
        {"offset": -1}, {"offset": "0"}, {"offset": None}, {"offset": 1.0}, {"offset": True},
        {"shape": (-1,)}, {"shape": (2**62,)}, {"shape": (2**40, 2**40), "strides": (1, 1)}, {"shape": [4]},
        {"shape": (2**21,), "strides": (0,)}, {"shape": (2**31, 2**31), "strides": (0, 0)}, {"shape": ("4",)},
        {"shape": (2,), "strides": (-1,), "offset": 3}, {"shape": (2,), "strides": (2**62,)},
        {"shape": (2,), "strides": (4,)}, {"shape": (2, 2), "strides": (3, 1)}, {"shape": (2, 2), "strides": (1,)},
        {"shape": (1,) * 65, "strides": (1,) * 65}, {"shape": (0, 2**62), "strides": (1, 1)},
        {"shape": (0, 2**40, 2**40), "strides": (1, 1, 1)}, {"shape": (2,), "strides": (1.0,)}, {"shape": 4},
        {"shape": (2**63 - 1,), "strides": (0,)}, {"shape": (2**500,), "strides": (0,)}, {"strides": None},
        {"shape": (4,), "hooks": value({"a": 1})},
    ],
)  # fmt: skip
def test_tensors_that_do_not_lie_in_their_storage(which):
    which = {"shape": (4,), "strides": (1,), "offset": 0} | which
    refused(zipped(program({"a": tensor(count=4, **which)}), {"0": floats(1, 2, 3, 4)}), "a tensor|that torch.save")
    old = program({"a": tensor(count=4, old=True, **which)})
    refused(legacy(old, {"0": (4, floats(1, 2, 3, 4))}), "a tensor")


@pytest.mark.parametrize("count", [0, 2, 3, 5, 2**20, 2**40, 2**58, 2**60, 2**63, -1])
def test_storages_of_another_size_than_is_said(count):
    text = "a storage of|should have|cut short|is of two sizes|impossible size"
    pickle_ = program({"a": tensor((0,), (1,), count=count)})
    refused(zipped(pickle_, {"0": floats(1, 2, 3, 4)}), text)
    refused(legacy(program({"a": tensor((0,), (1,), count=count, old=True)}), {"0": (4, floats(1, 2, 3, 4))}), text)
    # The number before the storage's bytes, in the old format.
    good = program({"a": tensor((4,), (1,), count=4, old=True)})
    for said in {count, -4, 2**62} - {2**63}:
        refused(legacy(good, {"0": (said, floats(1, 2, 3, 4))}), text)


def test_storages_that_are_not_there():
    two = {"a": tensor(key="0"), "b": tensor(key="1")}
    refused(zipped(program(two), ONE), "it has no storage '1'")
    refused(zipped(program({"a": tensor(key="../../etc/passwd")}), ONE), "it has no storage '../../etc/passwd'")
    two = {"a": tensor(key="0", old=True), "b": tensor(key="1", old=True)}
    one = (1, floats(1))
    for keys in (["0"], ["0", "1", "2"], ["0", "0"], [0, 1], {}, "01", None, ["0", "2"]):
        refused(legacy(program(two), {"0": one, "1": one}, keys=[] if keys is None else keys), "list of storages")
    refused(legacy(program(two), {"0": one, "1": one}) + b"x", "goes on for 1 bytes behind its last storage")
    refused(legacy(program(two), {"0": one, "1": one})[:-1], "not all there")
    refused(legacy(program(two), {"0": one, "1": one})[:-4], "not all there")
    part = storage(old=True, part=("9", 0, 2))
    refused(legacy(program(tensor(of=part)), {"0": one}), "a part that reaches beyond its storage")
    for wrong in ((1,), ("9", -1, 1), ("9", 2**70, 1), "9", ("9", "0", "1")):
        refused(legacy(program(tensor(of=storage(old=True, part=wrong))), {"0": one}), "a part")


def test_one_storage_under_two_types():
    pickle_ = program({"a": tensor(kind="Float"), "b": tensor(kind="Double")})
    refused(zipped(pickle_, ONE), "has 4 bytes and should have 8")
    old = program({"a": tensor((2,), (1,), count=2, old=True), "b": tensor(kind="Double", old=True)})
    refused(legacy(old, {"0": (2, floats(1, 2))}), "is of two sizes")


def test_bools_that_are_neither():
    # NumPy counts on 0 and 1, and may write beyond an array where it meets a 2.
    refused(zipped(program(tensor((2,), (1,), kind="Bool", count=2)), {"0": b"\x01\x02"}), "neither true nor false")


def test_byte_orders_that_do_not_exist():
    for order in ("middle", "", "LITTLE", "\x00"):
        refused(zipped(program(tensor()), ONE, order=order), "its byte order is '")


# Zip archives ------------------------------------------------------------------------------------------------------

GOOD = zipped(program({"a": tensor((2,), (1,), count=2)}), {"0": floats(1, 2)})


NAMES_OUTSIDE = [
    "../../x", "archive/../../x", "/etc/passwd", "archive\\..\\x", "C:\\x", "other/x", "x", "archive/..",
    "archive/a/../../b",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES_OUTSIDE)
def test_names_that_lead_out_of_the_folder(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(zipped(program({}), {}, {name: b"text"}), "a zip archive with a member named ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_is_there_twice():
    refused(zipped(program({}), {}, {"archive/data.pkl": program({"a": 1})}), "two members named 'archive/data.pkl'")


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_members_that_are_compressed(method):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr("a/data.pkl", program({"a": tensor((10**7,), (1,), count=10**7)}))
        archive.writestr("a/data/0", bytes(4 * 10**7))
    assert len(buffer.getvalue()) < 10**5
    refused(buffer.getvalue(), "is compressed, which torch.save never does")


def changed(position: int, form: str, *values: int, content: bytes = GOOD) -> bytes:
    broken = bytearray(content)
    struct.pack_into(form, broken, position, *values)
    return bytes(broken)


def directory(content: bytes = GOOD) -> int:
    return content.index(b"PK\x01\x02")


def test_members_that_are_encrypted():
    for flags in (1, 0x40, 0x41):
        refused(changed(directory() + 8, "<H", flags), "is encrypted")
        refused(changed(6, "<H", flags), "the header of its member archive/data.pkl is unreadable")


def test_wrong_checksums():
    at = GOOD.index(floats(1, 2))
    refused(changed(at, "<f", 3), "damaged: the CRC-32 of its member archive/data/0 is wrong")
    refused(
        changed(GOOD.index(b"\x80\x02") + 3, "<B", 0), "damaged: the CRC-32 of its member archive/data.pkl is wrong"
    )


@pytest.mark.parametrize("size", [0, 1, 10**6, 2**31, 2**32 - 2, 2**32 - 1])
def test_members_of_another_size_than_is_said(size):
    at = GOOD.rindex(b"PK\x01\x02", 0, GOOD.rindex(b"archive/data/0"))
    refused(changed(at + 20, "<II", size, size), "cut short|overlap|CRC-32|should have")
    refused(changed(at + 24, "<I", size), "is compressed|cut short")
    refused(changed(at + 42, "<I", size), "not there|unreadable|another name")


def with_zip64(size: int, offset: int, *, extra: int = 16) -> bytes:
    """A member whose size and place are in 64 bits."""
    name = b"archive/data.pkl"
    field = struct.pack("<HHQQ", 1, extra, size, size) + struct.pack("<Q", offset)
    pickle_ = program({})
    local = struct.pack("<4s5H3I2H", b"PK\x03\x04", 45, 0, 0, 0, 0, 0, 0, 0, len(name), 0) + name + pickle_
    entry_ = struct.pack(
        "<4s6H3I5H2I", b"PK\x01\x02", 45, 45, 0, 0, 0, 0, 0, 2**32 - 1, 2**32 - 1, len(name), len(field), 0, 0, 0, 0,
        2**32 - 1,
    )  # fmt: skip
    listed = entry_ + name + field
    return local + listed + struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 1, 1, len(listed), len(local), 0)


def test_64_bit_sizes():
    size = len(program({}))
    assert load_pth(io.BytesIO(with_zip64(size, 0, extra=24))) == {}
    for wrong in ((2**63, 0), (2**64 - 1, 0), (size, 2**63), (size, 2**64 - 1), (2**40, 0), (0, 0), (size + 1, 0)):
        refused(with_zip64(*wrong, extra=24), "cut short|not there|has no end|overlap")
    refused(with_zip64(size, 0, extra=4), "cut short|not there")
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, 2**63, 1)
    end = GOOD.rindex(b"PK\x05\x06")
    refused(GOOD[:end] + locator + GOOD[end:], "not where it says")


def test_members_that_overlap():
    # Many names for the same bytes: reading each would take a thousand times the file's size.
    data = bytes(2**20)
    content = bytearray(zipped(program({}), {f"{i}": b"" for i in range(50)} | {"x": data}))
    at, spot = directory(bytes(content)), bytes(content).index(b"archive/data/x") - 30
    while content[at : at + 4] == b"PK\x01\x02":
        struct.pack_into("<I", content, at + 42, spot)
        at += 46 + struct.unpack_from("<H", content, at + 28)[0]
    refused(bytes(content), "another name in its own header")
    one = GOOD.rindex(b"PK\x01\x02", 0, GOOD.rindex(b"archive/version"))
    refused(changed(one + 20, "<II", 40, 40), "overlap|cut short")
    first = GOOD.index(b"PK\x01\x02")
    refused(changed(first + 20, "<II", 300, 300), "overlap")


def test_a_directory_that_is_not_where_it_says():
    end = GOOD.rindex(b"PK\x05\x06")
    for position, form in ((12, "<I"), (16, "<I")):
        for number in (0, 1, 2**20, 2**31, 2**32 - 1):
            refused(changed(end + position, form, number), "not where it says|without members")
    refused(b"PK\x03\x04" + GOOD, "not where it says")
    refused(GOOD + GOOD, "not where it says")
    refused(b"PK\x03\x04" + b"PK\x05\x06" * 1000, "zip archive")


# Cut and changed files ---------------------------------------------------------------------------------------------

SMALL = {
    "zip": zipped(program({"a": tensor((2,), (1,), count=2), "n": 3}), {"0": floats(1, 2)}),
    "legacy": legacy(program({"a": tensor((2,), (1,), count=2, old=True), "n": 3}), {"0": (2, floats(1, 2))}),
}


@pytest.mark.parametrize("name", SMALL)
def test_a_file_cut_at_every_byte(name, tmp_path):
    content = SMALL[name]
    assert load_pth(io.BytesIO(content))["a"].tolist() == [1, 2]
    path = tmp_path / "x.pth"
    for size in range(len(content)):
        with pytest.raises(gn.CheckpointError):
            load_pth(io.BytesIO(content[:size]))
        if size % 7 == 0:
            path.write_bytes(content[:size])
            for mapped in (False, True):
                with pytest.raises(gn.CheckpointError, match=r"x\.pth"):
                    load_pth(path, mmap=mapped)


@pytest.mark.parametrize("name", [*SMALL, "mixed.pth", "mixed_legacy.pth"])
def test_every_byte_changed(name):
    content = bytearray(SMALL.get(name) or (FILES / name).read_bytes())
    for position in range(len(content)):
        kept = content[position]
        for change in (0xFF, 0x01, 0x80) if name in SMALL else (1 << position % 8,):
            content[position] = kept ^ change
            with contextlib.suppress(gn.CheckpointError):
                load_pth(io.BytesIO(bytes(content)))
        content[position] = kept


CORPUS = [*SMALL.values(), (FILES / "no_crc.pth").read_bytes(), (FILES / "mixed_legacy.pth").read_bytes()]
PIECES = [b"R", b"Q", b"t", b"(", b"}", b"]", b"e", b"u", b".", b"h\x00", b"q\x00", b"\x85", b"b", b"cos\nsystem\n"]


@settings(max_examples=250, deadline=5000)
@given(st.data())
def test_random_changes_never_do_more_than_fail(data):
    content = bytearray(data.draw(st.sampled_from(CORPUS)))
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(content) - 1))
        kind = data.draw(st.sampled_from(["flip", "insert", "cut", "number"]))
        if kind == "flip":
            content[position] = data.draw(st.integers(0, 255))
        elif kind == "insert":
            content[position:position] = data.draw(st.sampled_from(PIECES))
        elif kind == "number" and position + 4 <= len(content):
            content[position : position + 4] = data.draw(st.sampled_from([b"\xff" * 4, bytes(4), b"\xff\xff\xff\x7f"]))
        else:
            del content[position : position + data.draw(st.integers(1, 8))]
    tracemalloc.start()
    try:
        with contextlib.suppress(gn.CheckpointError), nothing_runs():
            gn.load(io.BytesIO(bytes(content)))
        assert tracemalloc.get_traced_memory()[1] < 5e7
    finally:
        tracemalloc.stop()


OPCODES = st.sampled_from(
    [*PIECES, b"N", b"\x88", b"K\x02", b"X\x01\x00\x00\x00a", b"s", b"a", b")", b"\x86", b"\x87", b"\x94",
     ORDERED_DICT, REBUILD, b"ctorch\nFloatStorage\n", b"ctorch\nSize\n", storage(), tensor(), b"cnumpy\ndtype\n",
     b"cbuiltins\nset\n", b"c_codecs\nencode\n", b"ctorch._utils\n_rebuild_parameter\n",
     b"cnumpy.core.multiarray\nscalar\n",
     b"G" + bytes(8)]
)  # fmt: skip


@settings(max_examples=250, deadline=5000)
@given(st.lists(OPCODES, max_size=25))
def test_random_programs_never_do_more_than_fail(codes):
    with contextlib.suppress(gn.CheckpointError), nothing_runs():
        gn.load(io.BytesIO(zipped(PROTO + b"".join(codes) + STOP, ONE)))
    with contextlib.suppress(gn.CheckpointError):
        gn.load(io.BytesIO(MAGIC + VERSION + SYSTEM + PROTO + b"".join(codes) + STOP + program([])))


LIMITED = """
import io, resource, sys, time
import gpunet as gn
data = open(sys.argv[1], "rb").read()
base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
start = time.perf_counter()
try:
    gn.load(sys.argv[1])
except gn.CheckpointError as error:
    print("refused")
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base) // 1024, time.perf_counter() - start)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="measures memory as Linux does")
def test_the_worst_program_in_a_process_of_its_own(tmp_path):
    # Full of the opcode that makes most of a byte; a longer one than MAX_PICKLE is not read.
    size = 2**22
    path = tmp_path / "x.pth"
    path.write_bytes(zipped(PROTO + b"U\x02\xc4\x80" * (size // 4) + STOP, {}))
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(path)], capture_output=True, text=True, timeout=100, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    verdict, numbers = done.stdout.split("\n", 1)
    assert verdict == "refused"
    megabytes, seconds = map(float, numbers.split())
    assert megabytes < 40 * size / 1e6
    assert seconds < 30
