"""A text as a data set for a language model: its characters as numbers, parts in time, batches of parallel streams.

    splits = gn.data.load_text("novel.txt")            # UTF-8; without an argument, the bundled novel
    for inputs, targets in TextStreams(splits.train, batch_size=32, window=64):
        ...                                            # (32, 64) each; a target is the character after its input

A character is a Unicode code point: an accent that combines with the letter before it is one of its own.

The bundled text is Jane Austen's *Pride and Prejudice* (1813), which is in the public domain: PRIDE_AND_PREJUDICE.md
tells why, and how the file was made.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import stat
import time
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cache
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from gpunet.autograd import Tensor, from_numpy
from gpunet.backend.errors import DTypeError, ShapeError

__all__ = [
    "NOVEL",
    "TextInfo",
    "TextSplits",
    "TextStreams",
    "Vocabulary",
    "load_novel",
    "load_text",
    "make_text_splits",
    "read_text",
]

#: Name of the bundled text.
NOVEL = "pride_and_prejudice"
NOVEL_INFO = {"licence": "public domain", "source": "Jane Austen: Pride and Prejudice. London, T. Egerton, 1813"}
FILE = Path(__file__).with_name("pride_and_prejudice.txt.gz")
# Bytes of the largest text, whose numbers take eight times as many; and seconds for somebody to write to a pipe.
LARGEST, PATIENCE = 1 << 30, 5.0
# As many unknown characters an error names.
NAMED = 5


class Vocabulary:
    """The characters that a language model knows, numbered from 0.

    Args:
        characters: each once, in the order of their numbers.

    Raises:
        TypeError: no string.
        ValueError: no characters, or one that comes twice.
    """

    def __init__(self, characters: str) -> None:
        if not isinstance(characters, str):
            raise TypeError(f"characters: expected a string, got {type(characters).__name__}")
        if not characters:
            raise ValueError("characters: there must be at least one")
        self.characters = characters
        points = _code_points(characters)
        self._order = np.argsort(points, kind="stable")
        self._sorted = points[self._order]
        twice = self._sorted[1:][self._sorted[1:] == self._sorted[:-1]]
        if twice.size:
            raise ValueError(f"characters: {describe_character(chr(twice[0]))} comes twice")

    @classmethod
    def of(cls, text: str) -> Vocabulary:
        """The characters of a text, ordered by code point."""
        return cls("".join(sorted(set(text))))

    def __len__(self) -> int:
        return len(self.characters)

    def __contains__(self, character: str) -> bool:
        return len(character) == 1 and character in self.characters

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self.characters == other.characters

    def __hash__(self) -> int:
        return hash(self.characters)

    def __repr__(self) -> str:
        return f"Vocabulary({self.characters!r})"

    def encode(self, text: str, name: str = "text") -> np.ndarray:
        """The numbers of a text's characters, int64 (len(text),).

        Args:
            text: of known characters.
            name: what the text is called in errors.

        Raises:
            ValueError: there are unknown characters; the message names them.
        """
        if not isinstance(text, str):
            raise TypeError(f"{name}: expected a string, got {type(text).__name__}")
        points = _code_points(text)
        places = np.minimum(np.searchsorted(self._sorted, points), len(self) - 1)
        unknown = np.flatnonzero(self._sorted[places] != points)
        if unknown.size:
            known = f"{counted(len(self), 'character')} {'is' if len(self) == 1 else 'are'} known"
            raise ValueError(f"{name}: {_describe_unknown(text, unknown)}; {known}")
        return self._order[places].astype(np.int64, copy=False)

    def decode(self, numbers: Any) -> str:
        """The text of some numbers: a Tensor, an array or integers.

        Raises:
            IndexError: a number that no character has.
        """
        values = np.asarray(numbers.cpu().numpy() if isinstance(numbers, Tensor) else list(numbers))
        if values.size and values.dtype.kind not in "ui":
            raise DTypeError(f"numbers: expected integers, got {values.dtype}")
        if values.size and not (values.min() >= 0 and values.max() < len(self)):
            raise IndexError(f"numbers: must be 0 to {len(self) - 1}, got {describe_range(values)}")
        return "".join(self.characters[number] for number in values.reshape(-1))


def _code_points(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4").astype(np.int64)


def describe_character(character: str) -> str:
    """``'é' (U+00E9)``; by its name where it cannot be seen by itself: ``U+0301 COMBINING ACUTE ACCENT``."""
    point = f"U+{ord(character):04X}"
    if character.isprintable() and not character.isspace() and not unicodedata.combining(character):
        return f"{character!r} ({point})"
    others = {"Cc": "control character", "Cs": "of a byte that is not UTF-8", "Co": "private character"}
    return f"{point} {unicodedata.name(character, others.get(unicodedata.category(character), 'unassigned'))}"


def counted(number: int, noun: str) -> str:
    """``1 character``, ``2 characters``."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def describe_range(numbers: np.ndarray) -> str:
    """``-1 to 4``, or ``7`` where all are the same."""
    low, high = numbers.min(), numbers.max()
    return str(low) if low == high else f"{low} to {high}"


def _describe_unknown(text: str, places: np.ndarray) -> str:
    first: dict[str, int] = {}
    for place in places.tolist():
        first.setdefault(text[place], place)
    named = [f"{describe_character(character)} at position {place}" for character, place in first.items()]
    return f"unknown character{'s' if len(named) > 1 else ''} {_listed(named)}"


def _listed(named: Sequence[str]) -> str:
    """The first few, and how many more."""
    return ", ".join(named[:NAMED]) + (f" and {len(named) - NAMED} more" if len(named) > NAMED else "")


@dataclass(frozen=True)
class TextInfo:
    """The description of a text that a language model was trained on: enough to write and read with the model.

    It is plain data; ``to_dict`` and ``from_dict`` take it through JSON unchanged.

    Attributes:
        name: of the bundled text, or of the file.
        characters: that occur, in the order of their numbers.
        length: in characters.
        sha256: of the text in UTF-8: whether a text is the one it was.
        licence: of the text.
        source: author, title and year, where they are known.
    """

    name: str
    characters: str
    length: int
    sha256: str
    licence: str = ""
    source: str = ""

    @property
    def vocabulary(self) -> Vocabulary:
        """What turns text into numbers and back."""
        return Vocabulary(self.characters)

    def to_dict(self) -> dict[str, Any]:
        """Everything, as what JSON can hold."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TextInfo:
        """What ``to_dict`` returned, checked.

        Raises:
            ValueError: a field is missing, unknown or of the wrong kind; the message names it.
        """
        if not isinstance(values, Mapping):
            raise ValueError(f"description of a text: expected an object, got {type(values).__name__}")
        known = {field.name: field for field in fields(cls)}
        if unknown := sorted(set(values) - set(known)):
            raise ValueError(f"description of a text: unknown field {unknown[0]!r}")
        for name in ("name", "characters", "length", "sha256"):
            if name not in values:
                raise ValueError(f"description of a text: field {name!r} is missing")
        for name, value in values.items():
            wanted = int if name == "length" else str
            if type(value) is not wanted:
                raise ValueError(f"{name}: expected {'a whole number' if wanted is int else 'text'}, got {value!r}")
        Vocabulary(values["characters"])
        return cls(**values)


@dataclass(frozen=True)
class TextSplits:
    """A text as numbers, in two parts: the end is held out, as what comes later is to be told from what came before.

    Attributes:
        train: int64 (n,), to learn from.
        test: int64 (m,), what comes after it, to measure on.
        info: the description of the text.
    """

    train: np.ndarray
    test: np.ndarray
    info: TextInfo

    @property
    def vocabulary(self) -> Vocabulary:
        """What turns text into numbers and back."""
        return self.info.vocabulary

    def describe_unlearned(self) -> str:
        """The characters that occur in the held-out part alone, in words; empty where there are none."""
        numbers = np.setdiff1d(self.test, self.train)
        return _listed([describe_character(self.info.characters[number]) for number in numbers])


# ---------------------------------------------------------------------------------------------------- where texts are


def read_text(path: str | PathLike[str]) -> str:
    r"""The text of a UTF-8 file. A byte order mark is left out, and lines end with ``\n`` whatever the file's do.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not UTF-8; the message says where and which byte. Or it is neither a file nor a pipe, nobody
            writes to the pipe, or it is larger than 1 GiB.
    """
    content = _content(Path(path))
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        at = error.start
        line = content.count(b"\n", 0, at) + 1
        hint = "; it looks like UTF-16, save it as UTF-8" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else ""
        raise ValueError(
            f"{os.fspath(path)}: not UTF-8: byte 0x{content[at]:02x} at position {at} (line {line}) "
            f"cannot be decoded{hint}"
        ) from error
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def _content(path: Path) -> bytes:
    about = path.stat()
    if not (stat.S_ISREG(about.st_mode) or stat.S_ISFIFO(about.st_mode) or stat.S_ISDIR(about.st_mode)):
        raise ValueError(f"{path}: is neither a file nor a pipe")
    piped = _read_pipe(path) if stat.S_ISFIFO(about.st_mode) and hasattr(os, "O_NONBLOCK") else None
    if (about.st_size if piped is None else len(piped)) > LARGEST:  # a file of that size is not read
        raise ValueError(f"{path}: is larger than {LARGEST:,} bytes, the most that is read as one text")
    return path.read_bytes() if piped is None else piped


def _read_pipe(path: Path) -> bytes:
    """What comes through a pipe. Opened the usual way, one that nobody writes to would keep us waiting for ever."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with open(descriptor, "rb", buffering=0) as pipe:
        deadline, begun = time.monotonic() + PATIENCE, b""
        while not begun:
            try:
                begun = os.read(pipe.fileno(), 1 << 16)
            except BlockingIOError:  # somebody has it open and will write
                break
            if not begun:
                if time.monotonic() >= deadline:
                    raise ValueError(f"{path}: nobody writes to the pipe")
                time.sleep(0.02)
        os.set_blocking(descriptor, True)
        content = bytearray(begun)
        while len(content) <= LARGEST and (part := os.read(descriptor, 1 << 20)):
            content += part
    return bytes(content)


@cache
def load_novel() -> str:
    """The bundled text: Jane Austen, *Pride and Prejudice*, 1813; 684,768 characters."""
    with gzip.open(FILE, "rt", encoding="utf-8", newline="") as file:
        return file.read()


def load_text(source: str | PathLike[str] = NOVEL, held_out: float = 0.1) -> TextSplits:
    """A text by its name or file, in two parts.

    The vocabulary is that of the whole text, so that any text can be trained on.

    Args:
        source: ``"pride_and_prejudice"``, the bundled novel, or the path of a UTF-8 file.
        held_out: the share of the characters, from the end, that is kept for measuring and not trained on: a tenth,
            and at least two characters.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file is not UTF-8, the text too short, or the share none.
    """
    if os.fspath(source) == NOVEL:
        text, name, about = load_novel(), NOVEL, NOVEL_INFO
    else:
        path = Path(source)
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such file; the bundled text is {NOVEL!r}")
        if path.is_dir():
            raise IsADirectoryError(f"{path}: is a folder, not a text file")
        text, name, about = read_text(path), path.name, {"licence": "", "source": ""}
    cut = _cut(text, held_out, str(source))
    return make_text_splits(text[:cut], text[cut:], name, licence=about["licence"], source=about["source"])


def _cut(text: str, held_out: float, name: str) -> int:
    if isinstance(held_out, bool) or not isinstance(held_out, (int, float)):
        raise TypeError(f"held_out: must be a number, got {held_out!r}")
    if not 0.0 < held_out < 1.0:
        raise ValueError(f"held_out: must be a share above 0 and below 1, got {held_out}")
    cut = len(text) - max(round(held_out * len(text)), 2)
    if cut < 2:
        size = counted(len(text), "character")
        raise ValueError(f"{name}: a text of {size} is too short to train on and to measure on")
    return cut


def make_text_splits(
    train: str,
    test: str,
    name: str = "text",
    *,
    vocabulary: Vocabulary | None = None,
    licence: str = "",
    source: str = "",
) -> TextSplits:
    """Two texts as a data set.

    Args:
        train: to learn from.
        test: to measure on.
        name: what they are called.
        vocabulary: of the model; None for the characters of both texts. ``Vocabulary.of(train)`` makes a character
            of the held-out text that there was nothing to learn about an error.
        licence: of the texts.
        source: author, title and year, where they are known.

    Raises:
        TypeError: a text is no string.
        ValueError: a text of fewer than two characters; a character that is not in the vocabulary, which the message
            names with the part.
    """
    for part, text in (("train", train), ("test", test)):
        if not isinstance(text, str):
            raise TypeError(f"{part}: expected a string, got {type(text).__name__}")
        if len(text) < 2:
            raise ValueError(f"{part}: must have a character and one that follows it, got {len(text)}")
    known = Vocabulary.of(train + test) if vocabulary is None else vocabulary
    digest = hashlib.sha256((train + test).encode("utf-8", "surrogatepass")).hexdigest()
    parts = known.encode(train, f"{name}, the training part"), known.encode(test, f"{name}, the held-out part")
    return TextSplits(*parts, TextInfo(name, known.characters, len(train) + len(test), digest, licence, source))


# ------------------------------------------------------------------------------------------------------------ batches


class TextStreams:
    """A text as B streams that are read in parallel, a window of T characters at a time.

    The text is cut into B pieces of equal length. Row b of each batch goes on where row b of the batch before ended, so
    that a network that keeps its state from batch to batch reads each piece as a whole. A target is the character that
    follows its input. An epoch goes through the pieces once, in order: nothing is shuffled, since order is what there
    is to learn.

    Args:
        numbers: int64 (n,), as ``Vocabulary.encode`` gives them.
        batch_size: B, the number of streams.
        window: T, characters of a window.
        drop_last: leave out what is left of each stream behind its last whole window; otherwise the last window is a
            shorter one. Up to B - 1 characters at the end of the text that make no whole row are left out anyway.

    Raises:
        ValueError: the text is too short for one window of each stream; B or T below 1.
    """

    def __init__(self, numbers: np.ndarray, batch_size: int, window: int, drop_last: bool = True) -> None:
        numbers = np.asarray(numbers)
        if numbers.ndim != 1:
            raise ShapeError(f"numbers: expected shape (characters,), got {numbers.shape}")
        if numbers.dtype.kind not in "ui":
            raise DTypeError(f"numbers: expected integers, got {numbers.dtype}")
        for name, value in (("batch_size", batch_size), ("window", window)):
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
                raise TypeError(f"{name}: must be an integer, got {type(value).__name__}")
            if value < 1:
                raise ValueError(f"{name}: must be at least 1, got {value}")
        self.batch_size, self.window = int(batch_size), int(window)
        steps = (len(numbers) - 1) // self.batch_size
        if steps < self.window:
            needed = self.batch_size * self.window + 1
            raise ValueError(
                f"the text is shorter than one window: {counted(self.batch_size, 'stream')} of "
                f"{counted(self.window, 'character')} and what follows them need {needed:,}, got {len(numbers):,}"
            )
        if drop_last:
            steps -= steps % self.window
        self.steps = steps
        rows = self.batch_size * steps
        self._inputs, self._targets = (
            np.ascontiguousarray(numbers[first : first + rows], np.int64).reshape(self.batch_size, steps)
            for first in (0, 1)
        )

    def __len__(self) -> int:
        """How many batches an epoch has."""
        return -(-self.steps // self.window)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """(inputs, targets), int64 (B, T) each."""
        return self.iterate()

    def iterate(self, epoch: int = 0, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of an epoch, all epochs being alike, from number ``start`` on."""
        for first in range(start * self.window, self.steps, self.window):
            part = slice(first, min(first + self.window, self.steps))
            yield tuple(from_numpy(array[:, part].copy()) for array in (self._inputs, self._targets))  # type: ignore[misc]
