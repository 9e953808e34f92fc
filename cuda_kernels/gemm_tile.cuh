// gemm_tile.cuh: one block's tile of a product of two matrices, which is what every dense kernel here comes down to.
//
//     sum[i, j] = sum over k of  left[i, k] right[k, j]        i < Tile::rows, j < Tile::columns
//
// The matrices need not exist: a loader says where element (i, k) lies, and a convolution's loader finds it in the image
// (implicit GEMM; Chetlur et al. 2014, "cuDNN: Efficient primitives for deep learning").
//
// Parallelisation. k is walked in slabs of Tile::depth. While a slab is multiplied out of shared memory, the next one
// is on its way from global memory into registers, and goes into the other half of shared memory afterwards: two
// buffers, one barrier a slab. A thread keeps thread_rows x thread_columns sums in registers, as pieces of 4 x 4 that
// lie 16 rows and 32 columns apart, so that a warp (4 x 8 threads) reads 16 neighbouring elements of the left slab and
// 32 of the right one: no bank conflicts. Slabs are stored k by k; 4 elements behind each k keep the transposing stores
// of a loader that reads along k off each other's banks, and from k = 8 on, so does exchanging halves of 16 (place()).
//
// Determinism: each sum is formed by one thread, in order of k.
#pragma once

#include "pack.cuh"

template <typename ScalarType, int Rows, int Columns, int Depth, int ThreadRows, int ThreadColumns, int Vector>
struct Tile {
  using Scalar = ScalarType;
  static constexpr int rows = Rows, columns = Columns, depth = Depth;
  static constexpr int thread_rows = ThreadRows, thread_columns = ThreadColumns;
  static constexpr int vector = Vector;  // elements that one load brings
  static constexpr int warps_down = Rows / (4 * ThreadRows);
  static constexpr int warps_across = Columns / (8 * ThreadColumns);
  static constexpr int threads = 32 * warps_down * warps_across;
  static_assert(warps_down * 4 * ThreadRows == Rows && warps_across * 8 * ThreadColumns == Columns, "whole warps");
  static_assert(ThreadRows % 4 == 0 && ThreadColumns % 4 == 0 && (Depth == 8 || Depth == 16), "pieces of 4 x 4");
};

// The tiles there are; gpunet/ops/gemm_tiles.py chooses among them. "Any" ones take arrays of any alignment.
using Tile128x128 = Tile<float, 128, 128, 8, 8, 8, 4>;
using Tile128x64 = Tile<float, 128, 64, 16, 8, 4, 4>;
using Tile64x64 = Tile<float, 64, 64, 16, 4, 4, 4>;
using Tile128x32 = Tile<float, 128, 32, 16, 8, 4, 4>;
using AnyTile64x64 = Tile<float, 64, 64, 16, 4, 4, 1>;
using AnyTile128x32 = Tile<float, 128, 32, 8, 8, 4, 1>;
using AnyTile64x64Float64 = Tile<double, 64, 64, 8, 4, 4, 1>;

// A slab of one operand: Extent elements for each k.
template <typename Scalar, int Depth, int Extent>
struct Slab {
  Scalar at[Depth][Extent + 4];

  // Where element i of row k lies.
  static __device__ int place(int k, int i) { return i ^ (k & 8); }
};

// How a block's threads share the loading of a slab whose neighbours in memory are neighbours along k.
template <class Tile, int Extent>
struct AlongDepth {
  static constexpr int vector = Tile::vector;
  static constexpr int chunks = Tile::depth / vector;
  static constexpr int step = Tile::threads / chunks;  // from one pass over the extent to the next
  static constexpr int passes = Extent / step;
  static_assert(passes * step == Extent, "every thread has work in every pass");
  using Scalar = typename Tile::Scalar;
  using Values = Pack<Scalar, vector>;

  static __device__ int first() { return threadIdx.x / chunks; }
  static __device__ int first_k() { return threadIdx.x % chunks * vector; }

  static __device__ void store(const Values (&stage)[passes], Slab<Scalar, Tile::depth, Extent>& slab) {
#pragma unroll
    for (int pass = 0; pass < passes; ++pass) {
#pragma unroll
      for (int v = 0; v < vector; ++v) {
        const int k = first_k() + v;
        slab.at[k][slab.place(k, first() + pass * step)] = stage[pass].at[v];
      }
    }
  }
};

// The same where neighbours in memory are neighbours along the rows or columns of the tile.
template <class Tile, int Extent>
struct AcrossDepth {
  static constexpr int vector = Tile::vector;
  static constexpr int chunks = Extent / vector;
  static constexpr int step = Tile::threads / chunks;
  static constexpr int passes = Tile::depth / step;
  static_assert(passes * step == Tile::depth, "every thread has work in every pass");
  using Scalar = typename Tile::Scalar;
  using Values = Pack<Scalar, vector>;

  static __device__ int first() { return threadIdx.x % chunks * vector; }
  static __device__ int first_k() { return threadIdx.x / chunks; }

  static __device__ void store(const Values (&stage)[passes], Slab<Scalar, Tile::depth, Extent>& slab) {
#pragma unroll
    for (int pass = 0; pass < passes; ++pass) {
      const int k = first_k() + pass * step;
      *reinterpret_cast<Values*>(&slab.at[k][slab.place(k, first())]) = stage[pass];
    }
  }
};

// A stored matrix whose element (i, k) is at source[i * pitch + k].
template <class Tile, int Extent>
struct DepthContiguousMatrix {
  using Share = AlongDepth<Tile, Extent>;
  using Scalar = typename Tile::Scalar;
  const Scalar* source;
  int pitch;
  int rows_left;  // how many rows of the matrix there are from the thread's first one on
  typename Share::Values stage[Share::passes];

  // From row `row` of `rows` and column first_k on. A first row behind the last one is read as the last one: the sums
  // that come of it are not stored, and there is nothing to be asked at every load.
  __device__ DepthContiguousMatrix(const Scalar* matrix, int pitch, int row, int rows, int first_k)
      : source(matrix + (long long)min(row + Share::first(), rows - 1) * pitch + first_k + Share::first_k()),
        pitch(pitch),
        rows_left(rows - row - Share::first()) {}

  // Of the slab's depth, depth_left is there.
  __device__ void load(int depth_left) {
#pragma unroll
    for (int pass = 0; pass < Share::passes; ++pass) {
      stage[pass] = zero_pack<Scalar, Tile::vector>();
      if (Share::first_k() < depth_left && (pass == 0 || pass * Share::step < rows_left)) {
        stage[pass] = load_pack<Scalar, Tile::vector>(source + (long long)(pass * Share::step) * pitch);
      }
    }
  }
  __device__ void advance() {
    source += Tile::depth;
  }
  __device__ void store(Slab<Scalar, Tile::depth, Extent>& slab) const { Share::store(stage, slab); }
};

// A stored matrix whose element (i, k) is at source[k * pitch + i].
template <class Tile, int Extent>
struct DepthStridedMatrix {
  using Share = AcrossDepth<Tile, Extent>;
  using Scalar = typename Tile::Scalar;
  const Scalar* source;
  int pitch;
  typename Share::Values stage[Share::passes];

  // From row `row` of `rows` and k first_k on; rows behind the last ones are read as those.
  __device__ DepthStridedMatrix(const Scalar* matrix, int pitch, int row, int rows, int first_k)
      : source(matrix + (long long)(first_k + Share::first_k()) * pitch + min(row + Share::first(), rows - Tile::vector)),
        pitch(pitch) {}

  __device__ void load(int depth_left) {
#pragma unroll
    for (int pass = 0; pass < Share::passes; ++pass) {
      stage[pass] = zero_pack<Scalar, Tile::vector>();
      if (Share::first_k() + pass * Share::step < depth_left) {
        stage[pass] = load_pack<Scalar, Tile::vector>(source + (long long)(pass * Share::step) * pitch);
      }
    }
  }
  __device__ void advance() {
    source += (long long)Tile::depth * pitch;
  }
  __device__ void store(Slab<Scalar, Tile::depth, Extent>& slab) const { Share::store(stage, slab); }
};

// The place of a thread in its block's tile.
template <class Tile>
struct TilePlace {
  // The first row and column of piece (i, j).
  static __device__ int row(int i) {
    return threadIdx.x / 32 % Tile::warps_down * 4 * Tile::thread_rows + threadIdx.x % 32 / 8 * 4 + i * 16;
  }
  static __device__ int column(int j) {
    return threadIdx.x / 32 / Tile::warps_down * 8 * Tile::thread_columns + threadIdx.x % 8 * 4 + j * 32;
  }
};

template <class Tile>
struct TileSums {
  using Scalar = typename Tile::Scalar;
  Scalar at[Tile::thread_rows][Tile::thread_columns];

  __device__ TileSums() {
#pragma unroll
    for (int i = 0; i < Tile::thread_rows; ++i) {
#pragma unroll
      for (int j = 0; j < Tile::thread_columns; ++j) at[i][j] = Scalar(0);
    }
  }

  __device__ void add_product(const Slab<Scalar, Tile::depth, Tile::rows>& left_slab,
                              const Slab<Scalar, Tile::depth, Tile::columns>& right_slab) {
#pragma unroll
    for (int k = 0; k < Tile::depth; ++k) {
      Scalar left[Tile::thread_rows], right[Tile::thread_columns];
#pragma unroll
      for (int piece = 0; piece < Tile::thread_rows / 4; ++piece) {
        read_piece(&left_slab.at[k][left_slab.place(k, TilePlace<Tile>::row(piece))], &left[piece * 4]);
      }
#pragma unroll
      for (int piece = 0; piece < Tile::thread_columns / 4; ++piece) {
        read_piece(&right_slab.at[k][right_slab.place(k, TilePlace<Tile>::column(piece))], &right[piece * 4]);
      }
#pragma unroll
      for (int i = 0; i < Tile::thread_rows; ++i) {
#pragma unroll
        for (int j = 0; j < Tile::thread_columns; ++j) at[i][j] += left[i] * right[j];
      }
    }
  }

  // Four neighbours, sixteen bytes at a time.
  static __device__ void read_piece(const Scalar* source, Scalar* target) {
    constexpr int count = 16 / sizeof(Scalar);
#pragma unroll
    for (int part = 0; part < 4; part += count) {
      const Pack<Scalar, count> pack = load_pack<Scalar, count>(source + part);
#pragma unroll
      for (int v = 0; v < count; ++v) target[part + v] = pack.at[v];
    }
  }

  // Calls write(row, column, four sums of neighbouring columns) for every piece of every row.
  template <class Write>
  __device__ void write_rows(const Write& write) const {
#pragma unroll
    for (int i = 0; i < Tile::thread_rows; ++i) {
      const int row = TilePlace<Tile>::row(i / 4) + i % 4;
#pragma unroll
      for (int piece = 0; piece < Tile::thread_columns / 4; ++piece) {
        write(row, TilePlace<Tile>::column(piece), &at[i][piece * 4]);
      }
    }
  }
};

// The tile of the product over `depth` values of k. All threads of the block call it, with the same depth.
template <class Tile, class Left, class Right>
__device__ void accumulate(TileSums<Tile>& sums, Left& left, Right& right, int depth) {
  using Scalar = typename Tile::Scalar;
  __shared__ __align__(16) Slab<Scalar, Tile::depth, Tile::rows> left_slabs[2];
  __shared__ __align__(16) Slab<Scalar, Tile::depth, Tile::columns> right_slabs[2];
  if (depth <= 0) return;
  left.load(depth);
  right.load(depth);
  left.store(left_slabs[0]);
  right.store(right_slabs[0]);
  __syncthreads();
  int half = 0;
#pragma unroll 1
  for (int depth_left = depth - Tile::depth; depth_left > 0; depth_left -= Tile::depth) {
    left.advance();
    left.load(depth_left);
    right.advance();
    right.load(depth_left);
    sums.add_product(left_slabs[half], right_slabs[half]);
    half ^= 1;
    // Nobody has read this half since the last barrier.
    left.store(left_slabs[half]);
    right.store(right_slabs[half]);
    __syncthreads();
  }
  sums.add_product(left_slabs[half], right_slabs[half]);
}

// Stores four sums at output[index ...], of which the first `count` are wanted, through an epilogue.
template <class Tile, class Rule>
__device__ void store_four(typename Tile::Scalar* output, long long index, const typename Tile::Scalar* sums,
                           int column, int count, const Rule& rule) {
  using Scalar = typename Tile::Scalar;
  if constexpr (Tile::vector == 4) {
    if (count <= 0) return;  // counts are multiples of four here
    Pack<Scalar, 4> pack;
#pragma unroll
    for (int v = 0; v < 4; ++v) pack.at[v] = rule(sums[v], column + v, index + v);
    *reinterpret_cast<Pack<Scalar, 4>*>(output + index) = pack;
  } else {
#pragma unroll
    for (int v = 0; v < 4; ++v) {
      if (v < count) output[index + v] = rule(sums[v], column + v, index + v);
    }
  }
}
