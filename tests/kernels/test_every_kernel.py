"""Every kernel in cuda_kernels/ is executed by some test, in both orders of its threads."""

import pytest

from gpunet.backend.kernels import all_kernels
from gpunet.testing import executed_kernels

pytestmark = pytest.mark.kernels


def test_there_are_kernels():
    assert all_kernels()


@pytest.mark.usefixtures("host")
def test_every_kernel_was_executed(left_out):
    if left_out:
        pytest.skip(f"only part of the kernel tests was selected; left out: {left_out[0]}")
    executed = executed_kernels()
    missing = [
        f"{kernel} (ran {', '.join(sorted(ran)) or 'never'})"
        for kernel in all_kernels()
        if (ran := executed.get((kernel.file.name, kernel.name), set())) != {"forward", "reversed"}
    ]
    assert not missing, "add a test that launches these inside cuda_on_cpu('both')"
