"""Pictures of backpropagation through time: the network unrolled, and the product that vanishes or explodes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from gpunet.autograd import as_tensor
from gpunet.inspect.bptt_terms import BPTTTerms, bptt_terms
from gpunet.inspect.bptt_trace import BPTTTrace, bptt_trace
from gpunet.inspect.checks import LARGEST, finite_number
from gpunet.inspect.pictures import check_path, finished, new_figure
from gpunet.nn import Parameter
from gpunet.nn.functional import mse_loss

__all__ = ["plot_bptt_terms", "plot_bptt_trace", "repeated_factor"]

COLOURS = ("#0072b2", "#009e73", "#d55e00", "#cc79a7", "#e69f00", "#56b4e9")
BACKWARD = "#d55e00"
MOST_STEPS = 12  # that can be drawn side by side


def repeated_factor(factor: float, lags: int = 50) -> BPTTTerms:
    """The terms of h_t = w h_{t-1} + (1 - w), which stays at 1: every direct derivative is 1, every Jacobian is w.

    So what differs between the terms of dh_T/dw is the product alone: w^lag.

    Raises:
        TypeError, ShapeError: a factor that is not one number.
        ValueError: a factor that is not finite, or lags that are no whole number of at least 0.
    """
    factor = finite_number("factor", factor)
    if isinstance(lags, bool) or not isinstance(lags, int) or lags < 0:
        raise ValueError(f"lags: must be a whole number of at least 0, got {lags!r}")
    weight = Parameter(as_tensor(np.array([factor])))
    rest = 1.0 - factor
    return bptt_terms(
        lambda x, h: weight * h + x, as_tensor(np.full((lags + 1, 1), rest)), as_tensor(np.ones(1)), weight
    )


def plot_bptt_terms(
    terms: BPTTTerms | Mapping[str, BPTTTerms] | None = None,
    path: str | os.PathLike[str] | None = None,
    *,
    title: str = "",
) -> Any:
    """Draw which part of the gradient through time is unstable: the product of Jacobians, not what is added.

    On the left the norm of the product over the lag, on a scale where w^lag is a straight line, with the direct
    derivative that each product is multiplied with; on the right how the sum of the terms grows. A product whose
    factors are below 1 vanishes, and old steps add nothing; above 1 it explodes, and the oldest steps are all there is
    (against which ``gn.nn.utils.clip_grad_norm_`` helps). One factor of 0 ends every older term.

    Args:
        terms: as ``bptt_terms`` gives them, or several by name; None are ``repeated_factor`` of 0.9, 1 and 1.1.
        path: where to write the picture, as SVG or PNG by its suffix; None writes none.
        title: above the picture.

    Returns:
        The ``matplotlib.figure.Figure`` with its two axes.

    Raises:
        PlotUnavailableError: Matplotlib is not installed.
        TypeError, ValueError: no terms.
        OSError: the file cannot be written.
    """
    check_path(path)
    figure = new_figure(9.0, 3.8)
    if terms is None:
        terms = {f"w = {factor:g}": repeated_factor(factor) for factor in (0.9, 1.0, 1.1)}
    named = {"": terms} if isinstance(terms, BPTTTerms) else terms
    if not isinstance(named, Mapping) or not all(isinstance(one, BPTTTerms) for one in named.values()):
        raise TypeError(f"terms: must be those of bptt_terms, or a dict of them, got {type(terms).__name__}")
    if not named:
        raise ValueError("terms: there are none")
    left, right = figure.subplots(1, 2)
    drawn: dict[str, np.ndarray] = {}
    for number, (name, one) in enumerate(named.items()):
        with np.errstate(over="ignore", invalid="ignore"):
            norms, colour = one.norms(), COLOURS[number % len(COLOURS)]
        space = f"{name} " if name else ""
        for what, values, line in (("product", norms.product, "-"), ("direct", norms.direct, ":")):
            drawn[f"{space}{what}"] = values
            # A logarithm has no place for 0, nor a picture for what cannot be squared: there the line ends.
            left.plot(
                norms.lag, np.where((values > 0) & (values < LARGEST), values, np.nan), line, color=colour,
                linewidth=1.4, label=f"{space}{what}", gid=f"{what} {name}".strip(),
            )  # fmt: skip
        right.plot(
            norms.lag,
            np.where(norms.partial_sum < LARGEST, norms.partial_sum, np.nan),
            color=colour,
            linewidth=1.4,
            label=name or None,
            gid=f"sum {name}".strip(),
        )
    left.set_yscale("log")
    if together := _on_one_line(drawn):
        left.set_xlabel(f"lag: steps back in time\n{together}", fontsize=8, gid="on one line")
    else:
        left.set_xlabel("lag: steps back in time")
    left.set_ylabel("norm")
    left.set_title("product of Jacobians, and direct derivative", fontsize=9)
    left.legend(frameon=False, fontsize=7)
    right.set_yscale("symlog", linthresh=1.0)
    right.set_title("sum of the terms up to a lag", fontsize=9)
    if "" not in named:
        right.legend(frameon=False, fontsize=7)
    right.set_xlabel("lag: steps back in time")
    right.set_ylabel("norm")
    for axes in (left, right):
        axes.grid(True, linewidth=0.4, alpha=0.6)
    if title:
        figure.suptitle(title, fontsize=10)
    figure.subplots_adjust(left=0.08, right=0.98, bottom=0.18, top=0.84 if title else 0.9, wspace=0.22)
    return finished(figure, path)


def _on_one_line(drawn: Mapping[str, np.ndarray]) -> str:
    """Which of the curves cannot be told from each other, in words."""
    groups: list[list[str]] = []
    for name, values in drawn.items():
        for group in groups:
            other = drawn[group[0]]
            if other.shape == values.shape and np.allclose(other, values, rtol=1e-3, atol=0.0):
                group.append(name)
                break
        else:
            groups.append([name])
    return "\n".join("on one line: " + ", ".join(group) for group in groups if len(group) > 1)


def plot_bptt_trace(
    trace: BPTTTrace | None = None, path: str | os.PathLike[str] | None = None, *, title: str = ""
) -> Any:
    """Draw a recurrent network unrolled in time, with the gradient on its way back.

    Grey arrows are the way forward: each state is made from the input and the state before, each output from its
    state, with the same weights at every step. Orange arrows are the way back: a state gets its gradient from its own
    output and from the state after it; at each stands its norm, and in each state that of the sum.

    Args:
        trace: as ``bptt_trace`` gives it, of at most 12 steps; None is that of a small network over four steps.
        path: where to write the picture, as SVG or PNG by its suffix; None writes none.
        title: above the picture.

    Returns:
        The ``matplotlib.figure.Figure``. In an SVG, ``state 2`` is H_2, ``back 3 to 2`` an arrow back.

    Raises:
        PlotUnavailableError: Matplotlib is not installed.
        TypeError, ValueError: no trace, or one of more steps.
        OSError: the file cannot be written.
    """
    check_path(path)
    new_figure(1.0, 1.0)  # without Matplotlib, fail before the work
    if trace is None:
        trace = _example()
    if not isinstance(trace, BPTTTrace):
        raise TypeError(f"trace: must be that of bptt_trace, got {type(trace).__name__}")
    steps = len(trace)
    if steps > MOST_STEPS:
        raise ValueError(f"trace: {steps} steps are more than can be drawn ({MOST_STEPS})")
    column, side, high = 1.9, 0.9, 0.55
    width = column * (steps + 1) + 0.4
    figure = new_figure(width, 4.2)
    from matplotlib.patches import Rectangle

    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_axis_off()
    axes.set_xlim(0.0, width)
    axes.set_ylim(0.0, 4.2)
    rows = {"x": 0.45, "state": 1.75, "output": 3.05}

    def box(row: str, t: int, text: str, colour: str) -> None:
        x = 0.4 + column * t
        axes.add_patch(
            Rectangle(
                (x, rows[row]), side, high, facecolor=colour, edgecolor="#444444", linewidth=0.8, gid=f"{row} {t}"
            )
        )
        axes.text(x + side / 2, rows[row] + high / 2, text, ha="center", va="center", fontsize=8, gid=f"text {row} {t}")

    def arrow(start: tuple[float, float], end: tuple[float, float], gid: str, back: bool = False) -> None:
        colour = BACKWARD if back else "#888888"
        style = {"arrowstyle": "-|>", "color": colour, "linewidth": 1.3, "shrinkA": 0, "shrinkB": 0}
        axes.annotate("", end, start, arrowprops=style, gid=gid)

    def norm(values: np.ndarray) -> str:
        return f"{np.linalg.norm(values):.3g}"

    def label(x: float, y: float, text: str, gid: str, **place: Any) -> None:
        axes.text(x, y, text, color=BACKWARD, fontsize=7, gid=gid, **place)

    box("state", 0, f"h0\n{norm(trace.grad_initial)}", "#f4f4f4")
    for t in range(1, steps + 1):
        x, low = 0.4 + column * t, rows["state"]
        box("x", t, f"x{t}", "#ffffff")
        box("state", t, f"h{t}\n{norm(trace.grad_states[t - 1])}", "#d6e6f4")
        box("output", t, f"O{t}\n{norm(trace.grad_outputs[t - 1])}", "#fbe3c8")
        arrow((x + side / 2, rows["x"] + high), (x + side / 2, low), f"x {t}")
        arrow((x + side / 3, low + high), (x + side / 3, rows["output"]), f"out {t}")
        arrow((x + 2 * side / 3, rows["output"]), (x + 2 * side / 3, low + high), f"back O{t} to {t}", back=True)
        label(
            x + 2 * side / 3 + 0.06, (low + high + rows["output"]) / 2, norm(trace.from_output[t - 1]), f"from O {t}",
            va="center",
        )  # fmt: skip
        arrow((x + side - column, low + 2 * high / 3), (x, low + 2 * high / 3), f"forward {t - 1} to {t}")
        arrow((x, low + high / 3), (x + side - column, low + high / 3), f"back {t} to {t - 1}", back=True)
        arriving = trace.grad_initial if t == 1 else trace.from_next[t - 2]
        label(x - (column - side) / 2, low + 0.05, norm(arriving), f"from {t} to {t - 1}", ha="center", va="top")
    shown = (
        title or "the same weights at every step; orange: the gradient comes back, from each output and each next state"
    )
    axes.text(width / 2, 3.95, shown, ha="center", va="center", fontsize=9, gid="title")
    return finished(figure, path)


def _example() -> BPTTTrace:
    """A vanilla network over four steps, always the same one."""
    rng = np.random.default_rng(0)
    x, w_x, w_h, w_2 = (as_tensor(rng.standard_normal(shape)) for shape in ((4, 2), (2, 3), (3, 3), (3, 1)))
    target = as_tensor(np.zeros((4, 1)))
    start = as_tensor(np.zeros(3))
    return bptt_trace(lambda x_t, h: (x_t @ w_x + h @ w_h).tanh(), lambda h: h @ w_2, mse_loss, x, target, start)
