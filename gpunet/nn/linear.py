"""Fully connected layers, and the bilinear one."""

from __future__ import annotations

import math
from typing import Any

import gpunet.nn.functional as F
from gpunet.autograd import Tensor, empty
from gpunet.nn import init
from gpunet.nn.arguments import check_int
from gpunet.nn.module import Module
from gpunet.nn.parameter import Parameter

__all__ = ["Bilinear", "Identity", "Linear"]


class Identity(Module):
    """Gives back its input; takes and ignores any arguments when made."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def forward(self, input: Tensor) -> Tensor:
        """Input and output: any shape."""
        return input


class Linear(Module):
    """y = x W^T + b.

    Args:
        in_features: size of the input's last dimension.
        out_features: size of the output's last dimension.
        bias: whether to add b.
        device: where the parameters live.
        dtype: their floating type.

    Attributes:
        weight: (out_features, in_features), from U(-k, k) with k = 1 / sqrt(in_features).
        bias: (out_features,), from the same, or None.

    Raises:
        ValueError, TypeError: a size that is no positive integer.
    """

    weight: Parameter
    bias: Parameter | None

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__()
        self.in_features = check_int("Linear", "in_features", in_features, 1)
        self.out_features = check_int("Linear", "out_features", out_features, 1)
        self.weight = Parameter(empty((self.out_features, self.in_features), device=device, dtype=dtype))
        self.bias = Parameter(empty((self.out_features,), device=device, dtype=dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weight and the bias anew."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(self.in_features)
            init.uniform_(self.bias, -bound, bound)

    def forward(self, input: Tensor) -> Tensor:
        """(..., in_features) to (..., out_features)."""
        return F.linear(input, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


class Bilinear(Module):
    """y_o = x^T W_o z + b_o.

    Args:
        in1_features: size of the first input's last dimension.
        in2_features: size of the second input's last dimension.
        out_features: size of the output's last dimension.
        bias: whether to add b.
        device: where the parameters live.
        dtype: their floating type.

    Attributes:
        weight: (out_features, in1_features, in2_features), from U(-k, k) with k = 1 / sqrt(in1_features).
        bias: (out_features,), from the same, or None.

    Raises:
        ValueError, TypeError: a size that is no positive integer.
    """

    weight: Parameter
    bias: Parameter | None

    def __init__(
        self,
        in1_features: int,
        in2_features: int,
        out_features: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.in1_features = check_int("Bilinear", "in1_features", in1_features, 1)
        self.in2_features = check_int("Bilinear", "in2_features", in2_features, 1)
        self.out_features = check_int("Bilinear", "out_features", out_features, 1)
        shape = (self.out_features, self.in1_features, self.in2_features)
        self.weight = Parameter(empty(shape, device=device, dtype=dtype))
        self.bias = Parameter(empty(shape[:1], device=device, dtype=dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weight and the bias anew."""
        bound = 1 / math.sqrt(self.in1_features)
        init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            init.uniform_(self.bias, -bound, bound)

    def forward(self, input1: Tensor, input2: Tensor) -> Tensor:
        """(..., in1_features) and (..., in2_features) to (..., out_features)."""
        return F.bilinear(input1, input2, self.weight, self.bias)

    def extra_repr(self) -> str:
        return (
            f"in1_features={self.in1_features}, in2_features={self.in2_features}, "
            f"out_features={self.out_features}, bias={self.bias is not None}"
        )
