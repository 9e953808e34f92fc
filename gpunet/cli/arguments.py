"""Types of the commands' arguments: each refuses what cannot be right, and says what would be."""

from __future__ import annotations

import argparse
import math
import os

from gpunet.backend.devices import Device, cuda_unavailable_reason, device, is_cuda_available
from gpunet.backend.environment import describe_environment
from gpunet.backend.errors import DeviceError
from gpunet.cli.console import UsageError


def positive_integer(text: str) -> int:
    """1, 2, 3, ..."""
    value = _integer(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


def seed_number(text: str) -> int:
    """A whole number of 63 bits."""
    value = _integer(text)
    if not 0 <= value < 1 << 63:
        raise argparse.ArgumentTypeError(f"must lie in 0..2**63-1, got {value}")
    return value


def positive_number(text: str) -> float:
    """A finite number above 0."""
    value = _finite(text)
    if value <= 0.0:
        raise argparse.ArgumentTypeError(f"must be above 0, got {text}")
    return value


def non_negative_number(text: str) -> float:
    """A finite number, 0 or above."""
    value = _finite(text)
    if value < 0.0:
        raise argparse.ArgumentTypeError(f"must not be negative, got {text}")
    return value


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a whole number, got {text!r}") from None


def _finite(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a number, got {text!r}") from None
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"must be a finite number, got {text}")
    return value


def path_name(text: str) -> str:
    """The name of a file or folder. An empty one, as of a shell variable that is not set, would mean this folder."""
    if not text:
        raise argparse.ArgumentTypeError("must not be empty")
    return text


def usable_device(name: str, origin: str = "argument --device") -> Device:
    """The device of that name, found to be one on which something can be computed.

    Args:
        name: what ``gpunet.device`` takes; where it is ``"auto"``, ``GPUNET_DEVICE`` decides.
        origin: where the name was given, for the message.

    Raises:
        UsageError: there is no such device; the message says why.
    """
    variable = os.environ.get("GPUNET_DEVICE", "").strip()
    from_variable = name == "auto" and bool(variable)
    if from_variable:
        origin = f"GPUNET_DEVICE={variable}"
    try:
        found = device(name)
    except DeviceError as error:
        reasons = [str(error)]
        if (variable if from_variable else name).lower().startswith("cuda") and not is_cuda_available():
            # What was found besides, and what can be done about it; the first reason is in the error already.
            notes = describe_environment()["notes"]
            reasons += [note for note in notes if str(cuda_unavailable_reason()) not in note]
        raise UsageError(f"{origin}: {'; '.join(reasons)}") from error
    if found.type == "meta":
        raise UsageError(f"{origin}: 'meta' holds no data, nothing can be computed on it")
    return found
