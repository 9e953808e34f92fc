"""The LSTM beside cuDNN's: ``python -m benchmarks.gpu lstm``.

One layer in one direction with as many features as units, forward (nothing kept for gradients) and forward + backward
(gradients of all inputs and weights), in exact float32, in TF32 and in bfloat16, the flags set equally on both sides.
PyTorch's side is ``torch.nn.LSTM``, which takes cuDNN on a GPU, and its autograd; gpunet's is ``forward_cuda`` and
``backward_cuda`` of ``gpunet/ops/recurrent_cuda.py``. Where gpunet has one kernel for all steps, its other way, two
launches a step, is timed beside it.

Before anything is timed every result is compared with PyTorch's in float64, and gpunet's with itself, bit for bit.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

import gpunet as gn
from benchmarks.gpu.machine import Machine, set_precision, without_places
from benchmarks.gpu.timing import Measurement, Side, measure, ratio
from gpunet.ops import recurrent_cuda
from gpunet.ops.dtypes import canonical_dtype
from gpunet.ops.recurrent_layout import make_layout
from gpunet.testing import agreement_bound

__all__ = ["DIRECTIONS", "PRECISIONS", "Lstm", "LstmRow", "Planned", "Problem", "fill", "plan", "run_lstm", "time_one"]

DIRECTIONS = ("forward", "forward + backward")
PRECISIONS = ("float32", "tf32", "bfloat16")
STEPS, BATCHES, HIDDEN = (64, 512), (16, 64), (128, 512, 1024)
# So many caches' worth of inputs are gone through, round after round, before the first is read again.
CACHES = 3
MOST_SETS = 16
# What rounding may leave of the largest element, over all steps: TF32 and bfloat16 keep 11 and 8 bits of every factor.
LOOSE_BOUNDS = {"tf32": 2e-2, "bfloat16": 6e-2}
# Results of a lower precision than these bounds foresee are right where PyTorch's are no better.
AS_GOOD_AS_PEER = 3.0


class Lstm(NamedTuple):
    """A workload: T steps of B sequences, with H features and H units."""

    steps: int
    batch: int
    hidden: int

    def flops(self, direction: str) -> int:
        """Floating-point operations of the products, two for each multiply-add; backward has twice those of forward."""
        forward = 2 * self.steps * self.batch * 4 * self.hidden * 2 * self.hidden
        return forward if direction == "forward" else 3 * forward

    def terms(self, direction: str) -> int:
        """The products that are summed to one element: of a gate, or of a weight's gradient."""
        return self.hidden if direction == "forward" else max(4 * self.hidden, self.steps * self.batch)

    def __str__(self) -> str:
        return f"T{self.steps} B{self.batch} H{self.hidden}"


@dataclass
class LstmRow:
    """One line of the table: a workload in one direction and precision.

    Times are milliseconds on the device; ``ratio`` is gpunet's time over cuDNN's, below 1 where gpunet is ahead.
    ``*_low`` and ``*_high`` are quartiles. Errors are max|a - b| / max|b| against float64, the worst of all results.

    Attributes:
        status: ``"ok"``, ``"wrong"`` (the results differ: not timed) or ``"failed"`` (an exception: see ``note``).
        launches_ms: gpunet's other way, two launches a step; None where that is what it takes anyway.
        step_us: gpunet's time by the number of steps, and ``peer_step_us`` cuDNN's, in microseconds.
        gemm_share: what gpunet reaches of the measured float32 GEMM ceiling.
        host_ms, peer_host_ms: what the host takes to ask for one call.
        kernel: the way that gpunet chose.
    """

    precision: str
    workload: str
    direction: str
    status: str = "ok"
    gflop: float = 0.0
    gpunet_ms: float | None = None
    gpunet_low: float | None = None
    gpunet_high: float | None = None
    cudnn_ms: float | None = None
    cudnn_low: float | None = None
    cudnn_high: float | None = None
    launches_ms: float | None = None
    ratio: float | None = None
    ratio_low: float | None = None
    ratio_high: float | None = None
    tflops: float | None = None
    cudnn_tflops: float | None = None
    step_us: float | None = None
    peer_step_us: float | None = None
    gemm_share: float | None = None
    host_ms: float | None = None
    peer_host_ms: float | None = None
    error: float | None = None
    bound: float | None = None
    error_cudnn: float | None = None
    kernel: str = ""
    note: str = ""


def set_both(torch: Any, precision: str) -> None:
    """Allow TF32 on both sides, or on neither."""
    set_precision(torch, tf32=precision == "tf32")
    gn.set_float32_matmul_precision("high" if precision == "tf32" else "highest")


class Problem:
    """One workload in one direction and precision: its numbers, and how each side is called.

    Args:
        machine: where.
        lstm: which.
        direction: one of ``DIRECTIONS``.
        precision: one of ``PRECISIONS``.
        seed: of the numbers.
    """

    def __init__(self, machine: Machine, lstm: Lstm, direction: str, precision: str, seed: int = 0) -> None:
        self.machine, self.lstm, self.direction, self.precision = machine, lstm, direction, precision
        torch = self.torch = machine.torch
        self.backward = direction != "forward"
        self.dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
        steps, batch, hidden = lstm
        self.layout = make_layout(steps, batch, None)
        shapes = {"x": (steps, batch, hidden), "h0": (batch, hidden), "c0": (batch, hidden)}
        if self.backward:
            shapes |= {"dy": shapes["x"], "dh": shapes["h0"], "dc": shapes["c0"]}
        size = sum(self.dtype.itemsize * math.prod(shape) for shape in shapes.values())
        count = min(max(2, math.ceil(CACHES * machine.cache_bytes / size)), MOST_SETS)
        generator = torch.Generator(device=machine.device).manual_seed(seed)

        def draw(shape: tuple[int, ...]) -> Any:
            return torch.randn(shape, generator=generator, device=machine.device).to(self.dtype)

        self.sets = [{name: draw(shape) for name, shape in shapes.items()} for _ in range(count)]
        self.layer = torch.nn.LSTM(hidden, hidden, device=machine.device, dtype=self.dtype)
        limit = hidden**-0.5
        with torch.no_grad():
            for parameter in self.layer.parameters():
                parameter.copy_(
                    (2 * torch.rand(parameter.shape, generator=generator, device=machine.device) - 1) * limit
                )
        self.weights = [self.array(parameter.detach()) for parameter in self.layer.parameters()]
        self.arrays = [{name: self.array(value) for name, value in one.items()} for one in self.sets]

    def array(self, tensor: Any) -> Any:
        """PyTorch's tensor as gpunet's array, the same memory; bfloat16 goes as words, which every side knows."""
        if tensor.dtype != self.torch.bfloat16:
            return self.machine.array(tensor)
        return self.machine.array(tensor.view(self.torch.int16)).view(canonical_dtype("bfloat16"))

    def tensor(self, array: Any) -> Any:
        """gpunet's array as PyTorch's tensor, the same memory."""
        if array.dtype.name != "bfloat16":
            return self.machine.tensor(array)
        return self.machine.tensor(array.view("int16")).view(self.torch.bfloat16)

    def kernel(self) -> str:
        """The way gpunet goes through the steps."""
        dtype = canonical_dtype("bfloat16" if self.precision == "bfloat16" else "float32")
        path, reason = recurrent_cuda.supports("lstm", self.layout, self.lstm.hidden, dtype)
        return f"{path}: {reason}"

    def ours(self, arrays: dict[str, Any], persistent: bool = True) -> tuple[Any, ...]:
        """gpunet's results: y, h, c; then the gradients of x, h0, c0, W_ih, W_hh, b_ih, b_hh."""
        given = arrays["x"], arrays["h0"], arrays["c0"], *self.weights
        rest = self.layout, False, "tanh"
        outputs, kept = recurrent_cuda.forward_cuda("lstm", *given, *rest, self.backward, persistent=persistent)
        if not self.backward:
            return outputs
        grads = arrays["dy"], arrays["dh"], arrays["dc"]
        found = recurrent_cuda.backward_cuda(
            "lstm", kept, given[:5], outputs[0], grads, (True,) * 7, *rest, persistent=persistent
        )
        return (*outputs, *found)

    def peer(self, tensors: dict[str, Any], layer: Any = None) -> tuple[Any, ...]:
        """PyTorch's results, in the same order."""
        layer = self.layer if layer is None else layer
        with self.torch.set_grad_enabled(self.backward):
            inputs = [tensors[name].detach().requires_grad_(self.backward) for name in ("x", "h0", "c0")]
            y, (h, c) = layer(inputs[0], (inputs[1][None], inputs[2][None]))
            outputs = (y, h[0], c[0])
            if not self.backward:
                return outputs
            grads = tensors["dy"], tensors["dh"], tensors["dc"]
            found = self.torch.autograd.grad(outputs, [*inputs, *layer.parameters()], grads)
            return (*(output.detach() for output in outputs), *found)

    def expected(self) -> tuple[Any, ...]:
        """The results for the first set in float64, by PyTorch."""
        double = self.torch.nn.LSTM(self.lstm.hidden, self.lstm.hidden, device=self.machine.device).double()
        with self.torch.no_grad():
            for ours, theirs in zip(double.parameters(), self.layer.parameters(), strict=True):
                ours.copy_(theirs)
        return self.peer({name: value.double() for name, value in self.sets[0].items()}, double)

    def error(self, found: tuple[Any, ...], expected: tuple[Any, ...]) -> float:
        """The largest max|found - expected| / max|expected| of all results; infinite where there is a NaN."""
        worst = 0.0
        for number, (one, other) in enumerate(zip(found, expected, strict=True)):
            shapes = tuple(one.shape), tuple(other.shape)
            assert shapes[0] == shapes[1], f"result {number} has shape {shapes[0]}, not {shapes[1]}"
            error = float((one.double() - other).abs().max() / other.abs().max())
            worst = max(worst, error) if math.isfinite(error) else math.inf
        return worst

    def verify(self, row: LstmRow) -> None:
        """Compare each side with float64, and gpunet with itself; say so in the row."""
        expected = self.expected()
        set_both(self.torch, self.precision)
        row.error_cudnn = self.error(self.peer(self.sets[0]), expected)
        exact = 4 * agreement_bound("float32", self.lstm.terms(self.direction))
        row.bound = max(LOOSE_BOUNDS.get(self.precision, exact), AS_GOOD_AS_PEER * row.error_cudnn)
        results = []
        for _ in range(2):
            self.machine.poison(self.lstm.steps * self.lstm.batch * 4 * self.lstm.hidden)
            results.append([self.tensor(value) for value in self.ours(self.arrays[0])])
        row.error = self.error(tuple(results[0]), expected)
        if not row.error <= row.bound:
            row.status, row.note = "wrong", f"relative error {row.error:.3g}, allowed {row.bound:.3g}; not timed"
        elif not all(self.torch.equal(one, other) for one, other in zip(*results, strict=True)):
            row.status, row.note = "wrong", "two runs on the same numbers differ; not timed"

    def sides(self) -> dict[str, Side]:
        """Everything that is timed, by name."""

        def in_turn(call: Callable[[Any], Any], sets: list[dict[str, Any]]) -> Callable[[], None]:
            state = {"next": 0}

            def run() -> None:
                state["next"] = (state["next"] + 1) % len(sets)
                call(sets[state["next"]])

            return run

        def prepare() -> None:
            set_both(self.torch, self.precision)

        found = {
            "gpunet": Side(in_turn(self.ours, self.arrays), prepare),
            "cudnn": Side(in_turn(self.peer, self.sets), prepare),
        }
        if "one kernel for all steps" in self.kernel():
            found["launches"] = Side(in_turn(lambda arrays: self.ours(arrays, False), self.arrays), prepare)
        return found


def fill(row: LstmRow, lstm: Lstm, times: dict[str, Measurement], ceilings: dict[str, float]) -> None:
    """Put what was measured into the row."""
    ours, theirs = times["gpunet"], times["cudnn"]
    for name, side in (("gpunet", ours), ("cudnn", theirs)):
        setattr(row, f"{name}_ms", side.seconds * 1e3)
        low, high = side.quartiles
        setattr(row, f"{name}_low", low * 1e3)
        setattr(row, f"{name}_high", high * 1e3)
    if "launches" in times:
        row.launches_ms = times["launches"].seconds * 1e3
    row.ratio, row.ratio_low, row.ratio_high = ratio(ours, theirs)
    flops = lstm.flops(row.direction)
    row.tflops, row.cudnn_tflops = (flops / side.seconds / 1e12 for side in (ours, theirs))
    row.step_us, row.peer_step_us = (side.seconds * 1e6 / lstm.steps for side in (ours, theirs))
    row.gemm_share = flops / ours.seconds / ceilings["gemm_flops"]
    for name, side in (("host_ms", ours), ("peer_host_ms", theirs)):
        setattr(row, name, None if side.host_seconds is None else side.host_seconds * 1e3)
    waiting = [name for name, side in times.items() if not side.covered]
    if waiting:
        row.note = f"waits for the host: {', '.join(waiting)}"


def time_one(
    machine: Machine, precision: str, lstm: Lstm, direction: str, ceilings: dict[str, float], rounds: int
) -> LstmRow:
    """Verify and time one workload in one direction and precision."""
    row = LstmRow(precision, str(lstm), direction)
    row.gflop = lstm.flops(direction) / 1e9
    try:
        machine.release()
        with machine.running():
            set_both(machine.torch, precision)
            problem = Problem(machine, lstm, direction, precision)
            row.kernel = problem.kernel()
            problem.verify(row)
            if row.status == "ok":
                # A GPU's rounds are long enough for its events; those of a CPU are only there to be gone through.
                options = {} if machine.measures else {"round_seconds": 0.0}
                fill(row, lstm, measure(problem.sides(), machine.stopwatch, rounds, **options), ceilings)
    except Exception as error:  # the other rows still count, and the report lists this one
        message = (str(error).strip().splitlines() or [""])[0]
        row.status, row.note = "failed", without_places(f"{type(error).__name__}: {message}")[:300]
    finally:
        set_both(machine.torch, "float32")
    return row


class Planned(NamedTuple):
    """A row that is to come."""

    precision: str
    lstm: Lstm
    direction: str


def plan(quick: bool = False, tiny: bool = False) -> list[Planned]:
    """The rows, in order.

    Args:
        quick: three workloads instead of twelve.
        tiny: workloads of a few steps and units.
    """
    chosen = [Lstm(*sizes) for sizes in product(STEPS, BATCHES, HIDDEN)]
    if quick:
        chosen = [Lstm(64, 16, 128), Lstm(64, 64, 512), Lstm(512, 64, 1024)]
    if tiny:
        chosen = [Lstm(5, 2, 8), Lstm(2, 5, 12)]
    return [Planned(*row) for row in product(PRECISIONS, chosen, DIRECTIONS)]


def run_lstm(
    machine: Machine,
    rows: list[Planned],
    *,
    ceilings: dict[str, float],
    rounds: int = 11,
    time_limit: float | None = None,
) -> Iterator[LstmRow]:
    """Verify and time one row after the other; none is begun after the time limit.

    Args:
        machine: where.
        rows: from ``plan``.
        ceilings: ``gemm_flops``, a second, as measured.
        rounds: of each side.
        time_limit: seconds from now.
    """
    end = math.inf if time_limit is None else time.monotonic() + time_limit
    for row in rows:
        if time.monotonic() > end:
            return
        yield time_one(machine, *row, ceilings=ceilings, rounds=rounds)
