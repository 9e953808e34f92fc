"""What values a parameter may have, or a distribution gives: sets that can be asked, and that say what they hold.

NaN is in none of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gpunet.autograd import Tensor
from gpunet.ops.dtypes import is_floating

__all__ = [
    "Constraint",
    "boolean",
    "integer_interval",
    "interval",
    "positive",
    "real",
    "real_vector",
    "unit_interval",
    "weights",
]


class Constraint:
    """A set of numbers, or of vectors along the last dimension.

    Args:
        text: its members, after "must be".
        member: True for each number, or each vector, of a tensor that lies in the set.
        event_dim: 0 for a set of numbers, 1 for one of vectors.
    """

    def __init__(self, text: str, member: Callable[[Tensor], Tensor], event_dim: int = 0) -> None:
        self.text, self.event_dim, self._member = text, event_dim, member

    def check(self, value: Tensor) -> Tensor:
        """True where ``value`` lies in the set; a set of vectors takes the last dimension together."""
        return self._member(value)

    def __repr__(self) -> str:
        return f"Constraint({self.text!r})"


def _shown(bound: Any) -> str:
    """A bound for a message: one number, or nothing of many."""
    if not isinstance(bound, Tensor):
        return str(bound)
    return f"{bound.item():g}" if bound.numel() == 1 and not bound.is_meta else "its bound"


def interval(low: Any, high: Any) -> Constraint:
    """Numbers from low to high, both included; numbers or tensors."""
    return Constraint(f"between {_shown(low)} and {_shown(high)}", lambda x: (x >= low) & (x <= high))


def integer_interval(low: int, high: int) -> Constraint:
    """Whole numbers from low to high, both included, of any dtype."""

    def member(x: Tensor) -> Tensor:
        inside = (x >= low) & (x <= high)
        return inside & (x == x.floor()) if is_floating(x.dtype) else inside

    return Constraint(f"a whole number from {low} to {high}", member)


real = Constraint("a number", lambda x: x == x)
real_vector = Constraint("a vector of numbers", lambda x: (x == x).all(-1), 1)
positive = Constraint("positive", lambda x: x > 0)
unit_interval = interval(0, 1)
boolean = Constraint("0 or 1", lambda x: (x == 0) | (x == 1))
weights = Constraint(
    "a vector of weights, none negative, with a positive and finite sum",
    lambda x: (x >= 0).all(-1) & (x.sum(-1) > 0) & x.sum(-1).isfinite(),
    1,
)
