"""``.pth`` files, as ``torch.save`` writes them, read without running anything that they name.

Two formats: a zip archive (PyTorch 1.6 and later) and a sequence of pickles with the storages behind them (before, or
``_use_new_zipfile_serialization=False``). What a pickle may do is in ``pth_pickle`` and ``pth_globals``, what a tensor
may be in ``pth_storage``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gpunet.backend.errors import CheckpointError
from gpunet.interop._source import PathOrFile, Source, open_source
from gpunet.interop.pth_globals import Global
from gpunet.interop.pth_pickle import MAX_PICKLE, Machine, NeedMore
from gpunet.interop.pth_storage import Refused, Storage, StorageRef, TensorRef, item_size, swaps
from gpunet.interop.pth_zip import LOCAL_SIGNATURE, Member, read_directory

__all__ = ["Leaf", "is_pth", "load_pth", "read_pth"]

_MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of the format without a zip archive
_PROTOCOL = 1001
_FIRST_READ = 2**20
MAX_DEPTH = 100

Leaf = Callable[[np.ndarray], Any]


def load_pth(f: PathOrFile, *, mmap: bool = False) -> Any:
    """Read what ``torch.save`` wrote: nested dicts, lists and plain values, with NumPy arrays for the tensors.

    Nothing in the file is run: names are compared with a short list, and a file that has any other is refused. Dicts
    of any kind come back as plain ones, a ``torch.Size`` as a tuple, a device or dtype as its name. Tensors that share
    a storage in the file share memory. Both formats of PyTorch are read, not the tar archives of PyTorch before 0.1.10.

    Args:
        f: a path, or a file open for reading in binary.
        mmap: view the file instead of reading it, where it is a path: the system reads what is used. Writes stay in
            this process. The file must not be cut short while the arrays live.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: the file is damaged, cut short, of another kind, or names what no state dict needs; the
            message says which file and why.
    """
    with open_source(f, "private" if mmap else "") as source:
        return read_pth(source, lambda array: array)


def is_pth(start: bytes) -> bool:
    """Whether a file that begins so may be one of PyTorch's; 512 bytes are enough to tell."""
    # A safetensors file's ninth byte is the "{" of its header, behind a length that may begin with any byte.
    old = (start[:1] == b"\x80" or start[257:262] == b"ustar") and start[8:9] != b"{"
    return old or start[:4] == LOCAL_SIGNATURE


def read_pth(source: Source, leaf: Leaf) -> Any:
    """What the file holds, with ``leaf(array)`` in the place of each tensor.

    Raises:
        CheckpointError: as ``load_pth``.
    """
    start = source.read(0, min(source.size, 512))
    try:
        if start[:4] == LOCAL_SIGNATURE:
            value = _read_zip(source)
        elif start[257:262] == b"ustar":
            raise Refused("a tar archive of PyTorch before 0.1.10; load it with such a PyTorch and save it again")
        elif start[:1] == b"\x80":
            value = _read_legacy(source)
        else:
            raise Refused("not a file that torch.save wrote")
        return _Finisher(leaf).finish(value, 0)
    except Refused as error:
        raise CheckpointError(f"{source.name}: {error}") from error
    except RecursionError as error:
        raise CheckpointError(f"{source.name}: its values are nested too deeply") from error


# The zip format ----------------------------------------------------------------------------------------------------


def _read_zip(source: Source) -> Any:
    members = read_directory(source)
    pickle = members.get("data.pkl")
    if "constants.pkl" in members:
        raise Refused("a TorchScript archive, which is a program; save model.state_dict() instead")
    if pickle is None:
        raise Refused("a zip archive without data.pkl, so not one that torch.save wrote")
    if pickle.size > MAX_PICKLE:
        raise Refused(f"its pickle is of {pickle.size:,} bytes; at most {MAX_PICKLE:,} are read")
    swapped = swaps(_byteorder(source, members))
    storages: dict[str, Storage] = {}

    def persistent(reference: Any) -> StorageRef:
        dtype, key, size, _ = _storage_reference(reference)
        storage = storages.get(key)
        if storage is None:
            member = members.get(f"data/{key}")
            if member is None and size:
                raise Refused(f"cut short: it has no storage {key[:100]!a}")
            load = _empty if member is None else _loader(member, source)
            storage = storages[key] = Storage(member.size if member else 0, load, swapped)
        if storage.size != size:
            raise Refused(f"its storage {key[:100]!a} has {storage.size:,} bytes and should have {size:,}")
        return StorageRef(storage, dtype, 0, size)

    machine = Machine(pickle.array(source).tobytes(), persistent)
    try:
        return machine.run()
    except NeedMore:
        raise Refused("damaged: its pickle has no end") from None


def _byteorder(source: Source, members: dict[str, Member]) -> str:
    member = members.get("byteorder")
    if member is None:  # PyTorch before 2.1
        return "little"
    order = source.read(member.offset, min(member.size, 16)).decode("ascii", "replace")
    if order not in ("little", "big"):
        raise Refused(f"its byte order is {order!a}, neither little nor big")
    return order


def _loader(member: Member, source: Source) -> Callable[[], np.ndarray]:
    return lambda: member.array(source)


def _empty() -> np.ndarray:
    return np.empty(0, np.uint8)


def _storage_reference(reference: Any) -> tuple[str, str, int, Any]:
    """Dtype, key, bytes and part of a storage, from the tuple that names it."""
    if type(reference) is not tuple or not reference or reference[0] not in ("storage", "module"):
        raise Refused("its pickle refers to something that is no storage")
    if reference[0] == "module":
        raise Refused("it holds a model as code, not its state; save model.state_dict()")
    if len(reference) not in (5, 6):
        raise Refused("its pickle refers to something that is no storage")
    _, kind, key, location, count, part = (*reference, None)[:6]
    if type(kind) is not Global or not kind.is_storage or type(key) is not str or type(location) is not str:
        raise Refused("its pickle refers to something that is no storage")
    if type(count) is not int or not 0 <= count < 2**60:
        raise Refused("its pickle refers to a storage of an impossible size")
    return kind.dtype, key, count * item_size(kind.dtype), part


# The format before it ----------------------------------------------------------------------------------------------


def _read_legacy(source: Source) -> Any:
    # The pickles' length is not written down, and the storages follow at once: read a piece, and more if need be.
    size = min(source.size, _FIRST_READ)
    while True:
        try:
            return _read_pickles(source, source.read(0, size))
        except NeedMore:
            if size == source.size:
                raise Refused("damaged or cut short: its pickle has no end") from None
            if size >= MAX_PICKLE:
                raise Refused(f"its pickle is longer than the {MAX_PICKLE:,} bytes that are read") from None
            size = min(source.size, 8 * size, MAX_PICKLE)


def _read_pickles(source: Source, beginning: bytes) -> Any:
    storages: dict[str, tuple[Storage, int]] = {}

    def persistent(reference: Any) -> StorageRef:
        dtype, key, size, part = _storage_reference(reference)
        if size > source.size:
            raise Refused(f"cut short: a storage of {size:,} bytes does not fit into a file of {source.size:,}")
        width = item_size(dtype)
        # The bytes lie there as little-endian, whoever wrote them.
        storage, known = storages.setdefault(key, (Storage(size, None, swaps("little")), width))
        if storage.size != size or known != width:
            raise Refused(f"its storage {key[:100]!a} is of two sizes")
        if part is None:
            return StorageRef(storage, dtype, 0, size)
        if type(part) is not tuple or len(part) != 3 or not all(type(n) is int and n >= 0 for n in part[1:]):
            raise Refused("its pickle refers to a part of a storage that is no part")
        _, offset, count = part
        if (offset + count) * width > size:
            raise Refused("its pickle refers to a part that reaches beyond its storage")
        return StorageRef(storage, dtype, offset * width, count * width)

    machine = Machine(beginning, persistent)
    foreign = Refused("a pickle, which gpunet never loads, and not one that torch.save wrote")
    try:
        first = machine.run()
    except Refused:
        raise foreign from None
    if type(first) is not int or first != _MAGIC:
        raise foreign
    version = machine.run()
    if type(version) is not int or version != _PROTOCOL:
        raise Refused("written in a version of PyTorch's format that does not exist")
    machine.run()  # sizes of C's types where it was written
    value = machine.run()
    keys = machine.run()
    if type(keys) is not list or not all(type(key) is str for key in keys) or len(set(keys)) != len(keys):
        raise Refused("damaged: its list of storages is no list of names")
    if set(keys) != storages.keys():
        raise Refused("damaged: its list of storages is not the one that its tensors use")
    position = machine.position
    for key in keys:
        storage, width = storages[key]
        count = int.from_bytes(source.read(position, 8), "little", signed=True)
        position += 8
        if count * width != storage.size:
            raise Refused(f"damaged: its storage {key[:100]!a} is of two sizes")
        if position + storage.size > source.size:
            raise Refused(f"cut short: its storage {key[:100]!a} is not all there")
        storage.load = _reader(source, position, storage.size)
        position += storage.size
    if position != source.size:
        raise Refused(f"it goes on for {source.size - position:,} bytes behind its last storage")
    return value


def _reader(source: Source, offset: int, size: int) -> Callable[[], np.ndarray]:
    return lambda: source.array(offset, size)


# What comes out ----------------------------------------------------------------------------------------------------


class _Finisher:
    """Puts arrays in the place of what stands for them; what was one object in the file stays one."""

    def __init__(self, leaf: Leaf) -> None:
        self._leaf = leaf
        self._done: dict[int, Any] = {}
        self._inside: set[int] = set()
        self._kept: list[Any] = []  # an id is of one object only as long as that lives

    def finish(self, value: Any, depth: int) -> Any:
        if value is None or isinstance(value, (bool, int, float, str, bytes, np.generic)):
            return value
        if isinstance(value, Global):
            if value.dtype and not value.is_storage:
                return value.dtype
            raise Refused(f"it holds {value.name} itself, which is no data")
        done = self._done.get(id(value))
        if done is not None:
            return done
        if isinstance(value, TensorRef):
            result = self._leaf(value.array())
        elif isinstance(value, (dict, list, tuple, set)):
            if depth >= MAX_DEPTH:
                raise Refused(f"its values are nested too deeply, by more than {MAX_DEPTH} levels")
            if id(value) in self._inside:
                raise Refused(f"it holds a {type(value).__name__} that holds itself")
            self._inside.add(id(value))
            result = self._container(value, depth + 1)
            self._inside.discard(id(value))
        else:
            raise Refused(f"it holds a bare {type(value).__name__}, which is no data")
        self._done[id(value)] = result
        self._kept.append(value)
        return result

    def _container(self, value: Any, depth: int) -> Any:
        if isinstance(value, dict):
            return {key: self.finish(item, depth) for key, item in value.items()}
        if isinstance(value, set):
            return value
        items = [self.finish(item, depth) for item in value]
        return items if isinstance(value, list) else tuple(items)
