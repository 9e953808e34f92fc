"""Padded and packed batches of sequences: what they hold, their gradients, and PyTorch's results."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import gpunet as gn
from gpunet.autograd import gradcheck
from gpunet.nn.utils.rnn import (
    PackedSequence,
    invert_permutation,
    pack_padded_sequence,
    pack_sequence,
    pad_packed_sequence,
    pad_sequence,
    unpack_sequence,
    unpad_sequence,
)
from gpunet.testing.parity import case, check_case


def draw(*shape: int, seed: int = 0) -> gn.Tensor:
    return gn.tensor(np.random.default_rng(seed).standard_normal(shape))


def test_steps_follow_each_other_in_a_packed_batch() -> None:
    batch = gn.tensor([[1, 2, 0], [3, 0, 0], [4, 5, 6]])
    packed = pack_padded_sequence(batch, [2, 1, 3], batch_first=True, enforce_sorted=False)
    assert packed.data.tolist() == [4, 1, 3, 5, 2, 6]
    assert packed.batch_sizes.tolist() == [3, 2, 1]
    assert packed.sorted_indices.tolist() == [2, 0, 1]
    assert packed.unsorted_indices.tolist() == [1, 2, 0]
    data, sizes, *_ = packed
    assert (data is packed.data, sizes is packed.batch_sizes) == (True, True)
    padded, lengths = pad_packed_sequence(packed, batch_first=True, padding_value=-1)
    assert padded.tolist() == [[1, 2, -1], [3, -1, -1], [4, 5, 6]]
    assert (lengths.tolist(), lengths.dtype) == ([2, 1, 3], gn.int64)
    assert [one.tolist() for one in unpack_sequence(packed)] == [[1, 2], [3], [4, 5, 6]]


def test_sorted_sequences_are_packed_as_they_are() -> None:
    packed = pack_sequence([gn.tensor([1, 2, 3]), gn.tensor([4, 5]), gn.tensor([6])])
    assert packed.data.tolist() == [1, 4, 6, 2, 5, 3]
    assert (packed.sorted_indices, packed.unsorted_indices) == (None, None)
    assert str(packed) == (
        "PackedSequence(data=tensor([1, 4, 6, 2, 5, 3]), batch_sizes=tensor([3, 2, 1]), sorted_indices=None, "
        "unsorted_indices=None)"
    )


def test_sides_of_padding() -> None:
    sequences = [gn.tensor([1, 2]), gn.tensor([], dtype=gn.int64), gn.tensor([3, 4, 5])]
    assert pad_sequence(sequences, batch_first=True).tolist() == [[1, 2, 0], [0, 0, 0], [3, 4, 5]]
    left = pad_sequence(sequences, padding_value=9, padding_side="left")
    assert left.tolist() == [[9, 9, 3], [1, 9, 4], [2, 9, 5]]
    assert [one.tolist() for one in unpad_sequence(pad_sequence(sequences), [2, 0, 3])] == [[1, 2], [], [3, 4, 5]]


def test_a_packed_batch_moves_as_its_data_does() -> None:
    packed = pack_sequence([draw(1, 2), draw(3, 2)], enforce_sorted=False)
    kinds = {"float": gn.float32, "double": gn.float64, "half": gn.float16, "long": gn.int64, "int": gn.int32}
    kinds |= {"short": gn.int16, "char": gn.int8, "byte": gn.uint8}
    whole = PackedSequence(packed.data.abs(), *packed[1:])
    for name, dtype in kinds.items():
        cast = getattr(whole, name)()
        assert cast.data.dtype == dtype
        assert cast.batch_sizes is packed.batch_sizes
    assert packed.to(gn.float64) is packed.cpu() is packed.double() is packed
    moved = packed.to("cpu:1", dtype=gn.float32)
    assert {str(value.device) for value in (moved.data, moved.sorted_indices, moved.unsorted_indices)} == {"cpu:1"}
    assert (str(moved.batch_sizes.device), moved.data.dtype) == ("cpu", gn.float32)
    assert str(packed.to("meta").sorted_indices.device) == "cpu"
    assert moved.is_cuda is False
    for twin in (copy.deepcopy(packed), pickle.loads(pickle.dumps(packed))):  # noqa: S301
        assert type(twin) is PackedSequence
        for a, b in zip(twin, packed, strict=True):
            np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_gradients_go_through_packing_and_padding() -> None:
    x, a, b = (value.requires_grad_() for value in (draw(3, 4, 2), draw(2, 3, seed=1), draw(4, 3, seed=2)))
    lengths = [2, 3, 1, 2]
    assert gradcheck(lambda x: pack_padded_sequence(x, lengths, enforce_sorted=False).data, (x,))
    assert gradcheck(
        lambda x: pad_packed_sequence(pack_padded_sequence(x, lengths, False, False), True, -3.0, 5)[0], (x,)
    )
    assert gradcheck(lambda a, b: pack_sequence([a, b], enforce_sorted=False).data, (a, b))
    assert gradcheck(lambda a, b: pad_sequence([a, b], padding_side="left"), (a, b))
    assert gradcheck(lambda x: tuple(unpad_sequence(x, lengths)), (x,))
    pad_packed_sequence(pack_padded_sequence(x, lengths, False, False))[0].sum().backward()
    expected = (np.arange(3)[:, None] < np.array(lengths))[:, :, None] * np.ones(2)
    np.testing.assert_array_equal(x.grad.numpy(), expected)


def test_the_inverse_of_a_permutation() -> None:
    order = gn.tensor([2, 0, 3, 1])
    assert order[invert_permutation(order)].tolist() == [0, 1, 2, 3]
    assert invert_permutation(None) is None


# PyTorch's results ---------------------------------------------------------------------------------------------------

DECLINING, MIXED = [4, 4, 2, 1], [2, 4, 1, 4]


def packed(m: Any, x: Any, *args: Any) -> Any:
    return m.nn.utils.rnn.pack_padded_sequence(x, *args)


CASES = [
    *(
        case(
            f"pack_padded_sequence {name}{' batch first' if first else ''}{' ' + what if what else ''}",
            lambda m, x, lengths=lengths, first=first, order=order: packed(m, x, lengths, first, order),
            shape if first else (shape[1], shape[0], *shape[2:]),
        )
        for name, lengths, order in (("sorted", DECLINING, True), ("unsorted", MIXED, False), ("ones", [1] * 4, True))
        for first in (False, True)
        for what, shape in (("", (4, 4, 3)), ("no features", (4, 4)), ("images", (4, 5, 2, 3)))
    ),
    case("pack_padded_sequence tensor of lengths", lambda m, x: packed(m, x, m.tensor(DECLINING)), (4, 4, 3)),
    case("pack_padded_sequence int32 lengths", lambda m, x: packed(m, x, m.tensor(DECLINING).to(m.int32)), (4, 4, 3)),
    case("pack_padded_sequence array of lengths", lambda m, x: packed(m, x, np.array(DECLINING)), (4, 4, 3)),
    case("pack_padded_sequence floats for lengths", lambda m, x: packed(m, x, [4.5, 4.0, 2.0, 1.0]), (4, 4, 3)),
    case("pack_padded_sequence zero length", lambda m, x: packed(m, x, [4, 3, 2, 0]), (4, 4, 3)),
    case("pack_padded_sequence length above T", lambda m, x: packed(m, x, [5, 3, 2, 1]), (4, 4, 3)),
    case("pack_padded_sequence not sorted", lambda m, x: packed(m, x, MIXED), (4, 4, 3)),
    case("pack_padded_sequence lengths of three", lambda m, x: packed(m, x, [4, 3, 2]), (4, 4, 3)),
    case("pack_padded_sequence no batch", lambda m, x: packed(m, x, []), (4, 0, 3)),
    case("pack_padded_sequence one dimension", lambda m, x: packed(m, x, [4]), (4,)),
    *(
        case(
            f"pad_packed_sequence {name}{' batch first' if first else ''} {label}",
            lambda m, x, lengths=lengths, first=first, order=order, options=options: m.nn.utils.rnn.pad_packed_sequence(
                packed(m, x, lengths, False, order), first, **options
            ),
            (6, 4, 3),
        )
        for name, lengths, order in (("sorted", DECLINING, True), ("unsorted", MIXED, False))
        for first in (False, True)
        for label, options in (("", {}), ("-inf", {"padding_value": float("-inf")}), ("longer", {"total_length": 7}))
    ),
    case(
        "pad_packed_sequence too short",
        lambda m, x: m.nn.utils.rnn.pad_packed_sequence(packed(m, x, DECLINING), total_length=3),
        (6, 4, 3),
    ),
    case(
        "pad_packed_sequence by hand",
        lambda m, x: m.nn.utils.rnn.pad_packed_sequence(m.nn.utils.rnn.PackedSequence(x, m.tensor([3, 2]))),
        (5, 2),
    ),
    case("PackedSequence of a pair", lambda m, x: m.nn.utils.rnn.PackedSequence((x, m.tensor([3, 2]))), (5, 2)),
    case(
        "PackedSequence with its order",
        lambda m, x: m.nn.utils.rnn.PackedSequence(x, m.tensor([3, 2]), m.tensor([2, 0, 1])),
        (5, 2),
    ),
    *(
        case(
            f"pad_sequence {side}{' batch first' if first else ''}",
            lambda m, a, b, c, side=side, first=first: m.nn.utils.rnn.pad_sequence([a, b, c], first, 2.5, side),
            (3, 2), (5, 2), (1, 2),
        )
        for side in ("right", "left")
        for first in (False, True)
    ),
    case("pad_sequence vectors", lambda m, a, b: m.nn.utils.rnn.pad_sequence((a, b)), (3,), (5,)),
    case("pad_sequence of a tensor", lambda m, x: m.nn.utils.rnn.pad_sequence(x), (3, 4, 2)),
    case("pad_sequence one of no steps", lambda m, a, b: m.nn.utils.rnn.pad_sequence([a, b]), (0, 2), (3, 2)),
    case("pad_sequence none", lambda m: m.nn.utils.rnn.pad_sequence([])),
    case("pad_sequence numbers", lambda m: m.nn.utils.rnn.pad_sequence([m.tensor(1.0), m.tensor(2.0)])),
    case("pad_sequence other features", lambda m, a, b: m.nn.utils.rnn.pad_sequence([a, b]), (3, 2), (3, 4)),
    case("pad_sequence another side", lambda m, a: m.nn.utils.rnn.pad_sequence([a], padding_side="top"), (3, 2)),
    case(
        "pad_sequence mixed dtypes",
        lambda m, a: m.nn.utils.rnn.pad_sequence([m.ones(2, 2, dtype=m.int32), a.to(m.int64), m.zeros(1, 2)]),
        (3, 2),
    ),
    case("pack_sequence", lambda m, a, b: m.nn.utils.rnn.pack_sequence([a, b]), (5, 2), (3, 2)),
    case("pack_sequence unsorted", lambda m, a, b: m.nn.utils.rnn.pack_sequence([a, b], False), (3, 2), (5, 2)),
    case("pack_sequence not sorted", lambda m, a, b: m.nn.utils.rnn.pack_sequence([a, b]), (3, 2), (5, 2)),
    case("pack_sequence of no steps", lambda m, a, b: m.nn.utils.rnn.pack_sequence([a, b]), (3, 2), (0, 2)),
    case(
        "unpack_sequence",
        lambda m, a, b: m.nn.utils.rnn.unpack_sequence(m.nn.utils.rnn.pack_sequence([a, b], enforce_sorted=False)),
        (3, 2), (5, 2),
    ),
    case("unpad_sequence", lambda m, x: m.nn.utils.rnn.unpad_sequence(x * 1, m.tensor(MIXED)), (5, 4, 2)),
    case("unpad_sequence batch first", lambda m, x: m.nn.utils.rnn.unpad_sequence(x, m.tensor([0, 5]), True), (2, 5)),
    case("unpad_sequence length above T", lambda m, x, n: m.nn.utils.rnn.unpad_sequence(x, n, True), (1, 5),
         np.array([9])),
    case("unpad_sequence other number", lambda m, x: m.nn.utils.rnn.unpad_sequence(x, m.tensor([1]), True), (2, 5)),
    case("invert_permutation", lambda m: m.nn.utils.rnn.invert_permutation(m.tensor([3, 0, 2, 1]))),
]  # fmt: skip


@pytest.mark.parity
@pytest.mark.parametrize("checked", CASES, ids=repr)
def test_agrees_with_pytorch(checked: Any) -> None:
    pytest.importorskip("torch")
    check_case(checked)


def test_a_packed_batch_is_not_in_pinned_memory() -> None:
    assert pack_sequence([gn.zeros(2, 3)]).is_pinned() is False
