// small_floats.h: float16 and bfloat16 as bits, to and from float, rounding to nearest with ties to even.

#pragma once

#include <math.h>
#include <stdint.h>

#include <bit>

namespace cuda_on_cpu {

inline float half_to_float(uint16_t half) {
  const uint32_t sign = uint32_t(half & 0x8000u) << 16;
  const uint32_t rest = half & 0x7FFFu;
  if (rest >= 0x7C00u) return std::bit_cast<float>(sign | 0x7F800000u | rest << 13);
  if (rest < 0x0400u) {
    const float magnitude = static_cast<float>(rest) * 0x1p-24f;
    return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(magnitude));
  }
  return std::bit_cast<float>(sign | ((rest << 13) + (112u << 23)));
}

// As on a GPU, every NaN becomes 0x7FFF.
inline uint16_t float_to_half(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint16_t sign = static_cast<uint16_t>(bits >> 16 & 0x8000u);
  const uint32_t rest = bits & 0x7FFFFFFFu;
  if (rest > 0x7F800000u) return 0x7FFF;
  if (rest >= 0x477FF000u) return sign | 0x7C00u;  // from the middle between the largest number and the next one
  if (rest < 0x38800000u) {                        // a subnormal number: a multiple of 2^-24, as is 0.5's last bit
    const float shifted = std::bit_cast<float>(rest) + 0.5f;
    return sign | static_cast<uint16_t>(std::bit_cast<uint32_t>(shifted) - 0x3F000000u);
  }
  return sign | static_cast<uint16_t>((rest - (112u << 23) + 0x0FFFu + (rest >> 13 & 1u)) >> 13);
}

inline float bfloat_to_float(uint16_t bfloat) { return std::bit_cast<float>(uint32_t(bfloat) << 16); }

inline uint16_t float_to_bfloat(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return 0x7FFF;
  return static_cast<uint16_t>((bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16);
}

// The float next to a double, with an odd last bit where it is not equal: rounding that once more to fewer bits gives
// what rounding the double would have given.
inline float round_to_odd(double value) {
  float near = static_cast<float>(value);
  if (!(fabs(value) <= 0x1.fffffep127) || static_cast<double>(near) == value) return near;
  if (fabs(static_cast<double>(near)) > fabs(value)) near = nextafterf(near, 0.0f);
  return std::bit_cast<float>(std::bit_cast<uint32_t>(near) | 1u);
}

// x y + z of small floats, for which x y is exact in double; the sum with an odd last bit where it is not exact.
inline double fused_to_odd(float x, float y, float z) {
  const double product = static_cast<double>(x) * y, addend = z;
  double sum = product + addend;
  if (!isfinite(sum)) return sum;
  const double other = sum - product;
  const double error = (product - (sum - other)) + (addend - other);
  if (error == 0.0 || (std::bit_cast<uint64_t>(sum) & 1u) != 0) return sum;
  return nextafter(sum, error > 0.0 ? HUGE_VAL : -HUGE_VAL);
}

}  // namespace cuda_on_cpu
