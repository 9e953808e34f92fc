"""Batches of sequences of unequal length: padded to the longest, or packed step by step without padding.

A packed batch holds the rows of all sequences, the longest first: step t has ``batch_sizes[t]`` rows, those of the
sequences longer than t. Recurrent layers take it as it is and waste nothing on padding.
"""

from __future__ import annotations

import numbers
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from gpunet.autograd import Tensor, apply, as_tensor, cat
from gpunet.backend.devices import Device
from gpunet.backend.errors import DeviceError, DTypeError, ShapeError
from gpunet.nn.arguments import check_int
from gpunet.ops import REGISTRY

__all__ = [
    "PackedSequence",
    "invert_permutation",
    "pack_padded_sequence",
    "pack_sequence",
    "pad_packed_sequence",
    "pad_sequence",
    "unpack_sequence",
    "unpad_sequence",
]


class _PackedSequence(NamedTuple):
    data: Tensor
    batch_sizes: Tensor
    sorted_indices: Tensor | None
    unsorted_indices: Tensor | None


class PackedSequence(_PackedSequence):
    """Sequences of unequal length, packed; made by ``pack_padded_sequence`` and ``pack_sequence``.

    Args:
        data: (N, ...), the rows of the first step, then those of the second, and so on.
        batch_sizes: (T,), int64 on the CPU: how many sequences each step has; never growing.
        sorted_indices: (B,), where each of the sequences, from the longest on, was in the batch; None if it was there
            already.
        unsorted_indices: the inverse, worked out unless given.

    On ``meta`` the indices stay on the CPU, so that they can be used.

    Raises:
        DeviceError: ``batch_sizes`` elsewhere than on the CPU.
        TypeError: not Tensors.
        ValueError: indices that are no permutation.
    """

    def __new__(
        cls,
        data: Any,
        batch_sizes: Tensor | None = None,
        sorted_indices: Tensor | None = None,
        unsorted_indices: Tensor | None = None,
    ) -> PackedSequence:
        if batch_sizes is None and isinstance(data, (tuple, list)) and len(data) == 2:
            data, batch_sizes = data
        _require_tensor("PackedSequence", "data", data)
        _require_tensor("PackedSequence", "batch_sizes", batch_sizes)
        assert batch_sizes is not None
        if batch_sizes.device.type != "cpu":
            raise DeviceError(f"PackedSequence: batch_sizes must be on the CPU, got {str(batch_sizes.device)!r}")
        _check_permutation("PackedSequence", "sorted_indices", sorted_indices)
        if unsorted_indices is not None:
            _check_permutation("PackedSequence", "unsorted_indices", unsorted_indices)
        else:
            unsorted_indices = invert_permutation(sorted_indices)
        return super().__new__(cls, data, batch_sizes, sorted_indices, unsorted_indices)

    def _with(self, data: Tensor) -> PackedSequence:
        if data is self.data:
            return self
        moved = [_beside(data.device, indices) for indices in (self.sorted_indices, self.unsorted_indices)]
        return type(self)(data, self.batch_sizes, *moved)

    def to(self, *args: Any, **kwargs: Any) -> PackedSequence:
        """The data on another device or as another dtype: the arguments of ``Tensor.to``. Itself if nothing changes."""
        return self._with(self.data.to(*args, **kwargs))

    def cpu(self) -> PackedSequence:
        """The data on the CPU."""
        return self._with(self.data.cpu())

    def cuda(self, device: Any = None) -> PackedSequence:
        """The data on a GPU, the current one unless named."""
        return self._with(self.data.to("cuda" if device is None else device))

    def double(self) -> PackedSequence:
        """The data as float64."""
        return self._with(self.data.double())

    def float(self) -> PackedSequence:
        """The data as float32."""
        return self._with(self.data.float())

    def half(self) -> PackedSequence:
        """The data as float16."""
        return self._with(self.data.half())

    def long(self) -> PackedSequence:
        """The data as int64."""
        return self._with(self.data.long())

    def int(self) -> PackedSequence:
        """The data as int32."""
        return self._with(self.data.int())

    def short(self) -> PackedSequence:
        """The data as int16."""
        return self._with(self.data.to(np.dtype(np.int16)))

    def char(self) -> PackedSequence:
        """The data as int8."""
        return self._with(self.data.to(np.dtype(np.int8)))

    def byte(self) -> PackedSequence:
        """The data as uint8."""
        return self._with(self.data.to(np.dtype(np.uint8)))

    @property
    def is_cuda(self) -> bool:
        """Whether the data is on a GPU."""
        return self.data.is_cuda

    def is_pinned(self) -> bool:
        """Whether the data is in memory that a GPU reads directly: never; for scripts that ask."""
        return False


def invert_permutation(permutation: Tensor | None) -> Tensor | None:
    """The permutation that undoes a permutation.

    Args:
        permutation: (B,), int64; None stands for the identity.

    Returns:
        (B,), or None.
    """
    if permutation is None:
        return None
    _require_tensor("invert_permutation", "permutation", permutation)
    if permutation.ndim != 1:
        raise ShapeError(f"invert_permutation: permutation must be 1-d, got shape {tuple(permutation.shape)}")
    return permutation.argsort()


def pack_padded_sequence(
    input: Tensor, lengths: Any, batch_first: bool = False, enforce_sorted: bool = True
) -> PackedSequence:
    """Pack a padded batch. Differentiable.

    Args:
        input: (T, B, ...), or (B, T, ...) with ``batch_first``.
        lengths: (B,), a list or a tensor on the CPU: how many steps of each sequence count, from 1 to T.
        batch_first: whether the batch is the first dimension.
        enforce_sorted: whether the lengths must fall from the first to the last; if not, the sequences are sorted, and
            results put back in order.

    Returns:
        The packed batch of the N = sum of lengths rows that count.

    Raises:
        ShapeError: fewer than two dimensions, or another number of lengths than B.
        ValueError: a length below 1 or above T, or not sorted where that is asked for.
        DeviceError: lengths that are not on the CPU.
    """
    name = "pack_padded_sequence"
    _require_tensor(name, "input", input)
    if input.ndim < 2:
        order = "batch, steps" if batch_first else "steps, batch"
        raise ShapeError(
            f"{name}: input must have at least 2 dimensions ({order}, ...), got shape {tuple(input.shape)}"
        )
    batch, steps = (input.shape[0], input.shape[1]) if batch_first else (input.shape[1], input.shape[0])
    given = _checked_lengths(name, lengths, batch)
    for number, length in enumerate(given.tolist()):
        if not 1 <= length <= steps:
            raise ValueError(
                f"{name}: lengths must be from 1 to the input's {steps} steps, got {length} for sequence {number}"
            )
    order, sizes, step, place = _packing(name, given, enforce_sorted)
    rows = place * steps + step if batch_first else step * batch + place
    flat = input.reshape(batch * steps, *input.shape[2:])
    return _packed(flat, rows, sizes, order)


def pad_packed_sequence(
    sequence: PackedSequence, batch_first: bool = False, padding_value: float = 0.0, total_length: int | None = None
) -> tuple[Tensor, Tensor]:
    """The padded batch of a packed one, in the order it had before it was packed. Differentiable.

    Args:
        sequence: a packed batch of B sequences, the longest of length T.
        batch_first: whether the batch is to be the first dimension.
        padding_value: what follows the end of a sequence.
        total_length: pad to this many steps instead of T.

    Returns:
        (T, B, ...), or (B, T, ...) with ``batch_first``, and the lengths, (B,) on the CPU.

    Raises:
        ValueError: a total length below T, or batch sizes that are none.
        ShapeError: batch sizes that do not add up to the rows there are.
        TypeError: not a packed batch.
    """
    name = "pad_packed_sequence"
    if not isinstance(sequence, PackedSequence):
        raise TypeError(f"{name}: sequence must be a PackedSequence, got {type(sequence).__name__}")
    _check_padding(name, padding_value)
    data, sizes = sequence.data, sequence.batch_sizes.numpy()
    if not sizes.size or sizes.min() < 1 or (sizes[1:] > sizes[:-1]).any():
        raise ValueError(f"{name}: batch_sizes must be positive and never grow, got {sizes.tolist()}")
    if not data.ndim or sizes.sum() != data.shape[0]:
        raise ShapeError(
            f"{name}: data must have the {sizes.sum()} rows that batch_sizes add up to, got shape {tuple(data.shape)}"
        )
    steps, batch = len(sizes), int(sizes[0])
    if total_length is not None:
        total_length = check_int(name, "total_length", total_length, 0)
        if total_length < steps:
            raise ValueError(
                f"{name}: total_length must be at least the longest sequence's {steps} steps, got {total_length}"
            )
        steps = total_length
    step, place = np.nonzero(np.arange(batch) < sizes[:, None])
    lengths = np.bincount(place, minlength=batch)
    if sequence.unsorted_indices is not None:
        unsorted = sequence.unsorted_indices.cpu().numpy()
        if len(unsorted) != batch:
            raise ShapeError(f"{name}: indices must be those of {batch} sequences, got {len(unsorted)}")
        lengths = lengths[unsorted]
        place = np.argsort(unsorted)[place]
    rows = place * steps + step if batch_first else step * batch + place
    shape = (batch, steps) if batch_first else (steps, batch)
    return _spread(data, rows, shape, padding_value), as_tensor(lengths)


def pad_sequence(
    sequences: Any, batch_first: bool = False, padding_value: float = 0.0, padding_side: str = "right"
) -> Tensor:
    """Sequences of unequal length as one padded batch. Differentiable.

    Args:
        sequences: B Tensors, each (length, ...), alike but for the length, which may be 0 here, as in PyTorch, though a
            packed sequence has at least one step.
        batch_first: whether the batch is to be the first dimension.
        padding_value: what fills the rest.
        padding_side: ``"right"``, after the end, or ``"left"``, before the beginning.

    Returns:
        (T, B, ...) with T the largest length, or (B, T, ...) with ``batch_first``; the dtype of the first sequence.

    Raises:
        ShapeError: sequences without a dimension, or of shapes that differ in more than the length.
        ValueError: no sequences, or another side.
    """
    name = "pad_sequence"
    _check_padding(name, padding_value)
    if padding_side not in ("left", "right"):
        raise ValueError(f"{name}: padding_side must be 'left' or 'right', got {padding_side!r}")
    parts = _listed(name, sequences)
    lengths = np.array([len(part) for part in parts])
    steps, batch = int(lengths.max()), len(parts)
    place = np.repeat(np.arange(batch), lengths)
    step = np.concatenate([np.arange(length) for length in lengths])
    if padding_side == "left":
        step += (steps - lengths)[place]
    rows = place * steps + step if batch_first else step * batch + place
    shape = (batch, steps) if batch_first else (steps, batch)
    return _spread(cat(parts), rows, shape, padding_value)


def unpad_sequence(padded_sequences: Tensor, lengths: Any, batch_first: bool = False) -> list[Tensor]:
    """The sequences of a padded batch, without their padding. Differentiable.

    Args:
        padded_sequences: (T, B, ...), or (B, T, ...) with ``batch_first``.
        lengths: (B,), a list or a tensor on the CPU, each from 0 to T: 0 gives a sequence without steps, as in PyTorch.
        batch_first: whether the batch is the first dimension.

    Returns:
        B Tensors, each (length, ...), which share the batch's memory.

    Raises:
        ShapeError: fewer than two dimensions, or another number of lengths than B.
        ValueError: a length below 0 or above T.
    """
    name = "unpad_sequence"
    _require_tensor(name, "padded_sequences", padded_sequences)
    if padded_sequences.ndim < 2:
        raise ShapeError(
            f"{name}: padded_sequences must have at least 2 dimensions, got shape {tuple(padded_sequences.shape)}"
        )
    batched = padded_sequences if batch_first else padded_sequences.transpose(0, 1)
    batch, steps = batched.shape[:2]
    given = _checked_lengths(name, lengths, batch).tolist()
    for place, length in enumerate(given):
        if not 0 <= length <= steps:
            raise ValueError(f"{name}: lengths must be from 0 to {steps}, got {length} for sequence {place}")
    return [batched[place, :length] for place, length in enumerate(given)]


def pack_sequence(sequences: Any, enforce_sorted: bool = True) -> PackedSequence:
    """Pack sequences of unequal length. Differentiable.

    Args:
        sequences: B Tensors, each (length, ...) with a length of at least 1, alike but for the length.
        enforce_sorted: whether the lengths must fall from the first to the last; if not, the sequences are sorted, and
            results put back in order.

    Raises:
        ShapeError: sequences without a dimension, or of shapes that differ in more than the length.
        ValueError: no sequences, one of length 0, or not sorted where that is asked for.
    """
    name = "pack_sequence"
    parts = _listed(name, sequences)
    lengths = np.array([len(part) for part in parts])
    if not lengths.all():
        raise ValueError(f"{name}: sequences must have at least one step, got none in sequence {lengths.argmin()}")
    order, sizes, step, place = _packing(name, lengths, enforce_sorted)
    begins = np.cumsum(lengths) - lengths
    return _packed(cat(parts), begins[place] + step, sizes, order)


def unpack_sequence(packed_sequences: PackedSequence) -> list[Tensor]:
    """The sequences of a packed batch, in the order they had before it was packed. Differentiable.

    Raises:
        TypeError: not a packed batch.
    """
    if not isinstance(packed_sequences, PackedSequence):
        kind = type(packed_sequences).__name__
        raise TypeError(f"unpack_sequence: packed_sequences must be a PackedSequence, got {kind}")
    padded, lengths = pad_packed_sequence(packed_sequences, batch_first=True)
    return unpad_sequence(padded, lengths, batch_first=True)


# What they share -----------------------------------------------------------------------------------------------------


def _require_tensor(caller: str, name: str, value: Any) -> None:
    if not isinstance(value, Tensor):
        raise TypeError(f"{caller}: {name} must be a Tensor, got {type(value).__name__}")


def _check_padding(caller: str, padding_value: Any) -> None:
    if isinstance(padding_value, Tensor) and padding_value.ndim == 0:
        return
    if not isinstance(padding_value, (bool, numbers.Real, np.bool_)):
        raise TypeError(f"{caller}: padding_value must be a number, got {padding_value!r}")


def _check_permutation(caller: str, name: str, indices: Any) -> None:
    """Raise unless indices are None or say of each of B sequences where it is; on the CPU, where values can be read."""
    if indices is None:
        return
    _require_tensor(caller, name, indices)
    if indices.dtype.kind not in "iu":
        raise DTypeError(f"{caller}: {name} must be integers, got {indices.dtype.name}")
    if indices.ndim != 1:
        raise ShapeError(f"{caller}: {name} must be 1-d, got shape {tuple(indices.shape)}")
    if indices.device.type == "cpu" and not np.array_equal(np.sort(indices.numpy()), np.arange(len(indices))):
        raise ValueError(
            f"{caller}: {name} must hold each number from 0 to {len(indices) - 1} once, got {indices.tolist()}"
        )


def _listed(caller: str, sequences: Any) -> list[Tensor]:
    """The sequences as Tensors of one dtype that differ in length alone."""
    if not isinstance(sequences, (Tensor, Iterable)):
        raise TypeError(f"{caller}: sequences must be a list of Tensors, got {type(sequences).__name__}")
    parts = list(sequences)
    if not parts:
        raise ValueError(f"{caller}: sequences must hold at least one Tensor, got none")
    for place, part in enumerate(parts):
        _require_tensor(caller, f"sequences[{place}]", part)
        if not part.ndim:
            raise ShapeError(f"{caller}: sequences[{place}] must have at least 1 dimension, got shape ()")
        if part.shape[1:] != parts[0].shape[1:]:
            raise ShapeError(
                f"{caller}: sequences must differ in their first dimension alone, got shapes {tuple(parts[0].shape)} "
                f"and {tuple(part.shape)}"
            )
    return [part.to(parts[0].dtype) for part in parts]


def _checked_lengths(caller: str, lengths: Any, batch: int) -> np.ndarray:
    """Lengths as an array of integers, one for each sequence."""
    if isinstance(lengths, Tensor):
        if lengths.device.type != "cpu":
            raise DeviceError(f"{caller}: lengths must be on the CPU, got {str(lengths.device)!r}")
        lengths = lengths.detach().numpy()
    if lengths is None or isinstance(lengths, (str, bytes)):
        raise TypeError(f"{caller}: lengths must be a list or a tensor of integers, got {lengths!r}")
    given = np.asarray(lengths)
    if given.size and given.dtype.kind not in "iu":
        raise DTypeError(f"{caller}: lengths must be integers, got {given.dtype.name}")
    if given.shape != (batch,):
        raise ShapeError(
            f"{caller}: lengths must be one for each of the batch's {batch} sequences, got shape {given.shape}"
        )
    return given.astype(np.int64)


def _packing(caller: str, lengths: np.ndarray, enforce_sorted: bool) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray]:
    """How to pack: the sequences' order (None: as they are), the batch sizes, and of each row its step and sequence."""
    if not len(lengths):
        raise ValueError(f"{caller}: there must be at least one sequence, got none")
    order = None
    if not enforce_sorted:
        order = np.argsort(-lengths, kind="stable")
        lengths = lengths[order]
    elif (lengths[1:] > lengths[:-1]).any():
        raise ValueError(
            f"{caller}: lengths must not grow, got {lengths.tolist()}; sort the sequences or pass enforce_sorted=False"
        )
    step, place = np.nonzero(np.arange(lengths[0])[:, None] < lengths)
    return order, np.bincount(step), step, place if order is None else order[place]


def _packed(flat: Tensor, rows: np.ndarray, sizes: np.ndarray, order: np.ndarray | None) -> PackedSequence:
    """The chosen rows of a tensor as a packed batch."""
    data = flat.index_select(0, as_tensor(rows).to(flat.device))
    indices = None if order is None else _beside(data.device, as_tensor(order))
    return PackedSequence(data, as_tensor(sizes), indices)


def _spread(data: Tensor, rows: np.ndarray, shape: Sequence[int], padding_value: float) -> Tensor:
    """The rows of data at the given places of a tensor (*shape, ...) that holds the padding elsewhere."""
    filled = data.new_full((shape[0] * shape[1], *data.shape[1:]), padding_value)
    index = as_tensor(rows).to(data.device)
    placed: Tensor = apply(REGISTRY["set_index"], filled, data, index, layout=((0,),))
    return placed.reshape(*shape, *data.shape[1:])


def _beside(device: Device, indices: Tensor | None) -> Tensor | None:
    """Indices on the device of the data; on the CPU for data without values, whose order is still known."""
    return indices if indices is None or device.type == "meta" else indices.to(device)
