"""The recurrent operations on the CPU beyond their samples: what is kept, what is cut, and values at the edges."""

from __future__ import annotations

import itertools
import tracemalloc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import gpunet as gn
from gpunet.autograd import apply
from gpunet.ops import REGISTRY, Context, use_path
from gpunet.ops.base import NO_GRAD

KINDS = {"rnn": (1, 1), "lstm": (4, 2), "gru": (3, 1)}  # gates, states
CASES = [("rnn", {"nonlinearity": "tanh"}), ("rnn", {"nonlinearity": "relu"}), ("lstm", {}), ("gru", {})]
# 70 sequences of 128 units are cut into slices; 100 units leave columns that fill no panel of weights.
LARGE = [(6, 70, 20, 128, None), (5, 70, 20, 100, (70, 64, 40, 3, 1))]


@pytest.fixture
def _threads() -> Iterator[None]:
    before = gn.get_num_threads()
    yield
    gn.set_num_threads(before)


def inputs_of(
    kind: str,
    steps: int,
    batch: int,
    features: int,
    hidden: int,
    sizes: tuple[int, ...] | None = None,
    dtype: Any = np.float64,
    seed: int = 3,
) -> list[Any]:
    """x, states, weights and biases of a layer."""
    gates, states = KINDS[kind]
    rng = np.random.default_rng(seed)
    shape = (steps, batch) if sizes is None else (sum(sizes),)
    scale = 1 / hidden**0.5
    weights = [scale * rng.standard_normal((gates * hidden, size)) for size in (features, hidden)]
    biases = [scale * rng.standard_normal(gates * hidden) for _ in range(2)]
    return [
        value.astype(dtype)
        for value in (
            rng.standard_normal((*shape, features)),
            *(rng.standard_normal((batch, hidden)) for _ in range(states)),
            *weights,
            *biases,
        )
    ]


def gradients_of(outputs: tuple[Any, ...]) -> tuple[Any, ...]:
    rng = np.random.default_rng(5)
    return tuple(rng.standard_normal(output.shape).astype(output.dtype) for output in outputs)


def run(kind: str, inputs: list[Any], needs: tuple[bool, ...] | None = None, **attributes: Any) -> tuple[Any, Any]:
    """Outputs and gradients, by way of the operation alone."""
    attributes = {"reverse": False, "batch_sizes": None} | attributes
    ctx = Context(needs or (True,) * len(inputs), attributes)
    outputs = REGISTRY[kind].forward(ctx, *inputs, **attributes)
    return outputs, REGISTRY[kind].backward(ctx, *gradients_of(outputs))


def assert_close(found: tuple[Any, ...], expected: tuple[Any, ...], bound: float = 1e-10) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.shape == theirs.shape
        assert np.abs(ours - theirs).max() <= bound * max(1.0, np.abs(theirs).max())


def assert_same(found: tuple[Any, ...], expected: tuple[Any, ...]) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(("kind", "attributes"), CASES)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("size", LARGE, ids=["padded", "packed"])
def test_slices_of_the_batch_agree_with_the_equations(
    kind: str, attributes: dict[str, Any], reverse: bool, size: Any
) -> None:
    inputs = inputs_of(kind, *size)
    options = {"reverse": reverse, "batch_sizes": size[4]} | attributes
    outputs, gradients = run(kind, inputs, **options)
    with use_path("reference"):
        expected, theirs = run(kind, inputs, **options)
    assert_close(outputs, expected)
    assert_close(gradients, theirs)


@pytest.mark.usefixtures("_threads")
@pytest.mark.parametrize(("kind", "attributes"), CASES)
@pytest.mark.parametrize("size", LARGE, ids=["padded", "packed"])
def test_the_number_of_threads_does_not_change_a_bit(kind: str, attributes: dict[str, Any], size: Any) -> None:
    inputs = inputs_of(kind, *size, dtype=np.float32)
    results = []
    for threads in (1, 2, 3):
        gn.set_num_threads(threads)
        outputs, gradients = run(kind, inputs, batch_sizes=size[4], **attributes)
        results.append((*outputs, *gradients))
    assert_same(results[1], results[0])
    assert_same(results[2], results[0])


@pytest.mark.parametrize(("kind", "attributes"), CASES)
@pytest.mark.parametrize("sizes", [None, (4, 3, 3, 1)])
def test_a_graph_that_is_kept_gives_the_same_gradients_again(
    kind: str, attributes: dict[str, Any], sizes: tuple[int, ...] | None
) -> None:
    leaves = [gn.from_numpy(value).requires_grad_() for value in inputs_of(kind, 4, 4, 3, 5, sizes)]
    outputs = apply(REGISTRY[kind], *leaves, reverse=False, batch_sizes=sizes, **attributes)
    loss = sum((output * output).sum() for output in outputs)
    loss.backward(retain_graph=True)
    first = tuple(leaf.grad.numpy().copy() for leaf in leaves)
    for _ in range(2):
        for leaf in leaves:
            leaf.grad = None
        loss.backward(retain_graph=True)
        assert_same(tuple(leaf.grad.numpy() for leaf in leaves), first)
    assert all(np.any(gradient != 0) for gradient in first)


def test_writing_to_the_output_is_noticed() -> None:
    leaves = [gn.from_numpy(value).requires_grad_() for value in inputs_of("lstm", 4, 2, 3, 5)]
    y, h, _ = apply(REGISTRY["lstm"], *leaves, reverse=False, batch_sizes=None)
    h.detach().zero_()  # its own memory: nothing happens to y
    loss = (y * 2).sum()
    y.detach().zero_()
    with pytest.raises(RuntimeError, match="modified in place"):
        loss.backward()


@pytest.mark.parametrize(("kind", "attributes"), CASES)
def test_only_the_gradients_asked_for_are_computed(kind: str, attributes: dict[str, Any]) -> None:
    inputs = inputs_of(kind, 3, 4, 5, 6, dtype=np.float32)
    _, everything = run(kind, inputs, **attributes)
    for place in range(len(inputs)):
        needs = tuple(index == place for index in range(len(inputs)))
        _, gradients = run(kind, inputs, needs, **attributes)
        assert [gradient is not None for gradient in gradients] == list(needs)
        np.testing.assert_array_equal(gradients[place], everything[place])


@pytest.mark.parametrize(("kind", "attributes"), CASES)
@pytest.mark.parametrize("biased", list(itertools.product([False, True], repeat=2)))
def test_either_bias_may_be_left_out(kind: str, attributes: dict[str, Any], biased: tuple[bool, bool]) -> None:
    inputs: list[Any] = inputs_of(kind, 5, 3, 4, 6)
    for place, given in zip((-2, -1), biased, strict=True):
        inputs[place] = inputs[place] if given else None
    needs = tuple(value is not None for value in inputs)
    outputs, gradients = run(kind, inputs, needs, **attributes)
    with use_path("reference"):
        expected, theirs = run(kind, inputs, needs, **attributes)
    assert_close(outputs, expected)
    assert [gradient is None for gradient in gradients] == [gradient is None for gradient in theirs]
    assert_close(tuple(g for g in gradients if g is not None), tuple(g for g in theirs if g is not None))


@pytest.mark.parametrize(("kind", "attributes"), CASES)
@pytest.mark.parametrize(("steps", "sizes"), [(1, None), (1, (3,)), (2, None), (40, None), (4, (3, 3, 2, 1))])
def test_without_gradients_the_outputs_are_the_same(
    kind: str, attributes: dict[str, Any], steps: int, sizes: tuple[int, ...] | None
) -> None:
    inputs = inputs_of(kind, steps, 3, 40, 50, sizes)
    options = {"reverse": False, "batch_sizes": sizes} | attributes
    outputs, _ = run(kind, inputs, **options)
    found = REGISTRY[kind].forward(NO_GRAD, *inputs, **options)
    assert_close(found, outputs)
    assert not any(np.shares_memory(a, b) for a, b in itertools.combinations(found, 2))
    assert not any(np.shares_memory(a, b) for a in found for b in inputs)


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_without_gradients_no_gates_are_kept(kind: str) -> None:
    inputs = inputs_of(kind, 1000, 8, 16, 64, dtype=np.float32)
    options = {"reverse": False, "batch_sizes": None}
    y = REGISTRY[kind].forward(NO_GRAD, *inputs, **options)[0]
    tracemalloc.start()
    try:
        REGISTRY[kind].forward(NO_GRAD, *inputs, **options)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1.5 * y.nbytes  # the gates alone would be three or four times as large


@pytest.mark.parametrize(("kind", "attributes"), CASES)
def test_two_thousand_steps(kind: str, attributes: dict[str, Any]) -> None:
    inputs = inputs_of(kind, 2000, 2, 3, 6)
    outputs, gradients = run(kind, inputs, **attributes)
    with use_path("reference"):
        expected, theirs = run(kind, inputs, **attributes)
    assert_close(outputs, expected)
    assert_close(gradients, theirs)


@pytest.mark.parametrize(("kind", "attributes"), CASES)
def test_memory_grows_with_the_steps_and_no_faster(kind: str, attributes: dict[str, Any]) -> None:
    peaks = []
    for steps in (1000, 2000):
        inputs = inputs_of(kind, steps, 2, 16, 32, dtype=np.float32)
        run(kind, inputs, **attributes)  # what threads keep for the next call
        tracemalloc.start()
        try:
            run(kind, inputs, **attributes)
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert peaks[1] < 2.5 * peaks[0]


@pytest.mark.parametrize(("kind", "attributes"), CASES)
def test_a_nan_stays_in_its_sequence(kind: str, attributes: dict[str, Any]) -> None:
    inputs = inputs_of(kind, 6, 5, 4, 40, dtype=np.float32)
    clean, clean_gradients = run(kind, inputs, **attributes)
    inputs[0][2, 3, 1] = np.nan
    with np.errstate(all="ignore"):
        (y, *_), gradients = run(kind, inputs, **attributes)
        with use_path("reference"):
            (expected, *_), theirs = run(kind, inputs, **attributes)
    assert np.isnan(y[2:, 3]).all()
    np.testing.assert_array_equal(np.isnan(y), np.isnan(expected))
    others = np.arange(5) != 3
    np.testing.assert_array_equal(y[:, others], clean[0][:, others])
    np.testing.assert_array_equal(gradients[0][:, others], clean_gradients[0][:, others])
    if attributes.get("nonlinearity") != "relu":  # whose reference takes a NaN for "not above 0"
        assert np.isnan(gradients[0][:, 3]).any()
    np.testing.assert_array_equal(np.isnan(gradients[0]), np.isnan(theirs[0]))


@pytest.mark.parametrize(("kind", "attributes"), CASES)
def test_infinite_inputs_saturate_as_the_equations_do(kind: str, attributes: dict[str, Any]) -> None:
    inputs = inputs_of(kind, 3, 4, 5, 40)
    inputs[0][1, 2, 3], inputs[0][1, 0, 0] = np.inf, -np.inf
    with np.errstate(all="ignore"):
        outputs = REGISTRY[kind].forward(NO_GRAD, *inputs, reverse=False, batch_sizes=None, **attributes)
        expected = REGISTRY[kind].reference(*inputs, reverse=False, batch_sizes=None, **attributes)
    for ours, theirs in zip(outputs, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-10, equal_nan=True)


@pytest.mark.usefixtures("_threads")
@pytest.mark.parametrize(("kind", "attributes"), [CASES[0], *CASES[2:]])
def test_large_arguments_overflow_nowhere(kind: str, attributes: dict[str, Any]) -> None:
    gn.set_num_threads(1)  # error settings belong to a thread
    inputs = inputs_of(kind, 4, 3, 5, 40, dtype=np.float32)
    inputs[0] *= np.float32(1e6)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        outputs, gradients = run(kind, inputs, **attributes)
        one = [inputs[0][:1], *inputs[1:]]
        first = REGISTRY[kind].forward(NO_GRAD, *one, reverse=False, batch_sizes=None, **attributes)
    assert all(np.isfinite(value).all() for value in (*outputs, *gradients, *first))
    exact = [value.astype(np.float64) for value in inputs]
    assert_close(outputs, REGISTRY[kind].reference(*exact, reverse=False, batch_sizes=None, **attributes), 1e-5)


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
@pytest.mark.parametrize(("kind", "attributes"), CASES)
@pytest.mark.parametrize("sizes", [None, (4, 3, 1)])
def test_half_types_are_carried_in_float32(
    kind: str, attributes: dict[str, Any], name: str, sizes: tuple[int, ...] | None
) -> None:
    dtype = np.dtype(np.float16) if name == "float16" else np.dtype(pytest.importorskip("ml_dtypes").bfloat16)
    half = inputs_of(kind, 3, 4, 5, 40, sizes, dtype)
    single = [value.astype(np.float32) for value in half]
    outputs, gradients = run(kind, half, batch_sizes=sizes, **attributes)
    expected = REGISTRY[kind].forward(NO_GRAD, *single, **({"reverse": False, "batch_sizes": sizes} | attributes))
    unit = 2.0**-10 if name == "float16" else 2.0**-7
    assert all(value.dtype == dtype for value in (*outputs, *gradients))
    assert_close(tuple(value.astype(np.float32) for value in outputs), expected, unit)
    attributes = {"reverse": False, "batch_sizes": sizes} | attributes
    ctx = Context((True,) * len(single), attributes)
    REGISTRY[kind].forward(ctx, *single, **attributes)
    # The same gradients of the outputs on both sides: those that the half type holds.
    given = tuple(value.astype(np.float32) for value in gradients_of(outputs))
    theirs = REGISTRY[kind].backward(ctx, *given)
    assert_close(tuple(value.astype(np.float32) for value in gradients), theirs, unit)


@pytest.mark.parametrize("kind", KINDS)
def test_any_order_of_x_in_memory_is_read_in_place(kind: str) -> None:
    inputs = inputs_of(kind, 9, 40, 6, 33)
    expected, theirs = run(kind, inputs)
    for order in itertools.permutations(range(3)):
        back = tuple(np.argsort(order))
        inputs[0] = np.ascontiguousarray(inputs[0].transpose(order)).transpose(back)
        outputs, gradients = run(kind, inputs)
        assert_close((*outputs, *gradients), (*expected, *theirs))
        assert gradients[0].strides == inputs[0].strides


def test_what_is_explained_is_what_runs() -> None:
    inputs = inputs_of("lstm", 3, 2, 4, 5)
    assert REGISTRY["lstm"].path(*inputs, reverse=False, batch_sizes=None) == "cpu"
