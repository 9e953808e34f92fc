// conv2d_direct_input_grad.cu: the gradient of a convolution of groups of few channels to its input.
//
// Contract (conv2d.cuh says what the sizes are and how dx, w and dy lie in memory; dx as x, dy as y):
//
//     dx[n, h, w', c] = relu(sum + bias[c] + residual[n, h, w', c])
//     sum = sum over r, s, k of  dy[n, p, q, g K + k] w[r, s, c - g C, g K + k],  g = c / C
//           with p sh + r dh - top = h and q sw + s dw - left = w', for the taps r, s that have such a p and q
//
//   with C = in_channels and K = out_channels of one group; dy is 0 outside its bounds. The epilogue is for transposed
//   convolution, which is this gradient; its steps that are not asked for fall away. dx is written completely, what
//   lies between its pixels is not touched.
//
//   conv2d_direct_input_grad_...       takes
//   3x3, 3x3_stride2, 5x5, 5x5_stride2 C = K = 1, those kernels, the same stride in both directions, no dilation
//   groups                             C = K = 1, 2 or 4 (float64: 1 or 2), any kernel, stride and dilation
//   scalar                             any groups: the readable one. One channel at a time, at any address.
//   All but the last read sixteen bytes at a time: arrays that start at multiples of that, and a number of channels and
//   pitches that are multiples of four (float64: two).
//
// Parallelisation: conv2d_direct.cuh, with dx in the place of the output. At stride 1 it is a convolution with the
// kernel turned round; a strip has four columns, but three in 5x5 (float64: two), which is short of registers. At a
// larger stride only those taps reach a pixel whose remainder by the stride is its own, and no other is multiplied: the
// stride 2 kernels take a strip of two pairs of columns two rows at a time; a strip of the last two kernels has four
// columns (groups: eight) of one remainder, `stride` apart, and one row.
//
// Determinism: each element is the sum of one thread, over r, then s, then k in ascending order (in 3x3 and 5x5 r
// and s descend), whatever the grid.

#include "conv2d_direct.cuh"

constexpr int COLUMNS = 4;

template <int R, int S, int STRIP, int V, typename Scalar>
__device__ void input_grad_strip(const Scalar* dy, const Scalar* w, const Epilogue<Scalar>& epilogue, Scalar* dx,
                                 const Conv2dSizes& sizes, const StripSizes& strips) {
  const Strip place = find_strip(strips, sizes.groups, V, sizes.images);
  convolve_strip<R, S, 1, STRIP, true, V>(dy, w, epilogue, dx, images_of_y(sizes), images_of_x(sizes),
                                          R - 1 - sizes.pad_top, S - 1 - sizes.pad_left, sizes.groups, place,
                                          strips.rows);
}

// Depthwise at stride 2. With u = h + top = 2 p' + f, f = 0 or 1, taps r = f + 2 a of rows p = p' - a of dy reach the
// row h; columns likewise, with v = w' + left = 2 q' + g. So all that reaches the rows 2 p' and 2 p' + 1 are the LIVE
// rows of dy from p' upwards, which stay in registers while the thread walks down.
template <int R, int S, int V, typename Scalar>
__device__ void input_grad_strip_stride2(const Scalar* dy, const Scalar* w, const Epilogue<Scalar>& epilogue,
                                         Scalar* dx, const Conv2dSizes& sizes, const StripSizes& strips) {
  constexpr int LIVE = (R + 1) / 2;
  constexpr int REACH = (S + 1) / 2 - 1;  // columns of dy to the left of q'
  constexpr int PAIRS = COLUMNS / 2;
  constexpr int WIDTH = PAIRS + REACH;
  constexpr bool HOLD = R * S <= 9;
  using Vector = Lanes<Scalar, V>;
  const int channels = sizes.groups;
  const Strip place = find_strip(strips, channels, V, sizes.images);
  if (!place.exists) return;
  const Images from = images_of_y(sizes), to = images_of_x(sizes);
  dy += from.start(place.image) + place.channel;
  w += place.channel;
  const long long target_start = to.start(place.image) + place.channel;
  const int first_row = sizes.pad_top / 2 + place.first_row;
  const int end_row = min(first_row + strips.rows, (to.height - 1 + sizes.pad_top) / 2 + 1);
  const int column = sizes.pad_left / 2 + place.strip * PAIRS;

  Vector held[HOLD ? R * S : 1];
  if (HOLD) {
#pragma unroll
    for (int tap = 0; tap < R * S; ++tap) held[HOLD ? tap : 0] = load_lanes<V>(w + tap * channels);
  }
  Vector seen[LIVE][WIDTH] = {};
#pragma unroll 1
  for (int row = first_row - (LIVE - 1); row < end_row; ++row) {
    const Scalar* pixels = dy + from.offset(row, column - REACH);
#pragma unroll
    for (int j = 0; j < WIDTH; ++j) {
#pragma unroll
      for (int a = LIVE - 1; a > 0; --a) seen[a][j] = seen[a - 1][j];
      const bool inside = from.has_row(row) && from.has_column(column - REACH + j);
      seen[0][j] = load_lanes_if<V>(inside, pixels + j * from.pitch);
    }
    if (row < first_row) continue;
#pragma unroll
    for (int f = 0; f < 2; ++f) {
      const int h = 2 * row + f - sizes.pad_top;
      if (!to.has_row(h)) continue;
      Vector sums[COLUMNS] = {};
#pragma unroll
      for (int a = 0; f + 2 * a < R; ++a) {
#pragma unroll
        for (int s = 0; s < S; ++s) {
          const int r = f + 2 * a;
          const Vector tap = HOLD ? held[HOLD ? r * S + s : 0] : load_lanes<V>(w + (r * S + s) * channels);
#pragma unroll
          for (int pair = 0; pair < PAIRS; ++pair) {
            sums[2 * pair + s % 2].multiply_add(seen[a][pair + REACH - s / 2], tap);
          }
        }
      }
#pragma unroll
      for (int t = 0; t < COLUMNS; ++t) {
        const int at = 2 * column + t - sizes.pad_left;
        if (!to.has_column(at)) continue;
        store_lanes(epilogue, sums[t], place.channel, target_start + to.offset(h, at), dx);
      }
    }
  }
}

// The outputs in one direction that read position `at`, tap after tap, by subtraction alone.
struct Readers {
  int stride, dilation_quotient, dilation_remainder;
  int output, remainder;  // of at + pad - tap dilation by the stride; the tap hits where the remainder is 0

  __device__ Readers(int at, int pad, int stride, int dilation)
      : stride(stride), dilation_quotient(dilation / stride), dilation_remainder(dilation % stride),
        output((at + pad) / stride), remainder((at + pad) % stride) {}

  __device__ void next_tap() {
    output -= dilation_quotient;
    remainder -= dilation_remainder;
    if (remainder < 0) {
      remainder += stride;
      --output;
    }
  }
};

// The first of a thread's `count` columns, which are `stride` apart: neighbouring strips have the remainders in turn.
__device__ inline int first_column(const Strip& place, int stride, int count) {
  return place.strip % stride + place.strip / stride * count * stride;
}

// The taps of a row that hit: `count` of them, from `first` on with `step` between them. Each reads a column of dy
// `shift` before the last one's; `output` is the first's.
struct Hits {
  int first, count, step, output, shift;

  __device__ Hits(int at, int pad, int stride, int dilation, int taps) : first(0), count(0), step(1), shift(1) {
    Readers readers(at, pad, stride, dilation);
    while (first < taps && readers.remainder != 0) {
      readers.next_tap();
      ++first;
    }
    output = readers.output;
    if (first == taps) return;
    readers.next_tap();
    while (readers.remainder != 0) {
      readers.next_tap();
      ++step;
    }
    shift = output - readers.output;
    count = (taps - first + step - 1) / step;
  }
};

// Groups of G channels in and G out, G a divisor of V. The outputs of add_taps go from the last column to the first, as
// the columns of dy do from tap to tap.
template <int G, bool ROLLS, int V, typename Scalar>
__device__ void input_grad_groups(const Scalar* dy, const Scalar* w, const Epilogue<Scalar>& epilogue, Scalar* dx,
                                  const Conv2dSizes& sizes, const Strip& place, const Hits& hits, int column) {
  const int channels = sizes.groups * G;
  const Images from = images_of_y(sizes), to = images_of_x(sizes);
  const int tap_step = G * channels;
  dy += from.start(place.image) + place.channel;
  w += place.channel + hits.first * tap_step;
  Lanes<Scalar, V> sums[WIDE] = {};
  Readers rows(place.first_row, sizes.pad_top, sizes.stride_height, sizes.dilation_height);
  for (int r = 0; r < sizes.kernel_height; ++r, rows.next_tap()) {
    if (rows.remainder != 0 || !from.has_row(rows.output)) continue;
    add_taps<G, true, ROLLS>(sums, dy + from.offset(rows.output, 0), from.width, from.pitch, hits.output + WIDE - 1, -1,
                             -hits.shift, w + r * sizes.kernel_width * tap_step, hits.step * tap_step, hits.count,
                             channels);
  }
#pragma unroll
  for (int t = 0; t < WIDE; ++t) {
    const int at = column + (WIDE - 1 - t) * sizes.stride_width;
    if (!to.has_column(at)) continue;
    const long long index = to.start(place.image) + to.offset(place.first_row, at) + place.channel;
    store_lanes(epilogue, sums[t], place.channel, index, dx);
  }
}

template <int G, int V, typename Scalar>
__device__ void input_grad_groups(const Scalar* dy, const Scalar* w, const Epilogue<Scalar>& epilogue, Scalar* dx,
                                  const Conv2dSizes& sizes, const StripSizes& strips) {
  const Strip place = find_strip(strips, sizes.groups * G, V, sizes.images);
  if (!place.exists) return;
  const int column = first_column(place, sizes.stride_width, WIDE);
  const Hits hits(column, sizes.pad_left, sizes.stride_width, sizes.dilation_width, sizes.kernel_width);
  if (hits.shift == 1) {
    input_grad_groups<G, true, V>(dy, w, epilogue, dx, sizes, place, hits, column);
  } else {
    input_grad_groups<G, false, V>(dy, w, epilogue, dx, sizes, place, hits, column);
  }
}

template <typename Scalar>
__device__ void input_grad_scalar(const Scalar* dy, const Scalar* w, const Epilogue<Scalar>& epilogue, Scalar* dx,
                                  const Conv2dSizes& sizes, const StripSizes& strips) {
  const Strip place = find_strip(strips, sizes.groups * sizes.in_channels, 1, sizes.images);
  if (!place.exists) return;
  const Images from = images_of_y(sizes), to = images_of_x(sizes);
  const int column = first_column(place, sizes.stride_width, COLUMNS);
  const int first_k = place.channel / sizes.in_channels * sizes.out_channels;
  dy += from.start(place.image) + first_k;
  w += place.channel % sizes.in_channels * sizes.weight_pitch() + first_k;
  Scalar sums[COLUMNS] = {};
  Readers rows(place.first_row, sizes.pad_top, sizes.stride_height, sizes.dilation_height);
  for (int r = 0; r < sizes.kernel_height; ++r, rows.next_tap()) {
    if (rows.remainder != 0 || !from.has_row(rows.output)) continue;
    Readers columns(column, sizes.pad_left, sizes.stride_width, sizes.dilation_width);
    for (int s = 0; s < sizes.kernel_width; ++s, columns.next_tap()) {
      if (columns.remainder != 0) continue;
      const Scalar* tap = w + (r * sizes.kernel_width + s) * sizes.in_channels * sizes.weight_pitch();
      for (int k = 0; k < sizes.out_channels; ++k) {
#pragma unroll
        for (int t = 0; t < COLUMNS; ++t) {
          const int q = columns.output + t;
          if (from.has_column(q)) sums[t] += dy[from.offset(rows.output, q) + k] * tap[k];
        }
      }
    }
  }
#pragma unroll
  for (int t = 0; t < COLUMNS; ++t) {
    const int at = column + t * sizes.stride_width;
    if (!to.has_column(at)) continue;
    const long long index = to.start(place.image) + to.offset(place.first_row, at) + place.channel;
    dx[index] = epilogue(sums[t], place.channel, index);
  }
}

#define DIRECT_INPUT_GRAD_VECTORS                                                                             \
  const float4* __restrict__ dy, const float4* __restrict__ w,                                                \
      const float4* __restrict__ bias /* or null */, const float4* __restrict__ residual /* or null */,       \
      float4* __restrict__ dx, bool relu
#define DIRECT_INPUT_GRAD_DOUBLE_VECTORS                                                                      \
  const double2* __restrict__ dy, const double2* __restrict__ w,                                              \
      const double2* __restrict__ bias /* or null */,                                                         \
      const double2* __restrict__ residual /* or null */, double2* __restrict__ dx, bool relu
#define DIRECT_INPUT_GRAD_FLOATS                                                                              \
  const float* __restrict__ dy, const float* __restrict__ w,                                                  \
      const float* __restrict__ bias /* or null */, const float* __restrict__ residual /* or null */,         \
      float* __restrict__ dx, bool relu
#define DIRECT_INPUT_GRAD_DOUBLES                                                                             \
  const double* __restrict__ dy, const double* __restrict__ w,                                                \
      const double* __restrict__ bias /* or null */, const double* __restrict__ residual /* or null */,       \
      double* __restrict__ dx, bool relu

// The parameters as the templates take them.
#define DIRECT_INPUT_GRAD_ARGUMENTS(Scalar)                                                                   \
  scalars(dy), scalars(w), Epilogue<Scalar>{scalars(bias), scalars(residual), relu}, scalars(dx),             \
      CONV2D_GATHER_SIZES, CONV2D_GATHER_STRIPS

extern "C" __global__ void __launch_bounds__(128)
    conv2d_direct_input_grad_3x3_float32(DIRECT_INPUT_GRAD_VECTORS, CONV2D_SIZES, CONV2D_STRIPS) {
  input_grad_strip<3, 3, 4, 4>(DIRECT_INPUT_GRAD_ARGUMENTS(float));
}

extern "C" __global__ void __launch_bounds__(128)
    conv2d_direct_input_grad_3x3_float64(DIRECT_INPUT_GRAD_DOUBLE_VECTORS, CONV2D_SIZES, CONV2D_STRIPS) {
  input_grad_strip<3, 3, 4, 2>(DIRECT_INPUT_GRAD_ARGUMENTS(double));
}

extern "C" __global__ void __launch_bounds__(128)
    conv2d_direct_input_grad_3x3_stride2_float32(DIRECT_INPUT_GRAD_VECTORS, CONV2D_SIZES, CONV2D_STRIPS) {
  input_grad_strip_stride2<3, 3, 4>(DIRECT_INPUT_GRAD_ARGUMENTS(float));
}

extern "C" __global__ void __launch_bounds__(128)
    conv2d_direct_input_grad_3x3_stride2_float64(DIRECT_INPUT_GRAD_DOUBLE_VECTORS, CONV2D_SIZES, CONV2D_STRIPS) {
  input_grad_strip_stride2<3, 3, 2>(DIRECT_INPUT_GRAD_ARGUMENTS(double));
}

extern "C" __global__ void __launch_bounds__(128)
    conv2d_direct_input_grad_5x5_float32(DIRECT_INPUT_GRAD_VECTORS, CONV2D_SIZES, CONV2D_STRIPS) {
  input_grad_strip<5, 5, 3, 4>(DIRECT_INPUT_GRAD_ARGUMENTS(float));
}

extern "C" __global__ void __launch_bounds__(128)
    conv2d_direct_input_grad_5x5_float64(DIRECT_INPUT_GRAD_DOUBLE_VECTORS, CONV2D_SIZES, CONV2D_STRIPS) {
  input_grad_strip<5, 5, 2, 2>(DIRECT_INPUT_GRAD_ARGUMENTS(double));
}

extern "C" __global__ void __launch_bounds__(128)
    conv2d_direct_input_grad_5x5_stride2_float32(DIRECT_INPUT_GRAD_VECTORS, CONV2D_SIZES, CONV2D_STRIPS) {
  input_grad_strip_stride2<5, 5, 4>(DIRECT_INPUT_GRAD_ARGUMENTS(float));
}

extern "C" __global__ void __launch_bounds__(128)
    conv2d_direct_input_grad_5x5_stride2_float64(DIRECT_INPUT_GRAD_DOUBLE_VECTORS, CONV2D_SIZES, CONV2D_STRIPS) {
  input_grad_strip_stride2<5, 5, 2>(DIRECT_INPUT_GRAD_ARGUMENTS(double));
}

extern "C" __global__ void __launch_bounds__(128, 4)
    conv2d_direct_input_grad_groups_float32(DIRECT_INPUT_GRAD_VECTORS, CONV2D_SIZES, CONV2D_STRIPS) {
  if (in_channels == 1) input_grad_groups<1, 4>(DIRECT_INPUT_GRAD_ARGUMENTS(float));
  if (in_channels == 2) input_grad_groups<2, 4>(DIRECT_INPUT_GRAD_ARGUMENTS(float));
  if (in_channels == 4) input_grad_groups<4, 4>(DIRECT_INPUT_GRAD_ARGUMENTS(float));
}

extern "C" __global__ void __launch_bounds__(128, 4)
    conv2d_direct_input_grad_groups_float64(DIRECT_INPUT_GRAD_DOUBLE_VECTORS, CONV2D_SIZES, CONV2D_STRIPS) {
  if (in_channels == 1) input_grad_groups<1, 2>(DIRECT_INPUT_GRAD_ARGUMENTS(double));
  if (in_channels == 2) input_grad_groups<2, 2>(DIRECT_INPUT_GRAD_ARGUMENTS(double));
}

extern "C" __global__ void __launch_bounds__(128, 8)
    conv2d_direct_input_grad_scalar_float32(DIRECT_INPUT_GRAD_FLOATS, CONV2D_SIZES, CONV2D_STRIPS) {
  input_grad_scalar(DIRECT_INPUT_GRAD_ARGUMENTS(float));
}

extern "C" __global__ void __launch_bounds__(128, 8)
    conv2d_direct_input_grad_scalar_float64(DIRECT_INPUT_GRAD_DOUBLES, CONV2D_SIZES, CONV2D_STRIPS) {
  input_grad_scalar(DIRECT_INPUT_GRAD_ARGUMENTS(double));
}
