"""Names that PyTorch has and gpunet does not, and what to do instead: the text of ``gn.jit``'s AttributeError."""

from __future__ import annotations

import sys
from typing import Any, Final

__all__ = ["INSTEAD", "explain", "missing"]

_AMP: Final = "call .half() or .bfloat16() on the module and its inputs"
_ANOMALY: Final = "take the line out; gn.isfinite(x).all() and tensor.register_hook find what is not finite"
_COMPLEX: Final = "there are no complex numbers here; keep real and imaginary parts in two tensors"
_DECODER: Final = "only the encoder is had: gn.nn.TransformerEncoder; gn.nn.MultiheadAttention attends to its output"
_FIRST_ORDER: Final = "gpunet computes first-order gradients only: loss.backward() and gn.autograd.grad"
_FRACTIONAL: Final = "use max pooling or adaptive max pooling"
_GRAPHS: Final = "operations run as they are called; take the line out"
_LOWER_CASE: Final = "use the name that ends in an underscore"
_MEMORY: Final = "use gn.cuda.memory_stats and gn.cuda.memory_summary"
_ONE_DEVICE: Final = "train on one device, or place parts of a model on several with .to(device)"
_PIPES: Final = "use Dataset, IterableDataset and DataLoader"
_QUANTIZED: Final = "there is no quantization here; float16 and bfloat16 halve the memory"
_UNSIGNED: Final = "uint8 is the only unsigned type; use int32 or int64"
_VARIABLE: Final = "tensors are variables: use gn.tensor(data, requires_grad=True)"

# A name after torch -> what to do instead. Modules answer for everything in them (gn.jit.script).
INSTEAD: Final[dict[str, str]] = {
    "Event": "use gn.cuda.Event",
    "Stream": "use gn.cuda.Stream",
    "amp": _AMP,
    "Variable": _VARIABLE,
    "GradScaler": "gradients are not scaled; take the scaler out",
    "ao": _QUANTIZED,
    "autocast": _AMP,
    "cdouble": _COMPLEX,
    "cfloat": _COMPLEX,
    "compile": "modules run as they are; call the module itself",
    "complex": _COMPLEX,
    "complex128": _COMPLEX,
    "complex32": _COMPLEX,
    "complex64": _COMPLEX,
    "distributed": _ONE_DEVICE,
    "export": "save weights with gn.save(model.state_dict(), path)",
    "fft": "use numpy.fft on tensor.numpy()",
    "func": "gradients are loss.backward() and gn.autograd.grad",
    "fx": "gn.autograd.observe sees every operation as it runs",
    "hub": "models are in gn.models; weights are loaded with gn.load",
    "jit": "modules run as they are: leave out script and trace, and save weights with gn.save",
    "layout": "all tensors are dense (strided)",
    "memory_format": "the order in memory is gpunet's own",
    "mps": "there are CPUs and CUDA GPUs: gn.device('auto') chooses",
    "multiprocessing": "use Python's multiprocessing; tensors cross process borders as arrays",
    "onnx": "use gn.interop.export_onnx(model, path, input_size)",
    "package": "save weights with gn.save(model.state_dict(), path)",
    "per_tensor_affine": _QUANTIZED,
    "qint8": _QUANTIZED,
    "quantization": _QUANTIZED,
    "quantize_per_tensor": _QUANTIZED,
    "quint8": _QUANTIZED,
    "set_default_tensor_type": "use gn.set_default_dtype and gn.set_default_device",
    "set_deterministic": "results are deterministic by default; take the line out",
    "sparse": "all tensors are dense",
    "sparse_coo": "all tensors are dense",
    "sparse_coo_tensor": "all tensors are dense; make zeros and scatter the values into them",
    "strided": "all tensors are strided; take layout out",
    "uint16": _UNSIGNED,
    "uint32": _UNSIGNED,
    "uint64": _UNSIGNED,
    "use_deterministic_algorithms": "results are deterministic by default; take the line out",
    "vmap": "write the operation for a batch: operations broadcast",
    "xpu": "there are CPUs and CUDA GPUs: gn.device('auto') chooses",
    "nn.AdaptiveLogSoftmaxWithLoss": "use gn.nn.Linear and gn.nn.CrossEntropyLoss",
    "nn.CTCLoss": "there is no CTC loss; gn.nn.CrossEntropyLoss needs aligned labels",
    "nn.CrossMapLRN2d": "use gn.nn.LocalResponseNorm",
    "nn.DataParallel": _ONE_DEVICE,
    "nn.parallel": _ONE_DEVICE,
    "nn.SyncBatchNorm": "use gn.nn.BatchNorm2d: a model trains on one device",
    "nn.FractionalMaxPool2d": _FRACTIONAL,
    "nn.FractionalMaxPool3d": _FRACTIONAL,
    "nn.Transformer": _DECODER,
    "nn.TransformerDecoder": _DECODER,
    "nn.TransformerDecoderLayer": _DECODER,
    "nn.Buffer": "use Module.register_buffer",
    "nn.Container": "use gn.nn.Module",
    "nn.LazyInstanceNorm1d": "give the channels: gn.nn.InstanceNorm1d(num_features)",
    "nn.LazyInstanceNorm2d": "give the channels: gn.nn.InstanceNorm2d(num_features)",
    "nn.LazyInstanceNorm3d": "give the channels: gn.nn.InstanceNorm3d(num_features)",
    "nn.NLLLoss2d": "use gn.nn.NLLLoss",
    "nn.grad": "gradients of layers come from loss.backward()",
    "nn.modules": "the layers are in gn.nn: from gpunet.nn import Conv2d",
    "nn.intrinsic": _QUANTIZED,
    "nn.qat": _QUANTIZED,
    "nn.quantizable": _QUANTIZED,
    "nn.quantized": _QUANTIZED,
    "nn.functional.ctc_loss": "there is no CTC loss; cross_entropy needs aligned labels",
    "nn.functional.conv_tbc": "use conv1d on input.permute(1, 2, 0)",
    "nn.functional.fractional_max_pool2d": _FRACTIONAL,
    "nn.functional.fractional_max_pool3d": _FRACTIONAL,
    "nn.functional.pdist": "use gn.cdist(x, x) and its upper triangle",
    "nn.functional.upsample": "use interpolate",
    "nn.functional.upsample_bilinear": "use interpolate",
    "nn.functional.upsample_nearest": "use interpolate",
    "nn.init.constant": _LOWER_CASE,
    "nn.init.dirac": _LOWER_CASE,
    "nn.init.eye": _LOWER_CASE,
    "nn.init.kaiming_normal": _LOWER_CASE,
    "nn.init.kaiming_uniform": _LOWER_CASE,
    "nn.init.normal": _LOWER_CASE,
    "nn.init.orthogonal": _LOWER_CASE,
    "nn.init.sparse": _LOWER_CASE,
    "nn.init.uniform": _LOWER_CASE,
    "nn.init.xavier_normal": _LOWER_CASE,
    "nn.init.xavier_uniform": _LOWER_CASE,
    "nn.utils.clip_grad_norm": _LOWER_CASE,
    "nn.utils.prune": "there is no pruning; set weights to zero under gn.no_grad()",
    "nn.utils.skip_init": "make the module: its weights are set when it is made",
    "nn.utils.stateless": "parameters belong to their modules; use load_state_dict",
    "nn.utils.fuse_conv_bn_eval": "layers are not fused by hand; call .eval() and run the model",
    "nn.utils.fuse_conv_bn_weights": "layers are not fused by hand; call .eval() and run the model",
    "nn.utils.fuse_linear_bn_eval": "layers are not fused by hand; call .eval() and run the model",
    "nn.utils.fuse_linear_bn_weights": "layers are not fused by hand; call .eval() and run the model",
    "autograd.Function": "write it of tensor operations, whose gradients follow; tensor.register_hook changes one",
    "autograd.Variable": _VARIABLE,
    "autograd.variable": _VARIABLE,
    "autograd.anomaly_mode": _ANOMALY,
    "autograd.detect_anomaly": _ANOMALY,
    "autograd.set_detect_anomaly": _ANOMALY,
    "autograd.forward_ad": _FIRST_ORDER,
    "autograd.functional": _FIRST_ORDER,
    "autograd.gradgradcheck": _FIRST_ORDER,
    "autograd.graph": "gn.autograd.observe sees every operation as it runs",
    "autograd.profiler": "use gn.profile",
    "cuda.CUDAGraph": _GRAPHS,
    "cuda.graph": _GRAPHS,
    "cuda.graphs": _GRAPHS,
    "cuda.make_graphed_callables": _GRAPHS,
    "cuda.amp": _AMP,
    "cuda.get_rng_state": "use gn.get_rng_state",
    "cuda.initial_seed": "use gn.initial_seed",
    "cuda.seed": "use gn.seed",
    "cuda.set_rng_state": "use gn.set_rng_state",
    "cuda.get_rng_state_all": "use gn.get_rng_state",
    "cuda.seed_all": "use gn.seed",
    "cuda.set_rng_state_all": "use gn.set_rng_state",
    "cuda.memory": "its functions are in gn.cuda",
    "cuda.memory_snapshot": _MEMORY,
    "cuda.is_bf16_supported": "ask gn.cuda.get_device_capability() >= (8, 0)",
    "cuda.Device": "gn.cuda.device(0) is a block with another current GPU; gn.device('cuda:0') is where tensors are",
    "cuda.ExternalStream": "use gn.cuda.Stream; its cuda_stream is the address that other libraries take",
    "cuda.set_per_process_memory_fraction": "set CUPY_GPU_MEMORY_LIMIT, such as 50%, before Python starts",
    "cuda.nccl": _ONE_DEVICE,
    "cuda.nvtx": "use gn.profile",
    "cuda.profiler": "use gn.profile",
    "cuda.ipc_collect": "tensors cross process borders as arrays; take the line out",
    "backends.cpu": "python -m gpunet info tells of the machine",
    "backends.mkl": "the CPU's operations are NumPy's; take the line out",
    "backends.mkldnn": "the CPU's operations are NumPy's; take the line out",
    "backends.openmp": "use gn.get_num_threads",
    "backends.opt_einsum": "gn.einsum chooses the order itself; take the line out",
    "utils.benchmark": "use timeit, with gn.cuda.synchronize on a GPU",
    "utils.checkpoint": "activations are kept for backward; a smaller batch takes less memory",
    "utils.cpp_extension": "operations are written in Python; there are no extensions",
    "utils.dlpack": "use gn.from_dlpack",
    "utils.mobile_optimizer": _QUANTIZED,
    "utils.model_zoo": "models are in gn.models; weights are loaded with gn.load",
    "utils.tensorboard": "use the tensorboard or tensorboardX package with tensor.item()",
    "utils.data.DistributedSampler": _ONE_DEVICE,
    "utils.data.distributed": _ONE_DEVICE,
    "utils.data.DFIterDataPipe": _PIPES,
    "utils.data.IterDataPipe": _PIPES,
    "utils.data.MapDataPipe": _PIPES,
    "utils.data.datapipes": _PIPES,
    "utils.data.functional_datapipe": _PIPES,
    "distributions.MultivariateNormal": "use Independent(Normal(loc, scale), 1) where the covariance is diagonal",
    "distributions.Multinomial": "draw from Categorical and count with gn.bincount",
    "distributions.OneHotCategorical": "use Categorical, and gn.nn.functional.one_hot on what it draws",
    "distributions.Poisson": "gn.poisson draws, and gn.nn.PoissonNLLLoss is the negative log-likelihood",
    "optim.Adafactor": "use gn.optim.Adam or gn.optim.AdamW",
    "optim.Muon": "use gn.optim.SGD(nesterov=True) or gn.optim.AdamW",
    "optim.SparseAdam": "gradients are dense: use gn.optim.Adam",
}


def missing(module: str, name: str) -> AttributeError:
    """The error for a name that a module, such as ``gpunet.nn``, does not have: with advice where PyTorch has it."""
    inside = module.partition(".")[2]
    place = f"{inside}." if inside != "data" else "utils.data."  # PyTorch's place for it
    advice = INSTEAD.get(f"{place}{name}" if inside else name)
    text = f"module {module!r} has no attribute {name!r}"
    return AttributeError(text if advice is None else f"{text}: {advice}", name=name)


def explain(module: str) -> None:
    """Let a module say what to do instead of a name it does not have.

    Set rather than defined in each module: a ``__getattr__`` in its text would hide misspelt names from type checkers.
    """

    def absent(name: str) -> Any:
        raise missing(module, name)

    vars(sys.modules[module])["__getattr__"] = absent
