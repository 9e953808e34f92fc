// warp.h: barriers, fences, shuffles, votes and reductions.

#pragma once

#include "intrinsics.h"
#include "threads.h"

#include <bit>
#include <type_traits>

namespace cuda_on_cpu {

inline void combine_nothing(Lane* const*) {}

inline void combine_read(Lane* const lanes[WARP]) {
  for (int i = 0; i < WARP; ++i) {
    if (lanes[i] == nullptr) continue;
    const Lane* source = lanes[lanes[i]->argument];
    lanes[i]->result = source != nullptr ? source->value : ~uint64_t(0);
  }
}

inline void give_all(Lane* const lanes[WARP], uint64_t result) {
  for (int i = 0; i < WARP; ++i) {
    if (lanes[i] != nullptr) lanes[i]->result = result;
  }
}

inline void combine_ballot(Lane* const lanes[WARP]) {
  uint64_t ballot = 0;
  for (int i = 0; i < WARP; ++i) {
    if (lanes[i] != nullptr && lanes[i]->value != 0) ballot |= uint64_t(1) << i;
  }
  give_all(lanes, ballot);
}

inline void combine_all(Lane* const lanes[WARP]) {
  bool all = true;
  for (int i = 0; i < WARP; ++i) all = all && (lanes[i] == nullptr || lanes[i]->value != 0);
  give_all(lanes, all);
}

// For each lane, the lanes that brought the same value.
inline void combine_match(Lane* const lanes[WARP]) {
  for (int i = 0; i < WARP; ++i) {
    if (lanes[i] == nullptr) continue;
    lanes[i]->result = 0;
    for (int j = 0; j < WARP; ++j) {
      if (lanes[j] != nullptr && lanes[j]->value == lanes[i]->value) lanes[i]->result |= uint64_t(1) << j;
    }
  }
}

// The reduction of 32-bit values by an associative operation on T.
template <typename T, T (*operation)(T, T)>
void combine_reduce(Lane* const lanes[WARP]) {
  bool any = false;
  T sum{};
  for (int i = 0; i < WARP; ++i) {
    if (lanes[i] == nullptr) continue;
    const T value = static_cast<T>(lanes[i]->value);
    sum = any ? operation(sum, value) : value;
    any = true;
  }
  give_all(lanes, static_cast<uint32_t>(sum));
}

template <typename T>
static T read_lane(const char* operation, unsigned mask, T value, int source, const char* file, int line) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= sizeof(uint64_t), "a shuffle moves up to eight bytes");
  uint64_t bits = 0;
  memcpy(&bits, &value, sizeof(T));
  bits = wait_for_warp(operation, mask, combine_read, bits, source, file, line);
  memcpy(&value, &bits, sizeof(T));
  return value;
}

// The first lane of the caller's part of the warp.
static inline int first_lane(const char* operation, int width, const char* file, int line) {
  if (width < 1 || width > WARP || (width & (width - 1)) != 0) {
    fail_here("%s at %s:%d: the width is %d, not a power of two up to 32", operation, file, line, width);
  }
  return lane_number() & ~(width - 1);
}

template <typename T, T (*operation)(T, T)>
static T reduce(const char* name, unsigned mask, T value, const char* file, int line) {
  return static_cast<T>(wait_for_warp(name, mask, combine_reduce<T, operation>, static_cast<uint32_t>(value), 0, file,
                                      line));
}

}  // namespace cuda_on_cpu

inline void __syncthreads(CUDA_ON_CPU_PLACE) { cuda_on_cpu::wait_for_block("__syncthreads", 0, file, line); }
inline int __syncthreads_count(int predicate, CUDA_ON_CPU_PLACE) {
  cuda_on_cpu::wait_for_block("__syncthreads_count", predicate, file, line);
  return cuda_on_cpu::barrier_count;
}
inline int __syncthreads_and(int predicate, CUDA_ON_CPU_PLACE) {
  cuda_on_cpu::wait_for_block("__syncthreads_and", predicate, file, line);
  return cuda_on_cpu::barrier_count == cuda_on_cpu::barrier_threads;
}
inline int __syncthreads_or(int predicate, CUDA_ON_CPU_PLACE) {
  cuda_on_cpu::wait_for_block("__syncthreads_or", predicate, file, line);
  return cuda_on_cpu::barrier_count != 0;
}
inline void __syncwarp(unsigned mask = 0xFFFFFFFFu, CUDA_ON_CPU_PLACE) {
  cuda_on_cpu::wait_for_warp("__syncwarp", mask, cuda_on_cpu::combine_nothing, 0, 0, file, line);
}
inline void __threadfence() { cuda_on_cpu::compiler_fence(); }
inline void __threadfence_block() { cuda_on_cpu::compiler_fence(); }
inline void __threadfence_system() { cuda_on_cpu::compiler_fence(); }
inline void __nanosleep(unsigned, CUDA_ON_CPU_PLACE) { cuda_on_cpu::sleep(file, line); }

// The lane to read, as the PTX ISA manual has it for shfl.sync: of an offset or a lane only the lower five bits count, and
// a lane whose source lies outside its part of the warp gets its own value.
template <typename T>
T __shfl_sync(unsigned mask, T value, int source, int width = warpSize, CUDA_ON_CPU_PLACE) {
  const int first = cuda_on_cpu::first_lane("__shfl_sync", width, file, line);
  return cuda_on_cpu::read_lane("__shfl_sync", mask, value, first | (source & (width - 1)), file, line);
}
template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = warpSize, CUDA_ON_CPU_PLACE) {
  const int lane = cuda_on_cpu::lane_number(), first = cuda_on_cpu::first_lane("__shfl_up_sync", width, file, line);
  const int source = lane - static_cast<int>(delta % 32);
  return cuda_on_cpu::read_lane("__shfl_up_sync", mask, value, source < first ? lane : source, file, line);
}
template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = warpSize, CUDA_ON_CPU_PLACE) {
  const int lane = cuda_on_cpu::lane_number(), first = cuda_on_cpu::first_lane("__shfl_down_sync", width, file, line);
  const int source = lane + static_cast<int>(delta % 32);
  return cuda_on_cpu::read_lane("__shfl_down_sync", mask, value, source >= first + width ? lane : source, file, line);
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = warpSize, CUDA_ON_CPU_PLACE) {
  const int lane = cuda_on_cpu::lane_number(), first = cuda_on_cpu::first_lane("__shfl_xor_sync", width, file, line);
  const int source = lane ^ (lane_mask & 31);
  return cuda_on_cpu::read_lane("__shfl_xor_sync", mask, value, source >= first + width ? lane : source, file, line);
}

inline unsigned __ballot_sync(unsigned mask, int predicate, CUDA_ON_CPU_PLACE) {
  return static_cast<unsigned>(cuda_on_cpu::wait_for_warp("__ballot_sync", mask, cuda_on_cpu::combine_ballot,
                                                          predicate != 0, 0, file, line));
}
inline int __any_sync(unsigned mask, int predicate, CUDA_ON_CPU_PLACE) {
  return cuda_on_cpu::wait_for_warp("__any_sync", mask, cuda_on_cpu::combine_ballot, predicate != 0, 0, file,
                                    line) != 0;
}
inline int __all_sync(unsigned mask, int predicate, CUDA_ON_CPU_PLACE) {
  return cuda_on_cpu::wait_for_warp("__all_sync", mask, cuda_on_cpu::combine_all, predicate != 0, 0, file,
                                    line) != 0;
}
template <typename T>
unsigned __match_any_sync(unsigned mask, T value, CUDA_ON_CPU_PLACE) {
  static_assert(std::is_arithmetic_v<T> && sizeof(T) <= sizeof(uint64_t), "__match_any_sync compares numbers");
  uint64_t bits = 0;
  memcpy(&bits, &value, sizeof(T));
  return static_cast<unsigned>(
      cuda_on_cpu::wait_for_warp("__match_any_sync", mask, cuda_on_cpu::combine_match, bits, 0, file, line));
}

// The lanes that run together are a matter of the hardware; here they are those that have not returned.
inline unsigned __activemask() {
  const cuda_on_cpu::Thread* warp = cuda_on_cpu::current - cuda_on_cpu::lane_number();
  const int left = cuda_on_cpu::thread_count - warp->number;
  unsigned mask = 0;
  for (int lane = 0; lane < cuda_on_cpu::WARP && lane < left; ++lane) {
    if (warp[lane].state != cuda_on_cpu::State::done) mask |= 1u << lane;
  }
  return mask;
}

namespace cuda_on_cpu {
template <typename T> T add(T a, T b) { return static_cast<T>(static_cast<uint32_t>(a) + static_cast<uint32_t>(b)); }
template <typename T> T smaller(T a, T b) { return b < a ? b : a; }
template <typename T> T larger(T a, T b) { return a < b ? b : a; }
inline unsigned bits_and(unsigned a, unsigned b) { return a & b; }
inline unsigned bits_or(unsigned a, unsigned b) { return a | b; }
inline unsigned bits_xor(unsigned a, unsigned b) { return a ^ b; }
}  // namespace cuda_on_cpu

#define CUDA_ON_CPU_REDUCE(name, T, operation)                                                      \
  inline T name(unsigned mask, T value, CUDA_ON_CPU_PLACE) {                                        \
    return cuda_on_cpu::reduce<T, cuda_on_cpu::operation>(#name, mask, value, file, line);          \
  }
CUDA_ON_CPU_REDUCE(__reduce_add_sync, int, add<int>)
CUDA_ON_CPU_REDUCE(__reduce_add_sync, unsigned, add<unsigned>)
CUDA_ON_CPU_REDUCE(__reduce_min_sync, int, smaller<int>)
CUDA_ON_CPU_REDUCE(__reduce_min_sync, unsigned, smaller<unsigned>)
CUDA_ON_CPU_REDUCE(__reduce_max_sync, int, larger<int>)
CUDA_ON_CPU_REDUCE(__reduce_max_sync, unsigned, larger<unsigned>)
CUDA_ON_CPU_REDUCE(__reduce_and_sync, unsigned, bits_and)
CUDA_ON_CPU_REDUCE(__reduce_or_sync, unsigned, bits_or)
CUDA_ON_CPU_REDUCE(__reduce_xor_sync, unsigned, bits_xor)
#undef CUDA_ON_CPU_REDUCE

[[noreturn]] inline void __trap() { cuda_on_cpu::fail_here("__trap() was called"); }
