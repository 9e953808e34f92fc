"""``gpunet.backends``: the switches of ``torch.backends`` that scripts set, with what they mean here.

``cuda.matmul.allow_tf32`` and ``cudnn.allow_tf32`` allow TF32 for matrix products and for convolutions, as
``gn.set_float32_matmul_precision`` does for both. Both are off at first; PyTorch's for convolutions is on.

``cudnn.benchmark``, ``deterministic`` and ``enabled`` can be set and change nothing: there is no cuDNN in gpunet,
which kernel runs follows from shapes alone, and results are always deterministic.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Final, Literal

from gpunet import _missing
from gpunet.backend.precision import float32_convolution_precision, float32_matmul_precision, set_tf32

__all__ = ["cuda", "cudnn", "mps"]


class _Switches:
    """Attributes that can be set; setting any other is an error, as it would change nothing."""

    _path: str

    def __setattr__(self, name: str, value: object) -> None:
        if not name.startswith("_") and not hasattr(type(self), name):
            advice = "; there is no such switch in gpunet"
            raise AttributeError(f"{self._path} has no attribute {name!r}{advice}", name=name)
        super().__setattr__(name, value)


def _flag(value: object, name: str) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{name}: expected True or False, got {value!r}")
    return value


class _Precision(_Switches):
    """TF32 for one kind of operation, under PyTorch's newer name: ``fp32_precision = "ieee"`` or ``"tf32"``.

    ``"none"``, with which PyTorch goes by a more general setting, is ``"ieee"``: there is no more general one here.
    """

    def __init__(self, path: str, operation: Literal["matmul", "convolution"]) -> None:
        self._path = path
        self._operation: Literal["matmul", "convolution"] = operation

    @property
    def allow_tf32(self) -> bool:
        """True if TF32 may be used."""
        reads = float32_matmul_precision if self._operation == "matmul" else float32_convolution_precision
        return reads() == "high"

    @allow_tf32.setter
    def allow_tf32(self, value: bool) -> None:
        set_tf32(self._operation, _flag(value, f"{self._path}.allow_tf32"))

    @property
    def fp32_precision(self) -> str:
        """``"tf32"`` if TF32 may be used, else ``"ieee"``."""
        return "tf32" if self.allow_tf32 else "ieee"

    @fp32_precision.setter
    def fp32_precision(self, value: str) -> None:
        if value not in ("ieee", "tf32", "none"):
            raise ValueError(f"{self._path}.fp32_precision: expected 'ieee', 'tf32' or 'none', got {value!r}")
        set_tf32(self._operation, value == "tf32")


class _Module(_Switches, ModuleType):
    def __init__(self, name: str, text: str) -> None:
        self._path = f"gpunet.backends.{name}"
        ModuleType.__init__(self, self._path, text)
        sys.modules[self._path] = self


class _Cuda(_Module):
    def __init__(self) -> None:
        super().__init__("cuda", "What ``torch.backends.cuda`` has of switches.")
        self._matmul = _Precision("gpunet.backends.cuda.matmul", "matmul")

    @property
    def matmul(self) -> _Precision:
        """Matrix products."""
        return self._matmul

    def is_built(self) -> bool:
        """True: the kernels come with gpunet. ``gn.cuda.is_available()`` says whether there is a GPU."""
        return True


class _Cudnn(_Module):
    def __init__(self) -> None:
        super().__init__("cudnn", "What ``torch.backends.cudnn`` has of switches; gpunet does not use cuDNN.")
        self._conv = _Precision("gpunet.backends.cudnn.conv", "convolution")
        self._kept = {"benchmark": False, "deterministic": True, "enabled": False}

    @property
    def conv(self) -> _Precision:
        """Convolutions."""
        return self._conv

    @property
    def allow_tf32(self) -> bool:
        """True if convolutions may use TF32; off at first, which in PyTorch is on."""
        return self._conv.allow_tf32

    @allow_tf32.setter
    def allow_tf32(self, value: bool) -> None:
        set_tf32("convolution", _flag(value, "gpunet.backends.cudnn.allow_tf32"))

    @property
    def benchmark(self) -> bool:
        """What was set, without effect: the kernel follows from shapes."""
        return self._kept["benchmark"]

    @benchmark.setter
    def benchmark(self, value: bool) -> None:
        self._kept["benchmark"] = _flag(value, "gpunet.backends.cudnn.benchmark")

    @property
    def deterministic(self) -> bool:
        """What was set, True at first, without effect: results are always deterministic."""
        return self._kept["deterministic"]

    @deterministic.setter
    def deterministic(self, value: bool) -> None:
        self._kept["deterministic"] = _flag(value, "gpunet.backends.cudnn.deterministic")

    @property
    def enabled(self) -> bool:
        """What was set, without effect: there is no cuDNN here."""
        return self._kept["enabled"]

    @enabled.setter
    def enabled(self, value: bool) -> None:
        self._kept["enabled"] = _flag(value, "gpunet.backends.cudnn.enabled")

    def is_available(self) -> bool:
        """False: gpunet does not use cuDNN."""
        return False

    def version(self) -> None:
        """None: gpunet does not use cuDNN."""
        return None

    @contextmanager
    def flags(
        self,
        enabled: bool = False,
        benchmark: bool = False,
        benchmark_limit: int = 10,
        deterministic: bool = False,
        allow_tf32: bool = True,
        fp32_precision: str = "none",
    ) -> Iterator[None]:
        """A block with other switches, with PyTorch's defaults: TF32 is allowed unless it says otherwise.

        Args:
            enabled: without effect.
            benchmark: without effect.
            benchmark_limit: without effect.
            deterministic: without effect.
            allow_tf32: whether convolutions may use TF32.
            fp32_precision: ``"ieee"`` or ``"tf32"`` instead; ``"none"`` leaves it to ``allow_tf32``.
        """
        names = ("enabled", "benchmark", "deterministic", "allow_tf32")
        before = {name: getattr(self, name) for name in names}
        try:
            for name, value in zip(names, (enabled, benchmark, deterministic, allow_tf32), strict=True):
                setattr(self, name, value)
            if fp32_precision != "none":
                self._conv.fp32_precision = fp32_precision
            yield
        finally:
            for name in names:
                setattr(self, name, before[name])


class _Mps(_Module):
    def __init__(self) -> None:
        super().__init__("mps", "Apple's GPUs, which gpunet does not use.")

    def is_available(self) -> bool:
        """False."""
        return False

    def is_built(self) -> bool:
        """False."""
        return False


cuda: Final = _Cuda()
cudnn: Final = _Cudnn()
mps: Final = _Mps()

_missing.explain(__name__)
