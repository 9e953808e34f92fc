"""One update of all parameters beside PyTorch's, on the CPU.

``python -m benchmarks.optimizers`` prints a table and writes it to ``benchmarks/results``. Both sides hold the same
parameters and gradients, and must agree after three steps before anything is timed. PyTorch runs in its three forms:
a loop over the parameters (its default on a CPU), ``foreach=True`` and ``fused=True``; the ratio is to the fastest of
them, and the one to ``foreach=True`` stands beside it.
"""

from __future__ import annotations

import argparse
import math
import os
from pathlib import Path
from typing import Any

import numpy as np

import gpunet as gn
from benchmarks.harness import Row, compare, environment, table, write

RESULTS = Path(__file__).parent / "results"
OPTIMIZERS: list[tuple[str, str, dict[str, Any]]] = [
    ("SGD, momentum, weight decay", "SGD", {"lr": 1e-3, "momentum": 0.9, "weight_decay": 5e-4}),
    ("Adam", "Adam", {"lr": 1e-3}),
    ("AdamW", "AdamW", {"lr": 1e-3}),
]


def resnet50_shapes() -> list[tuple[int, ...]]:
    """161 tensors of 25.6 million elements."""
    shapes: list[tuple[int, ...]] = [(64, 3, 7, 7), (64,), (64,)]
    channels = 64
    for width, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for block in range(blocks):
            shapes += [(width, channels, 1, 1), (width,), (width,), (width, width, 3, 3), (width,), (width,)]
            shapes += [(4 * width, width, 1, 1), (4 * width,), (4 * width,)]
            if block == 0:
                shapes += [(4 * width, channels, 1, 1), (4 * width,), (4 * width,)]
            channels = 4 * width
    return [*shapes, (1000, 2048), (1000,)]


def resnet20_shapes() -> list[tuple[int, ...]]:
    """59 tensors of 270 thousand elements."""
    shapes: list[tuple[int, ...]] = [(16, 3, 3, 3), (16,), (16,)]
    channels = 16
    for width in (16, 32, 64):
        for _ in range(3):
            shapes += [(width, channels, 3, 3), (width,), (width,), (width, width, 3, 3), (width,), (width,)]
            channels = width
    return [*shapes, (10, 64), (10,)]


def one_vector() -> list[tuple[int, ...]]:
    """25 million elements in one tensor."""
    return [(25_000_000,)]


NETS = {
    "25.6 M in 161 tensors (resnet50)": resnet50_shapes,
    "25 M in 1 tensor": one_vector,
    "0.27 M in 59 tensors (resnet20)": resnet20_shapes,
}
FORMS: dict[str, dict[str, Any]] = {"loop": {"foreach": False}, "foreach": {"foreach": True}, "fused": {"fused": True}}


def measure(net: str, label: str, name: str, options: dict[str, Any], rounds: int) -> list[Row]:
    """The rows of one optimizer on one net."""
    import torch

    shapes = NETS[net]()
    rng = np.random.default_rng(0)
    values = [rng.standard_normal(shape, dtype=np.float32) for shape in shapes]
    gradients = [rng.standard_normal(shape, dtype=np.float32) for shape in shapes]
    ours = [gn.nn.Parameter(gn.tensor(value)) for value in values]
    for parameter, gradient in zip(ours, gradients, strict=True):
        (parameter * gn.from_numpy(gradient)).sum().backward()  # as in training: backward makes the gradient
    optimizer = getattr(gn.optim, name)(ours, **options)
    peers, theirs = {}, {}
    for form, how in FORMS.items():
        theirs[form] = [torch.nn.Parameter(torch.tensor(value)) for value in values]
        for parameter, gradient in zip(theirs[form], gradients, strict=True):
            parameter.grad = torch.tensor(gradient)
        peers[form] = getattr(torch.optim, name)(theirs[form], **options, **how)
    for _ in range(3):
        optimizer.step()
        for peer in peers.values():
            peer.step()
    for form, parameters in theirs.items():
        for ours_now, theirs_now in zip(ours, parameters, strict=True):
            np.testing.assert_allclose(
                ours_now.detach().numpy(), theirs_now.detach().numpy(), rtol=1e-5, atol=1e-6, err_msg=form
            )
    steps = {form: peer.step for form, peer in peers.items()}
    count = sum(math.prod(shape) for shape in shapes)
    if count < 1_000_000:  # one step is short: time twenty

        def repeated(step: Any) -> Any:
            return lambda: [step() for _ in range(20)]

        row = compare(
            f"{label}: {net}",
            repeated(optimizer.step),
            {form: repeated(step) for form, step in steps.items()},
            rounds=rounds,
            scale=1e3 / 20,
        )
        foreach = compare(
            f"{label}: {net}, against foreach",
            repeated(optimizer.step),
            {"foreach": repeated(steps["foreach"])},
            rounds=rounds,
            scale=1e3 / 20,
        )
    else:
        row = compare(f"{label}: {net}", optimizer.step, steps, rounds=rounds)
        foreach = compare(
            f"{label}: {net}, against foreach", optimizer.step, {"foreach": steps["foreach"]}, rounds=rounds
        )
    return [row, foreach]


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--name", default="optimizers-cpu-2026-11-21")
    parser.add_argument("--only", default="", help="part of the workload's name")
    arguments = parser.parse_args()
    import torch

    gn.set_num_threads(arguments.threads)
    torch.set_num_threads(arguments.threads)
    rows: list[Row] = []
    for net in NETS:
        for label, name, options in OPTIMIZERS:
            if arguments.only in f"{label}: {net}":
                rows += measure(net, label, name, options, arguments.rounds)
                print(table(rows[-2:]).splitlines()[-2], table(rows[-2:]).splitlines()[-1], sep="\n", flush=True)
    about = {**environment(["numpy", "torch"]), "threads": arguments.threads, "load_after": os.getloadavg()[0]}
    print(table(rows))
    if not arguments.only:
        write(arguments.name, rows, about, RESULTS)


if __name__ == "__main__":
    main()
