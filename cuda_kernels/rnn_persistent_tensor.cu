// rnn_persistent_tensor.cu: the vanilla recurrent layer over whole sequences in one launch, on tensor cores.
//
// Contract: rnn_persistent.cuh, for arrays of float16, bfloat16 and, with products in TF32, float32. What is
// exchanged, h_before or dh_part, and the weights are rounded to that type; sums and states are float32. Cooperative
// launches of 256 threads, one block a multiprocessor.
//
// Parallelisation: recurrent_persistent.cuh, the TensorProduct of recurrent_product.cuh.
//
// Determinism: the same bits at every run on the same kind of GPU; no atomics but the barrier's.

#include "rnn_persistent.cuh"

#define RNN_FORWARD_HALVES                                                                  \
  const float *gates, unsigned short *y, const uint4 *weights, const float *h0, float *h_n, \
      bool relu, uint4 *exchange /* or null */, unsigned *counter /* or null */

#define RNN_BACKWARD_HALVES                                                                  \
  float *gates, const unsigned short *y, const unsigned short *grad_y, const uint4 *weights, \
      float *dh, bool relu, uint4 *exchange /* or null */, unsigned *counter /* or null */

extern "C" __global__ void __launch_bounds__(recurrent_threads, 1)
    rnn_persistent_forward_float16(RNN_FORWARD_HALVES, RECURRENT_SLICES) {
  recurrent_forward<TensorProduct<FP16Format>, false>(
      RnnForward{gates, relu}, y, weights, h0, nullptr, h_n, nullptr, exchange, counter, RECURRENT_GATHER_SLICES);
}

extern "C" __global__ void __launch_bounds__(recurrent_threads, 1)
    rnn_persistent_backward_float16(RNN_BACKWARD_HALVES, RECURRENT_SLICES) {
  recurrent_backward<TensorProduct<FP16Format>, false>(
      RnnBackward<Float16>{gates, y, relu}, grad_y, weights, dh, nullptr, exchange, counter, RECURRENT_GATHER_SLICES);
}

#if __CUDA_ARCH__ >= 800

extern "C" __global__ void __launch_bounds__(recurrent_threads, 1)
    /* needs sm_80 */ rnn_persistent_forward_bfloat16(RNN_FORWARD_HALVES, RECURRENT_SLICES) {
  recurrent_forward<TensorProduct<BF16Format>, false>(
      RnnForward{gates, relu}, y, weights, h0, nullptr, h_n, nullptr, exchange, counter, RECURRENT_GATHER_SLICES);
}

extern "C" __global__ void __launch_bounds__(recurrent_threads, 1)
    /* needs sm_80 */ rnn_persistent_backward_bfloat16(RNN_BACKWARD_HALVES, RECURRENT_SLICES) {
  recurrent_backward<TensorProduct<BF16Format>, false>(
      RnnBackward<BFloat16>{gates, y, relu}, grad_y, weights, dh, nullptr, exchange, counter, RECURRENT_GATHER_SLICES);
}

extern "C" __global__ void __launch_bounds__(recurrent_threads, 1)
    /* needs sm_80 */ rnn_persistent_forward_tf32(RNN_FORWARD_FLOATS, RECURRENT_SLICES) {
  recurrent_forward<TensorProduct<TF32Format>, false>(
      RnnForward{gates, relu}, y, weights, h0, nullptr, h_n, nullptr, exchange, counter, RECURRENT_GATHER_SLICES);
}

extern "C" __global__ void __launch_bounds__(recurrent_threads, 1)
    /* needs sm_80 */ rnn_persistent_backward_tf32(RNN_BACKWARD_FLOATS, RECURRENT_SLICES) {
  recurrent_backward<TensorProduct<TF32Format>, false>(
      RnnBackward<Float32>{gates, y, relu}, grad_y, weights, dh, nullptr, exchange, counter, RECURRENT_GATHER_SLICES);
}

#endif
