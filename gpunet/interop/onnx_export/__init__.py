"""Writing models as ONNX files, which other programs run."""

from gpunet.interop.onnx_export.export import Exported, export_onnx
from gpunet.interop.onnx_export.tracing import ExportError

__all__ = ["ExportError", "Exported", "export_onnx"]
