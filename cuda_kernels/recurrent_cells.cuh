// recurrent_cells.cuh: one unit of a recurrent cell in one step: its equations and their gradients, in registers.
//
// Contract (gpunet/ops/{rnn,lstm,gru}.py have the same equations and their sources). a is what the gates are made of, x
// and the state before multiplied by the weights and the biases added; d of something is the loss's derivative by it.
// Carry is what a step computes in: float, or double for arrays of doubles.
//
//   RNN    h = tanh(a) or relu(a)
//          da = dh (1 - h^2), or dh where h > 0
//   LSTM   i, f, o = sigmoid(a_i, a_f, a_o),  g = tanh(a_g);   c = f c_before + i g,   h = o tanh(c)
//          dc += dh o (1 - tanh(c)^2);   da_i = dc g i (1 - i),   da_f = dc c_before f (1 - f),   da_g = dc i (1 - g^2),
//          da_o = dh tanh(c) o (1 - o);   dc_before = dc f
//   GRU    r, z = sigmoid(a_r, a_z),  n = tanh(x_n + r h_n);   h = (1 - z) n + z h_before
//          where x_n and h_n are the third blocks of x's product and of h_before's (the latter with its bias b_hn)
//          da_n = dh (1 - z) (1 - n^2),   da_z = dh (h_before - n) z (1 - z),   da_r = da_n h_n r (1 - r);
//          dh_n = da_n r;   dh_before = dh z, to which what comes back through the weights is added
//
//   The functions named forward turn a gate's a into the activated gate, those named backward the activated gate into
//   its da, each in place: a buffer of gates serves both. The blocks of a row lie in PyTorch's order.
//
// Float32, Float64, Float16 and BFloat16 say how the outputs y and their gradients are stored; the state a step hands to
// the next is a Carry, so that half types lose precision in y alone. Half types are words of two bytes (mma.cuh).
//
// NaN and infinity go the way of arithmetic; relu lets NaN through, as PyTorch's. Nothing overflows on the way to a
// finite result: sigmoid(-1000) is 1 / (1 + infinity) = 0.
//
// Determinism: each unit is computed by one thread from its own inputs.
#pragma once

#include "mma.cuh"

// ---------------------------------------------------------------------------------------------------------------------
// How y is stored.

struct Float32 {
  using Value = float;
  using Carry = float;
  static __device__ __forceinline__ float load(float value) { return value; }
  static __device__ __forceinline__ float store(float value) { return value; }
};

struct Float64 {
  using Value = double;
  using Carry = double;
  static __device__ __forceinline__ double load(double value) { return value; }
  static __device__ __forceinline__ double store(double value) { return value; }
};

struct Float16 {
  using Value = unsigned short;
  using Carry = float;
  static __device__ __forceinline__ float load(unsigned short value) { return unpack_fp16_low(value); }
  static __device__ __forceinline__ unsigned short store(float value) {
    return static_cast<unsigned short>(pack_fp16(value, 0.0f));
  }
};

struct BFloat16 {
  using Value = unsigned short;
  using Carry = float;
  static __device__ __forceinline__ float load(unsigned short value) { return unpack_bf16_low(value); }
  static __device__ __forceinline__ unsigned short store(float value) {
    return static_cast<unsigned short>(pack_bf16(value, 0.0f));
  }
};

// ---------------------------------------------------------------------------------------------------------------------
// Squashing functions.

__device__ __forceinline__ float tanh_of(float a) { return tanhf(a); }
__device__ __forceinline__ double tanh_of(double a) { return tanh(a); }
__device__ __forceinline__ float sigmoid_of(float a) { return 1.0f / (1.0f + expf(-a)); }
__device__ __forceinline__ double sigmoid_of(double a) { return 1.0 / (1.0 + exp(-a)); }

// ---------------------------------------------------------------------------------------------------------------------
// The vanilla cell.

template <typename Carry>
__device__ __forceinline__ Carry rnn_forward(Carry a, bool relu) {
  return relu ? (a < Carry(0) ? Carry(0) : a) : tanh_of(a);
}

// da, from the h that rnn_forward returned.
template <typename Carry>
__device__ __forceinline__ Carry rnn_backward(Carry h, Carry dh, bool relu) {
  return relu ? (h > Carry(0) ? dh : Carry(0)) : dh * (Carry(1) - h * h);
}

// ---------------------------------------------------------------------------------------------------------------------
// The long short-term memory.

template <typename Carry>
struct LstmGates {
  static constexpr int count = 4;
  Carry i, f, g, o;
};

// Returns h and replaces c.
template <typename Carry>
__device__ __forceinline__ Carry lstm_forward(LstmGates<Carry>& gates, Carry& c) {
  gates.i = sigmoid_of(gates.i);
  gates.f = sigmoid_of(gates.f);
  gates.g = tanh_of(gates.g);
  gates.o = sigmoid_of(gates.o);
  c = gates.f * c + gates.i * gates.g;
  return gates.o * tanh_of(c);
}

// c is the state behind the step; dc is its derivative before the call and that of c_before after it.
template <typename Carry>
__device__ __forceinline__ void lstm_backward(LstmGates<Carry>& gates, Carry c_before, Carry c, Carry dh, Carry& dc) {
  const Carry one = Carry(1), i = gates.i, f = gates.f, g = gates.g, o = gates.o, tanh_c = tanh_of(c);
  const Carry through = dc + dh * o * (one - tanh_c * tanh_c);
  gates.i = through * g * i * (one - i);
  gates.f = through * c_before * f * (one - f);
  gates.g = through * i * (one - g * g);
  gates.o = dh * tanh_c * o * (one - o);
  dc = through * f;
}

// ---------------------------------------------------------------------------------------------------------------------
// The gated recurrent unit.

template <typename Carry>
struct GruGates {
  static constexpr int count = 3;
  Carry r, z, n;
};

// Returns h. Before the call gates.n is x's part of its a alone; hidden_part is h_before's, with b_hn.
template <typename Carry>
__device__ __forceinline__ Carry gru_forward(GruGates<Carry>& gates, Carry hidden_part, Carry h_before) {
  gates.r = sigmoid_of(gates.r);
  gates.z = sigmoid_of(gates.z);
  gates.n = tanh_of(gates.n + gates.r * hidden_part);
  return (Carry(1) - gates.z) * gates.n + gates.z * h_before;
}

// Returns the derivative by hidden_part, the third block of dh_part; dh is that of h before the call, and after it that
// of h_before, but for what comes back through the weights.
template <typename Carry>
__device__ __forceinline__ Carry gru_backward(GruGates<Carry>& gates, Carry hidden_part, Carry h_before, Carry& dh) {
  const Carry one = Carry(1), r = gates.r, z = gates.z, n = gates.n;
  gates.n = dh * (one - z) * (one - n * n);
  gates.z = dh * (h_before - n) * z * (one - z);
  gates.r = gates.n * hidden_part * r * (one - r);
  dh = dh * z;
  return gates.n * r;
}
