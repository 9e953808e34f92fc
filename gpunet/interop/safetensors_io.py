"""Saving and loading without pickle: one safetensors file holds nested dicts and lists of tensors and plain values.

Arrays are the file's tensors, under dotted names (a plain state dict keeps its own keys, so that every safetensors
reader finds the weights); how they and the plain values are put together is JSON in the file's metadata. Loading
builds dicts, lists, tuples, numbers, strings and arrays, and can build nothing else.
"""

from __future__ import annotations

import errno
import json
import math
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from gpunet.autograd import Tensor, from_numpy
from gpunet.backend.devices import Device, device, to_numpy
from gpunet.backend.errors import CheckpointError, DTypeError
from gpunet.interop._source import PathOrFile, Source, open_source
from gpunet.interop.pth import Leaf, is_pth, read_pth
from gpunet.interop.safetensors_file import NUMPY_NAMES, Malformed, in_words, parse_json, read_safetensors
from gpunet.nn import Module

__all__ = ["load", "load_safetensors", "replace_file", "save", "save_safetensors"]

MapLocation = str | int | Device | Mapping[Any, Any] | Callable[[Tensor, str], Any] | None
Placement = Callable[[Tensor], Tensor]

_STRUCTURE = "gpunet.structure"
_VERSION_KEY = "gpunet.format"
_VERSION = "1"


# Saving ------------------------------------------------------------------------------------------------------------


def save(obj: Any, f: PathOrFile) -> None:
    """Write nested dicts, lists and tuples of Tensors, arrays and plain values to one safetensors file.

    Plain values are None, bool, int, float, str and NumPy numbers; dict keys are str, int, float, bool or None. Tensors
    are stored detached, from whatever device; what shares memory in ``obj`` does not after loading. A file's path is
    replaced as a whole or not at all: the new file is written beside it, flushed to the disk and renamed.

    Args:
        obj: what to save, such as ``model.state_dict()``, or a dict that holds one.
        f: a path, or a file open for writing in binary.

    Raises:
        TypeError: ``obj`` holds a Module or anything else that is no data; the message says where.
        ValueError: ``obj`` is nested too deeply, by hundreds of levels.
        OSError: the file cannot be written; what was at the path before is still there.
    """
    writer = _Writer()
    try:
        text = json.dumps(writer.encode(obj, ()), separators=(",", ":"), allow_nan=False)
    except RecursionError:
        raise ValueError("obj: nested too deeply") from None
    metadata = {_VERSION_KEY: _VERSION, _STRUCTURE: text}
    _write(writer.arrays, metadata, f)


def save_safetensors(tensors: Mapping[str, Any], f: PathOrFile, metadata: Mapping[str, str] | None = None) -> None:
    """Write a flat dict of Tensors or arrays as a plain safetensors file, for other programs.

    Args:
        tensors: by name.
        f: a path, or a file open for writing in binary.
        metadata: strings to put into the file's header.

    Raises:
        TypeError: a name that is no string, or a value that is no tensor.
        OSError: the file cannot be written; what was at the path before is still there.
    """
    arrays: dict[str, np.ndarray] = {}
    for name, value in tensors.items():
        if not isinstance(name, str):
            raise TypeError(f"tensors: names must be strings, got {name!r}")
        if not isinstance(value, (Tensor, np.ndarray)):
            raise TypeError(f"tensors[{name!r}]: expected a Tensor or an array, got {type(value).__name__}")
        arrays[name] = _host_array(value, (name,))
    _write(arrays, dict(metadata or {}), f)


class _Writer:
    """Takes a nested object apart into named arrays and a JSON structure.

    The structure's nodes: plain values stand for themselves, everything else is an object with one key:
    ``{"dict": [[key, node], ...]}``, ``{"list": [...]}``, ``{"tuple": [...]}``, ``{"tensor": name}``,
    ``{"array": name}``, ``{"number": name}`` (a NumPy number), ``{"float": "nan"}``.
    """

    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}
        self._inside: set[int] = set()

    def encode(self, value: Any, path: tuple[Any, ...]) -> Any:
        if value is None or isinstance(value, (bool, str)):
            return value
        if isinstance(value, (Tensor, np.ndarray, np.generic)):
            kind = "tensor" if isinstance(value, Tensor) else "array" if isinstance(value, np.ndarray) else "number"
            name = self._free_name(".".join(map(str, path)) or "value")
            self.arrays[name] = _host_array(value, path)
            return {kind: name}
        if isinstance(value, int):
            return int(value)
        if isinstance(value, float):
            return float(value) if math.isfinite(value) else {"float": repr(float(value))}
        if isinstance(value, (Mapping, list, tuple)):
            if id(value) in self._inside:
                raise TypeError(f"{_where(path)}: a {type(value).__name__} that holds itself cannot be saved")
            self._inside.add(id(value))
            try:
                return self._encode_container(value, path)
            finally:
                self._inside.discard(id(value))
        if isinstance(value, Module):
            raise TypeError(
                f"{_where(path)}: a Module is code as well as data; save its state: "
                + (f"{_where(path)} = model.state_dict()" if path else "gn.save(model.state_dict(), path)")
            )
        hint = "; save its state_dict()" if hasattr(value, "state_dict") else ""
        raise TypeError(
            f"{_where(path)}: cannot save a {type(value).__name__}, only dicts, lists, tuples, tensors, arrays, "
            f"numbers, strings, True, False and None{hint}"
        )

    def _encode_container(self, value: Any, path: tuple[Any, ...]) -> Any:
        if isinstance(value, Mapping):
            pairs = []
            for key, item in value.items():
                if not (key is None or isinstance(key, (str, int, float))) or key != key:
                    raise TypeError(f"{_where(path)}: dict keys must be strings or numbers, got {key!r}")
                pairs.append([self.encode(key, path), self.encode(item, (*path, key))])
            return {"dict": pairs}
        kind = "list" if isinstance(value, list) else "tuple"
        return {kind: [self.encode(item, (*path, index)) for index, item in enumerate(value)]}

    def _free_name(self, name: str) -> str:
        # {"a": {"b": ...}} and {"a.b": ...} want the same name; the structure knows which is which.
        free, number = name, 1
        while free in self.arrays or free == "__metadata__":
            number += 1
            free = f"{name}#{number}"
        return free


def _where(path: Iterable[Any]) -> str:
    return "obj" + "".join(f"[{part!r}]" for part in path)


def _host_array(value: Any, path: tuple[Any, ...]) -> np.ndarray:
    """The values as a C-ordered array on the CPU."""
    if isinstance(value, Tensor):
        if value.device.type == "meta":
            raise TypeError(f"{_where(path)}: a tensor on 'meta' has no data to save")
        value = to_numpy(value._array)
    array = np.asarray(value, order="C")
    if array.dtype.name not in NUMPY_NAMES.values():
        raise TypeError(f"{_where(path)}: an array of {array.dtype} cannot be saved; use a number type or bool")
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _write(arrays: dict[str, np.ndarray], metadata: dict[str, str], f: PathOrFile) -> None:
    if not isinstance(f, (str, os.PathLike)):
        if not hasattr(f, "write"):
            raise TypeError(f"f: expected a path or a file open for writing, got {type(f).__name__}")
        f.write(safetensors.numpy.save(arrays, metadata=metadata))
        return
    replace_file(f, lambda path: safetensors.numpy.save_file(arrays, path, metadata=metadata))


def replace_file(f: str | os.PathLike[str], write: Callable[[Path], None]) -> None:
    """Write a file as a whole or not at all: beside it first, flushed to the disk, then renamed.

    Args:
        f: the path.
        write: called with the path of the file that is going to take its place.

    Raises:
        OSError: it cannot be written; what was at the path before is still there.
    """
    path = Path(f)
    temporary: Path | None = None
    try:
        # In the same folder: only there is renaming atomic.
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        temporary = Path(name)
        os.close(descriptor)
        write(temporary)
        _flush(temporary)
        os.chmod(temporary, _file_mode(path))
        os.replace(temporary, path)
        temporary = None
        _flush(path.parent)
    except (OSError, safetensors.SafetensorError) as error:
        raise _write_error(path, error) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """Wait until a file's, or a folder's, contents are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _file_mode(path: Path) -> int:
    """The permissions of the file that is replaced, or those a new file gets; a temporary file's are narrower."""
    try:
        return path.stat().st_mode & 0o777
    except FileNotFoundError:
        umask = os.umask(0)
        os.umask(umask)
        return 0o666 & ~umask


def _write_error(path: Path, error: Exception) -> OSError:
    """One line that says what could not be written and why, as an OSError with its number."""
    number = error.errno if isinstance(error, OSError) else None
    if number is None:
        # The library reports the system's errors as text: "(os error 28)", before 0.6 "Os { code: 28, ... }".
        found = re.search(r"(?:os error|code:) (\d+)", str(error))
        number = int(found.group(1)) if found else errno.EIO
    kept = "; the file that was there is unchanged" if path.is_file() else ""
    return OSError(number, f"cannot save: {os.strerror(number)}{kept}", str(path))


# Loading -----------------------------------------------------------------------------------------------------------


def load(f: PathOrFile, map_location: MapLocation = None, *, weights_only: bool = True, mmap: bool = False) -> Any:
    """Read what ``save`` wrote, any safetensors file as a flat dict of Tensors, or a ``.pth`` file of ``torch.save``.

    Which of them it is shows in the first bytes, whatever the file's name. Tensors come back on the CPU, whatever
    device they were on, and require no gradient; dicts of any kind come back as plain ones, in their order. What a
    ``.pth`` file may hold is said at ``gpunet.interop.load_pth``.

    Args:
        f: a path, or a file open for reading in binary.
        map_location: device to put the Tensors on instead; or, as scripts have it, a dict from devices to devices, in
            which ``"cpu"`` is looked up, or a function of a Tensor and ``"cpu"``.
        weights_only: accepted for PyTorch's sake. Loading never runs code, whatever it is.
        mmap: view the file instead of reading it, where it is a path: the system reads what is used. Writes stay in
            this process. The file must not be cut short while the Tensors live; ``save`` replaces it and is safe.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: the file is damaged, cut short, or of another kind; the message says which file and why.
        DeviceError: ``map_location`` is no device that is there.
        TypeError: ``map_location`` is none of the above.
    """
    place = _placement(map_location)
    with open_source(f, "private" if mmap else "") as source:
        try:
            return read_nested(source, lambda array: place(from_numpy(array)))
        except DTypeError as error:
            reader = "load_pth" if is_pth(source.read(0, min(source.size, 512))) else "load_safetensors"
            raise CheckpointError(f"{source.name}: {error}; gpunet.interop.{reader} reads it as arrays") from error


def read_nested(source: Source, leaf: Leaf) -> Any:
    """What a file of either kind holds, with ``leaf(array)`` in the place of each tensor.

    Raises:
        CheckpointError: as ``load``.
    """
    if is_pth(source.read(0, min(source.size, 512))):
        return read_pth(source, leaf)
    arrays, metadata = read_safetensors(source)
    text = metadata.get(_STRUCTURE)
    version = metadata.get(_VERSION_KEY, _VERSION)
    if version != _VERSION:
        raise CheckpointError(f"{source.name}: written in format {version}, this gpunet reads format {_VERSION}")
    if text is None:
        return {key: leaf(array) for key, array in arrays.items()}
    try:
        return _decode(parse_json(text, "it"), arrays, leaf)
    except DTypeError:
        raise
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(
            f"{source.name}: the description of its contents is damaged ({in_words(error)})"
        ) from error


def load_safetensors(f: PathOrFile, *, mmap: bool = False) -> dict[str, np.ndarray]:
    """Read the arrays of a safetensors file by name, whoever wrote it.

    Args:
        f: a path, or a file open for reading in binary.
        mmap: view the file instead of reading it, as with ``load``.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: the file is damaged, cut short, or of another kind; the message says which file and why.
    """
    with open_source(f, "private" if mmap else "") as source:
        return read_safetensors(source)[0]


def _placement(map_location: MapLocation) -> Placement:
    """What is done with each Tensor that was read."""
    if isinstance(map_location, Mapping):
        map_location = next((target for source, target in map_location.items() if str(source) == "cpu"), None)
    if map_location is None:
        return lambda tensor: tensor
    if callable(map_location):
        return _placed_by(map_location)
    if not isinstance(map_location, (str, Device, int)):
        raise TypeError(f"map_location: expected a device, a dict or a function, got {type(map_location).__name__}")
    target = device(map_location)
    return lambda tensor: tensor.to(target)


def _placed_by(function: Callable[[Tensor, str], Any]) -> Placement:
    def place(tensor: Tensor) -> Tensor:
        placed = function(tensor, "cpu")
        return placed if isinstance(placed, Tensor) else tensor

    return place


def _decode(node: Any, arrays: dict[str, np.ndarray], leaf: Leaf) -> Any:
    if not isinstance(node, dict):
        if isinstance(node, list):
            raise Malformed("a list where a value was expected")
        return node
    ((kind, content),) = node.items()
    if kind == "dict":
        return {_decode(key, arrays, leaf): _decode(item, arrays, leaf) for key, item in content}
    if kind in ("list", "tuple"):
        items = [_decode(item, arrays, leaf) for item in content]
        return items if kind == "list" else tuple(items)
    if kind == "tensor":
        return leaf(arrays[content])
    if kind == "array":
        return arrays[content]
    if kind == "number":
        return arrays[content][()]
    if kind == "float":
        return float(content)
    raise Malformed(f"unknown kind {str(kind)[:100]!a}")
