// faults.cu: kernels that are wrong, one fault each. The tests expect the CUDA-on-CPU layer to see every one of them.

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
