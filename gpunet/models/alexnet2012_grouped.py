"""AlexNet of 2012 on one device: Krizhevsky, Sutskever and Hinton 2012 ("ImageNet classification with deep
convolutional neural networks"). ``alexnet2012`` is the same network on two.

The paper splits kernels and units into two towers, one for each GPU. On one device the second, fourth and fifth
convolution, which see their own tower alone, have two groups, and responses are normalised within each half.

Deviations: the paper gives images of 224 pixels, from which its first convolution cannot make the 55x55 outputs that
its later sizes follow from; 227 does, and so does 224 with a padding of 2. The last layer gives scores, not softmax.

Options give the relatives: ``groups=1`` (all layers see all channels), ``lrn="all"`` (Caffe's bvlc_alexnet, normalised
across the border between the halves), and ``pool_first=True`` with it (Caffe's CaffeNet: pooled, then normalised).
Caffe also starts from ``init="caffe"`` and normalises with k = 1, not 2. Others switch off what the paper found to
help: ``lrn=None``, ``overlapping=False``, ``dropout=0``.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any, NamedTuple

from gpunet import nn
from gpunet.autograd import Tensor, cat
from gpunet.backend.errors import ShapeError
from gpunet.models._arguments import check_probability, scaled
from gpunet.models._registry import register_model
from gpunet.models.recipes import IMAGENET, register_recipe
from gpunet.nn.arguments import check_int

__all__ = ["AlexNet2012Grouped", "TowerNorm", "alexnet2012_grouped"]


class Convolution(NamedTuple):
    """A row of the paper's figure 2, both towers together."""

    kernels: int
    size: int
    stride: int
    padding: int
    sees_both: bool  # towers
    normalised: bool
    pooled: bool


# Sections 3.3 to 3.5. Where a convolution is normalised and pooled it is so in that order, after ReLU.
CONVOLUTIONS = {
    #                    kernels size stride padding both   lrn    pool     output for a 3x227x227 image
    "conv1": Convolution(96, 11, 4, 0, True, True, True),  #   55x55, pooled 27x27
    "conv2": Convolution(256, 5, 1, 2, False, True, True),  #  27x27, pooled 13x13
    "conv3": Convolution(384, 3, 1, 1, True, False, False),  # 13x13
    "conv4": Convolution(384, 3, 1, 1, False, False, False),  # 13x13
    "conv5": Convolution(256, 3, 1, 1, False, False, True),  # 13x13, pooled 6x6
}
DENSE = 4096  # units of fc6 and of fc7, which see both towers, as fc8 does
# Section 3.3; its alpha is not divided by the window's size.
LRN: dict[str, Any] = {"size": 5, "alpha": 1e-4, "beta": 0.75, "k": 2.0, "alpha_over_size": False}
# Section 5: what helps ReLU at first, by giving it positive inputs.
BIASED = ("conv2", "conv4", "conv5", "fc6", "fc7")
INITIALISERS: dict[str, tuple[dict[str, float], float]] = {
    #        standard deviations other than STD    bias of BIASED; 0 elsewhere
    "paper": ({}, 1.0),
    "caffe": ({"fc6": 0.005, "fc7": 0.005}, 0.1),
}
STD = 0.01


class Plan(NamedTuple):
    """Arguments, checked: what the two forms of the network have in common."""

    num_classes: int
    dropout: float
    in_channels: int
    input_size: int
    first_padding: int
    width: float
    lrn: str | None
    overlapping: bool
    pool_first: bool
    init: str


def make_plan(
    network: str,
    num_classes: int,
    dropout: float,
    in_channels: int,
    input_size: int,
    padding: int | None,
    width: float,
    lrn: str | None,
    overlapping: bool,
    pool_first: bool,
    init: str,
) -> Plan:
    """Check the arguments of either form, in whose name errors speak."""
    if init not in INITIALISERS:
        raise ValueError(f"init: must be {' or '.join(map(repr, INITIALISERS))}, got {init!r}")
    size = check_int(network, "input_size", input_size, 1)
    return Plan(
        check_int(network, "num_classes", num_classes, 1),
        check_probability(network, "dropout", dropout),
        check_int(network, "in_channels", in_channels, 1),
        size,
        check_int(network, "padding", 2 * (size == 224) if padding is None else padding, 0),
        width,
        lrn,
        bool(overlapping),
        bool(pool_first),
        init,
    )


class TowerNorm(nn.LocalResponseNorm):
    """Local response normalisation within each tower's half of the channels."""

    def forward(self, input: Tensor) -> Tensor:
        """Input and output: (N, 2 C, H, W)."""
        return cat([super(TowerNorm, self).forward(half) for half in input.chunk(2, 1)], 1)


def layers(network: str, plan: Plan, groups: int, towers: int) -> Iterator[tuple[str, nn.Module]]:
    """Names and modules, in their order, up to and without fc8.

    Args:
        network: the class, for errors.
        plan: its arguments.
        groups: of the convolutions that do not see both towers.
        towers: 2 gives the layers of one of two towers, 1 those of both together.

    Raises:
        ValueError: an image too small.
    """
    share = 2 // towers
    channels, side = plan.in_channels, plan.input_size
    window = 3 if plan.overlapping else 2
    norm = TowerNorm if plan.lrn == "towers" and towers == 1 else nn.LocalResponseNorm
    for name, row in CONVOLUTIONS.items():
        # The image, which is not split, goes to both towers.
        seen = channels * towers if row.sees_both and name != "conv1" else channels
        channels = share * scaled(network, row.kernels // 2, plan.width)
        padding = plan.first_padding if name == "conv1" else row.padding
        side = _shrunk(network, name, side + 2 * padding, row.size, row.stride, plan)
        split = 1 if row.sees_both or towers == 2 else groups
        number = name.removeprefix("conv")
        yield name, nn.Conv2d(seen, channels, row.size, stride=row.stride, padding=padding, groups=split)
        yield f"relu{number}", nn.ReLU()
        after: list[tuple[str, nn.Module]] = []
        if row.normalised and plan.lrn is not None:
            after.append((f"norm{number}", norm(**LRN)))
        if row.pooled:
            side = _shrunk(network, f"pool{number}", side, window, 2, plan)
            after.insert(0 if plan.pool_first else len(after), (f"pool{number}", nn.MaxPool2d(window, 2)))
        yield from after
    yield "flatten", nn.Flatten()
    units = share * scaled(network, DENSE // 2, plan.width)
    for name, inputs in (("fc6", channels * side * side), ("fc7", units)):
        number = name.removeprefix("fc")
        yield name, nn.Linear(towers * inputs, units)
        yield f"relu{number}", nn.ReLU()
        yield f"drop{number}", nn.Dropout(plan.dropout)


def scores(network: str, plan: Plan) -> nn.Linear:
    """fc8, which is not split."""
    return nn.Linear(2 * scaled(network, DENSE // 2, plan.width), plan.num_classes)


def draw(model: nn.Module, init: str) -> None:
    """Draw all weights: section 5 of the paper, or Caffe's bvlc_alexnet."""
    deviations, bias = INITIALISERS[init]
    for path, layer in model.named_modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            name = path.rpartition(".")[2]
            nn.init.normal_(layer.weight, std=deviations.get(name, STD))
            if layer.bias is not None:
                nn.init.constant_(layer.bias, bias if name in BIASED else 0.0)


def check_images(network: str, plan: Plan, x: Tensor) -> None:
    """Raise a ShapeError if the images are not those that the network was made for."""
    expected = (plan.in_channels, plan.input_size, plan.input_size)
    if tuple(x.shape[1:]) != expected:
        raise ShapeError(
            f"{network}: input must have shape (N, {', '.join(map(str, expected))}), got {tuple(x.shape)}; other sizes "
            "need another input_size"
        )


def _shrunk(network: str, layer: str, side: int, window: int, stride: int, plan: Plan) -> int:
    if side < window:
        raise ValueError(
            f"{network}: input_size is too small, got {plan.input_size}: {layer} has a window of {window}x{window} and "
            f"only {side}x{side} to look at"
        )
    return (side - window) // stride + 1


class AlexNet2012Grouped(nn.Sequential):
    """Five convolutions and three dense layers, both towers on one device.

    Args:
        num_classes: number of scores.
        dropout: probability with which an output of fc6 and of fc7 is zeroed in training.
        groups: of conv2, conv4 and conv5: 2 for the two towers, or 1.
        in_channels: channels of the images.
        input_size: height and width of the images.
        padding: of conv1; None is 2 for images of 224 pixels, and 0 for others.
        width: factor of all channels and units between the image and the scores.
        lrn: ``"towers"`` normalises responses within each half of the channels, ``"all"`` across all of them, None not.
        overlapping: pool windows of 3x3, which overlap; False those of 2x2, which do not.
        pool_first: pool before the responses are normalised.
        init: ``"paper"`` or ``"caffe"``.

    Raises:
        TypeError, ValueError: an argument that no network can have.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        dropout: float = 0.5,
        *,
        groups: int = 2,
        in_channels: int = 3,
        input_size: int = 227,
        padding: int | None = None,
        width: float = 1.0,
        lrn: str | None = "towers",
        overlapping: bool = True,
        pool_first: bool = False,
        init: str = "paper",
    ) -> None:
        name = type(self).__name__
        if groups not in (1, 2):
            raise ValueError(f"groups: must be 1 or 2, got {groups!r}")
        if lrn not in ("towers", "all", None):
            raise ValueError(f"lrn: must be 'towers', 'all' or None, got {lrn!r}")
        plan = make_plan(
            name, num_classes, dropout, in_channels, input_size, padding, width, lrn, overlapping, pool_first, init
        )
        with nn.init.skip_draws():
            super().__init__(OrderedDict([*layers(name, plan, groups, 1), ("fc8", scores(name, plan))]))
        self.plan = plan
        self.default_image_size = plan.input_size
        draw(self, init)

    def forward(self, input: Tensor) -> Tensor:
        """(N, in_channels, input_size, input_size) to scores (N, num_classes)."""
        check_images(type(self).__name__, self.plan, input)
        return super().forward(input)


@register_model
def alexnet2012_grouped(
    num_classes: int = 1000, dropout: float = 0.5, *, in_channels: int = 3, input_size: int = 227, **kwargs: Any
) -> AlexNet2012Grouped:
    """AlexNet of 2012 on one device, 60,965,224 parameters; see ``AlexNet2012Grouped``."""
    return AlexNet2012Grouped(num_classes, dropout, in_channels=in_channels, input_size=input_size, **kwargs)


# Section 5; the augmentation is section 4.1's. Divided "by 10 when the validation error rate stopped improving", "three
# times prior to termination": here at equal parts of the run.
register_recipe(
    "paper",
    IMAGENET.replace(
        epochs=90,
        batch_size=128,
        learning_rate=0.01,
        weight_decay=5e-4,
        milestones=(0.25, 0.5, 0.75),
        crop=227,
        source="Krizhevsky et al. 2012, sections 4.1 and 5; the learning rate falls at equal parts of the run "
        "instead of by hand, and crops have 227 pixels, which the first layer needs, instead of 224",
    ),
    "alexnet2012",
    "alexnet2012_grouped",
)
# models/bvlc_alexnet/solver.prototxt: a tenth every 100,000 of 450,000 steps.
register_recipe(
    "caffe",
    IMAGENET.replace(
        epochs=90,
        batch_size=256,
        learning_rate=0.01,
        weight_decay=5e-4,
        milestones=(100 / 450, 200 / 450, 300 / 450, 400 / 450),
        crop=227,
        colour=0.0,
        source="BVLC's bvlc_alexnet; biases learn at the rate of the weights, and decay",
    ),
    "alexnet2012",
    "alexnet2012_grouped",
)
