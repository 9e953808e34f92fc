// tensor_cores.cu: kernels that lean on mma.cuh, to hold its fragments and precision against float64 products.

#include "async_copy.cuh"
#include "mma.cuh"

// Each takes the words of every lane as they are: the tests say what lies where, independently of mma.cuh's tables.
// accumulator [32, 4], a [32, words], b [32, words].

extern "C" __global__ void raw_fp16_k8(float* accumulator, const unsigned* a, const unsigned* b) {
  const int lane = threadIdx.x;
  Accumulator acc;
  PairFragmentA8 fragment_a;
  PairFragmentB8 fragment_b;
  for (int i = 0; i < 4; ++i) acc.value[i] = accumulator[4 * lane + i];
  for (int i = 0; i < 2; ++i) fragment_a.word[i] = a[2 * lane + i];
  fragment_b.word[0] = b[lane];
  mma_fp16_k8(acc, fragment_a, fragment_b);
  for (int i = 0; i < 4; ++i) accumulator[4 * lane + i] = acc.value[i];
}

template <typename A, typename B, typename Multiply>
__device__ void raw(float* accumulator, const unsigned* a, const unsigned* b, Multiply multiply) {
  const int lane = threadIdx.x;
  Accumulator acc;
  A fragment_a;
  B fragment_b;
  for (int i = 0; i < 4; ++i) acc.value[i] = accumulator[4 * lane + i];
  for (int i = 0; i < 4; ++i) fragment_a.word[i] = a[4 * lane + i];
  for (int i = 0; i < 2; ++i) fragment_b.word[i] = b[2 * lane + i];
  multiply(acc, fragment_a, fragment_b);
  for (int i = 0; i < 4; ++i) accumulator[4 * lane + i] = acc.value[i];
}

struct MultiplyFP16 {
  __device__ void operator()(Accumulator& acc, const PairFragmentA& a, const PairFragmentB& b) const {
    mma_fp16(acc, a, b);
  }
};
extern "C" __global__ void raw_fp16(float* accumulator, const unsigned* a, const unsigned* b) {
  raw<PairFragmentA, PairFragmentB>(accumulator, a, b, MultiplyFP16());
}

#if __CUDA_ARCH__ >= 800
struct MultiplyBF16 {
  __device__ void operator()(Accumulator& acc, const PairFragmentA& a, const PairFragmentB& b) const {
    mma_bf16(acc, a, b);
  }
};
struct MultiplyTF32 {
  __device__ void operator()(Accumulator& acc, const TF32FragmentA& a, const TF32FragmentB& b) const {
    mma_tf32(acc, a, b);
  }
};
extern "C" __global__ void /* needs sm_80 */ raw_bf16(float* accumulator, const unsigned* a, const unsigned* b) {
  raw<PairFragmentA, PairFragmentB>(accumulator, a, b, MultiplyBF16());
}
extern "C" __global__ void /* needs sm_80 */ raw_tf32(float* accumulator, const unsigned* a, const unsigned* b) {
  raw<TF32FragmentA, TF32FragmentB>(accumulator, a, b, MultiplyTF32());
}
#endif

// The tables of mma.cuh: accumulator [32, 4, 2], tf32_a [32, 4, 2], tf32_b [32, 2, 2], pair_a [32, 4, 2],
// pair_b [32, 2, 2]; the last axis is row and column of the matrix that a fragment is of.
extern "C" __global__ void fragment_indices(int* accumulator, int* tf32_a, int* tf32_b, int* pair_a, int* pair_b) {
  const int lane = threadIdx.x;
  for (int i = 0; i < 4; ++i) {
    const int at = 2 * (4 * lane + i);
    accumulator[at] = Accumulator::row(lane, i);
    accumulator[at + 1] = Accumulator::column(lane, i);
    tf32_a[at] = TF32FragmentA::row(lane, i);
    tf32_a[at + 1] = TF32FragmentA::k(lane, i);
    pair_a[at] = PairFragmentA::row(lane, i);
    pair_a[at + 1] = PairFragmentA::k(lane, i);
  }
  for (int i = 0; i < 2; ++i) {
    const int at = 2 * (2 * lane + i);
    tf32_b[at] = TF32FragmentB::k(lane, i);
    tf32_b[at + 1] = TF32FragmentB::column(lane, i);
    pair_b[at] = PairFragmentB::k(lane, i);
    pair_b[at + 1] = PairFragmentB::column(lane, i);
  }
}

// c [m, n] = a [m, depth] b [depth, n], all row-major float32, rounded here; a warp for each 16 x 8 tile, straight from
// global memory by the tables. m is a multiple of 16, n of 8, depth of 16.

extern "C" __global__ void gemm_fp16(float* c, const float* a, const float* b, int n, int depth) {
  const int lane = threadIdx.x, row = 16 * blockIdx.y, column = 8 * blockIdx.x;
  Accumulator acc = {};
  for (int k = 0; k < depth; k += 16) {
    PairFragmentA fragment_a;
    PairFragmentB fragment_b;
    for (int i = 0; i < 4; ++i) {
      const float* at = a + (row + PairFragmentA::row(lane, i)) * depth + k + PairFragmentA::k(lane, i);
      fragment_a.word[i] = pack_fp16(at[0], at[1]);
    }
    for (int i = 0; i < 2; ++i) {
      const float* at = b + (k + PairFragmentB::k(lane, i)) * n + column + PairFragmentB::column(lane, i);
      fragment_b.word[i] = pack_fp16(at[0], at[n]);
    }
    mma_fp16(acc, fragment_a, fragment_b);
  }
  for (int i = 0; i < 4; ++i) {
    c[(row + Accumulator::row(lane, i)) * n + column + Accumulator::column(lane, i)] = acc.value[i];
  }
}

extern "C" __global__ void gemm_fp16_k8(float* c, const float* a, const float* b, int n, int depth) {
  const int lane = threadIdx.x, row = 16 * blockIdx.y, column = 8 * blockIdx.x;
  Accumulator acc = {};
  for (int k = 0; k < depth; k += 8) {
    PairFragmentA8 fragment_a;
    PairFragmentB8 fragment_b;
    for (int i = 0; i < 2; ++i) {
      const float* at = a + (row + PairFragmentA8::row(lane, i)) * depth + k + PairFragmentA8::k(lane, i);
      fragment_a.word[i] = pack_fp16(at[0], at[1]);
    }
    const float* at = b + (k + PairFragmentB8::k(lane, 0)) * n + column + PairFragmentB8::column(lane, 0);
    fragment_b.word[0] = pack_fp16(at[0], at[n]);
    mma_fp16_k8(acc, fragment_a, fragment_b);
  }
  for (int i = 0; i < 4; ++i) {
    c[(row + Accumulator::row(lane, i)) * n + column + Accumulator::column(lane, i)] = acc.value[i];
  }
}

#if __CUDA_ARCH__ >= 800
extern "C" __global__ void /* needs sm_80 */ gemm_bf16(float* c, const float* a, const float* b, int n, int depth) {
  const int lane = threadIdx.x, row = 16 * blockIdx.y, column = 8 * blockIdx.x;
  Accumulator acc = {};
  for (int k = 0; k < depth; k += 16) {
    PairFragmentA fragment_a;
    PairFragmentB fragment_b;
    for (int i = 0; i < 4; ++i) {
      const float* at = a + (row + PairFragmentA::row(lane, i)) * depth + k + PairFragmentA::k(lane, i);
      fragment_a.word[i] = pack_bf16(at[0], at[1]);
    }
    for (int i = 0; i < 2; ++i) {
      const float* at = b + (k + PairFragmentB::k(lane, i)) * n + column + PairFragmentB::column(lane, i);
      fragment_b.word[i] = pack_bf16(at[0], at[n]);
    }
    mma_bf16(acc, fragment_a, fragment_b);
  }
  for (int i = 0; i < 4; ++i) {
    c[(row + Accumulator::row(lane, i)) * n + column + Accumulator::column(lane, i)] = acc.value[i];
  }
}

// `rounded` says whether to_tf32 rounds the operands, or the tensor cores cut them off.
extern "C" __global__ void /* needs sm_80 */ gemm_tf32(float* c, const float* a, const float* b, int n, int depth,
                                                       bool rounded) {
  const int lane = threadIdx.x, row = 16 * blockIdx.y, column = 8 * blockIdx.x;
  Accumulator acc = {};
  for (int k = 0; k < depth; k += 8) {
    TF32FragmentA fragment_a;
    TF32FragmentB fragment_b;
    for (int i = 0; i < 4; ++i) {
      const float x = a[(row + TF32FragmentA::row(lane, i)) * depth + k + TF32FragmentA::k(lane, i)];
      fragment_a.word[i] = rounded ? to_tf32(x) : __float_as_uint(x);
    }
    for (int i = 0; i < 2; ++i) {
      const float x = b[(k + TF32FragmentB::k(lane, i)) * n + column + TF32FragmentB::column(lane, i)];
      fragment_b.word[i] = rounded ? to_tf32(x) : __float_as_uint(x);
    }
    mma_tf32(acc, fragment_a, fragment_b);
  }
  for (int i = 0; i < 4; ++i) {
    c[(row + Accumulator::row(lane, i)) * n + column + Accumulator::column(lane, i)] = acc.value[i];
  }
}

// Nearly float32 by three products of the parts of each operand.
extern "C" __global__ void /* needs sm_80 */ gemm_split_tf32(float* c, const float* a, const float* b, int n,
                                                             int depth) {
  const int lane = threadIdx.x, row = 16 * blockIdx.y, column = 8 * blockIdx.x;
  Accumulator acc = {};
  for (int k = 0; k < depth; k += 8) {
    TF32FragmentA large_a, small_a;
    TF32FragmentB large_b, small_b;
    for (int i = 0; i < 4; ++i) {
      split_tf32(a[(row + TF32FragmentA::row(lane, i)) * depth + k + TF32FragmentA::k(lane, i)], large_a.word[i],
                 small_a.word[i]);
    }
    for (int i = 0; i < 2; ++i) {
      split_tf32(b[(k + TF32FragmentB::k(lane, i)) * n + column + TF32FragmentB::column(lane, i)], large_b.word[i],
                 small_b.word[i]);
    }
    mma_tf32(acc, small_a, large_b);
    mma_tf32(acc, large_a, small_b);
    mma_tf32(acc, large_a, large_b);
  }
  for (int i = 0; i < 4; ++i) {
    c[(row + Accumulator::row(lane, i)) * n + column + Accumulator::column(lane, i)] = acc.value[i];
  }
}

// The same product as a kernel that means it computes it: tiles of 128 x 128 x 16 copied ahead into two buffers, eight
// warps with 32 x 64 each, a by ldmatrix. m and n are multiples of 128, depth of 16.
extern "C" __global__ void __launch_bounds__(256) /* needs sm_80 */
    gemm_tiled_tf32(float* c, const float* a, const float* b, int n, int depth) {
  constexpr int TILE = 128, DEPTH = 16, PITCH_A = DEPTH + 4, PITCH_B = TILE + 8;
  __shared__ __align__(16) float tile_a[2][TILE][PITCH_A];
  __shared__ __align__(16) float tile_b[2][DEPTH][PITCH_B];
  const int thread = threadIdx.x, lane = thread % 32, warp = thread / 32;
  const int row = 32 * (warp % 4), column = 64 * (warp / 4);
  a += blockIdx.y * TILE * depth;
  b += blockIdx.x * TILE;
  c += blockIdx.y * TILE * n + blockIdx.x * TILE;
  Accumulator acc[2][8] = {};
  const int steps = depth / DEPTH;
  for (int step = -1; step < steps; ++step) {
    if (step + 1 < steps) {
      const int k = (step + 1) * DEPTH, buffer = (step + 1) % 2;
      for (int i = thread; i < TILE * DEPTH / 4; i += 256) {
        const int y = i / (DEPTH / 4), x = i % (DEPTH / 4) * 4;
        async_copy<16>(&tile_a[buffer][y][x], a + y * depth + k + x);
      }
      for (int i = thread; i < TILE * DEPTH / 4; i += 256) {
        const int y = i / (TILE / 4), x = i % (TILE / 4) * 4;
        async_copy<16>(&tile_b[buffer][y][x], b + (k + y) * n + x);
      }
    }
    async_copy_commit();
    if (step < 0) continue;
    async_copy_wait<1>();
    __syncthreads();
    const int buffer = step % 2;
    for (int k = 0; k < DEPTH; k += 8) {
      TF32FragmentA fragment_a[2];
      for (int i = 0; i < 2; ++i) {
        load_matrices_x4(fragment_a[i].word, &tile_a[buffer][row + 16 * i + lane % 16][k + lane / 16 * 4]);
        for (int word = 0; word < 4; ++word) {
          fragment_a[i].word[word] = to_tf32(__uint_as_float(fragment_a[i].word[word]));
        }
      }
      for (int j = 0; j < 8; ++j) {
        TF32FragmentB fragment_b;
        for (int word = 0; word < 2; ++word) {
          fragment_b.word[word] = to_tf32(tile_b[buffer][k + TF32FragmentB::k(lane, word)]
                                                [column + 8 * j + TF32FragmentB::column(lane, word)]);
        }
        for (int i = 0; i < 2; ++i) mma_tf32(acc[i][j], fragment_a[i], fragment_b);
      }
    }
    __syncthreads();
  }
  for (int i = 0; i < 2; ++i) {
    for (int j = 0; j < 8; ++j) {
      for (int word = 0; word < 4; ++word) {
        c[(row + 16 * i + Accumulator::row(lane, word)) * n + column + 8 * j + Accumulator::column(lane, word)] =
            acc[i][j].value[word];
      }
    }
  }
}
#endif

// What ldmatrix makes of four matrices of 8 x 8 numbers that lie one after the other: words [6][32][4], the forms x1, x2,
// x4, then transposed; what a form does not load is left.
extern "C" __global__ void matrices(unsigned* words, const unsigned* input) {
  __shared__ __align__(16) unsigned stored[4 * 8 * 4];
  const int lane = threadIdx.x;
  for (int i = lane; i < 4 * 8 * 4; i += 32) stored[i] = input[i];
  __syncwarp();
  unsigned one[1], two[2], four[4];
  const unsigned* row = &stored[4 * lane];
  unsigned* mine = words + 4 * lane;
  load_matrices_x1(one, row);
  mine[0] = one[0];
  load_matrices_x2(two, row);
  for (int i = 0; i < 2; ++i) mine[128 + i] = two[i];
  load_matrices_x4(four, row);
  for (int i = 0; i < 4; ++i) mine[256 + i] = four[i];
  load_matrices_x1_transposed(one, row);
  mine[384] = one[0];
  load_matrices_x2_transposed(two, row);
  for (int i = 0; i < 2; ++i) mine[512 + i] = two[i];
  load_matrices_x4_transposed(four, row);
  for (int i = 0; i < 4; ++i) mine[640 + i] = four[i];
}

// tf32[i] = to_tf32(x[i]); fp16[i], bf16[i] = (x[i], -x[i]) packed; back_... unpacks the lower and the upper number.
extern "C" __global__ void conversions(unsigned* tf32, unsigned* fp16, unsigned* bf16, float2* back_fp16,
                                       float2* back_bf16, const float* x, int count) {
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += gridDim.x * blockDim.x) {
    tf32[i] = to_tf32(x[i]);
    fp16[i] = pack_fp16(x[i], -x[i]);
    bf16[i] = pack_bf16(x[i], -x[i]);
    back_fp16[i] = make_float2(unpack_fp16_low(fp16[i]), unpack_fp16_high(fp16[i]));
    back_bf16[i] = make_float2(unpack_bf16_low(bf16[i]), unpack_bf16_high(bf16[i]));
  }
}
