// faults.cu: kernels that are wrong, one fault each. The tests expect the CUDA-on-CPU layer to see every one of them.

#include "async_copy.cuh"
#include "grid_barrier.cuh"
#include "mma.cuh"

constexpr int BLOCK = 64;

// A thread reads its neighbour's element without waiting for it.
extern "C" __global__ void missing_barrier(float* output, const float* input) {
  __shared__ float tile[BLOCK];
  tile[threadIdx.x] = input[threadIdx.x];
  output[threadIdx.x] = tile[threadIdx.x == 0 ? 0 : threadIdx.x - 1];
}

// The same between the lanes of a warp.
extern "C" __global__ void missing_warp_barrier(float* output, const float* input) {
  __shared__ float tile[32];
  tile[threadIdx.x] = input[threadIdx.x];
  output[threadIdx.x] = tile[(threadIdx.x + 1) % 32];
}

// Two blocks write to one place.
extern "C" __global__ void blocks_collide(float* output) { output[0] = (float)blockIdx.x; }

// `<=` where `<` is meant.
extern "C" __global__ void store_past_end(float* output, int count) {
  const int i = threadIdx.x;
  if (i <= count) output[i] = 1.0f;
}

extern "C" __global__ void store_before_start(float* output, int count) {
  const int i = threadIdx.x;
  if (i < count) output[i - 1] = 1.0f;
}

extern "C" __global__ void load_past_end(float* output, const float* input, int count) {
  const int i = threadIdx.x;
  if (i < count) output[i] = input[i + 1];
}

// The last element is left out.
extern "C" __global__ void leaves_one_out(float* output, int count) {
  const int i = threadIdx.x;
  if (i < count - 1) output[i] = 1.0f;
}

// Half of the shared array is never written.
extern "C" __global__ void reads_uninitialised(float* output) {
  __shared__ float tile[BLOCK];
  if (threadIdx.x % 2 == 0) tile[threadIdx.x] = 1.0f;
  __syncthreads();
  output[threadIdx.x] = tile[threadIdx.x];
}

extern "C" __global__ void overruns_shared(float* output, int count) {
  extern __shared__ float tile[];
  tile[threadIdx.x + 1] = (float)count;
  __syncthreads();
  output[threadIdx.x] = tile[threadIdx.x + 1];
}

// One element past a static array: for the bounds checker.
extern "C" __global__ void overruns_static_shared(float* output, int count) {
  __shared__ float tile[BLOCK];
  tile[threadIdx.x + count] = 1.0f;
  __syncthreads();
  output[threadIdx.x] = tile[threadIdx.x];
}

// Sixteen bytes at addresses that are multiples of four.
extern "C" __global__ void misaligned_load(float* output, const float* input) {
  const float4 value = *reinterpret_cast<const float4*>(input + threadIdx.x);
  output[threadIdx.x] = value.x;
}

extern "C" __global__ void misaligned_store(float* output) {
  *reinterpret_cast<float4*>(output + threadIdx.x) = make_float4(1.0f, 2.0f, 3.0f, 4.0f);
}

extern "C" __global__ void misaligned_shared_store(float* output) {
  __shared__ __align__(16) float tile[BLOCK + 4];
  *reinterpret_cast<float4*>(tile + threadIdx.x) = make_float4(1.0f, 2.0f, 3.0f, 4.0f);
  __syncthreads();
  output[threadIdx.x] = tile[threadIdx.x];
}

extern "C" __global__ void divergent_barriers(float* output) {
  if (threadIdx.x < 32) {
    __syncthreads();
  } else {
    __syncthreads();
  }
  output[threadIdx.x] = 0.0f;
}

// Half of the warp waits for lanes that wait for something else.
extern "C" __global__ void waits_for_ever(int* output) {
  int value = threadIdx.x;
  if (threadIdx.x < 16) {
    value = __shfl_sync(0xFFFFFFFFu, value, 0);
  } else {
    __syncthreads();
  }
  output[threadIdx.x] = value;
}

extern "C" __global__ void mask_without_itself(int* output) {
  output[threadIdx.x] = __shfl_sync(0x0000FFFFu, (int)threadIdx.x, 0);
}

// The value of a lane that takes no part.
extern "C" __global__ void reads_absent_lane(float* output) {
  const float value = (float)threadIdx.x;
  if (threadIdx.x < 16) output[threadIdx.x] = __shfl_sync(0x0000FFFFu, value, 20);
}

extern "C" __global__ void large_stack(float* output, int count) {
  volatile float local[20000];
  for (int i = 0; i < 20000; ++i) local[i] = (float)(i * count);
  output[threadIdx.x] = local[threadIdx.x];
}

extern "C" __global__ void traps(float* output) {
  if (threadIdx.x == 3) __trap();
  output[threadIdx.x] = 0.0f;
}

// A local variable that only some threads set.
extern "C" __global__ void reads_uninitialised_local(float* output, int limit) {
  float value;
  if ((int)threadIdx.x < limit) value = 1.0f;
  output[threadIdx.x] = value;
}

// The same in an array that does not fit into registers.
extern "C" __global__ void reads_uninitialised_array(float* output, const int* which) {
  float local[64];
  for (int i = 0; i < 32; ++i) local[which[i]] = 1.0f;
  output[threadIdx.x] = local[which[threadIdx.x]];
}

extern "C" __global__ void writes_to_a_constant(float* output, const float* input) {
  if (threadIdx.x == 3) const_cast<float*>(input)[5] += 1.0f;
  output[threadIdx.x] = 0.0f;
}

// Reads the tile before the copy has been waited for.
extern "C" __global__ void missing_copy_wait(float* output, const float* input) {
  __shared__ float tile[BLOCK];
  async_copy<4>(&tile[threadIdx.x], input + threadIdx.x);
  async_copy_commit();
  __syncthreads();
  output[threadIdx.x] = tile[threadIdx.x];
  async_copy_wait<0>();
}

// Waits for all groups but one where there is only one.
extern "C" __global__ void waits_for_too_few(float* output, const float* input) {
  __shared__ float tile[BLOCK];
  async_copy<4>(&tile[threadIdx.x], input + threadIdx.x);
  async_copy_commit();
  async_copy_wait<1>();
  __syncthreads();
  output[threadIdx.x] = tile[threadIdx.x];
  async_copy_wait<0>();
}

// Waits for its own copy, but not for those of the other threads.
extern "C" __global__ void missing_barrier_after_copy(float* output, const float* input) {
  __shared__ float tile[BLOCK];
  async_copy<4>(&tile[threadIdx.x], input + threadIdx.x);
  async_copy_commit();
  async_copy_wait<0>();
  output[threadIdx.x] = tile[BLOCK - 1 - threadIdx.x];
}

// The next copy goes into the buffer while others still read what was there.
extern "C" __global__ void copies_into_a_buffer_in_use(float* output, const float* input) {
  __shared__ float tile[BLOCK];
  for (int step = 0; step < 2; ++step) {
    async_copy<4>(&tile[threadIdx.x], input + BLOCK * step + threadIdx.x);
    async_copy_commit();
    async_copy_wait<0>();
    __syncthreads();
    output[BLOCK * step + threadIdx.x] = tile[BLOCK - 1 - threadIdx.x];
  }
}

extern "C" __global__ void copy_never_waited_for(float* output, const float* input) {
  __shared__ float tile[BLOCK];
  async_copy<4>(&tile[threadIdx.x], input + threadIdx.x);
  output[threadIdx.x] = 0.0f;
}

extern "C" __global__ void overwrites_a_copy(float* output, const float* input) {
  __shared__ float tile[BLOCK];
  async_copy<4>(&tile[threadIdx.x], input + threadIdx.x);
  tile[threadIdx.x] = 1.0f;
  async_copy_wait_all();
  output[threadIdx.x] = tile[threadIdx.x];
}

extern "C" __global__ void changes_a_copys_source(float* output, float* input) {
  __shared__ float tile[BLOCK];
  async_copy<4>(&tile[threadIdx.x], input + threadIdx.x);
  input[threadIdx.x] = 1.0f;
  async_copy_wait_all();
  output[threadIdx.x] = tile[threadIdx.x];
}

// Sixteen bytes from an address that is a multiple of four.
extern "C" __global__ void misaligned_copy(float* output, const float* input) {
  __shared__ __align__(16) float tile[BLOCK];
  if (threadIdx.x == 1) {
    async_copy<16>(&tile[0], input + threadIdx.x);
    async_copy_wait_all();
    output[0] = tile[0];
  }
}

extern "C" __global__ void copies_to_global_memory(float* output, const float* input) {
  async_copy<4>(&output[threadIdx.x], input + threadIdx.x);
  async_copy_wait_all();
}

// Takes the column of b for its row and the other way round.
extern "C" __global__ void wrong_fragment_index(float* c, const float* a, const float* b) {
  const int lane = threadIdx.x;
  Accumulator acc = {};
  PairFragmentA fragment_a;
  PairFragmentB fragment_b;
  for (int i = 0; i < 4; ++i) {
    const float* at = a + PairFragmentA::row(lane, i) * 16 + PairFragmentA::k(lane, i);
    fragment_a.word[i] = pack_fp16(at[0], at[1]);
  }
  for (int i = 0; i < 2; ++i) {
    const float* at = b + PairFragmentB::column(lane, i) * 8 + PairFragmentB::k(lane, i) % 8;
    fragment_b.word[i] = pack_fp16(at[0], at[8]);
  }
  mma_fp16(acc, fragment_a, fragment_b);
  for (int i = 0; i < 4; ++i) c[Accumulator::row(lane, i) * 8 + Accumulator::column(lane, i)] = acc.value[i];
}

// Lanes past the end return before the multiplication that needs all of them.
extern "C" __global__ void mma_without_all_lanes(float* output, int count) {
  if ((int)threadIdx.x >= count) return;
  Accumulator acc = {};
  mma_fp16_k8(acc, PairFragmentA8{{0, 0}}, PairFragmentB8{{0}});
  output[threadIdx.x] = acc.value[0];
}

// Each block reads what the next one writes, without waiting for it.
extern "C" __global__ void missing_grid_barrier(float* output, float* exchange, unsigned* counter) {
  exchange[blockIdx.x] = (float)blockIdx.x;
  output[blockIdx.x] = exchange[(blockIdx.x + 1) % gridDim.x];
  grid_barrier(counter);
}

// The last block returns without reaching the barrier.
extern "C" __global__ void block_skips_grid_barrier(float* output, unsigned* counter) {
  if (blockIdx.x < gridDim.x - 1) grid_barrier(counter);
  output[blockIdx.x] = 0.0f;
}

// Half of each block waits for the grid, the other half for the block.
extern "C" __global__ void grid_barrier_in_a_branch(float* output, unsigned* counter) {
  if (threadIdx.x < 32) {
    grid_barrier(counter);
  } else {
    __syncthreads();
  }
  output[blockIdx.x] = 0.0f;
}

// Waits for what no thread ever writes.
extern "C" __global__ void polls_for_ever(int* output) {
  while (*(volatile int*)output == 0) __nanosleep(100);
}

// Thread 3 stores where there is no memory, unless `where` is an array.
extern "C" __global__ void wild_pointer(float* output, float* where /* or null */, int distance) {
  output[threadIdx.x] = 1.0f;
  if (threadIdx.x == 3) where[distance] = 1.0f;
}

extern "C" __global__ void divides_by_zero(int* output, int divisor) {
  output[threadIdx.x] = threadIdx.x / (threadIdx.x == 3 ? divisor : 1);
}

__device__ __noinline__ int recurse(int depth) {
  volatile int frame[256];
  frame[depth % 256] = depth;
  return depth == 0 ? 0 : recurse(depth + 1) + frame[depth % 256];
}

extern "C" __global__ void recursion_without_end(int* output, int depth) {
  if (threadIdx.x == 3) output[threadIdx.x] = recurse(depth);
}

// One frame that is larger than the stack and what lies below it, of which little is used.
extern "C" __global__ void huge_frame(float* output, int index) {
  float local[1000000];
  local[index] = 1.0f;
  output[threadIdx.x] = local[index + (int)threadIdx.x];
}

extern "C" __global__ void barriers_without_end(int* output) {
  while (*(volatile int*)output == 0) __syncthreads();
}

// Waits for a thread that has no turn while it waits.
extern "C" __global__ void spins_for_ever(int* output) {
  if (threadIdx.x == 0) {
    while (atomicAdd(&output[0], 0) == 0) {
    }
  } else {
    output[0] = 1;
  }
}

// The lanes of a warp exchange values between two branches.
extern "C" __global__ void shuffles_in_branches(int* output) {
  int value = threadIdx.x;
  if (threadIdx.x < 16) {
    value = __shfl_sync(0xFFFFFFFFu, value, 20);
  } else {
    value = __shfl_sync(0xFFFFFFFFu, 2 * value, 4);
  }
  output[threadIdx.x] = value;
}

extern "C" __global__ void shuffles_with_a_width(int* output, int width) {
  output[threadIdx.x] = __shfl_down_sync(0xFFFFFFFFu, (int)threadIdx.x, 1, width);
}

extern "C" __global__ void asserts(int* output, int limit) {
  assert((int)threadIdx.x < limit);
  output[threadIdx.x] = 1;
}
