"""gpunet: convolutional and recurrent networks on a CUDA GPU through CuPy, on any CPU through NumPy.

The names are PyTorch's: ``import gpunet as gn``, then ``gn.tensor``, ``gn.nn``, ``gn.optim``, ``gn.utils.data``.
"""

from __future__ import annotations

from gpunet import _startup as _startup  # before all that takes time

# isort: split
import importlib as _importlib
import math as _math
import sys as _sys
import types as _types
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any

import numpy as _np

from gpunet import (
    _missing,
    accelerator,
    autograd,
    backends,
    cuda,
    data,
    distributions,
    interop,
    models,
    nn,
    ops,
    optim,
)
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
    linalg,
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
from gpunet.autograd import functions as _functions
from gpunet.autograd.creation import (
    BoolTensor,
    ByteTensor,
    CharTensor,
    DoubleTensor,
    FloatTensor,
    HalfTensor,
    IntTensor,
    LongTensor,
    ShortTensor,
    asarray,
    frombuffer,
    logspace,
    scalar_tensor,
    tril_indices,
    triu_indices,
)
from gpunet.autograd.functions import *  # noqa: F403
from gpunet.autograd.joining import (
    atleast_1d,
    atleast_2d,
    atleast_3d,
    block_diag,
    broadcast_shapes,
    broadcast_tensors,
    cartesian_prod,
    column_stack,
    concatenate,
    dstack,
    hstack,
    meshgrid,
    row_stack,
    vstack,
)
from gpunet.autograd.placing import isin
from gpunet.autograd.printing import (
    get_printoptions,
    printoptions,
    set_printoptions,
)
from gpunet.autograd.sampling import (
    bernoulli,
    multinomial,
    normal,
    poisson,
    randint_like,
)
from gpunet.autograd.shape_functions import (
    adjoint,
    argwhere,
    broadcast_to,
    chunk,
    flip,
    fliplr,
    flipud,
    gather,
    hsplit,
    index_add,
    index_copy,
    index_fill,
    index_put,
    index_select,
    is_complex,
    is_floating_point,
    is_signed,
    masked_fill,
    masked_scatter,
    masked_select,
    moveaxis,
    movedim,
    narrow,
    nonzero,
    ravel,
    repeat_interleave,
    roll,
    rot90,
    scatter,
    scatter_add,
    select,
    swapaxes,
    swapdims,
    t,
    take,
    take_along_dim,
    tensor_split,
    tile,
    tril,
    triu,
    unbind,
    unflatten,
    vsplit,
)
from gpunet.autograd.shapes import Size
from gpunet.autograd.types import (
    can_cast,
    finfo,
    iinfo,
    promote_types,
    result_type,
)
from gpunet.backend.devices import Device, device, get_default_device, set_default_device
from gpunet.backend.errors import (
    CheckpointError,
    DeviceError,
    DTypeError,
    GradientError,
    OutOfMemoryError,
    ShapeError,
)
from gpunet.backend.precision import get_float32_matmul_precision, set_float32_matmul_precision
from gpunet.backend.random import (
    Generator,
    fork_rng,
    get_rng_state,
    initial_seed,
    manual_seed,
    seed,
    set_rng_state,
)
from gpunet.backend.random import default_generator as _default_generator
from gpunet.backend.threads import get_num_threads, set_num_threads
from gpunet.inspect.profile import profile
from gpunet.inspect.profile import record_function as _record_function
from gpunet.interop import load, save
from gpunet.ops.dtypes import get_default_dtype, set_default_dtype

if _TYPE_CHECKING:
    from gpunet import training

__all__ = [
    "BoolTensor",
    "ByteTensor",
    "CharTensor",
    "CheckpointError",
    "DTypeError",
    "Device",
    "DeviceError",
    "DoubleTensor",
    "FloatTensor",
    "Generator",
    "GradientError",
    "HalfTensor",
    "IntTensor",
    "LongTensor",
    "OutOfMemoryError",
    "ShapeError",
    "ShortTensor",
    "Size",
    "Tensor",
    "__version__",
    "accelerator",
    "adjoint",
    "arange",
    "argwhere",
    "as_tensor",
    "asarray",
    "atleast_1d",
    "atleast_2d",
    "atleast_3d",
    "autograd",
    "backends",
    "bernoulli",
    "block_diag",
    "bool",
    "broadcast_shapes",
    "broadcast_tensors",
    "broadcast_to",
    "can_cast",
    "cartesian_prod",
    "cat",
    "channels_last",
    "channels_last_3d",
    "chunk",
    "column_stack",
    "concatenate",
    "contiguous_format",
    "cuda",
    "data",
    "default_generator",
    "device",
    "distributions",
    "double",
    "dstack",
    "dtype",
    "e",
    "empty",
    "empty_like",
    "enable_grad",
    "eye",
    "finfo",
    "flip",
    "fliplr",
    "flipud",
    "float",
    "float16",
    "float32",
    "float64",
    "fork_rng",
    "from_dlpack",
    "from_numpy",
    "frombuffer",
    "full",
    "full_like",
    "gather",
    "get_default_device",
    "get_default_dtype",
    "get_float32_matmul_precision",
    "get_num_threads",
    "get_printoptions",
    "get_rng_state",
    "half",
    "hsplit",
    "hstack",
    "iinfo",
    "index_add",
    "index_copy",
    "index_fill",
    "index_put",
    "index_select",
    "inf",
    "inference_mode",
    "initial_seed",
    "int",
    "int16",
    "int32",
    "int64",
    "int8",
    "interop",
    "is_complex",
    "is_floating_point",
    "is_signed",
    "isin",
    "is_grad_enabled",
    "is_tensor",
    "linspace",
    "linalg",
    "load",
    "logspace",
    "long",
    "manual_seed",
    "masked_fill",
    "masked_scatter",
    "masked_select",
    "meshgrid",
    "models",
    "moveaxis",
    "movedim",
    "multinomial",
    "nan",
    "narrow",
    "newaxis",
    "nn",
    "no_grad",
    "nonzero",
    "normal",
    "ones",
    "ones_like",
    "ops",
    "optim",
    "pi",
    "poisson",
    "profile",
    "profiler",
    "preserve_format",
    "printoptions",
    "promote_types",
    "rand",
    "rand_like",
    "randint",
    "randint_like",
    "randn",
    "randn_like",
    "random",
    "randperm",
    "ravel",
    "repeat_interleave",
    "result_type",
    "roll",
    "rot90",
    "row_stack",
    "save",
    "scalar_tensor",
    "scatter",
    "scatter_add",
    "select",
    "seed",
    "set_default_device",
    "set_default_dtype",
    "set_float32_matmul_precision",
    "set_grad_enabled",
    "set_num_threads",
    "set_printoptions",
    "set_rng_state",
    "short",
    "stack",
    "swapaxes",
    "swapdims",
    "t",
    "take",
    "take_along_dim",
    "tensor",
    "tensor_split",
    "tile",
    "training",
    "tril",
    "tril_indices",
    "triu",
    "triu_indices",
    "uint8",
    "unbind",
    "unflatten",
    "utils",
    "vsplit",
    "vstack",
    "where",
    "zeros",
    "zeros_like",
]
__all__ += _functions.__all__

float16 = half = _np.dtype(_np.float16)
float32 = float = _np.dtype(_np.float32)
float64 = double = _np.dtype(_np.float64)
int8 = _np.dtype(_np.int8)
int16 = short = _np.dtype(_np.int16)
int32 = int = _np.dtype(_np.int32)
int64 = long = _np.dtype(_np.int64)
uint8 = _np.dtype(_np.uint8)
bool = _np.dtype(_np.bool_)
dtype = _np.dtype  # the class of them all

e, inf, nan, newaxis, pi = _math.e, _math.inf, _math.nan, None, _math.pi
# What PyTorch scripts pass as memory_format=: taken, and without effect, as the order in memory is gpunet's own.
channels_last = channels_last_3d = contiguous_format = preserve_format = "memory_format"

default_generator = _default_generator()
random = _types.ModuleType("gpunet.random", "The default random streams, as ``torch.random`` has them.")
for _function in (fork_rng, get_rng_state, initial_seed, manual_seed, seed, set_rng_state):
    setattr(random, _function.__name__, _function)
_sys.modules["gpunet.random"] = random

# `gpunet.utils.data` is `gpunet.data`, as PyTorch scripts import it.
utils = _types.ModuleType("gpunet.utils", "PyTorch's place for data loading: ``gpunet.utils.data`` is ``gpunet.data``.")
utils.data = data  # type: ignore[attr-defined]
_sys.modules["gpunet.utils"] = utils
_sys.modules["gpunet.utils.data"] = data
_sys.modules["gpunet.linalg"] = linalg
_missing.explain("gpunet.utils")
for _module in (data.dataloader, data.dataset, data.sampler):  # also imported by these names
    _sys.modules[_module.__name__.replace("gpunet.data", "gpunet.utils.data")] = _module


# `gpunet.profiler`, as PyTorch scripts import it.
profiler = _types.ModuleType("gpunet.profiler", "PyTorch's place for ``gpunet.profile`` and ``record_function``.")
profiler.profile = profile  # type: ignore[attr-defined]
profiler.record_function = _record_function  # type: ignore[attr-defined]
_sys.modules["gpunet.profiler"] = profiler


def __getattr__(name: str) -> Any:
    """What is imported when it is asked for: ``gn.training``, and ``gn.bfloat16``, whose ml_dtypes is an extra."""
    if name == "bfloat16":
        return ops.dtypes.bfloat16()
    if name == "training":
        return _importlib.import_module("gpunet.training")
    raise _missing.missing(__name__, name)


def __dir__() -> list[str]:
    return sorted({*globals(), "training"})
