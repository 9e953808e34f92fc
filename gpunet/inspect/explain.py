"""Parameter arithmetic as it is written by hand: ``11*11*3*96 = 34,848 (+96 biases)``."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from gpunet.backend.errors import DeviceError, ShapeError
from gpunet.inspect.alexnet_arrows import Arrow, arrows_of
from gpunet.inspect.summary import run_on_meta
from gpunet.inspect.trace import Trace, meta_model
from gpunet.models import AlexNet2012Grouped
from gpunet.nn import (
    Conv1d,
    Conv2d,
    Conv3d,
    ConvTranspose1d,
    ConvTranspose2d,
    ConvTranspose3d,
    Linear,
    Module,
    Parameter,
    RNNBase,
    RNNCellBase,
)
from gpunet.nn.functional import conv_output_size

__all__ = ["OutputSize", "ParamExplanation", "ParamRow", "explain_output_size", "explain_params"]

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ParamRow:
    """The parameters of one layer.

    Attributes:
        name: the layer's dotted path; with the layer and direction of a recurrent one, such as ``lstm.l0_reverse``; for
            a parameter of an uncommon layer, the parameter's.
        type: the layer's class.
        factors: whose product is the number of weights: kernel height, kernel width, input channels, kernels of a
            convolution, and the groups where there are several; height, width, channels and outputs of a linear layer
            whose input was flattened, inputs and outputs of another; the gates of a recurrent layer, and the weights of
            one.
        weights, biases: how many.
        shared_with: the layer whose row counts these parameters already; empty mostly.
        formula: what is written for weights and biases together where they are no plain product, as those of a
            recurrent layer; empty mostly.
    """

    name: str
    type: str
    factors: Shape
    weights: int
    biases: int
    shared_with: str = ""
    formula: str = ""

    @property
    def total(self) -> int:
        """Weights and biases."""
        return self.weights + self.biases

    @property
    def text(self) -> str:
        """The product, such as ``3*3*3*64 = 1,728 (+64 biases)``, or ``4*(4*8+8*8+8+8) = 448`` of an LSTM."""
        if self.shared_with:
            return f"those of {self.shared_with}"
        if self.formula:
            return f"{self.formula} = {self.total:,}"
        return product_text(self.factors, self.weights, self.biases)


@dataclass(frozen=True)
class ParamExplanation:
    """The arithmetic of a model's parameters; ``str()`` writes it down.

    Attributes:
        model: the model's class.
        rows: the layers that have parameters, in the order in which the model has them.
        arrows: for the AlexNet of 2012, the eight arrows of its figure; else empty.
    """

    model: str
    rows: tuple[ParamRow, ...]
    arrows: tuple[Arrow, ...] = field(default=())

    @property
    def weights(self) -> int:
        """Of all layers."""
        return sum(row.weights for row in self.rows)

    @property
    def biases(self) -> int:
        """Of all layers."""
        return sum(row.biases for row in self.rows)

    @property
    def total(self) -> int:
        """Of the model: weights and biases."""
        return self.weights + self.biases

    def __getitem__(self, name: str) -> ParamRow:
        """The row of a layer."""
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(f"{self.model} has no layer {name!r} with parameters")

    def __iter__(self) -> Iterator[ParamRow]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return {
            "model": self.model,
            "weights": self.weights,
            "biases": self.biases,
            "total": self.total,
            "rows": [
                {
                    "name": row.name, "type": row.type, "factors": list(row.factors), "weights": row.weights,
                    "biases": row.biases, "shared_with": row.shared_with, "text": row.text,
                }
                for row in self.rows
            ],
            "arrows": [arrow.to_dict() for arrow in self.arrows],
        }  # fmt: skip

    def to_json(self, indent: int | None = None) -> str:
        """The same as a JSON text."""
        return json.dumps(self.to_dict(), indent=indent, allow_nan=False)

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"

    def __str__(self) -> str:
        names = max((len(row.name) for row in self.rows), default=0)
        types = max((len(row.type) for row in self.rows), default=0)
        lines = [f"{row.name:<{names}}  {row.type:<{types}}  {row.text}" for row in self.rows]
        lines.append(f"{self.model}: {self.weights:,} weights + {self.biases:,} biases = {self.total:,} parameters")
        if self.arrows:
            lines += ["", *_arrow_lines(self)]
        return "\n".join(lines)


def explain_params(
    model: Module | str, input_size: Sequence[Any] | None = None, *, arrows: bool | None = None, **kwargs: Any
) -> ParamExplanation:
    """Where each parameter comes from, as the product that one writes for each layer.

    A convolution has kernel height * kernel width * input channels * kernels weights: a kernel reaches through all
    channels of its input. With groups it sees its own group's, and the product ends in the number of groups. A linear
    layer has inputs * outputs; where the input was flattened, its height, width and channels are written out. A
    recurrent layer has gates * (inputs * units + units * units + units + units), the last two its two biases, once for
    each layer and direction. Scales and shifts of a normalisation are called weights and biases, as the parameters are.

    Args:
        model: a model, which is only read, or the name of one, which is then made without memory.
        input_size: (C, H, W), to know what a linear layer's input was before it was flattened; as ``summary``.
        arrows: add the arrows of the paper's figure, each with what both towers have together. None: if the model is
            the AlexNet of 2012 with its towers, on one device or two.
        kwargs: for the function that makes a model of that name.

    Raises:
        ShapeError: ``input_size`` is given and does not fit.
        ValueError: arrows of a model that has none.
    """
    run: Trace | None
    try:
        run = run_on_meta(model, input_size, **kwargs)
    except (ShapeError, TypeError, DeviceError):
        # Without a run, such as where no usual size of input fits, products are as plain as the weights' shapes.
        if input_size is not None or "example_inputs" in kwargs:
            raise
        run = None
    twin = meta_model(model, **kwargs) if run is None else run.model
    found = () if arrows is False else arrows_of(twin, run)
    if arrows and not found:
        towers = " without towers" if isinstance(twin, AlexNet2012Grouped) and run is not None else ""
        raise ValueError(f"arrows: only the AlexNet of 2012 has them, got {type(twin).__name__}{towers}")
    return ParamExplanation(type(twin).__name__, tuple(_rows(twin, run)), found)


def _rows(model: Module, run: Trace | None) -> Iterator[ParamRow]:
    flattened = {id(step.module): step.flattened for step in run.steps if step.module is not None} if run else {}
    owners: dict[int, str] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        own = {name: p for name, p in module._parameters.items() if p is not None}
        if not own:
            continue
        label = path or type(module).__name__
        weight, bias = own.get("weight"), own.get("bias")
        if set(own) <= {"weight", "bias"} and weight is not None:
            shared = owners.get(id(weight), "")
            counted = 0 if bias is None or id(bias) in owners else int(bias.numel())
            factors = _factors(module, tuple(weight.shape), flattened.get(id(module)))
            yield ParamRow(label, type(module).__name__, factors, 0 if shared else math.prod(factors), counted, shared)
        elif (groups := _recurrent_groups(module, own)) is not None and len(
            {id(p) in owners for p in own.values()}
        ) == 1:
            for suffix, group in groups:
                name = f"{label}.{suffix}" if suffix else label
                yield _recurrent_row(name, module, group, owners.get(id(group[0]), ""))
        else:
            inside: dict[int, str] = {}
            for name, parameter in own.items():
                shared = owners.get(id(parameter)) or inside.get(id(parameter), "")
                shape = tuple(parameter.shape)
                count = 0 if shared else int(parameter.numel())
                is_bias = name.startswith("bias") or name.endswith("_bias")
                full = f"{path}.{name}" if path else name
                inside.setdefault(id(parameter), full)
                yield ParamRow(
                    full, type(module).__name__, () if is_bias else shape, 0 if is_bias else count,
                    count if is_bias else 0, shared,
                )  # fmt: skip
        for parameter in own.values():
            owners.setdefault(id(parameter), label)


def _recurrent_groups(module: Module, own: dict[str, Parameter]) -> list[tuple[str, list[Parameter]]] | None:
    """The weights of each layer and direction of a recurrent layer, or of a cell; None if they are not those it had."""
    if isinstance(module, RNNCellBase):
        names = [["weight_ih", "weight_hh", *(["bias_ih", "bias_hh"] if module.bias else [])]]
    elif isinstance(module, RNNBase):
        names = module._all_weights
    else:
        return None
    if [name for group in names for name in group] != list(own) or len({id(one) for one in own.values()}) < len(own):
        return None  # such as weights that are computed from others, or shared by two directions
    return [(group[0].removeprefix("weight_ih").lstrip("_"), [own[name] for name in group]) for group in names]


def _recurrent_row(name: str, module: Module, group: list[Parameter], shared: str) -> ParamRow:
    """gates * (inputs * units + units * units + units + units)."""
    (rows, inputs), units = group[0].shape, group[1].shape[1]
    gates, biases = rows // units, len(group) - 2
    formula = "+".join([f"{inputs}*{units}", f"{units}*{units}", *[f"{units}"] * biases])
    return ParamRow(
        name, type(module).__name__, (gates, units * (inputs + units)), 0 if shared else rows * (inputs + units),
        0 if shared else biases * rows, shared, f"{gates}*({formula})" if gates > 1 else formula,
    )  # fmt: skip


def _factors(module: Module, shape: Shape, flattened: Shape | None) -> Shape:
    """What is multiplied, in the order in which it is written: the window, what goes in, what comes out."""
    if isinstance(module, (Conv1d, Conv2d, Conv3d, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d)):
        inputs, outputs, groups = module.in_channels, module.out_channels, module.groups
        window = shape[2:]
        if groups == 1:
            return (*window, inputs, outputs)
        return (*window, inputs // groups, outputs // groups, groups)
    if isinstance(module, Linear):
        outputs, inputs = shape
        if flattened is not None and math.prod(flattened) == inputs:
            channels, *extents = flattened
            if math.prod(extents) > 1:
                return (*extents, channels, outputs)
        return (inputs, outputs)
    return shape


def product_text(factors: Shape, weights: int, biases: int) -> str:
    """``3*3*3*64 = 1,728 (+64 biases)``."""
    left = "*".join(map(str, factors))
    text = "" if not weights else f"{left} = {weights:,}" if len(factors) > 1 else f"{weights:,}"
    if biases:
        text = f"{text} (+{biases:,} biases)" if text else f"{biases:,} biases"
    return text


def _arrow_lines(explanation: ParamExplanation) -> list[str]:
    """The arrows of the figure, and what comes of each reading of the one that is often read wrongly."""
    arrows = explanation.arrows
    lines = ["The arrows of the paper's figure 2, both towers together:"]
    wide = max(len(f"{arrow.source} -> {arrow.target}") for arrow in arrows)
    for arrow in arrows:
        ends = f"{arrow.source} -> {arrow.target}"
        lines.append(f"{arrow.number}  {ends:<{wide}}  {product_text(arrow.factors, arrow.weights, arrow.biases)}")
        for reading in arrow.readings:
            verdict = "right" if reading.right else "wrong"
            product = product_text(reading.factors, reading.weights, 0)
            lines.append(f"     {verdict}: {product}, {reading.source}: {reading.why}")
    weights = sum(arrow.weights for arrow in arrows)
    biases = sum(arrow.biases for arrow in arrows)
    lines.append(f"together: {weights:,} weights + {biases:,} biases = {weights + biases:,} parameters")
    for arrow in arrows:
        for reading in arrow.readings:
            if not reading.right:
                changed = weights - arrow.weights + reading.weights
                lines.append(f"with arrow {arrow.number} as in {reading.source}: {changed:,} weights, which is wrong")
    return lines


# Output sizes ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OutputSize:
    """How many positions a window has along one dimension; ``str()`` writes the division down.

    Attributes:
        size, kernel, stride, padding, dilation: as given.
        exact: (size - dilation (kernel - 1) - 1 + 2 padding) / stride + 1, before it is rounded down.
        output: the number of positions.
        unused: pixels (with the padding) after the last window, which no window reaches.
    """

    size: int
    kernel: int
    stride: int
    padding: int
    dilation: int
    exact: Fraction
    output: int
    unused: int

    def __str__(self) -> str:
        reach = self.dilation * (self.kernel - 1) + 1
        text = f"({self.size} - {reach} + 2*{self.padding})/{self.stride} + 1 = {float(self.exact):g}"
        if not self.unused:
            return text
        pixels = "pixel is" if self.unused == 1 else "pixels are"
        return (
            f"{text}, rounded down to {self.output}: a window is there or not, and another one would reach "
            f"{self.stride - self.unused} past the end; the last {self.unused} {pixels} never seen"
        )


def explain_output_size(size: int, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1) -> OutputSize:
    """The output size of a convolution or pooling along one dimension, with the division that gives it.

    Args:
        size: of the input.
        kernel, stride, padding, dilation: of the window; the padding is added on both sides.

    Raises:
        TypeError, ValueError: as ``conv_output_size``.
    """
    output = conv_output_size(size, kernel, stride, padding, dilation)
    room = size + 2 * padding - dilation * (kernel - 1) - 1
    return OutputSize(size, kernel, stride, padding, dilation, Fraction(room, stride) + 1, output, room % stride)
