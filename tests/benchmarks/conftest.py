"""The benchmarks are no part of what is installed: they are loaded from beside the tests."""

import importlib.util
import sys
from pathlib import Path

import pytest

from gpunet.testing import host_compiler_missing

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"

# By hand, rather than by a folder on sys.path, where the checkout's gpunet would stand in for the installed one.
if "benchmarks" not in sys.modules:
    spec = importlib.util.spec_from_file_location(
        "benchmarks", FOLDER / "__init__.py", submodule_search_locations=[str(FOLDER)]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules["benchmarks"] = module
    spec.loader.exec_module(module)


@pytest.fixture
def host() -> None:
    """Skip where kernels cannot run on the CPU."""
    missing = host_compiler_missing()
    if missing is not None:
        pytest.skip(missing)
