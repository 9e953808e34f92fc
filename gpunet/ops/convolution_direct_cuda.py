"""Convolution of groups of few channels on a GPU, without matrix products: depthwise convolution above all.

The kernels are in ``cuda_kernels/conv2d_direct_forward.cu``, ``conv2d_direct_input_grad.cu`` and
``conv2d_direct_weight_grad.cu``, which have the equations. Here is decided which of them runs and how its work is cut,
from the sizes, the dtype and the alignment alone.

Arrays are one-dimensional and contiguous, of one dtype, float32 or float64. An image array spans its pixels, NHWC with
a pitch: (pixels - 1) * pitch + channels elements, of which only the channels of each pixel are touched; weights are
(R, S, C/G, K), flattened.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from gpunet.backend.devices import array_module
from gpunet.backend.kernels import get_kernel, is_aligned, launch
from gpunet.ops.convolution_sizes import Sizes2d

__all__ = ["forward", "input_gradient", "is_direct", "weight_gradient"]

_THREADS: Final = 128
# Input times output channels of a group. A matrix product works on tiles of 32 columns and more: a group with 16
# products to a tap leaves most of a tile empty in at least one of the three directions, whichever way it lies.
_LARGEST_GROUP: Final = 16
# Enough threads to fill a GPU: 500 on each of 130 multiprocessors. Strips are made as long as that allows.
_MANY_THREADS: Final = 2**16
_MANY_BLOCKS: Final = _MANY_THREADS // _THREADS
_LARGEST_GRID: Final = 65535
# Threads of all blocks with one y: their numbers fit an int.
_MOST_THREADS: Final = 2**31 - _THREADS


def is_direct(sizes: Sizes2d) -> str | None:
    """Why these kernels take a convolution of such sizes, or None where a matrix product is better."""
    c, k = sizes.in_channels, sizes.out_channels
    if c * k > _LARGEST_GROUP:
        return None
    if c == k == 1:
        return "direct kernel: each channel is convolved on its own, a matrix product would be of one column"
    return f"direct kernel: groups of {c} and {k} channels would leave most of a matrix product's tile empty"


class _Variant(NamedTuple):
    """A kernel: the middle of its name, the channels a thread has, the columns of a strip."""

    name: str
    lanes: int
    columns: int

    @property
    def walks(self) -> bool:
        """Whether a thread walks down several rows."""
        return self.name not in ("groups", "scalar")


def _variant(sizes: Sizes2d, itemsize: int, naive: bool, *arrays: Any) -> _Variant:
    c, k = sizes.in_channels, sizes.out_channels
    lanes = 16 // itemsize
    in_vectors = not any(size % lanes for size in (sizes.groups * c, sizes.in_pitch, sizes.out_pitch))
    if naive or c != k or lanes % c or not in_vectors or not is_aligned(16, *arrays):
        return _Variant("scalar", 1, 4)
    kernel = sizes.kernel_height, sizes.kernel_width
    stride = sizes.stride_height, sizes.stride_width
    plain = (sizes.dilation_height, sizes.dilation_width) == (1, 1)
    if c == 1 and plain and kernel in ((3, 3), (5, 5)) and stride in ((1, 1), (2, 2)):
        name = f"{kernel[0]}x{kernel[1]}"
        if stride == (2, 2):
            return _Variant(f"{name}_stride2", lanes, 4)
        return _Variant(name, lanes, 4 if name == "3x3" else 3 if itemsize == 4 else 2)
    return _Variant("groups", lanes, 8)


def _rows_at_once(height: int, threads: int) -> int:
    """Rows a thread walks down: as many as leave enough of them, where one row of all images has ``threads``."""
    rows = 32
    while rows > 2 and threads * -(-height // rows) < _MANY_THREADS:
        rows //= 2
    return min(rows, height)


def _launch_strips(
    file: str,
    variant: _Variant,
    sizes: Sizes2d,
    arrays: tuple[Any, ...],
    relu: bool,
    vectors: int,
    extents: tuple[int, int, int],
) -> None:
    """Launch a kernel whose threads have ``rows`` rows of a strip each.

    Args:
        file: the kernel file.
        variant: which of its kernels.
        sizes: of the convolution.
        arrays: its arrays.
        relu: its flag.
        vectors: threads for one pixel.
        extents: what an image is cut into: rows, strips of a row, rows of a thread.
    """
    height, strips, rows = extents
    chunks = -(-height // rows)
    of_image = vectors * strips * chunks
    slice_images = max(1, min(sizes.images, _MOST_THREADS // of_image))
    grid = (-(-of_image * slice_images // _THREADS), -(-sizes.images // slice_images))
    kernel = get_kernel(file, f"{file}_{variant.name}_{arrays[0].dtype.name}")
    launch(kernel, grid, _THREADS, (*arrays, relu, *sizes, strips, chunks, rows, slice_images))


def forward(
    sizes: Sizes2d, x: Any, weight: Any, bias: Any, residual: Any, relu: bool, y: Any, naive: bool = False
) -> None:
    """Write relu(convolution + bias + residual) into ``y``.

    Args:
        sizes: of the convolution.
        x: the input.
        weight: its weights.
        bias: (groups * out_channels,), or None.
        residual: what is added after the bias, laid out as y, or None.
        relu: whether negative values become 0.
        y: the output.
        naive: take the kernel that has one channel a thread and loops over the taps.
    """
    if sizes.images == 0:
        return
    variant = _variant(sizes, x.dtype.itemsize, naive, x, weight, bias, residual, y)
    vectors = sizes.groups * sizes.out_channels // variant.lanes
    strips = -(-sizes.out_width // variant.columns)
    rows = _rows_at_once(sizes.out_height, sizes.images * strips * vectors) if variant.walks else 1
    arrays = x, weight, bias, residual, y
    _launch_strips("conv2d_direct_forward", variant, sizes, arrays, relu, vectors, (sizes.out_height, strips, rows))


def input_gradient(
    sizes: Sizes2d, grad: Any, weight: Any, bias: Any, residual: Any, relu: bool, dx: Any, naive: bool = False
) -> None:
    """Write relu(gradient to the input + bias + residual) into ``dx``.

    Args:
        sizes: of the convolution.
        grad: the gradient to its output.
        weight: its weights.
        bias: (groups * in_channels,), or None; a transposed convolution has one.
        residual: what is added after the bias, laid out as dx, or None.
        relu: whether negative values become 0.
        dx: the gradient to its input.
        naive: take the kernel that has one channel a thread and loops over the taps.
    """
    if sizes.images == 0:
        return
    variant = _variant(sizes, grad.dtype.itemsize, naive, grad, weight, bias, residual, dx)
    vectors = sizes.groups * sizes.in_channels // variant.lanes
    height, rows = sizes.in_height, 1
    if variant.name.endswith("stride2"):
        # Pairs of rows and of columns, counted from where the padding begins.
        height = (sizes.in_height - 1 + sizes.pad_top) // 2 - sizes.pad_top // 2 + 1
        pairs = (sizes.in_width - 1 + sizes.pad_left) // 2 - sizes.pad_left // 2 + 1
        strips = -(-pairs // (variant.columns // 2))
    elif variant.walks:
        strips = -(-sizes.in_width // variant.columns)
    else:
        # As many strips for each remainder of the column by the stride.
        stride = sizes.stride_width
        strips = min(stride, sizes.in_width) * -(-sizes.in_width // (stride * variant.columns))
    if variant.walks:
        rows = _rows_at_once(height, sizes.images * strips * vectors)
    arrays = grad, weight, bias, residual, dx
    _launch_strips("conv2d_direct_input_grad", variant, sizes, arrays, relu, vectors, (height, strips, rows))


def weight_gradient(sizes: Sizes2d, grad: Any, x: Any, dweight: Any, naive: bool = False) -> None:
    """Write the gradient to the weight into ``dweight``.

    The pixels are split over blocks; their sums go to a workspace and are added in a fixed order.

    Args:
        sizes: of the convolution.
        grad: the gradient to its output.
        x: its input.
        dweight: the gradient to its weights.
        naive: take the kernel that has one channel a thread and one tap a block.
    """
    if sizes.images == 0:
        dweight[...] = 0
        return
    variant = _variant(sizes, x.dtype.itemsize, naive, grad, x, dweight)
    lanes, layers = variant.lanes, 1
    extra: tuple[int, ...] = ()
    if variant.walks:
        lanes = lanes // 2 if variant.name.startswith("5x5") else lanes
        strips = -(-sizes.out_width // 4)
        rows = _rows_at_once(sizes.out_height, sizes.images * strips * sizes.groups // lanes)
        chunks = -(-sizes.out_height // rows)
        pieces = sizes.images * strips * chunks
        extra = strips, chunks, rows, sizes.images
    else:
        # A block has one tap and input channel, or of a row of taps as many as make eight with the group's channels.
        of_row = sizes.kernel_width * sizes.in_channels
        if variant.name == "groups":
            of_row = -(-of_row // 8)
        layers = min(sizes.kernel_height * of_row, _LARGEST_GRID)
        pieces = sizes.images * sizes.out_height * -(-sizes.out_width // 32)
    vectors = sizes.groups * sizes.out_channels // lanes
    width = _block_width(vectors)
    blocks = -(-vectors // width)
    # As many splits as give every worker of a block the same number of pieces, or one less.
    workers = _THREADS // width
    rounds = max(1, -(-pieces // (max(1, _MANY_BLOCKS // (blocks * layers)) * workers)))
    splits = -(-pieces // (rounds * workers))
    partial = dweight if splits == 1 else array_module(x).empty(splits * dweight.size, x.dtype)
    file = "conv2d_direct_weight_grad"
    kernel = get_kernel(file, f"{file}_{variant.name}_{x.dtype.name}")
    launch(kernel, (blocks, splits, layers), (width, workers), (x, grad, partial, *sizes, *extra))
    if splits > 1:
        kernel = get_kernel(file, f"{file}_sum_{x.dtype.name}")
        count = int(dweight.size)
        launch(kernel, -(-count // 32), (32, 8), (partial, dweight, splits, count))


def _block_width(vectors: int) -> int:
    """Neighbouring channels of a block: of 32, 16 and 8 what leaves the fewest threads without, or all of a few."""
    if vectors < 8:
        return 1 << (vectors - 1).bit_length()
    return min((32, 16, 8), key=lambda width: -(-vectors // width) * width)
