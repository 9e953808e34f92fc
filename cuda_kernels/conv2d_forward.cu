// conv2d_forward.cu: two-dimensional convolution.
//
// Contract (conv2d.cuh has the sizes and where things lie; gpunet/ops/convolution.py the equations' source):
//
//     y[n, p, q, k] = relu(b[k] + residual[n, p, q, k]
//                          + sum over r, s, c of x[n, p sh + r dh - top, q sw + s dw - left, c] w[r, s, c, k])
//
//   x beyond its borders is 0. bias is [groups * out_channels], residual is laid out as y; either may be null.
//   Every channel of every pixel of y is written, and nothing between the pixels. The sums are formed in the arrays' own
//   precision.
//
// Parallelisation: implicit GEMM. The product of the matrix of patches (a row for each output pixel, a column for each
// tap and channel), which is never stored, and of w: a block computes one tile of it (gemm_tile.cuh), blockIdx = (tile of
// pixels, tile of output channels, group). The naive kernels take one output a thread. Kernels without "any" in their
// name move sixteen bytes at once: pitches and channels must be multiples of four.
//
// Determinism: each output is summed by one thread, taps in order, then channels: the bits depend on nothing else.

#include "conv2d_tile.cuh"
#include "epilogue.cuh"

template <typename Scalar>
__device__ void conv2d_forward_naive(Scalar* y, const Scalar* x, const Scalar* weight, Epilogue<Scalar> epilogue,
                                     const Conv2dSizes& sizes) {
  const int channels = sizes.groups * sizes.out_channels;
  const long long count = sizes.out_pixels() * channels;
  const long long stride = (long long)gridDim.x * blockDim.x;
  for (long long number = (long long)blockIdx.x * blockDim.x + threadIdx.x; number < count; number += stride) {
    const int k = int(number % channels);
    const long long pixel = number / channels;
    const int q = int(pixel % sizes.out_width), p = int(pixel / sizes.out_width % sizes.out_height);
    const long long n = pixel / sizes.out_width / sizes.out_height;
    const int first_channel = k / sizes.out_channels * sizes.in_channels;
    Scalar sum = 0;
    for (int r = 0; r < sizes.kernel_height; ++r) {
      const int h = p * sizes.stride_height + r * sizes.dilation_height - sizes.pad_top;
      if (h < 0 || h >= sizes.in_height) continue;
      for (int s = 0; s < sizes.kernel_width; ++s) {
        const int w = q * sizes.stride_width + s * sizes.dilation_width - sizes.pad_left;
        if (w < 0 || w >= sizes.in_width) continue;
        const Scalar* seen = x + ((n * sizes.in_height + h) * sizes.in_width + w) * sizes.in_pitch + first_channel;
        const Scalar* tap = weight + (r * sizes.kernel_width + s) * sizes.in_channels * sizes.weight_pitch() + k;
        for (int c = 0; c < sizes.in_channels; ++c) sum += seen[c] * tap[c * sizes.weight_pitch()];
      }
    }
    const long long index = pixel * sizes.out_pitch + k;
    y[index] = epilogue(sum, k, index);
  }
}

template <class Tile>
__device__ void conv2d_forward(typename Tile::Scalar* y, const typename Tile::Scalar* x,
                               const typename Tile::Scalar* weight, Epilogue<typename Tile::Scalar> epilogue,
                               const Conv2dSizes& sizes) {
  using Scalar = typename Tile::Scalar;
  const int row = blockIdx.x * Tile::rows, column = blockIdx.y * Tile::columns, group = blockIdx.z;
  const int pixels = int(sizes.out_pixels());
  const PixelSource<Scalar> source{x + group * sizes.in_channels, sizes.in_height, sizes.in_width, sizes.in_pitch,
                                   sizes.in_channels};
  const PixelGrid grid{pixels, sizes.out_height, sizes.out_width, sizes.stride_height, sizes.stride_width};
  GatheredPixels<Tile> left(source, grid,
                            forward_taps(sizes.kernel_height, sizes.pad_top, sizes.dilation_height),
                            forward_taps(sizes.kernel_width, sizes.pad_left, sizes.dilation_width), row);
  // Taps and input channels are the rows of w.
  DepthStridedMatrix<Tile, Tile::columns> right(weight + group * sizes.out_channels, sizes.weight_pitch(), column,
                                                sizes.out_channels, 0);
  TileSums<Tile> sums;
  accumulate(sums, left, right, sizes.taps() * sizes.in_channels);
  sums.write_rows([&](int i, int j, const Scalar* four) {
    if (row + i >= pixels) return;
    const int k = group * sizes.out_channels + column + j;
    store_four<Tile>(y, (long long)(row + i) * sizes.out_pitch + k, four, k, sizes.out_channels - column - j, epilogue);
  });
}

#define FORWARD_VECTORS                                                                                        \
  float4* __restrict__ y, const float4* __restrict__ x, const float4* __restrict__ weight,                     \
      const float* bias /* or null */, const float4* residual /* or null */, bool relu
#define FORWARD_FLOATS                                                                                         \
  float* __restrict__ y, const float* __restrict__ x, const float* __restrict__ weight,                        \
      const float* bias /* or null */, const float* residual /* or null */, bool relu
#define FORWARD_DOUBLES                                                                                        \
  double* __restrict__ y, const double* __restrict__ x, const double* __restrict__ weight,                     \
      const double* bias /* or null */, const double* residual /* or null */, bool relu

// The parameters as the templates take them.
#define FORWARD_ARGUMENTS(Scalar)                                                                              \
  reinterpret_cast<Scalar*>(y), reinterpret_cast<const Scalar*>(x),                                            \
      reinterpret_cast<const Scalar*>(weight),                                                                 \
      Epilogue<Scalar>{bias, reinterpret_cast<const Scalar*>(residual), relu}, CONV2D_GATHER_SIZES

// The readable ones.

extern "C" __global__ void __launch_bounds__(256) conv2d_forward_naive_float32(FORWARD_FLOATS, CONV2D_SIZES) {
  conv2d_forward_naive<float>(FORWARD_ARGUMENTS(float));
}

extern "C" __global__ void __launch_bounds__(256) conv2d_forward_naive_float64(FORWARD_DOUBLES, CONV2D_SIZES) {
  conv2d_forward_naive<double>(FORWARD_ARGUMENTS(double));
}

// The fast ones.

extern "C" __global__ void __launch_bounds__(256, 2) conv2d_forward_128x128_float32(FORWARD_VECTORS, CONV2D_SIZES) {
  conv2d_forward<Tile128x128>(FORWARD_ARGUMENTS(float));
}

extern "C" __global__ void __launch_bounds__(256, 2) conv2d_forward_128x64_float32(FORWARD_VECTORS, CONV2D_SIZES) {
  conv2d_forward<Tile128x64>(FORWARD_ARGUMENTS(float));
}

extern "C" __global__ void __launch_bounds__(256, 3) conv2d_forward_64x64_float32(FORWARD_VECTORS, CONV2D_SIZES) {
  conv2d_forward<Tile64x64>(FORWARD_ARGUMENTS(float));
}

extern "C" __global__ void __launch_bounds__(128, 4) conv2d_forward_128x32_float32(FORWARD_VECTORS, CONV2D_SIZES) {
  conv2d_forward<Tile128x32>(FORWARD_ARGUMENTS(float));
}

extern "C" __global__ void __launch_bounds__(256, 2) conv2d_forward_64x64_any_float32(FORWARD_FLOATS, CONV2D_SIZES) {
  conv2d_forward<AnyTile64x64>(FORWARD_ARGUMENTS(float));
}

extern "C" __global__ void __launch_bounds__(128, 4) conv2d_forward_128x32_any_float32(FORWARD_FLOATS, CONV2D_SIZES) {
  conv2d_forward<AnyTile128x32>(FORWARD_ARGUMENTS(float));
}

extern "C" __global__ void __launch_bounds__(256, 2) conv2d_forward_64x64_any_float64(FORWARD_DOUBLES, CONV2D_SIZES) {
  conv2d_forward<AnyTile64x64Float64>(FORWARD_ARGUMENTS(double));
}
