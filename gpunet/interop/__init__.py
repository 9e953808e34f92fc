"""Reading and writing what other programs read and write."""

from gpunet.interop.onnx_export import ExportError, export_onnx
from gpunet.interop.pth import load_pth
from gpunet.interop.safetensors_io import load, load_safetensors, save, save_safetensors

__all__ = ["ExportError", "export_onnx", "load", "load_pth", "load_safetensors", "save", "save_safetensors"]
