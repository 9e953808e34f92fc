"""Convolution beside PyTorch's: ``python -m benchmarks.gpu conv``.

Each distinct convolution of ResNet-50, VGG-16 and CIFAR ResNet-20, and MobileNet's depthwise ones, in three directions:
forward, gradient to the input, gradient to the weight. Both sides are called below their autograd, and allocate their
results: gpunet's ``convolve_cuda`` and its siblings, which take and give channels-last arrays, and PyTorch's
``aten::convolution`` and ``aten::convolution_backward`` in NCHW and in channels_last.

Before anything is timed each result is compared with PyTorch's in float64, and gpunet's with itself, bit for bit.
Exact float32 on both sides; PyTorch's times with TF32 stand beside it and enter no ratio.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from benchmarks.gpu.machine import Machine, set_precision, without_places
from benchmarks.gpu.timing import Measurement, Side, measure, ratio
from benchmarks.gpu.workloads import DIRECTIONS, NETWORKS, Conv, network_workloads, shrunk
from gpunet.ops import convolution_cuda
from gpunet.ops.convolution_window import Geometry
from gpunet.testing import agreement_bound

__all__ = ["ConvRow", "Planned", "Problem", "as_layers_keep", "fill", "plan", "run_conv", "time_one"]

LAYOUTS = ("nchw", "channels_last")
# So many caches' worth of inputs are gone through, round after round, before the first is read again.
CACHES = 3
MOST_SETS = 64


@dataclass
class ConvRow:
    """One line of the table: a convolution in one direction.

    Times are milliseconds on the device; ratios are gpunet's time over PyTorch's, below 1 where gpunet is ahead.
    ``*_low`` and ``*_high`` are quartiles. Errors are max|a - b| / max|b| against float64.

    Attributes:
        status: ``"ok"``, ``"wrong"`` (the results differ: not timed) or ``"failed"`` (an exception: see ``note``).
        count: how often the network has this convolution.
        floor_ms: the longer of the operations at the measured GEMM ceiling and the bytes at the copy ceiling.
        gemm_share, copy_share, floor_share: what gpunet reaches of either ceiling, and the floor over its time.
        best: the faster of PyTorch's layouts; ``ratio_best`` is to it.
        host_ms, peer_host_ms: what the host takes to ask for one call: gpunet's, and that of the faster layout.
        kernel: the implementation that gpunet chose, and why.
        backend_nchw, backend_channels_last: the implementation that PyTorch chose.
    """

    network: str
    workload: str
    direction: str
    count: int
    status: str = "ok"
    gflop: float = 0.0
    megabytes: float = 0.0
    gpunet_ms: float | None = None
    gpunet_low: float | None = None
    gpunet_high: float | None = None
    nchw_ms: float | None = None
    channels_last_ms: float | None = None
    nchw_tf32_ms: float | None = None
    channels_last_tf32_ms: float | None = None
    ratio_nchw: float | None = None
    ratio_nchw_low: float | None = None
    ratio_nchw_high: float | None = None
    ratio_channels_last: float | None = None
    ratio_channels_last_low: float | None = None
    ratio_channels_last_high: float | None = None
    best: str = ""
    ratio_best: float | None = None
    tflops: float | None = None
    best_tflops: float | None = None
    floor_ms: float | None = None
    gemm_share: float | None = None
    copy_share: float | None = None
    floor_share: float | None = None
    host_ms: float | None = None
    peer_host_ms: float | None = None
    error: float | None = None
    bound: float | None = None
    error_nchw: float | None = None
    error_channels_last: float | None = None
    error_tf32: float | None = None
    kernel: str = ""
    backend_nchw: str = ""
    backend_channels_last: str = ""
    note: str = ""


def as_layers_keep(weight: Any) -> Any:
    """A weight (K, C/G, R, S) of PyTorch's in the order in memory of gpunet's layers, (R, S, C/G, K).

    In any other the kernels would be given a copy, which a program pays for at no step.
    """
    return weight.permute(2, 3, 1, 0).contiguous().permute(3, 2, 0, 1)


class Problem:
    """One convolution in one direction: its numbers, in sets that are taken in turn, and how each side is called.

    Args:
        machine: where.
        conv: which.
        direction: one of ``DIRECTIONS``.
        seed: of the numbers.
    """

    def __init__(self, machine: Machine, conv: Conv, direction: str, seed: int = 0) -> None:
        self.machine, self.conv, self.direction = machine, conv, direction
        self.torch = machine.torch
        self.geometry = Geometry((conv.stride,) * 2, ((conv.padding,) * 2,) * 2, (1, 1), conv.groups)
        read = {"forward": ("x", "w"), "input gradient": ("dy", "w"), "weight gradient": ("dy", "x")}[direction]
        shapes = {"x": conv.x_shape, "w": conv.w_shape, "dy": conv.y_shape}
        size = sum(4 * math.prod(shapes[name]) for name in read)
        count = min(max(2, math.ceil(CACHES * machine.cache_bytes / size)), MOST_SETS)
        generator = self.torch.Generator(device=machine.device).manual_seed(seed)

        def draw(name: str) -> Any:
            return self.torch.randn(shapes[name], generator=generator, device=machine.device)

        # PyTorch's gradients ask for the third array too, but read no more of it than its shape.
        shared = {name: draw(name) for name in shapes if name not in read and direction != "forward"}
        plain = [{name: draw(name) for name in read} | shared for _ in range(count)]
        last = self.torch.channels_last
        lying = {name: value.contiguous(memory_format=last) for name, value in shared.items()}
        self.sets: dict[str, list[dict[str, Any]]] = {
            "nchw": plain,
            "channels_last": [
                {name: value.contiguous(memory_format=last) for name, value in one.items() if name in read} | lying
                for one in plain
            ],
        }
        # Each side's weights lie as its layers keep them. Ours share the activations' memory with PyTorch's.
        self.arrays = [
            {name: machine.array(as_layers_keep(one[name]) if name == "w" else one[name]) for name in read}
            for one in self.sets["channels_last"]
        ]
        self.result_shape = {"forward": conv.y_shape, "input gradient": conv.x_shape}.get(direction, conv.w_shape)

    def peer(self, inputs: dict[str, Any]) -> Any:
        """PyTorch's result."""
        c, aten = self.conv, self.torch.ops.aten
        moves = ([c.stride] * 2, [c.padding] * 2, [1, 1], False, [0, 0], c.groups)
        if self.direction == "forward":
            return aten.convolution(inputs["x"], inputs["w"], None, *moves)
        mask = [self.direction == "input gradient", self.direction == "weight gradient", False]
        found = aten.convolution_backward(inputs["dy"], inputs["x"], inputs["w"], None, *moves, mask)
        return found[0] if mask[0] else found[1]

    def kernel(self) -> str:
        """Which of its implementations gpunet takes."""
        path, reason = convolution_cuda.supports(self.conv.x_shape, self.conv.w_shape, self.geometry, np.float32)
        return f"{path}: {reason}"

    def ours(self, arrays: dict[str, Any]) -> Any:
        """gpunet's result."""
        c, geometry = self.conv, self.geometry
        if self.direction == "forward":
            return convolution_cuda.convolve_cuda(arrays["x"], arrays["w"], None, geometry, c.y_shape[2:])
        if self.direction == "input gradient":
            return convolution_cuda.input_gradient_cuda(arrays["dy"], arrays["w"], None, geometry, c.x_shape)
        return convolution_cuda.weight_gradient_cuda(arrays["dy"], arrays["x"], c.w_shape, geometry)

    def expected(self) -> Any:
        """The result for the first set in float64, by PyTorch."""
        cudnn = self.torch.backends.cudnn
        before, cudnn.benchmark = cudnn.benchmark, False
        try:
            return self.peer({name: value.double() for name, value in self.sets["nchw"][0].items()})
        finally:
            cudnn.benchmark = before

    def error(self, found: Any, expected: Any) -> float:
        """max|found - expected| / max|expected|; infinite where there is a NaN."""
        assert tuple(found.shape) == tuple(expected.shape), f"shape {tuple(found.shape)}, not {tuple(expected.shape)}"
        error = float((found.double() - expected).abs().max() / expected.abs().max())
        return error if math.isfinite(error) else math.inf

    def verify(self, row: ConvRow) -> None:
        """Compare each side with float64, and gpunet with itself; say so in the row."""
        expected = self.expected()
        row.bound = agreement_bound("float32", self.conv.terms(self.direction))
        results = []
        for _ in range(2):
            self.machine.poison(math.prod(self.result_shape))
            results.append(self.machine.tensor(self.ours(self.arrays[0])))
        row.error = self.error(results[0], expected)
        if not row.error <= row.bound:
            row.status, row.note = "wrong", f"relative error {row.error:.3g}, allowed {row.bound:.3g}; not timed"
        elif not self.torch.equal(results[0], results[1]):
            row.status, row.note = "wrong", "two runs on the same numbers differ; not timed"
        del results
        set_precision(self.torch, tf32=False)
        row.error_nchw, row.error_channels_last = (
            self.error(self.peer(self.sets[layout][0]), expected) for layout in LAYOUTS
        )
        set_precision(self.torch, tf32=True)
        row.error_tf32 = self.error(self.peer(self.sets["channels_last"][0]), expected)
        set_precision(self.torch, tf32=False)

    def backend(self, layout: str) -> str:
        """Which of its implementations PyTorch takes."""
        c, inputs = self.conv, self.sets[layout][0]
        try:
            x = inputs.get("x", self.torch.empty(c.x_shape, device=self.machine.device))
            w = inputs.get("w", self.torch.empty(c.w_shape, device=self.machine.device))
            moves = ((c.stride,) * 2, (c.padding,) * 2, (1, 1), False, (0, 0), c.groups, None)
            return str(self.torch._C._select_conv_backend(x, w, None, *moves)).rpartition(".")[2]
        except (AttributeError, RuntimeError, TypeError):  # not a public function: it may go
            return ""

    def sides(self) -> dict[str, Side]:
        """Everything that is timed, by name."""

        def in_turn(call: Callable[[Any], Any], sets: list[dict[str, Any]]) -> Callable[[], None]:
            state = {"next": 0}

            def run() -> None:
                state["next"] = (state["next"] + 1) % len(sets)
                call(sets[state["next"]])

            return run

        def precision(tf32: bool) -> Callable[[], None]:
            return lambda: set_precision(self.torch, tf32)

        found = {"gpunet": Side(in_turn(self.ours, self.arrays))}
        for suffix, tf32 in (("", False), ("_tf32", True)):
            for layout in LAYOUTS:
                found[layout + suffix] = Side(in_turn(self.peer, self.sets[layout]), precision(tf32))
        return found


def fill(row: ConvRow, conv: Conv, times: dict[str, Measurement], ceilings: dict[str, float]) -> None:
    """Put what was measured into the row."""
    ours = times["gpunet"]
    row.gpunet_ms = ours.seconds * 1e3
    row.gpunet_low, row.gpunet_high = (value * 1e3 for value in ours.quartiles)
    for name in ("nchw", "channels_last", "nchw_tf32", "channels_last_tf32"):
        setattr(row, f"{name}_ms", times[name].seconds * 1e3)
    for layout in LAYOUTS:
        middle, low, high = ratio(ours, times[layout])
        setattr(row, f"ratio_{layout}", middle)
        setattr(row, f"ratio_{layout}_low", low)
        setattr(row, f"ratio_{layout}_high", high)
    row.best = min(LAYOUTS, key=lambda layout: times[layout].seconds)
    row.ratio_best = getattr(row, f"ratio_{row.best}")
    moved = conv.least_bytes(row.direction)
    row.tflops = conv.flops / ours.seconds / 1e12
    row.best_tflops = conv.flops / times[row.best].seconds / 1e12
    floor = max(conv.flops / ceilings["gemm_flops"], moved / ceilings["copy_bytes"])
    row.floor_ms = floor * 1e3
    row.gemm_share = conv.flops / ours.seconds / ceilings["gemm_flops"]
    row.copy_share = moved / ours.seconds / ceilings["copy_bytes"]
    row.floor_share = floor / ours.seconds
    for name, side in (("host_ms", ours), ("peer_host_ms", times[row.best])):
        setattr(row, name, None if side.host_seconds is None else side.host_seconds * 1e3)
    waiting = [name for name, side in times.items() if not side.covered]
    if waiting:
        row.note = f"waits for the host: {', '.join(waiting)}"


def time_one(
    machine: Machine, network: str, conv: Conv, count: int, direction: str, ceilings: dict[str, float], rounds: int
) -> ConvRow:
    """Verify and time one convolution in one direction."""
    row = ConvRow(network, str(conv), direction, count)
    row.gflop, row.megabytes = conv.flops / 1e9, conv.least_bytes(direction) / 1e6
    try:
        machine.release()
        with machine.running(), machine.torch.no_grad():
            problem = Problem(machine, conv, direction)
            row.kernel = problem.kernel()
            row.backend_nchw, row.backend_channels_last = map(problem.backend, LAYOUTS)
            problem.verify(row)
            if row.status == "ok":
                # A GPU's rounds are long enough for its events; those of a CPU are only there to be gone through.
                options = {} if machine.measures else {"round_seconds": 0.0}
                times = measure(problem.sides(), machine.stopwatch, rounds, **options)
                fill(row, conv, times, ceilings)
    except Exception as error:  # the other rows still count, and the report lists this one
        message = (str(error).strip().splitlines() or [""])[0]
        row.status, row.note = "failed", without_places(f"{type(error).__name__}: {message}")[:300]
    return row


class Planned(NamedTuple):
    """A row that is to come."""

    network: str
    conv: Conv
    count: int
    direction: str


def plan(networks: list[str], batch: int | None = None, quick: bool = False, tiny: bool = False) -> list[Planned]:
    """The rows of the networks, in order.

    Args:
        networks: keys of ``NETWORKS``.
        batch: images instead of each network's own number.
        quick: a few convolutions of each network.
        tiny: the same kinds of convolutions, on a few pixels and channels.
    """
    return [
        Planned(NETWORKS[name].name, shrunk(conv) if tiny else conv, count, direction)
        for name in networks
        for conv, count in network_workloads(name, batch, quick)
        for direction in DIRECTIONS
    ]


def run_conv(
    machine: Machine,
    rows: list[Planned],
    *,
    ceilings: dict[str, float],
    rounds: int = 11,
    time_limit: float | None = None,
) -> Iterator[ConvRow]:
    """Verify and time one row after the other; none is begun after the time limit.

    Args:
        machine: where.
        rows: from ``plan``.
        ceilings: ``gemm_flops`` and ``copy_bytes``, each a second, as measured.
        rounds: of each side.
        time_limit: seconds from now.
    """
    end = math.inf if time_limit is None else time.monotonic() + time_limit
    for row in rows:
        if time.monotonic() > end:
            return
        yield time_one(machine, *row, ceilings=ceilings, rounds=rounds)
