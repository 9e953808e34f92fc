"""Random numbers: counter-based Philox4x64-10, Salmon et al. 2011 ("Parallel random numbers: as easy as 1, 2, 3").

A draw is a pure function of a key and a counter. The key is (seed, stream); the counter's four 64-bit words are
(block, call, 0, 0): NumPy's ``Philox`` counts the blocks of four values within one call in the lowest word, we count
the calls in the next. A GPU kernel that knows the same few integers computes the same bits, and a checkpoint stores
them as they are.

Each purpose has its own stream, so that drawing more of one kind (another layer's weights) does not shift another
(the dropout masks).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from gpunet.backend.devices import CPU, Device
from gpunet.backend.devices import device as to_device

__all__ = [
    "BULK_SIZE",
    "Generator",
    "default_generator",
    "fill_normal",
    "fill_uniform",
    "fork_rng",
    "get_rng_state",
    "initial_seed",
    "keyed_generator",
    "manual_seed",
    "seed",
    "set_rng_state",
]

_WORD = (1 << 64) - 1
_STREAMS = {"default": 0, "init": 1, "dropout": 2, "data": 3}


def _check_seed(seed: Any) -> int:
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)):
        raise TypeError(f"seed: expected an integer, got {type(seed).__name__}")
    if not -(1 << 63) <= int(seed) <= _WORD:
        raise ValueError(f"seed: must fit in 64 bits, got {seed}")
    return int(seed) & _WORD


class Generator:
    """A stream of random numbers: a key (seed, stream) and the number of draws made from it.

    Args:
        seed: any 64-bit integer; or a device, as in ``Generator("cpu")``, and the seed is 0.
        stream: streams of one seed are independent of each other.
        device: for PyTorch's sake: all numbers are drawn on the CPU, the same for every device.
    """

    def __init__(self, seed: int | str | Device = 0, stream: int = 0, *, device: Any = None) -> None:
        if isinstance(seed, Device) or (isinstance(seed, str) and seed.partition(":")[0] in ("cpu", "cuda", "auto")):
            seed, device = 0, seed
        self.device = CPU if device is None else to_device(device)
        self.seed_value = _check_seed(seed)
        self.stream = _check_seed(stream)
        self.calls = 0
        self._lock = threading.Lock()

    def next_counter(self) -> int:
        """Claim the counter word of the next draw."""
        with self._lock:
            call = self.calls
            self.calls += 1
            return call

    def numpy(self) -> np.random.Generator:
        """A NumPy generator for one draw; the next call gives another, independent one."""
        return _philox(self.seed_value, self.stream, self.next_counter(), 0, 0)

    def numpy_blocks(self, count: int) -> list[np.random.Generator]:
        """NumPy generators for one draw that is made in blocks, independent of each other; the first is ``numpy``'s."""
        call = self.next_counter()
        return [_philox(self.seed_value, self.stream, call, block, 0) for block in range(count)]

    def manual_seed(self, seed: int) -> Generator:
        """Start again from ``seed``."""
        self.seed_value = _check_seed(seed)
        self.calls = 0
        return self

    def seed(self) -> int:
        """Start again from a seed that the operating system draws, and return it."""
        self.manual_seed(_random_seed())
        return self.seed_value

    def initial_seed(self) -> int:
        """The seed the stream started from."""
        return self.seed_value

    def clone_state(self) -> Generator:
        """Another generator that will draw the same numbers."""
        return Generator(device=self.device).set_state(self.get_state())

    def get_state(self) -> dict[str, int]:
        """Seed, stream and number of calls: all there is."""
        return {"seed": self.seed_value, "stream": self.stream, "calls": self.calls}

    def set_state(self, state: dict[str, int]) -> Generator:
        """Continue from a state that ``get_state`` returned."""
        self.seed_value = _check_seed(state["seed"])
        self.stream = _check_seed(state["stream"])
        self.calls = _check_seed(state["calls"])
        return self

    def __repr__(self) -> str:
        return f"Generator(seed={self.seed_value}, stream={self.stream}, calls={self.calls})"

    def __getstate__(self) -> dict[str, int]:
        return self.get_state()

    def __setstate__(self, state: dict[str, int]) -> None:
        self.device = CPU
        self._lock = threading.Lock()
        self.set_state(state)


def _random_seed() -> int:
    return int.from_bytes(os.urandom(8), "little")


def _philox(seed: int, stream: int, call: int, high: int, top: int) -> np.random.Generator:
    key = np.array((seed, stream), np.uint64)
    counter = np.array((0, call, high, top), np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))


# Float32 numbers from which on drawing many at once, with vector instructions, pays.
BULK_SIZE = 1 << 16


def fill_uniform(random: np.random.Generator, out: np.ndarray) -> None:
    """Fill a contiguous float32 or float64 array with numbers from U(0, 1)."""
    if out.size < BULK_SIZE or out.dtype != np.float32:
        random.random(dtype=out.dtype.type, out=out)
        return
    bits = _raw_words(random, out.size)
    bits >>= 8  # as many bits as a float32 holds below 1
    np.multiply(bits, np.float32(2.0**-24), out=out.reshape(-1), casting="unsafe")


def fill_normal(random: np.random.Generator, out: np.ndarray) -> None:
    """Fill a contiguous float32 or float64 array with numbers from N(0, 1).

    Many float32 numbers come from pairs of uniform ones by the equations of Box and Muller 1958, which NumPy computes
    with vector instructions; the others from NumPy's ziggurat.
    """
    if out.size < BULK_SIZE or out.dtype != np.float32:
        random.standard_normal(dtype=out.dtype.type, out=out)
        return
    flat = out.reshape(-1)
    half = (flat.size + 1) // 2
    bits = _raw_words(random, 2 * half)
    # In (0, 1]: the logarithm of zero is infinite. 2^-33 is where the tail ends, at 6.8 standard deviations.
    radius = bits[:half].astype(np.float32)
    radius *= np.float32(2.0**-32)
    np.maximum(radius, np.float32(2.0**-33), out=radius)
    np.log(radius, out=radius)
    radius *= np.float32(-2.0)
    np.sqrt(radius, out=radius)
    angle = bits[half:].astype(np.float32)
    angle *= np.float32(2.0 * np.pi * 2.0**-32)
    np.cos(angle, out=flat[:half])
    flat[:half] *= radius
    rest = flat.size - half
    np.sin(angle[:rest], out=flat[half:])
    flat[half:] *= radius[:rest]


def _raw_words(random: np.random.Generator, count: int) -> np.ndarray:
    """That many 32-bit words, straight from Philox."""
    words = random.bit_generator.random_raw((count + 1) // 2)
    return words.astype("<u8", copy=False).view("<u4")[:count]


def keyed_generator(seed: int, stream: int, *words: int) -> np.random.Generator:
    """A NumPy generator that depends on its arguments alone.

    For data: keyed on (seed, epoch) for a shuffle, on (seed, epoch, sample) for an augmentation, so that the result
    depends neither on the number of workers nor on what was drawn before.

    Args:
        seed: the run's seed.
        stream: which use of it; any 32-bit integer.
        words: up to three 64-bit integers.
    """
    if len(words) > 3:
        raise ValueError(f"words: at most three, got {len(words)}")
    call, high, top = (*(_check_seed(word) for word in words), 0, 0, 0)[:3]
    # The top half of the stream word keeps keyed streams apart from the Generators' small numbers.
    return _philox(_check_seed(seed), (1 << 63) | _check_seed(stream), call, high, top)


_generators = {purpose: Generator(0, stream) for purpose, stream in _STREAMS.items()}


def default_generator(purpose: str = "default") -> Generator:
    """The generator of a purpose: ``"default"``, ``"init"`` (weights), ``"dropout"`` or ``"data"``."""
    return _generators[purpose]


def manual_seed(seed: int) -> Generator:
    """Seed every default stream.

    Returns:
        the generator that ``randn`` and its kind draw from.
    """
    for generator in _generators.values():
        generator.manual_seed(seed)
    return _generators["default"]


def seed() -> int:
    """Seed every default stream with a number that the operating system draws, and return it."""
    chosen = _random_seed()
    manual_seed(chosen)
    return chosen


@contextmanager
def fork_rng(devices: Any = None, enabled: bool = True) -> Iterator[None]:
    """Leave the default streams as they were before the ``with`` block.

    Args:
        devices: for PyTorch's sake: one set of streams serves all devices.
        enabled: False makes the block an ordinary one.
    """
    state = get_rng_state()
    try:
        yield
    finally:
        if enabled:
            set_rng_state(state)


def initial_seed() -> int:
    """The seed given to ``manual_seed``, 0 if it was never called."""
    return _generators["default"].initial_seed()


def get_rng_state() -> dict[str, Any]:
    """The state of all default streams, as plain integers."""
    return {purpose: generator.get_state() for purpose, generator in _generators.items()}


def set_rng_state(state: dict[str, Any]) -> None:
    """Continue all default streams from what ``get_rng_state`` returned.

    Raises:
        ValueError: a stream is missing.
    """
    missing = sorted(set(_generators) - set(state))
    if missing:
        raise ValueError(f"state: holds no stream {', '.join(missing)}")
    for purpose, generator in _generators.items():
        generator.set_state(state[purpose])
