"""A deep plain network trains worse than the same network with shortcuts: He et al. 2015, figures 1, 4 and 6.

    python examples/plain_vs_residual.py [--out FOLDER] [--epochs N] [--depths 8 32] [--seeds 3]

Both learn the bundled digits: blocks of two convolutions with BatchNorm, the same weights to start from, the same
batches. "plain" adds nothing to a block's outputs, "residual" its inputs, by shortcuts without parameters. Compared is
the loss on the *training* images, the mean over the steps of each epoch: a deep plain net does not overfit, it learns
worse than a shallow one, though it could do all that the shallow one can. Prints the medians over the seeds, and with
``--out`` writes a table of the losses there, and a picture where Matplotlib is installed.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import statistics
import sys
import time
from pathlib import Path

import numpy as np

import gpunet as gn
import gpunet.nn.functional as F
from gpunet import models, nn
from gpunet.data import Digits, TensorDataset
from gpunet.data.transforms import Normalize
from gpunet.utils.data import DataLoader

WIDTHS = (8, 16, 32)
KINDS = {"plain": "none", "residual": "A"}


def images() -> TensorDataset:
    """The training images, normalised."""
    digits = Digits(train=True)
    pixels = Normalize(digits.info.mean, digits.info.std).apply(digits.images, np.empty((len(digits), 0)))
    return TensorDataset(gn.from_numpy(pixels.astype(np.float32)), gn.from_numpy(digits.labels.astype(np.int64)))


def train(kind: str, depth: int, seed: int, epochs: int, digits: TensorDataset) -> list[float]:
    """The mean training loss of each epoch."""
    gn.manual_seed(seed)
    model: nn.Module = models.CifarResNet(depth, 10, 1, KINDS[kind], widths=WIDTHS)
    loader = DataLoader(digits, batch_size=64, shuffle=True, generator=gn.Generator(seed))
    optimizer = gn.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
    losses = []
    for _ in range(epochs):
        total = 0.0
        for pixels, labels in loader:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(pixels), labels)
            loss.backward()
            optimizer.step()
            total += loss.item() * len(labels)
        losses.append(total / len(digits))
    return losses


def write(folder: Path, curves: dict[tuple[str, int], list[list[float]]]) -> None:
    """Write the losses as a table and, where Matplotlib is installed, as a picture."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "plain_vs_residual.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["network", "layers", "seed", "epoch", "training loss"])
        for (kind, depth), runs in curves.items():
            for seed, losses in enumerate(runs):
                writer.writerows([kind, depth, seed, epoch, loss] for epoch, loss in enumerate(losses, 1))
    if importlib.util.find_spec("matplotlib") is None:
        print("Matplotlib is not installed: no picture is written")
        return
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    depths = sorted({depth for _, depth in curves})
    for (kind, depth), runs in curves.items():
        epochs = range(1, len(runs[0]) + 1)
        style = {
            "color": "tab:red" if kind == "plain" else "tab:blue",
            "linestyle": "-" if depth == depths[-1] else "--",
        }
        axes.plot(epochs, np.median(runs, axis=0), label=f"{kind}, {depth} layers", **style)
        axes.fill_between(epochs, np.min(runs, axis=0), np.max(runs, axis=0), alpha=0.15, color=style["color"])
    axes.set(xlabel="epoch", ylabel="training loss", yscale="log", title="Plain and residual networks on the digits")
    axes.legend()
    figure.savefig(folder / "plain_vs_residual.png", dpi=120)


def main() -> int:
    """Train all, print the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="folder for a table and a picture")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--depths", type=int, nargs="+", default=[8, 32], help="6n + 2 layers (8 32)")
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()

    digits = images()
    curves: dict[tuple[str, int], list[list[float]]] = {}
    start = time.perf_counter()
    for depth in arguments.depths:
        for kind in KINDS:
            runs = [train(kind, depth, seed, arguments.epochs, digits) for seed in range(arguments.seeds)]
            curves[kind, depth] = runs
            last = [losses[-1] for losses in runs]
            print(
                f"{kind:8s} {depth:>3} layers: median training loss {statistics.median(last):.4f} "
                f"({min(last):.4f} to {max(last):.4f}), {time.perf_counter() - start:.0f} s",
                flush=True,
            )
    if arguments.out is not None:
        write(arguments.out, curves)
    deep = max(arguments.depths)
    plain, residual = (statistics.median(losses[-1] for losses in curves[kind, deep]) for kind in KINDS)
    print(f"{deep} layers: plain / residual training loss {plain / residual:.1f}")
    return 0 if plain > residual else 1


if __name__ == "__main__":
    sys.exit(main())
