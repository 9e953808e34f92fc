"""What the commands share: how they speak, and how they fail."""

from __future__ import annotations

import contextlib
import difflib
import json
import os
import re
import sys
import traceback
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any, TextIO

EXIT_SUCCESS = 0
EXIT_FAILURE = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130

# An error may have a line per weight that does not fit; on a terminal the first few say as much. What reports cut by
# themselves, to ten differences and some hints, is shown whole.
LINES_OF_A_LIST = 16
_CUT_ALREADY = re.compile(r"\s*and ([\d,]+) more\s*")


class UsageError(Exception):
    """An argument or an input was found bad before the work began: exit code 2."""


class RunError(Exception):
    """The work began and failed: exit code 1."""


def say(text: str = "") -> None:
    """Print a line on standard output, at once.

    A reader that went away (``gpunet train | head``) does not end a run: the rest goes nowhere.
    """
    _write(sys.stdout, text)


def say_part(text: str) -> bool:
    """Print a part of a line on standard output, at once; False where the reader went away."""
    return _write(sys.stdout, text, end="")


def printable(text: str) -> str:
    """The text with what would move a terminal's cursor or change its colours replaced by U+FFFD."""
    return "".join("\ufffd" if _steers(one) else one for one in text)


def _steers(character: str) -> bool:
    """Whether a character does something to a terminal: controls, other ends of lines, changes of direction.

    What is only not seen (spaces of all widths, joiners, soft hyphens) belongs to the text.
    """
    if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp"):
        return character not in "\n\t"
    return unicodedata.bidirectional(character) in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")


def on_terminal() -> bool:
    """Whether standard output is a terminal."""
    return sys.stdout is not None and sys.stdout.isatty()


def complain(text: str) -> None:
    """Print an error on standard error, as one line whatever it was made of; of a long list, the beginning."""
    lines = text.strip().splitlines()
    if len(lines) > LINES_OF_A_LIST:
        hidden = len(lines) - LINES_OF_A_LIST
        cut = _CUT_ALREADY.fullmatch(lines[-1])
        if cut:  # that line is none of the list's, and counts others
            hidden += int(cut.group(1).replace(",", "")) - 1
        lines = [*lines[:LINES_OF_A_LIST], f"... and {hidden} more (set GPUNET_DEBUG=1 to see all)"]
    _write(sys.stderr, "gpunet: " + " ".join(" ".join(lines).split()))


def say_json(document: Mapping[str, Any]) -> None:
    """Print one JSON object on one line. NaN and infinity, which JSON does not have, become null."""
    say(json.dumps(_without_nan(document), allow_nan=False))


def _without_nan(value: Any) -> Any:
    if isinstance(value, float):
        return value if value - value == 0.0 else None
    if isinstance(value, Mapping):
        return {str(key): _without_nan(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(entry) for entry in value]
    return value


def _write(stream: TextIO | None, text: str, end: str = "\n") -> bool:
    """Print; whether somebody may have read it."""
    if stream is None:  # started without a console, as by pythonw
        return False
    try:
        try:
            print(text, end=end, file=stream, flush=True)
        except UnicodeEncodeError:
            # A console that cannot show a file name still gets the line.
            encoding = stream.encoding or "ascii"
            print(text.encode(encoding, "backslashreplace").decode(encoding), end=end, file=stream, flush=True)
    except OSError as error:
        _give_up(stream, error)
        return False
    return True


def _give_up(stream: TextIO, error: OSError) -> None:
    # What is still in the buffer would fail once more when the interpreter flushes it at exit.
    with contextlib.suppress(OSError, ValueError):
        descriptor = os.open(os.devnull, os.O_WRONLY)
        os.dup2(descriptor, stream.fileno())
        os.close(descriptor)
    if not isinstance(error, BrokenPipeError) and stream is sys.stdout:
        raise RunError(f"cannot write to standard output: {error.strerror or error}") from error


def flush_output() -> None:
    """Hand over what others printed (argparse's help), so that a reader that went away is noticed here and quietly."""
    if sys.stdout is not None:
        try:
            sys.stdout.flush()
        except OSError as error:
            _give_up(sys.stdout, error)


def close_matches(name: str, known: Iterable[str]) -> str:
    """``"; did you mean 'a' or 'b'?"``, or the known names where none is close, for the end of an error."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    if close:
        return "; did you mean " + " or ".join(repr(match) for match in close) + "?"
    return "; known are " + ", ".join(names)


def show_traceback_if_asked() -> None:
    """With ``GPUNET_DEBUG=1`` in the environment, print where the error in flight came from."""
    if os.environ.get("GPUNET_DEBUG", "") not in ("", "0"):
        traceback.print_exc()
