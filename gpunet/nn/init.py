"""Initial values, written into tensors in place.

Everything is drawn on the CPU, in the logical order of the elements, from one stream of random numbers: the same seed
gives the same weights on every device, in every memory layout and on any number of threads. On the ``meta`` device
nothing is drawn.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import NormalDist

import numpy as np

from gpunet import _missing
from gpunet.autograd import Tensor
from gpunet.backend.devices import on_device, transfer
from gpunet.backend.errors import DTypeError, ShapeError
from gpunet.backend.memory import assign
from gpunet.backend.random import Generator, default_generator, fill_normal, fill_uniform
from gpunet.backend.threads import parallel_for
from gpunet.ops.dtypes import is_floating

__all__ = [
    "calculate_gain",
    "constant_",
    "dirac_",
    "eye_",
    "kaiming_normal_",
    "kaiming_uniform_",
    "normal_",
    "ones_",
    "orthogonal_",
    "sparse_",
    "trunc_normal_",
    "uniform_",
    "xavier_normal_",
    "xavier_uniform_",
    "zeros_",
]

Draw = Callable[[np.random.Generator, np.ndarray], None]

# Elements to a generator of their own, so that large tensors are drawn by several threads.
_BLOCK = 1 << 18


class _Skipping(threading.local):
    active = False


_skipping = _Skipping()


@contextmanager
def skip_draws() -> Iterator[None]:
    """Leave random initial values undrawn inside the block, in this thread.

    For a network that draws all its weights by its own rules once it is built, or loads them: a layer's default values
    would be thrown away, and drawing them is most of the time that building a large network takes. Constants are still
    written. What is not drawn holds whatever the memory held.
    """
    before, _skipping.active = _skipping.active, True
    try:
        yield
    finally:
        _skipping.active = before


def _fill(name: str, tensor: Tensor, generator: Generator | None, draw: Draw, block: int | None = _BLOCK) -> Tensor:
    """Let ``draw`` write into a float array of the tensor's shape, and copy it into the tensor.

    ``draw`` gets the elements all at once in the tensor's shape, or in flat blocks if they are more than ``block``.
    """
    if not is_floating(tensor.dtype):
        raise DTypeError(f"{name}: tensor must be floating point, got {tensor.dtype.name}")
    if tensor.device.type == "meta" or _skipping.active:
        return tensor
    target = tensor._array
    work_dtype = np.float64 if target.dtype == np.float64 else np.float32
    # NumPy draws straight into plain arrays; anything else (a permuted weight, a GPU's) takes one copy.
    in_place = isinstance(target, np.ndarray) and target.dtype == work_dtype and target.flags.c_contiguous
    values = target if in_place else np.empty(tensor.shape, work_dtype)
    stream = generator or default_generator("init")
    if block is None or values.size <= block:
        draw(stream.numpy(), values)
    else:
        flat = values.reshape(-1)
        random = stream.numpy_blocks(-(-flat.size // block))
        parallel_for(len(random), lambda i: draw(random[i], flat[i * block : (i + 1) * block]))
    if not in_place:
        with on_device(tensor.device):
            assign(target, transfer(values.astype(target.dtype, copy=False), tensor.device))
    tensor._bump_version()
    return tensor


def _constant(tensor: Tensor, value: float) -> Tensor:
    if tensor.device.type != "meta":
        with on_device(tensor.device):
            tensor._array[...] = value
        tensor._bump_version()
    return tensor


def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Fill with values from U(a, b)."""

    def draw(random: np.random.Generator, out: np.ndarray) -> None:
        fill_uniform(random, out)
        out *= b - a
        out += a

    return _fill("uniform_", tensor, generator, draw)


def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Fill with values from N(mean, std^2).

    Raises:
        ValueError: a negative std.
    """
    if std < 0:
        raise ValueError(f"std: must not be negative, got {std}")

    def draw(random: np.random.Generator, out: np.ndarray) -> None:
        fill_normal(random, out)
        out *= std
        out += mean

    return _fill("normal_", tensor, generator, draw)


def trunc_normal_(
    tensor: Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: Generator | None = None,
) -> Tensor:
    """Fill with values from N(mean, std^2) between ``a`` and ``b`` (which are values, not multiples of std).

    Raises:
        ValueError: std is not positive, ``a`` is not below ``b``, or less than a thousandth of the distribution lies
            between them.
    """
    if not std > 0:
        raise ValueError(f"std: must be positive, got {std}")
    if not a < b:
        raise ValueError(f"a, b: a must be below b, got a={a}, b={b}")
    inside = NormalDist(mean, std).cdf(b) - NormalDist(mean, std).cdf(a)
    if inside < 1e-3:
        raise ValueError(f"a, b: only {inside:.1g} of N({mean}, {std}^2) lies between {a} and {b}")

    def draw(random: np.random.Generator, out: np.ndarray) -> None:
        flat = out.reshape(-1)
        fill_normal(random, flat)
        flat *= std
        flat += mean
        outside = np.flatnonzero((flat < a) | (flat > b))
        while outside.size:  # draw again what fell outside
            values = random.standard_normal(outside.size, dtype=out.dtype.type)
            values *= std
            values += mean
            flat[outside] = values
            outside = outside[(values < a) | (values > b)]

    return _fill("trunc_normal_", tensor, generator, draw)


def constant_(tensor: Tensor, val: float) -> Tensor:
    """Fill with one value."""
    return _constant(tensor, val)


def zeros_(tensor: Tensor) -> Tensor:
    """Fill with zeros."""
    return _constant(tensor, 0.0)


def ones_(tensor: Tensor) -> Tensor:
    """Fill with ones."""
    return _constant(tensor, 1.0)


def _write(tensor: Tensor, values: np.ndarray) -> Tensor:
    """Copy values, of the tensor's shape, into it."""
    with on_device(tensor.device):
        tensor._array[...] = transfer(values.astype(tensor.dtype), tensor.device)
    tensor._bump_version()
    return tensor


def _check_matrix(name: str, tensor: Tensor) -> None:
    if len(tensor.shape) != 2:
        raise ShapeError(f"{name}: tensor must have 2 dimensions, got shape {tuple(tensor.shape)}")


def eye_(tensor: Tensor) -> Tensor:
    """Fill a matrix with ones on its diagonal and zeros elsewhere: as many inputs as possible pass through unchanged.

    Raises:
        ShapeError: not two dimensions.
    """
    _check_matrix("eye_", tensor)
    return tensor if tensor.device.type == "meta" else _write(tensor, np.eye(*tensor.shape))


def dirac_(tensor: Tensor, groups: int = 1) -> Tensor:
    """Fill a convolution's weight so that as many channels as possible pass through unchanged.

    Args:
        tensor: weight of shape (out, in / groups, *kernel) with one to three kernel dimensions.
        groups: of the convolution; each passes on its own channels.

    Raises:
        ShapeError: another rank, or groups that do not divide the outputs.
        ValueError: fewer than one group.
    """
    shape = tuple(tensor.shape)
    if len(shape) not in (3, 4, 5):
        raise ShapeError(f"dirac_: tensor must have 3, 4 or 5 dimensions (out, in, *kernel), got shape {shape}")
    if groups < 1:
        raise ValueError(f"dirac_: groups must be at least 1, got {groups}")
    if shape[0] % groups:
        raise ShapeError(f"dirac_: groups must divide dimension 0, got {groups} groups and shape {shape}")
    if tensor.device.type == "meta":
        return tensor
    values = np.zeros(shape)
    middle = tuple(size // 2 for size in shape[2:])
    outputs = shape[0] // groups
    for group in range(groups):
        for channel in range(min(outputs, shape[1])):
            values[(group * outputs + channel, channel, *middle)] = 1
    return _write(tensor, values)


def orthogonal_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Fill with a random orthogonal matrix, uniform among all of them: Saxe, McClelland and Ganguli 2014.

    Args:
        tensor: at least two dimensions; those from the second on count as one. Of rows and columns, the fewer are
            orthonormal.
        gain: factor.
        generator: stream to draw from.

    Raises:
        ShapeError: fewer than two dimensions.
    """
    if len(tensor.shape) < 2:
        raise ShapeError(f"orthogonal_: tensor must have at least 2 dimensions, got shape {tuple(tensor.shape)}")

    def draw(random: np.random.Generator, out: np.ndarray) -> None:
        if not out.size:
            return
        rows = len(out)
        columns = out.size // rows
        normal = random.standard_normal((max(rows, columns), min(rows, columns)), dtype=out.dtype.type)
        q, r = np.linalg.qr(normal)
        q *= np.sign(np.diagonal(r))  # Mezzadri 2007: without it the distribution depends on the algorithm
        out[...] = gain * (q if rows >= columns else q.T).reshape(out.shape)

    return _fill("orthogonal_", tensor, generator, draw, block=None)


def sparse_(tensor: Tensor, sparsity: float, std: float = 0.01, generator: Generator | None = None) -> Tensor:
    """Fill a matrix from N(0, std^2) and set a share of each column to zero: Martens 2010.

    Args:
        tensor: a matrix.
        sparsity: the share of each column, from 0 to 1; its number of elements is rounded up.
        std: deviation of the others.
        generator: stream to draw from.

    Raises:
        ShapeError: not two dimensions.
        ValueError: a share or a deviation out of range.
    """
    _check_matrix("sparse_", tensor)
    if not 0 <= sparsity <= 1:
        raise ValueError(f"sparse_: sparsity must lie in 0..1, got {sparsity}")
    if std < 0:
        raise ValueError(f"sparse_: std must not be negative, got {std}")

    def draw(random: np.random.Generator, out: np.ndarray) -> None:
        random.standard_normal(dtype=out.dtype.type, out=out)
        out *= std
        zeros = math.ceil(sparsity * len(out))
        for column in range(out.shape[1]):
            out[random.permutation(len(out))[:zeros], column] = 0

    return _fill("sparse_", tensor, generator, draw, block=None)


def _calculate_fan_in_and_fan_out(tensor: Tensor) -> tuple[int, int]:
    """The number of inputs that reach an output, and of outputs that an input reaches.

    Args:
        tensor: weight of shape (out, in) or (out, in / groups, *kernel).

    Raises:
        ShapeError: fewer than two dimensions.
    """
    if len(tensor.shape) < 2:
        raise ShapeError(
            f"tensor: fan in and fan out need at least 2 dimensions (out, in, *kernel), got shape {tuple(tensor.shape)}"
        )
    receptive_field = math.prod(tensor.shape[2:])
    return tensor.shape[1] * receptive_field, tensor.shape[0] * receptive_field


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor that keeps the variance of a signal through a nonlinearity.

    Args:
        nonlinearity: ``linear``, ``conv1d`` and the like, ``sigmoid``, ``tanh``, ``relu``, ``leaky_relu`` or ``selu``.
        param: the negative slope of ``leaky_relu``, 0.01 if not given.

    Raises:
        ValueError: another nonlinearity, or a slope that is no number.
    """
    if nonlinearity in ("linear", "sigmoid") or nonlinearity in (
        f"conv{transposed}{n}d" for transposed in ("", "_transpose") for n in (1, 2, 3)
    ):
        return 1.0
    if nonlinearity == "tanh":
        return 5.0 / 3
    if nonlinearity == "relu":
        return math.sqrt(2.0)
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else param
        if isinstance(slope, bool) or not isinstance(slope, (int, float)):
            raise ValueError(f"param: the negative slope must be a number, got {slope!r}")
        return math.sqrt(2.0 / (1 + slope**2))
    if nonlinearity == "selu":
        return 3.0 / 4
    raise ValueError(
        f"nonlinearity: unknown {nonlinearity!r}; use linear, conv1d, conv2d, conv3d, sigmoid, tanh, relu, leaky_relu "
        "or selu"
    )


def xavier_uniform_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """U(-a, a) with a = gain * sqrt(6 / (fan_in + fan_out)): Glorot and Bengio 2010, equation 16."""
    fan_in, fan_out = _calculate_fan_in_and_fan_out(tensor)
    bound = gain * math.sqrt(6.0 / (fan_in + fan_out))
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """N(0, std^2) with std = gain * sqrt(2 / (fan_in + fan_out)): Glorot and Bengio 2010."""
    fan_in, fan_out = _calculate_fan_in_and_fan_out(tensor)
    return normal_(tensor, 0.0, gain * math.sqrt(2.0 / (fan_in + fan_out)), generator)


def _kaiming_std(tensor: Tensor, a: float, mode: str, nonlinearity: str) -> float:
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"mode: must be 'fan_in' or 'fan_out', got {mode!r}")
    fan_in, fan_out = _calculate_fan_in_and_fan_out(tensor)
    fan = fan_in if mode == "fan_in" else fan_out
    return calculate_gain(nonlinearity, a) / math.sqrt(fan) if fan else 0.0


def kaiming_uniform_(
    tensor: Tensor,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """U(-b, b) with b = gain * sqrt(3 / fan): He et al. 2015 ("Delving deep into rectifiers"), equation 10.

    Args:
        tensor: weight of shape (out, in, *kernel).
        a: negative slope of the leaky ReLU that follows.
        mode: ``"fan_in"`` keeps the variance of the forward pass, ``"fan_out"`` that of the backward pass.
        nonlinearity: what follows; see ``calculate_gain``.
        generator: stream to draw from.
    """
    bound = math.sqrt(3.0) * _kaiming_std(tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(
    tensor: Tensor,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """N(0, std^2) with std = gain / sqrt(fan): He et al. 2015 ("Delving deep into rectifiers"), equation 10.

    Args:
        tensor: weight of shape (out, in, *kernel).
        a: negative slope of the leaky ReLU that follows.
        mode: ``"fan_in"`` keeps the variance of the forward pass, ``"fan_out"`` that of the backward pass.
        nonlinearity: what follows; see ``calculate_gain``.
        generator: stream to draw from.
    """
    return normal_(tensor, 0.0, _kaiming_std(tensor, a, mode, nonlinearity), generator)


_missing.explain(__name__)
