"""Bad inputs of Module and its containers, and the one clear error each gives, the same on cpu and meta."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import pytest

import gpunet as gn
from gpunet import nn
from gpunet.testing.bad_input import DEVICES, BadInput


def two() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 2), nn.ReLU())


CATALOGUE = [
    BadInput("Module called", lambda z, on: nn.Module()(z(1)), NotImplementedError, "Module defines no forward()"),
    BadInput("add_module number", lambda z, on: on(two()).add_module("a", 3),
             TypeError, "module 'a': expected a Module or None, got int"),
    BadInput("add_module dot", lambda z, on: on(two()).add_module("a.b", nn.ReLU()),
             KeyError, "\"module name: must not be empty or hold a dot, got 'a.b'\""),
    BadInput("register_module taken", lambda z, on: on(two()).register_module("forward", nn.ReLU()),
             KeyError, "\"module name: Sequential has an attribute 'forward' already\""),
    BadInput("register_parameter tensor", lambda z, on: two().register_parameter("p", z(2)),
             TypeError, "parameter 'p': expected a Parameter or None, got Tensor"),
    BadInput("register_buffer number", lambda z, on: on(two()).register_buffer("b", 1.0),
             TypeError, "buffer 'b': expected a Tensor or None, got float"),
    BadInput("Parameter of an array", lambda z, on: nn.Parameter(np.zeros(2)),  # type: ignore[arg-type]
             TypeError, "data: a Parameter is made from a Tensor, got ndarray"),
    BadInput("assign a tensor to a parameter", lambda z, on: setattr(two()[0], "weight", z(2)),
             TypeError, "cannot assign a Tensor as parameter 'weight': it takes a Parameter or None"),
    BadInput("get_submodule", lambda z, on: on(two()).get_submodule("0.none"),
             AttributeError, "'0.none': Linear has no module 'none'"),
    BadInput("get_parameter", lambda z, on: on(two()).get_parameter("1.weight"),
             AttributeError, "'1.weight': ReLU has no parameter 'weight'"),
    BadInput("get_buffer", lambda z, on: on(two()).get_buffer("0.weight"),
             AttributeError, "'0.weight': Linear has no buffer 'weight'"),
    BadInput("set_submodule nameless", lambda z, on: on(two()).set_submodule("", nn.ReLU()),
             ValueError, "target: must name a module, got ''"),
    BadInput("set_submodule number", lambda z, on: on(two()).set_submodule("0", 1),
             ValueError, "module: expected a Module, got int"),
    BadInput("set_submodule strict", lambda z, on: on(two()).set_submodule("a", nn.ReLU(), strict=True),
             AttributeError, "'a': Sequential has no module 'a'"),
    BadInput("set_submodule method", lambda z, on: on(two()).set_submodule("forward", nn.ReLU()),
             AttributeError, "'forward': the attribute 'forward' of Sequential is not a Module"),
    BadInput("train number", lambda z, on: on(two()).train(1), ValueError, "mode: expected True or False, got 1"),
    BadInput("to integers", lambda z, on: on(two()).to(gn.int64),
             gn.DTypeError, "dtype: a module's parameters are floating point, got int64"),
    BadInput("load_state_dict list", lambda z, on: on(two()).load_state_dict([1]),
             TypeError, "state_dict: expected a dict, got list"),
    BadInput("load_state_dict shape", lambda z, on: on(two()).load_state_dict({"0.weight": z(2, 2), "0.bias": z(2)}),
             gn.CheckpointError, "Sequential: the state dict does not fit (1 unfit); nothing was loaded\n"
                                 "  unfit:      0.weight: the model has (2, 3), the state dict (2, 2)"),
    BadInput("load_state_dict missing", lambda z, on: on(two()).load_state_dict({"0.weight": z(2, 3)}),
             gn.CheckpointError, "Sequential: the state dict does not fit (1 missing); nothing was loaded\n"
                                 "  missing:    0.bias, (2,) float32"),
    BadInput("Sequential index", lambda z, on: on(two())[2],
             IndexError, "Sequential: index 2 is out of range for 2 modules"),
    BadInput("Sequential key", lambda z, on: on(two())["0"],
             TypeError, "Sequential: index must be an integer or a slice, got str"),
    BadInput("Sequential member", lambda z, on: nn.Sequential(nn.ReLU(), z(2)),
             TypeError, "Sequential: holds Modules, got Tensor"),
    BadInput("Sequential dict member", lambda z, on: nn.Sequential(OrderedDict(a=3)),
             TypeError, "Sequential: holds Modules, got int"),
    BadInput("Sequential times 0", lambda z, on: on(two()) * 0,
             ValueError, "Sequential: must be multiplied by a positive integer, got 0"),
    BadInput("Sequential times float", lambda z, on: on(two()) * 1.5,
             TypeError, "Sequential: can be multiplied by an integer, got float"),
    BadInput("Sequential insert", lambda z, on: on(two()).insert(3, nn.ReLU()),
             IndexError, "Sequential: index 3 is out of range for 2 modules"),
    BadInput("ModuleList of one", lambda z, on: nn.ModuleList(nn.ReLU()),
             TypeError, "ModuleList.extend: takes several Modules, got one ReLU"),
    BadInput("ModuleList called", lambda z, on: nn.ModuleList([nn.ReLU()])(z(1)),
             NotImplementedError, "ModuleList: holds modules but computes nothing; call the modules in it"),
    BadInput("ModuleList index", lambda z, on: nn.ModuleList([nn.ReLU()])[-2],
             IndexError, "ModuleList: index -2 is out of range for 1 modules"),
    BadInput("ModuleDict of a number", lambda z, on: nn.ModuleDict(3),
             TypeError, "ModuleDict.update: takes a mapping or pairs, got int"),
    BadInput("ModuleDict of triples", lambda z, on: nn.ModuleDict([("a", nn.ReLU(), 3)]),
             ValueError, "ModuleDict.update: element 0 must be a pair, got 3 values"),
    BadInput("ModuleDict member", lambda z, on: nn.ModuleDict({"a": z(1)}),
             TypeError, "module 'a': expected a Module or None, got Tensor"),
    BadInput("ModuleDict called", lambda z, on: nn.ModuleDict()(z(1)),
             NotImplementedError, "ModuleDict: holds modules but computes nothing; call the modules in it"),
    BadInput("ParameterList of a tensor", lambda z, on: nn.ParameterList(z(2)),
             TypeError, "ParameterList.extend: takes several values, got one Tensor"),
    BadInput("ParameterList of integers", lambda z, on: nn.ParameterList([z(2, dtype=gn.int64)]),
             gn.DTypeError, "requires_grad: only floating-point tensors can require grad, got int64"),
    BadInput("ParameterList index", lambda z, on: nn.ParameterList([z(2)])[1],
             IndexError, "ParameterList: index 1 is out of range for 1 values"),
    BadInput("ParameterList called", lambda z, on: nn.ParameterList([z(2)])(z(2)),
             RuntimeError, "ParameterList: holds parameters but computes nothing"),
    BadInput("ParameterDict key", lambda z, on: nn.ParameterDict()[0],
             TypeError, "ParameterDict: keys must be strings, got int"),
    BadInput("ParameterDict no key", lambda z, on: nn.ParameterDict({"a": z(1)})["b"], KeyError, "'b'"),
    BadInput("ParameterDict empty", lambda z, on: nn.ParameterDict().popitem(),
             KeyError, "'ParameterDict: popitem on an empty dict'"),
    BadInput("ParameterDict called", lambda z, on: nn.ParameterDict({"a": z(1)})(z(1)),
             RuntimeError, "ParameterDict: holds parameters but computes nothing"),
]  # fmt: skip


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("entry", CATALOGUE, ids=repr)
def test_bad_input(entry: BadInput, device: str) -> None:
    """The error, word for word, whatever the device."""
    entry.check(device)
