"""The summary and the files, from rows whose numbers are made up."""

import csv
import json
from datetime import UTC, datetime

import pytest

from benchmarks.gpu.conv import ConvRow, fill
from benchmarks.gpu.tables import file_stem, losses, markdown, summary_lines, total_ratio, write_conv
from benchmarks.gpu.timing import Measurement, Sample
from benchmarks.gpu.workloads import Conv

ABOUT = {
    "date": "2026-11-21T12:00:00+00:00",
    "command": "python -m benchmarks.gpu conv",
    "versions": {"torch": "2.13.0", "cupy-cuda12x": None},
    "device": {"gpu": "NVIDIA H200"},
    "ceilings": {"gemm_flops": 50e12, "copy_bytes": 4e12},
}
CONV = Conv(4, 8, 10, 16, 3, 1, 1)


def row(ours, nchw, channels_last, count=1, network="net", direction="forward"):
    """A row from rounds of seconds."""
    found = ConvRow(network, str(CONV), direction, count, error=1e-7, bound=1e-5)
    sides = {"gpunet": ours, "nchw": nchw, "channels_last": channels_last}
    sides |= {"nchw_tf32": nchw, "channels_last_tf32": channels_last}
    times = {name: Measurement(tuple(Sample(value, 1e-5) for value in values), 1) for name, values in sides.items()}
    fill(found, CONV, times, ABOUT["ceilings"])
    return found


def test_a_row_against_arithmetic_by_hand():
    found = row([2e-3] * 3, [4e-3] * 3, [1e-3] * 3)
    assert (found.gpunet_ms, found.nchw_ms, found.channels_last_ms) == pytest.approx((2, 4, 1))
    assert (found.ratio_nchw, found.ratio_channels_last) == pytest.approx((0.5, 2))
    assert (found.best, found.ratio_best) == ("channels_last", found.ratio_channels_last)
    flops = 2 * (4 * 16 * 100) * (8 * 9)
    moved = 4 * (4 * 8 * 100 + 16 * 8 * 9 + 4 * 16 * 100)
    assert found.tflops == pytest.approx(flops / 2e-3 / 1e12)
    assert found.best_tflops == pytest.approx(2 * found.tflops)
    assert found.gemm_share == pytest.approx(flops / 2e-3 / 50e12)
    assert found.copy_share == pytest.approx(moved / 2e-3 / 4e12)
    assert found.floor_ms == pytest.approx(1e3 * max(flops / 50e12, moved / 4e12))
    assert found.floor_share == pytest.approx(found.floor_ms / 2)
    assert (found.host_ms, found.peer_host_ms) == pytest.approx((0.01, 0.01))
    assert found.note == ""


def test_losses_are_sorted_by_the_time_that_a_network_loses():
    once = row([2e-3] * 3, [3e-3] * 3, [1e-3] * 3)  # 1 ms
    often = row([1.5e-3] * 3, [3e-3] * 3, [1e-3] * 3, count=5)  # 2.5 ms
    ahead = row([0.5e-3] * 3, [3e-3] * 3, [1e-3] * 3)
    unsure = row([0.8e-3, 1.1e-3, 1.2e-3, 1.3e-3, 0.9e-3], [3e-3] * 5, [1e-3] * 5)
    found = losses([once, ahead, unsure, often])
    assert [loss.row for loss in found] == [often, once, unsure]
    assert [loss.milliseconds for loss in found] == pytest.approx([2.5, 1.0, 0.1])
    assert [loss.certain for loss in found] == [True, True, False]


def test_summary():
    rows = [row([2e-3] * 3, [1e-3] * 3, [4e-3] * 3), row([1e-3] * 3, [2e-3] * 3, [2e-3] * 3, count=4)]
    rows.append(ConvRow("net", "broken", "forward", 1, status="wrong", note="relative error 0.5"))
    text = "\n".join(summary_lines(rows))
    # Ratios 2 and 1/2 to NCHW, 1/2 and 1/2 to channels_last; 2 + 4 ms beside 1 + 8 and 4 + 8.
    assert "| net | forward | 2 | 1.00 | 0.50 | 0.67 | 0.50 |" in text
    assert total_ratio(rows, "nchw") == pytest.approx(6 / 9)
    assert "ahead of PyTorch's faster layout in 1 of 2 rows" in text
    assert "1 of 3 rows were wrong or failed:" in text
    assert "broken, forward: wrong: relative error 0.5" in text
    assert "Nothing was timed." in summary_lines(rows[2:])


def test_files(tmp_path):
    day = datetime(2026, 11, 21, tzinfo=UTC)
    assert file_stem("conv", "NVIDIA H200", day) == "gpu-conv-nvidia-h200-2026-11-21"
    assert file_stem("conv", "NVIDIA GeForce RTX 4090 (Laptop)", day).startswith(
        "gpu-conv-nvidia-geforce-rtx-4090-laptop-2"
    )
    rows = [
        row([2e-3] * 3, [1e-3] * 3, [4e-3] * 3),
        ConvRow("net", "broken", "forward", 1, status="failed", note="why"),
    ]
    paths = write_conv("stem", rows, ABOUT, tmp_path / "new")
    assert [path.name for path in paths] == ["stem.csv", "stem.json", "stem.md"]
    with open(paths[0], encoding="utf-8", newline="") as file:
        kept = list(csv.DictReader(file))
    assert [(line["status"], line["gpunet_ms"], line["note"]) for line in kept] == [
        ("ok", "2.0", ""),
        ("failed", "", "why"),
    ]
    document = json.loads(paths[1].read_text(encoding="utf-8"))
    assert document["environment"] == ABOUT
    assert [line["ratio_nchw"] for line in document["rows"]] == [2.0, None]
    page = paths[2].read_text(encoding="utf-8")
    assert page == markdown(rows, ABOUT)
    assert "NVIDIA H200" in page
    assert "50.0 TFLOP/s, copy 4000 GB/s" in page


def test_every_line_of_a_table_has_as_many_cells():
    rows = [
        row([2e-3] * 3, [1e-3] * 3, [4e-3] * 3),
        ConvRow("net", "broken", "forward", 1, status="failed", note="why"),
    ]
    for table in markdown(rows, ABOUT).split("\n\n"):
        lines = [line for line in table.splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in lines}) <= 1, lines
