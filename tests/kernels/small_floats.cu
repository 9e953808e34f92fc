// small_floats.cu: CUDA's own two-byte types. Under NVRTC the headers need the toolkit's include folder.

#include <cuda_bf16.h>
#include <cuda_fp16.h>

extern "C" __global__ void half_to_float(float* output, const __half* input, int count) {
  for (int i = threadIdx.x; i < count; i += blockDim.x) output[i] = __half2float(input[i]);
}
extern "C" __global__ void bfloat_to_float(float* output, const __nv_bfloat16* input, int count) {
  for (int i = threadIdx.x; i < count; i += blockDim.x) output[i] = __bfloat162float(input[i]);
}

extern "C" __global__ void float_to_half(__half* output, const float* input, int count) {
  for (int i = threadIdx.x; i < count; i += blockDim.x) output[i] = __float2half(input[i]);
}
extern "C" __global__ void float_to_bfloat(__nv_bfloat16* output, const float* input, int count) {
  for (int i = threadIdx.x; i < count; i += blockDim.x) output[i] = __float2bfloat16(input[i]);
}
extern "C" __global__ void double_to_half(__half* output, const double* input, int count) {
  for (int i = threadIdx.x; i < count; i += blockDim.x) output[i] = __double2half(input[i]);
}
extern "C" __global__ void double_to_bfloat(__nv_bfloat16* output, const double* input, int count) {
  for (int i = threadIdx.x; i < count; i += blockDim.x) output[i] = __double2bfloat16(input[i]);
}

// output [6, count]: x + y, x - y, x y, x / y, x y + z by one rounding, the larger; by operators or functions.
template <typename T>
__device__ void arithmetic(T* output, const T* x, const T* y, const T* z, int count) {
  for (int i = threadIdx.x; i < count; i += blockDim.x) {
    output[i] = x[i] + y[i];
    output[count + i] = __hsub(x[i], y[i]);
    output[2 * count + i] = x[i] * y[i];
    output[3 * count + i] = x[i] / y[i];
    output[4 * count + i] = __hfma(x[i], y[i], z[i]);
    output[5 * count + i] = x[i] > y[i] ? x[i] : __hmax(x[i], y[i]);
  }
}
extern "C" __global__ void half_arithmetic(__half* output, const __half* x, const __half* y, const __half* z,
                                           int count) {
  arithmetic(output, x, y, z, count);
}

// Pairs through shared memory: output = -(x x + x), the pairs of a block in reversed order, the two of a pair swapped.
extern "C" __global__ void half_pairs(__half2* output, const __half2* x) {
  __shared__ __half2 tile[32];
  tile[threadIdx.x] = __hfma2(x[threadIdx.x], x[threadIdx.x], x[threadIdx.x]);
  __syncthreads();
  output[threadIdx.x] = __lowhigh2highlow(__hneg2(tile[31 - threadIdx.x]));
}

#if __CUDA_ARCH__ >= 800
extern "C" __global__ void /* needs sm_80 */ bfloat_arithmetic(__nv_bfloat16* output, const __nv_bfloat16* x,
                                                                const __nv_bfloat16* y, const __nv_bfloat16* z,
                                                                int count) {
  arithmetic(output, x, y, z, count);
}
extern "C" __global__ void /* needs sm_80 */ bfloat_pairs(__nv_bfloat162* output, const __nv_bfloat162* x) {
  __shared__ __nv_bfloat162 tile[32];
  tile[threadIdx.x] = __hfma2(x[threadIdx.x], x[threadIdx.x], x[threadIdx.x]);
  __syncthreads();
  const float2 pair = __bfloat1622float2(tile[31 - threadIdx.x]);
  output[threadIdx.x] = __floats2bfloat162_rn(-pair.y, -pair.x);
}
#endif
