// column_sums.cu: the sums of a matrix's columns, which is what the gradient of a bias is.
//
// Contract:
//
//     output[s, j] = sum over the rows i of stretch s of source[i * pitch + j]        s < splits, j < columns
//
//   The rows are cut into `splits` stretches of equal length, the last ones shorter; with splits > 1 the sum over s is
//   what is wanted (gemm_sum_partials of gemm.cu). Every element of output is written.
//
// Parallelisation: a block has blockDim.x neighbouring columns and blockDim.y rows at once, so that neighbouring threads
// read neighbouring elements; blockIdx = (columns, stretch). Each thread adds every blockDim.y-th row, then the rows of
// threads are added in order. Bound by memory: every element is read once. The naive kernels take one output a thread.
//
// Determinism: one order of summation for given sizes, splits and block; no atomics.

template <typename Scalar>
__device__ void column_sums_naive(Scalar* output, const Scalar* source, long long rows, int columns, long long pitch,
                                  int splits) {
  const long long stretch = (rows + splits - 1) / splits;
  const long long count = (long long)splits * columns;
  const long long stride = (long long)gridDim.x * blockDim.x;
  for (long long number = (long long)blockIdx.x * blockDim.x + threadIdx.x; number < count; number += stride) {
    const long long first = number / columns * stretch, last = first + stretch < rows ? first + stretch : rows;
    Scalar sum = 0;
    for (long long i = first; i < last; ++i) sum += source[i * pitch + number % columns];
    output[number] = sum;
  }
}

template <typename Scalar>
__device__ void column_sums(Scalar* output, const Scalar* source, long long rows, int columns, long long pitch,
                            int splits) {
  __shared__ Scalar sums[256];
  const int column = blockIdx.x * blockDim.x + threadIdx.x;
  const long long stretch = (rows + splits - 1) / splits;
  const long long first = blockIdx.y * stretch, last = first + stretch < rows ? first + stretch : rows;
  Scalar sum = 0;
  if (column < columns) {
#pragma unroll 4
    for (long long i = first + threadIdx.y; i < last; i += blockDim.y) sum += source[i * pitch + column];
  }
  sums[threadIdx.y * blockDim.x + threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || column >= columns) return;
  for (int y = 1; y < blockDim.y; ++y) sum += sums[y * blockDim.x + threadIdx.x];
  output[blockIdx.y * (long long)columns + column] = sum;
}

// The readable ones.

extern "C" __global__ void __launch_bounds__(256)
    column_sums_naive_float32(float* __restrict__ output, const float* __restrict__ source, long long rows, int columns,
                              long long pitch, int splits) {
  column_sums_naive(output, source, rows, columns, pitch, splits);
}

extern "C" __global__ void __launch_bounds__(256)
    column_sums_naive_float64(double* __restrict__ output, const double* __restrict__ source, long long rows,
                              int columns, long long pitch, int splits) {
  column_sums_naive(output, source, rows, columns, pitch, splits);
}

// The fast ones.

extern "C" __global__ void __launch_bounds__(256)
    column_sums_float32(float* __restrict__ output, const float* __restrict__ source, long long rows, int columns,
                        long long pitch, int splits) {
  column_sums(output, source, rows, columns, pitch, splits);
}

extern "C" __global__ void __launch_bounds__(256)
    column_sums_float64(double* __restrict__ output, const double* __restrict__ source, long long rows, int columns,
                        long long pitch, int splits) {
  column_sums(output, source, rows, columns, pitch, splits);
}
