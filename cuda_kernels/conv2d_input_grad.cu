// conv2d_input_grad.cu: the gradient of a two-dimensional convolution with respect to its input, which is also what a
// transposed convolution computes.
//
// Contract (conv2d.cuh has the sizes and where things lie; gpunet/ops/convolution.py the equations' source):
//
//     dx[n, h, w, c] = relu(b[c] + residual[n, h, w, c]
//                           + sum over all p, q, r, s, k that read x[n, h, w, c] of dy[n, p, q, k] w[r, s, c, k])
//
//   p, q, r, s read it where h = p sh + r dh - top and w = q sw + s dw - left. bias is [groups * in_channels], residual
//   is laid out as dx; either may be null. Every channel of every pixel of dx is written, and nothing between the pixels.
//
// Parallelisation: implicit GEMM, phase by phase. Rows h of the same remainder by the stride are reached by the same
// taps, so each of the sh sw phases is a convolution of dy with stride 1, and no product with a zero is formed
// (conv2d_tile.cuh). blockIdx = (tile of the phase's pixels, tile of input channels, phase and group); the first
// dimension is as long as the largest phase needs. The naive kernels take one element of dx a thread. Kernels without
// "any" in their name move sixteen bytes at once: pitches and channels must be multiples of four.
//
// Determinism: each element is summed by one thread, taps in order, then channels: the bits depend on nothing else.

#include "conv2d_tile.cuh"
#include "epilogue.cuh"

template <typename Scalar>
__device__ void conv2d_input_grad_naive(Scalar* dx, const Scalar* dy, const Scalar* weight, Epilogue<Scalar> epilogue,
                                        const Conv2dSizes& sizes) {
  const int channels = sizes.groups * sizes.in_channels;
  const long long count = sizes.in_pixels() * channels;
  const long long stride = (long long)gridDim.x * blockDim.x;
  for (long long number = (long long)blockIdx.x * blockDim.x + threadIdx.x; number < count; number += stride) {
    const int channel = int(number % channels), group = channel / sizes.in_channels;
    const long long pixel = number / channels;
    const int w = int(pixel % sizes.in_width), h = int(pixel / sizes.in_width % sizes.in_height);
    const long long n = pixel / sizes.in_width / sizes.in_height;
    const int c = channel - group * sizes.in_channels;
    Scalar sum = 0;
    for (int r = 0; r < sizes.kernel_height; ++r) {
      const int down = h + sizes.pad_top - r * sizes.dilation_height, p = down / sizes.stride_height;
      if (down < 0 || down != p * sizes.stride_height || p >= sizes.out_height) continue;
      for (int s = 0; s < sizes.kernel_width; ++s) {
        const int across = w + sizes.pad_left - s * sizes.dilation_width, q = across / sizes.stride_width;
        if (across < 0 || across != q * sizes.stride_width || q >= sizes.out_width) continue;
        const Scalar* grad = dy + ((n * sizes.out_height + p) * sizes.out_width + q) * sizes.out_pitch;
        const Scalar* tap = weight + ((r * sizes.kernel_width + s) * sizes.in_channels + c) * sizes.weight_pitch();
        const int first = group * sizes.out_channels;
        for (int k = first; k < first + sizes.out_channels; ++k) sum += grad[k] * tap[k];
      }
    }
    const long long index = pixel * sizes.in_pitch + channel;
    dx[index] = epilogue(sum, channel, index);
  }
}

template <class Tile>
__device__ void conv2d_input_grad(typename Tile::Scalar* dx, const typename Tile::Scalar* dy,
                                  const typename Tile::Scalar* weight, Epilogue<typename Tile::Scalar> epilogue,
                                  const Conv2dSizes& sizes) {
  using Scalar = typename Tile::Scalar;
  const int row = blockIdx.x * Tile::rows, column = blockIdx.y * Tile::columns;
  const int group = blockIdx.z % sizes.groups, phase = blockIdx.z / sizes.groups;
  const int phase_row = phase / sizes.stride_width, phase_column = phase % sizes.stride_width;
  // Rows phase_row, phase_row + sh, ... of dx, and columns likewise.
  const int height = (sizes.in_height - phase_row + sizes.stride_height - 1) / sizes.stride_height;
  const int width = (sizes.in_width - phase_column + sizes.stride_width - 1) / sizes.stride_width;
  const int pixels = sizes.images * height * width;
  if (row >= pixels) return;
  const TapLine down = input_grad_taps(phase_row, sizes.kernel_height, sizes.stride_height, sizes.pad_top,
                                       sizes.dilation_height);
  const TapLine across = input_grad_taps(phase_column, sizes.kernel_width, sizes.stride_width, sizes.pad_left,
                                         sizes.dilation_width);
  const PixelSource<Scalar> source{dy + group * sizes.out_channels, sizes.out_height, sizes.out_width,
                                   sizes.out_pitch, sizes.out_channels};
  GatheredPixels<Tile> left(source, PixelGrid{pixels, height, width, 1, 1}, down, across, row);
  TapWeights<Tile> right(weight + group * sizes.out_channels, sizes, left, column);
  TileSums<Tile> sums;
  accumulate(sums, left, right, down.count * across.count * sizes.out_channels);
  sums.write_rows([&](int i, int j, const Scalar* four) {
    const int pixel = row + i;
    if (pixel >= pixels) return;
    const int line = pixel / width, n = line / height;
    const int h = (line - n * height) * sizes.stride_height + phase_row;
    const int w = (pixel - line * width) * sizes.stride_width + phase_column;
    const int channel = group * sizes.in_channels + column + j;
    const long long place = ((long long)n * sizes.in_height + h) * sizes.in_width + w;
    store_four<Tile>(dx, place * sizes.in_pitch + channel, four, channel, sizes.in_channels - column - j, epilogue);
  });
}

#define INPUT_GRAD_VECTORS                                                                                     \
  float4* __restrict__ dx, const float4* __restrict__ dy, const float4* __restrict__ weight,                   \
      const float* bias /* or null */, const float4* residual /* or null */, bool relu
#define INPUT_GRAD_FLOATS                                                                                      \
  float* __restrict__ dx, const float* __restrict__ dy, const float* __restrict__ weight,                      \
      const float* bias /* or null */, const float* residual /* or null */, bool relu
#define INPUT_GRAD_DOUBLES                                                                                     \
  double* __restrict__ dx, const double* __restrict__ dy, const double* __restrict__ weight,                   \
      const double* bias /* or null */, const double* residual /* or null */, bool relu

// The parameters as the templates take them.
#define INPUT_GRAD_ARGUMENTS(Scalar)                                                                           \
  reinterpret_cast<Scalar*>(dx), reinterpret_cast<const Scalar*>(dy),                                          \
      reinterpret_cast<const Scalar*>(weight),                                                                 \
      Epilogue<Scalar>{bias, reinterpret_cast<const Scalar*>(residual), relu}, CONV2D_GATHER_SIZES

// The readable ones.

extern "C" __global__ void __launch_bounds__(256) conv2d_input_grad_naive_float32(INPUT_GRAD_FLOATS, CONV2D_SIZES) {
  conv2d_input_grad_naive<float>(INPUT_GRAD_ARGUMENTS(float));
}

extern "C" __global__ void __launch_bounds__(256) conv2d_input_grad_naive_float64(INPUT_GRAD_DOUBLES, CONV2D_SIZES) {
  conv2d_input_grad_naive<double>(INPUT_GRAD_ARGUMENTS(double));
}

// The fast ones.

extern "C" __global__ void __launch_bounds__(256, 2)
    conv2d_input_grad_128x128_float32(INPUT_GRAD_VECTORS, CONV2D_SIZES) {
  conv2d_input_grad<Tile128x128>(INPUT_GRAD_ARGUMENTS(float));
}

extern "C" __global__ void __launch_bounds__(256, 2)
    conv2d_input_grad_128x64_float32(INPUT_GRAD_VECTORS, CONV2D_SIZES) {
  conv2d_input_grad<Tile128x64>(INPUT_GRAD_ARGUMENTS(float));
}

extern "C" __global__ void __launch_bounds__(256, 3) conv2d_input_grad_64x64_float32(INPUT_GRAD_VECTORS, CONV2D_SIZES) {
  conv2d_input_grad<Tile64x64>(INPUT_GRAD_ARGUMENTS(float));
}

extern "C" __global__ void __launch_bounds__(128, 4)
    conv2d_input_grad_128x32_float32(INPUT_GRAD_VECTORS, CONV2D_SIZES) {
  conv2d_input_grad<Tile128x32>(INPUT_GRAD_ARGUMENTS(float));
}

extern "C" __global__ void __launch_bounds__(256, 2)
    conv2d_input_grad_64x64_any_float32(INPUT_GRAD_FLOATS, CONV2D_SIZES) {
  conv2d_input_grad<AnyTile64x64>(INPUT_GRAD_ARGUMENTS(float));
}

extern "C" __global__ void __launch_bounds__(128, 4)
    conv2d_input_grad_128x32_any_float32(INPUT_GRAD_FLOATS, CONV2D_SIZES) {
  conv2d_input_grad<AnyTile128x32>(INPUT_GRAD_ARGUMENTS(float));
}

extern "C" __global__ void __launch_bounds__(256, 2)
    conv2d_input_grad_64x64_any_float64(INPUT_GRAD_DOUBLES, CONV2D_SIZES) {
  conv2d_input_grad<AnyTile64x64Float64>(INPUT_GRAD_ARGUMENTS(double));
}
