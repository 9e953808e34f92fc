"""gpunet beside PyTorch with cuDNN on a GPU: ``python -m benchmarks.gpu --help``."""
