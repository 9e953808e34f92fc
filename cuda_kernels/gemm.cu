// gemm.cu: products of matrices, for dense layers, 1x1 convolutions and their gradients.
//
// Contract:
//
//     output[b, i, j] = relu(sum over k of left[b, i, k] right[b, k, j] + bias[b, j] + residual[b, i, j])
//
//   nn   left[b, i, k]  at left [b left_batch + i left_pitch + k],   right[b, k, j] at right[b right_batch + k right_pitch + j]
//   nt   left as in nn,                                              right[b, k, j] at right[b right_batch + j right_pitch + k]
//   tn   left[b, i, k]  at left [b left_batch + k left_pitch + i],   right as in nn
//   output[b, i, j]     at output[b output_batch + i output_pitch + j], residual likewise; what lies between is left alone
//   bias                [batch * columns]; bias and residual may be null
//   The sums are formed in the arrays' own precision.
//
// Parallelisation: a block computes one tile (gemm_tile.cuh), blockIdx = (tile of rows, tile of columns, batch and
// split). Where rows and columns are few and depth is long, each of `splits` blocks sums its own stretch of k into
// partial sums, split_stride apart, without the epilogue; gemm_sum_partials adds them in order and applies it.
// Kernels without "any" in their name move sixteen bytes at once: pitches, batches, rows, columns and depth where they
// are contiguous in memory must be multiples of four.
//
// Determinism: one order of summation for given sizes and splits; no atomics.

#include "epilogue.cuh"
#include "gemm_tile.cuh"

#define GEMM_SIZES                                                                                             \
  int batch, int rows, int columns, int depth, long long left_batch, int left_pitch, long long right_batch,     \
      int right_pitch, long long output_batch, int output_pitch, int splits, long long split_stride

#define GEMM_GATHER_SIZES                                                                                       \
  GemmSizes {                                                                                                   \
    batch, rows, columns, depth, left_batch, left_pitch, right_batch, right_pitch, output_batch, output_pitch,  \
        splits, split_stride                                                                                    \
  }

struct GemmSizes {
  int batch, rows, columns, depth;
  long long left_batch;
  int left_pitch;
  long long right_batch;
  int right_pitch;
  long long output_batch;
  int output_pitch, splits;
  long long split_stride;
};

// The equations: one thread an output, any strides.
template <typename Scalar>
__device__ void gemm_naive(Scalar* output, const Scalar* left, const Scalar* right, Epilogue<Scalar> epilogue,
                           const GemmSizes& sizes, bool left_transposed, bool right_transposed) {
  const long long left_row = left_transposed ? 1 : sizes.left_pitch, left_k = left_transposed ? sizes.left_pitch : 1;
  const long long right_k = right_transposed ? 1 : sizes.right_pitch;
  const long long right_column = right_transposed ? sizes.right_pitch : 1;
  const long long count = (long long)sizes.batch * sizes.rows * sizes.columns;
  const long long stride = (long long)gridDim.x * blockDim.x;
  for (long long number = (long long)blockIdx.x * blockDim.x + threadIdx.x; number < count; number += stride) {
    const int j = int(number % sizes.columns);
    const long long i = number / sizes.columns % sizes.rows, b = number / sizes.columns / sizes.rows;
    Scalar sum = 0;
    for (long long k = 0; k < sizes.depth; ++k) {
      sum += left[b * sizes.left_batch + i * left_row + k * left_k] *
             right[b * sizes.right_batch + k * right_k + j * right_column];
    }
    const long long index = b * sizes.output_batch + i * sizes.output_pitch + j;
    output[index] = epilogue(sum, int(b * sizes.columns + j), index);
  }
}

template <bool Condition, class Yes, class No>
struct Either {
  using Type = Yes;
};
template <class Yes, class No>
struct Either<false, Yes, No> {
  using Type = No;
};

template <class Tile, bool LeftTransposed, bool RightTransposed>
__device__ void gemm(typename Tile::Scalar* output, const typename Tile::Scalar* left,
                     const typename Tile::Scalar* right, Epilogue<typename Tile::Scalar> epilogue,
                     const GemmSizes& sizes) {
  using Left = typename Either<LeftTransposed, DepthStridedMatrix<Tile, Tile::rows>,
                               DepthContiguousMatrix<Tile, Tile::rows>>::Type;
  using Right = typename Either<RightTransposed, DepthContiguousMatrix<Tile, Tile::columns>,
                                DepthStridedMatrix<Tile, Tile::columns>>::Type;
  const int row = blockIdx.x * Tile::rows, column = blockIdx.y * Tile::columns;
  const int split = blockIdx.z % sizes.splits, b = blockIdx.z / sizes.splits;
  const int slabs = (sizes.depth + Tile::depth - 1) / Tile::depth;
  const int slabs_a_split = (slabs + sizes.splits - 1) / sizes.splits;
  const int first = min(split * slabs_a_split, slabs), last = min(first + slabs_a_split, slabs);
  const int first_k = first * Tile::depth, end_k = min(last * Tile::depth, sizes.depth);
  Left left_loader(left + b * sizes.left_batch, sizes.left_pitch, row, sizes.rows, first_k);
  Right right_loader(right + b * sizes.right_batch, sizes.right_pitch, column, sizes.columns, first_k);
  TileSums<Tile> sums;
  accumulate(sums, left_loader, right_loader, end_k - first_k);
  typename Tile::Scalar* target = output + split * sizes.split_stride;
  sums.write_rows([&](int i, int j, const typename Tile::Scalar* four) {
    if (row + i >= sizes.rows) return;
    const long long index = b * sizes.output_batch + (long long)(row + i) * sizes.output_pitch + column + j;
    store_four<Tile>(target, index, four, b * sizes.columns + column + j, sizes.columns - column - j, epilogue);
  });
}

// The partial sums of `splits` blocks, added in order.
template <typename Scalar>
__device__ void gemm_sum_partials(Scalar* output, const Scalar* partials, Epilogue<Scalar> epilogue,
                                  const GemmSizes& sizes) {
  const long long count = (long long)sizes.batch * sizes.rows * sizes.columns;
  const long long stride = (long long)gridDim.x * blockDim.x;
  for (long long number = (long long)blockIdx.x * blockDim.x + threadIdx.x; number < count; number += stride) {
    const int j = int(number % sizes.columns);
    const long long i = number / sizes.columns % sizes.rows, b = number / sizes.columns / sizes.rows;
    Scalar sum = 0;
    for (int split = 0; split < sizes.splits; ++split) sum += partials[split * sizes.split_stride + number];
    const long long index = b * sizes.output_batch + i * sizes.output_pitch + j;
    output[index] = epilogue(sum, int(b * sizes.columns + j), index);
  }
}

#define GEMM_VECTORS                                                                                        \
  float4 *__restrict__ output, const float4 *__restrict__ left, const float4 *__restrict__ right,           \
      const float *bias /* or null */, const float4 *residual /* or null */, bool relu
#define GEMM_FLOATS                                                                                         \
  float *__restrict__ output, const float *__restrict__ left, const float *__restrict__ right,              \
      const float *bias /* or null */, const float *residual /* or null */, bool relu
#define GEMM_DOUBLES                                                                                        \
  double *__restrict__ output, const double *__restrict__ left, const double *__restrict__ right,           \
      const double *bias /* or null */, const double *residual /* or null */, bool relu

// The parameters as the templates take them.
#define GEMM_ARGUMENTS(Scalar)                                                                              \
  reinterpret_cast<Scalar*>(output), reinterpret_cast<const Scalar*>(left),                                 \
      reinterpret_cast<const Scalar*>(right),                                                               \
      Epilogue<Scalar>{bias, reinterpret_cast<const Scalar*>(residual), relu}, GEMM_GATHER_SIZES

// The readable ones.

extern "C" __global__ void __launch_bounds__(256)
    gemm_naive_float32(GEMM_FLOATS, GEMM_SIZES, bool left_transposed, bool right_transposed) {
  gemm_naive<float>(GEMM_ARGUMENTS(float), left_transposed, right_transposed);
}

extern "C" __global__ void __launch_bounds__(256)
    gemm_naive_float64(GEMM_DOUBLES, GEMM_SIZES, bool left_transposed, bool right_transposed) {
  gemm_naive<double>(GEMM_ARGUMENTS(double), left_transposed, right_transposed);
}

// The fast ones.

extern "C" __global__ void __launch_bounds__(256, 2) gemm_nn_128x128_float32(GEMM_VECTORS, GEMM_SIZES) {
  gemm<Tile128x128, false, false>(GEMM_ARGUMENTS(float));
}

extern "C" __global__ void __launch_bounds__(256, 2) gemm_nn_128x64_float32(GEMM_VECTORS, GEMM_SIZES) {
  gemm<Tile128x64, false, false>(GEMM_ARGUMENTS(float));
}

extern "C" __global__ void __launch_bounds__(256, 3) gemm_nn_64x64_float32(GEMM_VECTORS, GEMM_SIZES) {
  gemm<Tile64x64, false, false>(GEMM_ARGUMENTS(float));
}

extern "C" __global__ void __launch_bounds__(128, 4) gemm_nn_128x32_float32(GEMM_VECTORS, GEMM_SIZES) {
  gemm<Tile128x32, false, false>(GEMM_ARGUMENTS(float));
}

extern "C" __global__ void __launch_bounds__(256, 2) gemm_nn_64x64_any_float32(GEMM_FLOATS, GEMM_SIZES) {
  gemm<AnyTile64x64, false, false>(GEMM_ARGUMENTS(float));
}

extern "C" __global__ void __launch_bounds__(128, 4) gemm_nn_128x32_any_float32(GEMM_FLOATS, GEMM_SIZES) {
  gemm<AnyTile128x32, false, false>(GEMM_ARGUMENTS(float));
}

extern "C" __global__ void __launch_bounds__(256, 2) gemm_nn_64x64_any_float64(GEMM_DOUBLES, GEMM_SIZES) {
  gemm<AnyTile64x64Float64, false, false>(GEMM_ARGUMENTS(double));
}

extern "C" __global__ void __launch_bounds__(256, 2) gemm_nt_128x128_float32(GEMM_VECTORS, GEMM_SIZES) {
  gemm<Tile128x128, false, true>(GEMM_ARGUMENTS(float));
}

extern "C" __global__ void __launch_bounds__(256, 2) gemm_nt_128x64_float32(GEMM_VECTORS, GEMM_SIZES) {
  gemm<Tile128x64, false, true>(GEMM_ARGUMENTS(float));
}

extern "C" __global__ void __launch_bounds__(256, 3) gemm_nt_64x64_float32(GEMM_VECTORS, GEMM_SIZES) {
  gemm<Tile64x64, false, true>(GEMM_ARGUMENTS(float));
}

extern "C" __global__ void __launch_bounds__(128, 4) gemm_nt_128x32_float32(GEMM_VECTORS, GEMM_SIZES) {
  gemm<Tile128x32, false, true>(GEMM_ARGUMENTS(float));
}

extern "C" __global__ void __launch_bounds__(256, 2) gemm_nt_64x64_any_float32(GEMM_FLOATS, GEMM_SIZES) {
  gemm<AnyTile64x64, false, true>(GEMM_ARGUMENTS(float));
}

extern "C" __global__ void __launch_bounds__(128, 4) gemm_nt_128x32_any_float32(GEMM_FLOATS, GEMM_SIZES) {
  gemm<AnyTile128x32, false, true>(GEMM_ARGUMENTS(float));
}

extern "C" __global__ void __launch_bounds__(256, 2) gemm_nt_64x64_any_float64(GEMM_DOUBLES, GEMM_SIZES) {
  gemm<AnyTile64x64Float64, false, true>(GEMM_ARGUMENTS(double));
}

extern "C" __global__ void __launch_bounds__(256, 2) gemm_tn_128x128_float32(GEMM_VECTORS, GEMM_SIZES) {
  gemm<Tile128x128, true, false>(GEMM_ARGUMENTS(float));
}

extern "C" __global__ void __launch_bounds__(256, 2) gemm_tn_128x64_float32(GEMM_VECTORS, GEMM_SIZES) {
  gemm<Tile128x64, true, false>(GEMM_ARGUMENTS(float));
}

extern "C" __global__ void __launch_bounds__(256, 3) gemm_tn_64x64_float32(GEMM_VECTORS, GEMM_SIZES) {
  gemm<Tile64x64, true, false>(GEMM_ARGUMENTS(float));
}

extern "C" __global__ void __launch_bounds__(128, 4) gemm_tn_128x32_float32(GEMM_VECTORS, GEMM_SIZES) {
  gemm<Tile128x32, true, false>(GEMM_ARGUMENTS(float));
}

extern "C" __global__ void __launch_bounds__(256, 2) gemm_tn_64x64_any_float32(GEMM_FLOATS, GEMM_SIZES) {
  gemm<AnyTile64x64, true, false>(GEMM_ARGUMENTS(float));
}

extern "C" __global__ void __launch_bounds__(128, 4) gemm_tn_128x32_any_float32(GEMM_FLOATS, GEMM_SIZES) {
  gemm<AnyTile128x32, true, false>(GEMM_ARGUMENTS(float));
}

extern "C" __global__ void __launch_bounds__(256, 2) gemm_tn_64x64_any_float64(GEMM_DOUBLES, GEMM_SIZES) {
  gemm<AnyTile64x64Float64, true, false>(GEMM_ARGUMENTS(double));
}

extern "C" __global__ void __launch_bounds__(256)
    gemm_sum_partials_float32(float* __restrict__ output, const float* __restrict__ partials,
                              const float* bias /* or null */, const float* residual /* or null */, bool relu,
                              GEMM_SIZES) {
  gemm_sum_partials(output, partials, Epilogue<float>{bias, residual, relu}, GEMM_GATHER_SIZES);
}

extern "C" __global__ void __launch_bounds__(256)
    gemm_sum_partials_float64(double* __restrict__ output, const double* __restrict__ partials,
                              const double* bias /* or null */, const double* residual /* or null */, bool relu,
                              GEMM_SIZES) {
  gemm_sum_partials(output, partials, Epilogue<double>{bias, residual, relu}, GEMM_GATHER_SIZES);
}
