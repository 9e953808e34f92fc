"""Tensors made like another, and Tensors filled with random numbers in place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gpunet.autograd import draws, function
from gpunet.autograd.reshaping import Reshaping
from gpunet.autograd.shapes import Size, sizes
from gpunet.backend.devices import CPU, META, to_numpy
from gpunet.backend.devices import device as to_device
from gpunet.backend.errors import DeviceError, DTypeError, ShapeError
from gpunet.backend.random import Generator
from gpunet.ops.dtypes import canonical_dtype, stored_scalar

if TYPE_CHECKING:
    from gpunet.autograd.tensor import Tensor

__all__ = ["Filling", "check_sizes", "probabilities"]


def check_sizes(name: str, shape: tuple[Any, ...]) -> tuple[int, ...]:
    """Sizes given as separate integers or as one sequence, none negative.

    Raises:
        ShapeError: one is negative.
    """
    extents = sizes(shape)
    if any(extent < 0 for extent in extents):
        raise ShapeError(f"{name}: sizes must not be negative, got {extents}")
    return extents


def probabilities(name: str, p: Any) -> Any:
    """A probability, or an array of them.

    Raises:
        ValueError: one lies outside 0..1.
    """
    values = to_numpy(p._array) if hasattr(p, "_array") else p
    if not np.all((np.asarray(values) >= 0) & (np.asarray(values) <= 1)):
        raise ValueError(f"{name}: p must lie in 0..1, got {p if np.ndim(values) == 0 else 'values outside'}")
    return values


class Filling(Reshaping):
    """Tensors made like another, and random fills in place. Mixed into Tensor."""

    __slots__ = ()

    # Making others like it -------------------------------------------------------------------------------------------

    def _new(self, name: str, shape: Sequence[Any], fill: Any, dtype: Any, device: Any, requires_grad: bool) -> Tensor:
        target = self._device if device is None else to_device(device)
        kind = self.dtype if dtype is None else canonical_dtype(dtype)
        if isinstance(fill, (int, float)):
            fill = stored_scalar(name, fill, kind, finite=True)
        array = function.full_array(check_sizes(name, tuple(shape)), fill, kind, target)
        return function.wrap(array, target).requires_grad_(requires_grad)

    def new_zeros(self, *shape: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
        """Zeros of a shape, with this tensor's dtype and device."""
        return self._new("new_zeros", shape, 0, dtype, device, requires_grad)

    def new_ones(self, *shape: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
        """Ones of a shape, with this tensor's dtype and device."""
        return self._new("new_ones", shape, 1, dtype, device, requires_grad)

    def new_empty(self, *shape: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
        """Uninitialised elements of a shape, with this tensor's dtype and device."""
        return self._new("new_empty", shape, None, dtype, device, requires_grad)

    def new_full(
        self, size: Any, fill_value: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
    ) -> Tensor:
        """One value in a shape, with this tensor's dtype and device."""
        return self._new("new_full", (size,), fill_value, dtype, device, requires_grad)

    def new_tensor(self, data: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
        """A copy of data as a new tensor, with this tensor's dtype and device."""
        from gpunet.autograd.creation import tensor

        kind = self.dtype if dtype is None else dtype
        target = self._device if device is None else device
        return tensor(data, dtype=kind, device=target, requires_grad=requires_grad)

    def new(self, *data: Any, device: Any = None) -> Tensor:
        """Another tensor of this dtype and device: PyTorch's oldest form, for the scripts that have it.

        Args:
            data: sizes of an uninitialised tensor, one by one or as a ``Size``; a sequence of numbers or an array, to
                copy; or a tensor of the same dtype, which is viewed. Nothing makes an empty tensor. ``new_empty`` and
                ``new_tensor`` say which is meant.
            device: another one.

        Raises:
            TypeError: something else, such as a single float.
            DTypeError: a tensor of another dtype.
        """
        if len(data) == 1 and (isinstance(data[0], (bool, float, str, bytes)) or data[0] is None):
            raise TypeError(f"new: expected sizes, a sequence, an array or a tensor, got {data[0]!r}")
        if len(data) == 1 and hasattr(data[0], "_array"):
            if data[0].dtype != self.dtype:
                raise DTypeError(f"new: the tensor must have dtype {self.dtype.name}, got {data[0].dtype.name}")
            viewed: Tensor = data[0].reshape(tuple(data[0].shape))
            return viewed
        if len(data) == 1 and not isinstance(data[0], (int, Size)):
            return self.new_tensor(data[0], device=device)
        return self._new("new", data or (0,), None, None, device, False)

    # Random numbers in place -----------------------------------------------------------------------------------------

    def _filled(self, values: np.ndarray) -> Tensor:
        array = np.asarray(values).astype(self.dtype, copy=False)  # arithmetic makes 0-d arrays scalars
        return self.copy_(function.wrap(function.to_device_array(array, self._device), self._device))

    def uniform_(self, low: float = 0.0, to: float = 1.0, *, generator: Generator | None = None, **bounds: Any) -> Any:
        """Write uniform random numbers from ``from`` (included) to ``to`` (not).

        Args:
            low: the lower bound; PyTorch's name ``from`` is Python's own, and taken as ``**{"from": 0.5}``.
            to: the upper bound.
            generator: where the numbers come from; the default one if None.
            bounds: ``from``.
        """
        low = bounds.pop("from", low)
        if bounds:
            raise TypeError(f"uniform_: unknown argument {next(iter(bounds))!r}")
        draws.check_floating("uniform_", self.dtype)
        if not low <= to:
            raise ValueError(f"uniform_: from must not exceed to, got {low} and {to}")
        drawn = draws.uniforms(draws.stream("uniform_", generator), self.shape, self.dtype)
        return self._filled(drawn * drawn.dtype.type(to - low) + drawn.dtype.type(low))

    def normal_(self, mean: float = 0.0, std: float = 1.0, *, generator: Generator | None = None) -> Tensor:
        """Write normal random numbers."""
        draws.check_floating("normal_", self.dtype)
        if not std >= 0:
            raise ValueError(f"normal_: std must not be negative, got {std}")
        drawn = draws.normals(draws.stream("normal_", generator), self.shape, self.dtype)
        return self._filled(drawn * drawn.dtype.type(std) + drawn.dtype.type(mean))

    def log_normal_(self, mean: float = 1.0, std: float = 2.0, *, generator: Generator | None = None) -> Tensor:
        """Write random numbers whose logarithms are normal with a mean and a standard deviation."""
        draws.check_floating("log_normal_", self.dtype)
        if not std > 0:
            raise ValueError(f"log_normal_: std must be positive, got {std}")
        drawn = draws.normals(draws.stream("log_normal_", generator), self.shape, self.dtype)
        return self._filled(np.exp(drawn * drawn.dtype.type(std) + drawn.dtype.type(mean)))

    def exponential_(self, lambd: float = 1.0, *, generator: Generator | None = None) -> Tensor:
        """Write exponential random numbers of a rate: mean 1 / lambd."""
        draws.check_floating("exponential_", self.dtype)
        if not lambd > 0:
            raise ValueError(f"exponential_: lambd must be positive, got {lambd}")
        drawn = draws.exponentials(draws.stream("exponential_", generator), self.shape, self.dtype)
        return self._filled(drawn / drawn.dtype.type(lambd))

    def random_(self, *bounds: Any, generator: Generator | None = None) -> Tensor:
        """Write random integers: ``random_()`` of all the dtype holds in a row, ``random_(to)``, ``random_(from, to)``.

        ``to`` is not included; a bool tensor gets True and False.
        """
        if len(bounds) > 2:
            raise TypeError(f"random_: expected at most two bounds, got {len(bounds)}")
        low, high = bounds if len(bounds) == 2 else (None, bounds[0] if bounds else None)
        rng = draws.stream("random_", generator)
        return self._filled(draws.integers("random_", rng, low, high, self.shape, self.dtype))

    def bernoulli_(self, p: Any = 0.5, *, generator: Generator | None = None) -> Tensor:
        """Write 1 with probability p, a number or a tensor that broadcasts, else 0."""
        if getattr(p, "_device", CPU) is META:
            raise DeviceError("bernoulli_: p on 'meta' has no values")
        chance = probabilities("bernoulli_", p)
        return self._filled(draws.coins(draws.stream("bernoulli_", generator), chance, self.shape))

    def geometric_(self, p: float, *, generator: Generator | None = None) -> Tensor:
        """Write how many trials of probability p the first success took: 1, 2, ..."""
        if not 0 < p < 1:
            raise ValueError(f"geometric_: p must lie between 0 and 1, got {p}")
        return self._filled(np.asarray(draws.stream("geometric_", generator).geometric(p, self.shape)))

    def cauchy_(self, median: float = 0.0, sigma: float = 1.0, *, generator: Generator | None = None) -> Tensor:
        """Write random numbers of a Cauchy distribution."""
        draws.check_floating("cauchy_", self.dtype)
        if not sigma > 0:
            raise ValueError(f"cauchy_: sigma must be positive, got {sigma}")
        drawn = draws.stream("cauchy_", generator).standard_cauchy(self.shape)
        return self._filled(np.asarray(drawn * sigma + median))

    def bernoulli(self, p: Any = None, *, generator: Generator | None = None) -> Tensor:
        """1 with each element's probability (or with p), else 0: a new tensor of the same dtype, without gradient."""
        if p is None:
            draws.check_floating("bernoulli", self.dtype)
        if self._device is META:
            return self._new("bernoulli", (self.shape,), None, None, None, False)
        chance = probabilities("bernoulli", self if p is None else p)
        flips = draws.coins(draws.stream("bernoulli", generator), chance, self.shape)
        return function.wrap(function.to_device_array(flips.astype(self.dtype), self._device), self._device)

    def multinomial(self, num_samples: int, replacement: bool = False, *, generator: Generator | None = None) -> Tensor:
        """Categories drawn with probabilities proportional to the rows of a (C,) or (N, C) tensor of weights.

        Args:
            num_samples: how many are drawn from each row.
            replacement: whether a category may come again.
            generator: where the numbers come from; the default one if None.

        Returns:
            int64 of shape (num_samples,) or (N, num_samples).

        Raises:
            ValueError: more draws than categories of weight above 0, without replacement; a negative, infinite or NaN
                weight; a row of zeros.
        """
        draws.check_floating("multinomial", self.dtype)
        shape = self.shape
        if len(shape) not in (1, 2):
            raise ShapeError(f"multinomial: input must have 1 or 2 dimensions, got shape {shape}")
        if num_samples < 1:
            raise ValueError(f"multinomial: num_samples must be at least 1, got {num_samples}")
        if not replacement and num_samples > shape[-1]:
            raise ValueError(
                f"multinomial: num_samples must not exceed the {shape[-1]} categories without replacement, "
                f"got {num_samples}"
            )
        if self._device is META:
            return self._new("multinomial", (*shape[:-1], num_samples), None, "int64", None, False)
        weights = to_numpy(self._array).astype(np.float64)
        if not (np.isfinite(weights) & (weights >= 0)).all():
            raise ValueError("multinomial: input must hold finite weights, none negative")
        positive = np.count_nonzero(weights, axis=-1)
        if positive.size and int(positive.min()) < (1 if replacement else num_samples):
            raise ValueError(
                "multinomial: each row needs a weight above 0"
                if replacement or int(positive.min()) == 0
                else f"multinomial: {num_samples} draws without replacement need as many weights above 0 in each row"
            )
        rng = draws.stream("multinomial", generator)
        if replacement:
            rows = weights.reshape(-1, shape[-1])
            points = rng.random((len(rows), num_samples))
            chosen = np.empty(points.shape, np.int64)
            for row, point, out in zip(rows, points, chosen, strict=True):
                edges = row.cumsum()
                # The first category whose edge lies beyond the point: one of weight 0 has no width to be hit.
                out[...] = np.minimum(np.searchsorted(edges, point * edges[-1], "right"), np.flatnonzero(row)[-1])
            chosen = chosen.reshape(*shape[:-1], num_samples)
        else:
            # The order of arrival of exponential clocks with these rates is that of draws without replacement.
            with np.errstate(divide="ignore"):
                arrivals = rng.standard_exponential(shape) / weights
            chosen = np.argsort(arrivals, axis=-1, kind="stable")[..., :num_samples]
        return function.wrap(function.to_device_array(chosen, self._device), self._device)
