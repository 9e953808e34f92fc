// tensor_cores.h: mma.sync and ldmatrix, by publishing the fragments of a warp's lanes to each other.
//
// Operands are taken as the hardware takes them: TF32 is the upper 19 bits of a float32, the rest is not looked at; the
// products are exact. They are added to the accumulator one by one in float32, in order of k, rounding to nearest. A
// GPU adds several at a time after aligning and cutting them off, so its last bits differ.
//
// Fragments as in the PTX ISA manual, "Matrix Fragments for mma.m16n8k*": g = lane / 4, t = lane % 4.

#pragma once

#include "shared_memory.h"
#include "small_floats.h"
#include "threads.h"

#include <bit>

namespace cuda_on_cpu {

struct MmaOperands {
  float* accumulator;   // 16 x 8: (g, 2t), (g, 2t + 1), (g + 8, 2t), (g + 8, 2t + 1)
  const unsigned* a;
  const unsigned* b;
};

inline MmaOperands mma_operands(const Lane* lane) { return *reinterpret_cast<const MmaOperands*>(lane->value); }

// All 32 lanes have to take part.
inline bool have_all_lanes(Lane* const lanes[WARP]) {
  for (int i = 0; i < WARP; ++i) {
    if (lanes[i] != nullptr) continue;
    fail("block (%u, %u, %u), thread (%u, %u, %u): %s at %s:%d without lane %d of the warp, which is not there or has "
         "returned", block->index.x, block->index.y, block->index.z, current->index.x, current->index.y,
         current->index.z, current->operation, current->file, current->line, i);
    return false;
  }
  return true;
}

// What is written as a whole below need not be filled with the pattern of uninitialised variables first.
#define CUDA_ON_CPU_UNFILLED
#if defined(__has_attribute)
#if __has_attribute(uninitialized)
#undef CUDA_ON_CPU_UNFILLED
#define CUDA_ON_CPU_UNFILLED __attribute__((uninitialized))
#endif
#endif

using Row = float __attribute__((vector_size(32)));  // eight columns

// c += a b, where a is 16 x K and b is K x 8.
template <int K>
inline void multiply_accumulate(Lane* const lanes[WARP], const float (&a)[16][K], const Row (&b)[K]) {
  Row c[16] CUDA_ON_CPU_UNFILLED;
  for (int lane = 0; lane < WARP; ++lane) {
    const float* accumulator = mma_operands(lanes[lane]).accumulator;
    const int g = lane / 4, t = lane % 4;
    c[g][2 * t] = accumulator[0];
    c[g][2 * t + 1] = accumulator[1];
    c[g + 8][2 * t] = accumulator[2];
    c[g + 8][2 * t + 1] = accumulator[3];
  }
  for (int m = 0; m < 16; ++m) {
    Row sum = c[m];
    for (int k = 0; k < K; ++k) sum += a[m][k] * b[k];
    c[m] = sum;
  }
  for (int lane = 0; lane < WARP; ++lane) {
    float* accumulator = mma_operands(lanes[lane]).accumulator;
    const int g = lane / 4, t = lane % 4;
    accumulator[0] = c[g][2 * t];
    accumulator[1] = c[g][2 * t + 1];
    accumulator[2] = c[g + 8][2 * t];
    accumulator[3] = c[g + 8][2 * t + 1];
  }
}

inline float cut_to_tf32(unsigned word) { return std::bit_cast<float>(word & 0xFFFFE000u); }

// m16n8k8, TF32. a: (g, t), (g + 8, t), (g, t + 4), (g + 8, t + 4); b: (t, g), (t + 4, g).
inline void combine_mma_tf32(Lane* const lanes[WARP]) {
  if (!have_all_lanes(lanes)) return;
  float a[16][8] CUDA_ON_CPU_UNFILLED;
  Row b[8] CUDA_ON_CPU_UNFILLED;
  for (int lane = 0; lane < WARP; ++lane) {
    const MmaOperands operands = mma_operands(lanes[lane]);
    const int g = lane / 4, t = lane % 4;
    a[g][t] = cut_to_tf32(operands.a[0]);
    a[g + 8][t] = cut_to_tf32(operands.a[1]);
    a[g][t + 4] = cut_to_tf32(operands.a[2]);
    a[g + 8][t + 4] = cut_to_tf32(operands.a[3]);
    b[t][g] = cut_to_tf32(operands.b[0]);
    b[t + 4][g] = cut_to_tf32(operands.b[1]);
  }
  multiply_accumulate<8>(lanes, a, b);
}

// m16n8k8 and m16n8k16 of two-byte numbers, two in a word, the lower k in the lower half.
// a: (g, 2t..), (g + 8, 2t..), (g, 2t + 8..), (g + 8, 2t + 8..), k8 only the first two; b: (2t.., g), (2t + 8.., g).
template <int K, float (*decode)(uint16_t)>
inline void combine_mma_16bit(Lane* const lanes[WARP]) {
  if (!have_all_lanes(lanes)) return;
  float a[16][K] CUDA_ON_CPU_UNFILLED;
  Row b[K] CUDA_ON_CPU_UNFILLED;
  for (int lane = 0; lane < WARP; ++lane) {
    const MmaOperands operands = mma_operands(lanes[lane]);
    const int g = lane / 4, t = lane % 4;
    for (int half = 0; half < 2; ++half) {
      for (int i = 0; i < K / 4; ++i) {
        a[g + i % 2 * 8][t * 2 + i / 2 * 8 + half] = decode(static_cast<uint16_t>(operands.a[i] >> 16 * half));
      }
      for (int i = 0; i < K / 8; ++i) {
        b[t * 2 + i * 8 + half][g] = decode(static_cast<uint16_t>(operands.b[i] >> 16 * half));
      }
    }
  }
  multiply_accumulate<K>(lanes, a, b);
}

static void mma(const char* operation, Combine combine, float* accumulator, const unsigned* a, const unsigned* b,
                const char* file, int line) {
  const MmaOperands operands{accumulator, a, b};
  wait_for_warp(operation, 0xFFFFFFFFu, combine, reinterpret_cast<uint64_t>(&operands), 0, file, line);
}

struct MatrixOperands {
  unsigned* words;
  const void* row;
};

// Matrices of 8 x 8 two-byte numbers; lane 8 i + r has the address of row r of matrix i. Lane 4 r + t gets the two
// numbers (r, 2t) and (r, 2t + 1), of the transposed matrix where it is asked for.
template <int count, bool transposed>
inline void combine_load_matrices(Lane* const lanes[WARP]) {
  if (!have_all_lanes(lanes)) return;
  for (int i = 0; i < count; ++i) {
    uint16_t matrix[8][8];
    for (int r = 0; r < 8; ++r) {
      memcpy(matrix[r], reinterpret_cast<const MatrixOperands*>(lanes[8 * i + r]->value)->row, sizeof(matrix[r]));
    }
    for (int lane = 0; lane < WARP; ++lane) {
      const int r = lane / 4, c = lane % 4 * 2;
      const unsigned low = transposed ? matrix[c][r] : matrix[r][c];
      const unsigned high = transposed ? matrix[c + 1][r] : matrix[r][c + 1];
      reinterpret_cast<const MatrixOperands*>(lanes[lane]->value)->words[i] = low | high << 16;
    }
  }
}

template <int count, bool transposed>
static void load_matrices(unsigned* words, const void* row, const char* file, int line) {
  if (lane_number() < 8 * count) {
    if (shared_memory.start != nullptr && !is_shared(row, 16)) {
      fail_here("ldmatrix at %s:%d: the row is not in shared memory", file, line);
    }
    if (reinterpret_cast<uintptr_t>(row) % 16 != 0) {
      fail_here("ldmatrix at %s:%d: the row does not start at a multiple of 16 bytes", file, line);
    }
  }
  const MatrixOperands operands{words, row};
  wait_for_warp("ldmatrix", 0xFFFFFFFFu, combine_load_matrices<count, transposed>,
                reinterpret_cast<uint64_t>(&operands), 0, file, line);
}

}  // namespace cuda_on_cpu
