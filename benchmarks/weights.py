"""Loading weights from files: beside a plain read and copy of the same bytes, and beside PyTorch.

``python -m benchmarks.weights`` prints a table and writes it to ``benchmarks/results``. The files are written first and
lie in the system's cache, so that the disk's speed is on neither side. The plain side reads the whole file into memory
and copies it into the parameters' memory, array by array; the bar for 100 MB of safetensors is 1.5 times that.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import gpunet as gn
from benchmarks.harness import Row, compare, environment, table, write
from gpunet.interop import load_pth, load_safetensors, save_safetensors

RESULTS = Path(__file__).parent / "results"
BAR = 1.5


class Holder(gn.nn.Module):
    """Parameters of 4 MB each, 100 MB in all."""

    def __init__(self) -> None:
        super().__init__()
        for i in range(25):
            setattr(self, f"w{i:02}", gn.nn.Parameter(gn.zeros(1000, 1000)))


def plain(path: Path, model: gn.nn.Module) -> Callable[[], Any]:
    """Read the file, copy its last bytes into the model's arrays."""
    arrays = [tensor.detach().numpy().reshape(-1) for tensor in model.state_dict().values()]
    size = sum(array.nbytes for array in arrays)

    def read_and_copy() -> None:
        content = path.read_bytes()
        offset = len(content) - size
        for array in arrays:
            array[:] = np.frombuffer(content, array.dtype, array.size, offset)
            offset += array.nbytes

    return read_and_copy


def rows_of(label: str, model: gn.nn.Module, folder: Path, rounds: int, note: str = "") -> list[Row]:
    """The rows of one model's file."""
    import torch

    rng = np.random.default_rng(0)
    state = {
        key: rng.standard_normal(tuple(tensor.shape)).astype(tensor.dtype) for key, tensor in model.state_dict().items()
    }
    safe, pth = folder / "x.safetensors", folder / "x.pth"
    save_safetensors(state, safe)
    torch.save({key: torch.from_numpy(value) for key, value in state.items()}, pth)
    models_load = gn.models.load_weights
    models_load(model, safe)
    for key, tensor in model.state_dict().items():
        np.testing.assert_array_equal(tensor.numpy(), state[key])
    baseline = {"read and copy": plain(safe, model)}
    theirs = {"torch.load": lambda: torch.load(pth, weights_only=True)}
    cases: list[tuple[str, Callable[[], Any], dict[str, Callable[[], Any]]]] = [
        ("load_safetensors + load_state_dict", lambda: model.load_state_dict(load_safetensors(safe)), baseline),
        (
            "load_safetensors(mmap=True) + load_state_dict",
            lambda: model.load_state_dict(load_safetensors(safe, mmap=True)),
            baseline,
        ),
        ("gn.load + load_state_dict", lambda: model.load_state_dict(gn.load(safe)), baseline),
        ("load_weights, safetensors", lambda: models_load(model, safe), baseline),
        ("load_weights, .pth", lambda: models_load(model, pth), baseline),
        ("load_pth", lambda: load_pth(pth), theirs),
    ]
    return [compare(f"{label}: {name}", ours, peers, rounds=rounds, note=note) for name, ours, peers in cases]


def main() -> None:
    """Measure, print and write; fail where 100 MB of safetensors take longer than the bar allows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--name", default="weights-cpu-2026-11-21")
    arguments = parser.parse_args()
    import torch

    gn.set_num_threads(arguments.threads)
    torch.set_num_threads(arguments.threads)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        rows += rows_of("100 MB in 25 tensors", Holder(), Path(folder), arguments.rounds)
        # A convolution's weights lie in memory with the output channels last, and in a file with them first: ours are
        # transposed, the plain copies are not.
        note = "weights transposed on the way"
        rows += rows_of("resnet50, 102 MB", gn.models.resnet50(), Path(folder), arguments.rounds, note)
    about = {**environment(["numpy", "torch", "safetensors"]), "threads": arguments.threads, "bar": BAR}
    print(table(rows))
    write(arguments.name, rows, about, RESULTS)
    for row in rows[:4]:
        if row.ratio is None or row.ratio > BAR:
            raise SystemExit(f"{row.workload}: {row.ratio:.2f} times a plain read and copy, at most {BAR} is allowed")


if __name__ == "__main__":
    main()
