// value_errors.cu: setting and taking the bits of a device's error word (error_word.cuh) outside of other kernels.
//
// Contract:
//
//     report_where:      error_word |= bits, if bad[i] for any i < count; nothing is written otherwise
//     take_error_word:   taken = error_word, error_word = 0, as one step
//
//   bad         [count]  read
//   error_word  [1]      read and written
//   taken       [1]      written
//
// Both are atomic, so that neither loses a bit that a kernel on another stream sets meanwhile: with a read and a write
// of its own, what is set between the two would be gone.
//
// Parallelisation: report_where runs a grid-stride loop, so that any grid is right, and each thread reports once at
// most; take_error_word is for one thread. They are the naive kernels and the production ones: where all is well, and
// that is what has to be fast, report_where only reads.
//
// Determinism: an integer or does not depend on the order of the threads.
#include "error_word.cuh"

extern "C" __global__ void __launch_bounds__(256)
    report_where(const bool* __restrict__ bad, long long count, int bits, int* __restrict__ error_word) {
  const long long stride = (long long)gridDim.x * blockDim.x;
  for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += stride) {
    if (bad[i]) {
      report_error(error_word, bits);
      return;
    }
  }
}

extern "C" __global__ void take_error_word(int* __restrict__ error_word, int* __restrict__ taken) {
  if (blockIdx.x == 0 && threadIdx.x == 0) *taken = atomicExch(error_word, 0);
}
