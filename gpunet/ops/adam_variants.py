r"""NAdam, RAdam and Adamax, in place: Adam's relatives.

The symbols are those of ``gpunet.ops.adam``; :math:`g` has the weight decay and the sign of ``maximize`` in it already,
and with decoupled weight decay the parameter shrinks by :math:`1 - \gamma \lambda` first.

NAdam (Dozat 2016, "Incorporating Nesterov momentum into Adam") with momentum decay :math:`\psi`::

    mu_t = beta1 * (1 - 0.96^(t psi) / 2)
    m = m + (1 - beta1) * (g - m)
    v = beta2 * v + (1 - beta2) * g^2
    m_hat = mu_(t+1) * m / (1 - prod_(i <= t+1) mu_i) + (1 - mu_t) * g / (1 - prod_(i <= t) mu_i)
    theta = theta - gamma * m_hat / (sqrt(v / (1 - beta2^t)) + epsilon)

RAdam (Liu et al. 2020, "On the variance of the adaptive learning rate and beyond")::

    rho = rho_inf - 2 t beta2^t / (1 - beta2^t)      with rho_inf = 2 / (1 - beta2) - 1
    theta = theta - gamma * m / (1 - beta1^t) * r * sqrt(1 - beta2^t) / (sqrt(v) + epsilon)     if rho > 5
    theta = theta - gamma * m / (1 - beta1^t)                                                   otherwise
    r = sqrt((rho - 4) (rho - 2) rho_inf / ((rho_inf - 4) (rho_inf - 2) rho))

Adamax (Kingma and Ba 2015, algorithm 2), with epsilon inside the maximum as PyTorch has it::

    m = m + (1 - beta1) * (g - m)
    u = max(beta2 * u, |g| + epsilon)
    theta = theta - gamma / (1 - beta1^t) * m / u

The step count ``t`` is a number here: it is kept on the host.
"""

from __future__ import annotations

from typing import Any

from gpunet.ops.adam import in_double, moments_block
from gpunet.ops.updates import Block, Scalar, add_square, follow, scalar_type, true_gradient

__all__ = ["adamax_block", "nadam_block", "nadam_momentum", "radam_block"]


def nadam_momentum(beta1: float, step: float, momentum_decay: float) -> float:
    """NAdam's mu at a step."""
    return beta1 * (1.0 - 0.5 * 0.96 ** (step * momentum_decay))


def nadam_block(
    module: Any,
    dtype: Any,
    *,
    lr: Scalar,
    step: float,
    mu_product: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    momentum_decay: float,
    decoupled: bool,
    maximize: bool,
) -> Block:
    """NAdam's equations on pieces (parameter, gradient, both moments).

    Args:
        module: the array module.
        dtype: the arrays' dtype.
        lr: learning rate, a number or a 0-d array.
        step: the number of this update, from 1.
        mu_product: the product of the momenta of all updates, this one included.
        beta1: decay of the first moment.
        beta2: decay of the second moment.
        eps: added to the denominator.
        weight_decay: lambda.
        momentum_decay: psi.
        decoupled: shrink the parameter instead of adding an L2 penalty.
        maximize: climb instead of descend.
    """
    as_scalar = scalar_type(module, dtype)
    rate = in_double(module, lr)
    mu, mu_next = (nadam_momentum(beta1, at, momentum_decay) for at in (step, step + 1))
    root_correction = (1 - beta2**step) ** 0.5
    of_gradient = as_scalar(rate * (1 - mu) / (1 - mu_product) * root_correction)
    of_moment = as_scalar(rate * mu_next / (1 - mu_product * mu_next) * root_correction)
    keep1, decay2, keep2 = as_scalar(1 - beta1), as_scalar(beta2), as_scalar(1 - beta2)
    epsilon = as_scalar(eps * root_correction)
    shrink = as_scalar(1 - rate * weight_decay) if decoupled and weight_decay else None
    decay = None if decoupled or weight_decay == 0 else as_scalar(weight_decay)

    def block(theta: Any, g: Any, m: Any, v: Any, total: Any, work: Any) -> None:
        if shrink is not None:
            module.multiply(theta, shrink, out=theta)
        g = true_gradient(module, theta, g, decay, maximize, total, work)
        follow(module, m, g, keep1, work)
        add_square(module, v, g, decay2, keep2, work)
        module.multiply(g, of_gradient, out=total)
        module.multiply(m, of_moment, out=work)
        module.add(total, work, out=total)
        module.sqrt(v, out=work)
        module.add(work, epsilon, out=work)
        module.divide(total, work, out=work)
        module.subtract(theta, work, out=theta)

    return block


def radam_block(
    module: Any,
    dtype: Any,
    *,
    lr: Scalar,
    step: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    decoupled: bool,
    maximize: bool,
) -> Block:
    """RAdam's equations on pieces (parameter, gradient, both moments, None); the options are those of ``nadam_block``.

    Whether the variance is known well enough to divide by it depends on the step count alone.
    """
    rate = in_double(module, lr)
    correction2 = 1 - beta2**step
    rho_inf = 2 / (1 - beta2) - 1
    rho = rho_inf - 2 * step * beta2**step / correction2
    step_size = rate / (1 - beta1**step)
    adaptive = rho > 5
    if adaptive:
        rectified = ((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho)) ** 0.5
        step_size = step_size * (rectified * correction2**0.5)
    return moments_block(
        module,
        dtype,
        step_size=step_size,
        epsilon=eps if adaptive else None,
        beta1=beta1,
        beta2=beta2,
        weight_decay=weight_decay,
        shrink=1 - rate * weight_decay if decoupled else None,
        maximize=maximize,
    )


def adamax_block(
    module: Any,
    dtype: Any,
    *,
    lr: Scalar,
    step: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    maximize: bool,
) -> Block:
    """Adamax's equations on pieces (parameter, gradient, moment, norm); the options are those of ``nadam_block``."""
    as_scalar = scalar_type(module, dtype)
    step_size = as_scalar(in_double(module, lr) / (1 - beta1**step))
    keep1, decay2, epsilon = as_scalar(1 - beta1), as_scalar(beta2), as_scalar(eps)
    decay = None if weight_decay == 0 else as_scalar(weight_decay)

    def block(theta: Any, g: Any, m: Any, u: Any, total: Any, work: Any) -> None:
        g = true_gradient(module, theta, g, decay, maximize, total, work)
        follow(module, m, g, keep1, work)
        module.multiply(u, decay2, out=u)
        module.absolute(g, out=work)
        module.add(work, epsilon, out=work)
        module.maximum(u, work, out=u)
        module.divide(m, u, out=work)
        module.multiply(work, step_size, out=work)
        module.subtract(theta, work, out=theta)

    return block
