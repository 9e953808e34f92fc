"""Bad inputs of texts and vocabularies, and the one clear error each gives. Files: tests/data/test_text.py."""

from __future__ import annotations

import numpy as np
import pytest

import gpunet as gn
from gpunet.data import TextInfo, TextStreams, Vocabulary, load_text, make_text_splits
from gpunet.testing.bad_input import BadInput

CATALOGUE = [
    BadInput("a vocabulary of a list", lambda z, on: Vocabulary(["a", "b"]),  # type: ignore[arg-type]
             TypeError, "characters: expected a string, got list"),
    BadInput("a vocabulary of nothing", lambda z, on: Vocabulary(""),
             ValueError, "characters: there must be at least one"),
    BadInput("a character twice", lambda z, on: Vocabulary("abca"),
             ValueError, "characters: 'a' (U+0061) comes twice"),
    BadInput("an unknown character", lambda z, on: Vocabulary("ab").encode("abc"),
             ValueError, "text: unknown character 'c' (U+0063) at position 2; 2 characters are known"),
    BadInput("bytes", lambda z, on: Vocabulary("ab").encode(b"ab"),  # type: ignore[arg-type]
             TypeError, "text: expected a string, got bytes"),
    BadInput("a number too large", lambda z, on: Vocabulary("ab").decode([0, 2]),
             IndexError, "numbers: must be 0 to 1, got 0 to 2"),
    BadInput("numbers that are none", lambda z, on: Vocabulary("ab").decode([0.5]),
             gn.DTypeError, "numbers: expected integers, got float64"),
    BadInput("a description without a name", lambda z, on: TextInfo.from_dict({}),
             ValueError, "description of a text: field 'name' is missing"),
    BadInput("a description of a wrong length",
             lambda z, on: TextInfo.from_dict({"name": "a", "characters": "a", "length": 1.5, "sha256": ""}),
             ValueError, "length: expected a whole number, got 1.5"),
    BadInput("a share of nothing", lambda z, on: load_text(held_out=0.0),
             ValueError, "held_out: must be a share above 0 and below 1, got 0.0"),
    BadInput("a file that is none", lambda z, on: load_text("nowhere.txt"),
             FileNotFoundError, "nowhere.txt: no such file; the bundled text is 'pride_and_prejudice'"),
    BadInput("a part of one character", lambda z, on: make_text_splits("abc", "a"),
             ValueError, "test: must have a character and one that follows it, got 1"),
    BadInput("a part of nothing at all", lambda z, on: make_text_splits(None, "abc"),  # type: ignore[arg-type]
             TypeError, "train: expected a string, got NoneType"),
    BadInput("a part outside the vocabulary",
             lambda z, on: make_text_splits("aba", "abc", "poem", vocabulary=Vocabulary("ab")),
             ValueError, "poem, the held-out part: unknown character 'c' (U+0063) at position 2; 2 characters are "
                         "known"),
    BadInput("streams of a table", lambda z, on: TextStreams(np.zeros((4, 4), int), 1, 1),
             gn.ShapeError, "numbers: expected shape (characters,), got (4, 4)"),
    BadInput("streams of floats", lambda z, on: TextStreams(np.zeros(9), 1, 1),
             gn.DTypeError, "numbers: expected integers, got float64"),
    BadInput("no streams", lambda z, on: TextStreams(np.zeros(9, int), 0, 1),
             ValueError, "batch_size: must be at least 1, got 0"),
    BadInput("a window of a float", lambda z, on: TextStreams(np.zeros(9, int), 1, 2.0),  # type: ignore[arg-type]
             TypeError, "window: must be an integer, got float"),
    BadInput("streams longer than the text", lambda z, on: TextStreams(np.zeros(12, int), 3, 4),
             ValueError, "the text is shorter than one window: 3 streams of 4 characters and what follows them need "
                         "13, got 12"),
]  # fmt: skip


@pytest.mark.parametrize("entry", CATALOGUE, ids=repr)
def test_bad_text(entry: BadInput) -> None:
    """The error, word for word."""
    entry.check("cpu")
