// small_float_types.h: what cuda_fp16.h and cuda_bf16.h have in common: numbers of two bytes, pairs of them, arithmetic.
//
// Every operation gives the exact result, rounded once, to nearest with ties to even: as a GPU does, apart from
// division, square root and the functions, which it may miss by a unit in the last place.

#pragma once

#include "intrinsics.h"
#include "keywords.h"
#include "small_floats.h"

#include <type_traits>

namespace cuda_on_cpu {

template <typename Format>
struct alignas(2) SmallFloat {
  uint16_t bits;

  SmallFloat() = default;
  template <typename Number, typename = std::enable_if_t<std::is_arithmetic_v<Number>>>
  SmallFloat(Number value) : bits(Format::encode(round_to_odd(static_cast<double>(value)))) {}
  SmallFloat(float value) : bits(Format::encode(value)) {}
  operator float() const { return Format::decode(bits); }

  static SmallFloat from_bits(uint16_t bits) {
    SmallFloat result;
    result.bits = bits;
    return result;
  }
};

template <typename Format>
struct alignas(4) SmallFloat2 {
  SmallFloat<Format> x, y;

  SmallFloat2() = default;
  SmallFloat2(SmallFloat<Format> x, SmallFloat<Format> y) : x(x), y(y) {}
};

// Parameters that are not deduced take what converts to the type.
template <typename T>
using Same = std::type_identity_t<T>;

}  // namespace cuda_on_cpu

#define CUDA_ON_CPU_ONE template <typename F> inline cuda_on_cpu::SmallFloat<F>
#define CUDA_ON_CPU_TWO template <typename F> inline cuda_on_cpu::SmallFloat2<F>
#define CUDA_ON_CPU_A cuda_on_cpu::SmallFloat<F> a
#define CUDA_ON_CPU_B cuda_on_cpu::Same<cuda_on_cpu::SmallFloat<F>> b
#define CUDA_ON_CPU_A2 cuda_on_cpu::SmallFloat2<F> a
#define CUDA_ON_CPU_B2 cuda_on_cpu::SmallFloat2<F> b

#define CUDA_ON_CPU_ARITHMETIC(name, symbol)                                                                       \
  CUDA_ON_CPU_ONE __h##name(CUDA_ON_CPU_A, CUDA_ON_CPU_B) { return double(float(a)) symbol double(float(b)); }     \
  CUDA_ON_CPU_ONE operator symbol(CUDA_ON_CPU_A, cuda_on_cpu::SmallFloat<F> b) { return __h##name(a, b); }         \
  CUDA_ON_CPU_ONE& operator symbol##=(cuda_on_cpu::SmallFloat<F>& a, CUDA_ON_CPU_B) { return a = __h##name(a, b); } \
  CUDA_ON_CPU_TWO CUDA_ON_CPU_PAIR_NAME(name)(CUDA_ON_CPU_A2, CUDA_ON_CPU_B2) {                                    \
    return {__h##name(a.x, b.x), __h##name(a.y, b.y)};                                                             \
  }                                                                                                                \
  CUDA_ON_CPU_TWO operator symbol(CUDA_ON_CPU_A2, CUDA_ON_CPU_B2) { return CUDA_ON_CPU_PAIR_NAME(name)(a, b); }
#define CUDA_ON_CPU_PAIR_NAME(name) CUDA_ON_CPU_PAIR_##name
#define CUDA_ON_CPU_PAIR_add __hadd2
#define CUDA_ON_CPU_PAIR_sub __hsub2
#define CUDA_ON_CPU_PAIR_mul __hmul2
#define CUDA_ON_CPU_PAIR_div __h2div
CUDA_ON_CPU_ARITHMETIC(add, +)
CUDA_ON_CPU_ARITHMETIC(sub, -)
CUDA_ON_CPU_ARITHMETIC(mul, *)
CUDA_ON_CPU_ARITHMETIC(div, /)
#undef CUDA_ON_CPU_ARITHMETIC
#undef CUDA_ON_CPU_PAIR_NAME
#undef CUDA_ON_CPU_PAIR_add
#undef CUDA_ON_CPU_PAIR_sub
#undef CUDA_ON_CPU_PAIR_mul
#undef CUDA_ON_CPU_PAIR_div

CUDA_ON_CPU_ONE __hfma(CUDA_ON_CPU_A, CUDA_ON_CPU_B, cuda_on_cpu::Same<cuda_on_cpu::SmallFloat<F>> c) {
  return cuda_on_cpu::fused_to_odd(a, b, c);
}
CUDA_ON_CPU_TWO __hfma2(CUDA_ON_CPU_A2, CUDA_ON_CPU_B2, cuda_on_cpu::SmallFloat2<F> c) {
  return {__hfma(a.x, b.x, c.x), __hfma(a.y, b.y, c.y)};
}
CUDA_ON_CPU_ONE __hneg(CUDA_ON_CPU_A) { return a.from_bits(a.bits ^ 0x8000u); }
CUDA_ON_CPU_ONE operator-(CUDA_ON_CPU_A) { return __hneg(a); }
CUDA_ON_CPU_TWO __hneg2(CUDA_ON_CPU_A2) { return {__hneg(a.x), __hneg(a.y)}; }
CUDA_ON_CPU_TWO operator-(CUDA_ON_CPU_A2) { return __hneg2(a); }
CUDA_ON_CPU_ONE __habs(CUDA_ON_CPU_A) { return a.from_bits(a.bits & 0x7FFFu); }
CUDA_ON_CPU_TWO __habs2(CUDA_ON_CPU_A2) { return {__habs(a.x), __habs(a.y)}; }
// Of a NaN and a number, the number.
CUDA_ON_CPU_ONE __hmax(CUDA_ON_CPU_A, CUDA_ON_CPU_B) {
  return isnan(float(a)) ? b : isnan(float(b)) || float(a) >= float(b) ? a : b;
}
CUDA_ON_CPU_ONE __hmin(CUDA_ON_CPU_A, CUDA_ON_CPU_B) {
  return isnan(float(a)) ? b : isnan(float(b)) || float(a) <= float(b) ? a : b;
}
CUDA_ON_CPU_TWO __hmax2(CUDA_ON_CPU_A2, CUDA_ON_CPU_B2) { return {__hmax(a.x, b.x), __hmax(a.y, b.y)}; }
CUDA_ON_CPU_TWO __hmin2(CUDA_ON_CPU_A2, CUDA_ON_CPU_B2) { return {__hmin(a.x, b.x), __hmin(a.y, b.y)}; }

#define CUDA_ON_CPU_COMPARE(name, symbol)                                        \
  template <typename F>                                                          \
  bool name(CUDA_ON_CPU_A, CUDA_ON_CPU_B) { return float(a) symbol float(b); }   \
  template <typename F>                                                          \
  bool operator symbol(CUDA_ON_CPU_A, cuda_on_cpu::SmallFloat<F> b) { return name(a, b); }
CUDA_ON_CPU_COMPARE(__heq, ==)
CUDA_ON_CPU_COMPARE(__hne, !=)
CUDA_ON_CPU_COMPARE(__hlt, <)
CUDA_ON_CPU_COMPARE(__hle, <=)
CUDA_ON_CPU_COMPARE(__hgt, >)
CUDA_ON_CPU_COMPARE(__hge, >=)
#undef CUDA_ON_CPU_COMPARE
template <typename F>
bool __hisnan(CUDA_ON_CPU_A) { return (a.bits & 0x7FFFu) > F::INFINITE; }
template <typename F>
int __hisinf(CUDA_ON_CPU_A) { return (a.bits & 0x7FFFu) != F::INFINITE ? 0 : a.bits >> 15 ? -1 : 1; }

CUDA_ON_CPU_ONE hsqrt(CUDA_ON_CPU_A) { return sqrt(double(float(a))); }
CUDA_ON_CPU_ONE hrsqrt(CUDA_ON_CPU_A) { return 1.0 / sqrt(double(float(a))); }
CUDA_ON_CPU_ONE hrcp(CUDA_ON_CPU_A) { return 1.0 / double(float(a)); }
CUDA_ON_CPU_ONE hexp(CUDA_ON_CPU_A) { return exp(double(float(a))); }
CUDA_ON_CPU_ONE hlog(CUDA_ON_CPU_A) { return log(double(float(a))); }
CUDA_ON_CPU_ONE htanh(CUDA_ON_CPU_A) { return tanh(double(float(a))); }

template <typename F>
float __low2float(CUDA_ON_CPU_A2) { return a.x; }
template <typename F>
float __high2float(CUDA_ON_CPU_A2) { return a.y; }
CUDA_ON_CPU_TWO __lowhigh2highlow(CUDA_ON_CPU_A2) { return {a.y, a.x}; }

#undef CUDA_ON_CPU_ONE
#undef CUDA_ON_CPU_TWO
#undef CUDA_ON_CPU_A
#undef CUDA_ON_CPU_B
#undef CUDA_ON_CPU_A2
#undef CUDA_ON_CPU_B2
