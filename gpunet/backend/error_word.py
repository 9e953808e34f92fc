"""Errors about values, which a GPU cannot report without being waited for.

On a CPU a label out of range is seen at once and raised at once. On a GPU the operation skips the bad element and
sets a bit of a word in device memory; the word is read at the next point where the host waits anyway (``.item()``,
``.numpy()``, the end of a step, a checkpoint), and the same error is raised there. Where kernels run on a CPU
(``gpunet.testing.cuda_on_cpu``) they have such a word too.

A GPU has one word for all of its streams. Where only one stream was given it, reading it waits for that stream, as the
value that the host is after does. Where several were, it waits for the whole GPU: what was queued on any of them before
the read is reported at this read, whichever stream is the current one. Bits are set and taken atomically, so that what
a thread queues meanwhile is either in this report or in the next. Of several rules that are broken, the first one of
the table is raised.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from gpunet.backend.devices import Device, array_module, cupy, device_of, on_device
from gpunet.backend.kernels import blocks_for, get_kernel, launch

__all__ = ["check_values", "clear_error_words", "error_word", "raise_deferred"]

# One bit for each kind of bad value, in the order of cuda_kernels/error_word.cuh. The text carries no value: the device
# does not send one back.
_KINDS: tuple[tuple[str, type[Exception], str], ...] = (
    ("target", IndexError, "target: class indices must lie in 0..C-1 (or be ignore_index)"),
    ("index", IndexError, "index: indices must lie in -size..size-1"),
    ("embedding", IndexError, "embedding: indices must lie in 0..num_embeddings-1"),
    ("divisor", ZeroDivisionError, "divisor: integers cannot be divided by zero"),
    ("probability", ValueError, "input: probabilities must lie in 0..1"),
    ("target probability", ValueError, "target: probabilities must lie in 0..1"),
    ("variance", ValueError, "var: variances must not be negative"),
    ("position", IndexError, "index: indices must lie in 0..size-1"),
    ("deviation", ValueError, "sigma: standard deviations must be positive"),
    ("log probability", ValueError, "log_pi: must be logarithms of probabilities that sum to 1, as log_softmax gives"),
)
_BITS = {name: 1 << position for position, (name, _, _) in enumerate(_KINDS)}

_lock = threading.Lock()
_words: dict[Any, _Word] = {}
# CuPy's per-thread default stream: one address for the streams of all threads.
_PER_THREAD = 2
_THREADS = 256


class _Word:
    """A device's word, and the streams whose kernels may have been given it. None of these is ever forgotten: between
    asking for the word and the launch of the kernel that sets it, another thread may read it.
    """

    __slots__ = ("array", "place", "streams")

    def __init__(self, array: Any, place: Device) -> None:
        self.array, self.place = array, place
        self.streams: set[tuple[int, int]] = set()

    def note_stream(self) -> None:
        if self.place.type == "cuda":
            self.streams.add(self._stream())

    def wait(self) -> None:
        """Wait for the streams that reading the word would not wait for."""
        if self.place.type == "cuda" and not self.streams <= {self._stream()}:
            cupy().cuda.runtime.deviceSynchronize()

    def take(self) -> int:
        """What is set, which is then no longer set."""
        taken = int(self.array)  # waits; nearly always there is nothing
        if not taken:
            return 0
        if self.place.type != "cuda":
            self.array[...] = 0
            return taken
        found = cupy().empty((), np.int32)
        launch(get_kernel("value_errors", "take_error_word"), 1, 1, (self.array, found))
        return int(found)

    def _stream(self) -> tuple[int, int]:
        address = int(cupy().cuda.get_current_stream(self.place.index).ptr)
        return address, threading.get_ident() if address == _PER_THREAD else 0


def check_values(kind: str, bad: Any, detail: str = "") -> None:
    """Report elements that break a rule.

    Args:
        kind: the rule's name in the table above.
        bad: a boolean array, true where the rule is broken.
        detail: what is known on the CPU and would cost a wait on a GPU; appended to the message there.
    """
    module = array_module(bad)
    if module is np:
        if bad.any():
            _, error, text = next(entry for entry in _KINDS if entry[0] == kind)
            raise error(f"{text}{detail and f'; {detail}'}")
        return
    if bad.size:
        flags = module.ascontiguousarray(bad, np.bool_)
        kernel = get_kernel("value_errors", "report_where")
        launch(kernel, blocks_for(flags.size, _THREADS), _THREADS, (flags, flags.size, _BITS[kind], error_word(flags)))


def error_word(array: Any) -> Any:
    """The word of the device that an array is on, for a kernel to set bits of (``error_word.cuh``).

    Returns:
        An int32 array of shape (), the same at each call. What is set in it is raised by ``raise_deferred``.
    """
    module = array_module(array)
    key = (module.__name__, 0 if module is np else int(array.device.id))
    word = _words.get(key)
    if word is None:
        with _lock:
            if key not in _words:
                _words[key] = _make_word(array, module)
            word = _words[key]
    word.note_stream()
    return word.array


def _make_word(array: Any, module: Any) -> _Word:
    place = device_of(array)
    with on_device(place):
        word = module.zeros((), np.int32)
        if place.type == "cuda":  # kernels on other streams may set it next
            cupy().cuda.get_current_stream().synchronize()
    return _Word(word, place)


def raise_deferred() -> None:
    """Raise what the devices have reported since the last call, and clear it.

    It waits for everything that was queued, before this call, on streams whose kernels can report.
    """
    if not _words:
        return
    with _lock:
        words = list(_words.values())
    for word in words:
        with on_device(word.place):
            word.wait()
            value = word.take()
        if value:
            for name, error, text in _KINDS:
                if value & _BITS[name]:
                    raise error(text)


def clear_error_words() -> None:
    """Forget what has been reported."""
    with _lock:
        _words.clear()
