"""The rows of the reference about convolution, each with its worked numbers, golden facts or rule."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gpunet as gn
import gpunet.nn.functional as F
from gpunet import nn
from gpunet.data import filters

# The golden facts of the one-dimensional convolution.
X, W = [1.0, 2.0, 3.0, 4.0, 5.0], [0.5, -1.0, 2.0]
Y, DELTA = [4.5, 6.0, 7.5], [1.0, 2.0, -1.0]
DX, DW = [0.5, 0.0, -0.5, 5.0, -2.0], [2.0, 4.0, 6.0]


def line(values: list[float]) -> gn.Tensor:
    return gn.tensor(values, dtype=gn.float64).reshape(1, 1, -1)


def draw(*shape: int, seed: int = 0) -> gn.Tensor:
    return gn.tensor(np.random.default_rng(seed).standard_normal(shape))


def worked() -> tuple[gn.Tensor, gn.Tensor, gn.Tensor]:
    x, w = line(X).requires_grad_(), line(W).requires_grad_()
    y = F.conv1d(x, w)
    y.backward(line(DELTA))
    assert x.grad is not None
    assert w.grad is not None
    return y.detach(), x.grad, w.grad


def test_b01_a_convolution_of_a_sequence() -> None:
    """B01: O_i = sum_k w_k x_{i+k-1}, a cross-correlation."""
    y, _, _ = worked()
    assert y.tolist() == [[Y]]
    np.testing.assert_array_equal(Y, np.correlate(X, W, "valid"))


def test_b02_the_gradient_of_the_input() -> None:
    """B02: dL/dx_j = sum_i delta_i w_{j-i+1}, the full convolution; x3 gets d1 w3 + d2 w2 + d3 w1."""
    _, dx, _ = worked()
    assert dx.tolist() == [[DX]]
    np.testing.assert_array_equal(DX, np.convolve(DELTA, W))
    assert DX[2] == DELTA[0] * W[2] + DELTA[1] * W[1] + DELTA[2] * W[0]


def test_b03_the_gradient_of_the_weight() -> None:
    """B03: dL/dw_j = sum_i delta_i x_{i+j-1}; all gradients that enter a weight add up."""
    _, _, dw = worked()
    assert dw.tolist() == [[DW]]
    np.testing.assert_array_equal(DW, np.correlate(X, DELTA, "valid"))
    assert gn.autograd.gradcheck(F.conv1d, (line(X).requires_grad_(), line(W).requires_grad_()))


def test_b04_kernel_channels_are_the_inputs() -> None:
    """B04: a kernel of 3 channels on an image of 3 gives one map; on any other it is refused."""
    assert F.conv2d(gn.ones(1, 3, 5, 5), gn.ones(1, 3, 3, 3)).shape == (1, 1, 3, 3)
    with pytest.raises(gn.ShapeError, match="input must have 3 channels"):
        F.conv2d(gn.ones(1, 4, 5, 5), gn.ones(1, 3, 3, 3))


def test_b05_a_zero_slice_ignores_its_channel() -> None:
    """B05: with the kernel's slice i zero the output does not see channel i, and that channel's dx is 0."""
    w = draw(4, 3, 3, 3).clone()
    w[:, 1] = 0.0
    x = draw(2, 3, 6, 6, seed=1)
    other = x.clone()
    other[:, 1] = 7.0
    np.testing.assert_array_equal(F.conv2d(x, w).numpy(), F.conv2d(other, w).numpy())
    x.requires_grad_()
    F.conv2d(x, w).sum().backward()
    assert x.grad is not None
    assert not x.grad[:, 1].numpy().any()
    assert x.grad[:, 0].numpy().any()


def test_b06_channels_are_no_third_dimension() -> None:
    """B06: a conv3d whose kernel is as deep as the channels is conv2d; a shallower one slides in depth too."""
    x, w = draw(2, 5, 6, 7), draw(4, 5, 3, 3, seed=1)
    volume = F.conv3d(x[:, None], w[:, None])
    assert volume.shape == (2, 4, 1, 4, 5)
    np.testing.assert_allclose(volume[:, :, 0].numpy(), F.conv2d(x, w).numpy(), rtol=0, atol=1e-12)
    assert F.conv3d(x[:, None], w[:, None, :3]).shape == (2, 4, 3, 4, 5)


def test_b28_a_kernel_has_fewer_weights_than_a_matrix() -> None:
    """B28: from 28 x 28 to 26 x 26 a dense layer has 784 * 676 = 529,984 weights, a kernel 9."""
    conv = nn.Conv2d(1, 1, 3, bias=False)
    assert conv(gn.ones(1, 1, 28, 28)).shape == (1, 1, 26, 26)
    assert conv.weight.numel() == 9
    assert nn.Linear(28 * 28, 26 * 26, bias=False, device="meta").weight.numel() == 529_984


def test_b29_convolution_commutes_and_correlation_does_not() -> None:
    """B29: convolution as mathematics has it flips the kernel; what networks compute is a correlation."""
    f, g = draw(9, 9), draw(9, 9, seed=1)
    one, other = filters.convolve(f, g, "circular"), filters.convolve(g, f, "circular")
    np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=0, atol=1e-12)
    by_fft = np.fft.ifft2(np.fft.fft2(f.numpy()) * np.fft.fft2(g.numpy())).real
    np.testing.assert_allclose(one.numpy(), np.roll(by_fft, (-4, -4), (0, 1)), rtol=0, atol=1e-12)
    one, other = filters.apply_filter(f, g, "circular"), filters.apply_filter(g, f, "circular")
    assert np.abs((one - other).numpy()).max() > 1


def test_b30_equivariant_and_local() -> None:
    """B30: to shift and convolve is to convolve and shift; an output depends on its k x k patch alone."""
    layer = nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular", bias=False).double()
    x = draw(2, 3, 8, 9)
    with gn.no_grad():
        shifted = layer(x.roll((2, 3), (2, 3)))
        np.testing.assert_allclose(shifted.numpy(), layer(x).roll((2, 3), (2, 3)).numpy(), rtol=0, atol=1e-12)
    x.requires_grad_()
    F.conv2d(x, layer.weight.detach())[0, 1, 2, 4].backward()
    assert x.grad is not None
    seen = np.argwhere(x.grad.numpy().any(axis=(0, 1)))
    assert {tuple(place) for place in seen} == {(2 + r, 4 + s) for r in range(3) for s in range(3)}


def test_b31_products_and_sums_one_by_one() -> None:
    """B31: five plain loops of products and sums give what the blocks of matrix products give."""
    x, w = draw(2, 3, 7, 6).numpy(), draw(4, 3, 3, 2, seed=1).numpy()
    expected = np.zeros((2, 4, 5, 5))
    for n, k, p, q in np.ndindex(*expected.shape):
        for c, r, s in np.ndindex(3, 3, 2):
            expected[n, k, p, q] += x[n, c, p + r, q + s] * w[k, c, r, s]
    found = F.conv2d(gn.from_numpy(x), gn.from_numpy(w))
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-12)
    columns = F.unfold(gn.from_numpy(x), (3, 2))
    product = gn.from_numpy(w).reshape(4, -1) @ columns
    np.testing.assert_allclose(product.reshape(2, 4, 5, 5).numpy(), expected, rtol=0, atol=1e-12)


def test_b32_output_size() -> None:
    """B32: O = H - K + 1."""
    assert F.conv_output_size(28, 3) == 26
    assert all(F.conv_output_size(h, k) == h - k + 1 for h in range(1, 20) for k in range(1, h + 1))


def test_b33_as_many_maps_as_kernels() -> None:
    """B33: O_C kernels of (KH, KW, C) give (OH, OW, O_C)."""
    assert nn.Conv2d(3, 7, (4, 2))(gn.ones(1, 3, 9, 9)).shape == (1, 7, 6, 8)


def test_b34_the_derivative_of_a_convolution() -> None:
    """B34: (f * g)' = f * g', in numbers; and the backward pass of a convolution is one."""
    step = 0.01
    t = np.arange(-6, 6, step)
    f, g = np.exp(-(t**2)), np.exp(-((t - 0.5) ** 2) / 2)
    slope = -(t - 0.5) * g

    def convolved(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        y = F.conv1d(line(list(a)), line(list(b[::-1])), padding=len(b) // 2)
        return np.asarray(y.numpy())[0, 0] * step

    left = np.gradient(convolved(f, g), step)
    right = convolved(f, slope)
    inner = slice(300, -300)
    assert np.abs(left - right)[inner].max() < 1e-3 * np.abs(right).max()
    x, w = draw(2, 3, 6, 7).requires_grad_(), draw(4, 3, 3, 3, seed=1)
    y = F.conv2d(x, w)
    delta = draw(*y.shape, seed=2)
    y.backward(delta)
    assert x.grad is not None
    again = F.conv2d(delta, w.transpose(0, 1).flip((2, 3)), padding=2)
    np.testing.assert_allclose(x.grad.numpy(), again.numpy(), rtol=0, atol=1e-12)
    np.testing.assert_allclose(x.grad.numpy(), F.conv_transpose2d(delta, w).numpy(), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "arguments, size", [((227, 11, 4, 0), 55), ((224, 11, 4, 2), 55), ((224, 7, 2, 3), 112), ((224, 11, 4, 0), 54)]
)
def test_b61_output_size_with_stride(arguments: Any, size: int) -> None:
    """B61: (i - k + 2p) / s + 1, rounded down: 54.25 becomes 54."""
    assert F.conv_output_size(*arguments) == size
    extent, kernel, stride, padding = arguments
    image, weight = (gn.ones(1, 1, side, side, device="meta") for side in (extent, kernel))
    y = F.conv2d(image, weight, None, stride, padding)
    assert y.shape == (1, 1, size, size)


def test_b62_a_kernel_makes_one_map_of_rgb() -> None:
    """B62: the output of one kernel has depth 1."""
    assert nn.Conv2d(3, 1, 5)(gn.ones(1, 3, 32, 32)).shape == (1, 1, 28, 28)


def test_b63_a_stack_of_maps() -> None:
    """B63: 32 x 32 x 3 with four kernels 5 x 5 x 3 and ReLU gives 28 x 28 x 4."""
    y = nn.Sequential(nn.Conv2d(3, 4, 5), nn.ReLU())(gn.randn(1, 3, 32, 32))
    assert y.shape == (1, 4, 28, 28)
    assert (y.detach().numpy() >= 0).all()


def test_b64_parameters() -> None:
    """B64: 5 * 5 * 3 * 4 = 300 weights, 304 parameters with the bias."""
    layer = nn.Conv2d(3, 4, 5)
    assert layer.weight.numel() == 300
    assert sum(parameter.numel() for parameter in layer.parameters()) == 304


def test_b67_padding_that_keeps_the_size() -> None:
    """B67: p = (k - 1) / 2 and s = 1 keep the spatial size, and so does padding='same'."""
    x = gn.ones(1, 2, 9, 12)
    for kernel in (1, 3, 5, 7):
        assert nn.Conv2d(2, 3, kernel, 1, (kernel - 1) // 2)(x).shape[2:] == x.shape[2:]
        assert nn.Conv2d(2, 3, kernel, padding="same")(x).shape[2:] == x.shape[2:]
    assert nn.Conv2d(2, 3, 4, padding="same")(x).shape[2:] == x.shape[2:]


# Image filters -----------------------------------------------------------------------------------------------------


def test_b10_blur() -> None:
    """B10: the blur kernel is the outer product of (1/4, 1/2, 1/4); the mean is kept, only detail is averaged."""
    kernel = filters.blur()
    assert kernel.tolist() == [[0.0625, 0.125, 0.0625], [0.125, 0.25, 0.125], [0.0625, 0.125, 0.0625]]
    assert kernel.sum().item() == 1
    constant = gn.full((2, 3, 6, 7), 0.3)
    np.testing.assert_allclose(filters.apply_filter(constant, kernel).numpy(), constant.numpy(), rtol=1e-6)
    for shape in ((8, 9), (1, 8, 9), (3, 8, 9), (2, 3, 8, 9)):  # grey and RGB
        image = draw(*shape)
        blurred = filters.apply_filter(image, kernel, "circular")
        assert blurred.shape == image.shape
        assert abs(blurred.mean().item() - image.mean().item()) < 1e-12
        assert blurred.var().item() < image.var().item()


def test_b11_the_gallery() -> None:
    """B11: Sobel of a constant is 0; an impulse shows a correlation's kernel flipped, a convolution's as it is."""
    for direction in "xy":
        assert not filters.apply_filter(gn.full((1, 5, 5), 0.75), filters.sobel(direction)).numpy().any()
    impulse = filters.identity(5)
    for kernel in (filters.sobel("x"), filters.sobel("y"), filters.emboss(), filters.sharpen(), filters.box(3)):
        flipped = kernel.flip((0, 1)).numpy()
        np.testing.assert_array_equal(filters.apply_filter(impulse, kernel, "zeros")[1:4, 1:4].numpy(), flipped)
        np.testing.assert_array_equal(filters.convolve(impulse, kernel, "zeros")[1:4, 1:4].numpy(), kernel.numpy())
    image = draw(2, 3, 6, 7)
    np.testing.assert_array_equal(filters.apply_filter(image, filters.identity()).numpy(), image.numpy())


def test_filters_against_their_definitions() -> None:
    assert filters.sobel("x").tolist() == [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]
    for kernel in (filters.box(4), filters.gaussian(7, 1.5), filters.sharpen(), filters.emboss()):
        assert kernel.sum().item() == pytest.approx(1, abs=1e-6)
    bell = filters.gaussian(5, 2.0).numpy()
    assert bell[2, 4] / bell[2, 2] == pytest.approx(np.exp(-0.5), rel=1e-5)
    ramp = gn.arange(7).float().expand(5, 7)
    slopes = filters.apply_filter(ramp, filters.sobel("x"), "replicate").numpy()
    np.testing.assert_array_equal(slopes[:, 1:-1], 8)  # a slope of 1 times the sum of the positive weights, 2 * 4
    image = draw(1, 4, 6)
    mirrored = np.pad(image.numpy()[0], 1, mode="reflect")
    by_hand = sum(mirrored[r : r + 4, s : s + 6] for r in range(3) for s in range(3)) / 9
    np.testing.assert_allclose(filters.apply_filter(image, filters.box())[0].numpy(), by_hand, atol=1e-6)


def test_filters_are_differentiable() -> None:
    image = draw(1, 5, 5).requires_grad_()
    assert gn.autograd.gradcheck(lambda x: filters.apply_filter(x, filters.blur()), (image,))


def test_filters_take_arrays_and_lists():
    kernel = [[0, 1, 0], [1, 2, 1], [0, 1, 0]]
    pixels = np.random.default_rng(0).random((2, 6, 7)).astype(np.float32)
    for apply in (filters.apply_filter, filters.convolve):
        expected = apply(gn.from_numpy(pixels), gn.tensor(np.array(kernel, np.float32))).numpy()
        for images in (pixels, pixels.tolist()):
            for given in (kernel, np.array(kernel), np.array(kernel, np.float64)):
                result = apply(images, given)
                assert result.dtype == np.float32
                np.testing.assert_array_equal(result.numpy(), expected)
        assert apply(pixels.astype(np.float64), kernel).dtype == np.float64
        assert apply((pixels * 255).astype(np.uint8), kernel).dtype == np.float32
        for name, images, given in (("images", "picture", kernel), ("kernel", pixels, [[1, 2], [3]])):
            with pytest.raises(TypeError, match=f"{apply.__name__}: {name} must be numbers, got (str|list)"):
                apply(images, given)
