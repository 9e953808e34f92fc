"""gpunet against PyTorch on the CPU: ``python -m benchmarks.cpu``.

Training steps, overhead of an operation, import time, peak memory and the GEMM floor, both sides alternating in one
run, with the same threads, weights and data. Losses and gradients are compared before anything is timed.

    python -m benchmarks.cpu [--threads 2] [--rounds 15] [--only PART ...] [--out FOLDER]

``--only`` takes step, layers, overhead, import, memory, gemm. Without PyTorch (``pip install 'gpunet[parity]'``) gpunet
is timed alone.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

import gpunet as gn
import gpunet.nn.functional as F
from benchmarks.harness import Row, compare, environment, seconds, table, write
from gpunet.models import get_model

PARTS = ("gemm", "step", "layers", "overhead", "import", "memory")

STEPS: dict[str, tuple[str, dict[str, Any], tuple[int, ...]]] = {
    "cifar_resnet20 A, batch 128, 32x32": ("cifar_resnet20", {"shortcut": "A"}, (128, 3, 32, 32)),
    "cifar_resnet20 B, batch 128, 32x32": ("cifar_resnet20", {"shortcut": "B"}, (128, 3, 32, 32)),
    "LeNet, batch 32, 32x32": ("lenet", {"in_channels": 3}, (32, 3, 32, 32)),
}


def _data(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.standard_normal(shape, np.float32), rng.integers(0, 10, shape[0])


def our_step(name: str, options: dict[str, Any], shape: tuple[int, ...]) -> tuple[Callable[[], float], gn.nn.Module]:
    """One training step in gpunet (forward, loss, backward, SGD with momentum), and the network."""
    gn.manual_seed(0)
    model = get_model(name, **options)
    optimizer = gn.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    images, labels = (gn.from_numpy(array) for array in _data(shape))

    def step() -> float:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        return float(loss.item())

    return step, model


def torch_step(name: str, options: dict[str, Any], shape: tuple[int, ...], channels_last: bool) -> tuple[Any, Any]:
    """The same step in PyTorch."""
    import torch

    from benchmarks.torch_models import cifar_resnet, lenet

    layout = torch.channels_last if channels_last else torch.contiguous_format
    model = lenet() if name == "lenet" else cifar_resnet(20, options["shortcut"])
    model = model.to(memory_format=layout)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    pixels, classes = _data(shape)
    images, labels = torch.from_numpy(pixels).contiguous(memory_format=layout), torch.from_numpy(classes)

    def step() -> float:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        return float(loss.item())

    return step, model


def copy_weights(source: gn.nn.Module, target: Any) -> None:
    """Give a PyTorch network our weights; both list their parameters in the same order."""
    import torch

    ours, theirs = list(source.parameters()), list(target.parameters())
    assert [tuple(p.shape) for p in ours] == [tuple(p.shape) for p in theirs]
    with torch.no_grad():
        for a, b in zip(ours, theirs, strict=True):
            b.copy_(torch.from_numpy(np.ascontiguousarray(a.detach().numpy())))


def check_equal(ours: Callable[[], float], theirs: Callable[[], float], what: str) -> None:
    """Two steps from the same weights must give the same losses."""
    for number in range(2):
        a, b = ours(), theirs()
        if not abs(a - b) <= 1e-3 * max(1.0, abs(b)):
            raise SystemExit(f"{what}: losses differ at step {number}: gpunet {a}, PyTorch {b}; not timed")


def bench_steps(rounds: int, peers: bool) -> list[Row]:
    rows = []
    for what, (name, options, shape) in STEPS.items():
        ours, model = our_step(name, options, shape)
        sides: dict[str, Callable[[], Any]] = {}
        if peers:
            for label, channels_last in (("NCHW", False), ("channels_last", True)):
                step, network = torch_step(name, options, shape, channels_last)
                # Each peer is checked against a fresh gpunet network with the same weights.
                fresh, twin = our_step(name, options, shape)
                copy_weights(twin, network)
                check_equal(fresh, step, what)
                sides[f"PyTorch {label}"] = step
        quick = shape[0] < 100
        rows.append(compare(what, ours, sides, rounds=rounds * (4 if quick else 1)))
        print(table(rows[-1:]).splitlines()[-1], flush=True)
        del model
    return rows


def bench_layers(rounds: int, peers: bool) -> list[Row]:
    """Forward and backward of single layers of the ResNet."""
    rows = []
    for n, c, k, size, stride in (
        (128, 3, 16, 32, 1),
        (128, 16, 16, 32, 1),
        (128, 16, 32, 32, 2),
        (128, 32, 32, 16, 1),
        (128, 64, 64, 8, 1),
        (8, 64, 64, 56, 1),
    ):
        rng = np.random.default_rng(1)
        x = np.ascontiguousarray(rng.standard_normal((n, size, size, c), np.float32)).transpose(0, 3, 1, 2)
        w = rng.standard_normal((k, c, 3, 3), np.float32)
        a, b = gn.from_numpy(x).requires_grad_(c > 3), gn.from_numpy(w).requires_grad_()
        gradient = np.ascontiguousarray(
            rng.standard_normal((n, size // stride, size // stride, k), np.float32)
        ).transpose(0, 3, 1, 2)
        g = gn.from_numpy(gradient)

        def ours(a: Any = a, b: Any = b, g: Any = g, stride: int = stride) -> Any:
            y = F.conv2d(a, b, stride=stride, padding=1)
            y.backward(g)
            return y

        sides: dict[str, Callable[[], Any]] = {}
        if peers:
            import torch

            ta = torch.from_numpy(x).requires_grad_(c > 3)
            tb = torch.from_numpy(w).contiguous(memory_format=torch.channels_last).requires_grad_()
            tg = torch.from_numpy(gradient)

            def theirs(ta: Any = ta, tb: Any = tb, tg: Any = tg, stride: int = stride) -> Any:
                y = torch.nn.functional.conv2d(ta, tb, stride=stride, padding=1)
                y.backward(tg)
                return y

            difference = np.abs(ours().detach().numpy() - theirs().detach().numpy()).max()
            assert difference < 1e-3, difference
            sides["PyTorch channels_last"] = theirs
        name = f"conv {n}x{c}x{size}x{size} to {k}, stride {stride}, fwd + bwd"
        rows.append(compare(name, ours, sides, rounds=rounds))
        print(table(rows[-1:]).splitlines()[-1], flush=True)
    return rows


def bench_overhead(peers: bool) -> list[Row]:
    """Microseconds for an operation on a few numbers, recorded for backward: everything but the arithmetic."""
    a, b = gn.ones(4, requires_grad=True), gn.ones(4)
    w = gn.ones(4, 4, requires_grad=True)
    x = gn.ones(1, 4)
    cases: dict[str, tuple[Callable[[], Any], Callable[[], Any] | None]] = {
        "a + b": (lambda: a + b, None),
        "a * 2.0": (lambda: a * 2.0, None),
        "relu": (lambda: a.relu(), None),
        "sum": (lambda: a.sum(), None),
        "reshape": (lambda: a.reshape(2, 2), None),
        "linear": (lambda: F.linear(x, w), None),
        "(a * 2).sum().backward()": (lambda: (a * 2.0).sum().backward(), None),
    }
    if peers:
        import torch

        ta, tb = torch.ones(4, requires_grad=True), torch.ones(4)
        tw, tx = torch.ones(4, 4, requires_grad=True), torch.ones(1, 4)
        theirs: list[Callable[[], Any]] = [
            lambda: ta + tb,
            lambda: ta * 2.0,
            lambda: torch.relu(ta),
            lambda: ta.sum(),
            lambda: ta.reshape(2, 2),
            lambda: torch.nn.functional.linear(tx, tw),
            lambda: (ta * 2.0).sum().backward(),
        ]
        cases = {name: (ours, peer) for (name, (ours, _)), peer in zip(cases.items(), theirs, strict=True)}

    def many(function: Callable[[], Any]) -> Callable[[], None]:
        def run() -> None:
            for _ in range(200):
                function()

        return run

    rows = []
    for name, (ours, peer) in cases.items():
        sides = {} if peer is None else {"PyTorch": many(peer)}
        rows.append(compare(f"overhead: {name}", many(ours), sides, rounds=25, scale=1e6 / 200, unit="us"))
        print(table(rows[-1:]).splitlines()[-1], flush=True)
    return rows


def _python(code: str) -> Callable[[], str]:
    return lambda: subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def bench_import(peers: bool) -> list[Row]:
    """Seconds from starting Python to having imported."""
    sides = {"PyTorch": _python("import torch")} if peers else {}
    once: dict[str, Any] = {"rounds": 5, "warmup": 1, "scale": 1, "unit": "s"}
    rows = [compare("import, with Python's own start", _python("import gpunet"), sides, **once)]
    rows.append(compare("Python's own start with NumPy", _python("import numpy"), {}, **once))
    print("\n".join(table(rows).splitlines()[2:]), flush=True)
    return rows


def run_steps(side: str, what: str, count: int) -> None:
    """In a process of its own: a few steps, then the peak resident memory in MB on stdout."""
    name, options, shape = STEPS[what]
    if side == "gpunet":
        step: Any = our_step(name, options, shape)[0]
    else:
        import torch

        torch.set_num_threads(gn.get_num_threads())
        step = torch_step(name, options, shape, side == "channels_last")[0]
    for _ in range(count):
        step()
    print(_peak_memory())


def _peak_memory() -> float:
    """Largest resident memory of this process so far, in MB."""
    try:
        # ru_maxrss survives fork and exec: a child would report its parent's peak.
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return int(status.partition("VmHWM:")[2].split()[0]) / 1024
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def bench_memory(peers: bool, threads: int) -> list[Row]:
    """Peak resident memory of a process that trains a few steps; nothing else is in it."""
    rows = []
    for what in STEPS:

        def peak(side: str, what: str = what) -> float:
            code = (
                f"import gpunet; gpunet.set_num_threads({threads}); from benchmarks.cpu import run_steps; "
                f"run_steps({side!r}, {what!r}, 4)"
            )
            return float(_python(code)())

        ours = peak("gpunet")
        theirs = {f"PyTorch {side}": peak(side) for side in ("NCHW", "channels_last")} if peers else {}
        best = min(theirs, key=lambda name: theirs[name]) if theirs else ""
        ratio = ours / theirs[best] if theirs else None
        rows.append(Row(f"peak memory: {what}", "MB", ours, theirs.get(best), best, ratio, ratio, ratio))
        print(table(rows[-1:]).splitlines()[-1], flush=True)
    return rows


def bench_gemm(rounds: int, peers: bool) -> list[Row]:
    """A float32 product of 2048: what the machine gives."""
    a = np.random.default_rng(0).standard_normal((2048, 2048), np.float32)
    x = gn.from_numpy(a)
    sides: dict[str, Callable[[], Any]] = {}
    if peers:
        import torch

        t = torch.from_numpy(a)
        sides["PyTorch"] = lambda: t @ t
    row = compare("matmul 2048", lambda: x @ x, sides, rounds=rounds)
    rate = 2 * 2048**3 / min(seconds(lambda: x @ x) for _ in range(5)) / 1e9
    row.note = f"best {rate:.0f} GFLOP/s"
    print(table([row]).splitlines()[-1], flush=True)
    return [row]


def main() -> None:
    """Run the parts asked for, print the table, write CSV and JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--name", default=f"cpu-{datetime.now(UTC):%Y-%m-%d}")
    arguments = parser.parse_args()
    gn.set_num_threads(arguments.threads)
    peers = True
    try:
        import torch

        torch.set_num_threads(arguments.threads)
    except ModuleNotFoundError:
        peers = False
        print("PyTorch is not installed: gpunet is timed alone")
    about = environment(["numpy", "torch"])
    about["versions"]["gpunet"] = gn.__version__
    about["threads"] = arguments.threads
    print(f"{about['processor']}, {arguments.threads} threads, {about['versions']}\n")
    parts: dict[str, Callable[[], list[Row]]] = {
        "gemm": lambda: bench_gemm(arguments.rounds, peers),
        "step": lambda: bench_steps(arguments.rounds, peers),
        "layers": lambda: bench_layers(arguments.rounds, peers),
        "overhead": lambda: bench_overhead(peers),
        "import": lambda: bench_import(peers),
        "memory": lambda: bench_memory(peers, arguments.threads),
    }
    rows = [row for part in PARTS if part in arguments.only for row in parts[part]()]
    print("\n" + table(rows))
    write(arguments.name, rows, about, arguments.out)


if __name__ == "__main__":
    main()
