"""What backward does, term by term: (x + y) z, and a convolution, each beside the numbers gpunet computes.

python examples/backward_by_hand.py
"""

from __future__ import annotations

import numpy as np

import gpunet as gn
import gpunet.nn.functional as F


def product() -> None:
    """The computational graph f = (x + y) z of the CS231n notes, at x = -2, y = 5, z = -4."""
    x, y, z = (gn.tensor(value, requires_grad=True) for value in (-2.0, 5.0, -4.0))
    q = x + y
    f = q * z
    f.backward()
    print(f"f = (x + y) z = {f.item():g}")
    print(f"df/dz = q = {q.item():g}, df/dx = df/dy = z = {z.item():g}")
    gradients = [tensor.grad.item() for tensor in (x, y, z) if tensor.grad is not None]
    print("backward gives", *(f"{value:g}" for value in gradients))


def convolution() -> None:
    """dw of a convolution is itself a correlation, of the input with the output's gradient."""
    x = gn.tensor([1.0, 2.0, 3.0, 4.0, 5.0]).reshape(1, 1, 1, 5).requires_grad_()
    w = gn.tensor([0.5, -1.0, 2.0]).reshape(1, 1, 1, 3).requires_grad_()
    delta = np.array([1.0, 2.0, -1.0], np.float32)
    y = F.conv2d(x, w)
    y.backward(gn.from_numpy(delta.reshape(1, 1, 1, 3)))
    print("y  =", y.detach().numpy().ravel())
    by_hand = [sum(delta[i] * (i + j + 1.0) for i in range(3)) for j in range(3)]
    print("dw by hand", np.array(by_hand), "backward", w.grad.numpy().ravel() if w.grad is not None else None)
    print(
        "dx by hand",
        np.convolve(delta, [0.5, -1.0, 2.0]),
        "backward",
        x.grad.numpy().ravel() if x.grad is not None else None,
    )


def check() -> None:
    """Finite differences agree, to the last digit that they have."""
    x, w = (gn.randn(*shape, dtype=gn.float64, requires_grad=True) for shape in ((2, 3, 6, 5), (4, 3, 3, 3)))
    print(
        "gradcheck of a strided convolution:",
        gn.autograd.gradcheck(lambda a, b: F.conv2d(a, b, stride=2, padding=1), (x, w)),
    )


if __name__ == "__main__":
    product()
    convolution()
    check()
