"""What the character model reaches on the bundled novel, against what PyTorch reaches in the same steps."""

from __future__ import annotations

import pytest

import gpunet as gn
from gpunet.data import load_text
from gpunet.training import LanguageConfig, prepare_language

# ``python -m benchmarks.char_rnn``: PyTorch 2.13 with the same weights, batches, Adam, clipping and learning rates.
PYTORCH = 2.727  # bits per character on the held-out part, seed 0
TOLERANCE = 1.02


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_an_epoch_of_the_novel() -> None:
    """Two LSTM layers of 256 on Pride and Prejudice: 300 steps of 32 streams of 64 characters."""
    config = LanguageConfig(epochs=1, dropout=0.0)
    assert (config.cell, config.num_layers, config.hidden_size) == ("lstm", 2, 256)
    trainer = prepare_language(config, load_text(), gn.device("cpu"))
    assert len(trainer.train_loader) == 300
    (row,) = trainer.fit(1)
    assert row["test_bits_per_character"] < PYTORCH * TOLERANCE
    # What is much better than that has seen what was held out.
    assert row["test_bits_per_character"] > PYTORCH * 0.95
