"""Giving a Tensor itself another shape over the same elements: ``x.unsqueeze_(0)``, ``x.t_()`` and the like."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gpunet.autograd import function
from gpunet.autograd.grad_mode import state as grad_state
from gpunet.autograd.overwriting import Overwriting
from gpunet.backend.errors import GradientError

if TYPE_CHECKING:
    from gpunet.autograd.tensor import Tensor

__all__ = ["Reshaping"]


class Reshaping(Overwriting):
    """Other shapes in place. Mixed into Tensor."""

    __slots__ = ()

    def _become(self, name: str, *args: Any) -> Tensor:
        """Become the view of itself that a method gives; the tensor as it was goes on as what it is a view of.

        Raises:
            GradientError: a leaf that requires grad, while gradients are recorded.
        """
        self._catch_up()
        if grad_state.enabled and self._requires_grad and self._node is None:
            raise GradientError(
                f"{name}_: a leaf that requires grad cannot be given another shape while gradients are recorded; "
                f"use {name}, which makes a new tensor"
            )
        before = function.wrap(self._array, self._device)
        before._counter, before._view, before._stamp = self._counter, self._view, self._stamp
        before._node, before._index, before._requires_grad = self._node, self._index, self._requires_grad
        result = getattr(before, name)(*args)
        self._array, self._view, self._stamp = result._array, result._view, result._stamp
        self._node, self._index, self._requires_grad = result._node, result._index, result._requires_grad
        self._counter[0] += 1
        self._stamp = (self._counter[0], self._counter[1]) if type(self._stamp) is tuple else self._stamp
        return self  # type: ignore[return-value]

    def unsqueeze_(self, dim: int) -> Tensor:
        """Insert a dimension of size one."""
        return self._become("unsqueeze", dim)

    def squeeze_(self, dim: Any = None) -> Tensor:
        """Remove dimensions of size one, all or those named."""
        return self._become("squeeze", *(() if dim is None else (dim,)))

    def transpose_(self, dim0: int, dim1: int) -> Tensor:
        """Exchange two dimensions."""
        return self._become("transpose", dim0, dim1)

    swapaxes_ = swapdims_ = transpose_

    def t_(self) -> Tensor:
        """Transpose a matrix."""
        return self._become("t")
