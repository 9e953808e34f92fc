// recurrent_product.cuh: a few rows times a slice of the recurrent weights that stays in a block's registers.
//
//     sum[i, j] = sum over k of  row[i, k] weight[k, j]        j < columns of the block
//
// The weights are loaded once and serve every step of a sequence; the rows change at each and lie in shared memory. Of
// the 64 K registers of a multiprocessor half hold weights: 256 threads with 128 words each, 128 KB, on every GPU since
// sm_75; that is more than shared memory holds on most of them, and a multiplication needs no load for its weight.
//
// Parallelisation. The 8 warps form a grid: warps_across of them lie side by side and have other columns; the others
// have other parts of the depth, and their partial sums meet in shared memory, where whoever needs a sum adds them in
// order. A warp has 8 columns and a depth of 512 words, or, with Tiles = 4, 32 columns and 128 words. A word is one
// value of k, or two neighbouring ones of a half type. The warps' parts of the depth alternate in pieces, so that they
// are equal where the depth is short of what the block could hold.
//
//   ExactProduct    float32. A thread has 8 columns and 16 values of k; for 4 rows at once it makes 32 sums, 128
//                   multiply-adds for each 4 loads of sixteen bytes. Lanes with the same columns then add up by
//                   halves: at each exchange a lane keeps one half of its sums and gives the other away, 31 exchanges
//                   for 32 sums instead of 160.
//   TensorProduct   mma.cuh: the rows are the left operand, 16 at once (or 8, repeated), the weights the right one,
//                   kept as fragments. Which k of the product is which k of the fragment is ours to choose, as long as
//                   both operands agree: lane t of four takes words 4 t to 4 t + 3 of sixteen, one load for two
//                   multiplications. Rows lie 16 words past a multiple of 32 apart: no bank conflicts.
//
// Determinism: one order of summation for given sizes, the same on every GPU but for what tensor cores do; no atomics.
#pragma once

#include "mma.cuh"
#include "pack.cuh"
#include "recurrent_cells.cuh"

constexpr int recurrent_threads = 256;
constexpr int recurrent_warps = recurrent_threads / 32;

// The place of a warp among the 8.
struct WarpGrid {
  int across, along;
  __device__ explicit WarpGrid(int warps_across) : across(warps_across), along(recurrent_warps / warps_across) {}
  __device__ int column() const { return threadIdx.x / 32 % across; }
  __device__ int part() const { return threadIdx.x / 32 / across; }
};

// Where a product leaves its sums: at[part of the depth, row, column].
struct PartialRows {
  float* at;
  int rows, columns, parts;

  __device__ float* row(int part, int i) const { return at + (part * rows + i) * columns; }
  __device__ float sum(int i, int column) const {
    float total = row(0, i)[column];
    for (int part = 1; part < parts; ++part) total += row(part, i)[column];
    return total;
  }
};

// Adds the sums of lanes that differ in the bits of `distance` and below. Of the first 2 `half` of its sums a lane
// gives one half away and keeps the other, in front: the upper one in the lanes that have the bit.
template <int distance, int half>
__device__ __forceinline__ void add_by_halves(float (&sum)[32], int lane) {
  const bool upper = (lane & distance) != 0;
#pragma unroll
  for (int i = 0; i < half; ++i) {
    const float given = upper ? sum[i] : sum[i + half];
    sum[i] = (upper ? sum[i + half] : sum[i]) + __shfl_xor_sync(0xFFFFFFFFu, given, distance);
  }
  if constexpr (distance > 1) add_by_halves<distance / 2, half / 2>(sum, lane);
}

// Where a column of the slice lies: its words, in whole sixteen bytes, zeros behind the end of the depth.
struct WeightColumn {
  const unsigned* first;
  int words;  // 0 where there is no such column
  __device__ __forceinline__ Pack<unsigned, 4> operator()(int word) const {
    return word < words ? load_pack<unsigned, 4>(first + word) : zero_pack<unsigned, 4>();
  }
};

template <int Tiles>
struct ExactProduct {
  using Storage = Float32;
  using Element = float;
  static constexpr int elements_a_word = 1;
  static constexpr int columns = 8 * Tiles;    // of a warp
  static constexpr int lanes = 32 / Tiles;     // that have the same columns
  static constexpr int piece_words = 4 * lanes;
  static constexpr int pieces = 4;
  static constexpr int rows = 4;

  float weight[pieces][8][4];

  static __device__ __forceinline__ float element(float value) { return value; }

  template <class Weights>
  __device__ __forceinline__ void load(const Weights& weights, const WarpGrid& warps) {
    const int lane = threadIdx.x % 32, column = warps.column() * columns + lane / lanes * 8;
#pragma unroll
    for (int c = 0; c < 8; ++c) {
      const WeightColumn words = weights(column + c);
#pragma unroll
      for (int piece = 0; piece < pieces; ++piece) {
        const int k = (piece * warps.along + warps.part()) * piece_words + lane % lanes * 4;
        const Pack<unsigned, 4> values = words(k);
#pragma unroll
        for (int j = 0; j < 4; ++j) weight[piece][c][j] = __uint_as_float(values.at[j]);
      }
    }
  }

  // `group` rows, a multiple of 4, that lie `pitch` words apart; the sums go to row `first` of the partial ones and on.
  __device__ __forceinline__ void multiply(const unsigned* tile, int pitch, int group, int words, const WarpGrid& warps,
                                           const PartialRows& partials, int first) const {
    const int lane = threadIdx.x % 32, lane_along = lane % lanes;
    const int column = warps.column() * columns + lane / lanes * 8;
#pragma unroll 1
    for (int row = 0; row < group; row += rows) {
      float sum[rows * 8];
#pragma unroll
      for (int i = 0; i < rows * 8; ++i) sum[i] = 0.0f;
#pragma unroll
      for (int piece = 0; piece < pieces; ++piece) {
        const int start = (piece * warps.along + warps.part()) * piece_words;
        if (start >= words) break;
        const float* values = reinterpret_cast<const float*>(tile) + row * pitch + start + lane_along * 4;
#pragma unroll
        for (int r = 0; r < rows; ++r) {
          const Pack<float, 4> value = load_pack<float, 4>(values + r * pitch);
#pragma unroll
          for (int c = 0; c < 8; ++c) {
#pragma unroll
            for (int j = 0; j < 4; ++j) sum[r * 8 + c] += weight[piece][c][j] * value.at[j];
          }
        }
      }
      add_by_halves<lanes / 2, rows * 4>(sum, lane_along);
      // What is left are the sums lane_along * Tiles and on.
#pragma unroll
      for (int i = 0; i < Tiles; ++i) {
        const int number = lane_along * Tiles + i;
        partials.row(warps.part(), first + row + number / 8)[column + number % 8] = sum[i];
      }
    }
  }
};

// How the tensor cores take a type.

struct FP16Format {
  using Storage = Float16;
  using Element = unsigned short;
  using A = PairFragmentA;
  using B = PairFragmentB;
  static constexpr int elements_a_word = 2;
  static __device__ __forceinline__ Element element(float value) { return Float16::store(value); }
  static __device__ __forceinline__ unsigned weight(unsigned word) { return word; }
  static __device__ __forceinline__ void multiply(Accumulator& acc, const A& a, const B& b) { mma_fp16(acc, a, b); }
};

#if __CUDA_ARCH__ >= 800

struct BF16Format {
  using Storage = BFloat16;
  using Element = unsigned short;
  using A = PairFragmentA;
  using B = PairFragmentB;
  static constexpr int elements_a_word = 2;
  static __device__ __forceinline__ Element element(float value) { return BFloat16::store(value); }
  static __device__ __forceinline__ unsigned weight(unsigned word) { return word; }
  static __device__ __forceinline__ void multiply(Accumulator& acc, const A& a, const B& b) { mma_bf16(acc, a, b); }
};

struct TF32Format {
  using Storage = Float32;
  using Element = float;
  using A = TF32FragmentA;
  using B = TF32FragmentB;
  static constexpr int elements_a_word = 1;
  static __device__ __forceinline__ Element element(float value) { return __uint_as_float(to_tf32(value)); }
  static __device__ __forceinline__ unsigned weight(unsigned word) { return to_tf32(__uint_as_float(word)); }
  static __device__ __forceinline__ void multiply(Accumulator& acc, const A& a, const B& b) { mma_tf32(acc, a, b); }
};

#endif

template <class Format>
struct TensorProduct {
  using Storage = typename Format::Storage;
  using Element = typename Format::Element;
  static constexpr int elements_a_word = Format::elements_a_word;
  static constexpr int columns = 8;
  static constexpr int piece_words = 16;
  static constexpr int pieces = 32;

  unsigned weight[pieces][4];

  static __device__ __forceinline__ Element element(float value) { return Format::element(value); }

  template <class Weights>
  __device__ __forceinline__ void load(const Weights& weights, const WarpGrid& warps) {
    const int lane = threadIdx.x % 32;
    const WeightColumn words = weights(warps.column() * columns + lane / 4);
#pragma unroll
    for (int piece = 0; piece < pieces; ++piece) {
      const Pack<unsigned, 4> values = words((piece * warps.along + warps.part()) * piece_words + lane % 4 * 4);
#pragma unroll
      for (int j = 0; j < 4; ++j) weight[piece][j] = Format::weight(values.at[j]);
    }
  }

  // `group` is 8 or 16.
  __device__ __forceinline__ void multiply(const unsigned* tile, int pitch, int group, int words, const WarpGrid& warps,
                                           const PartialRows& partials, int first) const {
    const int lane = threadIdx.x % 32;
    const unsigned* low_row = tile + lane / 4 * pitch + lane % 4 * 4;
    const unsigned* high_row = low_row + (group > 8 ? 8 : 0) * pitch;
    Accumulator acc[4];  // one after the other, so that no multiplication waits for the one before
#pragma unroll
    for (int chain = 0; chain < 4; ++chain) {
#pragma unroll
      for (int i = 0; i < 4; ++i) acc[chain].value[i] = 0.0f;
    }
#pragma unroll
    for (int piece = 0; piece < pieces; ++piece) {
      const int start = (piece * warps.along + warps.part()) * piece_words;
      if (start >= words) break;
      const Pack<unsigned, 4> low = load_pack<unsigned, 4>(low_row + start);
      const Pack<unsigned, 4> high = load_pack<unsigned, 4>(high_row + start);
#pragma unroll
      for (int part = 0; part < 2; ++part) {
        const typename Format::A a{{low.at[2 * part], high.at[2 * part], low.at[2 * part + 1], high.at[2 * part + 1]}};
        const typename Format::B b{{weight[piece][2 * part], weight[piece][2 * part + 1]}};
        Format::multiply(acc[piece % 2 * 2 + part], a, b);
      }
    }
    const int column = warps.column() * columns;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int row = Accumulator::row(lane, i);
      const float sum = (acc[0].value[i] + acc[1].value[i]) + (acc[2].value[i] + acc[3].value[i]);
      if (row < group) partials.row(warps.part(), first + row)[column + Accumulator::column(lane, i)] = sum;
    }
  }
};
