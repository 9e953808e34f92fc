"""What the names in a ``.pth`` file may stand for: the whole list, and what gpunet makes of each.

Nothing here imports, looks up or calls what a file names; the names are keys of one dict.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpunet.interop.pth_storage import Refused, StorageRef, TensorRef

__all__ = ["Global", "build", "find_global", "put_items", "reduce"]

_PLAIN = (str, int, float, bool, type(None))


@dataclass(frozen=True)
class Global:
    """A name of the list.

    Args:
        name: as the file has it.
        dtype: what a storage type or a torch dtype holds; ``"bytes"`` for a storage without a type.
        is_storage: whether it is a storage type.
    """

    name: str
    dtype: str = ""
    is_storage: bool = False


@dataclass
class NumpyType:
    """A NumPy dtype on its way into a NumPy number."""

    dtype: np.dtype[Any]


def put_items(target: dict[Any, Any], pairs: Iterable[Any]) -> None:
    """Add pairs to a dict. Keys are plain: hashing a tuple of tuples of tuples can take forever."""
    for pair in pairs:
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise Refused("its pickle makes a dict of something that is no pairs")
        key, value = pair
        if not _hashable(key):
            raise Refused(f"its pickle holds a dict with a key of type {type(key).__name__}")
        target[key] = value


def _hashable(key: Any) -> bool:
    # Integers beyond 64 bits can be chosen to have one hash, all of them.
    return type(key) in _PLAIN and (type(key) is not int or -(2**63) <= key < 2**63)


# Calls -------------------------------------------------------------------------------------------------------------


def _ordered_dict(arguments: tuple[Any, ...]) -> dict[Any, Any]:
    result: dict[Any, Any] = {}
    if arguments:  # Python 2 wrote the items as an argument
        (pairs,) = arguments
        if type(pairs) is not list:
            raise Refused("its pickle makes a dict of something that is no pairs")
        put_items(result, pairs)
    return result


def _set(arguments: tuple[Any, ...]) -> set[Any]:
    items = arguments[0] if arguments else []
    if len(arguments) > 1 or type(items) is not list or not all(_hashable(item) for item in items):
        raise Refused("its pickle makes a set of something other than plain values")
    return set(items)


def _size(arguments: tuple[Any, ...]) -> tuple[int, ...]:
    (sizes,) = arguments
    if type(sizes) is not tuple or not all(type(size) is int for size in sizes):
        raise Refused("its pickle makes a torch.Size of something that is no sizes")
    return sizes


def _device(arguments: tuple[Any, ...]) -> str:
    kind, *index = arguments
    if type(kind) is not str or len(kind) > 20 or len(index) > 1 or not all(type(part) is int for part in index):
        raise Refused("its pickle makes a torch.device of something that is no device")
    return ":".join([kind, *map(str, index)])


def _rebuild_tensor(arguments: tuple[Any, ...]) -> TensorRef:
    defaults: tuple[Any, ...] = (False, None, None)
    full = (*arguments, *defaults[max(0, len(arguments) - 4) :])
    storage, offset, size, stride, requires_grad, hooks, metadata = full
    return _tensor(storage, offset, size, stride, requires_grad, hooks, metadata)


def _rebuild_tensor_v3(arguments: tuple[Any, ...]) -> TensorRef:
    storage, offset, size, stride, requires_grad, hooks, dtype, *rest = arguments
    (metadata,) = rest or (None,)
    if type(dtype) is not Global or not dtype.dtype or dtype.is_storage:
        raise Refused("its pickle makes a tensor of something that is no dtype")
    return _tensor(storage, offset, size, stride, requires_grad, hooks, metadata, dtype.dtype)


def _tensor(
    storage: Any, offset: Any, size: Any, stride: Any, requires_grad: Any, hooks: Any, metadata: Any, dtype: str = ""
) -> TensorRef:
    if type(storage) is not StorageRef:
        raise Refused("its pickle makes a tensor of something that is no storage")
    if type(requires_grad) is not bool or (hooks is not None and hooks != {}):
        raise Refused("its pickle holds a tensor with hooks, which are code")
    if metadata is not None and metadata != {}:
        raise Refused("its pickle holds a tensor that is marked as negated or conjugated")
    return TensorRef.checked(storage, offset, size, stride, dtype or storage.dtype)


def _rebuild_parameter(arguments: tuple[Any, ...]) -> TensorRef:
    data, requires_grad, hooks, *_ = arguments  # what may follow are attributes of Python's
    if type(data) is not TensorRef or type(requires_grad) is not bool or (hooks is not None and hooks != {}):
        raise Refused("its pickle makes a parameter of something that is no tensor")
    return data


def _rebuild_from_type(arguments: tuple[Any, ...]) -> TensorRef:
    # A tensor with attributes of Python's; the attributes are left out.
    function, kind, inner, _ = arguments
    if type(function) is not Global or function.name not in _REBUILDS or type(inner) is not tuple:
        raise Refused("its pickle makes a tensor in a way that no state dict needs")
    if type(kind) is not Global or kind.name not in _TENSOR_TYPES:
        raise Refused("its pickle holds a tensor of a class that is not torch.Tensor")
    return _CALLS[function.name](inner)


_NUMPY_TYPES = {f"{kind}{size}" for kind, sizes in (("f", "248"), ("i", "1248"), ("u", "1248")) for size in sizes}


def _numpy_dtype(arguments: tuple[Any, ...]) -> NumpyType:
    name = arguments[0]
    if type(name) is not str or name not in _NUMPY_TYPES | {"b1"}:
        raise Refused("its pickle holds a NumPy number of a type that is no number")
    return NumpyType(np.dtype(name))


def _numpy_scalar(arguments: tuple[Any, ...]) -> np.generic:
    kind, raw = arguments
    if type(kind) is not NumpyType or type(raw) is not bytes or len(raw) != kind.dtype.itemsize:
        raise Refused("its pickle holds a NumPy number of another size than its type's")
    if kind.dtype.kind == "b" and raw > b"\x01":
        raise Refused("its pickle holds a NumPy bool that is neither true nor false")
    return np.frombuffer(raw, kind.dtype).astype(kind.dtype.newbyteorder("="))[0]


def _encode(arguments: tuple[Any, ...]) -> bytes:
    # How protocol 2 writes bytes.
    text, encoding = arguments
    if type(text) is not str or type(encoding) is not str or encoding not in ("latin1", "latin-1"):
        raise Refused("its pickle holds bytes in an unknown form")
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        raise Refused("its pickle holds bytes in an unknown form") from None


def _no_bytes(arguments: tuple[Any, ...]) -> bytes:
    if arguments:
        raise Refused("its pickle holds bytes in an unknown form")
    return b""


_CALLS: dict[str, Callable[[tuple[Any, ...]], Any]] = {
    "collections.OrderedDict": _ordered_dict,
    "torch.Size": _size,
    "torch.device": _device,
    "torch._utils._rebuild_tensor": _rebuild_tensor,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils._rebuild_tensor_v3": _rebuild_tensor_v3,
    "torch._utils._rebuild_parameter": _rebuild_parameter,
    "torch._utils._rebuild_parameter_with_state": _rebuild_parameter,
    "torch._tensor._rebuild_from_type_v2": _rebuild_from_type,
    "numpy.dtype": _numpy_dtype,
    "numpy.core.multiarray.scalar": _numpy_scalar,
    "numpy._core.multiarray.scalar": _numpy_scalar,
    "_codecs.encode": _encode,
    "__builtin__.set": _set,
    "builtins.set": _set,
    "__builtin__.bytes": _no_bytes,
    "builtins.bytes": _no_bytes,
}
_REBUILDS = {name for name in _CALLS if name.startswith("torch._utils._rebuild_")}
_TENSOR_TYPES = {"torch.Tensor", "torch._tensor.Tensor", "torch.nn.parameter.Parameter"}
# PyTorch's names for what its storages hold. Types that NumPy lacks are known, so that the message can say so.
_STORAGES = {
    "Double": "float64", "Float": "float32", "Half": "float16", "BFloat16": "bfloat16", "Long": "int64",
    "Int": "int32", "Short": "int16", "Char": "int8", "Byte": "uint8", "Bool": "bool",
    "ComplexFloat": "complex64", "ComplexDouble": "complex128", "QInt8": "qint8", "QUInt8": "quint8",
    "QInt32": "qint32",
}  # fmt: skip
_DTYPES = (
    "float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "uint16", "uint32",
    "uint64", "bool", "complex64", "complex128", "float8_e4m3fn", "float8_e5m2",
)  # fmt: skip
_NAMES: dict[str, Global] = (
    {name: Global(name) for name in (*_CALLS, *_TENSOR_TYPES)}
    | {f"torch.{kind}Storage": Global(f"torch.{kind}Storage", dtype, True) for kind, dtype in _STORAGES.items()}
    | {f"torch.{module}UntypedStorage": Global("UntypedStorage", "bytes", True) for module in ("", "storage.")}
    | {f"torch.{dtype}": Global(f"torch.{dtype}", dtype) for dtype in _DTYPES}
)


def find_global(module: str, name: str) -> Global:
    """What a name stands for.

    Raises:
        Refused: the name is not on the list.
    """
    full = f"{module}.{name}"
    found = _NAMES.get(full)
    if found is None:
        shown = ascii(full if len(full) <= 100 else full[:100] + "...")[1:-1]
        whole = module.startswith(("torch.nn.", "torchvision.", "timm."))
        hint = "; it holds a model as code, not its state: save model.state_dict()" if whole else ""
        raise Refused(f"its pickle names {shown}, which no state dict needs; nothing was run{hint}")
    return found


def reduce(function: Global, arguments: tuple[Any, ...]) -> Any:
    """What stands for ``function(*arguments)``; nothing of the file's choice is called."""
    call = _CALLS.get(function.name)
    if call is None:
        raise Refused(f"its pickle calls {function.name}, which no state dict needs; nothing was run")
    try:
        return call(arguments)
    except (ValueError, IndexError):  # from taking the arguments apart
        raise Refused(f"its pickle gives {function.name} {len(arguments)} arguments") from None


def build(target: Any, state: Any) -> None:
    """What stands for setting an object's state."""
    if type(target) is dict and type(state) is dict:
        return  # a state dict's _metadata, an attribute of its OrderedDict
    if type(target) is NumpyType and type(state) is tuple and len(state) >= 2 and state[1] in ("<", ">", "|", "="):
        if state[1] in ("<", ">"):
            target.dtype = target.dtype.newbyteorder(state[1])
        return
    raise Refused("its pickle sets the state of something that has none")
