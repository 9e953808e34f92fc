"""Tensors with their elements moved: flipped, rolled, repeated, cut, in windows."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gpunet.autograd import function
from gpunet.autograd.shapes import Shapes, named_sizes, sizes
from gpunet.backend.errors import DeviceError, DTypeError, ShapeError
from gpunet.ops import REGISTRY
from gpunet.ops.reduce import normalize_axis

if TYPE_CHECKING:
    from gpunet.autograd.tensor import Tensor

__all__ = ["Rearranging", "index_tensor", "integer"]


def integer(name: str, value: Any) -> int:
    """An argument that must be an integer.

    Raises:
        TypeError: it is not; names the function and the argument.
    """
    if isinstance(value, (bool, np.bool_)) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    return operator.index(value)


def index_tensor(array: np.ndarray, device: Any) -> Tensor:
    """Positions computed on the CPU, as a tensor of a device."""
    from gpunet.autograd.tensor import Tensor

    return Tensor._wrap(function.to_device_array(array.astype(np.int64, copy=False), device), device)


class Rearranging(Shapes):
    """Tensors with their elements moved: flipped, rolled, repeated, cut, in windows. Mixed into Tensor."""

    __slots__ = ()

    def flip(self, *axes: Any, dims: Any = None) -> Tensor:
        """The elements in reverse order along dimensions; a copy."""
        return function.apply(REGISTRY["flip"], self, dims=named_sizes(axes, dims))

    def fliplr(self) -> Tensor:
        """Columns (dimension 1) in reverse order."""
        if self.ndim < 2:
            raise ShapeError(f"fliplr: input must have at least 2 dimensions, got shape {self.shape}")
        return self.flip(1)

    def flipud(self) -> Tensor:
        """Rows (dimension 0) in reverse order."""
        if self.ndim < 1:
            raise ShapeError(f"flipud: input must have at least 1 dimension, got shape {self.shape}")
        return self.flip(0)

    def roll(self, shifts: Any, dims: Any = ()) -> Tensor:
        """The elements moved by ``shifts`` along ``dims``, around the end; without dims in row-major order."""
        return function.apply(REGISTRY["roll"], self, shifts=sizes((shifts,)), dims=sizes((dims,)))

    def rot90(self, k: int = 1, dims: Sequence[int] = (0, 1)) -> Tensor:
        """Turned k times by 90 degrees in the plane of two dimensions, from the first towards the second."""
        if len(dims) != 2:
            raise ShapeError(f"rot90: dims must name two dimensions, got {tuple(dims)}")
        if self.ndim < 2:
            raise ShapeError(f"rot90: input must have at least 2 dimensions, got shape {self.shape}")
        first, second = (normalize_axis("rot90", dim, self.ndim) for dim in dims)
        if first == second:
            raise ShapeError(f"rot90: dims must name two different dimensions, got {tuple(dims)}")
        turns = integer("rot90: k", k) % 4
        if turns == 0:
            return self.clone()  # type: ignore[attr-defined]
        if turns == 2:
            return self.flip(first, second)
        return self.transpose(first, second).flip(first if turns == 1 else second)

    def tril(self, diagonal: int = 0) -> Tensor:
        """The lower triangle of matrices (the last two dimensions), up to a diagonal; 0 above it."""
        return function.apply(REGISTRY["tril"], self, diagonal=integer("tril: diagonal", diagonal))

    def triu(self, diagonal: int = 0) -> Tensor:
        """The upper triangle of matrices (the last two dimensions), from a diagonal on; 0 below it."""
        return function.apply(REGISTRY["triu"], self, diagonal=integer("triu: diagonal", diagonal))

    def repeat(self, *times: Any, repeats: Any = None) -> Tensor:
        """Copies put side by side, ``repeats[d]`` along each dimension; missing dimensions are added in front."""
        return function.apply(REGISTRY["repeat"], self, repeats=named_sizes(times, repeats))

    def tile(self, *repeats: Any, dims: Any = None) -> Tensor:
        """As ``repeat``, but fewer numbers than dimensions mean 1 for the first ones."""
        times = named_sizes(repeats, dims)
        return self.repeat((1,) * (self.ndim - len(times)) + times)

    def repeat_interleave(self, repeats: Any, dim: int | None = None, *, output_size: int | None = None) -> Tensor:
        """Each element (of the flattened tensor without ``dim``) repeated in place.

        Args:
            repeats: an integer, or an integer tensor with one for each element along the dimension.
            dim: the dimension.
            output_size: the sum of the repeats, if known; it is checked.
        """
        from gpunet.autograd.tensor import Tensor

        name = "repeat_interleave"
        if dim is None:
            return self.reshape(-1).repeat_interleave(repeats, 0, output_size=output_size)
        axis = normalize_axis(name, dim, max(self.ndim, 1))
        source = self if self.ndim else self.reshape(1)
        extent = source.shape[axis]
        counts: Any = repeats
        if isinstance(repeats, Tensor):
            if repeats.dtype.name not in ("int64", "int32"):
                raise DTypeError(f"{name}: repeats must be int64 or int32, got {repeats.dtype.name}")
            if repeats.ndim > 1 or repeats.numel() not in (1, extent):
                raise ShapeError(f"{name}: repeats must hold one number or {extent}, got shape {repeats.shape}")
            if repeats.is_meta:
                if output_size is None:
                    raise DeviceError(f"{name}: repeats on 'meta' have no values; give output_size")
                counts = None
            else:
                counts = repeats._to_host(name).reshape(-1)
        else:
            counts = np.full(extent, integer(f"{name}: repeats", repeats))
        if counts is None:
            positions = np.zeros(integer(f"{name}: output_size", output_size), np.int64)
        else:
            if counts.size and counts.min() < 0:
                raise ValueError(f"{name}: repeats must not be negative, got {int(counts.min())}")
            positions = np.repeat(np.arange(extent), counts)
            if output_size is not None and output_size != positions.size:
                raise ValueError(f"{name}: output_size must be {positions.size}, the sum of repeats, got {output_size}")
        place = index_tensor(positions, self._device)
        return function.apply(REGISTRY["index_select"], source, place, dim=axis)

    def movedim(self, source: Any, destination: Any) -> Tensor:
        """Dimensions moved to other places; the rest stay in order."""
        origin, target = sizes((source,)), sizes((destination,))
        if len(origin) != len(target):
            raise ShapeError(
                f"movedim: source and destination must be of one length, got {len(origin)} and {len(target)}"
            )
        ndim = self.ndim
        sources, targets = ([normalize_axis("movedim", axis, ndim) for axis in axes] for axes in (origin, target))
        for what, axes, given in (("source", sources, origin), ("destination", targets, target)):
            if len(set(axes)) != len(axes):
                raise ShapeError(f"movedim: {what} names a dimension twice: {given}")
        order = [axis for axis in range(ndim) if axis not in sources]
        for place, axis in sorted(zip(targets, sources, strict=True)):
            order.insert(place, axis)
        return self.permute(*order) if ndim else self.permute(())

    moveaxis = movedim

    def adjoint(self) -> Tensor:
        """The last two dimensions exchanged."""
        return self.mT

    def tensor_split(self, indices_or_sections: Any, dim: int = 0) -> tuple[Tensor, ...]:
        """Pieces along a dimension: a number of nearly equal ones, or cut before the given indices."""
        from gpunet.autograd.tensor import Tensor

        if not self.ndim:
            raise ShapeError("tensor_split: a 0-d tensor cannot be split")
        axis = normalize_axis("tensor_split", dim, self.ndim)
        extent = self.shape[axis]
        if isinstance(indices_or_sections, Tensor):
            indices_or_sections = indices_or_sections.tolist()
        if isinstance(indices_or_sections, (list, tuple)):
            cuts = [slice(None, int(cut)).indices(extent)[1] for cut in indices_or_sections]
        else:
            sections = integer("tensor_split: indices_or_sections", indices_or_sections)
            if sections < 1:
                raise ValueError(f"tensor_split: the number of sections must be at least 1, got {sections}")
            small, larger = divmod(extent, sections)
            cuts = [section * small + min(section, larger) for section in range(1, sections)]
        bounds = zip([0, *cuts], [*cuts, extent], strict=True)
        return tuple(self[(slice(None),) * axis + (slice(start, max(start, stop)),)] for start, stop in bounds)

    def _split_at(self, name: str, sections: Any, axes: tuple[int, ...]) -> tuple[Tensor, ...]:
        """Pieces along the last of ``axes`` that the tensor has; a number must divide its size."""
        if self.ndim < len(axes):
            raise ShapeError(f"{name}: input must have at least {len(axes)} dimension(s), got shape {self.shape}")
        axis = 0 if self.ndim == 1 else axes[-1]
        if hasattr(sections, "__index__") and (sections < 1 or self.shape[axis] % sections):
            raise ValueError(f"{name}: {sections} sections do not divide dimension {axis} of size {self.shape[axis]}")
        return self.tensor_split(sections, axis)

    def hsplit(self, indices_or_sections: Any) -> tuple[Tensor, ...]:
        """Pieces along dimension 1, or 0 of a 1-d tensor."""
        if self.ndim == 0:
            raise ShapeError("hsplit: input must have at least 1 dimension, got shape ()")
        return self._split_at("hsplit", indices_or_sections, (0,) if self.ndim == 1 else (0, 1))

    def vsplit(self, indices_or_sections: Any) -> tuple[Tensor, ...]:
        """Pieces along dimension 0."""
        if self.ndim < 2:
            raise ShapeError(f"vsplit: input must have at least 2 dimensions, got shape {self.shape}")
        return self._split_at("vsplit", indices_or_sections, (0,))

    def unfold(self, dimension: int, size: int, step: int) -> Tensor:
        """Windows of a dimension: it becomes the number of windows, and their elements a last dimension; a copy."""
        axis = normalize_axis("unfold", dimension, max(self.ndim, 1))
        source = self if self.ndim else self.reshape(1)
        extent = source.shape[axis]
        length, stride = integer("unfold: size", size), integer("unfold: step", step)
        if not 0 <= length <= extent:
            raise ShapeError(f"unfold: size must lie in 0..{extent}, the size of dimension {dimension}, got {length}")
        if stride < 1:
            raise ValueError(f"unfold: step must be positive, got {stride}")
        starts = np.arange(0, extent - length + 1, stride)
        places = index_tensor((starts[:, None] + np.arange(length)).reshape(-1), self._device)
        windows = function.apply(REGISTRY["index_select"], source, places, dim=axis)
        shape = source.shape
        apart = windows.reshape(*shape[:axis], len(starts), length, *shape[axis + 1 :])
        result = apart.movedim(axis + 1, -1) if self.ndim else apart.reshape(length)
        function.note_copy(result, self)
        return result

    def as_strided(self, *args: Any, **kwargs: Any) -> Tensor:
        """Not had: memory has no fixed order here.

        Raises:
            NotImplementedError: always; says what to use.
        """
        raise NotImplementedError(
            "as_strided: not supported, as the memory order of activations is gpunet's own; "
            "use unfold, indexing, expand or permute"
        )
