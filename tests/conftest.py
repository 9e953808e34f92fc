"""What every test gets: the same seed, a bound on threads, and skips that are counted with their reason."""

from __future__ import annotations

import ast
import importlib.util
import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# Suites that a machine may be unable to run. A test that belongs to several counts for the first.
RECORDERS: pytest.StashKey[Any] = pytest.StashKey()
PARTIAL: pytest.StashKey[bool] = pytest.StashKey()
COUNTED = ("gpu", "parity", "onnx", "features", "kernels", "packaging", "slow")


def missing_gpu() -> str | None:
    """Return why the GPU tests cannot run here, or None where they can."""
    if importlib.util.find_spec("cupy") is None:
        return "CuPy is not installed"
    import cupy

    return None if cupy.cuda.is_available() else "CuPy finds no CUDA GPU"


# Virtual machines may announce matrix tiles (AMX) that trap when they are used: PyTorch's half precision dies of it.
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_FP16")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the parity suite write the compatibility table."""
    parser.addoption(
        "--write-compatibility", action="store_true", help="write docs/compatibility.md (with -m parity, all of it)"
    )


def pytest_configure() -> None:
    """Take signals as a terminal's programs do: where tests run in the background, the shell may have them ignored."""
    for name, handler in (("SIGINT", signal.default_int_handler), ("SIGHUP", signal.SIG_DFL)):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, handler)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    kernel_items = [item for item in items if "device" in item.fixturenames and runs_kernels(item)]
    if kernel_items:
        from gpunet.testing import host_compiler_missing

        missing = host_compiler_missing()
        for item in kernel_items:
            item.add_marker(pytest.mark.kernels)
            if missing is not None:
                item.add_marker(pytest.mark.skip(reason=missing))
    gpu_items = [item for item in items if item.get_closest_marker("gpu")]
    reason = missing_gpu() if gpu_items else None
    if reason is not None:
        for item in gpu_items:
            item.add_marker(pytest.mark.skip(reason=reason))
    parity_items = [item for item in items if item.get_closest_marker("parity")]
    if parity_items and importlib.util.find_spec("torch") is None:
        for item in parity_items:
            item.add_marker(pytest.mark.skip(reason="PyTorch is not installed"))
    feature_items = [item for item in items if item.get_closest_marker("features")]
    if feature_items and any(importlib.util.find_spec(name) is None for name in ("skimage", "sklearn")):
        for item in feature_items:
            item.add_marker(pytest.mark.skip(reason="scikit-image or scikit-learn is not installed"))
    # What looks back at the parity suite comes after it.
    items.sort(key=lambda item: item.path.name == "test_compatibility.py")


def runs_kernels(item: Any) -> bool:
    """Return whether a test is done where operations take the path of a GPU, on the CPU."""
    device = item.callspec.params.get("device") if hasattr(item, "callspec") else None
    return isinstance(device, str) and device == "cuda-on-cpu"


def pytest_deselected(items: list[pytest.Item]) -> None:
    """Note where a suite is not run whole."""
    config = items[0].config
    kept_out = config.option.markexpr  # -m is how a suite is chosen; -k and the like leave parts of it out
    suites = {recorded_suite(item) for item in items} - {None}
    if suites and (config.option.keyword or (kept_out == "parity" and "parity" in suites)):
        config.stash[PARTIAL] = True


def recorded_suite(item: pytest.Item) -> str | None:
    """Return the suite whose calls of public names are noted that a test belongs to."""
    if item.get_closest_marker("parity") is not None:
        return "parity" if importlib.util.find_spec("torch") is not None else None
    return (
        "errors"
        if item.path.parent.name == "errors" or item.path == Path(__file__).with_name("test_errors.py")
        else None
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Note which public names the parity tests call, and which the error catalogue."""
    suite = recorded_suite(item)
    if suite is None:
        return (yield)
    recorders: Any = item.config.stash.setdefault(RECORDERS, {})
    if suite not in recorders:
        from gpunet.testing.compatibility import Recorder

        recorders[suite] = Recorder()
    recorders[suite].test = item.name
    with recorders[suite]:
        return (yield)


def calls_of(suite: str, config: pytest.Config) -> dict[str, set[str]]:
    """Return the public names that a suite has called in this run; skip the test if not all of it ran."""
    whole = {str(config.rootpath), str(config.rootpath / "tests")}
    if config.stash.get(PARTIAL, False) or not {str(Path(path).resolve()) for path in config.args} <= whole:
        pytest.skip("only part of the tests was run")
    recorders: Any = config.stash.get(RECORDERS, {})
    return dict(recorders[suite].calls)


@pytest.fixture
def parity_calls(request: pytest.FixtureRequest) -> dict[str, set[str]]:
    """The public names that the parity tests of this run have called, if all of them ran."""
    return calls_of("parity", request.config)


@pytest.fixture
def error_calls(request: pytest.FixtureRequest) -> dict[str, set[str]]:
    """The public names that the error catalogue has called in this run, if all of it ran."""
    return calls_of("errors", request.config)


@pytest.fixture(autouse=True)
def _same_start() -> None:
    """Seed gpunet, and keep PyTorch to as many threads as the smallest machine has."""
    from gpunet.backend.random import manual_seed

    manual_seed(0)
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed(0)
        if torch.get_num_threads() > 2:
            torch.set_num_threads(2)


def tests_in(path: Path) -> int:
    """Count the test functions of a module that could not be imported (each may stand for several cases)."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))
    return sum(node.name.startswith("test_") for node in functions)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how many tests of each suite were skipped, by reason."""
    counts: Counter[tuple[str, str]] = Counter()
    for report in terminalreporter.stats.get("skipped", []):
        if not isinstance(report.longrepr, tuple):
            continue
        path, _, reason = report.longrepr
        reason = reason.removeprefix("Skipped: ")
        if isinstance(report, pytest.CollectReport):  # the whole module
            suite, skipped = "other", tests_in(Path(path))
            if "torch" in reason:
                suite, reason = "parity", "PyTorch is not installed"
            elif "onnx" in reason:
                suite, reason = "onnx", "onnx or onnxruntime is not installed"
        else:
            suite, skipped = next((name for name in COUNTED if name in report.keywords), "other"), 1
        counts[suite, reason] += skipped
    if counts:
        terminalreporter.section("skipped, by suite and reason")
        for (suite, reason), count in sorted(counts.items()):
            terminalreporter.line(f"{count:5d}  {suite}: {reason}")
