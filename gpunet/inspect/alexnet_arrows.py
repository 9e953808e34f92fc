"""The eight arrows of AlexNet's figure: what leads from each layer to the next, in both towers together.

The figure (Krizhevsky, Sutskever and Hinton 2012, figure 2) shows two towers side by side, each with half of the
kernels, and courses ask for the parameters of each arrow. Arrow 6, from conv5 to fc6, is where the answers part: the
figure draws 13x13 maps, and conv5's outputs are pooled to 6x6 before fc6 sees them, which only the text says.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gpunet.models import AlexNet2012, AlexNet2012Grouped
from gpunet.nn import Module

if TYPE_CHECKING:
    from gpunet.inspect.trace import Trace

__all__ = ["Arrow", "Reading", "arrows_of"]

Shape = tuple[int, ...]

TOWERS = 2
LAYERS = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8")
# Layers that see both towers' outputs; conv1 sees the image, the others their own tower's.
SEE_BOTH = {"conv3", "fc6", "fc7", "fc8"}


@dataclass(frozen=True, slots=True)
class Reading:
    """One way in which an arrow is read.

    Attributes:
        source: who reads it so.
        factors: whose product is the number of weights.
        right: whether it is what the network has.
        why: what is right or wrong about it.
    """

    source: str
    factors: Shape
    right: bool
    why: str

    @property
    def weights(self) -> int:
        """The product."""
        return math.prod(self.factors)


@dataclass(frozen=True, slots=True)
class Arrow:
    """One arrow of the figure.

    Attributes:
        number: from 1, from the image on.
        source, target: the layers at its ends.
        factors: whose product is the number of weights; the last is the towers, 2, but for the scores.
        weights, biases: of both towers, as the model has them.
        readings: where several are common.
    """

    number: int
    source: str
    target: str
    factors: Shape
    weights: int
    biases: int
    readings: tuple[Reading, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return {
            "number": self.number, "source": self.source, "target": self.target, "factors": list(self.factors),
            "weights": self.weights, "biases": self.biases,
            "readings": [
                {
                    "source": reading.source, "factors": list(reading.factors), "weights": reading.weights,
                    "right": reading.right, "why": reading.why,
                }
                for reading in self.readings
            ],
        }  # fmt: skip


def arrows_of(model: Module, run: Trace | None) -> tuple[Arrow, ...]:
    """The arrows of an ``AlexNet2012``, or an ``AlexNet2012Grouped`` of two groups; none of another model.

    Args:
        model: the model or its twin.
        run: of the model, for the size of conv5's maps.
    """
    if not isinstance(model, (AlexNet2012, AlexNet2012Grouped)) or run is None:
        return ()
    split = isinstance(model, AlexNet2012)
    if not split and model.conv2.groups != TOWERS:  # nothing is in two halves
        return ()
    arrows = []
    for number, name in enumerate(LAYERS, 1):
        owners = [model.tower0, model.tower1] if split and name != "fc8" else [model]
        layers: list[Any] = [getattr(owner, name) for owner in owners]
        readings = _readings(model, run, layers) if name == "fc6" else ()
        factors = _factors(name, layers)
        if readings:  # the maps that fc6 sees, as height, width and channels
            side = readings[0].factors[0]
            factors = (side, side, factors[0] // side**2, *factors[1:])
        weights = sum(int(layer.weight.numel()) for layer in layers)
        biases = sum(int(layer.bias.numel()) for layer in layers)
        arrows.append(
            Arrow(
                number, LAYERS[number - 2] if number > 1 else "image", name, factors, weights, biases, readings,
            )
        )  # fmt: skip
    return tuple(arrows)


def _factors(name: str, layers: list[Any]) -> Shape:
    """Window, inputs, outputs: halves of a tower times the number of towers."""
    outputs, inputs, *window = layers[0].weight.shape
    outputs *= len(layers)
    result = [*window, *((inputs // TOWERS, TOWERS) if name in SEE_BOTH else (inputs,))]
    return (*result, outputs) if name == "fc8" else (*result, outputs // TOWERS, TOWERS)


def _readings(model: Any, run: Trace, layers: list[Any]) -> tuple[Reading, ...]:
    """Arrow 6: 13x13 maps in the figure, 6x6 after the pooling."""
    shapes = [step.output_shape for step in run.steps if step.name.rpartition(".")[2] == "conv5"]
    maps = sum(shape[1] for shape in shapes if shape is not None)
    side = shapes[0][-1] if shapes[0] is not None else 0
    units = sum(layer.weight.shape[0] for layer in layers)
    pooled = math.isqrt(layers[0].weight.shape[1] // maps)
    half, tower = maps // TOWERS, units // TOWERS
    return (
        Reading(
            "the paper", (pooled, pooled, maps, units), True,
            f"conv5's {side}x{side} maps are pooled to {pooled}x{pooled}, and each of the {units:,} units sees the "
            f"{maps} maps of both towers",
        ),
        Reading(
            "the lecture note", (side, side, half, tower, TOWERS), False,
            f"it leaves out the pooling, and gives each unit the {half} maps of one tower, though fc6 sees both",
        ),
        Reading(
            "the slide", (side, side, half, TOWERS, tower, TOWERS), False,
            f"both towers' maps are there, but before the pooling: {side}x{side}, as the figure draws them",
        ),
    )  # fmt: skip
