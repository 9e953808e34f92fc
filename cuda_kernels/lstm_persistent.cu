// lstm_persistent.cu: the long short-term memory over whole sequences in one launch, exact in float32.
//
// Contract: lstm_persistent.cuh. The kernels named small have all units in one block, for few of them, and their launch
// is an ordinary one; the others are launched cooperatively. 256 threads, one block a multiprocessor.
//
// Parallelisation: recurrent_persistent.cuh, the ExactProduct of recurrent_product.cuh.
//
// Determinism: every sum in one order, which depends on the sizes alone; no atomics but the barrier's.

#include "lstm_persistent.cuh"

extern "C" __global__ void __launch_bounds__(recurrent_threads, 1)
    lstm_small_forward_float32(LSTM_FORWARD_FLOATS, RECURRENT_SLICES) {
  recurrent_forward<ExactProduct<4>, true>(
      LstmForward{gates, cells}, y, weights, h0, c0, h_n, c_n, exchange, counter, RECURRENT_GATHER_SLICES);
}

extern "C" __global__ void __launch_bounds__(recurrent_threads, 1)
    lstm_small_backward_float32(LSTM_BACKWARD_FLOATS, RECURRENT_SLICES) {
  recurrent_backward<ExactProduct<4>, true>(
      LstmBackward{gates, cells, c0}, grad_y, weights, dh, dc, exchange, counter, RECURRENT_GATHER_SLICES);
}

extern "C" __global__ void __launch_bounds__(recurrent_threads, 1)
    lstm_persistent_forward_float32(LSTM_FORWARD_FLOATS, RECURRENT_SLICES) {
  recurrent_forward<ExactProduct<1>, false>(
      LstmForward{gates, cells}, y, weights, h0, c0, h_n, c_n, exchange, counter, RECURRENT_GATHER_SLICES);
}

extern "C" __global__ void __launch_bounds__(recurrent_threads, 1)
    lstm_persistent_backward_float32(LSTM_BACKWARD_FLOATS, RECURRENT_SLICES) {
  recurrent_backward<ExactProduct<1>, false>(
      LstmBackward{gates, cells, c0}, grad_y, weights, dh, dc, exchange, counter, RECURRENT_GATHER_SLICES);
}
