"""The directory of a zip archive whose members are stored, not compressed, as ``torch.save`` writes them.

Read by hand because a member's bytes are to be viewed where they lie, and because everything must be checked before
it is believed: the standard library gives neither a member's offset nor a bound. Fields: PKWARE's APPNOTE, 4.3.
"""

from __future__ import annotations

import itertools
import struct
from dataclasses import dataclass

import numpy as np

from gpunet.interop._source import Source
from gpunet.interop.pth_storage import Refused

__all__ = ["LOCAL_SIGNATURE", "Member", "read_directory"]

MAX_MEMBERS = 1_000_000
MAX_NAME = 1024

LOCAL_SIGNATURE = b"PK\x03\x04"
_LOCAL = struct.Struct("<4s5H3I2H")
_ENTRY = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_LOCATOR64 = struct.Struct("<4sIQI")
_END64 = struct.Struct("<4sQ2H2I4Q")
_ENCRYPTED = 0x1 | 0x40


@dataclass(frozen=True)
class Member:
    """Where a member's bytes lie.

    Args:
        offset: of its first byte in the file.
        size: in bytes.
        crc: the CRC-32 it should have, or None where the archive was written without.
    """

    name: str
    offset: int
    size: int
    crc: int | None

    def array(self, source: Source) -> np.ndarray:
        """Its bytes, checked.

        Raises:
            Refused: they have another CRC-32.
        """
        if self.crc is None:
            return source.array(self.offset, self.size)
        data, crc = source.array_and_crc(self.offset, self.size)
        if crc != self.crc:
            raise Refused(f"damaged: the CRC-32 of its member {self.name} is wrong")
        return data


def read_directory(source: Source) -> dict[str, Member]:
    """All members by name, without the folder that every name begins with.

    Raises:
        Refused: the archive is damaged, or holds what ``torch.save`` does not write; the message says what.
    """
    directory, directory_size = _find_directory(source)
    members = _read_entries(source, directory, directory_size)
    if not members:
        raise Refused("a zip archive without members")
    prefix = members[0][0].partition("/")[0] + "/"
    checked = any(crc for _, _, _, crc in members)  # torch.save can leave out all of them
    found: dict[str, Member] = {}
    spans = [(directory, directory + directory_size)]
    for name, header, size, crc in members:
        if not name.startswith(prefix) or ".." in name.split("/") or "\\" in name or name.startswith("/"):
            raise Refused(f"a zip archive with a member named {name[:100]!a}, which torch.save does not write")
        short = name[len(prefix) :]
        if short in found:
            raise Refused(f"a zip archive with two members named {name[:100]!a}")
        offset = _data_offset(source, name, header)
        if offset + size > source.size:
            raise Refused(f"cut short: its member {ascii(name[:100])[1:-1]} of {size:,} bytes is not there")
        found[short] = Member(name, offset, size, crc if checked else None)
        spans.append((header, offset + size))
    spans.sort()
    if any(end > start for (_, end), (start, _) in itertools.pairwise(spans)):
        raise Refused("a zip archive with members that overlap")
    return found


def _find_directory(source: Source) -> tuple[int, int]:
    """Offset and size of the central directory."""
    tail_size = min(source.size, _END.size + 65535)
    tail = source.read(source.size - tail_size, tail_size)
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or at + _END.size > len(tail):
        raise Refused("damaged or cut short: a zip archive without its directory")
    *_, size, offset, _ = _END.unpack_from(tail, at)
    end = source.size - tail_size + at
    at -= _LOCATOR64.size
    if at >= 0 and tail[at : at + 4] == b"PK\x06\x07":
        _, _, end64, _ = _LOCATOR64.unpack_from(tail, at)
        if end64 + _END64.size > end:
            raise Refused("damaged: a zip archive whose directory is not where it says")
        signature, *_, size, offset = _END64.unpack(source.read(end64, _END64.size))
        if signature != b"PK\x06\x06":
            raise Refused("damaged: a zip archive whose directory is not where it says")
        end = end64
    if offset + size != end:
        raise Refused("damaged: a zip archive whose directory is not where it says")
    if size > MAX_MEMBERS * _ENTRY.size * 2:
        raise Refused("a zip archive with too many members")
    return offset, size


def _read_entries(source: Source, offset: int, size: int) -> list[tuple[str, int, int, int]]:
    """Name, offset of the local header, size and CRC-32 of every member."""
    directory = source.read(offset, size)
    members: list[tuple[str, int, int, int]] = []
    position = 0
    while position < size:
        if position + _ENTRY.size > size or len(members) >= MAX_MEMBERS:
            raise Refused("damaged: a zip archive whose directory does not end where it says")
        entry = _ENTRY.unpack_from(directory, position)
        signature, _, _, flags, method, _, _, crc, stored, length, name_size, extra_size, comment_size = entry[:13]
        header = entry[-1]
        position += _ENTRY.size
        rest = directory[position : position + name_size + extra_size]
        position += name_size + extra_size + comment_size
        if signature != b"PK\x01\x02" or position > size or name_size > MAX_NAME:
            raise Refused("damaged: a zip archive whose directory is unreadable")
        name = rest[:name_size].decode("utf-8", "replace")
        if flags & _ENCRYPTED:
            raise Refused(f"a zip archive whose member {ascii(name[:100])[1:-1]} is encrypted")
        stored, length, header = _wide(rest[name_size:], stored, length, header)
        if method != 0 or stored != length:
            raise Refused(
                f"a zip archive whose member {ascii(name[:100])[1:-1]} is compressed, which torch.save never does"
            )
        members.append((name, header, length, crc))
    return members


def _wide(extra: bytes, stored: int, length: int, header: int) -> tuple[int, int, int]:
    """The 64-bit values of an entry, where its 32-bit fields say that there are any."""
    values = [length, stored, header]
    if 0xFFFFFFFF not in values:
        return stored, length, header
    position = 0
    while position + 4 <= len(extra):
        kind, size = struct.unpack_from("<HH", extra, position)
        position += 4
        if kind == 1:
            field = extra[position : position + size]
            for index, value in enumerate(values):
                if value == 0xFFFFFFFF:
                    if len(field) < 8:
                        break
                    values[index] = int.from_bytes(field[:8], "little")
                    field = field[8:]
            break
        position += size
    return values[1], values[0], values[2]


def _data_offset(source: Source, name: str, header: int) -> int:
    """Where a member's bytes begin: behind its own header, which must be there and carry the same name."""
    if header + _LOCAL.size > source.size:
        raise Refused(f"cut short: its member {ascii(name[:100])[1:-1]} is not there")
    signature, _, flags, method, *_, name_size, extra_size = _LOCAL.unpack(source.read(header, _LOCAL.size))
    start = header + _LOCAL.size
    if signature != LOCAL_SIGNATURE or method != 0 or flags & _ENCRYPTED or start + name_size > source.size:
        raise Refused(f"damaged: the header of its member {ascii(name[:100])[1:-1]} is unreadable")
    if source.read(start, name_size).decode("utf-8", "replace") != name:
        raise Refused(f"damaged: its member {ascii(name[:100])[1:-1]} has another name in its own header")
    return start + name_size + extra_size
