"""L-BFGS, with a line search that keeps to the strong Wolfe conditions."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from gpunet.autograd import Tensor, cat, enable_grad, no_grad
from gpunet.optim.optimizer import Optimizer, ParamsArgument
from gpunet.optim.options import check_rate

__all__ = ["LBFGS"]

Evaluate = Callable[[float], tuple[float, Tensor]]


class LBFGS(Optimizer):
    """Limited-memory BFGS (Nocedal 1980; Nocedal and Wright 2006, algorithms 7.4 and 3.5), as PyTorch has it.

    ``step`` needs a closure: it is called up to ``max_eval`` times. There can be one parameter group only. It keeps
    ``2 * history_size`` copies of all parameters.

    Args:
        params: Tensors, on one device.
        lr: length of the step, or the first one that the line search tries.
        max_iter: largest number of iterations in one ``step``.
        max_eval: largest number of evaluations of the closure in one ``step``; 1.25 * max_iter if None.
        tolerance_grad: stop where no element of the gradient is larger.
        tolerance_change: stop where no parameter, or the loss, changes by more.
        history_size: number of previous steps remembered.
        line_search_fn: ``"strong_wolfe"``, or None for steps of length ``lr``.

    Raises:
        ValueError: a negative rate, several groups, or another line search.
    """

    _numbers = ()
    _free_shapes = True

    def __init__(
        self,
        params: ParamsArgument,
        lr: float | Tensor = 1,
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        history_size: int = 100,
        line_search_fn: str | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "max_iter": max_iter,
            "max_eval": max_iter * 5 // 4 if max_eval is None else max_eval,
            "tolerance_grad": tolerance_grad,
            "tolerance_change": tolerance_change,
            "history_size": history_size,
            "line_search_fn": line_search_fn,
        }
        self._check_options(defaults)
        super().__init__(params, defaults)

    def _check_options(self, group: dict[str, Any]) -> None:
        check_rate("LBFGS", group["lr"])
        if group["line_search_fn"] not in (None, "strong_wolfe"):
            raise ValueError(f"LBFGS: line_search_fn must be 'strong_wolfe' or None, got {group['line_search_fn']!r}")

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Take the one group.

        Raises:
            ValueError: there is one already.
        """
        if self.param_groups:
            raise ValueError("LBFGS: params must be one group, got several")
        super().add_param_group(param_group)

    def _gradient(self) -> Tensor:
        """The gradients of all parameters, one after another."""
        flat = [
            (param.detach() * 0 if param.grad is None else param.grad.detach()).reshape(-1)
            for param in self.param_groups[0]["params"]
        ]
        return cat(flat, 0)

    def _move(self, length: float, direction: Tensor) -> None:
        """Add a multiple of a direction to the parameters."""
        start = 0
        for param in self.param_groups[0]["params"]:
            end = start + param.numel()
            param.add_(direction[start:end].reshape(param.shape), alpha=length)
            start = end

    @no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take up to ``max_iter`` steps.

        Args:
            closure: computes the gradients anew and returns the loss.

        Returns:
            The loss before the first step.

        Raises:
            TypeError: no closure.
        """
        if closure is None:
            raise TypeError("LBFGS: step needs a closure that computes the loss and its gradients")
        group = self.param_groups[0]
        params = group["params"]
        evaluate = enable_grad()(closure)
        rate = float(group["lr"])
        max_iter, max_eval, history = group["max_iter"], group["max_eval"], group["history_size"]
        state = self.state[params[0]]
        state.setdefault("func_evals", 0)
        state.setdefault("n_iter", 0)
        first_loss = evaluate()
        loss = float(first_loss)
        evaluations = 1
        state["func_evals"] += 1
        gradient = self._gradient()
        if gradient.abs().max().item() <= group["tolerance_grad"]:
            return first_loss
        # How far the last step went, the last gradient, and pairs (difference of gradients, step, 1 / their product).
        kept: dict[str, Any] = defaultdict(lambda: None, state)
        direction, length, previous = kept["d"], kept["t"], kept["prev_flat_grad"]
        differences, steps, inverses = kept["old_dirs"], kept["old_stps"], kept["ro"]
        scale, previous_loss = kept["H_diag"], kept["prev_loss"]

        iteration = 0
        while iteration < max_iter:
            iteration += 1
            state["n_iter"] += 1
            if state["n_iter"] == 1:
                direction = -gradient
                differences, steps, inverses, scale = [], [], [], 1
            else:
                difference, moved = gradient - previous, direction * length
                product = _dot(difference, moved)
                if product > 1e-10:
                    if len(differences) == history:
                        for old in (differences, steps, inverses):
                            old.pop(0)
                    differences.append(difference)
                    steps.append(moved)
                    inverses.append(1.0 / product)
                    scale = product / _dot(difference, difference)
                direction = _two_loops(-gradient, differences, steps, inverses, scale)
            previous, previous_loss = gradient.clone(), loss
            length = min(1.0, 1.0 / gradient.abs().sum().item()) * rate if state["n_iter"] == 1 else rate
            slope = _dot(gradient, direction)
            if slope > -group["tolerance_change"]:
                break
            taken = 0
            if group["line_search_fn"] is not None:
                start = [param.detach().clone() for param in params]
                search_direction: Tensor = direction

                def along(
                    t: float, start: list[Tensor] = start, search_direction: Tensor = search_direction
                ) -> tuple[float, Tensor]:
                    self._move(t, search_direction)
                    value = float(evaluate())
                    found = self._gradient()
                    for param, value_before in zip(params, start, strict=True):
                        param.copy_(value_before)
                    return value, found

                loss, gradient, length, taken = _strong_wolfe(
                    along, length, direction, loss, gradient, slope, max_eval - evaluations
                )
                self._move(length, direction)
            else:
                self._move(length, direction)
                if iteration != max_iter:  # with samples drawn anew, the last evaluation would be of no use
                    loss = float(evaluate())
                    gradient = self._gradient()
                    taken = 1
            flat = gradient.abs().max().item() <= group["tolerance_grad"]
            evaluations += taken
            state["func_evals"] += taken
            if (
                iteration == max_iter
                or evaluations >= max_eval
                or flat
                or (direction * length).abs().max().item() <= group["tolerance_change"]
                or abs(loss - previous_loss) < group["tolerance_change"]
            ):
                break

        state.update(
            d=direction,
            t=length,
            old_dirs=differences,
            old_stps=steps,
            ro=inverses,
            H_diag=scale,
            prev_flat_grad=previous,
            prev_loss=previous_loss,
        )
        return first_loss


def _dot(a: Tensor, b: Tensor) -> float:
    return float((a * b).sum().item())


def _two_loops(q: Tensor, differences: list[Tensor], steps: list[Tensor], inverses: list[Any], scale: Any) -> Tensor:
    """The inverse Hessian's approximation times q (Nocedal and Wright 2006, algorithm 7.4)."""
    shares = [0.0] * len(differences)
    for i in range(len(differences) - 1, -1, -1):
        shares[i] = _dot(steps[i], q) * float(inverses[i])
        q.add_(differences[i], alpha=-shares[i])
    result = q * float(scale)
    for i, difference in enumerate(differences):
        result.add_(steps[i], alpha=shares[i] - _dot(difference, result) * float(inverses[i]))
    return result


def _cubic_minimum(
    x1: float, f1: float, g1: float, x2: float, f2: float, g2: float, bounds: tuple[float, float] | None = None
) -> float:
    """Where the cubic through two points with their slopes is lowest, within the bounds or between the points."""
    low, high = bounds if bounds is not None else (min(x1, x2), max(x1, x2))
    with_slopes = g1 + g2 - 3 * (f1 - f2) / (x1 - x2) if x1 != x2 else math.nan
    square = with_slopes**2 - g1 * g2
    if not square >= 0:
        return (low + high) / 2
    root = math.sqrt(square)
    if x1 <= x2:
        top, bottom = g2 + root - with_slopes, g2 - g1 + 2 * root
        place = x2 - (x2 - x1) * (top / bottom) if bottom else math.nan
    else:
        top, bottom = g1 + root - with_slopes, g1 - g2 + 2 * root
        place = x1 - (x1 - x2) * (top / bottom) if bottom else math.nan
    return min(max(place, low), high)


def _strong_wolfe(
    along: Evaluate,
    t: float,
    direction: Tensor,
    f: float,
    gradient: Tensor,
    slope: float,
    most: int,
    c1: float = 1e-4,
    c2: float = 0.9,
    tolerance: float = 1e-9,
) -> tuple[float, Tensor, float, int]:
    """A length that fulfils the strong Wolfe conditions (Nocedal and Wright 2006, algorithms 3.5 and 3.6).

    Returns:
        Loss, gradient, length, and how often it was evaluated.
    """
    largest = direction.abs().max().item()
    # A point of the search: length, loss, gradient, slope.
    origin = (0.0, f, gradient, slope)
    previous = origin
    value, found = along(t)
    point = (t, value, found, _dot(found, direction))
    evaluations, searches, done = 1, 0, False
    bracket = [origin, point]
    while searches < most:
        t, value, _, now = point
        if value > f + c1 * t * slope or (searches > 1 and value >= previous[1]):
            bracket = [previous, point]
            break
        if abs(now) <= -c2 * slope:
            bracket = [point]
            done = True
            break
        if now >= 0:
            bracket = [previous, point]
            break
        bounds = (t + 0.01 * (t - previous[0]), t * 10)
        following = _cubic_minimum(previous[0], previous[1], previous[3], t, value, now, bounds)
        previous = point
        value, found = along(following)
        point = (following, value, found, _dot(found, direction))
        evaluations += 1
        searches += 1
    if searches == most:
        bracket = [origin, point]

    # Zoom: a point that fulfils the conditions lies in the bracket.
    stuck = False
    low, high = (0, 1) if bracket[0][1] <= bracket[-1][1] else (1, 0)
    while not done and searches < most:
        ends = (bracket[0][0], bracket[1][0])
        width = max(ends) - min(ends)
        if width * largest < tolerance:
            break
        (x1, f1, _, g1), (x2, f2, _, g2) = bracket
        t = _cubic_minimum(x1, f1, g1, x2, f2, g2)
        # Close to an end twice, or at one: a tenth of the bracket away from it instead.
        margin = 0.1 * width
        if min(max(ends) - t, t - min(ends)) < margin:
            if stuck or t >= max(ends) or t <= min(ends):
                t = max(ends) - margin if abs(t - max(ends)) < abs(t - min(ends)) else min(ends) + margin
                stuck = False
            else:
                stuck = True
        else:
            stuck = False
        value, found = along(t)
        point = (t, value, found, _dot(found, direction))
        evaluations += 1
        searches += 1
        if value > f + c1 * t * slope or value >= bracket[low][1]:
            bracket[high] = point
            low, high = (0, 1) if bracket[0][1] <= bracket[1][1] else (1, 0)
        else:
            if abs(point[3]) <= -c2 * slope:
                done = True
            elif point[3] * (bracket[high][0] - bracket[low][0]) >= 0:
                bracket[high] = bracket[low]
            bracket[low] = point
    t, value, found, _ = bracket[low]
    return value, found, t, evaluations
