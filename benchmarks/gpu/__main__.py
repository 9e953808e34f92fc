"""gpunet beside PyTorch with cuDNN, on a GPU and in one process.

    python -m benchmarks.gpu conv      convolution: verified, then timed
    python -m benchmarks.gpu lstm      the LSTM, beside cuDNN's: verified, then timed
    python -m benchmarks.gpu all       every benchmark of this package
    python -m benchmarks.gpu report    the GPU tests, compute-sanitizer and the benchmarks, and one report of it all

Exit status: 0; 1 if a result was wrong or a step failed; 2, with one line that says why, if nothing could be run.
``--device cpu-layer`` runs everything but the measuring on a machine without a GPU: gpunet's kernels on the CPU, on
tiny shapes. Nothing is written then unless ``--out`` says where, and never to benchmarks/results.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import gpunet as gn
from benchmarks.gpu import lstm as lstm_rows
from benchmarks.gpu import lstm_tables
from benchmarks.gpu.conv import plan, run_conv
from benchmarks.gpu.machine import ROOT, Machine, NotAvailable, open_machine, set_precision, without_places
from benchmarks.gpu.report import run_report
from benchmarks.gpu.tables import HEADER, file_stem, row_line, summary_lines, write_conv
from benchmarks.gpu.workloads import NETWORKS
from benchmarks.harness import environment

RESULTS = ROOT / "benchmarks" / "results"


class Tables(NamedTuple):
    """What is printed and written of a benchmark's rows.

    Attributes:
        header: of the table.
        line: a row's.
        summary: of all rows.
        write: the files; takes their stem, the rows, what they ran on and a folder.
        group: rows of the same group stand together; what is there is written behind each group.
    """

    header: str
    line: Callable[[Any], str]
    summary: Callable[[Sequence[Any]], list[str]]
    write: Callable[[str, Sequence[Any], dict[str, Any], Path], list[Path]]
    group: Callable[[Any], str]


def conv(options: argparse.Namespace) -> int:
    """Run the convolutions; print the table and its summary, and write them."""
    machine = open_machine(options.device)
    rows = plan(options.only or list(NETWORKS), options.batch, options.quick, tiny=not machine.measures)
    shown = Tables(HEADER, row_line, summary_lines, write_conv, lambda row: row.network)
    return _run(options, machine, "conv", "float32 without TF32 on both sides", rows, run_conv, shown)


def lstm(options: argparse.Namespace) -> int:
    """Run the LSTMs; print the table and its summary, and write them."""
    machine = open_machine(options.device)
    rows = lstm_rows.plan(options.quick, tiny=not machine.measures)
    shown = Tables(
        lstm_tables.HEADER,
        lstm_tables.row_line,
        lstm_tables.summary_lines,
        lstm_tables.write_lstm,
        lambda row: row.precision,
    )
    precision = "float32, TF32 and bfloat16, each on both sides"
    return _run(options, machine, "lstm", precision, rows, lstm_rows.run_lstm, shown)


def _run(
    options: argparse.Namespace,
    machine: Machine,
    name: str,
    precision: str,
    planned: list[Any],
    run: Callable[..., Iterator[Any]],
    shown: Tables,
) -> int:
    """Run the rows; print the table and its summary, and write them."""
    set_precision(machine.torch, tf32=False)
    ceilings = {"gemm_flops": machine.gemm_ceiling(), "copy_bytes": machine.copy_ceiling()}
    about = environment(["numpy", "torch", "cupy-cuda12x", "cupy-cuda13x"])
    about["versions"]["gpunet"] = gn.__version__
    about |= {
        "command": without_places(f"python -m benchmarks.gpu {shlex.join(options.command_line)}"),
        "commit": _commit(),
    }
    about |= {"device": machine.about(), "ceilings": ceilings, "precision": precision}
    print(f"{machine.name}: float32 GEMM {ceilings['gemm_flops'] / 1e12:.3g} TFLOP/s, ", end="")
    columns = shown.header.count("|") - 1
    print(f"copy {ceilings['copy_bytes'] / 1e9:.4g} GB/s\n\n{shown.header}\n{'|---' * columns}|", flush=True)
    stem = file_stem(name, machine.name)
    folder = options.out or (RESULTS if machine.measures else None)
    rows: list[Any] = []
    written: list[Path] = []

    def save() -> None:
        if rows and folder is not None:
            written[:] = shown.write(stem, rows, about, folder)

    rounds = options.rounds or (5 if options.quick else 11)
    try:
        for row in run(machine, planned, ceilings=ceilings, rounds=rounds, time_limit=options.time_limit):
            if rows and shown.group(rows[-1]) != shown.group(row):
                save()  # what is there survives whatever happens to the rest
            rows.append(row)
            print(shown.line(row), flush=True)
    except KeyboardInterrupt:
        about["cut_short"] = "interrupted"
    if len(rows) < len(planned):
        about.setdefault("cut_short", f"{len(rows)} of {len(planned)} rows in {options.time_limit} s")
    save()
    print("\n" + "\n".join(shown.summary(rows)))
    if "cut_short" in about:
        print(f"\ncut short: {about['cut_short']}")
    if not machine.measures:
        print("\nThis ran on the CPU layer: the times mean nothing.")
    print("".join(f"\nwritten: {path}" for path in written))
    return 0 if rows and all(row.status == "ok" for row in rows) else 1


# Every GPU benchmark there is, and its share of a limited time.
BENCHMARKS: dict[str, Callable[[argparse.Namespace], int]] = {"conv": conv, "lstm": lstm}
SHARES = {"conv": 2.0, "lstm": 1.0}


def every(options: argparse.Namespace) -> int:
    """Run all of them, each for its share of the time that is left; the worst exit status."""
    end = None if options.time_limit is None else time.monotonic() + options.time_limit
    worst = 0
    for number, (name, run) in enumerate(BENCHMARKS.items()):
        if end is not None:
            share = SHARES[name] / sum(SHARES[other] for other in list(BENCHMARKS)[number:])
            options.time_limit = max(1, int((end - time.monotonic()) * share))
        worst = max(worst, run(options))
    return worst


def _commit() -> str | None:
    """The checkout's commit, marked where files differ from it."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name in (*BENCHMARKS, "all", "report"):
        sub = commands.add_parser(name)
        sub.add_argument("--quick", action="store_true", help="few shapes and rounds")
        sub.add_argument("--out", type=Path, help="folder for the files (default benchmarks/results)")
        if name == "report":
            sub.add_argument("--limit", type=_positive, help="seconds for everything (default 520 if quick, else 5400)")
            continue
        if name != "lstm":
            networks = ", ".join(NETWORKS)
            sub.add_argument("--only", nargs="+", choices=list(NETWORKS), metavar="NET", help=f"conv: {networks}")
            sub.add_argument("--batch", type=_positive, help="conv: images, instead of each network's own number")
        sub.add_argument("--rounds", type=_positive, help="of each side (default 11, or 5 if quick)")
        sub.add_argument("--time-limit", type=_positive, help="seconds after which no further row is begun")
        sub.add_argument("--device", choices=("gpu", "cpu-layer"), default="gpu")
    return parser


def _cannot_write(folder: Path) -> str | None:
    """Why no file can be written to a folder, found out by writing one; None if it can. It leaves nothing behind."""
    try:
        missing = [place for place in (folder, *folder.parents) if not place.exists()]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                return None
        finally:
            for place in missing:
                if place.is_dir():
                    place.rmdir()
    except FileExistsError:
        return "it is a file, not a folder"
    except OSError as error:
        return error.strerror or str(error)


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    command_line = list(sys.argv[1:] if arguments is None else arguments)
    options: Any = _parser().parse_args(command_line)
    options.command_line = command_line
    if options.out is not None and getattr(options, "device", "gpu") == "cpu-layer":
        target = options.out.resolve()
        if target == RESULTS or RESULTS in target.parents:
            print("benchmarks.gpu: times of the CPU layer are not results; choose another --out", file=sys.stderr)
            return 2
    # Measuring takes an hour: what cannot be written is said before, not after.
    if options.out is not None or getattr(options, "device", "gpu") == "gpu":
        reason = _cannot_write((options.out or RESULTS).absolute())
        if reason is not None:
            shown = without_places(str(options.out or RESULTS))
            print(f"benchmarks.gpu: --out: nothing can be written to {shown!r}: {reason}", file=sys.stderr)
            return 2
    try:
        if options.command == "report":
            return run_report(options.out or RESULTS, options.quick, options.limit)
        return every(options) if options.command == "all" else BENCHMARKS[options.command](options)
    except NotAvailable as error:
        print(f"benchmarks.gpu: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
