// lstm_persistent_tensor.cu: the long short-term memory over whole sequences in one launch, on tensor cores.
//
// Contract: lstm_persistent.cuh, for arrays of float16, bfloat16 and, with products in TF32, float32. What is
// exchanged, h_before or dh_part, and the weights are rounded to that type; sums and states are float32. Cooperative
// launches of 256 threads, one block a multiprocessor.
//
// Parallelisation: recurrent_persistent.cuh, the TensorProduct of recurrent_product.cuh.
//
// Determinism: the same bits at every run on the same kind of GPU; no atomics but the barrier's.

#include "lstm_persistent.cuh"

#define LSTM_FORWARD_HALVES                                                                    \
  float *gates, float *cells /* or null */, unsigned short *y, const uint4 *weights,           \
      const float *h0, const float *c0, float *h_n, float *c_n, uint4 *exchange /* or null */, \
      unsigned *counter /* or null */

#define LSTM_BACKWARD_HALVES                                                       \
  float *gates, const float *cells, const float *c0, const unsigned short *grad_y, \
      const uint4 *weights, float *dh, float *dc, uint4 *exchange /* or null */,   \
      unsigned *counter /* or null */

extern "C" __global__ void __launch_bounds__(recurrent_threads, 1)
    lstm_persistent_forward_float16(LSTM_FORWARD_HALVES, RECURRENT_SLICES) {
  recurrent_forward<TensorProduct<FP16Format>, false>(
      LstmForward{gates, cells}, y, weights, h0, c0, h_n, c_n, exchange, counter, RECURRENT_GATHER_SLICES);
}

extern "C" __global__ void __launch_bounds__(recurrent_threads, 1)
    lstm_persistent_backward_float16(LSTM_BACKWARD_HALVES, RECURRENT_SLICES) {
  recurrent_backward<TensorProduct<FP16Format>, false>(
      LstmBackward{gates, cells, c0}, grad_y, weights, dh, dc, exchange, counter, RECURRENT_GATHER_SLICES);
}

#if __CUDA_ARCH__ >= 800

extern "C" __global__ void __launch_bounds__(recurrent_threads, 1)
    /* needs sm_80 */ lstm_persistent_forward_bfloat16(LSTM_FORWARD_HALVES, RECURRENT_SLICES) {
  recurrent_forward<TensorProduct<BF16Format>, false>(
      LstmForward{gates, cells}, y, weights, h0, c0, h_n, c_n, exchange, counter, RECURRENT_GATHER_SLICES);
}

extern "C" __global__ void __launch_bounds__(recurrent_threads, 1)
    /* needs sm_80 */ lstm_persistent_backward_bfloat16(LSTM_BACKWARD_HALVES, RECURRENT_SLICES) {
  recurrent_backward<TensorProduct<BF16Format>, false>(
      LstmBackward{gates, cells, c0}, grad_y, weights, dh, dc, exchange, counter, RECURRENT_GATHER_SLICES);
}

extern "C" __global__ void __launch_bounds__(recurrent_threads, 1)
    /* needs sm_80 */ lstm_persistent_forward_tf32(LSTM_FORWARD_FLOATS, RECURRENT_SLICES) {
  recurrent_forward<TensorProduct<TF32Format>, false>(
      LstmForward{gates, cells}, y, weights, h0, c0, h_n, c_n, exchange, counter, RECURRENT_GATHER_SLICES);
}

extern "C" __global__ void __launch_bounds__(recurrent_threads, 1)
    /* needs sm_80 */ lstm_persistent_backward_tf32(LSTM_BACKWARD_FLOATS, RECURRENT_SLICES) {
  recurrent_backward<TensorProduct<TF32Format>, false>(
      LstmBackward{gates, cells, c0}, grad_y, weights, dh, dc, exchange, counter, RECURRENT_GATHER_SLICES);
}

#endif
