"""Recurrent layers in one launch, their weights kept on chip, against the equations in float64; and when that is done."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from gpunet.backend.errors import ShapeError
from gpunet.backend.gpu_limits import GPULimits, gpu_limits
from gpunet.backend.kernels import get_kernel, kernel_file, read_kernel_file
from gpunet.ops import REGISTRY
from gpunet.ops import recurrent_cuda as op
from gpunet.ops import recurrent_persistent_cuda as persistent
from gpunet.ops.recurrent_layout import make_layout
from gpunet.ops.recurrent_persistent_plan import Plan, plan_slices
from gpunet.testing import KernelFault, cuda_on_cpu, relative_error

from .test_recurrent import compute, reference, sample

pytestmark = [pytest.mark.kernels, pytest.mark.usefixtures("new_memory_is_nan")]

KINDS = ["rnn", "lstm", "gru"]
# Each kernel, the dtype of its arrays, and what its results may differ by, relative to the largest of them: in the
# lower types every state and every gradient of a step is rounded (2^-11, of TF32 too, and 2^-8), and passes through a
# few products.
PRODUCTS = {
    "small_float32": (np.dtype(np.float32), 1e-5),
    "float32": (np.dtype(np.float32), 1e-5),
    "tf32": (np.dtype(np.float32), 1e-2),
    "float16": (np.dtype(np.float16), 1e-2),
    "bfloat16": (np.dtype(ml_dtypes.bfloat16), 8e-2),
}
ALL_SHARED_MEMORY = 227 * 1024  # of a block on the largest GPUs, and on the CPU


@pytest.fixture
def launched(monkeypatch):
    """The kernels for whole sequences that run: their names, grids, and whether they are launched cooperatively."""
    found = []
    launch = persistent.launch

    def record(kernel, grid, *rest, cooperative):
        found.append((kernel.name, grid, cooperative))
        launch(kernel, grid, *rest, cooperative=cooperative)

    monkeypatch.setattr(persistent, "launch", record)
    return found


@pytest.fixture
def force(machine, monkeypatch):
    """Make layers run by a plan for one of the products, on a GPU of so many multiprocessors."""

    def plan(product, kind, batch, hidden, multiprocessors=8, shared_memory=ALL_SHARED_MEMORY) -> Plan:
        limits = GPULimits(multiprocessors, shared_memory, 90, True)
        if machine.module is not np:
            here = gpu_limits()
            limits = GPULimits(
                min(multiprocessors, here.multiprocessors),
                min(shared_memory, here.shared_memory),
                here.architecture,
                here.cooperative,
            )
        found = plan_slices(product, kind, batch, hidden, limits)
        if found is None and machine.module is not np:
            pytest.skip("this GPU cannot hold it")
        assert found is not None
        monkeypatch.setattr(op, "_persistent_plan", lambda *_: found)
        return found

    return plan


def check(machine: Any, kind: str, case: Any, product: str) -> tuple[Any, ...]:
    """Hold outputs and gradients to the equations; returns them."""
    dtype, bound = PRODUCTS[product]
    found = compute(machine, kind, case, dtype)
    for number, (ours, theirs) in enumerate(zip(found, reference(kind, case, dtype), strict=True)):
        assert (ours is None) == (theirs is None), number
        if ours is not None:
            assert ours.dtype == dtype, number
            assert ours.shape == theirs.shape, number
            assert relative_error(ours, theirs) <= bound, number
    return found


SAMPLES = [
    pytest.param(kind, case, id=f"{kind}-{case.label}")
    for kind in KINDS
    for case in REGISTRY[kind].samples()
    if case.inputs[1].size
]


@pytest.mark.parametrize("product", ["small_float32", "float32"])
@pytest.mark.parametrize(("kind", "case"), SAMPLES)
def test_the_equations(machine, force, launched, kind, case, product):
    batch, hidden = case.inputs[1].shape
    plan = force(product, kind, batch, hidden, 16)
    check(machine, kind, case, product)
    size = "small" if plan.is_small else "persistent"
    assert launched == [
        (f"{kind}_{size}_{direction}_float32", (cut.slices, cut.batch_slices), not plan.is_small)
        for direction, cut in (("forward", plan.forward), ("backward", plan.backward))
    ]


# Sizes with and without whole words, whole sixteen bytes, whole pieces of a warp; in one block and in several.
@pytest.mark.parametrize("hidden", [1, 2, 7, 16, 31, 65])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("product", PRODUCTS)
def test_any_hidden_size(machine, force, kind, product, hidden):
    if product == "small_float32" and (kind, hidden) == ("lstm", 65):
        hidden = 64  # the largest
    plan = force(product, kind, 5, hidden, 15)
    assert plan.is_small or plan.forward.slices == -(-hidden // (64 // op.GATES[kind]))
    check(machine, kind, sample(kind, 4, 5, 3, hidden), product)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(
    "batch_sizes", [(1,), (3,), (1, 1, 1), (5, 1), (5, 5, 2, 2, 1), (6, 5, 4, 3, 2, 1), (19, 17, 3), (4, 4)], ids=str
)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("product", ["small_float32", "float32", "bfloat16"])
def test_lengths(machine, force, kind, batch_sizes, reverse, product):
    """Sequences that end, or begin late, in blocks of which some have nothing left to do."""
    hidden = 20
    plan = force(product, kind, batch_sizes[0], hidden, 8)
    if batch_sizes[0] == 19:
        assert plan.forward.batch_slices > 1
    check(machine, kind, sample(kind, 0, batch_sizes[0], 3, hidden, batch_sizes=batch_sizes, reverse=reverse), product)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("product", PRODUCTS)
def test_many_steps(machine, force, kind, product, reverse):
    force(product, kind, 3, 24)
    check(machine, kind, sample(kind, 20, 3, 5, 24, reverse=reverse), product)


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
@pytest.mark.parametrize("product", PRODUCTS)
def test_nonlinearities(machine, force, product, nonlinearity):
    force(product, "rnn", 4, 24)
    check(machine, "rnn", sample("rnn", 5, 4, 5, 24, nonlinearity=nonlinearity), product)


# Depths that more than one warp shares: two, four and eight, by kind, hidden size and product; backward they are G H.
@pytest.mark.parametrize(
    ("product", "kind", "hidden", "forward", "backward"),
    [
        ("float32", "lstm", 140, 1, 2),
        ("tf32", "gru", 200, 1, 2),
        ("float16", "lstm", 260, 1, 2),
        ("bfloat16", "rnn", 1032, 2, 2),
        ("float32", "lstm", 300, 1, 4),
        ("float32", "lstm", 520, 2, 8),
        ("small_float32", "lstm", 33, 1, 2),
        ("small_float32", "gru", 50, 1, 2),
    ],
)
def test_depth_that_warps_share(machine, force, product, kind, hidden, forward, backward):
    plan = force(product, kind, 2, hidden, 132)
    assert (plan.forward.warps_across, plan.backward.warps_across) == (8 // forward, 8 // backward)
    check(machine, kind, sample(kind, 2, 2, 2, hidden), product)


@pytest.mark.parametrize("product", ["float32", "tf32", "float16", "bfloat16"])
@pytest.mark.parametrize("rows", [3, 9, 17, 37])
def test_groups_of_rows(machine, force, product, rows):
    """All of a batch in one block, a few rows after the other: in every size of group, in one buffer and in two."""
    kind, hidden = "gru", 24
    seen = set()
    for shared_memory in (ALL_SHARED_MEMORY, 24_000, 14_000, 10_000):
        slices = 2
        limits = GPULimits(slices, shared_memory, 90, True)
        if plan_slices(product, kind, rows, hidden, limits) is None:
            continue
        plan = force(product, kind, rows, hidden, slices, shared_memory)
        cut = plan.forward.group, plan.forward.buffers, plan.backward.group, plan.backward.buffers
        if cut not in seen:
            seen.add(cut)
            assert plan.forward.batch_slices == 1
            check(machine, kind, sample(kind, 3, rows, 3, hidden), product)
    assert seen
