r"""Adagrad, RMSprop, Adadelta, Rprop and averaged SGD, in place: a rate of its own for every element.

With parameter :math:`\theta`, learning rate :math:`\gamma`, :math:`t` counting updates from 1, and :math:`g` the
gradient with the weight decay and the sign of ``maximize`` in it already.

Adagrad (Duchi et al. 2011, "Adaptive subgradient methods for online learning"), with rate decay :math:`\eta`::

    s = s + g^2
    theta = theta - gamma / (1 + (t - 1) eta) * g / (sqrt(s) + epsilon)

RMSprop (Hinton 2012, lecture 6e; centered: Graves 2013, "Generating sequences with recurrent neural networks")::

    v = alpha * v + (1 - alpha) * g^2
    a = a + (1 - alpha) * (g - a)                     centered only, else a = 0
    d = g / (sqrt(v - a^2) + epsilon)
    b = mu * b + d                                    with momentum mu, else b = d
    theta = theta - gamma * b

Adadelta (Zeiler 2012, "Adadelta: an adaptive learning rate method")::

    v = rho * v + (1 - rho) * g^2
    d = sqrt(u + epsilon) / sqrt(v + epsilon) * g
    u = rho * u + (1 - rho) * d^2
    theta = theta - gamma * d

Rprop (Riedmiller and Braun 1993, "A direct adaptive method for faster backpropagation learning"), for full batches::

    step = clip(step * (eta_plus where g g_previous > 0, eta_minus where it is < 0, else 1), smallest, largest)
    g = 0 where g g_previous < 0
    theta = theta - sign(g) * step
    g_previous = g

ASGD (Polyak and Juditsky 1992, "Acceleration of stochastic approximation by averaging"), with decay :math:`\lambda`::

    theta = (1 - lambda eta) * theta - eta * g
    ax = ax + mu * (theta - ax)                       ax = theta while mu = 1
"""

from __future__ import annotations

from typing import Any

from gpunet.ops.adam import in_double
from gpunet.ops.updates import Block, Scalar, add_square, follow, scalar_type, true_gradient

__all__ = ["adadelta_block", "adagrad_block", "asgd_block", "rmsprop_block", "rprop_block"]


def adagrad_block(
    module: Any,
    dtype: Any,
    *,
    lr: Scalar,
    step: float,
    lr_decay: float,
    eps: float,
    weight_decay: float,
    maximize: bool,
) -> Block:
    """Adagrad's equations on pieces (parameter, gradient, sum of squares).

    Args:
        module: the array module.
        dtype: the arrays' dtype.
        lr: learning rate, a number or a 0-d array.
        step: the number of this update, from 1.
        lr_decay: eta.
        eps: added to the root.
        weight_decay: factor of the L2 penalty's gradient.
        maximize: climb instead of descend.
    """
    as_scalar = scalar_type(module, dtype)
    rate, epsilon = as_scalar(in_double(module, lr) / (1 + (step - 1) * lr_decay)), as_scalar(eps)
    decay = None if weight_decay == 0 else as_scalar(weight_decay)

    def block(theta: Any, g: Any, s: Any, total: Any, work: Any) -> None:
        g = true_gradient(module, theta, g, decay, maximize, total, work)
        module.multiply(g, g, out=work)
        module.add(s, work, out=s)
        module.sqrt(s, out=work)
        module.add(work, epsilon, out=work)
        module.divide(g, work, out=work)
        module.multiply(work, rate, out=work)
        module.subtract(theta, work, out=theta)

    return block


def rmsprop_block(
    module: Any,
    dtype: Any,
    *,
    lr: Scalar,
    alpha: float,
    eps: float,
    weight_decay: float,
    momentum: float,
    maximize: bool,
) -> Block:
    """RMSprop's equations on pieces (parameter, gradient, mean square, buffer or None, mean gradient or None).

    Args:
        module: the array module.
        dtype: the arrays' dtype.
        lr: learning rate, a number or a 0-d array.
        alpha: decay of the means.
        eps: added to the root.
        weight_decay: factor of the L2 penalty's gradient.
        momentum: mu.
        maximize: climb instead of descend.
    """
    as_scalar = scalar_type(module, dtype)
    rate, alphas, keep, epsilon, mu = (as_scalar(value) for value in (lr, alpha, 1 - alpha, eps, momentum))
    decay = None if weight_decay == 0 else as_scalar(weight_decay)

    def block(theta: Any, g: Any, v: Any, b: Any, a: Any, total: Any, work: Any) -> None:
        g = true_gradient(module, theta, g, decay, maximize, total, work)
        add_square(module, v, g, alphas, keep, work)
        if a is None:
            module.sqrt(v, out=work)
        else:
            follow(module, a, g, keep, work)
            module.multiply(a, a, out=work)
            module.subtract(v, work, out=work)
            module.sqrt(work, out=work)
        module.add(work, epsilon, out=work)
        module.divide(g, work, out=work)
        if b is not None:
            module.multiply(b, mu, out=b)
            module.add(b, work, out=b)
            module.multiply(b, rate, out=work)
        else:
            module.multiply(work, rate, out=work)
        module.subtract(theta, work, out=theta)

    return block


def adadelta_block(
    module: Any, dtype: Any, *, lr: Scalar, rho: float, eps: float, weight_decay: float, maximize: bool
) -> Block:
    """Adadelta's equations on pieces (parameter, gradient, mean square, mean squared step).

    Args:
        module: the array module.
        dtype: the arrays' dtype.
        lr: learning rate, a number or a 0-d array.
        rho: decay of the means.
        eps: added under the roots.
        weight_decay: factor of the L2 penalty's gradient.
        maximize: climb instead of descend.
    """
    as_scalar = scalar_type(module, dtype)
    rate, rhos, keep, epsilon = (as_scalar(value) for value in (lr, rho, 1 - rho, eps))
    decay = None if weight_decay == 0 else as_scalar(weight_decay)

    def block(theta: Any, g: Any, v: Any, u: Any, total: Any, work: Any) -> None:
        g = true_gradient(module, theta, g, decay, maximize, total, work)
        add_square(module, v, g, rhos, keep, work)
        module.add(v, epsilon, out=work)
        module.sqrt(work, out=work)
        module.divide(g, work, out=total)
        module.add(u, epsilon, out=work)
        module.sqrt(work, out=work)
        module.multiply(total, work, out=total)
        add_square(module, u, total, rhos, keep, work)
        module.multiply(total, rate, out=work)
        module.subtract(theta, work, out=theta)

    return block


def rprop_block(
    module: Any, dtype: Any, *, etas: tuple[float, float], step_sizes: tuple[float, float], maximize: bool
) -> Block:
    """Rprop's equations on pieces (parameter, gradient, previous gradient, step sizes).

    Args:
        module: the array module.
        dtype: the arrays' dtype.
        etas: eta_minus and eta_plus.
        step_sizes: the smallest and the largest step.
        maximize: climb instead of descend.
    """
    as_scalar = scalar_type(module, dtype)
    shorter, longer, one = as_scalar(etas[0]), as_scalar(etas[1]), as_scalar(1.0)
    smallest, largest = as_scalar(step_sizes[0]), as_scalar(step_sizes[1])

    def block(theta: Any, g: Any, previous: Any, sizes: Any, total: Any, work: Any) -> None:
        g = true_gradient(module, theta, g, None, maximize, total, work)
        module.multiply(g, previous, out=work)
        turned = work < 0
        # A NaN stays one, so that a diverged run shows.
        work[...] = module.where(turned, shorter, module.where(work > 0, longer, module.where(work == 0, one, work)))
        module.multiply(sizes, work, out=sizes)
        module.minimum(module.maximum(sizes, smallest), largest, out=sizes)
        previous[...] = g
        previous[turned] = 0
        module.sign(previous, out=work)
        module.multiply(work, sizes, out=work)
        module.subtract(theta, work, out=theta)

    return block


def asgd_block(
    module: Any, dtype: Any, *, eta: float, mu: float, lambd: float, weight_decay: float, maximize: bool
) -> Block:
    """Averaged SGD's equations on pieces (parameter, gradient, average).

    Args:
        module: the array module.
        dtype: the arrays' dtype.
        eta: the current rate.
        mu: share of the newest value in the average; 1 makes it that value.
        lambd: decay of the parameter.
        weight_decay: factor of the L2 penalty's gradient.
        maximize: climb instead of descend.
    """
    as_scalar = scalar_type(module, dtype)
    rate, share, shrink = as_scalar(eta), as_scalar(mu), as_scalar(1 - lambd * eta)
    decay = None if weight_decay == 0 else as_scalar(weight_decay)

    def block(theta: Any, g: Any, average: Any, total: Any, work: Any) -> None:
        g = true_gradient(module, theta, g, decay, maximize, total, work)
        module.multiply(theta, shrink, out=theta)
        module.multiply(g, rate, out=work)
        module.subtract(theta, work, out=theta)
        if mu == 1:
            average[...] = theta
        else:
            follow(module, average, theta, share, work)

    return block
