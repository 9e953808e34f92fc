"""Texts as data: characters and their numbers, parts in time, parallel streams, and what cannot be read."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import threading
import unicodedata
from pathlib import Path

import numpy as np
import pytest

import gpunet as gn
from gpunet.data import (
    TextInfo,
    TextStreams,
    Vocabulary,
    load_novel,
    load_text,
    make_text_splits,
    read_text,
)
from gpunet.data.text import FILE, NOVEL

# Letters with and without accents, Korean, an emoji beyond 16 bits, one of several code points, ends of lines.
TEXT = "Ein Café, 카페, 🙂 and 👩‍🔬;\na\u0301\u0323 is not á.\n"


# ------------------------------------------------------------------------------------------------------ characters


@pytest.mark.parametrize("text", [TEXT, "a", "\x00\n\t", "\U0010ffff\ue000"])
def test_text_to_numbers_and_back(text: str) -> None:
    vocabulary = Vocabulary.of(text)
    numbers = vocabulary.encode(text)
    assert numbers.dtype == np.int64
    assert numbers.shape == (len(text),)
    assert vocabulary.decode(numbers) == text
    assert vocabulary.decode(gn.from_numpy(numbers)) == text
    assert vocabulary.decode(numbers.tolist()) == text
    assert [vocabulary.characters[number] for number in numbers] == list(text)
    assert len(vocabulary) == len(set(text))
    assert list(vocabulary.characters) == sorted(set(text))


@pytest.mark.parametrize("seed", range(20))
def test_any_text_comes_back(seed: int) -> None:
    random = np.random.default_rng(seed)
    text = "".join(map(chr, random.integers(0, 0x110000, 1 << seed % 10)))
    vocabulary = Vocabulary.of(text)
    assert vocabulary.decode(vocabulary.encode(text)) == text


def test_a_combining_accent_is_a_character_of_its_own() -> None:
    apart = unicodedata.normalize("NFD", "é")
    assert len(Vocabulary.of(apart)) == 2
    assert Vocabulary.of(apart) != Vocabulary.of("é")


def test_the_order_of_characters_is_kept() -> None:
    """Row B26: 'hello' by h, e, l, o."""
    vocabulary = Vocabulary("helo")
    assert vocabulary.encode("hello").tolist() == [0, 1, 2, 2, 3]
    assert "e" in vocabulary
    assert "x" not in vocabulary
    assert "he" not in vocabulary
    assert vocabulary == Vocabulary("helo")
    assert hash(vocabulary) == hash(Vocabulary("helo"))
    assert vocabulary != Vocabulary("hleo")
    assert vocabulary.decode([]) == ""


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("hexe", "prompt: unknown character 'x' (U+0078) at position 2; 4 characters are known"),
        ("he\nl\nl", "prompt: unknown character U+000A control character at position 2;"),
        ("hé🙂", "prompt: unknown characters 'é' (U+00E9) at position 1, '🙂' (U+1F642) at position 2;"),
        ("h\u0301", "prompt: unknown character U+0301 COMBINING ACUTE ACCENT at position 1;"),
        ("h\u00a0", "U+00A0 NO-BREAK SPACE at position 1"),
        ("h\udcff", "U+DCFF of a byte that is not UTF-8 at position 1"),
        ("abcdfgh", "'d' (U+0064) at position 3, 'f' (U+0066) at position 4 and 1 more;"),
        ("\u0000", "U+0000 control character at position 0"),
    ],
)
def test_unknown_characters_are_named(text: str, named: str) -> None:
    with pytest.raises(ValueError, match=re.escape(named)):
        Vocabulary("helo").encode(text, "prompt")
    with pytest.raises(ValueError, match=r"; 1 character is known$"):
        Vocabulary("e").encode(text)


def test_vocabularies_that_are_none() -> None:
    with pytest.raises(ValueError, match="characters: there must be at least one"):
        Vocabulary("")
    with pytest.raises(ValueError, match=r"characters: 'l' \(U\+006C\) comes twice"):
        Vocabulary("hello")
    with pytest.raises(TypeError, match="characters: expected a string, got list"):
        Vocabulary(["h"])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="text: expected a string, got bytes"):
        Vocabulary("helo").encode(b"he")  # type: ignore[arg-type]
    with pytest.raises(IndexError, match=r"numbers: must be 0 to 3, got 7$"):
        Vocabulary("abcd").decode([7])
    with pytest.raises(IndexError, match="numbers: must be 0 to 3, got -1 to 4"):
        Vocabulary("helo").decode([4, -1])
    with pytest.raises(gn.DTypeError, match="numbers: expected integers, got float64"):
        Vocabulary("helo").decode([0.5])


# ------------------------------------------------------------------------------------------------------------ files


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"one\r\ntwo\rthree\n", "one\ntwo\nthree\n"),
        (b"\xef\xbb\xbfa mark", "a mark"),
        (TEXT.encode(), TEXT),
        (b"", ""),
    ],
)
def test_files_are_read(tmp_path: Path, content: bytes, text: str) -> None:
    (tmp_path / "file.txt").write_bytes(content)
    assert read_text(tmp_path / "file.txt") == text


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"ab\xffcd", "not UTF-8: byte 0xff at position 2 (line 1) cannot be decoded"),
        ("caf\u00e9\n".encode("latin-1"), "not UTF-8: byte 0xe9 at position 3 (line 1)"),
        (b"one\ntwo\r\n\x80", "byte 0x80 at position 9 (line 3)"),
        ("\U0001f642".encode()[:3], "byte 0xf0 at position 0 (line 1)"),
        ("text".encode("utf-16"), "it looks like UTF-16, save it as UTF-8"),
        (b"\xed\xa0\x80", "byte 0xed at position 0"),  # half of a surrogate pair
    ],
)
def test_bytes_that_are_no_text_are_named(tmp_path: Path, content: bytes, named: str) -> None:
    path = tmp_path / "file.txt"
    path.write_bytes(content)
    for read in (read_text, load_text):
        with pytest.raises(ValueError, match=re.escape(f"{path}: not UTF-8: ") + ".*") as error:
            read(path)
        assert named in str(error.value)


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"nothing\.txt: no such file; the bundled text is 'pride_and_prejudice'"
    ):
        load_text(tmp_path / "nothing.txt")
    with pytest.raises(IsADirectoryError, match="is a folder, not a text file"):
        load_text(tmp_path)


# ------------------------------------------------------------------------------------------------------- the novel


def test_the_bundled_novel() -> None:
    text = load_novel()
    page = FILE.with_name("PRIDE_AND_PREJUDICE.md").read_text(encoding="utf-8")
    assert text.startswith("PRIDE AND PREJUDICE\n\nBy Jane Austen\n")
    assert "It is a truth universally acknowledged, that a single man" in text
    assert text.isascii()
    assert text.count("\nChapter ") == 61
    # What the page says of it.
    assert hashlib.sha256(text.encode()).hexdigest() in page
    assert f"{len(text):,} characters" in page
    assert f"{text.count(chr(10)):,} lines" in page
    assert f"{len(set(text))} different ones" in page
    assert "public domain" in page
    assert FILE.stat().st_size < 300_000
    assert gzip.decompress(FILE.read_bytes()).decode() == text


def test_its_parts_are_in_time() -> None:
    splits = load_text()
    text = load_novel()
    assert (len(splits.train), len(splits.test)) == (616_291, 68_477)
    assert splits.vocabulary.decode(splits.train) + splits.vocabulary.decode(splits.test) == text
    assert splits.info.name == NOVEL
    assert splits.info.licence == "public domain"
    assert "Jane Austen" in splits.info.source
    assert load_text(held_out=0.5).test.size == len(text) // 2


def test_a_file_as_a_data_set(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text(TEXT * 20, encoding="utf-8")
    splits = load_text(tmp_path / "mine.txt", held_out=0.25)
    assert splits.info.name == "mine.txt"
    assert splits.info.length == len(TEXT) * 20
    assert len(splits.test) == round(0.25 * len(TEXT) * 20)
    assert splits.vocabulary.decode(np.concatenate([splits.train, splits.test])) == TEXT * 20


def test_a_tenth_is_held_out_by_default(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text(TEXT * 20, encoding="utf-8")
    splits = load_text(tmp_path / "mine.txt")
    assert len(splits.test) == round(0.1 * len(TEXT) * 20)
    assert splits.vocabulary.decode(splits.train) + splits.vocabulary.decode(splits.test) == TEXT * 20
    (tmp_path / "short.txt").write_text("abcd", encoding="utf-8")
    short = load_text(tmp_path / "short.txt")
    assert (short.vocabulary.decode(short.train), short.vocabulary.decode(short.test)) == ("ab", "cd")
    (tmp_path / "short.txt").write_text("a", encoding="utf-8")
    with pytest.raises(ValueError, match=r"short\.txt: a text of 1 character is too short to train on"):
        load_text(tmp_path / "short.txt")


def test_characters_of_the_held_out_part_alone() -> None:
    assert make_text_splits("abab", "abc\u0301").describe_unlearned() == "'c' (U+0063), U+0301 COMBINING ACUTE ACCENT"
    assert make_text_splits("abz", "ba").describe_unlearned() == ""
    named = make_text_splits("aa", "bcdefgh").describe_unlearned()
    assert named.startswith("'b' (U+0062), 'c' (U+0063), ")
    assert named.endswith("'f' (U+0066) and 2 more")


def test_a_held_out_part_of_other_characters() -> None:
    """Over the whole text by default; a vocabulary of the training part alone names what it lacks."""
    assert len(make_text_splits("abab", "abcz").vocabulary) == 4
    expected = (
        r"poem, the held-out part: unknown characters 'c' \(U\+0063\) at position 2, 'z' \(U\+007A\) at position 3"
    )
    with pytest.raises(ValueError, match=expected):
        make_text_splits("abab", "abcz", "poem", vocabulary=Vocabulary.of("abab"))
    with pytest.raises(ValueError, match="poem, the training part: unknown character"):
        make_text_splits("abab", "aa", "poem", vocabulary=Vocabulary("a"))


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, float("nan")])
def test_shares_that_are_none(share: float) -> None:
    with pytest.raises(ValueError, match="held_out: must be a share above 0 and below 1, got"):
        load_text(held_out=share)
    with pytest.raises(TypeError, match=r"held_out: must be a number, got '0.1'"):
        load_text(held_out="0.1")  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", "a", "ab", "abc"])
def test_texts_that_are_too_short(tmp_path: Path, text: str) -> None:
    (tmp_path / "short.txt").write_text(text)
    with pytest.raises(ValueError, match=rf"short\.txt: a text of {len(text)} characters? is too short"):
        load_text(tmp_path / "short.txt")
    (tmp_path / "short.txt").write_text("abcd")
    assert len(load_text(tmp_path / "short.txt").test) == 2


def test_the_description_survives_json() -> None:
    info = make_text_splits(TEXT, TEXT, "mine", licence="mine", source="me").info
    again = TextInfo.from_dict(json.loads(json.dumps(info.to_dict())))
    assert again == info
    assert again.vocabulary == Vocabulary.of(TEXT)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"colour": "red"}, "unknown field 'colour'"),
        ({"length": "3"}, "length: expected a whole number, got '3'"),
        ({"length": True}, "length: expected a whole number, got True"),
        ({"characters": 3}, "characters: expected text, got 3"),
        ({"characters": "aa"}, "comes twice"),
        ({"characters": ""}, "characters: there must be at least one"),
        ({"name": None}, "name: expected text, got None"),
    ],
)
def test_descriptions_that_are_none(change: dict[str, object], named: str) -> None:
    values = make_text_splits("abc", "abc").info.to_dict() | change
    with pytest.raises(ValueError, match=re.escape(named)):
        TextInfo.from_dict(values)


def test_descriptions_without_a_field() -> None:
    with pytest.raises(ValueError, match="field 'name' is missing"):
        TextInfo.from_dict({})
    with pytest.raises(ValueError, match="expected an object, got list"):
        TextInfo.from_dict([])  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------------------------------- streams


def test_rows_go_on_from_batch_to_batch() -> None:
    """Row B35: order matters, so nothing is shuffled; a target is what follows its input."""
    numbers = np.arange(100)
    streams = TextStreams(numbers, batch_size=3, window=8)
    batches = list(streams)
    assert len(batches) == len(streams) == 4  # 33 a stream, of which one is left over
    rows = np.concatenate([inputs.numpy() for inputs, _ in batches], axis=1)
    np.testing.assert_array_equal(rows, np.arange(96).reshape(3, 32))
    for inputs, targets in batches:
        assert inputs.shape == targets.shape == (3, 8)
        assert inputs.dtype == targets.dtype == gn.int64
        np.testing.assert_array_equal(targets.numpy(), inputs.numpy() + 1)


def test_the_last_window_may_be_shorter() -> None:
    streams = TextStreams(np.arange(100), batch_size=3, window=8, drop_last=False)
    batches = list(streams)
    assert [inputs.shape[1] for inputs, _ in batches] == [8, 8, 8, 8, 1]
    assert len(streams) == 5
    rows = np.concatenate([inputs.numpy() for inputs, _ in batches], axis=1)
    np.testing.assert_array_equal(rows, np.arange(99).reshape(3, 33))


def test_an_epoch_goes_on_from_any_batch() -> None:
    streams = TextStreams(np.arange(200), batch_size=2, window=10)
    whole = [inputs.numpy() for inputs, _ in streams]
    for start in range(len(streams) + 1):
        rest = [inputs.numpy() for inputs, _ in streams.iterate(7, start)]
        assert len(rest) == len(whole) - start
        for ours, theirs in zip(rest, whole[start:], strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_batches_are_the_callers_own() -> None:
    streams = TextStreams(np.arange(50), batch_size=2, window=5)
    inputs, targets = next(iter(streams))
    inputs[...] = 0
    targets[...] = 0
    assert next(iter(streams))[0].numpy().sum() > 0


def test_a_text_of_exactly_one_window() -> None:
    (batch,) = TextStreams(np.arange(13), batch_size=3, window=4)
    assert batch[0].shape == (3, 4)
    with pytest.raises(
        ValueError,
        match="the text is shorter than one window: 3 streams of 4 characters and what follows them need 13, got 12",
    ):
        TextStreams(np.arange(12), batch_size=3, window=4)


def test_streams_that_are_none() -> None:
    for name, options in (("batch_size", (0, 4)), ("window", (4, 0))):
        with pytest.raises(ValueError, match=f"{name}: must be at least 1, got 0"):
            TextStreams(np.arange(100), *options)
    with pytest.raises(TypeError, match="window: must be an integer, got float"):
        TextStreams(np.arange(100), 4, 4.0)  # type: ignore[arg-type]
    with pytest.raises(gn.ShapeError, match=r"numbers: expected shape \(characters,\), got \(4, 4\)"):
        TextStreams(np.zeros((4, 4), np.int64), 1, 1)
    with pytest.raises(gn.DTypeError, match="numbers: expected integers, got float64"):
        TextStreams(np.zeros(40), 1, 1)


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="this system has no /dev/zero")
def test_parts_from_which_nothing_can_be_told() -> None:
    for train, test, name in (("aaaa", "", "test"), ("", "a", "train"), ("a", "aa", "train"), ("aa", "a", "test")):
        with pytest.raises(ValueError, match=f"^{name}: must have a character and one that follows it, got [01]$"):
            make_text_splits(train, test)
    with pytest.raises(TypeError, match=r"^test: expected a string, got NoneType$"):
        make_text_splits("abc", None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^train: expected a string, got bytes$"):
        make_text_splits(b"abc", "abc")  # type: ignore[arg-type]


def test_a_device_is_no_text() -> None:
    with pytest.raises(ValueError, match=r"^/dev/zero: is neither a file nor a pipe$"):
        load_text("/dev/zero")


def test_a_text_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpunet.data.text.LARGEST", 1000)
    (tmp_path / "long.txt").write_bytes(b"a" * 1001)
    with pytest.raises(ValueError, match=r"long\.txt: is larger than 1,000 bytes"):
        load_text(tmp_path / "long.txt")
    (tmp_path / "long.txt").write_bytes(b"a" * 1000)
    assert load_text(tmp_path / "long.txt").info.length == 1000


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_pipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read to the end, however late and in whatever pieces it comes; refused where nobody writes."""
    monkeypatch.setattr("gpunet.data.text.PATIENCE", 0.1)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(ValueError, match="pipe: nobody writes to the pipe"):
        load_text(pipe)
    monkeypatch.setattr("gpunet.data.text.PATIENCE", 60.0)
    content = "été " * 100_000

    def write() -> None:
        with open(pipe, "wb", buffering=0) as file:
            whole = content.encode()
            for first in range(0, len(whole), 70_001):
                file.write(whole[first : first + 70_001])

    writer = threading.Thread(target=write)
    writer.start()
    assert read_text(pipe) == content
    writer.join()
    monkeypatch.setattr("gpunet.data.text.LARGEST", 1000)
    with open(os.open(pipe, os.O_RDWR), "wb", buffering=0) as file:
        file.write(b"a" * 2000)
        with pytest.raises(ValueError, match="larger than 1,000 bytes"):
            read_text(pipe)
