"""Gradient clipping, parameters as one vector, weights that are computed from others, and batches of sequences."""

from gpunet import _missing
from gpunet.nn.utils import parametrizations, parametrize, rnn
from gpunet.nn.utils.clip import clip_grad_norm_, clip_grad_value_, clip_grads_with_norm_, get_total_norm
from gpunet.nn.utils.convert import parameters_to_vector, vector_to_parameters
from gpunet.nn.utils.spectral_norm import remove_spectral_norm, spectral_norm
from gpunet.nn.utils.weight_norm import remove_weight_norm, weight_norm

__all__ = [
    "clip_grad_norm_",
    "clip_grad_value_",
    "clip_grads_with_norm_",
    "get_total_norm",
    "parameters_to_vector",
    "parametrizations",
    "parametrize",
    "remove_spectral_norm",
    "remove_weight_norm",
    "rnn",
    "spectral_norm",
    "vector_to_parameters",
    "weight_norm",
]

_missing.explain(__name__)
