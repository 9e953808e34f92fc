"""Kernels that crash, overrun their stack or never end are faults of theirs, and the process goes on."""

import faulthandler
import platform
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from gpunet.backend.kernels import get_kernel, launch
from gpunet.testing import KernelFault, cuda_on_cpu, host_library

from .conftest import HERE

pytestmark = [pytest.mark.kernels, pytest.mark.usefixtures("host")]

SIGNALS = [signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGINT, signal.SIGVTALRM]


@pytest.fixture(autouse=True)
def the_process_goes_on(machinery):
    """Afterwards the next launch is right, and the signals go where they went before."""
    before = [signal.getsignal(number) for number in SIGNALS], signal.getitimer(signal.ITIMER_VIRTUAL)
    faults_were_dumped = faulthandler.is_enabled()
    yield
    assert ([signal.getsignal(number) for number in SIGNALS], signal.getitimer(signal.ITIMER_VIRTUAL)) == before
    assert faulthandler.is_enabled() == faults_were_dumped
    output = np.zeros(64, np.float32)
    with cuda_on_cpu("both"):
        launch(get_kernel(machinery, "reverse_float32"), 1, 64, (output, np.arange(64, dtype=np.float32)))
    np.testing.assert_array_equal(output, np.arange(64)[::-1])


@pytest.fixture
def fault(faults):
    def run(name, grid, block, *args, cooperative=False):
        with cuda_on_cpu():
            launch(get_kernel(faults, name), grid, block, args, cooperative=cooperative)

    return run


@pytest.fixture
def portable(request, monkeypatch):
    """With the context switch of other processors, if the parameter says so."""
    if request.param:
        monkeypatch.setattr(host_library, "FLAGS", (*host_library.FLAGS, "-DCUDA_ON_CPU_UCONTEXT"))


# Crashes --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("portable", [False, True], indirect=True, ids=["", "portable"])
@pytest.mark.parametrize("cooperative", [False, True])
@pytest.mark.usefixtures("portable")
def test_null_pointer(fault, cooperative):
    with pytest.raises(KernelFault) as caught:
        fault("wild_pointer", 2, 32, np.zeros(32, np.float32), None, 4, cooperative=cooperative)
    assert str(caught.value) == (
        "faults.cu: wild_pointer: block (0, 0, 0), thread (3, 0, 0) used an address where there is no memory (0x10)"
    )


def test_crash_in_another_thread_of_python(fault):
    """One that has no stack for signals of its own."""
    caught = []

    def run():
        try:
            fault("wild_pointer", 1, 32, np.zeros(32, np.float32), None, 0)
        except KernelFault as error:
            caught.append(str(error))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert len(caught) == 1
    assert "thread (3, 0, 0) used an address where there is no memory (0x0)" in caught[0]


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="other processors give 0")
def test_integer_division_by_zero(fault):
    with pytest.raises(KernelFault, match=r"block \(0, 0, 0\), thread \(3, 0, 0\) divided an integer by zero"):
        fault("divides_by_zero", 1, 32, np.zeros(32, np.int32), 0)


@pytest.mark.parametrize("portable", [False, True], indirect=True, ids=["", "portable"])
@pytest.mark.usefixtures("portable")
def test_recursion_without_end(fault):
    with pytest.raises(KernelFault, match=r"thread \(3, 0, 0\) needs more than the \d+ bytes of stack it has here"):
        fault("recursion_without_end", 1, 32, np.zeros(32, np.int32), 1)


def test_frame_larger_than_the_stack(fault):
    with pytest.raises(KernelFault, match=r"thread \(0, 0, 0\) "):
        fault("huge_frame", 1, 1, np.zeros(1, np.float32), 10)


def test_a_crash_elsewhere_is_pythons(tmp_path):
    """What faulthandler says of a crash outside a launch is the same after one that crashed."""
    code = f"""
import faulthandler, numpy as np
from pathlib import Path
from gpunet.backend.kernels import get_kernel, launch, read_kernel_file
from gpunet.testing import KernelFault, cuda_on_cpu
faulthandler.enable()
faults = read_kernel_file(Path({str(HERE / "faults.cu")!r}))
try:
    with cuda_on_cpu():
        launch(get_kernel(faults, "wild_pointer"), 1, 32, (np.zeros(32, np.float32), None, 0))
except KernelFault:
    print("caught", flush=True)
faulthandler._sigsegv()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert done.returncode == -signal.SIGSEGV
    assert done.stdout == "caught\n"
    assert "Fatal Python error: Segmentation fault" in done.stderr


# No end ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cooperative", [False, True])
@pytest.mark.parametrize(
    "name, place",
    [
        (
            "barriers_without_end",
            r", the last time it waited at \S*faults\.cu:\d+ in __syncthreads; a thread that waits",
        ),
        ("spins_for_ever", r"; a thread that waits for another must do so at a barrier or with __nanosleep"),
    ],
)
def test_no_end(fault, monkeypatch, name, place, cooperative):
    monkeypatch.setenv("GPUNET_CUDA_ON_CPU_SECONDS", "1")
    with pytest.raises(KernelFault, match=r"thread \(\d+, 0, 0\) still ran after 1 seconds" + place):
        fault(name, 1, 32, np.zeros(1, np.int32), cooperative=cooperative)


def test_a_tick_that_comes_late(fault):
    """It does not end the process: one may be under way to another thread when the launch ends."""
    fault("leaves_one_out", 1, 32, np.zeros(4, np.float32), 4)
    signal.raise_signal(signal.SIGVTALRM)


def test_no_end_in_another_thread_of_python(fault, monkeypatch):
    monkeypatch.setenv("GPUNET_CUDA_ON_CPU_SECONDS", "1")
    caught = []

    def run():
        with pytest.raises(KernelFault, match="still ran after 1 seconds") as error:
            fault("spins_for_ever", 1, 32, np.zeros(1, np.int32))
        caught.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(60)
    assert len(caught) == 1


@pytest.mark.parametrize("value", ["soon", "-1", "0.5"])
def test_limit_that_is_no_number(fault, monkeypatch, value):
    monkeypatch.setenv("GPUNET_CUDA_ON_CPU_SECONDS", value)
    with pytest.raises(ValueError, match=f"GPUNET_CUDA_ON_CPU_SECONDS: expected a whole number .* got '{value}'"):
        fault("traps", 1, 1, np.zeros(1, np.float32))


@pytest.mark.parametrize("name", ["barriers_without_end", "spins_for_ever"])
def test_interrupt(faults, name):
    """Ctrl-C ends the launch at once, and the process can launch again."""
    code = f"""
import numpy as np
from pathlib import Path
from gpunet.backend.kernels import get_kernel, launch, read_kernel_file
from gpunet.testing import cuda_on_cpu
faults = read_kernel_file(Path({str(HERE / "faults.cu")!r}))
with cuda_on_cpu():
    launch(get_kernel(faults, "leaves_one_out"), 1, 32, (np.zeros(4, np.float32), 4))
    print("compiled", flush=True)
    try:
        launch(get_kernel(faults, {name!r}), 1, 32, (np.zeros(1, np.int32),))
    except KeyboardInterrupt:
        output = np.zeros(4, np.float32)
        launch(get_kernel(faults, "leaves_one_out"), 1, 32, (output, 4))
        print(output.sum(), flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "compiled\n"
            time.sleep(0.5)
            assert process.poll() is None
            start = time.monotonic()
            process.send_signal(signal.SIGINT)
            assert process.stdout.readline() == "3.0\n"
            assert time.monotonic() - start < 5  # a tenth of a second, if the machine has nothing else to do
            assert process.wait(20) == 0
        finally:
            process.kill()
