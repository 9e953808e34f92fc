"""What PyTorch has at its top and gpunet does not, and what to do instead: the text of ``gn.jit``'s AttributeError."""

from __future__ import annotations

from typing import Final

__all__ = ["INSTEAD", "missing"]

_COMPLEX: Final = "there are no complex numbers here; keep real and imaginary parts in two tensors"
_QUANTIZED: Final = "there is no quantization here; float16 and bfloat16 halve the memory"
_UNSIGNED: Final = "uint8 is the only unsigned type; use int32 or int64"

# A name of torch -> what to do instead. Submodules answer for everything in them (gn.backends.cudnn).
INSTEAD: Final[dict[str, str]] = {
    "Event": "there is gn.cuda.synchronize",
    "Stream": "operations run in order on one stream of each GPU",
    "amp": "call .half() or .bfloat16() on the module and its inputs",
    "ao": _QUANTIZED,
    "autocast": "call .half() or .bfloat16() on the module and its inputs",
    "backends": "there are no switches such as cudnn.benchmark: results are deterministic, and what runs follows from "
    "shapes; take the line out",
    "cdouble": _COMPLEX,
    "cfloat": _COMPLEX,
    "compile": "modules run as they are; call the module itself",
    "complex": _COMPLEX,
    "complex128": _COMPLEX,
    "complex32": _COMPLEX,
    "complex64": _COMPLEX,
    "distributed": "train on one device, or place parts of a model on several with .to(device)",
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
    "onnx": "save weights with gn.save(model.state_dict(), path)",
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
}


def missing(name: str) -> AttributeError:
    """The error for a name the module does not have: with advice where PyTorch has it."""
    advice = INSTEAD.get(name)
    text = f"module 'gpunet' has no attribute {name!r}"
    return AttributeError(text if advice is None else f"{text}: {advice}", name=name)
