"""What a run of the convolutions leaves: a CSV and a JSON of everything, a Markdown page to read, and its summary."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.gpu.conv import LAYOUTS, ConvRow
from benchmarks.gpu.timing import geometric_mean
from benchmarks.gpu.workloads import DIRECTIONS

__all__ = [
    "Loss",
    "about_lines",
    "file_stem",
    "losses",
    "markdown",
    "summary_lines",
    "total_ratio",
    "write_conv",
    "write_rows",
]


@dataclass(frozen=True)
class Loss:
    """A convolution that PyTorch's faster layout does in less time.

    Attributes:
        row: which.
        milliseconds: that gpunet takes more in one pass of the network, all of its repetitions together.
        certain: False where the quartiles of the ratio reach below 1.
    """

    row: ConvRow
    milliseconds: float
    certain: bool


def file_stem(benchmark: str, device: str, day: datetime | None = None) -> str:
    """``gpu-conv-nvidia-h200-2026-11-21``."""
    name = re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-")
    return f"gpu-{benchmark}-{name}-{day or datetime.now(UTC):%Y-%m-%d}"


def timed(rows: Iterable[ConvRow]) -> list[ConvRow]:
    """The rows that have times."""
    return [row for row in rows if row.status == "ok" and row.ratio_best is not None]


def losses(rows: Iterable[ConvRow]) -> list[Loss]:
    """Where PyTorch is ahead, the most time lost first."""
    found = []
    for row in timed(rows):
        peer = getattr(row, f"{row.best}_ms")
        if row.ratio_best > 1.0:
            low = getattr(row, f"ratio_{row.best}_low")
            found.append(Loss(row, (row.gpunet_ms - peer) * row.count, low > 1.0))
    return sorted(found, key=lambda loss: -loss.milliseconds)


def total_ratio(rows: Iterable[ConvRow], layout: str) -> float:
    """The time of all convolutions, each as often as its network has it, over PyTorch's in one layout."""
    kept = timed(rows)
    ours = sum(row.count * row.gpunet_ms for row in kept)
    return ours / sum(row.count * getattr(row, f"{layout}_ms") for row in kept)


def summary_lines(rows: Sequence[ConvRow]) -> list[str]:
    """Ratios by network and direction, as Markdown, then where gpunet loses, then what is not right."""
    lines = [
        "| network | direction | convolutions | mean ratio to NCHW | to channels_last | summed time to NCHW |"
        " to channels_last |",
        "|---|---|---|---|---|---|---|",
    ]
    kept = timed(rows)
    networks = list(dict.fromkeys(row.network for row in kept))
    for network in networks:
        for direction in DIRECTIONS:
            part = [row for row in kept if (row.network, row.direction) == (network, direction)]
            if not part:
                continue
            means = [geometric_mean([getattr(row, f"ratio_{layout}") for row in part]) for layout in LAYOUTS]
            totals = [total_ratio(part, layout) for layout in LAYOUTS]
            cells = " | ".join(f"{value:.2f}" for value in (*means, *totals))
            lines.append(f"| {network} | {direction} | {len(part)} | {cells} |")
    if not kept:
        lines = ["Nothing was timed."]
    found = losses(rows)
    lines += ["", f"gpunet is ahead of PyTorch's faster layout in {len(kept) - len(found)} of {len(kept)} rows."]
    if found:
        lines += [
            "",
            "Where it loses, by the time lost in one pass of the network:",
            "",
            "| network | convolution | direction | ratio | lost | GEMM ceiling | copy ceiling | |",
            "|---|---|---|---|---|---|---|---|",
        ]
    for loss in found:
        row = loss.row
        lines.append(
            f"| {row.network} | {row.workload} | {row.direction} | {row.ratio_best:.2f} to {row.best} | "
            f"{loss.milliseconds:.3f} ms | {row.gemm_share:.0%} | {row.copy_share:.0%} | "
            f"{'' if loss.certain else 'within the spread'} |"
        )
    bad = [row for row in rows if row.status != "ok"]
    lines += ["", f"{len(bad)} of {len(rows)} rows were wrong or failed{':' if bad else '.'}"]
    lines += [f"- {row.network}, {row.workload}, {row.direction}: {row.status}: {row.note}" for row in bad]
    return lines


HEADER = (
    "| convolution | direction | x | gpunet ms (quartiles) | NCHW ms | channels_last ms | ratio NCHW (quartiles) |"
    " ratio channels_last (quartiles) | TFLOP/s | GEMM ceiling | copy ceiling | host ms, PyTorch's |"
    " TF32 NCHW, channels_last ms | error | |"
)


def row_line(row: ConvRow) -> str:
    """A row of the Markdown table."""
    start = f"| {row.workload} | {row.direction} | {row.count} | "
    if row.gpunet_ms is None:
        return start + f"{row.status} |" + " |" * 10 + f" {row.note} |"
    ratios = [
        f"{getattr(row, f'ratio_{layout}'):.2f} ({getattr(row, f'ratio_{layout}_low'):.2f} to "
        f"{getattr(row, f'ratio_{layout}_high'):.2f})"
        for layout in LAYOUTS
    ]
    host = "" if row.host_ms is None or row.peer_host_ms is None else f"{row.host_ms:.3f}, {row.peer_host_ms:.3f}"
    return start + (
        f"{row.gpunet_ms:.4g} ({row.gpunet_low:.4g} to {row.gpunet_high:.4g}) | {row.nchw_ms:.4g} | "
        f"{row.channels_last_ms:.4g} | {ratios[0]} | {ratios[1]} | {row.tflops:.3g} | {row.gemm_share:.0%} | "
        f"{row.copy_share:.0%} | {host} | {row.nchw_tf32_ms:.4g}, {row.channels_last_tf32_ms:.4g} | "
        f"{row.error:.1e} of {row.bound:.0e} | {row.note} |"
    )


def markdown(rows: Sequence[ConvRow], about: dict[str, Any]) -> str:
    """The page: what it ran on, the summary, and a table for each network."""
    ceilings = about["ceilings"]
    lines = [
        *about_lines("Convolution", about),
        "",
        "Exact float32 on both sides. Times are device milliseconds between events, medians of turns in one process; a "
        "ratio is gpunet's time over PyTorch's, below 1 gpunet is ahead. TF32 columns are PyTorch's alone. Host ms is "
        "what it takes to ask for a call. Ceilings, measured in the same run: float32 GEMM "
        f"{ceilings['gemm_flops'] / 1e12:.1f} TFLOP/s, copy {ceilings['copy_bytes'] / 1e9:.0f} GB/s read and written.",
        "",
    ]
    if about.get("cut_short"):
        lines += [f"Cut short: {about['cut_short']}.", ""]
    lines += ["## Summary", "", *summary_lines(rows)]
    for network in dict.fromkeys(row.network for row in rows):
        lines += ["", f"## {network}", "", HEADER, "|---" * 15 + "|"]
        lines += [row_line(row) for row in rows if row.network == network]
    return "\n".join(lines) + "\n"


def about_lines(title: str, about: dict[str, Any]) -> list[str]:
    """The head of a page: what ran, on what."""
    return [
        f"# {title} on {about['device']['gpu'] or 'the CPU layer: no measurement'}, {about['date']}",
        "",
        f"`{about['command']}`; versions {_pairs(about['versions'])}; {_pairs(about['device'])}.",
    ]


def _pairs(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items() if value is not None)


def write_conv(stem: str, rows: Sequence[ConvRow], about: dict[str, Any], folder: Path) -> list[Path]:
    """Write STEM.csv, STEM.json and STEM.md; return their paths."""
    return write_rows(stem, ConvRow, rows, about, markdown(rows, about), folder)


def write_rows(stem: str, kind: Any, rows: Sequence[Any], about: dict[str, Any], page: str, folder: Path) -> list[Path]:
    """Write the rows, which are dataclasses of one kind, as STEM.csv and STEM.json, and the page as STEM.md."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{stem}.{ending}" for ending in ("csv", "json", "md")]
    with open(paths[0], "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=[field.name for field in fields(kind)])
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)
    document = {"environment": about, "rows": [asdict(row) for row in rows]}
    paths[1].write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    paths[2].write_text(page, encoding="utf-8")
    return paths
