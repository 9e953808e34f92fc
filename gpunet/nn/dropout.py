"""Dropout layers: they do nothing in evaluation."""

from __future__ import annotations

import gpunet.nn.functional as F
from gpunet.autograd import Tensor
from gpunet.nn.arguments import check_probability
from gpunet.nn.module import Module

__all__ = ["AlphaDropout", "Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "FeatureAlphaDropout"]


class _Dropout(Module):
    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        self.p = check_probability(type(self).__name__, "p", p)
        self.inplace = inplace

    def extra_repr(self) -> str:
        return f"p={self.p}, inplace={self.inplace}"


class Dropout(_Dropout):
    """In training, zero each element with probability p and divide the rest by 1 - p: Srivastava et al. 2014.

    Args:
        p: probability, from 0 to 1.
        inplace: write the result into the input.

    Raises:
        ValueError: p is no probability.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Input and output: any shape."""
        return F.dropout(input, self.p, self.training, self.inplace)


class Dropout1d(_Dropout):
    """In training, zero whole channels with probability p and divide the rest by 1 - p: Tompson et al. 2015.

    Args:
        p: probability, from 0 to 1.
        inplace: write the result into the input.

    Raises:
        ValueError: p is no probability.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Input and output: (N, C, L) or (C, L)."""
        return F.dropout1d(input, self.p, self.training, self.inplace)


class Dropout2d(_Dropout):
    """In training, zero whole feature maps with probability p and divide the rest by 1 - p: Tompson et al. 2015.

    Args:
        p: probability, from 0 to 1.
        inplace: write the result into the input.

    Raises:
        ValueError: p is no probability.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Input and output: (N, C, H, W); as in PyTorch, three dimensions are (N, C, L)."""
        return F.dropout2d(input, self.p, self.training, self.inplace)


class Dropout3d(_Dropout):
    """In training, zero whole volumes with probability p and divide the rest by 1 - p: Tompson et al. 2015.

    Args:
        p: probability, from 0 to 1.
        inplace: write the result into the input.

    Raises:
        ValueError: p is no probability.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Input and output: (N, C, D, H, W) or (C, D, H, W)."""
        return F.dropout3d(input, self.p, self.training, self.inplace)


class AlphaDropout(_Dropout):
    """Dropout that keeps mean 0 and variance 1, after SELU: Klambauer et al. 2017.

    Args:
        p: probability of dropping, from 0 to 1.
        inplace: write the result into the input.

    Raises:
        ValueError: p is no probability.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Input and output: any shape."""
        return F.alpha_dropout(input, self.p, self.training, self.inplace)


class FeatureAlphaDropout(_Dropout):
    """Alpha dropout of whole channels.

    Args:
        p: probability of dropping, from 0 to 1.
        inplace: write the result into the input.

    Raises:
        ValueError: p is no probability.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Input and output: (N, C, ...)."""
        return F.feature_alpha_dropout(input, self.p, self.training, self.inplace)
