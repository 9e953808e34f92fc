"""``gpunet info``."""

from __future__ import annotations

import argparse
import importlib.metadata
from typing import Any

from gpunet.backend.environment import describe_environment
from gpunet.cli.console import EXIT_SUCCESS, say, say_json

# What pip calls it, and the extra that brings it.
OPTIONAL_PACKAGES = {"matplotlib": "plot", "pillow": "images", "ml_dtypes": "half", "onnx": "onnx"}
REQUIRED_PACKAGES = ("safetensors", "threadpoolctl", "tqdm")
GIB = 1 << 30
MIB = 1 << 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.description = "Show versions, the devices that were found, what was tried, and why something is not used."
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line of stdout, nothing else")


def run(arguments: argparse.Namespace) -> int:
    """Run the command; returns its exit code."""
    found = describe_environment()
    found["packages"] = {name: _version(name) for name in (*REQUIRED_PACKAGES, *OPTIONAL_PACKAGES)}
    if arguments.json:
        say_json(found)
        return EXIT_SUCCESS
    for title, lines in _sections(found):
        say(title)
        for name, text in lines:
            say(f"  {name:<17}{text}")
    if found["notes"]:
        say("notes")
        for note in found["notes"]:
            say(f"  - {note}")
    return EXIT_SUCCESS


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _sections(found: dict[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    driver, cupy, nvrtc, kernels = (found[name] for name in ("driver", "cupy", "nvrtc", "kernels"))
    versions = [
        ("Python", f"{found['python']} on {found['platform']}"),
        ("NumPy", found["numpy"]),
        *((name, version or "not found") for name, version in found["packages"].items() if name in REQUIRED_PACKAGES),
    ]
    for name, extra in OPTIONAL_PACKAGES.items():
        versions.append((name, found["packages"][name] or f"not installed: pip install 'gpunet[{extra}]'"))
    used = str(found["device"])
    if found["GPUNET_DEVICE"] is not None:
        used += f" (GPUNET_DEVICE={found['GPUNET_DEVICE']})"
    devices = [("auto means", used), ("cpu", f"{found['threads']} threads")]
    for index, gpu in enumerate(found["devices"]):
        if gpu["name"] is None:
            devices.append((f"cuda:{index}", "does not answer"))
            continue
        memory = f"{gpu['memory_total'] / GIB:.1f} GiB, {gpu['memory_free'] / GIB:.1f} GiB free"
        devices.append((f"cuda:{index}", f"{gpu['name']}, compute capability {gpu['compute_capability']}, {memory}"))
    if cupy["version"] is None:
        cupy_text = "not installed"
    else:
        cupy_text = f"{cupy['version']} ({cupy['package']}{', CUDA ' + cupy['cuda'] if cupy['cuda'] else ''})"
        cupy_text += "" if cupy["usable"] else ", not used"
    cuda = [
        ("NVIDIA driver", f"supports CUDA {driver['cuda']}" if driver["cuda"] else "not found"),
        ("CuPy", cupy_text),
        ("NVRTC compiler", f"{nvrtc['version']} ({nvrtc['library']})" if nvrtc["version"] else "not found"),
    ]
    if kernels is not None:
        cuda.append(("kernels", f"{kernels['functions']} in {kernels['files']} files in {kernels['folder']}"))
        cache = kernels["cache"]
        if cache is not None:
            size = f"{cache['bytes'] / MIB:.1f} MiB"
            cuda.append(("compiled kernels", f"{cache['files']} files, {size}, in {cache['folder']}"))
    return [(f"gpunet {found['gpunet']}", versions), ("devices", devices), ("CUDA", cuda)]
