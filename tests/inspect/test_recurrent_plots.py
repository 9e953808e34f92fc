"""The gates of an LSTM, and pictures of backpropagation through time: their numbers are the library's."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpunet as gn
from gpunet import nn
from gpunet.inspect import (
    PlotUnavailableError,
    bptt_terms,
    bptt_trace,
    lstm_gates,
    plot_bptt_terms,
    plot_bptt_trace,
    plot_lstm_gates,
    repeated_factor,
)
from gpunet.nn import functional as F


def named(figure: Any, start: str = "") -> dict[str, Any]:
    found = {str(artist.get_gid() or ""): artist for artist in figure.findobj()}
    return {name.removeprefix(start): artist for name, artist in found.items() if name.startswith(start)}


# Gates -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_gates_are_the_layers(batch_first: bool, bias: bool) -> None:
    """Row B91: what the gates make is what the layer gives, in every layer, from any state."""
    lstm = nn.LSTM(3, 5, num_layers=2, bias=bias, batch_first=batch_first, dtype=gn.float64)
    x = gn.randn(7, 2, 3, dtype=gn.float64)
    given = x.transpose(0, 1) if batch_first else x
    states = (gn.randn(2, 2, 5, dtype=gn.float64), gn.randn(2, 2, 5, dtype=gn.float64))
    for hx in (None, states):
        output, (h_n, c_n) = lstm(given, hx)
        for layer in (0, 1, -1):
            gates = lstm_gates(lstm, given, hx, layer=layer)
            assert gates.i.shape == (7, 2, 5)
            assert gates.h[-1] == pytest.approx(h_n[layer].detach().numpy(), abs=1e-12)
            assert gates.c[-1] == pytest.approx(c_n[layer].detach().numpy(), abs=1e-12)
        expected = output.detach().numpy()
        assert gates.h == pytest.approx(expected.swapaxes(0, 1) if batch_first else expected, abs=1e-12)
        before = np.concatenate([np.zeros((1, 2, 5)) if hx is None else hx[1][1:].numpy(), gates.c[:-1]])
        assert gates.c == pytest.approx(gates.f * before + gates.i * gates.g, abs=1e-15)
        assert gates.h == pytest.approx(gates.o * np.tanh(gates.c), abs=1e-15)


def test_gates_without_weights() -> None:
    """Row B91: with zero weights gates are half open and the candidate is 0, so that from c0 = 1 the cell is halved."""
    for lstm, x, shape in ((nn.LSTM(4, 8), gn.randn(1, 4), (1, 8)), (nn.LSTMCell(4, 8), gn.randn(1, 4), (8,))):
        with gn.no_grad():
            for parameter in lstm.parameters():
                parameter.zero_()
        gates = lstm_gates(lstm, x, (gn.zeros(*shape), gn.ones(*shape)))
        for gate in (gates.i, gates.f, gates.o):
            assert gate.tolist() == [[0.5] * 8]
        assert gates.g.tolist() == [[0.0] * 8]
        assert gates.c.tolist() == [[0.5] * 8]
        assert gates.h == pytest.approx(np.full((1, 8), 0.23105858), abs=1e-8)


@pytest.mark.parametrize("name", ["i", "f", "o", "g"])
def test_every_gate_sees_the_input_as_well_as_the_state(name: str) -> None:
    """Row B91, corrected: gates are functions of x_t too, not of h_{t-1} alone; and so is the candidate."""
    lstm, x = nn.LSTM(3, 5), gn.randn(6, 3)
    other = x.clone()
    other[3] += 1.0
    before, after = (getattr(lstm_gates(lstm, sequence), name) for sequence in (x, other))
    assert np.array_equal(before[:3], after[:3])
    assert np.all(before[3] != after[3])  # of its own step, from which the state before is the same
    states = (gn.randn(1, 5), gn.zeros(1, 5))
    assert np.all(getattr(lstm_gates(lstm, x, states), name)[0] != before[0])


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: lstm_gates(nn.GRU(3, 5), gn.randn(4, 3)), TypeError, "lstm: must be an nn.LSTM or an nn.LSTMCell"),
        (lambda: lstm_gates(nn.LSTM(3, 5, bidirectional=True), gn.randn(4, 3)), ValueError, "lstm: a bidirectional"),
        (lambda: lstm_gates(nn.LSTM(3, 5), gn.randn(4, 2)), gn.ShapeError, r"input: must be .* got shape \(4, 2\)"),
        (lambda: lstm_gates(nn.LSTM(3, 5), gn.randn(0, 3)), gn.ShapeError, "a sequence needs at least one step"),
        (lambda: lstm_gates(nn.LSTM(3, 5), gn.randn(4, 3), layer=1), ValueError, "layer: must be from -1 to 0, got 1"),
        (
            lambda: lstm_gates(nn.LSTM(3, 5), gn.randn(4, 3), (gn.zeros(1, 4), gn.zeros(1, 5))),
            gn.ShapeError,
            r"hx: must be two states of shape \(1, 5\)",
        ),
        (
            lambda: lstm_gates(nn.LSTMCell(3, 5), gn.randn(4, 3), (gn.zeros(1, 5), gn.zeros(1, 5))),
            gn.ShapeError,
            r"hx: must be two states of shape \(5,\)",
        ),
    ],
)
def test_no_gates(call: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        call()


def test_gates_are_drawn() -> None:
    """Row B91: i, f, o, candidate, cell and output over time."""
    pytest.importorskip("matplotlib")
    gates = lstm_gates(nn.LSTM(3, 5), gn.randn(6, 3))
    figure = plot_lstm_gates(gates, labels=list("a b\n$z"), title="gates")
    shown = named(figure, "gate ")
    assert list(shown) == ["i", "f", "o", "g", "c", "h"]
    for name, image in shown.items():
        assert np.array_equal(image.get_array(), getattr(gates, name).T)
        assert image.get_clim() == ((0.0, 1.0) if name in "ifo" else (-1.0, 1.0))
    labels = [label.get_text() for label in figure.axes[5].get_xticklabels()]
    assert labels == ["a", "␣", "b", "↵", r"\$", "z"]
    with pytest.raises(ValueError, match="labels: must be one for each of the 6 steps, got 2"):
        plot_lstm_gates(gates, labels="ab")
    with pytest.raises(gn.ShapeError, match=r"gates: must be of one sequence, \(T, H\), got shape \(6, 2, 5\)"):
        plot_lstm_gates(lstm_gates(nn.LSTM(3, 5), gn.randn(6, 2, 3)))
    with pytest.raises(TypeError, match="gates: must be those of lstm_gates, got LSTM"):
        plot_lstm_gates(nn.LSTM(3, 5))
    with pytest.raises(ValueError, match="401 steps are more than can be drawn"):
        plot_lstm_gates(lstm_gates(nn.LSTM(1, 1), gn.zeros(401, 1)))


# Product against sum -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("factor", "size"), [(0.9, 0.005154), (1.0, 1.0), (1.1, 117.39), (0.0, 0.0)])
def test_the_product_is_what_is_unstable(factor: float, size: float) -> None:
    """Row B09: 0.9^50 = 0.005154, 1.1^50 = 117.39, a zero factor kills the term; what is added is not multiplied."""
    norms = repeated_factor(factor, 50).norms()
    assert norms.product[50] == pytest.approx(size, rel=1e-4)
    assert norms.product == pytest.approx(factor ** np.arange(51.0), rel=1e-9)
    assert norms.direct == pytest.approx(np.ones(51), rel=1e-9)
    assert norms.partial_sum == pytest.approx(np.cumsum(norms.product), rel=1e-9)


def test_one_factor_of_zero_kills_the_older_terms_alone() -> None:
    """Row B09."""
    weight = nn.Parameter(gn.tensor([0.5], dtype=gn.float64))
    x = gn.tensor([[1.0], [1.0], [-9.0], [9.5], [1.0]], dtype=gn.float64)
    terms = bptt_terms(lambda x, h: (weight * h + x).relu(), x, gn.ones(1, dtype=gn.float64), weight)
    # The third step's sum is below 0, where ReLU's derivative is 0; what came before cannot be told from it.
    assert [term.value.item() != 0 for term in terms] == [False, False, False, False, True]
    assert [term.product.item() != 0 for term in terms] == [False, False, True, True, True]


def test_products_and_sums_are_drawn() -> None:
    """Row B09."""
    pytest.importorskip("matplotlib")
    figure = plot_bptt_terms()
    for factor, end in ((0.9, 0.005154), (1, 1.0), (1.1, 117.39)):
        line = named(figure, "product ")[f"w = {factor:g}"]
        assert line.get_ydata()[-1] == pytest.approx(end, rel=1e-4)
        assert line.get_xdata()[-1] == 50
        assert named(figure, "direct ")[f"w = {factor:g}"].get_ydata() == pytest.approx(np.ones(51))
    assert figure.axes[0].get_yscale() == "log"
    cell = nn.RNNCell(3, 4, dtype=gn.float64)
    terms = bptt_terms(cell, gn.randn(9, 3, dtype=gn.float64), None, cell.weight_hh)
    figure = plot_bptt_terms(terms, title="a cell")
    assert np.array_equal(named(figure)["product"].get_ydata(), terms.norms().product)
    assert np.array_equal(named(figure)["sum"].get_ydata(), terms.norms().partial_sum)
    dead = named(plot_bptt_terms(repeated_factor(0.0, 3)))["product"].get_ydata()
    assert np.array_equal(dead, [1.0, np.nan, np.nan, np.nan], equal_nan=True)
    huge = named(plot_bptt_terms(repeated_factor(1e9, 20)))
    assert np.isfinite(huge["product"].get_ydata()[:10]).all()
    assert np.isnan(huge["product"].get_ydata()[-1])
    # Lines that hide each other are named.
    text = named(plot_bptt_terms())["on one line"].get_text()
    assert "on one line: w = 0.9 direct, w = 1 product, w = 1 direct, w = 1.1 direct" in text
    assert "on one line" not in named(figure)
    for bad, error, text in (
        ("a", TypeError, "factor: must be numbers, got str"),
        (np.nan, ValueError, "factor: must be finite"),
        ([0.9, 1.0], gn.ShapeError, r"factor: must be one number, got shape \(2,\)"),
    ):
        with pytest.raises(error, match=text):
            repeated_factor(bad, 3)
    with pytest.raises(TypeError, match="terms: must be those of bptt_terms"):
        plot_bptt_terms([1.0])
    with pytest.raises(ValueError, match="terms: there are none"):
        plot_bptt_terms({})
    with pytest.raises(ValueError, match="lags: must be a whole number"):
        repeated_factor(0.9, -1)


# Unrolled ----------------------------------------------------------------------------------------------------------


def test_the_unrolled_network_has_every_way_back() -> None:
    """Rows B40 and B92: H_t gets gradient from O_t and from H_{t+1}; in each state stands the sum's norm."""
    pytest.importorskip("matplotlib")
    cell, head = nn.RNNCell(3, 8), nn.Linear(8, 2)
    trace = bptt_trace(cell, head, F.mse_loss, gn.randn(3, 3), gn.randn(3, 2))
    artists = named(plot_bptt_trace(trace))

    def written(values: np.ndarray) -> str:
        return f"{np.linalg.norm(values):.3g}"

    for t in (1, 2, 3):
        assert artists[f"text state {t}"].get_text() == f"h{t}\n{written(trace.grad_states[t - 1])}"
        assert artists[f"text output {t}"].get_text() == f"O{t}\n{written(trace.grad_outputs[t - 1])}"
        assert artists[f"from O {t}"].get_text() == written(trace.from_output[t - 1])
        assert {f"back O{t} to {t}", f"back {t} to {t - 1}", f"forward {t - 1} to {t}"} <= artists.keys()
    assert artists["from 3 to 2"].get_text() == written(trace.from_next[1])
    assert artists["from 1 to 0"].get_text() == written(trace.grad_initial)
    assert "back 4 to 3" not in artists, "the last state has no next one"
    assert len(named(plot_bptt_trace(), "state ")) == 5
    with pytest.raises(TypeError, match="trace: must be that of bptt_trace"):
        plot_bptt_trace(cell)
    long = bptt_trace(cell, head, F.mse_loss, gn.randn(13, 3), gn.randn(13, 2))
    with pytest.raises(ValueError, match="13 steps are more than can be drawn"):
        plot_bptt_trace(long)


def test_files(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    gates = lstm_gates(nn.LSTM(3, 5), gn.randn(6, 3))
    for name in ("a", "b"):
        plot_lstm_gates(gates, tmp_path / f"{name}1.svg")
        plot_bptt_terms(path=tmp_path / f"{name}2.png")
        plot_bptt_trace(path=tmp_path / f"{name}3.svg")
    for file in ("1.svg", "2.png", "3.svg"):
        assert (tmp_path / f"a{file}").read_bytes() == (tmp_path / f"b{file}").read_bytes()


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    gates = lstm_gates(nn.LSTM(3, 5), gn.randn(6, 3))
    for plot in (lambda: plot_lstm_gates(gates), plot_bptt_terms, plot_bptt_trace):
        with pytest.raises(PlotUnavailableError, match=r"gpunet\[plot\]"):
            plot()
