"""Tensors as text, in PyTorch's layout.

Floats have four digits; where a tensor holds whole numbers alone they end in a point, and where it spans more than
three orders of magnitude, or holds values above 1e8 or below 1e-4, they are in scientific notation. Beyond 1000
elements the middle of each dimension is left out. What is not the default follows: the device, the dtype, the size of
what has no elements, and the operation that made it or that it requires grad.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from gpunet.backend.devices import CPU, META, to_numpy
from gpunet.ops.dtypes import BOOL, INT64, get_default_dtype, is_floating

if TYPE_CHECKING:
    from gpunet.autograd.tensor import Tensor

__all__ = ["get_printoptions", "printoptions", "set_printoptions", "tensor_text"]


@dataclass
class _Options:
    precision: int = 4
    threshold: float = 1000
    edgeitems: int = 3
    linewidth: int = 80
    sci_mode: bool | None = None


_options: Final = _Options()
_PROFILES: Final[dict[str, tuple[int, float, int]]] = {
    "default": (4, 1000, 3),
    "short": (2, 1000, 2),
    "full": (4, math.inf, 3),
}


def set_printoptions(
    precision: int | None = None,
    threshold: float | None = None,
    edgeitems: int | None = None,
    linewidth: int | None = None,
    profile: str | None = None,
    sci_mode: bool | None = None,
) -> None:
    """How tensors are printed from now on; what is not given stays, but for ``sci_mode``.

    Args:
        precision: digits after the point.
        threshold: with more elements than this the middle is left out.
        edgeitems: how many elements are then kept at each end of a dimension.
        linewidth: characters in a line.
        profile: ``"default"``, ``"short"`` or ``"full"``, to start from.
        sci_mode: scientific notation always or never; None leaves it to the values.

    Raises:
        ValueError: an unknown profile, or a negative number.
    """
    given = {"precision": precision, "threshold": threshold, "edgeitems": edgeitems, "linewidth": linewidth}
    for name, value in given.items():
        if value is not None and value < 0:
            raise ValueError(f"set_printoptions: {name} must not be negative, got {value}")
    if profile is not None:
        if profile not in _PROFILES:
            raise ValueError(f"set_printoptions: profile must be 'default', 'short' or 'full', got {profile!r}")
        _options.precision, _options.threshold, _options.edgeitems = _PROFILES[profile]
        _options.linewidth = 80
    for name, value in given.items():
        if value is not None:
            setattr(_options, name, value)
    _options.sci_mode = sci_mode


def get_printoptions() -> dict[str, Any]:
    """How tensors are printed, as the arguments of ``set_printoptions``."""
    return asdict(_options)


@contextmanager
def printoptions(**options: Any) -> Iterator[None]:
    """Print with other options inside a ``with`` block."""
    before = get_printoptions()
    set_printoptions(**options)
    try:
        yield
    finally:
        set_printoptions(**before)


class _Format:
    """One width and notation for all elements of a tensor, from those that will be shown."""

    def __init__(self, shown: np.ndarray) -> None:
        self.floating = shown.dtype.kind == "f"
        self.whole = True
        self.scientific = False
        self.width = 1
        if self.floating:
            values = shown[np.isfinite(shown) & (shown != 0)].astype(np.float64)
            if not values.size:
                return
            magnitude = np.abs(values)
            smallest, largest = float(magnitude.min()), float(magnitude.max())
            self.whole = bool(np.all(values == np.ceil(values)))
            wide = largest / smallest > 1000 or largest > 1e8 or smallest < 1e-4
            self.scientific = wide if _options.sci_mode is None else _options.sci_mode
        else:
            values = shown.reshape(-1)
        self.width = max((len(self._bare(value)) for value in values.tolist()), default=1)

    def _bare(self, value: Any) -> str:
        if not self.floating:
            return str(value)
        if self.scientific:
            return f"{value:.{_options.precision}e}"
        if self.whole:
            return f"{value:.0f}" + ("." if math.isfinite(value) else "")
        return f"{value:.{_options.precision}f}"

    def __call__(self, value: Any) -> str:
        return self._bare(value).rjust(self.width)


def _ends(extent: int) -> list[int]:
    """The indices of a dimension that are shown when the middle is left out."""
    edge = _options.edgeitems
    return list(range(extent)) if extent <= 2 * edge else [*range(edge), *range(extent - edge, extent)]


def _text(array: np.ndarray, indent: int, shorten: bool, element: _Format) -> str:
    if array.ndim == 0:
        return element(array.item())
    cut = shorten and array.shape[0] > 2 * _options.edgeitems
    kept = array[_ends(array.shape[0])] if cut else array
    if array.ndim > 1:
        parts = [_text(part, indent + 1, shorten, element) for part in kept]
        if cut:
            parts.insert(_options.edgeitems, "...")
        return "[" + ("," + "\n" * (array.ndim - 1) + " " * (indent + 1)).join(parts) + "]"
    words = [element(value) for value in kept.tolist()]
    if cut:
        words.insert(_options.edgeitems, " ..." if _options.edgeitems else "...")
    fit = max(1, (_options.linewidth - indent) // (element.width + 2))
    lines = (", ".join(words[start : start + fit]) for start in range(0, len(words), fit))
    return "[" + (",\n" + " " * (indent + 1)).join(lines) + "]"


def _elements_text(array: np.ndarray, indent: int) -> str:
    if not array.size:
        return "[]"
    if array.dtype.itemsize == 2 and is_floating(array.dtype):
        array = array.astype(np.float32)
    shorten = array.size > _options.threshold
    shown = array[np.ix_(*map(_ends, array.shape))] if shorten else array
    return _text(array, indent, shorten, _Format(shown))


def tensor_text(tensor: Tensor) -> str:
    """What ``repr`` of a tensor shows."""
    prefix = "tensor("
    meta = tensor.device is META
    text = "..." if meta else _elements_text(to_numpy(tensor._array), len(prefix))
    notes = []
    if tensor.device is not CPU:
        notes.append(f"device={str(tensor.device)!r}")
    empty = tensor.numel() == 0
    if meta or (empty and tensor.ndim != 1) or not _options.edgeitems:
        notes.append(f"size={tuple(tensor.shape)}")
    # Elements that are seen tell int64 and bool apart.
    if tensor.dtype not in ((get_default_dtype(),) if empty or meta else (get_default_dtype(), INT64, BOOL)):
        notes.append(f"dtype={tensor.dtype.name}")
    if tensor.grad_fn is not None:
        notes.append(f"grad_fn=<{tensor.grad_fn.op.name}>")
    elif tensor.requires_grad:
        notes.append("requires_grad=True")
    parts = [prefix + text]
    used = len(parts[0]) - parts[0].rfind("\n") + 1
    for note in notes:
        if used + len(note) + 2 > _options.linewidth:
            parts.append(",\n" + " " * len(prefix) + note)
            used = len(prefix) + len(note)
        else:
            parts.append(", " + note)
            used += len(note) + 2
    return "".join(parts) + ")"
