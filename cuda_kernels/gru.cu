// gru.cu: the gated recurrent unit, one step at a time.
//
// Contract (recurrent_cells.cuh has the cell, recurrent_step.cuh the rows; H is hidden, the blocks are r, z, n):
//
//   gru_forward    gates       [N, 3H]         read: x's products, b_ih, and b_hh's first two blocks; in the step's rows
//                                              replaced by the activated gates if hidden_part is given
//                  product     [.., size, 3H]  read: h_before W_hh^T, as partial sums
//                  b_hn        [H]             or null
//                  h           [batch, H]      read: h_before; replaced by the state behind the step
//                  hidden_part [N, H]          or null; the step's rows are written: product's third block + b_hn
//                  y           [N, H]          the step's rows are written: h, rounded to its type
//   gru_backward   gates       [N, 3H]         in the step's rows the activated gates are replaced by da
//                  hidden_part, h0, y          read; y and h0 give h_before
//                  grad_y      [N, H], product [.., size, H]    read: parts of h's derivative
//                  dh          [batch, H]      the third part, z times the derivative of the step behind; replaced by
//                                              that of this step
//                  dh_part     [N, 3H]         the step's rows are written: da, its third block times r
//   The caller forms h_before W_hh^T before and dh_part W_hh behind each launch. Nothing else is written.
//
//   The naive kernels go through whole sequences, products included: gru_naive_forward takes the gates as above, and h as
//   the initial state, and leaves the last one there; gru_naive_backward takes dh as the derivative of the last state and
//   leaves that of the initial one.
//
// Parallelisation: one step: recurrent_step.cuh. Naive: a block a sequence, whose threads share the units.
//
// Determinism: every element is computed by one thread, every sum in one order.

#include "recurrent_step.cuh"

template <class Storage, int Vector>
__device__ void gru_forward_units(typename Storage::Carry* gates, const PartialSums<typename Storage::Carry>& product,
                                  const typename Storage::Carry* b_hn, typename Storage::Carry* h,
                                  typename Storage::Carry* hidden_part, typename Storage::Value* y, RECURRENT_STEP) {
  using Carry = typename Storage::Carry;
  for_each_unit<Vector>(size, hidden, [&](int b, int j) {
    const long long unit = (long long)b * hidden + j, place = (row + b) * hidden + j;
    Carry* gate_row = gates + (row + b) * 3 * hidden + j;
    Pack<Carry, Vector> a[3], part[3];
    load_gates(a, gate_row, hidden);
#pragma unroll
    for (int gate = 0; gate < 3; ++gate) {
      part[gate] = product.template at<Vector>(((long long)b * 3 + gate) * hidden + j);
    }
    const auto bias = b_hn == nullptr ? zero_pack<Carry, Vector>() : load_pack<Carry, Vector>(b_hn + j);
    auto state = load_pack<Carry, Vector>(h + unit);
#pragma unroll
    for (int v = 0; v < Vector; ++v) {
      part[2].at[v] += bias.at[v];
      GruGates<Carry> one{a[0].at[v] + part[0].at[v], a[1].at[v] + part[1].at[v], a[2].at[v]};
      state.at[v] = gru_forward(one, part[2].at[v], state.at[v]);
      a[0].at[v] = one.r, a[1].at[v] = one.z, a[2].at[v] = one.n;
    }
    store_pack(h + unit, state);
    store_rounded<Storage>(y + place, state);
    if (hidden_part != nullptr) {
      store_pack(hidden_part + place, part[2]);
      store_gates(gate_row, a, hidden);
    }
  });
}

template <class Storage>
__device__ void gru_forward_step(typename Storage::Carry* gates, const PartialSums<typename Storage::Carry>& product,
                                 const typename Storage::Carry* b_hn, typename Storage::Carry* h,
                                 typename Storage::Carry* hidden_part, typename Storage::Value* y, RECURRENT_STEP) {
  constexpr int vector = carry_vector<typename Storage::Carry>;
  if (vectors_fit(hidden, vector, gates, product.partials, b_hn, h, hidden_part, y)) {
    gru_forward_units<Storage, vector>(gates, product, b_hn, h, hidden_part, y, row, size, hidden);
  } else {
    gru_forward_units<Storage, 1>(gates, product, b_hn, h, hidden_part, y, row, size, hidden);
  }
}

template <class Storage, int Vector>
__device__ void gru_backward_units(typename Storage::Carry* gates, const typename Storage::Carry* hidden_part,
                                   const typename Storage::Carry* h0, const typename Storage::Value* y,
                                   const typename Storage::Value* grad_y, typename Storage::Carry* dh,
                                   const PartialSums<typename Storage::Carry>& product,
                                   typename Storage::Carry* dh_part, RECURRENT_STEP_BACK) {
  using Carry = typename Storage::Carry;
  for_each_unit<Vector>(size, hidden, [&](int b, int j) {
    const long long unit = (long long)b * hidden + j;
    Carry* gate_row = gates + (row + b) * 3 * hidden + j;
    Pack<Carry, Vector> a[3];
    load_gates(a, gate_row, hidden);
    auto total = incoming<Storage, Vector>(grad_y, dh, product, row, b, j, coming, hidden);
    const auto part = load_pack<Carry, Vector>(hidden_part + (row + b) * hidden + j);
    const auto h_before = b < before ? load_stored<Storage, Vector>(y + (row_before + b) * hidden + j)
                                     : load_pack<Carry, Vector>(h0 + unit);
    if (b < coming) {
      const auto direct = load_pack<Carry, Vector>(dh + unit);
#pragma unroll
      for (int v = 0; v < Vector; ++v) total.at[v] += direct.at[v];
    }
    Pack<Carry, Vector> dn_part;
#pragma unroll
    for (int v = 0; v < Vector; ++v) {
      GruGates<Carry> one{a[0].at[v], a[1].at[v], a[2].at[v]};
      dn_part.at[v] = gru_backward(one, part.at[v], h_before.at[v], total.at[v]);
      a[0].at[v] = one.r, a[1].at[v] = one.z, a[2].at[v] = one.n;
    }
    store_pack(dh + unit, total);
    store_gates(gate_row, a, hidden);
    a[2] = dn_part;
    store_gates(dh_part + (row + b) * 3 * hidden + j, a, hidden);
  });
}

template <class Storage>
__device__ void gru_backward_step(typename Storage::Carry* gates, const typename Storage::Carry* hidden_part,
                                  const typename Storage::Carry* h0, const typename Storage::Value* y,
                                  const typename Storage::Value* grad_y, typename Storage::Carry* dh,
                                  const PartialSums<typename Storage::Carry>& product,
                                  typename Storage::Carry* dh_part, RECURRENT_STEP_BACK) {
  constexpr int vector = carry_vector<typename Storage::Carry>;
  if (vectors_fit(hidden, vector, gates, hidden_part, h0, y, grad_y, dh, product.partials, dh_part)) {
    gru_backward_units<Storage, vector>(gates, hidden_part, h0, y, grad_y, dh, product, dh_part, row, row_before, size,
                                        before, coming, hidden);
  } else {
    gru_backward_units<Storage, 1>(gates, hidden_part, h0, y, grad_y, dh, product, dh_part, row, row_before, size,
                                   before, coming, hidden);
  }
}

template <class Storage>
__device__ void gru_naive_forward(typename Storage::Carry* gates, const typename Storage::Carry* w_hh,
                                  const typename Storage::Carry* b_hn, typename Storage::Carry* h,
                                  typename Storage::Carry* hidden_part, typename Storage::Value* y,
                                  const SequenceSteps& sequence, int hidden) {
  using Carry = typename Storage::Carry;
  h += (long long)sequence.b * hidden;
  sequence.forward([&](long long row, long long) {
    Carry* a = gates + row * 3 * hidden;
    Carry* part = hidden_part + row * hidden;
    for (int k = threadIdx.x; k < 3 * hidden; k += blockDim.x) {
      const Carry sum = dot(w_hh + (long long)k * hidden, h, hidden);
      if (k < 2 * hidden) {
        a[k] += sum;
      } else {
        part[k - 2 * hidden] = sum + (b_hn == nullptr ? Carry(0) : b_hn[k - 2 * hidden]);
      }
    }
    __syncthreads();
    for (int j = threadIdx.x; j < hidden; j += blockDim.x) {
      GruGates<Carry> one{a[j], a[hidden + j], a[2 * hidden + j]};
      h[j] = gru_forward(one, part[j], h[j]);
      a[j] = one.r, a[hidden + j] = one.z, a[2 * hidden + j] = one.n;
      y[row * hidden + j] = Storage::store(h[j]);
    }
    __syncthreads();
  });
}

template <class Storage>
__device__ void gru_naive_backward(typename Storage::Carry* gates, const typename Storage::Carry* hidden_part,
                                   const typename Storage::Carry* h0, const typename Storage::Value* y,
                                   const typename Storage::Carry* w_hh, const typename Storage::Value* grad_y,
                                   typename Storage::Carry* dh, typename Storage::Carry* dh_part,
                                   const SequenceSteps& sequence, int hidden) {
  using Carry = typename Storage::Carry;
  h0 += (long long)sequence.b * hidden;
  dh += (long long)sequence.b * hidden;
  sequence.backward([&](long long row, long long row_before) {
    Carry* a = gates + row * 3 * hidden;
    Carry* da = dh_part + row * 3 * hidden;
    for (int j = threadIdx.x; j < hidden; j += blockDim.x) {
      const Carry h_before = row_before < 0 ? h0[j] : Storage::load(y[row_before * hidden + j]);
      GruGates<Carry> one{a[j], a[hidden + j], a[2 * hidden + j]};
      dh[j] += Storage::load(grad_y[row * hidden + j]);
      da[2 * hidden + j] = gru_backward(one, hidden_part[row * hidden + j], h_before, dh[j]);
      a[j] = da[j] = one.r;
      a[hidden + j] = da[hidden + j] = one.z;
      a[2 * hidden + j] = one.n;
    }
    __syncthreads();
    for (int j = threadIdx.x; j < hidden; j += blockDim.x) dh[j] += dot(da, w_hh + j, 3 * hidden, hidden);
    __syncthreads();
  });
}

#define GRU_FORWARD_FLOATS                                                                          \
  float *__restrict__ gates, const float *__restrict__ product, int splits, long long split_stride, \
      const float *__restrict__ b_hn /* or null */, float *__restrict__ h,                          \
      float *__restrict__ hidden_part /* or null */
#define GRU_FORWARD_DOUBLES                                                                           \
  double *__restrict__ gates, const double *__restrict__ product, int splits, long long split_stride, \
      const double *__restrict__ b_hn /* or null */, double *__restrict__ h,                          \
      double *__restrict__ hidden_part /* or null */
#define GRU_FORWARD_ARGUMENTS gates, {product, splits, split_stride}, b_hn, h, hidden_part, y, row, size, hidden

#define GRU_BACKWARD_FLOATS                                                                          \
  float *__restrict__ gates, const float *__restrict__ hidden_part, const float *__restrict__ h0,    \
      float *__restrict__ dh, const float *__restrict__ product, int splits, long long split_stride, \
      float *__restrict__ dh_part
#define GRU_BACKWARD_DOUBLES                                                                           \
  double *__restrict__ gates, const double *__restrict__ hidden_part, const double *__restrict__ h0,   \
      double *__restrict__ dh, const double *__restrict__ product, int splits, long long split_stride, \
      double *__restrict__ dh_part
#define GRU_BACKWARD_ARGUMENTS                                                                                    \
  gates, hidden_part, h0, y, grad_y, dh, {product, splits, split_stride}, dh_part, row, row_before, size, before, \
      coming, hidden

#define GRU_NAIVE_FORWARD_FLOATS                                                                           \
  float *__restrict__ gates, const float *__restrict__ w_hh, const float *__restrict__ b_hn /* or null */, \
      float *__restrict__ h, float *__restrict__ hidden_part
#define GRU_NAIVE_FORWARD_DOUBLES                                            \
  double *__restrict__ gates, const double *__restrict__ w_hh,               \
      const double *__restrict__ b_hn /* or null */, double *__restrict__ h, \
      double *__restrict__ hidden_part
#define GRU_NAIVE_FORWARD_ARGUMENTS \
  gates, w_hh, b_hn, h, hidden_part, y, SequenceSteps{offsets, steps, reverse, int(blockIdx.x)}, hidden

#define GRU_NAIVE_BACKWARD_FLOATS                                                                 \
  float *__restrict__ gates, const float *__restrict__ hidden_part, const float *__restrict__ h0, \
      const float *__restrict__ w_hh, float *__restrict__ dh, float *__restrict__ dh_part
#define GRU_NAIVE_BACKWARD_DOUBLES                                                                   \
  double *__restrict__ gates, const double *__restrict__ hidden_part, const double *__restrict__ h0, \
      const double *__restrict__ w_hh, double *__restrict__ dh, double *__restrict__ dh_part
#define GRU_NAIVE_BACKWARD_ARGUMENTS \
  gates, hidden_part, h0, y, w_hh, grad_y, dh, dh_part, SequenceSteps{offsets, steps, reverse, int(blockIdx.x)}, hidden

// The readable ones: as many blocks as there are sequences.

extern "C" __global__ void __launch_bounds__(256, 4)
    gru_naive_forward_float32(GRU_NAIVE_FORWARD_FLOATS, float* __restrict__ y, SEQUENCE_STEPS) {
  gru_naive_forward<Float32>(GRU_NAIVE_FORWARD_ARGUMENTS);
}

extern "C" __global__ void __launch_bounds__(256, 4)
    gru_naive_backward_float32(GRU_NAIVE_BACKWARD_FLOATS, const float* __restrict__ y, const float* __restrict__ grad_y,
                               SEQUENCE_STEPS) {
  gru_naive_backward<Float32>(GRU_NAIVE_BACKWARD_ARGUMENTS);
}

extern "C" __global__ void __launch_bounds__(256, 4)
    gru_naive_forward_float64(GRU_NAIVE_FORWARD_DOUBLES, double* __restrict__ y, SEQUENCE_STEPS) {
  gru_naive_forward<Float64>(GRU_NAIVE_FORWARD_ARGUMENTS);
}

extern "C" __global__ void __launch_bounds__(256, 4)
    gru_naive_backward_float64(GRU_NAIVE_BACKWARD_DOUBLES, const double* __restrict__ y,
                               const double* __restrict__ grad_y, SEQUENCE_STEPS) {
  gru_naive_backward<Float64>(GRU_NAIVE_BACKWARD_ARGUMENTS);
}

extern "C" __global__ void __launch_bounds__(256, 4)
    gru_naive_forward_float16(GRU_NAIVE_FORWARD_FLOATS, unsigned short* __restrict__ y, SEQUENCE_STEPS) {
  gru_naive_forward<Float16>(GRU_NAIVE_FORWARD_ARGUMENTS);
}

extern "C" __global__ void __launch_bounds__(256, 4)
    gru_naive_backward_float16(GRU_NAIVE_BACKWARD_FLOATS, const unsigned short* __restrict__ y,
                               const unsigned short* __restrict__ grad_y, SEQUENCE_STEPS) {
  gru_naive_backward<Float16>(GRU_NAIVE_BACKWARD_ARGUMENTS);
}

extern "C" __global__ void __launch_bounds__(256, 4)
    gru_naive_forward_bfloat16(GRU_NAIVE_FORWARD_FLOATS, unsigned short* __restrict__ y, SEQUENCE_STEPS) {
  gru_naive_forward<BFloat16>(GRU_NAIVE_FORWARD_ARGUMENTS);
}

extern "C" __global__ void __launch_bounds__(256, 4)
    gru_naive_backward_bfloat16(GRU_NAIVE_BACKWARD_FLOATS, const unsigned short* __restrict__ y,
                                const unsigned short* __restrict__ grad_y, SEQUENCE_STEPS) {
  gru_naive_backward<BFloat16>(GRU_NAIVE_BACKWARD_ARGUMENTS);
}

// The fast ones, for one step.

extern "C" __global__ void __launch_bounds__(256, 4)
    gru_forward_float32(GRU_FORWARD_FLOATS, float* __restrict__ y, RECURRENT_STEP) {
  gru_forward_step<Float32>(GRU_FORWARD_ARGUMENTS);
}

extern "C" __global__ void __launch_bounds__(256, 4)
    gru_backward_float32(GRU_BACKWARD_FLOATS, const float* __restrict__ y, const float* __restrict__ grad_y,
                         RECURRENT_STEP_BACK) {
  gru_backward_step<Float32>(GRU_BACKWARD_ARGUMENTS);
}

extern "C" __global__ void __launch_bounds__(256, 4)
    gru_forward_float64(GRU_FORWARD_DOUBLES, double* __restrict__ y, RECURRENT_STEP) {
  gru_forward_step<Float64>(GRU_FORWARD_ARGUMENTS);
}

extern "C" __global__ void __launch_bounds__(256, 4)
    gru_backward_float64(GRU_BACKWARD_DOUBLES, const double* __restrict__ y, const double* __restrict__ grad_y,
                         RECURRENT_STEP_BACK) {
  gru_backward_step<Float64>(GRU_BACKWARD_ARGUMENTS);
}

extern "C" __global__ void __launch_bounds__(256, 4)
    gru_forward_float16(GRU_FORWARD_FLOATS, unsigned short* __restrict__ y, RECURRENT_STEP) {
  gru_forward_step<Float16>(GRU_FORWARD_ARGUMENTS);
}

extern "C" __global__ void __launch_bounds__(256, 4)
    gru_backward_float16(GRU_BACKWARD_FLOATS, const unsigned short* __restrict__ y,
                         const unsigned short* __restrict__ grad_y, RECURRENT_STEP_BACK) {
  gru_backward_step<Float16>(GRU_BACKWARD_ARGUMENTS);
}

extern "C" __global__ void __launch_bounds__(256, 4)
    gru_forward_bfloat16(GRU_FORWARD_FLOATS, unsigned short* __restrict__ y, RECURRENT_STEP) {
  gru_forward_step<BFloat16>(GRU_FORWARD_ARGUMENTS);
}

extern "C" __global__ void __launch_bounds__(256, 4)
    gru_backward_bfloat16(GRU_BACKWARD_FLOATS, const unsigned short* __restrict__ y,
                          const unsigned short* __restrict__ grad_y, RECURRENT_STEP_BACK) {
  gru_backward_step<BFloat16>(GRU_BACKWARD_ARGUMENTS);
}
