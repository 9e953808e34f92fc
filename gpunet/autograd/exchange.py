"""The halves of an activation that two devices hold, joined on each: the one operation that spans two devices.

Model parallelism as in Krizhevsky, Sutskever and Hinton 2012: each device computes half of the channels or units, and
some layers need all of them. Forward each half is copied to the other device, and backward the gradient with respect to
the copy is copied back and added to the one that stayed. Between two GPUs both copies run beside computation, see
``gpunet.backend.parcels``.
"""

from __future__ import annotations

from typing import Any

from gpunet.autograd import function
from gpunet.autograd.engine import Node
from gpunet.autograd.grad_mode import state as grad_state
from gpunet.autograd.joining import cat
from gpunet.autograd.observer import state as observer_state
from gpunet.autograd.tensor import Tensor
from gpunet.backend.devices import Device, on_device
from gpunet.backend.parcels import Parcel
from gpunet.ops import REGISTRY
from gpunet.ops.base import NO_GRAD, Context, Inferred, Op
from gpunet.ops.reduce import normalize_axis

__all__ = ["exchange"]

CAT = REGISTRY["cat"]


class Exchange(Op):
    """y0 = cat(x0, x1) where x0 is, and if ``both``, y1 = cat(x0, x1) where x1 is."""

    name = "exchange"

    def infer(self, *inputs: Any, dim: int, devices: tuple[Device, Device], both: bool) -> Inferred:
        return Inferred(CAT.infer(*inputs, dim=dim).outputs * (2 if both else 1))

    def forward(self, ctx: Context, *inputs: Any, dim: int, devices: tuple[Device, Device], both: bool) -> Any:
        x0, x1 = inputs
        first, second = devices
        ctx.state = x0.shape[dim]
        # Both are sent before either is waited for.
        to_first = Parcel(x1, second, first)
        to_second = Parcel(x0, first, second) if both else None
        with to_first as arrived, on_device(first):
            y0 = CAT.forward(NO_GRAD, x0, arrived, dim=dim)
        if to_second is None:
            return (y0,)
        with to_second as arrived, on_device(second):
            return y0, CAT.forward(NO_GRAD, arrived, x1, dim=dim)

    def backward(self, ctx: Context, *grad_outputs: Any) -> tuple[Any, ...]:
        first, second = ctx.attributes["devices"]
        before = (slice(None),) * ctx.attributes["dim"]
        own, other = (*before, slice(ctx.state)), (*before, slice(ctx.state, None))
        g0, g1 = (*grad_outputs, None)[:2]
        to_first = None if g1 is None or not ctx.needs_grad[0] else Parcel(g1[own], second, first)
        to_second = None if g0 is None or not ctx.needs_grad[1] else Parcel(g0[other], first, second)
        return (
            _summed(None if g0 is None or not ctx.needs_grad[0] else g0[own], to_first, first),
            _summed(None if g1 is None or not ctx.needs_grad[1] else g1[other], to_second, second),
        )


def _summed(stayed: Any, parcel: Parcel | None, device: Device) -> Any:
    """The gradient that stayed and the one that comes back."""
    if parcel is None:
        return stayed
    with parcel as arrived, on_device(device):
        return arrived.copy() if stayed is None else stayed + arrived


EXCHANGE = Exchange()


def exchange(first: Tensor, second: Tensor, dim: int = 1, both: bool = True) -> tuple[Tensor, Tensor | None]:
    """Two halves, each on its device, joined along a dimension on both devices.

    Args:
        first, second: the halves, of one dtype and of shapes that ``cat`` takes.
        dim: the dimension.
        both: False joins them on the first one's device alone.

    Returns:
        cat(first, second) on the first one's device, and on the second one's or None. On one device it is one tensor.

    Raises:
        ShapeError: the shapes do not fit.
        DeviceError: one of them, and not the other, is on ``meta``.
    """
    devices = (first.device, second.device)
    if devices[0] is devices[1]:
        whole = cat((first, second), dim)
        return whole, whole if both else None
    attributes: dict[str, Any] = {"dim": normalize_axis("cat", dim, first.ndim), "devices": devices, "both": both}
    inputs = (first, second)
    # Detaching also brings views up to date with what was written to them.
    arrays = [tensor.detach()._array for tensor in inputs]
    EXCHANGE.infer(*arrays, **attributes)
    needs = (first.requires_grad, second.requires_grad)
    node = Node(EXCHANGE, needs, attributes, devices[0]) if any(needs) and grad_state.enabled else None
    if observer_state.observers:
        results = function._watched(EXCHANGE, node or NO_GRAD, arrays, attributes, 0, devices[0])
    else:
        results = EXCHANGE.forward(node or NO_GRAD, *arrays, **attributes)
    outputs = [Tensor._wrap(array, device) for array, device in zip(results, devices, strict=False)]
    if node is not None:
        for index, tensor in enumerate(outputs):
            tensor._requires_grad, tensor._node, tensor._index = True, node, index
        function.connect(node, inputs, outputs)
    if observer_state.observers:
        function._notify(EXCHANGE, inputs, attributes, tuple(outputs))
    return outputs[0], outputs[1] if both else None
