// cuda_fp16.h: stands in for CUDA's header of this name when a kernel runs on a CPU.

#pragma once

#include "small_float_types.h"

namespace cuda_on_cpu {
struct HalfFormat {
  static constexpr uint16_t INFINITE = 0x7C00;
  static float decode(uint16_t bits) { return half_to_float(bits); }
  static uint16_t encode(float value) { return float_to_half(value); }
};
}  // namespace cuda_on_cpu

using __half = cuda_on_cpu::SmallFloat<cuda_on_cpu::HalfFormat>;
using __half2 = cuda_on_cpu::SmallFloat2<cuda_on_cpu::HalfFormat>;
using half = __half;
using half2 = __half2;

inline __half __float2half(float value) { return value; }
inline __half __float2half_rn(float value) { return value; }
inline __half __double2half(double value) { return value; }
inline __half __int2half_rn(int value) { return value; }
inline float __half2float(__half value) { return value; }
inline int __half2int_rn(__half value) { return __float2int_rn(value); }
inline int __half2int_rz(__half value) { return __float2int_rz(value); }
inline unsigned short __half_as_ushort(__half value) { return value.bits; }
inline short __half_as_short(__half value) { return static_cast<short>(value.bits); }
inline __half __ushort_as_half(unsigned short bits) { return __half::from_bits(bits); }
inline __half __short_as_half(short bits) { return __half::from_bits(static_cast<uint16_t>(bits)); }
inline __half2 __halves2half2(__half x, __half y) { return {x, y}; }
inline __half2 make_half2(__half x, __half y) { return {x, y}; }
inline __half2 __half2half2(__half value) { return {value, value}; }
inline __half2 __float2half2_rn(float value) { return {value, value}; }
inline __half2 __floats2half2_rn(float x, float y) { return {x, y}; }
inline __half2 __float22half2_rn(float2 value) { return {value.x, value.y}; }
inline float2 __half22float2(__half2 value) { return {value.x, value.y}; }
inline __half __low2half(__half2 value) { return value.x; }
inline __half __high2half(__half2 value) { return value.y; }
inline __half2 __low2half2(__half2 value) { return {value.x, value.x}; }
inline __half2 __high2half2(__half2 value) { return {value.y, value.y}; }
