// conv2d_tile.cuh: a convolution's operands as the matrices of gemm_tile.cuh, read where they lie in the images.
//
// Both the forward pass and the gradient to the input gather pixels: each pixel of a grid sums, over taps and channels,
// source pixels times weights. Along one dimension, tap t of grid position i reads source position
// i * stride + offset + t * distance, with the weight of index first + t * step:
//
//   forward           stride sh, offset -top, distance dh; every tap of the kernel
//   input gradient    stride 1: for each phase a = h mod sh of the input's rows, with i = (h - a) / sh, those taps r for
//                     which a + top - r dh is a multiple of sh. No product with a zero is formed.
//
// k runs over taps, and within a tap over channels, so that neighbours along k are neighbours in NHWC memory.
#pragma once

#include "conv2d.cuh"
#include "gemm_tile.cuh"

// The taps along one dimension.
struct TapLine {
  int count, first, step, offset, distance;
};

inline __device__ TapLine forward_taps(int kernel, int pad, int dilation) { return {kernel, 0, 1, -pad, dilation}; }

inline __device__ TapLine input_grad_taps(int phase, int kernel, int stride, int pad, int dilation) {
  int first = 0;
  while (first < kernel && first < stride && (phase + pad - first * dilation) % stride != 0) ++first;
  if (first == kernel || first == stride) return {0, 0, 1, 0, 0};
  int step = 1;  // the first multiple of the dilation that the stride divides
  while (step * dilation % stride != 0) ++step;
  return {(kernel - first + step - 1) / step, first, step, (phase + pad - first * dilation) / stride,
          -(step * dilation / stride)};
}

// Where a thread is among taps and channels.
struct TapCursor {
  int row, column, channel;

  __device__ void move(int elements, int channels, int columns) {
    channel += elements;
    while (channel >= channels) {
      channel -= channels;
      if (++column == columns) {
        column = 0;
        ++row;
      }
    }
  }
};

struct PixelGrid {
  int count;  // pixels of all images
  int height, width, stride_height, stride_width;
};

template <typename Scalar>
struct PixelSource {
  const Scalar* pixels;  // of the first image, at the group's first channel
  int height, width, pitch, channels;
};

// Element (i, k): the channel of tap k, as pixel i of the grid sees it; 0 beyond the borders.
template <class Tile>
struct GatheredPixels {
  using Share = AlongDepth<Tile, Tile::rows>;
  using Scalar = typename Tile::Scalar;
  const PixelSource<Scalar> source;
  const TapLine down, across;
  TapCursor cursor;
  const Scalar* image[Share::passes];
  int top[Share::passes], left[Share::passes];  // what the first tap sees
  typename Share::Values stage[Share::passes];

  __device__ GatheredPixels(const PixelSource<Scalar>& source, const PixelGrid& grid, const TapLine& down,
                            const TapLine& across, int row)
      : source(source), down(down), across(across), cursor{0, 0, 0} {
    cursor.move(Share::first_k(), source.channels, across.count);
#pragma unroll
    for (int pass = 0; pass < Share::passes; ++pass) {
      const int pixel = row + Share::first() + pass * Share::step;
      const int line = pixel / grid.width;
      const int number = line / grid.height;
      const bool inside = pixel < grid.count;
      image[pass] = source.pixels + (inside ? (long long)number * source.height * source.width * source.pitch : 0);
      // Far enough outside for any tap.
      top[pass] = inside ? (line - number * grid.height) * grid.stride_height + down.offset : -(1 << 30);
      left[pass] = (pixel - line * grid.width) * grid.stride_width + across.offset;
    }
  }

  __device__ void load(int) {
    const int below = cursor.row * down.distance, beside = cursor.column * across.distance;
#pragma unroll
    for (int pass = 0; pass < Share::passes; ++pass) {
      const int y = top[pass] + below, x = left[pass] + beside;
      stage[pass] = zero_pack<Scalar, Tile::vector>();
      if (cursor.row < down.count && unsigned(y) < unsigned(source.height) && unsigned(x) < unsigned(source.width)) {
        stage[pass] =
            load_pack<Scalar, Tile::vector>(image[pass] + (y * source.width + x) * source.pitch + cursor.channel);
      }
    }
  }
  __device__ void advance() { cursor.move(Tile::depth, source.channels, across.count); }
  __device__ void store(Slab<Scalar, Tile::depth, Tile::rows>& slab) const { Share::store(stage, slab); }
};

// Element (k, j): the weight from output channel and tap k to input channel j. It goes with the gathered pixels of the
// output's gradient, whose cursor it follows.
template <class Tile>
struct TapWeights {
  using Share = AlongDepth<Tile, Tile::columns>;
  using Scalar = typename Tile::Scalar;
  const Scalar* weights;  // of the first tap, at the group's first output channel and the thread's first input channel
  const GatheredPixels<Tile>& pixels;
  int below, beside;  // from the weights of one tap to those of the next
  const int pitch, channels_left;
  typename Share::Values stage[Share::passes];

  __device__ TapWeights(const Scalar* source, const Conv2dSizes& sizes, const GatheredPixels<Tile>& pixels, int column)
      : pixels(pixels),
        pitch(sizes.weight_pitch()),
        channels_left(sizes.in_channels - column - Share::first()) {
    const TapLine &down = pixels.down, &across = pixels.across;
    const int tap = sizes.in_channels * pitch;
    weights = source + (down.first * sizes.kernel_width + across.first) * tap + (column + Share::first()) * pitch;
    below = down.step * sizes.kernel_width * tap;
    beside = across.step * tap;
  }

  __device__ void load(int) {
    const TapCursor& cursor = pixels.cursor;
    const Scalar* row = weights + cursor.row * below + cursor.column * beside + cursor.channel;
#pragma unroll
    for (int pass = 0; pass < Share::passes; ++pass) {
      stage[pass] = zero_pack<Scalar, Tile::vector>();
      if (cursor.row < pixels.down.count && pass * Share::step < channels_left) {
        stage[pass] = load_pack<Scalar, Tile::vector>(row + pass * Share::step * pitch);
      }
    }
  }
  __device__ void advance() {}
  __device__ void store(Slab<Scalar, Tile::depth, Tile::columns>& slab) const { Share::store(stage, slab); }
};

// Element (i, k): what tap and channel i see of the input, for output pixel first_k + k.
template <class Tile>
struct PatchColumns {
  using Share = AcrossDepth<Tile, Tile::rows>;
  using Scalar = typename Tile::Scalar;
  const Conv2dSizes& sizes;
  const Scalar* image[Share::passes];              // at the channel
  int line[Share::passes], column[Share::passes];  // of the output pixel
  int below, beside;                               // what the tap adds to its place
  typename Share::Values stage[Share::passes];

  // pixels: of the first image, at the group's first channel.
  __device__ PatchColumns(const Scalar* pixels, const Conv2dSizes& sizes, int row, int first_k) : sizes(sizes) {
    // Behind the last tap it is one below the kernel: what of the image that sees is harmless, since its sums are not
    // stored.
    const int i = row + Share::first();
    const int tap = i / sizes.in_channels, tap_row = tap / sizes.kernel_width;
    const int channel = i - tap * sizes.in_channels;
    below = tap_row * sizes.dilation_height - sizes.pad_top;
    beside = (tap - tap_row * sizes.kernel_width) * sizes.dilation_width - sizes.pad_left;
#pragma unroll
    for (int pass = 0; pass < Share::passes; ++pass) {
      const int pixel = first_k + Share::first_k() + pass * Share::step;
      const int lines = pixel / sizes.out_width, number = lines / sizes.out_height;
      image[pass] = pixels + (long long)number * sizes.in_height * sizes.in_width * sizes.in_pitch + channel;
      line[pass] = lines - number * sizes.out_height;
      column[pass] = pixel - lines * sizes.out_width;
    }
  }

  __device__ void load(int depth_left) {
#pragma unroll
    for (int pass = 0; pass < Share::passes; ++pass) {
      const int y = line[pass] * sizes.stride_height + below, x = column[pass] * sizes.stride_width + beside;
      stage[pass] = zero_pack<Scalar, Tile::vector>();
      if (Share::first_k() + pass * Share::step < depth_left && unsigned(y) < unsigned(sizes.in_height) &&
          unsigned(x) < unsigned(sizes.in_width)) {
        stage[pass] =
            load_pack<Scalar, Tile::vector>(image[pass] + (y * sizes.in_width + x) * sizes.in_pitch);
      }
    }
  }
  __device__ void advance() {
#pragma unroll
    for (int pass = 0; pass < Share::passes; ++pass) {
      column[pass] += Tile::depth;
      while (column[pass] >= sizes.out_width) {
        column[pass] -= sizes.out_width;
        if (++line[pass] == sizes.out_height) {
          line[pass] = 0;
          image[pass] += (long long)sizes.in_height * sizes.in_width * sizes.in_pitch;
        }
      }
    }
  }
  __device__ void store(Slab<Scalar, Tile::depth, Tile::rows>& slab) const { Share::store(stage, slab); }
};
