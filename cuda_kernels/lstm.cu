// lstm.cu: the long short-term memory, one step at a time.
//
// Contract (recurrent_cells.cuh has the cell, recurrent_step.cuh the rows; H is hidden, the blocks are i, f, g, o):
//
//   lstm_forward    gates    [N, 4H]        read: x's products and all biases; in the step's rows replaced by the
//                                           activated gates if cells is given
//                   product  [.., size, 4H] read: h_before W_hh^T, as partial sums
//                   c, h     [batch, H]     c is read; both are replaced by the states behind the step
//                   cells    [N, H]         or null; the step's rows are written: c
//                   y        [N, H]         the step's rows are written: h, rounded to its type
//   lstm_backward   gates    [N, 4H]        in the step's rows the activated gates are replaced by da
//                   cells, c0               read: the states behind the steps, and the initial one
//                   grad_y   [N, H], dh [batch, H], product [.., size, H]    read: the three ways to h's derivative
//                   dc       [batch, H]     c's derivative is replaced by c_before's
//   The caller forms h_before W_hh^T before and da W_hh behind each launch. Nothing else is written.
//
//   The naive kernels go through whole sequences, products included: lstm_naive_forward takes the gates as above, h and c
//   as the initial states and leaves the last ones there; lstm_naive_backward takes dh and dc as the derivatives of the
//   last states and leaves those of the initial ones. offsets is [steps + 1].
//
// Parallelisation: one step: recurrent_step.cuh. Naive: a block a sequence, whose threads share the units.
//
// Determinism: every element is computed by one thread, every sum in one order.

#include "recurrent_step.cuh"

template <class Storage, int Vector>
__device__ void lstm_forward_units(typename Storage::Carry* gates, const PartialSums<typename Storage::Carry>& product,
                                   typename Storage::Carry* c, typename Storage::Carry* h,
                                   typename Storage::Carry* cells, typename Storage::Value* y, RECURRENT_STEP) {
  using Carry = typename Storage::Carry;
  for_each_unit<Vector>(size, hidden, [&](int b, int j) {
    const long long unit = (long long)b * hidden + j, place = (row + b) * hidden + j;
    Carry* gate_row = gates + (row + b) * 4 * hidden + j;
    Pack<Carry, Vector> a[4];
    load_gates(a, gate_row, hidden);
#pragma unroll
    for (int gate = 0; gate < 4; ++gate) {
      const auto part = product.template at<Vector>(((long long)b * 4 + gate) * hidden + j);
#pragma unroll
      for (int v = 0; v < Vector; ++v) a[gate].at[v] += part.at[v];
    }
    auto state = load_pack<Carry, Vector>(c + unit);
    Pack<Carry, Vector> output;
#pragma unroll
    for (int v = 0; v < Vector; ++v) {
      LstmGates<Carry> one{a[0].at[v], a[1].at[v], a[2].at[v], a[3].at[v]};
      output.at[v] = lstm_forward(one, state.at[v]);
      a[0].at[v] = one.i, a[1].at[v] = one.f, a[2].at[v] = one.g, a[3].at[v] = one.o;
    }
    store_pack(c + unit, state);
    store_pack(h + unit, output);
    store_rounded<Storage>(y + place, output);
    if (cells != nullptr) {
      store_pack(cells + place, state);
      store_gates(gate_row, a, hidden);
    }
  });
}

template <class Storage>
__device__ void lstm_forward_step(typename Storage::Carry* gates, const PartialSums<typename Storage::Carry>& product,
                                  typename Storage::Carry* c, typename Storage::Carry* h,
                                  typename Storage::Carry* cells, typename Storage::Value* y, RECURRENT_STEP) {
  constexpr int vector = carry_vector<typename Storage::Carry>;
  if (vectors_fit(hidden, vector, gates, product.partials, c, h, cells, y)) {
    lstm_forward_units<Storage, vector>(gates, product, c, h, cells, y, row, size, hidden);
  } else {
    lstm_forward_units<Storage, 1>(gates, product, c, h, cells, y, row, size, hidden);
  }
}

template <class Storage, int Vector>
__device__ void lstm_backward_units(typename Storage::Carry* gates, const typename Storage::Carry* cells,
                                    const typename Storage::Carry* c0, const typename Storage::Value* grad_y,
                                    const typename Storage::Carry* dh,
                                    const PartialSums<typename Storage::Carry>& product, typename Storage::Carry* dc,
                                    RECURRENT_STEP_BACK) {
  using Carry = typename Storage::Carry;
  for_each_unit<Vector>(size, hidden, [&](int b, int j) {
    const long long unit = (long long)b * hidden + j;
    Carry* gate_row = gates + (row + b) * 4 * hidden + j;
    Pack<Carry, Vector> a[4];
    load_gates(a, gate_row, hidden);
    const auto dh_total = incoming<Storage, Vector>(grad_y, dh, product, row, b, j, coming, hidden);
    const auto state = load_pack<Carry, Vector>(cells + (row + b) * hidden + j);
    const auto state_before =
        load_pack<Carry, Vector>(b < before ? cells + (row_before + b) * hidden + j : c0 + unit);
    auto dc_total = load_pack<Carry, Vector>(dc + unit);
#pragma unroll
    for (int v = 0; v < Vector; ++v) {
      LstmGates<Carry> one{a[0].at[v], a[1].at[v], a[2].at[v], a[3].at[v]};
      lstm_backward(one, state_before.at[v], state.at[v], dh_total.at[v], dc_total.at[v]);
      a[0].at[v] = one.i, a[1].at[v] = one.f, a[2].at[v] = one.g, a[3].at[v] = one.o;
    }
    store_pack(dc + unit, dc_total);
    store_gates(gate_row, a, hidden);
  });
}

template <class Storage>
__device__ void lstm_backward_step(typename Storage::Carry* gates, const typename Storage::Carry* cells,
                                   const typename Storage::Carry* c0, const typename Storage::Value* grad_y,
                                   const typename Storage::Carry* dh,
                                   const PartialSums<typename Storage::Carry>& product, typename Storage::Carry* dc,
                                   RECURRENT_STEP_BACK) {
  constexpr int vector = carry_vector<typename Storage::Carry>;
  if (vectors_fit(hidden, vector, gates, cells, c0, grad_y, dh, product.partials, dc)) {
    lstm_backward_units<Storage, vector>(gates, cells, c0, grad_y, dh, product, dc, row, row_before, size, before,
                                         coming, hidden);
  } else {
    lstm_backward_units<Storage, 1>(gates, cells, c0, grad_y, dh, product, dc, row, row_before, size, before, coming,
                                    hidden);
  }
}

template <class Storage>
__device__ void lstm_naive_forward(typename Storage::Carry* gates, const typename Storage::Carry* w_hh,
                                   typename Storage::Carry* c, typename Storage::Carry* h,
                                   typename Storage::Carry* cells, typename Storage::Value* y,
                                   const SequenceSteps& sequence, int hidden) {
  using Carry = typename Storage::Carry;
  c += (long long)sequence.b * hidden;
  h += (long long)sequence.b * hidden;
  sequence.forward([&](long long row, long long) {
    Carry* a = gates + row * 4 * hidden;
    for (int k = threadIdx.x; k < 4 * hidden; k += blockDim.x) a[k] += dot(w_hh + (long long)k * hidden, h, hidden);
    __syncthreads();
    for (int j = threadIdx.x; j < hidden; j += blockDim.x) {
      LstmGates<Carry> one{a[j], a[hidden + j], a[2 * hidden + j], a[3 * hidden + j]};
      h[j] = lstm_forward(one, c[j]);
      a[j] = one.i, a[hidden + j] = one.f, a[2 * hidden + j] = one.g, a[3 * hidden + j] = one.o;
      cells[row * hidden + j] = c[j];
      y[row * hidden + j] = Storage::store(h[j]);
    }
    __syncthreads();
  });
}

template <class Storage>
__device__ void lstm_naive_backward(typename Storage::Carry* gates, const typename Storage::Carry* cells,
                                    const typename Storage::Carry* c0, const typename Storage::Carry* w_hh,
                                    const typename Storage::Value* grad_y, typename Storage::Carry* dh,
                                    typename Storage::Carry* dc, const SequenceSteps& sequence, int hidden) {
  using Carry = typename Storage::Carry;
  c0 += (long long)sequence.b * hidden;
  dh += (long long)sequence.b * hidden;
  dc += (long long)sequence.b * hidden;
  sequence.backward([&](long long row, long long row_before) {
    Carry* a = gates + row * 4 * hidden;
    const Carry* c = cells + row * hidden;
    const Carry* c_before = row_before < 0 ? c0 : cells + row_before * hidden;
    for (int j = threadIdx.x; j < hidden; j += blockDim.x) {
      LstmGates<Carry> one{a[j], a[hidden + j], a[2 * hidden + j], a[3 * hidden + j]};
      lstm_backward(one, c_before[j], c[j], dh[j] + Storage::load(grad_y[row * hidden + j]), dc[j]);
      a[j] = one.i, a[hidden + j] = one.f, a[2 * hidden + j] = one.g, a[3 * hidden + j] = one.o;
    }
    __syncthreads();
    for (int j = threadIdx.x; j < hidden; j += blockDim.x) dh[j] = dot(a, w_hh + j, 4 * hidden, hidden);
    __syncthreads();
  });
}

#define LSTM_FORWARD_FLOATS                                                                         \
  float *__restrict__ gates, const float *__restrict__ product, int splits, long long split_stride, \
      float *__restrict__ c, float *__restrict__ h, float *__restrict__ cells /* or null */
#define LSTM_FORWARD_DOUBLES                                                                          \
  double *__restrict__ gates, const double *__restrict__ product, int splits, long long split_stride, \
      double *__restrict__ c, double *__restrict__ h, double *__restrict__ cells /* or null */
#define LSTM_FORWARD_ARGUMENTS gates, {product, splits, split_stride}, c, h, cells, y, row, size, hidden

#define LSTM_BACKWARD_FLOATS                                                                               \
  float *__restrict__ gates, const float *__restrict__ cells, const float *__restrict__ c0,                \
      const float *__restrict__ dh, const float *__restrict__ product, int splits, long long split_stride, \
      float *__restrict__ dc
#define LSTM_BACKWARD_DOUBLES                                                                  \
  double *__restrict__ gates, const double *__restrict__ cells, const double *__restrict__ c0, \
      const double *__restrict__ dh, const double *__restrict__ product, int splits,           \
      long long split_stride, double *__restrict__ dc
#define LSTM_BACKWARD_ARGUMENTS \
  gates, cells, c0, grad_y, dh, {product, splits, split_stride}, dc, row, row_before, size, before, coming, hidden

#define LSTM_NAIVE_FORWARD_FLOATS                                                                          \
  float *__restrict__ gates, const float *__restrict__ w_hh, float *__restrict__ c, float *__restrict__ h, \
      float *__restrict__ cells
#define LSTM_NAIVE_FORWARD_DOUBLES                                                     \
  double *__restrict__ gates, const double *__restrict__ w_hh, double *__restrict__ c, \
      double *__restrict__ h, double *__restrict__ cells
#define LSTM_NAIVE_FORWARD_ARGUMENTS \
  gates, w_hh, c, h, cells, y, SequenceSteps{offsets, steps, reverse, int(blockIdx.x)}, hidden

#define LSTM_NAIVE_BACKWARD_FLOATS                                                          \
  float *__restrict__ gates, const float *__restrict__ cells, const float *__restrict__ c0, \
      const float *__restrict__ w_hh, float *__restrict__ dh, float *__restrict__ dc
#define LSTM_NAIVE_BACKWARD_DOUBLES                                                            \
  double *__restrict__ gates, const double *__restrict__ cells, const double *__restrict__ c0, \
      const double *__restrict__ w_hh, double *__restrict__ dh, double *__restrict__ dc
#define LSTM_NAIVE_BACKWARD_ARGUMENTS \
  gates, cells, c0, w_hh, grad_y, dh, dc, SequenceSteps{offsets, steps, reverse, int(blockIdx.x)}, hidden

// The readable ones: as many blocks as there are sequences.

extern "C" __global__ void __launch_bounds__(256, 3)
    lstm_naive_forward_float32(LSTM_NAIVE_FORWARD_FLOATS, float* __restrict__ y, SEQUENCE_STEPS) {
  lstm_naive_forward<Float32>(LSTM_NAIVE_FORWARD_ARGUMENTS);
}

extern "C" __global__ void __launch_bounds__(256, 3)
    lstm_naive_backward_float32(LSTM_NAIVE_BACKWARD_FLOATS, const float* __restrict__ grad_y, SEQUENCE_STEPS) {
  lstm_naive_backward<Float32>(LSTM_NAIVE_BACKWARD_ARGUMENTS);
}

extern "C" __global__ void __launch_bounds__(256, 3)
    lstm_naive_forward_float64(LSTM_NAIVE_FORWARD_DOUBLES, double* __restrict__ y, SEQUENCE_STEPS) {
  lstm_naive_forward<Float64>(LSTM_NAIVE_FORWARD_ARGUMENTS);
}

extern "C" __global__ void __launch_bounds__(256, 3)
    lstm_naive_backward_float64(LSTM_NAIVE_BACKWARD_DOUBLES, const double* __restrict__ grad_y, SEQUENCE_STEPS) {
  lstm_naive_backward<Float64>(LSTM_NAIVE_BACKWARD_ARGUMENTS);
}

extern "C" __global__ void __launch_bounds__(256, 3)
    lstm_naive_forward_float16(LSTM_NAIVE_FORWARD_FLOATS, unsigned short* __restrict__ y, SEQUENCE_STEPS) {
  lstm_naive_forward<Float16>(LSTM_NAIVE_FORWARD_ARGUMENTS);
}

extern "C" __global__ void __launch_bounds__(256, 3)
    lstm_naive_backward_float16(LSTM_NAIVE_BACKWARD_FLOATS, const unsigned short* __restrict__ grad_y, SEQUENCE_STEPS) {
  lstm_naive_backward<Float16>(LSTM_NAIVE_BACKWARD_ARGUMENTS);
}

extern "C" __global__ void __launch_bounds__(256, 3)
    lstm_naive_forward_bfloat16(LSTM_NAIVE_FORWARD_FLOATS, unsigned short* __restrict__ y, SEQUENCE_STEPS) {
  lstm_naive_forward<BFloat16>(LSTM_NAIVE_FORWARD_ARGUMENTS);
}

extern "C" __global__ void __launch_bounds__(256, 3)
    lstm_naive_backward_bfloat16(LSTM_NAIVE_BACKWARD_FLOATS, const unsigned short* __restrict__ grad_y,
                                 SEQUENCE_STEPS) {
  lstm_naive_backward<BFloat16>(LSTM_NAIVE_BACKWARD_ARGUMENTS);
}

// The fast ones, for one step.

extern "C" __global__ void __launch_bounds__(256, 3)
    lstm_forward_float32(LSTM_FORWARD_FLOATS, float* __restrict__ y, RECURRENT_STEP) {
  lstm_forward_step<Float32>(LSTM_FORWARD_ARGUMENTS);
}

extern "C" __global__ void __launch_bounds__(256, 3)
    lstm_backward_float32(LSTM_BACKWARD_FLOATS, const float* __restrict__ grad_y, RECURRENT_STEP_BACK) {
  lstm_backward_step<Float32>(LSTM_BACKWARD_ARGUMENTS);
}

extern "C" __global__ void __launch_bounds__(256, 3)
    lstm_forward_float64(LSTM_FORWARD_DOUBLES, double* __restrict__ y, RECURRENT_STEP) {
  lstm_forward_step<Float64>(LSTM_FORWARD_ARGUMENTS);
}

extern "C" __global__ void __launch_bounds__(256, 3)
    lstm_backward_float64(LSTM_BACKWARD_DOUBLES, const double* __restrict__ grad_y, RECURRENT_STEP_BACK) {
  lstm_backward_step<Float64>(LSTM_BACKWARD_ARGUMENTS);
}

extern "C" __global__ void __launch_bounds__(256, 3)
    lstm_forward_float16(LSTM_FORWARD_FLOATS, unsigned short* __restrict__ y, RECURRENT_STEP) {
  lstm_forward_step<Float16>(LSTM_FORWARD_ARGUMENTS);
}

extern "C" __global__ void __launch_bounds__(256, 3)
    lstm_backward_float16(LSTM_BACKWARD_FLOATS, const unsigned short* __restrict__ grad_y, RECURRENT_STEP_BACK) {
  lstm_backward_step<Float16>(LSTM_BACKWARD_ARGUMENTS);
}

extern "C" __global__ void __launch_bounds__(256, 3)
    lstm_forward_bfloat16(LSTM_FORWARD_FLOATS, unsigned short* __restrict__ y, RECURRENT_STEP) {
  lstm_forward_step<BFloat16>(LSTM_FORWARD_ARGUMENTS);
}

extern "C" __global__ void __launch_bounds__(256, 3)
    lstm_backward_bfloat16(LSTM_BACKWARD_FLOATS, const unsigned short* __restrict__ grad_y, RECURRENT_STEP_BACK) {
  lstm_backward_step<BFloat16>(LSTM_BACKWARD_ARGUMENTS);
}
