"""Entries of the error catalogue: what is bad, and the one clear error it gives, the same on cpu and meta.

A family's catalogue is a list of ``BadInput``; its test is one line::

    @pytest.mark.parametrize("device", DEVICES)
    @pytest.mark.parametrize("entry", CATALOGUE, ids=repr)
    def test_bad_input(entry, device):
        entry.check(device)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import gpunet

__all__ = ["DEVICES", "BadInput"]

DEVICES: Final = ("cpu", "cpu:1", "meta")


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
        """Do it on a device.

        Raises:
            AssertionError: no error, or another one.
        """

        def zeros(*size: int, dtype: Any = gpunet.float32) -> gpunet.Tensor:
            return gpunet.zeros(size, dtype=dtype, device=device)

        caught: Exception | None = None
        try:
            self.act(zeros, lambda module: module.to(device))
        except Exception as error:
            caught = error
        assert caught is not None, f"{self.label}: no error on {device}"
        assert type(caught) is self.error, f"{type(caught).__name__}: {caught}"
        assert str(caught) == self.text, str(caught)
