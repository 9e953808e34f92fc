"""Tensors: what they are made from, what leaves them, and what Python sees of them."""

from __future__ import annotations

import math
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies
from hypothesis.extra import numpy as arrays

import gpunet as gn
from gpunet import DeviceError, DTypeError, GradientError, ShapeError, Tensor

# Making -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "dtype", "shape"),
    [
        (1, "int64", ()),
        (1.5, "float32", ()),
        (True, "bool", ()),
        ([1, 2], "int64", (2,)),
        ([1, 2.5], "float32", (2,)),
        ([True, False], "bool", (2,)),
        ([[1.0], [2.0]], "float32", (2, 1)),
        ((1, 2, 3), "int64", (3,)),
        (range(4), "int64", (4,)),
        ([], "float32", (0,)),
        ([[], []], "float32", (2, 0)),
        (np.float64(1.5), "float64", ()),
        (np.float16(1.5), "float16", ()),
        (np.int8(3), "int8", ()),
        (np.zeros((2, 3)), "float64", (2, 3)),
        (np.zeros((2, 3), np.float32), "float32", (2, 3)),
        (np.zeros(2, np.uint8), "uint8", (2,)),
        (np.zeros((), bool), "bool", ()),
        ([np.zeros(2), np.ones(2)], "float64", (2, 2)),
        (np.zeros((2, 3)).T, "float64", (3, 2)),
        (np.arange(3, dtype=">i4"), "int32", (3,)),
    ],
)
def test_construction(data: Any, dtype: str, shape: tuple[int, ...]) -> None:
    for make in (gn.tensor, gn.as_tensor):
        made = make(data)
        assert (made.dtype.name, made.shape) == (dtype, shape)
        assert made.dtype.isnative
        np.testing.assert_array_equal(made.numpy(), np.array(data, dtype=made.dtype))


def test_tensor_copies_and_as_tensor_shares() -> None:
    array = np.zeros(3, np.float32)
    assert not np.shares_memory(gn.tensor(array).numpy(), array)
    assert np.shares_memory(gn.as_tensor(array).numpy(), array)
    made = gn.ones(3)
    assert gn.as_tensor(made) is made
    assert not np.shares_memory(gn.tensor(made).numpy(), made.numpy())
    assert gn.as_tensor(array, dtype=gn.float64).dtype == gn.float64


def test_a_list_of_tensors() -> None:
    made = gn.tensor([gn.tensor([1.0, 2.0]), gn.tensor([3.0, 4.0])])
    np.testing.assert_array_equal(made.numpy(), [[1, 2], [3, 4]])


def test_a_tensor_keeps_the_physical_order_of_its_source() -> None:
    channels_last = np.zeros((2, 5, 4, 3), np.float32).transpose(0, 3, 1, 2)
    assert gn.tensor(channels_last)._array.strides == channels_last.strides


@pytest.mark.parametrize("data", [[[1, 2], [3]], ["a"], "a", None, object(), [None], {1: 2}])
def test_what_is_no_data(data: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        gn.tensor(data)


@pytest.mark.parametrize("dtype", ["uint16", "uint32", "uint64", "complex64", "datetime64[s]", "object", "nonsense"])
def test_dtypes_there_are_not(dtype: str) -> None:
    with pytest.raises(DTypeError, match=r"^dtype: "):
        gn.zeros(2, dtype=dtype)
    if dtype in ("uint16", "complex64"):
        with pytest.raises(DTypeError, match=f"dtype: {dtype} is not supported"):
            gn.from_numpy(np.zeros(2, dtype))


def test_dtypes_by_every_name() -> None:
    for name in (gn.float32, "float32", np.float32, np.dtype("float32")):
        assert gn.zeros(1, dtype=name).dtype == np.float32
    assert gn.zeros(1, dtype=int).dtype == np.int64
    assert gn.zeros(1, dtype=bool).dtype == np.bool_
    assert gn.zeros(1, dtype="bfloat16").dtype == gn.bfloat16
    assert (gn.float, gn.double, gn.half, gn.long, gn.int, gn.short) == (
        gn.float32, gn.float64, gn.float16, gn.int64, gn.int32, gn.int16,
    )  # fmt: skip


def test_only_floating_tensors_require_grad() -> None:
    for dtype in (gn.int64, gn.uint8, gn.bool):
        with pytest.raises(DTypeError, match="only floating-point tensors can require grad"):
            gn.zeros(2, dtype=dtype, requires_grad=True)
    for dtype in (gn.float16, gn.bfloat16, gn.float64):
        assert gn.zeros(2, dtype=dtype, requires_grad=True).requires_grad


def test_random_creation_depends_on_the_generator_alone() -> None:
    one, two = (gn.randn(3, 4, generator=gn.Generator(7)).numpy() for _ in range(2))
    np.testing.assert_array_equal(one, two)
    gn.manual_seed(1)
    first = (gn.randn(5), gn.rand(5), gn.randint(0, 100, (5,)), gn.randperm(5))
    gn.manual_seed(1)
    second = (gn.randn(5), gn.rand(5), gn.randint(0, 100, (5,)), gn.randperm(5))
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    assert not np.array_equal(first[0].numpy(), gn.randn(5).numpy())
    np.testing.assert_array_equal(
        gn.randn(4, generator=gn.Generator(3), device="cpu:1").cpu().numpy(),
        gn.randn(4, generator=gn.Generator(3)).numpy(),
    )


def test_random_numbers_are_distributed_as_they_should() -> None:
    n = 200_000
    normal, uniform = gn.randn(n).numpy().astype(np.float64), gn.rand(n).numpy().astype(np.float64)
    assert abs(normal.mean()) < 5 / math.sqrt(n)
    assert abs(normal.var() - 1) < 5 * math.sqrt(2 / n)
    assert abs(uniform.mean() - 0.5) < 5 / math.sqrt(12 * n)
    assert uniform.min() >= 0
    assert uniform.max() < 1
    integers = gn.randint(3, 7, (n,)).numpy()
    np.testing.assert_array_equal(np.unique(integers), [3, 4, 5, 6])
    np.testing.assert_array_equal(np.sort(gn.randperm(1000).numpy()), np.arange(1000))


# Out of gpunet ------------------------------------------------------------------------------------------------------


def test_numpy_shares_memory_both_ways() -> None:
    array = np.zeros((2, 3), np.float32)
    made = gn.from_numpy(array)
    array[0, 0] = 5
    assert made[0, 0].item() == 5
    made[1, 2] = 7
    assert array[1, 2] == 7
    for out in (made.numpy(), np.asarray(made), np.asarray(made, copy=False), np.from_dlpack(made)):
        assert np.shares_memory(out, array)
    view = made[:, 1:]
    assert np.shares_memory(view.numpy(), array)
    assert view.numpy().shape == (2, 2)


def test_dlpack_in_shares_memory() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    made = gn.from_dlpack(array)
    assert np.shares_memory(made.numpy(), array)
    again = gn.from_dlpack(made)
    assert np.shares_memory(again.numpy(), array)
    again.add_(1.0)
    np.testing.assert_array_equal(array, [[1, 2, 3], [4, 5, 6]])
    with pytest.raises(DTypeError, match="uint16 is not supported"):
        gn.from_dlpack(np.zeros(2, np.uint16))


def test_array_conversion() -> None:
    made = gn.tensor([1.0, 2.0])
    assert np.asarray(made, dtype=np.float64).dtype == np.float64
    assert not np.shares_memory(np.array(made, copy=True), made.numpy())
    assert np.shares_memory(np.array(made, copy=False), made.numpy())
    with pytest.raises(ValueError, match="a copy is needed to convert float32 to float64"):
        np.array(made, dtype=np.float64, copy=False)
    np.testing.assert_array_equal(np.stack([made, made]), [[1, 2], [1, 2]])
    assert np.asarray(made, dtype=np.float32) is made.numpy()


@pytest.mark.parametrize("out", [lambda t: t.numpy(), np.asarray, np.from_dlpack, np.stack])
def test_a_tensor_that_requires_grad_is_refused(out: Any) -> None:
    made = gn.ones(2, requires_grad=True)
    for tensor in (made, made * 2):
        with pytest.raises((GradientError, TypeError, BufferError), match="requires grad"):
            out(tensor)
    out(made.detach())


def test_a_logical_device_exports_as_the_cpu() -> None:
    made = gn.ones(2, device="cpu:1")
    assert np.shares_memory(made.numpy(), np.from_dlpack(made))
    assert gn.from_dlpack(made).device == "cpu"


def test_a_meta_tensor_has_no_data() -> None:
    made = gn.empty(2, 3, device="meta")
    for out in (lambda: made.numpy(), lambda: made.tolist(), lambda: made[0, 0].item(), lambda: np.from_dlpack(made)):
        with pytest.raises(DeviceError, match="'meta' has no data"):
            out()


@pytest.mark.parity
def test_pytorch_shares_memory_both_ways() -> None:
    torch = pytest.importorskip("torch")
    ours = gn.zeros(2, 3)
    theirs = torch.from_dlpack(ours)
    theirs[1, 2] = 4.0
    assert ours[1, 2].item() == 4.0
    source = torch.arange(6.0).reshape(2, 3).t()
    made = gn.from_dlpack(source)
    assert made.shape == (3, 2)
    made[2, 1] = -1.0
    assert source[2, 1].item() == -1.0
    assert torch.from_numpy(ours.numpy()).data_ptr() == theirs.data_ptr()
    images = gn.nn.functional.conv2d(gn.ones(1, 2, 4, 4), gn.ones(3, 2, 3, 3))
    np.testing.assert_array_equal(torch.from_dlpack(images).numpy(), images.numpy())


# As Python sees it --------------------------------------------------------------------------------------------------


def test_arrays_come_to_the_tensor() -> None:
    made = gn.tensor([1.0, 2.0], requires_grad=True)
    array = np.array([3.0, 4.0], np.float32)
    for result, expected in (
        (array * made, [3, 8]), (made * array, [3, 8]), (array - made, [2, 2]), (array / made, [3, 2]),
        (np.float64(2) * made, [2, 4]), (np.float64(2) ** made, [2, 4]), (np.float32(1) - made, [0, -1]),
    ):  # fmt: skip
        assert isinstance(result, Tensor)
        assert result.requires_grad
        assert result.dtype == gn.float32
        np.testing.assert_array_equal(result.detach().numpy(), expected)
    compared = array > made
    assert isinstance(compared, Tensor)
    product = np.ones((3, 2), np.float32) @ made
    assert isinstance(product, Tensor)
    np.testing.assert_array_equal(product.detach().numpy(), [3, 3, 3])


def test_one_element_as_a_number() -> None:
    assert gn.tensor(3).item() == 3
    assert type(gn.tensor(3).item()) is int
    assert type(gn.tensor(3.5).item()) is float
    assert type(gn.tensor(True).item()) is bool
    assert gn.tensor([[2.5]]).item() == 2.5
    assert (int(gn.tensor(2.7)), float(gn.tensor(2)), round(gn.tensor(2.345), 1)) == (2, 2.0, 2.3)
    with pytest.raises(ShapeError, match=r"only a tensor of one element can become a number, got shape \(2,\)"):
        gn.ones(2).item()


def test_index() -> None:
    assert ["a", "b", "c"][gn.tensor(1)] == "b"
    assert list(range(gn.tensor(3))) == [0, 1, 2]
    assert np.arange(5)[gn.tensor(2)] == 2
    with pytest.raises(TypeError, match="only integer tensors can be indices, got float32"):
        ["a"][gn.tensor(0.0)]
    with pytest.raises(ShapeError, match="only a tensor of one element"):
        range(gn.tensor([1, 2]))


def test_truth() -> None:
    assert gn.tensor(1.0)
    assert not gn.tensor([[0]])
    for made in (gn.ones(2), gn.ones(0)):
        with pytest.raises(ShapeError, match="ambiguous"):
            bool(made)


def test_length_and_iteration() -> None:
    made = gn.arange(6).reshape(3, 2)
    assert len(made) == 3
    assert [row.tolist() for row in made] == [[0, 1], [2, 3], [4, 5]]
    first, *rest = made
    assert (first.tolist(), len(rest)) == ([0, 1], 2)
    assert 5 in made
    assert 6 not in made
    with pytest.raises(TypeError, match="0-d"):
        len(gn.tensor(1))
    with pytest.raises(TypeError, match="0-d"):
        iter(gn.tensor(1))
    made_float = gn.ones(2, 2, requires_grad=True)
    sum(row.sum() for row in made_float).backward()
    assert made_float.grad is not None
    np.testing.assert_array_equal(made_float.grad.numpy(), np.ones((2, 2)))


def test_format() -> None:
    assert f"{gn.tensor(3.14159):.2f}" == "3.14"
    assert f"{gn.tensor(7):04d}" == "0007"
    assert f"{gn.tensor(0.25):.0%}" == "25%"
    assert f"{gn.tensor(1.5)}" == "1.5"
    assert f"{gn.tensor([1, 2])}" == "tensor([1, 2])"
    assert f"{gn.ones(2, requires_grad=True).sum():.1f}" == "2.0"


def test_tolist() -> None:
    assert gn.tensor([[1, 2], [3, 4]]).tolist() == [[1, 2], [3, 4]]
    assert gn.tensor(2.5).tolist() == 2.5
    assert gn.ones(2, 0).tolist() == [[], []]
    assert gn.tensor([1.5]).requires_grad_().tolist() == [1.5]


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (lambda: gn.tensor([1, 2]), "tensor([1, 2])"),
        (lambda: gn.tensor([1.0, 2.5]), "tensor([1.0000, 2.5000])"),
        (lambda: gn.tensor(True), "tensor(True)"),
        (lambda: gn.tensor([1.0], dtype=gn.float64), "tensor([1.], dtype=float64)"),
        (lambda: gn.tensor([1], dtype=gn.uint8), "tensor([1], dtype=uint8)"),
        (lambda: gn.ones(1, requires_grad=True), "tensor([1.], requires_grad=True)"),
        (lambda: gn.ones(1, requires_grad=True) * 2, "tensor([2.], grad_fn=<mul>)"),
        (lambda: gn.ones(1, device="cpu:1"), "tensor([1.], device='cpu:1')"),
        (lambda: gn.ones(2, 3, device="meta"), "tensor(..., device='meta', size=(2, 3))"),
        (lambda: gn.ones(0), "tensor([])"),
    ],
)
def test_repr(made: Any, text: str) -> None:
    assert repr(made()) == text


def test_the_text_of_a_large_tensor_is_short() -> None:
    text = repr(gn.zeros(100, 100))
    assert "..." in text
    assert len(text) < 1000


def test_equality_is_elementwise_and_hashing_by_identity() -> None:
    a, b = gn.ones(2), gn.ones(2)
    assert (a == b).tolist() == [True, True]
    assert len({a, b, a}) == 2
    assert (a == "x") is False
    assert (a != None) is True  # noqa: E711


def test_unknown_operands() -> None:
    for act in (lambda t: t + "a", lambda t: t * None, lambda t: t < object(), lambda t: [1] - t, lambda t: t @ 2):
        with pytest.raises(TypeError):
            act(gn.ones(1))


def test_views_share_memory_and_copies_do_not() -> None:
    made = gn.zeros(2, 3, 4)
    for view in (
        made[0], made[:, 1:], made[..., None], made.permute(2, 0, 1), made.transpose(0, 1), made.reshape(6, 4),
        made.view(-1), made.unsqueeze(0), made.squeeze(), made.expand(5, 2, 3, 4), made.flatten(), made.detach(),
        made.split(1, 1)[1], made.chunk(2)[0], made.narrow(2, 1, 2), made.unbind()[1], made.data, made[0, 0, 0],
    ):  # fmt: skip
        assert np.shares_memory(view.numpy(), made.numpy())
    for copy in (
        made[[0]],
        made[made > -1],
        made.clone(),
        made + 0,
        made.t() if made.ndim < 3 else made.permute(2, 1, 0).reshape(-1),
    ):
        assert not np.shares_memory(copy.numpy(), made.numpy())


def test_no_silent_copies() -> None:
    made = gn.zeros(2, 3)
    assert made.contiguous() is made
    assert made.to(gn.float32) is made
    assert made.to("cpu") is made
    assert made.float() is made
    assert made.cpu() is made
    assert made.to(gn.float32, copy=True) is not made


def test_a_tensor_has_no_stray_attributes() -> None:
    with pytest.raises(AttributeError):
        gn.ones(1).gard = None  # type: ignore[attr-defined]


def test_legacy_constructor() -> None:
    assert gn.Tensor([1, 2]).dtype == gn.float32
    assert gn.Tensor(2, 3).shape == (2, 3)
    source = np.zeros(2, np.float32)
    assert not np.shares_memory(gn.Tensor(source).numpy(), source)


# Properties ---------------------------------------------------------------------------------------------------------

SMALL = arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)


@hypothesis.given(arrays.mutually_broadcastable_shapes(num_shapes=2, max_dims=4, max_side=4, min_side=0))
@hypothesis.settings(deadline=None, max_examples=60)
def test_broadcasting_is_numpys_and_its_gradient_counts(shapes: Any) -> None:
    """The gradient of a sum counts how often each element was used."""
    first, second = shapes.input_shapes
    x, y = gn.ones(first, requires_grad=True), gn.ones(second, requires_grad=True)
    z = x + y
    assert z.shape == shapes.result_shape == np.broadcast_shapes(first, second)
    z.sum().backward()
    for operand, shape in ((x, first), (y, second)):
        expected = np.zeros(shape)
        np.add.at(
            expected.reshape(-1), np.broadcast_to(np.arange(expected.size).reshape(shape), z.shape).reshape(-1), 1
        )
        assert operand.grad is not None
        np.testing.assert_array_equal(operand.grad.numpy(), expected)


@hypothesis.given(SMALL, SMALL)
@hypothesis.settings(deadline=None, max_examples=60)
def test_shapes_broadcast_exactly_where_numpys_do(first: tuple[int, ...], second: tuple[int, ...]) -> None:
    try:
        expected = np.broadcast_shapes(first, second)
    except ValueError:
        with pytest.raises(ShapeError, match="do not broadcast"):
            gn.zeros(first) * gn.zeros(second)
        return
    assert (gn.zeros(first) * gn.zeros(second)).shape == expected


@hypothesis.given(strategies.data())
@hypothesis.settings(deadline=None, max_examples=60)
def test_reshape_keeps_the_logical_order(data: Any) -> None:
    shape = data.draw(arrays.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=4))
    order = data.draw(strategies.permutations(range(len(shape))))
    array = np.arange(math.prod(shape), dtype=np.float64).reshape(shape).transpose(order)
    target = data.draw(strategies.permutations(array.shape))
    hidden = data.draw(strategies.integers(0, len(target) - 1))
    wanted = [-1 if axis == hidden else extent for axis, extent in enumerate(target)]
    x = gn.from_numpy(array).requires_grad_()
    y = x.reshape(wanted)
    np.testing.assert_array_equal(y.detach().numpy(), array.reshape(target))
    weights = np.random.default_rng(0).standard_normal(target)
    (y * weights).sum().backward()
    assert x.grad is not None
    np.testing.assert_array_equal(x.grad.numpy(), weights.reshape(array.shape))


def test_numbers_that_do_not_fit_the_dtype_are_refused() -> None:
    with pytest.raises(ValueError, match="data: uint8 holds 0 to 255, got 300 to 300"):
        gn.tensor([300], dtype=gn.uint8)
    assert gn.tensor([255], dtype=gn.uint8).tolist() == [255]


def test_a_gradient_of_another_dtype_is_refused() -> None:
    x = gn.ones(2, requires_grad=True)
    with pytest.raises(gn.DTypeError, match="grad: must have the tensor's dtype float32, got float64"):
        x.grad = gn.ones(2, dtype=gn.float64)


def test_a_view_with_a_dtype_says_what_it_takes() -> None:
    with pytest.raises(TypeError, match="use to\\(dtype\\) for their values"):
        gn.ones(2).view(gn.float64)
