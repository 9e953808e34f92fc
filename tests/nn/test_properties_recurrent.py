"""Recurrent layers and packed batches of any sizes and lengths: PyTorch is the oracle, and meta gives cpu's shapes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gpunet as gn
from gpunet.testing.properties import assert_agreement_with_torch, numbers

hypothesis = pytest.importorskip("hypothesis")
torch = pytest.importorskip("torch")
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

pytestmark = pytest.mark.parity

EXAMPLES = settings(deadline=None, derandomize=True, max_examples=60, print_blob=False)


def weights_of(mode: str, inputs: int, hidden: int, layers: int, bias: bool, directions: int) -> list[np.ndarray]:
    """Weights in the order of a layer's parameters."""
    rows = {"LSTM": 4, "GRU": 3}.get(mode, 1) * hidden
    rng, found = np.random.default_rng(hidden), []
    for layer in range(layers):
        for _ in range(directions):
            shapes = [(rows, inputs if layer == 0 else hidden * directions), (rows, hidden)]
            found += [rng.standard_normal(shape) * hidden**-0.5 for shape in shapes + [(rows,), (rows,)] * bias]
    return found


@EXAMPLES
@given(data=st.data())
def test_layers_of_any_sizes(data: st.DataObject) -> None:
    mode = data.draw(st.sampled_from(["RNN", "LSTM", "GRU"]))
    steps, batch, features, hidden = (data.draw(st.integers(1, 6)) for _ in range(4))
    layers, bias, both = data.draw(st.integers(1, 3)), data.draw(st.booleans()), data.draw(st.booleans())
    first = data.draw(st.booleans())
    lengths = data.draw(st.none() | st.lists(st.integers(1, steps), min_size=batch, max_size=batch))
    with_states = data.draw(st.booleans())
    drawn = weights_of(mode, features, hidden, layers, bias, 2 if both else 1)
    states = [numbers((layers * (2 if both else 1), batch, hidden), np.float64, seed) for seed in (1, 2)]
    used = (states if mode == "LSTM" else states[:1]) if with_states else []

    def run(m: Any, x: Any, *rest: Any) -> Any:
        place = str(x.device)
        layer = getattr(m.nn, mode)(
            features, hidden, layers, bias=bias, batch_first=first, bidirectional=both, dtype=m.float64, device=place
        )
        if place != "meta":
            keys = list(layer.state_dict())
            layer.load_state_dict({key: m.from_numpy(value) for key, value in zip(keys, drawn, strict=True)})
        hx = tuple(rest) if len(rest) == 2 else rest[0] if rest else None
        rnn = m.nn.utils.rnn
        fed = x if lengths is None else rnn.pack_padded_sequence(x, lengths, first, enforce_sorted=False)
        output, last = layer(fed, hx)
        if lengths is not None:
            output = (output.data, *rnn.pad_packed_sequence(output, first, total_length=steps + 1))
        return output, last

    x = numbers((batch, steps, features) if first else (steps, batch, features), np.float64)
    assert_agreement_with_torch(run, [x, *used])


@EXAMPLES
@given(data=st.data())
def test_packing_of_any_lengths(data: st.DataObject) -> None:
    """Bad lengths too: both raise, or neither does."""
    steps, batch = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 5))
    lengths = data.draw(
        st.lists(st.integers(data.draw(st.sampled_from([0, 1, 1])), steps), min_size=batch, max_size=batch)
    )
    if data.draw(st.booleans()):
        lengths = sorted(lengths, reverse=True)
    first, enforce_sorted = data.draw(st.booleans()), data.draw(st.booleans())
    rest = data.draw(st.sampled_from([(), (2,), (2, 3)]))
    total = data.draw(st.none() | st.integers(1, 7))

    def run(m: Any, x: Any) -> Any:
        rnn = m.nn.utils.rnn
        packed = rnn.pack_padded_sequence(x, lengths, first, enforce_sorted)
        return packed.data, packed.batch_sizes, rnn.pad_packed_sequence(packed, not first, -1.0, total)

    shape = (batch, steps, *rest) if first else (steps, batch, *rest)
    assert_agreement_with_torch(run, [numbers(shape, np.float64)])


@EXAMPLES
@given(
    lengths=st.lists(st.integers(0, 4), min_size=1, max_size=5),
    first=st.booleans(),
    side=st.sampled_from(["left", "right"]),
    rest=st.sampled_from([(), (2,), (2, 3)]),
)
def test_padding_of_any_lengths(lengths: list[int], first: bool, side: str, rest: tuple[int, ...]) -> None:
    def run(m: Any, *parts: Any) -> Any:
        return m.nn.utils.rnn.pad_sequence(list(parts), first, 0.5, side)

    parts = [numbers((length, *rest), np.float64, place) for place, length in enumerate(lengths)]
    assert_agreement_with_torch(run, parts)
    whole = run(gn, *(gn.tensor(part) for part in parts))
    if side == "right":
        found = gn.nn.utils.rnn.unpad_sequence(whole, lengths, first)
        for a, b in zip(found, parts, strict=True):
            np.testing.assert_array_equal(a.numpy(), b)
