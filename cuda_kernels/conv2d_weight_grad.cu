// conv2d_weight_grad.cu: the gradient of a two-dimensional convolution with respect to its weight.
//
// Contract (conv2d.cuh has the sizes and where things lie; gpunet/ops/convolution.py the equations' source):
//
//     dw[r, s, c, k] = sum over n, p, q of x[n, p sh + r dh - top, q sw + s dw - left, c] dy[n, p, q, k]
//
//   dw is laid out as w. With splits > 1, dw is [splits] arrays of that kind, one for each stretch of output pixels; their
//   sum is the gradient (gemm_sum_partials of gemm.cu). Every element is written.
//
// Parallelisation: implicit GEMM. dw is small and the sum is long, so the output pixels are cut into `splits` stretches,
// and each block sums one stretch for one tile (gemm_tile.cuh) of taps and input channels by output channels;
// blockIdx = (tile of taps and channels, tile of output channels, split and group). cuda_kernels/README.md walks
// through it. The naive kernels take one element of dw a thread. Kernels without "any" in their name move sixteen bytes
// at once: pitches and channels must be multiples of four.
//
// Determinism: one order of summation for given sizes and splits; no atomics.

#include "conv2d_tile.cuh"

template <typename Scalar>
__device__ void conv2d_weight_grad_naive(Scalar* dw, const Scalar* dy, const Scalar* x, const Conv2dSizes& sizes) {
  const int channels = sizes.weight_pitch();
  const long long count = (long long)sizes.taps() * sizes.in_channels * channels;
  const long long stride = (long long)gridDim.x * blockDim.x;
  for (long long number = (long long)blockIdx.x * blockDim.x + threadIdx.x; number < count; number += stride) {
    const int k = int(number % channels), row = int(number / channels);
    const int c = row % sizes.in_channels, s = row / sizes.in_channels % sizes.kernel_width;
    const int r = row / sizes.in_channels / sizes.kernel_width;
    const int channel = k / sizes.out_channels * sizes.in_channels + c;
    Scalar sum = 0;
    for (long long n = 0; n < sizes.images; ++n) {
      for (int p = 0; p < sizes.out_height; ++p) {
        const int h = p * sizes.stride_height + r * sizes.dilation_height - sizes.pad_top;
        if (h < 0 || h >= sizes.in_height) continue;
        for (int q = 0; q < sizes.out_width; ++q) {
          const int w = q * sizes.stride_width + s * sizes.dilation_width - sizes.pad_left;
          if (w < 0 || w >= sizes.in_width) continue;
          sum += x[((n * sizes.in_height + h) * sizes.in_width + w) * sizes.in_pitch + channel] *
                 dy[((n * sizes.out_height + p) * sizes.out_width + q) * sizes.out_pitch + k];
        }
      }
    }
    dw[number] = sum;
  }
}

template <class Tile>
__device__ void conv2d_weight_grad(typename Tile::Scalar* dw, const typename Tile::Scalar* dy,
                                   const typename Tile::Scalar* x, const Conv2dSizes& sizes, int splits) {
  using Scalar = typename Tile::Scalar;
  const int row = blockIdx.x * Tile::rows, column = blockIdx.y * Tile::columns;
  const int split = blockIdx.z % splits, group = blockIdx.z / splits;
  const int pixels = int(sizes.out_pixels()), rows = sizes.taps() * sizes.in_channels;
  // Stretches of whole slabs.
  const int slabs = (pixels - 1) / Tile::depth + 1, slabs_a_split = (slabs - 1) / splits + 1;
  const int first = min(split * slabs_a_split, slabs), last = min(first + slabs_a_split, slabs);
  const int first_pixel = first * Tile::depth;
  PatchColumns<Tile> left(x + group * sizes.in_channels, sizes, row, first_pixel);
  DepthStridedMatrix<Tile, Tile::columns> right(dy + group * sizes.out_channels, sizes.out_pitch, column,
                                                sizes.out_channels, first_pixel);
  TileSums<Tile> sums;
  accumulate(sums, left, right, last == slabs ? pixels - first_pixel : (last - first) * Tile::depth);
  Scalar* corner = dw + ((long long)split * rows + row) * sizes.weight_pitch() + group * sizes.out_channels + column;
  sums.write_rows([&](int i, int j, const Scalar* four) {
    if (row + i >= rows) return;
    store_four<Tile>(corner, (long long)i * sizes.weight_pitch() + j, four, 0, sizes.out_channels - column - j,
                     [](Scalar sum, int, long long) { return sum; });
  });
}

#define WEIGHT_GRAD_VECTORS                                                                                    \
  float4* __restrict__ dw, const float4* __restrict__ dy, const float4* __restrict__ x
#define WEIGHT_GRAD_FLOATS                                                                                     \
  float* __restrict__ dw, const float* __restrict__ dy, const float* __restrict__ x
#define WEIGHT_GRAD_DOUBLES                                                                                    \
  double* __restrict__ dw, const double* __restrict__ dy, const double* __restrict__ x

// The parameters as the templates take them.
#define WEIGHT_GRAD_ARGUMENTS(Scalar)                                                                          \
  reinterpret_cast<Scalar*>(dw), reinterpret_cast<const Scalar*>(dy),                                          \
      reinterpret_cast<const Scalar*>(x), CONV2D_GATHER_SIZES

// The readable ones.

extern "C" __global__ void __launch_bounds__(256) conv2d_weight_grad_naive_float32(WEIGHT_GRAD_FLOATS, CONV2D_SIZES) {
  conv2d_weight_grad_naive<float>(WEIGHT_GRAD_ARGUMENTS(float));
}

extern "C" __global__ void __launch_bounds__(256) conv2d_weight_grad_naive_float64(WEIGHT_GRAD_DOUBLES, CONV2D_SIZES) {
  conv2d_weight_grad_naive<double>(WEIGHT_GRAD_ARGUMENTS(double));
}

// The fast ones.

extern "C" __global__ void __launch_bounds__(256, 2)
    conv2d_weight_grad_128x128_float32(WEIGHT_GRAD_VECTORS, CONV2D_SIZES, int splits) {
  conv2d_weight_grad<Tile128x128>(WEIGHT_GRAD_ARGUMENTS(float), splits);
}

extern "C" __global__ void __launch_bounds__(256, 2)
    conv2d_weight_grad_128x64_float32(WEIGHT_GRAD_VECTORS, CONV2D_SIZES, int splits) {
  conv2d_weight_grad<Tile128x64>(WEIGHT_GRAD_ARGUMENTS(float), splits);
}

extern "C" __global__ void __launch_bounds__(256, 3)
    conv2d_weight_grad_64x64_float32(WEIGHT_GRAD_VECTORS, CONV2D_SIZES, int splits) {
  conv2d_weight_grad<Tile64x64>(WEIGHT_GRAD_ARGUMENTS(float), splits);
}

extern "C" __global__ void __launch_bounds__(128, 4)
    conv2d_weight_grad_128x32_float32(WEIGHT_GRAD_VECTORS, CONV2D_SIZES, int splits) {
  conv2d_weight_grad<Tile128x32>(WEIGHT_GRAD_ARGUMENTS(float), splits);
}

extern "C" __global__ void __launch_bounds__(256, 2)
    conv2d_weight_grad_64x64_any_float32(WEIGHT_GRAD_FLOATS, CONV2D_SIZES, int splits) {
  conv2d_weight_grad<AnyTile64x64>(WEIGHT_GRAD_ARGUMENTS(float), splits);
}

extern "C" __global__ void __launch_bounds__(128, 4)
    conv2d_weight_grad_128x32_any_float32(WEIGHT_GRAD_FLOATS, CONV2D_SIZES, int splits) {
  conv2d_weight_grad<AnyTile128x32>(WEIGHT_GRAD_ARGUMENTS(float), splits);
}

extern "C" __global__ void __launch_bounds__(256, 2)
    conv2d_weight_grad_64x64_any_float64(WEIGHT_GRAD_DOUBLES, CONV2D_SIZES, int splits) {
  conv2d_weight_grad<AnyTile64x64Float64>(WEIGHT_GRAD_ARGUMENTS(double), splits);
}
