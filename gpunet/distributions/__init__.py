"""Probability distributions, under PyTorch's names: densities, draws and moments."""

from gpunet import _missing

__all__: list[str] = []

_missing.explain(__name__)
