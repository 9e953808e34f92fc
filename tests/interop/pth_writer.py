"""A writer of ``.pth`` files in both formats, opcode by opcode: without PyTorch, and able to write what it never would.

Opcodes: CPython's pickletools, protocol 2, as torch.save uses it.
"""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Mapping
from typing import Any

PROTO, STOP, MARK = b"\x80\x02", b".", b"("
MAGIC = PROTO + b"\x8a\x0a" + (0x1950A86A20F9469CFC6C).to_bytes(10, "little") + STOP
VERSION = PROTO + b"M" + struct.pack("<H", 1001) + STOP
SYSTEM = PROTO + b"}" + STOP
ORDERED_DICT = b"ccollections\nOrderedDict\n"
REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"


def value(thing: Any) -> bytes:
    """Opcodes that leave a plain value on the stack; bytes are taken to be opcodes already."""
    if isinstance(thing, bytes):
        return thing
    if thing is None:
        return b"N"
    if isinstance(thing, bool):
        return b"\x88" if thing else b"\x89"
    if isinstance(thing, int):
        if -(2**31) <= thing < 2**31:
            return b"J" + struct.pack("<i", thing)
        raw = thing.to_bytes(thing.bit_length() // 8 + 1, "little", signed=True)
        return b"\x8a" + bytes([len(raw)]) + raw
    if isinstance(thing, float):
        return b"G" + struct.pack(">d", thing)
    if isinstance(thing, str):
        raw = thing.encode()
        return b"X" + struct.pack("<I", len(raw)) + raw
    if isinstance(thing, dict):
        return b"}(" + b"".join(value(key) + value(item) for key, item in thing.items()) + b"u"
    if isinstance(thing, list):
        return b"](" + b"".join(map(value, thing)) + b"e"
    if isinstance(thing, tuple):
        return MARK + b"".join(map(value, thing)) + b"t"
    raise TypeError(thing)


def storage(key: Any = "0", count: Any = 1, kind: str = "Float", *, old: bool = False, part: Any = None) -> bytes:
    """The reference to a storage."""
    reference = ("storage", f"ctorch\n{kind}Storage\n".encode(), key, "cpu", count)
    return value((*reference, part) if old else reference) + b"Q"


def tensor(
    shape: Any = (1,),
    strides: Any = (1,),
    offset: Any = 0,
    *,
    of: bytes | None = None,
    hooks: bytes = b"",
    **which: Any,
) -> bytes:
    """A tensor in a storage."""
    hooks = hooks or ORDERED_DICT + b")R"
    of = storage(**which) if of is None else of
    return REBUILD + value((of, offset, shape, strides, False, hooks)) + b"R"


def program(thing: Any) -> bytes:
    return PROTO + value(thing) + STOP


def zipped(
    pickle: bytes, storages: Mapping[str, bytes], more: Mapping[str, bytes] | None = None, order: str = "little"
) -> bytes:
    """The zip format."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", pickle)
        archive.writestr("archive/byteorder", order)
        for key, raw in storages.items():
            archive.writestr(f"archive/data/{key}", raw)
        archive.writestr("archive/version", b"3\n")
        for name, raw in (more or {}).items():
            archive.writestr(name, raw)
    return buffer.getvalue()


def legacy(pickle: bytes, storages: Mapping[str, tuple[int, bytes]], keys: Any = None) -> bytes:
    """The format before it; a storage is its number of elements and its bytes."""
    listed = program(list(storages) if keys is None else keys)
    data = b"".join(struct.pack("<q", count) + raw for count, raw in storages.values())
    return MAGIC + VERSION + SYSTEM + pickle + listed + data


def floats(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)
