// sgd.cu: one step of stochastic gradient descent for one parameter array, in one pass over memory.
//
// Contract, for every element (the rule of torch.optim.SGD; with τ = 0 and Nesterov it is that of Sutskever et al.,
// "On the importance of initialization and momentum in deep learning", ICML 2013, in PyTorch's arrangement):
//
//     g ← grad, or −grad to maximise
//     g ← g + λ θ                           where λ ≠ 0                      λ weight_decay
//     b ← g in the first step, else μ b + (1 − τ) g        where μ ≠ 0       μ momentum, τ dampening
//     g ← g + μ b with Nesterov, else b                    where μ ≠ 0       b momentum_buffer
//     θ ← θ − η g                                                            η learning_rate, θ param
//
//   param            [count], read and written
//   grad             [count], read
//   momentum_buffer  [count], read (not in the first step) and written; null where momentum is 0
//   learning_rate,   scalars in device memory, so that a captured graph sees a new value at each replay
//   first_step
//   The order of the elements does not matter as long as it is the same in all three arrays. None may overlap.
//   The sums are formed in the arrays' own precision, as PyTorch does.
//
// Parallelisation: a grid-stride loop, so that any grid is right; one element a thread in the naive kernels, sixteen
// bytes a thread in the others, whose last count mod (elements in sixteen bytes) elements go one to a thread. The
// kernels are bound by memory: five accesses to an element with momentum, three without.
//
// Determinism: each element is computed by one thread from its own inputs: the bits do not depend on the grid.

template <typename Scalar>
struct SgdRule {
  Scalar learning_rate;
  Scalar momentum;
  Scalar undamped;  // 1 − τ
  Scalar weight_decay;
  bool nesterov;
  bool maximize;
  bool first_step;

  // Returns the new parameter and replaces the momentum buffer's value.
  __device__ Scalar update(Scalar param, Scalar grad, Scalar& buffer) const {
    Scalar step = maximize ? -grad : grad;
    if (weight_decay != Scalar(0)) step += weight_decay * param;
    if (momentum != Scalar(0)) {
      buffer = first_step ? step : momentum * buffer + undamped * step;
      step = nesterov ? step + momentum * buffer : buffer;
    }
    return param - learning_rate * step;
  }
};

template <typename Scalar>
__device__ SgdRule<Scalar> sgd_rule(const double* learning_rate, const bool* first_step, double momentum,
                                    double dampening, double weight_decay, bool nesterov, bool maximize) {
  return {Scalar(*learning_rate), Scalar(momentum), Scalar(1.0 - dampening), Scalar(weight_decay),
          nesterov,               maximize,         *first_step};
}

template <typename Scalar>
__device__ void sgd_update_element(Scalar* param, const Scalar* grad, Scalar* momentum_buffer,
                                   const SgdRule<Scalar>& rule, long long i) {
  Scalar buffer = momentum_buffer != nullptr ? momentum_buffer[i] : Scalar(0);
  param[i] = rule.update(param[i], grad[i], buffer);
  if (momentum_buffer != nullptr) momentum_buffer[i] = buffer;
}

template <typename Scalar>
__device__ void sgd_update_naive(Scalar* param, const Scalar* grad, Scalar* momentum_buffer,
                                 const SgdRule<Scalar>& rule, long long count) {
  const long long first = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  const long long stride = (long long)gridDim.x * blockDim.x;
  for (long long i = first; i < count; i += stride) sgd_update_element(param, grad, momentum_buffer, rule, i);
}

// Vector holds sixteen bytes of Scalars.
template <typename Scalar, typename Vector>
__device__ void sgd_update(Vector* param, const Vector* grad, Vector* momentum_buffer, const SgdRule<Scalar>& rule,
                           long long count) {
  constexpr int lanes = sizeof(Vector) / sizeof(Scalar);
  const long long vectors = count / lanes;
  const long long first = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  const long long stride = (long long)gridDim.x * blockDim.x;
  for (long long i = first; i < vectors; i += stride) {
    Vector param_vector = param[i];
    const Vector grad_vector = grad[i];
    Vector buffer_vector = momentum_buffer != nullptr ? momentum_buffer[i] : Vector();
    Scalar* param_lanes = reinterpret_cast<Scalar*>(&param_vector);
    const Scalar* grad_lanes = reinterpret_cast<const Scalar*>(&grad_vector);
    Scalar* buffer_lanes = reinterpret_cast<Scalar*>(&buffer_vector);
#pragma unroll
    for (int lane = 0; lane < lanes; ++lane) {
      param_lanes[lane] = rule.update(param_lanes[lane], grad_lanes[lane], buffer_lanes[lane]);
    }
    param[i] = param_vector;
    if (momentum_buffer != nullptr) momentum_buffer[i] = buffer_vector;
  }
  const long long last = vectors * lanes + first;
  if (last < count) {
    sgd_update_element(reinterpret_cast<Scalar*>(param), reinterpret_cast<const Scalar*>(grad),
                       reinterpret_cast<Scalar*>(momentum_buffer), rule, last);
  }
}

// The readable ones, for arrays of any alignment.

extern "C" __global__ void __launch_bounds__(256)
    sgd_update_naive_float32(float* __restrict__ param, const float* __restrict__ grad,
                             float* __restrict__ momentum_buffer /* or null */, const double* learning_rate,
                             const bool* first_step, double momentum, double dampening, double weight_decay,
                             bool nesterov, bool maximize, long long count) {
  sgd_update_naive(param, grad, momentum_buffer,
                   sgd_rule<float>(learning_rate, first_step, momentum, dampening, weight_decay, nesterov, maximize),
                   count);
}

extern "C" __global__ void __launch_bounds__(256)
    sgd_update_naive_float64(double* __restrict__ param, const double* __restrict__ grad,
                             double* __restrict__ momentum_buffer /* or null */, const double* learning_rate,
                             const bool* first_step, double momentum, double dampening, double weight_decay,
                             bool nesterov, bool maximize, long long count) {
  sgd_update_naive(param, grad, momentum_buffer,
                   sgd_rule<double>(learning_rate, first_step, momentum, dampening, weight_decay, nesterov, maximize),
                   count);
}

// The fast ones: all three arrays start at a multiple of sixteen bytes. count is in elements and need not be even.

extern "C" __global__ void __launch_bounds__(256)
    sgd_update_float32(float4* __restrict__ param, const float4* __restrict__ grad,
                       float4* __restrict__ momentum_buffer /* or null */, const double* learning_rate,
                       const bool* first_step, double momentum, double dampening, double weight_decay, bool nesterov,
                       bool maximize, long long count) {
  sgd_update(param, grad, momentum_buffer,
             sgd_rule<float>(learning_rate, first_step, momentum, dampening, weight_decay, nesterov, maximize), count);
}

extern "C" __global__ void __launch_bounds__(256)
    sgd_update_float64(double2* __restrict__ param, const double2* __restrict__ grad,
                       double2* __restrict__ momentum_buffer /* or null */, const double* learning_rate,
                       const bool* first_step, double momentum, double dampening, double weight_decay, bool nesterov,
                       bool maximize, long long count) {
  sgd_update(param, grad, momentum_buffer,
             sgd_rule<double>(learning_rate, first_step, momentum, dampening, weight_decay, nesterov, maximize), count);
}
