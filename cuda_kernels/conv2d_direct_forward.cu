// conv2d_direct_forward.cu: convolution of groups of few channels, depthwise ones above all.
//
// Contract (conv2d.cuh says what the sizes are and how x, w and y lie in memory):
//
//     y[n, p, q, k] = relu(sum + bias[k] + residual[n, p, q, k])
//     sum = sum over r, s, c of  x[n, p sh + r dh - top, q sw + s dw - left, g C + c] w[r, s, c, k],  g = k / K
//
//   with C = in_channels and K = out_channels of one group; x is 0 outside its bounds. The steps of the epilogue that
//   are not asked for fall away. y is written completely, what lies between its pixels is not touched.
//
//   conv2d_direct_forward_...          takes
//   3x3, 3x3_stride2, 5x5, 5x5_stride2 C = K = 1, those kernels, the same stride in both directions, no dilation
//   groups                             C = K = 1, 2 or 4 (float64: 1 or 2), any kernel, stride and dilation
//   scalar                             any groups: the readable one. One channel at a time, at any address.
//   All but the last read sixteen bytes at a time: arrays that start at multiples of that, and a number of channels and
//   pitches that are multiples of four (float64: two).
//
// Parallelisation: conv2d_direct.cuh. A strip has four columns, but three in 5x5 (float64: two), which is short of
// registers; in the last two kernels it has one row, and eight columns in `groups`.
//
// Determinism: each output is the sum of one thread, over r, then s, then c in ascending order, whatever the grid.

#include "conv2d_direct.cuh"

constexpr int COLUMNS = 4;

// Groups of G channels in and G out, G a divisor of V.
template <int G, bool ROLLS, int V, typename Scalar>
__device__ void forward_groups(const Scalar* x, const Scalar* w, const Epilogue<Scalar>& epilogue, Scalar* y,
                               const Conv2dSizes& sizes, const StripSizes& strips) {
  const int channels = sizes.groups * G;
  const Strip place = find_strip(strips, channels, V, sizes.images);
  if (!place.exists) return;
  const Images from = images_of_x(sizes), to = images_of_y(sizes);
  x += from.start(place.image) + place.channel;
  w += place.channel;
  const int column = place.strip * WIDE;
  const int tap_step = G * channels;
  Lanes<Scalar, V> sums[WIDE] = {};
  for (int r = 0; r < sizes.kernel_height; ++r) {
    const int in_row = place.first_row * sizes.stride_height - sizes.pad_top + r * sizes.dilation_height;
    if (!from.has_row(in_row)) continue;
    add_taps<G, false, ROLLS>(sums, x + from.offset(in_row, 0), from.width, from.pitch,
                              column * sizes.stride_width - sizes.pad_left, sizes.stride_width, sizes.dilation_width,
                              w + r * sizes.kernel_width * tap_step, tap_step, sizes.kernel_width, channels);
  }
#pragma unroll
  for (int t = 0; t < WIDE; ++t) {
    if (!to.has_column(column + t)) continue;
    const long long index = to.start(place.image) + to.offset(place.first_row, column + t) + place.channel;
    store_lanes(epilogue, sums[t], place.channel, index, y);
  }
}

template <int G, int V, typename Scalar>
__device__ void forward_groups(const Scalar* x, const Scalar* w, const Epilogue<Scalar>& epilogue, Scalar* y,
                               const Conv2dSizes& sizes, const StripSizes& strips) {
  if (sizes.dilation_width == sizes.stride_width) {
    forward_groups<G, true, V>(x, w, epilogue, y, sizes, strips);
  } else {
    forward_groups<G, false, V>(x, w, epilogue, y, sizes, strips);
  }
}

template <typename Scalar>
__device__ void forward_scalar(const Scalar* x, const Scalar* w, const Epilogue<Scalar>& epilogue, Scalar* y,
                               const Conv2dSizes& sizes, const StripSizes& strips) {
  const Strip place = find_strip(strips, sizes.groups * sizes.out_channels, 1, sizes.images);
  if (!place.exists) return;
  const Images from = images_of_x(sizes), to = images_of_y(sizes);
  x += from.start(place.image) + place.channel / sizes.out_channels * sizes.in_channels;
  w += place.channel;
  const int column = place.strip * COLUMNS;
  Scalar sums[COLUMNS] = {};
  for (int r = 0; r < sizes.kernel_height; ++r) {
    const int in_row = place.first_row * sizes.stride_height - sizes.pad_top + r * sizes.dilation_height;
    if (!from.has_row(in_row)) continue;
    for (int s = 0; s < sizes.kernel_width; ++s) {
      const int in_column = column * sizes.stride_width - sizes.pad_left + s * sizes.dilation_width;
      for (int c = 0; c < sizes.in_channels; ++c) {
        const Scalar weight = w[((r * sizes.kernel_width + s) * sizes.in_channels + c) * sizes.weight_pitch()];
#pragma unroll
        for (int t = 0; t < COLUMNS; ++t) {
          const int at = in_column + t * sizes.stride_width;
          if (from.has_column(at)) sums[t] += x[from.offset(in_row, at) + c] * weight;
        }
      }
    }
  }
#pragma unroll
  for (int t = 0; t < COLUMNS; ++t) {
    if (!to.has_column(column + t)) continue;
    const long long index = to.start(place.image) + to.offset(place.first_row, column + t) + place.channel;
    y[index] = epilogue(sums[t], place.channel, index);
  }
}

template <int R, int S, int STRIDE, int STRIP, int V, typename Scalar>
__device__ void forward_strip(const Scalar* x, const Scalar* w, const Epilogue<Scalar>& epilogue, Scalar* y,
                              const Conv2dSizes& sizes, const StripSizes& strips) {
  const Strip place = find_strip(strips, sizes.groups, V, sizes.images);
  convolve_strip<R, S, STRIDE, STRIP, false, V>(x, w, epilogue, y, images_of_x(sizes), images_of_y(sizes),
                                                sizes.pad_top, sizes.pad_left, sizes.groups, place, strips.rows);
}

#define DIRECT_FORWARD_VECTORS                                                                                \
  const float4* __restrict__ x, const float4* __restrict__ w,                                                 \
      const float4* __restrict__ bias /* or null */, const float4* __restrict__ residual /* or null */,       \
      float4* __restrict__ y, bool relu
#define DIRECT_FORWARD_DOUBLE_VECTORS                                                                         \
  const double2* __restrict__ x, const double2* __restrict__ w,                                               \
      const double2* __restrict__ bias /* or null */,                                                         \
      const double2* __restrict__ residual /* or null */, double2* __restrict__ y, bool relu
#define DIRECT_FORWARD_FLOATS                                                                                 \
  const float* __restrict__ x, const float* __restrict__ w,                                                   \
      const float* __restrict__ bias /* or null */, const float* __restrict__ residual /* or null */,         \
      float* __restrict__ y, bool relu
#define DIRECT_FORWARD_DOUBLES                                                                                \
  const double* __restrict__ x, const double* __restrict__ w,                                                 \
      const double* __restrict__ bias /* or null */, const double* __restrict__ residual /* or null */,       \
      double* __restrict__ y, bool relu

// The parameters as the templates take them.
#define DIRECT_FORWARD_ARGUMENTS(Scalar)                                                                      \
  scalars(x), scalars(w), Epilogue<Scalar>{scalars(bias), scalars(residual), relu}, scalars(y),               \
      CONV2D_GATHER_SIZES, CONV2D_GATHER_STRIPS

extern "C" __global__ void __launch_bounds__(128)
    conv2d_direct_forward_3x3_float32(DIRECT_FORWARD_VECTORS, CONV2D_SIZES, CONV2D_STRIPS) {
  forward_strip<3, 3, 1, 4, 4>(DIRECT_FORWARD_ARGUMENTS(float));
}

extern "C" __global__ void __launch_bounds__(128)
    conv2d_direct_forward_3x3_float64(DIRECT_FORWARD_DOUBLE_VECTORS, CONV2D_SIZES, CONV2D_STRIPS) {
  forward_strip<3, 3, 1, 4, 2>(DIRECT_FORWARD_ARGUMENTS(double));
}

extern "C" __global__ void __launch_bounds__(128)
    conv2d_direct_forward_3x3_stride2_float32(DIRECT_FORWARD_VECTORS, CONV2D_SIZES, CONV2D_STRIPS) {
  forward_strip<3, 3, 2, 4, 4>(DIRECT_FORWARD_ARGUMENTS(float));
}

extern "C" __global__ void __launch_bounds__(128)
    conv2d_direct_forward_3x3_stride2_float64(DIRECT_FORWARD_DOUBLE_VECTORS, CONV2D_SIZES, CONV2D_STRIPS) {
  forward_strip<3, 3, 2, 4, 2>(DIRECT_FORWARD_ARGUMENTS(double));
}

extern "C" __global__ void __launch_bounds__(128)
    conv2d_direct_forward_5x5_float32(DIRECT_FORWARD_VECTORS, CONV2D_SIZES, CONV2D_STRIPS) {
  forward_strip<5, 5, 1, 3, 4>(DIRECT_FORWARD_ARGUMENTS(float));
}

extern "C" __global__ void __launch_bounds__(128)
    conv2d_direct_forward_5x5_float64(DIRECT_FORWARD_DOUBLE_VECTORS, CONV2D_SIZES, CONV2D_STRIPS) {
  forward_strip<5, 5, 1, 2, 2>(DIRECT_FORWARD_ARGUMENTS(double));
}

extern "C" __global__ void __launch_bounds__(128)
    conv2d_direct_forward_5x5_stride2_float32(DIRECT_FORWARD_VECTORS, CONV2D_SIZES, CONV2D_STRIPS) {
  forward_strip<5, 5, 2, 4, 4>(DIRECT_FORWARD_ARGUMENTS(float));
}

extern "C" __global__ void __launch_bounds__(128)
    conv2d_direct_forward_5x5_stride2_float64(DIRECT_FORWARD_DOUBLE_VECTORS, CONV2D_SIZES, CONV2D_STRIPS) {
  forward_strip<5, 5, 2, 4, 2>(DIRECT_FORWARD_ARGUMENTS(double));
}

extern "C" __global__ void __launch_bounds__(128, 4)
    conv2d_direct_forward_groups_float32(DIRECT_FORWARD_VECTORS, CONV2D_SIZES, CONV2D_STRIPS) {
  if (in_channels == 1) forward_groups<1, 4>(DIRECT_FORWARD_ARGUMENTS(float));
  if (in_channels == 2) forward_groups<2, 4>(DIRECT_FORWARD_ARGUMENTS(float));
  if (in_channels == 4) forward_groups<4, 4>(DIRECT_FORWARD_ARGUMENTS(float));
}

extern "C" __global__ void __launch_bounds__(128, 4)
    conv2d_direct_forward_groups_float64(DIRECT_FORWARD_DOUBLE_VECTORS, CONV2D_SIZES, CONV2D_STRIPS) {
  if (in_channels == 1) forward_groups<1, 2>(DIRECT_FORWARD_ARGUMENTS(double));
  if (in_channels == 2) forward_groups<2, 2>(DIRECT_FORWARD_ARGUMENTS(double));
}

extern "C" __global__ void __launch_bounds__(128, 8)
    conv2d_direct_forward_scalar_float32(DIRECT_FORWARD_FLOATS, CONV2D_SIZES, CONV2D_STRIPS) {
  forward_scalar(DIRECT_FORWARD_ARGUMENTS(float));
}

extern "C" __global__ void __launch_bounds__(128, 8)
    conv2d_direct_forward_scalar_float64(DIRECT_FORWARD_DOUBLES, CONV2D_SIZES, CONV2D_STRIPS) {
  forward_scalar(DIRECT_FORWARD_ARGUMENTS(double));
}
