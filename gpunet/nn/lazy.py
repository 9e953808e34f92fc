"""Layers that learn the size of their input from the first one they see.

A lazy layer holds uninitialised parameters. Its first call gives them their shapes, draws their values and makes it the
plain layer, of the plain class. Before that it can be moved, cast, copied, saved in a state dict and loaded from one.
"""

from __future__ import annotations

from typing import Any, ClassVar

from gpunet.autograd import Tensor, no_grad
from gpunet.backend.errors import ShapeError
from gpunet.nn.arguments import check_int
from gpunet.nn.batchnorm import BatchNorm1d, BatchNorm2d, BatchNorm3d
from gpunet.nn.conv import Conv1d, Conv2d, Conv3d, ConvLayer, Extent, empty_kernel
from gpunet.nn.conv_transpose import ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from gpunet.nn.linear import Linear
from gpunet.nn.module import Module
from gpunet.nn.uninitialized import UninitializedBuffer, UninitializedParameter, is_lazy

__all__ = [
    "LazyBatchNorm1d",
    "LazyBatchNorm2d",
    "LazyBatchNorm3d",
    "LazyConv1d",
    "LazyConv2d",
    "LazyConv3d",
    "LazyConvTranspose1d",
    "LazyConvTranspose2d",
    "LazyConvTranspose3d",
    "LazyLinear",
    "LazyModuleMixin",
]


class LazyModuleMixin(Module):
    """What lazy layers share; comes before the plain layer among a class's bases.

    A subclass gives its parameters as ``UninitializedParameter`` and defines ``initialize_parameters``.

    Attributes:
        cls_to_become: the class of the layer after its first call; None keeps it.
    """

    cls_to_become: ClassVar[type[Module] | None] = None

    _sizes_known = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        plain: Any = super().__init__  # of the next among the bases
        plain(*args, **kwargs)
        self._become_lazy()

    def _become_lazy(self) -> None:
        """From now on the next call initialises the parameters."""
        self.register_forward_pre_hook(_infer_parameters, with_kwargs=True)

    def has_uninitialized_params(self) -> bool:
        """Whether any of its own parameters or buffers has no shape yet."""
        return any(map(is_lazy, (*self._parameters.values(), *self._buffers.values())))

    def initialize_parameters(self, *args: Any, **kwargs: Any) -> None:
        """Give the parameters shapes and values that fit the input; every lazy layer defines it."""
        raise NotImplementedError(f"{type(self).__name__} defines no initialize_parameters()")

    def reset_parameters(self) -> None:
        """Draw the parameters anew; nothing before they have shapes."""
        if self._sizes_known:
            super().reset_parameters()  # type: ignore[misc]

    def _materialize(self, **shapes: tuple[int, ...]) -> None:
        """Give its own parameters and buffers their shapes, then their values."""
        with no_grad():
            for name, shape in shapes.items():
                tensor = getattr(self, name)
                if is_lazy(tensor):
                    tensor.materialize(shape)
            self._sizes_known = True
            self.reset_parameters()
            del self._sizes_known


def _infer_parameters(module: LazyModuleMixin, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    module.initialize_parameters(*args, **kwargs)
    if module.has_uninitialized_params():
        raise RuntimeError(f"{type(module).__name__}: initialize_parameters left a parameter without a shape")
    for number, hook in list(module._forward_pre_hooks.items()):
        if hook.call is _infer_parameters:
            del module._forward_pre_hooks[number]
    if module.cls_to_become is not None:
        module.__class__ = module.cls_to_become  # type: ignore[assignment]


class LazyLinear(LazyModuleMixin, Linear):
    """A ``Linear`` whose ``in_features`` is the size of the first input's last dimension.

    Args:
        out_features: size of the output's last dimension.
        bias: whether to add a bias.
        device: where the parameters will live.
        dtype: their floating type.
    """

    cls_to_become = Linear

    def __init__(self, out_features: int, bias: bool = True, device: Any = None, dtype: Any = None) -> None:
        super().__init__(1, check_int("LazyLinear", "out_features", out_features, 1), False, device, dtype)
        self.in_features = 0
        self.weight = UninitializedParameter(device=device, dtype=dtype)
        self.bias = UninitializedParameter(device=device, dtype=dtype) if bias else None

    def initialize_parameters(self, input: Tensor) -> None:
        """Take the input's size.

        Raises:
            ShapeError: an input without dimensions.
        """
        if not self.has_uninitialized_params():
            self.in_features = self.weight.shape[-1]
            return
        if input.ndim == 0:
            raise ShapeError("LazyLinear: input must have at least 1 dimension, got shape ()")
        self.in_features = input.shape[-1]
        self._materialize(weight=(self.out_features, self.in_features), bias=(self.out_features,))


class _LazyConv(LazyModuleMixin, ConvLayer):
    def _start(self, bias: bool, device: Any, dtype: Any) -> None:
        self.in_channels = 0
        self.weight = UninitializedParameter(device=device, dtype=dtype, make=empty_kernel)
        self.bias = UninitializedParameter(device=device, dtype=dtype) if bias else None
        self._become_lazy()

    def initialize_parameters(self, input: Tensor, output_size: Any = None) -> None:
        """Take the input's number of channels.

        Raises:
            ShapeError: an input of another rank.
            ValueError: channels that the groups do not divide.
        """
        if not self.has_uninitialized_params():
            self.in_channels = self.weight.shape[0] if self.transposed else self.weight.shape[1] * self.groups
            return
        dims = self._dims
        if input.ndim not in (dims + 1, dims + 2):
            raise ShapeError(
                f"{type(self).__name__}: input must have {dims + 1} or {dims + 2} dimensions, got shape "
                f"{tuple(input.shape)}"
            )
        channels = input.shape[-dims - 1]
        if channels == 0 or channels % self.groups:
            raise ValueError(
                f"{type(self).__name__}: in_channels must be divisible by groups, got {channels} and {self.groups}"
            )
        self.in_channels = channels
        self._materialize(weight=self._weight_shape(), bias=(self.out_channels,))


class _LazyForward(_LazyConv):
    def __init__(
        self,
        out_channels: int,
        kernel_size: Extent,
        stride: Extent = 1,
        padding: Extent | str = 0,
        dilation: Extent = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        # As many channels as groups, which always fit, until they are known.
        arguments = (kernel_size, stride, padding, dilation, 0, groups, False, padding_mode, device, dtype)
        self._set_up(max(groups, 1), out_channels, *arguments)
        self._start(bias, device, dtype)


class _LazyTranspose(_LazyConv):
    def __init__(
        self,
        out_channels: int,
        kernel_size: Extent,
        stride: Extent = 1,
        padding: Extent = 0,
        output_padding: Extent = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Extent = 1,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        arguments = (kernel_size, stride, padding, dilation, output_padding, groups, False, padding_mode, device, dtype)
        self._set_up(max(groups, 1), out_channels, *arguments)
        self._start(bias, device, dtype)


class LazyConv1d(_LazyForward, Conv1d):
    """A ``Conv1d`` whose ``in_channels`` is that of its first input; the other arguments are the same."""

    cls_to_become = Conv1d


class LazyConv2d(_LazyForward, Conv2d):
    """A ``Conv2d`` whose ``in_channels`` is that of its first input; the other arguments are the same."""

    cls_to_become = Conv2d


class LazyConv3d(_LazyForward, Conv3d):
    """A ``Conv3d`` whose ``in_channels`` is that of its first input; the other arguments are the same."""

    cls_to_become = Conv3d


class LazyConvTranspose1d(_LazyTranspose, ConvTranspose1d):
    """A ``ConvTranspose1d`` whose ``in_channels`` is that of its first input; the other arguments are the same."""

    cls_to_become = ConvTranspose1d


class LazyConvTranspose2d(_LazyTranspose, ConvTranspose2d):
    """A ``ConvTranspose2d`` whose ``in_channels`` is that of its first input; the other arguments are the same."""

    cls_to_become = ConvTranspose2d


class LazyConvTranspose3d(_LazyTranspose, ConvTranspose3d):
    """A ``ConvTranspose3d`` whose ``in_channels`` is that of its first input; the other arguments are the same."""

    cls_to_become = ConvTranspose3d


class _LazyBatchNorm(LazyModuleMixin):
    num_features: int

    def __init__(
        self,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(1, eps, momentum, affine, track_running_stats, device, dtype, bias=bias)
        self.num_features = 0
        for name, parameter in list(self._parameters.items()):
            if parameter is not None:
                setattr(self, name, UninitializedParameter(device=device, dtype=dtype))
        if track_running_stats:
            for name in ("running_mean", "running_var"):
                setattr(self, name, UninitializedBuffer(device=device, dtype=dtype))

    def initialize_parameters(self, input: Tensor, *args: Any, **kwargs: Any) -> None:
        """Take the input's number of channels.

        Raises:
            ShapeError: an input without channels.
        """
        if not self.has_uninitialized_params():
            known = [t for t in (*self._parameters.values(), *self._buffers.values()) if t is not None and t.ndim == 1]
            self.num_features = known[0].shape[0] if known else 0
            return
        if input.ndim < 2:
            raise ShapeError(
                f"{type(self).__name__}: input must have at least 2 dimensions (N, C, ...), got shape "
                f"{tuple(input.shape)}"
            )
        self.num_features = input.shape[1]
        names = (*self._parameters, "running_mean", "running_var")
        self._materialize(**dict.fromkeys(names, (self.num_features,)))


class LazyBatchNorm1d(_LazyBatchNorm, BatchNorm1d):
    """A ``BatchNorm1d`` whose ``num_features`` is that of its first input; the other arguments are the same."""

    cls_to_become = BatchNorm1d


class LazyBatchNorm2d(_LazyBatchNorm, BatchNorm2d):
    """A ``BatchNorm2d`` whose ``num_features`` is that of its first input; the other arguments are the same."""

    cls_to_become = BatchNorm2d


class LazyBatchNorm3d(_LazyBatchNorm, BatchNorm3d):
    """A ``BatchNorm3d`` whose ``num_features`` is that of its first input; the other arguments are the same."""

    cls_to_become = BatchNorm3d
