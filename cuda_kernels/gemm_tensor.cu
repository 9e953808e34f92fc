// gemm_tensor.cu: large products of matrices on tensor cores, for the products over all steps of recurrent layers.
//
// Contract:
//
//     output[i, j] = sum over k of left[i, k] right[k, j] + bias[j]
//
//   nt   left[i, k]  at left [i left_pitch + k],   right[k, j] at right[j right_pitch + k]
//   nn   left as in nt,                            right[k, j] at right[k right_pitch + j]
//   tn   left[i, k]  at left [k left_pitch + i],   right as in nn
//   output[i, j]     at output[i columns + j], float32; bias [columns] or null
//   tf32             left and right are float32, rounded to TF32 (to nearest)
//   bfloat16, float16    left and right are of that type, two numbers in a word; nt alone
//   Rows and columns of left and right, their pitches, their depth and `columns` are whole multiples of sixteen bytes,
//   and so are their addresses; only the number of rows where k is contiguous may be any. Sums are float32's, in the tensor cores' rounding (mma.cuh).
//
// Parallelisation: a block computes 128 x 128 outputs, blockIdx = (tile of rows, tile of columns, split); each of its 8
// warps 64 x 32 of them, as 4 x 4 tiles of mma.sync. k is walked in slabs of 16 words; while one is multiplied out of
// shared memory the next is on its way into registers, and goes into the other half of shared memory: one barrier a
// slab. With splits > 1 each sums its own stretch of k, split_stride elements apart, without the bias
// (gemm_sum_partials of gemm.cu). Slabs lie row by row of 16 words and 4 more, or, where k is not what is contiguous, k
// by k with 8 words behind each: no bank conflicts either way.
//
// Determinism: one order of summation for given sizes and splits; no atomics.

#include "mma.cuh"
#include "pack.cuh"

#define GEMM_TENSOR_SIZES                                                                                           \
  const float *bias /* or null */, int rows, int columns, int depth, int left_pitch, int right_pitch, int splits,   \
      long long split_stride
#define GEMM_TENSOR_FLOATS float *__restrict__ output, const float4 *__restrict__ left, const float4 *__restrict__ right
#define GEMM_TENSOR_WORDS float *__restrict__ output, const uint4 *__restrict__ left, const uint4 *__restrict__ right

constexpr int tensor_extent = 128;                 // rows and columns of a block's tile
constexpr int tensor_words = 16;                   // of k in a slab
constexpr int tensor_row = tensor_words + 4;       // words of a row of a slab where k is contiguous
constexpr int tensor_line = tensor_extent + 8;     // words for one k where it is not
constexpr int tensor_slab = tensor_extent * tensor_row;
static_assert(tensor_words * tensor_line <= tensor_slab, "either kind of slab");

using Words = Pack<unsigned, 4>;

struct TensorTF32 {
  using FragmentA = TF32FragmentA;
  using FragmentB = TF32FragmentB;
  using Element = float;
  static constexpr int elements = 1;  // in a word
  static __device__ unsigned prepare(unsigned word) {
#if __CUDA_ARCH__ >= 800
    return to_tf32(__uint_as_float(word));
#else
    return word;
#endif
  }
  static __device__ float value(const float* source, long long index) {
    return __uint_as_float(to_tf32(source[index]));
  }
};

struct TensorHalf {
  using FragmentA = PairFragmentA;
  using FragmentB = PairFragmentB;
  using Element = unsigned short;
  static constexpr int elements = 2;
  static __device__ unsigned prepare(unsigned word) { return word; }
};

struct TensorFloat16 : TensorHalf {
  static __device__ float value(const unsigned short* source, long long index) { return unpack_fp16_low(source[index]); }
};

struct TensorBFloat16 : TensorHalf {
  static __device__ float value(const unsigned short* source, long long index) { return unpack_bf16_low(source[index]); }
};

#if __CUDA_ARCH__ >= 800
struct MultiplyTF32 : TensorTF32 {
  static __device__ void multiply(Accumulator& acc, const FragmentA& a, const FragmentB& b) { mma_tf32(acc, a, b); }
};
struct MultiplyFloat16 : TensorFloat16 {
  static __device__ void multiply(Accumulator& acc, const FragmentA& a, const FragmentB& b) { mma_fp16(acc, a, b); }
};
struct MultiplyBFloat16 : TensorBFloat16 {
  static __device__ void multiply(Accumulator& acc, const FragmentA& a, const FragmentB& b) { mma_bf16(acc, a, b); }
};
#endif

// ---------------------------------------------------------------------------------------------------------------------
// The operands: how a slab comes to shared memory, and fragments out of it. Pitches are in words.

// The neighbours of k are neighbours in memory.
template <class Kind>
struct AlongDepth {
  const unsigned* source;
  int pitch, rows_left;
  Words stage[2];

  // A first row behind the last one is read as the last one: what comes of it is not stored.
  __device__ AlongDepth(const void* matrix, int pitch, int first, int extent, int first_word)
      : source(static_cast<const unsigned*>(matrix) +
               (long long)min(first + int(threadIdx.x / 4), extent - 1) * pitch + first_word + threadIdx.x % 4 * 4),
        pitch(pitch),
        rows_left(extent - first - int(threadIdx.x / 4)) {}

  __device__ void load(int words_left) {
#pragma unroll
    for (int pass = 0; pass < 2; ++pass) {
      stage[pass] = zero_pack<unsigned, 4>();
      if (int(threadIdx.x % 4 * 4) < words_left && (pass == 0 || 64 < rows_left)) {
        stage[pass] = load_pack<unsigned, 4>(source + (long long)(pass * 64) * pitch);
      }
    }
  }
  __device__ void advance() { source += tensor_words; }
  __device__ void store(unsigned* slab) const {
#pragma unroll
    for (int pass = 0; pass < 2; ++pass) {
      Words words = stage[pass];
#pragma unroll
      for (int v = 0; v < 4; ++v) words.at[v] = Kind::prepare(words.at[v]);
      store_pack(slab + (threadIdx.x / 4 + pass * 64) * tensor_row + threadIdx.x % 4 * 4, words);
    }
  }

  // 16 rows from `row` on, 8 words from `word` on.
  static __device__ void fragment(unsigned (&words)[4], const unsigned* slab, int row, int word) {
    const int lane = threadIdx.x % 32;
    load_matrices_x4(words, slab + (row + lane % 16) * tensor_row + word + lane / 16 * 4);
  }
  // The same words, as the right operand has them: two fragments of 8 columns.
  static __device__ void fragments(unsigned (&words)[4], const unsigned* slab, int row, int word) {
    const int lane = threadIdx.x % 32;
    load_matrices_x4(words, slab + (row + lane / 16 * 8 + lane % 8) * tensor_row + word + lane / 8 % 2 * 4);
  }
};

// The neighbours of rows or columns are; words are single numbers.
template <class Kind>
struct AcrossDepth {
  static_assert(Kind::elements == 1, "no pairs along k");
  const unsigned* source;
  int pitch;
  Words stage[2];

  __device__ AcrossDepth(const void* matrix, int pitch, int first, int extent, int first_word)
      : source(static_cast<const unsigned*>(matrix) + (long long)(first_word + int(threadIdx.x / 32)) * pitch +
               min(first + int(threadIdx.x % 32 * 4), extent - 4)),
        pitch(pitch) {}

  __device__ void load(int words_left) {
#pragma unroll
    for (int pass = 0; pass < 2; ++pass) {
      stage[pass] = zero_pack<unsigned, 4>();
      if (int(threadIdx.x / 32) + pass * 8 < words_left) {
        stage[pass] = load_pack<unsigned, 4>(source + (long long)(pass * 8) * pitch);
      }
    }
  }
  __device__ void advance() { source += (long long)tensor_words * pitch; }
  __device__ void store(unsigned* slab) const {
#pragma unroll
    for (int pass = 0; pass < 2; ++pass) {
      Words words = stage[pass];
#pragma unroll
      for (int v = 0; v < 4; ++v) words.at[v] = Kind::prepare(words.at[v]);
      store_pack(slab + (threadIdx.x / 32 + pass * 8) * tensor_line + threadIdx.x % 32 * 4, words);
    }
  }

  static __device__ void fragment(unsigned (&words)[4], const unsigned* slab, int row, int word) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      words[i] = slab[(word + TF32FragmentA::k(lane, i)) * tensor_line + row + TF32FragmentA::row(lane, i)];
    }
  }
  static __device__ void fragments(unsigned (&words)[4], const unsigned* slab, int column, int word) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int place = column + i / 2 * 8 + TF32FragmentB::column(lane, i % 2);
      words[i] = slab[(word + TF32FragmentB::k(lane, i % 2)) * tensor_line + place];
    }
  }
};

// ---------------------------------------------------------------------------------------------------------------------
// The tile.

struct TensorSizes {
  int rows, columns, words, left_pitch, right_pitch, splits;
  long long split_stride;
};

template <class Kind, class Left, class Right>
__device__ void gemm_tensor(float* output, const void* left, const void* right, const float* bias,
                            const TensorSizes& sizes) {
  __shared__ __align__(16) unsigned left_slabs[2][tensor_slab];
  __shared__ __align__(16) unsigned right_slabs[2][tensor_slab];
  const int first_row = blockIdx.x * tensor_extent, first_column = blockIdx.y * tensor_extent;
  const int slabs = (sizes.words + tensor_words - 1) / tensor_words;
  const int slabs_a_split = (slabs + sizes.splits - 1) / sizes.splits;
  const int first = min(int(blockIdx.z) * slabs_a_split, slabs), last = min(first + slabs_a_split, slabs);
  int words_left = min(last * tensor_words, sizes.words) - first * tensor_words;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int warp_row = warp % 2 * 64, warp_column = warp / 2 * 32;
  Accumulator acc[4][4] = {};

  if (words_left > 0) {
    Left left_operand(left, sizes.left_pitch, first_row, sizes.rows, first * tensor_words);
    Right right_operand(right, sizes.right_pitch, first_column, sizes.columns, first * tensor_words);
    left_operand.load(words_left);
    right_operand.load(words_left);
    left_operand.store(left_slabs[0]);
    right_operand.store(right_slabs[0]);
    __syncthreads();
#pragma unroll 1
    for (int half = 0; words_left > 0; half ^= 1, words_left -= tensor_words) {
      const bool more = words_left > tensor_words;
      if (more) {
        left_operand.advance();
        right_operand.advance();
        left_operand.load(words_left - tensor_words);
        right_operand.load(words_left - tensor_words);
      }
#pragma unroll
      for (int word = 0; word < tensor_words; word += 8) {
        typename Kind::FragmentB b[4];
#pragma unroll
        for (int j = 0; j < 4; j += 2) {
          unsigned found[4];
          Right::fragments(found, right_slabs[half], warp_column + 8 * j, word);
          b[j].word[0] = found[0], b[j].word[1] = found[1];
          b[j + 1].word[0] = found[2], b[j + 1].word[1] = found[3];
        }
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          typename Kind::FragmentA a;
          Left::fragment(a.word, left_slabs[half], warp_row + 16 * i, word);
#pragma unroll
          for (int j = 0; j < 4; ++j) Kind::multiply(acc[i][j], a, b[j]);
        }
      }
      if (more) {
        // Nobody has read this half since the last barrier.
        left_operand.store(left_slabs[half ^ 1]);
        right_operand.store(right_slabs[half ^ 1]);
        __syncthreads();
      }
    }
  }

  float* target = output + blockIdx.z * sizes.split_stride;
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    const int column = first_column + warp_column + 8 * j + Accumulator::column(lane, 0);
    if (column >= sizes.columns) continue;
    const Pack<float, 2> shift = {bias == nullptr ? 0.0f : bias[column], bias == nullptr ? 0.0f : bias[column + 1]};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
#pragma unroll
      for (int part = 0; part < 4; part += 2) {
        const int row = first_row + warp_row + 16 * i + Accumulator::row(lane, part);
        if (row >= sizes.rows) continue;
        const Pack<float, 2> sums = {acc[i][j].value[part] + shift.at[0], acc[i][j].value[part + 1] + shift.at[1]};
        store_pack(target + (long long)row * sizes.columns + column, sums);
      }
    }
  }
}

// The equations: one thread an output. k is along the rows or across them on either side.
template <class Kind>
__device__ void gemm_tensor_naive(float* output, const typename Kind::Element* left,
                                  const typename Kind::Element* right, const float* bias, int rows, int columns,
                                  int depth, long long left_row, long long left_k, long long right_k,
                                  long long right_column) {
  const long long count = (long long)rows * columns, stride = (long long)gridDim.x * blockDim.x;
  for (long long number = (long long)blockIdx.x * blockDim.x + threadIdx.x; number < count; number += stride) {
    const long long i = number / columns, j = number % columns;
    float sum = 0;
    for (int k = 0; k < depth; ++k) {
      sum += Kind::value(left, i * left_row + k * left_k) * Kind::value(right, k * right_k + j * right_column);
    }
    output[number] = sum + (bias == nullptr ? 0.0f : bias[j]);
  }
}

#define GEMM_TENSOR_NAIVE_SIZES                                                                                      \
  const float *bias /* or null */, int rows, int columns, int depth, long long left_row, long long left_k,           \
      long long right_k, long long right_column
#define GEMM_TENSOR_NAIVE_ARGUMENTS \
  output, left, right, bias, rows, columns, depth, left_row, left_k, right_k, right_column

// The parameters as the template takes them: pitches and depth in words.
#define GEMM_TENSOR_ARGUMENTS(elements)                                                                          \
  output, left, right, bias, TensorSizes {                                                                       \
    rows, columns, depth / elements, left_pitch / elements, right_pitch / elements, splits, split_stride         \
  }

// The readable ones.

extern "C" __global__ void __launch_bounds__(256)
    gemm_tensor_naive_tf32(float* __restrict__ output, const float* __restrict__ left, const float* __restrict__ right,
                           GEMM_TENSOR_NAIVE_SIZES) {
  gemm_tensor_naive<TensorTF32>(GEMM_TENSOR_NAIVE_ARGUMENTS);
}

extern "C" __global__ void __launch_bounds__(256)
    gemm_tensor_naive_bfloat16(float* __restrict__ output, const unsigned short* __restrict__ left,
                               const unsigned short* __restrict__ right, GEMM_TENSOR_NAIVE_SIZES) {
  gemm_tensor_naive<TensorBFloat16>(GEMM_TENSOR_NAIVE_ARGUMENTS);
}

extern "C" __global__ void __launch_bounds__(256)
    gemm_tensor_naive_float16(float* __restrict__ output, const unsigned short* __restrict__ left,
                              const unsigned short* __restrict__ right, GEMM_TENSOR_NAIVE_SIZES) {
  gemm_tensor_naive<TensorFloat16>(GEMM_TENSOR_NAIVE_ARGUMENTS);
}

// The fast ones.

#if __CUDA_ARCH__ >= 800
extern "C" __global__ void __launch_bounds__(256, 2) /* needs sm_80 */
    gemm_tensor_nt_float16(GEMM_TENSOR_WORDS, GEMM_TENSOR_SIZES) {
  gemm_tensor<MultiplyFloat16, AlongDepth<TensorHalf>, AlongDepth<TensorHalf>>(GEMM_TENSOR_ARGUMENTS(2));
}

extern "C" __global__ void __launch_bounds__(256, 2) /* needs sm_80 */
    gemm_tensor_nt_bfloat16(GEMM_TENSOR_WORDS, GEMM_TENSOR_SIZES) {
  gemm_tensor<MultiplyBFloat16, AlongDepth<TensorHalf>, AlongDepth<TensorHalf>>(GEMM_TENSOR_ARGUMENTS(2));
}

extern "C" __global__ void __launch_bounds__(256, 2) /* needs sm_80 */
    gemm_tensor_nt_tf32(GEMM_TENSOR_FLOATS, GEMM_TENSOR_SIZES) {
  gemm_tensor<MultiplyTF32, AlongDepth<TensorTF32>, AlongDepth<TensorTF32>>(GEMM_TENSOR_ARGUMENTS(1));
}

extern "C" __global__ void __launch_bounds__(256, 2) /* needs sm_80 */
    gemm_tensor_nn_tf32(GEMM_TENSOR_FLOATS, GEMM_TENSOR_SIZES) {
  gemm_tensor<MultiplyTF32, AlongDepth<TensorTF32>, AcrossDepth<TensorTF32>>(GEMM_TENSOR_ARGUMENTS(1));
}

extern "C" __global__ void __launch_bounds__(256, 2) /* needs sm_80 */
    gemm_tensor_tn_tf32(GEMM_TENSOR_FLOATS, GEMM_TENSOR_SIZES) {
  gemm_tensor<MultiplyTF32, AcrossDepth<TensorTF32>, AcrossDepth<TensorTF32>>(GEMM_TENSOR_ARGUMENTS(1));
}
#endif
