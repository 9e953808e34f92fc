"""Pictures of a run."""

from __future__ import annotations

import io
import sys

import pytest

from gpunet.inspect import PlotUnavailableError, curve_png

HISTORY = [
    {"epoch": 1.0, "train_loss": 2.0, "test_loss": 1.5, "train_accuracy": 0.4, "test_accuracy": 0.5},
    {"epoch": 2.0, "train_loss": 1.0, "test_loss": 0.9, "train_accuracy": 0.7, "test_accuracy": 0.8},
]


def test_curve_is_a_picture_and_leaves_pyplot_alone() -> None:
    pytest.importorskip("matplotlib")
    Image = pytest.importorskip("PIL.Image")
    pyplot_was_there = "matplotlib.pyplot" in sys.modules
    for history in (HISTORY, HISTORY[:1], [{"epoch": 1.0, "train_loss": 0.5}], HISTORY * 50):
        with Image.open(io.BytesIO(curve_png(history, "lenet on digits"))) as picture:
            picture.load()
            assert picture.format == "PNG"
            assert picture.width > picture.height > 200
            assert picture.convert("L").getextrema()[0] < 100  # something is drawn
    assert ("matplotlib.pyplot" in sys.modules) == pyplot_was_there


def test_different_numbers_make_different_pictures() -> None:
    pytest.importorskip("matplotlib")
    other = [dict(row, test_accuracy=0.1) for row in HISTORY]
    assert curve_png(HISTORY) == curve_png(HISTORY)
    assert curve_png(HISTORY) != curve_png(other)


def test_a_language_models_curve_is_in_bits() -> None:
    pytest.importorskip("matplotlib")
    bits = [row | {"train_bits_per_character": 3.0, "test_bits_per_character": 3.5} for row in HISTORY]
    assert curve_png(bits) != curve_png(HISTORY)
    # It is the bits that are drawn, not the loss they come from.
    assert curve_png([row | {"train_loss": 9.0} for row in bits]) == curve_png(bits)
    assert curve_png([row | {"test_bits_per_character": 2.5} for row in bits]) != curve_png(bits)


def test_nothing_to_draw() -> None:
    with pytest.raises(ValueError, match="history is empty"):
        curve_png([])


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    with pytest.raises(PlotUnavailableError, match=r"pip install 'gpunet\[plot\]'"):
        curve_png(HISTORY)
