// conv2d_direct_weight_grad.cu: the gradient of a convolution of groups of few channels to its weight.
//
// Contract (conv2d.cuh says what the sizes are and how x, dw and dy lie in memory; dw as w, dy as y):
//
//     dw[r, s, c, k] = sum over n, p, q of  dy[n, p, q, k] x[n, p sh + r dh - top, q sw + s dw - left, g C + c],
//                      g = k / K
//
//   with C = in_channels and K = out_channels of one group; x is 0 outside its bounds. A kernel of the first kind
//   writes sums of parts of the pixels, partial [splits, R, S, C, groups K], completely; conv2d_direct_weight_grad_sum
//   adds the splits up.
//
//   conv2d_direct_weight_grad_...      takes
//   3x3, 3x3_stride2, 5x5, 5x5_stride2 C = K = 1, those kernels, the same stride in both directions, no dilation
//   groups                             C = K = 1, 2 or 4 (float64: 1 or 2), any kernel, stride and dilation
//   scalar                             any groups: the readable one. One channel at a time, at any address.
//   All but the last read sixteen bytes at a time (5x5: eight): arrays that start at multiples of that, and a number
//   of channels and pitches that are multiples of four (float64: two).
//
// Parallelisation: the x of a block's threads are neighbouring channels, their y workers that share the pixels of the
// block's split. Block (i, j, l) has the i-th channels, split j and, in the last two kernels, the l-th taps. A worker
// of the first four walks down strips of four output columns (conv2d_direct.cuh) with the sums of all taps in
// registers: it keeps the rows of dy that are still to meet an input row, and loads each input pixel of the strip once.
// A worker of the last two walks along pieces of an output row: scalar with one tap and input channel, groups with
// 8 / C taps of a row, which keep the pixels they read in registers where the stride equals the dilation.
//
// Determinism: pieces go to workers, and workers' sums are added, in an order that depends on nothing but the launch's
// sizes; no atomics.

#include "conv2d_direct.cuh"

constexpr int THREADS = 128;
constexpr int COLUMNS = 4;
constexpr int PIECE = 32;  // output columns

// Adds up the workers' sums, COUNT of them for each of V channels, and writes the first `count` out: number i goes to
// output[i * output_pitch + channel].
template <int COUNT, int V, typename Scalar>
__device__ void write_block_sums(const Lanes<Scalar, V> (&sums)[COUNT], int count, Scalar* output, int output_pitch,
                                 int channel, int channels) {
  __shared__ Lanes<Scalar, V> shared[COUNT][THREADS];
  const int thread = threadIdx.y * blockDim.x + threadIdx.x;
#pragma unroll
  for (int i = 0; i < COUNT; ++i) shared[i][thread] = sums[i];
  __syncthreads();
  const int lane = threadIdx.x;
  if (channel >= channels) return;
  for (int i = threadIdx.y; i < count; i += blockDim.y) {
    Lanes<Scalar, V> total = shared[i][lane];
    for (int worker = 1; worker < blockDim.y; ++worker) {
#pragma unroll
      for (int v = 0; v < V; ++v) total.lane[v] += shared[i][worker * blockDim.x + lane].lane[v];
    }
    *reinterpret_cast<Lanes<Scalar, V>*>(output + i * output_pitch + channel) = total;
  }
}

// The part of `count` pieces of work that belongs to this block's split.
__device__ inline int split_begin(int count, int split) { return int((long long)count * split / gridDim.y); }

// Depthwise, R x S taps, no dilation. Input row p STRIDE + i meets rows p - a of dy at taps r = i + a STRIDE.
template <int R, int S, int STRIDE, int V, typename Scalar>
__device__ void weight_grad_strip(const Scalar* x, const Scalar* dy, Scalar* partial, const Conv2dSizes& sizes,
                                  const StripSizes& strips) {
  constexpr int LIVE = (R + STRIDE - 1) / STRIDE;
  constexpr int WIDTH = (COLUMNS - 1) * STRIDE + S;
  using Vector = Lanes<Scalar, V>;
  const Images from = images_of_x(sizes), to = images_of_y(sizes);
  const int channels = sizes.groups;
  const int channel = (blockIdx.x * blockDim.x + threadIdx.x) * V;
  const int pieces = sizes.images * strips.row_chunks * strips.strips;
  Vector sums[R * S] = {};
  const int end = channel < channels ? split_begin(pieces, blockIdx.y + 1) : 0;
  for (int piece = split_begin(pieces, blockIdx.y) + threadIdx.y; piece < end; piece += blockDim.y) {
    const int column = piece % strips.strips * COLUMNS;
    const int first_row = piece / strips.strips % strips.row_chunks * strips.rows;
    const int image = piece / strips.strips / strips.row_chunks;
    const int end_row = min(first_row + strips.rows, to.height);
    const int left = column * STRIDE - sizes.pad_left;
    const Scalar* x_image = x + from.start(image) + channel;
    const Scalar* dy_image = dy + to.start(image) + channel;
    Vector grads[LIVE][COLUMNS] = {};
#pragma unroll 1
    for (int row = first_row; row < end_row + LIVE - 1; ++row) {
#pragma unroll
      for (int t = 0; t < COLUMNS; ++t) {
#pragma unroll
        for (int a = LIVE - 1; a > 0; --a) grads[a][t] = grads[a - 1][t];
        const bool inside = row < end_row && to.has_column(column + t);
        grads[0][t] = load_lanes_if<V>(inside, dy_image + to.offset(row, column + t));
      }
#pragma unroll
      for (int i = 0; i < STRIDE; ++i) {
        const int in_row = row * STRIDE - sizes.pad_top + i;
        if (!from.has_row(in_row)) continue;
        const Scalar* pixels = x_image + from.offset(in_row, left);
        Vector seen[WIDTH];
#pragma unroll
        for (int j = 0; j < WIDTH; ++j) seen[j] = load_lanes_if<V>(from.has_column(left + j), pixels + j * from.pitch);
#pragma unroll
        for (int a = 0; i + a * STRIDE < R; ++a) {
          // What is not of this piece must not be multiplied, not even by 0: infinity times 0 is no number.
          if (row - a < first_row || row - a >= end_row) continue;
#pragma unroll
          for (int s = 0; s < S; ++s) {
#pragma unroll
            for (int t = 0; t < COLUMNS; ++t) {
              if (t > 0 && !to.has_column(column + t)) continue;
              sums[(i + a * STRIDE) * S + s].multiply_add(seen[t * STRIDE + s], grads[a][t]);
            }
          }
        }
      }
    }
  }
  Scalar* output = partial + (long long)blockIdx.y * R * S * channels;
  write_block_sums(sums, R * S, output, channels, channel, channels);
}

// A stretch of output columns begin <= q < end of one row, and the row of x that tap row r reads there.
struct Piece {
  int begin, end, in_row, row, image;
  bool is_read;

  // Piece number `number` of all; row_pieces make up a row.
  __device__ Piece(int number, int row_pieces, const Conv2dSizes& sizes, int r)
      : begin(number % row_pieces * PIECE),
        end(min(begin + PIECE, sizes.out_width)),
        row(number / row_pieces % sizes.out_height),
        image(number / row_pieces / sizes.out_height) {
    in_row = row * sizes.stride_height - sizes.pad_top + r * sizes.dilation_height;
    is_read = unsigned(in_row) < unsigned(sizes.in_height);
  }
};

// Calls work(piece) for this worker's pieces of the output that read x at tap row r.
template <typename Work>
__device__ void for_each_piece(const Conv2dSizes& sizes, int r, const Work& work) {
  const int row_pieces = (sizes.out_width + PIECE - 1) / PIECE;
  const int pieces = sizes.images * sizes.out_height * row_pieces;
  const int end = split_begin(pieces, blockIdx.y + 1);
  for (int number = split_begin(pieces, blockIdx.y) + threadIdx.y; number < end; number += blockDim.y) {
    const Piece piece(number, row_pieces, sizes, r);
    if (piece.is_read) work(piece);
  }
}

// Groups of G channels in and G out, G a divisor of V: the lanes of a thread are V / G whole groups. TAPS taps of a row
// at a time. ROLLS says that the stride equals the dilation: each output reads what the one before read, but for one
// pixel, and seen[(tap + q) % TAPS] holds what the tap reads.
template <int G, bool ROLLS, int V, typename Scalar>
__device__ void weight_grad_groups(const Scalar* x, const Scalar* dy, Scalar* partial, const Conv2dSizes& sizes) {
  constexpr int TAPS = 8 / G;
  using Vector = Lanes<Scalar, V>;
  const Images from = images_of_x(sizes), to = images_of_y(sizes);
  const int channels = sizes.groups * G;
  const int channel = (blockIdx.x * blockDim.x + threadIdx.x) * V;
  const int row_parts = (sizes.kernel_width + TAPS - 1) / TAPS;
  for (int part = blockIdx.z; part < sizes.kernel_height * row_parts; part += gridDim.z) {
    const int r = part / row_parts, first_s = part % row_parts * TAPS;
    const int taps = min(TAPS, sizes.kernel_width - first_s);
    Vector sums[TAPS * G] = {};
    const auto multiply = [&](const Piece& piece) {
      const Scalar* row = x + channel + from.start(piece.image) + from.offset(piece.in_row, 0);
      const Scalar* grad = dy + channel + to.start(piece.image) + to.offset(piece.row, piece.begin);
      int column = piece.begin * sizes.stride_width - sizes.pad_left + first_s * sizes.dilation_width;
      const auto load = [&](int tap) {
        const int at = column + tap * sizes.dilation_width;
        return load_lanes_if<V>((ROLLS || tap < taps) && from.has_column(at), row + at * from.pitch);
      };
      Vector seen[TAPS];
      if (ROLLS) {
#pragma unroll
        for (int tap = 0; tap < TAPS - 1; ++tap) seen[tap] = load(tap);
      }
      for (int first = piece.begin; first < piece.end; first += ROLLS ? TAPS : 1) {
#pragma unroll
        for (int q = 0; q < (ROLLS ? TAPS : 1); ++q) {
          if (first + q >= piece.end) continue;
#pragma unroll
          for (int tap = ROLLS ? TAPS - 1 : 0; tap < TAPS; ++tap) seen[(tap + q) % TAPS] = load(tap);
          const Vector grads = load_lanes<V>(grad);
#pragma unroll
          for (int tap = 0; tap < TAPS; ++tap) {
#pragma unroll
            for (int c = 0; c < G; ++c) {
#pragma unroll
              for (int k = 0; k < V; ++k) {
                sums[tap * G + c].lane[k] += seen[(tap + q) % TAPS].lane[k / G * G + c] * grads.lane[k];
              }
            }
          }
          column += sizes.stride_width;
          grad += to.pitch;
        }
      }
    };
    if (channel < channels) for_each_piece(sizes, r, multiply);
    const int first_tap = r * sizes.kernel_width + first_s;
    Scalar* output = partial + ((long long)blockIdx.y * sizes.taps() + first_tap) * G * channels;
    write_block_sums(sums, taps * G, output, channels, channel, channels);
    __syncthreads();
  }
}

template <int G, int V, typename Scalar>
__device__ void weight_grad_groups(const Scalar* x, const Scalar* dy, Scalar* partial, const Conv2dSizes& sizes) {
  if (sizes.dilation_width == sizes.stride_width) {
    weight_grad_groups<G, true, V>(x, dy, partial, sizes);
  } else {
    weight_grad_groups<G, false, V>(x, dy, partial, sizes);
  }
}

template <typename Scalar>
__device__ void weight_grad_scalar(const Scalar* x, const Scalar* dy, Scalar* partial, const Conv2dSizes& sizes) {
  const Images from = images_of_x(sizes), to = images_of_y(sizes);
  const int channels = sizes.weight_pitch();
  const int channel = blockIdx.x * blockDim.x + threadIdx.x;
  const int rows = sizes.taps() * sizes.in_channels;
  for (int row = blockIdx.z; row < rows; row += gridDim.z) {
    const int c = row % sizes.in_channels;
    const int s = row / sizes.in_channels % sizes.kernel_width;
    const int r = row / sizes.in_channels / sizes.kernel_width;
    const int in_channel = channel / sizes.out_channels * sizes.in_channels + c;
    Lanes<Scalar, 1> sums[1] = {};
    const auto multiply = [&](const Piece& piece) {
      const Scalar* x_row = x + in_channel + from.start(piece.image) + from.offset(piece.in_row, 0);
      const Scalar* dy_row = dy + channel + to.start(piece.image) + to.offset(piece.row, 0);
#pragma unroll 2
      for (int q = piece.begin; q < piece.end; ++q) {
        const int at = q * sizes.stride_width - sizes.pad_left + s * sizes.dilation_width;
        if (from.has_column(at)) sums[0].lane[0] += x_row[at * from.pitch] * dy_row[q * to.pitch];
      }
    };
    if (channel < channels) for_each_piece(sizes, r, multiply);
    write_block_sums(sums, 1, partial + ((long long)blockIdx.y * rows + row) * channels, channels, channel, channels);
    __syncthreads();
  }
}

// dw[i] = sum over the splits of partial[split, i]. The x of a block's threads are neighbouring elements; its y are
// eight parts of the splits.
constexpr int PARTS = 8;
constexpr int ELEMENTS = 32;

template <typename Scalar>
__device__ void sum_splits(const Scalar* partial, Scalar* dw, int splits, int count) {
  __shared__ Scalar sums[PARTS][ELEMENTS];
  const int i = blockIdx.x * ELEMENTS + threadIdx.x;
  Scalar sum = 0;
  if (i < count) {
#pragma unroll 8
    for (int split = threadIdx.y; split < splits; split += PARTS) sum += partial[(long long)split * count + i];
  }
  sums[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || i >= count) return;
#pragma unroll
  for (int part = 1; part < PARTS; ++part) sum += sums[part][threadIdx.x];
  dw[i] = sum;
}

extern "C" __global__ void __launch_bounds__(128) conv2d_direct_weight_grad_3x3_float32(
    const float4* __restrict__ x, const float4* __restrict__ dy, float4* __restrict__ partial, CONV2D_SIZES,
    CONV2D_STRIPS) {
  const Conv2dSizes sizes = CONV2D_GATHER_SIZES;
  weight_grad_strip<3, 3, 1, 4>(scalars(x), scalars(dy), scalars(partial), sizes, CONV2D_GATHER_STRIPS);
}

extern "C" __global__ void __launch_bounds__(128) conv2d_direct_weight_grad_3x3_float64(
    const double2* __restrict__ x, const double2* __restrict__ dy, double2* __restrict__ partial, CONV2D_SIZES,
    CONV2D_STRIPS) {
  const Conv2dSizes sizes = CONV2D_GATHER_SIZES;
  weight_grad_strip<3, 3, 1, 2>(scalars(x), scalars(dy), scalars(partial), sizes, CONV2D_GATHER_STRIPS);
}

extern "C" __global__ void __launch_bounds__(128) conv2d_direct_weight_grad_3x3_stride2_float32(
    const float4* __restrict__ x, const float4* __restrict__ dy, float4* __restrict__ partial, CONV2D_SIZES,
    CONV2D_STRIPS) {
  const Conv2dSizes sizes = CONV2D_GATHER_SIZES;
  weight_grad_strip<3, 3, 2, 4>(scalars(x), scalars(dy), scalars(partial), sizes, CONV2D_GATHER_STRIPS);
}

extern "C" __global__ void __launch_bounds__(128) conv2d_direct_weight_grad_3x3_stride2_float64(
    const double2* __restrict__ x, const double2* __restrict__ dy, double2* __restrict__ partial, CONV2D_SIZES,
    CONV2D_STRIPS) {
  const Conv2dSizes sizes = CONV2D_GATHER_SIZES;
  weight_grad_strip<3, 3, 2, 2>(scalars(x), scalars(dy), scalars(partial), sizes, CONV2D_GATHER_STRIPS);
}

extern "C" __global__ void __launch_bounds__(128) conv2d_direct_weight_grad_5x5_float32(
    const float4* __restrict__ x, const float4* __restrict__ dy, float4* __restrict__ partial, CONV2D_SIZES,
    CONV2D_STRIPS) {
  const Conv2dSizes sizes = CONV2D_GATHER_SIZES;
  weight_grad_strip<5, 5, 1, 2>(scalars(x), scalars(dy), scalars(partial), sizes, CONV2D_GATHER_STRIPS);
}

extern "C" __global__ void __launch_bounds__(128) conv2d_direct_weight_grad_5x5_float64(
    const double2* __restrict__ x, const double2* __restrict__ dy, double2* __restrict__ partial, CONV2D_SIZES,
    CONV2D_STRIPS) {
  const Conv2dSizes sizes = CONV2D_GATHER_SIZES;
  weight_grad_strip<5, 5, 1, 1>(scalars(x), scalars(dy), scalars(partial), sizes, CONV2D_GATHER_STRIPS);
}

extern "C" __global__ void __launch_bounds__(128) conv2d_direct_weight_grad_5x5_stride2_float32(
    const float4* __restrict__ x, const float4* __restrict__ dy, float4* __restrict__ partial, CONV2D_SIZES,
    CONV2D_STRIPS) {
  const Conv2dSizes sizes = CONV2D_GATHER_SIZES;
  weight_grad_strip<5, 5, 2, 2>(scalars(x), scalars(dy), scalars(partial), sizes, CONV2D_GATHER_STRIPS);
}

extern "C" __global__ void __launch_bounds__(128) conv2d_direct_weight_grad_5x5_stride2_float64(
    const double2* __restrict__ x, const double2* __restrict__ dy, double2* __restrict__ partial, CONV2D_SIZES,
    CONV2D_STRIPS) {
  const Conv2dSizes sizes = CONV2D_GATHER_SIZES;
  weight_grad_strip<5, 5, 2, 1>(scalars(x), scalars(dy), scalars(partial), sizes, CONV2D_GATHER_STRIPS);
}

extern "C" __global__ void __launch_bounds__(128, 4) conv2d_direct_weight_grad_groups_float32(
    const float4* __restrict__ x, const float4* __restrict__ dy, float4* __restrict__ partial, CONV2D_SIZES) {
  const Conv2dSizes sizes = CONV2D_GATHER_SIZES;
  if (in_channels == 1) weight_grad_groups<1, 4>(scalars(x), scalars(dy), scalars(partial), sizes);
  if (in_channels == 2) weight_grad_groups<2, 4>(scalars(x), scalars(dy), scalars(partial), sizes);
  if (in_channels == 4) weight_grad_groups<4, 4>(scalars(x), scalars(dy), scalars(partial), sizes);
}

extern "C" __global__ void __launch_bounds__(128, 4) conv2d_direct_weight_grad_groups_float64(
    const double2* __restrict__ x, const double2* __restrict__ dy, double2* __restrict__ partial, CONV2D_SIZES) {
  const Conv2dSizes sizes = CONV2D_GATHER_SIZES;
  if (in_channels == 1) weight_grad_groups<1, 2>(scalars(x), scalars(dy), scalars(partial), sizes);
  if (in_channels == 2) weight_grad_groups<2, 2>(scalars(x), scalars(dy), scalars(partial), sizes);
}

extern "C" __global__ void __launch_bounds__(128, 8) conv2d_direct_weight_grad_scalar_float32(
    const float* __restrict__ x, const float* __restrict__ dy, float* __restrict__ partial, CONV2D_SIZES) {
  weight_grad_scalar(x, dy, partial, CONV2D_GATHER_SIZES);
}

extern "C" __global__ void __launch_bounds__(128, 8) conv2d_direct_weight_grad_scalar_float64(
    const double* __restrict__ x, const double* __restrict__ dy, double* __restrict__ partial, CONV2D_SIZES) {
  weight_grad_scalar(x, dy, partial, CONV2D_GATHER_SIZES);
}

extern "C" __global__ void __launch_bounds__(256) conv2d_direct_weight_grad_sum_float32(
    const float* __restrict__ partial, float* __restrict__ dw, int splits, int count) {
  sum_splits(partial, dw, splits, count);
}

extern "C" __global__ void __launch_bounds__(256) conv2d_direct_weight_grad_sum_float64(
    const double* __restrict__ partial, double* __restrict__ dw, int splits, int count) {
  sum_splits(partial, dw, splits, count);
}
