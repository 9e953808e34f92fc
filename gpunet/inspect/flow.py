"""Which layer reads what which other layer gives: the edges of a model, found out as it runs.

Arrays are followed by identity from the layer that made them to the layers that take them. Views, such as a flattened
array or half of the channels, count as what they are views of.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from gpunet.autograd import Tensor

__all__ = ["Flow", "Ran"]


class Ran(NamedTuple):
    """An operation in a step: its name, its attributes, and how many of its inputs others have made."""

    name: str
    attributes: dict[str, Any]
    inputs: int


class Flow:
    """The makers of arrays, and for each step what it reads.

    A maker is a step, or the number of one of the model's inputs.

    Attributes:
        reads: by the identity of a step, the makers of what it reads, each once, in the order of reading.
        operations: by the identity of a step, the operations in it.
    """

    def __init__(self) -> None:
        self.reads: dict[int, list[Any]] = {}
        self.operations: dict[int, list[Ran]] = {}
        # By the identity of the arrays, which several Tensors may share; they are kept, so that none is used twice.
        self._made: dict[int, tuple[Any, tuple[Any, ...]]] = {}

    def clear(self) -> None:
        """Forget a run that failed."""
        self.reads.clear()
        self.operations.clear()
        self._made.clear()

    def made(self, tensor: Tensor, maker: Any) -> None:
        """Note who made a tensor."""
        self._set(tensor, (maker,))

    def makers(self, tensor: Tensor) -> tuple[Any, ...]:
        """Who made a tensor; nobody of what does not depend on the inputs."""
        return self._made.get(id(tensor._array), (None, ()))[1]

    def step(
        self, op: Any, inputs: Sequence[Any], attributes: dict[str, Any], outputs: Sequence[Tensor], step: Any
    ) -> None:
        """Note an operation that is part of a step; None if it only hands on what there is."""
        read = [self.makers(value) for value in inputs if isinstance(value, Tensor)]
        makers = _unique(maker for one in read for maker in one)
        if step is not None:
            self.read(step, makers)
            outside = sum(any(maker is not step for maker in one) for one in read)
            self.operations.setdefault(id(step), []).append(Ran(op.name, attributes, outside))
            makers = (step,)
        for output in outputs:
            self._set(output, makers)

    def read(self, step: Any, makers: Iterable[Any]) -> None:
        """Note that a step reads what others have made; what it made itself does not count."""
        known = self.reads.setdefault(id(step), [])
        for maker in makers:
            if maker is not step and not any(maker is one for one in known):
                known.append(maker)

    def written(self, target: Tensor, result: Tensor) -> None:
        """Note that a tensor is about to take over the value of a result."""
        self._set(target, self.makers(result))

    def _set(self, tensor: Tensor, makers: tuple[Any, ...]) -> None:
        # Constants and parameters stay unknown.
        if makers or id(tensor._array) in self._made:
            self._made[id(tensor._array)] = (tensor._array, makers)


def _unique(makers: Iterator[Any]) -> tuple[Any, ...]:
    return tuple({id(maker): maker for maker in makers}.values())
