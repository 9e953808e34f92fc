"""AlexNet of 2012 on two devices: Krizhevsky, Sutskever and Hinton 2012 ("ImageNet classification with deep
convolutional neural networks"), figure 2.

Each device holds a tower: half of the kernels of every convolution and half of the units of fc6 and fc7. The towers
see each other's outputs only where the figure's arrows cross:

    layer            sees                       arrives from the other device, floats per image
    conv1            the image
    conv2            its own tower
    conv3            both towers                pool2, 128x13x13 = 21,632
    conv4, conv5     their own tower
    fc6              both towers                pool5, 128x6x6 = 4,608
    fc7              both towers                fc6, 2,048
    fc8              both towers                fc7, 2,048, to the first device alone

The table and the deviations from the paper are in ``alexnet2012_grouped``, the same network on one device. The paper
does not say where fc8 is computed: here all of it is on the first device, as the scores are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

import gpunet.nn.functional as F
from gpunet import nn
from gpunet.autograd import Tensor, as_tensor, cat, no_grad, ones, zeros
from gpunet.autograd.exchange import exchange
from gpunet.autograd.tensor import is_cupy_array
from gpunet.backend.devices import CPU, META, Device, current_device
from gpunet.backend.errors import CheckpointError, DeviceError
from gpunet.models._registry import register_model
from gpunet.models.alexnet2012_grouped import Plan, check_images, draw, layers, make_plan, scores

__all__ = ["AlexNet2012", "Crossing", "Tower", "alexnet2012", "grouped_state", "towers_state"]


class Crossing(NamedTuple):
    """One copy between the towers in a forward; its gradient is as large and goes the other way.

    Attributes:
        layer: whose outputs cross.
        source, target: towers, 0 or 1.
        floats: numbers per image.
    """

    layer: str
    source: int
    target: int
    floats: int


class Tower(nn.Module):
    """What one device computes, half of the layers conv1 to drop7."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        for name, layer in layers("AlexNet2012", plan, 1, 2):
            self.add_module(name, layer)

    def run(self, start: str, stop: str, x: Tensor) -> Tensor:
        """The layers from one to another, without that one."""
        names = list(self._modules)
        for name in names[names.index(start) : names.index(stop)]:
            x = getattr(self, name)(x)
        return x


class AlexNet2012(nn.Module):
    """Two towers of five convolutions and two dense layers, on a device each, and the dense layer of the scores.

    Both devices may be the same one. On any of the CPU's the results are the same bits, and those of
    ``AlexNet2012Grouped`` with the same weights, but for how sums of products are rounded.

    Args:
        num_classes: number of scores.
        dropout: probability with which an output of fc6 and of fc7 is zeroed in training.
        devices: of the two towers; None is the default device for both. ``to((d0, d1))`` moves them.
        in_channels: channels of the images.
        input_size: height and width of the images.
        padding: of conv1; None is 2 for images of 224 pixels, and 0 for others.
        width: factor of all channels and units between the image and the scores.
        lrn: normalise the responses of conv1 and conv2, within each tower.
        overlapping: pool windows of 3x3, which overlap; False those of 2x2, which do not.
        pool_first: pool before the responses are normalised.
        init: ``"paper"`` or ``"caffe"``.

    Raises:
        TypeError, ValueError: an argument that no network can have.
        DeviceError: not two devices, or one that is not there.
    """

    _device_span = 2

    def __init__(
        self,
        num_classes: int = 1000,
        dropout: float = 0.5,
        devices: Sequence[str | Device] | None = None,
        *,
        in_channels: int = 3,
        input_size: int = 227,
        padding: int | None = None,
        width: float = 1.0,
        lrn: bool = True,
        overlapping: bool = True,
        pool_first: bool = False,
        init: str = "paper",
    ) -> None:
        super().__init__()
        first, second = _pair((None, None) if devices is None else devices)
        norm = "towers" if lrn else None
        plan = make_plan(
            "AlexNet2012", num_classes, dropout, in_channels, input_size, padding, width, norm, overlapping,
            pool_first, init,
        )  # fmt: skip
        self.plan = plan
        self.default_image_size = plan.input_size
        self._crossings: list[Crossing] | None = None
        with nn.init.skip_draws():
            with first:
                self.tower0 = Tower(plan)
            with second:
                self.tower1 = Tower(plan)
            with first:
                self.fc8 = scores("AlexNet2012", plan)
        draw(self, init)

    @property
    def devices(self) -> tuple[Device, Device]:
        """Where the towers are; the images and the scores are on the first."""
        return self.tower0.conv1.weight.device, self.tower1.conv1.weight.device

    def _to_devices(self, devices: tuple[Device, ...]) -> None:
        first, second = _pair(devices)
        self.tower0.to(first)
        self.tower1.to(second)
        self.fc8.to(first)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, in_channels, input_size, input_size) to scores (N, num_classes), both on the first device."""
        check_images("AlexNet2012", self.plan, x)
        # What comes from outside goes first: nothing below is waited for by this thread. The devices work side by side,
        # and what one sends waits for its own tower alone.
        images = x, x.to(self.devices[1])
        mask6, mask7 = self._masks("6", len(x)), self._masks("7", len(x))
        wholes = self._cross("pool2", self._run("conv1", "conv3", images))
        wholes = self._cross("pool5", self._run("conv3", "fc6", wholes))
        wholes = self._cross("fc6", _masked(self._run("fc6", "drop6", wholes), mask6))
        whole, _ = self._cross("fc7", _masked(self._run("fc7", "drop7", wholes), mask7), both=False)
        return self.fc8(whole)

    def _run(self, start: str, stop: str, inputs: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """The layers from one to another, without that one, of both towers."""
        first, second = inputs
        return self.tower0.run(start, stop, first), self.tower1.run(start, stop, second)

    def _cross(self, layer: str, halves: tuple[Tensor, Tensor], both: bool = True) -> tuple[Any, Any]:
        """Both towers' halves joined on each device, or on the first alone."""
        first, second = halves
        if self._crossings is not None:
            self._crossings.append(Crossing(layer, 1, 0, second[0].numel()))
            if both:
                self._crossings.append(Crossing(layer, 0, 1, first[0].numel()))
        return exchange(first, second, 1, both)

    def _masks(self, number: str, batch: int) -> tuple[Tensor, Tensor] | None:
        """What fc6 or fc7 is multiplied by: one mask, drawn for both towers together as on one device, and split."""
        weight = getattr(self.tower0, f"fc{number}").weight
        p = getattr(self.tower0, f"drop{number}").p
        if not self.training or p == 0:
            return None
        home = META if weight.device is META else CPU
        first, second = F.dropout(ones(batch, 2 * len(weight), dtype=weight.dtype, device=home), p).chunk(2, 1)
        return first.to(self.devices[0]), second.to(self.devices[1])

    def traffic(self) -> list[Crossing]:
        """What crosses between the towers for one image, forward: seen as it happens to a black image.

        In training as much goes the other way, as gradients. The image itself, and in training the dropout masks, are
        not counted. Where both towers are on one device nothing is copied, and this is what would be.
        """
        plan, training = self.plan, self.training
        weight = self.fc8.weight
        image = zeros(1, plan.in_channels, plan.input_size, plan.input_size, dtype=weight.dtype, device=weight.device)
        self._crossings, self.training = [], False
        try:
            with no_grad():
                self(image)
            return self._crossings
        finally:
            self._crossings, self.training = None, training


def _masked(halves: tuple[Tensor, Tensor], masks: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor]:
    return halves if masks is None else (halves[0] * masks[0], halves[1] * masks[1])


def _pair(devices: Sequence[Any]) -> tuple[Device, Device]:
    if isinstance(devices, (str, Device)) or len(devices) != 2:
        raise DeviceError(f"devices: AlexNet2012 spreads over 2 devices, pass a pair (d0, d1), got {devices!r}")
    first, second = (current_device(each) for each in devices)
    if (first is META) is not (second is META):
        raise DeviceError(f"devices: must both be 'meta' or neither, got {str(first)!r} and {str(second)!r}")
    return first, second


def grouped_state(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """The state dict of ``AlexNet2012Grouped`` that computes the same as one of ``AlexNet2012``.

    Args:
        state: Tensors, on any devices, or arrays.

    Returns:
        New Tensors on the CPU; ``towers_state`` gives the same numbers back.

    Raises:
        TypeError: not a mapping from names to Tensors or arrays.
        CheckpointError: a key that no two-tower network has, one tower without the other, or towers that differ in
            shape.
    """
    values = _on_cpu("grouped_state", state)
    result = {}
    for key, value in values.items():
        tower, _, name = key.partition(".")
        other = values.get(f"tower1.{name}")
        if tower == "fc8":
            result[key] = value.clone()
        elif tower == "tower0" and other is not None:
            if not value.ndim or value.shape != other.shape:
                raise CheckpointError(
                    f"grouped_state: state: {key!r} is of shape {tuple(value.shape)} and 'tower1.{name}' of "
                    f"{tuple(other.shape)}; both must be the same, with at least one dimension"
                )
            result[name] = cat([value, other])
        elif tower != "tower1" or f"tower0.{name}" not in values:
            raise CheckpointError(
                f"grouped_state: state: {key!r} is not a pair of towers' state; was it grouped already?"
            )
    return result


def towers_state(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """The state dict of ``AlexNet2012`` that computes the same as one of ``AlexNet2012Grouped``.

    Args:
        state: Tensors, on any devices, or arrays.

    Returns:
        New Tensors on the CPU; ``grouped_state`` gives the same numbers back.

    Raises:
        TypeError: not a mapping from names to Tensors or arrays.
        CheckpointError: a key that is a tower's already, or an odd number of kernels or units.
    """
    halves: tuple[dict[str, Tensor], ...] = ({}, {}, {})
    for key, value in _on_cpu("towers_state", state).items():
        if key.startswith("fc8."):
            halves[2][key] = value.clone()
            continue
        if key.startswith("tower") or not value.ndim or len(value) % 2:
            raise CheckpointError(
                f"towers_state: state: {key!r} of shape {tuple(value.shape)} cannot be split in two towers"
            )
        for number, half in enumerate(value.chunk(2)):
            halves[number][f"tower{number}.{key}"] = half.clone()
    return {key: value for part in halves for key, value in part.items()}


def _on_cpu(function: str, state: Any) -> dict[str, Tensor]:
    """The values as Tensors on the CPU."""
    if not isinstance(state, Mapping):
        raise TypeError(f"{function}: state: expected a dict from names to Tensors, got {type(state).__name__}")
    for key, value in state.items():
        if not isinstance(key, str):
            raise TypeError(f"{function}: state: names must be strings, got {key!r}")
        if not isinstance(value, (Tensor, np.ndarray)) and not is_cupy_array(value):
            raise TypeError(f"{function}: state[{key!r}]: expected a Tensor or an array, got {type(value).__name__}")
    return {key: as_tensor(value).detach().cpu() for key, value in state.items()}


@register_model
def alexnet2012(
    num_classes: int = 1000,
    dropout: float = 0.5,
    devices: Sequence[str | Device] | None = None,
    *,
    in_channels: int = 3,
    input_size: int = 227,
    **kwargs: Any,
) -> AlexNet2012:
    """AlexNet of 2012 on two devices, 60,965,224 parameters; see ``AlexNet2012``."""
    return AlexNet2012(num_classes, dropout, devices, in_channels=in_channels, input_size=input_size, **kwargs)
