"""Fixtures for the kernel tests, and the test of completeness that has to run after all others."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpunet.backend import devices
from gpunet.backend.kernels import KernelFile, get_kernel, launch, read_kernel_file
from gpunet.testing import cuda_on_cpu, host_compiler_missing

HERE = Path(__file__).parent
LAST = "test_every_kernel_was_executed"
# Where a test's kernels run: on the CPU with the threads in one order, the other and both, and on a GPU.
PLACES = ["forward", "reversed", "both", pytest.param("gpu", marks=pytest.mark.gpu)]

_collected: set[Path] = set()
_left_out: list[str] = []


class OnCPU:
    """Arrays are NumPy's; kernels run in the CUDA-on-CPU layer, in both orders of their threads."""

    module = np

    def run(self, call: Callable[[], Any]) -> Any:
        with cuda_on_cpu("both"):
            return call()

    def numpy(self, array: Any) -> np.ndarray:
        return array


class OnGPU:
    """Arrays are CuPy's."""

    def __init__(self) -> None:
        self.module = devices.cupy()

    def run(self, call: Callable[[], Any]) -> Any:
        return call()

    def numpy(self, array: Any) -> np.ndarray:
        return self.module.asnumpy(array)


@pytest.fixture(params=["cpu", pytest.param("gpu", marks=pytest.mark.gpu)])
def machine(request: pytest.FixtureRequest) -> OnCPU | OnGPU:
    """What runs kernels: the CPU, and a GPU where there is one."""
    if request.param == "gpu":
        return OnGPU()
    request.getfixturevalue("host")
    return OnCPU()


@pytest.fixture
def new_memory_is_nan(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fill new memory on the CPU with 0xFF bytes, NaN in every floating type: what no kernel wrote shows."""
    empty = np.empty

    def filled(*args: Any, **kwargs: Any) -> np.ndarray:
        made = empty(*args, **kwargs)
        made.reshape(-1, order="A").view(np.uint8)[...] = 0xFF
        return made

    monkeypatch.setattr(np, "empty", filled)
    monkeypatch.setattr(np, "empty_like", lambda like, *args, **kwargs: filled(like.shape, like.dtype))


@pytest.fixture
def host() -> None:
    """Skip where kernels cannot run on the CPU."""
    missing = host_compiler_missing()
    if missing is not None:
        pytest.skip(missing)


def launch_at(request: pytest.FixtureRequest, file: KernelFile) -> Callable[..., None]:
    """A function that launches kernels of a file on NumPy arrays, in the place that the fixture's parameter names."""
    if request.param != "gpu":
        request.getfixturevalue("host")

    def run(name: str, grid: Any, block: Any, *args: Any, shared_memory: int = 0, cooperative: bool = False) -> None:
        kernel = get_kernel(file, name)
        if request.param != "gpu":
            with cuda_on_cpu(request.param):
                launch(kernel, grid, block, args, shared_memory, cooperative=cooperative)
            return
        import cupy

        there = [cupy.asarray(value) if isinstance(value, np.ndarray) else value for value in args]
        launch(kernel, grid, block, there, shared_memory, cooperative=cooperative)
        for value, result in zip(args, there, strict=True):
            if isinstance(value, np.ndarray) and value.flags.writeable:
                value[...] = result.get()

    return run


@pytest.fixture(scope="session")
def machinery() -> KernelFile:
    """Kernels that try the CUDA-on-CPU layer."""
    return read_kernel_file(HERE / "machinery.cu")


@pytest.fixture(scope="session")
def faults() -> KernelFile:
    """Kernels that are wrong."""
    return read_kernel_file(HERE / "faults.cu")


@pytest.fixture
def left_out(request: pytest.FixtureRequest) -> list[str]:
    """The kernel tests that this run leaves out: by its arguments, or by a choice of names or marks."""
    files = [path.name for path in sorted(HERE.glob("test_*.py")) if path not in _collected]
    return files + [argument for argument in request.config.args if "::" in argument] + _left_out


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    _collected.update(item.path for item in items)
    yield
    items.sort(key=lambda item: item.name == LAST)


def pytest_deselected(items: list[pytest.Item]) -> None:
    _left_out.extend(item.nodeid for item in items if item.get_closest_marker("kernels") is not None)
