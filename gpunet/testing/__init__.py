"""For tests: comparing implementations, running CUDA kernels on the CPU, compiling them for GPUs that are not there."""

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
    "KernelFault",
    "Order",
    "cuda_on_cpu",
    "executed_kernels",
    "host_compiler",
    "host_compiler_missing",
    "sanitizer_environment",
]
