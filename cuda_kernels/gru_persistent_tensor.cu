// gru_persistent_tensor.cu: the gated recurrent unit over whole sequences in one launch, on tensor cores.
//
// Contract: gru_persistent.cuh, for arrays of float16, bfloat16 and, with products in TF32, float32. What is
// exchanged, h_before or dh_part, and the weights are rounded to that type; sums and states are float32. Cooperative
// launches of 256 threads, one block a multiprocessor.
//
// Parallelisation: recurrent_persistent.cuh, the TensorProduct of recurrent_product.cuh.
//
// Determinism: the same bits at every run on the same kind of GPU; no atomics but the barrier's.

#include "gru_persistent.cuh"

#define GRU_FORWARD_HALVES                                                                            \
  float *gates, const float *b_hn /* or null */, float *hidden_part /* or null */, unsigned short *y, \
      const uint4 *weights, const float *h0, float *h_n, uint4 *exchange /* or null */,               \
      unsigned *counter /* or null */

#define GRU_BACKWARD_HALVES                                                          \
  float *gates, const float *hidden_part, const unsigned short *y, const float *h0,  \
      const unsigned short *grad_y, const uint4 *weights, float *dh, float *dh_part, \
      uint4 *exchange /* or null */, unsigned *counter /* or null */

extern "C" __global__ void __launch_bounds__(recurrent_threads, 1)
    gru_persistent_forward_float16(GRU_FORWARD_HALVES, RECURRENT_SLICES) {
  recurrent_forward<TensorProduct<FP16Format>, false>(
      GruForward{gates, b_hn, hidden_part}, y, weights, h0, nullptr, h_n, nullptr, exchange, counter,
      RECURRENT_GATHER_SLICES);
}

extern "C" __global__ void __launch_bounds__(recurrent_threads, 1)
    gru_persistent_backward_float16(GRU_BACKWARD_HALVES, RECURRENT_SLICES) {
  recurrent_backward<TensorProduct<FP16Format>, false>(
      GruBackward<Float16>{gates, hidden_part, y, h0, dh_part}, grad_y, weights, dh, nullptr, exchange, counter,
      RECURRENT_GATHER_SLICES);
}

#if __CUDA_ARCH__ >= 800

extern "C" __global__ void __launch_bounds__(recurrent_threads, 1)
    /* needs sm_80 */ gru_persistent_forward_bfloat16(GRU_FORWARD_HALVES, RECURRENT_SLICES) {
  recurrent_forward<TensorProduct<BF16Format>, false>(
      GruForward{gates, b_hn, hidden_part}, y, weights, h0, nullptr, h_n, nullptr, exchange, counter,
      RECURRENT_GATHER_SLICES);
}

extern "C" __global__ void __launch_bounds__(recurrent_threads, 1)
    /* needs sm_80 */ gru_persistent_backward_bfloat16(GRU_BACKWARD_HALVES, RECURRENT_SLICES) {
  recurrent_backward<TensorProduct<BF16Format>, false>(
      GruBackward<BFloat16>{gates, hidden_part, y, h0, dh_part}, grad_y, weights, dh, nullptr, exchange, counter,
      RECURRENT_GATHER_SLICES);
}

extern "C" __global__ void __launch_bounds__(recurrent_threads, 1)
    /* needs sm_80 */ gru_persistent_forward_tf32(GRU_FORWARD_FLOATS, RECURRENT_SLICES) {
  recurrent_forward<TensorProduct<TF32Format>, false>(
      GruForward{gates, b_hn, hidden_part}, y, weights, h0, nullptr, h_n, nullptr, exchange, counter,
      RECURRENT_GATHER_SLICES);
}

extern "C" __global__ void __launch_bounds__(recurrent_threads, 1)
    /* needs sm_80 */ gru_persistent_backward_tf32(GRU_BACKWARD_FLOATS, RECURRENT_SLICES) {
  recurrent_backward<TensorProduct<TF32Format>, false>(
      GruBackward<Float32>{gates, hidden_part, y, h0, dh_part}, grad_y, weights, dh, nullptr, exchange, counter,
      RECURRENT_GATHER_SLICES);
}

#endif
