"""Indexing of Tensors: reading and writing parts of them."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import numpy as np

from gpunet.autograd import function
from gpunet.autograd.elementwise import Elementwise
from gpunet.backend.devices import CPU
from gpunet.ops import REGISTRY
from gpunet.ops.dtypes import BOOL

if TYPE_CHECKING:
    from gpunet.autograd.tensor import Tensor

__all__ = ["Indexing", "index_layout"]

SLICE, GATHER, SET_INDEX = REGISTRY["slice"], REGISTRY["gather_index"], REGISTRY["set_index"]


def index_layout(index: Any, device: Any) -> tuple[tuple[Any, ...], list[Tensor]]:
    """An index as a layout of integers, slices, None and Ellipsis, and the arrays among them.

    Arrays are replaced by a tuple of their number.
    """
    from gpunet.autograd.tensor import Tensor

    layout: list[Any] = []
    arrays: list[Tensor] = []
    for item in index if isinstance(index, tuple) else (index,):
        if item is None or item is Ellipsis:
            layout.append(item)
        elif isinstance(item, slice):
            layout.append(
                slice(*(None if part is None else operator.index(part) for part in (item.start, item.stop, item.step)))
            )
        elif isinstance(item, (bool, np.bool_)):
            raise TypeError(
                "index: a bare True or False is not supported; use a mask tensor, or None for a new dimension"
            )
        elif isinstance(item, (int, np.integer)):
            layout.append(int(item))
        elif isinstance(item, Tensor) and item._array.ndim == 0 and item.dtype != BOOL:
            layout.append(item.__index__())
        elif isinstance(item, np.ndarray) and item.ndim == 0 and item.dtype.kind == "i":
            layout.append(int(item))
        else:
            if not isinstance(item, Tensor):
                array = np.asarray(list(item) if isinstance(item, range) else item)
                if array.size == 0 and not isinstance(item, np.ndarray):
                    array = array.astype(np.int64)
                item = Tensor._wrap(function.to_device_array(array, device), device)
            elif item._device is CPU and device is not CPU:  # indices may come from the CPU, as PyTorch lets them
                item = item.to(device)
            layout.append((len(arrays),))
            arrays.append(item)
    if sum(item is Ellipsis for item in layout) > 1:
        raise IndexError("index: an index can only have one Ellipsis (...)")
    return tuple(layout), arrays


class Indexing(Elementwise):
    """Indexing: reading parts of Tensors. Mixed into Tensor."""

    __slots__ = ()

    def __getitem__(self, index: Any) -> Tensor:
        layout, arrays = index_layout(index, self._device)
        if arrays:
            return function.apply(GATHER, self, *arrays, layout=layout)
        return function.apply(SLICE, self, index=layout)
