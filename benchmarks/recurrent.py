"""Recurrent layers against PyTorch on the CPU: ``python -m benchmarks.recurrent``.

Forward and backward of whole sequences, sampling one step at a time, and peak memory. Both sides alternate in one run,
with the same threads, weights and data; outputs and gradients are compared before anything is timed. Before each call
both have a moment to come to rest: PyTorch's OpenMP workers go on spinning for milliseconds after a call, on the core
that the other side is about to use.

    python -m benchmarks.recurrent [--threads 2] [--rounds 25] [--only PART ...] [--out FOLDER] [--name NAME]

``--only`` takes layers, sample, memory. Without PyTorch (``pip install 'gpunet[parity]'``) gpunet is timed alone.
"""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import gpunet as gn
from benchmarks.cpu import _peak_memory, _python, copy_weights
from benchmarks.harness import Row, compare, environment, table, write

PARTS = ("layers", "sample", "memory")
PAUSE = 0.03  # seconds


class Case(NamedTuple):
    """A layer and what it gets.

    Attributes:
        kind: ``"LSTM"``, ``"GRU"`` or ``"RNN"``.
        steps, batch, features, hidden: T, B, I and H.
        packed: whether the sequences have lengths from T / 4 to T, in both directions.
    """

    kind: str
    steps: int
    batch: int
    features: int
    hidden: int
    packed: bool = False

    @property
    def label(self) -> str:
        sizes = f"T{self.steps} B{self.batch} I{self.features} H{self.hidden}"
        return f"{self.kind}, {sizes}" + (", bidirectional, packed" if self.packed else "")


CASES = (
    Case("LSTM", 64, 32, 128, 256),
    Case("LSTM", 64, 64, 256, 512),
    Case("LSTM", 35, 20, 650, 650),
    Case("GRU", 64, 32, 128, 256),
    Case("RNN", 64, 32, 128, 256),
    Case("LSTM", 64, 32, 128, 256, packed=True),
)


class Side:
    """One library's layer with its data; calling it runs forward and backward."""

    def __init__(self, module: Any, case: Case) -> None:
        rng = np.random.default_rng(0)
        shape = (case.steps, case.batch)
        self.x = module.from_numpy(rng.standard_normal((*shape, case.features), np.float32)).requires_grad_()
        width = case.hidden * (2 if case.packed else 1)
        self.gradient = module.from_numpy(rng.standard_normal((*shape, width), np.float32))
        self.layer = getattr(module.nn, case.kind)(case.features, case.hidden, bidirectional=case.packed)
        self.lengths = None
        self.rnn = module.nn.utils.rnn
        if case.packed:
            drawn = np.sort(rng.integers(case.steps // 4, case.steps, case.batch))[::-1].copy()
            drawn[0] = case.steps
            self.lengths = module.from_numpy(drawn)

    def __call__(self) -> Any:
        for tensor in (self.x, *self.layer.parameters()):
            tensor.grad = None
        if self.lengths is None:
            y, _ = self.layer(self.x)
        else:
            y, _ = self.layer(self.rnn.pack_padded_sequence(self.x, self.lengths))
            y, _ = self.rnn.pad_packed_sequence(y)
        y.backward(self.gradient)
        return y

    def results(self) -> list[np.ndarray]:
        """The output and all gradients of one call."""
        y = self()
        return [t.detach().numpy() for t in (y, *(x.grad for x in (self.x, *self.layer.parameters())))]


class Sampler:
    """One library's two-layer LSTM of 256 units, fed one step at a time with its own output."""

    def __init__(self, module: Any) -> None:
        self.module = module
        self.layer = module.nn.LSTM(256, 256, num_layers=2)

    def __call__(self, steps: int = 100) -> np.ndarray:
        with self.module.no_grad():
            y, state = self.module.ones(1, 1, 256), None
            for _ in range(steps):
                y, state = self.layer(y, state)
        return np.asarray(y.numpy())


def check(what: str, ours: list[np.ndarray], theirs: list[np.ndarray]) -> None:
    """Raise unless both sides computed the same."""
    for a, b in zip(ours, theirs, strict=True):
        bound = 1e-4 * max(float(np.abs(b).max()), 1e-6)
        if a.shape != b.shape or not float(np.abs(a - b).max()) <= bound:
            raise SystemExit(f"{what}: the two sides do not agree; not timed")


def bench_layers(rounds: int, torch: Any) -> list[Row]:
    rows = []
    for case in CASES:
        ours = Side(gn, case)
        peers: dict[str, Callable[[], Any]] = {}
        if torch is not None:
            theirs = Side(torch, case)
            copy_weights(ours.layer, theirs.layer)
            check(case.label, ours.results(), theirs.results())
            peers["PyTorch"] = theirs
        rows.append(compare(case.label, ours, peers, rounds=rounds, pause=PAUSE))
        print(table(rows[-1:]).splitlines()[-1], flush=True)
    return rows


def bench_sampling(rounds: int, torch: Any) -> list[Row]:
    ours = Sampler(gn)
    peers: dict[str, Callable[[], Any]] = {}
    if torch is not None:
        theirs = Sampler(torch)
        copy_weights(ours.layer, theirs.layer)
        check("sampling", [ours()], [theirs()])
        peers["PyTorch"] = theirs
    label = "sampling, LSTM 2 x 256, one step of batch 1"
    row = compare(label, ours, peers, rounds=rounds, scale=1e6 / 100, unit="us", pause=PAUSE)
    print(table([row]).splitlines()[-1], flush=True)
    return [row]


def run_case(side: str, number: int) -> None:
    """In a process of its own: a few calls, then the peak resident memory in MB on stdout."""
    module: Any = gn
    if side != "gpunet":
        import torch

        torch.set_num_threads(gn.get_num_threads())
        module = torch
    call = Side(module, CASES[number])
    for _ in range(4):
        call()
    print(_peak_memory())


def bench_memory(threads: int, torch: Any) -> list[Row]:
    rows = []
    for number, case in enumerate(CASES):

        def peak(side: str, number: int = number) -> float:
            code = (
                f"import gpunet; gpunet.set_num_threads({threads}); from benchmarks.recurrent import run_case; "
                f"run_case({side!r}, {number})"
            )
            return float(_python(code)())

        ours = peak("gpunet")
        theirs = peak("PyTorch") if torch is not None else None
        ratio = ours / theirs if theirs else None
        rows.append(Row(f"peak memory: {case.label}", "MB", ours, theirs, "PyTorch", ratio, ratio, ratio))
        print(table(rows[-1:]).splitlines()[-1], flush=True)
    return rows


def main() -> None:
    """Run the parts asked for, print the table, write CSV and JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--name", default=f"recurrent-cpu-{datetime.now(UTC):%Y-%m-%d}")
    arguments = parser.parse_args()
    gn.set_num_threads(arguments.threads)
    torch: Any = None
    if importlib.util.find_spec("torch") is None:
        print("PyTorch is not installed: gpunet is timed alone")
    else:
        import torch

        torch.set_num_threads(arguments.threads)
    about = environment(["numpy", "torch"])
    about["versions"]["gpunet"] = gn.__version__
    about |= {"threads": arguments.threads, "rounds": arguments.rounds, "pause": PAUSE, "device": "cpu"}
    print(f"{about['processor']}, {arguments.threads} threads, {about['versions']}\n")
    parts: dict[str, Callable[[], list[Row]]] = {
        "layers": lambda: bench_layers(arguments.rounds, torch),
        "sample": lambda: bench_sampling(arguments.rounds, torch),
        "memory": lambda: bench_memory(arguments.threads, torch),
    }
    rows = [row for part in PARTS if part in arguments.only for row in parts[part]()]
    print("\n" + table(rows))
    write(arguments.name, rows, about, arguments.out)


if __name__ == "__main__":
    main()
