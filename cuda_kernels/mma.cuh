// mma.cuh: the tensor cores. A warp multiplies two small matrices and adds the product to a third, in float32.
//
// Contract: acc += a b. All 32 lanes of the warp call it together; each holds a few elements of each matrix.
//
//   mma_tf32(acc, a, b)       16x8 += 16x8  8x8    TF32       sm_80
//   mma_bf16(acc, a, b)       16x8 += 16x16 16x8   bfloat16   sm_80
//   mma_fp16(acc, a, b)       16x8 += 16x16 16x8   float16    sm_75 (there, two multiplications of half the depth)
//   mma_fp16_k8(acc, a, b)    16x8 += 16x8  8x8    float16    sm_75
//
// What a GPU does not have is not declared for it: write the kernel inside `#if __CUDA_ARCH__ >= 800` and declare it
// `void /* needs sm_80 */ name(...)`. No header of CUDA's is needed: two-byte numbers travel in pairs in 32-bit words,
// the one with the lower k in the lower half.
//
// Element i of a lane's fragment, with g = lane / 4 and t = lane % 4 (PTX ISA manual, "Matrix Fragments for mma.m16n8k8"
// and "mma.m16n8k16"):
//
//                       i = 0         1            2            3
//   Accumulator         (g, 2t)       (g, 2t+1)    (g+8, 2t)    (g+8, 2t+1)      row, column of 16x8
//   TF32FragmentA       (g, t)        (g+8, t)     (g, t+4)     (g+8, t+4)       row, k
//   TF32FragmentB       (t, g)        (t+4, g)                                   k, column
//   PairFragmentA       (g, 2t..)     (g+8, 2t..)  (g, 2t+8..)  (g+8, 2t+8..)    row, k and k + 1
//   PairFragmentB       (2t.., g)     (2t+8.., g)                                k and k + 1, column
//   PairFragmentA8      (g, 2t..)     (g+8, 2t..)
//   PairFragmentB8      (2t.., g)
//
// The functions row(), column(), k() of each fragment are this table.
//
// Precision: products are exact. Tensor cores add several at a time to the accumulator and cut off what lies below the
// last bit of the largest: within a few units in the last place of the largest term; neither the order of the sum nor
// the rounding is IEEE's. On the CPU the products are added one by one, rounding to nearest. TF32 keeps the upper 19
// bits of a float32: mma_tf32 looks at no others, so an operand that was not rounded by to_tf32 is cut off.
//
// Determinism: the same operands give the same bits on the same kind of GPU.
#pragma once

struct Accumulator {
  float value[4];
  __device__ static int row(int lane, int i) { return lane / 4 + i / 2 * 8; }
  __device__ static int column(int lane, int i) { return lane % 4 * 2 + i % 2; }
};

struct TF32FragmentA {
  unsigned word[4];
  __device__ static int row(int lane, int i) { return lane / 4 + i % 2 * 8; }
  __device__ static int k(int lane, int i) { return lane % 4 + i / 2 * 4; }
};

struct TF32FragmentB {
  unsigned word[2];
  __device__ static int k(int lane, int i) { return lane % 4 + i * 4; }
  __device__ static int column(int lane, int) { return lane / 4; }
};

struct PairFragmentA {
  unsigned word[4];
  __device__ static int row(int lane, int i) { return lane / 4 + i % 2 * 8; }
  __device__ static int k(int lane, int i) { return lane % 4 * 2 + i / 2 * 8; }
};

struct PairFragmentB {
  unsigned word[2];
  __device__ static int k(int lane, int i) { return lane % 4 * 2 + i * 8; }
  __device__ static int column(int lane, int) { return lane / 4; }
};

struct PairFragmentA8 {
  unsigned word[2];
  __device__ static int row(int lane, int i) { return lane / 4 + i * 8; }
  __device__ static int k(int lane, int) { return lane % 4 * 2; }
};

struct PairFragmentB8 {
  unsigned word[1];
  __device__ static int k(int lane, int) { return lane % 4 * 2; }
  __device__ static int column(int lane, int) { return lane / 4; }
};

// ---------------------------------------------------------------------------------------------------------------------
// Numbers.

// To TF32, to nearest, ties away from zero; what passes the largest number becomes infinite. NaN stays NaN.
__device__ __forceinline__ unsigned to_tf32(float x) {
#if !defined(CUDA_ON_CPU) && __CUDA_ARCH__ >= 800
  unsigned word;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(word) : "f"(x));
  return word;
#else
  const unsigned word = __float_as_uint(x);
  if ((word & 0x7F800000u) == 0x7F800000u) return (word & 0x007FFFFFu) != 0 ? 0x7FFFFFFFu : word;
  return (word + 0x1000u) & 0xFFFFE000u;
#endif
}

// x = large + small up to 2^-22 of x: with both parts, and three products of parts, TF32 nearly gives float32.
__device__ __forceinline__ void split_tf32(float x, unsigned& large, unsigned& small) {
  large = to_tf32(x);
  small = to_tf32(x - __uint_as_float(large));
}

// Two numbers in a word, to nearest with ties to even; low in the lower half.
__device__ __forceinline__ unsigned pack_fp16(float low, float high) {
#if defined(CUDA_ON_CPU)
  return cuda_on_cpu::float_to_half(low) | unsigned(cuda_on_cpu::float_to_half(high)) << 16;
#elif __CUDA_ARCH__ >= 800
  unsigned word;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
  return word;
#else
  unsigned short halves[2];
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(halves[0]) : "f"(low));
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(halves[1]) : "f"(high));
  return halves[0] | unsigned(halves[1]) << 16;
#endif
}

__device__ __forceinline__ unsigned pack_bf16(float low, float high) {
#if !defined(CUDA_ON_CPU) && __CUDA_ARCH__ >= 800
  unsigned word;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
  return word;
#else
  unsigned word = 0;
  for (int i = 0; i < 2; ++i) {
    const unsigned bits = __float_as_uint(i == 0 ? low : high);
    const bool is_nan = (bits & 0x7FFFFFFFu) > 0x7F800000u;
    const unsigned rounded = is_nan ? 0x7FFFu : (bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16;
    word |= rounded << 16 * i;
  }
  return word;
#endif
}

__device__ __forceinline__ float unpack_bf16_low(unsigned word) { return __uint_as_float(word << 16); }
__device__ __forceinline__ float unpack_bf16_high(unsigned word) { return __uint_as_float(word & 0xFFFF0000u); }

__device__ __forceinline__ float unpack_fp16_low(unsigned word) {
#ifdef CUDA_ON_CPU
  return cuda_on_cpu::half_to_float(static_cast<unsigned short>(word));
#else
  float x;
  asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(static_cast<unsigned short>(word)));
  return x;
#endif
}
__device__ __forceinline__ float unpack_fp16_high(unsigned word) { return unpack_fp16_low(word >> 16); }

// ---------------------------------------------------------------------------------------------------------------------
// Fragments from shared memory. Matrices are 8 x 8 two-byte numbers, or 8 x 4 words; a row is sixteen bytes and starts
// at a multiple of sixteen. Lane 8 i + r gives the address of row r of matrix i; on sm_75 the other lanes give a valid
// address too. word[i] is then, in lane 4 r + t, elements (r, 2t) and (r, 2t + 1) of matrix i, or word (r, t); of the
// transposed matrix (r, 2t) and (r, 2t + 1) again: (2t, r) and (2t + 1, r) of what is stored.
//
// So row-major a (m, k) of PairFragmentA is load_matrices_x4 with the matrices (0, 0), (8, 0), (0, 8), (8, 8); row-major
// b (k, n) of PairFragmentB is load_matrices_x2_transposed with (0, 0), (8, 0); row-major a of TF32FragmentA, as words,
// is load_matrices_x4 with (0, 0), (8, 0), (0, 4), (8, 4).

#ifdef CUDA_ON_CPU

#define MMA_LOAD_MATRICES(name, count, transposed, instruction, ...)                                   \
  inline void name(unsigned (&word)[count], const void* row, CUDA_ON_CPU_PLACE) {                      \
    cuda_on_cpu::load_matrices<count, transposed>(word, row, file, line);                              \
  }

#else

#define MMA_LOAD_MATRICES(name, count, transposed, instruction, ...)                                   \
  __device__ __forceinline__ void name(unsigned (&word)[count], const void* row) {                     \
    const unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(row));                     \
    asm volatile("ldmatrix.sync.aligned.m8n8." instruction : __VA_ARGS__ : "r"(address) : "memory");   \
  }

#endif

#define MMA_WORDS2 "=r"(word[0]), "=r"(word[1])
#define MMA_WORDS4 MMA_WORDS2, "=r"(word[2]), "=r"(word[3])
MMA_LOAD_MATRICES(load_matrices_x1, 1, false, "x1.shared.b16 {%0}, [%1];", "=r"(word[0]))
MMA_LOAD_MATRICES(load_matrices_x2, 2, false, "x2.shared.b16 {%0, %1}, [%2];", MMA_WORDS2)
MMA_LOAD_MATRICES(load_matrices_x4, 4, false, "x4.shared.b16 {%0, %1, %2, %3}, [%4];", MMA_WORDS4)
MMA_LOAD_MATRICES(load_matrices_x1_transposed, 1, true, "x1.trans.shared.b16 {%0}, [%1];", "=r"(word[0]))
MMA_LOAD_MATRICES(load_matrices_x2_transposed, 2, true, "x2.trans.shared.b16 {%0, %1}, [%2];", MMA_WORDS2)
MMA_LOAD_MATRICES(load_matrices_x4_transposed, 4, true, "x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];", MMA_WORDS4)
#undef MMA_LOAD_MATRICES
#undef MMA_WORDS2
#undef MMA_WORDS4

// ---------------------------------------------------------------------------------------------------------------------
// Multiplications.

#ifdef CUDA_ON_CPU

#define MMA_MULTIPLY(name, A, B, combine)                                                                  \
  inline void name(Accumulator& acc, const A& a, const B& b, CUDA_ON_CPU_PLACE) {                          \
    cuda_on_cpu::mma(#name, cuda_on_cpu::combine, acc.value, a.word, b.word, file, line);                  \
  }
#define MMA_16BIT(k, decode) combine_mma_16bit<k, cuda_on_cpu::decode>
MMA_MULTIPLY(mma_tf32, TF32FragmentA, TF32FragmentB, combine_mma_tf32)
MMA_MULTIPLY(mma_bf16, PairFragmentA, PairFragmentB, MMA_16BIT(16, bfloat_to_float))
MMA_MULTIPLY(mma_fp16, PairFragmentA, PairFragmentB, MMA_16BIT(16, half_to_float))
MMA_MULTIPLY(mma_fp16_k8, PairFragmentA8, PairFragmentB8, MMA_16BIT(8, half_to_float))
#undef MMA_MULTIPLY
#undef MMA_16BIT

#else

__device__ __forceinline__ void mma_fp16_k8(Accumulator& acc, const PairFragmentA8& a, const PairFragmentB8& b) {
  float(&c)[4] = acc.value;
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a.word[0]), "r"(a.word[1]), "r"(b.word[0]));
}

#if __CUDA_ARCH__ >= 800

#define MMA_MULTIPLY(name, A, B, instruction)                                                                       \
  __device__ __forceinline__ void name(Accumulator& acc, const A& a, const B& b) {                                  \
    float(&c)[4] = acc.value;                                                                                       \
    asm volatile("mma.sync.aligned." instruction                                                                    \
                 " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"                                 \
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])                                                   \
                 : "r"(a.word[0]), "r"(a.word[1]), "r"(a.word[2]), "r"(a.word[3]), "r"(b.word[0]), "r"(b.word[1])); \
  }
MMA_MULTIPLY(mma_tf32, TF32FragmentA, TF32FragmentB, "m16n8k8.row.col.f32.tf32.tf32.f32")
MMA_MULTIPLY(mma_bf16, PairFragmentA, PairFragmentB, "m16n8k16.row.col.f32.bf16.bf16.f32")
MMA_MULTIPLY(mma_fp16, PairFragmentA, PairFragmentB, "m16n8k16.row.col.f32.f16.f16.f32")
#undef MMA_MULTIPLY

#else

__device__ __forceinline__ void mma_fp16(Accumulator& acc, const PairFragmentA& a, const PairFragmentB& b) {
  mma_fp16_k8(acc, PairFragmentA8{{a.word[0], a.word[1]}}, PairFragmentB8{{b.word[0]}});
  mma_fp16_k8(acc, PairFragmentA8{{a.word[2], a.word[3]}}, PairFragmentB8{{b.word[1]}});
}

#endif
#endif
