"""Each layer and loss against PyTorch on the CPU: ``python -m benchmarks.layers``.

Forward and backward, at two sizes, both libraries alternating in one run with the same weights, data and threads;
outputs and gradients are compared before anything is timed. PyTorch is taken in the faster of its two layouts.

    python -m benchmarks.layers [--threads 2] [--rounds 9] [--only NAME ...] [--size large] [--out FOLDER]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import gpunet as gn
from benchmarks.harness import Row, compare, environment, table, write

SIZES = {"small": (32, 16, 8, 8), "large": (8, 64, 56, 56)}


class Entry(NamedTuple):
    """One layer or loss.

    Attributes:
        make: the layer, from the library and the number of channels.
        input: what it takes: ``"images"`` (N, C, H, W), ``"sequence"`` (N, C, HW), ``"volume"`` (N, C, 4, H/2, W/2),
            ``"rows"`` (NHW, C), ``"tokens"`` or, for losses, ``"classes"``, ``"values"``, ``"bits"``,
            ``"probabilities"``, ``"signs"``, ``"pairs"``, ``"signed pairs"``, ``"triplets"``.
    """

    make: Callable[[Any, int], Any]
    input: str = "images"


ENTRIES: dict[str, Entry] = {
    "Linear": Entry(lambda m, c: m.nn.Linear(c, c), "rows"),
    "Bilinear": Entry(lambda m, c: m.nn.Bilinear(c, c, 8), "pairs"),
    "Embedding": Entry(lambda m, c: m.nn.Embedding(1000, c), "tokens"),
    "Conv1d 3": Entry(lambda m, c: m.nn.Conv1d(c, c, 3, padding=1), "sequence"),
    "Conv2d 3": Entry(lambda m, c: m.nn.Conv2d(c, c, 3, padding=1)),
    "Conv2d 1": Entry(lambda m, c: m.nn.Conv2d(c, c, 1)),
    "Conv2d 3, stride 2": Entry(lambda m, c: m.nn.Conv2d(c, c, 3, stride=2, padding=1)),
    "Conv2d 3, dilation 2": Entry(lambda m, c: m.nn.Conv2d(c, c, 3, dilation=2, padding=2)),
    "Conv2d 3, 4 groups": Entry(lambda m, c: m.nn.Conv2d(c, c, 3, padding=1, groups=4)),
    "Conv2d 3, depthwise": Entry(lambda m, c: m.nn.Conv2d(c, c, 3, padding=1, groups=c)),
    "Conv3d 3": Entry(lambda m, c: m.nn.Conv3d(c, c, 3, padding=1), "volume"),
    "ConvTranspose1d 4, stride 2": Entry(lambda m, c: m.nn.ConvTranspose1d(c, c, 4, 2, 1), "sequence"),
    "ConvTranspose2d 4, stride 2": Entry(lambda m, c: m.nn.ConvTranspose2d(c, c, 4, 2, 1)),
    "Unfold 3": Entry(lambda m, c: m.nn.Unfold(3, padding=1)),
    "MaxPool1d 2": Entry(lambda m, c: m.nn.MaxPool1d(2), "sequence"),
    "MaxPool2d 2": Entry(lambda m, c: m.nn.MaxPool2d(2)),
    "MaxPool2d 3, stride 2": Entry(lambda m, c: m.nn.MaxPool2d(3, 2, 1)),
    "MaxPool3d 2": Entry(lambda m, c: m.nn.MaxPool3d(2), "volume"),
    "AvgPool1d 2": Entry(lambda m, c: m.nn.AvgPool1d(2), "sequence"),
    "AvgPool2d 2": Entry(lambda m, c: m.nn.AvgPool2d(2)),
    "AvgPool2d 3, stride 1": Entry(lambda m, c: m.nn.AvgPool2d(3, 1, 1)),
    "LPPool2d 2": Entry(lambda m, c: m.nn.LPPool2d(2, 2)),
    "AdaptiveAvgPool1d 7": Entry(lambda m, c: m.nn.AdaptiveAvgPool1d(7), "sequence"),
    "AdaptiveAvgPool2d 1": Entry(lambda m, c: m.nn.AdaptiveAvgPool2d(1)),
    "AdaptiveAvgPool2d 7": Entry(lambda m, c: m.nn.AdaptiveAvgPool2d(7)),
    "AdaptiveMaxPool2d 7": Entry(lambda m, c: m.nn.AdaptiveMaxPool2d(7)),
    "BatchNorm2d": Entry(lambda m, c: m.nn.BatchNorm2d(c)),
    "BatchNorm2d, evaluation": Entry(lambda m, c: m.nn.BatchNorm2d(c).eval()),
    "LayerNorm": Entry(lambda m, c: m.nn.LayerNorm(c), "rows"),
    "GroupNorm 8": Entry(lambda m, c: m.nn.GroupNorm(8, c)),
    "InstanceNorm2d": Entry(lambda m, c: m.nn.InstanceNorm2d(c, affine=True)),
    "LocalResponseNorm 5": Entry(lambda m, c: m.nn.LocalResponseNorm(5)),
    "Dropout": Entry(lambda m, c: m.nn.Dropout(0.5)),
    "Dropout2d": Entry(lambda m, c: m.nn.Dropout2d(0.5)),
    "AlphaDropout": Entry(lambda m, c: m.nn.AlphaDropout(0.5)),
    "Upsample 2, nearest": Entry(lambda m, c: m.nn.Upsample(scale_factor=2, mode="nearest")),
    "Upsample 2, bilinear": Entry(lambda m, c: m.nn.Upsample(scale_factor=2, mode="bilinear")),
    "PixelShuffle 2": Entry(lambda m, c: m.nn.PixelShuffle(2)),
    "ZeroPad2d 1": Entry(lambda m, c: m.nn.ZeroPad2d(1)),
    "ReflectionPad2d 1": Entry(lambda m, c: m.nn.ReflectionPad2d(1)),
    "Flatten": Entry(lambda m, c: m.nn.Flatten()),
    "ReLU": Entry(lambda m, c: m.nn.ReLU()),
    "ReLU6": Entry(lambda m, c: m.nn.ReLU6()),
    "LeakyReLU": Entry(lambda m, c: m.nn.LeakyReLU(0.1)),
    "PReLU": Entry(lambda m, c: m.nn.PReLU(c)),
    "ELU": Entry(lambda m, c: m.nn.ELU()),
    "SELU": Entry(lambda m, c: m.nn.SELU()),
    "GELU": Entry(lambda m, c: m.nn.GELU()),
    "GELU, tanh": Entry(lambda m, c: m.nn.GELU(approximate="tanh")),
    "SiLU": Entry(lambda m, c: m.nn.SiLU()),
    "Hardswish": Entry(lambda m, c: m.nn.Hardswish()),
    "Sigmoid": Entry(lambda m, c: m.nn.Sigmoid()),
    "Tanh": Entry(lambda m, c: m.nn.Tanh()),
    "Softplus": Entry(lambda m, c: m.nn.Softplus()),
    "Softmax": Entry(lambda m, c: m.nn.Softmax(dim=1), "rows"),
    "LogSoftmax": Entry(lambda m, c: m.nn.LogSoftmax(dim=1), "rows"),
    "Softmax2d": Entry(lambda m, c: m.nn.Softmax2d()),
    "CosineSimilarity": Entry(lambda m, c: m.nn.CosineSimilarity(dim=1), "pairs"),
    "PairwiseDistance": Entry(lambda m, c: m.nn.PairwiseDistance(), "pairs"),
    "CrossEntropyLoss": Entry(lambda m, c: m.nn.CrossEntropyLoss(), "classes"),
    "CrossEntropyLoss, smoothed": Entry(lambda m, c: m.nn.CrossEntropyLoss(label_smoothing=0.1), "classes"),
    "NLLLoss": Entry(lambda m, c: m.nn.NLLLoss(), "classes"),
    "MultiMarginLoss": Entry(lambda m, c: m.nn.MultiMarginLoss(), "classes"),
    "MSELoss": Entry(lambda m, c: m.nn.MSELoss(), "values"),
    "L1Loss": Entry(lambda m, c: m.nn.L1Loss(), "values"),
    "SmoothL1Loss": Entry(lambda m, c: m.nn.SmoothL1Loss(), "values"),
    "HuberLoss": Entry(lambda m, c: m.nn.HuberLoss(), "values"),
    "KLDivLoss": Entry(lambda m, c: m.nn.KLDivLoss(reduction="batchmean", log_target=True), "values"),
    "BCELoss": Entry(lambda m, c: m.nn.BCELoss(), "probabilities"),
    "BCEWithLogitsLoss": Entry(lambda m, c: m.nn.BCEWithLogitsLoss(), "bits"),
    "HingeEmbeddingLoss": Entry(lambda m, c: m.nn.HingeEmbeddingLoss(), "signs"),
    "CosineEmbeddingLoss": Entry(lambda m, c: m.nn.CosineEmbeddingLoss(), "signed pairs"),
    "TripletMarginLoss": Entry(lambda m, c: m.nn.TripletMarginLoss(), "triplets"),
}

# Why the slowest are the slowest; printed beside them.
REASONS: dict[str, str] = {
    "Flatten": "activations lie channels-last, so that flattening copies; PyTorch's NCHW is a view",
    "GELU": "the error function takes many NumPy passes, and again in backward; PyTorch has one vectorised loop",
    "MaxPool2d 3, stride 2": "nine strided passes over the windows, and nine to put the gradient back",
    "MaxPool3d 2": "a pass for each of the window's eight cells",
    "AdaptiveMaxPool2d 7": "sixty-four strided passes, one for each cell of a region",
    "AdaptiveAvgPool2d 7": "the interpreter: a pass for each row and column of a region",
    "AdaptiveAvgPool1d 7": "the interpreter: a pass for each cell of a region",
    "Conv2d 3, depthwise": "one column for each channel: no matrix product to gain from, taps are added one by one",
    "GroupNorm 8": "several passes; at small sizes the interpreter's overhead for each block",
    "InstanceNorm2d": "several passes; at small sizes the interpreter's overhead for each block",
    "Upsample 2, bilinear": "two interpolations, each of several passes, where PyTorch has one loop",
    "Embedding": "the gradient of the table is dense, and written out in full",
    "LayerNorm": "several passes over each block",
    "SiLU": "exp and several passes, in forward and again in backward",
    "Softmax": "a pass each for the maximum, the exponential, the sum and the quotient",
}

RANDOM = ("Dropout", "Dropout2d", "AlphaDropout")


def data_of(kind: str, size: tuple[int, int, int, int]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The arrays a kind of layer takes: those with a gradient, and those without."""
    rng = np.random.default_rng(0)
    n, c, h, w = size

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape, np.float32)

    rows = (n * h * w, c)
    if kind == "images":
        return [normal(n, h, w, c).transpose(0, 3, 1, 2)], []
    if kind == "sequence":
        return [normal(n, h * w, c).transpose(0, 2, 1)], []
    if kind == "volume":
        return [normal(n, 4, h // 2, w // 2, c).transpose(0, 4, 1, 2, 3)], []
    if kind == "tokens":
        return [], [rng.integers(0, 1000, (n, h * w))]
    if kind == "rows":
        return [normal(*rows)], []
    if kind == "pairs":
        return [normal(*rows), normal(*rows)], []
    if kind == "classes":
        return [normal(*rows)], [rng.integers(0, c, rows[0])]
    if kind == "values":
        return [normal(*rows)], [normal(*rows)]
    if kind == "bits":
        return [normal(*rows)], [rng.integers(0, 2, rows).astype(np.float32)]
    if kind == "probabilities":
        return [rng.uniform(0.01, 0.99, rows).astype(np.float32)], [rng.integers(0, 2, rows).astype(np.float32)]
    if kind == "signs":
        return [normal(*rows)], [(rng.integers(0, 2, rows) * 2 - 1).astype(np.float32)]
    if kind == "signed pairs":
        return [normal(*rows), normal(*rows)], [(rng.integers(0, 2, rows[0]) * 2 - 1).astype(np.float32)]
    assert kind == "triplets", kind
    return [normal(*rows), normal(*rows), normal(*rows)], []


class Side:
    """One library's layer with its data; calling it runs forward and backward."""

    def __init__(self, module: Any, entry: Entry, size: tuple[int, int, int, int], channels_first: bool) -> None:
        from_numpy = module.from_numpy
        inputs, others = data_of(entry.input, size)
        if channels_first:
            inputs = [np.ascontiguousarray(array) for array in inputs]
        self.inputs = [from_numpy(array).requires_grad_() for array in inputs]
        self.others = [from_numpy(array) for array in others]
        self.layer = entry.make(module, size[1])
        rng = np.random.default_rng(1)
        state = {}
        for name, value in self.layer.state_dict().items():
            drawn = np.asarray(rng.random(tuple(value.shape)) - 0.3, np.float32)
            state[name] = from_numpy(np.abs(drawn)) if "running_var" in name else from_numpy(drawn)
            if "num_batches" in name:
                state[name] = value
        self.layer.load_state_dict(state)
        self.parameters = list(self.layer.parameters())
        self.output = self.layer(*self.inputs, *self.others)
        shape = tuple(self.output.shape)
        self.gradient = None
        if shape:  # in the order of the output in memory, as it comes from the next layer
            order = sorted(range(len(shape)), key=lambda axis: -self.output.stride()[axis])
            drawn = np.ascontiguousarray(rng.standard_normal(shape, np.float32).transpose(order))
            self.gradient = from_numpy(drawn.transpose([order.index(axis) for axis in range(len(shape))]))

    def __call__(self) -> None:
        for tensor in (*self.inputs, *self.parameters):
            tensor.grad = None
        self.output = self.layer(*self.inputs, *self.others)
        self.output.backward(self.gradient)

    def results(self) -> list[np.ndarray]:
        """The output and all gradients of one call."""
        self()
        return [t.detach().numpy() for t in (self.output, *(x.grad for x in (*self.inputs, *self.parameters)))]


def check(name: str, ours: list[np.ndarray], theirs: list[np.ndarray]) -> None:
    """Raise unless both sides computed the same."""
    for a, b in zip(ours, theirs, strict=True):
        bound = 2e-3 * max(float(np.abs(b).max()), 1e-6)
        if a.shape != b.shape or not float(np.abs(a - b).max()) <= bound:
            raise SystemExit(f"{name}: the two sides do not agree")


def measure(name: str, size: str, rounds: int) -> Row:
    """Check and time one entry at one size."""
    entry = ENTRIES[name]
    ours = Side(gn, entry, SIZES[size], False)
    peers: dict[str, Any] = {}
    try:
        import torch
    except ModuleNotFoundError:
        torch = None
    if torch is not None:
        layouts = {"NCHW": True}
        if entry.input in ("images", "sequence", "volume"):
            layouts["channels_last"] = False
        for layout, first in layouts.items():
            peers[f"PyTorch {layout}" if len(layouts) > 1 else "PyTorch"] = side = Side(
                torch, entry, SIZES[size], first
            )
            if name not in RANDOM:
                check(name, ours.results(), side.results())
    return compare(f"{name}, {size}", ours, peers, rounds=rounds, warmup=2)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", nargs="+", default=list(ENTRIES), metavar="NAME")
    parser.add_argument("--size", nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args()
    gn.set_num_threads(args.threads)
    try:
        import torch

        torch.set_num_threads(args.threads)
    except ModuleNotFoundError:
        print("PyTorch is not installed: gpunet alone")
    rows = []
    for name in args.only:
        for size in args.size:
            rows.append(measure(name, size, args.rounds))
            shown = "" if rows[-1].ratio is None else f"{rows[-1].ratio:6.2f}"
            print(f"{shown} {rows[-1].workload}: {rows[-1].gpunet:.3f} ms, {rows[-1].peer or 0:.3f} ms", flush=True)
    slowest = sorted((row for row in rows if row.ratio is not None), key=lambda row: -(row.ratio or 0))[:10]
    for row in slowest:
        row.note = REASONS.get(row.workload.rpartition(",")[0], "")
    print(table(rows))
    print("\nThe slowest ten:\n" + table(slowest))
    about = environment(["gpunet", "numpy", "torch"]) | {"threads": args.threads, "rounds": args.rounds}
    date = datetime.now(UTC).date().isoformat()
    if args.only == list(ENTRIES):
        write(f"layers-cpu-{date}", rows, about, args.out)


if __name__ == "__main__":
    main()
