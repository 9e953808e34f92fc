"""Checking the gradients of whole networks against differences."""

from __future__ import annotations

import numpy as np

import gpunet as gn
from gpunet import nn
from gpunet.autograd import gradcheck


def check_gradients(net: nn.Module, shape: tuple[int, ...], training: bool) -> None:
    """One random direction through the input and all parameters, in float64.

    Every bias gets a value of its own first: with zeros, as BatchNorm starts and in evaluation leaves alone what ReLU
    cut off, many an element lies exactly where ReLU has no derivative, and differences see half of a slope.
    """
    net.double().train(training)
    random = np.random.default_rng(0)
    for name, parameter in net.named_parameters():
        if name.endswith("bias"):
            parameter.data.copy_(gn.tensor(random.normal(0, 0.1, parameter.shape)))
    x = gn.tensor(random.standard_normal(shape), requires_grad=True)
    # A step small enough to cross no kink of ReLU or pooling.
    assert gradcheck(net, x, fast_mode=True, parameters=list(net.parameters()), eps=1e-7, atol=1e-7, rtol=1e-5)
