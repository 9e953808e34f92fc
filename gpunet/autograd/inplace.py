"""Writing to Tensors in place, inside the graph and outside it.

A tensor and its views share memory and one counter pair: how often the elements have been written (what ``backward``
checks saved arrays against), and how often a write has given them another place in the graph. A view knows the tensor
it is a view of, its root, and the steps from there. Inside the graph a write to a view is a write to part of its root:
the root's place becomes a ``set_index`` of its old one and the value, and every view finds its own place anew from the
root when it is next used.

Where the layout made a view a copy, the same holds for the elements: they are handed to the root after a write, and
fetched from it before the next use if something else was written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gpunet.autograd import function
from gpunet.autograd.engine import Node
from gpunet.autograd.grad_mode import enable_grad
from gpunet.autograd.grad_mode import state as grad_state
from gpunet.autograd.indexing import SET_INDEX, index_layout
from gpunet.autograd.observer import state as observer_state
from gpunet.autograd.reductions import Reductions
from gpunet.backend.devices import CPU, META, array_module, cupy
from gpunet.backend.errors import DeviceError, DTypeError, GradientError, ShapeError
from gpunet.backend.memory import assign
from gpunet.ops import REGISTRY
from gpunet.ops.dtypes import cast_scalar, is_floating, stored_scalar
from gpunet.ops.elementwise import broadcast_shapes
from gpunet.ops.indexing import view_of

if TYPE_CHECKING:
    from gpunet.autograd.tensor import Tensor

__all__ = ["InPlace"]

# What may write its result over its first operand at once: the ufunc, and how many operands backward needs.
DIRECT = {"add": "add", "sub": "subtract", "mul": "multiply", "div": "true_divide"}


class InPlace(Reductions):
    """Writing in place. Mixed into Tensor."""

    __slots__ = ("_array", "_counter", "_index", "_node", "_requires_grad", "_stamp", "_view")

    if TYPE_CHECKING:
        _array: Any
        # How often the elements have been written, how often that changed their place in the graph, and who was copied
        # from or to where PyTorch has a view; views share it.
        _counter: list[Any]
        # The second of these when the place in the graph was last looked up; the first two for a view that is a copy.
        _stamp: Any
        # For a view, the tensor whose memory it is, the steps from there, and whether gradient mode saw them.
        _view: tuple[Tensor, Any, bool] | None
        _node: Node | None
        _index: int
        _requires_grad: bool

        def to(self, *args: Any, **kwargs: Any) -> Tensor: ...

    # The machinery -------------------------------------------------------------------------------------------------

    @property
    def _version(self) -> int:
        """How often the elements have been written in place, through this tensor or a view."""
        return self._counter[0]

    def _bump_version(self) -> None:
        if type(self._stamp) is tuple:
            self._hand_on()
        self._counter[0] += 1

    def _hand_on(self) -> None:
        """Write the elements of a view that is a copy to its root."""
        assert self._view is not None
        root, steps, _ = self._view
        if self._device is not META:
            logical = array_module(root._array).ascontiguousarray(root._array)
            if logical is root._array:
                logical = logical.copy()
            view_of(logical, steps)[...] = self._array
            root._array[...] = logical
        self._stamp = (self._counter[0] + 1, self._counter[1])

    def _catch_up(self) -> None:
        """Find a view's place in the graph again if its root was given another."""
        if self._view is not None and self._counter[1] != self._stamp:
            self._refresh()

    def _refresh(self) -> None:
        assert self._view is not None
        root, steps, seen = self._view
        self._check_root(root)
        version, moves, _ = self._counter
        if type(self._stamp) is tuple:
            known, looked = self._stamp
            if known != version and self._device is not META:
                self._array[...] = view_of(root._array, steps)
            self._stamp = (version, moves)
            if looked == moves:
                return
        else:
            self._stamp = moves
        if not seen or (self._requires_grad and self._node is None):
            return  # a constant, or a leaf of its own
        if not root._requires_grad:
            self._node, self._index, self._requires_grad = None, 0, False
            return
        observers, observer_state.observers = observer_state.observers, []
        try:
            place: Any = root
            with enable_grad():
                for op, attributes, number in steps:
                    made = function.apply(op, place, **attributes)
                    place = made[number] if isinstance(made, tuple) else made
        finally:
            observer_state.observers = observers
        self._node, self._index, self._requires_grad = place._node, place._index, place._requires_grad

    @staticmethod
    def _check_root(root: Any) -> None:
        """Raise if what a tensor is a view of is a view itself by now: the steps from there lead elsewhere.

        Raises:
            GradientError: it was given another shape in place.
        """
        if root._view is not None:
            raise GradientError(
                "in-place: the tensor this is a view of was given another shape by unsqueeze_, squeeze_, transpose_ or "
                "t_ since; take the view again"
            )

    def _check_writable(self) -> None:
        """Raise if the elements must not be written to.

        Raises:
            GradientError: while gradients are recorded, a leaf that requires grad, a view of one, or a view that the
                graph cannot follow.
            ValueError: read-only memory, several elements in one place, or a copy that ``unfold`` made.
        """
        self._catch_up()
        root: Any = self if self._view is None else self._view[0]
        if root is not self:
            self._check_root(root)
        if grad_state.enabled and any(t._requires_grad and t._node is None for t in (self, root)):
            raise GradientError(
                "in-place: a leaf that requires grad cannot be written to while gradients are recorded; "
                "use gpunet.no_grad(), or an operation that makes a new tensor"
            )
        if grad_state.enabled and root._requires_grad:
            self._check_view()
        if self._counter[2]:
            self._counter[2] = [other for other in self._counter[2] if other() is not None] or None
            if self._counter[2]:
                raise ValueError(
                    "in-place: unfold gives a copy, so the write would not be seen in both tensors; write to a clone()"
                )
        if isinstance(self._array, np.ndarray) and not self._array.flags.writeable:
            raise ValueError("in-place: the tensor shares read-only memory, or is expanded; use clone() first")
        if root._node is not None and root._node.op.parts_with_output and root._index == 0:
            root._node.part_with_output()

    def _check_view(self) -> None:
        """Raise if the tensor is a view that cannot be written to inside the graph.

        Raises:
            GradientError: gradient mode did not see it made, or one operation made it with others.
        """
        if self._view is None:
            return
        _, steps, seen = self._view
        if not seen:
            raise GradientError(
                "in-place: a view made under no_grad cannot be written to while gradients are recorded; "
                "make it, or write to it, in one and the same mode"
            )
        if any(op.name == "split" for op, _, _ in steps):
            raise GradientError(
                "in-place: one of several views that split, chunk or unbind made cannot be written to inside the "
                "graph; write to an index of the whole tensor"
            )

    def _take_place(self, node: Node, index: int) -> None:
        """Become an output of a node; views of the tensor find their places from it."""
        old = self._node
        if old is not None and old.retained is not None:
            kept = old.retained.get(self._index)
            if kept is not None and kept() is self:  # retain_grad() was asked for the tensor, not for its old value
                del old.retained[self._index]
                node.retained = {**(node.retained or {}), index: kept}
        self._node, self._index, self._requires_grad = node, index, True
        self._counter[1] += 1
        if self._view is None:
            self._stamp = self._counter[1]

    def _record_write(self, value: Any, layout: tuple[Any, ...] = (), arrays: list[Tensor] | None = None) -> None:
        """Give the tensor's root its new place in the graph: ``value`` is what stands at an index of this tensor."""
        root, steps = (self, ()) if self._view is None else self._view[:2]
        self._check_view()
        inputs = (root, value, *(arrays or ()))
        needs = tuple(bool(getattr(each, "_requires_grad", False)) for each in inputs)
        node = Node(SET_INDEX, needs, {"layout": layout, "view": steps}, self._device)
        plain = value if isinstance(value, (bool, int, float)) else value._array
        order = tuple(range(root.ndim)) if type(self._stamp) is tuple else None
        SET_INDEX.keep(node, root._array, plain, [array._array for array in arrays or ()], order)  # type: ignore[attr-defined]
        function.connect(node, inputs, [root])  # type: ignore[list-item]
        root._take_place(node, 0)
        self._catch_up()

    def _write(self, result: Tensor) -> Tensor:
        """Take over the value, and the place in the graph, of a result computed from this tensor.

        Raises:
            ShapeError, DTypeError: the result does not fit.
        """
        self._check_writable()
        if result.shape != self.shape:
            raise ShapeError(f"in-place: a result of shape {result.shape} does not fit a tensor of shape {self.shape}")
        if _kind(result.dtype) > _kind(self.dtype):
            raise DTypeError(f"in-place: a {result.dtype.name} result cannot be stored in a {self.dtype.name} tensor")
        for observer in observer_state.observers:
            if hasattr(observer, "written"):
                observer.written(self, result)
        node = result._node
        recorded = node is not None or (grad_state.enabled and self._requires_grad)
        if recorded:
            self._check_view()
            if node is not None and self._device is not META:
                self._rescue(node)
            cast = result._cast(self.dtype)
            if cast is not result:
                result, node = cast, cast._node
        if self._device is META:
            self._bump_version()
            return self  # type: ignore[return-value]
        self._array[...] = result._array
        self._bump_version()
        if node is not None:
            for position, saved in enumerate(node.saved):
                if saved is result._array:  # the same values: no need to keep them twice
                    node.saved = (*node.saved[:position], self._array, *node.saved[position + 1 :])
                    node.versions = [entry for entry in node.versions if entry[2] != position]
                    node.versions.append((self._counter, self._counter[0], position))
        if recorded:
            if self._view is None and node is not None:
                self._take_place(node, result._index)
            else:
                self._record_write(result)
        return self  # type: ignore[return-value]

    def _rescue(self, node: Node) -> None:
        """Copy what a node has saved of the elements about to be written: backward wants the values from before."""
        saved = list(node.saved)
        versions = []
        for counter, version, position in node.versions:
            if counter is self._counter and function.shares(saved[position], self._array):
                saved[position] = saved[position].copy(order="K")
            else:
                versions.append((counter, version + 1 if counter is self._counter else version, position))
        node.saved = tuple(saved)
        node.versions = versions

    def _update(self, name: str, other: Any) -> Any:
        """self = self (+, -, *, /) other, in place; without a temporary array where the operands allow it."""
        other = function.operand(self, other)
        if other is NotImplemented:
            return NotImplemented
        op = REGISTRY[name]
        if not self._fits(other) or observer_state.observers:
            return self._write(function.apply(op, self, other))
        self._check_writable()
        tensor = hasattr(other, "_array")
        if tensor:
            other._catch_up()
        recorded = grad_state.enabled and (self._requires_grad or (tensor and other._requires_grad))
        if recorded and (op.saves or self._view is not None):  # type: ignore[attr-defined]
            return self._write(function.apply(op, self, other))
        plain = other._array if tensor else cast_scalar(other, self.dtype)
        node = None
        if recorded:
            needs = (self._requires_grad, tensor and other._requires_grad)
            node = Node(op, needs, {}, self._device)
            op.keep(node, self._array, plain)  # type: ignore[attr-defined]
            function.connect(node, (self, other), [self])  # type: ignore[list-item]
        with np.errstate(all="ignore"):
            if self._device.type == "cuda":
                with cupy().cuda.Device(self._device.index):
                    getattr(cupy(), DIRECT[name])(self._array, plain, out=self._array)
            else:
                getattr(np, DIRECT[name])(self._array, plain, out=self._array)
        self._bump_version()
        if node is not None:
            self._take_place(node, 0)
        return self

    def _fits(self, other: Any) -> bool:
        """Whether a ufunc may write its result with the other operand over this tensor's elements."""
        if self._device is META or not is_floating(self.dtype) or self.dtype.itemsize < 4:
            return False
        if isinstance(other, (bool, int, float)):
            return True
        if other._device is not self._device or other.dtype != self.dtype or other.ndim > self.ndim:
            return False
        sizes = zip(reversed(other.shape), reversed(self.shape), strict=False)
        return all(extent in (1, own) for extent, own in sizes)

    # Operators -----------------------------------------------------------------------------------------------------

    def __iadd__(self, other: Any) -> Tensor:
        return self._update("add", other)

    def __isub__(self, other: Any) -> Tensor:
        return self._update("sub", other)

    def __imul__(self, other: Any) -> Tensor:
        return self._update("mul", other)

    def __itruediv__(self, other: Any) -> Tensor:
        return self._update("div", other)

    def __ipow__(self, other: Any) -> Tensor:
        return self._write(self**other)

    def __ifloordiv__(self, other: Any) -> Tensor:
        return self._write(self // other)

    def __imod__(self, other: Any) -> Tensor:
        return self._write(self % other)

    def __iand__(self, other: Any) -> Tensor:
        return self._write(self & other)

    def __ior__(self, other: Any) -> Tensor:
        return self._write(self | other)

    def __ixor__(self, other: Any) -> Tensor:
        return self._write(self ^ other)

    def __setitem__(self, index: Any, value: Any) -> None:
        layout, arrays = index_layout(index, self._device)
        if not hasattr(value, "_array") and not isinstance(value, (int, float, bool)):
            array = value if isinstance(value, np.ndarray) else np.asarray(value)
            value = function.wrap(function.to_device_array(array, self._device), self._device)
        elif hasattr(value, "_array") and value._device is not self._device:
            if value.ndim:
                raise DeviceError(
                    f"index assignment: the value must be on {str(self._device)!r}, got {str(value._device)!r}"
                )
            value = value.to(self._device)
        self._check_writable()
        tensor = hasattr(value, "_array")
        if tensor:
            value._catch_up()
        recorded = grad_state.enabled and (self._requires_grad or (tensor and value._requires_grad))
        if recorded:
            self._check_view()
            if tensor:
                value = value._cast(self.dtype)
                recorded = self._requires_grad or value._requires_grad  # integers have no gradient
        plain: Any = value._array if tensor else stored_scalar("index assignment", value, self.dtype)
        if tensor and not arrays and self._stands_at(layout, plain):
            return  # x[i] += v has written through x[i] already, and hands it back
        if tensor and self._device is not META and function.shares(plain, self._array):
            plain = plain.copy()
        function.write_index(self._array, [array._array for array in arrays], layout, plain)
        self._bump_version()
        if recorded and self._device is not META:
            self._record_write(value, layout, arrays)

    def _stands_at(self, layout: tuple[Any, ...], array: Any) -> bool:
        """Whether an array is, element for element, the memory at a basic index of this tensor."""
        if self._device is META or not function.shares(array, self._array):
            return False
        function.check_index(self._array, layout)
        place = self._array[layout if Ellipsis in layout else (*layout, Ellipsis)]
        return (
            function.address(place) == function.address(array)
            and place.shape == array.shape
            and place.strides == array.strides
            and place.dtype == array.dtype
        )

    # Methods -------------------------------------------------------------------------------------------------------

    def fill_(self, value: Any) -> Tensor:
        """Write one value, a number or a 0-d tensor, everywhere."""
        if hasattr(value, "_array"):
            if value.ndim:
                raise ShapeError(f"fill_: value must be a number or a 0-d tensor, got shape {value.shape}")
            return self.copy_(value)
        self._check_writable()
        recorded = grad_state.enabled and self._requires_grad
        if recorded:
            self._check_view()
        value = stored_scalar("fill_", value, self.dtype, finite=True)
        if self._device is not META:
            self._array[...] = value
        self._bump_version()
        if recorded and self._device is not META:
            self._record_write(value)
        return self  # type: ignore[return-value]

    def zero_(self) -> Tensor:
        """Write 0 everywhere."""
        return self.fill_(0)

    def copy_(self, source: Any, non_blocking: bool = False) -> Tensor:
        """Write another tensor's elements, broadcast and converted; gradients flow back to it."""
        if not hasattr(source, "_array"):
            source = function.wrap(np.asarray(source), CPU)
        if source._device is not self._device:
            source = source.to(self._device)
        if source.shape != self.shape and broadcast_shapes("copy_", source.shape, self.shape) != self.shape:
            raise ShapeError(f"copy_: shape {source.shape} does not broadcast to {self.shape}")
        self._check_writable()
        source._catch_up()
        recorded = grad_state.enabled and (self._requires_grad or source._requires_grad)
        if recorded:
            self._check_view()
            source = source._cast(self.dtype)
            recorded = self._requires_grad or source._requires_grad  # integers have no gradient
        if self._device is not META:
            assign(self._array, source._array)
        self._bump_version()
        if recorded and self._device is not META:
            self._record_write(source)
        return self  # type: ignore[return-value]

    def add_(self, other: Any, *, alpha: float = 1) -> Tensor:
        """self += alpha * other."""
        return self._known("add_", self._update("add", self._scaled("add_", other, alpha)), other)

    def sub_(self, other: Any, *, alpha: float = 1) -> Tensor:
        """self -= alpha * other."""
        return self._known("sub_", self._update("sub", self._scaled("sub", other, alpha)), other)

    def mul_(self, other: Any) -> Tensor:
        """self *= other."""
        return self._known("mul_", self._update("mul", other), other)

    def div_(self, other: Any, *, rounding_mode: str | None = None) -> Tensor:
        """self /= other; ``rounding_mode`` as in ``div``."""
        if rounding_mode is not None:
            return self._write(self.div(other, rounding_mode=rounding_mode))
        return self._known("div_", self._update("div", other), other)

    subtract_, multiply_, divide_, true_divide_ = sub_, mul_, div_, div_

    @staticmethod
    def _known(name: str, result: Any, other: Any) -> Tensor:
        if result is NotImplemented:
            raise TypeError(f"{name}: other must be a Tensor or a number, got {type(other).__name__}")
        return result

    def pow_(self, exponent: Any) -> Tensor:
        """self **= exponent."""
        return self._write(self**exponent)

    def floor_divide_(self, other: Any) -> Tensor:
        """self //= other."""
        return self._write(self // other)

    def remainder_(self, other: Any) -> Tensor:
        """self %= other."""
        return self._write(self % other)

    def clamp_(self, min: Any = None, max: Any = None) -> Tensor:
        """Limit the elements to min..max."""
        return self._write(self.clamp(min, max))

    clip_ = clamp_

    def clamp_min_(self, min: Any) -> Tensor:
        """Raise elements below ``min`` to it."""
        return self._write(self.clamp(min=min))

    def clamp_max_(self, max: Any) -> Tensor:
        """Lower elements above ``max`` to it."""
        return self._write(self.clamp(max=max))

    def relu_(self) -> Tensor:
        """Replace negative elements by 0."""
        return self._write(self.relu())

    def exp_(self) -> Tensor:
        """Replace each element by its exponential."""
        return self._write(self.exp())

    def log_(self) -> Tensor:
        """Replace each element by its natural logarithm."""
        return self._write(self.log())

    def sqrt_(self) -> Tensor:
        """Replace each element by its square root."""
        return self._write(self.sqrt())

    def rsqrt_(self) -> Tensor:
        """Replace each element by 1 / its square root."""
        return self._write(self.rsqrt())

    def square_(self) -> Tensor:
        """Replace each element by its square."""
        return self._write(self.square())

    def reciprocal_(self) -> Tensor:
        """Replace each element by 1 / it."""
        return self._write(self.reciprocal())

    def abs_(self) -> Tensor:
        """Replace each element by its absolute value."""
        return self._write(self.abs())

    def neg_(self) -> Tensor:
        """Change all signs."""
        return self._write(-self)

    def sigmoid_(self) -> Tensor:
        """Replace each element x by 1 / (1 + exp(-x))."""
        return self._write(self.sigmoid())

    def tanh_(self) -> Tensor:
        """Replace each element by its hyperbolic tangent."""
        return self._write(self.tanh())

    def floor_(self) -> Tensor:
        """Replace each element by the largest integer not above it."""
        return self._write(self.floor())

    def masked_fill_(self, mask: Tensor, value: Any) -> Tensor:
        """Write ``value`` where the mask is true."""
        return self._write(self.masked_fill(mask, value))


def _kind(dtype: np.dtype[Any]) -> int:
    return 2 if is_floating(dtype) else 0 if dtype.kind == "b" else 1
