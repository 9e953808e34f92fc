"""What every benchmark does: alternate the sides, take medians of ratios, write down where and with what it ran."""

from __future__ import annotations

import csv
import importlib.metadata
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


@dataclass
class Row:
    """One line of a table: both sides' medians, and the median of the ratios of neighbouring runs."""

    workload: str
    unit: str
    gpunet: float
    peer: float | None
    peer_name: str
    ratio: float | None
    ratio_low: float | None
    ratio_high: float | None
    note: str = ""


def seconds(function: Callable[[], Any]) -> float:
    """How long one call takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def compare(
    workload: str,
    ours: Callable[[], Any],
    peers: dict[str, Callable[[], Any]],
    *,
    rounds: int = 15,
    warmup: int = 3,
    scale: float = 1e3,
    unit: str = "ms",
    note: str = "",
    pause: float = 0.0,
) -> Row:
    """Time the sides in turn, A B C A B C, and compare ours with the peer whose median is lowest.

    The ratio is taken round by round, so that a machine that slows down slows both; quartiles show its spread. Before
    each call there is a pause of so many seconds, in which worker threads of the side before come to rest.
    """
    sides = {"gpunet": ours, **peers}
    for _ in range(warmup):
        for side in sides.values():
            side()
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            time.sleep(pause)
            times[name].append(seconds(side))
    medians = {name: statistics.median(values) * scale for name, values in times.items()}
    if not peers:
        return Row(workload, unit, medians["gpunet"], None, "", None, None, None, note)
    best = min(peers, key=lambda name: medians[name])
    ratios = [a / b for a, b in zip(times["gpunet"], times[best], strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return Row(workload, unit, medians["gpunet"], medians[best], best, middle, low, high, note)


def environment(packages: Sequence[str]) -> dict[str, Any]:
    """Versions, processor and thread settings."""
    versions = {}
    for package in packages:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "versions": versions,
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            lines = dict(line.split(":", 1) for line in file if ":" in line)
    except OSError:
        return platform.processor()
    name = next((value.strip() for key, value in lines.items() if key.strip() == "model name"), platform.processor())
    flags = next((value.split() for key, value in lines.items() if key.strip() == "flags"), [])
    wide = [flag for flag in ("avx2", "avx512f") if flag in flags]
    return f"{name} ({', '.join(wide)})" if wide else name


def table(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table."""
    lines = ["| workload | gpunet | peer | ratio (quartiles) | |", "|---|---|---|---|---|"]
    for row in rows:
        peer = "" if row.peer is None else f"{row.peer:.4g} {row.unit} ({row.peer_name})"
        ratio = "" if row.ratio is None else f"**{row.ratio:.2f}** ({row.ratio_low:.2f} to {row.ratio_high:.2f})"
        lines.append(f"| {row.workload} | {row.gpunet:.4g} {row.unit} | {peer} | {ratio} | {row.note} |")
    return "\n".join(lines)


def write(name: str, rows: Sequence[Row], about: dict[str, Any], folder: Path) -> None:
    """Write NAME.csv and NAME.json."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / f"{name}.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(asdict(rows[0])))
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)
    document = {"environment": about, "rows": [asdict(row) for row in rows]}
    (folder / f"{name}.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
