"""torchvision's model definitions, for comparison, beside a PyTorch that its compiled operators do not load with.

The model definitions are plain Python, but the package describes two of its operators to PyTorch when it is imported,
and PyTorch refuses to hear of operators that do not exist. Where the compiled ones do not load (beside a CPU build of
PyTorch, say), these two are declared without an implementation.
"""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

__all__ = ["RELEASE", "torchvision_models"]

# The release that the zoo is held to, which goes with PyTorch 2.13.
RELEASE = "0.28.0"

_DECLARATIONS: list[Any] = []  # they live as long as this does


@cache
def torchvision_models() -> Any:
    """``torchvision.models`` of the release above.

    Raises:
        ModuleNotFoundError: PyTorch or that release is not installed; the message says how to have it.
    """
    if importlib.util.find_spec("torch") is None:
        raise ModuleNotFoundError("PyTorch is not installed")
    try:
        version = metadata.version("torchvision").partition("+")[0]
    except metadata.PackageNotFoundError:
        raise ModuleNotFoundError(
            f"torchvision is not installed: pip install torchvision=={RELEASE} --no-deps"
        ) from None
    if version != RELEASE:
        raise ModuleNotFoundError(f"torchvision is {version}, gpunet is compared with {RELEASE}")
    import torch

    found = importlib.util.find_spec("torchvision")
    assert found is not None
    assert found.origin is not None
    try:
        torch.ops.load_library(Path(found.origin).parent / "_C.so")
    except OSError:
        declarations = torch.library.Library("torchvision", "FRAGMENT")
        declarations.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        declarations.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _DECLARATIONS.append(declarations)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("torchvision.models")
