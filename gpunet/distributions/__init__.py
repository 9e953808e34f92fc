"""Probability distributions, under PyTorch's names: densities, draws and moments."""

from gpunet import _missing
from gpunet.distributions import constraints
from gpunet.distributions.bernoulli import Bernoulli
from gpunet.distributions.categorical import Categorical
from gpunet.distributions.distribution import Distribution
from gpunet.distributions.independent import Independent
from gpunet.distributions.kl import kl_divergence
from gpunet.distributions.markov_chain import MarkovChain
from gpunet.distributions.mixture_same_family import MixtureSameFamily
from gpunet.distributions.normal import Normal
from gpunet.distributions.uniform import Uniform

__all__ = [
    "Bernoulli",
    "Categorical",
    "Distribution",
    "Independent",
    "MarkovChain",
    "MixtureSameFamily",
    "Normal",
    "Uniform",
    "constraints",
    "kl_divergence",
]

_missing.explain(__name__)
