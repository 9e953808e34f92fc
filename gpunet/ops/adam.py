r"""Adam and AdamW, in place: one parameter array at a time.

Adam is Kingma and Ba 2015 ("Adam: a method for stochastic optimization", algorithm 1), AMSGrad Reddi et al. 2018 ("On
the convergence of Adam and beyond"), AdamW Loshchilov and Hutter 2019 ("Decoupled weight decay regularization",
algorithm 2, with the schedule multiplier inside the learning rate, as PyTorch has it).

With parameter :math:`\theta`, gradient :math:`g`, moments :math:`m` and :math:`v`, learning rate :math:`\gamma`,
weight decay :math:`\lambda`, gradient scale :math:`s` and :math:`t` counting updates from 1::

    g = g / s                      g = -g / s with maximize
    g = g + lambda * theta         Adam with lambda != 0
    theta = theta - gamma * lambda * theta                      AdamW with lambda != 0
    m = m + (1 - beta1) * (g - m)
    v = beta2 * v + (1 - beta2) * g^2
    w = max(w, v)                  with amsgrad, else w = v
    theta = theta - gamma / (1 - beta1^t) * m / (sqrt(w) / sqrt(1 - beta2^t) + epsilon)

Shapes: all arrays have one shape and dtype, in any memory order. All but ``grad`` are written. ``lr``, ``step`` and
``grad_scale`` are numbers or 0-d arrays of the same array module; a 0-d array on a GPU is used where it is, nothing is
read back. Every element is updated on its own: the result does not depend on order or threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gpunet.backend.devices import array_module
from gpunet.ops.updates import Block, Scalar, add_square, apply, follow, scalar_type, true_gradient

__all__ = ["adam", "adam_block", "in_double", "moments_block", "reference"]


def reference(
    param: np.ndarray,
    grad: np.ndarray,
    exp_avg: np.ndarray,
    exp_avg_sq: np.ndarray,
    max_exp_avg_sq: np.ndarray | None = None,
    *,
    lr: float,
    step: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    decoupled: bool = False,
    maximize: bool = False,
    grad_scale: float = 1.0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]:
    """The equations as they stand: new parameter, first, second and largest second moment, the arguments untouched."""
    g = (-grad if maximize else grad) / grad_scale
    if decoupled:
        param = param - lr * weight_decay * param
    else:
        g = g + weight_decay * param
    m = beta1 * exp_avg + (1 - beta1) * g
    v = beta2 * exp_avg_sq + (1 - beta2) * g * g
    w = v
    if max_exp_avg_sq is not None:
        w = max_exp_avg_sq = np.maximum(max_exp_avg_sq, v)
    m_hat = m / (1 - beta1**step)
    denominator = np.sqrt(w) / np.sqrt(1 - beta2**step) + eps
    return param - lr * m_hat / denominator, m, v, max_exp_avg_sq


def adam(
    param: Any,
    grad: Any,
    exp_avg: Any,
    exp_avg_sq: Any,
    max_exp_avg_sq: Any = None,
    *,
    lr: Scalar,
    step: Scalar,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    decoupled: bool = False,
    maximize: bool = False,
    grad_scale: Scalar | None = None,
) -> None:
    """Update ``param`` and the moments in place; see the module's text for the equations.

    Args:
        param: array to update.
        grad: its gradient, same shape and dtype.
        exp_avg: first moment, zeros before the first update.
        exp_avg_sq: second moment, zeros before the first update.
        max_exp_avg_sq: the largest second moment so far, for AMSGrad; None without it.
        lr: learning rate, a number or a 0-d array.
        step: the number of this update, from 1; a number or a 0-d array.
        beta1: decay of the first moment.
        beta2: decay of the second moment.
        eps: added to the denominator.
        weight_decay: lambda.
        decoupled: AdamW's decay of the parameter itself instead of an L2 penalty.
        maximize: climb instead of descend.
        grad_scale: what the gradient was multiplied by, and is divided by here; a number or a 0-d array.
    """
    block = adam_block(
        array_module(param),
        param.dtype,
        lr=lr,
        step=step,
        beta1=beta1,
        beta2=beta2,
        eps=eps,
        weight_decay=weight_decay,
        decoupled=decoupled,
        maximize=maximize,
        grad_scale=grad_scale,
    )
    apply(block, param, grad, exp_avg, exp_avg_sq, max_exp_avg_sq)


def in_double(module: Any, value: Scalar) -> Any:
    """A scalar in double precision: in float32, 1 - 0.999 has lost four digits."""
    return value.astype(module.float64) if hasattr(value, "dtype") else value


def adam_block(
    module: Any,
    dtype: Any,
    *,
    lr: Scalar,
    step: Scalar,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    decoupled: bool = False,
    maximize: bool = False,
    grad_scale: Scalar | None = None,
) -> Block:
    """The equations on pieces (parameter, gradient, both moments, the largest second one or None).

    The last equation is computed as gamma / (1 - beta1^t) * c * m / (sqrt(w) + c * epsilon) with c = sqrt(1 - beta2^t),
    which saves a division; the options are those of ``adam``.
    """
    t, rate = in_double(module, step), in_double(module, lr)
    root_correction = (1 - beta2**t) ** 0.5
    return moments_block(
        module,
        dtype,
        step_size=rate / (1 - beta1**t) * root_correction,
        epsilon=eps * root_correction,
        beta1=beta1,
        beta2=beta2,
        weight_decay=weight_decay,
        shrink=1 - rate * weight_decay if decoupled else None,
        maximize=maximize,
        grad_scale=grad_scale,
    )


def moments_block(
    module: Any,
    dtype: Any,
    *,
    step_size: Scalar,
    epsilon: Scalar | None,
    beta1: float,
    beta2: float,
    weight_decay: float,
    shrink: Scalar | None,
    maximize: bool,
    grad_scale: Scalar | None = None,
) -> Block:
    """Both moments, then theta -= step_size * m / (sqrt(v) + epsilon): what Adam and its variants share.

    Args:
        module: the array module.
        dtype: the arrays' dtype.
        step_size: factor of the step.
        epsilon: added to the root; None takes the step without dividing by the root.
        beta1: decay of the first moment.
        beta2: decay of the second moment.
        weight_decay: factor of the parameter in the gradient; not used with shrink.
        shrink: factor of the parameter before the step, or None.
        maximize: climb instead of descend.
        grad_scale: what the gradient was multiplied by, and is divided by here.
    """
    as_scalar = scalar_type(module, dtype)
    size, keep1, decay2, keep2 = (as_scalar(value) for value in (step_size, 1 - beta1, beta2, 1 - beta2))
    smallest = None if epsilon is None else as_scalar(epsilon)
    shrinks = None if shrink is None or weight_decay == 0 else as_scalar(shrink)
    decay = None if shrink is not None or weight_decay == 0 else as_scalar(weight_decay)
    scale = None if grad_scale is None else as_scalar(-grad_scale if maximize else grad_scale)
    negate = maximize and scale is None

    def block(theta: Any, g: Any, m: Any, v: Any, w: Any, total: Any, work: Any) -> None:
        if scale is not None:
            module.divide(g, scale, out=total)
            g = total
        if shrinks is not None:
            module.multiply(theta, shrinks, out=theta)
        g = true_gradient(module, theta, g, decay, negate, total, work)
        follow(module, m, g, keep1, work)
        add_square(module, v, g, decay2, keep2, work)
        if w is not None:
            module.maximum(w, v, out=w)
            v = w
        if smallest is None:
            module.multiply(m, size, out=work)
        else:
            module.sqrt(v, out=work)
            module.add(work, smallest, out=work)
            module.divide(m, work, out=work)
            module.multiply(work, size, out=work)
        module.subtract(theta, work, out=theta)

    return block
