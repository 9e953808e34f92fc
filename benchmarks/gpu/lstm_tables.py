"""What a run of the LSTM leaves: a CSV and a JSON of everything, a Markdown page to read, and its summary."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.gpu.lstm import DIRECTIONS, PRECISIONS, LstmRow
from benchmarks.gpu.tables import about_lines, write_rows
from benchmarks.gpu.timing import geometric_mean

__all__ = ["HEADER", "markdown", "row_line", "summary_lines", "write_lstm"]

HEADER = (
    "| LSTM | direction | gpunet ms (quartiles) | cuDNN ms (quartiles) | ratio (quartiles) | two launches a step, ms |"
    " us a step, cuDNN's | TFLOP/s, cuDNN's | GEMM ceiling | host ms, PyTorch's | error, cuDNN's, allowed | way | |"
)
COLUMNS = HEADER.count("|") - 1


def timed(rows: Iterable[LstmRow]) -> list[LstmRow]:
    """The rows that have times."""
    return [row for row in rows if row.status == "ok" and row.ratio is not None]


def summary_lines(rows: Sequence[LstmRow]) -> list[str]:
    """Ratios by precision and direction, as Markdown, then where gpunet loses, then what is not right."""
    kept = timed(rows)
    lines = ["| precision | direction | workloads | mean ratio to cuDNN | best | worst | ahead in |", "|---" * 7 + "|"]
    for precision in PRECISIONS:
        for direction in DIRECTIONS:
            ratios = [row.ratio for row in kept if (row.precision, row.direction) == (precision, direction)]
            found = [value for value in ratios if value is not None]
            if found:
                ahead = sum(value < 1 for value in found)
                lines.append(
                    f"| {precision} | {direction} | {len(found)} | {geometric_mean(found):.2f} | {min(found):.2f} | "
                    f"{max(found):.2f} | {ahead} |"
                )
    if not kept:
        lines = ["Nothing was timed."]
    lost = sorted((row for row in kept if (row.ratio or 0) > 1), key=lambda row: -(row.ratio or 0))
    lines += ["", f"gpunet is ahead of cuDNN in {len(kept) - len(lost)} of {len(kept)} rows."]
    if lost:
        lines += ["", "Where it loses:", "", "| precision | LSTM | direction | ratio | way | |", "|---" * 6 + "|"]
    for row in lost:
        certain = "" if (row.ratio_low or 0) > 1 else "within the spread"
        lines.append(
            f"| {row.precision} | {row.workload} | {row.direction} | {row.ratio:.2f} | {row.kernel} | {certain} |"
        )
    bad = [row for row in rows if row.status != "ok"]
    lines += ["", f"{len(bad)} of {len(rows)} rows were wrong or failed{':' if bad else '.'}"]
    lines += [f"- {row.precision}, {row.workload}, {row.direction}: {row.status}: {row.note}" for row in bad]
    return lines


def row_line(row: LstmRow) -> str:
    """A row of the Markdown table."""
    start = f"| {row.precision}, {row.workload} | {row.direction} | "
    if row.gpunet_ms is None:
        return start + f"{row.status} |" + " |" * (COLUMNS - 4) + f" {row.note} |"
    launches = "" if row.launches_ms is None else f"{row.launches_ms:.4g}"
    host = "" if row.host_ms is None or row.peer_host_ms is None else f"{row.host_ms:.3f}, {row.peer_host_ms:.3f}"
    return start + (
        f"{row.gpunet_ms:.4g} ({row.gpunet_low:.4g} to {row.gpunet_high:.4g}) | "
        f"{row.cudnn_ms:.4g} ({row.cudnn_low:.4g} to {row.cudnn_high:.4g}) | "
        f"{row.ratio:.2f} ({row.ratio_low:.2f} to {row.ratio_high:.2f}) | {launches} | "
        f"{row.step_us:.3g}, {row.peer_step_us:.3g} | {row.tflops:.3g}, {row.cudnn_tflops:.3g} | "
        f"{row.gemm_share:.0%} | {host} | {row.error:.1e}, {row.error_cudnn:.1e}, {row.bound:.0e} | {row.kernel} | "
        f"{row.note} |"
    )


def markdown(rows: Sequence[LstmRow], about: dict[str, Any]) -> str:
    """The page: what it ran on, the summary, and a table for each precision."""
    lines = about_lines("LSTM", about)
    lines += [
        "",
        "One layer, one direction, as many features as units. float32 is exact on both sides, tf32 allowed on both, "
        "bfloat16 stored by both. Times are device milliseconds between events, medians of turns in one process; a "
        "ratio is gpunet's time over that of torch.nn.LSTM, which runs cuDNN; below 1 gpunet is ahead. Forward keeps "
        "nothing for gradients; forward + backward computes those of all inputs and weights. The GEMM ceiling is "
        "float32's without TF32, whatever the row's precision.",
        "",
    ]
    if about.get("cut_short"):
        lines += [f"Cut short: {about['cut_short']}.", ""]
    lines += ["## Summary", "", *summary_lines(rows)]
    for precision in dict.fromkeys(row.precision for row in rows):
        lines += ["", f"## {precision}", "", HEADER, "|---" * COLUMNS + "|"]
        lines += [row_line(row) for row in rows if row.precision == precision]
    return "\n".join(lines) + "\n"


def write_lstm(stem: str, rows: Sequence[LstmRow], about: dict[str, Any], folder: Path) -> list[Path]:
    """Write STEM.csv, STEM.json and STEM.md; return their paths."""
    return write_rows(stem, LstmRow, rows, about, markdown(rows, about), folder)
