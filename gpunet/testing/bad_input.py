"""Entries of the error catalogue: what is bad, and the one clear error it gives, the same wherever it is done.

A family's catalogue is a list of ``BadInput``; its test is one line::

    @pytest.mark.parametrize("device", DEVICES)
    @pytest.mark.parametrize("entry", CATALOGUE, ids=repr)
    def test_bad_input(entry, device):
        entry.check(device)

``CUDA_ON_CPU`` stands for the path that operations take on a GPU, run on this machine's CPU. A test that has it for its
parameter ``device`` belongs to the kernels' suite, and is skipped where kernels cannot run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import gpunet
from gpunet.testing.host_kernels import cuda_on_cpu

__all__ = ["CUDA_ON_CPU", "DEVICES", "BadInput", "device_for_tensors"]

CUDA_ON_CPU: Final = "cuda-on-cpu"
DEVICES: Final = ("cpu", "cpu:1", "meta", CUDA_ON_CPU)


@contextmanager
def device_for_tensors(device: str) -> Iterator[str]:
    """The device that tensors are made on; inside the block of ``CUDA_ON_CPU`` operations take the path of a GPU.

    Raises:
        RuntimeError: there is no C++20 compiler for ``CUDA_ON_CPU``.
    """
    if device != CUDA_ON_CPU:
        yield device
        return
    with cuda_on_cpu():
        yield "cpu"


@dataclass(frozen=True)
class BadInput:
    """One entry.

    Attributes:
        label: what is bad.
        act: does it. Called with ``zeros(*size, dtype=float32)``, which makes zeros on the device, and ``on(module)``,
            which moves a layer there.
        error: the class of the error, exactly.
        text: its whole text.
    """

    label: str
    act: Callable[[Any, Any], Any]
    error: type[Exception]
    text: str

    def __repr__(self) -> str:
        return self.label

    def check(self, device: str) -> None:
        """Do it on one of ``DEVICES``.

        Raises:
            AssertionError: no error, or another one.
        """
        caught: Exception | None = None
        with device_for_tensors(device) as place:

            def zeros(*size: int, dtype: Any = gpunet.float32) -> gpunet.Tensor:
                return gpunet.zeros(size, dtype=dtype, device=place)

            try:
                self.act(zeros, lambda module: module.to(place))
            except Exception as error:
                caught = error
        assert caught is not None, f"{self.label}: no error on {device}"
        assert type(caught) is self.error, f"{type(caught).__name__}: {caught}"
        assert str(caught) == self.text, str(caught)
