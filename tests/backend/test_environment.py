"""What is found out about CUDA, on machines that have it, have half of it, or have none of it."""

import importlib.util
import json
import os
import subprocess
import sys
import types

import pytest

from gpunet.backend import cuda_runtime, devices, environment, gpu_memory
from gpunet.backend.environment import describe_environment
from gpunet.cli.info import OPTIONAL_PACKAGES, _sections

KEYS = {
    "gpunet", "python", "platform", "numpy", "threads", "device", "GPUNET_DEVICE", "driver", "cupy", "devices",
    "nvrtc", "kernels", "notes",
}  # fmt: skip
GIB = 1 << 30


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """Play a machine: which CuPy packages, which driver, and why CuPy cannot be used."""
    monkeypatch.setenv("CUPY_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("GPUNET_DEVICE", raising=False)
    monkeypatch.delenv("CUPY_CACHE_IN_MEMORY", raising=False)

    def play(packages=(), driver=None, reason="CuPy is not installed", version="14.0.0"):
        monkeypatch.setattr(devices, "_cupy", None)
        monkeypatch.setattr(devices, "_cupy_reason", reason)
        monkeypatch.setattr(environment, "_cupy_packages", lambda: dict.fromkeys(packages, version))
        monkeypatch.setattr(environment, "driver_cuda_version", lambda: driver)
        return " | ".join(describe_environment()["notes"])

    return play


@pytest.fixture
def gpus(machine, monkeypatch):
    """Play a machine with GPUs: what is free of the 80 GiB of each, NVRTC, and the driver."""

    def play(free=(79,), nvrtc=(13, 0), driver=(13, 1), packages=("cupy-cuda13x",)):
        current = [0]

        class Device:
            def __init__(self, index):
                self.index = index

            def __enter__(self):
                current[0] = self.index
                return self

            def __exit__(self, *error):
                current[0] = 0

        def memory_info():
            if free[current[0]] is None:
                raise RuntimeError("cudaErrorMemoryAllocation: out of memory")
            return int(free[current[0]] * GIB), 80 * GIB

        def version():
            if nvrtc is None:
                raise RuntimeError('Failure finding "libnvrtc.so.13":\nNo such file')
            return nvrtc

        runtime = types.SimpleNamespace(
            getDeviceCount=lambda: len(free),
            getDevice=lambda: 0,
            runtimeGetVersion=lambda: 13000,
            getDeviceProperties=lambda index: {
                "name": b"A GPU", "major": 10, "minor": 0, "totalGlobalMem": 80 * GIB, "multiProcessorCount": 1,
            },
            memGetInfo=memory_info,
        )  # fmt: skip
        pool = types.SimpleNamespace(total_bytes=lambda: 0)
        compiler = types.SimpleNamespace(getVersion=version)
        machine(packages, driver)
        fake = types.SimpleNamespace(
            cuda=types.SimpleNamespace(runtime=runtime, Device=Device, nvrtc=compiler),
            ndarray=type(None),
            get_default_memory_pool=lambda: pool,
        )
        monkeypatch.setattr(devices, "_cupy", fake)
        monkeypatch.setattr(devices, "_cupy_reason", None)
        return describe_environment()

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


def test_old_cupy(machine):
    notes = machine(["cupy-cuda12x"], (12, 8), version="13.6.0")
    assert "cupy-cuda12x is 13.6.0, but gpunet needs CuPy 14: pip install -U 'cupy-cuda12x'" in notes
    assert "gpunet needs" not in machine(["cupy-cuda12x"], (12, 8), version="14.0.0rc1")


def test_cache_of_compiled_kernels(machine, tmp_path, monkeypatch):
    machine(["cupy-cuda13x"], (13, 0))
    assert describe_environment()["kernels"]["cache"] == {"folder": str(tmp_path / "cache"), "files": 0, "bytes": 0}
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "a.cubin").write_bytes(bytes(100))
    (tmp_path / "cache" / "b.cubin").write_bytes(bytes(20))
    (tmp_path / "cache" / "b.cubin.cu").write_bytes(bytes(7))
    found = describe_environment()
    assert found["kernels"]["cache"] == {"folder": str(tmp_path / "cache"), "files": 2, "bytes": 120}
    assert not any("CUPY_CACHE" in note for note in found["notes"])
    monkeypatch.setenv("CUPY_CACHE_IN_MEMORY", "1")
    assert any("CUPY_CACHE_IN_MEMORY=1 is set" in note for note in describe_environment()["notes"])


def test_cache_that_cannot_be_written_to(machine, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    note = "cannot be written to, where CuPy keeps compiled kernels: set CUPY_CACHE_DIR"
    assert note in machine(["cupy-cuda13x"], (13, 0))
    assert note not in machine()  # it matters to CuPy alone


def test_broken_probes_do_not_break_the_report(machine, monkeypatch):
    def broken():
        raise OSError("disk on fire")

    for name in ("_describe_kernels", "driver_cuda_version", "_cupy_packages"):
        monkeypatch.setattr(environment, name, broken)
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


def test_with_a_gpu(gpus):
    found = gpus()
    assert found["device"] == "cuda:0"
    assert found["cupy"]["usable"]
    assert found["cupy"]["cuda"] == "13.0"
    assert found["nvrtc"]["version"] == "13.0"
    assert found["devices"] == [
        {"name": "A GPU", "compute_capability": "10.0", "memory_total": 80 * GIB, "memory_free": 79 * GIB}
    ]
    assert found["notes"] == []


def test_no_compiler(gpus):
    notes = gpus(nvrtc=None)["notes"]
    assert notes == [
        "CuPy finds no NVRTC, so that no kernel can be compiled: pip install 'gpunet[cuda13]' brings it "
        '(RuntimeError: Failure finding "libnvrtc.so.13": No such file)'
    ]
    assert "pip install 'gpunet[cuda12]'" in gpus(nvrtc=None, packages=["cupy-cuda12x"])["notes"][0]


def test_compiler_newer_than_the_driver(gpus):
    (note,) = gpus(nvrtc=(13, 0), driver=(12, 8), packages=["cupy-cuda12x"])["notes"]
    assert note.startswith("NVRTC is of CUDA 13.0, but the NVIDIA driver supports 12.8")
    assert gpus(nvrtc=(12, 9), driver=(12, 4), packages=["cupy-cuda12x"])["notes"] == []  # one major version


def test_exhausted_gpu(gpus, monkeypatch):
    found = gpus(free=(79, 0.5))
    assert found["notes"] == ["cuda:1 has 512 MiB of its 81920 MiB free: other programs use it (nvidia-smi lists them)"]
    monkeypatch.setattr(gpu_memory, "memory_reserved", lambda index: 70 * GIB)
    assert describe_environment()["notes"] == []  # it is this program that has it


def test_gpu_that_does_not_answer(gpus):
    found = gpus(free=(None, 79))
    assert [gpu["name"] for gpu in found["devices"]] == [None, "A GPU"]
    assert "cuda:0 could not be found out: RuntimeError: cudaErrorMemoryAllocation" in found["notes"][0]
    assert "another program has all of its memory" in found["notes"][1]
    found["packages"] = dict.fromkeys(OPTIONAL_PACKAGES, "1.0")
    shown = dict(_sections(found)[1][1])
    assert shown["cuda:0"] == "does not answer"
    assert "79.0 GiB free" in shown["cuda:1"]


def test_cupy_is_not_imported_if_the_cpu_is_asked_for():
    code = (
        "import sys, json; from gpunet.backend.environment import describe_environment; "
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


def test_the_driver_is_asked_directly(monkeypatch):
    class Driver:
        def __init__(self, status):
            self.status = status

        def cuDriverGetVersion(self, version):
            version._obj.value = 13010
            return self.status

    monkeypatch.setattr(cuda_runtime.ctypes, "CDLL", lambda name: Driver(0))
    assert cuda_runtime.driver_cuda_version() == (13, 1)
    monkeypatch.setattr(cuda_runtime.ctypes, "CDLL", lambda name: Driver(3))
    assert cuda_runtime.driver_cuda_version() is None
    monkeypatch.setattr(cuda_runtime.ctypes, "CDLL", lambda name: object())
    assert cuda_runtime.driver_cuda_version() is None


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


@pytest.mark.gpu
def test_a_machine_with_a_gpu():
    found = describe_environment()
    assert found["cupy"]["usable"]
    assert found["cupy"]["cuda"] is not None
    assert found["driver"]["cuda"] is not None
    assert found["nvrtc"]["version"] is not None
    assert all(gpu["memory_total"] >= gpu["memory_free"] > 0 for gpu in found["devices"])
