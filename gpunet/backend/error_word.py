"""Errors about values, which a GPU cannot report without being waited for.

On a CPU a label out of range is seen at once and raised at once. On a GPU the operation skips the bad element and
sets a bit of a word in device memory; the word is read at the next point where the host waits anyway (``.item()``,
``.numpy()``, the end of a step, a checkpoint), and the same error is raised there. Where kernels run on a CPU
(``gpunet.testing.cuda_on_cpu``) they have such a word too.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from gpunet.backend.devices import array_module, cupy, device_of, on_device

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
)
_BITS = {name: 1 << position for position, (name, _, _) in enumerate(_KINDS)}

_lock = threading.Lock()
_words: dict[Any, Any] = {}


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
    word = error_word(bad)
    word |= bad.any().astype(np.int32) * np.int32(_BITS[kind])


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
    return word


def _make_word(array: Any, module: Any) -> Any:
    place = device_of(array)
    with on_device(place):
        word = module.zeros((), np.int32)
        if place.type == "cuda":  # kernels on other streams may set it next
            cupy().cuda.get_current_stream().synchronize()
    return word


def raise_deferred() -> None:
    """Raise what the devices have reported since the last call; waits for them, and clears the words."""
    if not _words:
        return
    with _lock:
        words = list(_words.values())
    for word in words:
        with on_device(device_of(word)):
            value = int(word)
            if value:
                word[...] = 0
        if value:
            for name, error, text in _KINDS:
                if value & _BITS[name]:
                    raise error(text)


def clear_error_words() -> None:
    """Forget what has been reported."""
    with _lock:
        _words.clear()
