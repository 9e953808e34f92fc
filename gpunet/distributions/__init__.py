"""Probability distributions, under PyTorch's names: densities, draws and moments."""

from gpunet import _missing

from .markov_chain import MarkovChain

__all__ = ["MarkovChain"]

_missing.explain(__name__)
