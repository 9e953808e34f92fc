"""The exceptions gpunet raises.

Each is also a subclass of the built-in class that fits, so that ``except ValueError`` keeps working. Errors about
shapes, dtypes, layouts and devices are raised before anything runs, with the same text on every device.
"""

from __future__ import annotations

__all__ = ["CheckpointError", "DTypeError", "DeviceError", "GradientError", "OutOfMemoryError", "ShapeError"]


class ShapeError(ValueError):
    """A shape, size, stride, padding or dimension that does not fit."""


class DTypeError(TypeError):
    """A data type that an operation does not take."""


class DeviceError(RuntimeError):
    """Tensors on different devices, or a device that is not there."""


class OutOfMemoryError(RuntimeError, MemoryError):
    """A GPU's memory is used up: PyTorch's name and base class, and Python's."""


class GradientError(RuntimeError):
    """A backward pass that cannot be right: freed graphs, overwritten values, in-place writes to leaves."""


class CheckpointError(RuntimeError):
    """A file that holds no weights, is damaged, or does not fit the model."""
