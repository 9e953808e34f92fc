r"""Stochastic gradient descent with momentum, in place: one parameter array at a time.

With parameter :math:`\theta`, gradient :math:`g`, momentum buffer :math:`b`, learning rate :math:`\gamma`, weight
decay :math:`\lambda`, momentum :math:`\mu`, dampening :math:`\tau` and gradient scale :math:`s`::

    d = g / s                      d = -g / s with maximize
    d = d + lambda * theta         if lambda != 0
    b = d                          at the first update, if mu != 0
    b = mu * b + (1 - tau) * d     at every later one
    d = d + mu * b                 with nesterov, else d = b
    theta = theta - gamma * d

This is PyTorch's form (``torch.optim.SGD``), which differs from Sutskever et al. 2013 ("On the importance of
initialization and momentum in deep learning") in that the learning rate multiplies the velocity when it is applied,
not when it is accumulated: the two agree while the rate is constant.

Shapes: ``param``, ``grad`` and ``momentum_buffer`` have one shape and dtype, in any memory order. ``param`` and
``momentum_buffer`` are written, ``grad`` is only read. ``lr`` and ``grad_scale`` are numbers or 0-d arrays of the same
array module; a 0-d array on a GPU is used where it is, nothing is read back. Every element is updated on its own: the
result does not depend on order or threads.

On a GPU the update is one kernel, ``cuda_kernels/sgd.cu``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gpunet.backend.devices import array_module
from gpunet.backend.kernels import blocks_for, get_kernel, is_aligned, launch, uses_kernels
from gpunet.ops.updates import Block, Scalar, apply, memory_order, scalar_type, true_gradient

__all__ = ["reference", "sgd", "sgd_block", "sgd_update_cuda", "supports"]


def reference(
    param: np.ndarray,
    grad: np.ndarray,
    momentum_buffer: np.ndarray | None = None,
    *,
    lr: float,
    momentum: float = 0.0,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
    maximize: bool = False,
    first: bool = False,
    grad_scale: float = 1.0,
) -> tuple[np.ndarray, np.ndarray | None]:
    """The equations as they stand: the new parameter and the new momentum buffer, the arguments untouched."""
    d = (-grad if maximize else grad) / grad_scale
    d = d + weight_decay * param
    b = momentum_buffer
    if b is not None:
        b = d if first else momentum * b + (1 - dampening) * d
        d = d + momentum * b if nesterov else b
    return param - lr * d, b


def sgd(
    param: Any,
    grad: Any,
    momentum_buffer: Any = None,
    *,
    lr: Scalar,
    momentum: float = 0.0,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
    maximize: bool = False,
    first: bool = False,
    grad_scale: Scalar | None = None,
) -> None:
    """Update ``param`` and ``momentum_buffer`` in place; see the module's text for the equations.

    Args:
        param: array to update.
        grad: its gradient, same shape and dtype.
        momentum_buffer: the velocity, same shape and dtype; None exactly when ``momentum`` is 0.
        lr: learning rate, a number or a 0-d array.
        momentum: factor of the velocity.
        dampening: share of the gradient kept out of the velocity.
        weight_decay: factor of the L2 penalty's gradient.
        nesterov: look ahead along the velocity.
        maximize: climb instead of descend.
        first: the buffer holds nothing yet; it becomes the gradient.
        grad_scale: what the gradient was multiplied by, and is divided by here; a number or a 0-d array.
    """
    if supports(param, grad, momentum_buffer)[0] == "cuda":
        sgd_update_cuda(
            param,
            grad,
            momentum_buffer,
            lr=lr,
            momentum=momentum,
            dampening=dampening,
            weight_decay=weight_decay,
            nesterov=nesterov,
            maximize=maximize,
            first=first,
            grad_scale=grad_scale,
        )
        return
    apply(
        sgd_block(
            array_module(param),
            param.dtype,
            lr=lr,
            momentum=momentum,
            dampening=dampening,
            weight_decay=weight_decay,
            nesterov=nesterov,
            maximize=maximize,
            first=first,
            grad_scale=grad_scale,
        ),
        param,
        grad,
        momentum_buffer,
    )


def sgd_block(
    module: Any,
    dtype: Any,
    *,
    lr: Scalar,
    momentum: float = 0.0,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
    maximize: bool = False,
    first: bool = False,
    grad_scale: Scalar | None = None,
) -> Block:
    """The equations on pieces (parameter, gradient, buffer or None); the options are those of ``sgd``."""
    as_scalar = scalar_type(module, dtype)
    gamma, mu, keep, decay = as_scalar(lr), as_scalar(momentum), as_scalar(1 - dampening), as_scalar(weight_decay)
    scale = None if grad_scale is None else as_scalar(-grad_scale if maximize else grad_scale)
    negate = maximize and scale is None
    decays = None if weight_decay == 0 else decay

    def block(theta: Any, g: Any, b: Any, total: Any, work: Any) -> None:
        if scale is not None:
            module.divide(g, scale, out=total)
            g = total
        g = true_gradient(module, theta, g, decays, negate, total, work)
        if b is not None:
            if first:
                b[...] = g
            else:
                module.multiply(b, mu, out=b)
                if dampening:
                    module.multiply(g, keep, out=work)
                    module.add(b, work, out=b)
                else:
                    module.add(b, g, out=b)
            if nesterov:
                module.multiply(b, mu, out=work)
                module.add(g, work, out=total)
                g = total
            else:
                g = b
        module.multiply(g, gamma, out=work)
        module.subtract(theta, work, out=theta)

    return block


def supports(param: Any, grad: Any, momentum_buffer: Any = None) -> tuple[str, str]:
    """Which implementation runs, and why: ``"cuda"`` is the kernel, ``"array"`` array-module operations."""
    if not uses_kernels(param):
        return "array", "the arrays are on the CPU"
    if param.dtype not in (np.float32, np.float64):
        return "array", f"the kernel is not built for {param.dtype.name}"
    arrays = [array for array in (param, grad, momentum_buffer) if array is not None]
    if any(array.dtype != param.dtype or array.shape != param.shape for array in arrays):
        return "array", "the arrays differ in shape or dtype"
    orders = {memory_order(array.shape, array.strides, array.dtype.itemsize) for array in arrays}
    if None in orders or len(orders) > 1:
        return "array", "the elements lie in different orders, or have gaps between them"
    return "cuda", "one kernel reads and writes every element once"


def sgd_update_cuda(
    param: Any,
    grad: Any,
    momentum_buffer: Any = None,
    *,
    lr: Scalar,
    momentum: float = 0.0,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
    maximize: bool = False,
    first: bool | Any = False,
    grad_scale: Scalar | None = None,
    naive: bool = False,
) -> None:
    """``sgd`` by the CUDA kernel, for arrays that ``supports`` sends here.

    Args:
        param: array to update.
        grad: its gradient.
        momentum_buffer: the velocity, or None.
        lr: learning rate; a 0-d array is read by the kernel when it runs, so that a captured step sees what it holds.
        momentum: factor of the velocity.
        dampening: share of the gradient kept out of the velocity.
        weight_decay: factor of the L2 penalty's gradient.
        nesterov: look ahead along the velocity.
        maximize: climb instead of descend.
        first: the buffer holds nothing yet; a bool, or a 0-d bool array, which the kernel reads.
        grad_scale: what the gradient was multiplied by; as ``lr``.
        naive: take the kernel that handles one element a thread.
    """
    count = int(param.size)
    if count == 0:
        return
    order = memory_order(param.shape, param.strides, param.dtype.itemsize)
    flat = [None if array is None else array.transpose(order).reshape(-1) for array in (param, grad, momentum_buffer)]
    # Sixteen bytes a thread, where every array starts at a multiple of them.
    naive = naive or not is_aligned(16, *flat)
    kernel = get_kernel("sgd", f"sgd_update_{'naive_' if naive else ''}{param.dtype.name}")
    work = count if naive else -(-count * param.dtype.itemsize // 16)
    args = (
        *flat,
        *_pointer_and_value(lr, 0.0),
        *_pointer_and_value(1.0 if grad_scale is None else grad_scale, 1.0),
        *((None, bool(first)) if isinstance(first, (bool, np.bool_)) else (first, False)),
        momentum,
        dampening,
        weight_decay,
        nesterov,
        maximize,
        count,
    )
    launch(kernel, blocks_for(work, 256), 256, args)


def _pointer_and_value(scalar: Scalar, unused: float) -> tuple[Any, float]:
    """A 0-d array as a float64 array for the kernel to read, anything else as a number to pass."""
    if getattr(scalar, "ndim", None) == 0 and not isinstance(scalar, np.generic):
        return scalar.astype(np.float64, copy=False), unused
    return None, float(scalar)
