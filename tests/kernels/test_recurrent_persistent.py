"""Recurrent layers in one launch, their weights kept on chip, against the equations in float64; and when it is done."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from gpunet.backend import gpu_limits as gpu_limits_module
from gpunet.backend.errors import ShapeError
from gpunet.backend.gpu_limits import GPULimits, gpu_limits
from gpunet.backend.kernels import get_kernel, is_aligned, kernel_folder, read_kernel_file
from gpunet.ops import REGISTRY
from gpunet.ops import recurrent_cuda as op
from gpunet.ops import recurrent_persistent_cuda as persistent
from gpunet.ops.recurrent_layout import make_layout
from gpunet.ops.recurrent_persistent_plan import Plan, plan_slices
from gpunet.testing import KernelFault, cuda_on_cpu

from .conftest import OnCPU
from .test_recurrent import KINDS, assert_close, compute, given_to, reference, sample

pytestmark = [pytest.mark.kernels, pytest.mark.usefixtures("new_memory_is_nan")]

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
    assert_close(found, reference(kind, case, dtype), dtype, bound)
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
        cut = tuple(None if side is None else (side.group, side.buffers) for side in (plan.forward, plan.backward))
        if cut not in seen:
            seen.add(cut)
            assert plan.forward is None or plan.forward.batch_slices == 1
            check(machine, kind, sample(kind, 3, rows, 3, hidden), product)
    assert seen


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("product", PRODUCTS)
def test_bits(machine, force, kind, product):
    """The same at every run, and however a batch is dealt to blocks."""
    runs = []
    for reverse in (False, True):
        case = sample(kind, 0, 9, 3, 20, batch_sizes=(9, 9, 6, 1), reverse=reverse)
        for multiprocessors in (4, 4, 16):
            force(product, kind, 9, 20, multiprocessors)
            runs.append(compute(machine, kind, case, PRODUCTS[product][0]))
        for other in runs[1:]:
            for ours, theirs in zip(other, runs[0], strict=True):
                np.testing.assert_array_equal(ours, theirs)
        runs.clear()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("product", PRODUCTS)
def test_nothing_is_kept_where_no_gradient_is_asked_for(machine, force, kind, product):
    force(product, kind, 3, 12)
    given = given_to(machine, kind, sample(kind, 4, 3, 5, 12), PRODUCTS[product][0])

    def run(keep: bool) -> Any:
        return machine.run(lambda: op.forward_cuda(kind, *given, keep))

    (outputs, none), (expected, kept) = run(False), run(True)
    assert none is None
    assert kept is not None
    for ours, theirs in zip(outputs, expected, strict=True):
        np.testing.assert_array_equal(machine.numpy(ours), machine.numpy(theirs))


@pytest.mark.parametrize(("hidden", "size"), [(12, "small"), (70, "persistent")])
def test_layers_run_in_one_launch_where_there_is_a_plan(machine, launched, hidden, size):
    """Unforced: from four steps on, where all blocks are on the GPU at once."""
    for steps, count in ((4, 2), (3, 0)):
        launched.clear()
        check(machine, "lstm", sample("lstm", steps, 3, 5, hidden), "float32")
        assert [name for name, _, _ in launched] == [
            f"lstm_{size}_forward_float32",
            f"lstm_{size}_backward_float32",
        ][:count]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("left_out", ["forward", "backward"])
def test_one_direction_alone(machine, force, monkeypatch, launched, kind, left_out):
    """The other goes step by step, through the same arrays."""
    plan = force("float32", kind, 5, 20)._replace(**{left_out: None})
    monkeypatch.setattr(op, "_persistent_plan", lambda *_: plan)
    case = sample(kind, 0, 5, 3, 20, batch_sizes=(5, 5, 2, 1), reverse=True)
    check(machine, kind, case, "float32")
    other = {"forward": "backward", "backward": "forward"}[left_out]
    assert [name for name, _, _ in launched] == [f"{kind}_persistent_{other}_float32"]
    layout = make_layout(5, 5, None)
    assert op.supports(kind, layout, 20, np.dtype(np.float32))[1].startswith(f"one kernel for all steps, {other},")


# The barriers of recurrent_persistent.cuh, each with what is left when it is taken out, and the kernel that needs it.
BARRIERS = {
    "between blocks": ("      grid_barrier(counter);\n", "      __syncthreads();\n", "float32", 2),
    "between the threads of one block": (
        "    if constexpr (Alone) {\n      __syncthreads();\n",
        "    if constexpr (Alone) {\n",
        "small_float32",
        1,
    ),
    "rows that have arrived": (
        "        async_copy_wait_all();\n        __syncthreads();\n",
        "        async_copy_wait_all();\n",
        "float32",
        1,
    ),
    "a buffer that is used again": ("        } else if (next < count) {\n          __syncthreads();\n",
                                    "        } else if (next < count) {\n", "float32", 1),
    "sums of all warps": ("    }\n    __syncthreads();\n  }\n};\n", "    }\n  }\n};\n", "float32", 1),
}  # fmt: skip


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize("barrier", ["none", *BARRIERS])
def test_a_missing_barrier_is_noticed(monkeypatch, tmp_path, barrier):
    """On the CPU: the two orders of the threads, or of the blocks, disagree."""
    folder = kernel_folder()
    header = (folder / "recurrent_persistent.cuh").read_text(encoding="utf-8")
    product, slices = "float32", 2
    if barrier != "none":
        whole, rest, product, slices = BARRIERS[barrier]
        assert header.count(whole) == 1
        header = header.replace(whole, rest)
    (tmp_path / "recurrent_persistent.cuh").write_text(header, encoding="utf-8")
    for name in ("rnn_persistent.cuh", "rnn_persistent.cu"):
        (tmp_path / name).write_text((folder / name).read_text(encoding="utf-8"), encoding="utf-8")
    file = read_kernel_file(tmp_path / "rnn_persistent.cu")
    monkeypatch.setattr(persistent, "get_kernel", lambda _, function: get_kernel(file, function))
    hidden = 70 if slices > 1 else 40
    # As little shared memory as one buffer of four rows needs.
    shared_memory = 9000 if barrier == "a buffer that is used again" else ALL_SHARED_MEMORY
    plan = plan_slices(product, "rnn", 9, hidden, GPULimits(slices, shared_memory, 90, True))
    assert plan is not None
    assert plan.forward.slices == slices
    assert plan.forward.buffers == (1 if shared_memory == 9000 else 0 if plan.is_small else 2)
    monkeypatch.setattr(op, "_persistent_plan", lambda *_: plan)
    given = given_to(OnCPU(), "rnn", sample("rnn", 4, 9, 3, hidden), np.float32)

    def run() -> None:
        with cuda_on_cpu("both"):
            op.forward_cuda("rnn", *given, False)

    if barrier == "none":
        run()
        return
    with pytest.raises(KernelFault, match=r"differs in .* reversed order"):
        run()


# When there is a plan.


def limits_of(multiprocessors=132, shared_memory=ALL_SHARED_MEMORY, architecture=90, cooperative=True) -> GPULimits:
    return GPULimits(multiprocessors, shared_memory, architecture, cooperative)


GPUS = {
    "132 multiprocessors": limits_of(),
    "108 multiprocessors": limits_of(108, 163 * 1024, 80),
    "40 multiprocessors": limits_of(40, 64 * 1024, 75),
    "small": limits_of(2, 48 * 1024, 75),
}


@pytest.mark.parametrize("limits", GPUS.values(), ids=GPUS)
@pytest.mark.parametrize("product", PRODUCTS)
def test_every_plan_can_be_kept(product, limits):
    plans = 0
    for kind in KINDS:
        for hidden in (1, 5, 31, 64, 85, 100, 128, 200, 256, 300, 512, 650, 1000, 1024, 1280, 2048):
            for batch in (1, 2, 3, 8, 15, 16, 64, 100, 256, 1000, 5000):
                plan = plan_slices(product, kind, batch, hidden, limits)
                if plan is None:
                    continue
                plans += 1
                for cut, gates, depth in ((plan.forward, op.GATES[kind], hidden), (plan.backward, 1, hidden)):
                    if cut is None:
                        assert not plan.is_small
                        continue
                    assert plan.is_small or cut.slices * cut.batch_slices <= limits.multiprocessors
                    assert not plan.is_small or cut.slices == 1
                    assert cut.shared_memory <= limits.shared_memory
                    assert cut.slices * cut.units >= hidden
                    assert cut.batch_slices * cut.rows >= batch
                    assert cut.rows <= 64
                    columns = cut.warps_across * (32 if plan.is_small else 8)
                    assert gates * cut.units <= columns
                    deep = depth if cut is plan.forward else depth * op.GATES[kind]
                    words = -(-deep // plan.elements)
                    assert words <= 8 // cut.warps_across * (128 if plan.is_small else 512)
                    assert cut.pitch >= words
                    assert cut.pitch % 4 == 0
                    assert 8 % cut.warps_across == 0
    assert (plans > 0) == (limits.architecture >= {"tf32": 80, "bfloat16": 80}.get(product, 75))


@pytest.mark.parametrize(
    ("product", "kind", "hidden", "forward", "backward"),
    [
        ("float32", "lstm", 512, (32, 16), (32, 16)),
        ("float32", "lstm", 1024, (128, 8), (128, 8)),
        ("float32", "gru", 1024, (103, 10), (128, 8)),
        ("float32", "rnn", 2048, (128, 16), (128, 16)),
        ("bfloat16", "lstm", 1024, (64, 16), (64, 16)),
        ("float32", "lstm", 1040, None, None),
        ("small_float32", "lstm", 64, (1, 64), (1, 64)),
        ("small_float32", "lstm", 65, None, None),
        ("small_float32", "gru", 85, (1, 85), (1, 85)),
        ("small_float32", "rnn", 128, (1, 128), (1, 128)),
    ],
)
def test_what_fits(product, kind, hidden, forward, backward):
    """Blocks that share the hidden units, and units of each, for a batch of one, with 132 multiprocessors."""
    plan = plan_slices(product, kind, 1, hidden, limits_of())
    if forward is None:
        assert plan is None
    else:
        assert (plan.forward.slices, plan.forward.units) == forward
        assert (plan.backward.slices, plan.backward.units) == backward


def test_a_batch_is_dealt_to_several_sets_of_blocks():
    plan = plan_slices("float32", "lstm", 64, 512, limits_of())
    assert (plan.forward.batch_slices, plan.forward.rows) == (4, 16)
    assert plan_slices("float32", "lstm", 256, 512, limits_of()) is not None
    assert plan_slices("float32", "lstm", 257, 512, limits_of()) is None, "more sequences than a block takes"
    assert plan_slices("float32", "lstm", 32, 1024, limits_of()) is not None
    plan = plan_slices("float32", "lstm", 33, 1024, limits_of())
    assert plan.forward is not None
    assert plan.backward is None, "more than is worth exchanging"


@pytest.mark.parametrize(
    ("changed", "product"),
    [
        ({}, "float32"),
        ({"tf32": True}, "tf32"),
        ({"tf32": True, "limits": limits_of(architecture=75)}, "float32"),
        ({"dtype": np.dtype(np.float16)}, "float16"),
        ({"dtype": np.dtype(ml_dtypes.bfloat16)}, "bfloat16"),
        ({"dtype": np.dtype(ml_dtypes.bfloat16), "limits": limits_of(architecture=75)}, None),
        ({"dtype": np.dtype(np.float64)}, None),
        ({"hidden": 48}, "small_float32"),
        ({"hidden": 48, "dtype": np.dtype(np.float16)}, "small_float32"),
        ({"hidden": 48, "limits": limits_of(cooperative=False)}, "small_float32"),
        ({"limits": limits_of(cooperative=False)}, None),
        ({"limits": limits_of(multiprocessors=31)}, None),
        ({"limits": limits_of(multiprocessors=32)}, "float32"),
        ({"limits": limits_of(shared_memory=8 * 1024)}, None),
        ({"steps": 3}, None),
        ({"batch": 0}, None),
        ({"hidden": 0}, None),
        ({"hidden": 4096}, None),
    ],
    ids=str,
)
def test_which_kernels_run(changed, product):
    sizes = {
        "steps": 20,
        "batch": 8,
        "hidden": 512,
        "dtype": np.dtype(np.float32),
        "tf32": False,
        "limits": limits_of(),
    }
    sizes |= changed
    layout = make_layout(sizes["steps"], sizes["batch"], None)
    plan = persistent.persistent_plan(
        "lstm", layout, sizes["hidden"], sizes["dtype"], sizes["tf32"], limits=sizes["limits"]
    )
    assert (None if plan is None else plan.product) == product
    assert plan == persistent.persistent_plan(
        "lstm", layout, sizes["hidden"], sizes["dtype"], sizes["tf32"], limits=sizes["limits"]
    )


@pytest.mark.usefixtures("host")
def test_a_plan_for_a_larger_gpu_is_refused(monkeypatch):
    """More blocks that wait for each other than are there at once: an error, before anything runs."""
    plan = plan_slices("float32", "rnn", 1, 64 * 257, limits_of(300))
    assert plan is None, "a warp's depth ends before"
    plan = plan_slices("float32", "rnn", 1, 40, limits_of())
    too_many = plan._replace(forward=plan.forward._replace(batch_slices=257))
    monkeypatch.setattr(op, "_persistent_plan", lambda *_: too_many)
    given = given_to(OnCPU(), "rnn", sample("rnn", 4, 1, 3, 40), np.float32)
    with cuda_on_cpu(), pytest.raises(ShapeError, match="257 blocks that wait for each other"):
        op.forward_cuda("rnn", *given, False)


def test_where_there_is_no_gpu_plans_are_for_a_small_one(monkeypatch):
    monkeypatch.setattr("gpunet.backend.devices.is_cuda_in_use", lambda: False)
    assert gpu_limits() == GPULimits(8, ALL_SHARED_MEMORY, 90, True)


def test_the_limits_of_a_gpu(monkeypatch):
    attributes = {"MultiProcessorCount": 132, "MaxSharedMemoryPerBlockOptin": 232448, "CooperativeLaunch": 1}
    cuda = SimpleNamespace(
        runtime=SimpleNamespace(getDevice=lambda: 3),
        Device=lambda index: SimpleNamespace(attributes=attributes, compute_capability={3: "90"}[index]),
    )
    monkeypatch.setattr("gpunet.backend.devices.is_cuda_in_use", lambda: True)
    monkeypatch.setattr("gpunet.backend.devices.cupy", lambda: SimpleNamespace(cuda=cuda))
    gpu_limits_module._limits_of.cache_clear()
    try:
        assert gpu_limits() == GPULimits(132, 232448, 90, True)
    finally:
        gpu_limits_module._limits_of.cache_clear()


@pytest.mark.parametrize("product", ["float32", "float16"])
@pytest.mark.parametrize("depth", [8, 9])
def test_weights_lie_in_whole_sixteen_bytes(product, depth):
    """Also those that start anywhere, or lie the other way round."""
    dtype = PRODUCTS[product][0]
    plan = Plan(product, None, None)
    buffer = np.arange(5 * depth + 1).astype(dtype)
    width = {("float32", 8): 8, ("float32", 9): 12, ("float16", 8): 8, ("float16", 9): 16}[product, depth]
    for matrix in (buffer[1:].reshape(5, depth), buffer[1:].reshape(depth, 5).T, buffer[:-1].reshape(5, depth)):
        words = persistent._words(matrix, plan)
        assert words.dtype == np.uint32
        assert is_aligned(16, words)
        rows = words.view(dtype).reshape(5, width)
        np.testing.assert_array_equal(rows[:, :depth], matrix)
        assert not rows[:, depth:].any()
