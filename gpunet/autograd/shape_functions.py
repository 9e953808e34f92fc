"""Methods that select and rearrange elements as functions: ``gn.flip(x, (0,))`` for ``x.flip(0)``."""

from __future__ import annotations

from typing import Any

from gpunet.autograd.functions import _function
from gpunet.autograd.tensor import Tensor

__all__ = [
    "adjoint",
    "argwhere",
    "broadcast_to",
    "chunk",
    "fliplr",
    "flip",
    "flipud",
    "gather",
    "hsplit",
    "index_add",
    "index_copy",
    "index_fill",
    "index_put",
    "index_select",
    "is_complex",
    "is_floating_point",
    "is_signed",
    "masked_fill",
    "masked_scatter",
    "masked_select",
    "moveaxis",
    "movedim",
    "narrow",
    "nonzero",
    "ravel",
    "repeat_interleave",
    "roll",
    "rot90",
    "scatter",
    "scatter_add",
    "select",
    "swapaxes",
    "swapdims",
    "t",
    "take",
    "take_along_dim",
    "tensor_split",
    "tile",
    "tril",
    "triu",
    "unbind",
    "unflatten",
    "vsplit",
]

adjoint = _function("adjoint", "The last two dimensions exchanged.")
argwhere = _function("argwhere", "The positions of the elements that are not zero.")
broadcast_to = _function("broadcast_to", "Sizes of one stretched without copying.")
chunk = _function("chunk", "A number of pieces along a dimension.")
flip = _function("flip", "The elements in reverse order along dimensions.")
fliplr = _function("fliplr", "Columns in reverse order.")
flipud = _function("flipud", "Rows in reverse order.")
gather = _function("gather", "One element for each of an index, along a dimension.")
hsplit = _function("hsplit", "Pieces along dimension 1.")
index_add = _function("index_add", "A copy with slices added.")
index_copy = _function("index_copy", "A copy with slices replaced.")
index_fill = _function("index_fill", "A copy with slices set to a number.")
index_select = _function("index_select", "The slices at given positions of a dimension.")
index_put = _function("index_put", "A copy with values at an index.")
is_complex = _function("is_complex", "False: there are no complex numbers.")
is_signed = _function("is_signed", "Whether the dtype holds negative numbers.")
select = _function("select", "The slice at a position of a dimension.")
is_floating_point = _function("is_floating_point", "Whether the dtype is floating.")
masked_fill = _function("masked_fill", "A copy with one value under a mask.")
masked_scatter = _function("masked_scatter", "A copy with the elements under a mask replaced.")
masked_select = _function("masked_select", "The elements under a mask.")
moveaxis = _function("moveaxis", "Dimensions moved to other places.")
movedim = _function("movedim", "Dimensions moved to other places.")
narrow = _function("narrow", "A run of elements of a dimension.")
nonzero = _function("nonzero", "The positions of the elements that are not zero.")
ravel = _function("ravel", "One dimension.")
roll = _function("roll", "The elements moved around the end.")
rot90 = _function("rot90", "Turned by 90 degrees.")
scatter = _function("scatter", "A copy with values written at an index along a dimension.")
scatter_add = _function("scatter_add", "A copy with values added at an index along a dimension.")
swapaxes = _function("swapaxes", "Two dimensions exchanged.")
swapdims = _function("swapdims", "Two dimensions exchanged.")
t = _function("t", "A matrix transposed.")
take = _function("take", "The elements at row-major positions.")
take_along_dim = _function("take_along_dim", "As gather, with broadcasting.")
tensor_split = _function("tensor_split", "Nearly equal pieces along a dimension.")
tile = _function("tile", "Copies put side by side.")
tril = _function("tril", "The lower triangle of matrices.")
triu = _function("triu", "The upper triangle of matrices.")
unbind = _function("unbind", "The slices along a dimension.")
unflatten = _function("unflatten", "One dimension made several.")
vsplit = _function("vsplit", "Pieces along dimension 0.")


def repeat_interleave(
    input: Tensor, repeats: Any = None, dim: int | None = None, *, output_size: int | None = None
) -> Tensor:
    """Each element repeated in place; ``repeat_interleave(repeats)`` gives each position as often as it says."""
    if not isinstance(input, Tensor):
        raise TypeError(f"repeat_interleave: input must be a Tensor, got {type(input).__name__}")
    if repeats is None:
        from gpunet.autograd.creation import arange

        return arange(input.numel(), device=input.device).repeat_interleave(input, 0, output_size=output_size)
    return input.repeat_interleave(repeats, dim, output_size=output_size)
