"""Where the sides run: a GPU, timed with its events, or the CPU, on which the benchmark itself can be tried.

On a GPU both libraries put their work into the same stream, and give each other arrays by DLPack: one copy of the
numbers serves both. On the CPU gpunet's kernels run in the CUDA-on-CPU layer, thousands of times slower than they
are: the times that come of it mean nothing and are never kept.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

import gpunet as gn
from benchmarks.gpu.timing import Sample
from gpunet.backend import devices
from gpunet.testing import cuda_on_cpu, host_compiler_missing

__all__ = ["ROOT", "GPU", "CPULayer", "Machine", "NotAvailable", "open_machine", "set_precision", "without_places"]

GIB = 1 << 30
# How long the GPU waits while work is asked for: at first, and at most.
SHORTEST_WAIT, LONGEST_WAIT = 1e-3, 0.25
ROOT = Path(__file__).resolve().parents[2]


class NotAvailable(RuntimeError):
    """What the benchmark needs is not there; the message is one line that says what."""


def set_precision(torch: Any, tf32: bool) -> None:
    """Say explicitly, on both sides, whether float32 products may be rounded to TF32.

    gpunet computes in exact float32 here whatever is said to PyTorch: its TF32 times are shown for information.

    Raises:
        RuntimeError: PyTorch did not take it.
    """
    if hasattr(gn, "set_float32_matmul_precision"):
        gn.set_float32_matmul_precision("highest")
    with warnings.catch_warnings():
        # PyTorch has announced other names for these flags, and keeps them.
        warnings.simplefilter("ignore")
        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.deterministic = False
        torch.backends.cudnn.allow_tf32 = tf32
        torch.backends.cuda.matmul.allow_tf32 = tf32
        found = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    if found != (tf32, tf32):
        raise RuntimeError(f"PyTorch's TF32 flags are {found} after they were set to {tf32}")


class Machine:
    """A place to run.

    Attributes:
        torch: PyTorch.
        name: of the GPU or processor.
        device: what PyTorch calls the place.
        measures: whether times taken here mean anything.
        cache_bytes: of the last-level cache that buffers have to rotate through.
    """

    torch: Any
    name: str
    device: str
    measures: bool
    cache_bytes: int

    def array(self, tensor: Any) -> Any:
        """PyTorch's tensor as gpunet's array, the same memory and strides."""
        raise NotImplementedError

    def tensor(self, array: Any) -> Any:
        """gpunet's array as PyTorch's tensor, the same memory and strides."""
        return self.torch.from_dlpack(array)

    def running(self) -> AbstractContextManager[Any]:
        """A block in which gpunet's kernels run here."""
        raise NotImplementedError

    def stopwatch(self, call: Callable[[], Any], count: int) -> Sample:
        """Time ``count`` calls."""
        raise NotImplementedError

    def release(self) -> None:
        """Give back the memory that neither library uses now, so that each finds what it needs."""

    def poison(self, count: int) -> None:
        """Leave NaN where an array of ``count`` float32 numbers is likely to be allocated next."""

    def copy_ceiling(self) -> float:
        """Bytes read and written each second by a copy that is much larger than the cache."""
        size = GIB // 4 if self.measures else 1 << 18
        while self.measures and 2 * size * 4 > self.torch.cuda.mem_get_info()[0] // 2:
            size //= 2
        source = self.torch.randn(size, device=self.device)
        target = self.torch.empty_like(source)
        seconds = self._best(lambda: target.copy_(source))
        return 2 * source.numel() * source.element_size() / seconds

    def gemm_ceiling(self) -> float:
        """Floating-point operations each second of PyTorch's (cuBLAS's) float32 product, without TF32."""
        set_precision(self.torch, tf32=False)
        best = 0.0
        for size in (4096, 8192) if self.measures else (64,):
            a, b = (self.torch.randn(size, size, device=self.device) for _ in range(2))
            best = max(best, 2 * size**3 / self._best(lambda a=a, b=b: a @ b))
        return best

    def _best(self, call: Callable[[], Any]) -> float:
        """The shortest of several rounds: a ceiling is what the machine can do."""
        rounds, calls = (10, 5) if self.measures else (2, 1)
        self.stopwatch(call, calls)
        return min(self.stopwatch(call, calls).seconds for _ in range(rounds))

    def about(self) -> dict[str, Any]:
        """What ran: versions, and the state the device was found in."""
        raise NotImplementedError


class GPU(Machine):
    """The current CUDA device, which both libraries must agree about.

    Raises:
        NotAvailable: CuPy, PyTorch, cuDNN or the GPU is missing.
    """

    device = "cuda"
    measures = True

    def __init__(self) -> None:
        reason = devices.cuda_unavailable_reason()
        if reason is not None:
            raise NotAvailable(f"no GPU: {reason}")
        self.torch = _torch()
        if not self.torch.cuda.is_available():
            raise NotAvailable(f"PyTorch {self.torch.__version__} finds no GPU; it has to be a build for CUDA")
        if not self.torch.backends.cudnn.is_available():
            raise NotAvailable(f"PyTorch {self.torch.__version__} has no cuDNN to compare with")
        self._cupy = devices.cupy()
        # One stream: otherwise one library's events would not see the other's work.
        streams = self.torch.cuda.current_stream().cuda_stream, self._cupy.cuda.get_current_stream().ptr
        places = self.torch.cuda.current_device(), int(self._cupy.cuda.Device().id)
        if streams[0] != streams[1] or places[0] != places[1]:
            raise NotAvailable(
                f"PyTorch and CuPy use different streams or devices (streams {streams}, devices {places}); unset "
                "CUPY_CUDA_PER_THREAD_DEFAULT_STREAM"
            )
        properties = self.torch.cuda.get_device_properties(self.torch.cuda.current_device())
        self.name = str(properties.name)
        self.cache_bytes = int(getattr(properties, "L2_cache_size", 64 << 20))
        self._cycles_per_second = 0.0
        self._wait = SHORTEST_WAIT
        self._calibrate()

    def array(self, tensor: Any) -> Any:
        return self._cupy.from_dlpack(tensor)

    def running(self) -> AbstractContextManager[Any]:
        return nullcontext()

    def release(self) -> None:
        self._wait = SHORTEST_WAIT
        self.torch.cuda.synchronize()
        self.torch.cuda.empty_cache()
        gn.cuda.empty_cache()

    def poison(self, count: int) -> None:
        self._cupy.full(count, np.nan, np.float32)

    def _calibrate(self) -> None:
        """How fast the counter goes that PyTorch's waiting kernel watches."""
        cycles = 20_000_000
        for _ in range(2):
            start, end = self._event(), self._event()
            start.record()
            self.torch.cuda._sleep(cycles)
            end.record()
            end.synchronize()
            self._cycles_per_second = cycles / (start.elapsed_time(end) / 1e3)

    def _event(self) -> Any:
        return self.torch.cuda.Event(enable_timing=True)

    def stopwatch(self, call: Callable[[], Any], count: int) -> Sample:
        """Events around the calls, which are asked for while the GPU waits, and then follow without a gap."""
        wait = self._wait
        for _ in range(8):
            waiting, start, end = (self._event() for _ in range(3))
            self.torch.cuda.synchronize()
            begin = time.perf_counter()
            waiting.record()
            self.torch.cuda._sleep(int(wait * self._cycles_per_second))
            start.record()
            asked = time.perf_counter()
            for _ in range(count):
                call()
            host = (time.perf_counter() - asked) / count
            end.record()
            queued = time.perf_counter() - begin
            end.synchronize()
            waited = waiting.elapsed_time(start) / 1e3
            # The wait began after `begin`; if it was longer than the asking took, everything was in the queue.
            covered = waited >= queued
            if covered or wait >= LONGEST_WAIT:
                break
            wait = min(max(2 * wait, 1.5 * queued), LONGEST_WAIT)
        self._wait = wait if covered else SHORTEST_WAIT
        return Sample(start.elapsed_time(end) / 1e3 / count, host, covered)

    def about(self) -> dict[str, Any]:
        torch, runtime = self.torch, self._cupy.cuda.runtime
        properties = torch.cuda.get_device_properties(torch.cuda.current_device())
        free, total = torch.cuda.mem_get_info()
        return {
            "gpu": self.name,
            "compute_capability": f"{properties.major}.{properties.minor}",
            "multiprocessors": properties.multi_processor_count,
            "l2_bytes": self.cache_bytes,
            "memory_bytes": total,
            "memory_free_bytes": free,
            "driver_cuda": runtime.driverGetVersion(),
            "cupy_cuda": runtime.runtimeGetVersion(),
            "torch_cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
            "nvidia_smi": _nvidia_smi(),
        }


class CPULayer(Machine):
    """The CPU, with gpunet's kernels in the CUDA-on-CPU layer: to try the benchmark, not to measure.

    Raises:
        NotAvailable: PyTorch or a C++ compiler is missing.
    """

    name = "CPU layer"
    device = "cpu"
    measures = False
    cache_bytes = 1 << 12

    def __init__(self) -> None:
        missing = host_compiler_missing()
        if missing is not None:
            raise NotAvailable(missing)
        # Virtual machines may announce matrix tiles (AMX) that trap when they are used: half precision dies of it.
        os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_FP16")
        self.torch = _torch()

    def array(self, tensor: Any) -> Any:
        return np.from_dlpack(tensor)

    def running(self) -> AbstractContextManager[Any]:
        return cuda_on_cpu()

    def stopwatch(self, call: Callable[[], Any], count: int) -> Sample:
        start = time.perf_counter()
        for _ in range(count):
            call()
        return Sample((time.perf_counter() - start) / count)

    def about(self) -> dict[str, Any]:
        return {"gpu": None, "note": "gpunet's kernels ran on a CPU: the times mean nothing"}


def open_machine(name: str) -> Machine:
    """The machine a command line asks for: ``"gpu"`` or ``"cpu-layer"``.

    Raises:
        NotAvailable: it cannot be used; the message says why in one line.
    """
    return GPU() if name == "gpu" else CPULayer()


def _torch() -> Any:
    if importlib.util.find_spec("torch") is None:
        raise NotAvailable("PyTorch is not installed; it is what gpunet is compared with")
    import torch

    return torch


def _nvidia_smi() -> str | None:
    """Driver, clocks, power limit and temperature as found, or None."""
    fields = "driver_version,clocks.sm,clocks.max.sm,clocks.mem,power.limit,temperature.gpu"
    command = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader", "--id=0"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{fields}: {done.stdout.strip()}"


def without_places(text: str) -> str:
    """The text without this machine's folders: results are committed."""
    for place, name in ((str(ROOT), "."), (sys.executable, "python"), (tempfile.gettempdir(), "$TMPDIR")):
        text = text.replace(place, name)
    return text.replace(str(Path.home()), "~")
