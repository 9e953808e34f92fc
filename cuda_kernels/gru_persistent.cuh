// gru_persistent.cuh: the gated recurrent unit over whole sequences, its recurrent weights kept on chip.
//
// Contract (recurrent_cells.cuh has the cell; H is hidden, the blocks are r, z, n; N rows, step after step):
//
//   forward
//   gates        [N, 3H]     read: x's products, b_ih, and b_hh's first two blocks; replaced by the activated gates if
//                            hidden_part is given
//   b_hn         [H]         read; or null
//   hidden_part  [N, H]      written: h_before W_hn^T + b_hn; or null
//   y            [N, H]      written: h, rounded to its type
//   h0           [batch, H]  read
//   h_n          [batch, H]  written: the state behind each sequence's last step
//
//   backward
//   gates        [N, 3H]     the activated gates are replaced by da
//   hidden_part, y, grad_y   [N, H]      read
//   h0           [batch, H]  read
//   dh           [batch, H]  the derivative of the last state is replaced by that of the initial one
//   dh_part      [N, 3H]     written: da, its third block times r
//
//   weights      W_hh, a row for each gate's unit, forward; its transpose backward; in rows of D values
//   exchange     [2, batch, D], zero before the launch; null in the kernels named small
//   counter      [1] of grid_barrier.cuh; null in the kernels named small
//   D is H forward and 3H backward, rounded up to whole sixteen bytes, with zeros there; both count in 32-bit words,
//   which hold two values of a half type.
//
// Parallelisation and launch: recurrent_persistent.cuh. 256 threads, one block a multiprocessor.
//
// Determinism: every element is computed by one thread or warp, every sum in one order; no atomics but the barrier's.
#pragma once

#include "recurrent_persistent.cuh"

struct GruForward {
  static constexpr int gates = 3;
  float* gate_rows;
  const float* b_hn;
  float* hidden_part;

  __device__ void prefetch(long long row, int unit, int hidden) const {
    for (int gate = 0; gate < gates; ++gate) prefetch_to_l2(gate_rows + (row * gates + gate) * hidden + unit);
  }
  template <class Part>
  __device__ float forward(long long row, int unit, int hidden, const Part& part, float h_before, float&) const {
    float* a = gate_rows + row * gates * hidden + unit;
    const long long next = hidden;
    GruGates<float> values{a[0] + part(0), a[next] + part(1), a[2 * next]};
    const float h_part = part(2) + (b_hn != nullptr ? b_hn[unit] : 0.0f);
    const float h = gru_forward(values, h_part, h_before);
    if (hidden_part != nullptr) {
      hidden_part[row * hidden + unit] = h_part;
      a[0] = values.r, a[next] = values.z, a[2 * next] = values.n;
    }
    return h;
  }
};

template <class Storage>
struct GruBackward {
  static constexpr int gates = 3;
  float* gate_rows;
  const float* hidden_part;
  const typename Storage::Value* y;
  const float* h0;
  float* dh_part;

  __device__ void prefetch(const RecurrentPlace& place) const {
    for (int gate = 0; gate < gates; ++gate) {
      prefetch_to_l2(gate_rows + (place.row * gates + gate) * place.hidden + place.unit);
    }
    prefetch_to_l2(hidden_part + place.row * place.hidden + place.unit);
    if (place.row_before >= 0) prefetch_to_l2(y + place.row_before * place.hidden + place.unit);
  }
  template <class HandOn>
  __device__ void backward(const RecurrentPlace& place, float& dh, float&, const HandOn& hand_on) const {
    const long long next = place.hidden, first = place.row * gates * next + place.unit;
    float *a = gate_rows + first, *da_h = dh_part + first;
    const float h_before =
        place.row_before >= 0 ? Storage::load(y[place.row_before * next + place.unit]) : h0[place.initial];
    GruGates<float> values{a[0], a[next], a[2 * next]};
    const float dh_n = gru_backward(values, hidden_part[place.row * next + place.unit], h_before, dh);
    a[0] = values.r, a[next] = values.z, a[2 * next] = values.n;
    da_h[0] = values.r, da_h[next] = values.z, da_h[2 * next] = dh_n;
    hand_on(0, values.r), hand_on(1, values.z), hand_on(2, dh_n);
  }
};

#define GRU_FORWARD_FLOATS                                                                   \
  float *gates, const float *b_hn /* or null */, float *hidden_part /* or null */, float *y, \
      const uint4 *weights, const float *h0, float *h_n, uint4 *exchange /* or null */,      \
      unsigned *counter /* or null */

#define GRU_BACKWARD_FLOATS                                                                     \
  float *gates, const float *hidden_part, const float *y, const float *h0, const float *grad_y, \
      const uint4 *weights, float *dh, float *dh_part, uint4 *exchange /* or null */,           \
      unsigned *counter /* or null */
