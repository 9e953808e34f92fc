"""The recurrent operations over a single step, on the CPU: cells in a loop."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gpunet.ops import REGISTRY, Context, recurrent_cpu

CASES = [("rnn", {"nonlinearity": "tanh"}), ("rnn", {"nonlinearity": "relu"}), ("lstm", {}), ("gru", {})]
IDS = ["rnn", "rnn, relu", "lstm", "gru"]


@pytest.mark.parametrize("form", ["padded", "last step first", "packed", "no bias", "batch of 1"])
@pytest.mark.parametrize(("kind", "options"), CASES, ids=IDS)
def test_one_step_brings_no_weights_into_another_order(
    kind: str, options: dict[str, Any], form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gradients of a single step are the reference's, and nothing is prepared for steps that do not come."""
    op: Any = REGISTRY[kind]
    rng = np.random.default_rng(5)
    batch = 1 if form == "batch of 1" else 3
    x = rng.standard_normal((batch, 4) if form == "packed" else (1, batch, 4))
    states = [rng.standard_normal((batch, 6)) for _ in range(op.states)]
    weights = [rng.standard_normal((op.gates * 6, size)) for size in (4, 6)]
    biases = [None if form == "no bias" else rng.standard_normal(op.gates * 6) for _ in range(2)]
    inputs = (x, *states, *weights, *biases)
    attributes = {**options, "reverse": form == "last step first", "batch_sizes": (batch,) if x.ndim == 2 else None}
    monkeypatch.setattr(recurrent_cpu, "forward_cpu", None)
    context = Context(tuple(value is not None for value in inputs), attributes)
    outputs = op.forward(context, *inputs, **attributes)
    seeds = tuple(rng.standard_normal(output.shape) for output in outputs)
    expected = (*op.reference(*inputs, **attributes), *op.reference_backward(seeds, inputs, **attributes))
    for _ in range(2):  # the graph is walked again
        for mine, theirs in zip((*outputs, *op.backward(context, *seeds)), expected, strict=True):
            assert (mine is None) == (theirs is None)
            if mine is not None:
                assert mine.shape == theirs.shape
                np.testing.assert_allclose(mine, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])
def test_gradients_that_are_not_wanted_are_not_made(kind: str) -> None:
    op: Any = REGISTRY[kind]
    rng = np.random.default_rng(5)
    states = [rng.standard_normal((3, 6)) for _ in range(op.states)]
    weights = [rng.standard_normal((op.gates * 6, size)) for size in (4, 6)]
    inputs = (rng.standard_normal((1, 3, 4)), *states, *weights, *(rng.standard_normal(op.gates * 6) for _ in "ab"))
    attributes: dict[str, Any] = {"reverse": False, "batch_sizes": None}
    seeds = tuple(np.ones(shape) for shape in [(1, 3, 6)] + [(3, 6)] * op.states)
    expected = op.reference_backward(seeds, inputs, **attributes)
    for wanted in range(len(inputs)):
        context = Context(tuple(place == wanted for place in range(len(inputs))), attributes)
        op.forward(context, *inputs, **attributes)
        found = op.backward(context, *seeds)
        assert [place for place, gradient in enumerate(found) if gradient is not None] == [wanted]
        np.testing.assert_allclose(found[wanted], expected[wanted], rtol=1e-10, atol=1e-12)
