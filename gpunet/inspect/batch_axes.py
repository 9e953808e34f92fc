"""Which dimension is the batch: of a model's inputs, and of what its layers give.

It is the first one, but where there are layers that take the steps of a sequence first: recurrent ones and attention
without ``batch_first``, and loops over cells. There the model is run with one sample more, to see what grows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gpunet.inspect.trace import Step, Trace, trace
from gpunet.nn import Module, RNNCellBase
from gpunet.ops.base import Spec

__all__ = ["BatchAxes", "batch_axes", "input_axis"]

Shape = tuple[int, ...]
BatchAxes = tuple[int | None, ...]


def input_axis(make: Callable[[], Module], choices: Sequence[Sequence[Spec]], training: bool) -> int:
    """The dimension of the inputs in which a model has its batch: the first in which more samples are no more steps.

    Args:
        make: gives a twin of the model, a new one for each run.
        choices: the inputs with the batch in dimension 0, and with the batch in dimension 1.
        training: run in training mode.

    Returns:
        0 or 1; 0 where neither can be run.
    """
    if not any(_takes_steps(module) for module in make().modules()):
        return 0
    for axis, specs in enumerate(choices):
        try:
            one, two = (trace(make(), given, training=training) for given in (specs, _larger(specs, axis)))
        except Exception:  # it does not fit so; where it fits in no way, the run that follows says why
            continue
        if len(one.steps) == len(two.steps) and not any(map(_has_more_steps, one.steps, two.steps)):
            return axis
    return 0


def batch_axes(run: Trace, training: bool) -> list[BatchAxes]:
    """Which dimension of each step's outputs is the batch: the one that grows with it. None where none does."""
    likely = [_leading(step) for step in run.steps]
    if not any(hasattr(module, "batch_first") or _takes_steps(module) for module in run.model.modules()):
        return likely
    try:
        other = trace(run.model, _larger(run.specs, run.batch_axis), training=training)
    except (ValueError, IndexError, TypeError, RuntimeError):  # made for one batch size
        return likely
    if len(other.steps) != len(run.steps):  # it was no batch: there are steps in a loop
        return likely
    return [
        tuple(map(_grown, one.outputs, two.outputs)) if len(one.outputs) == len(two.outputs) else guess
        for one, two, guess in zip(run.steps, other.steps, likely, strict=True)
    ]


def _takes_steps(module: Module) -> bool:
    return not getattr(module, "batch_first", True) or isinstance(module, RNNCellBase)


def _has_more_steps(one: Step, two: Step) -> bool:
    """Whether a layer that takes steps first was given more of them."""
    if one.module is None or getattr(one.module, "batch_first", True):
        return False
    a, b = one.input_shape, two.input_shape
    return a is not None and b is not None and len(a) == len(b) == 3 and a[0] != b[0]


def _larger(specs: Sequence[Spec], axis: int) -> list[Spec]:
    """Inputs with one sample more."""
    return [
        Spec((*spec.shape[:axis], spec.shape[axis] + 1, *spec.shape[axis + 1 :]), spec.dtype)
        if len(spec.shape) > axis
        else spec
        for spec in specs
    ]


def _leading(step: Step) -> BatchAxes:
    """The first dimension, of what has as many entries there as the first output."""
    return tuple(0 if shape[:1] == step.outputs[0][:1] else None for shape in step.outputs)


def _grown(one: Shape, two: Shape) -> int | None:
    """The one dimension in which two shapes differ; 0 where there are several."""
    if len(one) != len(two):
        return 0
    axes = [axis for axis, (a, b) in enumerate(zip(one, two, strict=True)) if a != b]
    return axes[0] if len(axes) == 1 else 0 if axes else None
