// conv2d_direct.cuh: what the direct convolution kernels share: conv2d_direct_forward.cu, conv2d_direct_input_grad.cu
// and conv2d_direct_weight_grad.cu.
//
// They are for groups of few channels, depthwise convolutions (groups of one channel) above all. There a matrix product
// has next to nothing to share: an output reads as many inputs as the kernel has taps, and what bounds it is memory.
// So nothing is gathered into tiles:
//
//   - A thread owns V neighbouring channels, sixteen bytes, of a strip of COLUMNS output columns, and neighbouring
//     threads the next channels: a warp reads 512 bytes at a time where there are as many channels.
//   - It walks down the strip. An input pixel is loaded once for all the outputs of the strip that read it, which are
//     COLUMNS x (kernel rows) running sums in registers; a row of sums that has seen all its taps is stored.
//   - The index of a thread is taken apart once, at its start. Within an image indices are int, images are 64 bits.
//
// What is not 3x3 or 5x5, stride 1 or 2, without dilation and depthwise goes to kernels that loop over the taps; those
// for groups keep a row of the strip's pixels in registers while the taps move over it.
#pragma once

#include "conv2d.cuh"
#include "epilogue.cuh"

// V neighbouring channels of a pixel, loaded and stored at once.
template <typename Scalar, int V>
struct alignas(V * sizeof(Scalar)) Lanes {
  Scalar lane[V];

  __device__ void multiply_add(const Lanes& a, const Lanes& b) {
#pragma unroll
    for (int i = 0; i < V; ++i) lane[i] += a.lane[i] * b.lane[i];
  }
};

template <int V, typename Scalar>
__device__ Lanes<Scalar, V> load_lanes(const Scalar* address) {
  return *reinterpret_cast<const Lanes<Scalar, V>*>(address);
}

template <int V, typename Scalar>
__device__ Lanes<Scalar, V> load_lanes_if(bool inside, const Scalar* address) {
  return inside ? load_lanes<V>(address) : Lanes<Scalar, V>{};
}

// The kernels are declared with vectors, which says how their arrays are aligned, and count in scalars.
__device__ inline const float* scalars(const float4* array) { return reinterpret_cast<const float*>(array); }
__device__ inline const double* scalars(const double2* array) { return reinterpret_cast<const double*>(array); }
__device__ inline float* scalars(float4* array) { return reinterpret_cast<float*>(array); }
__device__ inline double* scalars(double2* array) { return reinterpret_cast<double*>(array); }
__device__ inline const float* scalars(const float* array) { return array; }
__device__ inline const double* scalars(const double* array) { return array; }
__device__ inline float* scalars(float* array) { return array; }
__device__ inline double* scalars(double* array) { return array; }

// Epilogue, V channels from `channel` on at a time; index is that of the first in the output.
template <typename Scalar, int V>
__device__ void store_lanes(const Epilogue<Scalar>& epilogue, Lanes<Scalar, V> sum, int channel, long long index,
                            Scalar* output) {
  if (epilogue.bias != nullptr) {
    const Lanes<Scalar, V> bias = load_lanes<V>(epilogue.bias + channel);
#pragma unroll
    for (int i = 0; i < V; ++i) sum.lane[i] += bias.lane[i];
  }
  if (epilogue.residual != nullptr) {
    const Lanes<Scalar, V> residual = load_lanes<V>(epilogue.residual + index);
#pragma unroll
    for (int i = 0; i < V; ++i) sum.lane[i] += residual.lane[i];
  }
  if (epilogue.relu) {
#pragma unroll
    for (int i = 0; i < V; ++i) sum.lane[i] = sum.lane[i] < Scalar(0) ? Scalar(0) : sum.lane[i];
  }
  *reinterpret_cast<Lanes<Scalar, V>*>(output + index) = sum;
}

// The images one side of a convolution reads or writes.
struct Images {
  int height, width, pitch;

  __device__ long long start(int image) const { return (long long)image * height * width * pitch; }
  __device__ bool has_row(int row) const { return unsigned(row) < unsigned(height); }
  __device__ bool has_column(int column) const { return unsigned(column) < unsigned(width); }
  // Of a pixel within its image. It may lie outside, as long as nothing is read there.
  __device__ int offset(int row, int column) const { return (row * width + column) * pitch; }
};

__device__ inline Images images_of_x(const Conv2dSizes& sizes) {
  return {sizes.in_height, sizes.in_width, sizes.in_pitch};
}

__device__ inline Images images_of_y(const Conv2dSizes& sizes) {
  return {sizes.out_height, sizes.out_width, sizes.out_pitch};
}

// How the outputs are spread over threads: an image is cut into row_chunks of `rows` rows and each row into strips;
// blocks of grid row y have the images from y * slice_images on, so that a thread's number among them fits an int.
#define CONV2D_STRIPS int strips, int row_chunks, int rows, int slice_images
#define CONV2D_GATHER_STRIPS \
  StripSizes { strips, row_chunks, rows, slice_images }

struct StripSizes {
  int strips, row_chunks, rows, slice_images;
};

// The place of one thread: `channel` is its first.
struct Strip {
  int channel, strip, first_row, image;
  bool exists;
};

__device__ inline Strip find_strip(const StripSizes& sizes, int channels, int lanes, int images) {
  const unsigned vectors = channels / lanes;
  unsigned rest = blockIdx.x * blockDim.x + threadIdx.x;
  Strip strip;
  strip.channel = rest % vectors * lanes;
  rest /= vectors;
  strip.strip = rest % sizes.strips;
  rest /= sizes.strips;
  strip.first_row = rest % sizes.row_chunks * sizes.rows;
  rest /= sizes.row_chunks;
  strip.image = blockIdx.y * sizes.slice_images + rest;
  strip.exists = rest < unsigned(sizes.slice_images) && strip.image < images;
  return strip;
}

// Depthwise, R x S taps, no dilation: y[p, q] = sum over r, s of x[p STRIDE + r - top, q STRIDE + s - left] w[r, s],
// with the kernel turned by 180 degrees where FLIP is set: that is the gradient to the input at stride 1.
//
// Step j brings in the STRIDE input rows that end what output row j reads first: input row j STRIDE + i has tap
// r = i + a STRIDE of output row j - a. So LIVE rows of sums are in work, and each step finishes the oldest.
template <int R, int S, int STRIDE, int COLUMNS, bool FLIP, int V, typename Scalar>
__device__ void convolve_strip(const Scalar* source, const Scalar* w, const Epilogue<Scalar>& epilogue, Scalar* target,
                               const Images& from, const Images& to, int pad_top, int pad_left, int channels,
                               const Strip& place, int rows) {
  constexpr int LIVE = (R + STRIDE - 1) / STRIDE;
  constexpr int WIDTH = (COLUMNS - 1) * STRIDE + S;
  constexpr bool HOLD = R * S <= 9;  // a 5x5 kernel would not fit: its weights are read from the cache as they are used
  using Vector = Lanes<Scalar, V>;
  if (!place.exists) return;
  source += from.start(place.image) + place.channel;
  w += place.channel;
  const long long target_start = to.start(place.image) + place.channel;
  const int last_row = min(place.first_row + rows, to.height) - 1;
  const int column = place.strip * COLUMNS;
  const int left = column * STRIDE - pad_left;

  const auto weight = [&](int r, int s) {
    const int tap = FLIP ? (R - 1 - r) * S + S - 1 - s : r * S + s;
    return load_lanes<V>(w + tap * channels);
  };
  Vector held[HOLD ? R * S : 1];
  if (HOLD) {
#pragma unroll
    for (int tap = 0; tap < R * S; ++tap) held[HOLD ? tap : 0] = weight(tap / S, tap % S);
  }
  Vector sums[LIVE][COLUMNS] = {};
#pragma unroll 1
  for (int row = place.first_row; row < last_row + LIVE; ++row) {
#pragma unroll
    for (int i = 0; i < STRIDE; ++i) {
      // Behind the last output row only its own taps count.
      if (i + (LIVE - 1) * STRIDE >= R && row == last_row + LIVE - 1) continue;
      const int in_row = row * STRIDE - pad_top + i;
      if (!from.has_row(in_row)) continue;
      const Scalar* pixels = source + from.offset(in_row, left);
      Vector seen[WIDTH];
#pragma unroll
      for (int j = 0; j < WIDTH; ++j) seen[j] = load_lanes_if<V>(from.has_column(left + j), pixels + j * from.pitch);
#pragma unroll
      for (int a = 0; a < LIVE; ++a) {
        const int r = i + a * STRIDE;
        if (r >= R) continue;
#pragma unroll
        for (int s = 0; s < S; ++s) {
          const Vector tap = HOLD ? held[HOLD ? r * S + s : 0] : weight(r, s);
#pragma unroll
          for (int t = 0; t < COLUMNS; ++t) sums[a][t].multiply_add(seen[t * STRIDE + s], tap);
        }
      }
    }
    const int done = row - (LIVE - 1);
    if (done >= place.first_row) {
#pragma unroll
      for (int t = 0; t < COLUMNS; ++t) {
        if (!to.has_column(column + t)) continue;
        store_lanes(epilogue, sums[LIVE - 1][t], place.channel, target_start + to.offset(done, column + t), target);
      }
    }
#pragma unroll
    for (int t = 0; t < COLUMNS; ++t) {
#pragma unroll
      for (int a = LIVE - 1; a > 0; --a) sums[a][t] = sums[a - 1][t];
      sums[0][t] = {};
    }
  }
}

constexpr int WIDE = 8;

// One row of taps for WIDE outputs and the V / G groups of G channels that the lanes of a thread are.
//
// At tap number j, output t reads the pixel in column + t spacing + j shift of `row`, of `width` pixels. The weights of
// tap j are at w + j tap_step: G rows of `channels`. With GRADIENT set what is read are gradients, and the weights are
// transposed. ROLLS says that spacing equals shift: each tap reads what the one before read, but for one pixel, and
// seen[(t + j) % WIDE] holds what output t reads.
template <int G, bool GRADIENT, bool ROLLS, int V, typename Scalar>
__device__ void add_taps(Lanes<Scalar, V> (&sums)[WIDE], const Scalar* row, int width, int pitch, int column,
                         int spacing, int shift, const Scalar* w, int tap_step, int taps, int channels) {
  Lanes<Scalar, V> seen[WIDE];
  const auto load = [&](int at) { return load_lanes_if<V>(unsigned(at) < unsigned(width), row + at * pitch); };
  if (ROLLS) {
#pragma unroll
    for (int t = 0; t < WIDE - 1; ++t) seen[t] = load(column + t * spacing);
  }
  for (int first = 0; first < taps; first += ROLLS ? WIDE : 1) {
#pragma unroll
    for (int j = 0; j < (ROLLS ? WIDE : 1); ++j) {
      if (first + j >= taps) continue;
#pragma unroll
      for (int t = ROLLS ? WIDE - 1 : 0; t < WIDE; ++t) {
        seen[(t + j) % WIDE] = load(column + t * spacing + (first + j) * shift);
      }
      Lanes<Scalar, V> weights[G];
#pragma unroll
      for (int c = 0; c < G; ++c) weights[c] = load_lanes<V>(w + (first + j) * tap_step + c * channels);
#pragma unroll
      for (int t = 0; t < WIDE; ++t) {
        const Lanes<Scalar, V>& pixel = seen[(t + j) % WIDE];
#pragma unroll
        for (int k = 0; k < V; ++k) {
#pragma unroll
          for (int c = 0; c < G; ++c) {
            const int in = k / G * G + c;
            if (GRADIENT) sums[t].lane[in] += pixel.lane[k] * weights[c].lane[k];
            if (!GRADIENT) sums[t].lane[k] += pixel.lane[in] * weights[c].lane[k];
          }
        }
      }
    }
  }
}
