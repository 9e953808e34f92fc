// rnn_persistent.cuh: the vanilla recurrent layer over whole sequences, its recurrent weights kept on chip.
//
// Contract (recurrent_cells.cuh has the cell; H is hidden; N rows, step after step):
//
//   forward
//   gates        [N, H]      read: x's products and all biases
//   y            [N, H]      written: h, rounded to its type
//   h0           [batch, H]  read
//   h_n          [batch, H]  written: the state behind each sequence's last step
//
//   backward
//   gates        [N, H]      written: da
//   y, grad_y    [N, H]      read
//   dh           [batch, H]  the derivative of the last state is replaced by that of the initial one
//
//   weights      W_hh, a row for each gate's unit, forward; its transpose backward; in rows of D values
//   exchange     [2, batch, D], zero before the launch; null in the kernels named small
//   counter      [1] of grid_barrier.cuh; null in the kernels named small
//   D is H, rounded up to whole sixteen bytes, with zeros there; both count in 32-bit words, which hold two values of a
//   half type.
//
// Parallelisation and launch: recurrent_persistent.cuh. 256 threads, one block a multiprocessor.
//
// Determinism: every element is computed by one thread or warp, every sum in one order; no atomics but the barrier's.
#pragma once

#include "recurrent_persistent.cuh"

struct RnnForward {
  static constexpr int gates = 1;
  const float* gate_rows;
  bool relu;

  __device__ void prefetch(long long row, int unit, int hidden) const {
    prefetch_to_l2(gate_rows + row * hidden + unit);
  }
  template <class Part>
  __device__ float forward(long long row, int unit, int hidden, const Part& part, float, float&) const {
    return rnn_forward(gate_rows[row * hidden + unit] + part(0), relu);
  }
};

template <class Storage>
struct RnnBackward {
  static constexpr int gates = 1;
  float* gate_rows;
  const typename Storage::Value* y;
  bool relu;

  __device__ void prefetch(const RecurrentPlace& place) const {
    prefetch_to_l2(y + place.row * place.hidden + place.unit);
  }
  template <class HandOn>
  __device__ void backward(const RecurrentPlace& place, float& dh, float&, const HandOn& hand_on) const {
    const long long index = place.row * place.hidden + place.unit;
    const float da = rnn_backward(Storage::load(y[index]), dh, relu);
    gate_rows[index] = da;
    hand_on(0, da);
    dh = 0.0f;
  }
};

#define RNN_FORWARD_FLOATS                                                                    \
  const float *gates, float *y, const uint4 *weights, const float *h0, float *h_n, bool relu, \
      uint4 *exchange /* or null */, unsigned *counter /* or null */

#define RNN_BACKWARD_FLOATS                                                                      \
  float *gates, const float *y, const float *grad_y, const uint4 *weights, float *dh, bool relu, \
      uint4 *exchange /* or null */, unsigned *counter /* or null */
