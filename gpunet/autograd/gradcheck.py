"""Checking gradients against central differences in float64.

For f with inputs x and any fixed v of the output's shape, d(v · f(x)) / dx_j is compared with
(v · f(x + h e_j) - v · f(x - h e_j)) / 2h, whose error is of order h^2: 2 D evaluations for D elements. For whole
networks, where that is too many, one random direction u checks the sum over j at the price of two evaluations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpunet.autograd.engine import backward
from gpunet.autograd.tensor import Tensor
from gpunet.backend.errors import DTypeError, GradientError

__all__ = ["GradcheckError", "gradcheck"]


class GradcheckError(GradientError):
    """A gradient that finite differences contradict; lists the elements that differ most."""


@dataclass
class _Difference:
    """One element whose two gradients differ."""

    where: str
    analytic: float
    numeric: float

    @property
    def relative(self) -> float:
        scale = max(abs(self.analytic), abs(self.numeric))
        return abs(self.analytic - self.numeric) / scale if scale else 0.0

    def __str__(self) -> str:
        values = f"backward {self.analytic:.9g}, differences {self.numeric:.9g}"
        return f"  {self.where}: {values}, relative {self.relative:.2e}"


def gradcheck(
    func: Callable[..., Any],
    inputs: Tensor | Sequence[Any],
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
    fast_mode: bool = False,
    parameters: Sequence[Tensor] = (),
    max_elements: int | None = None,
    seed: int = 0,
) -> bool:
    """Compare the gradients of ``func`` with central differences.

    Args:
        func: takes the inputs, returns a Tensor or a tuple of them.
        inputs: Tensors and other values; those that require grad are checked, and must be float64.
        eps: the step h.
        atol, rtol: an element passes if |analytic - numeric| <= atol + rtol |numeric|.
        raise_exception: raise on failure; otherwise return False.
        fast_mode: check one random direction through all inputs at once instead of every element.
        parameters: further leaves to check, such as ``model.parameters()``.
        max_elements: check at most this many randomly chosen elements of each input.
        seed: of the random weights of the outputs, directions and choices.

    Returns:
        True if all gradients agree.

    Raises:
        GradcheckError: they do not; the message reports element by element.
        DTypeError: a checked input is not float64.
    """
    values = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    checked = [value for value in values if isinstance(value, Tensor) and value.requires_grad]
    checked += [value for value in parameters if value.requires_grad]
    if not checked:
        raise ValueError("inputs: at least one tensor must require grad")
    for position, value in enumerate(checked):
        if value.dtype != np.float64:
            raise DTypeError(f"inputs: gradcheck needs float64, tensor {position} is {value.dtype.name}")
    rng = np.random.default_rng(seed)
    outputs = _outputs(func, values)
    if any(
        not np.array_equal(first._array, second._array, equal_nan=True)
        for first, second in zip(outputs, _outputs(func, values), strict=True)
    ):
        raise GradcheckError("gradcheck: func gave different outputs for the same inputs; make it deterministic")
    weights = [rng.standard_normal(output.shape) for output in outputs]
    roots = [
        (output.grad_fn or output, output._index, np.asarray(weight))
        for output, weight in zip(outputs, weights, strict=True)
        if output.requires_grad
    ]
    if not roots:
        raise GradientError("gradcheck: no output requires grad")
    found = backward(roots, wanted=checked)
    analytic = [
        np.zeros(value.shape) if grad is None else np.asarray(grad) for value, grad in zip(checked, found, strict=True)
    ]

    def objective() -> float:
        return float(
            sum(
                (np.asarray(o._array, np.float64) * w).sum()
                for o, w in zip(_outputs(func, values), weights, strict=True)
            )
        )

    check = _check_direction if fast_mode else _check_elements
    wrong = check(checked, analytic, objective, eps, atol, rtol, rng, max_elements)
    if not wrong:
        return True
    if raise_exception:
        wrong.sort(key=lambda difference: -difference.relative)
        shown = "\n".join(map(str, wrong[:10]))
        more = f"\n  and {len(wrong) - 10} more" if len(wrong) > 10 else ""
        raise GradcheckError(f"gradcheck: {len(wrong)} gradients differ from central differences\n{shown}{more}")
    return False


def _outputs(func: Callable[..., Any], values: tuple[Any, ...]) -> list[Tensor]:
    result = func(*values)
    outputs = result if isinstance(result, (tuple, list)) else (result,)
    return [output for output in outputs if isinstance(output, Tensor) and output.dtype.kind == "f"]


def _agree(analytic: float, numeric: float, atol: float, rtol: float) -> bool:
    # Written so that NaN fails.
    return abs(analytic - numeric) <= atol + rtol * abs(numeric)


def _check_elements(
    checked: list[Tensor],
    analytic: list[np.ndarray],
    objective: Callable[[], float],
    eps: float,
    atol: float,
    rtol: float,
    rng: np.random.Generator,
    max_elements: int | None,
) -> list[_Difference]:
    wrong = []
    for number, (tensor, gradient) in enumerate(zip(checked, analytic, strict=True)):
        places = list(np.ndindex(*tensor.shape))
        if max_elements is not None and len(places) > max_elements:
            places = [places[i] for i in sorted(rng.choice(len(places), max_elements, replace=False))]
        array = tensor._array
        for place in places:
            held = array[place].copy()
            try:
                array[place] = held + eps
                above = objective()
                array[place] = held - eps
                below = objective()
            finally:
                array[place] = held
            numeric = (above - below) / (2 * eps)
            if not _agree(float(gradient[place]), numeric, atol, rtol):
                wrong.append(_Difference(f"tensor {number} {list(place)}", float(gradient[place]), numeric))
    return wrong


def _check_direction(
    checked: list[Tensor],
    analytic: list[np.ndarray],
    objective: Callable[[], float],
    eps: float,
    atol: float,
    rtol: float,
    rng: np.random.Generator,
    max_elements: int | None,
) -> list[_Difference]:
    directions = [rng.standard_normal(tensor.shape) for tensor in checked]
    length = np.sqrt(sum(float((direction**2).sum()) for direction in directions))
    directions = [direction / length for direction in directions]
    held = [tensor._array.copy(order="K") for tensor in checked]

    def at(step: float) -> float:
        for tensor, before, direction in zip(checked, held, directions, strict=True):
            tensor._array[...] = before + step * direction
        return objective()

    try:
        numeric = (at(eps) - at(-eps)) / (2 * eps)
    finally:
        for tensor, before in zip(checked, held, strict=True):
            tensor._array[...] = before
    along = float(sum((gradient * direction).sum() for gradient, direction in zip(analytic, directions, strict=True)))
    if _agree(along, numeric, atol, rtol):
        return []
    return [_Difference("a random direction", along, numeric)]
