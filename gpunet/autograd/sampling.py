"""Making tensors of random numbers. They are drawn on the CPU: the same on every device."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpunet.autograd import draws
from gpunet.autograd.creation import from_host, shape_of
from gpunet.autograd.filling import check_sizes
from gpunet.autograd.rearranging import integer
from gpunet.autograd.tensor import Tensor
from gpunet.backend.devices import META
from gpunet.backend.errors import DeviceError, DTypeError
from gpunet.backend.random import Generator
from gpunet.ops.dtypes import BOOL, INT64, canonical_dtype, get_default_dtype, is_floating
from gpunet.ops.elementwise import broadcast_shapes

__all__ = [
    "bernoulli",
    "multinomial",
    "normal",
    "poisson",
    "rand",
    "rand_like",
    "randint",
    "randint_like",
    "randn",
    "randn_like",
    "randperm",
]


def _kind(name: str, dtype: Any) -> Any:
    kind = get_default_dtype() if dtype is None else canonical_dtype(dtype)
    draws.check_floating(name, kind)
    return kind


def randn(
    *shape: Any,
    size: Any = None,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Normal random numbers, mean 0 and variance 1."""
    kind = _kind("randn", dtype)
    extents = check_sizes("randn", shape_of("randn", shape, size))
    return from_host(draws.normals(draws.stream("randn", generator), extents, kind), kind, device, requires_grad)


def rand(
    *shape: Any,
    size: Any = None,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Uniform random numbers, 0 included and 1 not."""
    kind = _kind("rand", dtype)
    extents = check_sizes("rand", shape_of("rand", shape, size))
    return from_host(draws.uniforms(draws.stream("rand", generator), extents, kind), kind, device, requires_grad)


def _check_input(name: str, input: Any) -> None:
    if not isinstance(input, Tensor):
        raise TypeError(f"{name}: input must be a Tensor, got {type(input).__name__}")


def randn_like(
    input: Tensor,
    *,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    memory_format: Any = None,
) -> Tensor:
    """Normal random numbers with another tensor's shape, dtype and device."""
    _check_input("randn_like", input)
    kind, target = input.dtype if dtype is None else dtype, input.device if device is None else device
    return randn(input.shape, generator=generator, dtype=kind, device=target, requires_grad=requires_grad)


def rand_like(
    input: Tensor,
    *,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    memory_format: Any = None,
) -> Tensor:
    """Uniform random numbers with another tensor's shape, dtype and device."""
    _check_input("rand_like", input)
    kind, target = input.dtype if dtype is None else dtype, input.device if device is None else device
    return rand(input.shape, generator=generator, dtype=kind, device=target, requires_grad=requires_grad)


def randint(
    low: Any = None,
    high: Any = None,
    size: Any = None,
    *,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Random integers from low (0 if left out) to high - 1: ``randint(high, size)`` or ``randint(low, high, size)``."""
    if size is None:  # randint(high, size)
        low, high, size = None, low, high
    elif high is None:
        low, high = None, low
    if high is None or size is None or hasattr(size, "__index__"):
        raise TypeError(f"randint: high and a sequence of sizes must be given, got {high!r} and {size!r}")
    first = 0 if low is None else integer("randint: low", low)
    kind = INT64 if dtype is None else canonical_dtype(dtype)
    # PyTorch does not hold floating dtypes to what they resolve, nor do we: large numbers are rounded.
    exact = INT64 if is_floating(kind) else kind
    rng = draws.stream("randint", generator)
    last, extents = integer("randint: high", high), check_sizes("randint", (size,))
    if last <= first:
        raise ValueError(f"randint: high must be greater than low, got {first} and {last}")
    values = draws.integers("randint", rng, first, last, extents, exact)
    return from_host(values, kind, device, requires_grad)


def randint_like(
    input: Tensor,
    low: int,
    high: int | None = None,
    *,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    memory_format: Any = None,
) -> Tensor:
    """Random integers from low (0 if left out) to high - 1, with another tensor's shape, dtype and device."""
    _check_input("randint_like", input)
    first, last = (0, low) if high is None else (low, high)
    kind, target = input.dtype if dtype is None else dtype, input.device if device is None else device
    return randint(
        first, last, input.shape, generator=generator, dtype=kind, device=target, requires_grad=requires_grad
    )


def randperm(
    n: int,
    *,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """The integers 0 to n - 1 in random order."""
    count = integer("randperm: n", n)
    if count < 0:
        raise ValueError(f"randperm: n must not be negative, got {count}")
    kind = INT64 if dtype is None else canonical_dtype(dtype)
    if kind == BOOL:
        raise DTypeError("randperm: dtype must be a number type, got bool")
    if kind.kind in "iu" and count - 1 > np.iinfo(kind).max:
        raise ValueError(f"randperm: {kind.name} does not hold {count - 1}")
    return from_host(draws.stream("randperm", generator).permutation(count), kind, device, requires_grad)


def _parameter(name: str, what: str, value: Any, kind: Any) -> Any:
    """A number, or a tensor's elements."""
    if not isinstance(value, Tensor):
        if not isinstance(value, (int, float, np.number)):
            raise TypeError(f"{name}: {what} must be a Tensor or a number, got {type(value).__name__}")
        return value
    draws.check_floating(name, value.dtype)
    if value.device is META:
        raise DeviceError(f"{name}: {what} on 'meta' has no values")
    return value.detach().cpu()._array.astype(kind)


def normal(
    mean: Any,
    std: Any = 1.0,
    size: Any = None,
    *,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Normal random numbers: ``normal(mean, std)`` with tensors, or with one and a number, or ``normal(0, 1, size)``.

    Args:
        mean: a number, or a tensor of means.
        std: a number, or a tensor of standard deviations, that broadcasts with mean; none negative.
        size: the shape, if both are numbers.
        generator: where the numbers come from; the default one if None.
        dtype: the dtype, if both are numbers.
        device: the device, if both are numbers.
        requires_grad: ask for gradients. None flow to mean and std.
    """
    tensors = [value for value in (mean, std) if isinstance(value, Tensor)]
    if tensors:
        if size is not None or dtype is not None or device is not None:
            raise TypeError("normal: size, dtype and device belong to numbers as mean and std")
        kind, target = tensors[0].dtype, tensors[0].device
        if len(tensors) == 2 and tensors[0].device is not tensors[1].device:
            raise DeviceError(f"normal: mean and std must be on one device, got {mean.device} and {std.device}")
        extents = broadcast_shapes("normal", *(value.shape for value in tensors))
    else:
        if size is None:
            raise TypeError("normal: size must be given where mean and std are numbers")
        kind, target = _kind("normal", dtype), device
        extents = check_sizes("normal", (size,))
    carried = np.float64 if kind.itemsize == 8 else np.float32
    mu, sigma = (_parameter("normal", what, value, carried) for what, value in (("mean", mean), ("std", std)))
    if not np.all(np.asarray(sigma) >= 0):
        raise ValueError(f"normal: std must not be negative, got {float(np.min(sigma))}")
    drawn = draws.normals(draws.stream("normal", generator), extents, kind)
    return from_host(np.asarray(drawn * sigma + mu, carried), kind, target, requires_grad)


def bernoulli(input: Tensor, p: float | None = None, *, generator: Generator | None = None) -> Tensor:
    """1 with each element's probability (or with p), else 0; without gradient. See ``Tensor.bernoulli``."""
    _check_input("bernoulli", input)
    return input.bernoulli(p, generator=generator)


def multinomial(
    input: Tensor, num_samples: int, replacement: bool = False, *, generator: Generator | None = None
) -> Tensor:
    """Categories drawn with probabilities proportional to rows of weights. See ``Tensor.multinomial``."""
    _check_input("multinomial", input)
    return input.multinomial(num_samples, replacement, generator=generator)


def poisson(input: Tensor, generator: Generator | None = None) -> Tensor:
    """Poisson random numbers with each element's rate; without gradient."""
    _check_input("poisson", input)
    draws.check_floating("poisson", input.dtype)
    rates = np.asarray(_parameter("poisson", "input", input, np.float64))
    if not np.all(rates >= 0):
        raise ValueError(f"poisson: input must hold rates, none negative, got {float(np.min(rates))}")
    drawn = draws.stream("poisson", generator).poisson(rates)
    return from_host(np.asarray(drawn), input.dtype, input.device)
