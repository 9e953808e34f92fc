"""Dense blocks join their features in one buffer: values and gradients as of copies, and no write is lost."""

from __future__ import annotations

import numpy as np
import pytest

import gpunet as gn
from gpunet.autograd.joining import cat_channels
from gpunet.models.densenet import DenseBlock
from gpunet.ops.shape import ChannelRoom


def draw(*shape: int) -> gn.Tensor:
    return gn.from_numpy(np.random.default_rng(sum(shape)).standard_normal(shape)).requires_grad_()


def test_what_is_joined_again_is_not_copied() -> None:
    room = ChannelRoom(9)
    a, b, c = draw(2, 3, 4, 5), draw(2, 2, 4, 5), draw(2, 4, 4, 5)
    first = cat_channels([a, b], room)
    second = cat_channels([first, c], room)
    np.testing.assert_array_equal(second.detach().numpy(), gn.cat([a, b, c], 1).detach().numpy())
    assert np.shares_memory(first._array, second._array)
    assert not np.shares_memory(first._array, a._array)
    (second * second).sum().backward()
    for tensor in (a, b, c):
        np.testing.assert_array_equal(tensor.grad.numpy(), 2 * tensor.detach().numpy())


def test_two_may_be_joined_to_the_same() -> None:
    """The second finds its place taken, and gets another."""
    room = ChannelRoom(9)
    a, b, c = draw(2, 3, 4, 5), draw(2, 2, 4, 5), draw(2, 4, 4, 5)
    first = cat_channels([a, b], room)
    one, other = cat_channels([first, c], room), cat_channels([first, c * 2], room)
    np.testing.assert_array_equal(one.detach().numpy(), gn.cat([a, b, c], 1).detach().numpy())
    np.testing.assert_array_equal(other.detach().numpy(), gn.cat([a, b, c * 2], 1).detach().numpy())


@pytest.mark.parametrize("dtype", [gn.float32, gn.float64])
def test_no_room_and_other_dtypes(dtype: gn.dtype) -> None:
    room = ChannelRoom(4)
    a, b = draw(2, 3, 4, 5), draw(2, 2, 4, 5).to(dtype)
    joined = cat_channels([a, b], room)
    assert joined.dtype == gn.float64
    np.testing.assert_array_equal(joined.detach().numpy(), gn.cat([a, b], 1).detach().numpy())


def test_a_write_to_one_is_a_write_to_both() -> None:
    room = ChannelRoom(9)
    a, b, c = draw(2, 3, 4, 5), draw(2, 2, 4, 5), draw(2, 4, 4, 5)
    first = cat_channels([a, b], room)
    used = first * first
    second = cat_channels([first, c], room)
    second.mul_(2)
    with pytest.raises(RuntimeError, match="modified in place"):
        (used.sum() + second.sum()).backward()


def test_a_block_has_the_gradients_of_copies() -> None:
    """Against PyTorch's way, every input of a layer joined anew."""
    gn.manual_seed(0)
    block = DenseBlock(4, 6, 2, 3).double()
    x = draw(2, 6, 5, 5)
    y = block(x)
    rng = np.random.default_rng(5)
    weight = gn.from_numpy(rng.standard_normal(tuple(y.shape)))
    (y * weight).sum().backward()
    found = [x.grad.numpy().copy(), *(p.grad.numpy().copy() for p in block.parameters())]
    x.grad = None
    block.zero_grad()
    for module in block.modules():
        if isinstance(module, gn.nn.BatchNorm2d):
            module.reset_running_stats()
    features = [x]
    for layer in block.values():
        features.append(layer(gn.cat(features, 1)))
    expected = gn.cat(features, 1)
    np.testing.assert_array_equal(y.detach().numpy(), expected.detach().numpy())
    (expected * weight).sum().backward()
    for one, other in zip(found, [x.grad, *(p.grad for p in block.parameters())], strict=True):
        np.testing.assert_allclose(one, other.numpy(), rtol=1e-9, atol=1e-11)
