"""The error catalogue's entries: that they find what differs, and run where they say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gpunet.backend.kernels import uses_kernels
from gpunet.testing.bad_input import CUDA_ON_CPU, DEVICES, BadInput, device_for_tensors


def refuse(text: str) -> Any:
    raise ValueError(text)


@pytest.mark.parametrize("device", DEVICES)
def test_an_entry_runs_on_its_device(device: str) -> None:
    with device_for_tensors(device) as place:
        assert place == ("cpu" if device == CUDA_ON_CPU else device)

    def act(z: Any, on: Any) -> None:
        refuse(f"{z(2).device} {uses_kernels(np.zeros(1))}")

    BadInput("where", act, ValueError, f"{place} {device == CUDA_ON_CPU}").check(device)
    assert not uses_kernels(np.zeros(1))


@pytest.mark.parametrize("device", DEVICES)
def test_another_outcome_is_found(device: str) -> None:
    BadInput("right", lambda z, on: refuse("text"), ValueError, "text").check(device)
    for entry, message in (
        (BadInput("none", lambda z, on: z(2), ValueError, "text"), f"none: no error on {device}"),
        (BadInput("other text", lambda z, on: refuse("another"), ValueError, "text"), "another"),
        (BadInput("parent", lambda z, on: refuse("text"), Exception, "text"), "ValueError: text"),
    ):
        with pytest.raises(AssertionError) as caught:
            entry.check(device)
        assert str(caught.value).startswith(message)
