// machinery.cu: small kernels that each lean on one part of CUDA, to try the CUDA-on-CPU layer with. They are compiled
// for GPUs as well, which shows that the layer is given real CUDA.

constexpr int BLOCK = 64;

// output[i] = linear number of the thread, in a grid and a block of three dimensions.
extern "C" __global__ void number_threads(int* output) {
  const int block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  const int thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  output[block * (blockDim.x * blockDim.y * blockDim.z) + thread] =
      block * (blockDim.x * blockDim.y * blockDim.z) + thread;
}

template <typename Scalar>
__device__ void reverse(Scalar* output, const Scalar* input) {
  __shared__ Scalar tile[2][BLOCK / 2];
  const int i = threadIdx.x;
  tile[i / (BLOCK / 2)][i % (BLOCK / 2)] = input[blockIdx.x * BLOCK + i];
  __syncthreads();
  const int j = BLOCK - 1 - i;
  output[blockIdx.x * BLOCK + i] = tile[j / (BLOCK / 2)][j % (BLOCK / 2)];
}

// Each block reverses its 64 elements through static shared memory.
extern "C" __global__ void __launch_bounds__(BLOCK) reverse_float32(float* output, const float* input) {
  reverse(output, input);
}
extern "C" __global__ void __launch_bounds__(BLOCK) reverse_float64(double* output, const double* input) {
  reverse(output, input);
}

// output[block] = sum of the block's elements, by a tree in dynamic shared memory; threads past the end have nothing.
extern "C" __global__ void sum_blocks(float* output, const float* input, int count) {
  extern __shared__ float partial[];
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  partial[threadIdx.x] = i < count ? input[i] : 0.0f;
  for (unsigned half = blockDim.x / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half) partial[threadIdx.x] += partial[threadIdx.x + half];
  }
  if (threadIdx.x == 0) output[blockIdx.x] = partial[0];
}

// Threads past the end return before the barrier that the others wait at.
extern "C" __global__ void shift_left(float* output, const float* input, int count) {
  extern __shared__ __align__(16) double staged[];
  const int i = threadIdx.x;
  if (i >= count) return;
  staged[i] = input[i];
  __syncthreads();
  output[i] = (float)staged[(i + 1) % count];
}

// output[0] = sum over the warp by __shfl_down, [1] = by __shfl_xor as seen by lane 7, [2 + lane] = prefix sum over
// segments of 8 by __shfl_up, [34 + lane] = what lane 5 of the segment of 16 holds.
extern "C" __global__ void shuffle(double* output, const double* input) {
  const unsigned all = 0xFFFFFFFFu;
  const int lane = threadIdx.x;
  double down = input[lane], butterfly = input[lane], prefix = input[lane];
  for (int delta = 16; delta > 0; delta /= 2) {
    down += __shfl_down_sync(all, down, delta);
    butterfly += __shfl_xor_sync(all, butterfly, delta);
  }
  for (int delta = 1; delta < 8; delta *= 2) {
    const double before = __shfl_up_sync(all, prefix, delta, 8);
    if (lane % 8 >= delta) prefix += before;
  }
  if (lane == 0) output[0] = down;
  if (lane == 7) output[1] = butterfly;
  output[2 + lane] = prefix;
  output[34 + lane] = __shfl_sync(all, input[lane], 5, 16);
}

// The halves of each warp shuffle and synchronise apart from each other, a different number of times.
extern "C" __global__ void halves(int* output) {
  const int lane = threadIdx.x % 32;
  int value = threadIdx.x;
  if (lane < 16) {
    value = __shfl_xor_sync(0x0000FFFFu, value, 1);
    __syncwarp(0x0000FFFFu);
    value = __shfl_xor_sync(0x0000FFFFu, value, 2);
  } else {
    value = __shfl_xor_sync(0xFFFF0000u, value, 8);
  }
  output[threadIdx.x] = value;
}

// Votes of a block of 48 threads, whose second warp is half empty; predicate: the thread's number is below limit.
extern "C" __global__ void vote(unsigned* output, int limit) {
  const int yes = (int)threadIdx.x < limit;
  unsigned* mine = output + 7 * threadIdx.x;
  mine[0] = __ballot_sync(0xFFFFFFFFu, yes);
  mine[1] = __any_sync(0xFFFFFFFFu, yes);
  mine[2] = __all_sync(0xFFFFFFFFu, yes);
  mine[3] = __syncthreads_count(yes);
  mine[4] = __syncthreads_or(yes);
  mine[5] = __syncthreads_and(yes);
  mine[6] = __popc(mine[0]);
}

// counts[v] = how often v is in input, by atomics in shared and then in global memory; also the largest and smallest
// value, and the largest float by compare-and-swap.
extern "C" __global__ void histogram(int* counts, int* extremes, float* largest, const int* input, int count) {
  __shared__ int local[16];
  if (threadIdx.x < 16) local[threadIdx.x] = 0;
  __syncthreads();
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += gridDim.x * blockDim.x) {
    atomicAdd(&local[input[i]], 1);
    atomicMin(&extremes[0], input[i]);
    atomicMax(&extremes[1], input[i]);
    const float value = 0.5f * input[i];
    int* bits = reinterpret_cast<int*>(largest);
    int seen = *bits;
    while (__int_as_float(seen) < value) {
      const int found = atomicCAS(bits, seen, __float_as_int(value));
      if (found == seen) break;
      seen = found;
    }
  }
  __syncthreads();
  if (threadIdx.x < 16) atomicAdd(&counts[threadIdx.x], local[threadIdx.x]);
}

// Arithmetic under CUDA's own names.
extern "C" __global__ void arithmetic(double* output, float x, float y, int n) {
  output[0] = rsqrtf(x);
  output[1] = __fmaf_rn(x, y, 1.0f);
  output[2] = min(x, y);
  output[3] = max(n, 7);
  output[4] = __clz(n);
  output[5] = __ffs(n);
  output[6] = __umulhi(0x80000000u, 6u);
  output[7] = (double)__umul64hi(1ull << 63, 6ull);
  output[8] = fabsf(-x) + sqrtf(y) + expf(0.0f);
  output[9] = __popcll(0xF0F0ull);
}

// Sixteen bytes at a time; count is in float4.
extern "C" __global__ void scale4(float4* __restrict__ output, const float4* __restrict__ input, float factor,
                                  unsigned long long count) {
  const unsigned long long i = (unsigned long long)blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= count) return;
  const float4 v = input[i];
  output[i] = make_float4(factor * v.x, factor * v.y, factor * v.z, factor * v.w);
}

// Every kind of scalar, as the launcher has to pass them.
extern "C" __global__ void scalars(double* output, bool flag, signed char a, unsigned char b, short c, unsigned short d,
                                   int e, unsigned f, long long g, unsigned long long h, float x, double y,
                                   const float* missing /* or null */) {
  const double values[] = {flag ? 1.0 : 0.0, (double)a, (double)b, (double)c, (double)d, (double)e, (double)f,
                           (double)(g >> 32), (double)(h >> 32), (double)x, y, missing == nullptr ? 1.0 : missing[0]};
  for (int i = 0; i < 12; ++i) output[i] = values[i];
}

// Cache hints leave the value alone; the lanes that are there; a lane's equals; reductions of integers.
extern "C" __global__ void warp_extras(unsigned* output, const float* input) {
  const int lane = threadIdx.x;
  const unsigned active = __activemask();
  const float value = __ldg(input + lane) + __ldcg(input + lane) + __ldcs(input + lane) + __ldca(input + lane);
  unsigned* mine = output + 4 * lane;
  __stcs(mine, __float_as_uint(value));
  __stcg(mine + 1, active);
#if __CUDA_ARCH__ >= 700
  mine[2] = __match_any_sync(active, lane % 3);
#endif
  mine[3] = __brev(lane);
}

#if __CUDA_ARCH__ >= 800
// [lane] = sum, min, max, of the signed values; and, or, xor of their bits.
extern "C" __global__ void /* needs sm_80 */ warp_reductions(int* output, const int* input) {
  const unsigned all = 0xFFFFFFFFu;
  const int value = input[threadIdx.x];
  int* mine = output + 6 * threadIdx.x;
  mine[0] = __reduce_add_sync(all, value);
  mine[1] = __reduce_min_sync(all, value);
  mine[2] = __reduce_max_sync(all, value);
  mine[3] = (int)__reduce_and_sync(all, (unsigned)value);
  mine[4] = (int)__reduce_or_sync(all, (unsigned)value);
  mine[5] = (int)__reduce_xor_sync(all, (unsigned)value);
}
#endif

// output [32][4]: what each lane reads with an offset and a width, by idx, up, down and xor.
extern "C" __global__ void shuffle_anywhere(int* output, int offset, int width) {
  const int lane = threadIdx.x;
  output[4 * lane] = __shfl_sync(0xFFFFFFFFu, lane, offset, width);
  output[4 * lane + 1] = __shfl_up_sync(0xFFFFFFFFu, lane, (unsigned)offset, width);
  output[4 * lane + 2] = __shfl_down_sync(0xFFFFFFFFu, lane, (unsigned)offset, width);
  output[4 * lane + 3] = __shfl_xor_sync(0xFFFFFFFFu, lane, offset, width);
}

// The lanes may wait for each other at several lines.
extern "C" __global__ void warp_barriers_in_branches(int* output) {
  __shared__ int values[32];
  values[threadIdx.x] = threadIdx.x;
  if (threadIdx.x < 16) {
    __syncwarp();
  } else {
    __syncwarp();
  }
  output[threadIdx.x] = values[31 - threadIdx.x];
}
