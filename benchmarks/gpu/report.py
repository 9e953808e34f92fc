"""Everything a GPU can show, in one command and one report: ``python -m benchmarks.gpu report``.

The GPU tests, compute-sanitizer over the kernel tests, and the benchmarks, each in a process of its own with a share of
the time. A step that fails, hangs or cannot be started is written down, and the next one begins.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import gpunet as gn
from benchmarks.gpu.machine import ROOT, NotAvailable, without_places
from benchmarks.gpu.tables import file_stem
from benchmarks.harness import environment
from gpunet.backend import devices

__all__ = ["Outcome", "Step", "junit_counts", "run_report", "run_step", "run_steps", "steps"]

QUICK_SECONDS, SECONDS = 520, 5400
# A process that is told to stop gets so long to write down what it has.
GRACE_SECONDS = 15.0
LINES_KEPT = 60
FIRST = (
    "tests/kernels",
    "tests/benchmarks",
    "tests/backend",
    "tests/cuda",
    "tests/models",
    "tests/ops/test_convolution_on_gpu.py",
)
NO_TESTS = 5  # pytest's exit status


@dataclass(frozen=True)
class Step:
    """One command of the report.

    Attributes:
        name: of the step.
        command: makes it, from the seconds it may take and the file for its JUnit report.
        weight: its share of the time that is left when it begins, beside those of the steps that follow.
        good: the exit statuses of success.
    """

    name: str
    command: Callable[[float, Path], list[str]]
    weight: float = 1.0
    good: tuple[int, ...] = (0,)


@dataclass
class Outcome:
    """What became of a step.

    Attributes:
        status: ``"ok"``, ``"failed"``, ``"timed out"``, ``"not started"`` or ``"nothing ran"`` (all tests skipped).
        counts: of its tests: passed, failed, errors, skipped; empty where it runs none.
        failures: the tests that failed, each with the first line of why.
        skips: reason to number.
        tail: the end of what it printed, where it did not succeed.
    """

    name: str
    status: str
    command: list[str]
    exit_code: int | None = None
    seconds: float = 0.0
    limit: float = 0.0
    counts: dict[str, int] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    skips: dict[str, int] = field(default_factory=dict)
    tail: list[str] = field(default_factory=list)


def run_step(step: Step, limit: float, folder: Path) -> Outcome:
    """Run a step; interrupt it at its limit, and end it where it does not stop."""
    junit, log = folder / "junit.xml", folder / "output.txt"
    junit.unlink(missing_ok=True)
    outcome = Outcome(step.name, "not started", step.command(limit, junit), limit=limit)
    begin = time.monotonic()
    try:
        with open(log, "wb") as file:
            process = subprocess.Popen(
                outcome.command,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=os.environ | {"PYTHONUNBUFFERED": "1"},
                start_new_session=True,
            )
            late = not _ends(process, limit)
    except OSError as error:
        outcome.tail = [str(error)]
        return outcome
    outcome.seconds = time.monotonic() - begin
    outcome.exit_code = process.returncode
    outcome.status = "timed out" if late else "ok" if process.returncode in step.good else "failed"
    if junit.is_file():
        outcome.counts, outcome.failures, outcome.skips = junit_counts(junit)
        if outcome.status == "ok" and process.returncode != NO_TESTS and not outcome.counts.get("passed"):
            outcome.status = "nothing ran"
    if outcome.status != "ok":
        outcome.tail = log.read_text(encoding="utf-8", errors="replace").splitlines()[-LINES_KEPT:]
    return outcome


def _ends(process: subprocess.Popen[bytes], limit: float) -> bool:
    """Wait for a process; whether it ended by itself within the limit. It has ended on return."""
    for number, patience in ((None, limit), (signal.SIGINT, GRACE_SECONDS), (signal.SIGKILL, None)):
        if number is not None:
            os.killpg(process.pid, number)
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            continue
        except KeyboardInterrupt:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        return number is None
    return False


def junit_counts(path: Path) -> tuple[dict[str, int], list[str], dict[str, int]]:
    """Count the tests of a JUnit report: by outcome, the failures' names and first lines, the skips by reason."""
    counts = Counter({"passed": 0, "failed": 0, "errors": 0, "skipped": 0})
    failures: list[str] = []
    skips: Counter[str] = Counter()
    for case in ElementTree.parse(path).iter("testcase"):
        found = {child.tag: child for child in case}
        name = f"{case.get('classname', '')}::{case.get('name', '')}"
        for tag, outcome in (("failure", "failed"), ("error", "errors")):
            if tag in found:
                counts[outcome] += 1
                failures.append(f"{name}: {(found[tag].get('message') or '').partition(chr(10))[0]}")
                break
        else:
            if "skipped" in found:
                counts["skipped"] += 1
                skips[found["skipped"].get("message") or ""] += 1
            else:
                counts["passed"] += 1
    return dict(counts), failures, dict(skips)


def steps(quick: bool, out: Path) -> list[Step]:
    """The report's steps."""
    # A test that compiles kernels for a GPU for the first time takes longer than the project's own limit.
    patient = ["--timeout=600"] if importlib.util.find_spec("pytest_timeout") else []

    def tests(marks: str, *where: str) -> Callable[[float, Path], list[str]]:
        def command(limit: float, junit: Path) -> list[str]:
            options = ["-q", "-p", "no:cacheprovider", f"--junitxml={junit}", *patient]
            return [sys.executable, "-m", "pytest", "-m", marks, *options, *where]

        return command

    def benchmark(limit: float, junit: Path) -> list[str]:
        # It ends by itself, with its tables written, before it would be stopped.
        seconds = max(1, int(limit - 0.15 * limit))
        options = ["--out", str(out), "--time-limit", str(seconds), *(["--quick"] if quick else [])]
        return [sys.executable, "-m", "benchmarks.gpu", "all", *options]

    sanitizer = "tests/kernels/test_compute_sanitizer.py"
    # What the kernels are there for comes first; the samples of every operation have much to compile, and may be cut.
    first = [where for where in FIRST if (ROOT / where).exists()]
    rest = ["tests", *(f"--ignore={where}" for where in first)]
    found = [
        Step("GPU tests: kernels and networks", tests("gpu and not slow", *first), 3.0),
        Step("benchmarks", benchmark, 3.0),
        Step("GPU tests: the rest", tests("gpu and not slow", *rest), 2.5),
        Step("compute-sanitizer", tests("gpu and slow", sanitizer), 2.5),
    ]
    if not quick:
        found.append(
            Step("slow GPU tests", tests("gpu and slow", "tests", f"--ignore={sanitizer}"), 2.0, (0, NO_TESTS))
        )
    return found


def run_steps(chosen: Sequence[Step], seconds: float) -> list[Outcome]:
    """Run the steps one after the other; time that one leaves goes to those that follow."""
    end = time.monotonic() + seconds
    outcomes = []
    with tempfile.TemporaryDirectory() as folder:
        for number, step in enumerate(chosen):
            left = max(1.0, end - time.monotonic() - GRACE_SECONDS)
            limit = left * step.weight / sum(other.weight for other in chosen[number:])
            print(f"{step.name}: at most {limit:.0f} s", flush=True)
            outcome = run_step(step, limit, Path(folder))
            outcomes.append(outcome)
            print(f"{step.name}: {_said(outcome)}", flush=True)
    return outcomes


def _said(outcome: Outcome) -> str:
    counted = ", ".join(f"{number} {what}" for what, number in outcome.counts.items() if number)
    return f"{outcome.status} after {outcome.seconds:.0f} s" + (f": {counted}" if counted else "")


def markdown(outcomes: Sequence[Outcome], about: dict[str, Any], files: Sequence[str]) -> str:
    """The report to read."""
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items() if version)
    lines = [f"# GPU report: {about['gpu']}, {about['date']}", "", f"Python {about['python']}, {versions}.", ""]
    lines += ["| step | status | seconds | passed | failed | errors | skipped |", "|---|---|---|---|---|---|---|"]
    for outcome in outcomes:
        numbers = " | ".join(str(outcome.counts.get(k, "")) for k in ("passed", "failed", "errors", "skipped"))
        lines.append(f"| {outcome.name} | {outcome.status} | {outcome.seconds:.0f} | {numbers} |")
    if files:
        lines += ["", f"Benchmarks: {', '.join(files)}."]
    for outcome in outcomes:
        lines += ["", f"## {outcome.name}", "", f"    {' '.join(outcome.command)}", ""]
        lines += [f"- failed: {failure}" for failure in outcome.failures]
        lines += [f"- skipped, {number}: {reason}" for reason, number in sorted(outcome.skips.items())]
        if outcome.tail:
            lines += ["", "```", *outcome.tail, "```"]
    return "\n".join(lines) + "\n"


def run_report(out: Path, quick: bool, limit: int | None = None) -> int:
    """Run everything and write gpu-report-GPU-DATE.md and .json.

    Args:
        out: folder for the report and the benchmarks' files.
        quick: few shapes; within nine minutes.
        limit: seconds for everything.

    Returns:
        0, or 1 if a step was not ok.

    Raises:
        NotAvailable: there is no GPU.
    """
    reason = devices.cuda_unavailable_reason()
    if reason is not None:
        raise NotAvailable(f"no GPU: {reason}")
    name = gn.cuda.get_device_name()
    about = environment(["numpy", "torch", "cupy-cuda12x", "cupy-cuda13x", "pytest"])
    about |= {"gpu": name, "info": _gpunet_info()}
    about["versions"]["gpunet"] = gn.__version__
    out.mkdir(parents=True, exist_ok=True)
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    outcomes = run_steps(steps(quick, out.resolve()), limit or (QUICK_SECONDS if quick else SECONDS))
    files = sorted(p.name for p in out.iterdir() if p.stat().st_mtime_ns != before.get(p))
    text = without_places(markdown(outcomes, about, files))
    document = json.dumps({"environment": about, "outcomes": [asdict(o) for o in outcomes]}, indent=2)
    stem = out / file_stem("report", name)
    stem.with_suffix(".md").write_text(text, encoding="utf-8")
    stem.with_suffix(".json").write_text(without_places(document) + "\n", encoding="utf-8")
    print(f"\n{text}\nwritten: {stem}.md and .json")
    return 0 if all(outcome.status == "ok" for outcome in outcomes) else 1


def _gpunet_info() -> Any:
    """What ``gpunet info --json`` says: driver, CuPy, NVRTC."""
    command = [sys.executable, "-m", "gpunet", "info", "--json"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
        return json.loads(done.stdout.strip().splitlines()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError) as error:
        return f"not known: {error}"
