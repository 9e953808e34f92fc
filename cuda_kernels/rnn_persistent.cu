// rnn_persistent.cu: the vanilla recurrent layer over whole sequences in one launch, exact in float32.
//
// Contract: rnn_persistent.cuh. The kernels named small have all units in one block, for few of them, and their launch
// is an ordinary one; the others are launched cooperatively. 256 threads, one block a multiprocessor.
//
// Parallelisation: recurrent_persistent.cuh, the ExactProduct of recurrent_product.cuh.
//
// Determinism: every sum in one order, which depends on the sizes alone; no atomics but the barrier's.

#include "rnn_persistent.cuh"

extern "C" __global__ void __launch_bounds__(recurrent_threads, 1)
    rnn_small_forward_float32(RNN_FORWARD_FLOATS, RECURRENT_SLICES) {
  recurrent_forward<ExactProduct<4>, true>(
      RnnForward{gates, relu}, y, weights, h0, nullptr, h_n, nullptr, exchange, counter, RECURRENT_GATHER_SLICES);
}

extern "C" __global__ void __launch_bounds__(recurrent_threads, 1)
    rnn_small_backward_float32(RNN_BACKWARD_FLOATS, RECURRENT_SLICES) {
  recurrent_backward<ExactProduct<4>, true>(
      RnnBackward<Float32>{gates, y, relu}, grad_y, weights, dh, nullptr, exchange, counter, RECURRENT_GATHER_SLICES);
}

extern "C" __global__ void __launch_bounds__(recurrent_threads, 1)
    rnn_persistent_forward_float32(RNN_FORWARD_FLOATS, RECURRENT_SLICES) {
  recurrent_forward<ExactProduct<1>, false>(
      RnnForward{gates, relu}, y, weights, h0, nullptr, h_n, nullptr, exchange, counter, RECURRENT_GATHER_SLICES);
}

extern "C" __global__ void __launch_bounds__(recurrent_threads, 1)
    rnn_persistent_backward_float32(RNN_BACKWARD_FLOATS, RECURRENT_SLICES) {
  recurrent_backward<ExactProduct<1>, false>(
      RnnBackward<Float32>{gates, y, relu}, grad_y, weights, dh, nullptr, exchange, counter, RECURRENT_GATHER_SLICES);
}
