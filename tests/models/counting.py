"""What the tests of the zoo share: the facts, and counting a built model without computing anything.

    with gn.device("meta"):
        model = models.resnet18()
    assert count(model, (3, 224, 224)) == fact("resnet18")

Multiply-adds are counted from the shapes that go in and out of each Conv2d and Linear, independently of what the
library itself says about its operations.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from math import prod
from pathlib import Path
from typing import Any

import gpunet as gn
from gpunet import nn

FACTS = Path(__file__).parent / "facts"

# Layers whose multiply-adds are counted: for each output one for each weight that reaches it.
COUNTED = (nn.Conv2d, nn.Linear)


@dataclass(frozen=True)
class Totals:
    """A row of totals.csv. MACs are for one image."""

    params: int
    param_tensors: int
    buffers: int
    state_tensors: int
    macs: int
    conv: int
    fc: int
    bn: int


@dataclass(frozen=True)
class Layer:
    """A module that was called: a row of layers.csv or stages.csv. ``output`` is without the batch; MACs of one image.

    Parameters and MACs include those of the modules below it.
    """

    path: str
    type: str
    output: tuple[int, ...]
    params: int
    macs: int


@cache
def rows(name: str) -> tuple[dict[str, str], ...]:
    """The rows of ``facts/<name>.csv``."""
    with (FACTS / f"{name}.csv").open(newline="") as file:
        return tuple(csv.DictReader(file))


@cache
def golden() -> dict[str, Any]:
    """facts/golden.json."""
    return json.loads((FACTS / "golden.json").read_text())


def fact(name: str) -> Totals:
    """The row of totals.csv with that name."""
    row = next(row for row in rows("totals") if row["model"] == name)
    return Totals(**{key: int(row[key]) for key in Totals.__annotations__})


def fact_input(name: str, channels: int = 3) -> tuple[int, int, int]:
    """The input that a row of totals.csv is for, without the batch."""
    row = next(row for row in rows("totals") if row["model"] == name)
    return channels, int(row["input"]), int(row["input"])


def shape_of(text: str) -> tuple[int, ...]:
    """``"64x112x112"`` as a shape."""
    return tuple(map(int, text.split("x")))


def count(model: nn.Module, shape: tuple[int, ...], training: bool = False) -> Totals:
    """Count a model that was made on the meta device.

    Args:
        model: on the meta device.
        shape: of one image.
        training: run in training mode, as GoogLeNet's auxiliary heads need it.
    """
    parameters, buffers = list(model.parameters()), list(model.buffers())
    kinds = [type(module) for module in model.modules()]
    return Totals(
        sum(parameter.numel() for parameter in parameters),
        len(parameters),
        len(buffers),
        len(model.state_dict()),
        run(model, shape, training)[0].macs,
        sum(issubclass(kind, nn.Conv2d) for kind in kinds),
        sum(issubclass(kind, nn.Linear) for kind in kinds),
        sum(issubclass(kind, nn.BatchNorm2d) for kind in kinds),
    )


def run(model: nn.Module, shape: tuple[int, ...], training: bool = False) -> list[Layer]:
    """The modules that a forward on the meta device calls, in the order in which they begin.

    Args:
        model: on the meta device.
        shape: of one image.
        training: run in training mode.
    """
    macs: dict[str, int] = {}
    outputs: dict[str, tuple[nn.Module, Any]] = {}
    handles = []
    for path, module in model.named_modules():

        def before(module: nn.Module, inputs: Any, path: str = path) -> None:
            outputs[path] = (module, None)

        def after(module: nn.Module, inputs: Any, output: Any, path: str = path) -> None:
            outputs[path] = (module, output)
            for above in _ancestors(path) if isinstance(module, COUNTED) else ():
                macs[above] = macs.get(above, 0) + output.numel() * prod(module.weight.shape[1:])

        handles += [module.register_forward_pre_hook(before), module.register_forward_hook(after)]
    batch = 2 if training else 1
    model.train(training)
    try:
        with gn.no_grad():
            model(gn.empty((batch, *shape), device="meta"))
    finally:
        for handle in handles:
            handle.remove()
    layers = []
    for path, (module, output) in outputs.items():
        params = sum(parameter.numel() for parameter in module.parameters())
        size = tuple(next(_tensors(output)).shape[1:])
        layers.append(Layer(path, type(module).__name__, size, params, macs.get(path, 0) // batch))
    return layers


def _ancestors(path: str) -> list[str]:
    """The path, those of the modules that contain it, and the model's own."""
    parts = path.split(".")
    return ["", *(".".join(parts[:length]) for length in range(1, len(parts) + 1) if path)]


def _tensors(output: Any) -> Iterator[gn.Tensor]:
    if isinstance(output, gn.Tensor):
        yield output
    elif isinstance(output, (tuple, list)):
        for value in output:
            yield from _tensors(value)


def check_stages(model: nn.Module, name: str, shape: tuple[int, ...] = (3, 224, 224)) -> None:
    """Hold a model to its rows in stages.csv."""
    layers = {layer.path: layer for layer in run(model, shape)}
    expected = [row for row in rows("stages") if row["model"] == name]
    assert expected, name
    for row in expected:
        layer = layers[row["stage"]]
        assert (layer.params, layer.macs) == (int(row["params"]), int(row["macs"])), row["stage"]
        if row["output"]:
            assert layer.output == shape_of(row["output"]), row["stage"]
