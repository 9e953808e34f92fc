// epilogue.cuh: what is done to a sum before it is stored.
//
//     output = relu(sum + bias[column] + residual[index])        each part only where it is asked for
//
// bias is [columns], residual is laid out as the output is; either may be null. relu lets NaN through, as PyTorch's.
#pragma once

template <typename Scalar>
struct Epilogue {
  const Scalar* bias;
  const Scalar* residual;
  bool relu;

  __device__ Scalar operator()(Scalar sum, int column, long long index) const {
    if (bias != nullptr) sum += bias[column];
    if (residual != nullptr) sum += residual[index];
    return relu && sum < Scalar(0) ? Scalar(0) : sum;
  }
};
