// recurrent_step.cuh: what the kernels of one step of a recurrent layer share.
//
// Rows. y and the gates of all steps are matrices of N rows, step after step; step t has the rows offsets[t] to
// offsets[t + 1], of the sequences 0, 1, ... that take part in it (never more than in step t - 1, whichever way the
// layer goes). The states h and c are (batch, hidden), one row a sequence.
//
// Products. What h_before W_hh^T is in a step comes from gemm.cu as `splits` partial sums, split_stride elements apart,
// which are added in order by the thread that needs them: a step is two launches, not three.
//
// Parallelisation: a thread takes a few neighbouring units of one sequence, sixteen bytes of a Carry, where the hidden
// size and all addresses allow it, else one unit; neighbouring threads take neighbouring units. Any grid is right. Bound
// by memory.
#pragma once

#include "pack.cuh"
#include "recurrent_cells.cuh"

// `row` is the step's first row, `size` the number of sequences that take part. size * hidden is below 2^31.
#define RECURRENT_STEP long long row, int size, int hidden

// Going back: `row_before` is the first row of the step before (in the order the layer went), in which the first
// `before` sequences took part: the others came from their initial state. The first `coming` of them went on to another
// step, from which their gradient has come: that of the others is what the caller gave for their last state.
#define RECURRENT_STEP_BACK long long row, long long row_before, int size, int before, int coming, int hidden

template <typename Carry>
struct PartialSums {
  const Carry* partials;
  int splits;
  long long split_stride;

  template <int Vector>
  __device__ Pack<Carry, Vector> at(long long index) const {
    Pack<Carry, Vector> sum = load_pack<Carry, Vector>(partials + index);
#pragma unroll 4
    for (int split = 1; split < splits; ++split) {
      const Pack<Carry, Vector> more = load_pack<Carry, Vector>(partials + split * split_stride + index);
#pragma unroll
      for (int v = 0; v < Vector; ++v) sum.at[v] += more.at[v];
    }
    return sum;
  }
};

// Elements of sixteen bytes.
template <typename Carry>
constexpr int carry_vector = 16 / sizeof(Carry);

// Whether every address and every row allows that many elements at once. A null pointer does.
template <typename... Pointers>
__device__ bool vectors_fit(int hidden, int vector, Pointers... pointers) {
  return hidden % vector == 0 && ((reinterpret_cast<unsigned long long>(pointers) % 16 == 0) && ...);
}

// Calls body(b, j) for the first of every `Vector` units j of the sequences b < size.
template <int Vector, class Body>
__device__ void for_each_unit(int size, int hidden, const Body& body) {
  const unsigned pieces = hidden / Vector, count = size * pieces, stride = gridDim.x * blockDim.x;
  for (unsigned number = blockIdx.x * blockDim.x + threadIdx.x; number < count; number += stride) {
    body(int(number / pieces), int(number % pieces) * Vector);
  }
}

// `Count` blocks of gates of one row, a pack of each, and back.
template <int Count, typename Carry, int Vector>
__device__ void load_gates(Pack<Carry, Vector> (&gates)[Count], const Carry* row, int hidden) {
#pragma unroll
  for (int gate = 0; gate < Count; ++gate) gates[gate] = load_pack<Carry, Vector>(row + (long long)gate * hidden);
}

template <int Count, typename Carry, int Vector>
__device__ void store_gates(Carry* row, const Pack<Carry, Vector> (&gates)[Count], int hidden) {
#pragma unroll
  for (int gate = 0; gate < Count; ++gate) store_pack(row + (long long)gate * hidden, gates[gate]);
}

template <class Storage, int Vector>
__device__ Pack<typename Storage::Carry, Vector> load_stored(const typename Storage::Value* address) {
  const Pack<typename Storage::Value, Vector> stored = load_pack<typename Storage::Value, Vector>(address);
  Pack<typename Storage::Carry, Vector> loaded;
#pragma unroll
  for (int v = 0; v < Vector; ++v) loaded.at[v] = Storage::load(stored.at[v]);
  return loaded;
}

template <class Storage, int Vector>
__device__ void store_rounded(typename Storage::Value* address, const Pack<typename Storage::Carry, Vector>& pack) {
  Pack<typename Storage::Value, Vector> stored;
#pragma unroll
  for (int v = 0; v < Vector; ++v) stored.at[v] = Storage::store(pack.at[v]);
  store_pack(address, stored);
}

// The derivative by h of step `row`: what its output was given, and what comes from the step behind or from outside.
template <class Storage, int Vector>
__device__ Pack<typename Storage::Carry, Vector> incoming(const typename Storage::Value* grad_y,
                                                          const typename Storage::Carry* dh,
                                                          const PartialSums<typename Storage::Carry>& product,
                                                          long long row, int b, int j, int coming, int hidden) {
  const long long unit = (long long)b * hidden + j;
  auto sum = load_stored<Storage, Vector>(grad_y + (row + b) * hidden + j);
  const auto more =
      b < coming ? product.template at<Vector>(unit) : load_pack<typename Storage::Carry, Vector>(dh + unit);
#pragma unroll
  for (int v = 0; v < Vector; ++v) sum.at[v] += more.at[v];
  return sum;
}

// ---------------------------------------------------------------------------------------------------------------------
// For the kernels that go through whole sequences, one sequence a block.

// `offsets` has steps + 1 numbers.
#define SEQUENCE_STEPS const long long *__restrict__ offsets, int steps, bool reverse, int hidden

// The steps of sequence b, in the order the layer goes through them or against it.
struct SequenceSteps {
  const long long* offsets;
  int steps;
  bool reverse;
  int b;

  // The sequence's row in step t, or -1 where it has none.
  __device__ long long row(int t) const {
    return t >= 0 && t < steps && offsets[t] + b < offsets[t + 1] ? offsets[t] + b : -1;
  }
  // The row of the step before t in the layer's order, or -1: the initial state.
  __device__ long long row_before(int t) const { return row(reverse ? t + 1 : t - 1); }

  template <class Body>
  __device__ void forward(const Body& body) const {
    for (int number = 0; number < steps; ++number) visit(reverse ? steps - 1 - number : number, body);
  }
  template <class Body>
  __device__ void backward(const Body& body) const {
    for (int number = 0; number < steps; ++number) visit(reverse ? number : steps - 1 - number, body);
  }
  template <class Body>
  __device__ void visit(int t, const Body& body) const {
    if (row(t) >= 0) body(row(t), row_before(t));
  }
};

template <typename Carry>
__device__ Carry dot(const Carry* left, const Carry* right, int count, long long right_stride = 1) {
  Carry sum = 0;
#pragma unroll 1
  for (int k = 0; k < count; ++k) sum += left[k] * right[k * right_stride];
  return sum;
}
