"""Module, its containers and hooks, beside PyTorch's: one line that both libraries run, and the same result."""

from __future__ import annotations

import copy
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest

import gpunet as gn
from gpunet.testing.parity import Case, attempt, case, check_case

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")


def filled(m: Any, module: Any) -> Any:
    """The module with parameters that both libraries give the same values."""
    with m.no_grad():
        for number, parameter in enumerate(module.parameters()):
            values = m.linspace(-1, 1, parameter.numel(), dtype=parameter.dtype) * (0.3 + 0.1 * number)
            parameter.copy_(values.reshape(parameter.shape))
    return module


def block(m: Any, own_train: bool = False) -> Any:
    """A class of the library's own, with everything that a Module may hold."""

    class Block(m.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = m.nn.Parameter(m.ones(3))
            self.nothing = None
            self.register_parameter("absent", None)
            self.register_buffer("offset", m.zeros(3))
            self.register_buffer("cache", m.ones(2), persistent=False)
            self.fc = m.nn.Linear(3, 3)
            self.inner = m.nn.Sequential(OrderedDict([("fc", m.nn.Linear(3, 3)), ("act", m.nn.ReLU())]))
            self.again = self.fc

        def forward(self, x: Any) -> Any:
            return self.inner(self.fc(x)) * self.scale + self.offset

        def train(self, mode: bool = True) -> Any:
            super().train(mode)
            if own_train:
                self.inner.eval()
            return self

    return filled(m, Block().to(m.float64))


def names(pairs: Any) -> list[str]:
    return [name for name, _ in pairs]


def raised(act: Any) -> str:
    """Which of the errors that have a meaning to Python's protocols it raises."""
    try:
        act()
    except (KeyError, AttributeError) as error:
        return type(error).__name__
    return "nothing"


def kinds(modules: Any) -> list[str]:
    return [type(module).__name__ for module in modules]


def run(m: Any, module: Any, x: Any) -> Any:
    return filled(m, module.to(x.dtype))(x)


# Sequential and ModuleList ------------------------------------------------------------------------------------------


def three(m: Any) -> Any:
    return m.nn.Sequential(m.nn.Linear(3, 4), m.nn.ReLU(), m.nn.Linear(4, 2))


def named(m: Any) -> Any:
    return m.nn.Sequential(OrderedDict([("first", m.nn.Linear(3, 4)), ("act", m.nn.ReLU())]))


def edited(m: Any, edit: Any) -> Any:
    net = three(m)
    edit(net)
    return kinds(net), names(net.named_parameters())


SEQUENCES = [
    case("Sequential runs", lambda m, x: run(m, three(m), x), (5, 3)),
    case("Sequential empty", lambda m, x: m.nn.Sequential()(x) * 2, (5, 3)),
    case("Sequential nested", lambda m, x: run(m, m.nn.Sequential(three(m), m.nn.Sequential()), x), (5, 3)),
    case("Sequential OrderedDict", lambda m, x: run(m, named(m), x), (5, 3)),
    case("Sequential names", lambda m: (names(named(m).named_parameters()), kinds(named(m)))),
    case("Sequential by name", lambda m: type(named(m).first).__name__),
    case("Sequential by number", lambda m: kinds([three(m)[0], three(m)[-2]])),
    case("Sequential slice", lambda m, x: run(m, three(m)[:2], x), (5, 3)),
    case("Sequential slice of names", lambda m: names(named(m)[1:].named_modules())),
    case("Sequential slice step", lambda m: names(three(m)[::2].named_modules())),
    case("Sequential len", lambda m: (len(three(m)), len(m.nn.Sequential()))),
    case("Sequential append", lambda m: edited(m, lambda net: net.append(m.nn.Dropout()).append(m.nn.ReLU()))),
    case("Sequential append to names", lambda m: names(named(m).append(m.nn.ReLU()).named_children())),
    case("Sequential extend", lambda m: edited(m, lambda net: net.extend([m.nn.ReLU(), m.nn.Linear(2, 2)]))),
    case("Sequential extend by one", lambda m: edited(m, lambda net: net.extend(three(m)))),
    case("Sequential insert", lambda m: edited(m, lambda net: net.insert(1, m.nn.Linear(4, 4)))),
    case("Sequential insert last", lambda m: edited(m, lambda net: net.insert(3, m.nn.Linear(4, 4)))),
    case("Sequential insert negative", lambda m: edited(m, lambda net: net.insert(-1, m.nn.Linear(4, 4)))),
    case("Sequential insert too far", lambda m: edited(m, lambda net: net.insert(4, m.nn.ReLU()))),
    case("Sequential pop", lambda m: edited(m, lambda net: net.pop(0))),
    case("Sequential pop last", lambda m: type(three(m).pop(-1)).__name__),
    case("Sequential pop too far", lambda m: three(m).pop(3)),
    case("Sequential del", lambda m: edited(m, lambda net: net.__delitem__(1))),
    case("Sequential del slice", lambda m: edited(m, lambda net: net.__delitem__(slice(1, None)))),
    case("Sequential set", lambda m: edited(m, lambda net: net.__setitem__(1, m.nn.Dropout()))),
    case("Sequential set beyond", lambda m: edited(m, lambda net: net.__setitem__(3, m.nn.Dropout()))),
    case("Sequential add", lambda m: names((three(m) + named(m)).named_parameters())),
    case("Sequential add in place", lambda m: names(three(m).__iadd__(three(m)).named_parameters())),
    case("Sequential times", lambda m: (len(three(m) * 2), names((2 * three(m)).named_parameters()))),
    case("Sequential times nothing", lambda m: three(m) * 0),
    case("Sequential index str", lambda m: three(m)["0"]),
    case("Sequential no module", lambda m: m.nn.Sequential(m.nn.ReLU(), 3)),
    case("Sequential iterates", lambda m: [len(list(layer.parameters())) for layer in three(m)]),
    case("Sequential unpacked", lambda m: names(m.nn.Sequential(*three(m), m.nn.ReLU()).named_children())),
    case("Sequential children cut", lambda m: kinds(m.nn.Sequential(*list(three(m).children())[:-1]))),
    case("ModuleList names", lambda m: names(m.nn.ModuleList([m.nn.Linear(1, 2), m.nn.ReLU()]).named_modules())),
    case("ModuleList empty", lambda m: len(m.nn.ModuleList())),
    case("ModuleList append", lambda m: kinds(m.nn.ModuleList().append(m.nn.ReLU()))),
    case("ModuleList extend", lambda m: kinds(m.nn.ModuleList([m.nn.ReLU()]).extend([m.nn.Linear(1, 1)]))),
    case("ModuleList insert", lambda m: (lambda seq: (seq.insert(0, m.nn.Linear(1, 1)), kinds(seq)))(
        m.nn.ModuleList([m.nn.ReLU()]))[1]),
    case("ModuleList pop", lambda m: type(m.nn.ModuleList([m.nn.ReLU(), m.nn.Dropout()]).pop(0)).__name__),
    case("ModuleList del", lambda m: (lambda seq: (seq.__delitem__(0), names(seq.named_modules())))(
        m.nn.ModuleList(three(m)))[1]),
    case("ModuleList set", lambda m: (lambda seq: (seq.__setitem__(-1, m.nn.ReLU()), kinds(seq)))(
        m.nn.ModuleList(three(m)))[1]),
    case("ModuleList slice", lambda m: (kinds(m.nn.ModuleList(three(m))[1:]), kinds(m.nn.ModuleList(three(m))[-1:]))),
    case("ModuleList add", lambda m: kinds(m.nn.ModuleList(three(m)) + m.nn.ModuleList([m.nn.ReLU()]))),
    case("ModuleList add in place", lambda m: kinds(m.nn.ModuleList().__iadd__([m.nn.ReLU(), m.nn.ReLU()]))),
    case("ModuleList reversed", lambda m: kinds(reversed(m.nn.ModuleList(three(m))))),
    case("ModuleList contains", lambda m: (lambda layer: layer in m.nn.ModuleList([layer]))(m.nn.ReLU())),
    case("ModuleList beyond", lambda m: m.nn.ModuleList(three(m))[3]),
    case("ModuleList called", lambda m, x: m.nn.ModuleList(three(m))(x), (1, 3)),
    case("ModuleList of one", lambda m: m.nn.ModuleList(m.nn.ReLU())),
]  # fmt: skip


# Dicts and parameters -----------------------------------------------------------------------------------------------


def parts(m: Any) -> Any:
    return m.nn.ModuleDict({"conv": m.nn.Linear(3, 4), "act": m.nn.ReLU()})


def after(container: Any, change: Any) -> Any:
    change(container)
    return container


def plist(m: Any, *tensors: Any) -> Any:
    return m.nn.ParameterList([m.nn.Parameter(tensor.detach()) for tensor in tensors])


def pdict(m: Any) -> Any:
    return m.nn.ParameterDict({"b": m.nn.Parameter(m.ones(2)), "a": m.ones(3)})


DICTS = [
    case("ModuleDict runs", lambda m, x: run(m, parts(m)["conv"], x), (5, 3)),
    case("ModuleDict names", lambda m: names(parts(m).named_modules())),
    case("ModuleDict state", lambda m: list(parts(m).state_dict())),
    case("ModuleDict keys", lambda m: (list(parts(m).keys()), list(parts(m)), len(parts(m)), "act" in parts(m))),
    case("ModuleDict values", lambda m: kinds(parts(m).values())),
    case("ModuleDict items", lambda m: [(key, type(value).__name__) for key, value in parts(m).items()]),
    case("ModuleDict set", lambda m: list(after(parts(m), lambda d: d.__setitem__("act", m.nn.Dropout())).keys())),
    case("ModuleDict del", lambda m: list(after(parts(m), lambda d: d.__delitem__("conv")))),
    case("ModuleDict pop", lambda m: (type(parts(m).pop("act")).__name__,
                                      len(after(parts(m), lambda d: d.pop("act"))))),
    case("ModuleDict clear", lambda m: len(after(parts(m), lambda d: d.clear()))),
    case("ModuleDict update", lambda m: list(after(parts(m), lambda d: d.update(
        {"z": m.nn.ReLU(), "b": m.nn.ReLU()})))),
    case("ModuleDict update pairs", lambda m: list(after(parts(m), lambda d: d.update([("z", m.nn.ReLU())])))),
    case("ModuleDict of a ModuleDict", lambda m: list(m.nn.ModuleDict(parts(m)))),
    case("ModuleDict of pairs", lambda m: list(m.nn.ModuleDict([["a", m.nn.ReLU()], ["b", m.nn.ReLU()]]))),
    case("ModuleDict no key", lambda m: raised(lambda: parts(m)["none"])),
    case("ParameterDict no key", lambda m: raised(lambda: pdict(m).pop("none"))),
    case("ModuleDict no module", lambda m: m.nn.ModuleDict({"a": 1})),
    case("ModuleDict bad pairs", lambda m: m.nn.ModuleDict([("a", m.nn.ReLU(), 1)])),
    case("ModuleDict of a number", lambda m: m.nn.ModuleDict(3)),
    case("ModuleDict called", lambda m, x: parts(m)(x), (1, 3)),
    case("ParameterList gradients", lambda m, x, y: [p * 2 for p in plist(m, x, y)], (2, 3), (4,)),
    case("ParameterList names", lambda m: names(plist(m, m.ones(2), m.ones(1)).named_parameters())),
    case("ParameterList of tensors", lambda m: [p.requires_grad for p in m.nn.ParameterList([m.ones(2)])]),
    case("ParameterList mixed", lambda m: (len(m.nn.ParameterList([m.ones(2), "a"])),
                                           len(list(m.nn.ParameterList([m.ones(2), "a"]).parameters())))),
    case("ParameterList append", lambda m: len(plist(m, m.ones(2)).append(m.ones(3)).extend([m.ones(1)]))),
    case("ParameterList add in place", lambda m: len(plist(m).__iadd__([m.ones(2), m.ones(2)]))),
    case("ParameterList index", lambda m: tuple(plist(m, m.ones(2), m.ones(3))[-1].shape) == (3,)),
    case("ParameterList slice", lambda m: [len(p) for p in plist(m, m.ones(1), m.ones(2), m.ones(3))[::2]]),
    case("ParameterList set", lambda m: names(after(plist(m, m.ones(2)), lambda p: p.__setitem__(0, m.ones(3)))
                                              .named_parameters())),
    case("ParameterList beyond", lambda m: plist(m)[0]),
    case("ParameterList of a tensor", lambda m: m.nn.ParameterList(m.ones(2))),
    case("ParameterList called", lambda m: plist(m)(1)),
    case("ParameterDict names", lambda m: (names(pdict(m).named_parameters()), list(pdict(m)))),
    case("ParameterDict order", lambda m: list(m.nn.ParameterDict(OrderedDict([("b", m.ones(1)), ("a", m.ones(1))])))),
    case("ParameterDict of pairs", lambda m: list(m.nn.ParameterDict([("b", m.ones(1)), ("a", None)]))),
    case("ParameterDict keys", lambda m: (list(pdict(m).keys()), len(pdict(m)), "b" in pdict(m), "z" in pdict(m))),
    case("ParameterDict values", lambda m: [len(value) for value in pdict(m).values()]),
    case("ParameterDict items", lambda m: [(key, len(value)) for key, value in pdict(m).items()]),
    case("ParameterDict get", lambda m: (pdict(m).get("z"), pdict(m).get("z", 3), len(pdict(m).get("a")))),
    case("ParameterDict setdefault", lambda m: (pdict(m).setdefault("z", 3), len(pdict(m).setdefault("b", 3)))),
    case("ParameterDict pop", lambda m: (len(pdict(m).pop("a")), list(after(pdict(m), lambda d: d.pop("a"))))),
    case("ParameterDict popitem", lambda m: pdict(m).popitem()[0]),
    case("ParameterDict clear", lambda m: len(after(pdict(m), lambda d: d.clear()))),
    case("ParameterDict copy", lambda m: list(pdict(m).copy())),
    case("ParameterDict fromkeys", lambda m: list(pdict(m).fromkeys(["x", "y"], 1).items())),
    case("ParameterDict update", lambda m: list(after(pdict(m), lambda d: d.update({"z": 1, "c": m.ones(1)})))),
    case("ParameterDict or", lambda m: (list(pdict(m) | pdict(m)),
                                        list(after(pdict(m), lambda d: d.__ior__({"z": 1}))))),
    case("ParameterDict del", lambda m: names(after(pdict(m), lambda d: d.__delitem__("a")).named_parameters())),
    case("ParameterDict reversed", lambda m: list(reversed(pdict(m)))),
    case("ParameterDict integer key", lambda m: after(pdict(m), lambda d: d.__setitem__(1, m.ones(1)))),
    case("ParameterDict of a number", lambda m: m.nn.ParameterDict(3)),
    case("ParameterDict called", lambda m: pdict(m)(1)),
]  # fmt: skip


# The walks ----------------------------------------------------------------------------------------------------------


def tied(m: Any) -> Any:
    net = m.nn.Sequential(m.nn.Linear(3, 3), m.nn.Linear(3, 3))
    net[1].weight = net[0].weight
    return filled(m, net)


def with_attribute(m: Any, name: str, value: Any) -> Any:
    """What becomes of an assignment to a block."""
    net = block(m)
    setattr(net, name, value)
    return (
        names(net.named_parameters()), names(net.named_buffers()), names(net.named_children()), list(net.state_dict()),
    )  # fmt: skip


def without_attribute(m: Any, name: str) -> Any:
    net = block(m)
    delattr(net, name)
    return names(net.named_parameters()), names(net.named_buffers()), names(net.named_children()), hasattr(net, name)


WALKS = [
    case("forward of a block", lambda m, x: block(m).to(x.dtype)(x), (4, 3)),
    case("named_parameters", lambda m: names(block(m).named_parameters())),
    case("named_parameters prefix", lambda m: names(block(m).named_parameters(prefix="net"))),
    case("named_parameters own", lambda m: names(block(m).named_parameters(recurse=False))),
    case("named_parameters twice", lambda m: names(block(m).named_parameters(remove_duplicate=False))),
    case("parameters", lambda m: [tuple(p.shape) == (3,) for p in block(m).parameters()]),
    case("named_buffers", lambda m: (names(block(m).named_buffers()), len(list(block(m).buffers())))),
    case("named_buffers own", lambda m: names(block(m).inner.named_buffers(prefix="a", recurse=False))),
    case("named_modules", lambda m: names(block(m).named_modules())),
    case("named_modules prefix", lambda m: names(block(m).named_modules(prefix="p", remove_duplicate=False))),
    case("named_modules memo", lambda m: (lambda net: names(net.named_modules(memo={net.inner})))(block(m))),
    case("named_children", lambda m: (names(block(m).named_children()), kinds(block(m).children()))),
    case("modules", lambda m: kinds(block(m).modules())),
    case("tied weights once", lambda m: (len(list(tied(m).parameters())), list(tied(m).state_dict()))),
    case("tied weights gradient", lambda m, x: tied(m).to(x.dtype)(x), (4, 3)),
    case("tied weights gradients sum",
         lambda m, x: (lambda net: (net(x).sum().backward(), net[0].weight.grad, net[0].weight is net[1].weight))(
             tied(m).to(x.dtype))[1:], (4, 3)),
    case("get_submodule", lambda m: kinds([block(m).get_submodule("inner.fc"), block(m).get_submodule("")])),
    case("get_submodule none", lambda m: raised(lambda: block(m).get_submodule("inner.none"))),
    case("get_parameter none", lambda m: raised(lambda: block(m).get_parameter("offset"))),
    case("get_buffer none", lambda m: raised(lambda: block(m).get_buffer("scale"))),
    case("set_submodule strict", lambda m: raised(lambda: block(m).set_submodule("new", m.nn.ReLU(), strict=True))),
    case("add_module dotted name", lambda m: raised(lambda: block(m).add_module("a.b", m.nn.ReLU()))),
    case("add_module empty name", lambda m: raised(lambda: block(m).add_module("", m.nn.ReLU()))),
    case("add_module taken name", lambda m: raised(lambda: block(m).add_module("forward", m.nn.ReLU()))),
    case("attribute none", lambda m: raised(lambda: block(m).none)),
    case("get_parameter", lambda m: block(m).get_parameter("inner.fc.weight")),
    case("get_buffer", lambda m: block(m).get_buffer("offset")),
    case("set_submodule", lambda m: (lambda net: (
        net.set_submodule("inner.act", m.nn.Dropout()), kinds(net.modules())))(
        block(m))[1]),
    case("set_submodule new", lambda m: (lambda net: (net.set_submodule("inner.more", m.nn.Dropout()),
                                                      names(net.named_modules())))(block(m))[1]),
    case("set_submodule nameless", lambda m: block(m).set_submodule("", m.nn.ReLU())),
    case("set_submodule no module", lambda m: block(m).set_submodule("fc", 3)),
    case("add_module", lambda m: (lambda net: (net.add_module("more", m.nn.ReLU()),
                                               net.register_module("last", m.nn.ReLU()), names(net.named_children())))(
        block(m))[2]),
    case("add_module no module", lambda m: block(m).add_module("more", 3)),
    case("register_parameter", lambda m: (lambda net: (net.register_parameter("p", m.nn.Parameter(m.ones(1))),
                                                       names(net.named_parameters())))(block(m))[1]),
    case("register_parameter tensor", lambda m: block(m).register_parameter("p", m.ones(1))),
    case("register_parameter computed", lambda m: block(m).register_parameter("p", m.nn.Parameter(m.ones(1)) * 2)),
    case("register_buffer", lambda m: (lambda net: (net.register_buffer("b", m.ones(1)),
                                                    net.register_buffer("c", None),
                                                    list(net.state_dict())))(block(m))[2]),
    case("register_buffer number", lambda m: block(m).register_buffer("b", 1)),
    case("assign a parameter", lambda m: with_attribute(m, "new", m.nn.Parameter(m.ones(1)))),
    case("assign a tensor", lambda m: with_attribute(m, "new", m.ones(1))),
    case("assign a module", lambda m: with_attribute(m, "new", m.nn.ReLU())),
    case("assign over a module", lambda m: with_attribute(m, "fc", m.nn.Linear(3, 7))),
    case("assign None to a module", lambda m: with_attribute(m, "fc", None)),
    case("assign None to a parameter", lambda m: with_attribute(m, "scale", None)),
    case("assign None to a buffer", lambda m: with_attribute(m, "offset", None)),
    case("assign a buffer", lambda m: with_attribute(m, "offset", m.ones(3))),
    case("assign a parameter over a buffer", lambda m: with_attribute(m, "offset", m.nn.Parameter(m.ones(3)))),
    case("assign a module over a parameter", lambda m: with_attribute(m, "scale", m.nn.ReLU())),
    case("assign a parameter over a module", lambda m: with_attribute(m, "fc", m.nn.Parameter(m.ones(3)))),
    case("assign a tensor over a parameter", lambda m: with_attribute(m, "scale", m.ones(3))),
    case("assign a number over a module", lambda m: with_attribute(m, "fc", 3)),
    case("assign a number over a buffer", lambda m: with_attribute(m, "offset", 3)),
    case("assign a parameter over None", lambda m: with_attribute(m, "absent", m.nn.Parameter(m.ones(3)))),
    case("assign a module over an attribute", lambda m: with_attribute(m, "nothing", m.nn.ReLU())),
    case("del a module", lambda m: without_attribute(m, "fc")),
    case("del a parameter", lambda m: without_attribute(m, "scale")),
    case("del a buffer", lambda m: without_attribute(m, "cache")),
    case("dir", lambda m: [name in dir(block(m)) for name in ("scale", "offset", "fc", "forward", "0")]),
    case("dir of Sequential", lambda m: [name in dir(three(m)) for name in ("0", "append")]),
    case("_get_name", lambda m: (block(m)._get_name(), m.nn.Linear(1, 1)._get_name())),
    case("repr of a block", lambda m: repr(block(m))),
    case("apply", lambda m: (lambda seen: (block(m).apply(lambda module: seen.append(type(module).__name__)), seen))(
        [])[1]),
    case("apply an initialiser", lambda m, x: block(m).apply(
        lambda module: m.nn.init.constant_(module.weight, 0.5) if isinstance(module, m.nn.Linear) else None
    ).to(x.dtype)(x), (2, 3)),
    case("replace the head", lambda m, x: (lambda net: (setattr(net, "fc", m.nn.Linear(3, 3)), run(m, net, x)))(
        block(m))[1], (4, 3)),
    case("freeze", lambda m: (lambda net: ([setattr(p, "requires_grad", False) for p in net.fc.parameters()],
                                           [p.requires_grad for p in net.parameters()]))(block(m))[1]),
]  # fmt: skip


# Modes, dtypes, gradients -------------------------------------------------------------------------------------------


def dtypes(module: Any) -> list[str]:
    return [str(tensor.dtype).removeprefix("torch.") for tensor in module.state_dict().values()]


def trained(m: Any, x: Any) -> Any:
    net = block(m).to(x.dtype)
    net(x.detach()).sum().backward()
    return net


MODES = [
    case("train and eval", lambda m: (lambda net: ([p.training for p in net.eval().modules()],
                                                   [p.training for p in net.train().modules()],
                                                   [p.training for p in net.train(False).modules()]))(block(m))),
    case("train of one's own", lambda m: [p.training for p in block(m, own_train=True).train().modules()]),
    case("train of a child's own", lambda m: [p.training for p in m.nn.Sequential(block(m, True)).train().modules()]),
    case("train number", lambda m: block(m).train(1)),
    case("requires_grad_", lambda m: [p.requires_grad for p in block(m).requires_grad_(False).parameters()]),
    case("zero_grad", lambda m, x: (lambda net: (net.zero_grad(), [p.grad is None for p in net.parameters()]))(
        trained(m, x))[1], (4, 3)),
    case("zero_grad zeros", lambda m, x: (lambda net: (net.zero_grad(set_to_none=False),
                                                       [p.grad for p in net.parameters()]))(trained(m, x))[1], (4, 3)),
    case("parameters' gradients", lambda m, x: [p.grad for p in trained(m, x).parameters()], (4, 3)),
    case("float", lambda m: dtypes(block(m).float())),
    case("double", lambda m: dtypes(block(m).double())),
    case("half", lambda m: dtypes(m.nn.BatchNorm2d(2).half())),
    case("bfloat16", lambda m: dtypes(m.nn.BatchNorm2d(2).bfloat16())),
    case("type", lambda m: dtypes(m.nn.BatchNorm2d(2).type(m.float64))),
    case("to dtype", lambda m: dtypes(m.nn.BatchNorm2d(2).to(m.float64))),
    case("to device and dtype", lambda m: dtypes(m.nn.BatchNorm2d(2).to("cpu", m.float16))),
    case("to by keyword", lambda m: dtypes(m.nn.BatchNorm2d(2).to(device="cpu", dtype=m.float64, non_blocking=True))),
    case("to a tensor", lambda m: dtypes(m.nn.BatchNorm2d(2).to(m.ones(1, dtype=m.float64)))),
    case("to integers", lambda m: m.nn.Linear(1, 1).to(m.int64)),
    case("to returns itself", lambda m: (lambda net: net.to("cpu") is net.cpu() is net)(block(m))),
    case("to keeps parameters", lambda m: (lambda net: [net.fc.weight is p for p in [net.fc.weight] if net.float()])(
        block(m))),
    case("to meta", lambda m: [str(p.device) for p in block(m).to("meta").parameters()]),
    case("to_empty", lambda m: [p.shape[0] for p in block(m).to("meta").to_empty(device="cpu").parameters()]),
    case("deepcopy", lambda m, x: copy.deepcopy(block(m)).to(x.dtype)(x), (4, 3)),
    case("deepcopy is another", lambda m: (lambda net: copy.deepcopy(net).fc.weight is net.fc.weight)(block(m))),
    case("deepcopy keeps ties", lambda m: (lambda net: net[0].weight is net[1].weight)(copy.deepcopy(tied(m)))),
    case("forward missing", lambda m: m.nn.Module()(1)),
    case("average of two models", lambda m, x: (lambda a, b: (
        [p.data.mul_(0.5).add_(q.data, alpha=0.5) for p, q in zip(a.parameters(), b.parameters(), strict=True)],
        a(x)))(block(m).to(x.dtype), tied_block(m, x))[1], (4, 3)),
]  # fmt: skip


def tied_block(m: Any, x: Any) -> Any:
    net = block(m).to(x.dtype)
    with m.no_grad():
        for parameter in net.parameters():
            parameter.mul_(3.0)
    return net


# State --------------------------------------------------------------------------------------------------------------


def loaded(m: Any, state: Any, **options: Any) -> Any:
    net = m.nn.Sequential(m.nn.Linear(3, 2), m.nn.BatchNorm1d(2))
    keys = net.load_state_dict(state, **options)
    return list(keys.missing_keys), list(keys.unexpected_keys), list(net.state_dict().values())


def state(m: Any, **changes: Any) -> Any:
    made = filled(m, m.nn.Sequential(m.nn.Linear(3, 2), m.nn.BatchNorm1d(2))).state_dict()
    return {**{key: value for key, value in made.items() if key not in changes}, **changes}


def without(m: Any, key: str) -> Any:
    made = state(m)
    del made[key]
    return made


def hooked_state(m: Any) -> Any:
    net = block(m)
    seen: list[str] = []
    net.fc.register_state_dict_pre_hook(lambda module, prefix, keep_vars: seen.append(f"before {prefix}"))
    handle = net.register_state_dict_post_hook(lambda module, found, prefix, meta: found.__delitem__(prefix + "scale"))
    first = list(net.state_dict(prefix="net."))
    handle.remove()
    return seen, first, list(net.state_dict())


def hooked_load(m: Any) -> Any:
    net = m.nn.Sequential(m.nn.Linear(2, 2, bias=False))
    seen: list[str] = []

    def rename(module: Any, found: Any, prefix: str, *rest: Any) -> None:
        seen.append(prefix)
        found[prefix + "weight"] = found.pop(prefix + "kernel")

    net[0].register_load_state_dict_pre_hook(rename)
    net.register_load_state_dict_post_hook(lambda module, keys: keys.unexpected_keys.clear())
    result = net.load_state_dict({"0.kernel": m.ones(2, 2), "other": m.ones(1)})
    return seen, list(result.unexpected_keys), net[0].weight


def extra_state(m: Any) -> Any:
    class Counting(m.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.count = 0

        def get_extra_state(self) -> Any:
            return {"count": self.count}

        def set_extra_state(self, found: Any) -> None:
            self.count = found["count"]

    first, second = m.nn.Sequential(Counting()), m.nn.Sequential(Counting())
    first[0].count = 3
    second.load_state_dict(first.state_dict())
    return list(first.state_dict()), second[0].count


STATES = [
    case("state_dict", lambda m: (list(block(m).state_dict()), list(block(m).state_dict().values()))),
    case("state_dict prefix", lambda m: list(block(m).state_dict(prefix="net."))),
    case("state_dict keep_vars", lambda m: [v.requires_grad for v in block(m).state_dict(keep_vars=True).values()]),
    case("state_dict destination", lambda m: (lambda found: (block(m).state_dict(destination=found), list(found)))(
        OrderedDict(a=1))[1]),
    case("load_state_dict", lambda m: loaded(m, state(m))),
    case("load_state_dict missing", lambda m: loaded(m, without(m, "0.bias"))),
    case("load_state_dict missing not strict", lambda m: loaded(m, without(m, "1.weight"), strict=False)[0]),
    case("load_state_dict unexpected", lambda m: loaded(m, state(m, other=m.ones(1)))),
    case("load_state_dict unexpected not strict", lambda m: loaded(m, state(m, other=m.ones(1)), strict=False)[1]),
    case("load_state_dict shape", lambda m: loaded(m, state(m, **{"0.bias": m.ones(3)}), strict=False)),
    case("load_state_dict casts", lambda m: loaded(m, state(m, **{"0.bias": m.ones(2, dtype=m.float64)}))[2]),
    case("load_state_dict of a list", lambda m: loaded(m, [1])),
    case("load_state_dict assign", lambda m: loaded(m, state(m), assign=True)[2]),
    case("load_state_dict assign keeps dtypes",
         lambda m: loaded(m, state(m, **{"0.bias": m.ones(2, dtype=m.float64)}), assign=True)[2]),
    case("load_state_dict assign to meta", lambda m: (lambda net: (net.load_state_dict(state(m), assign=True), [
        (p.requires_grad, str(p.device)) for p in net.parameters()]))(
        m.nn.Sequential(m.nn.Linear(3, 2), m.nn.BatchNorm1d(2)).to("meta"))[1]),
    case("load_state_dict message", lambda m: str(block(m).load_state_dict(block(m).state_dict()))),
    case("load_state_dict of tied", lambda m: (lambda net: (net.load_state_dict(tied(m).state_dict()),
                                                            net[0].weight is net[1].weight))(tied(m))[1]),
    case("load what fits", lambda m: (lambda net: (
        net.load_state_dict({**net.state_dict(), **{key: value * 2 for key, value in net.state_dict().items()
                                                    if key.startswith("fc")}}), net.state_dict()["fc.bias"]))(
        block(m))[1]),
    case("strip module.", lambda m: str(tied(m).load_state_dict({
        key.replace("module.", ""): value for key, value in tied(m).state_dict(prefix="module.").items()}))),
    case("state_dict hooks", hooked_state),
    case("load_state_dict hooks", hooked_load),
    case("extra state", extra_state),
    case("state_dict is live", lambda m: (lambda net: (net.state_dict()["scale"].zero_(), net.scale))(block(m))[1]),
]  # fmt: skip


# Hooks --------------------------------------------------------------------------------------------------------------


def hooked(m: Any, x: Any, register: Any) -> Any:
    """A linear layer with hooks, run forward and backward: what the hooks saw, and the gradients."""
    layer = filled(m, m.nn.Linear(3, 2).to(x.dtype))
    seen: list[Any] = []
    handles = register(layer, seen)
    out = layer(x)
    (out * out).sum().backward()
    for handle in handles if isinstance(handles, tuple) else (handles,):
        handle.remove()
    count = len(seen)
    layer(x.detach()).sum().backward()
    return out.detach(), seen, len(seen) == count, x.grad.clone(), layer.weight.grad


def several(m: Any, x: Any, y: Any) -> Any:
    """A module of two inputs and two outputs with a backward hook."""

    class Two(m.nn.Module):
        def forward(self, a: Any, b: Any, c: Any) -> Any:
            return a * b, b * 2

    seen: list[Any] = []
    two = Two()
    two.register_full_backward_hook(lambda module, gi, go: seen.extend([*gi, *go]))
    first, second = two(x, y, "text")
    (first.sum() + (second * second).sum()).backward()
    return seen


def unused(m: Any, x: Any, y: Any) -> Any:
    """The hooks of a module of two outputs, of which the loss takes one."""

    class Two(m.nn.Module):
        def forward(self, a: Any, b: Any) -> Any:
            return a * 2, b * 3

    seen: list[Any] = []
    two = Two()
    two.register_full_backward_pre_hook(lambda module, go: seen.extend(go))
    two.register_full_backward_hook(lambda module, gi, go: seen.extend([*gi, *go]))
    two(x, y)[1].sum().backward()
    return [one is None for one in seen], [one for one in seen if one is not None], x.grad, y.grad


HOOKS = [
    case("forward hook", lambda m, x: hooked(m, x, lambda layer, seen: layer.register_forward_hook(
        lambda module, args, out: seen.append((len(args), out.detach())))), (4, 3)),
    case("forward hook replaces", lambda m, x: hooked(m, x, lambda layer, seen: layer.register_forward_hook(
        lambda module, args, out: out * 2)), (4, 3)),
    case("forward hook prepended", lambda m, x: hooked(m, x, lambda layer, seen: (
        layer.register_forward_hook(lambda *_: seen.append(1)),
        layer.register_forward_hook(lambda *_: seen.append(2), prepend=True))), (4, 3)),
    case("forward hook with kwargs", lambda m, x: hooked(m, x, lambda layer, seen: layer.register_forward_hook(
        lambda module, args, kwargs, out: seen.append((len(args), len(kwargs))), with_kwargs=True)), (4, 3)),
    case("forward pre-hook", lambda m, x: hooked(m, x, lambda layer, seen: layer.register_forward_pre_hook(
        lambda module, args: seen.append(args[0].detach()))), (4, 3)),
    case("forward pre-hook replaces", lambda m, x: hooked(m, x, lambda layer, seen: layer.register_forward_pre_hook(
        lambda module, args: args[0] * 3)), (4, 3)),
    case("forward pre-hook with kwargs", lambda m, x: hooked(m, x, lambda layer, seen: layer.register_forward_pre_hook(
        lambda module, args, kwargs: ((args[0] * 3,), kwargs), with_kwargs=True)), (4, 3)),
    case("forward pre-hook with kwargs, bad", lambda m, x: hooked(
        m, x, lambda layer, seen: layer.register_forward_pre_hook(
            lambda module, args, kwargs: args[0], with_kwargs=True)), (4, 3)),
    case("backward hook", lambda m, x: hooked(m, x, lambda layer, seen: layer.register_full_backward_hook(
        lambda module, grad_in, grad_out: seen.extend([*grad_in, *grad_out]))), (4, 3)),
    case("backward hook replaces", lambda m, x: hooked(m, x, lambda layer, seen: layer.register_full_backward_hook(
        lambda module, grad_in, grad_out: (grad_in[0] * 2,))), (4, 3)),
    case("backward hook, wrong number", lambda m, x: hooked(m, x, lambda layer, seen: layer.register_full_backward_hook(
        lambda module, grad_in, grad_out: (grad_in[0], None))), (4, 3)),
    case("backward pre-hook", lambda m, x: hooked(m, x, lambda layer, seen: layer.register_full_backward_pre_hook(
        lambda module, grad_out: (grad_out[0] * 2,))), (4, 3)),
    case("backward hooks in order", lambda m, x: hooked(m, x, lambda layer, seen: (
        layer.register_full_backward_hook(lambda *_: seen.append(1)),
        layer.register_full_backward_hook(lambda *_: seen.append(2), prepend=True),
        layer.register_full_backward_pre_hook(lambda *_: seen.append(3)))), (4, 3)),
    case("backward hook without input gradient", lambda m, x: hooked(
        m, x, lambda layer, seen: layer.register_full_backward_hook(
            lambda module, grad_in, grad_out: seen.append(len(grad_in)))), (4, 3)),
    case("backward hook of several", several, (2, 3), (2, 3)),
    case("backward hook with an output that is not used", unused, (2, 3), (2, 3)),
    case("hooks of a whole model", lambda m, x: (lambda net, shapes: (
        [layer.register_forward_hook(lambda module, args, out: shapes.append((type(module).__name__, out.dim())))
         for layer in net.modules()], net(x), shapes))(three(m).to(x.dtype), [])[2], (4, 3)),
    case("hook as a context", lambda m, x: (lambda layer, seen: (
        layer.register_forward_hook(lambda *_: seen.append(1)).__enter__(), layer(x), seen))(
        m.nn.ReLU(), [])[2], (2,)),
]  # fmt: skip


@pytest.mark.parametrize("checked", [*SEQUENCES, *DICTS, *WALKS, *MODES, *STATES, *HOOKS], ids=repr)
def test_parity(checked: Case) -> None:
    """Every case, in both libraries."""
    check_case(checked)


RAISING = {
    "Sequential insert too far", "Sequential pop too far", "Sequential set beyond", "Sequential times nothing",
    "Sequential index str", "Sequential no module", "ModuleList beyond", "ModuleList called", "ModuleList of one",
    "ModuleDict no module", "ModuleDict bad pairs", "ModuleDict of a number", "ModuleDict called",
    "ParameterList beyond", "ParameterList of a tensor", "ParameterList called", "ParameterDict integer key",
    "ParameterDict of a number", "ParameterDict called", "set_submodule nameless", "set_submodule no module",
    "add_module no module", "register_parameter tensor", "register_parameter computed", "register_buffer number",
    "assign a module over a parameter", "assign a tensor over a parameter", "assign a number over a module",
    "assign a number over a buffer", "train number", "to integers", "forward missing", "load_state_dict missing",
    "load_state_dict unexpected", "load_state_dict shape", "load_state_dict of a list",
    "forward pre-hook with kwargs, bad", "backward hook, wrong number",
}  # fmt: skip


def test_no_case_raises_by_accident() -> None:
    """A mistake in a case's line would raise in both libraries, and prove nothing."""
    cases = [*SEQUENCES, *DICTS, *WALKS, *MODES, *STATES, *HOOKS]
    arrays = {one.label: [np.ones(shape) for shape in one.inputs] for one in cases}
    found = {one.label for one in cases if attempt(gn, one.run, arrays[one.label]).error is not None}
    assert found == RAISING
