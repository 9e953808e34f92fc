"""Fixtures for the kernel tests, and the test of completeness that has to run after all others."""

from pathlib import Path

import pytest

from gpunet.backend.kernels import KernelFile, read_kernel_file
from gpunet.testing import host_compiler_missing

_LAST = "test_every_kernel_was_executed"
_left_out: list[str] = []


@pytest.fixture
def host() -> None:
    """Skip where kernels cannot run on the CPU."""
    missing = host_compiler_missing()
    if missing is not None:
        pytest.skip(missing)


@pytest.fixture(scope="session")
def machinery() -> KernelFile:
    return read_kernel_file(Path(__file__).parent / "machinery.cu")


@pytest.fixture(scope="session")
def faults() -> KernelFile:
    return read_kernel_file(Path(__file__).parent / "faults.cu")


@pytest.fixture
def left_out(request: pytest.FixtureRequest) -> list[str]:
    """The kernel tests that this run leaves out, by its arguments or by deselection."""
    here = Path(__file__).parent
    seen = {item.path for item in request.session.items}
    files = [path.name for path in sorted(here.glob("test_*.py")) if path not in seen]
    narrowed = [argument for argument in request.config.args if "::" in argument]
    return files + narrowed + _left_out


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.name == _LAST)


def pytest_deselected(items: list[pytest.Item]) -> None:
    _left_out.extend(item.nodeid for item in items if item.get_closest_marker("kernels") is not None)
