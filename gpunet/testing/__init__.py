"""For tests: comparing implementations, running CUDA kernels on the CPU, compiling them for GPUs that are not there."""

from gpunet.testing.compare import agreement_bound, assert_agreement, relative_error
from gpunet.testing.gpu_compile import (
    ARCHITECTURES,
    CompiledKernel,
    compile_for_gpu,
    gpu_compiler_missing,
    unsupported,
)
from gpunet.testing.host_kernels import (
    KernelFault,
    Order,
    cuda_on_cpu,
    executed_kernels,
    host_compiler,
    host_compiler_missing,
    sanitizer_environment,
)

__all__ = [
    "ARCHITECTURES",
    "CompiledKernel",
    "KernelFault",
    "Order",
    "agreement_bound",
    "assert_agreement",
    "compile_for_gpu",
    "cuda_on_cpu",
    "executed_kernels",
    "gpu_compiler_missing",
    "host_compiler",
    "host_compiler_missing",
    "relative_error",
    "sanitizer_environment",
    "unsupported",
]
