// keywords.h: CUDA's keywords, vector types and built-in variables.

#pragma once

// thread_local implies static inside a function, and `extern thread_local` is allowed, as `extern __shared__` has to
// be. All of a library's thread_local storage is __shared__ memory: the layer's own state is in plain statics.
#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __shared__ thread_local
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __grid_constant__

// The processor stands in for a GPU of this compute capability: it has tensor cores and cp.async, but neither clusters
// nor the bulk copies of sm_90.
#define __CUDA_ARCH__ 800

// ---------------------------------------------------------------------------------------------------------------------
// Vector types, with CUDA's alignment.

#define CUDA_ON_CPU_VECTOR(scalar, name, align2, align4)                                             \
  struct name##1 { scalar x; };                                                                      \
  struct alignas(align2) name##2 { scalar x, y; };                                                   \
  struct name##3 { scalar x, y, z; };                                                                \
  struct alignas(align4) name##4 { scalar x, y, z, w; };                                             \
  inline name##1 make_##name##1(scalar x) { return {x}; }                                            \
  inline name##2 make_##name##2(scalar x, scalar y) { return {x, y}; }                               \
  inline name##3 make_##name##3(scalar x, scalar y, scalar z) { return {x, y, z}; }                  \
  inline name##4 make_##name##4(scalar x, scalar y, scalar z, scalar w) { return {x, y, z, w}; }
CUDA_ON_CPU_VECTOR(signed char, char, 2, 4)
CUDA_ON_CPU_VECTOR(unsigned char, uchar, 2, 4)
CUDA_ON_CPU_VECTOR(short, short, 4, 8)
CUDA_ON_CPU_VECTOR(unsigned short, ushort, 4, 8)
CUDA_ON_CPU_VECTOR(int, int, 8, 16)
CUDA_ON_CPU_VECTOR(unsigned int, uint, 8, 16)
CUDA_ON_CPU_VECTOR(long long, longlong, 16, 16)
CUDA_ON_CPU_VECTOR(unsigned long long, ulonglong, 16, 16)
CUDA_ON_CPU_VECTOR(float, float, 8, 16)
CUDA_ON_CPU_VECTOR(double, double, 16, 16)
#undef CUDA_ON_CPU_VECTOR

struct dim3 {
  unsigned int x, y, z;
  constexpr dim3(unsigned int x = 1, unsigned int y = 1, unsigned int z = 1) : x(x), y(y), z(z) {}
};

static uint3 threadIdx, blockIdx;
static dim3 blockDim, gridDim;
static constexpr int warpSize = 32;
