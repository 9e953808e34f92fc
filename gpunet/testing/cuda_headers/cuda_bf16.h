// cuda_bf16.h: stands in for CUDA's header of this name when a kernel runs on a CPU.

#pragma once

#include "small_float_types.h"

namespace cuda_on_cpu {
struct BfloatFormat {
  static constexpr uint16_t INFINITE = 0x7F80;
  static float decode(uint16_t bits) { return bfloat_to_float(bits); }
  static uint16_t encode(float value) { return float_to_bfloat(value); }
};
}  // namespace cuda_on_cpu

using __nv_bfloat16 = cuda_on_cpu::SmallFloat<cuda_on_cpu::BfloatFormat>;
using __nv_bfloat162 = cuda_on_cpu::SmallFloat2<cuda_on_cpu::BfloatFormat>;
using nv_bfloat16 = __nv_bfloat16;
using nv_bfloat162 = __nv_bfloat162;

inline __nv_bfloat16 __float2bfloat16(float value) { return value; }
inline __nv_bfloat16 __float2bfloat16_rn(float value) { return value; }
inline __nv_bfloat16 __double2bfloat16(double value) { return value; }
inline __nv_bfloat16 __int2bfloat16_rn(int value) { return value; }
inline float __bfloat162float(__nv_bfloat16 value) { return value; }
inline int __bfloat162int_rn(__nv_bfloat16 value) { return __float2int_rn(value); }
inline int __bfloat162int_rz(__nv_bfloat16 value) { return __float2int_rz(value); }
inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 value) { return value.bits; }
inline short __bfloat16_as_short(__nv_bfloat16 value) { return static_cast<short>(value.bits); }
inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short bits) { return __nv_bfloat16::from_bits(bits); }
inline __nv_bfloat16 __short_as_bfloat16(short bits) {
  return __nv_bfloat16::from_bits(static_cast<uint16_t>(bits));
}
inline __nv_bfloat162 __halves2bfloat162(__nv_bfloat16 x, __nv_bfloat16 y) { return {x, y}; }
inline __nv_bfloat162 make_bfloat162(__nv_bfloat16 x, __nv_bfloat16 y) { return {x, y}; }
inline __nv_bfloat162 __bfloat162bfloat162(__nv_bfloat16 value) { return {value, value}; }
inline __nv_bfloat162 __float2bfloat162_rn(float value) { return {value, value}; }
inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y) { return {x, y}; }
inline __nv_bfloat162 __float22bfloat162_rn(float2 value) { return {value.x, value.y}; }
inline float2 __bfloat1622float2(__nv_bfloat162 value) { return {value.x, value.y}; }
inline __nv_bfloat16 __low2bfloat16(__nv_bfloat162 value) { return value.x; }
inline __nv_bfloat16 __high2bfloat16(__nv_bfloat162 value) { return value.y; }
inline __nv_bfloat162 __low2bfloat162(__nv_bfloat162 value) { return {value.x, value.x}; }
inline __nv_bfloat162 __high2bfloat162(__nv_bfloat162 value) { return {value.y, value.y}; }
