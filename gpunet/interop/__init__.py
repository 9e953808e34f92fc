"""Reading and writing what other programs read and write."""

from gpunet.interop.safetensors_io import load, load_safetensors, save, save_safetensors

__all__ = ["load", "load_safetensors", "save", "save_safetensors"]
