// sgd.cu: one step of stochastic gradient descent for one parameter array, in one pass over memory.
//
// Contract, for every element (torch.optim.SGD's rule; gpunet/ops/sgd.py has the same equations and their source):
//
//     d = grad / s, negated to maximize                          s  grad_scale
//     d = d + lambda theta               where lambda is not 0   lambda  weight_decay, theta  param
//     b = d                              in the first step       b  momentum_buffer
//     b = mu b + (1 - tau) d             in every later one      mu  momentum, tau  dampening
//     d = d + mu b                       with nesterov, else d = b
//     theta = theta - gamma d                                    gamma  learning_rate
//
//   param            [count]  read and written
//   grad             [count]  read
//   momentum_buffer  [count]  written, and read in all but the first step; null leaves b, mu and tau out
//   The order of the elements does not matter, as long as it is the same in all three arrays. None may overlap.
//   learning_rate, grad_scale and first_step are numbers; where the pointer of that name (..._at) is not null, what it
//   points to counts instead, so that a captured graph sees a new value at each replay.
//   The sums are formed in the arrays' own precision, as PyTorch forms them. NaN and infinity go the way of arithmetic.
//
// Parallelisation: a grid-stride loop, so that any grid is right. The naive kernels take one element a thread, the
// others sixteen bytes, and leave the last count mod (elements in sixteen bytes) to single threads. Bound by memory:
// five accesses to an element with momentum, three without.
//
// Determinism: each element is computed by one thread from its own inputs: the bits do not depend on the grid.

template <typename Scalar>
struct SgdRule {
  Scalar learning_rate;
  Scalar grad_scale;
  Scalar momentum;
  Scalar undamped;  // 1 - tau
  Scalar weight_decay;
  bool has_momentum;
  bool nesterov;
  bool maximize;
  bool first_step;

  // Returns the new parameter and replaces the momentum buffer's element.
  __device__ Scalar update(Scalar param, Scalar grad, Scalar& buffer) const {
    Scalar step = grad;
    if (grad_scale != Scalar(1)) step /= grad_scale;
    if (maximize) step = -step;
    if (weight_decay != Scalar(0)) step += weight_decay * param;
    if (has_momentum) {
      buffer = first_step ? step : momentum * buffer + undamped * step;
      step = nesterov ? step + momentum * buffer : buffer;
    }
    return param - learning_rate * step;
  }
};

template <typename Scalar>
__device__ SgdRule<Scalar> sgd_rule(const double* learning_rate_at, double learning_rate, const double* grad_scale_at,
                                    double grad_scale, const bool* first_step_at, bool first_step, bool has_momentum,
                                    double momentum, double dampening, double weight_decay, bool nesterov,
                                    bool maximize) {
  return {Scalar(learning_rate_at != nullptr ? *learning_rate_at : learning_rate),
          Scalar(grad_scale_at != nullptr ? *grad_scale_at : grad_scale),
          Scalar(momentum),
          Scalar(1.0 - dampening),
          Scalar(weight_decay),
          has_momentum,
          nesterov,
          maximize,
          first_step_at != nullptr ? *first_step_at : first_step};
}

template <typename Scalar>
__device__ void sgd_update_element(Scalar* param, const Scalar* grad, Scalar* momentum_buffer,
                                   const SgdRule<Scalar>& rule, long long i) {
  Scalar buffer = rule.has_momentum ? momentum_buffer[i] : Scalar(0);
  param[i] = rule.update(param[i], grad[i], buffer);
  if (rule.has_momentum) momentum_buffer[i] = buffer;
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
    Vector buffer_vector = rule.has_momentum ? momentum_buffer[i] : Vector();
    Scalar* param_lanes = reinterpret_cast<Scalar*>(&param_vector);
    const Scalar* grad_lanes = reinterpret_cast<const Scalar*>(&grad_vector);
    Scalar* buffer_lanes = reinterpret_cast<Scalar*>(&buffer_vector);
#pragma unroll
    for (int lane = 0; lane < lanes; ++lane) {
      param_lanes[lane] = rule.update(param_lanes[lane], grad_lanes[lane], buffer_lanes[lane]);
    }
    param[i] = param_vector;
    if (rule.has_momentum) momentum_buffer[i] = buffer_vector;
  }
  const long long last = vectors * lanes + first;
  if (last < count) {
    sgd_update_element(reinterpret_cast<Scalar*>(param), reinterpret_cast<const Scalar*>(grad),
                       reinterpret_cast<Scalar*>(momentum_buffer), rule, last);
  }
}

// The readable ones, for arrays at any address.

extern "C" __global__ void __launch_bounds__(256) sgd_update_naive_float32(
    float* __restrict__ param, const float* __restrict__ grad, float* __restrict__ momentum_buffer /* or null */,
    const double* learning_rate_at /* or null */, double learning_rate, const double* grad_scale_at /* or null */,
    double grad_scale, const bool* first_step_at /* or null */, bool first_step, double momentum, double dampening,
    double weight_decay, bool nesterov, bool maximize, long long count) {
  const SgdRule<float> rule =
      sgd_rule<float>(learning_rate_at, learning_rate, grad_scale_at, grad_scale, first_step_at, first_step,
                      momentum_buffer != nullptr, momentum, dampening, weight_decay, nesterov, maximize);
  sgd_update_naive(param, grad, momentum_buffer, rule, count);
}

extern "C" __global__ void __launch_bounds__(256) sgd_update_naive_float64(
    double* __restrict__ param, const double* __restrict__ grad, double* __restrict__ momentum_buffer /* or null */,
    const double* learning_rate_at /* or null */, double learning_rate, const double* grad_scale_at /* or null */,
    double grad_scale, const bool* first_step_at /* or null */, bool first_step, double momentum, double dampening,
    double weight_decay, bool nesterov, bool maximize, long long count) {
  const SgdRule<double> rule =
      sgd_rule<double>(learning_rate_at, learning_rate, grad_scale_at, grad_scale, first_step_at, first_step,
                       momentum_buffer != nullptr, momentum, dampening, weight_decay, nesterov, maximize);
  sgd_update_naive(param, grad, momentum_buffer, rule, count);
}

// The fast ones: the three arrays start at multiples of sixteen bytes. count is in elements and need not be even.

extern "C" __global__ void __launch_bounds__(256) sgd_update_float32(
    float4* __restrict__ param, const float4* __restrict__ grad, float4* __restrict__ momentum_buffer /* or null */,
    const double* learning_rate_at /* or null */, double learning_rate, const double* grad_scale_at /* or null */,
    double grad_scale, const bool* first_step_at /* or null */, bool first_step, double momentum, double dampening,
    double weight_decay, bool nesterov, bool maximize, long long count) {
  const SgdRule<float> rule =
      sgd_rule<float>(learning_rate_at, learning_rate, grad_scale_at, grad_scale, first_step_at, first_step,
                      momentum_buffer != nullptr, momentum, dampening, weight_decay, nesterov, maximize);
  sgd_update(param, grad, momentum_buffer, rule, count);
}

extern "C" __global__ void __launch_bounds__(256) sgd_update_float64(
    double2* __restrict__ param, const double2* __restrict__ grad, double2* __restrict__ momentum_buffer /* or null */,
    const double* learning_rate_at /* or null */, double learning_rate, const double* grad_scale_at /* or null */,
    double grad_scale, const bool* first_step_at /* or null */, bool first_step, double momentum, double dampening,
    double weight_decay, bool nesterov, bool maximize, long long count) {
  const SgdRule<double> rule =
      sgd_rule<double>(learning_rate_at, learning_rate, grad_scale_at, grad_scale, first_step_at, first_step,
                       momentum_buffer != nullptr, momentum, dampening, weight_decay, nesterov, maximize);
  sgd_update(param, grad, momentum_buffer, rule, count);
}
