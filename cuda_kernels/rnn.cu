// rnn.cu: the vanilla recurrent layer, one step at a time.
//
// Contract (recurrent_cells.cuh has the cell, recurrent_step.cuh the rows; H is hidden):
//
//   rnn_forward    gates    [N, H]         read: x's products and all biases
//                  product  [.., size, H]  read: h_before W_hh^T, as partial sums
//                  h        [batch, H]     the state behind the step is written
//                  y        [N, H]         the step's rows are written: h, rounded to its type
//   rnn_backward   gates    [N, H]         the step's rows are written: da
//                  y        [N, H]         read
//                  grad_y   [N, H], dh [batch, H], product [.., size, H]    read: the three ways to h's derivative
//   The caller forms h_before W_hh^T before and da W_hh behind each launch. Nothing else is written.
//
//   The naive kernels go through whole sequences, products included: rnn_naive_forward takes the gates as above, and
//   replaces them by a; it takes h as the initial state and leaves the last one there. rnn_naive_backward takes dh as
//   the derivative of the last state and leaves that of the initial one.
//
// Parallelisation: one step: recurrent_step.cuh. Naive: a block a sequence, whose threads share the units.
//
// Determinism: every element is computed by one thread, every sum in one order.

#include "recurrent_step.cuh"

template <class Storage, int Vector>
__device__ void rnn_forward_units(const typename Storage::Carry* gates,
                                  const PartialSums<typename Storage::Carry>& product, typename Storage::Carry* h,
                                  bool relu, typename Storage::Value* y, RECURRENT_STEP) {
  using Carry = typename Storage::Carry;
  for_each_unit<Vector>(size, hidden, [&](int b, int j) {
    const long long unit = (long long)b * hidden + j, place = (row + b) * hidden + j;
    auto a = load_pack<Carry, Vector>(gates + place);
    const auto part = product.template at<Vector>(unit);
#pragma unroll
    for (int v = 0; v < Vector; ++v) a.at[v] = rnn_forward(a.at[v] + part.at[v], relu);
    store_pack(h + unit, a);
    store_rounded<Storage>(y + place, a);
  });
}

template <class Storage>
__device__ void rnn_forward_step(const typename Storage::Carry* gates,
                                 const PartialSums<typename Storage::Carry>& product, typename Storage::Carry* h,
                                 bool relu, typename Storage::Value* y, RECURRENT_STEP) {
  constexpr int vector = carry_vector<typename Storage::Carry>;
  if (vectors_fit(hidden, vector, gates, product.partials, h, y)) {
    rnn_forward_units<Storage, vector>(gates, product, h, relu, y, row, size, hidden);
  } else {
    rnn_forward_units<Storage, 1>(gates, product, h, relu, y, row, size, hidden);
  }
}

template <class Storage, int Vector>
__device__ void rnn_backward_units(typename Storage::Carry* gates, const typename Storage::Value* y,
                                   const typename Storage::Value* grad_y, const typename Storage::Carry* dh,
                                   const PartialSums<typename Storage::Carry>& product, bool relu, long long row,
                                   int size, int coming, int hidden) {
  for_each_unit<Vector>(size, hidden, [&](int b, int j) {
    const long long place = (row + b) * hidden + j;
    auto da = incoming<Storage, Vector>(grad_y, dh, product, row, b, j, coming, hidden);
    const auto h = load_stored<Storage, Vector>(y + place);
#pragma unroll
    for (int v = 0; v < Vector; ++v) da.at[v] = rnn_backward(h.at[v], da.at[v], relu);
    store_pack(gates + place, da);
  });
}

template <class Storage>
__device__ void rnn_backward_step(typename Storage::Carry* gates, const typename Storage::Value* y,
                                  const typename Storage::Value* grad_y, const typename Storage::Carry* dh,
                                  const PartialSums<typename Storage::Carry>& product, bool relu, long long row,
                                  int size, int coming, int hidden) {
  constexpr int vector = carry_vector<typename Storage::Carry>;
  if (vectors_fit(hidden, vector, gates, y, grad_y, dh, product.partials)) {
    rnn_backward_units<Storage, vector>(gates, y, grad_y, dh, product, relu, row, size, coming, hidden);
  } else {
    rnn_backward_units<Storage, 1>(gates, y, grad_y, dh, product, relu, row, size, coming, hidden);
  }
}

template <class Storage>
__device__ void rnn_naive_forward(typename Storage::Carry* gates, const typename Storage::Carry* w_hh,
                                  typename Storage::Carry* h, bool relu, typename Storage::Value* y,
                                  const SequenceSteps& sequence, int hidden) {
  h += (long long)sequence.b * hidden;
  sequence.forward([&](long long row, long long) {
    typename Storage::Carry* a = gates + row * hidden;
    for (int k = threadIdx.x; k < hidden; k += blockDim.x) a[k] += dot(w_hh + (long long)k * hidden, h, hidden);
    __syncthreads();
    for (int j = threadIdx.x; j < hidden; j += blockDim.x) {
      h[j] = rnn_forward(a[j], relu);
      y[row * hidden + j] = Storage::store(h[j]);
    }
    __syncthreads();
  });
}

template <class Storage>
__device__ void rnn_naive_backward(typename Storage::Carry* gates, const typename Storage::Value* y,
                                   const typename Storage::Carry* w_hh, const typename Storage::Value* grad_y,
                                   typename Storage::Carry* dh, bool relu, const SequenceSteps& sequence, int hidden) {
  dh += (long long)sequence.b * hidden;
  sequence.backward([&](long long row, long long) {
    typename Storage::Carry* da = gates + row * hidden;
    for (int j = threadIdx.x; j < hidden; j += blockDim.x) {
      const auto h = Storage::load(y[row * hidden + j]);
      da[j] = rnn_backward(h, dh[j] + Storage::load(grad_y[row * hidden + j]), relu);
    }
    __syncthreads();
    for (int j = threadIdx.x; j < hidden; j += blockDim.x) dh[j] = dot(da, w_hh + j, hidden, hidden);
    __syncthreads();
  });
}

#define RNN_FORWARD_FLOATS                                                                                \
  const float *__restrict__ gates, const float *__restrict__ product, int splits, long long split_stride, \
      float *__restrict__ h, bool relu
#define RNN_FORWARD_DOUBLES                                                                                 \
  const double *__restrict__ gates, const double *__restrict__ product, int splits, long long split_stride, \
      double *__restrict__ h, bool relu
#define RNN_FORWARD_ARGUMENTS gates, {product, splits, split_stride}, h, relu, y, row, size, hidden

#define RNN_BACKWARD_FLOATS                                                                               \
  float *__restrict__ gates, const float *__restrict__ dh, const float *__restrict__ product, int splits, \
      long long split_stride, bool relu
#define RNN_BACKWARD_DOUBLES                                                                     \
  double *__restrict__ gates, const double *__restrict__ dh, const double *__restrict__ product, \
      int splits, long long split_stride, bool relu
#define RNN_BACKWARD_ARGUMENTS gates, y, grad_y, dh, {product, splits, split_stride}, relu, row, size, coming, hidden

#define RNN_NAIVE_FORWARD_FLOATS                                                              \
  float *__restrict__ gates, const float *__restrict__ w_hh, float *__restrict__ h, bool relu
#define RNN_NAIVE_FORWARD_DOUBLES                                                                \
  double *__restrict__ gates, const double *__restrict__ w_hh, double *__restrict__ h, bool relu
#define RNN_NAIVE_FORWARD_ARGUMENTS \
  gates, w_hh, h, relu, y, SequenceSteps{offsets, steps, reverse, int(blockIdx.x)}, hidden

#define RNN_NAIVE_BACKWARD_FLOATS                                                              \
  float *__restrict__ gates, const float *__restrict__ w_hh, float *__restrict__ dh, bool relu
#define RNN_NAIVE_BACKWARD_DOUBLES                                                                \
  double *__restrict__ gates, const double *__restrict__ w_hh, double *__restrict__ dh, bool relu
#define RNN_NAIVE_BACKWARD_ARGUMENTS \
  gates, y, w_hh, grad_y, dh, relu, SequenceSteps{offsets, steps, reverse, int(blockIdx.x)}, hidden

// The readable ones: as many blocks as there are sequences.

extern "C" __global__ void __launch_bounds__(256, 4)
    rnn_naive_forward_float32(RNN_NAIVE_FORWARD_FLOATS, float* __restrict__ y, SEQUENCE_STEPS) {
  rnn_naive_forward<Float32>(RNN_NAIVE_FORWARD_ARGUMENTS);
}

extern "C" __global__ void __launch_bounds__(256, 4)
    rnn_naive_backward_float32(RNN_NAIVE_BACKWARD_FLOATS, const float* __restrict__ y, const float* __restrict__ grad_y,
                               SEQUENCE_STEPS) {
  rnn_naive_backward<Float32>(RNN_NAIVE_BACKWARD_ARGUMENTS);
}

extern "C" __global__ void __launch_bounds__(256, 4)
    rnn_naive_forward_float64(RNN_NAIVE_FORWARD_DOUBLES, double* __restrict__ y, SEQUENCE_STEPS) {
  rnn_naive_forward<Float64>(RNN_NAIVE_FORWARD_ARGUMENTS);
}

extern "C" __global__ void __launch_bounds__(256, 4)
    rnn_naive_backward_float64(RNN_NAIVE_BACKWARD_DOUBLES, const double* __restrict__ y,
                               const double* __restrict__ grad_y, SEQUENCE_STEPS) {
  rnn_naive_backward<Float64>(RNN_NAIVE_BACKWARD_ARGUMENTS);
}

extern "C" __global__ void __launch_bounds__(256, 4)
    rnn_naive_forward_float16(RNN_NAIVE_FORWARD_FLOATS, unsigned short* __restrict__ y, SEQUENCE_STEPS) {
  rnn_naive_forward<Float16>(RNN_NAIVE_FORWARD_ARGUMENTS);
}

extern "C" __global__ void __launch_bounds__(256, 4)
    rnn_naive_backward_float16(RNN_NAIVE_BACKWARD_FLOATS, const unsigned short* __restrict__ y,
                               const unsigned short* __restrict__ grad_y, SEQUENCE_STEPS) {
  rnn_naive_backward<Float16>(RNN_NAIVE_BACKWARD_ARGUMENTS);
}

extern "C" __global__ void __launch_bounds__(256, 4)
    rnn_naive_forward_bfloat16(RNN_NAIVE_FORWARD_FLOATS, unsigned short* __restrict__ y, SEQUENCE_STEPS) {
  rnn_naive_forward<BFloat16>(RNN_NAIVE_FORWARD_ARGUMENTS);
}

extern "C" __global__ void __launch_bounds__(256, 4)
    rnn_naive_backward_bfloat16(RNN_NAIVE_BACKWARD_FLOATS, const unsigned short* __restrict__ y,
                                const unsigned short* __restrict__ grad_y, SEQUENCE_STEPS) {
  rnn_naive_backward<BFloat16>(RNN_NAIVE_BACKWARD_ARGUMENTS);
}

// The fast ones, for one step.

extern "C" __global__ void __launch_bounds__(256, 4)
    rnn_forward_float32(RNN_FORWARD_FLOATS, float* __restrict__ y, RECURRENT_STEP) {
  rnn_forward_step<Float32>(RNN_FORWARD_ARGUMENTS);
}

extern "C" __global__ void __launch_bounds__(256, 4)
    rnn_backward_float32(RNN_BACKWARD_FLOATS, const float* __restrict__ y, const float* __restrict__ grad_y,
                         RECURRENT_STEP_BACK) {
  rnn_backward_step<Float32>(RNN_BACKWARD_ARGUMENTS);
}

extern "C" __global__ void __launch_bounds__(256, 4)
    rnn_forward_float64(RNN_FORWARD_DOUBLES, double* __restrict__ y, RECURRENT_STEP) {
  rnn_forward_step<Float64>(RNN_FORWARD_ARGUMENTS);
}

extern "C" __global__ void __launch_bounds__(256, 4)
    rnn_backward_float64(RNN_BACKWARD_DOUBLES, const double* __restrict__ y, const double* __restrict__ grad_y,
                         RECURRENT_STEP_BACK) {
  rnn_backward_step<Float64>(RNN_BACKWARD_ARGUMENTS);
}

extern "C" __global__ void __launch_bounds__(256, 4)
    rnn_forward_float16(RNN_FORWARD_FLOATS, unsigned short* __restrict__ y, RECURRENT_STEP) {
  rnn_forward_step<Float16>(RNN_FORWARD_ARGUMENTS);
}

extern "C" __global__ void __launch_bounds__(256, 4)
    rnn_backward_float16(RNN_BACKWARD_FLOATS, const unsigned short* __restrict__ y,
                         const unsigned short* __restrict__ grad_y, RECURRENT_STEP_BACK) {
  rnn_backward_step<Float16>(RNN_BACKWARD_ARGUMENTS);
}

extern "C" __global__ void __launch_bounds__(256, 4)
    rnn_forward_bfloat16(RNN_FORWARD_FLOATS, unsigned short* __restrict__ y, RECURRENT_STEP) {
  rnn_forward_step<BFloat16>(RNN_FORWARD_ARGUMENTS);
}

extern "C" __global__ void __launch_bounds__(256, 4)
    rnn_backward_bfloat16(RNN_BACKWARD_FLOATS, const unsigned short* __restrict__ y,
                          const unsigned short* __restrict__ grad_y, RECURRENT_STEP_BACK) {
  rnn_backward_step<BFloat16>(RNN_BACKWARD_ARGUMENTS);
}
