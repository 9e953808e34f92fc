"""Dense heads as convolutions: Simonyan and Zisserman 2014, section 3.2; Sermanet et al. 2013 ("OverFeat").

A dense layer on a map of C channels and 7x7 pixels is a 7x7 convolution without padding, and one on a vector is a 1x1
convolution: the same weights, reshaped. On a larger image the head then gives a map of scores, as if the network had
been shown every window of 224 pixels at steps of 32, at the price of one.
"""

from __future__ import annotations

from collections import OrderedDict
from copy import deepcopy
from math import isqrt
from typing import Any

from gpunet import nn
from gpunet.autograd import Tensor, no_grad
from gpunet.backend.errors import ShapeError
from gpunet.nn.input_shape import default_image_size

__all__ = ["FullyConvolutional", "conv_to_linear_weight", "linear_to_conv_weight", "to_fully_conv"]


def linear_to_conv_weight(weight: Any, channels: int) -> Any:
    """A dense layer's weight (K, C * S * S) on flattened maps as that of a convolution, (K, C, S, S).

    Args:
        weight: a Tensor or a NumPy array.
        channels: C.

    Raises:
        ShapeError: the second dimension is not C times a square.
    """
    units, inputs = weight.shape
    side = isqrt(inputs // channels)
    if channels * side * side != inputs:
        raise ShapeError(f"weight: {inputs} inputs are not {channels} channels of a square map")
    return weight.reshape(units, channels, side, side)


def conv_to_linear_weight(weight: Any) -> Any:
    """The weight of a convolution that covers its whole input, (K, C, R, S), as a dense layer's (K, C * R * S).

    timm's VGG stores its head so: ``pre_logits.fc1.weight`` is (4096, 512, 7, 7).
    """
    return weight.reshape(weight.shape[0], -1)


class FullyConvolutional(nn.Module):
    """Convolutions all the way: the map of scores, or its mean.

    Args:
        features: the convolutions and poolings in front.
        classifier: the head, as convolutions.
        average: give the mean of the scores over the map, so that an image of any size has one score for each class.
    """

    def __init__(self, features: nn.Module, classifier: nn.Module, average: bool = False) -> None:
        super().__init__()
        self.features = features
        self.classifier = classifier
        self.average = average

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to scores (N, num_classes, H', W'), or (N, num_classes) with ``average``."""
        x = self.classifier(self.features(x))
        return x.mean((2, 3)) if self.average else x


def to_fully_conv(model: nn.Module, average: bool = False) -> FullyConvolutional:
    """A network with dense layers on a map of a fixed size, as one that takes any image of at least that size.

    For images of that size (224 pixels, AlexNet 2012: 227) both give the same scores. VGG's map at Q pixels has a side
    of floor(Q / 32) - 6.

    Args:
        model: ``features``, a pooling that 224 pixels pass unchanged, and a Sequential ``classifier`` that begins with
            the flattened map, as in VGG and AlexNet; or one Sequential of all of it, as ``alexnet2012_grouped`` is.
            Its head has dense layers and others that work element by element. Nothing in it is changed.
        average: see ``FullyConvolutional``.

    Returns:
        A network whose ``features`` are the model's own, in the same memory: training or moving one of the two changes
        the other. Its ``classifier`` has memory of its own, with copies of the head's values. To share nothing, pass
        ``copy.deepcopy(model)``.

    Raises:
        TypeError: the model is not of that kind.
        ShapeError: the first dense layer does not take a square map of the convolutions' channels.
    """
    if not isinstance(model, nn.Module):
        hint = f"; gn.models.get_model({model!r}) makes one" if isinstance(model, str) else ""
        raise TypeError(f"to_fully_conv: model: expected a Module, got {type(model).__name__}{hint}")
    features, dense = _split(model)
    convolutions = [layer for layer in features.modules() if isinstance(layer, nn.Conv2d)]
    if not convolutions or not any(isinstance(layer, nn.Linear) for layer in dense.values()):
        raise TypeError(f"to_fully_conv: {type(model).__name__} has no convolutions before dense layers")
    channels = convolutions[-1].out_channels
    head: OrderedDict[str, nn.Module] = OrderedDict()
    for name, layer in dense.items():
        if isinstance(layer, nn.Linear):
            head[name] = _as_convolution(layer, channels)
            channels = layer.out_features
        else:
            head[name] = deepcopy(layer)
    network = FullyConvolutional(features, nn.Sequential(head).train(model.training), average)
    size = default_image_size(model)
    if size is not None:
        network.default_image_size = size
    network.training = model.training  # of it alone: the features stay in the mode they are in
    return network


def _split(model: nn.Module) -> tuple[nn.Module, dict[str, nn.Module]]:
    """What stands before the flattened map, and the layers of the head by name."""
    features, classifier = getattr(model, "features", None), getattr(model, "classifier", None)
    if isinstance(features, nn.Module) and isinstance(classifier, nn.Sequential):
        return features, dict(classifier.named_children())
    children = list(model.named_children())
    places = [place for place, (_, layer) in enumerate(children) if isinstance(layer, nn.Flatten)]
    if not isinstance(model, nn.Sequential) or not places:
        raise TypeError(
            "to_fully_conv: the model must have features and a Sequential called classifier, or be a Sequential that "
            f"flattens the map, got {type(model).__name__}"
        )
    front = nn.Sequential(OrderedDict(children[: places[0]]))
    front.training = model.training
    return front, dict(children[places[0] + 1 :])


def _as_convolution(layer: nn.Linear, channels: int) -> nn.Conv2d:
    weight = linear_to_conv_weight(layer.weight.detach(), channels)
    with nn.init.skip_draws():
        convolution = nn.Conv2d(
            channels, len(weight), weight.shape[2], bias=layer.bias is not None,
            device=weight.device, dtype=weight.dtype,
        )  # fmt: skip
    with no_grad():
        convolution.weight.copy_(weight)
        if layer.bias is not None and convolution.bias is not None:
            convolution.bias.copy_(layer.bias)
    return convolution
