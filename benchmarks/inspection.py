"""What summaries cost: ``python -m benchmarks.inspection``.

Time of ``gn.inspect.summary`` by name, warm and as the first call of a fresh process, and the process's peak memory,
in which no weight is allocated. The bar: resnet152 in under a second and under 200 MB.

    python -m benchmarks.inspection [--rounds 7] [--out FOLDER]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import gpunet as gn
from benchmarks.harness import Row, compare, environment, table, write
from gpunet.models import list_models

NAMES = ("resnet152", "densenet201", "vgg16", "googlenet", "alexnet2012", "cifar_resnet1202")
BUILT = "resnet50"

# Linux counts what the parent had before it became this program in ru_maxrss; VmHWM is this program's own.
FRESH = """
import resource, sys, time
import gpunet as gn
def peak():
    try:
        with open("/proc/self/status") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
imported = peak()
start = time.perf_counter()
text = str(gn.inspect.summary({name!r}))
print(time.perf_counter() - start, imported, peak())
"""


def fresh(name: str, rounds: int) -> list[Row]:
    """The first summary of a process, as the command line's: its time, and the process's peak memory."""
    runs = []
    for _ in range(rounds):
        done = subprocess.run(
            [sys.executable, "-c", FRESH.format(name=name)], check=True, capture_output=True, text=True
        )
        runs.append([float(word) for word in done.stdout.split()])
    seconds, before, peak = (statistics.median(values) for values in zip(*runs, strict=True))
    note = f"{before / 1e6:.1f} MB of it after the import"
    return [
        Row(f"summary({name!r}) with its table, first of a process", "ms", seconds * 1e3, None, "", None, None, None),
        Row(f"summary({name!r}), peak memory of the process", "MB", peak / 1e6, None, "", None, None, None, note),
    ]


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    rows: list[Row] = []
    for name in NAMES:
        rows.append(
            compare(f"summary({name!r})", lambda name=name: gn.inspect.summary(name), {}, rounds=arguments.rounds)
        )
        rows += fresh(name, arguments.rounds)
    model = gn.models.get_model(BUILT)
    rows.append(
        compare(f"summary of a {BUILT} on the CPU", lambda: gn.inspect.summary(model), {}, rounds=arguments.rounds)
    )
    rows.append(
        compare(
            f"summaries of all {len(list_models())} models",
            lambda: [gn.inspect.summary(name) for name in list_models()],
            {},
            rounds=3,
            warmup=0,
        )
    )
    about = environment(["numpy"])
    print(table(rows))
    write(f"inspect-cpu-{datetime.now(UTC).date()}", rows, about, arguments.out)


if __name__ == "__main__":
    main()
