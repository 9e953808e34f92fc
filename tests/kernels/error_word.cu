// error_word.cu: a kernel that meets bad values, as those of losses and embeddings do.
#include "error_word.cuh"

// output[i] = table[index[i]] for i < count; where index[i] is not in 0..rows-1, output[i] stays what it is.
extern "C" __global__ void __launch_bounds__(256)
    look_up(float* __restrict__ output, const float* __restrict__ table, const int* __restrict__ index, int rows,
            int count, int* __restrict__ error_word) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= count) return;
  const int row = index[i];
  if (row < 0 || row >= rows) {
    report_error(error_word, ERROR_EMBEDDING);
    return;
  }
  output[i] = table[row];
}
