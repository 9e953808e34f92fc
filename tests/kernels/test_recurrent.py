"""The recurrent layers' kernels, step by step, against the equations in float64: forward, backward, every layout."""

from __future__ import annotations

import itertools
import re
from contextlib import contextmanager
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import gpunet as gn
from gpunet.autograd import apply
from gpunet.backend.kernels import get_kernel, kernel_file, kernel_folder, read_kernel_file
from gpunet.ops import REGISTRY, gemm_cuda, gemm_tensor_cuda, recurrent_stepwise_cuda
from gpunet.ops import recurrent_cuda as op
from gpunet.ops.base import Sample
from gpunet.ops.recurrent import layout_of
from gpunet.ops.recurrent_layout import make_layout
from gpunet.testing import KernelFault, relative_error

from .conftest import OnCPU

pytestmark = [pytest.mark.kernels, pytest.mark.usefixtures("new_memory_is_nan")]

KINDS = ["rnn", "lstm", "gru"]
# What a dtype's results may differ by, relative to the largest of them: rounding of every output and gradient in the
# half types (2^-11 and 2^-8), each of which passes through a few products.
BOUNDS = {
    np.dtype(np.float32): 1e-5,
    np.dtype(np.float64): 1e-10,
    np.dtype(np.float16): 1e-2,
    np.dtype(ml_dtypes.bfloat16): 8e-2,
}
DTYPES = list(BOUNDS)
SAMPLES = [
    pytest.param(kind, sample, id=f"{kind}-{sample.label}") for kind in KINDS for sample in REGISTRY[kind].samples()
]


@pytest.fixture(autouse=True)
def step_by_step(monkeypatch):
    """Whatever other ways there are: two launches a step."""
    monkeypatch.setattr(op, "_persistent_plan", lambda *sizes: None)


@pytest.fixture
def launched(monkeypatch):
    """The names of the kernels of the cells and products of a step that run."""
    names = []
    for module in (recurrent_stepwise_cuda, gemm_cuda):

        def record(kernel, *rest, launch=module.launch):
            names.append(kernel.name)
            launch(kernel, *rest)

        monkeypatch.setattr(module, "launch", record)
    return names


@pytest.fixture
def on_tensor_cores(monkeypatch):
    """The names of the products that tensor cores take."""
    names = []
    launch = gemm_tensor_cuda.launch
    monkeypatch.setattr(gemm_tensor_cuda, "launch", lambda *args: (names.append(args[0].name), launch(*args)))
    return names


def sample(kind: str, steps: int, batch: int, features: int, hidden: int, seed: int = 0, **attributes: Any) -> Sample:
    """A layer of such sizes; batch_sizes makes it a packed one."""
    rng = np.random.default_rng(seed)
    rows = attributes.get("batch_sizes")
    x = rng.standard_normal((*((steps, batch) if rows is None else (sum(rows),)), features))
    states = [rng.standard_normal((batch, hidden)) for _ in range(2 if kind == "lstm" else 1)]
    wide = op.GATES[kind] * hidden
    weights = [rng.standard_normal((wide, size)) / max(hidden, 1) ** 0.5 for size in (features, hidden)]
    biases = [rng.standard_normal(wide) for _ in range(2)]
    return Sample("", (x, *states, *weights, *biases), {"reverse": False, "batch_sizes": None} | attributes)


def rounded(values: tuple[Any, ...], dtype: Any) -> tuple[Any, ...]:
    """The numbers that are left of them in a dtype."""
    return tuple(None if value is None else value.astype(dtype).astype(np.float64) for value in values)


def gradients_of(outputs: tuple[Any, ...], dtype: Any, seed: int = 1) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    return tuple(rng.standard_normal(output.shape).astype(dtype).astype(np.float64) for output in outputs)


def reference(kind: str, case: Sample, dtype: Any) -> tuple[Any, ...]:
    """Outputs and gradients by the equations in float64, of the numbers as they are in a dtype."""
    inputs = rounded(case.inputs, dtype)
    outputs = REGISTRY[kind].reference(*inputs, **case.attributes)
    grads = gradients_of(outputs, dtype)
    return (*outputs, *REGISTRY[kind].reference_backward(grads, inputs, **case.attributes))


def arguments(kind: str, inputs: tuple[Any, ...], attributes: dict[str, Any]) -> tuple[Any, ...]:
    """The inputs with a place for c0, and the layout, direction and nonlinearity."""
    given = inputs if kind == "lstm" else (*inputs[:2], None, *inputs[2:])
    layout = layout_of(inputs[0], attributes["batch_sizes"])
    return (*given, layout, attributes["reverse"], attributes.get("nonlinearity", "tanh"))


def given_to(machine: Any, kind: str, case: Sample, dtype: Any) -> tuple[Any, ...]:
    """A case as ``forward_cuda`` takes it, up to whether to keep what gradients need."""
    xp = machine.module
    inputs = tuple(None if v is None else xp.asarray(np.asarray(v).astype(dtype, order="K")) for v in case.inputs)
    return arguments(kind, inputs, case.attributes)


def compute(
    machine: Any, kind: str, case: Sample, dtype: Any, naive: bool = False, needs: tuple[bool, ...] | None = None
) -> tuple[Any, ...]:
    """Outputs and gradients by the kernels."""
    xp, given = machine.module, given_to(machine, kind, case, dtype)
    wanted = tuple(value is not None for value in case.inputs) if needs is None else needs

    def run() -> tuple[Any, ...]:
        outputs, kept = op.forward_cuda(kind, *given, True, naive)
        grads = tuple(xp.asarray(grad.astype(dtype)) for grad in gradients_of(outputs, dtype))
        found = op.backward_cuda(kind, kept, given[:5], outputs[0], grads, wanted, *given[7:], naive)
        return (*outputs, *found)

    return tuple(None if value is None else machine.numpy(value) for value in machine.run(run))


def assert_close(found: tuple[Any, ...], expected: tuple[Any, ...], dtype: Any, bound: float | None = None) -> None:
    """Hold results to others of the same shapes; ``bound`` takes the place of the dtype's."""
    bound = BOUNDS[np.dtype(dtype)] if bound is None else bound
    for number, (ours, theirs) in enumerate(zip(found, expected, strict=True)):
        assert (ours is None) == (theirs is None), number
        if ours is not None:
            assert ours.shape == theirs.shape, number
            assert ours.dtype == dtype, number
            if ours.size:
                assert relative_error(ours, theirs) <= bound, number


@pytest.mark.parametrize(
    ("dtype", "naive"), [*((dtype, False) for dtype in DTYPES), (np.dtype(np.float64), True)], ids=str
)
@pytest.mark.parametrize(("kind", "case"), SAMPLES)
def test_the_equations(machine, launched, kind, case, dtype, naive):
    found = compute(machine, kind, case, dtype, naive)
    assert_close(found, reference(kind, case, dtype), dtype)
    steps = layout_of(case.inputs[0], case.attributes["batch_sizes"]).steps if found[0].size else 0
    word = "naive_" if naive else ""
    for direction in ("forward", "backward"):
        assert launched.count(f"{kind}_{word}{direction}_{dtype.name}") == (min(steps, 1) if naive else steps)
    assert not any(("naive" in name) != naive for name in launched if name.startswith(kind))


# Sizes with and without whole vectors, below and above a warp, a block, and a tile of the product.
@pytest.mark.parametrize("hidden", [1, 2, 3, 4, 5, 8, 31, 32, 33, 66, 132])
@pytest.mark.parametrize("kind", KINDS)
def test_any_hidden_size(machine, kind, hidden):
    for dtype, batch in ((np.float32, 5), (np.float64, 3)):
        case = sample(kind, 3, batch, 7, hidden)
        assert_close(compute(machine, kind, case, dtype), reference(kind, case, dtype), dtype)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(
    "batch_sizes", [(1,), (3,), (1, 1, 1), (5, 1), (5, 5, 2, 2, 1), (6, 5, 4, 3, 2, 1), (70, 69, 3), (4, 4)], ids=str
)
@pytest.mark.parametrize("kind", KINDS)
def test_lengths(machine, kind, batch_sizes, reverse):
    case = sample(kind, 0, batch_sizes[0], 3, 12, batch_sizes=batch_sizes, reverse=reverse)
    assert_close(compute(machine, kind, case, np.float32), reference(kind, case, np.float32), np.float32)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_packed_batch_is_its_sequences_one_by_one(machine, kind, reverse):
    """Bit for bit: nobody reads another sequence's rows. Products of other sizes would be summed alike here too."""
    lengths, hidden = (5, 3, 3, 1), 8
    batch_sizes = tuple(sum(length > t for length in lengths) for t in range(lengths[0]))
    packed = sample(kind, 0, len(lengths), 3, hidden, batch_sizes=batch_sizes, reverse=reverse)
    together = compute(machine, kind, packed, np.float32)
    offsets = np.cumsum([0, *batch_sizes])
    for b, length in enumerate(lengths):
        rows = offsets[:length] + b
        alone = [packed.inputs[0][rows][:, None]]
        alone += [state[b : b + 1] for state in packed.inputs[1:-4]]
        case = Sample("", (*alone, *packed.inputs[-4:]), {"reverse": reverse, "batch_sizes": None})
        outputs = compute(machine, kind, case, np.float32)[: len(alone)]
        np.testing.assert_array_equal(outputs[0][:, 0], together[0][rows])
        for ours, theirs in zip(outputs[1:], together[1 : len(alone)], strict=True):
            np.testing.assert_array_equal(ours[0], theirs[b])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_production_and_naive(machine, kind, dtype):
    for reverse in (False, True):
        case = sample(kind, 0, 6, 5, 37, batch_sizes=(6, 6, 4, 1), reverse=reverse)
        assert_close(compute(machine, kind, case, dtype), compute(machine, kind, case, dtype, naive=True), dtype)


@pytest.mark.parametrize("splits", [1, 2, 5])
@pytest.mark.parametrize("kind", KINDS)
def test_products_in_several_parts(machine, monkeypatch, kind, splits):
    """Sums over h cut into stretches, some of them empty, with sequences that end while others go on."""
    monkeypatch.setattr(gemm_cuda, "choose_short_splits", lambda *sizes: splits)
    for reverse in (False, True):
        case = sample(kind, 0, 5, 3, 40, batch_sizes=(5, 5, 3, 1), reverse=reverse)
        for dtype in (np.float32, np.float64):
            assert_close(compute(machine, kind, case, dtype), reference(kind, case, dtype), dtype)


def test_long_sums_are_cut():
    h, w = np.zeros((16, 512), np.float32), np.zeros((2048, 512), np.float32)
    plan = gemm_cuda.plan_partials("nt", gemm_cuda.Gemm(1, 16, 2048, 512, 0, 512, 0, 512, 0, 0), h, w)
    assert (plan.tile.name, plan.splits, plan.stride) == ("64x64", 8, 16 * 2048)
    # Rows that do not start at multiples of sixteen bytes.
    buffer = np.zeros(2048 * 512 + 1, np.float32)
    odd = gemm_cuda.plan_partials("nt", plan.sizes, h, buffer[1:].reshape(2048, 512))
    assert odd.tile.name == "64x64_any"


@pytest.mark.parametrize("kind", KINDS)
def test_each_gradient_alone(machine, kind):
    """The same bits, whatever else is asked for."""
    for reverse in (False, True):
        case = sample(kind, 0, 4, 3, 8, batch_sizes=(4, 3, 1), reverse=reverse)
        count = len(case.inputs)
        everything = compute(machine, kind, case, np.float32)[-count:]
        for number in range(count):
            alone = compute(machine, kind, case, np.float32, needs=tuple(i == number for i in range(count)))[-count:]
            assert [i for i, value in enumerate(alone) if value is not None] == [number]
            np.testing.assert_array_equal(alone[number], everything[number])


@pytest.mark.parametrize("one", ["b_ih", "b_hh"])
@pytest.mark.parametrize("kind", KINDS)
def test_one_bias(machine, kind, one):
    case = sample(kind, 3, 2, 3, 4)
    biases = tuple(bias if name == one else None for name, bias in zip(("b_ih", "b_hh"), case.inputs[-2:], strict=True))
    case = Sample("", (*case.inputs[:-2], *biases), case.attributes)
    assert_close(compute(machine, kind, case, np.float64), reference(kind, case, np.float64), np.float64)


@pytest.mark.parametrize("kind", KINDS)
def test_without_gradients_nothing_is_kept(machine, launched, kind):
    case = sample(kind, 4, 3, 5, 8)
    given = given_to(machine, kind, case, np.float32)
    outputs, kept = machine.run(lambda: op.forward_cuda(kind, *given, False))
    assert kept is None
    expected = compute(machine, kind, case, np.float32)
    for ours, theirs in zip(outputs, expected, strict=False):
        np.testing.assert_array_equal(machine.numpy(ours), theirs)


@pytest.mark.parametrize("kind", KINDS)
def test_addresses_and_strides(machine, kind):
    """Inputs that start off any alignment, transposed ones, every second column, and a gradient that is one number."""
    xp = machine.module
    case = sample(kind, 3, 4, 8, 8)
    expected = compute(machine, kind, case, np.float32)

    def both_ways(given, there):
        def run():
            outputs, kept = op.forward_cuda(kind, *given, True)
            needs = (True,) * len(case.inputs)
            return outputs + op.backward_cuda(kind, kept, given[:5], outputs[0], there, needs, *given[7:])

        return tuple(machine.numpy(value) for value in machine.run(run))

    def off(value):
        buffer = xp.full(value.size + 1, np.nan, np.float32)
        buffer[1:] = xp.asarray(value.astype(np.float32).reshape(-1))
        return buffer[1:].reshape(value.shape)

    def transposed(value):
        return xp.asarray(np.ascontiguousarray(value.astype(np.float32).T)).T

    def gaps(value):
        wide = xp.full((*value.shape[:-1], 2 * value.shape[-1]), np.nan, np.float32)
        wide[..., ::2] = xp.asarray(value.astype(np.float32))
        return wide[..., ::2]

    grads = gradients_of(expected[: 3 if kind == "lstm" else 2], np.float32)
    for change in (off, transposed, gaps):
        given = arguments(kind, tuple(map(change, case.inputs)), case.attributes)
        assert_close(both_ways(given, tuple(map(change, grads))), expected, np.float32)

    ones = tuple(xp.broadcast_to(xp.ones((), np.float32), grad.shape) for grad in grads)
    full = tuple(xp.ones(grad.shape, np.float32) for grad in grads)
    given = given_to(machine, kind, case, np.float32)
    for ours, theirs in zip(both_ways(given, ones), both_ways(given, full), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("kind", KINDS)
def test_what_it_is_given_is_not_changed(machine, kind):
    case = sample(kind, 3, 2, 3, 4)
    xp = machine.module
    inputs = tuple(xp.asarray(value.astype(np.float32)) for value in case.inputs)
    given = arguments(kind, inputs, case.attributes)

    def run():
        outputs, kept = op.forward_cuda(kind, *given, True)
        grads = tuple(xp.ones(output.shape, np.float32) for output in outputs)
        before = [machine.numpy(output).copy() for output in outputs]
        op.backward_cuda(kind, kept, given[:5], outputs[0], grads, (True,) * len(inputs), *given[7:])
        return outputs, before, grads

    outputs, before, grads = machine.run(run)
    for value, original in zip(inputs, case.inputs, strict=True):
        np.testing.assert_array_equal(machine.numpy(value), original.astype(np.float32))
    for output, copy in zip(outputs, before, strict=True):
        np.testing.assert_array_equal(machine.numpy(output), copy)
    assert all((machine.numpy(grad) == 1).all() for grad in grads)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("naive", [False, True], ids=["production", "naive"])
@pytest.mark.parametrize("kind", KINDS)
def test_non_finite_values_stay_in_their_sequence(machine, kind, naive, value):
    clean = sample(kind, 5, 3, 4, 8)
    x = clean.inputs[0].copy()
    x[2, 1, 3] = value
    case = Sample("", (x, *clean.inputs[1:]), clean.attributes)
    with np.errstate(invalid="ignore"):
        expected = REGISTRY[kind].reference(*rounded(case.inputs, np.float32), **case.attributes)
    found, untouched = (compute(machine, kind, each, np.float32, naive) for each in (case, clean))
    assert_close(found[: len(expected)], tuple(expected), np.float32)
    if np.isnan(value):
        assert np.isnan(found[0][2:, 1]).all()
    dx = len(expected)
    for rest in (0, 2):
        np.testing.assert_array_equal(found[0][:, rest], untouched[0][:, rest])
        np.testing.assert_array_equal(found[dx][:, rest], untouched[dx][:, rest])
    np.testing.assert_array_equal(found[0][:2, 1], untouched[0][:2, 1])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_saturated_gates(machine, kind, dtype):
    """e^1000 is infinite in either type; a gate that is shut or open is exact, and its gradient 0."""
    case = sample(kind, 3, 2, 3, 4)
    case = Sample("", (1000 * case.inputs[0], *case.inputs[1:]), case.attributes)
    with np.errstate(over="ignore"):
        expected = reference(kind, case, dtype)
    found = compute(machine, kind, case, dtype)
    assert all(np.isfinite(value).all() for value in found)
    # Outputs may be all but 0, and gradients what rounding leaves of 1 - h^2 where h is nearly 1: in absolute terms.
    outputs = 3 if kind == "lstm" else 2
    bound = 1e-4 if dtype == np.float32 else 1e-10
    for ours, theirs in zip(found[: 2 * outputs], expected[: 2 * outputs], strict=True):
        assert np.abs(ours - theirs).max() <= bound


def test_relu_lets_nan_through_and_has_no_gradient_at_zero(machine):
    case = sample("rnn", 1, 3, 1, 4, nonlinearity="relu")
    zeros = [np.zeros_like(value) for value in case.inputs]
    zeros[0][0, 1], zeros[2][:] = np.nan, 1
    found = compute(machine, "rnn", Sample("", tuple(zeros), case.attributes), np.float32)
    assert np.isnan(found[0][0]).all(1).tolist() == [False, True, False]
    assert (found[2][0, [0, 2]] == 0).all(), "gradient of x"


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_the_same_bits_twice(machine, kind, dtype):
    case = sample(kind, 0, 5, 9, 68, batch_sizes=(5, 5, 4, 4, 2))
    for one, two in zip(*(compute(machine, kind, case, dtype) for _ in range(2)), strict=True):
        np.testing.assert_array_equal(one.view(np.uint8), two.view(np.uint8))


@pytest.mark.parametrize("kind", KINDS)
def test_no_units_and_no_features(machine, kind):
    for steps, batch, features, hidden in ((3, 0, 4, 5), (2, 3, 0, 4), (2, 3, 4, 0)):
        case = sample(kind, steps, batch, features, hidden)
        assert_close(compute(machine, kind, case, np.float32), reference(kind, case, np.float32), np.float32)


@pytest.mark.parametrize("kind", KINDS)
def test_states_carry_more_than_a_half_type_holds(machine, kind):
    """Many small steps, each of which float16 alone would round away in part."""
    hidden, steps = 8, 150
    rng = np.random.default_rng(3)
    case = sample(kind, steps, 2, 3, hidden)
    inputs = [np.zeros_like(value) for value in case.inputs]
    inputs[0] = rng.standard_normal(inputs[0].shape) * 0.1
    inputs[-4] = rng.standard_normal(inputs[-4].shape) * 0.1
    if kind != "rnn":  # f or z near 1: the state moves slowly
        inputs[-2][hidden : 2 * hidden] = 6
    if kind == "rnn":
        inputs[-3] = 0.98 * np.eye(hidden)
    given = Sample("", tuple(inputs), case.attributes)
    expected = REGISTRY[kind].reference(*rounded(given.inputs, np.float16), **given.attributes)
    found = compute(machine, kind, given, np.float16)
    # One rounding, of what is stored; rounding the state as well leaves 8e-4 to 16e-4.
    assert relative_error(found[0], expected[0]) <= 2**-11 + 3e-5


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("batch_sizes", [(3, 3, 3), (4,), (4, 2, 2, 1), (1, 1)], ids=str)
def test_states_before_each_step(batch_sizes, reverse):
    layout = make_layout(0, 0, batch_sizes)
    y = np.arange(2.0 * layout.rows).reshape(-1, 2)
    h0 = -1 - np.arange(2.0 * layout.batch).reshape(-1, 2)
    state, expected = h0.copy(), np.full_like(y, np.nan)
    for rows, size, _ in layout.walk(reverse):
        expected[rows] = state[:size]
        state[:size] = y[rows]
    np.testing.assert_array_equal(op.states_before(y, h0, layout, reverse), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_a_graph_that_is_walked_twice(machine, kind):
    """The first walk overwrites what was kept; the second computes it again."""
    case = sample(kind, 3, 2, 3, 4)
    device = "cpu" if machine.module is np else "cuda"
    tensors = [gn.tensor(value, dtype="float32", device=device, requires_grad=True) for value in case.inputs]

    def walk():
        loss = apply(REGISTRY[kind], *tensors, **case.attributes)[0].square().sum()
        found = []
        for retain in (True, True, False):
            for tensor in tensors:
                tensor.grad = None
            loss.backward(retain_graph=retain)
            found.append([None if t.grad is None else t.grad.cpu().numpy().copy() for t in tensors])
        return found

    first, second, third = machine.run(walk)
    for one, two, three in zip(first, second, third, strict=True):
        np.testing.assert_array_equal(one, two)
        np.testing.assert_array_equal(one, three)
    plain = [gn.tensor(value, dtype="float32", requires_grad=True) for value in case.inputs]
    apply(REGISTRY[kind], *plain, **case.attributes)[0].square().sum().backward()
    for ours, theirs in zip(first, plain, strict=True):
        assert relative_error(ours, theirs.grad.numpy()) <= 1e-5


def test_the_path_says_how(machine):
    case = sample("lstm", 3, 2, 3, 4)
    inputs = tuple(machine.module.asarray(value) for value in case.inputs)
    assert machine.run(lambda: REGISTRY["lstm"].supports(*inputs, **case.attributes)) == (
        "cuda",
        "a product and a kernel of the cell each step",
    )
    layout = make_layout(1, 2**21, None)
    assert op.supports("gru", layout, 2**10, np.dtype(np.float32))[0] == "reference"


def test_there_is_a_kernel_for_every_dtype():
    for kind, direction, dtype, naive in itertools.product(KINDS, ("forward", "backward"), DTYPES, ("", "naive_")):
        assert f"{kind}_{naive}{direction}_{dtype.name}" in kernel_file(kind).functions


@contextmanager
def allowing_tf32():
    gn.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        gn.set_float32_matmul_precision("highest")


@pytest.mark.parametrize("dtype", [np.dtype(np.float32), *DTYPES[2:]], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_products_over_all_steps_on_tensor_cores(machine, on_tensor_cores, kind, dtype):
    """Where TF32 is allowed, and for half types: x W_ih^T, and the three products of the backward pass."""
    case = sample(kind, 8, 9, 64, 64, reverse=True)
    with allowing_tf32():
        found = compute(machine, kind, case, dtype)
    assert_close(found, reference(kind, case, dtype), dtype, max(BOUNDS[dtype], 1e-2))
    first = "tf32" if dtype == np.float32 else dtype.name
    assert on_tensor_cores == [f"gemm_tensor_{name}" for name in (f"nt_{first}", "nn_tf32", "tn_tf32", "tn_tf32")]
    on_tensor_cores.clear()
    compute(machine, kind, case, np.float32)
    assert not on_tensor_cores, "exact unless it is allowed"


@pytest.mark.parametrize("splits", [1, 3])
@pytest.mark.parametrize("dtype", [np.dtype(np.float32), *DTYPES[2:]], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_products_of_a_step_on_tensor_cores(machine, monkeypatch, on_tensor_cores, kind, dtype, splits):
    """Where TF32 is allowed, and for half types, in batches that are large enough."""
    monkeypatch.setattr(gemm_tensor_cuda, "choose_short_splits", lambda *sizes: splits)
    sizes = (17, 17, 16, 2)
    case = sample(kind, 0, sizes[0], 5, 64, batch_sizes=sizes, reverse=True)
    with allowing_tf32():
        found = compute(machine, kind, case, dtype)
    assert_close(found, reference(kind, case, dtype), dtype, max(BOUNDS[dtype], 1e-2))
    for layout in ("nt", "nn"):
        assert on_tensor_cores.count(f"gemm_tensor_{layout}_tf32") == len(sizes)
    on_tensor_cores.clear()
    compute(machine, kind, case, np.float32)
    assert not on_tensor_cores, "exact unless it is allowed"


# Faults that are planted in the kernels; each is a change of one place, seen in a batch of several lengths.
FAULTS = {
    "missing barrier": ("lstm", "lstm.cu", "    __syncthreads();\n    for (int j", "    for (int j", True),
    "missing barrier behind a step": ("gru", "gru.cu", "    }\n    __syncthreads();\n  });", "    }\n  });", True),
    "one partial sum left out": ("rnn", "recurrent_step.cuh", "int split = 1;", "int split = 2;", False),
    "gradient from a step that was not": ("lstm", "recurrent_step.cuh", "b < coming ?", "true ?", False),
    "state of the wrong sequence": ("lstm", "lstm.cu", "b < before ?", "b + 1 < before ?", False),
    "gates in the wrong order": ("gru", "gru.cu", "a[0].at[v] = one.r, a[1]", "a[1].at[v] = one.r, a[0]", False),
}  # fmt: skip
# Kernels of other dtypes, which need not be compiled for it.
OTHERS = re.compile(r'extern "C"[^{]*_(float64|float16|bfloat16)\([^{]*\{[^}]*\}\n')


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_seen(monkeypatch, tmp_path, fault):
    kind, name, right, wrong, naive = FAULTS[fault]
    for path in kernel_folder().iterdir():
        if path.suffix == ".cuh" or path.name == f"{kind}.cu":
            text = path.read_text(encoding="utf-8")
            if path.name == name:
                assert right in text
                text = text.replace(right, wrong)
            text = OTHERS.sub("", text)
            (tmp_path / path.name).write_text(text, encoding="utf-8")
    planted = read_kernel_file(tmp_path / f"{kind}.cu")
    monkeypatch.setattr(recurrent_stepwise_cuda, "get_kernel", lambda file, kernel: get_kernel(planted, kernel))
    monkeypatch.setattr(gemm_cuda, "choose_short_splits", lambda *sizes: 2)
    case = sample(kind, 0, 4, 3, 40, batch_sizes=(4, 4, 2, 1), reverse=True)
    expected = reference(kind, case, np.float32)
    if naive:  # the threads run in one order, then in the other
        with pytest.raises(KernelFault, match="reversed order"):
            compute(OnCPU(), kind, case, np.float32, naive)
        return
    found = compute(OnCPU(), kind, case, np.float32)
    assert max(map(relative_error, found, expected)) > 1e-2
