// lstm_persistent.cuh: the long short-term memory over whole sequences, its recurrent weights kept on chip.
//
// Contract (recurrent_cells.cuh has the cell; H is hidden, the blocks are i, f, g, o; N rows, step after step):
//
//   forward
//   gates        [N, 4H]     read: x's products and all biases; replaced by the activated gates if cells is given
//   cells        [N, H]      written: c; or null
//   y            [N, H]      written: h, rounded to its type
//   h0, c0       [batch, H]  read
//   h_n, c_n     [batch, H]  written: the states behind each sequence's last step
//
//   backward
//   gates        [N, 4H]     the activated gates are replaced by da
//   cells, grad_y  [N, H]    read
//   c0           [batch, H]  read
//   dh, dc       [batch, H]  the derivatives of the last states are replaced by those of the initial ones
//
//   weights      W_hh, a row for each gate's unit, forward; its transpose backward; in rows of D values
//   exchange     [2, batch, D], zero before the launch; null in the kernels named small
//   counter      [1] of grid_barrier.cuh; null in the kernels named small
//   D is H forward and 4H backward, rounded up to whole sixteen bytes, with zeros there; both count in 32-bit words,
//   which hold two values of a half type.
//
// Parallelisation and launch: recurrent_persistent.cuh. 256 threads, one block a multiprocessor.
//
// Determinism: every element is computed by one thread or warp, every sum in one order; no atomics but the barrier's.
#pragma once

#include "recurrent_persistent.cuh"

struct LstmForward {
  static constexpr int gates = 4;
  float *gate_rows, *cells;

  __device__ void prefetch(long long row, int unit, int hidden) const {
    for (int gate = 0; gate < gates; ++gate) prefetch_to_l2(gate_rows + (row * gates + gate) * hidden + unit);
  }
  template <class Part>
  __device__ float forward(long long row, int unit, int hidden, const Part& part, float, float& c) const {
    float* a = gate_rows + row * gates * hidden + unit;
    const long long next = hidden;
    LstmGates<float> values{a[0] + part(0), a[next] + part(1), a[2 * next] + part(2), a[3 * next] + part(3)};
    const float h = lstm_forward(values, c);
    if (cells != nullptr) {
      cells[row * hidden + unit] = c;
      a[0] = values.i, a[next] = values.f, a[2 * next] = values.g, a[3 * next] = values.o;
    }
    return h;
  }
};

struct LstmBackward {
  static constexpr int gates = 4;
  float* gate_rows;
  const float *cells, *c0;

  __device__ void prefetch(const RecurrentPlace& place) const {
    for (int gate = 0; gate < gates; ++gate) {
      prefetch_to_l2(gate_rows + (place.row * gates + gate) * place.hidden + place.unit);
    }
    if (place.row_before >= 0) prefetch_to_l2(cells + place.row_before * place.hidden + place.unit);
  }
  template <class HandOn>
  __device__ void backward(const RecurrentPlace& place, float& dh, float& dc, const HandOn& hand_on) const {
    const long long next = place.hidden;
    float* a = gate_rows + place.row * gates * next + place.unit;
    const float c_before = place.row_before >= 0 ? cells[place.row_before * next + place.unit] : c0[place.initial];
    LstmGates<float> values{a[0], a[next], a[2 * next], a[3 * next]};
    lstm_backward(values, c_before, cells[place.row * next + place.unit], dh, dc);
    a[0] = values.i, a[next] = values.f, a[2 * next] = values.g, a[3 * next] = values.o;
    hand_on(0, values.i), hand_on(1, values.f), hand_on(2, values.g), hand_on(3, values.o);
    dh = 0.0f;
  }
};

#define LSTM_FORWARD_FLOATS                                                                  \
  float *gates, float *cells /* or null */, float *y, const uint4 *weights, const float *h0, \
      const float *c0, float *h_n, float *c_n, uint4 *exchange /* or null */,                \
      unsigned *counter /* or null */

#define LSTM_BACKWARD_FLOATS                                                                    \
  float *gates, const float *cells, const float *c0, const float *grad_y, const uint4 *weights, \
      float *dh, float *dc, uint4 *exchange /* or null */, unsigned *counter /* or null */
