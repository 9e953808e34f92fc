"""What is found out about CUDA, on machines that have it, have half of it, or have none of it."""

import importlib.util
import json
import os
import subprocess
import sys
import types

import pytest

from gpunet.backend import cuda_runtime, devices
from gpunet.backend.cuda_runtime import describe_environment

KEYS = {
    "gpunet", "python", "platform", "numpy", "threads", "device", "GPUNET_DEVICE", "driver", "cupy", "devices",
    "nvrtc", "kernels", "notes",
}  # fmt: skip


@pytest.fixture
def machine(monkeypatch):
    """Play a machine: which CuPy packages, which driver, and why CuPy cannot be used."""

    def play(packages=(), driver=None, reason="CuPy is not installed"):
        monkeypatch.delenv("GPUNET_DEVICE", raising=False)
        monkeypatch.setattr(devices, "_cupy", None)
        monkeypatch.setattr(devices, "_cupy_reason", reason)
        monkeypatch.setattr(cuda_runtime, "_cupy_packages", lambda: dict.fromkeys(packages, "14.0.0"))
        monkeypatch.setattr(cuda_runtime, "driver_cuda_version", lambda: driver)
        return " | ".join(describe_environment()["notes"])

    return play


def test_description_of_this_machine():
    found = describe_environment()
    assert found.keys() == KEYS
    assert json.loads(json.dumps(found)) == found
    assert found["kernels"]["files"] >= 1
    assert found["kernels"]["functions"] >= 4


def test_without_anything(machine):
    notes = machine()
    assert "no GPU is used: CuPy is not installed" in notes
    assert "no NVIDIA driver was found" in notes


@pytest.mark.parametrize("driver, extra", [((13, 1), "cuda13"), ((12, 8), "cuda12")])
def test_driver_without_cupy(machine, driver, extra):
    notes = machine(driver=driver)
    assert f"supports CUDA {driver[0]}.{driver[1]}: pip install 'gpunet[{extra}]'" in notes


def test_old_driver(machine):
    assert "CuPy 14 needs 12 or newer: update the driver" in machine(driver=(11, 8))


def test_cupy_for_a_newer_driver(machine):
    notes = machine(["cupy-cuda13x"], (12, 4), "cudaErrorInsufficientDriver")
    assert "cupy-cuda13x needs 13" in notes
    assert "pip install 'gpunet[cuda12]'" in notes


def test_two_cupys(machine):
    assert "cupy-cuda13x and cupy-cuda12x are both installed" in machine(["cupy-cuda13x", "cupy-cuda12x"], (13, 0))


def test_broken_probes_do_not_break_the_report(machine, monkeypatch):
    def broken():
        raise OSError("disk on fire")

    for name in ("_describe_kernels", "driver_cuda_version", "_cupy_packages"):
        monkeypatch.setattr(cuda_runtime, name, broken)
    monkeypatch.setattr(devices, "is_cuda_available", broken)
    found = describe_environment()
    assert found.keys() == KEYS
    assert found["kernels"] is None
    assert sum("disk on fire" in note for note in found["notes"]) >= 4


def test_device_that_cannot_be_had(machine, monkeypatch):
    machine()
    monkeypatch.setenv("GPUNET_DEVICE", "tpu")
    found = describe_environment()
    assert found["device"] is None
    assert found["GPUNET_DEVICE"] == "tpu"
    assert any("unknown device 'tpu'" in note for note in found["notes"])


def test_with_a_gpu(monkeypatch):
    runtime = types.SimpleNamespace(
        getDeviceCount=lambda: 1,
        getDevice=lambda: 0,
        runtimeGetVersion=lambda: 13000,
        getDeviceProperties=lambda index: {"name": b"A GPU"},
        memGetInfo=lambda: (6, 8),
    )

    class Device:
        compute_capability = "100"

        def __init__(self, index):
            self.index = index

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

    fake = types.SimpleNamespace(cuda=types.SimpleNamespace(runtime=runtime, Device=Device), ndarray=type(None))
    monkeypatch.delenv("GPUNET_DEVICE", raising=False)
    monkeypatch.setattr(devices, "_cupy", fake)
    found = describe_environment()
    assert found["device"] == "cuda:0"
    assert found["cupy"]["usable"]
    assert found["cupy"]["cuda"] == "13.0"
    assert found["devices"] == [{"name": "A GPU", "compute_capability": "10.0", "memory_total": 8, "memory_free": 6}]


def test_cupy_is_not_imported_if_the_cpu_is_asked_for():
    code = (
        "import sys, json; from gpunet.backend.cuda_runtime import describe_environment; "
        "found = describe_environment(); print(json.dumps([found['device'], found['notes'], 'cupy' in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"GPUNET_DEVICE": "cpu"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    device, notes, imported = json.loads(done.stdout)
    assert device == "cpu"
    assert notes == ["no GPU is used: GPUNET_DEVICE=cpu is set, so CuPy was not looked for"]
    assert not imported


@pytest.mark.kernels
def test_cupy_without_a_driver():
    """The real CuPy, where it is installed on a machine without a GPU."""
    if importlib.util.find_spec("cupy") is None:
        pytest.skip("CuPy is not installed")
    found = describe_environment()
    if found["cupy"]["usable"]:
        pytest.skip("there is a GPU")
    assert found["cupy"]["version"] is not None
    assert any("finds no usable CUDA driver" in note or "reports no GPU" in note for note in found["notes"])
