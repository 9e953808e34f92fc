"""gpunet: convolutional and recurrent networks on a CUDA GPU through CuPy, on any CPU through NumPy.

The names are PyTorch's: ``import gpunet as gn``, then ``gn.tensor``, ``gn.nn``, ``gn.optim``, ``gn.utils.data``.
"""

from __future__ import annotations

from gpunet import _startup as _startup  # before all that takes time

# isort: split
import sys as _sys
import types as _types
from typing import Any

import numpy as _np

from gpunet import autograd, cuda, data, interop, models, nn, ops, optim
from gpunet._version import __version__
from gpunet.autograd import (
    Tensor,
    arange,
    as_tensor,
    cat,
    empty,
    empty_like,
    enable_grad,
    eye,
    from_dlpack,
    from_numpy,
    full,
    full_like,
    inference_mode,
    is_grad_enabled,
    is_tensor,
    linspace,
    no_grad,
    ones,
    ones_like,
    rand,
    rand_like,
    randint,
    randn,
    randn_like,
    randperm,
    set_grad_enabled,
    stack,
    tensor,
    where,
    zeros,
    zeros_like,
)
from gpunet.autograd.functions import (
    abs,
    add,
    allclose,
    argmax,
    argmin,
    clamp,
    clip,
    concat,
    div,
    equal,
    exp,
    flatten,
    log,
    log_softmax,
    matmul,
    max,
    maximum,
    mean,
    min,
    minimum,
    mm,
    mul,
    neg,
    numel,
    permute,
    pow,
    relu,
    reshape,
    sigmoid,
    softmax,
    split,
    sqrt,
    squeeze,
    std,
    sub,
    sum,
    tanh,
    transpose,
    unsqueeze,
    var,
)
from gpunet.backend.devices import Device, device, get_default_device, set_default_device
from gpunet.backend.errors import CheckpointError, DeviceError, DTypeError, GradientError, ShapeError
from gpunet.backend.random import Generator, get_rng_state, initial_seed, manual_seed, set_rng_state
from gpunet.backend.threads import get_num_threads, set_num_threads
from gpunet.interop import load, save

__all__ = [
    "CheckpointError",
    "DTypeError",
    "Device",
    "DeviceError",
    "Generator",
    "GradientError",
    "ShapeError",
    "Tensor",
    "__version__",
    "abs",
    "add",
    "allclose",
    "arange",
    "argmax",
    "argmin",
    "as_tensor",
    "autograd",
    "bool",
    "cat",
    "clamp",
    "clip",
    "concat",
    "cuda",
    "data",
    "device",
    "div",
    "double",
    "empty",
    "empty_like",
    "enable_grad",
    "equal",
    "exp",
    "eye",
    "flatten",
    "float",
    "float16",
    "float32",
    "float64",
    "from_dlpack",
    "from_numpy",
    "full",
    "full_like",
    "get_default_device",
    "get_num_threads",
    "get_rng_state",
    "half",
    "inference_mode",
    "initial_seed",
    "int",
    "int16",
    "int32",
    "int64",
    "int8",
    "interop",
    "is_grad_enabled",
    "is_tensor",
    "linspace",
    "load",
    "log",
    "log_softmax",
    "long",
    "manual_seed",
    "matmul",
    "max",
    "maximum",
    "mean",
    "min",
    "minimum",
    "mm",
    "models",
    "mul",
    "neg",
    "nn",
    "no_grad",
    "numel",
    "ones",
    "ones_like",
    "ops",
    "optim",
    "permute",
    "pow",
    "rand",
    "rand_like",
    "randint",
    "randn",
    "randn_like",
    "randperm",
    "relu",
    "reshape",
    "save",
    "set_default_device",
    "set_grad_enabled",
    "set_num_threads",
    "set_rng_state",
    "short",
    "sigmoid",
    "softmax",
    "split",
    "sqrt",
    "squeeze",
    "stack",
    "std",
    "sub",
    "sum",
    "tanh",
    "tensor",
    "transpose",
    "uint8",
    "unsqueeze",
    "utils",
    "var",
    "where",
    "zeros",
    "zeros_like",
]

float16 = half = _np.dtype(_np.float16)
float32 = float = _np.dtype(_np.float32)
float64 = double = _np.dtype(_np.float64)
int8 = _np.dtype(_np.int8)
int16 = short = _np.dtype(_np.int16)
int32 = int = _np.dtype(_np.int32)
int64 = long = _np.dtype(_np.int64)
uint8 = _np.dtype(_np.uint8)
bool = _np.dtype(_np.bool_)

# `gpunet.utils.data` is `gpunet.data`, as PyTorch scripts import it.
utils = _types.ModuleType("gpunet.utils", "PyTorch's place for data loading: ``gpunet.utils.data`` is ``gpunet.data``.")
utils.data = data  # type: ignore[attr-defined]
_sys.modules["gpunet.utils"] = utils
_sys.modules["gpunet.utils.data"] = data
for _module in (data.dataloader, data.dataset, data.sampler):  # also imported by these names
    _sys.modules[_module.__name__.replace("gpunet.data", "gpunet.utils.data")] = _module


def __getattr__(name: str) -> Any:
    """``gn.bfloat16`` needs the ml_dtypes package, which is an extra: it is imported when asked for."""
    if name == "bfloat16":
        return ops.dtypes.bfloat16()
    raise AttributeError(f"module 'gpunet' has no attribute {name!r}")
