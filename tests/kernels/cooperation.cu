// cooperation.cu: kernels with grid barriers and with asynchronous copies.

#include "async_copy.cuh"
#include "grid_barrier.cuh"

// Each block keeps its value in shared memory and in registers, and in every round adds what its left neighbour had.
// values [2, blocks]: what the blocks had after the rounds, in half rounds % 2. state [blocks, 2]: the value in shared
// memory and in a register of the last thread, at the end.
extern "C" __global__ void ring(int* values, int* state, unsigned* counter, int rounds) {
  __shared__ int shared_value;
  extern __shared__ int copies[];
  const int me = blockIdx.x, left = (blockIdx.x + gridDim.x - 1) % gridDim.x;
  int value = me + 1;
  copies[threadIdx.x] = value;
  if (threadIdx.x == 0) {
    shared_value = value;
    values[me] = value;
  }
  for (int round = 0; round < rounds; ++round) {
    grid_barrier(counter);
    const volatile int* from = values + round % 2 * gridDim.x;
    value += from[left];
    copies[threadIdx.x] += from[left];
    if (threadIdx.x == 0) {
      shared_value = value;
      values[(round + 1) % 2 * gridDim.x + me] = value;
    }
  }
  __syncthreads();
  if (threadIdx.x == blockDim.x - 1) {
    state[2 * me] = shared_value;
    state[2 * me + 1] = copies[threadIdx.x];
  }
}

// A block waits, by polling, until the one before it has written; threads of the block poll for thread 0.
extern "C" __global__ void chain(int* values) {
  volatile int* shared_values = values;
  if (threadIdx.x == 0) {
    while (blockIdx.x > 0 && shared_values[blockIdx.x - 1] == 0) __nanosleep(100);
    shared_values[blockIdx.x] = blockIdx.x + 1;
  } else {
    while (shared_values[blockIdx.x] == 0) __nanosleep(100);
  }
}

// output = input by copies of one size through two shared buffers, always one copy ahead; zero from `inside` on.
template <int bytes, typename Word>
__device__ void copy(Word* output, const Word* input, int count, int inside) {
  __shared__ __align__(16) Word buffers[2][64];
  const int thread = threadIdx.x;
  const int steps = count / 64;
  for (int step = 0; step <= steps; ++step) {
    if (step < steps) {
      const int i = 64 * step + thread;
      if (inside == count) {
        async_copy<bytes>(&buffers[step % 2][thread], input + i);
      } else {
        async_copy_or_zero<bytes>(&buffers[step % 2][thread], i < inside ? input + i : nullptr, i < inside);
      }
    }
    async_copy_commit();
    if (step == 0) continue;
    async_copy_wait<1>();
    __syncthreads();
    output[64 * (step - 1) + thread] = buffers[(step - 1) % 2][63 - thread];
    __syncthreads();
  }
}

extern "C" __global__ void __launch_bounds__(64) copy_4(unsigned* output, const unsigned* input, int count,
                                                        int inside) {
  copy<4>(output, input, count, inside);
}
extern "C" __global__ void __launch_bounds__(64) copy_8(uint2* output, const uint2* input, int count, int inside) {
  copy<8>(output, input, count, inside);
}
extern "C" __global__ void __launch_bounds__(64) copy_16(uint4* output, const uint4* input, int count, int inside) {
  copy<16>(output, input, count, inside);
}

// Three copies: after a wait for all groups but the last, the first has arrived; after a wait for everything, so have the
// last two, of which one was never closed.
extern "C" __global__ void groups(float* output, const float* input) {
  __shared__ float tile[3];
  async_copy<4>(&tile[0], input);
  async_copy_commit();
  async_copy<4>(&tile[1], input + 1);
  async_copy_commit();
  async_copy<4>(&tile[2], input + 2);
  async_copy_wait<1>();
  output[0] = tile[0];
  async_copy_wait_all();
  output[1] = tile[1];
  output[2] = tile[2];
}
