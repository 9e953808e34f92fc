// gru_persistent.cu: the gated recurrent unit over whole sequences in one launch, exact in float32.
//
// Contract: gru_persistent.cuh. The kernels named small have all units in one block, for few of them, and their launch
// is an ordinary one; the others are launched cooperatively. 256 threads, one block a multiprocessor.
//
// Parallelisation: recurrent_persistent.cuh, the ExactProduct of recurrent_product.cuh.
//
// Determinism: every sum in one order, which depends on the sizes alone; no atomics but the barrier's.

#include "gru_persistent.cuh"

extern "C" __global__ void __launch_bounds__(recurrent_threads, 1)
    gru_small_forward_float32(GRU_FORWARD_FLOATS, RECURRENT_SLICES) {
  recurrent_forward<ExactProduct<4>, true>(
      GruForward{gates, b_hn, hidden_part}, y, weights, h0, nullptr, h_n, nullptr, exchange, counter,
      RECURRENT_GATHER_SLICES);
}

extern "C" __global__ void __launch_bounds__(recurrent_threads, 1)
    gru_small_backward_float32(GRU_BACKWARD_FLOATS, RECURRENT_SLICES) {
  recurrent_backward<ExactProduct<4>, true>(
      GruBackward<Float32>{gates, hidden_part, y, h0, dh_part}, grad_y, weights, dh, nullptr, exchange, counter,
      RECURRENT_GATHER_SLICES);
}

extern "C" __global__ void __launch_bounds__(recurrent_threads, 1)
    gru_persistent_forward_float32(GRU_FORWARD_FLOATS, RECURRENT_SLICES) {
  recurrent_forward<ExactProduct<1>, false>(
      GruForward{gates, b_hn, hidden_part}, y, weights, h0, nullptr, h_n, nullptr, exchange, counter,
      RECURRENT_GATHER_SLICES);
}

extern "C" __global__ void __launch_bounds__(recurrent_threads, 1)
    gru_persistent_backward_float32(GRU_BACKWARD_FLOATS, RECURRENT_SLICES) {
  recurrent_backward<ExactProduct<1>, false>(
      GruBackward<Float32>{gates, hidden_part, y, h0, dh_part}, grad_y, weights, dh, nullptr, exchange, counter,
      RECURRENT_GATHER_SLICES);
}
