"""A reader of the pickles in ``.pth`` files that can run nothing.

A pickle is a program for a small stack machine, and a full machine imports and calls whatever the program names. This
one has the opcodes that state dicts are written with and no others. A name in the file is looked up in one table
(``pth_globals``) and stands for one of the kinds there; there is no import, no attribute lookup and no call of anything
that the file chose. Opcodes and their arguments: the tables of CPython's ``pickletools``, protocols 2 to 5.

The machine is a loop without recursion, every length is checked against the bytes that are left, and the number of
containers, of names in its memory and the length of the program are bounded, so that neither time nor memory can grow
beyond a constant times the file's own size.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from gpunet.interop.pth_globals import Global, build, find_global, put_items, reduce
from gpunet.interop.pth_storage import Refused

__all__ = ["MAX_PICKLE", "Machine", "NeedMore"]

MAX_PICKLE = 32 * 2**20  # a state dict takes some 250 bytes for each tensor
MAX_CONTAINERS = 1_000_000
MAX_MEMO = 1_000_000
MAX_INT = 256  # bytes of one integer
MAX_GLOBAL = 256  # characters of one name
HIGHEST_PROTOCOL = 5

_INT4 = struct.Struct("<i")
_DOUBLE = struct.Struct(">d")


class NeedMore(Exception):
    """The program goes on behind the bytes that were given."""


class Machine:
    """Runs one program after another over the same bytes.

    Args:
        data: the file, or its beginning.
        persistent: called with the tuple by which a program names a storage; gives what stands for it.
    """

    def __init__(self, data: bytes, persistent: Callable[[Any], Any]) -> None:
        self._data = data
        self._persistent = persistent
        self.position = 0
        self._containers = 0
        self._stack: list[Any] = []
        self._marked: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def run(self) -> Any:
        """The value of the program that begins at ``position``, which then stands behind its end.

        Raises:
            NeedMore: the bytes end before the program does.
            Refused: it does what no state dict does; the message says what.
        """
        self._stack, self._marked, self._memo = [], [], {}
        data, opcodes = self._data, _OPCODES
        try:
            while True:
                code = data[self.position]
                self.position += 1
                if code == 0x2E:  # STOP
                    break
                operation = opcodes.get(code)
                if operation is None:
                    raise Refused(f"its pickle uses opcode 0x{code:02x}, which no state dict needs")
                operation(self)
        except IndexError:
            if self.position >= len(data):
                raise NeedMore from None
            raise Refused("its pickle takes values that it never made") from None
        if len(self._stack) != 1 or self._marked:
            raise Refused("its pickle leaves values behind")
        return self._stack.pop()

    def _take(self, count: int) -> bytes:
        start = self.position
        end = start + count
        if end > len(self._data):
            raise NeedMore
        self.position = end
        return self._data[start:end]

    def _number(self, count: int) -> int:
        return int.from_bytes(self._take(count), "little")

    def _container(self) -> None:
        self._containers += 1
        if self._containers > MAX_CONTAINERS:
            raise Refused(f"its pickle makes more than {MAX_CONTAINERS:,} containers")

    def _pop_mark(self) -> list[Any]:
        if not self._marked:
            raise Refused("its pickle takes values that it never made")
        items, self._stack = self._stack, self._marked.pop()
        return items

    # Frames, marks and memory --------------------------------------------------------------------------------------

    def _proto(self) -> None:
        if self._number(1) > HIGHEST_PROTOCOL:
            raise Refused("its pickle is of a protocol that does not exist")

    def _frame(self) -> None:
        self._take(8)  # only says how much to read at once

    def _mark(self) -> None:
        self._container()
        self._marked.append(self._stack)
        self._stack = []

    def _put(self, index: int) -> None:
        self._memo[index] = self._stack[-1]
        if len(self._memo) > MAX_MEMO:
            raise Refused(f"its pickle remembers more than {MAX_MEMO:,} values")

    def _binput(self) -> None:
        self._put(self._number(1))

    def _long_binput(self) -> None:
        self._put(self._number(4))

    def _memoize(self) -> None:
        self._put(len(self._memo))

    def _get(self, index: int) -> None:
        if index not in self._memo:
            raise Refused("its pickle takes values that it never made")
        self._stack.append(self._memo[index])

    def _binget(self) -> None:
        self._get(self._number(1))

    def _long_binget(self) -> None:
        self._get(self._number(4))

    # Plain values --------------------------------------------------------------------------------------------------

    def _none(self) -> None:
        self._stack.append(None)

    def _true(self) -> None:
        self._stack.append(True)

    def _false(self) -> None:
        self._stack.append(False)

    def _binint(self) -> None:
        self._stack.append(_INT4.unpack(self._take(4))[0])

    def _binint1(self) -> None:
        self._stack.append(self._number(1))

    def _binint2(self) -> None:
        self._stack.append(self._number(2))

    def _long(self, count: int) -> None:
        if count > MAX_INT:
            raise Refused(f"its pickle holds an integer of {count:,} bytes")
        self._stack.append(int.from_bytes(self._take(count), "little", signed=True))

    def _long1(self) -> None:
        self._long(self._number(1))

    def _long4(self) -> None:
        self._long(self._number(4))

    def _binfloat(self) -> None:
        self._stack.append(_DOUBLE.unpack(self._take(8))[0])

    def _text(self, width: int) -> None:
        raw = self._take(self._number(width))
        try:
            self._stack.append(raw.decode("utf-8", "surrogatepass"))
        except UnicodeDecodeError:
            raise Refused("its pickle holds text that is not UTF-8") from None

    def _short_binunicode(self) -> None:
        self._text(1)

    def _binunicode(self) -> None:
        self._text(4)

    def _binunicode8(self) -> None:
        self._text(8)

    def _bytes(self, width: int) -> None:
        self._stack.append(self._take(self._number(width)))

    def _short_binbytes(self) -> None:
        self._bytes(1)

    def _binbytes(self) -> None:
        self._bytes(4)

    def _binbytes8(self) -> None:
        self._bytes(8)

    # Containers ----------------------------------------------------------------------------------------------------

    def _empty_dict(self) -> None:
        self._container()
        self._stack.append({})

    def _empty_list(self) -> None:
        self._container()
        self._stack.append([])

    def _empty_tuple(self) -> None:
        self._stack.append(())

    def _tuple(self) -> None:
        items = tuple(self._pop_mark())
        self._stack.append(items)

    def _last(self, count: int) -> None:
        self._container()
        if len(self._stack) < count:
            raise Refused("its pickle takes values that it never made")
        self._stack[-count:] = [tuple(self._stack[-count:])]

    def _tuple1(self) -> None:
        self._last(1)

    def _tuple2(self) -> None:
        self._last(2)

    def _tuple3(self) -> None:
        self._last(3)

    def _append(self) -> None:
        value = self._stack.pop()
        self._extend([value])

    def _appends(self) -> None:
        self._extend(self._pop_mark())

    def _extend(self, values: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) is not list:
            raise Refused("its pickle appends to something that is no list")
        target.extend(values)

    def _setitem(self) -> None:
        value = self._stack.pop()
        key = self._stack.pop()
        self._set([key, value])

    def _setitems(self) -> None:
        self._set(self._pop_mark())

    def _set(self, pairs: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) is not dict or len(pairs) % 2:
            raise Refused("its pickle sets items of something that is no dict")
        put_items(target, zip(pairs[::2], pairs[1::2], strict=True))

    # Names, and what is made of them -------------------------------------------------------------------------------

    def _line(self) -> str:
        end = self._data.find(b"\n", self.position, self.position + MAX_GLOBAL)
        if end < 0:
            if len(self._data) - self.position < MAX_GLOBAL:
                raise NeedMore
            raise Refused("its pickle holds a name without an end")
        text = self._data[self.position : end].decode("utf-8", "replace")
        self.position = end + 1
        return text

    def _global(self) -> None:
        module = self._line()
        self._stack.append(find_global(module, self._line()))

    def _stack_global(self) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        if type(name) is not str or type(module) is not str or len(name) + len(module) > 2 * MAX_GLOBAL:
            raise Refused("its pickle names something by what is no name")
        self._stack.append(find_global(module, name))

    def _reduce(self) -> None:
        arguments, function = self._stack.pop(), self._stack.pop()
        self._container()
        if type(function) is not Global or type(arguments) is not tuple:
            raise Refused("its pickle calls something that cannot be called")
        self._stack.append(reduce(function, arguments))

    def _build(self) -> None:
        state, target = self._stack.pop(), self._stack[-1]
        build(target, state)

    def _binpersid(self) -> None:
        self._container()
        self._stack.append(self._persistent(self._stack.pop()))


_OPCODES: dict[int, Callable[[Machine], None]] = {
    0x80: Machine._proto,
    0x95: Machine._frame,
    ord("("): Machine._mark,
    ord("q"): Machine._binput,
    ord("r"): Machine._long_binput,
    0x94: Machine._memoize,
    ord("h"): Machine._binget,
    ord("j"): Machine._long_binget,
    ord("N"): Machine._none,
    0x88: Machine._true,
    0x89: Machine._false,
    ord("J"): Machine._binint,
    ord("K"): Machine._binint1,
    ord("M"): Machine._binint2,
    0x8A: Machine._long1,
    0x8B: Machine._long4,
    ord("G"): Machine._binfloat,
    # Python 2 wrote its byte strings so: ASCII names, as a rule.
    ord("U"): Machine._short_binunicode,
    ord("T"): Machine._binunicode,
    0x8C: Machine._short_binunicode,
    ord("X"): Machine._binunicode,
    0x8D: Machine._binunicode8,
    ord("C"): Machine._short_binbytes,
    ord("B"): Machine._binbytes,
    0x8E: Machine._binbytes8,
    ord("}"): Machine._empty_dict,
    ord("]"): Machine._empty_list,
    ord(")"): Machine._empty_tuple,
    ord("t"): Machine._tuple,
    0x85: Machine._tuple1,
    0x86: Machine._tuple2,
    0x87: Machine._tuple3,
    ord("a"): Machine._append,
    ord("e"): Machine._appends,
    ord("s"): Machine._setitem,
    ord("u"): Machine._setitems,
    ord("c"): Machine._global,
    0x93: Machine._stack_global,
    ord("R"): Machine._reduce,
    ord("b"): Machine._build,
    ord("Q"): Machine._binpersid,
}
